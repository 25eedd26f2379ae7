"""The suite itself, before and after: profile light, shortened, in another checkout and in this one."""

import ast
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from am.errors import InputError
from reproduce.bench.measure import spread
from reproduce.bench.targets import write_targets
from reproduce.evidence.files import as_toml, write
from reproduce.plan.grid import APART, FOLDER


def light(before: Path, folder: str | None, results: Path, repetitions: int = 2, share: int = 20) -> Path:
    """light.csv: `reproduce run` of profile light with a twentieth of the epochs, in another checkout and in this one.

    Both run the grids that both have, but for those apart from reproduce-all, from an empty store, in alternation.
    """
    after = Path(__file__).parents[2]
    theirs = before.resolve() / "reproduce" / "grids"
    if not theirs.is_dir():
        raise InputError(f"{before} is no checkout of this repository: it has no folder reproduce/grids.")
    if before.resolve() == after:
        raise InputError(f"{before} is this checkout; give the folder of another one.")
    ours, older = ({path.stem for path in grids.glob("*.toml")} for grids in (FOLDER, theirs))
    names = sorted((ours & older) - {*APART} - {*_apart(theirs.parent / "grid.py")})
    seconds = {before.resolve(): [], after: []}
    with tempfile.TemporaryDirectory() as place:
        grids = Path(place, "grids")
        grids.mkdir()
        for name in names:
            # The older text for both, so that both train the same runs.
            (grids / f"{name}.toml").write_text(shortened((theirs / f"{name}.toml").read_text(), share))
        for i in range(repetitions):
            for checkout, kept in seconds.items():
                out = Path(place, f"{'after' if checkout == after else 'before'} {i}")
                command = [sys.executable, "-m", "reproduce", "run", *names, "--profile", "light", "--device", "cpu"]
                command += ["--grids", str(grids), "--results", str(out / "results"), "--figures", str(out / "figures")]
                command += ["--data", str(Path(folder).resolve())] if folder else []
                environment = dict(os.environ, PYTHONPATH=str(checkout))
                began = time.perf_counter()
                done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
                kept.append(time.perf_counter() - began)
                if done.returncode:
                    raise InputError(f"{checkout}: `reproduce run` failed: {(done.stderr.splitlines() or ['?'])[-1]}")
    old, new = (np.array(values) for values in seconds.values())
    row = dict(grids=" ".join(names), epochs=f"1/{share} of light's", repetitions=repetitions)
    row |= dict(before_seconds=np.median(old), seconds=np.median(new)) | spread(old / new, "ratio")
    path = results / "bench" / "light.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, pd.DataFrame([row]), digits=6)
    write_targets(path.parent, torch.device("cpu"))
    return path


def _apart(module: Path) -> tuple[str, ...]:
    """The grids that another checkout's `all` leaves out."""
    lines = [node for node in ast.parse(module.read_text()).body if isinstance(node, ast.Assign)]
    return next(ast.literal_eval(line.value) for line in lines if ast.unparse(line.targets[0]) == "APART")


def shortened(text: str, share: int) -> str:
    """A grid with a `share`-th of the light profile's epochs, one evaluation interval at the least."""
    raw = tomllib.loads(text)
    profile = raw.get("profile", {}).get("light", {})
    common = raw | profile

    def fewer(table: dict[str, Any]) -> dict[str, Any]:
        of = common | table
        every = of.get("evaluate_every", 1)
        return table | dict(epochs=max(1, int(-(-every // 1)), of["epochs"] // share))

    blocks = [fewer(block) if {"epochs", "evaluate_every"} & block.keys() else block for block in raw.pop("methods")]
    raw.pop("profile", None)
    tables = [(raw, ""), *((block, "[[methods]]") for block in blocks), (fewer(profile), "[profile.light]")]
    lines = []
    for table, heading in tables:
        lines += [heading, *(f"{key} = {as_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"
