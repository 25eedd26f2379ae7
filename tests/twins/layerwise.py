"""pdADMM, LocoProp and ProxProp, slow (SPEC 10).

pdADMM, a line for all layers before the next line, q, u and z on the right from the last iteration where not yet moved:
(1)  p_l, l > 1: one step of f = nu/2 ||z_l - p W_l^T - b_l||^2 + rho/2 ||p - (q_{l-1} - u_{l-1}/rho)||^2, from tau_0
(2)  W_l: one step of f = nu/2 ||z_l - p_l W^T - b_l||^2, backtracking from theta_0
(3)  b_l: mean_n(z_l - p_l W_l^T)
(4)  z_l, l < L: argmin_z (z - c)^2 + (q_l - h(z))^2, c = p_l W_l^T + b_l;  z_L: argmin_z CE(z, y) + nu/2 ||z - c||^2
(5)  q_l: (rho p_{l+1} + u_l + nu h(z_l)) / (rho + nu), l < L
(6)  u_l: u_l + rho (p_{l+1} - q_l)
(7)  sum CE(z_L, y) + nu/2 sum_l (||z_l - p_l W_l^T - b_l||^2 + ||q_l - h(z_l)||^2)
         + sum_l <u_l, p_{l+1} - q_l> + rho/2 ||p_{l+1} - q_l||^2

On a mini-batch of B rows, a_{l-1} and z_l of one forward pass, L the mean cross-entropy:
(8)  LocoProp: t_l = f(z_l) - gamma dL/dz_l, f the identity ("squared") or h, softmax in the output layer ("matching");
     step t < T of layer l: g = (f(a W^T + b) - t_l) / B, backwards through the layer, v <- decay v + (1 - decay) g^2,
     u <- u - max(1 - t/T, 1/4) learning_rate g / (sqrt v + epsilon), u = W_l, b_l
(9)  ProxProp: (W_l, b_l) = argmin 1/2 ||a W^T + b - z_l + gamma dL/dz_l||^2 + ||W - W_l||^2 / (2 tau), from the normal
     equations of (W, b) with a column of ones, which the proximal term leaves out
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from twins import Slow, penalised
from twins.majoriser import activation_objective, backtrack, column_mean, inner, square, weight_objective
from twins.splitting import scalar_prox


def pdadmm_init(s: Slow) -> None:
    penalised.init(s)
    u = s.u
    for l in s.layers[:-1]:
        u[f"p{l + 1}"] = u[f"q{l}"] = u.pop(f"a{l}")
        u[f"u{l}"] = torch.zeros_like(u[f"q{l}"])


def pdadmm_input(s: Slow, l: int) -> Tensor:
    return s.u[f"p{l}"] if l > 1 else s.x


def pdadmm_step(s: Slow, k: int) -> None:
    u, nu, rho = s.u, s.hp.nu, s.hp.rho
    for l in s.layers[1:]:  # (1)
        centre = u[f"q{l - 1}"] - u[f"u{l - 1}"] / rho
        f = activation_objective(u[f"W{l}"], u[f"b{l}"], u[f"z{l}"], nu, rho, centre)
        u[f"p{l}"], _ = backtrack(s, f, u[f"p{l}"], u[f"p{l}"], s.hp.tau_0)
    for l in s.layers:
        p, z = pdadmm_input(s, l), u[f"z{l}"]
        f = weight_objective(p, u[f"b{l}"], z, nu)  # (2)
        u[f"W{l}"], _ = backtrack(s, f, u[f"W{l}"], u[f"W{l}"], s.hp.theta_0)
        u[f"b{l}"] = column_mean(z - p @ u[f"W{l}"].T)  # (3)
        c = F.linear(p, u[f"W{l}"], u[f"b{l}"])
        if l < s.depth:  # (4)
            u[f"z{l}"] = scalar_prox(s.act, c, u[f"q{l}"], 1.0)
        else:
            u[f"z{l}"] = penalised.proximal(c, s.y, nu, z)
    for l in s.layers[:-1]:
        p = u[f"p{l + 1}"]
        u[f"q{l}"] = (rho * p + u[f"u{l}"] + nu * s.act.value(u[f"z{l}"])) / (rho + nu)  # (5)
        u[f"u{l}"] = u[f"u{l}"] + rho * (p - u[f"q{l}"])  # (6)


def pdadmm_objective(s: Slow) -> float:  # (7)
    u, nu, rho = s.u, s.hp.nu, s.hp.rho
    value = F.cross_entropy(u[f"z{s.depth}"], s.y, reduction="sum").item()
    for l in s.layers:
        value += nu / 2 * square(F.linear(pdadmm_input(s, l), u[f"W{l}"], u[f"b{l}"]) - u[f"z{l}"])
    for l in s.layers[:-1]:
        gap = u[f"p{l + 1}"] - u[f"q{l}"]
        value += nu / 2 * square(u[f"q{l}"] - s.act.value(u[f"z{l}"])) + inner(u[f"u{l}"], gap) + rho / 2 * square(gap)
    return value


def passes(s: Slow, k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """a_{l-1}, z_l and dL/dz_l of every layer on mini-batch k, by autograd."""
    a, y = s.batch(k)
    inputs, z = [], []
    for l in s.layers:
        inputs.append(a.detach())
        z.append(F.linear(a, s.u[f"W{l}"], s.u[f"b{l}"]).requires_grad_())
        a = s.act.value(z[-1])
    gradients = torch.autograd.grad(F.cross_entropy(z[-1], y), z)
    return [(a, output.detach(), g) for a, output, g in zip(inputs, z, gradients)]


def locoprop_step(s: Slow, k: int) -> None:  # (8)
    hp = s.hp
    for l, (a, z, gradient) in enumerate(passes(s, k), 1):
        softmax = lambda v: torch.softmax(v, 1)
        link = (lambda v: v) if hp.loss == "squared" else softmax if l == s.depth else s.act.value
        target = link(z) - hp.gamma * gradient
        for t in range(hp.local_steps):
            layer = {name: s.u[name].detach().requires_grad_() for name in (f"W{l}", f"b{l}")}
            output = F.linear(a, *layer.values())
            slope = ((link(output) - target) / len(a)).detach()
            for name, g in zip(layer, torch.autograd.grad(output, list(layer.values()), slope)):
                v = hp.decay * s.memory.get(name, torch.zeros_like(g)) + (1 - hp.decay) * g * g
                rate = max(1 - t / hp.local_steps, 0.25) * hp.learning_rate
                s.memory[name], s.u[name] = v, s.u[name] - rate * g / (torch.sqrt(v) + hp.epsilon)


def proxprop_step(s: Slow, k: int) -> None:  # (9)
    for l, (a, z, gradient) in enumerate(passes(s, k), 1):
        A = torch.cat([a, torch.ones_like(a[:, :1])], 1)
        hold = torch.eye(A.shape[1]).to(A) / s.hp.tau
        hold[-1, -1] = 0.0
        last = torch.cat([s.u[f"W{l}"], s.u[f"b{l}"][:, None]], 1)
        right = A.T @ (z - s.hp.gamma * gradient) + hold @ last.T
        new = torch.linalg.solve(A.T @ A + hold, right).T
        s.u[f"W{l}"], s.u[f"b{l}"] = new[:, :-1], new[:, -1]


STARTS = {"pdadmm": pdadmm_init}
STEPS = {"pdadmm": pdadmm_step, "locoprop": locoprop_step, "proxprop": proxprop_step}
OBJECTIVES = {"pdadmm": pdadmm_objective}
