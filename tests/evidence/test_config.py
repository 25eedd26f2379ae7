"""Run keys: what changes them and what does not."""

import dataclasses
import functools
import re
import shutil
from collections.abc import Callable

import pytest
import torch
from helpers import METHODS, PRINTS, ROOT, read_fixture  # noqa: F401

import am
from am.methods import method
from reproduce.evidence import config as config_module
from reproduce.evidence.config import RunConfig, code_hash, run_key
from reproduce.run.plan import plan, stacks


def config(**changes) -> RunConfig:
    settings = tuple(dataclasses.asdict(method("samt").settings()).items())
    return dataclasses.replace(
        RunConfig(
            dataset="digits", data_fingerprint="f" * 64, n_train=100, inputs="unit", network="mlp", activation="relu",
            hidden=(6, 6), init="he", method="samt", constants="scaled", settings=settings, seed=0, epochs=2,
            batch_size=25, evaluate_every=1,
        ),
        **changes,
    )  # fmt: skip


OTHER = dict(
    dataset="mnist", data_fingerprint="e" * 64, n_train=0, inputs="standardised", network="cnn",
    activation="elu", hidden=(6,),
    init="xavier", method="sam", constants="published",
    settings=tuple(dataclasses.asdict(method("samt").settings(dict(beta=0.02))).items()),
    seed=1, epochs=3, batch_size=50, evaluate_every=0.5, read_test=False,
    gradient_norm=True, lane="time",
)  # fmt: skip


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(RunConfig)])
def test_every_part_of_a_configuration_changes_the_key(field):
    assert config() == config() and run_key(config()) == run_key(config())
    assert run_key(config(**{field: OTHER[field]})) != run_key(config())


def test_a_key_depends_on_no_neighbour_in_the_grid(read):
    def keys(**changes):
        return {(r.config.method, r.config.seed): r.run_key for r in plan(read(**changes), PRINTS)}

    whole = keys()
    assert keys(methods=METHODS[:1]).items() <= whole.items()
    assert keys(methods=METHODS[::-1], seeds=1).items() <= whole.items()
    assert keys(title="Another", question="Another?", paper="TIAM") == whole
    assert keys(methods=[dict(name="sgd", label="Another")]).items() <= whole.items()
    wider = plan(read(datasets=["digits"], hidden=[[6], [7]], activations=["elu", "relu"]), PRINTS)
    assert set(whole.values()) <= {run.run_key for run in wider}


def test_in_the_time_lane_runs_train_alone_and_trials_do_not(read):
    trials = dict(rule="tuned", trials=3, methods=[dict(name="sgd")])
    lookup = lambda key: dict(status="done", curve=[dict(val_accuracy=0.5)])
    fast = plan(read(**trials), PRINTS, lookup)
    timed = plan(read(lane="time", gradient_norm=True, **trials), PRINTS, lookup)
    assert [run.run_key for run in timed[:3]] == [run.run_key for run in fast[:3]], "trials are shared"
    assert {(run.config.lane, run.config.gradient_norm) for run in timed[3:]} == {("time", True)}
    made = stacks(timed, {"digits": (64, 1000)}, torch.device("cpu"))
    assert [len(stack) for stack in made] == [3, 1, 1]
    assert timed[3].config.budget.alone and not timed[0].config.budget.alone


def test_a_default_written_out_is_the_same_run(read):
    default = method("sgd").settings().learning_rate
    written = read(methods=[dict(name="sgd", set=dict(learning_rate=default))], activations=["relu"], inputs="unit")
    assert plan(written, PRINTS)[0].run_key == plan(read(), PRINTS)[0].run_key


@pytest.fixture(name="copy")
def copy_fixture(tmp_path, monkeypatch):
    """A copy of the code that the hashes are taken of; `am` itself stays as imported."""
    shutil.copytree(ROOT / "am", tmp_path / "am", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "reproduce", tmp_path / "reproduce", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(am, "__file__", str(tmp_path / "am" / "__init__.py"))
    monkeypatch.setattr(config_module, "_code", once_for_each_content(config_module._code.__wrapped__))
    return tmp_path


def once_for_each_content(code: Callable) -> Callable:
    """The hash of a file and what it imports, taken anew where the file has changed."""
    taken = functools.cache(lambda root, path, content: code(root, path))
    return lambda root, path: taken(root, path, path.read_bytes())


def hashes(*names: str) -> dict[str, str]:
    return {name: code_hash.__wrapped__(name) for name in names}


# For each file, which of four methods compute with it.
EVERY = {"adam", "mdlam", "samt", "tiam"}
USED_BY = {
    "am/training.py": EVERY,
    "am/batches.py": EVERY,
    "am/counters.py": EVERY,
    "am/data.py": EVERY,
    "am/networks.py": EVERY,
    "am/activations.py": EVERY,
    "am/method.py": EVERY,
    "am/evaluation.py": EVERY,
    "am/backprop.py": EVERY,  # the norm that evaluations take
    "am/descent.py": {"adam", "samt"},
    "am/penalised.py": {"mdlam", "tiam"},
    "am/backtracking.py": {"mdlam", "tiam"},
    "am/methods/adam.py": {"adam"},
    "am/methods/mdlam.py": {"mdlam"},
    "am/methods/samt.py": {"samt"},
    "am/methods/tiam.py": {"tiam"},
}
USED_BY_NONE = (
    "am/methods/gd.py",
    "am/run.py",
    "am/machine.py",
    "am/methods/__init__.py",
    "reproduce/show/figures.py",
    "reproduce/run/collect.py",
    "reproduce/run/grid.py",
)


def test_code_changes_the_keys_of_the_methods_that_use_it_and_no_others(copy):
    before = hashes(*sorted(EVERY))
    assert len(set(before.values())) == len(before)
    for file in USED_BY_NONE:
        path = copy / file
        path.write_text(path.read_text() + "\n_ANOTHER = 1\n")
    assert hashes(*before) == before
    for file, users in USED_BY.items():
        path = copy / file
        text = path.read_text()
        path.write_text(text + "\n_ANOTHER = 1\n")
        now = hashes(*before)
        assert {name for name in before if now[name] != before[name]} == users, file
        path.write_text(text)
    assert hashes(*before) == before


def test_one_changed_number_changes_the_keys(copy):
    before = hashes("tiam", "adam")
    path = copy / "am" / "methods" / "tiam.py"
    text = path.read_text()
    first_inertia = re.compile(r"(p1: float = setting\(\s*)0\.9,")
    assert len(first_inertia.findall(text)) == 1
    path.write_text(first_inertia.sub(r"\g<1>0.8,", text))
    after = hashes("tiam", "adam")
    assert after["tiam"] != before["tiam"] and after["adam"] == before["adam"]


def test_comments_docstrings_and_layout_change_no_key(copy):
    before, documented = hashes(*sorted(EVERY)), 0
    for path in [*(copy / "am").glob("*.py"), *(copy / "am" / "methods").glob("*.py")]:
        text = path.read_text()
        assert text.startswith('"""')
        text, words = re.subn(r'(:\n +)"""(?=\w)', r'\1"""Other words. ', text.replace('"""', '"""Other words. ', 1))
        documented += words
        path.write_text("# A comment.\n" + text.replace("\n\n\n", "\n\n\n\n# Another comment.\n") + "\n\n# The end.\n")
    assert documented > 50
    assert hashes(*before) == before


@pytest.mark.parametrize(
    "line",
    [
        "from am.extra import f",
        "from am import extra",
        "import am.extra",
        "import am.extra as e",
        "from ..extra import f",
        "from .. import extra",
        "def late():\n    from am.extra import f",
    ],
)
def test_a_helper_counts_however_it_is_imported(copy, line):
    path, helper = copy / "am" / "methods" / "sgd.py", copy / "am" / "extra.py"
    helper.write_text("from am.deeper import g\nf = 1\n")
    deeper = copy / "am" / "deeper.py"
    deeper.write_text("g = 1\n")
    path.write_text(path.read_text() + f"\n{line}\n")
    before = hashes("sgd")
    helper.write_text("from am.deeper import g\nf = 2\n")
    between = hashes("sgd")
    deeper.write_text("g = 2\n")
    assert len({before["sgd"], between["sgd"], hashes("sgd")["sgd"]}) == 3


def test_the_hash_of_code_is_the_same_under_every_python(tmp_path):
    """The number was computed under 3.11, 3.12 and 3.13; keys of committed CSVs depend on it."""
    path = tmp_path / "module.py"
    path.write_text(SNIPPET)
    assert config_module._code(tmp_path, path)[0][:16] == "cd5d6a902c9f636c"


SNIPPET = '''
"""Words."""
from dataclasses import dataclass


@dataclass(frozen=True)
class A:
    """Words."""

    x: int = 3

    def f(self, *words: str, y: float = 1e-3, **more) -> str:
        """Words."""
        return f"{self.x:>5} {y!r}" + ", ".join(w for w in words if w not in (None, []))


async def g(a, /, b, *, c=lambda v: v):
    try:
        a[1:2, ...] += b @ c(-a)
    except (ValueError, KeyError) as error:
        raise TypeError from error
    return {**a, "k": [i := 3, *b]}
'''
