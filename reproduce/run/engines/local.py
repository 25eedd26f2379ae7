"""The engine of one machine.

On a GPU one stack after another in this process; on a CPU in one single-threaded process per core, which for
networks this small beats one process with as many threads, and makes the numbers independent of the number of cores.
Stacks of the time lane come last, one after another in one process that has all cores: nothing runs beside them.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from am import machine
from am.errors import InputError
from reproduce.run.engines import Work
from reproduce.run.engines.work import Report, Stack, trainer
from reproduce.run.engines.worker import STOPS, serve


def run_local(
    stacks: Sequence[Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    jobs: int,
    report: Report,
    graphs: bool = False,
    latest: Sequence[float] = (),
    debug: bool = False,
) -> None:
    """Train every stack and write its shard; runs that another process is training are waited for at the end.

    latest: of each stack, when by the monotonic clock it is too late to begin it; nothing: never.
    debug: print the traceback of a stack that fails.
    """
    latest = latest or [float("inf")] * len(stacks)
    timed = [stack[0].config.lane == "time" for stack in stacks]
    cores = machine.cores()
    for lane, processes, threads in ((False, jobs, 1), (True, 1, cores)):
        chosen = {i: stack for i, stack in enumerate(stacks) if timed[i] is lane}
        work = Work(folder, str(device), results, threads, graphs, debug)
        if processes == 1 and (device.type == "cuda" or threads == 1):
            _run_here(chosen, work, report, latest)
        elif chosen:
            _run_workers(chosen, work, processes, report, latest)


def _run_here(stacks: dict[int, Stack], work: Work, report: Report, latest: Sequence[float]) -> None:
    train = trainer(work)

    def begin(i: int, stack: Stack, wait: bool) -> Stack:
        return train(stack, wait, lambda share: report(i, share), latest[i])

    for i, left in [(i, begin(i, stack, wait=False)) for i, stack in stacks.items()]:
        while left:
            left = begin(i, left, wait=True)


def _run_workers(stacks: dict[int, Stack], work: Work, jobs: int, report: Report, latest: Sequence[float]) -> None:
    waiting = deque((i, stack, False) for i, stack in stacks.items())
    workers, busy = _start(work, min(jobs, len(stacks))), set[Connection]()
    try:
        while waiting or busy:
            for pipe in workers:
                if waiting and pipe not in busy:
                    i, stack, again = waiting.popleft()
                    with _a_worker_there():
                        pipe.send((i, stack, again, latest[i]))
                    report(i, 0.0)
                    busy.add(pipe)
            for pipe in wait(list(busy)):
                with _a_worker_there():
                    kind, i, what = pipe.recv()
                if kind == "share":
                    report(i, what)
                    continue
                if kind == "error":
                    raise what
                busy.remove(pipe)
                if what:
                    waiting.append((i, what, True))
                else:
                    report(i, 1.0)
    finally:
        for process in workers.values():
            process.kill()
            process.join()


@contextmanager
def _a_worker_there() -> Iterator[None]:
    """Raises InputError where the other end of a pipe is gone."""
    try:
        yield
    except (EOFError, OSError):
        raise InputError(
            "a training process was killed, perhaps because memory ran out; nothing finished is lost, "
            "and the same command continues, with fewer processes by --jobs."
        ) from None


def _start(work: Work, jobs: int) -> dict[Connection, multiprocessing.process.BaseProcess]:
    """Worker processes, by the pipe to each."""
    context = multiprocessing.get_context("spawn")
    made = {}
    resource_tracker.ensure_running()  # here: it unblocks the signals when it has started
    # A worker keeps the signals blocked from its first moment: to stop is for its parent alone to say.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(work, os.getpid(), theirs), daemon=True)
            process.start()
            theirs.close()
            made[ours] = process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return made
