"""SGD with heavy-ball momentum: v <- m v + g, W <- W - lr v. Equal to torch.optim.SGD(momentum=m).

One step is one forward and one backward pass over the batch. Reference: Polyak, 1964.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.gradients import GradientState, gradient_method
from am.methods import Choice, Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(0.05, "step size", search=Log(1e-4, 0.3), low=0.0)
    momentum: float = setting(0.9, "share of the last velocity kept", search=Choice((0.8, 0.9, 0.95)), low=0.0, high=1.0)


def update(state: GradientState, hp: SimpleNamespace, k: int) -> None:
    v = state.memory["velocity"].mul_(state.hp.momentum).add_(state.gradient.flat)
    state.params.flat.addcmul_(v, state.hp.learning_rate, value=-1)


METHOD = gradient_method("momentum", "SGD + momentum", Hyperparameters, update, memory=("velocity",))
