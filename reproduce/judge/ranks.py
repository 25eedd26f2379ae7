"""Average ranks over data sets, Friedman's test and Nemenyi's critical difference (Demsar, JMLR 2006).

For a handful of methods alone: the critical difference grows with their number, and for 22 of them on four data sets it
is 16.5 ranks, which decides nothing. `reproduce.judge.improvement` compares many.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from am.errors import InputError
from reproduce.judge.estimates import ALPHA
from reproduce.judge.rows import is_finished, listed, pivot_seeds, scores

HANDFUL = 6  # methods; with four data sets the critical difference of six is 3.8 ranks of five


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
    by = listed(by)
    values = scores(runs, metric, unfinished)
    means = pivot_seeds(runs, values, by).groupby(by).mean()
    finished = pivot_seeds(runs, values.where(is_finished(runs)), by).groupby(by).mean()
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
