"""Activations: value, derivative and, for the monotone ones, the interval pre-image and the scalar prox of AM methods.

Every function is elementwise and keeps shape and dtype. The pre-image of an interval under a monotone h is an
interval, `{z : lo <= h(z) <= hi} = [lower(lo), upper(hi)]`; the penalised problem of mDLAM and TIAM needs nothing else.
dlADMM and BCD need `prox`, the global minimiser of (z - c)^2 + w (a - h(z))^2: on each linear piece of h a closed form,
on a smooth piece a safeguarded Newton iteration.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from am import devices
from am.errors import InputError, unknown

RANGE_MARGIN = 1e-6  # from the open end m of h's range no bound is inverted below m + RANGE_MARGIN (SPEC 1, z_l)
PROX_BLOCK = 2**15  # elements of a prox that a CPU works on at a time, so that its temporaries stay in cache
NEWTON_STEPS = 60  # bisection alone reaches rounding in so many
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@dataclass(frozen=True)
class Activation:
    """One activation h.

    value: h(z).  derivative: h'(z), given z and h(z).  inverse: h^-1 on the open range, None where h is not monotone.
    scalar_prox: prox(c, a, w) on tensors of any shape, w one number; None where h is not monotone.
    open_below: the end of the range that h approaches and never reaches (-inf where there is none).
    flat_below, flat_above: ends of the range that h reaches on a whole half-line (ReLU: 0 below; ReLU6: 0 and 6).
    """

    name: str
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
        if self.inverse is _identity:
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


def _each_run(act: Activation) -> Activation:
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


def _identity(v: Tensor) -> Tensor:
    """h^-1 of ReLU and ReLU6 within their range."""
    return v


def _positive(x: Tensor) -> Tensor:
    """1 where x > 0, else 0, in the dtype of x: as the weight of a lerp, half the price of a comparison and a where."""
    return torch.relu(x).sign_()


def _relu_prox(c: Tensor, a: Tensor, w: Tensor) -> Tensor:
    """ReLU: the better of min(c, 0) and max((c + w a) / (1 + w), 0): the second where (sqrt(1 + w) - 1) a > -c."""
    right = torch.addcmul(c, a, w).div_(1 + w).relu_()
    return torch.lerp(c.clamp(max=0), right, _positive(torch.addcmul(c, a, w / (torch.sqrt(1 + w) + 1))))


def _best(c: Tensor, a: Tensor, w: Tensor, candidates: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Of candidates (z, h(z)), elementwise, the z with the least (z - c)^2 + w (a - h(z))^2; the earliest of equals."""
    best = None
    for z, h in candidates:
        value = torch.addcmul((z - c).square_(), (a - h).square_(), w)
        if best is None:
            best, least = z, value
        else:
            best, least = torch.lerp(best, z, _positive(least - value)), torch.minimum(value, least)
    return best


def _piecewise_prox(*pieces: tuple[float, float, float, float]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The prox of a piecewise linear h: the best of the minimisers on pieces (from, to, slope, intercept) of h."""

    def prox(c: Tensor, a: Tensor, w: Tensor) -> Tensor:
        def candidates() -> Iterator[tuple[Tensor, Tensor]]:
            for low, high, slope, intercept in pieces:
                z = torch.addcmul(c, a - intercept, w * slope).div_(1 + w * slope**2).clamp_(low, high)
                yield z, slope * z + intercept

        return _best(c, a, w, candidates())

    return prox


Curve = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]  # z -> h, h', h''


def _slope(curve: Curve, c: Tensor, a: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """f(z) = z - c + w h'(z) (h(z) - a), half the derivative of the prox's objective, and f'(z)."""
    h, h1, h2 = curve(z)
    gap = h - a
    return torch.addcmul(z - c, h1 * gap, w), torch.addcmul(h1 * h1, h2, gap).mul_(w).add_(1)


def _newton(
    curve: Curve,
    c: Tensor,
    a: Tensor,
    w: Tensor,
    z: Tensor,
    low: Tensor,
    high: Tensor,
    turn: Tensor,
    two: Tensor,
) -> Tensor:
    """A root of f of `_slope` in [low, high], by Newton steps from z on, safeguarded.

    low and high close in on the root: f(low) <= 0 <= f(high). Where a step leaves them, or is more than half as long as
    the last one, the middle replaces it; but with two = 1, where the start makes Newton's steps monotone, leaving means
    that there is no root on this side of `turn`, which is returned. A CPU stops when the whole block has converged; a
    block belongs to one run, and a GPU never stops early, so no run depends on its neighbours.
    """
    tolerance = torch.finfo(c.dtype).eps ** 0.75  # of a step; the error that it leaves is of its square
    length = torch.full_like(z, math.inf)
    for _ in range(NEWTON_STEPS):
        f, df = _slope(curve, c, a, w, z)
        sign = f.sign()
        low, high = torch.lerp(low, z, torch.relu(-sign)), torch.lerp(high, z, torch.relu(sign))
        new = z - f.div_(df.add_(torch.finfo(c.dtype).tiny))  # never 0 / 0
        inside = new.clamp(low, high)
        margin = z.abs().add_(1).mul_(tolerance)  # by less than which rounding may leave a closed bracket
        slow = (inside - z).abs_().sub_(torch.maximum(length / 2, margin)).relu_().mul_(1 - two)
        left = (new - inside).abs_().sub_(margin).relu_()
        fallback = torch.lerp((low + high) / 2, turn, two)
        last, z = z, torch.lerp(inside, fallback, left.add_(slow).sign_())
        length = (z - last).abs_()
        if not devices.on_gpu(z) and not length.amax() > tolerance * (1 + z.abs().amax()):
            break
    return z


def _smooth_roots(
    curve: Curve, c: Tensor, a: Tensor, w: Tensor, low: Tensor, high: Tensor, turn: Tensor
) -> tuple[Tensor, Tensor]:
    """Two points of [low, high], among which the global minimiser of (z - c)^2 + w (a - h(z))^2 over [low, high] is.

    f of `_slope` is concave below `turn` and convex above. Where it increases throughout it has one root. Else it has
    up to three, of which the middle one is a maximum of the objective, and Newton's steps from low cannot pass the
    first, nor those from high the last.
    """
    turn = turn.clamp(low, high)
    f, df = _slope(curve, c, a, w, turn)
    two = _positive(-df)
    start = torch.lerp(high, low, torch.maximum(two, (f >= 0).to(c.dtype)))
    first = _newton(curve, c, a, w, start, low, torch.lerp(high, turn, two), turn, two)
    one = torch.ones((), dtype=c.dtype, device=c.device)
    if devices.on_gpu(c):
        return first, _newton(curve, c, a, w, high, turn, high, turn, one)
    some = two > 0
    if not bool(some.any()):
        return first, first
    c, a, turn, high = (t[some] for t in (c, a, turn, high))
    return first, first.masked_scatter(some, _newton(curve, c, a, w, high, turn, high, turn, one))


def _elu_prox(scale: float = 1.0, alpha: float = 1.0) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
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
        below = _smooth_roots(curve, c, a, w, low, high, turn)
        above = torch.addcmul(c, a, w * scale).div_(1 + w * scale**2).clamp_(min=0)
        return _best(c, a, w, [(above, scale * above), *((z, curve(z)[0]) for z in below)])

    return prox


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
    roots = _smooth_roots(_softplus_curve, c, a, w, low, high, turn)
    return _best(c, a, w, [(z, _softplus_curve(z)[0]) for z in roots])


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
        # The sign of h(z): a fifth of the price of a comparison.
        Activation("relu", F.relu, lambda z, a: torch.sign(a), _identity, _relu_prox, flat_below=0.0),
        Activation(
            "leaky_relu",
            F.leaky_relu,
            lambda z, a: torch.where(z > 0, torch.ones_like(z), 0.01),
            lambda v: torch.where(v > 0, v, v / 0.01),
            _piecewise_prox((-math.inf, 0.0, 0.01, 0.0), (0.0, math.inf, 1.0, 0.0)),
        ),
        _each_run(
            Activation(
                "elu", F.elu, lambda z, a: torch.where(z > 0, 1.0, a + 1), _elu_inverse, _elu_prox(), open_below=-1.0
            )
        ),
        _each_run(
            Activation(
                "selu",
                F.selu,
                lambda z, a: torch.where(z > 0, _SELU_SCALE, a + _SELU_SCALE * _SELU_ALPHA),
                lambda v: _elu_inverse(v, _SELU_SCALE, _SELU_ALPHA),
                _elu_prox(_SELU_SCALE, _SELU_ALPHA),
                open_below=-_SELU_SCALE * _SELU_ALPHA,
            )
        ),
        _each_run(
            Activation(
                "celu", F.celu, lambda z, a: torch.where(z > 0, 1.0, a + 1), _elu_inverse, _elu_prox(), open_below=-1.0
            )
        ),
        _each_run(
            Activation(
                "softplus",
                lambda z: F.softplus(z, threshold=40.0),  # torch's own 20 leaves 2e-9
                lambda z, a: torch.sigmoid(z),
                lambda v: v + torch.log(-torch.expm1(-v)),
                _softplus_prox,
                open_below=0.0,
            )
        ),
        Activation(
            "relu6",
            F.relu6,
            lambda z, a: ((z > 0) & (z < 6)).to(z.dtype),
            _identity,
            _piecewise_prox((-math.inf, 0.0, 0.0, 0.0), (0.0, 6.0, 1.0, 0.0), (6.0, math.inf, 0.0, 6.0)),
            flat_below=0.0,
            flat_above=6.0,
        ),
        _each_run(Activation("gelu", F.gelu, _gelu_derivative)),
        _each_run(Activation("silu", F.silu, _silu_derivative)),
    )
}


def activation(name: str) -> Activation:
    """The activation of that name; raises InputError with the nearest valid one, also of a module or a function."""
    if not isinstance(name, str):
        word = getattr(name, "__name__", type(name).__name__)
        near = next((known for known in ACTIVATIONS if known.replace("_", "") == word.lower().replace("_", "")), "relu")
        raise InputError(f"activation must be a name, for example '{near}', not {word}.")
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise unknown("activation", name, ACTIVATIONS) from None
