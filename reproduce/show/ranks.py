"""Average ranks over data sets, drawn: critical-difference diagrams."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reproduce.judge.estimates import ALPHA
from reproduce.judge.ranks import HANDFUL, CriticalDifference, critical_difference
from reproduce.show.look import SMALL, Style, look_of, tone
from reproduce.show.panels import NAME, PAGE_HEIGHT, ROW, Frame, Grid, Heading, Panel, Ruler, lay_out, paginate

# At least: with two, no difference of ranks is ever significant; with three, only first against last can be.
DATASETS_RANKED = 4


def rank_pages(grid: Grid) -> list[Figure]:
    """Critical-difference diagrams of a handful of labels, one a network, activation and size that four sets share.

    None where most labels were not run on every set.
    """
    settings: dict[tuple, list[Panel]] = {}
    for panel in grid.panels:
        run = panel.runs.iloc[0]
        settings.setdefault((run.activation, run.hidden, run["size"]), []).append(panel)
    found: list[tuple[Heading, CriticalDifference]] = []
    for panels in settings.values():
        runs = pd.concat([panel.runs for panel in panels])
        everywhere = runs.groupby("label").dataset.nunique() == runs.dataset.nunique()
        most = 2 * everywhere.sum() > len(everywhere)  # ranks among a few that happen to be run everywhere mislead
        if runs.dataset.nunique() >= DATASETS_RANKED and most and 2 < everywhere.sum() <= HANDFUL:
            names = ", ".join(panel.name for panel in panels)
            seeds = panels[0].size.split(", ")[-1]
            difference = critical_difference(runs)
            p = f"p = {difference.p:.3f}" if difference.p >= 0.001 else "p < 0.001"
            test = f"{names}; {seeds}", f"Friedman's test: χ² = {difference.statistic:.1f}, {p}"
            found.append((Heading(panels[0].setting or "Average rank", *test), difference))
    if not found:
        return []
    ruler = Ruler()
    entries = max(len(difference.ranks) for _, difference in found)
    names = max(ruler.width(_rank_text(label, 10.0), NAME) for _, d in found for label in d.ranks.index)
    wide = entries > 8 or 2 * names > 1.9
    heights = [_rank_height(difference) for _, difference in found]
    differences = {heading: difference for heading, difference in found}
    rows = [[heading] for heading in differences]
    frame = Frame(left=names + 0.2, right=names + 0.2, below=0.09, edge=0.0)
    figures = []
    for page in paginate(rows, [height + 0.5 for height in heights], PAGE_HEIGHT - 0.8):
        first = rows.index(page[0])
        shown = [differences[heading] for (heading,) in page]
        figure, axes = lay_out(
            grid.sheet, page, 1, heights[first : first + len(page)], frame, "", "", {}, _rank_notes(shown), wide=wide
        )  # fmt: skip
        for heading, ax in axes:
            _draw_ranks(ax, differences[heading], grid.styles)
        figures.append(figure)
    return figures


def _rank_text(label: str, rank: float) -> str:
    return f"{label}  {rank:.2f}"


def _rank_height(difference: CriticalDifference) -> float:
    return 0.47 + 0.07 * len(difference.groups) + ROW * math.ceil(len(difference.ranks) / 2)


def _draw_ranks(ax: Axes, difference: CriticalDifference, look: dict[str, Style]) -> None:
    """Demsar's diagram: the axis above, labels at both sides, a bar under each group that does not differ.

    The y axis is in inches below the top of the panel.
    """
    height, k = _rank_height(difference), len(difference.ranks)
    ax.set_xlim(1, k)
    ax.set_ylim(height, 0)
    ax.grid(False)
    ax.set_yticks([])
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    axis = 0.38
    ax.spines["top"].set_visible(True)
    ax.spines["top"].set_position(("data", axis))
    ax.xaxis.set_ticks_position("top")
    ax.xaxis.set_major_locator(MaxNLocator(min(k - 1, 11), integer=True, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    # The critical difference may be longer than the axis: then it says so instead of passing its end.
    length, text = difference.critical_difference, f"critical difference {difference.critical_difference:.2f}"
    if length <= k - 1:
        ends = dict(marker="|", markersize=4, markeredgewidth=0.8)
        ax.plot([1, 1 + length], [0.16, 0.16], color="black", linewidth=0.8, clip_on=False, **ends)
    else:
        text += ": longer than the axis"
    ax.text(1, 0.06, text, fontsize=SMALL, va="center")
    bars = axis + 0.08
    places = list(difference.ranks.items())
    left = places[: math.ceil(k / 2)]
    right = places[math.ceil(k / 2) :]
    labels = bars + 0.07 * len(difference.groups) + 0.06
    scale = (k - 1) / (ax.get_position().width * ax.figure.get_figwidth())  # ranks per inch
    for side, entries, end in ((-1, left, 1 - 0.08 * scale), (1, right[::-1], k + 0.08 * scale)):
        for row, (label, rank) in enumerate(entries):
            y = labels + ROW * (row + 0.4)
            style = look[label]
            ax.plot([rank, rank, end], [axis, y, y], color=tone(style), linewidth=0.7, clip_on=False, zorder=2)
            ax.plot(rank, axis, **(look_of(style) | dict(linestyle="none", clip_on=False, zorder=4)))
            text = _rank_text(label, rank) if side < 0 else f"{rank:.2f}  {label}"
            ax.text(end + side * 0.03 * scale, y, text, ha="right" if side < 0 else "left", va="center", fontsize=NAME)
    for number, group in enumerate(difference.groups):
        ends = difference.ranks[list(group)]
        y, over = bars + 0.07 * number, 0.03 * scale
        span = [ends.min() - over, ends.max() + over]
        ax.plot(span, [y, y], color="black", linewidth=2.2, solid_capstyle="butt", clip_on=False, zorder=3)


def _rank_notes(differences: Sequence[CriticalDifference]) -> list[str]:
    blocks = sorted({difference.blocks for difference in differences})
    text = (
        f"Average rank over {' or '.join(map(str, blocks))} data sets of the mean test accuracy over seeds; 1 is best. "
        "A diverged run counts as chance level, and a method with no finished run ranks last. "
    )
    text += f"Bar: not told apart by Nemenyi's test at {100 * ALPHA:g} %."
    left_out = list(dict.fromkeys(label for difference in differences for label in difference.left_out))
    return [text] + ([f"Left out, not run on every data set: {', '.join(left_out)}."] if left_out else [])
