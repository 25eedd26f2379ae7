"""Collect: from the store to the CSVs of a grid, the same bytes for the same runs; no finished row is ever dropped.

The CSVs hold what the grid plans. A row that it plans no longer, or that the present versions no longer give, goes to
the folder `former` beside them, until `prune` removes that; a CSV that cannot be read whole is refused, not written
anew.
"""

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from am.data.base import CLASSES
from am.errors import InputError
from reproduce.evidence import door, manifest
from reproduce.evidence.config import RunConfig
from reproduce.evidence.files import make_folder, malformed, read_text, sweep
from reproduce.evidence.rows import Row, config_of, outcome, standing, text
from reproduce.evidence.seal import holds, sealed
from reproduce.evidence.store import FINAL, Store
from reproduce.plan.grid import Grid
from reproduce.plan.plan import PlannedRun

_ELSEWHERE = "choose another place with RESULTS="
EVIDENCE = ("runs.csv", "curves.csv", "tuning.csv")
FORMER = "former"  # the folder of rows that the grid plans no longer

Kept = dict[str, list[Row]]  # run key -> its rows, one a label, or the points of its curve


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
            row, curve = there[0], _curve_of(there[0], curves)
        else:
            continue
        rows.append(sealed(row | text(identity(grid, run)), curve))
        points += [point | text(curve_identity(run)) for point in curve]
    current = {run.run_key for run in planned}
    former = [row for key, found in kept.items() if key not in current for row in found]
    if not rows and not former:
        return False
    curves_of = lambda some: [point for row in some for point in _curve_of(row, curves)]
    changed = False
    # A row is in its new place before it leaves the old one, so that a kill in between loses none.
    both = [*former, *(row for row in _read(folder / FORMER / "runs.csv") if row["run_key"] in current)]
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
        classes=None if run.data.classes == CLASSES else run.data.classes,
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
    kept = _by_key(folder, "tuning.csv")
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
        named = text(identity(grid, run) | dict(trial=run.trial, chosen=setting(run) in chosen))
        rows.append(sealed(row | named, []))
    current = {run.run_key for run in runs}
    former = [row for key, found in kept.items() if key not in current for row in found]
    if rows or former:
        both = [*former, *(row for row in _read(folder / FORMER / "tuning.csv") if row["run_key"] in current)]
        for place, now in ((FORMER, both), ("", rows), (FORMER, former)):
            _write(folder / place, "tuning.csv", now)


def kept_by_key(grid: Grid, results: Path) -> dict[str, dict[str, Any]]:
    """What the CSVs say of runs and trials by key, as far as a plan needs it: so it stays without the store."""
    folder = results / grid.name

    def accuracy(row: Row, name: str) -> float:
        try:
            return float(row.get("val_accuracy") or "nan")
        except ValueError:
            raise malformed(folder / name, f"'val_accuracy' {row['val_accuracy']}") from None

    return {
        key: rows[0] | dict(curve=[dict(val_accuracy=accuracy(rows[0], name))])
        for name in ("runs.csv", "tuning.csv")
        for key, rows in _by_key(folder, name).items()
    }


def kept_runs(folder: Path, store: Store) -> tuple[Kept, Kept]:
    """The rows of runs.csv and of curves.csv by run key, former ones too, as an earlier collect wrote them.

    Raises InputError where the store does not have what is torn off either of them.
    """
    runs, curves = _by_key(folder, "runs.csv"), _by_key(folder, "curves.csv")
    lost = lambda keys: [key for key in keys if not store.finished(key)]
    if bare := lost(key for key in curves if key not in runs):
        raise malformed(folder / "runs.csv", f"no row of run {bare[0]}, whose curve is in curves.csv")
    broken = (key for key, rows in runs.items() if not all(holds(row, _curve_of(row, curves)) for row in rows))
    if lost(broken):
        sentences = [sentence for place in (folder, folder / FORMER) for sentence in door.problems(place)]
        raise InputError(sentences[0])
    return runs, curves


def not_counted(folder: Path) -> Counter[str]:
    """Why finished runs and trials of the grid's CSVs do not count under the present versions, and how many each."""
    return Counter(
        why
        for name in ("runs.csv", "tuning.csv")
        for rows in _by_key(folder, name).values()
        for row in rows
        if row["status"] in FINAL and (why := standing(row, name == "tuning.csv"))
    )


def prune(folder: Path) -> int:
    """Remove the rows that the grid plans no longer, the folder `former`; returns how many runs and trials went."""
    if not (former := folder / FORMER).is_dir():
        return 0
    count = sum(len(_read(former / name)) for name in ("runs.csv", "tuning.csv"))
    shutil.rmtree(former)
    return count


def former_runs(folder: Path) -> int:
    """How many runs of the grid's CSVs are not planned any more."""
    return len(_read(folder / FORMER / "runs.csv"))


def _curve_of(row: Row, curves: Kept) -> list[Row]:
    return [point for point in curves.get(row["run_key"], []) if point["label"] == row["label"]]


def _by_key(folder: Path, name: str) -> Kept:
    """The rows of a CSV that an earlier collect wrote, by run key, those of `former` after the others.

    A row that stands in both, as a kill between two files leaves it, counts once.
    """
    found: Kept = {}
    needed = ["run_key", "label", *(() if name == "curves.csv" else ("status", "seed"))]
    for path in (folder / name, folder / FORMER / name):
        before = {(row["run_key"], row["label"]) for rows in found.values() for row in rows}
        for row in _read(path, needed):
            if (row["run_key"], row["label"]) not in before:
                found.setdefault(row["run_key"], []).append(row)
    return found


def _read(path: Path, needed: Sequence[str] = ()) -> list[Row]:
    there = path.exists() or path.is_symlink()
    return read_text(path, needed).to_dict("records") if there else []
