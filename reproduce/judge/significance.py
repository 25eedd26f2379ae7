"""Tests of paired differences and of costs, and Holm's correction."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reproduce.judge.estimates import ALPHA, SEED

PERMUTATIONS = 2**14  # sign flips are all tried up to 14 pairs, the C(2n, n) orders of Mann-Whitney up to 8 a side
# In place of a test's name.
UNREACHED = "no run reached it"
TOO_FEW = "too few seeds"


def paired_test(differences: ArrayLike, family: int = 1, grain: float = 0.0) -> tuple[str, float]:
    """Name and two-sided p of the test that paired differences centre on 0; NaN for fewer than two.

    family: the number of tests that Holm's correction will see.  grain: the standard deviation that reading to the next
    mark (a step size of a sweep, an evaluation) gives a difference. Seeds that agree more closely than that agree by
    its coarseness, so t takes no smaller one. Where it is 0 and all differences are equal (FLOPs a step), p is t's
    limit: 0, or 1 where they are 0.
    """
    d = np.sort(np.asarray(differences, float))
    if d.size < 2:
        return TOO_FEW, math.nan
    if 2.0 ** (1 - d.size) * family > ALPHA:
        if d.std(ddof=1) < grain:
            return "t", float(2 * stats.t.sf(abs(d.mean()) * math.sqrt(d.size) / grain, d.size - 1))
        equal = np.ptp(d) <= 1e-12 * np.abs(d).max()
        return "t", float(d[0] == 0) if equal else float(stats.ttest_1samp(d, 0.0).pvalue)
    result = stats.permutation_test(
        (d,), lambda s, axis: s.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=PERMUTATIONS, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return "sign-flip", float(result.pvalue)


def cost_test(x: ArrayLike, y: ArrayLike, family: int = 1, grain: float = 0.0) -> tuple[str, float]:
    """Name and two-sided p of the test that two costs, paired by seed, are alike.

    Where every cost is positive and finite, the paired test of their log ratios, and `grain` is one of these. With a
    miss (an infinite cost) the exact Mann-Whitney test, which needs ranks alone; NaN where no run reached the target or
    where n seeds cannot decide: 2 / C(2n, n) times the family above ALPHA.
    """
    x, y = np.sort(np.asarray(x, float)), np.asarray(y, float)[np.argsort(np.asarray(x, float), kind="stable")]
    both = np.concatenate([x, y])
    if np.isinf(both).all():
        return UNREACHED, math.nan
    if _have_logs(both):
        return paired_test(np.log(x / y), family, grain)
    if 2 / math.comb(both.size, x.size) * family > ALPHA:
        return TOO_FEW, math.nan
    exact = stats.PermutationMethod(n_resamples=PERMUTATIONS, rng=np.random.default_rng(SEED))
    return "Mann-Whitney", float(stats.mannwhitneyu(x, np.sort(y), method=exact).pvalue)


def cost_lean(x: ArrayLike, y: ArrayLike) -> float:
    """Above 0 where `cost_test` sees x as the dearer, below 0 where y: the sign of what that test is of."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    both = np.concatenate([x, y])
    if _have_logs(both):
        return float(np.log(x / y).mean())
    return float((x[:, None] > y).mean() - (x[:, None] < y).mean())


def _have_logs(costs: NDArray) -> bool:
    return bool(np.isfinite(costs).all() and (costs > 0).all())


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
