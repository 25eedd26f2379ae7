"""Adopt: the CSVs are a store; a row that is not what it says stays out, and folders merge."""

import csv
import shutil

import pytest
from helpers import CSVS, METHODS, TUNED, Place, at_version_2, one_sentence, place_fixture  # noqa: F401

from reproduce.__main__ import main
from reproduce.evidence.store import Store

TRIALS = (*CSVS, "tuning.csv")


@pytest.fixture(params=["paper", "tuned"])
def done(request, place: Place) -> Place:
    """A grid with a diverged setting, run."""
    lost = dict(name="sgd", label="lost", set=dict(learning_rate=1e30))
    place.write(**(TUNED if request.param == "tuned" else dict(methods=[*METHODS, lost])))
    place.ran()
    return place


def content(place: Place) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place.csvs / "tiny").glob("*.csv")}


def adopt(place: Place, *folders) -> int:
    return main(["adopt", *map(str, folders), "--results", str(place.results)])


def test_a_fresh_clone_has_nothing_to_train_and_collects_the_same_bytes(done, capsys):
    before = content(done)
    shutil.rmtree(done.store)
    assert adopt(done) == 0
    count = len(Store(done.results)._runs)
    assert f"{done.csvs / 'tiny'}: {count} adopted\n" in capsys.readouterr().out
    assert done.do("plan", "tiny") == 0
    assert f"{count:5} runs, {count:5} already there" in capsys.readouterr().out
    for path in (done.csvs / "tiny").glob("*.csv"):
        path.unlink()
    done.run()
    assert "Nothing to train" in capsys.readouterr().out
    assert content(done) == before
    shards = done.shards()
    assert adopt(done) == 0
    assert f"{count} already there" in capsys.readouterr().out
    assert done.shards() == shards


def test_two_folders_merge_into_one(place, tmp_path, capsys):
    place.run()
    before = place.untimed()
    halves = [Place(tmp_path / name) for name in "ab"]
    for half, methods in zip(halves, ("sgd,adam", "adam,mdlam")):
        half.write()
        half.run("tiny", "--methods", methods)
    merged = Place(tmp_path / "merged")
    merged.write()
    capsys.readouterr()
    assert adopt(merged, *(half.results for half in halves)) == 0
    assert [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "4 adopted", "2 adopted, 2 already there",
    ]  # fmt: skip
    merged.run()
    assert "Nothing to train: all 6 runs are there." in capsys.readouterr().out
    assert merged.untimed() == before


@pytest.mark.parametrize("depth", ["results", "profile", "grid"])
def test_a_folder_at_any_depth_is_found(place, depth, tmp_path, capsys):
    place.ran()
    source = dict(results=place.results, profile=place.csvs, grid=place.csvs / "tiny")[depth]
    other = Place(tmp_path / "other")
    assert adopt(other, source) == 0
    assert ": 6 adopted" in capsys.readouterr().out
    assert adopt(other, tmp_path / "nowhere") == 2
    assert "holds no CSVs of finished runs" in one_sentence(capsys)


def test_rows_of_other_versions_are_not_adopted_and_the_report_says_why(place, monkeypatch, capsys):
    place.ran()
    shutil.rmtree(place.store)
    at_version_2(monkeypatch, "adam")
    assert adopt(place) == 0
    said = "4 adopted, 2 left: the run is of method:adam 1 → 2 (2026-01-01): a fault was mended"
    assert said in capsys.readouterr().out


def change(place: Place, file: str, column: str, value: str, row: int = -1) -> None:
    rows = place.rows(file=file)
    rows[row][column] = value
    with open(place.csvs / "tiny" / file, "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    "file, column, value",
    [
        ("runs.csv", "test_accuracy", "0.99"),
        ("runs.csv", "flops", "1"),
        ("runs.csv", "status", "diverged"),
        ("runs.csv", "checksum", ""),
        ("runs.csv", "val_accuracy", "much"),
        ("curves.csv", "test_accuracy", "0.99"),
        ("curves.csv", "iteration", ""),
    ],
)
def test_a_row_with_other_numbers_than_it_was_written_with_stays_out(place, file, column, value, capsys):
    place.ran()
    shutil.rmtree(place.store)
    change(place, file, column, value)
    capsys.readouterr()
    assert adopt(place) == 2
    out, err = capsys.readouterr()
    assert ": 5 adopted" in out
    assert "runs.csv: 1 rows do not have the numbers or the curve" in err
    assert len(place.stored()) == 5


@pytest.mark.parametrize(
    "column, value",
    [("seed", "7"), ("seed", "x"), ("hyperparameters", "{}"), ("hyperparameters", "[" * 5000), ("method", "none"),
     ("hidden", ""), ("epochs_asked", "3"), ("n_train_asked", "nan"), ("evaluate_every", "")],
)  # fmt: skip
def test_a_row_whose_key_is_not_that_of_its_configuration_is_refused(place, column, value, capsys):
    place.ran()
    shutil.rmtree(place.store)
    last = place.rows()[-1]
    place.change(column, value, label=last["label"], seed=last["seed"])
    capsys.readouterr()
    assert adopt(place) == (0 if (column, value) == ("method", "none") else 2)
    out, err = capsys.readouterr()
    assert ": 5 adopted" in out
    assert "is of method 'none', which is not here" in out if value == "none" else "runs.csv: 1 rows stay out" in err


def test_a_run_that_is_there_with_other_numbers_is_told_and_stays(place, tmp_path, capsys):
    place.ran()
    other = Place(tmp_path / "other")
    assert adopt(other, place.results) == 0
    first = place.rows()[0]
    place.change("train_loss", "9.5", label=first["label"], seed="0")
    key = first["run_key"]
    capsys.readouterr()
    assert adopt(other, place.results) == 2
    out, err = capsys.readouterr()
    assert ": 5 already there" in out and "runs.csv: 1 runs are in the store with other numbers" in err
    assert main(["forget", key, "--results", str(other.results)]) == 2, "it holds no CSVs"
    assert main(["adopt", str(place.results), "--results", str(other.results)]) == 2


def test_a_run_is_forgotten_everywhere_and_no_other_is(place, capsys):
    place.ran()
    key = place.rows()[1]["run_key"]
    assert main(["forget", key, "--results", str(place.results)]) == 0
    assert key not in {row["run_key"] for file in CSVS[:2] for row in place.rows(file=file)}
    assert key not in {run["run_key"] for run in place.stored()} and len(place.stored()) == 5
    capsys.readouterr()
    assert main(["forget", key, "--results", str(place.results)]) == 2
    assert f"has the key '{key}'" in one_sentence(capsys)
    assert place.do("plan", "tiny") == 0
    assert "6 runs,     5 already there" in capsys.readouterr().out
    place.run()
    assert len(place.rows()) == 6


DAMAGE = {
    "no text": lambda data: b"\xff\xfe" + data,
    "half": lambda data: data[: len(data) // 2],
    "half a line": lambda data: data[:-9],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "another": lambda data: b"a,b\n1,2\n",
}


@pytest.mark.parametrize("file", ["runs.csv", "curves.csv", "tuning.csv"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_csv_is_refused_keeps_its_bytes_and_the_other_grids_are_adopted(place, damage, file, capsys):
    place.write(**TUNED)
    place.ran()
    place.write("whole")
    place.ran("whole")
    path = place.csvs / "tiny" / file
    before = path.read_bytes()
    path.write_bytes(DAMAGE[damage](before))
    shutil.rmtree(place.store)
    capsys.readouterr()
    assert adopt(place) == 2
    out, err = capsys.readouterr()
    assert str(path.parent) in err and err.count("\n") <= 2 and "Traceback" not in err
    assert "whole: 6 adopted" in out
    damaged = {path: path.read_bytes() for path in (place.csvs / "tiny").glob("*.csv")}
    for command in ("collect", "run"):
        assert place.do(command, "tiny") == 2
        assert str(path.parent) in one_sentence(capsys)
        assert {path: path.read_bytes() for path in damaged} == damaged
    path.write_bytes(before)
    assert adopt(place) == 0
    assert place.do("collect", "tiny") == 0
    assert path.read_bytes() == before
