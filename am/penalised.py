"""One iteration of alternating minimisation over the penalised problem (SPEC 1), with inertia in every block.

mDLAM and TIAM sweep the same blocks in the same order and differ in the three inertial coefficients alone:
TIAM's are constants, mDLAM's are (omega_k, omega_k, 0). Every f below is quadratic, so trials of the backtracking and
the monotone safeguard are evaluated from Gram products, exactly and without touching the data again:
f(u + D) - f(u) = <grad f(u), D> + 1/2 <D, H D>.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

from am.activations import Activation
from am.backtracking import DOUBLINGS, majoriser_theta
from am.cross_entropy import cross_entropy, prox_cross_entropy, signed_labels
from am.linalg import (
    ask,
    cholesky,
    correlate,
    gram,
    inner,
    largest_eigenvalue,
    linear,
    ridge,
    row_blocks,
    solve_rows,
    square,
    worthwhile,
)
from am.method import Method, Problem, needs_hidden_layer
from am.networks import Parameters, forward_variables

# Lower and upper bounds of a block of samples, (R, N, d) each, from its place (runs, samples).
Bounds = Callable[[tuple[slice, slice]], tuple[Tensor, Tensor]]
EVERYTHING = (slice(None), slice(None))
STEP_ROWS = 1024  # of a block whose z, a, last iterates and temporaries stay in a CPU's cache
STEP_RULES = ("backtracking", "lipschitz", "inverse")
STEP_RULE = "curvature theta, tau by doubling, or the exact largest eigenvalue; or W_l exactly, by a linear system"


@dataclass(frozen=True)
class Rules:
    """What released code does otherwise in the sweep; the defaults are SPEC 1's.

    start_clip: a_l is clipped into h(z_l) +- epsilon_k at the start of iteration k.
    max_doublings: doublings of theta or tau after which W_l or a_l gives up and stays at u~; None for no limit.
    frozen_bias: the layer, 1 .. L, whose bias never moves; 0 for none.
    penalty_count: how often the safeguard of W_l counts mu/2 ||W_l||^2.
    stale_guard: the safeguard of a_l, l > 1, sets a_{l-1} back to its last iterate on the old side of the comparison.
    """

    start_clip: bool = True
    max_doublings: int | None = None
    frozen_bias: int = 0
    penalty_count: int = 1
    stale_guard: bool = False


@dataclass
class SweepState:
    """The variables u^k of R runs, the last iterate u^{k-1}, and what never changes.

    params: W_l, b_l.  z: z_1 .. z_L, (R, N, d_l).  a: a_1 .. a_{L-1}.  last: name -> u^{k-1}.
    gram: X^T X, (d0, d0).  mean: column means of X, (1, d0).  fallbacks: safeguards taken in the last iteration, (R,).
    gram_eigenvalue: largest eigenvalue of X^T X (step_rule "lipschitz").  gram_factor: Cholesky factor of
    rho X^T X + mu I, (R, d0, d0) float64 ("inverse").  settled: from this iteration on epsilon is the last one's.
    linear: l -> a_{l-1} W_l^T + b_l as the last iteration left them, which serves the steps of W_1 and, once settled, of a_{l-1}.
    """

    params: Parameters
    z: list[Tensor]
    a: list[Tensor]
    hp: SimpleNamespace
    gram: Tensor
    mean: Tensor
    fallbacks: Tensor | None = None
    gram_eigenvalue: Tensor | None = None
    gram_factor: Tensor | None = None
    settled: int = 0
    last: dict[str, Tensor] = field(default_factory=dict)
    linear: dict[int, Tensor] = field(default_factory=dict)
    rules: Rules = Rules()


def init_sweep(problem: Problem, params: Parameters, hp: SimpleNamespace, rules: Rules = Rules()) -> SweepState:
    """z and a by a forward pass, except z_L = +1 at the label and -1 elsewhere (SPEC 1)."""
    x, params = problem.x, params.clone()
    z, a = forward_variables(x, params, problem.activation)
    z[-1] = signed_labels(problem.y, z[-1].shape[2], z[-1])
    G, mean = gram(x), x.mean(0, keepdim=True)
    eigenvalue = largest_eigenvalue(G) if hp.step_rule == "lipschitz" else None
    factor = _factor(G, hp) if hp.step_rule == "inverse" else None
    halvings = torch.log2(hp.exact.epsilon_0 / hp.exact.epsilon_min).clamp(min=0).max()
    settled = int(halvings) + 3 if bool(halvings.isfinite()) else sys.maxsize
    state = SweepState(params, z, a, hp, G, mean, None, eigenvalue, factor, settled, rules=rules)
    state.linear[0] = z[0].clone()
    return state


def sweep(
    state: SweepState,
    problem: Problem,
    k: int,
    p1: Tensor | float,  # (R, 1, 1)
    p2: Tensor | float,
    p3: Tensor | float,
) -> None:
    """Iteration k = 0, 1, ...: for l = 1 .. L the blocks W_l, b_l, z_l and a_l (l < L), each with triple inertia.

    u~ = u^k + p1 d, u^ = u^k + p2 d, d = u^k - u^{k-1}; u+ = prox(u~ - grad f(u^) / theta);
    u^{k+1} = u+ + p3 (u+ - u^k), projected again for z_l and a_l; redone with p = 0 where f rose (SPEC 2).
    """
    hp, act, params, z, a, x, y = state.hp, problem.activation, state.params, state.z, state.a, problem.x, problem.y
    L = len(z)
    epsilon = torch.maximum(hp.epsilon_0 * 2.0**-k, hp.epsilon_min)  # (R, 1, 1)
    state.fallbacks = torch.zeros(params.runs, dtype=torch.int64, device=x.device)
    # Once epsilon stays, a_l is in its interval already, unless its step gave up.
    clips = state.rules.start_clip and (k < state.settled or state.rules.max_doublings is not None)
    if clips:
        for l in range(L - 1):
            h = act.value(z[l])
            a[l] = torch.clamp(a[l], h - epsilon, h + epsilon)

    known = state.linear.pop(0)  # a_0 is constant: x W_1^T + b_1 is still that of the last iteration
    excess = torch.sub(known, z[0], out=known)  # a_{l-1} W_l^T + b_l - z_l before W_l moves
    for l in range(L):
        A = a[l - 1] if l else x
        params.W[l] = weight_step(state, l, A, params.W[l], params.b[l], z[l], p1, p2, p3, excess)
        if l + 1 != state.rules.frozen_bias:
            params.b[l] = bias_step(state, l, A, params.W[l], params.b[l], z[l], p1, p2, p3)
        c = state.linear[l] = linear(A, params.W[l], params.b[l])
        if l < L - 1:
            z[l] = hidden_step(state, l, c, z[l], _preimages(act, a[l], epsilon), p1, p2, p3)
            ahead = None if clips else state.linear.get(l + 1)
            if ahead is None:
                ahead = linear(a[l], params.W[l + 1], params.b[l + 1])
            excess = torch.sub(ahead, z[l + 1], out=ahead)
            box = _box(act, z[l], epsilon)
            a[l], excess = activation_step(state, l, excess, params.W[l + 1], a[l], box, p1, p2, p3)
        else:
            z[l] = output_step(state, l, c, z[l], y, p1, p2, p3)


def _preimages(act: Activation, a: Tensor, epsilon: Tensor) -> Bounds:
    """{z : a - eps <= h(z) <= a + eps}."""
    return lambda at: (act.lower(a[at] - epsilon[at[0]]), act.upper(a[at] + epsilon[at[0]]))


def _box(act: Activation, z: Tensor, epsilon: Tensor) -> Bounds:
    """[h(z) - eps, h(z) + eps]."""

    def bounds(at: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
        h = act.value(z[at])
        return h - epsilon[at[0]], h + epsilon[at[0]]

    return bounds


def _last_iterate(state: SweepState, name: str, u: Tensor) -> Tensor:
    """u^{k-1} (u^k at k = 0), and u^k becomes the last iterate."""
    last = state.last.get(name, u)
    state.last[name] = u
    return last


def _keep_or_redo(state: SweepState, rose: Tensor, new: Tensor, redo) -> Tensor:  # rose: (R, 1, 1) bool
    """The monotone safeguard: where f rose, the plain step `redo()` in place of the inertial one."""
    state.fallbacks += rose.flatten()
    return torch.where(rose, redo(), new) if worthwhile(rose) else new


def _unless_given_up(
    state: SweepState, theta: Tensor, start: Tensor | float, new: Tensor, runs: slice = slice(None)
) -> Tensor:
    """`new`, or `start` where backtracking took more doublings to reach theta, (R, 1, 1), than the rules allow."""
    if state.rules.max_doublings is None or state.hp.step_rule != "backtracking":
        return new
    return torch.where(theta > state.hp.theta_0[runs] * 2.0**state.rules.max_doublings, start, new)


def _rise_below(state: SweepState, l: int) -> Tensor:  # (R, 1, 1) float64
    """How far the last step of a_{l-1} raised its f, at the W_l, b_l and z_l that have moved since."""
    W, residual = state.params.W[l], state.z[l] - state.params.b[l]
    f = lambda v: state.hp.rho / 2 * square(residual - linear(v, W))
    return f(state.a[l - 1]) - f(state.last[f"a{l - 1}"])


def weight_step(
    state: SweepState, l: int, A: Tensor, W: Tensor, b: Tensor, z: Tensor, p1, p2, p3, excess: Tensor | None = None
) -> Tensor:
    """W_l: f = rho/2 ||excess||^2 + mu/2 ||W||^2, excess = A W^T + b - z, Hessian H D = rho D G + mu D with G = A^T A.

    The gradient is that of the residual, excess^T A: W G - (z - b)^T A is the same but for the digits that cancel.
    """
    hp = state.hp
    G = gram(A) if A.dim() == 3 else state.gram
    hessian = lambda D: hp.rho * (D @ G) + hp.mu * D
    excess = linear(A, W, b).sub_(z) if excess is None else excess
    gradient = hp.rho * correlate(excess, A) + hp.mu * W
    d = W - _last_iterate(state, f"W{l}", W)
    if hp.step_rule == "inverse":
        factor = _factor(G, hp) if A.dim() == 3 else state.gram_factor
        m = W - solve_rows(gradient.double(), factor).to(W.dtype)
        plus = m + (p1 - p2) * d
        new = plus + p3 * (plus - W)
        rise = lambda D: inner(D, hessian(D))  # f(u) - f(m) = 1/2 <u - m, H (u - m)>
        return _keep_or_redo(state, rise(new - m) > rise(W - m), new, lambda: m)
    Hd = hessian(d)
    ghat = gradient + p2 * Hd
    Hg = hessian(ghat)
    lipschitz = hp.step_rule == "lipschitz"
    if lipschitz:
        top = largest_eigenvalue(G) if A.dim() == 3 else state.gram_eigenvalue
        theta = hp.rho * top + hp.mu
    else:
        theta = majoriser_theta(hp.theta_0, _column(p1 - p2, W), d, Hd, ghat, Hg)
    theta = _unless_given_up(state, theta, torch.inf, theta)
    step, Hstep = p1 * d - ghat / theta, p1 * Hd - Hg / theta
    change = (1 + p3) * (inner(gradient, step) + (1 + p3) / 2 * inner(step, Hstep))
    if extra := state.rules.penalty_count - 1:
        change = change + extra * hp.mu * (1 + p3) * (inner(W, step) + (1 + p3) / 2 * square(step))

    def redo() -> Tensor:
        none = torch.zeros_like(hp.theta_0)
        plain = theta if lipschitz else majoriser_theta(hp.theta_0, none, d, Hd, gradient, hessian(gradient))
        return _unless_given_up(state, plain, W, W - gradient / plain)

    return _keep_or_redo(state, change > 0, W + (1 + p3) * step, redo)


def bias_step(state: SweepState, l: int, A: Tensor, W: Tensor, b: Tensor, z: Tensor, p1, p2, p3) -> Tensor:
    """b_l: the exact minimiser m = mean_n(z_n - W a_n), as a step b+ = b~ - (b^ - m)."""
    mean = A.mean(1, keepdim=True) if A.dim() == 3 else state.mean.expand(W.shape[0], -1, -1)
    m = z.mean(1, keepdim=True) - linear(mean, W)
    d = b - _last_iterate(state, f"b{l}", b)
    plus = m + (p1 - p2) * d
    new = plus + p3 * (plus - b)
    return _keep_or_redo(state, square(new - m) > square(b - m), new, lambda: m)


def hidden_step(state: SweepState, l: int, c: Tensor, z: Tensor, bounds: Bounds, p1, p2, p3) -> Tensor:
    """z_l, l < L: f = rho/2 ||z - c||^2 on the interval {z : a_l - eps <= h(z) <= a_l + eps}."""
    last, new = _last_iterate(state, f"z{l}", z), torch.empty_like(z)
    lead, ahead = _column(p1 - p2, z), _column(1 + p3, z)
    before, after = (torch.zeros(len(z), 1, 1, dtype=torch.float64, device=z.device) for _ in range(2))
    for at in row_blocks(z, STEP_ROWS):
        r, (lower, upper) = at[0], bounds(at)
        plus = torch.addcmul(c[at], z[at] - last[at], lead[r]).clamp_(lower, upper)
        new[at] = moved = torch.lerp(z[at], plus, ahead[r]).clamp_(lower, upper)
        before[r] += square(torch.sub(z[at], c[at], out=plus))
        after[r] += square(moved.sub_(c[at]))
    return _keep_or_redo(state, after > before, new, lambda: torch.clamp(c, *bounds(EVERYTHING)))


def activation_step(
    state: SweepState, l: int, excess: Tensor, W: Tensor, a: Tensor, bounds: Bounds, p1, p2, p3
) -> tuple[Tensor, Tensor]:
    """a_l: f = rho/2 ||excess||^2, excess = a W^T + b_{l+1} - z_{l+1} at a = a_l^k, on the box [h(z_l) +- eps].

    Returns a_l^{k+1} and the excess there.
    """
    hp, last, blocks = state.hp, _last_iterate(state, f"a{l}", a), row_blocks(a, STEP_ROWS)
    M = W.mT @ W
    # ||M||_F bounds the curvature: where tau is above it, the majoriser holds and needs no trial.
    sure = hp.rho * square(M).sqrt().to(M.dtype)
    nothing = torch.zeros(len(a), 1, 1, dtype=torch.float64, device=a.device)

    def gradient(p: Tensor) -> Tensor:  # of f at a + p d
        g = torch.empty_like(a)
        for at in blocks:
            # Through D W^T, never D W^T W: the output layer's W^T is narrow.
            there = torch.addcmul(excess[at], linear(a[at] - last[at], W[at[0]]), p[at[0]])
            g[at] = linear(there, W[at[0]].mT).mul_(hp.rho[at[0]])
        return g

    def curvature(p1: Tensor, p2: Tensor, g: Tensor) -> Tensor:  # theta of the step with these inertias
        if hp.step_rule == "lipschitz":
            top = hp.rho * largest_eigenvalue(M)
            return torch.where(top > 0, top, 1.0)  # W = 0: f is constant and g = 0
        tau = hp.theta_0.clone()
        for _ in range(DOUBLINGS):
            if not ask(tau < sure):
                break
            bend, length = nothing.clone(), nothing.clone()
            for at in blocks:
                r, d = at[0], a[at] - last[at]
                plus = torch.addcmul(a[at], d, p1[r]).addcmul_(g[at], -1 / tau[r]).clamp_(*bounds(at))
                delta = plus.sub_(torch.addcmul(a[at], d, p2[r]))
                bend[r] += square(linear(delta, W[r]))
                length[r] += square(delta)
            again = (hp.rho * bend > tau * length) & (tau < sure)
            if not ask(again):
                break
            tau = torch.where(again, 2 * tau, tau)
        return tau

    def move(p1: Tensor, p2: Tensor, p3: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # -> a_l, its excess, change of f
        g = gradient(p2)
        tau = curvature(p1, p2, g)
        new, left, change = torch.empty_like(a), torch.empty_like(excess), nothing.clone()
        for at in blocks:
            r, (lower, upper) = at[0], bounds(at)
            start = torch.addcmul(a[at], a[at] - last[at], p1[r])
            plus = torch.addcmul(start, g[at], -1 / tau[r]).clamp_(lower, upper)
            moved = torch.lerp(a[at], plus, 1 + p3[r]).clamp_(lower, upper)
            new[at] = moved = _unless_given_up(state, tau[r], start, moved, r)
            D = linear(torch.sub(moved, a[at], out=plus), W[r])
            left[at] = excess[at] + D
            change[r] += inner(excess[at], D) + square(D) / 2
        return new, left, hp.rho * change

    new, left, change = move(*(_column(p, a) for p in (p1, p2, p3)))
    if state.rules.stale_guard and l:
        change = change + _rise_below(state, l)
    rose = change > 0
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        plain, plain_left, _ = move(*3 * [_column(0.0, a)])
        new, left = torch.where(rose, plain, new), torch.where(rose, plain_left, left)
    return new, left


def output_step(state: SweepState, l: int, c: Tensor, z: Tensor, y: Tensor, p1, p2, p3) -> Tensor:
    """z_L: the proximal point of the cross-entropy at z~ - (z^ - c)."""
    rho = state.hp.rho
    d = z - _last_iterate(state, f"z{l}", z)
    plus = prox_cross_entropy(c + (p1 - p2) * d, y, rho, near=z)
    new = plus + p3 * (plus - z)
    f = lambda v: cross_entropy(v, y).view(-1, 1, 1) + rho / 2 * square(v - c)
    return _keep_or_redo(state, f(new) > f(z), new, lambda: prox_cross_entropy(c, y, rho, near=z))


def _factor(G: Tensor, hp: SimpleNamespace) -> Tensor:  # (R, d, d) or (d, d) -> (R, d, d) float64
    """Cholesky factor of rho G + mu I, in float64: its condition is 1e6 and more."""
    return cholesky(ridge(hp.exact.rho * G.double(), hp.exact.mu))


def _column(p: Tensor | float, like: Tensor) -> Tensor:  # -> (R, 1, 1)
    return torch.as_tensor(p, dtype=like.dtype, device=like.device).expand(like.shape[0], 1, 1)


def penalised_objective(
    params: Parameters,
    z: list[Tensor],
    a: list[Tensor],
    x: Tensor,  # (N, d0)
    y: Tensor,  # (N,)
    rho: Tensor,  # (R, 1, 1)
    mu: Tensor,  # (R, 1, 1)
) -> Tensor:  # (R,) float64
    """F of SPEC 1: R(z_L, y) + sum_l rho/2 ||z_l - a_{l-1} W_l^T - b_l||^2 + mu/2 ||W_l||^2."""
    total = cross_entropy(z[-1], y)
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        residual = linear(a[l - 1] if l else x, W, b).sub_(z[l])
        total = total + (rho / 2 * square(residual) + mu / 2 * square(W)).flatten()
    return total


def sweep_objective(state: SweepState, problem: Problem, hp: SimpleNamespace) -> Tensor:  # (R,) float64
    """F of SPEC 1 at the current variables."""
    return penalised_objective(state.params, state.z, state.a, problem.x, problem.y, hp.exact.rho, hp.exact.mu)


def sweep_variables(state: SweepState) -> dict[str, Tensor]:
    """z1 .. zL, a1 .. a{L-1} and the number of safeguards taken in the last iteration."""
    named = {f"z{l}": z for l, z in enumerate(state.z, 1)} | {f"a{l}": a for l, a in enumerate(state.a, 1)}
    return named if state.fallbacks is None else named | {"fallbacks": state.fallbacks}


def sweep_method(name: str, title: str, hyperparameters: type, step: Callable) -> Method:
    """A method whose step is `sweep` with inertia of its own."""
    return Method(
        name=name,
        title=title,
        family="full-batch AM",
        hyperparameters=hyperparameters,
        init=init_sweep,
        step=step,
        full_batch=True,
        asks=True,
        gradients=lambda depth, hp: 4 * depth - 1,
        monotone_only=True,
        objective=sweep_objective,
        variables=sweep_variables,
        requires=needs_hidden_layer,
    )
