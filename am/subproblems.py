"""Sub-problems of the alternating-minimisation methods whose layers are tied by quadratic penalties: dlADMM and BCD.

Notation and equations are SPEC 4's: samples are rows, a_{l-1} is the input of layer l. Every trial of a backtracking is
decided from the curvature along the gradient, so none touches the data: for f quadratic with Hessian H, the step
D = -g / theta meets f(W + D) <= f(W) + <g, D> + theta/2 ||D||^2 exactly where <g, H g> <= theta ||g||^2.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from am.activations import Activation
from am.methods import Problem
from am.networks import Parameters, forward
from am.objective import DOUBLINGS, any_run, first_doubling, inner, one_hot, square

FISTA_STEP, FISTA_ITERATIONS, FISTA_TOLERANCE = 4.0, 500, 1e-3  # the released rule (SPEC 4, z_L)
PROBABILITY_GUARD = 1e-10  # added to softmax's normaliser in FISTA, as released
GRAM_BLOCK, GRAM_BLOCKS = 512, 4  # from this width on, a Gram matrix is worth computing in blocks


def forward_variables(problem: Problem, params: Parameters) -> tuple[list[Tensor], list[Tensor]]:
    """z_1 .. z_L and a_1 .. a_{L-1} = h(z_l) of a forward pass, each (R, N, d_l)."""
    z = forward(problem.x, params, problem.activation)
    return z, [problem.activation.value(zl) for zl in z[:-1]]


def signed_labels(y: Tensor, classes: int, like: Tensor) -> Tensor:  # (N,) -> (R, N, C)
    """+1 at the label and -1 elsewhere, the start of z_L in dlADMM, mDLAM and TIAM."""
    return (2 * one_hot(y, classes, like.dtype) - 1).expand_as(like).contiguous()


def gram(a: Tensor) -> Tensor:  # (R, N, d) or (N, d) -> (R, d, d) or (d, d)
    """a^T a; of a wide one only the blocks on and above the diagonal are computed: 10/16 of the work with four."""
    d = a.shape[-1]
    if d < GRAM_BLOCK:
        return a.mT @ a
    G = a.new_empty(*a.shape[:-2], d, d)
    cuts = [round(d * i / GRAM_BLOCKS) for i in range(GRAM_BLOCKS + 1)]
    for start, stop in zip(cuts, cuts[1:]):
        G[..., start:stop, start:] = a[..., start:stop].mT @ a[..., start:]
        G[..., stop:, start:stop] = G[..., start:stop, stop:].mT
    return G


def doubled(theta0: Tensor, curvature: Tensor) -> Tensor:  # (R, 1, 1), (R, 1, 1) float64 -> (R, 1, 1)
    """Backtracking on a quadratic along its gradient: the smallest theta_0 2^j >= curvature = <g, H g> / ||g||^2."""
    theta = theta0.double() * torch.exp2(torch.arange(DOUBLINGS, device=theta0.device, dtype=torch.float64))
    return first_doubling(~(curvature > theta), theta0.double()).to(theta0.dtype)


def weight_step(
    W: Tensor,  # (R, d_l, d_{l-1})
    b: Tensor,  # (R, 1, d_l)
    G: Tensor,  # (R, d_{l-1}, d_{l-1}) or (d_{l-1}, d_{l-1})
    C: Tensor,  # (R, d_l, d_{l-1})
    total: Tensor,  # (R, 1, d_{l-1}) or (1, d_{l-1})
    rho: Tensor,  # (R, 1, 1)
    theta0: Tensor,  # (R, 1, 1)
) -> tuple[Tensor, Tensor]:
    """W_l of dlADMM: a gradient step on rho/2 ||t - a W^T - b||^2 with theta by doubling. Returns W_l and theta.

    The data enter as G = a^T a, C = t^T a and total = the sum of a's rows alone.
    """
    g = W @ G + b.mT * total - C  # the gradient, but for rho
    theta = doubled(theta0, rho * inner(g, g @ G) / square(g))
    return torch.addcmul(W, g, -rho / theta), theta


def bias_step(W: Tensor, total: Tensor, target_total: Tensor, n: int) -> Tensor:
    # (R, d_l, d_{l-1}), (R, 1, d_{l-1}) or (1, d_{l-1}), (R, 1, d_l) -> (R, 1, d_l)
    """b_l of dlADMM: the minimiser mean_n(t_n - W a_n) of rho/2 ||t - a W^T - b||^2, from sums over n rows alone."""
    return (target_total - total @ W.mT) / n


def activation_step(
    a: Tensor,  # (R, N, d_l)
    z: Tensor,  # (R, N, d_l)
    W: Tensor,  # (R, d_{l+1}, d_l)
    b: Tensor,  # (R, 1, d_{l+1})
    target: Tensor,  # (R, N, d_{l+1})
    act: Activation,
    rho: Tensor,  # (R, 1, 1)
    tau0: Tensor,  # (R, 1, 1)
) -> tuple[Tensor, Tensor]:
    """a_l of dlADMM: a gradient step on rho/2 (||t - a W^T - b||^2 + ||a - h(z_l)||^2) with tau by doubling, l < L.

    W, b and t = `target` are layer l+1's. Returns a_l and tau.
    """
    g = act.value(z)
    g = torch.sub(a, g, out=g).add_(b @ W)
    g.baddbmm_(torch.baddbmm(target, a, W.mT, beta=-1), W)  # the gradient, but for rho
    M = W @ W.mT if W.shape[1] < W.shape[2] else W.mT @ W
    # ||M||_F bounds the largest eigenvalue of W^T W: where tau_0 is above the bound, it is accepted as it stands.
    if any_run(tau0 < rho * (1 + square(M).sqrt())):
        tau = doubled(tau0, rho * (1 + square(g @ W.mT) / square(g)))
    else:
        tau = tau0
    return torch.addcmul(a, g, -rho / tau), tau


def fista_cross_entropy(c: Tensor, y: Tensor, rho: Tensor, z: Tensor) -> Tensor:
    # c, z: (R, N, C); y: (N,) int64; rho: (R, 1, 1) -> (R, N, C)
    """CE(z, y) + rho/2 ||z - c||^2 by FISTA from z on, as the dlADMM authors release it (SPEC 4).

    Step 4 (twice what the curvature of CE allows), at most 500 iterations, stopped where the objective of a run, summed
    over samples, moved by less than 1e-3. Where e^z overflows or vanishes the released code patches the probabilities;
    here they stay exact. Worked in float64 whatever the dtype: in float32 a sum over many samples moves by 1e-3 of
    rounding alone, which then decides when to stop.
    """
    dtype = z.dtype
    # Classes before samples: reductions over ten classes then run along contiguous memory.
    z, c, rho = z.mT.contiguous().double(), c.mT.contiguous().double(), rho.double()  # (R, C, N)
    label = y.expand(len(z), -1).unsqueeze(1)  # (R, 1, N)
    scale = 1 / (rho + 1 / FISTA_STEP)
    fixed = (rho * c).scatter_add_(1, label, torch.ones_like(z[:, :1])).mul_(scale)
    zeta, lam, f = z, 1.0, torch.full_like(rho, math.inf)
    running, guard = torch.ones_like(rho, dtype=torch.bool), torch.full_like(rho, math.log(PROBABILITY_GUARD))
    for _ in range(FISTA_ITERATIONS):
        shift = z.amax(1, keepdim=True)
        p = torch.exp(z - shift)
        total = p.sum(1, keepdim=True)
        lse = torch.log(total).add_(shift)
        guarded = torch.logaddexp(lse, guard)
        p.mul_(torch.exp(shift - guarded))
        last, f = f, (guarded - z.gather(1, label)).sum((1, 2), keepdim=True)
        f = f + rho / 2 * square(z - c)
        running = running & ((f - last).abs() >= FISTA_TOLERANCE)  # a NaN stops too
        if not any_run(running):
            break
        last_lam, lam = lam, (1 + math.sqrt(1 + 4 * lam * lam)) / 2
        zeta, last_zeta = torch.addcmul(fixed, (z / FISTA_STEP).sub_(p), scale), zeta
        ahead = torch.lerp(zeta, last_zeta, (1 - last_lam) / lam)
        z = torch.where(running, ahead, z) if len(rho) > 1 else ahead
    return z.mT.to(dtype, memory_format=torch.contiguous_format)


def solve_rows(B: Tensor, L: Tensor) -> Tensor:  # (..., n, d), lower triangular (..., d, d) -> (..., n, d)
    """B (L L^T)^{-1}, by two triangular solves."""
    half = torch.linalg.solve_triangular(L.mT, B, upper=True, left=False)
    return torch.linalg.solve_triangular(L, half, upper=False, left=False)


def cholesky(A: Tensor) -> Tensor:  # (..., d, d), symmetric -> lower triangular (..., d, d)
    """The Cholesky factor; NaN for a matrix that is not positive definite: its run diverges and no other does."""
    L, failed = torch.linalg.cholesky_ex(A)
    return torch.where((failed != 0)[..., None, None], torch.nan, L)


def ridge(A: Tensor, weight: Tensor) -> Tensor:  # (..., d, d), (..., 1, 1) -> (..., d, d)
    """A + weight I."""
    return A + weight * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)


def input_solve(s: Tensor, target: Tensor, W: Tensor, b: Tensor, kappa: Tensor) -> Tensor:
    # s: (R, N, d); target: (R, N, e); W: (R, e, d); b: (R, 1, e); kappa: (R, 1, 1) -> (R, N, d)
    """V_i of BCD, i < N: argmin_v ||t - v W^T - b||^2 + kappa ||v - s||^2, t, W and b of the next layer, by Cholesky.

    Either (W^T W + kappa I) v = W^T (t - b) + kappa s or, cheaper where the layer narrows enough, v = s + W^T q with
    (W W^T + kappa I) q = t - b - W s.
    """
    e, d = W.shape[1:]
    if e * (d + e) < d * d:
        q = solve_rows(torch.baddbmm(target, s, W.mT, alpha=-1).sub_(b), cholesky(ridge(W @ W.mT, kappa)))
        return torch.baddbmm(s, q, W)
    return solve_rows((kappa * s).sub_(b @ W).baddbmm_(target, W), cholesky(ridge(W.mT @ W, kappa)))


def weight_solve(W: Tensor, C: Tensor, factors: Tensor | Sequence[Tensor]) -> Tensor:
    # W, C: (R, d_l, d_{l-1}); factors: R of (d_{l-1}, d_{l-1}) float64 -> (R, d_l, d_{l-1})
    """W_i of BCD: argmin_M ||t - v M^T - b||^2 + kappa ||M - W||^2 by Cholesky, from C = (t - v W^T - b)^T v.

    As a correction of W, whose rounding is that of the residual, and in float64, since v^T v + kappa I, of which
    `factors` are the Cholesky factors, has condition 1e6 and more; the cost is not that of a pass over the data.
    """
    return W + torch.stack([solve_rows(right, L) for right, L in zip(C.double(), factors)]).to(W.dtype)
