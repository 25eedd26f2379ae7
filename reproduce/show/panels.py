"""Panels, and the sheet that they stand on.

A panel is one data set under one setting (training set size, activation, hidden widths); a line or a row is a label.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from scipy.optimize import isotonic_regression

from am.methods import methods
from reproduce.evidence.schema import activation_title, dataset_title, network_title
from reproduce.judge.estimates import mean_intervals
from reproduce.judge.rows import MIN_SEEDS
from reproduce.judge.targets import with_block_gradients
from reproduce.show.look import GREY, SMALL, Style, styles, tone

ONE_COLUMN, TWO_COLUMNS, PAGE_HEIGHT = 3.3, 6.9, 9.0  # inches
MOST_LINES = 8  # in colour in one panel: more cannot be told apart
OTHERS = "the others"
PUBLISHED = ", published constants"  # how a label says so where a grid shows both


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
class Sheet:
    """What stands around the panels. plain, one_column: for a paper, whose caption says title and notes, and whose
    column the figure fills."""

    title: str = ""
    notes: tuple[str, ...] = ()  # under every figure
    plain: bool = False
    one_column: bool = False

    def across(self, most: int) -> int:
        """How many panels stand side by side, of `most` at the most."""
        return 1 if self.one_column else max(1, most)


@dataclass(frozen=True)
class Marks:
    """What curves are held against. floors: data set -> accuracy that a sound baseline reaches.

    reported: rows with label, at (epochs), theirs, theirs_sd and whether an author printed it.
    since: iteration from which claims on the objective count.
    """

    floors: Mapping[str, float] = field(default_factory=dict)
    reported: pd.DataFrame | None = None
    since: int = 0


@dataclass(frozen=True)
class Grid:
    """What the figures of a grid share. rows: panels, a line of the figure each.

    families: of each label's method, and its constants where the grid has both.
    """

    rows: list[list[Panel]]
    columns: int
    styles: dict[str, Style]  # in order of first appearance
    families: dict[str, str]
    sheet: Sheet
    marks: Marks

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row]

    def groups(self, labels: Sequence[str]) -> list[tuple[str, list[str]]]:
        """(name, labels) of groups of MOST_LINES at the most, by family; one group without a name where that is all."""
        if len(labels) <= MOST_LINES:
            return [("", list(labels))]
        found = []
        for family in dict.fromkeys(self.families[label] for label in labels):
            mine = [label for label in labels if self.families[label] == family]
            parts = np.array_split(np.array(mine, object), math.ceil(len(mine) / MOST_LINES))
            names = [f"{family}, {i} of {len(parts)}" for i in range(1, len(parts) + 1)] if len(parts) > 1 else [family]
            found += [(name, list(part)) for name, part in zip(names, parts)]
        return found


def arrange(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    title: str,
    marks: Marks | None = None,
    plain: bool = False,
    one_column: bool = False,
) -> Grid:
    """Panels by setting (down) and data set (across); where only one of the two varies, it fills the rows.

    A grid may show one run under two labels; here each has a key and a curve of its own. Gradients are counted as the
    claims count them, one for each layer.
    """
    curves = with_block_gradients(runs, curves)
    runs = runs.assign(run_key=runs.run_key + " " + runs.label)
    curves = curves.assign(run_key=curves.run_key + " " + curves.label).sort_values("iteration", kind="stable")
    # The start is a line of its own: norms rise at first, and a minimum that counted it would be flat for long.
    later = curves.gradient_norm.where(curves.iteration > 0)
    curves["smallest_gradient_norm"] = later.groupby(curves.run_key).cummin()
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
                name, n = dataset_title(dataset), images_in(chosen)
                words = dict(activation=activation_title(activation), hidden=_network(chosen), size=n)
                where = ", ".join(words[column] for column in varied)
                panel = Panel(
                    name=name + ("" if chosen.data_official.all() else "†"),
                    setting=", ".join(words[column] for column in varied if column != "size"),
                    size=size_of(chosen),
                    place=f"{name} ({where})" if where else name,
                    runs=chosen,
                    curves=curves[curves.run_key.isin(chosen.run_key)],
                )
                rows.setdefault(key, []).append(panel)
    panels = [panel for row in rows.values() for panel in row]
    columns = len(datasets)
    lines = list(rows.values())
    if one_column or len(rows) == 1 or not 2 <= columns <= 4:
        columns = 1 if one_column else min(len(panels), 3 if len(panels) in (3, 5, 6, 9) else 4)
        lines = [panels[i : i + columns] for i in range(0, len(panels), columns)] if panels else []
    notes = []
    if not runs.data_official.all():
        notes.append("† not the official copy of the data set")
    if len(failed):
        counts = failed.groupby(["label", "dataset"], sort=False).size()
        each = ", ".join(f"{label} on {dataset_title(d)} ({n})" for (label, d), n in counts.items())
        notes.append(f"Failed, to be run again, not in the figure: {each}.")
    both = {label.removesuffix(PUBLISHED) for label in runs.label if label.endswith(PUBLISHED)}
    families = {label: _family(method) + _constants(label, both) for label, method in zip(runs.label, runs.method)}
    sheet = Sheet(title, tuple(notes), plain, one_column)
    return Grid(lines, columns, look, families, sheet, marks or Marks())


def _family(method: str) -> str:
    family = methods()[method].family if method in methods() else "other"
    return family[0].upper() + family[1:] + ("" if family.endswith("AM") else " methods")


def _constants(label: str, both: Collection[str]) -> str:
    """What sets a label of a grid of both constants apart from the same one with the others."""
    if label.endswith(PUBLISHED):
        return ", constants as published"
    return ", constants scaled" if label in both else ""


def _network(runs: pd.DataFrame) -> str:
    widths = runs.hidden.iloc[0].split("-")
    alike = len(widths) != 2 and len(set(widths)) == 1
    return network_title(runs.network.iloc[0], f"{len(widths)} × {widths[0]}" if alike else runs.hidden.iloc[0])


def size_of(runs: pd.DataFrame) -> str:
    return f"{images_in(runs)}, {seeds_in(runs)}"


def images_in(runs: pd.DataFrame) -> str:
    return f"n = {runs.n_train.iloc[0]:,.0f}"


def seeds_in(runs: pd.DataFrame) -> str:
    counts = runs.groupby("label").seed.nunique()
    few, many = int(counts.min()), int(counts.max())
    return seeds_text(many) if few == many else f"{few}–{many} seeds"


def seeds_text(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


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
    sheet: Sheet,
    rows: Sequence[Sequence[Cell]],
    columns: int,
    panel_heights: Sequence[float],  # one a row
    frame: Frame,
    x_label: str,
    y_label: str,
    handles: dict[str, Line2D],
    notes: Sequence[str],
    wide: bool = False,
    row_handles: Sequence[dict[str, Line2D]] = (),
) -> tuple[Figure, list[tuple[Cell, Axes]]]:
    """A figure with its panels in place, titles above them, the legend and the notes below.

    wide: two columns wide also where there is one panel across. row_handles: a legend under each row. The figure's
    label is what a caption has to say: the title and the notes, whether or not they are drawn.
    """
    ruler = Ruler()
    width = TWO_COLUMNS if wide or columns > 1 else ONE_COLUMN
    notes = [*notes, *sheet.notes]
    caption = [f"{sheet.title}." if sheet.title else "", *(f"{note.rstrip('.')}." for note in notes)]
    title_lines = ruler.wrap(sheet.title, 8, width - 0.1) if sheet.title and not sheet.plain else []
    note_lines = [] if sheet.plain else [line for note in notes for line in ruler.wrap(note, SMALL, width - 0.1)]
    above = 0.40 if any(panel.setting for row in rows for panel in row) else 0.30
    legend = _Legend(handles, ruler, width)
    below = [_Legend(of_row, ruler, width) for of_row in row_handles] or [_Legend({}, ruler, width)] * len(rows)

    top = 0.03 + 0.14 * len(title_lines)
    x_lines = ruler.wrap(x_label, 7, width - 0.1) if x_label else []
    x_room = 0.17 + 0.13 * (len(x_lines) - 1) if x_lines else 0.0
    note_room = 0.11 * len(note_lines) + 0.03
    under = note_room + legend.room + x_room
    height = top + sum(panel_heights) + len(rows) * (above + frame.below) + sum(l.room for l in below) + under
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.set_label(" ".join(part for part in caption if part))
    cell = (width - frame.edge) / columns
    axes, y = [], height - top
    for row, panel_height, of_row in zip(rows, panel_heights, below):
        y -= above + panel_height
        for column, panel in enumerate(row):
            x, across_panel = frame.edge + column * cell + frame.left, cell - frame.left - frame.right
            ax = figure.add_axes((x / width, y / height, across_panel / width, panel_height / height))
            _write_heading(ax, panel)
            axes.append((panel, ax))
        y -= frame.below
        of_row.draw(figure, y)
        y -= of_row.room
    for number, line in enumerate(title_lines):
        figure.text(0.5, 1 - (0.03 + 0.14 * number) / height, line, ha="center", va="top", fontsize=8)
    middle = (frame.edge + frame.left + width - frame.right) / 2 / width
    for number, line in enumerate(x_lines):
        half = (ruler.width(line, 7) / 2 + 0.03) / width  # under the panels, unless that would cut it
        at = min(max(middle, half), 1 - half)
        figure.text(at, (under - 0.02 - 0.13 * number) / height, line, ha="center", va="top", fontsize=7)
    if y_label:
        centre = (under + (height - top)) / 2
        figure.text(0.03 / width, centre / height, y_label, ha="left", va="center", rotation=90, fontsize=7)
    legend.draw(figure, note_room + legend.room)
    for number, line in enumerate(note_lines):
        figure.text(0.05 / width, (note_room - 0.11 * number) / height, line, va="top", fontsize=SMALL, color=GREY)
    return figure, axes


def _write_heading(ax: Axes, heading: Heading) -> None:
    lines = [line for line in (heading.setting, heading.size) if line]
    place = dict(xycoords="axes fraction", textcoords="offset points", ha="left", va="baseline")
    for number, line in enumerate(reversed(lines)):
        ax.annotate(line, (0, 1), (0, 4 + 7.5 * number), fontsize=SMALL, color=GREY, **place)
    ax.annotate(heading.name, (0, 1), (0, 4.5 + 7.5 * len(lines)), fontsize=7, fontweight="bold", **place)


class _Legend:
    """A legend that is read row by row, and the room that it takes, in inches."""

    def __init__(self, handles: dict[str, Line2D], ruler: Ruler, width: float) -> None:
        entry = 0.36 + max((ruler.width(label, 6.5) for label in handles), default=0) + 0.13
        rows = math.ceil(len(handles) / max(1, int((width - 0.1 + 0.13) / entry)))
        self.handles = handles
        self.across = math.ceil(len(handles) / rows) if handles else 1
        self.room = 0.13 * rows + 0.06 * bool(handles)

    def draw(self, figure: Figure, top: float) -> None:
        if not self.handles:
            return
        # matplotlib fills columns; taken every `across`-th, the entries read row by row.
        order = [label for start in range(self.across) for label in list(self.handles)[start :: self.across]]
        anchor = (0.5, (top - 0.05) / figure.get_figheight())
        drawn = [self.handles[label] for label in order]
        figure.legend(drawn, order, ncols=self.across, loc="upper center", bbox_to_anchor=anchor)


def name_ends(ax: Axes, ends: dict[str, tuple[float, float]], look: dict[str, Style]) -> None:
    """Write each label beside the end of its line, right of the panel, moved apart where ends are near each other.

    ends: label -> (x, y) of the last point, in the units of the axes, whose scales and limits must be set.
    """
    height = ax.get_position().height * ax.figure.get_figheight()
    to_axes = lambda point: ax.transAxes.inverted().transform(ax.transData.transform(point))[1]
    placed = sorted((float(np.clip(to_axes(end), 0, 1)), label) for label, end in ends.items())
    gap = min(NAME_GAP / height, 1 / max(1, len(placed) - 1))
    steps = gap * np.arange(len(placed))
    # Least squares under "at least `gap` apart": isotonic regression of what is left when the gaps are taken out.
    shifted = isotonic_regression(np.array([place for place, _ in placed]) - steps).x
    places = np.clip(shifted, 0, max(0.0, 1 - steps[-1])) + steps
    beside = 1 + 0.12 / (ax.get_position().width * ax.figure.get_figwidth())
    for (_, label), place in zip(placed, places):
        colour = tone(look[label])
        leader = dict(arrowstyle="-", color=colour, linewidth=0.4, alpha=0.7, shrinkA=0, shrinkB=0)
        at = dict(xycoords="data", textcoords="axes fraction", annotation_clip=False)
        ax.annotate("", ends[label], (beside, place), arrowprops=leader, **at)
        ax.text(beside, place, label, transform=ax.transAxes, color=colour, fontsize=NAME, va="center", ha="left")


def panel_rows(panels: Sequence[Heading], columns: int) -> list[list]:
    return [list(panels[i : i + columns]) for i in range(0, len(panels), columns)]


def is_number(value: object) -> bool:
    """Whether a hyper-parameter is a number, not True or False."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def only_label(runs: pd.DataFrame, method: str) -> str | None:
    """The label of a method that has exactly one."""
    labels = runs.label[runs.method == method].unique()
    return labels[0] if len(labels) == 1 else None


def intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`mean_intervals` as figures show them: none of two seeds, whose Student factor of 12.7 would hide the rest."""
    return mean_intervals(values, least=MIN_SEEDS)


def of_seeds(few: int, many: int) -> str:
    """What a note adds to "interval" where the means are over so many seeds."""
    return f" (none below {MIN_SEEDS} seeds)" if few < MIN_SEEDS and many > 1 else ""


NAME = 6.5  # points, size of the labels of rows
ROW = 0.135  # inches
NAME_GAP = 0.105  # inches between labels at the ends of lines
