"""Panels, and the sheet that they stand on.

A panel is one data set under one setting (training set size, activation, hidden widths); a line or a row is a label.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from reproduce.schema import activation_title, dataset_title, network_title
from reproduce.show.look import GREY, SMALL, Style, styles

ONE_COLUMN, TWO_COLUMNS, PAGE_HEIGHT = 3.3, 6.9, 9.0  # inches


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


def arrange(runs: pd.DataFrame, curves: pd.DataFrame, title: str) -> Grid:
    """Panels by setting (down) and data set (across); where only one of the two varies, it fills the rows.

    A grid may show one run under two labels; here each has a key and a curve of its own.
    """
    runs = runs.assign(run_key=runs.run_key + " " + runs.label)
    curves = curves.assign(run_key=curves.run_key + " " + curves.label).sort_values("iteration", kind="stable")
    curves["smallest_gradient_norm"] = curves.groupby("run_key").gradient_norm.cummin()
    look = styles(zip(runs.method, runs.label, runs.hyperparameters))
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
                name, n = dataset_title(dataset), f"n = {chosen.n_train.iloc[0]:,.0f}"
                words = dict(activation=activation_title(activation), hidden=_network(chosen), size=n)
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
        each = ", ".join(f"{label} on {dataset_title(d)} ({n})" for (label, d), n in counts.items())
        notes.append(f"Failed, to be run again, not in the figure: {each}.")
    return Grid(lines, columns, look, notes, title)


def _network(runs: pd.DataFrame) -> str:
    widths = runs.hidden.iloc[0].split("-")
    alike = len(widths) != 2 and len(set(widths)) == 1
    return network_title(runs.network.iloc[0], f"{len(widths)} × {widths[0]}" if alike else runs.hidden.iloc[0])


def _seeds(runs: pd.DataFrame) -> str:
    counts = runs.groupby("label").seed.nunique()
    few, many = int(counts.min()), int(counts.max())
    return f"{many} seed{'s' * (many > 1)}" if few == many else f"{few}–{many} seeds"


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


def panel_rows(panels: Sequence[Heading], columns: int) -> list[list]:
    return [list(panels[i : i + columns]) for i in range(0, len(panels), columns)]


def only_label(runs: pd.DataFrame, method: str) -> str | None:
    """The label of a method that has exactly one."""
    labels = runs.label[runs.method == method].unique()
    return labels[0] if len(labels) == 1 else None


NAME = 6.5  # points, size of the labels of rows
ROW = 0.135  # inches
