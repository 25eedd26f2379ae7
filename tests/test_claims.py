"""Claims, published numbers and tables: from CSVs to verdicts, and back to the page."""

import tomllib

import pandas as pd
import pytest

from am.errors import InputError
from reproduce.claims import CLAIMS, judge_all, write_claims
from reproduce.grid import grid_names, load_grid
from reproduce.published import NUMBERS, comparison, write_comparison
from reproduce.statistics import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, RULES
from reproduce.tables import accuracy_table, fill, latex, markdown

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


def runs_of(values: dict[str, list[float]], dataset: str = "mnist", official: bool = True) -> pd.DataFrame:
    rows = [
        dict(
            grid="g", profile="light", dataset=dataset, data_official=official, n_train=100, activation="relu",
            hidden="8", method=label.lower(), label=label, seed=seed, status="done", test_accuracy=value,
            val_accuracy=value, run_key=f"{dataset}{label}{seed}",
        )
        for label, accuracies in values.items()
        for seed, value in enumerate(accuracies)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write(folder, runs):
    folder.mkdir(parents=True)
    runs.to_csv(folder / "runs.csv", index=False)


@pytest.fixture
def claims(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(CLAIM)
    return path


def test_a_better_method_is_reproduced_and_a_worse_one_is_not(tmp_path, claims):
    good, bad = [0.91, 0.92, 0.93, 0.92, 0.91], [0.81, 0.82, 0.83, 0.81, 0.82]
    write(tmp_path / "up" / "g", runs_of({"A": good, "B": bad}))
    write(tmp_path / "down" / "g", runs_of({"A": bad, "B": good}))
    assert judge_all(tmp_path / "up", claims)["verdict"].item() == REPRODUCED
    assert judge_all(tmp_path / "down", claims)["verdict"].item() == NOT_REPRODUCED


def test_what_cannot_be_judged_says_why(tmp_path, claims):
    row = judge_all(tmp_path, claims).iloc[0]
    assert row["verdict"] == NOT_TESTED and "g has not been run" in row["reason"]
    write(tmp_path / "g", runs_of({"A": [0.9] * 5}))
    row = judge_all(tmp_path, claims).iloc[0]
    assert row["verdict"] == NOT_TESTED and "'B'" in row["reason"]


def test_a_typo_in_a_claim_names_the_key(tmp_path, claims):
    claims.write_text(CLAIM.replace("against", "agianst"))
    with pytest.raises(InputError, match="did you mean 'against'"):
        judge_all(tmp_path, claims)


def test_the_claims_name_grids_labels_and_rules_that_exist():
    labels = {name: {entry.label for entry in load_grid(name, "light").entries} for name in grid_names()}
    found = tomllib.loads(CLAIMS.read_text())["claim"]
    assert {claim["paper"] for claim in found} == {"SAMT", "TIAM"} and len({c["id"] for c in found}) == len(found)
    for claim in found:
        if "grid" in claim:
            named = {claim.get("method"), claim.get("reference"), *claim.get("against", ()), *claim.get("labels", ())}
            assert named - {None} <= labels[claim["grid"]], claim["id"]
            assert claim["rule"] in RULES and claim["counts_against"]
        else:
            assert claim["reason"]
    for number in tomllib.loads(NUMBERS.read_text())["number"]:
        assert number["label"] in labels[number["grid"]] and number["source"]


def test_claims_csv_is_the_same_again(tmp_path):
    write(tmp_path / "tiam_inertia", runs_of({"TIAM (0.9, 0.9, 0.5)": [0.9] * 5, "TIAM (0.0, 0.0, 0.0)": [0.8] * 5}))
    path, verdicts = write_claims(tmp_path)
    first = path.read_bytes()
    assert write_claims(tmp_path)[0].read_bytes() == first and sum(verdicts.values()) == len(pd.read_csv(path))


def test_published_numbers_are_met_or_not_at_their_evaluation(tmp_path):
    assert write_comparison(tmp_path) is None
    runs = runs_of({"mDLAM (released)": [0.67, 0.69, 0.68]})
    write(tmp_path / "published", runs)
    points = [dict(row, epoch=epoch, test_accuracy=row["test_accuracy"] + shift)
              for row in runs.to_dict("records") for epoch, shift in ((20, -0.01), (60, 0.2))]  # fmt: skip
    pd.DataFrame(points).to_csv(tmp_path / "published" / "curves.csv", index=False)
    table = comparison(tmp_path).set_index(["label", "at"])
    assert table.loc[("mDLAM (released)", 20), "ours"] == pytest.approx(0.67)
    assert table.loc[("mDLAM (released)", 20), "met"] == "yes"
    assert table.loc[("mDLAM (released)", 60), "met"] == "no"
    assert table.loc[("BCD", 50), "met"] == "not run"
    assert write_comparison(tmp_path).exists()


def test_tables_bold_the_best_mark_the_data_and_count_the_lost(tmp_path):
    runs = pd.concat([
        runs_of({"A": [0.91, 0.92, 0.93], "B_1": [0.51, 0.52, 0.53]}),
        runs_of({"A": [0.5, 0.6, 0.7], "B_1": [0.2, 0.3, 0.2]}, "cifar10", official=False),
    ])  # fmt: skip
    runs.loc[(runs["label"] == "B_1") & (runs["seed"] == 2), ["status", "test_accuracy"]] = ["diverged", None]
    table = accuracy_table(runs)
    assert table.heads[0].startswith("MNIST (") and table.heads[1].startswith("CIFAR-10†")
    text = markdown(table)
    assert "| A | **92.00 ± 1.00** |" in text and "51.50 ± 0.71 (1/3 lost)" in text and "† not the official copy" in text
    assert r"B\_1" in latex(table, "Caption") and r"\textbf{92.00 $\pm$ 1.00}" in latex(table, "Caption")


def test_a_page_is_filled_between_its_markers_only(tmp_path):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "table.md").write_text("| new |\n")
    (tmp_path / "claims.md").write_text("| claims |\n")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: g -->\nold\n<!-- end -->\nb\n<!-- table: claims -->\n<!-- end -->\n<!-- table: h -->\nkept\n<!-- end -->\n")
    assert fill(page, tmp_path) == ["g", "claims"]
    assert page.read_text() == (
        "a\n<!-- table: g -->\n| new |\n<!-- end -->\nb\n<!-- table: claims -->\n| claims |\n<!-- end -->\n"
        "<!-- table: h -->\nkept\n<!-- end -->\n"
    )
