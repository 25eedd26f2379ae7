"""AM-Adam: stochastic alternating minimisation over codes (pre-activations of the hidden layers) and weights.

Per mini-batch (SPEC 4) the codes start at the forward pass c0. From the last to the first, each takes `code_steps`
steps of Nesterov SGD, at the codes above it as they have moved:

    c_{L-1}:       1/mu CE(W_L h(c_{L-1}) + b_L, y) + mse(c_{L-1}, c0_{L-1})
    c_l, l < L-1:  mse(W_{l+1} h(c_l), c_{l+1}) + mse(c_l, c0_l)

Then every layer takes one Adam step on its own loss, the hidden ones on mse(W_l h(c_{l-1}), c_l), the output layer on
the cross-entropy. mse is the mean over batch and width, CE the mean over the batch; hidden layers have no bias.
The learning rate halves every `halve_every` epochs. The paper's network has batch normalisation after each hidden
layer; it is left out here, as in every other method's network, and so are the released options that its scripts leave
at 0: sparsity of codes and weights, and a growing mu.

`am-adam` is the paper's form. `am-adam-released` differs in one setting, `detach_target`: the released code clones c0
with its gradient attached, so that the proximity term mse(c, c0) has gradient 0 and no code is held near its start.

Test accuracy on MNIST, 100-100, batch 200, (x - .1307)/.3081, torch's initialisation, 15 epochs, three seeds:
.9671, .9689, .9679 (am-adam) and .9682, .9656, .9687 (am-adam-released).

Cost per step: one forward pass, `code_steps` passes forward and back through one layer for each hidden layer, and a
pass forward with the weight gradient for each layer. Reference: Choromanska et al., "Beyond backprop: online
alternating minimization with auxiliary variables", ICML 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.activations import Activation
from am.cross_entropy import logits_gradient
from am.descent import adam_direction
from am.linalg import correlate, linear
from am.method import BELOW_ONE, ByHand, Choice, Cost, Log, Method, Problem, needs_hidden_layer, setting
from am.networks import Parameters, forward, view_layers

ADAM = (0.9, 0.999, 1e-8)  # beta1, beta2, epsilon of the weight steps


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = setting(
        0.008, "Adam step of the weights", search=Log(1e-4, 3e-2), low=1e-12, role="step size"
    )
    halve_every: int = setting(8, "epochs after which the learning rate halves", low=1)
    code_rate: float = setting(0.3, "step size of the codes", search=Log(1e-2, 3.0), low=1e-12)
    code_momentum: float = setting(
        0.9, "Nesterov momentum of the codes", search=Choice((0.0, 0.5, 0.9)), low=0.0, high=BELOW_ONE
    )
    code_steps: int = setting(5, "gradient steps on each code", low=1, high=1_000)
    mu: float = setting(0.003, "weight of the proximity term against the loss", search=Log(3e-4, 0.1), low=1e-12)
    detach_target: bool = setting(True, "hold codes near the forward pass; False: that term has gradient 0")


@dataclass(frozen=True)
class ReleasedHyperparameters(Hyperparameters):
    detach_target: bool = setting(False, "hold codes near the forward pass; False, as released: gradient 0")


@dataclass
class AmAdamState:
    """Flat parameters, gradient and Adam moments, (R, 1, P) each, and the codes of the last mini-batch, (R, B, d_l)."""

    params: Parameters
    gradient: Parameters
    moments: tuple[Tensor, Tensor]
    codes: list[Tensor] = field(default_factory=list)


def mse_gradient(u: Tensor, target: Tensor) -> Tensor:  # (R, B, d), (R, B, d) -> (R, B, d)
    """d/du of mse(u, target), the mean over batch and width."""
    return (u - target).mul_(2 / (u.shape[1] * u.shape[2]))


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> AmAdamState:
    params = params.flattened()
    for b in params.b[:-1]:
        b.zero_()
    zeros = lambda: torch.zeros_like(params.flat)
    gradient = view_layers(zeros(), params.widths)
    return AmAdamState(params, gradient, (zeros(), zeros()))


def step(state: AmAdamState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    x, y = problem.batches(k)
    params, act, last = state.params, problem.activation, len(state.params.W) - 1
    state.codes = forward(x, params, act)[:-1]
    for l in reversed(range(last)):
        state.codes[l] = _moved_code(state, hp, l, act, y)
    # Given the codes the layers are independent, so one Adam step serves all; hidden biases keep gradient and value 0.
    for l in range(last + 1):
        a = act.value(state.codes[l - 1]) if l else x
        delta = _layer_delta(state, l, a, y)
        state.gradient.W[l].copy_(correlate(delta, a))
    torch.sum(delta, 1, keepdim=True, out=state.gradient.b[last])
    rate = hp.learning_rate * 0.5 ** (k // (hp.halve_every * problem.batches.per_epoch))
    params.flat.addcmul_(adam_direction(state.gradient.flat, *state.moments, *ADAM, k), rate, value=-1)


def _layer_delta(state: AmAdamState, l: int, a: Tensor, y: Tensor) -> Tensor:  # a: (R, B, d_{l-1}) -> (R, B, d_l)
    """The gradient of layer l's own loss with respect to its output, at input a."""
    output = linear(a, state.params.W[l], state.params.b[l])
    return mse_gradient(output, state.codes[l]) if l < len(state.codes) else logits_gradient(output, y)


def _moved_code(state: AmAdamState, hp: SimpleNamespace, l: int, act: Activation, y: Tensor) -> Tensor:  # (R, B, d_l)
    """c_l after `code_steps` Nesterov steps: v <- m v + g, c <- c - rate (g + m v)."""
    W, start = state.params.W[l + 1], state.codes[l]
    weight = 1 / hp.mu if l == len(state.codes) - 1 else 1.0
    c, v = start.clone(), torch.zeros_like(start)
    for _ in range(hp.code_steps):
        a = act.value(c)
        delta = _layer_delta(state, l + 1, a, y)
        g = torch.bmm(delta, W).mul_(act.derivative(c, a)).mul_(weight)
        if hp.detach_target:
            g.add_(mse_gradient(c, start))
        v.mul_(hp.code_momentum).add_(g)
        c.addcmul_(g.addcmul_(v, hp.code_momentum), hp.code_rate, value=-1)
    return c


def step_flops(widths: Sequence[int], rows: int, settings: Any) -> int:
    """FLOPs of a step: forward, a code's steps forth and back through the layer above, output and gradient of all."""
    products = [2 * rows * a * b for a, b in zip(widths, widths[1:])]
    return 3 * sum(products) + 2 * settings.code_steps * sum(products[1:])


METHOD = Method(
    name="am-adam",
    title="AM-Adam",
    family="stochastic AM",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    monotone_only=True,
    requires=needs_hidden_layer,
    cost=Cost(step_flops, gradients=lambda depth, settings: depth + (depth - 1) * settings.code_steps),
    by_hand=ByHand(
        variables=lambda state: {f"c{l}": c for l, c in enumerate(state.codes, 1)},
        still=lambda settings, depth: set(range(1, depth)),  # hidden layers have no bias
    ),
)

RELEASED = replace(METHOD, name="am-adam-released", title="AM-Adam (released)", hyperparameters=ReleasedHyperparameters)
