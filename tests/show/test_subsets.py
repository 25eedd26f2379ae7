"""Accuracy against the training images, from made-up CSVs and from the committed ones."""

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from figure_csvs import check_texts, drawn_from, one_line, write_csvs
from helpers import ROOT

from reproduce.show import figures
from reproduce.show.look import STYLE
from reproduce.show.panels import arrange
from reproduce.show.subsets import NEAR, _groups, _subsets

LABELS = {"TIAM": ("tiam", 10, 6, 1.0, 0.5, True), "BCD": ("bcd", 10, 6, 0.9, 0.5, True)}
FACTORS = {500: 0.8, 2_000: 0.95, 10_000: 1.0}  # images -> of the accuracy, with constants scaled to them


@pytest.fixture(autouse=True)
def style():
    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield


@pytest.fixture
def sizes(tmp_path):
    """A grid of three sizes with both constants; of all images, as a grid makes them, with scaled ones alone."""
    runs, curves = [], []
    for images, factor in FACTORS.items():
        for constants in ("scaled", "published"):
            if images == max(FACTORS) and constants == "published":
                continue
            lower = 0.5 if constants == "published" else 1.0
            datasets = dict(mnist=0.9 * factor * lower, digits=0.8 * factor * lower)
            seeds = 4 if images == max(FACTORS) else 3
            write_csvs(tmp_path, "part", LABELS, datasets, seeds, evaluations=6)
            for rows, name in ((runs, "runs"), (curves, "curves")):
                part = pd.read_csv(tmp_path / "part" / f"{name}.csv", dtype=dict(run_key=str))
                part["run_key"] = f"{images}{constants}" + part.run_key
                rows.append(part.assign(n_train=images, constants=constants) if name == "runs" else part)
    for rows, name in ((runs, "runs"), (curves, "curves")):
        (tmp_path / "g").mkdir(exist_ok=True)
        pd.concat(rows).to_csv(tmp_path / "g" / f"{name}.csv", index=False)
    return tmp_path


def test_a_line_for_scaled_constants_and_one_for_published(sizes):
    drawn = drawn_from(sizes, "g", "A title")
    assert set(drawn) == {"accuracy_epochs", "subsets"}, "the others would take a page a size, or repeat it"
    figure = drawn["subsets"]
    check_texts(figure, "subsets")
    assert len(figure.axes) == 4 and f"within {NEAR} points" in one_line(figure)
    runs = pd.read_csv(sizes / "g" / "runs.csv")
    expected = runs[(runs.dataset == "mnist") & (runs.label == "TIAM") & (runs.seed < 3)]
    expected = 100 * expected.groupby(["constants", "n_train"]).test_accuracy.mean()
    lines = {line.get_color(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["#0072B2"].get_ydata(), expected["scaled"], atol=1e-9)
    np.testing.assert_allclose(
        lines["#D55E00"].get_ydata(), [*expected["published"], expected["scaled", max(FACTORS)]], atol=1e-9
    )


def test_more_lines_than_a_panel_takes_are_split_by_their_constants(sizes):
    runs, curves = figures.csvs_of(sizes, "g")
    copies = lambda frame: pd.concat(
        frame.assign(label=f"{i} " + frame.label, run_key=f"{i}" + frame.run_key) for i in range(4)
    )
    drawn = figures.draw(copies(runs), copies(curves), kinds=["accuracy_epochs"])
    groups = {}
    for ax in (ax for figure in drawn.values() for ax in figure.axes):
        (group,) = [text.get_text() for text in ax.texts if text.get_text().startswith("Full-batch AM")]
        groups.setdefault(group, []).append(len([line for line in ax.lines if line.get_marker() != "None"]))
    # Two data sets of three sizes, of which the largest has scaled constants alone.
    assert groups == {"Full-batch AM, constants scaled": [8] * 6, "Full-batch AM, constants as published": [8] * 4}


def test_only_seeds_that_every_size_has_count(sizes):
    grid = arrange(figures._read_runs(sizes, "g"), figures._read_curves(sizes, "g"), "A title")
    panels = [panel for group in _groups(grid) for panel in _subsets(group)]
    assert {panel.seeds for panel in panels} == {3}, "all images have a fourth seed, the parts have not"


def test_two_sizes_are_no_line(tmp_path, sizes):
    for name in ("runs", "curves"):
        rows = pd.read_csv(sizes / "g" / f"{name}.csv", dtype=dict(run_key=str))
        rows[~rows.run_key.str.startswith("500")].to_csv(sizes / "g" / f"{name}.csv", index=False)
    assert "subsets" not in drawn_from(sizes, "g")


def test_what_the_page_says_of_five_thousand_images():
    """docs/readings.md: with scaled constants within 1.5 points of all images, but for BCD; with published ones not."""
    runs = pd.read_csv(ROOT / "results" / "scale" / "runs.csv")
    accuracy = 100 * runs.pivot_table("test_accuracy", ["dataset", "label", "seed"], ["constants", "n_train"])
    away = accuracy.sub(accuracy["scaled", 55_000], axis=0).groupby(["label", "dataset"]).mean()
    scaled, published = away["scaled"], away["published"]
    assert len(scaled) == 12 and scaled[5_000].drop("BCD").abs().max() <= NEAR and scaled.loc["BCD", 5_000].max() < -2
    assert published.loc["TIAM", 5_000].max() < -2 and published.loc["TIAM", 1_000].max() < -20
    smallest = accuracy["published", 1_000].groupby(["dataset", "label"]).mean().unstack()
    assert (smallest.idxmin(axis=1) == "TIAM").all()
