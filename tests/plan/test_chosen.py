"""`chosen`: of each label of a tuned grid the one trial that is best over all data sets, as a block for a grid."""

import json
import re
import shutil
import tomllib

import numpy as np
import pytest
from helpers import METHODS, TUNED, Place, one_sentence, place_fixture  # noqa: F401
from sealed import of_now_fixture  # noqa: F401

from am.methods import method
from reproduce.__main__ import main
from reproduce.evidence.files import read_text
from reproduce.evidence.manifest import write_evidence
from reproduce.evidence.seal import sealed
from reproduce.plan.grid import read_grid
from reproduce.plan.tuning import trial_settings

pytestmark = pytest.mark.usefixtures("of_now")
SETS = ["digits", "mnist"]
BLOCKS = [dict(name="sgd"), dict(name="adam", init="normal(0.1)", set=dict(beta1=0.8)), dict(name="tiam")]


@pytest.fixture
def tuned(place: Place) -> Place:
    """A tuned grid on two data sets, of which nothing but tuning.csv is left."""
    random = np.random.RandomState(0)
    arrays = dict(
        x_train=random.randint(0, 256, (200, 28, 28)).astype(np.uint8), y_train=np.arange(200) % 10,
        x_test=random.randint(0, 256, (50, 28, 28)).astype(np.uint8), y_test=np.arange(50) % 10,
    )  # fmt: skip
    (place.root / "data").mkdir()
    np.savez(place.root / "data" / "mnist.npz", **arrays)
    place.write(**TUNED | dict(datasets=SETS, methods=BLOCKS, seeds=1))
    place.ran("tiny", "--data", "data")
    for folder in (place.root / "data", place.store, place.figures):
        shutil.rmtree(folder)
    (place.csvs / "tiny" / "runs.csv").unlink()
    return place


def choose(place: Place, *words: str) -> int:
    where = ["--results", str(place.results), "--grids", str(place.grids)]
    return main(["chosen", *(words or ("tiny", "--profile", "smoke")), *where])


def edit(place: Place, change) -> None:
    """The rows of tuning.csv after `change`, which returns those to keep, sealed as if they had been collected so."""
    path = place.csvs / "tiny" / "tuning.csv"
    write_evidence(path, [sealed(row, []) for row in change(read_text(path)).to_dict("records")])


def test_one_trial_of_each_label_is_best_over_all_data_sets_and_can_be_pasted(tuned, capsys):
    def scored(frame):
        for label, scores in dict(SGD=[(0.9, 0.1), (0.6, 0.7), (0.2, 0.9)], Adam=[(0.5, 0.5)] * 3).items():
            for trial, pair in enumerate(scores):
                for dataset, score in zip(SETS, pair):
                    row = (frame.label == label) & (frame.trial == str(trial)) & (frame.dataset == dataset)
                    frame.loc[row, "val_accuracy"] = str(score)
        return frame

    edit(tuned, scored)
    assert choose(tuned) == 0
    text = capsys.readouterr().out
    assert "# SGD: trial 1 of 3, mean validation accuracy 0.6500" in text, "neither the best on one set nor the other"
    assert "# Adam: trial 0 of 3, mean validation accuracy 0.5000" in text, "the first of equals"
    rows = {(row["dataset"], row["label"], row["trial"]): row for row in tuned.rows(file="tuning.csv")}
    for dataset, score in zip(SETS, ("0.6", "0.7")):
        assert f"#   {dataset}: {score}, run {rows[dataset, 'SGD', '1']['run_key']}" in text
    sgd, adam, tiam = tomllib.loads(text)["methods"]
    assert sgd == dict(name="sgd", label="SGD", set=dict(learning_rate=sgd["set"]["learning_rate"]))
    assert sgd["set"]["learning_rate"] == json.loads(rows["mnist", "SGD", "1"]["hyperparameters"])["learning_rate"]
    assert adam["init"] == "normal(0.1)" and adam["set"]["beta1"] == 0.8 and len(adam["set"]) > 1
    number = int(re.search(r"# TIAM: trial (\d)", text)[1])
    chosen = method("tiam")
    design = trial_settings(chosen.settings(), chosen.search_space(), 3)[number]
    assert tiam["set"] == {name: getattr(design, name) for name in chosen.search_space()}, "not scaled to the rows"
    (tuned.grids / "pasted.toml").write_text(
        tuned.write("pasted", methods=[]).read_text(encoding="utf-8") + text, encoding="utf-8"
    )
    pasted = read_grid(tuned.grids / "pasted.toml", "smoke")
    assert [entry.settings for entry in pasted.entries][2] == design


def test_a_diverged_trial_counts_nothing(tuned, capsys):
    def diverged(frame):
        frame.loc[frame.label == "SGD", "val_accuracy"] = "0.4"
        first = (frame.label == "SGD") & (frame.trial == "0")
        frame.loc[first, "val_accuracy"] = "0.7"
        frame.loc[first & (frame.dataset == "mnist"), ["status", "val_accuracy"]] = ["diverged", "0.99"]
        return frame

    edit(tuned, diverged)
    assert choose(tuned) == 0
    assert "# SGD: trial 1 of 3, mean validation accuracy 0.4000" in capsys.readouterr().out


def with_value(name, value):
    def change(frame):
        frame.loc[frame.index[0], name] = value
        return frame

    return change


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda frame: frame.iloc[1:], "trial 0 of 'SGD' is not finished on digits"),
        (lambda frame: frame.iloc[:-1], "trial 2 of 'TIAM' is not finished on mnist"),
        (with_value("status", "failed"), "trial 0 of 'SGD' is not finished on digits"),
        (lambda frame: frame[frame.dataset == "digits"], "trial 0 of 'SGD' is not finished on mnist"),
        (with_value("hyperparameters", '{"learning_rate": 3.0}'), "trial 0 of 'SGD' on digits has other settings"),
        (with_value("hyperparameters", "{"), "trial 0 of 'SGD' on digits has other settings"),
        (with_value("val_accuracy", "nan"), "tuning.csv is malformed ('val_accuracy' nan)"),
    ],
)
def test_what_was_not_tried_is_refused_in_a_sentence(tuned, change, expected, capsys):
    edit(tuned, change)
    capsys.readouterr()
    assert choose(tuned) == 2
    assert expected in one_sentence(capsys)


@pytest.mark.parametrize(
    "words, expected",
    [
        (["tinny"], "unknown grid 'tinny'; did you mean 'tiny'?"),
        (["tiny", "--profile", "smok"], "unknown profile 'smok'; did you mean 'smoke'?"),
        (["tiny", "--profile", "light"], "the grid tiny has no tuning.csv in"),
        (["tiny"], "the grid tiny has no tuning.csv in"),
    ],
)
def test_without_trials_a_sentence_says_what_is_wrong(place, words, expected, capsys):
    place.run("tiny", "--methods", "sgd")
    capsys.readouterr()
    assert choose(place, *words) == 2
    assert expected in one_sentence(capsys)


def test_a_grid_of_rule_paper_has_no_trials(tuned, capsys):
    tuned.write(methods=METHODS[:1])
    assert choose(tuned) == 2
    assert "grids/tiny.toml: 'rule' is 'paper', so there are no trials to choose from." in one_sentence(capsys)
