"""Equal tuning: the same number of trials for every method, chosen on validation, the test set out of reach."""

import csv
import dataclasses
import json

import pytest

from am.data import Identity
from am.errors import InputError
from am.methods import method, methods
from reproduce.__main__ import main
from reproduce.plan.grid import read_grid
from reproduce.plan.plan import plan
from reproduce.plan.tuning import TUNING_SEED, best_trial, trial_settings

FINGERPRINTS = {"digits": Identity("0" * 64, True, 1437)}
GRID = """
title = "t"
paper = "suite"
question = "q"
rule = "tuned"
trials = 3
datasets = ["digits"]
hidden = [[8]]
batch_size = 64
epochs = 2
seeds = 2

[[methods]]
name = "sgd"

[[methods]]
name = "adam"
set = { beta1 = 0.8 }

[profile.smoke]
trials = 3
"""


def grid_at(tmp_path, text=GRID):
    path = tmp_path / "grids" / "tuned.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return read_grid(path, "smoke")


def stored(accuracy, status="done"):
    return dict(status=status, curve=[dict(val_accuracy=0.0), dict(val_accuracy=accuracy)])


@pytest.mark.parametrize("name", sorted(methods()))
def test_design_fills_the_space_and_leaves_the_rest(name):
    chosen = method(name)
    space = chosen.search_space()
    assert space, f"{name} has nothing to tune, so it cannot be tuned as carefully as the others"
    design = trial_settings(chosen.settings(), space, 24)
    assert len(design) == 24 and design == trial_settings(chosen.settings(), space, 24)
    for field in dataclasses.fields(chosen.hyperparameters):
        values = {getattr(settings, field.name) for settings in design}
        assert len(values) > 1 if field.name in space else values == {getattr(chosen.settings(), field.name)}
    for settings in design:
        chosen.settings(dataclasses.asdict(settings))  # every trial is a valid setting


def test_more_trials_extend_the_design():
    sgd = method("sgd")
    assert trial_settings(sgd.settings(), sgd.search_space(), 24)[:8] == trial_settings(
        sgd.settings(), sgd.search_space(), 8
    )


def test_every_method_gets_the_same_trials_and_no_trial_reads_the_test_set(tmp_path):
    runs = plan(grid_at(tmp_path), FINGERPRINTS)
    by_label = {label: [run for run in runs if run.label == label] for label in ("SGD", "Adam")}
    for trials in by_label.values():
        assert [run.trial for run in trials] == [0, 1, 2]
        assert all(not run.config.read_test and run.config.seed == TUNING_SEED for run in trials)
    assert {dict(run.config.settings)["beta1"] for run in by_label["Adam"]} == {0.8}


def test_final_runs_follow_the_best_validation_and_read_the_test_set(tmp_path):
    grid = grid_at(tmp_path)
    trials = [run for run in plan(grid, FINGERPRINTS) if run.label == "SGD"]
    scores = dict(zip([run.run_key for run in trials], [stored(0.5), stored(0.9), stored(0.7)]))
    final = [run for run in plan(grid, FINGERPRINTS, scores.get) if run.trial is None]
    assert [run.config.seed for run in final] == [0, 1] and all(run.config.read_test for run in final)
    assert {run.config.settings for run in final} == {trials[1].config.settings}
    assert {run.label for run in final} == {"SGD"}, "Adam's trials are not done, so nothing of it may run"


def test_choice_ignores_the_test_set_and_diverged_trials():
    keys = ["a", "b", "c"]
    found = dict(a=stored(0.6), b=stored(0.99, "diverged"), c=stored(0.6))
    found["c"]["curve"][-1]["test_accuracy"] = 1.0
    assert best_trial(keys, found.get) == 0, "the first of equals, whatever the test accuracy"
    assert best_trial(keys, dict(found, b=stored(0.7, "failed")).get) is None
    assert best_trial([*keys, "d"], found.get) is None
    assert best_trial(["b"], found.get) == 0


def test_rule_and_trials_must_agree(tmp_path):
    for text in (GRID.replace("trials = 3\n", ""), GRID.replace('rule = "tuned"\n', "")):
        with pytest.raises(InputError, match="'trials' is"):
            grid_at(tmp_path, text)


def test_a_tuned_grid_runs_in_one_command_and_writes_its_trials(tmp_path, capsys):
    grid_at(tmp_path)
    places = ["--results", str(tmp_path / "r"), "--figures", str(tmp_path / "f"), "--grids", str(tmp_path / "grids")]
    assert main(["run", "tuned", "--profile", "smoke", "--jobs", "1", *places]) == 0
    with open(tmp_path / "r" / "smoke" / "tuned" / "tuning.csv", encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    with open(tmp_path / "r" / "smoke" / "tuned" / "runs.csv", encoding="utf-8", newline="") as file:
        runs = list(csv.DictReader(file))
    assert len(trials) == 6 and len(runs) == 4
    assert not any(name.startswith("test_") for name in trials[0])
    for label in ("SGD", "Adam"):
        mine = [row for row in trials if row["label"] == label]
        (best,) = [row for row in mine if row["chosen"] == "True"]
        assert float(best["val_accuracy"]) == max(float(row["val_accuracy"]) for row in mine)
        assert {row["hyperparameters"] for row in runs if row["label"] == label} == {best["hyperparameters"]}
    assert all(json.loads(row["hyperparameters"]) for row in runs)
    capsys.readouterr()
    assert main(["run", "tuned", "--profile", "smoke", "--jobs", "1", *places]) == 0
    assert "Nothing to train: all 10 runs" in capsys.readouterr().out
