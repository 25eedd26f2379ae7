"""The Adam direction, shared by adam, adamw and the meta-optimiser and weight steps of AM methods."""

import torch
from torch import Tensor


def adam_direction(
    g: Tensor,
    m: Tensor,
    v: Tensor,
    beta1: Tensor | float,  # float64, so that 1 - beta^k keeps its digits
    beta2: Tensor | float,
    epsilon: Tensor | float,
    k: int | Tensor,  # a 0-d float64 tensor where the step is captured as a CUDA graph
) -> Tensor:  # like g
    """mhat / (sqrt(vhat) + epsilon) at step k = 0, 1, ...; updates the moments m and v in place.

    Kingma and Ba, ICLR 2015, algorithm 1. Any shape, as long as all broadcast against g.
    """
    like = lambda s: s.to(g.dtype) if isinstance(s, Tensor) else s
    m.lerp_(g, like(1 - beta1))
    v.lerp_(g * g, like(1 - beta2))
    # Divided by 1 / (1 - beta1^(k+1)), so that m enters as it is.
    unbiased = 1 - beta1 ** (k + 1)
    root, least = like(unbiased / (1 - beta2 ** (k + 1)) ** 0.5), like(epsilon * unbiased)
    below = v.sqrt().mul_(root).add_(least)
    return torch.div(m, below, out=below)
