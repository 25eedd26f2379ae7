"""Verdicts: a claim's rule applied to its table of comparisons."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from am.errors import InputError, unknown
from reproduce.judge.rows import MIN_SEEDS, in_words, listed, require_columns, too_few
from reproduce.judge.significance import TOO_FEW

HELD, PARTLY, OPEN, REFUTED = "held", "partly", "open", "refuted"
NOT_TESTED, NOT_RUN = "not tested here", "not run"
OPPOSITE = "the opposite"  # how a reason begins to say where a claim is refuted
JUDGED = (HELD, PARTLY, OPEN, REFUTED)
# "The opposite": worse than some comparator, p < .05 after Holm over all groups and comparators of the claim, or the
# whole interval on the wrong side of the bound.
_PARTLY = "partly: so on at least one and nowhere the opposite."
RULES = {
    "better": "On every group tested the mean paired difference to every comparator is above 0, p < .05; " + _PARTLY,
    "fewer": "On every group tested the cost ratio to every comparator is below 1, p < .05; " + _PARTLY,
    "contributes": "The method is better (or cheaper) than each of its variants with one part taken away, on every "
    "group tested, p < .05; partly: than at least one of them.",
    "not_worse": "On every group tested the 95 % interval of the mean paired difference lies above -bound; " + _PARTLY,
    "at_least": "On every group tested the 95 % interval over seeds of the mean lies at or above the bound; " + _PARTLY,
    "at_most": "On every group tested the 95 % interval over seeds of the mean lies at or below the bound; " + _PARTLY,
    "varies": "No label is best (has the highest mean, or is not found worse than that after Holm) on every group; "
    "partly: one is, but the highest mean changes hands and somewhere stands alone.",
}
_SCALES = {
    "better": ("difference",),
    "fewer": ("ratio",),
    "contributes": ("difference", "ratio"),
    "not_worse": ("difference",),
    "at_least": ("level",),
    "at_most": ("level",),
}
_BOUNDED = ("not_worse", "at_least", "at_most")


@dataclass(frozen=True)
class Verdict:
    """verdict: held, partly, open (nothing is shown either way), refuted (the opposite is) or not tested here.

    wins, ties, losses: how many comparisons ended so; None for rule "varies", which compares no method with others.
    reason: where it holds, where it is open, where the opposite (in brackets which comparators are better, or which
    labels miss the bound), where and why it is not tested.
    """

    verdict: str
    reason: str
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None


def verdict(rule: str, table: pd.DataFrame, by: str | Sequence[str] = "dataset", bound: float | None = None) -> Verdict:
    """Judge a claim from its table by one of RULES.

    table: of `compare` or `contrast` (better, contributes, not_worse), `compare_costs` (fewer, contributes), `levels`
    (at_least, at_most) or `best_and_ties` (varies). bound: of not_worse, at_least and at_most. Groups without a test
    (too few seeds, no run reached the target) are left out and named; with none left the claim was not tested.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if (bound is None) == (rule in _BOUNDED):
        raise InputError(f"rule '{rule}' {'needs a' if rule in _BOUNDED else 'takes no'} bound.")
    by = listed(by)
    if rule == "varies":
        return _varies(table, by)
    require_columns(table, [*by, "b", "scale", "n", "a_done"])
    if not table["scale"].isin(_SCALES[rule]).all():
        wrong = table.loc[~table["scale"].isin(_SCALES[rule]), "scale"].iloc[0]
        raise InputError(f"rule '{rule}' judges a table of scale {' or '.join(_SCALES[rule])}, not '{wrong}'.")
    groups = [_name(row) for row in table[list(by)].itertuples(index=False)]
    parts = rule == "contributes"
    several = table["a"].nunique() > 1
    others = [b or (a if several else "") for a, b in zip(table["a"], table["b"])]
    why = [
        too_few(n) if n < MIN_SEEDS else f"{n} seeds: too few where the target was missed" if test == TOO_FEW else test
        for n, test in zip(table["n"], table.get("test", table["n"]))
    ]
    rows = pd.DataFrame(
        dict(
            unit=table["b"].to_numpy() if parts else groups,
            other=groups if parts else others,
            outcome=outcomes(rule, table, bound).to_numpy(),
            why=why,
        )
    )
    count = rows["outcome"].value_counts()
    of = {name: int(count.get(word, 0)) for name, word in (("wins", "better"), ("ties", "tied"), ("losses", "worse"))}
    return replace(_judge(rows, any_suffices=parts), **of)


def outcomes(rule: str, table: pd.DataFrame, bound: float | None = None) -> pd.Series:
    """Of every row of the table: "better" where the rule holds, "worse" for the opposite, "tied" or "untested"."""
    return _against_bound(rule, table, bound) if rule in _BOUNDED else table["outcome"]


def _against_bound(rule: str, table: pd.DataFrame, bound: float) -> pd.Series:
    low, high = (table["ci_low"], table["ci_high"]) if rule != "at_most" else (-table["ci_high"], -table["ci_low"])
    limit = {"at_least": bound, "at_most": -bound, "not_worse": -bound}[rule]
    holds = (low > limit if rule == "not_worse" else low >= limit) & (table["a_done"] > 0)
    untested = (table["n"] < MIN_SEEDS) | low.isna()
    return pd.Series(np.select([untested, holds, high < limit], ["untested", "better", "worse"], "tied"), table.index)


def _judge(rows: pd.DataFrame, any_suffices: bool) -> Verdict:
    """rows: unit (a group, or a variant for `contributes`), other (comparator, or group), outcome and, where it is
    untested, why.

    A unit holds where all its rows do.
    """
    places: dict[str, list[str]] = dict(better=[], tied=[], worse=[], untested=[])
    for unit, cell in rows.groupby("unit", sort=False):
        seen = set(cell["outcome"])
        state = "worse" if "worse" in seen else seen.pop() if len(seen) == 1 else "tied"
        told = dict(untested=cell["why"], worse=cell.loc[cell["outcome"] == "worse", "other"]).get(state)
        named = in_words(told) if told is not None else ""
        unit = in_words([unit])
        places[state].append(f"{unit} ({named})" if named else unit)
    words = dict(better="holds", tied="open", worse=OPPOSITE, untested="not tested")
    reason = "; ".join(f"{words[state]}: {', '.join(units)}" for state, units in places.items() if units)
    if not (places["better"] or places["tied"] or places["worse"]):
        return Verdict(NOT_TESTED, reason or "no comparison was made")
    if not (places["tied"] or places["worse"]):
        return Verdict(HELD, reason)
    if places["better"] and (any_suffices or not places["worse"]):
        return Verdict(PARTLY, reason)
    return Verdict(REFUTED if places["worse"] else OPEN, reason)


def _varies(table: pd.DataFrame, by: Sequence[str]) -> Verdict:
    require_columns(table, [*by, "label", "n", "outcome"])
    units = [_name(row) for row in table[list(by)].itertuples(index=False)]
    leaders, short = {}, {}
    for unit, rows in table.groupby(units, sort=False):
        # A group in which the best met nobody, or somebody with too few seeds, says nothing.
        if rows["outcome"].isin(["tied", "worse"]).any() and not (rows["outcome"] == "untested").any():
            leaders[unit] = rows.loc[rows["outcome"].isin(["best", "tied"]), ["label", "outcome"]]
        elif rows["n"].min() < MIN_SEEDS:
            short[unit] = too_few(rows["n"].min())
    told = [f"{unit}: {in_words(rows['label'])}" for unit, rows in leaders.items()]
    told += [f"not tested: {', '.join(f'{unit} ({why})' for unit, why in short.items())}"] if short else []
    reason = "; ".join(told)
    if len(leaders) < 2:
        return Verdict(NOT_TESTED, reason or "no comparison was made")
    if not set.intersection(*(set(rows["label"]) for rows in leaders.values())):
        return Verdict(HELD, reason)
    changes = len({rows.loc[rows["outcome"] == "best", "label"].iloc[0] for rows in leaders.values()}) > 1
    alone = any(len(rows) == 1 for rows in leaders.values())
    if changes and alone:
        return Verdict(PARTLY, reason)
    # One that is best and alone so on every group; ties leave it open.
    return Verdict(REFUTED if all(len(rows) == 1 for rows in leaders.values()) else OPEN, reason)


def _name(row: Iterable) -> str:
    return " / ".join(map(str, row))
