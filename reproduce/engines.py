"""Engines: how the stacks of a plan get trained.

`local`: on a GPU one stack after another in this process; on a CPU in one single-threaded process per core, which for
networks this small beats one process with as many threads, and makes the numbers independent of the number of cores.
Stacks of the time lane come last, one after another in one process that has all cores, so that nothing runs beside them.
"""

import concurrent.futures
import ctypes
import dataclasses
import functools
import multiprocessing
import os
import queue
import signal
import subprocess
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from am.data import Data, held_out_size, load, prepare
from am.errors import InputError
from am.methods import method
from am.training import train
from reproduce.grid import PlannedRun, RunConfig
from reproduce.store import Store


def device_of(name: str) -> torch.device:
    """The device that the user named; raises InputError where it is not there."""
    if name not in ("cpu", "cuda", "auto"):
        raise InputError(f"unknown device '{name}'; valid: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("DEVICE=cuda was asked for and no CUDA device is available; use DEVICE=cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class DataOnDevice:
    """The data set in use, prepared once for consecutive stacks; only one stays on the device."""

    def __init__(self, folder: str | None, device: torch.device):
        self.folder, self.device = folder, device
        self._key: tuple | None = None
        self._data: Data | None = None

    def __call__(self, config: RunConfig) -> Data:
        key = (config.dataset, config.n_train, config.inputs)
        if key != self._key:
            self._data = None  # frees the last one before the next is made
            images = load(config.dataset, self.folder)
            available = len(images.x_train) - held_out_size(len(images.x_train))
            n_train = min(config.n_train or available, available)
            self._data = prepare(images, n_train, config.inputs, self.device)
            self._key = key
        return self._data


Stack = Sequence[PlannedRun]
Report = Callable[[int, float], None]  # (number of the stack, share of it that is done)


def run_local(
    stacks: Sequence[Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    jobs: int,
    report: Report,
    graphs: bool = False,
) -> None:
    """Train every stack and write its shard; stacks that another process is training are waited for at the end."""
    timed = [stack[0].config.lane == "time" for stack in stacks]
    cores = len(os.sched_getaffinity(0))
    for lane, processes, threads in ((False, jobs, 1), (True, 1, cores)):
        chosen = {i: stack for i, stack in enumerate(stacks) if timed[i] is lane}
        if processes == 1 and (device.type == "cuda" or threads == 1):
            _run_here(chosen, folder, device, results, threads, report, graphs)
        elif chosen:
            _run_pool(chosen, folder, device, results, processes, threads, report, graphs)


def _run_here(
    stacks: dict[int, Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    threads: int,
    report: Report,
    graphs: bool,
) -> None:
    if device.type == "cpu":
        torch.set_num_threads(threads)  # as every worker has: the numbers do not depend on the number of jobs
    data, store = DataOnDevice(folder, device), Store(results, quiet=True)
    work = lambda i, wait: work_on(stacks[i], data, store, wait, lambda share: report(i, share), graphs)
    for i in [i for i in stacks if not work(i, wait=False)]:
        work(i, wait=True)


def _run_pool(
    stacks: dict[int, Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    jobs: int,
    threads: int,
    report: Report,
    graphs: bool,
) -> None:
    context = multiprocessing.get_context("spawn")
    shares = context.Queue()
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, context, _start_worker, (folder, str(device), results, shares, os.getpid(), threads, graphs)
    )
    try:
        waiting = {pool.submit(_work_in_worker, i, stack, False): i for i, stack in stacks.items()}
        while waiting:
            done, _ = concurrent.futures.wait(waiting, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED)
            try:
                while True:
                    report(*shares.get_nowait())
            except queue.Empty:
                pass
            for future in done:
                i = waiting.pop(future)
                if future.result():
                    report(i, 1.0)
                else:
                    waiting[pool.submit(_work_in_worker, i, stacks[i], True)] = i
    except BrokenProcessPool:
        raise InputError(
            "a training process was killed, perhaps because memory ran out; nothing finished is lost, "
            "and the same command continues, with fewer processes by --jobs."
        ) from None
    finally:
        pool.shutdown(wait=not waiting, cancel_futures=True)
        if waiting:
            for process in multiprocessing.active_children():
                process.kill()


_worker: dict[str, Any] = {}


def _start_worker(
    folder: str | None, device: str, results: Path, shares: Any, parent: int, threads: int, graphs: bool
) -> None:
    # A worker must not outlive a parent that was killed: it would hold its stack's lock and train for nobody.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    reuse_freed_memory()
    data, store = DataOnDevice(folder, torch.device(device)), Store(results, quiet=True)
    _worker.update(data=data, store=store, shares=shares, graphs=graphs)


def _work_in_worker(i: int, stack: Stack, wait: bool) -> bool:
    tell = lambda share: _worker["shares"].put((i, share))
    return work_on(stack, _worker["data"], _worker["store"], wait, tell, _worker["graphs"])


def reuse_freed_memory() -> None:
    """Let the C allocator keep what tensors free: by default it returns every large block and pays for fresh pages."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large block
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: keep the top of the heap
    except (OSError, AttributeError):
        pass  # another C library: nothing to tune, results are the same


def work_on(
    stack: Stack,
    data: "DataOnDevice",
    store: Store,
    wait: bool,
    progress: Callable[[float], None],
    graphs: bool = False,
) -> bool:
    """Train what is missing of a stack under its lock; False where another process holds it and `wait` is off."""
    with store.lock([run.run_key for run in stack], wait) as held:
        if not held:
            return False
        if todo := [run for run in stack if not store.finished(run.run_key)]:
            store.write(train_stack(todo, data, progress, graphs))
    return True


def train_stack(
    runs: Sequence[PlannedRun],
    data: Callable[[RunConfig], Data],
    progress: Callable[[float], None],
    graphs: bool = False,
) -> list[dict[str, Any]]:
    """Train one stack; a failure becomes rows of status "failed" with its sentence, never a gap."""
    config = runs[0].config
    chosen = method(config.method)
    origin = dict(torch=torch.__version__, commit=commit())
    n_train = config.n_train or None
    try:
        prepared = data(config)
        n_train = len(prepared.x)
        results = train(
            chosen,
            [chosen.settings(dict(run.config.settings)) for run in runs],
            [run.config.seed for run in runs],
            prepared,
            config.hidden,
            config.activation,
            config.init,
            config.budget,
            progress,
            graphs,
        )
    except InputError:
        raise
    except Exception as error:
        traceback.print_exc()
        sentence = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        blank = dict(status="failed", error=sentence, stack_runs=len(runs), curve=[])
        return [dict(run_key=run.run_key, n_train=n_train, **blank, **origin) for run in runs]
    return [
        dict(run_key=run.run_key, error="", n_train=n_train, **dataclasses.asdict(result), **origin)
        for run, result in zip(runs, results)
    ]


@functools.cache
def commit() -> str:
    """The commit of the code that runs, with '+' where the working tree differs from it; empty outside a checkout."""
    root = Path(__file__).parent.parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "am", "reproduce")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
