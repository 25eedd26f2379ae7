"""Accuracy against a number from made-up CSVs: which numbers count as swept, and what a panel shows."""

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from figure_csvs import check_texts, drawn_from, one_line, texts, write_csvs

from reproduce.judge.estimates import mean_intervals
from reproduce.judge.stability import stability_table
from reproduce.show import figures
from reproduce.show.look import STYLE, style_of
from reproduce.show.lost import LOST
from reproduce.show.panels import TWO_COLUMNS, arrange
from reproduce.show.sensitivity import DEPTH, STEP_SIZE, WIDTH, covered, sweep_pages

STEPS = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0)
# name -> (method, its key, other settings, factor of the step sizes)
STEPPED = {
    "SAMT row": ("samt", "alpha0", dict(shape="row"), 1),
    "SAMT element": ("samt", "alpha0", dict(shape="element"), 1),
    "SAM": ("sam", "alpha", {}, 1),
    "Adam": ("adam", "learning_rate", {}, 0.01),
}


@pytest.fixture(autouse=True)
def style():
    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield


def arranged(results, grid):
    return arrange(figures._read_runs(results, grid), figures._read_curves(results, grid), "A title")


def setting(method: str, accuracy: float = 1.0) -> tuple:
    """As a label of `write_csvs`: after one evaluation the run is done."""
    return method, 1, 100, accuracy, 9.0, False


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    results, labels, settings = tmp_path_factory.mktemp("stepped"), {}, {}
    for name, (method, key, others, factor) in STEPPED.items():
        for step in STEPS:
            value = float(f"{step * factor:.3g}")
            label = f"{name}, {key} = {value}" if method == "samt" else f"{name}, {value}"
            labels[label] = setting(method, 0.9 if step < 1 else 0.6)
            settings[label] = {key: value, "beta": 0.5} | others
    lost = {("mnist", "SAM, 10.0"): {0: 0, 1: 0, 2: 0}, ("mnist", "Adam, 0.1"): {1: 0}}
    best = dict(mnist=0.97, svhn=0.8)
    write_csvs(results, "g", labels, best, seeds=3, evaluations=1, hyperparameters=settings, diverged=lost)
    return results


def test_every_method_is_a_line_along_its_own_step_size(stepped):
    (figure,) = sweep_pages(arranged(stepped, "g"))
    check_texts(figure, "sensitivity")
    assert figure.get_figwidth() == TWO_COLUMNS
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(STEPPED)
    assert STEP_SIZE in texts(figure)
    keys = "Initial step size: alpha0 of SAMT row, SAMT element; alpha of SAM; learning_rate of Adam."
    assert keys in one_line(figure)
    runs = figures._read_runs(stepped, "g")
    svhn = figure.axes[1]
    lines = [line for line in svhn.lines if line.get_linestyle() != "None"]
    for line, (name, (_, _, _, factor)) in zip(lines, STEPPED.items()):
        np.testing.assert_allclose(10 ** line.get_xdata(), np.array(STEPS) * factor, rtol=1e-2)
        mine = runs[(runs.dataset == "svhn") & runs.label.str.startswith(f"{name},")]
        means = mine.groupby("label", sort=False).test_accuracy.mean()
        np.testing.assert_allclose(line.get_ydata(), means)
    assert len(svhn.collections) == 4, "a band a line"
    band = svhn.collections[0].get_paths()[0].vertices[:, 1]
    first = mean_intervals(runs[(runs.dataset == "svhn") & (runs.label == "SAMT row, alpha0 = 0.001")].test_accuracy)
    assert band.min() <= first[1] + 1e-12 and np.isclose(band, first[1]).any() and np.isclose(band, first[2]).any()


def test_lost_runs_are_those_that_the_claims_count(stepped):
    """Also the run that finished and is at chance above its method's best step size."""
    runs, curves = figures.csvs_of(stepped, "g")
    chance = runs.run_key[(runs.dataset == "mnist") & (runs.label == "Adam, 0.0316")]
    for table in (runs, curves):
        table.loc[table.run_key.isin(chance), ["test_accuracy", "val_accuracy"]] = 0.1
    (figure,) = sweep_pages(arrange(runs, curves, "A title"))
    check_texts(figure, "sensitivity")
    judged = stability_table(runs, curves)
    judged = judged.assign(label=judged.label.str.removesuffix(", alpha0")).set_index(["dataset", "label"])
    assert judged.diverged_share["mnist", "Adam"] > 3 / 27, "more than the one that diverged"
    *_, mnist, svhn = figure.axes
    for ax, dataset in ((mnist, "mnist"), (svhn, "svhn")):
        drawn = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
        np.testing.assert_allclose(drawn[1::2], [100 * judged.diverged_share[dataset, name] for name in STEPPED])
    assert LOST in texts(figure) and STEP_SIZE in texts(figure)
    assert "at 20 % or less" in one_line(figure) and "one step size or less (11.1 %)" in one_line(figure)
    assert "grey strip" not in one_line(figure)


def test_diverged_runs_are_counted_below_the_panel_and_hollow_in_it(stepped):
    """As long as a run is missing, without which no claim can be judged."""
    runs, curves = figures.csvs_of(stepped, "g")
    gone = runs.run_key[(runs.label == "SAMT row, alpha0 = 0.001") & (runs.seed == 2)]
    (figure,) = sweep_pages(arrange(runs[~runs.run_key.isin(gone)], curves[~curves.run_key.isin(gone)], "A title"))
    mnist, _, below, beside = figure.axes
    assert [(t.get_text(), t.get_fontweight()) for t in below.texts[1:]] == [("3", "bold"), ("1", "normal")]
    assert [round(10 ** t.get_position()[0], 5) for t in below.texts[1:]] == [10, 0.1]
    assert [t.get_text() for t in beside.texts] == ["No diverged runs"]
    hollow = [line for line in mnist.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    shown = {round(10 ** line.get_xdata()[0], 5): np.isfinite(line.get_ydata()[0]) for line in hollow}
    assert shown == {10: False, 0.1: True}, "no mean where all runs diverged, that of the others where some did"
    assert "how many of 2 to 3 did (bold: all)" in one_line(figure)


def test_a_grid_of_many_settings_shows_nothing_else(stepped):
    assert covered(arranged(stepped, "g")) and len(arranged(stepped, "g").styles) > figures.LEGIBLE
    assert set(drawn_from(stepped, "g")) == {"sensitivity"}


def test_a_label_on_no_line_keeps_the_other_kinds(stepped, tmp_path):
    (tmp_path / "g").mkdir()
    for name in ("runs.csv", "curves.csv"):
        table = pd.read_csv(stepped / "g" / name, dtype=dict(run_key=str))
        table.loc[table.label == "SAM, 1.0", "method"] = "gd"
        table.to_csv(tmp_path / "g" / name, index=False)
    assert not covered(arranged(tmp_path, "g"))


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """TIAM with rho, p1, width and depth moved one at a time; the defaults are one run under four labels."""
    results = tmp_path_factory.mktemp("varied")
    defaults = dict(rho=0.001, p1=0.9, keep=True)
    rows, points = [], []
    plans = [
        ([f"rho = {rho}" for rho in (0, 1e-4, 1e-3, 1e-2, 1.0)], "rho", (0, 1e-4, 1e-3, 1e-2, 1.0), ("100-100",)),
        ([f"p1 = {p1}" for p1 in (0.0, 0.5, 0.9)], "p1", (0.0, 0.5, 0.9), ("100-100",)),
        (["width"], "p1", (0.9,), ("50-50", "100-100", "1000-1000")),
        (["depth"], "p1", (0.9,), ("100", "100-100", "100-100-100", "50-100")),
    ]
    for number, (labels, key, values, networks) in enumerate(plans):
        settings = {label: defaults | {key: value} for label, value in zip(labels, values)}
        networks = tuple(("relu", hidden) for hidden in networks)
        made = {label: setting("tiam") for label in labels}
        write_csvs(results, "part", made, {"mnist": 0.9}, 3, 1, networks=networks, hyperparameters=settings)
        for name, tables in (("runs.csv", rows), ("curves.csv", points)):
            table = pd.read_csv(results / "part" / name, dtype=dict(run_key=str))
            default = table.label.isin(["rho = 0.001", "p1 = 0.9", "width", "depth"]) & (table.hidden == "100-100")
            keys = (f"{number}-" + table.run_key).where(~default, "default-" + table.seed.astype(str))
            tables.append(table.assign(run_key=keys))
    (results / "g").mkdir()
    runs, curves = pd.concat(rows), pd.concat(points)
    # One run has one accuracy, whatever label shows it.
    for table in (runs, curves):
        here = table.run_key.str.startswith("default-")
        table.loc[here, "test_accuracy"] = 0.5 + 0.1 * table.seed[here]
    runs.to_csv(results / "g" / "runs.csv", index=False)
    curves.to_csv(results / "g" / "curves.csv", index=False)
    return results


def test_each_number_has_a_panel_and_the_defaults_are_marked(varied):
    (figure,) = sweep_pages(arranged(varied, "g"))
    check_texts(figure, "sensitivity")
    named = [next(t.get_text() for t in ax.texts if t.get_text() in ("rho", "p1", WIDTH, DEPTH)) for ax in figure.axes]
    assert named == ["rho", "p1", WIDTH, DEPTH], "keep is True or False and no number"
    assert not figure.legends, "one line a panel needs no legend"
    drawn = [[line.get_xdata() for line in ax.lines] for ax in figure.axes]
    upright = [[x[0] for x in lines if len(x) == 2 and x[0] == x[1]] for lines in drawn]
    assert upright == [[-3.0], [0.9], [2.0], [2.0]]
    assert "Dotted: the setting that the other panels keep." in one_line(figure)
    assert len({ax.get_ylim() for ax in figure.axes}) == 1, "slopes compare across panels"
    colours = {line.get_color() for ax in figure.axes for line in ax.lines if line.get_linestyle() == "-"}
    assert colours == {style_of("tiam").colour}, "width and depth are sweeps of TIAM and no methods"


def test_zero_has_a_place_on_a_logarithmic_axis_and_layers_are_whole(varied):
    (figure,) = sweep_pages(arranged(varied, "g"))
    ticks = [[text.get_text() for text in ax.get_xticklabels()] for ax in figure.axes]
    assert ticks == [["0", "10⁻³", "1"], ["0", "0.5", "0.9"], ["50", "100", "1k"], ["1", "2", "3"]]
    places = figure.axes[0].get_xticks()
    assert places[0] < -4.5 and places[1:].tolist() == [-3, 0]


def test_a_run_under_several_labels_counts_once_and_has_its_own_curves(varied):
    grid = arranged(varied, "g")
    assert covered(grid) is False, "the network 50-100 is on no line"
    (figure,) = sweep_pages(grid)
    *_, low, high = mean_intervals(np.array([0.5, 0.6, 0.7]))
    for ax in figure.axes:
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert np.isclose(band, low).any() and np.isclose(band, high).any(), "of three seeds, whatever labels show them"
    assert "width 100" in texts(figure) and "2 hidden layers" in texts(figure)
    drawn = drawn_from(varied, "g")
    assert "accuracy_epochs" in drawn
    legend = {text.get_text() for legend in drawn["accuracy_epochs"].legends for text in legend.get_texts()}
    assert {"width", "depth", "rho = 0.001"} <= legend


def test_two_values_are_no_sweep(tmp_path):
    labels = {f"TIAM ({p1}, {p2})": setting("tiam") for p1 in (0.0, 0.9) for p2 in (0.0, 0.9)}
    settings = {label: dict(p1=float(label[6:9]), p2=float(label[11:14])) for label in labels}
    write_csvs(tmp_path, "g", labels, {"mnist": 0.9}, 2, 1, hyperparameters=settings)
    assert sweep_pages(arranged(tmp_path, "g")) == []


def test_lines_of_one_name_say_what_they_differ_in(tmp_path):
    labels, settings = {}, {}
    for momentum in (0.5, 0.9):
        for rate in (0.01, 0.1, 1.0):
            label = f"m{momentum} r{rate}"
            labels[label], settings[label] = setting("momentum"), dict(learning_rate=rate, momentum=momentum)
    write_csvs(tmp_path, "g", labels, {"mnist": 0.9}, 2, 1, hyperparameters=settings)
    (figure,) = sweep_pages(arranged(tmp_path, "g"))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["m0.5 r", "m0.9 r"]
    runs = pd.read_csv(tmp_path / "g" / "runs.csv", dtype=dict(run_key=str))
    runs["label"] = [f"{i}" for i in range(6) for _ in range(2)]
    runs.to_csv(tmp_path / "g" / "runs.csv", index=False)
    (figure,) = sweep_pages(arranged(tmp_path, "g"))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["SGD + momentum, momentum = 0.5", "SGD + momentum, momentum = 0.9"]
