"""What the claims measure: from a claim and the CSVs of its grid to the table that its rule judges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from am.errors import InputError, unknown
from reproduce.evidence import door
from reproduce.evidence.about import Target
from reproduce.judge.compare import best_and_ties, compare, compare_costs, contrast, decided, mean_of
from reproduce.judge.convergence import convergence, levels
from reproduce.judge.rows import chance, only_labels, too_few
from reproduce.judge.stability import by_step_size, stability
from reproduce.judge.targets import at_equal_cost, cost_to_target, step_costs, targets, with_block_gradients


@dataclass(frozen=True)
class Claim:
    """A claim under one of its protocols, by the words of `claims.toml`."""

    id: str
    paper: str
    sentence: str
    protocol: str
    grid: str
    measure: str
    rule: str
    counts_against: str
    method: str = ""
    against: Sequence[str] = ()
    labels: Sequence[str] = ()
    group: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    reference: str = ""
    bound: float | None = None
    since: int = 0
    note: str = ""
    changed: str = ""

    @property
    def column(self) -> str:
        """The word after the measure's colon, "" without one."""
        return self.measure.partition(":")[2]

    @property
    def about(self) -> list[str]:
        """The labels that the claim is about."""
        return [*self.labels, *([self.method] if self.method else [])]


@dataclass(frozen=True)
class Evidence:
    """The CSVs of a grid under a profile, each read once.

    runs: what counts, by the door; seeds on which trials were made are not among them.
    """

    folder: Path
    targets: Sequence[Target] = field(default=())

    @cached_property
    def runs(self) -> pd.DataFrame:
        runs = door.runs(self.folder)
        return runs if self.tuning.empty else runs[~runs["seed"].isin(self.tuning["seed"])]

    @cached_property
    def tuning(self) -> pd.DataFrame:
        return door.trials(self.folder) if (self.folder / "tuning.csv").exists() else pd.DataFrame()

    @cached_property
    def curves(self) -> pd.DataFrame:
        path = self.folder / "curves.csv"
        if not path.exists():
            raise InputError(f"{path.name} of the grid {self.folder.name} is missing; `make collect` writes it.")
        return door.curves(self.folder)

    def goal(self, reference: str) -> pd.Series:
        """The accuracy to reach on each data set; InputError where the grid has no such target."""
        share = {target.reference: target.share for target in self.targets}
        if reference not in share:
            raise unknown("reference", reference, share, f"{self.folder.name}: target")
        return targets(self.runs, reference, share=share[reference])

    def curves_with(self, column: str) -> pd.DataFrame:
        """The curves, with `block_gradients` where that is the column."""
        return self._counted_curves if column == "block_gradients" else self.curves

    @cached_property
    def _counted_curves(self) -> pd.DataFrame:
        return with_block_gradients(self.runs, self.curves)


Table = Callable[[Claim, Evidence], pd.DataFrame]


def _best(claim: Claim, evidence: Evidence) -> pd.DataFrame:
    return best_and_ties(only_labels(evidence.runs, *claim.labels))


def _accuracy(claim: Claim, evidence: Evidence) -> pd.DataFrame:
    return _within(1, compare(evidence.runs, claim.method, claim.against))


def _within(most: float, table: pd.DataFrame) -> pd.DataFrame:
    """The table with intervals that end where the effect must: Student's of a few seeds passes what a share can be."""
    return table.assign(ci_low=table["ci_low"].clip(-most, most), ci_high=table["ci_high"].clip(-most, most))


def _accuracy_at(claim: Claim, evidence: Evidence) -> pd.DataFrame:
    curves = evidence.curves_with(claim.column)
    tables = []
    family = len(claim.against) * evidence.runs["dataset"].nunique()
    for other in claim.against:  # each pair has its own budget
        equal = at_equal_cost(evidence.runs, curves, (claim.method, other), claim.column)
        tables.append(compare(equal, claim.method, other, family=family))
    return _within(1, decided(pd.concat(tables, ignore_index=True)))


def _to_target(claim: Claim, evidence: Evidence) -> pd.DataFrame:
    goal, curves = evidence.goal(claim.reference), evidence.curves_with(claim.column)
    here = evidence.runs[evidence.runs["dataset"].isin(goal.dropna().index)]
    costs = cost_to_target(here, curves, goal, cost=claim.column)
    return _apart(compare_costs(costs, claim.method, claim.against), costs)


def _apart(table: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """The table, tied where either may have been first: each reached the target between two evaluations.

    The intervals (`before`, `cost`] of the two, medians over seeds, overlap.
    """
    middle = costs.groupby(["dataset", "label"])[["before", "cost"]].median()
    a, b = (middle.reindex(list(zip(table["dataset"], table[side]))).reset_index(drop=True) for side in ("a", "b"))
    overlap = (a["before"] < b["cost"]) & (b["before"] < a["cost"])
    return _tied(table, overlap.to_numpy())


def _cost(claim: Claim, evidence: Evidence) -> pd.DataFrame:
    return compare_costs(evidence.runs, claim.method, claim.against, cost=claim.column)


def _block_step(claim: Claim, evidence: Evidence) -> pd.DataFrame:
    costs = step_costs(evidence.runs, claim.column)
    costs["cost"] = np.where(costs["label"] == claim.method, costs["block_step"], costs["full_step"])
    return compare_costs(costs, claim.method, claim.against)


def _contrast(claim: Claim, evidence: Evidence) -> pd.DataFrame:
    runs = evidence.runs[evidence.runs[claim.column].isin([*claim.group, *claim.elsewhere])]
    others = mean_of(runs, claim.against, f"mean of {', '.join(claim.against)}", ["dataset", claim.column])
    both = pd.concat([runs[runs["label"] == claim.method], others], ignore_index=True)
    name = others["label"].iloc[0]
    return contrast(both, claim.method, name, claim.column, claim.group, claim.elsewhere)


def _stability(measure: str, worst: float | None = None) -> Table:
    """worst: of a method that never trains; None: the least steadiness there is on the data."""

    def table(claim: Claim, evidence: Evidence) -> pd.DataFrame:
        chosen = by_step_size(evidence.runs)["label"].isin([claim.method, *claim.against])
        found = stability(evidence.runs[chosen], evidence.curves)
        if found["step_sizes"].nunique() > 1:
            raise InputError("the methods were given different numbers of step sizes, so they do not compare.")
        found = found[found[measure].notna()]  # a single seed has no distance from the others
        if found.empty:
            raise InputError(too_few(1))
        mark = 1 / found["step_sizes"].iloc[0] if measure == "survival" else 0.0
        least = chance(evidence.runs).min() - 1 if worst is None else worst
        table = compare(found, claim.method, claim.against, metric=measure, unfinished=least, mark=mark)
        judged = dict(usable_decades=_cut_off, survival=_within_a_step).get(measure)
        return judged(table, found) if judged else table

    return table


def _cut_off(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The table, tied where the narrower range of a pair is one that the sweep cuts off: it may be the wider one."""
    cut = found.groupby(["dataset", "label"])["cut_off"].any()
    narrower = table["b"].where(table["gain"] > 0, table["a"])
    return _tied(table, np.array([cut.get(key, False) for key in zip(table["dataset"], narrower)], bool))


def _within_a_step(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The table, tied where shares of step sizes differ by one of them or less, which the sweep cannot tell."""
    return _tied(table, table["effect"].abs() < 1.001 / found["step_sizes"].iloc[0])


def _tied(table: pd.DataFrame, unsure: NDArray | pd.Series) -> pd.DataFrame:
    return decided(table.assign(gain=table["gain"].mask(unsure, 0.0)))


def _convergence(measure: str, worst: float) -> Table:
    """Levels over seeds of a column of `convergence`; a run that did not finish has the worst."""

    def table(claim: Claim, evidence: Evidence) -> pd.DataFrame:
        runs, column = only_labels(evidence.runs, *claim.about), claim.column or "objective"
        fit = lambda law: convergence(runs, evidence.curves, column, law, claim.since)
        found = fit("power" if measure == "power" else "linear")
        found["power"] = found["rate"]
        found["linear_margin"] = found["r_squared"] - fit("sublinear")["r_squared"]
        found[measure] = found[measure].fillna(worst)  # a curve that no line fits does not fall
        table = levels(found, measure, unfinished=worst)
        share = measure == "monotone_share"  # of a few seeds, Student's interval passes the ends of what a share can be
        return table.assign(ci_low=table["ci_low"].clip(0, 1), ci_high=table["ci_high"].clip(0, 1)) if share else table

    return table


@dataclass(frozen=True)
class Measure:
    """table: a claim and its evidence -> the table that the rule judges. factor, unit: in which effects are shown.

    column: whether the word goes on with a colon and a column. sweep: whether labels are those of `by_step_size`.
    """

    table: Table
    factor: float
    unit: str
    column: bool = False
    sweep: bool = False


MEASURES = {
    "accuracy": Measure(_accuracy, 100, "points"),
    "accuracy_at": Measure(_accuracy_at, 100, "points", column=True),
    "best": Measure(_best, 100, "% of the test images"),
    "to_target": Measure(_to_target, 1, "times the {}", column=True),
    "cost": Measure(_cost, 1, "times the {}", column=True),
    "block_step": Measure(_block_step, 1, "times the {}", column=True),
    "contrast": Measure(_contrast, 100, "points", column=True),
    "usable_decades": Measure(_stability("usable_decades", 0.0), 1, "decades", sweep=True),
    "survival": Measure(_stability("survival", 0.0), 100, "% of the step sizes", sweep=True),
    "steadiness": Measure(_stability("steadiness"), 100, "points", sweep=True),
    "monotone": Measure(_convergence("monotone_share", 0.0), 100, "% of the evaluations"),
    "rate": Measure(_convergence("rate", 2.0), 1, "per iteration"),
    "linear_margin": Measure(_convergence("linear_margin", -1.0), 1, "of R²"),
    "power": Measure(_convergence("power", 0.0), 1, "as power of 1/k", column=True),
}
_WORDS = dict(epoch="epochs", iteration="iterations", parameter_updates="updates", flops="FLOPs",
              block_gradients="gradients of a layer")  # fmt: skip


def measure_of(claim: Claim) -> Measure:
    """The measure that the claim names; raises InputError for an unknown one."""
    word, _, column = claim.measure.partition(":")
    if word not in MEASURES or bool(column) != MEASURES[word].column:
        valid = [f"{name}:COLUMN" if m.column else name for name, m in MEASURES.items()]
        raise unknown("measure", claim.measure, valid, claim.id)
    return MEASURES[word]


def without_runs(claim: Claim, evidence: Evidence) -> list[str]:
    """The labels that the claim names and that the grid has no run of."""
    runs = by_step_size(evidence.runs) if measure_of(claim).sweep else evidence.runs
    named = dict.fromkeys([*claim.about, *claim.against, *([claim.reference] if claim.reference else [])])
    return [label for label in named if label not in set(runs["label"])]


def unit_of(claim: Claim) -> str:
    """The unit in which the claim's effects are shown."""
    return measure_of(claim).unit.format(_WORDS.get(claim.column, claim.column))
