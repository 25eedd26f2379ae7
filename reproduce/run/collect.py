"""Collect: from the store to `results/<grid>/{runs,curves}.csv`, the same bytes for the same runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from am.errors import InputError
from reproduce.files import read_text, write
from reproduce.run.grid import Grid
from reproduce.run.plan import PlannedRun
from reproduce.run.store import Store
from reproduce.schema import TABLES


def collect(grid: Grid, runs: Sequence[PlannedRun], store: Store, results: Path) -> bool:
    """Write runs.csv and curves.csv of the grid's planned runs; True if any of them changed.

    Rows that an earlier collect wrote stay while they belong to the plan, also where their shards are gone. With no row
    at all, nothing is written and what is there stays.
    """
    folder = results / grid.name
    kept_rows, kept_curves = _by_key(folder / "runs.csv"), _by_key(folder / "curves.csv")
    rows: list[dict[str, str]] = []
    points: list[dict[str, str]] = []
    for run in runs:
        if found := store.get(run.run_key):
            row, curve = _text(_outcome(found)), [_text(point) for point in found["curve"]]
        elif run.run_key in kept_rows:
            # A grid may show one run under two labels, each with the whole curve.
            row = kept_rows[run.run_key][0]
            curve = [point for point in kept_curves.get(run.run_key, []) if point["label"] == row["label"]]
        else:
            continue
        rows.append(row | _text(_identity(grid, run)))
        points += [point | _text(_curve_identity(run)) for point in curve]
    if not rows:
        return False
    _make(folder)
    changed = write(folder / "runs.csv", rows)
    return write(folder / "curves.csv", points) or changed


def collect_trials(grid: Grid, runs: Sequence[PlannedRun], store: Store, results: Path) -> None:
    """Write tuning.csv: one row a trial, whether it was chosen, and what it cost; no column of it saw the test set."""

    def setting(run: PlannedRun) -> tuple:
        c = run.config
        return run.label, c.dataset, c.n_train, c.hidden, c.activation, c.constants, c.settings

    chosen = {setting(run) for run in runs if run.trial is None}
    kept = _by_key(results / grid.name / "tuning.csv")
    rows = []
    for run in runs:
        found = store.get(run.run_key)
        if run.trial is None or not (found or run.run_key in kept):
            continue
        row = _text(_outcome(found)) if found else kept[run.run_key][0]
        rows.append(row | _text(_identity(grid, run) | dict(trial=run.trial, chosen=setting(run) in chosen)))
    if rows:
        _make(results / grid.name)
        write(results / grid.name / "tuning.csv", rows)


def kept_trials(grid: Grid, results: Path) -> dict[str, dict[str, Any]]:
    """The trials of tuning.csv by run key, as far as the choice among them needs: so it stays without the store."""
    return {
        key: dict(status=rows[0]["status"], curve=[dict(val_accuracy=float(rows[0]["val_accuracy"] or "nan"))])
        for key, rows in _by_key(results / grid.name / "tuning.csv").items()
    }


def _curve_identity(run: PlannedRun) -> dict[str, Any]:
    c = run.config
    return dict(
        run_key=run.run_key,
        dataset=c.dataset,
        activation=c.activation,
        hidden="-".join(map(str, c.hidden)),
        method=c.method,
        label=run.label,
        seed=c.seed,
    )


def _identity(grid: Grid, run: PlannedRun) -> dict[str, Any]:
    c = run.config
    return _curve_identity(run) | dict(
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
    )


def _outcome(found: dict[str, Any]) -> dict[str, Any]:
    curve = found["curve"]
    row = {key: found[key] for key in TABLES["runs"].names if key in found}
    if curve:
        best = max(curve, key=lambda point: point["val_accuracy"])
        row["test_accuracy_best_val"] = best.get("test_accuracy")
    if curve and found["status"] == "done":
        row |= {
            key: curve[-1].get(key)
            for key in ("test_accuracy", "val_accuracy", "train_loss", "objective", "gradient_norm")
        }
    return row


def _text(row: dict[str, Any]) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in row.items()}


def _by_key(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of a CSV that an earlier collect wrote, by run key; none where there is no such file."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in read_text(path, ["run_key"]).to_dict("records") if path.exists() else ():
        found.setdefault(row["run_key"], []).append(row)
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); choose another place with RESULTS=.") from None
