"""dlADMM and BCD, slow (SPEC 4).

dlADMM, with t_l = z_l for l < L and t_L = z_L + u/rho:
(1)  L = R(z_L, y) + <u, z_L - a_{L-1} W_L^T - b_L> + rho/2 sum_l ||z_l - a_{l-1} W_l^T - b_l||^2
         + rho/2 sum_{l<L} ||a_l - h(z_l)||^2
(2)  z_L:  FISTA on f = CE(z, y) + rho/2 ||z - c||^2, c = a_{L-1} W_L^T + b_L - u/rho, from the last z_L; step 4, at
     most 500, until |f - f_last| < fista_tolerance (released: 1e-3); softmax as released, e^z / (sum e^z + 1e-10).
     Or the minimiser ("exact")
(3)  b_l:  mean_n(t_l - a_{l-1} W_l^T)
(4)  W_l:  W - g/theta of f = rho/2 ||t_l - a_{l-1} W^T - b_l||^2, theta by backtracking from theta_0
(5)  a_l:  a - g/tau of f = rho/2 ||t_{l+1} - a W^T - b||^2 + rho/2 ||a - h(z_l)||^2, W and b of layer l+1, from tau_0
(6)  z_l:  argmin_z (z - c)^2 + (a_l - h(z))^2, c = a_{l-1} W_l^T + b_l, l < L
(7)  one iteration: (2), (3), (4), (5) for a_{L-1}; then (6), (3), (4), (5) downwards to W_1; then upwards from W_1
     (4), (3), (6), (5), ..., (4), (3), (2);  u <- u + rho (z_L - a_{L-1} W_L^T - b_L)
(8)  schedule: after an iteration in which the network's training cost rose for the third time in a row, or more,
     rho <- min(10 rho, .1); theta_0 and tau_0 x 10 where the first hidden layer has at least 100 units

BCD, N layers, V_0 = X, Y one-hot, alpha and alpha_w the weights that hold V, U and W, b near their last values:
(9)  V_N:  argmin 1/2 ||V - Y||^2 + gamma/2 ||V - U_N||^2 + alpha/2 ||V - V_N||^2
(10) U_N:  argmin gamma/2 ||V_N - U||^2 + rho/2 ||U - V_{N-1} W_N^T - b_N||^2
(11) W_i, b_i, each at the other's last value: argmin rho/2 ||U_i - V_{i-1} W^T - b_i||^2 + alpha_w/2 ||W - W_i||^2,
     and b_i likewise; W_i in float64, as a correction of the last W_i, without which float32 leaves no digits:
     W + (U_i - V W^T - b)^T V (V^T V + alpha_w/rho I)^-1
(12) V_i, i < N:  argmin gamma/2 ||V - h(U_i)||^2 + rho/2 ||U_{i+1} - V W_{i+1}^T - b_{i+1}||^2
(13) U_i, i < N:  argmin gamma/2 ||V_i - h(U)||^2 + rho/2 ||U - V_{i-1} W_i^T - b_i||^2 + alpha/2 ||U - U_i||^2
(14) one sweep: (9), (10), (11) for N; then (12), (13), (11) for i = N-1, ..., 1, by torch.inverse as released
(15) the loss that the authors report: gamma/2 ||V_N - Y||^2 + rho/2 sum_i ||U_i - V_{i-1} W_i^T - b_i||^2
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations import Activation
from twins import Slow, penalised
from twins.majoriser import (
    Quadratic,
    activation_objective,
    backtrack,
    column_mean,
    inner,
    square,
    weight_objective,
)

FISTA_STEP, FISTA_ITERATIONS, GUARD = 4.0, 500, 1e-10  # (2)


def scalar_prox(act: Activation, c: Tensor, a: Tensor, w: float) -> Tensor:  # (6), (13)
    """argmin_z (z - c)^2 + w (a - h(z))^2: for ReLU the better of the two candidates, as released."""
    if act.name != "relu":
        return act.scalar_prox(c, a, torch.tensor(w, dtype=c.dtype, device=c.device))
    left, right = c.clamp(max=0), ((c + w * a) / (1 + w)).clamp(min=0)
    value = lambda z: (z - c) ** 2 + w * (a - z.clamp(min=0)) ** 2
    return torch.where(value(left) > value(right), right, left)


# dlADMM


def dladmm_init(s: Slow) -> None:
    if s.hp.images:
        s.x, s.y = s.x[: s.hp.images], s.y[: s.hp.images]
        s.u["a0"] = s.x
    penalised.init(s)
    s.u["u"] = torch.zeros_like(s.u[f"z{s.depth}"])
    s.memory = dict(rho=s.hp.rho, costs=[])
    s.memory |= {f"W{l}": s.hp.theta_0 for l in s.layers} | {f"a{l}": s.hp.tau_0 for l in s.layers[:-1]}


def dladmm_step(s: Slow, k: int) -> None:  # (7)
    L = s.depth
    if s.hp.rho_schedule:
        follow_schedule(s)
    for l in reversed(s.layers):
        dladmm_z(s, l)
        dladmm_b(s, l)
        dladmm_W(s, l)
        if l > 1:
            dladmm_a(s, l - 1)
    for l in s.layers:
        dladmm_W(s, l)
        dladmm_b(s, l)
        dladmm_z(s, l)
        if l < L:
            dladmm_a(s, l)
    s.u["u"] = s.u["u"] + s.memory["rho"] * (s.u[f"z{L}"] - s.linear(L))
    if s.hp.rho_schedule:
        s.memory["costs"].append(s.loss(s.x, s.y).item())


def target(s: Slow, l: int) -> Tensor:
    """t_l."""
    return s.u[f"z{l}"] + s.u["u"] / s.memory["rho"] if l == s.depth else s.u[f"z{l}"]


def dladmm_W(s: Slow, l: int) -> None:  # (4)
    f = weight_objective(s.u[f"a{l - 1}"], s.u[f"b{l}"], target(s, l), s.memory["rho"])
    gradient_step(s, f"W{l}", f)


def dladmm_b(s: Slow, l: int) -> None:  # (3)
    s.u[f"b{l}"] = column_mean(target(s, l) - s.u[f"a{l - 1}"] @ s.u[f"W{l}"].T)


def dladmm_a(s: Slow, l: int) -> None:  # (5)
    rho, h = s.memory["rho"], s.act.value(s.u[f"z{l}"])
    f = activation_objective(s.u[f"W{l + 1}"], s.u[f"b{l + 1}"], target(s, l + 1), rho, rho, h)
    gradient_step(s, f"a{l}", f)


def gradient_step(s: Slow, name: str, f: Quadratic) -> None:
    u = s.u[name]
    s.u[name], accepted = backtrack(s, f, u, u, s.memory[name])
    if s.hp.keep_step_sizes:
        s.memory[name] = accepted


def dladmm_z(s: Slow, l: int) -> None:
    c, rho = s.linear(l), s.memory["rho"]
    if l < s.depth:
        s.u[f"z{l}"] = scalar_prox(s.act, c, s.u[f"a{l}"], 1.0)  # (6)
        return
    c, z = c - s.u["u"] / rho, s.u[f"z{l}"]
    exact = s.hp.output_step == "exact"
    s.u[f"z{l}"] = penalised.proximal(c, s.y, rho, z) if exact else fista(c, s.y, rho, z, s.hp.fista_tolerance)  # (2)


def fista(c: Tensor, y: Tensor, rho: float, z: Tensor, tolerance: float) -> Tensor:  # (2)
    """In float64, to see when f stands still."""
    dtype, c, z = z.dtype, c.double(), z.double()
    labels, guard = F.one_hot(y, c.shape[1]).to(c), torch.tensor(math.log(GUARD)).to(c)
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


def follow_schedule(s: Slow) -> None:  # (8)
    costs = s.memory["costs"][-4:]
    if len(costs) < 4 or not all(after > before for before, after in zip(costs, costs[1:])):
        return
    s.memory["rho"] = min(10 * s.memory["rho"], 0.1)
    if s.u["b1"].numel() >= 100:
        for name in s.memory.keys() - {"rho", "costs"}:
            s.memory[name] *= 10


def dladmm_objective(s: Slow) -> float:  # (1)
    rho, residuals = s.memory["rho"], {l: s.u[f"z{l}"] - s.linear(l) for l in s.layers}
    value = penalised.risk(s, s.u[f"z{s.depth}"]) + inner(s.u["u"], residuals[s.depth])
    value += rho / 2 * sum(square(residual) for residual in residuals.values())
    return value + rho / 2 * sum(square(s.u[f"a{l}"] - s.act.value(s.u[f"z{l}"])) for l in s.layers[:-1])


# BCD


def bcd_init(s: Slow) -> None:
    u = s.u
    u["V0"] = u.pop("a0")
    for i in s.layers:
        u[f"U{i}"] = bcd_product(s, i)
        u[f"V{i}"] = s.act.value(u[f"U{i}"]) if i < s.depth else u[f"U{i}"]


def bcd_product(s: Slow, i: int) -> Tensor:
    """V_{i-1} W_i^T + b_i."""
    return torch.addmm(s.u[f"b{i}"], s.u[f"V{i - 1}"], s.u[f"W{i}"].T)


def bcd_step(s: Slow, k: int) -> None:  # (14)
    u, N, (gamma, rho, alpha) = s.u, s.depth, (s.hp.gamma, s.hp.rho, s.hp.alpha)
    u[f"V{N}"] = (one_hot(s) + gamma * u[f"U{N}"] + alpha * u[f"V{N}"]) / (1 + gamma + alpha)  # (9)
    u[f"U{N}"] = (gamma * u[f"V{N}"] + rho * bcd_product(s, N)) / (gamma + rho)  # (10)
    bcd_layer(s, N)
    for i in reversed(s.layers[:-1]):
        W, b, h = u[f"W{i + 1}"], u[f"b{i + 1}"], s.act.value(u[f"U{i}"])
        inverse = torch.inverse(rho * W.T @ W + gamma * torch.eye(W.shape[1]).to(W))
        u[f"V{i}"] = (rho * (u[f"U{i + 1}"] - b) @ W + gamma * h) @ inverse  # (12)
        c = (rho * bcd_product(s, i) + alpha * u[f"U{i}"]) / (rho + alpha)
        u[f"U{i}"] = scalar_prox(s.act, c, u[f"V{i}"], gamma / (rho + alpha))  # (13)
        bcd_layer(s, i)


def bcd_layer(s: Slow, i: int) -> None:  # (11)
    u, rho, alpha = s.u, s.hp.rho, s.hp.alpha_weights
    V, W = u[f"V{i - 1}"], u[f"W{i}"]
    residual = u[f"U{i}"] - bcd_product(s, i)
    inverse = torch.inverse((V.T @ V).double() + alpha / rho * torch.eye(V.shape[1]).to(V).double())
    u[f"W{i}"] = W + ((residual.T @ V).double() @ inverse).to(W.dtype)
    u[f"b{i}"] = u[f"b{i}"] + rho / (rho * len(V) + alpha) * residual.sum(0)


def one_hot(s: Slow) -> Tensor:
    return F.one_hot(s.y, s.u[f"b{s.depth}"].numel()).to(s.x)


def bcd_objective(s: Slow) -> float:  # (15)
    value = s.hp.gamma / 2 * square((s.u[f"V{s.depth}"] - one_hot(s)).double())
    return value + s.hp.rho / 2 * sum(square((s.u[f"U{i}"] - bcd_product(s, i)).double()) for i in s.layers)


STARTS = {"dladmm": dladmm_init, "dladmm-released": dladmm_init, "bcd": bcd_init}
STEPS = {"dladmm": dladmm_step, "dladmm-released": dladmm_step, "bcd": bcd_step}
OBJECTIVES = {"dladmm": dladmm_objective, "dladmm-released": dladmm_objective, "bcd": bcd_objective}
