"""Copies of data sets: what must hold of a file before it is read as one.

`am.data` checks what is in a file.
"""

import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path

from am.data import ARRAYS, data_folder, dataset
from am.errors import InputError

MAGIC = b"\x93NUMPY"  # of an array in NumPy's format; numpy hands out as bytes whatever begins otherwise


def check_copies(names: Iterable[str], folder: str | Path | None = None) -> None:
    """Raises one InputError with a sentence, on a line of its own, for each set whose file is no archive of arrays."""
    files = {name: data_folder(folder) / f"{name}.npz" for name in dict.fromkeys(names) if not dataset(name).embedded}
    problems = [f"{path} {problem}." for path in files.values() if (problem := _problem(path))]
    if problems:
        raise InputError("\n".join(problems))


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
