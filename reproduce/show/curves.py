"""Curves: what every label learnt, panel by panel.

Seeds are the replication unit: every mean is over the runs of a label that differ in nothing but the seed, and every
interval is Student's 95 % interval of that mean, t(n - 1) sd / sqrt(n). One run has no interval.

Diverged runs stay visible. Where a run of a label diverged, the line ends in a cross and goes on, faint and without a
band, as the mean of the others: that is a mean over survivors, not the method's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reproduce.judge.estimates import mean_intervals
from reproduce.show.axes import ERROR_AXIS, accuracy_at, log_error, set_x, set_y
from reproduce.show.look import Style, look_of
from reproduce.show.panels import PAGE_HEIGHT, Frame, Grid, Panel, lay_out, paginate

POINTS = 120  # of a drawn curve: more than a panel of 1.4 inches can show
_X_LABELS = dict(
    epoch="Epochs",
    parameter_updates="Parameter updates",
    gradient_evaluations="Gradient evaluations",
    iteration="Iterations",
    seconds="Seconds of training",
)
_Y_LABELS = dict(
    test_accuracy="Test accuracy (%)",
    objective="Objective",
    constraint_gap="Constraint gap",
    smallest_gradient_norm="Smallest gradient norm so far",
)


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
    mean, low, high = mean_intervals(values)
    if logarithmic:
        mean, low, high = 10**mean, 10**low, 10**high
    places = curves.groupby("iteration")[x].mean().reindex(table.index).to_numpy()
    return Curve(places, mean, low, high, whole, bool((runs.status == "diverged").any()))


def curve_pages(grid: Grid, x: str, y: str) -> list[Figure]:
    panels = grid.panels
    # A gap or an objective is never negative unless it is a Lagrangian; only then is the axis linear.
    negative = any((panel.curves[y] < 0).any() for panel in panels)
    scale = "error" if y == "test_accuracy" else "linear" if negative else "log"
    lines = {panel: _panel_curves(panel, grid.styles, x, y, scale == "log") for panel in panels}
    if not any(lines.values()):
        return []
    rows = [kept for row in grid.rows if (kept := [panel for panel in row if lines[panel]])]
    columns = max(len(row) for row in rows)
    ranges = {panel: _y_range(curves, scale) for panel, curves in lines.items() if curves}
    # A power law is a line where both axes are logarithmic.
    drawn = [curve for curves in lines.values() for curve in curves.values()]
    log_x = y == "smallest_gradient_norm" or _wants_log(drawn, x)
    x_range = _x_range(lines, ranges, log_x)
    height = 2.2 if columns == 1 else 1.7 if columns == 2 else 1.35
    frame = Frame(left=0.31, right=0.08, below=0.19, edge=0.15)
    figures = []
    for page in paginate(rows, [height + 0.6] * len(rows), PAGE_HEIGHT - 1.6):
        here = {panel: lines[panel] for row in page for panel in row}
        notes = _curve_notes(here, ranges, y, scale) + grid.notes
        shown = [label for label in grid.styles if any(label in curves for curves in here.values())]
        handles = {label: Line2D([], [], **look_of(grid.styles[label])) for label in shown}
        labels = (_X_LABELS[x], _Y_LABELS[y])
        figure, axes = lay_out(page, columns, [height] * len(page), frame, grid.title, *labels, handles, notes)
        for panel, ax in axes:
            for number, label in enumerate(shown):
                if label in lines[panel]:
                    _draw_curve(ax, lines[panel][label], grid.styles[label], log_x, number, len(shown))
            set_x(ax, x_range, log_x)
            set_y(ax, ranges[panel], scale)
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
    ax.plot(x[whole], curve.mean[whole], zorder=3, markevery=(0.04 + 0.26 * number / of, 0.3), **look_of(style))
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
        last, top = log_error(min(curve.last for curve in steady)), log_error(high)
        span = max(1.3 * (top - last), top - log_error(high - 0.03))
        low = max(low, high / 3, accuracy_at(top - span))
        pad = max(0.05 * (top - log_error(low)), 0.005)
        return float(accuracy_at(log_error(low) - pad)), float(accuracy_at(top + pad))
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
        first.append(ERROR_AXIS)
    if y == "objective":
        first.append("Each method's own objective: compare shapes, not levels.")
    if y == "constraint_gap":
        first.append("Root mean square of a − h(z) over hidden units and samples.")
    if y == "smallest_gradient_norm":
        first.append("Euclidean norm of the mean cross-entropy's gradient on the first 10,000 training images.")
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
