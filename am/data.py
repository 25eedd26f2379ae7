"""Named data sets: fetched once, checked, fingerprinted, and laid on the device as one tensor (no DataLoader).

A data folder holds one NAME.npz a set: uint8 arrays x_train, y_train, x_test, y_test. It is the argument `folder`, else
the environment's AM_DATA, else "data" in the current folder. What is missing is downloaded by torchvision and prepared
there; a file that is there is never overwritten. `digits` is scikit-learn's embedded set and has no file.

A set is official when its arrays are the ones its authors published: mnist, fashion_mnist and digits by fingerprint;
cifar10 and svhn, whose official fingerprints are not known here, only when the file says that it was prepared from
torchvision's checksum-verified download and has the official numbers of images.
"""

import contextlib
import functools
import hashlib
import io
import math
import os
import socket
import tempfile
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from am.errors import InputError, unknown

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
INPUTS = ("unit", "standardised")
HELD_OUT_SEED = 0  # of the validation images and of the order of the rest; no run's seed changes either
DIGITS_SEED = 0  # of the split of digits
TIMEOUT = 10.0  # seconds without an answer from a server


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is read.

    shape: of one image, (height, width) or (height, width, channels).  train, test: the official numbers of images.
    torchvision: its class there, to download it; "" where that has none and NAME.npz must be given.
    fingerprint: the official one, where it is known.
    embedded: makes the four arrays of a set that comes with an installed package and has no file.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    train: int
    test: int
    torchvision: str = ""
    fingerprint: str = ""
    classes: int = 10
    embedded: Callable[[], dict[str, np.ndarray]] | None = None

    @property
    def inputs(self) -> int:
        """d0, the length of a flattened image."""
        return math.prod(self.shape)


def _digits() -> dict[str, np.ndarray]:
    """scikit-learn's digits: 1,437 training and 360 test images, every class in the same proportion in both."""
    from sklearn.datasets import load_digits

    bunch, random = load_digits(), np.random.RandomState(DIGITS_SEED)
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # scikit-learn's pixels are 0 .. 16
    y = bunch.target
    order = random.permutation(len(x))
    by_class = order[np.argsort(y[order], kind="stable")]
    test = by_class[::5]
    train = random.permutation(np.setdiff1d(by_class, test))
    return dict(zip(ARRAYS, (x[train], y[train], x[test], y[test])))


# mnist, fashion_mnist: of arrays whose IDX files have the MD5 sums published for the uncompressed originals.
_MNIST = "d027fbe1abd1b831f98a0eb34db848e8c6bc33f517b3d16117c2c12cb0dbff20"
_FASHION_MNIST = "dc8069c218f5ab9d11dc3610d390dc7a09ea161adcdfda93735f8c0900f2c9a1"
_DIGITS = "b8a0e6cb60b97e6f8d1350900fc35af35b67a4759658b4b255cbd11f65d1b0a7"

DATASETS = {
    d.name: d
    for d in (
        Dataset("mnist", "MNIST", (28, 28), 60_000, 10_000, "MNIST", _MNIST),
        Dataset("fashion_mnist", "Fashion-MNIST", (28, 28), 60_000, 10_000, "FashionMNIST", _FASHION_MNIST),
        Dataset("cifar10", "CIFAR-10", (32, 32, 3), 50_000, 10_000, "CIFAR10"),
        Dataset("svhn", "SVHN", (32, 32, 3), 73_257, 26_032, "SVHN"),
        Dataset("digits", "digits", (8, 8), 1_437, 360, fingerprint=_DIGITS, embedded=_digits),
    )
}
NAMES = tuple(DATASETS)


def dataset(name: str) -> Dataset:
    """The data set of that name; raises InputError with the nearest valid one."""
    try:
        return DATASETS[name]
    except KeyError:
        raise unknown("data set", name, NAMES) from None


@dataclass(frozen=True, eq=False)
class Images:
    """A data set as it was published: pixels 0 .. 255, labels 0 .. classes - 1. The arrays are read-only.

    fingerprint: sha256 of the four arrays.  official: see the module.
    """

    name: str
    x_train: np.ndarray  # (N, height, width[, channels]) uint8
    y_train: np.ndarray  # (N,) int64
    x_test: np.ndarray
    y_test: np.ndarray
    fingerprint: str
    official: bool
    classes: int


@dataclass(frozen=True, eq=False)
class Data:
    """A data set ready to train on: one tensor on the device for each part; an image is a row."""

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


def data_folder(folder: str | Path | None = None) -> Path:
    """The folder of prepared files: the argument, else AM_DATA, else "data"; ~ is the home folder."""
    return Path(os.path.expanduser(folder or os.environ.get("AM_DATA") or "data"))


def missing(names: Iterable[str], folder: str | Path | None = None) -> list[str]:
    """Those of the sets whose file is not there; nothing is downloaded. Raises InputError for an unknown name."""
    return [name for name in names if not dataset(name).embedded and not os.path.exists(_path(name, folder))]


def ensure(
    names: Iterable[str], folder: str | Path | None = None, announce: Callable[[str], None] = lambda text: None
) -> None:
    """Fetch what is missing and check every set, so that nothing stops later.

    announce is told of each download before it starts.
    Raises one InputError with a sentence, on a line of its own, for each set that is missing or unusable.
    """
    problems = []
    for name in dict.fromkeys(names):
        try:
            if missing([name], folder) and dataset(name).torchvision:
                announce(f"Downloading {dataset(name).title} to {_path(name, folder)}")
            identity_of(name, folder)
        except InputError as problem:
            problems.append(str(problem))
    if problems:
        raise InputError("\n".join(problems))


def load(name: str, folder: str | Path | None = None) -> Images:
    """The data set, downloaded first if its file is missing.

    Raises InputError for an unknown name, a set that can neither be found nor downloaded, a corrupt file, and a file
    that holds another set's official images.
    """
    return _embedded(name) if dataset(name).embedded else _read(name, *_file(name, folder))


class Identity(NamedTuple):
    """What tells one copy of a data set from another, without its images. rows: all training images of the copy."""

    fingerprint: str
    official: bool
    rows: int


def identity_of(name: str, folder: str | Path | None = None) -> Identity:
    """The identity of the set at hand; errors as in `load`. Unchanged files are read only once."""
    if dataset(name).embedded:
        return _identity_of(_embedded(name))
    return _identity(name, *_file(name, folder))


def fingerprint(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> str:
    """sha256 over name, type, shape and values of the four arrays, whatever the compression or type of the labels."""
    digest = hashlib.sha256()
    for key, array in zip(ARRAYS, (x_train, y_train, x_test, y_test)):
        kind = "uint8" if key.startswith("x") else "int64"
        digest.update(f"{key} {kind} {array.shape}\n".encode())
        # Little-endian, so that the bytes are the same on every machine.
        digest.update(np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).reshape(-1).data)
    return digest.hexdigest()


def fetch(name: str, folder: str | Path | None = None) -> Path:
    """Download the official files with torchvision and prepare NAME.npz from them; returns its path.

    The file appears whole or not at all. One that is there already is left as it is.
    Raises InputError when there is no download or it fails, saying what to put where, and when the folder cannot be
    written.
    """
    spec, path = dataset(name), _path(name, folder)
    if spec.embedded:
        raise InputError(f"data set '{name}' is embedded in an installed package; there is nothing to download.")
    if not missing([name], folder):
        return path
    if not spec.torchvision:
        raise InputError(f"{name}: {path} is missing and has no download; {_wanted(spec)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as place:
            arrays = _download(spec, place, path)
            part = Path(place, "prepared.npz")
            with open(part, "wb") as f:
                np.savez(f, **arrays, source=np.array("torchvision"))  # type: ignore[arg-type]
                f.flush()
                os.fsync(f.fileno())
            os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({_reason(error)}); choose another data folder.") from error
    return path


def held_out_size(n: int) -> int:
    """How many of n training images are held out as validation: 5,000, or a tenth where there are under 50,000."""
    return 5_000 if n >= 50_000 else n // 10


def training_rows(rows: int, n_train: int = 0) -> int:
    """How many of a copy's `rows` training images are trained on where at the most n_train are asked for (0: all)."""
    available = rows - held_out_size(rows)
    return min(n_train or available, available)


def full_rows(name: str, rows: int) -> int:
    """N_full of SPEC 8, the training rows that published constants belong to, for a copy with `rows` training images.

    The official training part less what is held out, also where the copy has fewer rows.
    """
    return training_rows(max(rows, dataset(name).train))


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
    inputs: "unit" scales pixels to [0, 1]; "standardised" then subtracts the mean and divides by the standard deviation
    of each channel, computed from all training images that are not held out, whatever n_train. On MNIST they are
    0.1307 and 0.3081 to three digits, the usual constants. A channel that never changes becomes 0.
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
    mean_sd = _channel_mean_sd(images.x_train, rest) if inputs == "standardised" else None

    def part(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(x[rows]).to(device)  # bytes cross to the device, a quarter of the floats
        return _scale(pixels, mean_sd, dtype), torch.from_numpy(y[rows]).to(device)

    x, y = part(images.x_train, images.y_train, rest[:n_train])
    x_val, y_val = part(images.x_train, images.y_train, held_out)
    x_test, y_test = part(images.x_test, images.y_test, np.arange(len(images.x_test)))
    same = images.fingerprint, images.official, images.classes
    return Data(images.name, x, y, x_val, y_val, x_test, y_test, *same)


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


def _path(name: str, folder: str | Path | None) -> Path:
    return data_folder(folder) / f"{name}.npz"


def _file(name: str, folder: str | Path | None) -> tuple[Path, int, int]:
    """Path, time of change and size: what tells a changed file from one that was read before."""
    path = fetch(name, folder).resolve()
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size


@functools.cache
def _identity(name: str, path: Path, changed: int, size: int) -> Identity:
    return _identity_of(_read(name, path, changed, size))


def _identity_of(images: Images) -> Identity:
    return Identity(images.fingerprint, images.official, len(images.x_train))


@functools.cache
def _embedded(name: str) -> Images:
    spec = dataset(name)
    assert spec.embedded
    return _images(spec, spec.embedded(), source="")


@functools.lru_cache(maxsize=1)  # grids walk set by set; all four together would hold up to 600 MB
def _read(name: str, path: Path, changed: int, size: int) -> Images:
    spec = DATASETS[name]
    try:
        zipfile.ZipFile(path).close()  # numpy takes whatever is no archive for a pickle
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key], order="C") for key in ARRAYS if key in file}
            source = str(file["source"]) if "source" in file else ""
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} cannot be read ({_reason(error)}).") from error
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly anything
        raise _unusable(spec, path, f"is not a readable .npz file ({_reason(error)})") from error
    problem = _problem(spec, arrays)
    if not problem:
        images = _images(spec, arrays, source)
        others = [d.title for d in DATASETS.values() if d is not spec and d.fingerprint == images.fingerprint]
        problem = f"holds the images of {others[0]}, not of {spec.title}" if others else None
    if problem:
        raise _unusable(spec, path, problem)
    return images


def _unusable(spec: Dataset, path: Path, problem: str) -> InputError:
    again = ", or delete it and run again to download it" if spec.torchvision else ""
    return InputError(f"{path} {problem}; replace it{again}.")


def _problem(spec: Dataset, arrays: dict[str, np.ndarray]) -> str | None:
    """What keeps the arrays from being this data set, or None."""
    if lacking := [key for key in ARRAYS if key not in arrays]:
        return f"lacks {' and '.join(lacking)}"
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype != np.uint8 or x.shape[1:] != spec.shape:
            wanted = ", ".join(map(str, ("N", *spec.shape)))
            return f"holds x_{part} as {x.dtype} {x.shape}, not uint8 ({wanted})"
        if y.dtype.kind not in "iu" or y.ndim != 1:
            return f"holds y_{part} as {y.dtype} {y.shape}, not uint8 (N,)"
        if len(x) < 10:
            return f"holds only {len(x)} images in x_{part}"
        if len(x) != len(y):
            return f"holds {len(x)} images in x_{part} but {len(y)} labels in y_{part}"
        if y.min() < 0 or y.max() >= spec.classes:
            return f"holds labels {y.min()} to {y.max()} in y_{part}, outside 0 to {spec.classes - 1}"
    return None


def _images(spec: Dataset, arrays: dict[str, np.ndarray], source: str) -> Images:
    """The checked arrays with their fingerprint."""
    values = [a.astype(np.int64) if key.startswith("y") else a for key, a in arrays.items()]
    x_train, y_train, x_test, y_test = values
    mark = fingerprint(x_train, y_train, x_test, y_test)
    if spec.fingerprint:
        official = mark == spec.fingerprint
    else:
        official = source == "torchvision" and (len(x_train), len(x_test)) == (spec.train, spec.test)
    for array in values:
        array.flags.writeable = False
    return Images(spec.name, x_train, y_train, x_test, y_test, mark, official, spec.classes)


def _download(spec: Dataset, place: str, path: Path) -> dict[str, np.ndarray]:
    """The four arrays, uint8, from torchvision's checksum-verified files, which are put in the folder `place`."""
    try:
        with _quick_and_quiet():
            train, test = _torchvision_parts(spec, place)
    except Exception as error:  # servers, proxies and archives fail in many ways, and all mean the same to the user
        raise InputError(
            f"{spec.name}: {path} is missing and could not be downloaded ({_reason(error)}); {_wanted(spec)}"
        ) from error
    return {key: np.ascontiguousarray(array, dtype=np.uint8) for key, array in zip(ARRAYS, (*train, *test))}


def _wanted(spec: Dataset) -> str:
    """What to do where the file of a set is missing."""
    shape = lambda n: f"({', '.join(map(str, (n, *spec.shape)))})"
    return (
        f"put an .npz file there with the uint8 arrays x_train {shape('N')}, y_train (N,), x_test {shape('M')} and "
        f"y_test (M,), labels 0 to {spec.classes - 1}."
    )


def _torchvision_parts(spec: Dataset, place: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the training and of the test part; SVHN without its `extra` images."""
    from torchvision import datasets

    if spec.name == "svhn":
        parts = [datasets.SVHN(place, split=split, download=True) for split in ("train", "test")]
        return [(part.data.transpose(0, 2, 3, 1), part.labels) for part in parts]
    kind = getattr(datasets, spec.torchvision)
    parts = [kind(place, train=train, download=True) for train in (True, False)]
    return [(np.asarray(part.data), np.asarray(part.targets)) for part in parts]


@contextlib.contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """Servers get TIMEOUT seconds to answer, and torchvision's progress bars go nowhere."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: BaseException) -> str:
    """An exception in a few words on one line: the last of several, where torchvision names what the server said."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    last = (said.strip().splitlines() or [type(error).__name__])[-1]
    return textwrap.shorten(last, 120, placeholder=" ...").strip("<>. ")
