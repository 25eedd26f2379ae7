"""Fingerprints: every component gives what is kept beside its version, on any machine, and a change is told by name."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date

import pytest
import torch
from driving import refusal
from helpers import ROOT, one_sentence

from am import devices
from am.activations import ACTIVATIONS
from am.errors import InputError
from am.method import setting
from am.methods import methods
from reproduce.__main__ import main
from reproduce.evidence import fingerprint, ledger, versions
from reproduce.evidence.cases import methods as steps
from reproduce.evidence.config import RunConfig, components
from reproduce.evidence.fingerprint import Kept, computed, difference, problems, step_version, write_missing
from reproduce.evidence.ledger import Entry
from reproduce.evidence.versions import Step
from reproduce.run.cases import everything

HERE = everything()
APART = [component for component in HERE.cases if not component.startswith("lane:")]


@pytest.mark.parametrize("component", HERE.cases)
def test_a_component_gives_what_its_version_says(component):
    assert problems(component, HERE) == []


@pytest.mark.parametrize("name", [name for name, chosen in methods().items() if chosen.full_batch])
def test_the_branches_of_a_gpu_give_the_same(name, monkeypatch):
    monkeypatch.setattr(devices, "on_gpu", lambda t: True)
    assert problems(f"method:{name}", HERE) == []


EVERY = """
import sys, torch
from reproduce.evidence.fingerprint import problems
from reproduce.run.cases import everything
HERE = everything()
torch.set_num_threads(int(sys.argv[1]))
for component in HERE.cases:
    if not component.startswith("lane:"):
        print(*problems(component, HERE), sep="\\n", end="")
"""


@pytest.mark.parametrize("instructions, threads", [("default", 1), (None, 2)])
def test_every_machine_gives_the_same(instructions, threads):
    # Threads that wait sleep: beside other processes they would take each other's time.
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="PASSIVE")
    env |= {"ATEN_CPU_CAPABILITY": instructions} if instructions else {}
    done = subprocess.run([sys.executable, "-c", EVERY, str(threads)], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_rounding_stays_rounding(monkeypatch):
    """Data that are other in their last digits move nothing: no case hangs on a tie, or on a number at zero."""
    exact = steps.data
    monkeypatch.setattr(steps, "data", lambda width: (exact(width)[0] * (1 + 1e-15), exact(width)[1]))
    for case in steps.cases():
        assert (
            difference(case, HERE.values(case.of)[HERE.version(case.of)][HERE.title(case)], computed(case.values))
            is None
        )


def test_whatever_a_run_is_made_of_has_cases():
    shared = dict(dataset="digits", data_fingerprint="", n_train=0, hidden=(6,), seed=0, epochs=1, batch_size=8)
    for lane, network in (("accuracy", "mlp"), ("time", "mlp"), ("accuracy", "lenet5")):
        config = RunConfig(
            **shared, inputs="unit", activation="relu", init="normal(0.1)", method="adam", settings=(),
            evaluate_every=1, lane=lane, network=network,
        )  # fmt: skip
        made_of = {component.partition("(")[0] for component in components(config)}
        assert {component for component in made_of if not component.startswith("optimizer:")} <= set(HERE.cases)


def test_tables_of_the_cases_name_settings_that_are_there():
    assert steps.unknown_settings() == set()


# What a fault looks like


def patched(monkeypatch, target: str, change) -> None:
    """Replace a function by change(function)."""
    module, _, name = target.rpartition(".")
    monkeypatch.setattr(target, change(getattr(sys.modules[module], name)))


def with_default(chosen, **defaults):
    """The method with other defaults of its settings, or with further ones."""
    known = {f.name: f for f in dataclasses.fields(chosen.hyperparameters)}
    fields = [
        (name, type(value), setting(value, "") if name not in known else _as(known[name], value))
        for name, value in defaults.items()
    ]
    changed = dataclasses.make_dataclass("Changed", fields, bases=(chosen.hyperparameters,), frozen=True)
    return dataclasses.replace(chosen, hyperparameters=changed)


def _as(f: dataclasses.Field, default):
    return dataclasses.field(default=default, metadata=f.metadata)


def the_sentence(component: str, kept: Kept = HERE) -> str:
    (sentence,) = problems(component, kept)
    assert sentence.startswith(f"{component} moved: ")
    return sentence


def test_a_changed_default_is_told(monkeypatch):
    monkeypatch.setitem(methods(), "tiam", with_default(methods()["tiam"], p3=0.6))
    table, values = problems("method:tiam", HERE)
    assert table.startswith("method:tiam moved: the default of 'p3' is 0.6 and was 0.5, and its version did not. ")
    assert values.startswith("method:tiam moved: ")
    monkeypatch.setitem(methods(), "samt", with_default(methods()["samt"], alpha0=0.2))
    assert problems("method:samt", HERE)[0].startswith(
        "method:samt moved: the default of 'alpha0' is 0.2 and was 0.1, "
    )


def test_a_changed_step_is_told_with_the_place(monkeypatch):
    patched(
        monkeypatch, "am.methods.tiam.sweep", lambda sweep: lambda *rest, p1, **p: sweep(*rest, p1=p1 * (1 + 1e-6), **p)
    )
    sentence = the_sentence("method:tiam")
    words = r"method:tiam moved: b1 by \de-06 at step 5 \(case defaults\) and 8 more, and its version did not. "
    assert re.match(words + r"A fault\? Mend it. Meant\? `", sentence)
    assert sentence.endswith('`make version OF=method:tiam WHY="..."`')
    assert problems("method:mdlam", HERE) == []


def test_a_changed_formula_is_told_of_all_that_go_through_it(monkeypatch):
    patched(
        monkeypatch, "am.penalised.bias_step", lambda step: lambda state, *rest: (step(state, *rest), _shift(state))[0]
    )
    for name in ("tiam", "mdlam", "mdlam-released", "ipdlam"):
        assert the_sentence(f"method:{name}")
    assert problems("method:dladmm", HERE) == []


def _shift(state) -> None:
    state.params.b[0].mul_(1 + 1e-7)


def test_a_changed_activation_is_told(monkeypatch):
    elu = ACTIVATIONS["elu"]
    monkeypatch.setitem(
        ACTIVATIONS, "elu", dataclasses.replace(elu, derivative=lambda z, a: elu.derivative(z, a) * 1.001)
    )
    assert the_sentence("activation:elu").startswith("activation:elu moved: derivative by 1e-03 (case points), ")
    assert problems("activation:celu", HERE) == []


def test_a_lane_that_trains_every_activation_as_relu_is_told(monkeypatch):
    import reproduce.run.lanes  # noqa: F401

    patched(
        monkeypatch,
        "reproduce.run.lanes.train",
        lambda train: lambda *rest, activation_name, **how: train(*rest, activation_name="relu", **how),
    )
    (case,) = HERE.cases["lane:stacked"]
    there = HERE.values("lane:stacked")[HERE.version("lane:stacked")][HERE.title(case)]
    assert "elu" in difference(case, there, computed(case.values))


def test_what_differs_is_said_in_words():
    (case,) = HERE.cases["batches"]
    said = lambda was, now: difference(case, was, now)
    assert said(dict(a=1.0, b=[1, 2]), dict(a=1.0 + 1e-11, b=[1, 2])) is None
    assert said(dict(a=0.0), dict(a=1e-14)) is None
    assert said({"a@5": 1.0, "b@1": 2.0}, {"a@5": 1.5, "b@1": 2.5}) == "b by 2e-01 at step 1"
    assert said({"W1@5 alone": 1.0}, {"W1@5 alone": 2.0}) == "W1 by 5e-01 at step 5 of a run alone"
    assert said(dict(n=5), dict(n=6)) == "n is 6 and was 5"
    assert said(dict(s="done at 5"), dict(s="done at 6")) == "s is 6 and was 5"
    assert said(dict(n=[1, 2]), dict(n=[1])) == "n has 1 values and had 2"
    assert said(dict(a="inf"), dict(a=3.0)) == "a is 3.0 and was inf"
    assert said(dict(a=1.0), dict(b=1.0)) == "a is gone"


# Versions and ledgers, on copies of the files


@pytest.fixture(name="kept")
def kept_fixture(tmp_path) -> Kept:
    """Copies of the files, and cases without the lanes, which would be run."""
    some = {component: HERE.cases[component] for component in APART}
    shutil.copytree(HERE.folder, tmp_path / "fingerprints")
    shutil.copy(HERE.versions, tmp_path)
    return Kept(some, tmp_path / "fingerprints", tmp_path / "versions.toml")


def drifted(monkeypatch) -> None:
    patched(monkeypatch, "am.methods.tiam.sweep", lambda sweep: lambda *rest, p3, **p: sweep(*rest, p3=p3 * 0.9, **p))


def test_a_step_of_a_version_takes_the_values_as_they_are_now(kept, monkeypatch):
    lines = kept.file("method:tiam").read_text(encoding="utf-8")
    with monkeypatch.context() as changed:
        drifted(changed)
        the_sentence("method:tiam", kept)
        told = step_version(["tiam"], 'p3 is "less"', dict(step_rule=["backtracking", "inverse"]), kept)
        assert told[0] == f'method:tiam 1 → 2 ({date.today()}): p3 is "less"'
        assert told[1:3] == [
            "method:tiam 2: 9 cases",
            "method:tiam 2: defaults of " + ", ".join(fingerprint.declared("tiam")),
        ]
        for component in ("method:tiam", "evaluation", "loop"):  # the last two go through it
            assert problems(component, kept) == []
        (step,) = versions.steps(kept.versions)["method:tiam"]
        assert step.moves == dict(step_rule=["backtracking", "inverse"])
        assert kept.file("method:tiam").read_text(encoding="utf-8").startswith(lines)
        assert write_missing(kept) == []
    the_sentence("method:tiam", kept)  # without the change


def test_nothing_is_stepped_where_nothing_moved(kept):
    before = kept.versions.read_text(encoding="utf-8")
    step = lambda of, why="why", **moves: refusal(lambda: step_version(of, why, moves, kept))
    assert step(["sgd"]).startswith("nothing of method:sgd moved, so its version stays 1; ")
    assert step(["tiamm"]) == "unknown component 'tiamm'; did you mean 'tiam'?"
    assert step(["optimizer:torch"]) == "the version of optimizer:torch is its package's."
    assert step(["sgd"], why=" ").startswith("a step of a version needs a component and a reason: ")
    assert step([]).startswith("a step of a version needs a component and a reason: ")
    assert step(["sgd"], stack_run=1) == "MOVES of method:sgd: unknown fact 'stack_run'; did you mean 'stack_runs'?"
    assert kept.versions.read_text(encoding="utf-8") == before


def test_what_fails_is_told_and_no_version_steps(kept, monkeypatch):
    patched(monkeypatch, "am.methods.tiam.sweep", lambda sweep: lambda state, *rest, **p: state.nothing)
    sentence = the_sentence("method:tiam", kept)
    assert sentence.startswith("method:tiam moved: it fails with AttributeError, 'SweepState' object has no ")
    with pytest.raises(InputError, match="it fails with AttributeError"):
        step_version(["tiam"], "why", {}, kept)
    assert "method:tiam" not in versions.steps(kept.versions)


def test_a_version_that_moved_alone_is_told(kept):
    versions.add("method:sgd", "by hand", {}, kept.versions)
    assert problems("method:sgd", kept)[0] == (
        "method:sgd 2 has no default of 'schedule' on record; `make fingerprints` writes it."
    )
    assert any(
        "has no fingerprint of case 'defaults'; `make fingerprints`" in said for said in problems("method:sgd", kept)
    )
    write_missing(kept, ["method:sgd"])
    assert problems("method:sgd", kept) == [
        "method:sgd went to version 2, and none of its values moved; take the step back."
    ]


def test_what_only_a_gpu_shows_moves_a_version_alone(kept):
    told = step_version(["pdadmm"], "the GPU's sums", dict(on="gpu", stack_runs=1), kept)
    assert told[0].endswith(": the GPU's sums")
    assert problems("method:pdadmm", kept) == []


def test_a_new_setting_is_appended_at_the_same_version(kept, monkeypatch):
    monkeypatch.setitem(methods(), "sgd", with_default(methods()["sgd"], further=1.5))
    assert problems("method:sgd", kept) == [
        "method:sgd 1 has no default of 'further' on record; `make fingerprints` writes it."
    ]
    assert write_missing(kept, ["method:sgd"]) == ["method:sgd 1: defaults of further"]
    assert problems("method:sgd", kept) == []
    monkeypatch.undo()
    assert "has no setting 'further' any more" in problems("method:sgd", kept)[0]


def test_what_has_no_fingerprint_is_told_and_written(kept):
    kept.file("batches").unlink()
    assert problems("batches", kept) == [
        "batches 1 has no fingerprint of case 'two epochs'; `make fingerprints` writes it."
    ]
    assert write_missing(kept, ["batches"]) == ["batches 1: 1 case"]
    assert problems("batches", kept) == []


def test_a_case_that_is_no_more_is_told(kept):
    ledger.append(kept.file("batches"), [Entry("batches", 1, "other", dict(n=1))])
    assert the_sentence("batches", kept).startswith("batches moved: nothing computes case other any more, ")
    ledger.append(kept.file("batches"), [Entry("batches", 1, "two epochs", dict(n=1))])
    assert "has two fingerprints of case 'two epochs'" in problems("batches", kept)[0]


def test_an_edited_file_is_told(kept):
    path = kept.file("batches")
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines) if json.loads(line)["of"] == "batches")
    for changed in (
        [*lines[:number], lines[number].replace('"per_epoch":4', '"per_epoch":5'), *lines[number + 1 :]],
        lines[::-1],
        lines[1:],
    ):
        path.write_text("\n".join(changed) + "\n", encoding="utf-8")
        (sentence,) = problems("batches", kept)
        assert "was edited or moved: fingerprints are appended to, never changed" in sentence
    path.write_text("no fingerprint\n", encoding="utf-8")
    assert "line 1, is no fingerprint" in problems("batches", kept)[0]


def test_a_ledger_grows_and_keeps_what_it_has(tmp_path):
    path, first, second = (
        tmp_path / "some.jsonl",
        Entry("loop", 1, "a", dict(x=[1.5, "inf"])),
        Entry("loop", 2, "é", {}),
    )
    assert ledger.read(path) == []
    ledger.append(path, [first])
    text = path.read_text(encoding="utf-8")
    ledger.append(path, [second])
    assert path.read_text(encoding="utf-8").startswith(text)
    assert ledger.read(path) == [first, second]


def test_steps_follow_each_other(tmp_path):
    path = tmp_path / "versions.toml"
    path.write_text("", encoding="utf-8")
    assert str(versions.add("loop", "first", {}, path)) == f"loop 1 → 2 ({date.today()}): first"
    versions.add("loop", 'a "second"\\', dict(on="gpu", stack_runs=[1, 2]), path)
    first, second = versions.steps(path)["loop"]
    assert (first.to, second.to, second.why, second.moves) == (
        3 - 1,
        3,
        'a "second"\\',
        dict(on="gpu", stack_runs=[1, 2]),
    )
    for text, said in (
        ("to = 3", "does not follow"),
        ('to = 2\nwhen = "now"', "has of, to, date, why and moves alone"),
    ):
        other = tmp_path / f"{len(said)}.toml"
        other.write_text(f'[[step]]\nof = "loop"\ndate = 2026-01-31\nwhy = "so"\n{text}\n', encoding="utf-8")
        with pytest.raises(InputError, match=said):
            versions.steps(other)


@pytest.mark.parametrize(
    "moves, facts, concerned",
    [
        ({}, dict(on="cpu"), True),
        (dict(on="gpu"), dict(on="cpu"), False),
        (dict(on="gpu"), dict(on="gpu"), True),
        (dict(on="gpu"), {}, True),  # nobody knows
        (dict(on="gpu", stack_runs=1), dict(on="gpu", stack_runs=2), False),
        (dict(stack_runs=[1, 2]), dict(stack_runs=2), True),
        (dict(device="*H200*"), dict(device="NVIDIA H200"), True),
        (dict(output_step="fista"), dict(output_step="exact"), False),
    ],
)
def test_a_step_concerns_the_rows_that_it_moves(moves, facts, concerned):
    assert Step("method:dladmm", 2, date.today(), "why", moves).concerns(facts) is concerned


# Commands


def test_the_command_refuses_in_a_sentence(capsys):
    for words, said in (
        (("--of", "tiamm", "--why", "x"), "unknown component 'tiamm'; did you mean 'tiam'?"),
        (("--of", "batches", "--why", ""), "a step of a version needs a component and a reason"),
        (("--of", "batches", "--why", "x", "--moves", "on gpu"), "MOVES must be facts of rows"),
        (("--of", "batches", "--why", "x", "--moves", "} \n x = {"), "what cannot be printed"),
        (("--of", "batches", "--why", "x"), "nothing of batches moved"),
    ):
        assert main(["version", *words]) == 2
        assert said in one_sentence(capsys)


def test_the_command_writes_nothing_where_all_is_there(capsys, monkeypatch):
    monkeypatch.setattr(ledger, "append", None)
    assert main(["fingerprints"]) == 0
    assert capsys.readouterr().out == "Every component has its fingerprints.\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_lines_are_of_numbers_that_every_reader_takes():
    """No NaN or infinity, which JSON has not: they are text."""
    for path in HERE.folder.glob("*.jsonl"):
        assert "NaN" not in path.read_text(encoding="utf-8") and "Infinity" not in path.read_text(encoding="utf-8")
    assert torch.get_default_dtype() is torch.float32
