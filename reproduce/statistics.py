"""Statistics: from rows of runs to intervals, tests, ranks and verdicts. Pure functions on data frames, no files.

The protocol, each line held by a test:
 1. The seed is the unit of replication: one row per (setting, seed). Two rows of one seed in one cell are refused,
    never counted as two.
 2. Methods share seeds, so comparisons are paired by seed. Unpaired seeds are left out of a comparison and counted.
 3. A run that diverged or failed is kept: it scores chance level as an accuracy and infinity as a cost. A method all
    of whose runs did so never ranks first, is never in bold and never carries a claim.
 4. A missed target costs infinity. A run that reached the target and diverged afterwards missed it.
 5. One seed gives no interval (NaN), not one of width zero; fewer than MIN_SEEDS pairs give no test.
 6. Numbers of a method depend on its own runs alone (and, in a comparison, on its comparator's): neither other methods
    nor the order of the rows change them. Ranks, profiles and ties with the best are relative by definition.
 7. Tests are two-sided at ALPHA, with Holm's correction over the family: the groups (data sets) compared with one
    comparator. "Better than every comparator" is an intersection of hypotheses and needs no further correction. Bold
    type for ties with the best goes by the uncorrected test, which grants fewer of them.
 8. Which test is decided by the number of seeds, before any value is seen: the exact sign-flip permutation test where
    its smallest possible p, 2^(1-n), times the size of the family is within ALPHA; the paired t-test where it is not
    (five seeds: 1/16, so no exact paired test can reach 5 %).
 9. The interval of a mean on one data set is Student's. On normal samples of 3, 5, 10 its nominal 95 % covers .95,
    the percentile bootstrap's .75, .84, .90; the bootstrap serves where data sets are pooled (stratified, seeds
    resampled within each) and is given beside it elsewhere.
10. Measures of stability are relative to a method's own best, so a method that learns nowhere has the worst of each,
    however little it varies: no usable step size, no survival where training did not finish below its first loss,
    and the largest distance between seeds.

Frames are `runs.csv` and `curves.csv` as `reproduce.collect` writes them; accuracies are fractions.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from am.errors import InputError, unknown

ALPHA = 0.05
CHANCE = 0.1  # every data set has ten classes
USELESS = 2 * CHANCE  # a run that ends no better is no evidence of stability, however steadily it does
WITHIN = 0.05  # accuracy that a usable step size may lose against the best one
MIN_SEEDS = 3
RESAMPLES = 9999
SEED = 0  # of every resampling: the same rows give the same interval
PERMUTATIONS = 2**14  # exact up to 14 pairs
UNREACHED = "no run reached it"  # in place of a test's name

STATUSES = ("done", "diverged", "failed")
ACCURACIES = ("test_accuracy", "test_accuracy_best_val", "val_accuracy")
SETTING = ("grid", "profile", "dataset", "data_official", "n_train", "activation", "hidden", "method", "label")
MEANS = (
    "test_accuracy_best_val", "val_accuracy", "train_loss", "epochs", "parameter_updates", "gradient_evaluations",
    "flops",
)  # fmt: skip

Strata = Sequence[ArrayLike]  # one array of values, one a seed, per data set


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval (NaN where there is none) and how many seeds stand behind it."""

    value: float
    low: float
    high: float
    n: int


# ---------------------------------------------------------------------------------------------------------- estimates


def mean_interval(values: ArrayLike) -> Estimate:
    """Mean and Student's t interval of independent values; NaN bounds for fewer than two."""
    x = np.sort(np.asarray(values, float))
    if x.size < 2:
        return Estimate(float(x[0]) if x.size else math.nan, math.nan, math.nan, x.size)
    mean, half = float(x.mean()), float(stats.t.ppf(1 - ALPHA / 2, x.size - 1) * stats.sem(x))
    return Estimate(mean, mean - half, mean + half, x.size)


def bootstrap(strata: Strata, statistic: Callable[..., NDArray]) -> Estimate:
    """`statistic(*strata, axis)` with a stratified percentile interval: values are resampled within their stratum.

    Every value must be one seed's. NaN bounds where a stratum has fewer than two values: its spread is unknown.
    """
    samples = [np.sort(np.asarray(x, float)) for x in strata]
    n = sum(x.size for x in samples)
    if not samples or min(x.size for x in samples) == 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    value = float(statistic(*samples, axis=-1))
    if min(x.size for x in samples) < 2:
        return Estimate(value, math.nan, math.nan, n)
    interval = stats.bootstrap(
        samples, statistic, n_resamples=RESAMPLES, confidence_level=1 - ALPHA, method="percentile", vectorized=True,
        rng=np.random.default_rng(SEED),
    ).confidence_interval  # fmt: skip
    return Estimate(value, float(interval.low), float(interval.high), n)


def iqm(strata: Strata) -> Estimate:
    """Interquartile mean of all values together: the mean of the middle half (Agarwal et al., NeurIPS 2021)."""
    pooled = lambda *x, axis: stats.trim_mean(np.concatenate(x, axis=axis), 0.25, axis=axis)
    return bootstrap(strata, pooled)


def mean(strata: Strata) -> Estimate:
    """Mean of the strata's means, every stratum with the same weight."""
    return bootstrap(strata, lambda *x, axis: np.mean([s.mean(axis=axis) for s in x], axis=0))


def probability_of_improvement(x: Strata, y: Strata) -> Estimate:
    """P(X > Y) for unpaired seeds: the mean over strata of Mann-Whitney's U / (n_x n_y), ties count a half."""

    def statistic(*samples: NDArray, axis: int) -> NDArray:
        half = len(samples) // 2
        above = [_wins(a[..., :, None] - b[..., None, :], (-2, -1)) for a, b in zip(samples[:half], samples[half:])]
        return np.mean(above, axis=0)

    return bootstrap([*x, *y], statistic)


def paired_probability(differences: Strata) -> Estimate:
    """P(X > Y) for paired seeds: the mean over strata of the share of seeds with x > y, ties count a half."""
    return bootstrap(differences, lambda *d, axis: np.mean([_wins(s, axis) for s in d], axis=0))


def _wins(difference: NDArray, axis) -> NDArray:
    return 0.5 + np.sign(difference).mean(axis=axis) / 2


# -------------------------------------------------------------------------------------------------------------- tests


def paired_test(differences: ArrayLike, family: int = 1) -> tuple[str, float]:
    """Name and two-sided p of the test that paired differences centre on 0 (protocol 8); NaN for fewer than two.

    `family` is the number of tests that Holm's correction will see. Where all differences are equal (FLOPs a step), t's
    limit: p is 0, or 1 where they are 0.
    """
    d = np.sort(np.asarray(differences, float))
    if d.size < 2:
        return "too few seeds", math.nan
    if 2.0 ** (1 - d.size) * family > ALPHA:
        equal = np.ptp(d) <= 1e-12 * np.abs(d).max()
        return "t", float(d[0] == 0) if equal else float(stats.ttest_1samp(d, 0.0).pvalue)
    result = stats.permutation_test(
        (d,), lambda s, axis: s.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=PERMUTATIONS, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return "sign-flip", float(result.pvalue)


def cost_test(x: ArrayLike, y: ArrayLike, family: int = 1) -> tuple[str, float]:
    """Name and two-sided p of the test that two costs, paired by seed, are alike.

    Where every cost is positive and finite, the paired test of their log ratios. With a miss (an infinite cost) the
    exact Mann-Whitney test, which needs ranks alone; NaN where no run reached the target or where n seeds cannot
    decide: 2 / C(2n, n) times the family above ALPHA.
    """
    x, y = np.sort(np.asarray(x, float)), np.asarray(y, float)[np.argsort(np.asarray(x, float), kind="stable")]
    both = np.concatenate([x, y])
    if np.isinf(both).all():
        return UNREACHED, math.nan
    if np.isfinite(both).all() and (both > 0).all():
        return paired_test(np.log(x / y), family)
    if 2 / math.comb(both.size, x.size) * family > ALPHA:
        return "too few seeds", math.nan
    exact = stats.PermutationMethod(n_resamples=PERMUTATIONS, rng=np.random.default_rng(SEED))
    return "Mann-Whitney", float(stats.mannwhitneyu(x, np.sort(y), method=exact).pvalue)


def holm(p: ArrayLike) -> NDArray:
    """Holm's step-down adjusted p values; NaN (not tested) stays NaN and does not enlarge the family."""
    p = np.asarray(p, float)
    adjusted, tested = np.full(p.shape, math.nan), ~np.isnan(p)
    # Not statsmodels' multipletests: it collects garbage at every call, up to half a second in a process with torch.
    known, order = p[tested], np.argsort(p[tested])
    stepped = np.maximum.accumulate(known[order] * (known.size - np.arange(known.size)))
    known[order] = np.minimum(stepped, 1.0)
    adjusted[tested] = known
    return adjusted


# --------------------------------------------------------------------------------------------------------------- rows


def scores(runs: pd.DataFrame, metric: str = "test_accuracy", unfinished: float | None = None) -> pd.Series:
    """The metric of each run; a diverged or failed run scores `unfinished`, by default chance level for an accuracy.

    Raises InputError where a finished run has no finite value, and where another metric gives no `unfinished`.
    """
    _require(runs, ["status", metric])
    finished = _finished(runs)
    if unfinished is None:
        if metric not in ACCURACIES and not finished.all():
            raise InputError(f"some runs did not finish, and only an accuracy says what that is worth, not '{metric}'.")
        unfinished = CHANCE
    values = runs[metric].astype(float)
    if (finished & ~np.isfinite(values)).any():
        bad = runs[finished & ~np.isfinite(values)].iloc[0]
        raise InputError(f"a finished run of '{bad.get('label')}' with seed {bad.get('seed')} has no {metric}.")
    return values.where(finished, unfinished)


def _finished(runs: pd.DataFrame) -> pd.Series:
    for status in runs["status"].unique():
        if status not in STATUSES:
            raise unknown("status", status, STATUSES, "runs")
    return runs["status"] == "done"


def _require(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))


def _only(runs: pd.DataFrame, *labels: str) -> pd.DataFrame:
    """The rows of these labels, so that no other method has a part in what follows."""
    _require(runs, ["label"])
    for label in labels:
        if label not in set(runs["label"]):
            raise unknown("label", label, map(str, runs["label"].unique()))
    return runs[runs["label"].isin(labels)]


def _listed(labels: str | Sequence[str]) -> list[str]:
    return [labels] if isinstance(labels, str) else list(labels)


def _one_row_per_seed(runs: pd.DataFrame, cell: Sequence[str]) -> None:
    """Seeds are the unit of replication (protocol 1)."""
    twice = runs.duplicated([*cell, "seed"], keep=False)
    if not twice.any():
        return
    same = runs[twice].merge(runs[twice].iloc[[0]][[*cell, "seed"]])
    where = ", ".join(f"{column} {same.iloc[0][column]}" for column in [*cell, "seed"])
    identity = [c for c in (*SETTING, "rule", "lane", "inputs", "init", "hyperparameters") if c in same]
    differs = ", ".join(c for c in identity if same[c].nunique(dropna=False) > 1) or "nothing that identifies a run"
    raise InputError(
        f"{len(same)} rows share {where} and differ in {differs}: the seed is the unit, so choose one or group by that."
    )


def _wide(runs: pd.DataFrame, values: pd.Series, by: Sequence[str]) -> pd.DataFrame:
    """Values with one row a (group, seed), sorted, and one column a label; NaN where there is no such run."""
    _require(runs, [*by, "label", "seed"])
    _one_row_per_seed(runs, [*by, "label"])
    table = runs[[*by, "label", "seed"]].assign(value=values)
    return table.pivot(index=[*by, "seed"], columns="label", values="value")[list(runs["label"].unique())]


def _done(runs: pd.DataFrame, by: Sequence[str]) -> Counter[tuple[Hashable, ...]]:
    """(*group, label) -> how many of its runs finished."""
    return Counter(runs.loc[_finished(runs), [*by, "label"]].itertuples(index=False, name=None))


def _groups(runs: pd.DataFrame, by: Sequence[str]) -> list[tuple[Hashable, ...]]:
    """The groups in the order of their first appearance."""
    return list(runs[list(by)].drop_duplicates().itertuples(index=False, name=None))


# ------------------------------------------------------------------------------------------------------------ summary


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """The content of summary.csv: one row a setting, over its seeds, in the order of first appearance.

    runs, done, diverged, failed: counts. mean, sd, ci_low, ci_high (Student's 95 %), median, iqm, min, max: of the test
    accuracy of the finished runs. mean_all: of all runs, with a diverged or failed one at chance level: what methods
    are ranked by, so that diverging never pays. The remaining columns are means over the finished runs.
    """
    _require(runs, [*SETTING, "seed", "status", "test_accuracy", *MEANS])
    _one_row_per_seed(runs, SETTING)
    finished = _finished(runs)
    rows = []
    for key, cell in runs.groupby(list(SETTING), sort=False, dropna=False):
        cell = cell.sort_values("seed")  # sums in one order, whatever the rows' order
        done = cell[finished[cell.index]]
        accuracy = done["test_accuracy"].dropna().astype(float)
        estimate = mean_interval(accuracy)
        status = cell["status"].value_counts()
        known = cell["test_accuracy"].astype(float).where(finished[cell.index], CHANCE)
        rows.append(
            dict(zip(SETTING, key))
            | dict(runs=len(cell))
            | {name: int(status.get(name, 0)) for name in STATUSES}
            | dict(
                mean=estimate.value,
                sd=accuracy.std(),
                ci_low=estimate.low,
                ci_high=estimate.high,
                median=accuracy.median(),
                iqm=float(stats.trim_mean(accuracy, 0.25)) if len(accuracy) else math.nan,
                min=accuracy.min(),
                max=accuracy.max(),
                mean_all=known.mean(skipna=False),
            )
            | {name: done[name].astype(float).mean() for name in MEANS}
        )
    columns = [
        *SETTING, "runs", *STATUSES, "mean", "sd", "ci_low", "ci_high", "median", "iqm", "min", "max", "mean_all",
        *MEANS,
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def aggregate(
    runs: pd.DataFrame, by: str | Sequence[str] = "dataset", metric: str = "test_accuracy",
    unfinished: float | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row a label over all groups: mean and IQM with stratified bootstrap intervals over seeds x groups.

    `groups` counts the groups that a label was run on: rows compare only where it is the same. `done` counts its
    finished runs: with none, the numbers are `unfinished` and no rank is due.
    """
    by = _listed(by)
    wide, done = _wide(runs, scores(runs, metric, unfinished), by), _done(runs, [])
    rows = []
    for label in wide.columns:
        strata = [x.to_numpy() for _, x in wide[label].dropna().groupby(by)]
        average, middle = mean(strata), iqm(strata)
        rows.append(
            dict(
                label=label, groups=len(strata), runs=average.n, done=done[label,],
                mean=average.value, mean_low=average.low, mean_high=average.high,
                iqm=middle.value, iqm_low=middle.low, iqm_high=middle.high,
            )
        )  # fmt: skip
    return pd.DataFrame(rows)


def over_settings(
    runs: pd.DataFrame, by: str | Sequence[str] = "dataset", metric: str = "test_accuracy",
    unfinished: float | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row a (group, method, seed): the mean over all settings tried, labelled by the method's name.

    What a method is worth when its setting (a step size over four decades) is drawn blindly: the measure of stability.
    Raises InputError where seeds or methods of one group were given different numbers of settings.
    """
    by = _listed(by)
    _require(runs, [*by, "method", "label", "seed"])
    _one_row_per_seed(runs, [*by, "method", "label"])
    cell = [*by, "method", "seed"]
    table = runs[cell].assign(value=scores(runs, metric, unfinished), finished=_finished(runs))
    cells = table.sort_values("value").groupby(cell, sort=False)
    counts = cells.size()
    if counts.groupby(by).nunique().gt(1).any():
        few, many = (", ".join(map(str, key)) for key in (counts.idxmin(), counts.idxmax()))
        raise InputError(f"{few} has {counts.min()} settings and {many} {counts.max()}: their means do not compare.")
    means = cells.agg(**{metric: ("value", "mean"), "finished": ("finished", "any")}).reset_index()
    result = table[cell].drop_duplicates().merge(means, how="left")
    status = np.where(result.pop("finished"), "done", "failed")
    return result.assign(label=result["method"], status=status)


def mean_of(
    runs: pd.DataFrame, labels: Sequence[str], name: str, by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy", unfinished: float | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Rows of a label `name` whose metric is the mean over `labels`: one row a (group, seed) that all of them have."""
    by, runs = _listed(by), _only(runs, *labels)
    finished = _wide(runs, _finished(runs).astype(float), by).max(axis=1) > 0
    means = _wide(runs, scores(runs, metric, unfinished), by).mean(axis=1, skipna=False).rename(metric).dropna()
    return means.reset_index().assign(label=name, status=np.where(finished[means.index], "done", "failed"))


# --------------------------------------------------------------------------------------------------------- step sizes


STEP_LABEL = r"^(.+), ([0-9.]+(?:e[-+]?[0-9]+)?)$"


def by_step_size(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with a column `step_size`, taken off the label: "SAMT row, 0.1" is "SAMT row" at 0.1.

    Raises InputError for a label that does not end in a comma and a number.
    """
    _require(runs, ["label"])
    parts = runs["label"].str.extract(STEP_LABEL)
    if parts.isna().any(axis=None):
        bad = runs.loc[parts[0].isna(), "label"].iloc[0]
        raise InputError(f"label '{bad}' names no step size; it must end in a comma and a number, 'SGD, 0.1'.")
    return runs.assign(label=parts[0], step_size=parts[1].astype(float))


def stability(
    runs: pd.DataFrame, curves: pd.DataFrame, by: str | Sequence[str] = "dataset", within: float = WITHIN
) -> pd.DataFrame:
    """One row a (group, label, seed) over the initial step sizes tried; labels as `by_step_size` shortens them.

    step_sizes: how many were tried. usable_decades: width, in powers of ten, of the unbroken range of step sizes around
    the seed's best that loses at most `within` of its test accuracy (linear in log step size between those tried, and
    never beyond them). survival: share of step sizes at which training finished below the training loss it started
    from. best_step_size: the label's, with the highest mean validation accuracy over seeds. steadiness: minus the
    distance of the seed's test accuracy from the other seeds' median there (NaN for one seed). A run that ended at
    USELESS accuracy or did not finish counts as chance and has the least steadiness, chance - 1; a seed with no other
    runs has status "failed" and 0 decades. Raises InputError where a seed lacks a step size.
    """
    by, runs = _listed(by), by_step_size(runs)
    cell = [*by, "label"]
    _require(runs, [*by, "seed", "run_key"])
    _require(curves, ["run_key", "iteration", "train_loss"])
    _one_row_per_seed(runs, [*cell, "step_size"])
    loss = curves.sort_values("iteration").groupby("run_key")["train_loss"]
    fell = loss.last() < loss.first()
    values = runs[[*cell, "seed", "step_size"]].assign(
        accuracy=scores(runs),
        validation=scores(runs, "val_accuracy"),
        sound=_finished(runs) & (scores(runs) > USELESS),
        alive=_finished(runs) & runs["run_key"].isin(fell.index[fell]),
    )
    rows = []
    for key, found in values.groupby(cell, sort=False):
        measured = ["accuracy", "validation", "sound", "alive"]
        table = found.astype(dict.fromkeys(measured, float)).pivot(index="seed", columns="step_size", values=measured)
        if table.isna().any(axis=None):
            where = ", ".join(map(str, key))
            raise InputError(f"{where}: some seeds lack step sizes that others have, so that they do not compare.")
        accuracy, sound = table["accuracy"], table["sound"] > 0
        best = table["validation"].mean().idxmax()
        others = pd.Series({seed: accuracy[best].drop(seed).median() for seed in accuracy.index})
        distance = (accuracy[best] - others).abs().where(sound[best], 1 - CHANCE)
        for seed in table.index:
            useful = accuracy.loc[seed].where(sound.loc[seed], CHANCE)
            decades = _decades(useful, within) if sound.loc[seed].any() else 0.0
            rows.append(
                dict(zip(cell, key))
                | dict(seed=seed, status="done" if sound.loc[seed].any() else "failed", step_sizes=accuracy.shape[1])
                | dict(usable_decades=decades, survival=table["alive"].loc[seed].mean())
                | dict(best_step_size=best, steadiness=-distance[seed])
            )
    return pd.DataFrame(rows)


def _decades(accuracy: pd.Series, within: float) -> float:
    """Width in powers of ten of the range around the best where accuracy, between step sizes linear, keeps the limit.

    accuracy: by step size, ascending.
    """
    x, y = np.log10(accuracy.index.to_numpy(float)), accuracy.to_numpy()
    best = int(y.argmax())
    limit = y[best] - within

    def end(step: int) -> float:
        at = best
        while 0 <= at + step < len(y) and y[at + step] >= limit:
            at += step
        if not 0 <= at + step < len(y):
            return x[at]
        return x[at] + (x[at + step] - x[at]) * (y[at] - limit) / (y[at] - y[at + step])

    return float(end(1) - end(-1))


def step_costs(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """The runs with two columns: `column` per block update (`block_step`) and per iteration (`full_step`).

    A step of SAMT is a sweep over all blocks; a full step of a gradient method updates all blocks at once.
    """
    _require(runs, [column, "parameter_updates", "iterations"])
    total = runs[column].astype(float)
    return runs.assign(block_step=total / runs["parameter_updates"], full_step=total / runs["iterations"])


# --------------------------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class _Pairs:
    """Values of `a` and `b` paired by seed in one group; `unpaired` seeds had one of the two only.

    a_done, b_done: how many runs of the group finished. With none, a label cannot win, not even against a score below
    chance.
    """

    group: tuple[Hashable, ...]
    a: str
    b: str
    x: NDArray  # (n,)
    y: NDArray  # (n,)
    unpaired: int
    a_done: int
    b_done: int


def compare(
    runs: pd.DataFrame,
    a_label: str,
    b_label: str | Sequence[str],
    by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy",
    unfinished: float | None = None,
) -> pd.DataFrame:
    """Paired differences a - b of a metric where more is better, one row a (comparator, group).

    Columns: `by`, a, b, scale ("difference"), n (pairs), unpaired, a_done, b_done (finished runs), a_value, b_value
    (means), effect (mean difference), ci_low, ci_high (Student's 95 %), boot_low, boot_high (bootstrap), probability
    (share of seeds with a above b), test, p, p_holm (over the groups, for each comparator), outcome ("better", "worse",
    "tied", "untested").
    """
    runs = _only(runs, a_label, *_listed(b_label))
    pairs = _paired(runs, scores(runs, metric, unfinished), a_label, _listed(b_label), _listed(by))
    return _tabulate(pairs, _listed(by), "difference")


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
    both did; its interval is the bootstrap's of that median.
    """
    costs = _only(costs, a_label, *_listed(b_label))
    pairs = _paired(costs, _costs(costs, cost), a_label, _listed(b_label), _listed(by))
    return _tabulate(pairs, _listed(by), "ratio")


def overall(
    runs: pd.DataFrame, a_label: str, b_label: str, by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy", unfinished: float | None = None,
) -> Estimate:  # fmt: skip
    """Mean over the groups of the mean paired difference a - b, with a stratified bootstrap interval."""
    runs = _only(runs, a_label, b_label)
    pairs = _paired(runs, scores(runs, metric, unfinished), a_label, [b_label], _listed(by))
    return mean([pair.x - pair.y for pair in _by_group(pairs)])


def overall_ratio(
    costs: pd.DataFrame, a_label: str, b_label: str, by: str | Sequence[str] = "dataset", cost: str = "cost"
) -> Estimate:
    """Ratio a / b over the groups: of the mean of the groups' median shares a / (a + b), stratified bootstrap."""
    costs = _only(costs, a_label, b_label)
    pairs = _by_group(_paired(costs, _costs(costs, cost), a_label, [b_label], _listed(by)))
    medians = lambda *s, axis: np.mean([np.median(x, axis=axis) for x in s], axis=0)
    return _as_ratio(bootstrap([_share(pair.x, pair.y) for pair in pairs], medians))


def improvement(
    runs: pd.DataFrame, a_label: str, b_label: str, by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy", unfinished: float | None = None,
) -> Estimate:  # fmt: skip
    """Probability of improvement over the groups, paired by seed, with a stratified bootstrap interval."""
    runs = _only(runs, a_label, b_label)
    pairs = _paired(runs, scores(runs, metric, unfinished), a_label, [b_label], _listed(by))
    return paired_probability([pair.x - pair.y for pair in _by_group(pairs)])


def contrast(
    runs: pd.DataFrame,
    a_label: str,
    b_label: str,
    column: str,
    group: Sequence[str],
    by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy",
    unfinished: float | None = None,
) -> pd.DataFrame:
    """Is the gain a - b larger where `column` is in `group` (activations of the ReLU family) than elsewhere?

    One row a group of `by`: the difference of the mean gain within and the mean gain outside, paired by seed; the
    columns of `compare`. A seed counts where it has both labels at every value of the column that both were run on.
    """
    by, runs = _listed(by), _only(runs, a_label, b_label)
    wide = _wide(runs, scores(runs, metric, unfinished), [*by, column])
    gain = (wide[a_label] - wide[b_label]).unstack(column).dropna(axis=1, how="all")
    for value in group:
        if value not in gain.columns:
            raise unknown(column, value, map(str, gain.columns))
    rest = gain.drop(columns=list(group))
    if rest.empty:
        raise InputError(f"every {column} is in the group, so there is nothing to contrast it with.")
    inside, outside = f"{a_label} - {b_label}, {', '.join(map(str, group))}", f"{a_label} - {b_label} elsewhere"
    both = rest.mean(axis=1, skipna=False).to_frame(outside)
    both[inside] = gain[list(group)].mean(axis=1, skipna=False)
    mine = runs[runs["label"] == a_label]
    done = _done(mine.assign(label=np.where(mine[column].isin(group), inside, outside)), by)
    pairs = [_pair(both, done, key, inside, outside) for key in _groups(runs, by)]
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
    """
    by = _listed(by)
    wide, done = _wide(runs, scores(runs, metric, unfinished), by), _done(runs, by)
    rows = []
    for group in _groups(runs, by):
        average = _at(wide, group).mean().dropna()
        able = [label for label in average.index if done[*group, label]]
        best = average[able].idxmax() if able else None
        pairs = [_pair(wide, done, group, best, label) for label in able if label != best]
        table = _tabulate(pairs, by, "difference", one_family=True).set_index("b")
        for label, score in average.items():
            row = dict(zip(by, group)) | dict(label=label, score=score, p=math.nan, p_holm=math.nan)
            if label in table.index:
                p, p_holm, outcome = table.loc[label, ["p", "p_holm", "outcome"]]
                row |= dict(p=p, p_holm=p_holm, outcome="worse" if outcome == "better" else outcome)
            else:
                row |= dict(outcome="best" if label == best else "failed")
            row["best"] = label == best
            row["among_best"] = row["best"] or bool(row["p"] >= ALPHA)
            rows.append(row)
    return pd.DataFrame(rows)


def _costs(costs: pd.DataFrame, cost: str) -> pd.Series:
    _require(costs, ["status", cost])
    values = costs[cost].astype(float).where(_finished(costs), math.inf)
    if values.isna().any() or (values < 0).any():
        raise InputError(f"column '{cost}' has a missing or negative cost; a miss is infinite.")
    return values


def _paired(runs: pd.DataFrame, values: pd.Series, a: str, others: list[str], by: Sequence[str]) -> list[_Pairs]:
    if a in others:
        raise InputError(f"'{a}' cannot be compared with itself.")
    wide, done = _wide(runs, values, by), _done(runs, by)
    return [_pair(wide, done, group, a, b) for b in others for group in _groups(runs, by)]


def _pair(wide: pd.DataFrame, done: Counter, group: tuple, a: str, b: str) -> _Pairs:
    cell = _at(wide, group)[[a, b]]
    both = cell.dropna()
    unpaired = int(cell.notna().any(axis=1).sum()) - len(both)
    return _Pairs(group, a, b, both[a].to_numpy(), both[b].to_numpy(), unpaired, done[*group, a], done[*group, b])


def _at(wide: pd.DataFrame, group: tuple) -> pd.DataFrame:
    """The rows of one group; the last level of the index is the seed."""
    mask = np.ones(len(wide), bool)
    for level, value in enumerate(group):
        mask &= wide.index.get_level_values(level) == value
    return wide[mask]


def _by_group(pairs: Sequence[_Pairs]) -> list[_Pairs]:
    """Sorted by group, so that the order of the rows does not steer the resampling; groups without a pair left out."""
    return sorted((pair for pair in pairs if len(pair.x)), key=lambda pair: tuple(map(str, pair.group)))


def _share(x: NDArray, y: NDArray) -> NDArray:
    """a / (a + b) of two costs in [0, inf]: 1/2 where they are equal, 0 or 1 where one of them is a miss."""
    share = np.full(len(x), 0.5)
    share[x > y], share[x < y] = 1.0, 0.0
    finite = np.isfinite(x) & np.isfinite(y) & (x + y > 0)
    share[finite] = x[finite] / (x[finite] + y[finite])
    return share


def _as_ratio(share: Estimate) -> Estimate:
    back = lambda s: s / (1 - s) if s < 1 else math.inf if s == 1 else math.nan
    return Estimate(back(share.value), back(share.low), back(share.high), share.n)


def _describe(pair: _Pairs, scale: str) -> dict[str, float]:
    if not len(pair.x):
        a = b = probability = math.nan
        effect = boot = mean_interval([])
    elif scale == "ratio":
        share = _share(pair.x, pair.y)
        a, b, probability = np.median(pair.x), np.median(pair.y), _wins(0.5 - share, -1)
        effect = boot = _as_ratio(bootstrap([share], np.median))
    else:
        difference = pair.x - pair.y
        a, b, probability = np.sort(pair.x).mean(), np.sort(pair.y).mean(), _wins(difference, -1)
        effect, boot = mean_interval(difference), mean([difference])
    return dict(
        a_value=float(a), b_value=float(b), effect=effect.value, ci_low=effect.low, ci_high=effect.high,
        boot_low=boot.low, boot_high=boot.high, probability=float(probability),
    )  # fmt: skip


def _tabulate(pairs: Sequence[_Pairs], by: Sequence[str], scale: str, one_family: bool = False) -> pd.DataFrame:
    """Describe, test, correct and judge every pair; a family is the groups of one comparator, or the whole table."""
    rows = []
    for pair in pairs:
        family = sum(len(p.x) >= MIN_SEEDS and (one_family or p.b == pair.b) for p in pairs)
        test, p = "too few seeds", math.nan
        if len(pair.x) >= MIN_SEEDS:
            x, y = pair.x, pair.y
            test, p = cost_test(x, y, family) if scale == "ratio" else paired_test(x - y, family)
        rows.append(
            dict(zip(by, pair.group))
            | dict(a=pair.a, b=pair.b, scale=scale, n=len(pair.x), unpaired=pair.unpaired)
            | dict(a_done=pair.a_done, b_done=pair.b_done)
            | _describe(pair, scale)
            | dict(test=test, p=p)
        )
    columns = [
        *by, "a", "b", "scale", "n", "unpaired", "a_done", "b_done", "a_value", "b_value", "effect", "ci_low",
        "ci_high", "boot_low", "boot_high", "probability", "test", "p",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    families = [table.index] if one_family else table.groupby("b", sort=False).groups.values()
    table["p_holm"] = math.nan
    for family in families:
        table.loc[family, "p_holm"] = holm(table.loc[family, "p"])
    gain = 1 - table["effect"] if scale == "ratio" else table["effect"]
    sure = table["p_holm"] < ALPHA
    better, worse = sure & (gain > 0) & (table["a_done"] > 0), sure & (gain < 0) & (table["b_done"] > 0)
    table["outcome"] = np.select([table["p"].isna(), better, worse], ["untested", "better", "worse"], "tied")
    return table


# -------------------------------------------------------------------------------------------------- curves and targets


def targets(
    runs: pd.DataFrame, reference: str, by: str | Sequence[str] = "dataset", metric: str = "val_accuracy",
    share: float = 1.0,
) -> pd.Series:  # fmt: skip
    """A target per group: `share` of the median final metric of one fixed reference, so no other method moves it."""
    runs = _only(runs, reference)
    return share * _wide(runs, scores(runs, metric), _listed(by))[reference].groupby(_listed(by)).median()


def cost_to_target(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    target: float | Mapping | pd.Series,
    cost: str = "parameter_updates",
    metric: str = "val_accuracy",
    by: str = "dataset",
    lower: bool = False,
) -> pd.DataFrame:
    """The runs with a column `cost`: what the first evaluation at which the metric reached the target had cost.

    target: one number, or one per value of `by`. lower: the target is reached from above (a loss). A run that never
    reached it, or that diverged or failed, costs infinity, also where it left no curve.
    """
    _require(runs, ["run_key", "status", by])
    _require(curves, ["run_key", metric, cost])
    if isinstance(target, (Mapping, pd.Series)):
        missing = [name for name in runs[by].unique() if name not in target]
        if missing:
            known = ", ".join(map(str, target.keys()))
            raise InputError(f"no target for {by} '{missing[0]}'; there is one for {known}.")
        goals = runs[by].map(dict(target))
    else:
        goals = pd.Series(float(target), index=runs.index)
    goal = curves["run_key"].map(dict(zip(runs["run_key"], goals)))
    reached = curves[metric] <= goal if lower else curves[metric] >= goal
    if curves.loc[reached, cost].isna().any():
        raise InputError(f"the curves have no '{cost}' where the target was reached: it was not measured in this lane.")
    first = curves[reached].groupby("run_key")[cost].min()
    found = runs["run_key"].map(first).astype(float)
    return runs.assign(cost=found.where(_finished(runs) & found.notna(), math.inf))


def problem_costs(costs: pd.DataFrame, by: str | Sequence[str] = "dataset", cost: str = "cost") -> pd.DataFrame:
    """The table that `performance_profile` reads: groups x labels, the median cost over seeds; NaN where not run."""
    return _wide(costs, _costs(costs, cost), _listed(by)).groupby(_listed(by)).median()


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


LAWS = ("linear", "sublinear", "power")


def convergence(
    runs: pd.DataFrame, curves: pd.DataFrame, column: str = "objective", law: str = "linear", after: int = 0
) -> pd.DataFrame:
    """The runs with three columns about their curve: monotone_share, rate and r_squared.

    monotone_share: the share of steps between evaluations that did not raise the column by more than one in 10^6,
    float32's rounding. law "linear": `rate` is the factor per iteration by which the decreases v_k - v_{k+1} shrink,
    from a line through their logarithms, so that the limit need not be known (linear convergence: below 1). law
    "sublinear": the same decreases as a power of the iteration, v_k - v_{k+1} ~ k^-rate. law "power": `rate` is the
    exponent r of min_{j <= k} v_j ~ k^-r. Only iterations past `after` count; fewer than three usable points give NaN.
    """
    if law not in LAWS:
        raise unknown("law", law, LAWS)
    _require(runs, ["run_key"])
    _require(curves, ["run_key", "iteration", column])
    # A run that stands under several labels, as the defaults do in a sweep, has its curve once for each.
    points = curves[(curves["iteration"] > after) & np.isfinite(curves[column].astype(float))]
    points = points.drop_duplicates(["run_key", "iteration"])
    found = {}
    for key, curve in points.sort_values("iteration").groupby("run_key"):
        k, v = curve["iteration"].to_numpy(float), curve[column].to_numpy(float)
        if len(v) < 3:
            continue
        share = float(np.mean(np.diff(v) <= 1e-6 * np.abs(v[:-1])))
        found[key] = (share, *_fit(k, v, law))
    table = pd.DataFrame.from_dict(found, orient="index", columns=["monotone_share", "rate", "r_squared"])
    return runs.join(table.astype(float), on="run_key")


def _fit(k: NDArray, v: NDArray, law: str) -> tuple[float, float]:
    if law == "power":
        x, y = np.log(k), np.minimum.accumulate(v)
    else:
        x = k[1:] if law == "linear" else np.log(k[1:] * k[:-1]) / 2  # the decrease belongs between the two
        y = -np.diff(v) / np.diff(k)
    use = y > 0
    if use.sum() < 3:
        return math.nan, math.nan
    line = stats.linregress(x[use], np.log(y[use]))
    return float(math.exp(line.slope) if law == "linear" else -line.slope), float(line.rvalue**2)


def levels(
    runs: pd.DataFrame, column: str, by: str | Sequence[str] = "dataset", unfinished: float | None = None
) -> pd.DataFrame:
    """Mean and Student's interval over seeds of a column (a rate, a share), one row a (group, label), scale "level"."""
    by = _listed(by)
    _require(runs, [*by, "label", "seed"])
    _one_row_per_seed(runs, [*by, "label"])
    values, done = scores(runs, column, unfinished), _done(runs, by)
    rows = []
    for group, cell in values.groupby([runs[key] for key in (*by, "label")], sort=False):
        estimate = mean_interval(cell)
        rows.append(
            dict(zip(by, group))
            | dict(a=group[-1], b="", scale="level", n=estimate.n, a_done=done[group])
            | dict(effect=estimate.value, ci_low=estimate.low, ci_high=estimate.high)
        )
    return pd.DataFrame(rows)


# --------------------------------------------------------------------------------------------------------------- ranks


@dataclass(frozen=True)
class CriticalDifference:
    """Ranks of methods over data sets (Demsar, JMLR 2006).

    ranks: average rank a label, best first. statistic, p: Friedman's test (with its correction for ties).
    critical_difference: Nemenyi's. p_values: Nemenyi's, labels x labels. groups: the largest sets of labels that do not
    differ, two labels or more, best first. blocks: how many data sets. left_out: labels without a run on some data set.
    """

    ranks: pd.Series
    statistic: float
    p: float
    critical_difference: float
    p_values: pd.DataFrame
    groups: list[tuple[str, ...]]
    blocks: int
    left_out: tuple[str, ...]


def block_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Rank 1 for the highest score of each row; ties share their mean rank; NaN, a failure, ties at the worst rank."""
    return table.rank(axis=1, ascending=False, method="average", na_option="bottom")


def critical_difference(
    runs: pd.DataFrame,
    by: str | Sequence[str] = "dataset",
    metric: str = "test_accuracy",
    unfinished: float | None = None,
    alpha: float = ALPHA,
) -> CriticalDifference:
    """Rank the labels on every group by their mean score over seeds; a label no run of which finished ranks last.

    Raises InputError for fewer than three complete labels or fewer than two groups: there is no Friedman test.
    """
    by = _listed(by)
    values = scores(runs, metric, unfinished)
    means = _wide(runs, values, by).groupby(by).mean()
    finished = _wide(runs, values.where(_finished(runs)), by).groupby(by).mean()
    incomplete = means.columns[means.isna().any()]
    return rank_groups(means.where(finished.notna()).drop(columns=incomplete), alpha, tuple(incomplete))


def rank_groups(table: pd.DataFrame, alpha: float = ALPHA, left_out: tuple[str, ...] = ()) -> CriticalDifference:
    """`critical_difference` of a table of scores, data sets x labels, more is better, NaN for a failure."""
    # Imported here because it loads the plotting libraries, for seconds that no other command should pay.
    import scikit_posthocs

    blocks, methods = table.shape
    if methods < 3 or blocks < 2:
        raise InputError(
            f"ranks need three labels and two data sets that all of them were run on; there are {methods} and {blocks}."
        )
    ranks = block_ranks(table)
    average = ranks.mean().sort_values(kind="stable")
    ranks = ranks[average.index]
    statistic, p = 0.0, 1.0
    if (ranks.nunique(axis=1) > 1).any():
        friedman = stats.friedmanchisquare(*ranks.to_numpy().T)
        statistic, p = float(friedman.statistic), float(friedman.pvalue)
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(ranks)
    letters = scikit_posthocs.compact_letter_display(p_values, alpha)
    groups = [tuple(letters.index[letters.str.contains(x)]) for x in dict.fromkeys("".join(letters).replace(" ", ""))]
    quantile = stats.studentized_range.ppf(1 - alpha, methods, math.inf) / math.sqrt(2)
    return CriticalDifference(
        ranks=average,
        statistic=statistic,
        p=p,
        critical_difference=float(quantile * math.sqrt(methods * (methods + 1) / (6 * blocks))),
        p_values=p_values,
        groups=[group for group in groups if len(group) > 1],
        blocks=blocks,
        left_out=left_out,
    )


# ------------------------------------------------------------------------------------------------------------ verdicts

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED = "reproduced", "partly", "not reproduced", "not tested here"

# "The opposite": significantly worse than a comparator, or the whole interval on the wrong side of the bound.
_PARTLY = "partly: so on at least one and nowhere the opposite."
RULES = {
    "better": "On every group tested the mean paired difference to every comparator is above 0, p < .05 after Holm; "
    + _PARTLY,
    "fewer": "On every group tested the cost ratio to every comparator is below 1, p < .05 after Holm; " + _PARTLY,
    "contributes": "The method is better (or cheaper) than each of its variants with one part taken away, on every "
    "group tested, p < .05 after Holm; partly: than at least one of them.",
    "not_worse": "On every group tested the 95 % interval of the mean paired difference lies above -bound; " + _PARTLY,
    "at_least": "On every group tested the 95 % interval over seeds of the mean lies at or above the bound; " + _PARTLY,
    "at_most": "On every group tested the 95 % interval over seeds of the mean lies at or below the bound; " + _PARTLY,
    "varies": "No label is best (has the highest mean, or is not found worse than that after Holm) on every group; "
    "partly: one is, but the highest mean changes hands and somewhere stands alone.",
}
_SCALES = {
    "better": ("difference",),
    "fewer": ("ratio",),
    "contributes": ("difference", "ratio"),
    "not_worse": ("difference",),
    "at_least": ("level",),
    "at_most": ("level",),
}
_BOUNDED = ("not_worse", "at_least", "at_most")


@dataclass(frozen=True)
class Verdict:
    """verdict: one of the four words. reason: where it holds, where it is open, where the opposite, where untested."""

    verdict: str
    reason: str


def verdict(
    rule: str, table: pd.DataFrame, by: str | Sequence[str] = "dataset", bound: float | None = None
) -> Verdict:
    """Judge a claim from its table by one of RULES.

    table: of `compare` or `contrast` (better, contributes, not_worse), `compare_costs` (fewer, contributes), `levels`
    (at_least, at_most) or `best_and_ties` (varies). bound: of not_worse, at_least and at_most. Groups without a test
    (too few seeds, no run reached the target) are left out and named; with none left the claim was not tested.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if (bound is None) == (rule in _BOUNDED):
        raise InputError(f"rule '{rule}' {'needs a' if rule in _BOUNDED else 'takes no'} bound.")
    by = _listed(by)
    if rule == "varies":
        return _varies(table, by)
    _require(table, [*by, "b", "scale", "n", "a_done"])
    if not table["scale"].isin(_SCALES[rule]).all():
        wrong = table.loc[~table["scale"].isin(_SCALES[rule]), "scale"].iloc[0]
        raise InputError(f"rule '{rule}' judges a table of scale {' or '.join(_SCALES[rule])}, not '{wrong}'.")
    outcome = _against_bound(rule, table, bound) if rule in _BOUNDED else table["outcome"]
    unit = [_name(row) for row in table[["b"] if rule == "contributes" else by].itertuples(index=False)]
    why = table["test"].to_numpy() if "test" in table else "too few seeds"
    rows = pd.DataFrame({"unit": unit, "outcome": outcome.to_numpy(), "why": why})
    return _judge(rows, any_suffices=rule == "contributes")


def _against_bound(rule: str, table: pd.DataFrame, bound: float) -> pd.Series:
    low, high = (table["ci_low"], table["ci_high"]) if rule != "at_most" else (-table["ci_high"], -table["ci_low"])
    limit = {"at_least": bound, "at_most": -bound, "not_worse": -bound}[rule]
    holds = (low > limit if rule == "not_worse" else low >= limit) & (table["a_done"] > 0)
    untested = (table["n"] < MIN_SEEDS) | low.isna()
    return pd.Series(np.select([untested, holds, high < limit], ["untested", "better", "worse"], "tied"), table.index)


def _judge(rows: pd.DataFrame, any_suffices: bool) -> Verdict:
    """rows: unit (a group, or a variant for `contributes`), outcome and, where it is untested, why.

    A unit holds where all its rows do.
    """
    places: dict[str, list[str]] = dict(better=[], tied=[], worse=[], untested=[])
    for unit, cell in rows.groupby("unit", sort=False):
        seen = set(cell["outcome"])
        state = "worse" if "worse" in seen else seen.pop() if len(seen) == 1 else "tied"
        places[state].append(f"{unit} ({', '.join(cell['why'].unique())})" if state == "untested" else unit)
    words = dict(better="holds", tied="open", worse="the opposite", untested="not tested")
    reason = "; ".join(f"{words[state]}: {', '.join(units)}" for state, units in places.items() if units)
    if not (places["better"] or places["tied"] or places["worse"]):
        return Verdict(NOT_TESTED, reason or "no comparison was made")
    if not (places["tied"] or places["worse"]):
        return Verdict(REPRODUCED, reason)
    partly = places["better"] and (any_suffices or not places["worse"])
    return Verdict(PARTLY if partly else NOT_REPRODUCED, reason)


def _varies(table: pd.DataFrame, by: Sequence[str]) -> Verdict:
    _require(table, [*by, "label", "outcome"])
    units = [_name(row) for row in table[list(by)].itertuples(index=False)]
    leaders = {}
    for unit, rows in table.groupby(units, sort=False):
        # A group in which the best met nobody, or somebody with too few seeds, says nothing.
        if rows["outcome"].isin(["tied", "worse"]).any() and not (rows["outcome"] == "untested").any():
            leaders[unit] = rows.loc[rows["outcome"].isin(["best", "tied"]), ["label", "outcome"]]
    reason = "; ".join(f"{unit}: {', '.join(rows['label'])}" for unit, rows in leaders.items())
    if len(leaders) < 2:
        return Verdict(NOT_TESTED, reason or "no comparison was made")
    if not set.intersection(*(set(rows["label"]) for rows in leaders.values())):
        return Verdict(REPRODUCED, reason)
    changes = len({rows.loc[rows["outcome"] == "best", "label"].iloc[0] for rows in leaders.values()}) > 1
    alone = any(len(rows) == 1 for rows in leaders.values())
    return Verdict(PARTLY if changes and alone else NOT_REPRODUCED, reason)


def _name(row: Iterable) -> str:
    return " / ".join(map(str, row))
