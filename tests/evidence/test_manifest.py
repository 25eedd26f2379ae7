"""The manifest: it knows which rows there are; a kill at any moment leaves no CSV that it does not know."""

import json

import pytest
from sealed import GRID, grid_of, put, table, trials_of

from am.errors import InputError
from reproduce.evidence import manifest
from reproduce.evidence.files import read_sheet
from reproduce.evidence.manifest import NAME, forget, problems, read_manifest, state_of, write_evidence


@pytest.fixture
def folder(tmp_path):
    grid_of(tmp_path / GRID)
    trials_of(tmp_path / GRID)
    return tmp_path / GRID


def test_it_has_the_state_of_each_csv_and_finds_nothing_in_what_was_collected(folder):
    states = read_manifest(folder)
    assert list(states) == ["runs", "curves", "tuning"]
    for name, (state,) in states.items():
        assert state == state_of(read_sheet(folder / f"{name}.csv"))
        assert state.sealed == (0 if name == "curves" else state.rows)
    assert problems(folder) == []
    content = (folder / NAME).read_bytes()
    for name in states:
        assert not write_evidence(folder / f"{name}.csv", table(folder / f"{name}.csv"))
    assert (folder / NAME).read_bytes() == content


@pytest.mark.parametrize("name", ["runs", "curves", "tuning"])
@pytest.mark.parametrize(
    "change, said",
    [
        (lambda rows: rows[:-2], "2 of the {} rows that manifest.json knows are missing; restore them"),
        (lambda rows: [*rows[1:3], rows[0], *rows[3:]], "do not stand in the order in which they were collected"),
        (lambda rows: [*rows[:-1], rows[-1] | dict(run_key="x")], "its rows are not those that were collected"),
        (lambda rows: [*rows, rows[0]], "its rows are not those that were collected"),
    ],
    ids=["missing", "order", "other", "more"],
)
def test_rows_that_are_missing_moved_or_more_are_told(folder, name, change, said):
    rows = table(folder / f"{name}.csv")
    put(folder / f"{name}.csv", change(rows))
    (sentence,) = problems(folder)
    assert sentence.startswith(f"{folder / name}.csv: ") and said.format(len(rows)) in sentence
    assert "delete" not in sentence


def test_a_csv_that_is_gone_is_told_and_one_that_collect_removes_is_not(folder):
    (folder / "tuning.csv").rename(folder / "kept.csv")
    (sentence,) = problems(folder)
    assert f"{folder / 'tuning.csv'} is not there, and manifest.json has 6 rows of it" in sentence
    forget(folder / "tuning.csv")
    assert problems(folder) == [] and list(read_manifest(folder)) == ["runs", "curves"]
    for name in ("runs", "curves"):
        forget(folder / f"{name}.csv")
    assert not (folder / NAME).exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("writes", range(1, 6))
def test_a_kill_at_any_moment_leaves_csvs_that_the_manifest_knows_and_the_next_collect_repairs(
    folder, writes, monkeypatch
):
    """writes: after how many writes of a file, of CSVs and manifests, the process dies."""
    rows, points = table(folder / "runs.csv"), table(folder / "curves.csv")
    further = [rows[0] | dict(seed="9", run_key="further")]
    new = dict(runs=[*rows, *further], curves=[*points, points[0] | dict(run_key="further")])
    left = iter(range(writes))
    real = manifest.write_whole

    def write_whole(path, content, *more):
        if next(left, None) is None:
            raise Killed
        real(path, content, *more)

    for module in ("manifest", "files"):
        monkeypatch.setattr(f"reproduce.evidence.{module}.write_whole", write_whole)
    with pytest.raises(Killed):
        for name, some in new.items():
            write_evidence(folder / f"{name}.csv", some)
    monkeypatch.undo()
    assert problems(folder) == []
    for name, some in new.items():
        write_evidence(folder / f"{name}.csv", some)
    assert [len(states) for states in read_manifest(folder).values()] == [1, 1, 1]
    assert problems(folder) == [] and read_manifest(folder)["runs"][0].rows == len(rows) + 1


def test_after_a_kill_rows_that_are_missing_in_both_states_are_told(folder):
    """Two states are known, and a CSV that has fewer rows than either has lost some."""
    states = json.loads((folder / NAME).read_text(encoding="utf-8"))
    states["runs"].append(states["runs"][0] | dict(rows=99, ordered="", any_order=""))
    (folder / NAME).write_text(json.dumps(states), encoding="utf-8")
    assert problems(folder) == []
    put(folder / "runs.csv", table(folder / "runs.csv")[:-1])
    assert "1 of the" in problems(folder)[0]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"runs": 3}', '{"runs": [{"rows": 1}]}', "[" * 10_000, "\x00"]
)
def test_what_is_no_manifest_is_a_sentence_and_is_written_anew(folder, content):
    (folder / NAME).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json is malformed .*restore it, for example by `git checkout`"):
        read_manifest(folder)
    assert len(problems(folder)) == 1
    write_evidence(folder / "runs.csv", table(folder / "runs.csv"))
    assert problems(folder) == []


def test_a_grid_from_before_manifests_has_none_and_gets_one(folder):
    (folder / NAME).unlink()
    assert read_manifest(folder) is None and problems(folder) == []
    write_evidence(folder / "runs.csv", table(folder / "runs.csv"))
    assert list(read_manifest(folder)) == ["runs"]
