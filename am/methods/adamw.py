"""AdamW: Adam with decoupled weight decay, W <- (1 - lr wd) W - lr direction. Equal to torch.optim.AdamW.

One step is one forward and one backward pass over the batch. Reference: Loshchilov and Hutter, ICLR 2019.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.adaptive import adam_direction
from am.gradients import GradientState, gradient_method
from am.methods import Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(1e-3, "step size", search=Log(1e-4, 3e-2), low=0.0)
    weight_decay: float = setting(1e-2, "decoupled decay of all parameters", search=Log(1e-4, 0.3), low=0.0)
    beta1: float = setting(0.9, "decay of the first moment", low=0.0, high=1.0)
    beta2: float = setting(0.999, "decay of the second moment", low=0.0, high=1.0)
    epsilon: float = setting(1e-8, "added to the root of the second moment", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int) -> None:
    m, v = state.memory["first"], state.memory["second"]
    direction = adam_direction(state.gradient.flat, m, v, hp.beta1, hp.beta2, hp.epsilon, k)
    lr = state.hp.learning_rate
    state.params.flat.mul_(1 - lr * state.hp.weight_decay).addcmul_(direction, lr, value=-1)


METHOD = gradient_method("adamw", "AdamW", Hyperparameters, update, memory=("first", "second"))
