"""Audit: a row comes back to the last digit, a number that is no other seed's is found, and what cannot be is said."""

import random
import shutil

import pytest
from helpers import METHODS, Place

from reproduce.__main__ import main
from reproduce.evidence.audit import draw, held_against, weights, wrong_at_most
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


def test_every_digit_comes_back_of_stacked_diverged_and_full_batch_runs(done, capsys):
    capsys.readouterr()
    assert audit(done, "--rows", "100") == 0
    said = capsys.readouterr().out
    assert "16 runs: 16 the same in every digit, 0 near, 0 not" in said
    rows = read_text(done.results / "audit.csv")
    assert len(rows) == 16 and set(rows["label"]) == {"SGD", "Adam", "mDLAM", "lost"}
    assert (rows["same"] == "True").all() and (rows["test_accuracy"] == rows["test_accuracy_now"]).all()


def test_a_row_that_does_not_hold_fails_and_is_named(done, capsys):
    done.change("test_accuracy", "0.999", "runs.csv", label="Adam")
    assert audit(done, "--rows", "100") == 1
    said = capsys.readouterr().out
    assert "16 runs: 12 the same in every digit, 0 near, 4 not" in said
    assert "Adam, seed 1: test accuracy 0.9990, now 0." in said and "IT DOES NOT HOLD" in said


def test_a_point_of_a_curve_counts_and_another_machines_rounding_is_near(done, capsys):
    done.change("train_loss", "2.0", "curves.csv", label="SGD")
    assert audit(done, "--rows", "100") == 0
    assert "16 runs: 12 the same in every digit, 4 near, 0 not" in capsys.readouterr().out


def test_a_count_that_differs_is_no_rounding(done, capsys):
    done.change("iterations", "7", "runs.csv", label="mDLAM")
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


def test_runs_of_another_copy_stay_out_and_are_counted(done, capsys, any_key):
    done.change("data_fingerprint", "0" * 64, "runs.csv", label="SGD")
    capsys.readouterr()
    assert audit(done, "--rows", "100") == 0
    said = capsys.readouterr().out
    assert "4 finished runs are of images that are not in" in said
    assert "12 runs: 12 the same in every digit" in said
    for label in ("Adam", "mDLAM", "lost"):
        done.change("data_fingerprint", "0" * 64, label=label)
    assert audit(done) == 2
    assert "no run in" in capsys.readouterr().err


@pytest.fixture(name="any_key")
def any_key_fixture(monkeypatch) -> None:
    """Whether a row's key is that of its configuration is asked elsewhere."""
    monkeypatch.setattr("reproduce.evidence.rows.standing", lambda row, trial=False: None)


def test_rows_of_other_versions_are_told_and_the_others_are_drawn(done, capsys):
    versions = done.rows()[0]["versions"]
    done.change("versions", versions.replace("loop 1", "loop 2"), label="SGD")
    assert audit(done, "--rows", "1") == 1
    assert "4 rows do not count" in capsys.readouterr().err


def test_a_row_is_drawn_by_its_label_and_seed(done, capsys):
    assert audit(done, "--label", "mDLAM", "--seed", "1", "--rows", "100") == 0
    rows = read_text(done.results / "audit.csv")
    assert set(zip(rows["label"], rows["seed"])) == {("mDLAM", "1")} and len(rows) == 2  # of two activations
    assert audit(done, "--label", "mDLAN") == 2
    assert "did you mean 'mDLAM'?" in capsys.readouterr().err
    assert audit(done, "--label", "mDLAM", "--seed", "7") == 2
    assert "no finished run of mDLAM has seed 7" in capsys.readouterr().err


def test_a_verdict_and_a_changed_method_bring_a_row_sooner(done, tmp_path):
    rows = [row | dict(grid="g", profile="light", commit="c") for row in done.rows()]
    write(tmp_path / "claim_effects.csv", [dict(grid="g", profile="light", dataset="digits", method="SGD", against="")])
    weight = weights(tmp_path, None)
    assert {row["label"] for row in rows if weight(row) > 1} == {"SGD"}
    drawn = [draw([done.csvs / "tiny"], random.Random(i), lambda name: rows[0]["data_fingerprint"],
                  lambda row: 9 if row["label"] == "SGD" else 1)[0][0].row["label"] for i in range(60)]  # fmt: skip
    assert 30 < drawn.count("SGD") < 60  # 45 are expected; 15 were of equal weights


@pytest.mark.parametrize("wrong, of, bound", [(0, 59, 0.0495), (0, 1, 0.95), (1, 40, 0.1135), (2, 2, 1.0)])
def test_the_bound_is_the_binomials(wrong, of, bound):
    assert wrong_at_most(wrong, of) == pytest.approx(bound, abs=5e-4)


def test_an_accuracy_may_differ_by_what_seeds_do_and_no_more(done, any_key):
    """Three deviations over the seeds of the setting, or of the usual one on its problem; never a whole point."""
    for seed, accuracy in (("0", "0.60"), ("1", "0.62")):
        done.change("test_accuracy", accuracy, label="SGD", seed=seed)
    for label in ("Adam", "mDLAM"):
        for seed in "01":
            done.change("test_accuracy", "0.7", label=label, seed=seed)
    (drawn, _) = draw([done.csvs / "tiny"], random.Random(0), lambda name: done.rows()[0]["data_fingerprint"])
    allowed = {one.row["label"]: one.allowed for one in drawn}
    assert allowed["SGD"] == pytest.approx(3 * 0.02 / 2**0.5) and allowed["Adam"] == allowed["mDLAM"] == 0.0
    one = next(one for one in drawn if one.row["label"] == "SGD")
    for change, holds in ((0.042, "True"), (0.043, "False")):
        again = one.row | dict(test_accuracy=str(float(one.row["test_accuracy"]) + change))
        assert held_against(one, again, one.curve)["holds"] == holds


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
    done.change("test_accuracy", "good", "runs.csv", label="SGD")
    assert audit(done) == 2
    assert "runs.csv is malformed" in capsys.readouterr().err
    assert not (done.results / "audit.csv").exists()


def test_time_ends_it(done, capsys):
    assert audit(done, "--rows", "100", "--for", "0.000001s") == 0
    assert "1 runs: 1 the same" in capsys.readouterr().out
