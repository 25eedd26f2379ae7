"""Collect: from the store to the CSVs of a grid, the same bytes for the same runs; no finished row is ever dropped.

A row that the code and the grid of now no longer give stays, marked stale, until `prune` removes it; a CSV that cannot
be read whole is refused, not written anew.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduce.evidence.config import RunConfig
from reproduce.evidence.files import make_folder, malformed, read_text, sweep, write
from reproduce.evidence.rows import Row, checksum, config_of, curve_identity, identity, is_of_this_code, outcome, text
from reproduce.evidence.store import FINAL, Store
from reproduce.run.grid import Grid
from reproduce.run.plan import PlannedRun

_ELSEWHERE = "choose another place with RESULTS="
EVIDENCE = ("runs.csv", "curves.csv", "tuning.csv")


def collect(grid: Grid, runs: Sequence[PlannedRun], store: Store, results: Path) -> bool:
    """Write runs.csv and curves.csv of the grid; True if any of them changed.

    First the planned runs, then the stale rows. Rows that an earlier collect wrote stay also where their shards are
    gone, and rows of more seeds than are planned count on. With no row at all, nothing is written and what is there
    stays. Raises InputError where a row that is there would be lost.
    """
    folder = results / grid.name
    kept, curves = kept_runs(folder, store)
    rows: list[Row] = []
    points: list[Row] = []
    planned = with_further_seeds(runs, kept)
    for run in planned:
        found = store.get(run.run_key)
        there = kept.get(run.run_key)
        if found and (found["status"] in FINAL or not there):
            row, curve = outcome(found)
        elif there:
            # A grid may show one run under two labels, each with the whole curve.
            row, curve = there[0], _curve_of(there[0], curves)
        else:
            continue
        rows.append(row | text(identity(grid, run)))
        points += [point | text(curve_identity(run)) for point in curve]
    current = {run.run_key for run in planned}
    for row in (row for key, found in kept.items() if key not in current for row in found):
        rows.append(row | dict(stale="True"))
        points += [point | dict(stale="True") for point in _curve_of(row, curves)]
    if not rows:
        return False
    make_folder(folder, _ELSEWHERE)
    sweep(folder)
    changed = write(folder / "runs.csv", rows)
    return write(folder / "curves.csv", points) or changed


def with_further_seeds(runs: Sequence[PlannedRun], kept: dict[str, list[Row]]) -> list[PlannedRun]:
    """The planned runs and, beside those of its setting, every run in the CSV that differs from them in its seed alone.

    So whoever asks for fewer seeds than are there loses none, and the order is that of whoever asked for all.
    """
    planned = {run.run_key for run in runs}
    further: dict[RunConfig, dict[str, RunConfig]] = {}
    for key, found in kept.items():
        if key not in planned and is_of_this_code(found[0], config := config_of(found[0])):
            further.setdefault(dataclasses.replace(config, seed=0), {})[key] = config
    made: list[PlannedRun] = []
    groups: dict[tuple, list[PlannedRun]] = {}
    for run in runs:
        setting = dataclasses.replace(run.config, seed=0)
        group = groups.setdefault((run.label, setting), [])
        if not group:
            group += [
                dataclasses.replace(run, run_key=key, config=config) for key, config in further.get(setting, {}).items()
            ]
        group.append(run)
    for group in groups.values():
        made += sorted(group, key=lambda run: run.config.seed)
    return made


def collect_trials(grid: Grid, runs: Sequence[PlannedRun], store: Store, results: Path) -> None:
    """Write tuning.csv: one row a trial, whether it was chosen, and what it cost; no column of it saw the test set."""

    def setting(run: PlannedRun) -> tuple:
        c = run.config
        return run.label, c.dataset, c.n_train, c.hidden, c.activation, c.constants, c.settings

    chosen = {setting(run) for run in runs if run.trial is None}
    kept = _by_key(results / grid.name / "tuning.csv")
    rows = []
    for run in (run for run in runs if run.trial is not None):
        found = store.get(run.run_key)
        there = kept.get(run.run_key)
        if found and (found["status"] in FINAL or not there):
            row, _ = outcome(found, trial=True)
        elif there:
            row = there[0]
        else:
            continue
        rows.append(row | text(identity(grid, run) | dict(trial=run.trial, chosen=setting(run) in chosen)))
    current = {run.run_key for run in runs}
    rows += [row | dict(stale="True") for key, found in kept.items() if key not in current for row in found]
    if rows:
        make_folder(results / grid.name, _ELSEWHERE)
        sweep(results / grid.name)
        write(results / grid.name / "tuning.csv", rows)


def kept_trials(grid: Grid, results: Path) -> dict[str, dict[str, Any]]:
    """The trials of tuning.csv by run key, as far as the choice among them needs: so it stays without the store."""
    path = results / grid.name / "tuning.csv"

    def accuracy(row: Row) -> float:
        try:
            return float(row["val_accuracy"] or "nan")
        except ValueError:
            raise malformed(path, f"'val_accuracy' {row['val_accuracy']}", evidence=True) from None

    return {
        key: dict(status=rows[0]["status"], curve=[dict(val_accuracy=accuracy(rows[0]))])
        for key, rows in _by_key(path).items()
    }


def kept_runs(folder: Path, store: Store) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """The rows of runs.csv and of curves.csv by run key, as an earlier collect wrote them.

    Raises InputError where the store does not have what is torn off either of them.
    """
    runs, curves = _by_key(folder / "runs.csv"), _by_key(folder / "curves.csv")
    lost = lambda keys: [key for key in keys if not store.finished(key)]
    if bare := lost(key for key in curves if key not in runs):
        raise malformed(folder / "runs.csv", f"no row of run {bare[0]}, whose curve is in curves.csv", evidence=True)
    broken = (key for key, rows in runs.items() if not all(is_whole(row, _curve_of(row, curves)) for row in rows))
    if bare := lost(broken):
        row = runs[bare[0]][0]
        found = f"not the whole curve of '{row['label']}' with seed {row['seed']} (run {bare[0]})"
        raise malformed(folder / "curves.csv", found, evidence=True)
    return runs, curves


def is_whole(row: Row, curve: Sequence[Row]) -> bool:
    """Whether a row and its curve are what was collected; of rows older than checksums, whether there is a curve."""
    return row["checksum"] == checksum(row, curve) if row.get("checksum") else bool(curve) or row["status"] != "done"


def prune(folder: Path) -> int:
    """Remove the stale rows from a grid's CSVs, and CSVs of nothing else; returns how many runs and trials went.

    Rows without a checksum are of a code that did not write any, so they are stale whatever they say.
    """
    removed = 0
    for name in ("curves.csv", "runs.csv", "tuning.csv"):  # rows last: a curve without a row would be refused
        path = folder / name
        if path.exists() or path.is_symlink():
            rows = read_text(path, ["run_key"], evidence=True).to_dict("records")
            known = (
                rows
                if name != "curves.csv"
                else [row for found in _by_key(folder / "runs.csv").values() for row in found]
            )
            sealed = {row["run_key"] for row in known if row.get("checksum")}
            fresh = [row for row in rows if row.get("stale") != "True" and row["run_key"] in sealed]
            removed += (len(rows) - len(fresh)) * (name != "curves.csv")
            if not fresh:
                path.unlink()
            elif len(fresh) < len(rows):
                write(path, fresh)
    return removed


def stale_runs(folder: Path) -> int:
    """How many rows of runs.csv are stale."""
    rows = (row for found in _by_key(folder / "runs.csv").values() for row in found)
    return sum(row.get("stale") == "True" for row in rows)


def _curve_of(row: Row, curves: dict[str, list[Row]]) -> list[Row]:
    return [point for point in curves.get(row["run_key"], []) if point["label"] == row["label"]]


def _by_key(path: Path) -> dict[str, list[Row]]:
    """The rows of a CSV that an earlier collect wrote, by run key; none where there is no such file."""
    found: dict[str, list[Row]] = {}
    needed = ["run_key", "label", *(() if path.name == "curves.csv" else ("status", "seed"))]
    there = path.exists() or path.is_symlink()
    for row in read_text(path, needed, evidence=True).to_dict("records") if there else ():
        found.setdefault(row["run_key"], []).append(row)
    return found
