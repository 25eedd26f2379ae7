"""ProxProp: proximal back-propagation, an explicit gradient step on every output and an implicit one on every layer.

Per mini-batch, with L the mean cross-entropy, one forward pass's inputs a_{l-1} and z+_l = z_l - gamma dL/dz_l, every
layer by itself moves to

    (W_l, b_l) = argmin 1/2 ||a_{l-1} W^T + b - z+_l||^2 + ||W - W_l||^2 / (2 tau)            (SPEC 10)

For small tau W_l takes a gradient step of rate gamma tau. b_l has no proximal term: our reading, as written. With b
eliminated, A and E the columns of a_{l-1} and of -gamma dL/dz_l less their means, W_l moves by
E^T A (A^T A + I/tau)^-1 = E^T (A A^T + I/tau)^-1 A: the smaller of the two systems, of size min(d_{l-1}, B), is solved
by Cholesky. It is never larger than the batch, so that no iterative solver is needed.

Cost per step: a pass forward and one back, B d min(B, d) multiply-adds for the system, d = d_{l-1}, two triangular
solves, and two or three narrow products. Reference: Frerix, Moellenhoff, Moeller and Cremers, "Proximal
backpropagation", ICLR 2018, arXiv 1706.04638.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from am.backprop import output_gradients
from am.linalg import cholesky, correlate, linear, ridge, solve_rows
from am.method import Cost, Log, Method, Problem, setting
from am.networks import Parameters


@dataclass(frozen=True)
class Hyperparameters:
    gamma: float = setting(
        10.0, "explicit step of a layer's output", search=Log(0.1, 1000.0), low=1e-12, role="step size"
    )
    tau: float = setting(0.03, "proximal step of the weights", search=Log(1e-4, 10.0), low=1e-12)


@dataclass
class ProxpropState:
    params: Parameters


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> ProxpropState:
    return ProxpropState(params.clone())


def step(state: ProxpropState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    params = state.params
    inputs, _, deltas = output_gradients(*problem.batches(k), params, problem.activation)
    for W, b, a, delta in zip(params.W, params.b, inputs, deltas):
        move, shift = proximal_move(a, delta.mul_(-hp.gamma), hp.tau)
        W.add_(move)
        b.add_(shift)


def proximal_move(a: Tensor, e: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    # a: (R, B, d); e: (R, B, d_out); tau: (R, 1, 1) -> (R, d_out, d), (R, 1, d_out)
    """argmin over (D, c) of 1/2 ||a D^T + c - e||^2 + ||D||^2 / (2 tau)."""
    a_mean, e_mean = a.mean(1, keepdim=True), e.mean(1, keepdim=True)
    A, E = a - a_mean, e - e_mean
    if _is_dual(a.shape[1], a.shape[2]):
        D = correlate(solve_rows(E.mT, cholesky(ridge(A @ A.mT, 1 / tau))).mT, A)
    else:
        D = solve_rows(correlate(E, A), cholesky(ridge(A.mT @ A, 1 / tau)))
    return D, e_mean - linear(a_mean, D)


def _is_dual(rows: int, d: int) -> bool:
    """Whether the system of the batch is smaller than that of the inputs."""
    return rows < d


def step_flops(widths: Sequence[int], rows: int, settings: Any) -> int:
    """FLOPs of a step but for factorisations and solves: forward, back, every layer's system, its move and shift."""
    layers = list(zip(widths, widths[1:]))
    passes = 3 * sum(a * b for a, b in layers) - layers[0][0] * layers[0][1]
    systems = sum(d * min(d, rows) for d in widths[:-1])
    return 2 * (rows * (passes + systems) + sum(a * b for a, b in layers))


METHOD = Method(
    name="proxprop",
    title="ProxProp",
    family="stochastic AM",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    cost=Cost(step_flops),
)
