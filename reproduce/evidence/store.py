"""The store of finished runs: one shard per finished stack, written whole; a lock per run, freed by the system.

results/.store/<stack>.json holds {"sha256": ..., "payload": {"runs": [...]}}; a file whose payload does not have that
hash is torn and counts as absent. One store serves all profiles. A run in training holds one byte of the file `locks`,
so that grids that share runs may stack them differently and still train each once. kill -9 loses at the most the stacks
in flight.
"""

import errno
import fcntl
import hashlib
import json
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from am.errors import InputError
from reproduce.evidence.files import sweep, write_whole

FINAL = ("done", "diverged")  # a run of another status (failed) is tried again
PAUSE = 0.1  # seconds between looks at a run that another process trains


class Store:
    """Finished runs by key. A run is a dict with "run_key", "status", the fields of a row, and "curve".

    quiet: say nothing of torn shards, which another store of the same command has said.  only_look: write nothing; a
    store that is not there is an empty one.
    """

    def __init__(self, results: Path, quiet: bool = False, only_look: bool = False) -> None:
        self.folder, self.quiet = results / ".store", quiet
        try:
            (_check_place if only_look else _make_place)(self.folder)
        except OSError as error:
            raise InputError(
                f"the results folder {results} cannot be written ({error.strerror}); choose another with RESULTS=."
            ) from None
        self._runs: dict[str, dict[str, Any]] = {}
        self._read: dict[Path, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the shards that are new or changed since the last look."""
        for path in sorted(self.folder.glob("*.json")):
            stamp = path.lstat().st_mtime_ns
            if self._read.get(path) != stamp:
                self._read[path] = stamp
                for run in self._load(path):
                    known = self._runs.get(run["run_key"])
                    if known is None or known["status"] not in FINAL:
                        self._runs[run["run_key"]] = run

    def _load(self, path: Path) -> list[dict[str, Any]]:
        regular = path.is_file() and not path.is_symlink()
        try:
            shard = json.loads(path.read_text(encoding="utf-8")) if regular else None
            if shard["sha256"] == _digest(shard["payload"]):
                return shard["payload"]["runs"]
        except (ValueError, KeyError, TypeError, OSError, RecursionError):
            pass
        if not self.quiet:
            found = "is torn" if regular else "is no file"
            print(f"{path} {found}; runs that only it held count as not done.", file=sys.stderr)
        return []

    def get(self, run_key: str) -> dict[str, Any] | None:
        return self._runs.get(run_key)

    def finished(self, run_key: str) -> bool:
        """Whether the run is there for good: done or diverged."""
        run = self._runs.get(run_key)
        return run is not None and run["status"] in FINAL

    def write(self, runs: Sequence[dict[str, Any]]) -> None:
        """One shard with these runs, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f"{stack_id([r['run_key'] for r in runs])}.json", _shard(runs))
        self.refresh()

    def forget(self, run_key: str) -> bool:
        """Remove a run from the shards that hold it; False where none does."""
        gone = False
        for path in sorted(self.folder.glob("*.json")):
            runs = self._load(path)
            if left := [run for run in runs if run["run_key"] != run_key]:
                if len(left) < len(runs):
                    write_whole(path, _shard(left))
            elif runs:
                path.unlink()
            gone = gone or len(left) < len(runs)
        self._runs.pop(run_key, None)
        return gone

    @contextmanager
    def lock(self, run_keys: Sequence[str], wait: bool = False, until: float = float("inf")) -> Iterator[set[str]]:
        """Hold those of the runs that no other process holds, and yield their keys.

        wait: where that is none, look again until it is one, or until the monotonic clock says `until`. Nobody waits
        with a lock in hand, so that no two wait for each other. The locks belong to the open file: they end with the
        process, however that dies.
        """
        file = self._open_locks()
        try:
            held = _take(file, run_keys)
            while wait and not held and time.monotonic() < until:
                time.sleep(PAUSE)
                held = _take(file, run_keys)
            self.refresh()
            yield held
        finally:
            os.close(file)

    def _open_locks(self) -> int:
        path = self.folder / "locks"
        try:  # neither flag lets a FIFO or a link in the file's place do harm
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise InputError(f"{path} cannot be opened ({error.strerror}); move it away.") from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise InputError(f"{path} is no regular file; move it away.")
        return file


def _make_place(folder: Path) -> None:
    """Make the store's folder and sweep it; raises OSError where it cannot be made or written."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe.{os.getpid()}.part"  # swept where a kill leaves it
    probe.write_text("", encoding="utf-8")
    probe.unlink()
    sweep(folder)


def _check_place(folder: Path) -> None:
    """Raises OSError where something that is no folder keeps the store's folder from being made."""
    try:
        folder.lstat()
    except FileNotFoundError:
        return
    if not folder.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _take(file: int, run_keys: Sequence[str]) -> set[str]:
    """Lock a byte for each of the keys that are free, in their order."""
    held = set()
    for key in sorted(run_keys):
        byte = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 2
        try:
            _lock_byte(file, byte)
            held.add(key)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise InputError(
                    f"the store's folder knows no locks ({error.strerror}); choose another place."
                ) from None
    return held


def _lock_byte(file: int, byte: int) -> None:
    """Lock a byte or raise OSError: for the open file where the system knows that (Linux), else for the process."""
    if hasattr(fcntl, "F_OFD_SETLK"):
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)


def stack_id(run_keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(run_keys).encode()).hexdigest()[:24]


def _shard(runs: Sequence[dict[str, Any]]) -> str:
    payload = {"runs": list(runs)}
    return json.dumps({"sha256": _digest(payload), "payload": payload})


def _digest(payload: dict) -> str:
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
