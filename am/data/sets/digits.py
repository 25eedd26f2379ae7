"""scikit-learn's embedded digits: 1,437 training and 360 test images, every class in the same proportion in both."""

import numpy as np

from am.data.base import ARRAYS, Dataset

SEED = 0  # of the split


def _embedded() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch, random = load_digits(), np.random.RandomState(SEED)
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # scikit-learn's pixels are 0 .. 16
    y = bunch.target
    order = random.permutation(len(x))
    by_class = order[np.argsort(y[order], kind="stable")]
    test = by_class[::5]
    train = random.permutation(np.setdiff1d(by_class, test))
    return dict(zip(ARRAYS, (x[train], y[train], x[test], y[test])))


DATASET = Dataset(
    "digits",
    "digits",
    (8, 8),
    1_437,
    360,
    fingerprint="b8a0e6cb60b97e6f8d1350900fc35af35b67a4759658b4b255cbd11f65d1b0a7",
    embedded=_embedded,
)
