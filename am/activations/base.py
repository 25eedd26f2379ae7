"""What an activation is: value, derivative and, for the monotone ones, the interval pre-image and the scalar prox.

Every function is elementwise and keeps shape and dtype. The pre-image of an interval under a monotone h is an
interval, `{z : lo <= h(z) <= hi} = [lower(lo), upper(hi)]`; the penalised problem of mDLAM and TIAM needs nothing else.
dlADMM and BCD need `prox`, the global minimiser of (z - c)^2 + w (a - h(z))^2 (`am.activations.prox`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from am import devices

RANGE_MARGIN = 1e-6  # from the open end m of h's range no bound is inverted below m + RANGE_MARGIN (SPEC 1, z_l)
PROX_BLOCK = 2**15  # elements of a prox that a CPU works on at a time, so that its temporaries stay in cache


@dataclass(frozen=True)
class Activation:
    """One activation h.

    title: what figures and tables call it.
    value: h(z).  derivative: h'(z), given z and h(z).  inverse: h^-1 on the open range, None where h is not monotone.
    scalar_prox: prox(c, a, w) on tensors of any shape, w one number; None where h is not monotone.
    open_below: the end of the range that h approaches and never reaches (-inf where there is none).
    flat_below, flat_above: ends of the range that h reaches on a whole half-line (ReLU: 0 below; ReLU6: 0 and 6).
    """

    name: str
    title: str
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor] | None = None
    scalar_prox: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    open_below: float = -math.inf
    flat_below: float = -math.inf
    flat_above: float = math.inf

    @property
    def monotone(self) -> bool:
        return self.inverse is not None

    def value_into(self, z: Tensor, out: Tensor) -> Tensor:
        """h(z) in the memory of `out`: fresh memory costs a CPU ten times what a ReLU does."""
        if self.inverse is identity:
            return torch.clamp(z, self.flat_below, self.flat_above, out=out)
        return out.copy_(self.value(z))

    def lower(self, bound: Tensor, inplace: bool = False) -> Tensor:
        """Smallest z with h(z) >= bound; -inf where every z satisfies it, and for a bound below the open end's margin.

        inplace: `bound` may be overwritten, here and in `upper`.
        """
        clamp = bound.clamp_ if inplace else bound.clamp
        z = self.inverse(clamp(max=self.flat_above) if self.flat_above < math.inf else bound)
        if self.flat_below == 0:
            return F.threshold(z, 0.0, -math.inf, inplace)  # h^-1(0) = 0; at a twentieth of the price of a where
        if self.open_below > -math.inf:
            return torch.where(bound >= self.open_below + RANGE_MARGIN, z, -math.inf)
        return z

    def upper(self, bound: Tensor, inplace: bool = False) -> Tensor:
        """Largest z with h(z) <= bound, monotone in the bound: where no z satisfies it, and near an open end, the end
        of the range, or the margin above it, stands in for the bound."""
        clamp = bound.clamp_ if inplace else bound.clamp
        if self.flat_below > -math.inf:
            z = self.inverse(clamp(min=self.flat_below))
        elif self.open_below > -math.inf:
            z = self.inverse(clamp(min=self.open_below + RANGE_MARGIN))
        else:
            z = self.inverse(bound)
        return torch.where(bound < self.flat_above, z, math.inf) if self.flat_above < math.inf else z

    def prox(self, c: Tensor, a: Tensor, w: Tensor, out: Tensor | None = None) -> Tensor:
        # c, a, out: (R, N, d), out contiguous; w: (R, 1, 1) > 0 -> (R, N, d)
        """argmin_z (z - c)^2 + w (a - h(z))^2, elementwise: the global minimiser, also where there are two minima.

        SPEC 4: the hidden z of dlADMM (w = 1) and the hidden U of BCD (w = gamma / (rho + alpha)).
        out: where to write it, if not into a new tensor.
        """
        if out is None:
            out = torch.empty_like(c, memory_format=torch.contiguous_format)
        if devices.on_gpu(c):
            return out.copy_(self.scalar_prox(c, a, w))
        for r in range(len(c)):
            blocks = (t.split(PROX_BLOCK) for t in (c[r].reshape(-1), a[r].reshape(-1), out[r].view(-1)))
            for c_block, a_block, out_block in zip(*blocks):
                out_block.copy_(self.scalar_prox(c_block, a_block, w[r, 0, 0]))
        return out


def each_run(act: Activation) -> Activation:
    """The activation, which on a CPU takes the runs of a stack one by one, so that each has the digits it has alone.

    A CPU takes the last few elements of a tensor by another program than the others, and sigmoid, ELU and their like
    come out of the two with other last digits. Piecewise linear ones do not.
    """

    def each(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def by_run(*tensors: Tensor) -> Tensor:  # (R, N, d) each, or of fewer axes and one run
            if devices.on_gpu(tensors[0]) or tensors[0].dim() < 3 or len(tensors[0]) == 1:
                return function(*tensors)
            return torch.cat([function(*run) for run in zip(*(t.split(1) for t in tensors))])

        return by_run

    inverse = None if act.inverse is None else each(act.inverse)
    return replace(act, value=each(act.value), derivative=each(act.derivative), inverse=inverse)


def identity(v: Tensor) -> Tensor:
    """h^-1 of ReLU and ReLU6 within their range."""
    return v
