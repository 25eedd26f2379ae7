"""Driving a method by hand: what is shown, what can be read and set, and its blocks."""

import dataclasses
import doctest
import re
from pathlib import Path

import pytest
import torch
from conftest import ROWS, WIDTHS, tiny_data
from driving import BATCHES, batches_for, driven, given, refusal, weights_and_biases

import am
from am import start
from am.errors import InputError
from am.methods import methods
from am.networks import initialise

L = len(WIDTHS) - 1


def test_one_network_is_shown_without_a_run_axis():
    run = driven("tiam").step(2)
    shown = run.variables()
    assert {"W1", "b1", "z1", "a1", f"W{L}", f"b{L}", f"z{L}"} <= set(shown) and f"a{L}" not in shown
    assert shown["W1"].shape == WIDTHS[1::-1] and shown["b1"].shape == (WIDTHS[1],)
    assert shown["z1"].shape == (ROWS, WIDTHS[1])
    assert run.objective().shape == () and run.iterations == 2


def test_many_networks_are_shown_with_one():
    run = driven("samt", runs=3, shape="row").step()
    shown = run.variables()
    assert shown["W1"].shape == (3, WIDTHS[1], WIDTHS[0]) and shown["b1"].shape == (3, WIDTHS[1])
    assert shown["alpha_W1"].shape == (3, WIDTHS[1], 1)
    assert driven("tiam", runs=3).objective().shape == (3,)


@pytest.mark.parametrize(
    ("name", "act"),
    [*((name, "softplus") for name in sorted(methods())), *((n, "relu") for n in ("samt", "sgd", "tiam"))],
)
def test_a_network_has_the_digits_in_a_stack_that_it_has_alone(name, act):
    """Bit for bit, at widths and rows that are no multiple of what a CPU works on at once."""
    rows, widths = 25, (6, 7, 9, 3)
    x = torch.rand(rows, widths[0], generator=torch.Generator().manual_seed(1))
    y, params = torch.arange(rows) % widths[-1], initialise(widths, range(3), "normal(0.5)", torch.float64)
    W, b = params.W, [b[:, 0] for b in params.b]
    options = dict(activation=act) | ({} if methods()[name].full_batch else dict(batches=torch.arange(rows).view(5, 5)))
    together = start(name, x, y, W, b, **options)
    runs = [start(name, x, y, [w[r] for w in W], [v[r] for v in b], **options) for r in range(3)]
    setting = {"W1": torch.stack([run.variables()["W1"] * 0.9 for run in runs])}
    together.step(2).set_variables(**setting).step(2)
    for r, run in enumerate(runs):
        run.step(2).set_variables(W1=setting["W1"][r]).step(2)
    if together.blocks:
        for run in (together, *runs):
            run.step_block(run.blocks[-1])
    shown = lambda run: run.variables() | dict(logits=run.logits(x), loss=run.loss(x, y), accuracy=run.accuracy(x, y))
    both = shown(together)
    for r, run in enumerate(runs):
        for key, value in shown(run).items():
            assert torch.equal(both[key][r], value), key
        if run.method.by_hand.objective:
            assert together.objective()[r] == run.objective()
    assert together.iterations == 4 and repr(together).startswith(f"<Run of {name}: 3 x ")


@pytest.mark.gpu
@pytest.mark.parametrize("lead", [False, True])
def test_on_a_gpu_a_network_alone_stops_where_it_stops_on_a_cpu(lead):
    x, y = tiny_data()
    W, b = weights_and_biases(1 if lead else None)
    runs = [start("dladmm-released", x.to(device), y, W, b).step(4) for device in ("cpu", "cuda")]
    here, there = (run.variables() for run in runs)
    for key, value in here.items():
        assert value.shape == there[key].shape
        assert torch.allclose(value.double(), there[key].cpu().double(), rtol=1e-9, atol=1e-12), key
    assert runs[1].logits(x).shape == runs[0].logits(x).shape


def test_stepping_all_at_once_or_one_by_one_is_the_same():
    once, often = driven("samt").step(7), driven("samt")
    for _ in range(7):
        assert often.step() is often
    assert often.iterations == once.iterations == 7
    assert all(torch.equal(u, often.variables()[name]) for name, u in once.variables().items())


def test_what_is_given_is_left_alone_and_what_is_read_is_a_copy():
    x, y = tiny_data()
    W, b = weights_and_biases()
    before = [t.clone() for t in (x, *W, *b)]
    run = start("tiam", x, y, W, b).step(3)
    assert all(torch.equal(u, v) for u, v in zip((x, *W, *b), before))
    for value in run.variables().values():
        value.fill_(0)
    assert all(run.variables()[name].any() for name in ("W1", "b1", "z1", "a1"))


def test_a_list_gives_each_run_its_own_setting():
    W, b = weights_and_biases()
    x, y = tiny_data()
    stacked = [w.expand(2, -1, -1) for w in W], [v.expand(2, -1) for v in b]
    both = start("sgd", x, y, *stacked, batches=BATCHES, learning_rate=[0.1, 0.3]).step(5).variables()
    for r, rate in enumerate((0.1, 0.3)):
        alone = start("sgd", x, y, W, b, batches=BATCHES, learning_rate=rate).step(5).variables()
        assert (both["W1"][r] - alone["W1"]).abs().max() < 1e-14
    assert not torch.equal(both["W1"][0], both["W1"][1])


def test_the_dtype_is_that_of_the_data():
    x, y = tiny_data()
    run = start("adam", x.float(), y, *weights_and_biases(), batches=BATCHES).step()
    assert all(u.dtype == torch.float32 for u in run.variables().values())


def test_plain_lists_and_arrays_will_do():
    x, y = tiny_data()
    W, b = weights_and_biases()
    expected = start("sgd", x, y, W, b, batches=BATCHES).step(4).variables()
    found = start("sgd", x, y.numpy(), W, [v.numpy() for v in b], batches=BATCHES.tolist()).step(4).variables()
    assert all(torch.equal(u, found[name]) for name, u in expected.items())


def test_full_batch_methods_take_no_batches():
    assert torch.equal(driven("gd", batches=None).step(3).variables()["W1"], driven("gd").step(3).variables()["W1"])
    for name in (m.name for m in methods().values() if m.full_batch):
        assert "batches=" in refusal(lambda name=name: driven(name, batches=BATCHES)), name


def test_given_batches_come_round_again():
    run = driven("sgd", batches=BATCHES[:1]).step(2).variables()
    assert torch.equal(run["W1"], driven("sgd", batches=BATCHES[[0, 0]]).step(2).variables()["W1"])
    assert not torch.equal(run["W1"], driven("sgd", batches=BATCHES[:2]).step(2).variables()["W1"])


def test_the_package_offers_the_driver():
    assert am.start is start and am.Run is type(driven("gd"))


# Reading and setting


def test_logits_accuracy_and_loss_are_each_runs():
    x, y = tiny_data()
    run = driven("adam", runs=3).step(4)
    assert run.logits(x).shape == (3, ROWS, WIDTHS[-1])
    assert run.accuracy(x, y).shape == run.loss(x, y).shape == (3,)
    for r in range(3):
        assert run.loss(x, y)[r] == pytest.approx(torch.nn.functional.cross_entropy(run.logits(x)[r], y).item())
        assert run.accuracy(x, y)[r] == (run.logits(x)[r].argmax(1) == y).double().mean()
    assert run.accuracy(x.float().numpy(), y.tolist()).dtype == torch.float64


def test_samples_and_labels_to_measure_on_are_checked():
    x, y = tiny_data()
    run = driven("sgd")
    assert "inputs a sample" in refusal(lambda: run.logits(x[:, 1:]))
    assert "uint8" in refusal(lambda: run.logits(x.to(torch.uint8)))
    assert "labels must be" in refusal(lambda: run.loss(x, y[1:]))
    assert "labels must be" in refusal(lambda: run.accuracy(x, y + WIDTHS[-1]))


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("name", list(methods()))
def test_every_variable_can_be_set_to_another_value_and_back(name, runs):
    run = driven(name, runs=runs).step(2)
    shown = run.variables()
    floating = {key: u for key, u in shown.items() if u.is_floating_point()}
    moved = {key: 0.5 * u + 0.1 for key, u in floating.items()}
    assert run.set_variables(**moved) is run
    assert all(torch.equal(run.variables()[key], u) for key, u in moved.items())
    run.set_variables(**floating)
    assert all(torch.equal(run.variables()[key], u) for key, u in shown.items())


# Without moments and schedules; ADMM with a firm coupling, since a soft one lets rounding grow.
FIRM = dict(rho=0.1)
PLAIN = {"samt": dict(meta="gd"), "dladmm": FIRM, "dladmm-released": FIRM | dict(rho_schedule=False)}
WITHOUT_A_PAST = [m.name for m in methods().values() if m.family == "full-batch AM"] + ["samt", "sam", "sgd", "gd"]


@pytest.mark.parametrize("name", WITHOUT_A_PAST)
def test_nothing_that_a_state_keeps_outlives_the_variables_that_it_was_made_of(name):
    """A run whose variables are set goes on as one that starts from the same: no cache is of the old ones."""
    options = PLAIN.get(name, {})
    old = driven(name, **options).step(3)
    values = {k: 0.5 * u + 0.01 for k, u in old.variables().items() if u.is_floating_point()}
    x, y = tiny_data()
    layers = [[values[f"{kind}{l}"] for l in range(1, L + 1)] for kind in "Wb"]
    new = start(name, x, y, *layers, **batches_for(name), **options)
    new.iterations = old.iterations
    for run in (old, new):
        run.set_variables(**values)
    if old.method.by_hand.objective:
        assert torch.equal(old.objective(), new.objective())
    before = old.variables()
    old.step(2)
    new.step(2)
    for key, u in new.variables().items():
        assert (old.variables()[key] - u).abs().max() <= 1e-10 * (1 + u.abs().max()), key
    assert not torch.equal(old.variables()["W1"], before["W1"])


@pytest.mark.parametrize(
    "values, sentence",
    [
        (dict(W7=0.0), r"tiam: unknown variable 'W7'; did you mean 'W1'\?"),
        (dict(w1=0.0), r"unknown variable 'w1'; did you mean 'W1'\?"),
        (dict(b1=0.0), r"b1 must have shape \(8,\), not \(\)"),
        (dict(z1=[[0.0]]), r"z1 must have shape \(24, 8\), not \(1, 1\)"),
        (dict(W1=torch.zeros(WIDTHS[:2])), r"W1 must have shape \(8, 6\), not \(6, 8\)"),
        (dict(W1=[[1.0], [1.0, 2.0]]), "W1 must be numbers"),
        (dict(fallbacks=1), "'fallbacks' is a count"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_nothing_is_set(values, sentence):
    run = driven("tiam").step()
    before = run.variables()
    assert re.search(sentence, refusal(lambda: run.set_variables(b2=before["b2"] + 1, **values)))
    assert all(torch.equal(u, before[name]) for name, u in run.variables().items())


def test_variables_may_change_places():
    run = driven("tiam")
    before = run.variables()
    views = run.method.parameters(run.state).W
    run.set_variables(W2=views[2][0], W3=views[1][0])
    assert torch.equal(run.variables()["W2"], before["W3"]) and torch.equal(run.variables()["W3"], before["W2"])


# One block


IN_BLOCKS = [m.name for m in methods().values() if m.by_hand.step_block]


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("name, more", [(name, {}) for name in IN_BLOCKS] + [("dladmm", dict(keep_step_sizes=True))])
def test_all_blocks_in_turn_are_a_step(name, more, runs):
    constant = {"epsilon_0", "epsilon_min"} & set(methods()[name].hyperparameters.__dataclass_fields__)
    options = dict.fromkeys(constant, 0.1) | PLAIN.get(name, {}) | more
    whole, pieces = driven(name, runs, **options).step(3), driven(name, runs, **options).step(3)
    for _ in range(2):
        whole.step()
        for block in pieces.blocks:
            pieces.step_block(block)
        pieces.iterations += 1
    for key, u in whole.variables().items():
        if u.is_floating_point():
            assert (pieces.variables()[key] - u).abs().max() <= 1e-9 * (1 + u.abs().max()), key
    whole.step()
    pieces.step()
    assert (pieces.variables()["W1"] - whole.variables()["W1"]).abs().max() <= 1e-9


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_a_block_moves_its_variables_and_no_other(name):
    run = driven(name).step(2)
    for block in dict.fromkeys(run.blocks):
        before = run.variables()
        after = run.step_block(block).variables()
        moved = {key for key, u in before.items() if u.is_floating_point() and not torch.equal(u, after[key])}
        own = set(block.split("+"))
        moved -= {f.name for f in dataclasses.fields(run.method.hyperparameters)}  # rho follows the iteration
        assert moved <= own | {f"alpha_{key}" for key in own}, block
        assert run.iterations == 2
    assert all(set(block.split("+")) <= set(run.variables()) for block in run.blocks)


def test_the_papers_methods_can_be_stepped_by_blocks():
    assert {"tiam", "mdlam", "mdlam-released", "dladmm", "dladmm-released", "samt", "sam"} <= set(IN_BLOCKS)
    assert driven("samt", order="backward").blocks == ["W4+b4", "W3+b3", "W2+b2", "W1+b1"]
    assert "b2" not in driven("mdlam-released").blocks


def test_an_unknown_block_is_told_the_nearest_and_a_method_without_says_so():
    assert refusal(lambda: driven("samt").step_block("W1")) == "samt: unknown block 'W1'; did you mean 'W1+b1'?"
    assert refusal(lambda: driven("tiam").step_block("w2")) == "tiam: unknown block 'w2'; did you mean 'W2'?"
    assert "'adam' has no block" in refusal(lambda: driven("adam").step_block("W1"))
    assert driven("adam").blocks == []


# The package and its examples


@pytest.mark.parametrize("module", [am, am.run], ids=["am", "am.run"])
def test_the_examples_of_the_docstrings_run(module):
    failed, tried = doctest.testmod(module)
    assert tried and not failed


def test_what_a_stranger_imports_is_there():
    assert am.InputError is InputError and am.method("tiam") is am.methods.methods()["tiam"]
    assert set(am.__all__) == {"InputError", "Run", "method", "methods", "start"}


def test_a_run_is_shown_in_a_line_and_a_method_may_be_given_itself():
    run = given(name="sgd", learning_rate=0.1).step(2)
    assert repr(run) == "<Run of sgd: 1 x 2-4-3, iterations=2>"
    assert given(name=am.method("sgd")).method is run.method


def test_the_readmes_example_runs_and_learns(capsys):
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = re.search(r"## Train one by hand.*?```python\n(.*?)```", text, re.DOTALL)[1]
    names: dict = {}
    exec(code, names)
    x, y, n = names["x"], names["y"], names["n"]
    assert names["tiam"].accuracy(x[n:], y[n:]) > 0.7 and names["samt"].accuracy(x[n:], y[n:]) > 0.85
    assert len(capsys.readouterr().out.splitlines()) == 2
