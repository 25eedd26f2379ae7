"""Parts b, c and h: epochs of the mini-batch methods, stacks of runs, CUDA graphs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from am.graphs import EAGER_STEPS, Recorder, captured, cuda_graph
from am.method import Problem
from am.run import Run
from reproduce.bench.measure import (
    CLASSES,
    Bench,
    alternate,
    difference,
    launch,
    launch_straightforward,
    seconds_of,
    spread,
    train_steps,
    words,
)

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
PER_LAYER = ("am-adam", "samt", "sam")
GRAPHED = ("sgd", "adam", "samt", "am-adam")


def epochs(b: Bench) -> dict[str, pd.DataFrame]:
    """`steps` steps of an epoch, scaled to the whole: alone, in a stack, and the comparators."""
    hidden, rows = b.scale.networks[0], []
    per_epoch = len(b.x) // b.scale.batch
    steps = min(b.scale.steps, per_epoch)
    for name in (*LOOPS, *PER_LAYER):
        sizes = (1, b.scale.stack)
        runs = [launch(name, b.x, b.y, hidden, R, b.scale.batch) for R in sizes]
        works = [lambda run=run: train_steps(run, steps) for run in runs]
        others, trained = _comparators(b, name, hidden, steps)
        for work in (*works, *others.values()):
            work()
        seconds = alternate([*works, *others.values()], b.scale.repetitions, b.device, [*runs, *trained])
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


def _comparators(
    b: Bench, name: str, hidden: Sequence[int], steps: int
) -> tuple[dict[str, Callable[[], None]], list[Any]]:
    """What a method's epoch is compared with, and what that trains."""
    if name in PER_LAYER:
        order = torch.randperm(len(b.x))[: steps * b.scale.batch].view(steps, -1).to(b.device)
        slow = launch_straightforward(name, b.x, b.y, hidden, batches=order)
        return {"autograd": lambda: slow.step(steps)}, [slow]
    order = torch.randperm(len(b.x))[: steps * b.scale.batch]
    loops, nets = {}, []
    for key, batches in (("DataLoader", _loaded(b, order)), ("tensors in memory", _gathered(b, order))):
        net, rule = _network(b.x.shape[1], hidden, LOOPS[name], b.device)
        loops[key] = lambda batches=batches, net=net, rule=rule: _fit(net, rule, batches)
        nets.append(net)
    return loops, nets


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


def _network(
    inputs: int, hidden: Sequence[int], optimiser: Callable, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer]:
    widths = (inputs, *hidden)
    layers = [layer for pair in zip(widths, hidden) for layer in (nn.Linear(*pair), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES)).to(device)
    return net, optimiser(net.parameters())


def _fit(net: nn.Module, rule: torch.optim.Optimizer, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
    for x, y in batches():
        rule.zero_grad()
        F.cross_entropy(net(x), y).backward()
        rule.step()


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
            seconds = alternate(works, b.scale.repetitions + 2, b.device, [run, single])
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


def graphs(b: Bench, record: Recorder = cuda_graph) -> dict[str, pd.DataFrame]:
    """Eager and replayed steps of two runs from one start, as the training loop makes them, and where they end."""
    hidden, steps, rows = b.scale.networks[0], b.scale.steps, []
    for name in GRAPHED:
        for R in b.scale.graph_runs:
            eager, replayed = (launch(name, b.x, b.y, hidden, R, b.scale.batch) for _ in range(2))
            works = [lambda: train_steps(eager, steps), replaying(replayed, steps, record)]
            train_steps(eager, EAGER_STEPS)
            alternate(works, 1, b.device)
            seconds = alternate(works, b.scale.repetitions + 2, b.device, [eager, replayed]) / steps
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
