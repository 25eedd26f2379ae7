"""The manifest of a grid, <grid>/manifest.json: how many rows each CSV has, and which, so that none is lost unseen.

For each of runs, curves and tuning it keeps the state of the CSV: the number of rows, how many of them have a seal, and
a sha256 of what identifies them, in their order and in any order. A CSV is announced before it is written: until it is
there, the manifest has two states of it, the old one and the new. So kill -9 at any moment leaves every CSV in a state
that the manifest knows, and what it does not know is a row that was lost, added or moved by hand.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from am.errors import InputError
from reproduce.evidence.files import Sheet, malformed, read_sheet, require_file, write, write_whole
from reproduce.evidence.rows import Row

NAME = "manifest.json"
IDENTITY = dict(
    runs=("run_key", "label"), curves=("run_key", "label", "iteration"), tuning=("run_key", "label")
)  # file -> what identifies a row of it


@dataclass(frozen=True)
class State:
    """What a CSV holds. sealed: rows with a seal. ordered: a hash of its rows in their order; any_order: in none."""

    rows: int
    sealed: int
    ordered: str
    any_order: str


States = dict[str, list[State]]  # file -> its state; while a new one is being written, the old one and the new


def state_of(sheet: Sheet) -> State:
    """The state of a CSV that was read."""
    at = sheet.names.index("seal") if "seal" in sheet.names else None
    return _state(_identities(sheet), 0 if at is None else sum(row[at] != "" for row in sheet.rows))


def _identities(sheet: Sheet) -> list[str]:
    places = [sheet.names.index(name) for name in IDENTITY[sheet.path.stem] if name in sheet.names]
    return ["\x1f".join([row[i] for i in places]) for row in sheet.rows]


def _state_of_rows(name: str, rows: Sequence[Row]) -> State:
    identities = ["\x1f".join([row[column] for column in IDENTITY[name]]) for row in rows]
    return _state(identities, sum(bool(row.get("seal")) for row in rows))


def _state(identities: Sequence[str], seals: int) -> State:
    return State(len(identities), seals, _hash(identities), _hash(sorted(identities)))


def _hash(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def read_manifest(folder: Path) -> States | None:
    """The states that the manifest has; None without one. Raises InputError for what is no manifest."""
    path = folder / NAME
    require_file(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: [State(**state) for state in states] for name, states in found.items() if name in IDENTITY}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise malformed(path, " ".join(str(error).split())[:100]) from None


def rows_of(folder: Path, name: str) -> int:
    """How many rows of a CSV the manifest knows of; 0 without one, or where it cannot be read."""
    try:
        return min((state.rows for state in (read_manifest(folder) or {}).get(name, [])), default=0)
    except InputError:
        return 0


def write_evidence(path: Path, rows: Sequence[Row]) -> bool:
    """Write runs.csv, curves.csv or tuning.csv so that the manifest knows it at every moment; True if that changed it.

    The manifest's other files stay as it has them. A manifest that cannot be read is written anew, since the CSVs that
    stand beside it can.
    """
    try:
        states = read_manifest(path.parent) or {}
    except InputError:
        states = {}
    name, new = path.stem, _state_of_rows(path.stem, rows)
    known = states.get(name, [])
    if known != [new]:
        if not known and path.is_file():
            known = [state_of(read_sheet(path))]  # from before manifests
        _write(path.parent, states | {name: [*(state for state in known if state != new), new]})
    changed = write(path, rows)
    _write(path.parent, states | {name: [new]})
    return changed


def forget(path: Path) -> None:
    """Take a CSV that `collect` is about to remove out of the manifest; without another file there is none left."""
    try:
        states = read_manifest(path.parent)
    except InputError:
        return
    if states is not None and path.stem in states:
        left = {name: found for name, found in states.items() if name != path.stem}
        if left:
            _write(path.parent, left)
        else:
            (path.parent / NAME).unlink()


def _write(folder: Path, states: States) -> None:
    content = {name: [asdict(state) for state in states[name]] for name in IDENTITY if name in states}
    write_whole(folder / NAME, json.dumps(content, indent=1) + "\n")


def problem(sheet: Sheet | None, path: Path, states: States) -> str | None:
    """A sentence where a CSV is not what the manifest says. sheet: None where the file `path` is not there."""
    known = states.get(path.stem)
    if known is None:
        return None
    if sheet is None:
        return (
            f"{path} is not there, and {NAME} has {known[-1].rows} rows of it; restore it, for example by `git "
            "checkout`, or run `make collect`."
        )
    found = _identities(sheet)
    ordered = _hash(found)
    if any((state.rows, state.ordered) == (len(found), ordered) for state in known):
        return None  # its seals aside: a row without one that should have it is left out by itself
    fewest = min(state.rows for state in known)
    if len(found) < fewest:
        return (
            f"{path}: {fewest - len(found)} of the {fewest} rows that {NAME} knows are missing; restore them, for "
            "example by `git checkout`; if the manifest is of another collect, run `make collect`."
        )
    if (any_order := _hash(sorted(found))) and any(state.any_order == any_order for state in known):
        return f"{path}: its rows do not stand in the order in which they were collected; run `make collect`."
    return f"{path}: its rows are not those that were collected and that {NAME} knows; run `make collect`."


def problems(folder: Path) -> list[str]:
    """A sentence for each CSV of a grid that is not what its manifest says; `collect` tells them before it writes."""
    try:
        states = read_manifest(folder) or {}
    except InputError as error:
        return [str(error)]
    found = []
    for path in (folder / f"{name}.csv" for name in states):
        try:
            said = problem(read_sheet(path) if path.exists() or path.is_symlink() else None, path, states)
        except InputError:  # whoever reads it says so
            continue
        found += [said] if said else []
    return found


def seals(path: Path, states: States | None) -> int:
    """How many rows of a CSV have a seal by the manifest."""
    return min((state.sealed for state in (states or {}).get(path.stem, [])), default=0)
