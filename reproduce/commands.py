"""The commands of `reproduce.__main__`, a function each: from the parsed options to what is printed and written."""

import argparse
import dataclasses
import functools
import itertools
import math
import random
import shutil
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from am.data import data_folder, identity_of, missing
from am.errors import InputError, unknown
from am.methods import methods
from reproduce.evidence import door
from reproduce.evidence.adopt import adopt as adopt_folder
from reproduce.evidence.adopt import folders_of
from reproduce.evidence.files import Stale, make_folder, write, write_whole
from reproduce.evidence.forget import forget as forget_run
from reproduce.evidence.places import FIGURES, PROFILES, grids_to_show, place, profiles_with_csvs
from reproduce.evidence.schema import page
from reproduce.evidence.store import Store
from reproduce.plan.chosen import chosen_of, profiles_with_trials
from reproduce.plan.grid import Grid, grid_names, load_grid
from reproduce.run.collect import former_runs
from reproduce.run.collect import prune as prune_csvs
from reproduce.run.copies import listing
from reproduce.run.engines.work import CHECKOUT, alone, commit, device_of
from reproduce.run.session import Session, print_plan


def plan(args: argparse.Namespace) -> None:
    session = Session(args, only_look=True)
    print_plan(session, session.pending())


def run(args: argparse.Namespace) -> None:
    session = Session(args)
    trained = session.train()
    for grid in session.grids:
        collect_grid(session, grid)
    if not args.csvs_only:
        from reproduce.judge.command import judge  # with the figures' modules seconds that CSVs alone do not need

        judge(session.place, [session.profile], args.grid_folder)
        part = (args.methods or args.datasets or args.seeds) and session.figures == place(FIGURES, session.profile)
        for grid in session.grids:  # after the numbers to be met, which they draw
            if part and (drawn := session.figures / grid.name).exists():  # whole, as committed
                print(f"{drawn}/ stays as it is, for this run was of a part; `make figures` draws what there is.")
            else:
                _draw(session, grid)
    missing = {run.run_key for run in session.missing()}
    if failed := {key for key in missing if session.store.get(key)}:
        raise InputError(
            f"{len(failed)} runs failed; the column 'error' of runs.csv says why, "
            "and the same command tries them again."
        )
    if missing:
        print(f"time is up: {len(missing)} runs are left, and the same command continues.")
    elif session.share:
        print("share {} of {}: all of its runs are there.".format(*session.share))
        if waiting := [grid.name for grid in session.grids if session.waits(grid)]:
            names = ", ".join(waiting)
            print(f"{names}: `adopt` the other shares' trials here, then the same command trains what counts.")
    elif not trained:
        count = len({run.run_key for runs in session.wanted.values() for run in runs})
        print(f"Nothing to train: all {count} runs are there.")


def _draw(session: Session, grid: Grid) -> None:
    """The figures and tables of a grid, where its CSVs have changed since they were made."""
    from reproduce.show.figures import refresh

    if written := refresh(grid, session.results, session.figures, session.store.folder):
        csvs, drawn = session.results / grid.name, session.figures / grid.name
        print(f"{grid.name}: {csvs}/*.csv, {len(written)} figure files in {drawn}/")


def collect_grid(session: Session, grid: Grid) -> bool:
    from reproduce.judge.summary import write_summary  # loads statistics, which plan and --help need not wait for

    changed = session.collect(grid)
    folder = session.results / grid.name
    if changed and (count := former_runs(folder)):
        print(f"{folder}: {count} runs are not of this grid any more and lie in former; `make prune` removes them")
    return write_summary(folder) or changed


def collect(args: argparse.Namespace) -> None:
    session = Session(args, only_look=True)
    for grid in session.grids:
        changed = collect_grid(session, grid)
        folder = session.results / grid.name
        state = "written" if changed else "up to date" if (folder / "runs.csv").exists() else "no finished runs"
        print(f"{folder}: {state}")


def figures(args: argparse.Namespace) -> None:
    from reproduce.show.figures import Paper, figures_of
    from reproduce.show.forest import draw_claims

    words = tuple(word for word in args.methods.split(",") if word)
    paper = Paper(words, args.columns == 1) if args.style == "paper" else None
    if paper is None and (words or args.columns):
        raise InputError("--methods and --columns go with --style paper.")
    root = args.figures / "paper_style" if paper else args.figures
    if not args.grids and not paper:
        for path in draw_claims(args.results, args.figures):
            print(path)
    has = _methods_of_each(args, words) if words and not args.grids else {}
    for results, name, grid in _with_csvs(args):
        out = place(root, grid.profile)
        with suppress(Stale):  # the door tells why no row counts, and the other grids go on
            target = next(iter(grid.targets), None)
            mine = dataclasses.replace(paper, methods=has[results, name]) if (results, name) in has else paper
            if words and not mine.methods:
                continue
            for path in figures_of(results, name, out, grid.title, target, grid.floors, mine):
                print(path)


def _methods_of_each(args: argparse.Namespace, words: Sequence[str]) -> dict[tuple[Path, str], tuple[str, ...]]:
    """(folder of the profile, grid) -> which of the methods it has; raises InputError for one that no grid has."""
    there = {}
    for results, name, _ in _with_csvs(args):
        with suppress(Stale):
            there[results, name] = set(door.text(results / name, "runs", ["method"])["method"])
    every = set().union(*there.values())
    if absent := [word for word in words if word not in every]:
        raise unknown("method", absent[0], sorted(every), str(args.results))
    return {key: tuple(word for word in words if word in found) for key, found in there.items()}


def _known(args: argparse.Namespace, others: Iterable[str] = ()) -> list[str]:
    """The names of all grids; raises InputError where one that is asked for is none of them, nor of `others`."""
    known = grid_names(args.grid_folder)
    for name in args.grids:
        if name not in (there := {*known, *others}):
            raise unknown("grid", name, there)
    return known


def _with_csvs(args: argparse.Namespace) -> Iterator[tuple[Path, str, Grid]]:
    """(folder of the profile, name, grid) of the grids asked for that have CSVs, under every profile that they have."""
    known = _known(args)
    for profile, names in grids_to_show(args.results, args.grids, args.profile).items():
        for name in (name for name in names if name in known):
            yield place(args.results, profile), name, load_grid(name, profile, folder=args.grid_folder)


def tables(args: argparse.Namespace) -> None:
    from reproduce.show.tables import fill, pages, tables_of

    for results, name, grid in _with_csvs(args):
        with suppress(Stale):  # the door tells why no row counts, and the other grids go on
            for path in tables_of(results, name, grid.title):
                print(path)
    for target in [args.page] if args.page else pages(Path()):
        print(f"{target}: {', '.join(fill(target, args.results)) or 'no table to fill'}")


def claims(args: argparse.Namespace) -> None:
    from reproduce.judge.command import judge

    judge(args.results, list(grids_to_show(args.results, profile=args.profile)), args.grid_folder)


def check(args: argparse.Namespace) -> None:
    from reproduce.judge import command

    command.check(args.results, args.grid_folder)


def report(args: argparse.Namespace) -> None:
    from reproduce.show.report import write_report

    found = profiles_with_csvs(args.results, args.profile) or [args.profile or "paper"]
    if args.out and len(found) > 1:
        raise InputError(
            f"there is a page for each of {', '.join(found)}; choose one with --profile, or leave --out out."
        )
    for profile in found:
        results, figures = place(args.results, profile), place(args.figures, profile)
        out = args.out or results / "report.html"
        beside = () if profile == "paper" else ((args.results, args.figures),)
        for path in write_report(results, figures, out, args.grid_folder, beside, profile):
            print(f"{path} is not in it: the page would be too big")
        print(out)


def adopt(args: argparse.Namespace) -> int:
    sources = [folders_of(source) for source in args.folders or [args.results]]
    store = Store(args.results, only_look=True)  # what is refused makes no folder
    refused = 0
    for folder in itertools.chain.from_iterable(sources):
        adopted = adopt_folder(folder, store)
        print(adopted)
        refused += len(adopted.refused)
        for sentence in adopted.refused:
            print(sentence, file=sys.stderr)
    return 2 if refused else 0


def forget(args: argparse.Namespace) -> None:
    print(forget_run(args.key, args.results))


def audit(args: argparse.Namespace) -> int:
    from reproduce.evidence import audit as auditing

    _known(args)
    grids = grids_to_show(args.results, args.grids, args.profile)
    folders = [place(args.results, profile) / name for profile, names in grids.items() for name in names]
    device = device_of(args.device)
    wanted = lambda row: True
    if args.label is not None or args.seed is not None:
        rows = [row for folder in folders for row in door.text(folder, "runs").to_dict("records")]
        wanted = auditing.named(rows, args.label, args.seed)
    here = functools.cache(lambda name: "" if missing([name], args.data) else identity_of(name, args.data).fingerprint)
    weight = auditing.weights(args.results, CHECKOUT if commit() else None)
    drawn, left = auditing.draw(folders, random.Random(args.draw), here, weight, wanted)
    if left:
        print(f"{left} finished runs are of images that are not in {data_folder(args.data)}/.")
    if not drawn:
        raise InputError(f"no run in {args.results} can be trained again here.")
    print(f"{min(args.rows, len(drawn))} of {len(drawn)} runs, trained again one by one:")
    latest = time.monotonic() + (args.seconds or math.inf)
    rows = []
    tell = lambda line: print(line, flush=True)
    for row in auditing.audit(drawn[: args.rows], alone(args.data, device), latest, tell):
        rows.append(row)
        write(args.results / "audit.csv", rows)  # at once, so that a stop loses none
    same, wrong = (sum(row[name] == said for row in rows) for name, said in (("same", "True"), ("holds", "False")))
    print(
        f"{len(rows)} runs: {same} the same in every digit, {len(rows) - same - wrong} near, {wrong} not; "
        f"with 95 % confidence at the most {100 * float(rows[-1]['wrong_at_most']):.3g} % of all would not hold"
    )
    return 1 if wrong else 0


def prune(args: argparse.Namespace) -> None:
    if args.profile and args.profile not in PROFILES:
        raise unknown("profile", args.profile, PROFILES)
    # Former rows may be of a grid whose file is elsewhere, or gone.
    profiles = [args.profile] if args.profile else PROFILES
    found = {path.parent for profile in profiles for path in place(args.results, profile).glob("*/former")}
    with_csvs = profiles_with_csvs(args.results, args.profile).values()
    _known(args, others={folder.name for folder in found}.union(*with_csvs))
    for folder in sorted(folder for folder in found if not args.grids or folder.name in args.grids):
        print(f"{folder}: {prune_csvs(folder)} former rows removed")


def chosen(args: argparse.Namespace) -> None:
    _known(args)
    for name in args.grids:
        for profile in profiles_with_trials(args.results, name, args.profile):
            grid = load_grid(name, profile, folder=args.grid_folder)
            print(f"# {grid.name}, profile {profile}: for each label the trial that is best over all data sets\n")
            print("\n\n".join(map(str, chosen_of(grid, place(args.results, profile)))))


def bench(args: argparse.Namespace) -> None:
    from reproduce.bench.command import bench as measured

    only = [word for word in args.only.split(",") if word]
    print(f"{measured(args.data, device_of(args.device), args.results, args.figures, only)}/*.csv")


def ray_check(args: argparse.Namespace) -> None:
    from reproduce.run.engines.ray_check import check  # Ray need not be installed

    check()


def version(args: argparse.Namespace) -> None:
    from reproduce.evidence.fingerprint import step_version

    try:
        moves = tomllib.loads(f"moves = {{ {args.moves} }}") if args.moves.isprintable() else {}
    except tomllib.TOMLDecodeError:
        moves = {}
    if list(moves) != ["moves"]:
        raise InputError(
            f"MOVES must be facts of rows, for example 'on = \"gpu\", stack_runs = 1', not {args.moves!r}."
        )
    of = [word.strip() for word in args.of.split(",") if word.strip()]
    print("\n".join(step_version(of, args.why, moves["moves"])))


def fingerprints(args: argparse.Namespace) -> None:
    from reproduce.evidence.fingerprint import write_missing

    print("\n".join(write_missing()) or "Every component has its fingerprints.")


def list_methods(args: argparse.Namespace) -> None:
    for name, chosen in methods().items():
        print(f"{name:<18} {chosen.title}: {chosen.family}, {'full batch' if chosen.full_batch else 'mini-batch'}")
        for f in dataclasses.fields(chosen.hyperparameters):
            search = f.metadata["search"]
            print(f"    {f.name} = {f.default!r:<14} {f.metadata['doc']}" + (f"; searched {search}" if search else ""))


def list_grids(args: argparse.Namespace) -> None:
    for name in grid_names(args.grid_folder):
        grid = load_grid(name, "light", folder=args.grid_folder)
        print(f"{name:<18} {grid.title} [{grid.paper}]\n    {grid.question}")


def list_datasets(args: argparse.Namespace) -> None:
    print("\n".join(listing()))


def columns(args: argparse.Namespace) -> None:
    make_folder(args.out.parent)
    write_whole(args.out, page())
    print(args.out)


def clean(args: argparse.Namespace) -> None:
    store = args.results / ".store"
    if store.is_symlink() or (store.exists() and not store.is_dir()):
        raise InputError(f"{store} is no folder of finished runs; it is left as it is.")
    if not store.exists():
        if not any(found for depth in ("*", "*/*") for found in args.results.glob(f"{depth}/runs.csv")):
            raise InputError(f"{args.results} is no results folder, with no .store and no CSVs; name it with RESULTS=.")
        print(f"{store} is not there: nothing to delete.")
        return
    shutil.rmtree(store)
    print(f"{store} deleted; CSVs and figures are untouched.")
