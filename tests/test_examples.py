"""The examples run as their headers say."""

import csv
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from helpers import ROOT

from reproduce.__main__ import main
from reproduce.plan.grid import load_grid

EXAMPLES = ROOT / "examples"


def python(*words: object, root: Path = ROOT) -> str:
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1", MPLBACKEND="agg")
    done = subprocess.run([sys.executable, *map(str, words)], cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code with the example's method and its twin laid where their headers say."""
    for folder in ("am", "reproduce", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    for name in ("own_method.py", "own_method_twin.py"):
        (target,) = re.findall(rf"cp examples/{name} (\S+)", (EXAMPLES / name).read_text(encoding="utf-8"))
        shutil.copy(EXAMPLES / name, tmp_path / target)
    return tmp_path


def test_a_method_of_ones_own_trains_and_is_one_of_the_suites_where_it_is_laid(checkout):
    shown = dict(re.findall(r"^(\w+): (0\.\d+)", python(EXAMPLES / "own_method.py"), re.MULTILINE))
    assert set(shown) == {"Lion", "SGD"} and all(float(accuracy) > 0.85 for accuracy in shown.values())
    assert "\nlion  " in python("-m", "reproduce", "methods", root=checkout)


@pytest.mark.slow
def test_the_conformance_tests_cover_a_method_of_ones_own(checkout):
    shutil.copy(ROOT / "pyproject.toml", checkout)
    files = [f"tests/am/{name}.py" for name in ("test_conformance", "test_declarations", "test_twins")]
    said = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "lion", *files, root=checkout)
    assert re.search(r"^\d{2,} passed", said, re.MULTILINE) and "failed" not in said


def test_a_data_set_of_ones_own_is_written_listed_and_trained(tmp_path):
    """By one gradient and one AM method, well above what guessing gives."""
    data, results = tmp_path / "data", tmp_path / "results"
    python(EXAMPLES / "own_data.py", data)
    words = ["--grids", EXAMPLES, "--profile", "smoke", "--device", "cpu", "--jobs", "1", "--data", data]
    assert main(["run", "own_data", *map(str, [*words, "--results", results, "--figures", tmp_path / "figures"])]) == 0
    with open(results / "smoke" / "own_data" / "runs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"SGD", "TIAM"} and {row["classes"] for row in rows} == {"3"}
    assert all(float(row["test_accuracy"]) > 0.8 for row in rows)
    assert "Wine" in (results / "smoke" / "own_data" / "table.md").read_text(encoding="utf-8")


def test_a_grid_of_ones_own_is_run_and_plotted(tmp_path, monkeypatch):
    results, figures = tmp_path / "results", tmp_path / "figures"
    words = ["--grids", EXAMPLES, "--profile", "smoke", "--device", "cpu", "--jobs", "1"]
    assert main(["run", "own_grid", *map(str, [*words, "--results", results, "--figures", figures])]) == 0
    with open(results / "smoke" / "own_grid" / "runs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {f"{title}, step {rate}" for title in ("SGD", "Momentum") for rate in ("0.01", "0.1")}
    assert {row["label"] for row in rows} == labels and {row["status"] for row in rows} == {"done"}
    assert load_grid("own_grid", "light", folder=EXAMPLES).n_train == [5000]
    words = [EXAMPLES / "own_plot.py", results / "smoke" / "own_grid", "digits", tmp_path / "own.png"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with plt.rc_context():
        runpy.run_path(sys.argv[0], run_name="__main__")
    plt.close()
    assert (tmp_path / "own.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "own.png").stat().st_size > 10_000
