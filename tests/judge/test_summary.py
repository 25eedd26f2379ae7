"""The summary of a grid."""

import math

import numpy as np
import pytest
from frames import NAN, draws, make_runs
from scipy import stats

from reproduce.judge.rows import SETTING
from reproduce.judge.summary import summary


def test_summary_of_a_worked_example():
    runs = make_runs({"A": {"mnist": [0.9, 0.8, 0.7, 0.6, "diverged", "failed"]}})
    runs["flops"] = [1.0, 2, 3, 4, 1000, NAN]
    row = summary(runs).iloc[0]
    assert (row["runs"], row["done"], row["diverged"], row["failed"]) == (6, 4, 1, 1)
    assert row["mean"] == pytest.approx(0.75) and row["sd"] == pytest.approx(np.std([0.9, 0.8, 0.7, 0.6], ddof=1))
    half = stats.t.ppf(0.975, 3) * row["sd"] / 2
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.75 - half, 0.75 + half))
    assert (row["median"], row["iqm"], row["min"], row["max"]) == pytest.approx((0.75, 0.75, 0.6, 0.9))
    assert row["mean_all"] == pytest.approx((3.0 + 0.1 + 0.1) / 6)
    assert row["flops"] == 2.5  # of the finished runs


def test_summary_of_one_seed_and_of_none_that_finished():
    table = summary(make_runs({"A": {"mnist": [0.9]}, "B": {"mnist": ["diverged", "diverged"]}}))
    single, none = table.iloc[0], table.iloc[1]
    assert single["mean"] == 0.9 and single[["sd", "ci_low", "ci_high"]].isna().all()
    assert none[["mean", "sd", "ci_low", "ci_high", "median", "iqm", "min", "max", "flops"]].isna().all()
    assert none["mean_all"] == 0.1 and none["diverged"] == 2


def test_summary_keeps_unknown_accuracies_unknown():
    # Trials of a tuning never read the test set: their rows have none, which is not the same as chance.
    runs = make_runs({"A": {"mnist": [NAN, NAN, "diverged"]}})
    row = summary(runs).iloc[0]
    assert math.isnan(row["mean"]) and math.isnan(row["mean_all"]) and row["done"] == 2


def test_summary_rows_stand_in_the_order_of_first_appearance_and_empty_settings_are_kept():
    runs = make_runs({"Z": {"svhn": draws(0.5), "mnist": draws(0.9)}, "A": {"svhn": draws(0.4), "mnist": draws(0.8)}})
    runs["n_train"] = runs["n_train"].where(runs["dataset"] == "mnist")
    table = summary(runs)
    assert list(zip(table["label"], table["dataset"])) == [
        ("Z", "svhn"), ("Z", "mnist"), ("A", "svhn"), ("A", "mnist")
    ]  # fmt: skip
    assert (table["runs"] == 5).all() and list(table.columns[: len(SETTING)]) == list(SETTING)
    assert len(summary(runs.iloc[:0])) == 0 and list(summary(runs.iloc[:0]).columns) == list(table.columns)
