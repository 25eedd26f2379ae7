"""Random damage, from seeded generators: whatever a user hands in, a command does its work or refuses in a sentence.

Grids, data files, command lines, and the store with its CSVs are mutated; every command must end within SECONDS,
without a traceback, and no finished run that the files still hold may be lost. The counts are printed.
"""

import io
import json
import os
import random
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
from helpers import METHODS, Place, place_fixture  # noqa: F401
from mutations import members, mutated_data, mutated_evidence, mutated_grid, mutated_words

from am.data import NAMES
from reproduce.__main__ import main
from reproduce.show import figures

pytestmark = pytest.mark.slow
SECONDS = 20
KEY = re.compile(rb"\b[0-9a-f]{20}\b")
DRAW = figures.figures_of
COUNTS = dict(grids=200, data=100, words=60, evidence=100)


class Hang(BaseException):
    """Past the limit; no handler of the suite takes it for a mistake of the user."""


@contextmanager
def limit() -> Iterator[None]:
    def stop(*args: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(words: list[str]) -> tuple[str, str]:
    """How a command ended, `done`, `refused` or what it must not, and what it said on stderr."""
    said = io.StringIO()
    try:
        with limit(), redirect_stdout(io.StringIO()), redirect_stderr(said):
            status = main(words)
    except SystemExit as ended:
        status = ended.code
    except Hang:
        return "hang", ""
    except BaseException as error:
        return f"traceback of {type(error).__name__}", str(error)
    text = said.getvalue()
    if status == 0:
        return "done", text
    lines = [line for line in text.splitlines() if line and not re.search(r"\d%\|", line)]  # no bar of progress
    sentences = bool(lines) and all(line.endswith((".", "?")) for line in lines) and len(lines) <= len(NAMES)
    ended = (
        {1: "told", 2: "refused"}.get(status) if sentences else None
    )  # told: done without the rows that do not count
    return ended or f"status {status}", text


class Tally:
    """What came of the mutations of one kind, and the failures with what reproduces them."""

    def __init__(self, kind: str):
        self.kind, self.ended, self.failures = kind, Counter(), []

    def command(self, number: int, mutation: str, words: list[str]) -> str:
        ended, text = outcome(words)
        self.ended[ended] += 1
        if ended not in ("done", "told", "refused"):
            self.failures.append(f"{self.kind} {number} ({mutation}): {' '.join(words)[:300]}: {ended}: {text[-400:]}")
        return ended

    def lost(self, number: int, mutation: str, what: str) -> None:
        self.ended["lost"] += 1
        self.failures.append(f"{self.kind} {number} ({mutation}): {what}")

    def check(self, capsys: pytest.CaptureFixture[str]) -> None:
        counts = ", ".join(f"{count} {word}" for word, count in sorted(self.ended.items()))
        with capsys.disabled():
            print(f"\n{COUNTS[self.kind]} mutations of {self.kind}: commands {counts}")
        assert not self.failures, "\n".join(self.failures)


@pytest.fixture
def finished(place: Place) -> Place:
    """A grid that was run, with its tables."""
    place.run()
    return place


def test_grids(finished, monkeypatch, capsys):
    tally, before = Tally("grids"), finished.snapshot()
    for number in range(COUNTS["grids"]):
        draw = random.Random(f"grid {number}")
        mutation = mutated_grid(draw, finished)
        for command in ("plan", "collect"):
            tally.command(number, mutation, finished.words(command, *draw.choice((("other", "tiny"), ("all",)))))
        tally.command(number, mutation, ["grids", "--grids", str(finished.grids)])
        after = finished.snapshot()
        kept = {name for name in before if "/tiny/" in name or name.startswith("results/.store/")}
        if lost := [name for name in kept if before[name][0] != after.get(name, (b"",))[0]]:
            tally.lost(number, mutation, f"changed {lost}")
        for path in finished.grids.iterdir():
            if path.name != "tiny.toml":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    tally.check(capsys)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_data_files(finished, monkeypatch, capsys):
    monkeypatch.setattr("am.data.download._parts", no_network)
    tally, base = Tally("data"), members()
    folder = finished.root / "data"
    folder.mkdir()
    finished.write("digit", datasets=["mnist"], methods=METHODS[:1])
    path = folder / "mnist.npz"
    before = finished.snapshot()
    for number in range(COUNTS["data"]):
        draw = random.Random(f"data {number}")
        mutation = mutated_data(draw, path, base)
        for command in ("plan", "collect"):
            tally.command(number, mutation, finished.words(command, "digit", "tiny", "--data", str(folder)))
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if changed := {name for name, found in finished.snapshot().items() if before.get(name) != found}:
            tally.lost(number, mutation, f"changed {changed}")
    tally.check(capsys)


def no_network(*args: object) -> None:
    raise OSError("no network")


def test_command_lines(finished, monkeypatch, capsys):
    monkeypatch.setattr("reproduce.run.training.run_local", lambda *args, **more: None)
    monkeypatch.setattr("am.data.download._parts", no_network)
    (finished.root / "file").write_text("no folder", encoding="utf-8")
    tally = Tally("words")
    keep = finished.root.with_name(f"{finished.root.name}-kept")
    shutil.copytree(finished.root, keep)
    os.mkfifo(finished.root / "pipe")
    before = held(finished)
    for number in range(COUNTS["words"]):
        words = mutated_words(random.Random(f"words {number}"), finished)
        tally.command(number, "words", words)
        after = held(finished)
        if lost := {found for found in before - after if "clean" not in words or found[0] != "store"}:
            tally.lost(number, f"{words}", f"lost {lost}")
        shutil.rmtree(finished.root)
        shutil.copytree(keep, finished.root)
        os.mkfifo(finished.root / "pipe")
        os.chdir(finished.root)
    tally.check(capsys)


def held(place: Place) -> set[tuple[str, bytes]]:
    """(file, run key) of every finished run that can be found: a run in the CSVs, or in a shard."""
    found = set()
    for name in ("runs.csv", "curves.csv"):
        path = next(place.results.rglob(f"tiny/{name}"), place.results / "none")
        if path.is_file() and path.resolve().is_relative_to(place.root):
            found |= {(name, key) for key in KEY.findall(path.read_bytes())}
    return found | {("store", run["run_key"].encode()) for run in readable(place)}


def readable(place: Place) -> list[dict]:
    runs = []
    for path in place.shards():
        if path.is_file() and path.resolve().is_relative_to(place.root):
            try:
                runs += json.loads(path.read_text(encoding="utf-8"))["payload"]["runs"]
            except (ValueError, KeyError, TypeError):
                continue
    return runs


def test_the_store_and_the_csvs(finished, monkeypatch, capsys):
    monkeypatch.setattr(figures, "figures_of", DRAW)
    tally = Tally("evidence")
    keep = finished.root.with_name(f"{finished.root.name}-kept")
    shutil.copytree(finished.root, keep)
    for number in range(COUNTS["evidence"]):
        draw = random.Random(f"evidence {number}")
        mutation = mutated_evidence(draw, finished)
        before = held(finished)
        commands = ["collect", draw.choice(["plan", "tables", "claims", "report", "figures"]), "collect"]
        for command in commands:
            words = finished.words(command, *(["tiny"] if command in ("collect", "plan") else []))
            tally.command(number, mutation, [command, *places(words)] if command in ("claims", "report") else words)
            if lost := before - held(finished):
                tally.lost(number, mutation, f"{command} lost {len(lost)}, for example {sorted(lost)[0]}")
                break
        shutil.rmtree(finished.root)
        shutil.copytree(keep, finished.root)
        os.chdir(finished.root)
    tally.check(capsys)


def places(words: list[str]) -> list[str]:
    """The options of `words` that name the folder of CSVs."""
    at = words.index("--results")
    return words[at : at + 2]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-m", "slow", "-n", "0"]))
