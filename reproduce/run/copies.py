"""Copies of data sets: what must hold of a file before it is read as one.

`am.data` checks what is in a file.
"""

import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from am.data import ARRAYS, data_folder, dataset, missing, names, unusable
from am.errors import InputError

MAGIC = b"\x93NUMPY"  # of an array in NumPy's format; numpy hands out as bytes whatever begins otherwise


def check_copies(wanted: Iterable[str], folder: str | Path | None = None) -> None:
    """Raises one InputError with a sentence, on a line of its own, for each set whose file is no archive of arrays."""
    # One of one's own was looked into when the grid that names it was read.
    known = [spec for name in dict.fromkeys(wanted) if not (spec := dataset(name, folder)).embedded and not spec.own]
    files = [data_folder(folder) / f"{spec.name}.npz" for spec in known]
    problems = [f"{path} {problem}." for path in files if (problem := _problem(path))]
    if problems:
        raise InputError("\n".join(problems))


def listing(folder: str | Path | None = None) -> Iterator[str]:
    """A line for each known data set and each NAME.npz of the folder: where it is, and what is in one of one's own."""
    wrong = unusable(folder)
    for name in sorted({*names(folder), *wrong}):
        try:
            spec, path = dataset(name, folder), data_folder(folder) / f"{name}.npz"
        except InputError as problem:
            yield f"{name:<15} not usable: {wrong.get(name, str(problem).rstrip('.'))}"
            continue
        said = "  (not there; fetched when first needed)" if missing([name], folder) else ""
        if spec.own:
            rows = f"{spec.train:,} + {spec.test:,} rows of {spec.inputs:,} {spec.kind}, {spec.classes:,} classes"
            said = f"  ({', '.join(word for word in (spec.title, rows, spec.source) if word)})"
        yield f"{name:<15} {'embedded' if spec.embedded else path}{said}"


def _problem(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None  # fetched later
    except OSError as error:
        return f"cannot be read ({error.strerror}); choose another data folder with --data"
    if not stat.S_ISREG(mode):
        # To read a pipe or a device would never end.
        return "is no regular file; move it away, and run again to download the data set"
    advice = "replace it, or delete it and run again to download it"
    try:
        with zipfile.ZipFile(path) as archive:
            for key in (*ARRAYS, "source"):
                members = [name for name in archive.namelist() if name in (key, f"{key}.npy")]
                if len(members) > 1:
                    return f"holds '{key}' {len(members)} times; {advice}"
                if members:
                    with archive.open(members[0]) as member:
                        if member.read(len(MAGIC)) != MAGIC:
                            return f"holds '{key}' as something that is no array; {advice}"
    except Exception as error:  # a damaged archive makes zipfile and zlib raise nearly anything
        return f"is not a readable .npz file ({' '.join(str(error).split()) or type(error).__name__}); {advice}"
    return None
