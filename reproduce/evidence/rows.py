"""A run as rows of text: from the store to the CSVs, and back from the CSVs to the store, nothing lost on the way."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from am.methods import methods
from reproduce.evidence import versions
from reproduce.evidence.config import RunConfig, components, from_row, number
from reproduce.evidence.key import declared, facts, run_key
from reproduce.evidence.schema import TABLES, by_unit

Row = dict[str, str]

# What a run's last evaluation says; the store has it in the curve.
LAST = ("test_accuracy", "val_accuracy", "train_loss", "objective", "gradient_norm")
_RUNS = TABLES["runs"].names
OUTCOME = (
    "n_train",
    *(name for name in _RUNS[_RUNS.index("status") :] if name not in ("run_key", "versions", "checksum", "seal")),
)
_MOOD = (*by_unit("runs", "s"), *by_unit("curves", "s"), "stack_runs", "cpu", "commit")
_CURVE = TABLES["curves"].names
POINT = _CURVE[_CURVE.index("iteration") :]
WHOSE = _CURVE[: _CURVE.index("iteration")]  # of a point: the run that it is of


def outcome(found: dict[str, Any], trial: bool = False) -> tuple[Row, list[Row]]:
    """What came of a stored run: the columns of its row, and its curve, a trial's none: no CSV has it."""
    curve = found["curve"]
    row = {key: found[key] for key in (*OUTCOME, "versions") if key in found}
    if curve and not trial:
        best = max(curve, key=lambda point: point["val_accuracy"])
        row["test_accuracy_best_val"] = best.get("test_accuracy")
    if curve and found["status"] == "done":
        row |= {key: curve[-1].get(key) for key in LAST}
    written, points = text(row), [] if trial else [text(point) for point in curve]
    return written | dict(checksum=checksum(written, points)), points


def text(row: dict[str, Any]) -> Row:
    return {key: "" if value is None else str(value) for key, value in row.items()}


def checksum(row: Row, curve: Sequence[Row]) -> str:
    """Of what came of a run, the same for whoever trains it: what it cost in seconds, and beside whom, does not count.

    Nor do empty fields, so that a further column leaves the rows before it as they are.
    """
    return hashlib.sha256(json.dumps(_content(row, curve), sort_keys=True).encode()).hexdigest()[:16]


def numbers(row: Row, curve: Sequence[Row]) -> list[Row]:
    """What of a run and its curve every machine should find alike: what its checksum is of, less where it ran."""
    return _content({name: value for name, value in row.items() if name not in ("device", "torch")}, curve)


def _content(row: Row, curve: Sequence[Row]) -> list[Row]:
    filled = lambda names, fields: {name: fields[name] for name in names if fields.get(name) and name not in _MOOD}
    return [filled(OUTCOME, row), *(filled(POINT, point) for point in curve)]


def config_of(row: Row, trial: bool = False) -> RunConfig | None:
    """The configuration of a row; None where the row does not say it, as those of older code."""
    try:
        said = from_row(row, read_test=not trial)
        return dataclasses.replace(said, settings=tuple(_settings(said.method, dict(said.settings)).items()))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _settings(name: str, said: dict[str, Any]) -> dict[str, Any]:
    """The settings that a row says, in the method's order; one that is younger than the row stands at its default."""
    known = declared(name) if name in methods() else {}
    return {key: said.get(key, value) for key, value in known.items()} | said


def standing(row: Row, trial: bool = False) -> str | None:
    """Why the row does not count: it is not the run that its key says, or is of other versions; None: it counts."""
    return mismatch(row, trial) or outdated(row, trial)


def mismatch(row: Row, trial: bool = False) -> str | None:
    """What of the row does not go with its key; None also for a method that is not here, whose key nobody can tell."""
    config = config_of(row, trial)
    if config is None:
        return "does not say which run it is"
    try:
        made_at = versions.from_words(row.get("versions", ""))
    except ValueError:
        return f"says no versions ('{row.get('versions', '')}')"
    if config.method in methods() and run_key(config, made_at) != row["run_key"]:
        return "has a key that its configuration does not give"
    return None


def outdated(row: Row, trial: bool = False) -> str | None:
    """Why a row without a `mismatch` does not count under the present versions; None: it counts."""
    config, made_at = config_of(row, trial), versions.from_words(row["versions"])
    if config.method not in methods():
        return f"is of method '{config.method}', which is not here"
    for component in components(config):
        then, now = made_at.get(component, 1), versions.current(component)
        if moved := [step for step in versions.since(component, then) if step.concerns(facts(config, row))]:
            return f"is of {moved[0]}"
        if isinstance(then, str) or isinstance(now, str) or then > now:
            if then != now:
                return f"is of {component} {then}, and {now} is here"
    return None


def stored(row: Row, curve: Sequence[Row]) -> dict[str, Any]:
    """The run as the store has it. A trial's row has no curve; of its evaluations the choice needs the last."""
    run = {name: row.get(name, "") if name in _WORDS else _value(row.get(name, "")) for name in _STORED}
    points = [{name: _value(point[name]) for name in POINT if point.get(name)} for point in curve]
    if not curve and run["status"] == "done":
        points = [{name: _value(row[name]) for name in LAST if row.get(name)}]
    return run | dict(run_key=row["run_key"], curve=points)


_WORDS = ("status", "error", "device", "cpu", "torch", "commit", "versions")
_STORED = (*(name for name in OUTCOME if name not in (*LAST, "test_accuracy_best_val")), "versions")


def _value(written: str) -> int | float | None:
    return None if written == "" else number(written)
