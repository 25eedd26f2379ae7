"""Adadelta: steps scaled by the ratio of the running sizes of past steps and gradients. Equal to torch.optim.Adadelta.

One step is one forward and one backward pass over the batch. Reference: Zeiler, 2012, algorithm 1.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_pair
from am.method import BELOW_ONE, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(1.0, "multiplier of the step", search=Log(0.1, 10.0), low=1e-12, role="step size")
    decay: float = setting(0.9, "decay of both running mean squares", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-6, "added under both roots", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g = state.gradient.flat
    v = state.memory["mean_square"].lerp_(g * g, 1 - hp.decay)
    step = (state.memory["mean_step"] + hp.epsilon).div_(v + hp.epsilon).sqrt_().mul_(g)
    state.memory["mean_step"].lerp_(step * step, 1 - hp.decay)
    state.params.flat.addcmul_(step, hp.learning_rate * factor, value=-1)


METHOD, FULL_BATCH = gradient_pair("adadelta", "Adadelta", Hyperparameters, update, memory=("mean_square", "mean_step"))
