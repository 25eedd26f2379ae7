"""ELU: z above 0, e^z - 1 below; and what SELU and CELU share with it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations.base import Activation, each_run
from am.activations.prox import best, smooth_roots


def elu_inverse(v: Tensor, scale: float = 1.0, alpha: float = 1.0) -> Tensor:
    return torch.where(v > 0, v / scale, torch.log1p(v.clamp(max=0) / (scale * alpha)))


def elu_prox(scale: float = 1.0, alpha: float = 1.0) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """ELU, CELU and SELU: h = scale z above 0, scale alpha (e^z - 1) below."""
    depth = scale * alpha

    def curve(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slope = torch.exp(z).mul_(depth)
        return slope - depth, slope, slope

    def prox(c: Tensor, a: Tensor, w: Tensor) -> Tensor:
        h, slope, _ = curve(c.clamp(max=0))
        low = (c - w * slope * torch.relu(h - a)).clamp_(max=0)
        high = torch.addcmul(c, torch.relu_(a - h), w * depth).clamp_(max=0)
        turn = torch.log(((a + depth) / (4 * depth)).clamp_(min=0))
        below = smooth_roots(curve, c, a, w, low, high, turn)
        above = torch.addcmul(c, a, w * scale).div_(1 + w * scale**2).clamp_(min=0)
        return best(c, a, w, [(above, scale * above), *((z, curve(z)[0]) for z in below)])

    return prox


ACTIVATION = each_run(
    Activation(
        "elu", "ELU", F.elu, lambda z, a: torch.where(z > 0, 1.0, a + 1), elu_inverse, elu_prox(), open_below=-1.0
    )
)
