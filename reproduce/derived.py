"""Derived statistics: from `runs.csv` and `curves.csv` to small CSVs beside them, the same bytes for the same CSVs.

results/<grid>/convergence.csv   grids with objectives or gradient norms: monotone share, fitted rate
results/<grid>/stability.csv     grids over initial step sizes, labels "NAME, STEP"
results/<grid>/to_target.csv     grids of TARGETS: what each method had spent when it reached a fixed target
results/<grid>/step_cost.csv     grids of the time lane: seconds and FLOPs per block update and per full step
results/ranks.csv                average ranks over the data sets of the grid `fair`, and their critical difference
"""

import math
import string
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from am.errors import InputError
from reproduce.statistics import (
    STEP_LABEL,
    by_step_size,
    convergence,
    cost_to_target,
    critical_difference,
    mean_interval,
    over_settings,
    stability,
    step_costs,
    targets,
)
from reproduce.store import write_whole

RANKED = "fair"
# Grid -> reference and share of the target, as the claims have them, in the order of the rows.
TARGETS = {
    "fair": [("SGD", 0.98), ("mDLAM", 1.0)],
    "samt_updates": [("SGD", 0.98)],
    "tiam_accuracy": [("mDLAM", 1.0)],
    "tiam_time": [("mDLAM", 1.0)],
}
COSTS = ("epoch", "iteration", "parameter_updates", "gradient_evaluations", "flops", "seconds")
LAWS = {"objective": "linear", "gradient_norm": "power"}
TRANSIENT = {"objective": 20, "gradient_norm": 0}  # iterations before the fit: of TIAM's epsilon from 100 to .001
CELL = ["dataset", "activation", "hidden", "label"]


def write_derived(results: Path) -> list[Path]:
    """Write what can be derived from the CSVs in a results folder; returns the paths of all tables that are there.

    Where the rows make no table (any more: seeds or a reference are missing), an earlier one is deleted.
    """
    written = []
    for path in sorted(results.glob("*/runs.csv")):
        grid, runs, curves = path.parent.name, pd.read_csv(path), path.with_name("curves.csv")
        points = pd.read_csv(curves) if curves.exists() else pd.DataFrame()
        for name, made in _tables(grid, runs, points).items():
            target = results / "ranks.csv" if name == "ranks" else path.with_name(f"{name}.csv")
            table = _or_none(made)
            if table is not None and len(table):
                write_whole(target, table.to_csv(index=False, float_format="%.6g"))
                written.append(target)
            else:
                target.unlink(missing_ok=True)
    return written


def _tables(grid: str, runs: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Callable[[], pd.DataFrame]]:
    """The tables that a grid is there for, by name."""
    made: dict[str, Callable[[], pd.DataFrame]] = {}
    if len(curves):
        made["convergence"] = lambda: convergence_table(runs, curves)
        if runs["label"].str.match(STEP_LABEL).all():
            made["stability"] = lambda: stability_table(runs, curves)
        if grid in TARGETS:
            made["to_target"] = lambda: target_table(runs, curves, TARGETS[grid])
    if runs["lane"].eq("time").any():
        made["step_cost"] = lambda: cost_table(runs)
    if grid == RANKED:
        made["ranks"] = lambda: rank_table(runs)
    return made


def _or_none(made: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    """The table, or None where a part of the grid is still to be run; its claims say what is missing."""
    try:
        return made()
    except InputError:
        return None


def _spread(name: str, values: pd.Series) -> dict[str, float]:
    estimate = mean_interval(values.dropna().astype(float))
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def convergence_table(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row a setting and column (objective, gradient_norm): means and Student's 95 % intervals over seeds.

    seeds, done: runs there and finished ones. fitted: finished runs with a rate. monotone_share, rate, r_squared: as
    `statistics.convergence` under `law`, past iteration `after`, of the finished runs alone: read `done` with them.
    """
    rows = []
    for column, law in LAWS.items():
        if column not in curves or not np.isfinite(curves[column].astype(float)).any():
            continue
        found = convergence(runs, curves, column, law, TRANSIENT[column])
        for key, cell in found.groupby(CELL, sort=False):
            done = cell[(cell["status"] == "done") & cell["monotone_share"].notna()].sort_values("seed")
            if done.empty:
                continue
            rows.append(
                dict(zip(CELL, key))
                | dict(column=column, law=law, after=TRANSIENT[column], seeds=len(cell))
                | dict(done=int((cell["status"] == "done").sum()), fitted=int(done["rate"].notna().sum()))
                | _spread("monotone_share", done["monotone_share"])
                | _spread("rate", done["rate"])
                | dict(r_squared=done["r_squared"].mean())
            )
    return pd.DataFrame(rows)


def stability_table(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row a data set and method over its initial step sizes: the columns of `statistics.stability`, over seeds.

    mean_accuracy: of a step size drawn blindly, from all that were tried. deviation: mean distance of a seed's accuracy
    from the other seeds' median at best_step_size. Raises InputError for labels that name no step size.
    """
    family = by_step_size(runs)["label"]
    blind = over_settings(runs.assign(method=family))
    found = stability(runs, curves)
    rows = []
    for (dataset, label), cell in found.groupby(["dataset", "label"], sort=False):
        accuracy = blind.loc[(blind["dataset"] == dataset) & (blind["label"] == label), "test_accuracy"]
        rows.append(
            dict(dataset=dataset, label=label, seeds=len(cell), done=int((cell["status"] == "done").sum()))
            | dict(step_sizes=cell["step_sizes"].iloc[0], best_step_size=cell["best_step_size"].iloc[0])
            | _spread("usable_decades", cell["usable_decades"])
            | _spread("diverged_share", 1 - cell["survival"])
            | _spread("deviation", -cell["steadiness"])
            | _spread("mean_accuracy", accuracy)
        )
    return pd.DataFrame(rows)


def target_table(runs: pd.DataFrame, curves: pd.DataFrame, goals: Sequence[tuple[str, float]]) -> pd.DataFrame:
    """One row a target, data set, label and cost: how many seeds reached it and the median of what it had cost.

    A miss is infinite, also in the median. Raises InputError where a reference was not run.
    """
    tables = []
    costs = [cost for cost in COSTS if cost in curves and curves[cost].notna().any()]
    for reference, share in goals:
        goal = targets(runs, reference, share=share)
        here = runs[runs["dataset"].isin(goal.dropna().index)]
        for cost in costs:
            found = cost_to_target(here, curves, goal, cost=cost)
            cells = found.groupby(["dataset", "label"], sort=False)["cost"]
            table = cells.agg(seeds="size", reached=lambda x: np.isfinite(x).sum(), median="median").reset_index()
            table.insert(0, "reference", reference)
            table.insert(1, "share", share)
            table.insert(4, "target", table["dataset"].map(goal))
            table.insert(5, "cost", cost)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def cost_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a data set, label and cost (seconds, flops): per block update and per full step, over finished runs."""
    rows = []
    for column in ("seconds", "flops"):
        costs = step_costs(runs[runs["status"] == "done"], column)
        for (dataset, label), cell in costs.groupby(["dataset", "label"], sort=False):
            cell = cell.sort_values("seed")
            updates = cell["parameter_updates"] / cell["iterations"]
            rows.append(
                dict(dataset=dataset, label=label, cost=column, seeds=len(cell), updates_per_step=updates.mean())
                | _spread("block_step", cell["block_step"])
                | _spread("full_step", cell["full_step"])
            )
    return pd.DataFrame(rows)


def rank_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Average ranks over data sets, best first, with Friedman's p and Nemenyi's critical difference in every row.

    groups: letters of the sets of labels that do not differ. A label not run on every data set has no rank.
    Raises InputError for fewer than three labels or two data sets.
    """
    found = critical_difference(runs)
    groups = list(zip(string.ascii_letters, found.groups))
    letters = ["".join(letter for letter, group in groups if label in group) for label in found.ranks.index]
    ranked = pd.DataFrame(dict(label=found.ranks.index, average_rank=found.ranks.to_numpy(), groups=letters))
    rest = pd.DataFrame(dict(label=list(found.left_out), average_rank=math.nan, groups=""))
    table = pd.concat([ranked, rest], ignore_index=True) if len(rest) else ranked
    return table.assign(
        data_sets=found.blocks, friedman=found.statistic, p=found.p, critical_difference=found.critical_difference
    )
