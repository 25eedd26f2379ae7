"""The steps of the blocks of the penalised problem (SPEC 1), each with triple inertia (SPEC 2, arXiv 2503.08489):

    d  = u^k - u^{k-1},   u~ = u^k + p1 d,   u^ = u^k + p2 d
    u+ = Prox/Proj(u~ - grad f(u^) / theta)
    u^{k+1} = u+ + p3 (u+ - u^k),   projected again for z_l (l < L) and a_l
    where f(u^{k+1}) > f(u^k):   again with p1 = p2 = p3 = 0

f is the part of F that the block touches; all but that of z_L are quadratic, so that grad f(u^) = grad f(u^k) + p2 H d,
and f changes by <grad f(u^k), D> + 1/2 <D, H D> along D: no trial and no safeguard needs f itself.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from am.activations import Activation
from am.backtracking import DOUBLINGS, majoriser_theta
from am.cross_entropy import cross_entropy, prox_cross_entropy
from am.linalg import (
    ask,
    cholesky,
    correlate,
    gram,
    gram_multiply_adds,
    inner,
    largest_eigenvalue,
    ridge,
    solve_rows,
    square,
    worthwhile,
)
from am.method import Problem
from am.penalised_state import At, Inertia, SweepState, linear_into, product, row_blocks, select, zeros


def weight_step(state: SweepState, x: Tensor, hp: SimpleNamespace, l: int, inertia: Inertia) -> None:
    """W_l: f = rho/2 ||A W^T + b - z||^2 + mu/2 ||W||^2, A = a_{l-1}, Hessian H D = rho D G + mu D with G = A^T A.

    The gradient is that of the residual, residual^T A: W G - (z - b)^T A is the same but for the digits that cancel.
    """
    A, W, rho, p1, p2, p3 = state.inputs(x, l), state.params.W[l - 1], state.rho, inertia.p1, inertia.p2, inertia.p3
    (N, d_in), d_out = A.shape[-2:], W.shape[1]
    G = gram(A) if l > 1 else state.gram
    state.charge(N * d_in * d_out + (gram_multiply_adds(N, d_in) if l > 1 else 0))

    def hessian(D: Tensor) -> Tensor:
        return rho * (D @ G) + hp.mu * D

    gradient = rho * correlate(state.residual[l - 1], A) + hp.mu * W
    d = W - state.last[f"W{l}"]
    state.last[f"W{l}"].copy_(W)
    if hp.step_rule == "inverse":
        factor = state.gram_factor if l == 1 else normal_factor(G, rho, hp.mu)
        m = W - solve_rows(gradient.double(), factor).to(W.dtype)
        u = m + (p1 - p2) * d
        u = u + p3 * (u - W)
        # f(u) - f(m) = 1/2 <u - m, H (u - m)>
        rose = _guarded(state, inner(u - m, hessian(u - m)) > inner(W - m, hessian(W - m)))
        state.charge(2 * d_out * d_in**2)
        state.fallbacks += rose.flatten()
        W.copy_(torch.where(rose, m, u))
        return

    def curvature(c: Tensor, Hd: Tensor, g: Tensor, Hg: Tensor) -> Tensor:  # theta for u+ - u^ = c d - g / theta
        if hp.step_rule == "lipschitz":
            return rho * (largest_eigenvalue(G) if l > 1 else state.gram_eigenvalue) + hp.mu
        theta = majoriser_theta(hp.theta_0, c, d, Hd, g, Hg)
        gives_up = _gives_up(state, hp, theta, hp.theta_0)
        return theta if gives_up is None else torch.where(gives_up, torch.inf, theta)

    Hd = hessian(d)
    ghat = gradient + p2 * Hd  # grad f(u^)
    Hg = hessian(ghat)
    theta = curvature(p1 - p2, Hd, ghat, Hg)
    # u+ - u^k = p1 d - ghat / theta, and u^{k+1} - u^k = (1 + p3) of it.
    D, HD = (1 + p3) * (p1 * d - ghat / theta), (1 + p3) * (p1 * Hd - Hg / theta)
    change = inner(gradient, D) + inner(D, HD) / 2
    if extra := state.rules.penalty_count - 1:
        change = change + extra * hp.mu * (inner(W, D) + square(D) / 2)
    rose = _guarded(state, (change > 0) & inertia.moves)
    state.charge(2 * d_out * d_in**2)
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        Hg = hessian(gradient)
        state.charge(d_out * d_in**2, rose)
        D = select(rose, -gradient / curvature(torch.zeros_like(p1), Hd, gradient, Hg), D)
    W.add_(D)


def bias_step(state: SweepState, x: Tensor, l: int, inertia: Inertia) -> None:
    """b_l: the exact minimiser m = mean_n(z_n - W a_n), as a step b+ = b~ - (b^ - m)."""
    W, b = state.params.W[l - 1], state.params.b[l - 1]
    mean = state.inputs(x, l).mean(1, keepdim=True) if l > 1 else state.mean.expand(len(W), -1, -1)
    m = state.z[l - 1].mean(1, keepdim=True) - torch.bmm(mean, W.mT)
    state.charge(W[0].numel())
    d = b - state.last[f"b{l}"]
    state.last[f"b{l}"].copy_(b)
    plus = m + (inertia.p1 - inertia.p2) * d
    new = plus + inertia.p3 * (plus - b)
    rose = _guarded(state, square(new - m) > square(b - m))
    state.fallbacks += rose.flatten()
    b.copy_(torch.where(rose, m, new))


def hidden_step(state: SweepState, x: Tensor, act: Activation, l: int, inertia: Inertia, epsilon: Tensor) -> None:
    """z_l, l < L: f = rho/2 ||z - c||^2, c = a_{l-1} W_l^T + b_l, on {z : a_l - eps <= h(z) <= a_l + eps}."""
    W, b, z, a, residual = (u[l - 1] for u in (state.params.W, state.params.b, state.z, state.a, state.residual))
    A, last, lead, stretch = state.inputs(x, l), state.last[f"z{l}"], inertia.p1 - inertia.p2, 1 + inertia.p3
    leads, before, after = worthwhile(lead != 0), zeros(z), zeros(z)

    def interval(at: At, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = torch.sub(a[at], epsilon, out=lower), torch.add(a[at], epsilon, out=upper)
        return act.lower(lower, inplace=True), act.upper(upper, inplace=True)

    for at, (c, u, *bounds) in row_blocks(z, *4 * [z.shape[2]]):
        linear_into(c, A, at, W, b)
        lower, upper = interval(at, *bounds)
        before += square(torch.sub(z[at], c, out=u))
        plus = torch.addcmul(c, torch.sub(z[at], last[at], out=u), lead, out=u) if leads else u.copy_(c)
        plus.clamp_(lower, upper)  # z~ - (z^ - c), projected
        last[at].copy_(z[at])
        z[at].lerp_(plus, stretch).clamp_(lower, upper)
        after += square(torch.sub(c, z[at], out=residual[at]))
    state.charge(z.shape[1] * W[0].numel())
    rose = _guarded(state, after > before)
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        for at, (c, u, *bounds) in row_blocks(z, *4 * [z.shape[2]]):
            torch.add(residual[at], z[at], out=c)
            z[at].copy_(select(rose, torch.clamp(c, *interval(at, *bounds), out=u), z[at]))
            torch.sub(c, z[at], out=residual[at])


class _Block(NamedTuple):
    """A block of samples in a step of a_l: a_l^k, d, grad f(a^) / rho, the box, and room for a_l and two products."""

    at: At
    u: Tensor
    d: Tensor
    g: Tensor
    lower: Tensor
    upper: Tensor
    v: Tensor
    e: Tensor
    m: Tensor


def activation_step(
    state: SweepState, act: Activation, hp: SimpleNamespace, l: int, inertia: Inertia, epsilon: Tensor
) -> None:
    """a_l, l < L: f = rho/2 ||a W^T + b - z||^2, W, b and z of layer l+1, on the box [h(z_l) - eps, h(z_l) + eps]."""
    W, residual, left, rho = state.params.W[l], state.residual[l], state.spare[l], state.rho
    a, last, z = state.a[l - 1], state.last[f"a{l}"], state.z[l - 1]
    N, (d_out, d_in) = a.shape[1], W.shape[1:]
    M = W.mT @ W
    # ||M||_F bounds the curvature: where tau is above it, the majoriser holds and needs no trial.
    bound = rho * square(M).sqrt().to(M.dtype)
    state.charge(d_out * d_in**2)

    def box(at: At, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        h = act.value_into(z[at], lower)
        upper = torch.add(h, epsilon, out=upper)
        return h.sub_(epsilon), upper

    def step(u: Tensor, p: Inertia, runs: Tensor) -> Tensor:  # -> (R, 1, 1) float64, f(a^{k+1}) - f(a^k)
        """The step from u = a_l^k in these runs: a_l^{k+1} into `a`, its residual into `left`, a_l^k into `last`."""
        leads, looks, stretches = (worthwhile(runs & (inert != 0)) for inert in (p.p1, p.p2, p.p3))
        tau = _exact_tau(rho, M) if hp.step_rule == "lipschitz" else hp.tau_0.clone()
        trying = runs & (tau < bound) & (hp.step_rule != "lipschitz")
        taken, keeps = list[Tensor](), ask(trying)

        def blocks() -> Iterator[_Block]:
            for i, (at, room) in enumerate(row_blocks(a, d_in, d_in, d_in, d_in, d_in, d_out, d_out)):
                d, g, v, lower, upper, e, m = room
                if leads or looks:
                    torch.sub(u[at], last[at], out=d)
                if i < len(taken):
                    g = taken[i]
                else:
                    # Through d W^T, never d W^T W: the output layer's W^T is narrow.
                    there = torch.addcmul(residual[at], product(d, W.mT, e), p.p2, out=e) if looks else residual[at]
                    product(there, W, g)
                    if keeps:
                        taken.append(g.clone())
                yield _Block(at, u[at], d, g, *box(at, lower, upper), v, e, m)

        def plus(block: _Block) -> Tensor:
            """Proj(a~ - grad f(a^) / tau)."""
            start = torch.addcmul(block.u, block.d, p.p1, out=block.v) if leads else block.u
            return torch.addcmul(start, block.g, -rho / tau, out=block.v).clamp_(block.lower, block.upper)

        state.charge(N * d_in * d_out, runs)
        state.charge(N * d_in * d_out, runs & (p.p2 != 0))
        for _ in range(DOUBLINGS):
            if not ask(trying):
                break
            bend, length = zeros(a), zeros(a)
            for block in blocks():
                delta = plus(block).sub_(block.u)
                if looks:
                    delta.sub_(block.d * p.p2)
                bend += square(product(delta, W.mT, block.e))
                length += square(delta)
            state.charge(N * d_in * d_out, trying)
            trying = trying & (rho * bend > tau * length)
            tau = torch.where(trying, 2 * tau, tau)
            trying = trying & (tau < bound)

        gives_up, change = _gives_up(state, hp, tau, hp.tau_0), zeros(a)
        for block in blocks():
            at, new = block.at, plus(block)
            if stretches:
                new = torch.lerp(block.u, new, 1 + p.p3, out=new).clamp_(block.lower, block.upper)
            if gives_up is not None:
                new = torch.where(gives_up, block.u + p.p1 * block.d if leads else block.u, new)
            D = product(torch.sub(new, block.u, out=block.d), W.mT, block.e)
            # <r, D> + 1/2 <D, D>
            change += row_sums(torch.add(residual[at], D, alpha=0.5, out=block.m).mul_(D))
            left[at].copy_(select(runs, D.add_(residual[at]), left[at]))
            new = select(runs, new, a[at])
            if u is a:
                last[at].copy_(a[at])
            a[at].copy_(new)
        state.charge(N * d_in * d_out, runs)
        return rho * change

    change = step(a, inertia, torch.ones_like(rho, dtype=torch.bool))
    if state.rules.stale_guard and l > 1 and worthwhile(inertia.moves):
        change = change + _rise_below(state, l, inertia.moves)
    rose = _guarded(state, (change > 0) & inertia.moves)
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        step(last, inertia.none(), rose)
    state.residual[l], state.spare[l] = left, residual


def output_step(state: SweepState, problem: Problem, inertia: Inertia) -> None:
    """z_L: the proximal point of the cross-entropy at z~ - (z^ - c), c = a_{L-1} W_L^T + b_L."""
    L, rho, y, c = len(state.z), state.rho, problem.y, state.residual[-1]
    W, b, z, last = state.params.W[-1], state.params.b[-1], state.z[-1], state.last[f"z{L}"]
    lead, before, after = inertia.p1 - inertia.p2, zeros(z), zeros(z)
    leads = worthwhile(lead != 0)

    def f(v: Tensor, at: At, u: Tensor) -> Tensor:
        return cross_entropy(v, y[at[1]]).view(-1, 1, 1) + rho / 2 * square(torch.sub(v, c[at], out=u))

    for at, (u,) in row_blocks(z, z.shape[2]):
        target = linear_into(c[at], state.inputs(problem.x, L), at, W, b)
        if leads:
            target = torch.addcmul(target, torch.sub(z[at], last[at], out=u), lead)
        plus = prox_cross_entropy(target, y[at[1]], rho, near=z[at])
        before += f(z[at], at, u)
        last[at].copy_(z[at])
        after += f(z[at].lerp_(plus, 1 + inertia.p3), at, u)
    state.charge(z.shape[1] * W[0].numel())
    rose = _guarded(state, (after > before) & inertia.moves)
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        for at, _ in row_blocks(z):
            z[at].copy_(select(rose, prox_cross_entropy(c[at], y[at[1]], rho, near=last[at]), z[at]))
    c.sub_(z)


def show(state: SweepState, act: Activation, name: str, p3: Tensor, fell: Tensor, epsilon: Tensor) -> None:
    """What other blocks see of a variable after its step (SPEC 12, third = "others"): u+ + p3 (u+ - u^k), projected.

    p3, fell: (R, 1, 1); where the safeguard fell back it is u+.
    """
    kind, l = name[0], int(name[1:])
    u, before, shown = state.variables()[name], state.last[name], state.shown[name]
    torch.addcmul(u, u - before, torch.where(fell, 0.0, p3), out=shown)
    if kind == "a":
        h = act.value(state.shown[f"z{l}"])
        shown.clamp_(h - epsilon, h + epsilon)
    elif kind == "z" and l < len(state.z):
        a = state.shown[f"a{l}"]
        shown.clamp_(act.lower(a - epsilon), act.upper(a + epsilon))


def _guarded(state: SweepState, rose: Tensor) -> Tensor:
    """Where the safeguard takes a step again: where f rose, and nowhere in runs without a safeguard."""
    return rose if state.rules.safeguard else torch.zeros_like(rose)


def row_sums(u: Tensor) -> Tensor:  # (R, n, m) -> (R, 1, 1) float64
    """The sum of every run, over rows in float64."""
    return u.sum(2, keepdim=True).sum(1, keepdim=True, dtype=torch.float64)


def _gives_up(state: SweepState, hp: SimpleNamespace, theta: Tensor, start: Tensor) -> Tensor | None:
    """Where backtracking from `start` took more doublings than the rules allow, (R, 1, 1); None without a limit."""
    if state.rules.max_doublings is None or hp.step_rule != "backtracking":
        return None
    return theta > start * 2.0**state.rules.max_doublings


def _rise_below(state: SweepState, l: int, runs: Tensor) -> Tensor:  # (R, 1, 1) float64
    """How far the last step of a_{l-1} raised its f, at the W_l, b_l and z_l that have moved since."""
    W, a, last, residual = state.params.W[l - 1], state.a[l - 2], state.last[f"a{l - 1}"], state.residual[l - 1]
    state.charge(a.shape[1] * W[0].numel(), runs)
    rise = zeros(a)
    for at, (d, e) in row_blocks(a, W.shape[2], W.shape[1]):
        before = product(torch.sub(last[at], a[at], out=d), W.mT, e).add_(residual[at])
        rise += square(residual[at]) - square(before)
    return state.rho / 2 * rise


def _exact_tau(rho: Tensor, M: Tensor) -> Tensor:  # (R, 1, 1)
    top = rho * largest_eigenvalue(M)
    return torch.where(top > 0, top, 1.0)  # W = 0: f is constant and its gradient 0


def normal_factor(G: Tensor, rho: Tensor, mu: Tensor) -> Tensor:  # (R, d, d) or (d, d) -> (R, d, d) float64
    """Cholesky factor of rho G + mu I, in float64: its condition is 1e6 and more."""
    return cholesky(ridge(rho.double() * G.double(), mu.double()))
