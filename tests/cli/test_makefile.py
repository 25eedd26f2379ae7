"""The Makefile's targets are the commands."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT

from reproduce.__main__ import main
from reproduce.cli.options import parser

TARGETS = (
    "help", "quickstart", "test", "plan", "reproduce-all", "reproduce-tiam_accuracy", "figures", "tables", "claims",
    "check", "report", "bench", "columns", "clean", "adopt", "prune", "version", "fingerprints", "methods", "grids",
)  # fmt: skip
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(folder: Path, *words: str) -> str:
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "requirements.txt", folder)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(["make", *words], cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_make
def test_make_help_lists_every_target_and_needs_no_environment(tmp_path):
    text = make(tmp_path, "help")
    assert not (tmp_path / ".venv").exists()
    listed = set(re.findall(r"^  make (\S+) +\S", text, re.MULTILINE))
    assert {re.sub("-tiam_accuracy", "-%", target) for target in TARGETS} <= listed
    phony = re.search(r"^\.PHONY: (.*)$", (tmp_path / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    assert set(phony) <= listed
    for variable in ("PROFILE=", "DATA=", "DEVICE=", "SEEDS=", "METHODS="):
        assert variable in text


def commands_of(text: str) -> list[list[str]]:
    return [shlex.split(line)[3:] for line in text.splitlines() if " -m reproduce " in line]


@needs_make
def test_make_hands_its_variables_to_the_command(tmp_path):
    variables = dict(
        PROFILE="smoke",
        DATA="my data",
        DEVICE="cpu",
        SEEDS="2",
        METHODS="tiam,adam",
        DATASETS="mnist",
        RESULTS="my results",
        FIGURES="f",
        GRAPHS="1",
    )
    words = [f"{key}={value}" for key, value in variables.items()]
    for target, command, grids in (
        ("plan", "plan", ["all"]),
        ("reproduce-all", "run", ["all"]),
        ("reproduce-tiam_accuracy", "run", ["tiam_accuracy"]),
    ):
        (line,) = commands_of(make(tmp_path, "-n", target, *words))
        args = parser().parse_args(line)
        assert (args.command, args.grids) == (command, grids)
        assert (args.profile, args.data, args.device, args.seeds, args.methods) == (
            "smoke",
            "my data",
            "cpu",
            2,
            "tiam,adam",
        )
        assert (str(args.results), str(args.figures), args.graphs, args.datasets) == ("my results", "f", True, "mnist")
        (plain,) = commands_of(make(tmp_path, "-n", target))
        args = parser().parse_args(plain)
        assert not args.graphs
        assert (args.profile, args.data, args.device, args.seeds, args.methods) == (None, None, "auto", None, "")


@needs_make
@pytest.mark.parametrize("target", [target for target in TARGETS if target not in ("help", "test")])
def test_every_target_is_a_command_that_the_parser_accepts(tmp_path, target):
    lines = commands_of(make(tmp_path, "-n", target))
    assert lines
    for line in lines:
        parser().parse_args(line)


@needs_make
def test_make_figures_hands_on_what_a_paper_needs(tmp_path, capsys):
    (line,) = commands_of(make(tmp_path, "-n", "figures", "STYLE=paper", "METHODS=tiam,adam", "WIDTH=1"))
    args = parser().parse_args(line)
    assert (args.style, args.methods, args.columns) == ("paper", "tiam,adam", 1)
    (plain,) = commands_of(make(tmp_path, "-n", "figures"))
    args = parser().parse_args(plain)
    assert (args.style, args.methods, args.columns) == ("full", "", None)
    assert main(["figures", "--methods", "adam", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "--methods and --columns go with --style paper.\n"
