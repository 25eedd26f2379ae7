"""The same method once more, the slow way: Lion for one run, as its paper writes it (Chen et al., 2023, 2302.06675).

    cp examples/own_method_twin.py tests/twins/lion.py

`make test` holds a method that no package has to such a twin, step by step, to 1e-9 in float64. It is found by its name
in STEPS. A twin caches nothing and knows no run axis: `s.u[name]` is one weight or bias, W1, b1, W2, ...; `s.hp` has
the settings as plain numbers; `s.memory` is what the method remembers. `step_of` makes a step of a rule that follows
one gradient of the whole network; `tests/twins/stochastic.py` and `penalised.py` have methods of other kinds.
"""

import torch
from torch import Tensor
from twins import Slow
from twins.gradient import remembered, running, step_of


def lion(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:
    """What step k adds to the parameter of that name; g: its gradient, eta: the learning rate of the step."""
    direction = torch.sign(s.hp.beta1 * remembered(s, "m", name) + (1 - s.hp.beta1) * g)
    running(s, "m", name, s.hp.beta2, g)
    return -eta * (direction + s.hp.weight_decay * s.u[name])


STEPS = {"lion": step_of(lion)}
