"""Probabilities of improvement: worked examples, failures, and that a pair depends on its own runs alone."""

import numpy as np
import pandas as pd
from frames import draws, make_runs, one, shuffled

from reproduce.judge.improvement import improvement_table


def test_probability_of_a_worked_example():
    runs = make_runs(
        {
            "A": {"mnist": [0.9, 0.8, 0.7, 0.6], "svhn": [0.5, 0.5]},
            "B": {"mnist": [0.8, 0.9, 0.6, 0.6], "svhn": [0.4, 0.4]},
        }
    )
    row = improvement_table(runs).iloc[0]
    # MNIST: two wins, one loss, one tie of four; SVHN: two of two. Both sets weigh alike.
    assert row["probability"] == (2.5 / 4 + 1) / 2 and (row["label"], row["against"]) == ("A", "B")
    assert row["data_sets"] == 2 and row["seeds"] == 2
    # All resamples of MNIST have means in [0, 1]: with SVHN's 1 the interval lies in [.5, 1] around the estimate.
    assert 0.5 <= row["probability_low"] < row["probability"] < row["probability_high"] <= 1


def test_seeds_that_all_say_the_same_have_no_interval():
    runs = make_runs({"A": {"mnist": [0.9, 0.8, 0.7]}, "B": {"mnist": [0.8, 0.7, 0.6]}})
    row = improvement_table(runs).iloc[0]
    assert row["probability"] == 1 and np.isnan(row["probability_low"]) and np.isnan(row["probability_high"])


def test_the_interval_covers_the_probability_of_normal_draws():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        x = {label: {d: list(rng.normal(m, 1, 10)) for d in "abcd"} for label, m in (("A", 0.5), ("B", 0.0))}
        row = improvement_table(make_runs(x)).iloc[0]
        low, high = row["probability_low"], row["probability_high"]
        if row["label"] == "B":
            low, high = 1 - high, 1 - low
        covered += low <= 0.638 <= high  # Phi(.5 / sqrt(2))
    assert 0.88 < covered / 200 < 0.99


def test_a_pair_depends_on_its_own_runs_alone_and_not_on_their_order():
    runs = make_runs({x: {d: draws(m) for d in ("mnist", "svhn")} for x, m in [("A", 0.9), ("B", 0.899), ("C", 0.7)]})
    alone = improvement_table(runs[runs["label"] != "C"]).iloc[0]
    among = one(improvement_table(shuffled(runs)), label=alone["label"], against=alone["against"])
    pd.testing.assert_series_equal(among, alone, check_names=False)


def test_a_method_that_never_finished_is_better_than_nobody():
    runs = make_runs(
        {"Gone": {"mnist": ["diverged"] * 3}, "Bad": {"mnist": [0.05] * 3}, "Too": {"mnist": ["failed"] * 3}}
    )
    table = improvement_table(runs)
    assert one(table, label="Bad", against="Gone")["probability"] == 1
    assert one(table, label="Gone", against="Too")["probability"] == 0.5


def test_one_seed_has_no_interval_and_labels_without_a_common_set_no_row():
    runs = make_runs({"A": {"mnist": [0.9]}, "B": {"mnist": [0.8]}, "C": {"svhn": [0.8] * 3}})
    row = improvement_table(runs).iloc[0]
    assert row["probability"] == 1 and np.isnan(row["probability_low"]) and row["seeds"] == 1
    assert improvement_table(runs[runs["label"] == "A"]).empty and len(improvement_table(runs)) == 1
