"""Claims, published numbers and tables: from CSVs to verdicts, and back to the page."""

import dataclasses
import json
import math
import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest
from frames import draws, make_curves, make_runs, runs_of, synthetic, write_runs

from am.errors import InputError
from am.methods import method
from reproduce.evidence.about import About, Target
from reproduce.evidence.files import read
from reproduce.judge.claims import _evidence, _judged, load_claims, markdown, write_claims
from reproduce.judge.claims import judge_all as judge_profiles
from reproduce.judge.compare import compare_costs
from reproduce.judge.convergence import SINCE
from reproduce.judge.measures import MEASURES, Evidence, _apart
from reproduce.judge.published import NUMBERS
from reproduce.judge.significance import UNREACHED
from reproduce.judge.stability import by_step_size
from reproduce.judge.targets import cost_to_target
from reproduce.judge.verdicts import HELD, NOT_RUN, NOT_TESTED, OPEN, PARTLY, REFUTED, RULES
from reproduce.plan.grid import FOLDER, abouts, grid_names, load_grid

ABOUT = abouts()
CLAIM = """
[protocols]
equal = "All is equal."
other = "Or nearly."
[lists]
rivals = ["B"]
[[claim]]
id = "X-1"
paper = "TIAM"
sentence = "A is better than B."
measure = "accuracy"
method = "A"
against = "rivals"
rule = "better"
counts_against = "B better."
changed = "It was another rule."
[[claim.protocol]]
name = "equal"
grid = "g"
"""


def judge_all(results, claims):
    """The rows of claims.csv under the one profile that lies in the folder itself."""
    return judge_profiles(results, ABOUT, ("paper",), claims)[0]


@pytest.fixture
def claims(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(CLAIM, encoding="utf-8")
    return path


def test_a_better_method_is_reproduced_and_a_worse_one_is_not(tmp_path, claims):
    good, bad = [0.91, 0.92, 0.93, 0.92, 0.91], [0.81, 0.82, 0.83, 0.81, 0.82]
    write_runs(tmp_path / "up" / "g", runs_of({"A": good, "B": bad}))
    write_runs(tmp_path / "down" / "g", runs_of({"A": bad, "B": good}))
    assert judge_all(tmp_path / "up", claims)["verdict"].item() == HELD
    assert judge_all(tmp_path / "down", claims)["verdict"].item() == REFUTED


def test_what_cannot_be_judged_says_why(tmp_path, claims):
    row = judge_all(tmp_path, claims).iloc[0]
    assert row["verdict"] == NOT_RUN and "g has not been run" in row["reason"]
    write_runs(tmp_path / "g", runs_of({"A": [0.9] * 5}))
    row = judge_all(tmp_path, claims).iloc[0]
    assert row["verdict"] == NOT_TESTED and "'B'" in row["reason"]


def test_a_typo_in_a_claim_names_the_key(tmp_path, claims):
    for wrong, right in (("against", "agianst"), ("equal", "eqaul"), ("rivals", "rivlas")):
        claims.write_text(CLAIM.replace(f'name = "{wrong}"', f'name = "{right}"').replace(f'"{wrong}"', f'"{right}"')
                          .replace(f"{wrong} = \"r", f"{right} = \"r"), encoding="utf-8")  # fmt: skip
        with pytest.raises(InputError, match=f"claims.toml: X-1.*did you mean '{wrong}'"):
            judge_all(tmp_path, claims)
    claims.write_text(CLAIM.partition("[[claim.protocol]]")[0], encoding="utf-8")
    with pytest.raises(InputError, match=r"claims.toml: X-1 has no \[\[claim.protocol\]\]"):
        judge_all(tmp_path, claims)


def test_the_claims_name_grids_labels_and_rules_that_exist():
    labels = {name: {entry.label for entry in load_grid(name, "light").entries} for name in grid_names()}
    steps = [
        dict(method=e.method.name, label=e.label, hyperparameters=json.dumps(dataclasses.asdict(e.settings)))
        for e in load_grid("samt_stability", "light").entries
    ]
    labels["samt_stability"] = set(by_step_size(pd.DataFrame(steps))["label"])
    assert {claim.paper for claim in FOUND} == {"SAMT", "TIAM"}
    assert len({(claim.id, claim.protocol, claim.grid) for claim in FOUND}) == len(FOUND)
    for claim in FOUND:
        named = {claim.method, claim.reference, *claim.against, *claim.labels} - {""}
        there = labels.get(claim.grid, set())
        assert named and named <= there, (claim.id, claim.grid, named - there)
        assert claim.rule in RULES and claim.counts_against and claim.measure.partition(":")[0] in MEASURES
    for number in sum(tomllib.loads(NUMBERS.read_text(encoding="utf-8")).values(), []):
        assert number["label"] in labels[number["grid"]] and number["source"]


def test_epsilon_is_at_its_floor_where_the_claims_begin_to_count():
    tiam = method("tiam").settings()
    first = 1 + math.ceil(math.log2(tiam.epsilon_0 / tiam.epsilon_min))  # step k, from 0 on, has epsilon_0 / 2^k
    assert {claim.since for claim in FOUND if claim.paper == "TIAM" and claim.since} == {first, SINCE["objective"]}
    assert {c.since for c in FOUND if c.measure == "monotone"} == {0, first}


FOUND = load_claims()


def judge(tmp_path, text: str) -> pd.Series:
    """The verdict on one claim over the CSVs in tmp_path / "g"."""
    path = tmp_path / "claims.toml"
    path.write_text(
        f'[protocols]\np = "P."\n[[claim]]\nid = "X"\npaper = "TIAM"\nsentence = "S."\ncounts_against = "C."\n{text}\n'
        '[[claim.protocol]]\nname = "p"\ngrid = "g"\n',
        encoding="utf-8",
    )
    return judge_all(tmp_path, path).iloc[0]


@pytest.mark.parametrize("claim", FOUND, ids=[f"{c.id}, {c.protocol}, {c.grid}" for c in FOUND])
def test_every_claim_can_be_reproduced_and_never_by_diverging(tmp_path, claim):
    claim = dataclasses.replace(claim, against=claim.against[-3:])  # they are all compared alike
    runs, curves = synthetic(claim)
    folder = tmp_path / claim.grid
    write_runs(folder, runs)
    curves.to_csv(folder / "curves.csv", index=False)
    whole = Evidence(folder, [Target(claim.reference, 1.0)])
    row, effects = _judged(claim, whole, "paper", ["usps", "svhn"])
    assert row["verdict"] == HELD and row["seeds"] == 5, row["reason"]
    assert row["evidence"] or claim.rule == "varies"
    assert row["basis"] == "mnist, svhn: 100 images, 5 seeds" and row["trials"] == 0
    assert {effect["dataset"] for effect in effects} == {"mnist", "svhn"}
    assert row["reason"].endswith("; not run: usps")

    def of(runs: pd.DataFrame, **more: pd.DataFrame) -> dict:
        """The verdict where the CSVs hold these runs, and what is as it was without being read again."""
        evidence = Evidence(folder, whole.targets)
        vars(evidence).update(runs=runs, **more)
        return _judged(claim, evidence, "paper")[0]

    # Two seeds are too few, a missing comparator is named, and so is a missing method.
    known = dict(curves=whole.curves)
    few = of(whole.runs[whole.runs["seed"] < 2], **known)
    assert few["verdict"] == NOT_TESTED and "2 seeds" in few["reason"]
    alone = of(whole.runs[whole.runs["seed"] < 1], **known)
    assert alone["verdict"] == NOT_TESTED and "one seed: no statistics" in alone["reason"]
    expected = "mnist, svhn: 100 images, 1 seed"
    assert alone.get("basis", expected) == expected
    for label in [*claim.against[-1:], claim.method, *claim.labels]:
        if label:
            rest = ~whole.runs["label"].isin([label, *(f"{label}, {x}" for x in (0.01, 0.1, 1.0))])
            lacking = of(whole.runs[rest], **known)
            assert lacking["verdict"] == NOT_TESTED and f"'{label}'" in lacking["reason"], label
    for status in ("diverged", "failed"):
        lost = of(synthetic(claim, status=status)[0], **known)  # the curves are those of the finished runs
        assert lost["verdict"] not in (HELD, PARTLY)
    (folder / "curves.csv").unlink()
    needs = claim.measure.partition(":")[0] not in ("accuracy", "best", "cost", "block_step", "contrast")
    without = of(whole.runs)
    assert (without["verdict"] == NOT_TESTED and "curves.csv" in without["reason"]) == needs


def test_measures_of_worked_examples(tmp_path):
    runs = runs_of({"A": [0.91, 0.92, 0.93], "B": [0.81, 0.82, 0.83]}).assign(
        iterations=100, parameter_updates=300, seconds=[3.0, 6, 9, 2, 4, 6], flops=600.0
    )
    write_runs(tmp_path / "g", runs)
    versus = 'method = "A"\nagainst = ["B"]\n'
    accuracy = judge(tmp_path, f'{versus}measure = "accuracy"\nrule = "better"')
    assert accuracy["evidence"] == "+10 points [+10, +10]"
    assert accuracy["basis"] == "mnist: 100 images, 3 seeds"
    cost = judge(tmp_path, f'{versus}measure = "cost:seconds"\nrule = "fewer"')
    assert (cost["verdict"], cost["evidence"]) == (REFUTED, "1.5 times the seconds")
    step = judge(tmp_path, f'{versus}measure = "block_step:flops"\nrule = "fewer"')  # 600 / 300 against 600 / 100
    assert (step["verdict"], step["evidence"]) == (HELD, "0.333 times the FLOPs")
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
    words = 'method = "A"\nsince = 22\nrule = "at_least"\nbound = 0.99\n'
    rose = judge(tmp_path, words + 'measure = "monotone"')
    assert (rose["verdict"], rose["evidence"]) == (REFUTED, "94.7 % of the evaluations [94.7, 94.7]")  # 18 of 19
    later = judge(tmp_path, words.replace("22", "42") + 'measure = "monotone"')
    assert later["verdict"] == HELD
    rate = judge(tmp_path, words.replace("least", "most").replace("22", "42") + 'measure = "rate"')
    assert (rate["verdict"], rate["evidence"]) == (HELD, "0.9 per iteration [0.9, 0.9]")
    # A run that diverged has the worst of each measure: 0 of its evaluations, a factor of 2.
    runs = runs_of({"A": [0.9] * 3}).assign(status=["done", "done", "diverged"])
    runs.to_csv(tmp_path / "g" / "runs.csv", index=False)
    lost = judge(tmp_path, words.replace("22", "42") + 'measure = "monotone"')
    assert lost["verdict"] == OPEN and lost["evidence"].startswith("66.7 %")
    lost = judge(tmp_path, words.replace("least", "most").replace("22", "42") + 'measure = "rate"')
    assert lost["verdict"] == OPEN and lost["evidence"].startswith("1.27 per")


@pytest.mark.parametrize("law, expected", [("linear", HELD), ("power", REFUTED)])
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
    assert (power["verdict"], power["evidence"]) == (HELD, "0.5 as power of 1/k [0.5, 0.5]")


def test_the_table_sets_the_profiles_side_by_side_and_says_whether_they_agree(tmp_path, claims):
    up, down = [0.91, 0.92, 0.93, 0.92, 0.91], [0.81, 0.82, 0.83, 0.81, 0.82]
    claims.write_text(CLAIM + '[[claim.protocol]]\nname = "other"\ngrid = "h"\nnote = "really"\n', encoding="utf-8")
    write_runs(tmp_path / "g", runs_of({"A": up, "B": down}))
    fewer = runs_of({"A": up[:3], "B": down[:3]})
    write_runs(tmp_path / "light" / "g", fewer.assign(n_train=50, run_key="light " + fewer["run_key"]))
    table, effects, seeds = judge_profiles(tmp_path, ABOUT, claims=claims)
    assert [list(seeds[seeds["profile"] == profile]["a"]) for profile in ("paper", "light")] == [up, up[:3]]
    assert list(seeds["b"]) == down + down[:3] and list(seeds["seed"]) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert list(table["profile"]) == ["paper", "light"] * 2 and list(table["agreement"]) == ["agree"] * 2 + [""] * 2
    assert list(table["verdict"]) == [HELD] * 2 + [NOT_RUN] * 2
    assert list(effects["effect"]) == pytest.approx([10, 10]) and list(effects["seeds"]) == [5, 3]
    assert list(effects["outcome"]) == ["better"] * 2 and list(effects["n_train"]) == [100, 50]
    lines = markdown(table, dict(equal="All is equal.", other="Or nearly.", more="Unused."))
    first, second = [line for line in lines.splitlines() if line.startswith("| X-1")]
    assert first == (
        "| X-1: A is better than B. | equal, `g` | "
        "**held** (1/0/0). Holds: MNIST. +10 points [+9.12, +10.9]. MNIST: 100 images, 5 seeds | "
        "**held** (1/0/0). Holds: MNIST. +10 points [+10, +10]. MNIST: 50 images, 3 seeds | agree |"
    )
    assert second == "| X-1 | other, `h` | not run | not run | – |"
    assert "- *other*: Or nearly." in lines and "Unused" not in lines and "- X-1: It was another rule." in lines
    shutil.copy(tmp_path / "g" / "runs.csv", tmp_path / "light" / "g" / "runs.csv")
    assert list(judge_profiles(tmp_path, ABOUT, claims=claims)[0]["agreement"])[:2] == ["the same runs"] * 2
    fewer.to_csv(tmp_path / "light" / "g" / "runs.csv", index=False)
    assert list(judge_profiles(tmp_path, ABOUT, claims=claims)[0]["agreement"])[:2] == ["the same runs, and more"] * 2
    down_there = runs_of({"A": down, "B": up})
    down_there["run_key"] += ", other"
    down_there.to_csv(tmp_path / "light" / "g" / "runs.csv", index=False)
    table, *_ = judge_profiles(tmp_path, ABOUT, claims=claims)
    assert list(table["agreement"])[:2] == ["differ"] * 2
    light = table[table["profile"] == "light"].iloc[0]
    assert (light["verdict"], light["reason"]) == (REFUTED, "the opposite: mnist (B)")


def test_seeds_on_which_trials_were_made_do_not_count(tmp_path, claims):
    up, down = [0.91, 0.92, 0.93, 0.92, 0.91], [0.81, 0.82, 0.83, 0.81, 0.82]
    write_runs(tmp_path / "g", runs_of({"A": up, "B": down}))
    pd.DataFrame(dict(dataset="mnist", label="A", seed=[4] * 3, trial=range(3))).to_csv(
        tmp_path / "g" / "tuning.csv", index=False
    )
    row = judge_all(tmp_path, claims).iloc[0]
    assert (row["seeds"], row["trials"]) == (4, 3) and "equal, `g`, tuned" in markdown(row.to_frame().T, {})


def test_equal_gradient_evaluations_count_a_full_gradient_for_each_layer(tmp_path):
    """A sweep of SAMT computes two gradients a layer, a step of SGD one: SGD's end is SAMT's middle."""
    runs = runs_of({"A": [0.9] * 3, "B": [0.8] * 3}).assign(
        method=["samt"] * 3 + ["sgd"] * 3, hidden="8-8", iterations=10, parameter_updates=30,
        gradient_evaluations=[60] * 3 + [10] * 3,
    )  # fmt: skip
    write_runs(tmp_path / "g", runs)
    halfway = dict(A=0.7, B=0.85)
    points = [
        dict(run_key=row.run_key, iteration=k, test_accuracy=accuracy)
        for row in runs.itertuples()
        for k, accuracy in ((0, 0.1), (5, halfway[row.label]), (10, row.test_accuracy))
    ]
    pd.DataFrame(points).to_csv(tmp_path / "g" / "curves.csv", index=False)
    words = 'method = "A"\nagainst = ["B"]\nrule = "better"\nmeasure = '
    assert judge(tmp_path, words + '"accuracy"')["evidence"] == "+10 points [+10, +10]"
    assert judge(tmp_path, words + '"accuracy_at:block_gradients"')["evidence"] == "−10 points [−10, −10]"


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
    path, verdicts = write_claims(tmp_path, ABOUT)
    files = [path, path.with_suffix(".md"), path.with_name("claim_effects.csv")]
    first = [file.read_bytes() for file in files]
    assert write_claims(tmp_path, ABOUT)[0] == path and [file.read_bytes() for file in files] == first
    assert sum(verdicts.values()) == len(read(path)) == 2 * len(FOUND) and len(read(files[2])) > 0
    trial = write_claims(tmp_path, ABOUT, ("smoke",))[0]
    assert trial == tmp_path / "smoke" / "claims.csv" and set(read(trial)["profile"]) == {"smoke"}
    assert path.read_bytes() == first[0]


def test_a_data_set_that_only_comparators_were_run_on_is_named_as_not_run(tmp_path):
    (claim,) = (c for c in FOUND if (c.id, c.protocol, c.grid) == ("TIAM-3", "equal iterations", "tiam_accuracy"))
    claim = dataclasses.replace(claim, against=["Rival"])
    runs = make_runs({claim.method: {"mnist": [0.9] * 5}, "Rival": {"mnist": draws(0.8), "svhn": draws(0.8)}})
    write_runs(tmp_path / claim.grid, runs)
    found, _ = _judged(claim, Evidence(tmp_path / claim.grid), "paper", ["mnist", "svhn"])
    assert found["reason"].endswith("; not run: svhn")


def test_costs_between_overlapping_evaluations_are_tied():
    runs = make_runs({label: {"mnist": [0.9] * 5} for label in "ABC"})
    keys = {(run.label, run.run_key) for run in runs.itertuples()}
    reached = dict(A=2, B=3, C=5)
    curves = make_curves(runs, {key: [0.5] * (reached[b] - 1) + [0.9] * (7 - reached[b]) for b, key in keys})
    costs = cost_to_target(runs, curves, 0.8)

    def outcomes(costs):
        return dict(_apart(compare_costs(costs, "A", ["B", "C"]), costs)[["b", "outcome"]].to_numpy())

    assert outcomes(costs) == dict(B="better", C="better")  # B was not there at 20, when A was
    # B is looked at half as often: it may have been there from 10 on.
    seldom = costs.assign(before=costs["before"].where(costs["label"] != "B", 10.0))
    assert outcomes(seldom) == dict(B="tied", C="better")


def test_a_folder_of_other_grids_takes_no_target_from_the_suites_claims(tmp_path):
    (tmp_path / "mine.toml").write_text((FOLDER / "quickstart.toml").read_text(encoding="utf-8"), encoding="utf-8")
    about = abouts(tmp_path, FOLDER)
    assert about("samt_updates", "light") == ABOUT("samt_updates", "light") and about("samt_updates", "light").targets
    assert about("tiam_convergence", "paper").datasets == ABOUT("tiam_convergence", "paper").datasets != ()
    assert about("nobodys", "paper") == About()


def to_target(folder, runs, curves):
    """The verdict of TIAM-2 against one rival on two data sets, mDLAM's last accuracy the target."""
    (claim,) = (c for c in FOUND if (c.id, c.protocol, c.grid) == ("TIAM-2", "equal iterations", "tiam_accuracy"))
    claim = dataclasses.replace(claim, against=["Rival"])
    write_runs(folder / claim.grid, runs)
    points = make_curves(runs, curves)
    points.assign(epoch=points["iteration"]).to_csv(folder / claim.grid / "curves.csv", index=False)
    evidence = Evidence(folder / claim.grid, (Target(claim.reference, 1.0),))
    return _judged(claim, evidence, "paper", ["mnist", "svhn"])[0]


@pytest.mark.parametrize("reference", ({}, {"svhn": ["diverged"] * 5}), ids=("not run", "never finished"))
def test_a_data_set_whose_reference_never_finished_is_named_and_has_no_target(tmp_path, reference):
    both = {"mnist": [0.9] * 5, "svhn": [0.9] * 5}
    runs = make_runs({"TIAM": both, "Rival": both, "mDLAM": {"mnist": [0.8] * 5} | reference})
    slow = {key: [0.5] * 3 + [0.9] if label == "Rival" else [0.9] * 4 for label, key in zip(runs.label, runs.run_key)}
    found = to_target(tmp_path, runs, slow)
    assert found["verdict"] == HELD and found["reason"].startswith("holds: mnist")
    assert found["reason"].endswith("; no target: svhn (no finished run of mDLAM)")


def test_a_grid_that_a_stop_left_with_a_label_on_one_data_set_is_judged_on_that(tmp_path):
    both = {"mnist": [0.9] * 5, "svhn": [0.9] * 5}
    runs = make_runs({"TIAM": both, "Rival": {"mnist": [0.9] * 5}, "mDLAM": both})
    slow = {key: [0.5] * 3 + [0.9] if label == "Rival" else [0.9] * 4 for label, key in zip(runs.label, runs.run_key)}
    found = to_target(tmp_path, runs, slow)
    assert found["reason"].startswith("holds: mnist; not tested: svhn")
