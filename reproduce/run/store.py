"""The store of finished runs: one shard per finished stack, written whole; a lock per stack, freed by the system.

results/.store/<stack>.json holds {"sha256": ..., "payload": {"runs": [...]}}; a file whose payload does not have that
hash is torn and counts as absent. kill -9 loses at the most the stacks in flight; two processes never repeat a stack.
"""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from am.errors import InputError
from reproduce.files import write_whole

FINAL = ("done", "diverged")  # a run of another status (failed) is tried again


class Store:
    """Finished runs by key. A run is a dict with "run_key", "status", the fields of a row, and "curve".

    quiet: say nothing of torn shards, which another store of the same command has said.
    """

    def __init__(self, results: Path, quiet: bool = False):
        self.folder, self.quiet = results / ".store", quiet
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
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
            stamp = path.stat().st_mtime_ns
            if self._read.get(path) != stamp:
                self._read[path] = stamp
                for run in self._load(path):
                    known = self._runs.get(run["run_key"])
                    if known is None or known["status"] not in FINAL:
                        self._runs[run["run_key"]] = run

    def _load(self, path: Path) -> list[dict[str, Any]]:
        try:
            shard = json.loads(path.read_text())
            if shard["sha256"] == _digest(shard["payload"]):
                return shard["payload"]["runs"]
        except (ValueError, KeyError, TypeError):
            pass
        if not self.quiet:
            print(f"{path} is torn; runs that only it held count as not done.", file=sys.stderr)
        return []

    def get(self, run_key: str) -> dict[str, Any] | None:
        return self._runs.get(run_key)

    def finished(self, run_key: str) -> bool:
        """Whether the run is there for good: done or diverged."""
        run = self._runs.get(run_key)
        return run is not None and run["status"] in FINAL

    def write(self, runs: Sequence[dict[str, Any]]) -> None:
        """One shard with these runs, whole or not at all."""
        payload = {"runs": list(runs)}
        path = self.folder / f"{stack_id([r['run_key'] for r in runs])}.json"
        write_whole(path, json.dumps({"sha256": _digest(payload), "payload": payload}))
        self.refresh()

    @contextmanager
    def lock(self, run_keys: Sequence[str], wait: bool) -> Iterator[bool]:
        """Hold the stack's lock; yields False where another process holds it and `wait` is off.

        The lock is the open file's: it ends with the process, however that dies.
        """
        with open(self.folder / f"{stack_id(run_keys)}.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            self.refresh()
            yield True


def stack_id(run_keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(run_keys).encode()).hexdigest()[:24]


def _digest(payload: dict) -> str:
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
