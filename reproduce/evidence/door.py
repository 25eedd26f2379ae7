"""The one door for readers of runs.csv, curves.csv and tuning.csv: it gives the rows that count, and tells of the rest.

A row counts that is what was written (its checksum, over what came of the run and its curve, and its seal, over the
rest), whose key is that of its configuration at the present versions, and that stands there once. What the manifest
misses is told. Every problem is one sentence; `reproduce.__main__` prints them at the end of a command, which then ends
with status 1.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import pandas as pd

from am.errors import InputError
from reproduce.evidence import manifest, rows
from reproduce.evidence.files import Sheet, Stale, frame_of, malformed, read_sheet, shown, typed, uncollected
from reproduce.evidence.schema import TABLES
from reproduce.evidence.seal import Columns

RESTORE = "restore the file, for example by `git checkout`"
DIAGNOSED = 50  # rows of a file whose wrong column is looked for
# Whose row a point is: what both CSVs have of it.
_WHOSE = ("run_key", "dataset", "activation", "hidden", "method", "label", "seed")
# Columns of a row that its curve's last point has too, and those that are called otherwise there.
_ALSO_LAST = dict.fromkeys(rows.LAST) | dict(
    iterations="iteration", epochs="epoch", parameter_updates="parameter_updates",
    gradient_evaluations="gradient_evaluations", flops="flops",
)  # fmt: skip


# What readers call ---------------------------------------------------------------------------------------------------


def runs(folder: Path, columns: Sequence[str] = (), quiet: bool = False) -> pd.DataFrame:
    """The rows of a grid's runs.csv that count, every column as its kind, as `files.read` gives them.

    columns: must be there, and their text not empty.  quiet: tell nothing of the others.  Raises Stale where none
    counts, and InputError for a CSV that cannot be read, or not as a table.
    """
    return typed(_counting(folder, "runs", quiet), columns)


def curves(folder: Path, columns: Sequence[str] = (), quiet: bool = False) -> pd.DataFrame:
    """The curves of those rows, in the same way."""
    return typed(_counting(folder, "curves", quiet), columns)


def trials(folder: Path, columns: Sequence[str] = (), quiet: bool = False) -> pd.DataFrame:
    """The rows of tuning.csv that count, in the same way."""
    return typed(_counting(folder, "tuning", quiet), columns)


def text(folder: Path, name: str, columns: Sequence[str] = (), quiet: bool = False) -> pd.DataFrame:
    """The rows of one of the three, "runs", "curves" or "tuning", that count, as text, as `files.read_text` does."""
    return frame_of(_counting(folder, name, quiet), columns)


def problems(folder: Path, name: str = "runs") -> list[str]:
    """What is to be said of runs.csv with its curves, or of tuning.csv; nothing is told by asking."""
    return _found(folder, name).problems


# What is told --------------------------------------------------------------------------------------------------------

_TOLD: dict[str, None] = {}


def tell(sentences: Iterable[str]) -> None:
    """Keep sentences for the end of the command, each once."""
    _TOLD.update(dict.fromkeys(sentences))


def told() -> list[str]:
    """The sentences since the last call."""
    found = list(_TOLD)
    _TOLD.clear()
    return found


# How it is found out -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a look at CSVs found. kept: of each file the places of the rows that count."""

    kept: dict[str, Sequence[int]]
    problems: list[str] = field(default_factory=list)


_FOUND: dict[tuple, Found] = {}  # by the files as they were; a process looks at each once
_READ: dict[Path, tuple[tuple, Sheet]] = {}  # the CSVs of the folder that was read last


def _counting(folder: Path, name: str, quiet: bool) -> Sheet:
    path = folder / f"{name}.csv"
    sheet = _sheet(path)
    found = _found(folder, name)
    if not quiet:
        tell(found.problems)
    if name == "runs" and not found.kept["runs"]:
        raise Stale(f"{path}: none of its {len(sheet.rows)} rows counts.")
    return sheet.only(found.kept[name])


def _found(folder: Path, name: str) -> Found:
    together = ("tuning",) if name == "tuning" else ("runs", "curves")
    files = [folder / manifest.NAME, *(folder / f"{one}.csv" for one in together)]
    key = (folder, together, rows.standing, foreign, *map(_stamp, files))
    if key not in _FOUND:
        with uncollected():
            _FOUND[key] = _look(folder, together)
    return _FOUND[key]


def _sheet(path: Path) -> Sheet:
    """The CSV as it is; read once as long as the folder's other files are asked for."""
    stamp = _stamp(path)
    if path in _READ and _READ[path][0] == stamp:
        return _READ[path][1]
    for other in [other for other in _READ if other.parent != path.parent or other == path]:
        del _READ[other]
    sheet = read_sheet(path)
    _READ[path] = (stamp, sheet)
    return sheet


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def foreign(sheet: Sheet) -> str | None:
    """Why a CSV is none of the suite's, as a sentence; None where it is one. Without checksums nothing shows a forgery.

    Raises InputError where a column is missing that all CSVs of the suite have.
    """
    _require(sheet)
    if "checksum" not in sheet.names:
        return (
            f"{sheet.path} has no column 'checksum', so that nothing shows whether its numbers are those of runs: its "
            f"{len(sheet.rows)} rows are left out; run `make reproduce-{sheet.path.parent.name}` for rows that count."
        )
    return None


def _require(sheet: Sheet) -> None:
    for column in TABLES[sheet.path.stem].columns:
        if not column.later and column.name not in sheet.names:
            raise malformed(sheet.path, f"no column '{column.name}'")


def _look(folder: Path, names: Sequence[str]) -> Found:
    """Look at every row of runs.csv with its curve, or of tuning.csv."""
    sheets = {name: _sheet(path) for name in names if (path := folder / f"{name}.csv").exists() or path.is_symlink()}
    every = {name: range(len(sheets[name].rows)) if name in sheets else () for name in names}
    head = sheets.get(names[0])
    if head is None:  # curves alone
        return Found(every | dict(curves=()), [f"{folder / 'runs.csv'} is not there: no curve counts; {RESTORE}."])
    if not head.rows:
        return Found(dict.fromkeys(names, ()), [f"{head.path} has no rows, a header alone; {RESTORE}."])
    if why := foreign(head):
        return Found(dict.fromkeys(names, ()), [why])
    if "checksum" not in head.names:
        return Found(every)  # `foreign` takes them, as it does in tests of what is made of the numbers
    for sheet in sheets.values():
        _require(sheet)
    problems = []
    try:
        states = manifest.read_manifest(folder)
    except InputError as error:
        problems.append(str(error))
        states = None
    for name in names:
        if said := manifest.problem(sheets.get(name), folder / f"{name}.csv", states or {}):
            problems.append(said)
    look = _Look(head, sheets.get("curves"), manifest.seals(head.path, states))
    if states is None and not problems and look.sealed:
        problems.append(
            f"{folder / manifest.NAME} is not there, so that nothing shows whether rows are missing; {RESTORE}, or run "
            "`make collect`."
        )
    return Found(look.kept(), [*problems, *look.problems()])


class _Look:
    """A look at the rows of a CSV, one after the other, and what is to be said of those that do not count."""

    def __init__(self, sheet: Sheet, curve_sheet: Sheet | None, seals: int) -> None:
        self.sheet, self.curve_sheet = sheet, curve_sheet
        self.trial = sheet.path.stem == "tuning"
        self.at = {name: i for i, name in enumerate(sheet.names)}
        points = curve_sheet.names if curve_sheet else ()
        self.columns = Columns(sheet.names, points, self.trial)
        self.curves = self._by_run()
        self.sealed = sum(self._of(row, "seal") != "" for row in sheet.rows)
        self.must_be_sealed = seals > self.sealed  # seals that the manifest knows are gone
        self.good: list[int] = []
        self.left: dict[tuple[Path, str], list[tuple[int, str]]] = {}  # (file, what of its rows) -> (row, which column)
        self.diagnosed = 0
        self._look_at_all()

    def _of(self, row: list[str], name: str) -> str:
        return row[self.at[name]] if name in self.at else ""

    def _by_run(self) -> dict[tuple[str, ...], list[int]]:
        """Whose run -> the places of its points."""
        found: dict[tuple[str, ...], list[int]] = {}
        if self.curve_sheet:
            whose = itemgetter(*(self.curve_sheet.names.index(name) for name in _WHOSE))
            for i, row in enumerate(self.curve_sheet.rows):
                found.setdefault(whose(row), []).append(i)
        return found

    def _look_at_all(self) -> None:
        seen: dict[tuple[str, str], int] = {}
        for i, row in enumerate(self.sheet.rows):
            name = (self._of(row, "run_key"), self._of(row, "label"))
            if name in seen:
                self._leave(i, self.sheet.path, f"repeat a row (line {self.sheet.numbers[seen[name]]})")
                continue
            seen[name] = i
            if self._is_whole(i, row) and self._is_of_now(i, row):
                self.good.append(i)

    def _leave(self, i: int, path: Path, what: str, column: str = "") -> None:
        self.left.setdefault((path, what), []).append((i, column))

    def _is_whole(self, i: int, row: list[str]) -> bool:
        curve = self._curve(row)
        said = self._of(row, "checksum")
        if not said:
            self._leave(i, self.sheet.path, "have no checksum")
        elif self.columns.checksum(row, curve) != said:
            self._leave(i, *self._blame(row, curve, said))
        elif not self._of(row, "seal"):
            if not self.must_be_sealed:
                return True
            self._leave(i, self.sheet.path, "have lost their seal")
        elif self.columns.seal(row, curve) == self._of(row, "seal"):
            return True
        else:
            self._leave(i, self.sheet.path, "do not have the label, settings or seconds that they were sealed with")
        return False

    def _is_of_now(self, i: int, row: list[str]) -> bool:
        fields = dict(zip(self.sheet.names, row))
        why = rows.standing(fields, self.trial)
        if why:
            self._leave(i, self.sheet.path, f"do not count, since each {why}")
        return not why

    def _curve(self, row: list[str]) -> list[list[str]]:
        places = self.curves.get(tuple(self._of(row, name) for name in _WHOSE), ())
        return [self.curve_sheet.rows[i] for i in places]

    def _blame(self, row: list[str], curve: list[list[str]], said: str) -> tuple[Path, str, str]:
        """Which file has the numbers that are not those of the checksum, what is so of its rows, and which column."""
        numbers = "do not have the numbers that they were sealed with"
        if self.curve_sheet is None:
            return self.sheet.path, numbers if self.trial else "have no curve, since curves.csv is not there", ""
        if not curve and self._of(row, "status") == "done":
            return self.curve_sheet.path, "have no curve there", ""
        self.diagnosed += 1
        if curve and self.diagnosed <= DIAGNOSED:
            place = {name: i for i, name in enumerate(self.curve_sheet.names)}
            last = curve[-1]
            for name in (name for name in _ALSO_LAST if name in self.at):
                point = _ALSO_LAST[name] or name
                also = place.get(point)
                if also is None or row[self.at[name]] == last[also]:
                    continue
                other = [*row[: self.at[name]], last[also], *row[self.at[name] + 1 :]]
                if self.columns.checksum(other, curve) == said:
                    return self.sheet.path, numbers, name
                other = [*last[:also], row[self.at[name]], *last[also + 1 :]]
                if self.columns.checksum(row, [*curve[:-1], other]) == said:
                    return self.curve_sheet.path, "do not have the curve that they were sealed with", point
            if last[place["iteration"]] != self._of(row, "iterations") and self._of(row, "status") == "done":
                return self.curve_sheet.path, "do not have their whole curve there", ""
        return self.sheet.path, "do not have the numbers or the curve that they were sealed with", ""

    def kept(self) -> dict[str, Sequence[int]]:
        if self.trial:
            return dict(tuning=self.good)
        whose = [tuple(self._of(self.sheet.rows[i], name) for name in _WHOSE) for i in self.good]
        return dict(runs=self.good, curves=sorted(i for key in whose for i in self.curves.get(key, ())))

    def problems(self) -> list[str]:
        """A sentence for each kind of row that is left out, with the first of them."""
        found = []
        for (path, what), some in self.left.items():
            i, column = some[0]
            row = self.sheet.rows[i]
            first = f"line {self.sheet.numbers[i]}" + (f" of {self.sheet.path.name}" if path != self.sheet.path else "")
            first += f", '{shown(self._of(row, 'label'))}', seed {shown(self._of(row, 'seed'))}"
            first += f", by its '{column}'" if column else ""
            count = f"{len(some)} rows" if path == self.sheet.path else f"{len(some)} runs"
            anew = f"`make reproduce-{path.parent.name}` trains them anew"
            remedy = anew if what.startswith("do not count") else RESTORE
            found.append(f"{path}: {count} {what} (the first is {first}) and are left out; {remedy}.")
        return [*found, *self._strangers()]

    def _strangers(self) -> list[str]:
        """A sentence where points are of no row: those of a row that is left out are not told of again."""
        known = {tuple(self._of(row, name) for name in _WHOSE) for row in self.sheet.rows}
        some = [i for whose, places in self.curves.items() if whose not in known for i in places]
        if not some:
            return []
        path, first = self.curve_sheet.path, self.curve_sheet.numbers[min(some)]
        return [
            f"{path}: {len(some)} rows are of no run of {self.sheet.path.name} (the first is line {first}) and are "
            f"left out; {RESTORE}."
        ]
