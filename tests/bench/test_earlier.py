"""Iterations here and in another checkout, in alternation."""

import shutil

import pandas as pd
import pytest
import torch
from helpers import ROOT

from am.errors import InputError
from reproduce.bench.earlier import earlier

QUICK = dict(methods=["tiam"], threads=[1], repetitions=2, edge=64)


def images(rows: int = 40):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, 9, generator=generator), torch.randint(10, (rows,), generator=generator)


def test_a_checkout_is_timed_beside_this_one(tmp_path):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "am", other / "am")
    table = pd.read_csv(earlier(other, *images(), "noise", tmp_path / "results", **QUICK))
    assert set(table.method) == {"tiam"} and (table.runs == 1).all() and (table.threads >= 1).all()
    assert (table[["before_seconds", "seconds", "ratio", "share", "limit_seconds"]] > 0).all(axis=None)
    assert (table.ratio_low <= table.ratio).all() and (table.ratio <= table.ratio_high).all()


def test_what_is_no_other_checkout_is_refused(tmp_path):
    for place in (tmp_path, ROOT):
        with pytest.raises(InputError, match="is no other checkout"):
            earlier(place, *images(), "noise", tmp_path / "results")


def test_a_checkout_that_fails_or_moves_nothing_says_so(tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(ROOT / "am", broken / "am")
    (broken / "am" / "networks.py").write_text("raise ImportError('no networks here')\n")
    with pytest.raises(InputError, match="no networks here"):
        earlier(broken, *images(), "noise", tmp_path / "results", **QUICK)
    still = tmp_path / "still"
    shutil.copytree(ROOT / "am", still / "am")
    run = still / "am" / "run.py"
    run.write_text(run.read_text().replace("self.method.step(self.state", "(lambda *_: None)(self.state"))
    with pytest.raises(InputError, match="moved nothing"):
        earlier(still, *images(), "noise", tmp_path / "results", **QUICK)
