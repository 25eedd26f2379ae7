"""The methods, found by scanning this folder: every module-level `Method` of every file is one, by its own name.

To add a method, add a file. It holds a docstring (what it is, cost per step, source), the hyper-parameters as a
dataclass of `setting`s, three functions (initial state, one step for all R runs, current parameters) and a `Method`
that names them. No registry is edited; the conformance tests, `python -m reproduce methods` and the grids find it.
A method sees training data only and never computes its own metrics.
"""

import dataclasses
import functools
import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.activations import Activation
from am.batches import Batches
from am.errors import InputError, unknown
from am.networks import Parameters


@dataclass(frozen=True)
class Log:
    """Search `low .. high` uniformly in the logarithm."""

    low: float
    high: float

    def at(self, u: float) -> float:
        return math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))


@dataclass(frozen=True)
class Linear:
    """Search `low .. high` uniformly."""

    low: float
    high: float

    def at(self, u: float) -> float:
        return self.low + u * (self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """Search among the values."""

    values: tuple

    def at(self, u: float) -> Any:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


def setting(
    default: Any,
    doc: str,
    search: Log | Linear | Choice | None = None,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence | None = None,
) -> Any:
    """A hyper-parameter: the paper's default, what it is, its search space (None: not tuned) and its valid range.

    float fields may differ between stacked runs; int, str and bool fields shape the program and are equal in a stack.
    """
    return field(default=default, metadata=dict(doc=doc, search=search, low=low, high=high, choices=choices))


@dataclass(frozen=True)
class Problem:
    """What a method is given: training data, the network's activation and, for mini-batch methods, the batches."""

    x: Tensor  # (N, d0), shared by all runs
    y: Tensor  # (N,) int64
    activation: Activation
    batches: Batches | None = None


@dataclass(frozen=True)
class Method:
    """One training method on the run axis.

    init(problem, params, hp) -> state; step(state, problem, hp, k) makes step k = 0, 1, ... of all runs in place;
    parameters(state) -> Parameters, by default the state's `params`. `hp` holds float settings as (R, 1, 1) float64
    tensors, others as they are.
    full_batch: one step is a pass over all data; otherwise step k uses `problem.batches(k)`, at the most the next one
    too, never waits for the device, and takes k as a 0-d float64 tensor as well, so that it can be a CUDA graph.
    objective(state, problem, hp) -> (R,) float64, the function that an AM method minimises, where it has one.
    variables(state) -> named tensors with a leading run axis, beyond W and b.
    updates, gradients: block updates of parameters, and gradients evaluated, in one step of a network of given depth.
    """

    name: str
    title: str
    family: str  # "gradient", "stochastic AM" or "full-batch AM"
    hyperparameters: type
    init: Callable[[Problem, Parameters, SimpleNamespace], Any]
    step: Callable[[Any, Problem, SimpleNamespace, int], None]
    full_batch: bool = False
    parameters: Callable[[Any], Parameters] = lambda state: state.params
    updates: Callable[[int, SimpleNamespace], int] = lambda depth, hp: depth
    gradients: Callable[[int, SimpleNamespace], int] = lambda depth, hp: 1
    monotone_only: bool = False
    objective: Callable[[Any, Problem, SimpleNamespace], Tensor] | None = None
    variables: Callable[[Any], dict[str, Tensor]] = lambda state: {}
    requires: Callable[[SimpleNamespace | Any, Activation, Sequence[int]], str | None] = lambda hp, act, widths: None

    def settings(self, values: dict[str, Any] | None = None, where: str = "") -> Any:
        """The hyper-parameter dataclass with `values` over the defaults; raises InputError for a bad key or value."""
        where = where or self.name
        fields = {f.name: f for f in dataclasses.fields(self.hyperparameters)}
        checked = {}
        for key, value in (values or {}).items():
            if key not in fields:
                raise unknown("hyper-parameter", key, fields, where)
            checked[key] = _check_value(f"{where}: {key}", value, fields[key])
        return self.hyperparameters(**checked)

    def search_space(self) -> dict[str, Log | Linear | Choice]:
        """The tuned hyper-parameters and their ranges, the same for every data set."""
        fields = dataclasses.fields(self.hyperparameters)
        return {f.name: f.metadata["search"] for f in fields if f.metadata["search"] is not None}

    def check(self, hp: Any, act: Activation, widths: Sequence[int]) -> None:
        """Raises InputError where the method cannot train this network."""
        if self.monotone_only and not act.monotone:
            raise InputError(
                f"method '{self.name}' needs a monotone activation and '{act.name}' is not; "
                "use a gradient method or samt, or another activation, for example relu."
            )
        if problem := self.requires(hp, act, widths):
            raise InputError(f"method '{self.name}': {problem}")


def needs_hidden_layer(hp: Any, act: Activation, widths: Sequence[int]) -> str | None:
    """`requires` of the AM methods: without a hidden layer there is nothing to alternate over."""
    return None if len(widths) > 2 else "needs at least one hidden layer."


def _check_value(where: str, value: Any, f: dataclasses.Field) -> Any:
    kind = {"float": float, "int": int, "str": str, "bool": bool}[getattr(f.type, "__name__", f.type)]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"{where} must be {kind.__name__}, not {value!r}.")
    meta = f.metadata
    if meta["choices"] and value not in meta["choices"]:
        raise unknown("value", value, map(str, meta["choices"]), where)
    if kind in (int, float) and not meta["low"] <= value <= meta["high"]:
        raise InputError(f"{where} must lie in [{meta['low']}, {meta['high']}], not {value!r}.")
    return value


def stack(settings: Sequence[Any], device: str = "cpu") -> SimpleNamespace:
    """Hyper-parameters of R runs as one namespace: floats as (R, 1, 1) float64 tensors, the rest equal in all runs."""
    hp = {}
    for f in dataclasses.fields(settings[0]):
        values = [getattr(s, f.name) for s in settings]
        if isinstance(values[0], float):
            hp[f.name] = torch.tensor(values, dtype=torch.float64, device=device).view(-1, 1, 1)
        elif len(set(values)) > 1:
            raise InputError(f"runs that differ in '{f.name}' ({set(values)}) cannot share a stack.")
        else:
            hp[f.name] = values[0]
    return SimpleNamespace(**hp)


def cast(hp: SimpleNamespace, dtype: torch.dtype) -> SimpleNamespace:
    """The namespace with its tensors in the dtype of the run."""
    return SimpleNamespace(**{k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in vars(hp).items()})


@functools.cache
def methods() -> dict[str, Method]:
    """Every method of this folder, by name."""
    found: dict[str, Method] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        for value in vars(importlib.import_module(f"{__name__}.{module}")).values():
            if isinstance(value, Method) and found.setdefault(value.name, value) is not value:
                raise InputError(f"am/methods/{module}.py: a second method is named '{value.name}'.")
    return found


def method(name: str) -> Method:
    """The method of that name; raises InputError with the nearest valid one."""
    try:
        return methods()[name]
    except KeyError:
        raise unknown("method", name, methods()) from None
