"""Forget: remove one run, by its key, from the store and from every CSV of a results folder."""

from pathlib import Path

from am.errors import InputError
from reproduce.evidence.adopt import EVIDENCE, folders_of
from reproduce.evidence.kept import rows_of
from reproduce.evidence.manifest import write_evidence
from reproduce.evidence.store import Store


def forget(key: str, results: Path) -> str:
    """Remove the run, from the CSVs first, and say where it was; raises InputError where it is nowhere."""
    store, removed = Store(results), []
    for folder in folders_of(results):
        for path in (folder / name for name in EVIDENCE):
            rows = rows_of(path, ["run_key"])
            if len(left := [row for row in rows if row["run_key"] != key]) < len(rows):
                write_evidence(path, left)
                removed.append(str(path))
    if store.forget(key):
        removed.append(str(store.folder))
    if not removed:
        raise InputError(f"no run in {results} has the key '{key}'.")
    return f"{key} removed from {', '.join(removed)}"
