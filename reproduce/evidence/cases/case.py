"""A case of a component, and how its values are written."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

DIGITS = 11  # of a number on disk: a hundred times finer than it is compared

Values = dict[str, Any]  # name -> number, list of numbers, text or list of texts; a number that is not finite is text


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from the one that is kept.

    relative: to the largest magnitude in its list.  absolute: beside that.
    """

    relative: float = 1e-9
    absolute: float = 1e-13


@dataclass(frozen=True)
class Case:
    """What `of` gives in one case. values: computes it.

    uses: other components that it goes through, which may move it by a step of theirs.
    tolerances: of the values whose names end so; of the others `Tolerance()`. Whole numbers and text allow none.
    also: other ways to the same values, by what they are called.
    """

    of: str
    name: str
    values: Callable[[], Values]
    uses: tuple[str, ...] = ()
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    also: dict[str, Callable[[], Values]] = field(default_factory=dict)

    def tolerance(self, name: str) -> Tolerance:
        """That of a value."""
        return next((found for end, found in self.tolerances.items() if name.endswith(end)), Tolerance())


def written(value: Any) -> Any:
    """A value as JSON has it: tensors as flat lists, floats to DIGITS digits."""
    if isinstance(value, Tensor):
        return written(value.flatten().tolist())
    if isinstance(value, (list, tuple)):
        return [written(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
    return value
