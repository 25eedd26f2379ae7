"""Tables: `results/<grid>/table.md` and `table.tex` from the CSVs, and the README's tables between their markers.

Cells are mean +/- standard deviation of the final test accuracy over seeds, in per cent; bold is the best of a column
and whatever the paired test at 5 % does not find worse (`judge.compare.best_and_ties`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from am.errors import InputError
from reproduce.files import markdown_cell, read, write_whole
from reproduce.judge.compare import best_and_ties
from reproduce.schema import dataset_title

BLOCK = ("dataset", "activation", "hidden")
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


@dataclass(frozen=True)
class Table:
    """Rows of cells under column heads, with the notes that belong below."""

    heads: list[str]
    rows: list[tuple[str, list[Cell]]]
    notes: list[str]


def accuracy_table(runs: pd.DataFrame) -> Table:
    """One row a label, one column a problem (data set, and activation or widths where the grid varies them)."""
    by = ["dataset", *(c for c in BLOCK[1:] if runs[c].nunique() > 1)]
    best = best_and_ties(runs, by).set_index([*by, "label"])["among_best"]
    problems = list(runs[by].drop_duplicates().itertuples(index=False, name=None))
    labels = list(runs["label"].drop_duplicates())
    cells = {}
    for key, group in runs.groupby([*by, "label"], sort=False):
        done = group.loc[group["status"] == "done", "test_accuracy"] * 100
        lost = len(group) - len(done)
        spread = f" ± {done.std():.2f}" if len(done) > 1 else ""
        text = (f"{done.mean():.2f}{spread}" if len(done) else "–") + (f" ({lost}/{len(group)} lost)" if lost else "")
        cells[key] = Cell(text, bool(best.get(key, False)))
    heads, marked = [], False
    for problem in problems:
        rows = runs[(runs[by] == list(problem)).all(axis=1)]
        official = rows["data_official"].astype(str).eq("True").all()
        marked |= not official
        head = dataset_title(problem[0]) + ("" if official else "†")
        heads.append(" ".join([head, *problem[1:], f"(n = {rows['n_train'].max():,.0f})"]))
    seeds = runs.groupby([*by, "label"]).size()
    count = str(seeds.min()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    notes = [
        f"Final test accuracy in per cent, mean ± standard deviation over {count} seeds, "
        f"profile {runs['profile'].iloc[0]}. "
        "Bold: the best of a column and what a paired test at 5 % does not find worse."
    ]
    if marked:
        notes.append("† not the official copy of the data set.")
    rows = [(label, [cells.get((*problem, label), Cell("", False)) for problem in problems]) for label in labels]
    return Table(heads, rows, notes)


def markdown(table: Table) -> str:
    lines = ["| Method | " + " | ".join(table.heads) + " |", "|---|" + "---:|" * len(table.heads)]
    for label, cells in table.rows:
        lines.append(
            f"| {markdown_cell(label)} | " + " | ".join(f"**{c.text}**" if c.bold else c.text for c in cells) + " |"
        )
    return "\n".join(lines) + "\n\n" + "\n".join(table.notes) + "\n"


def latex(table: Table, caption: str) -> str:
    """A booktabs table, ready to input."""

    escape = lambda text: re.sub(SPECIAL, lambda found: LATEX[found[0]], text)

    lines = [
        r"\begin{table}\centering\small",
        rf"\caption{{{escape(caption)}. {escape(' '.join(table.notes))}}}",
        r"\begin{tabular}{l" + "r" * len(table.heads) + "}",
        r"\toprule",
        " & ".join(["Method", *map(escape, table.heads)]) + r" \\",
        r"\midrule",
    ]
    for label, cells in table.rows:
        shown = [rf"\textbf{{{escape(c.text)}}}" if c.bold else escape(c.text) for c in cells]
        lines.append(" & ".join([escape(label), *shown]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def tables_of(results: Path, grid: str, title: str) -> list[Path]:
    """Write the two tables of a grid from its runs.csv; returns their paths."""
    path = results / grid / "runs.csv"
    if not path.exists():
        raise InputError(f"{path} is missing; run `make reproduce-{grid}` first.")
    table = accuracy_table(read(path))
    written = {results / grid / "table.md": markdown(table), results / grid / "table.tex": latex(table, title)}
    for target, text in written.items():
        write_whole(target, text)
    return list(written)


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
        return f"{match[1]}{table.read_text()}{match[3]}"

    new = MARKERS.sub(replace, text)
    if new != text:
        write_whole(page, new, "choose another page with --page")
    return filled
