"""ReLU: max(z, 0)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations.base import Activation, identity
from am.activations.prox import positive


def _relu_prox(c: Tensor, a: Tensor, w: Tensor) -> Tensor:
    """ReLU: the better of min(c, 0) and max((c + w a) / (1 + w), 0): the second where (sqrt(1 + w) - 1) a > -c."""
    right = torch.addcmul(c, a, w).div_(1 + w).relu_()
    return torch.lerp(c.clamp(max=0), right, positive(torch.addcmul(c, a, w / (torch.sqrt(1 + w) + 1))))


# The sign of h(z): a fifth of the price of a comparison.
ACTIVATION = Activation("relu", "ReLU", F.relu, lambda z, a: torch.sign(a), identity, _relu_prox, flat_below=0.0)
