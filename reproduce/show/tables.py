"""Tables: `results/<grid>/table.md` and `table.tex` from the CSVs, and the tables of pages between their markers.

Cells are mean +/- standard deviation of the final test accuracy over seeds, in per cent; bold is the best of a problem
and whatever the paired test at 5 % does not find worse (`judge.compare.bold`).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from am.errors import InputError
from reproduce.evidence import door
from reproduce.evidence.files import Stale, markdown_cell, write_whole
from reproduce.evidence.schema import dataset_title, network_title
from reproduce.judge.compare import bold
from reproduce.judge.rows import MIN_SEEDS

# What makes a problem beside its data set, and how a table calls it.
AXES = dict(network="Network", activation="Activation", hidden="Widths", constants="Constants", n_train_asked="n")
MOST_COLUMNS = 6  # with more problems the columns are data sets, and the rest is said in front of each row
LATEX = {char: f"\\{char}" for char in "&%#_${}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "†": r"$^\dagger$", "–": "--",
}  # fmt: skip
SPECIAL = f"[{re.escape(''.join(LATEX))}]"
MARKERS = re.compile(r"(<!-- table: ([\w/]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """One method setting on one problem."""

    text: str
    bold: bool


EMPTY = Cell("", False)


@dataclass(frozen=True)
class Table:
    """Rows of cells, each behind the words that name it, under the heads of both, with the notes that belong below."""

    stubs: list[str]
    heads: list[str]
    rows: list[tuple[list[str], list[Cell]]]
    notes: list[str]


def accuracy_table(runs: pd.DataFrame) -> Table:
    """One row a label, one column a problem (data set, and what else of AXES the grid varies).

    Where that is more than MOST_COLUMNS, one column a data set and one row a label and whatever else varies.
    """
    varied = [column for column in AXES if column in runs and runs[column].nunique() > 1]
    if "network" in varied and runs.groupby("network")["hidden"].nunique().max() == 1:
        varied = [column for column in varied if column != "hidden"]  # the network's name says it
    by = ["dataset", *varied]
    cells, labels = _cells(runs, by), list(runs["label"].drop_duplicates())
    problems = list(runs[by].drop_duplicates().itertuples(index=False, name=None))
    if len(problems) <= MOST_COLUMNS:
        stubs, heads = ["Method"], [_head(_of(runs, by, problem), problem[1:], varied) for problem in problems]
        rows = [([label], [cells.get((*problem, label), EMPTY) for problem in problems]) for label in labels]
    else:
        stubs, datasets = [*(AXES[column] for column in varied), "Method"], list(runs["dataset"].drop_duplicates())
        settings = list(
            runs.sort_values(varied, key=_by_size)[varied].drop_duplicates().itertuples(index=False, name=None)
        )
        heads = [_head(runs[runs["dataset"] == dataset], (), varied) for dataset in datasets]
        rows = [
            ([*_words(setting, varied), label], [cells.get((dataset, *setting, label), EMPTY) for dataset in datasets])
            for setting in settings
            for label in labels
            if any((dataset, *setting, label) in cells for dataset in datasets)
        ]
    seeds = runs.groupby([*by, "label"]).size()
    return Table(stubs, heads, rows, _notes(runs, seeds.min(), seeds.max(), "column" if len(stubs) == 1 else "problem"))


def _cells(runs: pd.DataFrame, by: Sequence[str]) -> dict[tuple, Cell]:
    """The cell of every (problem, label) that was run; below MIN_SEEDS nothing is the best."""
    best = bold(runs, by)
    cells = {}
    for key, group in runs.groupby([*by, "label"], sort=False):
        done = group.loc[group["status"] == "done", "test_accuracy"] * 100
        lost = len(group) - len(done)
        spread = f" ± {done.std():.2f}" if len(done) > 1 else ""
        text = (f"{done.mean():.2f}{spread}" if len(done) else "–") + (f" ({lost}/{len(group)} lost)" if lost else "")
        cells[key] = Cell(text, bool(best.get(key, False)))
    return cells


def _of(runs: pd.DataFrame, by: Sequence[str], problem: tuple) -> pd.DataFrame:
    return runs[(runs[list(by)] == list(problem)).all(axis=1)]


def _head(rows: pd.DataFrame, setting: tuple, varied: Sequence[str]) -> str:
    """The head of a column: data set, setting, and the number of rows where all of the column have the same."""
    marked = "" if _official(rows) else "†"
    words = [word for column, word in zip(varied, _words(setting, varied)) if column != "n_train_asked"]
    size = [f"(n = {rows['n_train'].max():,.0f})"] if rows["n_train"].nunique() == 1 else []
    return " ".join([dataset_title(rows["dataset"].iloc[0]) + marked, *words, *size])


def _words(setting: tuple, varied: Sequence[str]) -> list[str]:
    return [_word(column, value) for column, value in zip(varied, setting)]


def _word(column: str, value: object) -> str:
    if column == "n_train_asked":
        return "all" if value == 0 else f"{value:,.0f}"
    return network_title(str(value), "MLP") if column == "network" else str(value)


def _by_size(column: pd.Series) -> pd.Series:
    """What rows are sorted by: "all", which is 0, after every number of rows; networks by depth, then width."""
    if column.name == "hidden":
        widths = column.map(lambda hidden: str(hidden).split("-"))
        return widths.map(lambda each: "-".join(f"{width:0>6}" for width in (str(len(each)), *each)))
    return column.mask(column == 0, math.inf) if column.name == "n_train_asked" else column


def _official(rows: pd.DataFrame) -> bool:
    return bool(rows["data_official"].astype(str).eq("True").all())


def _notes(runs: pd.DataFrame, fewest: int, most: int, place: str) -> list[str]:
    profile = f"profile {runs['profile'].iloc[0]}"
    if most == 1:
        notes = [f"Final test accuracy in per cent, {profile}. One seed each, which decides nothing."]
    else:
        count = str(fewest) if fewest == most else f"{fewest} to {most}"
        alone = " (one where there is no ±)" if fewest == 1 else ""
        notes = [f"Final test accuracy in per cent, mean ± standard deviation over {count} seeds{alone}, {profile}."]
        if most >= MIN_SEEDS:
            notes[0] += (
                f" Bold: the best of a {place} and what a paired test at 5 % does not find worse; beside a large ± or "
                "lost runs, undecided rather than good."
            )
    return notes if _official(runs) else [*notes, "† not the official copy of the data set."]


def markdown(table: Table) -> str:
    columns = "|---" * len(table.stubs) + "|" + "---:|" * len(table.heads)
    lines = [f"| {' | '.join([*table.stubs, *table.heads])} |", columns]
    for words, cells in table.rows:
        shown = [*map(markdown_cell, words), *(f"**{c.text}**" if c.bold else c.text for c in cells)]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n\n" + "\n".join(table.notes) + "\n"


def latex(table: Table, caption: str) -> str:
    """A booktabs table, ready to input."""

    escape = lambda text: re.sub(SPECIAL, lambda found: LATEX[found[0]], text)

    lines = [
        r"\begin{table}\centering\small",
        rf"\caption{{{escape(caption)}. {escape(' '.join(table.notes))}}}",
        r"\begin{tabular}{" + "l" * len(table.stubs) + "r" * len(table.heads) + "}",
        r"\toprule",
        " & ".join(map(escape, [*table.stubs, *table.heads])) + r" \\",
        r"\midrule",
    ]
    for words, cells in table.rows:
        shown = [rf"\textbf{{{escape(c.text)}}}" if c.bold else escape(c.text) for c in cells]
        lines.append(" & ".join([*map(escape, words), *shown]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def tables_of(results: Path, grid: str, title: str) -> list[Path]:
    """Write the two tables of a grid from its runs.csv; returns their paths.

    Raises Stale, and removes both, where none of its rows counts.
    """
    path = results / grid / "runs.csv"
    if not path.exists():
        raise InputError(f"{path} is missing; run `make reproduce-{grid}` first.")
    targets = [results / grid / name for name in ("table.md", "table.tex")]
    try:
        table = accuracy_table(door.runs(path.parent))
    except Stale:
        for target in targets:  # or a page would still be filled from it
            target.unlink(missing_ok=True)
        raise
    for target, text in zip(targets, (markdown(table), latex(table, title))):
        write_whole(target, text)
    return targets


def pages(folder: Path) -> list[Path]:
    """The pages of a checkout that have tables to fill: its README.md and what lies in docs/."""
    return [path for path in (folder / "README.md", *sorted(folder.glob("docs/*.md"))) if path.is_file()]


def fill(page: Path, results: Path) -> list[str]:
    """Put what a page names between its markers, a grid's table or a file of the results folder; returns the names."""
    if page.exists() and not page.is_file():
        raise InputError(f"{page} is no file; choose another page with --page.")
    try:
        text, filled = page.read_text(encoding="utf-8"), []
    except OSError as error:
        raise InputError(f"{page} cannot be read ({error.strerror}); choose another page with --page.") from None
    except UnicodeDecodeError:
        raise InputError(f"{page} is no text in UTF-8; choose another page with --page.") from None

    def replace(match: re.Match) -> str:
        table = next(
            (results / name for name in (f"{match[2]}/table.md", f"{match[2]}.md") if (results / name).exists()), None
        )
        if table is None:
            return match[0]
        filled.append(match[2])
        return f"{match[1]}{table.read_text(encoding='utf-8')}{match[3]}"

    new = MARKERS.sub(replace, text)
    if new != text:
        write_whole(page, new, "choose another page with --page")
    return filled
