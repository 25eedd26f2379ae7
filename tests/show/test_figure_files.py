"""Figures as files: what is written and deleted, that equal CSVs give equal bytes, and what CSVs are refused."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.style
import pandas as pd
import pytest
from figure_csvs import LABELS, PLAIN, write_csvs
from helpers import cheap_figures

from am.errors import InputError
from reproduce.__main__ import main
from reproduce.evidence.about import About
from reproduce.show import figures
from reproduce.show.figures import figures_of
from reproduce.show.look import STYLE


@pytest.fixture(scope="module", autouse=True)
def style():
    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with results/g and figures/g, and the figures written there."""
    folder = tmp_path_factory.mktemp("small")
    labels = {label: LABELS[label] for label in ("TIAM", "Adam")}
    lost = {("digits", "Adam"): {1: 2}}
    write_csvs(folder / "results", "g", labels, {"digits": 0.95}, seeds=2, evaluations=5, diverged=lost)
    stale, kept = folder / "figures" / "g" / "objective-2.png", folder / "figures" / "g" / "objective_rate.png"
    stale.parent.mkdir(parents=True)
    stale.write_text("", encoding="utf-8")
    kept.write_text("", encoding="utf-8")
    return folder, figures_of(folder / "results", "g", folder / "figures", About("Title with a $ sign"))


def test_every_kind_is_written_as_pdf_and_png_and_stale_files_go(small):
    folder, written = small
    assert written == [folder / "figures" / "g" / f"{kind}.{suffix}" for kind in PLAIN for suffix in ("pdf", "png")]
    left = {path.name for path in (folder / "figures" / "g").iterdir()}
    assert left == {path.name for path in written} | {"objective_rate.png"}
    for path in written:
        start, content = (b"%PDF", path.read_bytes()) if path.suffix == ".pdf" else (b"\x89PNG", path.read_bytes())
        assert content.startswith(start)
        if path.suffix == ".pdf":
            assert b"/CIDFontType2" in content and b"/Type3" not in content, "Type 42 fonts, text stays text"
            assert b"CreationDate" not in content


def test_equal_csvs_give_equal_bytes_in_another_process(small, tmp_path):
    code = (
        "import sys; from pathlib import Path; from reproduce.evidence.about import About;"
        "from reproduce.show.figures import figures_of;"
        "from reproduce.evidence import door; door.foreign = lambda sheet: None;"  # as in tests/conftest.py
        "figures_of(Path(sys.argv[1]), 'g', Path(sys.argv[2]), About('Title with a $ sign'))"
    )
    root = Path(figures.__file__).parents[2]
    environment = os.environ | dict(PYTHONPATH=str(root), PYTHONHASHSEED="77")
    folder, written = small
    subprocess.run([sys.executable, "-c", code, folder / "results", tmp_path], check=True, env=environment)
    for path in written:
        assert path.read_bytes() == (tmp_path / "g" / path.name).read_bytes(), path.name


def test_a_folder_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "figures").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(InputError, match=r"accuracy_epochs\.pdf cannot be written .*FIGURES="):
        figures_of(small[0] / "results", "g", tmp_path / "figures")


@pytest.mark.parametrize("name", ["runs.csv", "curves.csv"])
def test_a_missing_csv_is_one_sentence_with_the_command(tmp_path, name):
    write_csvs(tmp_path, "g", {"GD": LABELS["GD"]}, {"digits": 0.9}, seeds=1, evaluations=1)
    (tmp_path / "g" / name).unlink()
    with pytest.raises(InputError) as caught:
        figures_of(tmp_path, "g", tmp_path / "figures")
    assert str(caught.value) == f"{tmp_path / 'g' / name} is not there; run `make reproduce-g` to write it."
    assert not (tmp_path / "figures").exists()


def set_cell(column: str, value):
    return lambda table: table.astype({column: object}).assign(**{column: [value, *table[column][1:]]})


@pytest.mark.parametrize(
    "name, spoil, found",
    [
        ("runs.csv", lambda t: t.drop(columns="label"), "no column 'label'"),
        ("curves.csv", lambda t: t.drop(columns="objective"), "no column 'objective'"),
        ("runs.csv", set_cell("test_accuracy", "good"), "'test_accuracy' good"),
        ("curves.csv", set_cell("test_accuracy", 97.5), "'test_accuracy' 97.5"),
        ("runs.csv", set_cell("data_official", "maybe"), "'data_official' maybe"),
        ("runs.csv", set_cell("dataset", None), "an empty 'dataset'"),
        ("runs.csv", lambda t: t.assign(seed=0), "two runs of 'GD' on digits with seed 0"),
        ("curves.csv", set_cell("run_key", "stranger"), "a curve of run stranger, which runs.csv has not"),
        ("curves.csv", lambda t: t[t.run_key != "00000001e1"], "no curve of run 00000001e1, which runs.csv calls done"),
    ],
)
def test_a_malformed_csv_is_one_sentence_with_the_place(tmp_path, name, spoil, found):
    write_csvs(tmp_path, "g", {"GD": LABELS["GD"]}, {"digits": 0.9}, seeds=2, evaluations=1)
    path = tmp_path / "g" / name
    spoil(pd.read_csv(path, dtype=dict(run_key=str))).to_csv(path, index=False)
    with pytest.raises(InputError) as caught:
        figures_of(tmp_path, "g", tmp_path / "figures")
    assert str(caught.value).startswith(f"{path} is malformed ({found}"), "evidence, which nobody is told to delete"
    assert str(caught.value).endswith("restore it, for example by `git checkout`, or move it away.")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage\x9d", b'a,b\n1,2\n3,4,5,"6\n'])
def test_a_file_that_is_no_csv_is_one_sentence(tmp_path, content):
    write_csvs(tmp_path, "g", {"GD": LABELS["GD"]}, {"digits": 0.9}, seeds=1, evaluations=1)
    (tmp_path / "g" / "runs.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"runs\.csv is malformed .*; restore it, for example by `git checkout`"):
        figures_of(tmp_path, "g", tmp_path / "figures")


def test_methods_for_a_paper_are_drawn_where_a_grid_has_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(figures, "figures_of", cheap_figures)
    results, out = tmp_path / "results", tmp_path / "figures"
    for grid, labels in (("tiam_time", ("SGD", "TIAM")), ("samt_cost", ("SGD", "Adam")), ("floors", ("Adam",))):
        some = {label: LABELS[label] for label in labels}
        write_csvs(results / "light", grid, some, {"mnist": 0.95}, seeds=3, evaluations=5)
    asked = ["figures", "--style", "paper", "--results", str(results), "--figures", str(out), "--methods"]
    assert main([*asked, "sgd,tiam"]) == 0
    drawn = {path.parent.name for path in out.rglob("*.pdf")}
    assert drawn == {"tiam_time", "samt_cost"}
    assert main([*asked, "sgd,tiamm"]) != 0
    assert "unknown method 'tiamm'; did you mean 'tiam'?" in capsys.readouterr().err
