"""Part f: peak memory of a stack in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from am.errors import InputError
from am.machine import run_bytes
from am.methods import method
from reproduce.bench.measure import CLASSES, Bench, launch, train_steps, words
from reproduce.run.engines.work import reuse_freed_memory

MEASURED_MEMORY = ("tiam", "dladmm", "bcd", "sgd", "adam", "am-adam", "samt")


def memory(b: Bench) -> dict[str, pd.DataFrame]:
    """Peak memory of a stack in a process of its own, less what the process had before it, for each run."""
    hidden, n, rows = b.scale.networks[0], min(b.scale.memory_rows, len(b.x)), []
    widths = (b.x.shape[1], *hidden, CLASSES)
    for name in MEASURED_MEMORY:
        full = method(name).full_batch
        runs, batch = (2, 0) if full else (b.scale.stack, min(b.scale.batch, n))
        case = dict(method=name, widths=widths, n=n, batch=batch, runs=runs, device=b.device.type)
        root = Path(__file__).parents[2]
        environment = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
        command = [sys.executable, "-m", "reproduce.bench.memory", json.dumps(case)]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"bench f: {name} failed in its process: {(done.stderr.splitlines() or ['killed'])[-1]}.")
        baseline, peak = json.loads(done.stdout)
        predicted = run_bytes(method(name), widths, n, batch)
        per_run = (peak - baseline) / runs
        rows.append(
            dict(method=name, hidden=words(hidden), n=n, batch=batch, runs=runs, baseline_bytes=baseline)
            | dict(peak_bytes=peak, bytes_per_run=per_run, predicted_bytes=predicted, ratio=per_run / predicted)
        )
    return dict(memory=pd.DataFrame(rows))


def peak_of(case: dict[str, Any]) -> tuple[int, int]:
    """Bytes before and at the peak of training one stack for a few steps, in this process."""
    device, full = torch.device(case["device"]), method(case["method"]).full_batch
    hidden, gpu = case["widths"][1:-1], case["device"] == "cuda"
    if not gpu:
        torch.set_num_threads(1)
        reuse_freed_memory()
    x = torch.rand(case["n"], case["widths"][0], device=device)
    y = torch.arange(case["n"], device=device) % CLASSES
    small = case["batch"] or 100
    train_steps(launch(case["method"], x[:small], y[:small], hidden, 1, small), 2)  # loads the libraries
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    now = torch.cuda.max_memory_allocated if gpu else _peak_resident
    baseline = now()
    train_steps(launch(case["method"], x, y, hidden, case["runs"], case["batch"]), 3 if full else 20)
    return baseline, now()


def _peak_resident() -> int:
    """Bytes; not ru_maxrss, which a process inherits from the one that started it."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    ]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(peak_of(json.loads(sys.argv[1]))))
