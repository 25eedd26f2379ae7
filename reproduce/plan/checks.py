"""Checks of a grid's TOML: every key, type and number, before anything is expanded. One sentence for each mistake."""

import math
import re
import stat
import string
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from am.activations import activation
from am.data import INPUTS, dataset
from am.errors import InputError, unknown
from am.methods import methods
from am.modules.networks import NETWORKS
from am.networks import check_initialisation
from reproduce.evidence.config import CONSTANTS, MLP

LANES = ("accuracy", "time")
RULES = ("paper", "tuned")
TYPES: dict[str, type | tuple[type, ...]] = dict(
    title=str,
    paper=str,
    question=str,
    rule=str,
    lane=str,
    datasets=list,
    hidden=list,
    activations=list,
    init=str,
    inputs=str,
    network=(str, dict),
    n_train=(int, str, list),
    constants=(str, list),
    batch_size=int,
    epochs=int,
    evaluate_every=(int, float),
    gradient_norm=bool,
    seeds=int,
    first_seed=int,
    trials=int,
)
PER_METHOD = (
    "batch_size",
    "constants",
    "epochs",
    "evaluate_every",
    "first_seed",
    "hidden",
    "init",
    "inputs",
    "n_train",
)
AXES = ("n_train", "constants")  # a list of values runs each
BLOCK = dict(name=str, label=str, set=dict, over=dict)  # of a [[methods]] block, besides PER_METHOD
TOP = ("methods", "profile", "target", "floors")  # beside the keys with types, at the top of the file alone

# Beyond these a number is a slip: nobody waits for it, and to expand it would take the machine's memory.
MOST = dict(
    epochs=1_000_000,
    seeds=10_000,
    trials=10_000,
    first_seed=2**31,
    batch_size=10_000_000,
    evaluate_every=1_000_000,
)
LEAST_EVERY = 1e-4  # epochs between evaluations
MOST_RUNS = 20_000  # of a grid; the largest of the suite has 3,000
MOST_VALUES = 1_000  # of a list
MOST_LAYERS, MOST_UNITS = 1_000, 100_000
BYTES, LEVELS, CHARACTERS, KEY_CHARACTERS = 1_000_000, 6, 2_000, 64  # of a file, a nesting, a text, a key
LABEL_CHARACTERS = 80
# What readers of CSVs take for a missing value, in any case of letters.
MISSING = ("", "#n/a", "#na", "-nan", "<na>", "n/a", "na", "nan", "none", "null")


def read_toml(path: Path, place: str) -> dict[str, Any]:
    """The content of a grid file; raises InputError for what is no file of TOML in the size and depth of a grid."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{place} is no regular file; a grid is a text file NAME.toml.")
        if found.st_size > BYTES:
            raise InputError(f"{place} has {found.st_size:,} bytes; a grid has at most {BYTES:,}.")
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{place} cannot be read ({error.strerror}).") from None
    except RecursionError:
        raise InputError(f"{place} is nested too deeply; a grid has at most {LEVELS} levels.") from None
    except ValueError as error:  # of TOML, of UTF-8, of a number with too many digits
        raise InputError(f"{place} is not valid TOML: {clipped(' '.join(str(error).split()), 160)}.") from None
    _check_content(place, raw)
    return raw


def _check_content(place: str, raw: dict[str, Any]) -> None:
    """Whatever the key: no text, number or nesting that could not be shown or worked on."""
    todo: list[tuple[str, Any, int]] = [("", raw, 0)]
    while todo:
        path, value, level = todo.pop()
        if level > LEVELS:
            raise InputError(f"{place}: '{path}' is nested too deeply; a grid has at most {LEVELS} levels.")
        if isinstance(value, dict):
            for key, below in value.items():
                if not (key.isprintable() and len(key) <= KEY_CHARACTERS):
                    raise InputError(
                        f"{place}: the key {shown(key)} must be printable, at most {KEY_CHARACTERS} characters."
                    )
                todo.append((f"{path}.{key}" if path else key, below, level + 1))
        elif isinstance(value, list):
            todo += [(path, below, level + 1) for below in value]
        elif isinstance(value, str):
            name = path.rpartition(".")[2]
            if name == "label":
                continue  # has a check of its own
            if len(value) > CHARACTERS:
                raise InputError(f"{place}: '{path}' has {len(value):,} characters; at most {CHARACTERS:,} are taken.")
            if not (value.replace("\n", " ") if name == "question" else value).isprintable():
                raise InputError(f"{place}: '{path}' must be printable text on one line, not {shown(value)}.")
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise InputError(f"{place}: '{path}' is a whole number of more than 64 bits; no key takes it.")


def clipped(text: str, characters: int = 60) -> str:
    """Not more of a text than a message should show."""
    return text if len(text) <= characters else f"{text[: characters - 3]}..."


def shown(value: Any) -> str:
    """A value as messages show it."""
    return clipped(repr(value))


def axes(values: dict[str, Any]) -> dict[str, list]:
    """Training rows (0 for all) and constants as the lists that they may be."""
    lists = {key: values[key] if isinstance(values[key], list) else [values[key]] for key in AXES if key in values}
    return {key: [0 if value == "all" else value for value in found] for key, found in lists.items()}


@contextmanager
def told(place: str) -> Iterator[None]:
    """An InputError of the block gets the place in front of it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def unknown_key(key: str, valid: Sequence[str], place: str, what: str = "key") -> InputError:
    """The error for a key that does not belong where it stands: where it is at home, else the nearest that does."""
    if key == "methods":
        home = "at the top of the file, as [[methods]] blocks"
    elif key in TOP:
        home = "at the top of the file"
    elif key in TYPES:
        home = "at the top of the file or in a [profile.NAME] table"
        home = "in the [[methods]] block itself, or " + home if key in PER_METHOD else home
    elif key in BLOCK:
        home = "in a [[methods]] block"
    elif having := [name for name, chosen in methods().items() if key in vars(chosen.settings())]:
        home = f"in the 'set' or 'over' of a method that has it, for example {having[0]}"
    else:
        return unknown(what, key, valid, place)
    return InputError(f"{place}: unknown {what} '{key}'; it belongs {home}.")


def check_table(place: str, values: dict[str, Any]) -> None:
    """Keys at the top of a grid, of a profile, or those of PER_METHOD in a block."""
    for key, value in values.items():
        _check_type(place, key, value)
    _check_values(place, values)


def _check_type(place: str, key: str, value: Any) -> None:
    if key not in TYPES:
        raise unknown_key(key, (*TYPES, *TOP), place)
    if not isinstance(value, TYPES[key]) or (isinstance(value, bool) and TYPES[key] is not bool):
        kinds = TYPES[key] if isinstance(TYPES[key], tuple) else (TYPES[key],)
        raise InputError(f"{place}: '{key}' must be {' or '.join(k.__name__ for k in kinds)}, not {shown(value)}.")


def _check_values(place: str, values: dict[str, Any]) -> None:
    _check_widths(place, values)
    lists = {key: values[key] for key in ("datasets", "hidden", "activations") if key in values} | axes(values)
    for key, found in lists.items():
        _check_list(place, key, found)
    for word in values.get("datasets", ()):
        with told(place):
            dataset(word)
    for word in values.get("activations", ()):
        with told(place):
            activation(str(word))
    for key, valid in (("rule", RULES), ("lane", LANES), ("inputs", INPUTS)):
        if key in values and values[key] not in valid:
            raise unknown(f"value of '{key}'", values[key], valid, place)
    _check_networks(place, values.get("network", MLP))
    for word in lists.get("constants", ()):
        if word not in CONSTANTS:
            raise unknown("value of 'constants'", str(word), CONSTANTS, place)
    if "init" in values:
        with told(place):
            check_initialisation(values["init"])
        scale = re.search(r"\((.*)\)", values["init"])
        if scale and not 0 < float(scale[1]) < 1e6:
            raise InputError(f"{place}: 'init' must have a deviation in (0, 1e6), not {shown(values['init'])}.")
    for key in ("batch_size", "epochs", "evaluate_every", "seeds"):
        if key in values and not 0 < values[key] < math.inf:
            raise InputError(f"{place}: '{key}' must be positive, not {values[key]!r}.")
    for key in ("first_seed", "trials"):
        if values.get(key, 0) < 0:
            raise InputError(f"{place}: '{key}' must not be negative, not {values[key]!r}.")
    for key, most in MOST.items():
        if values.get(key, 0) > most:
            raise InputError(f"{place}: '{key}' must be at most {most:,}, not {values[key]!r}.")
    if values.get("evaluate_every", 1) < LEAST_EVERY:
        every = values["evaluate_every"]
        raise InputError(f"{place}: 'evaluate_every' must be at least {LEAST_EVERY} epochs, not {every!r}.")
    given = values.get("n_train", "all")
    for n in given if isinstance(given, list) else [given]:
        if n != "all" and (type(n) is not int or n <= 0):
            raise InputError(f"{place}: 'n_train' must be a positive number or \"all\", not {shown(n)}.")


def _check_networks(place: str, given: str | dict[str, Any]) -> None:
    """One network for all data sets, or a table of one for each."""
    for name in given if isinstance(given, dict) else ():
        with told(f"{place}: network"):
            dataset(name)
    for word in given.values() if isinstance(given, dict) else [given]:
        if word not in (MLP, *NETWORKS):
            raise unknown("value of 'network'", str(word), (MLP, *NETWORKS), place)


def _check_list(place: str, key: str, found: list) -> None:
    if not found:
        raise InputError(f"{place}: '{key}' is empty, so there is nothing to run.")
    if len(found) > MOST_VALUES:
        raise InputError(f"{place}: '{key}' has {len(found):,} values; at most {MOST_VALUES:,} are taken.")
    for i, value in enumerate(found):
        if value in found[:i]:
            raise InputError(f"{place}: '{key}' names {shown(value)} twice.")


def _check_widths(place: str, values: dict[str, Any]) -> None:
    for widths in values.get("hidden", ()):
        if type(widths) is int:
            raise InputError(
                f"{place}: 'hidden' must be a list of lists of widths, one a network; "
                f"for one network write {shown([values['hidden']])}."
            )
        if not (isinstance(widths, list) and widths and all(type(w) is int and w > 0 for w in widths)):
            raise InputError(
                f"{place}: 'hidden' must be a list of lists of widths, for example [[100, 100]], not {shown(widths)}."
            )
        if len(widths) > MOST_LAYERS or max(widths) > MOST_UNITS:
            raise InputError(
                f"{place}: 'hidden' must be at most {MOST_LAYERS:,} layers of at most {MOST_UNITS:,} units, "
                f"not {shown(widths)}."
            )


def check_rows(place: str, n_train: Sequence[int], datasets: Sequence[str]) -> None:
    """Raises InputError where more training images are asked for than a set's authors published of a known set."""
    for name in datasets:
        spec = dataset(name)
        for n in n_train:
            if n > spec.train and not spec.own:  # of which the plan says that all are taken
                raise InputError(
                    f"{place}: 'n_train' {n:,} is above the {spec.train:,} images of the official training part of "
                    f'{name}; write "all" or a smaller number.'
                )


def check_block(place: str, block: dict[str, Any]) -> None:
    """The keys of a [[methods]] block and their types."""
    valid = (*BLOCK, *PER_METHOD)
    for key, value in block.items():
        if key not in valid:
            raise unknown_key(key, valid, f"{place}: methods")
        if not isinstance(value, BLOCK.get(key, object)):
            raise InputError(f"{place}: methods: '{key}' must be {BLOCK[key].__name__}, not {shown(value)}.")
    if "name" not in block:
        raise InputError(f"{place}: a [[methods]] block has no 'name'.")


def check_over(place: str, over: dict[str, Any]) -> None:
    """The lists of a block's `over`; raises InputError for more points than a grid may have runs."""
    for key, points in over.items():
        if not (isinstance(points, list) and points):
            raise InputError(f"{place}: 'over' needs a list of values of '{key}', not {shown(points)}.")
    count = math.prod(map(len, over.values()))
    if count > MOST_RUNS:
        raise InputError(
            f"{place}: 'over' has {count:,} points, the product of its lists; at most {MOST_RUNS:,} are taken."
        )


def make_label(place: str, text: str, settings: dict[str, Any]) -> str:
    """The label with hyper-parameters in place of their names in braces, as text that a CSV and a figure can hold."""
    name = f"the label {shown(text)}"
    try:
        parts = list(string.Formatter().parse(text))
        for _, field, form, _ in parts:
            if field is None:
                continue
            if not field.isidentifier():
                raise InputError(f"{place}: {name} may name hyper-parameters in its braces, not '{clipped(field)}'.")
            if field not in settings:
                raise unknown("hyper-parameter", field, settings, f"{place}: {name}")
            if re.search(r"\d{3}|\{", form or ""):
                raise InputError(
                    f"{place}: {name} has the format '{clipped(form)}'; write a shorter one, as in {{x:.3g}}."
                )
        label = text.format_map(settings)
    except (ValueError, IndexError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{place}: {name} is no text with {{hyper-parameters}} ({error}).") from None
    if label.strip().lower() in MISSING:
        raise InputError(f"{place}: {name} must be a name, and {shown(label)} reads as a missing value.")
    if len(label) > LABEL_CHARACTERS:
        raise InputError(f"{place}: {name} has {len(label):,} characters; at most {LABEL_CHARACTERS} are taken.")
    if not label.isprintable():
        raise InputError(f"{place}: {name} must be printable text on one line.")
    if label != label.strip():
        raise InputError(f"{place}: {name} must begin and end with a word, not with a blank.")
    return label
