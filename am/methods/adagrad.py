"""Adagrad: v <- v + g^2, W <- W - lr g / (sqrt(v) + eps). Equal to torch.optim.Adagrad.

One step is one forward and one backward pass over the batch. Reference: Duchi, Hazan and Singer, JMLR 2011.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_pair
from am.method import Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(1e-2, "step size", search=Log(1e-3, 0.3), low=1e-12, role="step size")
    epsilon: float = setting(1e-10, "added to the root of the sum of squares", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g = state.gradient.flat
    v = state.memory["sum_square"].addcmul_(g, g)
    state.params.flat.addcmul_(g / v.sqrt().add_(hp.epsilon), hp.learning_rate * factor, value=-1)


METHOD, FULL_BATCH = gradient_pair("adagrad", "Adagrad", Hyperparameters, update, memory=("sum_square",))
