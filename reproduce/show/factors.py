"""Settings that are on or off in every combination: what each adds, and how they act together.

Where a grid has every combination of two values of two or three hyper-parameters of a method (a 2 x 2 x 2 factorial),
its lines are not to be read one by one. `effects` draws the paired difference that each setting makes, seed by seed;
`interaction` draws the accuracies as a square or a cube. Both are read from the column `hyperparameters`.
"""

import itertools
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reproduce.judge.rows import scores
from reproduce.show.axes import ERROR_SCALE, accuracy_at, log_error, set_y
from reproduce.show.look import SMALL, Style, look_of
from reproduce.show.panels import (
    NAME,
    PAGE_HEIGHT,
    Frame,
    Grid,
    Heading,
    Panel,
    Ruler,
    images_in,
    intervals,
    is_number,
    lay_out,
    of_seeds,
    paginate,
    panel_rows,
    seeds_text,
)

_FACTORS = (2, 3)


@dataclass(frozen=True, eq=False)
class Design:
    """A full factorial on one data set. accuracy: one row a seed, one column a combination; a diverged run counts as
    chance level. name: what the design keeps, where the grid has several; label: of the run with all settings on."""

    panel: Panel
    keys: tuple[str, ...]
    name: str
    label: str
    accuracy: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Designs(Heading):
    """The designs that share a panel."""

    designs: tuple[Design, ...]


def designs_of(panel: Panel) -> list[Design]:
    """The full factorials of a panel, a method at a time; settings that are not numbers keep designs apart."""
    found = []
    for _, mine in panel.runs.groupby("method", sort=False):
        given = {text: json.loads(text) for text in mine.hyperparameters.unique()}
        keys = tuple(
            key
            for key in next(iter(given.values()))
            if all(is_number(settings.get(key)) for settings in given.values())
            and len({settings[key] for settings in given.values()}) > 1
        )
        families: dict[str, dict[tuple, str]] = {}
        for text, settings in given.items():
            rest = {key: value for key, value in settings.items() if key not in keys}
            families.setdefault(json.dumps(rest, sort_keys=True), {})[tuple(settings[key] for key in keys)] = text
        on = [max(settings[key] for settings in given.values()) for key in keys]
        values = [{settings[key] for settings in given.values()} for key in keys]
        if len(keys) not in _FACTORS or any(len(two) != 2 for two in values):
            continue
        for texts in families.values():
            if len(texts) == 2 ** len(keys):
                combination = {text: tuple(v == o for v, o in zip(point, on)) for point, text in texts.items()}
                rows = mine[mine.hyperparameters.isin(combination)].drop_duplicates(["hyperparameters", "seed"])
                rows = rows.assign(value=scores(rows), combination=rows.hyperparameters.map(combination))
                table = rows.pivot(index="seed", columns="combination", values="value").dropna()
                label = rows.label[[all(c) for c in rows.combination]].iloc[0]
                name = _shared(rows.label.unique()) if len(families) > 1 else ""
                found.append(Design(panel, keys, name, label, table))
    return [design for design in found if len(design.accuracy)]


def _shared(labels: Sequence[str]) -> str:
    """What the labels of a design share, which is how tables and claims call it: "TIAM, exact eigenvalue"."""
    before = os.path.commonprefix(list(labels))
    after = os.path.commonprefix([label[::-1] for label in labels])[::-1]
    return before.rstrip("0123456789.- ,(=") + after.lstrip("0123456789.)")


def _sizes(panel: Panel, designs: Sequence[Design]) -> tuple[str, str]:
    """The setting and the size of a heading: the seeds are those of the differences, of which designs may have others.

    A design's seeds are those that have all of its combinations.
    """
    images, counts = images_in(panel.runs), [len(design.accuracy) for design in designs]
    if len(set(counts)) == 1:
        return panel.setting, f"{images}, {seeds_text(counts[0])}"
    each = ", ".join(f"{seeds_text(count)} ({design.name})" for count, design in zip(counts, designs))
    return ", ".join(filter(None, [panel.setting, each])), images


def effects_of(design: Design) -> pd.DataFrame:
    """What a setting adds to the accuracy: one row a contribution, with name, mean, low and high, in points.

    alone: to none. on average: over all combinations of the others. last: to all the others. together: all to none.
    Every row is a mean over seeds of differences within a seed, with Student's 95 % interval.
    """
    count = len(design.keys)
    none, everything = (False,) * count, (True,) * count
    rows = []
    for i, key in enumerate(design.keys):
        rest = itertools.product((False, True), repeat=count - 1)
        pairs = [((*r[:i], True, *r[i:]), (*r[:i], False, *r[i:])) for r in rest]
        gain = np.array([(design.accuracy[on] - design.accuracy[off]).to_numpy() for on, off in pairs])
        for name, values in (("alone", gain[0]), ("on average", gain.mean(axis=0)), ("last", gain[-1])):
            rows.append((f"{key} {name}", values))
    rows.append(("all together", (design.accuracy[everything] - design.accuracy[none]).to_numpy()))
    return pd.DataFrame([(name, *map(float, intervals(100 * values))) for name, values in rows], columns=_EFFECT)


def _few(designs: Iterable[Design]) -> str:
    seeds = [len(design.accuracy) for design in designs]
    return of_seeds(min(seeds), max(seeds))


_EFFECT = ["name", "mean", "low", "high"]


def effect_pages(grid: Grid) -> list[Figure]:
    """What each setting adds, a panel a data set; none where the grid has no full factorial."""
    panels = [Designs(p.name, *_sizes(p, found), tuple(found)) for p in grid.panels if (found := designs_of(p))]
    if not panels:
        return []
    ruler = Ruler()
    tables = {design: effects_of(design) for panel in panels for design in panel.designs}
    names = max(ruler.width(name, NAME) for table in tables.values() for name in table["name"])
    columns = grid.sheet.across(min(2, len(panels)))
    rows = panel_rows(panels, columns)
    heights = [0.17 * max(len(tables[design]) for panel in row for design in panel.designs) + 0.08 for row in rows]
    ends = [0.0, *(table[column].to_numpy() for table in tables.values() for column in _EFFECT[1:])]
    ends = np.concatenate([np.atleast_1d(part) for part in ends])
    ends = (float(np.nanmin(ends)), float(np.nanmax(ends)))
    designs = {design.name or design.label: design for panel in panels for design in panel.designs}
    symbols = (Line2D([], [], **_symbol(grid.styles[d.label], number)) for number, d in enumerate(designs.values()))
    handles = dict(zip(designs, symbols)) if len(designs) > 1 else {}
    text = (
        f"Paired differences within a seed: mean and its 95 % t interval{_few(tables)}; right of the line the setting "
        "helps. Alone: added to none. On average: over all combinations of the others. Last: added to all the others. "
        "A diverged run counts as chance level."
    )
    figures = []
    for page in paginate(rows, [height + 0.6 for height in heights], PAGE_HEIGHT - 1.2):
        first = rows.index(page[0])
        figure, axes = lay_out(
            grid.sheet, page, columns, heights[first : first + len(page)],
            Frame(left=names + 0.1, right=0.12, below=0.19, edge=0.0),
            "Change of the final test accuracy (percentage points)", "", handles, [text],
        )  # fmt: skip
        for panel, ax in axes:
            _draw_effects(ax, panel, tables, grid.styles, ends)
        figures.append(figure)
    return figures


def _draw_effects(
    ax: Axes, panel: Designs, tables: dict[Design, pd.DataFrame], look: dict[str, Style], ends: tuple[float, float]
) -> None:
    names = list(tables[panel.designs[0]]["name"])
    pad = 0.05 * max(ends[1] - ends[0], 0.1)
    ax.set_xlim(ends[0] - pad, ends[1] + pad)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    ax.axvline(0, color="black", linewidth=0.6, zorder=1)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    for edge in range(3, len(names), 3):
        ax.axhline(edge - 0.5, color="#b5b9be", linewidth=0.5, zorder=0.5)
    for number, design in enumerate(panel.designs):
        style = look[design.label]
        for y, row in enumerate(tables[design].itertuples()):
            place = y + 0.5 * ((number + 0.5) / len(panel.designs) - 0.5)
            if math.isfinite(row.low):
                ends_of_bar = dict(color=style.colour, linewidth=0.9, solid_capstyle="butt", zorder=3)
                ax.plot([row.low, row.high], [place, place], **ends_of_bar)
            ax.plot(row.mean, place, **_symbol(style, number), zorder=4)


def _symbol(style: Style, number: int) -> dict:
    """Of a panel's design number 0, 1, ...: the second is hollow, as two settings of a method differ in shade alone."""
    hollow = dict(markerfacecolor="white", markeredgecolor=style.colour, markeredgewidth=0.9) if number else {}
    return look_of(style) | dict(linestyle="none", markersize=3.8) | hollow


def interaction_pages(grid: Grid) -> list[Figure]:
    """The accuracies of every combination, a panel a data set and design: the first setting along the axis, the second
    as two lines, the third as two halves of the panel."""
    cells = []
    for panel in grid.panels:
        for design in designs_of(panel):
            setting, size = _sizes(panel, [design])
            cells.append(
                (Designs(panel.name, ", ".join(filter(None, [setting, design.name])), size, (design,)), design)
            )
    if not cells:
        return []
    columns = grid.sheet.across(min(2, len(cells)))
    rows = panel_rows([heading for heading, _ in cells], columns)
    keys = cells[0][1].keys
    means = {design: intervals(design.accuracy.to_numpy().T) for _, design in cells}
    best = cells[0][1].label
    handles = {f"{keys[1]} {word}": _second_line(grid.styles[best], on) for word, on in (("on", True), ("off", False))}
    text = f"Mean over seeds, bar: 95 % t interval of the mean{_few(means)}. Left to right: {keys[0]} off, on"
    text += f"; left half {keys[2]} off, right half {keys[2]} on." if len(keys) > 2 else "."
    text += " Parallel lines: the settings add up. A diverged run counts as chance level."
    figures = []
    for page in paginate(rows, [1.6 + 0.6] * len(rows), PAGE_HEIGHT - 1.2):
        figure, axes = lay_out(
            grid.sheet, page, columns, [1.6] * len(page), Frame(left=0.31, right=0.08, below=0.19, edge=0.15), "",
            f"Final test accuracy (%), {ERROR_SCALE}", handles, [text],
        )  # fmt: skip
        for heading, ax in axes:
            (design,) = heading.designs
            together = [
                other for other in means if other.panel.runs.dataset.iloc[0] == design.panel.runs.dataset.iloc[0]
            ]
            _draw_interaction(ax, design, means, together, grid.styles)
        figures.append(figure)
    return figures


def _second_line(style: Style, on: bool) -> Line2D:
    face = {} if on else dict(markerfacecolor="white", markeredgecolor=style.colour, markeredgewidth=0.9)
    return Line2D([], [], **(look_of(style) | dict(linestyle="solid" if on else "dashed") | face))


def _draw_interaction(
    ax: Axes, design: Design, means: dict[Design, tuple], together: list[Design], look: dict[str, Style]
) -> None:
    """together: the designs of one data set, whose panels share their range."""
    whole = np.concatenate([np.concatenate([np.ravel(part) for part in means[other]]) for other in together])
    low, high = log_error(np.nanmin(whole)), log_error(np.nanmax(whole))
    pad = 0.06 * max(high - low, 0.02)
    set_y(ax, (float(accuracy_at(low - pad)), float(accuracy_at(high + pad))), "error")
    keys, combinations = design.keys, list(design.accuracy.columns)
    mean, lower, upper = means[design]
    at = {combination: i for i, combination in enumerate(combinations)}
    halves = (False, True) if len(keys) > 2 else (None,)
    ticks, words = [], []
    for place, third in enumerate(halves):
        x = np.array([0.0, 1.0]) + 2 * place
        ticks += list(x)
        words += [f"{keys[0]} off", f"{keys[0]} on"]
        for second in (False, True):
            index = [at[(first, second, *([] if third is None else [third]))] for first in (False, True)]
            line = _second_line(look[design.label], second)
            bars = [mean[index] - lower[index], upper[index] - mean[index]]
            ax.errorbar(
                x + (0.04 if second else -0.04), mean[index], yerr=np.nan_to_num(bars), color=line.get_color(),
                linestyle=line.get_linestyle(), marker=line.get_marker(), elinewidth=0.8, zorder=3,
                markerfacecolor=line.get_markerfacecolor(), markeredgecolor=line.get_markeredgecolor(),
            )  # fmt: skip
        if third is not None:
            ax.text(2 * place + 0.5, 0.02, f"{keys[2]} {'on' if third else 'off'}", transform=ax.get_xaxis_transform(),
                    ha="center", va="bottom", fontsize=SMALL)  # fmt: skip
    if len(halves) > 1:
        ax.axvline(1.5, color="#b5b9be", linewidth=0.6)
    ax.set_xlim(-0.4, ticks[-1] + 0.4)
    ax.set_xticks(ticks, words)
    ax.grid(False, axis="x")
