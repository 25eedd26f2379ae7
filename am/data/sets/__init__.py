"""The known data sets, found by scanning this folder: the `DATASET` of every file.

To add one that others can fetch, add a file. One of your own needs none: NAME.npz in the data folder is a data set
(docs/own-data.md).
"""

import importlib
import pkgutil

from am.data.base import Dataset
from am.errors import InputError


def _found() -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        known = importlib.import_module(f"{__name__}.{module}").DATASET
        if found.setdefault(known.name, known) is not known:
            raise InputError(f"am/data/sets/{module}.py: a second data set is named '{known.name}'.")
    return found


DATASETS = _found()
NAMES = tuple(DATASETS)
