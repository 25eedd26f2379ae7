"""What a user gives by hand, made into tensors: accepted where it is plain what is meant, else one sentence.

Numbers of Python and NumPy keep their precision, so that a list of Python's floats is float64. Nothing is written to
what was given.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from am.errors import InputError
from am.networks import Parameters

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def numbers(value: Any, what: str) -> Tensor:
    """A tensor of real numbers that shares no gradient with what was given; raises InputError where it is none."""
    try:
        if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
            value = torch.stack([torch.as_tensor(v) for v in value])
        if not isinstance(value, Tensor):
            # A copy: an array may be read-only, reversed or of foreign byte order, which tensors cannot be.
            array = np.array(value)
            value = torch.as_tensor(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{what} must be numbers in a tensor, an array or nested lists of one shape.") from None
    if value.is_complex() or value.layout is not torch.strided:
        raise InputError(f"{what} must be dense real numbers, not {value.dtype} in layout {value.layout}.")
    return value.detach()


def samples(x: Any) -> Tensor:  # -> (N, d0)
    """x as float32 or float64 rows; raises InputError for integers, whose scaling is the caller's to choose."""
    x = numbers(x, "x")
    if x.dim() != 2 or not x.numel():
        hint = "; flatten each sample: x.reshape(len(x), -1)" if x.dim() > 2 and x.numel() else ""
        raise InputError(f"x must be (N, d0), one row a sample, not {(*x.shape,)}{hint}.")
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(f"x must be floating, not {kind}; convert and scale it first, for example x / 255.0.")
    x = x if x.dtype == torch.float64 else x.float()
    finite = x.isfinite().all(1)
    if not finite.all():
        raise InputError(
            f"x has NaN or infinite values in {int((~finite).sum())} rows, first in row {int(finite.int().argmin())}."
        )
    return x


def labels(y: Any, rows: int, classes: int) -> Tensor:  # -> (N,) int64
    """y as class numbers, from (N,), a column (N, 1) or one-hot rows (N, classes), of any dtype with whole numbers."""
    y = numbers(y, "y")
    if y.shape == (rows, 1):
        y = y[:, 0]
    elif y.shape == (rows, classes):
        if not bool((((y == 0) | (y == 1)).all(1) & ((y != 0).sum(1) == 1)).all()):
            raise InputError("y must be class numbers or one-hot rows; these rows are not one-hot.")
        y = y.to(torch.uint8).argmax(1)
    whole = y.to(torch.int64)
    if y.shape != (rows,) or not bool((whole == y).all() & (whole >= 0).all() & (whole < classes).all()):
        found = f"found shape {(*y.shape,)}" if y.shape != (rows,) else f"found {y.min().item()} to {y.max().item()}"
        raise InputError(f"labels must be {rows} class numbers in [0, {classes - 1}], one for each row of x; {found}.")
    return whole


def network(weights: Any, biases: Any, x: Tensor) -> tuple[Parameters, bool]:  # x: (N, d0)
    """Parameters of new tensors in the dtype and on the device of x, and whether they came without a run axis."""
    if isinstance(weights, torch.nn.Module):
        raise InputError(
            "weights must be a list of matrices, not a module; of a torch.nn.Sequential give "
            "[layer.weight for layer in model if hasattr(layer, 'weight')], and biases likewise."
        )
    if biases is None:
        raise InputError("biases are missing; give one vector for each layer, zeros for none.")
    try:
        named = [[(f"{kind}{l}", u) for l, u in enumerate(us, 1)] for kind, us in (("W", weights), ("b", biases))]
    except TypeError:
        raise InputError("weights and biases must be lists, one matrix and one vector for each layer.") from None
    W, b = ([numbers(u, name).to(x.device, x.dtype, copy=True) for name, u in layers] for layers in named)
    lead = tuple(W[0].shape[:-2]) if W else ()
    widths = (x.shape[1], *(w.shape[-2] if w.dim() > 1 else 0 for w in W))
    chains = [w.shape == (*lead, d_out, d_in) for w, d_in, d_out in zip(W, widths, widths[1:])]
    # A column or a row is the vector that it holds.
    vectors = [v.shape in ((*lead, d), (*lead, d, 1), (*lead, 1, d)) for v, d in zip(b, widths[1:])]
    if not W or len(lead) > 1 or len(b) != len(W) or not all(chains + vectors) or 0 in (*lead, *widths):
        found = [[tuple(t.shape) for t in ts] for ts in (W, b)]
        raise InputError(
            f"weights {found[0]} and biases {found[1]} do not chain from {x.shape[1]} inputs; "
            "W_l is (d_l, d_{l-1}) and b_l (d_l,), all with one axis R before where runs are stacked."
        )
    for (name, _), u in zip([*named[0], *named[1]], [*W, *b]):
        if not u.isfinite().all():
            raise InputError(f"{name} has NaN or infinite values, as {str(u.dtype).removeprefix('torch.')} like x.")
    R = lead[0] if lead else 1
    W = [w.reshape(R, *w.shape[-2:]) for w in W]
    return Parameters(W, [v.reshape(R, 1, -1) for v in b]), not lead


def one_per_run(value: Any, runs: int, what: str) -> list:
    """The value of a hyper-parameter for each run, from one for all or from one each."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return [value] * runs
    if len(value) != runs:
        raise InputError(f"{what} has {len(value)} values for {runs} {'run' if runs == 1 else 'runs'}.")
    return [v.item() if isinstance(v, (Tensor, np.ndarray, np.generic)) and v.ndim == 0 else v for v in value]


def batches(given: Any, rows: int) -> Tensor:  # -> (K, B) int64
    """Row numbers of mini-batches of one size."""
    if isinstance(given, Sequence) and len({len(b) for b in given if hasattr(b, "__len__")}) > 1:
        raise InputError("batches must all have one size; leave out or fill the one that is shorter.")
    found = numbers(given, "batches")
    whole = found.dtype in INTEGERS
    if not whole or found.dim() != 2 or not found.numel() or found.min() < 0 or found.max() >= rows:
        kind = str(found.dtype).removeprefix("torch.")
        raise InputError(
            f"batches must be a (K, B) list of row numbers in [0, {rows - 1}], not {kind} of shape {(*found.shape,)}"
            + (f" from {found.min()} to {found.max()}." if whole and found.numel() else ".")
        )
    return found.to(torch.int64)
