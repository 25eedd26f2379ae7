"""Adopt: finished runs from the CSVs of any results folder into the store, by run key.

So a fresh clone has nothing to train of what the present code made, and the folders of two machines merge into one.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from am.errors import InputError
from reproduce.evidence.files import read_text
from reproduce.evidence.rows import Row, checksum, config_of, is_of_this_code, stored
from reproduce.evidence.store import FINAL, Store
from reproduce.run.collect import EVIDENCE

DEPTHS = ("", "*/", "*/*/")  # a grid's folder, a profile's, a results folder


@dataclass
class Adopted:
    """What became of the rows of one grid's folder."""

    folder: Path
    adopted: int = 0
    there: int = 0
    stale: int = 0  # of other code, or of none that says what it takes to know
    refused: list[str] = field(default_factory=list)  # a sentence each

    def __str__(self) -> str:
        counts = dict(adopted=self.adopted, already_there=self.there, of_other_code=self.stale)
        words = [f"{count} {word.replace('_', ' ')}" for word, count in counts.items() if count]
        return f"{self.folder}: {', '.join(words) or 'no finished run'}"


def folders_of(source: Path) -> list[Path]:
    """The folders below `source` that hold the CSVs of a grid. Raises InputError where there is none."""
    found = {path.parent for depth in DEPTHS for name in EVIDENCE for path in source.glob(depth + name)}
    if not found:
        raise InputError(f"{source} holds no CSVs of finished runs: no runs.csv in it or up to two folders below.")
    return sorted(found)


def adopt(folder: Path, store: Store) -> Adopted:
    """Take the finished runs and trials of one grid's folder that the store has not.

    A row whose key the present code would not give it is stale, not adopted; one whose numbers or curve do not have the
    row's checksum is refused, and so is a CSV that cannot be read.
    """
    report = Adopted(folder)
    new = {}
    for name, trial in (("runs.csv", False), ("tuning.csv", True)):
        try:
            rows = _rows(folder / name)
            curves: dict[tuple[str, str], list[Row]] = {}
            for point in [] if trial or not rows else _rows(folder / "curves.csv"):
                curves.setdefault((point["run_key"], point.get("label", "")), []).append(point)
        except InputError as error:
            report.refused.append(str(error))
            continue
        damaged = Counter()
        for row in rows:
            if row.get("status") not in FINAL:
                continue
            curve = curves.get((row["run_key"], row.get("label", "")), [])
            if not is_of_this_code(row, config_of(row, trial)):
                report.stale += 1
            elif store.finished(row["run_key"]) or row["run_key"] in new:
                report.there += 1
            elif row.get("checksum") != checksum(row, curve):
                damaged[row.get("label", "")] += 1
            else:
                new[row["run_key"]] = stored(row, curve)
        if damaged:
            report.refused.append(
                f"{folder / name}: {damaged.total()} rows do not have the numbers or the curve that they were written "
                f"with (the first is of '{next(iter(damaged))}'), and stay out."
            )
    if new:
        store.write(list(new.values()))
    report.adopted = len(new)
    return report


def _rows(path: Path) -> list[Row]:
    there = path.exists() or path.is_symlink()
    return read_text(path, ["run_key"], evidence=True).to_dict("records") if there else []
