"""Gradient methods, slow: g the gradient of the mean cross-entropy on mini-batch k, or on all rows (SPEC 4, 9).

With eta_k the learning rate at step k = 0, 1, ...; powers, products and roots of tensors are elementwise:

(1)  gd, sgd:   W <- W - eta g
(2)  momentum:  v <- m v + g;  W <- W - eta v                                  (Polyak 1964, as torch.optim.SGD)
(3)  nesterov:  v <- m v + g;  W <- W - eta (g + m v)                          (Sutskever et al. 2013)
(4)  adam:      m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
                W <- W - eta mhat / (sqrt(vhat) + epsilon),
                mhat = m / (1 - beta1^{k+1}), vhat = v / (1 - beta2^{k+1})     (Kingma and Ba 2015, arXiv 1412.6980)
(5)  adamw:     W <- (1 - eta lambda) W, then (4)                              (Loshchilov and Hutter 2019, 1711.05101)
(6)  rmsprop:   v <- a v + (1 - a) g^2;  W <- W - eta g / (sqrt(v) + epsilon)  (Hinton 2012)
(7)  adagrad:   v <- v + g^2;  W <- W - eta g / (sqrt(v) + epsilon)            (Duchi, Hazan and Singer 2011)
(8)  adadelta:  v <- a v + (1 - a) g^2;  D = g sqrt(s + epsilon) / sqrt(v + epsilon);
                s <- a s + (1 - a) D^2;  W <- W - eta D                        (Zeiler 2012, arXiv 1212.5701)
(9)  schedule = "cosine", w = warmup K of K steps:  eta_k = eta min(1, (k + 1) / w) for k < w,
                then eta (1 + cos(pi (k - w) / (K - w))) / 2

Every memory starts at 0. `NAME-full-batch` is NAME with the gradient over all rows.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from am.errors import InputError
from am.reference import Slow

Rule = Callable[[Slow, str, Tensor, float, int], Tensor]  # slow, W's name, g, eta, k -> what is added to W


def rate(s: Slow, k: int) -> float:
    """The learning rate of step k; raises InputError for a schedule of a run of unknown length."""
    return s.hp.learning_rate * course(s, k)


def course(s: Slow, k: int) -> float:  # (9)
    """What the schedule multiplies a rate by at step k."""
    if s.hp.schedule == "constant":
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


def sgd(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (1)
    return -eta * g


def momentum(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (2)
    return -eta * running(s, "v", name, s.hp.momentum, g, add=1.0)


def nesterov(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (3)
    return -eta * (g + s.hp.momentum * running(s, "v", name, s.hp.momentum, g, add=1.0))


def adam_direction(s: Slow, name: str, g: Tensor, k: int, beta1: float, beta2: float, epsilon: float) -> Tensor:  # (4)
    """mhat / (sqrt(vhat) + epsilon)."""
    mhat = running(s, "m", name, beta1, g) / (1 - beta1 ** (k + 1))
    vhat = running(s, "v", name, beta2, g**2) / (1 - beta2 ** (k + 1))
    return mhat / (torch.sqrt(vhat) + epsilon)


def adam(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (4)
    return -eta * adam_direction(s, name, g, k, s.hp.beta1, s.hp.beta2, s.hp.epsilon)


def adamw(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (5)
    return -eta * s.hp.weight_decay * s.u[name] + adam(s, name, g, eta, k)


def rmsprop(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (6)
    return -eta * g / (torch.sqrt(running(s, "v", name, s.hp.decay, g**2)) + s.hp.epsilon)


def adagrad(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (7)
    return -eta * g / (torch.sqrt(running(s, "v", name, 1.0, g**2, add=1.0)) + s.hp.epsilon)


def adadelta(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (8)
    v = running(s, "v", name, s.hp.decay, g**2)
    D = g * torch.sqrt(remembered(s, "s", name) + s.hp.epsilon * torch.ones_like(g)) / torch.sqrt(v + s.hp.epsilon)
    running(s, "s", name, s.hp.decay, D**2)
    return -eta * D


BOTH: dict[str, Rule] = dict(
    momentum=momentum, adam=adam, adamw=adamw, rmsprop=rmsprop, adagrad=adagrad, adadelta=adadelta
)
RULES: dict[str, Rule] = dict(gd=sgd, sgd=sgd, nesterov=nesterov) | BOTH
RULES |= {f"{name}-full-batch": rule for name, rule in BOTH.items()}
STEPS = {name: step_of(rule) for name, rule in RULES.items()}
