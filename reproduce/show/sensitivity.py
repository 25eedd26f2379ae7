"""Accuracy against a number: a hyper-parameter of a method, or the depth or width of the network.

A line is one method along the settings that differ in one number and in nothing else, three values or more; which
numbers those are is read from the column `hyperparameters` and from the widths. Initial step sizes, whatever a method
calls its own, share an axis.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from reproduce.evidence.schema import method_title
from reproduce.judge.rows import with_role
from reproduce.show.axes import ERROR_SCALE, accuracy_at, accuracy_ticks, log_error, power, set_y, short
from reproduce.show.look import GREY, Style, look_of, styles
from reproduce.show.lost import LOST, ROW, Lost, draw_lost, lost_note, lost_runs
from reproduce.show.panels import (
    PAGE_HEIGHT,
    Frame,
    Grid,
    Heading,
    Panel,
    Ruler,
    intervals,
    is_number,
    lay_out,
    of_seeds,
    paginate,
)

STEP_SIZE = "Initial step size"
DEPTH, WIDTH = "Hidden layers", "Width of the hidden layers"
_Y_LABEL = f"Final test accuracy (%), {ERROR_SCALE}"
VALUES = 3  # of a number, so that a line says more than a pair of points
_AXIS = 0.4  # inches between two axes: tick labels and the label of the upper one


@dataclass(frozen=True, eq=False)
class Line:
    """Accuracy of one method against the values of one number, (points,) each and ascending in the number.

    low, high: ends of the 95 % interval over seeds of the mean of the runs that finished.  settings: what identifies
    each point besides the method: its hyper-parameters and its network.  fixed: the depth or width that a line over
    networks keeps.
    """

    method: str
    name: str
    key: str
    fixed: str
    values: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray
    diverged: np.ndarray
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Sweep(Heading):
    """A panel: the lines of one data set that share an axis. base: the value that its other panels keep, if any.

    lost: the share of runs that each line loses, where that is known as the claims count it; else empty.
    """

    number: str
    lines: list[Line]
    base: float | None
    lost: list[Lost]


def covered(grid: Grid) -> bool:
    """Whether every run of the grid is a point of some line of `sweep_pages`."""
    for group in _groups(grid):
        points = {(line.method, *s) for sweep in _sweeps(group) for line in sweep.lines for s in line.settings}
        for panel in group:
            if not points.issuperset(zip(panel.runs.method, panel.runs.hyperparameters, panel.runs.hidden)):
                return False
    return True


def sweep_pages(grid: Grid) -> list[Figure]:
    """Final test accuracy against every number that the grid sweeps; none where it sweeps none."""
    groups = [sweeps for group in _groups(grid) if (sweeps := _sweeps(group))]
    if not groups:
        return []
    panels = [sweep for sweeps in groups for sweep in sweeps]
    look = styles(
        (line.method, line.name, text) for sweep in panels for line in sweep.lines for text, _ in line.settings
    )
    if max(map(len, groups)) == 1:
        columns = grid.sheet.across(min(len(panels), 3))
        rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    else:
        columns = grid.sheet.across(min(max(map(len, groups)), 4))
        rows = [sweeps[i : i + columns] for sweeps in groups for i in range(0, len(sweeps), columns)]
    numbers = {sweep.number for sweep in panels}
    ranges = {sweep: _accuracy_range(sweeps) for sweeps in groups for sweep in sweeps}
    judged = all(sweep.lost for sweep in panels)
    most = np.nanmax([1.0, *(end for sweep in panels for share in sweep.lost for end in (share.mean, share.high))])
    strips = [max(_strip(sweep, judged) for sweep in row) for row in rows]
    between = _AXIS if judged else 0.05
    upper = 2.2 if columns == 1 else 1.9 if columns == 2 else 1.45
    heights = [upper + (strip + between if strip else 0.0) for strip in strips]
    frame = Frame(left=0.31, right=0.09, below=0.19 if len(numbers) == 1 else 0.36, edge=0.15)
    figures, ruler = [], Ruler()
    for page in paginate(rows, [height + 0.4 + frame.below for height in heights], PAGE_HEIGHT - 1.6):
        shown = [sweep for row in page for sweep in row]
        names = list(dict.fromkeys(line.name for sweep in shown for line in sweep.lines))
        handles = {name: Line2D([], [], **look_of(look[name])) for name in names} if len(names) > 1 else {}
        first = rows.index(page[0])
        x_label = LOST if judged else shown[0].number if len(numbers) == 1 else ""
        figure, axes = lay_out(
            grid.sheet, page, columns, heights[first : first + len(page)], frame, x_label, _Y_LABEL, handles,
            _notes(shown, judged),
        )  # fmt: skip
        for sweep, ax in axes:
            strip = strips[next(i for i, row in enumerate(rows) if sweep in row)]
            lower = _lower(ax, strip, between) if strip else None
            _draw(ax, sweep, look, ranges[sweep], ruler)
            if judged:
                draw_lost(lower, sweep.lost, [look[line.name] for line in sweep.lines], most)
            elif lower:
                _draw_strip(ax, lower, sweep, look, strip)
            if judged or not x_label:
                below = 0 if judged or not strip else strip + between
                ax.annotate(
                    sweep.number, (0.5, 0), (0, -13 - 72 * below), xycoords="axes fraction",
                    textcoords="offset points", ha="center", va="top", fontsize=7,
                )  # fmt: skip
        figures.append(figure)
    return figures


def _strip(sweep: Sweep, judged: bool) -> float:
    """Inches of what stands below a panel: a row a line with the runs it lost, of diverged ones below a heading."""
    count = len(sweep.lines) if judged else sum(any(line.diverged > 0) for line in sweep.lines)
    return ROW * (count + (not judged)) if count else 0.0


def _lower(ax: Axes, strip: float, between: float) -> Axes:
    """The lower part of a panel's place, which the panel makes room for."""
    figure, box = ax.figure, ax.get_position()
    share = (strip + between) / figure.get_figheight()
    ax.set_position((box.x0, box.y0 + share, box.width, box.height - share))
    return figure.add_axes((box.x0, box.y0, box.width, strip / figure.get_figheight()), label="lost")


def _groups(grid: Grid) -> list[list[Panel]]:
    """The panels of one data set, size and activation, which differ in the network at the most."""
    groups: dict[tuple, list[Panel]] = {}
    for panel in grid.panels:
        run = panel.runs.iloc[0]
        groups.setdefault((run.dataset, run.activation, run["size"]), []).append(panel)
    return list(groups.values())


def _sweeps(group: list[Panel]) -> list[Sweep]:
    """The panels of a group: one for step sizes, one for each other hyper-parameter, one for width, one for depth."""
    found: dict[tuple[str, str], list[Line]] = {}
    headings: dict[str, Heading] = {}
    losses: dict[tuple[str, str], dict] = {}
    for panel in group:
        headings[panel.place] = panel
        losses[panel.place, STEP_SIZE] = lost_runs(panel)
        for method, number, key, rows in _along_hyperparameters(panel):
            found.setdefault((panel.place, number), []).append(_line(method, _name(method, key, rows), key, rows))
    headings[""] = _without_network(group)
    for method, name, number, fixed, rows in _along_networks(group):
        found.setdefault(("", number), []).append(_line(method, name, number, rows, fixed))
    points = Counter((line.method, s) for lines in found.values() for line in lines for s in set(line.settings))
    sweeps = []
    for (place, number), lines in found.items():
        heading = headings[place]
        pairs = [(value, (line.method, s)) for line in lines for value, s in zip(line.values, line.settings)]
        bases = {float(value) for value, point in pairs if points[point] > 1}
        fixed = {line.fixed for line in lines}
        setting = ", ".join(filter(None, [heading.setting, fixed.pop() if len(fixed) == 1 else ""]))
        base = bases.pop() if len(bases) == 1 else None
        known = losses.get((place, number), {})
        lost = [known[line.method, line.settings[0][0]] for line in lines] if known else []
        sweeps.append(Sweep(heading.name, setting, heading.size, number, _distinct(lines), base, lost))
    return sweeps


def _without_network(group: list[Panel]) -> Heading:
    """What the headings of panels that differ in the network share."""
    words = [panel.setting.split(", ") for panel in group]
    shared = [word for word in words[0] if all(word in others for others in words)]
    size = os.path.commonprefix([panel.size for panel in group])
    return Heading(group[0].name, ", ".join(shared), size if size == group[0].size else size.split(",  ")[0])


def _along_hyperparameters(panel: Panel) -> Iterable[tuple[str, str, str, pd.DataFrame]]:
    """(method, number, key, runs with `value` and `setting`) for every line of a panel."""
    runs = panel.runs
    settings = {text: json.loads(text) for text in runs.hyperparameters.unique()}
    for method, mine in runs.groupby("method", sort=False):
        own = {text: settings[text] for text in mine.hyperparameters.unique()}
        keys = dict.fromkeys(key for given in own.values() for key, value in given.items() if is_number(value))
        for key in keys:
            families: dict[str, dict[str, float]] = {}
            for text, given in own.items():
                if is_number(given.get(key)):
                    rest = json.dumps({k: v for k, v in given.items() if k != key}, sort_keys=True)
                    families.setdefault(rest, {})[text] = given[key]
            for values in families.values():
                if len(set(values.values())) >= VALUES:
                    rows = mine[mine.hyperparameters.isin(values)]
                    # One run under several labels is one run.
                    rows = rows.drop_duplicates(["hyperparameters", "seed"])
                    rows = rows.assign(value=rows.hyperparameters.map(values), setting=rows.hyperparameters)
                    yield method, STEP_SIZE if key in with_role(method, "step size") else key, key, rows


def _along_networks(group: list[Panel]) -> Iterable[tuple[str, str, str, str, pd.DataFrame]]:
    """(method, name, WIDTH or DEPTH, what is fixed, runs with `value` and `setting`) for every line of a group.

    Only networks whose hidden layers are equally wide have a place on it.
    """
    runs = pd.concat([panel.runs for panel in group])
    layers = runs.hidden.str.split("-")
    runs = runs.assign(depth=layers.str.len(), width=layers.str[0].astype(float), setting=runs.hyperparameters)
    runs = runs[[len(set(widths)) == 1 for widths in layers]]
    aliases = runs.groupby(["method", "hyperparameters", "hidden"]).label.nunique()
    for (method, label), mine in runs.groupby(["method", "label"], sort=False):
        # Labels that show one run ("width", "depth", "rho = 0.001") name the sweep and not what is swept.
        settings = mine[["method", "hyperparameters", "hidden"]].itertuples(index=False, name=None)
        name = method_title(method) if any(aliases[setting] > 1 for setting in settings) else label
        for number, moves, stays in ((WIDTH, "width", "depth"), (DEPTH, "depth", "width")):
            for kept, rows in mine.groupby(stays):
                if rows[moves].nunique() >= VALUES:
                    fixed = f"{kept:g} hidden layer{'s' * (kept > 1)}" if stays == "depth" else f"width {kept:g}"
                    yield method, name, number, fixed, rows.assign(value=rows[moves].astype(float))


def _line(method: str, name: str, key: str, rows: pd.DataFrame, fixed: str = "") -> Line:
    points = []
    for value, cell in rows.groupby("value"):
        mean, low, high = intervals(cell.test_accuracy[cell.status == "done"].to_numpy())
        setting = (cell.setting.iloc[0], cell.hidden.iloc[0])
        points.append((value, mean, low, high, len(cell), int((cell.status == "diverged").sum()), setting))
    *columns, settings = zip(*points)
    return Line(method, name, key, fixed, *(np.array(column, float) for column in columns), settings)


def _name(method: str, key: str, rows: pd.DataFrame) -> str:
    """What the labels of a line share, without the key: "SAMT row" of "SAMT row, alpha0 = 0.01"."""
    shared = os.path.commonprefix(list(rows.label.unique())).split(key)[0]
    return shared.rstrip("0123456789.-").rstrip(" ,(=") or method_title(method)


def _distinct(lines: list[Line]) -> list[Line]:
    """The lines under names that no two share: what their settings differ in is added where needed."""
    named = []
    for line in lines:
        alike = [other for other in lines if other.name == line.name and other is not line]
        mine, others = json.loads(line.settings[0][0]), [json.loads(other.settings[0][0]) for other in alike]
        extra = [f"{k} = {v}" for k, v in mine.items() if k != line.key and any(o.get(k) != v for o in others)]
        extra += [line.fixed] if any(other.fixed != line.fixed for other in alike) else []
        named.append(replace(line, name=", ".join([line.name, *extra])))
    return named


def _accuracy_range(sweeps: list[Sweep]) -> tuple[float, float]:
    """One range for all panels of a data set, from the lowest mean to the highest: slopes compare across panels."""
    means = np.concatenate([line.mean for sweep in sweeps for line in sweep.lines])
    means = means[np.isfinite(means)]
    if not len(means):
        return 0.0, 0.9
    low, high = log_error(means.min()), log_error(means.max())
    highs = [line.high[np.isfinite(line.mean)] for sweep in sweeps for line in sweep.lines]
    top = np.nanmax(np.concatenate(highs, dtype=float), initial=means.max())
    pad = 0.06 * max(high - low, 0.05)
    top = min(log_error(top), high + 3 * pad)
    return float(max(accuracy_at(low - pad), 0.0)), float(accuracy_at(top + pad))


def _scale(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Places of ascending values on an axis, and whether it is logarithmic: where they span a factor of 20.

    On a logarithmic axis, a zero has a place of its own, left of the others.
    """
    positive = values[values > 0]
    if len(positive) < 2 or (values < 0).any() or positive[-1] < 20 * positive[0]:
        return values, False
    places = np.log10(np.where(values > 0, values, 1))
    return np.where(values > 0, places, np.log10(positive[0]) - 0.6), True


def _ticks(values: np.ndarray, places: np.ndarray, log: bool, width: float, ruler: Ruler) -> tuple[list, list[str]]:
    """As many of the values, written, as the axis has room for: all, or the powers of ten, or every second, third ...

    width: of the axis, in inches.
    """

    def text(value: float) -> str:
        return power(value) if log and 0 < value < 0.1 else short(value)

    scale = width / (places[-1] - places[0])
    choices = [np.arange(len(values))]
    if log:
        round_ones = [i for i, v in enumerate(values) if v == 0 or abs(math.log10(v) - round(math.log10(v))) < 1e-3]
        choices += [np.array(round_ones[::step], int) for step in (1, 2, 3)]
    choices += [np.arange(0, len(values), step) for step in (2, 3, 4, 6)]
    for chosen in choices:
        texts = [text(values[i]) for i in chosen]
        room = np.diff(places[chosen]) * scale
        needed = [(ruler.width(a, 6.5) + ruler.width(b, 6.5)) / 2 + 0.05 for a, b in zip(texts, texts[1:])]
        if len(chosen) > 1 and (room >= needed).all():
            break
    return [places[i] for i in chosen], texts


def _places(sweep: Sweep) -> tuple[np.ndarray, np.ndarray, bool]:
    values = np.unique(np.concatenate([line.values for line in sweep.lines]))
    return values, *_scale(values)


def _draw(ax: Axes, sweep: Sweep, look: dict[str, Style], ends: tuple[float, float], ruler: Ruler) -> None:
    values, places, log = _places(sweep)
    at = dict(zip(values, places))
    set_y(ax, ends, "error")
    accuracy_ticks(ax.yaxis, *ends, gap=1 / 9)
    margin = 0.05 * (places[-1] - places[0])
    ax.set_xlim(places[0] - margin, places[-1] + margin)
    width = ax.get_position().width * ax.figure.get_figwidth() / 1.1
    ticks, texts = _ticks(values, places, log, width, ruler)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FixedFormatter(texts))
    if sweep.base is not None:
        ax.axvline(at[sweep.base], color=GREY, linestyle=(0, (1, 1.5)), linewidth=0.8, zorder=1)
    for line in sweep.lines:
        style, x = look[line.name], np.array([at[value] for value in line.values])
        band = dict(color=style.colour, alpha=max(0.08, min(0.18, 1 / len(sweep.lines))), linewidth=0)
        ax.fill_between(x, line.low, line.high, **band)
        ax.plot(x, line.mean, color=style.colour, linestyle=style.line, zorder=3)
        for hollow in (False, True):
            here = (line.diverged > 0) == hollow
            face = dict(markerfacecolor="white", markeredgecolor=style.colour, markeredgewidth=0.8) if hollow else {}
            ax.plot(x[here], line.mean[here], **(look_of(style) | face | dict(linestyle="none", zorder=4)))


def _draw_strip(above: Axes, ax: Axes, sweep: Sweep, look: dict[str, Style], strip: float) -> None:
    """One row a line with diverged runs: how many, value by value, below their places in the panel."""
    values, places, _ = _places(sweep)
    at = dict(zip(values, places))
    ax.sharex(above)
    above.tick_params(axis="x", labelbottom=False, length=0)
    ax.set_ylim(strip / ROW - 0.5, -0.5)
    ax.set_facecolor("#f4f4f4")
    ax.set_yticks([])
    ax.grid(False)
    ax.spines["left"].set_visible(False)
    lost = [line for line in sweep.lines if (line.diverged > 0).any()]
    heading = "Diverged runs" if lost else "No diverged runs"
    ax.text(0.01, 0, heading, transform=ax.get_yaxis_transform(), va="center", fontsize=5, color=GREY)
    for row, line in enumerate(lost, 1):
        symbol = look_of(look[line.name]) | dict(linestyle="none", markersize=3.2, clip_on=False)
        ax.plot(-0.035, row, transform=ax.get_yaxis_transform(), **symbol)
        for value, runs, diverged in zip(line.values, line.runs, line.diverged):
            if diverged:
                whole = dict(fontweight="bold") if diverged == runs else {}
                ax.text(at[value], row, f"{diverged:.0f}", ha="center", va="center_baseline", fontsize=5, **whole)


def _notes(sweeps: Sequence[Sweep], judged: bool) -> list[str]:
    lines = [line for sweep in sweeps for line in sweep.lines]
    runs = np.concatenate([line.runs for line in lines])
    band = f"band: 95 % t interval of the mean{of_seeds(int(runs.min()), int(runs.max()))}"
    text = f"Mean over seeds; {band}." if runs.max() > 1 else "One seed a point."
    if any(sweep.base is not None for sweep in sweeps):
        text += " Dotted: the setting that the other panels keep."
    if any((line.diverged > 0).any() for line in lines):
        of = f"{runs.min():.0f}" if runs.min() == runs.max() else f"{runs.min():.0f} to {runs.max():.0f}"
        text += " Hollow: the mean of the runs that did not diverge"
        text += "." if judged else f"; grey strip: how many of {of} did (bold: all)."
    notes = [text] + ([lost_note(max(len(line.values) for line in lines))] if judged else [])
    keys: dict[str, list[str]] = {}
    for sweep in sweeps:
        if sweep.number == STEP_SIZE:
            for line in sweep.lines:
                keys.setdefault(line.key, []).append(line.name)
    if keys:
        named = "; ".join(f"{key} of {', '.join(dict.fromkeys(names))}" for key, names in keys.items())
        notes.append(f"{STEP_SIZE}: {named}.")
    return notes
