"""Data sets: names, fingerprints, the held-out split and the scaling."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
import torch
from image_files import FILES, FakeTorchvision, arrays_of, images_of, no_network_and_no_setting, write  # noqa: F401

from am import data
from am.data import data_folder, fetch, identity_of, load, missing, prepare
from am.errors import InputError

# ---------------------------------------------------------------- names and folders


def test_unknown_name_is_met_with_the_nearest():
    for call in (data.dataset, load, fetch, identity_of):
        with pytest.raises(InputError, match="unknown data set 'fashion_mnits'; did you mean 'fashion_mnist'?"):
            call("fashion_mnits")


def test_folder_is_argument_then_am_data_then_data(tmp_path, monkeypatch):
    given, environment, here = tmp_path / "given", tmp_path / "environment", tmp_path / "here"
    for seed, folder in enumerate((given, environment, here / "data")):
        folder.mkdir(parents=True)
        write(folder, "mnist", **arrays_of("mnist", seed=seed))
    monkeypatch.chdir(here)
    first = lambda folder=None: load("mnist", folder).x_train[0]
    np.testing.assert_array_equal(first(), arrays_of("mnist", seed=2)["x_train"][0])
    monkeypatch.setenv("AM_DATA", str(environment))
    np.testing.assert_array_equal(first(), arrays_of("mnist", seed=1)["x_train"][0])
    np.testing.assert_array_equal(first(given), arrays_of("mnist", seed=0)["x_train"][0])


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AM_DATA", "~/d")
    assert data_folder() == data_folder("~/d") == data_folder(pathlib.Path("~/d")) == tmp_path / "d"


def test_arrays_in_fortran_order_are_the_same_images(tmp_path):
    arrays = arrays_of("svhn")
    write(tmp_path, "svhn", **{key: np.asfortranarray(array) for key, array in arrays.items()})
    ready, expected = prepare(load("svhn", tmp_path)), prepare(images_of(60, "svhn"))
    for part in ("x", "x_val", "x_test"):
        assert torch.equal(getattr(ready, part), getattr(expected, part))


def test_load_gives_the_arrays_with_int64_labels(tmp_path):
    write(tmp_path, "svhn")
    images, arrays = load("svhn", tmp_path), arrays_of("svhn")
    for key in data.ARRAYS:
        np.testing.assert_array_equal(getattr(images, key), arrays[key])
    assert images.x_train.dtype == images.x_test.dtype == np.uint8
    assert images.y_train.dtype == images.y_test.dtype == np.int64
    assert (images.name, images.classes) == ("svhn", 10)


def test_loaded_arrays_cannot_be_changed_by_a_caller(tmp_path):
    write(tmp_path, "mnist")
    for images in (load("mnist", tmp_path), load("digits")):
        with pytest.raises(ValueError, match="read-only"):
            images.x_train[0] = 0


# ---------------------------------------------------------------- fingerprints


def test_fingerprint_does_not_depend_on_compression_or_label_type(tmp_path):
    marks = []
    for kind in ("plain", "compressed", "wide"):
        folder = tmp_path / kind
        folder.mkdir()
        labels = arrays_of("mnist")["y_train"].astype(np.int32 if kind == "wide" else np.uint8)
        write(folder, "mnist", compressed=kind == "compressed", y_train=labels)
        marks.append(identity_of("mnist", folder).fingerprint)
    assert len(set(marks)) == 1 and len(marks[0]) == 64


@pytest.mark.parametrize("key", data.ARRAYS)
def test_fingerprint_changes_with_any_value(key):
    arrays = {k: v.copy() for k, v in arrays_of("mnist").items()}
    before = data.fingerprint(**arrays)
    arrays[key].flat[-1] ^= 1
    assert data.fingerprint(**arrays) != before


def test_fingerprint_changes_when_bytes_move_between_shapes():
    arrays = arrays_of("mnist")
    flat = arrays | {"x_train": arrays["x_train"].reshape(60, 784)}
    assert data.fingerprint(**flat) != data.fingerprint(**arrays)


def test_a_changed_file_is_read_again(tmp_path):
    write(tmp_path, "mnist")
    before = identity_of("mnist", tmp_path)
    assert identity_of("mnist", tmp_path) == before
    images = load("mnist", tmp_path)
    assert before == (images.fingerprint, False, len(images.x_train), 10)
    write(tmp_path, "mnist", **arrays_of("mnist", seed=1))
    after = identity_of("mnist", tmp_path)
    assert after != before and after[0] == load("mnist", tmp_path).fingerprint


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    write(tmp_path, "mnist")
    before = identity_of("mnist", tmp_path)
    data.files._read.cache_clear()
    monkeypatch.setattr(np, "load", lambda *args, **kwargs: pytest.fail("read again"))
    assert identity_of("mnist", tmp_path) == before


def official_as(monkeypatch, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Make these arrays the official ones of the set."""
    changed = dataclasses.replace(data.DATASETS[name], fingerprint=data.fingerprint(**arrays))
    monkeypatch.setitem(data.DATASETS, name, changed)


def test_the_official_fingerprint_makes_a_set_official(tmp_path, monkeypatch):
    official_as(monkeypatch, "mnist", arrays_of("mnist"))
    write(tmp_path, "mnist")
    assert load("mnist", tmp_path).official and identity_of("mnist", tmp_path).official
    other = tmp_path / "other"
    other.mkdir()
    write(other, "mnist", source=np.array("torchvision"), **arrays_of("mnist", seed=1))
    assert not load("mnist", other).official


def test_fashion_mnist_that_is_mnist_is_refused(tmp_path, monkeypatch):
    official_as(monkeypatch, "mnist", arrays_of("mnist"))
    path = write(tmp_path, "fashion_mnist", **arrays_of("mnist"))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"fashion_mnist\.npz holds the images of MNIST, not of Fashion-"):
        load("fashion_mnist", tmp_path)
    with pytest.raises(InputError, match="not of Fashion-MNIST"):
        identity_of("fashion_mnist", tmp_path)
    assert path.read_bytes() == before


def test_fashion_mnist_that_is_half_mnist_is_not_official(tmp_path, monkeypatch):
    mnist, fashion = arrays_of("mnist"), arrays_of("fashion_mnist", seed=1)
    official_as(monkeypatch, "mnist", mnist)
    official_as(monkeypatch, "fashion_mnist", fashion)
    write(tmp_path, "fashion_mnist", **fashion | {k: mnist[k] for k in ("x_train", "y_train")})
    assert not load("fashion_mnist", tmp_path).official


BY_SOURCE = [("torchvision", 60, True), ("torchvision", 59, False), ("elsewhere", 60, False), ("", 60, False)]


@pytest.mark.parametrize("source, train, official", BY_SOURCE)
def test_cifar10_is_official_by_source_and_size(tmp_path, monkeypatch, source, train, official):
    small = dataclasses.replace(data.DATASETS["cifar10"], train=60, test=20)
    monkeypatch.setitem(data.DATASETS, "cifar10", small)
    mark = dict(source=np.array(source)) if source else {}
    write(tmp_path, "cifar10", **arrays_of("cifar10", train=train), **mark)
    assert load("cifar10", tmp_path).official is official


def test_official_sizes():
    sizes = {name: (d.train, d.test, d.inputs) for name, d in data.DATASETS.items()}
    assert sizes == {
        "mnist": (60_000, 10_000, 784), "fashion_mnist": (60_000, 10_000, 784), "cifar10": (50_000, 10_000, 3072),
        "svhn": (73_257, 26_032, 3072), "digits": (1_437, 360, 64),
    }  # fmt: skip


# ---------------------------------------------------------------- digits


def test_digits_are_the_embedded_images_in_a_balanced_split():
    from sklearn.datasets import load_digits

    images, bunch = load("digits"), load_digits()
    assert images.official and images.x_train.shape == (1437, 8, 8) and images.x_test.shape == (360, 8, 8)
    assert images.x_train.dtype == np.uint8 and (images.x_train.min(), images.x_train.max()) == (0, 255)
    both = np.concatenate([images.x_train, images.x_test]) / 255 * 16
    labels = np.concatenate([images.y_train, images.y_test])
    rows = lambda x, y: sorted(map(tuple, np.column_stack([np.rint(x).reshape(len(x), -1), y]).astype(int)))
    assert rows(both, labels) == rows(bunch.images, bunch.target)
    counts = np.bincount(bunch.target)
    assert np.all(np.abs(np.bincount(images.y_test) - counts / 5) <= 1)
    assert len(set(images.y_train[:100])) == 10  # shuffled, not class by class


def test_digits_are_the_same_every_time(tmp_path):
    first = load("digits", tmp_path)
    data.files._embedded.cache_clear()
    np.random.seed(1)
    second = load("digits")
    assert first is not second and first.fingerprint == second.fingerprint == data.DATASETS["digits"].fingerprint
    assert identity_of("digits") == (first.fingerprint, True, len(first.x_train), 10)


# ---------------------------------------------------------------- prepare


def scaled(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).flatten(1) / 255


def rows_of(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def test_held_out_images_are_a_tenth_and_the_same_for_every_part():
    images = images_of(200)
    everything = prepare(images)
    assert len(everything.x_val) == 20 and len(everything.x) == 180 and len(everything.x_test) == 20
    assert rows_of(everything.x) | rows_of(everything.x_val) == rows_of(scaled(images.x_train))
    assert not rows_of(everything.x) & rows_of(everything.x_val)
    for n_train in (1, 50, 180):
        part = prepare(images, n_train)
        assert torch.equal(part.x_val, everything.x_val) and torch.equal(part.y_val, everything.y_val)
        assert torch.equal(part.x, everything.x[:n_train]) and torch.equal(part.y, everything.y[:n_train])
        assert torch.equal(part.x_test, everything.x_test)


def test_held_out_do_not_depend_on_any_global_seed():
    images = images_of(200)
    np.random.seed(1), torch.manual_seed(1)
    first = prepare(images)
    np.random.seed(2), torch.manual_seed(2)
    assert torch.equal(first.x_val, prepare(images).x_val)


def test_held_out_are_drawn_at_random_over_the_set():
    images = images_of(1000)
    held = rows_of(prepare(images).x_val)
    first, last = (rows_of(scaled(x)) for x in (images.x_train[:500], images.x_train[500:]))
    assert 30 <= len(held & first) <= 70 and 30 <= len(held & last) <= 70


def test_size_of_the_held_out():
    sizes = {60: 6, 1_437: 143, 49_999: 4_999, 50_000: 5_000, 60_000: 5_000, 73_257: 5_000}
    assert {n: data.held_out_size(n) for n in sizes} == sizes


def test_labels_follow_their_images():
    labels = (np.arange(200) % 10).astype(np.uint8)
    images = images_of(200, x_train=np.broadcast_to(labels[:, None, None], (200, 28, 28)))
    ready = prepare(images, 90)
    for x, y in ((ready.x, ready.y), (ready.x_val, ready.y_val)):
        assert torch.equal((x[:, 0] * 255).round().long(), y)
        assert y.dtype == torch.int64


@pytest.mark.parametrize("n_train", [0, -1, 181])
def test_a_part_that_is_not_there(n_train):
    with pytest.raises(InputError, match=rf"mnist has 180 .* 20 held out; n_train .* \[1, 180\], not {n_train}\."):
        prepare(images_of(200), n_train)


@pytest.mark.parametrize("shade", [0, 77, 255])
def test_a_channel_that_never_changes_is_standardised_to_0(shade):
    x = arrays_of("cifar10")["x_train"]
    x[..., 1] = shade
    ready = prepare(images_of(60, "cifar10", x_train=x), inputs="standardised", dtype=torch.float64)
    channels = ready.x.view(len(ready.x), -1, 3)
    assert channels[..., 1].abs().max() < 1e-15
    torch.testing.assert_close(channels[..., ::2].std((0, 1), correction=0), torch.ones(2, dtype=torch.float64))


def test_unknown_inputs():
    with pytest.raises(InputError, match="unknown inputs 'standardized'; did you mean 'standardised'?"):
        prepare(images_of(200), inputs="standardized")


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_unit_inputs_are_pixels_over_255(name):
    images = images_of(50, name)
    ready = prepare(images, dtype=torch.float64)
    expected = torch.from_numpy(images.x_test.reshape(20, -1) / 255)
    torch.testing.assert_close(ready.x_test, expected, rtol=0, atol=1e-15)
    assert ready.x.shape == (45, data.dataset(name).inputs) and ready.x.is_contiguous()
    assert ready.x.min() >= 0 and ready.x.max() <= 1


def test_digits_fill_the_unit_interval():
    ready = prepare(load("digits"))
    assert (ready.x.min(), ready.x.max()) == (0, 1) and ready.x.dtype == torch.float32
    assert (len(ready.x), len(ready.x_val), len(ready.x_test)) == (1294, 143, 360)
    assert ready.official and ready.fingerprint == data.DATASETS["digits"].fingerprint


def test_standardised_inputs_have_mean_0_and_sd_1_in_every_channel():
    random = np.random.RandomState(0)
    x = (random.randint(0, 80, (300, 32, 32, 3)) + np.array([0, 60, 150])).astype(np.uint8)
    images = images_of(300, "cifar10", x_train=x)
    ready = prepare(images, inputs="standardised", dtype=torch.float64)
    channels = ready.x.view(270, -1, 3)
    sds, zero = channels.std((0, 1), correction=0), torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(channels.mean((0, 1)), zero, rtol=0, atol=1e-12)
    torch.testing.assert_close(sds, zero + 1, rtol=0, atol=1e-12)
    # The held-out and test images are moved by the training part's numbers, not by their own.
    unit = prepare(images, dtype=torch.float64)
    pixels = unit.x.view(270, -1, 3)
    mean, sd = pixels.mean((0, 1)), pixels.std((0, 1), correction=0)
    for name in ("x_val", "x_test"):
        expected = ((getattr(unit, name).view(-1, 1024, 3) - mean) / sd).view(-1, 3072)
        torch.testing.assert_close(getattr(ready, name), expected, rtol=0, atol=1e-12)


def test_standardising_does_not_depend_on_n_train():
    images = images_of(200)
    small, full = (prepare(images, n, "standardised") for n in (7, None))
    assert torch.equal(small.x, full.x[:7]) and torch.equal(small.x_test, full.x_test)


def test_prepare_leaves_the_images_alone():
    images = images_of(200)
    before = data.fingerprint(*(getattr(images, key) for key in data.ARRAYS))
    ready = prepare(images, dtype=torch.float32)
    ready.x.zero_(), ready.y.zero_(), ready.x_test.zero_(), ready.y_test.fill_(3)
    assert data.fingerprint(*(getattr(images, key) for key in data.ARRAYS)) == before


# ---------------------------------------------------------------- the real files, where they are

REAL = os.environ.get("AM_DATA")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_files_are_official(name):
    if not REAL or missing([name], REAL):
        pytest.skip(f"AM_DATA names no folder with {name}.npz")
    images = load(name, REAL)
    assert images.official and images.x_train.shape == (60_000, 28, 28) and images.x_test.shape == (10_000, 28, 28)
    counts = {
        "mnist": [[5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
                  [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]],
        "fashion_mnist": [[6000] * 10, [1000] * 10],
    }[name]  # fmt: skip
    assert [np.bincount(y).tolist() for y in (images.y_train, images.y_test)] == counts


def test_standardising_mnist_gives_the_usual_constants():
    if not REAL or missing(["mnist"], REAL):
        pytest.skip("AM_DATA names no folder with mnist.npz")
    black = prepare(load("mnist", REAL), 1, "standardised").x_test.min().item()
    assert black == pytest.approx(-0.1307 / 0.3081, abs=1e-3)


def test_published_constants_belong_to_the_official_training_part_less_what_is_held_out():
    for name, rows, full in (("mnist", 60_000, 55_000), ("cifar10", 50_000, 45_000), ("svhn", 4_434, 68_257)):
        assert data.full_rows(name, rows) == full
    assert data.full_rows("digits", 1_437) == data.training_rows(1_437) == 1_294
    assert data.training_rows(60_000, 5_000) == 5_000 and data.training_rows(4_434, 5_000) == 3_991
