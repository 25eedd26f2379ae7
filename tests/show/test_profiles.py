"""Performance profiles."""

import numpy as np
from figure_csvs import (  # noqa: F401
    METHODS,
    arranged,
    check_texts,
    lines_of,
    name_of,
    one_line,
    ranked_fixture,
    style_fixture,
    texts,
    write_csvs,
)

from reproduce.run.grid import Target
from reproduce.show.panels import ONE_COLUMN
from reproduce.show.profiles import profile_pages

SGD = Target("SGD", 0.98)


def test_a_profile_has_misses_at_no_multiple_and_names_who_solved_nothing(ranked):
    (figure,) = profile_pages(arranged(ranked), timed=False, target=SGD)
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
    (figure,) = profile_pages(arranged(tmp_path), timed=False, target=SGD)
    assert lines_of(figure.axes[0])["Adam"].get_ydata()[-1] == 75


def test_methods_that_step_alike_share_a_panel(ranked):
    alike = lambda runs: runs[runs.label.isin(["SAMT row", "SGD", "Adam"])]
    (figure,) = profile_pages(arranged(ranked, alike), timed=False, target=SGD)
    assert len(figure.axes) == 1 and figure.get_figwidth() == ONE_COLUMN
    assert "and epochs, and gradient evaluations, 8 problems" in texts(figure)


def test_without_a_target_its_reference_or_enough_evaluations_there_is_no_profile(ranked, tmp_path):
    without = lambda runs: runs[runs.method != "sgd"]
    assert profile_pages(arranged(ranked, without), timed=False, target=SGD) == []
    assert profile_pages(arranged(ranked), timed=False, target=None) == []
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=2, evaluations=2)
    assert profile_pages(arranged(tmp_path), timed=False, target=SGD) == []


def test_the_target_is_the_grids(ranked):
    (figure,) = profile_pages(arranged(ranked), timed=False, target=Target("Once", 1.0))
    assert "reached 100 % of Once's median final one" in one_line(figure)
