"""Accuracy against the number of training images, with constants scaled to it and as published (SPEC 8)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from reproduce.show.axes import short
from reproduce.show.look import PALE
from reproduce.show.panels import (
    PAGE_HEIGHT,
    PUBLISHED,
    Frame,
    Grid,
    Heading,
    Panel,
    intervals,
    lay_out,
    of_seeds,
    paginate,
    panel_rows,
    seeds_in,
)

SIZES = 3  # of a training set, so that a line says more than a pair of points
NEAR = 1.5  # points from the whole set's accuracy, within which a subset speaks for it
_HEIGHT = 1.2  # inches of a panel
_WORDS = dict(scaled="constants scaled to the images", published="constants as published")
_LOOK = dict(
    scaled=dict(color="#0072B2", marker="o", zorder=4),
    published=dict(color="#D55E00", marker="s", linestyle="dashed", markerfacecolor="white", zorder=3),
)


@dataclass(frozen=True, eq=False)
class Subsets(Heading):
    """One method on one data set. lines: constants -> images, mean, low and high in %, (points,) each.

    whole: %, of the largest set, where the published constants are those scaled to it; else NaN. setting: of the data
    set and its problem, whose panels share an axis.
    """

    lines: dict[str, tuple[np.ndarray, ...]]
    whole: float
    seeds: int
    diverged: int


def subset_pages(grid: Grid) -> list[Figure]:
    """Final test accuracy of each method against the training images; none where the grid has fewer than SIZES."""
    panels = [panel for group in _groups(grid) for panel in _subsets(group)]
    if not panels:
        return []
    columns = grid.sheet.across(min(len(panels), 3))
    together = {panel.setting: [p for p in panels if p.setting == panel.setting] for panel in panels}
    rows = [row for alike in together.values() for row in panel_rows(alike, columns)]
    ends = {setting: _ends(alike) for setting, alike in together.items()}
    handles = {_WORDS[k]: Line2D([], [], **look) for k, look in _LOOK.items() if any(k in p.lines for p in panels)}
    frame = Frame(left=0.27, right=0.09, below=0.19, edge=0.15)
    figures = []
    for page in paginate(rows, [_HEIGHT + 0.4 + frame.below] * len(rows), PAGE_HEIGHT - 1.2):
        figure, axes = lay_out(
            grid.sheet, page, columns, [_HEIGHT] * len(page), frame, "Training images (log scale)",
            "Final test accuracy (%)", handles, _notes(panels),
        )  # fmt: skip
        for panel, ax in axes:
            _draw(ax, panel, ends[panel.setting])
        figures.append(figure)
    return figures


def of_sizes(grid: Grid) -> bool:
    """Whether every panel of the grid is one of several sizes, which `subset_pages` draws."""
    return bool(grid.panels) and sum(map(len, _groups(grid))) == len(grid.panels)


def _groups(grid: Grid) -> list[list[Panel]]:
    """The panels that differ in the training images alone, where they are many enough."""
    groups: dict[tuple, list[Panel]] = {}
    for panel in grid.panels:
        run = panel.runs.iloc[0]
        groups.setdefault((run.dataset, run.activation, run.hidden), []).append(panel)
    return [group for group in groups.values() if len(group) >= SIZES]


def _subsets(group: list[Panel]) -> Iterator[Subsets]:
    runs = pd.concat([panel.runs for panel in group])
    runs = runs.assign(label=runs.label.str.removesuffix(PUBLISHED), constants=runs.constants.replace("", "scaled"))
    heading = ", ".join(filter(None, (group[0].name, group[0].setting)))
    for label, mine in runs.groupby("label", sort=False):
        # Pairs: a seed draws the images and the first weights, and its place may differ more than what is compared.
        points = [set(cell.seed) for _, cell in mine.groupby(["n_train", "constants"])]
        mine = mine[mine.seed.isin(set.intersection(*points) or set.union(*points))]
        largest = mine[mine.n_train == mine.n_train.max()]
        # With all images the two are one and the same run, which a grid makes once.
        one_run = set(mine.constants) == set(_LOOK) and set(largest.constants) == {"scaled"}
        lines = {
            constants: _line(pd.concat([rows, largest]) if one_run and constants == "published" else rows)
            for constants, rows in mine.groupby("constants")
        }
        whole = 100 * largest.test_accuracy[largest.status == "done"].mean() if one_run else np.nan
        diverged = int((mine.status == "diverged").sum())
        yield Subsets(label, heading, seeds_in(mine), lines, whole, mine.seed.nunique(), diverged)


def _line(rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
    points = []
    for images, cell in rows.groupby("n_train"):
        accuracies = 100 * cell.test_accuracy[cell.status == "done"].to_numpy()
        points.append((images, *intervals(accuracies)))
    return tuple(np.array(column, float) for column in zip(*points))


def _ends(panels: list[Subsets]) -> tuple[float, float]:
    """One range for the methods of a data set: distances compare across panels."""
    means = np.concatenate([mean for panel in panels for _, mean, _, _ in panel.lines.values()])
    means = means[np.isfinite(means)]
    low, high = (means.min(), means.max()) if len(means) else (0.0, 100.0)
    pad = max(0.06 * (high - low), NEAR)
    return max(low - pad, 0.0), min(high + pad, 100.0)


def _draw(ax: Axes, panel: Subsets, ends: tuple[float, float]) -> None:
    images = np.unique(np.concatenate([line[0] for line in panel.lines.values()]))
    ax.set_xscale("log")
    ax.set_xlim(images[0] / 1.25, images[-1] * 1.25)
    ax.xaxis.set_major_locator(FixedLocator(images))
    ax.xaxis.set_major_formatter(FixedFormatter([short(n) for n in images]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(ends)
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    if np.isfinite(panel.whole):
        ax.axhspan(panel.whole - NEAR, panel.whole + NEAR, color=PALE, linewidth=0, zorder=1)
    for constants, (x, mean, low, high) in panel.lines.items():
        look = _LOOK[constants]
        ax.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0, zorder=2)
        ax.plot(x, mean, **look)


def _notes(panels: list[Subsets]) -> list[str]:
    seeds = [panel.seeds for panel in panels]
    band = f"band: 95 % t interval of the mean{of_seeds(min(seeds), max(seeds))}"
    notes = [f"Mean over the seeds that every point of a panel has; {band}." if max(seeds) > 1 else "One seed a point."]
    if any(np.isfinite(panel.whole) for panel in panels):
        notes.append(f"Grey: within {NEAR} points of what all training images gave, where the two are one run.")
    if lost := sum(panel.diverged for panel in panels):
        notes.append(f"Without {lost} run{'s' * (lost > 1)} that diverged.")
    return [" ".join(notes)]
