"""Claims: `claims.toml` judged on the CSVs into `results/claims.csv` and a Markdown table for the README."""

import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from am.errors import InputError, unknown
from reproduce.files import Stale, make_folder, read, write, write_whole
from reproduce.judge.compare import best_and_ties, compare, compare_costs, contrast, mean_of
from reproduce.judge.convergence import convergence, levels
from reproduce.judge.rows import CHANCE
from reproduce.judge.significance import UNREACHED
from reproduce.judge.stability import by_step_size, stability
from reproduce.judge.targets import cost_to_target, step_costs, targets
from reproduce.judge.verdicts import NOT_TESTED, verdict
from reproduce.run.grid import Target, targets_of
from reproduce.schema import TABLES, dataset_title

CLAIMS = Path(__file__).parent / "claims.toml"
KEYS = (
    "id", "paper", "sentence", "note", "grid", "measure", "method", "against", "group", "labels", "rule", "bound",
    "reference", "after", "counts_against", "reason",
)  # fmt: skip
COSTS = dict(epoch="epochs", parameter_updates="updates", flops="FLOPs")  # where the word is not the column


@dataclass(frozen=True)
class Case:
    """What a claim is judged on. column: the word after the measure's colon, "" without one."""

    claim: dict[str, Any]
    runs: pd.DataFrame
    folder: Path
    column: str
    targets: Sequence[Target]

    @property
    def labels(self) -> list[str]:
        """Those that the claim is about; without a row of one of them there is nothing to judge."""
        labels = [*self.claim.get("labels", ()), *([self.claim["method"]] if "method" in self.claim else ())]
        for label in labels:
            if label not in set(self.runs["label"]):
                raise unknown("label", label, map(str, self.runs["label"].unique()))
        return labels

    @property
    def curves(self) -> pd.DataFrame:
        path = self.folder / "curves.csv"
        if not path.exists():
            raise InputError(f"{path.name} of the grid {self.folder.name} is missing; `make collect` writes it.")
        return read(path)


def _best(case: Case) -> pd.DataFrame:
    return best_and_ties(case.runs[case.runs["label"].isin(case.labels)])


def _accuracy(case: Case) -> pd.DataFrame:
    return compare(case.runs, case.claim["method"], case.claim["against"])


def _to_target(case: Case) -> pd.DataFrame:
    reference = case.claim["reference"]
    share = {target.reference: target.share for target in case.targets}
    if reference not in share:
        raise unknown("reference", reference, share, f"{case.folder.name}: target")
    goal = targets(case.runs, reference, share=share[reference])
    costs = cost_to_target(case.runs, case.curves, goal, cost=case.column)
    return compare_costs(costs, case.claim["method"], case.claim["against"])


def _cost(case: Case) -> pd.DataFrame:
    return compare_costs(case.runs, case.claim["method"], case.claim["against"], cost=case.column)


def _block_step(case: Case) -> pd.DataFrame:
    costs = step_costs(case.runs, case.column)
    mine = costs["label"] == case.claim["method"]
    costs["cost"] = np.where(mine, costs["block_step"], costs["full_step"])
    return compare_costs(costs, case.claim["method"], case.claim["against"])


def _contrast(case: Case) -> pd.DataFrame:
    method, against = case.claim["method"], case.claim["against"]
    others = mean_of(case.runs, against, f"mean of {', '.join(against)}", ["dataset", case.column])
    both = pd.concat([case.runs[case.runs["label"] == method], others], ignore_index=True)
    return contrast(both, method, others["label"].iloc[0], case.column, case.claim["group"])


def _stability(measure: str, worst: float) -> Callable[[Case], pd.DataFrame]:
    def table(case: Case) -> pd.DataFrame:
        method, against = case.claim["method"], case.claim["against"]
        chosen = by_step_size(case.runs)["label"].isin([method, *against])
        found = stability(case.runs[chosen], case.curves)
        if found["step_sizes"].nunique() > 1:
            raise InputError("the methods were given different numbers of step sizes, so they do not compare.")
        return compare(found, method, against, metric=measure, unfinished=worst)

    return table


def _convergence(measure: str, worst: float) -> Callable[[Case], pd.DataFrame]:
    """Levels over seeds of a column of `convergence`; a run that did not finish has the worst."""

    def table(case: Case) -> pd.DataFrame:
        runs, curves = case.runs[case.runs["label"].isin(case.labels)], case.curves
        fit = lambda law: convergence(runs, curves, case.column or "objective", law, case.claim.get("after", 0))
        found = fit("power" if measure == "power" else "linear")
        found["power"] = found["rate"]
        found["linear_margin"] = found["r_squared"] - fit("sublinear")["r_squared"]
        return levels(found, measure, unfinished=worst)

    return table


@dataclass(frozen=True)
class Measure:
    """table: a case -> the table that the rule judges. factor, unit: in which effects are shown."""

    table: Callable[[Case], pd.DataFrame]
    factor: float
    unit: str
    column: bool = False  # whether the word goes on with a colon and a column


MEASURES = {
    "accuracy": Measure(_accuracy, 100, "points"),
    "best": Measure(_best, 1, ""),
    "to_target": Measure(_to_target, 1, "times the {}", column=True),
    "cost": Measure(_cost, 1, "times the {}", column=True),
    "block_step": Measure(_block_step, 1, "times the {}", column=True),
    "contrast": Measure(_contrast, 100, "points", column=True),
    "usable_decades": Measure(_stability("usable_decades", 0.0), 1, "decades"),
    "survival": Measure(_stability("survival", 0.0), 100, "% of the step sizes"),
    "steadiness": Measure(_stability("steadiness", CHANCE - 1), 100, "points"),
    "monotone": Measure(_convergence("monotone_share", 0.0), 100, "% of the evaluations"),
    "rate": Measure(_convergence("rate", 2.0), 1, "per iteration"),
    "linear_margin": Measure(_convergence("linear_margin", -1.0), 1, "of R²"),
    "power": Measure(_convergence("power", 0.0), 1, "as power of 1/k", column=True),
}


def judge_all(results: Path, claims: Path = CLAIMS, grid_folder: Path | None = None) -> pd.DataFrame:
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
            note=claim.get("note", ""),
            grid=claim.get("grid", ""),
            measure=claim.get("measure", ""),
            method=claim.get("method", "") or ", ".join(claim.get("labels", ())),
            against=", ".join(claim.get("against", ())),
            rule=claim.get("rule", ""),
            bound=claim.get("bound"),
            counts_against=claim.get("counts_against", ""),
        )
        rows.append(row | _judged(results, claim, grid_folder))
    return pd.DataFrame(rows).reindex(columns=TABLES["claims"].names)


def _judged(results: Path, claim: dict[str, Any], grid_folder: Path | None) -> dict[str, Any]:
    if "grid" not in claim:
        return dict(verdict=NOT_TESTED, reason=claim["reason"])
    folder = results / claim["grid"]
    measure, column = _measure(claim)
    if not (folder / "runs.csv").exists():
        return dict(verdict=NOT_TESTED, reason=f"the grid {claim['grid']} has not been run")
    try:
        runs = read(folder / "runs.csv")
    except Stale:
        return dict(verdict=NOT_TESTED, reason=f"the grid {claim['grid']} has not been run on this code")
    try:
        table = measure.table(Case(claim, runs, folder, column, targets_of(claim["grid"], grid_folder)))
    except InputError as error:
        return dict(verdict=NOT_TESTED, reason=str(error))
    found = verdict(claim["rule"], table, bound=claim.get("bound"))
    unit = measure.unit.format(COSTS.get(column, column))
    return dict(
        verdict=found.verdict,
        reason=found.reason,
        evidence=_evidence(table, measure.factor, unit),
        effects=_effects(table, measure.factor, unit),
        seeds=_seeds(table, runs),
        profile=runs["profile"].iloc[0],
    )


def _measure(claim: dict[str, Any]) -> tuple[Measure, str]:
    word, _, column = claim["measure"].partition(":")
    if word not in MEASURES or bool(column) != MEASURES[word].column:
        valid = [f"{name}:COLUMN" if m.column else name for name, m in MEASURES.items()]
        raise unknown("measure", claim["measure"], valid, claim["id"])
    return MEASURES[word], column


def _seeds(table: pd.DataFrame, runs: pd.DataFrame) -> int:
    """The fewest seeds behind any comparison that was made."""
    if "n" in table:
        return int(table["n"].where(table["n"] > 0).min()) if (table["n"] > 0).any() else 0
    return int(runs[runs["label"].isin(table["label"])].groupby(["dataset", "label"]).size().min())


def _evidence(table: pd.DataFrame, factor: float, unit: str) -> str:
    """The smallest and the largest effect, and in brackets the outermost ends of their 95 % intervals."""
    known = table.dropna(subset=["effect"]) if "effect" in table else table.iloc[:0]
    if "test" in known:
        known = known[known["test"] != UNREACHED]  # a ratio of two misses is no effect
    if known.empty:
        return ""
    sign = (known["scale"] == "difference").all()
    ends = [_number(known["effect"].min() * factor, sign), _number(known["effect"].max() * factor, sign)]
    low, high = known["ci_low"].min() * factor, known["ci_high"].max() * factor
    interval = "" if math.isnan(low) or math.isnan(high) else f" [{_number(low, sign)}, {_number(high, sign)}]"
    return f"{' to '.join(dict.fromkeys(ends))} {unit}{interval}"


def _effects(table: pd.DataFrame, factor: float, unit: str) -> str:
    """Every comparison of the table, a line's worth each: group, comparator, effect and its 95 % interval."""
    if "effect" not in table:
        best = table[table["outcome"].isin(["best", "tied"])]
        return "; ".join(f"{row.dataset}: {row.label}" for row in best.itertuples())
    texts = []
    for row in table.itertuples():
        who = f" against {row.b}" if row.b else f" {row.a}"
        low, high, sign = row.ci_low * factor, row.ci_high * factor, row.scale == "difference"
        effect = f"{_number(row.effect * factor, sign)} {unit} [{_number(low, sign)}, {_number(high, sign)}]"
        texts.append(f"{row.dataset}{who}: {effect}")
    return "; ".join(texts)


def _number(value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return "?"
    text = "∞" if math.isinf(value) else f"{abs(value):.3g}" if abs(value) < 1000 else f"{abs(value):,.0f}"
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + text


def write_claims(results: Path, grid_folder: Path | None = None) -> tuple[Path, dict[str, int]]:
    """Write results/claims.csv and claims.md; returns the CSV's path and how many claims have each verdict."""
    table = judge_all(results, grid_folder=grid_folder)
    path = results / "claims.csv"
    make_folder(path.parent)
    write(path, table)
    write_whole(path.with_suffix(".md"), _markdown(table))
    return path, table["verdict"].value_counts().to_dict()


def _markdown(table: pd.DataFrame) -> str:
    legend = (
        "Evidence: the smallest to the largest effect over data sets and comparators, in brackets the outermost ends "
        "of their 95 % intervals over seeds. What favours the claim: points, decades and % above 0, a cost below 1 "
        "times; 0 times means that only the comparator missed the target, ∞ times that the method itself did; where "
        "both missed it on every seed there is no effect. Every single comparison is in the column `effects` of "
        "`claims.csv`."
    )
    lines = ["| Claim | Verdict | Where | Evidence |", "|---|---|---|---|"]
    for row in table.itertuples():
        evidence = "–"
        if pd.notna(row.seeds):
            evidence = f"`{row.grid}`, {row.seeds:.0f} seeds" + (f": {row.evidence}" if row.evidence else "")
        claim = f"{row.id}: {row.claim}" + (f" ({row.note})" if row.note else "")
        cells = (cell.replace("|", r"\|") for cell in (claim, f"**{row.verdict}**", _titled(row.reason), evidence))
        lines.append(f"| {' | '.join(cells)} |")
    return f"{legend}\n\n" + "\n".join(lines) + "\n"


def _titled(text: str) -> str:
    """Data sets by the names that readers know."""
    return re.sub(r"\w+", lambda word: dataset_title(word[0]), text)
