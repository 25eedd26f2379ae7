"""What curves are held against: floors, numbers that others reported, the norm at the start, where claims begin."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from reproduce.evidence.schema import dataset_title
from reproduce.show.look import GREY, SMALL
from reproduce.show.panels import Grid, Panel

_DASHED, _DOTTED = (0, (4, 2)), (0, (1, 2))


@dataclass(frozen=True)
class Held:
    """Of one panel. floor: accuracy of a sound baseline. starts: gradient norms at the start. since: iteration.

    reported: (label, epochs, accuracy, its standard deviation or NaN, whether printed) of the numbers to be met.
    """

    reported: list[tuple]
    floor: float | None
    starts: list[float]
    since: int

    @property
    def levels(self) -> list[float]:
        """What the y axis has to show."""
        return [*self.starts, *(number[2] for number in self.reported), *([] if self.floor is None else [self.floor])]


def held_of(grid: Grid, panel: Panel, labels: Collection[str], x: str, y: str) -> Held:
    """What the curves of `y` against `x` of these labels are held against in the panel."""
    dataset, accuracy = panel.runs.dataset.iloc[0], y == "test_accuracy"
    reported, rows = grid.marks.reported, []
    if reported is not None and accuracy and x == "epoch" and dataset == "mnist":
        columns = ["label", "at", "theirs", "theirs_sd", "printed"]
        rows = list(reported.loc[reported.label.isin(list(labels)), columns].itertuples(index=False, name=None))
    return Held(
        reported=rows,
        floor=grid.marks.floors.get(dataset) if accuracy else None,
        starts=_starts(panel) if y == "smallest_gradient_norm" else [],
        since=grid.marks.since if (x, y) == ("iteration", "objective") else 0,
    )


def _starts(panel: Panel) -> list[float]:
    """The gradient norms at the start, geometric means over seeds; labels that start alike share one."""
    first = panel.curves[(panel.curves.iteration == 0) & (panel.curves.gradient_norm > 0)]
    labels = first.run_key.map(panel.runs.set_index("run_key").label)
    means = np.exp(np.log(first.gradient_norm).groupby(labels).mean())
    return sorted({float(f"{value:.3g}") for value in means})


def draw_held(ax: Axes, held: Held, labels: Collection[str]) -> None:
    """labels: those in colour, whose reported numbers are drawn."""
    line = dict(color="black", linewidth=0.8, zorder=2.2)
    if held.since:
        ax.axvline(held.since, linestyle=_DOTTED, **line)
    levels = [(start, "start") for start in held.starts] + [(held.floor, "floor")] * (held.floor is not None)
    for value, text in levels:
        ax.axhline(value, linestyle=_DASHED, **line)
        place = dict(xycoords=ax.get_yaxis_transform(), textcoords="offset points", va="bottom", ha="left")
        ax.annotate(text, (0.01, value), (0, 1), fontsize=SMALL, color=GREY, **place)
    for number in held.reported:
        label, at, value, *_ = number
        if label in labels:
            draw_reported(ax, (at, value), number, "yerr")


def draw_reported(ax: Axes, point: tuple[float, float], number: tuple, along: str) -> None:
    """One of the `reported` numbers at a point; along: xerr or yerr, the axis of its standard deviation."""
    *_, sd, printed = number
    bar = {along: sd, "elinewidth": 0.8, "capsize": 1.5} if sd == sd else {}
    face = dict(markerfacecolor="black" if printed else "none", markeredgecolor="black", markeredgewidth=0.9)
    ax.errorbar(*point, fmt="D" if printed else "o", markersize=4.5, ecolor="black", zorder=5, **face, **bar)


def held_notes(shown: Mapping[Panel, Held]) -> list[str]:
    """What a figure says of it below."""
    printed = {number[-1] for held in shown.values() for number in held.reported}
    notes = ["◆: the number that its authors printed; bar: its standard deviation."] if True in printed else []
    notes += ["○: what the authors' released code gave when run."] if False in printed else []
    floors = {dataset_title(p.runs.dataset.iloc[0]): h.floor for p, h in shown.items() if h.floor is not None}
    if floors:
        each = ", ".join(f"{name} {100 * floor:g} %" for name, floor in floors.items())
        notes.append(f"Dashed: the floor that a sound baseline is above, {each}.")
    if any(held.starts for held in shown.values()):
        notes.append("Dashed: the norm at the start; a line that stays above it has not fallen.")
    for since in sorted({held.since for held in shown.values()} - {0}):
        notes.append(
            f"Dotted: iteration {since}, where ε reaches its floor; claims from its floor on count from there."
        )
    return notes
