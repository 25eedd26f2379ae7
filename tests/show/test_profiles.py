"""Performance profiles."""

from figure_csvs import (  # noqa: F401
    METHODS,
    arranged,
    check_texts,
    name_of,
    one_line,
    ranked_fixture,
    style_fixture,
    texts,
    write_csvs,
)

from reproduce.evidence.about import Target
from reproduce.show.panels import ONE_COLUMN
from reproduce.show.profiles import profile_pages

SGD = Target("SGD", 0.98)


def rows_of(ax) -> dict[str, float]:
    """Label -> the multiple within which half of the problems are solved; labels that never solve half have none."""
    names = [text.get_text() for text in ax.figure.axes[0].get_yticklabels()]
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_clip_on()]
    return {names[round(line.get_ydata()[0])]: line.get_xdata()[0] for line in marks}


def test_a_row_is_a_profile_read_at_its_quarters(ranked):
    (figure,) = profile_pages(arranged(ranked), timed=False, target=SGD)
    check_texts(figure, "performance_profile")
    assert [name_of(ax) for ax in figure.axes] == ["Parameter updates", "Epochs", "Gradients of a layer"]
    assert texts(figure).count("8 problems") == 3, "four data sets of two seeds"
    assert "reached 98 % of SGD's median final one" in one_line(figure)
    # Once takes three updates where the others take hundreds: it alone is the cheapest, everywhere.
    updates = rows_of(figure.axes[0])
    assert list(updates) == [text.get_text() for text in figure.axes[0].get_yticklabels()][: len(updates)]
    assert updates["Once"] == 1 < updates["Adam"] and set(updates) == {"TIAM", "SAMT row", "SGD", "Adam", "Once"}
    assert list(updates.values()) == sorted(updates.values())
    for ax in figure.axes:
        assert ax.get_xscale() == "log"
        missed = {text.get_text() for text in ax.texts} & {"0/8"}
        assert missed, "GD and Lost solve nothing, and have a row that says so"
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert set(names[-2:]) == {"GD", "Lost"}
    assert not any(text.get_text() for ax in figure.axes[1:] for text in ax.get_yticklabels()), "names stand once"


def test_a_diverged_run_solves_nothing(tmp_path):
    lost = {("mnist", "Adam"): {0: 5, 1: 5}}
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=4, evaluations=6, diverged=lost)
    (figure,) = profile_pages(arranged(tmp_path), timed=False, target=SGD)
    check_texts(figure, "performance_profile")
    ax = figure.axes[0]
    assert "2/4" in {text.get_text() for text in ax.texts}
    row = [text.get_text() for text in ax.get_yticklabels()].index("Adam")
    arrows = [line.get_ydata()[0] for line in ax.lines if not line.get_clip_on()]
    assert row in arrows, "three quarters are never solved"


def test_methods_that_step_alike_share_a_panel(ranked):
    three = lambda runs: runs[runs.label.isin(["SAMT row", "SGD", "Adam"])]
    (figure,) = profile_pages(arranged(ranked, three), timed=False, target=SGD)
    assert [name_of(ax) for ax in figure.axes] == ["Parameter updates", "Gradients of a layer"], "SAMT takes its own"
    alike = lambda runs: three(runs).assign(method="sgd")
    (figure,) = profile_pages(arranged(ranked, alike), timed=False, target=SGD)
    assert len(figure.axes) == 1 and figure.get_figwidth() == ONE_COLUMN
    check_texts(figure, "performance_profile")
    assert "and epochs, and gradients of a layer, 8 problems" in texts(figure)


def test_without_a_target_its_reference_or_enough_evaluations_there_is_no_profile(ranked, tmp_path):
    without = lambda runs: runs[runs.method != "sgd"]
    assert profile_pages(arranged(ranked, without), timed=False, target=SGD) == []
    assert profile_pages(arranged(ranked), timed=False, target=None) == []
    write_csvs(tmp_path, "g", METHODS, {"mnist": 0.97}, seeds=2, evaluations=2)
    assert profile_pages(arranged(tmp_path), timed=False, target=SGD) == []


def test_the_target_is_the_grids(ranked):
    (figure,) = profile_pages(arranged(ranked), timed=False, target=Target("Once", 1.0))
    assert "reached 100 % of Once's median final one" in one_line(figure)
