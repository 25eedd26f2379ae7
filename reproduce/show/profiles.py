"""Performance profiles, a row a method: the multiple of the cheapest cost within which it solves so many problems.

The curves of Dolan and More are read at a quarter, half and three quarters of the problems: of twenty methods, steps
that cross one another cannot be told apart, and these can.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduce.evidence.about import Target
from reproduce.judge.targets import cost_to_target, performance_profile, targets
from reproduce.show.axes import set_x
from reproduce.show.look import GREY, SMALL, Style, look_of
from reproduce.show.panels import NAME, ROW, Frame, Grid, Heading, Ruler, lay_out, panel_rows

EVALUATIONS = 5  # of every run, at least: with fewer, what a target cost is hardly known
QUARTERS = (0.25, 0.5, 0.75)
_MISSED = 0.42  # inches right of an axis, for the problems that a method does not solve
_COSTS = dict(
    parameter_updates="Parameter updates", epoch="Epochs", block_gradients="Gradients of a layer",
    seconds="Seconds of training",
)  # fmt: skip


def profile_pages(grid: Grid, timed: bool, target: Target | None) -> list[Figure]:
    """Performance profiles of the cost to one target: updates, epochs, gradients of a layer, and seconds if `timed`.

    A problem is a data set, network and seed. The target is the grid's; without one, or without its
    reference among the labels, there is no profile.
    """
    if not grid.panels or target is None:
        return []
    reference = target.reference
    runs = pd.concat([panel.runs.assign(problem=number) for number, panel in enumerate(grid.panels)])
    curves = pd.concat([panel.curves for panel in grid.panels])
    finished = curves[curves.run_key.isin(runs.run_key[runs.status == "done"])]
    if reference not in set(runs.label) or runs.label.nunique() < 3 or finished.empty:
        return []
    if finished.groupby("run_key").size().min() < EVALUATIONS:
        return []
    goal = targets(runs, reference, by="problem", share=target.share).dropna()
    runs = runs[runs.problem.isin(goal.index)]
    profiles: dict[tuple[str, ...], pd.DataFrame] = {}
    for cost in (name for name in _COSTS if name != "seconds" or timed):
        found = cost_to_target(runs, curves, goal, cost=cost, by="problem")
        table = found.pivot(index=["problem", "seed"], columns="label", values="cost")
        cheapest = table.min(axis=1)
        ratios = table.div(cheapest.where(cheapest > 0), axis=0).to_numpy(float)
        tau = np.unique(np.append(ratios[np.isfinite(ratios)], 1.0))
        profile = performance_profile(table, tau)
        # Methods that step alike have one profile of updates and epochs: it is drawn once, under both names.
        same = next((name for name, other in profiles.items() if other.equals(profile)), None)
        names = (_COSTS[cost],) if same is None else (*same, _COSTS[cost].lower())
        profiles = {names if name == same else name: other for name, other in profiles.items()} | {names: profile}
    problems = len(table)
    if not any(profile.to_numpy().any() for profile in profiles.values()):
        return []
    also = {names: "".join(f"and {name}, " for name in names[1:]) for names in profiles}
    headings = {Heading(n[0], "", f"{also[n]}{problems} problems"): profile for n, profile in profiles.items()}
    columns = grid.sheet.across(min(len(headings), 4))
    rows = panel_rows(list(headings), columns)
    # One order for all panels, by the first of them, so that the names stand once in a row.
    order = _order(next(iter(profiles.values())))
    ruler = Ruler()
    names = max(ruler.width(label, NAME) for label in order)
    frame = Frame(left=0.1, right=_MISSED, below=0.19, edge=names + 0.1)
    words = dict(dataset="data set", activation="activation", hidden="network", seed="seed")
    *varied, last = (word for column, word in words.items() if column == "dataset" or runs[column].nunique() > 1)
    problem = f"{', '.join(varied)} and {last}" if varied else last
    goal_in_words = f"{100 * target.share:g} % of {reference}'s median final one"
    notes = [
        f"Symbol: the multiple of the cheapest method's cost within which half of the problems are solved; bar: a "
        f"quarter to three quarters; arrow: so many are never solved. Right: solved at any cost, where not all. "
        f"A problem: a {problem}. Solved: validation accuracy reached {goal_in_words}. "
        f"A run that missed it or diverged solves nothing. Methods in the order of the first panel."
    ]
    ends = [end for profile in profiles.values() for label in order for end in _quarters(profile[label])]
    high = max(2.0, *(end for end in ends if math.isfinite(end)))
    figure, axes = lay_out(
        grid.sheet, rows, columns, [ROW * len(order) + 0.08] * len(rows), frame,
        "Cost as a multiple of the cheapest method's", "", {}, notes,
    )  # fmt: skip
    for number, (heading, ax) in enumerate(axes):
        _draw(ax, headings[heading], order, grid.styles, problems, high, named=number % columns == 0)
    return [figure]


def _quarters(profile: pd.Series) -> list[float]:
    """The multiples of the cheapest cost at which a quarter, half, three quarters are solved; infinite where never."""
    return [
        float(profile.index[profile >= share].min()) if (profile >= share).any() else math.inf for share in QUARTERS
    ]


def _order(profile: pd.DataFrame) -> list[str]:
    """Labels by what solves half of the problems, ties by the other quarters, then by how many they solve at all."""
    quarter, half, most = zip(*(_quarters(profile[label]) for label in profile))
    ranked = pd.DataFrame(dict(half=half, most=most, quarter=quarter, missed=-profile.iloc[-1].to_numpy()))
    return list(profile.columns[ranked.sort_values(list(ranked), kind="stable").index])


def _draw(
    ax: Axes, profile: pd.DataFrame, labels: list[str], look: dict[str, Style], problems: int, high: float, named: bool
) -> None:
    set_x(ax, (1.0, high), log_x=True)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks(range(len(labels)), labels if named else [""] * len(labels))
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    edge = ax.get_xlim()[1]
    for y, label in enumerate(labels):
        ax.axhline(y, color="#e4e4e4", linewidth=0.4, zorder=0.5)
        style, (low, half, most) = look[label], _quarters(profile[label])
        ax.plot([min(low, edge), min(most, edge)], [y, y], color=style.colour, solid_capstyle="butt", zorder=3)
        if math.isinf(most):
            ax.plot(edge, y, ">", color=style.colour, markersize=3.5, clip_on=False, zorder=4)
        if math.isfinite(half):
            ax.plot(half, y, **(look_of(style) | dict(linestyle="none", markersize=4.2, zorder=5)))
        solved = round(problems * float(profile[label].iloc[-1]))
        if solved < problems:
            place = dict(xycoords=ax.get_yaxis_transform(), textcoords="offset points", va="center", fontsize=SMALL)
            ax.annotate(f"{solved}/{problems}", (1, y), (6, 0), color=GREY, **place)
