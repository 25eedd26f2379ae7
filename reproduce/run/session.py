"""A session: what one command works on, what it would train, and the training."""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from am.data import Identity, data_folder, dataset, ensure, identity_of, missing
from am.errors import InputError, unknown
from am.machine import device_memory, worker_bytes
from reproduce.evidence.places import PROFILES, RESULTS, figures_folder, place
from reproduce.evidence.store import Store
from reproduce.plan.grid import APART, Grid, grid_names, load_grid
from reproduce.plan.plan import PlannedRun, plan, rounds, share_of, short_of_rows, stacks
from reproduce.run.collect import collect, collect_trials, kept_by_key, kept_runs, not_counted
from reproduce.run.copies import check_copies, identities_of_rows
from reproduce.run.engines.local import run_local
from reproduce.run.engines.work import device_of
from reproduce.run.lanes import needed_bytes
from reproduce.run.seconds import Estimates, Progress, shown


class Session:
    """What one command works on: the grids under their profile, their plans, the store."""

    def __init__(self, args: argparse.Namespace, only_look: bool = False) -> None:
        """only_look: nothing is written or downloaded; of a data set that is not here, rows say which copy it was."""
        self.device = device_of(args.device)
        self.graphs = args.graphs
        if self.graphs and self.device.type != "cuda":
            raise InputError(
                "--graphs (GRAPHS=1) was asked for and the device is the CPU, which has no CUDA graphs; leave it out."
            )
        self.profile = args.profile or ("paper" if self.device.type == "cuda" else "light")
        self.place = args.results or RESULTS
        self.results = place(self.place, self.profile)
        self.figures = place(args.figures or figures_folder(args.results), self.profile)
        self.folder, self._grid_folder = args.data, args.grid_folder
        self.end = time.monotonic() + (getattr(args, "seconds", None) or math.inf)
        self.seeds_per_round = args.seeds_per_round
        self.share: tuple[int, int] | None = getattr(args, "share", None)
        self.engine, self.address, self.deadline = args.engine, args.address, args.deadline
        if self.address and self.engine != "ray":
            raise InputError("--address is that of a Ray cluster; it needs --engine ray.")
        if self.deadline and self.engine != "ray":
            raise InputError("--deadline is how long a stack may take on a Ray cluster; it needs --engine ray.")
        self.jobs_asked = args.jobs
        self.debug = args.debug
        self.jobs = args.jobs or (1 if self.device.type == "cuda" else len(os.sched_getaffinity(0)))
        every = [name for name in grid_names(args.grid_folder) if args.grid_folder or name not in APART]
        names = dict.fromkeys(name for word in args.grids for name in (every if word == "all" else [word]))
        load = functools.partial(load_grid, profile=self.profile, seeds=args.seeds, folder=args.grid_folder)
        self.grids = [load(name) for name in names]
        # The whole grid is what the CSVs hold; METHODS and DATASETS narrow what is trained now.
        methods, sets = ([word for word in words.split(",") if word] for words in (args.methods, args.datasets))
        self.narrowed = self._narrowed({name: load(name, only=methods) for name in names}, methods, sets)
        self.identities = self._identities(only_look)
        self.shapes = {name: dataset(name, self.folder).size(copy.rows) for name, copy in self.identities.items()}
        self.store = Store(self.place, only_look=only_look)
        self.plan()

    def _narrowed(self, grids: dict[str, Grid], methods: Sequence[str], sets: Sequence[str]) -> dict[str, Grid]:
        """The grids on these data sets alone, where some are named; raises InputError for what no grid has."""
        names = ", ".join(grids)
        there = {entry.method.name for grid in self.grids for entry in grid.entries}
        if absent := [word for word in methods if word not in there]:
            raise InputError(
                f"{names}: no method '{absent[0]}' there; it has {', '.join(sorted(there))}. To add it, write a line "
                f'[[methods]], and name = "{absent[0]}" below it, into {self.grids[-1].file}.'
            )
        there = {name for grid in self.grids for name in grid.datasets}
        if absent := [word for word in sets if word not in there]:
            raise unknown("data set", absent[0], there, names)
        on = lambda grid: [name for name in grid.datasets if not sets or name in sets]
        return {name: dataclasses.replace(grid, datasets=on(grid)) for name, grid in grids.items()}

    @functools.cached_property
    def estimates(self) -> Estimates:
        """Of stacks; it takes seconds to look through the store, so only those ask who have something to train."""
        known = [run for runs in self.plans.values() for run in runs]
        return Estimates(self.shapes, self.device, self.store.get, known, self._of_other_profiles())

    def _of_other_profiles(self) -> list[PlannedRun]:
        """The runs of the same grids under the other profiles, on the data sets that are here."""
        found = []
        for name, profile in itertools.product([grid.name for grid in self.grids], PROFILES):
            # What is wrong with a profile is said to those who ask for it.
            with contextlib.suppress(InputError):
                if profile != self.profile:
                    grid = load_grid(name, profile, folder=self._grid_folder)
                    here = [one for one in grid.datasets if one in self.identities]
                    found += plan(dataclasses.replace(grid, datasets=here), self.identities, self.store.get)
        return found

    def _identities(self, only_look: bool) -> dict[str, Identity]:
        """Of each data set the copy in its file, downloaded first where runs of it may be trained now.

        Elsewhere a file may be missing: then it is the copy that collected rows were made of, else one of no
        fingerprint, which no finished run has.
        """
        every, now = _sets_of(self.grids), () if only_look else _sets_of(self.narrowed.values())
        self.absent = missing([name for name in every if name not in now], self.folder)
        here = [name for name in every if name not in self.absent]
        check_copies(here, self.folder)
        ensure(here, self.folder, announce=print)
        known = [dataset(name, self.folder) for name in self.absent]
        found = {spec.name: Identity("", False, spec.train, spec.classes) for spec in known}
        if self.absent:
            found |= identities_of_rows(self.absent, [self.results / grid.name for grid in self.grids])
        return found | {name: identity_of(name, self.folder) for name in here}

    def plan(self) -> None:
        """Plan again: under rule "tuned" the runs that count are known once the trials are done."""
        self.plans = {grid.name: plan(grid, self.identities, self._found(grid)) for grid in self.grids}
        self.wanted = {name: self._wanted(grid) for name, grid in self.narrowed.items()}
        self.mine = share_of(list(self.wanted.values()), *self.share, self.seeds_per_round) if self.share else None

    def _wanted(self, grid: Grid) -> list[PlannedRun]:
        """The grid's runs. Of a share, those that count only once all trials are there: so all count stacks alike."""
        runs = plan(grid, self.identities, self.store.get)
        trials = [run for run in runs if run.trial is not None]
        return trials if self.share and not all(self.store.finished(run.run_key) for run in trials) else runs

    def waits(self, grid: Grid) -> bool:
        """Whether runs of this grid wait for trials of other shares."""
        return grid.rule == "tuned" and all(run.trial is not None for run in self.wanted[grid.name])

    def _found(self, grid: Grid) -> Callable[[str], dict[str, Any] | None]:
        """Runs by key, also those that the CSVs alone still have: they keep their rows, and what was chosen of them."""
        kept = kept_by_key(grid, self.results)
        return lambda run_key: self.store.get(run_key) or kept.get(run_key)

    def missing(self) -> list[PlannedRun]:
        """Runs, of this share where there are shares, that are not there for good: not trained yet, or failed."""
        wanted = (run for runs in self.wanted.values() for run in runs if not self.store.finished(run.run_key))
        return [run for run in wanted if self.mine is None or run.run_key in self.mine]

    def pending(self) -> list[list[PlannedRun]]:
        """Stacks of what is missing, by rounds: of every grid the trials and the first seed, then of every the second.

        Grids that share a run train it once.
        """
        made, planned = [], set()
        missing = {run.run_key for run in self.missing()}
        for this_round in rounds(list(self.wanted.values()), self.seeds_per_round):
            fresh = [run for run in this_round if run.run_key in missing - planned]
            planned |= {run.run_key for run in fresh}
            made += stacks(fresh, self.shapes, self.device, self.jobs)
        return made

    def train(self) -> bool:
        """Print the plan and train what is missing of it; False where nothing was.

        With a time limit, stacks that would not end in time are not begun.
        """
        for grid in self.grids:
            kept_runs(
                self.results / grid.name, self.store
            )  # what a collect would refuse is refused before hours of work
        pending = self.pending()
        print_plan(self, pending)
        trained, tried = bool(pending), set()
        with self._engine() if pending else contextlib.nullcontext() as engine:
            while following := self._next(pending, tried):
                self._train(following, engine)
                # What failed or came too late is not tried twice by one command.
                tried |= {run.run_key for stack in following for run in stack}
                self.plan()
                pending = self.pending()
        return trained

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Callable[..., None]]:
        """What trains stacks, given what `run_local` is given and the seconds that each is expected to take."""
        if self.engine == "local":
            yield lambda *work, expected, **options: run_local(*work, **options)
            return
        from reproduce.run.engines.ray import DEADLINE, connected, run_ray  # Ray need not be installed

        with connected(self.address, self.device, self.jobs_asked) as ray:
            yield functools.partial(run_ray, ray=ray, least=self.deadline or DEADLINE)

    def _next(self, pending: list[list[PlannedRun]], tried: set[str]) -> list[list[PlannedRun]]:
        """The stacks to hand to the engine at once: all, or one round of them.

        One round where runs wait for a choice among trials, and where there is a time lane: an engine takes it last.
        """
        left = [stack for stack in pending if not any(run.run_key in tried for run in stack)]
        if all(stack[0].trial is None for stack in left) and len({stack[0].config.lane for stack in left}) < 2:
            return left
        for this_round in rounds(list(self.wanted.values()), self.seeds_per_round):
            keys = {run.run_key for run in this_round}
            if now := [stack for stack in left if stack[0].run_key in keys]:
                return now
        return []

    def _train(self, pending: list[list[PlannedRun]], engine: Callable[..., None]) -> None:
        began = time.monotonic()
        expected = [self.estimates(stack) for stack in pending]
        labels = [f"{stack[0].config.dataset}, {stack[0].label}" for stack in pending]
        progress = Progress(expected, labels, min(self.jobs, len(pending)))
        latest = [self.end - seconds for seconds in expected]
        with shown(progress, duration):
            work = (pending, self.folder, self.device, self.place, self.jobs, progress.report, self.graphs)
            engine(*work, latest=latest, debug=self.debug, expected=expected)
        self.store.refresh()
        trained = sum(self.store.get(run.run_key) is not None for stack in pending for run in stack)
        print(f"trained {trained} runs in {duration(time.monotonic() - began)}")

    def collect(self, grid: Grid) -> bool:
        """Write the CSVs of a grid's runs and trials; True where those of its runs changed."""
        runs = self.plans[grid.name]
        changed = collect(grid, [run for run in runs if run.trial is None], self.store, self.results)
        collect_trials(grid, runs, self.store, self.results)
        return changed


def _sets_of(grids: Iterable[Grid]) -> list[str]:
    """The data sets of the grids."""
    return sorted({name for grid in grids for name in grid.datasets})


def print_plan(session: Session, pending: list[list[PlannedRun]]) -> None:
    where = torch.cuda.get_device_name() if session.device.type == "cuda" else f"{session.jobs} CPU processes"
    if session.engine == "ray":
        where = f"the Ray cluster at {session.address}" if session.address else f"a Ray cluster here, {where}"
    print(f"profile {session.profile} on {where}; results in {session.results}/, figures in {session.figures}/")
    seconds = _seconds_of_grids(session, pending) if pending else {}
    spans = {name: f", {duration(span):>7} to train" for name, span in seconds.items() if span}
    width, room = max(len(grid.name) for grid in session.grids), max(map(len, spans.values()), default=0)
    for grid in session.grids:
        runs = session.wanted[grid.name]
        done = sum(session.store.finished(run.run_key) for run in runs)
        span = spans.get(grid.name, "")
        print(f"  {grid.name:<{width}}  {len(runs):5} runs, {done:5} already there{span:<{room}}   {grid.title}")
        if grid.replaced:
            values = ", ".join(f"{key} = {json.dumps(value)}" for key, value in grid.replaced.items())
            print(f"  {'':<{width}}  smoke, in place of what {grid.file} says: {values}")
        for why, count in not_counted(session.results / grid.name).items():
            print(f"  {'':<{width}}  {count} runs in its CSVs do not count: each {why}")
        for sentence in short_of_rows(session.narrowed[grid.name], session.identities):
            print(f"  {'':<{width}}  {sentence}")
    for name in session.absent:
        print(f"  {_told_absent(session, name)}")
    if session.share:
        print("  share {} of {}".format(*session.share))
    if pending:
        wall = session.estimates.altogether(pending, session.jobs)
        count = len({run.run_key for run in session.missing()})
        of_one = f"; one process would take {duration(sum(seconds.values()))}" if session.jobs > 1 else ""
        print(f"to train: {count} runs in {len(pending)} stacks, about {duration(wall)}{of_one}")
        if (load := os.getloadavg()[0]) > 0.75 * (cores := os.cpu_count() or 1):
            print(f"Other work keeps this machine busy (load {load:.1f} on {cores} cores): that may be far too long.")
        print(memory(session, pending))


def _seconds_of_grids(session: Session, pending: list[list[PlannedRun]]) -> dict[str, float]:
    """Seconds of one process that each grid's missing runs should take. What grids share counts in the first."""
    session.estimates.prepare(pending)
    of = {run.run_key: session.estimates(stack) / len(stack) for stack in pending for run in stack}
    return {name: sum(of.pop(run.run_key, 0.0) for run in runs) for name, runs in session.wanted.items()}


def _told_absent(session: Session, name: str) -> str:
    mark, where = session.identities[name].fingerprint, data_folder(session.folder)
    if not mark:
        return f"{name} is not in {where}/ and no collected row says which copy it was: its runs count as missing."
    return f"{name} is not in {where}/: planned is the copy that the collected rows were made of, SHA-256 {mark[:16]}."


def memory(session: Session, pending: list[list[PlannedRun]]) -> str:
    """The sentence that says what memory the training may take, and what its largest stack needs at the most."""
    sizes = []
    for stack in pending:
        c = stack[0].config
        sizes.append(needed_bytes(c, session.shapes[c.dataset], len(stack)))
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    gigabytes = lambda size: f"{size / 1e9:.2g} GB"
    room = worker_bytes(session.device, session.jobs)
    return (
        f"memory: {gigabytes(device_memory(session.device))}, up to {gigabytes(room)} for each of {session.jobs} "
        f"processes; the largest stack, {len(pending[largest])} of {pending[largest][0].label}, "
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
