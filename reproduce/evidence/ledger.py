"""Fingerprints on disk: files that are appended to and never edited, each line bound to those before it.

A line of fingerprints/NAME.jsonl is a JSON object: `of` a component, at a `version`, a `case` and its `values`. `chain`
hashes the line with the chain of the line above, so that an edit shows.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from am.errors import InputError
from reproduce.evidence.files import write_whole

FOLDER = Path(__file__).with_name("fingerprints")
DEFAULTS = FOLDER / "defaults.jsonl"


@dataclass(frozen=True)
class Entry:
    """What a component gives in one case. values: name -> number, list of numbers or text."""

    of: str
    version: int
    case: str
    values: dict[str, Any]


def read(path: Path) -> list[Entry]:
    """The entries of a file, none where it is not there; raises InputError at the first line that was edited."""
    if not path.exists():
        return []
    entries, chain = [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            said = json.loads(line)
            was, entry = said.pop("chain"), Entry(**said)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{path}, line {number}, is no fingerprint; restore the file by git.") from None
        if was != (chain := _chained(chain, entry)):
            raise InputError(
                f"{path}, line {number}, was edited or moved: fingerprints are appended to, never changed; restore the "
                "file, for example by git."
            )
        entries.append(entry)
    return entries


def append(path: Path, new: Sequence[Entry]) -> None:
    """Write entries below those that are there."""
    old = read(path)
    lines, chain = path.read_text(encoding="utf-8").splitlines() if old else [], ""
    if old:
        chain = json.loads(lines[-1])["chain"]
    for entry in new:
        chain = _chained(chain, entry)
        lines.append(json.dumps(asdict(entry) | dict(chain=chain), ensure_ascii=False, separators=(",", ":")))
    write_whole(path, "".join(f"{line}\n" for line in lines))
    defaults.cache_clear()


def _chained(chain: str, entry: Entry) -> str:
    text = chain + json.dumps(asdict(entry), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def defaults(path: Path = DEFAULTS) -> dict[tuple[str, int], dict[str, Any]]:
    """(method, version) -> the defaults of its settings then; a setting that was added later is a line of its own."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for entry in read(path):
        found.setdefault((entry.of.removeprefix("method:"), entry.version), {}).update(entry.values)
    return found
