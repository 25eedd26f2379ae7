"""Final accuracies: every run's last test accuracy, a row a label.

A label's row says how many of its runs diverged, and then its mean, of the others, is hollow.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduce.show.axes import ERROR_SCALE, MANY, accuracy_at, accuracy_ticks, far_below, log_error
from reproduce.show.look import GREY, SMALL, Style, look_of
from reproduce.show.marks import Held, draw_reported, held_notes, held_of
from reproduce.show.panels import (
    NAME,
    PAGE_HEIGHT,
    ROW,
    Frame,
    Grid,
    Panel,
    Ruler,
    intervals,
    lay_out,
    of_seeds,
    paginate,
)

REPORTED = "as reported"
_AXIS = f"Final test accuracy (%), {ERROR_SCALE}"


def dot_pages(grid: Grid) -> list[Figure]:
    """Dot plots, without panels of a single dot, the end of its curve; none where no panel has two."""
    panels = [panel for panel in grid.panels if len(panel.runs) > 1]
    if not panels:
        return []
    ruler = Ruler()
    columns = grid.sheet.across(min(2, len(panels)))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    held = {panel: _held_at_the_end(grid, panel) for panel in panels}
    names = {panel: _rows(panel.runs.label.unique(), held[panel])[0] for panel in panels}
    heights = [_height(max(len(names[panel]) for panel in row)) for row in rows]
    widest = max(ruler.width(name, NAME) for panel in panels for name in names[panel])
    frame = Frame(left=widest + 0.1, right=0.12, below=0.19, edge=0.0)
    figures = []
    for page in paginate(rows, [height + 0.6 for height in heights], PAGE_HEIGHT - 0.8):
        shown = [panel for row in page for panel in row]
        first = rows.index(page[0])
        tables = {id(panel): final_table(panel.runs) for panel in shown}
        notes = _dot_notes([(tables[id(panel)], held[panel]) for panel in shown])
        notes += held_notes({panel: held[panel] for panel in shown})
        page_heights = heights[first : first + len(page)]
        figure, axes = lay_out(grid.sheet, page, columns, page_heights, frame, _AXIS, "", {}, notes)
        for panel, ax in axes:
            _draw_dots(ax, tables[id(panel)], grid.styles, ruler, held[panel])
        figures.append(figure)
    return figures


def final_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a label of a panel, best mean first, labels without a finished run last.

    Columns: label, values (accuracies of the runs that finished, a tuple), mean, low, high, runs, diverged.
    """
    rows = []
    for label, group in runs.groupby("label", sort=False):
        values = group.test_accuracy[group.status == "done"].to_numpy()
        mean, low, high = intervals(values)
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


def _held_at_the_end(grid: Grid, panel: Panel) -> Held:
    """What final accuracies are held against: of the reported numbers, those at a label's last epoch."""
    last = panel.curves.groupby("label").epoch.max()
    held = held_of(grid, panel, set(panel.runs.label), "epoch", "test_accuracy")
    return replace(held, reported=[number for number in held.reported if number[1] == last[number[0]]])


def _rows(labels: Iterable[str], held: Held) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """The names of the rows, and at which a label has its own accuracies and, below, those reported for it."""
    names: list[str] = []
    own, reported = {}, {}
    for label in labels:
        own[label] = len(names)
        names.append(label)
        if label in {number[0] for number in held.reported}:
            reported[label] = len(names)
            names.append(REPORTED)
    return names, own, reported


def _height(rows: int) -> float:
    return ROW * rows + 0.08


def _dot_notes(shown: Sequence[tuple[pd.DataFrame, Held]]) -> list[str]:
    tables = [table for table, _ in shown]
    few, many = min(t.runs.min() for t in tables), max(t.runs.max() for t in tables)
    text = f"Dots: seeds; symbol and bar: mean and its 95 % t interval{of_seeds(few, many)}."
    text = text if many > 1 else "One seed a row."
    if any((t.diverged > 0).any() for t in tables):
        text += " ×: diverged runs; hollow: the mean of the others."
    if any((t["mean"] < accuracy_at(_dot_ends(t, held.levels)[0])).any() for t, held in shown):
        text += " ◂: mean below the axis."
    return [text]


def _dot_ends(table: pd.DataFrame, levels: Sequence[float] = ()) -> tuple[float, float]:
    """The ends of the accuracy axis, as places on it; a mean below the low end is written instead of drawn.

    Labels that are `far_below` do not stretch it; `levels` are on it.
    """
    drawn = table[table["mean"].notna()]
    drawn = drawn[~far_below(drawn["mean"].to_numpy(), drawn.high.to_numpy())] if len(drawn) else drawn
    points = [*(value for values in drawn["values"] for value in values), *levels] or [0.0, 0.9]
    low, high = log_error(min(points)), log_error(max(points))
    # The ends of the intervals belong to the picture, unless two or three seeds of one among many make them wider than
    # what tells the labels apart.
    room = 0.3 * max(high - low, 0.02)
    beyond = room if len(drawn) >= MANY else math.inf
    low = max(np.fmin(low, log_error(drawn.low.min())), low - beyond) - 0.15 * room
    high = min(np.fmax(high, log_error(drawn.high.max())), high + beyond) + 0.15 * room
    return max(float(low), 0.0), float(high)


def _draw_dots(ax: Axes, table: pd.DataFrame, look: dict[str, Style], ruler: Ruler, held: Held) -> None:
    low, high = _dot_ends(table, held.levels)
    ends = accuracy_at(np.array([low, high]))
    remarks = []
    for row in table.itertuples():
        clipped = [f"◂ {100 * row.mean:.1f}"] if row.mean < ends[0] else []
        remarks.append("  ".join(clipped + [f"× {row.diverged}/{row.runs} diverged"] * bool(row.diverged)))
    # Remarks have a strip of their own, left of the accuracy axis.
    width = ax.get_position().width * ax.figure.get_figwidth()
    strip = (max(ruler.width(remark, SMALL) for remark in remarks) + 0.1) / width if any(remarks) else 0.0
    edge = accuracy_at(low - (high - low) * strip / (1 - strip))
    ax.set_xscale("function", functions=(log_error, accuracy_at))
    ax.set_xlim(edge, ends[1])
    accuracy_ticks(ax.xaxis, *ends, gap=0.26 / (width * (1 - strip)))
    names, own, reported = _rows(table.label, held)
    # Rows are as far apart in a panel of few as in its neighbour of many.
    box, lower = ax.get_position(), _height(len(names)) / ax.figure.get_figheight()
    ax.set_position((box.x0, box.y1 - lower, box.width, lower))
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    if held.floor is not None:
        ax.axvline(held.floor, color="black", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    if strip:
        ax.axvspan(edge, ends[0], color="#f4f4f4", zorder=0, linewidth=0)
    for number in held.reported:
        place = reported[number[0]]
        ax.axhline(place, color="#e4e4e4", linewidth=0.4, zorder=0.5)
        draw_reported(ax, (number[2], place), number, "xerr")
    for row, remark in zip(table.itertuples(), remarks):
        y, style = own[row.label], look[row.label]
        ax.axhline(y, color="#e4e4e4", linewidth=0.4, zorder=0.5)
        if remark:
            place = dict(xycoords=ax.get_yaxis_transform(), textcoords="offset points", va="center", fontsize=SMALL)
            ax.annotate(remark, (0, y), (3, 0), ha="left", color=GREY, **place)
        height = y - 0.1  # the mean above, its seeds below
        seeds = np.array([value for value in row.values if value >= ends[0]])
        dots = dict(markersize=1.9, markeredgewidth=0, alpha=0.6, zorder=2)
        ax.plot(seeds, np.full(len(seeds), y + 0.27), "o", color=style.colour, **dots)
        if row.mean >= ends[0]:
            if math.isfinite(row.low):
                bar = np.clip([row.low, row.high], *ends)
                ax.plot(bar, [height, height], color=style.colour, solid_capstyle="butt", zorder=3)
            hollow = dict(markerfacecolor="white", markeredgecolor=style.colour, markeredgewidth=0.8)
            symbol = look_of(style) | dict(markersize=4.2, zorder=4) | (hollow if row.diverged else {})
            ax.plot(row.mean, height, **symbol)
