"""Drive a method by hand: give data, initial weights and biases, step it, read its variables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.activations import activation
from am.batches import Batches
from am.errors import InputError
from am.method import Method, Problem, stack
from am.methods import method
from am.networks import Parameters


@dataclass
class Run:
    """R runs of one method, stepped by hand. `iterations` counts the steps made."""

    method: Method
    problem: Problem
    hp: SimpleNamespace
    state: Any
    single: bool  # the weights came without a run axis: variables are shown without one
    iterations: int = field(default=0)

    def step(self, times: int = 1) -> "Run":
        """Make `times` steps (full-batch iterations, or mini-batches) and return the run itself."""
        for _ in range(times):
            self.method.step(self.state, self.problem, self.hp, self.iterations)
            self.iterations += 1
        return self

    def variables(self) -> dict[str, Tensor]:
        """Copies of W1, b1, ... and of what else the method keeps (z1, a1, alpha_W1, ...); biases as (d_l,) rows."""
        params = self.method.parameters(self.state)
        named = {f"W{l}": W for l, W in enumerate(params.W, 1)} | {f"b{l}": b[:, 0] for l, b in enumerate(params.b, 1)}
        named |= self.method.variables(self.state)
        return {name: (t[0] if self.single else t).clone() for name, t in named.items()}

    def objective(self) -> Tensor:  # (R,) float64, or a scalar
        """The function that the method minimises, at the current variables."""
        if self.method.objective is None:
            raise InputError(f"method '{self.method.name}' has no objective of its own.")
        value = self.method.objective(self.state, self.problem, self.hp)
        return value[0] if self.single else value


def start(
    name: str,
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation_name: str = "relu",
    batches: Tensor | Sequence | None = None,
    steps: int | None = None,
    **hyperparameters: Any,
) -> Run:
    """A run of method `name`, ready to step.

    x: (N, d0) floating; its dtype and device are the run's.  y: (N,) class numbers.
    weights: W_l as (d_l, d_{l-1}), or (R, d_l, d_{l-1}) for R stacked runs.  biases: b_l as (d_l,) or (R, d_l).
    batches: row numbers of each mini-batch, (K, B), for mini-batch methods; after the last comes the first.
    steps: how many steps the run will make, which a schedule needs to know.
    hyperparameters: values over the method's defaults; a list gives each of R stacked runs its own.
    Raises InputError for an unknown method, activation or hyper-parameter, and for shapes that do not fit.
    """
    chosen, act = method(name), activation(activation_name)
    to = lambda t: torch.as_tensor(t).to(x.device, x.dtype)
    weights, biases = [to(w) for w in weights], [to(v) for v in biases]
    single = bool(weights) and weights[0].dim() == 2
    lead = () if single or not weights else tuple(weights[0].shape[:1])
    R = lead[0] if lead else 1
    widths = (x.shape[1], *(w.shape[-2] for w in weights))
    shapes = [(*lead, d_out, d_in) for d_in, d_out in zip(widths, widths[1:])]
    if (
        not weights
        or [w.shape for w in weights] != shapes
        or [v.numel() for v in biases] != [R * s[-2] for s in shapes]
    ):
        found = [[tuple(t.shape) for t in ts] for ts in (weights, biases)]
        raise InputError(f"weights {found[0]} and biases {found[1]} do not chain from {x.shape[1]} inputs.")
    W = [w.reshape(R, *w.shape[-2:]).clone() for w in weights]
    params = Parameters(W, [v.reshape(R, 1, -1).clone() for v in biases])
    for key, value in hyperparameters.items():
        if isinstance(value, (list, tuple)) and len(value) != R:
            raise InputError(f"{name}: {key} has {len(value)} values for {R} runs.")
    each = [{k: v[r] if isinstance(v, (list, tuple)) else v for k, v in hyperparameters.items()} for r in range(R)]
    settings = [chosen.settings(values) for values in each]
    chosen.check(settings[0], act, params.widths)
    y = torch.as_tensor(y).to(x.device, torch.int64)
    if y.shape != x.shape[:1] or y.min() < 0 or y.max() >= widths[-1]:
        raise InputError(f"labels must be {len(x)} class numbers in [0, {widths[-1] - 1}], one for each row of x.")
    if not chosen.full_batch and batches is None:
        raise InputError(f"method '{name}' works on mini-batches; give batches=, a (K, B) list of row numbers.")
    given = None if batches is None else torch.as_tensor(batches).to(x.device, torch.int64)
    if given is not None and (given.dim() != 2 or not given.numel() or given.min() < 0 or given.max() >= len(x)):
        raise InputError(f"batches must be a (K, B) list of row numbers in [0, {len(x) - 1}].")
    stream = None if chosen.full_batch else Batches(x, y, given=given, runs=R)
    problem, hp = Problem(x, y, act, stream, steps), stack(settings, x)
    return Run(chosen, problem, hp, chosen.init(problem, params, hp), single)
