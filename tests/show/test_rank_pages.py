"""Critical-difference diagrams."""

import numpy as np
import pandas as pd
from figure_csvs import (  # noqa: F401
    BEST,
    arranged,
    check_texts,
    one_line,
    ranked_fixture,
    style_fixture,
    texts,
    without_once,
    write_csvs,
)

from reproduce.show.panels import ONE_COLUMN, TWO_COLUMNS
from reproduce.show.ranks import rank_pages


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
    assert figure.get_figwidth() in (ONE_COLUMN, TWO_COLUMNS)
    (ax,) = figure.axes
    places = [line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "|")]
    assert sorted(places) == [1, 2, 3, 4, 5, 6]


def test_bars_join_what_nemenyi_does_not_tell_apart(ranked):
    (figure,) = rank_pages(arranged(ranked, without_once))
    bars = [line.get_xdata() for line in figure.axes[0].lines if line.get_linewidth() == 2.2]
    assert [np.round(bar).tolist() for bar in bars] == [[1, 4], [2, 5], [3, 6]]


def test_more_than_a_handful_of_methods_has_no_ranks_because_none_would_differ(ranked):
    seventh = lambda runs: pd.concat([runs, runs[runs.label == "Adam"].assign(label="Adam again")])
    assert rank_pages(arranged(ranked, lambda runs: seventh(without_once(runs)))) == []


def test_three_data_sets_or_two_methods_have_no_ranks(ranked):
    assert rank_pages(arranged(ranked, lambda runs: runs[runs.dataset != "svhn"])) == []
    assert rank_pages(arranged(ranked, lambda runs: runs[runs.label.isin(["TIAM", "GD"])])) == []
