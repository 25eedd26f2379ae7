"""What determines a run: its configuration, and the key that hashes it with the code it depends on."""

import ast
import dataclasses
import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import am
from am.method import Method
from am.methods import methods
from am.modules.optimizers import package_version
from am.training import Budget

CONSTANTS = ("scaled", "published")
MLP = "mlp"  # the network of the stacked lane; the others are those of `am.modules`


@dataclass(frozen=True)
class RunConfig:
    """What determines a run's numbers. `run_key` hashes it together with the code it depends on.

    settings: the values in force, after any scaling.  constants: "scaled" where those that belong to a number of rows
    were multiplied by n / N_full, "published" where they stand as the method and the grid give them (SPEC 8).
    """

    dataset: str
    data_fingerprint: str
    n_train: int  # at the most; 0: all
    inputs: str
    network: str
    activation: str
    hidden: tuple[int, ...]
    init: str
    method: str
    constants: str
    settings: tuple[tuple[str, Any], ...]
    seed: int
    epochs: int
    batch_size: int  # 0: full batch
    evaluate_every: float
    read_test: bool = True
    gradient_norm: bool = False
    lane: str = "accuracy"  # or "time": alone on the device, under the clock

    @property
    def budget(self) -> Budget:
        alone = self.lane == "time"
        return Budget(self.epochs, self.batch_size, self.evaluate_every, self.read_test, self.gradient_norm, alone)


def run_key(config: RunConfig) -> str:
    """sha256 of the configuration and of the code it depends on, shortened to 20 hex digits."""
    code = code_hash if config.network == MLP else module_hash
    text = json.dumps(dataclasses.asdict(config), sort_keys=True) + code(config.method)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@functools.cache
def code_hash(name: str) -> str:
    """Hash of the method's file, the training loop, and every module of `am` that either of them imports.

    Taken over syntax trees without docstrings, so that a comment makes no result stale and any change of code does.
    """
    root = Path(am.__file__).parent
    return _hash_of(root, [_defining(root, name), root / "training.py", root / "data.py"])


@functools.cache
def module_hash(name: str) -> str:
    """Hash of the module lane, the method's file, every module of `am` that these import, and the optimizer's package.

    So no edit of the lane changes a key of the multilayer perceptron's runs, nor another package one of this lane's.
    """
    root = Path(am.__file__).parent
    lane = (root.parent / "am/modules").glob("*.py")
    return f"{_hash_of(root, [_defining(root, name), *lane])} {package_version(name)}"


def _defining(root: Path, name: str) -> Path:
    return next(path for path in sorted((root / "methods").glob("*.py")) if _defines(path, name))


def _hash_of(root: Path, start: list[Path]) -> str:
    lines = (f"{os.path.relpath(path, root)} {_code(root, path)[0]}" for path in _closure(root, start))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _defines(path: Path, name: str) -> bool:
    module = __import__(f"am.methods.{path.stem}", fromlist=["_"]) if path.stem != "__init__" else None
    return any(isinstance(v, Method) and v is methods()[name] for v in vars(module).values()) if module else False


def _closure(root: Path, start: list[Path]) -> list[Path]:
    todo, seen = list(start), set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += _code(root, path)[1]
    return sorted(seen)


@functools.cache
def _code(root: Path, path: Path) -> tuple[str, list[Path]]:
    """Hash of a module's code, whatever its comments and docstrings, and the modules of `am` that it imports."""
    tree = ast.parse(path.read_text())
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for dotted in _imported(node, list(path.parent.relative_to(root.parent).parts)):
                base = root.joinpath(*dotted.split(".")[1:])
                imported += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file() and base != root]
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(repr(_structure(tree)).encode()).hexdigest(), imported


def _imported(node: ast.Import | ast.ImportFrom, package: list[str]) -> list[str]:
    """Dotted names of `am` that may be modules; package: where a relative import starts."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        start = package[: len(package) + 1 - node.level] if node.level else []
        module = ".".join([*start, *([node.module] if node.module else [])])
        names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == "am"]


def _structure(node: Any) -> Any:
    """A syntax tree as nested lists without its empty fields, which differ between versions of Python."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        return [type(node).__name__, *([name, _structure(v)] for name, v in fields if v not in (None, []))]
    return [_structure(v) for v in node] if isinstance(node, list) else node
