"""What every method of am/methods says of itself: settings, search space, source and cost; and how it is found."""

import ast
import dataclasses
import inspect
import re
import sys
from typing import Any

import pytest
import torch
from conftest import BATCH, ROWS, WIDTHS, tiny_data

import am.methods
from am import start
from am.activations import activation
from am.errors import InputError
from am.method import Method, Problem
from am.methods import method, methods
from am.networks import initialise

METHODS = list(methods().values())
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def source_of(method: Method) -> str:
    """The module that defines the method: the one of its hyper-parameters."""
    return method.hyperparameters.__module__


@every_method
def test_settings_are_valid_and_documented(method):
    kind = method.hyperparameters
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    defaults = dataclasses.asdict(kind())
    assert method.settings(defaults) == kind()
    for f in dataclasses.fields(kind):
        assert f.metadata["doc"].strip(), f.name
        assert type(f.default).__name__ == getattr(f.type, "__name__", f.type), f.name
        if f.metadata["choices"]:
            assert f.default in f.metadata["choices"], f.name


@every_method
def test_the_search_space_is_valid(method):
    space = method.search_space()
    assert space, "a method with nothing to tune cannot be compared fairly"
    for name, search in space.items():
        for u in (0.0, 0.25, 0.5, 0.999999, 1.0):
            value = search.at(u)
            assert getattr(method.settings({name: value}), name) == value
        assert search.at(0.0) != search.at(0.999999), name
        default = getattr(method.settings(), name)
        if hasattr(search, "low"):
            assert search.low <= default <= search.high, name
        else:
            assert default in search.values, name


@every_method
def test_bad_settings_are_refused_in_one_sentence_that_names_the_nearest(method):
    names = [f.name for f in dataclasses.fields(method.hyperparameters)]
    with pytest.raises(InputError, match=f"^{method.name}: unknown hyper-parameter '{names[0]}s'; .*'{names[0]}'"):
        method.settings({names[0] + "s": 1.0})
    for f in dataclasses.fields(method.hyperparameters):
        bad: list[Any] = [None, [1.0], "nonsense" if f.metadata["choices"] else object()]
        if isinstance(f.default, float):
            bad += ["0.1", True, float("nan")]
        if isinstance(f.default, int) and not isinstance(f.default, bool):
            bad += [1.5, True]
        if isinstance(f.default, int | float) and not isinstance(f.default, bool):
            bad += [v for v in (f.metadata["low"] - 1, f.metadata["high"] + 1) if abs(v) < float("inf")]
        for value in bad:
            with pytest.raises(InputError, match=f"^{method.name}: {f.name}"):
                method.settings({f.name: value})


@every_method
def test_an_unknown_name_is_refused_with_the_nearest(method):
    with pytest.raises(InputError, match=f"unknown method '{method.name}x'; did you mean"):
        am.methods.method(method.name + "x")
    assert am.methods.method(method.name) is method


# The file


@every_method
def test_the_docstring_names_source_and_cost(method):
    text = sys.modules[source_of(method)].__doc__
    assert re.search(r"Reference:|SPEC \d", text), "no source"
    assert re.search(r"[Cc]ost per (step|iteration)|One step is", text), "no cost"
    assert method.title.strip() and method.family in ("gradient", "stochastic AM", "full-batch AM")
    assert method.full_batch == (method.family == "full-batch AM") or method.family == "gradient"


@every_method
def test_a_method_sees_training_data_only(method):
    assert {f.name for f in dataclasses.fields(Problem)} == {"x", "y", "activation", "batches", "steps"}
    tree = ast.parse(inspect.getsource(sys.modules[source_of(method)]))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {m for m in imported if re.match(r"am\.(data|training|evaluation|counters|machine)|reproduce", m or "")}


@every_method
def test_counts_of_a_step_are_whole_and_positive(method):
    settings = method.settings()
    for depth in (2, 3, 5):
        updates, gradients = method.cost.updates(depth, settings), method.cost.gradients(depth, settings)
        assert isinstance(updates, int) and isinstance(gradients, int)
        assert updates >= depth and gradients >= 1
    assert method.cost.updates(5, settings) > method.cost.updates(2, settings)


# Finding

SCRATCH = '''"""Sign descent: one file is enough. One step is one pass forward and one back. Reference: none."""

from dataclasses import dataclass

from am.descent import gradient_method
from am.method import Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(1e-3, "step size", search=Log(1e-4, 1e-2), low=0.0)


def update(state, hp, k, factor):
    state.params.flat.sub_(factor * hp.learning_rate * state.gradient.flat.sign())


METHOD = gradient_method("{name}", "Scratch", Hyperparameters, update)
'''


@pytest.fixture
def drop(tmp_path, monkeypatch):
    """A function that adds a file to the folder of methods for one test."""
    monkeypatch.setattr(am.methods, "__path__", [*am.methods.__path__, str(tmp_path)])

    def write(stem: str, name: str) -> None:
        (tmp_path / f"{stem}.py").write_text(SCRATCH.replace("{name}", name), encoding="utf-8")
        methods.cache_clear()

    yield write
    for stem in (path.stem for path in tmp_path.glob("*.py")):
        sys.modules.pop(f"am.methods.{stem}", None)
        vars(am.methods).pop(stem, None)
    methods.cache_clear()


def test_a_method_is_one_file(drop):
    assert "scratch-sign" not in methods()
    drop("scratch_sign", "scratch-sign")
    found = method("scratch-sign")
    assert set(methods()) == {m.name for m in METHODS} | {"scratch-sign"}
    x, y = tiny_data()
    params = initialise(WIDTHS, [0], "he", torch.float64)
    batches = torch.arange(ROWS).view(-1, BATCH)
    run = start("scratch-sign", x, y, [W[0] for W in params.W], [b[0, 0] for b in params.b], batches=batches)
    moved = (run.step(3).variables()["W1"] - params.W[0][0]).abs()
    assert 0 < moved.max() <= 3.0001e-3
    assert found.settings({"learning_rate": 1}).learning_rate == 1.0


def test_two_methods_of_one_name_are_refused(drop):
    drop("scratch_again", "sgd")
    with pytest.raises(InputError, match="sgd"):
        methods()


def test_the_scan_finds_the_papers_methods_and_the_baselines():
    baselines = {"gd", "sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "adadelta"}
    assert baselines | {"sam", "samt", "mdlam", "mdlam-released", "tiam"} <= set(methods())


def test_a_misspelt_method_or_activation_is_told_the_nearest():
    for name, near in (("tiaam", "tiam"), ("admw", "adamw"), ("mdlam-relased", "mdlam-released")):
        with pytest.raises(InputError, match=rf"^unknown method '{name}'; did you mean '{near}'\?$"):
            method(name)
    with pytest.raises(InputError, match=r"^unknown activation 'rellu'; did you mean 'relu'\?$"):
        activation("rellu")


@pytest.mark.parametrize("name", list(methods()))
def test_a_whole_number_has_a_range_that_its_refusal_names(name):
    chosen = methods()[name]
    for f in dataclasses.fields(chosen.hyperparameters):
        if type(f.default) is int:
            with pytest.raises(InputError, match=rf"{f.name} must lie in \[\d+, \d+\], not {2**62}\."):
                chosen.settings({f.name: 2**62})
