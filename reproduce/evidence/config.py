"""What determines a run: its configuration, and the components whose versions its key names."""

import functools
import importlib.metadata
from dataclasses import dataclass
from typing import Any

from am.methods import methods
from am.modules.optimizers import package
from am.training import Budget

CONSTANTS = ("scaled", "published")
MLP = "mlp"  # the network of the stacked lane; the others are those of `am.modules`


@dataclass(frozen=True)
class RunConfig:
    """What determines a run's numbers, but for the code behind it, which `components` names.

    A field with a default is left out of the key where it has it, so that a new one moves no key.
    settings: the values in force, after any scaling.  constants: "scaled" where those that belong to a number of rows
    were multiplied by n / N_full, "published" where they stand as the method and the grid give them (SPEC 8).
    """

    dataset: str
    data_fingerprint: str
    n_train: int  # at the most; 0: all
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
    network: str = MLP
    constants: str = "scaled"
    read_test: bool = True
    gradient_norm: bool = False
    lane: str = "accuracy"  # or "time": alone on the device, under the clock

    @property
    def budget(self) -> Budget:
        alone = self.lane == "time"
        return Budget(self.epochs, self.batch_size, self.evaluate_every, self.read_test, self.gradient_norm, alone)


def components(config: RunConfig) -> list[str]:
    """The parts of the code that the run goes through, and no others; each has a version (`versions`)."""
    made_of, drawn = [f"method:{config.method}"], f"init:{config.init.partition('(')[0]}"
    if config.network == MLP:
        lane = "timed" if config.lane == "time" else "stacked"
        made_of += [f"activation:{config.activation}", drawn, "loop"]
    else:
        lane = "module"
        made_of += [f"network:{config.network}", drawn, f"optimizer:{package(config.method)}"]
    if not methods()[config.method].full_batch:
        made_of.append("batches")
    return [*made_of, "evaluation", f"inputs:{config.inputs}", f"lane:{lane}"]


@functools.cache
def installed(name: str) -> str:
    """The version of a package without its build; "absent" where it is not installed."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "absent"
