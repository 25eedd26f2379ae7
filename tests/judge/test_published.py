"""Published numbers beside ours."""

import pandas as pd
import pytest
from frames import runs_of, write_runs

from reproduce.judge.published import comparison, write_comparisons


def test_published_numbers_are_met_or_not_at_their_evaluation(tmp_path):
    assert write_comparisons(tmp_path) == []
    runs = runs_of({"mDLAM (released)": [0.67, 0.69, 0.68]}).assign(n_train=10_000)
    write_runs(tmp_path / "published", runs)
    points = [dict(row, epoch=epoch, iteration=epoch, test_accuracy=row["test_accuracy"] + shift)
              for row in runs.to_dict("records") for epoch, shift in ((20, -0.01), (60, 0.2))]  # fmt: skip
    pd.DataFrame(points).to_csv(tmp_path / "published" / "curves.csv", index=False)
    table = comparison(tmp_path, "released").set_index(["label", "at"])
    assert table.loc[("mDLAM (released)", 20), "ours"] == pytest.approx(0.67)
    assert table.loc[("mDLAM (released)", 20), "met"] == "yes"
    assert table.loc[("mDLAM (released)", 60), "met"] == "no"
    lost = pd.concat([runs, runs.tail(1).assign(seed=9, run_key="lost", status="diverged")])
    lost.to_csv(tmp_path / "published" / "runs.csv", index=False)
    assert set(comparison(tmp_path, "released")["met"]) == {"no", "not run"}, "a lost run does not leave the mean alone"
    runs.assign(n_train=5_000).to_csv(tmp_path / "published" / "runs.csv", index=False)
    assert set(comparison(tmp_path, "released")["met"]) == {"fewer images", "not run"}, "half of theirs says nothing"
    (path,) = write_comparisons(tmp_path)
    assert path.name == "released_code.csv" and "released code" in path.with_suffix(".md").read_text(encoding="utf-8")


def test_only_what_an_author_printed_is_published(tmp_path):
    runs = runs_of({"BCD": [0.945, 0.946, 0.947]}).assign(epoch=50, n_train=55_000)
    write_runs(tmp_path / "published_bcd", runs)
    runs.to_csv(tmp_path / "published_bcd" / "curves.csv", index=False)
    (path,) = write_comparisons(tmp_path)
    table = comparison(tmp_path)
    assert path.name == "comparison.csv" and set(table["label"]) == {"BCD"}
    assert table["source"].str.contains("notebook").all() and not table["source"].str.startswith("released code").any()
    assert list(table["met"]) == ["yes", "not run", "yes"] and table["seeds"].max() == 3
    assert "No number of the SAMT and TIAM papers could be read" in path.with_suffix(".md").read_text(encoding="utf-8")
