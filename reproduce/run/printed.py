"""A plan in words: what will run, what is already there, how long it should take and what memory it may need."""

import json
import os

import torch

from am.data import Size, data_folder
from am.machine import device_memory, worker_bytes
from reproduce.evidence.kept import not_counted
from reproduce.plan.plan import short_of_rows
from reproduce.run.lanes import needed_bytes
from reproduce.run.session import Machine, Outlook, Session, Stacks


def print_plan(session: Session, ahead: Outlook) -> None:
    """Say what training the session would do."""
    places, machine, asked = session.places, ahead.machine, session.goal.asked
    print(f"profile {places.profile} on {_where(machine)}; results in {places.results}/, figures in {places.figures}/")
    seconds = _seconds_of_grids(ahead)
    spans = {name: f", {duration(span):>7} to train" for name, span in seconds.items() if span}
    width, room = max(map(len, asked.grids), default=0), max(map(len, spans.values()), default=0)
    for name, grid in asked.grids.items():
        runs = ahead.plan.wanted[name]
        done = sum(session.store.finished(run.run_key) for run in runs)
        span = spans.get(name, "")
        print(f"  {name:<{width}}  {len(runs):5} runs, {done:5} already there{span:<{room}}   {grid.title}")
        if grid.replaced:
            values = ", ".join(f"{key} = {json.dumps(value)}" for key, value in grid.replaced.items())
            print(f"  {'':<{width}}  smoke, in place of what {grid.file} says: {values}")
        for why, count in not_counted(places.results / name).items():
            print(f"  {'':<{width}}  {count} runs in its CSVs do not count: each {why}")
        for sentence in short_of_rows(asked.narrowed[name], session.goal.identities):
            print(f"  {'':<{width}}  {sentence}")
    for name in session.goal.absent:
        print(f"  {_told_absent(name, session.goal.identities[name].fingerprint, places.data)}")
    if session.goal.narrowing.share:
        print("  share {} of {}".format(*session.goal.narrowing.share))
    if ahead.estimates:
        wall = ahead.estimates.altogether(ahead.stacks, machine.jobs)
        count = len({run.run_key for run in ahead.plan.missing(session.store)})
        of_one = f"; one process would take {duration(sum(seconds.values()))}" if machine.jobs > 1 else ""
        print(f"to train: {count} runs in {len(ahead.stacks)} stacks, about {duration(wall)}{of_one}")
        if (load := os.getloadavg()[0]) > 0.75 * (cores := os.cpu_count() or 1):
            print(f"Other work keeps this machine busy (load {load:.1f} on {cores} cores): that may be far too long.")
        print(_memory(machine, session.goal.shapes, ahead.stacks))


def _where(machine: Machine) -> str:
    where = torch.cuda.get_device_name() if machine.device.type == "cuda" else f"{machine.jobs} CPU processes"
    if machine.engine == "ray":
        return f"the Ray cluster at {machine.address}" if machine.address else f"a Ray cluster here, {where}"
    return where


def _seconds_of_grids(ahead: Outlook) -> dict[str, float]:
    """Seconds of one process that each grid's missing runs should take. What grids share counts in the first."""
    if ahead.estimates is None:
        return {}
    ahead.estimates.prepare(ahead.stacks)
    of = {run.run_key: ahead.estimates(stack) / len(stack) for stack in ahead.stacks for run in stack}
    return {name: sum(of.pop(run.run_key, 0.0) for run in runs) for name, runs in ahead.plan.wanted.items()}


def _told_absent(name: str, mark: str, folder: str | None) -> str:
    where = data_folder(folder)
    if not mark:
        return f"{name} is not in {where}/ and no collected row says which copy it was: its runs count as missing."
    return f"{name} is not in {where}/: planned is the copy that the collected rows were made of, SHA-256 {mark[:16]}."


def _memory(machine: Machine, shapes: dict[str, Size], stacks: Stacks) -> str:
    """The sentence that says what memory the training may take, and what its largest stack needs at the most."""
    sizes = []
    for stack in stacks:
        c = stack[0].config
        sizes.append(needed_bytes(c, shapes[c.dataset], len(stack)))
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    gigabytes = lambda size: f"{size / 1e9:.2g} GB"
    room = worker_bytes(machine.device, machine.jobs)
    return (
        f"memory: {gigabytes(device_memory(machine.device))}, up to {gigabytes(room)} for each of {machine.jobs} "
        f"processes; the largest stack, {len(stacks[largest])} of {stacks[largest][0].label}, "
        f"needs {gigabytes(sizes[largest])}" + (", more than that." if sizes[largest] > room else ".")
    )


def duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
