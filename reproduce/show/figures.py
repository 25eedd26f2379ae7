"""Figures of a grid from its CSVs; the same CSVs give the same bytes.

Which kinds are drawn is read from the CSVs alone, never from the grid's name.
"""

import hashlib
import io
import json
import re
from pathlib import Path

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from am.errors import InputError
from reproduce.files import Stale, finite, malformed, read, read_text, sweep, write_whole
from reproduce.run.grid import Grid, Target
from reproduce.run.modules.networks import NETWORKS
from reproduce.show.curves import curve_pages
from reproduce.show.effects import activation_pages, cost_pages, gain_pages
from reproduce.show.finals import dot_pages
from reproduce.show.look import STYLE
from reproduce.show.panels import arrange
from reproduce.show.profiles import profile_pages
from reproduce.show.ranks import rank_pages
from reproduce.show.sensitivity import covered, sweep_pages
from reproduce.show.tables import tables_of

KINDS = (
    "accuracy_epochs", "accuracy_updates", "accuracy_gradients", "accuracy_seconds", "final_accuracy", "objective",
    "constraint_gap", "gradient_norm", "sensitivity", "critical_difference", "performance_profile", "activations",
    "activation_gain", "cost",
)  # fmt: skip
LEGIBLE = 24  # labels of a grid; with more, and all of them points of `sensitivity`, no figure has a line for each
_RUN_COLUMNS = (
    "dataset", "activation", "hidden", "lane", "method", "label", "hyperparameters", "status", "run_key", "n_train",
    "seed", "parameter_updates", "flops", "test_accuracy", "val_accuracy", "seconds", "data_official",
)  # fmt: skip
_CURVE_COLUMNS = (
    "run_key", "label", "iteration", "epoch", "parameter_updates", "gradient_evaluations", "test_accuracy",
    "val_accuracy", "objective", "constraint_gap", "gradient_norm", "seconds",
)  # fmt: skip


def figures_of(results: Path, grid: str, out: Path, title: str = "", target: Target | None = None) -> list[Path]:
    """Draw every figure of the grid from results/<grid>/{runs,curves}.csv into out/<grid>/, as PDF and PNG.

    accuracy_epochs, accuracy_updates, accuracy_seconds: test accuracy as it is learnt, seconds in the time lane alone;
    accuracy_gradients: of networks of the module lane, where a gradient, partial or not, is a pass through it all;
    final_accuracy: every run's last test accuracy; objective, constraint_gap, gradient_norm: for the labels that have
    one; sensitivity: accuracy against a hyper-parameter, width or depth, where the grid sweeps one;
    critical_difference: average ranks over four data sets or more; performance_profile: costs to one target, where the
    `target`'s reference is there; activations, activation_gain: where it has several; cost: of a block update, in
    the time lane. Rows of panels that pass a page go on in NAME-2, NAME-3.
    Returns the files written, none where no run has finished; files of figures that are no longer drawn are deleted.
    Raises InputError where a CSV is missing or not one that this suite wrote.
    """
    runs, curves = _constants_in_labels(_read_runs(results, grid), _read_curves(results, grid))
    _check_agreement(results, grid, runs, curves)
    folder = out / grid
    written = []
    with matplotlib.style.context(str(STYLE), after_reset=True):
        drawn = draw(runs, curves, title, target)
        for name, figure in drawn.items():
            for suffix in ("pdf", "png"):
                path = folder / f"{name}.{suffix}"
                save(figure, path)
                written.append(path)
    for path in folder.glob("*"):
        if path not in written and re.fullmatch(rf"({'|'.join(KINDS)})(-\d+)?\.(pdf|png)", path.name):
            path.unlink()
    return written


def refresh(grid: Grid, results: Path, figures: Path, notes: Path) -> list[Path]:
    """Write the tables and figures of a grid whose CSVs are not those of the last time, as a note in `notes` tells.

    Returns the figures' files: none where there is no run yet or all is as it was.
    """
    csvs, folder = results / grid.name, figures / grid.name
    if not (csvs / "runs.csv").exists():
        return []
    # What was drawn is noted last, so that a stop before, also after the CSVs were written, draws again.
    sweep(folder)
    note = notes / f"{grid.profile}.{grid.name}.drawn"
    try:
        state = _state(csvs, folder)
        if list(folder.glob("*.png")) and note.is_file() and note.read_bytes() == state.encode():
            return []
        tables_of(results, grid.name, grid.title)
    except Stale:
        return []
    written = figures_of(results, grid.name, figures, grid.title, next(iter(grid.targets), None))
    if note.is_fifo():  # the note is the store's own, and without it all is drawn at every run
        note.unlink()
    write_whole(note, state)
    return written


def _state(csvs: Path, figures: Path) -> str:
    """Hash of a grid's CSVs, and where they are drawn; what is derived from them comes later and changes nothing."""
    names = ("runs.csv", "curves.csv", "summary.csv")
    content = b"".join(path.read_bytes() for name in names if (path := csvs / name).is_file())
    return f"{hashlib.sha256(content).hexdigest()} {figures.resolve()}\n"


def draw(runs: pd.DataFrame, curves: pd.DataFrame, title: str = "", target: Target | None = None) -> dict[str, Figure]:
    """Every figure by name, under the style in force. runs, curves: as `figures_of` reads them."""
    grid = arrange(runs, curves, title)
    pages = {"sensitivity": sweep_pages(grid)}
    if len(grid.styles) <= LEGIBLE or not covered(grid):
        timed, multilayer = (runs.lane == "time").all(), not runs.network.isin(NETWORKS).any()
        pages |= {
            "accuracy_epochs": curve_pages(grid, "epoch", "test_accuracy"),
            "accuracy_updates": curve_pages(grid, "parameter_updates", "test_accuracy"),
            "accuracy_gradients": [] if multilayer else curve_pages(grid, "gradient_evaluations", "test_accuracy"),
            "accuracy_seconds": curve_pages(grid, "seconds", "test_accuracy") if timed else [],
            "final_accuracy": dot_pages(grid),
            "objective": curve_pages(grid, "iteration", "objective"),
            "constraint_gap": curve_pages(grid, "iteration", "constraint_gap"),
            "gradient_norm": curve_pages(grid, "parameter_updates", "smallest_gradient_norm"),
            "critical_difference": rank_pages(grid),
            "performance_profile": profile_pages(grid, timed, target),
            "activations": activation_pages(grid),
            "activation_gain": gain_pages(grid),
            "cost": cost_pages(grid) if timed else [],
        }
    return {
        kind if number == 1 else f"{kind}-{number}": figure
        for kind in KINDS
        for number, figure in enumerate(pages.get(kind, []), 1)
    }


def _read_runs(results: Path, grid: str) -> pd.DataFrame:
    path = results / grid / "runs.csv"
    runs = finite(read(path, _RUN_COLUMNS))[list(_RUN_COLUMNS)]
    for name in ("constants", "network"):  # empty in CSVs from before the column
        runs[name] = read_text(path, [name])[name]
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
    """Where a grid shows both, the labels of runs with constants as published say so."""
    if not {"scaled", "published"} <= set(runs.constants):
        return runs, curves
    published = runs.run_key[runs.constants == "published"]
    name = lambda frame: frame.label.where(~frame.run_key.isin(published), frame.label + ", published constants")
    return runs.assign(label=name(runs)), curves.assign(label=name(curves))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _read_curves(results: Path, grid: str) -> pd.DataFrame:
    return finite(read(results / grid / "curves.csv", _CURVE_COLUMNS))[list(_CURVE_COLUMNS)]


def _check_agreement(results: Path, grid: str, runs: pd.DataFrame, curves: pd.DataFrame) -> None:
    path = results / grid / "curves.csv"
    strange = curves[~curves.run_key.isin(runs.run_key)]
    if len(strange):
        raise malformed(path, f"a curve of run {strange.run_key.iloc[0]}, which runs.csv has not")
    bare = runs[(runs.status == "done") & ~runs.run_key.isin(curves.run_key)]
    if len(bare):
        raise malformed(path, f"no curve of run {bare.run_key.iloc[0]}, which runs.csv calls done")


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, without dates or versions, so that equal figures are equal files."""
    metadata = dict(CreationDate=None, Creator=None, Producer=None) if path.suffix == ".pdf" else dict(Software=None)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], metadata=metadata)
    advice = "choose another place with FIGURES="
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); {advice}.") from None
    write_whole(path, content.getvalue(), advice)
