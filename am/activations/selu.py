"""SELU: ELU with the scales of Klambauer et al. 2017, arXiv 1706.02515."""

import torch
import torch.nn.functional as F

from am.activations.base import Activation, each_run
from am.activations.elu import elu_inverse, elu_prox

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772

ACTIVATION = each_run(
    Activation(
        "selu",
        "SELU",
        F.selu,
        lambda z, a: torch.where(z > 0, SCALE, a + SCALE * ALPHA),
        lambda v: elu_inverse(v, SCALE, ALPHA),
        elu_prox(SCALE, ALPHA),
        open_below=-SCALE * ALPHA,
    )
)
