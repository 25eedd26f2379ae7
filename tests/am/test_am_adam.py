"""AM-Adam and its released form: what sets the two apart, and what each setting does."""

import pytest
import torch
import torch.nn.functional as F

import am
from am.methods.am_adam import mse_gradient

FORMS = ["am-adam", "am-adam-released"]
ROWS, BATCH, WIDTHS = 24, 8, (5, 6, 4, 3)


def launch(name: str, runs: tuple[int, ...] = (0, 1, 2), widths: tuple = WIDTHS, poison: int = -1, **values) -> am.Run:
    """The chosen runs of three, each with weights and biases of its own; `poison` is the run that gets a NaN."""
    generator = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    x, y = normal(ROWS, widths[0]), torch.randint(widths[-1], (ROWS,), generator=generator)
    weights = [normal(3, e, d) / d**0.5 for d, e in zip(widths, widths[1:])]
    biases = [normal(3, e) for e in widths[1:]]
    batches = torch.arange(ROWS).view(-1, BATCH)
    chosen = [[u[list(runs)] for u in layers] for layers in (weights, biases)]
    run = am.start(name, x, y, *chosen, batches=batches, **values)
    if poison >= 0:
        weights[1][poison, 0, 0] = torch.nan
        run.set_variables(W2=weights[1])
    return run


def largest_difference(u: dict[str, torch.Tensor], v: dict[str, torch.Tensor]) -> float:
    return max((u[name] - v[name]).abs().max().item() for name in u)


@pytest.mark.parametrize("name", FORMS)
def test_a_stacked_run_equals_the_same_run_alone(name):
    rates = dict(learning_rate=[0.01, 0.003, 0.02], mu=[0.01, 0.1, 0.03], code_momentum=[0.9, 0.0, 0.5])
    stacked = launch(name, **rates).step(10).variables()
    for r in range(3):
        alone = launch(name, (r,), **{key: [values[r]] for key, values in rates.items()}).step(10).variables()
        assert largest_difference(alone, {key: u[r : r + 1] for key, u in stacked.items()}) < 1e-12


@pytest.mark.parametrize("name", FORMS)
def test_a_diverging_neighbour_leaves_a_run_bitwise_unchanged(name):
    healthy, poisoned = launch(name).step(5).variables(), launch(name, poison=1).step(5).variables()
    assert poisoned["W1"][1].isnan().any()
    for key, u in healthy.items():
        assert torch.equal(u[[0, 2]], poisoned[key][[0, 2]]), key


@pytest.mark.parametrize("name", FORMS)
def test_hidden_biases_stay_zero_and_all_else_moves(name):
    run = launch(name)
    before, after = run.variables(), run.step(5).variables()
    assert not any(after[b].any() for b in ("b1", "b2"))
    for key in ("W1", "W2", "W3", "b3"):
        assert (before[key] != after[key]).flatten(1).any(1).all(), key


def test_the_forms_part_at_the_second_code_step():
    """At the first step c = c0, where the proximity term has no gradient in either form."""
    codes = lambda name, steps: launch(name, code_steps=steps).step().variables()["c2"]
    assert torch.equal(codes("am-adam", 1), codes("am-adam-released", 1))
    assert not torch.equal(codes("am-adam", 2), codes("am-adam-released", 2))


def test_detaching_the_target_is_all_that_the_released_form_lacks():
    repaired = launch("am-adam-released", detach_target=True).step(5).variables()
    assert largest_difference(repaired, launch("am-adam").step(5).variables()) == 0


def test_the_released_proximity_term_has_no_gradient():
    """The last code then moves by code_rate / mu times the gradient of the loss, whatever the two are."""
    codes = lambda name, scale: launch(name, code_rate=0.1 * scale, mu=0.02 * scale).step().variables()["c2"]
    assert (codes("am-adam-released", 1) - codes("am-adam-released", 8)).abs().max() < 1e-12
    assert (codes("am-adam", 1) - codes("am-adam", 8)).abs().max() > 1e-3


def test_codes_follow_their_gradient_with_nesterov_momentum():
    """Two steps of a network with one hidden layer, by automatic differentiation and torch.optim."""
    run = launch("am-adam", (1,), widths=(5, 6, 3), code_steps=2, code_momentum=0.7, code_rate=0.2, mu=0.05)
    start = run.variables()
    x, y = (t[0] for t in run.problem.batches(0))
    c0 = x @ start["W1"][0].T
    c = c0.clone().requires_grad_()
    sgd = torch.optim.SGD([c], lr=0.2, momentum=0.7, nesterov=True)
    for _ in range(2):
        sgd.zero_grad()
        (F.cross_entropy(torch.relu(c) @ start["W2"][0].T + start["b2"][0], y) / 0.05 + F.mse_loss(c, c0)).backward()
        sgd.step()
    assert (run.step().variables()["c1"][0] - c).abs().max() < 1e-12
    without = launch("am-adam", (1,), widths=(5, 6, 3), code_steps=2, code_momentum=0.0, code_rate=0.2, mu=0.05)
    assert (without.step().variables()["c1"][0] - c).abs().max() > 1e-3


def test_the_learning_rate_halves_every_so_many_epochs():
    """An epoch has three batches; from the fourth on, the step is half of what it would be."""
    constant, halving = launch("am-adam", halve_every=9), launch("am-adam", halve_every=1)
    before = constant.step(3).variables()
    assert largest_difference(before, halving.step(3).variables()) == 0
    whole, half = constant.step().variables()["W2"] - before["W2"], halving.step().variables()["W2"] - before["W2"]
    assert (half - whole / 2).abs().max() < 1e-15


def test_the_gradient_of_the_mean_squared_error():
    u, target = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaf = u.clone().requires_grad_()
    sum(F.mse_loss(v, t) for v, t in zip(leaf, target)).backward()
    assert (mse_gradient(u, target) - leaf.grad).abs().max() < 1e-15
