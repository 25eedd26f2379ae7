"""Gradients against autograd, and gradient methods step for step against torch.optim."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import BATCH, ROWS, WIDTHS, largest_difference, tiny_data
from torch.optim.lr_scheduler import LambdaLR

from am import start
from am.activations import ACTIVATIONS, activation
from am.backprop import backpropagate
from am.cross_entropy import logits_gradient
from am.descent import FULL_BATCH, power
from am.methods import method, methods
from am.networks import Parameters, initialise

STEPS = 20
# Of autograd's loss; elementwise, each with torch's own code where it has the activation.
TORCH = {name: getattr(F, name, act.value) for name, act in ACTIVATIONS.items()}
TORCH["softplus"] = lambda z: torch.logaddexp(z, torch.zeros_like(z))  # F.softplus is the identity above 20, 2e-9 off


def loss(x: torch.Tensor, y: torch.Tensor, weights: list, biases: list, name: str) -> torch.Tensor:
    """Mean cross-entropy of one network, for autograd."""
    a = x
    for l, (W, b) in enumerate(zip(weights, biases)):
        a = F.linear(a if l == 0 else TORCH[name](a), W, b)
    return F.cross_entropy(a, y)


@pytest.mark.parametrize("rows", ["batches of their own", "shared data"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_back_propagation_equals_autograd(name, rows):
    generator = torch.Generator().manual_seed(0)
    R, B = 3, 10
    params = initialise(WIDTHS, range(R), "normal(1)", torch.float64)  # wide enough for relu6 to saturate
    shape = (B,) if rows == "shared data" else (R, B)
    x = 1.5 * torch.randn(*shape, WIDTHS[0], generator=generator, dtype=torch.float64)
    y = torch.randint(0, WIDTHS[-1], shape, generator=generator)
    out = Parameters([torch.empty_like(W) for W in params.W], [torch.empty_like(b) for b in params.b])
    backpropagate(x, y, params, activation(name), out)
    for r in range(R):
        xr, yr = (x, y) if rows == "shared data" else (x[r], y[r])
        weights = [W[r].clone().requires_grad_() for W in params.W]
        biases = [b[r, 0].clone().requires_grad_() for b in params.b]
        expected = torch.autograd.grad(loss(xr, yr, weights, biases, name), weights + biases)
        found = [W[r] for W in out.W] + [b[r, 0] for b in out.b]
        for g, h in zip(found, expected):
            assert h.any() and largest_difference(g, h) < 1e-12


def test_the_gradient_of_the_logits_equals_autograd_far_out_too():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 300.0]).view(2, 1, 1)
    y = torch.randint(0, 4, (2, 6), generator=generator)
    found = logits_gradient(z, y)
    for r in range(2):
        leaf = z[r].clone().requires_grad_()
        (expected,) = torch.autograd.grad(F.cross_entropy(leaf, y[r]), leaf)
        assert (found[r] - expected).abs().max() < 1e-15


# SAMT, whose passes keep the layers that did not move


@pytest.mark.parametrize("query", ["next", "support"])
@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("shape", ["scalar", "row", "column", "element"])
def test_samt_equals_autograd_through_the_step_sizes(shape, order, query):
    """T = 1: a block's step sizes descend the slope of the query's loss with respect to them, at the block's move."""
    x, y = tiny_data()
    params = initialise(WIDTHS, [0], "normal(0.5)", torch.float64)
    weights, biases, beta = [W[0] for W in params.W], [b[0, 0] for b in params.b], 0.02
    batches = torch.arange(ROWS).view(-1, BATCH)
    options = dict(alpha0=0.3, beta=beta, shape=shape, order=order, query=query, meta="gd")
    run = start("samt", x, y, weights, biases, "elu", batches, **options)
    alphas = [torch.full_like(run.variables()[f"alpha_W{l + 1}"], 0.3) for l in range(len(weights))]
    bias_alphas = [torch.full((), 0.3, dtype=torch.float64) for _ in biases]
    weights, biases = list(weights), list(biases)
    for k in range(5):
        S = batches[k % len(batches)]
        Q = batches[(k + 1) % len(batches)] if query == "next" else S
        for l in range(len(weights)) if order == "forward" else reversed(range(len(weights))):
            W, b = weights[l].detach().requires_grad_(), biases[l].detach().requires_grad_()
            replaced = lambda tensors, t: [*tensors[:l], t, *tensors[l + 1 :]]
            at = lambda rows, W, b: loss(x[rows], y[rows], replaced(weights, W), replaced(biases, b), "elu")
            gW, gb = torch.autograd.grad(at(S, W, b), (W, b))
            alpha, bias_alpha = alphas[l].clone().requires_grad_(), bias_alphas[l].clone().requires_grad_()
            W, b = W.detach() - alpha * gW, b.detach() - bias_alpha * gb
            slopes = torch.autograd.grad(at(Q, W, b), (alpha, bias_alpha))
            weights[l], biases[l] = W.detach(), b.detach()
            alphas[l], bias_alphas[l] = alphas[l] - beta * slopes[0], bias_alphas[l] - beta * slopes[1]
        shown = run.step().variables()
        for l in range(len(weights)):
            assert largest_difference(shown[f"W{l + 1}"], weights[l]) < 1e-12
            assert largest_difference(shown[f"b{l + 1}"], biases[l]) < 1e-12
            assert largest_difference(shown[f"alpha_W{l + 1}"], alphas[l]) < 1e-12
            assert largest_difference(shown[f"alpha_b{l + 1}"].view(()), bias_alphas[l]) < 1e-12
    assert all((alpha - 0.3).abs().max() > 1e-5 for alpha in alphas)


@pytest.mark.parametrize("meta", ["gd", "log_adam"])
def test_samt_keeps_its_step_sizes_in_range(meta):
    x, y = tiny_data()
    params = initialise(WIDTHS, [0], "normal(0.5)", torch.float64)
    weights, biases = [W[0] for W in params.W], [b[0, 0] for b in params.b]
    batches = torch.arange(ROWS).view(-1, BATCH)
    # One huge step of the meta-optimiser, by its sign down or up.
    run = start("samt", x, y, weights, biases, "elu", batches, alpha0=0.01, beta=1e9, shape="element", meta=meta)
    alphas = run.step(1).variables()
    ends = torch.cat([alphas[f"alpha_W{l + 1}"].flatten() for l in range(len(weights))])
    assert ends.min() == 1e-6 and ends.max() == 10.0


# method -> torch.optim's class, its fixed arguments, our setting -> its argument, several settings
OPTIMISERS = {
    "gd": (torch.optim.SGD, {}, {"learning_rate": "lr"}, [{}, {"learning_rate": 1.5}, {"learning_rate": 0.01}]),
    "sgd": (torch.optim.SGD, {}, {"learning_rate": "lr"}, [{}, {"learning_rate": 1.5}, {"learning_rate": 0.01}]),
    "momentum": (
        torch.optim.SGD,
        {},
        {"learning_rate": "lr", "momentum": "momentum"},
        [{}, {"momentum": 0.0, "learning_rate": 0.7}, {"momentum": 0.99, "learning_rate": 0.003}],
    ),
    "nesterov": (
        torch.optim.SGD,
        {"nesterov": True},
        {"learning_rate": "lr", "momentum": "momentum"},
        [{}, {"momentum": 0.5, "learning_rate": 0.7}, {"momentum": 0.99, "learning_rate": 0.003}],
    ),
    "adam": (
        torch.optim.Adam,
        {},
        {"learning_rate": "lr", "beta1": "betas", "beta2": "betas", "epsilon": "eps"},
        [{}, {"learning_rate": 0.03, "beta1": 0.5, "beta2": 0.9}, {"epsilon": 0.1, "beta1": 0.0}],
    ),
    "adamw": (
        torch.optim.AdamW,
        {},
        {"learning_rate": "lr", "beta1": "betas", "beta2": "betas", "epsilon": "eps", "weight_decay": "weight_decay"},
        [{}, {"learning_rate": 0.03, "weight_decay": 0.3, "beta2": 0.9}, {"weight_decay": 0.0, "epsilon": 1e-3}],
    ),
    "rmsprop": (
        torch.optim.RMSprop,
        {},
        {"learning_rate": "lr", "decay": "alpha", "epsilon": "eps"},
        [{}, {"learning_rate": 0.01, "decay": 0.5}, {"epsilon": 0.1, "decay": 0.9}],
    ),
    "adagrad": (
        torch.optim.Adagrad,
        {},
        {"learning_rate": "lr", "epsilon": "eps"},
        [{}, {"learning_rate": 0.3}, {"learning_rate": 0.05, "epsilon": 0.1}],
    ),
    "adadelta": (
        torch.optim.Adadelta,
        {},
        {"learning_rate": "lr", "decay": "rho", "epsilon": "eps"},
        [{}, {"learning_rate": 7.0, "decay": 0.5}, {"learning_rate": 0.5, "epsilon": 1e-3}],
    ),
}
OPTIMISERS |= {name: OPTIMISERS[name.removesuffix(FULL_BATCH)] for name in methods() if name.endswith(FULL_BATCH)}
CASES = [(name, "relu") for name in OPTIMISERS] + [("adam", act) for act in ACTIVATIONS if act != "relu"]


def torch_arguments(name: str, settings) -> dict:
    _, fixed, translation, _ = OPTIMISERS[name]
    arguments = {word: getattr(settings, ours) for ours, word in translation.items() if word != "betas"}
    if "betas" in translation.values():
        arguments["betas"] = (settings.beta1, settings.beta2)
    return fixed | arguments


def assert_steps_as_torch(name: str, act: str, dtype: torch.dtype, tolerance: float, **schedule) -> None:
    """Three stacked runs, each beside torch's optimiser, whose rate follows `cosine` where a schedule is given."""
    kind, _, _, variants = OPTIMISERS[name]
    R, chosen = len(variants), method(name)
    x, y = tiny_data(dtype)
    params = initialise(WIDTHS, range(R), "normal(0.5)", dtype)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).view(-1, BATCH)
    batches, given = (torch.arange(ROWS).view(1, -1), None) if chosen.full_batch else (order, order)
    keys = sorted({key for variant in variants for key in variant})
    stacked = {key: [variant.get(key, getattr(chosen.settings(), key)) for variant in variants] for key in keys}
    b = [b[:, 0] for b in params.b]
    run = start(name, x, y, params.W, b, act, given, steps=STEPS, **stacked, **schedule)
    alone = []
    for r, variant in enumerate(variants):
        weights = [W[r].clone().requires_grad_() for W in params.W]
        biases = [b[r, 0].clone().requires_grad_() for b in params.b]
        optimiser = kind(weights + biases, **torch_arguments(name, chosen.settings(variant)))
        course = LambdaLR(optimiser, partial(cosine, schedule["warmup"])) if schedule else None
        alone.append((weights, biases, optimiser, course))
    for k in range(STEPS):
        rows = batches[k % len(batches)]
        run.step()
        ours = run.variables()
        for r, (weights, biases, optimiser, course) in enumerate(alone):
            optimiser.zero_grad()
            loss(x[rows], y[rows], weights, biases, act).backward()
            optimiser.step()
            if course:
                course.step()
            for l in range(len(WIDTHS) - 1):
                assert largest_difference(ours[f"W{l + 1}"][r], weights[l].detach()) <= tolerance, (k, r, l)
                assert largest_difference(ours[f"b{l + 1}"][r], biases[l].detach()) <= tolerance, (k, r, l)
    assert all((ours["W1"][r] - params.W[0][r]).abs().max() > 1e-4 for r in range(R))


def cosine(warmup: float, k: int) -> float:
    """The schedule of SPEC 10, written anew."""
    w = warmup * STEPS
    return min(1.0, (k + 1) / w) if k < w else (1 + math.cos(math.pi * (k - w) / (STEPS - w))) / 2


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["double", "single"])
@pytest.mark.parametrize("name, act", CASES, ids=[f"{name}-{act}" for name, act in CASES])
def test_a_method_steps_exactly_as_torch_optim(name, act, dtype, tolerance):
    assert_steps_as_torch(name, act, dtype, tolerance)


@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_cosine_schedule_steps_as_torch_optim_under_lambda_lr(name, warmup):
    assert_steps_as_torch(name, "relu", torch.float64, 1e-12, schedule="cosine", warmup=warmup)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta"])
def test_defaults_are_torch_optims(name):
    """What the docstrings mean by equal: the defaults too, but for the step size where torch's is not a usual one."""
    kind, fixed, translation, _ = OPTIMISERS[name]
    defaults = kind([torch.zeros(1, requires_grad=True)], **fixed).defaults
    x, y = tiny_data()
    settings = start(name, x, y, [torch.zeros(3, 6)], [torch.zeros(3)], batches=[[0, 1]]).method.settings()
    for word, value in torch_arguments(name, settings).items():
        if word != "lr":
            assert defaults[word] == value, word


def test_a_power_has_the_digits_in_a_stack_that_it_has_alone():
    bases = torch.full((17, 1, 1), 0.95, dtype=torch.float64)
    for k in range(1, 500):
        assert (power(bases, k) == power(bases[:1].clone(), k)).all()
        assert (power(0.96, bases * k) == power(0.96, bases[:1] * k)).all()
        assert power(0.95, k) == 0.95**k
