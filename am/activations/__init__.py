"""The activations, found by scanning this folder: the `ACTIVATION` of every file that has one.

To add an activation, add a file. It names value and derivative, which gradient methods need; with the inverse on its
range and a scalar prox, which a monotone one has, alternating-minimisation methods take it too (`base.Activation`). No
registry is edited; grids, the conformance tests and the fingerprints find it.
"""

import importlib
import pkgutil

from am.activations.base import Activation
from am.errors import InputError, unknown

__all__ = ["ACTIVATIONS", "Activation", "activation"]


def _found() -> dict[str, Activation]:
    found: dict[str, Activation] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        act = getattr(importlib.import_module(f"{__name__}.{module}"), "ACTIVATION", None)
        if act and found.setdefault(act.name, act) is not act:
            raise InputError(f"am/activations/{module}.py: a second activation is named '{act.name}'.")
    return found


ACTIVATIONS = _found()


def activation(name: str) -> Activation:
    """The activation of that name; raises InputError with the nearest valid one, also of a module or a function."""
    if not isinstance(name, str):
        word = getattr(name, "__name__", type(name).__name__)
        near = next((known for known in ACTIVATIONS if known.replace("_", "") == word.lower().replace("_", "")), "relu")
        raise InputError(f"activation must be a name, for example '{near}', not {word}.")
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise unknown("activation", name, ACTIVATIONS) from None
