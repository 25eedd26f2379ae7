"""CIFAR-10: small photographs (Krizhevsky 2009)."""

from am.data.base import Dataset, from_torchvision

DATASET = Dataset(
    "cifar10",
    "CIFAR-10",
    (32, 32, 3),
    50_000,
    10_000,
    download=from_torchvision("CIFAR10"),
    layout=("cifar-10-batches-py", "cifar-10-python.tar.gz"),
)
