"""Figures of a grid from its CSVs: learning curves, final accuracies, objectives; the same CSVs give the same bytes.

A panel is one data set under one setting (training set size, activation, hidden widths); a line or a row is a label.
Seeds are the replication unit: every mean is over the runs of a label that differ in nothing but the seed, and every
interval is Student's 95 % interval of that mean, t(n - 1) sd / sqrt(n). One run has no interval.

Diverged runs stay visible. Where a run of a label diverged, the line ends in a cross and goes on, faint and without a
band, as the mean of the others: that is a mean over survivors, not the method's. In the dot plot the label's row says
how many runs diverged and its mean is hollow.

Accuracy axes are logarithmic in the error: .5 and .9, .97 and .98 can be told apart in one panel that holds them all.

A method has one colour and one marker in every figure, whichever others are there. The settings of one method (the
four shapes of SAMT, the inertias of TIAM) share its hue and differ in lightness, line style and marker.
"""

import colorsys
import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.special import stdtrit

from am.errors import InputError

STYLE = Path(__file__).with_name("style.mplstyle")
ONE_COLUMN, TWO_COLUMNS, PAGE_HEIGHT = 3.3, 6.9, 9.0  # inches
KINDS = ("accuracy_epochs", "accuracy_updates", "final_accuracy", "objective", "constraint_gap")
POINTS = 120  # of a drawn curve: more than a panel of 1.4 inches can show
SMALL = 6  # points, size of notes and subtitles
GREY = "#4d4d4d"

# Chosen together for distance in CIE Lab as seen with normal, deuteranopic and protanopic eyes, also from the lighter
# and darker settings of SAMT and TIAM; the markers tell apart what sixteen colours cannot.
_METHODS = {
    "samt": ("#0072B2", "o"),
    "tiam": ("#D55E00", "s"),
    "adam": ("#009E73", "^"),
    "sgd": ("#000000", "v"),
    "mdlam": ("#CC79A7", "D"),
    "sam": ("#2233AA", "P"),
    "momentum": ("#991188", "X"),
    "nesterov": ("#BBAAFF", "<"),
    "gd": ("#AABBAA", ">"),
    "adamw": ("#DDBB22", "p"),
    "rmsprop": ("#FF5577", "*"),
    "adagrad": ("#3388FF", "h"),
    "adadelta": ("#776633", "d"),
    "dladmm": ("#552222", "8"),
    "bcd": ("#005555", (4, 1, 0)),
    "am-adam": ("#33AA33", "H"),
}
_MARKERS = tuple(marker for _, marker in _METHODS.values())
_LINES = ("solid", "dashed", "dotted", "dashdot")
_SAMT_SHAPES = ("row", "element", "column", "scalar")  # the default first

_DATASETS = dict(mnist="MNIST", fashion_mnist="Fashion-MNIST", cifar10="CIFAR-10", svhn="SVHN", digits="Digits")
_ACTIVATIONS = dict(
    relu="ReLU", leaky_relu="leaky ReLU", elu="ELU", selu="SELU", celu="CELU", relu6="ReLU6", gelu="GELU", silu="SiLU"
)

_RUN_TEXT = ("dataset", "activation", "hidden", "method", "label", "status", "run_key")
_RUN_NUMBERS = ("n_train", "seed", "test_accuracy")
_CURVE_NUMBERS = ("iteration", "epoch", "parameter_updates", "test_accuracy", "objective", "constraint_gap")


@dataclass(frozen=True)
class Style:
    """How a label is drawn."""

    colour: str
    line: str
    marker: str | tuple[int, int, int]


def style_of(method: str, position: int = 0) -> Style:
    """The style of a method's setting number `position`; 0 is the method's own colour.

    An unknown method gets a colour and a marker from the hash of its name; NAME-released is a lighter NAME.
    """
    base = method.removesuffix("-released")
    if base in _METHODS:
        colour, marker = _METHODS[base]
    else:
        digest = hashlib.sha256(base.encode()).digest()
        colour = to_hex(colorsys.hls_to_rgb(int.from_bytes(digest[:4]) / 2**32, 0.3 + 0.3 * digest[4] / 255, 0.55))
        marker = _MARKERS[digest[5] % len(_MARKERS)]
    style = Style(colour, _LINES[0], marker)
    if base != method:
        style = replace(style, colour=_with_lightness(colour, lambda l: l + 0.45 * (1 - l)), line=_LINES[3])
    if position:
        # Bit-reversed fractions 1/2, 1/4, 3/4, 1/8 ...: few settings lie far apart, many still evenly.
        share = int(f"{position:b}"[::-1], 2) / 2 ** position.bit_length()
        shifted = _with_lightness(style.colour, lambda l: 0.12 + (l - 0.12 + 0.66 * share) % 0.66)
        marker = _MARKERS[(_MARKERS.index(style.marker) + position) % len(_MARKERS)]
        style = Style(shifted, _LINES[(_LINES.index(style.line) + position) % len(_LINES)], marker)
    return style


def _with_lightness(colour: str, change: Callable[[float], float]) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    return to_hex(colorsys.hls_to_rgb(hue, min(1.0, max(0.0, change(lightness))), saturation))


def styles(labels: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """The style of each (method, label) of a grid.

    SAMT's shapes and TIAM's inertias, read from the label, have fixed positions in every grid; any other label takes
    the first position that its method has free. No label depends on another method's.
    """
    labels = list(dict.fromkeys(labels))
    positions: dict[tuple[str, str], int] = {}
    taken: dict[str, set[int]] = {method: set() for method, _ in labels}
    for method, label in labels:
        position = _fixed_position(method, label)
        if position is not None and position not in taken[method]:
            taken[method].add(position)
            positions[method, label] = position
    for method, label in labels:
        if (method, label) not in positions:
            free = next(p for p in range(len(labels)) if p not in taken[method])
            taken[method].add(free)
            positions[method, label] = free
    return {label: style_of(method, positions[method, label]) for method, label in labels}


def _fixed_position(method: str, label: str) -> int | None:
    """SAMT's shape, or which of TIAM's p1, p2, p3 are off, as a number; None where the label names neither."""
    if method == "samt":
        words = re.findall(r"[a-z]+", label.lower())
        return next((i for i, shape in enumerate(_SAMT_SHAPES) if shape in words), None)
    if method == "tiam":
        numbers = re.search(r"\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*\)", label)
        return numbers and sum(2**i for i, p in enumerate(reversed(numbers.groups())) if float(p) == 0)
    return None


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds and the ends of Student's t interval of that mean.

    values: (..., seeds); NaN where a seed has no value.  Returns three arrays (...,); the ends are NaN where fewer
    than two seeds have a value, the mean where none has.
    """
    values = np.asarray(values, dtype=float)
    there = np.isfinite(values)
    n = there.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(there, values, 0).sum(-1) / n
        variance = np.where(there, (values - mean[..., None]) ** 2, 0).sum(-1) / (n - 1)
        half = stdtrit(n - 1, (1 + level) / 2) * np.sqrt(variance / n)
    half = np.where(n > 1, half, np.nan)
    return mean, mean - half, mean + half


@dataclass(frozen=True, eq=False)
class Panel:
    """One data set under one setting: its runs that finished or diverged, and their curves."""

    name: str  # of the data set; with a dagger where it is not the official copy
    setting: str  # activation and widths, where the grid varies them
    size: str  # training images and seeds
    place: str  # what a note calls the panel
    runs: pd.DataFrame
    curves: pd.DataFrame


@dataclass(frozen=True)
class Grid:
    """What the figures of a grid share. rows: panels, a line of the figure each."""

    rows: list[list[Panel]]
    columns: int
    styles: dict[str, Style]  # in order of first appearance
    notes: list[str]  # under every figure
    title: str


def figures_of(results: Path, grid: str, out: Path, title: str = "") -> list[Path]:
    """Draw every figure of the grid from results/<grid>/{runs,curves}.csv into out/<grid>/, as PDF and PNG.

    accuracy_epochs, accuracy_updates: test accuracy as it is learnt; final_accuracy: every run's last test accuracy;
    objective, constraint_gap: for the labels that have one. Rows of panels that pass a page go on in NAME-2, NAME-3.
    Returns the files written, none where no run has finished; files of figures that are no longer drawn are deleted.
    Raises InputError where a CSV is missing or not one that this suite wrote.
    """
    runs, curves = _read_runs(results, grid), _read_curves(results, grid)
    _check_agreement(results, grid, runs, curves)
    folder = out / grid
    written = []
    with matplotlib.style.context(str(STYLE), after_reset=True):
        drawn = draw(runs, curves, title)
        for name, figure in drawn.items():
            for suffix in ("pdf", "png"):
                path = folder / f"{name}.{suffix}"
                _save(figure, path)
                written.append(path)
    for path in folder.glob("*"):
        if path not in written and re.fullmatch(rf"({'|'.join(KINDS)})(-\d+)?\.(pdf|png)", path.name):
            path.unlink()
    return written


def draw(runs: pd.DataFrame, curves: pd.DataFrame, title: str = "") -> dict[str, Figure]:
    """Every figure by name, under the style in force. runs, curves: as `figures_of` reads them."""
    grid = _arrange(runs, curves, title)
    pages = {
        "accuracy_epochs": _curve_pages(grid, "epoch", "test_accuracy"),
        "accuracy_updates": _curve_pages(grid, "parameter_updates", "test_accuracy"),
        "final_accuracy": _dot_pages(grid),
        "objective": _curve_pages(grid, "iteration", "objective"),
        "constraint_gap": _curve_pages(grid, "iteration", "constraint_gap"),
    }
    return {
        kind if number == 1 else f"{kind}-{number}": figure
        for kind in KINDS
        for number, figure in enumerate(pages[kind], 1)
    }


# Reading ---------------------------------------------------------------------------------------------------------


def _read_runs(results: Path, grid: str) -> pd.DataFrame:
    path = results / grid / "runs.csv"
    runs = _read(path, grid, _RUN_TEXT, _RUN_NUMBERS, flags=("data_official",))
    if runs.empty:
        raise _malformed(path, grid, "no runs in it")
    same = ["dataset", "n_train", "activation", "hidden", "label", "seed"]
    finished = runs[runs.status != "failed"]
    if finished.n_train.isna().any():
        raise _malformed(path, grid, "a finished run without n_train")
    twice = finished[finished.duplicated(same)]
    if len(twice):
        run = twice.iloc[0]
        raise _malformed(path, grid, f"two runs of '{run.label}' on {run.dataset} with seed {run.seed:g}")
    return runs


def _read_curves(results: Path, grid: str) -> pd.DataFrame:
    return _read(results / grid / "curves.csv", grid, ("run_key",), _CURVE_NUMBERS)


def _read(
    path: Path, grid: str, text: Sequence[str], numbers: Sequence[str], flags: Sequence[str] = ()
) -> pd.DataFrame:
    """The named columns of a CSV, checked: text without gaps, numbers, True or False; accuracies within [0, 1]."""
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys((*text, *flags), str))
    except FileNotFoundError:
        raise InputError(f"{path} is not there; run `make reproduce-{grid}` to write it.") from None
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise _malformed(path, grid, " ".join(str(error).split())) from None
    for column in (*text, *numbers, *flags):
        if column not in table:
            raise _malformed(path, grid, f"no column '{column}'")
    table = table[[*text, *numbers, *flags]].copy()
    for column in (*text, *flags):
        if table[column].isna().any():
            raise _malformed(path, grid, f"an empty '{column}'")
    for column in numbers:
        values = pd.to_numeric(table[column], errors="coerce").astype(float)
        wrong = values.isna() & table[column].notna()
        if column == "test_accuracy":
            wrong |= (values < 0) | (values > 1)
        if wrong.any():
            raise _malformed(path, grid, f"'{column}' {table[column][wrong].iloc[0]}")
        table[column] = values.where(np.isfinite(values))
    for column in flags:
        wrong = ~table[column].isin(("True", "False"))
        if wrong.any():
            raise _malformed(path, grid, f"'{column}' {table[column][wrong].iloc[0]}")
        table[column] = table[column] == "True"
    return table


def _check_agreement(results: Path, grid: str, runs: pd.DataFrame, curves: pd.DataFrame) -> None:
    path = results / grid / "curves.csv"
    strange = curves[~curves.run_key.isin(runs.run_key)]
    if len(strange):
        raise _malformed(path, grid, f"a curve of run {strange.run_key.iloc[0]}, which runs.csv has not")
    bare = runs[(runs.status == "done") & ~runs.run_key.isin(curves.run_key)]
    if len(bare):
        raise _malformed(path, grid, f"no curve of run {bare.run_key.iloc[0]}, which runs.csv calls done")


def _malformed(path: Path, grid: str, found: str) -> InputError:
    return InputError(f"{path} is malformed ({found}); delete it and run `make reproduce-{grid}` to write it anew.")


# Arranging -------------------------------------------------------------------------------------------------------


def _arrange(runs: pd.DataFrame, curves: pd.DataFrame, title: str) -> Grid:
    """Panels by setting (down) and data set (across); where only one of the two varies, it fills the rows."""
    look = styles(zip(runs.method, runs.label))
    failed, runs = runs[runs.status == "failed"], runs[runs.status != "failed"].copy()
    datasets = list(dict.fromkeys(runs.dataset))
    # Sizes are compared by rank: the full sets differ in size, and so do not share a number.
    runs["size"] = runs.groupby(["dataset", "activation", "hidden"]).n_train.rank(method="dense")
    varied = [column for column in ("activation", "hidden", "size") if runs[column].nunique() > 1]
    rows: dict[tuple, list[Panel]] = {}
    for key in dict.fromkeys(zip(runs.activation, runs.hidden, runs["size"])):
        activation, hidden, size = key
        for dataset in datasets:
            here = (runs.activation == activation) & (runs.hidden == hidden) & (runs["size"] == size)
            chosen = runs[here & (runs.dataset == dataset)]
            if len(chosen):
                name, n = _DATASETS.get(dataset, dataset), f"n = {chosen.n_train.iloc[0]:,.0f}"
                words = dict(activation=_ACTIVATIONS.get(activation, activation), hidden=_widths(hidden), size=n)
                where = ", ".join(words[column] for column in varied)
                panel = Panel(
                    name=name + ("" if chosen.data_official.all() else "†"),
                    setting=", ".join(words[column] for column in varied if column != "size"),
                    size=f"{n}, {_seeds(chosen)}",
                    place=f"{name} ({where})" if where else name,
                    runs=chosen,
                    curves=curves[curves.run_key.isin(chosen.run_key)],
                )
                rows.setdefault(key, []).append(panel)
    panels = [panel for row in rows.values() for panel in row]
    columns = len(datasets)
    lines = list(rows.values())
    if len(rows) == 1 or not 2 <= columns <= 4:
        columns = min(len(panels), 3 if len(panels) in (3, 5, 6, 9) else 4)
        lines = [panels[i : i + columns] for i in range(0, len(panels), columns)] if panels else []
    notes = []
    if not runs.data_official.all():
        notes.append("† not the official copy of the data set")
    if len(failed):
        counts = failed.groupby(["label", "dataset"], sort=False).size()
        each = ", ".join(f"{label} on {_DATASETS.get(d, d)} ({n})" for (label, d), n in counts.items())
        notes.append(f"Failed, to be run again, not in the figure: {each}.")
    return Grid(lines, columns, look, notes, title)


def _widths(hidden: str) -> str:
    widths = hidden.split("-")
    return f"{len(widths)} × {widths[0]}" if len(widths) > 2 and len(set(widths)) == 1 else hidden


def _seeds(runs: pd.DataFrame) -> str:
    counts = runs.groupby("label").seed.nunique()
    few, many = int(counts.min()), int(counts.max())
    return f"{many} seed{'s' * (many > 1)}" if few == many else f"{few}–{many} seeds"


# The sheet: sizes in inches, so that panels align and texts have their room ------------------------------------------


@dataclass(frozen=True)
class Frame:
    """Room around the panels of a figure, in inches."""

    left: float  # of every panel: tick labels
    right: float
    below: float  # every panel: tick labels
    edge: float  # left of all panels: the label of the y axis


class Ruler:
    """Measures text in inches as it will be drawn."""

    def __init__(self) -> None:
        figure = Figure()
        self.renderer, self.dpi = FigureCanvasAgg(figure).get_renderer(), figure.dpi

    def width(self, text: str, size: float) -> float:
        return self.renderer.get_text_width_height_descent(text, FontProperties(size=size), False)[0] / self.dpi

    def wrap(self, text: str, size: float, width: float) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.width(longer, size) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def _pages(rows: list[list[Panel]], heights: Sequence[float], room: float) -> list[list[list[Panel]]]:
    """Rows of panels page by page; a page has at least one row."""
    pages: list[list[list[Panel]]] = []
    left = 0.0
    for row, height in zip(rows, heights):
        if not pages or height > left:
            pages.append([])
            left = room
        pages[-1].append(row)
        left -= height
    return pages


def _sheet(
    rows: list[list[Panel]],
    columns: int,
    panel_heights: Sequence[float],  # one a row
    frame: Frame,
    title: str,
    x_label: str,
    y_label: str,
    handles: dict[str, Line2D],
    notes: Sequence[str],
) -> tuple[Figure, list[tuple[Panel, Axes]]]:
    """A figure with its panels in place, titles above them, the legend and the notes below."""
    ruler = Ruler()
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    above = 0.40 if any(panel.setting for row in rows for panel in row) else 0.30
    title_lines = ruler.wrap(title, 8, width - 0.1) if title else []
    note_lines = [line for note in notes for line in ruler.wrap(note, SMALL, width - 0.1)]
    entry = 0.36 + max((ruler.width(label, 6.5) for label in handles), default=0) + 0.13
    across = max(1, int((width - 0.1 + 0.13) / entry))
    legend_rows = math.ceil(len(handles) / across)
    across = math.ceil(len(handles) / legend_rows) if handles else 1

    top = 0.03 + 0.14 * len(title_lines)
    x_room, legend_room, note_room = 0.17, 0.13 * legend_rows + 0.06 * bool(handles), 0.11 * len(note_lines) + 0.03
    height = top + sum(panel_heights) + len(rows) * (above + frame.below) + x_room + legend_room + note_room
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    cell = (width - frame.edge) / columns
    axes, y = [], height - top
    for row, panel_height in zip(rows, panel_heights):
        y -= above + panel_height
        for column, panel in enumerate(row):
            x, across_panel = frame.edge + column * cell + frame.left, cell - frame.left - frame.right
            ax = figure.add_axes((x / width, y / height, across_panel / width, panel_height / height))
            lines = [line for line in (panel.setting, panel.size) if line]
            for number, line in enumerate(reversed(lines)):
                place = dict(xycoords="axes fraction", textcoords="offset points", ha="left", va="baseline")
                ax.annotate(line, (0, 1), (0, 4 + 7.5 * number), fontsize=SMALL, color=GREY, **place)
            ax.annotate(panel.name, (0, 1), (0, 4.5 + 7.5 * len(lines)), fontsize=7, fontweight="bold", **place)
            axes.append((panel, ax))
        y -= frame.below
    for number, line in enumerate(title_lines):
        figure.text(0.5, 1 - (0.03 + 0.14 * number) / height, line, ha="center", va="top", fontsize=8)
    middle = (frame.edge + frame.left + width - frame.right) / 2 / width
    figure.text(middle, (note_room + legend_room + x_room - 0.02) / height, x_label, ha="center", va="top", fontsize=7)
    if y_label:
        centre = (note_room + legend_room + x_room + (height - top)) / 2
        figure.text(0.03 / width, centre / height, y_label, ha="left", va="center", rotation=90, fontsize=7)
    if handles:
        # matplotlib fills columns; taken every `across`-th, the entries read row by row.
        order = [label for start in range(across) for label in list(handles)[start::across]]
        anchor = (0.5, (note_room + legend_room - 0.05) / height)
        drawn = [handles[label] for label in order]
        figure.legend(drawn, order, ncols=across, loc="upper center", bbox_to_anchor=anchor)
    for number, line in enumerate(note_lines):
        figure.text(0.05 / width, (note_room - 0.11 * number) / height, line, va="top", fontsize=SMALL, color=GREY)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, without dates or versions, so that equal figures are equal files."""
    metadata = dict(CreationDate=None, Creator=None, Producer=None) if path.suffix == ".pdf" else dict(Software=None)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], metadata=metadata)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.getvalue())
        os.replace(part, path)
    except OSError as error:
        if part.exists():
            part.unlink()
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place with FIGURES=.") from None


# Curves ----------------------------------------------------------------------------------------------------------

_X_LABELS = dict(epoch="Epochs", parameter_updates="Parameter updates", iteration="Iterations")
_ERROR_AXIS = "Accuracy axis: logarithmic in the error."
_Y_LABELS = dict(test_accuracy="Test accuracy (%)", objective="Objective", constraint_gap="Constraint gap")


@dataclass(frozen=True)
class Curve:
    """Mean and interval of a label over its seeds, (points,) each.

    whole: how many points, from the first on, all runs of the label reached.  diverged: whether any run diverged.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    whole: int
    diverged: bool

    @property
    def last(self) -> float:
        return self.mean[-1]


def curve_of(runs: pd.DataFrame, curves: pd.DataFrame, x: str, y: str, logarithmic: bool = False) -> Curve | None:
    """The curve of one label in one panel; None where no run has a value.

    The first `whole` points are means over all runs of the label; the rest, after a run diverged, over the survivors.
    logarithmic: mean and interval of log10 y, given back as y: the geometric mean. A zero has no place there.
    """
    curves = curves[curves[y].notna()]
    if curves.empty:
        return None
    table = curves.pivot(index="iteration", columns="run_key", values=y)
    done = [key for key in runs.run_key[runs.status == "done"] if key in table]
    if done:
        table = table[table[done].notna().any(axis=1)]
    if logarithmic:
        table = table[~(table <= 0).any(axis=1)]
    if table.empty:
        return None
    complete = (table.notna().sum(axis=1) == len(runs)).to_numpy()
    whole = len(complete) if complete.all() else int(np.argmin(complete))
    values = np.log10(table.to_numpy()) if logarithmic else table.to_numpy()
    mean, low, high = mean_interval(values)
    if logarithmic:
        mean, low, high = 10**mean, 10**low, 10**high
    places = curves.groupby("iteration")[x].mean().reindex(table.index).to_numpy()
    return Curve(places, mean, low, high, whole, bool((runs.status == "diverged").any()))


def _curve_pages(grid: Grid, x: str, y: str) -> list[Figure]:
    panels = [panel for row in grid.rows for panel in row]
    # A gap or an objective is never negative unless it is a Lagrangian; only then is the axis linear.
    negative = any((panel.curves[y] < 0).any() for panel in panels)
    scale = "error" if y == "test_accuracy" else "linear" if negative else "log"
    lines = {panel: _panel_curves(panel, grid.styles, x, y, scale == "log") for panel in panels}
    if not any(lines.values()):
        return []
    rows = [kept for row in grid.rows if (kept := [panel for panel in row if lines[panel]])]
    columns = max(len(row) for row in rows)
    ranges = {panel: _y_range(curves, scale) for panel, curves in lines.items() if curves}
    log_x = _wants_log([curve for curves in lines.values() for curve in curves.values()], x)
    x_range = _x_range(lines, ranges, log_x)
    height = 2.2 if columns == 1 else 1.7 if columns == 2 else 1.35
    frame = Frame(left=0.31, right=0.08, below=0.19, edge=0.15)
    figures = []
    for page in _pages(rows, [height + 0.6] * len(rows), PAGE_HEIGHT - 1.6):
        here = {panel: lines[panel] for row in page for panel in row}
        notes = _curve_notes(here, ranges, y, scale) + grid.notes
        shown = [label for label in grid.styles if any(label in curves for curves in here.values())]
        handles = {label: Line2D([], [], **_look(grid.styles[label])) for label in shown}
        labels = (_X_LABELS[x], _Y_LABELS[y])
        figure, axes = _sheet(page, columns, [height] * len(page), frame, grid.title, *labels, handles, notes)
        for panel, ax in axes:
            for number, label in enumerate(shown):
                if label in lines[panel]:
                    _draw_curve(ax, lines[panel][label], grid.styles[label], log_x, number, len(shown))
            _set_x(ax, x_range, log_x)
            _set_y(ax, ranges[panel], scale)
        figures.append(figure)
    return figures


def _panel_curves(panel: Panel, labels: Iterable[str], x: str, y: str, logarithmic: bool) -> dict[str, Curve]:
    """The curves of a panel by label, in the order of `labels`; labels without a value have none."""
    runs = dict(list(panel.runs.groupby("label")))
    points = dict(list(panel.curves.groupby(panel.curves.run_key.map(panel.runs.set_index("run_key").label))))
    found = {label: curve_of(runs[label], points[label], x, y, logarithmic) for label in labels if label in points}
    return {label: curve for label, curve in found.items() if curve}


def _wants_log(curves: Sequence[Curve], x: str) -> bool:
    """Updates: where they span more than two decades. Epochs and iterations: where budgets differ threefold."""
    if x == "parameter_updates":
        positive = np.concatenate([curve.x[curve.x > 0] for curve in curves])
        return positive.size > 0 and positive.max() > 100 * positive.min()
    ends = [curve.x[-1] for curve in curves if curve.whole == len(curve.x)] or [0]
    return min(ends) > 0 and max(ends) > 3 * min(ends)


def _draw_curve(ax: Axes, curve: Curve, style: Style, log_x: bool, number: int, of: int) -> None:
    x = curve.x
    keep = np.flatnonzero(x > 0) if log_x else np.arange(len(x))
    whole, rest = (_thin(part, x, log_x) for part in (keep[keep < curve.whole], keep[keep >= curve.whole]))
    # Markers at a fixed distance on the page, each label's elsewhere; bands pale where many overlap.
    ax.plot(x[whole], curve.mean[whole], zorder=3, markevery=(0.04 + 0.26 * number / of, 0.3), **_look(style))
    band = dict(color=style.colour, alpha=max(0.07, min(0.18, 1 / of)), linewidth=0)
    ax.fill_between(x[whole], curve.low[whole], curve.high[whole], **band)
    ax.plot(x[rest], curve.mean[rest], color=style.colour, linestyle=style.line, linewidth=0.7, alpha=0.45, zorder=2.5)
    if curve.diverged and len(keep):
        end = whole[-1] if len(whole) else rest[0]
        ax.plot(x[end], curve.mean[end], "x", color=style.colour, markersize=4.5, markeredgewidth=1.2, zorder=4)


def _thin(points: np.ndarray, x: np.ndarray, log_x: bool) -> np.ndarray:
    """At the most POINTS of the points, evenly spaced along the axis, the first and the last among them."""
    if len(points) <= POINTS:
        return points
    place = np.log(x[points]) if log_x else x[points]
    return points[np.unique(np.searchsorted(place, np.linspace(place[0], place[-1], POINTS)).clip(0, len(points) - 1))]


def _y_range(curves: dict[str, Curve], scale: str) -> tuple[float, float]:
    """Low and high end of a panel's y axis.

    Accuracy: from the best mean down past the lowest last mean, so that every label ends in the panel and slow starts
    begin below it; but not below a third of the best: what failed leaves the panel (and is noted).
    """
    # A diverging run leaves the panel if it likes; the range is that of the others.
    steady = [curve for curve in curves.values() if not curve.diverged] or list(curves.values())
    means = np.concatenate([curve.mean for curve in steady])
    low, high = np.nanmin(means), np.nanmax(means)
    if scale == "error":
        last, top = _log_error(min(curve.last for curve in steady)), _log_error(high)
        span = max(1.3 * (top - last), top - _log_error(high - 0.03))
        low = max(low, high / 3, _accuracy(top - span))
        pad = max(0.05 * (top - _log_error(low)), 0.005)
        return float(_accuracy(_log_error(low) - pad)), float(_accuracy(top + pad))
    if scale == "log":
        factor = max(high / low, 1.1) ** 0.06
        return low / factor, high * factor
    pad = 0.05 * max(high - low, 1e-12)
    return low - pad, high + pad


def _curve_notes(
    lines: dict[Panel, dict[str, Curve]], ranges: dict[Panel, tuple[float, float]], y: str, scale: str
) -> list[str]:
    several = any(panel.runs.groupby("label").seed.nunique().max() > 1 for panel in lines)
    mean = "Geometric mean" if scale == "log" else "Mean"
    first = [f"{mean} over seeds; band: 95 % t interval of the mean." if several else "One seed a line."]
    if scale == "error":
        first.append(_ERROR_AXIS)
    if y == "objective":
        first.append("Each method's own objective: compare shapes, not levels.")
    if y == "constraint_gap":
        first.append("Root mean square of a − h(z) over hidden units and samples.")
    if scale == "log" and any((panel.curves[y] == 0).any() for panel in lines):
        first.append("Points where a run is at 0 are left out.")
    if any(curve.diverged for curves in lines.values() for curve in curves.values()):
        first.append("×: a run diverged after this point; faint: the mean of the others.")
    below, lost = [], []
    for panel, curves in lines.items():
        runs = panel.runs[panel.runs.label.isin(curves)] if y != "test_accuracy" else panel.runs
        diverged = (runs.status == "diverged").groupby(runs.label, sort=False).agg(["sum", "size"])
        gone = [f"{label} {count}/{size}" for label, count, size in diverged.itertuples() if count]
        under = [
            f"{label} {_number(curve.last, y)}"
            for label, curve in curves.items()
            if np.nanmax(curve.mean) < ranges[panel][0] and diverged["sum"][label] < diverged["size"][label]
        ]
        below += [f"{panel.place}: {', '.join(under)}"] if under else []
        lost += [f"{panel.place}: {', '.join(gone)}"] if gone else []
    notes = [" ".join(first)]
    notes += [f"Below the panel (last mean) – {'; '.join(below)}."] if below else []
    notes += [f"Diverged runs – {'; '.join(lost)}."] if lost else []
    return notes


def _number(value: float, y: str) -> str:
    return f"{100 * value:.1f}" if y == "test_accuracy" else f"{value:.3g}"


def _look(style: Style) -> dict:
    edge = dict(markeredgecolor="white", markeredgewidth=0.3)
    return dict(color=style.colour, linestyle=style.line, marker=style.marker, **edge)


# Axes ------------------------------------------------------------------------------------------------------------

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _x_range(
    lines: dict[Panel, dict[str, Curve]], ranges: dict[Panel, tuple[float, float]], log_x: bool
) -> tuple[float, float]:
    """The same for all panels: from 0, or in logarithms from the first point that is not below its panel."""
    pairs = [(curve, ranges[panel][0]) for panel, curves in lines.items() for curve in curves.values()]
    high = max(curve.x.max() for curve, _ in pairs)
    if not log_x:
        return 0.0, high
    inside = [x for curve, bottom in pairs for x in curve.x[(curve.x > 0) & (curve.mean >= bottom)]]
    return min(inside, default=high / 100), high


def _set_x(ax: Axes, ends: tuple[float, float], log_x: bool) -> None:
    low, high = ends
    if log_x:
        margin = (high / low) ** 0.03
        ax.set_xscale("log")
        ax.set_xlim(low / margin, high * margin)
        ax.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5), numticks=5))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        pad = 0.02 * max(high, 1e-9)
        ax.set_xlim(-pad, high + pad)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=high >= 4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    """1, 10, 1k, 100k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _set_y(ax: Axes, ends: tuple[float, float], scale: str) -> None:
    if scale == "error":
        ax.set_yscale("function", functions=(_log_error, _accuracy))
        ax.set_ylim(ends)
        _accuracy_ticks(ax.yaxis, *ends, gap=1 / 7)
    elif scale == "log":
        ax.set_yscale("log")
        ax.set_ylim(ends)
        decades = math.log10(ends[1] / ends[0])
        subs = (1,) if decades > 2 else (1, 2, 5) if decades > 0.7 else range(1, 10)
        ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(ends)
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _log_error(accuracy: float | np.ndarray) -> np.ndarray:
    """The place of an accuracy on its axis: even steps are even factors of the error, down to an error of 0.1 %."""
    return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), 1e-3))


def _accuracy(place: float | np.ndarray) -> np.ndarray:
    return 1 - 10.0 ** -np.asarray(place, dtype=float)


def _accuracy_ticks(axis: Axis, low: float, high: float, gap: float) -> None:
    """Ticks at round percentages, the roundest first, at least `gap` of the axis apart and at most about twice that."""
    apart = gap * (_log_error(high) - _log_error(low))
    places = {_log_error(low): None, _log_error(high): None}  # place -> tick, and none at the ends
    for step in (10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
        if max(np.diff(sorted(places))) < 2.2 * apart:
            break
        for k in range(math.floor(100 * high / step), math.ceil(100 * low / step) - 1, -1):
            tick = round(k * step, 2) / 100
            if all(abs(_log_error(tick) - place) >= apart for place, other in places.items() if other is not None):
                places[_log_error(tick)] = tick
    axis.set_major_locator(FixedLocator(sorted(tick for tick in places.values() if tick is not None)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def _power(value: float) -> str:
    """10⁴, 2·10⁴; plain between 0.1 and 100."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -1 <= exponent <= 2:
        return f"{value:g}"
    factor = round(value / 10**exponent)
    return ("" if factor == 1 else f"{factor}·") + "10" + str(exponent).translate(_SUPERSCRIPTS)


# Final accuracy ------------------------------------------------------------------------------------------------------


def _dot_pages(grid: Grid) -> list[Figure]:
    panels = [panel for row in grid.rows for panel in row]
    if not panels:
        return []
    ruler = Ruler()
    columns = min(2, len(panels))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [0.135 * max(panel.runs.label.nunique() for panel in row) + 0.08 for row in rows]
    names = max(ruler.width(label, 6.5) for panel in panels for label in panel.runs.label.unique())
    frame = Frame(left=names + 0.1, right=0.12, below=0.19, edge=0.0)
    figures = []
    for page in _pages(rows, [height + 0.6 for height in heights], PAGE_HEIGHT - 0.8):
        shown = [panel for row in page for panel in row]
        first = rows.index(page[0])
        tables = {id(panel): final_table(panel.runs) for panel in shown}
        notes = _dot_notes(tables.values()) + grid.notes
        page_heights = heights[first : first + len(page)]
        figure, axes = _sheet(page, columns, page_heights, frame, grid.title, "Final test accuracy (%)", "", {}, notes)
        for panel, ax in axes:
            _draw_dots(ax, tables[id(panel)], grid.styles, ruler)
        figures.append(figure)
    return figures


def final_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a label of a panel, best mean first, labels without a finished run last.

    Columns: label, values (accuracies of the runs that finished, a tuple), mean, low, high, runs, diverged.
    """
    rows = []
    for label, group in runs.groupby("label", sort=False):
        values = group.test_accuracy[group.status == "done"].to_numpy()
        mean, low, high = mean_interval(values)
        rows.append(
            dict(
                label=label,
                values=tuple(values),
                mean=float(mean),
                low=float(low),
                high=float(high),
                runs=len(group),
                diverged=int((group.status == "diverged").sum()),
            )
        )
    return pd.DataFrame(rows).sort_values("mean", ascending=False, na_position="last", kind="stable", ignore_index=True)


def _dot_notes(tables: Iterable[pd.DataFrame]) -> list[str]:
    tables = list(tables)
    several = any((t.runs > 1).any() for t in tables)
    text = "Dots: seeds; symbol and bar: mean and its 95 % t interval." if several else "One seed a row."
    text += f" {_ERROR_AXIS}"
    if any((t.diverged > 0).any() for t in tables):
        text += " ×: diverged runs; hollow: the mean of the others."
    if any((t["mean"] < _dot_bottom(t)).any() for t in tables):
        text += " ◂: mean below the axis."
    return [text]


def _dot_bottom(table: pd.DataFrame) -> float:
    """The low end of the accuracy axis, a third of the best mean: below it, a mean is written instead of drawn."""
    return table["mean"].max() / 3


def _draw_dots(ax: Axes, table: pd.DataFrame, look: dict[str, Style], ruler: Ruler) -> None:
    bottom = _dot_bottom(table)
    remarks = []
    for row in table.itertuples():
        clipped = [f"◂ {100 * row.mean:.1f}"] if row.mean < bottom else []
        remarks.append("  ".join(clipped + [f"× {row.diverged}/{row.runs} diverged"] * bool(row.diverged)))
    drawn = table[table["mean"] >= bottom]
    points = [value for values in drawn["values"] for value in values] or [0.0, 0.9]
    low, high = _log_error(min(points)), _log_error(max(points))
    # The ends of the intervals belong to the picture, unless two or three seeds make them wider than all else.
    room = 0.3 * max(high - low, 0.02)
    low = max(np.fmin(low, _log_error(drawn.low.min())), low - room) - 0.15 * room
    high = min(np.fmax(high, _log_error(drawn.high.max())), high + room) + 0.15 * room
    # Remarks have a strip of their own, left of the accuracy axis.
    width = ax.get_position().width * ax.figure.get_figwidth()
    strip = (max(ruler.width(remark, SMALL) for remark in remarks) + 0.1) / width if any(remarks) else 0.0
    ends, edge = _accuracy(np.array([low, high])), _accuracy(low - (high - low) * strip / (1 - strip))
    ax.set_xscale("function", functions=(_log_error, _accuracy))
    ax.set_xlim(edge, ends[1])
    _accuracy_ticks(ax.xaxis, *ends, gap=0.26 / (width * (1 - strip)))
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.set_yticks(range(len(table)), table.label)
    ax.tick_params(axis="y", length=0)
    if strip:
        ax.axvspan(edge, ends[0], color="#f4f4f4", zorder=0, linewidth=0)
    for y, (row, remark) in enumerate(zip(table.itertuples(), remarks)):
        style = look[row.label]
        ax.axhline(y, color="#e4e4e4", linewidth=0.4, zorder=0.5)
        if remark:
            place = dict(xycoords=ax.get_yaxis_transform(), textcoords="offset points", va="center", fontsize=SMALL)
            ax.annotate(remark, (0, y), (3, 0), ha="left", color=GREY, **place)
        height = y - 0.1  # the mean above, its seeds below
        seeds = np.array([value for value in row.values if value >= ends[0]])
        dots = dict(markersize=1.9, markeredgewidth=0, alpha=0.6, zorder=2)
        ax.plot(seeds, np.full(len(seeds), y + 0.27), "o", color=style.colour, **dots)
        if row.mean >= bottom:
            if math.isfinite(row.low):
                bar = np.clip([row.low, row.high], *ends)
                ax.plot(bar, [height, height], color=style.colour, solid_capstyle="butt", zorder=3)
            hollow = dict(markerfacecolor="white", markeredgecolor=style.colour, markeredgewidth=0.8)
            symbol = _look(style) | dict(markersize=4.2, zorder=4) | (hollow if row.diverged else {})
            ax.plot(row.mean, height, **symbol)
