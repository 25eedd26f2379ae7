"""What a command is asked for: grids under a profile, whole and narrowed; and the runs that are to be there."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from am.data import Identity, Size, dataset
from am.errors import InputError, unknown
from reproduce.evidence.kept import kept_by_key
from reproduce.evidence.store import Store
from reproduce.plan.grid import APART, Grid, grid_names, load_grid
from reproduce.plan.plan import PlannedRun, plan, rounds, share_of, stacks


@dataclass(frozen=True)
class Narrowing:
    """What is taken of the grids, and in which order.

    seeds: over the grids' own.  methods, datasets: only these, where there are some.  share: the i-th of n.
    seeds_per_round: of every setting, before any grid goes on to further ones.
    """

    seeds: int | None = None
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    share: tuple[int, int] | None = None
    seeds_per_round: int = 1


@dataclass(frozen=True)
class Asked:
    """Grids by name: whole, as the CSVs hold them, and as far as they are trained now."""

    grids: dict[str, Grid]
    narrowed: dict[str, Grid]

    def datasets(self, now: bool = False) -> list[str]:
        """Those of the grids, or of what is trained now."""
        return sorted({name for grid in (self.narrowed if now else self.grids).values() for name in grid.datasets})


def asked(words: Sequence[str], profile: str, narrowing: Narrowing, folder: Path | None = None) -> Asked:
    """The grids that the words name, "all" among them. Raises InputError for what no grid has."""
    every = [name for name in grid_names(folder) if folder or name not in APART]
    names = dict.fromkeys(name for word in words for name in (every if word == "all" else [word]))
    load = functools.partial(load_grid, profile=profile, seeds=narrowing.seeds, folder=folder)
    grids = {name: load(name) for name in names}
    narrowed = {name: load(name, only=narrowing.methods) for name in names}
    there = {entry.method.name for grid in grids.values() for entry in grid.entries}
    if absent := [word for word in narrowing.methods if word not in there]:
        raise InputError(
            f"{', '.join(grids)}: no method '{absent[0]}' there; it has {', '.join(sorted(there))}. To add it, write a "
            f'line [[methods]], and name = "{absent[0]}" below it, into {list(grids.values())[-1].file}.'
        )
    there = {name for grid in grids.values() for name in grid.datasets}
    if absent := [word for word in narrowing.datasets if word not in there]:
        raise unknown("data set", absent[0], there, ", ".join(grids))
    on = lambda grid: [name for name in grid.datasets if not narrowing.datasets or name in narrowing.datasets]
    return Asked(grids, {name: dataclasses.replace(grid, datasets=on(grid)) for name, grid in narrowed.items()})


@dataclass(frozen=True)
class Goal:
    """What is asked for, and of each data set the copy that it is planned on.

    absent: the data sets whose files are not here; their copies are those that collected rows were made of.
    """

    asked: Asked
    narrowing: Narrowing
    identities: dict[str, Identity]
    absent: Sequence[str] = ()

    @property
    def shapes(self) -> dict[str, Size]:
        """How large the copy of each data set is."""
        return {name: dataset(name).size(copy.rows) for name, copy in self.identities.items()}


@dataclass(frozen=True)
class Plan:
    """The runs of each grid: all that its CSVs hold, and those that are wanted now. mine: the keys of the share's."""

    whole: dict[str, list[PlannedRun]]
    wanted: dict[str, list[PlannedRun]]
    mine: set[str] | None = None

    def missing(self, store: Store) -> list[PlannedRun]:
        """Wanted runs, of the share where there is one, that are not there for good: not trained yet, or failed."""
        wanted = (run for runs in self.wanted.values() for run in runs if not store.finished(run.run_key))
        return [run for run in wanted if self.mine is None or run.run_key in self.mine]

    def waits(self, grid: Grid) -> bool:
        """Whether runs of the grid wait for trials of other shares."""
        return grid.rule == "tuned" and all(run.trial is not None for run in self.wanted[grid.name])


def planned(goal: Goal, store: Store, results: Path) -> Plan:
    """The plan as the trials that are there allow it: under rule "tuned" the runs that count are known after them.

    results: the CSVs of the profile. Runs that they alone still have keep their rows, and what was chosen of them.
    """
    whole, wanted, share = {}, {}, goal.narrowing.share
    for name, grid in goal.asked.grids.items():
        kept = kept_by_key(results / name)
        whole[name] = plan(grid, goal.identities, lambda run_key, kept=kept: store.get(run_key) or kept.get(run_key))
        runs = plan(goal.asked.narrowed[name], goal.identities, store.get)
        trials = [run for run in runs if run.trial is not None]
        # Of a share, those that count only once all trials are there: so all count stacks alike.
        wait = share and not all(store.finished(run.run_key) for run in trials)
        wanted[name] = trials if wait else runs
    shared = share_of(list(wanted.values()), *share, goal.narrowing.seeds_per_round) if share else None
    return Plan(whole, wanted, shared)


def pending(goal: Goal, made: Plan, store: Store, device: torch.device, jobs: int) -> list[list[list[PlannedRun]]]:
    """The rounds of stacks of what is missing: of every grid the trials and the first seed, then of every the second.

    Grids that share a run train it once.
    """
    found, before = [], set()
    missing = {run.run_key for run in made.missing(store)}
    for this_round in rounds(list(made.wanted.values()), goal.narrowing.seeds_per_round):
        fresh = [run for run in this_round if run.run_key in missing - before]
        before |= {run.run_key for run in fresh}
        found.append(stacks(fresh, goal.shapes, device, jobs))
    return [some for some in found if some]


def of_other_profiles(goal: Goal, profiles: Iterable[str], store: Store, folder: Path | None) -> list[PlannedRun]:
    """The runs of the same grids under other profiles, on the data sets that are here."""
    found = []
    for name, profile in itertools.product(goal.asked.grids, profiles):
        with contextlib.suppress(InputError):  # what is wrong with a profile is said to those who ask for it
            grid = load_grid(name, profile, folder=folder)
            here = [one for one in grid.datasets if one in goal.identities]
            found += plan(dataclasses.replace(grid, datasets=here), goal.identities, store.get)
    return found
