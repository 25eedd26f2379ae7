"""The network on the run axis: initial values, layouts and the forward pass."""

import pytest
import torch
from conftest import WIDTHS, launch

from am.activations import ACTIVATIONS, activation
from am.errors import InputError
from am.linalg import correlate, linear
from am.methods import method
from am.networks import (
    INITIALISATIONS,
    Parameters,
    check_initialisation,
    forward,
    initialise,
    view_layers,
)

INITS = ("normal(0.1)", *INITIALISATIONS)
CONSTANT_BIAS = {"he": 0.0, "xavier": 0.0, "bcd": 0.1}  # the others draw it


@pytest.mark.parametrize("name", INITS)
def test_a_run_starts_the_same_whoever_shares_its_stack(name):
    together, alone = initialise(WIDTHS, [4, 9, 2], name), initialise(WIDTHS, [9], name)
    for u, v in zip(together.W + together.b, alone.W + alone.b):
        assert torch.equal(u[1:2], v)


@pytest.mark.parametrize("name", INITS)
def test_layers_start_different_and_change_with_the_seed(name):
    params = initialise((5, 5, 5, 5), [0, 1], name)
    again = initialise((5, 5, 5, 5), [0, 1], name)
    distinct = [W[r] for W in params.W for r in range(2)]
    if name in CONSTANT_BIAS:
        assert all((b == CONSTANT_BIAS[name]).all() for b in params.b)
    else:
        # Nor does a bias repeat the stream of a weight.
        distinct += [W[r, :1] for W in params.W for r in range(2)] + [b[r] for b in params.b for r in range(2)]
    assert all(not torch.equal(u, v) for i, u in enumerate(distinct) for v in distinct[:i])
    assert all(torch.equal(u, v) for u, v in zip(params.W + params.b, again.W + again.b))


@pytest.mark.parametrize(
    "name, sd, widest",
    [
        ("normal(0.1)", 0.1, 1.0),
        ("normal(2)", 2.0, 20.0),
        ("he", (2 / 300) ** 0.5, 1.0),
        ("xavier", (2 / 500) ** 0.5, 1.0),
        ("torch", (1 / 900) ** 0.5, (1 / 300) ** 0.5),
        ("bcd", 0.01, 0.1),
    ],
)
def test_initial_values_have_the_stated_spread(name, sd, widest):
    params = initialise((300, 200), [0], name, torch.float64)
    n = params.W[0].numel()
    assert abs(params.W[0].std() / sd - 1) < 4 / (2 * n) ** 0.5
    assert abs(params.W[0].mean()) < 4 * sd / n**0.5
    assert params.W[0].abs().max() <= widest
    if name not in CONSTANT_BIAS:
        assert abs(params.b[0].std() / sd - 1) < 4 / 400**0.5 and params.b[0].abs().max() <= widest


def test_the_initialisation_of_torch_is_that_of_its_linear_layer():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = torch.nn.Linear(300, 200)
    params = initialise((300, 200), [0], "torch")
    for ours, theirs in ((params.W[0], layer.weight), (params.b[0], layer.bias)):
        assert abs(ours.abs().max() / theirs.abs().max() - 1) < 0.05
        assert abs(ours.std() / theirs.std() - 1) < 0.2


def test_single_precision_starts_at_the_rounded_double_values():
    double, single = (initialise(WIDTHS, [3], "he", dtype) for dtype in (torch.float64, torch.float32))
    assert all(torch.equal(u.float(), v) for u, v in zip(double.W, single.W))
    assert single.W[0].dtype == single.b[0].dtype == torch.float32


@pytest.mark.parametrize("name", ["normal(0.1)", "normal(1e-3)", "normal(.01)", *INITIALISATIONS])
def test_good_initialisations_pass(name):
    check_initialisation(name)


@pytest.mark.parametrize("name", ["normal", "normal()", "normal(0)", "normal(-1)", "normal(x)", "He", "kaiming", ""])
def test_bad_initialisations_are_refused(name):
    with pytest.raises(InputError, match="unknown initialisation.*he, xavier"):
        check_initialisation(name)
    with pytest.raises(InputError):
        initialise(WIDTHS, [0], name)


def test_flat_parameters_are_the_layers():
    params = initialise(WIDTHS, [0, 1], "normal(0.1)", torch.float64)
    flat = params.flattened()
    assert flat.widths == params.widths == WIDTHS and flat.runs == 2
    assert flat.flat.shape == (2, 1, sum(a * b + b for a, b in zip(WIDTHS, WIDTHS[1:])))
    for u, v in zip(params.W + params.b, flat.W + flat.b):
        assert torch.equal(u, v)
    flat.flat.zero_()
    assert not any(t.any() for t in flat.W + flat.b), "layers are views"
    assert all(t.any() for t in params.W), "and the original is another tensor"
    numbers = torch.arange(flat.flat.numel(), dtype=torch.float64).view_as(flat.flat)
    viewed = view_layers(numbers, WIDTHS)
    assert torch.equal(torch.cat([t[1].flatten() for pair in zip(viewed.W, viewed.b) for t in pair]), numbers[1, 0])


@pytest.mark.parametrize("layout", ["layers", "flat"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_anywhere_is_seen(layout, bad):
    for l in range(len(WIDTHS) - 1):
        for kind in ("W", "b"):
            params = initialise(WIDTHS, [0, 1, 2], "he", torch.float32)
            params = params.flattened() if layout == "flat" else params
            assert params.finite().tolist() == [True] * 3
            getattr(params, kind)[l][1].view(-1)[-1] = bad
            assert params.finite().tolist() == [True, False, True]


@pytest.mark.parametrize("layout", ["layers", "flat"])
def test_infinities_of_both_signs_do_not_cancel(layout):
    params = initialise(WIDTHS, [0, 1], "he")
    params = params.flattened() if layout == "flat" else params
    params.W[0][0, 0, 0], params.b[1][0, 0, 0] = float("inf"), -float("inf")
    assert params.finite().tolist() == [False, True]


def test_products_with_shared_data_equal_those_with_a_copy_for_each_run():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    W = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    u = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    each = x.repeat(3, 1, 1)
    assert torch.equal(linear(x, W), linear(each, W)) and torch.equal(correlate(u, x), correlate(u, each))
    for r in range(3):
        assert (linear(x, W)[r] - x @ W[r].T).abs().max() < 1e-14
        assert (correlate(u, x)[r] - u[r].T @ x).abs().max() < 1e-14


MODULES = {kind.lower(): getattr(torch.nn, kind) for kind in dir(torch.nn)}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_the_forward_pass_equals_torch_modules(name):
    params = initialise(WIDTHS, [0, 1], "normal(0.4)", torch.float64)
    x = torch.randn(9, WIDTHS[0], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    zs = forward(x, params, activation(name))
    assert [tuple(z.shape) for z in zs] == [(2, 9, d) for d in WIDTHS[1:]]
    for r in range(2):
        a = x
        for l, z in enumerate(zs):
            layer = torch.nn.Linear(*WIDTHS[l : l + 2], dtype=torch.float64)
            layer.weight.data, layer.bias.data = params.W[l][r], params.b[l][r, 0]
            assert (z[r] - layer(a)).abs().max() < 1e-12
            module = MODULES.get(name.replace("_", ""), lambda: activation(name).value)()
            a = module(layer(a))


def test_the_forward_pass_leaves_its_arguments_alone():
    params = initialise(WIDTHS, [0], "normal(1)", torch.float64)
    before, x = params.clone(), torch.ones(2, WIDTHS[0], dtype=torch.float64)
    forward(x, params, activation("relu"))
    assert torch.equal(x, torch.ones_like(x))
    assert all(torch.equal(u, v) for u, v in zip(params.W + params.b, before.W + before.b))


def test_clones_share_nothing():
    params = initialise(WIDTHS, [0], "he")
    copy: Parameters = params.clone()
    copy.W[0].zero_()
    assert params.W[0].any()


@pytest.mark.parametrize("name", ["adam", "samt"])
def test_a_network_without_a_hidden_layer_is_served_where_no_block_needs_one(name):
    params = initialise((6, 3), [0, 1], "normal(0.5)", torch.float64)
    run = launch(method(name), [method(name).settings()] * 2, [0, 1], params=params).step(3)
    assert not torch.equal(run.variables()["W1"], params.W[0])
