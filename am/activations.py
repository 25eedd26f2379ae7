"""Activations: value, derivative and, for the monotone ones, the interval pre-image that AM methods project onto.

Every function is elementwise and keeps shape and dtype. The pre-image of an interval under a monotone h is an
interval, `{z : lo <= h(z) <= hi} = [lower(lo), upper(hi)]`; the penalised problem of mDLAM and TIAM needs nothing else.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from am.errors import unknown

RANGE_MARGIN = 1e-6  # a bound below the open end m of h's range is inverted at m + RANGE_MARGIN (SPEC, z_l step)
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@dataclass(frozen=True)
class Activation:
    """One activation h.

    value: h(z).  derivative: h'(z), given z and h(z).  inverse: h^-1 on the open range, None where h is not monotone.
    open_below: the end of the range that h approaches and never reaches (-inf where there is none).
    flat_below, flat_above: ends of the range that h reaches on a whole half-line (ReLU: 0 below; ReLU6: 0 and 6).
    """

    name: str
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor] | None = None
    open_below: float = -math.inf
    flat_below: float = -math.inf
    flat_above: float = math.inf

    @property
    def monotone(self) -> bool:
        return self.inverse is not None

    def lower(self, bound: Tensor) -> Tensor:
        """Smallest z with h(z) >= bound; -inf where every z satisfies it."""
        end = max(self.open_below, self.flat_below)
        z = self.inverse(bound.clamp(max=self.flat_above) if self.flat_above < math.inf else bound)
        return torch.where(bound > end, z, -math.inf) if end > -math.inf else z

    def upper(self, bound: Tensor) -> Tensor:
        """Largest z with h(z) <= bound; where no z satisfies it, the end of the range stands in for the bound."""
        if self.flat_below > -math.inf:
            z = self.inverse(bound.clamp(min=self.flat_below))
        elif self.open_below > -math.inf:
            z = self.inverse(torch.where(bound > self.open_below, bound, self.open_below + RANGE_MARGIN))
        else:
            z = self.inverse(bound)
        return torch.where(bound < self.flat_above, z, math.inf) if self.flat_above < math.inf else z


def _elu_inverse(v: Tensor, scale: float = 1.0, alpha: float = 1.0) -> Tensor:
    return torch.where(v > 0, v / scale, torch.log1p(v.clamp(max=0) / (scale * alpha)))


def _gelu_derivative(z: Tensor, a: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _silu_derivative(z: Tensor, a: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 + z * (1 - s))


ACTIVATIONS: dict[str, Activation] = {
    act.name: act
    for act in (
        Activation("relu", F.relu, lambda z, a: (z > 0).to(z.dtype), lambda v: v, flat_below=0.0),
        Activation(
            "leaky_relu",
            F.leaky_relu,
            lambda z, a: torch.where(z > 0, 1.0, 0.01).to(z.dtype),
            lambda v: torch.where(v > 0, v, v / 0.01),
        ),
        Activation("elu", F.elu, lambda z, a: torch.where(z > 0, 1.0, a + 1), _elu_inverse, open_below=-1.0),
        Activation(
            "selu",
            F.selu,
            lambda z, a: torch.where(z > 0, _SELU_SCALE, a + _SELU_SCALE * _SELU_ALPHA),
            lambda v: _elu_inverse(v, _SELU_SCALE, _SELU_ALPHA),
            open_below=-_SELU_SCALE * _SELU_ALPHA,
        ),
        Activation("celu", F.celu, lambda z, a: torch.where(z > 0, 1.0, a + 1), _elu_inverse, open_below=-1.0),
        Activation(
            "softplus",
            F.softplus,
            lambda z, a: torch.sigmoid(z),
            lambda v: v + torch.log(-torch.expm1(-v)),
            open_below=0.0,
        ),
        Activation(
            "relu6",
            F.relu6,
            lambda z, a: ((z > 0) & (z < 6)).to(z.dtype),
            lambda v: v,
            flat_below=0.0,
            flat_above=6.0,
        ),
        Activation("gelu", F.gelu, _gelu_derivative),
        Activation("silu", F.silu, _silu_derivative),
    )
}


def activation(name: str) -> Activation:
    """The activation of that name; raises InputError with the nearest valid one."""
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise unknown("activation", name, ACTIVATIONS) from None
