"""What a command works on: a plan only looks, and what narrows a grid leaves the rows of the rest alone."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import METHODS, ROOT, Place, one_sentence, place_fixture  # noqa: F401

from reproduce.__main__ import main

SETS = ["digits", "mnist"]


def no_download(*args: object) -> None:
    raise AssertionError("nothing may be downloaded")


@pytest.fixture
def both(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A grid on the embedded set and on a made-up MNIST, run; nothing can be downloaded."""
    monkeypatch.setattr("am.data.download._parts", no_download)
    random = np.random.RandomState(0)
    arrays = dict(
        x_train=random.randint(0, 256, (200, 28, 28)).astype(np.uint8), y_train=np.arange(200) % 10,
        x_test=random.randint(0, 256, (50, 28, 28)).astype(np.uint8), y_test=np.arange(50) % 10,
    )  # fmt: skip
    folder = place.root / "data"
    folder.mkdir()
    np.savez(folder / "mnist.npz", **arrays)
    place.write(datasets=SETS, methods=METHODS[:2])
    place.ran("tiny", "--data", "data")
    return place


def everything(place: Place) -> tuple:
    return place.snapshot(), sorted(place.root.rglob("*"))


@pytest.mark.parametrize("load", [0.0, 1e3])
def test_a_plan_says_where_other_work_spoils_its_time(place, capsys, monkeypatch, load):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert place.do("plan", "tiny") == 0
    assert ("Other work keeps this machine busy (load 1000.0 on" in capsys.readouterr().out) == (load > 0)


def test_smoke_says_what_it_takes_in_place_of_a_grid_s_own_values(place, capsys):
    place.write(profile={}, datasets=["mnist"], seeds=7)
    assert place.do("plan", "tiny") == 0
    said = capsys.readouterr().out
    assert 'tiny.toml says: datasets = ["digits"], n_train = 500, seeds = 2, epochs = 4\n' in said
    place.write(profile={"smoke": dict(seeds=2)}, n_train=500, epochs=4)
    assert place.do("plan", "tiny") == 0
    assert "in place of" not in capsys.readouterr().out


def test_a_plan_writes_nothing(place, capsys):
    before = everything(place)
    assert place.do("plan", "tiny") == 0
    assert "to train: 6 runs" in capsys.readouterr().out
    assert everything(place) == before
    place.run()
    (place.store / ".left.part").write_text("", encoding="utf-8")
    os.utime(place.store / ".left.part", (0, 0))  # a run would sweep it
    before = everything(place)
    assert place.do("plan", "tiny") == 0
    assert "6 already there" in capsys.readouterr().out
    assert everything(place) == before


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_plan_says_what_stands_in_the_store_s_place(place, kind, capsys):
    place.results.mkdir()
    place.store.write_text("", encoding="utf-8") if kind == "file" else place.store.symlink_to("nowhere")
    assert place.do("plan", "tiny") == 2
    assert "cannot be written (File exists)" in one_sentence(capsys)


def test_a_plan_without_a_data_file_takes_the_copy_of_the_collected_rows(both, capsys):
    shutil.rmtree(both.root / "data")
    mark = next(row for row in both.rows() if row["dataset"] == "mnist")["data_fingerprint"]
    before = everything(both)
    assert both.do("plan", "tiny") == 0
    text = capsys.readouterr().out
    assert "8 runs,     8 already there" in text and "to train" not in text
    said = f"mnist is not in data/: planned is the copy that the collected rows were made of, SHA-256 {mark[:16]}."
    assert said in text
    assert everything(both) == before


def test_a_fresh_clone_without_data_has_nothing_to_train_after_adopt(both, capsys):
    shutil.rmtree(both.root / "data")
    shutil.rmtree(both.store)
    assert both.do("plan", "tiny") == 0
    assert "0 already there" in capsys.readouterr().out
    assert main(["adopt", "--results", str(both.results)]) == 0
    capsys.readouterr()
    assert both.do("plan", "tiny") == 0
    assert "8 runs,     8 already there" in capsys.readouterr().out


def test_without_file_and_rows_the_runs_of_a_set_count_as_missing(both, capsys):
    shutil.rmtree(both.root / "data")
    shutil.rmtree(both.csvs / "tiny")
    assert both.do("plan", "tiny") == 0
    text = capsys.readouterr().out
    assert "8 runs,     4 already there" in text and "to train: 4 runs" in text
    assert "mnist is not in data/ and no collected row says which copy it was: its runs count as missing." in text


def test_a_plan_without_data_refuses_a_torn_csv(both, capsys):
    shutil.rmtree(both.root / "data")
    path = both.csvs / "tiny" / "runs.csv"
    path.write_bytes(path.read_bytes()[:-20])
    assert both.do("plan", "tiny") == 2
    assert "runs.csv is malformed" in one_sentence(capsys)


def test_data_sets_narrow_what_is_trained_and_need_no_other_file(both, capsys):
    rows = [row for row in both.rows() if row["dataset"] == "mnist"]
    shutil.rmtree(both.root / "data")
    both.write(datasets=SETS, methods=METHODS)
    both.run("tiny", "--datasets", "digits")
    assert "trained 2 runs" in capsys.readouterr().out
    after = both.rows()
    assert [row for row in after if row["dataset"] == "mnist"] == rows
    assert [row["label"] for row in after if row["dataset"] == "digits"] == ["SGD"] * 2 + ["Adam"] * 2 + ["mDLAM"] * 2
    assert both.do("plan", "tiny", "--datasets", "digits") == 0
    assert "6 runs,     6 already there" in capsys.readouterr().out


def test_a_run_for_csvs_alone_draws_and_judges_nothing_and_the_next_one_does(place, capsys):
    place.run("tiny", "--csvs-only")
    assert {path.name for path in place.csvs.rglob("*.*")} == {"runs.csv", "curves.csv", "summary.csv", "manifest.json"}
    assert not place.figures.exists()
    place.run()
    assert "Nothing to train" in capsys.readouterr().out
    assert (place.csvs / "claims.csv").exists() and (place.drawn / "tiny" / "accuracy_epochs.png").exists()


@pytest.mark.parametrize(
    "word, expected",
    [
        ("digit", "tiny: unknown data set 'digit'; did you mean 'digits'?"),
        ("svhn", "tiny: unknown data set 'svhn'; valid: digits."),
    ],
)
def test_a_data_set_that_is_not_there_gets_a_sentence(place, word, expected, capsys):
    for command in ("run", "plan", "collect"):
        assert place.do(command, "tiny", "--datasets", f"digits,{word}") == 2
        assert one_sentence(capsys) == expected


def test_a_pipe_that_nobody_reads_ends_a_command_quietly(place):
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    words = [sys.executable, "-m", "reproduce", "grids", "--grids", str(place.grids)]
    command = subprocess.Popen(words, cwd=place.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait(60) == 141  # 128 + SIGPIPE, as other commands before `head`


def test_no_more_processes_than_memory_holds_and_what_none_holds_is_refused(place, monkeypatch, capsys):
    place.write(methods=[dict(name="tiam")], hidden=[[100]], n_train=None)
    for memory, said in ((64e9, "on 64 CPU processes"), (16e9, "on 21 CPU processes"), (1e9, "on 1 CPU processes")):
        monkeypatch.setattr("reproduce.run.session.device_memory", lambda device, memory=memory: memory)
        assert main(place.words("plan", "tiny", "--jobs", "64")) == 0
        assert said in capsys.readouterr().out
    monkeypatch.setattr("reproduce.run.session.device_memory", lambda device: 5e8)
    for command in ("plan", "run"):
        assert main(place.words(command, "tiny", "--jobs", "64")) == 2
        assert "a run of 'TIAM' on digits needs" in one_sentence(capsys)
