"""The command line: `python -m reproduce COMMAND --help`. The Makefile's targets are these commands."""

import argparse
import dataclasses
import difflib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reproduce.stopping import SENTENCE, end_in_a_sentence

if __name__ == "__main__":
    end_in_a_sentence()  # before the imports that take seconds

from am.data import NAMES, data_folder
from am.errors import InputError, unknown
from am.methods import methods
from reproduce.files import Stale, make_folder, write_whole
from reproduce.run.adopt import adopt, folders_of
from reproduce.run.checks import MOST, clipped, shown
from reproduce.run.collect import prune, stale_runs
from reproduce.run.engines.work import device_of
from reproduce.run.grid import APART, Grid, grid_names, load_grid
from reproduce.run.places import PROFILES, grids_to_show, place, profiles_with_csvs
from reproduce.run.session import Session, print_plan
from reproduce.run.store import Store
from reproduce.schema import page

MOST_JOBS = 1_000  # processes; more cores than any machine has


class Parser(argparse.ArgumentParser):
    """Reports a bad word as every other bad input is reported: in one sentence, without the usage in front of it."""

    def error(self, message: str):
        raise InputError(f"{message}; see `{self.prog} --help`.")


def parser() -> Parser:
    """The commands and their options."""
    about = "Run the grids, collect CSVs, draw figures."
    made = Parser(prog="python -m reproduce", description=about, allow_abbrev=False)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, does, text: str, grids: bool = True) -> argparse.ArgumentParser:
        # No abbreviations: --seed is a slip for --seeds as much as --sed is, and says so.
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(does=does)
        if does in (run, show_plan, collect_only, figures_only, tables_only, claims_only, report_only, list_grids):
            own = "folder of your own grids, NAME.toml, in place of the suite's"
            sub.add_argument("--grids", type=Path, dest="grid_folder", metavar="FOLDER", help=own)
        if grids:
            sub.add_argument(
                "grids", nargs="+", metavar="GRID", help=f"grids to take, or 'all' (every grid but {', '.join(APART)})"
            )
            sub.add_argument(
                "--profile",
                help=f"scale of the grids, one of {', '.join(PROFILES)} (default: paper with a GPU, light without)",
            )
            sub.add_argument("--seeds", type=_whole(MOST["seeds"]), help="number of seeds, over the grid's own")
            sub.add_argument("--methods", default="", help="only these methods, separated by commas")
            sub.add_argument("--datasets", default="", help="only these data sets, separated by commas")
            sub.add_argument("--data", help="folder of prepared data sets, NAME.npz (default: $AM_DATA, else data)")
            sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default: cuda where there is one)")
            sub.add_argument(
                "--jobs",
                type=_whole(MOST_JOBS),
                help="processes to train with (default: the CPU's cores; 1 with a GPU)",
            )
            sub.add_argument(
                "--engine",
                choices=("local", "ray"),
                default="local",
                help="what trains: this machine, or Ray (default: local)",
            )
            sub.add_argument(
                "--address",
                metavar="HOST:PORT",
                help="of a running Ray cluster (default: one of this machine, on 127.0.0.1, while the command runs)",
            )
            sub.add_argument(
                "--deadline",
                type=_seconds,
                metavar="TIME",
                help="with Ray, least time until a stack that gives no answer is handed out again (default: 600s)",
            )
            sub.add_argument(
                "--share",
                type=_share,
                metavar="I/N",
                help="only every N-th stack of the plan, from the I-th on: 1/3, 2/3 and 3/3 on three machines are all",
            )
            sub.add_argument(
                "--graphs",
                action="store_true",
                help="replay mini-batch steps as CUDA graphs (default: launch them one by one); needs a GPU",
            )
            sub.add_argument(
                "--seeds-per-round",
                type=_whole(MOST["seeds"]),
                default=1,
                metavar="N",
                help="seeds of every setting to train before any grid goes on to further ones (default: 1)",
            )
            sub.add_argument("--debug", action="store_true", help="print the traceback of a run that fails")
            below = "those of profiles light and smoke lie below it, in light and smoke"
            sub.add_argument("--results", type=Path, help=f"folder of CSVs (default: results); {below}")
            sub.add_argument("--figures", type=Path, help=f"folder of figures (default: figures); {below}")
        return sub

    def places(sub: argparse.ArgumentParser, *names: str, profile: bool = True) -> None:
        for name in names:
            text = f"folder of {'CSVs' if name == 'results' else name} (default: {name})"
            sub.add_argument(f"--{name}", type=Path, default=Path(name), help=text)
        if profile:
            text = f"only the CSVs of this profile, one of {', '.join(PROFILES)} (default: of every one that has some)"
            sub.add_argument("--profile", help=text)

    sub = command("run", run, "Train what is missing of the grids, then collect and draw. Safe to stop and to repeat.")
    sub.add_argument(
        "--for",
        type=_seconds,
        dest="seconds",
        metavar="TIME",
        help="begin nothing that would not end within this time, for example 2h, 90m or 3600s; then collect and draw",
    )
    command("plan", show_plan, "Print what `run` would do: runs, what is already there, estimated time.")
    command("collect", collect_only, "Write the CSVs of the grids from the finished runs.")
    sub = command("figures", figures_only, "Draw the figures of the grids from their CSVs.", grids=False)
    sub.add_argument("grids", nargs="*", metavar="GRID", help="grids to draw (default: all that have CSVs)")
    places(sub, "results", "figures")
    sub = command(
        "tables",
        tables_only,
        "Write table.md and table.tex of the grids from their CSVs, and fill the README's tables.",
        grids=False,
    )
    sub.add_argument("grids", nargs="*", metavar="GRID", help="grids to write (default: all that have CSVs)")
    places(sub, "results")
    page_help = "page with table markers to fill (default: README.md, where there is one)"
    sub.add_argument("--page", type=Path, help=page_help)
    sub = command(
        "claims",
        claims_only,
        "Judge the papers' claims on the CSVs: claims.csv, and published numbers beside ours.",
        grids=False,
    )
    places(sub, "results")
    sub = command(
        "report", report_only, "Write one HTML page from the CSVs and figures; it works offline.", grids=False
    )
    places(sub, "results", "figures")
    sub.add_argument("--out", type=Path, help="the page (default: report.html in the folder of CSVs of its profile)")
    sub = command("bench", bench_only, "Measure the library's speed and memory: CSVs and a figure, bench.", grids=False)
    sub.add_argument("--data", help="folder of prepared data sets, NAME.npz (default: $AM_DATA, else data)")
    sub.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")
    places(sub, "results", "figures", profile=False)
    sub.add_argument(
        "--only", default="", help="only these parts, letters separated by commas (default: all; h needs a GPU)"
    )
    sub.add_argument(
        "--light",
        type=Path,
        metavar="BEFORE",
        help="instead, time a twentieth of profile light in that checkout and in this one",
    )
    sub.add_argument(
        "--earlier", type=Path, metavar="BEFORE", help="instead, time iterations of TIAM and mDLAM there and here"
    )
    command("raycheck", ray_check, "Check --engine ray on a local cluster of two nodes that loses one.", grids=False)
    command("methods", list_methods, "List the methods, their settings and search spaces.", grids=False)
    command("grids", list_grids, "List the grids and the question that each answers.", grids=False)
    command("datasets", list_datasets, "List the data sets.", grids=False)
    sub = command("columns", columns, "Write docs/columns.md: every column of every CSV.", grids=False)
    sub.add_argument("--out", type=Path, default=Path("docs/columns.md"), help="the page")
    sub = command(
        "adopt", adopt_only, "Take finished runs from the CSVs of results folders into the store.", grids=False
    )
    sub.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="results folders (default: --results)")
    places(sub, "results", profile=False)
    sub = command(
        "prune", prune_only, "Remove the stale rows, of other code or another grid, from the CSVs.", grids=False
    )
    sub.add_argument("grids", nargs="*", metavar="GRID", help="grids to prune (default: all that have CSVs)")
    places(sub, "results")
    sub = command("clean", clean, "Delete the store of finished runs; CSVs and figures stay.", grids=False)
    places(sub, "results", profile=False)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    try:
        for word in sys.argv[1:] if argv is None else argv:
            if not word.isprintable():
                raise InputError(f"the word {shown(word)} of the command has what cannot be printed; leave it out.")
        args, strange = (words := parser()).parse_known_args(argv)
        if strange:
            raise InputError(_unrecognized(strange, words, args.command))
        return args.does(args) or 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # a folder that is a file, a disk that is full: wherever it shows, it is one sentence
        if error.filename is None:
            raise
        print(f"{error.filename} cannot be read or written ({error.strerror}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{SENTENCE}", file=sys.stderr)
        return 130


def _unrecognized(strange: Sequence[str], words: argparse.ArgumentParser, command: str) -> str:
    """The sentence for options that the command has not, with the nearest that it has."""
    (action,) = (action for action in words._actions if isinstance(action, argparse._SubParsersAction))
    options = [option for other in action.choices[command]._actions for option in other.option_strings]
    near = difflib.get_close_matches(strange[0].partition("=")[0], options, 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; see `{action.choices[command].prog} --help`."
    return f"unrecognized arguments: {clipped(' '.join(strange))}{hint}"


def _whole(most: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from 1 to `most`."""

    def whole(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not text.strip("0"):
            raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{clipped(text)}'")
        if len(text) > 18 or int(text) > most:
            raise argparse.ArgumentTypeError(f"must be at most {most:,}, not {clipped(text)}")
        return int(text)

    return whole


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, for example 2/3, not '{text}'")
    return int(found[1]), int(found[2])


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hms])", text)
    if not found or not 0 < float(found[1]) < 1e6:
        raise argparse.ArgumentTypeError(f"must be a time, for example 2h, 90m or 3600s, not '{text}'")
    return float(found[1]) * dict(h=3600, m=60, s=1)[found[2]]


def show_plan(args: argparse.Namespace) -> None:
    session = Session(args)
    print_plan(session, session.pending())


def run(args: argparse.Namespace) -> None:
    from reproduce.show.figures import refresh

    session = Session(args)
    trained = session.train()
    for grid in session.grids:
        collect_grid(session, grid)
        written = refresh(grid, session.results, session.figures, session.store.folder)
        if written:
            csvs, drawn = session.results / grid.name, session.figures / grid.name
            print(f"{grid.name}: {csvs}/*.csv, {len(written)} figure files in {drawn}/")
    _judge(session.results, args.grid_folder)
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
            print(
                f"{', '.join(waiting)}: `adopt` the other shares' trials here, then the same command trains what counts."
            )
    elif not trained:
        count = len({run.run_key for runs in session.wanted.values() for run in runs})
        print(f"Nothing to train: all {count} runs are there.")


def collect_grid(session: Session, grid: Grid) -> bool:
    from reproduce.judge.summary import write_summary  # loads statistics, which plan and --help need not wait for

    changed = session.collect(grid)
    folder = session.results / grid.name
    if changed and (count := stale_runs(folder)):
        print(f"{folder}: {count} rows are stale, of other code or another grid; `make prune` removes them")
    return write_summary(folder) or changed


def collect_only(args: argparse.Namespace) -> None:
    session = Session(args)
    for grid in session.grids:
        changed = collect_grid(session, grid)
        folder = session.results / grid.name
        state = "written" if changed else "up to date" if (folder / "runs.csv").exists() else "no finished runs"
        print(f"{folder}: {state}")


def figures_only(args: argparse.Namespace) -> None:
    from reproduce.show.figures import figures_of

    for results, name, grid in _with_csvs(args):
        out = place(args.figures, grid.profile)
        with _told_if_stale():
            for path in figures_of(results, name, out, grid.title, next(iter(grid.targets), None)):
                print(path)


def _with_csvs(args: argparse.Namespace) -> Iterator[tuple[Path, str, Grid]]:
    """(folder of the profile, name, grid) of the grids asked for that have CSVs, under every profile that they have."""
    known = grid_names(args.grid_folder)
    for name in args.grids:
        if name not in known:
            raise unknown("grid", name, known)
    for profile, names in grids_to_show(args.results, args.grids, args.profile).items():
        for name in (name for name in names if name in known):
            yield place(args.results, profile), name, load_grid(name, profile, folder=args.grid_folder)


@contextmanager
def _told_if_stale() -> Iterator[None]:
    """A grid of none but stale rows is told, and the others go on."""
    try:
        yield
    except Stale as error:
        print(error, file=sys.stderr)


def tables_only(args: argparse.Namespace) -> None:
    from reproduce.show.tables import fill, tables_of

    for results, name, grid in _with_csvs(args):
        with _told_if_stale():
            for path in tables_of(results, name, grid.title):
                print(path)
    own = Path("README.md")
    if page := args.page or (own if own.exists() else None):
        print(f"{page}: {', '.join(fill(page, args.results)) or 'no table to fill'}")


def _judge(results: Path, grid_folder: Path | None = None) -> None:
    from reproduce.judge.claims import write_claims
    from reproduce.judge.derived import write_derived
    from reproduce.judge.published import write_comparison

    write_derived(results, grid_folder)
    path, verdicts = write_claims(results, grid_folder)
    print(f"{path}: " + ", ".join(f"{count} {word}" for word, count in verdicts.items()))
    if path := write_comparison(results):
        print(path)


def claims_only(args: argparse.Namespace) -> None:
    for profile in grids_to_show(args.results, profile=args.profile):
        _judge(place(args.results, profile), args.grid_folder)


def report_only(args: argparse.Namespace) -> None:
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
        for path in write_report(results, figures, out, args.grid_folder, beside):
            print(f"{path} is not in it: the page would be too big")
        print(out)


def adopt_only(args: argparse.Namespace) -> int:
    store = Store(args.results)
    refused = 0
    for source in args.folders or [args.results]:
        for folder in folders_of(source):
            report = adopt(folder, store)
            print(report)
            refused += len(report.refused)
            for sentence in report.refused:
                print(sentence, file=sys.stderr)
    return 2 if refused else 0


def prune_only(args: argparse.Namespace) -> None:
    from reproduce.judge.summary import write_summary

    for profile, names in grids_to_show(args.results, args.grids, args.profile).items():
        for name in names:
            folder = place(args.results, profile) / name
            count = prune(folder)
            write_summary(folder)
            print(f"{folder}: {count} stale rows removed")


def bench_only(args: argparse.Namespace) -> None:
    from reproduce.bench.command import bench, rows_of
    from reproduce.bench.earlier import earlier
    from reproduce.bench.measure import Scale
    from reproduce.bench.suite import light

    if args.light:
        print(light(args.light, args.data, args.results))
        return
    if args.earlier:
        print(earlier(args.earlier, *rows_of(args.data, Scale().rows, device_of("cpu")), args.results))
        return
    only = [word for word in args.only.split(",") if word]
    print(f"{bench(args.data, device_of(args.device), args.results, args.figures, only)}/*.csv")


def ray_check(args: argparse.Namespace) -> None:
    from reproduce.run.engines.ray_check import check  # Ray need not be installed

    check()


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
        state = (
            "" if name == "digits" or (folder / f"{name}.npz").exists() else "  (not there; fetched when first needed)"
        )
        print(f"{name:<15} {place}{state}")


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


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    if status:
        sys.exit(status)  # the long way out: a command that was refused may have processes to wait for
    # Skips the interpreter's teardown of the tensor library, which can take seconds.
    os._exit(status)
