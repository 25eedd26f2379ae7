"""Ready for a GPU without one: every method on a fake CUDA device, where operations have shapes and devices alone.

An operation that mixes devices raises, and so does one that needs a value on the host. The single question that a step
may ask, `am.linalg.read_flag`, is answered here, both ways, and counted.
"""

import dataclasses
import functools
from itertools import cycle
from typing import Any

import pytest
import torch
from conftest import BATCH, STEPS, middle
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from am import cross_entropy, linalg, penalised_steps
from am.activations import ACTIVATIONS, activation, prox
from am.batches import Batches
from am.data import Data
from am.evaluation import evaluate
from am.method import Method, Problem, stack
from am.methods import method, methods
from am.networks import initialise

ROWS, RUNS = 40, 2
WIDTHS = (6, 8, 8, 3)  # a first, a middle and a last layer
ANSWERS = {"yes": [True], "no": [False], "in turn": [True, False], "the other turn": [False, True]}

LOOPS = (
    (cross_entropy, "FISTA_ITERATIONS"),
    (cross_entropy, "FISTA_GPU_ROUNDS"),
    (cross_entropy, "PROX_STEPS"),
    (prox, "NEWTON_STEPS"),
    (penalised_steps, "DOUBLINGS"),
)


def fake_data() -> Data:
    """Training, validation and test rows on a device that is not there."""

    def part(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.empty(rows, WIDTHS[0], device="cuda")
        return x, torch.empty(rows, dtype=torch.int64, device="cuda")

    parts = [*part(ROWS), *part(12), *part(16)]
    return Data("fake", *parts, fingerprint="", official=False, classes=WIDTHS[-1])


class Questions:
    """Stands in for `read_flag`: answers by turns and counts."""

    def __init__(self, answers: list[bool]):
        self.answers, self.asked = cycle(answers), 0

    def __call__(self, flag: torch.Tensor) -> bool:
        assert flag.dim() == 0 and flag.device.type == "cuda"
        self.asked += 1
        return next(self.answers)


def audited(chosen: Method, answers: list[bool], monkeypatch, name: str = "relu", **overrides: Any) -> tuple[int, int]:
    """init, three steps and an evaluation; returns the questions of init and those of the steps."""
    questions = Questions(answers)
    monkeypatch.setattr(linalg, "read_flag", questions)
    # A GPU walks these loops to their end; a few rounds trace all that is in them.
    for module, bound in LOOPS:
        monkeypatch.setattr(module, bound, 3)
    with FakeTensorMode():
        data, seeds = fake_data(), range(RUNS)
        params = initialise(WIDTHS, seeds, "he", device="cuda")
        batches = None if chosen.full_batch else Batches(data.x, data.y, seeds=seeds, batch_size=BATCH)
        problem = Problem(data.x, data.y, activation(name), batches, STEPS)
        hp = stack([middle(chosen, overrides)] * RUNS, data.x)
        state = chosen.init(problem, params, hp)
        at_start = questions.asked
        for k in range(3):
            chosen.step(state, problem, hp, k)
            chosen.parameters(state).finite()
        in_steps = questions.asked - at_start
        found = evaluate(chosen, state, problem, hp, data, with_gradient_norm=True)
    for column, values in found.items():
        assert values.shape == (RUNS,) and values.device.type == "cuda", column
    moved = chosen.parameters(state)
    assert all(t.device.type == "cuda" for t in (*moved.W, *moved.b))
    return at_start, in_steps


@functools.cache
def asked(name: str, answers: str, **overrides: Any) -> tuple[int, int]:
    """What `audited` finds of a method, once."""
    with pytest.MonkeyPatch.context() as patch:
        return audited(method(name), ANSWERS[answers], patch, **overrides)


def turns() -> list:
    """Every method with the first answers, which a step that never asks cannot tell from others; one that asks, all."""
    cases = [(name, answers) for name, chosen in methods().items() for answers in ANSWERS if chosen.asks]
    return cases + [(name, next(iter(ANSWERS))) for name, chosen in methods().items() if not chosen.asks]


@pytest.mark.parametrize("name, answers", turns())
def test_no_operation_mixes_devices_and_no_value_is_read(name, answers):
    at_start, in_steps = asked(name, answers)
    assert at_start == 0
    assert in_steps == 0 or method(name).asks


@pytest.mark.parametrize("name", [name for name, chosen in methods().items() if chosen.asks])
def test_a_method_that_says_it_asks_does(name):
    """Else its steps could be CUDA graphs."""
    cases = [{}] + [case.values[1] for case in choices() if case.values[0] == name]
    assert any(asked(name, "yes", **case)[1] for case in cases)


def choices() -> list:
    """Every method with every value of every setting that shapes the program."""
    found = []
    for name, chosen in methods().items():
        for f in dataclasses.fields(chosen.hyperparameters):
            values = f.metadata["choices"] or ((True, False) if isinstance(f.default, bool) else ())
            found += [pytest.param(name, {f.name: v}, id=f"{name}-{f.name}={v}") for v in values if v != f.default]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name, overrides", choices())
def test_no_setting_mixes_devices(name, overrides, monkeypatch):
    chosen = method(name)
    at_start, in_steps = audited(chosen, ANSWERS["in turn"], monkeypatch, **overrides)
    assert at_start == 0 and (in_steps == 0 or chosen.asks)


@pytest.mark.slow
@pytest.mark.parametrize("activation_name", ACTIVATIONS)
@pytest.mark.parametrize("name", ["samt", "dladmm"])
def test_no_activation_mixes_devices(name, activation_name, monkeypatch):
    if method(name).monotone_only and not activation(activation_name).monotone:
        pytest.skip("refused by the method")
    assert audited(method(name), ANSWERS["in turn"], monkeypatch, activation_name)[0] == 0


@pytest.mark.parametrize(
    "wrong, error",
    [
        (lambda flat: flat.add_(torch.ones(flat.shape)), RuntimeError),
        (lambda flat: flat.sum().item(), DataDependentOutputException),
        (lambda flat: bool(flat.sum() > 0), DataDependentOutputException),
        (lambda flat: flat.tolist(), DataDependentOutputException),
    ],
    ids=["another device", "item", "bool", "tolist"],
)
def test_the_audit_finds_what_it_is_for(wrong, error, monkeypatch):
    sgd = method("sgd")

    def step(state, problem, hp, k):
        sgd.step(state, problem, hp, k)
        wrong(state.params.flat)

    with pytest.raises(error):
        audited(dataclasses.replace(sgd, step=step), [True], monkeypatch)
