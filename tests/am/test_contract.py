"""A method that does not keep its contract is refused by a trial on a tiny network, in one sentence."""

import dataclasses
import itertools
from types import SimpleNamespace

import pytest
import torch
from conftest import WIDTHS

from am import contract
from am.activations import activation
from am.contract import tried
from am.errors import InputError
from am.method import ByHand, Cost, Method
from am.methods import method, methods
from am.networks import Parameters

SGD = method("sgd")


def step_of(change):
    """SGD's step, and then something else."""

    def step(state, problem, hp, k):
        SGD.step(state, problem, hp, k)
        return change(state)

    return dict(step=step)


def init_of(change):
    """What `change` makes of the given parameters is what the state has."""

    def init(problem, params, hp):
        return SimpleNamespace(params=change(params), gradient=None, memory={})

    return dict(init=init, step=lambda state, problem, hp, k: None)


def fail(*_):
    raise ValueError("no such\n axis.")


def swap(state):
    state.params = Parameters([W.mT for W in state.params.W], state.params.b)


def half(params):
    return Parameters([W.half() for W in params.W], [b.half() for b in params.b])


WRONG = {
    "no FLOPs": (dict(cost=Cost()), r"it says no FLOPs; give it cost=Cost\(flops=...\), or count in state.flops"),
    "FLOPs that are no number": (dict(cost=Cost(lambda *_: None)), "its Cost.flops returned None; it must return a"),
    "gradients that raise": (dict(cost=Cost(SGD.cost.flops, gradients=fail)), "its Cost.gradients raised ValueError: "),
    "no state": (dict(init=lambda problem, params, hp: None), "its init returned None; it must return a state with `p"),
    "a state without": (
        init_of(lambda params: params.W),
        "its init returned a SimpleNamespace; it must return a state",
    ),
    "too few layers": (init_of(lambda p: Parameters(p.W[:1], p.b[:1])), "its parameters have 1 W; the network has 3"),
    "half precision": (init_of(half), r"its W1 must be \(2, 4, 5\) of float32, as it was given, and is .* of float16"),
    "a step that raises": (dict(step=fail), "its step raised ValueError: no such axis"),
    "a step that returns": (
        step_of(lambda state: state),
        "its step returned a GradientState; it must change the state",
    ),
    "a step without effect": (dict(step=lambda state, problem, hp, k: None), "its step moved no parameter"),
    "another shape": (step_of(swap), r"its W1 must be \(2, 4, 5\) of float32, as it was given, and is \(2, 5, 4\)"),
    "a bad objective": (dict(by_hand=ByHand(objective=lambda *_: 1.0)), "its objective must be a tensor with the run"),
    "variables that raise": (dict(by_hand=ByHand(variables=fail)), "its ByHand.variables raised ValueError"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_method_is_said_in_a_sentence(case):
    changes, said = WRONG[case]
    wrong = dataclasses.replace(SGD, **changes)
    with pytest.raises(InputError, match=rf"^am/methods/sgd\.py: method 'sgd': {said}.*\.$") as caught:
        tried(wrong, wrong.settings(), activation("relu"), 3)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith("..")


def programs():
    """Every method, with every choice of a setting that has some."""
    for name, chosen in methods().items():
        yield name, {}
        for f in dataclasses.fields(chosen.hyperparameters):
            yield from ((name, {f.name: value}) for value in f.metadata["choices"] or () if value != f.default)


@pytest.mark.parametrize("name, values", list(programs()), ids=str)
def test_the_suites_methods_keep_their_contract(name, values):
    chosen = method(name)
    for act, depth in itertools.product(("relu", "softplus"), (2, 3, 11)):
        contract._SOUND.clear()
        tried(chosen, chosen.settings(values), activation(act), depth)


def test_a_method_needs_a_name_settings_init_step_and_a_cost():
    least = Method("least", SGD.hyperparameters, SGD.init, SGD.step, SGD.cost)
    tried(least, least.settings(), activation("relu"), len(WIDTHS) - 1)
    assert (least.title, least.family) == ("least", "gradient")


def test_a_trial_is_made_once_for_what_shapes_the_program():
    calls = []
    counted = dataclasses.replace(SGD, **step_of(lambda state: calls.append(1)))
    for rate in (0.1, 0.2, 1e30):
        tried(counted, counted.settings(dict(learning_rate=rate)), activation("relu"), 3)
    assert len(calls) == 3
    tried(counted, counted.settings(dict(schedule="cosine")), activation("relu"), 3)
    assert len(calls) == 6


def test_a_trial_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    for name in ("sgd", "tiam", "soap"):
        tried(method(name), method(name).settings(), activation("elu"), 4)
    assert torch.equal(before, torch.get_rng_state())
