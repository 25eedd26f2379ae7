"""How fast the library is: against a straightforward implementation, against the limit of the machine, and as it grows.

Parts, each of which writes its CSV into `results/bench` (`bench_gpu` on a GPU), in one process and one run:

a  iteration.csv: seconds of an iteration of each full-batch AM method against `reproduce.straightforward`
b  epoch.csv: seconds of an epoch of each mini-batch method against the usual loop: DataLoader, nn.Module, torch.optim,
   the same loop over tensors in memory, or per-layer autograd where torch.optim has no such method
c  stacking.csv: R stacked runs against R runs in a row
d  growth.csv, exponents.csv: seconds against rows, width, depth and runs, and log-log slopes with 95 % intervals
e  limit.csv: the FLOPs and bytes that a step needs at least, over the machine's measured rates, as a share of its time
f  memory.csv: peak memory of a run in a process of its own against `am.training.run_bytes`
g  precision.csv: iterates in float32 against float64
h  graphs.csv, on a GPU alone: mini-batch steps replayed as a CUDA graph (`am.graphs`) against eager ones
i  profile.csv: which operations the seconds of a full-batch iteration go to, by torch.profiler

targets.csv judges what is there. Two things that are compared are timed in alternation, A B A B, after a warm-up, with
the device synchronised; a ratio is the median over neighbours with its quartiles. On a CPU both sides run with an
allocator that keeps its memory, and with one thread, as the suite trains; but with all cores where a user's loop or a
row of runs, which would have them, is compared (b and c). The settings are the methods' defaults.

Least work of one TIAM iteration (mDLAM's is the same), n rows, layers d_{l-1} -> d_l, in FLOPs:

- W_l, then z_l: (z_l - b_l)^T a_{l-1} and a_{l-1} W_l^T, 4 n d_{l-1} d_l, neither of which another step leaves behind.
- the curvature of W_l, l > 1: the Gram matrix by symmetry, n d_{l-1} (d_{l-1} + 1), and two products of it, 4 d_l
  d_{l-1}^2; or, where cheaper, one more product with the data, 2 n d_{l-1} d_l. X^T X never changes: layer 1 pays
  one product with it, 2 d_1 d_0^2, as the other two follow from the last iteration's.
- a_l, l < L: the residual at the extrapolated point, the gradient and the change, 6 n d_l d_{l+1}; the residual at a_l
  itself is left over from the last iteration once epsilon has settled.

Bytes: X, and each z_l and a_l and W_l, read and written once, and its last iterate read once. The limit is the larger
of FLOPs over the GEMM rate and bytes over the copy bandwidth, as if they overlapped entirely.

Least work of a mini-batch step, B rows, p_l = d_l d_{l-1}: SGD and Adam run forward, 2 B sum p_l, and back, 2 B sum p_l
for weights and 2 B sum_{l>1} p_l for activations. SAMT in forward order with T = 1 and the next batch as query: before
block l moves, the support batch runs again through layers l-1 .. L (not at all for l = 1: the last query is carried
over), after it the query through l .. L; either needs a gradient through L .. l. In sum 2 B (4 sum l p_l - p_L).
Bytes: the batch read once, parameters and what the rule remembers of them read and written once.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import linregress
from scipy.stats import t as student
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import am.training
from am.activations import activation
from am.batches import Batches
from am.counters import flops_of
from am.data import load, missing, prepare
from am.errors import InputError, unknown
from am.graphs import EAGER_STEPS, Recorder, captured, cuda_graph
from am.machine import CPU_STACK
from am.method import Problem, stack
from am.methods import method, methods
from am.methods.tiam import Hyperparameters as TiamSettings
from am.networks import initialise
from am.run import Run
from reproduce import straightforward
from reproduce.engines import reuse_freed_memory
from reproduce.grid import APART, FOLDER
from reproduce.store import write_whole

CLASSES = 10
FULL_BATCH = ("tiam", "mdlam", "dladmm", "bcd")
BACKTRACKING = ("tiam", "mdlam", "dladmm")
LOOPS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
}
ALL_CORES = ("b", "c")
PER_LAYER = ("am-adam", "samt", "sam")
GRAPHED = ("sgd", "adam", "samt", "am-adam")
MEASURED_MEMORY = ("tiam", "dladmm", "bcd", "sgd", "adam", "am-adam", "samt")


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


def bench(
    folder: str | None,
    device: torch.device,
    results: Path,
    figures: Path,
    only: Sequence[str] = (),
    scale: Scale = Scale(),
    announce: Callable[[str], None] = print,
) -> Path:
    """Measure the parts, all or `only`, then judge and draw everything that is in the folder. Returns the folder."""
    for word in only:
        if word not in PARTS:
            raise unknown("part", word, PARTS, "bench")
        if word in GPU_ONLY and device.type != "cuda":
            raise InputError(f"bench {word} times CUDA graphs and the device is the {device.type}; use --device cuda.")
    if device.type == "cpu":
        reuse_freed_memory()
    x, y, data = rows_of(folder, scale.rows, device)
    b, name = Bench(device, x, y, data, scale), folder_name(device)
    out = results / name
    out.mkdir(parents=True, exist_ok=True)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    for part in only or [part for part in PARTS if device.type == "cuda" or part not in GPU_ONLY]:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if part in ALL_CORES else 1)
        same = dict(data=data, device=place, threads=torch.get_num_threads(), torch=torch.__version__)
        began = time.perf_counter()
        for table, frame in PARTS[part](b).items():
            write_whole(out / f"{table}.csv", frame.assign(**same).to_csv(index=False, float_format="%.6g"))
        announce(f"bench {part}: {time.perf_counter() - began:.0f} s")
    write_targets(out, device)
    draw(out, figures / name)
    return out


def folder_name(device: torch.device) -> str:
    return "bench_gpu" if device.type == "cuda" else "bench"


def rows_of(folder: str | None, rows: int, device: torch.device) -> tuple[Tensor, Tensor, str]:
    """`rows` training images, from the start again where there are fewer, labels, and what they are in words."""
    if missing(["mnist"], folder):
        generator = torch.Generator().manual_seed(0)
        y = torch.randint(CLASSES, (rows,), generator=generator)
        # As MNIST's: in [0, 1], four pixels of five black, classes apart.
        prototypes = (torch.rand(CLASSES, 784, generator=generator) - 0.7).clamp(min=0) / 0.3
        noise = torch.rand(rows, 784, generator=generator)
        return (prototypes[y] * noise).to(device), y.to(device), "synthetic images, no MNIST in the data folder"
    images = prepare(load("mnist", folder), device=device)
    again = torch.arange(rows, device=device) % len(images.x)
    text = f"mnist, {min(rows, len(images.x))} training images"
    if rows > len(images.x):
        text += f" and the first {rows - len(images.x)} of them again"
    return images.x[again], images.y[again], text


# Clocks -----------------------------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of the work, with the device idle before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def alternate(works: Sequence[Callable[[], Any]], repetitions: int, device: torch.device) -> np.ndarray:
    """Seconds, (repetitions, works): A B A B ..."""
    return np.array([[seconds_of(work, device) for work in works] for _ in range(repetitions)])


def spread(values: Iterable[float], name: str) -> dict[str, float]:
    """Median and quartiles as columns `name`, `name`_low, `name`_high."""
    low, middle, high = np.percentile(list(values), [25, 50, 75])
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


# Runs -------------------------------------------------------------------------------------------------------------


def initialisation(name: str) -> str:
    return "bcd" if name == "bcd" else "normal(0.1)" if method(name).full_batch else "torch"


def launch(name: str, x: Tensor, y: Tensor, hidden: Sequence[int], runs: int = 1, batch: int = 0, **settings) -> Run:
    """R runs as the suite's training loop starts them, seeds 0 .. R - 1."""
    chosen, seeds = method(name), range(runs)
    params = initialise((x.shape[1], *hidden, CLASSES), seeds, initialisation(name), x.dtype, x.device)
    batches = None if chosen.full_batch else Batches(x, y, seeds=seeds, batch_size=batch)
    problem, hp = Problem(x, y, activation("relu"), batches), stack([chosen.settings(settings)] * runs, x)
    return Run(chosen, problem, hp, chosen.init(problem, params, hp), single=runs == 1)


def launch_straightforward(name: str, x: Tensor, y: Tensor, hidden: Sequence[int], **options) -> straightforward.Slow:
    """The straightforward run of seed 0."""
    params = initialise((x.shape[1], *hidden, CLASSES), [0], initialisation(name), x.dtype, x.device)
    return straightforward.start(name, x, y, [W[0] for W in params.W], [b[0, 0] for b in params.b], **options)


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


# a: iterations of full-batch methods ------------------------------------------------------------------------------


def iterations(b: Bench) -> dict[str, pd.DataFrame]:
    """am's iteration and the straightforward one from one start, side by side."""
    rows = []
    for hidden in b.scale.networks:
        for name in FULL_BATCH:
            rows.append(_iteration(b, name, hidden, as_released=False))
    # A wide straightforward iteration that recomputes the gradient at every trial takes minutes.
    for name in BACKTRACKING:
        rows.append(_iteration(b, name, b.scale.networks[0], as_released=True))
    return dict(iteration=pd.DataFrame(rows))


def _iteration(b: Bench, name: str, hidden: Sequence[int], as_released: bool) -> dict[str, Any]:
    small = b.x[:500], b.y[:500]
    launch_straightforward(name, *small, hidden).step()
    fast, slow = launch(name, b.x, b.y, hidden), launch_straightforward(name, b.x, b.y, hidden, as_released=as_released)
    if name in ("tiam", "mdlam"):
        # Their first iteration starts at a forward pass, where blocks have nowhere to go and take hardly a trial.
        fast.step()
        slow.step()
    else:
        launch(name, b.x, b.y, hidden).step()  # warms up the allocator
    counted = []  # a counter costs the slow side's few and long operations nothing
    works = [fast.step, lambda: counted.append(flops_of(slow.step))]
    seconds = alternate(works, b.repetitions(hidden), b.device)
    gap, variable = difference(fast.variables(), slow.variables())
    return dict(
        method=name,
        hidden=words(hidden),
        n=len(b.x),
        majoriser="gradient recomputed, as released" if as_released else "gradient kept",
        repetitions=len(seconds),
        seconds=np.median(seconds[:, 0]),
        straightforward_seconds=np.median(seconds[:, 1]),
        **spread(seconds[:, 1] / seconds[:, 0], "ratio"),
        trials_per_iteration=slow.trials / slow.iterations,
        flops_ratio=np.median(counted) / flops_of(fast.step),
        difference=gap,
        difference_in=variable,
    )


# b: epochs of mini-batch methods ----------------------------------------------------------------------------------


def epochs(b: Bench) -> dict[str, pd.DataFrame]:
    """`steps` steps of an epoch, scaled to the whole: alone, in a stack, and the comparators."""
    hidden, rows = b.scale.networks[0], []
    per_epoch = len(b.x) // b.scale.batch
    steps = min(b.scale.steps, per_epoch)
    for name in (*LOOPS, *PER_LAYER):
        sizes = (1, b.scale.stack)
        runs = [launch(name, b.x, b.y, hidden, R, b.scale.batch) for R in sizes]
        works = [lambda run=run: train_steps(run, steps) for run in runs]
        others = _comparators(b, name, hidden, steps)
        for work in (*works, *others.values()):
            work()
        seconds = alternate([*works, *others.values()], b.scale.repetitions, b.device)
        for i, R in enumerate(sizes):
            for j, other in enumerate(others, len(sizes)):
                rows.append(
                    dict(
                        method=name,
                        hidden=words(hidden),
                        batch=b.scale.batch,
                        runs=R,
                        against=other,
                        steps=steps,
                        repetitions=len(seconds),
                        epoch_seconds_per_run=np.median(seconds[:, i]) / R * per_epoch / steps,
                        against_epoch_seconds=np.median(seconds[:, j]) * per_epoch / steps,
                        **spread(R * seconds[:, j] / seconds[:, i], "ratio"),
                    )
                )
    return dict(epoch=pd.DataFrame(rows))


def _comparators(b: Bench, name: str, hidden: Sequence[int], steps: int) -> dict[str, Callable[[], None]]:
    if name in PER_LAYER:
        order = torch.randperm(len(b.x))[: steps * b.scale.batch].view(steps, -1).to(b.device)
        slow = launch_straightforward(name, b.x, b.y, hidden, batches=order)
        return {"autograd": lambda: slow.step(steps)}
    order = torch.randperm(len(b.x))[: steps * b.scale.batch]
    loops = dict.fromkeys(("DataLoader", "tensors in memory"))
    for key, batches in zip(loops, (_loaded(b, order), _gathered(b, order))):
        net, rule = _network(b.x.shape[1], hidden, LOOPS[name], b.device)
        loops[key] = lambda batches=batches, net=net, rule=rule: _fit(net, rule, batches)
    return loops


def _loaded(b: Bench, order: Tensor) -> Callable[[], Iterable[tuple[Tensor, Tensor]]]:
    """Batches of an epoch from a DataLoader of this process, as the usual script has them; on a GPU from pinned memory.

    Neither side of the comparison pays for shuffling the epoch.
    """
    data, gpu = TensorDataset(b.x.cpu(), b.y.cpu()), b.device.type == "cuda"
    loader = DataLoader(data, b.scale.batch, sampler=order.tolist(), pin_memory=gpu)
    return lambda: ((x.to(b.device, non_blocking=True), y.to(b.device, non_blocking=True)) for x, y in loader)


def _gathered(b: Bench, order: Tensor) -> Callable[[], Iterable[tuple[Tensor, Tensor]]]:
    """The same batches from tensors that are on the device."""
    batches = order.to(b.device).split(b.scale.batch)
    return lambda: ((b.x[rows], b.y[rows]) for rows in batches)


def _network(inputs: int, hidden: Sequence[int], optimiser, device) -> tuple[nn.Module, torch.optim.Optimizer]:
    widths = (inputs, *hidden)
    layers = [layer for pair in zip(widths, hidden) for layer in (nn.Linear(*pair), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES)).to(device)
    return net, optimiser(net.parameters())


def _fit(net: nn.Module, rule: torch.optim.Optimizer, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
    for x, y in batches():
        rule.zero_grad()
        F.cross_entropy(net(x), y).backward()
        rule.step()


# c: stacking ------------------------------------------------------------------------------------------------------


def stacking(b: Bench) -> dict[str, pd.DataFrame]:
    """SGD: R runs stacked against the same steps of one run, R times."""
    hidden, rows = b.scale.networks[0], []
    for batch in b.scale.stacked_batches:
        single = launch("sgd", b.x, b.y, hidden, 1, batch)
        train_steps(single, 20)
        one = seconds_of(lambda: train_steps(single, 20), b.device) / 20
        for R in b.scale.stacked_runs:
            run = launch("sgd", b.x, b.y, hidden, R, batch)
            train_steps(run, 2)
            # A CPU's stacked step is as long as R single ones, at the worst; a GPU's is much shorter.
            length = one if b.device.type == "cuda" else R * one
            steps = max(2, min(200, round(b.scale.stacked_seconds / length)))
            works = [lambda: train_steps(run, steps), lambda: train_steps(single, steps)]
            seconds = alternate(works, b.scale.repetitions + 2, b.device)
            rows.append(
                dict(
                    method="sgd",
                    hidden=words(hidden),
                    batch=batch,
                    runs=R,
                    steps=steps,
                    repetitions=len(seconds),
                    step_seconds=np.median(seconds[:, 0]) / steps,
                    run_steps_per_second=R * steps / np.median(seconds[:, 0]),
                    **spread(R * seconds[:, 1] / seconds[:, 0], "ratio"),
                )
            )
    return dict(stacking=pd.DataFrame(rows))


# d: growth --------------------------------------------------------------------------------------------------------


def growth(b: Bench) -> dict[str, pd.DataFrame]:
    """Seconds of a step of TIAM and of SGD as one size grows, the others fixed."""
    s, points = b.scale, []
    narrow, at = s.networks[0], min(s.growth_at, len(b.x))
    width = narrow[0]
    axes = {  # -> rows, hidden, runs
        "rows": [(n, (n, narrow, 1)) for n in s.growth_rows if n <= len(b.x)],
        "width": [(d, (at, (d, d), 1)) for d in s.growth_widths],
        "depth": [(L, (at, (width,) * L, 1)) for L in s.growth_depths],
        "runs": [(R, (at // 3, narrow, R)) for R in s.growth_runs],
    }
    for name in ("tiam", "sgd"):
        for axis, cases in axes.items():
            if name == "sgd" and axis == "rows":
                continue  # a mini-batch step does not see them
            for value, (n, hidden, runs) in cases:
                run = launch(name, b.x[:n], b.y[:n], hidden, runs, min(s.batch, n))
                steps = 1 if run.method.full_batch else 20
                run.step(2)
                seconds = alternate([lambda: run.step(steps)], s.repetitions, b.device)[:, 0] / steps
                points.append(
                    dict(method=name, axis=axis, value=value, n=n, hidden=words(hidden), runs=runs)
                    | spread(seconds, "seconds")
                )
    frame = pd.DataFrame(points)
    fits = [
        dict(method=name, axis=axis, **fitted(part["value"], part["seconds"]), points=len(part))
        for (name, axis), part in frame.groupby(["method", "axis"], sort=False)
    ]
    return dict(growth=frame, exponents=pd.DataFrame(fits))


def fitted(sizes: Iterable[float], seconds: Iterable[float]) -> dict[str, float]:
    """The exponent of seconds ~ size^exponent by least squares in the logarithms, and its 95 % interval."""
    sizes, seconds = np.log(list(sizes)), np.log(list(seconds))
    fit = linregress(sizes, seconds)
    reach = student.ppf(0.975, len(sizes) - 2) * fit.stderr if len(sizes) > 2 else np.nan
    return dict(exponent=fit.slope, exponent_low=fit.slope - reach, exponent_high=fit.slope + reach)


# e: share of the limit --------------------------------------------------------------------------------------------


def machine_rates(device: torch.device, edge: int, repetitions: int = 5) -> tuple[float, float]:
    """FLOPs a second of a square float32 matrix product, and bytes a second, read and written, of a copy; the best."""
    a, c = (torch.rand(edge, edge, device=device) for _ in range(2))
    source = torch.rand(16 * edge * edge, device=device)
    target = source.clone()
    out = torch.empty_like(a)
    works = [lambda: torch.mm(a, c, out=out), lambda: target.copy_(source)]
    alternate(works, 1, device)
    product, copy = alternate(works, repetitions, device).min(0)
    return 2 * edge**3 / product, 2 * source.nbytes / copy


def least_tiam(n: int, widths: Sequence[int]) -> tuple[float, float]:
    """FLOPs and bytes that one iteration of TIAM or mDLAM needs at least in float32; the module derives them."""
    d, L = widths, len(widths) - 1
    flops = 2 * d[1] * d[0] ** 2
    floats = n * d[0]
    for l in range(1, L + 1):
        flops += 4 * n * d[l - 1] * d[l]
        if l > 1:
            flops += min(n * d[l - 1] * (d[l - 1] + 1) + 4 * d[l] * d[l - 1] ** 2, 2 * n * d[l - 1] * d[l])
            flops += 6 * n * d[l - 1] * d[l]
        floats += 3 * d[l] * (d[l - 1] + (n if l == L else 2 * n))  # W_l, z_l and, but for the last layer, a_l
    return flops, 4 * floats


def least_gradient(batch: int, widths: Sequence[int], memory: int = 0) -> tuple[float, float]:
    """The same for a mini-batch step of SGD (memory = 0) or of a rule that remembers so many tensors (Adam: 2)."""
    p = [a * b for a, b in zip(widths, widths[1:])]
    return 2 * batch * (3 * sum(p) - p[0]), 4 * (batch * widths[0] + 2 * (1 + memory) * sum(p))


def least_samt(batch: int, widths: Sequence[int]) -> tuple[float, float]:
    """The same for a step of SAMT with step sizes a row, in forward order, T = 1, the next batch as query."""
    p = [a * b for a, b in zip(widths, widths[1:])]
    flops = 2 * batch * (4 * sum(l * pl for l, pl in enumerate(p, 1)) - p[-1])
    return flops, 4 * (batch * widths[0] + 2 * sum(p))


def limits(b: Bench) -> dict[str, pd.DataFrame]:
    """TIAM full batch; SGD, Adam and SAMT in alternation, alone and stacked."""
    flop_rate, byte_rate = machine_rates(b.device, b.scale.gemm)
    rows = []

    def row(name: str, hidden, runs: int, batch: int, least: tuple[float, float], counted: float, seconds, **more):
        flop_seconds, byte_seconds = runs * least[0] / flop_rate, runs * least[1] / byte_rate
        limit = max(flop_seconds, byte_seconds)
        rows.append(
            dict(
                method=name,
                hidden=words(hidden),
                n=batch or len(b.x),
                runs=runs,
                flops_least=least[0],
                flops_counted=counted,
                flops_over_least=counted / least[0],
                bytes_least=least[1],
                gemm_flops_per_second=flop_rate,
                copy_bytes_per_second=byte_rate,
                flop_seconds=flop_seconds,
                byte_seconds=byte_seconds,
                limit_seconds=limit,
                seconds=np.median(seconds),
                **spread(limit / seconds, "share"),
                share_of_sum=(flop_seconds + byte_seconds) / np.median(seconds),
                **more,
            )
        )

    for hidden in b.scale.networks:
        # As all iterations are but the first few: epsilon has settled.
        run = launch("tiam", b.x, b.y, hidden, epsilon_0=TiamSettings.epsilon_min)
        run.step(4)
        counted = flops_of(run.step)
        seconds = alternate([run.step], b.repetitions(hidden), b.device)[:, 0]
        row("tiam", hidden, 1, 0, least_tiam(len(b.x), (b.x.shape[1], *hidden, CLASSES)), counted, seconds)

    hidden, batch = b.scale.networks[0], b.scale.batch
    widths = (b.x.shape[1], *hidden, CLASSES)
    least = dict(sgd=least_gradient(batch, widths), adam=least_gradient(batch, widths, 2))
    least["samt"] = least_samt(batch, widths)
    steps = max(2, b.scale.steps // 2)
    for R in (1, b.scale.stack):
        runs = {name: launch(name, b.x, b.y, hidden, R, batch) for name in least}
        for run in runs.values():
            run.step(2)
        counted = {name: flops_of(run.step) / R for name, run in runs.items()}
        works = [lambda run=run: run.step(steps) for run in runs.values()]
        seconds = dict(zip(runs, alternate(works, b.scale.repetitions + 2, b.device).T / steps))
        for name in least:
            flops_over_sgd = counted[name] / counted["sgd"]
            over = seconds[name] / seconds["sgd"] / flops_over_sgd
            more = dict(flops_over_sgd=flops_over_sgd) | spread(over, "seconds_over_flops_over_sgd")
            row(name, hidden, R, batch, least[name], counted[name], seconds[name], **more)
    return dict(limit=pd.DataFrame(rows))


# f: memory --------------------------------------------------------------------------------------------------------


def memory(b: Bench) -> dict[str, pd.DataFrame]:
    """Peak memory of a stack in a process of its own, less what the process had before it, for each run."""
    hidden, n, rows = b.scale.networks[0], min(b.scale.memory_rows, len(b.x)), []
    widths = (b.x.shape[1], *hidden, CLASSES)
    for name in MEASURED_MEMORY:
        full = method(name).full_batch
        runs, batch = (2, 0) if full else (b.scale.stack, min(b.scale.batch, n))
        case = dict(method=name, widths=widths, n=n, batch=batch, runs=runs, device=b.device.type)
        root = Path(__file__).parent.parent
        environment = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
        command = [sys.executable, "-m", "reproduce.bench", json.dumps(case)]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"bench f: {name} failed in its process: {(done.stderr.splitlines() or ['killed'])[-1]}.")
        baseline, peak = json.loads(done.stdout)
        predicted = am.training.run_bytes(method(name), widths, n, batch)
        per_run = (peak - baseline) / runs
        rows.append(
            dict(method=name, hidden=words(hidden), n=n, batch=batch, runs=runs, baseline_bytes=baseline)
            | dict(peak_bytes=peak, bytes_per_run=per_run, predicted_bytes=predicted, ratio=per_run / predicted)
        )
    return dict(memory=pd.DataFrame(rows))


def peak_of(case: dict[str, Any]) -> tuple[int, int]:
    """Bytes before and at the peak of training one stack for a few steps, in this process."""
    device, full = torch.device(case["device"]), method(case["method"]).full_batch
    hidden, gpu = case["widths"][1:-1], case["device"] == "cuda"
    if not gpu:
        torch.set_num_threads(1)
        reuse_freed_memory()
    x = torch.rand(case["n"], case["widths"][0], device=device)
    y = torch.arange(case["n"], device=device) % CLASSES
    small = case["batch"] or 100
    train_steps(launch(case["method"], x[:small], y[:small], hidden, 1, small), 2)  # loads the libraries
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    now = torch.cuda.max_memory_allocated if gpu else _peak_resident
    baseline = now()
    train_steps(launch(case["method"], x, y, hidden, case["runs"], case["batch"]), 3 if full else 20)
    return baseline, now()


def _peak_resident() -> int:
    """Bytes; not ru_maxrss, which a process inherits from the one that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


# g: precision -----------------------------------------------------------------------------------------------------


def precision(b: Bench, iterations: int = 3) -> dict[str, pd.DataFrame]:
    """Iterates of am in float32 against am in float64: Gram matrices subtract large numbers."""
    hidden, rows = b.scale.networks[0], []
    for name in FULL_BATCH:
        single, double = (launch(name, x, b.y, hidden) for x in (b.x, b.x.double()))
        u, v = single.step(iterations).variables(), double.step(iterations).variables()
        gap, variable = difference(u, v)
        weights = [difference({key: u[key]}, {key: v[key]})[0] for key in v if key.startswith("W")]
        rows.append(
            dict(method=name, hidden=words(hidden), n=len(b.x), iterations=iterations, difference=gap)
            | dict(difference_in=variable, difference_of_weights=max(weights))
        )
    return dict(precision=pd.DataFrame(rows))


# h: CUDA graphs ---------------------------------------------------------------------------------------------------


def graphs(b: Bench, record: Recorder = cuda_graph) -> dict[str, pd.DataFrame]:
    """Eager and replayed steps of two runs from one start, as the training loop makes them, and where they end."""
    hidden, steps, rows = b.scale.networks[0], b.scale.steps, []
    for name in GRAPHED:
        for R in b.scale.graph_runs:
            eager, replayed = (launch(name, b.x, b.y, hidden, R, b.scale.batch) for _ in range(2))
            works = [lambda: train_steps(eager, steps), replaying(replayed, steps, record)]
            train_steps(eager, EAGER_STEPS)
            alternate(works, 1, b.device)
            seconds = alternate(works, b.scale.repetitions + 2, b.device) / steps
            u, v = ({key: t for key, t in run.variables().items() if key[0] in "Wb"} for run in (replayed, eager))
            gap, variable = difference(u, v)
            rows.append(
                dict(
                    method=name,
                    hidden=words(hidden),
                    batch=b.scale.batch,
                    runs=R,
                    steps=steps,
                    repetitions=len(seconds),
                    eager_step_seconds=np.median(seconds[:, 0]),
                    graph_step_seconds=np.median(seconds[:, 1]),
                    **spread(seconds[:, 0] / seconds[:, 1], "ratio"),
                    after_steps=eager.iterations,
                    difference=gap,
                    difference_in=variable,
                )
            )
    return dict(graphs=pd.DataFrame(rows))


def replaying(run: Run, steps: int, record: Recorder) -> Callable[[], None]:
    """`train_steps(run, steps)` of a fresh run by replays; the eager steps before a capture are made here."""
    alive = torch.ones(run.method.parameters(run.state).runs, dtype=torch.bool, device=run.problem.x.device)

    def step(k: int | Tensor, problem: Problem) -> None:
        run.method.step(run.state, problem, run.hp, k)
        alive.logical_and_(run.method.parameters(run.state).finite())

    train_steps(run, EAGER_STEPS)
    replay = captured(step, run.state, run.problem, record)

    def work() -> None:
        for _ in range(steps):
            replay(run.iterations)
            run.iterations += 1

    return work


# i: profile -------------------------------------------------------------------------------------------------------

PRODUCTS = ("mm", "bmm", "addmm", "addmm_", "baddbmm", "baddbmm_")
HOUSEKEEPING = ("as_strided", "empty", "empty_like", "empty_strided", "expand", "narrow", "select", "slice", "split")


def operation(name: str) -> str:
    """The kind of a torch operation, aten::NAME."""
    name = name.removeprefix("aten::")
    if name in PRODUCTS:
        return "matrix products"
    if name.startswith("linalg_") and name != "linalg_vector_norm":
        return "linear systems"
    if name == "copy_":
        return "copies"
    return "views and allocation" if name in HOUSEKEEPING else "elementwise and reductions"


def profiles(b: Bench) -> dict[str, pd.DataFrame]:
    """One iteration of each full-batch method by kind of operation; the profiler's own cost is in the shares only."""
    from torch.profiler import ProfilerActivity, profile

    gpu = b.device.type == "cuda"
    flop_rate, _ = machine_rates(b.device, b.scale.gemm)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    rows = []
    for hidden in b.scale.networks:
        for name in FULL_BATCH:
            run = launch(name, b.x, b.y, hidden).step(2)
            flops = flops_of(run.step)
            seconds = float(np.median(alternate([run.step], b.repetitions(hidden), b.device)))
            with profile(activities=activities) as profiled:
                seconds_of(run.step, b.device)
            events = profiled.key_averages()
            spent = pd.DataFrame(
                dict(
                    operations=operation(event.key),
                    calls=event.count,
                    spent=event.self_device_time_total if gpu else event.self_cpu_time_total,
                )
                for event in events
                if event.key.startswith("aten::")
            )
            kinds = spent.groupby("operations").sum().sort_values("spent", ascending=False)
            kinds["share"] = kinds["spent"] / kinds["spent"].sum()
            for kind, row in kinds.iterrows():
                fastest = flops / flop_rate if kind == "matrix products" else np.nan
                rows.append(
                    dict(method=name, hidden=words(hidden), n=len(b.x), iteration_seconds=seconds, operations=kind)
                    | dict(share=row["share"], seconds=row["share"] * seconds, calls=int(row["calls"]))
                    | dict(seconds_at_gemm_rate=fastest)
                )
    return dict(profile=pd.DataFrame(rows))


PARTS: dict[str, Callable[[Bench], dict[str, pd.DataFrame]]] = dict(
    a=iterations, b=epochs, c=stacking, d=growth, e=limits, f=memory, g=precision, h=graphs, i=profiles
)
GPU_ONLY = ("h",)


# Targets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A number that a CSV must reach: column `value` of the rows that match, the worst of them."""

    target: str
    csv: str
    where: dict[str, Any]
    required: float
    value: str = "ratio"
    at_least: bool = True
    device: str = "both"


def _targets() -> list[Target]:
    narrow, wide, kept = "100-100", "1000-1000", "gradient kept"
    made = [
        Target(f"{title} iteration over the straightforward one, {net}", "iteration", where, required)
        for name, title, nets, required in (
            ("tiam", "TIAM", (narrow, wide), 8),
            ("mdlam", "mDLAM", (narrow, wide), 8),
            ("dladmm", "dlADMM", (narrow, wide), 8),
            ("bcd", "BCD", (wide,), 2),
        )
        for net in nets
        for where in [dict(method=name, hidden=net, majoriser=kept)]
    ]
    for name in BACKTRACKING:
        released = dict(method=name, majoriser="gradient recomputed, as released")
        title = f"{method(name).title} iteration over the one with the released majoriser, {narrow}"
        made.append(Target(title, "iteration", released, 8))
    for name in FULL_BATCH:
        title = f"{method(name).title} iterates off the straightforward ones, relative"
        made.append(Target(title, "iteration", dict(method=name), 1e-4, "difference", at_least=False))
    for name in FULL_BATCH:
        title = f"{method(name).title} iterates in float32 off float64, relative"
        made.append(Target(title, "precision", dict(method=name), 1e-4, "difference", at_least=False))
    for net in (narrow, wide):
        made.append(Target(f"TIAM share of the limit, {net}", "limit", dict(method="tiam", hidden=net), 0.5, "share"))
    for against, required in (("DataLoader", 3), ("tensors in memory", 1.8)):
        for name in ("sgd", "adam"):
            where = dict(method=name, runs=CPU_STACK, against=against)
            made.append(Target(f"{method(name).title} epoch over the loop, {against}", "epoch", where, required))
    made += [
        Target("AM-Adam epoch over per-layer autograd", "epoch", dict(method="am-adam", runs=CPU_STACK), 3),
        Target("SAMT step, FLOPs over the least", "limit", dict(method="samt"), 1.6, "flops_over_least", False),
        Target(
            "SAMT step, seconds over SGD's, over their FLOP ratio",
            "limit",
            dict(method="samt", runs=CPU_STACK),
            1.25,
            "seconds_over_flops_over_sgd",
            False,
        ),
        Target("16 stacked runs over runs in a row, batch 32", "stacking", dict(runs=16, batch=32), 2, device="cpu"),
        Target("a twentieth of reproduce-all in light, over an earlier checkout", "light", {}, 1.5, device="cpu"),
        Target("64 stacked runs over runs in a row, batch 32", "stacking", dict(runs=64, batch=32), 30, device="cuda"),
        Target("CUDA graphs over eager steps, one run", "graphs", dict(runs=1), 3, device="cuda"),
    ]
    return made


def judged(target: Target, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """One row of targets.csv: the worst row that matches, with its interval where it has one."""
    row = dict(target=target.target, required=f"{'>=' if target.at_least else '<='} {target.required:g}")
    found = tables.get(target.csv, pd.DataFrame(columns=list(target.where)))
    for key, value in target.where.items():
        found = found[found[key] == value]
    found = found.dropna(subset=target.value) if target.value in found else found[:0]
    if found.empty:
        return row | dict(reached=None, low=None, high=None, met="not measured")
    worst = found.loc[found[target.value].idxmin() if target.at_least else found[target.value].idxmax()]
    reached = worst[target.value]
    met = reached >= target.required if target.at_least else reached <= target.required
    interval = dict(low=worst.get(f"{target.value}_low"), high=worst.get(f"{target.value}_high"))
    return row | dict(reached=reached, **interval, met="yes" if met else "no")


def write_targets(folder: Path, device: torch.device) -> Path:
    """targets.csv, and targets.md for a page, from the CSVs of the folder."""
    tables = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv") if path.stem != "targets"}
    wanted = [target for target in _targets() if target.device in ("both", device.type)]
    path = folder / "targets.csv"
    rows = pd.DataFrame([judged(target, tables) for target in wanted])
    write_whole(path, rows.to_csv(index=False, float_format="%.4g"))
    lines = ["| Target | Asked | Reached | Met |", "|---|---:|---:|---|"]
    for row in rows.itertuples():
        spread = f" ({row.low:.3g} to {row.high:.3g})" if pd.notna(row.low) else ""
        reached = f"{row.reached:.3g}{spread}" if pd.notna(row.reached) else "–"
        lines.append(f"| {row.target} | {row.required} | {reached} | {row.met} |")
    write_whole(path.with_suffix(".md"), "\n".join(lines) + "\n")
    return path


# The suite itself, before and after -------------------------------------------------------------------------------


def light(before: Path, folder: str | None, results: Path, repetitions: int = 2, share: int = 20) -> Path:
    """light.csv: `reproduce run` of the light profile with a twentieth of the epochs, in another checkout and in this one.

    Both run the grids that both have, but for those apart from reproduce-all, from an empty store, in alternation.
    """
    after = Path(__file__).parent.parent
    theirs = before.resolve() / "reproduce" / "grids"
    if not theirs.is_dir():
        raise InputError(f"{before} is no checkout of this repository: it has no folder reproduce/grids.")
    if before.resolve() == after:
        raise InputError(f"{before} is this checkout; give the folder of another one.")
    ours, older = ({path.stem for path in grids.glob("*.toml")} for grids in (FOLDER, theirs))
    names = sorted((ours & older) - {*APART} - {*_apart(theirs.parent / "grid.py")})
    seconds = {before.resolve(): [], after: []}
    with tempfile.TemporaryDirectory() as place:
        grids = Path(place, "grids")
        grids.mkdir()
        for name in names:
            # The older text for both, so that both train the same runs.
            (grids / f"{name}.toml").write_text(shortened((theirs / f"{name}.toml").read_text(), share))
        for i in range(repetitions):
            for checkout, kept in seconds.items():
                out = Path(place, f"{'after' if checkout == after else 'before'} {i}")
                command = [sys.executable, "-m", "reproduce", "run", *names, "--profile", "light", "--device", "cpu"]
                command += ["--grids", str(grids), "--results", str(out / "results"), "--figures", str(out / "figures")]
                command += ["--data", str(Path(folder).resolve())] if folder else []
                environment = dict(os.environ, PYTHONPATH=str(checkout))
                began = time.perf_counter()
                done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
                kept.append(time.perf_counter() - began)
                if done.returncode:
                    raise InputError(f"{checkout}: `reproduce run` failed: {(done.stderr.splitlines() or ['?'])[-1]}")
    old, new = (np.array(values) for values in seconds.values())
    row = dict(grids=" ".join(names), epochs=f"1/{share} of light's", repetitions=repetitions)
    row |= dict(before_seconds=np.median(old), seconds=np.median(new)) | spread(old / new, "ratio")
    path = results / "bench" / "light.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, pd.DataFrame([row]).to_csv(index=False, float_format="%.6g"))
    write_targets(path.parent, torch.device("cpu"))
    return path


def _apart(module: Path) -> tuple[str, ...]:
    """The grids that another checkout's `all` leaves out."""
    lines = [node for node in ast.parse(module.read_text()).body if isinstance(node, ast.Assign)]
    return next(ast.literal_eval(line.value) for line in lines if ast.unparse(line.targets[0]) == "APART")


def shortened(text: str, share: int) -> str:
    """A grid with a `share`-th of the light profile's epochs, one evaluation interval at the least."""
    raw = tomllib.loads(text)
    profile = raw.get("profile", {}).get("light", {})
    common = raw | profile

    def fewer(table: dict[str, Any]) -> dict[str, Any]:
        of = common | table
        every = of.get("evaluate_every", 1)
        return table | dict(epochs=max(1, int(-(-every // 1)), of["epochs"] // share))

    blocks = [fewer(block) if {"epochs", "evaluate_every"} & block.keys() else block for block in raw.pop("methods")]
    raw.pop("profile", None)
    tables = [(raw, ""), *((block, "[[methods]]") for block in blocks), (fewer(profile), "[profile.light]")]
    lines = []
    for table, heading in tables:
        lines += [heading, *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# Figure -----------------------------------------------------------------------------------------------------------


def draw(folder: Path, figures: Path) -> list[Path]:
    """bench.pdf and bench.png: a panel for each part whose CSV is there."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from reproduce.figures import save
    from reproduce.sheet import STYLE, TWO_COLUMNS

    there = [name for name in PANELS if (folder / f"{name}.csv").exists()]
    panels = [(PANELS[name], pd.read_csv(folder / f"{name}.csv")) for name in there]
    if not panels:
        return []
    with style.context(STYLE):
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(TWO_COLUMNS, 2.3 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        for place, (panel, frame) in enumerate(panels, 1):
            panel(figure.add_subplot(rows, columns, place), frame)
        paths = [figures / f"bench.{suffix}" for suffix in ("pdf", "png")]
        for path in paths:
            save(figure, path)
    return paths


def _bars(
    ax,
    labels: Sequence[str],
    frame: pd.DataFrame,
    value: str,
    colours: Sequence[str],
    title: str,
    digits: int = 1,
) -> None:
    """Horizontal bars from top to bottom with quartiles and the number beside."""
    from reproduce.sheet import GREY, SMALL

    places = np.arange(len(frame))[::-1]
    middle, low, high = (frame[f"{value}{end}"].to_numpy() for end in ("", "_low", "_high"))
    ax.barh(places, middle, 0.7, color=colours)
    reach = middle - low, high - middle
    ax.errorbar(middle, places, xerr=reach, fmt="none", ecolor=GREY, elinewidth=0.8, capsize=1.5)
    for place, number, end in zip(places, middle, high):
        text, beside = f"{number:.{digits}f}", dict(textcoords="offset points", va="center", fontsize=SMALL)
        ax.annotate(text, (end, place), (3, 0), **beside)
    ax.set_yticks(places, labels)
    ax.set_xlim(0, 1.18 * high.max() or 1)
    ax.grid(axis="y", visible=False)
    ax.set_title(title, loc="left")


def _methods_of(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    from reproduce.sheet import style_of

    return [methods()[name].title for name in frame["method"]], [style_of(name).colour for name in frame["method"]]


def _iteration_panel(ax, frame: pd.DataFrame) -> None:
    frame = frame[frame["majoriser"] == "gradient kept"]
    titles, colours = _methods_of(frame)
    labels = [f"{title}, {net}" for title, net in zip(titles, frame["hidden"])]
    _bars(ax, labels, frame, "ratio", colours, "a  Full-batch iteration")
    ax.set_xlabel("times faster than straightforward")


def _epoch_panel(ax, frame: pd.DataFrame) -> None:
    frame = frame[(frame["runs"] == frame["runs"].max()) & (frame["against"] != "tensors in memory")]
    titles, colours = _methods_of(frame)
    _bars(ax, titles, frame, "ratio", colours, f"b  Epoch, {frame['runs'].max()} stacked runs")
    ax.set_xlabel("times faster than the usual loop")


def _stacking_panel(ax, frame: pd.DataFrame) -> None:
    for (batch, part), line in zip(frame.groupby("batch"), ("solid", "dashed")):
        ax.plot(part["runs"], part["ratio"], linestyle=line, color="black", marker="v", label=f"batch {batch}")
        ax.fill_between(part["runs"], part["ratio_low"], part["ratio_high"], color="black", alpha=0.15, linewidth=0)
    _log_x(ax, sorted(set(frame["runs"])))
    ax.set_ylim(0)
    ax.set_xlabel("runs in the stack")
    ax.set_ylabel("times faster than in a row")
    ax.set_title("c  Stacked runs, SGD", loc="left")
    ax.legend(loc="lower right")


def _exponent_panel(ax, frame: pd.DataFrame) -> None:
    titles, colours = _methods_of(frame)
    places = np.arange(len(frame))[::-1]
    reach = (frame["exponent"] - frame["exponent_low"], frame["exponent_high"] - frame["exponent"])
    for place, colour, (_, row), low, high in zip(places, colours, frame.iterrows(), *reach):
        ax.errorbar(row["exponent"], place, xerr=[[low], [high]], fmt="o", color=colour, elinewidth=0.9, capsize=1.5)
    ax.axvline(1, color="black", linewidth=0.6)
    ax.set_yticks(places, [f"{title}, {axis}" for title, axis in zip(titles, frame["axis"])])
    ax.set_ylim(-0.6, len(frame) - 0.4)
    ax.set_xlim(min(0.0, frame["exponent"].min() - 0.2), max(2.0, frame["exponent"].max() + 0.2))
    ax.grid(axis="y", visible=False)
    ax.set_title("d  Growth of a step's time", loc="left")
    ax.set_xlabel("exponent, with its 95 % interval")


def _limit_panel(ax, frame: pd.DataFrame) -> None:
    titles, colours = _methods_of(frame)
    counts = [f"{runs} run{'s' * (runs > 1)}" for runs in frame["runs"]]
    what = np.where(frame["method"] == "tiam", frame["hidden"], counts)
    _bars(ax, [f"{title}, {w}" for title, w in zip(titles, what)], frame, "share", colours, "e  Share of the limit", 2)
    ax.set_xlim(0, max(1.0, 1.18 * frame["share_high"].max()))
    ax.set_xlabel("least time over measured time")


def _memory_panel(ax, frame: pd.DataFrame) -> None:
    titles, colours = _methods_of(frame)
    frame = frame.assign(ratio_low=frame["ratio"], ratio_high=frame["ratio"])
    _bars(ax, titles, frame, "ratio", colours, "f  Memory of a run", 2)
    ax.axvline(1, color="black", linewidth=0.6)
    ax.set_xlabel("measured over predicted")


def _log_x(ax, ticks: Sequence[float]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:g}" if i % 2 == 0 else "" for i, tick in enumerate(ticks)], minor=False)


PANELS = dict(
    iteration=_iteration_panel,
    epoch=_epoch_panel,
    stacking=_stacking_panel,
    exponents=_exponent_panel,
    limit=_limit_panel,
    memory=_memory_panel,
)


if __name__ == "__main__":
    print(json.dumps(peak_of(json.loads(sys.argv[1]))))
