"""The machine at hand: its memory, and how many runs it can train together. Nothing here changes a run's numbers."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from am.method import Method

CPU_STACK = 16  # past this many mini-batch runs the weights of a 784-100-100-10 net leave a CPU's cache
SHARE = 0.4  # of the memory at hand; the rest is for the imports of each worker, the system, and what sizes do not tell
MOST_SHARE = 0.8  # of the memory at hand that all processes may need at the most, by what sizes tell
WORKER = 600_000_000  # bytes of a process before it has any data: the imports
CGROUPS = Path("/sys/fs/cgroup")


def run_bytes(method: Method, widths: Sequence[int], n_train: int, batch_size: int) -> int:
    """Bytes that one more run of a stack needs at the most, by its sizes."""
    parameters = sum(a * b for a, b in zip(widths, widths[1:]))
    rows = n_train if method.full_batch else batch_size
    # Live at once: z, a, their last iterates and temporaries of a step; parameters with moments and gradients.
    return 4 * (rows * (12 * sum(widths[1:]) + (0 if method.full_batch else 2 * widths[0])) + 10 * parameters)


def stack_bytes(method: Method, widths: Sequence[int], n_train: int, batch_size: int, runs: int) -> int:
    """Bytes that a worker needs at the most for a stack of `runs` runs and the data that they share."""
    return _data_bytes(widths, n_train) + runs * run_bytes(method, widths, n_train, batch_size)


def largest_stack(
    method: Method, widths: Sequence[int], n_train: int, batch_size: int, device: torch.device, workers: int = 1
) -> int:
    """How many runs to train together: what a worker's memory holds, and on a CPU what its cache likes."""
    room = worker_bytes(device, workers) - _data_bytes(widths, n_train)
    cap = 1024 if device.type == "cuda" else CPU_STACK
    return max(1, min(cap, int(room / run_bytes(method, widths, n_train, batch_size))))


def worker_bytes(device: torch.device, workers: int = 1) -> float:
    """Bytes that each of `workers` processes may take for its data and its stack."""
    return SHARE * device_memory(device) / workers


def processes(cores: int, memory: float, needed: float) -> int:
    """How many processes to train with: one a core, but no more than hold `needed` bytes each; 0 where none does."""
    return min(cores, int(MOST_SHARE * memory / (needed + WORKER)))


def device_memory(device: torch.device) -> int:
    """Bytes of memory of the device; of a CPU what the machine has and this process's cgroup allows."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return min(physical_memory(), cgroup_memory() or physical_memory())


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroup_memory(membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that the cgroups of this process, version 1 or 2, allow it at the most; None where they set no limit."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, file = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        group = root / path.lstrip("/")
        # A limit holds for all groups below it. In a container the path may be one that only its host sees.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            try:
                limits.append(int((folder / file).read_text(encoding="utf-8")))
            except (OSError, ValueError):  # "max", or no such group here
                pass
    return min(limits, default=None)


def _data_bytes(widths: Sequence[int], n_train: int) -> int:
    return 4 * n_train * widths[0] * 2
