"""Published numbers beside ours."""

import pandas as pd
import pytest
from frames import runs_of, write_runs

from reproduce.judge.published import comparison, write_comparison


def test_published_numbers_are_met_or_not_at_their_evaluation(tmp_path):
    assert write_comparison(tmp_path) is None
    runs = runs_of({"mDLAM (released)": [0.67, 0.69, 0.68]})
    write_runs(tmp_path / "published", runs)
    points = [dict(row, epoch=epoch, test_accuracy=row["test_accuracy"] + shift)
              for row in runs.to_dict("records") for epoch, shift in ((20, -0.01), (60, 0.2))]  # fmt: skip
    pd.DataFrame(points).to_csv(tmp_path / "published" / "curves.csv", index=False)
    table = comparison(tmp_path).set_index(["label", "at"])
    assert table.loc[("mDLAM (released)", 20), "ours"] == pytest.approx(0.67)
    assert table.loc[("mDLAM (released)", 20), "met"] == "yes"
    assert table.loc[("mDLAM (released)", 60), "met"] == "no"
    assert table.loc[("BCD", 50), "met"] == "not run"
    assert write_comparison(tmp_path).exists()
