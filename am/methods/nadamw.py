"""NAdamW: Adam with Nesterov's momentum, warmed up, and decoupled weight decay.

With t = k + 1 and mu_t = beta1 (1 - .96^(t psi) / 2), psi the momentum decay:
W <- (1 - lr wd) W - lr [(1 - mu_t) / (1 - prod_{i<=t} mu_i) g + mu_{t+1} / (1 - prod_{i<=t+1} mu_i) m]
                        / (sqrt(v / (1 - beta2^t)) + eps), with m and v the first and second moments of Adam.
Equal to torch.optim.NAdam(decoupled_weight_decay=True).

One step is one forward and one backward pass over the batch. Reference: Dozat, "Incorporating Nesterov Momentum into
Adam", ICLR 2016 workshop; decoupled decay: Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_method, number, power
from am.method import BELOW_ONE, Log, setting

WARMING = 0.96  # base of the momentum's warm-up, Dozat's constant


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(2e-3, "step size", search=Log(1e-4, 3e-2), low=1e-12, role="step size")
    weight_decay: float = setting(1e-2, "decoupled decay of all parameters", search=Log(1e-4, 0.3), low=0.0)
    beta1: float = setting(0.9, "decay of the first moment, once warmed up", low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.999, "decay of the second moment", low=0.0, high=BELOW_ONE)
    momentum_decay: float = setting(4e-3, "psi, speed of the momentum's warm-up", low=0.0)
    epsilon: float = setting(1e-8, "added to the root of the second moment", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g, exact, t = state.gradient.flat, hp.exact, number(k, state.gradient.flat) + 1
    mu, following = (exact.beta1 * (1 - 0.5 * power(WARMING, s * exact.momentum_decay)) for s in (t, t + 1))
    product = state.memory["product"].mul_(mu)
    m = state.memory["first"].lerp_(g, 1 - hp.beta1)
    v = state.memory["second"].lerp_(g * g, (1 - exact.beta2).to(g.dtype))
    below = (v * (1 / (1 - power(exact.beta2, t))).to(g.dtype)).sqrt_().add_(hp.epsilon)
    now, ahead = (1 - mu) / (1 - product), following / (1 - product * following)
    direction = (g * now.to(g.dtype)).addcmul_(m, ahead.to(g.dtype)).div_(below)
    lr = hp.learning_rate * factor
    state.params.flat.mul_(1 - lr * hp.weight_decay).addcmul_(direction, lr, value=-1)


METHOD = gradient_method(
    "nadamw",
    "NAdamW",
    Hyperparameters,
    update,
    memory=("first", "second"),
    more_memory=lambda params, hp: dict(product=torch.ones_like(hp.exact.beta1)),
)
