"""One network of the module lane in `am.training`'s loop: how it steps, and how it is evaluated.

A block update is counted for each block of the network, a layer or what `network_blocks` says.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from am.batches import Batches
from am.counters import flops_of
from am.data import Data
from am.evaluation import GRADIENT_ROWS, TRAIN_LOSS_ROWS
from am.method import Method
from am.modules.networks import build, network_blocks
from am.modules.optimizers import RULES, schedulers
from am.optim import SAM, SAMT
from am.training import WARM_ITERATIONS, Budget, Result, loop, rehearse

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
        prepare = lambda start=start: functools.partial(start, flops=_measured(start(), budget.alone))
        # On a GPU: its quickest convolutions add up in any order, and round to 10 bits first.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            results += loop(prepare, data.x.device, budget, told)
    return results


def _measured(run: "ModuleRun", alone: bool) -> int:
    """FLOPs of the second step of a throw-away run, and where a run is timed more steps, as `rehearse` has them."""
    rehearse(run, 1)
    flops = flops_of(lambda: run.step(1))
    rehearse(run, WARM_ITERATIONS if alone else 0)
    return flops


class ModuleRun:
    """A network in training, with its optimizers and its batches: one run of the loop.

    flops: of a step, where they were measured.
    """

    runs = 1

    def __init__(
        self,
        method: Method,
        settings: Any,
        seed: int,
        data: Data,
        network: str,
        init: str,
        budget: Budget,
        flops: int = 0,
    ) -> None:
        self.settings, self.data, self.budget, self.flops = settings, data, budget, flops
        shape = data.x.dtype, data.shape, data.classes
        self.network = build(network, data.name, seed, init, data.x.device, *shape)
        self.batches = Batches(data.x, data.y, seeds=[seed], batch_size=budget.batch_size)
        self.per_epoch = self.batches.per_epoch
        depth = len(network_blocks(self.network))
        self.updates, self.gradients = method.cost.updates(depth, settings), method.cost.gradients(depth, settings)
        self.optimizers = RULES[method.name].optimizers(self.network, settings)
        self.schedulers = schedulers(self.optimizers, settings, budget.epochs * self.per_epoch)
        self._in_training(True)

    def loss(self, k: int) -> Tensor:  # -> ()
        """Mean cross-entropy on mini-batch k."""
        x, y = self.batches(k)
        return F.cross_entropy(self.network(x[0]), y[0])

    def step(self, k: int) -> None:
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

    @torch.no_grad()
    def finite(self) -> Tensor:  # (1,) bool
        total = torch.stack([p.sum() for p in self.network.parameters()]).sum()
        return ((total - total) == 0).view(1)

    def evaluate(self) -> dict[str, Tensor]:  # each (1,)
        with self.evaluating():
            point = evaluate(self.network, self.data, self.budget.read_test, self.budget.gradient_norm)
        return {name: value.view(1) for name, value in point.items()}

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
