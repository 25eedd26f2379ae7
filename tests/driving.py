"""Runs that are driven by hand, and the sentence with which a call is refused."""

import re

import numpy as np
import pytest
import torch
from conftest import BATCH, ROWS, WIDTHS, tiny_data

from am import start
from am.errors import InputError
from am.methods import methods
from am.networks import initialise

BATCHES = torch.arange(ROWS).view(-1, BATCH)


def weights_and_biases(runs: int | None = None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of one network without a run axis, or of R."""
    params = initialise(WIDTHS, range(runs or 1), "normal(0.5)", torch.float64)
    if runs:
        return params.W, [b[:, 0] for b in params.b]
    return [W[0] for W in params.W], [b[0, 0] for b in params.b]


def driven(name: str, runs: int | None = None, **options):
    x, y = tiny_data()
    return start(name, x, y, *weights_and_biases(runs), **(batches_for(name) | options))


def batches_for(name: str) -> dict:
    """batches=, for those that need them."""
    return {} if name in methods() and methods()[name].full_batch else {"batches": BATCHES}


def refusal(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    sentence = str(error.value)
    assert re.fullmatch(r"[^\n]+[.?]", sentence), sentence
    return sentence


def data() -> tuple:
    """x (6, 2), y of 3 classes, W and b of a 2-4-3 network, as lists of NumPy arrays."""
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 2)), np.array([0, 1, 2, 0, 1, 2])
    return x, y, [rng.normal(size=(4, 2)), rng.normal(size=(3, 4))], [rng.normal(size=4), rng.normal(size=3)]


def given(name: str = "sgd", **changes):
    """A run on `data`, each named argument changed by its function, or replaced."""
    x, y, W, b = data()
    arguments = dict(x=x, y=y, weights=W, biases=b) | ({"batches": [[0, 1, 2], [3, 4, 5]]} if name != "tiam" else {})
    for key, change in changes.items():
        arguments[key] = change(arguments[key]) if callable(change) and key in arguments else change
    return start(name, **arguments)
