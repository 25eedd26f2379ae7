"""The console command `am-reproduce`: `python -m reproduce` by a name that needs no folder."""

import runpy


def main() -> None:
    """Runs the package as `python -m` does, so that signals are handled before the imports that take seconds."""
    runpy.run_module("reproduce", run_name="__main__", alter_sys=True)
