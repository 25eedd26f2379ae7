"""Curves of one label, and the table of final accuracies."""

import numpy as np
import pandas as pd
import pytest

from reproduce.judge.estimates import mean_intervals
from reproduce.show.axes import accuracy_at, far_below
from reproduce.show.curves import POINTS, _thin, curve_of
from reproduce.show.finals import _dot_ends, final_table


def a_label(accuracies: dict[str, list[float]], statuses: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = pd.DataFrame(dict(run_key=list(statuses), status=list(statuses.values())))
    points = [
        dict(run_key=key, iteration=10 * k, epoch=k, test_accuracy=value, objective=1e3 * value)
        for key, values in accuracies.items()
        for k, value in enumerate(values)
    ]
    return runs, pd.DataFrame(points)


def test_a_band_has_seeds_as_its_unit():
    """Every point is a mean over runs; more evaluations of the same runs make no band narrower."""
    rows = {"a": [0.1, 0.90], "b": [0.1, 0.92], "c": [0.1, 0.94]}
    curve = curve_of(*a_label(rows, dict.fromkeys(rows, "done")), "epoch", "test_accuracy")
    expected = [m[0] for m in mean_intervals(np.array([[0.90, 0.92, 0.94]]))]
    np.testing.assert_allclose([curve.mean[1], curve.low[1], curve.high[1]], expected)
    np.testing.assert_allclose([curve.low[0], curve.high[0]], 0.1)
    long = {key: values + values[-1:] * 50 for key, values in rows.items()}
    again = curve_of(*a_label(long, dict.fromkeys(rows, "done")), "epoch", "test_accuracy")
    np.testing.assert_allclose(again.high[1:], curve.high[1])


def test_two_seeds_have_no_band():
    """Student's factor for two is 12.7: their band would cover the panel and say nothing."""
    rows = {"a": [0.1, 0.90], "b": [0.1, 0.92]}
    curve = curve_of(*a_label(rows, dict.fromkeys(rows, "done")), "epoch", "test_accuracy")
    assert curve.mean[1] == pytest.approx(0.91) and np.isnan([curve.low, curve.high]).all()


def test_after_a_divergence_the_mean_is_of_the_survivors_and_marked():
    rows = {"a": [0.1, 0.5, 0.8], "b": [0.1, 0.7], "c": [0.1, 0.6, 0.9]}
    curve = curve_of(*a_label(rows, dict(a="done", b="diverged", c="done")), "epoch", "test_accuracy")
    np.testing.assert_allclose(curve.mean, [0.1, 0.6, 0.85])
    assert (curve.whole, curve.diverged) == (2, True)
    none = curve_of(*a_label({"a": [0.1, 0.5]}, dict(a="done", b="diverged")), "epoch", "test_accuracy")
    assert none.whole == 0, "a run that diverged before its first evaluation leaves no point that all runs reached"


def test_objectives_have_a_geometric_mean():
    runs, points = a_label({"a": [0.0, 0.1], "b": [1.0, 10.0]}, dict(a="done", b="done"))
    curve = curve_of(runs, points, "epoch", "objective", logarithmic=True)
    assert curve.x.tolist() == [1] and curve.mean.tolist() == pytest.approx([1e3]), "0 has no logarithm: left out"


def test_thinning_keeps_the_ends():
    x = np.arange(1, 5001).astype(float)
    for log_x in (False, True):
        kept = _thin(np.arange(5000), x, log_x)
        assert kept[0] == 0 and kept[-1] == 4999 and 40 < len(kept) <= POINTS


def test_final_table_is_sorted_and_loses_no_label():
    statuses = ["done", "done", "diverged", "done", "diverged", "diverged"]
    accuracies = [0.8, 0.9, None, 0.95, None, None]
    runs = pd.DataFrame(dict(label=list("aabbcc"), status=statuses, test_accuracy=accuracies))
    table = final_table(runs)
    assert table.label.tolist() == ["a", "c", "b"] or table.label.tolist() == ["b", "a", "c"]
    assert dict(zip(table.label, table.diverged)) == dict(a=0, b=1, c=2)
    assert table["mean"].iloc[0] == pytest.approx(0.95) and np.isnan(table["mean"].iloc[-1])


@pytest.mark.parametrize("lost, shown", [(0.25, False), (0.95, True)])
def test_one_label_far_below_many_does_not_stretch_the_axis(lost, shown):
    accuracies = {f"{k}": [0.97 + 0.002 * k] * 3 for k in range(7)} | {"last": [0.97, 0.97, lost]}
    rows = [dict(label=label, status="done", test_accuracy=v) for label, values in accuracies.items() for v in values]
    low = accuracy_at(_dot_ends(final_table(pd.DataFrame(rows)))[0])
    assert (low <= lost) == shown and low < 0.97


def test_far_below_is_what_failed_a_lost_seed_pulled_down_or_the_odd_one_of_many():
    none = lambda *accuracies: np.full(len(accuracies), np.nan)
    few, many = (0.98, 0.97, 0.8), (0.98, 0.979, 0.978, 0.977, 0.976, 0.8)
    assert far_below(np.array(few), none(*few)).tolist() == [False, False, False], "two do not make one of three odd"
    assert far_below(np.array(few), np.array([0.98, 0.97, 1.1])).tolist() == [False, False, True]
    assert far_below(np.array(many), none(*many)).tolist() == [False] * 5 + [True]
    assert far_below(np.array([0.6, 0.55, 0.1]), none(0, 0, 0)).tolist() == [False, False, True], "under a third"
    assert not far_below(np.array([0.2]), none(0)).any()
