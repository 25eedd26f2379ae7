"""Drive a method by hand: give data, initial weights and biases, step it, read and set its variables.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> x, y = rng.random((30, 4)), rng.integers(0, 3, 30)  # 30 samples of 4 inputs, 3 classes
>>> weights = [0.5 * rng.normal(size=shape) for shape in [(5, 4), (3, 5)]]  # W_l: (d_l, d_{l-1})
>>> run = start("tiam", x, y, weights, [np.zeros(5), np.zeros(3)], rho=0.1).step(10)
>>> run.iterations, list(run.variables())
(10, ['W1', 'W2', 'b1', 'b2', 'z1', 'z2', 'a1', 'fallbacks'])
"""

import dataclasses
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am import inputs
from am.activations import activation as activation_called
from am.batches import Batches
from am.descent import schedule_factor
from am.errors import InputError, unknown
from am.evaluation import metrics
from am.method import Method, Problem, stack
from am.methods import method
from am.networks import forward


@dataclass(repr=False)
class Run:
    """R runs of one method, stepped by hand. `iterations` counts the steps made."""

    method: Method
    problem: Problem
    hp: SimpleNamespace
    state: Any
    single: bool  # the weights came without a run axis: everything is shown without one
    iterations: int = 0

    def __repr__(self) -> str:
        params = self.method.parameters(self.state)
        widths = "-".join(map(str, params.widths))
        return f"<Run of {self.method.name}: {params.runs} x {widths}, iterations={self.iterations}>"

    def step(self, times: int = 1) -> "Run":
        """Make `times` steps (full-batch iterations, or mini-batches) and return the run itself.

        Raises InputError where `times` is not a whole number from 0 on, or a schedule has come to its end.

        >>> example("sgd").step().step(5).iterations
        6
        """
        times = _whole(times, "step(times)", 0)
        end = self.problem.steps
        if getattr(self.hp, "schedule", "constant") == "cosine" and self.iterations + times > (end or 0):
            raise InputError(
                f"method '{self.method.name}': its schedule ends with step {end}, {self.iterations} are made and "
                f"{times} more were asked for; start it with a larger steps=."
            )
        for _ in range(times):
            self.method.step(self.state, self.problem, self.hp, self.iterations)
            self.iterations += 1
        return self

    @property
    def blocks(self) -> list[str]:
        """The blocks of a step in its order, each named by the variables that it moves; [] where none stands alone.

        >>> example("tiam").blocks
        ['W1', 'b1', 'z1', 'a1', 'W2', 'b2', 'z2']
        >>> example("samt").blocks
        ['W1+b1', 'W2+b2']
        """
        return self.method.by_hand.blocks(self.hp, len(self.method.parameters(self.state).W))

    def step_block(self, name: str) -> "Run":
        """Move one block alone, as the next step would move it from the variables as they stand; returns the run.

        `iterations` stays, and with it the mini-batch and whatever else goes by the step: after a sweep over `blocks`
        by hand, add 1 to it. Raises InputError for a name that is not in `blocks`.

        >>> run = example("tiam")
        >>> before, after = run.variables(), run.step_block("W2").variables()
        >>> [name for name in before if not before[name].equal(after[name])]
        ['W2']
        """
        if self.method.by_hand.step_block is None:
            raise InputError(f"method '{self.method.name}' has no block that can be stepped alone; use step().")
        if name not in self.blocks:
            raise unknown("block", name, set(self.blocks), self.method.name)
        self.method.by_hand.step_block(self.state, self.problem, self.hp, self.iterations, name)
        return self

    def variables(self) -> dict[str, Tensor]:
        """Copies of W1, b1, ... and of what else the method keeps (z1, a1, alpha_W1, ...); biases as (d_l,) rows.

        >>> {name: tuple(u.shape) for name, u in example("samt").variables().items()}
        {'W1': (5, 4), 'W2': (3, 5), 'b1': (5,), 'b2': (3,), 'alpha_W1': (5, 1), 'alpha_b1': (1, 1), \
'alpha_W2': (3, 1), 'alpha_b2': (1, 1)}
        """
        return {name: u.clone() for name, u in self._views().items()}

    def set_variables(self, **values: Any) -> "Run":
        """Set variables by the names and in the shapes that `variables` shows; returns the run.

        The next step starts from them; what is set has no past (no inertia from the jump), and moments stay as they
        are. Nothing is set if one value does not fit. Raises InputError for an unknown name, another shape, or a count.

        >>> run = example("tiam").set_variables(b1=[1, 2, 3, 4, 5])
        >>> run.variables()["b1"]
        tensor([1., 2., 3., 4., 5.], dtype=torch.float64)
        """
        views, where, found = self._views(), self.method.name, {}
        for name, value in values.items():
            if name not in views:
                raise unknown("variable", name, views, where)
            view = views[name]
            if not view.is_floating_point():
                raise InputError(f"{where}: '{name}' is a count of the method's own and cannot be set.")
            value = inputs.numbers(value, f"{where}: {name}").to(view.device, view.dtype)
            if value.shape != view.shape:
                raise InputError(f"{where}: {name} must have shape {(*view.shape,)}, not {(*value.shape,)}.")
            found[name] = value.clone()  # a value may be a view of another variable
        for name, value in found.items():
            views[name].copy_(value)
        self.method.by_hand.refresh(self.state, self.problem, self.hp, list(found))
        return self

    def objective(self) -> Tensor:  # (R,) float64, or a scalar
        """The function that the method minimises, at the current variables.

        >>> run = example("tiam")
        >>> bool(run.objective() > run.step(5).objective())
        True
        """
        if self.method.by_hand.objective is None:
            raise InputError(f"method '{self.method.name}' has no objective of its own; use loss(x, y).")
        return self._shown(self.method.by_hand.objective(self.state, self.problem, self.hp))

    def logits(self, x: Any) -> Tensor:  # (N, d0) -> (R, N, classes), or (N, classes)
        """The network's outputs before softmax on samples x, at the current W and b and in the run's dtype.

        >>> run = example("tiam").step(3)
        >>> run.logits(run.problem.x[:7]).shape
        torch.Size([7, 3])
        """
        return self._shown(forward(self._samples(x), self.method.parameters(self.state), self.problem.activation)[-1])

    def accuracy(self, x: Any, y: Any) -> Tensor:  # (N, d0), (N,) -> (R,) float64, or a scalar
        """The share of samples x whose largest logit is that of their class y.

        >>> run = example("gd").step(3)
        >>> bool(0 <= run.accuracy(run.problem.x, run.problem.y) <= 1)
        True
        """
        return self._measured(x, y)[0]

    def loss(self, x: Any, y: Any) -> Tensor:  # (N, d0), (N,) -> (R,) float64, or a scalar
        """The mean cross-entropy on samples x of classes y.

        >>> run = example("gd")
        >>> at_start = run.loss(run.problem.x, run.problem.y)
        >>> bool(run.step(9).loss(run.problem.x, run.problem.y) < at_start)
        True
        """
        return self._measured(x, y)[1]

    def _views(self) -> dict[str, Tensor]:
        params = self.method.parameters(self.state)
        named = {f"W{l}": W for l, W in enumerate(params.W, 1)} | {f"b{l}": b[:, 0] for l, b in enumerate(params.b, 1)}
        return {name: self._shown(t) for name, t in (named | self.method.by_hand.variables(self.state)).items()}

    def _shown(self, t: Tensor) -> Tensor:
        return t[0] if self.single else t

    def _samples(self, x: Any) -> Tensor:  # -> (N, d0)
        x, own = inputs.samples(x), self.problem.x
        if x.shape[1] != own.shape[1]:
            raise InputError(f"x has {x.shape[1]} inputs a sample and the network takes {own.shape[1]}.")
        return x.to(own.device, own.dtype)

    def _measured(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        x, params = self._samples(x), self.method.parameters(self.state)
        y = inputs.labels(y, len(x), params.widths[-1]).to(x.device)
        accuracy, loss = metrics(params, x, y, self.problem.activation)
        return self._shown(accuracy), self._shown(loss)


def start(
    name: str | Method,
    x: Any,
    y: Any,
    weights: Sequence[Any],
    biases: Sequence[Any] | None = None,
    activation: str = "relu",
    batches: Any = None,
    steps: int | None = None,
    **hyperparameters: Any,
) -> Run:
    """A run of method `name`, ready to step. Tensors, arrays and nested lists will all do; none of them is written to.

    x: (N, d0) floating, one row a sample; its device and dtype (float64, else float32) are the run's.
    y: (N,) class numbers 0 .. d_L - 1; a column (N, 1) and one-hot rows (N, d_L) mean the same.
    weights: W_l as (d_l, d_{l-1}), or (R, d_l, d_{l-1}) for R stacked runs.  biases: b_l as (d_l,), or (R, d_l).
    activation: of the hidden layers, by name.
    batches: for mini-batch methods the row numbers of each, (K, B); after the last comes the first.
    steps: how many steps the run will make, which a schedule needs to know.
    hyperparameters: values over the method's defaults; one value for each of R stacked runs where they differ.
    Raises InputError, one sentence, for whatever does not fit.

    >>> run = start("sgd", [[0.0, 1.0], [1.0, 0.0]], [0, 1], [[[0.0, 0.0], [0.0, 0.0]]], [[0.0, 0.0]],
    ...             batches=[[0, 1]], learning_rate=1.0)
    >>> run.step(2).accuracy([[0.0, 1.0]], [0])
    tensor(1., dtype=torch.float64)
    >>> start("sgdd", [[0.0]], [0], [[[0.0]]], [[0.0]])
    Traceback (most recent call last):
    am.errors.InputError: unknown method 'sgdd'; did you mean 'sgd'?
    """
    chosen, act, x = (
        name if isinstance(name, Method) else method(name),
        activation_called(activation),
        inputs.samples(x),
    )
    name = chosen.name
    params, single = inputs.network(weights, biases, x)
    fields = {f.name: f for f in dataclasses.fields(chosen.hyperparameters)}
    for key, value in hyperparameters.items():
        if key in ("device", "dtype"):
            raise InputError(f"{name}: a run has the {key} of x; leave {key}= out and give x as a tensor of {value}.")
        if key not in fields:
            raise unknown("hyper-parameter", key, [*fields, "activation", "batches", "steps"], name)
        if (beside := fields[key].metadata["beside"]) and beside not in hyperparameters:
            raise InputError(
                f"{name}: what its authors call {key} is two settings here, {key} and {beside}; give both, "
                f"for example {key}={value}, {beside}={value}."
            )
    R = params.runs
    columns = {key: inputs.one_per_run(value, R, f"{name}: {key}") for key, value in hyperparameters.items()}
    settings = [chosen.settings({key: values[r] for key, values in columns.items()}) for r in range(R)]
    for each in settings:
        chosen.check(each, act, params.widths)
    y = inputs.labels(y, len(x), params.widths[-1]).to(x.device)
    if chosen.full_batch and batches is not None:
        raise InputError(f"method '{name}' takes all rows in every step; leave batches= out.")
    if not chosen.full_batch and batches is None:
        raise InputError(f"method '{name}' works on mini-batches; give batches=, a (K, B) list of row numbers.")
    stream = None if batches is None else Batches(x, y, given=inputs.batches(batches, len(x)).to(x.device), runs=R)
    end = None if steps is None else _whole(steps, "steps", 1)
    problem, hp = Problem(x, y, act, stream, end), stack(settings, x)
    schedule_factor(hp, 0, end)  # refuses a schedule that does not know its end
    return Run(chosen, problem, hp, chosen.init(problem, params, hp), single)


def _whole(value: Any, what: str, least: int) -> int:
    try:
        number = operator.index(value) if not isinstance(value, bool) else -1
    except (TypeError, RuntimeError):
        number = -1
    if number < least:
        raise InputError(f"{what} must be a whole number from {least} on, not {value!r}.")
    return number


def example(name: str) -> Run:
    """A small run for the examples of these docstrings: 30 samples of 4 inputs, 5 hidden units, 3 classes."""
    generator = torch.Generator().manual_seed(0)
    x, W1, W2 = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(30, 4), (5, 4), (3, 5)])
    batches = None if method(name).full_batch else torch.arange(30).view(3, 10)
    return start(name, x, x[:, :3].argmax(1), [W1, W2], [torch.zeros(5), torch.zeros(3)], batches=batches)
