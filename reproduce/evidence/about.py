"""What readers of a grid's CSVs must be told beside them, for it stands in the grid's file alone."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """An accuracy that curves are asked to reach: on each data set, this share of the median final validation accuracy
    of the label `reference`."""

    reference: str
    share: float


@dataclass(frozen=True)
class About:
    """A grid under a profile, as far as those need it who judge and show. Nothing of a grid that nobody knows."""

    title: str = ""
    question: str = ""
    datasets: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()  # the first is the one that figures show
    floors: dict[str, float] = field(default_factory=dict)  # data set -> accuracy that a sound baseline is above

    @property
    def target(self) -> Target | None:
        """The one that figures show."""
        return next(iter(self.targets), None)


NOTHING = About()
Abouts = Callable[[str, str], About]  # (grid, profile) -> what there is to tell
