"""LocoProp: back-propagation sets every layer a target, which the layers then approach by local RMSprop steps.

Per mini-batch, with L the mean cross-entropy and a_{l-1} the layers' inputs of one forward pass, every layer by itself
takes T = `local_steps` steps of RMSprop in (W_l, b_l), at the rate max(1 - t/T, 1/4) `learning_rate` in step t, on

    loss = "squared"   (LocoProp-S)  1/(2 B) ||a_{l-1} W_l^T + b_l - t_l||^2,  t_l = z_l - gamma dL/dz_l
    loss = "matching"  (LocoProp-M)  the matching loss of h, whose gradient by the output is (h(.) - t_l) / B,
                                     t_l = h(z_l) - gamma dL/dz_l; h is softmax in the output layer

(SPEC 10). Both begin along gamma/B times the layer's gradient of L. RMSprop's mean squares last from batch to batch.
Our readings: the local rate's course (the authors'), 1/B, no momentum, no regularisation, and inputs that stay those of
the forward pass. "matching" needs a monotone h.

Cost per step: a pass forward, one back, and 2 T - 1 products of B d_l d_{l-1} multiply-adds in each layer.
Reference: Amid, Anil and Warmuth, "LocoProp: enhancing backprop via local loss optimization", AISTATS 2022,
arXiv 2106.06199.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.activations import Activation
from am.backprop import output_gradients
from am.linalg import correlate, linear
from am.method import BELOW_ONE, Cost, Log, Method, Problem, setting
from am.networks import Parameters

LEAST_RATE = 0.25  # share of the rate that the last local steps keep


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(
        3e-4, "first local RMSprop step", search=Log(1e-5, 1e-2), low=1e-12, role="step size"
    )
    gamma: float = setting(10.0, "step of a layer's output to its target", search=Log(0.1, 1000.0), low=1e-12)
    local_steps: int = setting(5, "T, steps of each layer on a mini-batch", low=1, high=1_000)
    decay: float = setting(0.9, "decay of the squared gradient's mean", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-6, "added to the root of the mean square", low=0.0)
    loss: str = setting("squared", "what the layers descend", choices=("squared", "matching"))


@dataclass
class LocopropState:
    """The parameters, and the mean squares of their local gradients."""

    params: Parameters
    mean_square: Parameters


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> LocopropState:
    params = params.clone()
    zeros = [[torch.zeros_like(t) for t in ts] for ts in (params.W, params.b)]
    return LocopropState(params, Parameters(zeros[0], zeros[1]))


def step(state: LocopropState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    params, act = state.params, problem.activation
    inputs, z, deltas = output_gradients(*problem.batches(k), params, act)
    for l, (a, output, delta) in enumerate(zip(inputs, z, deltas)):
        link = _link(hp, act, l == len(z) - 1)
        first = link(output)
        # The target's pull, and what has moved of the output, apart: the first loses no digit in the second.
        pulls = correlate(delta, a).mul_(hp.gamma), delta.sum(1, keepdim=True).mul_(hp.gamma)
        for t in range(hp.local_steps):
            gradients = pulls
            if t:
                moved = link(linear(a, params.W[l], params.b[l])) - first
                gradients = pulls[0] + correlate(moved, a), pulls[1] + moved.sum(1, keepdim=True)
            rate = hp.learning_rate * max(1 - t / hp.local_steps, LEAST_RATE)
            for blocks, squares, g in zip((params.W, params.b), (state.mean_square.W, state.mean_square.b), gradients):
                _rmsprop(blocks[l], g / output.shape[1], squares[l], hp, rate)


def _link(hp: SimpleNamespace, act: Activation, last: bool) -> Callable[[Tensor], Tensor]:
    """What the local loss compares of an output with its target."""
    if hp.loss == "squared":
        return lambda z: z
    return (lambda z: torch.softmax(z, 2)) if last else act.value


def _rmsprop(u: Tensor, g: Tensor, mean_square: Tensor, hp: SimpleNamespace, rate: Tensor) -> None:
    mean_square.lerp_(g * g, 1 - hp.decay)
    u.addcmul_(g / mean_square.sqrt().add_(hp.epsilon), rate, value=-1)


def step_flops(widths: Sequence[int], rows: int, settings: Any) -> int:
    """FLOPs of a step: forward, back, and a gradient in every local step, the output before it in all but the first."""
    products = [a * b for a, b in zip(widths, widths[1:])]
    return 2 * rows * ((2 * settings.local_steps + 1) * sum(products) - products[0])


def requires(settings: Any, act: Activation, widths: Sequence[int]) -> str | None:
    if settings.loss == "matching" and not act.monotone:
        return f"loss 'matching' needs a monotone activation and '{act.name}' is not; use 'squared'."
    return None


METHOD = Method(
    name="locoprop",
    title="LocoProp",
    family="stochastic AM",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    requires=requires,
    cost=Cost(
        step_flops,
        updates=lambda depth, settings: depth * settings.local_steps,
        gradients=lambda depth, settings: 1 + depth * settings.local_steps,
    ),
)
