"""What gradient methods share: the step, the schedule of its rate, the Adam direction, and the full-batch form.

A gradient method takes one gradient of all layers and moves all parameters, which lie in one flat tensor for each run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.backprop import backpropagate
from am.errors import InputError
from am.method import Cost, Method, Problem, setting
from am.networks import Parameters, view_layers

FULL_BATCH = "-full-batch"  # ends the name of a method's full-batch form
SUM_BLOCK = 1024  # numbers of one run that are added up at once; more than that, and threads would share a sum


@dataclass(frozen=True)
class Scheduled:
    """The settings of a gradient method whose rate may follow a schedule."""

    schedule: str = setting(
        "constant",
        "course of the rate; cosine: up from 0, then half a cosine down to 0",
        choices=("constant", "cosine"),
    )
    warmup: float = setting(0.05, "share of the steps in which a cosine schedule rises", low=0.0, high=1.0)


@dataclass
class GradientState:
    """Parameters and gradient of R runs as one (R, 1, P) tensor each, with what the update rule remembers."""

    params: Parameters
    gradient: Parameters
    memory: dict[str, Any] = field(default_factory=dict)


Update = Callable[[GradientState, SimpleNamespace, int, Tensor | float], None]


def gradient_method(
    name: str,
    title: str,
    hyperparameters: type,
    update: Update,
    memory: Sequence[str] = (),
    full_batch: bool = False,
    more_memory: Callable[[Parameters, SimpleNamespace], dict[str, Any]] = lambda params, hp: {},
    **contract: Any,
) -> Method:
    """A method that takes one gradient of all layers and then moves the flat parameters in place.

    update(state, hp, k, factor): step k with the gradient in `state.gradient`; factor, (R, 1, 1) or 1.0, multiplies the
    rate as the schedule says.
    memory: names of the zero-initialised tensors, shaped like the parameters, that the rule keeps in `state.memory`.
    more_memory(params, hp): what else it keeps there, from the initial parameters, which it must copy.
    contract: other fields of the Method.
    """

    def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> GradientState:
        params = params.flattened()
        gradient = view_layers(torch.zeros_like(params.flat), params.widths)
        kept = {m: torch.zeros_like(params.flat) for m in memory}
        return GradientState(params, gradient, kept | more_memory(params, hp))

    def step(state: GradientState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
        x, y = (problem.x, problem.y) if full_batch else problem.batches(k)
        backpropagate(x, y, state.params, problem.activation, state.gradient)
        update(state, hp, k, schedule_factor(hp, k, problem.steps))

    return Method(
        name=name,
        title=title,
        family="gradient",
        hyperparameters=hyperparameters,
        init=init,
        step=step,
        full_batch=full_batch,
        **dict(cost=Cost(lambda widths, rows, settings: backpropagation_flops(widths, rows))) | contract,
    )


def gradient_pair(
    name: str, title: str, hyperparameters: type, update: Update, memory: Sequence[str] = ()
) -> tuple[Method, Method]:
    """The mini-batch method and its full-batch form: the same update of the gradient over all rows (SPEC 9)."""
    full = gradient_method(name + FULL_BATCH, f"{title} (full batch)", hyperparameters, update, memory, full_batch=True)
    return gradient_method(name, title, hyperparameters, update, memory), full


def backpropagation_flops(widths: Sequence[int], rows: int) -> int:
    """FLOPs of the products of a pass forward and back: every layer twice, and once more above the first."""
    products = [a * b for a, b in zip(widths, widths[1:])]
    return 2 * rows * (3 * sum(products) - products[0])


def schedule_factor(hp: SimpleNamespace, k: int | Tensor, steps: int | None) -> Tensor | float:  # -> (R, 1, 1), or 1.0
    """By what a rate is multiplied at step k = 0, 1, ...: 1, or cosine decay after a linear warm-up.

    With w = warmup * steps: (k + 1) / w, at the most 1, for k < w, then (1 + cos(pi (k - w) / (steps - w))) / 2
    (Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983, without restarts).
    Raises InputError for a schedule whose run has no known number of steps.
    """
    if getattr(hp, "schedule", "constant") != "cosine":
        return 1.0
    if steps is None:
        raise InputError("schedule 'cosine' needs the number of steps of the run; give steps=.")
    warm = hp.exact.warmup * steps
    rise = ((k + 1) / warm.clamp(min=1e-12)).clamp(max=1.0)
    fall = 0.5 * (1 + torch.cos(math.pi * ((k - warm) / (steps - warm).clamp(min=1.0)).clamp(0.0, 1.0)))
    return torch.where(warm > k, rise, fall).to(hp.warmup.dtype)


def number(k: int | Tensor, like: Tensor) -> Tensor:  # -> 0-d float64
    """k as a tensor, as a CUDA graph gives it: powers of it then have the same digits in both."""
    return k if isinstance(k, Tensor) else torch.full((), k, dtype=torch.float64, device=like.device)


def power(base: Any, exponent: Any) -> Any:  # numbers, 0-d or (R, 1, 1); one of them a tensor, or both numbers
    """base ** exponent, of a run alone or of a stack with the same digits.

    A CPU takes the power of many neighbours in memory by another program than that of one; these lie apart.
    """
    apart = lambda t: torch.stack([t, t], -1)[..., 0] if isinstance(t, Tensor) and t.dim() else t
    return apart(base) ** apart(exponent)


def total(t: Tensor) -> Tensor:  # (R, 1, P) -> (R, 1, 1) float64
    """The sum of every run, in pieces, so that its rounding does not depend on how many runs there are."""
    whole = t.shape[2] - t.shape[2] % SUM_BLOCK
    pieces = t[:, 0, :whole].unflatten(1, (-1, SUM_BLOCK)).sum(2)
    rest = t[:, 0, whole:].sum(1, keepdim=True)
    return torch.cat([pieces, rest], 1).sum(1, dtype=torch.float64).view(-1, 1, 1)


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
    below = g * g
    v.lerp_(below, like(1 - beta2))
    # Divided by 1 / (1 - beta1^(k+1)), so that m enters as it is.
    unbiased = 1 - power(beta1, k + 1)
    root, least = like(unbiased / (1 - power(beta2, k + 1)) ** 0.5), like(epsilon * unbiased)
    torch.sqrt(v, out=below).mul_(root).add_(least)
    return torch.div(m, below, out=below)
