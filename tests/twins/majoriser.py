"""Backtracking on a quadratic, slow: objective and majoriser on all data at every trial (SPEC 1).

(1)  u+ = P(u~ - grad f(u^) / theta), theta = theta_0 2^j with the first j for which
     f(u+) <= f(u^) + <grad f(u^), D> + theta/2 ||D||^2, D = u+ - u^
(2)  W_l:  f = rho/2 ||a W^T + b - t||^2 + mu/2 ||W||^2
(3)  a_l:  f = rho/2 ||a W^T + b - t||^2 + mu/2 ||a - centre||^2
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from twins import Slow

Map = Callable[[Tensor], Tensor]


def square(t: Tensor) -> float:
    return (t * t).sum().item()


def inner(s: Tensor, t: Tensor) -> float:
    return (s * t).sum().item()


@dataclass(frozen=True)
class Quadratic:
    """f(u) = rho/2 ||residual(u)||^2 + mu/2 ||u - centre||^2, residual affine in u, back(r) its transpose on r."""

    rho: float
    residual: Map
    back: Map
    mu: float = 0.0
    centre: Tensor | float = 0.0

    def gradient(self, u: Tensor) -> Tensor:
        g = self.rho * self.back(self.residual(u))
        return g + self.mu * (u - self.centre) if self.mu else g

    def change(self, u: Tensor, v: Tensor) -> float:
        """f(v) - f(u), residual by residual: two sums in float32 cannot be told apart near convergence."""
        before, after = self.residual(u), self.residual(v)
        change = self.rho / 2 * inner(after - before, after + before)
        return change + self.mu / 2 * inner(v - u, v + u - 2 * self.centre) if self.mu else change


# The bias within the product: a W^T - (t - b) rounds otherwise than the t that it was computed as, and never is zero.
def weight_objective(a: Tensor, b: Tensor, target: Tensor, rho: float, mu: float = 0.0) -> Quadratic:  # (2)
    return Quadratic(rho, lambda W: torch.addmm(b, a, W.T) - target, lambda r: r.T @ a, mu)


def activation_objective(
    W: Tensor, b: Tensor, target: Tensor, rho: float, mu: float = 0.0, centre: Tensor | float = 0.0
) -> Quadratic:  # (3)
    return Quadratic(rho, lambda a: torch.addmm(b, a, W.T) - target, lambda r: r @ W, mu, centre)


def distance(c: Tensor) -> Quadratic:
    """1/2 ||u - c||^2, in u."""
    return Quadratic(1.0, lambda u: u - c, lambda r: r)


def backtrack(
    slow: Slow,
    f: Quadratic,
    tilde: Tensor,
    hat: Tensor,
    theta_0: float,
    project: Map = lambda u: u,
    max_doublings: int | None = None,
) -> tuple[Tensor, float]:  # (1)
    """u+ and theta; after `max_doublings` the point u~ as it was."""
    g, theta, doublings = f.gradient(hat), theta_0, 0
    while True:
        new = project(tilde - g / theta)
        slow.trials += 1
        D = new - hat
        slope = f.gradient(hat) if slow.as_released else g
        if not f.change(hat, new) > inner(slope, D) + theta / 2 * square(D) or lost(D, hat):
            return new, theta
        if doublings == max_doublings:
            return tilde, theta
        theta, doublings = 2 * theta, doublings + 1


def lost(D: Tensor, hat: Tensor) -> bool:
    """Whether a move is within the rounding of the point, so that objective and majoriser are noise."""
    return bool(D.abs().max() <= 4 * torch.finfo(hat.dtype).eps * hat.abs().max())


def column_mean(t: Tensor) -> Tensor:
    """In float64: torch adds up columns one row after another."""
    return t.mean(0, dtype=torch.float64).to(t.dtype)
