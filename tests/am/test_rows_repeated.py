"""Constants belong to a number of rows (SPEC 8): every row written k times, with them times k, is the same problem."""

import pytest
import torch

import am
from am.activations import ACTIVATIONS
from am.methods import method

METHODS = ("tiam", "mdlam", "mdlam-released", "ipdlam", "dladmm", "dladmm-released", "bcd", "pdadmm")
MONOTONE = [name for name, act in ACTIVATIONS.items() if act.monotone]
ITERATIONS, AGREEMENT = 20, 1e-9
WIDTHS, ROWS, CLASSES = (6, 7, 5, 3), 30, 3


def trained(name: str, activation: str, times: int) -> dict[str, torch.Tensor]:
    """W, b after 20 iterations on every row written `times` times, with the marked constants times `times`."""
    generator = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    x, y = normal(ROWS, WIDTHS[0]), torch.randint(CLASSES, (ROWS,), generator=generator)
    weights = [0.4 * normal(e, d) for d, e in zip(WIDTHS, WIDTHS[1:])]
    biases = [0.1 * normal(e) for e in WIDTHS[1:]]
    chosen = method(name)
    settings = vars(chosen.scaled(chosen.settings(), times))
    run = am.start(
        name, x.repeat_interleave(times, 0), y.repeat_interleave(times), weights, biases, activation, **settings
    )
    variables = run.step(ITERATIONS).variables()
    return {key: variables[key] for key in variables if key[0] in "Wb"}


@pytest.mark.parametrize("activation", MONOTONE)
@pytest.mark.parametrize("name", METHODS)
def test_repeated_rows_with_scaled_constants_are_the_same_problem(name, activation):
    once, thrice = trained(name, activation, 1), trained(name, activation, 3)
    for key, u in once.items():
        assert (thrice[key] - u).abs().max() <= AGREEMENT, key


@pytest.mark.parametrize("name", METHODS)
def test_without_scaling_it_is_another_problem(name, monkeypatch):
    once = trained(name, "relu", 1)
    monkeypatch.setattr(type(method(name)), "scaled", lambda self, settings, share: settings)
    assert any((trained(name, "relu", 3)[key] - u).abs().max() > 1e-3 for key, u in once.items())
