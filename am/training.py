"""The one training loop: step, count, evaluate, record. Methods see training data; metrics are computed here alone."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations import Activation, activation
from am.batches import Batches
from am.costs import Clocks, flops_of
from am.data import Data
from am.gradients import backpropagate
from am.graphs import EAGER_STEPS, captured
from am.methods import Method, Problem, stack
from am.networks import Parameters, forward, initialise, view_layers

TRAIN_LOSS_ROWS = 10_000  # the training loss is evaluated on the first rows of the training part, at the most so many
GRADIENT_ROWS = 2_048  # of one block of a gradient over many rows
WARM_ITERATIONS, WARM_BATCHES = 2, 20  # steps of a timed run's rehearsal, besides its first two
EVALUATION_BYTES = 256 * 2**20  # activations of one evaluation chunk
CPU_STACK = 16  # past this many mini-batch runs the weights of a 784-100-100-10 net leave a CPU's cache


@dataclass(frozen=True)
class Budget:
    """How long to train and how often to look. A full-batch iteration is one epoch.

    epochs: passes over the training data.  batch_size: rows of a mini-batch.
    evaluate_every: epochs between evaluations; a fraction for mini-batch methods.
    read_test: whether the test set is looked at; trials of a tuning do not.
    gradient_norm: whether evaluations take the norm of the training loss's gradient.
    alone: whether this is a timing of one run that has the device to itself: steps of a throw-away copy come first, so
    that nothing is counted or loaded under the clock, and evaluations carry the seconds of training so far.
    """

    epochs: int
    batch_size: int
    evaluate_every: float
    read_test: bool = True
    gradient_norm: bool = False
    alone: bool = False


@dataclass
class Result:
    """One finished run. `curve` has one entry per evaluation, the first before training; a diverged run's ends before.

    status: "done" or "diverged" (NaN or Inf in a parameter, first seen after iteration `diverged_at`).
    `train_seconds` and its like are the stack's, divided by its `stack_runs` runs: what the run cost, not how fast the
    method is. `seconds` are those of training a run alone, None unless `Budget.alone`.
    """

    status: str
    diverged_at: int | None
    iterations: int
    epochs: float
    parameter_updates: int
    gradient_evaluations: int
    flops: int
    train_seconds: float
    evaluate_seconds: float
    record_seconds: float
    stack_runs: int
    device: str
    seconds: float | None = None
    curve: list[dict[str, float]] = field(default_factory=list)


def train(
    method: Method,
    settings: Sequence[Any],
    seeds: Sequence[int],
    data: Data,
    hidden: Sequence[int],
    activation_name: str,
    init: str,
    budget: Budget,
    progress: Callable[[float], None] = lambda share: None,
    graphs: bool = False,
) -> list[Result]:
    """Train R = len(seeds) runs of one method together; where memory runs out, in halves.

    settings: one hyper-parameter dataclass per run, equal in all that is not a float.
    graphs: whether a GPU replays mini-batch steps as a CUDA graph. Full-batch steps have none and stay as they are.
    """
    graphs = graphs and not method.full_batch
    try:
        return _train_stack(method, settings, seeds, data, hidden, activation_name, init, budget, progress, graphs)
    except RuntimeError as error:
        if len(seeds) == 1 or not _out_of_memory(error):
            raise
    # Outside the handler: the traceback would keep the failed stack's tensors alive.
    if data.x.is_cuda:
        torch.cuda.empty_cache()
    half, results = len(seeds) // 2, []
    for part in (slice(0, half), slice(half, None)):
        done = len(results) / len(seeds)
        share = lambda s: progress(done + s * len(seeds[part]) / len(seeds))
        results += train(
            method, settings[part], seeds[part], data, hidden, activation_name, init, budget, share, graphs
        )
    return results


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _train_stack(
    method: Method,
    settings: Sequence[Any],
    seeds: Sequence[int],
    data: Data,
    hidden: Sequence[int],
    activation_name: str,
    init: str,
    budget: Budget,
    progress: Callable[[float], None],
    graphs: bool,
) -> list[Result]:
    device, act, R = data.x.device, activation(activation_name), len(seeds)
    clocks = Clocks(device)
    with clocks.on("record"):
        flops_of(lambda: torch.ones(1, 1) @ torch.ones(1, 1))  # loads the counter, seconds, once in a process
    widths = (data.x.shape[1], *hidden, data.classes)
    with clocks.on("record"):
        params, hp = initialise(widths, seeds, init, data.x.dtype, device), stack(settings, device)
        step_flops = _rehearse(method, params, hp, data, act, seeds, budget) // R if budget.alone else 0
    with clocks.on("train"):
        batches = None if method.full_batch else Batches(data.x, data.y, seeds=seeds, batch_size=budget.batch_size)
        problem = Problem(data.x, data.y, act, batches)
        state = method.init(problem, params, hp)
    per_epoch = 1 if method.full_batch else batches.per_epoch
    total, every = budget.epochs * per_epoch, max(1, round(budget.evaluate_every * per_epoch))
    alive = torch.ones(R, dtype=torch.bool, device=device)
    survived = torch.zeros(R, dtype=torch.int64, device=device)
    curve, at, seconds = [], [], []

    def evaluate_now(k: int) -> None:
        with clocks.on("evaluate"):
            curve.append(_evaluate(method, state, problem, hp, data, act, budget))
            at.append(k)
            seconds.append(clocks.seconds["train"])

    def one_step(k: int | Tensor, problem: Problem = problem) -> None:
        method.step(state, problem, hp, k)
        alive.logical_and_(method.parameters(state).finite())
        survived.add_(alive)

    evaluate_now(0)
    k, advance = 0, one_step
    while k < total:
        with clocks.on("train"):
            stop = min(k + every - k % every, total)
            while k < stop:
                if not budget.alone and k == min(1, total - 1):  # the second step: the first may lack what later ones carry over
                    step_flops = flops_of(lambda: one_step(k)) // R
                else:
                    if graphs and k == EAGER_STEPS:
                        advance = captured(one_step, state, problem)
                    advance(k)
                k += 1
        evaluate_now(k)
        progress(k / total)
        with clocks.on("record"):
            if not bool(alive.any()):
                break
    with clocks.on("record"):
        columns = {name: torch.stack([point[name] for point in curve]).cpu() for name in curve[0]}  # (evaluations, R)
        steps = survived.tolist()
    depth = len(widths) - 1
    updates, gradients = method.updates(depth, hp), method.gradients(depth, hp)
    counts = [
        dict(
            iteration=k,
            epoch=k / per_epoch,
            parameter_updates=k * updates,
            gradient_evaluations=k * gradients,
            flops=k * step_flops,
            **({"seconds": s} if budget.alone else {}),
        )
        for k, s in zip(at, seconds)
    ]
    results = []
    for r in range(R):
        diverged_at = steps[r] + 1 if steps[r] < k else None
        seen = [i for i, c in enumerate(counts) if c["iteration"] <= steps[r]]
        points = [counts[i] | {name: float(values[i, r]) for name, values in columns.items()} for i in seen]
        ran = diverged_at or k
        results.append(
            Result(
                status="diverged" if diverged_at else "done",
                diverged_at=diverged_at,
                iterations=ran,
                epochs=ran / per_epoch,
                parameter_updates=ran * updates,
                gradient_evaluations=ran * gradients,
                flops=ran * step_flops,
                train_seconds=clocks.seconds["train"] / R,
                evaluate_seconds=clocks.seconds["evaluate"] / R,
                record_seconds=clocks.seconds["record"] / R,
                stack_runs=R,
                device=_device_name(device, budget.alone) + (", CUDA graphs" if graphs else ""),
                seconds=clocks.seconds["train"] if budget.alone else None,
                curve=points,
            )
        )
    return results


def _rehearse(
    method: Method, params: Parameters, hp: Any, data: Data, act: Activation, seeds: Sequence[int], budget: Budget
) -> int:
    """Steps of a throw-away state, which pay for what only first steps cost; returns the FLOPs of the second step."""
    batches = None if method.full_batch else Batches(data.x, data.y, seeds=seeds, batch_size=budget.batch_size)
    problem = Problem(data.x, data.y, act, batches)
    state = method.init(problem, params.clone(), hp)
    method.step(state, problem, hp, 0)
    flops = flops_of(lambda: method.step(state, problem, hp, 1))
    for k in range(2, 2 + (WARM_ITERATIONS if method.full_batch else WARM_BATCHES)):
        method.step(state, problem, hp, k)
    return flops


def _evaluate(
    method: Method, state: Any, problem: Problem, hp: Any, data: Data, act: Activation, budget: Budget
) -> dict[str, Tensor]:
    """Named values of all runs, each (R,) float64 on the device."""
    params = method.parameters(state)
    rows = min(TRAIN_LOSS_ROWS, len(data.x))
    point = dict(
        val_accuracy=metrics(params, data.x_val, data.y_val, act)[0],
        train_loss=metrics(params, data.x[:rows], data.y[:rows], act)[1],
    )
    if budget.read_test:
        point["test_accuracy"] = metrics(params, data.x_test, data.y_test, act)[0]
    if method.objective:
        point["objective"] = method.objective(state, problem, hp)
    if budget.gradient_norm:
        point["gradient_norm"] = gradient_norm(params, data.x[:rows], data.y[:rows], act)
    gap = constraint_gap(method.variables(state), act)
    return point if gap is None else point | {"constraint_gap": gap}


def metrics(params: Parameters, x: Tensor, y: Tensor, act: Activation) -> tuple[Tensor, Tensor]:
    """Accuracy and mean cross-entropy of R networks on (N, d0) images, each (R,) float64, in chunks of rows."""
    R, widest = params.runs, max(params.widths[1:])
    chunk = max(1, EVALUATION_BYTES // (R * widest * x.element_size() * 3))
    correct = torch.zeros(R, dtype=torch.float64, device=x.device)
    loss = torch.zeros_like(correct)
    for start in range(0, len(x), chunk):
        part = y[start : start + chunk]
        logits = forward(x[start : start + chunk], params, act)[-1]
        correct += (logits.argmax(2) == part).sum(1)
        each = F.cross_entropy(logits.flatten(0, 1), part.repeat(R), reduction="none")
        loss += each.view(R, -1).sum(1, dtype=torch.float64)
    return correct / len(x), loss / len(x)


def gradient_norm(params: Parameters, x: Tensor, y: Tensor, act: Activation) -> Tensor:  # -> (R,) float64
    """Euclidean norm, over all parameters, of the mean cross-entropy's gradient on (N, d0) images."""
    flat = params.flattened()
    total = view_layers(torch.zeros_like(flat.flat), flat.widths)
    part = view_layers(torch.zeros_like(flat.flat), flat.widths)
    for rows in range(0, len(x), GRADIENT_ROWS):
        images = x[rows : rows + GRADIENT_ROWS]
        backpropagate(images, y[rows : rows + GRADIENT_ROWS], params, act, part)
        total.flat.add_(part.flat, alpha=len(images) / len(x))
    return torch.linalg.vector_norm(total.flat.double(), dim=(1, 2))


def constraint_gap(variables: dict[str, Tensor], act: Activation) -> Tensor | None:  # -> (R,) float64
    """Root mean square of a_l - h(z_l) over hidden units and samples: how far the relaxed network is from a network.

    None for methods that keep no z_l and a_l.
    """
    total, count, l = 0.0, 0, 1
    while f"a{l}" in variables and f"z{l}" in variables:
        a, z = variables[f"a{l}"], variables[f"z{l}"]
        total = total + (a - act.value(z)).square().sum((1, 2), dtype=torch.float64)
        count, l = count + a[0].numel(), l + 1
    return (total / count).sqrt() if count else None


def run_bytes(method: Method, widths: Sequence[int], n_train: int, batch_size: int) -> int:
    """Bytes that one more run of a stack needs at the most, by its sizes."""
    parameters = sum(a * b for a, b in zip(widths, widths[1:]))
    rows = n_train if method.full_batch else batch_size
    # Live at once: z, a, their last iterates and temporaries of a step; parameters with moments and gradients.
    return 4 * (rows * (12 * sum(widths[1:]) + (0 if method.full_batch else 2 * widths[0])) + 10 * parameters)


def largest_stack(method: Method, widths: Sequence[int], n_train: int, batch_size: int, device: torch.device) -> int:
    """How many runs to train together: what the machine's memory holds, and on a CPU what its cache likes."""
    per_run = run_bytes(method, widths, n_train, batch_size)
    if device.type == "cuda":
        memory, cap = torch.cuda.get_device_properties(device).total_memory, 1024
    else:
        memory, cap = physical_memory(), CPU_STACK
    shared = 4 * n_train * widths[0] * 2
    return max(1, min(cap, int((0.4 * memory - shared) / per_run)))


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _device_name(device: torch.device, timed: bool) -> str:
    """What the run was trained on; seconds on a CPU mean nothing without its name and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {torch.get_num_threads()} threads" if timed else "cpu"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
