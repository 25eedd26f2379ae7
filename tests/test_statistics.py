"""Statistics: worked examples of every estimate and test, and one test for every line of the protocol."""

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from am.errors import InputError
from reproduce import statistics as st

NAN, INF = math.nan, math.inf

# Demsar (JMLR 2006), table 6: AUC of C4.5 with tuned m and cf. "voting" differs in the digit that its ranks need.
DEMSAR = pd.DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
)  # fmt: skip


def make_runs(accuracies, **columns):
    """{label: {dataset: one accuracy a seed}} -> rows of runs.csv; a word in place of a number is the run's status."""
    rows = []
    for label, sets in accuracies.items():
        for dataset, values in sets.items():
            for seed, value in enumerate(values):
                done = not isinstance(value, str)
                row = dict.fromkeys(st.MEANS, 1.0) | dict(
                    grid="g", profile="light", rule="paper", lane="accuracy", dataset=dataset, data_official=True,
                    n_train=1000, inputs="unit", activation="relu", hidden="100-100", init="he",
                    method=label.split()[0].lower(), label=label, hyperparameters="{}", seed=seed,
                    status="done" if done else value, test_accuracy=value if done else NAN,
                    val_accuracy=value if done else NAN, run_key=f"{label}/{dataset}/{seed}",
                )  # fmt: skip
                rows.append(row | columns)
    return pd.DataFrame(rows)


def draws(mean, n=5, seed=0, sd=0.01):
    """n values with exactly this mean and standard deviation."""
    x = np.random.default_rng(seed).standard_normal(n)
    return list(mean + sd * (x - x.mean()) / x.std(ddof=1))


def one(table, **where):
    rows = table[np.logical_and.reduce([table[key] == value for key, value in where.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


def shuffled(frame, seed=3):
    return frame.sample(frac=1.0, random_state=seed)


# ---------------------------------------------------------------------------------------------------------- estimates


def test_mean_interval_of_a_worked_example():
    estimate = st.mean_interval([1, 2, 3, 4, 5])
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)  # t(.975, 4) sd / sqrt(n)
    assert estimate.value == 3 and estimate.n == 5
    assert estimate.low == pytest.approx(3 - half, abs=1e-6) and estimate.high == pytest.approx(3 + half, abs=1e-6)


@pytest.mark.parametrize("interval", [st.mean_interval, lambda x: st.mean([x]), lambda x: st.iqm([x])])
def test_one_seed_has_no_interval_and_none_has_no_value(interval):
    single, nothing = interval([0.9]), interval([])
    assert single.value == 0.9 and math.isnan(single.low) and math.isnan(single.high)
    assert math.isnan(nothing.value) and nothing.n == 0


def test_identical_seeds_have_an_interval_of_width_zero():
    for estimate in (st.mean_interval([0.5] * 4), st.mean([[0.5] * 4])):
        assert (estimate.low, estimate.high) == (0.5, 0.5)


def test_iqm_of_worked_examples():
    assert st.iqm(np.array([[1, 2], [2, 2], [1, 1], [2, 1]]).T).value == 1.5
    assert st.iqm(np.array([[1, 1], [2, 2], [3, 3]]).T).value == 2
    assert st.iqm([[0, 0, 1, 2, 3, 4, 90, 95]]).value == 2.5  # the middle half of eight


def test_bootstrap_interval_of_two_values_is_their_range():
    # The mean of a resample of {0, 1} is 0 with probability 1/4, 1 with 1/4: both beyond 2.5 %.
    assert st.mean([[0.0, 1.0]]) == st.Estimate(0.5, 0.0, 1.0, 2)


def test_bootstrap_resamples_seeds_within_their_data_set():
    # No seed differs from another within a set, so there is nothing to resample; across sets there would be.
    estimate = st.mean([[0.2] * 5, [0.9] * 5])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.55, 0.55, 0.55))
    assert st.iqm([[0.2] * 5, [0.9] * 5]).low == pytest.approx(0.55)


def test_bootstrap_spread_is_that_of_the_mean():
    values = np.arange(200.0)
    estimate = st.mean([values])
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(200), rel=0.03)


def test_order_of_the_values_does_not_move_an_interval():
    x = draws(0.5, 8)
    assert st.mean([x]) == st.mean([x[::-1]]) and st.mean_interval(x) == st.mean_interval(x[::-1])


def test_a_data_set_with_one_seed_leaves_the_pooled_interval_open():
    estimate = st.mean([[0.1, 0.2, 0.3], [0.5]])
    assert estimate.value == pytest.approx(0.35) and math.isnan(estimate.low)


def test_every_data_set_weighs_the_same_in_the_mean():
    assert st.mean([[0.0] * 10, [1.0] * 2]).value == 0.5


def test_probability_of_improvement_of_the_worked_example():
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]).T, np.array([[1, 1], [2, 2], [3, 3]]).T
    assert st.probability_of_improvement(x, y).value == pytest.approx(1 / 3)


def test_probability_of_improvement_is_mann_whitneys_u():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 9), rng.integers(0, 6, 7)
    u = stats.mannwhitneyu(x, y).statistic
    estimate = st.probability_of_improvement([x], [y])
    assert estimate.value == pytest.approx(u / 63)
    assert estimate.low < estimate.value < estimate.high
    assert st.probability_of_improvement([[1, 2]], [[3, 4]]).high == 0


def test_paired_probability_counts_ties_half():
    assert st.paired_probability([[1.0, -1.0, 0.0, 2.0]]).value == 2.5 / 4
    # 0.2 above everywhere, but shuffled against each other: paired sees it in every seed, unpaired does not.
    x = np.array([0.1, 0.5, 0.9])
    assert st.paired_probability([x + 0.2 - x]).value == 1 > st.probability_of_improvement([x + 0.2], [x]).value


# -------------------------------------------------------------------------------------------------------------- tests


def test_sign_flip_p_is_the_share_of_all_sign_patterns():
    d = np.array([0.3, -0.1, 0.4, 0.2, 0.25, 0.05, -0.02, 0.5])
    means = [np.dot(signs, d) for signs in itertools.product((-1, 1), repeat=8)]
    share = np.mean(np.abs(means) >= abs(d.sum()) - 1e-12)
    assert st.paired_test(d) == ("sign-flip", pytest.approx(share))
    assert st.paired_test(np.arange(1, 11)) == ("sign-flip", 2 / 2**10)


def test_five_seeds_fall_back_on_the_paired_t_test():
    x, y = np.array(draws(0.9)), np.array(draws(0.88, seed=1))
    assert st.paired_test(x - y) == ("t", pytest.approx(stats.ttest_rel(x, y).pvalue))


@pytest.mark.parametrize("n, family, name", [(10, 4, "sign-flip"), (10, 26, "t"), (6, 1, "sign-flip"), (6, 2, "t")])
def test_the_test_is_chosen_by_the_number_of_seeds_and_the_family(n, family, name):
    for scale in (1e-3, 1.0):
        assert st.paired_test(scale * np.array(draws(0.0, n)), family)[0] == name


def test_equal_differences_are_no_evidence_at_zero_and_certain_elsewhere():
    assert st.paired_test([0.0] * 5) == ("t", 1.0) and st.paired_test([0.0] * 10) == ("sign-flip", 1.0)
    assert st.paired_test([0.1] * 5) == ("t", 0.0)
    assert math.isnan(st.paired_test([0.1])[1])


def test_holm_of_worked_examples():
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(0).uniform(0, 0.2, 12)
    assert st.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    # Demsar (2006), 3.2.2: the first two are rejected at 5 %, the third is not.
    assert st.holm([0.016, 0.019, 0.607]) == pytest.approx([0.048, 0.048, 0.607])
    # What was not tested is no member of the family.
    assert st.holm([0.02, NAN, 0.03]) == pytest.approx([0.04, NAN, 0.04], nan_ok=True)


def test_a_miss_is_infinite_and_is_tested_by_ranks():
    hit, miss = [10.0, 12, 11, 14, 13], [INF] * 5
    assert st.cost_test(hit, miss) == ("Mann-Whitney", pytest.approx(2 / math.comb(10, 5)))
    assert st.cost_test(miss, hit) == st.cost_test(hit, miss)
    assert st.cost_test(hit, miss, family=4)[0] == "Mann-Whitney" and st.cost_test(hit, miss, 7)[0] == "too few seeds"
    assert math.isnan(st.cost_test(hit[:3], miss[:3])[1])
    assert st.cost_test(miss, miss)[0] == "no run reached it" and math.isnan(st.cost_test(miss, miss)[1])


def test_costs_without_a_miss_are_tested_paired_in_their_logarithms():
    x, y = np.array([10.0, 20, 15, 30, 12]), np.array([15.0, 50, 20, 28, 20])
    assert st.cost_test(x, y) == ("t", pytest.approx(stats.ttest_rel(np.log(x), np.log(y)).pvalue))
    order = [3, 1, 4, 0, 2]
    assert st.cost_test(x[order], y[order]) == st.cost_test(x, y)


# --------------------------------------------------------------------------------------------------- scores and rows


def test_unfinished_runs_score_chance_and_only_an_accuracy_has_a_chance_level():
    runs = make_runs({"A": {"mnist": [0.9, "diverged", "failed"]}}).assign(objective=[1.0, NAN, NAN])
    assert list(st.scores(runs)) == [0.9, 0.1, 0.1]
    with pytest.raises(InputError, match="objective"):
        st.scores(runs, "objective")
    assert list(st.scores(runs, "objective", unfinished=9.0)) == [1.0, 9.0, 9.0]


def test_a_finished_run_without_a_value_is_refused():
    runs = make_runs({"A": {"mnist": [0.9, NAN]}})
    with pytest.raises(InputError, match="'A' with seed 1 has no test_accuracy"):
        st.scores(runs)


def test_unknown_words_are_refused_with_the_nearest_one():
    runs = make_runs({"TIAM": {"mnist": [0.9]}, "Adam": {"mnist": [0.8]}})
    with pytest.raises(InputError, match="did you mean 'TIAM'"):
        st.compare(runs, "TIAN", "Adam")
    with pytest.raises(InputError, match="did you mean 'test_accuracy'"):
        st.compare(runs, "TIAM", "Adam", metric="test_acuracy")
    with pytest.raises(InputError, match="did you mean 'diverged'"):
        st.summary(runs.assign(status="divergd"))
    with pytest.raises(InputError, match="itself"):
        st.compare(runs, "TIAM", "TIAM")


@pytest.mark.parametrize(
    "use",
    [
        lambda runs: st.compare(runs, "A", "B"),
        lambda runs: st.best_and_ties(runs),
        lambda runs: st.aggregate(runs),
        lambda runs: st.summary(runs),
        lambda runs: st.levels(runs, "test_accuracy"),
        lambda runs: st.overall(runs, "A", "B"),
    ],
)
def test_two_rows_of_one_seed_are_never_two_replications(use):
    runs = make_runs({"A": {"mnist": draws(0.9)}, "B": {"mnist": draws(0.8, seed=1)}})
    use(runs)
    evaluations = pd.concat([runs, runs.assign(test_accuracy=runs["test_accuracy"] + 1e-3, init="normal")])
    with pytest.raises(InputError, match="differ in init: the seed is the unit"):
        use(evaluations)


# ------------------------------------------------------------------------------------------------------------ summary


def test_summary_of_a_worked_example():
    runs = make_runs({"A": {"mnist": [0.9, 0.8, 0.7, 0.6, "diverged", "failed"]}})
    runs["flops"] = [1.0, 2, 3, 4, 1000, NAN]
    row = st.summary(runs).iloc[0]
    assert (row["runs"], row["done"], row["diverged"], row["failed"]) == (6, 4, 1, 1)
    assert row["mean"] == pytest.approx(0.75) and row["sd"] == pytest.approx(np.std([0.9, 0.8, 0.7, 0.6], ddof=1))
    half = stats.t.ppf(0.975, 3) * row["sd"] / 2
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.75 - half, 0.75 + half))
    assert (row["median"], row["iqm"], row["min"], row["max"]) == pytest.approx((0.75, 0.75, 0.6, 0.9))
    assert row["mean_all"] == pytest.approx((3.0 + 0.1 + 0.1) / 6)
    assert row["flops"] == 2.5  # of the finished runs


def test_summary_of_one_seed_and_of_none_that_finished():
    table = st.summary(make_runs({"A": {"mnist": [0.9]}, "B": {"mnist": ["diverged", "diverged"]}}))
    single, none = table.iloc[0], table.iloc[1]
    assert single["mean"] == 0.9 and single[["sd", "ci_low", "ci_high"]].isna().all()
    assert none[["mean", "sd", "ci_low", "ci_high", "median", "iqm", "min", "max", "flops"]].isna().all()
    assert none["mean_all"] == 0.1 and none["diverged"] == 2


def test_summary_keeps_unknown_accuracies_unknown():
    # Trials of a tuning never read the test set: their rows have none, which is not the same as chance.
    runs = make_runs({"A": {"mnist": [NAN, NAN, "diverged"]}})
    row = st.summary(runs).iloc[0]
    assert math.isnan(row["mean"]) and math.isnan(row["mean_all"]) and row["done"] == 2


def test_summary_rows_stand_in_the_order_of_first_appearance_and_empty_settings_are_kept():
    runs = make_runs({"Z": {"svhn": draws(0.5), "mnist": draws(0.9)}, "A": {"svhn": draws(0.4), "mnist": draws(0.8)}})
    runs["n_train"] = runs["n_train"].where(runs["dataset"] == "mnist")
    table = st.summary(runs)
    assert list(zip(table["label"], table["dataset"])) == [
        ("Z", "svhn"), ("Z", "mnist"), ("A", "svhn"), ("A", "mnist")
    ]  # fmt: skip
    assert (table["runs"] == 5).all() and list(table.columns[:9]) == list(st.SETTING)
    assert len(st.summary(runs.iloc[:0])) == 0 and list(st.summary(runs.iloc[:0]).columns) == list(table.columns)


def test_order_of_rows_changes_no_number():
    runs = make_runs(
        {
            "A": {"mnist": draws(0.9, 7), "svhn": draws(0.5, 7, 1)},
            "B": {"mnist": draws(0.89, 7, 2), "svhn": [*draws(0.52, 6, 3), "diverged"]},
            "C": {"mnist": draws(0.7, 7, 4), "svhn": draws(0.7, 7, 5)},
        }
    )
    runs["cost"] = 1 / runs["test_accuracy"]
    mixed = shuffled(runs)
    for use, key in [
        (st.summary, ["label", "dataset"]),
        (lambda r: st.compare(r, "A", ["B", "C"]), ["b", "dataset"]),
        (lambda r: st.compare_costs(r, "A", ["B", "C"]), ["b", "dataset"]),
        (st.aggregate, ["label"]),
        (st.best_and_ties, ["label", "dataset"]),
        (lambda r: st.levels(r, "test_accuracy", unfinished=0.0), ["a", "dataset"]),
    ]:
        ordered, other = (use(r).sort_values(key).reset_index(drop=True) for r in (runs, mixed))
        pd.testing.assert_frame_equal(ordered, other, check_exact=True)
    for use in (st.overall, st.overall_ratio, st.improvement):
        assert use(runs, "A", "B") == use(mixed, "A", "B")


def test_adding_a_method_changes_no_number_of_another():
    two = {
        "A": {"mnist": draws(0.9), "svhn": draws(0.5)},
        "B": {"mnist": draws(0.88, seed=1), "svhn": draws(0.5, seed=2)},
    }
    runs = make_runs(two)
    more = make_runs({"First": {"mnist": draws(0.99), "svhn": ["diverged"] * 5}} | two | {"Last": {"mnist": [0.1] * 5}})
    more.loc[more["label"] == "Last", "test_accuracy"] = NAN  # and even where the new rows would be refused
    pd.testing.assert_frame_equal(st.compare(runs, "A", "B"), st.compare(more, "A", "B"), check_exact=True)
    assert st.overall(runs, "A", "B") == st.overall(more, "A", "B")
    assert st.improvement(runs, "A", "B") == st.improvement(more, "A", "B")
    old, new = st.summary(runs), st.summary(more)
    new = new[new["label"].isin(["A", "B"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, new, check_exact=True)
    more = more[more["label"] != "Last"]
    new = st.aggregate(more)
    new = new[new["label"].isin(["A", "B"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(st.aggregate(runs), new, check_exact=True)
    more["val_accuracy"] = more["test_accuracy"]
    assert st.targets(runs, "A").equals(st.targets(more, "A"))


def test_the_same_rows_give_the_same_numbers_twice():
    runs = make_runs({"A": {"mnist": draws(0.9)}, "B": {"mnist": draws(0.88, seed=1)}})
    pd.testing.assert_frame_equal(st.compare(runs, "A", "B"), st.compare(runs, "A", "B"), check_exact=True)


# --------------------------------------------------------------------------------------------------------- comparison


def test_compare_of_a_worked_example():
    a, b = [0.90, 0.92, 0.91, 0.95, 0.93], [0.88, 0.91, 0.92, 0.90, 0.90]
    row = st.compare(make_runs({"A": {"mnist": a}, "B": {"mnist": b}}), "A", "B").iloc[0]
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
    assert st.compare(runs, "A", "B").iloc[0]["outcome"] == "better"
    apart = runs.assign(seed=np.where(runs["label"] == "A", (runs["seed"] + 3) % 6, runs["seed"]))
    assert st.compare(apart, "A", "B").iloc[0]["outcome"] == "tied"


def test_seeds_of_one_method_alone_are_left_out_and_counted():
    runs = make_runs({"A": {"mnist": draws(0.9, 7)}, "B": {"mnist": draws(0.8, 5, 1)}})
    row = st.compare(runs, "A", "B").iloc[0]
    assert row["n"] == 5 and row["unpaired"] == 2
    same = st.compare(runs[runs["seed"] < 5], "A", "B").iloc[0]
    assert row["effect"] == same["effect"] and row["p"] == same["p"]


def test_holm_runs_over_the_data_sets_of_each_comparator():
    runs = make_runs(
        {
            "A": {"mnist": draws(0.9), "svhn": draws(0.5), "cifar10": draws(0.6)},
            "B": {"mnist": draws(0.88, seed=1), "svhn": draws(0.49, seed=2), "cifar10": draws(0.6, seed=3)},
            "C": {"mnist": draws(0.1, seed=4), "svhn": draws(0.1, seed=5), "cifar10": draws(0.1, seed=6)},
        }
    )
    table = st.compare(runs, "A", ["B", "C"])
    for _, family in table.groupby("b"):
        assert list(family["p_holm"]) == pytest.approx(list(st.holm(family["p"])))
    assert (table["p_holm"] > table["p"]).any()


def test_a_difference_within_the_noise_after_holm_is_a_tie():
    # p = .03 alone is below 5 %; as one of two data sets it is not.
    d = stats.t.ppf(1 - 0.03 / 2, 4) * 0.01 / math.sqrt(5)
    pair = {"A": {"mnist": draws(0.5 + d)}, "B": {"mnist": [0.5] * 5}}
    assert st.compare(make_runs(pair), "A", "B").iloc[0]["outcome"] == "better"
    pair["A"]["svhn"], pair["B"]["svhn"] = draws(0.3), draws(0.3, seed=1)
    assert list(st.compare(make_runs(pair), "A", "B")["outcome"]) == ["tied", "tied"]


def test_too_few_seeds_give_no_test():
    runs = make_runs({"A": {"mnist": [0.9, 0.91]}, "B": {"mnist": [0.1, 0.12]}})
    row = st.compare(runs, "A", "B").iloc[0]
    assert row["outcome"] == "untested" and math.isnan(row["p"]) and row["effect"] == pytest.approx(0.795)
    single = st.compare(runs[runs["seed"] == 0], "A", "B").iloc[0]
    assert single[["ci_low", "ci_high", "boot_low", "boot_high"]].isna().all()


def test_what_is_not_tested_does_not_enlarge_the_family():
    # Six seeds decide by sign-flips on one data set (2^-5), not on two.
    runs = make_runs({"A": {"mnist": draws(0.9, 6), "svhn": [0.9]}, "B": {"mnist": draws(0.8, 6, 1), "svhn": [0.8]}})
    row = one(st.compare(runs, "A", "B"), dataset="mnist")
    assert (row["test"], row["p"], row["p_holm"]) == ("sign-flip", 2**-5, 2**-5)
    # Another comparator is another family.
    more = pd.concat([runs, make_runs({"C": {"mnist": draws(0.7, 6, 2)}})])
    assert list(st.compare(more, "A", ["B", "C"]).query("dataset == 'mnist'")["p_holm"]) == [2**-5, 2**-5]


def test_a_data_set_where_one_method_never_ran_is_untested():
    runs = make_runs({"A": {"mnist": draws(0.9), "svhn": draws(0.9)}, "B": {"mnist": draws(0.8, seed=1)}})
    row = one(st.compare(runs, "A", "B"), dataset="svhn")
    assert row["n"] == 0 and row["unpaired"] == 5 and row["outcome"] == "untested" and math.isnan(row["effect"])


def test_group_by_more_than_one_column():
    runs = pd.concat(
        [
            make_runs({"A": {"mnist": draws(0.9)}, "B": {"mnist": draws(0.8, seed=1)}}),
            make_runs({"A": {"mnist": draws(0.5)}, "B": {"mnist": draws(0.8, seed=1)}}, activation="elu"),
        ]
    )
    table = st.compare(runs, "A", "B", by=["dataset", "activation"])
    assert list(table["activation"]) == ["relu", "elu"] and list(table["outcome"]) == ["better", "worse"]
    result = st.verdict("better", table, by=["dataset", "activation"])
    assert result == st.Verdict("not reproduced", "holds: mnist / relu; the opposite: mnist / elu")


def test_overall_is_the_mean_over_data_sets():
    runs = make_runs(
        {
            "A": {"mnist": draws(0.9), "svhn": draws(0.6, 9)},
            "B": {"mnist": draws(0.8, seed=1), "svhn": draws(0.4, 9, 1)},
        }
    )
    estimate = st.overall(runs, "A", "B")
    assert estimate.value == pytest.approx(0.15) and estimate.low < 0.15 < estimate.high and estimate.n == 14
    assert st.improvement(runs, "A", "B").value == 1


def test_contrast_is_the_difference_of_the_gains():
    def grid(activation, a, b, seed):
        pair = {"A": {"mnist": draws(a, seed=seed)}, "B": {"mnist": draws(b, seed=seed + 9)}}
        return make_runs(pair, activation=activation)

    means = dict(relu=0.8, elu=0.78, softplus=0.88, selu=0.86)
    runs = pd.concat([grid(name, 0.9, b, seed) for seed, (name, b) in enumerate(means.items())])
    row = st.contrast(runs, "A", "B", "activation", ["relu", "elu"]).iloc[0]
    assert row["effect"] == pytest.approx((0.10 + 0.12) / 2 - (0.02 + 0.04) / 2)
    assert row["outcome"] == "better" and row["n"] == 5
    other = st.contrast(runs, "A", "B", "activation", ["softplus", "selu"]).iloc[0]
    assert other["effect"] == pytest.approx(-row["effect"]) and other["outcome"] == "worse"
    # An activation that one of the two cannot run is no part of it.
    gelu = grid("gelu", 0.0, 0.9, 3)
    more = pd.concat([runs, gelu[gelu["label"] == "B"]])
    assert st.contrast(more, "A", "B", "activation", ["relu", "elu"]).iloc[0]["effect"] == row["effect"]
    with pytest.raises(InputError, match="nothing to contrast"):
        st.contrast(runs, "A", "B", "activation", ["relu", "elu", "softplus", "selu"])
    with pytest.raises(InputError, match="did you mean 'relu'"):
        st.contrast(runs, "A", "B", "activation", ["rely"])


def test_over_settings_averages_a_methods_settings_within_a_seed():
    accuracies = {f"{m} {s}": {"mnist": v} for m, s, v in [
        ("SAMT", 0.1, [0.9, 0.8]), ("SAMT", 1, [0.7, "diverged"]),
        ("SGD", 0.1, [0.9, 0.9]), ("SGD", 1, ["diverged", "diverged"]),
        ("Bad", 0.1, ["diverged", "failed"]), ("Bad", 1, ["diverged", "diverged"]),
    ]}  # fmt: skip
    table = st.over_settings(make_runs(accuracies))
    assert list(table["label"]) == ["samt", "samt", "sgd", "sgd", "bad", "bad"]
    assert list(table["test_accuracy"]) == pytest.approx([0.8, 0.45, 0.5, 0.5, 0.1, 0.1])
    assert list(table["status"]) == ["done"] * 4 + ["failed"] * 2
    assert st.compare(table, "samt", "sgd").iloc[0]["effect"] == pytest.approx(0.125)
    with pytest.raises(InputError, match="1 settings and .* 2: their means do not compare"):
        st.over_settings(make_runs({k: v for k, v in accuracies.items() if k != "SGD 1"}))


# --------------------------------------------------------------------------------------------------------- step sizes

STEPS = (0.01, 0.1, 1, 10)


def make_sweep(accuracies, start=2.3, end=0.5):
    """{label: one list a seed of accuracies at STEPS} -> runs and curves. A word is a status, and its loss fell first;
    the loss of a run at chance rises."""
    runs = make_runs(
        {f"{label}, {x}": {"mnist": [seed[i] for seed in seeds]} for label, seeds in accuracies.items()
         for i, x in enumerate(STEPS)}
    )  # fmt: skip
    last = np.where(runs["test_accuracy"] <= 0.1, start + 1, end)
    first = pd.DataFrame(dict(run_key=runs["run_key"], iteration=0, train_loss=start))
    final = pd.DataFrame(dict(run_key=runs["run_key"], iteration=9, train_loss=last))
    return runs, pd.concat([final, first])


def test_step_sizes_are_read_off_the_labels():
    runs = make_runs({"SGD + momentum, 0.1": {"mnist": [0.9]}, "Adam, released, 3.16e-05": {"mnist": [0.9]}})
    split = st.by_step_size(runs)
    assert list(split["label"]) == ["SGD + momentum", "Adam, released"] and list(split["step_size"]) == [0.1, 3.16e-5]
    with pytest.raises(InputError, match="'SGD' names no step size"):
        st.by_step_size(make_runs({"SGD": {"mnist": [0.9]}}))


def test_stability_of_a_worked_example():
    accuracies = [
        [0.80, 0.90, 0.88, 0.10],  # loses .05 half-way from .1 to .01, and at .03 / .78 of the way from 1 to 10
        [0.50, 0.94, 0.94, "diverged"],  # .89 is .05 / .44 below .1, and .05 / .84 above 1, where chance stands in
        [0.92, 0.86, 0.92, 0.90],  # the dip ends the range of the best, which is the first of two equals
    ]
    table = st.stability(*make_sweep({"A": accuracies}))
    expected = [0.5 + 1 + 0.03 / 0.78, 0.05 / 0.44 + 1 + 0.05 / 0.84, 0.05 / 0.06]
    assert list(table["usable_decades"]) == pytest.approx(expected)
    assert list(table["survival"]) == [3 / 4, 3 / 4, 1]  # the first ended above the loss that it started from
    # Means .74, .9, .9133, .3667: the best step size is 1, where the other seeds' medians are .93, .9 and .91.
    assert list(table["best_step_size"]) == [1, 1, 1] and list(table["step_sizes"]) == [4, 4, 4]
    assert list(table["steadiness"]) == pytest.approx([-0.05, -0.04, -0.01])
    assert list(table["status"]) == ["done"] * 3 and list(table["label"]) == ["A"] * 3
    wider = st.stability(*make_sweep({"A": accuracies}), within=0.1)
    assert (wider["usable_decades"] > table["usable_decades"]).all()
    everywhere = st.stability(*make_sweep({"A": [[0.9] * 4]}))
    assert everywhere["usable_decades"].item() == 3  # never beyond what was tried
    assert everywhere["steadiness"].isna().all()  # one seed has no spread, which is not a spread of zero


def test_stability_refuses_what_does_not_compare():
    runs, curves = make_sweep({"A": [[0.9] * 4, [0.8] * 4]})
    with pytest.raises(InputError, match="mnist, A: some seeds lack step sizes"):
        st.stability(runs.iloc[1:], curves)
    with pytest.raises(InputError, match="the seed is the unit"):
        st.stability(pd.concat([runs, runs.iloc[:1].assign(init="normal")]), curves)


def test_stability_depends_on_a_methods_own_runs_alone_and_not_on_their_order():
    two = {"A": [[0.5, 0.9, 0.6, 0.3], [0.4, 0.8, 0.9, "failed"]], "B": [[0.7] * 4, [0.6, 0.9, 0.2, 0.1]]}
    table = st.stability(*make_sweep(two))
    more = st.stability(*make_sweep({"First": [["diverged"] * 4] * 2} | two | {"Last": [[0.99] * 4] * 2}))
    kept = more[more["label"].isin(["A", "B"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, kept, check_exact=True)
    mixed = st.stability(*map(shuffled, make_sweep(two))).sort_values(["label", "seed"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(table, mixed, check_exact=True)


@pytest.mark.parametrize("metric, worst", [("usable_decades", 0.0), ("survival", 0.0), ("steadiness", st.CHANCE - 1)])
def test_a_method_that_always_diverges_or_never_learns_is_not_stable(metric, worst):
    runs, curves = make_sweep(
        {
            "Diverged": [["diverged", "failed", "diverged", "diverged"]] * 5,
            "Stuck": [[0.1] * 4] * 5,  # loses nothing from step size to step size, nor from seed to seed
            "Good": [[0.7 + x, 0.9 + x, 0.4 - x, "diverged"] for x in (0, 0.01, 0.02, -0.01, -0.02)],
        }
    )
    table = st.stability(runs, curves)
    for bad in ("Diverged", "Stuck"):
        assert (table.loc[table["label"] == bad, metric] == worst).all()
        assert st.compare(table, "Good", bad, metric=metric, unfinished=worst)["outcome"].item() == "better"
        assert st.compare(table, bad, "Good", metric=metric, unfinished=worst)["outcome"].item() == "worse"
    assert st.compare(table, "Diverged", "Stuck", metric=metric, unfinished=worst)["outcome"].item() == "tied"
    assert st.best_and_ties(table, metric=metric, unfinished=worst).set_index("label")["best"].idxmax() == "Good"


def test_step_costs_of_a_worked_example_and_of_a_run_that_diverged():
    runs = make_runs({"SAMT": {"mnist": [0.9, 0.9, "diverged"]}, "SGD": {"mnist": [0.9, 0.9, 0.9]}})
    runs = runs.assign(iterations=100, parameter_updates=[300] * 3 + [100] * 3, seconds=[6.0, 12, 0.1, 3, 3, 3])
    costs = st.step_costs(runs, "seconds")
    assert list(costs["block_step"]) == pytest.approx([0.02, 0.04, 0.1 / 300, 0.03, 0.03, 0.03])
    assert list(costs["full_step"]) == pytest.approx([0.06, 0.12, 0.001, 0.03, 0.03, 0.03])
    # Three equal parts of a share: ratios 2/3, 4/3 and, for the run that diverged, infinity.
    assert st.compare_costs(costs, "SAMT", "SGD", cost="block_step")["effect"].item() == pytest.approx(4 / 3)
    never = runs.assign(status=np.where(runs["label"] == "SAMT", "diverged", "done"))
    costs = st.step_costs(never, "seconds")
    assert st.compare_costs(costs, "SAMT", "SGD", cost="block_step")["outcome"].item() != "better"
    alone = st.step_costs(runs[runs["label"] == "SGD"], "seconds")
    assert alone["block_step"].equals(costs.loc[costs["label"] == "SGD", "block_step"])


def test_the_mean_of_labels_is_paired_by_seed_and_counts_failures_as_chance():
    runs = make_runs(
        {
            "A": {"mnist": [0.9, 0.8, "diverged", 0.5]},
            "B": {"mnist": [0.7, "diverged", "failed"]},
            "C": {"mnist": [0.1] * 4},
        }
    )
    table = st.mean_of(runs, ["A", "B"], "mean")
    assert list(table["seed"]) == [0, 1, 2] and set(table["label"]) == {"mean"}  # B has no fourth seed
    assert list(table["test_accuracy"]) == pytest.approx([0.8, 0.45, 0.1])
    assert list(table["status"]) == ["done", "done", "failed"]
    pd.testing.assert_frame_equal(table, st.mean_of(shuffled(runs[runs["label"] != "C"]), ["A", "B"], "mean"))
    with pytest.raises(InputError, match="unknown label 'D'"):
        st.mean_of(runs, ["A", "D"], "mean")


def test_differences_that_are_equal_up_to_rounding_are_equal():
    d = [0.1 + 0.2, 0.3, 0.3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert st.paired_test(d) == ("t", 0.0)


def test_a_cost_that_was_not_measured_is_refused_and_no_miss():
    runs = make_runs({"A": {"mnist": [0.9]}})
    curves = pd.DataFrame(dict(run_key="A/mnist/0", val_accuracy=[0.5, 0.9], seconds=[NAN, NAN]))
    with pytest.raises(InputError, match="no 'seconds'"):
        st.cost_to_target(runs, curves, 0.8, cost="seconds")
    assert st.cost_to_target(runs, curves, 0.95, cost="seconds")["cost"].item() == INF


# ------------------------------------------------------------------------------------------- divergence never pays


def test_a_method_that_always_diverges_never_ranks_first():
    stuck = [0.0892] * 5  # a network that predicts the rarest class: below chance, but it finished
    runs = make_runs(
        {
            "Diverged": {"mnist": ["diverged"] * 5, "svhn": ["failed"] * 5, "cifar10": ["diverged"] * 5},
            "Stuck": {"mnist": stuck, "svhn": stuck, "cifar10": stuck},
            "Good": {"mnist": draws(0.9), "svhn": draws(0.5), "cifar10": ["diverged"] * 5},
        }
    )
    runs["cost"] = 5.0
    difference = st.critical_difference(runs)
    assert difference.ranks.index[-1] == "Diverged"
    # Last on mnist and svhn, shared last with Good on cifar10.
    assert difference.ranks["Diverged"] == pytest.approx((3 + 3 + 2.5) / 3)
    bold = st.best_and_ties(runs)
    assert not bold.loc[bold["label"] == "Diverged", ["best", "among_best"]].any(axis=None)
    assert set(bold.loc[bold["label"] == "Diverged", "outcome"]) == {"failed"}
    assert one(bold, dataset="cifar10", label="Stuck")["best"]
    comparison = st.compare(runs, "Diverged", ["Stuck", "Good"])
    assert "better" not in set(comparison["outcome"])
    assert "worse" not in set(st.compare(runs, "Stuck", "Diverged")["outcome"])
    costs = st.compare_costs(runs, "Diverged", "Stuck")
    assert (costs["outcome"] == "worse").all() and (costs["effect"] == INF).all()
    profile = st.performance_profile(st.problem_costs(runs), [1, 1e9])
    assert (profile["Diverged"] == 0).all() and profile["Stuck"].iloc[0] == 1
    ranked = st.summary(runs[runs["label"] != "Stuck"]).sort_values("mean_all")
    assert ranked.iloc[-1]["label"] == "Good" and ranked["mean_all"].notna().all()


def test_a_method_that_always_diverges_carries_no_claim():
    runs = make_runs({"A": {"mnist": ["diverged"] * 5}, "B": {"mnist": ["diverged"] * 5}})
    table = st.compare(runs, "A", "B")
    assert st.verdict("better", table).verdict == "not reproduced"
    assert st.verdict("not_worse", table, bound=0.01).verdict == "not reproduced"
    assert st.verdict("at_least", st.levels(runs, "test_accuracy"), bound=0.05).verdict == "not reproduced"
    costs = st.compare_costs(runs.assign(cost=1.0), "A", "B")
    assert st.verdict("fewer", costs) == st.Verdict("not tested here", "not tested: mnist (no run reached it)")
    gain = pd.concat(
        [
            make_runs({"A": {"mnist": ["diverged"] * 5}, "B": {"mnist": draws(0.5)}}),
            make_runs({"A": {"mnist": ["diverged"] * 5}, "B": {"mnist": draws(0.9)}}, activation="elu"),
        ]
    )
    assert st.contrast(gain, "A", "B", "activation", ["relu"]).iloc[0]["outcome"] == "tied"


def test_divergence_counts_as_chance_in_a_comparison():
    runs = make_runs({"A": {"mnist": [0.95, 0.95, "diverged", "diverged", 0.95]}, "B": {"mnist": [0.8] * 5}})
    row = st.compare(runs, "A", "B").iloc[0]
    assert row["effect"] == pytest.approx((3 * 0.15 - 2 * 0.7) / 5) and row["a_done"] == 3 and row["n"] == 5
    both = st.aggregate(runs).set_index("label")
    assert both.loc["A", "mean"] == pytest.approx((3 * 0.95 + 2 * 0.1) / 5) and both.loc["A", "done"] == 3


# ------------------------------------------------------------------------------------------------ targets and profiles


def make_curves(runs, values):
    """values: {run_key: metric at evaluations 1, 2, ...}, every evaluation 10 updates apart."""
    return pd.DataFrame(
        [
            dict(run_key=key, iteration=i, parameter_updates=10 * i, val_accuracy=value, train_loss=1 - value)
            for key, curve in values.items()
            for i, value in enumerate(curve, 1)
        ]
    )


def test_cost_to_target_is_the_first_evaluation_that_reaches_it():
    runs = make_runs({"A": {"mnist": [0.9, 0.7, "diverged", "failed"]}, "B": {"mnist": [0.9]}})
    curves = make_curves(runs, {
        "A/mnist/0": [0.5, 0.8, 0.6, 0.9],  # reached, lost and reached again
        "A/mnist/1": [0.5, 0.6, 0.7, NAN],
        "A/mnist/2": [0.9, 0.9, NAN],  # reached and diverged afterwards: a miss
        "B/mnist/0": [0.80],
    })  # fmt: skip
    for frame in (curves, curves[::-1]):
        assert list(st.cost_to_target(runs, frame, 0.8)["cost"]) == [20, INF, INF, INF, 10]
    assert list(st.cost_to_target(runs, curves, 0.8, cost="iteration")["cost"]) == [2, INF, INF, INF, 1]
    loss = st.cost_to_target(runs, curves, 0.31, metric="train_loss", lower=True)
    assert list(loss["cost"]) == [20, 30, INF, INF, 10]
    assert list(st.cost_to_target(runs, curves, 0.5, metric="train_loss", lower=True)["cost"])[:2] == [10, 10]


def test_targets_are_one_a_data_set_and_of_one_reference():
    adam = {"mnist": [0.8, 0.7, 0.9], "svhn": [0.4, "failed"]}
    runs = make_runs({"A": {"mnist": [0.9], "svhn": [0.5]}, "Adam": adam})
    goals = st.targets(runs, "Adam", share=0.5)
    assert goals["mnist"] == pytest.approx(0.4) and goals["svhn"] == pytest.approx(0.125)
    curves = make_curves(runs, {"A/mnist/0": [0.2, 0.5], "A/svhn/0": [0.2, 0.5], "Adam/svhn/0": [0.1, 0.1]})
    assert list(st.cost_to_target(runs, curves, goals)["cost"])[:2] == [20, 10]
    with pytest.raises(InputError, match="no target for dataset 'svhn'; there is one for mnist"):
        st.cost_to_target(runs, curves, {"mnist": 0.5})


def test_cost_ratios_of_a_worked_example():
    runs = make_runs({"A": {"mnist": [0.9] * 5}, "B": {"mnist": [0.9] * 5}})
    runs["cost"] = [10.0, 20, 30, 20, 10, 40, 40, 50, 50, 50]
    row = st.compare_costs(runs, "A", "B").iloc[0]
    ratios = [0.25, 0.5, 0.6, 0.4, 0.2]
    assert row["effect"] == pytest.approx(0.4) and (row["a_value"], row["b_value"]) == (20, 50)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((min(ratios), max(ratios)))
    assert row["outcome"] == "better" and row["scale"] == "ratio" and row["probability"] == 1
    assert st.overall_ratio(runs, "A", "B").value == pytest.approx(0.4)
    back = st.compare_costs(runs, "B", "A").iloc[0]
    assert back["effect"] == pytest.approx(2.5) and back["outcome"] == "worse"


def test_misses_in_cost_ratios():
    def ratio(a, b):
        runs = make_runs({"A": {"mnist": [0.9] * len(a)}, "B": {"mnist": [0.9] * len(b)}})
        return st.compare_costs(runs.assign(cost=[*a, *b]), "A", "B").iloc[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ratio([10.0] * 5, [INF] * 5)[["effect", "ci_high", "outcome"]].to_list() == [0.0, 0.0, "better"]
        assert ratio([INF] * 5, [10.0] * 5)[["effect", "ci_low", "outcome"]].to_list() == [INF, INF, "worse"]
        neither = ratio([INF] * 5, [INF] * 5)
        assert neither[["effect", "outcome", "test"]].to_list() == [1.0, "untested", "no run reached it"]
        mixed = ratio([10.0, 10, INF, INF], [INF, INF, 10, 10])
        assert mixed["effect"] == 1.0 and mixed["ci_high"] == INF and mixed["outcome"] == "tied"
        assert ratio([0.0] * 5, [0.0] * 5)["outcome"] == "tied"
    with pytest.raises(InputError, match="missing or negative"):
        ratio([NAN] * 3, [1.0] * 3)


def test_a_cost_that_is_the_same_in_every_seed_can_be_judged():
    runs = make_runs({"A": {"mnist": [0.9] * 5}, "B": {"mnist": [0.9] * 5}})
    runs["cost"] = [3.0] * 5 + [4.0] * 5
    assert st.compare_costs(runs, "A", "B").iloc[0]["outcome"] == "better"
    assert st.compare_costs(runs.assign(cost=3.0), "A", "B").iloc[0]["outcome"] == "tied"


def test_performance_profile_of_a_worked_example():
    costs = pd.DataFrame({"A": [1.0, 4.0, 3.0], "B": [2.0, 2.0, 3.0]}, index=["p", "q", "r"])
    profile = st.performance_profile(costs, [1, 1.9, 2])
    assert list(profile["A"]) == pytest.approx([2 / 3, 2 / 3, 1]) == list(profile["B"])


@pytest.mark.parametrize("miss", [INF, NAN])
def test_performance_profile_with_failures(miss):
    # Bad fails everywhere, and everybody fails on the last problem.
    costs = pd.DataFrame({"A": [1.0, 2.0, miss], "Bad": [miss, miss, miss], "B": [2.0, 1.0, miss]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = st.performance_profile(costs, [1, 2, 1e12, INF])
    assert list(profile["A"]) == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3]) == list(profile["B"])
    assert (profile["Bad"] == 0).all()


def test_performance_profile_of_free_and_of_negative_costs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        free = st.performance_profile(pd.DataFrame({"A": [0.0], "B": [1.0]}), [1, 1e9])
    assert free.to_numpy().tolist() == [[1, 0], [1, 0]]
    with pytest.raises(InputError, match="negative"):
        st.performance_profile(pd.DataFrame({"A": [-1.0]}), [1])


def test_problem_costs_are_medians_over_seeds():
    runs = make_runs({"A": {"mnist": [0.9] * 3, "svhn": [0.9] * 3}, "B": {"mnist": [0.9, "diverged", "diverged"]}})
    runs["cost"] = [1.0, 5, 3, 4, INF, INF, 1, 1, 1]
    table = st.problem_costs(runs)
    assert table.loc["mnist", "A"] == 3 and table.loc["svhn", "A"] == INF and table.loc["mnist", "B"] == INF
    assert math.isnan(table.loc["svhn", "B"])


# --------------------------------------------------------------------------------------------------------- convergence


def test_convergence_of_known_sequences():
    runs = make_runs({"A": {"mnist": [0.9] * 3}})
    k = np.arange(1, 31)
    geometric, power, constant = 7 + 3 * 0.8**k, 2.0 * k**-0.5, np.ones(30)
    curves = pd.concat(
        [
            pd.DataFrame(dict(run_key=f"A/mnist/{i}", iteration=k, objective=v))
            for i, v in enumerate((geometric, power, constant))
        ]
    )
    table = st.convergence(runs, shuffled(curves))
    assert table["rate"].iloc[0] == pytest.approx(0.8) and table["r_squared"].iloc[0] == pytest.approx(1)
    assert list(table["monotone_share"]) == [1, 1, 1] and math.isnan(table["rate"].iloc[2])
    assert table["r_squared"].iloc[1] < 0.95  # k^-1/2 is no geometric sequence
    sublinear = st.convergence(runs, curves, law="sublinear")
    # Decreases of 2 k^-1/2 go as k^-3/2; a power of k fits them, and the geometric ones it does not.
    assert sublinear["rate"].iloc[1] == pytest.approx(1.5, abs=0.05) and sublinear["r_squared"].iloc[1] > 0.999
    assert sublinear["r_squared"].iloc[0] < 0.95
    assert st.convergence(runs, curves, law="power")["rate"].iloc[1] == pytest.approx(0.5)
    # The power law is one of the smallest value so far: a last value that is large does not matter to it.
    rising = pd.DataFrame(dict(run_key="A/mnist/0", iteration=k, objective=[*power[:29], 1e9]))
    assert st.convergence(runs, rising, law="power")["rate"].iloc[0] == pytest.approx(0.5, abs=0.01)
    # Evaluations five iterations apart give the same factor per iteration, and so, nearly, do uneven ones.
    sparse = curves[curves["iteration"] % 5 == 0]
    assert st.convergence(runs, sparse)["rate"].iloc[0] == pytest.approx(0.8)
    uneven = pd.DataFrame(dict(run_key="A/mnist/0", iteration=k, objective=0.99**k)).iloc[[0, 1, 2, 3, 4, 19, 24, 29]]
    assert st.convergence(runs, uneven)["rate"].iloc[0] == pytest.approx(0.99, abs=0.005)


def test_convergence_sees_a_rise_and_starts_after_the_transient():
    runs = make_runs({"A": {"mnist": [0.9, 0.9]}})
    v = [1.0, 9.0, 5.0, 4.0, 4.0 * (1 + 1e-8), 2.0]
    curves = pd.DataFrame(dict(run_key="A/mnist/0", iteration=range(1, 7), objective=v))
    assert st.convergence(runs, curves)["monotone_share"].iloc[0] == 4 / 5  # a rise of rounding size is none
    assert st.convergence(runs, curves, after=1)["monotone_share"].iloc[0] == 1
    assert st.convergence(runs, curves)[["monotone_share", "rate"]].iloc[1].isna().all()
    assert st.convergence(runs, curves.iloc[:0])["rate"].isna().all()
    with pytest.raises(InputError, match="did you mean 'linear'"):
        st.convergence(runs, curves, law="lineal")


# --------------------------------------------------------------------------------------------------------------- ranks


def test_ranks_of_the_worked_example():
    difference = st.rank_groups(DEMSAR)
    assert difference.ranks.round(3).to_dict() == {"C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143}
    assert difference.critical_difference == pytest.approx(1.25, abs=0.005)
    # The paper's 9.28 has no correction for ties: three pairs and one row of four.
    assert difference.statistic * (1 - (3 * 6 + 60) / (14 * 4 * 15)) == pytest.approx(9.28, abs=0.01)
    assert difference.p < 0.05 and difference.blocks == 14
    assert difference.groups == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]
    loose = st.rank_groups(DEMSAR, alpha=0.10)
    assert loose.critical_difference == pytest.approx(1.12, abs=0.005)
    assert loose.groups == [("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5")]


def test_failures_share_the_worst_rank():
    table = pd.DataFrame([[0.9, NAN, 0.5, NAN], [NAN] * 4], columns=list("abcd"))
    assert st.block_ranks(table).to_numpy().tolist() == [[1, 3.5, 2, 3.5], [2.5] * 4]


def test_ranks_where_nobody_finished_tell_nobody_apart():
    table = pd.DataFrame(np.full((4, 3), NAN), columns=list("abc"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difference = st.rank_groups(table)
    assert difference.p == 1 and list(difference.ranks) == [2, 2, 2] and difference.groups == [("a", "b", "c")]


def test_labels_that_all_differ_form_no_group():
    difference = st.rank_groups(pd.DataFrame({"a": [3.0] * 12, "b": [2.0] * 12, "c": [1.0] * 12}))
    assert difference.critical_difference == pytest.approx(2.343 * math.sqrt(12 / 72), abs=1e-3)
    assert difference.groups == [] and (difference.ranks == [1, 2, 3]).all()


def test_ranks_leave_incomplete_labels_out_and_say_so():
    sets = ["mnist", "svhn", "cifar10"]
    runs = make_runs({label: {d: draws(m) for d in sets} for label, m in [("A", 0.9), ("B", 0.8), ("C", 0.7)]})
    whole = st.critical_difference(runs)
    part = st.critical_difference(pd.concat([runs, make_runs({"D": {"mnist": draws(0.99)}})]))
    assert part.left_out == ("D",) and whole.left_out == () and part.ranks.equals(whole.ranks)
    with pytest.raises(InputError, match="three labels and two data sets"):
        st.critical_difference(runs[runs["label"] != "C"])
    with pytest.raises(InputError, match="there are 3 and 1"):
        st.critical_difference(runs[runs["dataset"] == "mnist"])


def test_best_and_ties_are_by_the_test():
    runs = make_runs(
        {
            "Best": {"mnist": draws(0.9)},
            "Close": {"mnist": draws(0.899, seed=1)},
            "Worse": {"mnist": draws(0.8, seed=2)},
            "Gone": {"mnist": ["diverged"] * 5},
        }
    )
    table = st.best_and_ties(runs).set_index("label")
    assert list(table["best"]) == [True, False, False, False]
    assert list(table["among_best"]) == [True, True, False, False]
    assert list(table["outcome"]) == ["best", "tied", "worse", "failed"]
    assert list(table["score"]) == pytest.approx([0.9, 0.899, 0.8, 0.1])
    few = st.best_and_ties(runs[runs["seed"] < 2]).set_index("label")
    assert list(few.index[few["among_best"]]) == list(few.index[few["best"]])
    assert sorted(few["outcome"]) == ["best", "failed", "untested", "untested"]


def test_holm_judges_the_labels_of_a_group_and_makes_none_bold():
    # Each loses to the best at p = .03: worse where it is alone, a tie as one of two, and bold in neither.
    d = stats.t.ppf(1 - 0.03 / 2, 4) * 0.01 / math.sqrt(5)
    runs = make_runs({"Best": {"mnist": [0.9] * 5}, "B": {"mnist": draws(0.9 - d)}, "C": {"mnist": draws(0.9 - d)}})
    three, two = st.best_and_ties(runs), st.best_and_ties(runs[runs["label"] != "C"])
    assert list(three["outcome"]) == ["best", "tied", "tied"] and list(two["outcome"]) == ["best", "worse"]
    assert list(three["among_best"]) == [True, False, False] and list(two["among_best"]) == [True, False]
    assert list(three["p_holm"][1:]) == pytest.approx([0.06, 0.06])


def test_nothing_is_best_where_nothing_finished():
    table = st.best_and_ties(make_runs({"A": {"mnist": ["diverged"] * 3}, "B": {"mnist": ["failed"] * 3}}))
    assert not table[["best", "among_best"]].any(axis=None) and set(table["outcome"]) == {"failed"}


# ------------------------------------------------------------------------------------------------------------ verdicts


def comparisons(outcomes, scale="difference", **columns):
    """{(group, comparator): outcome} -> the columns of a comparison table that a verdict reads."""
    rows = [
        dict(dataset=d, a="A", b=b, scale=scale, n=5, a_done=5, ci_low=-0.01, ci_high=0.01, outcome=outcome)
        for (d, b), outcome in outcomes.items()
    ]
    return pd.DataFrame(rows).assign(**columns)


SETS = ("mnist", "svhn", "cifar10")


@pytest.mark.parametrize("rule, scale", [("better", "difference"), ("fewer", "ratio")])
@pytest.mark.parametrize(
    "outcomes, expected",
    [
        (("better", "better", "better"), "reproduced"),
        (("better", "better", "untested"), "reproduced"),
        (("better", "tied", "tied"), "partly"),
        (("better", "better", "worse"), "not reproduced"),
        (("tied", "tied", "tied"), "not reproduced"),
        (("worse", "untested", "untested"), "not reproduced"),
        (("untested", "untested", "untested"), "not tested here"),
    ],
)
def test_rules_better_and_fewer(rule, scale, outcomes, expected):
    table = comparisons({(d, "B"): o for d, o in zip(SETS, outcomes)}, scale)
    assert st.verdict(rule, table).verdict == expected


def test_a_group_holds_only_against_every_comparator():
    keys = [("mnist", "B"), ("mnist", "C"), ("svhn", "B"), ("svhn", "C")]
    table = comparisons(dict(zip(keys, ["better", "tied", "better", "better"])))
    assert st.verdict("better", table) == st.Verdict("partly", "holds: svhn; open: mnist")
    assert st.verdict("better", table[table["dataset"] == "mnist"]).verdict == "not reproduced"
    untested = table.assign(outcome=["better", "untested", "better", "better"])
    assert st.verdict("better", untested).reason == "holds: svhn; open: mnist"
    worse = table.assign(outcome=["better", "worse", "better", "better"])
    assert st.verdict("better", worse) == st.Verdict("not reproduced", "holds: svhn; the opposite: mnist")


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        (("better", "better", "better", "better"), "reproduced"),
        (("better", "better", "tied", "worse"), "partly"),  # the first part contributes on both sets
        (("better", "tied", "tied", "better"), "not reproduced"),
        (("untested",) * 4, "not tested here"),
    ],
)
def test_rule_contributes_judges_part_by_part(outcomes, expected):
    keys = [("mnist", "no p1"), ("svhn", "no p1"), ("mnist", "no p2"), ("svhn", "no p2")]
    for scale in ("difference", "ratio"):
        result = st.verdict("contributes", comparisons(dict(zip(keys, outcomes)), scale))
        assert result.verdict == expected
    assert "no p1" in result.reason


@pytest.mark.parametrize(
    "intervals, expected",
    [
        ([(-0.01, 0.3), (-0.005, 0.0)], "reproduced"),
        ([(-0.01, 0.3), (-0.03, 0.1)], "partly"),
        ([(-0.01, 0.3), (-0.09, -0.05)], "not reproduced"),
        ([(-0.02, 0.3), (-0.03, 0.1)], "not reproduced"),  # at the margin is not above it
        ([(NAN, NAN), (NAN, NAN)], "not tested here"),
    ],
)
def test_rule_not_worse(intervals, expected):
    table = comparisons({(d, "B"): "tied" for d in SETS[:2]})
    table[["ci_low", "ci_high"]] = intervals
    assert st.verdict("not_worse", table, bound=0.02).verdict == expected


@pytest.mark.parametrize(
    "mnist, svhn, expected",
    [
        ([1.0] * 5, [1.0] * 5, "reproduced"),
        ([1.0] * 5, draws(0.99, sd=0.01), "partly"),
        ([1.0] * 5, draws(0.5, sd=0.01), "not reproduced"),
        ([1.0] * 2, [1.0] * 2, "not tested here"),
    ],
)
def test_rules_at_least_and_at_most(mnist, svhn, expected):
    runs = make_runs({"A": {"mnist": mnist, "svhn": svhn}}).rename(columns={"test_accuracy": "share"})
    assert st.verdict("at_least", st.levels(runs, "share"), bound=0.99).verdict == expected
    mirrored = st.levels(runs.assign(share=-runs["share"]), "share")
    assert st.verdict("at_most", mirrored, bound=-0.99).verdict == expected


def test_levels_of_a_worked_example():
    runs = make_runs({"A": {"mnist": [0.9, 0.8, "diverged"]}}).rename(columns={"test_accuracy": "share"})
    row = st.levels(runs, "share", unfinished=0.0).iloc[0]
    half = stats.t.ppf(0.975, 2) * stats.sem([0.9, 0.8, 0.0])
    assert row["effect"] == pytest.approx(1.7 / 3) and row["ci_low"] == pytest.approx(1.7 / 3 - half)
    assert row["scale"] == "level" and row["n"] == 3 and row["a_done"] == 2


@pytest.mark.parametrize(
    "best, expected",
    [
        ({"mnist": ["row"], "svhn": ["column"]}, "reproduced"),
        ({"mnist": ["row"], "svhn": ["column", "row"]}, "partly"),
        ({"mnist": ["row", "column"], "svhn": ["column", "row"]}, "not reproduced"),
        ({"mnist": ["row"], "svhn": ["row"]}, "not reproduced"),
        ({"mnist": ["row"]}, "not tested here"),
    ],
)
def test_rule_varies(best, expected):
    rows = [
        dict(dataset=d, label=x, outcome="best" if x == names[0] else "tied" if x in names else "worse")
        for d, names in best.items()
        for x in ("row", "column", "element")
    ]
    few = [("element", "best"), ("row", "untested"), ("column", "worse")]
    rows += [dict(dataset="cifar10", label=x, outcome=o) for x, o in few]
    rows += [dict(dataset="svhn2", label=x, outcome=o) for x, o in [("element", "best"), ("row", "failed")]]
    assert st.verdict("varies", pd.DataFrame(rows)).verdict == expected


def test_verdict_from_runs_to_word():
    runs = make_runs(
        {
            "SAMT": {"mnist": draws(0.95), "svhn": draws(0.6)},
            "Adam": {"mnist": draws(0.9, seed=1), "svhn": draws(0.6, seed=2)},
            "SGD": {"mnist": draws(0.8, seed=3), "svhn": draws(0.5, seed=4)},
        }
    )
    assert st.verdict("better", st.compare(runs, "SAMT", ["Adam", "SGD"])).verdict == "partly"
    assert st.verdict("better", st.compare(runs, "SAMT", "SGD")).verdict == "reproduced"
    assert st.verdict("better", st.compare(runs, "SGD", "SAMT")).verdict == "not reproduced"
    assert st.verdict("better", st.compare(runs[runs["seed"] < 2], "SAMT", "SGD")).verdict == "not tested here"
    shapes = st.best_and_ties(runs)
    assert st.verdict("varies", shapes) == st.Verdict("not reproduced", "mnist: SAMT; svhn: SAMT, Adam")


def test_verdicts_refuse_what_their_rule_cannot_judge():
    table = comparisons({("mnist", "B"): "better"})
    with pytest.raises(InputError, match="did you mean 'better'"):
        st.verdict("beter", table)
    with pytest.raises(InputError, match="scale ratio, not 'difference'"):
        st.verdict("fewer", table)
    with pytest.raises(InputError, match="needs a bound"):
        st.verdict("not_worse", table)
    with pytest.raises(InputError, match="takes no bound"):
        st.verdict("better", table, bound=0.1)
    assert st.verdict("better", table.iloc[:0]) == st.Verdict("not tested here", "no comparison was made")
