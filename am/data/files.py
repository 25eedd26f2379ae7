"""Files of data sets: found or fetched, checked, read and fingerprinted."""

import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from am.data.base import ARRAYS, CLASSES, Dataset, Images, data_folder
from am.data.download import download, laid_out, reason, wanted
from am.data.own import HELP, check_words, dataset
from am.data.sets import DATASETS
from am.errors import InputError


def missing(names: Iterable[str], folder: str | Path | None = None) -> list[str]:
    """Those of the sets whose file is not there; nothing is downloaded."""
    return [name for name in names if not _is_embedded(name) and not os.path.exists(_path(name, folder))]


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
            spec, path = dataset(name, folder), _path(name, folder)
            check_words(name, folder)
            if missing([name], folder) and spec.download:
                there = laid_out(spec, path.parent)
                announce(f"Preparing {spec.title} of {there[0]}" if there else f"Downloading {spec.title} to {path}")
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
    return _embedded(name) if _is_embedded(name) else _read(dataset(name, folder), *_file(name, folder))


class Identity(NamedTuple):
    """What tells one copy of a data set from another, without its images. rows: all training images of the copy."""

    fingerprint: str
    official: bool
    rows: int
    classes: int = CLASSES


def identity_of(name: str, folder: str | Path | None = None) -> Identity:
    """The identity of the set at hand; errors as in `load`. Unchanged files are read only once."""
    if _is_embedded(name):
        return _identity_of(_embedded(name))
    return _identity(dataset(name, folder), *_file(name, folder))


def fingerprint(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> str:
    """sha256 over name, type, shape and values of the four arrays, whatever the compression or type of the labels."""
    digest = hashlib.sha256()
    for key, array in zip(ARRAYS, (x_train, y_train, x_test, y_test)):
        kind = "int64" if key.startswith("y") else array.dtype.name if array.dtype.kind == "f" else "uint8"
        digest.update(f"{key} {kind} {array.shape}\n".encode())
        # Little-endian, so that the bytes are the same on every machine.
        digest.update(np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).reshape(-1).data)
    return digest.hexdigest()


def fetch(name: str, folder: str | Path | None = None) -> Path:
    """Prepare NAME.npz from the official files, which torchvision finds in the folder or downloads; returns its path.

    The file appears whole or not at all. One that is there already is left as it is.
    Raises InputError when there is no download or it fails, saying what to put where, and when the folder cannot be
    written.
    """
    spec, path = dataset(name, folder), _path(name, folder)
    if spec.embedded:
        raise InputError(f"data set '{name}' is embedded in an installed package; there is nothing to download.")
    if not missing([name], folder):
        return path
    if not spec.download:
        raise InputError(f"{name}: {path} is missing and has no download; {wanted(spec)}")
    download(spec, path)
    return path


def _is_embedded(name: str) -> bool:
    return name in DATASETS and DATASETS[name].embedded is not None


def _path(name: str, folder: str | Path | None) -> Path:
    return data_folder(folder) / f"{name}.npz"


def _file(name: str, folder: str | Path | None) -> tuple[Path, int, int]:
    """Path, time of change and size: what tells a changed file from one that was read before."""
    path = fetch(name, folder).resolve()
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size


@functools.cache
def _identity(spec: Dataset, path: Path, changed: int, size: int) -> Identity:
    return _identity_of(_read(spec, path, changed, size))


def _identity_of(images: Images) -> Identity:
    return Identity(images.fingerprint, images.official, len(images.x_train), images.classes)


@functools.cache
def _embedded(name: str) -> Images:
    spec = DATASETS[name]
    assert spec.embedded
    return _images(spec, spec.embedded(), source="")


@functools.lru_cache(maxsize=1)  # grids walk set by set; all four together would hold up to 600 MB
def _read(spec: Dataset, path: Path, changed: int, size: int) -> Images:
    try:
        zipfile.ZipFile(path).close()  # numpy takes whatever is no archive for a pickle
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key], order="C") for key in ARRAYS if key in file}
            source = str(file["source"]) if "source" in file and not spec.own else ""
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}).") from error
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly anything
        raise _unusable(spec, path, f"is not a readable .npz file ({reason(error)})") from error
    if spec.own:
        arrays = {key: _as_said(spec, key, array) for key, array in arrays.items()}
    problem = _problem(spec, arrays)
    if not problem:
        images = _images(spec, arrays, source)
        others = [d.title for d in DATASETS.values() if d is not spec and d.fingerprint == images.fingerprint]
        if others and not spec.own:
            problem = f"holds the images of {others[0]}, not of {spec.title}"
    if problem:
        raise _unusable(spec, path, problem)
    return images


def _as_said(spec: Dataset, key: str, array: np.ndarray) -> np.ndarray:
    """An array of a set of one's own in this machine's byte order, images in the shape that NAME.toml gives them."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.reshape(len(array), *spec.shape) if key.startswith("x") else array


def _unusable(spec: Dataset, path: Path, problem: str) -> InputError:
    if spec.own:
        return InputError(f"{path} {problem}; {HELP}.")
    again = ", or delete it and run again to download it" if spec.download else ""
    return InputError(f"{path} {problem}; replace it{again}.")


def _problem(spec: Dataset, arrays: dict[str, np.ndarray]) -> str | None:
    """What keeps the arrays from being this data set, or None."""
    if lacking := [key for key in ARRAYS if key not in arrays]:
        return f"lacks {' and '.join(lacking)}"
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype.name != spec.kind or x.shape[1:] != spec.shape:
            its = f"{spec.kind} ({', '.join(map(str, ('N', *spec.shape)))})"
            return f"holds x_{part} as {x.dtype} {x.shape}, not {its}, and a set of your own needs another name"
        if y.dtype.kind not in "iu" or y.ndim != 1:
            return f"holds y_{part} as {y.dtype} {y.shape}, not uint8 (N,)"
        if len(x) < 10:
            return f"holds only {len(x)} images in x_{part}"
        if len(x) != len(y):
            return f"holds {len(x)} images in x_{part} but {len(y)} labels in y_{part}"
        if y.min() < 0 or y.max() >= spec.classes:
            return f"holds labels {y.min()} to {y.max()} in y_{part}, outside 0 to {spec.classes - 1}"
        if spec.kind != "uint8" and not np.abs(x).max() <= np.finfo(np.float32).max:
            return f"holds numbers in x_{part} that are not finite in float32"
    return None


def _images(spec: Dataset, arrays: dict[str, np.ndarray], source: str) -> Images:
    """The checked arrays with their fingerprint."""
    values = [a.astype(np.int64) if key.startswith("y") else a for key, a in arrays.items()]
    x_train, y_train, x_test, y_test = values
    mark = fingerprint(x_train, y_train, x_test, y_test)
    if spec.own and spec.classes != max(y_train.max(), y_test.max()) + 1:  # more outputs make another problem of them
        mark = hashlib.sha256(f"{mark} classes {spec.classes}\n".encode()).hexdigest()
    if spec.fingerprint or spec.own:
        official = mark == spec.fingerprint
    else:
        official = source == "torchvision" and (len(x_train), len(x_test)) == (spec.train, spec.test)
    for array in values:
        array.flags.writeable = False
    return Images(spec.name, x_train, y_train, x_test, y_test, mark, official, spec.classes)
