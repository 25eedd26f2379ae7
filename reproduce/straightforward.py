"""The same iterations as in `am`, written the straightforward way: what the fast ones are timed and checked against.

One run, plain (N, d) tensors, each equation as it stands, in the dtype and on the device of the data. As the authors'
released codes do it (github.com/xianggebenben/mDLAM and dlADMM, and BCD's notebooks), every backtracking trial
evaluates the objective and the majoriser on all data, gradients are computed from the data, and BCD inverts its
matrices. Where the released codes do more, they are not followed, so that nothing here is slow on purpose: they also
compute the gradient again in each majoriser (here only with `as_released`), the objective of all layers in each
safeguard, and a W^T in each step of FISTA.

Equations, after SPEC 1, 2 and 4 (u~ = u + p1 d, u^ = u + p2 d, d = u^k - u^{k-1}):

(1)  majoriser: f(u+) <= f(u^) + <grad f(u^), u+ - u^> + theta/2 ||u+ - u^||^2, theta = theta_0 2^j, first j
(2)  W_l: f = rho/2 ||t - a W^T - b||^2 + mu/2 ||W||^2, u+ = u~ - grad f(u^)/theta
(3)  b_l: the minimiser mean_n(t_n - W a_n)
(4)  z_l: the projection of c = a W^T + b on the pre-image of [a_l - eps, a_l + eps] (TIAM, mDLAM)
     or argmin_z (z - c)^2 + (a_l - h(z))^2 (dlADMM)
(5)  a_l: f = rho/2 ||t - a W^T - b||^2 (+ rho/2 ||a - h(z)||^2 in dlADMM), projected gradient step, tau as in (1)
(6)  z_L: the proximal point of the cross-entropy, by am's own solver (the released codes take up to 500 steps of
     FISTA), or in dlADMM FISTA by the released rule
(7)  TIAM, mDLAM: u^{k+1} = P(u+ + p3 (u+ - u^k)); again with p = 0 where f rose
(8)  BCD: V and W from their normal equations by torch.inverse; W's in float64, as a correction of the last W, without
     which float32 leaves no digits: W + (t - V W^T - b)^T V (V^T V + alpha_weights/rho I)^-1
(9)  AM-Adam: every layer's loss by autograd, codes by torch.optim.SGD, weights by torch.optim.Adam
(10) SAMT and SAM: the whole network by autograd for each block's gradient
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations import Activation, activation
from am.cross_entropy import (
    FISTA_ITERATIONS,
    FISTA_STEP,
    PROBABILITY_GUARD,
    one_hot,
    prox_cross_entropy,
)
from am.errors import InputError
from am.methods import method
from am.methods.mdlam import momentum
from am.methods.samt import ADAM, ALPHA_MAX, ALPHA_MIN, SHARED_AXES


@dataclass
class Slow:
    """One run. u: the variables by name, W1 b1 z1 a1 ..., a0 the data; last: u^{k-1}; memory: what a method adds."""

    name: str
    x: Tensor  # (N, d0)
    y: Tensor  # (N,)
    act: Activation
    hp: SimpleNamespace
    depth: int
    u: dict[str, Tensor]
    batches: Tensor | None = None  # (K, B)
    as_released: bool = False
    last: dict[str, Tensor] = field(default_factory=dict)
    memory: dict = field(default_factory=dict)
    iterations: int = 0
    trials: int = 0  # of all backtracking so far

    def step(self, times: int = 1) -> "Slow":
        for _ in range(times):
            STEPS[self.name](self, self.iterations)
            self.iterations += 1
        return self

    def variables(self) -> dict[str, Tensor]:
        """The variables, not copied, under the names of `am.run.Run.variables`."""
        return {name: value for name, value in self.u.items() if name not in ("a0", "V0")}

    def linear(self, l: int) -> Tensor:  # (N, d_l)
        """a_{l-1} W_l^T + b_l."""
        return torch.addmm(self.u[f"b{l}"], self.u[f"a{l - 1}"], self.u[f"W{l}"].T)


def start(
    name: str,
    x: Tensor,
    y: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    activation_name: str = "relu",
    batches: Tensor | None = None,
    as_released: bool = False,
    **hyperparameters,
) -> Slow:
    """As `am.start`, for one run of a method that is here; raises InputError for another."""
    if name not in STEPS:
        raise InputError(f"no straightforward '{name}'; there are {', '.join(STEPS)}.")
    hp = SimpleNamespace(**dataclasses.asdict(method(name).settings(hyperparameters)))
    act, depth, u = activation(activation_name), len(weights), {"a0": x}
    for l, (W, b) in enumerate(zip(weights, biases), 1):
        u[f"W{l}"], u[f"b{l}"] = W.to(x, copy=True), b.to(x, copy=True)
    slow = Slow(name, x, y, act, hp, depth, u, batches, as_released)
    if name in STARTS:
        STARTS[name](slow)
    return slow


def square(t: Tensor) -> float:
    return (t * t).sum().item()


def inner(s: Tensor, t: Tensor) -> float:
    return (s * t).sum().item()


def backtrack(
    slow: Slow,
    f: "Quadratic",
    tilde: Tensor,
    hat: Tensor,
    theta: float,
    project: Callable[[Tensor], Tensor] = lambda u: u,
) -> Tensor:
    """(1), objective and majoriser on all data at every trial."""
    g = f.gradient(hat)
    while True:
        new = project(tilde - g / theta)
        slow.trials += 1
        move = new - hat
        slope = f.gradient(hat) if slow.as_released else g
        if not f.change(hat, new) > inner(slope, move) + theta / 2 * square(move) or lost(move, hat):
            return new
        theta *= 2


def lost(move: Tensor, hat: Tensor) -> bool:
    """Whether a move is within the rounding of the point, so that objective and majoriser are noise."""
    return move.abs().max() <= 4 * torch.finfo(hat.dtype).eps * hat.abs().max()


@dataclass(frozen=True)
class Quadratic:
    """f(u) = rho/2 ||residual(u)||^2 + mu/2 ||u - centre||^2, residual affine in u, back(r) its transpose on r."""

    rho: float
    residual: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    mu: float = 0.0
    centre: Tensor | float = 0.0

    def gradient(self, u: Tensor) -> Tensor:
        g = self.rho * self.back(self.residual(u))
        return g + self.mu * (u - self.centre) if self.mu else g

    def change(self, u: Tensor, v: Tensor) -> float:
        """f(v) - f(u), residual by residual: two sums in float32 cannot be told apart near convergence."""
        before, after = self.residual(u), self.residual(v)
        change = self.rho / 2 * inner(after - before, after + before)
        return change + self.mu / 2 * inner(v - u, v + u - 2 * self.centre) if self.mu else change


# The bias within the product: a W^T - (t - b) rounds otherwise than the t that it was computed as, and never is zero.
def weight_objective(a: Tensor, b: Tensor, target: Tensor, rho: float, mu: float = 0.0) -> Quadratic:
    """Of (2), in W."""
    return Quadratic(rho, lambda W: torch.addmm(b, a, W.T) - target, lambda r: r.T @ a, mu)


def activation_objective(
    W: Tensor, b: Tensor, target: Tensor, rho: float, mu: float = 0.0, centre: Tensor | float = 0.0
) -> Quadratic:
    """Of (5), in a."""
    return Quadratic(rho, lambda a: torch.addmm(b, a, W.T) - target, lambda r: r @ W, mu, centre)


def distance(c: Tensor) -> Quadratic:
    """1/2 ||u - c||^2, in u."""
    return Quadratic(1.0, lambda u: u - c, lambda r: r)


# TIAM and mDLAM ---------------------------------------------------------------------------------------------------


def penalised_start(s: Slow) -> None:
    forward_start(s)
    s.u[f"z{s.depth}"] = 2 * one_hot(s.y, s.u[f"b{s.depth}"].numel(), s.x.dtype) - 1


def forward_start(s: Slow) -> None:
    for l in range(1, s.depth + 1):
        s.u[f"z{l}"] = s.linear(l)
        if l < s.depth:
            s.u[f"a{l}"] = s.act.value(s.u[f"z{l}"])


Three = tuple[float, float, float]


def tiam_step(s: Slow, k: int) -> None:
    penalised_step(s, k, (s.hp.p1, s.hp.p2, s.hp.p3))


def mdlam_step(s: Slow, k: int) -> None:
    omega = momentum(k)
    penalised_step(s, k, (omega, omega, 0.0))


def penalised_step(s: Slow, k: int, p: Three) -> None:
    """z, a and the last iterates of one run: blocks in the order of SPEC 1."""
    u, h, rho, mu, theta = s.u, s.act.value, s.hp.rho, s.hp.mu, s.hp.theta_0
    eps = max(s.hp.epsilon_0 * 0.5**k, s.hp.epsilon_min)
    for l in range(1, s.depth):
        value = h(u[f"z{l}"])
        u[f"a{l}"] = torch.clamp(u[f"a{l}"], value - eps, value + eps)
    for l in range(1, s.depth + 1):
        a, z = u[f"a{l - 1}"], u[f"z{l}"]
        f = weight_objective(a, u[f"b{l}"], z, rho, mu)
        block(s, f"W{l}", p, lambda tilde, hat: backtrack(s, f, tilde, hat, theta), f.change)  # (2)

        rest = z - a @ u[f"W{l}"].T
        mean = column_mean(rest)
        block(s, f"b{l}", p, lambda tilde, hat: tilde - (hat - mean), distance(rest).change)  # (3)

        c = s.linear(l)
        if l == s.depth:
            plus = lambda tilde, hat: proximal(tilde - (hat - c), s.y, rho, z)
            block(s, f"z{l}", p, plus, lambda v, w: risk(s, w) - risk(s, v) + rho * distance(c).change(v, w))  # (6)
            return
        lower, upper = s.act.lower(u[f"a{l}"] - eps), s.act.upper(u[f"a{l}"] + eps)
        project = lambda v: torch.clamp(v, lower, upper)
        block(s, f"z{l}", p, lambda tilde, hat: project(tilde - (hat - c)), distance(c).change, project)  # (4)

        value = h(u[f"z{l}"])
        project = lambda v: torch.clamp(v, value - eps, value + eps)
        f = activation_objective(u[f"W{l + 1}"], u[f"b{l + 1}"], u[f"z{l + 1}"], rho)
        block(s, f"a{l}", p, lambda tilde, hat: backtrack(s, f, tilde, hat, theta, project), f.change, project)  # (5)


def column_mean(t: Tensor) -> Tensor:
    """In float64: torch adds up columns one row after another."""
    return t.mean(0, dtype=torch.float64).to(t.dtype)


def risk(s: Slow, z: Tensor) -> float:
    return F.cross_entropy(z, s.y, reduction="sum").item()


def block(
    s: Slow,
    name: str,
    p: Three,
    step: Callable[[Tensor, Tensor], Tensor],
    change: Callable[[Tensor, Tensor], float],  # f(v) - f(u) of u, v
    project: Callable[[Tensor], Tensor] = lambda u: u,
) -> None:
    """(7)"""
    u = s.u[name]
    d = u - s.last.get(name, u)
    s.last[name] = u

    def three(p1: float, p2: float, p3: float) -> Tensor:
        plus = step(u + p1 * d, u + p2 * d)
        return project(plus + p3 * (plus - u))

    new = three(*p)
    s.u[name] = three(0.0, 0.0, 0.0) if change(u, new) > 0 else new


def proximal(c: Tensor, y: Tensor, rho: float, near: Tensor) -> Tensor:
    weight = torch.full((1, 1, 1), rho, dtype=c.dtype, device=c.device)
    return prox_cross_entropy(c[None], y, weight, near=near[None])[0]


# dlADMM -----------------------------------------------------------------------------------------------------------


def dladmm_start(s: Slow) -> None:
    penalised_start(s)
    s.u["u"] = torch.zeros_like(s.u[f"z{s.depth}"])


def dladmm_step(s: Slow, k: int) -> None:
    """Backward sweep, forward sweep, multiplier (SPEC 4)."""
    L = s.depth
    for l in range(L, 0, -1):
        dladmm_z(s, l)
        dladmm_b(s, l)
        dladmm_W(s, l)
        if l > 1:
            dladmm_a(s, l - 1)
    for l in range(1, L + 1):
        dladmm_W(s, l)
        dladmm_b(s, l)
        dladmm_z(s, l)
        if l < L:
            dladmm_a(s, l)
    s.u["u"] = s.u["u"] + s.hp.rho * (s.u[f"z{L}"] - s.linear(L))


def dladmm_target(s: Slow, l: int) -> Tensor:
    return s.u[f"z{l}"] + s.u["u"] / s.hp.rho if l == s.depth else s.u[f"z{l}"]


def dladmm_W(s: Slow, l: int) -> None:  # (2), mu = 0
    W, f = s.u[f"W{l}"], weight_objective(s.u[f"a{l - 1}"], s.u[f"b{l}"], dladmm_target(s, l), s.hp.rho)
    s.u[f"W{l}"] = backtrack(s, f, W, W, s.hp.theta_0)


def dladmm_b(s: Slow, l: int) -> None:  # (3)
    s.u[f"b{l}"] = column_mean(dladmm_target(s, l) - s.u[f"a{l - 1}"] @ s.u[f"W{l}"].T)


def dladmm_a(s: Slow, l: int) -> None:  # (5)
    a, rho, value = s.u[f"a{l}"], s.hp.rho, s.act.value(s.u[f"z{l}"])
    f = activation_objective(s.u[f"W{l + 1}"], s.u[f"b{l + 1}"], dladmm_target(s, l + 1), rho, rho, value)
    s.u[f"a{l}"] = backtrack(s, f, a, a, s.hp.tau_0)


def dladmm_z(s: Slow, l: int) -> None:
    c = s.linear(l)
    if l < s.depth:
        s.u[f"z{l}"] = scalar_prox(s.act, c, s.u[f"a{l}"], 1.0)  # (4)
    else:
        s.u[f"z{l}"] = fista(
            c - s.u["u"] / s.hp.rho, s.y, s.hp.rho, s.u[f"z{l}"], s.hp.fista_tolerance
        )  # (6)


def scalar_prox(act: Activation, c: Tensor, a: Tensor, w: float) -> Tensor:
    """argmin_z (z - c)^2 + w (a - h(z))^2: for ReLU the better of the two candidates, as released."""
    if act.name != "relu":
        return act.scalar_prox(c, a, torch.tensor(w, dtype=c.dtype, device=c.device))
    left, right = c.clamp(max=0), ((c + w * a) / (1 + w)).clamp(min=0)
    value = lambda z: (z - c) ** 2 + w * (a - z.clamp(min=0)) ** 2
    return torch.where(value(left) > value(right), right, left)


def fista(c: Tensor, y: Tensor, rho: float, z: Tensor, tolerance: float) -> Tensor:
    """The released rule: step 4, at most 500, until f moves by less than the tolerance; in float64 to see that."""
    dtype, c, z = z.dtype, c.double(), z.double()
    labels, guard = one_hot(y, c.shape[1], c.dtype), torch.tensor(math.log(PROBABILITY_GUARD)).to(c)
    f, lam, zeta = math.inf, 1.0, z
    for _ in range(FISTA_ITERATIONS):
        normaliser = torch.logaddexp(z.logsumexp(1), guard)
        p = torch.exp(z - normaliser[:, None])
        loss = (normaliser - z.gather(1, y[:, None])[:, 0]).sum()
        last, f = f, (loss + rho / 2 * ((z - c) ** 2).sum()).item()
        if abs(f - last) < tolerance:
            break
        last_lam, lam = lam, (1 + math.sqrt(1 + 4 * lam * lam)) / 2
        gamma = (1 - last_lam) / lam
        last_zeta, zeta = zeta, (rho * c + labels + (z / FISTA_STEP - p)) / (rho + 1 / FISTA_STEP)
        z = (1 - gamma) * zeta + gamma * last_zeta
    return z.to(dtype)


# BCD --------------------------------------------------------------------------------------------------------------


def bcd_start(s: Slow) -> None:
    u = s.u
    u["V0"] = s.x
    for i in range(1, s.depth + 1):
        u[f"U{i}"] = bcd_product(s, i)
        u[f"V{i}"] = s.act.value(u[f"U{i}"]) if i < s.depth else u[f"U{i}"]
    del u["a0"]


def bcd_product(s: Slow, i: int) -> Tensor:
    return torch.addmm(s.u[f"b{i}"], s.u[f"V{i - 1}"], s.u[f"W{i}"].T)


def bcd_step(s: Slow, k: int) -> None:
    """V_N, U_N, (W_N, b_N), then V_i, U_i, (W_i, b_i) downwards (SPEC 4)."""
    u, N, (gamma, rho, alpha) = s.u, s.depth, (s.hp.gamma, s.hp.rho, s.hp.alpha)
    labels = one_hot(s.y, u[f"b{N}"].numel(), s.x.dtype)
    u[f"V{N}"] = (labels + gamma * u[f"U{N}"] + alpha * u[f"V{N}"]) / (1 + gamma + alpha)
    u[f"U{N}"] = (gamma * u[f"V{N}"] + rho * bcd_product(s, N)) / (gamma + rho)
    bcd_layer(s, N)
    for i in range(N - 1, 0, -1):
        W, b, value = u[f"W{i + 1}"], u[f"b{i + 1}"], s.act.value(u[f"U{i}"])
        inverse = torch.inverse(rho * W.T @ W + gamma * torch.eye(W.shape[1]).to(W))
        u[f"V{i}"] = (rho * (u[f"U{i + 1}"] - b) @ W + gamma * value) @ inverse
        c = (rho * bcd_product(s, i) + alpha * u[f"U{i}"]) / (rho + alpha)
        u[f"U{i}"] = scalar_prox(s.act, c, u[f"V{i}"], gamma / (rho + alpha))
        bcd_layer(s, i)


def bcd_layer(s: Slow, i: int) -> None:  # (8)
    u, rho, alpha = s.u, s.hp.rho, s.hp.alpha_weights
    V, W = u[f"V{i - 1}"], u[f"W{i}"]
    residual = u[f"U{i}"] - bcd_product(s, i)
    inverse = torch.inverse((V.T @ V).double() + alpha / rho * torch.eye(V.shape[1]).to(V).double())
    u[f"W{i}"] = W + ((residual.T @ V).double() @ inverse).to(W.dtype)
    u[f"b{i}"] = u[f"b{i}"] + rho / (rho * len(V) + alpha) * residual.sum(0)


# Mini-batch methods -----------------------------------------------------------------------------------------------


def batch(s: Slow, k: int) -> tuple[Tensor, Tensor]:
    rows = s.batches[k % len(s.batches)]
    return s.x[rows], s.y[rows]


def am_adam_start(s: Slow) -> None:
    """Hidden layers have no bias; every layer has its own optimiser."""
    del s.u["a0"]
    s.memory["adam"] = {}
    for l in range(1, s.depth + 1):
        if l < s.depth:
            s.u[f"b{l}"].zero_()
        trained = [s.u[f"W{l}"], *([s.u[f"b{l}"]] if l == s.depth else [])]
        for tensor in trained:
            tensor.requires_grad_()
        s.memory["adam"][l] = torch.optim.Adam(trained, lr=s.hp.learning_rate)


def am_adam_step(s: Slow, k: int) -> None:  # (9)
    x, y = batch(s, k)
    u, h, L, hp = s.u, s.act.value, s.depth, s.hp
    with torch.no_grad():
        a = x
        for l in range(1, L):
            u[f"c{l}"] = F.linear(a, u[f"W{l}"])
            a = h(u[f"c{l}"])

    def loss(l: int, a: Tensor) -> Tensor:
        if l == L:
            return F.cross_entropy(F.linear(a, u[f"W{l}"], u[f"b{l}"]), y)
        return F.mse_loss(F.linear(a, u[f"W{l}"]), u[f"c{l}"])

    for l in range(L - 1, 0, -1):
        begin, code = u[f"c{l}"], u[f"c{l}"].clone().requires_grad_()
        sgd = torch.optim.SGD([code], lr=hp.code_rate, momentum=hp.code_momentum, nesterov=hp.code_momentum > 0)
        weight = 1 / hp.mu if l == L - 1 else 1.0
        for _ in range(hp.code_steps):
            total = weight * loss(l + 1, h(code)) + F.mse_loss(code, begin)
            (code.grad,) = torch.autograd.grad(total, code)
            sgd.step()
        u[f"c{l}"] = code.detach()
    rate = hp.learning_rate * 0.5 ** (k // (hp.halve_every * len(s.batches)))
    for l, adam in s.memory["adam"].items():
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad()
        loss(l, h(u[f"c{l - 1}"]) if l > 1 else x).backward()
        adam.step()


def samt_start(s: Slow) -> None:
    del s.u["a0"]
    alpha0, shape = (s.hp.alpha, "scalar") if s.name == "sam" else (s.hp.alpha0, s.hp.shape)
    for l in range(1, s.depth + 1):
        sizes = [1 if axis in SHARED_AXES[shape] else n for axis, n in enumerate(s.u[f"W{l}"].shape, 1)]
        s.u[f"alpha_W{l}"] = torch.full(sizes, alpha0, dtype=s.x.dtype, device=s.x.device)
        s.u[f"alpha_b{l}"] = torch.full((1,), alpha0, dtype=s.x.dtype, device=s.x.device)
    s.memory |= {name: [torch.zeros_like(a), torch.zeros_like(a)] for name, a in s.u.items() if "alpha" in name}


def samt_step(s: Slow, k: int) -> None:  # (10)
    u, hp, support = s.u, s.hp, batch(s, k)
    learn = s.name == "samt"
    query = batch(s, k + 1) if learn and hp.query == "next" else support
    layers = range(1, s.depth + 1)
    for l in layers if hp.order == "forward" else reversed(layers):
        names, total = (f"W{l}", f"b{l}"), [0.0, 0.0]
        for _ in range(hp.inner_steps):
            for i, (name, g) in enumerate(zip(names, block_gradient(s, names, *support))):
                u[name] = u[name] - u[f"alpha_{name}"] * g
                total[i] = total[i] + g
        if learn:
            for name, g, q in zip(names, total, block_gradient(s, names, *query)):
                alpha = u[f"alpha_{name}"]
                H = -(g * q).sum_to_size(alpha.shape)
                u[f"alpha_{name}"] = samt_step_size(s, f"alpha_{name}", alpha, H, k).clamp(ALPHA_MIN, ALPHA_MAX)


def samt_step_size(s: Slow, name: str, alpha: Tensor, H: Tensor, k: int) -> Tensor:
    if s.hp.meta == "gd":
        return alpha - s.hp.beta * H
    (beta1, beta2, epsilon), (m, v), g = ADAM, s.memory[name], alpha * H
    m, v = s.memory[name] = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    root = (v / (1 - beta2 ** (k + 1))).sqrt() + epsilon
    return alpha * torch.exp(-s.hp.beta * m / (1 - beta1 ** (k + 1)) / root)


def block_gradient(s: Slow, names: tuple[str, ...], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Gradient of the mean cross-entropy with respect to the named tensors, through the whole network."""
    leaves = {name: s.u[name].detach().requires_grad_() for name in names}
    of, a = s.u | leaves, x
    for l in range(1, s.depth + 1):
        z = F.linear(a, of[f"W{l}"], of[f"b{l}"])
        a = s.act.value(z)
    return torch.autograd.grad(F.cross_entropy(z, y), list(leaves.values()))


STARTS = {
    "tiam": penalised_start,
    "mdlam": penalised_start,
    "dladmm": dladmm_start,
    "bcd": bcd_start,
    "am-adam": am_adam_start,
    "samt": samt_start,
    "sam": samt_start,
}
STEPS = {
    "tiam": tiam_step,
    "mdlam": mdlam_step,
    "dladmm": dladmm_step,
    "bcd": bcd_step,
    "am-adam": am_adam_step,
    "samt": samt_step,
    "sam": samt_step,
}
