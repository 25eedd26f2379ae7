"""Adadelta: steps scaled by the ratio of the running sizes of past steps and gradients. Equal to torch.optim.Adadelta.

One step is one forward and one backward pass over the batch. Reference: Zeiler, 2012, algorithm 1.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.gradients import GradientState, gradient_method
from am.methods import Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(1.0, "multiplier of the step", search=Log(0.1, 10.0), low=0.0)
    decay: float = setting(0.9, "decay of both running mean squares", low=0.0, high=1.0)
    epsilon: float = setting(1e-6, "added under both roots", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int) -> None:
    g, hp = state.gradient.flat, state.hp
    v = state.memory["mean_square"].lerp_(g * g, 1 - hp.decay)
    step = (state.memory["mean_step"] + hp.epsilon).div_(v + hp.epsilon).sqrt_().mul_(g)
    state.memory["mean_step"].lerp_(step * step, 1 - hp.decay)
    state.params.flat.addcmul_(step, hp.learning_rate, value=-1)


METHOD = gradient_method("adadelta", "Adadelta", Hyperparameters, update, memory=("mean_square", "mean_step"))
