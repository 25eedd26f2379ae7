"""Numbers of others beside ours, from the curves of the grids that repeat them.

results/published/comparison.csv      what an author printed
results/published/released_code.csv   what the authors' released code gave when we ran it
"""

import tomllib
from pathlib import Path

import pandas as pd

from reproduce.evidence import door
from reproduce.evidence.files import Stale, make_folder, markdown_cell, write, write_whole
from reproduce.evidence.schema import TABLES
from reproduce.judge.rows import is_finished

NUMBERS = Path(__file__).parent / "published_numbers.toml"
ENOUGH = 0.9  # of their images: ours hold some out
WITHOUT_SD = 0.01  # how near ours must be to a single run
KINDS = dict(published="comparison", released="released_code")  # blocks of the TOML -> table
UNREAD = (
    "No number of the SAMT and TIAM papers could be read, nor a table of accuracies of mDLAM, dlADMM or AM-Adam: what "
    "stands here is all that was found in print."
)


def comparison(results: Path, kind: str = "published") -> pd.DataFrame:
    """One row a number of a kind, one of KINDS: theirs, ours (mean, sd, seeds at that evaluation), whether it is met.

    met: "yes", "no", "fewer images" where ours trained on less than ENOUGH of theirs, which says nothing of the number,
    or "not run" where its grid has no CSVs. n_train and profile say at what scale ours was run.
    """
    rows = []
    for number in tomllib.loads(NUMBERS.read_text(encoding="utf-8"))[kind]:
        row = dict(
            grid=number["grid"], label=number["label"], at=number["at"], theirs=number["accuracy"],
            theirs_sd=number.get("sd"),
        )  # fmt: skip
        folder = results / number["grid"]
        ours = _ours(folder, number["label"], number["at"]) if (folder / "curves.csv").exists() else None
        if ours is None:
            row |= dict(met="not run")
        else:
            tolerance = 3 * number["sd"] if "sd" in number else WITHOUT_SD
            met = abs(ours["ours"] - number["accuracy"]) <= tolerance
            word = "yes" if met and not ours["lost"] else "no"
            few = ours["n_train"] < ENOUGH * number["images"]
            row |= ours | dict(tolerance=tolerance, met="fewer images" if few else word)
        rows.append(row | dict(source=number["source"]))
    return pd.DataFrame(rows).reindex(columns=TABLES[KINDS[kind]].names)


def _ours(folder: Path, label: str, at: float) -> dict | None:
    try:
        runs, curves = door.runs(folder), door.curves(folder)
    except Stale:
        return None
    found = curves[(curves["label"] == label) & ((curves["epoch"] - at).abs() < 1e-9)]
    if found.empty:
        return None
    there = runs["run_key"].isin(found["run_key"])
    run, missed = runs[there].iloc[0], runs[(runs["label"] == label) & ~there]
    accuracy = found["test_accuracy"]
    return dict(
        ours=accuracy.mean(),
        ours_sd=accuracy.std(),
        seeds=len(accuracy),
        n_train=run["n_train"],
        profile=run["profile"],
        lost=not is_finished(missed).all(),  # a diverged run is no better than one that ends elsewhere
    )


def write_comparisons(results: Path) -> list[Path]:
    """Write the table of each kind, as CSV and as Markdown, where any of its grids has been run; returns the CSVs."""
    written = []
    for kind, name in KINDS.items():
        table = comparison(results, kind)
        if (table["met"] == "not run").all():
            continue
        path = results / "published" / f"{name}.csv"
        make_folder(path.parent)
        write(path, table)
        write_whole(path.with_suffix(".md"), _markdown(table, kind))
        written.append(path)
    return written


def _markdown(table: pd.DataFrame, kind: str) -> str:
    theirs = "published" if kind == "published" else "released code"
    lines = [
        f"| Method | at | {theirs} | ours | seeds | images | met | source |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    number = lambda mean, sd: f"{mean:.4f}" + (f" ± {sd:.4f}" if pd.notna(sd) else "")
    count = lambda v: "–" if pd.isna(v) else f"{v:,.0f}"
    for row in table.itertuples():
        ours = "–" if pd.isna(row.ours) else number(row.ours, row.ours_sd)
        cells = [
            markdown_cell(row.label), f"{row.at}", number(row.theirs, row.theirs_sd), ours, count(row.seeds),
            count(row.n_train), row.met, markdown_cell(row.source),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", UNREAD] if kind == "published" else lines) + "\n"
