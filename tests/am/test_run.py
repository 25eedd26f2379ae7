"""Driving a method by hand: what goes in, what can be read, and what is refused."""

import dataclasses
import doctest
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BATCH, ROWS, WIDTHS, tiny_data
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import am
from am import start
from am.errors import InputError
from am.methods import methods
from am.networks import initialise

L = len(WIDTHS) - 1
BATCHES = torch.arange(ROWS).view(-1, BATCH)


def weights_and_biases(runs: int | None = None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of one network without a run axis, or of R."""
    params = initialise(WIDTHS, range(runs or 1), "normal(0.5)", torch.float64)
    if runs:
        return params.W, [b[:, 0] for b in params.b]
    return [W[0] for W in params.W], [b[0, 0] for b in params.b]


def driven(name: str, runs: int | None = None, **options):
    x, y = tiny_data()
    return start(name, x, y, *weights_and_biases(runs), **(batches_for(name) | options))


def batches_for(name: str) -> dict:
    """batches=, for those that need them."""
    return {} if name in methods() and methods()[name].full_batch else {"batches": BATCHES}


def test_one_network_is_shown_without_a_run_axis():
    run = driven("tiam").step(2)
    shown = run.variables()
    assert {"W1", "b1", "z1", "a1", f"W{L}", f"b{L}", f"z{L}"} <= set(shown) and f"a{L}" not in shown
    assert shown["W1"].shape == WIDTHS[1::-1] and shown["b1"].shape == (WIDTHS[1],)
    assert shown["z1"].shape == (ROWS, WIDTHS[1])
    assert run.objective().shape == () and run.iterations == 2


def test_many_networks_are_shown_with_one():
    run = driven("samt", runs=3, shape="row").step()
    shown = run.variables()
    assert shown["W1"].shape == (3, WIDTHS[1], WIDTHS[0]) and shown["b1"].shape == (3, WIDTHS[1])
    assert shown["alpha_W1"].shape == (3, WIDTHS[1], 1)
    assert driven("tiam", runs=3).objective().shape == (3,)


@pytest.mark.parametrize("name", ["sgd", "samt", "tiam"])
def test_a_network_alone_equals_itself_in_a_stack(name):
    together, (W, b) = driven(name, runs=3).step(6).variables(), weights_and_biases(3)
    for r in range(3):
        x, y = tiny_data()
        alone = start(name, x, y, [w[r] for w in W], [v[r] for v in b], **batches_for(name)).step(6).variables()
        for key, value in alone.items():
            if value.is_floating_point():
                assert (together[key][r] - value).abs().max() <= 1e-12 * value.abs().max(), key


def test_stepping_all_at_once_or_one_by_one_is_the_same():
    once, often = driven("samt").step(7), driven("samt")
    for _ in range(7):
        assert often.step() is often
    assert often.iterations == once.iterations == 7
    assert all(torch.equal(u, often.variables()[name]) for name, u in once.variables().items())


def test_what_is_given_is_left_alone_and_what_is_read_is_a_copy():
    x, y = tiny_data()
    W, b = weights_and_biases()
    before = [t.clone() for t in (x, *W, *b)]
    run = start("tiam", x, y, W, b).step(3)
    assert all(torch.equal(u, v) for u, v in zip((x, *W, *b), before))
    for value in run.variables().values():
        value.fill_(0)
    assert all(run.variables()[name].any() for name in ("W1", "b1", "z1", "a1"))


def test_a_list_gives_each_run_its_own_setting():
    W, b = weights_and_biases()
    x, y = tiny_data()
    stacked = [w.expand(2, -1, -1) for w in W], [v.expand(2, -1) for v in b]
    both = start("sgd", x, y, *stacked, batches=BATCHES, learning_rate=[0.1, 0.3]).step(5).variables()
    for r, rate in enumerate((0.1, 0.3)):
        alone = start("sgd", x, y, W, b, batches=BATCHES, learning_rate=rate).step(5).variables()
        assert (both["W1"][r] - alone["W1"]).abs().max() < 1e-14
    assert not torch.equal(both["W1"][0], both["W1"][1])


def test_the_dtype_is_that_of_the_data():
    x, y = tiny_data()
    run = start("adam", x.float(), y, *weights_and_biases(), batches=BATCHES).step()
    assert all(u.dtype == torch.float32 for u in run.variables().values())


def test_plain_lists_and_arrays_will_do():
    x, y = tiny_data()
    W, b = weights_and_biases()
    expected = start("sgd", x, y, W, b, batches=BATCHES).step(4).variables()
    found = start("sgd", x, y.numpy(), W, [v.numpy() for v in b], batches=BATCHES.tolist()).step(4).variables()
    assert all(torch.equal(u, found[name]) for name, u in expected.items())


def test_full_batch_methods_take_no_batches():
    assert torch.equal(driven("gd", batches=None).step(3).variables()["W1"], driven("gd").step(3).variables()["W1"])
    for name in (m.name for m in methods().values() if m.full_batch):
        assert "batches=" in refusal(lambda name=name: driven(name, batches=BATCHES)), name


def test_given_batches_come_round_again():
    run = driven("sgd", batches=BATCHES[:1]).step(2).variables()
    assert torch.equal(run["W1"], driven("sgd", batches=BATCHES[[0, 0]]).step(2).variables()["W1"])
    assert not torch.equal(run["W1"], driven("sgd", batches=BATCHES[:2]).step(2).variables()["W1"])


def test_the_package_offers_the_driver():
    assert am.start is start and am.Run is type(driven("gd"))


# Refusals: one sentence each


def refusal(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    sentence = str(error.value)
    assert re.fullmatch(r"[^\n]+[.?]", sentence), sentence
    return sentence


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


# What a stranger gives


def data() -> tuple:
    """x (6, 2), y of 3 classes, W and b of a 2-4-3 network, as lists of NumPy arrays."""
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 2)), np.array([0, 1, 2, 0, 1, 2])
    return x, y, [rng.normal(size=(4, 2)), rng.normal(size=(3, 4))], [rng.normal(size=4), rng.normal(size=3)]


def given(name: str = "sgd", **changes):
    """A run on `data`, each named argument changed by its function, or replaced."""
    x, y, W, b = data()
    arguments = dict(x=x, y=y, weights=W, biases=b) | ({"batches": [[0, 1, 2], [3, 4, 5]]} if name != "tiam" else {})
    for key, change in changes.items():
        arguments[key] = change(arguments[key]) if callable(change) and key in arguments else change
    return start(name, **arguments)


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
    ("x uint8", dict(x=lambda x: (255 * x).astype(np.uint8)), r"x must be float32 or float64, not uint8; .* x / 255"),
    ("x a list of integers", dict(x=[[0, 1]] * 6), "not int64"),
    ("x bool", dict(x=lambda x: x > 0.5), "not bool"),
    ("x half", dict(x=lambda x: x.astype(np.float16)), "not float16"),
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
    ("an activation that is none", dict(activation=3), "unknown activation '3'"),
    ("p at once", dict(name="tiam", p=(0.9, 0.9, 0.5)), r"tiam: unknown hyper-parameter 'p'; did you mean 'p1'\?"),
    ("values for runs that are not there", dict(learning_rate=torch.tensor([0.1, 0.2])), "has 2 values for 1 run"),
    ("a nested value", dict(learning_rate=[[0.1]]), "learning_rate must be float"),
    ("a word for a number", dict(learning_rate="0.1"), "learning_rate must be float"),
    ("a truth for a number", dict(learning_rate=np.bool_(True)), "learning_rate must be float"),
    ("a schedule without an end", dict(schedule="cosine"), "give steps="),
    ("no steps", dict(steps=0), "steps must be a whole number from 1 on, not 0"),
    ("half a step", dict(steps=9.5), "steps must be a whole number"),
]


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


# Reading and setting


def test_logits_accuracy_and_loss_are_each_runs():
    x, y = tiny_data()
    run = driven("adam", runs=3).step(4)
    assert run.logits(x).shape == (3, ROWS, WIDTHS[-1])
    assert run.accuracy(x, y).shape == run.loss(x, y).shape == (3,)
    for r in range(3):
        assert run.loss(x, y)[r] == pytest.approx(torch.nn.functional.cross_entropy(run.logits(x)[r], y).item())
        assert run.accuracy(x, y)[r] == (run.logits(x)[r].argmax(1) == y).double().mean()
    assert run.accuracy(x.float().numpy(), y.tolist()).dtype == torch.float64


def test_samples_and_labels_to_measure_on_are_checked():
    x, y = tiny_data()
    run = driven("sgd")
    assert "inputs a sample" in refusal(lambda: run.logits(x[:, 1:]))
    assert "uint8" in refusal(lambda: run.logits(x.to(torch.uint8)))
    assert "labels must be" in refusal(lambda: run.loss(x, y[1:]))
    assert "labels must be" in refusal(lambda: run.accuracy(x, y + WIDTHS[-1]))


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("name", list(methods()))
def test_every_variable_can_be_set_to_another_value_and_back(name, runs):
    run = driven(name, runs=runs).step(2)
    shown = run.variables()
    floating = {key: u for key, u in shown.items() if u.is_floating_point()}
    moved = {key: 0.5 * u + 0.1 for key, u in floating.items()}
    assert run.set_variables(**moved) is run
    assert all(torch.equal(run.variables()[key], u) for key, u in moved.items())
    run.set_variables(**floating)
    assert all(torch.equal(run.variables()[key], u) for key, u in shown.items())


# Without moments and schedules; ADMM with a firm coupling, since a soft one lets rounding grow.
FIRM = dict(rho=0.1)
PLAIN = {"samt": dict(meta="gd"), "dladmm": FIRM, "dladmm-released": FIRM | dict(rho_schedule=False)}
WITHOUT_A_PAST = [m.name for m in methods().values() if m.family == "full-batch AM"] + ["samt", "sam", "sgd", "gd"]


@pytest.mark.parametrize("name", WITHOUT_A_PAST)
def test_nothing_that_a_state_keeps_outlives_the_variables_that_it_was_made_of(name):
    """A run whose variables are set goes on as one that starts from the same: no cache is of the old ones."""
    options = PLAIN.get(name, {})
    old = driven(name, **options).step(3)
    values = {k: 0.5 * u + 0.01 for k, u in old.variables().items() if u.is_floating_point()}
    x, y = tiny_data()
    layers = [[values[f"{kind}{l}"] for l in range(1, L + 1)] for kind in "Wb"]
    new = start(name, x, y, *layers, **batches_for(name), **options)
    new.iterations = old.iterations
    for run in (old, new):
        run.set_variables(**values)
    if old.method.objective:
        assert torch.equal(old.objective(), new.objective())
    before = old.variables()
    old.step(2)
    new.step(2)
    for key, u in new.variables().items():
        assert (old.variables()[key] - u).abs().max() <= 1e-10 * (1 + u.abs().max()), key
    assert not torch.equal(old.variables()["W1"], before["W1"])


@pytest.mark.parametrize(
    "values, sentence",
    [
        (dict(W7=0.0), r"tiam: unknown variable 'W7'; did you mean 'W1'\?"),
        (dict(w1=0.0), r"unknown variable 'w1'; did you mean 'W1'\?"),
        (dict(b1=0.0), r"b1 must have shape \(8,\), not \(\)"),
        (dict(z1=[[0.0]]), r"z1 must have shape \(24, 8\), not \(1, 1\)"),
        (dict(W1=torch.zeros(WIDTHS[:2])), r"W1 must have shape \(8, 6\), not \(6, 8\)"),
        (dict(W1=[[1.0], [1.0, 2.0]]), "W1 must be numbers"),
        (dict(fallbacks=1), "'fallbacks' is a count"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_nothing_is_set(values, sentence):
    run = driven("tiam").step()
    before = run.variables()
    assert re.search(sentence, refusal(lambda: run.set_variables(b2=before["b2"] + 1, **values)))
    assert all(torch.equal(u, before[name]) for name, u in run.variables().items())


def test_variables_may_change_places():
    run = driven("tiam")
    before = run.variables()
    views = run.method.parameters(run.state).W
    run.set_variables(W2=views[2][0], W3=views[1][0])
    assert torch.equal(run.variables()["W2"], before["W3"]) and torch.equal(run.variables()["W3"], before["W2"])


# One block


IN_BLOCKS = [m.name for m in methods().values() if m.step_block]


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("name, more", [(name, {}) for name in IN_BLOCKS] + [("dladmm", dict(keep_step_sizes=True))])
def test_all_blocks_in_turn_are_a_step(name, more, runs):
    constant = {"epsilon_0", "epsilon_min"} & set(methods()[name].hyperparameters.__dataclass_fields__)
    options = dict.fromkeys(constant, 0.1) | PLAIN.get(name, {}) | more
    whole, pieces = driven(name, runs, **options).step(3), driven(name, runs, **options).step(3)
    for _ in range(2):
        whole.step()
        for block in pieces.blocks:
            pieces.step_block(block)
        pieces.iterations += 1
    for key, u in whole.variables().items():
        if u.is_floating_point():
            assert (pieces.variables()[key] - u).abs().max() <= 1e-9 * (1 + u.abs().max()), key
    whole.step()
    pieces.step()
    assert (pieces.variables()["W1"] - whole.variables()["W1"]).abs().max() <= 1e-9


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_a_block_moves_its_variables_and_no_other(name):
    run = driven(name).step(2)
    for block in dict.fromkeys(run.blocks):
        before = run.variables()
        after = run.step_block(block).variables()
        moved = {key for key, u in before.items() if u.is_floating_point() and not torch.equal(u, after[key])}
        own = set(block.split("+"))
        moved -= {f.name for f in dataclasses.fields(run.method.hyperparameters)}  # rho follows the iteration
        assert moved <= own | {f"alpha_{key}" for key in own}, block
        assert run.iterations == 2
    assert all(set(block.split("+")) <= set(run.variables()) for block in run.blocks)


def test_the_papers_methods_can_be_stepped_by_blocks():
    assert {"tiam", "mdlam", "mdlam-released", "dladmm", "dladmm-released", "samt", "sam"} <= set(IN_BLOCKS)
    assert driven("samt", order="backward").blocks == ["W4+b4", "W3+b3", "W2+b2", "W1+b1"]
    assert "b2" not in driven("mdlam-released").blocks


def test_an_unknown_block_is_told_the_nearest_and_a_method_without_says_so():
    assert refusal(lambda: driven("samt").step_block("W1")) == "samt: unknown block 'W1'; did you mean 'W1+b1'?"
    assert refusal(lambda: driven("tiam").step_block("w2")) == "tiam: unknown block 'w2'; did you mean 'W2'?"
    assert "'adam' has no block" in refusal(lambda: driven("adam").step_block("W1"))
    assert driven("adam").blocks == []


# The package and its examples


@pytest.mark.parametrize("module", [am, am.run], ids=["am", "am.run"])
def test_the_examples_of_the_docstrings_run(module):
    failed, tried = doctest.testmod(module)
    assert tried and not failed


def test_what_a_stranger_imports_is_there():
    assert am.InputError is InputError and am.method("tiam") is am.methods.methods()["tiam"]
    assert set(am.__all__) == {"InputError", "Run", "method", "methods", "start"}


def test_a_run_is_shown_in_a_line_and_a_method_may_be_given_itself():
    run = given(name="sgd", learning_rate=0.1).step(2)
    assert repr(run) == "<Run of sgd: 1 x 2-4-3, iterations=2>"
    assert given(name=am.method("sgd")).method is run.method


def test_the_readmes_example_runs_and_learns(capsys):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    code = re.search(r"## Train one by hand.*?```python\n(.*?)```", text, re.DOTALL)[1]
    names: dict = {}
    exec(code, names)
    x, y, n = names["x"], names["y"], names["n"]
    assert names["tiam"].accuracy(x[n:], y[n:]) > 0.7 and names["samt"].accuracy(x[n:], y[n:]) > 0.85
    assert len(capsys.readouterr().out.splitlines()) == 2
