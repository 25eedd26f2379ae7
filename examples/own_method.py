"""A method of your own in one file: Lion, sign descent with momentum.

One step is one forward and one backward pass over the batch. Reference: Chen et al., 2023, arXiv 2302.06675.

    PYTHONPATH=. python examples/own_method.py        # trains it beside SGD on scikit-learn's digits
    cp examples/own_method.py am/methods/lion.py      # in a checkout: from now on it is one of the suite's
    make methods                                      # lists it; a grid may name it
    cp examples/own_method_twin.py tests/twins/lion.py   # `make test` compares the two; it asks for such a twin

What a method is given. All R runs of a stack train at once, so every tensor begins with the run axis R:

- `state.params.flat`, `state.gradient.flat`: all weights and biases of a run, and their gradient, (R, 1, P); an update
  rule that needs layers finds `state.params.weights`, a list of (R, d_out, d_in), and `.biases`, of (R, 1, d_out);
- `hp`: the settings of the runs, by their names below. A float is a tensor (R, 1, 1), one value a run, which broadcasts
  over those shapes; a word, a whole number or a flag is the same for all runs and plain. `hp.exact` has the floats in
  float64. So write `state.params.flat * hp.weight_decay`, and never `float(hp.weight_decay)`;
- `k`: the number of the step, from 0; `factor`: by what a schedule multiplies the rate at this step.

Work in place, with no `.item()` and no loop over runs: a run must not depend on who shares its stack.
A method that does not follow one gradient of the whole network gives its own functions `init` and `step`, and the
`Cost` of a step, to `am.method.Method`; `am/methods/proxprop.py`, `samt.py` and `dladmm.py` do.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from torch import Tensor

import am
from am.descent import GradientState, Scheduled, gradient_method
from am.method import BELOW_ONE, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    learning_rate: float = setting(1e-4, "step size", search=Log(1e-5, 1e-2), low=1e-12, high=1.0, role="step size")
    weight_decay: float = setting(0.0, "decoupled decay of all parameters", low=0.0)
    beta1: float = setting(0.9, "share of the momentum in the direction", low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.99, "share of the momentum that is kept", low=0.0, high=BELOW_ONE)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    momentum, gradient = state.memory["momentum"], state.gradient.flat  # (R, 1, P)
    direction = (hp.beta1 * momentum + (1 - hp.beta1) * gradient).sign_()
    rate = hp.learning_rate * factor
    state.params.flat.mul_(1 - rate * hp.weight_decay).addcmul_(direction, rate, value=-1)
    momentum.mul_(hp.beta2).add_((1 - hp.beta2) * gradient)


METHOD = gradient_method("lion", "Lion", Hyperparameters, update, memory=("momentum",))


def main() -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, n, rng = x / 16, 1500, np.random.default_rng(0)
    W, b = [0.1 * rng.normal(size=shape) for shape in [(50, 64), (10, 50)]], [np.zeros(50), np.zeros(10)]
    batches = rng.permutation(n)[:1472].reshape(46, 32)
    for method, rate in ((METHOD, 1e-3), ("sgd", 0.1)):
        run = am.start(method, x[:n], y[:n], W, b, batches=batches, learning_rate=rate).step(20 * len(batches))
        print(f"{run.method.title}: {run.accuracy(x[n:], y[n:]):.4f} on {len(x) - n} test images")


if __name__ == "__main__":
    main()
