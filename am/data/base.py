"""What a data set is: before it is read, as it is in its file, and ready to train on; and the folder of the files."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CLASSES = 10  # of every known set
Parts = Sequence[tuple[np.ndarray, np.ndarray]]  # images and labels of the training and of the test part


class Size(NamedTuple):
    """How large a copy of a data set is. inputs: d0.  rows, test: all training and all test rows."""

    inputs: int
    rows: int
    test: int = 0
    classes: int = CLASSES


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before its images are read.

    shape: of one image, (height, width) or (height, width, channels), or (d,) of d features.
    train, test: the official numbers of rows.  fingerprint: the official one, where it is known.
    download: gives both parts of the files that it puts, or finds, in a folder, in torchvision's layout; None where
    NAME.npz must be given.  layout: what that layout has in a folder.
    embedded: makes the four arrays of a set that comes with an installed package and has no file.
    kind: of its numbers: uint8, float32 or float64.  own: of the user, found in the data folder.
    source: where it comes from, in words.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    train: int
    test: int
    classes: int = CLASSES
    fingerprint: str = ""
    download: Callable[[str], Parts] | None = None
    layout: tuple[str, ...] = ()
    embedded: Callable[[], dict[str, np.ndarray]] | None = None
    kind: str = "uint8"
    own: bool = False
    source: str = ""

    @property
    def inputs(self) -> int:
        """d0, the length of a flattened image."""
        return math.prod(self.shape)

    def size(self, rows: int) -> Size:
        """Of a copy with so many training rows."""
        return Size(self.inputs, rows, self.test, self.classes)


@dataclass(frozen=True, eq=False)
class Images:
    """A data set as it was published: pixels 0 .. 255 or features, labels 0 .. classes - 1. The arrays are read-only.

    fingerprint: sha256 of the four arrays.  official: whether they are those that its authors published.
    """

    name: str
    x_train: np.ndarray  # (N, height, width[, channels]) uint8, or (N, d) uint8 or float
    y_train: np.ndarray  # (N,) int64
    x_test: np.ndarray
    y_test: np.ndarray
    fingerprint: str
    official: bool
    classes: int


@dataclass(frozen=True, eq=False)
class Data:
    """A data set ready to train on: one tensor on the device for each part; an image is a row.

    shape: of one image, as `Dataset` has it.
    """

    name: str
    x: Tensor  # (N, d0)
    y: Tensor  # (N,) int64
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    fingerprint: str
    official: bool
    classes: int
    shape: tuple[int, ...] = ()


def from_torchvision(kind: str) -> Callable[[str], Parts]:
    """The `download` of a set that torchvision has as the class `kind`, verified by its checksums."""

    def download(folder: str) -> Parts:
        from torchvision import datasets

        parts = [getattr(datasets, kind)(folder, train=train, download=True) for train in (True, False)]
        return [(np.asarray(part.data), np.asarray(part.targets)) for part in parts]

    return download


_FOLDER: ContextVar[str | Path | None] = ContextVar("_FOLDER", default=None)


def data_folder(folder: str | Path | None = None) -> Path:
    """The folder of prepared files: the argument, else that of `in_folder`, else AM_DATA, else "data"; ~ is home."""
    return Path(os.path.expanduser(folder or _FOLDER.get() or os.environ.get("AM_DATA") or "data"))


@contextlib.contextmanager
def in_folder(folder: str | Path | None) -> Iterator[None]:
    """Where no folder is given, this one is meant; None changes nothing."""
    token = _FOLDER.set(folder or _FOLDER.get())
    try:
        yield
    finally:
        _FOLDER.reset(token)
