"""Curves: what every label learnt, panel by panel.

Seeds are the replication unit: every mean is over the runs of a label that differ in nothing but the seed, and every
interval is Student's 95 % interval of that mean, t(n - 1) sd / sqrt(n). Fewer than MIN_SEEDS have none.

Diverged runs stay visible. Where a run of a label diverged, the line ends in a cross and goes on, faint and without a
band, as the mean of the others: that is a mean over survivors, not the method's.

A panel has eight lines in colour at the most. With more labels, each panel is drawn once for each group of them, the
others in grey.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reproduce.show.axes import (
    ERROR_SCALE,
    accuracy_at,
    far_below,
    linear_part,
    log_error,
    padded_symlog,
    power,
    set_x,
    set_y,
)
from reproduce.show.look import PALE, Style, look_of
from reproduce.show.marks import draw_held, held_notes, held_of
from reproduce.show.panels import (
    NAME,
    NAME_GAP,
    OTHERS,
    PAGE_HEIGHT,
    Frame,
    Grid,
    Heading,
    Panel,
    Ruler,
    intervals,
    lay_out,
    name_ends,
    of_seeds,
    paginate,
    size_of,
)

POINTS = 120  # of a drawn curve: more than a panel of 1.4 inches can show
_NAMES = 1.25  # inches right of a panel, at the most, for the names of its lines
_LONG_NAMES = 2.4  # and where the one panel across may be two columns wide
_BESIDE = 0.19  # inches beside a panel that is named there: leaders, and the margin
_X_LABELS = dict(
    epoch="Epochs",
    parameter_updates="Parameter updates",
    block_gradients="Gradients of a layer",
    iteration="Iterations",
    seconds="Seconds of training",
)
_Y_LABELS = dict(
    test_accuracy=f"Test accuracy (%), {ERROR_SCALE}",
    objective="Objective",
    constraint_gap="Constraint gap",
    smallest_gradient_norm="Smallest gradient norm so far",
)


@dataclass(frozen=True)
class Curve:
    """Mean and interval of a label over its seeds, (points,) each; NaN as interval where fewer than MIN_SEEDS count.

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


@dataclass(frozen=True, eq=False)
class Facet(Heading):
    """A panel with a group of its labels in colour."""

    panel: Panel
    coloured: list[str]


@dataclass(frozen=True)
class Scale:
    """Of a y axis. kind: as `axes.set_y` has it.  linear: the linear part of a symmetric logarithmic one."""

    kind: str
    linear: float = 1.0


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
    mean, low, high = intervals(values)
    if logarithmic:
        mean, low, high = 10**mean, 10**low, 10**high
    places = curves.groupby("iteration")[x].mean().reindex(table.index).to_numpy()
    return Curve(places, mean, low, high, whole, bool((runs.status == "diverged").any()))


def curve_pages(grid: Grid, x: str, y: str) -> list[Figure]:
    """A measure against a cost; none where no label has two points, and none against parameter updates where those
    are a multiple of the epochs, whose figure it would repeat."""
    panels = grid.panels
    per_epoch = _updates_per_epoch(panels)
    if x == "parameter_updates" and y == "test_accuracy" and per_epoch:
        return []
    scale = _scale_of(panels, y)
    lines = {panel: _panel_curves(panel, grid.styles, x, y, scale.kind == "log") for panel in panels}
    drawn = [curve for curves in lines.values() for curve in curves.values()]
    # A power law is a line where both axes are logarithmic, and what an objective does first is seen there alone.
    log_x = y != "test_accuracy" or _wants_log(drawn, x)
    if max(((curve.x > 0).sum() if log_x else len(curve.x) for curve in drawn), default=0) < 2:
        return []
    held = {panel: held_of(grid, panel, lines[panel], x, y) for panel in panels}
    ranges = {panel: _y_range(curves, scale, log_x, held[panel].levels) for panel, curves in lines.items() if curves}
    x_ranges = _x_ranges(lines, ranges, log_x)
    rows = _facets(grid, lines)
    columns = max(len(row) for row in rows)
    height = 2.2 if columns == 1 else 1.7 if columns == 2 else 1.35
    named, right = _named_beside(rows, columns, height, grid.sheet.one_column)
    wide = named and right > _NAMES + _BESIDE
    frame = Frame(left=0.36 if scale.kind == "symlog" else 0.31, right=right, below=0.19, edge=0.15)
    y_label = _Y_LABELS[y]
    if scale.kind == "symlog":
        y_label += f" (linear between ±{power(scale.linear)})"
    grouped = any(len(facet.coloured) < len(lines[facet.panel]) for row in rows for facet in row)
    figures = []
    for page in paginate(
        rows, [height + (0.9 if grouped else 0.6)] * len(rows), PAGE_HEIGHT - (0.9 if grouped else 1.6)
    ):
        here = {facet.panel: lines[facet.panel] for row in page for facet in row}
        notes = _curve_notes(here, ranges, y, scale, grouped)
        notes += [f"An epoch is {per_epoch} parameter updates."] if x == "epoch" and per_epoch else []
        if len({x_ranges[panel] for panel in here}) > 1:
            notes.append("Panels differ in the range of the horizontal axis.")
        notes += held_notes({panel: held[panel] for panel in here})
        handles, row_handles = _handles(grid, page, here, named, grouped)
        figure, axes = lay_out(
            grid.sheet, page, columns, [height] * len(page), frame, _X_LABELS[x], y_label, handles, notes, wide,
            row_handles,
        )  # fmt: skip
        for facet, ax in axes:
            panel = facet.panel
            for label, curve in lines[panel].items():
                if label in facet.coloured:
                    place = facet.coloured.index(label)
                    _draw_curve(ax, curve, grid.styles[label], log_x, ranges[panel][0], place, len(facet.coloured))
                else:
                    keep = _drawable(curve, log_x)
                    ax.plot(curve.x[keep], curve.mean[keep], color=PALE, linewidth=0.7, zorder=2)
            set_x(ax, x_ranges[panel], log_x)
            set_y(ax, ranges[panel], scale.kind, scale.linear)
            draw_held(ax, held[panel], facet.coloured)
            # A label that lost every run before the axis begins has no line to name.
            begin = max(x_ranges[panel][0], 1e-300)
            ended = {label: lines[panel][label] for label in facet.coloured if lines[panel][label].x[-1] >= begin}
            if named and ended:
                _name_lines(ax, ended, ranges[panel], grid.styles)
        figures.append(figure)
    return figures


def _scale_of(panels: Sequence[Panel], y: str) -> Scale:
    """A gap or an objective is never negative unless it is a Lagrangian."""
    if y == "test_accuracy":
        return Scale("error")
    values = np.concatenate([panel.curves[y].dropna().to_numpy(float) for panel in panels] or [np.empty(0)])
    return Scale("symlog", linear_part(values)) if (values < 0).any() else Scale("log")


def _updates_per_epoch(panels: Sequence[Panel]) -> str:
    """The parameter updates of an epoch, panel by panel, where all labels make as many; else empty."""
    counts = []
    for panel in panels:
        later = panel.curves[panel.curves.epoch > 0]
        ratio = later.parameter_updates / later.epoch
        if later.empty or not ratio.max() <= 1.02 * ratio.min():
            return ""
        counts.append(f"{ratio.median():,.0f}")
    return " or ".join(dict.fromkeys(counts))


def _facets(grid: Grid, lines: Mapping[Panel, Mapping[str, Curve]]) -> list[list[Facet]]:
    """The rows of panels, each once for every group of labels that it has lines of. A panel without one keeps its
    place, so that a data set is in one column."""
    labels = [label for label in grid.styles if any(label in curves for curves in lines.values())]
    rows = []
    for row in grid.rows:
        for name, group in grid.groups(labels):
            facets = []
            for panel in row:
                setting = ", ".join(word for word in (panel.setting, name) if word)
                coloured = [label for label in group if label in lines[panel]]
                if lines[panel]:
                    mine = panel.runs[panel.runs.label.isin(group)]
                    size = size_of(mine) if len(mine) else "not run"
                    facets.append(Facet(panel.name, setting, size, panel, coloured))
            rows += [facets] if any(facet.coloured for facet in facets) else []
    return rows


def _named_beside(rows: Sequence[Sequence[Facet]], columns: int, height: float, one_column: bool) -> tuple[bool, float]:
    """Whether lines have their names beside them instead of in a legend, and the room right of a panel."""
    ruler = Ruler()
    facets = [facet for row in rows for facet in row]
    width = max(ruler.width(label, NAME) for facet in facets for label in facet.coloured)
    room = NAME_GAP * max(len(facet.coloured) for facet in facets) <= height
    most = _LONG_NAMES if columns == 1 and not one_column else _NAMES
    if columns <= 2 and width <= most and room:
        return True, width + _BESIDE
    return False, 0.08


def _handles(
    grid: Grid, page: Sequence[Sequence[Facet]], lines: Mapping[Panel, Mapping[str, Curve]], named: bool, grouped: bool
) -> tuple[dict[str, Line2D], list[dict[str, Line2D]]]:
    """The legend of the page and those of its rows, of which one is empty."""
    if named:
        return {}, []
    line = lambda label: Line2D([], [], **look_of(grid.styles[label]))
    if not grouped:
        shown = [label for label in grid.styles if any(label in curves for curves in lines.values())]
        return {label: line(label) for label in shown}, []
    rows = []
    for row in page:
        shown = dict.fromkeys(label for facet in row for label in facet.coloured)
        rows.append({label: line(label) for label in shown} | {OTHERS: Line2D([], [], color=PALE, linewidth=0.9)})
    return {}, rows


def _panel_curves(panel: Panel, labels: Iterable[str], x: str, y: str, logarithmic: bool) -> dict[str, Curve]:
    """The curves of a panel by label, in the order of `labels`; labels without a value have none."""
    runs = dict(list(panel.runs.groupby("label")))
    points = dict(list(panel.curves.groupby(panel.curves.run_key.map(panel.runs.set_index("run_key").label))))
    found = {label: curve_of(runs[label], points[label], x, y, logarithmic) for label in labels if label in points}
    return {label: curve for label, curve in found.items() if curve}


def _wants_log(curves: Sequence[Curve], x: str) -> bool:
    """Where budgets differ threefold, the small ones would be crushed at 0; and where updates span two decades."""
    positive = np.concatenate([curve.x[curve.x > 0] for curve in curves] or [np.empty(0)])
    if x == "parameter_updates" and positive.size > 0 and positive.max() > 100 * positive.min():
        return True
    ends = [curve.x[-1] for curve in curves if curve.whole == len(curve.x) and curve.x[-1] > 0] or [0]
    return min(ends) > 0 and max(ends) > 3 * min(ends)


def _drawable(curve: Curve, log_x: bool) -> np.ndarray:
    return _thin(np.flatnonzero(curve.x > 0) if log_x else np.arange(len(curve.x)), curve.x, log_x)


def _draw_curve(ax: Axes, curve: Curve, style: Style, log_x: bool, bottom: float, number: int, of: int) -> None:
    x = curve.x
    keep = np.flatnonzero(x > 0) if log_x else np.arange(len(x))
    whole, rest = (_thin(part, x, log_x) for part in (keep[keep < curve.whole], keep[keep >= curve.whole]))
    # Markers at a fixed distance on the page, each label's elsewhere; bands pale where many overlap.
    ax.plot(x[whole], curve.mean[whole], zorder=3, markevery=(0.04 + 0.26 * number / of, 0.3), **look_of(style))
    band = dict(color=style.colour, alpha=max(0.07, min(0.18, 1 / of)), linewidth=0)
    if (curve.mean >= bottom).any():  # or the band of a lost seed would cover a panel that its line is below
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


def _name_lines(ax: Axes, curves: dict[str, Curve], ends: tuple[float, float], look: dict[str, Style]) -> None:
    """Names beside the ends of the lines; a line that left the panel has its name at the edge where it left."""
    last = {label: (curve.x[-1], float(np.clip(curve.last, *ends))) for label, curve in curves.items()}
    name_ends(ax, last, look)


def _y_range(curves: Mapping[str, Curve], scale: Scale, log_x: bool, anchors: Sequence[float]) -> tuple[float, float]:
    """Low and high end of a panel's y axis; `anchors` are in it.

    Accuracy: from the best mean down past the lowest last mean, so that labels end in the panel and slow starts begin
    below it; but not below a third of the best, nor down to a label `far_below` the others: what failed leaves the
    panel (and is noted), and the rest can be told apart.
    """
    # A diverging run leaves the panel if it likes; the range is that of the others.
    steady = [curve for curve in curves.values() if not curve.diverged] or list(curves.values())
    seen = [curve.mean[curve.x > 0] if log_x and curve.x[-1] > 0 else curve.mean for curve in steady]
    means = np.concatenate([*seen, np.array(anchors, float)])
    low, high = np.nanmin(means), np.nanmax(means)
    if scale.kind == "error":
        ends = np.array([curve.last for curve in steady])
        near = ends[~far_below(ends, np.array([curve.high[-1] for curve in steady]))]
        last, top = log_error(min([*near, *anchors])), log_error(high)
        span = max(1.3 * (top - last), top - log_error(high - 0.03))
        low = max(low, high / 3, accuracy_at(top - span))
        pad = max(0.05 * (top - log_error(low)), 0.005)
        return float(accuracy_at(log_error(low) - pad)), float(accuracy_at(top + pad))
    if scale.kind == "log":
        factor = max(high / low, 1.1) ** 0.06
        return low / factor, high * factor
    return padded_symlog(low, high, scale.linear)


def _curve_notes(
    lines: dict[Panel, dict[str, Curve]],
    ranges: dict[Panel, tuple[float, float]],
    y: str,
    scale: Scale,
    grouped: bool,
) -> list[str]:
    seeds = {n for panel in lines for n in panel.runs.groupby("label").seed.nunique()}
    mean = "Geometric mean" if scale.kind == "log" else "Mean"
    band = f"band: 95 % t interval of the mean{of_seeds(min(seeds), max(seeds))}"
    first = [f"{mean} over seeds; {band}." if max(seeds) > 1 else "One seed a line."]
    if grouped:
        first.append("Each data set once for every group of methods; grey: the others' means.")
    if y == "objective":
        first.append("Each method's own objective: compare shapes, not levels.")
    if y == "constraint_gap":
        first.append("Root mean square of a − h(z) over hidden units and samples.")
    if y == "smallest_gradient_norm":
        first.append("Euclidean norm of the mean cross-entropy's gradient on the first 10,000 training images.")
    if scale.kind == "log" and any((panel.curves[y] == 0).any() for panel in lines):
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


def _x_ranges(
    lines: Mapping[Panel, Mapping[str, Curve]], ranges: Mapping[Panel, tuple[float, float]], log_x: bool
) -> dict[Panel, tuple[float, float]]:
    """The same for all panels, unless the costs of some end at less than a third of the others': then each its own."""
    drawn = {panel: curves for panel, curves in lines.items() if curves}
    found = dict.fromkeys(drawn, _x_range(drawn, ranges, log_x))
    ends = {panel: max(curve.x.max() for curve in curves.values()) for panel, curves in drawn.items()}
    begun = {panel: end for panel, end in ends.items() if end > 0}  # a data set may lose every run at its start
    if max(begun.values()) > 3 * min(begun.values()):
        found |= {panel: _x_range({panel: drawn[panel]}, ranges, log_x) for panel in begun}
    return found


def _x_range(
    lines: Mapping[Panel, Mapping[str, Curve]], ranges: Mapping[Panel, tuple[float, float]], log_x: bool
) -> tuple[float, float]:
    """From 0, or in logarithms from the first point that is not below its panel."""
    pairs = [(curve, ranges[panel][0]) for panel, curves in lines.items() for curve in curves.values()]
    high = max(curve.x.max() for curve, _ in pairs)
    if not log_x:
        return 0.0, high
    inside = [x for curve, bottom in pairs for x in curve.x[(curve.x > 0) & (curve.mean >= bottom)]]
    return min(inside, default=high / 100), high
