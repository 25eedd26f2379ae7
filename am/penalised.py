"""One iteration of alternating minimisation over the penalised problem (SPEC 1), with inertia in every block.

TIAM (arXiv 2503.08489), mDLAM (Wang, Li and Zhao, Neurocomputing 2022) and iPDLAM (arXiv 2102.00267) sweep the same
blocks in the same order; their inertial coefficients and the growth of rho differ. Every block u takes the step of
SPEC 2:

    d  = u^k - u^{k-1},   u~ = u^k + p1 d,   u^ = u^k + p2 d
    u+ = Prox/Proj(u~ - grad f(u^) / theta)
    u^{k+1} = u+ + p3 (u+ - u^k),   projected again for z_l (l < L) and a_l
    where f(u^{k+1}) > f(u^k):   again with p1 = p2 = p3 = 0

All f but that of z_L are quadratic: f changes by <grad f(u), D> + 1/2 <D, H D> along D, without another pass.

On a CPU the runs of a stack are swept one after the other, in blocks of samples that stay in its cache, so that no
number of a run depends on its neighbours. On a GPU all runs and all samples are one block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
    gram_multiply_adds,
    inner,
    largest_eigenvalue,
    linear,
    ridge,
    solve_rows,
    square,
    worthwhile,
)
from am.method import Method, Problem, needs_hidden_layer
from am.networks import Parameters

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


@dataclass(frozen=True)
class Inertia:
    """p1 of the point, p2 of the gradient's point, p3 after the step, each (R, 1, 1)."""

    p1: Tensor
    p2: Tensor
    p3: Tensor

    @property
    def moves(self) -> Tensor:  # (R, 1, 1) bool
        """Which runs have any."""
        return (self.p1 != 0) | (self.p2 != 0) | (self.p3 != 0)

    def none(self) -> "Inertia":
        """The plain step's."""
        return Inertia(*3 * [torch.zeros_like(self.p1)])


@dataclass(eq=False)
class SweepState:
    """The variables u^k of R runs, their last iterates u^{k-1}, and what the sweep remembers of them.

    params: W_l, b_l.  z: z_1 .. z_L, (R, N, d_l).  a: a_1 .. a_{L-1}.  last: u^{k-1} by name, W1, b1, z1, a1, ...
    rho: (R, 1, 1), the penalty in force.  fallbacks: (R,), safeguards taken in the last iteration.
    flops: (R,) int64, of the matrix products of every run since the start.
    gram: X^T X, (d0, d0).  mean: column means of X, (1, d0).  gram_eigenvalue: largest eigenvalue of X^T X (step_rule
    "lipschitz").  gram_factor: Cholesky factor of rho X^T X + mu I, (R, d0, d0) float64 ("inverse").
    residual: a_{l-1} W_l^T + b_l - z_l of the present variables.  spare: room for the next one of a_{l-1}'s step.
    runs: on a CPU the states of the single runs, whose variables are views of these.
    seen: the variables and their versions when the sweep left them; others were set by hand since.
    """

    params: Parameters
    z: list[Tensor]
    a: list[Tensor]
    rho: Tensor
    fallbacks: Tensor
    flops: Tensor
    gram: Tensor
    mean: Tensor
    gram_eigenvalue: Tensor | None = None
    gram_factor: Tensor | None = None
    rules: Rules = Rules()
    last: dict[str, Tensor] = field(default_factory=dict)
    residual: list[Tensor] = field(default_factory=list)
    spare: list[Tensor] = field(default_factory=list)
    runs: list["SweepState"] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)

    def variables(self) -> dict[str, Tensor]:
        """W1, b1, z1, a1, W2, ... as they stand."""
        kinds = dict(W=self.params.W, b=self.params.b, z=self.z, a=self.a)
        return {f"{kind}{l}": u for kind, blocks in kinds.items() for l, u in enumerate(blocks, 1)}

    def run(self, r: int) -> "SweepState":
        """The state of one run, with views of its variables and counters and residuals of its own."""
        cut = lambda blocks: [u[r : r + 1] for u in blocks]
        rho, fallbacks, flops = cut([self.rho, self.fallbacks, self.flops])
        return replace(
            self,
            params=Parameters(cut(self.params.W), cut(self.params.b)),
            z=cut(self.z),
            a=cut(self.a),
            rho=rho,
            fallbacks=fallbacks,
            flops=flops,
            gram_factor=None if self.gram_factor is None else self.gram_factor[r : r + 1],
            last=dict(zip(self.last, cut(self.last.values()))),
            residual=[torch.empty_like(z[:1]) for z in self.z],
            spare=[torch.empty_like(z[:1]) for z in self.z],
            runs=[],
        )

    def charge(self, multiply_adds: int, runs: Tensor | None = None) -> None:  # runs: (R, 1, 1) bool
        """Count a matrix product, in the runs that would make it if they were alone."""
        self.flops += 2 * multiply_adds if runs is None else 2 * multiply_adds * runs.flatten()

    def inputs(self, x: Tensor, l: int) -> Tensor:  # -> (R, N, d_{l-1}), or (N, d_0) for l = 1
        """a_{l-1} of layer l = 1 .. L."""
        return self.a[l - 2] if l > 1 else x


def init_sweep(problem: Problem, params: Parameters, hp: SimpleNamespace, rules: Rules = Rules()) -> SweepState:
    """z and a by a forward pass, except z_L = +1 at the label and -1 elsewhere (SPEC 1)."""
    x, params, R = problem.x, params.clone(), params.runs
    z = [x.new_empty(R, len(x), width) for width in params.widths[1:]]
    a = [torch.empty_like(u) for u in z[:-1]]
    counter = torch.zeros(R, dtype=torch.int64, device=x.device)
    G = gram(x)
    state = SweepState(params, z, a, hp.rho.clone(), counter, counter.clone(), G, x.mean(0, keepdim=True), rules=rules)
    if hp.step_rule == "lipschitz":
        state.gram_eigenvalue = largest_eigenvalue(G)
    if hp.step_rule == "inverse":
        state.gram_factor = _factor(G, hp.rho, hp.mu)
    state.last = {name: torch.empty_like(u) for name, u in state.variables().items()}
    if x.is_cuda:
        state.residual, state.spare = ([torch.empty_like(u) for u in z] for _ in range(2))
        state.runs = [state]
    else:
        state.runs = [state.run(r) for r in range(R)]
    for run in state.runs:
        for l, (W, b) in enumerate(zip(run.params.W, run.params.b), 1):
            for at, _ in row_blocks(run.z[l - 1]):
                linear_into(run.z[l - 1][at], run.inputs(x, l), at, W, b)
            if l < len(z):
                run.a[l - 1].copy_(problem.activation.value(run.z[l - 1]))
    z[-1].copy_(signed_labels(problem.y, z[-1].shape[2], z[-1]))
    for name, u in state.variables().items():
        state.last[name].copy_(u)
    return state


def sweep(
    state: SweepState,
    problem: Problem,
    hp: SimpleNamespace,
    k: int,
    p1: Tensor | float,  # (R, 1, 1)
    p2: Tensor | float,
    p3: Tensor | float,
    block: str | None = None,
) -> None:
    """Iteration k = 0, 1, ...: for l = 1 .. L the blocks W_l, b_l, z_l and a_l (l < L), each with triple inertia.

    block: "W1", "b1", "z1", "a1", ...: that one alone, from the variables as they stand, none of them clipped before.
    """
    column = lambda p: torch.as_tensor(p, dtype=state.rho.dtype, device=state.rho.device).expand_as(state.rho)
    p1, p2, p3 = column(p1), column(p2), column(p3)
    by_hand = block is not None or state.seen != _versions(state)
    state.fallbacks.zero_()
    for r, run in enumerate(state.runs):
        one = slice(None) if run is state else slice(r, r + 1)
        own = SimpleNamespace(**{key: v[one] if isinstance(v, Tensor) else v for key, v in vars(hp).items()})
        _sweep_run(run, problem, own, k, Inertia(p1[one], p2[one], p3[one]), by_hand, block)
    # A block alone leaves the residuals of others behind.
    state.seen = _versions(state) if block is None else []


def _sweep_run(
    state: SweepState,
    problem: Problem,
    hp: SimpleNamespace,
    k: int,
    inertia: Inertia,
    by_hand: bool,
    block: str | None,
) -> None:
    """The sweep, or one block of it, of one run on a CPU, of all on a GPU."""
    L, x, act = len(state.z), problem.x, problem.activation
    epsilon = _epsilon(hp, k)
    if by_hand:
        refresh(state, x, range(1, L + 1))
    if block is None:
        _clip(state, problem, hp, k, by_hand)
    for name in [block] if block else block_names(L, state.rules.frozen_bias):
        kind, l = name[0], int(name[1:])
        if kind == "W":
            weight_step(state, x, hp, l, inertia)
        elif kind == "b":
            bias_step(state, x, l, inertia)
        elif kind == "a":
            activation_step(state, act, hp, l, inertia, epsilon)
        elif l < L:
            hidden_step(state, x, act, l, inertia, epsilon)
        else:
            output_step(state, problem, inertia)


def block_names(depth: int, frozen_bias: int = 0) -> list[str]:
    """W1, b1, z1, a1, W2, ..., zL: the order of a sweep (SPEC 1)."""
    names = [f"{kind}{l}" for l in range(1, depth + 1) for kind in "Wbza"]
    return [name for name in names if name not in (f"b{frozen_bias}", f"a{depth}")]


def forget(state: SweepState, problem: Problem, hp: SimpleNamespace, names: Sequence[str]) -> None:
    """Those variables were set: they have no last iterate but themselves. Residuals are known to be old by `seen`."""
    for name, u in state.variables().items():
        if name in names:
            state.last[name].copy_(u)


def _epsilon(hp: SimpleNamespace, k: int) -> Tensor:  # (R, 1, 1)
    return torch.maximum(hp.epsilon_0 * 2.0**-k, hp.epsilon_min)


def _clip(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int, by_hand: bool) -> None:
    """a_l <- [h(z_l) - epsilon_k, h(z_l) + epsilon_k] where a_l may be outside: epsilon shrank, or its step gave up."""
    epsilon = _epsilon(hp, k)
    outside = epsilon < _epsilon(hp, k - 1) if k else torch.zeros_like(epsilon, dtype=torch.bool)
    if by_hand or state.rules.max_doublings is not None:
        outside = torch.ones_like(outside)
    if state.rules.start_clip and worthwhile(outside):
        for z, a in zip(state.z, state.a):
            h = problem.activation.value(z)
            a.clamp_(h - epsilon, h + epsilon)
        refresh(state, problem.x, range(2, len(state.z) + 1), outside)


def refresh(state: SweepState, x: Tensor, layers: range, runs: Tensor | None = None) -> None:
    """The residuals of the layers, from the variables."""
    for l in layers:
        W, b, z, residual = state.params.W[l - 1], state.params.b[l - 1], state.z[l - 1], state.residual[l - 1]
        for at, _ in row_blocks(z):
            linear_into(residual[at], state.inputs(x, l), at, W, b).sub_(z[at])
        state.charge(z.shape[1] * W[0].numel(), runs)


# Blocks of samples ------------------------------------------------------------------------------------------------

At = tuple[slice, slice]  # runs, samples


def row_blocks(t: Tensor, *widths: int) -> Iterator[tuple[At, list[Tensor]]]:  # t: (R, N, ...)
    """Indices of blocks of samples, each with room for intermediate results, (R, rows, width) for each of the widths.

    A block in fresh memory would cost a CPU more than the arithmetic on it.
    """
    R, N = t.shape[:2]
    rows = N if t.is_cuda else min(N, STEP_ROWS)
    room = [t.new_empty(R, rows, width) for width in widths]
    for start in range(0, N, rows):
        stop = min(start + rows, N)
        yield (slice(None), slice(start, stop)), [u[:, : stop - start] for u in room]


def product(A: Tensor, B: Tensor, out: Tensor) -> Tensor:  # (R, n, d) or shared (n, d); (R, d, e); (R, n, e)
    """A B of every run, into `out`."""
    return torch.bmm(A.expand(len(B), -1, -1), B, out=out)


def linear_into(out: Tensor, a: Tensor, at: At, W: Tensor, b: Tensor) -> Tensor:  # a: (R, N, d) or shared (N, d)
    """a W^T + b on a block of samples, into `out`."""
    return product(a[at] if a.dim() == 3 else a[at[1]], W.mT, out).add_(b)


def select(runs: Tensor, new: Tensor, old: Tensor) -> Tensor:  # runs: (R, 1, 1) bool
    """`new` in those runs; one run alone was asked already."""
    return new if len(runs) == 1 and not runs.is_cuda else torch.where(runs, new, old)


def zeros(like: Tensor) -> Tensor:  # (R, ...) -> (R, 1, 1) float64
    """The start of a sum of every run."""
    return torch.zeros(len(like), 1, 1, dtype=torch.float64, device=like.device)


# The steps of the blocks ------------------------------------------------------------------------------------------


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
        factor = state.gram_factor if l == 1 else _factor(G, rho, hp.mu)
        m = W - solve_rows(gradient.double(), factor).to(W.dtype)
        u = m + (p1 - p2) * d
        u = u + p3 * (u - W)
        # f(u) - f(m) = 1/2 <u - m, H (u - m)>
        rose = inner(u - m, hessian(u - m)) > inner(W - m, hessian(W - m))
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
    rose = (change > 0) & inertia.moves
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
    rose = square(new - m) > square(b - m)
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
    rose = after > before
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        for at, (c, u, *bounds) in row_blocks(z, *4 * [z.shape[2]]):
            torch.add(residual[at], z[at], out=c)
            z[at].copy_(select(rose, torch.clamp(c, *interval(at, *bounds), out=u), z[at]))
            torch.sub(c, z[at], out=residual[at])


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
        taken, keeps = [], ask(trying)

        def gradients() -> Iterator[tuple[At, list[Tensor]]]:
            """Blocks with grad f(a^) / rho, d, the box, and room for a_l and a product with W^T."""
            for i, (at, (g, d, v, e, m, *bounds)) in enumerate(row_blocks(a, d_in, d_in, d_in, d_out, d_out, d_in, d_in)):
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
                yield at, (g, d, v, e, m, *box(at, *bounds))

        def plus(at: At, g: Tensor, d: Tensor, out: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
            """Proj(a~ - grad f(a^) / tau)."""
            start = torch.addcmul(u[at], d, p.p1, out=out) if leads else u[at]
            return torch.addcmul(start, g, -rho / tau, out=out).clamp_(lower, upper)

        state.charge(N * d_in * d_out, runs)
        state.charge(N * d_in * d_out, runs & (p.p2 != 0))
        for _ in range(DOUBLINGS):
            if not ask(trying):
                break
            bend, length = zeros(a), zeros(a)
            for at, (g, d, v, e, m, lower, upper) in gradients():
                delta = plus(at, g, d, v, lower, upper).sub_(u[at])
                if looks:
                    delta.sub_(d * p.p2)
                bend += square(product(delta, W.mT, e))
                length += square(delta)
            state.charge(N * d_in * d_out, trying)
            trying = trying & (rho * bend > tau * length)
            tau = torch.where(trying, 2 * tau, tau)
            trying = trying & (tau < bound)

        gives_up, change = _gives_up(state, hp, tau, hp.tau_0), zeros(a)
        for at, (g, d, v, e, m, lower, upper) in gradients():
            new = plus(at, g, d, v, lower, upper)
            if stretches:
                new = torch.lerp(u[at], new, 1 + p.p3, out=v).clamp_(lower, upper)
            if gives_up is not None:
                new = torch.where(gives_up, u[at] + p.p1 * d if leads else u[at], new)
            D = product(torch.sub(new, u[at], out=d), W.mT, e)
            change += (torch.add(residual[at], D, alpha=0.5, out=m).mul_(D)).sum(2, keepdim=True).sum(1, keepdim=True, dtype=torch.float64)
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
    rose = (change > 0) & inertia.moves
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        step(last, inertia.none(), rose)
    state.residual[l], state.spare[l] = left, residual


def output_step(state: SweepState, problem: Problem, inertia: Inertia) -> None:
    """z_L: the proximal point of the cross-entropy at z~ - (z^ - c), c = a_{L-1} W_L^T + b_L."""
    L, rho, y = len(state.z), state.rho, problem.y
    W, b, z, last = state.params.W[-1], state.params.b[-1], state.z[-1], state.last[f"z{L}"]
    c = state.residual[-1]
    for at, _ in row_blocks(z):
        linear_into(c[at], state.inputs(problem.x, L), at, W, b)
    state.charge(z.shape[1] * W[0].numel())

    def f(v: Tensor) -> Tensor:
        return cross_entropy(v, y).view(-1, 1, 1) + rho / 2 * square(v - c)

    plus = prox_cross_entropy(c + (inertia.p1 - inertia.p2) * (z - last), y, rho, near=z)
    new = plus + inertia.p3 * (plus - z)
    rose = (f(new) > f(z)) & inertia.moves
    state.fallbacks += rose.flatten()
    if worthwhile(rose):
        new = select(rose, prox_cross_entropy(c, y, rho, near=z), new)
    last.copy_(z)
    z.copy_(new)
    c.sub_(z)


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


def _factor(G: Tensor, rho: Tensor, mu: Tensor) -> Tensor:  # (R, d, d) or (d, d) -> (R, d, d) float64
    """Cholesky factor of rho G + mu I, in float64: its condition is 1e6 and more."""
    return cholesky(ridge(rho.double() * G.double(), mu.double()))


def _versions(state: SweepState) -> list[tuple[int, int]]:
    return [(id(u), u._version) for u in state.variables().values()]


# The method -------------------------------------------------------------------------------------------------------


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
    """F at the current variables, with the rho in force."""
    mus = [hp.exact.mu] if state.runs == [state] else hp.exact.mu.split(1)
    each = [
        penalised_objective(run.params, run.z, run.a, problem.x, problem.y, run.rho.double(), mu)
        for run, mu in zip(state.runs, mus)
    ]
    return torch.cat(each)


def sweep_variables(state: SweepState) -> dict[str, Tensor]:
    """z1 .. zL, a1 .. a{L-1} and the number of safeguards taken in the last iteration."""
    named = {name: u for name, u in state.variables().items() if name[0] in "za"}
    return named | {"fallbacks": state.fallbacks}


def sweep_method(name: str, title: str, hyperparameters: type, step: Callable) -> Method:
    """A method whose step(state, problem, hp, k, block=None) is `sweep` with inertia of its own."""
    return Method(
        name=name,
        title=title,
        family="full-batch AM",
        hyperparameters=hyperparameters,
        init=init_sweep,
        step=step,
        full_batch=True,
        gradients=lambda depth, settings: 4 * depth - 1,
        monotone_only=True,
        objective=sweep_objective,
        variables=sweep_variables,
        requires=needs_hidden_layer,
        refresh=forget,
        blocks=lambda hp, depth: block_names(depth, getattr(hp, "frozen_bias", 0)),
        step_block=step,
    )
