"""Versions of what a run is made of: the steps of versions.toml, and which rows each of them concerns.

A component that no step names is at version 1. A step says why its numbers moved, and by `moves` which rows of the
version before it concerns; the others stay valid.
"""

import datetime
import fnmatch
import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from am.errors import InputError
from reproduce.evidence.config import installed

FILE = Path(__file__).with_name("versions.toml")
Versions = dict[str, int | str]  # component -> its version; a package's is text


@dataclass(frozen=True)
class Step:
    """The step of a component to version `to`.

    moves: name -> value, values or pattern, all of which a row that is concerned has; a name is a column of runs.csv, a
    hyper-parameter, or `on`, "cpu" or "gpu". Empty: every row is concerned.
    """

    of: str
    to: int
    date: datetime.date
    why: str
    moves: Mapping[str, Any] = field(default_factory=dict)

    def concerns(self, facts: Mapping[str, Any]) -> bool:
        """Whether a row with these facts is other at version `to`. A fact that nobody knows may be anything."""
        return all(name not in facts or _is_among(facts[name], asked) for name, asked in self.moves.items())

    def __str__(self) -> str:
        return f"{self.of} {self.to - 1} → {self.to} ({self.date}): {self.why}"


def _is_among(value: Any, asked: Any) -> bool:
    if isinstance(asked, list):
        return any(_is_among(value, one) for one in asked)
    return fnmatch.fnmatchcase(str(value), asked) if isinstance(asked, str) else value == asked


@functools.cache
def steps(path: Path = FILE) -> dict[str, tuple[Step, ...]]:
    """Component -> its steps, from version 2 on. Raises InputError where they do not follow each other."""
    found: dict[str, list[Step]] = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("step", []):
        try:
            step = Step(**entry)
        except TypeError as error:
            raise InputError(f"{path.name}: a [[step]] has of, to, date, why and moves alone ({error}).") from None
        before = found.setdefault(step.of, [])
        if step.to != len(before) + 2:
            raise InputError(f"{path.name}: the step of {step.of} to {step.to} does not follow {len(before) + 1}.")
        before.append(step)
    return {of: tuple(some) for of, some in found.items()}


def current(component: str) -> int | str:
    """The version at which the present code stands; of a package the one that is installed."""
    kind, _, name = component.partition(":")
    return installed(name) if kind == "optimizer" else 1 + len(steps().get(component, ()))


def since(component: str, version: int | str) -> tuple[Step, ...]:
    """The steps after a version."""
    return steps().get(component, ())[version - 1 :] if isinstance(version, int) else ()


def of(components: Iterable[str]) -> Versions:
    """The present version of each."""
    return {component: current(component) for component in components}


def in_words(versions: Versions) -> str:
    """As the column `versions` says them: "method:tiam 1, activation:relu 1, ..."."""
    return ", ".join(f"{component} {version}" for component, version in versions.items())


def from_words(text: str) -> Versions:
    """The versions that the column says; raises ValueError where it says none."""
    pairs = [words.rsplit(" ", 1) for words in text.split(", ")]
    return {component: int(version) if version.isdecimal() else version for component, version in pairs}


def add(of: str, why: str, moves: Mapping[str, Any], path: Path = FILE) -> Step:
    """Append the next step of a component to the file."""
    from reproduce.evidence.files import as_toml, write_whole

    step = Step(of, 2 + len(steps(path).get(of, ())), datetime.date.today(), why, moves)
    lines = ["[[step]]", f"of = {as_toml(of)}", f"to = {step.to}", f"date = {step.date}", f"why = {as_toml(why)}"]
    lines += [f"moves = {as_toml(dict(moves))}"] if moves else []
    write_whole(path, path.read_text(encoding="utf-8").rstrip("\n") + "\n\n" + "\n".join(lines) + "\n")
    steps.cache_clear()
    return step
