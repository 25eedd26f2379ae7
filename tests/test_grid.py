"""Grids: those of the suite load, a mistake in one is refused with its place; run keys and stacks."""

import dataclasses
import hashlib
import itertools
import re
import shutil

import pytest
import torch
from helpers import METHODS, ROOT, grid_text

import am
from am.data import DATASETS, NAMES
from am.errors import InputError
from am.machine import CPU_STACK, largest_stack
from am.methods import method
from reproduce import grid as grid_module
from reproduce.grid import (
    PROFILES,
    PlannedRun,
    RunConfig,
    code_hash,
    grid_names,
    load_grid,
    plan,
    read_grid,
    run_key,
    stacks,
)

PRINTS = {name: (hashlib.sha256(name.encode()).hexdigest(), True) for name in NAMES}
SHAPES = {name: (d.inputs, d.train) for name, d in DATASETS.items()}
CPU = torch.device("cpu")


@pytest.fixture
def read(tmp_path):
    """read(**changes): the tiny grid with changes, under profile smoke."""

    def read(text: str | None = None, profile_asked: str = "smoke", **changes):
        path = tmp_path / "tiny.toml"
        path.write_text(grid_text(**changes) if text is None else text)
        return read_grid(path, profile_asked)

    return read


def refusal(read, **changes) -> str:
    with pytest.raises(InputError) as caught:
        read(**changes)
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", "?"))
    return message


# ------------------------------------------------------------------------------------------------------ the suite's own


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", grid_names())
def test_every_grid_loads_and_plans_under_every_profile(name, profile):
    grid = load_grid(name, profile)
    assert (grid.name, grid.profile) == (name, profile)
    assert grid.title and grid.question and grid.paper
    runs = plan(grid, PRINTS, lambda run_key: dict(status="done", curve=[dict(val_accuracy=0.5)]))
    networks = sum(len(entry.overrides.get("hidden", grid.hidden)) for entry in grid.entries)
    problems = len(grid.datasets) * len(grid.activations) * networks
    assert len(runs) == problems * (grid.seeds + grid.trials) > 0
    identity = {(r.config.dataset, r.config.hidden, r.config.activation, r.label, r.config.seed, r.trial) for r in runs}
    assert len(identity) == len(runs)
    made = stacks(runs, SHAPES, CPU)
    assert sum(map(len, made)) == len({run.run_key for run in runs})
    if profile == "smoke":
        assert grid.datasets == ["digits"]


def test_the_issue_s_grids_are_there_and_quickstart_comes_first():
    names = grid_names()
    assert names[0] == "quickstart"
    assert {"tiam_accuracy", "tiam_inertia", "samt_accuracy", "samt_updates"} <= set(names)
    quickstart = {entry.method.name for entry in load_grid("quickstart", "smoke").entries}
    assert quickstart >= {"gd", "sgd", "momentum", "adam", "adamw", "sam", "samt", "mdlam", "tiam"}
    inertia = {
        tuple(e.settings.__dict__[p] > 0 for p in ("p1", "p2", "p3"))
        for e in load_grid("tiam_inertia", "paper").entries
    }
    assert inertia == set(itertools.product([False, True], repeat=3))
    shapes = {e.settings.shape for e in load_grid("samt_accuracy", "paper").entries if e.method.name == "samt"}
    assert shapes == {"scalar", "row", "column", "element"}
    four = ["mnist", "fashion_mnist", "cifar10", "svhn"]
    for name in ("tiam_accuracy", "samt_accuracy"):
        assert load_grid(name, "light").datasets == load_grid(name, "paper").datasets == four


# --------------------------------------------------------------------------------------------------- what a grid says


def test_a_profile_scales_a_grid(read):
    profile = dict(light=dict(epochs=7, n_train=50), smoke=dict(seeds=3))
    paper = read(profile_asked="paper", datasets=["mnist", "svhn"], profile=profile)
    assert (paper.datasets, paper.epochs, paper.n_train, paper.seeds) == (["mnist", "svhn"], 2, 100, 2)
    light = read(profile_asked="light", datasets=["mnist", "svhn"], profile=profile)
    assert (light.datasets, light.epochs, light.n_train, light.seeds) == (["mnist", "svhn"], 7, 50, 2)
    smoke = read(datasets=["mnist", "svhn"], profile=profile)
    assert (smoke.datasets, smoke.epochs, smoke.n_train, smoke.seeds) == (["digits"], 4, 500, 3)


def test_seeds_and_methods_narrow_a_grid(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(grid_text())
    narrow = read_grid(path, "smoke", seeds=5, only=["adam", "sgd"])
    assert narrow.seeds == 5
    assert [entry.method.name for entry in narrow.entries] == ["sgd", "adam"]
    assert {run.config.seed for run in plan(narrow, PRINTS)} == set(range(5))


def test_a_block_sets_varies_labels_and_overrides(read):
    block = dict(
        name="samt", label="{shape} {alpha0}", set=dict(beta=0.5), over=dict(shape=["row", "scalar"], alpha0=[0.1, 1]),
        batch_size=10, inputs="standardised", n_train="all",
    )  # fmt: skip
    grid = read(methods=[block, dict(name="tiam")])
    assert [e.label for e in grid.entries] == ["row 0.1", "row 1.0", "scalar 0.1", "scalar 1.0", "TIAM"]
    assert all(e.settings.beta == 0.5 for e in grid.entries[:4])
    samt, tiam = (next(r.config for r in plan(grid, PRINTS) if r.config.method == name) for name in ("samt", "tiam"))
    assert (samt.batch_size, samt.inputs, samt.n_train) == (10, "standardised", 0)
    assert (tiam.batch_size, tiam.inputs, tiam.n_train) == (0, "unit", 100)  # a full-batch method has no batches


def test_the_order_of_the_plan_is_the_order_of_the_file(read):
    runs = plan(read(datasets=["digits"], hidden=[[6], [4, 4]], activations=["relu", "elu"]), PRINTS)
    seen = [(r.config.activation, r.config.method, r.config.hidden, r.config.seed) for r in runs]
    assert seen == list(itertools.product(["relu", "elu"], ["sgd", "adam", "mdlam"], [(6,), (4, 4)], [0, 1]))


# ------------------------------------------------------------------------------------------------------------ refusals

SGD = dict(name="sgd")
MISTAKES = {
    "grid key": (dict(epoch=3), "tiny.toml: unknown key 'epoch'; did you mean 'epochs'?"),
    "far key": (dict(zzz=3), "unknown key 'zzz'; valid: activations, batch_size"),
    "key of a block": (
        dict(methods=[dict(name="sgd", lable="x")]),
        "methods: unknown key 'lable'; did you mean 'label'?",
    ),
    "method": (dict(methods=[dict(name="adm")]), "tiny.toml: unknown method 'adm'; did you mean 'adam'?"),
    "data set": (dict(datasets=["mnst"], profile={}), "tiny.toml: unknown data set 'mnst'; did you mean 'mnist'?"),
    "data set under smoke": (
        dict(datasets=["mnst"], profile=dict(smoke=dict(datasets=["digits"]))),
        "unknown data set 'mnst'",
    ),
    "activation": (dict(activations=["rleu"]), "tiny.toml: unknown activation 'rleu'; did you mean 'relu'?"),
    "hyper-parameter": (
        dict(methods=[dict(name="sgd", set=dict(learnin_rate=0.1))]),
        "tiny.toml: sgd: unknown hyper-parameter 'learnin_rate'; did you mean 'learning_rate'?",
    ),
    "varied hyper-parameter": (
        dict(methods=[dict(name="samt", over=dict(shap=["row"]))]),
        "samt: unknown hyper-parameter 'shap'; did you mean 'shape'?",
    ),
    "value of a choice": (
        dict(methods=[dict(name="samt", set=dict(shape="rows"))]),
        "samt: shape: unknown value 'rows'; did you mean 'row'?",
    ),
    "profile table": (dict(profile=dict(ligth=dict(seeds=3))), "unknown profile 'ligth'; did you mean 'light'?"),
    "key of a profile": (
        dict(profile=dict(smoke=dict(seds=3))),
        "profile.smoke: unknown key 'seds'; did you mean 'seeds'?",
    ),
    "key of another profile": (
        dict(profile=dict(paper=dict(seds=3))),
        "profile.paper: unknown key 'seds'; did you mean",
    ),
    "rule": (dict(rule="papers"), "unknown value of 'rule' 'papers'; did you mean 'paper'?"),
    "inputs": (dict(inputs="units"), "unknown value of 'inputs' 'units'; did you mean 'unit'?"),
    "init": (dict(init="hee"), "tiny.toml: unknown initialisation 'hee'"),
    "missing key": (dict(title=None), "tiny.toml: the key 'title' is missing."),
    "text for a number": (dict(epochs="3"), "'epochs' must be int, not '3'."),
    "number for text": (dict(title=3), "'title' must be str, not 3."),
    "truth for a number": (dict(seeds=True), "'seeds' must be int, not True."),
    "text for a list": (dict(datasets="mnist"), "'datasets' must be list, not 'mnist'."),
    "number in a list of names": (dict(datasets=[3]), "unknown data set '3'"),
    "number for an activation": (dict(activations=[3]), "unknown activation '3'"),
    "widths without a list": (dict(hidden=[100, 100]), "'hidden' names 100 twice."),
    "one width": (dict(hidden=[100]), "'hidden' must be a list of lists of widths"),
    "width 0": (dict(hidden=[[0]]), "'hidden' must be a list of lists of widths"),
    "no epochs": (dict(epochs=0), "'epochs' must be positive, not 0."),
    "no seeds": (dict(seeds=0), "'seeds' must be positive, not 0."),
    "negative batch": (dict(batch_size=-1), "'batch_size' must be positive, not -1."),
    "never evaluated": (dict(evaluate_every=0.0), "'evaluate_every' must be positive, not 0.0."),
    "no training images": (dict(n_train=0), "'n_train' must be a positive number or \"all\", not 0."),
    "some training images": (dict(n_train="most"), "'n_train' must be a positive number or \"all\", not 'most'."),
    "no data set": (dict(datasets=[]), "'datasets' is empty"),
    "a data set twice": (dict(datasets=["digits", "digits"]), "'datasets' names 'digits' twice."),
    "no method": (dict(methods=[]), "the methods must be given as [[methods]] blocks"),
    "block without name": (dict(methods=[dict(label="x")]), "a [[methods]] block has no 'name'."),
    "name of another type": (dict(methods=[dict(name=["sgd"])]), "methods: 'name' must be str, not ['sgd']."),
    "label of another type": (dict(methods=[dict(name="sgd", label=3)]), "methods: 'label' must be str, not 3."),
    "settings of another type": (dict(methods=[dict(name="sgd", set=3)]), "methods: 'set' must be dict, not 3."),
    "hyper-parameter of another type": (
        dict(methods=[dict(name="sgd", set=dict(learning_rate="0.1"))]),
        "sgd: learning_rate must be float, not '0.1'.",
    ),
    "hyper-parameter out of range": (
        dict(methods=[dict(name="sgd", set=dict(learning_rate=-1.0))]),
        "sgd: learning_rate must lie in [1e-12, inf], not -1.0.",
    ),
    "varied over no list": (
        dict(methods=[dict(name="samt", over=dict(shape="row"))]),
        "'over' needs a list of values of 'shape'",
    ),
    "varied over nothing": (
        dict(methods=[dict(name="samt", over=dict(shape=[]))]),
        "'over' needs a list of values of 'shape'",
    ),
    "override of another type": (dict(methods=[dict(name="sgd", epochs="3")]), "sgd: 'epochs' must be int, not '3'."),
    "override out of range": (dict(methods=[dict(name="sgd", epochs=0)]), "sgd: 'epochs' must be positive, not 0."),
    "two blocks alike": (dict(methods=[SGD, SGD]), "two method settings are labelled 'SGD'"),
    "labels of variants": (
        dict(methods=[dict(name="samt", over=dict(shape=["row", "column"]))]),
        "are labelled 'SAMT'",
    ),
    "label of no setting": (
        dict(methods=[dict(name="samt", label="{shap}")]),
        "unknown hyper-parameter 'shap'; did you mean 'shape'?",
    ),
    "label left open": (dict(methods=[dict(name="samt", label="{shape")]), "the label '{shape' is no text"),
    "tiam with gelu": (
        dict(methods=[dict(name="tiam")], activations=["relu", "gelu"]),
        "tiny.toml: method 'tiam' needs a monotone activation and 'gelu' is not",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_in_one_sentence_with_its_place(read, mistake):
    changes, expected = MISTAKES[mistake]
    message = refusal(read, **changes)
    assert expected in message
    assert message.partition(": ")[0].endswith("/tiny.toml")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("title = ", "is not valid TOML"),
        (grid_text(methods=[]) + '[methods]\nname = "sgd"\n', "[[methods]] blocks"),
        ('methods = ["sgd"]\n' + grid_text(methods=[]), "[[methods]] blocks"),
        ("profile = 3\n" + grid_text(profile={}), "'profile' must be tables"),
        (grid_text(profile={}) + "[profile]\nlight = 3\n", "'profile.light' must be a table"),
        (grid_text(profile=dict(light={"methods": "sgd"})), "profile.light: unknown key 'methods'"),
        ("evaluate_every = nan\n" + grid_text(), "'evaluate_every' must be positive, not nan."),
    ],
)
def test_a_misshapen_file_is_refused(read, text, expected):
    message = refusal(read, text=text)
    assert expected in message and "tiny.toml" in message


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_bytes(b"title = '\xff'")
    with pytest.raises(InputError, match="tiny.toml is not valid TOML"):
        read_grid(path, "smoke")


def test_unknown_grid_profile_and_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown grid 'quikstart'; did you mean 'quickstart'?"):
        load_grid("quikstart", "smoke")
    with pytest.raises(InputError, match="unknown profile 'ligth'; did you mean 'light'?"):
        load_grid("quickstart", "ligth")
    with pytest.raises(InputError, match="unknown method 'adm'; did you mean 'adam'?"):
        load_grid("quickstart", "smoke", only=["adm"])
    with pytest.raises(InputError, match="holds no grid"):
        load_grid("quickstart", "smoke", folder=tmp_path)
    (tmp_path / "mine.toml").write_text(grid_text())
    assert grid_names(tmp_path) == ["mine"]
    assert load_grid("mine", "smoke", folder=tmp_path).name == "mine"


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(n_train=5000, methods=[dict(name="sgd", batch_size=1295)]), "batch_size 1295 is larger than the 1294"),
        (dict(n_train=20), "batch_size 25 is larger than the 20 training images of digits"),
        (dict(n_train="all", methods=[dict(name="sgd", batch_size=1295)]), "batch_size 1295 is larger than the 1294"),
    ],
)
def test_a_batch_of_more_images_than_there_are_is_refused_before_anything_runs(read, changes, expected):
    with pytest.raises(InputError, match=expected):
        stacks(plan(read(**changes), PRINTS), SHAPES, CPU)


def test_as_many_images_as_there_are_is_fine(read):
    assert stacks(plan(read(n_train=1294, batch_size=1294), PRINTS), SHAPES, CPU)


# ------------------------------------------------------------------------------------------------------------ run keys


def config(**changes) -> RunConfig:
    settings = tuple(dataclasses.asdict(method("samt").settings()).items())
    return dataclasses.replace(
        RunConfig("digits", "f" * 64, 100, "unit", "relu", (6, 6), "he", "samt", settings, 0, 2, 25, 1), **changes
    )


OTHER = dict(
    dataset="mnist", data_fingerprint="e" * 64, n_train=0, inputs="standardised", activation="elu", hidden=(6,),
    init="xavier", method="sam", settings=tuple(dataclasses.asdict(method("samt").settings(dict(beta=0.02))).items()),
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


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the code that the hashes are taken of; `am` itself stays as imported."""
    shutil.copytree(ROOT / "am", tmp_path / "am", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "reproduce", tmp_path / "reproduce", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(am, "__file__", str(tmp_path / "am" / "__init__.py"))
    return tmp_path


def hashes(*names: str) -> dict[str, str]:
    grid_module._code.cache_clear()
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
USED_BY_NONE = ("am/methods/gd.py", "am/run.py", "am/machine.py", "am/methods/__init__.py", "reproduce/figures.py", "reproduce/collect.py", "reproduce/grid.py")


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
    assert grid_module._code(tmp_path, path)[0][:16] == "cd5d6a902c9f636c"


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


# -------------------------------------------------------------------------------------------------------------- stacks


def planned(read, **changes) -> list[PlannedRun]:
    over = dict(shape=["row", "scalar"], alpha0=[0.05, 0.1, 0.2])
    methods = [
        *METHODS,
        dict(name="samt", label="{shape} {alpha0}", over=over),
        dict(name="samt", label="slow", set=dict(inner_steps=2)),
    ]
    return plan(read(**dict(methods=methods, hidden=[[6], [5, 5]], seeds=4) | changes), PRINTS)


def keys(made) -> list[list[str]]:
    return [[run.run_key for run in stack] for stack in made]


def test_every_run_is_in_exactly_one_stack_beside_runs_it_can_share_a_program_with(read):
    runs = planned(read)
    made = stacks(runs, SHAPES, CPU)
    assert sorted(key for stack in keys(made) for key in stack) == sorted(run.run_key for run in runs)
    for stack in made:
        first = stack[0].config
        for run in stack:
            for f in dataclasses.fields(RunConfig):
                if f.name not in ("seed", "settings"):
                    assert getattr(run.config, f.name) == getattr(first, f.name)
            for (name, value), (_, other) in zip(run.config.settings, first.settings, strict=True):
                assert value == other or isinstance(value, float), name
    # Seeds and step sizes train together: 12 runs of each shape and network, 4 of each other setting.
    assert sorted(map(len, made)) == [4] * 8 + [12] * 4


def test_the_grouping_is_the_same_every_time(read):
    assert keys(stacks(planned(read), SHAPES, CPU)) == keys(stacks(planned(read), SHAPES, CPU))


def test_a_stack_holds_no_more_than_the_machine_does_and_parts_are_even(read):
    runs = planned(read, methods=[dict(name="sgd")], hidden=[[6]], seeds=CPU_STACK + 1)
    limit = largest_stack(method("sgd"), (64, 6, 10), 100, 25, CPU)
    assert limit == CPU_STACK
    made = stacks(runs, SHAPES, CPU)
    assert [len(stack) for stack in made] == [-(-(CPU_STACK + 1) // 2), (CPU_STACK + 1) // 2]
    assert [run.config.seed for stack in made for run in stack] == list(range(CPU_STACK + 1))


def test_two_labels_of_one_run_train_it_once(read):
    default = method("sgd").settings().learning_rate
    twice = [dict(name="sgd"), dict(name="sgd", label="again", set=dict(learning_rate=default))]
    runs = planned(read, methods=twice, hidden=[[6]], seeds=2)
    assert len(runs) == 4 and len({run.run_key for run in runs}) == 2
    assert [len(stack) for stack in stacks(runs, SHAPES, CPU)] == [2]
