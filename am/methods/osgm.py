"""OSGM, the online scaled gradient method: a diagonal preconditioner P, one step size per parameter, learnt online.

On mini-batch k, with f its mean cross-entropy and g the gradient at x:
x+ = x - P * g;  h(P) = (f(x+) - f(x)) / ||g||^2, whose gradient is H = -(g+ * g) / ||g||^2, g+ the gradient at x+
S <- S + H^2;  P <- P - lr H / (sqrt(S) + eps)  (AdaGrad);  x <- x+, but stays where f(x+) > f(x) (null step)
P starts at P_0, by default 0: the first step only learns. It has no bounds. A schedule multiplies P, in x+ and so in H.
Our readings: both losses and both gradients are of the same batch, and the next batch begins anew.

Cost per step: two forward and two backward passes over the batch, and two gradients. Reference: Gao, Chu, Ye and Udell,
"Gradient Methods with Online Scaling", 2024, arXiv 2411.01803; Chu et al., "Provable and Practical Online Learning Rate
Adaptation with Hypergradient Descent", 2025, arXiv 2502.11229. Their code, udellgroup/osgm-best-hypergrad, adds
momentum, bounds on P and an estimate of the smoothness for full-batch problems.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.backprop import backpropagate
from am.cross_entropy import cross_entropy
from am.descent import Scheduled, backpropagation_flops, schedule_factor, total
from am.method import ByHand, Cost, Log, Method, Problem, setting
from am.networks import Parameters, view_layers


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(0.03, "step of AdaGrad on P", search=Log(1e-3, 1.0), low=1e-12, role="step size")
    p_0: float = setting(0.0, "P at the start, the same for all parameters", low=0.0)
    epsilon: float = setting(1e-10, "added to the root of the sum of squares", low=0.0)


@dataclass
class OsgmState:
    """x and x+ with their gradients, all (R, 1, P) beneath; P and the sum S of its squared gradients, (R, 1, P)."""

    params: Parameters
    ahead: Parameters
    gradient: Parameters
    gradient_ahead: Parameters
    P: Tensor
    S: Tensor


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> OsgmState:
    params = params.flattened()
    like = lambda: view_layers(torch.zeros_like(params.flat), params.widths)
    P = hp.p_0.expand_as(params.flat).clone()
    return OsgmState(params, like(), like(), like(), P, torch.zeros_like(P))


def step(state: OsgmState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    (x, y), now, ahead = problem.batches(k), state.params, state.ahead
    loss = cross_entropy(backpropagate(x, y, now, problem.activation, state.gradient), y)
    factor, g = schedule_factor(hp, k, problem.steps), state.gradient.flat
    scaled = g * factor
    torch.addcmul(now.flat, state.P, scaled, value=-1, out=ahead.flat)
    loss_ahead = cross_entropy(backpropagate(x, y, ahead, problem.activation, state.gradient_ahead), y)
    square = total(g * g).to(g.dtype)
    # At a zero gradient nothing moves, and there is nothing to learn.
    H = torch.where(square == 0, 0.0, scaled * state.gradient_ahead.flat / -square)
    state.S.addcmul_(H, H)
    state.P.addcmul_(H / state.S.sqrt().add_(hp.epsilon), hp.learning_rate, value=-1)
    null = (loss_ahead > loss).view(-1, 1, 1)  # a NaN is no null step: the run has diverged, and shows it
    now.flat.copy_(torch.where(null, now.flat, ahead.flat))


METHOD = Method(
    name="osgm",
    title="OSGM",
    family="gradient",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    cost=Cost(
        lambda widths, rows, settings: 2 * backpropagation_flops(widths, rows), gradients=lambda depth, settings: 2
    ),
    by_hand=ByHand(
        variables=lambda state: {f"P_{kind}{l}": t for kind, ts in zip("Wb", view(state)) for l, t in enumerate(ts, 1)}
    ),
)


def view(state: OsgmState) -> tuple[list[Tensor], list[Tensor]]:
    """P by layers."""
    layers = view_layers(state.P, state.params.widths)
    return layers.W, [b[:, 0] for b in layers.b]
