"""Collect: from the store to the CSVs of a grid, the same bytes for the same runs; no finished row is ever dropped.

The CSVs hold what the grid plans. A row that it plans no longer, or that the present versions no longer give, goes to
the folder `former` beside them, until `prune` removes that; a CSV that cannot be read whole is refused, not written
anew.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from am.data.base import CLASSES
from reproduce.evidence import door, manifest
from reproduce.evidence.config import RunConfig
from reproduce.evidence.files import make_folder, sweep
from reproduce.evidence.kept import FORMER, by_key, curve_of, kept_runs, rows_of
from reproduce.evidence.rows import WHOSE, Row, config_of, outcome, standing, text
from reproduce.evidence.seal import sealed
from reproduce.evidence.store import FINAL, Store
from reproduce.plan.grid import Grid
from reproduce.plan.plan import PlannedRun

_ELSEWHERE = "choose another place with RESULTS="


def collect(grid: Grid, runs: Sequence[PlannedRun], store: Store, results: Path) -> bool:
    """Write runs.csv and curves.csv of the grid; True if any of them changed.

    Rows that an earlier collect wrote stay also where their shards are gone, and rows of more seeds than are planned
    count on. With no row at all, nothing is written and what is there stays. Raises InputError where a row that is
    there would be lost.
    """
    folder = results / grid.name
    lacking, known = manifest.problems(folder), _known(folder)
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
            row, curve = there[0], curve_of(there[0], curves)
        else:
            continue
        named = identity(grid, run)
        rows.append(sealed(row | named, curve))
        points += [point | {name: named[name] for name in WHOSE} for point in curve]
    current = {run.run_key for run in planned}
    former = [row for key, found in kept.items() if key not in current for row in found]
    if not rows and not former:
        return False
    curves_of = lambda some: [point for row in some for point in curve_of(row, curves)]
    changed = False
    # A row is in its new place before it leaves the old one, so that a kill in between loses none.
    both = [*former, *(row for row in rows_of(folder / FORMER / "runs.csv") if row["run_key"] in current)]
    steps = ((FORMER, both, curves_of(both)), ("", rows, points), (FORMER, former, curves_of(former)))
    for place, now, its_points in steps:
        changed = _write(folder / place, "curves.csv", its_points) or changed
        changed = _write(folder / place, "runs.csv", now) or changed
    if len(rows) + len(former) < known:
        door.tell(lacking)  # now, for the manifest knows from now on only what is left
    return changed


def _known(folder: Path) -> int:
    """How many runs the manifests of a grid know of."""
    return sum(manifest.rows_of(place, "runs") for place in (folder, folder / FORMER))


def _write(folder: Path, name: str, rows: Sequence[Row]) -> bool:
    """Write a CSV of a grid; where it would be empty, there is none. True where that changed something."""
    path = folder / name
    if rows:
        make_folder(folder, _ELSEWHERE)
        sweep(folder)
        return manifest.write_evidence(path, rows)
    if there := path.is_file():
        manifest.forget(path)
        path.unlink()
        if folder.name == FORMER and not any(folder.iterdir()):
            folder.rmdir()
    return there


def identity(grid: Grid, run: PlannedRun) -> Row:
    """The columns that say which run a row is, as the grid calls it now."""
    of_grid = dict(grid=grid.name, profile=grid.profile, rule=grid.rule)
    classes = None if run.data.classes == CLASSES else run.data.classes
    of_data = dict(data_official=run.data.official, data_rows=run.data.rows, classes=classes)
    return run.config.row | text(dict(run_key=run.run_key, label=run.label) | of_grid | of_data)


def with_further_seeds(runs: Sequence[PlannedRun], kept: dict[str, list[Row]]) -> list[PlannedRun]:
    """The planned runs and, beside those of its setting, every run in the CSV that differs from them in its seed alone.

    So whoever asks for fewer seeds than are there loses none, and the order is that of whoever asked for all.
    """
    planned = {run.run_key for run in runs}
    further: dict[RunConfig, dict[str, RunConfig]] = {}
    for key, found in kept.items():
        if key not in planned and standing(found[0]) is None and (config := config_of(found[0])):
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
    folder = results / grid.name
    kept = by_key(folder, "tuning.csv")
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
        named = identity(grid, run) | text(dict(trial=run.trial, chosen=setting(run) in chosen))
        rows.append(sealed(row | named, []))
    current = {run.run_key for run in runs}
    former = [row for key, found in kept.items() if key not in current for row in found]
    if rows or former:
        both = [*former, *(row for row in rows_of(folder / FORMER / "tuning.csv") if row["run_key"] in current)]
        for place, now in ((FORMER, both), ("", rows), (FORMER, former)):
            _write(folder / place, "tuning.csv", now)
