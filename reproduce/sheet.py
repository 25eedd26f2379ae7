"""What all figures share: colours and markers, panels, the sheet that they stand on, and their axes.

A panel is one data set under one setting (training set size, activation, hidden widths); a line or a row is a label.
A method has one colour and one marker in every figure, whichever others are there. The settings of one method (the
four shapes of SAMT, the inertias of TIAM) share its hue and differ in lightness, line style and marker.
Accuracy axes are logarithmic in the error: .5 and .9, .97 and .98 can be told apart in one panel that holds them all.
"""

import colorsys
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

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

STYLE = Path(__file__).with_name("style.mplstyle")
ONE_COLUMN, TWO_COLUMNS, PAGE_HEIGHT = 3.3, 6.9, 9.0  # inches
SMALL = 6  # points, size of notes and subtitles
GREY = "#4d4d4d"
ERROR_AXIS = "Accuracy axis: logarithmic in the error."

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

DATASETS = dict(mnist="MNIST", fashion_mnist="Fashion-MNIST", cifar10="CIFAR-10", svhn="SVHN", digits="Digits")
ACTIVATIONS = dict(
    relu="ReLU", leaky_relu="leaky ReLU", elu="ELU", selu="SELU", celu="CELU", relu6="ReLU6", gelu="GELU", silu="SiLU"
)


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
class Heading:
    """What stands above a panel, line by line; an empty line takes no room."""

    name: str  # of the data set; with a dagger where it is not the official copy
    setting: str  # activation and widths, where the grid varies them
    size: str  # training images and seeds


@dataclass(frozen=True, eq=False)
class Panel(Heading):
    """One data set under one setting: its runs that finished or diverged, and their curves."""

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

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row]

# Arranging -------------------------------------------------------------------------------------------------------


def arrange(runs: pd.DataFrame, curves: pd.DataFrame, title: str) -> Grid:
    """Panels by setting (down) and data set (across); where only one of the two varies, it fills the rows.

    A grid may show one run under two labels; here each has a key and a curve of its own.
    """
    runs = runs.assign(run_key=runs.run_key + " " + runs.label)
    curves = curves.assign(run_key=curves.run_key + " " + curves.label).sort_values("iteration", kind="stable")
    curves["smallest_gradient_norm"] = curves.groupby("run_key").gradient_norm.cummin()
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
                name, n = DATASETS.get(dataset, dataset), f"n = {chosen.n_train.iloc[0]:,.0f}"
                words = dict(activation=ACTIVATIONS.get(activation, activation), hidden=_widths(hidden), size=n)
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
        each = ", ".join(f"{label} on {DATASETS.get(d, d)} ({n})" for (label, d), n in counts.items())
        notes.append(f"Failed, to be run again, not in the figure: {each}.")
    return Grid(lines, columns, look, notes, title)


def _widths(hidden: str) -> str:
    widths = hidden.split("-")
    return f"{len(widths)} × {widths[0]}" if len(widths) != 2 and len(set(widths)) == 1 else hidden


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


Cell = TypeVar("Cell", bound=Heading)


def paginate(rows: list[list[Cell]], heights: Sequence[float], room: float) -> list[list[list[Cell]]]:
    """Rows of panels page by page; a page has at least one row."""
    pages: list[list[list[Cell]]] = []
    left = 0.0
    for row, height in zip(rows, heights):
        if not pages or height > left:
            pages.append([])
            left = room
        pages[-1].append(row)
        left -= height
    return pages


def lay_out(
    rows: list[list[Cell]],
    columns: int,
    panel_heights: Sequence[float],  # one a row
    frame: Frame,
    title: str,
    x_label: str,
    y_label: str,
    handles: dict[str, Line2D],
    notes: Sequence[str],
    wide: bool = False,
) -> tuple[Figure, list[tuple[Cell, Axes]]]:
    """A figure with its panels in place, titles above them, the legend and the notes below.

    wide: two columns wide also where there is one panel across.
    """
    ruler = Ruler()
    width = TWO_COLUMNS if wide or columns > 1 else ONE_COLUMN
    above = 0.40 if any(panel.setting for row in rows for panel in row) else 0.30
    title_lines = ruler.wrap(title, 8, width - 0.1) if title else []
    note_lines = [line for note in notes for line in ruler.wrap(note, SMALL, width - 0.1)]
    entry = 0.36 + max((ruler.width(label, 6.5) for label in handles), default=0) + 0.13
    across = max(1, int((width - 0.1 + 0.13) / entry))
    legend_rows = math.ceil(len(handles) / across)
    across = math.ceil(len(handles) / legend_rows) if handles else 1

    top = 0.03 + 0.14 * len(title_lines)
    x_room, legend_room = 0.17 * bool(x_label), 0.13 * legend_rows + 0.06 * bool(handles)
    note_room = 0.11 * len(note_lines) + 0.03
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
    if x_label:
        below = (note_room + legend_room + x_room - 0.02) / height
        figure.text(middle, below, x_label, ha="center", va="top", fontsize=7)
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


def look_of(style: Style) -> dict:
    edge = dict(markeredgecolor="white", markeredgewidth=0.3)
    return dict(color=style.colour, linestyle=style.line, marker=style.marker, **edge)


# Axes ------------------------------------------------------------------------------------------------------------

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def set_x(ax: Axes, ends: tuple[float, float], log_x: bool) -> None:
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
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """1, 10, 1k, 100k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def set_y(ax: Axes, ends: tuple[float, float], scale: str) -> None:
    if scale == "error":
        ax.set_yscale("function", functions=(log_error, accuracy_at))
        ax.set_ylim(ends)
        accuracy_ticks(ax.yaxis, *ends, gap=1 / 7)
    elif scale == "log":
        ax.set_yscale("log")
        ax.set_ylim(ends)
        decades = math.log10(ends[1] / ends[0])
        subs = (1,) if decades > 2 else (1, 2, 5) if decades > 0.7 else range(1, 10)
        ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(ends)
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def log_error(accuracy: float | np.ndarray) -> np.ndarray:
    """The place of an accuracy on its axis: even steps are even factors of the error, down to an error of 0.1 %."""
    return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), 1e-3))


def accuracy_at(place: float | np.ndarray) -> np.ndarray:
    return 1 - 10.0 ** -np.asarray(place, dtype=float)


def accuracy_ticks(axis: Axis, low: float, high: float, gap: float) -> None:
    """Ticks at round percentages, the roundest first, at least `gap` of the axis apart and at most about twice that."""
    apart = gap * (log_error(high) - log_error(low))
    places = {log_error(low): None, log_error(high): None}  # place -> tick, and none at the ends
    for step in (10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
        if max(np.diff(sorted(places))) < 2.2 * apart:
            break
        for k in range(math.floor(100 * high / step), math.ceil(100 * low / step) - 1, -1):
            tick = round(k * step, 2) / 100
            if all(abs(log_error(tick) - place) >= apart for place, other in places.items() if other is not None):
                places[log_error(tick)] = tick
    axis.set_major_locator(FixedLocator(sorted(tick for tick in places.values() if tick is not None)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def power(value: float) -> str:
    """10⁴, 2·10⁴; plain between 0.1 and 100."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -1 <= exponent <= 2:
        return f"{value:g}"
    factor = round(value / 10**exponent)
    return ("" if factor == 1 else f"{factor}·") + "10" + str(exponent).translate(_SUPERSCRIPTS)
