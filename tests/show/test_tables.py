"""Tables of a grid, and the page that they fill."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from frames import make_runs, runs_of, write_runs
from helpers import ROOT

from reproduce.evidence.files import Stale
from reproduce.show.tables import accuracy_table, fill, latex, markdown, pages, tables_of


def test_tables_bold_the_best_mark_the_data_and_count_the_lost(tmp_path):
    runs = pd.concat([
        runs_of({"A": [0.91, 0.92, 0.93], "B_1": [0.51, 0.52, 0.53]}),
        runs_of({"A": [0.5, 0.6, 0.7], "B_1": [0.2, 0.3, 0.2]}, "cifar10", official=False),
    ])  # fmt: skip
    runs.loc[(runs["label"] == "B_1") & (runs["seed"] == 2), ["status", "test_accuracy"]] = ["diverged", None]
    table = accuracy_table(runs)
    assert table.heads[0].startswith("MNIST (") and table.heads[1].startswith("CIFAR-10†")
    text = markdown(table)
    assert (
        "| A | **92.00 ± 1.00** |" in text and "51.50 ± 0.71 (1/3 lost)" in text and "† not the official copy" in text
    )
    assert r"B\_1" in latex(table, "Caption") and r"\textbf{92.00 $\pm$ 1.00}" in latex(table, "Caption")


def test_a_network_of_the_module_lane_is_called_by_its_name():
    runs = pd.concat([
        runs_of({"A": [0.91, 0.92]}).assign(network="lenet5", hidden="6-16-120-84"),
        runs_of({"A": [0.5, 0.6]}, "cifar10").assign(network="cnn", hidden="16-32-64-128-64"),
    ])  # fmt: skip
    assert [head.partition(" (n")[0] for head in accuracy_table(runs).heads] == ["MNIST LeNet-5", "CIFAR-10 CNN"]
    both = accuracy_table(runs.replace(dict(network=dict(cnn="mlp"))))
    assert both.heads[1].startswith("CIFAR-10 MLP (n")


def test_a_page_is_filled_between_its_markers_only(tmp_path):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "table.md").write_text("| new |\n", encoding="utf-8")
    (tmp_path / "claims.md").write_text("| claims |\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- table: g -->\nold\n<!-- end -->\nb\n<!-- table: claims -->\n<!-- end -->\n"
        "<!-- table: h -->\nkept\n<!-- end -->\n",
        encoding="utf-8",
    )
    assert fill(page, tmp_path) == ["g", "claims"]
    assert page.read_text(encoding="utf-8") == (
        "a\n<!-- table: g -->\n| new |\n<!-- end -->\nb\n<!-- table: claims -->\n| claims |\n<!-- end -->\n"
        "<!-- table: h -->\nkept\n<!-- end -->\n"
    )


def test_tables_escape_what_a_label_may_hold():
    label = r"a|b_1 $x$ {y} ^ ~ \ 5 % # & <b> *c* `d` _e_"
    table = accuracy_table(runs_of({label: [0.91, 0.92, 0.93], "B": [0.51, 0.52, 0.53]}))
    (row,) = (line for line in markdown(table).splitlines() if line.startswith("| a"))
    assert row.startswith(r"| a\|b_1 \$x\$ {y} ^ \~ \\ 5 % # & \<b\> \*c\* \`d\` \_e\_ | **92.00 ± 1.00** |")
    text = latex(table, "5 % of {a} $b$")
    assert (
        r"a\textbar{}b\_1 \$x\$ \{y\} \textasciicircum{} \textasciitilde{} \textbackslash{} 5 \% \# \& "
        r"\textless{}b\textgreater{} *c* `d` \_e\_ & "
    ) in text
    assert r"\caption{5 \% of \{a\} \$b\$." in text


def test_a_grid_of_many_problems_says_them_in_front_of_the_rows():
    accuracies = {"A": [0.91, 0.92, 0.93], "B": [0.51, 0.52, 0.53]}
    settings = [("scaled", 0), ("scaled", 2500), ("scaled", 500), ("published", 500)]
    runs = pd.concat([
        runs_of(accuracies, dataset).assign(constants=constants, n_train_asked=n)
        for dataset in ("mnist", "cifar10") for constants, n in settings
    ])  # fmt: skip
    runs = runs[(runs["label"] == "A") | (runs["n_train_asked"] != 500)]
    table = accuracy_table(runs)
    assert table.stubs == ["Constants", "n", "Method"] and [head.split()[0] for head in table.heads] == [
        "MNIST",
        "CIFAR-10",
    ]
    assert [words for words, _ in table.rows] == [
        ["published", "500", "A"], ["scaled", "500", "A"], ["scaled", "2,500", "A"], ["scaled", "2,500", "B"],
        ["scaled", "all", "A"], ["scaled", "all", "B"],
    ]  # fmt: skip
    assert (
        "| scaled | all | A | **92.00 ± 1.00** | **92.00 ± 1.00** |\n| scaled | all | B | 52.00 ± 1.00 |"
        in markdown(table)
    )
    assert r"\begin{tabular}{lllrr}" in latex(table, "Caption")


def test_one_seed_is_called_one_seed_and_nothing_is_bold():
    table = accuracy_table(runs_of({"A": [0.91], "B": [0.5]}))
    assert "| A | 91.00 |" in markdown(table) and "**" not in markdown(table)
    assert table.notes[0].endswith("One seed each, which decides nothing.")


def test_the_pages_of_a_checkout_are_its_readme_and_docs(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/b.md", "docs/a.md", "docs/a.txt", "other.md"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert [str(page.relative_to(tmp_path)) for page in pages(tmp_path)] == ["README.md", "docs/a.md", "docs/b.md"]
    assert pages(tmp_path / "docs") == []


def test_networks_stand_by_depth_and_then_by_width():
    networks = ["1000-1000", "100-100", "50-50", "200-200", "500-500", "100-100-100", "100"]
    runs = pd.concat([runs_of({"A": [0.91, 0.92]}).assign(hidden=hidden) for hidden in networks])
    shown = [stubs[0] for stubs, _ in accuracy_table(runs).rows]
    assert shown == ["100", "50-50", "100-100", "200-200", "500-500", "1000-1000", "100-100-100"]


def test_a_grid_of_no_row_that_counts_leaves_no_table_that_a_page_would_show(tmp_path, monkeypatch):
    runs = make_runs({"A": {"mnist": [0.9, 0.8]}})
    write_runs(tmp_path / "g", runs)
    written = tables_of(tmp_path, "g", "A title")
    assert all(path.exists() for path in written)
    monkeypatch.setattr("reproduce.evidence.door.foreign", lambda sheet: "Nobody sealed them.")
    with pytest.raises(Stale):
        tables_of(tmp_path, "g", "A title")
    assert not any(path.exists() for path in written)


def test_a_page_gets_the_same_bytes_whatever_the_machines_encoding_is(tmp_path):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "table.md").write_text("| 97.1 ± 0.2 † |\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("é\n<!-- table: g -->\n<!-- end -->\n", encoding="utf-8")
    code = "import sys, pathlib as p, reproduce.show.tables as t; t.fill(*map(p.Path, sys.argv[1:]))"
    plain = dict(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", PYTHONPATH=str(ROOT))  # ASCII
    subprocess.run([sys.executable, "-c", code, page, tmp_path], check=True, env=os.environ | plain)
    filled = "é\n<!-- table: g -->\n| 97.1 ± 0.2 † |\n<!-- end -->\n"
    assert page.read_bytes() == filled.encode()
