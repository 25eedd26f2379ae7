"""CELU of alpha 1, which is ELU."""

import torch
import torch.nn.functional as F

from am.activations.base import Activation, each_run
from am.activations.elu import elu_inverse, elu_prox

ACTIVATION = each_run(
    Activation(
        "celu", "CELU", F.celu, lambda z, a: torch.where(z > 0, 1.0, a + 1), elu_inverse, elu_prox(), open_below=-1.0
    )
)
