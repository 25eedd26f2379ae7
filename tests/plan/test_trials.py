"""Trials in the CSVs: rows of their own, kept without their shards, and nothing chosen before all are done."""

import dataclasses
import shutil

import pytest
from helpers import CSVS, METHODS, TUNED, Place, cheap_figures, one_sentence, place_fixture  # noqa: F401

from am.methods import methods


@pytest.fixture
def tuned(place: Place) -> Place:
    """Two methods, three trials each, then two seeds each."""
    place.write(**TUNED)
    place.ran()
    return place


def test_trials_are_rows_of_their_own_and_no_column_saw_the_test_set(tuned):
    trials = tuned.rows(file="tuning.csv")
    assert [(row["method"], row["trial"]) for row in trials] == [(m, t) for m in ("sgd", "adam") for t in "012"]
    assert not any(name.startswith("test_") for name in trials[0])
    assert len({row["hyperparameters"] for row in trials}) == 6
    runs = tuned.rows()
    assert [(row["method"], row["seed"]) for row in runs] == [(m, s) for m in ("sgd", "adam") for s in "01"]
    for name in ("sgd", "adam"):
        mine = [row for row in trials if row["method"] == name]
        (best,) = [row for row in mine if row["chosen"] == "True"]
        assert float(best["val_accuracy"]) == max(float(row["val_accuracy"]) for row in mine)
        assert {row["hyperparameters"] for row in runs if row["method"] == name} == {best["hyperparameters"]}


def test_a_second_tuned_run_does_nothing_and_touches_nothing(place, capsys):
    place.write(**TUNED)
    place.run()
    before = place.snapshot()
    capsys.readouterr()
    place.run()
    assert "Nothing to train: all 10 runs are there." in capsys.readouterr().out
    assert place.snapshot() == before


def test_tuned_rows_and_trials_stay_when_their_shards_are_gone(tuned):
    every = (*CSVS, "tuning.csv")
    before = {file: (tuned.csvs / "tiny" / file).read_bytes() for file in every}
    keys = [row["run_key"] for row in tuned.rows()]
    shutil.rmtree(tuned.store)
    assert tuned.do("collect", "tiny") == 0
    assert {file: (tuned.csvs / "tiny" / file).read_bytes() for file in every} == before
    tuned.run("tiny", "--methods", "sgd")
    for file in every[1:3]:
        assert (tuned.csvs / "tiny" / file).read_bytes() == before[file]
    assert [row["run_key"] for row in tuned.rows()] == keys
    assert {run["run_key"] for run in tuned.stored()} == {
        row["run_key"] for file in ("tuning.csv", "runs.csv") for row in tuned.rows(file=file) if row["method"] == "sgd"
    }


def test_a_failed_trial_is_told_and_nothing_is_chosen_until_it_is_done(tuned, monkeypatch, capsys, tmp_path):
    other = Place(tmp_path / "other")
    other.write(text=(tuned.grids / "tiny.toml").read_text(encoding="utf-8"))
    real = methods()["adam"]

    def fail(state, problem, hp, k):
        if problem.x.shape[1] == 64:  # an image; a method that fails elsewhere is refused before it trains
            raise ArithmeticError("no")
        real.step(state, problem, hp, k)

    with monkeypatch.context() as broken:
        broken.setitem(methods(), "adam", dataclasses.replace(real, step=fail))
        assert other.do("run", "tiny") == 2
    assert "3 runs failed" in capsys.readouterr().err.splitlines()[-1]
    assert {row["method"] for row in other.rows()} == {"sgd"}
    failed = [row for row in other.rows(file="tuning.csv") if row["status"] == "failed"]
    assert len(failed) == 3 and {row["error"] for row in failed} == {"ArithmeticError: no"}
    assert {row["chosen"] for row in failed} == {"False"}
    other.run()
    assert other.untimed() == tuned.untimed()
