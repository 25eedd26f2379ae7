"""TIAM, mDLAM, mDLAM as released and iPDLAM, slow: alternating minimisation of the penalised objective (SPEC 1, 2, 5).

(1)  F = R(z_L, y) + sum_l [rho/2 ||z_l - a_{l-1} W_l^T - b_l||^2 + mu/2 ||W_l||^2]
(2)  eps_k = max(eps_0 2^-k, eps_min);  a_l <- clip(a_l, h(z_l) - eps_k, h(z_l) + eps_k) before iteration k
(3)  W_l:  u+ = u~ - grad f(u^)/theta, theta = theta_0 2^j by backtracking; or lambda_max of the Hessian (lipschitz);
     or u+ = u~ - (u^ - m), m the minimiser of f (inverse)
(4)  b_l:  u+ = b~ - (b^ - m), m = mean_n(z_n - W a_n)
(5)  z_l:  u+ = projection of z~ - (z^ - c), c = a_{l-1} W_l^T + b_l, on {z : a_l - eps <= h(z) <= a_l + eps}
(6)  a_l:  u+ = projection of a~ - grad f(a^)/tau on [h(z_l) - eps, h(z_l) + eps], tau from tau_0 as in (3)
(7)  z_L:  u+ = argmin_z CE(z, y) + rho/2 ||z - (z~ - (z^ - c))||^2, by am's own solver, which is tested on its own
     (the released codes take up to 500 steps of FISTA)
(8)  d = u^k - u^{k-1};  u~ = u^k + p1 d;  u^ = u^k + p2 d;  u^{k+1} = P(u+ + p3 (u+ - u^k));
     with p = 0 where f(u^{k+1}) > f(u^k)
(9)  TIAM: constant p1, p2, p3.  mDLAM: p1 = p2 = omega_k, p3 = 0, with s_{k+1} = (1 + sqrt(1 + 4 s_k^2))/2, s_0 = 0,
     omega_k = (s_k - 1)/s_{k+1} and omega_0 = 0
(10) mDLAM as released: (3) to (7) from u^k + omega d, all safeguards on the whole F, and: omega = 0, or -1 where
     inertia is repaired and its counter is not; no clipping before an iteration; b_2 is never updated and b_L twice;
     the safeguards of b_L and z_L put W_L back, that of a_l, l > 1, a_{l-1} too; mu/2 ||W||^2 counts twice; after
     ten doublings W_l and a_l keep the point they had
(12) TIAM, third = "others" (SPEC 12): u^{k+1} = u+, and every other block's sub-problem sees u+ + P(p3 (u+ - u^k))
     with the projection of (8), or u+ where the safeguard fell back; both a_l are clipped around the shown h(z_l)
(13) the weights of p1, p2 and of p3 in iteration k = 1, 2, ...: 1; (k - 1)/(k + 2) for all ("nesterov");
     (k - 1)/(k + 1) and 1 ("nipalm")
(11) iPDLAM: one inertia p1 = p2, p3 = 0, and rho_k = rho min((1 + growth)^k, most) in place of rho (SPEC 10)
"""

import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from am.cross_entropy import prox_cross_entropy
from twins import Slow
from twins.majoriser import Map, activation_objective, backtrack, column_mean, distance, square, weight_objective

Three = tuple[float, float, float]

TIE = 1e-13  # of F: where two values are as near, rounding decides between two steps; `memory["tied"]` says that it did


def init(s: Slow) -> None:
    """z and a by a forward pass, except z_L = +1 at the label and -1 elsewhere."""
    for l in s.layers:
        s.u[f"z{l}"] = s.linear(l)
        if l < s.depth:
            s.u[f"a{l}"] = s.act.value(s.u[f"z{l}"])
    z = s.u[f"z{s.depth}"]
    if getattr(s.hp, "z_start", "labels") == "labels":
        s.u[f"z{s.depth}"] = 2 * F.one_hot(s.y, z.shape[1]).to(z) - 1


def objective(s: Slow, count: int = 1, rho: float | None = None) -> float:  # (1)
    """F, with the weight penalty counted so many times, and another rho than the setting if given."""
    rho = s.hp.rho if rho is None else rho
    value = risk(s, s.u[f"z{s.depth}"].double())
    for l in s.layers:
        value += rho / 2 * square((s.u[f"z{l}"] - s.linear(l)).double())
        value += count * s.hp.mu / 2 * square(s.u[f"W{l}"].double())
    return value


def risk(s: Slow, z: Tensor) -> float:
    """R(z, y)."""
    return F.cross_entropy(z, s.y, reduction="sum").item()


def epsilon(s: Slow, k: int) -> float:  # (2)
    return max(s.hp.epsilon_0 * 0.5**k, s.hp.epsilon_min)


def clip(s: Slow, eps: float) -> None:  # (2)
    for l in s.layers[:-1]:
        s.u[f"a{l}"] = box(s, l, eps)(s.u[f"a{l}"])


def box(s: Slow, l: int, eps: float) -> Map:
    """The projection on [h(z_l) - eps, h(z_l) + eps]."""
    h = s.act.value(s.u[f"z{l}"])
    return lambda v: torch.clamp(v, h - eps, h + eps)


def preimage(s: Slow, l: int, eps: float) -> Map:
    """The projection on {z : a_l - eps <= h(z) <= a_l + eps}."""
    lower, upper = s.act.lower(s.u[f"a{l}"] - eps), s.act.upper(s.u[f"a{l}"] + eps)
    return lambda v: torch.clamp(v, lower, upper)


def tiam_step(s: Slow, k: int) -> None:  # (9)
    before, after = tiam_weights(s.hp.schedule, k + 1)
    p = (before * s.hp.p1, before * s.hp.p2, after * s.hp.p3)
    (sweep_shown if s.hp.third == "others" else sweep)(s, k, p, s.hp.rho)


def tiam_weights(schedule: str, k: int) -> tuple[float, float]:  # (13)
    """The weights of p1, p2 and of p3 in iteration k = 1, 2, ..."""
    return {
        "constant": (1.0, 1.0),
        "nesterov": ((k - 1) / (k + 2), (k - 1) / (k + 2)),
        "nipalm": ((k - 1) / (k + 1), 1.0),
    }[schedule]


def sweep_shown(s: Slow, k: int, p: Three, rho: float) -> None:  # (12)
    """The sweep in which every block sees what the others show."""
    eps, shown = epsilon(s, k), s.memory.setdefault("shown", dict(s.u))
    if k == 0 or eps < epsilon(s, k - 1):
        for l in s.layers[:-1]:
            project = box(dataclasses.replace(s, u=shown), l, eps)
            for u in (s.u, shown):
                u[f"a{l}"] = project(u[f"a{l}"])
    for l in s.layers:
        for name in (f"{kind}{l}" for kind in "Wbza"):
            if name == f"a{s.depth}":
                continue
            was = s.u[name]
            view = dataclasses.replace(s, u=shown | {name: was})
            visit(view, l, (p[0], p[1], 0.0), rho, eps, only=name)
            s.u[name] = view.u[name]
            onto = {"a": box, "z": preimage}.get(name[0]) if l < s.depth else None
            ahead = s.u[name] + (0.0 if s.memory["fell"] else p[2]) * (s.u[name] - was)
            shown[name] = onto(view, l, eps)(ahead) if onto else ahead


def mdlam_step(s: Slow, k: int) -> None:  # (9)
    omega = nesterov(k)
    sweep(s, k, (omega, omega, 0.0), s.hp.rho)


def ipdlam_step(s: Slow, k: int) -> None:  # (11)
    p, rho = s.hp.inertia, s.hp.rho * min((1 + s.hp.growth) ** k, s.hp.most)
    s.u["rho"] = torch.full_like(s.u["rho"], rho)
    sweep(s, k, (p, p, 0.0), rho)


def ipdlam_init(s: Slow) -> None:
    init(s)
    s.u["rho"] = torch.full((1, 1), s.hp.rho, dtype=s.x.dtype, device=s.x.device)


def ipdlam_objective(s: Slow) -> float:
    """F at the rho of the last iteration."""
    return objective(s, rho=s.u["rho"].item())


def nesterov(k: int) -> float:  # (9)
    """omega_k; 0 at k = 0, where there is nothing to extrapolate."""
    s = [0.0]
    for _ in range(k + 1):
        s.append((1 + math.sqrt(1 + 4 * s[-1] ** 2)) / 2)
    return (s[k] - 1) / s[k + 1] if k else 0.0


def sweep(s: Slow, k: int, p: Three, rho: float) -> None:
    """Blocks in the order of SPEC 1: W_l, b_l, z_l, a_l for l = 1 .. L."""
    eps = epsilon(s, k)
    clip(s, eps)
    for l in s.layers:
        visit(s, l, p, rho, eps)


def visit(s: Slow, l: int, p: Three, rho: float, eps: float, only: str = "") -> None:
    """The blocks of layer l, or one of them."""
    u, asked = s.u, lambda name: only in ("", name)
    f = weight_objective(u[f"a{l - 1}"], u[f"b{l}"], u[f"z{l}"], rho, s.hp.mu)
    if asked(f"W{l}"):
        block(s, f"W{l}", p, lambda tilde, hat: weight_plus(s, l, rho, tilde, hat), f.change)  # (3)

    rest = u[f"z{l}"] - u[f"a{l - 1}"] @ u[f"W{l}"].T
    m = column_mean(rest)
    if asked(f"b{l}"):
        block(s, f"b{l}", p, lambda tilde, hat: tilde - (hat - m), distance(rest).change)  # (4)

    c, z = s.linear(l), u[f"z{l}"]
    if l == s.depth:
        rise = lambda v, w: risk(s, w) - risk(s, v) + rho * distance(c).change(v, w)
        if asked(f"z{l}"):
            block(s, f"z{l}", p, lambda tilde, hat: proximal(tilde - (hat - c), s.y, rho, z), rise)  # (7)
        return
    hidden = preimage(s, l, eps)
    if asked(f"z{l}"):
        block(s, f"z{l}", p, lambda tilde, hat: hidden(tilde - (hat - c)), distance(c).change, hidden)  # (5)

    project = box(s, l, eps)
    f = activation_objective(u[f"W{l + 1}"], u[f"b{l + 1}"], u[f"z{l + 1}"], rho)
    plus = lambda tilde, hat: activation_plus(s, l, rho, tilde, hat, project)
    if asked(f"a{l}"):
        block(s, f"a{l}", p, plus, f.change, project)  # (6)


def block(
    s: Slow,
    name: str,
    p: Three,
    plus: Callable[[Tensor, Tensor], Tensor],  # u~, u^ -> u+
    change: Callable[[Tensor, Tensor], float],  # u, v -> f(v) - f(u)
    project: Map = lambda u: u,
) -> None:  # (8)
    u = s.u[name]
    d = u - s.last.get(name, u)
    s.last[name] = u

    def three(p1: float, p2: float, p3: float) -> Tensor:
        after = plus(u + p1 * d, u + p2 * d)
        return project(after + p3 * (after - u))

    new = three(*p)
    s.memory["fell"] = fell = getattr(s.hp, "safeguard", True) and change(u, new) > 0
    s.u[name] = three(0.0, 0.0, 0.0) if fell else new


def weight_plus(
    s: Slow, l: int, rho: float, tilde: Tensor, hat: Tensor, max_doublings: int | None = None
) -> Tensor:  # (3)
    a, b, z, mu = s.u[f"a{l - 1}"], s.u[f"b{l}"], s.u[f"z{l}"], s.hp.mu
    f = weight_objective(a, b, z, rho, mu)
    if s.hp.step_rule == "lipschitz":
        return tilde - f.gradient(hat) / (rho * largest_eigenvalue(a) + mu)
    if s.hp.step_rule == "inverse":
        H = rho * (a.T @ a).double() + mu * torch.eye(a.shape[1]).to(a).double()
        m = torch.linalg.solve(H, rho * (a.T @ (z - b)).double()).T.to(a.dtype)
        return tilde - (hat - m)
    return backtrack(s, f, tilde, hat, s.hp.theta_0, max_doublings=max_doublings)[0]


def activation_plus(
    s: Slow, l: int, rho: float, tilde: Tensor, hat: Tensor, project: Map, max_doublings: int | None = None
) -> Tensor:  # (6)
    W, b, z = s.u[f"W{l + 1}"], s.u[f"b{l + 1}"], s.u[f"z{l + 1}"]
    f = activation_objective(W, b, z, rho)
    if s.hp.step_rule == "lipschitz":
        tau = rho * largest_eigenvalue(W)
        return project(tilde - f.gradient(hat) / tau if tau > 0 else tilde)
    return backtrack(s, f, tilde, hat, s.hp.tau_0, project, max_doublings)[0]


def largest_eigenvalue(A: Tensor) -> float:
    """Of A^T A."""
    return torch.linalg.matrix_norm(A.double(), 2).item() ** 2


def proximal(c: Tensor, y: Tensor, rho: float, near: Tensor | None = None) -> Tensor:  # (7)
    """argmin_z CE(z, y) + rho/2 ||z - c||^2, near a guess that saves steps."""
    weight = torch.full((1, 1, 1), rho, dtype=c.dtype, device=c.device)
    return prox_cross_entropy(c[None], y, weight, near=None if near is None else near[None])[0]


def released_step(s: Slow, k: int) -> None:  # (10)
    omega = (nesterov(k) if s.hp.counter_advances else -1.0) if s.hp.inertia else 0.0
    eps = epsilon(s, k)
    if s.hp.start_clip:
        clip(s, eps)
    for l in s.layers:
        released_visit(s, l, omega, eps)


def released_visit(s: Slow, l: int, omega: float, eps: float) -> None:  # (10)
    u, rho, most = s.u, s.hp.rho, s.hp.max_doublings
    before = dict(u)
    wrong = lambda name: f"W{l}" if l == s.depth else name

    def guarded(name: str, plus: Map, *put_back: str) -> None:
        """A block's step, and again from u^k where F is above what it is with these blocks as they were."""
        extrapolated = before[name] + omega * (before[name] - s.last.get(name, before[name]))
        u[name], plain = plus(extrapolated), plus(before[name])
        now, then = released_objective(s), released_objective(s, {other: before[other] for other in put_back})
        if abs(now - then) <= TIE * abs(then) and not torch.allclose(u[name], plain, rtol=0, atol=TIE):
            s.memory["tied"] = True
        if now > then:
            u[name] = plain
        s.last[name] = before[name]

    guarded(f"W{l}", lambda v: weight_plus(s, l, rho, v, v, most), f"W{l}")
    if l != s.hp.frozen_bias:
        mean = lambda v: v - column_mean(torch.addmm(v, u[f"a{l - 1}"], u[f"W{l}"].T) - u[f"z{l}"])
        guarded(f"b{l}", mean, wrong(f"b{l}"))
        if l == s.depth:
            u[f"b{l}"] = mean(u[f"b{l}"])
    c = s.linear(l)
    if l == s.depth:
        guarded(f"z{l}", lambda v: proximal(v - (v - c), s.y, rho), wrong(f"z{l}"))
        return
    hidden = preimage(s, l, eps)
    guarded(f"z{l}", lambda v: hidden(v - (v - c)), wrong(f"z{l}"))

    project, below = box(s, l, eps), f"a{l - 1}"
    step = lambda v: activation_plus(s, l, rho, v, v, project, most)
    if s.hp.stale_guard and l > 1:
        before[below] = s.last[below]
        guarded(f"a{l}", step, below, f"a{l}")
    else:
        guarded(f"a{l}", step, f"a{l}")


def released_objective(s: Slow, put_back: dict[str, Tensor] | None = None) -> float:
    """F as the released code counts it, with other values of some variables."""
    other = dataclasses.replace(s, u=s.u | (put_back or {}))
    return objective(other, s.hp.penalty_count)


STARTS = dict.fromkeys(("tiam", "mdlam", "mdlam-released"), init) | {"ipdlam": ipdlam_init}
STEPS = {"tiam": tiam_step, "mdlam": mdlam_step, "mdlam-released": released_step, "ipdlam": ipdlam_step}
OBJECTIVES: dict[str, Callable[[Slow], float]] = {name: objective for name in ("tiam", "mdlam")}
OBJECTIVES |= {"mdlam-released": released_objective, "ipdlam": ipdlam_objective}
