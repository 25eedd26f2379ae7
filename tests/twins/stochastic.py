"""SAMT, SAM, AM-Adam and AM-Adam as released, slow: every gradient by autograd (SPEC 3 and 4).

SAMT, for mini-batch S_k and each block l in turn:
(1) T times: g_t = grad_(W_l, b_l) F(current; S_k);  W_l <- W_l - alpha_l * g_t;  b_l <- b_l - alpha^b_l g_t
(2) q = grad_(W_l, b_l) F(current; Q_k), Q_k = S_{k+1} (after the last comes the first) or S_k
(3) H_l = -reduce((sum_t g_t) * q), reduce the sum over the entries that share a step size
(4) meta = gd:        alpha_l <- clip(alpha_l - beta H_l, 1e-6, 10)
(5) meta = log_adam:  log alpha_l <- log alpha_l - beta Adam(alpha_l * H_l), Adam .9/.999/1e-12, then clipped as in (4)
(6) SAM: (1) alone, with one alpha

AM-Adam, for mini-batch (x, y), with c_0 = x and no h on it; hidden layers have no bias:
(7)  c0_l = z_l of the forward pass, l < L
(8)  for l = L-1 .. 1: c = c0_l, v = 0, then n times
     g = grad_c [1/mu loss_l + mse(c, c0_l)];  v <- m v + g;  c <- c - rate (g + m v)
     loss_{L-1} = CE(W_L h(c) + b_L, y), loss_l = mu mse(W_{l+1} h(c), c_{l+1}) at the new c_{l+1}
(9)  one Adam step (.9/.999/1e-8) of (W_L, b_L) on CE(W_L h(c_{L-1}) + b_L, y)
(10) one Adam step of each W_l, l < L, on mse(W_l h(c_{l-1}), c_l); the rate halves every `halve_every` epochs
(11) released: c0_l of (8) is the code's own clone with its gradient attached, at every step
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from twins import Slow
from twins.gradient import adam_direction, course

ALPHA_MIN, ALPHA_MAX = 1e-6, 10.0  # (4)
META_ADAM, WEIGHT_ADAM = (0.9, 0.999, 1e-12), (0.9, 0.999, 1e-8)  # (5), (9)


def reduce(shape: str, name: str, t: Tensor) -> Tensor:  # (3)
    """The sum over the entries of W_l or b_l that share a step size."""
    if name.startswith("b"):
        return t.sum().reshape(1)
    axes = {"scalar": (0, 1), "row": (1,), "column": (0,), "element": ()}[shape]
    return t.sum(axes, keepdim=True) if axes else t


def samt_init(s: Slow) -> None:
    for name in s.trained:
        s.u[f"alpha_{name}"] = s.hp.alpha0 * torch.ones_like(reduce(s.hp.shape, name, s.u[name]))


def samt_step(s: Slow, k: int) -> None:
    query = s.batch(k + 1) if s.hp.query == "next" else s.batch(k)
    for l in s.layers if s.hp.order == "forward" else reversed(s.layers):
        total = move_block(s, l, k)
        for name, q in s.gradient(total, *query).items():  # (2)
            H = -reduce(s.hp.shape, name, total[name] * q)  # (3)
            s.u[f"alpha_{name}"] = learnt(s, f"alpha_{name}", H, k).clamp(ALPHA_MIN, ALPHA_MAX)


def move_block(s: Slow, l: int, k: int) -> dict[str, Tensor]:  # (1)
    """The moves of block l; returns the sum of its gradients."""
    total: dict[str, Tensor] = {}
    factor = course(s, k) if s.name == "samt" else 1.0  # (1) times the factor of a schedule, where there is one
    for _ in range(s.hp.inner_steps):
        for name, g in s.gradient((f"W{l}", f"b{l}"), *s.batch(k)).items():
            alpha = s.hp.alpha if s.name == "sam" else s.u[f"alpha_{name}"]
            s.u[name] = s.u[name] - factor * alpha * g
            total[name] = total.get(name, 0.0) + g
    return total


def learnt(s: Slow, name: str, H: Tensor, k: int) -> Tensor:
    alpha = s.u[name]
    if s.hp.meta == "gd":
        return alpha - s.hp.beta * H  # (4)
    return torch.exp(torch.log(alpha) - s.hp.beta * adam_direction(s, name, alpha * H, k, *META_ADAM))  # (5)


def sam_step(s: Slow, k: int) -> None:  # (6)
    for l in s.layers if s.hp.order == "forward" else reversed(s.layers):
        move_block(s, l, k)


def am_adam_init(s: Slow) -> None:
    for l in s.layers[:-1]:
        s.u[f"b{l}"] = torch.zeros_like(s.u[f"b{l}"])


def am_adam_step(s: Slow, k: int) -> None:
    x, y = s.batch(k)
    below = x
    for l in s.layers[:-1]:  # (7)
        s.u[f"c{l}"] = F.linear(below, s.u[f"W{l}"])
        below = s.act.value(s.u[f"c{l}"])
    for l in reversed(s.layers[:-1]):
        s.u[f"c{l}"] = moved_code(s, l, y)
    rate = s.hp.learning_rate * 0.5 ** (k // (s.hp.halve_every * len(s.batches)))
    for l in s.layers:  # (9), (10)
        names = (f"W{l}", f"b{l}") if l == s.depth else (f"W{l}",)
        leaves = {name: s.u[name].detach().requires_grad_() for name in names}
        loss = layer_loss(s, l, s.act.value(s.u[f"c{l - 1}"]) if l > 1 else x, y, leaves)
        for name, g in zip(names, torch.autograd.grad(loss, list(leaves.values()))):
            s.u[name] = s.u[name] - rate * adam_direction(s, name, g, k, *WEIGHT_ADAM)


def layer_loss(s: Slow, l: int, a: Tensor, y: Tensor, leaves: dict[str, Tensor] | None = None) -> Tensor:
    """CE of the output layer or mse of a hidden one, at input a, with the parameters of `leaves` for the run's."""
    u = s.u | (leaves or {})
    if l == s.depth:
        return F.cross_entropy(F.linear(a, u[f"W{l}"], u[f"b{l}"]), y)
    return F.mse_loss(F.linear(a, u[f"W{l}"]), u[f"c{l}"])


def moved_code(s: Slow, l: int, y: Tensor) -> Tensor:  # (8)
    start = s.u[f"c{l}"]
    c, v, weight = start, 0.0, 1 / s.hp.mu if l == s.depth - 1 else 1.0  # 1/mu mu
    for _ in range(s.hp.code_steps):
        leaf = c.clone().requires_grad_()
        held = start if s.hp.detach_target else leaf.clone()  # (11)
        (g,) = torch.autograd.grad(weight * layer_loss(s, l + 1, s.act.value(leaf), y) + F.mse_loss(leaf, held), leaf)
        v = s.hp.code_momentum * v + g
        c = c - s.hp.code_rate * (g + s.hp.code_momentum * v)
    return c


STARTS = {"samt": samt_init, "am-adam": am_adam_init, "am-adam-released": am_adam_init}
STEPS = {"samt": samt_step, "sam": sam_step, "am-adam": am_adam_step, "am-adam-released": am_adam_step}
