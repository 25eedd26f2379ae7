"""The command line: `python -m reproduce COMMAND --help`. The Makefile's targets are these commands."""

import argparse
import dataclasses
import hashlib
import operator
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from am.data import NAMES, data_folder, ensure, fingerprint_of, load
from am.errors import InputError
from am.methods import method, methods
from reproduce.engines import device_of, run_local
from reproduce.grid import APART, PROFILES, Grid, PlannedRun, grid_names, load_grid, plan, stacks
from reproduce.store import Store, write_whole


class Parser(argparse.ArgumentParser):
    """Reports a bad word as every other bad input is reported: in one sentence, without the usage in front of it."""

    def error(self, message: str):
        raise InputError(f"{message}; see `{self.prog} --help`.")


def parser() -> Parser:
    """The commands and their options."""
    made = Parser(prog="python -m reproduce", description="Run the grids, collect CSVs, draw figures.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, does, text: str, grids: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(does=does)
        if does in (run, show_plan, collect_only, figures_only, tables_only, report_only, list_grids):
            own = "folder of your own grids, NAME.toml, in place of the suite's"
            sub.add_argument("--grids", type=Path, dest="grid_folder", metavar="FOLDER", help=own)
        if grids:
            sub.add_argument("grids", nargs="+", metavar="GRID", help=f"grids to take, or 'all' (every grid but {', '.join(APART)})")
            sub.add_argument("--profile", help=f"scale of the grids, one of {', '.join(PROFILES)} (default: paper with a GPU, light without)")
            sub.add_argument("--seeds", type=_positive, help="number of seeds, over the grid's own")
            sub.add_argument("--methods", default="", help="only these methods, separated by commas")
            sub.add_argument("--data", help="folder of prepared data sets, NAME.npz (default: $AM_DATA, else data)")
            sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default: cuda where there is one)")
            sub.add_argument("--jobs", type=_positive, help="processes to train with (default: the CPU's cores; 1 with a GPU)")
            sub.add_argument("--graphs", action="store_true", help="replay mini-batch steps as CUDA graphs (default: launch them one by one); needs a GPU")
            sub.add_argument("--results", type=Path, help="folder of CSVs (default: results; results/smoke in profile smoke)")
            sub.add_argument("--figures", type=Path, help="folder of figures (default: figures; figures/smoke in profile smoke)")
        return sub

    command("run", run, "Train what is missing of the grids, then collect and draw. Safe to stop and to repeat.")
    command("plan", show_plan, "Print what `run` would do: runs, what is already there, estimated time.")
    command("collect", collect_only, "Write the CSVs of the grids from the finished runs.")
    sub = command("figures", figures_only, "Draw the figures of the grids from their CSVs.", grids=False)
    sub.add_argument("grids", nargs="*", metavar="GRID", help="grids to draw (default: all that have CSVs)")
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of CSVs")
    sub.add_argument("--figures", type=Path, default=Path("figures"), help="folder of figures")
    sub = command("tables", tables_only, "Write table.md and table.tex of the grids from their CSVs, and fill the README's tables.", grids=False)
    sub.add_argument("grids", nargs="*", metavar="GRID", help="grids to write (default: all that have CSVs)")
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of CSVs")
    sub.add_argument("--page", type=Path, default=Path("README.md"), help="page with table markers to fill")
    sub = command("claims", claims_only, "Judge the papers' claims on the CSVs: claims.csv, and published numbers beside ours.", grids=False)
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of CSVs")
    sub = command("report", report_only, "Write one HTML page from the CSVs and figures; it works offline.", grids=False)
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of CSVs")
    sub.add_argument("--figures", type=Path, default=Path("figures"), help="folder of figures")
    sub.add_argument("--out", type=Path, help="the page (default: report.html in the folder of CSVs)")
    sub = command("bench", bench_only, "Measure the library's speed and memory: CSVs and a figure, bench.", grids=False)
    sub.add_argument("--data", help="folder of prepared data sets, NAME.npz (default: $AM_DATA, else data)")
    sub.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of CSVs")
    sub.add_argument("--figures", type=Path, default=Path("figures"), help="folder of figures")
    sub.add_argument("--only", default="", help="only these parts, letters separated by commas (default: all; h needs a GPU)")
    sub.add_argument("--light", type=Path, metavar="BEFORE", help="instead, time a twentieth of profile light in that checkout and in this one")
    command("methods", list_methods, "List the methods, their settings and search spaces.", grids=False)
    command("grids", list_grids, "List the grids and the question that each answers.", grids=False)
    command("datasets", list_datasets, "List the data sets.", grids=False)
    sub = command("clean", clean, "Delete the store of finished runs; CSVs and figures stay.", grids=False)
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of CSVs")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = parser().parse_args(argv)
        return args.does(args) or 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; the same command continues where it was.", file=sys.stderr)
        return 130


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{text}'")
    return int(text)


class Session:
    """What one command works on: the grids under their profile, their plans, the store."""

    def __init__(self, args: argparse.Namespace):
        self.device = device_of(args.device)
        self.graphs = args.graphs
        if self.graphs and self.device.type != "cuda":
            raise InputError("--graphs (GRAPHS=1) was asked for and the device is the CPU, which has no CUDA graphs; leave it out.")
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
        ensure(sets, self.folder, announce=print)
        self.store = Store(self.results)
        self.fingerprints = {name: fingerprint_of(name, self.folder) for name in sets}
        self.narrowed = wanted
        self.shapes = {}
        self.plan()
        for name in sets if self.missing() else ():
            images = load(name, self.folder)
            self.shapes[name] = (images.x_train[0].size, len(images.x_train))

    def plan(self) -> None:
        """Plan again: under rule "tuned" the runs that count are known once the trials are done."""
        self.plans = {grid.name: plan(grid, self.fingerprints, self._found(grid)) for grid in self.grids}
        self.wanted = {name: plan(grid, self.fingerprints, self.store.get) for name, grid in self.narrowed.items()}

    def _found(self, grid: Grid) -> Callable[[str], dict[str, Any] | None]:
        """Runs by key, and trials that the CSVs alone still have: what was chosen among them keeps its rows."""
        if grid.rule != "tuned":
            return self.store.get
        from reproduce.collect import kept_trials

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


def show_plan(args: argparse.Namespace) -> None:
    session = Session(args)
    print_plan(session, session.pending())


def print_plan(session: Session, pending: list[list[PlannedRun]]) -> None:
    where = torch.cuda.get_device_name() if session.device.type == "cuda" else f"{session.jobs} CPU processes"
    print(f"profile {session.profile} on {where}; results in {session.results}/, figures in {session.figures}/")
    width = max(len(grid.name) for grid in session.grids)
    for grid in session.grids:
        runs = session.wanted[grid.name]
        done = sum(session.store.finished(run.run_key) for run in runs)
        print(f"  {grid.name:<{width}}  {len(runs):5} runs, {done:5} already there   {grid.title}")
    if pending:
        seconds = sum(estimate(session, stack) for stack in pending) / session.jobs
        count = len({run.run_key for run in session.missing()})
        print(f"to train: {count} runs in {len(pending)} stacks, about {_duration(seconds)}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def estimate(session: Session, stack: list[PlannedRun]) -> float:
    """Seconds that a stack should take: its work over the speed of the same method so far, else over a cautious guess."""
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
    rows = min(c.n_train or rows, rows)
    widths = (inputs, *c.hidden, 10)
    parameters = sum(a * b for a, b in zip(widths, widths[1:]))
    chosen = method(c.method)
    if chosen.full_batch:
        return c.epochs * rows * parameters * 10
    passes = chosen.gradients(len(c.hidden) + 1, chosen.settings(dict(c.settings)))
    return c.epochs * (rows // c.batch_size) * passes * (c.batch_size * parameters * 6 + 4e6)


def run(args: argparse.Namespace) -> None:
    session = Session(args)
    pending = session.pending()
    print_plan(session, pending)
    trained, following = bool(pending), pending
    while following:
        _train(session, following)
        session.plan()
        # A stack that failed is not tried twice by one command.
        done = {run.run_key for stack in pending for run in stack}
        following = [stack for stack in session.pending() if not any(run.run_key in done for run in stack)]
        pending += following
    from reproduce.figures import figures_of
    from reproduce.tables import tables_of

    for grid in session.grids:
        folder = session.figures / grid.name
        _collect(session, grid)
        if not (session.results / grid.name / "runs.csv").exists():
            continue  # no run of it yet: METHODS named none of its methods
        # What was drawn is noted last, so that a stop before, also after the CSVs were written, draws again.
        note, state = session.store.folder / f"{grid.name}.drawn", _state(session.results / grid.name, folder)
        if not list(folder.glob("*.png")) or not note.exists() or note.read_text() != state:
            tables_of(session.results, grid.name, grid.title)
            written = figures_of(session.results, grid.name, session.figures, grid.title)
            write_whole(note, state)
            print(f"{grid.name}: {session.results / grid.name}/*.csv, {len(written)} figure files in {folder}/")
    _judge(session.results)
    if failed := {run.run_key for run in session.missing()}:
        raise InputError(f"{len(failed)} runs failed; the column 'error' of runs.csv says why, and the same command tries them again.")
    if not trained:
        count = len({run.run_key for runs in session.wanted.values() for run in runs})
        print(f"Nothing to train: all {count} runs are there.")


def _collect(session: Session, grid: Grid) -> bool:
    from reproduce.collect import collect, collect_trials  # loads statistics, which plan and --help need not wait for

    runs = session.plans[grid.name]
    changed = collect(grid, [run for run in runs if run.trial is None], session.store, session.results)
    collect_trials(grid, runs, session.store, session.results)
    return changed


def _state(csvs: Path, figures: Path) -> str:
    """Hash of a grid's CSVs, and where they are drawn; what is derived from them comes later and changes nothing."""
    content = b"".join((csvs / name).read_bytes() for name in ("runs.csv", "curves.csv", "summary.csv"))
    return f"{hashlib.sha256(content).hexdigest()} {figures.resolve()}\n"


def _train(session: Session, pending: list[list[PlannedRun]]) -> None:
    began, shares = time.monotonic(), [0.0] * len(pending)
    missing = [sum(not session.store.finished(run.run_key) for run in stack) for stack in pending]
    line = "{l_bar}{bar}| {n:.0f}/{total} runs [{elapsed}<{remaining}]{postfix}"
    every = 0.2 if sys.stderr.isatty() else 10.0  # seconds between lines; a log file needs few
    with tqdm(total=sum(missing), bar_format=line, mininterval=every, maxinterval=every) as bar:

        def report(i: int, share: float) -> None:
            shares[i] = max(shares[i], share)
            bar.set_postfix_str(f"{pending[i][0].config.dataset}, {pending[i][0].label}", refresh=False)
            bar.update(sum(map(operator.mul, shares, missing)) - bar.n)

        run_local(pending, session.folder, session.device, session.results, session.jobs, report, session.graphs)
    session.store.refresh()
    print(f"trained {sum(missing)} runs in {_duration(time.monotonic() - began)}")


def collect_only(args: argparse.Namespace) -> None:
    session = Session(args)
    for grid in session.grids:
        changed = _collect(session, grid)
        folder = session.results / grid.name
        state = "written" if changed else "up to date" if (folder / "runs.csv").exists() else "no finished runs"
        print(f"{folder}: {state}")


def figures_only(args: argparse.Namespace) -> None:
    from reproduce.figures import figures_of

    for name in _with_csvs(args):
        for path in figures_of(args.results, name, args.figures, _title(name, args)):
            print(path)


def _with_csvs(args: argparse.Namespace) -> list[str]:
    known = grid_names(args.grid_folder)
    names = args.grids or [name for name in known if (args.results / name / "runs.csv").exists()]
    if not names:
        raise InputError(f"no grid has CSVs in {args.results}; run `make quickstart` or `make reproduce-all` first.")
    return names


def _title(name: str, args: argparse.Namespace) -> str:
    return load_grid(name, "light", folder=args.grid_folder).title


def tables_only(args: argparse.Namespace) -> None:
    from reproduce.tables import fill, tables_of

    for name in _with_csvs(args):
        for path in tables_of(args.results, name, _title(name, args)):
            print(path)
    if args.page.exists():
        print(f"{args.page}: {', '.join(fill(args.page, args.results)) or 'no table to fill'}")


def _judge(results: Path) -> None:
    from reproduce.claims import write_claims
    from reproduce.derived import write_derived
    from reproduce.published import write_comparison

    write_derived(results)
    path, verdicts = write_claims(results)
    print(f"{path}: " + ", ".join(f"{count} {word}" for word, count in verdicts.items()))
    if path := write_comparison(results):
        print(path)


def claims_only(args: argparse.Namespace) -> None:
    if not any(args.results.glob("*/runs.csv")):
        raise InputError(f"no grid has CSVs in {args.results}; run `make reproduce-all` first.")
    _judge(args.results)


def report_only(args: argparse.Namespace) -> None:
    from reproduce.report import write_report

    out = args.out or args.results / "report.html"
    for path in write_report(args.results, args.figures, out, args.grid_folder):
        print(f"{path} is not in it: the page would be too big")
    print(out)


def bench_only(args: argparse.Namespace) -> None:
    from reproduce.bench import bench, light

    if args.light:
        print(light(args.light, args.data, args.results))
        return
    only = [word for word in args.only.split(",") if word]
    print(f"{bench(args.data, device_of(args.device), args.results, args.figures, only)}/*.csv")


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
    folder = data_folder(None)
    for name in NAMES:
        place = "embedded" if name == "digits" else str(folder / f"{name}.npz")
        state = "" if name == "digits" or (folder / f"{name}.npz").exists() else "  (not there; fetched when first needed)"
        print(f"{name:<15} {place}{state}")


def clean(args: argparse.Namespace) -> None:
    shutil.rmtree(args.results / ".store", ignore_errors=True)
    print(f"{args.results}/.store deleted; CSVs and figures are untouched.")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    if status:
        sys.exit(status)  # the long way out: a command that was stopped may leave processes and semaphores
    # Skips the interpreter's teardown of the tensor library, which can take seconds.
    os._exit(status)
