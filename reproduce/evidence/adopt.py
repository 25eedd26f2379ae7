"""Adopt: finished runs from the CSVs of any results folder into the store, by run key.

So a fresh clone has nothing to train of what the present code made, and the folders of two machines merge into one.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from am.errors import InputError
from reproduce.evidence import manifest
from reproduce.evidence.fields import problems
from reproduce.evidence.kept import rows_of
from reproduce.evidence.rows import Row, mismatch, numbers, outcome, outdated, stored
from reproduce.evidence.seal import holds
from reproduce.evidence.store import FINAL, Store

DEPTHS = ("", "*/", "*/*/", "*/*/*/")  # a grid's folder or its former rows, a profile's, a results folder
EVIDENCE = ("runs.csv", "curves.csv", "tuning.csv")


@dataclass
class Adopted:
    """What became of the rows of one grid's folder."""

    folder: Path
    adopted: int = 0
    there: int = 0
    stale: Counter[str] = field(default_factory=Counter)  # why they do not count under the present versions -> how many
    refused: list[str] = field(default_factory=list)  # a sentence each

    def __str__(self) -> str:
        counts = dict(adopted=self.adopted, already_there=self.there)
        words = [f"{count} {word.replace('_', ' ')}" for word, count in counts.items() if count]
        words += [f"{count} left: the run {why}" for why, count in self.stale.items()]
        return f"{self.folder}: {', '.join(words) or 'no finished run'}"


def folders_of(source: Path) -> list[Path]:
    """The folders below `source` that hold the CSVs of a grid. Raises InputError where there is none."""
    found = {path.parent for depth in DEPTHS for name in EVIDENCE for path in source.glob(depth + name)}
    if not found:
        raise InputError(f"{source} holds no CSVs of finished runs: no runs.csv in it or up to two folders below.")
    return sorted(found)


def adopt(folder: Path, store: Store) -> Adopted:
    """Take the finished runs and trials of one grid's folder that the store has not.

    A row that does not count under the present versions is left, and the report says why. One whose numbers or curve do
    not have the row's checksum is refused, and so are a CSV that cannot be read and a run that the store has with other
    numbers.
    """
    report = Adopted(folder, refused=manifest.problems(folder))
    new: dict[str, dict] = {}
    for name, trial in (("runs.csv", False), ("tuning.csv", True)):
        try:
            rows = rows_of(folder / name, ["run_key"])
            curves: dict[tuple[str, str], list[Row]] = {}
            for point in [] if trial or not rows else rows_of(folder / "curves.csv", ["run_key"]):
                curves.setdefault((point["run_key"], point.get("label", "")), []).append(point)
        except InputError as error:
            report.refused.append(str(error))
            continue
        damaged: Counter[str] = Counter()
        others: Counter[str] = Counter()
        untrue: Counter[str] = Counter()
        for row in rows:
            if row.get("status") not in FINAL:
                continue
            key, label = row["run_key"], row.get("label", "")
            curve = curves.get((key, label), [])
            if not holds(row, curve):
                damaged[label] += 1
            elif why := problems(row, curve):
                untrue[why] += 1
            elif why := mismatch(row, trial):
                untrue[why] += 1
            elif why := outdated(row, trial):
                report.stale[why] += 1
            elif store.finished(key) or key in new:
                there = outcome(new.get(key) or store.get(key), trial)
                same = numbers(row, curve) == numbers(*there)
                report.there += same
                others[label] += not same
            else:
                new[key] = stored(row, curve)
        if damaged:
            report.refused.append(
                f"{folder / name}: {damaged.total()} rows do not have the numbers or the curve that they were written "
                f"with (the first is of '{next(iter(damaged))}'), and stay out."
            )
        for why, count in untrue.items():
            report.refused.append(f"{folder / name}: {count} rows stay out, since each {why}.")
        if others := +others:
            report.refused.append(
                f"{folder / name}: {others.total()} runs are in the store with other numbers (the first is of "
                f"'{next(iter(others))}'); those of the store stay. `forget KEY` removes one of them."
            )
    if new:
        store.write(list(new.values()))
    report.adopted = len(new)
    return report
