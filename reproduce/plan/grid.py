"""Grids: one TOML file per table or figure, scaled by a profile; everything is checked before anything runs.

A grid is data sets x networks x activations x method settings x seeds. `reproduce.plan.plan` turns it into runs.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from am.activations import activation
from am.contract import tried
from am.data import dataset
from am.errors import InputError, unknown
from am.method import Method
from am.methods import method
from am.modules.networks import NETWORKS
from am.modules.optimizers import check_module
from reproduce.evidence.about import NOTHING, About, Abouts, Target
from reproduce.evidence.config import MLP
from reproduce.evidence.places import PROFILES
from reproduce.plan.checks import (
    MOST_RUNS,
    PER_METHOD,
    TYPES,
    axes,
    check_block,
    check_over,
    check_rows,
    check_table,
    clipped,
    make_label,
    read_toml,
    shown,
    told,
    unknown_key,
)

FOLDER = Path(__file__).parents[1] / "grids"
# Not part of "all": a trial of the pipeline, and grids that would add hours to `light` on two cores.
APART = (
    "quickstart", "fair", "fair_minibatch", "scale", "published_bcd", "released_vs_paper", "samt_networks",
    "samt_networks_resnet20",
)  # fmt: skip
TAKEN = (*PROFILES, "bench", "bench_gpu")  # folders beside those of the grids
# What a profile `smoke` does to a grid that says nothing of its own: the embedded data, seconds.
SMOKE = dict(datasets=["digits"], n_train=500, seeds=2, epochs=4, evaluate_every=1)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a grid: it becomes a folder


@dataclass(frozen=True)
class Entry:
    """One method setting of a grid. given: the hyper-parameters that the grid sets, which no tuning changes."""

    method: Method
    label: str
    settings: Any
    overrides: dict[str, Any]
    given: frozenset[str]


@dataclass(frozen=True)
class Grid:
    """A grid under one profile."""

    name: str
    profile: str
    title: str
    paper: str
    question: str
    rule: str
    lane: str
    datasets: list[str]
    hidden: list[list[int]]
    activations: list[str]
    init: str
    inputs: str
    networks: dict[str, str]  # data set -> its network
    n_train: list[int]  # 0: all
    constants: list[str]
    batch_size: int
    epochs: int
    evaluate_every: float
    gradient_norm: bool
    seeds: int
    first_seed: int
    trials: int  # of each method setting on each problem; 0 under rule "paper"
    entries: tuple[Entry, ...]
    targets: tuple[Target, ...]  # the first is the one that figures show
    floors: dict[str, float]  # data set -> test accuracy that a sound baseline is above, for figures
    file: str  # as messages name it
    replaced: dict[str, Any]  # what profile `smoke` has put in place of the file's own values

    @property
    def about(self) -> About:
        return About(self.title, self.question, tuple(self.datasets), self.targets, self.floors)


_DEFAULTS = dict(
    rule="paper",
    lane="accuracy",
    gradient_norm=False,
    first_seed=0,
    trials=0,
    hidden=[[100, 100]],
    activations=["relu"],
    init="torch",
    inputs="unit",
    network="mlp",
    n_train="all",
    constants="scaled",
    batch_size=128,
    evaluate_every=1,
)


def grid_names(folder: Path | None = None) -> list[str]:
    """The grids of a folder, by default this suite's, in the order in which `all` runs them."""
    folder = folder or FOLDER
    found = sorted(path.name.removesuffix(".toml") for path in folder.glob("*.toml"))
    if not found:
        raise InputError(f"{folder} holds no grid, NAME.toml; choose another folder with --grids.")
    for name in found:
        if not NAME.fullmatch(name) or name == "all":
            raise InputError(
                f"{folder}/{clipped(repr(name + '.toml')[1:-1])}: a grid's file needs another name, NAME.toml with a "
                "NAME of letters, digits, '_', '-' and '.' that begins with a letter or digit and is not 'all'."
            )
    return sorted(found, key=lambda name: (name != "quickstart", name))


def load_grid(
    name: str, profile: str, seeds: int | None = None, only: Sequence[str] = (), folder: Path | None = None
) -> Grid:
    """The grid `name` under a profile; `seeds` and `only` (method names) narrow it. InputError for a bad word."""
    if name not in grid_names(folder):
        raise unknown("grid", name, grid_names(folder))
    return read_grid((folder or FOLDER) / f"{name}.toml", profile, seeds, only)


def abouts(folder: Path | None = None, *others: Path) -> Abouts:
    """What there is to tell of the grids of a folder, and of other folders where it has none of the name."""
    homes = {name: place for place in reversed((folder or FOLDER, *others)) for name in grid_names(place)}
    found = functools.cache(lambda name, profile: load_grid(name, profile, folder=homes[name]).about)
    return lambda name, profile: found(name, profile) if name in homes else NOTHING


def read_grid(path: Path, profile: str, seeds: int | None = None, only: Sequence[str] = ()) -> Grid:
    """The grid of a TOML file; as `load_grid`."""
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    place = f"reproduce/grids/{path.name}" if path.parent == FOLDER else str(path)
    if path.stem in TAKEN:
        raise InputError(f"{place}: '{path.stem}' is the name of a folder of results; call the grid something else.")
    raw = read_toml(path, place)
    profiles = raw.pop("profile", {})
    if not isinstance(profiles, dict):
        raise InputError(f"{place}: 'profile' must be tables, for example [profile.light], not {shown(profiles)}.")
    for word, table in profiles.items():
        if word not in PROFILES:
            raise unknown("profile", word, PROFILES, place)
        if not isinstance(table, dict):
            raise InputError(f"{place}: 'profile.{word}' must be a table, not {shown(table)}.")
        # Those not asked for now, too: a typo is refused at once, not when a GPU is there.
        check_table(f"{place}: profile.{word}", table)
    blocks, goals, floors = raw.pop("methods", []), raw.pop("target", []), raw.pop("floors", {})
    check_table(place, raw)
    own = profiles.get(profile, {})
    smoke = [key for key in SMOKE if key not in own and profile == "smoke"]
    values = _DEFAULTS | raw | {key: SMOKE[key] for key in smoke} | own
    for key in TYPES:
        if key not in values:
            raise InputError(f"{place}: the key '{key}' is missing.")
    if seeds is not None:
        values["seeds"] = seeds
    if (values["rule"] == "tuned") != (values["trials"] > 0):
        raise InputError(
            f"{place}: 'trials' is {values['trials']} under rule '{values['rule']}'; tuned needs some, paper none."
        )
    entries = tuple(_entries(place, blocks))
    targets = tuple(_targets(place, goals, [entry.label for entry in entries]))
    for word in only:
        method(word)
    if only:
        entries = tuple(e for e in entries if e.method.name in only)
    values |= axes(values)
    values["networks"] = _networks(place, values.pop("network"), values["datasets"])
    if MLP not in values["networks"].values() and any(
        "hidden" in table for table in (raw, *profiles.values(), *blocks)
    ):
        raise InputError(f"{place}: 'hidden' belongs to network '{MLP}'; the other networks have layers of their own.")
    grid = Grid(
        name=path.stem,
        profile=profile,
        entries=entries,
        targets=targets,
        floors=_floors(place, floors),
        file=place,
        replaced={key: SMOKE[key] for key in smoke if key in raw and SMOKE[key] not in (raw[key], [raw[key]])},
        **values,
    )
    check_rows(place, grid.n_train, grid.datasets)
    for entry in entries:  # on the sets that the file names: `smoke` puts another in their place, and takes all it has
        check_rows(f"{place}: {entry.label}", entry.overrides.get("n_train", ()), raw.get("datasets", grid.datasets))
    if (count := _runs_of(grid)) > MOST_RUNS:
        raise InputError(
            f"{place}: data sets, networks, activations, methods, 'seeds' and 'trials' multiply to {count:,} runs; "
            f"a grid has at most {MOST_RUNS:,}."
        )
    for entry, act, (name, network) in itertools.product(grid.entries, grid.activations, grid.networks.items()):
        with told(place):
            if network != MLP:
                check_module(entry.method, network, name, act, entry.overrides.get("init", grid.init))
            for hidden in widths_of(grid, entry, name) if network == MLP else ():
                entry.method.check(entry.settings, activation(act), (1, *hidden, dataset(name).classes))
                tried(entry.method, entry.settings, activation(act), depth=len(hidden) + 1)
    return grid


def widths_of(grid: Grid, entry: Entry, dataset: str) -> Sequence[Sequence[int]]:
    """The hidden widths with which a method setting runs on a data set: the network's own, where it has layers."""
    network = grid.networks[dataset]
    return entry.overrides.get("hidden", grid.hidden) if network == MLP else [NETWORKS[network].hidden]


def _networks(place: str, given: str | dict[str, str], datasets: Sequence[str]) -> dict[str, str]:
    """The network of each data set, from one for all or from a table."""
    if isinstance(given, str):
        return dict.fromkeys(datasets, given)
    for name in datasets:
        if name not in given:
            raise InputError(
                f"{place}: 'network' names none for {name}; write {name} = \"lenet5\" into it, or another."
            )
    return {name: given[name] for name in datasets}


def _runs_of(grid: Grid) -> int:
    """How many runs the grid plans, at the most."""
    axes_of = lambda entry, key: len(entry.overrides.get(key, getattr(grid, key)))
    points = sum(axes_of(e, "hidden") * axes_of(e, "n_train") * axes_of(e, "constants") for e in grid.entries)
    return len(grid.datasets) * len(grid.activations) * points * (grid.seeds + grid.trials)


def _entries(place: str, blocks: list[dict]) -> Iterator[Entry]:
    """Every method setting: a block's `set`, times the product of the lists in its `over`."""
    if not (isinstance(blocks, list) and blocks and all(isinstance(block, dict) for block in blocks)):
        raise InputError(f"{place}: the methods must be given as [[methods]] blocks, one at the least.")
    labels: set[str] = set()
    for block in blocks:
        check_block(place, block)
        with told(place):
            chosen = method(block["name"])
        overrides = {key: block[key] for key in PER_METHOD if key in block}
        check_table(f"{place}: {chosen.name}", overrides)
        overrides |= axes(overrides)
        given, over = block.get("set", {}), block.get("over", {})
        where = f"{place}: {chosen.name}"
        check_over(where, over)
        known = dataclasses.asdict(chosen.settings())
        for key in (*given, *over):
            if key not in known:
                raise unknown_key(key, tuple(known), where, "hyper-parameter")
        for point in itertools.product(*over.values()):
            varied = dict(zip(over, point))
            settings = chosen.settings(given | varied, where)
            label = make_label(where, block.get("label", chosen.title), dataclasses.asdict(settings))
            if label in labels:
                raise InputError(
                    f"{place}: two method settings are labelled '{label}'; give each block its own 'label'."
                )
            labels.add(label)
            if len(labels) > MOST_RUNS:
                raise InputError(f"{place}: the methods have more than {MOST_RUNS:,} settings; a grid takes no more.")
            yield Entry(chosen, label, settings, overrides, frozenset(given) | frozenset(varied))


def _floors(place: str, floors: Any) -> dict[str, float]:
    example = "floors = { mnist = 0.97 }"
    if not isinstance(floors, dict):
        raise InputError(f"{place}: 'floors' must be a table, for example {example}, not {shown(floors)}.")
    for name, accuracy in floors.items():
        with told(f"{place}: floors"):
            dataset(name)
        if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not 0 < accuracy < 1:
            raise InputError(f"{place}: floors: '{name}' must be an accuracy in (0, 1), not {shown(accuracy)}.")
    return {name: float(accuracy) for name, accuracy in floors.items()}


def _targets(place: str, goals: Any, labels: Sequence[str]) -> Iterator[Target]:
    example = 'target = [{ reference = "SGD", share = 0.98 }]'
    if not (isinstance(goals, list) and all(isinstance(goal, dict) for goal in goals)):
        raise InputError(f"{place}: 'target' must be a list of tables, for example {example}, not {shown(goals)}.")
    for goal in goals:
        for key in goal:
            if key not in ("reference", "share"):
                raise unknown("key", key, ("reference", "share"), f"{place}: target")
        if goal.get("reference") not in labels:
            raise unknown("label", goal.get("reference"), labels, f"{place}: target: reference")
        share = goal.get("share")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"{place}: target: 'share' must lie in (0, 1], not {shown(share)}.")
        yield Target(goal["reference"], float(share))
