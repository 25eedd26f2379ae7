"""Derived tables: from `runs.csv` and `curves.csv` to small CSVs beside them, the same bytes for the same CSVs.

results/<grid>/convergence.csv   grids with objectives or gradient norms: monotone share, fitted rate
results/<grid>/stability.csv     grids over initial step sizes
results/<grid>/to_target.csv     grids with a target: what each method had spent when it reached it
results/<grid>/step_cost.csv     grids of the time lane: seconds and FLOPs per block update and per full step
results/<grid>/improvement.csv   grids that compare accuracies: for each pair of labels, how often one is better
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from am.errors import InputError
from reproduce.evidence import door
from reproduce.evidence.about import Abouts, Target
from reproduce.evidence.files import Stale, write
from reproduce.evidence.places import place
from reproduce.judge.convergence import convergence_table
from reproduce.judge.improvement import improvement_table
from reproduce.judge.stability import stability_table, sweeps_step_sizes
from reproduce.judge.targets import cost_table, target_table

COMPARED = ("fair", "fair_minibatch", "tiam_accuracy", "samt_accuracy", "samt_networks")
PER_GRID = ("convergence", "stability", "to_target", "step_cost", "improvement")


def write_derived(results: Path, profile: str, about: Abouts) -> list[Path]:
    """Write what can be derived from the CSVs of a profile; returns the paths of all tables that are there.

    results: the folder of all profiles.

    Where the rows make no table (any more: seeds or a reference are missing), an earlier one is deleted.
    """
    written = []
    for path in sorted(place(results, profile).glob("*/runs.csv")):
        grid, curves = path.parent.name, path.with_name("curves.csv")
        try:
            runs = door.runs(path.parent)
        except Stale:
            for name in PER_GRID:
                path.with_name(f"{name}.csv").unlink(missing_ok=True)
            continue
        points = door.curves(path.parent) if curves.exists() else pd.DataFrame()
        for name, made in _tables(grid, runs, points, about(grid, profile).targets).items():
            target = path.with_name(f"{name}.csv")
            table = _or_none(made)
            if table is not None and len(table):
                write(target, table, digits=6)
                written.append(target)
            else:
                target.unlink(missing_ok=True)
    return written


def _tables(
    grid: str, runs: pd.DataFrame, curves: pd.DataFrame, goals: Sequence[Target]
) -> dict[str, Callable[[], pd.DataFrame]]:
    """The tables that a grid is there for, by name."""
    made: dict[str, Callable[[], pd.DataFrame]] = {}
    if len(curves):
        made["convergence"] = lambda: convergence_table(runs, curves)
        if sweeps_step_sizes(runs):
            made["stability"] = lambda: stability_table(runs, curves)
        if goals:
            made["to_target"] = lambda: target_table(runs, curves, goals)
    if runs["lane"].eq("time").any():
        made["step_cost"] = lambda: cost_table(runs)
    if grid in COMPARED:
        made["improvement"] = lambda: improvement_table(runs)
    return made


def _or_none(made: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    """The table, or None where a part of the grid is still to be run; its claims say what is missing."""
    try:
        return made()
    except InputError:
        return None
