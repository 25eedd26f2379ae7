"""The loop of the module lane: step, count, evaluate, record, for one network at a time.

The batches, the clocks, the metrics, the counters and the statuses are those of `am.training`. A block update is
counted for each block of the network, a layer or what `network_blocks` says.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from am.batches import Batches
from am.counters import Clocks, device_name, flops_of
from am.data import Data
from am.evaluation import GRADIENT_ROWS, TRAIN_LOSS_ROWS
from am.method import Method
from am.modules.networks import build, network_blocks
from am.modules.optimizers import RULES, schedulers
from am.optim import SAM, SAMT
from am.training import WARM_ITERATIONS, Budget, Result

EVALUATION_ROWS = 500  # of one pass: the convolutions of so many images still lie in a CPU's cache


def train_modules(
    method: Method,
    settings: Sequence[Any],
    seeds: Sequence[int],
    data: Data,
    *,
    network: str,
    init: str,
    budget: Budget,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Result]:
    """Train a network for each seed, one after another, by one mini-batch method.

    settings: one hyper-parameter dataclass per seed.  network: one of NETWORKS.  init: as in `networks.build`, whose
    errors are raised.
    """
    results = []
    for r, (own, seed) in enumerate(zip(settings, seeds)):
        told = lambda share, before=r: progress((before + share) / len(seeds))
        start = functools.partial(ModuleRun, method, own, seed, data, network, init, budget)
        # On a GPU: its quickest convolutions add up in any order, and round to 10 bits first.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            results.append(_train(start, data, budget, told))
    return results


def _train(start: Callable[[], "ModuleRun"], data: Data, budget: Budget, progress: Callable[[float], None]) -> Result:
    clocks = Clocks(data.x.device)
    with clocks.on("record"):
        step_flops = _rehearsed(start(), WARM_ITERATIONS if budget.alone else 0)
    with clocks.on("train"):
        run = start()
    curve: list[dict[str, Any]] = []

    def evaluate_now(k: int) -> None:
        with clocks.on("evaluate"), run.evaluating():
            point = evaluate(run.network, data, budget.read_test, budget.gradient_norm)
        place = dict(iteration=k, epoch=k / run.per_epoch) | run.counts(k)
        seconds = {"seconds": clocks.seconds["train"]} if budget.alone else {}
        curve.append(place | seconds | point)

    total, every = budget.epochs * run.per_epoch, max(1, round(budget.evaluate_every * run.per_epoch))
    evaluate_now(0)
    k = 0
    while k < total and run.alive:
        with clocks.on("train"):
            stop = min(k + every - k % every, total)
            while k < stop:
                run.step(k)
                k += 1
        evaluate_now(k)
        progress(k / total)
    with clocks.on("record"):
        survived = int(run.survived)
        points = [{name: _number(value) for name, value in point.items()} for point in curve]
    ran = k if survived == k else survived + 1  # the step in which a run diverges is the last that it is charged for
    points = [point | dict(flops=step_flops * min(point["iteration"], ran)) for point in points]
    return Result(
        status="done" if survived == k else "diverged",
        diverged_at=None if survived == k else ran,
        iterations=ran,
        epochs=ran / run.per_epoch,
        **run.counts(ran),
        flops=step_flops * ran,
        train_seconds=clocks.seconds["train"],
        evaluate_seconds=clocks.seconds["evaluate"],
        record_seconds=clocks.seconds["record"],
        stack_runs=1,
        device=device_name(data.x.device, budget.alone),
        seconds=clocks.seconds["train"] if budget.alone else None,
        curve=[point for point in points if point["iteration"] <= survived],
    )


def _number(value: Any) -> float | int:
    return value.item() if isinstance(value, Tensor) else value


class ModuleRun:
    """A network in training: its optimizers, its batches, and how many steps it has been finite for."""

    def __init__(
        self, method: Method, settings: Any, seed: int, data: Data, network: str, init: str, budget: Budget
    ) -> None:
        device = data.x.device
        self.method, self.settings = method, settings
        self.network = build(network, data.name, seed, init, device, data.x.dtype, data.shape, data.classes)
        self.batches = Batches(data.x, data.y, seeds=[seed], batch_size=budget.batch_size)
        self.per_epoch = self.batches.per_epoch
        self.depth = len(network_blocks(self.network))
        self.optimizers = RULES[method.name].optimizers(self.network, settings)
        self.schedulers = schedulers(self.optimizers, settings, budget.epochs * self.per_epoch)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.survived = torch.zeros((), dtype=torch.int64, device=device)
        self._in_training(True)

    @property
    def alive(self) -> bool:
        """Whether every parameter has been finite after every step; waits for the device."""
        return bool(self.finite)

    def loss(self, k: int) -> Tensor:  # -> ()
        """Mean cross-entropy on mini-batch k."""
        x, y = self.batches(k)
        return F.cross_entropy(self.network(x[0]), y[0])

    def step(self, k: int) -> None:
        """Step k = 0, 1, ..., and whether the run is still finite."""
        match self.optimizers:
            case [SAMT() as alternation] if self.settings.query == "next":
                alternation.step(lambda: self.loss(k), lambda: self.loss(k + 1))
            case [SAM() | SAMT() as alternation]:
                alternation.step(lambda: self.loss(k))
            case _:
                self.network.zero_grad()
                self.loss(k).backward()
                for optimizer in self.optimizers:
                    optimizer.step()
                for scheduler in self.schedulers:
                    scheduler.step()
        with torch.no_grad():
            total = torch.stack([p.sum() for p in self.network.parameters()]).sum()
            self.finite &= (total - total) == 0
            self.survived += self.finite

    def counts(self, k: int) -> dict[str, int]:
        """What k steps cost, in block updates and in gradients."""
        updates, gradients = (
            count(self.depth, self.settings) for count in (self.method.updates, self.method.gradients)
        )
        return dict(parameter_updates=k * updates, gradient_evaluations=k * gradients)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The network as it is judged: BatchNorm's running statistics, and the average of those who keep one."""
        self._in_training(False)
        try:
            yield
        finally:
            self._in_training(True)

    def _in_training(self, on: bool) -> None:
        self.network.train(on)
        for optimizer in self.optimizers:  # schedulefree's has parameters y in training, x in evaluation
            if turn := getattr(optimizer, "train" if on else "eval", None):
                turn()


def _rehearsed(run: ModuleRun, further: int) -> int:
    """FLOPs of the second step of a throw-away run, and as many steps more: they pay for what only first ones cost."""
    run.step(0)
    flops = flops_of(lambda: run.step(1))
    for k in range(2, 2 + further):
        run.step(k)
    return flops


def evaluate(network: torch.nn.Module, data: Data, read_test: bool, with_gradient_norm: bool) -> dict[str, Tensor]:
    """Named values of one network in evaluation mode, each () float64 on the device; as `am.evaluation.evaluate`."""
    rows = min(TRAIN_LOSS_ROWS, len(data.x))
    point = dict(
        val_accuracy=metrics(network, data.x_val, data.y_val)[0],
        train_loss=metrics(network, data.x[:rows], data.y[:rows])[1],
    )
    if read_test:
        point["test_accuracy"] = metrics(network, data.x_test, data.y_test)[0]
    if with_gradient_norm:
        point["gradient_norm"] = gradient_norm(network, data.x[:rows], data.y[:rows])
    return point


@torch.no_grad()
def metrics(network: torch.nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # x: (N, d0), y: (N,)
    """Accuracy and mean cross-entropy, each () float64, a piece of the rows at a time."""
    correct, loss = (torch.zeros((), dtype=torch.float64, device=x.device) for _ in range(2))
    for images, labels in zip(x.split(EVALUATION_ROWS), y.split(EVALUATION_ROWS)):
        logits = network(images)
        correct += (logits.argmax(1) == labels).sum()
        loss += F.cross_entropy(logits, labels, reduction="none").sum(dtype=torch.float64)
    return correct / len(x), loss / len(x)


def gradient_norm(network: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:  # -> () float64
    """Euclidean norm, over all parameters, of the mean cross-entropy's gradient on (N, d0) images."""
    parameters = list(network.parameters())
    whole = [torch.zeros_like(p) for p in parameters]
    for images, labels in zip(x.split(GRADIENT_ROWS), y.split(GRADIENT_ROWS)):
        loss = F.cross_entropy(network(images), labels, reduction="sum") / len(x)
        for total, part in zip(whole, torch.autograd.grad(loss, parameters)):
            total += part
    return torch.stack([total.double().square().sum() for total in whole]).sum().sqrt()
