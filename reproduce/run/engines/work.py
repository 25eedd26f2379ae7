"""What every engine does with a stack, in whichever process: its data, its training, its rows."""

import ctypes
import dataclasses
import functools
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from am.counters import processor
from am.data import Data, Identity, Images, load, prepare, training_rows
from am.errors import InputError
from am.methods import method
from reproduce.evidence.config import RunConfig, components
from reproduce.evidence.key import run_key
from reproduce.evidence.store import Store
from reproduce.evidence.versions import in_words, of
from reproduce.plan.plan import PlannedRun
from reproduce.run.engines import Work
from reproduce.run.lanes import train_runs


def device_of(name: str) -> torch.device:
    """The device that the user named; raises InputError where it is not there."""
    if name not in ("cpu", "cuda", "auto"):
        raise InputError(f"unknown device '{name}'; valid: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("DEVICE=cuda was asked for and no CUDA device is available; use DEVICE=cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class DataOnDevice:
    """The data set in use, prepared once for consecutive stacks; only one stays on the device."""

    def __init__(self, folder: str | None, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self._key: tuple | None = None
        self._data: Data | None = None

    def __call__(self, config: RunConfig, images: Images | None = None) -> Data:
        key = (config.dataset, config.n_train, config.inputs)
        if key != self._key:
            self._data = None  # frees the last one before the next is made
            images = images or load(config.dataset, self.folder)
            n_train = training_rows(len(images.x_train), config.n_train)
            self._data = prepare(images, n_train, config.inputs, self.device)
            self._key = key
        return self._data


GROWN, SMALL = 1.25, 2**28  # a heap that grew by a quarter and 256 MB has holes
Stack = Sequence[PlannedRun]
Report = Callable[[int, float], None]  # (number of the stack, share of it that is done)


def reuse_freed_memory() -> Callable[[], None]:
    """Let the C allocator keep what tensors free: by default it returns every large block and pays for fresh pages.

    Returns what is to be called now and then: blocks of ever other sizes leave holes, past which the heap grows without
    end (three runs of mDLAM on 55,000 rows: by 80 MB an iteration). It gives them back.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large block
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: keep the top of the heap
        trim = libc.malloc_trim
    except (OSError, AttributeError):
        return lambda: None  # another C library: nothing to tune, results are the same
    kept = 0

    def give_back() -> None:
        nonlocal kept
        if resident_bytes() > GROWN * kept + SMALL:
            trim(0)
            kept = resident_bytes()

    return give_back


def resident_bytes() -> int:
    """Bytes of memory that this process occupies; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def trainer(work: Work) -> Callable[[Stack, bool, Callable[[float], None], float], Stack]:
    """`work_on` for this process, with its data and its view of the store: train(stack, wait, progress, latest)."""
    device = torch.device(work.device)
    if device.type == "cpu":
        torch.set_num_threads(work.threads)  # the numbers do not depend on the number of jobs
    # A process with a parent is there to train alone.
    give_back = reuse_freed_memory() if multiprocessing.parent_process() else lambda: None
    data, store = DataOnDevice(work.folder, device), Store(work.results, quiet=True)

    def train(stack: Stack, wait: bool, progress: Callable[[float], None], latest: float) -> Stack:
        def tell(share: float) -> None:
            give_back()
            progress(share)

        return work_on(stack, data, store, wait, tell, work.graphs, latest, work.debug)

    return train


def work_on(
    stack: Stack,
    data: "DataOnDevice",
    store: Store,
    wait: bool,
    progress: Callable[[float], None],
    graphs: bool = False,
    latest: float = float("inf"),
    debug: bool = False,
) -> Stack:
    """Train what is missing of a stack and free; returns the runs that another process holds, to come back for.

    wait: until one of them is free.  latest: where the monotonic clock says more, nothing is begun and none returned.
    """
    todo = [run for run in stack if not store.finished(run.run_key)]
    if not todo:
        return []
    with store.lock([run.run_key for run in todo], wait, latest) as held:
        if time.monotonic() > latest:
            return []
        free = [run for run in todo if run.run_key in held and not store.finished(run.run_key)]
        if free:
            store.write(train_stack(free, data, progress, graphs, debug))
    return [run for run in todo if run.run_key not in held and not store.finished(run.run_key)]


def train_stack(
    runs: Sequence[PlannedRun],
    data: Callable[[RunConfig], Data],
    progress: Callable[[float], None],
    graphs: bool = False,
    debug: bool = False,
) -> list[dict[str, Any]]:
    """Train one stack; a failure becomes rows of status "failed" with its sentence, never a gap.

    debug: print the traceback of a failure too.
    """
    config = runs[0].config
    chosen = method(config.method)
    origin = dict(torch=torch.__version__, commit=commit(), versions=in_words(of(components(config))))
    if any(run_key(run.config) != run.run_key for run in runs):
        raise InputError("the versions of the code have changed since this command began; start it again.")
    n_train = config.n_train or None
    try:
        prepared = data(config)
        n_train = len(prepared.x)
        results = train_runs(
            config,
            [chosen.settings(dict(run.config.settings)) for run in runs],
            [run.config.seed for run in runs],
            prepared,
            config.budget,
            progress=progress,
            graphs=graphs,
        )
    except InputError:
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        sentence = _sentence(error)
        print(f"{config.dataset}, {runs[0].label}: {sentence}", file=sys.stderr)
        blank = dict(status="failed", error=sentence, stack_runs=len(runs), curve=[])
        return [dict(run_key=run.run_key, n_train=n_train, **blank, **origin) for run in runs]
    origin["cpu"] = processor(prepared.x.device)
    return [
        dict(run_key=run.run_key, error="", n_train=n_train, **dataclasses.asdict(result), **origin)
        for run, result in zip(runs, results)
    ]


def alone(folder: str | None, device: torch.device) -> Callable[[RunConfig, str], dict[str, Any]]:
    """`train(config, key)`: one run by itself, as the accuracy lane trains it, as the store has it."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    loaded = DataOnDevice(folder, device)
    blank = Identity("", False, 0)
    return lambda config, key: train_stack([PlannedRun(config, key, config.method, blank)], loaded, lambda _: None)[0]


def _sentence(error: Exception) -> str:
    said = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in said:
        return "memory ran out for a single run; ask for fewer rows, a narrower network, or fewer processes by --jobs."
    return f"{type(error).__name__}: {said}"


CHECKOUT = Path(__file__).parents[3]


@functools.cache
def commit(root: Path = CHECKOUT) -> str:
    """The commit of the code, '+' where the working tree has other or further files; empty outside a checkout of it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "am", "reproduce")  # an installed copy may lie below another's checkout
        changed = git("status", "--porcelain", "--untracked-files=all", "--", "am", "reproduce")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
