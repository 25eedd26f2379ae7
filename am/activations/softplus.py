"""Softplus: log(1 + e^z)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations.base import Activation, each_run
from am.activations.prox import best, smooth_roots


def _softplus_curve(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s = torch.sigmoid(z)
    # log, for float32 log1p is ten times slower and h matters to absolute rounding only.
    return torch.exp(-z.abs()).add_(1).log_().add_(torch.relu(z)), s, s * (1 - s)


def _softplus_prox(c: Tensor, a: Tensor, w: Tensor) -> Tensor:
    h, slope, _ = _softplus_curve(c)
    low, high = c - w * slope * torch.relu(h - a), torch.addcmul(c, torch.relu(a - h), w)
    # f' of `_slope` has its one dip, if any, where (1 - t) (a - log(1 + t)) = 3 t, t = e^z: convex in t.
    t = torch.zeros_like(a)
    for _ in range(4):
        gap = a - torch.log(1 + t)
        t = t + ((1 - t) * gap - 3 * t) / (gap + (1 - t) / (1 + t) + 3)
    turn = torch.log(torch.where(a > 0, t, 0.0))
    roots = smooth_roots(_softplus_curve, c, a, w, low, high, turn)
    return best(c, a, w, [(z, _softplus_curve(z)[0]) for z in roots])


ACTIVATION = each_run(
    Activation(
        "softplus",
        "softplus",
        lambda z: F.softplus(z, threshold=40.0),  # torch's own 20 leaves 2e-9
        lambda z, a: torch.sigmoid(z),
        lambda v: v + torch.log(-torch.expm1(-v)),
        _softplus_prox,
        open_below=0.0,
    )
)
