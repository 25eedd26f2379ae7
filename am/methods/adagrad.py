"""Adagrad: v <- v + g^2, W <- W - lr g / (sqrt(v) + eps). Equal to torch.optim.Adagrad.

One step is one forward and one backward pass over the batch. Reference: Duchi, Hazan and Singer, JMLR 2011.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.gradients import GradientState, gradient_method
from am.methods import Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(1e-2, "step size", search=Log(1e-3, 0.3), low=0.0)
    epsilon: float = setting(1e-10, "added to the root of the sum of squares", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int) -> None:
    g, hp = state.gradient.flat, state.hp
    v = state.memory["sum_square"].addcmul_(g, g)
    state.params.flat.addcmul_(g / v.sqrt().add_(hp.epsilon), hp.learning_rate, value=-1)


METHOD = gradient_method("adagrad", "Adagrad", Hyperparameters, update, memory=("sum_square",))
