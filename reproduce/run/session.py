"""A session: what one command works on, and what is left of it to train."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from am.data import Identity, dataset, ensure, identity_of, missing
from am.errors import InputError
from am.machine import device_memory, processes
from reproduce.evidence.copies import identities_of_rows
from reproduce.evidence.places import PROFILES, Places
from reproduce.evidence.store import Store
from reproduce.plan.goal import Asked, Goal, Narrowing, Plan, asked, of_other_profiles, pending, planned
from reproduce.plan.plan import PlannedRun
from reproduce.run.copies import check_copies
from reproduce.run.lanes import needed_bytes
from reproduce.run.seconds import Estimates

Stacks = list[list[PlannedRun]]


@dataclass(frozen=True)
class Machine:
    """What trains. jobs: processes of this machine.  cores: those asked for, of a cluster here; None: all.

    address: of a running Ray cluster.  deadline: seconds until its driver hands a stack out again; None: the usual.
    debug: print the traceback of a run that fails.
    """

    device: torch.device
    jobs: int
    cores: int | None = None
    engine: str = "local"
    address: str | None = None
    deadline: float | None = None
    graphs: bool = False
    debug: bool = False


@dataclass(frozen=True)
class Session:
    """What one command works on."""

    places: Places
    machine: Machine
    goal: Goal
    store: Store


def begin(
    words: Sequence[str], places: Places, narrowing: Narrowing, machine: Machine, only_look: bool = False
) -> Session:
    """The session of the grids that the words name.

    only_look: nothing is written or downloaded; of a data set that is not here, rows say which copy it was.
    """
    grids = asked(words, places.profile, narrowing, places.grids)
    absent, identities = _copies(grids, places.data, places.results, only_look)
    store = Store(places.root, only_look=only_look)
    return Session(places, machine, Goal(grids, narrowing, identities, absent), store)


def _copies(grids: Asked, folder: str | None, results: Path, only_look: bool) -> tuple[list[str], dict[str, Identity]]:
    """Of each data set the copy in its file, downloaded first where runs of it may be trained now; and the absent ones.

    Elsewhere a file may be missing: then it is the copy that collected rows were made of, else one of no fingerprint,
    which no finished run has.
    """
    every, now = grids.datasets(), [] if only_look else grids.datasets(now=True)
    absent = missing([name for name in every if name not in now], folder)
    here = [name for name in every if name not in absent]
    check_copies(here, folder)
    ensure(here, folder, announce=print)
    known = [dataset(name, folder) for name in absent]
    found = {spec.name: Identity("", False, spec.train, spec.classes) for spec in known}
    if absent:
        found |= identities_of_rows(absent, [results / name for name in grids.grids])
    return absent, found | {name: identity_of(name, folder) for name in here}


@dataclass(frozen=True)
class Outlook:
    """What is there and what is to be trained. estimates: of seconds; None where nothing is left.

    machine: with as many processes as its memory holds.
    """

    machine: Machine
    plan: Plan
    rounds: list[Stacks]
    estimates: Estimates | None

    @property
    def stacks(self) -> Stacks:
        return [stack for some in self.rounds for stack in some]


def _fitted(machine: Machine, goal: Goal, runs: Sequence[PlannedRun]) -> Machine:
    """The machine with no more processes than hold the largest of the runs at the same time."""
    if machine.device.type == "cuda" or machine.engine != "local" or not runs:
        return machine
    needs = [needed_bytes(run.config, goal.shapes[run.config.dataset], 1) for run in runs]
    largest, memory = runs[max(range(len(runs)), key=needs.__getitem__)], device_memory(machine.device)
    if jobs := processes(machine.jobs, memory, max(needs)):
        return replace(machine, jobs=jobs)
    raise InputError(
        f"a run of '{largest.label}' on {largest.config.dataset} needs {max(needs) / 1e9:.2g} GB and this machine has "
        f"{memory / 1e9:.2g} GB; ask for fewer rows or a narrower network, or name the others by METHODS= or DATASETS=."
    )


def outlook(session: Session) -> Outlook:
    """What is to be trained, and what that should take. Raises InputError for a run that no memory here holds."""
    goal, store = session.goal, session.store
    plan = planned(goal, store, session.places.results)
    machine = _fitted(session.machine, goal, plan.missing(store))
    left = pending(goal, plan, store, machine.device, machine.jobs)
    if not left:
        return Outlook(machine, plan, left, None)  # it takes seconds to look through the store
    others = [profile for profile in PROFILES if profile != session.places.profile]
    known = [run for runs in plan.whole.values() for run in runs]
    like = of_other_profiles(goal, others, store, session.places.grids)
    return Outlook(machine, plan, left, Estimates(goal.shapes, machine.device, store.get, known, like))
