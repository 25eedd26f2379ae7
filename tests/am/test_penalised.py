"""The sweep of the penalised problem: its costs, its independence of neighbours, and what it remembers."""

import pytest
import torch
from conftest import blocks, launch, middle, spread

import am.linalg
import am.penalised_state
from am.activations import activation
from am.counters import flops_of
from am.method import Problem, stack
from am.methods import method
from am.networks import initialise
from am.penalised_steps import gram_multiply_adds

METHODS = ("tiam", "mdlam", "mdlam-released", "ipdlam")
every_method = pytest.mark.parametrize("name", METHODS)


def charged(run) -> torch.Tensor:
    """FLOPs of the next step, as the state counts them."""
    before = run.state.flops.clone()
    run.step()
    return run.state.flops - before


@every_method
@pytest.mark.parametrize("rule", ["backtracking", "lipschitz"])
@pytest.mark.parametrize("values", [{}, dict(rho=10.0, tau_0=1e-3, epsilon_0=0.5)], ids=["calm", "many doublings"])
def test_a_step_is_charged_what_its_matrix_products_cost(name, rule, values):
    chosen = method(name)
    values = dict(step_rule=rule) | values
    if name == "mdlam-released":
        values["inertia"] = True
    run = launch(chosen, [middle(chosen, values)], [0])
    found = []
    for _ in range(12):
        measured = flops_of(lambda: found.append(charged(run)))
        assert found[-1].tolist() == [measured]


@every_method
def test_a_neighbour_with_many_doublings_costs_a_run_nothing(name):
    chosen = method(name)
    calm, wild = middle(chosen), middle(chosen, dict(rho=10.0, tau_0=1e-6))
    alone, beside = launch(chosen, [calm], [0]), launch(chosen, [calm, wild], [0, 1])
    for _ in range(8):
        cost, costs = charged(alone), charged(beside)
        assert costs[0] == cost[0]
    assert beside.state.flops[1] > beside.state.flops[0]


def test_a_wide_gram_matrix_is_counted_as_it_is_computed():
    for d in (7, 512, 700):
        assert flops_of(lambda d=d: am.linalg.gram(torch.rand(3, d))) == 2 * gram_multiply_adds(3, d)


@pytest.fixture
def threads():
    """A function that sets the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@every_method
@pytest.mark.parametrize(
    "count, dtype",
    [
        (1, torch.float32),
        (1, torch.float64),
        # Two threads for each of the processes that share the cores would wait for one another.
        pytest.param(2, torch.float32, marks=pytest.mark.slow),
    ],
)
def test_every_number_of_a_run_is_the_same_alone_and_in_a_stack(name, count, dtype, threads):
    """Bit for bit, over rows enough for every reduction to be shared among threads."""
    threads(count)
    chosen, rows, widths = method(name), 40_000, (20, 13, 9, 4)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, widths[0], generator=generator).to(dtype)
    y = torch.randint(widths[-1], (rows,), generator=generator)
    settings, seeds = spread(chosen), [3, 1, 4]

    def run(which: list[int]) -> dict[str, torch.Tensor]:
        params = initialise(widths, [seeds[r] for r in which], "normal(0.5)", dtype)
        problem, hp = Problem(x, y, activation("relu")), stack([settings[r] for r in which], x)
        state = chosen.init(problem, params, hp)
        for k in range(3):
            chosen.step(state, problem, hp, k)
        shown = state.variables() | chosen.by_hand.variables(state)
        return shown | dict(objective=chosen.by_hand.objective(state, problem, hp), flops=state.flops)

    together = run([0, 1, 2])
    for r in range(3):
        for key, u in run([r]).items():
            assert torch.equal(together[key][r : r + 1], u), key


@every_method
def test_variables_set_by_hand_are_what_the_next_step_starts_from(name):
    """What the sweep remembers of products is that of the variables as they stand."""
    chosen = method(name)
    moved, fresh = (launch(chosen, spread(chosen), [0, 1, 2]) for _ in range(2))
    moved.step(3)
    for key, u in fresh.state.variables().items():
        moved.state.variables()[key].copy_(u)
        moved.state.last[key].copy_(u)
    moved.iterations = 0
    moved.state.rho.copy_(fresh.state.rho)
    moved.step()
    fresh.step()
    for key, u in blocks(fresh).items():
        assert torch.equal(blocks(moved)[key], u), key


@every_method
def test_rows_in_small_blocks_give_the_same_step(name, monkeypatch):
    chosen = method(name)
    whole = launch(chosen, spread(chosen), [0, 1, 2]).step(10)
    monkeypatch.setattr(am.penalised_state, "STEP_ROWS", 7)
    parts = launch(chosen, spread(chosen), [0, 1, 2]).step(10)
    for key, u in blocks(whole).items():
        assert (blocks(parts)[key] - u).abs().max() <= 1e-9 * u.abs().max().clamp(min=1), key
