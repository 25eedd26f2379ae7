"""Every method, with every value of the settings that shape its program: five steps on a tiny problem.

A case says, of each of three stacked runs, how far each W and b is from its start and what the objective is after the
first step (W1@1) and after the last (W1@5), how large the method's other variables are after the last, and what the
steps count. Of a run alone (W1@5 alone) it says what is after the last.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from am.activations import activation
from am.batches import Batches
from am.method import Method, Problem, stack
from am.methods import method, methods
from am.networks import initialise
from am.run import Run
from reproduce.evidence.cases.case import Case, Values

ROWS, BATCH, STEPS = 24, 8, 5
SHOWN = (1, STEPS)  # steps after which the variables are taken
WIDTHS = (6, 8, 7, 3)
SHARES = (1.0, 0.8, 0.6)  # of the floats in the three runs of a stack
SEED = 11  # of the data, and of what is added to variables
ADDED = 0.05  # standard deviation of that

# SOAP's bases are arbitrary where the means of g g^T have a null space of two dimensions or more: not in layers so
# narrow, with an activation that no unit is dead under.
NARROW = (4, 3, 3, 3)
# Of one dimension they have one, and rounding is divided by epsilon there.
ALWAYS: dict[str, dict[str, float]] = {"soap": dict(epsilon=1e-5)}

# Floats of the stacks of three, where on so small a problem a default moves next to nothing, or an exponent too much.
FLOATS: dict[str, dict[str, float]] = {
    "dladmm": dict(rho=1e-2),
    "dladmm-released": dict(rho=1e-2),
    "prodigy": dict(d_0=1e-2),
    "tiam": dict(rho=0.1, mu=0.02),
    "mdlam": dict(rho=0.1, mu=0.02),
    "mdlam-released": dict(rho=0.1, mu=0.02),
    "ipdlam": dict(rho=0.1, mu=0.02),
}

# Second values of whole numbers, which have no list of choices.
SECOND: dict[str, tuple[int, ...]] = dict(
    halve_every=(1,),
    code_steps=(2,),
    local_steps=(2,),
    inner_steps=(2,),
    interval=(2,),
    largest_side=(3,),
    images=(20,),
    frozen_bias=(0,),
    max_doublings=(1,),
    penalty_count=(1,),
)

# Pairs of changes, where a branch of the code depends on both.
TOGETHER: dict[str, tuple[dict[str, Any], ...]] = {
    "samt": (
        dict(inner_steps=2, query="support"),
        dict(order="backward", query="support"),
        dict(shape="element", meta="gd"),
    ),
    "sam": (dict(inner_steps=2, order="backward"),),
    "mdlam-released": (
        dict(inertia=True, counter_advances=True),
        dict(inertia=True, counter_advances=True, stale_guard=False),
        dict(max_doublings=1, start_clip=True),
    ),
    "dladmm": (dict(keep_step_sizes=True, rho_schedule=True),),
    "locoprop": (dict(loss="matching", local_steps=2),),
}


def cases() -> Iterator[Case]:
    """Of every method."""
    for name, chosen in methods().items():
        for changes, smooth in variants(chosen):
            words = [f"{key}={value}" for key, value in changes.items()] + ["elu"] * smooth
            values = functools.partial(_both, name, changes, smooth)
            yield Case(f"method:{name}", ", ".join(words) or "defaults", values, _uses(chosen, smooth))


def variants(chosen: Method) -> Iterator[tuple[dict[str, Any], bool]]:
    """Changes of settings, and whether the activation is smooth: the defaults, one change at a time, some together."""
    yield {}, False
    for f in dataclasses.fields(chosen.hyperparameters):
        if not isinstance(f.default, float):
            for value in _others(f):
                yield {f.name: value}, False
    yield from ((changes, False) for changes in TOGETHER.get(chosen.name, ()))
    if chosen.family != "gradient":
        yield {}, True


def _others(f: dataclasses.Field) -> Iterator[Any]:
    """The values of a setting that shapes the program, but for its default."""
    values = (not f.default,) if isinstance(f.default, bool) else f.metadata["choices"] or SECOND.get(f.name)
    if values is None:
        least = f.metadata["low"]
        values = [max(2, int(least) if least > 0 else 2)]
    yield from (value for value in values if value != f.default)


def settings_of(chosen: Method, changes: dict[str, Any], runs: int) -> list[Any]:
    """The defaults for a run alone; for a stack others, which differ in every float."""
    changes = ALWAYS.get(chosen.name, {}) | changes
    if runs == 1:
        return [chosen.settings(changes)]
    found = []
    for share in SHARES:
        floats = {
            f.name: max(f.metadata["low"], share * FLOATS.get(chosen.name, {}).get(f.name, f.default))
            for f in dataclasses.fields(chosen.hyperparameters)
            if isinstance(f.default, float)
        }
        found.append(chosen.settings(floats | changes))
    return found


def data(width: int) -> tuple[Tensor, Tensor]:  # (N, d0), (N,)
    """The tiny problem: every class eight times, and inputs that go along with it."""
    y = torch.arange(ROWS) % WIDTHS[-1]
    x = _drawn(ROWS, width) * 0.5 + 0.4 * torch.cos(torch.outer(y + 1.0, torch.arange(1.0, width + 1)).double())
    return x, y


def _drawn(*shape: int, seed: int = SEED) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def begun(chosen: Method, changes: dict[str, Any], smooth: bool, runs: int) -> Run:
    """The runs, ready to step.

    A full-batch alternation starts at a forward pass, whose residuals are zero, so that steps are judged by rounding;
    a little is added to its variables.
    """
    widths = NARROW if chosen.name == "soap" else WIDTHS
    x, y = data(widths[0])
    seeds = range(3, 3 + runs)
    params = initialise(widths, seeds, "normal(0.5)", x.dtype)
    batches = None if chosen.full_batch else Batches(x, y, seeds=seeds, batch_size=BATCH)
    problem = Problem(x, y, activation(_activation(chosen, smooth)), batches, STEPS)
    hp = stack(settings_of(chosen, changes, runs), x)
    run = Run(chosen, problem, hp, chosen.init(problem, params, hp), single=False)
    if chosen.family == "full-batch AM":
        kept = {name: u for name, u in run.variables().items() if u.is_floating_point() and name[0] not in "Wb"}
        moved = {name: u + ADDED * _drawn(*u.shape, seed=SEED + i) for i, (name, u) in enumerate(kept.items(), 1)}
        run.set_variables(**moved)
    return run


def _activation(chosen: Method, smooth: bool) -> str:
    return "elu" if smooth or chosen.name == "soap" else "relu"


def _uses(chosen: Method, smooth: bool) -> tuple[str, ...]:
    return (f"activation:{_activation(chosen, smooth)}", "init:normal", *(() if chosen.full_batch else ("batches",)))


def _both(name: str, changes: dict[str, Any], smooth: bool) -> Values:
    """Of three runs, and of one."""
    chosen = method(name)
    alone = _values(chosen, changes, smooth, 1)
    last = {key: value for key, value in alone.items() if key[0] in "Wbo" and key.endswith(f"@{STEPS}")}
    return _values(chosen, changes, smooth, len(SHARES)) | {f"{key} alone": value for key, value in last.items()}


def _values(chosen: Method, changes: dict[str, Any], smooth: bool, runs: int) -> Values:
    run = begun(chosen, changes, smooth, runs)
    start = run.variables()
    found: Values = {}
    for k in range(1, STEPS + 1):
        run.step()
        if k in SHOWN:
            for name, u in run.variables().items():
                if name[0] in "Wb":
                    found[f"{name}@{k}"] = size(u - start[name])
                elif k == STEPS:
                    found[f"{name}@{k}"] = size(u)
            if chosen.by_hand.objective:
                found[f"objective@{k}"] = run.objective()
    widths, depth = run.state.params.widths, len(run.state.params.W)
    own = run.hp.each[0]
    rows = ROWS if chosen.full_batch else BATCH
    flops = run.state.flops if chosen.cost.flops is None else chosen.cost.flops(widths, rows, own)
    counts = dict(flops=flops, updates=chosen.cost.updates(depth, own), gradients=chosen.cost.gradients(depth, own))
    return found | counts


def size(u: Tensor) -> Tensor:  # (R, ...) -> (R,)
    """A norm in which every entry weighs otherwise, so that it tells which one is large; counts are added up."""
    flat = u.reshape(len(u), -1)
    if not u.is_floating_point():
        return flat.sum(1)
    weights = 1 + 0.5 * torch.cos(torch.arange(flat.shape[1], dtype=torch.float64))
    return (flat.square() * weights).sum(1).sqrt()


def unknown_settings() -> set[str]:
    """The settings that stand in a table above and that no method has: of one that was renamed."""
    known = {f.name for chosen in methods().values() for f in dataclasses.fields(chosen.hyperparameters)}
    named = itertools.chain(SECOND, *FLOATS.values(), *(changes for some in TOGETHER.values() for changes in some))
    return set(named) - known
