"""AdamW: Adam with decoupled weight decay, W <- (1 - lr wd) W - lr direction. Equal to torch.optim.AdamW.

One step is one forward and one backward pass over the batch. Reference: Loshchilov and Hutter, ICLR 2019.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, adam_direction, gradient_pair
from am.method import BELOW_ONE, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(1e-3, "step size", search=Log(1e-4, 3e-2), low=1e-12, role="step size")
    weight_decay: float = setting(1e-2, "decoupled decay of all parameters", search=Log(1e-4, 0.3), low=0.0)
    beta1: float = setting(0.9, "decay of the first moment", low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.999, "decay of the second moment", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-8, "added to the root of the second moment", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    m, v = state.memory["first"], state.memory["second"]
    direction = adam_direction(state.gradient.flat, m, v, hp.exact.beta1, hp.exact.beta2, hp.exact.epsilon, k)
    lr = hp.learning_rate * factor
    state.params.flat.mul_(1 - lr * hp.weight_decay).addcmul_(direction, lr, value=-1)


METHOD, FULL_BATCH = gradient_pair("adamw", "AdamW", Hyperparameters, update, memory=("first", "second"))
