"""Published numbers beside ours: `results/published/comparison.csv` from the curves of the grids that repeat them."""

import tomllib
from pathlib import Path

import pandas as pd

from reproduce.files import Stale, make_folder, markdown_cell, read, write, write_whole
from reproduce.schema import TABLES

NUMBERS = Path(__file__).parent / "published_numbers.toml"
WITHOUT_SD = 0.01  # how near ours must be to a single published run


def comparison(results: Path) -> pd.DataFrame:
    """One row a published number: theirs, ours (mean, sd and seeds at the same evaluation), and whether it is met.

    met: "yes", "no", or "not run" where its grid has no CSVs. n_train and profile say at what scale ours was run.
    """
    rows = []
    for number in tomllib.loads(NUMBERS.read_text())["number"]:
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
            row |= ours | dict(tolerance=tolerance, met="yes" if met else "no")
        rows.append(row | dict(source=number["source"]))
    return pd.DataFrame(rows).reindex(columns=TABLES["comparison"].names)


def _ours(folder: Path, label: str, at: float) -> dict | None:
    try:
        runs, curves = read(folder / "runs.csv"), read(folder / "curves.csv")
    except Stale:
        return None
    found = curves[(curves["label"] == label) & ((curves["epoch"] - at).abs() < 1e-9)]
    if found.empty:
        return None
    run = runs[runs["run_key"].isin(found["run_key"])].iloc[0]
    accuracy = found["test_accuracy"]
    return dict(
        ours=accuracy.mean(),
        ours_sd=accuracy.std(),
        seeds=len(accuracy),
        n_train=run["n_train"],
        profile=run["profile"],
    )


def write_comparison(results: Path) -> Path | None:
    """Write comparison.csv and its Markdown table where any of the grids has been run; returns the CSV's path."""
    table = comparison(results)
    if (table["met"] == "not run").all():
        return None
    path = results / "published" / "comparison.csv"
    make_folder(path.parent)
    write(path, table)
    write_whole(path.with_suffix(".md"), _markdown(table))
    return path


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| Method | at | published | ours | seeds | images | met |", "|---|---:|---:|---:|---:|---:|---|"]
    for row in table.itertuples():
        theirs = f"{row.theirs:.4f}" + (f" ± {row.theirs_sd:.4f}" if pd.notna(row.theirs_sd) else "")
        ours = (
            "–" if pd.isna(row.ours) else f"{row.ours:.4f}" + (f" ± {row.ours_sd:.4f}" if pd.notna(row.ours_sd) else "")
        )
        count = lambda v: "–" if pd.isna(v) else f"{v:,.0f}"
        lines.append(
            f"| {markdown_cell(row.label)} | {row.at} | {theirs} | {ours} | {count(row.seeds)} | {count(row.n_train)} | {row.met} |"
        )
    return "\n".join(lines) + "\n"
