"""Stochastic gradient descent on mini-batches: W <- W - lr g. Equal to torch.optim.SGD.

One step is one forward and one backward pass over the batch. Reference: Robbins and Monro, 1951.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.gradients import GradientState, gradient_method
from am.methods import Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(0.1, "step size", search=Log(1e-3, 1.0), low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int) -> None:
    state.params.flat.addcmul_(state.gradient.flat, state.hp.learning_rate, value=-1)


METHOD = gradient_method("sgd", "SGD", Hyperparameters, update)
