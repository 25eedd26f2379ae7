"""One setting for all data sets: of each label of a tuned grid the trial that is best over all, from its tuning.csv.

A tuned grid trains every data set with the trial that is best there (`reproduce.plan.tuning`). The trials of all data
sets are the points of one design, so that one of them can be chosen for all: what a grid of rule "paper" can state.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from am.data import full_rows, training_rows
from am.errors import InputError, unknown
from reproduce.evidence import door
from reproduce.evidence.files import as_toml, malformed
from reproduce.evidence.places import PROFILES, place
from reproduce.evidence.rows import Row
from reproduce.evidence.store import FINAL
from reproduce.plan.grid import Entry, Grid
from reproduce.plan.tuning import trial_settings

PROBLEM = ("dataset", "activation", "hidden", "n_train_asked", "constants")  # what a trial is scored on
COLUMNS = (*PROBLEM, "data_rows", "label", "hyperparameters", "trial", "status", "val_accuracy", "run_key")


@dataclass(frozen=True)
class Chosen:
    """The trial of one label. settings: what the grid sets and the design varies, before any scaling to rows."""

    entry: Entry
    trial: int
    trials: int
    mean: float  # final validation accuracy over its rows, a diverged one counting 0
    settings: dict[str, Any]
    rows: list[Row]  # of tuning.csv, one a problem

    def __str__(self) -> str:
        """A [[methods]] block to paste into a grid; in comments, where it comes from."""
        lines = [f"# {self.entry.label}: trial {self.trial} of {self.trials}, mean validation accuracy {self.mean:.4f}"]
        for row in self.rows:
            told = row["val_accuracy"] if row["status"] == "done" else row["status"]
            lines.append(f"#   {row['dataset']}: {told}, run {row['run_key']}")
        block = dict(name=self.entry.method.name, label=self.entry.label) | self.entry.overrides
        if "n_train" in block:
            block["n_train"] = [rows or "all" for rows in block["n_train"]]
        lines += ["[[methods]]", *(f"{key} = {as_toml(value)}" for key, value in block.items())]
        return "\n".join([*lines, f"set = {as_toml(self.settings)}"])


def profiles_with_trials(results: Path, name: str, profile: str | None = None) -> list[str]:
    """The profiles, or the one asked for, under which the grid has a tuning.csv; raises InputError where none has."""
    if profile and profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    asked = [profile] if profile else PROFILES
    if found := [one for one in asked if (place(results, one) / name / "tuning.csv").is_file()]:
        return found
    where = place(results, profile) if profile else results
    raise InputError(f"the grid {name} has no tuning.csv in {where}; run `make reproduce-{name}` first.")


def chosen_of(grid: Grid, results: Path) -> list[Chosen]:
    """Of each label the trial with the best mean final validation accuracy over the problems, the first of equals.

    results: the folder of the grid's profile. Raises InputError for a grid that is not tuned, and where a trial is
    missing, failed, or not of the design that the grid has now.
    """
    if grid.rule != "tuned":
        raise InputError(f"{grid.file}: 'rule' is '{grid.rule}', so there are no trials to choose from.")
    path = results / grid.name / "tuning.csv"
    rows = [row for row in door.text(path.parent, "tuning", COLUMNS).to_dict("records") if row["status"] in FINAL]
    return [_best(grid, entry, [row for row in rows if row["label"] == entry.label], path) for entry in grid.entries]


def _best(grid: Grid, entry: Entry, rows: Sequence[Row], path: Path) -> Chosen:
    space = {key: search for key, search in entry.method.search_space().items() if key not in entry.given}
    design = trial_settings(entry.settings, space, grid.trials)
    trials = [{_problem(row): row for row in rows if row["trial"] == str(number)} for number in range(grid.trials)]
    problems = {_problem(row): row["dataset"] for row in rows}
    problems |= {(name,): name for name in grid.datasets if name not in problems.values()}
    means = []
    for number, (settings, found) in enumerate(zip(design, trials)):
        where, remedy = f"{path}: trial {number} of '{entry.label}'", f"`make reproduce-{grid.name}` trains it"
        if missing := [name for problem, name in problems.items() if problem not in found]:
            raise InputError(f"{where} is not finished on {missing[0]}; {remedy}.")
        for row in found.values():
            if not _is_of(entry, settings, row):
                raise InputError(f"{where} on {row['dataset']} has other settings than the grid's design; {remedy}.")
        means.append(sum(_accuracy(path, row) for row in found.values()) / len(found))
    best = max(range(grid.trials), key=lambda number: (means[number], -number))
    stated = {key: value for key, value in dataclasses.asdict(design[best]).items() if key in {*entry.given, *space}}
    return Chosen(entry, best, grid.trials, means[best], stated, list(trials[best].values()))


def _problem(row: Row) -> tuple[str, ...]:
    return tuple(row[key] for key in PROBLEM)


def _is_of(entry: Entry, settings: Any, row: Row) -> bool:
    """Whether the row's run was trained with these settings, scaled where its constants are."""
    try:
        if row["constants"] == "scaled" and entry.method.depends_on_rows:
            rows = int(row["data_rows"])
            share = training_rows(rows, int(row["n_train_asked"])) / full_rows(row["dataset"], rows)
            settings = entry.method.scaled(settings, share)
        return json.loads(row["hyperparameters"]) == dataclasses.asdict(settings)
    except (ValueError, RecursionError):  # of an older code, or damaged
        return False


def _accuracy(path: Path, row: Row) -> float:
    """What the trial scores: a diverged one nothing."""
    if row["status"] == "diverged":
        return 0.0
    try:
        if 0 <= (accuracy := float(row["val_accuracy"])) <= 1:
            return accuracy
    except ValueError:
        pass
    raise malformed(path, f"'val_accuracy' {row['val_accuracy']}")
