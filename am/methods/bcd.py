"""BCD: block coordinate descent over a network split into U_i = V_{i-1} W_i^T + b_i and V_i = h(U_i), V_0 = X.

Minimises 1/2 ||V_N - Y||^2 + gamma/2 sum_i ||V_i - h(U_i)||^2 + rho/2 sum_i ||U_i - V_{i-1} W_i^T - b_i||^2, Y one-hot
and h the identity in layer N, in blocks with proximal weight alpha on V_N and U_i (i < N), and alpha_weights on W_i and
b_i, which stand against sums over all samples (SPEC 8). One sweep visits V_N, U_N, (W_N, b_N), then V_i, U_i,
(W_i, b_i) for i = N-1, ..., 1 (SPEC 4). Every block is an exact minimiser: V_i and W_i by Cholesky, U_i the scalar prox
of the activation. As released, and our reading of "(W_i, b_i)": each of the two is solved at the other's last value;
the net's own forward pass predicts.

The authors start from W ~ .01 N(0, 1) and b = .1, which is the initialisation's to do, and use one alpha for
all blocks: 5 for three hidden layers, 1 for ten.

Cost per step: two passes over the data in layer 1, whose Gram matrix is factorised once; above it, about five products
of N d_i d_{i-1} multiply-adds per layer, of which one is a triangular solve for all samples.
Reference: Zeng, Lau, Lin and Yao, "Global convergence of block coordinate descent in deep learning", ICML 2019,
arXiv 1803.00225.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.cross_entropy import one_hot
from am.linalg import cholesky, correlate, gram, gram_multiply_adds, linear, ridge, solve_rows, square
from am.method import ByHand, Cost, Log, Method, Problem, needs_hidden_layer, setting
from am.networks import Parameters, forward_variables
from am.stacks import run_by_run


@dataclass(frozen=True)
class Hyperparameters:
    gamma: float = setting(1.0, "weight of V = h(U)", search=Log(0.1, 10.0), low=1e-12)
    rho: float = setting(1.0, "weight of the layer equations", search=Log(0.1, 10.0), low=1e-12)
    alpha: float = setting(
        5.0, "proximal weight of the last V and U", search=Log(0.1, 100.0), low=1e-12, beside="alpha_weights"
    )
    alpha_weights: float = setting(
        5.0, "proximal weight of the last W and b", search=Log(0.1, 100.0), low=1e-12, per_rows=True
    )


@dataclass
class BcdState:
    """The variables of R runs and what never changes.

    U, V: U_1 .. U_N, V_1 .. V_N, each (R, N, d_i).  labels: one-hot, (N, C).
    factors: each run's Cholesky factor of X^T X + alpha_weights/rho I, (d0, d0) float64, one tensor for all runs of one
    alpha_weights/rho.
    """

    params: Parameters
    U: list[Tensor]
    V: list[Tensor]
    labels: Tensor
    factors: tuple[Tensor, ...]


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> BcdState:
    x, params = problem.x, params.clone()
    U, V = forward_variables(x, params, problem.activation)
    labels = one_hot(problem.y, U[-1].shape[2], x.dtype)
    G, weights = gram(x).double(), [own.alpha_weights / own.rho for own in hp.each]
    factor_of = {weight: cholesky(ridge(G, torch.full_like(G[:1, :1], weight))) for weight in set(weights)}
    return BcdState(params, U, [*V, U[-1].clone()], labels, tuple(factor_of[weight] for weight in weights))


@run_by_run
def step(state: BcdState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    act, params, U, V = problem.activation, state.params, state.U, state.V
    gamma, rho, alpha, alpha_weights = hp.gamma, hp.rho, hp.alpha, hp.alpha_weights
    x, last = problem.x, len(U) - 1

    def product(i: int) -> Tensor:  # (R, N, d_i)
        return linear(V[i - 1] if i else x, params.W[i], params.b[i])

    def weight_and_bias(i: int, residual: Tensor) -> None:  # U_i - V_{i-1} W_i^T - b_i
        v = V[i - 1] if i else x
        kappa = hp.exact.alpha_weights / hp.exact.rho
        factors = cholesky(ridge(gram(v).double(), kappa)) if i else state.factors
        params.W[i].copy_(weight_solve(params.W[i], correlate(residual, v), factors))
        params.b[i].add_(residual.sum(1, keepdim=True) * (rho / (rho * len(x) + alpha_weights)))

    V[last].mul_(alpha).addcmul_(U[last], gamma).add_(state.labels).div_(1 + gamma + alpha)
    c = product(last)
    torch.lerp(V[last], c, rho / (gamma + rho), out=U[last])
    weight_and_bias(last, torch.sub(U[last], c, out=c))
    for i in reversed(range(last)):
        V[i].copy_(input_solve(act.value(U[i]), U[i + 1], params.W[i + 1], params.b[i + 1], gamma / rho))
        c = product(i)
        act.prox(torch.lerp(U[i], c, rho / (rho + alpha)), V[i], gamma / (rho + alpha), out=U[i])
        weight_and_bias(i, torch.sub(U[i], c, out=c))


def input_solve(s: Tensor, target: Tensor, W: Tensor, b: Tensor, kappa: Tensor) -> Tensor:
    # s: (R, N, d); target: (R, N, e); W: (R, e, d); b: (R, 1, e); kappa: (R, 1, 1) -> (R, N, d)
    """V_i of BCD, i < N: argmin_v ||t - v W^T - b||^2 + kappa ||v - s||^2, t, W and b of the next layer, by Cholesky.

    Either (W^T W + kappa I) v = W^T (t - b) + kappa s or, cheaper where the layer narrows enough, v = s + W^T q with
    (W W^T + kappa I) q = t - b - W s.
    """
    if _narrows(*W.shape[1:]):
        q = solve_rows(torch.baddbmm(target, s, W.mT, alpha=-1).sub_(b), cholesky(ridge(W @ W.mT, kappa)))
        return torch.baddbmm(s, q, W)
    right = (kappa * s).sub_(b @ W)
    return solve_rows(torch.baddbmm(right, target, W, out=right), cholesky(ridge(W.mT @ W, kappa)))


def _narrows(e: int, d: int) -> bool:
    """Whether a system in e outputs is cheaper than one in d inputs."""
    return e * (d + e) < d * d


def weight_solve(W: Tensor, C: Tensor, factors: Tensor | Iterable[Tensor]) -> Tensor:
    # W, C: (R, d_l, d_{l-1}); factors: R of (d_{l-1}, d_{l-1}) float64 -> (R, d_l, d_{l-1})
    """W_i of BCD: argmin_M ||t - v M^T - b||^2 + kappa ||M - W||^2 by Cholesky, from C = (t - v W^T - b)^T v.

    As a correction of W, whose rounding is that of the residual, and in float64, since v^T v + kappa I, of which
    `factors` are the Cholesky factors, has condition 1e6 and more; the cost is not that of a pass over the data.
    """
    return W + torch.stack([solve_rows(right, L) for right, L in zip(C.double(), factors)]).to(W.dtype)


def step_flops(widths: Sequence[int], rows: int, settings: Any) -> int:
    """FLOPs of a sweep: each layer's product and W_i's right side; above the first its Gram matrix and V_i's system."""
    total = 0
    for i, (d, e) in enumerate(zip(widths, widths[1:])):
        total += 2 * rows * d * e
        if i:
            system = rows * d * e + d * e * e if _narrows(e, d) else d * e + d * d * e
            total += gram_multiply_adds(rows, d) + rows * d * e + system
    return 2 * total


@run_by_run
def objective(state: BcdState, problem: Problem, hp: SimpleNamespace) -> Tensor:  # (R,) float64
    """The loss that the authors report: gamma/2 ||V_N - Y||^2 + rho/2 sum_i ||U_i - V_{i-1} W_i^T - b_i||^2.

    It leaves out gamma/2 ||V_i - h(U_i)||^2, and weighs the first term with gamma = 1 in all that they publish.
    """
    params, value = state.params, hp.exact.gamma / 2 * square(state.V[-1] - state.labels)
    for U, v, W, b in zip(state.U, [problem.x, *state.V], params.W, params.b):
        value = value + hp.exact.rho / 2 * square(linear(v, W, b).sub_(U))
    return value.flatten()


def variables(state: BcdState) -> dict[str, Tensor]:
    """U1 .. UN, V1 .. VN."""
    return {f"U{i}": U for i, U in enumerate(state.U, 1)} | {f"V{i}": V for i, V in enumerate(state.V, 1)}


METHOD = Method(
    name="bcd",
    title="BCD",
    family="full-batch AM",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    full_batch=True,
    monotone_only=True,
    requires=needs_hidden_layer,
    cost=Cost(step_flops, gradients=lambda depth, hp: 4 * depth),
    by_hand=ByHand(objective=objective, variables=variables),
)
