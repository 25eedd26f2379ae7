"""Full-batch gradient descent: W <- W - lr g, g the gradient of the mean cross-entropy over all training data.

One step is one pass forward and one back over the data set. Reference: Cauchy, 1847.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.gradients import GradientState, gradient_method
from am.methods import Log, setting


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(0.1, "step size", search=Log(1e-2, 3.0), low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int) -> None:
    state.params.flat.addcmul_(state.gradient.flat, state.hp.learning_rate, value=-1)


METHOD = gradient_method("gd", "GD", Hyperparameters, update, full_batch=True)
