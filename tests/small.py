"""Small data, and runs of the training loop on it."""

import dataclasses

import torch

from am.data import Data
from am.methods import method
from am.training import Budget, train

INPUTS, HIDDEN, CLASSES, TRAIN = 6, (8, 5), 4, 43
DEPTH, BATCH = 3, 8
BUDGET = Budget(epochs=3, batch_size=BATCH, evaluate_every=1)
PER_EPOCH = TRAIN // BATCH  # 5, and three rows are left over


def small_data(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Data:
    """Points in a cube, labelled by a random linear map."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(INPUTS, CLASSES, generator=generator)

    def part(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(rows, INPUTS, generator=generator)
        return x.to(device, dtype), (x - 0.5).mm(teacher).argmax(1).to(device)

    return Data("small", *part(TRAIN), *part(17), *part(29), fingerprint="", official=False, classes=CLASSES)


def run(name, data=None, seeds=(0, 1, 2), budget=None, settings=None, method_=None, **options):
    chosen = method_ or method(name)
    settings = settings or [chosen.settings()] * len(seeds)
    budget = budget or BUDGET
    data = data or small_data()
    how = dict(hidden=HIDDEN, activation_name="relu", init="he", budget=budget) | options
    return train(chosen, settings, list(seeds), data, **how)


def without_time(result) -> dict:
    return {k: v for k, v in dataclasses.asdict(result).items() if not k.endswith("seconds")}
