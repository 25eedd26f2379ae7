"""mDLAM as released: each divergence of SPEC 5 is one setting, and repairing all of them gives mDLAM."""

import pytest
import torch

import am

REPAIRED = dict(
    inertia=True,
    counter_advances=True,
    frozen_bias=0,
    max_doublings=100,
    start_clip=True,
    penalty_count=1,
    stale_guard=False,
)
CONSTANTS = dict(rho=0.1, mu=0.02, epsilon_0=5.0, epsilon_min=0.1)
STEPS = 12


def launch(name: str, scale: float = 1.0, **values) -> am.Run:
    generator = torch.Generator().manual_seed(5)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    x, y = scale * normal(40, 6).abs(), torch.randint(3, (40,), generator=generator)
    widths = (6, 7, 5, 3)
    weights = [0.3 * normal(e, d) for d, e in zip(widths, widths[1:])]
    biases = [0.3 * normal(e) for e in widths[1:]]
    return am.start(name, x, y, weights, biases, **(CONSTANTS | values))


def same(u: am.Run, v: am.Run) -> bool:
    u, v = u.variables(), v.variables()
    return all(torch.equal(u[name], v[name]) for name in u)


def test_repairing_every_divergence_gives_mdlam():
    released, paper = launch("mdlam-released", **REPAIRED).step(STEPS), launch("mdlam").step(STEPS)
    assert same(released, paper)
    assert released.objective() == paper.objective()


@pytest.mark.parametrize("divergence", ["inertia", "counter_advances", "frozen_bias", "start_clip"])
def test_each_divergence_alone_changes_the_iterates(divergence):
    values = {key: value for key, value in REPAIRED.items() if key != divergence}
    assert not same(launch("mdlam-released", **values).step(STEPS), launch("mdlam").step(STEPS))


def test_without_inertia_it_is_plain_alternating_minimisation():
    released = launch("mdlam-released", frozen_bias=0, max_doublings=100, start_clip=True).step(STEPS)
    assert same(released, launch("tiam", p1=0.0, p2=0.0, p3=0.0).step(STEPS))


def test_safeguards_of_the_released_code_matter_only_with_inertia():
    guards = dict(penalty_count=1, stale_guard=False)
    assert same(launch("mdlam-released").step(STEPS), launch("mdlam-released", **guards).step(STEPS))


def test_the_second_bias_never_moves():
    run = launch("mdlam-released")
    before, after = run.variables(), run.step(STEPS).variables()
    assert {name for name in before if torch.equal(before[name], after[name])} - {"fallbacks"} == {"b2"}


@pytest.mark.parametrize("scale", [20.0, 40.0])
def test_backtracking_gives_up_after_ten_doublings_and_keeps_the_old_weights(scale):
    """As layer 1 does for good on 60,000 images of MNIST, where ten doublings fall short of the curvature."""
    run = launch("mdlam-released", scale)
    x, before = run.problem.x, run.variables()
    gradient = CONSTANTS["mu"] * before["W1"]  # z_1 starts at the forward pass, where the residual is 0
    curvature = CONSTANTS["rho"] * (x @ gradient.T).square().sum() / gradient.square().sum() + CONSTANTS["mu"]
    needed = int(torch.log2(curvature).ceil())
    assert (needed > 10) == (scale == 40.0)
    first = lambda **values: launch("mdlam-released", scale, **values).step().variables()["W1"]
    moves = lambda **values: not torch.equal(first(**values), before["W1"])
    assert moves() == (needed <= 10)
    assert [moves(max_doublings=n) for n in (needed - 1, needed)] == [False, True]
    assert not torch.equal(before["b1"], run.step().variables()["b1"])  # the bias step needs no backtracking


def test_the_objective_counts_the_weight_penalty_twice():
    run, once = launch("mdlam-released").step(3), launch("mdlam-released", penalty_count=1).step(3)
    penalty = CONSTANTS["mu"] / 2 * sum(run.variables()[f"W{l}"].square().sum() for l in (1, 2, 3))
    assert run.objective() - once.objective() == pytest.approx(penalty.item())


def test_inertia_with_a_counter_that_stands_still_steps_back():
    """omega is -1 from the second iteration on, where Nesterov's first two are 0."""
    backward, plain, forward = ({}, dict(inertia=False), dict(counter_advances=True))
    runs = [launch("mdlam-released", **(dict(inertia=True) | values)) for values in (backward, plain, forward)]
    for run in runs:
        run.step()
    assert same(runs[0], runs[1]) and same(runs[2], runs[1])
    for run in runs:
        run.step()
    assert not same(runs[0], runs[1]) and same(runs[2], runs[1])
