"""Files of data sets: what is corrupt is named, what is missing is fetched whole or told in a sentence."""

import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from image_files import FILES, FakeTorchvision, arrays_of, images_of, no_network_and_no_setting, write  # noqa: F401

from am import data
from am.data import NAMES, Dataset, ensure, fetch, identity_of, load, missing
from am.errors import InputError

# ---------------------------------------------------------------- corrupt files


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5_000])


def flipped(path: Path) -> None:
    """One bit of an image: zip's own checksum tells."""
    raw = bytearray(path.read_bytes())
    raw[20_000] ^= 1
    path.write_bytes(raw)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def web_page(path: Path) -> None:
    path.write_text("<html>404 not found</html>", encoding="utf-8")


def single_array(path: Path) -> None:
    with open(path, "wb") as f:
        np.save(f, np.zeros(3))


@pytest.mark.parametrize("damage", [truncated, flipped, emptied, web_page, single_array])
def test_a_damaged_file_is_named_and_left_alone(tmp_path, damage):
    path = write(tmp_path, "mnist")
    damage(path)
    before = path.read_bytes()
    with pytest.raises(InputError) as error:
        load("mnist", tmp_path)
    said = str(error.value)
    assert said.startswith(f"{path} is not a readable .npz file (")
    assert ("(File is not a zip file)" in said) is (damage is not flipped)
    assert said.endswith("; replace it, or delete it and run again to download it.") and "\n" not in said
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["mnist.npz"]


WRONG = {
    "lacks y_test": dict(y_test=None),
    "lacks x_train and x_test": dict(x_train=None, x_test=None),
    "holds x_train as float64 (60, 28, 28), not uint8 (N, 28, 28), and OWN": dict(x_train=np.zeros((60, 28, 28))),
    "holds x_test as uint8 (20, 784), not uint8 (N, 28, 28), and OWN": dict(x_test=np.zeros((20, 784), np.uint8)),
    "holds x_train as uint8 (), not uint8 (N, 28, 28), and OWN": dict(x_train=np.uint8(3)),
    "holds y_train as float64 (60,), not uint8 (N,)": dict(y_train=np.zeros(60)),
    "holds y_train as uint8 (60, 10), not uint8 (N,)": dict(y_train=np.zeros((60, 10), np.uint8)),
    "holds 20 images in x_test but 19 labels in y_test": dict(y_test=np.zeros(19, np.uint8)),
    "holds only 0 images in x_test": dict(x_test=np.zeros((0, 28, 28), np.uint8), y_test=np.zeros(0, np.uint8)),
    "holds labels 1 to 10 in y_train, outside 0 to 9": dict(y_train=(np.arange(60) % 10 + 1).astype(np.uint8)),
    "holds labels -1 to 0 in y_test, outside 0 to 9": dict(y_test=-(np.arange(20) % 2)),
}


@pytest.mark.parametrize("problem", WRONG)
def test_wrong_arrays_are_named(tmp_path, problem):
    path = write(tmp_path, "mnist", **WRONG[problem])
    with pytest.raises(InputError) as error:
        load("mnist", tmp_path)
    problem = problem.replace("OWN", "a set of your own needs another name")
    assert str(error.value) == f"{path} {problem}; replace it, or delete it and run again to download it."


def test_pickled_objects_are_refused(tmp_path):
    write(tmp_path, "mnist", y_train=np.array([None] * 60))
    with pytest.raises(InputError, match=r"mnist\.npz is not a readable \.npz file \(Object arrays"):
        load("mnist", tmp_path)


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "mnist.npz").mkdir()
    with pytest.raises(InputError, match=r"mnist\.npz cannot be read \(Is a directory\)\."):
        load("mnist", tmp_path)


# ---------------------------------------------------------------- missing sets and downloads


def test_missing_names_what_is_not_there_and_downloads_nothing(tmp_path, monkeypatch):
    fake = FakeTorchvision(monkeypatch)
    write(tmp_path, "cifar10")
    assert missing(NAMES, tmp_path) == ["fashion_mnist", "mnist", "svhn"]
    assert missing(NAMES, tmp_path / "nowhere") == list(FILES)
    assert not fake.calls and os.listdir(tmp_path) == ["cifar10.npz"]


def test_without_network_one_sentence_says_what_to_put_where(tmp_path, capfd):
    before = socket.getdefaulttimeout()
    with pytest.raises(InputError) as error:
        load("svhn", tmp_path / "new")
    said = str(error.value)
    assert said.startswith(f"svhn: {tmp_path / 'new' / 'svhn.npz'} is missing and could not be downloaded (")
    assert said.endswith(
        "put an .npz file there with the uint8 arrays x_train (N, 32, 32, 3), y_train (N,), x_test (M, 32, 32, 3) "
        "and y_test (M,), labels 0 to 9."
    )
    assert "\n" not in said and said.count(". ") == 0
    assert os.listdir(tmp_path / "new") == [] and socket.getdefaulttimeout() == before
    assert capfd.readouterr() == ("", "")


def test_several_missing_or_bad_sets_are_reported_together(tmp_path):
    write(tmp_path, "cifar10", y_test=None)
    announced = []
    with pytest.raises(InputError) as error:
        ensure(("mnist", "digits", "fashion_mnist", "cifar10", "svhn", "mnist"), tmp_path, announced.append)
    lines = str(error.value).split("\n")
    assert len(lines) == 4
    for line, name in zip(lines, ("mnist", "fashion_mnist", "cifar10", "svhn")):
        assert str(tmp_path / f"{name}.npz") in line
    assert "lacks y_test" in lines[2]
    titles = ("MNIST", "Fashion-MNIST", "SVHN")
    assert [text.split(" to ")[0] for text in announced] == [f"Downloading {title}" for title in titles]


def test_ensure_is_silent_when_everything_is_there(tmp_path):
    for name in FILES:
        write(tmp_path, name)
    ensure(NAMES, tmp_path, lambda text: pytest.fail(text))


@pytest.mark.parametrize("name", FILES)
def test_fetch_prepares_the_file_once(tmp_path, monkeypatch, capfd, name):
    fake = FakeTorchvision(monkeypatch)
    images = load(name, tmp_path / "new")
    for key, array in arrays_of(name).items():
        np.testing.assert_array_equal(getattr(images, key), array)
    with np.load(tmp_path / "new" / f"{name}.npz") as file:
        assert str(file["source"]) == "torchvision"
        assert all(file[key].dtype == np.uint8 for key in data.ARRAYS)
    assert fake.calls == [(name, part) for part in (("train", "test") if name == "svhn" else (True, False))]
    assert os.listdir(tmp_path / "new") == [f"{name}.npz"] and capfd.readouterr() == ("", "")
    load(name, tmp_path / "new")
    assert len(fake.calls) == 2


def test_fetch_never_overwrites(tmp_path, monkeypatch):
    fake = FakeTorchvision(monkeypatch)
    path = write(tmp_path, "mnist")
    truncated(path)
    before = path.read_bytes()
    assert fetch("mnist", tmp_path) == path
    assert path.read_bytes() == before and not fake.calls


def test_nothing_to_fetch_for_an_embedded_set(tmp_path):
    with pytest.raises(InputError, match="embedded"):
        fetch("digits", tmp_path)


def test_a_set_without_a_download_is_its_own_file_or_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(data.DATASETS, "mine", Dataset("mine", "Mine", (5, 4), 60, 20))
    wanted = re.escape("mine.npz is missing and has no download; put an .npz file there with the uint8 arrays x_train")
    said: list[str] = []
    with pytest.raises(InputError, match=wanted):
        ensure(["mine"], tmp_path, said.append)
    assert said == [] and missing(["mine"], tmp_path) == ["mine"]
    path = write(tmp_path, "mine")
    images = load("mine", tmp_path)
    assert images.name == "mine" and (images.x_train == arrays_of("mine")["x_train"]).all() and not images.official
    assert identity_of("mine", tmp_path).fingerprint == images.fingerprint
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match=r"; replace it\.$"):
        load("mine", tmp_path)


def test_a_failed_download_says_what_the_server_said(tmp_path):
    with pytest.raises(InputError, match=r"downloaded \(urlopen error \[Errno -2\] Name or service not known\); put"):
        fetch("mnist", tmp_path)


def test_a_download_without_words(tmp_path, monkeypatch):
    from torchvision import datasets

    def fail(*args, **kwargs):
        raise TimeoutError

    monkeypatch.setattr(datasets, "CIFAR10", fail)
    with pytest.raises(InputError, match=r"could not be downloaded \(TimeoutError\); put"):
        fetch("cifar10", tmp_path)


def test_a_silent_server_gets_ten_seconds(tmp_path, monkeypatch):
    from torchvision import datasets

    seen = []
    monkeypatch.setattr(datasets, "MNIST", lambda *args, **kwargs: seen.append(socket.getdefaulttimeout()))
    before = socket.getdefaulttimeout()
    with pytest.raises(InputError, match="could not be downloaded"):
        fetch("mnist", tmp_path)
    assert seen == [10.0, 10.0] and socket.getdefaulttimeout() == before


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["savez", "fsync", "replace"])
def test_a_fault_while_writing_leaves_no_file(tmp_path, monkeypatch, fault, place):
    FakeTorchvision(monkeypatch)

    def torn(file, **arrays):
        file.write(b"PK half a file")
        raise fault

    def fail(*args):
        raise fault

    if place == "savez":
        monkeypatch.setattr(np, "savez", torn)
    else:
        monkeypatch.setattr(os, place, fail)
    expected = InputError if isinstance(fault, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as error:
        fetch("mnist", tmp_path)
    if expected is InputError:
        wanted = f"{tmp_path / 'mnist.npz'} cannot be written (No space left on device); choose another data folder."
        assert str(error.value) == wanted
    assert os.listdir(tmp_path) == []


def test_an_unusable_folder_is_named(tmp_path, monkeypatch):
    FakeTorchvision(monkeypatch)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"file/mnist\.npz cannot be written \(.+\); choose another data folder"):
        load("mnist", tmp_path / "file")
