"""Ranks, profiles, activations and costs from made-up CSVs: what is drawn, what it says, and when nothing is drawn."""

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from figure_csvs import BEST, check_texts, drawn_from, name_of, one_line, texts, write_csvs

from reproduce import figures, sheet
from reproduce.comparisons import activation_pages, cost_pages, gain_pages, profile_pages, rank_pages
from reproduce.sheet import STYLE, arrange
from reproduce.statistics import compare

# label -> (method, epochs per evaluation, updates per epoch, final accuracy over the best one, rate, has an objective)
METHODS = {
    "TIAM": ("tiam", 1, 300, 0.95, 3.0, True),
    "SAMT row": ("samt", 0.5, 600, 0.90, 3.0, False),
    "SGD": ("sgd", 0.5, 600, 0.84, 3.0, False),
    "Adam": ("adam", 0.5, 600, 1.0, 3.0, False),
    "GD": ("gd", 0.5, 3, 0.6, 3.0, False),
}


@pytest.fixture(autouse=True)
def style():
    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield


def arranged(results, change=lambda runs: runs):
    return arrange(change(figures._read_runs(results, "g")), figures._read_curves(results, "g"), "A title")


def lines_of(ax):
    """Label -> y of the drawn lines with as many labels as the legend has, in its order."""
    return dict(zip([text.get_text() for text in ax.figure.legends[0].get_texts()], ax.lines))


# Ranks -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    results = tmp_path_factory.mktemp("ranked")
    methods = METHODS | {"Lost": ("bcd", 1, 6, 1.05, 3.0, True), "Once": ("mdlam", 1, 6, 1.04, 3.0, True)}
    lost = {(dataset, "Lost"): dict.fromkeys(range(2), 1) for dataset in BEST}
    write_csvs(results, "g", methods, seeds=2, evaluations=6, diverged=lost)
    return results


def without_once(runs):
    return runs[(runs.label != "Once") | (runs.dataset == "mnist")]


def test_ranks_name_every_method_and_what_diverged_is_last(ranked):
    (figure,) = rank_pages(arranged(ranked, without_once))
    check_texts(figure, "critical_difference")
    shown = texts(figure)
    for text in ("Adam  1.00", "TIAM  2.00", "SAMT row  3.00", "4.00  SGD", "5.00  GD", "6.00  Lost"):
        assert text in shown, "the means are ordered alike on every data set, and Lost never finished"
    assert "Left out, not run on every data set: Once." in one_line(figure)
    # Nemenyi for six methods and four data sets: 2.850 sqrt(6 * 7 / (6 * 4)) = 3.77.
    assert "critical difference 3.77" in shown
    assert "Friedman's test: χ² = 20.0, p = 0.001" in shown
    assert figure.get_figwidth() in (sheet.ONE_COLUMN, sheet.TWO_COLUMNS)
    (ax,) = figure.axes
    places = [line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "|")]
    assert sorted(places) == [1, 2, 3, 4, 5, 6]


def test_bars_join_what_nemenyi_does_not_tell_apart(ranked):
    (figure,) = rank_pages(arranged(ranked, without_once))
    bars = [line.get_xdata() for line in figure.axes[0].lines if line.get_linewidth() == 2.2]
    assert [np.round(bar).tolist() for bar in bars] == [[1, 4], [2, 5], [3, 6]]


def test_three_data_sets_or_two_methods_have_no_ranks(ranked):
    assert rank_pages(arranged(ranked, lambda runs: runs[runs.dataset != "svhn"])) == []
    assert rank_pages(arranged(ranked, lambda runs: runs[runs.label.isin(["TIAM", "GD"])])) == []


# Profiles ----------------------------------------------------------------------------------------------------------


def test_a_profile_has_misses_at_no_multiple_and_names_who_solved_nothing(ranked):
    (figure,) = profile_pages(arranged(ranked), timed=False)
    check_texts(figure, "performance_profile")
    assert [name_of(ax) for ax in figure.axes] == ["Parameter updates", "Epochs", "Gradient evaluations"]
    assert texts(figure).count("8 problems") == 3, "four data sets of two seeds"
    note = one_line(figure)
    assert "reached 98 % of SGD's median final one" in note and "No problem solved, no line: GD, Lost." in note
    updates = lines_of(figure.axes[0])
    assert list(updates) == ["TIAM", "SAMT row", "SGD", "Adam", "Once"]
    for ax in figure.axes:
        assert ax.get_xscale() == "log" and ax.get_ylim() == (-3, 103)
    # Once takes three updates where the others take hundreds: it alone is the cheapest, everywhere.
    assert updates["Once"].get_ydata()[0] == 100 and updates["Adam"].get_ydata()[0] == 0
    assert all((np.diff(line.get_ydata()) >= 0).all() for line in updates.values())


def test_a_diverged_run_solves_nothing(tmp_path):
    lost = {("mnist", "Adam"): {0: 5}}
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=4, evaluations=6, diverged=lost)
    (figure,) = profile_pages(arranged(tmp_path), timed=False)
    assert lines_of(figure.axes[0])["Adam"].get_ydata()[-1] == 75


def test_methods_that_step_alike_share_a_panel(ranked):
    alike = lambda runs: runs[runs.label.isin(["SAMT row", "SGD", "Adam"])]
    (figure,) = profile_pages(arranged(ranked, alike), timed=False)
    assert len(figure.axes) == 1 and figure.get_figwidth() == sheet.ONE_COLUMN
    assert "and epochs, and gradient evaluations, 8 problems" in texts(figure)


def test_without_a_reference_or_with_too_few_evaluations_there_is_no_profile(ranked, tmp_path):
    assert profile_pages(arranged(ranked, lambda runs: runs[~runs.method.isin(["sgd", "mdlam"])]), timed=False) == []
    (figure,) = profile_pages(arranged(ranked, lambda runs: runs[runs.method != "sgd"]), timed=False)
    assert "of Once's median" in one_line(figure), "mDLAM where there is no SGD"
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=2, evaluations=2)
    assert profile_pages(arranged(tmp_path), timed=False) == []


# Activations ---------------------------------------------------------------------------------------------------------

NAMES = dict(relu="ReLU", leaky_relu="leaky ReLU", elu="ELU", selu="SELU", celu="CELU", softplus="softplus")


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    results = tmp_path_factory.mktemp("activations")
    write_csvs(
        results, "g", {name: METHODS[name] for name in ("TIAM", "SGD", "GD")}, {"mnist": 0.97, "svhn": 0.8}, seeds=3,
        evaluations=2, networks=tuple((name, "100-100") for name in NAMES), diverged={("mnist", "SGD"): {0: 1}},
        shift=lambda label, activation, hidden: 0.5 if (label, activation) == ("TIAM", "softplus") else 1.0,
    )  # fmt: skip
    return results


def test_a_heat_map_says_every_number_and_every_divergence(activations):
    (figure,) = activation_pages(arranged(activations))
    check_texts(figure, "activations")
    runs = figures._read_runs(activations, "g")
    mnist = figure.axes[0]
    assert [text.get_text() for text in mnist.get_xticklabels()] == list(NAMES.values())
    assert [text.get_text() for text in mnist.get_yticklabels()] == ["TIAM", "SGD", "GD"]
    cells = {(round(t.get_position()[0]), round(t.get_position()[1])): t for t in mnist.texts if "." in t.get_text()}
    means = runs[(runs.dataset == "mnist")].groupby(["label", "activation"]).test_accuracy.mean()
    for (x, y), text in cells.items():
        label, activation = ["TIAM", "SGD", "GD"][y], list(NAMES)[x]
        assert text.get_text() == f"{100 * means[label, activation]:.1f}"
    assert len(cells) == 18
    assert [t.get_text() for t in mnist.texts].count("× 1/3") == 6
    assert cells[0, 0].get_fontweight() == "bold" and cells[0, 2].get_fontweight() == "normal"
    assert "×: diverged runs" in one_line(figure)


def test_gains_are_the_paired_differences_of_the_first_label(activations):
    (figure,) = gain_pages(arranged(activations))
    check_texts(figure, "activation_gain")
    runs = figures._read_runs(activations, "g")
    table = compare(runs[runs.dataset == "svhn"], "TIAM", ["SGD", "GD"], by="activation")
    symbols = [line for line in figure.axes[1].lines if line.get_marker() != "None"]
    np.testing.assert_allclose([line.get_xdata()[0] for line in symbols], 100 * table.effect)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim(), "gains compare across data sets"
    assert figure.axes[0].get_xscale() == "symlog" and "logarithmic beyond" in one_line(figure)


def test_one_activation_has_no_heat_map(activations):
    grid = arranged(activations, lambda runs: runs[runs.activation == "relu"])
    assert activation_pages(grid) == [] == gain_pages(grid)


# The time lane -----------------------------------------------------------------------------------------------------


def test_costs_are_multiples_of_sgds_block_update(tmp_path):
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=5, evaluations=2, lane="time")
    (figure,) = cost_pages(arranged(tmp_path))
    check_texts(figure, "cost")
    (ax,) = figure.axes
    rows = [text.get_text() for text in ax.get_yticklabels()]
    flops = {rows[round(line.get_ydata()[0])]: line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"}
    # The made-up FLOPs of an update are proportional to the fourth number of a method.
    expected = {label: number / METHODS["SGD"][3] for label, (_, _, _, number, *_) in METHODS.items() if label != "SGD"}
    assert flops == pytest.approx(expected)
    dashed = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [3], "a whole step of SGD moves three layers"
    assert cost_pages(arranged(tmp_path, lambda runs: runs[runs.method != "sgd"])) == []


def test_seconds_are_shown_in_the_time_lane_alone(tmp_path):
    write_csvs(tmp_path, "timed", METHODS, {"mnist": 0.97}, seeds=2, evaluations=6, lane="time")
    timed = drawn_from(tmp_path, "timed")
    assert {"accuracy_seconds", "cost"} < set(timed)
    assert "Seconds of training" in [name_of(ax) for ax in timed["performance_profile"].axes]
    check_texts(timed["accuracy_seconds"], "accuracy_seconds")
    # The same seconds in the accuracy lane, where runs shared the machine.
    (tmp_path / "shared").mkdir()
    runs = pd.read_csv(tmp_path / "timed" / "runs.csv", dtype=dict(run_key=str)).assign(lane="accuracy")
    runs.to_csv(tmp_path / "shared" / "runs.csv", index=False)
    (tmp_path / "shared" / "curves.csv").write_bytes((tmp_path / "timed" / "curves.csv").read_bytes())
    shared = drawn_from(tmp_path, "shared")
    assert "accuracy_updates" in shared
    assert not any("econds" in text for figure in shared.values() for text in texts(figure))


def test_the_gradient_norm_is_the_smallest_so_far(tmp_path):
    write_csvs(tmp_path, "g", {"SGD": METHODS["SGD"]}, {"mnist": 0.97}, seeds=2, evaluations=30, gradient_norm=True)
    figure = drawn_from(tmp_path, "g")["gradient_norm"]
    check_texts(figure, "gradient_norm")
    (ax,) = figure.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    drawn = ax.lines[0].get_ydata()
    assert (np.diff(drawn) <= 1e-12).all() and (np.diff(drawn) == 0).any()
    norms = pd.read_csv(tmp_path / "g" / "curves.csv").pivot(index="iteration", columns="seed", values="gradient_norm")
    assert (norms.diff().max() > 0).all(), "the norms themselves rise now and then"
    np.testing.assert_allclose(drawn[-1], np.sqrt(norms.min().prod()))
