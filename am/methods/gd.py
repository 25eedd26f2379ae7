"""Full-batch gradient descent: W <- W - lr g, g the gradient of the mean cross-entropy over all training data.

One step is one pass forward and one back over the data set. Reference: Cauchy, 1847.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_method
from am.method import Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(0.1, "step size", search=Log(1e-2, 3.0), low=1e-12, role="step size")


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    state.params.flat.addcmul_(state.gradient.flat, hp.learning_rate * factor, value=-1)


METHOD = gradient_method("gd", "GD", Hyperparameters, update, full_batch=True)
