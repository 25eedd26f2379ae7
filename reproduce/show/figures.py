"""Figures of a grid from its CSVs; the same CSVs give the same bytes.

Which kinds are drawn is read from the CSVs alone, never from the grid's name.
"""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from am.errors import InputError, unknown
from am.modules.networks import NETWORKS
from reproduce.evidence import door
from reproduce.evidence.about import NOTHING, About, Target
from reproduce.evidence.files import Stale, finite, malformed, read, sweep, write_whole
from reproduce.judge.claims import counted_from
from reproduce.show.curves import curve_pages
from reproduce.show.effects import activation_pages, cost_pages, gain_pages
from reproduce.show.factors import effect_pages, interaction_pages
from reproduce.show.finals import dot_pages
from reproduce.show.look import STYLE
from reproduce.show.panels import PUBLISHED, Marks, arrange
from reproduce.show.profiles import profile_pages
from reproduce.show.ranks import rank_pages
from reproduce.show.sensitivity import covered, sweep_pages
from reproduce.show.subsets import of_sizes, subset_pages
from reproduce.show.tables import tables_of

KINDS = (
    "accuracy_epochs", "accuracy_updates", "accuracy_gradients", "accuracy_seconds", "final_accuracy", "objective",
    "constraint_gap", "gradient_norm", "sensitivity", "critical_difference", "performance_profile", "activations",
    "activation_gain", "effects", "interaction", "cost", "subsets",
)  # fmt: skip
_ELSEWHERE = "choose another place with FIGURES="
_OF_MANY = ("sensitivity", "effects", "interaction")  # do not grow with the number of labels
_OF_SIZES = ("accuracy_epochs", "subsets")  # of a grid of sizes; the others would fill a page a size
LEGIBLE = 24  # labels of a grid; with more, and all of them points of `sensitivity`, no figure has a line for each
_RUN_COLUMNS = (
    "dataset", "activation", "hidden", "lane", "method", "label", "hyperparameters", "status", "run_key", "n_train",
    "seed", "iterations", "parameter_updates", "gradient_evaluations", "flops", "test_accuracy", "val_accuracy",
    "seconds", "data_official",
)  # fmt: skip
_CURVE_COLUMNS = (
    "run_key", "label", "iteration", "epoch", "parameter_updates", "gradient_evaluations", "test_accuracy",
    "val_accuracy", "objective", "constraint_gap", "gradient_norm", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """How figures are made for a paper: without title and notes, whose text goes to NAME.txt for the caption; of
    these methods alone, all of them where there are none; as wide as one column or two."""

    methods: tuple[str, ...] = ()
    one_column: bool = False


def figures_of(results: Path, grid: str, out: Path, about: About = NOTHING, paper: Paper | None = None) -> list[Path]:
    """Draw every figure of the grid from results/<grid>/{runs,curves}.csv into out/<grid>/, as PDF and PNG.

    accuracy_epochs, accuracy_updates, accuracy_seconds: test accuracy as it is learnt, updates where they are no
    multiple of the epochs, seconds in the time lane alone; accuracy_gradients: of networks of the module lane, where a
    gradient, partial or not, is a pass through it all; final_accuracy: every run's last test accuracy; objective,
    constraint_gap, gradient_norm: for the labels that have one; sensitivity: accuracy against a hyper-parameter, width
    or depth, where the grid sweeps one, and the runs that initial step sizes lose; critical_difference: average ranks
    over four data sets or more; performance_profile: costs to one target, where its reference is there;
    activations, activation_gain: where it has several; effects, interaction: of settings that are on or off in every
    combination; cost: of a block update, in the time lane; subsets: accuracy against the training images, of a grid of
    several sizes, of which only accuracy_epochs is drawn beside. Rows of panels that pass a page go on in NAME-2,
    NAME-3.
    Returns the files written, none where no run has finished; files of figures that are no longer drawn are deleted.
    Raises InputError where a CSV is missing or not one that this suite wrote.
    """
    runs, curves = csvs_of(results, grid)
    folder = out / grid
    written = []
    if paper and paper.methods:
        runs = _only(runs, paper.methods, results / grid / "runs.csv")
        curves = curves[curves.run_key.isin(runs.run_key) & curves.label.isin(runs.label)]
    marks = Marks(about.floors, reported(results, grid), counted_from(grid))
    with matplotlib.style.context(str(STYLE), after_reset=True):
        drawn = draw(runs, curves, about.title, about.target, marks, paper)
        for name, figure in drawn.items():
            for suffix in ("pdf", "png"):
                path = folder / f"{name}.{suffix}"
                save(figure, path)
                written.append(path)
            if paper:
                path = folder / f"{name}.txt"
                write_whole(path, f"{figure.get_label()}\n", _ELSEWHERE)
                written.append(path)
    for path in folder.glob("*"):
        if path not in written and re.fullmatch(rf"({'|'.join(KINDS)})(-\d+)?\.(pdf|png|txt)", path.name):
            path.unlink()
    return written


def csvs_of(results: Path, grid: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and the curves of a grid as `draw` takes them. Raises InputError where they are missing or disagree."""
    runs, curves = _constants_in_labels(_read_runs(results, grid), _read_curves(results, grid))
    _check_agreement(results, grid, runs, curves)
    return runs, curves


def reported(results: Path, grid: str) -> pd.DataFrame | None:
    """The numbers to be met by what the grid runs again; None without.

    From published/comparison.csv, what authors printed, and published/released_code.csv, what their code gave us.
    """
    there = [p for name in ("comparison", "released_code") if (p := results / "published" / f"{name}.csv").exists()]
    if not there:
        return None
    columns = ["grid", "label", "at", "theirs", "theirs_sd"]
    found = [read(path, columns)[columns].assign(printed=path.stem == "comparison") for path in there]
    table = pd.concat(found, ignore_index=True)
    return table[table.grid == grid]


def _only(runs: pd.DataFrame, methods: Sequence[str], path: Path) -> pd.DataFrame:
    for method in methods:
        if method not in set(runs.method):
            raise unknown("method", method, runs.method.unique(), str(path))
    return runs[runs.method.isin(methods)]


def refresh(grid: str, about: About, results: Path, figures: Path, note: Path) -> list[Path]:
    """Write the tables and figures of a grid whose CSVs are not those of the last time, as the file `note` tells.

    Returns the figures' files: none where there is no run yet or all is as it was.
    """
    csvs, folder = results / grid, figures / grid
    if not (csvs / "runs.csv").exists():
        return []
    # What was drawn is noted last, so that a stop before, also after the CSVs were written, draws again.
    sweep(folder)
    try:
        state = _state(grid, about, results, folder)
        if list(folder.glob("*.png")) and note.is_file() and note.read_bytes() == state.encode():
            return []
        tables_of(results, grid, about.title)
    except Stale:
        return []
    written = figures_of(results, grid, figures, about)
    if note.is_fifo():  # the note is the store's own, and without it all is drawn at every run
        note.unlink()
    write_whole(note, state)
    return written


def _state(grid: str, about: About, results: Path, figures: Path) -> str:
    """Hash of a grid's CSVs and of what else is drawn, and where; what is derived from it comes later and changes
    nothing."""
    names = ("runs.csv", "curves.csv", "summary.csv")
    content = b"".join(path.read_bytes() for name in names if (path := results / grid / name).is_file())
    numbers = reported(results, grid)
    beside = (about.title, about.targets, about.floors, numbers.to_csv() if numbers is not None else "")
    return f"{hashlib.sha256(content + repr(beside).encode()).hexdigest()} {figures.resolve()}\n"


def draw(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    title: str = "",
    target: Target | None = None,
    marks: Marks | None = None,
    paper: Paper | None = None,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Figure]:
    """Every figure of the kinds by name, under the style in force. runs, curves: as `csvs_of` reads them."""
    grid = arrange(runs, curves, title, marks, plain=paper is not None, one_column=bool(paper and paper.one_column))
    timed, multilayer = (runs.lane == "time").all(), not runs.network.isin(NETWORKS).any()
    makers = {
        "accuracy_epochs": lambda: curve_pages(grid, "epoch", "test_accuracy"),
        "accuracy_updates": lambda: curve_pages(grid, "parameter_updates", "test_accuracy"),
        "accuracy_gradients": lambda: [] if multilayer else curve_pages(grid, "block_gradients", "test_accuracy"),
        "accuracy_seconds": lambda: curve_pages(grid, "seconds", "test_accuracy") if timed else [],
        "final_accuracy": lambda: dot_pages(grid),
        "objective": lambda: curve_pages(grid, "iteration", "objective"),
        "constraint_gap": lambda: curve_pages(grid, "iteration", "constraint_gap"),
        "gradient_norm": lambda: curve_pages(grid, "parameter_updates", "smallest_gradient_norm"),
        "sensitivity": lambda: sweep_pages(grid),
        "critical_difference": lambda: rank_pages(grid),
        "performance_profile": lambda: profile_pages(grid, timed, target),
        "activations": lambda: activation_pages(grid),
        "activation_gain": lambda: gain_pages(grid),
        "effects": lambda: effect_pages(grid),
        "interaction": lambda: interaction_pages(grid),
        "cost": lambda: cost_pages(grid) if timed else [],
        "subsets": lambda: subset_pages(grid),
    }
    legible = len(grid.styles) <= LEGIBLE or not covered(grid)
    sized = of_sizes(grid)
    wanted = [
        kind for kind in KINDS if kind in kinds and (legible or kind in _OF_MANY) and (not sized or kind in _OF_SIZES)
    ]
    return {
        kind if number == 1 else f"{kind}-{number}": figure
        for kind in wanted
        for number, figure in enumerate(makers[kind](), 1)
    }


def _read_runs(results: Path, grid: str) -> pd.DataFrame:
    path = results / grid / "runs.csv"
    runs = finite(door.runs(path.parent, _RUN_COLUMNS))[list(_RUN_COLUMNS)]
    for name in ("constants", "network"):  # empty in CSVs from before the column
        runs[name] = door.text(path.parent, "runs", [name])[name]
    if runs.empty:
        raise malformed(path, "no runs in it")
    same = ["dataset", "n_train", "activation", "hidden", "constants", "label", "seed"]
    finished = runs[runs.status != "failed"]
    if finished.n_train.isna().any():
        raise malformed(path, "a finished run without n_train")
    twice = finished[finished.duplicated(same)]
    if len(twice):
        run = twice.iloc[0]
        raise malformed(path, f"two runs of '{run.label}' on {run.dataset} with seed {run.seed:g}")
    for text in runs.hyperparameters.unique():
        if not _is_object(text):
            raise malformed(path, f"'hyperparameters' {text}")
    return runs


def _constants_in_labels(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where a label has runs of both, those with constants as published say so."""
    both = runs.groupby("label").constants.nunique() > 1
    published = runs.run_key[(runs.constants == "published") & runs.label.map(both)]
    name = lambda frame: frame.label.where(~frame.run_key.isin(published), frame.label + PUBLISHED)
    return runs.assign(label=name(runs)), curves.assign(label=name(curves))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _read_curves(results: Path, grid: str) -> pd.DataFrame:
    # Without a train_loss, which tables of one's own may lack, no run is known to be lost.
    found = finite(door.curves(results / grid, _CURVE_COLUMNS))
    return found.reindex(columns=[*_CURVE_COLUMNS, "train_loss"])


def _check_agreement(results: Path, grid: str, runs: pd.DataFrame, curves: pd.DataFrame) -> None:
    path = results / grid / "curves.csv"
    strange = curves[~curves.run_key.isin(runs.run_key)]
    if len(strange):
        raise malformed(path, f"a curve of run {strange.run_key.iloc[0]}, which runs.csv has not")
    bare = runs[(runs.status == "done") & ~runs.run_key.isin(curves.run_key)]
    if len(bare):
        raise malformed(path, f"no curve of run {bare.run_key.iloc[0]}, which runs.csv calls done")


def svg_of(figure: Figure) -> str:
    """A figure as SVG with its text as text, the same on every run; coordinates to a hundredth of a point."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "am"}):
        figure.savefig(content, format="svg", metadata=dict(Creator=None, Date=None, Format=None, Type=None))
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, without dates or versions, so that equal figures are equal files."""
    metadata = dict(CreationDate=None, Creator=None, Producer=None) if path.suffix == ".pdf" else dict(Software=None)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], metadata=metadata)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); {_ELSEWHERE}.") from None
    write_whole(path, content.getvalue(), _ELSEWHERE)
