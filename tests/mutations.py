"""Mutations of grids, data files, command lines, CSVs and the store, each drawn from a generator of its own seed."""

import io
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from helpers import METHODS, TUNED, Place


def mutated_text(draw: random.Random, text: str) -> tuple[str, str]:
    """One to three edits of characters, words or lines."""
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(("drop", "swap", "insert", "line", "twice", "cut"))
        at = draw.randrange(len(text) + 1)
        if kind == "drop":
            text = text[:at] + text[at + draw.randint(1, 5) :]
        elif kind == "swap":
            text = text[:at] + draw.choice("{}[]=\"'\\,.#\n0-") + text[at + 1 :]
        elif kind == "insert":
            text = text[:at] + draw.choice(INSERTS) + text[at:]
        elif kind == "cut":
            text = text[:at]
        else:
            lines = text.splitlines(keepends=True) or [""]
            i = draw.randrange(len(lines))
            lines[i] = "" if kind == "line" else lines[i] * 2
            text = "".join(lines)
    return "text", text


INSERTS = (
    "\x00",
    "\n",
    "é",
    "{",
    "}",
    "[[",
    "=",
    '"',
    "10000000000000000000000",
    "nan",
    "\ufeff",
    "true",
    "a.b.c",
    "\t",
)


def mutated_bytes(draw: random.Random, data: bytes) -> bytes:
    kind = draw.choice(("cut", "flip", "zero", "insert", "empty", "twice", "noise", "bits"))
    at = draw.randrange(len(data) + 1)
    few = draw.randint(1, 64)
    noise = bytes(draw.randrange(256) for _ in range(few))
    return {
        "cut": data[:at],
        "flip": data[:at] + bytes(b ^ 255 for b in data[at : at + few]) + data[at + few :],
        "zero": data[:at] + bytes(few) + data[at + few :],
        "insert": data[:at] + noise + data[at:],
        "empty": b"",
        "twice": data + data,
        "noise": noise,
        "bits": data[:at] + bytes(b ^ (1 << draw.randrange(8)) for b in data[at : at + 3]) + data[at + 3 :],
    }[kind]


def no_file(draw: random.Random, path: Path) -> str:
    """Something else in a file's place."""
    kind = draw.choice(("folder", "pipe", "loop", "dangling", "device", "gone"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "dangling":
        path.symlink_to(path.with_name("nowhere"))
    elif kind == "device":
        path.symlink_to("/dev/null")
    return kind


KEYS = (
    "title", "question", "datasets", "hidden", "activations", "n_train", "batch_size", "epochs", "seeds", "rule",
    "trials", "init", "inputs", "network", "constants", "evaluate_every", "gradient_norm", "first_seed", "lane",
    "methods", "target", "profile", "label", "learning_rate", "zzz",
)  # fmt: skip
VALUES = (
    "0", "-1", "3", "10000000000000000000", "1e300", "inf", "nan", "-inf", "true", "false", '""', '"all"', '"mnist"',
    '"digits"', '"\\u0000"', '"a\\nb"', '"NA"', '"{"', '"{beta1.real}"', "[]", "[[]]", "[16, 16]", "[[16, 16]]",
    "[[0]]", "[[true]]", "[[1000000000]]", "[1, [2]]", "{}", "{ a = 1 }", "{ a = { b = { c = 1 } } }", "1979-05-27",
    "1979-05-27T07:32:00Z", "0x7fffffffffffffff", "0x" + "f" * 5000, "[" * 900 + "]" * 900, '"' + "x" * 100_000 + '"',
    '["digits", "digits"]', '["relu", "rleu"]', '[{ reference = "SGD", share = nan }]', "[1, 2, 3]", '"tuned"',
    '"normal(1e400)"', '"normal(0)"', "['published', 'scaled']", "1e-300", '"=1+1"', "[nan]", '[["all"]]',
)  # fmt: skip
BLOCKS = (
    dict(set={"learning_rate": 0}), dict(set={"learning_rate": True}), dict(set={"learning_rate": "inf"}),
    dict(over={"learning_rate": []}), dict(over={"learning_rate": [0.1, 0.1]}), dict(label=""), dict(label="a|b$_^~\\"),
    dict(label="{learning_rate}" * 50), dict(label="nan"), dict(n_train=10**9), dict(batch_size=10**6),
    dict(hidden=[[2, 2], [3]]), dict(epochs=10**20), dict(set=3), dict(over={"learning_rate": [10**400]}),
    dict(over={f"k{i}": list(range(100)) for i in range(5)}), dict(methods="sgd"), dict(name=""), dict(name="sdg"),
    dict(first_seed=-1), dict(set={"learning_rate": 1e308}), dict(constants="published"),
)  # fmt: skip


def mutated_grid(draw: random.Random, place: Place) -> str:
    """A grid `other` that is nearly one; what was done."""
    kind = draw.choice(("value", "value", "value", "block", "block", "text", "text", "bytes", "tuned", "file", "name"))
    path = place.write("other", methods=[dict(m) for m in METHODS])
    text = path.read_text(encoding="utf-8")
    if kind == "value":
        key, value = draw.choice(KEYS), draw.choice(VALUES)
        lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
        lines.insert(0, f"{key} = {value}")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return f"{key} = {value[:40]}"
    if kind in ("block", "tuned"):
        change = draw.choice(BLOCKS)
        more = TUNED | dict(trials=draw.choice((1, 3, 10**9))) if kind == "tuned" else {}
        more["methods"] = [dict(name=draw.choice(("sgd", "samt", "tiam", "adam"))) | change, *METHODS[1:]]
        place.write("other", **more)
        return f"{kind} {str(change)[:60]}"
    if kind == "text":
        path.write_text(mutated_text(draw, text)[1], encoding="utf-8")
    elif kind == "bytes":
        path.write_bytes(mutated_bytes(draw, path.read_bytes()))
    elif kind == "file":
        return no_file(draw, path)
    else:
        path.rename(path.with_name(draw.choice(("...toml", ".x.toml", "all.toml", "a b.toml", "smoke.toml", "é.toml"))))
    return kind


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array(made, array, allow_pickle=pickled)
    return made.getvalue()


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    """An array's header without its data."""
    text = repr(dict(descr=kind, fortran_order=False, shape=shape)).ljust(117).encode() + b"\n"
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text


def members() -> dict[str, bytes]:
    random = np.random.RandomState(0)
    x_train, x_test = (random.randint(0, 256, (n, 28, 28)).astype(np.uint8) for n in (200, 50))
    arrays = dict(x_train=x_train, y_train=np.arange(200) % 10, x_test=x_test, y_test=np.arange(50) % 10)
    return {f"{key}.npy": npy(array) for key, array in arrays.items()}


WRONG: tuple[Callable[[], bytes], ...] = (
    lambda: b"hello", lambda: b"", lambda: npy(np.array(3)), lambda: npy(np.zeros((0, 28, 28), np.uint8)),
    lambda: npy(np.full(200, np.nan)), lambda: npy(np.full(200, 1.5)), lambda: npy(np.arange(200)),
    lambda: npy(np.array(["1"] * 200)), lambda: npy(np.zeros(200, "M8[s]")), lambda: npy(np.zeros(200, complex)),
    lambda: npy(np.zeros(200, [("a", "i4")])), lambda: npy(np.array([None, {}], object), pickled=True),
    lambda: header((10**12, 28, 28)), lambda: header((-5, 28, 28)), lambda: header((2**62, 28, 28)),
    lambda: header((200, 28, 28)), lambda: npy(np.full(200, -1)), lambda: npy(np.full(200, 10)),
    lambda: npy(np.zeros((200, 28), np.uint8)), lambda: npy(np.zeros((200, 28, 28), np.float32)),
    lambda: npy(np.asfortranarray(np.ones((200, 28, 28), np.uint8))), lambda: npy(np.arange(200).astype(">i2") % 10),
)  # fmt: skip


def mutated_data(draw: random.Random, path: Path, base: dict[str, bytes]) -> str:
    kind = draw.choice(("member", "member", "member", "lacking", "twice", "bare", "bytes", "bytes", "file", "inner"))
    content = list(base.items())
    i = draw.randrange(len(content))
    name, data = content[i]
    if kind == "member":
        content[i] = (name, draw.choice(WRONG)())
    elif kind == "lacking":
        del content[i]
    elif kind == "twice":
        content.append((draw.choice((name, name.removesuffix(".npy"))), draw.choice(WRONG)()))
    elif kind == "bare":
        content[i] = (name.removesuffix(".npy"), draw.choice((b"text", data)))
    elif kind == "inner":
        content[i] = (name, mutated_bytes(draw, data))
    with zipfile.ZipFile(path, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, value in content:
            archive.writestr(member, value)
    if kind == "bytes":
        path.write_bytes(mutated_bytes(draw, path.read_bytes()))
    elif kind == "file":
        return no_file(draw, path)
    return f"{kind} {name}"


LINES = (
    "run tiny", "plan tiny", "collect tiny", "figures tiny", "tables tiny", "claims", "check", "report", "methods",
    "grids", "datasets", "columns --out page.md", "clean", "plan all --seeds 2", "run tiny --methods sgd,adam",
    "tables --page page.md", "plan tiny --jobs 2 --device cpu",
)  # fmt: skip
WORDS = (
    "--seed", "--seeds", "0", "-1", "99999999999999999999999", "1e3", "٣", "--methods", "sgd,", ",", "sdg", "--data",
    "pipe", "/proc", "nowhere", "", " ", "\n", "é", "--profile", "smok", "paper", "--device", "gpu",
    "cuda", "--jobs", "--graphs", "--results", "--figures", "--page", "--out", "--grids", "all", "tiny", "../tiny",
    "--", "-", "--help=", "@file", "x" * 5000, "\udcff", "--only", "a.b", "~", "*", "${HOME}", "--for", "2h", "file",
)  # fmt: skip


def mutated_words(draw: random.Random, place: Place) -> list[str]:
    words = draw.choice(LINES).split()
    own = [word for word in place.words(words[0], "--device", "cpu") if word != words[0]]
    words[1:1] = own if words[0] in ("run", "plan", "collect") else [w for w in own if "results" in w]
    for _ in range(draw.randint(1, 3)):
        at, kind = draw.randrange(len(words) + 1), draw.choice(("insert", "insert", "replace", "drop", "letter"))
        if kind == "insert":
            words.insert(at, draw.choice(WORDS))
        elif at < len(words) and kind == "replace":
            words[at] = draw.choice(WORDS)
        elif at < len(words) and kind == "drop":
            del words[at]
        elif at < len(words) and not words[at].startswith("/"):  # nothing is written outside of the place
            words[at] = words[at][:2] + draw.choice("xs-=0") + words[at][3:]
    return words


FIELDS = ("", "nan", "inf", "-1", "1e999", "=1+1", "True", "x" * 200_000, "é", "{", "\x00", "a|b", "[]", "null", "done")


def mutated_field(draw: random.Random, path: Path) -> str:
    """One field of a CSV, a row or a column."""
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    kind = draw.choice(("field", "field", "field", "row", "rows", "column", "head", "torn"))
    i, j = draw.randrange(1, len(lines)), draw.randrange(len(lines[0]))
    name = lines[0][j]
    if kind == "field":
        lines[i][min(j, len(lines[i]) - 1)] = draw.choice(FIELDS)
    elif kind == "row":
        lines.append(lines[i])
    elif kind == "rows":
        del lines[i:]
    elif kind == "column":
        lines = [line[:j] + line[j + 1 :] for line in lines]
    elif kind == "head":
        lines[0][j] = draw.choice(("", "label", "x"))
    else:
        lines[-1] = lines[-1][: draw.randrange(1, len(lines[-1]))]
    path.write_text("\n".join(map(",".join, lines)) + draw.choice(("\n", "", "\r\n")), encoding="utf-8")
    return f"{kind} {name} of {path.name}"


def mutated_evidence(draw: random.Random, place: Place) -> str:
    """A CSV, a shard or a note of what was drawn; the store is gone in half of the cases."""
    kind = draw.choice(("field", "field", "field", "bytes", "bytes", "file", "store", "encoding"))
    csvs = sorted(place.results.rglob("tiny/*.csv"))
    without = draw.random() < 0.5 and kind != "store"
    if without:
        shutil.rmtree(place.store)
    path = draw.choice(csvs)
    if kind == "field":
        what = mutated_field(draw, path)
    elif kind == "bytes":
        path.write_bytes(mutated_bytes(draw, path.read_bytes()))
        what = f"bytes of {path.name}"
    elif kind == "file":
        what = f"{no_file(draw, path)} as {path.name}"
    elif kind == "encoding":
        path.write_text(path.read_text(encoding="utf-8"), encoding=draw.choice(("utf-16", "utf-32", "utf-8-sig")))
        what = f"encoding of {path.name}"
    else:
        path = draw.choice(sorted(p for p in place.store.iterdir() if p.is_file()))
        if draw.random() < 0.3:
            what = f"{no_file(draw, path)} as {path.name}"
        else:
            path.write_bytes(mutated_bytes(draw, path.read_bytes()))
            what = f"bytes of {path.name}"
    return f"{what}{', without the store' if without else ''}"
