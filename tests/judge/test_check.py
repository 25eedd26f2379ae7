"""The check of verdicts against figures: silent on what agrees, and a sentence for every planted disagreement."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from frames import runs_of, synthetic, write_runs
from helpers import ROOT

from reproduce.__main__ import main
from reproduce.evidence.about import Target
from reproduce.evidence.files import read, write
from reproduce.judge.check import disagreements
from reproduce.judge.claims import load_claims, write_claims
from reproduce.judge.stability import stability_table
from reproduce.judge.verdicts import HELD, PARTLY, REFUTED
from reproduce.plan.grid import abouts

FOUND = load_claims()
ABOUT = abouts()
EACH = {claim.measure: replace(claim, against=claim.against[:2]) for claim in FOUND}  # a claim of every measure


def write_toml(path, claim):
    """The claim alone, as claims.toml has it."""
    values = {key: value for key, value in asdict(claim).items() if value not in ("", (), None)}
    protocol, grid = values.pop("protocol"), values.pop("grid")
    lines = ["[protocols]", f'"{protocol}" = "As it is."', "[[claim]]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    lines += ["[[claim.protocol]]", f'name = "{protocol}"', f'grid = "{grid}"']
    path.write_text("\n".join(lines), encoding="utf-8")


def asks(claim):
    """The suite's grids with the claim's own target."""
    targets = (Target(claim.reference, 1.0),) if claim.reference else ()
    return lambda grid, profile: replace(ABOUT(grid, profile), targets=targets)


def judged(folder, claim, runs, curves):
    """The claim judged on the CSVs; returns the TOML that it alone is in."""
    write_toml(folder / "one.toml", claim)
    put(folder / claim.grid, runs, curves)
    write_claims(folder, asks(claim), claims=folder / "one.toml")
    return folder / "one.toml"


def put(folder, runs, curves):
    folder.mkdir(exist_ok=True)
    runs.to_csv(folder / "runs.csv", index=False)
    curves.to_csv(folder / "curves.csv", index=False)
    if folder.name == "samt_stability":  # of the derived tables the check reads this one alone
        write(folder / "stability.csv", stability_table(runs, curves), digits=6)


def contradicted(claim, runs, curves):
    """The CSVs of a claim that is true, changed into ones on which it is plainly false."""
    if claim.measure == "monotone":
        return runs, curves.assign(objective=curves["objective"] + (curves["iteration"] == 60) * 300.0)
    if claim.measure == "rate":
        return runs, curves.assign(objective=100 - (curves["iteration"] / 60.0) ** 3)
    if claim.measure == "power:gradient_norm":
        return runs, curves.assign(gradient_norm=3.0 + curves["iteration"])
    # What the method did is the first comparator's, and the other way round.
    one, other = (claim.method, claim.against[-1]) if claim.method else claim.labels[:2]
    names = {one: other, other: one} | {
        f"{a}, {x}": f"{b}, {x}" for a, b in ((one, other), (other, one)) for x in (0.01, 0.1, 1.0)
    }
    swap = lambda label: names.get(label, label)
    keys = dict(zip(runs["run_key"], runs["label"]))
    moved = runs.assign(label=runs["label"].map(swap))
    return moved, curves.assign(label=curves["run_key"].map(keys).map(swap))


@pytest.mark.parametrize("claim", EACH.values(), ids=EACH)
def test_a_verdict_agrees_with_its_own_csvs_and_not_with_contrary_ones(tmp_path, claim):
    runs, curves = synthetic(claim)
    toml = judged(tmp_path, claim, runs, curves)
    table = read(tmp_path / "claims.csv")
    assert table.loc[table["profile"] == "paper", "verdict"].item() == HELD
    count, found = disagreements(tmp_path, asks(claim), toml)
    assert found == [] and (count > 0) == (claim.measure != "linear_margin")  # of which there is no plain reading
    if claim.measure == "linear_margin":
        return  # a difference of two fits, of which no plain reading says more
    put(tmp_path / claim.grid, *contradicted(claim, runs, curves))
    again, found = disagreements(tmp_path, asks(claim), toml)
    assert again == count and found
    assert all(text.startswith(f"{claim.id} ({claim.protocol}, {claim.grid}, paper): ") for text in found)


def named(ident, protocol=""):
    return next(claim for claim in FOUND if claim.id == ident and protocol in claim.protocol)


def test_a_monotone_run_that_ends_above_its_lowest_is_found_though_the_rule_holds(tmp_path):
    claim = named("TIAM-7a", "start")
    runs, _ = synthetic(claim)
    k = np.arange(400)
    fall = 100 * 0.99**k + 1
    curves = [
        pd.DataFrame(dict(run_key=key, iteration=k, objective=fall + 2.0 * (k == 399))) for key in runs["run_key"]
    ]
    toml = judged(tmp_path, claim, runs, pd.concat(curves))
    assert read(tmp_path / "claims.csv")["verdict"].iloc[0] == HELD  # 398 of 399 evaluations did not rise
    _, found = disagreements(tmp_path, asks(claim), toml)
    assert (
        len(found) == 2 and "the objective of TIAM, seed 0, ends at 4.81" in found[0] and "above its lowest" in found[0]
    )


def test_a_verdict_that_its_comparisons_do_not_bear_out_is_found(tmp_path):
    claim = named("TIAM-4", "iterations")
    toml = judged(tmp_path, claim, *synthetic(claim))
    table = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False)
    for word in (REFUTED, PARTLY):
        table.assign(verdict=table["verdict"].replace(HELD, word)).to_csv(tmp_path / "claims.csv", index=False)
        _, found = disagreements(tmp_path, asks(claim), toml)
        assert len(found) == 1 and f"the verdict is '{word}', and its comparisons are better." in found[0]
    effects = pd.read_csv(tmp_path / "claim_effects.csv")
    table.to_csv(tmp_path / "claims.csv", index=False)
    effects.assign(outcome=["worse", *effects["outcome"][1:]]).to_csv(tmp_path / "claim_effects.csv", index=False)
    _, found = disagreements(tmp_path, asks(claim), toml)
    assert "the verdict is 'held', and its comparisons are better, worse." in found[0]
    assert "it says the opposite, and the data show" in found[1] and len(found) == 2
    (tmp_path / claim.grid / "runs.csv").unlink()
    _, found = disagreements(tmp_path, asks(claim), toml)
    assert "runs.csv is not there; run `make reproduce-tiam_accuracy`" in found[1]


def test_the_command_fails_with_the_sentences_and_says_where_there_is_nothing(tmp_path, monkeypatch, capsys):
    assert main(["check", "--results", str(tmp_path)]) == 2
    assert "claims.csv is not there; run `make claims` to write it." in capsys.readouterr().err
    labels = ["TIAM (0.9, 0.9, 0.5)", "TIAM (0.0, 0.0, 0.0)"]
    write_runs(tmp_path / "tiam_inertia", runs_of({labels[0]: [0.9, 0.91, 0.92], labels[1]: [0.8, 0.81, 0.82]}))
    write_claims(tmp_path, ABOUT)
    assert main(["check", "--results", str(tmp_path)]) == 0
    assert "1 outcomes say better, worse or best: the figures' own data agree" in capsys.readouterr().out
    swapped = runs_of({labels[1]: [0.9, 0.91, 0.92], labels[0]: [0.8, 0.81, 0.82]})
    swapped.to_csv(tmp_path / "tiam_inertia" / "runs.csv", index=False)
    assert main(["check", "--results", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert (
        "TIAM-6a (equal iterations, tiam_inertia, paper): mnist against TIAM (0.0, 0.0, 0.0): it says that it" in told
    )
    assert "the data show 0.81 beside 0.91." in told


@pytest.mark.skipif(not (ROOT / "results" / "claims.csv").exists(), reason="no claims are committed")
def test_the_committed_verdicts_agree_with_the_committed_runs():
    count, found = disagreements(ROOT / "results", ABOUT)
    assert count > 400 and found == []
