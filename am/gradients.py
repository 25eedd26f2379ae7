"""Closed-form back-propagation for R stacked networks, and the step that all gradient methods share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

from am.activations import Activation
from am.methods import Method, Problem, cast
from am.networks import Parameters, correlate, linear, view_layers


def logits_gradient(z: Tensor, y: Tensor) -> Tensor:  # z: (R, B, C); y: (R, B) or (B,) -> (R, B, C)
    """d/dz of the mean cross-entropy: (softmax(z) - onehot(y)) / B."""
    g = torch.softmax(z, 2)
    g.scatter_add_(2, y.expand(z.shape[:2]).unsqueeze(2), g.new_full((1, 1, 1), -1.0).expand(*z.shape[:2], 1))
    return g.div_(z.shape[1])


def backpropagate(x: Tensor, y: Tensor, params: Parameters, act: Activation, out: Parameters) -> None:
    # x: (R, B, d0) or (N, d0); y: (R, B) or (N,)
    """The gradient of the mean cross-entropy with respect to every W_l and b_l, written into `out`."""
    inputs, zs = [x], []
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        zs.append(linear(inputs[-1], W, b))
        if l < len(params.W) - 1:
            inputs.append(act.value(zs[-1]))
    delta = logits_gradient(zs[-1], y)
    for l in reversed(range(len(zs))):
        out.W[l].copy_(correlate(delta, inputs[l]))
        torch.sum(delta, 1, keepdim=True, out=out.b[l])
        if l:
            delta = torch.bmm(delta, params.W[l]).mul_(act.derivative(zs[l - 1], inputs[l]))


@dataclass
class GradientState:
    """Parameters and gradient of R runs as one (R, 1, P) tensor each, with what the update rule remembers."""

    params: Parameters
    gradient: Parameters
    memory: dict[str, Tensor] = field(default_factory=dict)
    hp: SimpleNamespace | None = None


Update = Callable[[GradientState, SimpleNamespace, int], None]


def gradient_method(
    name: str, title: str, hyperparameters: type, update: Update, memory: tuple[str, ...] = (), full_batch: bool = False
) -> Method:
    """A method that takes one gradient of all layers and then `update(state, hp, k)`s the flat parameters in place.

    memory: names of the zero-initialised tensors, shaped like the parameters, that the rule keeps in `state.memory`.
    """

    def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> GradientState:
        params = params.flattened()
        gradient = view_layers(torch.zeros_like(params.flat), params.widths)
        kept = {m: torch.zeros_like(params.flat) for m in memory}
        return GradientState(params, gradient, kept, cast(hp, params.flat.dtype))

    def step(state: GradientState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
        x, y = (problem.x, problem.y) if full_batch else problem.batches(k)
        backpropagate(x, y, state.params, problem.activation, state.gradient)
        update(state, hp, k)

    return Method(
        name=name,
        title=title,
        family="gradient",
        hyperparameters=hyperparameters,
        init=init,
        step=step,
        full_batch=full_batch,
    )
