"""The one reader and the one writer of CSVs, by the columns of `reproduce.evidence.schema`; and files written whole."""

import contextlib
import csv
import fcntl
import functools
import gc
import io
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from am.errors import InputError
from reproduce.evidence.columns import COLUMNS
from reproduce.evidence.schema import TABLES

MOST_SHOWN = 60  # characters of a field in a sentence
EVIDENCE = ("runs", "curves", "tuning", "manifest")  # what these files of a grid hold may be all that is left of runs


class Stale(InputError):
    """No row of a runs.csv counts: there is nothing to show or to judge."""


@dataclass(frozen=True)
class Sheet:
    """A CSV as text, before anybody asks what it says. numbers: the line of the file on which each row ends."""

    path: Path
    names: list[str]
    rows: list[list[str]]
    numbers: list[int]

    def only(self, kept: Sequence[int]) -> "Sheet":
        """The sheet with the rows at these places alone."""
        if len(kept) == len(self.rows):
            return self
        return replace(self, rows=[self.rows[i] for i in kept], numbers=[self.numbers[i] for i in kept])


def require_file(path: Path) -> None:
    """Raise InputError where something that is no file stands in a file's place: reading a FIFO would never end."""
    kind = "a symbolic link" if path.is_symlink() else "a folder" if path.is_dir() else "no regular file"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError(f"{path} is {kind} where a file belongs; move it away.")


def sweep(folder: Path) -> None:
    """Delete the parts that killed processes left in a folder: a part that is being written is locked by its writer."""
    for path in folder.glob(".*.part"):
        try:
            if path.is_symlink() or not path.is_file():
                continue
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A writer locks right after it has opened; one that is no process here may be another machine's.
                if time.time() - path.stat().st_mtime > (1 if _runs(path.name.split(".")[-2]) else 0.05):
                    path.unlink()
        except OSError:
            pass  # being written, gone meanwhile, or another user's


def _runs(pid: str) -> bool:
    """Whether a process of this machine has the number that a part's name ends with."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        pass
    return True


def malformed(path: Path, found: str) -> InputError:
    """What is raised for a CSV that the suite did not write. Nobody is told to delete what is evidence, by its name."""
    if path.stem in EVIDENCE:
        return InputError(
            f"{path} is malformed ({found}), and writing it anew would lose its rows; restore it, for example by "
            "`git checkout`, or move it away."
        )
    return InputError(f"{path} is malformed ({found}); delete it and run `make {_target(path)}` to write it anew.")


def _target(path: Path) -> str:
    """The make target that writes a CSV."""
    table = TABLES.get(path.stem)
    target = "reproduce-all" if table is None else table.target
    return f"reproduce-{path.parent.name}" if target == "collect" else target


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Makes 100,000 lists without the collector of cycles, which looks through all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_sheet(path: Path) -> Sheet:
    """A CSV as text. What a spreadsheet changes without harm is taken back: a BOM, line ends, TRUE for True.

    So are the apostrophes that `write` sets. Raises InputError for what is no CSV.
    """
    content = _content(path)
    _check_separators(path, content)
    # Not pandas' reader: it fills up a row that was torn.
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    lines, numbers = [], []
    try:
        with uncollected():
            for line in reader:
                if line:
                    lines.append(line)
                    numbers.append(reader.line_num)
    except csv.Error as error:
        raise malformed(path, " ".join(str(error).split())) from None
    if path.stem in EVIDENCE and not content.endswith("\n"):
        raise malformed(path, "its last line is torn")
    if not lines:
        raise malformed(path, "no columns in it")
    names = lines[0]
    if twice := [name for name in names if names.count(name) > 1]:
        raise malformed(path, f"the column '{shown(twice[0])}' twice")
    for line, number in zip(lines, numbers):
        if len(line) != len(names):
            raise malformed(path, f"a row of {len(line)} fields under {len(names)} columns, in line {number}")
    sheet = Sheet(path, names, lines[1:], numbers[1:])
    _take_back(sheet, content)
    return sheet


def _content(path: Path) -> str:
    require_file(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path} is not there; run `make {_target(path)}` to write it.") from None
    except UnicodeDecodeError:
        raise malformed(path, "it is no text in UTF-8") from None
    except OSError as error:
        raise malformed(path, str(error.strerror)) from None


def _check_separators(path: Path, content: str) -> None:
    """Raises InputError where a spreadsheet has written another kind of CSV: no separator but the comma is taken."""
    head = content.partition("\n")[0]
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if head.count(sign) > head.count(","):
            raise InputError(
                f"{path} is separated by {word}, as a spreadsheet saves it; take the file from git or export it with "
                "commas."
            )


def _take_back(sheet: Sheet, content: str) -> None:
    """Undo, in the rows themselves, what `write` and spreadsheets do. Raises InputError for decimal commas."""
    kinds = {i: kind_of(sheet.path, name) for i, name in enumerate(sheet.names)}
    texts = [i for i, kind in kinds.items() if kind == "text"]
    if re.search(r"'[=+\-@\t]", content):
        for row in sheet.rows:
            for i in texts:
                row[i] = re.sub(rf"^'({_FORMULA})", r"\1", row[i])
    for i in (i for i, kind in kinds.items() if kind == "flag"):
        for row in sheet.rows:
            if row[i] in ("TRUE", "FALSE", "true", "false"):
                row[i] = row[i].capitalize()
    if re.search(r'"-?\d+,\d+', content):
        for row, number in zip(sheet.rows, sheet.numbers):
            for i, field in enumerate(row):
                if kinds[i] not in ("text", "flag", "") and re.fullmatch(r"-?\d+,\d+(?:[eE][+-]?\d+)?", field):
                    raise InputError(
                        f"{sheet.path} has decimal commas ('{sheet.names[i]}' {shown(field)} in line {number}), as a "
                        "spreadsheet saves them; take the file from git or export it with decimal points."
                    )


@functools.cache
def _kinds(stem: str) -> dict[str, str]:
    table = TABLES.get(stem)
    return {name: column.kind for name, column in COLUMNS.items()} | (
        {column.name: column.kind for column in table.columns} if table else {}
    )


def kind_of(path: Path, name: str) -> str:
    """The kind of a CSV's column, one of KINDS; "" for one that the schema does not know."""
    return _kinds(path.stem).get(name, "")


def read_text(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV as text, "" for an empty field. Raises InputError where it lacks one of `columns` or is no CSV.

    A column that is later than the CSV is empty. Who judges or shows what is in runs.csv, curves.csv and tuning.csv
    reads them by `reproduce.evidence.door`, which gives the rows that count.
    """
    return frame_of(read_sheet(path), columns)


def frame_of(sheet: Sheet, columns: Sequence[str] = ()) -> pd.DataFrame:
    """The sheet as a frame of text; `columns` must be there, and one that is later than the CSV is empty."""
    frame = pd.DataFrame(sheet.rows, columns=sheet.names, dtype=str)
    for name in columns:
        if name not in frame and name in COLUMNS and COLUMNS[name].later:
            frame[name] = ""
        if name not in frame:
            raise malformed(sheet.path, f"no column '{name}'")
    return frame


def read(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV with every column as its kind, a number missing as NaN; `columns` must be there, and their text not empty.

    Columns that the schema does not know stay text. Raises InputError for what is not a value of its kind, and for two
    rows that share the table's key.
    """
    return typed(read_sheet(path), columns)


def typed(sheet: Sheet, columns: Sequence[str] = ()) -> pd.DataFrame:
    """The sheet as `read` gives it."""
    frame, table = frame_of(sheet, columns), TABLES.get(sheet.path.stem)
    for name in frame:
        kind = kind_of(sheet.path, name)
        if name in columns and kind in ("text", "flag") and (empty := frame[name] == "").any():
            raise malformed(sheet.path, f"an empty '{name}' in line {sheet.numbers[int(empty.argmax())]}")
        if kind not in ("", "text"):
            frame[name] = _values(sheet, frame[name], kind)
    key = [name for name in table.key if name in frame] if table else []
    if key and (twice := frame.duplicated(key)).any():
        found = (f"{name.removesuffix('_key')} {shown(str(frame[name][twice].iloc[0]))}" for name in key)
        raise malformed(sheet.path, f"two points of {', '.join(found)}")
    return frame


def _values(sheet: Sheet, text: pd.Series, kind: str) -> pd.Series:
    if kind == "flag":
        wrong, values = ~text.isin(("True", "False", "")), text.map({"True": True, "False": False})
    else:
        values = pd.to_numeric(text.where(text != "", "nan"), errors="coerce")
        wrong = values.isna() & ~text.isin(("", "nan"))
        if kind == "share":
            wrong |= (values < 0) | (values > 1)
    if wrong.any():
        at = int(wrong.argmax())
        raise malformed(sheet.path, f"'{text.name}' {shown(text.iloc[at])} in line {sheet.numbers[at]}")
    return values


def shown(text: str) -> str:
    """A field as a sentence can hold it: on one line, and not for ever."""
    line = text if text.isprintable() else repr(text)[1:-1]
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]}..."


def finite(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with infinite numbers as missing: a figure has no place for them."""
    return frame.replace([np.inf, -np.inf], np.nan)


def write(path: Path, rows: pd.DataFrame | Iterable[dict[str, str]], digits: int | None = None) -> bool:
    """Write a CSV whole; True if that changed it. digits: of its numbers, all that they have by default.

    Rows of text are written as they are, under all columns of the table; a frame under its own, which the table must
    have: a column that nobody declared is a KeyError.
    """
    names = TABLES[path.stem].names
    texts = {name for name in names if kind_of(path, name) == "text"}
    if isinstance(rows, pd.DataFrame):
        if unknown := [name for name in rows if name not in names]:
            raise KeyError(f"{path.name} has no column {unknown[0]}")
        content = rows.assign(**{name: rows[name].map(_no_formula) for name in rows if name in texts}).to_csv(
            index=False, float_format=None if digits is None else f"%.{digits}g"
        )
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: _no_formula(value) if name in texts else value for name, value in row.items()} for row in rows
        )
        content = text.getvalue()
    require_file(path)
    if path.is_file() and path.read_bytes() == content.encode():
        return False
    write_whole(path, content)
    return True


_FORMULA = r"'*[=+\-@\t]"  # what text begins with that a spreadsheet would compute, or that has been guarded before


def _no_formula(value: object) -> object:
    """Text that a spreadsheet would take for a formula, with the apostrophe that makes it text.

    The one rule for = + - @ and tab; numbers, whose columns have another kind, have none. `read_sheet` takes it off.
    """
    return f"'{value}" if isinstance(value, str) and re.match(_FORMULA, value) else value


def markdown_cell(text: str) -> str:
    """Text as a Markdown table shows it: what would end the cell, or be markup, is escaped."""
    return re.sub(r"[\\`*|<>\[\]~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def as_toml(value: object) -> str:
    """A value of a grid as TOML, on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def make_folder(folder: Path, advice: str = "choose another place") -> None:
    """Make a folder and those above it; raises InputError, which ends in `advice`, where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); {advice}.") from None


def write_whole(path: Path, content: str | bytes, advice: str = "what was there is untouched") -> None:
    """Write a file so that a reader sees the old content or the new, never a part; an equal file is left as it is.

    Text is written as UTF-8. Raises InputError, which ends in `advice`, where the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.is_file() and path.read_bytes() == data:
        return
    if path.exists() and not path.is_file():  # a device or a pipe would be replaced, and gone for all
        raise InputError(f"{path} cannot be written (it is no regular file); {advice}.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # where a folder of the path is a file, there is no part either
            part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror}); {advice}.") from None
