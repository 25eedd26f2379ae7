"""The command: the parts asked for, then targets and figure of everything that is in the folder."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from am.data import load, missing, prepare
from am.errors import InputError, unknown
from am.machine import cores
from reproduce.bench.figure import draw
from reproduce.bench.full_batch import iterations, precision, profiles
from reproduce.bench.limits import growth, limits
from reproduce.bench.measure import CLASSES, Bench, Scale
from reproduce.bench.memory import memory
from reproduce.bench.mini_batch import epochs, graphs, stacking
from reproduce.bench.targets import write_targets
from reproduce.evidence.files import write
from reproduce.run.copies import check_copies
from reproduce.run.engines.work import reuse_freed_memory

ALL_CORES = ("b", "c")


def bench(
    folder: str | None,
    device: torch.device,
    results: Path,
    figures: Path,
    only: Sequence[str] = (),
    scale: Scale | None = None,
    announce: Callable[[str], None] = print,
) -> Path:
    """Measure the parts, all or `only`, then judge and draw everything that is in the folder. Returns the folder."""
    for word in only:
        if word not in PARTS:
            raise unknown("part", word, PARTS, "bench")
        if word in GPU_ONLY and device.type != "cuda":
            raise InputError(f"bench {word} times CUDA graphs and the device is the {device.type}; use --device cuda.")
    if device.type == "cpu":
        reuse_freed_memory()
    scale = scale or Scale()
    x, y, data = rows_of(folder, scale.rows, device)
    b, name = Bench(device, x, y, data, scale), folder_name(device)
    out = results / name
    out.mkdir(parents=True, exist_ok=True)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    for part in only or [part for part in PARTS if device.type == "cuda" or part not in GPU_ONLY]:
        torch.set_num_threads(cores() if part in ALL_CORES else 1)
        same = dict(data=data, device=place, threads=torch.get_num_threads(), torch=torch.__version__)
        began = time.perf_counter()
        for table, frame in PARTS[part](b).items():
            write(out / f"{table}.csv", frame.assign(**same), digits=6)
        announce(f"bench {part}: {time.perf_counter() - began:.0f} s")
    write_targets(out, device)
    draw(out, figures / name)
    return out


def folder_name(device: torch.device) -> str:
    return "bench_gpu" if device.type == "cuda" else "bench"


def rows_of(folder: str | None, rows: int, device: torch.device) -> tuple[Tensor, Tensor, str]:
    """`rows` training images, from the start again where there are fewer, labels, and what they are in words."""
    check_copies(["mnist"], folder)
    if missing(["mnist"], folder):
        generator = torch.Generator().manual_seed(0)
        y = torch.randint(CLASSES, (rows,), generator=generator)
        # As MNIST's: in [0, 1], four pixels of five black, classes apart.
        prototypes = (torch.rand(CLASSES, 784, generator=generator) - 0.7).clamp(min=0) / 0.3
        noise = torch.rand(rows, 784, generator=generator)
        return (prototypes[y] * noise).to(device), y.to(device), "synthetic images, no MNIST in the data folder"
    images = prepare(load("mnist", folder), device=device)
    again = torch.arange(rows, device=device) % len(images.x)
    text = f"mnist, {min(rows, len(images.x))} training images"
    if rows > len(images.x):
        text += f" and the first {rows - len(images.x)} of them again"
    return images.x[again], images.y[again], text


PARTS: dict[str, Callable[[Bench], dict[str, pd.DataFrame]]] = dict(
    a=iterations, b=epochs, c=stacking, d=growth, e=limits, f=memory, g=precision, h=graphs, i=profiles
)
GPU_ONLY = ("h",)
