"""Audit: a row comes back to the last digit, a number that is no other seed's is found, and what cannot be is said."""

import shutil

import pytest
from helpers import METHODS, Place

from reproduce.__main__ import main
from reproduce.evidence.files import read_text, write
from reproduce.run.engines import work


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Place:
    """A grid with a diverged setting, and with an activation that rounds otherwise in a stack, run."""
    place = Place(tmp_path_factory.mktemp("once"))
    lost = dict(name="sgd", label="lost", set=dict(learning_rate=1e30))
    place.write(methods=[*METHODS, lost], activations=["relu", "softplus"], hidden=[[7]])
    place.run("tiny", "--csvs-only")
    return place


@pytest.fixture
def done(once: Place, tmp_path) -> Place:
    return Place(shutil.copytree(once.root, tmp_path / "done"))


def audit(place: Place, *words: str) -> int:
    return main(["audit", "--grids", str(place.grids), "--results", str(place.results), "--device", "cpu", *words])


def change(place: Place, name: str, column: str, value: str, where: tuple[str, str]) -> None:
    rows = read_text(place.csvs / "tiny" / name, evidence=True).to_dict("records")
    hit = [row for row in rows if row[where[0]] == where[1]]
    assert hit
    for row in hit:
        row[column] = value
    write(place.csvs / "tiny" / name, rows)


def test_every_digit_comes_back_of_stacked_diverged_and_full_batch_runs(done, capsys):
    capsys.readouterr()
    assert audit(done, "--rows", "100") == 0
    said = capsys.readouterr().out
    assert "16 runs: 16 the same in every digit, 0 near, 0 not" in said
    rows = read_text(done.results / "audit.csv")
    assert len(rows) == 16 and set(rows["label"]) == {"SGD", "Adam", "mDLAM", "lost"}
    assert (rows["same"] == "True").all() and (rows["test_accuracy"] == rows["test_accuracy_now"]).all()


def test_a_row_that_does_not_hold_fails_and_is_named(done, capsys):
    change(done, "runs.csv", "test_accuracy", "0.999", ("label", "Adam"))
    assert audit(done, "--rows", "100") == 1
    said = capsys.readouterr().out
    assert "16 runs: 12 the same in every digit, 0 near, 4 not" in said
    assert "Adam, seed 1: test accuracy 0.9990, now 0." in said and "IT DOES NOT HOLD" in said


def test_a_point_of_a_curve_counts_and_another_machines_rounding_is_near(done, capsys):
    change(done, "curves.csv", "train_loss", "2.0", ("label", "SGD"))
    assert audit(done, "--rows", "100") == 0
    assert "16 runs: 12 the same in every digit, 4 near, 0 not" in capsys.readouterr().out


def test_a_count_that_differs_is_no_rounding(done, capsys):
    change(done, "runs.csv", "iterations", "7", ("label", "mDLAM"))
    assert audit(done, "--rows", "100") == 1
    assert "4 not" in capsys.readouterr().out


def test_a_draw_is_repeated_by_its_number_and_goes_through_all_grids_first(done, capsys):
    done.write("other", methods=METHODS, hidden=[[5]])
    done.run("other", "--csvs-only")
    labels = []
    for number in ("1", "1", "2", "3"):
        assert audit(done, "--rows", "2", "--draw", number) == 0
        rows = read_text(done.results / "audit.csv")
        assert set(rows["grid"]) == {"tiny", "other"}
        labels.append(sorted(zip(rows["grid"], rows["label"], rows["seed"])))
    assert labels[0] == labels[1] and any(found != labels[0] for found in labels[2:])


def test_runs_of_another_copy_or_of_other_code_stay_out_and_are_counted(done, capsys):
    change(done, "runs.csv", "data_fingerprint", "0" * 64, ("label", "SGD"))
    capsys.readouterr()
    assert audit(done, "--rows", "100") == 0
    said = capsys.readouterr().out
    assert "4 finished runs are of other versions, or of images that are not in" in said
    assert "12 runs: 12 the same in every digit" in said
    for label in ("Adam", "mDLAM", "lost"):
        change(done, "runs.csv", "run_key", "0" * 20, ("label", label))
    assert audit(done) == 2
    assert "no run in" in capsys.readouterr().err


def test_a_grid_of_none_but_rows_of_other_versions_is_counted_and_the_others_are_drawn(done, capsys):
    shutil.copytree(done.csvs / "tiny", done.csvs / "older")
    shutil.copy(done.grids / "tiny.toml", done.grids / "older.toml")
    path = done.csvs / "older" / "runs.csv"
    rows = read_text(path, evidence=True).to_dict("records")
    write(path, [row | dict(versions=row["versions"].replace("loop 1", "loop 2")) for row in rows])
    assert audit(done, "--rows", "1") == 0
    assert f"{len(rows)} finished runs are of other versions" in capsys.readouterr().out


def test_a_stop_loses_no_row_that_was_trained(done, capsys, monkeypatch):
    trained, again = [], work.train_stack

    def stopped(runs, *others):
        if trained:
            raise KeyboardInterrupt
        trained.extend(runs)
        return again(runs, *others)

    monkeypatch.setattr(work, "train_stack", stopped)
    assert audit(done, "--rows", "3") == 130
    assert list(read_text(done.results / "audit.csv")["run_key"]) == [run.run_key for run in trained]


def test_a_grid_that_is_misspelt_is_answered_with_the_nearest(done, capsys):
    assert audit(done, "tinny") == 2
    assert "did you mean 'tiny'?" in capsys.readouterr().err


def test_a_word_in_place_of_a_number_is_refused_before_anything_trains(done, capsys):
    change(done, "runs.csv", "test_accuracy", "good", ("label", "SGD"))
    assert audit(done) == 2
    assert "runs.csv is malformed" in capsys.readouterr().err
    assert not (done.results / "audit.csv").exists()


def test_time_ends_it(done, capsys):
    assert audit(done, "--rows", "100", "--for", "0.000001s") == 0
    assert "1 runs: 1 the same" in capsys.readouterr().out
