"""Ranks of Demsar's worked example, and of methods that failed."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from frames import NAN, draws, make_runs

from am.errors import InputError
from reproduce.judge.ranks import block_ranks, critical_difference, rank_groups

# Demsar (JMLR 2006), table 6: AUC of C4.5 with tuned m and cf. "voting" differs in the digit that its ranks need.
DEMSAR = pd.DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
)  # fmt: skip


def test_ranks_of_the_worked_example():
    difference = rank_groups(DEMSAR)
    assert difference.ranks.round(3).to_dict() == {"C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143}
    assert difference.critical_difference == pytest.approx(1.25, abs=0.005)
    # The paper's 9.28 has no correction for ties: three pairs and one row of four.
    assert difference.statistic * (1 - (3 * 6 + 60) / (14 * 4 * 15)) == pytest.approx(9.28, abs=0.01)
    assert difference.p < 0.05 and difference.blocks == 14
    assert difference.groups == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]
    loose = rank_groups(DEMSAR, alpha=0.10)
    assert loose.critical_difference == pytest.approx(1.12, abs=0.005)
    assert loose.groups == [("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5")]


def test_failures_share_the_worst_rank():
    table = pd.DataFrame([[0.9, NAN, 0.5, NAN], [NAN] * 4], columns=list("abcd"))
    assert block_ranks(table).to_numpy().tolist() == [[1, 3.5, 2, 3.5], [2.5] * 4]


def test_ranks_where_nobody_finished_tell_nobody_apart():
    table = pd.DataFrame(np.full((4, 3), NAN), columns=list("abc"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difference = rank_groups(table)
    assert difference.p == 1 and list(difference.ranks) == [2, 2, 2] and difference.groups == [("a", "b", "c")]


def test_labels_that_all_differ_form_no_group():
    difference = rank_groups(pd.DataFrame({"a": [3.0] * 12, "b": [2.0] * 12, "c": [1.0] * 12}))
    assert difference.critical_difference == pytest.approx(2.343 * math.sqrt(12 / 72), abs=1e-3)
    assert difference.groups == [] and (difference.ranks == [1, 2, 3]).all()


def test_ranks_leave_incomplete_labels_out_and_say_so():
    sets = ["mnist", "svhn", "cifar10"]
    runs = make_runs({label: {d: draws(m) for d in sets} for label, m in [("A", 0.9), ("B", 0.8), ("C", 0.7)]})
    whole = critical_difference(runs)
    part = critical_difference(pd.concat([runs, make_runs({"D": {"mnist": draws(0.99)}})]))
    assert part.left_out == ("D",) and whole.left_out == () and part.ranks.equals(whole.ranks)
    with pytest.raises(InputError, match="three labels and two data sets"):
        critical_difference(runs[runs["label"] != "C"])
    with pytest.raises(InputError, match="there are 3 and 1"):
        critical_difference(runs[runs["dataset"] == "mnist"])
