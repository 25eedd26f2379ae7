"""Performance profiles: the share of problems that a method solves within a multiple of the cheapest cost."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from reproduce.judge.targets import cost_to_target, performance_profile, targets
from reproduce.run.grid import Target
from reproduce.show.axes import set_x
from reproduce.show.look import PALE, look_of
from reproduce.show.panels import OTHERS, Frame, Grid, Heading, lay_out, panel_rows

EVALUATIONS = 5  # of every run, at least: with fewer, what a target cost is hardly known
_COSTS = dict(
    parameter_updates="Parameter updates", epoch="Epochs", gradient_evaluations="Gradient evaluations",
    seconds="Seconds of training",
)  # fmt: skip


def profile_pages(grid: Grid, timed: bool, target: Target | None) -> list[Figure]:
    """Performance profiles of the cost to one target: updates, epochs, gradient evaluations, and seconds if `timed`.

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
    # A target where the reference was not run, or never finished, would be no target.
    there = runs.problem.isin(runs.problem[(runs.label == reference) & (runs.status == "done")])
    runs = runs[there]
    goal = targets(runs, reference, by="problem", share=target.share)
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
    solved = {label for profile in profiles.values() for label in profile if profile[label].any()}
    if not solved:
        return []
    labels = [label for label in grid.styles if label in solved]
    also = {names: "".join(f"and {name}, " for name in names[1:]) for names in profiles}
    columns = grid.sheet.across(min(len(profiles), 3) if len(profiles) != 4 else 4)
    groups, rows, row_handles, cells = grid.groups(labels), [], [], {}
    line = lambda label: Line2D([], [], **look_of(grid.styles[label]))
    for name, group in groups:
        headings = [Heading(n[0], name, f"{also[n]}{problems} problems") for n in profiles]
        cells |= {heading: (profile, group) for heading, profile in zip(headings, profiles.values())}
        own = {label: line(label) for label in group} | {OTHERS: Line2D([], [], color=PALE, linewidth=0.9)}
        rows += panel_rows(headings, columns)
        row_handles += [own] * (len(rows) - len(row_handles))
    grouped = len(groups) > 1
    handles = {} if grouped else {label: line(label) for label in labels}
    frame = Frame(left=0.31, right=0.08, below=0.19, edge=0.15)
    words = dict(dataset="data set", activation="activation", hidden="network", seed="seed")
    *varied, last = (word for column, word in words.items() if column == "dataset" or runs[column].nunique() > 1)
    problem = f"{', '.join(varied)} and {last}" if varied else last
    notes = [
        f"A problem: a {problem}. Solved: validation accuracy reached {100 * target.share:g} % of {reference}'s median "
        "final one. A run that missed it or diverged solves nothing."
    ]
    never = [label for label in grid.styles if label in set(runs.label) - solved]
    notes += [f"No problem solved, no line: {', '.join(never)}."] if never else []
    high = max(2.0, max(profile.index.max() for profile in profiles.values()))
    figure, axes = lay_out(
        grid.sheet, rows, columns, [1.6 if len(rows) < 4 else 1.2] * len(rows), frame,
        "Cost as a multiple of the cheapest method's", "Problems solved (%)", handles, notes,
        row_handles=row_handles if grouped else (),
    )  # fmt: skip
    for heading, ax in axes:
        profile, coloured = cells[heading]
        for label in sorted(labels, key=coloured.__contains__):
            share = 100 * profile[label]
            x, y = np.append(share.index, high * 1.3), np.append(share, share.iloc[-1])
            if label in coloured:
                marks = (0.05 + 0.25 * coloured.index(label) / len(coloured), 0.3)
                ax.plot(x, y, drawstyle="steps-post", markevery=marks, zorder=3, **look_of(grid.styles[label]))
            else:
                ax.plot(x, y, drawstyle="steps-post", color=PALE, linewidth=0.7, zorder=2)
        set_x(ax, (1.0, high), log_x=True)
        ax.set_ylim(-3, 103)
        ax.yaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    return [figure]
