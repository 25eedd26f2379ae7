"""The parts of a scalar prox: the global minimiser of (z - c)^2 + w (a - h(z))^2.

On each linear piece of h it has a closed form, on a smooth piece it is found by a safeguarded Newton iteration.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from am import devices

NEWTON_STEPS = 60  # bisection alone reaches rounding in so many


def positive(x: Tensor) -> Tensor:
    """1 where x > 0, else 0, in the dtype of x: as the weight of a lerp, half the price of a comparison and a where."""
    return torch.relu(x).sign_()


def best(c: Tensor, a: Tensor, w: Tensor, candidates: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Of candidates (z, h(z)), elementwise, the z with the least (z - c)^2 + w (a - h(z))^2; the earliest of equals."""
    best = None
    for z, h in candidates:
        value = torch.addcmul((z - c).square_(), (a - h).square_(), w)
        if best is None:
            best, least = z, value
        else:
            best, least = torch.lerp(best, z, positive(least - value)), torch.minimum(value, least)
    return best


def piecewise_prox(*pieces: tuple[float, float, float, float]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The prox of a piecewise linear h: the best of the minimisers on pieces (from, to, slope, intercept) of h."""

    def prox(c: Tensor, a: Tensor, w: Tensor) -> Tensor:
        def candidates() -> Iterator[tuple[Tensor, Tensor]]:
            for low, high, slope, intercept in pieces:
                z = torch.addcmul(c, a - intercept, w * slope).div_(1 + w * slope**2).clamp_(low, high)
                yield z, slope * z + intercept

        return best(c, a, w, candidates())

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


def smooth_roots(
    curve: Curve, c: Tensor, a: Tensor, w: Tensor, low: Tensor, high: Tensor, turn: Tensor
) -> tuple[Tensor, Tensor]:
    """Two points of [low, high], among which the global minimiser of (z - c)^2 + w (a - h(z))^2 over [low, high] is.

    f of `_slope` is concave below `turn` and convex above. Where it increases throughout it has one root. Else it has
    up to three, of which the middle one is a maximum of the objective, and Newton's steps from low cannot pass the
    first, nor those from high the last.
    """
    turn = turn.clamp(low, high)
    f, df = _slope(curve, c, a, w, turn)
    two = positive(-df)
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
