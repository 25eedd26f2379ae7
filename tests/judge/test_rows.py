"""Scores, the seed as the unit, and what may not move a number: a test for each line of the protocol."""

import pandas as pd
import pytest
from frames import INF, NAN, draws, make_runs, one, shuffled

from am.errors import InputError
from reproduce.judge.compare import best_and_ties, compare, compare_costs, contrast
from reproduce.judge.convergence import levels
from reproduce.judge.ranks import critical_difference
from reproduce.judge.rows import scores
from reproduce.judge.summary import summary
from reproduce.judge.targets import performance_profile, targets
from reproduce.judge.verdicts import Verdict, verdict


def test_unfinished_runs_score_chance_and_only_an_accuracy_has_a_chance_level():
    runs = make_runs({"A": {"mnist": [0.9, "diverged", "failed"]}}).assign(objective=[1.0, NAN, NAN])
    assert list(scores(runs)) == [0.9, 0.1, 0.1]
    with pytest.raises(InputError, match="objective"):
        scores(runs, "objective")
    assert list(scores(runs, "objective", unfinished=9.0)) == [1.0, 9.0, 9.0]


def test_a_finished_run_without_a_value_is_refused():
    runs = make_runs({"A": {"mnist": [0.9, NAN]}})
    with pytest.raises(InputError, match="'A' with seed 1 has no test_accuracy"):
        scores(runs)


def test_unknown_words_are_refused_with_the_nearest_one():
    runs = make_runs({"TIAM": {"mnist": [0.9]}, "Adam": {"mnist": [0.8]}})
    with pytest.raises(InputError, match="did you mean 'TIAM'"):
        compare(runs, "TIAN", "Adam")
    with pytest.raises(InputError, match="did you mean 'test_accuracy'"):
        compare(runs, "TIAM", "Adam", metric="test_acuracy")
    with pytest.raises(InputError, match="did you mean 'diverged'"):
        summary(runs.assign(status="divergd"))
    with pytest.raises(InputError, match="itself"):
        compare(runs, "TIAM", "TIAM")


@pytest.mark.parametrize(
    "use",
    [
        lambda runs: compare(runs, "A", "B"),
        lambda runs: best_and_ties(runs),
        lambda runs: summary(runs),
        lambda runs: levels(runs, "test_accuracy"),
    ],
)
def test_two_rows_of_one_seed_are_never_two_replications(use):
    runs = make_runs({"A": {"mnist": draws(0.9)}, "B": {"mnist": draws(0.8, seed=1)}})
    use(runs)
    evaluations = pd.concat([runs, runs.assign(test_accuracy=runs["test_accuracy"] + 1e-3, init="normal")])
    with pytest.raises(InputError, match="differ in init: the seed is the unit"):
        use(evaluations)


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
        (summary, ["label", "dataset"]),
        (lambda r: compare(r, "A", ["B", "C"]), ["b", "dataset"]),
        (lambda r: compare_costs(r, "A", ["B", "C"]), ["b", "dataset"]),
        (best_and_ties, ["label", "dataset"]),
        (lambda r: levels(r, "test_accuracy", unfinished=0.0), ["a", "dataset"]),
    ]:
        ordered, other = (use(r).sort_values(key).reset_index(drop=True) for r in (runs, mixed))
        pd.testing.assert_frame_equal(ordered, other, check_exact=True)


def test_adding_a_method_changes_no_number_of_another():
    two = {
        "A": {"mnist": draws(0.9), "svhn": draws(0.5)},
        "B": {"mnist": draws(0.88, seed=1), "svhn": draws(0.5, seed=2)},
    }
    runs = make_runs(two)
    more = make_runs({"First": {"mnist": draws(0.99), "svhn": ["diverged"] * 5}} | two | {"Last": {"mnist": [0.1] * 5}})
    more.loc[more["label"] == "Last", "test_accuracy"] = NAN  # and even where the new rows would be refused
    pd.testing.assert_frame_equal(compare(runs, "A", "B"), compare(more, "A", "B"), check_exact=True)
    old, new = summary(runs), summary(more)
    new = new[new["label"].isin(["A", "B"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, new, check_exact=True)
    more = more[more["label"] != "Last"]
    more["val_accuracy"] = more["test_accuracy"]
    assert targets(runs, "A").equals(targets(more, "A"))


def test_the_same_rows_give_the_same_numbers_twice():
    runs = make_runs({"A": {"mnist": draws(0.9)}, "B": {"mnist": draws(0.88, seed=1)}})
    pd.testing.assert_frame_equal(compare(runs, "A", "B"), compare(runs, "A", "B"), check_exact=True)


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
    difference = critical_difference(runs)
    assert difference.ranks.index[-1] == "Diverged"
    # Last on mnist and svhn, shared last with Good on cifar10.
    assert difference.ranks["Diverged"] == pytest.approx((3 + 3 + 2.5) / 3)
    bold = best_and_ties(runs)
    assert not bold.loc[bold["label"] == "Diverged", ["best", "among_best"]].any(axis=None)
    assert set(bold.loc[bold["label"] == "Diverged", "outcome"]) == {"failed"}
    assert one(bold, dataset="cifar10", label="Stuck")["best"]
    comparison = compare(runs, "Diverged", ["Stuck", "Good"])
    assert "better" not in set(comparison["outcome"])
    assert "worse" not in set(compare(runs, "Stuck", "Diverged")["outcome"])
    costs = compare_costs(runs, "Diverged", "Stuck")
    assert (costs["outcome"] == "worse").all() and (costs["effect"] == INF).all()
    medians = (
        runs.assign(cost=runs["cost"].where(runs["status"] == "done", INF))
        .groupby(["dataset", "label"])["cost"]
        .median()
    )
    profile = performance_profile(medians.unstack(), [1, 1e9])
    assert (profile["Diverged"] == 0).all() and profile["Stuck"].iloc[0] == 1
    ranked = summary(runs[runs["label"] != "Stuck"]).sort_values("mean_all")
    assert ranked.iloc[-1]["label"] == "Good" and ranked["mean_all"].notna().all()


def test_a_method_that_always_diverges_carries_no_claim():
    runs = make_runs({"A": {"mnist": ["diverged"] * 5}, "B": {"mnist": ["diverged"] * 5}})
    table = compare(runs, "A", "B")
    assert verdict("better", table).verdict == "open"
    assert verdict("not_worse", table, bound=0.01).verdict == "open"
    assert verdict("at_least", levels(runs, "test_accuracy"), bound=0.05).verdict == "open"
    costs = compare_costs(runs.assign(cost=1.0), "A", "B")
    assert verdict("fewer", costs) == Verdict("not tested here", "not tested: mnist (no run reached it)", 0, 0, 0)
    gain = pd.concat(
        [
            make_runs({"A": {"mnist": ["diverged"] * 5}, "B": {"mnist": draws(0.5)}}),
            make_runs({"A": {"mnist": ["diverged"] * 5}, "B": {"mnist": draws(0.9)}}, activation="elu"),
        ]
    )
    assert contrast(gain, "A", "B", "activation", ["relu"]).iloc[0]["outcome"] == "tied"


def test_divergence_counts_as_chance_in_a_comparison():
    runs = make_runs({"A": {"mnist": [0.95, 0.95, "diverged", "diverged", 0.95]}, "B": {"mnist": [0.8] * 5}})
    row = compare(runs, "A", "B").iloc[0]
    assert row["effect"] == pytest.approx((3 * 0.15 - 2 * 0.7) / 5) and row["a_done"] == 3 and row["n"] == 5
