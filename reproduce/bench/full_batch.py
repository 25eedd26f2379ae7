"""Parts a, g and i: iterations of the full-batch methods, their precision, and where their seconds go."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from am.counters import flops_of
from reproduce.bench.limits import machine_rates
from reproduce.bench.measure import (
    BACKTRACKING,
    FULL_BATCH,
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
    if name in BACKTRACKING:
        # Their first iteration starts at a forward pass, where blocks have nowhere to go and take hardly a trial.
        fast.step()
        slow.step()
    else:
        launch(name, b.x, b.y, hidden).step()  # warms up the allocator
    counted = []  # a counter costs the slow side's few and long operations nothing
    works = [fast.step, lambda: counted.append(flops_of(slow.step))]
    seconds = alternate(works, b.repetitions(hidden), b.device, [fast, slow])
    gap, variable = difference(fast.variables(), slow.variables())
    return dict(
        method=name,
        hidden=words(hidden),
        n=len(b.x),
        runs=1,
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


def precision(b: Bench, iterations: int = 3) -> dict[str, pd.DataFrame]:
    """Iterates of am in float32 against am in float64: Gram matrices subtract large numbers."""
    hidden, rows = b.scale.networks[0], []
    for name in FULL_BATCH:
        single, double = (launch(name, x, b.y, hidden) for x in (b.x, b.x.double()))
        u, v = single.step(iterations).variables(), double.step(iterations).variables()
        gap, variable = difference(u, v)
        weights = [difference({key: u[key]}, {key: v[key]})[0] for key in v if key.startswith("W")]
        rows.append(
            dict(method=name, hidden=words(hidden), n=len(b.x), runs=1, iterations=iterations, difference=gap)
            | dict(difference_in=variable, difference_of_weights=max(weights))
        )
    return dict(precision=pd.DataFrame(rows))


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
    """One step of each full-batch method, of SGD and of Adam, one run alone, by kind of operation.

    The profiler's own cost is in the shares only.
    """
    flop_rate, _ = machine_rates(b.device, b.scale.gemm)
    narrow, rows = b.scale.networks[0], []
    cases = [(name, hidden, 0) for hidden in b.scale.networks for name in FULL_BATCH]
    for name, hidden, batch in [*cases, *((name, narrow, b.scale.batch) for name in ("sgd", "adam"))]:
        steps = b.scale.steps if batch else 1
        run = launch(name, b.x, b.y, hidden, 1, batch).step(2)
        flops = flops_of(run.step)
        work = functools.partial(train_steps, run, steps) if batch else run.step
        seconds = float(np.median(alternate([work], b.repetitions(hidden), b.device, [run]))) / steps
        kinds = _kinds(work, b.device)
        for kind, row in kinds.iterrows():
            fastest = flops / flop_rate if kind == "matrix products" else np.nan
            rows.append(
                dict(method=name, hidden=words(hidden), n=batch or len(b.x), runs=1, step_seconds=seconds)
                | dict(operations=kind, share=row["share"], seconds=row["share"] * seconds, calls=row["calls"] / steps)
                | dict(seconds_at_gemm_rate=fastest)
            )
    return dict(profile=pd.DataFrame(rows))


def _kinds(work: Callable[[], Any], device: torch.device) -> pd.DataFrame:
    """Calls of a work and their share of its time, by kind of operation."""
    from torch.profiler import ProfilerActivity, profile

    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiled:
        seconds_of(work, device)
    spent = pd.DataFrame(
        dict(
            operations=operation(event.key),
            calls=event.count,
            spent=event.self_device_time_total if gpu else event.self_cpu_time_total,
        )
        for event in profiled.key_averages()
        if event.key.startswith("aten::")
    )
    kinds = spent.groupby("operations").sum().sort_values("spent", ascending=False)
    return kinds.assign(share=kinds["spent"] / kinds["spent"].sum())
