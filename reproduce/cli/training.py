"""The commands that plan, train and collect."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

from am.errors import InputError
from reproduce.cli.requests import Training
from reproduce.evidence.kept import former_runs
from reproduce.evidence.places import FIGURES, place
from reproduce.plan.goal import Plan, planned
from reproduce.plan.grid import FOLDER, Grid, abouts
from reproduce.run.printed import print_plan
from reproduce.run.session import Session, begin, outlook
from reproduce.run.training import collected, train


def plan(asked: Training) -> None:
    """Print what `run` would do."""
    session = _session(asked, only_look=True)
    print_plan(session, outlook(session))


def run(asked: Training, seconds: float | None, csvs_only: bool) -> None:
    """Train what is missing, then collect, judge and draw. seconds: in which to begin what would end in them."""
    until = time.monotonic() + (seconds or math.inf)
    session = _session(asked)
    trained, made = train(session, until)
    for _ in _summaries(session, made):
        pass
    if not csvs_only:
        _show(session, part=bool(asked.methods or asked.datasets or asked.seeds))
    _tell(session, made, trained)


def collect(asked: Training) -> None:
    """Write the CSVs of the grids from the finished runs."""
    session = _session(asked, only_look=True)
    made = planned(session.goal, session.store, session.places.results)
    for folder, changed in _summaries(session, made):
        state = "written" if changed else "up to date" if (folder / "runs.csv").exists() else "no finished runs"
        print(f"{folder}: {state}")


def _session(asked: Training, only_look: bool = False) -> Session:
    machine = asked.machine()
    return begin(asked.grids, asked.places(machine.device), asked.narrowing, machine, only_look)


def _summaries(session: Session, made: Plan) -> Iterator[tuple[Path, bool]]:
    """Write the CSVs of each grid, its summary too; the folder, and whether any of them changed."""
    from reproduce.judge.summary import write_summary  # loads statistics, which plan and --help need not wait for

    for name, changed in collected(session, made):
        folder = session.places.results / name
        if changed and (count := former_runs(folder)):
            print(f"{folder}: {count} runs are not of this grid any more and lie in former; `make prune` removes them")
        yield folder, write_summary(folder) or changed


def _show(session: Session, part: bool) -> None:
    """Judge the claims, and draw each grid whose CSVs have changed. part: whether this run was of a part of them."""
    from reproduce.judge.command import judge  # with the figures' modules seconds that CSVs alone do not need

    places = session.places
    judge(places.root, [places.profile], abouts(places.grids, FOLDER))
    for name, grid in session.goal.asked.grids.items():  # after the numbers to be met, which they draw
        committed = places.figures == place(FIGURES, places.profile)
        if part and committed and (drawn := places.figures / name).exists():  # whole, as committed
            print(f"{drawn}/ stays as it is, for this run was of a part; `make figures` draws what there is.")
        else:
            _draw(session, grid)


def _draw(session: Session, grid: Grid) -> None:
    """The figures and tables of a grid, where its CSVs have changed since they were made."""
    from reproduce.show.figures import refresh

    places, note = session.places, session.store.folder / f"{grid.profile}.{grid.name}.drawn"
    if written := refresh(grid.name, grid.about, places.results, places.figures, note):
        csvs, drawn = places.results / grid.name, places.figures / grid.name
        print(f"{grid.name}: {csvs}/*.csv, {len(written)} figure files in {drawn}/")


def _tell(session: Session, made: Plan, trained: bool) -> None:
    """Say what is left, if anything is; raises InputError where runs failed."""
    goal, store = session.goal, session.store
    missing = {run.run_key for run in made.missing(store)}
    if failed := {key for key in missing if store.get(key)}:
        raise InputError(
            f"{len(failed)} runs failed; the column 'error' of runs.csv says why, "
            "and the same command tries them again."
        )
    if missing:
        print(f"time is up: {len(missing)} runs are left, and the same command continues.")
    elif goal.narrowing.share:
        print("share {} of {}: all of its runs are there.".format(*goal.narrowing.share))
        if waiting := [name for name, grid in goal.asked.grids.items() if made.waits(grid)]:
            names = ", ".join(waiting)
            print(f"{names}: `adopt` the other shares' trials here, then the same command trains what counts.")
    elif not trained:
        count = len({run.run_key for runs in made.wanted.values() for run in runs})
        print(f"Nothing to train: all {count} runs are there.")
