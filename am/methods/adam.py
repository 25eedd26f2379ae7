"""Adam: bias-corrected first and second moments of the gradient. Equal to torch.optim.Adam.

One step is one forward and one backward pass over the batch. Reference: Kingma and Ba, ICLR 2015.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, adam_direction, gradient_pair
from am.method import BELOW_ONE, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(1e-3, "step size", search=Log(1e-4, 3e-2), low=1e-12, role="step size")
    beta1: float = setting(0.9, "decay of the first moment", low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.999, "decay of the second moment", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-8, "added to the root of the second moment", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    m, v = state.memory["first"], state.memory["second"]
    direction = adam_direction(state.gradient.flat, m, v, hp.exact.beta1, hp.exact.beta2, hp.exact.epsilon, k)
    state.params.flat.addcmul_(direction, hp.learning_rate * factor, value=-1)


METHOD, FULL_BATCH = gradient_pair("adam", "Adam", Hyperparameters, update, memory=("first", "second"))
