"""The seal of a row: a hash of what its checksum leaves out, so that label, settings and seconds cannot change unseen.

`rows.checksum` is of what came of a run and its curve, the same for whoever trains it, and it stays what it is. The
seal is of the rest: of every other column that a CSV has of the run, the checksum among them, and of its curve's
seconds. Both leave out empty fields, so that a later column leaves the rows before it as they are.
"""

import hashlib
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring_ascii as quoted
from operator import itemgetter

from reproduce.evidence.rows import _MOOD, OUTCOME, POINT, Row, checksum
from reproduce.evidence.schema import TABLES, by_unit

DIGITS = 16
_NOT_SEALED = ("seal", "chosen")  # whether a trial is chosen changes with what else is tried
_SECONDS = by_unit("curves", "s")


def seal(row: Row, curve: Sequence[Row]) -> str:
    """16 hex digits over all that a CSV has of a run and its checksum is not of. row: with its checksum; as read.

    The canonical JSON of the row's filled columns, then of the seconds of each point; as a trial's row has no curve,
    nobody asks for one.
    """
    points = [_object({name: point[name] for name in _SECONDS if point.get(name)}) for point in curve]
    return _digest([_object({name: row[name] for name in _sealed(row) if row.get(name)}), *points])


def sealed(row: Row, curve: Sequence[Row]) -> Row:
    """The row with its checksum and its seal, as `collect` writes it."""
    row = row | dict(checksum=checksum(row, curve))
    return row | dict(seal=seal(row, curve))


def holds(row: Row, curve: Sequence[Row]) -> bool:
    """Whether row and curve are what was written: by the checksum, and by the seal where there is one."""
    return row.get("checksum") == checksum(row, curve) and (not row.get("seal") or row["seal"] == seal(row, curve))


def _sealed(row: Row) -> list[str]:
    names = TABLES["tuning" if row.get("trial") else "runs"].names
    return [name for name in names if name not in _NOT_SEALED]


def _object(fields: Row) -> str:
    """As json.dumps(fields, sort_keys=True) gives it."""
    return "{" + ", ".join([f"{quoted(name)}: {quoted(fields[name])}" for name in sorted(fields)]) + "}"


def _digest(objects: Sequence[str]) -> str:
    return hashlib.sha256(f"[{', '.join(objects)}]".encode()).hexdigest()[:DIGITS]


# Of a whole CSV at once ----------------------------------------------------------------------------------------------


class Columns:
    """The same two hashes for rows that are lists, under the names of their CSV: what a file of 100,000 points needs.

    trial: the rows are of tuning.csv.
    """

    def __init__(self, names: Sequence[str], points: Sequence[str] = (), trial: bool = False) -> None:
        sealed_names = _sealed(dict(trial="0") if trial else {})
        self._outcome = _Part(names, [name for name in OUTCOME if name not in _MOOD])
        self._rest = _Part(names, sealed_names)
        self._point = _Part(points, [name for name in POINT if name not in _MOOD])
        self._seconds = _Part(points, _SECONDS)

    def checksum(self, row: list[str], curve: Sequence[list[str]]) -> str:
        return _digest([self._outcome.of(row), *self._point.each(curve)])

    def seal(self, row: list[str], curve: Sequence[list[str]]) -> str:
        return _digest([self._rest.of(row), *self._seconds.each(curve)])


class _Part:
    """Some columns of a CSV as `_object` gives them, in one go."""

    def __init__(self, names: Sequence[str], wanted: Sequence[str]) -> None:
        there = sorted(name for name in wanted if name in names)
        self._heads = [f"{quoted(name)}: " for name in there]
        places = [names.index(name) for name in there]
        # itemgetter of one place gives no tuple, and of none there is none.
        self._fields = itemgetter(*places) if len(places) > 1 else lambda row: tuple(row[i] for i in places)

    def of(self, row: list[str]) -> str:
        return (
            "{"
            + ", ".join([head + quoted(field) for head, field in zip(self._heads, self._fields(row)) if field])
            + "}"
        )

    def each(self, rows: Sequence[list[str]]) -> Iterator[str]:
        return map(self.of, rows)
