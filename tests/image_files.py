"""Files of made-up images, and a torchvision that serves them, for the tests of data sets."""

import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from am import data
from am.data import NAMES, Images

FILES = tuple(name for name in NAMES if name != "digits")


@pytest.fixture(autouse=True)
def no_network_and_no_setting(monkeypatch):
    """No test reaches a server, and none sees the folder that whoever runs them has set."""

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("AM_DATA", raising=False)


def arrays_of(name: str, train: int = 60, test: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    random, shape = np.random.RandomState(seed), data.dataset(name).shape
    return {
        "x_train": random.randint(0, 256, (train, *shape)).astype(np.uint8),
        "y_train": (np.arange(train) % 10).astype(np.uint8),
        "x_test": random.randint(0, 256, (test, *shape)).astype(np.uint8),
        "y_test": (np.arange(test) % 10).astype(np.uint8),
    }


def write(folder: Path, name: str, compressed: bool = False, **changes) -> Path:
    """NAME.npz with random images; `changes` replace arrays, and None drops one."""
    arrays = {k: v for k, v in {**arrays_of(name), **changes}.items() if v is not None}
    (np.savez_compressed if compressed else np.savez)(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


def images_of(train: int, name: str = "mnist", **changes) -> Images:
    arrays = {k: v.astype(np.int64) if k.startswith("y") else v for k, v in arrays_of(name, train).items()} | changes
    return Images(name, **arrays, fingerprint="f", official=False, classes=10)


class FakeTorchvision:
    """torchvision's data set classes, serving small arrays the way the real ones lay them out."""

    def __init__(self, monkeypatch):
        from torchvision import datasets

        self.calls = []
        kinds = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "svhn": "SVHN"}
        for name, kind in kinds.items():
            monkeypatch.setattr(datasets, kind, self.serve(name))

    def serve(self, name):
        def construct(root, train=None, split=None, download=False):
            assert download and Path(root).is_dir()
            self.calls.append((name, train if split is None else split))
            print("progress")
            print("100%", file=sys.stderr)
            part = "train" if train or split == "train" else "test"
            arrays = arrays_of(name)
            x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
            served = type("Served", (), {})()
            if name == "svhn":
                served.data, served.labels = x.transpose(0, 3, 1, 2), y.astype(np.int64)
            elif name == "cifar10":
                served.data, served.targets = x, y.tolist()
            else:
                served.data, served.targets = torch.from_numpy(x), torch.from_numpy(y).long()
            return served

        return construct
