"""A method's contract (`am.method`), tried by a few steps on a tiny network before anything is trained with it.

What is wrong with a method's file is then told at once and in a sentence, not by a run that fails minutes later. It
takes some milliseconds, and looks at the form alone: what a method must do, the tests ask.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from am.activations import Activation
from am.batches import Batches
from am.errors import InputError
from am.method import Method, Problem, stack
from am.networks import Parameters, initialise

RUNS, ROWS, BATCH = 2, 12, 4
INPUTS, UNITS, CLASSES = 5, 4, 3
STEPS = 3  # the first alone may do no more than look at the data
_SOUND: set[tuple] = set()  # methods with their choices


def tried(method: Method, settings: Any, act: Activation, depth: int) -> None:
    """Raises InputError where the method does not keep its contract in a network of so many layers.

    Only settings that shape the program count, and each choice of them is tried once, in the first network that is
    asked for; floats are at their defaults, which are known to move something.
    """
    shaping = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if type(f.default) is not float}
    choice = method, *shaping.values()
    if choice in _SOUND:
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on so few numbers the others are only waited for, long where a machine is busy
    try:
        _try(method, shaping, act, depth)
    finally:
        torch.set_num_threads(threads)
    _SOUND.add(choice)


def _try(method: Method, shaping: dict[str, Any], act: Activation, depth: int) -> None:
    widths = (INPUTS, *[UNITS] * (depth - 1), CLASSES)
    settings, seeds = method.settings(shaping), range(RUNS)
    x = torch.rand(ROWS, INPUTS, generator=torch.Generator().manual_seed(0))
    y = torch.arange(ROWS) % CLASSES
    batches = None if method.full_batch else Batches(x, y, seeds=seeds, batch_size=BATCH)
    problem, hp = Problem(x, y, act, batches, STEPS), stack([settings] * RUNS, x)
    given = initialise(widths, seeds, "normal(0.5)", x.dtype)
    state = _called(method, "init", method.init, problem, given.clone(), hp)
    start = [t.clone() for t in _parameters(method, state, given)]
    for k in range(STEPS):
        returned = _called(method, "step", method.step, state, problem, hp, k)
        if returned is not None:
            _refuse(method, f"its step returned {_kind(returned)}; it must change the state and return nothing.")
        now = _parameters(method, state, given)
    if all(map(torch.equal, start, now)):
        _refuse(method, "its step moved no parameter; it must change those of the state, or put others there.")
    _try_cost(method, state, settings, widths)
    _try_by_hand(method, state, problem, hp)


def _try_cost(method: Method, state: Any, settings: Any, widths: Sequence[int]) -> None:
    cost, depth = method.cost, len(widths) - 1
    asked: dict[str, tuple] = dict(updates=(depth, settings), gradients=(depth, settings))
    if cost.flops is None:
        spent = getattr(state, "flops", None)
        if not (isinstance(spent, Tensor) and spent.shape == (RUNS,) and spent.dtype == torch.int64):
            _refuse(method, "it says no FLOPs; give it cost=Cost(flops=...), or count in state.flops, (R,) int64.")
    else:
        asked["flops"] = (widths, ROWS if method.full_batch else BATCH, settings)
    for name, arguments in asked.items():
        value = _called(method, f"Cost.{name}", getattr(cost, name), *arguments)
        if not isinstance(value, int):
            _refuse(method, f"its Cost.{name} returned {_kind(value)}; it must return a whole number.")


def _try_by_hand(method: Method, state: Any, problem: Problem, hp: Any) -> None:
    shown = _called(method, "ByHand.variables", method.by_hand.variables, state)
    if method.by_hand.objective:
        shown |= {"objective": _called(method, "ByHand.objective", method.by_hand.objective, state, problem, hp)}
    for name, value in shown.items():
        if not (isinstance(value, Tensor) and value.dim() and len(value) == RUNS):
            _refuse(method, f"its {name} must be a tensor with the run axis first, (R, ...), and is {_kind(value)}.")


def _parameters(method: Method, state: Any, given: Parameters) -> list[Tensor]:
    """W1 .. WL, b1 .. bL of the state, which must be like those that were given."""
    try:
        params = method.parameters(state)
    except AttributeError:
        params = None
    if not isinstance(params, Parameters):
        _refuse(method, f"its init returned {_kind(state)}; it must return a state with `params`, am's Parameters.")
    for kind, found, wanted in (("W", params.W, given.W), ("b", params.b, given.b)):
        if len(found) != len(wanted):
            _refuse(method, f"its parameters have {len(found)} {kind}; the network has {len(wanted)} layers.")
        for l, (t, like) in enumerate(zip(found, wanted), 1):
            if t.shape != like.shape or t.dtype != like.dtype:
                _refuse(method, f"its {kind}{l} must be {_kind(like)}, as it was given, and is {_kind(t)}.")
    return [*params.W, *params.b]


def _kind(value: Any) -> str:
    """A value in words: a tensor by shape and dtype, anything else by its type."""
    if isinstance(value, Tensor):
        return f"{(*value.shape,)} of {value.dtype}".replace("torch.", "")
    return "None" if value is None else f"a {type(value).__name__}"


def _called(method: Method, what: str, function: Callable, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # whatever the code of others does
        said = " ".join(str(error).split()).rstrip(".")
        problem = f"its {what} raised {type(error).__name__}: {said}."
        raise InputError(f"{_place(method)}: method '{method.name}': {problem}") from error


def _refuse(method: Method, problem: str) -> NoReturn:
    raise InputError(f"{_place(method)}: method '{method.name}': {problem}")


def _place(method: Method) -> str:
    """The file of the method: that of its settings."""
    return f"{method.hyperparameters.__module__.replace('.', '/')}.py"
