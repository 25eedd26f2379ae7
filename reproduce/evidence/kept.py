"""What an earlier collect wrote of a grid, whether it counts or not: nothing of it may be lost.

Readers who count go through `door`.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from am.errors import InputError
from reproduce.evidence import door
from reproduce.evidence.files import malformed, read_text
from reproduce.evidence.rows import Row, standing
from reproduce.evidence.seal import holds
from reproduce.evidence.store import FINAL, Store

FORMER = "former"  # the folder of rows that the grid plans no longer

Kept = dict[str, list[Row]]  # run key -> its rows, one a label, or the points of its curve


def kept_by_key(folder: Path) -> dict[str, dict[str, Any]]:
    """What the CSVs say of runs and trials by key, as far as a plan needs it: so it stays without the store."""

    def accuracy(row: Row, name: str) -> float:
        try:
            return float(row.get("val_accuracy") or "nan")
        except ValueError:
            raise malformed(folder / name, f"'val_accuracy' {row['val_accuracy']}") from None

    return {
        key: rows[0] | dict(curve=[dict(val_accuracy=accuracy(rows[0], name))])
        for name in ("runs.csv", "tuning.csv")
        for key, rows in by_key(folder, name).items()
    }


def kept_runs(folder: Path, store: Store) -> tuple[Kept, Kept]:
    """The rows of runs.csv and of curves.csv by run key, former ones too, as an earlier collect wrote them.

    Raises InputError where the store does not have what is torn off either of them.
    """
    runs, curves = by_key(folder, "runs.csv"), by_key(folder, "curves.csv")
    lost = lambda keys: [key for key in keys if not store.finished(key)]
    if bare := lost(key for key in curves if key not in runs):
        raise malformed(folder / "runs.csv", f"no row of run {bare[0]}, whose curve is in curves.csv")
    broken = (key for key, rows in runs.items() if not all(holds(row, curve_of(row, curves)) for row in rows))
    if lost(broken):
        sentences = [sentence for place in (folder, folder / FORMER) for sentence in door.problems(place)]
        raise InputError(sentences[0])
    return runs, curves


def not_counted(folder: Path) -> Counter[str]:
    """Why finished runs and trials of the grid's CSVs do not count under the present versions, and how many each."""
    return Counter(
        why
        for name in ("runs.csv", "tuning.csv")
        for rows in by_key(folder, name).values()
        for row in rows
        if row["status"] in FINAL and (why := standing(row, name == "tuning.csv"))
    )


def prune(folder: Path) -> int:
    """Remove the rows that the grid plans no longer, the folder `former`; returns how many runs and trials went."""
    if not (former := folder / FORMER).is_dir():
        return 0
    count = sum(len(rows_of(former / name)) for name in ("runs.csv", "tuning.csv"))
    shutil.rmtree(former)
    return count


def former_runs(folder: Path) -> int:
    """How many runs of the grid's CSVs are not planned any more."""
    return len(rows_of(folder / FORMER / "runs.csv"))


def curve_of(row: Row, curves: Kept) -> list[Row]:
    """The points of a row's curve."""
    return [point for point in curves.get(row["run_key"], []) if point["label"] == row["label"]]


def by_key(folder: Path, name: str) -> Kept:
    """The rows of a CSV that an earlier collect wrote, by run key, those of `former` after the others.

    A row that stands in both, as a kill between two files leaves it, counts once.
    """
    found: Kept = {}
    needed = ["run_key", "label", *(() if name == "curves.csv" else ("status", "seed"))]
    for path in (folder / name, folder / FORMER / name):
        before = {(row["run_key"], row["label"]) for rows in found.values() for row in rows}
        for row in rows_of(path, needed):
            if (row["run_key"], row["label"]) not in before:
                found.setdefault(row["run_key"], []).append(row)
    return found


def rows_of(path: Path, needed: Sequence[str] = ()) -> list[Row]:
    """The rows of a CSV; none where it is not there."""
    there = path.exists() or path.is_symlink()
    return read_text(path, needed).to_dict("records") if there else []
