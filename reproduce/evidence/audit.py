"""Audit: finished runs trained again alone and held against their rows, number by number.

On the kind of machine that made a row every digit should come back. Elsewhere sums round another way and training
enlarges that, so a row holds where its counts do and its accuracy is one that another seed might have given.
"""

import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev
from typing import Any

import pandas as pd

from am.errors import InputError, unknown
from reproduce.evidence import door
from reproduce.evidence.config import RunConfig
from reproduce.evidence.files import read_text
from reproduce.evidence.rows import Row, config_of, numbers, outcome
from reproduce.evidence.store import FINAL

COUNTS = ("status", "iterations", "parameter_updates")
DEVIATIONS = 3  # standard deviations over seeds by which an accuracy may differ
HANGS, CHANGED = (
    4.0,
    2.0,
)  # how much more often a row is drawn where a verdict hangs on it, or its method's file changed
DOUBT = 0.05  # of the bound on the share of rows that would not hold
_SETTING = ("dataset", "activation", "hidden", "label", "n_train", "constants")
_PROBLEM = ("dataset", "n_train")


@dataclass(frozen=True)
class Drawn:
    """A run that is to be trained again. allowed: by how much its accuracy may differ."""

    row: Row
    curve: list[Row]
    config: RunConfig
    allowed: float


Train = Callable[[RunConfig, str], dict[str, Any]]  # a configuration and its key -> the run as the store has it


def draw(
    folders: Sequence[Path],
    chance: random.Random,
    copies: Callable[[str], str],
    weight: Callable[[Row], float] = lambda row: 1.0,
    wanted: Callable[[Row], bool] = lambda row: True,
) -> tuple[list[Drawn], int]:
    """Every run that can be audited, in a random order that goes through all grids before it comes back to one.

    folders: of the grids' CSVs.  copies: the fingerprint of a data set that is here, "" where it is not.
    weight: how much sooner a row comes than one of weight 1.  wanted: the rows to draw from.
    Also returned: how many finished runs cannot be, since their copy of the data set is not here.
    """
    piles, left = [], 0
    for folder in folders:
        door.runs(folder)  # raises InputError for a number that is none; the rows themselves stay text
        rows = [row for row in door.text(folder, "runs").to_dict("records") if row["status"] in FINAL]
        curves: dict[tuple[str, str], list[Row]] = {}
        for point in door.text(folder, "curves").to_dict("records"):
            curves.setdefault((point["run_key"], point["label"]), []).append(point)
        allowed, pile = _allowed(rows), []
        for row in filter(wanted, rows):
            config = config_of(row)
            if copies(config.dataset) != config.data_fingerprint:
                left += 1
                continue
            curve = curves.get((row["run_key"], row["label"]), [])
            pile.append((chance.random() ** (1 / weight(row)), Drawn(row, curve, config, allowed[_of(row, _SETTING)])))
        piles.append([drawn for _, drawn in sorted(pile, key=lambda pair: -pair[0])])
    chance.shuffle(piles)
    longest = max(map(len, piles), default=0)
    order = [pile[i] for i in range(longest) for pile in piles if i < len(pile)]
    return list({drawn.row["run_key"]: drawn for drawn in reversed(order)}.values())[::-1], left


def weights(results: Path, root: Path | None) -> Callable[[Row], float]:
    """How much sooner rows come: those that a verdict of claim_effects.csv hangs on, and those of methods whose file
    has changed since the row's commit. root: the checkout that has the commits; None: there is none."""
    path = results / "claim_effects.csv"
    sides = ("method", "against")
    effects = read_text(path, ["grid", "profile", "dataset", *sides]) if path.exists() else pd.DataFrame()
    hang = {(e["grid"], e["profile"], e["dataset"], e[side]) for e in effects.to_dict("records") for side in sides}
    changed: dict[str, set[str]] = {}

    def weight(row: Row) -> float:
        commit = row["commit"].removesuffix("+")
        if commit not in changed:
            changed[commit] = _changed_since(root, commit) if root else set()
        named = (row["grid"], row["profile"], row["dataset"], row["label"]) in hang
        moved = row["method"].removesuffix("-released").replace("-", "_") in changed[commit]
        return (HANGS if named else 1.0) * (CHANGED if moved else 1.0)

    return weight


def _changed_since(root: Path, commit: str) -> set[str]:
    words = ["git", "diff", "--name-only", commit, "HEAD", "--", "am/methods"]
    found = subprocess.run(words, cwd=root, capture_output=True, text=True, encoding="utf-8")
    return {Path(line).stem for line in found.stdout.splitlines()} if commit and found.returncode == 0 else set()


def named(rows: Sequence[Row], label: str | None, seed: int | None) -> Callable[[Row], bool]:
    """Whether a row is of this label and seed, where they are given; raises InputError where none of the rows is."""
    labels = {row["label"] for row in rows}
    if label is not None and label not in labels:
        raise unknown("label", label, labels, "the finished runs")
    chosen = lambda row: label in (None, row["label"]) and seed in (None, int(row["seed"]))
    if not any(map(chosen, rows)):
        raise InputError(f"no finished run of {label or 'any label'} has seed {seed}.")
    return chosen


def audit(drawn: Sequence[Drawn], train: Train, latest: float, tell: Callable[[str], None]) -> Iterator[Row]:
    """Train them again, one after the other, and give for each a row of audit.csv.

    latest: where the monotonic clock says more, no other one is begun.
    """
    wrong = 0
    for number, one in enumerate(drawn, 1):
        if number > 1 and time.monotonic() > latest:
            return
        row = held_against(one, *outcome(found := train(one.config, one.row["run_key"])), found.get("cpu", ""))
        wrong += row["holds"] == "False"
        tell(f"  {number:3}  {_words(row)}")
        yield row | dict(wrong_at_most=f"{wrong_at_most(wrong, number):.3g}")


def wrong_at_most(wrong: int, of: int) -> float:
    """The upper 95 % bound (Clopper and Pearson) on the share of rows that would not hold, `wrong` of `of` seen."""
    from scipy.stats import beta

    return 1.0 if wrong == of else float(beta.ppf(1 - DOUBT, wrong + 1, of - wrong))


def held_against(one: Drawn, again: Row, curve: Sequence[Row], cpu_now: str = "") -> Row:
    """The row of audit.csv of a run and what came of training it again."""
    same = numbers(one.row, one.curve) == numbers(again, curve)
    before, now = (found.get("test_accuracy") or "nan" for found in (one.row, again))
    near = before == now or abs(float(before) - float(now)) <= one.allowed
    identity = ("grid", "profile", "dataset", "label", "seed", "run_key", "device", "torch", "commit", "test_accuracy")
    return {name: one.row[name] for name in identity} | dict(
        cpu=one.row.get("cpu", ""),
        device_now=again.get("device", ""),
        cpu_now=cpu_now,
        torch_now=again["torch"],
        test_accuracy_now=again.get("test_accuracy", ""),
        allowed=f"{one.allowed:.6g}",
        same=str(same),
        holds=str(same or (near and all(one.row[name] == again.get(name, "") for name in COUNTS))),
    )


def _words(row: Row) -> str:
    what = f"{row['grid']} ({row['profile']}), {row['dataset']}, {row['label']}, seed {row['seed']}"
    if row["same"] == "True":
        return f"{what}: every digit the same"
    before, now = (
        f"{float(row[name]):.4f}" if row[name] else "none" for name in ("test_accuracy", "test_accuracy_now")
    )
    found = f"test accuracy {before}, now {now}"
    where = f" ({row['device']}, torch {row['torch']}; now {row['device_now']}, torch {row['torch_now']})"
    return f"{what}: {found}{where}" + ("" if row["holds"] == "True" else ": IT DOES NOT HOLD")


def _of(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] for name in names)


def _allowed(rows: Sequence[Row]) -> dict[tuple[str, ...], float]:
    """By how much the accuracy of each setting may differ: three deviations over its seeds, or over those of the median
    setting on the same problem where its own agree by chance or are one."""
    seeds: dict[tuple[str, ...], list[float]] = {}
    problems: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in rows:
        seeds.setdefault(_of(row, _SETTING), []).extend([float(row["test_accuracy"])] if row["test_accuracy"] else [])
        problems[_of(row, _SETTING)] = _of(row, _PROBLEM)
    deviations = {setting: stdev(some) for setting, some in seeds.items() if len(some) > 1}
    usual = {
        problem: median([d for setting, d in deviations.items() if problems[setting] == problem] or [0.0])
        for problem in set(problems.values())
    }
    return {
        setting: DEVIATIONS * max(deviations.get(setting, 0.0), usual[problem]) for setting, problem in problems.items()
    }
