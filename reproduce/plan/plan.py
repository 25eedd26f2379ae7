"""A grid's runs, in the order of its CSV, and how they are stacked.

Under rule "paper" a method setting runs as the grid and the method's defaults give it; under rule "tuned" its search
space is tried first (`reproduce.plan.tuning`), and the seeds run with what was chosen.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from am.data import Identity, Size, full_rows, training_rows
from am.errors import InputError
from am.machine import largest_stack
from am.methods import method
from reproduce.evidence.config import MLP, RunConfig
from reproduce.evidence.key import counted_key
from reproduce.plan.grid import Entry, Grid, widths_of
from reproduce.plan.tuning import TUNING_SEED, best_trial, trial_settings


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid: its configuration, its key in the store and what the grid calls it."""

    config: RunConfig
    run_key: str
    label: str
    data: Identity
    trial: int | None = None  # of a tuning; None for a run that counts


_SHARED = {f.name for f in dataclasses.fields(RunConfig)} & {f.name for f in dataclasses.fields(Grid)}
Lookup = Callable[[str], dict[str, Any] | None]  # run key -> the stored run


def plan(grid: Grid, identities: dict[str, Identity], lookup: Lookup = lambda run_key: None) -> list[PlannedRun]:
    """Every run of the grid, in the order of its CSV. identities: of each data set, by name.

    Under rule "tuned" the trials come first, and the runs that count once all trials of a method setting are found.
    Raises InputError for a batch larger than the training set.
    """
    runs = []
    for dataset, act, entry in itertools.product(grid.datasets, grid.activations, grid.entries):
        common = {key: entry.overrides.get(key, getattr(grid, key)) for key in _SHARED}
        if entry.method.full_batch:
            common["batch_size"] = 0
        identity = identities[dataset]
        first_seed = entry.overrides.get("first_seed", grid.first_seed)
        constants, widths = common["constants"], widths_of(grid, entry, dataset)
        for hidden, n_train, scaling in itertools.product(widths, common["n_train"], constants):
            rows = training_rows(identity.rows, n_train)
            share = rows / full_rows(dataset, identity.rows)
            if common["batch_size"] > rows:
                raise InputError(
                    f"{grid.file}: {entry.label}: batch_size {common['batch_size']} is larger than the {rows} training "
                    f"images of {dataset}."
                )
            if scaling != constants[0] and (share == 1 or not entry.method.depends_on_rows):
                continue  # the two are one run

            base = RunConfig(
                dataset=dataset,
                data_fingerprint=identity.fingerprint,
                network=grid.networks[dataset],
                activation=act,
                method=entry.method.name,
                settings=(),
                seed=0,
                **common | dict(hidden=tuple(hidden), n_train=n_train, constants=scaling),
            )
            planned = functools.partial(_planned, base, entry, identity, share, lookup)
            settings = entry.settings
            if grid.rule == "tuned":
                space = {key: s for key, s in entry.method.search_space().items() if key not in entry.given}
                tried = trial_settings(entry.settings, space, grid.trials)
                trials = [planned(tried[i], TUNING_SEED, i) for i in range(grid.trials)]
                runs += trials
                best = best_trial([run.run_key for run in trials], lookup)
                if best is None:
                    continue
                settings = tried[best]
            runs += [planned(settings, first_seed + i) for i in range(grid.seeds)]
    return runs


def _planned(
    base: RunConfig,
    entry: Entry,
    identity: Identity,
    share: float,
    lookup: Lookup,
    settings: Any,
    seed: int,
    trial: int | None = None,
) -> PlannedRun:
    """The run of a seed with these settings. share: of the set's training rows, which scaled constants follow."""
    in_force = entry.method.scaled(settings, share) if base.constants == "scaled" else settings
    config = dataclasses.replace(base, settings=tuple(dataclasses.asdict(in_force).items()), seed=seed)
    if trial is not None:
        # A trial looks for a setting: stacked, evaluated at its end alone.
        alone = dict(read_test=False, lane="accuracy", gradient_norm=False, evaluate_every=base.epochs)
        config = dataclasses.replace(config, **alone)
    return PlannedRun(config, counted_key(config, lookup), entry.label, identity, trial)


def short_of_rows(grid: Grid, identities: dict[str, Identity]) -> list[str]:
    """A sentence for each data set whose copy has fewer training images than the grid asks for: all are taken."""
    asked = max((n for e in grid.entries for n in e.overrides.get("n_train", grid.n_train)), default=0)
    rows = {name: training_rows(identities[name].rows) for name in grid.datasets if name in identities}
    return [
        f"{grid.file}: n_train {asked:,} is more than the {count:,} training images of {name} at hand; all are taken."
        for name, count in rows.items()
        if asked > count
    ]


def rounds(plans: Sequence[Sequence[PlannedRun]], seeds: int = 1) -> Iterator[list[PlannedRun]]:
    """The runs of all plans by rounds: `seeds` of every setting of every plan, so that a stop leaves what is balanced.

    Trials are in the first round, before its seeds.
    """
    made: dict[int, list[PlannedRun]] = {}
    for runs in plans:
        first: dict[tuple, int] = {}
        for run in runs:
            setting = (run.label, dataclasses.replace(run.config, seed=0))
            seed = run.config.seed
            number = -1 if run.trial is not None else (seed - first.setdefault(setting, seed)) // seeds
            made.setdefault(number, []).append(run)
    trials = made.pop(-1, [])
    for number in sorted(made) or ([0] if trials else []):
        yield trials + made.get(number, [])
        trials = []


def alike(runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """Runs that can train together, each once: equal in all but seed and float settings."""
    groups: dict[RunConfig, list[PlannedRun]] = {}
    seen = set()
    for run in runs:
        if run.run_key not in seen:
            seen.add(run.run_key)
            shape = tuple((k, v) for k, v in run.config.settings if not isinstance(v, float))
            groups.setdefault(dataclasses.replace(run.config, seed=0, settings=shape), []).append(run)
    return list(groups.values())


def share_of(plans: Sequence[Sequence[PlannedRun]], number: int, shares: int, seeds: int = 1) -> set[str]:
    """The run keys of a share of the plans: every `shares`-th stack from the `number`-th on, counted from one.

    Counted before a machine's memory splits stacks and whatever is done already, so machines agree without a word.
    """
    owner: dict[str, int] = {}
    groups = (group for this_round in rounds(plans, seeds) for group in alike(this_round))
    for i, group in enumerate(groups):
        for run in group:
            owner.setdefault(run.run_key, i % shares + 1)
    return {run_key for run_key, owned in owner.items() if owned == number}


def stacks(
    runs: Sequence[PlannedRun], shapes: dict[str, Size], device: torch.device, workers: int = 1
) -> list[list[PlannedRun]]:
    """Runs that train together: equal in all but seed and float settings, at the most what each of the workers holds.

    A run of the time lane, or of a network of the module lane, is a stack by itself.
    shapes: of the copy of each data set. The grouping changes no number, so a resumed grid need not make the
    stacks of an uninterrupted one.
    """
    made = []
    for group in alike(runs):
        c = group[0].config
        size_of = shapes[c.dataset]
        n_train, widths = training_rows(size_of.rows, c.n_train), (size_of.inputs, *c.hidden, size_of.classes)
        limit = largest_stack(method(c.method), widths, n_train, c.batch_size, device, workers)
        limit = 1 if c.lane == "time" or c.network != MLP else limit
        parts = -(-len(group) // limit)  # as even as can be: 17 runs are 9 + 8, not 16 + 1
        size = -(-len(group) // parts)
        made += [group[i : i + size] for i in range(0, len(group), size)]
    return made
