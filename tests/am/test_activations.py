"""Activations: derivatives and inverses, and the scalar prox against dense grids in every regime of its arguments."""

import math

import pytest
import torch
from scalars import scalar_prox

import am.activations.base
from am.activations import ACTIVATIONS, activation
from am.errors import InputError

MONOTONE = sorted(name for name, act in ACTIVATIONS.items() if act.monotone)
SMOOTH = ["celu", "elu", "selu", "softplus"]
each_monotone = pytest.mark.parametrize("name", MONOTONE)


def draw(n: int, scale: float, seed: int = 0, runs: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """c and a, each (runs, n, 3), a mixture of numbers around 0 and of `scale`."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda: torch.randn(runs, n, 3, generator=generator, dtype=torch.float64)
    return scale * normal(), scale * normal() * torch.rand(runs, n, 3, generator=generator, dtype=torch.float64)


def weight(w: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full((len(like), 1, 1), w, dtype=like.dtype)


def value(name, z, c, a, w):
    return (z - c).square() + w * (a - ACTIVATIONS[name].value(z)).square()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_the_derivative_is_that_of_the_value(name):
    act = activation(name)
    z = torch.linspace(-8, 8, 400, dtype=torch.float64)  # the kinks 0 and 6 lie between its points
    step = 1e-6
    numeric = (act.value(z + step) - act.value(z - step)) / (2 * step)
    assert torch.allclose(act.derivative(z, act.value(z)), numeric, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_a_run_has_the_digits_in_a_stack_that_it_has_alone(name, dtype):
    """Bit for bit, at sizes that are no multiple of what a CPU works on at once."""
    act = activation(name)
    functions = {"value": act.value, "derivative": lambda z: act.derivative(z, act.value(z))}
    if act.monotone:
        one = lambda z: torch.ones_like(z[:, :1, :1])
        functions |= {"lower": act.lower, "upper": act.upper, "prox": lambda z: act.prox(z, z.flip(1), one(z))}
    for runs, *shape in ((3, 17, 3), (17, 5, 1), (16, 7, 10), (3, 128, 33)):
        z = 3 * torch.randn(runs, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
        for key, function in functions.items():
            assert torch.equal(function(z), torch.cat([function(z[r : r + 1].clone()) for r in range(runs)])), key


@each_monotone
def test_the_preimage_of_an_interval_is_where_h_lies_in_it(name):
    act = activation(name)
    ends = torch.linspace(-3, 7.3, 41, dtype=torch.float64)
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    h = act.value(z)
    for low, high in zip(ends, ends + 0.7):
        inside = (h >= low) & (h <= high)
        if inside.any():
            first, last = act.lower(low), act.upper(high)
            assert (z[inside] >= first - 1e-9).all() and (z[inside] <= last + 1e-9).all()
            beyond = ~inside & (z > first + 1e-9) & (z < last - 1e-9)
            assert not beyond.any()


@each_monotone
@pytest.mark.parametrize("w", [0.01, 1 / 6, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("scale", [1.0, 4.0, 20.0])
def test_the_prox_is_nowhere_above_a_dense_grid(name, w, scale):
    c, a = draw(60, scale)
    z = activation(name).prox(c, a, weight(w, c))
    reach = math.sqrt(w) * (a - ACTIVATIONS[name].value(c)).abs()  # (z - c)^2 <= w (a - h(c))^2 at the minimiser
    assert ((z - c).abs() <= reach * (1 + 1e-9) + 1e-9).all()
    grid = torch.linspace(-1, 1, 6001, dtype=torch.float64)
    least = value(name, c[..., None] + reach[..., None] * grid, c[..., None], a[..., None], w).amin(-1)
    assert (value(name, z, c, a, w) <= least + 1e-9 * (1 + least)).all()


@each_monotone
@pytest.mark.parametrize("w", [1 / 6, 1.0, 30.0])
def test_the_prox_is_the_global_minimiser_to_1e9(name, w):
    c, a = draw(25, 3.0, seed=1)
    z = activation(name).prox(c, a, weight(w, c))
    slow = torch.tensor([scalar_prox(name, *pair, w) for pair in zip(c.flatten().tolist(), a.flatten().tolist())])
    assert (z.flatten() - slow.double()).abs().max() < 1e-9


@each_monotone
def test_no_perturbation_of_the_prox_lowers_its_objective(name):
    c, a = draw(40, 2.0, seed=2, runs=2)
    w = torch.tensor([0.2, 5.0], dtype=torch.float64).view(2, 1, 1)
    z = activation(name).prox(c, a, w)
    least = value(name, z, c, a, w)
    generator = torch.Generator().manual_seed(3)
    for i in range(100):
        other = z + 10.0 ** (-4 + i % 5) * torch.randn(z.shape, generator=generator, dtype=z.dtype)
        assert (value(name, other, c, a, w) >= least - 1e-12).all()


@pytest.mark.parametrize("name", SMOOTH)
def test_of_two_minima_of_a_smooth_activation_the_prox_finds_the_lower(name):
    """c far below and a far above: one minimum near c, where h is flat, and one near h^-1(a). Both must occur."""
    c = torch.linspace(-12, 0, 61, dtype=torch.float64).view(1, -1, 1)
    a = torch.full_like(c, 6.0)
    z = activation(name).prox(c, a, weight(1.0, c)).flatten()
    jumps = (z[1:] - z[:-1]).abs() > 2
    assert jumps.sum() == 1 and (z[0] - c[0, 0]).abs() < 0.1 and z[-1] > 2
    slow = torch.tensor([scalar_prox(name, v, 6.0, 1.0) for v in c.flatten().tolist()], dtype=torch.float64)
    assert (z - slow).abs().max() < 1e-9


def test_relu_takes_the_better_of_its_two_closed_forms():
    """SPEC 4: min(c, 0) or max((c + a) / 2, 0), by (z - c)^2 + (a - h(z))^2."""
    c, a = draw(5000, 2.0, seed=4)
    left, right = c.clamp(max=0), ((c + a) / 2).clamp(min=0)
    best = torch.where(value("relu", left, c, a, 1.0) > value("relu", right, c, a, 1.0), right, left)
    z = activation("relu").prox(c, a, weight(1.0, c))
    assert (z - best).abs().max() < 1e-12
    assert ((z == left) & (left < 0)).any() and ((right - z).abs() < 1e-12).any()


@each_monotone
def test_the_prox_at_a_consistent_pair_is_the_point_itself(name):
    z = torch.linspace(-5, 5, 101, dtype=torch.float64).view(1, -1, 1)
    assert (activation(name).prox(z, activation(name).value(z), weight(3.0, z)) - z).abs().max() < 1e-10


@each_monotone
def test_a_runs_prox_depends_on_no_neighbour(name, monkeypatch):
    """Bit for bit: other runs of the stack, NaN among them; and to rounding on how the work is cut into blocks."""
    act = activation(name)
    c, a = draw(50, 3.0, seed=5, runs=3)
    w = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64).view(3, 1, 1)
    together = act.prox(c, a, w)
    for r in range(3):
        assert torch.equal(act.prox(c[r : r + 1], a[r : r + 1], w[r : r + 1])[0], together[r])
    poisoned = c.clone()
    poisoned[1, ::2] = math.nan
    poisoned[1, 1::2] = math.inf
    assert torch.equal(act.prox(poisoned, a, w)[[0, 2]], together[[0, 2]])
    monkeypatch.setattr(am.activations.base, "PROX_BLOCK", 7)
    assert (act.prox(c, a, w) - together).abs().max() < 1e-12


@each_monotone
def test_the_prox_serves_float32_and_writes_where_it_is_told(name):
    c, a = draw(200, 3.0, seed=6)
    exact = activation(name).prox(c, a, weight(1.0, c))
    c, a = c.float(), a.float()
    out = torch.empty_like(c)
    z = activation(name).prox(c, a, weight(1.0, c), out=out)
    assert z is out and z.dtype == torch.float32
    excess = value(name, z.double(), c.double(), a.double(), 1.0) - value(name, exact, c.double(), a.double(), 1.0)
    assert excess.max() < 1e-4
    assert ((z - exact).abs() < 1e-4).float().mean() > 0.99  # where two minima are equal to rounding, either will do


@each_monotone
def test_extreme_arguments_stay_finite(name):
    c = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4], dtype=torch.float64)
    c, a = (t.reshape(1, -1, 1) for t in torch.meshgrid(c, c, indexing="ij"))
    for w in (1e-6, 1.0, 1e6):
        z = activation(name).prox(c, a, weight(w, c))
        excess = value(name, z, c, a, w) - value(name, c, c, a, w)
        assert z.isfinite().all()
        assert excess.max() <= 1e-12 * w * 1e8, w  # rounding of h(z) - a, squared


def test_activations_that_are_not_monotone_have_no_prox():
    for act in ACTIVATIONS.values():
        assert act.monotone is (act.scalar_prox is not None), act.name
    assert not ACTIVATIONS["gelu"].monotone
    with pytest.raises(InputError, match="did you mean 'softplus'"):
        activation("softplu")


@pytest.mark.gpu
@each_monotone
def test_a_gpu_finds_the_same_minima(name):
    c, a = draw(500, 3.0, seed=7, runs=2)
    w = torch.tensor([0.3, 3.0], dtype=torch.float64).view(2, 1, 1)
    z = activation(name).prox(c.cuda(), a.cuda(), w.cuda())
    assert (z.cpu() - activation(name).prox(c, a, w)).abs().max() < 1e-10


@pytest.mark.parametrize("name", [n for n, act in ACTIVATIONS.items() if act.open_below > -math.inf])
def test_pre_images_are_monotone_up_to_the_open_end_of_the_range(name):
    """SPEC 1: bounds below m + 1e-6 are inverted there (upper) or bound nothing (lower), whatever their last digits."""
    act = ACTIVATIONS[name]
    m = act.open_below
    bounds = torch.tensor([m - 1, m, m + 1e-15, m + 5e-7, m + 1e-6, m + 2e-6, m + 1e-3, m + 0.5], dtype=torch.float64)
    upper, lower = act.upper(bounds), act.lower(bounds)
    assert (upper.diff() >= 0).all() and (lower[4:].diff() > 0).all()
    assert (upper[:4] == upper[4]).all() and (lower[:4] == -math.inf).all()
    assert torch.allclose(act.value(upper[4:]), bounds[4:], rtol=0, atol=1e-9)
    assert torch.equal(lower[4:], upper[4:])
