"""SGD with Nesterov momentum: v <- m v + g, W <- W - lr (g + m v). Equal to torch.optim.SGD(nesterov=True).

One step is one forward and one backward pass over the batch. Reference: Nesterov, 1983; Sutskever et al., ICML 2013.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_method
from am.method import BELOW_ONE, Choice, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(0.05, "step size", search=Log(1e-4, 0.3), low=1e-12, role="step size")
    momentum: float = setting(
        0.9, "share of the last velocity kept", search=Choice((0.8, 0.9, 0.95)), low=0.0, high=BELOW_ONE
    )


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g = state.gradient.flat
    v = state.memory["velocity"].mul_(hp.momentum).add_(g)
    state.params.flat.addcmul_(torch.addcmul(g, v, hp.momentum), hp.learning_rate * factor, value=-1)


METHOD = gradient_method("nesterov", "SGD + Nesterov", Hyperparameters, update, memory=("velocity",))
