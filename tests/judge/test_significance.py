"""Worked examples of every test, and of Holm's correction."""

import itertools
import math

import numpy as np
import pytest
from frames import INF, NAN, draws
from scipy import stats
from statsmodels.stats.multitest import multipletests

from reproduce.judge.significance import cost_test, holm, paired_test


def test_sign_flip_p_is_the_share_of_all_sign_patterns():
    d = np.array([0.3, -0.1, 0.4, 0.2, 0.25, 0.05, -0.02, 0.5])
    means = [np.dot(signs, d) for signs in itertools.product((-1, 1), repeat=8)]
    share = np.mean(np.abs(means) >= abs(d.sum()) - 1e-12)
    assert paired_test(d) == ("sign-flip", pytest.approx(share))
    assert paired_test(np.arange(1, 11)) == ("sign-flip", 2 / 2**10)


def test_five_seeds_fall_back_on_the_paired_t_test():
    x, y = np.array(draws(0.9)), np.array(draws(0.88, seed=1))
    assert paired_test(x - y) == ("t", pytest.approx(stats.ttest_rel(x, y).pvalue))


@pytest.mark.parametrize("n, family, name", [(10, 4, "sign-flip"), (10, 26, "t"), (6, 1, "sign-flip"), (6, 2, "t")])
def test_the_test_is_chosen_by_the_number_of_seeds_and_the_family(n, family, name):
    for scale in (1e-3, 1.0):
        assert paired_test(scale * np.array(draws(0.0, n)), family)[0] == name


def test_equal_differences_are_no_evidence_at_zero_and_certain_elsewhere():
    assert paired_test([0.0] * 5) == ("t", 1.0) and paired_test([0.0] * 10) == ("sign-flip", 1.0)
    assert paired_test([0.1] * 5) == ("t", 0.0)
    assert math.isnan(paired_test([0.1])[1])


def test_seeds_that_a_coarse_reading_cannot_tell_apart_are_not_certain():
    mark = 0.1
    grain = math.sqrt(2 * mark**2 / 12)
    p = 2 * stats.t.sf(0.2 / (grain / math.sqrt(3)), 2)
    assert paired_test([0.2] * 3, grain=grain) == ("t", pytest.approx(p)) and 0.01 < p < 0.02
    assert paired_test([0.0] * 3, grain=grain) == ("t", 1.0)
    wide = [0.0, 0.2, 0.4]
    assert paired_test(wide, grain=grain) == paired_test(wide), "a wider spread is the seeds' own"
    assert paired_test([0.2] * 10, grain=grain)[0] == "sign-flip"
    assert cost_test([2.0] * 3, [1.0] * 3) == ("t", 0.0)
    p = 2 * stats.t.sf(math.log(2) / (0.3 / math.sqrt(3)), 2)
    assert cost_test([2.0] * 3, [1.0] * 3, grain=0.3) == ("t", pytest.approx(p))


def test_holm_of_worked_examples():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(0).uniform(0, 0.2, 12)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    # Demsar (2006), 3.2.2: the first two are rejected at 5 %, the third is not.
    assert holm([0.016, 0.019, 0.607]) == pytest.approx([0.048, 0.048, 0.607])
    # What was not tested is no member of the family.
    assert holm([0.02, NAN, 0.03]) == pytest.approx([0.04, NAN, 0.04], nan_ok=True)


def test_a_miss_is_infinite_and_is_tested_by_ranks():
    hit, miss = [10.0, 12, 11, 14, 13], [INF] * 5
    assert cost_test(hit, miss) == ("Mann-Whitney", pytest.approx(2 / math.comb(10, 5)))
    assert cost_test(miss, hit) == cost_test(hit, miss)
    assert cost_test(hit, miss, family=4)[0] == "Mann-Whitney" and cost_test(hit, miss, 7)[0] == "too few seeds"
    assert math.isnan(cost_test(hit[:3], miss[:3])[1])
    assert cost_test(miss, miss)[0] == "no run reached it" and math.isnan(cost_test(miss, miss)[1])


def test_costs_without_a_miss_are_tested_paired_in_their_logarithms():
    x, y = np.array([10.0, 20, 15, 30, 12]), np.array([15.0, 50, 20, 28, 20])
    assert cost_test(x, y) == ("t", pytest.approx(stats.ttest_rel(np.log(x), np.log(y)).pvalue))
    order = [3, 1, 4, 0, 2]
    assert cost_test(x[order], y[order]) == cost_test(x, y)
