"""Activations, gains and costs."""

import numpy as np
import pandas as pd
import pytest
from figure_csvs import METHODS, arranged, check_texts, drawn_from, name_of, one_line, style_fixture, texts, write_csvs  # noqa: F401

from reproduce.evidence.about import Target
from reproduce.judge.compare import compare
from reproduce.show import figures
from reproduce.show.effects import activation_pages, cost_pages, gain_pages

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
    seeds = [
        rows[round(line.get_ydata()[0])] for line in ax.lines if line.get_marker() == "." and len(line.get_xdata()) == 5
    ]
    assert sorted(seeds) == sorted(expected), "every seed of every method beside SGD"
    assert "bar: 95 % bootstrap interval" in one_line(figure)


def test_costs_of_few_seeds_speak_of_no_bar(tmp_path):
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=2, evaluations=2, lane="time")
    (figure,) = cost_pages(arranged(tmp_path))
    assert "small dots: the seeds" in one_line(figure) and "interval" not in one_line(figure)


def test_without_sgd_there_is_nothing_to_compare_costs_with(tmp_path):
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=2, evaluations=2, lane="time")
    assert cost_pages(arranged(tmp_path, lambda runs: runs[runs.method != "sgd"])) == []


def test_seconds_are_shown_in_the_time_lane_alone(tmp_path):
    write_csvs(tmp_path, "timed", METHODS, {"mnist": 0.97}, seeds=2, evaluations=6, lane="time")
    timed = drawn_from(tmp_path, "timed", target=Target("SGD", 0.98))
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
