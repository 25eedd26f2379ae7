"""SiLU: z times its sigmoid; not monotone."""

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations.base import Activation, each_run


def _silu_derivative(z: Tensor, a: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 + z * (1 - s))


ACTIVATION = each_run(Activation("silu", "SiLU", F.silu, _silu_derivative))
