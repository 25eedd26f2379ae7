"""Data sets of one's own: NAME.npz in the data folder, NAME.toml beside it; and torchvision's layout in it."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import PATIENCE, ROOT
from image_files import arrays_of, no_network_and_no_setting  # noqa: F401

from am.data import dataset, fingerprint, full_rows, identity_of, in_folder, load, missing, names, prepare
from am.data import unusable as unusable_in
from am.errors import InputError
from am.modules.networks import build, check_images
from reproduce.run.copies import listing


def table(rows: int = 60, features: int = 3, classes: int = 3, kind: type = np.float64, seed: int = 0) -> dict:
    """Features on other scales, and labels."""
    random = np.random.RandomState(seed)
    parts = {}
    for part, n in (("train", rows), ("test", 20)):
        x = random.randn(n, features) * 10.0 ** np.arange(features) + 1e4
        parts |= {f"x_{part}": x.astype(kind), f"y_{part}": np.arange(n) % classes}
    return parts


def write(folder: Path, name: str = "mine", words: str = "", **changes) -> Path:
    arrays = {key: value for key, value in {**table(), **changes}.items() if value is not None}
    np.savez(folder / f"{name}.npz", **arrays)
    if words:
        (folder / f"{name}.toml").write_text(words, encoding="utf-8")
    return folder / f"{name}.npz"


def test_a_file_is_a_data_set_whose_sizes_it_says(tmp_path):
    write(tmp_path)
    spec = dataset("mine", tmp_path)
    assert (spec.shape, spec.train, spec.test, spec.classes, spec.title) == ((3,), 60, 20, 3, "mine")
    assert "mine" in names(tmp_path) and missing(["mine"], tmp_path) == [] and full_rows("mine", 60) == 54
    copy = identity_of("mine", tmp_path)
    assert copy[1:] == (False, 60, 3) and copy.fingerprint == load("mine", tmp_path).fingerprint
    with in_folder(tmp_path):
        assert dataset("mine") == spec
    with pytest.raises(InputError, match="unknown data set 'mnie'; did you mean 'mine'?"):
        dataset("mnie", tmp_path)
    with pytest.raises(
        InputError, match=r"unknown data set 'xyz'; valid: .*svhn, and any NAME.npz of your own in data/"
    ):
        dataset("xyz")


@pytest.mark.parametrize("kind", [np.float32, np.float64, ">f8"])
def test_features_stay_as_they_are_or_are_standardised_one_by_one(tmp_path, kind):
    parts = table(kind=kind)
    parts["x_train"][:, 1] = 7
    write(tmp_path, **parts)
    images = load("mine", tmp_path)
    unit = prepare(images, dtype=torch.float64)
    assert torch.equal(unit.x_test, torch.from_numpy(parts["x_test"].astype("f8")))
    ready = prepare(images, inputs="standardised", dtype=torch.float64)
    assert (len(ready.x), len(ready.x_val), ready.classes, ready.shape) == (54, 6, 3, (3,))
    one = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(ready.x.std(0, correction=0), one)
    torch.testing.assert_close(ready.x.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_large_features_that_differ_little_keep_their_digits_in_float32(tmp_path):
    parts = table()
    parts["x_train"] = 1e9 + np.arange(180.0).reshape(60, 3)
    write(tmp_path, **parts)
    assert abs(prepare(load("mine", tmp_path), inputs="standardised").x.std(0, correction=0) - 1).max() < 1e-5


@pytest.mark.parametrize("classes", [2, 3, 25])
@pytest.mark.parametrize("shape", [(5, 4), (6, 6, 3), (9,)])
def test_images_of_any_size_and_number_of_classes(tmp_path, shape, classes):
    random = np.random.RandomState(0)
    x = {f"x_{part}": random.randint(0, 256, (50, *shape)).astype(np.uint8) for part in ("train", "test")}
    write(tmp_path, **x, **{f"y_{part}": (np.arange(50) % classes).astype(np.uint8) for part in ("train", "test")})
    ready = prepare(load("mine", tmp_path), inputs="standardised", dtype=torch.float64)
    assert ready.classes == classes and ready.shape == shape and ready.x.shape == (45, np.prod(shape))
    channels = shape[2] if len(shape) == 3 else 1
    assert ready.x.view(45, -1, channels).mean((0, 1)).abs().max() < 1e-9


def test_the_kind_of_numbers_and_the_classes_are_in_the_fingerprint(tmp_path):
    found = set()
    for i, (kind, words) in enumerate([(np.float32, ""), (np.float64, ""), (np.float64, "classes = 5")]):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i), words=words, **table(kind=kind))
        found.add(identity_of("mine", tmp_path / str(i)).fingerprint)
    assert len(found) == 3
    parts = table(kind=np.float32)
    assert fingerprint(**parts) == fingerprint(**{k: v.astype(v.dtype.newbyteorder(">")) for k, v in parts.items()})


def test_a_toml_says_title_shape_source_and_the_official_copy(tmp_path):
    parts = {
        f"x_{part}": np.zeros((30, 784), np.uint8) + np.arange(30, dtype=np.uint8)[:, None]
        for part in ("train", "test")
    }
    parts |= {f"y_{part}": np.arange(30) % 2 for part in ("train", "test")}
    write(tmp_path, **parts)
    mark = fingerprint(**{k: v.reshape(30, 28, 28) if k[0] == "x" else v for k, v in parts.items()})
    assert identity_of("mine", tmp_path).fingerprint != mark
    words = f'title = "My own"\nshape = [28, 28]\nsource = "a scanner"\nsha256 = "{mark}"'
    write(tmp_path, words=words, **parts)
    spec = dataset("mine", tmp_path)
    assert (spec.title, spec.shape, spec.source) == ("My own", (28, 28), "a scanner")
    assert identity_of("mine", tmp_path) == (mark, True, 30, 2)
    with in_folder(tmp_path):
        check_images("lenet5", "mine")
        data = prepare(load("mine"))
        network = build("lenet5", "mine", 0, "he", shape=data.shape, classes=data.classes)
    assert network(data.x).shape == (27, 2)
    line = next(line for line in listing(tmp_path) if line.startswith("mine"))
    assert line.endswith("mine.npz  (My own, 30 + 30 rows of 784 uint8, 2 classes, a scanner)")


BAD = {
    "holds x_train as int64 (60, 3), not": dict(x_train=np.ones((60, 3), int)),
    "holds x_train as float64 (60, 2, 2), not": dict(x_train=np.ones((60, 2, 2))),
    "holds x_train as float64 and x_test as float64 of another shape": dict(x_test=np.ones((20, 4))),
    "lacks y_test": dict(y_test=None),
    "holds labels up to 3 and no training row of class 0; number the classes from 0, or write classes = 4 into": dict(
        y_train=np.arange(60) % 3 + 1
    ),
    "holds labels -1 to 2": dict(y_train=np.arange(60) % 3 - 1),
    "holds y_train as float64 (60,), not whole numbers": dict(y_train=np.zeros(60)),
    "holds rows of one class alone": dict(y_train=np.zeros(60, int), y_test=np.zeros(20, int)),
    "is not a readable .npz file (Object arrays": dict(y_train=np.array([None] * 60)),
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_a_file_that_is_no_data_set_is_told_when_it_is_named(tmp_path, said):
    path = write(tmp_path, **BAD[said])
    with pytest.raises(InputError) as error:
        dataset("mine", tmp_path)
    assert str(error.value).startswith(f"{path} {said}") and str(error.value).endswith(".")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_numbers_that_float32_has_not_are_told(tmp_path, value):
    parts = table()
    parts["x_test"][3, 1] = value
    path = write(tmp_path, **parts)
    with pytest.raises(InputError, match="holds numbers in x_test that are not finite in float32"):
        load("mine", tmp_path)
    assert path.exists()


WORDS = {
    "titel = 'x'": "unknown key 'titel'; did you mean 'title'?",
    "title = 3": "'title' must be str, not 3",
    "classes = 1": "'classes' must lie in",
    "classes = 2": "holds labels 0 to 2, outside 0 to 1",
    "shape = [2, 2]": "'shape' [2, 2] is not that of rows of 3 numbers",
    "shape = [0]": "'shape' must be [height, width]",
    "sha256 = 'abc'": "'sha256' must be 64 hex digits",
    "title = ": "cannot be read as TOML",
}


@pytest.mark.parametrize("words", WORDS)
def test_a_mistake_in_the_toml_is_told(tmp_path, words):
    write(tmp_path, words=words)
    with pytest.raises(InputError) as error:
        dataset("mine", tmp_path)
    assert WORDS[words] in str(error.value) and "mine." in str(error.value) and "\n" not in str(error.value)


def test_names_that_are_none_are_told(tmp_path):
    for name in ("my-set", "MNIST", "null", "3d"):
        write(tmp_path, name)
        with pytest.raises(InputError, match="rename the file"):
            dataset(name, tmp_path)
    assert set(unusable_in(tmp_path)) == {"my-set", "MNIST", "null", "3d"}
    assert sum("not usable" in line for line in listing(tmp_path)) == 4
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(InputError, match="unknown data set 'pipe'"):
        dataset("pipe", tmp_path)


# ---------------------------------------------------------------- torchvision's layout, and stopped downloads


def idx(path: Path, array: np.ndarray) -> None:
    """A file as MNIST's authors write it."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_files_in_torchvisions_layout_are_used_without_a_network(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    arrays = arrays_of(name)
    for part, stem in (("train", "train"), ("test", "t10k")):
        idx(raw / f"{stem}-images-idx3-ubyte", arrays[f"x_{part}"])
        idx(raw / f"{stem}-labels-idx1-ubyte", arrays[f"y_{part}"])
    before = {path: path.read_bytes() for path in raw.iterdir()}
    images = load(name, tmp_path)
    for key, array in arrays.items():
        np.testing.assert_array_equal(getattr(images, key), array)
    assert {path: path.read_bytes() for path in raw.iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == [folder, f"{name}.npz"]
    (tmp_path / f"{name}.npz").unlink()
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"torn")
    with pytest.raises(InputError, match=rf"could not be made of {raw} or downloaded"):
        load(name, tmp_path)


SLOW = """
import sys, time
from pathlib import Path
from am.data import fetch
from am.data.sets import mnist
import am.data.download as download
download.TOLD_EVERY = 0.1

def parts(spec, place):
    Path(place, "raw").mkdir()
    Path(place, "raw", "half.gz").write_bytes(b"0" * 2_500_000)
    time.sleep(600)

download._parts = parts
fetch("mnist", sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_download_tells_how_far_it_is_and_leaves_what_the_next_call_uses(tmp_path, number, monkeypatch):
    code = SLOW if number == signal.SIGKILL else "from reproduce.cli.stopping import *\nend_in_a_sentence()\n" + SLOW
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], env=env, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE
    while "2.5 MB" not in (line := process.stderr.readline()):
        assert process.poll() is None and time.monotonic() < end, line
    process.send_signal(number)
    process.wait()
    process.stderr.close()
    assert os.listdir(tmp_path) == [".mnist.part"]
    from image_files import FakeTorchvision

    FakeTorchvision(monkeypatch)
    assert len(load("mnist", tmp_path).x_train) == 60 and os.listdir(tmp_path) == ["mnist.npz"]
