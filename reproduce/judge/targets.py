"""What a method had spent when it reached a target, and what a step of it costs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from am.errors import InputError
from am.methods import methods
from reproduce.evidence.about import Target
from reproduce.judge.estimates import spread
from reproduce.judge.rows import is_finished, listed, only_labels, pivot_seeds, require_columns, scores

# Each step takes one gradient of all layers, which is counted once, and then works on single layers.
FULL_FIRST = ("locoprop", "proxprop")
COSTS = ("epoch", "iteration", "parameter_updates", "gradient_evaluations", "flops", "seconds")


def targets(
    runs: pd.DataFrame, reference: str, by: str | Sequence[str] = "dataset", metric: str = "val_accuracy",
    share: float = 1.0,
) -> pd.Series:  # fmt: skip
    """A target per group: `share` of the median final metric of one fixed reference, so no other method moves it.

    NaN where no run of the reference finished: chance, which is what such a run scores, would be no target.
    """
    runs = only_labels(runs, reference)
    goal = share * pivot_seeds(runs, scores(runs, metric), listed(by))[reference].groupby(listed(by)).median()
    finished = is_finished(runs).groupby([runs[name] for name in listed(by)]).any()
    return goal.where(finished.reindex(goal.index))


def cost_to_target(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    target: float | Mapping | pd.Series,
    cost: str = "parameter_updates",
    metric: str = "val_accuracy",
    by: str = "dataset",
) -> pd.DataFrame:
    """The runs with the columns `cost` and `before`: what had been spent at the first evaluation at which the metric
    had reached the target, and at the one before it. The target was reached between the two.

    target: one number, or one per value of `by`. A run that never reached it, or that diverged or failed, costs
    infinity and so does its `before`, also where it left no curve. Reached at the first evaluation: both are its cost.
    """
    require_columns(runs, ["run_key", "status", by])
    require_columns(curves, ["run_key", metric, cost])
    if isinstance(target, (Mapping, pd.Series)):
        missing = [name for name in runs[by].unique() if name not in target]
        if missing:
            known = ", ".join(map(str, target.keys()))
            raise InputError(f"no target for {by} '{missing[0]}'; there is one for {known}.")
        goals = runs[by].map(dict(target))
    else:
        goals = pd.Series(float(target), index=runs.index)
    goal = curves["run_key"].map(dict(zip(runs["run_key"], goals)))
    reached = curves[metric] >= goal
    if curves.loc[reached, cost].isna().any():
        raise InputError(f"the curves have no '{cost}' where the target was reached: it was not measured in this lane.")
    first = curves[reached].groupby("run_key")[cost].min()
    earlier = curves[curves[cost] < curves["run_key"].map(first)].groupby("run_key")[cost].max()
    found = runs["run_key"].map(first).astype(float)
    before = runs["run_key"].map(earlier).astype(float).fillna(found)
    there = is_finished(runs) & found.notna()
    return runs.assign(cost=found.where(there, math.inf), before=before.where(there, math.inf))


def with_block_gradients(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The curves with a column `block_gradients`: gradients of one layer on one batch, so that methods compare.

    What runs count as a gradient of all layers (every one of a gradient method's, the first of a step of FULL_FIRST) is
    one for each layer here.
    """
    require_columns(runs, ["run_key", "method", "hidden", "gradient_evaluations", "parameter_updates", "iterations"])
    known = runs.drop_duplicates("run_key").set_index("run_key")
    counted = known["gradient_evaluations"].astype(float) / known["iterations"]
    gradient = known["method"].map(lambda name: name in methods() and methods()[name].family == "gradient")
    # A step of a gradient method moves every layer: the counter knows the depth of networks that `hidden` does not say.
    layers = known["parameter_updates"] / known["iterations"]
    layers = layers.where(gradient, known["hidden"].astype(str).str.count("-") + 2)
    whole = counted.where(gradient, known["method"].isin(FULL_FIRST).astype(float))
    each = counted + whole * (layers - 1)
    return curves.assign(block_gradients=curves["iteration"] * curves["run_key"].map(each))


def at_equal_cost(
    runs: pd.DataFrame, curves: pd.DataFrame, labels: Sequence[str], cost: str, by: str = "dataset"
) -> pd.DataFrame:
    """The runs of these labels with `test_accuracy` as it was when none had spent more than each of them spends in all.

    On every group the budget is the least that a finished run of one of the labels spent; the accuracy is that of the
    last evaluation within it. A run that did not finish keeps its status, and so counts as chance.
    """
    runs = only_labels(runs, *labels)
    require_columns(curves, ["run_key", "iteration", "test_accuracy", cost])
    points = curves.drop_duplicates(["run_key", "iteration"]).sort_values("iteration")
    last = runs["run_key"].map(points.groupby("run_key")[cost].last()).where(is_finished(runs))
    budget = last.groupby(runs[by]).min()
    limit = points["run_key"].map(dict(zip(runs["run_key"], runs[by].map(budget))))
    within = points[points[cost] <= limit * (1 + 1e-9)].groupby("run_key")["test_accuracy"].last()
    return runs.assign(test_accuracy=runs["run_key"].map(within))


def performance_profile(costs: pd.DataFrame, tau: ArrayLike) -> pd.DataFrame:
    """Share of the problems (rows) that a method (column) solves within tau times the cheapest method's cost.

    One row a tau (Dolan and More, 2002). An infinite or missing cost is a miss: at no tau is it within, it never makes
    another method miss, and a problem that all methods miss counts against all of them. Raises InputError where a cost
    is negative.
    """
    cost = costs.to_numpy(float)
    if (cost < 0).any():
        raise InputError("a performance profile needs costs of at least zero; one is negative.")
    cost = np.where(np.isnan(cost), math.inf, cost)
    cheapest = cost.min(axis=1, keepdims=True)
    ratio = np.full(cost.shape, math.inf)
    solved = np.isfinite(cost)
    np.divide(cost, cheapest, out=ratio, where=solved & (cheapest > 0))
    ratio[cost == cheapest] = 1.0
    tau = np.atleast_1d(np.asarray(tau, float))
    within = (ratio[None] <= tau[:, None, None]) & solved[None]
    return pd.DataFrame(within.mean(axis=1), index=pd.Index(tau, name="tau"), columns=costs.columns)


def step_costs(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """The runs with two columns: `column` per block update (`block_step`) and per iteration (`full_step`).

    A step of SAMT is a sweep over all blocks; a full step of a gradient method updates all blocks at once.
    """
    require_columns(runs, [column, "parameter_updates", "iterations"])
    total = runs[column].astype(float)
    return runs.assign(block_step=total / runs["parameter_updates"], full_step=total / runs["iterations"])


def target_table(runs: pd.DataFrame, curves: pd.DataFrame, goals: Sequence[Target]) -> pd.DataFrame:
    """One row a target, data set, label and cost: how many seeds reached it and the median of what it had cost.

    A miss is infinite, also in the median. Raises InputError where a reference was not run.
    """
    tables = []
    costs = [cost for cost in COSTS if cost in curves and curves[cost].notna().any()]
    for wanted in goals:
        goal = targets(runs, wanted.reference, share=wanted.share)
        here = runs[runs["dataset"].isin(goal.dropna().index)]
        for cost in costs:
            found = cost_to_target(here, curves, goal, cost=cost)
            cells = found.groupby(["dataset", "label"], sort=False)["cost"]
            table = cells.agg(seeds="size", reached=lambda x: np.isfinite(x).sum(), median="median").reset_index()
            table.insert(0, "reference", wanted.reference)
            table.insert(1, "share", wanted.share)
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
                | spread("block_step", cell["block_step"])
                | spread("full_step", cell["full_step"])
            )
    return pd.DataFrame(rows)
