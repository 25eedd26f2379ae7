"""The words of a command: its options, their types and their help. Nothing else knows argparse."""

import argparse
import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Never

from am.data import in_folder
from am.errors import InputError, unknown
from reproduce.cli import keeping, showing, training
from reproduce.cli.requests import Csvs, Training
from reproduce.evidence.places import FIGURES, PROFILES, RESULTS, figures_folder
from reproduce.plan.checks import MOST, clipped, shown
from reproduce.plan.grid import APART

MOST_JOBS = 1_000  # processes; more cores than any machine has
MOST_ROWS = 1_000_000  # of an audit


def _in_folder(folder: str | None, does: Callable[[], int | None]) -> int | None:
    """The command, for which the data folder is this one wherever none is given."""
    with in_folder(folder):
        return does()


def request(words: Sequence[str]) -> Callable[[], int | None]:
    """What the words ask for, to be called. Raises InputError for words that nothing understands."""
    for word in words:
        if not word.isprintable():
            raise InputError(f"the word {shown(word)} of the command has what cannot be printed; leave it out.")
    args, strange = (made := parser()).parse_known_args(words)
    if strange:
        raise InputError(_unrecognized(strange, made, args.command))
    options = {name: value for name, value in vars(args).items() if name not in ("command", "does", "takes")}
    if "figures" in options:
        options["figures"] = options["figures"] or figures_folder(options["results"])
    does = args.does
    if args.takes:
        mine = {f.name: options.pop(f.name) for f in dataclasses.fields(args.takes)}
        does = functools.partial(does, args.takes(**mine))
    return functools.partial(_in_folder, getattr(args, "data", None), functools.partial(does, **options))


class Parser(argparse.ArgumentParser):
    """Reports a bad word as every other bad input is reported: in one sentence, without the usage in front of it."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action.choices, dict) and value not in action.choices:  # a command; options say more themselves
            raise unknown("command", value, action.choices)
        super()._check_value(action, value)

    def error(self, message: str) -> Never:
        raise InputError(f"{message}; see `{self.prog} --help`.")


def parser() -> Parser:
    """The commands and their options."""
    about = "Run the grids, collect CSVs, draw figures."
    made = Parser(prog="python -m reproduce", description=about, allow_abbrev=False)
    found = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, does: Callable, text: str, grids: str = "", takes: type | None = None
    ) -> argparse.ArgumentParser:
        # No abbreviations: --seed is a slip for --seeds as much as --sed is, and says so.
        sub = found.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(does=does, takes=takes)
        if grids:
            sub.add_argument("grids", nargs="*", metavar="GRID", help=grids)
        return sub

    _add_training(command)
    _add_showing(command)
    _add_keeping(command)
    return made


def _add_training(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that plan, train and collect."""
    sub = command(
        "run",
        training.run,
        "Train what is missing of the grids, then collect and draw. Safe to stop and to repeat.",
        takes=Training,
    )
    _session_options(sub)
    _time_option(
        sub, "begin nothing that would not end within this time, for example 2h, 90m or 3600s; then collect and draw"
    )
    text = "write the CSVs alone; `figures`, `tables` and `claims` make the rest of them"
    sub.add_argument("--csvs-only", action="store_true", help=text)
    text = "Print what `run` would do: runs, what is already there, estimated time. Writes and downloads nothing."
    _session_options(command("plan", training.plan, text, takes=Training))
    _session_options(
        command("collect", training.collect, "Write the CSVs of the grids from the finished runs.", takes=Training)
    )


def _session_options(sub: argparse.ArgumentParser) -> None:
    """What a session is made of: grids, their scale, what narrows them, the machine, the places."""
    _grids_option(sub)
    text = f"grids to take, or 'all' (every grid but {', '.join(APART)})"
    sub.add_argument("grids", nargs="+", metavar="GRID", help=text)
    text = f"scale of the grids, one of {', '.join(PROFILES)} (default: paper with a GPU, light without)"
    sub.add_argument("--profile", help=text)
    sub.add_argument("--seeds", type=_whole(MOST["seeds"]), help="number of seeds, over the grid's own")
    sub.add_argument("--methods", default="", help="only these methods, separated by commas")
    sub.add_argument("--datasets", default="", help="only these data sets, separated by commas")
    sub.add_argument("--data", help="folder of prepared data sets, NAME.npz (default: $AM_DATA, else data)")
    sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default: cuda where there is one)")
    text = "processes to train with (default: the CPU's cores; 1 with a GPU)"
    sub.add_argument("--jobs", type=_whole(MOST_JOBS), help=text)
    text = "what trains: this machine, or Ray (default: local)"
    sub.add_argument("--engine", choices=("local", "ray"), default="local", help=text)
    text = "of a running Ray cluster (default: one of this machine, on 127.0.0.1, while the command runs)"
    sub.add_argument("--address", metavar="HOST:PORT", help=text)
    text = "with Ray, least time until a stack that gives no answer is handed out again (default: 600s)"
    sub.add_argument("--deadline", type=_seconds, metavar="TIME", help=text)
    text = "only every N-th stack of the plan, from the I-th on: 1/3, 2/3 and 3/3 on three machines are all"
    sub.add_argument("--share", type=_share, metavar="I/N", help=text)
    text = "replay mini-batch steps as CUDA graphs (default: launch them one by one); needs a GPU"
    sub.add_argument("--graphs", action="store_true", help=text)
    text = "seeds of every setting to train before any grid goes on to further ones (default: 1)"
    sub.add_argument("--seeds-per-round", type=_whole(MOST["seeds"]), default=1, metavar="N", help=text)
    sub.add_argument("--debug", action="store_true", help="print the traceback of a run that fails")
    below = "those of profiles light and smoke lie below it, in light and smoke"
    sub.add_argument("--results", type=_path, help=f"folder of CSVs (default: results); {below}")
    sub.add_argument("--figures", type=_path, help=f"folder of figures ({_FIGURES}); {below}")


def _add_showing(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that show and judge what the CSVs hold, and those that list what there is."""
    text = "Draw the figures of the grids from their CSVs."
    sub = command("figures", showing.figures, text, "grids to draw (default: all that have CSVs)", Csvs)
    _grids_option(sub)
    _places(sub, "results", "figures")
    text = "paper: without title and notes, whose text goes to NAME.txt, into paper_style below the figures"
    sub.add_argument("--style", choices=("full", "paper"), default="full", help=text)
    sub.add_argument("--methods", default="", help="with --style paper: only these methods, separated by commas")
    text = "with --style paper: columns of a two-column page that a figure may fill (default: 2)"
    sub.add_argument("--columns", type=int, choices=(1, 2), help=text)
    text = "Write table.md and table.tex of the grids from their CSVs, and fill those of README.md and docs/."
    sub = command("tables", showing.tables, text, "grids to write (default: all that have CSVs)", Csvs)
    _grids_option(sub)
    _places(sub, "results")
    text = "page with table markers to fill (default: README.md and docs/*.md, where they are)"
    sub.add_argument("--page", type=_path, help=text)
    text = "Judge the papers' claims on the CSVs: claims.csv, and published numbers beside ours."
    sub = command("claims", showing.claims, text)
    _grids_option(sub)
    _places(sub, "results")
    text = "Check that the runs and curves behind the figures bear out every verdict of claims.csv; fails where not."
    sub = command("check", showing.check, text)
    _grids_option(sub)
    _places(sub, "results", profile=False)
    text = "Write one HTML page from the CSVs and figures; it works offline."
    sub = command("report", showing.report, text)
    _grids_option(sub)
    _places(sub, "results", "figures")
    sub.add_argument("--out", type=_path, help="the page (default: report.html in the folder of CSVs of its profile)")
    text = "Of tuned grids, print the one trial of each method that is best over all data sets, to paste into a grid."
    sub = command("chosen", showing.chosen, text, takes=Csvs)
    sub.add_argument("grids", nargs="+", metavar="GRID", help="grids of rule 'tuned' that have a tuning.csv")
    _grids_option(sub)
    _places(sub, "results")
    text = "Measure the library's speed and memory: CSVs and a figure, bench."
    sub = command("bench", showing.bench, text)
    sub.add_argument("--data", help="folder of prepared data sets, NAME.npz (default: $AM_DATA, else data)")
    sub.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")
    _places(sub, "results", "figures", profile=False)
    text = "only these parts, letters separated by commas (default: all; h needs a GPU)"
    sub.add_argument("--only", default="", help=text)
    command("methods", showing.list_methods, "List the methods, their settings and search spaces.")
    sub = command("grids", showing.list_grids, "List the grids and the question that each answers.")
    _grids_option(sub)
    command("datasets", showing.list_datasets, "List the data sets.")
    sub = command("columns", showing.columns, "Write docs/columns.md: every column of every CSV.")
    sub.add_argument("--out", type=_path, default=Path("docs/columns.md"), help="the page")


def _add_keeping(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that keep house: the store, the rows of the CSVs, the cluster."""
    sub = command("adopt", keeping.adopt, "Take finished runs from the CSVs of results folders into the store.")
    sub.add_argument("folders", nargs="*", type=_path, metavar="FOLDER", help="results folders (default: --results)")
    _places(sub, "results", profile=False)
    sub = command("forget", keeping.forget, "Remove one run, by its key, from the store and from the CSVs.")
    sub.add_argument("key", metavar="KEY", help="the column run_key of runs.csv or tuning.csv")
    _places(sub, "results", profile=False)
    text = "Train finished runs of the CSVs again, drawn at random, and hold every number against its row: audit.csv."
    sub = command("audit", keeping.audit, text, "grids to draw from (default: all that have CSVs)", Csvs)
    _grids_option(sub)
    sub.add_argument("--rows", type=_whole(MOST_ROWS), default=10, metavar="N", help="runs to train (default: 10)")
    sub.add_argument("--draw", type=_whole(MOST_ROWS), default=1, metavar="K", help="which draw of them (default: 1)")
    sub.add_argument("--label", help="only runs of this label")
    sub.add_argument("--seed", type=_seed, help="only runs of this seed")
    _time_option(sub, "begin no other run after this time, for example 2h, 90m or 3600s")
    sub.add_argument("--data", help="folder of prepared data sets, NAME.npz (default: $AM_DATA, else data)")
    sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default: cuda where there is one)")
    _places(sub, "results")
    text = "Remove the rows that a grid plans no longer, its folder `former`."
    sub = command("prune", keeping.prune, text, "grids to prune (default: all that have CSVs)", Csvs)
    _grids_option(sub)
    _places(sub, "results")
    text = "Step the version of what moved and was meant to: versions.toml, and its fingerprints as they are now."
    sub = command("version", keeping.version, text)
    text = "components, separated by commas, for example method:tiam, or tiam where that is one alone"
    sub.add_argument("--of", required=True, help=text)
    sub.add_argument("--why", required=True, help="what moved, and why; a stale row says so")
    text = "the rows that are other now, by their facts, for example 'on = \"gpu\", stack_runs = 1' (default: all)"
    sub.add_argument("--moves", default="", help=text)
    command("fingerprints", keeping.fingerprints, "Write the fingerprints that are missing; those that are there stay.")
    sub = command("clean", keeping.clean, "Delete the store of finished runs; CSVs and figures stay.")
    _places(sub, "results", profile=False)
    command("raycheck", keeping.ray_check, "Check --engine ray on a local cluster of two nodes that loses one.")


def _grids_option(sub: argparse.ArgumentParser) -> None:
    text = "folder of your own grids, NAME.toml, in place of the suite's"
    sub.add_argument("--grids", type=_path, dest="grid_folder", metavar="FOLDER", help=text)


def _time_option(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("--for", type=_seconds, dest="seconds", metavar="TIME", help=text)


_FIGURES = f"default: {FIGURES}; below --results where that is another folder"


def _places(sub: argparse.ArgumentParser, *names: str, profile: bool = True) -> None:
    for name in names:
        if name == "figures":
            sub.add_argument("--figures", type=_path, help=f"folder of figures ({_FIGURES})")
        else:
            sub.add_argument("--results", type=_path, default=RESULTS, help=f"folder of CSVs (default: {RESULTS})")
    if profile:
        text = f"only the CSVs of this profile, one of {', '.join(PROFILES)} (default: of every one that has some)"
        sub.add_argument("--profile", help=text)


def _unrecognized(strange: Sequence[str], words: argparse.ArgumentParser, command: str) -> str:
    """The sentence for options that the command has not, with the nearest that it has."""
    (action,) = (action for action in words._actions if isinstance(action, argparse._SubParsersAction))
    options = [option for other in action.choices[command]._actions for option in other.option_strings]
    near = difflib.get_close_matches(strange[0].partition("=")[0], options, 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; see `{action.choices[command].prog} --help`."
    return f"unrecognized arguments: {clipped(' '.join(strange))}{hint}"


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # a shell leaves the ~ of --results=~/r as it is


def _whole(most: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from 1 to `most`."""

    def whole(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not text.strip("0"):
            raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{clipped(text)}'")
        if len(text) > 18 or int(text) > most:
            raise argparse.ArgumentTypeError(f"must be at most {most:,}, not {clipped(text)}")
        return int(text)

    return whole


def _seed(text: str) -> int:
    return 0 if text == "0" else _whole(MOST["first_seed"])(text)


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
