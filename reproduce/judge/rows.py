"""Rows of runs as the statistics read them: scores, one row a seed, groups."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from am.data.base import CLASSES
from am.errors import InputError, unknown
from am.methods import methods
from reproduce.evidence.schema import TABLES

MIN_SEEDS = 3
STATUSES = ("done", "diverged", "failed")
ACCURACIES = ("test_accuracy", "test_accuracy_best_val", "val_accuracy")
SETTING = TABLES["summary"].names[: TABLES["summary"].names.index("runs")]


def with_role(name: str, role: str) -> list[str]:
    """The settings of a method that play a role (a step size, a shape, an inertia): keys of `hyperparameters`."""
    return methods()[name].with_role(role) if name in methods() else []


def chance(runs: pd.DataFrame) -> pd.Series:
    """Of each run the accuracy of guessing: 1 / classes, ten where the row says nothing (`evidence.columns`)."""
    if "classes" not in runs:
        return pd.Series(1 / CLASSES, runs.index)
    return 1 / pd.to_numeric(runs["classes"]).fillna(CLASSES)


def scores(runs: pd.DataFrame, metric: str = "test_accuracy", unfinished: float | pd.Series | None = None) -> pd.Series:
    """The metric of each run; a diverged or failed run scores `unfinished`, by default chance level for an accuracy.

    Raises InputError where a finished run has no finite value, and where another metric gives no `unfinished`.
    """
    require_columns(runs, ["status", metric])
    finished = is_finished(runs)
    if unfinished is None:
        if metric not in ACCURACIES and not finished.all():
            raise InputError(f"some runs did not finish, and only an accuracy says what that is worth, not '{metric}'.")
        unfinished = chance(runs)
    values = runs[metric].astype(float)
    if (finished & ~np.isfinite(values)).any():
        bad = runs[finished & ~np.isfinite(values)].iloc[0]
        raise InputError(f"a finished run of '{bad.get('label')}' with seed {bad.get('seed')} has no {metric}.")
    return values.where(finished, unfinished)


def is_finished(runs: pd.DataFrame) -> pd.Series:
    for status in runs["status"].unique():
        if status not in STATUSES:
            raise unknown("status", status, STATUSES, "runs")
    return runs["status"] == "done"


def in_words(labels: Iterable[str]) -> str:
    """Labels in a row of text, in quotes where they have commas of their own."""
    return ", ".join(f'"{label}"' if "," in label else label for label in dict.fromkeys(map(str, labels)))


def too_few(seeds: int) -> str:
    """Why fewer than MIN_SEEDS seeds have no test."""
    return {0: "no seed in common", 1: "one seed: no statistics"}.get(seeds, f"{seeds} seeds: too few for a test")


def require_columns(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))


def only_labels(runs: pd.DataFrame, *labels: str) -> pd.DataFrame:
    """The rows of these labels, so that no other method has a part in what follows."""
    require_columns(runs, ["label"])
    for label in labels:
        if label not in set(runs["label"]):
            raise unknown("label", label, map(str, runs["label"].unique()))
    return runs[runs["label"].isin(labels)]


def listed(labels: str | Sequence[str]) -> list[str]:
    return [labels] if isinstance(labels, str) else list(labels)


def check_one_row_per_seed(runs: pd.DataFrame, cell: Sequence[str]) -> None:
    """Raise InputError where a seed has several rows: seeds are the unit of replication."""
    twice = runs.duplicated([*cell, "seed"], keep=False)
    if not twice.any():
        return
    same = runs[twice].merge(runs[twice].iloc[[0]][[*cell, "seed"]])
    where = ", ".join(f"{column} {same.iloc[0][column]}" for column in [*cell, "seed"])
    identity = [c for c in (*SETTING, "rule", "lane", "inputs", "init", "hyperparameters") if c in same]
    differs = ", ".join(c for c in identity if same[c].nunique(dropna=False) > 1) or "nothing that identifies a run"
    raise InputError(
        f"{len(same)} rows share {where} and differ in {differs}: the seed is the unit, so choose one or group by that."
    )


def pivot_seeds(runs: pd.DataFrame, values: pd.Series, by: Sequence[str]) -> pd.DataFrame:
    """Values with one row a (group, seed), sorted, and one column a label; NaN where there is no such run."""
    require_columns(runs, [*by, "label", "seed"])
    check_one_row_per_seed(runs, [*by, "label"])
    table = runs[[*by, "label", "seed"]].assign(value=values)
    return table.pivot(index=[*by, "seed"], columns="label", values="value")[list(runs["label"].unique())]


def count_done(runs: pd.DataFrame, by: Sequence[str]) -> Counter[tuple[Hashable, ...]]:
    """(*group, label) -> how many of its runs finished."""
    return Counter(runs.loc[is_finished(runs), [*by, "label"]].itertuples(index=False, name=None))


def groups_of(runs: pd.DataFrame, by: Sequence[str]) -> list[tuple[Hashable, ...]]:
    """The groups in the order of their first appearance."""
    return list(runs[list(by)].drop_duplicates().itertuples(index=False, name=None))
