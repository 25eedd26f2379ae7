"""Grids, results and figures in a folder of their own, for the tests of `reproduce`."""

import csv
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from am.data import DATASETS, NAMES, Identity
from reproduce.__main__ import main
from reproduce.evidence import versions
from reproduce.evidence.manifest import write_evidence
from reproduce.evidence.schema import by_unit
from reproduce.evidence.seal import sealed
from reproduce.plan.grid import read_grid

ROOT = Path(__file__).parent.parent
CSVS = ("runs.csv", "curves.csv", "summary.csv")
MARK = "REPRODUCE_TEST_MARK"  # an environment variable that tells a test's processes from all others

GRID = dict(
    title="Tiny",
    paper="suite",
    question="Does it work?",
    datasets=["digits"],
    hidden=[[6]],
    n_train=100,
    batch_size=25,
    epochs=2,
    seeds=2,
)
METHODS = (dict(name="sgd"), dict(name="adam"), dict(name="mdlam"))
TUNED = dict(rule="tuned", trials=3, methods=METHODS[:2])
SHAPES = {name: d.size(d.train) for name, d in DATASETS.items()}
PRINTS = {name: Identity(hashlib.sha256(name.encode()).hexdigest(), True, SHAPES[name].rows) for name in NAMES}
CPU = torch.device("cpu")
PATIENCE = 300  # seconds until a process that should have ended counts as stuck

TIMING = by_unit("runs", "s")
_KEPT = tempfile.TemporaryDirectory()
_RAN: dict[tuple, Path] = {}  # what was run from which files -> its copy


def at_version_2(monkeypatch: pytest.MonkeyPatch, *names: str, **moves: Any) -> None:
    """As after a step of these methods to version 2, for the rows that `moves` names."""
    date, why = datetime.date(2026, 1, 1), "a fault was mended"
    made = {f"method:{name}": (versions.Step(f"method:{name}", 2, date, why, moves),) for name in names}
    monkeypatch.setattr(versions, "steps", lambda path=None: made)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def grid_text(methods: Any = METHODS, profile: dict[str, dict] | None = None, **values: Any) -> str:
    """A grid as TOML; None drops a key. Profile `smoke` changes nothing, unless `profile` says otherwise."""
    keys = {key: value for key, value in {**GRID, **values}.items() if value is not None}
    same = {
        key: keys[key] for key in ("datasets", "n_train", "seeds", "epochs", "evaluate_every", "trials") if key in keys
    }
    lines = [f"{key} = {toml(value)}" for key, value in keys.items()]
    for block in methods:
        lines += ["[[methods]]", *(f"{key} = {toml(value)}" for key, value in block.items())]
    for word, table in (profile if profile is not None else {"smoke": same}).items():
        lines += [f"[profile.{word}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Place:
    """A folder with grids, a store, CSVs and figures."""

    root: Path

    @property
    def grids(self) -> Path:
        return self.root / "grids"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def csvs(self) -> Path:
        """Where profile smoke has its CSVs."""
        return self.results / "smoke"

    @property
    def drawn(self) -> Path:
        return self.figures / "smoke"

    @property
    def store(self) -> Path:
        return self.results / ".store"

    def write(self, name: str = "tiny", text: str | None = None, **changes: Any) -> Path:
        """A grid file: `text`, or the tiny grid with changes."""
        self.grids.mkdir(parents=True, exist_ok=True)
        path = self.grids / f"{name}.toml"
        path.write_text(grid_text(**changes) if text is None else text, encoding="utf-8")
        return path

    def words(self, command: str, *words: str) -> list[str]:
        """The command line that works in this folder alone; a later option of `words` overrides an earlier one."""
        places = ["--results", str(self.results)]
        if command != "tables":
            places += ["--figures", str(self.figures)]
        scale = (
            ["--profile", "smoke", "--jobs", "1", "--device", "cpu"] if command in ("run", "plan", "collect") else []
        )
        return [command, "--grids", str(self.grids), *places, *scale, *words]

    def do(self, command: str, *words: str) -> int:
        """The command in this process; returns its exit status."""
        return main(self.words(command, *words))

    def run(self, *words: str) -> None:
        assert self.do("run", *(words or ("tiny",))) == 0

    def ran(self, *words: str) -> None:
        """As `run`, for what a test begins with: what the same words made of the same files before is copied.

        The figures count as drawn elsewhere, so that the next run draws them again.
        """
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        key = (words, *((path.relative_to(self.root), path.read_bytes()) for path in files))
        if key not in _RAN:
            self.run(*words)
            _RAN[key] = shutil.copytree(self.root, Path(_KEPT.name, str(len(_RAN))))
        else:
            shutil.copytree(_RAN[key], self.root, dirs_exist_ok=True)

    def start(self, *words: str, mark: str = "") -> subprocess.Popen:
        """`python -m reproduce run` in a process, and a process group, of its own."""
        env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", **{MARK: mark})
        command = [sys.executable, "-m", "reproduce", *self.words("run", *words)]
        log = open(self.root / "log.txt", "a", encoding="utf-8")
        return subprocess.Popen(command, cwd=self.root, env=env, stdout=log, stderr=log, start_new_session=True)

    def shards(self) -> list[Path]:
        return sorted(self.store.glob("*.json"))

    def stored(self) -> list[dict]:
        """Every run of every shard."""
        return [
            run for path in self.shards() for run in json.loads(path.read_text(encoding="utf-8"))["payload"]["runs"]
        ]

    def rows(self, grid: str = "tiny", file: str = "runs.csv") -> list[dict[str, str]]:
        with open(self.csvs / grid / file, encoding="utf-8", newline="") as f:
            return list(csv.DictReader(f))

    def untimed(self, grid: str = "tiny") -> dict[str, Any]:
        """The content of the three CSVs without the seconds."""
        runs = [{key: value for key, value in row.items() if key not in (*TIMING, "seal")} for row in self.rows(grid)]
        return {file: (self.csvs / grid / file).read_bytes() for file in CSVS[1:]} | {"runs.csv": runs}

    def change(self, column: str, value: str, file: str = "runs.csv", **where: str) -> None:
        """Other words in a column of the rows that match, sealed again: as if they had been trained so."""
        runs, curves = self.rows(), self.rows(file="curves.csv")
        hit = [row for row in (runs if file == "runs.csv" else curves) if where.items() <= row.items()]
        assert hit
        for row in hit:
            row[column] = value
        for i, row in enumerate(runs):
            points = [p for p in curves if (p["run_key"], p["label"]) == (row["run_key"], row["label"])]
            runs[i] = sealed(row, points)
        write_evidence(self.csvs / "tiny" / "runs.csv", runs)
        write_evidence(self.csvs / "tiny" / "curves.csv", curves)

    def snapshot(self) -> dict[str, tuple[bytes, int]]:
        """Content and time of change of every file, locks aside."""
        files = [path for path in self.root.rglob("*") if path.is_file() and path.name != "locks"]
        return {str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def cheap_figures(results: Path, grid: str, out: Path, about=None, paper=None) -> list[Path]:
    """In place of `reproduce.show.figures.figures_of`: two files that show which CSVs they were drawn from."""
    content = b"".join((results / grid / file).read_bytes() for file in CSVS[:2])
    written = []
    for suffix in ("pdf", "png"):
        path = out / grid / f"accuracy_epochs.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(hashlib.sha256(content).hexdigest(), encoding="utf-8")
        os.replace(part, path)
        written.append(path)
    return written


def one_sentence(captured: pytest.CaptureFixture[str]) -> str:
    """What went to stderr, which must be one line that ends as a sentence does."""
    text = captured.readouterr().err
    assert "Traceback" not in text
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].endswith((".", "?")), text
    return lines[0]


@pytest.fixture(name="place")
def place_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty place with the tiny grid; figures cost nothing, and no folder of the user is seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AM_DATA", raising=False)
    monkeypatch.setattr("reproduce.show.figures.figures_of", cheap_figures)
    made = Place(tmp_path)
    made.write()
    return made


@pytest.fixture(name="read")
def read_fixture(tmp_path):
    """read(**changes): the tiny grid with changes, under profile smoke."""

    def read(text: str | None = None, profile_asked: str = "smoke", **changes):
        path = tmp_path / "tiny.toml"
        path.write_text(grid_text(**changes) if text is None else text, encoding="utf-8")
        return read_grid(path, profile_asked)

    return read


def until(condition: Callable[[], bool], going: Callable[[], bool]) -> None:
    """Wait for the condition while something is going on that should bring it about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert going() or condition(), "it ended before"
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)
