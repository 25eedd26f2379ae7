"""The one reader and the one writer of CSVs, by the columns of `reproduce.evidence.schema`; and files written whole."""

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from am.errors import InputError
from reproduce.evidence.columns import COLUMNS
from reproduce.evidence.schema import TABLES


class Stale(InputError):
    """All rows of a runs.csv are of other code or another grid: there is nothing to show or to judge."""


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
                if time.time() - path.stat().st_mtime > 1:  # a writer locks right after it has opened
                    path.unlink()
        except OSError:
            pass  # being written, gone meanwhile, or another user's


def malformed(path: Path, found: str, evidence: bool = False) -> InputError:
    """What is raised for a CSV that the suite did not write. evidence: its rows may be all that is left of runs."""
    if evidence:
        return InputError(
            f"{path} is malformed ({found}), and writing it anew would lose its rows; restore it, for example by "
            "`git checkout`, or move it away."
        )
    table = TABLES.get(path.stem)
    target = "reproduce-all" if table is None else table.target
    target = f"reproduce-{path.parent.name}" if target == "collect" else target
    return InputError(f"{path} is malformed ({found}); delete it and run `make {target}` to write it anew.")


def read_text(path: Path, columns: Sequence[str] = (), evidence: bool = False) -> pd.DataFrame:
    """A CSV as text, "" for an empty field. Raises InputError where it lacks one of `columns` or is no CSV.

    A column that is later than the CSV is empty. Stale rows are left out, and with them the column that marks them,
    unless the CSV is read as `evidence`, whose every row counts. Raises Stale for a runs.csv of none but stale rows.
    """
    require_file(path)
    try:
        # Not pandas' reader: it fills up a row that was torn.
        with open(path, newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file, strict=True) if line]
    except FileNotFoundError:
        target = malformed(path, "").args[0].partition("`make ")[2].partition("`")[0]
        raise InputError(f"{path} is not there; run `make {target}` to write it.") from None
    except (OSError, ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise malformed(path, " ".join(str(error).split()), evidence) from None
    if evidence and not path.read_bytes().endswith(b"\n"):
        raise malformed(path, "its last line is torn", evidence)
    if not lines:
        raise malformed(path, "no columns in it", evidence)
    if twice := [name for name in lines[0] if lines[0].count(name) > 1]:
        raise malformed(path, f"the column '{twice[0]}' twice", evidence)
    for line in lines:
        if len(line) != len(lines[0]):
            raise malformed(path, f"a row of {len(line)} fields under {len(lines[0])} columns", evidence)
    frame = pd.DataFrame(lines[1:], columns=lines[0], dtype=str)
    for name in columns:
        if name not in frame and name in COLUMNS and COLUMNS[name].later:
            frame[name] = ""
        if name not in frame:
            raise malformed(path, f"no column '{name}'", evidence)
    if "stale" in frame and not evidence:
        fresh = frame[frame["stale"] != "True"].drop(columns="stale").reset_index(drop=True)
        if path.name == "runs.csv" and len(frame) and fresh.empty:
            target = f"make reproduce-{path.parent.name}"
            raise Stale(
                f"{path}: all {len(frame)} rows are stale, of other code or another grid; `{target}` trains anew."
            )
        return fresh
    return frame


def read(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV with every column as its kind, a number missing as NaN; `columns` must be there, and their text not empty.

    Columns that the schema does not know stay text. Raises InputError for what is not a value of its kind, and for two
    rows that share the table's key.
    """
    frame, table = read_text(path, columns), TABLES.get(path.stem)
    known = {column.name: column for column in table.columns} if table else COLUMNS
    for name in frame:
        column = known.get(name)
        if name in columns and column and column.kind in ("text", "flag") and (frame[name] == "").any():
            raise malformed(path, f"an empty '{name}'")
        if column and column.kind != "text":
            frame[name] = _typed(path, frame[name], column.kind)
    key = [name for name in table.key if name in frame] if table else []
    if key and (twice := frame.duplicated(key)).any():
        found = (f"{name.removesuffix('_key')} {frame[name][twice].iloc[0]}" for name in key)
        raise malformed(path, f"two points of {', '.join(found)}")
    return frame


def _typed(path: Path, text: pd.Series, kind: str) -> pd.Series:
    if kind == "flag":
        wrong, values = ~text.isin(("True", "False", "")), text.map({"True": True, "False": False})
    else:
        values = pd.to_numeric(text.where(text != "", "nan"), errors="coerce")
        wrong = values.isna() & ~text.isin(("", "nan"))
        if kind == "share":
            wrong |= (values < 0) | (values > 1)
    if wrong.any():
        raise malformed(path, f"'{text.name}' {text[wrong].iloc[0]}")
    return values


def finite(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with infinite numbers as missing: a figure has no place for them."""
    return frame.replace([np.inf, -np.inf], np.nan)


def write(path: Path, rows: pd.DataFrame | Iterable[dict[str, str]], digits: int | None = None) -> bool:
    """Write a CSV whole; True if that changed it. digits: of its numbers, all that they have by default.

    Rows of text are written as they are, under all columns of the table; a frame under its own, which the table must
    have: a column that nobody declared is a KeyError.
    """
    names = TABLES[path.stem].names
    if isinstance(rows, pd.DataFrame):
        if unknown := [name for name in rows if name not in names]:
            raise KeyError(f"{path.name} has no column {unknown[0]}")
        text_columns = rows.select_dtypes(exclude="number").columns
        content = rows.assign(**{name: rows[name].map(_no_formula) for name in text_columns}).to_csv(
            index=False, float_format=None if digits is None else f"%.{digits}g"
        )
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
        content = text.getvalue()
    require_file(path)
    if path.is_file() and path.read_bytes() == content.encode():
        return False
    write_whole(path, content)
    return True


def _no_formula(value: object) -> object:
    """A field that a spreadsheet would take for a formula, with the apostrophe that makes it text."""
    return f"'{value}" if isinstance(value, str) and value.startswith("=") else value


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
