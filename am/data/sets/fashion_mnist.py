"""Fashion-MNIST: clothes in the format of MNIST (Xiao et al. 2017, arXiv 1708.07747)."""

from am.data.base import Dataset, from_torchvision

DATASET = Dataset(
    "fashion_mnist",
    "Fashion-MNIST",
    (28, 28),
    60_000,
    10_000,
    # Of arrays whose IDX files have the MD5 sums published for the uncompressed originals.
    fingerprint="dc8069c218f5ab9d11dc3610d390dc7a09ea161adcdfda93735f8c0900f2c9a1",
    download=from_torchvision("FashionMNIST"),
    layout=("FashionMNIST/raw",),
)
