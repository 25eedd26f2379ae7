"""SGD with heavy-ball momentum: v <- m v + g, W <- W - lr v. Equal to torch.optim.SGD(momentum=m).

One step is one forward and one backward pass over the batch. Reference: Polyak, 1964.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_pair
from am.method import BELOW_ONE, Choice, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(0.05, "step size", search=Log(1e-4, 0.3), low=1e-12, role="step size")
    momentum: float = setting(
        0.9, "share of the last velocity kept", search=Choice((0.8, 0.9, 0.95)), low=0.0, high=BELOW_ONE
    )


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    v = state.memory["velocity"].mul_(hp.momentum).add_(state.gradient.flat)
    state.params.flat.addcmul_(v, hp.learning_rate * factor, value=-1)


METHOD, FULL_BATCH = gradient_pair("momentum", "SGD + momentum", Hyperparameters, update, memory=("velocity",))
