"""Each lane from end to end: a small grid, trained and collected as a command does it, and what its CSVs then say.

These numbers are of float32. Text and counts are exact, and so nearly are losses before training, which seeds, initial
values, inputs, widths and activations change; what comes after training may be off by what rounding makes of it.
"""

import contextlib
import csv
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from reproduce.evidence import fingerprint
from reproduce.evidence.cases.case import Case, Tolerance, Values
from reproduce.evidence.fingerprint import Kept
from reproduce.evidence.places import Places
from reproduce.plan.goal import Narrowing
from reproduce.run.session import Machine, begin
from reproduce.run.training import collected, train

_GRID = """
title = "Fingerprint"
paper = "suite"
question = "Does the lane do what it did?"
datasets = ["digits"]
n_train = 100
batch_size = 25
epochs = 2
gradient_norm = true
"""
# Each lane's own keys, and its methods. They differ in inputs, initial values, widths and rows.
_LANES = {
    "stacked": """
activations = ["relu", "elu"]
hidden = [[6]]
methods = [
    { name = "sgd", init = "he" },
    { name = "tiam", init = "normal(0.1)", inputs = "standardised", n_train = 60, hidden = [[8, 5]] },
]
""",
    "timed": """
activations = ["relu", "elu"]
hidden = [[6]]
lane = "time"
first_seed = 3
methods = [
    { name = "sgd", init = "torch", inputs = "standardised" },
    { name = "tiam", init = "normal(0.1)", n_train = 60, hidden = [[8, 5]], set = { rho = 0.1 } },
]
""",
    "module": """
network = "lenet5"
methods = [
    { name = "sgd", init = "he" },
    { name = "adam", inputs = "standardised", n_train = 60 },
    { name = "samt", set = { alpha0 = 0.05 } },
]
""",
}
# What a profile `smoke` would change, it is told to leave.
_KEPT = """
[profile.smoke]
n_train = 100
epochs = 2
evaluate_every = 1
seeds = %d
"""
_SEEDS = dict(stacked=2, timed=1, module=2)
_PARTS = ("batches", "evaluation", "inputs:unit", "inputs:standardised")
_PERCEPTRONS = (*_PARTS, "method:sgd", "method:tiam", "activation:relu", "activation:elu", "init:normal", "loop")
_USES = dict(
    stacked=(*_PERCEPTRONS, "init:he"),
    timed=(*_PERCEPTRONS, "init:torch"),
    module=(*_PARTS, "method:sgd", "method:adam", "method:samt", "network:lenet5", "init:he", "init:torch"),
)

_TEXT = (
    "lane", "dataset", "n_train", "inputs", "network", "activation", "hidden", "init", "method", "constants", "seed",
    "status", "iterations", "epochs", "parameter_updates", "gradient_evaluations",
)  # fmt: skip
_POINT = ("iteration", "epoch", "parameter_updates", "gradient_evaluations")
_SHARES = ("test_accuracy", "val_accuracy")
_NUMBERS = ("train_loss", "objective", "gradient_norm")
_TOLERANCES = {
    **{name: Tolerance(0.0, 0.021) for name in _SHARES},  # three of 143 images
    "at the start": Tolerance(1e-4),
    "later": Tolerance(1e-2),
    "flops": Tolerance(0.1),  # trials of a step size are counted
}


@functools.cache
def everything() -> Kept:
    """Of every component, lanes too, what is computed and what is kept."""
    return Kept(fingerprint.cases(cases()))


def cases() -> Iterator[Case]:
    """Of every lane. Worker processes serve all lanes alike, and the time lane has one whatever --jobs says."""
    for lane in _LANES:
        values = functools.partial(_values, lane)
        also = {"by two processes": functools.partial(_values, lane, jobs=2)} if lane == "stacked" else {}
        yield Case(f"lane:{lane}", "grid", values, _USES[lane], _TOLERANCES, also)


def _values(lane: str, jobs: int = 1) -> Values:
    with tempfile.TemporaryDirectory() as folder:
        runs, curves = _run(Path(folder), lane, jobs)
    found: Values = {}
    for row in runs:
        name = f"{row['method']}, {row['activation']}, seed {row['seed']}: "
        points = [point for point in curves if point["run_key"] == row["run_key"]]
        found[name + "identity"] = " ".join(f"{column}={row[column]}" for column in _TEXT)
        found[name + "flops"] = float(row["flops"])
        found[name + "counts"] = [" ".join(point[column] for column in _POINT) for point in points]
        found |= {name + column: [float(point[column]) for point in points] for column in _SHARES}
        for column in _NUMBERS:
            if numbers := [float(point[column]) for point in points if point.get(column)]:
                found[f"{name}{column} at the start"], found[f"{name}{column} later"] = numbers[0], numbers[1:]
    return found


def _run(folder: Path, lane: str, jobs: int) -> list[list[dict[str, str]]]:
    """The rows of runs.csv and of curves.csv, as the command writes them."""
    text, seeds = _GRID + _LANES[lane], _SEEDS[lane]
    (folder / "fingerprint.toml").write_text(f"{text}seeds = {seeds}\n{_KEPT % seeds}", encoding="utf-8")
    places = Places("smoke", folder, folder, grids=folder)
    threads, said = torch.get_num_threads(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            machine, narrowing = Machine(torch.device("cpu"), jobs), Narrowing(seeds_per_round=seeds)
            session = begin(["fingerprint"], places, narrowing, machine)
            _, plan = train(session)
            list(collected(session, plan))
            wrong = [run.label for run in plan.missing(session.store)]
    finally:
        torch.set_num_threads(threads)
    if wrong:
        raise RuntimeError(f"lane:{lane} does not run: {said.getvalue()}")
    tables = []
    for name in ("runs.csv", "curves.csv"):
        with open(folder / "smoke" / "fingerprint" / name, encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    return tables
