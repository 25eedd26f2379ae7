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
