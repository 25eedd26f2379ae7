"""A run as rows of text: from the store to the CSVs, and back from the CSVs to the store, nothing lost on the way."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from am.methods import methods
from reproduce.evidence.config import RunConfig, run_key
from reproduce.evidence.schema import TABLES, by_unit
from reproduce.run.grid import Grid
from reproduce.run.plan import PlannedRun

Row = dict[str, str]

# What a run's last evaluation says; the store has it in the curve.
LAST = ("test_accuracy", "val_accuracy", "train_loss", "objective", "gradient_norm")
_RUNS = TABLES["runs"].names
OUTCOME = (
    "n_train",
    *(name for name in _RUNS[_RUNS.index("status") :] if name not in ("run_key", "checksum", "stale")),
)
_MOOD = (*by_unit("runs", "s"), *by_unit("curves", "s"), "stack_runs", "commit")
_CURVE = TABLES["curves"].names
POINT = tuple(name for name in _CURVE[_CURVE.index("iteration") :] if name != "stale")


def curve_identity(run: PlannedRun) -> dict[str, Any]:
    c = run.config
    return dict(
        run_key=run.run_key,
        dataset=c.dataset,
        activation=c.activation,
        hidden="-".join(map(str, c.hidden)),
        method=c.method,
        label=run.label,
        seed=c.seed,
        stale=False,
    )


def identity(grid: Grid, run: PlannedRun) -> dict[str, Any]:
    """The columns that say which run a row is, as the grid calls it now."""
    c = run.config
    return curve_identity(run) | dict(
        grid=grid.name,
        profile=grid.profile,
        rule=grid.rule,
        lane=c.lane,
        data_official=run.data.official,
        data_rows=run.data.rows,
        data_fingerprint=c.data_fingerprint,
        inputs=c.inputs,
        network=c.network,
        constants=c.constants,
        init=c.init,
        hyperparameters=json.dumps(dict(c.settings)),
        n_train_asked=c.n_train,
        epochs_asked=c.epochs,
        batch_size=c.batch_size,
        evaluate_every=c.evaluate_every,
        gradient_norms=c.gradient_norm,
    )


def outcome(found: dict[str, Any], trial: bool = False) -> tuple[Row, list[Row]]:
    """What came of a stored run: the columns of its row, and its curve, a trial's none: no CSV has it."""
    curve = found["curve"]
    row = {key: found[key] for key in OUTCOME if key in found}
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
        return RunConfig(
            dataset=row["dataset"],
            data_fingerprint=row["data_fingerprint"],
            n_train=int(row["n_train_asked"]),
            inputs=row["inputs"],
            network=row["network"],
            activation=row["activation"],
            hidden=tuple(map(int, row["hidden"].split("-"))),
            init=row["init"],
            method=row["method"],
            constants=row["constants"],
            settings=tuple(json.loads(row["hyperparameters"]).items()),
            seed=int(row["seed"]),
            epochs=int(row["epochs_asked"]),
            batch_size=int(row["batch_size"]),
            evaluate_every=_number(row["evaluate_every"]),
            read_test=not trial,
            gradient_norm=row["gradient_norms"] == "True",
            lane=row["lane"],
        )
    except (KeyError, ValueError, AttributeError, RecursionError):
        return None


def is_of_this_code(row: Row, config: RunConfig | None) -> bool:
    """Whether the present code would train just this run under the row's key."""
    return config is not None and config.method in methods() and run_key(config) == row["run_key"]


def stored(row: Row, curve: Sequence[Row]) -> dict[str, Any]:
    """The run as the store has it. A trial's row has no curve; of its evaluations the choice needs the last."""
    run = {name: row.get(name, "") if name in _WORDS else _value(row.get(name, "")) for name in _STORED}
    points = [{name: _value(point[name]) for name in POINT if point.get(name)} for point in curve]
    if not curve and run["status"] == "done":
        points = [{name: _value(row[name]) for name in LAST if row.get(name)}]
    return run | dict(run_key=row["run_key"], curve=points)


_WORDS = ("status", "error", "device", "torch", "commit")
_STORED = tuple(name for name in OUTCOME if name not in (*LAST, "test_accuracy_best_val"))


def _value(written: str) -> int | float | None:
    return None if written == "" else _number(written)


def _number(written: str) -> int | float:
    """An integer stays one: the text of a number, and with it a row's bytes and a run's key, come back as they were."""
    try:
        return int(written)
    except ValueError:
        return float(written)
