"""Settings that are on or off in every combination, from made-up CSVs."""

import itertools

import numpy as np
import pytest
from figure_csvs import arranged, check_texts, drawn_from, name_of, one_line, style_fixture, texts, write_csvs  # noqa: F401

from reproduce.show import figures
from reproduce.show.factors import designs_of, effect_pages, effects_of, interaction_pages

KEYS = ("p1", "p2", "p3")
GAIN = dict(p1=0.10, p2=0.04, p3=0.02)  # of the final accuracy's factor, each whatever the others are


def cube(rule: str) -> dict[str, dict]:
    """label -> settings of the eight combinations under a step rule."""
    points = itertools.product((0.0, 0.9), (0.0, 0.9), (0.0, 0.5))
    return {f"TIAM {p}, {rule}": dict(zip(KEYS, p), rho=0.001, step_rule=rule) for p in points}


@pytest.fixture(name="inertia", scope="module")
def inertia_fixture(tmp_path_factory):
    """Two cubes of TIAM on two data sets; a run of the second diverged."""
    results = tmp_path_factory.mktemp("inertia")
    settings = cube("backtracking") | cube("lipschitz")
    factors = {label: 0.7 + sum(GAIN[key] for key in KEYS if s[key]) for label, s in settings.items()}
    labels = {label: ("tiam", 1, 6, factor, 9.0, True) for label, factor in factors.items()}
    lost = {("svhn", "TIAM (0.0, 0.0, 0.0), lipschitz"): {0: 0}}
    best = dict(mnist=1.0, svhn=0.8)
    write_csvs(results, "g", labels, best, seeds=3, evaluations=2, hyperparameters=settings, diverged=lost)
    return results


def test_contributions_are_paired_differences_alone_on_average_and_last(inertia):
    panel = arranged(inertia).panels[0]
    designs = designs_of(panel)
    assert [design.name for design in designs] == ["TIAM, backtracking", "TIAM, lipschitz"], "as the labels have it"
    table = effects_of(designs[0]).set_index("name")
    assert list(table.index) == [f"{key} {how}" for key in KEYS for how in ("alone", "on average", "last")] + [
        "all together"
    ]
    accuracy = figures._read_runs(inertia, "g").query("dataset == 'mnist'").set_index(["label", "seed"]).test_accuracy
    at = lambda *p: np.array([accuracy[f"TIAM {p}, backtracking", seed] for seed in range(3)])
    assert table["mean"]["p2 alone"] == pytest.approx(100 * (at(0.0, 0.9, 0.0) - at(0.0, 0.0, 0.0)).mean())
    assert table["mean"]["p3 last"] == pytest.approx(100 * (at(0.9, 0.9, 0.5) - at(0.9, 0.9, 0.0)).mean())
    pairs = [at(0.9, b, c) - at(0.0, b, c) for b in (0.0, 0.9) for c in (0.0, 0.5)]
    assert table["mean"]["p1 on average"] == pytest.approx(100 * np.mean(pairs))
    assert table["mean"]["all together"] == pytest.approx(100 * (at(0.9, 0.9, 0.5) - at(0.0, 0.0, 0.0)).mean())
    assert table["mean"]["p1 on average"] == pytest.approx(10, abs=1), "what was put in"
    assert (table.low < table["mean"]).all() and (table["mean"] < table.high).all()


def test_a_diverged_run_counts_as_chance_level(inertia):
    design = designs_of(arranged(inertia).panels[1])[1]
    assert design.accuracy[(False, False, False)].loc[0] == 0.1


def test_the_effects_have_a_row_each_and_the_second_design_is_hollow(inertia):
    (figure,) = effect_pages(arranged(inertia))
    check_texts(figure, "effects")
    for ax in figure.axes:
        assert [t.get_text() for t in ax.get_yticklabels()][-2:] == ["p3 last", "all together"]
        marks = [line for line in ax.lines if line.get_marker() not in ("None", None)]
        assert len(marks) == 20 and sum(line.get_markerfacecolor() == "white" for line in marks) == 10
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim(), "data sets compare"
    table = effects_of(designs_of(arranged(inertia).panels[0])[0])
    drawn = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "s"]
    np.testing.assert_allclose(drawn, table["mean"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "TIAM, backtracking",
        "TIAM, lipschitz",
    ]


def test_a_heading_has_the_seeds_of_its_own_differences(inertia):
    """A design's seeds are those of all its corners, whatever the other design and the other data set have."""
    few = lambda runs: runs[(runs.seed == 0) | ~runs.label.str.endswith("lipschitz") | (runs.dataset != "mnist")]
    mnist, svhn = effect_pages(arranged(inertia, few))[0].axes
    words = lambda ax: {text.get_text() for text in ax.texts}
    assert {"3 seeds (TIAM, backtracking), 1 seed (TIAM, lipschitz)", "n = 10,000"} <= words(mnist)
    assert "n = 10,000, 3 seeds" in words(svhn)
    check_texts(effect_pages(arranged(inertia, few))[0], "effects")
    cubes = interaction_pages(arranged(inertia, few))[0].axes
    assert ["n = 10,000, 1 seed" in words(ax) for ax in cubes] == [False, True, False, False]


def test_the_cube_is_two_halves_of_two_lines(inertia):
    (figure,) = interaction_pages(arranged(inertia))
    check_texts(figure, "interaction")
    assert [name_of(ax) for ax in figure.axes] == ["MNIST", "MNIST", "SVHN", "SVHN"]
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["p1 off", "p1 on"] * 2
    assert {"p3 off", "p3 on"} <= {text.get_text() for text in ax.texts}
    accuracy = figures._read_runs(inertia, "g").query("dataset == 'mnist'").groupby("label").test_accuracy.mean()
    lines = [container.lines[0] for container in ax.containers]
    means = [
        [accuracy[f"TIAM {(p1, p2, p3)}, backtracking"] for p1 in (0.0, 0.9)] for p3 in (0.0, 0.5) for p2 in (0.0, 0.9)
    ]
    np.testing.assert_allclose([line.get_ydata() for line in lines], means)
    assert ax.get_ylim() == figure.axes[1].get_ylim(), "designs compare within a data set"


def test_the_curves_of_a_factorial_have_its_designs_apart(inertia):
    drawn = drawn_from(inertia, "g")
    assert {"effects", "interaction", "accuracy_epochs"} <= set(drawn)
    assert len(drawn["accuracy_epochs"].axes) == 4, "two data sets, and sixteen labels in two groups"
    assert "Full-batch AM, 1 of 2" in texts(drawn["accuracy_epochs"])


@pytest.mark.parametrize("gone", ["TIAM (0.9, 0.0, 0.5), backtracking", "TIAM (0.0, 0.0, 0.0), backtracking"])
def test_a_cube_that_lacks_a_corner_has_no_effects(inertia, gone):
    kept = arranged(inertia, lambda runs: runs[(runs.label != gone) & ~runs.label.str.endswith("lipschitz")])
    assert effect_pages(kept) == [] == interaction_pages(kept)


def test_one_number_or_three_values_are_no_factorial(tmp_path):
    settings = {f"TIAM {p1} {p2}": dict(p1=p1, p2=p2) for p1 in (0.0, 0.5, 0.9) for p2 in (0.0, 0.9)}
    labels = dict.fromkeys(settings, ("tiam", 1, 6, 0.9, 9.0, True))
    write_csvs(tmp_path, "g", labels, {"mnist": 1.0}, seeds=2, evaluations=1, hyperparameters=settings)
    assert effect_pages(arranged(tmp_path)) == []
    assert effect_pages(arranged(tmp_path, lambda runs: runs[runs.label.isin(["TIAM 0.0 0.0", "TIAM 0.0 0.9"])])) == []


def test_one_seed_has_no_interval_and_says_nothing_false(tmp_path):
    settings = cube("backtracking")
    labels = dict.fromkeys(settings, ("tiam", 1, 6, 0.9, 9.0, True))
    write_csvs(tmp_path, "g", labels, {"mnist": 1.0}, seeds=1, evaluations=1, hyperparameters=settings)
    (figure,) = effect_pages(arranged(tmp_path))
    table = effects_of(designs_of(arranged(tmp_path).panels[0])[0])
    assert table.low.isna().all() and not figure.legends
    assert "Paired differences within a seed" in one_line(figure)
