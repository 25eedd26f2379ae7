"""Schedule-Free AdamW: an average of the iterates in place of a schedule that ends at a known step.

Three sequences: z moves, x is the average of z and what is evaluated, y lies between and is where gradients are taken.
With t = k + 1, lr_t = lr min(1, t / warm-up) and g the gradient at y:
v <- beta2 v + (1 - beta2) g^2;  z <- z - lr_t (g / (sqrt(v / (1 - beta2^t)) + eps) + wd y)
x <- (1 - c) x + c z,  c = lr_t^2 / sum_{i<=t} lr_i^2;  y = (1 - beta1) z + beta1 x
Equal to AdamWScheduleFreeReference of schedulefree 1.4.1 (its r = 0, weight_lr_power = 2, decay at y).

One step is one forward and one backward pass over the batch. The rate has no other schedule than its warm-up.
Reference: Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv 2405.15682.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.descent import GradientState, gradient_method, number, power
from am.method import BELOW_ONE, ByHand, Choice, Log, Problem, setting
from am.networks import Parameters, view_layers


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(2.5e-3, "step size", search=Log(1e-4, 3e-2), low=1e-12, role="step size")
    weight_decay: float = setting(1e-2, "decoupled decay, of y", search=Log(1e-4, 0.3), low=0.0)
    beta1: float = setting(0.9, "share of x in y", search=Choice((0.9, 0.95, 0.98)), low=0.0, high=BELOW_ONE)
    beta2: float = setting(0.999, "decay of the second moment", low=0.0, high=BELOW_ONE)
    epsilon: float = setting(1e-8, "added to the root of the second moment", low=0.0)
    warmup_steps: float = setting(100.0, "steps in which the rate rises linearly", low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g, y, memory, exact = state.gradient.flat, state.params.flat, state.memory, hp.exact
    z, x, t = memory["z"], memory["x"].flat, number(k, y) + 1
    rise = (t / exact.warmup_steps.clamp(min=1e-12)).clamp(max=1.0)
    # The rate itself cancels in c.
    c = (rise**2 / memory["sum"].add_(rise**2)).to(g.dtype)
    v = memory["second"].lerp_(g * g, (1 - exact.beta2).to(g.dtype))
    below = (v * (1 / (1 - power(exact.beta2, t))).to(g.dtype)).sqrt_().add_(hp.epsilon)
    lr = (exact.learning_rate * rise).to(g.dtype)
    z.addcmul_(y, lr * hp.weight_decay, value=-1).addcmul_(g / below, lr, value=-1)
    x.lerp_(z, c)
    torch.lerp(z, x, hp.beta1, out=y)


def three_sequences(params: Parameters, hp: SimpleNamespace) -> dict[str, Tensor | Parameters]:
    """x and z, which start where y does, and the sum that c divides by."""
    x = view_layers(params.flat.clone(), params.widths)
    return dict(x=x, z=params.flat.clone(), sum=torch.zeros_like(hp.exact.beta1))


def restart(state: GradientState, problem: Problem, hp: SimpleNamespace, names: Sequence[str]) -> None:
    """x was set by hand: y and z begin at the named parts of it."""
    x, widths = state.memory["x"], state.params.widths
    for other in (state.params, view_layers(state.memory["z"], widths)):
        for l, (W, b) in enumerate(zip(x.W, x.b)):
            if f"W{l + 1}" in names:
                other.W[l].copy_(W)
            if f"b{l + 1}" in names:
                other.b[l].copy_(b)


METHOD = gradient_method(
    "schedule-free-adamw",
    "Schedule-Free AdamW",
    Hyperparameters,
    update,
    memory=("second",),
    more_memory=three_sequences,
    parameters=lambda state: state.memory["x"],
    by_hand=ByHand(refresh=restart),
)
