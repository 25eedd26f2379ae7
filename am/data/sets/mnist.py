"""MNIST: handwritten digits (LeCun et al. 1998)."""

from am.data.base import Dataset, from_torchvision

DATASET = Dataset(
    "mnist",
    "MNIST",
    (28, 28),
    60_000,
    10_000,
    # Of arrays whose IDX files have the MD5 sums published for the uncompressed originals.
    fingerprint="d027fbe1abd1b831f98a0eb34db848e8c6bc33f517b3d16117c2c12cb0dbff20",
    download=from_torchvision("MNIST"),
    layout=("MNIST/raw",),
)
