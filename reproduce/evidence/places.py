"""Where evidence lies: one folder a profile below the results and the figures, `paper` in the folder itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from am.errors import InputError, unknown

PROFILES = ("smoke", "light", "paper")
RESULTS, FIGURES = Path("results"), Path("figures")


@dataclass(frozen=True)
class Places:
    """Where a command reads and writes.

    root: of the results of all profiles.  drawn: of their figures.  data: of the data sets; None: the usual one.
    grids: of the user's own grids; None: the suite's.
    """

    profile: str
    root: Path
    drawn: Path
    data: str | None = None
    grids: Path | None = None

    @property
    def results(self) -> Path:
        return place(self.root, self.profile)

    @property
    def figures(self) -> Path:
        return place(self.drawn, self.profile)


def figures_folder(results: Path | None) -> Path:
    """Where the figures of these results go: what is trained elsewhere is drawn there, beside no other's figures."""
    return FIGURES if results is None or results.resolve() == RESULTS.resolve() else results / "figures"


def place(root: Path, profile: str) -> Path:
    """The folder of a profile below `root`."""
    return root if profile == "paper" else root / profile


def grids_with_csvs(root: Path, profile: str) -> list[str]:
    """The grids that have a runs.csv under a profile."""
    return sorted(path.parent.name for path in place(root, profile).glob("*/runs.csv"))


def profiles_with_csvs(root: Path, profile: str | None = None) -> dict[str, list[str]]:
    """Profile -> its grids that have CSVs; only `profile` where it is given."""
    if profile and profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    found = {one: grids_with_csvs(root, one) for one in ([profile] if profile else PROFILES)}
    return {one: grids for one, grids in found.items() if grids}


def grids_to_show(root: Path, names: Sequence[str] = (), profile: str | None = None) -> dict[str, list[str]]:
    """As `profiles_with_csvs`, of `names` alone where there are some. Raises InputError for what has no CSVs."""
    found = profiles_with_csvs(root, profile)
    where = place(root, profile) if profile else root
    if not found:
        raise InputError(f"no grid has CSVs in {where}; run `make quickstart` or `make reproduce-all` first.")
    for name in names:
        if not any(name in grids for grids in found.values()):
            raise InputError(f"the grid {name} has no CSVs in {where}; run `make reproduce-{name}` first.")
    chosen = {one: [name for name in grids if not names or name in names] for one, grids in found.items()}
    return {one: grids for one, grids in chosen.items() if grids}
