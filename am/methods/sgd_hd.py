"""SGD-HD, hypergradient descent on the one step size of the whole network.

alpha <- alpha + beta <g_k, g_{k-1}>;  W <- W - alpha g_k, with g_k the gradient of mini-batch k: the loss of batch k
falls with alpha at the rate <g_k, g_{k-1}>, since W came from the step along g_{k-1}. alpha has no bounds. SAMT is the
same for many blocks: with one block, a scalar step size, T = 1, query = next, meta = gd and no bound met, it gives
the same W. A schedule multiplies alpha in the step and leaves its learning alone.

One step is one forward and one backward pass over the batch. Reference: Baydin et al., "Online Learning Rate Adaptation
with Hypergradient Descent", ICLR 2018, arXiv 1703.04782, algorithm 4.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor

from am.descent import GradientState, Scheduled, gradient_method, total
from am.method import ByHand, Log, setting


@dataclass(frozen=True)
class Hyperparameters(Scheduled):
    alpha0: float = setting(0.1, "initial step size", search=Log(1e-3, 1.0), low=1e-12, role="step size")
    beta: float = setting(1e-3, "step of the step size", search=Log(1e-6, 0.1), low=0.0)


def update(state: GradientState, hp: SimpleNamespace, k: int, factor: Tensor | float) -> None:
    g, last, alpha = state.gradient.flat, state.memory["last"], state.memory["alpha"]
    alpha.add_(hp.exact.beta * total(g * last))
    last.copy_(g)
    state.params.flat.addcmul_(g, alpha * factor, value=-1)


METHOD = gradient_method(
    "sgd-hd",
    "SGD-HD",
    Hyperparameters,
    update,
    memory=("last",),
    more_memory=lambda params, hp: dict(alpha=hp.alpha0.clone()),
    by_hand=ByHand(variables=lambda state: {"alpha": state.memory["alpha"]}),
)
