"""The check of the engine `ray`: a cluster of two nodes on this machine loses what a cluster can lose.

One small grid is trained by the local engine and three times by the cluster, while a worker is killed with -9, while
one is stopped so that its task never returns, and while a node is killed. Each ends with the CSVs of the local engine.
"""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from am.errors import InputError
from reproduce.evidence.schema import by_unit
from reproduce.run.engines.ray import ROOT, import_ray

LIMIT = 150.0  # seconds that a command may take
DEADLINE = 12  # seconds until what gives no answer is handed out again
GRID = """
title = "Ray check"
paper = "suite"
question = "Does a cluster that loses a node end with the same numbers?"
datasets = ["digits"]
activations = ["relu", "elu", "selu", "celu", "softplus", "leaky_relu"]
hidden = [[8]]
n_train = 200
batch_size = 10
epochs = 60
seeds = 2
[[methods]]
name = "sgd"
[[methods]]
name = "adam"
[profile.smoke]
datasets = ["digits"]
n_train = 200
epochs = 60
seeds = 2
"""


def check(tell: Callable[[str], None] = print) -> None:
    """Run the check; raises InputError with a sentence for what is not as it should be."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # on a busy machine Ray's workers would starve
    ray = import_ray()
    from ray.cluster_utils import Cluster

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ray-check-") as name, contextlib.ExitStack() as stack:
        place = Path(name)
        (place / "grids").mkdir()
        (place / "grids" / "check.toml").write_text(GRID, encoding="utf-8")
        local = _start(place, "local", "--jobs", "2")
        stack.callback(local.kill)
        cluster = Cluster()  # most of its start is waiting, and the local engine trains meanwhile
        stack.callback(cluster.shutdown)
        for _ in range(2):
            node = cluster.add_node(num_cpus=1, include_dashboard=False, node_ip_address="127.0.0.1")
        _end(local, place, "local")
        expected = _untimed(place / "local")
        tell(f"local engine: {len(expected['runs.csv'])} runs, {time.monotonic() - began:.0f} s")
        scenarios: dict[str, Callable[[], Any]] = {
            "a worker killed with -9": lambda: os.kill(_busy()[0], signal.SIGKILL),
            "a task that never returns": lambda: os.kill(_busy()[0], signal.SIGSTOP),
            "a node killed": lambda: cluster.remove_node(node, allow_graceful=False),
        }
        for number, (words, strike) in enumerate(scenarios.items()):
            since, folder = time.monotonic(), str(number)
            command = _start(
                place, folder, "--engine", "ray", "--address", cluster.address, "--deadline", f"{DEADLINE}s"
            )
            shards = place / folder / ".store"
            while not (len(list(shards.glob("*.json"))) >= 2 and _busy()):
                if command.poll() is not None or time.monotonic() - since > LIMIT:
                    break
                time.sleep(0.05)
            there = len(list(shards.glob("*.json")))
            if not 2 <= there < 12:
                command.kill()
                raise InputError(f"{words}: there was no middle to strike in.\n{_log(place, folder)}")
            strike()
            _end(command, place, folder)
            if _untimed(place / folder) != expected:
                raise InputError(f"{words}: the CSVs are not those of the local engine.")
            tell(f"{words}, after {there} of 12 stacks: the same CSVs, {time.monotonic() - since:.0f} s")
            for pid in _busy(stopped=True):
                os.kill(pid, signal.SIGKILL)
        ray.shutdown()
    tell(f"ray-check passed in {time.monotonic() - began:.0f} s")


def _start(place: Path, folder: str, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "reproduce", "run", "check", "--profile", "smoke", "--device", "cpu"]
    places = ["--grids", "grids", "--results", folder, "--csvs-only", "--seeds-per-round", "2"]
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    with open(place / f"{folder}.txt", "w", encoding="utf-8") as log:
        return subprocess.Popen([*command, *places, *words], cwd=place, env=env, stdout=log, stderr=log)


def _end(command: subprocess.Popen, place: Path, folder: str) -> None:
    try:
        status = command.wait(LIMIT)
    except subprocess.TimeoutExpired:
        command.kill()
        status = command.wait()
    if status:
        raise InputError(f"the command ended with status {status}:\n{_log(place, folder)}")


def _log(place: Path, folder: str) -> str:
    return (place / f"{folder}.txt").read_text(encoding="utf-8")[-3000:]


def _busy(stopped: bool = False) -> list[int]:
    """Ray's processes below this one that are at work on a task of ours, or stopped in the middle of one."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::_train"):
                state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                if _is_below(int(entry.name), os.getpid()) and (state == "T") is stopped:
                    found.append(int(entry.name))
    return found


def _is_below(pid: int, ancestor: int) -> bool:
    while pid not in (0, 1, ancestor):
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return pid == ancestor


def _untimed(results: Path) -> dict[str, Any]:
    """The content of the CSVs, columns of seconds aside."""
    content = {}
    for name in ("runs.csv", "curves.csv"):
        with open(results / "smoke" / "check" / name, encoding="utf-8", newline="") as file:
            timing = by_unit(name.removesuffix(".csv"), "s")
            content[name] = [{k: v for k, v in row.items() if k not in timing} for row in csv.DictReader(file)]
    return content
