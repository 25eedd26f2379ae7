"""Derived CSVs: what is written where, the same bytes again, and that failures never look good in them."""

import math

import numpy as np
import pandas as pd
import pytest
from frames import STEPS, draws, make_runs, make_sweep

from reproduce.judge import derived
from reproduce.judge.claims import load_claims
from reproduce.judge.targets import COSTS
from reproduce.plan.grid import abouts, grid_names

ABOUT = abouts()


def write_derived(results):
    """The tables of the profile that lies in the folder itself."""
    return derived.write_derived(results, "paper", ABOUT)


def put(results, grid, runs, curves=None):
    folder = results / grid
    folder.mkdir(parents=True, exist_ok=True)
    runs.to_csv(folder / "runs.csv", index=False)
    if curves is not None:
        curves.to_csv(folder / "curves.csv", index=False)


def read(results, name):
    return pd.read_csv(results / f"{name}.csv")


def curve_of(runs, k, **columns):
    """One curve a run, all alike; columns: name -> values at the iterations k."""
    return pd.concat([pd.DataFrame(dict(run_key=key, iteration=k, epoch=k) | columns) for key in runs["run_key"]])


def test_nothing_is_written_where_there_is_nothing_to_derive(tmp_path):
    put(tmp_path, "g", make_runs({"SGD": {"mnist": [0.9]}}))
    assert write_derived(tmp_path) == [] and write_derived(tmp_path / "nowhere") == []


def test_the_same_csvs_give_the_same_bytes_and_nothing_stale_stays(tmp_path):
    runs, curves = make_sweep({"A": [[0.5, 0.9, 0.8, "diverged"]] * 3, "B": [[0.6, 0.7, 0.9, 0.1]] * 3})
    put(tmp_path, "sweep", runs, curves.assign(objective=5 + 0.9 ** curves["iteration"]))
    fair = make_runs({x: {d: draws(m) for d in ("mnist", "svhn")} for x, m in [("A", 0.9), ("B", 0.8), ("C", 0.7)]})
    put(tmp_path, "fair", fair)
    paths = write_derived(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == ["fair/improvement.csv", "sweep/stability.csv"]
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_derived(tmp_path)] == first
    put(tmp_path, "sweep", runs.iloc[1:], curves)  # a seed lacks a step size
    put(tmp_path, "fair", fair[fair["label"] == "A"])
    assert write_derived(tmp_path) == [] and not any(path.exists() for path in paths)


def test_convergence_of_the_objective_and_of_the_gradient_norm(tmp_path):
    k = np.arange(1, 61)
    runs = make_runs({"A": {"mnist": [0.9, 0.9, "diverged"]}, "B": {"mnist": ["diverged"] * 3}})
    curves = curve_of(runs, k, objective=np.where(k < 18, 50 - k % 2, 1 + 0.8**k), gradient_norm=2 * k**-0.5)
    put(tmp_path, "g", runs, curves)
    write_derived(tmp_path)
    table = read(tmp_path, "g/convergence").set_index("column")
    assert list(table["label"]) == ["A", "A"] and (table["law"] == ["linear", "power"]).all()
    assert list(table["since"]) == [18, 0] and (table["seeds"] == 3).all() and (table["done"] == 2).all()
    objective = table.loc["objective", ["rate", "rate_low", "rate_high", "monotone_share"]].tolist()
    assert objective == pytest.approx([0.8, 0.8, 0.8, 1])
    assert table.loc["gradient_norm", "rate"] == pytest.approx(0.5) and (table["fitted"] == 2).all()
    # A grid without either has no such table.
    put(tmp_path, "g", runs, curves.drop(columns=["objective", "gradient_norm"]))
    write_derived(tmp_path)
    assert not (tmp_path / "g" / "convergence.csv").exists()


def test_stability_of_a_method_that_always_diverges_is_the_worst_in_every_column(tmp_path):
    sweep = {
        "Gone": [["diverged", "failed", "diverged", "diverged"]] * 3,
        "Good": [[0.7 + x, 0.9 + x, 0.4 - x, "diverged"] for x in (0, 0.01, 0.02)],
    }
    put(tmp_path, "g", *make_sweep(sweep))
    write_derived(tmp_path)
    table = read(tmp_path, "g/stability").set_index("label")
    gone, good = table.loc["Gone"], table.loc["Good"]
    assert (gone["done"], gone["seeds"], gone["step_sizes"]) == (0, 3, len(STEPS))
    assert gone["usable_decades"] == 0 < good["usable_decades"] and gone["diverged_share"] == 1 > good["diverged_share"]
    assert gone["deviation"] == 0.9 > good["deviation"] and gone["mean_accuracy"] == 0.1 < good["mean_accuracy"]
    put(tmp_path, "g", *make_sweep({"Good": sweep["Good"]}))
    write_derived(tmp_path)
    pd.testing.assert_series_equal(read(tmp_path, "g/stability").set_index("label").loc["Good"], good, check_exact=True)


def test_targets_count_misses_as_infinite(tmp_path):
    runs = make_runs({"mDLAM": {"mnist": [0.8, 0.8, 0.8]}, "TIAM": {"mnist": [0.9, 0.7, "diverged"]}})
    curves = curve_of(runs, np.array([0, 5, 10]), seconds=np.array([0, 1.5, 3.0]), val_accuracy=[0.1, 0.79, 0.9])
    curves.loc[curves["run_key"] == "TIAM/mnist/1", "val_accuracy"] = [0.1, 0.2, 0.3]
    put(tmp_path, "tiam_time", runs.assign(lane="accuracy"), curves)
    write_derived(tmp_path)
    table = read(tmp_path, "tiam_time/to_target").set_index(["cost", "label"])
    assert set(table.index.levels[0]) == {"epoch", "iteration", "seconds"}
    assert table.loc[("seconds", "mDLAM"), ["target", "seeds", "reached", "median"]].tolist() == [0.8, 3, 3, 3.0]
    assert table.loc[("seconds", "TIAM"), ["reached", "median"]].tolist() == [1, math.inf]
    put(tmp_path, "tiam_time", runs[runs["label"] == "TIAM"], curves)  # no reference, no target
    assert write_derived(tmp_path) == []


def test_the_targets_are_those_of_the_claims():
    for claim in load_claims():
        if claim.measure.startswith("to_target") and claim.grid in grid_names():
            assert claim.reference in {target.reference for target in ABOUT(claim.grid, "light").targets}, claim
            assert claim.column in (*COSTS, "block_gradients")


def test_step_costs_of_the_time_lane(tmp_path):
    runs = make_runs({"SAMT": {"mnist": [0.9, 0.9, "diverged"]}, "SGD": {"mnist": [0.9] * 3}}).assign(
        lane="time", iterations=10, parameter_updates=[30] * 3 + [10] * 3, seconds=[3.0, 6, 1e-9, 1, 2, 3], flops=60
    )
    put(tmp_path, "g", runs)
    put(tmp_path, "h", runs.assign(lane="accuracy"))
    assert [path.name for path in write_derived(tmp_path)] == ["step_cost.csv"]
    table = read(tmp_path, "g/step_cost").set_index(["cost", "label"])
    seconds = table.loc[("seconds", "SAMT"), ["seeds", "updates_per_step", "block_step", "full_step"]].tolist()
    assert seconds == pytest.approx([2, 3, 0.15, 0.45])
    assert table.loc[("flops", "SAMT"), ["block_step", "full_step"]].tolist() == [2, 6]
    assert table.loc[("flops", "SGD"), ["block_step", "full_step"]].tolist() == [6, 6]
