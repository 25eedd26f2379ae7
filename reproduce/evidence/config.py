"""What determines a run: its configuration, and the components whose versions its key names."""

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from am.methods import methods
from am.modules.optimizers import package
from am.training import Budget
from reproduce.evidence.column import Column

CONSTANTS = ("scaled", "published")
MLP = "mlp"  # the network of the stacked lane; the others are those of `am.modules`


def number(written: str) -> int | float:
    """An integer stays one: the text of a number, and with it a row's bytes and a run's key, come back as they were."""
    try:
        return int(written)
    except ValueError:
        return float(written)


def _asked(
    column: Column,
    read: Callable[[str], Any] = str,
    write: Callable[[Any], str] = str,
    default: Any = dataclasses.MISSING,
) -> Any:
    """A field, the column that says it, and the way from its text and back."""
    return dataclasses.field(default=default, metadata=dict(column=column, read=read, write=write))


def _text(name: str, meaning: str, default: Any = dataclasses.MISSING, later: bool = False) -> Any:
    return _asked(Column(name, "text", meaning, later=later), default=default)


def _count(name: str, meaning: str, later: bool = False) -> Any:
    return _asked(Column(name, "integer", meaning, later=later), int)


@dataclass(frozen=True)
class RunConfig:
    """What determines a run's numbers, but for the code behind it, which `components` names.

    A further field is a line here: its column and its way into a row and back come with it. With a default, it is left
    out of the key where it has that, so that it moves no key.
    settings: the values in force, after any scaling.  constants: "scaled" where those that belong to a number of rows
    were multiplied by n / N_full, "published" where they stand as the method and the grid give them (SPEC 8).
    """

    dataset: str = _text("dataset", "the data set")
    data_fingerprint: str = _text("data_fingerprint", "SHA-256 of the data")
    n_train: int = _count("n_train_asked", "training images asked for at the most; 0: all", later=True)
    inputs: str = _text("inputs", "unit: pixels in [0, 1]; standardised: mean 0 and deviation 1, each feature")
    activation: str = _text("activation", "the hidden layers' activation")
    hidden: tuple[int, ...] = _asked(
        Column("hidden", "text", "units, or channels, that each layer or block but the last gives, joined by -"),
        lambda text: tuple(map(int, text.split("-"))),
        lambda widths: "-".join(map(str, widths)),
    )
    init: str = _text("init", "how weights and biases are drawn")
    method: str = _text("method", "the method's name, a file in am/methods")
    settings: tuple[tuple[str, Any], ...] = _asked(
        Column("hyperparameters", "text", "every setting of the method as it was in force, as JSON"),
        lambda text: tuple(json.loads(text).items()),
        lambda settings: json.dumps(dict(settings)),
    )
    seed: int = _count("seed", "seed of the initial values and of the order of the batches")
    epochs: int = _count("epochs_asked", "epochs asked for", later=True)
    batch_size: int = _count("batch_size", "rows of a mini-batch; 0: full batch", later=True)
    evaluate_every: float = _asked(Column("evaluate_every", "number", "epochs between evaluations", later=True), number)
    network: str = _text("network", "mlp: the perceptron; lenet5, cnn, resnet20: of the module lane", MLP, later=True)
    constants: str = _text(
        "constants", "scaled: those of a sum over rows, times n / N_full; published: not", "scaled", later=True
    )
    read_test: bool = True  # all but trials, which have a CSV of their own and no column for it
    gradient_norm: bool = _asked(
        Column("gradient_norms", "flag", "whether evaluations took the gradient's norm", later=True),
        "True".__eq__,
        default=False,
    )
    lane: str = _text(
        "lane", "accuracy: stacked with other runs; time: alone on the device, under the clock", "accuracy"
    )

    @property
    def budget(self) -> Budget:
        shared = {f.name for f in dataclasses.fields(Budget)} & {f.name for f in dataclasses.fields(self)}
        return Budget(**{name: getattr(self, name) for name in shared}, alone=self.lane == "time")

    @property
    def row(self) -> dict[str, str]:
        """The columns of a row that say it."""
        return {name: f.metadata["write"](getattr(self, f.name)) for name, f in _FIELDS.items()}


_FIELDS = {f.metadata["column"].name: f for f in dataclasses.fields(RunConfig) if f.metadata}  # by column
ASKED = {name: f.metadata["column"] for name, f in _FIELDS.items()}  # the columns that say a configuration


def from_row(row: Mapping[str, str], read_test: bool = True) -> RunConfig:
    """The configuration that a row says. Raises KeyError, ValueError, TypeError and the like where it says none.

    A row from before a field has its column empty, or not at all, and so the default.
    """
    said = {name: f for name, f in _FIELDS.items() if row.get(name) or f.default is dataclasses.MISSING}
    return RunConfig(**{f.name: f.metadata["read"](row[name]) for name, f in said.items()}, read_test=read_test)


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
