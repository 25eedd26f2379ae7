"""SAMT, stochastic alternating minimisation with trainable step sizes.

Layers are blocks, updated in turn on each mini-batch (Gauss-Seidel); block l's step size alpha_l is a scalar, one per
row, one per column or one per element of W_l, and is learnt by descending the loss of a query batch after the block's
move: H_l = -reduce((sum_t g_t) * q) (SPEC 3). First-order; exact for T = 1. Our readings, all of them settings: T, the
query batch, the meta-optimiser, the clipping to [1e-6, 10], one scalar step size per bias, and a schedule, by which the
moves alone are multiplied: what is learnt of a step size is learnt as without it.

Cost per step: L T block updates and L (T + 1) partial gradients. A move of block l leaves the layers below l valid,
so only layers >= l run again, and the pass over the query batch starts the next step.
Reference: "Neural Network Training via Stochastic Alternating Minimization with Trainable Step Sizes", 2025,
arXiv 2508.04193.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.activations import Activation
from am.cross_entropy import logits_gradient
from am.descent import Scheduled, adam_direction, schedule_factor
from am.linalg import correlate, linear
from am.method import ByHand, Choice, Cost, Log, Method, Problem, setting
from am.networks import Parameters

ALPHA_MIN, ALPHA_MAX = 1e-6, 10.0
ADAM = (0.9, 0.999, 1e-12)  # beta1, beta2, epsilon of meta = "log_adam"
SHARED_AXES = {"scalar": (1, 2), "row": (2,), "column": (1,), "element": ()}


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    alpha0: float = setting(
        0.1, "initial step size of every block", search=Log(1e-2, 1.0), low=1e-6, high=10.0, role="step size"
    )
    beta: float = setting(0.03, "step of the meta-optimiser", search=Log(1e-4, 0.3), low=0.0)
    shape: str = setting("row", "which entries of W_l share a step size", choices=tuple(SHARED_AXES), role="shape")
    inner_steps: int = setting(1, "T, gradient steps on a block before the next block", low=1, high=1_000)
    order: str = setting("forward", "order of the blocks", choices=("forward", "backward"))
    query: str = setting("next", "batch that the step sizes are trained on", choices=("next", "support"))
    meta: str = setting("log_adam", "meta-optimiser", search=Choice(("log_adam", "gd")), choices=("log_adam", "gd"))


class BatchPass:
    """One mini-batch and the layers' outputs on it that are still those of the current parameters."""

    def __init__(self, x: Tensor, y: Tensor, act: Activation) -> None:
        self.x, self.y, self.act = x, y, act
        self.z: list[Tensor] = []  # pre-activations of the layers that are current
        self.a: list[Tensor] = [x]  # a[l] is the input of layer l

    def block_moved(self, l: int) -> None:
        """Layers below l stay as they are."""
        del self.z[l:], self.a[l + 1 :]

    def gradient(self, params: Parameters, l: int) -> tuple[Tensor, Tensor]:  # (R, d_l, d_{l-1}), (R, 1, d_l)
        """The gradient of the mean cross-entropy with respect to (W_l, b_l), at the current parameters."""
        depth = len(params.W)
        for j in range(len(self.z), depth):
            self.z.append(linear(self.a[j], params.W[j], params.b[j]))
            if j < depth - 1:
                self.a.append(self.act.value(self.z[j]))
        delta = logits_gradient(self.z[-1], self.y)
        for j in range(depth - 1, l, -1):
            delta = torch.bmm(delta, params.W[j]).mul_(self.act.derivative(self.z[j - 1], self.a[j]))
        return correlate(delta, self.a[l]), delta.sum(1, keepdim=True)


@dataclass
class SamtState:
    """Parameters, step sizes (name "W1", "b1", ... -> alpha) and their Adam moments, and the pass carried over."""

    params: Parameters
    alpha: dict[str, Tensor]
    moments: dict[str, tuple[Tensor, Tensor]]
    carried: BatchPass | None = None


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> SamtState:
    params = params.clone()
    alpha = {}
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        sizes = [1 if axis in SHARED_AXES[hp.shape] else n for axis, n in enumerate(W.shape)]
        alpha[f"W{l + 1}"] = hp.alpha0.expand(sizes).clone()
        alpha[f"b{l + 1}"] = hp.alpha0.expand(b.shape[0], 1, 1).clone()
    moments = {name: (torch.zeros_like(a), torch.zeros_like(a)) for name, a in alpha.items()}
    return SamtState(params, alpha, moments)


def step(state: SamtState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    alternate(state, problem, hp, k, learn=True)


def alternate(state: SamtState, problem: Problem, hp: SimpleNamespace, k: int, learn: bool) -> None:
    """One sweep over the blocks on mini-batch k; with `learn`, each block's step size moves after the block."""
    support, query = _passes(state, problem, hp, k, learn)
    factor = schedule_factor(hp, k, problem.steps)
    for l in _order(hp, len(state.params.W)):
        _move_block(state, hp, l, support, query, k, factor, learn)
    state.carried = query if query is not support else None


def alternate_block(
    state: SamtState, problem: Problem, hp: SimpleNamespace, k: int, name: str, learn: bool = True
) -> None:
    """The block named "W1+b1", "W2+b2", ... of mini-batch k alone, and with `learn` its step sizes."""
    forget(state)
    support, query = _passes(state, problem, hp, k, learn)
    l = blocks(hp, len(state.params.W), by_order=False).index(name)
    _move_block(state, hp, l, support, query, k, schedule_factor(hp, k, problem.steps), learn)


def forget(state: SamtState, *_: Any) -> None:
    """Parameters were set: the pass carried over is of others."""
    state.carried = None


def blocks(hp: SimpleNamespace, depth: int, by_order: bool = True) -> list[str]:
    """A layer is a block: W_l with b_l."""
    return [f"W{l + 1}+b{l + 1}" for l in (_order(hp, depth) if by_order else range(depth))]


def _order(settings: Any, depth: int) -> Sequence[int]:
    return range(depth) if settings.order == "forward" else range(depth)[::-1]


def _passes(
    state: SamtState, problem: Problem, hp: SimpleNamespace, k: int, learn: bool
) -> tuple[BatchPass, BatchPass]:
    """The passes over the support and the query batch of step k, one and the same where they are one batch."""
    support = state.carried or BatchPass(*problem.batches(k), problem.activation)
    if learn and hp.query == "next":
        return support, BatchPass(*problem.batches(k + 1), problem.activation)
    return support, support


def _move_block(
    state: SamtState,
    hp: SimpleNamespace,
    l: int,
    support: BatchPass,
    query: BatchPass,
    k: int,
    factor: Tensor | float,  # (R, 1, 1)
    learn: bool,
) -> None:
    """T gradient steps on (W_l, b_l), times the schedule's factor; with `learn`, one of the meta-optimiser on their
    step sizes (SPEC 3)."""
    params, alpha, W, b = state.params, state.alpha, f"W{l + 1}", f"b{l + 1}"
    moved: tuple[Tensor, Tensor] | None = None  # the sum of the gradients along which the block has moved
    for _ in range(hp.inner_steps):
        gW, gb = support.gradient(params, l)
        for u, name, g in ((params.W[l], W, gW), (params.b[l], b, gb)):
            u.addcmul_(alpha[name] if isinstance(factor, float) else alpha[name] * factor, g, value=-1)
        support.block_moved(l)
        query.block_moved(l)
        moved = (gW, gb) if moved is None else (moved[0] + gW, moved[1] + gb)
    if learn:
        qW, qb = query.gradient(params, l)
        _learn_step_size(state, hp, W, -_reduce(qW.mul_(moved[0]), SHARED_AXES[hp.shape]), k)
        _learn_step_size(state, hp, b, -_reduce(qb.mul_(moved[1]), (1, 2)), k)


def _reduce(t: Tensor, axes: tuple[int, ...]) -> Tensor:
    return t.sum(axes, keepdim=True) if axes else t


def _learn_step_size(state: SamtState, hp: SimpleNamespace, name: str, H: Tensor, k: int) -> None:
    """alpha <- clip(alpha - beta H), or log alpha <- log alpha - beta Adam(alpha * H), clipped likewise."""
    alpha = state.alpha[name]
    if hp.meta == "gd":
        alpha.sub_(hp.beta * H)
    else:
        alpha.mul_(adam_direction(alpha * H, *state.moments[name], *ADAM, k).mul_(-hp.beta).exp_())
    alpha.clamp_(ALPHA_MIN, ALPHA_MAX)


def step_flops(widths: Sequence[int], rows: int, settings: Any, learn: bool) -> int:
    """FLOPs of a step: what each gradient re-runs of its pass, from the last block that moved, and its way back."""
    products = [2 * rows * a * b for a, b in zip(widths, widths[1:])]
    depth, total = len(products), 0
    carries = learn and settings.query == "next"
    support = [depth if carries else 0]  # layers of a pass that are current
    query = [0] if carries else support

    def gradient(current: list[int], l: int) -> int:
        cost = sum(products[current[0] :]) + sum(products[l:])
        current[0] = depth
        return cost

    for l in _order(settings, depth):
        for _ in range(settings.inner_steps):
            total += gradient(support, l)
            support[0], query[0] = min(support[0], l), min(query[0], l)
        if learn:
            total += gradient(query, l)
    return total


METHOD = Method(
    name="samt",
    title="SAMT",
    family="stochastic AM",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    cost=Cost(
        lambda widths, rows, settings: step_flops(widths, rows, settings, learn=True),
        updates=lambda depth, settings: depth * settings.inner_steps,
        gradients=lambda depth, settings: depth * (settings.inner_steps + 1),
    ),
    by_hand=ByHand(
        variables=lambda state: {f"alpha_{name}": alpha for name, alpha in state.alpha.items()},
        refresh=forget,
        blocks=blocks,
        step_block=alternate_block,
    ),
)
