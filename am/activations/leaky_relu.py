"""Leaky ReLU: z above 0, .01 z below."""

import math

import torch
import torch.nn.functional as F

from am.activations.base import Activation
from am.activations.prox import piecewise_prox

ACTIVATION = Activation(
    "leaky_relu",
    "leaky ReLU",
    F.leaky_relu,
    lambda z, a: torch.where(z > 0, torch.ones_like(z), 0.01),
    lambda v: torch.where(v > 0, v, v / 0.01),
    piecewise_prox((-math.inf, 0.0, 0.01, 0.0), (0.0, math.inf, 1.0, 0.0)),
)
