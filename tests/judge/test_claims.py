"""Claims, published numbers and tables: from CSVs to verdicts, and back to the page."""

import dataclasses
import json
import tomllib

import numpy as np
import pandas as pd
import pytest
from frames import runs_of, write_runs

from am.errors import InputError
from reproduce.judge.claims import CLAIMS, KEYS, MEASURES, _evidence, _markdown, judge_all, write_claims
from reproduce.judge.published import NUMBERS
from reproduce.judge.significance import UNREACHED
from reproduce.judge.stability import by_step_size
from reproduce.judge.verdicts import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, RULES
from reproduce.run.grid import grid_names, load_grid

CLAIM = """
[[claim]]
id = "X-1"
paper = "TIAM"
sentence = "A is better than B."
grid = "g"
measure = "accuracy"
method = "A"
against = ["B"]
rule = "better"
counts_against = "B better."
"""


@pytest.fixture
def claims(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(CLAIM)
    return path


def test_a_better_method_is_reproduced_and_a_worse_one_is_not(tmp_path, claims):
    good, bad = [0.91, 0.92, 0.93, 0.92, 0.91], [0.81, 0.82, 0.83, 0.81, 0.82]
    write_runs(tmp_path / "up" / "g", runs_of({"A": good, "B": bad}))
    write_runs(tmp_path / "down" / "g", runs_of({"A": bad, "B": good}))
    assert judge_all(tmp_path / "up", claims)["verdict"].item() == REPRODUCED
    assert judge_all(tmp_path / "down", claims)["verdict"].item() == NOT_REPRODUCED


def test_what_cannot_be_judged_says_why(tmp_path, claims):
    row = judge_all(tmp_path, claims).iloc[0]
    assert row["verdict"] == NOT_TESTED and "g has not been run" in row["reason"]
    write_runs(tmp_path / "g", runs_of({"A": [0.9] * 5}))
    row = judge_all(tmp_path, claims).iloc[0]
    assert row["verdict"] == NOT_TESTED and "'B'" in row["reason"]


def test_a_typo_in_a_claim_names_the_key(tmp_path, claims):
    claims.write_text(CLAIM.replace("against", "agianst"))
    with pytest.raises(InputError, match="did you mean 'against'"):
        judge_all(tmp_path, claims)


def test_the_claims_name_grids_labels_and_rules_that_exist():
    labels = {name: {entry.label for entry in load_grid(name, "light").entries} for name in grid_names()}
    steps = [
        dict(method=e.method.name, label=e.label, hyperparameters=json.dumps(dataclasses.asdict(e.settings)))
        for e in load_grid("samt_stability", "light").entries
    ]
    labels["samt_stability"] = set(by_step_size(pd.DataFrame(steps))["label"])
    found = tomllib.loads(CLAIMS.read_text())["claim"]
    assert {claim["paper"] for claim in found} == {"SAMT", "TIAM"} and len({c["id"] for c in found}) == len(found)
    for claim in found:
        if "grid" in claim:
            named = {claim.get("method"), claim.get("reference"), *claim.get("against", ()), *claim.get("labels", ())}
            assert named - {None} <= labels[claim["grid"]], claim["id"]
            assert claim["rule"] in RULES and claim["counts_against"]
            assert claim["measure"].partition(":")[0] in MEASURES and set(claim) <= set(KEYS)
        else:
            assert claim["reason"]
    for number in tomllib.loads(NUMBERS.read_text())["number"]:
        assert number["label"] in labels[number["grid"]] and number["source"]


FOUND = tomllib.loads(CLAIMS.read_text())["claim"]
ACTIVATIONS = ("relu", "leaky_relu", "relu6", "elu", "selu", "celu", "softplus")


def judge(tmp_path, text: str) -> pd.Series:
    """The verdict on one claim over the CSVs in tmp_path / "g"."""
    path = tmp_path / "claims.toml"
    path.write_text(f'[[claim]]\nid = "X"\npaper = "TIAM"\nsentence = "S."\ngrid = "g"\ncounts_against = "C."\n{text}')
    return judge_all(tmp_path, path).iloc[0]


def synthetic(claim: dict, seeds: int = 5, status: str = "done") -> tuple[pd.DataFrame, pd.DataFrame]:
    """CSVs on which the claim is as true as can be; status: of the runs of the labels it is about."""
    mine = {claim.get("method"), *claim.get("labels", ())}
    shaped, sweep = claim["rule"] == "varies", claim["grid"] == "samt_stability"
    named = claim.get("against", []) + claim.get("labels", []) + [claim.get("reference"), claim.get("method")]
    labels = dict.fromkeys(named)
    rows, points = [], []
    for d, dataset in enumerate(("mnist", "svhn")):
        for i, label in enumerate(filter(None, labels)):
            for act in ACTIVATIONS if "group" in claim else ("relu",):
                for x in (0.01, 0.1, 1.0) if sweep else (None,):
                    for seed in range(seeds):
                        own, noise = label in mine, 0.001 * ((seed * 7 + i) % 5)
                        gain = (0.2 if act != "softplus" else 0.1) if own and not shaped else 0.1 * ((i + d) % 2)
                        lost = 0.0 if own or x in (None, 0.1) else 0.3
                        spread = noise if not sweep else noise / 10 if own else noise + 0.02 * (seed % 2)
                        accuracy = 0.6 + gain - lost + spread
                        done = status == "done" or not own
                        rows.append(dict(
                            grid="g", profile="light", lane="time", dataset=dataset, data_official=True, n_train=100,
                            activation=act, hidden="8", method="sgd" if sweep else label.lower(), seed=seed,
                            iterations=60,
                            hyperparameters=json.dumps(dict(learning_rate=x)),
                            label=label if x is None else f"{label}, {x}", status="done" if done else status,
                            test_accuracy=accuracy if done else np.nan, val_accuracy=accuracy if done else np.nan,
                            parameter_updates=60 * (3 if own else 1), run_key=f"{dataset}{label}{act}{x}{seed}",
                            seconds=1 + noise + 5 * (not own), flops=100.0 + 50 * (not own),
                        ))  # fmt: skip
                        k = np.arange(0, 62, 2)
                        speed = 0.9 if own else 0.97
                        points.append(pd.DataFrame(dict(
                            run_key=rows[-1]["run_key"], dataset=dataset, label=rows[-1]["label"], seed=seed,
                            iteration=k, epoch=k / (1 if own else 0.5), seconds=k * (0.1 + noise + (not own)),
                            parameter_updates=k * (1 + 3 * (not own)), val_accuracy=accuracy * (1 - 0.5 * speed**k),
                            objective=5 + 100 * (0.9 + noise) ** k, gradient_norm=3 * np.maximum(k, 1) ** -0.5,
                            train_loss=2.3 + (-0.03 if own or lost == 0 else 0.03) * k,
                        )))  # fmt: skip
    return pd.DataFrame(rows), pd.concat(points)


def judged(tmp_path, claim: dict, runs: pd.DataFrame, curves: pd.DataFrame | None) -> pd.Series:
    folder = tmp_path / claim["grid"]
    folder.mkdir(exist_ok=True)
    runs.to_csv(folder / "runs.csv", index=False)
    if curves is not None:
        curves.to_csv(folder / "curves.csv", index=False)
    return judge_all(tmp_path, tmp_path / "one.toml").iloc[0]


@pytest.mark.parametrize("claim", FOUND, ids=[claim["id"] for claim in FOUND])
def test_every_claim_can_be_reproduced_and_never_by_diverging(tmp_path, claim):
    path = tmp_path / "one.toml"
    path.write_text(_block(claim["id"]))
    runs, curves = synthetic(claim)
    row = judged(tmp_path, claim, runs, curves)
    assert row["verdict"] == REPRODUCED and row["seeds"] == 5 and "mnist" in row["effects"] + row["reason"]
    assert row["evidence"] or claim["rule"] == "varies"
    # Two seeds are too few, a missing comparator is named, and so is a missing method.
    few = judged(tmp_path, claim, runs[runs["seed"] < 2], curves)
    assert few["verdict"] == NOT_TESTED and few["reason"]
    for label in [claim.get("against", [None])[-1], claim.get("method"), *claim.get("labels", ())]:
        if label is not None:
            rest = ~runs["label"].isin([label, *(f"{label}, {x}" for x in (0.01, 0.1, 1.0))])
            lacking = judged(tmp_path, claim, runs[rest], curves)
            assert lacking["verdict"] == NOT_TESTED and f"'{label}'" in lacking["reason"], label
    for status in ("diverged", "failed"):
        lost = judged(tmp_path, claim, *synthetic(claim, status=status))
        assert lost["verdict"] not in (REPRODUCED, PARTLY)
    (tmp_path / claim["grid"] / "curves.csv").unlink()
    needs = claim["measure"].partition(":")[0] not in ("accuracy", "best", "cost", "block_step", "contrast")
    without = judged(tmp_path, claim, runs, None)
    assert (without["verdict"] == NOT_TESTED and "curves.csv" in without["reason"]) == needs


def _block(ident: str) -> str:
    text = CLAIMS.read_text()
    return next("[[claim]]" + part for part in text.split("[[claim]]")[1:] if f'id = "{ident}"\n' in part)


def test_measures_of_worked_examples(tmp_path):
    runs = runs_of({"A": [0.91, 0.92, 0.93], "B": [0.81, 0.82, 0.83]}).assign(
        iterations=100, parameter_updates=300, seconds=[3.0, 6, 9, 2, 4, 6], flops=600.0
    )
    write_runs(tmp_path / "g", runs)
    versus = 'method = "A"\nagainst = ["B"]\n'
    accuracy = judge(tmp_path, f'{versus}measure = "accuracy"\nrule = "better"')
    assert accuracy["evidence"] == "+10 points [+10, +10]"
    assert accuracy["effects"] == "mnist against B: +10 points [+10, +10]"
    cost = judge(tmp_path, f'{versus}measure = "cost:seconds"\nrule = "fewer"')
    assert (cost["verdict"], cost["evidence"]) == (NOT_REPRODUCED, "1.5 times the seconds [1.5, 1.5]")
    step = judge(tmp_path, f'{versus}measure = "block_step:flops"\nrule = "fewer"')  # 600 / 300 against 600 / 100
    assert (step["verdict"], step["evidence"]) == (REPRODUCED, "0.333 times the FLOPs [0.333, 0.333]")
    with pytest.raises(InputError, match="did you mean 'cost:COLUMN'"):
        judge(tmp_path, f'{versus}measure = "cost"\nrule = "fewer"')
    with pytest.raises(InputError, match="did you mean 'accuracy'"):
        judge(tmp_path, f'{versus}measure = "acuracy"\nrule = "better"')


def test_measures_of_the_objective(tmp_path):
    write_runs(tmp_path / "g", runs_of({"A": [0.9] * 3}))
    k = np.arange(2, 62, 2)
    value = 1 + 0.9**k + 0.5 * (k == 40)
    curves = [pd.DataFrame(dict(run_key=f"mnistA{seed}", iteration=k, objective=value)) for seed in range(3)]
    pd.concat(curves).to_csv(tmp_path / "g" / "curves.csv", index=False)
    words = 'method = "A"\nafter = 20\nrule = "at_least"\nbound = 0.99\n'
    rose = judge(tmp_path, words + 'measure = "monotone"')
    assert (rose["verdict"], rose["evidence"]) == (NOT_REPRODUCED, "94.7 % of the evaluations [94.7, 94.7]")  # 18 of 19
    later = judge(tmp_path, words.replace("20", "40") + 'measure = "monotone"')
    assert later["verdict"] == REPRODUCED
    rate = judge(tmp_path, words.replace("least", "most").replace("20", "40") + 'measure = "rate"')
    assert (rate["verdict"], rate["evidence"]) == (REPRODUCED, "0.9 per iteration [0.9, 0.9]")
    # A run that diverged has the worst of each measure: 0 of its evaluations, a factor of 2.
    runs = runs_of({"A": [0.9] * 3}).assign(status=["done", "done", "diverged"])
    runs.to_csv(tmp_path / "g" / "runs.csv", index=False)
    lost = judge(tmp_path, words.replace("20", "40") + 'measure = "monotone"')
    assert lost["verdict"] == NOT_REPRODUCED and lost["evidence"].startswith("66.7 %")
    lost = judge(tmp_path, words.replace("least", "most").replace("20", "40") + 'measure = "rate"')
    assert lost["verdict"] == NOT_REPRODUCED and lost["evidence"].startswith("1.27 per")


@pytest.mark.parametrize("law, expected", [("linear", REPRODUCED), ("power", NOT_REPRODUCED)])
def test_linear_convergence_is_told_from_a_power_law(tmp_path, law, expected):
    write_runs(tmp_path / "g", runs_of({"A": [0.9] * 3}))
    k = np.arange(2, 122, 2)
    value = 1 + 0.9**k if law == "linear" else 1 + k**-0.5
    curves = [pd.DataFrame(dict(run_key=f"mnistA{seed}", iteration=k, objective=value)) for seed in range(3)]
    pd.concat(curves).to_csv(tmp_path / "g" / "curves.csv", index=False)
    words = 'method = "A"\nrule = "at_least"\n'
    assert judge(tmp_path, words + 'measure = "linear_margin"\nbound = 0.0')["verdict"] == expected
    falling = pd.concat(curves).assign(objective=lambda x: x["iteration"] ** -0.5)
    falling.to_csv(tmp_path / "g" / "curves.csv", index=False)
    power = judge(tmp_path, words + 'measure = "power:objective"\nbound = 0.4')
    assert (power["verdict"], power["evidence"]) == (REPRODUCED, "0.5 as power of 1/k [0.5, 0.5]")


def test_the_table_says_what_was_found_in_a_line(tmp_path):
    table = pd.DataFrame([
        dict(id="X-1", claim="A is better.", note="really", verdict="partly",
             reason="holds: mnist; open: fashion_mnist", grid="g", seeds=5.0,
             evidence="−1.9 to +0.4 points [−2.5, +0.9]"),
        dict(id="X-2", claim="B is.", note="", verdict=NOT_TESTED, reason="no", grid="g", seeds=None, evidence=None),
    ])  # fmt: skip
    first, second = _markdown(table).splitlines()[-2:]
    assert first == (
        "| X-1: A is better. (really) | **partly** | holds: MNIST; open: Fashion-MNIST | "
        "`g`, 5 seeds: −1.9 to +0.4 points [−2.5, +0.9] |"
    )
    assert second == "| X-2: B is. | **not tested here** | no | – |"


def test_evidence_spans_the_comparisons_and_shows_misses():
    row = dict(dataset="mnist", a="A", b="B", scale="difference", effect=-0.0191, ci_low=-0.0254, ci_high=0.001)
    rows = [row, row | dict(b="C", effect=0.0042, ci_low=0.0, ci_high=0.0093), row | dict(b="D", effect=np.nan)]
    assert _evidence(pd.DataFrame(rows), 100, "points") == "−1.91 to +0.42 points [−2.54, +0.93]"
    missed = dict(row, scale="ratio", effect=np.inf, ci_low=1.25, ci_high=np.inf)
    both = dict(missed, effect=1.0, ci_low=1.0, ci_high=1.0)
    table = pd.DataFrame([missed, both]).assign(test=["Mann-Whitney", UNREACHED])
    assert _evidence(table, 1, "times the epochs") == "∞ times the epochs [1.25, ∞]"
    single = dict(row, effect=0.01, ci_low=np.nan, ci_high=np.nan)
    assert _evidence(pd.DataFrame([single]), 100, "points") == "+1 points"
    assert _evidence(pd.DataFrame([dict(row, effect=np.nan)]), 100, "points") == ""


def test_claims_csv_is_the_same_again(tmp_path):
    write_runs(
        tmp_path / "tiam_inertia", runs_of({"TIAM (0.9, 0.9, 0.5)": [0.9] * 5, "TIAM (0.0, 0.0, 0.0)": [0.8] * 5})
    )
    path, verdicts = write_claims(tmp_path)
    first = path.read_bytes()
    assert write_claims(tmp_path)[0].read_bytes() == first and sum(verdicts.values()) == len(pd.read_csv(path))
