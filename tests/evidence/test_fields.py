"""What a row cannot say, a sentence each; what committed rows say can be."""

import pytest
from helpers import ROOT
from sealed import run_of

from reproduce.evidence.fields import problems
from reproduce.evidence.files import read_text

ROW, CURVE = run_of("TIAM", 0, lane="time")
WITHOUT = lambda name: [{key: value for key, value in point.items() if key != name} for point in CURVE]


def test_what_a_run_gives_can_be():
    assert problems(ROW, CURVE) is None
    assert (
        problems(ROW | dict(status="diverged", diverged_at="3", test_accuracy="", objective="inf"), CURVE[:2]) is None
    )
    assert problems(ROW | dict(status="failed", error="=1\n2"), []) is None


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(test_accuracy="7.5"), "has 'test_accuracy' 7.5, which is no number in [0, 1]"),
        (dict(test_accuracy="nan"), "has 'test_accuracy' nan, which is no number in [0, 1]"),
        (dict(train_seconds="abc"), "has 'train_seconds' abc, which is no number"),
        (dict(train_seconds="-1"), "has 'train_seconds' -1, which is no number"),
        (dict(objective="1_0"), "has 'objective' 1_0, which is no number"),
        (dict(iterations="-5"), "has 'iterations' -5, which is no integer of at least 0"),
        (dict(flops="1e9"), "has 'flops' 1e9, which is no integer of at least 0"),
        (dict(seed="٣"), "has 'seed' ٣, which is no integer of at least 0"),
        (dict(data_official="maybe"), "has 'data_official' maybe, which is no True or False"),
        (dict(label="a\x00b"), "has 'label' a\\x00b, which is no text"),
        (dict(label=" "), "has a 'label' that begins or ends with a blank"),
        (dict(label=""), "has no 'label'"),
        (dict(status="nearly"), "has 'status' nearly, which is none of done, diverged, failed"),
        (dict(hyperparameters="[" * 900 + "]" * 900), "which are no settings as JSON"),
        (dict(hyperparameters='{"a": ' * 900 + "1" + "}" * 900), "which are no settings as JSON"),
        (dict(hyperparameters="[" * 100_000), "which are no settings as JSON"),
        (dict(hyperparameters="3"), "has 'hyperparameters' 3, which are no settings as JSON"),
    ],
)
def test_a_row_that_cannot_be_is_said_why(change, said):
    sentence = problems(ROW | change, CURVE)
    assert said in sentence and len(sentence) < 200 and "\n" not in sentence


@pytest.mark.parametrize(
    "curve, said",
    [
        ([], "is done and has no curve"),
        (WITHOUT("val_accuracy"), "has a curve whose point 1 has no 'val_accuracy'"),
        ([*CURVE[:2], CURVE[2] | dict(test_accuracy="7.5")], "point 3 has 'test_accuracy' 7.5, which is no number in"),
        ([CURVE[0], CURVE[0]], "has a curve whose point 2 has 'iteration' 0 after 0"),
        ([CURVE[0] | dict(iteration="-5")], "point 1 has 'iteration' -5, which is no integer of at least 0"),
    ],
)
def test_a_curve_that_cannot_be_is_said_why(curve, said):
    assert said in problems(ROW, curve)


@pytest.mark.parametrize("grid", ["floors", "light/tiam_time", "samt_cost"])
def test_committed_rows_can_be(grid):
    folder = ROOT / "results" / grid
    curves = {}
    for point in read_text(folder / "curves.csv").to_dict("records"):
        curves.setdefault((point["run_key"], point["label"]), []).append(point)
    for row in read_text(folder / "runs.csv").to_dict("records"):
        assert problems(row, curves[row["run_key"], row["label"]]) is None
    if (folder / "tuning.csv").exists():
        assert not any(problems(row, []) for row in read_text(folder / "tuning.csv").to_dict("records"))
