"""Mish: z tanh(softplus(z)), Misra 2019, arXiv 1908.08681; not monotone."""

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations.base import Activation, each_run


def _derivative(z: Tensor, a: Tensor) -> Tensor:
    t = torch.tanh(F.softplus(z))
    return t + z * torch.sigmoid(z) * (1 - t * t)


ACTIVATION = each_run(Activation("mish", "Mish", F.mish, _derivative))
