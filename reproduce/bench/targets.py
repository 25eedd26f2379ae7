"""Targets of the benchmark, and whether its CSVs reach them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from am.machine import CPU_STACK
from am.methods import method
from reproduce.bench.measure import BACKTRACKING, FULL_BATCH
from reproduce.evidence.files import read, write, write_whole


@dataclass(frozen=True)
class Target:
    """A number that a CSV must reach: column `value` of the rows that match, the worst of them."""

    target: str
    csv: str
    where: dict[str, Any]
    required: float
    value: str = "ratio"
    at_least: bool = True
    device: str = "both"


def _targets() -> list[Target]:
    narrow, wide, kept = "100-100", "1000-1000", "gradient kept"
    made = [
        Target(f"{title} iteration over the straightforward one, {net}", "iteration", where, required)
        for name, title, nets, required in (
            ("tiam", "TIAM", (narrow, wide), 8),
            ("mdlam", "mDLAM", (narrow, wide), 8),
            ("dladmm", "dlADMM", (narrow, wide), 8),
            ("bcd", "BCD", (wide,), 2),
        )
        for net in nets
        for where in [dict(method=name, hidden=net, majoriser=kept)]
    ]
    for name in BACKTRACKING:
        released = dict(method=name, majoriser="gradient recomputed, as released")
        title = f"{method(name).title} iteration over the one with the released majoriser, {narrow}"
        made.append(Target(title, "iteration", released, 8))
    for name in FULL_BATCH:
        title = f"{method(name).title} iterates off the straightforward ones, relative"
        made.append(Target(title, "iteration", dict(method=name), 1e-4, "difference", at_least=False))
    for name in FULL_BATCH:
        title = f"{method(name).title} iterates in float32 off float64, relative"
        made.append(Target(title, "precision", dict(method=name), 1e-4, "difference", at_least=False))
    for net in (narrow, wide):
        made.append(Target(f"TIAM share of the limit, {net}", "limit", dict(method="tiam", hidden=net), 0.5, "share"))
    for against, required in (("DataLoader", 3), ("tensors in memory", 1.8)):
        for name in ("sgd", "adam"):
            where = dict(method=name, runs=CPU_STACK, against=against)
            made.append(
                Target(
                    f"{method(name).title} epoch over the loop, {against}, {CPU_STACK} stacked",
                    "epoch",
                    where,
                    required,
                )
            )
    for against, required in (("DataLoader", 2.5), ("tensors in memory", 1.5)):
        for name in ("sgd", "adam"):
            where = dict(method=name, runs=1, against=against)
            title = f"{method(name).title} epoch over the loop, {against}, one run alone"
            made.append(Target(title, "epoch", where, required))
    made += [
        Target("AM-Adam epoch over per-layer autograd", "epoch", dict(method="am-adam", runs=CPU_STACK), 3),
        Target("SAMT step, FLOPs over the least", "limit", dict(method="samt"), 1.6, "flops_over_least", False),
        Target(
            "SAMT step, seconds over SGD's, over their FLOP ratio",
            "limit",
            dict(method="samt", runs=CPU_STACK),
            1.25,
            "seconds_over_flops_over_sgd",
            False,
        ),
        Target("16 stacked runs over runs in a row, batch 32", "stacking", dict(runs=16, batch=32), 2, device="cpu"),
        Target("64 stacked runs over runs in a row, batch 32", "stacking", dict(runs=64, batch=32), 30, device="cuda"),
        Target("CUDA graphs over eager steps, one run", "graphs", dict(runs=1), 3, device="cuda"),
    ]
    return made


def judged(target: Target, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """One row of targets.csv: the worst row that matches, with its interval where it has one."""
    row = dict(target=target.target, required=f"{'>=' if target.at_least else '<='} {target.required:g}")
    found = tables.get(target.csv, pd.DataFrame(columns=list(target.where)))
    for key, value in target.where.items():
        found = found[found[key] == value]
    found = found.dropna(subset=target.value) if target.value in found else found[:0]
    if found.empty:
        return row | dict(reached=None, low=None, high=None, met="not measured")
    worst = found.loc[found[target.value].idxmin() if target.at_least else found[target.value].idxmax()]
    reached = worst[target.value]
    met = reached >= target.required if target.at_least else reached <= target.required
    interval = dict(low=worst.get(f"{target.value}_low"), high=worst.get(f"{target.value}_high"))
    return row | dict(reached=reached, **interval, met="yes" if met else "no")


def write_targets(folder: Path, device: torch.device) -> Path:
    """targets.csv, and targets.md for a page, from the CSVs of the folder."""
    tables = {path.stem: read(path) for path in folder.glob("*.csv") if path.stem != "targets"}
    wanted = [target for target in _targets() if target.device in ("both", device.type)]
    path = folder / "targets.csv"
    rows = pd.DataFrame([judged(target, tables) for target in wanted])
    write(path, rows, digits=4)
    lines = ["| Target | Asked | Reached | Met |", "|---|---:|---:|---|"]
    for row in rows.itertuples():
        spread = f" ({row.low:.3g} to {row.high:.3g})" if pd.notna(row.low) else ""
        reached = f"{row.reached:.3g}{spread}" if pd.notna(row.reached) else "–"
        lines.append(f"| {row.target} | {row.required} | {reached} | {row.met} |")
    write_whole(path.with_suffix(".md"), "\n".join(lines) + "\n")
    return path
