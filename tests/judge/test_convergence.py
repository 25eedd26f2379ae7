"""Fitted laws of known sequences."""

import math

import numpy as np
import pandas as pd
import pytest
from frames import make_runs, shuffled
from scipy import stats

from am.errors import InputError
from reproduce.judge.convergence import convergence, levels


def test_convergence_of_known_sequences():
    runs = make_runs({"A": {"mnist": [0.9] * 3}})
    k = np.arange(1, 31)
    geometric, power, constant = 7 + 3 * 0.8**k, 2.0 * k**-0.5, np.ones(30)
    curves = pd.concat(
        [
            pd.DataFrame(dict(run_key=f"A/mnist/{i}", iteration=k, objective=v))
            for i, v in enumerate((geometric, power, constant))
        ]
    )
    table = convergence(runs, shuffled(curves))
    assert table["rate"].iloc[0] == pytest.approx(0.8) and table["r_squared"].iloc[0] == pytest.approx(1)
    assert list(table["monotone_share"]) == [1, 1, 1] and math.isnan(table["rate"].iloc[2])
    assert table["r_squared"].iloc[1] < 0.95  # k^-1/2 is no geometric sequence
    sublinear = convergence(runs, curves, law="sublinear")
    # Decreases of 2 k^-1/2 go as k^-3/2; a power of k fits them, and the geometric ones it does not.
    assert sublinear["rate"].iloc[1] == pytest.approx(1.5, abs=0.05) and sublinear["r_squared"].iloc[1] > 0.999
    assert sublinear["r_squared"].iloc[0] < 0.95
    assert convergence(runs, curves, law="power")["rate"].iloc[1] == pytest.approx(0.5)
    # The power law is one of the smallest value so far: a last value that is large does not matter to it.
    rising = pd.DataFrame(dict(run_key="A/mnist/0", iteration=k, objective=[*power[:29], 1e9]))
    assert convergence(runs, rising, law="power")["rate"].iloc[0] == pytest.approx(0.5, abs=0.01)
    # Evaluations five iterations apart give the same factor per iteration, and so, nearly, do uneven ones.
    sparse = curves[curves["iteration"] % 5 == 0]
    assert convergence(runs, sparse)["rate"].iloc[0] == pytest.approx(0.8)
    uneven = pd.DataFrame(dict(run_key="A/mnist/0", iteration=k, objective=0.99**k)).iloc[[0, 1, 2, 3, 4, 19, 24, 29]]
    assert convergence(runs, uneven)["rate"].iloc[0] == pytest.approx(0.99, abs=0.005)


def test_convergence_sees_a_rise_and_starts_after_the_transient():
    runs = make_runs({"A": {"mnist": [0.9, 0.9]}})
    v = [1.0, 9.0, 5.0, 4.0, 4.0 * (1 + 1e-8), 2.0]
    curves = pd.DataFrame(dict(run_key="A/mnist/0", iteration=range(1, 7), objective=v))
    assert convergence(runs, curves)["monotone_share"].iloc[0] == 0  # all that follow stand above the first
    assert convergence(runs, curves, since=2)["monotone_share"].iloc[0] == 1  # a rise of rounding size is none
    assert convergence(runs, curves)[["monotone_share", "rate"]].iloc[1].isna().all()
    assert convergence(runs, curves.iloc[:0])["rate"].isna().all()
    with pytest.raises(InputError, match="did you mean 'linear'"):
        convergence(runs, curves, law="lineal")


def test_a_norm_that_never_goes_below_its_start_has_not_fallen():
    runs = make_runs({"A": {"mnist": [0.9] * 2}})
    k = np.arange(0, 31)
    norm = np.where(k == 0, 1.0, 5 * np.maximum(k, 1) ** -0.4)  # falls from 5 to 1.28, above the 1 of the start
    low = np.where(k == 0, 10.0, norm)
    curves = [pd.DataFrame(dict(run_key=f"A/mnist/{i}", iteration=k, objective=v)) for i, v in enumerate((norm, low))]
    rate = convergence(runs, pd.concat(curves), law="power")["rate"]
    assert rate.iloc[0] == 0 and rate.iloc[1] == pytest.approx(0.4)


def test_levels_of_a_worked_example():
    runs = make_runs({"A": {"mnist": [0.9, 0.8, "diverged"]}}).rename(columns={"test_accuracy": "share"})
    row = levels(runs, "share", unfinished=0.0).iloc[0]
    half = stats.t.ppf(0.975, 2) * stats.sem([0.9, 0.8, 0.0])
    assert row["effect"] == pytest.approx(1.7 / 3) and row["ci_low"] == pytest.approx(1.7 / 3 - half)
    assert row["scale"] == "level" and row["n"] == 3 and row["a_done"] == 2
