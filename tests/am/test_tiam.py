"""TIAM's readings (SPEC 12): who sees the third inertia, its courses, the start of z_L and the safeguard."""

import pytest
import torch
from conftest import tiny_data

import am
from am.methods.tiam import weights

X, Y = tiny_data()[:2]
SIZES = (X.shape[1], 9, 7, int(Y.max()) + 1)


def launch(dtype: torch.dtype = torch.float64, runs: int = 2, **values) -> am.Run:
    generator = torch.Generator().manual_seed(3)
    W = [torch.randn(runs, e, d, generator=generator, dtype=dtype) / d**0.5 for d, e in zip(SIZES, SIZES[1:])]
    return am.start(
        "tiam", X.to(dtype), Y, W, [torch.zeros(runs, e, dtype=dtype) for e in SIZES[1:]], rho=0.1, **values
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("step_rule", ["backtracking", "lipschitz"])
def test_without_a_third_inertia_both_readings_are_one_to_the_bit(dtype, step_rule):
    own, others = (launch(dtype, p3=0.0, third=third, step_rule=step_rule) for third in ("own", "others"))
    for _ in range(6):
        found, other = own.step().variables(), others.step().variables()
        assert all(torch.equal(found[name], other[name]) for name in found)


def test_with_one_they_part_at_the_first_step_that_has_a_past():
    own, others = (launch(third=third) for third in ("own", "others"))
    moved = lambda: max((own.variables()[n] - others.variables()[n]).abs().max().item() for n in ("W1", "z1", "a2"))
    own.step(), others.step()
    assert moved() > 1e-6


def test_runs_of_a_stack_with_and_without_a_third_inertia_do_not_touch_each_other():
    both = launch(third="others", p3=[0.0, 0.5]).step(5).variables()
    for r, p3 in enumerate((0.0, 0.5)):
        alone = launch(third="others", p3=p3).step(5).variables()
        assert all(torch.equal(both[name][r], alone[name][r]) for name in alone)


def test_the_courses_of_the_inertias():
    assert [weights("constant", k) for k in (0, 9)] == [(1.0, 1.0)] * 2
    assert [weights("nesterov", k) for k in (0, 1, 2)] == [(0.0, 0.0), (1 / 4, 1 / 4), (2 / 5, 2 / 5)]
    assert [weights("nipalm", k) for k in (0, 1, 2)] == [(0.0, 1.0), (1 / 3, 1.0), (2 / 4, 1.0)]


def test_the_start_of_the_outputs():
    logits = lambda run: run.variables()["z3"]
    labels, forward = launch(), launch(z_start="forward")
    assert set(logits(labels).unique().tolist()) == {-1.0, 1.0}
    assert torch.allclose(logits(forward), forward.logits(X.double()))


def test_without_a_safeguard_none_is_taken_and_with_one_the_objective_falls():
    wild = dict(p1=1.5, p2=0.0, p3=0.9, epsilon_0=1.0, epsilon_min=1.0)
    free, guarded = launch(safeguard=False, **wild), launch(**wild)
    values = []
    for _ in range(12):
        assert (free.step().variables()["fallbacks"] == 0).all()
        values.append(guarded.step().objective())
    assert all((after <= before + 1e-9).all() for before, after in zip(values, values[1:]))


def test_what_is_set_by_hand_is_what_the_others_see():
    run, fresh = launch(third="others").step(3), launch(third="others").step(3)
    W = run.variables()["W2"] + 0.1
    before = fresh.variables()["z2"]
    moved = run.set_variables(W2=W).step_block("z2").variables()["z2"]
    assert (moved - before).abs().max() > 1e-3
