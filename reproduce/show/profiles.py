"""Performance profiles: the share of problems that a method solves within a multiple of the cheapest cost."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from reproduce.judge.targets import cost_to_target, performance_profile, targets
from reproduce.run.grid import Target
from reproduce.show.axes import set_x
from reproduce.show.look import look_of
from reproduce.show.panels import Frame, Grid, Heading, lay_out

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
    profiles = {Heading(n[0], "", f"{also[n]}{problems} problems"): profile for n, profile in profiles.items()}
    columns = min(len(profiles), 3) if len(profiles) != 4 else 4
    frame = Frame(left=0.31, right=0.08, below=0.19, edge=0.15)
    handles = {label: Line2D([], [], **look_of(grid.styles[label])) for label in labels}
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
        [list(profiles)], columns, [1.6], frame, grid.title, "Cost as a multiple of the cheapest method's",
        "Problems solved (%)", handles, notes + grid.notes,
    )  # fmt: skip
    for heading, ax in axes:
        for number, label in enumerate(labels):
            share = 100 * profiles[heading][label]
            x, y = np.append(share.index, high * 1.3), np.append(share, share.iloc[-1])
            marks = (0.05 + 0.25 * number / len(labels), 0.3)
            ax.plot(x, y, drawstyle="steps-post", markevery=marks, **look_of(grid.styles[label]))
        set_x(ax, (1.0, high), log_x=True)
        ax.set_ylim(-3, 103)
        ax.yaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    return [figure]
