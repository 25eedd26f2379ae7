"""Stability over initial step sizes."""

import json

import pandas as pd
import pytest
from frames import make_runs, make_sweep, shuffled

from am.errors import InputError
from reproduce.judge.compare import best_and_ties, compare
from reproduce.judge.measures import _cut_off, _within_a_step
from reproduce.judge.stability import by_step_size, over_settings, stability


def test_over_settings_averages_a_methods_settings_within_a_seed():
    accuracies = {f"{m} {s}": {"mnist": v} for m, s, v in [
        ("SAMT", 0.1, [0.9, 0.8]), ("SAMT", 1, [0.7, "diverged"]),
        ("SGD", 0.1, [0.9, 0.9]), ("SGD", 1, ["diverged", "diverged"]),
        ("Bad", 0.1, ["diverged", "failed"]), ("Bad", 1, ["diverged", "diverged"]),
    ]}  # fmt: skip
    table = over_settings(make_runs(accuracies))
    assert list(table["label"]) == ["samt", "samt", "sgd", "sgd", "bad", "bad"]
    assert list(table["test_accuracy"]) == pytest.approx([0.8, 0.45, 0.5, 0.5, 0.1, 0.1])
    assert list(table["status"]) == ["done"] * 4 + ["failed"] * 2
    assert compare(table, "samt", "sgd").iloc[0]["effect"] == pytest.approx(0.125)
    with pytest.raises(InputError, match="1 settings and .* 2: their means do not compare"):
        over_settings(make_runs({k: v for k, v in accuracies.items() if k != "SGD 1"}))


def test_step_sizes_are_those_of_the_hyperparameters_whatever_the_label():
    runs = make_runs({label: {"mnist": [0.9]} for label in ("SGD + momentum, 0.1", "Adam (3.16e-05", "SAMT")})
    runs["method"] = ["momentum", "adam", "samt"]
    settings = dict(learning_rate=0.1, momentum=0.9), dict(learning_rate=3.16e-5), dict(alpha0=0.2, shape="row")
    runs["hyperparameters"] = [json.dumps(chosen) for chosen in settings]
    split = by_step_size(runs)
    assert list(split["label"]) == ["SGD + momentum", "Adam", "SAMT"]
    assert list(split["step_size"]) == [0.1, 3.16e-5, 0.2]
    with pytest.raises(InputError, match="'BCD' has no step sizes"):
        by_step_size(make_runs({"BCD": {"mnist": [0.9]}}))


def test_of_several_step_sizes_the_one_that_differs_between_a_methods_runs_counts():
    runs = make_runs({label: {"mnist": [0.9]} for label in ("Muon, 0.01", "Muon, 0.1")})
    runs["method"] = "muon"
    runs["hyperparameters"] = [json.dumps(dict(learning_rate=rate, adam_rate=1e-4)) for rate in (0.01, 0.1)]
    split = by_step_size(runs)
    assert list(split["label"]) == ["Muon", "Muon"] and list(split["step_size"]) == [0.01, 0.1]
    runs["hyperparameters"] = [json.dumps(dict(learning_rate=rate, adam_rate=rate)) for rate in (0.01, 0.1)]
    with pytest.raises(InputError, match="'Muon, 0.01' has 2 step sizes"):
        by_step_size(runs)


def test_stability_of_a_worked_example():
    accuracies = [
        [0.80, 0.90, 0.88, 0.10],  # loses .05 half-way from .1 to .01, and at .03 / .78 of the way from 1 to 10
        [0.50, 0.94, 0.94, "diverged"],  # .89 is .05 / .44 below .1, and .05 / .84 above 1, where chance stands in
        [0.92, 0.86, 0.92, 0.90],  # the dip ends the range of the best, which is the first of two equals
    ]
    table = stability(*make_sweep({"A": accuracies}))
    expected = [0.5 + 1 + 0.03 / 0.78, 0.05 / 0.44 + 1 + 0.05 / 0.84, 0.05 / 0.06]
    assert list(table["usable_decades"]) == pytest.approx(expected)
    assert list(table["cut_off"]) == [False, False, True]  # the last seed's range begins where the sweep does
    assert list(table["survival"]) == [3 / 4, 3 / 4, 1]  # the first ended above the loss that it started from
    # Means .74, .9, .9133, .3667: the best step size is 1, where the other seeds' medians are .93, .9 and .91.
    assert list(table["best_step_size"]) == [1, 1, 1] and list(table["step_sizes"]) == [4, 4, 4]
    assert list(table["steadiness"]) == pytest.approx([-0.05, -0.04, -0.01])
    assert list(table["status"]) == ["done"] * 3 and list(table["label"]) == ["A"] * 3
    wider = stability(*make_sweep({"A": accuracies}), within=0.1)
    assert (wider["usable_decades"] > table["usable_decades"]).all()
    everywhere = stability(*make_sweep({"A": [[0.9] * 4]}))
    assert everywhere["usable_decades"].item() == 3  # never beyond what was tried
    assert everywhere["steadiness"].isna().all()  # one seed has no spread, which is not a spread of zero


def test_a_range_that_the_sweep_cuts_off_is_never_the_narrower_one():
    """Five seeds each; half a decade to two of the three tried."""
    ranges = {
        "Inside": [0.5, 0.9, 0.89, 0.5],
        "To the end": [0.7, 0.9, 0.9, 0.86],
        "Cut short": [0.9, 0.89, 0.2, 0.2],
        "Cut long": [0.9, 0.9, 0.9, 0.2],
    }
    found = stability(*make_sweep({label: [[v + x for v in values] for x in (0, 1e-3, 2e-3, -1e-3, -2e-3)]
                                   for label, values in ranges.items()}))  # fmt: skip
    assert dict(found.groupby("label")["cut_off"].any()) == {
        "Inside": False, "To the end": True, "Cut short": True, "Cut long": True,
    }  # fmt: skip

    def outcome(a: str, b: str) -> str:
        return _cut_off(compare(found, a, b, metric="usable_decades", unfinished=0.0), found)["outcome"].item()

    assert (outcome("Cut long", "Inside"), outcome("Inside", "Cut long")) == ("better", "worse")
    assert outcome("Cut short", "Cut long") == outcome("Cut long", "Cut short") == "tied"
    assert outcome("Cut short", "Inside") == outcome("Inside", "Cut short") == "tied"


def test_a_useless_run_is_lost_above_the_best_step_size_and_merely_slow_below_it():
    runs, curves = make_sweep({"A": [[0.1, 0.9, 0.5, 0.1]]})
    last = curves["iteration"] == curves["iteration"].max()
    curves.loc[last, "train_loss"] = curves["train_loss"].min() - 1  # every run's loss fell
    assert stability(runs, curves)["survival"].item() == 3 / 4


def test_one_step_size_more_or_less_is_the_resolution_of_a_sweep():
    shares = {"All": 4, "One less": 3, "Two less": 2}
    found = stability(*make_sweep({label: [[0.9] * kept + ["diverged"] * (4 - kept)] * 3
                                   for label, kept in shares.items()}))  # fmt: skip

    def outcome(a: str, b: str) -> str:
        return _within_a_step(compare(found, a, b, metric="survival", unfinished=0.0), found)["outcome"].item()

    assert outcome("All", "One less") == outcome("Two less", "One less") == "tied"
    assert (outcome("All", "Two less"), outcome("Two less", "All")) == ("better", "worse")


def test_stability_refuses_what_does_not_compare():
    runs, curves = make_sweep({"A": [[0.9] * 4, [0.8] * 4]})
    with pytest.raises(InputError, match="mnist, A: some seeds lack step sizes"):
        stability(runs.iloc[1:], curves)
    with pytest.raises(InputError, match="the seed is the unit"):
        stability(pd.concat([runs, runs.iloc[:1].assign(init="normal")]), curves)


def test_stability_depends_on_a_methods_own_runs_alone_and_not_on_their_order():
    two = {"A": [[0.5, 0.9, 0.6, 0.3], [0.4, 0.8, 0.9, "failed"]], "B": [[0.7] * 4, [0.6, 0.9, 0.2, 0.1]]}
    table = stability(*make_sweep(two))
    more = stability(*make_sweep({"First": [["diverged"] * 4] * 2} | two | {"Last": [[0.99] * 4] * 2}))
    kept = more[more["label"].isin(["A", "B"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, kept, check_exact=True)
    mixed = stability(*map(shuffled, make_sweep(two))).sort_values(["label", "seed"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(table, mixed, check_exact=True)


@pytest.mark.parametrize("metric, worst", [("usable_decades", 0.0), ("survival", 0.0), ("steadiness", 0.1 - 1)])
def test_a_method_that_always_diverges_or_never_learns_is_not_stable(metric, worst):
    runs, curves = make_sweep(
        {
            "Diverged": [["diverged", "failed", "diverged", "diverged"]] * 5,
            "Stuck": [[0.1] * 4] * 5,  # loses nothing from step size to step size, nor from seed to seed
            "Good": [[0.7 + x, 0.9 + x, 0.4 - x, "diverged"] for x in (0, 0.01, 0.02, -0.01, -0.02)],
        }
    )
    table = stability(runs, curves)
    for bad in ("Diverged", "Stuck"):
        assert (table.loc[table["label"] == bad, metric] == worst).all()
        assert compare(table, "Good", bad, metric=metric, unfinished=worst)["outcome"].item() == "better"
        assert compare(table, bad, "Good", metric=metric, unfinished=worst)["outcome"].item() == "worse"
    assert compare(table, "Diverged", "Stuck", metric=metric, unfinished=worst)["outcome"].item() == "tied"
    assert best_and_ties(table, metric=metric, unfinished=worst).set_index("label")["best"].idxmax() == "Good"
