"""Grids: those of the suite load, a mistake in one is refused with its place; run keys and stacks."""

import dataclasses
import itertools

import pytest
from helpers import CPU, PRINTS, SHAPES, grid_text, read_fixture  # noqa: F401

from am.errors import InputError
from am.method import Cost
from am.methods import methods
from reproduce.plan.grid import PROFILES, grid_names, load_grid, read_grid
from reproduce.plan.plan import plan, stacks


def refusal(read, **changes) -> str:
    with pytest.raises(InputError) as caught:
        read(**changes)
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", "?"))
    return message


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", grid_names())
def test_every_grid_loads_and_plans_under_every_profile(name, profile):
    grid = load_grid(name, profile)
    assert (grid.name, grid.profile) == (name, profile)
    assert grid.title and grid.question and grid.paper
    runs = plan(grid, PRINTS, lambda run_key: dict(status="done", curve=[dict(val_accuracy=0.5)]))

    def sizes(entry) -> int:  # rows and constants, of which a second value counts where it changes anything
        given = {key: entry.overrides.get(key, getattr(grid, key)) for key in ("n_train", "constants")}
        again = len(given["constants"]) - 1 if entry.method.depends_on_rows else 0
        return sum(1 + (again if n else 0) for n in given["n_train"])

    networks = sum(len(entry.overrides.get("hidden", grid.hidden)) * sizes(entry) for entry in grid.entries)
    problems = len(grid.datasets) * len(grid.activations) * networks
    assert len(runs) == problems * (grid.seeds + grid.trials) > 0
    where = ("dataset", "n_train", "hidden", "activation", "constants", "seed")
    identity = {(*(getattr(r.config, key) for key in where), r.label, r.trial) for r in runs}
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
    for name in ("tiam_accuracy", "samt_accuracy", "fair", "fair_minibatch"):
        assert load_grid(name, "paper").datasets == four
    assert load_grid("tiam_accuracy", "light").datasets == four
    for name in ("samt_accuracy", "fair_minibatch"):  # a mini-batch run on a whole set is seconds, on these two
        light = load_grid(name, "light")
        assert (light.datasets, light.n_train) == (four[:2], [0])


def test_no_profile_cuts_the_papers_iterations():
    for profile in ("light", "paper"):
        for name in grid_names():
            grid = load_grid(name, profile)
            if grid.paper == "TIAM":
                assert grid.epochs >= 200, (name, profile)


def test_a_profile_scales_a_grid(read):
    profile = dict(light=dict(epochs=7, n_train=50), smoke=dict(seeds=3))
    paper = read(profile_asked="paper", datasets=["mnist", "svhn"], profile=profile)
    assert (paper.datasets, paper.epochs, paper.n_train, paper.seeds) == (["mnist", "svhn"], 2, [100], 2)
    light = read(profile_asked="light", datasets=["mnist", "svhn"], profile=profile)
    assert (light.datasets, light.epochs, light.n_train, light.seeds) == (["mnist", "svhn"], 7, [50], 2)
    smoke = read(datasets=["mnist", "svhn"], profile=profile)
    assert (smoke.datasets, smoke.epochs, smoke.n_train, smoke.seeds) == (["digits"], 4, [500], 3)


def test_seeds_and_methods_narrow_a_grid(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(grid_text(), encoding="utf-8")
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
    "widths without a list": (dict(hidden=[100, 100]), "for one network write [[100, 100]]."),
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
    "target of no label": (
        dict(target=[dict(reference="SDG", share=1.0)]),
        "tiny.toml: target: reference: unknown label 'SDG'; did you mean 'SGD'?",
    ),
    "target without a share": (dict(target=[dict(reference="SGD")]), "target: 'share' must lie in (0, 1], not None."),
    "target of another kind": (dict(target=[0.9]), "'target' must be a list of tables"),
    "key of a target": (
        dict(target=[dict(reference="SGD", shar=1.0)]),
        "target: unknown key 'shar'; did you mean 'share'?",
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
    (tmp_path / "mine.toml").write_text(grid_text(), encoding="utf-8")
    assert grid_names(tmp_path) == ["mine"]
    assert load_grid("mine", "smoke", folder=tmp_path).name == "mine"


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(n_train=1437, methods=[dict(name="sgd", batch_size=1295)]), "batch_size 1295 is larger than the 1294"),
        (dict(n_train=20), "batch_size 25 is larger than the 20 training images of digits"),
        (dict(n_train="all", methods=[dict(name="sgd", batch_size=1295)]), "batch_size 1295 is larger than the 1294"),
    ],
)
def test_a_batch_of_more_images_than_there_are_is_refused_before_anything_runs(read, changes, expected):
    with pytest.raises(InputError, match=expected):
        stacks(plan(read(**changes), PRINTS), SHAPES, CPU)


def test_as_many_images_as_there_are_is_fine(read):
    assert stacks(plan(read(n_train=1294, batch_size=1294), PRINTS), SHAPES, CPU)


@pytest.mark.parametrize("name", ["light", "smoke", "paper", "bench"])
def test_a_grid_with_the_name_of_a_folder_of_results_is_refused(tmp_path, name):
    path = tmp_path / f"{name}.toml"
    path.write_text(grid_text(), encoding="utf-8")
    with pytest.raises(InputError, match=f"{name}.toml: '{name}' is the name of a folder of results; call the grid"):
        read_grid(path, "smoke")


def test_a_method_that_does_not_keep_its_contract_is_refused_with_its_file(read, monkeypatch):
    wrong = dataclasses.replace(methods()["adam"], cost=Cost())
    monkeypatch.setitem(methods(), "adam", wrong)
    said = refusal(read, methods=[dict(name="sgd"), dict(name="adam")])
    assert "tiny.toml: am/methods/adam.py: method 'adam': it says no FLOPs; give it cost=Cost(flops=...)" in said
    assert read(methods=[dict(name="sgd")])
