"""Adam: bias-corrected first and second moments of the gradient. Equal to torch.optim.Adam.

One step is one forward and one backward pass over the batch. Reference: Kingma and Ba, ICLR 2015.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.adaptive import adam_direction
from am.gradients import GradientState, gradient_method
from am.methods import Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(1e-3, "step size", search=Log(1e-4, 3e-2), low=0.0)
    beta1: float = setting(0.9, "decay of the first moment", low=0.0, high=1.0)
    beta2: float = setting(0.999, "decay of the second moment", low=0.0, high=1.0)
    epsilon: float = setting(1e-8, "added to the root of the second moment", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int) -> None:
    m, v = state.memory["first"], state.memory["second"]
    direction = adam_direction(state.gradient.flat, m, v, hp.beta1, hp.beta2, hp.epsilon, k)
    state.params.flat.addcmul_(direction, state.hp.learning_rate, value=-1)


METHOD = gradient_method("adam", "Adam", Hyperparameters, update, memory=("first", "second"))
