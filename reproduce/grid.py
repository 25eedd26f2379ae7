"""Grids: one TOML file per table or figure; a profile scales it; `plan` turns it into runs, grouped into stacks.

A grid is data sets x networks x activations x method settings x seeds. Everything is checked before anything runs.
"""

import ast
import dataclasses
import functools
import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import am
from am.activations import activation
from am.data import NAMES
from am.errors import InputError, unknown
from am.methods import Method, method, methods
from am.networks import check_initialisation
from am.training import Budget, largest_stack

FOLDER = Path(__file__).parent / "grids"
PROFILES = ("smoke", "light", "paper")
INPUTS = ("unit", "standardised")
RULES = ("paper", "tuned")
# What a profile `smoke` does to a grid that says nothing of its own: the embedded data, seconds.
SMOKE = dict(datasets=["digits"], n_train=500, seeds=2, epochs=4, evaluate_every=1)
PER_METHOD = ("batch_size", "epochs", "evaluate_every", "init", "inputs", "n_train")


@dataclass(frozen=True)
class RunConfig:
    """What determines a run's numbers. `run_key` hashes it together with the code it depends on."""

    dataset: str
    data_fingerprint: str
    n_train: int  # 0: all
    inputs: str
    activation: str
    hidden: tuple[int, ...]
    init: str
    method: str
    settings: tuple[tuple[str, Any], ...]
    seed: int
    epochs: int
    batch_size: int  # 0: full batch
    evaluate_every: float

    @property
    def budget(self) -> Budget:
        return Budget(self.epochs, self.batch_size, self.evaluate_every)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid: its configuration, its key in the store and what the grid calls it."""

    config: RunConfig
    run_key: str
    label: str
    official: bool


@dataclass(frozen=True)
class Entry:
    """One method setting of a grid."""

    method: Method
    label: str
    settings: Any
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """A grid under one profile."""

    name: str
    profile: str
    title: str
    paper: str
    question: str
    rule: str
    datasets: list[str]
    hidden: list[list[int]]
    activations: list[str]
    init: str
    inputs: str
    n_train: int
    batch_size: int
    epochs: int
    evaluate_every: float
    seeds: int
    entries: tuple[Entry, ...]


_TYPES: dict[str, type | tuple[type, ...]] = dict(
    title=str,
    paper=str,
    question=str,
    rule=str,
    datasets=list,
    hidden=list,
    activations=list,
    init=str,
    inputs=str,
    n_train=(int, str),
    batch_size=int,
    epochs=int,
    evaluate_every=(int, float),
    seeds=int,
)
_DEFAULTS = dict(
    rule="paper",
    hidden=[[100, 100]],
    activations=["relu"],
    init="he",
    inputs="unit",
    n_train="all",
    batch_size=128,
    evaluate_every=1,
)


def grid_names() -> list[str]:
    """The grids of this suite, in the order in which `all` runs them."""
    found = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return sorted(found, key=lambda name: (name != "quickstart", name))


def load_grid(name: str, profile: str, seeds: int | None = None, only: Sequence[str] = ()) -> Grid:
    """The grid `name` under a profile; `seeds` and `only` (method names) narrow it. Raises InputError for a bad word."""
    if name not in grid_names():
        raise unknown("grid", name, grid_names())
    return read_grid(FOLDER / f"{name}.toml", profile, seeds, only)


def read_grid(path: Path, profile: str, seeds: int | None = None, only: Sequence[str] = ()) -> Grid:
    """The grid of a TOML file; as `load_grid`."""
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    place = f"{path.parent.name}/{path.name}"
    try:
        raw = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{place} is not valid TOML: {error}.") from None
    profiles = raw.pop("profile", {})
    for word in profiles:
        if word not in PROFILES:
            raise unknown("profile", word, PROFILES, place)
    blocks = raw.pop("methods", [])
    values = _DEFAULTS | raw | (SMOKE if profile == "smoke" else {}) | profiles.get(profile, {})
    for key, value in values.items():
        _check_type(place, key, value)
    for key in _TYPES:
        if key not in values:
            raise InputError(f"{place}: the key '{key}' is missing.")
    if seeds is not None:
        values["seeds"] = seeds
    _check_values(place, values)
    entries = tuple(_entries(place, blocks))
    for word in only:
        method(word)
    if only:
        entries = tuple(e for e in entries if e.method.name in only)
    values["n_train"] = 0 if values["n_train"] == "all" else values["n_train"]
    grid = Grid(name=path.stem, profile=profile, entries=entries, **values)
    for entry, hidden, act in itertools.product(grid.entries, grid.hidden, grid.activations):
        try:
            entry.method.check(entry.settings, activation(act), (1, *hidden, 10))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    return grid


def _check_type(place: str, key: str, value: Any) -> None:
    if key not in _TYPES:
        raise unknown("key", key, (*_TYPES, "methods", "profile"), place)
    if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
        kinds = _TYPES[key] if isinstance(_TYPES[key], tuple) else (_TYPES[key],)
        raise InputError(f"{place}: '{key}' must be {' or '.join(k.__name__ for k in kinds)}, not {value!r}.")


def _check_values(place: str, values: dict[str, Any]) -> None:
    for word in values.get("datasets", ()):
        if word not in NAMES:
            raise unknown("data set", word, NAMES, place)
    for word in values.get("activations", ()):
        activation(word)
    for key, valid in (("rule", RULES), ("inputs", INPUTS)):
        if key in values and values[key] not in valid:
            raise unknown(f"value of '{key}'", values[key], valid, place)
    if "init" in values:
        check_initialisation(values["init"])
    for key in ("batch_size", "epochs", "evaluate_every", "seeds"):
        if key in values and values[key] <= 0:
            raise InputError(f"{place}: '{key}' must be positive, not {values[key]!r}.")
    n = values.get("n_train", "all")
    if n != "all" and (isinstance(n, str) or n <= 0):
        raise InputError(f"{place}: 'n_train' must be a positive number or \"all\", not {n!r}.")
    for widths in values.get("hidden", ()):
        if not (isinstance(widths, list) and widths and all(isinstance(w, int) and w > 0 for w in widths)):
            raise InputError(f"{place}: 'hidden' must be a list of lists of widths, for example [[100, 100]], not {widths!r}.")


def _entries(place: str, blocks: list[dict]) -> Iterator[Entry]:
    """Every method setting: a block's `set`, times the product of the lists in its `over`."""
    labels: set[str] = set()
    for block in blocks:
        for key in block:
            if key not in ("name", "label", "set", "over", *PER_METHOD):
                raise unknown("key", key, ("name", "label", "set", "over", *PER_METHOD), f"{place}: methods")
        if "name" not in block:
            raise InputError(f"{place}: a [[methods]] block has no 'name'.")
        chosen = method(block["name"])
        overrides = {key: block[key] for key in PER_METHOD if key in block}
        for key, value in overrides.items():
            _check_type(f"{place}: {chosen.name}", key, value)
        _check_values(f"{place}: {chosen.name}", overrides)
        if overrides.get("n_train") == "all":
            overrides["n_train"] = 0
        over = block.get("over", {})
        for point in itertools.product(*over.values()):
            varied = dict(zip(over, point))
            settings = chosen.settings(block.get("set", {}) | varied, f"{place}: {chosen.name}")
            label = block.get("label", chosen.title).format_map(dataclasses.asdict(settings))
            if label in labels:
                raise InputError(f"{place}: two method settings are labelled '{label}'; give each block its own 'label'.")
            labels.add(label)
            yield Entry(chosen, label, settings, overrides)


def plan(grid: Grid, fingerprints: dict[str, tuple[str, bool]]) -> list[PlannedRun]:
    """Every run of the grid, in the order of its CSV. fingerprints: data set -> (sha256, official)."""
    runs = []
    for dataset, hidden, act, entry, seed in itertools.product(
        grid.datasets, grid.hidden, grid.activations, grid.entries, range(grid.seeds)
    ):
        common = {key: entry.overrides.get(key, getattr(grid, key)) for key in PER_METHOD}
        if entry.method.full_batch:
            common["batch_size"] = 0
        fingerprint, official = fingerprints[dataset]
        config = RunConfig(
            dataset=dataset,
            data_fingerprint=fingerprint,
            activation=act,
            hidden=tuple(hidden),
            method=entry.method.name,
            settings=tuple(dataclasses.asdict(entry.settings).items()),
            seed=seed,
            **common,
        )
        runs.append(PlannedRun(config, run_key(config), entry.label, official))
    return runs


def stacks(runs: Sequence[PlannedRun], shapes: dict[str, tuple[int, int]], device: torch.device) -> list[list[PlannedRun]]:
    """Runs that train together: equal in all but seed and float settings, at the most what the machine holds.

    shapes: data set -> (inputs, training images). The grouping does not depend on what is already done, so a resumed
    grid makes the same stacks, and the same numbers, as an uninterrupted one.
    """
    groups: dict[tuple, list[PlannedRun]] = {}
    seen = set()
    for run in runs:
        if run.run_key not in seen:
            seen.add(run.run_key)
            shape = tuple((k, v) for k, v in run.config.settings if not isinstance(v, float))
            groups.setdefault((dataclasses.replace(run.config, seed=0, settings=shape),), []).append(run)
    made = []
    for group in groups.values():
        c = group[0].config
        inputs, rows = shapes[c.dataset]
        limit = largest_stack(
            method(c.method), (inputs, *c.hidden, 10), min(c.n_train or rows, rows), c.batch_size, device
        )
        parts = -(-len(group) // limit)  # as even as can be: 17 runs are 9 + 8, not 16 + 1
        size = -(-len(group) // parts)
        made += [group[i : i + size] for i in range(0, len(group), size)]
    return made


def run_key(config: RunConfig) -> str:
    """sha256 of the configuration and of the code it depends on, shortened to 20 hex digits."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True) + code_hash(config.method)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@functools.cache
def code_hash(name: str) -> str:
    """Hash of the method's file, the training loop, and every module of `am` that either of them imports.

    Taken over syntax trees without docstrings, so that a comment makes no result stale and any change of code does.
    """
    root = Path(am.__file__).parent
    defining = next(path for path in sorted((root / "methods").glob("*.py")) if _defines(path, name))
    files = _closure(root, [defining, root / "training.py", root / "data.py"])
    return hashlib.sha256("\n".join(f"{p.relative_to(root)} {_tree_hash(p)}" for p in files).encode()).hexdigest()


def _defines(path: Path, name: str) -> bool:
    module = __import__(f"am.methods.{path.stem}", fromlist=["_"]) if path.stem != "__init__" else None
    return any(isinstance(v, Method) and v is methods()[name] for v in vars(module).values()) if module else False


def _closure(root: Path, start: list[Path]) -> list[Path]:
    todo, seen = list(start), set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "am":
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.split(".")[0] == "am"]
            else:
                continue
            for dotted in names:
                base = root.joinpath(*dotted.split(".")[1:])
                todo += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file() and base != root]
    return sorted(seen)


def _tree_hash(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
