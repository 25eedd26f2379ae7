"""The straightforward methods against `am`'s."""

import pytest
import torch
from conftest import WIDTHS, tiny_data

import am
from am.counters import flops_of
from am.errors import InputError
from reproduce import straightforward
from reproduce.bench.measure import FULL_BATCH

# On 24 rows the papers' constants leave blocks where they start.
SETTINGS = {
    "tiam": dict(rho=0.3, mu=0.01, epsilon_0=1.0, theta_0=0.05),
    "mdlam": dict(rho=0.3, mu=0.01, epsilon_0=1.0, theta_0=0.05),
    "dladmm": dict(rho=0.05, theta_0=1e-3, tau_0=1e-3),
    "bcd": dict(),
    "am-adam": dict(halve_every=1),
    "samt": dict(),
    "sam": dict(),
}


def pair(name, activation_name="relu", dtype=torch.float64, seed=3, **settings):
    """am's run and the straightforward one, from one start."""
    x, y = tiny_data(dtype)
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: 0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
    W = [draw(b, a) for a, b in zip(WIDTHS, WIDTHS[1:])]
    b = [draw(n) for n in WIDTHS[1:]]
    batches = torch.randperm(len(x), generator=generator).view(3, -1)
    given = {} if name in FULL_BATCH else dict(batches=batches)
    hp = SETTINGS[name] | settings
    return (
        am.start(name, x, y, W, b, activation_name, **given, **hp),
        straightforward.start(name, x, y, W, b, activation_name, batches, **hp),
    )


def worst(fast, slow):
    """Largest difference of any variable, relative to the largest entry of it."""
    u, v = fast.variables(), slow.variables()
    assert not {n for n in set(u) ^ set(v) if "alpha" not in n and n != "fallbacks"}  # SAM's step size is a setting
    flat = lambda t: t.detach().flatten()
    gap = lambda s, t: float((s - t).abs().max() / t.abs().max().clamp(min=1e-12))
    return max(gap(flat(u[n]), flat(v[n])) for n in v if n in u)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("activation_name", ["relu", "leaky_relu", "elu", "softplus"])
def test_straightforward_iterations_are_those_of_am(name, activation_name):
    fast, slow = pair(name, activation_name)
    begun = {key: value.detach().clone() for key, value in slow.variables().items()}
    for _ in range(6):
        fast.step()
        slow.step()
        assert worst(fast, slow) < 1e-9
    for l in range(1, len(WIDTHS)):
        assert float((slow.variables()[f"W{l}"].detach() - begun[f"W{l}"]).abs().max()) > 1e-6


@pytest.mark.parametrize("name", ["tiam", "mdlam", "dladmm"])
def test_the_released_majoriser_changes_the_work_and_not_the_iterates(name):
    fast, slow = pair(name)
    _, released = pair(name)
    released.as_released = True
    counts = [flops_of(lambda run=run: run.step(3)) for run in (slow, released)]
    assert counts[1] > counts[0] > 0 and slow.trials == released.trials > 3 * len(WIDTHS)
    assert worst(fast.step(3), released) < 1e-9


def test_straightforward_samt_under_other_settings():
    fast, slow = pair("samt", shape="element", meta="gd", inner_steps=2, order="backward")
    assert worst(fast.step(5), slow.step(5)) < 1e-9


def test_a_method_without_a_straightforward_form_is_named():
    with pytest.raises(InputError, match="no straightforward 'gd'; there are tiam, "):
        straightforward.start("gd", torch.rand(2, 2), torch.zeros(2), [], [])
