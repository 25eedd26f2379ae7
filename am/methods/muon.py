"""Muon: momentum of every hidden layer's W, orthogonalised; AdamW for the biases and the output layer.

M <- mu M + (1 - mu) g;  U = (1 - mu) g + mu M (Nesterov);
W <- (1 - lr wd) W - lr sqrt(max(1, d_out / d_in)) NS(U), with five Newton-Schulz steps
X <- a X + (b X X^T + c (X X^T)^2) X from X = U / ||U||_F, which send all singular values near 1.
The first layer counts as hidden: on images it is a dense matrix like the others, and no embedding. A network of one
layer has no hidden one and is trained by AdamW. Worked in the run's dtype, in both lanes; torch.optim.Muon, equal
otherwise, orthogonalises in bfloat16.

Cost per step: one forward and one backward pass over the batch, and for each hidden W, with m its smaller and n its
larger side, 5 (4 m^2 n + 2 m^3) FLOPs.
Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
kellerjordan.github.io/posts/muon; Liu et al., "Muon is Scalable for LLM Training", 2025, arXiv 2502.16982.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.descent import GradientState, Scheduled, adam_direction, backpropagation_flops, gradient_method, number
from am.linalg import square
from am.method import BELOW_ONE, Choice, Cost, Log, setting
from am.networks import Parameters, view_layers

NEWTON_SCHULZ, STEPS, LEAST_NORM = (3.4445, -4.7750, 2.0315), 5, 1e-7


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(
        0.02, "step size of the hidden layers' W", search=Log(1e-3, 0.3), low=1e-12, role="step size"
    )
    momentum: float = setting(
        0.95, "share of the last momentum kept", search=Choice((0.8, 0.9, 0.95)), low=0.0, high=BELOW_ONE
    )
    adam_rate: float = setting(
        1e-3, "step size of the biases and the output layer", search=Log(1e-4, 3e-2), low=1e-12, role="step size"
    )
    weight_decay: float = setting(1e-2, "decoupled decay of all parameters", search=Log(1e-4, 0.3), low=0.0)
    beta1: float = setting(0.9, "AdamW's decay of the first moment", low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.95, "AdamW's decay of the second moment", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-10, "added to the root of AdamW's second moment", low=0.0)


def orthogonalised(U: Tensor) -> Tensor:  # (R, d_out, d_in) -> the same
    """U with all its singular values between about .7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    wide = U.shape[1] <= U.shape[2]
    X = U if wide else U.mT
    X = X / square(X).sqrt().clamp(min=LEAST_NORM).to(U.dtype)
    for _ in range(STEPS):
        G = torch.bmm(X, X.mT)
        X = torch.baddbmm(X, torch.baddbmm(G, G, G, beta=b, alpha=c), X, beta=a)
    return X if wide else X.mT


def move(W: Tensor, g: Tensor, M: Tensor, lr: Tensor, momentum: Tensor, weight_decay: Tensor) -> None:
    # W, its gradient g and momentum M: (R, d_out, d_in); the others (R, 1, 1) or 0-d, in the same dtype
    """One step of a hidden W and of its momentum, in place."""
    M.lerp_(g, 1 - momentum)
    shape = math.sqrt(max(1.0, W.shape[1] / W.shape[2]))
    W.mul_(1 - lr * weight_decay).addcmul_(orthogonalised(torch.lerp(g, M, momentum)), lr * shape, value=-1)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    params, g, exact = state.params, state.gradient, hp.exact
    first, second = state.memory["first"], state.memory["second"]  # momentum, too, of what Muon moves
    lr, adam_rate, t = hp.learning_rate * factor, hp.adam_rate * factor, number(k, params.flat)
    for W, gW, M in zip(params.W[:-1], g.W, first.W):
        move(W, gW, M, lr, hp.momentum, hp.weight_decay)
    for p, gp, m, v in zip(*([*by.b, by.W[-1]] for by in (params, g, first, second))):
        direction = adam_direction(gp, m, v, exact.beta1, exact.beta2, exact.epsilon, t)
        p.mul_(1 - adam_rate * hp.weight_decay).addcmul_(direction, adam_rate, value=-1)


def moments(params: Parameters, hp: SimpleNamespace) -> dict[str, Parameters]:
    return {name: view_layers(torch.zeros_like(params.flat), params.widths) for name in ("first", "second")}


def flops(widths: Sequence[int], rows: int, settings: Hyperparameters) -> int:
    sides = [sorted(pair) for pair in zip(widths[:-1], widths[1:-1])]
    return backpropagation_flops(widths, rows) + sum(STEPS * (4 * m * m * n + 2 * m**3) for m, n in sides)


METHOD = gradient_method(
    "muon",
    "Muon",
    Hyperparameters,
    update,
    more_memory=moments,
    cost=Cost(flops),
)
