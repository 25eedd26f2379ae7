"""What a method is: the problem that it is given, its settings with their search spaces, and its functions.

A `Method` says how it trains, its `Cost` what a step costs, and `ByHand`, where it has more than W and b, what else it
shows and how it is driven by hand.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.activations import Activation
from am.batches import Batches
from am.errors import InputError, unknown
from am.networks import Parameters

FAMILIES = ("gradient", "stochastic AM", "full-batch AM")
ROLES = ("", "step size", "shape", "inertia")
MOST_WHOLE = 1_000_000  # of a setting that is a whole number and has no smaller bound of its own
BELOW_ONE = 1 - 1e-9  # the highest decay or momentum: at 1 a mean never moves


@dataclass(frozen=True)
class Log:
    """Search `low .. high` uniformly in the logarithm."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """The value at u in [0, 1]."""
        return math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))


@dataclass(frozen=True)
class Linear:
    """Search `low .. high` uniformly."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """The value at u in [0, 1]."""
        return self.low + u * (self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """Search among the values."""

    values: tuple

    def at(self, u: float) -> Any:
        """The value at u in [0, 1]."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


def setting(
    default: Any,
    doc: str,
    search: Log | Linear | Choice | None = None,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence | None = None,
    role: str = "",
    per_rows: bool = False,
    beside: str = "",
) -> Any:
    """A hyper-parameter: the paper's default, what it is, its search space (None: not tuned) and its valid range.

    float fields may differ between stacked runs; int, str and bool fields shape the program and are equal in a stack.
    role: what tables and figures may ask for by meaning, one of ROLES.
    per_rows: it stands against a sum over training rows, so that its value belongs to a number of rows (SPEC 8).
    beside: another setting that the method's authors mean by the same name; by hand the two are given together.
    """
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    if type(default) is int and high == math.inf:
        high = MOST_WHOLE
    known = dict(doc=doc, search=search, low=low, high=high, choices=choices, role=role)
    return field(default=default, metadata=known | dict(per_rows=per_rows, beside=beside))


@dataclass(frozen=True)
class Problem:
    """What a method is given: training data, the network's activation and, for mini-batch methods, the batches.

    steps: how many steps the run will make, for methods that plan ahead (schedules); None where nobody said.
    """

    x: Tensor  # (N, d0), shared by all runs
    y: Tensor  # (N,) int64
    activation: Activation
    batches: Batches | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Cost:
    """What a step costs, for the counts of a run.

    flops(widths, rows, settings) -> FLOPs of the matrix products of one step of one run on `rows` rows (a multiply-add
    is two), from the second step on; None where a step's cost depends on its numbers: then the state counts, in
    `state.flops`, (R,) int64, what every run has cost since its start as if it ran alone.
    updates, gradients(depth, settings) -> block updates of parameters, and gradients evaluated, in one step of a
    network of that depth.
    """

    flops: Callable[[Sequence[int], int, Any], int] | None = None
    updates: Callable[[int, Any], int] = lambda depth, settings: depth
    gradients: Callable[[int, Any], int] = lambda depth, settings: 1


@dataclass(frozen=True)
class ByHand:
    """What a method shows beyond W and b, and how it is driven by hand (`am.run`). A method may have none of it.

    objective(state, problem, hp) -> (R,) float64, the function that an AM method minimises; training records it.
    variables(state) -> named tensors with a leading run axis, beyond W and b: the state's own, so that they can be set
    in place. Of z1, a1, ... training records how far they are from a network.
    refresh(state, problem, hp, names) is called when variables were set: it makes anew what the state keeps of them
    (products, a forward pass) and lets those named start without a past (no inertia from their jump).
    blocks(hp, depth) -> names of the blocks in the order in which a step visits them, a block twice where it is
    visited twice; a block is named by the variables that it moves, joined by "+": "z2", "W1+b1". Empty where no block
    can be stepped alone. step_block(state, problem, hp, k, name) moves that block alone, as step k would move it, from
    the variables as they stand; all blocks in turn are a step, but for what a step does between blocks.
    still(settings, depth) -> the layers, 1 .. depth, whose bias never moves.
    """

    objective: Callable[[Any, Problem, SimpleNamespace], Tensor] | None = None
    variables: Callable[[Any], dict[str, Tensor]] = lambda state: {}
    refresh: Callable[[Any, Problem, SimpleNamespace, Sequence[str]], None] = lambda state, problem, hp, names: None
    blocks: Callable[[SimpleNamespace, int], list[str]] = lambda hp, depth: []
    step_block: Callable[[Any, Problem, SimpleNamespace, int, str], None] | None = None
    still: Callable[[Any, int], set[int]] = lambda settings, depth: set()


@dataclass(frozen=True)
class Method:
    """One training method on the run axis: how it trains. What it costs and what it shows are `cost` and `by_hand`.

    init(problem, params, hp) -> state; step(state, problem, hp, k) makes step k = 0, 1, ... of all runs in place;
    parameters(state) -> Parameters, by default the state's `params`. `hp` is what `stack` makes of the settings.
    title: in tables and figures, by default the name.
    full_batch: one step is a pass over all data; otherwise step k uses `problem.batches(k)`, at the most the next one
    too.
    asks: a step may wait for the device, by `am.linalg.ask`, to decide how it goes on. A step that never asks takes k
    as a 0-d float64 tensor as well, so that it can be a CUDA graph (`am.graphs`). Mini-batch methods never ask.
    monotone_only: whether it needs an activation that is monotone.
    requires(settings, activation, widths) -> what keeps the method from training this network, or None.
    has_graph: whether a mini-batch step makes the same operations at every k, as a CUDA graph must.
    well_posed: whether rounding stays rounding; False where a step's numbers hang on a choice that rounding makes, so
    that another device, or sums in another order, give another run of the same method.
    """

    name: str
    hyperparameters: type
    init: Callable[[Problem, Parameters, SimpleNamespace], Any]
    step: Callable[[Any, Problem, SimpleNamespace, int], None]
    cost: Cost = Cost()
    by_hand: ByHand = ByHand()
    title: str = ""
    family: str = "gradient"  # one of FAMILIES
    parameters: Callable[[Any], Parameters] = lambda state: state.params
    full_batch: bool = False
    asks: bool = False
    monotone_only: bool = False
    requires: Callable[[Any, Activation, Sequence[int]], str | None] = lambda settings, act, widths: None
    has_graph: bool = True
    well_posed: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.name)

    def settings(self, values: dict[str, Any] | None = None, where: str = "") -> Any:
        """The hyper-parameter dataclass with `values` over the defaults; raises InputError for a bad key or value."""
        where = where or self.name
        fields = {f.name: f for f in dataclasses.fields(self.hyperparameters)}
        checked = {}
        for key, value in (values or {}).items():
            if key not in fields:
                raise unknown("hyper-parameter", key, fields, where)
            checked[key] = _checked(f"{where}: {key}", value, fields[key])
        return self.hyperparameters(**checked)

    def scaled(self, settings: Any, share: float) -> Any:
        """The settings that pose, on that share of the training rows, the problem of all rows (SPEC 8).

        Those declared `per_rows` are multiplied by the share, which may be above 1; the others stay.
        """
        marked = [f.name for f in dataclasses.fields(settings) if f.metadata["per_rows"]]
        return dataclasses.replace(settings, **{name: share * getattr(settings, name) for name in marked})

    @property
    def depends_on_rows(self) -> bool:
        """Whether any setting stands against a sum over rows."""
        return any(f.metadata["per_rows"] for f in dataclasses.fields(self.hyperparameters))

    def search_space(self) -> dict[str, Log | Linear | Choice]:
        """The tuned hyper-parameters and their ranges, the same for every data set."""
        fields = dataclasses.fields(self.hyperparameters)
        return {f.name: f.metadata["search"] for f in fields if f.metadata["search"] is not None}

    def with_role(self, role: str) -> list[str]:
        """The settings that declare the role."""
        return [f.name for f in dataclasses.fields(self.hyperparameters) if f.metadata["role"] == role]

    def check(self, settings: Any, act: Activation, widths: Sequence[int]) -> None:
        """Raises InputError where the method cannot train this network."""
        if self.monotone_only and not act.monotone:
            raise InputError(
                f"method '{self.name}' needs a monotone activation and '{act.name}' is not; "
                "use a gradient method or samt, or another activation, for example relu."
            )
        if problem := self.requires(settings, act, widths):
            raise InputError(f"method '{self.name}': {problem}")


def needs_hidden_layer(settings: Any, act: Activation, widths: Sequence[int]) -> str | None:
    """`requires` of the AM methods: without a hidden layer there is nothing to alternate over."""
    return None if len(widths) > 2 else "needs at least one hidden layer."


def _checked(where: str, value: Any, f: dataclasses.Field) -> Any:
    kind = type(f.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"{where} must be {kind.__name__}, not {value!r}.")
    meta = f.metadata
    if meta["choices"] and value not in meta["choices"]:
        raise unknown("value", str(value), map(str, meta["choices"]), where)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} must be a finite number, not {value!r}.")
    if kind in (int, float) and not meta["low"] <= value <= meta["high"]:
        raise InputError(f"{where} must lie in [{meta['low']}, {meta['high']}], not {value!r}.")
    return value


def stack(settings: Sequence[Any], like: Tensor) -> SimpleNamespace:
    """The settings of R runs as one namespace `hp`: floats as (R, 1, 1) tensors, the rest equal in all runs.

    The tensors have the device and the dtype of the data `like`; `hp.exact` holds the same in float64, for what would
    lose digits, and `hp.each` the runs' settings as they came, for what is decided without asking the device.
    """
    hp, exact = SimpleNamespace(each=tuple(settings)), SimpleNamespace()
    for f in dataclasses.fields(settings[0]):
        values = [getattr(s, f.name) for s in settings]
        if isinstance(values[0], float):
            column = torch.tensor(values, dtype=torch.float64).view(-1, 1, 1).to(like.device)
            setattr(exact, f.name, column)
            setattr(hp, f.name, column.to(like.dtype))
        elif len(set(values)) > 1:
            raise InputError(f"runs that differ in '{f.name}' ({set(values)}) cannot share a stack.")
        else:
            setattr(exact, f.name, values[0])
            setattr(hp, f.name, values[0])
    hp.exact = exact
    return hp
