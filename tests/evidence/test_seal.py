"""Seals: of what the checksum leaves out, each field of it; old and later columns change nothing."""

import pytest
from helpers import ROOT
from sealed import run_of

from reproduce.evidence.files import read_sheet
from reproduce.evidence.rows import checksum
from reproduce.evidence.schema import TABLES
from reproduce.evidence.seal import Columns, holds, seal, sealed

ROW, CURVE = run_of("TIAM", 0, lane="time")


def test_a_seal_is_sixteen_hex_digits_and_the_same_for_the_same():
    row = sealed(ROW, CURVE)
    assert len(row["seal"]) == 16 and int(row["seal"], 16) >= 0
    assert row == sealed(dict(reversed(ROW.items())), CURVE) and holds(row, CURVE)
    assert row["checksum"] == checksum(ROW, CURVE), "the checksum is what it was before there were seals"


@pytest.mark.parametrize("name", [name for name in TABLES["runs"].names if ROW.get(name)])
def test_no_column_of_a_row_changes_unseen(name):
    assert not holds(sealed(ROW, CURVE) | {name: "1"}, CURVE)


@pytest.mark.parametrize("name", ["seconds", "test_accuracy", "iteration", "objective"])
def test_no_number_of_a_curve_changes_unseen(name):
    row = sealed(ROW, CURVE)
    for i in (1, len(CURVE) - 1):
        assert not holds(row, [*CURVE[:i], CURVE[i] | {name: "0.5"}, *CURVE[i + 1 :]])
    assert not holds(row, CURVE[:-1])


def test_seconds_are_in_the_seal_alone():
    faster = [point | dict(seconds="0.001") for point in CURVE]
    assert checksum(ROW, faster) == checksum(ROW, CURVE)
    assert seal(ROW, faster) != seal(ROW, CURVE)


def test_empty_fields_do_not_count_so_that_a_later_column_leaves_old_seals_valid():
    row = sealed(ROW, CURVE)
    assert holds(row | dict(error="", diverged_at="", later="5"), [point | dict(gradient_norm="") for point in CURVE])
    assert not holds(row | dict(error="x"), CURVE)


def test_what_changes_by_right_is_not_sealed_and_a_row_from_before_seals_holds():
    trial = sealed(ROW | dict(trial="3", chosen="False"), [])
    assert holds(trial | dict(chosen="True"), []) and not holds(trial | dict(trial="4"), [])
    assert holds(ROW | dict(checksum=checksum(ROW, CURVE)), CURVE)


def test_both_hashes_of_a_whole_csv_are_those_of_each_row():
    """On committed rows: `rows.checksum` and `seal`, one by one, against the fast way."""
    folder = ROOT / "results" / "light" / "tiam_time"
    runs, curves = read_sheet(folder / "runs.csv"), read_sheet(folder / "curves.csv")
    columns = Columns(runs.names, curves.names)
    of = curves.names.index("run_key")
    for row in runs.rows[::7]:
        fields = dict(zip(runs.names, row))
        points = [point for point in curves.rows if point[of] == fields["run_key"]]
        texts = [dict(zip(curves.names, point)) for point in points]
        assert columns.checksum(row, points) == checksum(fields, texts) == fields["checksum"]
        assert columns.seal(row, points) == seal(fields, texts)
    strange = dict(zip(runs.names, runs.rows[0])) | dict(error='é "\\\t\x00\ud83d\ude00', status="failed")
    assert columns.checksum(list(strange.values()), []) == checksum(strange, [])
