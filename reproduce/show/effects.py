"""Effects: accuracies by activation, paired gains of the first label, costs of a block update."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reproduce.evidence.schema import activation_title
from reproduce.judge.compare import bold, compare, compare_costs
from reproduce.show.axes import log_error, set_x
from reproduce.show.look import SMALL, Style, look_of, luminance
from reproduce.show.panels import (
    NAME,
    PAGE_HEIGHT,
    Frame,
    Grid,
    Heading,
    Panel,
    Ruler,
    lay_out,
    only_label,
    paginate,
    panel_rows,
)

LINEAR = 10.0  # points of accuracy; gains beyond have a logarithmic axis


@dataclass(frozen=True, eq=False)
class Activations(Heading):
    """The runs of one data set, network and size with several activations."""

    runs: pd.DataFrame


def _with_activations(grid: Grid) -> list[Activations]:
    groups: dict[tuple, list[Panel]] = {}
    for panel in grid.panels:
        run = panel.runs.iloc[0]
        groups.setdefault((run.dataset, run.hidden, run["size"]), []).append(panel)
    found = []
    for panels in groups.values():
        if len({panel.runs.activation.iloc[0] for panel in panels}) > 1:
            words = [set(panel.setting.split(", ")) for panel in panels]
            setting = ", ".join(word for word in panels[0].setting.split(", ") if all(word in w for w in words))
            found.append(Activations(panels[0].name, setting, panels[0].size, pd.concat([p.runs for p in panels])))
    return found


def activation_pages(grid: Grid) -> list[Figure]:
    """Heat maps of the final test accuracy, methods x activations, one a data set; the numbers stand in the cells."""
    panels = _with_activations(grid)
    if not panels:
        return []
    ruler = Ruler()
    labels = {panel: list(panel.runs.label.unique()) for panel in panels}
    names = max(ruler.width(label, NAME) for panel in panels for label in labels[panel])
    activations = max(panel.runs.activation.nunique() for panel in panels)
    # A cell has to hold "97.31": two panels side by side where both have that room.
    columns = grid.sheet.across(2 if len(panels) > 1 and (3.4 - names - 0.2) / activations >= 0.3 else 1)
    wide = columns == 1 and (3.2 - names) / activations < 0.3
    rows = panel_rows(panels, columns)
    heights = [0.2 * max(len(labels[panel]) for panel in row) for row in rows]
    frame = Frame(left=names + 0.08, right=0.04, below=0.42, edge=0.0)
    figures = []
    for page in paginate(rows, [height + 0.8 for height in heights], PAGE_HEIGHT - 0.8):
        first = rows.index(page[0])
        shown = [panel for row in page for panel in row]
        text = "Mean final test accuracy (%) over seeds; darker is higher, in steps of the error. Bold: the best of an "
        text += "activation, and what a paired test at 5 % does not find worse."
        if any((panel.runs.status == "diverged").any() for panel in shown):
            text += " ×: diverged runs; the mean is of the others."
        figure, axes = lay_out(
            grid.sheet, page, columns, heights[first : first + len(page)], frame, "", "", {}, [text], wide=wide
        )  # fmt: skip
        for panel, ax in axes:
            _draw_heat(ax, panel.runs, labels[panel])
        figures.append(figure)
    return figures


def _draw_heat(ax: Axes, runs: pd.DataFrame, labels: list[str]) -> None:
    activations = list(runs.activation.unique())
    best = bold(runs, "activation")
    cells = dict(list(runs.groupby(["label", "activation"])))
    means = {key: cell.test_accuracy[cell.status == "done"].mean() for key, cell in cells.items()}
    known = [mean for mean in means.values() if mean == mean] or [0.0]
    # What failed is pale, whatever it reached: the tones are for what reached half of the best.
    high, low = log_error(max(known)), max(log_error(min(known)), log_error(max(known) / 2))
    for y, label in enumerate(labels):
        for x, activation in enumerate(activations):
            if (label, activation) not in cells:
                continue
            cell, mean = cells[label, activation], means[label, activation]
            tone = 0.0 if math.isnan(mean) else float(np.clip((log_error(mean) - low) / max(high - low, 1e-9), 0, 1))
            colour = np.array(to_rgb("#f3f3f3")) * (1 - tone) + np.array(to_rgb("#0b4f7d")) * tone
            ax.fill_between([x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=colour, linewidth=0)
            lost = int((cell.status == "diverged").sum())
            text = "–" if math.isnan(mean) else f"{100 * mean:.1f}"
            ink = dict(color="white" if luminance(colour) < 0.5 else "black", ha="center", va="center_baseline")
            weight = "bold" if best.get((activation, label), False) else "normal"
            ax.text(x, y - 0.16 * bool(lost), text, fontsize=SMALL, fontweight=weight, **ink)
            if lost:
                ax.text(x, y + 0.26, f"× {lost}/{len(cell)}", fontsize=4.5, **ink)
    ax.set_xlim(-0.5, len(activations) - 0.5)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)
    ax.set_yticks(range(len(labels)), labels)
    names = [activation_title(activation) for activation in activations]
    ax.set_xticks(range(len(activations)), names, rotation=35, ha="right", rotation_mode="anchor")


def gain_pages(grid: Grid) -> list[Figure]:
    """Paired differences of the grid's first label to every other, by activation; one panel a data set."""
    panels, others = _with_activations(grid), list(grid.styles)[1:]
    first_label = next(iter(grid.styles), "")
    tables = {}
    for panel in panels:
        there = [label for label in others if label in set(panel.runs.label)]
        if there and first_label in set(panel.runs.label):
            tables[panel] = compare(panel.runs, first_label, there, by="activation")
    if not tables:
        return []
    ruler = Ruler()
    panels = list(tables)
    names = max(ruler.width(activation_title(name), NAME) for panel in panels for name in panel.runs.activation)
    columns = grid.sheet.across(min(2, len(panels)))
    rows = panel_rows(panels, columns)
    inner = 0.075
    heights = [
        max(panel.runs.activation.nunique() * (inner * tables[panel].b.nunique() + 0.07) for panel in row)
        for row in rows
    ]
    frame = Frame(left=names + 0.12, right=0.12, below=0.19, edge=0.0)
    means = 100 * np.concatenate([table.effect for table in tables.values()])
    logarithmic = bool(np.nanmax(np.abs(means), initial=0.0) > LINEAR)
    ends = _gain_ends(pd.concat(tables.values()))
    handles = {
        label: Line2D([], [], **(look_of(grid.styles[label]) | dict(linestyle="none")))
        for label in others
        if any((table.b == label).any() for table in tables.values())
    }
    text = (
        f"{first_label} minus the other, paired by seed: mean and its 95 % t interval. Right of the line {first_label} "
        "is better. A diverged run counts as chance level."
    )
    if logarithmic:
        text += " Axis: linear within 1 point of accuracy, logarithmic beyond."
    figures = []
    for page in paginate(rows, [height + 0.6 for height in heights], PAGE_HEIGHT - 1.4):
        first = rows.index(page[0])
        figure, axes = lay_out(
            grid.sheet, page, columns, heights[first : first + len(page)], frame,
            f"Gain of {first_label} in test accuracy (percentage points)", "", handles, [text],
        )  # fmt: skip
        for panel, ax in axes:
            _draw_gains(ax, tables[panel], grid.styles, ends, logarithmic)
        figures.append(figure)
    return figures


def _gain_ends(table: pd.DataFrame) -> tuple[float, float]:
    """The range of all panels, in points: every mean and 0, and the intervals unless few seeds make them far wider."""
    effect = 100 * table.effect.dropna().to_numpy()
    low, high = effect.min(initial=0.0), effect.max(initial=0.0)
    ends = 100 * np.concatenate([table.ci_low, table.ci_high])
    ends = ends[np.isfinite(ends)]
    room = 0.5 * max(high - low, 1.0)
    return max(ends.min(initial=low), low - room), min(ends.max(initial=high), high + room)


def _draw_gains(
    ax: Axes, table: pd.DataFrame, look: dict[str, Style], ends: tuple[float, float], logarithmic: bool
) -> None:
    activations, others = list(table.activation.unique()), list(table.b.unique())
    low, high = ends
    if logarithmic:
        ax.set_xscale("symlog", linthresh=1.0, linscale=0.6)
        ax.xaxis.set_major_locator(FixedLocator([-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(low * 1.1 - 0.2, high * 1.1 + 0.2)
    else:
        pad = 0.05 * (high - low)
        ax.set_xlim(low - pad, high + pad)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    ax.axvline(0, color="black", linewidth=0.6, zorder=1)
    ax.set_ylim(len(activations) - 0.5, -0.5)
    ax.set_yticks(range(len(activations)), [activation_title(name) for name in activations])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    for y in range(1, len(activations)):
        ax.axhline(y - 0.5, color="#e4e4e4", linewidth=0.4, zorder=0.5)
    left, right = ax.get_xlim()
    for row in table.itertuples():
        y = activations.index(row.activation) + 0.8 * ((others.index(row.b) + 0.5) / len(others) - 0.5)
        style = look[row.b]
        if math.isfinite(row.ci_low):
            bar = np.clip([100 * row.ci_low, 100 * row.ci_high], left, right)
            ax.plot(bar, [y, y], color=style.colour, linewidth=0.8, solid_capstyle="butt", zorder=3)
        ax.plot(100 * row.effect, y, **(look_of(style) | dict(linestyle="none", markersize=3.5, zorder=4)))


def cost_pages(grid: Grid) -> list[Figure]:
    """Seconds and FLOPs of a block update as multiples of SGD's, one panel a problem; none without SGD.

    A whole step of SGD moves every layer, so its block update is a step's share of one layer.
    """
    tables, seconds = {}, {}
    for panel in grid.panels:
        runs, reference = panel.runs, only_label(panel.runs, "sgd")
        timed = runs[(runs.status == "done") & (runs.seconds > 0) & (runs.flops > 0)]
        if reference is None or reference not in set(timed.label) or timed.label.nunique() < 2:
            continue
        others = [label for label in timed.label.unique() if label != reference]
        updates = {cost: timed.assign(cost=timed[cost] / timed.parameter_updates) for cost in ("seconds", "flops")}
        tables[panel] = {cost: compare_costs(runs, reference, others) for cost, runs in updates.items()}
        taken = updates["seconds"].pivot(index="seed", columns="label", values="cost")
        seconds[panel] = taken[others].div(taken[reference], axis=0)
    if not tables:
        return []
    ruler, panels = Ruler(), list(tables)
    names = max(ruler.width(label, NAME) for panel in panels for label in panel.runs.label.unique())
    columns = grid.sheet.across(min(2, len(panels)))
    rows = panel_rows(panels, columns)
    heights = [0.19 * max(panel.runs.label.nunique() for panel in row) + 0.08 for row in rows]
    frame = Frame(left=names + 0.1, right=0.12, below=0.19, edge=0.0)
    symbol = dict(color="black", linestyle="none", markersize=3.8)
    handles = {
        "seconds": Line2D([], [], marker="o", **symbol),
        "FLOPs": Line2D([], [], marker="D", markerfacecolor="white", markeredgecolor="black", **symbol),
    }
    compared = any("samt" in set(panel.runs.method) for panel in panels)
    known = any(np.isfinite(table.ci_low).any() for both in tables.values() for table in both.values())
    text = (
        "Median over seeds of the ratio to SGD, paired by seed; "
        + ("bar: 95 % bootstrap interval; " if known else "")
        + "small dots: the seeds, in seconds. Line: a block update of SGD, a whole step divided by the number of "
        "layers; dashed: a whole step of SGD. "
        + ("SAMT's paper compares a block update of SAMT with a whole step of another. " if compared else "")
        + "Diverged runs are left out."
    )
    figures = []
    for page in paginate(rows, [height + 0.6 for height in heights], PAGE_HEIGHT - 0.8):
        first = rows.index(page[0])
        figure, axes = lay_out(
            grid.sheet, page, columns, heights[first : first + len(page)], frame,
            "Cost of a block update (multiples of SGD's)", "", handles, [text],
        )  # fmt: skip
        for panel, ax in axes:
            _draw_costs(ax, panel, tables[panel], seconds[panel], grid.styles)
        figures.append(figure)
    return figures


def _draw_costs(
    ax: Axes, panel: Panel, tables: dict[str, pd.DataFrame], seconds: pd.DataFrame, look: dict[str, Style]
) -> None:
    """seconds: of an update, as multiples of SGD's; a row a seed, a column a label."""
    labels = [label for label in look if label in set(tables["seconds"].b) | set(tables["seconds"].a)]
    layers = len(panel.runs.hidden.iloc[0].split("-")) + 1
    seen = [1.0, float(layers)]
    for cost, shift in (("seconds", -0.17), ("flops", 0.17)):
        for row in tables[cost].itertuples():
            # The table has SGD's share of the method's cost; the figure shows the inverse.
            y, style = labels.index(row.b) + shift, look[row.b]
            value, ends = 1 / row.effect, [1 / row.ci_high, 1 / row.ci_low]
            if np.isfinite(ends).all():
                ax.plot(ends, [y, y], color=style.colour, solid_capstyle="butt", zorder=3)
            face = dict(markerfacecolor=style.colour if cost == "seconds" else "white", markeredgecolor=style.colour)
            marker = "o" if cost == "seconds" else "D"
            ax.plot(value, y, marker=marker, markersize=3.6, markeredgewidth=0.8, zorder=4, **face)
            seen += [value, *(end for end in ends if math.isfinite(end))]
    for label in seconds:
        ratios = seconds[label].dropna()
        at = np.full(len(ratios), labels.index(label) - 0.17)
        faint = dict(color=look[label].colour, alpha=0.45, markeredgewidth=0, zorder=3.5)
        ax.plot(ratios, at, linestyle="none", marker=".", markersize=4.5, **faint)
        seen += ratios.tolist()
    reference = tables["seconds"].a.iloc[0]
    ax.plot([1.0], [labels.index(reference)], marker="|", color="black", markersize=7, markeredgewidth=1.2, zorder=4)
    ax.axvline(1.0, color="black", linewidth=0.6, zorder=1)
    ax.axvline(layers, color="black", linewidth=0.6, linestyle=(0, (4, 2)), zorder=1)
    set_x(ax, (min(seen) / 1.05, max(seen) * 1.05), log_x=True)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0)
    for y in range(1, len(labels)):
        ax.axhline(y - 0.5, color="#e4e4e4", linewidth=0.4, zorder=0.5)
