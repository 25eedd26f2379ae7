"""A GPU's way of every step on a CPU's tensors: the same numbers as the CPU's way, to rounding."""

import dataclasses

import pytest
import torch
from conftest import largest_difference, launch, spread

from am import devices
from am.methods import method, methods

STEPS = 5
OWN = {"soap": dict(largest_side=3, interval=2)}  # where no eigenvector is rounding's to choose


def programs() -> list:
    """Every method, and every value of every setting that chooses what its steps do."""
    found = []
    for name, chosen in methods().items():
        found.append(pytest.param(name, {}, id=name))
        for f in dataclasses.fields(chosen.hyperparameters):
            values = f.metadata["choices"] or ((True, False) if isinstance(f.default, bool) else ())
            found += [pytest.param(name, {f.name: v}, id=f"{name}-{f.name}={v}") for v in values if v != f.default]
    return found


def moved(name: str, overrides: dict, runs: int, activation: str = "relu") -> dict[str, torch.Tensor]:
    """W and b after some steps."""
    chosen = method(name)
    settings = spread(chosen, OWN.get(name, {}) | overrides)[:runs]
    variables = launch(chosen, settings, list(range(runs)), activation).step(STEPS).variables()
    return {name: t for name, t in variables.items() if name[0] in "Wb"}


def same(name: str, overrides: dict, runs: int, monkeypatch: pytest.MonkeyPatch, activation: str = "relu") -> None:
    expected = moved(name, overrides, runs, activation)
    monkeypatch.setattr(devices, "on_gpu", lambda t: True)
    for variable, found in moved(name, overrides, runs, activation).items():
        assert largest_difference(found, expected[variable]) < (1e-9 if method(name).well_posed else 1e-7), variable


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("name, overrides", programs())
def test_a_step_goes_on_a_gpu_as_on_a_cpu(name, overrides, runs, monkeypatch):
    same(name, overrides, runs, monkeypatch)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("activation", ["elu", "relu6", "softplus"])
@pytest.mark.parametrize("name", ["bcd", "dladmm", "pdadmm", "tiam"])
def test_a_prox_goes_on_a_gpu_as_on_a_cpu(name, activation, runs, monkeypatch):
    same(name, {}, runs, monkeypatch, activation)
