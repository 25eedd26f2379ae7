"""Do the verdicts follow from what the figures draw? Each outcome against the plainest reading of the curves and runs.

No tests and no intervals here: a method that is "better" has the better median, an objective that "falls" ends at its
lowest, a norm that "falls" comes below its start. What the statistics found must not contradict what a reader sees.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from am.errors import InputError
from reproduce.evidence import door
from reproduce.evidence.about import Abouts
from reproduce.evidence.files import Stale, read
from reproduce.evidence.places import place
from reproduce.judge.claims import CLAIMS, load_claims
from reproduce.judge.measures import Claim, Evidence, without_runs
from reproduce.judge.rows import chance, is_finished
from reproduce.judge.targets import at_equal_cost, step_costs
from reproduce.judge.verdicts import HELD, JUDGED, OPEN, PARTLY, REFUTED

RISEN = 1e-3  # of its lowest value: an objective that ends further above it has not fallen monotonically
SAYING = ("better", "worse", "best")  # outcomes that say more than that nothing was found
_SAYS = dict(better="that it holds", worse="the opposite")

Pair = tuple[float, float]  # of the method and of its comparator, more is better


def disagreements(results: Path, about: Abouts, claims: Path = CLAIMS) -> tuple[int, list[str]]:
    """How many outcomes behind the verdicts of claims.csv the data can bear out, and a sentence for each contradicted.

    Those are the ones that say "better", "worse" or "best", of a measure of which there is a plain reading.

    Raises InputError where there is no claims.csv, and for CSVs that cannot be read.
    """
    folders = [folder for folder in (results, place(results, "smoke")) if (folder / "claims.csv").exists()]
    if not folders:
        raise InputError(f"{results / 'claims.csv'} is not there; run `make claims` to write it.")
    known = {(claim.id, claim.protocol, claim.grid): claim for claim in load_claims(claims)}
    evidence: dict[Path, Evidence] = {}
    count, found = 0, []
    for folder in folders:
        effects = read(folder / "claim_effects.csv")
        table = read(folder / "claims.csv")
        for csvs in dict.fromkeys(place(results, row.profile) / row.grid for row in table.itertuples()):
            with suppress(Stale):  # the door tells of rows that do not count also where nothing is judged on the others
                if (csvs / "runs.csv").exists():
                    door.text(csvs, "runs")
        for row in table[table["verdict"].isin(JUDGED)].itertuples():
            key = (row.id, row.protocol, row.grid)
            where = f"{row.id} ({row.protocol}, {row.grid}, {row.profile})"
            if key not in known:
                found.append(f"{where} is no claim of {claims.name} any more.")
                continue
            behind = effects[(effects[["id", "protocol", "grid"]] == list(key)).all(axis=1)]
            behind = behind[behind["profile"] == row.profile]
            count += len(_told(known[key], behind))
            csvs = place(results, row.profile) / row.grid
            if csvs not in evidence:
                evidence[csvs] = Evidence(csvs, about(row.grid, row.profile).targets)
            found += [f"{where}: {text}" for text in _contradictions(row.verdict, known[key], evidence[csvs], behind)]
    return count, found


def _contradictions(verdict: str, claim: Claim, evidence: Evidence, effects: pd.DataFrame) -> Iterator[str]:
    if claim.rule != "varies":
        seen = set(effects["outcome"])
        wrong = {
            HELD: seen - {"untested"} != {"better"},
            PARTLY: "better" not in seen or seen == {"better"},
            OPEN: "worse" in seen or seen == {"better"},
            REFUTED: "worse" not in seen,
        }
        if wrong[verdict]:
            yield f"the verdict is '{verdict}', and its comparisons are {', '.join(sorted(seen)) or 'none'}."
    try:
        absent = without_runs(claim, evidence)
    except InputError as error:
        yield str(error)
        return
    if absent or not set(effects["dataset"]) <= set(evidence.runs["dataset"]):
        yield f"{evidence.folder / 'runs.csv'} has no run any more of {', '.join(absent) or 'a data set of its'}."
        return
    for row in _told(claim, effects).itertuples():
        if text := _LOOKS[_word(claim)](claim, evidence, row):
            yield text


def _told(claim: Claim, effects: pd.DataFrame) -> pd.DataFrame:
    """The outcomes that say something of which there is a plain reading."""
    return effects[effects["outcome"].isin(SAYING) & (_word(claim) in _LOOKS)]


def _word(claim: Claim) -> str:
    """The claim's measure without its column."""
    return claim.measure.partition(":")[0]


def _by_medians(values: Callable[[Claim, Evidence, str, str], Pair]) -> Callable:
    """A look that compares two numbers. values: claim, evidence, data set and comparator -> the two of them."""

    def look(claim: Claim, evidence: Evidence, row: Any) -> str:
        other = row.against if row.against in claim.against else ""
        mine, theirs = values(claim, evidence, row.dataset, other)
        margin = claim.bound or 0.0
        if (row.outcome == "better" and mine < theirs - margin) or (row.outcome == "worse" and mine > theirs):
            who = f" against {other}" if other else ""
            return (
                f"{row.dataset}{who}: it says {_SAYS[row.outcome]}, and the data show {mine:.4g} beside {theirs:.4g}."
            )
        return ""

    return look


def _accuracy_of(runs: pd.DataFrame, dataset: str, label: str, **where: str) -> float:
    """Median test accuracy, chance level for what did not finish."""
    chosen = runs[(runs["dataset"] == dataset) & (runs["label"] == label)]
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    return float(chosen["test_accuracy"].where(is_finished(chosen), chance(chosen)).median())


def _accuracies(claim: Claim, evidence: Evidence, dataset: str, other: str) -> Pair:
    return tuple(_accuracy_of(evidence.runs, dataset, label) for label in (claim.method, other))


def _accuracies_at(claim: Claim, evidence: Evidence, dataset: str, other: str) -> Pair:
    labels = (claim.method, other)
    equal = at_equal_cost(evidence.runs, evidence.curves_with(claim.column), labels, claim.column)
    return tuple(_accuracy_of(equal, dataset, label) for label in labels)


def _costs(claim: Claim, evidence: Evidence, dataset: str, other: str) -> Pair:
    """Minus the medians of what was spent, by the end of the run or up to the target."""
    runs = evidence.runs[evidence.runs["dataset"] == dataset]
    word = _word(claim)
    if word == "to_target":
        curves = evidence.curves_with(claim.column)
        reached = curves[curves["val_accuracy"] >= evidence.goal(claim.reference)[dataset]]
        spent = runs["run_key"].map(reached.groupby("run_key")[claim.column].min()).fillna(np.inf)
    elif word == "block_step":
        costs = step_costs(runs, claim.column)
        spent = costs["block_step"].where(costs["label"] == claim.method, costs["full_step"])
    else:
        spent = runs[claim.column]
    spent = spent.where(is_finished(runs), np.inf)
    return tuple(-float(spent[runs["label"] == label].median()) for label in (claim.method, other))


def _gains(claim: Claim, evidence: Evidence, dataset: str, other: str) -> Pair:
    """The gain over the comparators inside the group, and elsewhere."""

    def gain(value: str) -> float:
        of = lambda label: _accuracy_of(evidence.runs, dataset, label, **{claim.column: value})
        return of(claim.method) - float(np.mean([of(label) for label in claim.against]))

    return tuple(float(np.mean([gain(value) for value in values])) for values in (claim.group, claim.elsewhere))


def _stabilities(column: str, sign: int) -> Callable[[Claim, Evidence, str, str], Pair]:
    """A column of stability.csv, the table that the sweep's figures show."""

    def values(claim: Claim, evidence: Evidence, dataset: str, other: str) -> Pair:
        table = read(evidence.folder / "stability.csv")
        table = table[table["dataset"] == dataset].set_index("label")
        return tuple(sign * float(table.loc[label, column]) for label in (claim.method, other))

    return values


def _every_curve(fails: Callable[[np.ndarray], str]) -> Callable:
    """A look at the curve of every finished run that a claim of "it falls" is about."""

    def look(claim: Claim, evidence: Evidence, row: Any) -> str:
        if row.outcome != "better":
            return ""
        runs = evidence.runs[(evidence.runs["dataset"] == row.dataset) & (evidence.runs["label"] == row.method)]
        column = claim.column or "objective"
        curves = evidence.curves[evidence.curves["iteration"] >= claim.since].sort_values("iteration")
        for run in runs[is_finished(runs)].itertuples():
            curve = curves[curves["run_key"] == run.run_key].drop_duplicates("iteration")[column].to_numpy(float)
            if len(curve) and (why := fails(curve)):
                return f"{row.dataset}: it says that it holds, and the {column} of {run.label}, seed {run.seed}, {why}."
        return ""

    return look


def _rises(v: np.ndarray) -> str:
    lowest = v.min()
    return f"ends at {v[-1]:.6g}, above its lowest, {lowest:.6g}" if v[-1] > lowest + RISEN * abs(lowest) else ""


def _stays(v: np.ndarray) -> str:
    return f"never goes below {v[0]:.4g}, where it starts" if v[1:].min(initial=np.inf) >= v[0] else ""


def _speeds_up(v: np.ndarray) -> str:
    middle = len(v) // 2
    early, late = v[0] - v[middle], v[middle] - v[-1]
    return f"falls by {early:.4g} at first and by {late:.4g} later" if late > early else ""


def _not_the_best(claim: Claim, evidence: Evidence, row: Any) -> str:
    if row.outcome != "best":
        return ""
    runs = evidence.runs[(evidence.runs["dataset"] == row.dataset) & evidence.runs["label"].isin(claim.labels)]
    means = runs["test_accuracy"].where(is_finished(runs), chance(runs)).groupby(runs["label"]).mean()
    top = means.idxmax()
    return (
        f"{row.dataset}: it says that {row.method} is the best, and {top} is." if means[row.method] < means[top] else ""
    )


_LOOKS: dict[str, Callable[..., str]] = {
    "accuracy": _by_medians(_accuracies),
    "accuracy_at": _by_medians(_accuracies_at),
    "to_target": _by_medians(_costs),
    "cost": _by_medians(_costs),
    "block_step": _by_medians(_costs),
    "contrast": _by_medians(_gains),
    "usable_decades": _by_medians(_stabilities("usable_decades", 1)),
    "survival": _by_medians(_stabilities("diverged_share", -1)),
    "steadiness": _by_medians(_stabilities("deviation", -1)),
    "monotone": _every_curve(_rises),
    "power": _every_curve(_stays),
    "rate": _every_curve(_speeds_up),
    "best": _not_the_best,
}  # linear_margin compares two fits, of which no plain reading says more
