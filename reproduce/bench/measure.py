"""What the parts of the benchmark share: sizes, clocks, and runs to time."""

import importlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from am.activations import activation
from am.batches import Batches
from am.errors import InputError
from am.machine import CPU_STACK
from am.method import Problem, stack
from am.methods import method
from am.networks import initialise
from am.run import Run

CLASSES = 10
FULL_BATCH = ("tiam", "mdlam", "dladmm", "bcd")
BACKTRACKING = ("tiam", "mdlam", "dladmm")


@dataclass(frozen=True)
class Scale:
    """Sizes of the measurements; the defaults are the benchmark's, the tests' are tiny."""

    rows: int = 60_000
    networks: tuple[tuple[int, ...], ...] = ((100, 100), (1000, 1000))
    repetitions: int = 3
    wide_repetitions: int = 1  # of networks that are at least 500 wide: a straightforward iteration takes minutes
    batch: int = 128
    steps: int = 60  # mini-batch steps of one reading of an epoch
    stack: int = CPU_STACK
    stacked_batches: tuple[int, ...] = (32, 128)
    stacked_runs: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    stacked_seconds: float = 0.4  # of one reading
    graph_runs: tuple[int, ...] = (1, 64)
    growth_rows: tuple[int, ...] = (3_750, 7_500, 15_000, 30_000, 60_000)
    growth_widths: tuple[int, ...] = (50, 100, 200, 400, 800)
    growth_depths: tuple[int, ...] = (1, 2, 4, 8)
    growth_runs: tuple[int, ...] = (1, 2, 4, 8, 16)
    growth_at: int = 6_000  # rows where another axis grows
    gemm: int = 2_048  # edge of the square product that measures the rate
    memory_rows: int = 10_000


@dataclass
class Bench:
    """What all parts share."""

    device: torch.device
    x: Tensor  # (N, d0) float32
    y: Tensor  # (N,) int64
    data: str
    scale: Scale = field(default_factory=Scale)

    def repetitions(self, hidden: Sequence[int]) -> int:
        return self.scale.wide_repetitions if max(hidden) >= 500 else self.scale.repetitions


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of the work, with the device idle before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def alternate(
    works: Sequence[Callable[[], Any]],
    repetitions: int,
    device: torch.device,
    trains: Sequence[Any] = (),
) -> np.ndarray:
    """Seconds, (repetitions, works): A B A B ...

    trains: the runs, twins or networks that the works train. InputError where one of them did not move: its seconds
    would say nothing.
    """
    before = [parameters_of(trained) for trained in trains]
    seconds = np.array([[seconds_of(work, device) for work in works] for _ in range(repetitions)])
    for trained, start in zip(trains, before):
        if all(torch.equal(now, then) for now, then in zip(parameters_of(trained), start)):
            name = trained.method.name if isinstance(trained, Run) else type(trained).__name__
            raise InputError(f"bench: {name} moved nothing, so that its seconds say nothing.")
    return seconds


def parameters_of(trained: Any) -> list[Tensor]:
    """Copies of the weights and biases of a run, a twin or a network."""
    if isinstance(trained, nn.Module):
        return [parameter.detach().clone() for parameter in trained.parameters()]
    return [tensor.clone() for name, tensor in trained.variables().items() if name[0] in "Wb"]


def spread(values: Iterable[float], name: str) -> dict[str, float]:
    """Median and quartiles as columns `name`, `name`_low, `name`_high."""
    low, middle, high = np.percentile(list(values), [25, 50, 75])
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


def initialisation(name: str) -> str:
    return "bcd" if name == "bcd" else "normal(0.1)" if method(name).full_batch else "torch"


def launch(
    name: str, x: Tensor, y: Tensor, hidden: Sequence[int], runs: int = 1, batch: int = 0, **settings: Any
) -> Run:
    """R runs as the suite's training loop starts them, seeds 0 .. R - 1."""
    chosen, seeds = method(name), range(runs)
    params = initialise((x.shape[1], *hidden, CLASSES), seeds, initialisation(name), x.dtype, x.device)
    batches = None if chosen.full_batch else Batches(x, y, seeds=seeds, batch_size=batch)
    problem, hp = Problem(x, y, activation("relu"), batches), stack([chosen.settings(settings)] * runs, x)
    return Run(chosen, problem, hp, chosen.init(problem, params, hp), single=runs == 1)


def launch_straightforward(name: str, x: Tensor, y: Tensor, hidden: Sequence[int], **options: Any) -> Any:
    """The run of seed 0 of the method's twin in `tests/twins`. Raises InputError where there is no checkout."""
    tests = Path(__file__).parents[2] / "tests"
    if not (tests / "twins").is_dir():
        raise InputError("bench a times methods against tests/twins, which only a checkout has; clone the repository.")
    if str(tests) not in sys.path:
        sys.path.append(str(tests))
    twins = importlib.import_module("twins")
    params = initialise((x.shape[1], *hidden, CLASSES), [0], initialisation(name), x.dtype, x.device)
    return twins.start(name, x, y, [W[0] for W in params.W], [b[0, 0] for b in params.b], **options)


def train_steps(run: Run, steps: int) -> None:
    """As the training loop steps: with its look, at every step, for runs that diverged."""
    alive = torch.ones(run.method.parameters(run.state).runs, dtype=torch.bool, device=run.problem.x.device)
    for _ in range(steps):
        run.step()
        alive.logical_and_(run.method.parameters(run.state).finite())


def difference(u: dict[str, Tensor], v: dict[str, Tensor]) -> tuple[float, str]:
    """The largest |u - v| over all common variables, relative to the largest |v| of the variable, and whose it is."""
    worst = (0.0, "")
    for name in v.keys() & u.keys():
        # In float64 a piece at a time: the variables of a wide network are large.
        pairs = zip(u[name].flatten().split(2**22), v[name].flatten().split(2**22))
        gap = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
        worst = max(worst, (gap / max(float(v[name].abs().max()), 1e-30), name))
    return worst


def words(hidden: Sequence[int]) -> str:
    return "-".join(map(str, hidden))
