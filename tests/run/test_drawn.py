"""What stands beside the CSVs: figures follow them, and what is torn, left over or of another profile does no harm."""

import os
import shutil

import pytest
from helpers import CSVS, METHODS, Place, at_version_2, cheap_figures, one_sentence, place_fixture  # noqa: F401

from reproduce.__main__ import main
from reproduce.evidence.files import read_text as files_read
from reproduce.show import figures

DRAW = figures.figures_of


@pytest.fixture
def done(place: Place) -> Place:
    """The tiny grid, run."""
    place.ran()
    return place


def files(place: Place, grid: str = "tiny") -> dict[str, bytes]:
    return {file: (place.csvs / grid / file).read_bytes() for file in CSVS}


def test_figures_follow_the_csvs_and_a_lost_note_draws_them_again(place, monkeypatch):
    place.run()
    drawn = []
    monkeypatch.setattr(
        "reproduce.show.figures.figures_of", lambda *args: drawn.append(args[1]) or cheap_figures(*args)
    )
    place.run()
    assert drawn == []
    place.run("tiny", "--seeds", "3")
    assert drawn == ["tiny"]
    for path in (place.drawn / "tiny").iterdir():
        path.unlink()
    place.run("tiny", "--seeds", "3")
    place.run("tiny", "--seeds", "3", "--figures", str(place.root / "elsewhere"))
    place.run("tiny", "--seeds", "3", "--figures", str(place.root / "elsewhere"))
    assert drawn == ["tiny"] * 3
    assert list((place.root / "elsewhere" / "smoke" / "tiny").glob("*.png"))


def test_figures_follow_the_title_and_the_numbers_to_be_met(place, monkeypatch):
    place.run()
    drawn = []
    monkeypatch.setattr(
        "reproduce.show.figures.figures_of", lambda *args: drawn.append(args[1]) or cheap_figures(*args)
    )
    place.write(title="Another title")
    place.run()
    numbers = "grid,label,at,theirs,theirs_sd\ntiny,SGD,1,0.5,\n"
    (place.csvs / "published").mkdir()
    (place.csvs / "published" / "comparison.csv").write_text(numbers, encoding="utf-8")
    place.run()
    place.run()
    assert drawn == ["tiny"] * 2


def test_the_real_figures_are_drawn_once_and_then_left(place, monkeypatch):
    monkeypatch.setattr("reproduce.show.figures.figures_of", DRAW)
    place.write(methods=METHODS[2:], epochs=2)
    place.run()
    names = {path.name for path in (place.drawn / "tiny").iterdir()}
    for kind in ("accuracy_epochs", "final_accuracy", "objective"):
        assert {f"{kind}.pdf", f"{kind}.png"} <= names
    before = place.snapshot()
    place.run()
    assert place.snapshot() == before


def test_a_part_of_a_grid_leaves_the_figures_and_results_elsewhere_have_figures_there(done, monkeypatch, capsys):
    monkeypatch.chdir(done.root)
    words = ["run", "tiny", "--grids", str(done.grids), "--profile", "smoke", "--device", "cpu", "--jobs", "1"]
    before = {path: path.stat().st_mtime_ns for path in done.figures.rglob("*")}
    assert before
    capsys.readouterr()
    for part in (["--methods", "sgd"], ["--seeds", "1"], ["--datasets", "digits"]):
        assert main([*words, *part]) == 0
        assert "figures/smoke/tiny/ stays as it is" in capsys.readouterr().out
    assert main([*words, "--methods", "sgd", "--results", "elsewhere"]) == 0
    assert list((done.root / "elsewhere" / "figures" / "smoke" / "tiny").glob("*.png"))
    assert {path: path.stat().st_mtime_ns for path in done.figures.rglob("*")} == before


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link to a file", "link to nothing"])
@pytest.mark.parametrize("file", CSVS[:2])
def test_what_is_no_file_in_the_place_of_a_csv_is_refused(done, kind, file, capsys):
    path = done.csvs / "tiny" / file
    path.rename(path.with_suffix(".kept"))
    {
        "folder": path.mkdir,
        "FIFO": lambda: os.mkfifo(path),
        "link to a file": lambda: path.symlink_to(path.with_suffix(".kept")),
        "link to nothing": lambda: path.symlink_to("nowhere"),
    }[kind]()
    capsys.readouterr()
    for words in (["collect", "tiny"], ["run", "tiny"]):
        assert done.do(*words) == 2
        assert one_sentence(capsys).startswith(f"{path} is ")
    assert main(["adopt", "--results", str(done.results)]) == 2
    assert f"{path} is " in one_sentence(capsys)


@pytest.mark.parametrize("note", [b"\xff\xfe", b"", b"FIFO"])
def test_a_corrupt_note_of_what_was_drawn_draws_again(place, note):
    place.run()
    (path,) = place.store.glob("*.drawn")
    before = path.read_bytes()
    path.unlink()
    os.mkfifo(path) if note == b"FIFO" else path.write_bytes(note)
    place.run()
    assert path.read_bytes() == before


def test_parts_that_a_kill_left_are_swept_wherever_a_file_is_written(done):
    left = [folder / ".a.csv.1.part" for folder in (done.store, done.csvs / "tiny", done.drawn / "tiny")]
    for path in left:
        path.write_text("", encoding="utf-8")
        os.utime(path, (0, 0))
    done.run()
    assert not any(path.exists() for path in left)


def test_rows_of_another_profile_stay(done):
    """As where an earlier layout put light's CSVs into the folder of paper's."""
    done.write(profile=dict(smoke=dict(epochs=3), paper=dict(epochs=2)))
    before = {row["run_key"]: row for row in done.rows()}
    assert done.do("run", "tiny") == 0
    now = {row["run_key"]: row for row in done.rows()}
    assert {row["run_key"]: row for row in done.rows("tiny/former")} == before
    assert len(now) == 6 and not before.keys() & now.keys()
    assert {row["epochs"] for row in now.values()} == {"3.0"}
    moved = done.csvs / "tiny"
    shutil.copytree(moved, done.results / "tiny")
    assert done.do("collect", "tiny", "--profile", "paper") == 0
    rows = files_read(done.results / "tiny" / "runs.csv").to_dict("records")
    assert [row["run_key"] for row in rows] == list(before)


def test_figures_tables_and_claims_take_every_profile_that_has_csvs(done, capsys):
    done.write(profile=dict(smoke=dict(epochs=2), light=dict(epochs=1)))
    done.run("tiny", "--profile", "light")
    capsys.readouterr()
    assert done.do("figures") == 0
    out = capsys.readouterr().out
    assert all(str(done.figures / profile / "tiny") in out for profile in ("smoke", "light"))
    assert done.do("tables", "--profile", "light") == 0
    out = capsys.readouterr().out
    assert str(done.results / "light" / "tiny" / "table.md") in out and "smoke" not in out
    assert main(["claims", "--results", str(done.results), "--grids", str(done.grids)]) == 0
    out = capsys.readouterr().out
    # The claims set light and paper side by side, in the results folder itself.
    assert all(f"{folder / 'claims.csv'}: " in out for folder in (done.results / "smoke", done.results))
    assert done.do("tables", "--profile", "paper") == 2
    assert f"no grid has CSVs in {done.results}" in one_sentence(capsys)


def test_a_grid_of_none_but_former_rows_has_nothing_to_show(done, monkeypatch, capsys):
    at_version_2(monkeypatch, "sgd", "adam", "mdlam")
    assert done.do("collect", "tiny") == 0
    assert not (done.csvs / "tiny" / "summary.csv").exists()
    monkeypatch.setattr(figures, "figures_of", DRAW)
    for command in ("figures", "tables"):
        capsys.readouterr()
        assert done.do(command) == 2
        assert "no grid has CSVs" in one_sentence(capsys)
    assert main(["prune", "--results", str(done.results)]) == 0
    assert "6 former rows removed" in capsys.readouterr().out
    assert not list((done.csvs / "tiny").rglob("*s.csv"))
