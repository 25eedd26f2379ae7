"""Words, places and data files that a command refuses: one sentence, at once, and nothing is lost or deleted."""

import csv
import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import METHODS, one_sentence, place_fixture  # noqa: F401

from am.errors import InputError
from reproduce.__main__ import main
from reproduce.evidence.files import read_text, write, write_whole
from reproduce.run.copies import check_copies

WORDS = {
    "abbreviation": (["run", "tiny", "--seed", "3"], "unrecognized arguments: --seed 3; did you mean '--seeds'?"),
    "abbreviated value": (["run", "tiny", "--seed=3"], "unrecognized arguments: --seed=3; did you mean '--seeds'?"),
    "far option": (["claims", "--zzz"], "unrecognized arguments: --zzz; see `python -m reproduce claims --help`."),
    "many seeds": (["run", "tiny", "--seeds", "100000000"], "argument --seeds: must be at most 10,000, not 100000000"),
    "long number": (["run", "tiny", "--seeds", "9" * 5000], "argument --seeds: must be at most 10,000, not 999"),
    "many jobs": (["run", "tiny", "--jobs", "100000"], "argument --jobs: must be at most 1,000, not 100000"),
    "foreign digits": (["run", "tiny", "--seeds", "٣"], "must be a whole number of at least 1, not '٣'"),
    "newline": (["run", "ti\nny"], "the word 'ti\\nny' of the command has what cannot be printed"),
    "bytes": (["run", "ti\udcffny"], "of the command has what cannot be printed"),
}


@pytest.mark.parametrize("word", WORDS)
def test_a_bad_word_gets_one_sentence(place, word, capsys):
    words, expected = WORDS[word]
    assert main(words) == 2
    assert expected in one_sentence(capsys)


def test_clean_deletes_a_store_and_nothing_else(place, capsys):
    keep = place.root / "photos"
    keep.mkdir()
    (keep / "one.txt").write_text("one", encoding="utf-8")
    for folder in (keep, place.root / "nowhere"):
        assert main(["clean", "--results", str(folder)]) == 2
        assert "is no results folder, with no .store and no CSVs" in one_sentence(capsys)
    place.results.mkdir()
    place.store.symlink_to(keep)
    assert main(["clean", "--results", str(place.results)]) == 2
    assert f"{place.store} is no folder of finished runs" in one_sentence(capsys)
    assert (keep / "one.txt").read_text(encoding="utf-8") == "one" and place.store.is_symlink()
    place.store.unlink()
    place.store.write_text("a file", encoding="utf-8")
    assert main(["clean", "--results", str(place.results)]) == 2
    assert place.store.read_text(encoding="utf-8") == "a file"
    place.store.unlink()
    (place.results / "tiny").mkdir()
    (place.results / "tiny" / "runs.csv").write_text("", encoding="utf-8")
    capsys.readouterr()
    assert main(["clean", "--results", str(place.results)]) == 0
    assert "nothing to delete" in capsys.readouterr().out


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Within it the folder and what is below can be read and not written, whoever runs the tests."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root writes whatever the mode says
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def shared(place) -> Iterator[Path]:
    """The results of the tiny grid where every user can read them."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    place.run("tiny", "--results", str(folder / "results"), "--figures", str(folder / "figures"))
    (folder / "page.md").write_text("<!-- table: tiny -->\n<!-- end -->\n", encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("command", ["claims", "report", "tables", "figures", "run", "collect"])
def test_a_place_that_is_read_only_gets_one_sentence(place, shared, command, capsys):
    results, figures = shared / "results", shared / "figures"
    shutil.rmtree(figures)  # so that there is something to write
    for path in (*results.rglob("table.*"), *results.rglob("claims.*"), *results.rglob("runs.csv")):
        if path.name != "runs.csv" or command == "collect":
            path.unlink()
    words = place.words(command, *(() if command in ("claims", "report") else ("tiny",)), "--results", str(results))
    words = [command, *words[words.index("--results", 4) :]] if command in ("claims", "report") else words
    words += ["--figures", str(figures)] if command in ("figures", "run", "collect", "plan", "report") else []
    os.chdir(shared)
    place.grids.parent.chmod(0o755)
    words = [str(shared / "grids") if word == str(place.grids) else word for word in words]
    shutil.copytree(place.grids, shared / "grids")
    capsys.readouterr()
    with read_only(shared):
        assert main(words) == 2
    assert str(shared) in (said := one_sentence(capsys)) and ("cannot be" in said)


def test_a_page_that_cannot_be_filled_gets_one_sentence(place, capsys):
    place.ran()
    folder, pipe, image = place.root / "folder", place.root / "pipe", place.root / "page.md"
    folder.mkdir()
    os.mkfifo(pipe)
    image.write_bytes(b"\xff\xfe\xfa")
    said = {
        folder: "is no file",
        pipe: "is no file",
        image: "is no text in UTF-8",
        folder / "none.md": "cannot be read",
    }
    for page, expected in said.items():
        capsys.readouterr()
        assert place.do("tables", "tiny", "--page", str(page)) == 2
        message = one_sentence(capsys)
        assert message.startswith(f"{page} ") and expected in message and message.endswith("with --page.")
    capsys.readouterr()
    places = ["--results", str(place.results), "--figures", "nowhere"]
    assert main(["report", *places, "--out", str(folder)]) == 2
    assert one_sentence(capsys).startswith(f"{folder} cannot be written")


def test_nothing_but_a_file_is_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="it is no regular file"):
        write_whole(pipe, "text")
    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "file" / "below.csv", "text")


FORMULAS = ("=1+1", "+SAM", "-SAM", "@SUM(A1)", "\tSAM", "=cmd|' /C calc'!A0")


@pytest.mark.parametrize("word", FORMULAS)
def test_no_text_of_a_csv_begins_as_a_formula_does(tmp_path, word):
    """Those that have been guarded before, too; numbers are what they are, and what is read is what was written."""
    path = tmp_path / "runs.csv"
    rows = [
        dict(label=before + word, objective="-0.5", hyperparameters='{"a": "=1"}') for before in ("", "'", "''", "a")
    ]
    write(path, rows)
    content = path.read_bytes()
    for line in csv.DictReader(content.decode().splitlines()):
        assert line["label"][0] in "'a" and line["objective"] == "-0.5" and line["hyperparameters"] == '{"a": "=1"}'
    assert read_text(path)["label"].tolist() == [row["label"] for row in rows]
    write(path, read_text(path).to_dict("records"))
    assert path.read_bytes() == content
    write(tmp_path / "claims.csv", pd.DataFrame(dict(claim=[word, "'tis"], seeds=[3, -4])))
    assert read_text(tmp_path / "claims.csv")["claim"].tolist() == [word, "'tis"]


@pytest.mark.parametrize("label", ["+SAM", "-SAM", "=1+1", "@SAM", "'-SAM"])
def test_a_label_that_a_spreadsheet_would_compute_is_taken_and_stands_guarded(place, label):
    place.write(methods=[dict(name="sgd", label=label)])
    place.run("tiny")
    assert [row["label"] for row in place.rows()] == [f"'{label}"] * 2
    assert read_text(place.csvs / "tiny" / "runs.csv")["label"].tolist() == [label] * 2
    place.run("tiny")
    assert place.do("tables") == 0


def npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def archive(path: Path, *members: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)


ARRAY = npy(np.zeros(3, np.uint8))
COPIES = {
    "bytes under an array's name": ([("x_train", b"hello")], "holds 'x_train' as something that is no array"),
    "text as an array": ([("y_test.npy", b"hello")], "holds 'y_test' as something that is no array"),
    "nothing as an array": ([("x_test.npy", b"")], "holds 'x_test' as something that is no array"),
    "an array twice": ([("x_train.npy", ARRAY), ("x_train.npy", ARRAY)], "holds 'x_train' 2 times"),
    "an array under two names": ([("x_train.npy", ARRAY), ("x_train", ARRAY)], "holds 'x_train' 2 times"),
    "a source that is none": ([("source.npy", b"torchvision")], "holds 'source' as something that is no array"),
}


@pytest.mark.parametrize("word", COPIES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_of_something_else_than_arrays_is_refused(place, word, capsys):
    members, expected = COPIES[word]
    path = place.root / "mnist.npz"
    archive(path, *members)
    place.write("digit", datasets=["mnist"], methods=METHODS[:1])
    for command in ("run", "plan", "collect"):
        assert place.do(command, "digit", "--data", str(place.root)) == 2
        message = one_sentence(capsys)
        assert message == f"{path} {expected}; replace it, or delete it and run again to download it."


def test_what_is_no_file_is_no_data_and_nothing_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "mnist.npz")
    (tmp_path / "svhn.npz").mkdir()
    (tmp_path / "cifar10.npz").symlink_to("/dev/zero")
    (tmp_path / "fashion_mnist.npz").symlink_to(tmp_path / "fashion_mnist.npz")
    with pytest.raises(InputError) as caught:
        check_copies(["mnist", "svhn", "cifar10", "digits", "fashion_mnist"], tmp_path)
    lines = str(caught.value).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        str(tmp_path / f"{name}.npz") for name in ("mnist", "svhn", "cifar10", "fashion_mnist")
    ]
    assert all("is no regular file" in line for line in lines[:3]) and "cannot be read" in lines[3]
    check_copies(["mnist", "digits"], tmp_path / "nowhere")
