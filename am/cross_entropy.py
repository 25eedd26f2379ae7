"""Cross-entropy on the run axis: its value, its gradient and its proximal point, to rounding and by the released FISTA.

R(z, y) = sum_n CE(z_n, y_n) is a sum over samples, as in SPEC.
"""

import math

import torch
from torch import Tensor

from am import devices
from am.linalg import ask, row_blocks, square, worthwhile

FISTA_STEP, FISTA_ITERATIONS, FISTA_TOLERANCE = 4.0, 500, 1e-3  # the released rule (SPEC 4, z_L)
FISTA_GPU_ROUNDS = 8  # of which a GPU, that would wait each time, is asked once whether all runs have stopped
PROBABILITY_GUARD = 1e-10  # added to softmax's normaliser in FISTA, as released
PROX_ROWS = 2048
PROX_STEPS, PROX_TOLERANCE, PROX_NEAR = 16, 1e-7, 0.3  # Newton squares its error: after a step of 1e-7, 1e-14 is left


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:  # z: (R, N, C); y: (N,) or (R, N) int64 -> (R,) float64
    """R(z, y) = sum_n CE(z_n, y_n) of every run."""
    picked = z.gather(2, y.expand(z.shape[:2]).unsqueeze(2)).squeeze(2)
    return (z.logsumexp(2) - picked).sum(1, dtype=torch.float64)


def one_hot(y: Tensor, classes: int, dtype: torch.dtype) -> Tensor:  # (..., N) -> (..., N, C)
    return torch.nn.functional.one_hot(y, classes).to(dtype)


def signed_labels(y: Tensor, classes: int, like: Tensor) -> Tensor:  # (N,) -> (R, N, C)
    """+1 at the label and -1 elsewhere, the start of z_L in dlADMM, mDLAM and TIAM."""
    return (2 * one_hot(y, classes, like.dtype) - 1).expand_as(like).contiguous()


def logits_gradient(z: Tensor, y: Tensor) -> Tensor:  # z: (R, B, C); y: (R, B) or (B,) -> (R, B, C)
    """d/dz of the mean cross-entropy: (softmax(z) - onehot(y)) / B."""
    labels = torch.embedding(torch.eye(z.shape[2], dtype=z.dtype, device=z.device), y)
    return torch.softmax(z, 2).sub_(labels).div_(z.shape[1])


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


def prox_cross_entropy(c: Tensor, y: Tensor, rho: Tensor, near: Tensor | None = None) -> Tensor:
    # c: (R, N, C); y: (N,) or (R, N) int64; rho: (R, 1, 1) > 0; near: (R, N, C) -> (R, N, C)
    """argmin_z CE(z, y) + rho/2 ||z - c||^2, per sample, to rounding (SPEC 1, z_L). near: a guess, to save steps.

    Stationarity is p_j + rho z_j = rho c_j + y_j with p = softmax(z). With s = logsumexp(z), each log p_j is the
    closed form t_j(s) = log omega(x_j - s) + log rho, x_j = c_j + y_j / rho - log rho, and one scalar s per sample
    solves sum_j p_j(s) = 1. The left side is convex and decreasing, so Newton in s cannot fail from any start;
    Newton in z (Sherman-Morrison) cycles where rho is small and c puts a wrong class far ahead.
    From a guess, Newton in s and all t_j at once takes half the work and mostly a handful of steps; where it does not
    settle, the safe way follows.
    Worked in float64 whatever the dtype: near p_label = 1 the scalar equation determines s to rounding / rho only.
    """
    y, out = y.expand(c.shape[:2]), torch.empty_like(c, memory_format=torch.contiguous_format)
    for at in row_blocks(c, PROX_ROWS):
        own, label = rho[at[0]].double(), y[at].unsqueeze(1)
        # Classes before samples: sums over classes then run along contiguous memory.
        x = torch.sub(c[at].mT, torch.log(own)).contiguous().scatter_add_(1, label, (1 / own).expand(label.shape))
        if near is None:
            out[at] = _prox(x, own).mT
            continue
        z, settled = _prox_near(x, own, torch.empty_like(x).copy_(near[at].mT))
        out[at] = (z if not ask(~settled) else torch.where(settled, z, _prox(x, own))).mT
    return out


def _prox_near(x: Tensor, rho: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:  # x, near: (R, C, n) float64
    """The proximal point from a guess, which is overwritten, and in which runs it has settled, (R, 1, 1).

    Newton on t_j + e^{t_j} = x_j - s for all classes j and rho sum_j e^{t_j} = 1, linear in the e^{t_j}.
    """
    top = near.amax(1, keepdim=True)
    e, q, r = (torch.empty_like(near) for _ in range(3))
    s = torch.exp(torch.sub(near, top, out=e), out=e).sum(1, keepdim=True).log_().add_(top)
    t = near.sub_(s + torch.log(rho))
    running = torch.ones_like(rho, dtype=torch.bool)
    for _ in range(PROX_STEPS):
        torch.exp(t, out=e)
        torch.sub(t, x, out=r).add_(e).add_(s)
        excess = e.sum(1, keepdim=True).sub_(1 / rho)
        slope = e.add_(1)  # of t + e^t
        weight = torch.reciprocal(slope, out=q).sum(1, keepdim=True).neg_().add_(x.shape[1])
        ds = (excess - r.sum(1, keepdim=True) + q.mul_(r).sum(1, keepdim=True)).div_(weight)
        step = r.add_(ds).div_(slope)
        if len(rho) > 1:
            step, ds = torch.where(running, step, 0.0), torch.where(running, ds, 0.0)
        s, t = s.add_(ds), t.sub_(step)
        # A NaN goes on.
        running = running & ~(torch.abs(step, out=q).amax((1, 2), keepdim=True) <= PROX_TOLERANCE)
        if not ask(running):
            break
    return t.add_(s + torch.log(rho)), ~running


def _prox(x: Tensor, rho: Tensor) -> Tensor:  # (R, C, n) float64
    """The proximal point from any start; each run stops by itself."""
    log_rho = torch.log(rho)
    # There the largest p_j is 1, so that sum p >= 1: the root lies above, and no step need go below.
    lowest = x.amax(1, keepdim=True) - 1 / rho + log_rho
    s, t = lowest, log_wright_omega(x - lowest)
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
        if worthwhile(far):
            new = torch.where(far, log_wright_omega(x - s), new)
        t = torch.where(running, new, t) if len(rho) > 1 else new
        running = running & (size > PROX_TOLERANCE)
        if not ask(running):
            break
    return t.add_(s + log_rho)


def fista_cross_entropy(
    c: Tensor, y: Tensor, rho: Tensor, z: Tensor, tolerance: Tensor | float = FISTA_TOLERANCE
) -> Tensor:
    # c, z: (R, N, C); y: (N,) int64; rho, tolerance: (R, 1, 1) -> (R, N, C)
    """CE(z, y) + rho/2 ||z - c||^2 by FISTA from z on, as the dlADMM authors release it (SPEC 4).

    Step 4 (twice what the curvature of CE allows), at most 500 iterations, stopped where the objective of a run, summed
    over samples, moved by less than the tolerance. Where e^z overflows or vanishes the released code patches the
    probabilities; here they stay exact. Worked in float64 whatever the dtype: in float32 a sum over many samples moves
    by 1e-3 of rounding alone, which then decides when to stop.
    """
    dtype = z.dtype
    # Classes before samples: reductions over ten classes then run along contiguous memory.
    z, c, rho = z.mT.contiguous().double(), c.mT.contiguous().double(), rho.double()  # (R, C, N)
    label = y.expand(len(z), -1).unsqueeze(1)  # (R, 1, N)
    scale = 1 / (rho + 1 / FISTA_STEP)
    fixed = (rho * c).scatter_add_(1, label, torch.ones_like(z[:, :1])).mul_(scale)
    zeta, lam, f = z, 1.0, torch.full_like(rho, math.inf)
    running, guard = torch.ones_like(rho, dtype=torch.bool), torch.full_like(rho, math.log(PROBABILITY_GUARD))
    rounds = FISTA_GPU_ROUNDS if devices.on_gpu(z) else 1
    for k in range(1, FISTA_ITERATIONS + 1):
        shift = z.amax(1, keepdim=True)
        p = torch.exp(z - shift)
        total = p.sum(1, keepdim=True)
        lse = torch.log(total).add_(shift)
        guarded = torch.logaddexp(lse, guard)
        p.mul_(torch.exp(shift - guarded))
        last, f = f, (guarded - z.gather(1, label)).sum((1, 2), keepdim=True)
        f = f + rho / 2 * square(z - c)
        running = running & ((f - last).abs() >= tolerance)  # a NaN stops too
        if k % rounds == 0 and not ask(running):
            break
        last_lam, lam = lam, (1 + math.sqrt(1 + 4 * lam * lam)) / 2
        zeta, last_zeta = torch.addcmul(fixed, (z / FISTA_STEP).sub_(p), scale), zeta
        ahead = torch.lerp(zeta, last_zeta, (1 - last_lam) / lam)
        z = torch.where(running, ahead, z) if len(rho) > 1 or rounds > 1 else ahead
    return z.mT.to(dtype, memory_format=torch.contiguous_format)
