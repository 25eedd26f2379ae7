"""Cross-entropy, its proximal point, the penalised objective F and the sub-problems that AM methods share.

Notation and equations are SPEC's: samples are rows, R(z, y) is a sum over samples, `rho` and `mu` weigh the penalties.
Sums over samples are accumulated in float64 whatever the dtype of the run.
"""

import torch
from torch import Tensor

from am.networks import Parameters, linear

DOUBLINGS = 100  # theta_0 2^100 is beyond any curvature that float32 data can have


def inner(u: Tensor, v: Tensor) -> Tensor:  # (R, n, m), (R, n, m) -> (R, 1, 1) float64
    """<u, v> of every run: rows in the dtype of u, which rounds no worse than the products do, then over rows in float64."""
    return (u * v).sum(2, keepdim=True).sum(1, keepdim=True, dtype=torch.float64)


def square(u: Tensor) -> Tensor:  # (R, n, m) -> (R, 1, 1) float64
    """||u||^2 of every run; as `inner`, in one pass over u."""
    return torch.linalg.vector_norm(u, dim=2, keepdim=True).double().square().sum(1, keepdim=True)


def any_run(mask: Tensor) -> bool:  # (R, ...) bool
    """Whether a branch that serves only some runs is worth entering: on a GPU always, since asking would wait for it."""
    return mask.is_cuda or bool(mask.any())


def row_blocks(t: Tensor, rows: int) -> list[tuple[slice, slice]]:  # t: (R, N, ...)
    """Indices of blocks of samples that fit a CPU's cache, of one run each; on a GPU one block of everything."""
    R, N = t.shape[:2]
    if t.is_cuda:
        return [(slice(None), slice(None))]
    return [(slice(r, r + 1), slice(n, n + rows)) for r in range(R) for n in range(0, N, rows)]


def some_run(mask: Tensor) -> bool:  # (R, ...) bool
    """Whether a loop goes on for any run. On a GPU this waits for one flag: cheaper than loops that run to their bound."""
    return bool(mask.any())


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:  # z: (R, N, C); y: (N,) or (R, N) int64 -> (R,) float64
    """R(z, y) = sum_n CE(z_n, y_n) of every run."""
    picked = z.gather(2, y.expand(z.shape[:2]).unsqueeze(2)).squeeze(2)
    return (z.logsumexp(2) - picked).sum(1, dtype=torch.float64)


def one_hot(y: Tensor, classes: int, dtype: torch.dtype) -> Tensor:  # (..., N) -> (..., N, C)
    return torch.nn.functional.one_hot(y, classes).to(dtype)


def log_wright_omega(x: Tensor) -> Tensor:
    """t with t + e^t = x, elementwise (log of Wright's omega function), to rounding.

    Three Halley steps from an asymptote of the right branch; the worst start is near x = 1.
    """
    right = x.clamp(min=1)
    t = torch.where(x > 1, torch.log(right / (1 + torch.log(right) / right)), x - torch.exp(x.clamp(max=1)) / 2)
    for _ in range(3):
        t = _halley(t, x)
    return t


def _halley(t: Tensor, x: Tensor) -> Tensor:
    """One step towards t + e^t = x; the error is cubed."""
    e = torch.exp(t)
    f, slope = (t + e).sub_(x), 1 + e
    below = torch.addcmul(slope * slope, f, e, value=-0.5)
    return torch.addcdiv(t, f.mul_(slope), below, value=-1)


def _omega_near(x: Tensor, t: Tensor) -> Tensor:
    """log_wright_omega(x), (R, N, C), from a guess t: two steps where they are enough for a whole run."""
    new = _halley(_halley(t, x), x)
    far = ~((new - t).abs().amax((1, 2), keepdim=True) <= PROX_NEAR)  # a NaN is far
    return torch.where(far, log_wright_omega(x), new) if any_run(far) else new


PROX_ROWS = 2048
PROX_STEPS, PROX_TOLERANCE, PROX_NEAR = 16, 1e-7, 0.3  # Newton squares its error: after a step of 1e-7, 1e-14 is left


def prox_cross_entropy(c: Tensor, y: Tensor, rho: Tensor, near: Tensor | None = None) -> Tensor:
    # c: (R, N, C); y: (N,) or (R, N) int64; rho: (R, 1, 1) > 0; near: (R, N, C) -> (R, N, C)
    """argmin_z CE(z, y) + rho/2 ||z - c||^2, per sample, to rounding (SPEC 1, z_L). near: a guess, to save steps.

    Stationarity is p_j + rho z_j = rho c_j + y_j with p = softmax(z). With s = logsumexp(z), each log p_j is the
    closed form t_j(s) = log omega(x_j - s) + log rho, x_j = c_j + y_j / rho - log rho, and one scalar s per sample
    solves sum_j p_j(s) = 1. The left side is convex and decreasing, so Newton in s cannot fail from any start;
    Newton in z (Sherman-Morrison) cycles where rho is small and c puts a wrong class far ahead.
    Worked in float64 whatever the dtype: near p_label = 1 the scalar equation determines s to rounding / rho only.
    """
    y, out = y.expand(c.shape[:2]), torch.empty_like(c, memory_format=torch.contiguous_format)
    for at in row_blocks(c, PROX_ROWS):
        guess = None if near is None else near[at].mT.contiguous().double()
        out[at] = _prox(c[at].mT.contiguous().double(), y[at].unsqueeze(1), rho[at[0]].double(), guess).mT
    return out


def _prox(c: Tensor, label: Tensor, rho: Tensor, near: Tensor | None) -> Tensor:
    # Classes before samples: c, near: (R, C, n) float64; label: (R, 1, n) -> (R, C, n)
    """`prox_cross_entropy` of a block; each run stops by itself."""
    log_rho = torch.log(rho)
    x = (c - log_rho).scatter_add_(1, label, (1 / rho).expand(label.shape))
    # There the largest p_j is 1, so that sum p >= 1: the root lies above, and no step need go below.
    lowest = x.amax(1, keepdim=True) - 1 / rho + log_rho
    s = lowest if near is None else torch.maximum(near.logsumexp(1, keepdim=True), lowest)
    t = log_wright_omega(x - s) if near is None else _omega_near(x - s, near - (s + log_rho))
    running = torch.ones_like(rho, dtype=torch.bool)
    for _ in range(PROX_STEPS):
        e = torch.exp(t)
        share = (1 + e).reciprocal_()
        p = e.mul_(rho)
        step = (p.sum(1, keepdim=True) - 1) / p.mul_(share).sum(1, keepdim=True)
        # The first step from above the root may go far below it.
        moved = torch.where(running, torch.maximum(s + step, lowest), s)
        step, s = moved - s, moved
        size = step.abs().amax((1, 2), keepdim=True)
        new, far = _halley(torch.addcmul(t, step, share, value=-1), x - s), running & (size > PROX_NEAR)
        if any_run(far):
            new = torch.where(far, log_wright_omega(x - s), new)
        t = torch.where(running, new, t) if len(rho) > 1 else new
        running = running & (size > PROX_TOLERANCE)
        if not some_run(running):
            break
    return t.add_(s + log_rho)


def first_doubling(accepted: Tensor, theta0: Tensor) -> Tensor:  # (R, 1, DOUBLINGS) bool, (R, 1, 1) -> (R, 1, 1)
    """theta_0 2^j with the smallest accepted j; runs where none is accepted take the last."""
    j = torch.where(accepted.any(2, keepdim=True), accepted.to(torch.uint8).argmax(2, keepdim=True), DOUBLINGS - 1)
    return theta0 * torch.exp2(j.to(theta0.dtype))


def majoriser_theta(
    theta0: Tensor,  # (R, 1, 1)
    c: Tensor,  # (R, 1, 1)
    d: Tensor,  # (R, n, m)
    Hd: Tensor,
    g: Tensor,
    Hg: Tensor,
) -> Tensor:  # (R, 1, 1)
    """Backtracking on a quadratic with Hessian H, for the step Delta = c d - g / theta.

    Smallest theta = theta_0 2^j with <Delta, H Delta> <= theta ||Delta||^2 (SPEC 1, W_l). Both sides are polynomials
    in 1/theta whose coefficients are six inner products, so all trials together cost O(1) and no data is touched.
    """
    # In units of theta_0, so that a float32 theta cannot lose the comparison.
    theta = theta0.double() * torch.exp2(torch.arange(DOUBLINGS, device=d.device, dtype=torch.float64))  # (R, 1, J)
    c = c.double()
    curvature = c * c * inner(d, Hd) - 2 * c / theta * inner(d, Hg) + inner(g, Hg) / theta**2
    length = c * c * square(d) - 2 * c / theta * inner(d, g) + square(g) / theta**2
    return first_doubling(~(curvature > theta * length), theta0.double()).to(d.dtype)


def largest_eigenvalue(M: Tensor) -> Tensor:  # (R, d, d) or (d, d), symmetric -> (R or 1, 1, 1)
    # The solver refuses a whole stack for one run that is not finite.
    finite = torch.isfinite(M).flatten(-2).all(-1)[..., None, None]
    top = torch.linalg.eigvalsh(torch.where(finite, M, 0.0))[..., -1:, None]
    return torch.where(finite, top, torch.nan).reshape(-1, 1, 1)


def penalised_objective(
    params: Parameters,
    z: list[Tensor],
    a: list[Tensor],
    x: Tensor,  # (N, d0)
    y: Tensor,  # (N,)
    rho: Tensor,  # (R, 1, 1)
    mu: Tensor,  # (R, 1, 1)
) -> Tensor:  # (R,) float64
    """F of SPEC 1: R(z_L, y) + sum_l rho/2 ||z_l - a_{l-1} W_l^T - b_l||^2 + mu/2 ||W_l||^2."""
    total = cross_entropy(z[-1], y)
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        residual = linear(a[l - 1] if l else x, W, b).sub_(z[l])
        total = total + (rho / 2 * square(residual) + mu / 2 * square(W)).flatten()
    return total
