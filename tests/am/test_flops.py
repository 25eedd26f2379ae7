"""FLOPs of a run: what a counter of torch's counts on that run alone, and nothing of its neighbours."""

import dataclasses

import pytest
import torch
from conftest import middle
from torch.utils.flop_counter import FlopCounterMode

from am.activations import activation
from am.batches import Batches
from am.method import Method, Problem, stack
from am.methods import method, methods
from am.networks import initialise

NETWORKS = [(6, 8, 8, 3), (7, 20, 4, 5), (5, 9, 3)]
ROWS, BATCHES = 24, (4, 8)
PROGRAMS = ("inner_steps", "code_steps", "local_steps")  # whole numbers that repeat a part of a step


def programs() -> list:
    """Every method as it stands and with every other value of the settings that shape its program."""
    found = [pytest.param(name, {}, id=name) for name in methods()]
    for name, chosen in methods().items():
        for f in dataclasses.fields(chosen.hyperparameters):
            values = f.metadata["choices"] or ((True, False) if isinstance(f.default, bool) else ())
            values = (1, 3) if f.name in PROGRAMS else values if not isinstance(f.default, float) else ()
            found += [pytest.param(name, {f.name: v}, id=f"{name}-{f.name}={v}") for v in values if v != f.default]
    return found


def steps_of(chosen: Method, overrides: dict, widths: tuple[int, ...], batch: int) -> list[tuple[int, int]]:
    """Steps 1 to 4 of a single run: FLOPs as counted and as the method says."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(ROWS, widths[0], generator=generator, dtype=torch.float64)
    y = torch.randint(0, widths[-1], (ROWS,), generator=generator)
    settings = middle(chosen, overrides)
    batches = None if chosen.full_batch else Batches(x, y, seeds=[0], batch_size=batch)
    problem, hp = Problem(x, y, activation("relu"), batches, 10), stack([settings], x)
    state = chosen.init(problem, initialise(widths, [0], "normal(0.5)", torch.float64), hp)
    chosen.step(state, problem, hp, 0)
    pairs = []
    for k in range(1, 5):
        before = 0 if chosen.cost.flops else int(state.flops)
        with FlopCounterMode(display=False) as counter:
            chosen.step(state, problem, hp, k)
        rows = ROWS if chosen.full_batch else batch
        said = chosen.cost.flops(widths, rows, settings) if chosen.cost.flops else int(state.flops) - before
        pairs.append((counter.get_total_flops(), said))
    return pairs


@pytest.mark.parametrize("name, overrides", programs())
def test_a_method_says_what_a_counter_counts(name, overrides):
    chosen = method(name)
    for widths in NETWORKS:
        for batch in BATCHES[: 1 if chosen.full_batch else None]:
            if chosen.requires(chosen.settings(), activation("relu"), widths) is None:
                pairs = steps_of(chosen, overrides, widths, batch)
                assert [counted for counted, _ in pairs] == [said for _, said in pairs], (widths, batch)
                assert min(said for _, said in pairs) > 0
