"""Claims: `reproduce/claims.toml` judged on the CSVs into `results/claims.csv` and a Markdown table for the README."""

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from am.errors import InputError, unknown
from reproduce.statistics import (
    NOT_TESTED,
    best_and_ties,
    compare,
    compare_costs,
    convergence,
    cost_to_target,
    levels,
    targets,
    verdict,
)
from reproduce.store import write_whole

CLAIMS = Path(__file__).parent / "claims.toml"
KEYS = (
    "id", "paper", "sentence", "grid", "measure", "method", "against", "labels", "rule", "bound", "reference", "share",
    "after", "counts_against", "reason",
)  # fmt: skip
COLUMNS = (
    "id", "paper", "claim", "verdict", "reason", "grid", "measure", "method", "against", "rule", "bound", "effects",
    "seeds", "profile", "counts_against",
)  # fmt: skip


def judge_all(results: Path, claims: Path = CLAIMS) -> pd.DataFrame:
    """One row a claim, with the verdict, where it holds and the effects behind it. Reads CSVs only."""
    rows = []
    for claim in tomllib.loads(claims.read_text())["claim"]:
        for key in claim:
            if key not in KEYS:
                raise unknown("key", key, KEYS, f"{claims.name}: {claim.get('id', 'a claim')}")
        row = dict(
            id=claim["id"],
            paper=claim["paper"],
            claim=claim["sentence"],
            grid=claim.get("grid", ""),
            measure=claim.get("measure", ""),
            method=claim.get("method", "") or ", ".join(claim.get("labels", ())),
            against=", ".join(claim.get("against", ())),
            rule=claim.get("rule", ""),
            bound=claim.get("bound"),
            counts_against=claim.get("counts_against", ""),
        )
        rows.append(row | _judged(results, claim))
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def _judged(results: Path, claim: dict[str, Any]) -> dict[str, Any]:
    if "grid" not in claim:
        return dict(verdict=NOT_TESTED, reason=claim["reason"])
    folder = results / claim["grid"]
    if not (folder / "runs.csv").exists():
        return dict(verdict=NOT_TESTED, reason=f"the grid {claim['grid']} has not been run")
    runs = pd.read_csv(folder / "runs.csv")
    try:
        table = _table(claim, runs, folder)
    except InputError as error:
        return dict(verdict=NOT_TESTED, reason=str(error))
    found = verdict(claim["rule"], table, bound=claim.get("bound"))
    mine = runs[runs["label"].isin([claim.get("method"), *claim.get("labels", ())])]
    return dict(
        verdict=found.verdict,
        reason=found.reason,
        effects=_effects(table),
        seeds=int(mine.groupby(["dataset", "label"]).size().min()),
        profile=runs["profile"].iloc[0],
    )


def _table(claim: dict[str, Any], runs: pd.DataFrame, folder: Path) -> pd.DataFrame:
    measure = claim["measure"]
    if measure == "accuracy":
        return compare(runs, claim["method"], claim["against"])
    if measure == "best":
        return best_and_ties(runs[runs["label"].isin(claim["labels"])])
    curves = pd.read_csv(folder / "curves.csv")
    if measure == "monotone":
        mine = runs[runs["label"] == claim["method"]]
        return levels(convergence(mine, curves, "objective", after=claim["after"]), "monotone_share")
    if measure.startswith("to_target:"):
        goal = targets(runs, claim["reference"], share=claim["share"])
        costs = cost_to_target(runs, curves, goal, cost=measure.removeprefix("to_target:"))
        return compare_costs(costs, claim["method"], claim["against"])
    raise unknown("measure", measure, ("accuracy", "best", "monotone", "to_target:COLUMN"), claim["id"])


def _effects(table: pd.DataFrame) -> str:
    """Every comparison of the table, a line's worth each: group, comparator, effect and its 95 % interval."""
    if "effect" not in table:
        return "; ".join(f"{row.dataset}: {row.label}" for row in table[table["among_best"]].itertuples())
    percent = 100 if (table["scale"] == "difference").all() else 1
    unit = " points" if percent == 100 else ""
    texts = []
    for row in table.itertuples():
        versus = f" against {row.b}" if row.b else ""
        low, high = row.ci_low * percent, row.ci_high * percent
        texts.append(f"{row.dataset}{versus}: {row.effect * percent:.3g}{unit} [{low:.3g}, {high:.3g}]")
    return "; ".join(texts)


def write_claims(results: Path) -> tuple[Path, dict[str, int]]:
    """Write results/claims.csv and claims.md; returns the CSV's path and how many claims have each verdict."""
    table = judge_all(results)
    path = results / "claims.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, table.to_csv(index=False))
    write_whole(path.with_suffix(".md"), _markdown(table))
    return path, table["verdict"].value_counts().to_dict()


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| Claim | Verdict | Where | Evidence |", "|---|---|---|---|"]
    for row in table.itertuples():
        evidence = f"`{row.grid}`, {row.seeds:.0f} seeds" if pd.notna(row.seeds) else "–"
        lines.append(f"| {row.id}: {row.claim} | **{row.verdict}** | {row.reason} | {evidence} |")
    return "\n".join(lines) + "\n"
