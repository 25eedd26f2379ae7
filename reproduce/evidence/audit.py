"""Audit: committed runs, drawn at random, trained again alone and held against their rows, number by number.

On the kind of machine that made a row every digit should come back. Elsewhere sums round another way and training
enlarges that, so a row holds where its counts do and its accuracy is one that another seed might have given.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from am.data import identity_of, missing
from reproduce.evidence.config import RunConfig
from reproduce.evidence.files import Stale, read, read_text
from reproduce.evidence.rows import Row, config_of, is_of_this_code, numbers, outcome
from reproduce.evidence.store import FINAL
from reproduce.run.engines.work import DataOnDevice, train_stack
from reproduce.run.places import place
from reproduce.run.plan import PlannedRun

COUNTS = ("status", "iterations", "parameter_updates")
DEVIATIONS = 3  # standard deviations over seeds by which an accuracy may differ
LEAST = 0.01  # by which it may differ where seeds agree, or there is one
_SETTING = ("dataset", "activation", "hidden", "label", "n_train", "constants")


@dataclass(frozen=True)
class Drawn:
    """A run that is to be trained again: its row and curve, what it was, and the deviation of its setting's seeds."""

    row: Row
    curve: list[Row]
    config: RunConfig
    deviation: float | None


def draw(results: Path, grids: dict[str, Sequence[str]], seed: int, data: str | None) -> tuple[list[Drawn], int]:
    """Every run that can be audited, in a random order that goes through all grids before it comes back to one.

    grids: those with CSVs, by profile.  Also returned: how many finished runs cannot be, of other code or of a copy of
    a data set that is not here.
    """
    here: dict[str, str] = {}
    piles, left = [], 0
    for profile, names in grids.items():
        for folder in (place(results, profile) / name for name in names):
            try:
                read(folder / "runs.csv")  # raises InputError for a number that is none; the rows themselves stay text
            except Stale:
                left += len(read_text(folder / "runs.csv", evidence=True))
                continue
            rows = [row for row in read_text(folder / "runs.csv").to_dict("records") if row["status"] in FINAL]
            curves: dict[tuple[str, str], list[Row]] = {}
            for point in read_text(folder / "curves.csv").to_dict("records"):
                curves.setdefault((point["run_key"], point["label"]), []).append(point)
            deviations = _deviations(rows)
            pile = []
            for row in rows:
                config = config_of(row)
                if not is_of_this_code(row, config) or _copy(config.dataset, data, here) != config.data_fingerprint:
                    left += 1
                    continue
                pile.append(Drawn(row, curves.get((row["run_key"], row["label"]), []), config, deviations[_of(row)]))
            piles.append(pile)
    chance = random.Random(seed)
    for pile in piles:
        chance.shuffle(pile)
    chance.shuffle(piles)
    longest = max(map(len, piles), default=0)
    order = [pile[i] for i in range(longest) for pile in piles if i < len(pile)]
    return list({drawn.row["run_key"]: drawn for drawn in reversed(order)}.values())[::-1], left


def audit(
    drawn: Sequence[Drawn], device: torch.device, data: str | None, latest: float, tell: Callable[[str], None]
) -> Iterator[Row]:
    """Train them again, one after the other, and give for each a row of audit.csv.

    latest: where the monotonic clock says more, no other one is begun.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)  # as in the accuracy lane
    loaded = DataOnDevice(data, device)
    for number, one in enumerate(drawn):
        if number and time.monotonic() > latest:
            return
        found = train_stack(
            [PlannedRun(one.config, one.row["run_key"], one.row["label"], None)], loaded, lambda _: None
        )
        row = _held_against(one, *outcome(found[0]))
        tell(f"  {number + 1:3}  {_words(row)}")
        yield row


def _held_against(one: Drawn, again: Row, curve: Sequence[Row]) -> Row:
    same = numbers(one.row, one.curve) == numbers(again, curve)
    before, now = (found.get("test_accuracy") or "nan" for found in (one.row, again))
    allowed = max(DEVIATIONS * (one.deviation or 0), LEAST)
    near = before == now or abs(float(before) - float(now)) <= allowed
    identity = ("grid", "profile", "dataset", "label", "seed", "run_key", "device", "torch", "commit", "test_accuracy")
    return {name: one.row[name] for name in identity} | dict(
        device_now=again.get("device", ""),
        torch_now=again["torch"],
        test_accuracy_now=again.get("test_accuracy", ""),
        allowed=f"{allowed:.6g}",
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


def _of(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in _SETTING)


def _deviations(rows: Sequence[Row]) -> dict[tuple[str, ...], float | None]:
    """The standard deviation over seeds of each setting's accuracies; None for fewer than two."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        found.setdefault(_of(row), []).extend([float(row["test_accuracy"])] if row["test_accuracy"] else [])
    return {key: torch.tensor(some).std().item() if len(some) > 1 else None for key, some in found.items()}


def _copy(name: str, folder: str | None, here: dict[str, str]) -> str:
    """The fingerprint of the copy of a data set in the data folder; "" where there is none."""
    if name not in here:
        here[name] = "" if missing([name], folder) else identity_of(name, folder).fingerprint
    return here[name]
