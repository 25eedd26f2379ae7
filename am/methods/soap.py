"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

For W with gradient g, on each side that is at most `largest_side` wide (the other side is left as it is):
L <- s L + (1 - s) g g^T;  R <- s R + (1 - s) g^T g, s the decay;  Q_L, Q_R their eigenvectors
m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) (Q_L^T g Q_R)^2
W <- (1 - lr wd) [W - lr sqrt(1 - beta2^k) / (1 - beta1^k) Q_L ((Q_L^T m Q_R) / (sqrt(v) + eps)) Q_R^T]
Biases have no sides: Adam as it is. Step 0 only sets L, R and their eigenvectors, so that no gradient is seen in a
basis of its own. After every `interval` steps Q <- the orthonormal factor of (L Q) by QR, with Q's columns, and v's
entries, sorted by q^T L q: one round of power iteration. As the authors' code, but the QR stays in the run's dtype.

Where L or R has a null space, as after few rows, its basis is arbitrary: rounding chooses it, and the numbers after it.

Cost per step: one forward and one backward pass; for an m x n matrix with both sides 2 m n (m + n) FLOPs each for L and
R together, for the way of g in, and for that of m in and out; 2 (m^3 + n^3) more for every QR. Every `interval`-th step
makes other operations, so that there is no CUDA graph.
Reference: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025, arXiv 2409.11321.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am import devices
from am.backprop import backpropagate
from am.descent import Scheduled, backpropagation_flops, power, schedule_factor
from am.method import BELOW_ONE, Choice, Cost, Log, Method, Problem, setting
from am.networks import Parameters, view_layers


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(3e-3, "step size", search=Log(1e-4, 3e-2), low=1e-12, role="step size")
    weight_decay: float = setting(1e-2, "decoupled decay of all parameters", search=Log(1e-4, 0.3), low=0.0)
    beta1: float = setting(0.95, "decay of the first moment", low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.95, "decay of the second moment", search=Choice((0.95, 0.99)), low=0.0, high=BELOW_ONE)
    shampoo_decay: float = setting(0.95, "decay of L and R", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-8, "added to the root of the second moment", low=0.0)
    interval: int = setting(10, "steps from one eigenbasis to the next", low=1)
    largest_side: int = setting(1000, "wider sides keep the basis that they have", low=0)


@dataclass
class Side:
    """One side of W: the running mean of g g^T and its eigenvectors, both (R, d, d)."""

    mean: Tensor
    basis: Tensor


@dataclass
class SoapState:
    """Parameters with gradient and moments; sides[l] = [left, right] of W_{l+1}, None where the basis stays.

    flops: (R,) int64, what every run has cost since its start.
    """

    params: Parameters
    gradient: Parameters
    first: Parameters
    second: Parameters
    sides: list[list[Side | None]]
    flops: Tensor


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> SoapState:
    params = params.flattened()
    like = lambda: view_layers(torch.zeros_like(params.flat), params.widths)
    square = lambda W, d: W.new_zeros(len(W), d, d)
    sides = [
        [Side(square(W, d), square(W, d)) if d <= hp.largest_side else None for d in W.shape[1:]] for W in params.W
    ]
    flops = torch.zeros(params.runs, dtype=torch.int64, device=params.flat.device)
    return SoapState(params, like(), like(), like(), sides, flops)


def step(state: SoapState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    params, g, (x, y) = state.params, state.gradient, problem.batches(k)
    backpropagate(x, y, params, problem.activation, g)
    if k > 0:
        move(state, hp, k, hp.learning_rate * schedule_factor(hp, k, problem.steps))
    for l, sides in enumerate(state.sides):
        remember(g.W[l], sides, 1 - hp.shampoo_decay)
        for axis, side in enumerate(sides, 1):
            if side and k == 0:
                side.basis.copy_(eigenvectors(side.mean))
            elif side and k % hp.interval == 0:
                turn(side, state.second.W[l], axis)
    state.flops.add_(step_flops(state, x.shape[1], k, hp.interval))


def move(state: SoapState, hp: SimpleNamespace, k: int, lr: Tensor) -> None:
    """Adam's step, of the weights in their bases; eps stands beside the second moment as it is, without correction."""
    params, g, m, v = state.params, state.gradient, state.first, state.second
    m.flat.lerp_(g.flat, 1 - hp.beta1)
    seen = [within(gW, sides) for gW, sides in zip(g.W, state.sides)]
    for vp, gp in zip([*v.W, *v.b], [*seen, *g.b]):
        vp.lerp_(gp * gp, 1 - hp.beta2)
    exact = hp.exact
    decay = 1 - lr * hp.weight_decay
    lr = lr * ((1 - power(exact.beta2, k)).sqrt() / (1 - power(exact.beta1, k))).to(g.flat.dtype)
    for W, mW, vW, sides in zip(params.W, m.W, v.W, state.sides):
        direction = within(mW, sides).div_(vW.sqrt().add_(hp.epsilon))
        W.addcmul_(without(direction, sides), lr, value=-1)
    for b, mb, vb in zip(params.b, m.b, v.b):
        b.addcmul_(mb / vb.sqrt().add_(hp.epsilon), lr, value=-1)
    params.flat.mul_(decay)


def by_run(function: Callable[..., Tensor], *stacks: Tensor) -> Tensor:  # each (R, ...) -> (R, ...)
    """The function of every run. On a CPU, one run after another in memory of its own.

    A CPU's products and factorisations round by where their matrices begin, and a null space's basis shows it.
    """
    if devices.on_gpu(stacks[0]):
        return function(*stacks)
    return torch.stack([function(*(t.clone() for t in run)) for run in zip(*stacks)])


def within(t: Tensor, sides: list[Side | None]) -> Tensor:  # (R, m, n) -> the same
    """Q_L^T t Q_R, a tensor of its own."""
    left, right = sides
    t = by_run(torch.matmul, left.basis.mT, t) if left else t.clone()
    return by_run(torch.matmul, t, right.basis) if right else t


def without(t: Tensor, sides: list[Side | None]) -> Tensor:  # (R, m, n) -> the same
    """Q_L t Q_R^T."""
    left, right = sides
    t = by_run(torch.matmul, left.basis, t) if left else t
    return by_run(torch.matmul, t, right.basis.mT) if right else t


def remember(g: Tensor, sides: list[Side | None], share: Tensor) -> None:
    left, right = sides
    if left:
        left.mean.lerp_(by_run(lambda u: u @ u.mT, g), share)
    if right:
        right.mean.lerp_(by_run(lambda u: u.mT @ u, g), share)


def eigenvectors(M: Tensor) -> Tensor:  # (R, d, d), symmetric -> (R, d, d)
    """Orthonormal columns, the largest eigenvalue first; NaN for a matrix that is not finite, which no solver takes."""
    finite = torch.isfinite(M).flatten(1).all(1)[:, None, None]
    # In float64: in float32 the solver gives up on the many equal eigenvalues of a null space.
    Q = by_run(lambda m: torch.linalg.eigh(m)[1], torch.where(finite, M, 0.0).double()).flip(2)
    return torch.where(finite, Q, torch.nan).to(M.dtype)


def turn(side: Side, v: Tensor, axis: int) -> None:  # v: (R, m, n), sorted along the axis
    """One round of power iteration."""
    image = by_run(torch.matmul, side.mean, side.basis)
    order = (side.basis * image).sum(1).argsort(dim=1, descending=True, stable=True)  # (R, d)
    columns = order[:, None, :].expand_as(image)
    side.basis.copy_(by_run(lambda m: torch.linalg.qr(m)[0], image.gather(2, columns)))
    v.copy_(v.gather(axis, (order[:, :, None] if axis == 1 else order[:, None, :]).expand_as(v)))


def step_flops(state: SoapState, rows: int, k: int, interval: int) -> int:
    """FLOPs of the matrix products of step k: gradient, way in of g and m, way out, means, and the power iteration."""
    total = backpropagation_flops(state.params.widths, rows)
    for W, sides in zip(state.params.W, state.sides):
        for d in (side.mean.shape[1] for side in sides if side):
            products = 2 * W[0].numel() * d
            total += products * (4 if k else 1) + (2 * d**3 if k and k % interval == 0 else 0)
    return total


METHOD = Method(
    name="soap",
    title="SOAP",
    family="gradient",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    cost=Cost(),
    has_graph=False,
    well_posed=False,
)
