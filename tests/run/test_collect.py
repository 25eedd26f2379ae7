"""Collect: the CSVs of a grid, the same bytes for the same runs, and what stays, is dropped and is left untouched."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers import CSVS, METHODS, Place, at_version_2, cheap_figures, one_sentence, place_fixture  # noqa: F401

from am.data import full_rows, identity_of
from am.methods import method, methods
from reproduce.__main__ import main
from reproduce.evidence.schema import by_unit
from reproduce.evidence.store import Store
from reproduce.judge.summary import write_summary
from reproduce.plan.grid import read_grid
from reproduce.plan.plan import plan
from reproduce.run import collect as collecting
from reproduce.run.collect import collect
from reproduce.show import figures

DRAW = figures.figures_of
# What reads the CSVs depends on these.
RUN_COLUMNS = """grid profile rule dataset data_official n_train activation hidden method hyperparameters seed status
iterations epochs parameter_updates gradient_evaluations flops test_accuracy test_accuracy_best_val val_accuracy
train_loss objective diverged_at train_seconds device torch commit run_key
lane data_fingerprint inputs init label error evaluate_seconds stack_runs""".split()
CURVE_COLUMNS = """run_key dataset activation hidden method label seed iteration epoch parameter_updates
gradient_evaluations flops val_accuracy test_accuracy train_loss objective constraint_gap""".split()

TIMING = by_unit("runs", "s")


@pytest.fixture
def done(place: Place) -> Place:
    """The tiny grid, run."""
    place.ran()
    return place


def files(place: Place, grid: str = "tiny") -> dict[str, bytes]:
    return {file: (place.csvs / grid / file).read_bytes() for file in CSVS}


def test_runs_csv_says_what_identifies_a_run_and_what_came_out(done):
    table = pd.read_csv(done.csvs / "tiny" / "runs.csv")
    assert set(RUN_COLUMNS) <= set(table.columns)
    assert list(zip(table.method, table.seed)) == [(m["name"], s) for m in METHODS for s in (0, 1)]
    for column, value in dict(
        grid="tiny", profile="smoke", rule="paper", lane="accuracy", dataset="digits", data_official=True, n_train=100,
        inputs="unit", activation="relu", hidden=6, status="done", device="cpu", epochs=2, stack_runs=1,
    ).items():  # fmt: skip
        assert (table[column] == value).all(), column
    fingerprint = identity_of("digits").fingerprint
    assert (table.data_fingerprint == fingerprint).all()
    assert table.run_key.is_unique and table.run_key.str.fullmatch("[0-9a-f]{20}").all()
    for row in table.itertuples():
        chosen = method(row.method)
        in_force = chosen.scaled(chosen.settings(), 100 / full_rows("digits", row.data_rows))
        assert json.loads(row.hyperparameters) == vars(in_force)
        steps = 2 if chosen.full_batch else 2 * 4
        assert row.iterations == steps
        assert row.parameter_updates == steps * chosen.cost.updates(2, chosen.settings())
        assert row.gradient_evaluations == steps * chosen.cost.gradients(2, chosen.settings())
    assert table.test_accuracy.between(0, 1).all() and table.val_accuracy.between(0, 1).all()
    assert (table.flops > 0).all() and (table[list(TIMING[1:])] >= 0).all(axis=None) and table.seconds.isna().all()
    assert table.error.isna().all() and table.diverged_at.isna().all()
    assert table.objective.notna().equals(table.method == "mdlam")


def test_curves_start_before_training_and_end_at_the_budget(place):
    place.write(methods=[*METHODS, dict(name="adam", label="often", evaluate_every=0.5)], epochs=3, evaluate_every=2)
    place.run()
    curves = pd.read_csv(place.csvs / "tiny" / "curves.csv")
    runs = pd.read_csv(place.csvs / "tiny" / "runs.csv").set_index(["label", "seed"])
    assert set(CURVE_COLUMNS) <= set(curves.columns)
    assert len(curves.groupby(["label", "seed"])) == 8
    for key, curve in curves.groupby(["label", "seed"]):
        row = runs.loc[key]
        often = key[0] == "often"
        assert curve.epoch.tolist() == ([0, 0.5, 1, 1.5, 2, 2.5, 3] if often else [0, 2, 3])
        first, last = curve.iloc[0], curve.iloc[-1]
        counts = ["iteration", "parameter_updates", "gradient_evaluations", "flops"]
        assert (first[counts] == 0).all()
        assert last[counts].tolist() == row[["iterations", *counts[1:]]].tolist()
        for column in ("test_accuracy", "val_accuracy", "train_loss"):
            assert last[column] == row[column]
        assert row.test_accuracy_best_val == curve.loc[curve.val_accuracy.idxmax(), "test_accuracy"]
        assert (curve.run_key == row.run_key).all()
        am = key[0] == method("mdlam").title
        assert curve.objective.notna().all() == curve.constraint_gap.notna().all() == am
        assert not am or last.objective == row.objective


def test_summary_counts_and_averages_over_seeds(place):
    place.run("tiny", "--seeds", "4")
    runs = pd.read_csv(place.csvs / "tiny" / "runs.csv")
    summary = pd.read_csv(place.csvs / "tiny" / "summary.csv")
    assert summary.label.tolist() == [method(m["name"]).title for m in METHODS]
    for row in summary.itertuples():
        accuracy = runs[runs.label == row.label].test_accuracy
        assert (row.runs, row.done, row.diverged, row.failed) == (4, 4, 0, 0)
        assert row.mean == pytest.approx(accuracy.mean()) and row.sd == pytest.approx(accuracy.std())
        half = 3.182446305284263 * accuracy.std() / 2  # Student's t of three degrees of freedom, four seeds
        assert (row.ci_low, row.ci_high) == pytest.approx((row.mean - half, row.mean + half))


def test_every_method_s_hyperparameters_parse(place):
    place.write(
        methods=[dict(name=name) for name in ("gd", "momentum", "nesterov", "adamw", "rmsprop", "sam", "samt", "tiam")]
    )
    place.run("tiny", "--seeds", "1")
    for row in place.rows():
        chosen = methods()[row["method"]]
        in_force = chosen.scaled(chosen.settings(), 100 / full_rows("digits", int(row["data_rows"])))
        assert chosen.settings(json.loads(row["hyperparameters"])) == in_force
        assert row["constants"] == "scaled"


def test_a_second_run_does_nothing_says_so_and_touches_nothing(place, capsys):
    place.run()
    before = place.snapshot()
    assert any(name.endswith(".png") for name in before) and any(name.endswith(".md") for name in before)
    capsys.readouterr()
    place.run()
    out, err = capsys.readouterr()
    assert "Nothing to train: all 6 runs are there." in out and err == ""
    assert place.do("collect", "tiny") == 0
    assert "up to date" in capsys.readouterr().out
    assert place.snapshot() == before


def test_two_places_give_the_same_csvs(done, tmp_path):
    other = Place(tmp_path / "other")
    other.write()
    other.run()
    assert other.untimed() == done.untimed()


@pytest.mark.parametrize("file", CSVS)
def test_a_deleted_csv_is_restored_to_the_byte(done, file, capsys):
    before = files(done)
    (done.csvs / "tiny" / file).unlink()
    assert done.do("collect", "tiny") == 0
    assert files(done) == before
    assert "written" in capsys.readouterr().out


def test_a_run_restores_the_csvs_without_training(done, capsys):
    before = files(done)
    shutil.rmtree(done.csvs / "tiny")
    capsys.readouterr()
    done.run()
    assert files(done) == before
    assert "Nothing to train" in capsys.readouterr().out


def test_rows_stay_when_their_shards_are_gone(done):
    before = files(done)
    shutil.rmtree(done.store)
    assert done.do("collect", "tiny") == 0
    assert files(done) == before
    (done.csvs / "tiny" / "summary.csv").unlink()
    assert done.do("collect", "tiny") == 0
    assert files(done) == before


def test_training_one_method_keeps_the_rows_of_the_others(done):
    before = {row["run_key"]: row for row in done.rows()}
    curves = done.rows(file="curves.csv")
    shutil.rmtree(done.store)
    done.run("tiny", "--methods", "adam")
    assert {run["run_key"] for run in done.stored()} == {key for key, row in before.items() if row["method"] == "adam"}
    for row in done.rows():
        same = [key for key in row if row["method"] != "adam" or key not in (*TIMING, "seal")]
        assert {key: row[key] for key in same} == {key: before[row["run_key"]][key] for key in same}
    assert done.rows(file="curves.csv") == curves


def test_training_one_method_first_and_the_others_later_gives_the_csvs_of_all_at_once(place, tmp_path):
    place.run("tiny", "--methods", "mdlam,sgd")
    assert {row["method"] for row in place.rows()} == {"sgd", "mdlam"}
    place.run()
    whole = Place(tmp_path / "whole")
    whole.write()
    whole.run()
    assert place.untimed() == whole.untimed()


def labels_of(place: Place, folder: str = "tiny", file: str = "runs.csv") -> list[str]:
    path = place.csvs / folder / file
    return list(dict.fromkeys(row["method"] for row in place.rows(folder, file))) if path.exists() else []


def test_rows_of_another_version_go_to_former_and_nobody_reads_them(done, monkeypatch, capsys):
    before = files(done)
    with monkeypatch.context() as edited:
        at_version_2(edited, "adam")
        capsys.readouterr()
        assert done.do("plan", "tiny") == 0
        said = "2 runs in its CSVs do not count: each is of method:adam 1 → 2 (2026-01-01): a fault was mended"
        assert said in capsys.readouterr().out
        done.run("tiny", "--methods", "sgd")
        assert "tiny: 2 runs are not of this grid any more and lie in former" in capsys.readouterr().out
        for file in CSVS:
            assert labels_of(done, file=file) == ["sgd", "mdlam"]
        assert labels_of(done, "tiny/former") == labels_of(done, "tiny/former", "curves.csv") == ["adam"]
        done.run()
        assert labels_of(done) == ["sgd", "adam", "mdlam"] and labels_of(done, "tiny/former") == ["adam"]
        assert {row["versions"].split(", ")[0] for row in done.rows()} == {
            "method:sgd 1", "method:adam 2", "method:mdlam 1",
        }  # fmt: skip
        assert len(done.stored()) == 8  # the old ones stay in the store, for whoever takes the step back
    shutil.rmtree(done.store)
    assert done.do("collect", "tiny") == 0
    assert files(done) == before  # the step taken back: the rows are back in their place
    assert labels_of(done, "tiny/former") == ["adam"]  # those of version 2


def test_rows_that_a_step_does_not_concern_stay_as_they_are(done, monkeypatch, capsys):
    before = files(done)
    at_version_2(monkeypatch, "adam", on="gpu")
    for shards in ("there", "gone"):
        capsys.readouterr()
        assert done.do("plan", "tiny") == 0
        assert f"6 runs, {6 if shards == 'there' else 0:5} already there" in capsys.readouterr().out
        assert done.do("collect", "tiny") == 0
        assert files(done) == before
        if done.store.exists():
            shutil.rmtree(done.store)
    assert main(["adopt", "--results", str(done.results)]) == 0
    assert ": 6 adopted" in capsys.readouterr().out
    assert done.do("plan", "tiny") == 0
    assert "6 runs,     6 already there" in capsys.readouterr().out


def test_rows_that_the_grid_no_longer_plans_lie_in_former_until_they_are_pruned(done, capsys):
    before = files(done)
    done.write(methods=METHODS[:2])
    done.run()
    assert labels_of(done) == ["sgd", "adam"] and labels_of(done, "tiny/former") == ["mdlam"]
    shutil.rmtree(done.store)
    done.write()
    assert done.do("collect", "tiny") == 0
    assert files(done) == before and not (done.csvs / "tiny" / "former").exists()
    done.write(methods=METHODS[:2])
    assert done.do("collect", "tiny") == 0
    capsys.readouterr()
    for said in (f"{done.csvs / 'tiny'}: 2 former rows removed\n", ""):
        assert main(["prune", "--results", str(done.results)]) == 0
        assert capsys.readouterr().out == said
        for file in CSVS:
            assert labels_of(done, file=file) == ["sgd", "adam"]
    assert main(["prune", "tinny", "--results", str(done.results)]) == 2
    assert "unknown grid 'tinny'; did you mean 'tiny'?" in capsys.readouterr().err


@pytest.mark.parametrize("moved", ["away", "back"])
def test_a_stop_while_rows_move_to_or_from_former_loses_none(done, moved, monkeypatch):
    done.write(methods=METHODS[:2])
    if moved == "back":
        assert done.do("collect", "tiny") == 0
        done.write()
    shutil.rmtree(done.store)
    written, whole = [], collecting._write

    def stopped(folder, name, rows):
        if len(written) == stop:
            raise KeyboardInterrupt
        written.append(name)
        return whole(folder, name, rows)

    monkeypatch.setattr(collecting, "_write", stopped)
    for stop in range(7):  # noqa: B007  read by `stopped`
        written.clear()
        assert done.do("collect", "tiny") == (130 if stop < 6 else 0)
        there = {row["method"] for folder in ("tiny", "tiny/former") if (done.csvs / folder / "runs.csv").exists()
                 for row in done.rows(folder)}  # fmt: skip
        assert there == {"sgd", "adam", "mdlam"}, stop


@pytest.mark.parametrize("shards", ["there", "gone"])
def test_fewer_seeds_than_are_there_lose_none(place, shards):
    place.run("tiny", "--seeds", "3")
    before = files(place)
    if shards == "gone":
        shutil.rmtree(place.store)
    for seeds in ("1", "2", "3"):
        assert place.do("collect", "tiny", "--seeds", seeds) == 0
        assert files(place) == before
    place.run("tiny", "--seeds", "1")
    assert [row["seed"] for row in place.rows()] == ["0", "1", "2"] * 3
    assert not (place.csvs / "tiny" / "former").exists()


def test_with_no_run_at_all_nothing_is_written_and_nothing_is_lost(done, monkeypatch, capsys):
    done.write("other", methods=[dict(name="rmsprop")])
    done.run("tiny", "other", "--methods", "adam")
    assert not (done.csvs / "other").exists()
    assert done.do("collect", "other") == 0
    assert "no finished runs" in capsys.readouterr().out
    at_version_2(monkeypatch, "sgd", "adam", "mdlam")
    before = {file: done.rows(file=file) for file in CSVS[:2]}
    assert done.do("collect", "tiny") == 0
    for file, rows in before.items():
        assert done.rows("tiny/former", file) == rows and not (done.csvs / "tiny" / file).exists()


@pytest.mark.parametrize("shards", ["there", "gone"])
def test_a_renamed_label_is_the_same_run_under_its_new_name(done, shards):
    keys = [row["run_key"] for row in done.rows()]
    if shards == "gone":
        shutil.rmtree(done.store)
    done.write(methods=[dict(name="sgd", label="Plain"), *METHODS[1:]])
    assert done.do("collect", "tiny") == 0
    assert [row["run_key"] for row in done.rows()] == keys
    for file in CSVS:
        labels = {row["label"] for row in done.rows(file=file) if row["method"] == "sgd"}
        assert labels == {"Plain"}


def test_a_run_under_two_labels_has_two_rows_and_two_curves_however_often_it_is_collected(place):
    rate = method("sgd").settings().learning_rate
    place.write(methods=[dict(name="sgd"), dict(name="sgd", label="Again", set=dict(learning_rate=rate))])
    place.run()
    before = files(place)
    assert len(place.stored()) == 2 and len(place.rows()) == 4
    assert len(place.rows(file="curves.csv")) == 4 * 3
    shutil.rmtree(place.store)
    for _ in range(2):
        assert place.do("collect", "tiny") == 0
        assert files(place) == before


def test_the_order_of_the_rows_is_the_grid_s_whatever_was_trained_first(place, tmp_path):
    grid = read_grid(place.grids / "tiny.toml", "smoke")
    runs = plan(grid, {"digits": identity_of("digits")})
    place.run()
    copied = Store(tmp_path / "other")
    for run in reversed(runs):
        copied.write([Store(place.results).get(run.run_key)])
    assert collect(grid, runs, copied, tmp_path / "other") is True
    assert collect(grid, runs, copied, tmp_path / "other") is False
    assert write_summary(tmp_path / "other" / "tiny") and not write_summary(tmp_path / "other" / "tiny")
    for file in CSVS:
        assert (tmp_path / "other" / "tiny" / file).read_bytes() == files(place)[file]


def test_data_that_are_not_official_are_marked(place):
    random = np.random.RandomState(0)
    arrays = dict(
        x_train=random.randint(0, 256, (200, 28, 28)).astype(np.uint8), y_train=np.arange(200) % 10,
        x_test=random.randint(0, 256, (50, 28, 28)).astype(np.uint8), y_test=np.arange(50) % 10,
    )  # fmt: skip
    data = place.root / "data"
    data.mkdir()
    np.savez(data / "mnist.npz", **arrays)
    place.write(datasets=["digits", "mnist"], methods=METHODS[:1])
    place.run("tiny", "--data", str(data), "--datasets", "mnist")
    assert {row["dataset"] for row in place.rows()} == {"mnist"}
    place.run("tiny", "--data", str(data))
    assert {(row["dataset"], row["data_official"]) for row in place.rows()} == {("digits", "True"), ("mnist", "False")}
    keys = {row["run_key"] for row in place.rows()}

    arrays["x_train"][0, 0, 0] ^= 1  # one pixel of other data: other runs
    np.savez(data / "mnist.npz", **arrays)
    place.run("tiny", "--data", str(data))
    assert len(keys & {row["run_key"] for row in place.rows()}) == 2
    assert {row["run_key"] for row in place.rows("tiny/former")} < keys
    assert len({run["run_key"] for run in place.stored()}) == 6
