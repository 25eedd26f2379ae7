"""ReLU6: ReLU, at most 6."""

import math

import torch.nn.functional as F

from am.activations.base import Activation, identity
from am.activations.prox import piecewise_prox

ACTIVATION = Activation(
    "relu6",
    "ReLU6",
    F.relu6,
    lambda z, a: ((z > 0) & (z < 6)).to(z.dtype),
    identity,
    piecewise_prox((-math.inf, 0.0, 0.0, 0.0), (0.0, 6.0, 1.0, 0.0), (6.0, math.inf, 0.0, 6.0)),
    flat_below=0.0,
    flat_above=6.0,
)
