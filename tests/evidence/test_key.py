"""Run keys: what changes them and what does not."""

import dataclasses
import importlib.metadata

import pytest
import torch
from helpers import METHODS, PRINTS, ROOT, at_version_2, read_fixture  # noqa: F401

from am.data import Size
from am.methods import method
from reproduce.evidence import config as config_module
from reproduce.evidence import key, ledger, versions
from reproduce.evidence.config import RunConfig, components
from reproduce.evidence.files import read_text
from reproduce.evidence.key import counted_key, run_key
from reproduce.evidence.rows import mismatch
from reproduce.plan.plan import plan, stacks


def config(**changes) -> RunConfig:
    settings = tuple(dataclasses.asdict(method("samt").settings()).items())
    return dataclasses.replace(
        RunConfig(
            dataset="digits", data_fingerprint="f" * 64, n_train=100, inputs="unit", network="mlp", activation="relu",
            hidden=(6, 6), init="he", method="samt", constants="scaled", settings=settings, seed=0, epochs=2,
            batch_size=25, evaluate_every=1,
        ),
        **changes,
    )  # fmt: skip


OTHER = dict(
    dataset="mnist", data_fingerprint="e" * 64, n_train=0, inputs="standardised", network="cnn",
    activation="elu", hidden=(6,),
    init="xavier", method="sam", constants="published",
    settings=tuple(dataclasses.asdict(method("samt").settings(dict(beta=0.02))).items()),
    seed=1, epochs=3, batch_size=50, evaluate_every=0.5, read_test=False,
    gradient_norm=True, lane="time",
)  # fmt: skip


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(RunConfig)])
def test_every_part_of_a_configuration_changes_the_key(field):
    assert config() == config() and run_key(config()) == run_key(config())
    assert run_key(config(**{field: OTHER[field]})) != run_key(config())


def test_a_key_depends_on_no_neighbour_in_the_grid(read):
    def keys(**changes):
        return {(r.config.method, r.config.seed): r.run_key for r in plan(read(**changes), PRINTS)}

    whole = keys()
    assert keys(methods=METHODS[:1]).items() <= whole.items()
    assert keys(methods=METHODS[::-1], seeds=1).items() <= whole.items()
    assert keys(title="Another", question="Another?", paper="TIAM") == whole
    assert keys(methods=[dict(name="sgd", label="Another")]).items() <= whole.items()
    wider = plan(read(datasets=["digits"], hidden=[[6], [7]], activations=["elu", "relu"]), PRINTS)
    assert set(whole.values()) <= {run.run_key for run in wider}


def test_in_the_time_lane_runs_train_alone_and_trials_do_not(read):
    trials = dict(rule="tuned", trials=3, methods=[dict(name="sgd")])
    lookup = lambda key: dict(status="done", curve=[dict(val_accuracy=0.5)])
    fast = plan(read(**trials), PRINTS, lookup)
    timed = plan(read(lane="time", gradient_norm=True, **trials), PRINTS, lookup)
    assert [run.run_key for run in timed[:3]] == [run.run_key for run in fast[:3]], "trials are shared"
    assert {(run.config.lane, run.config.gradient_norm) for run in timed[3:]} == {("time", True)}
    made = stacks(timed, {"digits": Size(64, 1000)}, torch.device("cpu"))
    assert [len(stack) for stack in made] == [3, 1, 1]
    assert timed[3].config.budget.alone and not timed[0].config.budget.alone


def test_a_default_written_out_is_the_same_run(read):
    default = method("sgd").settings().learning_rate
    written = read(methods=[dict(name="sgd", set=dict(learning_rate=default))], activations=["relu"], inputs="unit")
    assert plan(written, PRINTS)[0].run_key == plan(read(), PRINTS)[0].run_key


def test_a_setting_at_its_default_is_not_in_the_key_so_that_a_new_one_moves_none(monkeypatch):
    before = run_key(config())
    known = ledger.defaults()
    grown = {("samt", 1): known["samt", 1] | dict(novel=0.5)}
    monkeypatch.setattr(ledger, "defaults", lambda: known | grown)
    wider = config().settings + (("novel", 0.5),)
    assert run_key(config(settings=wider)) == before
    assert run_key(config(settings=config().settings + (("novel", 0.6),))) != before


def test_a_changed_default_moves_no_key_of_the_version_before(monkeypatch):
    """A key goes by the defaults of its version, not by those that the code declares now."""
    before, other = run_key(config()), dict.fromkeys(key.declared("samt"), 7)
    monkeypatch.setattr(key, "declared", lambda method: other)
    assert run_key(config()) == before


def test_the_first_version_of_whatever_is_not_in_the_key():
    """So that a component that is told apart later moves no key."""
    now = dict.fromkeys(components(config()), 1)
    assert run_key(config(), now) == run_key(config(), now | {"novel": 1}) == run_key(config())
    assert run_key(config(), now | {"loop": 2}) != run_key(config())


def test_a_step_moves_the_keys_of_the_runs_that_go_through_it_and_no_others(monkeypatch):
    sgd = config(method="sgd", settings=())
    before = run_key(config()), run_key(sgd)
    at_version_2(monkeypatch, "samt")
    assert run_key(config()) != before[0] and run_key(sgd) == before[1]


def test_components_are_what_a_run_goes_through():
    assert components(config(init="normal(0.1)")) == [
        "method:samt", "activation:relu", "init:normal", "loop", "batches", "evaluation", "inputs:unit", "lane:stacked",
    ]  # fmt: skip
    full = components(config(method="tiam", lane="time", inputs="standardised"))
    assert "batches" not in full and {"lane:timed", "inputs:standardised"} <= {*full}
    module = components(config(method="schedule-free-adamw", network="cnn"))
    assert {"network:cnn", "optimizer:schedulefree", "lane:module"} <= {*module} and "loop" not in module


def test_a_package_counts_by_its_version_without_its_build(monkeypatch):
    runs = [config(network="cnn", method=name, settings=()) for name in ("adam", "schedule-free-adamw")]
    keys = lambda: [run_key(run) for run in runs]
    installed = dict(torch="9.0", schedulefree="1.0")
    monkeypatch.setattr(importlib.metadata, "version", lambda package: installed[package])
    installed_now = config_module.installed
    monkeypatch.setattr(config_module, "installed", installed_now.__wrapped__)
    monkeypatch.setattr(versions, "installed", installed_now.__wrapped__)
    before = keys()
    installed["torch"] = "9.0+cu128"
    assert keys() == before
    installed["schedulefree"] = "1.1"
    assert keys()[0] == before[0] and keys()[1] != before[1]


def test_a_run_that_no_step_concerns_is_found_under_its_old_key(monkeypatch):
    old = run_key(config())
    there = {old: dict(status="done", device="cpu", stack_runs=4)}.get
    for moves, found in (({}, False), (dict(on="gpu"), True), (dict(on="cpu"), False), (dict(stack_runs=[1, 2]), True),
                         (dict(on="cpu", stack_runs=4), False), (dict(device="NVIDIA*"), True)):  # fmt: skip
        at_version_2(monkeypatch, "samt", **moves)
        assert (counted_key(config(), there) == old) == found, moves
        assert counted_key(config(), lambda key: None) == run_key(config()) != old
    at_version_2(monkeypatch, "samt", beta=0.5)
    assert counted_key(config(), there) == old
    at_version_2(monkeypatch, "samt", beta=dict(config().settings)["beta"])
    assert counted_key(config(), there) != old


def test_every_committed_key_is_that_of_its_row():
    """And old keys and new ones are one to one."""
    pairs = read_text(ROOT / "results" / "keys_1_to_2.csv", ["key_1", "key_2"])
    assert pairs["key_1"].is_unique and pairs["key_2"].is_unique
    rows = [
        (row, path.name == "tuning.csv")
        for name in ("runs.csv", "tuning.csv")
        for path in sorted((ROOT / "results").rglob(name))
        for row in read_text(path).to_dict("records")
    ]
    assert len(rows) >= 9_558 and len({row["run_key"] for row, _ in rows} & {*pairs["key_2"]}) > 8_000
    assert [row["run_key"] for row, trial in rows if mismatch(row, trial)] == []
