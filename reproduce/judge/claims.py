"""Claims: `claims.toml` judged on the CSVs of every profile into `claims.csv`, `claim_effects.csv` and `claims.md`.

A row of claims.csv is a claim under one protocol and one profile, whether that has been run or not; claims.md sets the
profiles side by side. A row of claim_effects.csv is one comparison behind a verdict. Profile `smoke` is a trial of the
pipeline and no evidence: it has claims of its own, in its own folder.
"""

import dataclasses
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from am.errors import InputError, unknown
from reproduce.evidence.about import Abouts
from reproduce.evidence.files import Stale, make_folder, write, write_whole
from reproduce.evidence.places import place
from reproduce.evidence.schema import TABLES, titled
from reproduce.judge.measures import Claim, Evidence, measure_of, unit_of, without_runs
from reproduce.judge.rows import in_words
from reproduce.judge.significance import UNREACHED
from reproduce.judge.stability import by_step_size
from reproduce.judge.verdicts import JUDGED, NOT_RUN, NOT_TESTED, outcomes, verdict

CLAIMS = Path(__file__).parent / "claims.toml"
EVIDENCE = ("paper", "light")
SCALES = dict(paper="At the papers' scale (`paper`)", light="On two cores (`light`)", smoke="Trial (`smoke`)")
_KEYS = tuple(field.name for field in dataclasses.fields(Claim) if field.name != "protocol")


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """Every claim under every one of its protocols; raises InputError for a key, protocol or list that is not there."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    protocols, lists = raw["protocols"], raw.get("lists", {})
    found = []
    for block in raw["claim"]:
        place_of = f"{path.name}: {block.get('id', 'a claim')}"
        own = block.pop("protocol", [])
        for key in (*block, *(key for chosen in own for key in chosen if key != "name")):
            if key not in _KEYS:
                raise unknown("key", key, _KEYS, place_of)
        if not own:
            raise InputError(f"{place_of} has no [[claim.protocol]] with a name and a grid, so nothing can judge it.")
        for chosen in own:
            values = block | chosen
            name = values.pop("name", "")
            if name not in protocols:
                raise unknown("protocol", name, protocols, place_of)
            for key in ("against", "labels"):
                if isinstance(word := values.get(key, ()), str):
                    if word not in lists:
                        raise unknown("list", word, lists, place_of)
                    values[key] = lists[word]
            found.append(Claim(protocol=name, **values))
    return found


def counted_from(grid: str) -> int:
    """The iteration from which claims on the grid's curves count, the latest of several; 0 where all of them do."""
    return max((claim.since for claim in load_claims() if claim.grid == grid), default=0)


def protocols_of(path: Path) -> dict[str, str]:
    """Protocol -> what it means, in a sentence."""
    return tomllib.loads(path.read_text(encoding="utf-8"))["protocols"]


def changes_of(path: Path) -> list[str]:
    """What was changed in the rules of all claims after runs, a sentence each."""
    return tomllib.loads(path.read_text(encoding="utf-8")).get("changed", [])


def judge_all(
    results: Path, about: Abouts, profiles: Sequence[str] = EVIDENCE, claims: Path = CLAIMS
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The rows of claims.csv, of claim_effects.csv and of claim_seeds.csv, from the CSVs below a results folder."""
    evidence: dict[Path, Evidence] = {}
    rows, effects = [], []
    for claim in load_claims(claims):
        mine = []
        for profile in profiles:
            folder, told = place(results, profile) / claim.grid, about(claim.grid, profile)
            if folder not in evidence:
                evidence[folder] = Evidence(folder, told.targets)
            found, table = _judged(claim, evidence[folder], profile, told.datasets)
            mine.append(_named(claim, profile) | found)
            effects += table
        judged = [row for row in mine if row["verdict"] in JUDGED]
        agreement = "differ" if len({row["verdict"] for row in judged}) > 1 else "agree" if len(judged) > 1 else ""
        if agreement:
            folders = [place(results, row["profile"]) / claim.grid for row in judged]
            few, *_, many = sorted((set(evidence[folder].runs["run_key"]) for folder in folders), key=len)
            agreement = "the same runs" if few == many else "the same runs, and more" if few < many else agreement
        rows += [row | dict(agreement=agreement) for row in mine]
    seeds = [row | dict(seed=seed, a=a, b=b) for row in effects for seed, a, b in row["pairs"]]
    return (
        pd.DataFrame(rows).reindex(columns=TABLES["claims"].names),
        pd.DataFrame(effects).reindex(columns=TABLES["claim_effects"].names),
        pd.DataFrame(seeds).reindex(columns=TABLES["claim_seeds"].names),
    )


def _named(claim: Claim, profile: str) -> dict[str, Any]:
    return dict(
        id=claim.id, paper=claim.paper, claim=claim.sentence, note=claim.note, protocol=claim.protocol,
        grid=claim.grid, profile=profile, measure=claim.measure, method=claim.method or in_words(claim.labels),
        against=in_words(claim.against), rule=claim.rule, bound=claim.bound, counts_against=claim.counts_against,
        changed=claim.changed,
    )  # fmt: skip


def _judged(
    claim: Claim, evidence: Evidence, profile: str, datasets: Sequence[str] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The verdict with what is behind it, and the rows of claim_effects.csv. datasets: those of the grid."""
    measure, unit = measure_of(claim), unit_of(claim)
    try:
        if not (evidence.folder / "runs.csv").exists():
            return dict(verdict=NOT_RUN, reason=f"the grid {claim.grid} has not been run"), []
        runs = evidence.runs
    except Stale:
        return dict(verdict=NOT_RUN, reason=f"the grid {claim.grid} has not been run on this code"), []
    scale = dict(trials=0 if evidence.tuning.empty else int(evidence.tuning["trial"].max()) + 1)
    try:
        if absent := without_runs(claim, evidence):
            names = ", ".join(f"'{label}'" for label in absent)
            return scale | dict(verdict=NOT_TESTED, reason=f"the grid has no run of {names}"), []
        table = measure.table(claim, evidence)
    except InputError as error:
        return scale | dict(verdict=NOT_TESTED, reason=str(error)), []
    found = verdict(claim.rule, table, bound=claim.bound)
    effects = _effects(claim, profile, table, runs, measure.factor, unit)
    mine = by_step_size(runs) if measure.sweep else runs
    there = set(mine.loc[mine["label"].isin(claim.about), "dataset"])
    absent = [name for name in datasets if name not in there]
    left_out = f"; not run: {', '.join(absent)}" if absent and found.verdict in JUDGED else ""
    if claim.reference:
        goals = evidence.goal(claim.reference).dropna()
        if aimless := [name for name in datasets if name in there and name not in goals]:
            left_out += f"; no target: {', '.join(aimless)} (no finished run of {claim.reference})"
    return scale | dict(
        verdict=found.verdict,
        reason=found.reason + left_out,
        evidence=_evidence(table, measure.factor, unit),
        basis=_basis(effects),
        seeds=min((row["seeds"] for row in effects if row["seeds"]), default=0),
        wins=found.wins,
        ties=found.ties,
        losses=found.losses,
    ), effects


def _effects(
    claim: Claim, profile: str, table: pd.DataFrame, runs: pd.DataFrame, factor: float, unit: str
) -> list[dict[str, Any]]:
    """A row a comparison, numbers in the claim's unit."""
    named = {key: value for key, value in _named(claim, profile).items() if key in TABLES["claim_effects"].names}
    rows_of = runs.groupby("dataset")["n_train"].max()
    if claim.rule == "varies":
        table = table.rename(columns=dict(label="a", score="effect")).assign(b="", scale="level")
    else:
        table = table.assign(outcome=outcomes(claim.rule, table, claim.bound))
    table = _without_misses(table)
    numbers = ("a_value", "b_value", "effect", "ci_low", "ci_high")
    return [
        named
        | dict(dataset=row["dataset"], n_train=int(rows_of[row["dataset"]]), method=row["a"], against=row["b"])
        | dict(scale=row["scale"], unit=unit, seeds=int(row["n"]), outcome=row["outcome"])
        | {name: row[name] * (factor if row["scale"] != "ratio" else 1.0) for name in numbers if name in row}
        | dict(p=row.get("p"), p_holm=row.get("p_holm"), test=row.get("test", ""), pairs=row["pairs"])
        for row in table.to_dict("records")
    ]


def _basis(effects: Sequence[dict[str, Any]]) -> str:
    """Data sets with their training images and seeds, those that are alike together."""
    alike: dict[str, list[str]] = {}
    for dataset in dict.fromkeys(row["dataset"] for row in effects):
        mine = [row for row in effects if row["dataset"] == dataset]
        few, many = min(row["seeds"] for row in mine), max(row["seeds"] for row in mine)
        seeds = "1 seed" if many == 1 else f"{few} seeds" if few == many else f"{few} to {many} seeds"
        alike.setdefault(f"{mine[0]['n_train']:,} images, {seeds}", []).append(dataset)
    return "; ".join(f"{', '.join(datasets)}: {scale}" for scale, datasets in alike.items())


def _evidence(table: pd.DataFrame, factor: float, unit: str) -> str:
    """The smallest and the largest effect, and in brackets the outermost ends of their 95 % intervals.

    No brackets where one of them has no interval.
    """
    known = _without_misses(table).dropna(subset=["effect"]) if "effect" in table else table.iloc[:0]
    if known.empty:
        return ""
    sign = (known["scale"] == "difference").all()
    ends = [_number(known["effect"].min() * factor, sign), _number(known["effect"].max() * factor, sign)]
    low, high = (known[end].agg(most, skipna=False) * factor for end, most in (("ci_low", "min"), ("ci_high", "max")))
    interval = "" if math.isnan(low) or math.isnan(high) else f" [{_number(low, sign)}, {_number(high, sign)}]"
    return f"{' to '.join(dict.fromkeys(ends))} {unit}{interval}"


def _without_misses(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the effects of targets that no run reached: a ratio of two misses is none."""
    missed = table["test"] == UNREACHED if "test" in table else pd.Series(False, table.index)
    known = [name for name in ("effect", "ci_low", "ci_high") if name in table]
    return table.assign(**{name: table[name].mask(missed) for name in known})


def _number(value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return "?"
    text = "∞" if math.isinf(value) else f"{abs(value):.3g}" if abs(value) < 1000 else f"{abs(value):,.0f}"
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + text


def write_claims(
    results: Path, about: Abouts, profiles: Sequence[str] = EVIDENCE, claims: Path = CLAIMS
) -> tuple[Path, dict[str, int]]:
    """Write claims.csv, claim_effects.csv and claims.md; returns the first path and how many rows have each verdict.

    They lie in the results folder itself, or in that of the only profile where there is one.
    """
    table, effects, seeds = judge_all(results, about, profiles, claims)
    folder = place(results, profiles[0]) if len(profiles) == 1 else results
    make_folder(folder)
    write(folder / "claims.csv", table)
    write(folder / "claim_effects.csv", effects, digits=6)
    write(folder / "claim_seeds.csv", seeds)
    write_whole(folder / "claims.md", markdown(table, protocols_of(claims), changes_of(claims)))
    return folder / "claims.csv", table["verdict"].value_counts().to_dict()


LEGEND = """\
A verdict is of one claim under one protocol at one scale: `paper` trains on the whole training sets; `light` too where
that is cheap, and full-batch methods on fewer rows with constants scaled to them. *Held*: it holds on every data set
tested; *partly*: on some, and nowhere the opposite; *open*: nothing is shown either way; *refuted*: somewhere a
comparator is shown to be better, which *the opposite* names in brackets. In brackets behind the word: comparisons won,
tied and lost. Evidence: the smallest to the largest effect over data sets and comparators, in brackets the outermost
ends of their 95 % intervals over seeds. What favours the claim: points, decades and % above 0, a cost below 1 times; 0
times means that only the comparator missed the target, ∞ times that the method itself did; where both missed it on
every seed there is no effect. Every single comparison is a row of `claim_effects.csv`. No table of the two papers could
be read: no claim has a number of theirs to meet."""


def markdown(table: pd.DataFrame, protocols: dict[str, str], changed: Sequence[str] = ()) -> str:
    """The table for readers: a row a claim and protocol, the profiles side by side, and whether they agree.

    changed: what was changed in the rules of all claims.
    """
    profiles = list(dict.fromkeys(table["profile"]))
    heads = ["Claim", "Protocol", *(SCALES[profile] for profile in profiles)]
    heads += ["The two"] if len(profiles) > 1 else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    seen = ""
    for (ident, protocol, grid), rows in table.groupby(["id", "protocol", "grid"], sort=False):
        first = rows.iloc[0]
        claim = f"{ident}: {first['claim']}" + (f" ({first['note']})" if first["note"] else "")
        trials = rows["trials"].max()
        cells = [claim if ident != seen else ident, f"{protocol}, `{grid}`" + (", tuned" if trials > 0 else "")]
        cells += [_cell(rows[rows["profile"] == profile].iloc[0]) for profile in profiles]
        cells += [first["agreement"] or "–"] if len(profiles) > 1 else []
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        seen = ident
    meanings = [f"- *{name}*: {text}" for name, text in protocols.items() if name in set(table["protocol"])]
    claims = table.drop_duplicates("id")
    changes = [f"- All: {text}" for text in changed]
    changes += [f"- {row.id}: {row.changed}" for row in claims.itertuples() if row.changed]
    parts = [LEGEND, "\n".join(lines), "Protocols:", "\n".join(meanings)]
    if changes:
        parts += ["Rules that were changed after runs, of earlier code where nothing else is said:", "\n".join(changes)]
    return "\n\n".join(parts) + "\n"


def _cell(row: pd.Series) -> str:
    """A verdict with where it holds, its evidence and its basis."""
    if row["verdict"] == NOT_RUN:
        return NOT_RUN
    reason = titled(row["reason"])
    won = f" ({row['wins']:g}/{row['ties']:g}/{row['losses']:g})" if pd.notna(row["wins"]) else ""
    told = [f"**{row['verdict']}**{won}", reason[:1].upper() + reason[1:]]
    told += [row["evidence"]] if pd.notna(row["evidence"]) and row["evidence"] else []
    told += [titled(row["basis"])] if pd.notna(row["basis"]) and row["basis"] else []
    return ". ".join(told)
