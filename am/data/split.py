"""From images to what is trained on: some are held out, their numbers are scaled, all of it is on the device."""

import numpy as np
import torch
from torch import Tensor

from am.data.base import Data, Images
from am.data.sets import DATASETS
from am.errors import InputError, unknown

INPUTS = ("unit", "standardised")
HELD_OUT_SEED = 0  # of the validation images and of the order of the rest; no run's seed changes either


def held_out_size(n: int) -> int:
    """How many of n training images are held out as validation: 5,000, or a tenth where there are under 50,000."""
    return 5_000 if n >= 50_000 else n // 10


def training_rows(rows: int, n_train: int = 0) -> int:
    """How many of a copy's `rows` training images are trained on where at the most n_train are asked for (0: all)."""
    available = rows - held_out_size(rows)
    return min(n_train or available, available)


def full_rows(name: str, rows: int) -> int:
    """N_full of SPEC 8, the training rows that published constants belong to, for a copy with `rows` training images.

    The official training part less what is held out, also where the copy has fewer rows. Of a set of one's own the file
    has the official part.
    """
    return training_rows(max(rows, DATASETS[name].train) if name in DATASETS else rows)


def prepare(
    images: Images,
    n_train: int | None = None,
    inputs: str = "unit",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Data:
    """Hold out the validation images, scale the pixels and lay everything on the device.

    One permutation, the same for every run, splits the training images: its head is held out and the training part is
    the first `n_train` of the rest (None: all), so smaller parts lie in larger ones and the held-out never changes.
    inputs: "unit" scales pixels to [0, 1] and leaves floats as they are; "standardised" then subtracts the mean and
    divides by the standard deviation, of each channel of images and of each feature of floats, computed from all
    training images that are not held out, whatever n_train. On MNIST they are 0.1307 and 0.3081 to three digits, the
    usual constants. What never changes becomes 0.
    Raises InputError for a number of images that is not there and for an unknown scaling.
    """
    if inputs not in INPUTS:
        raise unknown("inputs", inputs, INPUTS)
    total = len(images.x_train)
    order = np.random.RandomState(HELD_OUT_SEED).permutation(total)  # a stream that numpy promises never to change
    held_out, rest = np.split(order, [held_out_size(total)])
    if n_train is not None and not 1 <= n_train <= len(rest):
        raise InputError(
            f"{images.name} has {len(rest)} training images beside the {len(held_out)} held out; "
            f"n_train must lie in [1, {len(rest)}], not {n_train}."
        )
    measure = _channel_mean_sd if images.x_train.dtype == np.uint8 else _feature_mean_sd
    mean_sd = measure(images.x_train, rest) if inputs == "standardised" else None

    def part(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        if x.dtype == np.uint8:
            # Bytes cross to the device, a quarter of the floats.
            scaled = _scale(torch.from_numpy(x[rows]).to(device), mean_sd, dtype)
        else:
            # In float64: large features that differ little would lose their digits.
            mean, sd = mean_sd or (0.0, 1.0)
            scaled = torch.from_numpy((_flat(x[rows]) - mean) / sd).to(device, dtype)
        return scaled, torch.from_numpy(y[rows]).to(device)

    x, y = part(images.x_train, images.y_train, rest[:n_train])
    x_val, y_val = part(images.x_train, images.y_train, held_out)
    x_test, y_test = part(images.x_test, images.y_test, np.arange(len(images.x_test)))
    same = images.fingerprint, images.official, images.classes
    return Data(images.name, x, y, x_val, y_val, x_test, y_test, *same, images.x_train.shape[1:])


def _scale(pixels: Tensor, mean_sd: tuple[np.ndarray, np.ndarray] | None, dtype: torch.dtype) -> Tensor:
    """uint8 images (N, height, width[, channels]) as rows (N, d0), scaled in place after the one conversion."""
    x = pixels.to(dtype).div_(255)
    if mean_sd is not None:
        mean, sd = (torch.from_numpy(v).to(x) for v in mean_sd)
        x.view(len(x), -1, len(mean)).sub_(mean).div_(sd)
    return x.view(len(x), -1)


def _channel_mean_sd(x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # -> (C,), (C,) float64
    """Mean and standard deviation of each channel of the images at `rows`, after scaling to [0, 1]; 1 in place of 0."""
    channels = x.shape[3] if x.ndim == 4 else 1
    counts = np.zeros((channels, 256))
    for start in range(0, len(rows), 4_000):  # counting widens every byte to eight: a piece at a time
        piece = x[rows[start : start + 4_000]].reshape(-1, channels)
        counts += [np.bincount(piece[:, c], minlength=256) for c in range(channels)]
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    # By counts, for rounding may leave a constant channel a variance above 0.
    return mean, np.where((counts > 0).sum(1) > 1, np.sqrt(variance), 1.0)


def _feature_mean_sd(x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # -> (d0,), (d0,) float64
    """Mean and standard deviation of each feature of the rows; 1 in place of 0."""
    chosen = _flat(x[rows])
    return chosen.mean(0), np.where(chosen.min(0) < chosen.max(0), chosen.std(0), 1.0)


def _flat(x: np.ndarray) -> np.ndarray:  # (N, ...) -> (N, d0) float64
    return x.reshape(len(x), -1).astype(np.float64)
