"""An iteration of TIAM and mDLAM here and in an earlier checkout, in alternation; its share of the machine's limit."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from am.errors import InputError
from reproduce.bench.limits import least_tiam, machine_rates
from reproduce.bench.measure import CLASSES, spread
from reproduce.evidence.files import write

WORKER = Path(__file__).with_name("iterate.py")


class Checkout:
    """A process that iterates a method with the code of one checkout."""

    def __init__(self, root: Path, name: str, rows: int, threads: int, data: Path) -> None:
        environment = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS=str(threads))
        command = [sys.executable, str(WORKER), name, str(rows), str(threads), str(data)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.root, self.process = root, subprocess.Popen(command, cwd=root, env=environment, **pipes)
        self._answer()

    def ask(self, word: str) -> float:
        """The worker's answer to "step" or "moved"."""
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            said = (self.process.stderr.read().strip().splitlines() or ["no reason given"])[-1]
            raise InputError(f"{self.root}: an iteration failed there ({said}).")
        return line

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def earlier(
    before: Path,
    x: Tensor,
    y: Tensor,
    data: str,
    results: Path,
    *,
    methods: Sequence[str] = ("tiam", "mdlam"),
    threads: Sequence[int] = (),
    repetitions: int = 15,
    edge: int = 2_048,
) -> Path:
    """earlier.csv: rows for each method and number of threads, by default one and all. x: (N, d0) float32, y: (N,).

    before_seconds and seconds are medians; ratio is that of neighbouring readings, the earlier over this one, with
    quartiles; share is the least FLOPs at the rate of a square product, measured between the readings with the same
    threads, over the seconds. Raises InputError where `before` is no other checkout or an iteration moves nothing.
    """
    here = Path(__file__).parents[2]
    if not (before / "am" / "__init__.py").is_file() or before.resolve() == here:
        raise InputError(f"{before} is no other checkout of this repository.")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "images.npz")
        np.savez(path, x=x.numpy(), y=y.numpy())
        least = least_tiam(len(x), (x.shape[1], 100, 100, CLASSES))[0]
        for name in methods:
            for count in dict.fromkeys(threads or (1, len(os.sched_getaffinity(0)))):
                old, new = (Checkout(root, name, len(x), count, path) for root in (before.resolve(), here))
                try:
                    seconds, rates = [], []
                    torch.set_num_threads(count)
                    for _ in range(repetitions + 1):
                        seconds.append([old.ask("step"), new.ask("step")])
                        rates.append(machine_rates(torch.device("cpu"), edge, 1)[0])
                    if min(old.ask("moved"), new.ask("moved")) <= 0:
                        raise InputError(f"bench: {name} moved nothing, so that its seconds say nothing.")
                finally:
                    old.close()
                    new.close()
                before_seconds, after = np.array(seconds[1:]).T  # the first pays for memory
                row = dict(method=name, hidden="100-100", n=len(x), runs=1, threads=count, repetitions=repetitions)
                row |= dict(before_seconds=np.median(before_seconds), seconds=np.median(after))
                row |= spread(before_seconds / after, "ratio") | dict(gemm_flops_per_second=max(rates))
                row |= dict(limit_seconds=least / max(rates)) | spread(least / max(rates) / after, "share")
                rows.append(row | dict(data=data, device="cpu", torch=torch.__version__))
    out = results / "bench" / "earlier.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, pd.DataFrame(rows), digits=6)
    return out
