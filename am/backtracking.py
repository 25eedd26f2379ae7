"""Backtracking by doubling on a quadratic, decided without touching the data.

For f quadratic with Hessian H the step D meets f(u + D) <= f(u) + <grad f(u), D> + theta/2 ||D||^2 exactly where
<D, H D> <= theta ||D||^2 (SPEC 1, W_l), which is a comparison of a few inner products for all trials together.
"""

import torch
from torch import Tensor

from am.linalg import inner, square

DOUBLINGS = 100  # theta_0 2^100 is beyond any curvature that float32 data can have


def doubled(theta0: Tensor, curvature: Tensor) -> Tensor:  # (R, 1, 1), (R, 1, 1) float64 -> (R, 1, 1)
    """Backtracking on a quadratic along its gradient: the smallest theta_0 2^j >= curvature = <g, H g> / ||g||^2."""
    theta = theta0.double() * torch.exp2(torch.arange(DOUBLINGS, device=theta0.device, dtype=torch.float64))
    return first_doubling(~(curvature > theta), theta0.double()).to(theta0.dtype)


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
