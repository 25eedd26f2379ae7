"""The rooms and their arrows: who may import whom, read from the imports, those inside functions too."""

import ast
from pathlib import Path

import pytest
from helpers import ROOT

BELOW = {  # room -> those that it may enter, beside itself
    "am": (),
    "evidence": ("am",),
    "plan": ("evidence", "am"),
    "run": ("plan", "evidence", "am"),
    "judge": ("evidence", "am"),
    "show": ("judge", "evidence", "am"),
    "bench": ("show", "judge", "run", "plan", "evidence", "am"),
    "cli": ("bench", "show", "judge", "run", "plan", "evidence", "am"),
    "door": ("cli",),  # the files in reproduce/ itself
}


def room_of(module: str) -> str | None:
    """The room of a module; None where it is no part of this house."""
    first, *rest = module.split(".")
    if first != "reproduce":
        return first if first == "am" else None
    return rest[0] if rest and (ROOT / "reproduce" / rest[0]).is_dir() else "door"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, known: set[str]) -> set[str]:
    """The modules of this house that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides its room"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known or {node.module}
    return {module for module in found if room_of(module)}


FILES = [path for package in ("am", "reproduce") for path in sorted((ROOT / package).rglob("*.py"))]
KNOWN = {module_of(path) for path in FILES}
IMPORTS = {module_of(path): imports_of(path, KNOWN) for path in FILES}


def test_every_folder_is_a_room():
    assert {room_of(module) for module in IMPORTS} == set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_a_room_enters_only_those_below_it(room):
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in sorted(others)
        if room_of(module) == room and room_of(other) not in (room, *BELOW[room])
    ]
    assert wrong == []


def test_the_rooms_have_no_circle():
    left = dict(BELOW)
    while left:
        bottom = [room for room, below in left.items() if not set(below) & set(left)]
        assert bottom, f"a circle among {', '.join(left)}"
        left = {room: below for room, below in left.items() if room not in bottom}


def test_evidence_never_reads_the_text_of_the_library():
    for path in (ROOT / "reproduce" / "evidence").rglob("*.py"):
        words = path.read_text(encoding="utf-8")
        assert "getsource" not in words and "import inspect" not in words, path


def test_only_the_command_line_knows_its_parser():
    strange = [path for path in FILES if "argparse" in path.read_text(encoding="utf-8")]
    assert [path.relative_to(ROOT).as_posix() for path in strange] == ["reproduce/cli/options.py"]
