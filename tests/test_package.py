"""What pyproject.toml promises: the files of an installed copy, its requirements, its command."""

import subprocess
import sys
import tomllib

import pytest
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, Version]:
    """What the two files of requirements pin, by name."""
    lines = [
        line
        for name in ("requirements.txt", "requirements-distributed.txt")
        for line in (ROOT / name).open(encoding="utf-8")
    ]
    pinned = [line.strip().split("==") for line in lines if "==" in line]
    return {name: Version(version) for name, version in pinned}


@pytest.mark.parametrize("package", ["am", "reproduce"])
def test_an_installed_copy_has_every_file_that_is_no_code(package):
    folder, patterns = ROOT / package, PROJECT["tool"]["setuptools"]["package-data"][package]
    taken = {path for pattern in patterns for path in folder.glob(pattern)}
    there = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in there if path.suffix != ".py"} == taken


def test_every_folder_of_code_is_a_package():
    for package in ("am", "reproduce"):
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


def test_what_is_pinned_fits_what_the_package_asks_for():
    project, pinned = PROJECT["project"], pins()
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    for requirement in map(Requirement, asked):
        assert pinned[requirement.name] in requirement.specifier, requirement


def test_the_console_command_is_the_module():
    module, _, name = PROJECT["project"]["scripts"]["am-reproduce"].partition(":")
    started = [sys.executable, "-c", f"from {module} import {name}; {name}()"]
    done = subprocess.run([*started, "grids"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("quickstart ")
    wrong = subprocess.run([*started, "grid"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (
        wrong.returncode == 2
        and "unknown command 'grid'; did you mean 'grids'?" in wrong.stderr
        and "Traceback" not in wrong.stderr
    )
