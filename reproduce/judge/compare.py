"""Methods against each other on the same seeds: paired differences, cost ratios, contrasts, and ties with the best."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from am.errors import InputError, unknown
from reproduce.judge.estimates import ALPHA, Estimate, bootstrap, mean, mean_interval, wins
from reproduce.judge.rows import (
    MIN_SEEDS,
    count_done,
    groups_of,
    is_finished,
    listed,
    only_labels,
    pivot_seeds,
    require_columns,
    scores,
    too_few,
)
from reproduce.judge.significance import cost_lean, cost_test, holm, paired_test

# The whole range of n values holds the median with probability 1 - 2^(1-n): .75 of three, .94 of five.
MEDIAN_SEEDS = 5


@dataclass(frozen=True)
class _Pairs:
    """Values of `a` and `b` paired by seed in one group; `unpaired` seeds had one of the two only.

    a_done, b_done: how many runs of the group finished. With none, a label cannot win, not even against a score below
    chance.  grain: of `paired_test`.
    """

    group: tuple[Hashable, ...]
    a: str
    b: str
    seeds: NDArray  # (n,)
    x: NDArray  # (n,)
    y: NDArray  # (n,)
    unpaired: int
    a_done: int
    b_done: int
    grain: float = 0.0


def compare(
    runs: pd.DataFrame,
    a_label: str,
    b_label: str | Sequence[str],
    by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy",
    unfinished: float | None = None,
    mark: float = 0.0,
    family: int = 0,
) -> pd.DataFrame:
    """Paired differences a - b of a metric where more is better, one row a (comparator, group).

    Columns: `by`, a, b, scale ("difference"), n (pairs), unpaired, a_done, b_done (finished runs), a_value, b_value
    (means), effect (mean difference), ci_low, ci_high (Student's 95 %), boot_low, boot_high (bootstrap), probability
    (share of seeds with a above b), test, p, gain (above 0 where a is ahead, 0 where that is not said), pairs (what is
    behind the row, of each seed), and of `decided` p_holm and outcome.
    mark: the distance of the marks to which the metric is read, 0 for none.  family: how many tests there are in all,
    by default those of this table.
    """
    runs = only_labels(runs, a_label, *listed(b_label))
    pairs = _paired(runs, scores(runs, metric, unfinished), a_label, listed(b_label), listed(by))
    pairs = [replace(pair, grain=_grain(mark, mark)) for pair in pairs]
    return _tabulate(pairs, listed(by), "difference", family)


def compare_costs(
    costs: pd.DataFrame,
    a_label: str,
    b_label: str | Sequence[str],
    by: str | Sequence[str] = "dataset",
    cost: str = "cost",
) -> pd.DataFrame:
    """Ratios a / b of a cost, paired by seed; the columns of `compare` with scale "ratio", and "better" means cheaper.

    `costs` is a frame of runs with a column of costs: of `cost_to_target`, or any (seconds, FLOPs per update). A run
    that did not finish costs infinity. a_value and b_value are medians. effect is the median ratio, taken over the
    shares a / (a + b) so that a miss is no special case: 0 where b alone missed, infinity where a alone did, 1 where
    both did; its interval is the bootstrap's of that median, NaN for fewer than MEDIAN_SEEDS seeds.
    Where the costs are read at evaluations, their column `before` has those of the evaluation before.
    """
    costs = only_labels(costs, a_label, *listed(b_label))
    pairs = _paired(costs, _costs(costs, cost), a_label, listed(b_label), listed(by))
    if "before" in costs:
        # Of a target reached by the first evaluation no ratio says how much earlier; it counts as up to half.
        read = np.log(costs[cost] / np.maximum(costs["before"], costs[cost] / 2))
        marks = read.groupby([*(costs[name] for name in listed(by)), costs["label"]]).median()
        mark = lambda pair, label: marks.get((*pair.group, label), math.nan)  # none where the label was not run
        pairs = [replace(pair, grain=_grain(mark(pair, pair.a), mark(pair, pair.b))) for pair in pairs]
    return _tabulate(pairs, listed(by), "ratio")


def contrast(
    runs: pd.DataFrame,
    a_label: str,
    b_label: str,
    column: str,
    group: Sequence[str],
    elsewhere: Sequence[str] | None = None,
    by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy",
    unfinished: float | None = None,
) -> pd.DataFrame:
    """Is the gain a - b larger where `column` is in `group` (activations of the ReLU family) than `elsewhere`?

    elsewhere: by default every value that is not in the group; a value in neither has no part in it.
    One row a group of `by`: the difference of the mean gain within and the mean gain elsewhere, paired by seed; the
    columns of `compare`. A seed counts where it has both labels at every value of the column that both were run on.
    """
    by, runs = listed(by), only_labels(runs, a_label, b_label)
    wide = pivot_seeds(runs, scores(runs, metric, unfinished), [*by, column])
    gain = (wide[a_label] - wide[b_label]).unstack(column).dropna(axis=1, how="all")
    for value in (*group, *(elsewhere or ())):
        if value not in gain.columns:
            raise unknown(column, value, map(str, gain.columns))
    rest = gain.drop(columns=list(group)) if elsewhere is None else gain[list(elsewhere)]
    if rest.empty:
        raise InputError(f"every {column} is in the group, so there is nothing to contrast it with.")
    inside, outside = f"{a_label} - {b_label}, {', '.join(map(str, group))}", f"{a_label} - {b_label} elsewhere"
    both = rest.mean(axis=1, skipna=False).to_frame(outside)
    both[inside] = gain[list(group)].mean(axis=1, skipna=False)
    mine = runs[(runs["label"] == a_label) & runs[column].isin([*group, *rest.columns])]
    done = count_done(mine.assign(label=np.where(mine[column].isin(group), inside, outside)), by)
    pairs = [_pair(both, done, key, inside, outside) for key in groups_of(runs, by)]
    return _tabulate(pairs, by, "difference")


def best_and_ties(
    runs: pd.DataFrame, by: str | Sequence[str] = "dataset", metric: str = "test_accuracy",
    unfinished: float | None = None,
) -> pd.DataFrame:  # fmt: skip
    """What a table prints in bold: one row a (group, label) with `best` and `among_best`.

    best: the highest mean score. among_best: the best, and every label that the paired test does not find worse at
    ALPHA. That test stands alone: Holm's correction over many labels would make ties easier to have, and print .75 in
    bold beside .97 after three seeds. outcome: "best", "tied" or "worse" after Holm over the group's labels, "untested"
    where seeds do not suffice, "failed" where no run finished; what failed or was not tested is among the best nowhere.
    n: the label's seeds.
    """
    by = listed(by)
    wide, done = pivot_seeds(runs, scores(runs, metric, unfinished), by), count_done(runs, by)
    rows = []
    for group in groups_of(runs, by):
        average = _at(wide, group).mean().dropna()
        able = [label for label in average.index if done[*group, label]]
        best = average[able].idxmax() if able else None
        pairs = [_pair(wide, done, group, best, label) for label in able if label != best]
        table = _tabulate(pairs, by, "difference").set_index("b")
        for label, score in average.items():
            seeds = int(_at(wide, group)[label].notna().sum())
            row = dict(zip(by, group)) | dict(label=label, n=seeds, score=score, p=math.nan, p_holm=math.nan)
            if label in table.index:
                p, p_holm = table.loc[label, ["p", "p_holm"]]
                outcome = "untested" if math.isnan(p) else "worse" if p_holm < ALPHA else "tied"
                row |= dict(p=p, p_holm=p_holm, outcome=outcome)
            else:
                row |= dict(outcome="best" if label == best else "failed")
            row["pairs"] = [(seed, value, math.nan) for (*_, seed), value in _at(wide, group)[label].dropna().items()]
            row["best"] = label == best
            row["among_best"] = row["best"] or bool(row["p"] >= ALPHA)
            rows.append(row)
    return pd.DataFrame(rows)


def bold(runs: pd.DataFrame, by: str | Sequence[str] = "dataset") -> pd.Series:
    """(group, label) -> whether it is among the best of `best_and_ties`, and has the seeds of which a test is made."""
    table = best_and_ties(runs, by).set_index([*listed(by), "label"])
    return table["among_best"] & (table["n"] >= MIN_SEEDS)


def mean_of(
    runs: pd.DataFrame, labels: Sequence[str], name: str, by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy", unfinished: float | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Rows of a label `name` whose metric is the mean over `labels`: one row a (group, seed) that all of them have."""
    by, runs = listed(by), only_labels(runs, *labels)
    finished = pivot_seeds(runs, is_finished(runs).astype(float), by).max(axis=1) > 0
    means = pivot_seeds(runs, scores(runs, metric, unfinished), by).mean(axis=1, skipna=False).rename(metric).dropna()
    return means.reset_index().assign(label=name, status=np.where(finished[means.index], "done", "failed"))


def _costs(costs: pd.DataFrame, cost: str) -> pd.Series:
    require_columns(costs, ["status", cost])
    values = costs[cost].astype(float).where(is_finished(costs), math.inf)
    if values.isna().any() or (values < 0).any():
        raise InputError(f"column '{cost}' has a missing or negative cost; a miss is infinite.")
    return values


def _paired(runs: pd.DataFrame, values: pd.Series, a: str, others: list[str], by: Sequence[str]) -> list[_Pairs]:
    if a in others:
        raise InputError(f"'{a}' cannot be compared with itself.")
    wide, done = pivot_seeds(runs, values, by), count_done(runs, by)
    return [_pair(wide, done, group, a, b) for b in others for group in groups_of(runs, by)]


def _pair(wide: pd.DataFrame, done: Counter, group: tuple, a: str, b: str) -> _Pairs:
    cell = _at(wide, group)[[a, b]]
    both = cell.dropna()
    unpaired = int(cell.notna().any(axis=1).sum()) - len(both)
    seeds = both.index.get_level_values(-1).to_numpy()
    values = both[a].to_numpy(), both[b].to_numpy()
    return _Pairs(group, a, b, seeds, *values, unpaired, done[*group, a], done[*group, b])


def _at(wide: pd.DataFrame, group: tuple) -> pd.DataFrame:
    """The rows of one group; the last level of the index is the seed."""
    mask = np.ones(len(wide), bool)
    for level, value in enumerate(group):
        mask &= wide.index.get_level_values(level) == value
    return wide[mask]


def _share(x: NDArray, y: NDArray) -> NDArray:
    """a / (a + b) of two costs in [0, inf]: 1/2 where they are equal, 0 or 1 where one of them is a miss."""
    share = np.full(len(x), 0.5)
    share[x > y], share[x < y] = 1.0, 0.0
    finite = np.isfinite(x) & np.isfinite(y) & (x + y > 0)
    share[finite] = x[finite] / (x[finite] + y[finite])
    return share


def _as_ratio(share: Estimate) -> Estimate:
    back = lambda s: s / (1 - s) if s < 1 else math.inf if s == 1 else math.nan  # NaN stays NaN
    return Estimate(back(share.value), back(share.low), back(share.high), share.n)


def _grain(a: float, b: float) -> float:
    """The standard deviation of a difference of two readings, each rounded to marks so far apart."""
    return math.sqrt((a**2 + b**2) / 12)


def _describe(pair: _Pairs, scale: str) -> dict[str, float]:
    if not len(pair.x):
        a = b = probability = math.nan
        effect = boot = mean_interval([])
    elif scale == "ratio":
        share = _share(pair.x, pair.y)
        a, b, probability = np.median(pair.x), np.median(pair.y), wins(0.5 - share, -1)
        effect = boot = _as_ratio(bootstrap([share], np.median, MEDIAN_SEEDS))
    else:
        difference = pair.x - pair.y
        a, b, probability = np.sort(pair.x).mean(), np.sort(pair.y).mean(), wins(difference, -1)
        effect, boot = mean_interval(difference), mean([difference])
    return dict(
        a_value=float(a), b_value=float(b), effect=effect.value, ci_low=effect.low, ci_high=effect.high,
        boot_low=boot.low, boot_high=boot.high, probability=float(probability),
    )  # fmt: skip


def _tabulate(pairs: Sequence[_Pairs], by: Sequence[str], scale: str, family: int = 0) -> pd.DataFrame:
    """Describe, test and decide every pair. family: as `compare` has it."""
    family = family or sum(len(pair.x) >= MIN_SEEDS for pair in pairs)
    rows = []
    for pair in pairs:
        test, p = too_few(len(pair.x)), math.nan
        if len(pair.x) >= MIN_SEEDS:
            x, y = pair.x, pair.y
            test, p = (
                cost_test(x, y, family, pair.grain) if scale == "ratio" else paired_test(x - y, family, pair.grain)
            )
        described = _describe(pair, scale)
        gain = described["effect"]
        if scale == "ratio":
            # The median ratio is not what the test is of: where the two point apart, neither is better.
            lean = cost_lean(pair.x, pair.y) if len(pair.x) else 0.0
            gain = 1 - gain if np.sign(1 - gain) == -np.sign(lean) else 0.0
        rows.append(
            dict(zip(by, pair.group))
            | dict(a=pair.a, b=pair.b, scale=scale, n=len(pair.x), unpaired=pair.unpaired)
            | dict(a_done=pair.a_done, b_done=pair.b_done)
            | described
            | dict(test=test, p=p, gain=gain, pairs=list(zip(pair.seeds, pair.x, pair.y)))
        )
    columns = [
        *by, "a", "b", "scale", "n", "unpaired", "a_done", "b_done", "a_value", "b_value", "effect", "ci_low",
        "ci_high", "boot_low", "boot_high", "probability", "test", "p", "gain", "pairs",
    ]  # fmt: skip
    return decided(pd.DataFrame(rows, columns=columns))


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """The table with p_holm, Holm's correction over all its rows, and the outcome of each row.

    "better": a is ahead at p < ALPHA. "Better than every comparator" holds where it holds against each, so that it
    needs no correction (intersection-union). "worse": a is behind at p_holm < ALPHA, since one of many is so by chance.
    "tied": neither; "untested": too few seeds.
    """
    p_holm = pd.Series(holm(table["p"]), table.index)
    better = (table["p"] < ALPHA) & (table["gain"] > 0) & (table["a_done"] > 0)
    worse = (p_holm < ALPHA) & (table["gain"] < 0) & (table["b_done"] > 0)
    outcome = np.select([table["p"].isna(), better, worse], ["untested", "better", "worse"], "tied")
    return table.assign(p_holm=p_holm, outcome=outcome)
