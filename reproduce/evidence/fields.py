"""Whether what a row and its curve say can be, every field a value of its column: asked before a store takes them."""

import json
import math
from collections.abc import Iterable, Sequence

from reproduce.evidence.column import KINDS, Column
from reproduce.evidence.files import shown
from reproduce.evidence.rows import Row
from reproduce.evidence.schema import TABLES

STATUSES = ("done", "diverged", "failed")
DEEPEST = 3  # of JSON: settings are numbers, words, and lists of those
_CURVE = TABLES["curves"].columns
# What a point must have, since rows, figures and judges are made of it; the others a method may be without.
_POINT = ("iteration", "epoch", "parameter_updates", "gradient_evaluations", "flops", "val_accuracy", "train_loss")
_ROW = ("run_key", "label", "dataset", "method", "seed", "status", "n_train")


def problems(row: Row, curve: Sequence[Row]) -> str | None:
    """Why the row, of runs.csv or tuning.csv, or its curve cannot be those of a run; None where they can.

    The words follow the name of the row: "has 'test_accuracy' 7.5, which is no number in [0, 1]".
    """
    table = TABLES["tuning" if row.get("trial") else "runs"]
    return (
        _lacking(row, _ROW)
        or _wrong(row, table.columns)
        or _wrong_words(row)
        or _wrong_settings(row.get("hyperparameters", ""))
        or _wrong_curve(row, curve)
    )


def _lacking(fields: Row, names: Iterable[str]) -> str | None:
    return next((f"has no '{name}'" for name in names if not fields.get(name)), None)


def _wrong(fields: Row, columns: Iterable[Column]) -> str | None:
    for column in columns:
        field = fields.get(column.name) or ""
        if field and not _is(field, column):
            what = f"{KINDS[column.kind]} of at least 0" if column.kind == "integer" else KINDS[column.kind]
            return f"has '{column.name}' {shown(field)}, which is no {what}"
    return None


def _is(field: str, column: Column) -> bool:
    """Whether the field is a value of the column; counts and seconds are not negative."""
    if column.kind == "text":
        return field.isprintable() or column.name in ("error", "hyperparameters")
    if column.kind == "flag":
        return field in ("True", "False")
    if column.kind == "integer":
        return field.isdecimal() and field.isascii() and len(field) <= 18
    try:
        value = float(field)
    except ValueError:
        return False
    if "_" in field or field != field.strip():  # which Python's numbers may have
        return False
    if column.kind == "share":
        return 0 <= value <= 1
    return not (column.unit == "s" and not 0 <= value < math.inf)


def _wrong_words(row: Row) -> str | None:
    if row["status"] not in STATUSES:
        return f"has 'status' {shown(row['status'])}, which is none of {', '.join(STATUSES)}"
    return None if row["label"].strip() == row["label"] else "has a 'label' that begins or ends with a blank"


def _wrong_settings(text: str) -> str | None:
    wrong = f"has 'hyperparameters' {shown(text)}, which are no settings as JSON"
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return wrong
    return None if isinstance(found, dict) and _is_shallow(found, DEEPEST) else wrong


def _is_shallow(value: object, left: int) -> bool:
    """Whether lists and tables stand in each other `left` deep at the most."""
    if not isinstance(value, (dict, list)):
        return True
    return left > 0 and all(
        _is_shallow(one, left - 1) for one in (value.values() if isinstance(value, dict) else value)
    )


def _wrong_curve(row: Row, curve: Sequence[Row]) -> str | None:
    if row["status"] == "done" and not row.get("trial") and not curve:
        return "is done and has no curve"
    before = -1
    for number, point in enumerate(curve, 1):
        found = _lacking(point, _POINT if row["status"] == "done" else _POINT[:-2]) or _wrong(point, _CURVE)
        if not found and int(point["iteration"]) <= before:
            found = f"has 'iteration' {point['iteration']} after {before}"
        if found:
            return f"has a curve whose point {number} {found}"
        before = int(point["iteration"])
    return None
