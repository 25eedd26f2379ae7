"""The training of a session: a list of runs through an engine into the store, and from there into the CSVs."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator

from reproduce.evidence.kept import kept_runs
from reproduce.plan.goal import Plan, pending, planned
from reproduce.run.collect import collect, collect_trials
from reproduce.run.engines.local import run_local
from reproduce.run.printed import duration, print_plan
from reproduce.run.seconds import Estimates, Progress, shown
from reproduce.run.session import Machine, Session, Stacks, outlook


def train(session: Session, until: float = math.inf) -> tuple[bool, Plan]:
    """Print the plan and train what is missing of it; whether anything was, and the plan at the end.

    until: by the monotonic clock; stacks that would not end by then are not begun.
    """
    goal, store, places = session.goal, session.store, session.places
    for name in goal.asked.grids:
        kept_runs(places.results / name, store)  # what a collect would refuse is refused before hours of work
    ahead = outlook(session)
    machine = ahead.machine
    print_plan(session, ahead)
    plan, left, tried = ahead.plan, ahead.rounds, set()
    with _engine(machine) if left else contextlib.nullcontext() as engine:
        while following := _next(left, tried):
            _train(following, engine, ahead.estimates, session, machine, until)
            # What failed or came too late is not tried twice by one command.
            tried |= {run.run_key for stack in following for run in stack}
            plan = planned(goal, store, places.results)
            left = pending(goal, plan, store, machine.device, machine.jobs)
    return bool(ahead.rounds), plan


@contextlib.contextmanager
def _engine(machine: Machine) -> Iterator[Callable[..., None]]:
    """What trains stacks, given what `run_local` is given and the seconds that each is expected to take."""
    if machine.engine == "local":
        yield lambda *work, expected, **options: run_local(*work, **options)
        return
    from reproduce.run.engines.ray import DEADLINE, connected, run_ray  # Ray need not be installed

    with connected(machine.address, machine.device, machine.cores) as ray:
        yield functools.partial(run_ray, ray=ray, least=machine.deadline or DEADLINE)


def _next(rounds: list[Stacks], tried: set[str]) -> Stacks:
    """The stacks to hand to the engine at once: all, or one round of them.

    One round where runs wait for a choice among trials, and where there is a time lane: an engine takes it last.
    """
    untried = lambda stack: not any(run.run_key in tried for run in stack)
    left = [some for found in rounds if (some := [stack for stack in found if untried(stack)])]
    every = [stack for some in left for stack in some]
    if all(stack[0].trial is None for stack in every) and len({stack[0].config.lane for stack in every}) < 2:
        return every
    return left[0]


def _train(
    stacks: Stacks, engine: Callable[..., None], estimates: Estimates, session: Session, machine: Machine, until: float
) -> None:
    began = time.monotonic()
    expected = [estimates(stack) for stack in stacks]
    labels = [f"{stack[0].config.dataset}, {stack[0].label}" for stack in stacks]
    progress = Progress(expected, labels, min(machine.jobs, len(stacks)))
    latest = [until - seconds for seconds in expected]
    with shown(progress, duration):
        work = (stacks, session.places.data, machine.device, session.places.root, machine.jobs, progress.report)
        engine(*work, machine.graphs, latest=latest, debug=machine.debug, expected=expected)
    session.store.refresh()
    trained = sum(session.store.get(run.run_key) is not None for stack in stacks for run in stack)
    print(f"trained {trained} runs in {duration(time.monotonic() - began)}")


def collected(session: Session, plan: Plan) -> Iterator[tuple[str, bool]]:
    """Write the CSVs of each grid's runs and trials; its name, and whether those of its runs changed."""
    store, results = session.store, session.places.results
    for name, grid in session.goal.asked.grids.items():
        changed = collect(grid, [run for run in plan.whole[name] if run.trial is None], store, results)
        collect_trials(grid, plan.whole[name], store, results)
        yield name, changed
