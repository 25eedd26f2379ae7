"""A number and its interval over seeds: Student's, and the bootstrap's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import stdtrit

ALPHA = 0.05
RESAMPLES = 9999
SEED = 0  # of every resampling: the same rows give the same interval
Strata = Sequence[ArrayLike]  # one array of values, one a seed, per data set


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval (NaN where there is none) and how many seeds stand behind it."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike) -> Estimate:
    """Mean and Student's t interval of independent values; NaN bounds for fewer than two."""
    x = np.sort(np.asarray(values, float))
    if x.size < 2:
        return Estimate(float(x[0]) if x.size else math.nan, math.nan, math.nan, x.size)
    mean, half = float(x.mean()), float(stats.t.ppf(1 - ALPHA / 2, x.size - 1) * stats.sem(x))
    return Estimate(mean, mean - half, mean + half, x.size)


def bootstrap(strata: Strata, statistic: Callable[..., NDArray], least: int = 2) -> Estimate:
    """`statistic(*strata, axis)` with a stratified percentile interval: values are resampled within their stratum.

    Every value must be one seed's. NaN bounds where a stratum has fewer than `least` values: its spread is unknown.
    """
    samples = [np.sort(np.asarray(x, float)) for x in strata]
    n = sum(x.size for x in samples)
    if not samples or min(x.size for x in samples) == 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    value = float(statistic(*samples, axis=-1))
    if min(x.size for x in samples) < least:
        return Estimate(value, math.nan, math.nan, n)
    interval = stats.bootstrap(
        samples, statistic, n_resamples=RESAMPLES, confidence_level=1 - ALPHA, method="percentile", vectorized=True,
        rng=np.random.default_rng(SEED),
    ).confidence_interval  # fmt: skip
    return Estimate(value, float(interval.low), float(interval.high), n)


def mean(strata: Strata) -> Estimate:
    """Mean of the strata's means, every stratum with the same weight."""
    return bootstrap(strata, lambda *x, axis: np.mean([s.mean(axis=axis) for s in x], axis=0))


def wins(difference: NDArray, axis: int) -> NDArray:
    return 0.5 + np.sign(difference).mean(axis=axis) / 2


def mean_intervals(
    values: np.ndarray, level: float = 0.95, least: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds and the ends of Student's t interval of that mean.

    values: (..., seeds); NaN where a seed has no value.  Returns three arrays (...,); the ends are NaN where fewer
    than `least` seeds, or two, have a value, the mean where none has.
    """
    values = np.asarray(values, dtype=float)
    there = np.isfinite(values)
    n = there.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(there, values, 0).sum(-1) / n
        variance = np.where(there, (values - mean[..., None]) ** 2, 0).sum(-1) / (n - 1)
        half = stdtrit(n - 1, (1 + level) / 2) * np.sqrt(variance / n)
    half = np.where(n >= max(least, 2), half, np.nan)
    return mean, mean - half, mean + half


def spread(name: str, values: pd.Series) -> dict[str, float]:
    estimate = mean_interval(values.dropna().astype(float))
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
