"""RMSprop: v <- a v + (1 - a) g^2, W <- W - lr g / (sqrt(v) + eps). Equal to torch.optim.RMSprop.

One step is one forward and one backward pass over the batch. Reference: Hinton, lecture 6e, 2012.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_pair
from am.method import BELOW_ONE, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(1e-3, "step size", search=Log(1e-5, 1e-2), low=1e-12, role="step size")
    decay: float = setting(0.99, "decay of the squared gradient's mean", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-8, "added to the root of the mean square", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g = state.gradient.flat
    v = state.memory["mean_square"].lerp_(g * g, 1 - hp.decay)
    state.params.flat.addcmul_(g / v.sqrt().add_(hp.epsilon), hp.learning_rate * factor, value=-1)


METHOD, FULL_BATCH = gradient_pair("rmsprop", "RMSprop", Hyperparameters, update, memory=("mean_square",))
