"""The penalised objective, its sub-problems and the sweep's shortcuts, each against a slow and obvious computation."""

import math
from types import SimpleNamespace

import pytest
import torch
from conftest import drawn, largest_difference

import am.penalised
import am.penalised_steps as steps
from am.activations import activation
from am.backtracking import DOUBLINGS, first_doubling, majoriser_theta
from am.linalg import largest_eigenvalue, linear
from am.method import Problem, stack
from am.methods import method
from am.networks import initialise
from am.penalised import penalised_objective
from am.penalised_state import Inertia

R, N, WIDTHS = 3, 7, (4, 5, 6, 3)
L = len(WIDTHS) - 1


def arbitrary_state(step_rule: str = "lipschitz", act: str = "elu", theta_0: float = 1.0, tau_0: float = 1.0):
    """A sweep's state at which no constraint holds and no block is at its minimum, its problem and its settings."""
    y = torch.randint(0, WIDTHS[-1], (N,), generator=torch.Generator().manual_seed(5))
    problem = Problem(drawn(1, N, WIDTHS[0]), y, activation(act))
    settings = [
        method("tiam").settings({"rho": rho, "mu": mu, "theta_0": theta_0, "tau_0": tau_0, "step_rule": step_rule})
        for rho, mu in ((0.7, 0.3), (0.05, 2.0), (5.0, 0.0))
    ]
    start = initialise(WIDTHS, range(R), "normal(1)", torch.float64)
    hp = stack(settings, problem.x)
    state = am.penalised.init_sweep(problem, start, hp)
    state.z = [drawn(10 + l, *z.shape) for l, z in enumerate(state.z)]
    state.a = [drawn(20 + l, *a.shape) for l, a in enumerate(state.a)]
    state.last = {name: u.clone() for name, u in state.variables().items()}
    return settled(state, problem), problem, hp


def settled(state, problem):
    """The state with the residuals of its variables, for steps of all runs at once."""
    state.residual, state.spare = ([torch.empty_like(z) for z in state.z] for _ in range(2))
    am.penalised.refresh(state, problem.x, range(1, L + 1))
    return state


def inertia(p1: float, p2: float, p3: float) -> Inertia:
    return Inertia(*(torch.full((R, 1, 1), p, dtype=torch.float64) for p in (p1, p2, p3)))


def residual_of(state, problem, l: int) -> torch.Tensor:
    """a_l W_{l+1}^T + b_{l+1} - z_{l+1}, l from 0."""
    return linear(inputs(state, problem, l), state.params.W[l]) + state.params.b[l] - state.z[l]


NO_BOUND = torch.full((R, 1, 1), math.inf, dtype=torch.float64)


def objective(state, problem, hp) -> torch.Tensor:  # (R,)
    return penalised_objective(state.params, state.z, state.a, problem.x, problem.y, hp.rho, hp.mu)


def slope(state, problem, hp, block: list[torch.Tensor], l: int, at: torch.Tensor, h: float = 1e-4) -> torch.Tensor:
    """dF/d block[l] at `at` by central differences, entry by entry, with the other blocks as they are."""
    kept, g = block[l], torch.empty_like(at)
    for i in range(at.shape[1]):
        for j in range(at.shape[2]):
            values = []
            for sign in (1, -1):
                block[l] = at.clone()
                block[l][:, i, j] += sign * h
                values.append(objective(state, problem, hp))
            g[:, i, j] = (values[0] - values[1]) / (2 * h)
    block[l] = kept
    return g


def inputs(state, problem, l: int) -> torch.Tensor:  # (N, d0) or (R, N, d)
    return state.a[l - 1] if l else problem.x


# The objective


def test_the_penalised_objective_equals_a_plain_loop():
    state, problem, hp = arbitrary_state()
    found = objective(state, problem, hp)
    for r in range(R):
        total, rho, mu = 0.0, float(hp.rho[r]), float(hp.mu[r])
        for n in range(N):
            logits = state.z[-1][r, n]
            total += float(torch.log(torch.exp(logits).sum()) - logits[problem.y[n]])
        for l in range(L):
            W, b = state.params.W[l][r], state.params.b[l][r, 0]
            for n in range(N):
                a = problem.x[n] if l == 0 else state.a[l - 1][r, n]
                for i in range(WIDTHS[l + 1]):
                    total += rho / 2 * float(state.z[l][r, n, i] - (W[i] * a).sum() - b[i]) ** 2
            total += mu / 2 * float((W * W).sum())
        assert abs(float(found[r]) / total - 1) < 1e-13


# Gradients and minimisers of the sub-problems, by finite differences of F itself


def spectral(M: torch.Tensor) -> torch.Tensor:  # the largest eigenvalue of M^T M -> (R or 1, 1, 1)
    return torch.linalg.matrix_norm(M, 2).square().view(-1, 1, 1)


@pytest.mark.parametrize("p1, p2", [(0.0, 0.0), (0.3, 0.3), (0.2, 0.5)])
@pytest.mark.parametrize("l", range(L))
def test_the_step_of_W_follows_the_slope_of_the_objective(l, p1, p2):
    state, problem, hp = arbitrary_state()
    W, A = state.params.W[l].clone(), inputs(state, problem, l)
    d = drawn(30, *W.shape, scale=0.02)
    state.last[f"W{l + 1}"].copy_(W - d)
    theta = hp.rho * spectral(A) + hp.mu
    g = slope(state, problem, hp, state.params.W, l, W + p2 * d)
    steps.weight_step(state, problem.x, hp, l + 1, inertia(p1, p2, 0.0))
    assert not state.fallbacks.any()
    assert largest_difference((W + p1 * d - state.params.W[l]) * theta, g) < 1e-7
    assert torch.equal(state.last[f"W{l + 1}"], W)


@pytest.mark.parametrize("p1, p2", [(0.0, 0.0), (0.3, 0.3), (0.2, 0.5)])
@pytest.mark.parametrize("l", range(L - 1))
def test_the_step_of_a_follows_the_slope_of_the_objective(l, p1, p2):
    state, problem, hp = arbitrary_state()
    a, W = state.a[l].clone(), state.params.W[l + 1]
    d = drawn(30, *a.shape, scale=0.02)
    state.last[f"a{l + 1}"].copy_(a - d)
    tau = hp.rho * spectral(W)
    g = slope(state, problem, hp, state.a, l, a + p2 * d)
    steps.activation_step(state, problem.activation, hp, l + 1, inertia(p1, p2, 0.0), NO_BOUND)
    assert largest_difference(state.residual[l + 1], residual_of(state, problem, l + 1)) < 1e-12
    assert not state.fallbacks.any()
    assert largest_difference((a + p1 * d - state.a[l]) * tau, g) < 1e-7
    assert torch.equal(state.last[f"a{l + 1}"], a)


@pytest.mark.parametrize("l", range(L))
def test_the_step_of_b_ends_where_the_objective_is_flat(l):
    state, problem, hp = arbitrary_state()
    before = slope(state, problem, hp, state.params.b, l, state.params.b[l]).abs().max()
    steps.bias_step(state, problem.x, l + 1, inertia(0.0, 0.0, 0.0))
    assert slope(state, problem, hp, state.params.b, l, state.params.b[l]).abs().max() < 1e-8 * before


@pytest.mark.parametrize("l", range(L))
def test_the_step_of_z_ends_where_the_objective_is_flat_or_at_a_bound_that_holds_it(l):
    state, problem, hp = arbitrary_state(act="leaky_relu")
    z, none = state.z[l], inertia(0.0, 0.0, 0.0)
    if l == L - 1:
        steps.output_step(state, problem, none)
        assert slope(state, problem, hp, state.z, l, z).abs().max() < 1e-6
        return
    act, epsilon = problem.activation, torch.full_like(hp.rho, 0.5)
    lower, upper = act.lower(state.a[l] - epsilon), act.upper(state.a[l] + epsilon)
    steps.hidden_step(state, problem.x, act, l + 1, none, epsilon)
    assert largest_difference(state.residual[l], residual_of(state, problem, l)) < 1e-12
    g = slope(state, problem, hp, state.z, l, z.clone())
    inside = (z > lower) & (z < upper)
    assert inside.any() and (z == lower).any() and (z == upper).any()
    assert g[inside].abs().max() < 1e-6
    assert (g[z == lower] > 0).all() and (g[z == upper] < 0).all()


# Backtracking


def smallest_doubling(theta: float, trial, f, centre: torch.Tensor, g: torch.Tensor) -> float:
    """The first doubling with f(u+) <= f(u^) + <g, D> + theta/2 ||D||^2, D = u+ - u^, by calling f each time."""
    for _ in range(DOUBLINGS):
        D = trial(theta) - centre
        if f(trial(theta)) <= f(centre) + (g * D).sum() + theta / 2 * (D * D).sum():
            return theta
        theta *= 2
    raise AssertionError("no majoriser")


@pytest.mark.parametrize("theta_0", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("p1, p2", [(0.0, 0.0), (0.9, 0.9), (0.9, 0.2), (0.1, 1.5)])
def test_the_majoriser_is_the_smallest_doubling_that_a_brute_force_loop_accepts(p1, p2, theta_0):
    runs, doubled = 6, []
    A, W, d = drawn(1, runs, 9, 5), drawn(2, runs, 4, 5), drawn(3, runs, 4, 5)
    target = drawn(4, runs, 9, 4, scale=3.0)
    rho, mu = 10 ** drawn(5, runs, 1, 1), 10 ** drawn(6, runs, 1, 1, scale=0.5)
    hessian = lambda D: rho * (D @ (A.mT @ A)) + mu * D
    gradient = lambda V: rho * (V @ A.mT - target.mT) @ A + mu * V
    g = gradient(W + p2 * d)
    start = torch.full((runs, 1, 1), theta_0, dtype=torch.float64)
    c = torch.full_like(start, p1 - p2)
    found = majoriser_theta(start, c, d, hessian(d), g, hessian(g))
    for r in range(runs):
        f = lambda V: rho[r] / 2 * (target[r] - A[r] @ V.T).square().sum() + mu[r] / 2 * V.square().sum()
        trial = lambda theta: W[r] + p1 * d[r] - g[r] / theta
        expected = smallest_doubling(theta_0, trial, f, W[r] + p2 * d[r], g[r])
        assert float(found[r]) == expected
        doubled.append(expected > theta_0)
    assert all(doubled) if theta_0 == 1e-3 else theta_0 == 1.0 or not all(doubled)


def test_a_run_that_is_not_a_number_has_no_eigenvalue_and_spoils_none():
    M = drawn(0, 3, 6, 6)
    M = M @ M.mT
    top = largest_eigenvalue(M)
    for bad in (math.nan, math.inf):
        M[1, 2, 3] = M[1, 3, 2] = bad
        found = largest_eigenvalue(M)
        assert found[1].isnan() and torch.equal(found[[0, 2]], top[[0, 2]])


def test_runs_backtrack_for_themselves():
    g = drawn(0, 3, 2, 2)
    curvature = torch.tensor([0.5, 100.0, 1e9], dtype=torch.float64).view(-1, 1, 1)
    one, zero = torch.ones(3, 1, 1, dtype=torch.float64), torch.zeros(3, 2, 2, dtype=torch.float64)
    found = majoriser_theta(one, 0 * one, zero, zero, g, curvature * g)
    assert found.flatten().tolist() == [1.0, 128.0, 2.0**30]


def test_a_doubling_that_nothing_accepts_is_the_last():
    accepted = torch.zeros(2, 1, DOUBLINGS, dtype=torch.bool)
    accepted[1, 0, 3:] = True
    found = first_doubling(accepted, torch.full((2, 1, 1), 3.0, dtype=torch.float64))
    assert found.flatten().tolist() == [3.0 * 2.0 ** (DOUBLINGS - 1), 24.0]


def test_the_largest_eigenvalue_is_that_of_a_power_iteration():
    M = drawn(0, 3, 6, 6)
    M = M @ M.mT
    v = torch.ones(3, 6, 1, dtype=torch.float64)
    for _ in range(2000):
        v = M @ v
        v = v / v.norm(dim=1, keepdim=True)
    assert largest_difference(largest_eigenvalue(M), v.mT @ M @ v) < 1e-10
    assert largest_eigenvalue(M[0]).shape == (1, 1, 1)


def brute_force_block(u, last, f, project, p, theta_0):
    """One triple-inertial step (SPEC 2) on a block of one run: autograd, trial after trial of the true f, safeguard."""

    def step(p1, p2, p3):
        d = u - last
        centre = (u + p2 * d).requires_grad_()
        (g,) = torch.autograd.grad(f(centre), centre)
        centre = centre.detach()
        trial = lambda theta: project(u + p1 * d - g / theta)
        theta = smallest_doubling(theta_0, trial, f, centre, g)
        return project(trial(theta) + p3 * (trial(theta) - u)), theta

    new, theta = step(*p)
    rose = f(new) > f(u)
    return (*step(0.0, 0.0, 0.0), rose) if rose else (new, theta, rose)


STEPS = [(0.0, 0.0, 0.0), (0.9, 0.9, 0.5), (0.5, 1.2, 0.3), (2.0, 0.0, 2.0)]


@pytest.mark.parametrize("p", STEPS)
@pytest.mark.parametrize("l", range(L))
def test_the_step_of_W_equals_a_brute_force_step(l, p):
    theta_0 = 1e-2
    state, problem, hp = arbitrary_state("backtracking", theta_0=theta_0)
    W, b, z, A = state.params.W[l].clone(), state.params.b[l], state.z[l], inputs(state, problem, l)
    last = W - drawn(30, *W.shape)
    state.last[f"W{l + 1}"].copy_(last)
    steps.weight_step(state, problem.x, hp, l + 1, inertia(*p))
    for r in range(R):
        rho, mu, Ar = hp.rho[r, 0, 0], hp.mu[r, 0, 0], A if l == 0 else A[r]
        f = lambda V: rho / 2 * (z[r] - Ar @ V.T - b[r]).square().sum() + mu / 2 * V.square().sum()
        expected, theta, rose = brute_force_block(W[r], last[r], f, lambda v: v, p, theta_0)
        assert largest_difference(state.params.W[l][r], expected) < 1e-11
        assert theta > theta_0 and state.fallbacks[r] == int(rose)
    assert p != STEPS[0] or not state.fallbacks.any()
    assert p != STEPS[-1] or state.fallbacks.all()


@pytest.mark.parametrize("p", STEPS)
@pytest.mark.parametrize("l", range(L - 1))
def test_the_step_of_a_equals_a_brute_force_step(l, p):
    tau_0 = 1e-2
    state, problem, hp = arbitrary_state("backtracking", tau_0=tau_0)
    h, W, epsilon = problem.activation.value(state.z[l]), state.params.W[l + 1], torch.full_like(hp.rho, 0.4)
    state.a[l].copy_(h + 0.1 * state.a[l])
    a = state.a[l].clone()
    # Of run 1 almost solved, so that inertia leads away.
    state.z[l + 1][1] -= 0.99 * (state.z[l + 1][1] - a[1] @ W[1].T - state.params.b[l + 1][1])
    residual = state.z[l + 1] - state.params.b[l + 1]
    last = a - drawn(30, *a.shape)
    state.last[f"a{l + 1}"].copy_(last)
    settled(state, problem)
    steps.activation_step(state, problem.activation, hp, l + 1, inertia(*p), epsilon)
    new, lower, upper = state.a[l], h - epsilon, h + epsilon
    bound = (new == lower) | (new == upper)
    assert bound.any() and not bound.all()
    assert largest_difference(state.residual[l + 1], residual_of(state, problem, l + 1)) < 1e-12
    for r in range(R):
        rho = hp.rho[r, 0, 0]
        f = lambda v: rho / 2 * (residual[r] - v @ W[r].T).square().sum()
        project = lambda v: torch.minimum(torch.maximum(v, lower[r]), upper[r])
        expected, _, rose = brute_force_block(a[r], last[r], f, project, p, tau_0)
        assert largest_difference(new[r], expected) < 1e-11
        assert state.fallbacks[r] == int(rose)
    assert state.fallbacks[1] == int(any(p)), "the safeguard is needed exactly where there is inertia"


# The sweep


@pytest.mark.parametrize("act", ["relu", "leaky_relu", "elu", "softplus", "relu6"])
@pytest.mark.parametrize("rule", ["backtracking", "lipschitz", "inverse"])
def test_no_block_of_a_sweep_raises_the_objective(act, rule, monkeypatch):
    """However wild the inertia: the safeguard redoes the step, and is needed here."""
    blocks = {
        "weight_step": lambda s: s.params.W,
        "bias_step": lambda s: s.params.b,
        "hidden_step": lambda s: s.z,
        "activation_step": lambda s: s.a,
        "output_step": lambda s: s.z,
    }
    moves, fallbacks = dict.fromkeys(blocks, 0), 0

    def guarded(name, step):
        def run(state, *args):
            own = SimpleNamespace(rho=state.rho, mu=hp.mu[swept.runs.index(state)])
            before, old = objective(state, problem, own), [u.clone() for u in blocks[name](state)]
            step(state, *args)
            after = objective(state, problem, own)
            assert (after <= before + 1e-11 * before.abs().clamp(min=1)).all(), (name, after - before)
            moves[name] += not all(torch.equal(u, v) for u, v in zip(old, blocks[name](state)))

        return run

    _, problem, _ = arbitrary_state(act=act)
    settings = [
        method("tiam").settings({"rho": rho, "step_rule": rule, "epsilon_0": 8.0, "epsilon_min": 0.05})
        for rho in (1e-2, 1.0, 1.0)
    ]
    hp = stack(settings, problem.x)
    swept = am.penalised.init_sweep(problem, initialise(WIDTHS, range(R), "normal(0.5)", torch.float64), hp)
    for name in blocks:
        monkeypatch.setattr(am.penalised, name, guarded(name, getattr(am.penalised, name)))
    each_run = [(0.9, 0.9, 0.5), (2.0, 0.0, 2.0), (0.0, 2.0, 1.0)]
    p1, p2, p3 = (torch.tensor(p, dtype=torch.float64).view(-1, 1, 1) for p in zip(*each_run))
    for k in range(12):
        am.penalised.sweep(swept, problem, hp, k, p1, p2, p3)
        fallbacks = fallbacks + swept.fallbacks
        epsilon = max(8.0 * 0.5**k, 0.05)
        for z, a in zip(swept.z, swept.a):
            assert ((a - problem.activation.value(z)).abs() <= epsilon + 1e-9).all()
    assert all(moves.values()) and (fallbacks > 0).all()


def test_the_rounding_of_single_precision_iterations_stays_small():
    """Gram products square the data; over 4,000 samples two TIAM iterations in float32 stay within 5e-5 of float64.

    Relative to the largest entry of each block. Measured with four seeds: W 3e-6, b 1.3e-5, z 2.4e-6, a 5e-7 at most.
    """
    rows, widths = 4000, (40, 20, 20, 10)
    x = torch.rand(rows, widths[0], generator=torch.Generator().manual_seed(0))
    y = torch.randint(0, widths[-1], (rows,), generator=torch.Generator().manual_seed(1))
    params = initialise(widths, [0], "normal(0.1)")
    found = {}
    for dtype in (torch.float32, torch.float64):
        problem, hp = Problem(x.to(dtype), y, activation("relu")), stack([method("tiam").settings()], x.to(dtype))
        start = type(params)([W.to(dtype) for W in params.W], [b.to(dtype) for b in params.b])
        state = am.penalised.init_sweep(problem, start, hp)
        for k in range(2):  # inertia begins with the second
            method("tiam").step(state, problem, hp, k)
        found[dtype] = dict(W=state.params.W, b=state.params.b, z=state.z, a=state.a)
    for name, block in found[torch.float32].items():
        for u, v in zip(block, found[torch.float64][name]):
            assert u.dtype == torch.float32
            assert largest_difference(u.double(), v) < 5e-5, name
