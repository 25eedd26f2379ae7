"""The engine of one machine.

On a GPU one stack after another in this process; on a CPU in one single-threaded process per core, which for
networks this small beats one process with as many threads, and makes the numbers independent of the number of cores.
Stacks of the time lane come last, one after another in one process that has all cores: nothing runs beside them.
"""

import concurrent.futures
import ctypes
import multiprocessing
import os
import queue
import signal
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from am.errors import InputError
from reproduce.run.engines.work import DataOnDevice, Report, Stack, reuse_freed_memory, work_on
from reproduce.run.store import Store


def run_local(
    stacks: Sequence[Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    jobs: int,
    report: Report,
    graphs: bool = False,
    latest: Sequence[float] = (),
) -> None:
    """Train every stack and write its shard; runs that another process is training are waited for at the end.

    latest: of each stack, when by the monotonic clock it is too late to begin it; nothing: never.
    """
    latest = latest or [float("inf")] * len(stacks)
    timed = [stack[0].config.lane == "time" for stack in stacks]
    cores = len(os.sched_getaffinity(0))
    for lane, processes, threads in ((False, jobs, 1), (True, 1, cores)):
        chosen = {i: stack for i, stack in enumerate(stacks) if timed[i] is lane}
        if processes == 1 and (device.type == "cuda" or threads == 1):
            _run_here(chosen, folder, device, results, threads, report, graphs, latest)
        elif chosen:
            _run_pool(chosen, folder, device, results, processes, threads, report, graphs, latest)


def _run_here(
    stacks: dict[int, Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    threads: int,
    report: Report,
    graphs: bool,
    latest: Sequence[float],
) -> None:
    if device.type == "cpu":
        torch.set_num_threads(threads)  # as every worker has: the numbers do not depend on the number of jobs
    data, store = DataOnDevice(folder, device), Store(results, quiet=True)

    def work(i: int, stack: Stack, wait: bool) -> Stack:
        return work_on(stack, data, store, wait, lambda share: report(i, share), graphs, latest[i])

    for i, left in [(i, work(i, stack, wait=False)) for i, stack in stacks.items()]:
        while left:
            left = work(i, left, wait=True)


def _run_pool(
    stacks: dict[int, Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    jobs: int,
    threads: int,
    report: Report,
    graphs: bool,
    latest: Sequence[float],
) -> None:
    context = multiprocessing.get_context("spawn")
    shares = context.Queue()
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, context, _start_worker, (folder, str(device), results, shares, os.getpid(), threads, graphs)
    )
    try:
        waiting = {pool.submit(_work_in_worker, i, stack, False, latest[i]): i for i, stack in stacks.items()}
        while waiting:
            done, _ = concurrent.futures.wait(waiting, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED)
            try:
                while True:
                    report(*shares.get_nowait())
            except queue.Empty:
                pass
            for future in done:
                i = waiting.pop(future)
                if left := future.result():
                    waiting[pool.submit(_work_in_worker, i, left, True, latest[i])] = i
                else:
                    report(i, 1.0)
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


def _work_in_worker(i: int, stack: Stack, wait: bool, latest: float) -> Stack:
    tell = lambda share: _worker["shares"].put((i, share))
    return work_on(stack, _worker["data"], _worker["store"], wait, tell, _worker["graphs"], latest)
