"""A tiny problem, and runs of any method on it, for the tests of the library."""

import dataclasses
from typing import Any

import pytest
import torch

from am.activations import activation
from am.batches import Batches
from am.method import Method, Problem, stack
from am.networks import Parameters, initialise
from am.run import Run

ROWS, BATCH = 24, 8
STEPS = 40  # more than any test makes, for schedules
WIDTHS = (6, 8, 8, 8, 3)  # layers 2 and 3 have one shape, so that equal draws would show


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True, scope="module")
def csvs_by_hand(request):
    """Tests of statistics and figures make up numbers, which have no checksums: there alone the door takes them.

    A CSV with checksums is looked at as everywhere. tests/evidence/test_door.py has the door as it is.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name in ("judge", "show"):
            patch.setattr("reproduce.evidence.door.foreign", lambda sheet: None)
        yield


def tiny_data(
    dtype: torch.dtype = torch.float64, device: str = "cpu", scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """x: (ROWS, d0) in [0, scale], y: (ROWS,), every class at least once."""
    generator = torch.Generator().manual_seed(7)
    x = scale * torch.rand(ROWS, WIDTHS[0], generator=generator, dtype=torch.float64)
    y = torch.randint(0, WIDTHS[-1], (ROWS,), generator=generator)
    y[: WIDTHS[-1]] = torch.arange(WIDTHS[-1])
    return x.to(device, dtype), y.to(device)


def launch(
    method: Method,
    settings: list[Any],
    seeds: list[int],
    activation_name: str = "relu",
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    params: Parameters | None = None,
    scale: float = 1.0,
) -> Run:
    """R runs of `method` on the tiny data as the training loop starts them: every stream from the run's own seed."""
    x, y = tiny_data(dtype, device, scale)
    if params is None:
        params = initialise(WIDTHS, seeds, "normal(0.5)", dtype, device)
    batches = None if method.full_batch else Batches(x, y, seeds=seeds, batch_size=BATCH)
    problem, hp = Problem(x, y, activation(activation_name), batches, STEPS), stack(settings, x)
    return Run(method, problem, hp, method.init(problem, params, hp), single=False)


def floats(method: Method) -> list[dataclasses.Field]:
    """The settings in which the runs of one stack may differ."""
    return [f for f in dataclasses.fields(method.hyperparameters) if isinstance(f.default, float)]


def middle(method: Method, overrides: dict[str, Any] | None = None, share: float = 1.0) -> Any:
    """The middle of the search space, where one is given, times `share`: the defaults of some are for large data."""
    space = method.search_space()
    values = {
        f.name: max(f.metadata["low"], share * (space[f.name].at(0.5) if f.name in space else f.default))
        for f in floats(method)
    }
    return method.settings(values | (overrides or {}))


def spread(method: Method, overrides: dict[str, Any] | None = None) -> list[Any]:
    """Settings of three runs that differ in every float."""
    return [middle(method, overrides, share) for share in (1.0, 0.8, 0.6)]


def blocks(run: Run) -> dict[str, torch.Tensor]:
    """The variables that the method moves: W1, b1, ... and what else it keeps; no counters, no scheduled settings."""
    settings = {f.name for f in dataclasses.fields(run.method.hyperparameters)}
    return {name: t for name, t in run.variables().items() if t.is_floating_point() and name not in settings}


def largest_difference(u: torch.Tensor, v: torch.Tensor) -> float:
    """max |u - v| relative to max |v|."""
    return float((u - v).abs().max() / v.abs().max().clamp(min=torch.finfo(v.dtype).tiny))


def drawn(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    """Standard normal numbers times `scale`, in double precision."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
