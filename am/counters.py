"""Clocks and counters: three clocks that add up to the total, measured matrix-product FLOPs, and the device's name."""

import functools
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

CLOCKS = ("train", "evaluate", "record")


@dataclass
class Clocks:
    """Seconds of training, evaluation and recording. A reading waits for the device: no work leaks between clocks."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLOCKS, 0.0))
    _running: str | None = None
    _since: float = 0.0

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Count the time of the block to clock `name`; raises RuntimeError if another clock is running."""
        if self._running:
            raise RuntimeError(f"clock '{name}' started while '{self._running}' was running")
        self._running, self._since = name, self._now()
        try:
            yield
        finally:
            self.seconds[name] += self._now() - self._since
            self._running = None

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def flops_of(work: Callable[[], None]) -> int:
    """FLOPs of the matrix products that `work` makes, two for a multiply-add; elementwise work is not counted."""
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to load

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def device_name(device: torch.device, timed: bool) -> str:
    """What the run was trained on; seconds on a CPU mean nothing without its name and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {torch.get_num_threads()} threads" if timed else "cpu"


@functools.cache
def processor(device: torch.device) -> str:
    """Model and instructions of the CPU that a run is trained on, by which float32 sums round; "" on a GPU."""
    return "" if device.type == "cuda" else f"{_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
