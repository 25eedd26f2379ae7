"""The methods, found by scanning this folder: every module-level `Method` of every file is one, by its own name.

To add a method, add a file. It holds a docstring (what it is, cost per step, source), the hyper-parameters as a
dataclass of `setting`s, two functions (initial state, one step for all R runs), and a `Method` that names them, with
its `Cost` and, where it has more than W and b, its `ByHand` (`am.method`). No registry is edited; the conformance
tests, `python -m reproduce methods` and the grids find it. A method sees training data only and never computes its own
metrics.
"""

import functools
import importlib
import pkgutil

from am.errors import InputError, unknown
from am.method import Method


@functools.cache
def methods() -> dict[str, Method]:
    """Every method of this folder, by name."""
    found: dict[str, Method] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        for value in vars(importlib.import_module(f"{__name__}.{module}")).values():
            if isinstance(value, Method) and found.setdefault(value.name, value) is not value:
                raise InputError(f"am/methods/{module}.py: a second method is named '{value.name}'.")
    return found


def method(name: str) -> Method:
    """The method of that name; raises InputError with the nearest valid one."""
    try:
        return methods()[name]
    except KeyError:
        raise unknown("method", name, methods()) from None
