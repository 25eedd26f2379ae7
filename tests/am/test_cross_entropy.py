"""The cross-entropy and its proximal point, against slow and obvious computations."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import drawn, largest_difference

from am.cross_entropy import cross_entropy, log_wright_omega, logits_gradient, prox_cross_entropy


def test_cross_entropy_equals_torchs_and_survives_huge_logits():
    y = torch.tensor([0, 2, 1, 2])
    each = torch.stack([y, y.flip(0)])
    for scale in (1.0, 1e3):
        z = drawn(0, 2, 4, 3, scale=scale)
        for labels in (y, each):
            own = labels.expand(2, -1)
            expected = [F.cross_entropy(z[r], own[r], reduction="sum") for r in range(2)]
            assert largest_difference(cross_entropy(z, labels), torch.stack(expected)) < 1e-14
    assert cross_entropy(drawn(0, 2, 4, 3).float(), y).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_has_the_digits_in_a_stack_that_it_has_alone(dtype):
    y, rho = torch.arange(13) % 5, torch.logspace(-3, 1, 17, dtype=dtype).view(-1, 1, 1)
    z = drawn(0, 17, 13, 5, scale=3.0).to(dtype)
    functions = {
        "value": lambda z, rho: cross_entropy(z, y),
        "gradient": lambda z, rho: logits_gradient(z, y),
        "prox": lambda z, rho: prox_cross_entropy(z, y, rho),
        "prox from near": lambda z, rho: prox_cross_entropy(z, y, rho, near=z),
        "omega": lambda z, rho: log_wright_omega(z),
    }
    for name, function in functions.items():
        alone = [function(z[r : r + 1].clone(), rho[r : r + 1].clone()) for r in range(17)]
        assert torch.equal(function(z, rho), torch.cat(alone)), name


# The proximal point of the cross-entropy

RHOS = torch.logspace(-6, 2, 9, dtype=torch.float64).view(-1, 1, 1)
PROX_LABELS = torch.randint(0, 10, (40,), generator=torch.Generator().manual_seed(0))


def prox_points(scale: float) -> torch.Tensor:  # (9, 40, 10), largest entry `scale`
    c = drawn(1, len(RHOS), 40, 10)
    return c * (scale / c.abs().max())


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 30.0, 1e3])
def test_the_prox_of_the_cross_entropy_is_stationary(scale):
    c = prox_points(scale or 1.0) * (scale > 0)
    z = prox_cross_entropy(c, PROX_LABELS, RHOS)
    residual = torch.softmax(z, 2) - F.one_hot(PROX_LABELS, 10) + RHOS * (z - c)
    assert residual.abs().max() < 1e-10


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0, 1e3])
def test_the_prox_in_single_precision_is_the_rounded_one(scale):
    c = prox_points(scale).float()
    single, double = prox_cross_entropy(c, PROX_LABELS, RHOS.float()), prox_cross_entropy(c.double(), PROX_LABELS, RHOS)
    assert single.dtype == torch.float32
    assert ((single - double).abs() / double.abs().clamp(min=1)).max() < 1e-4


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_prox_beats_random_perturbations(scale):
    """By at least what strong convexity demands: f(z + D) >= f(z) + rho/2 ||D||^2, for each sample alone."""
    c = prox_points(scale)
    z = prox_cross_entropy(c, PROX_LABELS, RHOS)
    labels = PROX_LABELS.view(1, -1, 1).expand(len(RHOS), -1, 1)
    f = lambda v: v.logsumexp(2) - v.gather(2, labels).squeeze(2) + RHOS[:, :, 0] / 2 * (v - c).square().sum(2)
    for trial in range(100):
        D = drawn(100 + trial, *z.shape, scale=10.0 ** (trial % 5 - 3))
        gain = f(z + D) - f(z) - RHOS[:, :, 0] / 2 * D.square().sum(2)
        assert (gain > -1e-9 * (1 + f(z))).all()


@pytest.mark.parametrize("guess", ["the solution", "near", "far", "not a number"])
def test_a_guess_of_the_prox_changes_no_answer(guess):
    c = prox_points(30.0)
    z = prox_cross_entropy(c, PROX_LABELS, RHOS)
    off = {"the solution": 0.0, "near": 0.1, "far": 1e4, "not a number": 0.0}[guess]
    near = z + off * drawn(3, *z.shape)
    if guess == "not a number":
        near[4] = math.nan
    found = prox_cross_entropy(c, PROX_LABELS, RHOS, near=near)
    residual = torch.softmax(found, 2) - F.one_hot(PROX_LABELS, 10) + RHOS * (found - c)
    others = torch.arange(len(RHOS)) != (4 if guess == "not a number" else -1)
    assert residual[others].abs().max() < 1e-10


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("neighbour", ["hard", "easy", "not a number"])
def test_the_prox_of_a_run_is_bitwise_its_own(neighbour, warm):
    """Its number of Newton steps is its own: a run never takes one more because another needs it."""
    c, y = drawn(0, 3, 40, 10), PROX_LABELS
    rho = torch.tensor([0.5, 1e-6 if neighbour == "hard" else 2.0, 1e-2], dtype=torch.float64).view(-1, 1, 1)
    c[1] *= {"hard": 1e3, "easy": 1e-3, "not a number": math.nan}[neighbour]
    near = c + 0.01 * drawn(1, *c.shape) if warm else None
    together = prox_cross_entropy(c, y, rho, near=near)
    for r in (0, 2):
        run = slice(r, r + 1)
        alone = prox_cross_entropy(c[run], y, rho[run], near=near[run] if warm else None)
        assert torch.equal(together[run], alone)


def test_each_run_has_its_own_labels_if_given():
    c, y = drawn(0, 2, 5, 3), torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    rho = torch.tensor([0.1, 3.0], dtype=torch.float64).view(-1, 1, 1)
    z = prox_cross_entropy(c, y, rho)
    for r in range(2):
        assert torch.equal(z[r : r + 1], prox_cross_entropy(c[r : r + 1], y[r], rho[r : r + 1]))


def test_log_wright_omega_solves_its_equation():
    x = torch.cat([torch.linspace(-50, 50, 2001), torch.logspace(2, 8, 200)]).double()
    t = log_wright_omega(x)
    assert ((t + torch.exp(t) - x).abs() / x.abs().clamp(min=1)).max() < 1e-13
    assert torch.equal(log_wright_omega(torch.tensor([-700.0], dtype=torch.float64)), torch.tensor([-700.0]).double())
