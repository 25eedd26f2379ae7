"""Engines: how the stacks of a plan get trained, one module each.

An engine is a function `run_NAME(stacks, folder, device, results, jobs, report, graphs, latest, debug)`: it hands every
stack to `reproduce.run.engines.work` in some process, tells `report` the share of each that is done, and returns when
each of them has its shard in the store. `ray` is loaded only where it is asked for.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """What every stack of a command is trained with. threads: of each process; debug: print a failure's traceback."""

    folder: str | None
    device: str
    results: Path
    threads: int
    graphs: bool = False
    debug: bool = False
