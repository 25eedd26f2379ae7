"""Comparisons: pairing, Holm's families, contrasts, ties with the best."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from frames import INF, NAN, draws, make_runs, one, shuffled
from scipy import stats

from am.errors import InputError
from reproduce.judge.compare import best_and_ties, compare, compare_costs, contrast, mean_of
from reproduce.judge.significance import cost_lean, holm, paired_test
from reproduce.judge.targets import cost_to_target
from reproduce.judge.verdicts import Verdict, verdict


def test_compare_of_a_worked_example():
    a, b = [0.90, 0.92, 0.91, 0.95, 0.93], [0.88, 0.91, 0.92, 0.90, 0.90]
    row = compare(make_runs({"A": {"mnist": a}, "B": {"mnist": b}}), "A", "B").iloc[0]
    d = np.subtract(a, b)
    half = stats.t.ppf(0.975, 4) * d.std(ddof=1) / math.sqrt(5)
    assert row["effect"] == pytest.approx(0.02) and (row["a_value"], row["b_value"]) == pytest.approx((0.922, 0.902))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.02 - half, 0.02 + half))
    assert d.min() <= row["boot_low"] < 0.02 < row["boot_high"] <= d.max()
    assert row["probability"] == 0.8 and row["n"] == 5 and row["unpaired"] == 0
    assert row["p"] == pytest.approx(stats.ttest_rel(a, b).pvalue) and row["p_holm"] == row["p"]


def test_comparisons_are_paired_by_seed():
    # The same difference in every seed under a spread that would drown it: found paired, and only paired.
    spread, noise = np.linspace(0.2, 0.8, 6), 1e-3 * np.array([1, -1, 1, -1, 1, -1])
    runs = make_runs({"A": {"mnist": list(spread + 0.02 + noise)}, "B": {"mnist": list(spread)}})
    assert compare(runs, "A", "B").iloc[0]["outcome"] == "better"
    apart = runs.assign(seed=np.where(runs["label"] == "A", (runs["seed"] + 3) % 6, runs["seed"]))
    assert compare(apart, "A", "B").iloc[0]["outcome"] == "tied"


def test_seeds_of_one_method_alone_are_left_out_and_counted():
    runs = make_runs({"A": {"mnist": draws(0.9, 7)}, "B": {"mnist": draws(0.8, 5, 1)}})
    row = compare(runs, "A", "B").iloc[0]
    assert row["n"] == 5 and row["unpaired"] == 2
    same = compare(runs[runs["seed"] < 5], "A", "B").iloc[0]
    assert row["effect"] == same["effect"] and row["p"] == same["p"]


def test_holm_runs_over_all_data_sets_and_comparators():
    runs = make_runs(
        {
            "A": {"mnist": draws(0.9), "svhn": draws(0.5), "cifar10": draws(0.6)},
            "B": {"mnist": draws(0.88, seed=1), "svhn": draws(0.49, seed=2), "cifar10": draws(0.6, seed=3)},
            "C": {"mnist": draws(0.1, seed=4), "svhn": draws(0.1, seed=5), "cifar10": draws(0.1, seed=6)},
        }
    )
    table = compare(runs, "A", ["B", "C"])
    assert list(table["p_holm"]) == pytest.approx(list(holm(table["p"])))
    assert (table["p_holm"] > table["p"]).any()


def test_a_loss_within_the_noise_after_holm_is_a_tie_and_a_win_stands():
    # p = .03 alone is below 5 %; as one of two data sets it is not. Better than all is better than each.
    d = stats.t.ppf(1 - 0.03 / 2, 4) * 0.01 / math.sqrt(5)
    pair = {"A": {"mnist": draws(0.5 + d)}, "B": {"mnist": [0.5] * 5}}
    assert compare(make_runs(pair), "A", "B").iloc[0]["outcome"] == "better"
    pair["A"]["svhn"], pair["B"]["svhn"] = draws(0.3), draws(0.3, seed=1)
    assert list(compare(make_runs(pair), "A", "B")["outcome"]) == ["better", "tied"]
    assert list(compare(make_runs(pair), "B", "A")["outcome"]) == ["tied", "tied"]


def test_too_few_seeds_give_no_test():
    runs = make_runs({"A": {"mnist": [0.9, 0.91]}, "B": {"mnist": [0.1, 0.12]}})
    row = compare(runs, "A", "B").iloc[0]
    assert row["outcome"] == "untested" and math.isnan(row["p"]) and row["effect"] == pytest.approx(0.795)
    single = compare(runs[runs["seed"] == 0], "A", "B").iloc[0]
    assert single[["ci_low", "ci_high", "boot_low", "boot_high"]].isna().all()


def test_what_is_not_tested_does_not_enlarge_the_family():
    # Six seeds decide by sign-flips on one data set (2^-5), not on two.
    runs = make_runs({"A": {"mnist": draws(0.9, 6), "svhn": [0.9]}, "B": {"mnist": draws(0.8, 6, 1), "svhn": [0.8]}})
    row = one(compare(runs, "A", "B"), dataset="mnist")
    assert (row["test"], row["p"], row["p_holm"]) == ("sign-flip", 2**-5, 2**-5)
    # Another comparator is of the same family: six seeds cannot decide two tests by sign-flips.
    more = pd.concat([runs, make_runs({"C": {"mnist": draws(0.7, 6, 2)}})])
    assert set(compare(more, "A", ["B", "C"]).query("dataset == 'mnist'")["test"]) == {"t"}


def test_a_data_set_where_one_method_never_ran_is_untested():
    runs = make_runs({"A": {"mnist": draws(0.9), "svhn": draws(0.9)}, "B": {"mnist": draws(0.8, seed=1)}})
    row = one(compare(runs, "A", "B"), dataset="svhn")
    assert row["n"] == 0 and row["unpaired"] == 5 and row["outcome"] == "untested" and math.isnan(row["effect"])


def test_group_by_more_than_one_column():
    runs = pd.concat(
        [
            make_runs({"A": {"mnist": draws(0.9)}, "B": {"mnist": draws(0.8, seed=1)}}),
            make_runs({"A": {"mnist": draws(0.5)}, "B": {"mnist": draws(0.8, seed=1)}}, activation="elu"),
        ]
    )
    table = compare(runs, "A", "B", by=["dataset", "activation"])
    assert list(table["activation"]) == ["relu", "elu"] and list(table["outcome"]) == ["better", "worse"]
    result = verdict("better", table, by=["dataset", "activation"])
    told = "holds: mnist / relu; the opposite: mnist / elu (B)"
    assert result == Verdict("refuted", told, wins=1, ties=0, losses=1)


def test_contrast_is_the_difference_of_the_gains():
    def grid(activation, a, b, seed):
        pair = {"A": {"mnist": draws(a, seed=seed)}, "B": {"mnist": draws(b, seed=seed + 9)}}
        return make_runs(pair, activation=activation)

    means = dict(relu=0.8, elu=0.78, softplus=0.88, selu=0.86)
    runs = pd.concat([grid(name, 0.9, b, seed) for seed, (name, b) in enumerate(means.items())])
    row = contrast(runs, "A", "B", "activation", ["relu", "elu"]).iloc[0]
    assert row["effect"] == pytest.approx((0.10 + 0.12) / 2 - (0.02 + 0.04) / 2)
    assert row["outcome"] == "better" and row["n"] == 5
    other = contrast(runs, "A", "B", "activation", ["softplus", "selu"]).iloc[0]
    assert other["effect"] == pytest.approx(-row["effect"]) and other["outcome"] == "worse"
    # An activation that one of the two cannot run is no part of it.
    gelu = grid("gelu", 0.0, 0.9, 3)
    more = pd.concat([runs, gelu[gelu["label"] == "B"]])
    assert contrast(more, "A", "B", "activation", ["relu", "elu"]).iloc[0]["effect"] == row["effect"]
    # A function that stands twice under two names is left out of both sides by name.
    twice = contrast(runs, "A", "B", "activation", ["relu"], ["softplus"]).iloc[0]
    assert twice["effect"] == pytest.approx(0.10 - 0.02) and twice["a_done"] == 5
    with pytest.raises(InputError, match="nothing to contrast"):
        contrast(runs, "A", "B", "activation", ["relu", "elu", "softplus", "selu"])
    with pytest.raises(InputError, match="did you mean 'relu'"):
        contrast(runs, "A", "B", "activation", ["rely"])


def test_the_mean_of_labels_is_paired_by_seed_and_counts_failures_as_chance():
    runs = make_runs(
        {
            "A": {"mnist": [0.9, 0.8, "diverged", 0.5]},
            "B": {"mnist": [0.7, "diverged", "failed"]},
            "C": {"mnist": [0.1] * 4},
        }
    )
    table = mean_of(runs, ["A", "B"], "mean")
    assert list(table["seed"]) == [0, 1, 2] and set(table["label"]) == {"mean"}  # B has no fourth seed
    assert list(table["test_accuracy"]) == pytest.approx([0.8, 0.45, 0.1])
    assert list(table["status"]) == ["done", "done", "failed"]
    pd.testing.assert_frame_equal(table, mean_of(shuffled(runs[runs["label"] != "C"]), ["A", "B"], "mean"))
    with pytest.raises(InputError, match="unknown label 'D'"):
        mean_of(runs, ["A", "D"], "mean")


def test_differences_that_are_equal_up_to_rounding_are_equal():
    d = [0.1 + 0.2, 0.3, 0.3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paired_test(d) == ("t", 0.0)


def test_a_cost_that_was_not_measured_is_refused_and_no_miss():
    runs = make_runs({"A": {"mnist": [0.9]}})
    curves = pd.DataFrame(dict(run_key="A/mnist/0", val_accuracy=[0.5, 0.9], seconds=[NAN, NAN]))
    with pytest.raises(InputError, match="no 'seconds'"):
        cost_to_target(runs, curves, 0.8, cost="seconds")
    assert cost_to_target(runs, curves, 0.95, cost="seconds")["cost"].item() == INF


def test_cost_ratios_of_a_worked_example():
    runs = make_runs({"A": {"mnist": [0.9] * 5}, "B": {"mnist": [0.9] * 5}})
    runs["cost"] = [10.0, 20, 30, 20, 10, 40, 40, 50, 50, 50]
    row = compare_costs(runs, "A", "B").iloc[0]
    ratios = [0.25, 0.5, 0.6, 0.4, 0.2]
    assert row["effect"] == pytest.approx(0.4) and (row["a_value"], row["b_value"]) == (20, 50)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((min(ratios), max(ratios)))
    assert row["outcome"] == "better" and row["scale"] == "ratio" and row["probability"] == 1
    back = compare_costs(runs, "B", "A").iloc[0]
    assert back["effect"] == pytest.approx(2.5) and back["outcome"] == "worse"


def test_misses_in_cost_ratios():
    def ratio(a, b):
        runs = make_runs({"A": {"mnist": [0.9] * len(a)}, "B": {"mnist": [0.9] * len(b)}})
        return compare_costs(runs.assign(cost=[*a, *b]), "A", "B").iloc[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ratio([10.0] * 5, [INF] * 5)[["effect", "ci_high", "outcome"]].to_list() == [0.0, 0.0, "better"]
        assert ratio([INF] * 5, [10.0] * 5)[["effect", "ci_low", "outcome"]].to_list() == [INF, INF, "worse"]
        neither = ratio([INF] * 5, [INF] * 5)
        assert neither[["effect", "outcome", "test"]].to_list() == [1.0, "untested", "no run reached it"]
        mixed = ratio([10.0, 10, INF, INF], [INF, INF, 10, 10])
        assert mixed["effect"] == 1.0 and np.isnan(mixed["ci_high"]) and mixed["outcome"] == "tied"  # four seeds
        assert ratio([0.0] * 5, [0.0] * 5)["outcome"] == "tied"
    with pytest.raises(InputError, match="missing or negative"):
        ratio([NAN] * 3, [1.0] * 3)


def test_a_median_that_points_the_other_way_than_its_test_decides_nothing():
    def ratio(a, b):
        runs = make_runs({"A": {"mnist": [0.9] * len(a)}, "B": {"mnist": [0.9] * len(b)}})
        return compare_costs(runs.assign(cost=[*a, *b]), "A", "B").iloc[0]

    # Most seeds a little cheaper, the others ten times as dear: the mean logarithm says dearer.
    row = ratio([0.99] * 8 + [10.0] * 6, [1.0] * 14)
    assert row["effect"] < 1 and row["p"] < 0.05 and row["outcome"] == "tied"
    # The other is a little cheaper on six seeds and misses four, for which ranks say dearer.
    row = ratio(range(1, 11), [INF] * 4 + [cost - 0.1 for cost in range(5, 11)])
    assert row["effect"] > 1 and row["p"] < 0.05 and row["outcome"] == "tied"
    assert cost_lean([2.0, 2], [1, INF]) == 0 and cost_lean([1.0, INF], [2, INF]) < 0 < cost_lean([2, 8], [1, 9])


def test_a_label_that_ran_on_one_data_set_alone_is_compared_there():
    runs = make_runs({"A": {"mnist": [0.9] * 5, "svhn": [0.9] * 5}, "B": {"mnist": [0.9] * 5}})
    runs = runs.assign(cost=[1.0] * 10 + [2.0] * 5, before=[0.9] * 10 + [1.9] * 5)
    table = compare_costs(runs, "A", "B").set_index("dataset")["outcome"]
    assert table["mnist"] == "better" and table["svhn"] == "untested"


def test_a_cost_that_is_the_same_in_every_seed_can_be_judged():
    runs = make_runs({"A": {"mnist": [0.9] * 5}, "B": {"mnist": [0.9] * 5}})
    runs["cost"] = [3.0] * 5 + [4.0] * 5
    assert compare_costs(runs, "A", "B").iloc[0]["outcome"] == "better"
    assert compare_costs(runs.assign(cost=3.0), "A", "B").iloc[0]["outcome"] == "tied"


def test_best_and_ties_are_by_the_test():
    runs = make_runs(
        {
            "Best": {"mnist": draws(0.9)},
            "Close": {"mnist": draws(0.899, seed=1)},
            "Worse": {"mnist": draws(0.8, seed=2)},
            "Gone": {"mnist": ["diverged"] * 5},
        }
    )
    table = best_and_ties(runs).set_index("label")
    assert list(table["best"]) == [True, False, False, False]
    assert list(table["among_best"]) == [True, True, False, False]
    assert list(table["outcome"]) == ["best", "tied", "worse", "failed"]
    assert list(table["score"]) == pytest.approx([0.9, 0.899, 0.8, 0.1])
    few = best_and_ties(runs[runs["seed"] < 2]).set_index("label")
    assert list(few.index[few["among_best"]]) == list(few.index[few["best"]])
    assert sorted(few["outcome"]) == ["best", "failed", "untested", "untested"]


def test_holm_judges_the_labels_of_a_group_and_makes_none_bold():
    # Each loses to the best at p = .03: worse where it is alone, a tie as one of two, and bold in neither.
    d = stats.t.ppf(1 - 0.03 / 2, 4) * 0.01 / math.sqrt(5)
    runs = make_runs({"Best": {"mnist": [0.9] * 5}, "B": {"mnist": draws(0.9 - d)}, "C": {"mnist": draws(0.9 - d)}})
    three, two = best_and_ties(runs), best_and_ties(runs[runs["label"] != "C"])
    assert list(three["outcome"]) == ["best", "tied", "tied"] and list(two["outcome"]) == ["best", "worse"]
    assert list(three["among_best"]) == [True, False, False] and list(two["among_best"]) == [True, False]
    assert list(three["p_holm"][1:]) == pytest.approx([0.06, 0.06])


def test_nothing_is_best_where_nothing_finished():
    table = best_and_ties(make_runs({"A": {"mnist": ["diverged"] * 3}, "B": {"mnist": ["failed"] * 3}}))
    assert not table[["best", "among_best"]].any(axis=None) and set(table["outcome"]) == {"failed"}


def test_costs_read_at_evaluations_are_as_sure_as_the_evaluations_are_dense():
    runs = make_runs({"A": {"mnist": [0.9] * 3}, "B": {"mnist": [0.9] * 3}})
    runs["cost"] = [3.0] * 3 + [6.0] * 3
    p = [
        compare_costs(runs.assign(before=runs["cost"] * share), "A", "B").iloc[0]["p"] for share in (0.999, 0.6, 0.5, 0)
    ]
    assert p[0] < 1e-4 < p[1] < p[2] == p[3] < 0.1, "of the first evaluation at the least half"
    grain = math.sqrt(2 * math.log(2) ** 2 / 12)
    assert p[2] == pytest.approx(paired_test([-math.log(2)] * 3, grain=grain)[1])
    missed = runs.assign(cost=[3.0, 3, 3, INF, INF, INF], before=[2.0, 2, 2, INF, INF, INF])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compare_costs(missed, "A", "B").iloc[0]["test"] == "too few seeds"


def test_a_metric_read_to_marks_is_as_sure_as_the_marks_are_near():
    runs = make_runs({"A": {"mnist": [0.8] * 3}, "B": {"mnist": [0.6] * 3}})
    assert compare(runs, "A", "B").iloc[0]["p"] == 0
    near, far = (compare(runs, "A", "B", mark=mark).iloc[0]["p"] for mark in (0.1, 0.2))
    assert 0 < near < 0.05 < far
