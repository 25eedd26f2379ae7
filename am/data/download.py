"""Downloads: by torchvision into one hidden folder a set, which outlives a process that is killed, and is used again.

What the data folder has in torchvision's own layout is used before anything is fetched.
"""

import contextlib
import fcntl
import io
import os
import shutil
import socket
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from am.data.base import ARRAYS, Dataset, Parts
from am.errors import InputError

TIMEOUT = 10.0  # seconds without an answer from a server
TOLD_EVERY = 10.0  # seconds between lines of progress; on a terminal one line moves


def download(spec: Dataset, path: Path) -> None:
    """Prepare `path`, NAME.npz, from torchvision's files; it appears whole or not at all.

    Raises InputError when the download fails, saying what to put where, and when the folder cannot be written.
    """
    place = path.parent / f".{spec.name}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            if path.exists():  # another process was quicker
                return
            try:
                _prepare(spec, path, place)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({reason(error)}); choose another data folder.") from error


def laid_out(spec: Dataset, folder: Path) -> list[Path]:
    """What the folder has of the set in torchvision's layout."""
    return [path for path in (folder / name for name in spec.layout) if path.exists()]


def wanted(spec: Dataset) -> str:
    """What to do where the file of a set is missing."""
    shape = lambda n: f"({', '.join(map(str, (n, *spec.shape)))})"
    return (
        f"put an .npz file there with the uint8 arrays x_train {shape('N')}, y_train (N,), x_test {shape('M')} and "
        f"y_test (M,), labels 0 to {spec.classes - 1}."
    )


def reason(error: BaseException) -> str:
    """An exception in a few words on one line: the last of several, where torchvision names what the server said."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    last = (said.strip().splitlines() or [type(error).__name__])[-1]
    return textwrap.shorten(last, 120, placeholder=" ...").strip("<>. ")


def _prepare(spec: Dataset, path: Path, place: Path) -> None:
    place.mkdir(exist_ok=True)
    for torn in place.rglob("*-ubyte"):  # unpacked by a process that was killed: torchvision checks the packed alone
        torn.unlink()
    there = laid_out(spec, path.parent)
    for source in there:  # a copy, since torchvision overwrites what it takes for damaged
        target = place / source.relative_to(path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    try:
        with _progress(spec, place), _quick_and_quiet():
            train, test = _parts(spec, str(place))
    except Exception as error:  # servers, proxies and archives fail in many ways, and all mean the same to the user
        made = f"could not be made of {there[0]} or downloaded" if there else "could not be downloaded"
        raise InputError(f"{spec.name}: {path} is missing and {made} ({reason(error)}); {wanted(spec)}") from error
    arrays = {key: np.ascontiguousarray(array, dtype=np.uint8) for key, array in zip(ARRAYS, (*train, *test))}
    with open(place / "prepared.npz", "wb") as file:
        np.savez(file, **arrays, source=np.array("torchvision"))  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    os.replace(place / "prepared.npz", path)


def _parts(spec: Dataset, place: str) -> Parts:
    assert spec.download
    return spec.download(place)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time prepares files of the folder; the lock leaves no file, and ends with its process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _progress(spec: Dataset, place: Path) -> Iterator[None]:
    """Say on stderr how many bytes have come so far."""
    out, ended = sys.stderr, threading.Event()
    watch = threading.Thread(target=_watch, args=(spec.title, place, out, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(title: str, place: Path, out: TextIO, ended: threading.Event) -> None:
    terminal, shown = out.isatty(), False
    while not ended.wait(0.5 if terminal else TOLD_EVERY):
        size = 0
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):  # gone since
                size += path.stat().st_size if path.is_file() else 0
        text, shown = f"{title}: {size / 1e6:,.1f} MB", True
        print(f"\r{text}" if terminal else text, end="" if terminal else "\n", file=out, flush=True)
    if terminal and shown:
        print(file=out, flush=True)


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
