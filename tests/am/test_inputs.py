"""Driving a method by hand: what is taken, as what, and what is refused."""

import re

import numpy as np
import pytest
import torch
from conftest import ROWS, tiny_data
from driving import BATCHES, batches_for, data, driven, given, refusal, weights_and_biases
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from am import start
from am.methods import methods


@pytest.mark.parametrize(
    "options, nearest",
    [
        (dict(name="tiamm"), "unknown method 'tiamm'; did you mean 'tiam'?"),
        (dict(name="tiam", activation="leakyrelu"), "unknown activation 'leakyrelu'; did you mean 'leaky_relu'?"),
        (dict(name="adam", beta_1=0.5), "adam: unknown hyper-parameter 'beta_1'; did you mean 'beta1'?"),
        (dict(name="samt", shape="rows"), "samt: shape: unknown value 'rows'; did you mean 'row'?"),
    ],
)
def test_an_unknown_word_is_told_the_nearest(options, nearest):
    assert refusal(lambda: driven(**options)) == nearest


def test_a_word_with_no_neighbour_is_told_them_all():
    assert all(name in refusal(lambda: driven("zzz")) for name in methods())


@pytest.mark.parametrize("name", ["tiam", "mdlam"])
@pytest.mark.parametrize("act", ["gelu", "silu"])
def test_an_activation_without_an_inverse_is_refused_where_one_is_needed(name, act):
    sentence = refusal(lambda: driven(name, activation=act))
    assert f"'{name}'" in sentence and f"'{act}'" in sentence and "relu" in sentence


def test_mini_batch_methods_need_batches():
    assert "batches=" in refusal(lambda: driven("sgd", batches=None))


def test_a_method_without_an_objective_says_so():
    assert "'sgd'" in refusal(driven("sgd").objective)


def test_settings_that_shape_the_program_are_equal_in_a_stack():
    assert "shape" in refusal(lambda: driven("samt", runs=2, shape=["row", "column"]))


def test_a_value_out_of_range_is_refused():
    assert "learning_rate must lie in [1e-12, inf]" in refusal(lambda: driven("sgd", learning_rate=-1.0))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x, y, W, b: (x[:, 1:], y, W, b), id="inputs of another width"),
        pytest.param(lambda x, y, W, b: (x, y, [W[0], W[2], W[1], W[3][:, :5]], b), id="layers that do not chain"),
        pytest.param(lambda x, y, W, b: (x, y, W, b[:-1]), id="a bias too few"),
        pytest.param(lambda x, y, W, b: (x, y, W[:-1], b), id="a weight too few"),
        pytest.param(lambda x, y, W, b: (x, y, W, [v[:-1] for v in b]), id="biases too short"),
        pytest.param(lambda x, y, W, b: (x, y[:-1], W, b), id="a label too few"),
        pytest.param(lambda x, y, W, b: (x, torch.cat([y, y[:1]]), W, b), id="a label too many"),
        pytest.param(lambda x, y, W, b: (x, y + 1, W, b), id="a label beyond the classes"),
        pytest.param(lambda x, y, W, b: (x, y - 1, W, b), id="a negative label"),
        pytest.param(lambda x, y, W, b: (x, y, [], []), id="no layer"),
    ],
)
@pytest.mark.parametrize("name", ["sgd", "tiam"])
def test_shapes_that_do_not_fit_are_refused(name, change):
    x, y = tiny_data()
    arguments = change(x, y, *weights_and_biases())
    refusal(lambda: start(name, *arguments, **batches_for(name)))


def test_stacks_of_different_heights_are_refused():
    x, y = tiny_data()
    (W, _), (_, b) = weights_and_biases(3), weights_and_biases(2)
    refusal(lambda: start("sgd", x, y, W, b, batches=BATCHES))
    refusal(lambda: start("sgd", x, y, [W[0][:2], *W[1:]], weights_and_biases(3)[1], batches=BATCHES))


@pytest.mark.parametrize("rates", [[0.1, 0.2], [0.1, 0.2, 0.3, 0.4], []])
def test_a_list_of_settings_of_another_length_is_refused(rates):
    assert "learning_rate" in refusal(lambda: driven("sgd", runs=3, learning_rate=rates))


@pytest.mark.parametrize("batches", [[[0, ROWS]], [[0, -1]], [[]], []])
def test_batches_of_rows_that_do_not_exist_are_refused(batches):
    assert "batches" in refusal(lambda: driven("sgd", batches=batches))


def each(change):
    """The change, made to every layer."""
    return lambda layers: [change(u) for u in layers]


def as_module() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))


def with_nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[3, 1] = np.nan
    return x


def frozen(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


ACCEPTED = [
    ("x a list", dict(x=lambda x: x.tolist())),
    ("x a list of tensors", dict(x=lambda x: [torch.tensor(row) for row in x])),
    ("x read-only", dict(x=frozen)),
    ("x reversed twice", dict(x=lambda x: x[::-1].copy()[::-1])),
    ("x of foreign byte order", dict(x=lambda x: x.astype(">f8"))),
    ("x with a gradient", dict(x=lambda x: torch.tensor(x, requires_grad=True))),
    ("y a list", dict(y=lambda y: y.tolist())),
    ("y a column", dict(y=lambda y: y[:, None])),
    ("y one-hot", dict(y=lambda y: np.eye(3)[y])),
    ("y one-hot, bool", dict(y=lambda y: np.eye(3, dtype=bool)[y])),
    ("y whole floats", dict(y=lambda y: y.astype(np.float32))),
    ("y uint8", dict(y=lambda y: y.astype(np.uint8))),
    ("weights tensors", dict(weights=each(torch.tensor), biases=each(torch.tensor))),
    ("weights nn.Parameters", dict(weights=each(lambda w: torch.nn.Parameter(torch.tensor(w))))),
    ("weights nested lists", dict(weights=each(np.ndarray.tolist), biases=each(np.ndarray.tolist))),
    ("weights a tuple", dict(weights=tuple, biases=tuple)),
    ("biases columns", dict(biases=each(lambda b: b[:, None]))),
    ("biases rows", dict(biases=each(lambda b: b[None]))),
    ("batches an array", dict(batches=np.array)),
    ("batches int32", dict(batches=lambda rows: np.array(rows, np.int32))),
    ("batches a list of tensors", dict(batches=each(torch.tensor))),
    ("a NumPy scalar", dict(learning_rate=np.float64(0.1))),
    ("a 0-d array", dict(learning_rate=np.array(0.1))),
    ("a 0-d tensor", dict(learning_rate=torch.tensor(0.1, dtype=torch.float64))),
    ("a list of one", dict(learning_rate=[0.1])),
    ("a tensor of one", dict(learning_rate=torch.tensor([0.1], dtype=torch.float64))),
    ("an array of one", dict(learning_rate=np.array([0.1]))),
    ("steps a NumPy integer", dict(steps=np.int64(9))),
]


@pytest.mark.parametrize("changes", [c for _, c in ACCEPTED], ids=[name for name, _ in ACCEPTED])
def test_what_is_plain_is_accepted_and_means_the_same(changes):
    expected = given(learning_rate=0.1).step(5).variables()
    found = given(**({"learning_rate": 0.1} | changes)).step(5).variables()
    assert all(torch.equal(u, found[name]) for name, u in expected.items())


REFUSED = [
    ("x uint8", dict(x=lambda x: (255 * x).astype(np.uint8)), r"x must be floating, not uint8; .* x / 255"),
    ("x a list of integers", dict(x=[[0, 1]] * 6), "not int64"),
    ("x bool", dict(x=lambda x: x > 0.5), "not bool"),
    ("x complex", dict(x=lambda x: x + 1j), "real numbers"),
    ("x with NaN", dict(x=with_nan), "x has NaN or infinite values in 1 rows, first in row 3"),
    ("x with infinities", dict(x=lambda x: x - np.inf), "in 6 rows, first in row 0"),
    ("x ragged", dict(x=[[0.1, 0.2], [0.3]]), "x must be numbers"),
    ("x words", dict(x=[["a", "b"]]), "x must be numbers"),
    ("x None", dict(x=None), "x must be numbers"),
    ("x images", dict(x=lambda x: x.reshape(6, 1, 2)), r"flatten each sample: x.reshape\(len\(x\), -1\)"),
    ("x a vector", dict(x=lambda x: x[0]), r"not \(2,\)"),
    ("x empty", dict(x=lambda x: x[:0]), r"not \(0, 2\)"),
    ("x a scalar", dict(x=0.5), r"not \(\)"),
    ("rows too few", dict(x=lambda x: x[:4], batches=[[0, 1]]), r"labels must be 4 .* found shape \(6,\)"),
    ("y too few", dict(y=lambda y: y[:4]), r"labels must be 6 .* found shape \(4,\)"),
    ("y a class too many", dict(y=lambda y: y + 1), r"in \[0, 2\], .* found 1 to 3"),
    ("y negative", dict(y=lambda y: y - 1), "found -1 to 1"),
    ("y fractions", dict(y=lambda y: y / 2), "found 0.0 to 1.0"),
    ("y NaN", dict(y=lambda y: np.where(y == 1, np.nan, y)), "found nan to nan"),
    ("y two-hot", dict(y=lambda y: np.ones((6, 3))), "not one-hot"),
    ("y one-hot of more classes", dict(y=lambda y: np.eye(4)[y]), r"found shape \(6, 4\)"),
    ("y words", dict(y=["a"] * 6), "y must be numbers"),
    (
        "a module",
        dict(weights=lambda W: as_module()),
        r"weights must be a list of matrices, not a module; .*layer.weight",
    ),
    ("no biases", dict(biases=None), "biases are missing"),
    ("no list", dict(weights=3.0), "must be lists"),
    ("weights and biases in one list", dict(weights=lambda W: [W[0], np.zeros(4), W[1], np.zeros(3)]), "do not chain"),
    ("weights transposed", dict(weights=each(np.transpose)), "do not chain"),
    ("a weight ragged", dict(weights=[[[0.1, 0.2], [0.3]], [[0.1]]]), "W1 must be numbers"),
    ("weights of four axes", dict(weights=each(lambda w: w[None, None])), "do not chain"),
    ("biases of another layer", dict(biases=lambda b: b[::-1]), "do not chain"),
    ("biases a square", dict(biases=lambda b: [b[0].reshape(2, 2), b[1]]), "do not chain"),
    ("batches ragged", dict(batches=[[0, 1], [2]]), "batches must all have one size"),
    ("batches float", dict(batches=[[0.0, 1.0]]), "not float64"),
    ("batches bool", dict(batches=[[True, False]]), "not bool"),
    ("batches one list", dict(batches=[0, 1]), r"of shape \(2,\)"),
    ("batches a number", dict(batches=3), r"of shape \(\)"),
    ("batches for a full-batch method", dict(name="tiam", batches=[[0, 1]]), "'tiam' takes all rows in every step"),
    (
        "the old word",
        dict(activation_name="relu"),
        r"unknown hyper-parameter 'activation_name'; did you mean 'activation'\?",
    ),
    ("an activation that is none", dict(activation=3), "activation must be a name, for example 'relu', not int"),
    ("a module", dict(activation=torch.nn.LeakyReLU()), "a name, for example 'leaky_relu', not LeakyReLU"),
    ("a function", dict(activation=torch.nn.functional.softplus), "a name, for example 'softplus', not softplus"),
    (
        "half of the authors' alpha",
        dict(name="bcd", batches=None, alpha=2),
        r"bcd: what its authors call alpha is two settings here, alpha and alpha_weights; give both, for example "
        r"alpha=2, alpha_weights=2\.",
    ),
    ("a device", dict(device="cpu"), r"sgd: a run has the device of x; leave device= out and give x .* of cpu\."),
    ("a dtype", dict(dtype=torch.float64), "a run has the dtype of x; leave dtype= out"),
    ("a bias with NaN", dict(name="tiam", biases=lambda b: [b[0] * np.nan, b[1]]), "b1 has NaN or infinite values"),
    (
        "a weight beyond float32",
        dict(x=lambda x: x.astype(np.float32), weights=lambda W: [W[0], 1e300 * W[1]]),
        "W2 has NaN or infinite values, as float32 like x",
    ),
    ("p at once", dict(name="tiam", p=(0.9, 0.9, 0.5)), r"tiam: unknown hyper-parameter 'p'; did you mean 'p1'\?"),
    ("values for runs that are not there", dict(learning_rate=torch.tensor([0.1, 0.2])), "has 2 values for 1 run"),
    ("a nested value", dict(learning_rate=[[0.1]]), "learning_rate must be float"),
    ("a word for a number", dict(learning_rate="0.1"), "learning_rate must be float"),
    ("a truth for a number", dict(learning_rate=np.bool_(True)), "learning_rate must be float"),
    ("a schedule without an end", dict(schedule="cosine"), "give steps="),
    ("no steps", dict(steps=0), "steps must be a whole number from 1 on, not 0"),
    ("half a step", dict(steps=9.5), "steps must be a whole number"),
]


@pytest.mark.parametrize("half", [lambda x: x.astype(np.float16), lambda x: torch.tensor(x).bfloat16()])
def test_half_precision_is_taken_as_float32(half):
    found = given(x=half).step(5).variables()
    expected = given(x=lambda x: torch.as_tensor(half(x)).float()).step(5).variables()
    assert all(u.dtype == torch.float32 and torch.equal(u, found[name]) for name, u in expected.items())


@pytest.mark.parametrize("changes, sentence", [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_not_plain_is_refused_in_one_sentence(changes, sentence):
    assert re.search(sentence, refusal(lambda: given(**changes)))


@pytest.mark.parametrize("times", [-1, 1.5, True, None, "2", torch.tensor(1.0), [1]])
def test_steps_are_counted_in_whole_numbers(times):
    run = given()
    assert "whole number" in refusal(lambda: run.step(times)) and run.iterations == 0


@pytest.mark.parametrize("times", [0, 2, np.int64(2), torch.tensor(2)])
def test_whole_numbers_of_any_kind_count(times):
    assert given().step(times).iterations == int(times)


def test_a_schedule_that_has_ended_is_not_stepped_on():
    run = given(schedule="cosine", steps=4).step(3)
    before = run.variables()
    assert "schedule ends with step 4" in refusal(lambda: run.step(2))
    assert run.iterations == 3 and torch.equal(run.variables()["W1"], before["W1"])
    assert run.step().iterations == 4
    assert given(steps=4).step(6).iterations == 6


def test_the_callers_arrays_are_never_written_to():
    for name in methods():
        full = methods()[name].full_batch
        x, y, W, b = (([torch.tensor(u) for u in t] if isinstance(t, list) else torch.tensor(t)) for t in data())
        kept = [t.clone() for t in (x, y, *W, *b)]
        rows = {} if full else {"batches": torch.arange(6).view(2, 3)}
        run = start(name, x, y, W, b, "elu" if name != "bcd" else "relu", **rows).step(3)
        run.set_variables(W1=W[0], b2=b[1])
        run.step(2)
        assert all(torch.equal(u, v) for u, v in zip((x, y, *W, *b), kept)), name
        assert not rows or torch.equal(rows["batches"], torch.arange(6).view(2, 3)), name


numbers = dict(elements=st.floats(-2, 2, width=64))


@settings(max_examples=30, deadline=None)
@given_(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(2, 3), st.data())
def test_any_network_that_chains_is_shown_as_it_was_given(rows, d0, d1, classes, draw):
    array = lambda *shape: draw.draw(arrays(np.float64, shape, **numbers))
    x, W, b = array(rows, d0), [array(d1, d0), array(classes, d1)], [array(d1), array(classes)]
    y = draw.draw(arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    run = start("tiam", x, y, W, b)
    shown = run.variables()
    for l in (1, 2):
        assert np.array_equal(shown[f"W{l}"], W[l - 1]) and np.array_equal(shown[f"b{l}"], b[l - 1])
    logits = np.maximum(x @ W[0].T + b[0], 0) @ W[1].T + b[1]
    assert np.allclose(run.logits(x), logits, atol=1e-12)
    wide = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(wide).sum(1)) - wide[np.arange(rows), y]
    assert abs(run.loss(x, y) - losses.mean()) < 1e-12
    assert run.accuracy(x, y).item() == pytest.approx((run.logits(x).numpy().argmax(1) == y).mean())
