"""Which of two methods is better, for every pair of a grid: the probability of improvement, with its interval.

With four data sets Nemenyi's critical difference of twenty methods' ranks is longer than most of the axis, so that
ranks decide nothing. A pair is decided by its own runs alone (Agarwal et al., NeurIPS 2021, arXiv 2108.13264).
"""

from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.judge.estimates import ALPHA, RESAMPLES, SEED, wins
from reproduce.judge.rows import count_done, pivot_seeds, scores

LOST = -1.0  # below every accuracy: a method none of whose runs finished is better than nobody


def improvement_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a pair of labels: the probability that the first is more accurate than the second on the same seed.

    probability: the share of seeds on which it is, a tie as half, averaged over the data sets that both were run on.
    Its 95 % interval is the bootstrap's, which draws seeds within each data set; NaN where one has a single seed, or
    where no seed says otherwise than the others of its data set, of which the bootstrap would make a certainty. The
    first label is the one that is at least as often better. Raises InputError where rows share a data set, label and
    seed.
    """
    done = count_done(runs, ["dataset"])
    wide = pivot_seeds(runs, scores(runs), ["dataset"])
    values = {
        name: np.column_stack([cell[label] if done[name, label] else cell[label] * 0 + LOST for label in wide])
        for name, cell in wide.groupby(level="dataset", sort=False)
    }  # data set -> (seeds, labels), NaN where there is no such run
    rows = []
    for i, j in combinations(range(wide.shape[1]), 2):
        pairs = [x[:, [i, j]] for x in values.values()]
        strata = [p[:, 0] - p[:, 1] for p in (p[~np.isnan(p).any(1)] for p in pairs) if len(p)]
        if not strata:
            continue
        probability, low, high = _probability(strata)
        if probability < 0.5:
            i, j, probability, low, high = j, i, 1 - probability, 1 - high, 1 - low
        rows.append(
            dict(label=wide.columns[i], against=wide.columns[j], data_sets=len(strata), seeds=min(map(len, strata)))
            | dict(probability=probability, probability_low=low, probability_high=high)
        )
    return pd.DataFrame(rows)


def _probability(strata: list[NDArray]) -> tuple[float, float, float]:
    """strata: differences by seed of each data set. Returns the probability and the ends of its interval."""
    value = float(np.mean([wins(d, -1) for d in strata]))
    if min(map(len, strata)) < 2 or all(np.ptp(np.sign(d)) == 0 for d in strata):
        return value, np.nan, np.nan
    won = [0.5 + np.sign(d) / 2 for d in strata]
    drawn = np.mean([_resamples(k, len(x)) @ x for k, x in enumerate(won)], axis=0)  # (RESAMPLES,)
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return value, float(low), float(high)


@cache
def _resamples(stratum: int, n: int) -> NDArray:  # (RESAMPLES, n)
    """Weights of n seeds in each resample, the same for all pairs: a pair's interval depends on its runs alone."""
    return np.random.default_rng((SEED, stratum, n)).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
