"""Data sets of one's own: NAME.npz in the data folder is one, without any registration; NAME.toml may say more of it.

The numbers of rows, of features and of classes are the file's. docs/own-data.md says what belongs into both.
"""

import functools
import math
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from am.data.base import ARRAYS, Dataset, data_folder
from am.data.sets import DATASETS
from am.errors import InputError, unknown

KINDS = ("uint8", "float32", "float64")
KEYS = dict(title=str, shape=list, source=str, sha256=str, classes=int)  # of NAME.toml
HELP = "docs/own-data.md says what belongs into it"
MOST_CLASSES, TITLE_CHARACTERS = 100_000, 60


def names(folder: str | Path | None = None) -> list[str]:
    """The known sets and those of one's own in the folder."""
    return sorted({*DATASETS, *(name for name in _files(folder) if not misnamed(name))})


def misnamed(name: str) -> str | None:
    """Why a file of this name is no data set of one's own, in words; None where it may be one, or is a known set's."""
    if name in DATASETS:
        return None
    if not re.fullmatch(r"[A-Za-z]\w{0,39}", name, re.ASCII):
        return "a data set's name is up to 40 letters, digits and '_', and begins with a letter; rename the file"
    if name.lower() in DATASETS:
        return f"its name is that of the known set '{name.lower()}' but for the case of letters; rename the file"
    if name.lower() in ("na", "nan", "none", "null"):
        return "its name reads as a missing value in a CSV; rename the file"
    return None


def unusable(folder: str | Path | None = None) -> dict[str, str]:
    """Name -> why not, of the files in the folder that `misnamed` says something of."""
    return {name: why for name in _files(folder) if (why := misnamed(name))}


def dataset(name: str, folder: str | Path | None = None) -> Dataset:
    """The data set of that name, a known one or one of the folder; raises InputError with the nearest valid one.

    Of one's own set only labels and headers are read; raises InputError for a file that is none.
    """
    if isinstance(name, str) and name in DATASETS:
        return DATASETS[name]
    if name not in _files(folder):
        said = str(unknown("data set", name, names(folder)))
        further = f", and any NAME.npz of your own in {data_folder(folder)}/."
        raise InputError(said.removesuffix(".") + further if said.endswith(".") else said)
    path = data_folder(folder) / f"{name}.npz"
    if why := misnamed(name):
        raise InputError(f"{path}: {why}.")
    words = path.with_suffix(".toml")
    return _own(name, path.resolve(), _stamp(path), words, _stamp(words) if words.is_file() else None)


def check_words(name: str, folder: str | Path | None = None) -> None:
    """Raises InputError for a NAME.toml beside a known set, which nobody would read."""
    path = data_folder(folder) / f"{name}.toml"
    if name in DATASETS and path.exists():
        raise InputError(f"{path}: '{name}' is a known data set; give one of your own another name.")


def _files(folder: str | Path | None) -> list[str]:
    """NAME of every NAME.npz of the folder that is a file: to read a pipe or a device would never end."""
    try:
        return sorted(path.stem for path in data_folder(folder).glob("*.npz") if path.is_file())
    except OSError:
        return []


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=64)
def _own(name: str, path: Path, stamp: tuple[int, int], words: Path, words_stamp: tuple[int, int] | None) -> Dataset:
    said = _words(words) if words_stamp else {}
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
            if lacking := [key for key in ARRAYS if key not in file]:
                raise InputError(f"{path} lacks {' and '.join(lacking)}; {HELP}.")
            headers = {key: _header(archive, key) for key in ("x_train", "x_test")}
            labels = {key: file[key] for key in ("y_train", "y_test")}
    except InputError:
        raise
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly anything
        words_of = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is not a readable .npz file ({words_of[:120].rstrip('.')}); {HELP}.") from error
    (rows, *shape), kind = headers["x_train"][0] or (0,), headers["x_train"][1]
    for key, (found, its_kind) in headers.items():
        images = its_kind == "uint8" and 2 <= len(found) <= 4
        if not images and not (its_kind in KINDS and len(found) == 2) or 0 in found:
            raise InputError(
                f"{path} holds {key} as {its_kind} {found}, not uint8 (N, height, width[, channels]), uint8 (N, d) or "
                f"float (N, d); {HELP}."
            )
        if (list(found[1:]), its_kind) != (shape, kind):
            raise InputError(f"{path} holds x_train as {kind} and x_test as {its_kind} of another shape; {HELP}.")
    wanted = said.get("shape", shape)
    if math.prod(wanted) != math.prod(shape):
        raise InputError(f"{words}: 'shape' {wanted} is not that of rows of {math.prod(shape)} numbers.")
    classes = _classes(path, labels, said.get("classes"), words)
    return Dataset(
        name,
        said.get("title", name),
        tuple(wanted),
        rows,
        headers["x_test"][0][0],
        classes,
        fingerprint=said.get("sha256", ""),
        kind=kind,
        own=True,
        source=said.get("source", ""),
    )


def _header(archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], str]:
    """Shape and type of an array, which may be large, without its numbers."""
    with archive.open(f"{key}.npy") as file:
        read = np.lib.format.read_array_header_1_0
        if np.lib.format.read_magic(file) != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype.name


def _classes(path: Path, labels: dict[str, np.ndarray], said: int | None, words: Path) -> int:
    """How many classes there are: as NAME.toml says, else those that the training labels have without a gap."""
    for key, y in labels.items():
        if y.dtype.kind not in "iu" or y.ndim != 1 or not y.size:
            raise InputError(f"{path} holds {key} as {y.dtype} {y.shape}, not whole numbers (N,); {HELP}.")
    low, high = min(int(y.min()) for y in labels.values()), max(int(y.max()) for y in labels.values())
    classes = said or high + 1
    if low < 0 or high >= classes or classes > MOST_CLASSES:
        raise InputError(f"{path} holds labels {low} to {high}, outside 0 to {min(classes, MOST_CLASSES) - 1}; {HELP}.")
    absent = np.setdiff1d(np.arange(classes), labels["y_train"])
    if not said and len(absent):
        raise InputError(
            f"{path} holds labels up to {high} and no training row of class {absent[0]}; number the classes from 0, or "
            f"write classes = {classes} into {words.name} beside it."
        )
    if classes < 2:
        raise InputError(f"{path} holds rows of one class alone; {HELP}.")
    return classes


def _words(path: Path) -> dict[str, Any]:
    """What NAME.toml says, checked."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as TOML ({' '.join(str(error).split())[:120]}).") from None
    for key, value in said.items():
        if key not in KEYS:
            raise unknown("key", key, KEYS, str(path))
        if type(value) is not KEYS[key]:
            raise InputError(f"{path}: '{key}' must be {KEYS[key].__name__}, not {value!r}.")
        if isinstance(value, str) and not (value.strip() and value.isprintable()):
            raise InputError(f"{path}: '{key}' must be printable text on one line, not {value!r}.")
    if len(said.get("title", "")) > TITLE_CHARACTERS:
        raise InputError(f"{path}: 'title' must have at most {TITLE_CHARACTERS} characters.")
    if not re.fullmatch(r"[0-9a-f]{64}|", said.get("sha256", "")):
        raise InputError(
            f"{path}: 'sha256' must be 64 hex digits, as the column data_fingerprint of runs.csv has them."
        )
    if "classes" in said and not 2 <= said["classes"] <= MOST_CLASSES:
        raise InputError(f"{path}: 'classes' must lie in [2, {MOST_CLASSES:,}], not {said['classes']}.")
    shape = said.get("shape", [1])
    if not (1 <= len(shape) <= 3 and all(type(n) is int and n > 0 for n in shape)):
        raise InputError(f"{path}: 'shape' must be [height, width], [height, width, channels] or [d], not {shape!r}.")
    return said
