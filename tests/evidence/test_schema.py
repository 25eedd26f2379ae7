"""The schema: its page, the CSVs that are committed, and what the one reader refuses."""

import csv
import math

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT

from am.errors import InputError
from am.methods import methods
from reproduce.evidence.column import KINDS
from reproduce.evidence.columns import COLUMNS
from reproduce.evidence.files import finite, malformed, read, read_text, write
from reproduce.evidence.schema import TABLES, by_unit, dataset_title, method_title, page

# Not the store, nor the trials of profile smoke, as `make quickstart` writes them: their claims have no effects.
COMMITTED = sorted(path for path in (ROOT / "results").rglob("*.csv") if not {".store", "smoke"} & set(path.parts))


def test_the_page_of_columns_is_the_schemas():
    assert (ROOT / "docs" / "columns.md").read_text(encoding="utf-8") == page(), "python -m reproduce columns"


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_committed_csv_has_the_tables_columns_in_their_order_and_kind(path):
    with open(path, encoding="utf-8", newline="") as file:
        found = next(csv.reader(file))
    names = TABLES[path.stem].names
    assert found == [name for name in names if name in found]
    assert all(COLUMNS[name].later for name in set(names) - set(found))
    assert len(read(path)) == len(read_text(path)) > 0


def test_columns_have_a_kind_and_a_meaning_and_a_table():
    used = {column for table in TABLES.values() for column in table.columns}
    assert {column.kind for column in used} <= set(KINDS) and all(column.meaning for column in used)
    assert set(COLUMNS) <= {column.name for column in used}
    assert by_unit("runs", "s") == ("seconds", "train_seconds", "evaluate_seconds", "record_seconds")


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "g" / "convergence.csv"
    path.parent.mkdir()
    frame = pd.DataFrame(
        dict(dataset=["mnist"], label=["NA"], seeds=[3], rate=[0.123456789], monotone_share=[math.inf])
    )
    assert write(path, frame) and not write(path, frame)
    pd.testing.assert_frame_equal(read(path), frame, check_dtype=False)
    assert np.isnan(finite(read(path))["monotone_share"].item())
    assert write(path, frame, digits=3) and read_text(path)["rate"].item() == "0.123"
    with pytest.raises(KeyError, match="convergence.csv has no column speed"):
        write(path, frame.assign(speed=1.0))


GOOD = "run_key,label,iteration,epoch,test_accuracy\nab12,SGD,0,0.0,0.1\nab12,SGD,5,1.0,0.9\n"


@pytest.mark.parametrize(
    "old, new, found",
    [
        ("iteration", "iterration", "no column 'iteration'"),
        ("0.9", "1.2", "'test_accuracy' 1.2 in line 3"),
        ("1.0,0.9", "one,0.9", "'epoch' one in line 3"),
        ("SGD,5", ",5", "an empty 'label' in line 3"),
        ("ab12,SGD,5,1.0,0.9", "ab12,SGD", "a row of 2 fields under 5 columns, in line 3"),
        (GOOD, "\n", "no columns in it"),
        (GOOD, GOOD[:-1], "its last line is torn"),
    ],
)
def test_what_is_no_value_of_its_kind_is_refused_with_the_place_and_the_command(tmp_path, old, new, found):
    path = tmp_path / "fair" / "curves.csv"
    path.parent.mkdir()
    path.write_text(GOOD, encoding="utf-8")
    needed = ("run_key", "label", "iteration", "epoch", "test_accuracy", "seconds")
    assert read(path, needed)["seconds"].isna().all(), "a later column is empty"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(path, needed)
    assert str(caught.value) == (
        f"{path} is malformed ({found}), and writing it anew would lose its rows; restore it, for example by `git "
        "checkout`, or move it away."
    )


def test_a_csv_that_is_not_there_or_not_a_grids_names_its_command(tmp_path):
    with pytest.raises(InputError, match=r"runs\.csv is not there; run `make reproduce-fair` to write it\."):
        read(tmp_path / "fair" / "runs.csv")
    assert "`make claims`" in str(malformed(tmp_path / "claims.csv", "x"))
    assert "`make bench`" in str(malformed(tmp_path / "bench" / "limit.csv", "x"))


def test_titles_are_those_of_the_library():
    assert dataset_title("fashion_mnist") == "Fashion-MNIST" and dataset_title("digits") == "Digits"
    assert dataset_title("mine") == "mine" == method_title("mine")
    assert method_title("sgd") == methods()["sgd"].title
