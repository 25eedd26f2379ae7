"""How fast a curve falls: monotone share, fitted rates, and their levels over seeds."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from am.errors import unknown
from reproduce.judge.estimates import mean_interval, spread
from reproduce.judge.rows import check_one_row_per_seed, count_done, listed, require_columns, scores

LAWS = ("linear", "sublinear", "power")
FITTED = {"objective": "linear", "gradient_norm": "power"}
SINCE = {"objective": 18, "gradient_norm": 0}  # the first iteration that counts: TIAM's first with epsilon at its floor
CELL = ["dataset", "activation", "hidden", "label"]


def convergence(
    runs: pd.DataFrame, curves: pd.DataFrame, column: str = "objective", law: str = "linear", since: int = 0
) -> pd.DataFrame:
    """The runs with three columns about their curve: monotone_share, rate and r_squared.

    monotone_share: the share of evaluations at which the column stood no higher than at any before, but for one in
    10^6, float32's rounding. law "linear": `rate` is the factor per iteration by which the decreases v_k - v_{k+1}
    shrink, from a line through their logarithms, so that the limit need not be known (linear convergence: below 1). law
    "sublinear": the same decreases as a power of the iteration, v_k - v_{k+1} ~ k^-rate. law "power": `rate` is the
    exponent r of min_{j <= k} v_j ~ k^-r, where the start (k = 0) is among the j: it is 0 for a column that never goes
    below its start. Only iterations from `since` on count; fewer than three usable points give NaN.
    """
    if law not in LAWS:
        raise unknown("law", law, LAWS)
    require_columns(runs, ["run_key"])
    require_columns(curves, ["run_key", "iteration", column])
    # A run that stands under several labels, as the defaults do in a sweep, has its curve once for each.
    points = curves[(curves["iteration"] >= since) & np.isfinite(curves[column].astype(float))]
    points = points.drop_duplicates(["run_key", "iteration"])
    found = {}
    for key, curve in points.sort_values("iteration").groupby("run_key"):
        k, v = curve["iteration"].to_numpy(float), curve[column].to_numpy(float)
        if len(v) < 3:
            continue
        lowest = np.minimum.accumulate(v)[:-1]
        share = float(np.mean(v[1:] - lowest <= 1e-6 * np.abs(lowest)))
        found[key] = (share, *_fit(k, v, law))
    table = pd.DataFrame.from_dict(found, orient="index", columns=["monotone_share", "rate", "r_squared"])
    return runs.join(table.astype(float), on="run_key")


def _fit(k: NDArray, v: NDArray, law: str) -> tuple[float, float]:
    if law == "power":
        x, y = k, np.minimum.accumulate(v)
    else:
        x = k[1:] if law == "linear" else np.sqrt(k[1:] * k[:-1])  # the decrease belongs between the two
        y = -np.diff(v) / np.diff(k)
    if law != "linear":
        x = np.log(x, where=x > 0, out=np.full(x.shape, -np.inf))
    use = (y > 0) & np.isfinite(x)
    if use.sum() < 3:
        return math.nan, math.nan
    if np.ptp(y[use]) == 0:
        return float(law == "linear"), 0.0
    line = stats.linregress(x[use], np.log(y[use]))
    return float(math.exp(line.slope) if law == "linear" else -line.slope), float(line.rvalue**2)


def levels(
    runs: pd.DataFrame, column: str, by: str | Sequence[str] = "dataset", unfinished: float | None = None
) -> pd.DataFrame:
    """Mean and Student's interval over seeds of a column (a rate, a share), one row a (group, label), scale "level"."""
    by = listed(by)
    require_columns(runs, [*by, "label", "seed"])
    check_one_row_per_seed(runs, [*by, "label"])
    values, done = scores(runs, column, unfinished), count_done(runs, by)
    rows = []
    for group, cell in values.groupby([runs[key] for key in (*by, "label")], sort=False):
        estimate = mean_interval(cell)
        rows.append(
            dict(zip(by, group))
            | dict(a=group[-1], b="", scale="level", n=estimate.n, a_done=done[group])
            | dict(effect=estimate.value, ci_low=estimate.low, ci_high=estimate.high)
            | dict(pairs=[(seed, value, math.nan) for seed, value in sorted(zip(runs.loc[cell.index, "seed"], cell))])
        )
    return pd.DataFrame(rows)


def convergence_table(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row a setting and column (objective, gradient_norm): means and Student's 95 % intervals over seeds.

    seeds, done: runs there and finished ones. fitted: finished runs with a rate. monotone_share, rate, r_squared: as
    `convergence` under `law`, from iteration `since` on, of the finished runs alone: read `done` with them.
    """
    rows = []
    if runs.groupby(["dataset", "activation", "hidden"]).n_train.nunique().gt(1).any():
        return pd.DataFrame(rows)  # a setting is one number of rows; summary.csv has all
    for column, law in FITTED.items():
        if column not in curves or not np.isfinite(curves[column].astype(float)).any():
            continue
        found = convergence(runs, curves, column, law, SINCE[column])
        for key, cell in found.groupby(CELL, sort=False):
            done = cell[(cell["status"] == "done") & cell["monotone_share"].notna()].sort_values("seed")
            if done.empty:
                continue
            rows.append(
                dict(zip(CELL, key))
                | dict(column=column, law=law, since=SINCE[column], seeds=len(cell))
                | dict(done=int((cell["status"] == "done").sum()), fitted=int(done["rate"].notna().sum()))
                | spread("monotone_share", done["monotone_share"])
                | spread("rate", done["rate"])
                | dict(r_squared=done["r_squared"].mean())
            )
    return pd.DataFrame(rows)
