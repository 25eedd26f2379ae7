"""What is measured of a run: accuracy, loss, gradient norm and gap of the constraints. Methods see none of it."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from am.activations import Activation
from am.backprop import backpropagate
from am.data import Data
from am.method import Method, Problem
from am.networks import Parameters, forward, view_layers

TRAIN_LOSS_ROWS = 10_000  # the training loss is evaluated on the first rows of the training part, at the most so many
GRADIENT_ROWS = 2_048  # of one block of a gradient over many rows
EVALUATION_BYTES = 256 * 2**20  # activations of one evaluation chunk


def evaluate(
    method: Method,
    state: Any,
    problem: Problem,
    hp: SimpleNamespace,
    data: Data,
    read_test: bool = True,
    with_gradient_norm: bool = False,
) -> dict[str, Tensor]:
    """Named values of all runs, each (R,) float64 on the device."""
    params, act = method.parameters(state), problem.activation
    rows = min(TRAIN_LOSS_ROWS, len(data.x))
    point = dict(
        val_accuracy=metrics(params, data.x_val, data.y_val, act)[0],
        train_loss=metrics(params, data.x[:rows], data.y[:rows], act)[1],
    )
    if read_test:
        point["test_accuracy"] = metrics(params, data.x_test, data.y_test, act)[0]
    if method.by_hand.objective:
        point["objective"] = method.by_hand.objective(state, problem, hp)
    if with_gradient_norm:
        point["gradient_norm"] = gradient_norm(params, data.x[:rows], data.y[:rows], act)
    gap = constraint_gap(method.by_hand.variables(state), act)
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
    total: Any = 0.0
    count, l = 0, 1
    while f"a{l}" in variables and f"z{l}" in variables:
        a, z = variables[f"a{l}"], variables[f"z{l}"]
        total = total + (a - act.value(z)).square().sum((1, 2), dtype=torch.float64)
        count, l = count + a[0].numel(), l + 1
    return (total / count).sqrt() if count else None
