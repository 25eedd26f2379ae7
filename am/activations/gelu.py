"""GELU: z times the normal distribution function of z; not monotone."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations.base import Activation, each_run


def _gelu_derivative(z: Tensor, a: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


ACTIVATION = each_run(Activation("gelu", "GELU", F.gelu, _gelu_derivative))
