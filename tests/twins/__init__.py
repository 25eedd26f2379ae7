"""Methods once more, the slow way: one run, plain (N, d) tensors, each equation as SPEC.md writes it.

What the stacked methods of `am.methods` are checked against, step by step, and timed against: nothing is cached, each
objective and majoriser is evaluated on all data at every trial, gradients of networks come from autograd. It shares
with the fast code what is tested on its own: the activations (value, pre-image, scalar prox) and the exact proximal
point of the cross-entropy. A method that torch.optim or another package has is compared with that, and has no twin.

A file holds STEPS, method name -> step(slow, k), and where needed STARTS, name -> start(slow), which adds variables and
memory, and OBJECTIVES, name -> objective(slow). They are found by scanning the folder: to add a method, add a file, or
an entry to one.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from am import activations
from am.activations import Activation
from am.errors import InputError, unknown
from am.methods import method


@dataclass
class Slow:
    """One run. u: the variables by name, W1 b1 z1 a1 ..., never changed in place; a0 the data.

    last: the variables u^{k-1}; memory: what else a method remembers; hp: its settings as plain numbers; batches: the
    row numbers of each mini-batch, (K, B), after the last of which comes the first, or None for all rows; steps: of the
    whole run, for schedules; trials: of all backtracking so far; as_released: the gradient again at every trial.
    """

    name: str
    x: Tensor  # (N, d0)
    y: Tensor  # (N,)
    act: Activation
    hp: SimpleNamespace
    depth: int
    u: dict[str, Tensor]
    batches: Tensor | None = None
    steps: int | None = None
    as_released: bool = False
    last: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[Any, Any] = field(default_factory=dict)
    iterations: int = 0
    trials: int = 0

    def step(self, times: int = 1) -> "Slow":
        """Make `times` steps and return the run itself."""
        for _ in range(times):
            registered("STEPS")[self.name](self, self.iterations)
            self.iterations += 1
        return self

    def objective(self) -> float:
        """The function that the method minimises, at the current variables; raises InputError where it has none."""
        objectives = registered("OBJECTIVES")
        if self.name not in objectives:
            raise InputError(f"the slow '{self.name}' has no objective of its own.")
        return float(objectives[self.name](self))

    def variables(self) -> dict[str, Tensor]:
        """The variables, not copied, under the names of `am.run.Run.variables`."""
        return {name: value for name, value in self.u.items() if name not in ("a0", "V0")}

    @property
    def layers(self) -> range:
        """1 .. L."""
        return range(1, self.depth + 1)

    @property
    def trained(self) -> list[str]:
        """W1, b1, W2, ..."""
        return [f"{kind}{l}" for l in self.layers for kind in "Wb"]

    def linear(self, l: int) -> Tensor:  # (N, d_l)
        """a_{l-1} W_l^T + b_l."""
        return torch.addmm(self.u[f"b{l}"], self.u[f"a{l - 1}"], self.u[f"W{l}"].T)

    def batch(self, k: int) -> tuple[Tensor, Tensor]:  # (B, d0), (B,)
        """Mini-batch k, or all rows."""
        if self.batches is None:
            return self.x, self.y
        rows = self.batches[k % len(self.batches)]
        return self.x[rows], self.y[rows]

    def logits(self, x: Tensor, u: dict[str, Tensor] | None = None) -> Tensor:  # (B, d0) -> (B, C)
        """The network's output, with the parameters of `u` in place of the run's where it has them."""
        u, a = self.u | (u or {}), x
        for l in self.layers:
            z = F.linear(a, u[f"W{l}"], u[f"b{l}"])
            a = self.act.value(z)
        return z

    def loss(self, x: Tensor, y: Tensor, u: dict[str, Tensor] | None = None) -> Tensor:
        """The mean cross-entropy, with the parameters of `u` in place of the run's where it has them."""
        return F.cross_entropy(self.logits(x, u), y)

    def gradient(
        self, names: Iterable[str], x: Tensor, y: Tensor, u: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """d loss / d parameter by autograd through the whole network, for each of the names."""
        u = self.u | (u or {})
        leaves = {name: u[name].detach().requires_grad_() for name in names}
        return dict(zip(leaves, torch.autograd.grad(self.loss(x, y, u | leaves), list(leaves.values()))))


@functools.cache
def registered(kind: str) -> dict[str, Callable]:
    """What the files of this folder hold under that name (STEPS, STARTS or OBJECTIVES), together."""
    found: dict[str, Callable] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        for name, function in getattr(importlib.import_module(f"{__name__}.{module}"), kind, {}).items():
            if found.setdefault(name, function) is not function:
                raise InputError(f"tests/twins/{module}.py: a second entry of {kind} is named '{name}'.")
    return found


def start(
    name: str,
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str = "relu",
    batches: Tensor | None = None,
    steps: int | None = None,
    as_released: bool = False,
    **hyperparameters: Any,
) -> Slow:
    """As `am.start`, for one run; weights (d_l, d_{l-1}) and biases (d_l,) are copied to the data's dtype and device.

    as_released: every trial of a majoriser computes the gradient again, as the authors' released codes do.
    Raises InputError for a method that is not here, and where a mini-batch method has no batches or another has some.
    """
    if name not in registered("STEPS"):
        raise unknown("slow method", name, registered("STEPS"))
    fast = method(name)
    if fast.full_batch != (batches is None):
        raise InputError(
            f"method '{name}' works on {'all rows; give no' if fast.full_batch else 'mini-batches; give'} batches."
        )
    hp = SimpleNamespace(**dataclasses.asdict(fast.settings(hyperparameters)))
    u = {"a0": x}
    for l, (W, b) in enumerate(zip(weights, biases), 1):
        u[f"W{l}"], u[f"b{l}"] = W.to(x, copy=True), b.to(x, copy=True)
    slow = Slow(name, x, y, activations.activation(activation), hp, len(weights), u, batches, steps, as_released)
    if name in registered("STARTS"):
        registered("STARTS")[name](slow)
    return slow
