"""The machine at hand: its memory, and how many runs it can train together. Nothing here changes a run's numbers."""

import os
from collections.abc import Sequence

import torch

from am.method import Method

CPU_STACK = 16  # past this many mini-batch runs the weights of a 784-100-100-10 net leave a CPU's cache


def run_bytes(method: Method, widths: Sequence[int], n_train: int, batch_size: int) -> int:
    """Bytes that one more run of a stack needs at the most, by its sizes."""
    parameters = sum(a * b for a, b in zip(widths, widths[1:]))
    rows = n_train if method.full_batch else batch_size
    # Live at once: z, a, their last iterates and temporaries of a step; parameters with moments and gradients.
    return 4 * (rows * (12 * sum(widths[1:]) + (0 if method.full_batch else 2 * widths[0])) + 10 * parameters)


def largest_stack(method: Method, widths: Sequence[int], n_train: int, batch_size: int, device: torch.device) -> int:
    """How many runs to train together: what the machine's memory holds, and on a CPU what its cache likes."""
    per_run = run_bytes(method, widths, n_train, batch_size)
    if device.type == "cuda":
        memory, cap = torch.cuda.get_device_properties(device).total_memory, 1024
    else:
        memory, cap = physical_memory(), CPU_STACK
    shared = 4 * n_train * widths[0] * 2
    return max(1, min(cap, int((0.4 * memory - shared) / per_run)))


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
