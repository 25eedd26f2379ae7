"""SVHN: house numbers, cropped digits, without its `extra` images (Netzer et al. 2011)."""

import numpy as np

from am.data.base import Dataset


def _download(folder: str) -> list[tuple[np.ndarray, np.ndarray]]:
    from torchvision import datasets

    parts = [datasets.SVHN(folder, split=split, download=True) for split in ("train", "test")]
    return [(part.data.transpose(0, 2, 3, 1), part.labels) for part in parts]


DATASET = Dataset(
    "svhn",
    "SVHN",
    (32, 32, 3),
    73_257,
    26_032,
    download=_download,
    layout=("train_32x32.mat", "test_32x32.mat"),
)
