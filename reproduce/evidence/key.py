"""Key 2: a run's key says what the run does, not how its code is written.

It is the sha256 of canonical JSON of three things: the configuration without what is at its declared default, the
sha256 of the data's arrays, and the versions beyond the first of the components that the run goes through. So an edit
of the code moves no key, and a step of a version moves those of the runs that it concerns.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from am.methods import methods
from reproduce.evidence import ledger, versions
from reproduce.evidence.config import RunConfig, components
from reproduce.evidence.versions import Step, Versions

DIGITS = 20
OLDER = 256  # keys of older versions that are looked up for one run at the most


def run_key(config: RunConfig, at: Versions | None = None) -> str:
    """The key of a configuration at these versions, by default the present ones: 20 hex digits."""
    at = versions.of(components(config)) if at is None else at
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    apart = ("settings", "data_fingerprint")
    asked = {f.name: fields[f.name] for f in dataclasses.fields(config) if fields[f.name] != f.default}
    asked = {name: value for name, value in asked.items() if name not in apart}
    asked["evaluate_every"] = float(config.evaluate_every)
    defaults = defaults_of(config.method, at.get(f"method:{config.method}", 1))
    settings = {name: value for name, value in config.settings if name not in defaults or value != defaults[name]}
    later = {component: version for component, version in at.items() if version != 1}
    text = dict(config=asked, settings=settings, data=config.data_fingerprint, versions=later)
    canonical = json.dumps(text, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]


@functools.cache
def declared(method: str) -> dict[str, Any]:
    """The settings of a method at their defaults, in the order of its file."""
    return {f.name: f.default for f in dataclasses.fields(methods()[method].hyperparameters)}


def defaults_of(method: str, version: int | str) -> dict[str, Any]:
    """The defaults at a version, as the fingerprints keep them; of a setting that they do not know, the declared."""
    return declared(method) | ledger.defaults().get((method, version), {})


def older_keys(config: RunConfig) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Keys of older versions, the latest first, each with the steps that must not concern a run found under it."""
    now = versions.of(components(config))
    ranges = [range(v, 0, -1) if isinstance(v, int) else [v] for v in now.values()]
    for then in itertools.islice(itertools.product(*ranges), 1, OLDER):
        at = dict(zip(now, then))
        yield run_key(config, at), tuple(step for part, version in at.items() for step in versions.since(part, version))


def counted_key(config: RunConfig, lookup: Callable[[str], Mapping[str, Any] | None]) -> str:
    """The key under which the run is, or is to be, there: the present one, or that of a run that no step concerns."""
    key = run_key(config)
    if lookup(key) is None:
        for older, steps in older_keys(config):
            found = lookup(older)
            if found is not None and not any(step.concerns(facts(config, found)) for step in steps):
                return older
    return key


def facts(config: RunConfig, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What a step's `moves` may ask of a run. outcome: what came of it, as the store or a row has it."""
    known = dataclasses.asdict(config) | dict(config.settings)
    del known["settings"]
    if device := outcome.get("device"):
        known |= dict(device=device, on="cpu" if on_cpu(device) else "gpu")
    if outcome.get("stack_runs"):
        known |= dict(stack_runs=int(outcome["stack_runs"]))
    return known


def on_cpu(device: str) -> bool:
    """Whether a row's `device`, as `am.counters` names it, is a CPU; with threads where its seconds count as speed."""
    return device.startswith("cpu") or device.endswith(" threads")
