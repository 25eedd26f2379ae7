"""Made-up CSVs for the figures, and what every figure must keep: no text cut, none covered."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from reproduce.evidence.about import Target
from reproduce.show import figures
from reproduce.show.look import STYLE
from reproduce.show.panels import arrange

# kinds that are always drawn
PLAIN = ("accuracy_epochs", "accuracy_updates", "final_accuracy", "objective", "constraint_gap")
# label -> (method, epochs per evaluation, updates per epoch, final accuracy over the best one, rate, has an objective)
LABELS = {
    "TIAM": ("tiam", 3, 6, 0.98, 0.05, True),
    "mDLAM": ("mdlam", 3, 6, 0.95, 0.03, True),
    "dlADMM": ("dladmm", 3, 12, 0.90, 0.05, True),
    "GD": ("gd", 3, 1, 0.72, 0.02, False),
    "SGD": ("sgd", 0.5, 400, 0.995, 0.5, False),
    "Momentum": ("momentum", 0.5, 400, 1.0, 0.6, False),
    "Adam": ("adam", 0.5, 400, 1.0, 0.8, False),
    "SAM": ("sam", 0.5, 1200, 0.985, 0.5, False),
    "SAMT scalar": ("samt", 0.5, 1200, 0.985, 0.55, False),
    "SAMT row": ("samt", 0.5, 1200, 0.997, 0.7, False),
    "SAMT column": ("samt", 0.5, 1200, 0.99, 0.6, False),
    "SAMT element": ("samt", 0.5, 1200, 0.993, 0.75, False),
}
BEST = dict(mnist=0.978, fashion_mnist=0.885, cifar10=0.52, svhn=0.84)


def write_csvs(
    results: Path,
    grid: str,
    labels: dict = LABELS,
    datasets: dict = BEST,
    seeds: int = 5,
    evaluations: int = 40,
    diverged: dict | None = None,
    unofficial: tuple = (),
    networks: tuple = (("relu", "100-100"),),
    lane: str = "accuracy",
    gradient_norm: bool = False,
    hyperparameters: dict | None = None,
    shift: Callable[[str, str, str], float] = lambda label, activation, hidden: 1.0,
) -> None:
    """runs.csv and curves.csv as a real grid has them.

    diverged: (dataset, label) -> {seed: last evaluation}. hyperparameters: label -> its settings. shift: (label,
    activation, hidden) -> a factor of the final accuracy.
    """
    rng = np.random.default_rng(0)
    runs, curves = [], []
    for (dataset, best), (activation, hidden), (label, setting), seed in itertools.product(
        datasets.items(), networks, labels.items(), range(seeds)
    ):
        method, every, updates, factor, rate, has_objective = setting
        key = f"{len(runs):08d}e1"  # reads as a number if nobody says that it is text
        ends = (diverged or {}).get((dataset, label), {}).get(seed, evaluations)
        pace = np.exp(0.1 * rng.standard_normal())
        final = best * factor * shift(label, activation, hidden) + 0.004 * rng.standard_normal()
        for k in range(ends + 1):
            epoch = k * every
            accuracy = 0.1 + (final - 0.1) * (1 - np.exp(-rate * epoch)) + 0.002 * rng.standard_normal()
            noise = np.exp(0.1 * rng.standard_normal(2))
            point = dict(
                run_key=key,
                dataset=dataset,
                activation=activation,
                hidden=hidden,
                method=method,
                label=label,
                seed=seed,
                iteration=round(epoch if has_objective else epoch * 400),
                epoch=epoch,
                parameter_updates=round(epoch * updates),
                gradient_evaluations=round(epoch * updates * (3 if has_objective else 1)),
                val_accuracy=min(max(accuracy + 0.001, 0), 1),
                test_accuracy=min(max(accuracy, 0), 1),
                train_loss=-np.log(min(max(accuracy, 1e-3), 1)),
                gradient_norm=noise[0] * 2 / (1 + epoch) ** 0.5 if gradient_norm else None,
                seconds=epoch * updates * 1e-4 * factor * pace if lane == "time" else None,
                objective=3e4 * np.exp(-rate * epoch) * noise[0] + 900 if has_objective else None,
                constraint_gap=(10 / epoch * noise[1] if k else 0.0) if has_objective else None,
            )
            curves.append(point)
        lost = ends < evaluations
        runs.append(
            dict(
                grid=grid,
                dataset=dataset,
                data_official=dataset not in unofficial,
                n_train=10_000,
                activation=activation,
                hidden=hidden,
                lane=lane,
                method=method,
                label=label,
                hyperparameters=json.dumps((hyperparameters or {}).get(label, {})),
                seed=seed,
                status="diverged" if lost else "done",
                iterations=point["iteration"] if ends >= 0 else 0,
                parameter_updates=point["parameter_updates"] if ends >= 0 else 0,
                gradient_evaluations=point["gradient_evaluations"] if ends >= 0 else 0,
                flops=2e6 * point["parameter_updates"] * factor if ends >= 0 else 0,
                test_accuracy=None if lost else point["test_accuracy"],
                val_accuracy=None if lost else point["val_accuracy"],
                seconds=point["seconds"] if ends >= 0 else None,
                run_key=key,
            )
        )
    folder = results / grid
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(runs).to_csv(folder / "runs.csv", index=False)
    pd.DataFrame(curves).to_csv(folder / "curves.csv", index=False)


def drawn_from(results: Path, grid: str, title: str = "", target: Target | None = None) -> dict[str, Figure]:
    return figures.draw(figures._read_runs(results, grid), figures._read_curves(results, grid), title, target)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def name_of(ax) -> str:
    """The data set above a panel: its one bold text."""
    (name,) = [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"]
    return name


def one_line(figure) -> str:
    """All notes under a figure, unwrapped."""
    return " ".join(text.get_text() for text in figure.texts)


def boxes(figure):
    """(text, box) of every text that is drawn, box in pixels."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    shown = list(figure.texts)
    for legend in figure.legends:
        shown += legend.get_texts()
    for ax in figure.axes:
        shown += ax.texts
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown += [t for t, at in zip(axis.get_majorticklabels(), axis.get_majorticklocs()) if low <= at <= high]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown if text.get_text()]


def check_texts(figure: Figure, name: str) -> None:
    """No text passes the edge or covers another, and no legend covers a panel."""
    found = boxes(figure)
    for text, box in found:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside, f"{name}: '{text}' passes the edge"
    for (a, one), (b, other) in itertools.combinations(found, 2):
        wide = min(one.x1, other.x1) - max(one.x0, other.x0)
        high = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert wide < 1 or high < 1, f"{name}: '{a}' and '{b}' overlap"
    for legend, ax in itertools.product(figure.legends, figure.axes):
        assert not legend.get_window_extent().overlaps(ax.bbox), f"{name}: the legend covers a panel"


# label -> (method, epochs per evaluation, updates per epoch, final accuracy over the best one, rate, has an objective)
METHODS = {
    "TIAM": ("tiam", 1, 300, 0.95, 3.0, True),
    "SAMT row": ("samt", 0.5, 600, 0.90, 3.0, False),
    "SGD": ("sgd", 0.5, 600, 0.84, 3.0, False),
    "Adam": ("adam", 0.5, 600, 1.0, 3.0, False),
    "GD": ("gd", 0.5, 3, 0.6, 3.0, False),
}


@pytest.fixture(name="style", autouse=True)
def style_fixture():
    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield


def arranged(results, change=lambda runs: runs):
    return arrange(change(figures._read_runs(results, "g")), figures._read_curves(results, "g"), "A title")


@pytest.fixture(name="ranked", scope="module")
def ranked_fixture(tmp_path_factory):
    results = tmp_path_factory.mktemp("ranked")
    methods = METHODS | {"Lost": ("bcd", 1, 6, 1.05, 3.0, True), "Once": ("mdlam", 1, 6, 1.04, 3.0, True)}
    lost = {(dataset, "Lost"): dict.fromkeys(range(2), 1) for dataset in BEST}
    write_csvs(results, "g", methods, seeds=2, evaluations=6, diverged=lost)
    return results


def without_once(runs):
    return runs[(runs.label != "Once") | (runs.dataset == "mnist")]
