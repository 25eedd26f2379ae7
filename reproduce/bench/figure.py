"""The benchmark's figure: a panel for each part whose CSV is there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from am.methods import methods
from reproduce.evidence.files import read


def draw(folder: Path, figures: Path) -> list[Path]:
    """bench.pdf and bench.png: a panel for each part whose CSV is there."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from reproduce.show.figures import save
    from reproduce.show.look import STYLE
    from reproduce.show.panels import TWO_COLUMNS

    there = [name for name in PANELS if (folder / f"{name}.csv").exists()]
    panels = [(PANELS[name], read(folder / f"{name}.csv")) for name in there]
    if not panels:
        return []
    with style.context(STYLE):
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(TWO_COLUMNS, 2.3 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        for place, (panel, frame) in enumerate(panels, 1):
            panel(figure.add_subplot(rows, columns, place), frame)
        paths = [figures / f"bench.{suffix}" for suffix in ("pdf", "png")]
        for path in paths:
            save(figure, path)
    return paths


def _bars(
    ax: Axes,
    labels: Sequence[str],
    frame: pd.DataFrame,
    value: str,
    colours: Sequence[str],
    title: str,
    digits: int = 1,
) -> None:
    """Horizontal bars from top to bottom with quartiles and the number beside."""
    from reproduce.show.look import GREY, SMALL

    places = np.arange(len(frame))[::-1]
    middle, low, high = (frame[f"{value}{end}"].to_numpy() for end in ("", "_low", "_high"))
    ax.barh(places, middle, 0.7, color=colours)
    reach = middle - low, high - middle
    ax.errorbar(middle, places, xerr=reach, fmt="none", ecolor=GREY, elinewidth=0.8, capsize=1.5)
    for place, number, end in zip(places, middle, high):
        text, beside = f"{number:.{digits}f}", dict(textcoords="offset points", va="center", fontsize=SMALL)
        ax.annotate(text, (end, place), (3, 0), **beside)
    ax.set_yticks(places, labels)
    ax.set_xlim(0, 1.18 * high.max() or 1)
    ax.grid(axis="y", visible=False)
    ax.set_title(title, loc="left")


def _methods_of(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    from reproduce.show.look import style_of

    return [methods()[name].title for name in frame["method"]], [style_of(name).colour for name in frame["method"]]


def _iteration_panel(ax: Axes, frame: pd.DataFrame) -> None:
    frame = frame[frame["majoriser"] == "gradient kept"]
    titles, colours = _methods_of(frame)
    labels = [f"{title}, {net}" for title, net in zip(titles, frame["hidden"])]
    _bars(ax, labels, frame, "ratio", colours, "a  Full-batch iteration")
    ax.set_xlabel("times faster than straightforward")


def _epoch_panel(ax: Axes, frame: pd.DataFrame) -> None:
    frame = frame[(frame["runs"] == frame["runs"].max()) & (frame["against"] != "tensors in memory")]
    titles, colours = _methods_of(frame)
    _bars(ax, titles, frame, "ratio", colours, f"b  Epoch, {frame['runs'].max()} stacked runs")
    ax.set_xlabel("times faster than the usual loop")


def _stacking_panel(ax: Axes, frame: pd.DataFrame) -> None:
    for (batch, part), line in zip(frame.groupby("batch"), ("solid", "dashed")):
        ax.plot(part["runs"], part["ratio"], linestyle=line, color="black", marker="v", label=f"batch {batch}")
        ax.fill_between(part["runs"], part["ratio_low"], part["ratio_high"], color="black", alpha=0.15, linewidth=0)
    _log_x(ax, sorted(set(frame["runs"])))
    ax.set_ylim(0)
    ax.set_xlabel("runs in the stack")
    ax.set_ylabel("times faster than in a row")
    ax.set_title("c  Stacked runs, SGD", loc="left")
    ax.legend(loc="lower right")


def _exponent_panel(ax: Axes, frame: pd.DataFrame) -> None:
    titles, colours = _methods_of(frame)
    places = np.arange(len(frame))[::-1]
    reach = (frame["exponent"] - frame["exponent_low"], frame["exponent_high"] - frame["exponent"])
    for place, colour, (_, row), low, high in zip(places, colours, frame.iterrows(), *reach):
        ax.errorbar(row["exponent"], place, xerr=[[low], [high]], fmt="o", color=colour, elinewidth=0.9, capsize=1.5)
    ax.axvline(1, color="black", linewidth=0.6)
    ax.set_yticks(places, [f"{title}, {axis}" for title, axis in zip(titles, frame["axis"])])
    ax.set_ylim(-0.6, len(frame) - 0.4)
    ax.set_xlim(min(0.0, frame["exponent"].min() - 0.2), max(2.0, frame["exponent"].max() + 0.2))
    ax.grid(axis="y", visible=False)
    ax.set_title("d  Growth of a step's time", loc="left")
    ax.set_xlabel("exponent, with its 95 % interval")


def _limit_panel(ax: Axes, frame: pd.DataFrame) -> None:
    titles, colours = _methods_of(frame)
    counts = [f"{runs} run{'s' * (runs > 1)}" for runs in frame["runs"]]
    what = np.where(frame["method"] == "tiam", frame["hidden"], counts)
    _bars(ax, [f"{title}, {w}" for title, w in zip(titles, what)], frame, "share", colours, "e  Share of the limit", 2)
    ax.set_xlim(0, max(1.0, 1.18 * frame["share_high"].max()))
    ax.set_xlabel("least time over measured time")


def _memory_panel(ax: Axes, frame: pd.DataFrame) -> None:
    titles, colours = _methods_of(frame)
    frame = frame.assign(ratio_low=frame["ratio"], ratio_high=frame["ratio"])
    _bars(ax, titles, frame, "ratio", colours, "f  Memory of a run", 2)
    ax.axvline(1, color="black", linewidth=0.6)
    ax.set_xlabel("measured over predicted")


def _log_x(ax: Axes, ticks: Sequence[float]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:g}" if i % 2 == 0 else "" for i, tick in enumerate(ticks)], minor=False)


PANELS = dict(
    iteration=_iteration_panel,
    epoch=_epoch_panel,
    stacking=_stacking_panel,
    exponents=_exponent_panel,
    limit=_limit_panel,
    memory=_memory_panel,
)
