"""Worked examples of every estimate."""

import math

import numpy as np
import pytest
from frames import draws

from reproduce.judge.estimates import Estimate, mean, mean_interval, mean_intervals


def test_mean_interval_of_a_worked_example():
    estimate = mean_interval([1, 2, 3, 4, 5])
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)  # t(.975, 4) sd / sqrt(n)
    assert estimate.value == 3 and estimate.n == 5
    assert estimate.low == pytest.approx(3 - half, abs=1e-6) and estimate.high == pytest.approx(3 + half, abs=1e-6)


@pytest.mark.parametrize("interval", [mean_interval, lambda x: mean([x])])
def test_one_seed_has_no_interval_and_none_has_no_value(interval):
    single, nothing = interval([0.9]), interval([])
    assert single.value == 0.9 and math.isnan(single.low) and math.isnan(single.high)
    assert math.isnan(nothing.value) and nothing.n == 0


def test_identical_seeds_have_an_interval_of_width_zero():
    for estimate in (mean_interval([0.5] * 4), mean([[0.5] * 4])):
        assert (estimate.low, estimate.high) == (0.5, 0.5)


def test_bootstrap_interval_of_two_values_is_their_range():
    # The mean of a resample of {0, 1} is 0 with probability 1/4, 1 with 1/4: both beyond 2.5 %.
    assert mean([[0.0, 1.0]]) == Estimate(0.5, 0.0, 1.0, 2)


def test_bootstrap_resamples_seeds_within_their_data_set():
    # No seed differs from another within a set, so there is nothing to resample; across sets there would be.
    estimate = mean([[0.2] * 5, [0.9] * 5])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.55, 0.55, 0.55))


def test_bootstrap_spread_is_that_of_the_mean():
    values = np.arange(200.0)
    estimate = mean([values])
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(200), rel=0.03)


def test_order_of_the_values_does_not_move_an_interval():
    x = draws(0.5, 8)
    assert mean([x]) == mean([x[::-1]]) and mean_interval(x) == mean_interval(x[::-1])


def test_a_data_set_with_one_seed_leaves_the_pooled_interval_open():
    estimate = mean([[0.1, 0.2, 0.3], [0.5]])
    assert estimate.value == pytest.approx(0.35) and math.isnan(estimate.low)


def test_every_data_set_weighs_the_same_in_the_mean():
    assert mean([[0.0] * 10, [1.0] * 2]).value == 0.5


def test_mean_interval_is_students_over_the_last_axis():
    # Three seeds: mean .92, sd .02, t(2) at 97.5 % = 4.302653, half width 4.302653 * .02 / sqrt(3).
    mean, low, high = mean_intervals(np.array([[0.90, 0.92, 0.94], [0.5, np.nan, 0.7], [0.3, np.nan, np.nan]]))
    half = 4.302653 * 0.02 / np.sqrt(3)
    np.testing.assert_allclose([mean[0], low[0], high[0]], [0.92, 0.92 - half, 0.92 + half], atol=1e-7)
    # Two seeds, one missing: sd .1414214, t(1) = 12.706205.
    np.testing.assert_allclose([mean[1], high[1] - mean[1]], [0.6, 12.706205 * 0.1], atol=1e-6)
    assert mean[2] == 0.3 and np.isnan(low[2]) and np.isnan(high[2]), "one seed has a mean and no interval"
