"""Activations, their inverses, their scalar prox and the prox of the cross-entropy, number by number, in NumPy.

Independent of `am`: what the tensor code, fast and slow, shares is held to these.
"""

import math

import numpy as np
import torch

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # of SELU
CELLS = 400


def elu(scale=1.0, alpha=1.0):
    value = lambda z: np.where(z > 0, scale * z, scale * alpha * np.expm1(np.minimum(z, 0)))
    return value, lambda z: np.where(z > 0, scale, scale * alpha * np.exp(np.minimum(z, 0))), (0.0,)


def elu_inverse(scale=1.0, alpha=1.0):
    return lambda v: v / scale if v > 0 else math.log(1 + v / (scale * alpha))


# name -> h, h' off the kinks, the kinks
SCALAR = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0), (0.0,)),
    "relu6": (lambda z: np.clip(z, 0, 6), lambda z: np.where((z > 0) & (z < 6), 1.0, 0.0), (0.0, 6.0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01), (0.0,)),
    "elu": elu(),
    "celu": elu(),
    "selu": elu(SCALE, ALPHA),
    "softplus": (lambda z: np.logaddexp(0, z), lambda z: 1 / (1 + np.exp(-z)), ()),
}
# name -> the inverse of h, the lower end of its range, whether h reaches that end, the upper end
INVERSE = {
    "relu": (lambda v: v, 0.0, True, math.inf),
    "relu6": (lambda v: v, 0.0, True, 6.0),
    "leaky_relu": (lambda v: v if v > 0 else 100 * v, -math.inf, False, math.inf),
    "elu": (elu_inverse(), -1.0, False, math.inf),
    "celu": (elu_inverse(), -1.0, False, math.inf),
    "selu": (elu_inverse(SCALE, ALPHA), -SCALE * ALPHA, False, math.inf),
    "softplus": (lambda v: math.log(math.expm1(v)), 0.0, False, math.inf),
}


def lower(activation, bound):
    """The least number z with h(z) >= bound, -inf where there is none; an open end counts from 1e-6 above itself."""
    inverse, bottom, reached, top = INVERSE[activation]
    free = bound <= bottom if reached else bound < bottom + 1e-6
    return -math.inf if free else inverse(min(bound, top))


def upper(activation, bound):
    """The largest number z with h(z) <= bound; where there is none, the end of the range stands for the bound."""
    inverse, bottom, reached, top = INVERSE[activation]
    return math.inf if bound >= top else inverse(max(bound, bottom if reached else bottom + 1e-6))


def scalar_prox(activation, c, a, w):
    """argmin_z (z - c)^2 + w (a - h(z))^2 for numbers c, a, w: every minimum that a grid with the kinks brackets.

    All lie where (z - c)^2 is at most the objective at c.
    """
    h, slope, kinks = SCALAR[activation]
    objective = lambda z: (z - c) ** 2 + w * (a - h(z)) ** 2
    derivative = lambda z: z - c + w * slope(z) * (h(z) - a)
    reach = math.sqrt(w) * abs(a - float(h(c))) + 1e-9
    grid = np.linspace(c - reach, c + reach, CELLS + 1)
    inner = [kink for kink in kinks if abs(kink - c) < reach]
    grid = np.sort(np.concatenate([grid, inner]))
    left, right = grid[:-1], grid[1:]
    width = 1e-9 * (right - left)  # keeps off the kinks, where h' jumps
    minima = (derivative(left + width) < 0) & (derivative(right - width) > 0)
    candidates = [c, *inner]
    for low, high in zip(left[minima], right[minima]):
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if derivative(middle) > 0 else (middle, high)
        candidates.append((low + high) / 2)
    return min(candidates, key=lambda z: float(objective(z)))


class ScalarActivation:
    """Stands in for `am.activations.Activation` in a slow run: every tensor number by number."""

    def __init__(self, name):
        self.name = f"scalar {name}"  # no special case is for it
        each = lambda f: lambda *tensors: entrywise(f, *tensors)
        self.value = each(lambda z: SCALAR[name][0](z))
        self.lower = each(lambda bound: lower(name, bound))
        self.upper = each(lambda bound: upper(name, bound))
        self.scalar_prox = lambda c, a, w: each(lambda u, v: scalar_prox(name, u, v, float(w)))(c, a)


def entrywise(f, *tensors):
    numbers = zip(*(t.flatten().tolist() for t in tensors))
    return torch.tensor([float(f(*each)) for each in numbers], dtype=torch.float64).view(tensors[0].shape)


def prox_cross_entropy(c, y, rho):
    """argmin_z CE(z, y) + rho/2 ||z - c||^2 per sample, c (N, C): Newton with step halving.

    In Python's numbers: NumPy takes five times as long over so few.
    """
    return np.array([newton(row, int(label), float(rho)) for row, label in zip(c.tolist(), y)])


def newton(c, label, rho):
    f = lambda v: logsumexp(v) - v[label] + rho / 2 * sum((u - w) ** 2 for u, w in zip(v, c))
    z = c
    for _ in range(200):
        total = logsumexp(z)
        p = [math.exp(u - total) for u in z]
        gradient = [q - (i == label) + rho * (u - w) for i, (q, u, w) in enumerate(zip(p, z, c))]
        # (diag(p + rho) - p p^T)^-1 of the gradient, by Sherman and Morrison; 1 - sum p^2 / (p + rho) is the divisor.
        scaled = [g / (q + rho) for g, q in zip(gradient, p)]
        share = sum(q * s for q, s in zip(p, scaled)) / sum(q * rho / (q + rho) for q in p)
        direction = [s + share * q / (q + rho) for s, q in zip(scaled, p)]
        length, slope, here = 1.0, sum(g * d for g, d in zip(gradient, direction)), f(z)
        moved = lambda: [u - length * d for u, d in zip(z, direction)]
        while length > 1e-3 and f(moved()) > here - length * slope / 10 + 1e-14:
            length /= 2
        z = moved()
        if max(map(abs, direction)) < 1e-14 * (1 + max(map(abs, z))):
            break
    return z


def logsumexp(v):
    top = max(v)
    return top + math.log(sum(math.exp(u - top) for u in v))
