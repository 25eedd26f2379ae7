"""Prodigy: Adam that estimates the distance d from its start to the solution, and takes it for the rate.

With eta = lr d and beta3 = sqrt(beta2), all moments weighted by d:
r <- beta3 r + (d / d_0) eta <g, x_0 - x>;  s <- beta3 s + (d / d_0) eta g
m <- beta1 m + (1 - beta1) d g;  v <- beta2 v + (1 - beta2) d^2 g^2
d <- max(d, d_coef r / ||s||_1), but stays while s = 0
x <- (1 - eta wd) x - eta m / (sqrt(v) + d eps), eta from the last d
d belongs to a run. Equal to the reference file of prodigyopt 1.1.2 with its defaults: no bias correction, decoupled
decay, no limit on d's growth.

One step is one forward and one backward pass over the batch.
Reference: Mishchenko and Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", ICML 2024,
arXiv 2306.06101.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_method, total
from am.method import BELOW_ONE, ByHand, Log, setting
from am.networks import Parameters


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(1.0, "what d is multiplied by in a step", low=1e-12, role="step size")
    d_coef: float = setting(1.0, "what the estimate of d is multiplied by", search=Log(0.1, 10.0), low=1e-12)
    d_0: float = setting(1e-6, "first estimate of d", low=1e-30)
    weight_decay: float = setting(1e-2, "decoupled decay of all parameters", search=Log(1e-4, 0.3), low=0.0)
    beta1: float = setting(0.9, "decay of the first moment", low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.999, "decay of the second moment", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-8, "added to the root of the second moment, times d", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g, x, memory, exact = state.gradient.flat, state.params.flat, state.memory, hp.exact
    like, beta3, d = lambda s: s.to(g.dtype), exact.beta2.sqrt(), memory["d"].double()
    rate = d * exact.learning_rate * factor
    weight = d / exact.d_0 * rate
    gain = memory["gain"].mul_(beta3).add_(weight * total(g * (memory["start"] - x)))
    m = memory["first"].mul_(hp.beta1).addcmul_(g, like(d * (1 - exact.beta1)))
    v = memory["second"].mul_(hp.beta2).addcmul_(g * g, like(d * d * (1 - exact.beta2)))
    s = memory["sum"].mul_(like(beta3)).addcmul_(g, like(weight))
    length = total(s.abs())
    found = torch.where(length == 0, d, exact.d_coef * gain / length)
    memory["d"].copy_(torch.maximum(d, found))
    below = v.sqrt().add_(memory["d"] * hp.epsilon)
    rate = like(torch.where(length == 0, 0.0, rate))
    x.mul_(1 - rate * hp.weight_decay).addcdiv_(m * rate, below, value=-1)


def estimates(params: Parameters, hp: SimpleNamespace) -> dict[str, Tensor]:
    """d, r and the start of each run."""
    return dict(d=hp.d_0.clone(), gain=torch.zeros_like(hp.exact.d_0), start=params.flat.clone())


METHOD = gradient_method(
    "prodigy",
    "Prodigy",
    Hyperparameters,
    update,
    memory=("first", "second", "sum"),
    more_memory=estimates,
    by_hand=ByHand(variables=lambda state: {"d": state.memory["d"]}),
)
