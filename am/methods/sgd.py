"""Stochastic gradient descent on mini-batches: W <- W - lr g. Equal to torch.optim.SGD.

One step is one forward and one backward pass over the batch. Reference: Robbins and Monro, 1951.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_method
from am.method import Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(0.1, "step size", search=Log(1e-3, 1.0), low=1e-12, role="step size")


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    state.params.flat.addcmul_(state.gradient.flat, hp.learning_rate * factor, value=-1)


METHOD = gradient_method("sgd", "SGD", Hyperparameters, update)
