"""Fingerprints keep versions honest: what every component of a run gives in its cases, kept beside its version.

`reproduce.evidence.cases` and, of whole lanes, `reproduce.run.cases` compute them, fingerprints/*.jsonl keep them
(`ledger`). A component whose values moved and whose version did not is a fault, or wants a step of its version; so is a
version that moved alone.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from am.errors import InputError, unknown
from am.methods import methods
from reproduce.evidence import ledger, versions
from reproduce.evidence.cases import methods as steps
from reproduce.evidence.cases import modules, parts
from reproduce.evidence.cases.case import Case, Tolerance, Values, written
from reproduce.evidence.config import RunConfig
from reproduce.evidence.ledger import Entry

FILES = {
    "method": "methods",
    "activation": "activations",
    "init": "inits",
    "inputs": "data",
    "batches": "data",
    "loop": "training",
    "evaluation": "training",
    "network": "modules",
    "lane": "lanes",
}
_AT = ", at "  # between the name of a case and the versions that it goes through, where they are not the first


Cases = Mapping[str, Sequence[Case]]  # component -> its cases


@dataclass(frozen=True)
class Kept:
    """What is to be computed, and where its fingerprints and the versions are kept."""

    cases: Cases
    folder: Path = ledger.FOLDER
    versions: Path = versions.FILE

    def file(self, component: str) -> Path:
        return self.folder / f"{FILES[component.partition(':')[0]]}.jsonl"

    def version(self, component: str) -> int:
        return 1 + len(versions.steps(self.versions).get(component, ()))

    def values(self, component: str) -> dict[int, dict[str, Values]]:
        """Version -> title of a case -> its values. Raises InputError for a file that was edited."""
        found: dict[int, dict[str, Values]] = {}
        for entry in ledger.read(self.file(component)):
            if entry.of == component:
                there = found.setdefault(entry.version, {})
                if entry.case in there:
                    raise InputError(
                        f"{self.file(component)}: {component} {entry.version} has two fingerprints of case "
                        f"'{entry.case}'; take the second out by git."
                    )
                there[entry.case] = entry.values
        return found

    def defaults(self, method: str, version: int) -> dict[str, Any]:
        return ledger.defaults(self.folder / ledger.DEFAULTS.name).get((method, version), {})

    def title(self, case: Case) -> str:
        """The name of a case, with the versions of what it goes through where they are not the first."""
        later = [f"{part} {self.version(part)}" for part in case.uses if self.version(part) > 1]
        return case.name + (_AT + " ".join(later) if later else "")


def cases(lanes: Iterable[Case] = ()) -> Cases:
    """The cases of everything that a run can be made of. lanes: those of whole grids, of whoever runs them."""
    found: dict[str, list[Case]] = {}
    for case in itertools.chain(steps.cases(), parts.cases(), modules.cases(), lanes):
        found.setdefault(case.of, []).append(case)
    return found


def problems(component: str, kept: Kept) -> list[str]:
    """What is wrong with the fingerprints of a component at its version, a sentence each."""
    version = kept.version(component)
    try:
        there = kept.values(component)
        found = list(_of_defaults(component, version, kept))
    except InputError as error:
        return [str(error)]
    now, moved = there.get(version, {}), []
    for case in kept.cases[component]:
        if (title := kept.title(case)) not in now:
            found.append(f"{component} {version} has no fingerprint of case '{title}'; `make fingerprints` writes it.")
            continue
        for way, compute in {"": case.values, **case.also}.items():
            try:
                words = difference(case, now[title], computed(compute))
            except Exception as error:  # whatever a fault raises; the lanes' text ends in the sentence of the command
                lines = str(error).splitlines() or [""]
                words = f"it fails with {type(error).__name__}, {lines[-1]}"
            if words:
                moved.append(f"{words} (case {title}{', ' * bool(way)}{way})")
    names = {case.name for case in kept.cases[component]}
    moved += [f"nothing computes case {title} any more" for title in now if title.partition(_AT)[0] not in names]
    if moved:
        more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
        found.append(
            f"{component} moved: {moved[0]}{more}, and its version did not. A fault? Mend it. "
            f'Meant? `make version OF={component} WHY="..."`'
        )
    found += _of_steps(component, there, kept)
    return found


def computed(values: Any) -> Values:
    """The values of a case, as they are written."""
    return {name: written(value) for name, value in values().items()}


def difference(case: Case, was: Values, now: Values) -> str | None:
    """Where the values of a case first differ, in words; None where they do not."""
    found = []
    for name in (*was, *(name for name in now if name not in was)):
        if name not in now or name not in was:
            found.append((_step(name), 0.0, f"{_plain(name)} is {'gone' if name in was else 'new'}"))
        elif told := _apart(was[name], now[name], case.tolerance(name)):
            by, words = told
            found.append((_step(name), -by * (_step(name) < math.inf), f"{_plain(name)} {words}{_when(name)}"))
    return min(found, key=lambda one: one[:2])[2] if found else None  # the first of equals


def _step(name: str) -> float:
    """The step after which a value was taken; what is of no step comes last."""
    return int(name.partition("@")[2].split()[0]) if "@" in name else math.inf


def _plain(name: str) -> str:
    return name.partition("@")[0]


def _when(name: str) -> str:
    if "@" not in name:
        return ""
    return f" at step {_step(name)}" + (" of a run alone" if name.endswith("alone") else "")


def _apart(was: Any, now: Any, tolerance: Tolerance) -> tuple[float, str] | None:
    """By how much two values differ, and the words for it; None where they are one. Only floats may be near."""
    pairs = list(zip(was, now)) if isinstance(was, list) and isinstance(now, list) else [(was, now)]
    if isinstance(was, list) and isinstance(now, list) and len(was) != len(now):
        return 1.0, f"has {len(now)} values and had {len(was)}"
    if strange := [(a, b) for a, b in pairs if a != b and not (isinstance(a, float) and isinstance(b, float))]:
        return 1.0, _said(*strange[0])
    numbers = [(a, b) for a, b in pairs if isinstance(a, float)]
    largest = max((max(abs(a), abs(b)) for a, b in numbers), default=0.0)
    by = max((abs(a - b) for a, b in numbers), default=0.0)
    if by <= tolerance.relative * largest + tolerance.absolute:
        return None
    return by / largest, f"by {by / largest:.0e}"


def _said(was: Any, now: Any) -> str:
    """A pair that must be equal, in words; of long texts the word in which they part."""
    if isinstance(was, str) and isinstance(now, str):
        words = [(a, b) for a, b in zip(was.split(), now.split()) if a != b]
        was, now = words[0] if words else (was, now)
    return f"is {now} and was {was}"


def _of_defaults(component: str, version: int, kept: Kept) -> Iterator[str]:
    """What is wrong with the table of a method's defaults."""
    kind, _, name = component.partition(":")
    if kind != "method":
        return
    there, now = kept.defaults(name, version), declared(name)
    for setting in now:
        if setting not in there:
            yield f"{component} {version} has no default of '{setting}' on record; `make fingerprints` writes it."
        elif there[setting] != now[setting] or type(there[setting]) is not type(now[setting]):
            yield (
                f"{component} moved: the default of '{setting}' is {now[setting]!r} and was {there[setting]!r}, and "
                f'its version did not. A fault? Mend it. Meant? `make version OF={component} WHY="..."`'
            )
    for setting in there:
        if setting not in now:
            yield (
                f"{component} moved: it has no setting '{setting}' any more, and its version did not. "
                f'Meant? `make version OF={component} WHY="..."`'
            )


def declared(name: str) -> dict[str, Any]:
    """The defaults of a method's settings."""
    return {f.name: f.default for f in dataclasses.fields(methods()[name].hyperparameters)}


def _of_steps(component: str, there: Mapping[int, dict[str, Values]], kept: Kept) -> Iterator[str]:
    """Versions that moved while none of their values did, but for those that only a GPU shows."""
    for step in versions.steps(kept.versions).get(component, ()):
        before, after = there.get(step.to - 1), there.get(step.to)
        if before and after and not _on_gpu(step.moves) and not _moved(kept.cases[component], before, after):
            name = component.partition(":")[2]
            if kept.defaults(name, step.to - 1) == kept.defaults(name, step.to):
                yield f"{component} went to version {step.to}, and none of its values moved; take the step back."


def _on_gpu(moves: Mapping[str, Any]) -> bool:
    return moves.get("on") == "gpu"


def _moved(some: Sequence[Case], before: Mapping[str, Values], after: Mapping[str, Values]) -> bool:
    """Whether a case of the version before is other, or gone, after it."""
    old = {title.partition(_AT)[0]: values for title, values in before.items()}  # of two of one name the last
    new = {title.partition(_AT)[0]: values for title, values in reversed(after.items())}  # the first
    known = {case.name: case for case in some}
    return any(
        name not in new or name not in known or difference(known[name], values, new[name]) is not None
        for name, values in old.items()
    )


# Commands


def write_missing(kept: Kept, of: Sequence[str] | None = None) -> list[str]:
    """Append every fingerprint that is missing at the present versions, and every default; a line for what was written.

    of: only of these components.  What is there is not looked at, and stays.
    """
    told = []
    for component in kept.cases if of is None else of:
        version = kept.version(component)
        there = kept.values(component).get(version, {})
        missing = [case for case in kept.cases[component] if kept.title(case) not in there]
        if missing:
            new = [Entry(component, version, kept.title(case), computed(case.values)) for case in missing]
            ledger.append(kept.file(component), new)
            told.append(f"{component} {version}: {len(new)} {'case' if len(new) == 1 else 'cases'}")
        kind, _, name = component.partition(":")
        if kind == "method":
            known = kept.defaults(name, version)
            if further := {setting: value for setting, value in declared(name).items() if setting not in known}:
                ledger.append(kept.folder / ledger.DEFAULTS.name, [Entry(component, version, "defaults", further)])
                told.append(f"{component} {version}: defaults of {', '.join(further)}")
    return told


def named(word: str, cases: Cases) -> str:
    """The component that a word means: its name, or what follows the colon where that is unique."""
    if word in cases:
        return word
    short = [component for component in cases if component.partition(":")[2] == word]
    if len(short) > 1:
        raise InputError(f"'{word}' is {' and '.join(short)}; give one of them.")
    if word.startswith("optimizer:"):
        raise InputError(f"the version of {word} is its package's.")
    if not short:
        raise unknown(
            "component", word, [*cases, *(component.partition(":")[2] for component in cases if ":" in component)]
        )
    return short[0]


def step_version(of: Sequence[str], why: str, moves: Mapping[str, Any], kept: Kept) -> list[str]:
    """Append a step of the version of each component, and its values as they are now; a line for what was written.

    Raises InputError for an unknown component, and where nothing of one moved; then nothing is written.
    """
    if not of or not why.strip():
        raise InputError('a step of a version needs a component and a reason: make version OF=method:tiam WHY="...".')
    chosen = list(dict.fromkeys(named(word, kept.cases) for word in of))
    for component in chosen:
        _check_moves(component, moves)
        wrong = problems(component, kept)
        if failing := [said for said in wrong if " moved: it fails with " in said]:
            raise InputError(failing[0])
        if not _on_gpu(moves) and not any(" moved: " in said for said in wrong):
            raise InputError(
                f"nothing of {component} moved, so its version stays {kept.version(component)}; "
                "what only a GPU shows has MOVES='on = \"gpu\"'."
            )
    told = [str(versions.add(component, why, moves, kept.versions)) for component in chosen]
    goes = lambda case: set(case.uses) & set(chosen)
    through = [component for component, some in kept.cases.items() if any(map(goes, some))]
    return told + write_missing(kept, [*chosen, *(component for component in through if component not in chosen)])


def _check_moves(component: str, moves: Mapping[str, Any]) -> None:
    """Raises InputError for a name that no row has."""
    kind, _, name = component.partition(":")
    of = [methods()[name]] if kind == "method" else methods().values()
    known = {f.name for f in dataclasses.fields(RunConfig)} - {"settings"} | {"device", "on", "stack_runs"}
    known |= {f.name for chosen in of for f in dataclasses.fields(chosen.hyperparameters)}
    for word in moves:
        if word not in known:
            raise unknown("fact", word, known, f"MOVES of {component}")
