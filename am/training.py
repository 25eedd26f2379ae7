"""The one training loop: step, count, evaluate, record. Methods see training data; metrics are computed here alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from am import devices
from am.activations import Activation, activation
from am.batches import Batches
from am.counters import Clocks, device_name
from am.data import Data
from am.evaluation import evaluate
from am.graphs import EAGER_STEPS, captured
from am.method import Method, Problem, stack
from am.networks import Parameters, initialise

WARM_ITERATIONS, WARM_BATCHES = 2, 20  # steps of a timed run's rehearsal, besides its first two


@dataclass(frozen=True)
class Budget:
    """How long to train and how often to look. A full-batch iteration is one epoch.

    epochs: passes over the training data.  batch_size: rows of a mini-batch.
    evaluate_every: epochs between evaluations; a fraction for mini-batch methods.
    read_test: whether the test set is looked at; trials of a tuning do not.
    gradient_norm: whether evaluations take the norm of the training loss's gradient.
    alone: whether this is a timing of one run that has the device to itself: steps of a throw-away copy come first, so
    that nothing is counted or loaded under the clock, and evaluations carry the seconds of training so far.
    """

    epochs: int
    batch_size: int
    evaluate_every: float
    read_test: bool = True
    gradient_norm: bool = False
    alone: bool = False


@dataclass
class Result:
    """One finished run. `curve` has one entry per evaluation, the first before training; a diverged run's ends before.

    status: "done" or "diverged" (NaN or Inf in a parameter, first seen after iteration `diverged_at`).
    `train_seconds` and its like are the stack's, divided by its `stack_runs` runs: what the run cost, not how fast the
    method is. `seconds` are those of training a run alone, None unless `Budget.alone`.
    """

    status: str
    diverged_at: int | None
    iterations: int
    epochs: float
    parameter_updates: int
    gradient_evaluations: int
    flops: int
    train_seconds: float
    evaluate_seconds: float
    record_seconds: float
    stack_runs: int
    device: str
    seconds: float | None = None
    curve: list[dict[str, float]] = field(default_factory=list)


def train(
    method: Method,
    settings: Sequence[Any],
    seeds: Sequence[int],
    data: Data,
    *,
    hidden: Sequence[int],
    activation_name: str,
    init: str,
    budget: Budget,
    progress: Callable[[float], None] = lambda share: None,
    graphs: bool = False,
) -> list[Result]:
    """Train R = len(seeds) runs of one method together; where memory runs out, in halves.

    settings: one hyper-parameter dataclass per run, equal in all that is not a float.
    graphs: whether a GPU replays steps as a CUDA graph. A method whose steps ask the device, or differ in what they do,
    has none and stays as it is.
    """
    graphs = graphs and method.has_graph and not method.asks
    shared: dict[str, Any] = dict(
        hidden=hidden, activation_name=activation_name, init=init, budget=budget, graphs=graphs
    )
    try:
        return _train_stack(method, settings, seeds, data, progress=progress, **shared)
    except RuntimeError as error:
        if len(seeds) == 1 or not _out_of_memory(error):
            raise
    # Outside the handler: the traceback would keep the failed stack's tensors alive.
    if devices.on_gpu(data.x):
        torch.cuda.empty_cache()

    def half(runs: slice) -> list[Result]:
        before, size = runs.start or 0, len(seeds[runs])
        told = lambda share: progress((before + share * size) / len(seeds))
        return train(method, settings[runs], seeds[runs], data, progress=told, **shared)

    middle = len(seeds) // 2
    return half(slice(0, middle)) + half(slice(middle, None))


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _train_stack(
    method: Method,
    settings: Sequence[Any],
    seeds: Sequence[int],
    data: Data,
    *,
    hidden: Sequence[int],
    activation_name: str,
    init: str,
    budget: Budget,
    progress: Callable[[float], None],
    graphs: bool,
) -> list[Result]:
    device, act, R = data.x.device, activation(activation_name), len(seeds)
    clocks = Clocks(device)
    widths = (data.x.shape[1], *hidden, data.classes)
    with clocks.on("record"):
        params, hp = initialise(widths, seeds, init, data.x.dtype, device), stack(settings, data.x)
        if budget.alone:
            _rehearse(method, _problem(method, data, act, seeds, budget), params.clone(), hp)
    with clocks.on("train"):
        problem = _problem(method, data, act, seeds, budget)
        state = method.init(problem, params, hp)
    per_epoch = 1 if method.full_batch else problem.batches.per_epoch
    total, every = problem.steps, max(1, round(budget.evaluate_every * per_epoch))
    rows = len(data.x) if method.full_batch else budget.batch_size
    step_flops = method.flops(widths, rows, settings[0]) if method.flops else None
    alive = torch.ones(R, dtype=torch.bool, device=device)
    survived = torch.zeros(R, dtype=torch.int64, device=device)
    spent = torch.zeros(R, dtype=torch.int64, device=device)
    curve, at, seconds = [], [], []

    def evaluate_now(k: int) -> None:
        with clocks.on("evaluate"):
            point = evaluate(method, state, problem, hp, data, budget.read_test, budget.gradient_norm)
            made = torch.where(alive, survived, survived + 1)
            curve.append(point | dict(flops=spent.clone() if step_flops is None else step_flops * made))
            at.append(k)
            seconds.append(clocks.seconds["train"])

    def one_step(k: Any, problem: Problem = problem) -> None:
        method.step(state, problem, hp, k)
        if step_flops is None:  # the step in which a run diverges is the last that it is charged for
            spent.copy_(torch.where(alive, state.flops, spent))
        alive.logical_and_(method.parameters(state).finite())
        survived.add_(alive)

    evaluate_now(0)
    advance: Callable[[Any], None] = one_step
    k = 0
    while k < total:
        with clocks.on("train"):
            stop = min(k + every - k % every, total)
            while k < stop:
                if graphs and k == EAGER_STEPS:
                    advance = captured(one_step, state, problem)
                advance(k)
                k += 1
        evaluate_now(k)
        progress(k / total)
        with clocks.on("record"):
            if not bool(alive.any()):
                break
    with clocks.on("record"):
        columns = {name: torch.stack([point[name] for point in curve]).cpu() for name in curve[0]}  # (evaluations, R)
        steps, flops = survived.tolist(), curve[-1]["flops"].tolist()
    depth = len(widths) - 1
    updates, gradients = method.updates(depth, settings[0]), method.gradients(depth, settings[0])
    counts = [
        dict(
            iteration=k,
            epoch=k / per_epoch,
            parameter_updates=k * updates,
            gradient_evaluations=k * gradients,
            **({"seconds": s} if budget.alone else {}),
        )
        for k, s in zip(at, seconds)
    ]
    results = []
    for r in range(R):
        diverged_at = steps[r] + 1 if steps[r] < k else None
        seen = [i for i, c in enumerate(counts) if c["iteration"] <= steps[r]]
        points = [counts[i] | {name: values[i, r].item() for name, values in columns.items()} for i in seen]
        ran = diverged_at or k
        results.append(
            Result(
                status="diverged" if diverged_at else "done",
                diverged_at=diverged_at,
                iterations=ran,
                epochs=ran / per_epoch,
                parameter_updates=ran * updates,
                gradient_evaluations=ran * gradients,
                flops=flops[r],
                train_seconds=clocks.seconds["train"] / R,
                evaluate_seconds=clocks.seconds["evaluate"] / R,
                record_seconds=clocks.seconds["record"] / R,
                stack_runs=R,
                device=device_name(device, budget.alone) + (", CUDA graphs" if graphs else ""),
                seconds=clocks.seconds["train"] if budget.alone else None,
                curve=points,
            )
        )
    return results


def _problem(method: Method, data: Data, act: Activation, seeds: Sequence[int], budget: Budget) -> Problem:
    """The training data as the method walks them, and how many steps it will make."""
    if method.full_batch:
        return Problem(data.x, data.y, act, steps=budget.epochs)
    batches = Batches(data.x, data.y, seeds=seeds, batch_size=budget.batch_size)
    return Problem(data.x, data.y, act, batches, steps=budget.epochs * batches.per_epoch)


def _rehearse(method: Method, problem: Problem, params: Parameters, hp: SimpleNamespace) -> None:
    """Steps of a throw-away state, which pay for what only first steps cost."""
    state = method.init(problem, params, hp)
    for k in range(2 + (WARM_ITERATIONS if method.full_batch else WARM_BATCHES)):
        method.step(state, problem, hp, k)
