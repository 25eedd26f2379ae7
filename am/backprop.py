"""Closed-form back-propagation of the mean cross-entropy for R stacked networks."""

import torch
from torch import Tensor

from am.activations import Activation
from am.cross_entropy import logits_gradient
from am.linalg import correlate, linear
from am.networks import Parameters


def backpropagate(x: Tensor, y: Tensor, params: Parameters, act: Activation, out: Parameters) -> Tensor:
    # x: (R, B, d0) or (N, d0); y: (R, B) or (N,) -> (R, B, C)
    """The gradient of the mean cross-entropy with respect to every W_l and b_l, into `out`; returns the logits."""
    inputs, zs = [x], []
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        zs.append(linear(inputs[-1], W, b))
        if l < len(params.W) - 1:
            inputs.append(act.value(zs[-1]))
    delta = logits_gradient(zs[-1], y)
    for l in reversed(range(len(zs))):
        # Not by out=: a product rounds by its target's address, and that of a view depends on the runs beside it.
        out.W[l].copy_(correlate(delta, inputs[l]))
        torch.sum(delta, 1, keepdim=True, out=out.b[l])
        if l:
            delta = torch.bmm(delta, params.W[l]).mul_(act.derivative(zs[l - 1], inputs[l]))
    return zs[-1]


def output_gradients(
    x: Tensor, y: Tensor, params: Parameters, act: Activation
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    # x: (R, B, d0) or (N, d0); y: (R, B) or (N,)
    """Every layer's input a_{l-1}, output z_l and the mean cross-entropy's gradient with respect to z_l, (R, B, d)."""
    inputs, z = [x], list[Tensor]()
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        inputs += [act.value(z[-1])] if l else []
        z.append(linear(inputs[-1], W, b))
    deltas = [logits_gradient(z[-1], y)]
    for l in range(len(z) - 1, 0, -1):
        deltas.insert(0, torch.bmm(deltas[0], params.W[l]).mul_(act.derivative(z[l - 1], inputs[l])))
    return inputs, z, deltas
