"""The one training loop: step, count, evaluate, record. Methods see training data; metrics are computed here alone.

`loop` trains whatever is a `Trainable`: a stack of multilayer perceptrons (`train`), or a single network
(`am.modules.training`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor

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


class Trainable(Protocol):
    """R runs that have started and step together.

    per_epoch: steps of a pass over the training data.
    updates, gradients: block updates of parameters, and gradients evaluated, in one step of a run.
    """

    runs: int
    per_epoch: int
    updates: int
    gradients: int

    @property
    def flops(self) -> int | Tensor:
        """Of one step of a run; or, where a step's cost depends on its numbers, (R,) int64, since the start of each."""

    def step(self, k: int) -> None:
        """Step k = 0, 1, ... of all runs."""

    def finite(self) -> Tensor:  # (R,) bool
        """Whether all parameters of a run are finite."""

    def evaluate(self) -> dict[str, Tensor]:  # each (R,)
        """What is recorded of the runs as they stand."""


Replay = Callable[[int], None]  # step k of all runs


def loop(
    prepare: Callable[[], Callable[[], Trainable]],
    device: torch.device,
    budget: Budget,
    progress: Callable[[float], None],
    capture: Callable[[Any, Callable[[], None]], Replay] | None = None,
) -> list[Result]:
    """Train the runs that `prepare` gives, which is on the clock of recording, and their start on that of training.

    capture(run, look): a step of the run and then `look`, as one CUDA graph; None where steps stay eager.
    """
    clocks = Clocks(device)
    with clocks.on("record"):
        start = prepare()
    with clocks.on("train"):
        run = start()
    R, total, every = run.runs, budget.epochs * run.per_epoch, max(1, round(budget.evaluate_every * run.per_epoch))
    alive = torch.ones(R, dtype=torch.bool, device=device)
    survived, spent = (torch.zeros(R, dtype=torch.int64, device=device) for _ in range(2))
    curve, counts = [], []

    def evaluate_now(k: int) -> None:
        with clocks.on("evaluate"):
            made = torch.where(alive, survived, survived + 1)
            flops = spent.clone() if isinstance(run.flops, Tensor) else run.flops * made
            curve.append(run.evaluate() | dict(flops=flops))
        seconds = dict(seconds=clocks.seconds["train"]) if budget.alone else {}
        counts.append(dict(iteration=k, epoch=k / run.per_epoch) | _counts(run, k) | seconds)

    def look() -> None:
        if isinstance(run.flops, Tensor):  # the step in which a run diverges is the last that it is charged for
            spent.copy_(torch.where(alive, run.flops, spent))
        alive.logical_and_(run.finite())
        survived.add_(alive)

    def eager(k: int) -> None:
        run.step(k)
        look()

    evaluate_now(0)
    advance: Replay = eager
    k = 0
    while k < total:
        with clocks.on("train"):
            stop = min(k + every - k % every, total)
            while k < stop:
                if capture and k == EAGER_STEPS:
                    advance = capture(run, look)
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
    shared: dict[str, Any] = {f"{clock}_seconds": seconds / R for clock, seconds in clocks.seconds.items()}
    shared |= dict(stack_runs=R, device=device_name(device, budget.alone) + (", CUDA graphs" if capture else ""))
    results = []
    for r in range(R):
        ran = k if steps[r] == k else steps[r] + 1
        seen = [i for i, c in enumerate(counts) if c["iteration"] <= steps[r]]
        results.append(
            Result(
                status="done" if steps[r] == k else "diverged",
                diverged_at=None if steps[r] == k else ran,
                iterations=ran,
                epochs=ran / run.per_epoch,
                **_counts(run, ran),
                flops=flops[r],
                **shared,
                seconds=clocks.seconds["train"] if budget.alone else None,
                curve=[counts[i] | {name: values[i, r].item() for name, values in columns.items()} for i in seen],
            )
        )
    return results


def _counts(run: Trainable, k: int) -> dict[str, Any]:
    """What k steps cost."""
    return dict(parameter_updates=k * run.updates, gradient_evaluations=k * run.gradients)


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


class Stack:
    """R multilayer perceptrons in training by one method."""

    def __init__(
        self,
        method: Method,
        settings: Any,
        params: Parameters,
        hp: SimpleNamespace,
        act: Activation,
        seeds: Sequence[int],
        data: Data,
        budget: Budget,
    ) -> None:
        self.method, self.hp, self.data, self.budget = method, hp, data, budget
        batches = None if method.full_batch else Batches(data.x, data.y, seeds=seeds, batch_size=budget.batch_size)
        self.runs, self.per_epoch = len(seeds), batches.per_epoch if batches else 1
        self.problem = Problem(data.x, data.y, act, batches, steps=budget.epochs * self.per_epoch)
        self.state = method.init(self.problem, params, hp)
        depth, rows = len(params.W), budget.batch_size if batches else len(data.x)
        self.updates, self.gradients = method.cost.updates(depth, settings), method.cost.gradients(depth, settings)
        self._step_flops = method.cost.flops(params.widths, rows, settings) if method.cost.flops else None

    @property
    def flops(self) -> int | Tensor:
        return self.state.flops if self._step_flops is None else self._step_flops

    def step(self, k: int) -> None:
        self.method.step(self.state, self.problem, self.hp, k)

    def finite(self) -> Tensor:  # (R,) bool
        return self.method.parameters(self.state).finite()

    def evaluate(self) -> dict[str, Tensor]:  # each (R,)
        budget = self.budget
        return evaluate(
            self.method, self.state, self.problem, self.hp, self.data, budget.read_test, budget.gradient_norm
        )


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
    device, act = data.x.device, activation(activation_name)
    widths = (data.x.shape[1], *hidden, data.classes)

    def prepare() -> Callable[[], Stack]:
        params, hp = initialise(widths, seeds, init, data.x.dtype, device), stack(settings, data.x)
        start = lambda params: Stack(method, settings[0], params, hp, act, seeds, data, budget)
        if budget.alone:
            rehearse(start(params.clone()), 2 + (WARM_ITERATIONS if method.full_batch else WARM_BATCHES))
        return lambda: start(params)

    return loop(prepare, device, budget, progress, _replayed if graphs else None)


def rehearse(run: Trainable, steps: int) -> None:
    """Steps of a throw-away run, which pay for what only first steps cost."""
    for k in range(steps):
        run.step(k)


def _replayed(run: Stack, look: Callable[[], None]) -> Replay:
    def step(k: Any, problem: Problem) -> None:
        run.method.step(run.state, problem, run.hp, k)
        look()

    return captured(step, run.state, run.problem)
