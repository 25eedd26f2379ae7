"""Grids: one TOML file per table or figure, scaled by a profile; everything is checked before anything runs.

A grid is data sets x networks x activations x method settings x seeds. `reproduce.run.plan` turns it into runs.
"""

import dataclasses
import itertools
import math
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from am.activations import activation
from am.data import INPUTS, NAMES
from am.errors import InputError, unknown
from am.method import Method
from am.methods import method
from am.networks import check_initialisation
from reproduce.run.config import CONSTANTS, NETWORKS
from reproduce.run.places import PROFILES

FOLDER = Path(__file__).parents[1] / "grids"
# Not part of "all": a trial of the pipeline, and grids that would take `light` past 40 minutes on two cores.
APART = ("quickstart", "published_bcd", "released_vs_paper", "scale")
LANES = ("accuracy", "time")
RULES = ("paper", "tuned")
TAKEN = (*PROFILES, "bench", "bench_gpu")  # folders beside those of the grids
# What a profile `smoke` does to a grid that says nothing of its own: the embedded data, seconds.
SMOKE = dict(datasets=["digits"], n_train=500, seeds=2, epochs=4, evaluate_every=1)
PER_METHOD = (
    "batch_size",
    "constants",
    "epochs",
    "evaluate_every",
    "first_seed",
    "hidden",
    "init",
    "inputs",
    "n_train",
)
AXES = ("n_train", "constants")  # a list of values runs each
BLOCK = dict(name=str, label=str, set=dict, over=dict)  # of a [[methods]] block, besides PER_METHOD


@dataclass(frozen=True)
class Entry:
    """One method setting of a grid. given: the hyper-parameters that the grid sets, which no tuning changes."""

    method: Method
    label: str
    settings: Any
    overrides: dict[str, Any]
    given: frozenset[str]


@dataclass(frozen=True)
class Target:
    """An accuracy that curves are asked to reach: on each data set, this share of the median final validation accuracy
    of the label `reference`."""

    reference: str
    share: float


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
    network: str
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


_TYPES: dict[str, type | tuple[type, ...]] = dict(
    title=str,
    paper=str,
    question=str,
    rule=str,
    lane=str,
    datasets=list,
    hidden=list,
    activations=list,
    init=str,
    inputs=str,
    network=str,
    n_train=(int, str, list),
    constants=(str, list),
    batch_size=int,
    epochs=int,
    evaluate_every=(int, float),
    gradient_norm=bool,
    seeds=int,
    first_seed=int,
    trials=int,
)
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
    found = sorted(path.stem for path in folder.glob("*.toml"))
    if not found:
        raise InputError(f"{folder} holds no grid, NAME.toml; choose another folder with --grids.")
    return sorted(found, key=lambda name: (name != "quickstart", name))


def load_grid(
    name: str, profile: str, seeds: int | None = None, only: Sequence[str] = (), folder: Path | None = None
) -> Grid:
    """The grid `name` under a profile; `seeds` and `only` (method names) narrow it. InputError for a bad word."""
    if name not in grid_names(folder):
        raise unknown("grid", name, grid_names(folder))
    return read_grid((folder or FOLDER) / f"{name}.toml", profile, seeds, only)


def targets_of(name: str, folder: Path | None = None) -> tuple[Target, ...]:
    """The targets of a grid by name; none of a results folder that belongs to no grid."""
    return load_grid(name, "light", folder=folder).targets if name in grid_names(folder) else ()


def read_grid(path: Path, profile: str, seeds: int | None = None, only: Sequence[str] = ()) -> Grid:
    """The grid of a TOML file; as `load_grid`."""
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    place = f"{path.parent.name}/{path.name}"
    if path.stem in TAKEN:
        raise InputError(f"{place}: '{path.stem}' is the name of a folder of results; call the grid something else.")
    try:
        raw = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{place} is not valid TOML: {error}.") from None
    profiles = raw.pop("profile", {})
    if not isinstance(profiles, dict):
        raise InputError(f"{place}: 'profile' must be tables, for example [profile.light], not {profiles!r}.")
    for word, table in profiles.items():
        if word not in PROFILES:
            raise unknown("profile", word, PROFILES, place)
        if not isinstance(table, dict):
            raise InputError(f"{place}: 'profile.{word}' must be a table, not {table!r}.")
        # Those not asked for now, too: a typo is refused at once, not when a GPU is there.
        _check_table(f"{place}: profile.{word}", table)
    blocks, goals = raw.pop("methods", []), raw.pop("target", [])
    _check_table(place, raw)
    values = _DEFAULTS | raw | (SMOKE if profile == "smoke" else {}) | profiles.get(profile, {})
    for key in _TYPES:
        if key not in values:
            raise InputError(f"{place}: the key '{key}' is missing.")
    if seeds is not None:
        values["seeds"] = seeds
    if values["trials"] < 0 or (values["rule"] == "tuned") != (values["trials"] > 0):
        raise InputError(
            f"{place}: 'trials' is {values['trials']} under rule '{values['rule']}'; tuned needs some, paper none."
        )
    entries = tuple(_entries(place, blocks))
    targets = tuple(_targets(place, goals, [entry.label for entry in entries]))
    for word in only:
        method(word)
    if only:
        entries = tuple(e for e in entries if e.method.name in only)
    values |= _axes(values)
    grid = Grid(name=path.stem, profile=profile, entries=entries, targets=targets, **values)
    for entry, act in itertools.product(grid.entries, grid.activations):
        for hidden in entry.overrides.get("hidden", grid.hidden):
            with _told(place):
                entry.method.check(entry.settings, activation(act), (1, *hidden, 10))
    return grid


def _axes(values: dict[str, Any]) -> dict[str, list]:
    """Training rows (0 for all) and constants as the lists that they may be."""
    lists = {key: values[key] if isinstance(values[key], list) else [values[key]] for key in AXES if key in values}
    return {key: [0 if value == "all" else value for value in found] for key, found in lists.items()}


@contextmanager
def _told(place: str) -> Iterator[None]:
    """An InputError of the block gets the place in front of it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_table(place: str, values: dict[str, Any]) -> None:
    for key, value in values.items():
        _check_type(place, key, value)
    _check_values(place, values)


def _check_type(place: str, key: str, value: Any) -> None:
    if key not in _TYPES:
        raise unknown("key", key, (*_TYPES, "methods", "profile", "target"), place)
    if not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and _TYPES[key] is not bool):
        kinds = _TYPES[key] if isinstance(_TYPES[key], tuple) else (_TYPES[key],)
        raise InputError(f"{place}: '{key}' must be {' or '.join(k.__name__ for k in kinds)}, not {value!r}.")


def _check_values(place: str, values: dict[str, Any]) -> None:
    lists = {key: values[key] for key in ("datasets", "hidden", "activations") if key in values} | _axes(values)
    for key, found in lists.items():
        if not found:
            raise InputError(f"{place}: '{key}' is empty, so there is nothing to run.")
        for i, value in enumerate(found):
            if value in found[:i]:
                raise InputError(f"{place}: '{key}' names {value!r} twice.")
    for word in values.get("datasets", ()):
        if word not in NAMES:
            raise unknown("data set", word, NAMES, place)
    for word in values.get("activations", ()):
        with _told(place):
            activation(str(word))
    for key, valid in (("rule", RULES), ("lane", LANES), ("inputs", INPUTS), ("network", NETWORKS)):
        if key in values and values[key] not in valid:
            raise unknown(f"value of '{key}'", values[key], valid, place)
    for word in lists.get("constants", ()):
        if word not in CONSTANTS:
            raise unknown("value of 'constants'", str(word), CONSTANTS, place)
    if "init" in values:
        with _told(place):
            check_initialisation(values["init"])
    for key in ("batch_size", "epochs", "evaluate_every", "seeds"):
        if key in values and not 0 < values[key] < math.inf:
            raise InputError(f"{place}: '{key}' must be positive, not {values[key]!r}.")
    if values.get("first_seed", 0) < 0:
        raise InputError(f"{place}: 'first_seed' must not be negative, not {values['first_seed']!r}.")
    given = values.get("n_train", "all")
    for n in given if isinstance(given, list) else [given]:
        if n != "all" and (type(n) is not int or n <= 0):
            raise InputError(f"{place}: 'n_train' must be a positive number or \"all\", not {n!r}.")
    for widths in values.get("hidden", ()):
        if not (isinstance(widths, list) and widths and all(isinstance(w, int) and w > 0 for w in widths)):
            raise InputError(
                f"{place}: 'hidden' must be a list of lists of widths, for example [[100, 100]], not {widths!r}."
            )


def _entries(place: str, blocks: list[dict]) -> Iterator[Entry]:
    """Every method setting: a block's `set`, times the product of the lists in its `over`."""
    if not (isinstance(blocks, list) and blocks and all(isinstance(block, dict) for block in blocks)):
        raise InputError(f"{place}: the methods must be given as [[methods]] blocks, one at the least.")
    labels: set[str] = set()
    for block in blocks:
        for key, value in block.items():
            if key not in (*BLOCK, *PER_METHOD):
                raise unknown("key", key, (*BLOCK, *PER_METHOD), f"{place}: methods")
            if not isinstance(value, BLOCK.get(key, object)):
                raise InputError(f"{place}: methods: '{key}' must be {BLOCK[key].__name__}, not {value!r}.")
        if "name" not in block:
            raise InputError(f"{place}: a [[methods]] block has no 'name'.")
        with _told(place):
            chosen = method(block["name"])
        overrides = {key: block[key] for key in PER_METHOD if key in block}
        _check_table(f"{place}: {chosen.name}", overrides)
        overrides |= _axes(overrides)
        over = block.get("over", {})
        for key, points in over.items():
            if not (isinstance(points, list) and points):
                raise InputError(f"{place}: {chosen.name}: 'over' needs a list of values of '{key}', not {points!r}.")
        for point in itertools.product(*over.values()):
            varied = dict(zip(over, point))
            settings = chosen.settings(block.get("set", {}) | varied, f"{place}: {chosen.name}")
            label = _label(f"{place}: {chosen.name}", block.get("label", chosen.title), dataclasses.asdict(settings))
            if label in labels:
                raise InputError(
                    f"{place}: two method settings are labelled '{label}'; give each block its own 'label'."
                )
            labels.add(label)
            yield Entry(chosen, label, settings, overrides, frozenset(block.get("set", {})) | frozenset(varied))


def _targets(place: str, goals: Any, labels: Sequence[str]) -> Iterator[Target]:
    example = 'target = [{ reference = "SGD", share = 0.98 }]'
    if not (isinstance(goals, list) and all(isinstance(goal, dict) for goal in goals)):
        raise InputError(f"{place}: 'target' must be a list of tables, for example {example}, not {goals!r}.")
    for goal in goals:
        for key in goal:
            if key not in ("reference", "share"):
                raise unknown("key", key, ("reference", "share"), f"{place}: target")
        if goal.get("reference") not in labels:
            raise unknown("label", goal.get("reference"), labels, f"{place}: target: reference")
        share = goal.get("share")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"{place}: target: 'share' must lie in (0, 1], not {share!r}.")
        yield Target(goal["reference"], float(share))


def _label(place: str, text: str, settings: dict[str, Any]) -> str:
    try:
        return text.format_map(settings)
    except KeyError as error:
        raise unknown("hyper-parameter", error.args[0], settings, f"{place}: label '{text}'") from None
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise InputError(f"{place}: the label '{text}' is no text with {{hyper-parameters}} ({error}).") from None
