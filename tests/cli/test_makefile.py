"""The Makefile's targets are the commands."""

import os
import re
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


def commands_of(folder: Path, *words: str) -> list[list[str]]:
    """The words that reach `python -m reproduce` when make is run so: a script that writes them down stands there."""
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> ../words\nprintf "\\n\\0" >> ../words\n', encoding="utf-8")
        python.chmod(0o755)
    place, ready = folder / "place", folder / "venv" / ".ready"
    place.mkdir(exist_ok=True)
    ready.touch()
    os.utime(ready, (2**32, 2**32))  # newer than any requirements
    (folder / "words").write_text("", encoding="utf-8")
    make(place, *words, "VENV=../venv")
    lines = (folder / "words").read_text(encoding="utf-8").split("\n\0")
    every = [line.split("\0")[:-1] for line in lines if line]
    return [words[2:] for words in every if words[:2] == ["-m", "reproduce"]]


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
        (line,) = commands_of(tmp_path, target, *words)
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
        (plain,) = commands_of(tmp_path, target)
        args = parser().parse_args(plain)
        assert not args.graphs
        assert (args.profile, args.data, args.device, args.seeds, args.methods) == (None, None, "auto", None, "")


@needs_make
@pytest.mark.parametrize("target", [target for target in TARGETS if target not in ("help", "test")])
def test_every_target_is_a_command_that_the_parser_accepts(tmp_path, target):
    lines = commands_of(tmp_path, target)
    assert lines
    for line in lines:
        parser().parse_args(line)


@needs_make
def test_make_figures_hands_on_what_a_paper_needs(tmp_path, capsys):
    (line,) = commands_of(tmp_path, "figures", "STYLE=paper", "METHODS=tiam,adam", "WIDTH=1")
    args = parser().parse_args(line)
    assert (args.style, args.methods, args.columns) == ("paper", "tiam,adam", 1)
    (plain,) = commands_of(tmp_path, "figures")
    args = parser().parse_args(plain)
    assert (args.style, args.methods, args.columns) == ("full", "", None)
    assert main(["figures", "--methods", "adam", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "--methods and --columns go with --style paper.\n"


HOSTILE = (
    "$(touch x)", "`touch x`", "; touch x", "&& touch x", "| touch x", "$(shell touch x)", "$$(touch x)",
    "${IFS}touch x", '"; touch x; "', "'; touch x; '", "\\$(touch x)", "$(eval x:=1)$(shell touch x)", "*", "?", "~",
    "$HOME", "$@", "$*", "--help", "-x", "a b", "a  b", "#x", "%", "!x", "> x", "< /dev/null", "é", "x\\", "()",
    "{a,b}", "=",
)  # fmt: skip


@needs_make
@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_a_value_whatever_is_in_it(tmp_path, value):
    """None of it reaches make's or the shell's own language."""
    options = dict(PROFILE="profile", DATA="data", DEVICE="device", SEEDS="seeds", METHODS="methods",
                   DATASETS="datasets", RESULTS="results", FIGURES="figures", GRIDS="grids", FOR="for",
                   ROUND="seeds-per-round", SHARE="share")  # fmt: skip
    (line,) = commands_of(tmp_path, "reproduce-all", *(f"{name}={value}" for name in options))
    assert sorted(line) == sorted(["run", "all", *(f"--{option}={value}" for option in options.values())])
    (line,) = commands_of(tmp_path, "version", *(f"{name}={value}" for name in ("OF", "WHY", "MOVES")))
    assert line == ["version", f"--of={value}", f"--why={value}", f"--moves={value}"]
    (line,) = commands_of(tmp_path, "adopt", f"FROM={value}")
    assert line == ["adopt", "--", *value.split()]
    assert not list(tmp_path.rglob("x"))
