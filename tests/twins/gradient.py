"""What slow gradient methods share: g the gradient of the mean cross-entropy on mini-batch k, every memory begun at 0.

With eta_k the learning rate at step k = 0, 1, ...; powers, products and roots of tensors are elementwise:

(1)  Adam:  m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;  the direction mhat / (sqrt(vhat) + epsilon),
            mhat = m / (1 - beta1^{k+1}), vhat = v / (1 - beta2^{k+1})         (Kingma and Ba 2015, arXiv 1412.6980)
(2)  schedule = "cosine", w = warmup K of K steps:  eta_k = eta min(1, (k + 1) / w) for k < w,
            then eta (1 + cos(pi (k - w) / (K - w))) / 2
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from am.errors import InputError
from twins import Slow

Rule = Callable[[Slow, str, Tensor, float, int], Tensor]  # slow, W's name, g, eta, k -> what is added to W


def rate(s: Slow, k: int) -> float:
    """The learning rate of step k; raises InputError for a schedule of a run of unknown length."""
    return s.hp.learning_rate * course(s, k)


def course(s: Slow, k: int) -> float:  # (2)
    """What the schedule multiplies a rate by at step k."""
    if s.hp.schedule != "cosine":
        return 1.0
    if s.steps is None:
        raise InputError("schedule 'cosine' needs the number of steps of the run; give steps=.")
    w = s.hp.warmup * s.steps
    if k < w:
        return min(1.0, (k + 1) / w)
    past = min(1.0, (k - w) / max(s.steps - w, 1.0))
    return (1 + math.cos(math.pi * past)) / 2


def remembered(s: Slow, kind: str, name: str) -> Tensor | float:
    """A memory of the parameter of that name, 0 before the first step."""
    return s.memory.get((kind, name), 0.0)


def running(s: Slow, kind: str, name: str, keep: float, new: Tensor, add: float | None = None) -> Tensor:
    """memory <- keep memory + add new, add = 1 - keep if not given; returns it."""
    value = keep * remembered(s, kind, name) + (1 - keep if add is None else add) * new
    s.memory[kind, name] = value
    return value


def step_of(rule: Rule) -> Callable[[Slow, int], None]:
    """One gradient of all parameters, then the rule for each."""

    def step(s: Slow, k: int) -> None:
        eta = rate(s, k)
        for name, g in s.gradient(s.trained, *s.batch(k)).items():
            s.u[name] = s.u[name] + rule(s, name, g, eta, k)

    return step


def adam_direction(s: Slow, name: str, g: Tensor, k: int, beta1: float, beta2: float, epsilon: float) -> Tensor:  # (1)
    """mhat / (sqrt(vhat) + epsilon)."""
    mhat = running(s, "m", name, beta1, g) / (1 - beta1 ** (k + 1))
    vhat = running(s, "v", name, beta2, g**2) / (1 - beta2 ** (k + 1))
    return mhat / (torch.sqrt(vhat) + epsilon)
