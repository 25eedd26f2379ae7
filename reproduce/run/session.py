"""A session: what one command works on, what it would train, and the training."""

import argparse
import operator
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from am.data import NAMES, ensure, identity_of, load, training_rows
from am.errors import InputError
from am.methods import method
from reproduce.run.collect import collect, collect_trials, kept_trials
from reproduce.run.copies import check_copies
from reproduce.run.engines.local import run_local
from reproduce.run.engines.work import device_of
from reproduce.run.grid import APART, Grid, grid_names, load_grid
from reproduce.run.plan import PlannedRun, plan, short_of_rows, stacks
from reproduce.run.store import Store


class Session:
    """What one command works on: the grids under their profile, their plans, the store."""

    def __init__(self, args: argparse.Namespace):
        self.device = device_of(args.device)
        self.graphs = args.graphs
        if self.graphs and self.device.type != "cuda":
            raise InputError(
                "--graphs (GRAPHS=1) was asked for and the device is the CPU, which has no CUDA graphs; leave it out."
            )
        self.profile = args.profile or ("paper" if self.device.type == "cuda" else "light")
        below = Path("smoke") if self.profile == "smoke" else Path()
        self.results = args.results or Path("results") / below
        self.figures = args.figures or Path("figures") / below
        self.folder = args.data
        self.jobs = args.jobs or (1 if self.device.type == "cuda" else len(os.sched_getaffinity(0)))
        every = [name for name in grid_names(args.grid_folder) if args.grid_folder or name not in APART]
        names = dict.fromkeys(name for word in args.grids for name in (every if word == "all" else [word]))
        only = [word for word in args.methods.split(",") if word]
        # The whole grid is what the CSVs hold; METHODS narrows what is trained now.
        self.grids = [load_grid(name, self.profile, args.seeds, folder=args.grid_folder) for name in names]
        wanted = {name: load_grid(name, self.profile, args.seeds, only, args.grid_folder) for name in names}
        there = {entry.method.name for grid in self.grids for entry in grid.entries}
        if absent := [word for word in only if word not in there]:
            raise InputError(f"{', '.join(names)}: no method '{absent[0]}' there; it has {', '.join(sorted(there))}.")
        sets = [name for name in NAMES if any(name in grid.datasets for grid in self.grids)]
        check_copies(sets, self.folder)
        ensure(sets, self.folder, announce=print)
        self.store = Store(self.results)
        self.identities = {name: identity_of(name, self.folder) for name in sets}
        self.narrowed = wanted
        self.shapes = {}
        self.plan()
        for name in sets if self.missing() else ():
            images = load(name, self.folder)
            self.shapes[name] = (images.x_train[0].size, len(images.x_train))

    def plan(self) -> None:
        """Plan again: under rule "tuned" the runs that count are known once the trials are done."""
        self.plans = {grid.name: plan(grid, self.identities, self._found(grid)) for grid in self.grids}
        self.wanted = {name: plan(grid, self.identities, self.store.get) for name, grid in self.narrowed.items()}

    def _found(self, grid: Grid) -> Callable[[str], dict[str, Any] | None]:
        """Runs by key, and trials that the CSVs alone still have: what was chosen among them keeps its rows."""
        if grid.rule != "tuned":
            return self.store.get
        kept = kept_trials(grid, self.results)
        return lambda run_key: self.store.get(run_key) or kept.get(run_key)

    def missing(self) -> list[PlannedRun]:
        return [run for runs in self.wanted.values() for run in runs if not self.store.finished(run.run_key)]

    def pending(self) -> list[list[PlannedRun]]:
        """Stacks, in whole, of which any run is missing. Grids that share a run train it once."""
        if not self.missing():
            return []
        made, planned = [], set()
        for runs in self.wanted.values():
            fresh = [run for run in runs if run.run_key not in planned]
            planned |= {run.run_key for run in fresh}
            made += stacks(fresh, self.shapes, self.device)
        return [stack for stack in made if any(not self.store.finished(run.run_key) for run in stack)]

    def train(self) -> bool:
        """Print the plan and train what is missing of it; False where nothing was."""
        pending = self.pending()
        print_plan(self, pending)
        trained, following = bool(pending), pending
        while following:
            self._train(following)
            self.plan()
            # A stack that failed is not tried twice by one command.
            done = {run.run_key for stack in pending for run in stack}
            following = [stack for stack in self.pending() if not any(run.run_key in done for run in stack)]
            pending += following
        return trained

    def _train(self, pending: list[list[PlannedRun]]) -> None:
        began, shares = time.monotonic(), [0.0] * len(pending)
        missing = [sum(not self.store.finished(run.run_key) for run in stack) for stack in pending]
        line = "{l_bar}{bar}| {n:.0f}/{total} runs [{elapsed}<{remaining}]{postfix}"
        every = 0.2 if sys.stderr.isatty() else 10.0  # seconds between lines; a log file needs few
        with tqdm(total=sum(missing), bar_format=line, mininterval=every, maxinterval=every) as bar:

            def report(i: int, share: float) -> None:
                shares[i] = max(shares[i], share)
                bar.set_postfix_str(f"{pending[i][0].config.dataset}, {pending[i][0].label}", refresh=False)
                bar.update(sum(map(operator.mul, shares, missing)) - bar.n)

            run_local(pending, self.folder, self.device, self.results, self.jobs, report, self.graphs)
        self.store.refresh()
        print(f"trained {sum(missing)} runs in {duration(time.monotonic() - began)}")

    def collect(self, grid: Grid) -> bool:
        """Write the CSVs of a grid's runs and trials; True where those of its runs changed."""
        runs = self.plans[grid.name]
        changed = collect(grid, [run for run in runs if run.trial is None], self.store, self.results)
        collect_trials(grid, runs, self.store, self.results)
        return changed


def print_plan(session: Session, pending: list[list[PlannedRun]]) -> None:
    where = torch.cuda.get_device_name() if session.device.type == "cuda" else f"{session.jobs} CPU processes"
    print(f"profile {session.profile} on {where}; results in {session.results}/, figures in {session.figures}/")
    width = max(len(grid.name) for grid in session.grids)
    for grid in session.grids:
        runs = session.wanted[grid.name]
        done = sum(session.store.finished(run.run_key) for run in runs)
        print(f"  {grid.name:<{width}}  {len(runs):5} runs, {done:5} already there   {grid.title}")
        for sentence in short_of_rows(session.narrowed[grid.name], session.identities):
            print(f"  {'':<{width}}  {sentence}")
    if pending:
        seconds = sum(estimate(session, stack) for stack in pending) / session.jobs
        count = len({run.run_key for run in session.missing()})
        print(f"to train: {count} runs in {len(pending)} stacks, about {duration(seconds)}")


def duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def estimate(session: Session, stack: list[PlannedRun]) -> float:
    """Seconds that a stack should take: its work over the same method's speed so far, else over a cautious guess."""
    speeds = _speeds(session)
    chosen = method(stack[0].config.method)
    todo = [run for run in stack if not session.store.finished(run.run_key)]
    guess = 8e10 if session.device.type == "cpu" else 2e12
    return sum(_work(session, run) for run in todo) / speeds.get(chosen.name, speeds.get("", guess))


def _speeds(session: Session) -> dict[str, float]:
    """Work per second of every method in the store, and of all of them under ""."""
    totals: dict[str, list[float]] = {}
    for runs in session.plans.values():
        for run in runs:
            found = session.store.get(run.run_key)
            if found and found["status"] == "done" and (session.shapes.get(run.config.dataset)):
                seconds = found["train_seconds"] + found["evaluate_seconds"]
                for name in (run.config.method, ""):
                    total = totals.setdefault(name, [0.0, 0.0])
                    total[0] += _work(session, run)
                    total[1] += seconds
    return {name: work / seconds for name, (work, seconds) in totals.items() if seconds > 0}


def _work(session: Session, run: PlannedRun) -> float:
    """A rough count of operations: passes over the data times parameters, with a floor for small steps."""
    c = run.config
    inputs, rows = session.shapes[c.dataset]
    rows = training_rows(rows, c.n_train)
    widths = (inputs, *c.hidden, 10)
    parameters = sum(a * b for a, b in zip(widths, widths[1:]))
    chosen = method(c.method)
    if chosen.full_batch:
        return c.epochs * rows * parameters * 10
    passes = chosen.gradients(len(c.hidden) + 1, chosen.settings(dict(c.settings)))
    return c.epochs * (rows // c.batch_size) * passes * (c.batch_size * parameters * 6 + 4e6)
