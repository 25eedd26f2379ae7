"""CSVs as a reader sees them: columns by name, accuracies in per cent, data sets by their titles."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reproduce.evidence import door
from reproduce.evidence.columns import COLUMNS
from reproduce.evidence.files import read_text
from reproduce.evidence.schema import activation_title, dataset_title, titled

# Accuracies whose column is a plain number, a table each: statistics of accuracies have no kind of their own.
_ACCURACIES = dict(
    summary=("mean", "sd", "ci_low", "ci_high", "median", "iqm", "min", "max", "mean_all"),
    comparison=("theirs", "theirs_sd", "ours", "ours_sd", "tolerance"),
    released_code=("theirs", "theirs_sd", "ours", "ours_sd", "tolerance"),
    stability=("diverged_share", "diverged_share_low", "diverged_share_high", "deviation", "deviation_low",
               "deviation_high", "mean_accuracy", "mean_accuracy_low", "mean_accuracy_high"),
    to_target=("share", "target"),
    convergence=("monotone_share", "monotone_share_low", "monotone_share_high"),
)  # fmt: skip
_NAMES = dict(
    n_train="Training images", n="Rows", sd="Standard deviation", ci_low="95 % interval from", ci_high="to",
    iqm="Interquartile mean", min="Lowest", max="Highest", mean_all="Mean, lost runs at chance",
    test_accuracy_best_val="Test accuracy at the best validation", flops="FLOPs", r_squared="R²", dataset="Data set",
    theirs_sd="Their standard deviation", ours_sd="Our standard deviation", run_key="Run",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """text: as shown. value: what it sorts by, where that is not the text."""

    text: str
    value: str | None


@dataclass(frozen=True)
class Table:
    """A CSV as shown. kinds: number, short or long, a column each. same: what all rows share, (column, text) each.

    datasets: titles to filter by; at: number of their column.
    """

    name: str
    columns: list[str]
    kinds: list[str]
    rows: list[list[Cell]]
    same: list[tuple[str, str]]
    datasets: list[str]
    at: int | None


def table_of(path: Path) -> Table:
    frame = door.text(path.parent, "tuning") if path.name == "tuning.csv" else read_text(path)
    same = [column for column in frame if len(frame) > 1 and frame[column].nunique() == 1]
    shares = _shares(path.stem)
    common = [(_heading(c, shares), _shown(c, frame[c].iloc[0], "", shares).text) for c in same if frame[c].iloc[0]]
    frame = frame.drop(columns=same)
    kinds = [_kind(frame[column]) for column in frame]
    rows = [
        [_shown(column, text, kind, shares) for column, text, kind in zip(frame, row, kinds)]
        for row in frame.itertuples(index=False, name=None)
    ]
    datasets = [dataset_title(name) for name in dict.fromkeys(frame["dataset"])] if "dataset" in frame else []
    at = list(frame).index("dataset") if "dataset" in frame else None
    name = path.stem.replace("_", " ").capitalize()
    return Table(name, [_heading(column, shares) for column in frame], kinds, rows, common, datasets, at)


def _shares(table: str) -> set[str]:
    known = {name for name, column in COLUMNS.items() if column.kind == "share"}
    return known | set(_ACCURACIES.get(table, ()))


def _heading(column: str, shares: set[str]) -> str:
    if column in _NAMES:
        text = _NAMES[column]
    else:
        stem = re.sub(r"_(low|high)$", "", column)
        text = stem.replace("_", " ").capitalize() + (
            "" if stem == column else ", from" if column.endswith("w") else ", to"
        )
    unit = "%" if column in shares else COLUMNS[column].unit if column in COLUMNS else ""
    return f"{text} ({unit})" if unit else text


def _kind(column: pd.Series) -> str:
    filled = column[column != ""]
    known = COLUMNS.get(column.name)
    if (known is None or known.kind != "text") and len(filled) and pd.to_numeric(filled, errors="coerce").notna().all():
        return "number"
    return "long" if column.str.len().max() > 40 else "short"


def _shown(column: str, text: str, kind: str, shares: set[str]) -> Cell:
    if kind == "number" or (column in shares and text):
        return number_cell(text, 100 if column in shares else 1)
    if column == "dataset":
        return Cell(dataset_title(text), None)
    if column == "activation":
        return Cell(activation_title(text), None)
    return Cell(titled(text) if kind == "long" else text, None)


def number_cell(text: str, factor: float = 1.0) -> Cell:
    """A number to five digits, sorted by all of them; an infinite one by the name that a browser knows."""
    if not text:
        return Cell("", None)
    value = float(text)
    if math.isinf(value):
        return Cell("∞" if value > 0 else "−∞", "Infinity" if value > 0 else "-Infinity")
    times = value * factor
    if factor != 1.0:
        shown = f"{times:.2f}"
    else:
        shown = f"{times:,.0f}" if times.is_integer() and abs(times) < 1e9 else f"{times:.5g}"
    return Cell(shown, None if shown == text else text)
