"""Full-batch steps of a stack on a CPU, one run after the other, so that no number of a run depends on its neighbours.

A product or a sum over many samples is rounded one way for a single run and another way for a stack of them, whose
parts are shared out among threads otherwise. A step over all samples keeps a CPU busy by itself, so that stacking gains
nothing there. A GPU steps the whole stack at once.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am import devices
from am.method import Problem

ALIGNMENT = 64  # bytes, at multiples of which torch begins a tensor on a CPU


def run_by_run(function: Callable) -> Callable:
    """`function(state, problem, hp, ...)` called for every run of a stack; its (R, ...) results together, if any.

    The state's tensors must be changed in place: a run is given its part of them (`run_of`).
    """

    @wraps(function)
    def each(state: Any, problem: Problem, hp: SimpleNamespace, *others: Any) -> Tensor | None:
        runs = state.params.runs
        if devices.on_gpu(problem.x) or runs == 1:
            return function(state, problem, hp, *others)
        results = []
        for r in range(runs):
            moved: list[tuple[Tensor, Tensor]] = []
            results.append(function(run_of(state, r, moved), problem, run_of(hp, r, moved), *others))
            for view, copy in moved:
                view.copy_(copy)
        return torch.cat(results) if isinstance(results[0], Tensor) else None

    return each


def run_of(part: Any, r: int, moved: list[tuple[Tensor, Tensor]]) -> Any:
    """Run r of a state or of settings: what has a run axis cut to it, the rest as it is.

    Three axes or one are (R, n, m) or (R,), two are shared data; a list has an entry a layer, a tuple an entry a run.
    A cut is a view, or where that would begin at another kind of address than a run alone has, by which products are
    rounded, a copy: `moved` takes the view and its copy, for the way back.
    """
    if isinstance(part, Tensor):
        if part.dim() not in (1, 3):
            return part
        view = part[r : r + 1]
        if view.data_ptr() % ALIGNMENT == 0:
            return view
        moved.append((view, view.clone(memory_format=torch.contiguous_format)))
        return moved[-1][1]
    if isinstance(part, list):
        return [run_of(u, r, moved) for u in part]
    if isinstance(part, tuple):
        return part[r : r + 1]
    if isinstance(part, SimpleNamespace):
        return SimpleNamespace(**{name: run_of(value, r, moved) for name, value in vars(part).items()})
    if is_dataclass(part) and not isinstance(part, type):
        return type(part)(**{f.name: run_of(getattr(part, f.name), r, moved) for f in fields(part)})
    return part
