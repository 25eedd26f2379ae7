"""Lost runs of a sweep of initial step sizes, as the claims on stability count them.

A run that did not diverge may still have learnt nothing; `judge.stability` decides that, here as for the verdicts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from am.data.base import CLASSES
from am.errors import InputError
from reproduce.judge.estimates import mean_interval
from reproduce.judge.stability import by_step_size, stability, sweeps_step_sizes, useless
from reproduce.show.look import Style, look_of
from reproduce.show.panels import Panel

LOST = "Lost runs (% of the step sizes), diverged or untrained, as SAMT-5b counts them"
ROW = 0.095  # inches


@dataclass(frozen=True)
class Lost:
    """Of one method on one panel: mean over seeds of the percentage of its step sizes that lose a run, and its
    interval."""

    mean: float
    low: float
    high: float


def lost_runs(panel: Panel) -> dict[tuple[str, str], Lost]:
    """(method, hyper-parameters) of every run -> what its method loses; empty where the panel is no sweep of step
    sizes, or not yet a whole one, or without training losses."""
    if not sweeps_step_sizes(panel.runs) or panel.curves.train_loss.isna().all():
        return {}
    try:
        found = stability(panel.runs, panel.curves)
    except InputError:  # some seeds are still to be trained
        return {}
    share = (100 * (1 - found.survival)).groupby(found.label).agg(mean_interval)
    named = by_step_size(panel.runs)
    return {
        (run.method, run.hyperparameters): Lost(share[run.label].value, share[run.label].low, share[run.label].high)
        for run in named.itertuples()
    }


def draw_lost(ax: Axes, lost: Sequence[Lost], look: Sequence[Style], high: float) -> None:
    """A row a method, the first on top; `high`: the end of the axis, one for all panels."""
    ax.set_xlim(-0.03 * high, 1.03 * high)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    ax.set_ylim(len(lost) - 0.4, -0.6)
    ax.set_yticks([])
    ax.grid(False, axis="y")
    for row, (share, style) in enumerate(zip(lost, look)):
        ax.axhline(row, color="#e4e4e4", linewidth=0.4, zorder=0.5)
        symbol = look_of(style) | dict(linestyle="none", clip_on=False)
        ax.plot(-0.035, row, transform=ax.get_yaxis_transform(), **(symbol | dict(markersize=3.2)))
        if math.isfinite(share.low):
            bar = [max(share.low, 0.0), share.high]
            ax.plot(bar, [row, row], color=style.colour, linewidth=0.9, solid_capstyle="butt", zorder=3)
        ax.plot(share.mean, row, **symbol, zorder=4)


def lost_note(step_sizes: int) -> str:
    return (
        f"Below: a run is lost where it diverged, ended at a training loss above the start's, or, at a step size above "
        f"its method's best, at {100 * useless(1 / CLASSES):g} % or less; mean over seeds and 95 % t interval. "
        f"SAMT-5b calls methods tied that differ by one step size or less ({100 / step_sizes:.1f} %)."
    )
