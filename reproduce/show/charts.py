"""What the page's script draws: the curves and the final accuracies of a grid as JSON, and what is seen on them.

The script knows no statistics: every mean, interval and order is made here, by the functions that make the figures.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.markers import MarkerStyle

from reproduce.evidence.schema import activation_title, dataset_title, network_title
from reproduce.show.curves import curve_of
from reproduce.show.finals import final_table
from reproduce.show.look import Style, styles

PROBLEM = ["dataset", "n_train", "activation", "hidden"]
AXES = dict(
    epoch="Epochs",
    parameter_updates="Parameter updates",
    block_gradients="Gradients of a layer",
    flops="FLOPs",
    seconds="Training seconds",
)
MEASURES = dict(
    test_accuracy="Test accuracy (%)",
    objective="Objective",
    constraint_gap="Constraint gap",
    gradient_norm="Gradient norm",
)
POINTS = 80  # of a line on the page, at the most
# A line style in plotly's words, and as the dashes of an SVG in pixels.
DASHES = dict(
    solid=("solid", ""), dashed=("dash", "5 3"), dotted=("dot", "1.5 2.5"), dashdot=("dashdot", "5 2.5 1.5 2.5")
)
SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond", "P": "cross", "X": "x",
    "<": "triangle-left", ">": "triangle-right", "p": "pentagon", "*": "star", "h": "hexagon2", "d": "diamond-tall",
    "8": "octagon", (4, 1, 0): "star-diamond", "H": "hexagon",
}  # fmt: skip


def chart_of(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[dict[str, Any] | None, list[tuple[str, Markup]]]:
    """The curves of a grid for the page's script, and its legend; no chart where no label has a curve.

    styles: label -> colour, dash, symbol. axes, measures: those with values; log: measures with a logarithmic axis,
    whose mean is geometric. panels: name -> label -> measure -> x by axis, mean, low, high and n (seeds) a point;
    whole: how many of the points, from the first, all runs reached; diverged: whether a run did. finals: name -> label
    -> mean, low, high, the seeds' accuracies, how many runs and how many of them diverged, best first. seen: name ->
    what the accuracies show, in words.
    """
    look = styles(zip(runs.method, runs.label, runs.hyperparameters))
    axes = [axis for axis in AXES if axis in curves and curves[axis].notna().any()]
    measures = [measure for measure in MEASURES if measure in curves and curves[measure].notna().any()]
    log = [measure for measure in measures if measure != "test_accuracy" and not (curves[measure] < 0).any()]
    panels: dict[str, dict[str, dict[str, Any]]] = {}
    finals: dict[str, dict[str, dict[str, Any]]] = {}
    varied = [column for column in PROBLEM if runs[column].nunique() > 1 or column == "dataset"]
    for key, here in runs[runs.status != "failed"].groupby(PROBLEM, sort=False):
        name = _place(key, here, varied)
        for label, mine in here.groupby("label", sort=False):
            points = curves[curves.run_key.isin(mine.run_key) & (curves.label == label)]
            lines = {m: line for m in measures if (line := _line(mine, points, axes, m, m in log))}
            if lines:
                panels.setdefault(name, {})[label] = lines
        finals[name] = _finals(here)
    if not panels:
        return None, []
    shown = {label: style for label, style in look.items() if any(label in panel for panel in panels.values())}
    drawn = {
        label: dict(colour=style.colour, dash=DASHES[style.line][0], symbol=SYMBOLS[style.marker])
        for label, style in shown.items()
    }
    seen = {name: _ends(table) for name, table in finals.items()}
    chart = dict(styles=drawn, axes=axes, measures=measures, log=log, panels=panels, finals=finals, seen=seen)
    return chart, [(label, sample(style)) for label, style in shown.items()]


def seen_in(runs: pd.DataFrame) -> str:
    """What the final accuracies of a grid show, problem by problem: the label on top and the one at the bottom."""
    varied = [column for column in PROBLEM if runs[column].nunique() > 1 or column == "dataset"]
    finished = runs[runs.status != "failed"]
    found = {_place(key, here, varied): _ends(_finals(here)) for key, here in finished.groupby(PROBLEM, sort=False)}
    return " ".join(f"{name}: {text}" for name, text in found.items())


def _place(key: tuple[Any, ...], runs: pd.DataFrame, varied: Sequence[str]) -> str:
    dataset, n_train, activation, hidden = key
    words = dict(
        dataset=dataset_title(dataset) + ("" if runs.data_official.all() else "†"),
        n_train=f"n = {n_train:,.0f}",
        activation=activation_title(activation),
        hidden=network_title(runs.network.iloc[0], hidden),
    )
    return ", ".join(words[column] for column in varied)


def _finals(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {
        row.label: dict(
            mean=_rounded([row.mean])[0],
            low=_rounded([row.low])[0],
            high=_rounded([row.high])[0],
            seeds=_rounded(row.values),
            runs=row.runs,
            diverged=row.diverged,
        )
        for row in final_table(runs).itertuples(index=False)
    }


def _ends(finals: dict[str, dict[str, Any]]) -> str:
    """The best and the worst mean of a problem, in words."""
    means = {label: row["mean"] for label, row in finals.items() if row["mean"] is not None}
    lost = sum(row["diverged"] for row in finals.values())
    also = f" {lost} of {sum(row['runs'] for row in finals.values())} runs diverged." if lost else ""
    if not means:
        return f"no run finished.{also}"
    best, worst = max(means, key=means.get), min(means, key=means.get)
    text = f"{best} {100 * means[best]:.1f} %"
    if best == worst:
        return f"{text}.{also}"
    return f"highest final accuracy {text}, lowest {worst} {100 * means[worst]:.1f} %, of {len(means)} labels.{also}"


def _line(
    runs: pd.DataFrame, points: pd.DataFrame, axes: Sequence[str], measure: str, logarithmic: bool
) -> dict[str, Any] | None:
    curve = curve_of(runs, points, "iteration", measure, logarithmic)
    if curve is None:
        return None
    kept = _kept(len(curve.x), curve.whole)
    by_iteration = points[points[measure].notna()].groupby("iteration")
    places = by_iteration[list(axes)].mean().reindex(curve.x[kept])
    return dict(
        x={axis: _rounded(places[axis]) for axis in axes},
        mean=_rounded(curve.mean[kept]),
        low=_rounded(curve.low[kept]),
        high=_rounded(curve.high[kept]),
        n=_rounded(by_iteration.size().reindex(curve.x[kept])),
        whole=int((kept < curve.whole).sum()),
        diverged=bool(curve.diverged),
    )


def _kept(count: int, whole: int) -> np.ndarray:
    """The points that are drawn, denser at the start, where curves bend; among them the last that all runs reached."""
    if count <= POINTS:
        return np.arange(count)
    places = np.linspace(0, 1, POINTS - 1) ** 1.5 * (count - 1)
    return np.unique(np.append(places.round().astype(int), max(whole - 1, 0)))


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Six digits; None, as JSON has no NaN."""
    short = [float(f"{value:.6g}") for value in values]
    return [None if not math.isfinite(value) else int(value) if value.is_integer() else value for value in short]


def sample(style: Style) -> Markup:
    """A piece of line with its marker, 34 by 14 pixels, in the colour of the text around it; the marker's outline is
    matplotlib's."""
    marker = MarkerStyle(style.marker)
    outline = marker.get_path().transformed(marker.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    steps = [
        letters[code] + " ".join(f"{17 + 8 * x:.2f} {7 - 8 * y:.2f}" for x, y in points.reshape(-1, 2) if code != 79)
        for points, code in outline.iter_segments()
    ]
    return Markup(
        '<svg width="34" height="14" viewBox="0 0 34 14" aria-hidden="true">'
        '<path d="M1 7H33" stroke="currentColor" stroke-width="2" stroke-dasharray="{0}"/>'
        '<path d="{1}" fill="currentColor"/></svg>'
    ).format(DASHES[style.line][1], "".join(steps))
