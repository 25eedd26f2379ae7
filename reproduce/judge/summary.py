"""The summary of a grid: one row a setting, over its seeds, `results/<grid>/summary.csv`."""

import math
from pathlib import Path

import pandas as pd
from scipy import stats

from reproduce.evidence import door
from reproduce.evidence.files import Stale, write
from reproduce.evidence.schema import TABLES
from reproduce.judge.estimates import mean_interval
from reproduce.judge.rows import SETTING, STATUSES, chance, check_one_row_per_seed, is_finished, require_columns

MEANS = TABLES["summary"].names[TABLES["summary"].names.index("mean_all") + 1 :]


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """The content of summary.csv: one row a setting, over its seeds, in the order of first appearance.

    runs, done, diverged, failed: counts. mean, sd, ci_low, ci_high (Student's 95 %), median, iqm, min, max: of the test
    accuracy of the finished runs. mean_all: of all runs, with a diverged or failed one at chance level: what methods
    are ranked by, so that diverging never pays. The remaining columns are means over the finished runs.
    """
    require_columns(runs, [*SETTING, "seed", "status", "test_accuracy", *MEANS])
    check_one_row_per_seed(runs, SETTING)
    finished = is_finished(runs)
    rows = []
    for key, cell in runs.groupby(list(SETTING), sort=False, dropna=False):
        cell = cell.sort_values("seed")  # sums in one order, whatever the rows' order
        done = cell[finished[cell.index]]
        accuracy = done["test_accuracy"].dropna().astype(float)
        estimate = mean_interval(accuracy)
        status = cell["status"].value_counts()
        known = cell["test_accuracy"].astype(float).where(finished[cell.index], chance(cell))
        rows.append(
            dict(zip(SETTING, key))
            | dict(runs=len(cell))
            | {name: int(status.get(name, 0)) for name in STATUSES}
            | dict(
                mean=estimate.value,
                sd=accuracy.std(),
                ci_low=estimate.low,
                ci_high=estimate.high,
                median=accuracy.median(),
                iqm=float(stats.trim_mean(accuracy, 0.25)) if len(accuracy) else math.nan,
                min=accuracy.min(),
                max=accuracy.max(),
                mean_all=known.mean(skipna=False),
            )
            | {name: done[name].astype(float).mean() for name in MEANS}
        )
    return pd.DataFrame(rows, columns=TABLES["summary"].names)


def write_summary(folder: Path) -> bool:
    """Write summary.csv beside a grid's runs.csv; True if it changed. Without a run that counts there is none."""
    path = folder / "summary.csv"
    try:
        runs = door.runs(folder) if (folder / "runs.csv").exists() else None
    except Stale:
        runs = None
    if runs is not None:
        return write(path, summary(runs))
    there = path.is_file()
    path.unlink(missing_ok=True)
    return there
