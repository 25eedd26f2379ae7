"""Named data sets: fetched once, checked, fingerprinted, and laid on the device as one tensor (no DataLoader).

A data folder holds one NAME.npz a set: arrays x_train, y_train, x_test, y_test. It is the argument `folder`, else that
of `in_folder`, else the environment's AM_DATA, else "data" in the current folder. Of the known sets (`am.data.sets`)
what is missing is made of what the folder has in torchvision's layout, or downloaded by torchvision; a file that is
there is never overwritten. `digits` is scikit-learn's embedded set and has no file. Any other NAME.npz is a data set of
one's own (`am.data.own`).

A set is official when its arrays are the ones its authors published: mnist, fashion_mnist and digits by fingerprint;
cifar10 and svhn, whose official fingerprints are not known here, only when the file says that it was prepared from
torchvision's checksum-verified download and has the official numbers of images; one of one's own by the sha256 of its
NAME.toml.
"""

from am.data.base import ARRAYS, Data, Dataset, Images, Size, data_folder, in_folder
from am.data.files import Identity, ensure, fetch, fingerprint, identity_of, load, missing
from am.data.own import dataset, names, unusable
from am.data.sets import DATASETS, NAMES
from am.data.split import INPUTS, full_rows, held_out_size, prepare, training_rows

__all__ = [
    "ARRAYS",
    "DATASETS",
    "INPUTS",
    "NAMES",
    "Data",
    "Dataset",
    "Identity",
    "Images",
    "Size",
    "data_folder",
    "dataset",
    "ensure",
    "fetch",
    "fingerprint",
    "full_rows",
    "held_out_size",
    "identity_of",
    "in_folder",
    "load",
    "missing",
    "names",
    "prepare",
    "training_rows",
    "unusable",
]
