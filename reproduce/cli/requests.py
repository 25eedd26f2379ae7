"""What commands are asked for, as their options say it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from am.errors import InputError, unknown
from am.machine import cores
from reproduce.evidence.places import RESULTS, Places, grids_to_show, place
from reproduce.plan.goal import Narrowing
from reproduce.plan.grid import Grid, grid_names, load_grid
from reproduce.run.engines.work import device_of
from reproduce.run.session import Machine


@dataclass(frozen=True)
class Training:
    """Of the commands that plan, train and collect."""

    grids: Sequence[str]
    grid_folder: Path | None
    profile: str | None
    seeds: int | None
    methods: str
    datasets: str
    data: str | None
    device: str
    jobs: int | None
    engine: str
    address: str | None
    deadline: float | None
    share: tuple[int, int] | None
    graphs: bool
    seeds_per_round: int
    debug: bool
    results: Path | None
    figures: Path

    @property
    def narrowing(self) -> Narrowing:
        return Narrowing(self.seeds, listed(self.methods), listed(self.datasets), self.share, self.seeds_per_round)

    def places(self, device: torch.device) -> Places:
        """device: what the profile follows, where none is asked for."""
        profile = self.profile or ("paper" if device.type == "cuda" else "light")
        return Places(profile, self.results or RESULTS, self.figures, self.data, self.grid_folder)

    def machine(self) -> Machine:
        """Raises InputError for what the device or the engine cannot do."""
        device = device_of(self.device)
        if self.graphs and device.type != "cuda":
            raise InputError(
                "--graphs (GRAPHS=1) was asked for and the device is the CPU, which has no CUDA graphs; leave it out."
            )
        if self.address and self.engine != "ray":
            raise InputError("--address is that of a Ray cluster; it needs --engine ray.")
        if self.deadline and self.engine != "ray":
            raise InputError("--deadline is how long a stack may take on a Ray cluster; it needs --engine ray.")
        jobs = self.jobs or (1 if device.type == "cuda" else cores())
        engine = (self.engine, self.address, self.deadline)
        return Machine(device, jobs, self.jobs, *engine, graphs=self.graphs, debug=self.debug)


@dataclass(frozen=True)
class Csvs:
    """Of the commands that work on the CSVs of grids. grids: all that have some, where none is named."""

    results: Path
    grids: Sequence[str]
    profile: str | None
    grid_folder: Path | None

    def known(self, others: Iterable[str] = ()) -> list[str]:
        """The names of all grids; raises InputError where one that is asked for is none of them, nor of `others`."""
        known = grid_names(self.grid_folder)
        for name in self.grids:
            if name not in (there := {*known, *others}):
                raise unknown("grid", name, there)
        return known

    def folders(self) -> list[Path]:
        """Those with CSVs, under every profile that they have."""
        found = grids_to_show(self.results, self.grids, self.profile)
        return [place(self.results, profile) / name for profile, names in found.items() for name in names]

    def each(self) -> Iterator[tuple[Path, str, Grid]]:
        """(folder of the profile, name, grid) of those that have CSVs, under every profile that they have."""
        known = self.known()
        for profile, names in grids_to_show(self.results, self.grids, self.profile).items():
            for name in (name for name in names if name in known):
                yield place(self.results, profile), name, load_grid(name, profile, folder=self.grid_folder)


def listed(words: str) -> tuple[str, ...]:
    """The words of an option that takes several, separated by commas."""
    return tuple(word for word in words.split(",") if word)
