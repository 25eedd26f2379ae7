"""The module lane: its networks, its optimizers, its loop, and what a grid may ask of it."""

import dataclasses
import importlib.util
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import ROWS, WIDTHS, largest_difference, tiny_data
from helpers import CPU, PRINTS, SHAPES, place_fixture, read_fixture  # noqa: F401
from torch import nn

from am import start
from am.batches import Batches
from am.counters import flops_of
from am.data import DATASETS, Data, load, prepare
from am.errors import InputError
from am.methods import method, methods
from am.modules import training
from am.modules.networks import NETWORKS, build, network_blocks
from am.modules.optimizers import RULES, schedulers
from am.modules.training import ModuleRun, evaluate, train_modules
from am.networks import initialise
from am.optim import SAMT, blocks
from am.training import Budget
from reproduce.plan.plan import plan, stacks

BATCH = 16
IMAGES = dict(lenet5="mnist", cnn="cifar10", resnet20="cifar10")  # network -> a data set that it takes
PARAMETERS = dict(lenet5=61_706, cnn=163_690, resnet20=269_722)


def made_up(dataset: str, n: int = BATCH) -> Data:
    """One batch of noise whose labels can be learnt by heart."""
    chance = torch.Generator().manual_seed(3)
    x = torch.rand(n, DATASETS[dataset].inputs, generator=chance)
    y = torch.arange(n) % 10
    return Data(dataset, x, y, x, y, x, y, fingerprint="", official=False, classes=10)


@pytest.fixture(scope="module")
def digits() -> Data:
    return prepare(load("digits"), 100)


def launch(
    name: str, data: Data, network: str = "lenet5", batch: int = BATCH, epochs: int = 8, **settings
) -> ModuleRun:
    chosen = method(name)
    budget = Budget(epochs, batch, 1)
    return ModuleRun(chosen, chosen.settings(settings), 0, data, network, "he", budget)


def train(name: str, data: Data, network: str = "lenet5", settings: dict | None = None, init: str = "he", **budget):
    chosen = method(name)
    how = Budget(**dict(epochs=2, batch_size=25, evaluate_every=1) | budget)
    (result,) = train_modules(
        chosen, [chosen.settings(settings or {})], [0], data, network=network, init=init, budget=how
    )
    return result


def parameters(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_what_is_said_of_it(name):
    known, network = NETWORKS[name], build(name, IMAGES[name], 0, "torch").eval()
    units = []
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, x, out: units.append(out[0].numel()))
    x = torch.rand(2, math.prod(known.shape))
    assert network(x).shape == (2, 10)
    assert sum(units) <= known.units
    assert flops_of(lambda: network(x[:1])) == 2 * known.multiply_adds
    assert sum(p.numel() for p in network.parameters()) == known.parameters == PARAMETERS[name]
    assert len(network_blocks(network)) == len(known.hidden) + 1
    for block, width in zip(network_blocks(network), known.hidden):
        assert [p.shape[0] for p in block.parameters()][-1] == width


def test_resnet20_has_a_stem_nine_residual_blocks_and_a_head_as_its_blocks():
    network = build("resnet20", "cifar10", 0, "he")
    groups = blocks(network, network_blocks(network))
    assert [len(group["params"]) for group in groups] == [3, *[6] * 9, 2]
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) + 1 == 20  # with the head's dense layer


def test_an_image_reaches_the_first_layer_as_it_was_taken():
    pixels = torch.arange(2 * 32 * 32 * 3.0).view(2, 32, 32, 3)
    given = build("cnn", "cifar10", 0, "torch")[0](pixels.flatten(1))
    assert torch.equal(given, pixels.permute(0, 3, 1, 2))
    grey = torch.arange(64.0).view(1, 8, 8)
    enlarged = build("cnn", "digits", 0, "torch")[0](grey.flatten(1))
    assert enlarged.shape == (1, 3, 32, 32)
    assert all(torch.equal(channel, grey[0].repeat_interleave(4, 0).repeat_interleave(4, 1)) for channel in enlarged[0])


@pytest.mark.parametrize("init", ["torch", "he"])
@pytest.mark.parametrize("name", NETWORKS)
def test_initial_values_come_from_the_seed_alone(name, init):
    first = parameters(build(name, IMAGES[name], 1, init))
    torch.manual_seed(99)
    assert torch.equal(parameters(build(name, IMAGES[name], 1, init)), first)
    assert not torch.equal(parameters(build(name, IMAGES[name], 2, init)), first)
    layers = [m for m in build(name, IMAGES[name], 1, init).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    heads = [layer.weight.flatten()[:9] / layer.weight.std() for layer in layers]
    assert all((a - b).abs().max() > 0.1 for i, a in enumerate(heads) for b in heads[:i]), "a layer repeats another"
    for layer in layers:
        fan_in = layer.weight[0].numel()
        deviation = (2 / fan_in) ** 0.5 if init == "he" else (3 * fan_in) ** -0.5
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.25)
        if layer.bias is not None:
            assert bool((layer.bias != 0).all()) is (init == "torch")


@pytest.mark.parametrize("name", RULES)
def test_every_method_of_the_lane_learns_a_batch_by_heart(name):
    careful = {"samt": dict(alpha0=0.02), "sam": dict(alpha=0.02), "schedule-free-adamw": dict(warmup_steps=1.0)}
    run = launch(name, made_up("mnist"), **careful.get(name, {}))
    before = run.loss(0).item()
    for k in range(8):
        run.step(k)
        assert run.finite()
    assert run.loss(0).item() < before


@pytest.mark.parametrize("shape", ["scalar", "row", "column", "element"])
@pytest.mark.parametrize("name", ["lenet5", "cnn"])
def test_five_steps_of_samt_lower_the_loss_of_a_batch(name, shape):
    run = launch("samt", made_up(IMAGES[name]), name, shape=shape, alpha0=0.05)
    losses = []
    for k in range(5):
        losses.append(run.loss(0).item())
        run.step(k)
    assert run.loss(0).item() < 0.9 * losses[0]


def test_five_steps_of_samt_lower_the_loss_of_a_batch_on_resnet20():
    run = launch("samt", made_up("cifar10", 8), "resnet20", 8, shape="row")
    before = run.loss(0).item()
    for k in range(5):
        run.step(k)
    assert run.loss(0).item() < 0.9 * before
    norms = [m for m in run.network.modules() if isinstance(m, nn.BatchNorm2d)]
    # A loss taken by hand is a pass as well; a step adds one, however many passes it makes.
    assert {int(m.num_batches_tracked) for m in norms} == {5 + 2}


@pytest.mark.parametrize("query", ["next", "support"])
def test_samt_is_the_optimizer_on_the_batches_of_the_stacked_lane(digits, query):
    run = launch("samt", digits, query=query, shape="column", beta=0.1)
    network = build("lenet5", "digits", 0, "he")
    batches = Batches(digits.x, digits.y, seeds=[0], batch_size=BATCH)
    optimizer = SAMT(network, alpha0=0.1, beta=0.1, shape="column")  # LeNet-5's layers are its blocks

    def loss(k: int):
        x, y = batches(k)
        return lambda: F.cross_entropy(network(x[0]), y[0])

    for k in range(8):  # an epoch has six
        run.step(k)
        optimizer.step(loss(k), *([loss(k + 1)] if query == "next" else []))
    assert torch.equal(parameters(run.network), parameters(network))


def test_a_cosine_schedule_is_that_of_the_stacked_lane(digits):
    run = launch("adamw", digits, epochs=2, schedule="cosine", warmup=0.25)
    assert run.per_epoch == 6
    network = build("lenet5", "digits", 0, "he")
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    batches = Batches(digits.x, digits.y, seeds=[0], batch_size=BATCH)
    for k in range(12):
        run.step(k)
        rise, fall = (k + 1) / 3, 0.5 * (1 + math.cos(math.pi * (k - 3) / 9))
        optimizer.param_groups[0]["lr"] = 1e-3 * (rise if k < 3 else fall)
        x, y = batches(k)
        optimizer.zero_grad()
        F.cross_entropy(network(x[0]), y[0]).backward()
        optimizer.step()
    torch.testing.assert_close(parameters(run.network), parameters(network), rtol=0, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_muon_is_one_algorithm_in_both_lanes(schedule):
    settings = dict(schedule=schedule, momentum=0.8)
    x, y = tiny_data()
    params = initialise(WIDTHS, [0], "normal(0.5)", torch.float64)
    W, b, batches = [W[0] for W in params.W], [b[0, 0] for b in params.b], torch.arange(ROWS)[None]
    run = start("muon", x, y, W, b, batches=batches, steps=20, **settings)
    dense = [nn.Linear(a, b, dtype=torch.float64) for a, b in zip(WIDTHS, WIDTHS[1:])]
    network = nn.Sequential(*[layer for hidden in dense[:-1] for layer in (hidden, nn.ReLU())], dense[-1])
    drawn = [run.variables()[f"{kind}{l}"] for l in range(1, len(dense) + 1) for kind in "Wb"]
    network.load_state_dict(dict(zip(network.state_dict(), drawn)))
    optimizers = RULES["muon"].optimizers(network, chosen := method("muon").settings(settings))
    courses = schedulers(optimizers, chosen, 20)
    for _ in range(20):
        network.zero_grad()
        F.cross_entropy(network(x), y).backward()
        for moving in (*optimizers, *courses):
            moving.step()
        moved = run.step().variables()
        for l, layer in enumerate(dense, 1):
            assert largest_difference(layer.weight.detach(), moved[f"W{l}"]) < 1e-11
            assert largest_difference(layer.bias.detach(), moved[f"b{l}"]) < 1e-11


def test_muon_moves_hidden_dense_layers_and_adamw_the_rest():
    network = build("cnn", "cifar10", 0, "he")
    muon, adamw = RULES["muon"].optimizers(network, method("muon").settings())
    assert [tuple(p.shape) for p in muon.param_groups[0]["params"]] == [(128, 1024), (64, 128)]
    moved = [*muon.param_groups[0]["params"], *adamw.param_groups[0]["params"]]
    assert {id(p) for p in moved} == {id(p) for p in network.parameters()} and len(moved) == 12


@pytest.mark.parametrize("name, per_step", [("samt", (5, 10)), ("sam", (5, 5)), ("adam", (5, 1))])
def test_a_run_is_counted_and_clocked(digits, name, per_step):
    result = train(name, digits, evaluate_every=0.5)
    assert (result.status, result.diverged_at, result.iterations, result.epochs) == ("done", None, 8, 2)
    assert (result.parameter_updates, result.gradient_evaluations) == tuple(8 * count for count in per_step)
    assert [point["iteration"] for point in result.curve] == [0, 2, 4, 6, 8]
    assert [point["epoch"] for point in result.curve] == [0, 0.5, 1, 1.5, 2]
    assert all(point["gradient_evaluations"] == point["iteration"] * per_step[1] for point in result.curve)
    assert result.curve[-1]["flops"] == result.flops == 8 * result.curve[1]["flops"] // 2
    forward = 25 * 2 * NETWORKS["lenet5"].multiply_adds
    assert 2.5 * forward < result.flops / 8 <= 3 * forward * per_step[1]
    assert min(result.train_seconds, result.evaluate_seconds, result.record_seconds) > 0
    assert result.seconds is None and "seconds" not in result.curve[0] and result.stack_runs == 1
    assert result.curve[-1]["train_loss"] < result.curve[0]["train_loss"]


def test_a_run_under_the_clock_has_seconds_and_the_same_numbers(digits):
    untimed, timed = train("adam", digits), train("adam", digits, alone=True)
    seconds = [point.pop("seconds") for point in timed.curve]
    assert timed.curve == untimed.curve
    assert seconds == sorted(seconds) and seconds[-1] == timed.seconds == timed.train_seconds
    assert "threads" in timed.device


def test_a_run_that_diverges_ends_where_it_did(digits):
    result = train("sgd", digits, settings=dict(learning_rate=1e30), epochs=4, evaluate_every=1)
    assert result.status == "diverged" and 1 <= result.diverged_at <= 4
    assert result.iterations == result.diverged_at and result.parameter_updates == 5 * result.diverged_at
    assert [point["iteration"] for point in result.curve] == [0]


def test_a_trial_reads_no_test_set(digits):
    blind = dataclasses.replace(digits, x_test=torch.full_like(digits.x_test, math.nan))
    result = train("adam", blind, read_test=False)
    assert all("test_accuracy" not in point for point in result.curve)
    assert [point["val_accuracy"] for point in result.curve] == [p["val_accuracy"] for p in train("adam", digits).curve]


def test_runs_of_one_call_are_those_of_two(digits):
    chosen = method("momentum")
    settings, budget = [chosen.settings(), chosen.settings(dict(momentum=0.8))], Budget(1, 25, 1)
    shares = []
    how = dict(network="lenet5", init="torch", budget=budget)
    both = train_modules(chosen, settings, [4, 5], digits, **how, progress=shares.append)
    assert shares == [0.5, 1.0]
    for result, own, seed in zip(both, settings, (4, 5)):
        (alone,) = train_modules(chosen, [own], [seed], digits, **how)
        assert alone.curve == result.curve


def test_metrics_are_those_of_the_network_in_evaluation(monkeypatch):
    data, whole = made_up("cifar10", 40), {}
    run = launch("momentum", data, "resnet20", batch=20)
    for k in range(3):
        run.step(k)
    with run.evaluating():
        assert not run.network.training
        for rows in (40, 7):  # in one piece, and in pieces of which the last is smaller
            monkeypatch.setattr(training, "EVALUATION_ROWS", rows)
            monkeypatch.setattr(training, "GRADIENT_ROWS", rows)
            whole[rows] = evaluate(run.network, data, read_test=True, with_gradient_norm=True)
        loss = F.cross_entropy(run.network(data.x), data.y)
        gradient = torch.autograd.grad(loss, list(run.network.parameters()))
        right = (run.network(data.x).argmax(1) == data.y).double().mean()
    assert run.network.training
    norm = torch.cat([g.flatten() for g in gradient]).norm().item()
    for point in whole.values():
        assert point["train_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
        assert point["gradient_norm"].item() == pytest.approx(norm, rel=1e-4)
        assert point["test_accuracy"] == point["val_accuracy"] == right


def test_schedule_free_is_judged_at_its_average(digits):
    run = launch("schedule-free-adamw", digits, warmup_steps=1.0, learning_rate=0.01)
    for k in range(6):
        run.step(k)
    trained = parameters(run.network)
    with run.evaluating():
        assert (parameters(run.network) - trained).abs().max() > 1e-4
    torch.testing.assert_close(parameters(run.network), trained, rtol=0, atol=1e-6)


REFUSED = {
    "method": (
        dict(network="lenet5", methods=[dict(name="tiam")]),
        "method 'tiam' needs the equations of a multilayer perceptron's layers and cannot train network 'lenet5'",
    ),
    "gradient method": (dict(network="cnn", methods=[dict(name="soap")]), "'soap' has no optimizer for modules here"),
    "images": (
        dict(network="lenet5", datasets=["cifar10"]),
        "network 'lenet5' takes images of 28 x 28 x 1, and those of cifar10 are 32 x 32 x 3; it trains fashion_",
    ),
    "widths": (dict(network="lenet5", hidden=[[6]]), "'hidden' belongs to network 'mlp'"),
    "widths of a block": (
        dict(network="cnn", methods=[dict(name="sgd", hidden=[[6]])]),
        "'hidden' belongs to network 'mlp'",
    ),
    "activation": (dict(network="cnn", activations=["elu"]), "network 'cnn' has the activation 'relu', not 'elu'."),
    "initialisation": (
        dict(network="cnn", init="xavier"),
        "network 'cnn': unknown initialisation 'xavier'; valid: he, torch.",
    ),
    "batch-norm": (
        dict(network="resnet20", methods=[dict(name="schedule-free-adamw")]),
        "for which BatchNorm of network 'resnet20' keeps no statistics",
    ),
    "nothing to move": (
        dict(network="resnet20", methods=[dict(name="muon")]),
        "method 'muon' has nothing to move in network 'resnet20'",
    ),
    "network": (dict(network="lenet"), "unknown value of 'network' 'lenet'; did you mean 'lenet5'?"),
    "network of a set": (dict(network=dict(digits="resnet")), "unknown value of 'network' 'resnet'; did you mean"),
    "set of a network": (dict(network=dict(digit="cnn")), "network: unknown data set 'digit'; did you mean 'digits'?"),
    "no network": (dict(network=dict(mnist="lenet5")), "'network' names none for digits; write digits = "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_lane_cannot_train_is_refused_in_a_sentence(read, name):
    changes, said = REFUSED[name]
    with pytest.raises(InputError) as caught:
        read(**dict(methods=[dict(name="sgd")], hidden=None) | changes)
    message = str(caught.value)
    assert said in message and "tiny.toml" in message
    assert "\n" not in message and message.endswith((".", "?"))


def test_a_package_that_is_not_installed_is_named(read, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "schedulefree" else real(name))
    with pytest.raises(InputError, match="'schedule-free-adamw' needs the package schedulefree there"):
        read(network="cnn", hidden=None, methods=[dict(name="schedule-free-adamw")])
    assert read(network="cnn", hidden=None, methods=[dict(name="sgd")]).networks == {"digits": "cnn"}


def test_the_lane_has_mini_batch_methods_alone_and_of_the_alternations_those_without_sub_problems():
    known = methods()
    assert not [name for name in RULES if known[name].full_batch]
    assert {name for name in RULES if known[name].family != "gradient"} == {"samt", "sam"}


def test_each_data_set_has_its_network_and_each_run_a_stack_of_its_own(read):
    networks = dict(digits="mlp", mnist="lenet5", cifar10="cnn")
    grid = read(network=networks, datasets=[*networks], methods=[dict(name="sgd"), dict(name="samt")], init="he")
    runs = plan(grid, PRINTS)
    found = {run.config.dataset: (run.config.network, run.config.hidden) for run in runs}
    hidden = {"mlp": (6,)} | {name: known.hidden for name, known in NETWORKS.items()}
    assert found == {dataset: (network, hidden[network]) for dataset, network in networks.items()}
    sizes = {(stack[0].config.network, len(stack)) for stack in stacks(runs, SHAPES, CPU)}
    assert sizes == {("mlp", 2), ("lenet5", 1), ("cnn", 1)}


def test_a_grid_of_the_lane_is_trained_collected_and_adopted_like_any_other(place, capsys):
    tuned = dict(rule="tuned", trials=2, network="lenet5", hidden=None, n_train=50)
    place.write(methods=[dict(name="adam"), dict(name="samt")], **tuned)
    place.run()
    rows = place.rows()
    assert [row["status"] for row in rows] == ["done"] * 4
    assert {(row["network"], row["hidden"], row["stack_runs"]) for row in rows} == {("lenet5", "6-16-120-84", "1")}
    assert all(float(row["train_seconds"]) > 0 and row["test_accuracy"] for row in rows)
    trials = place.rows(file="tuning.csv")
    assert len(trials) == 4 and not any(row.get("test_accuracy") for row in trials)
    first = place.untimed()
    capsys.readouterr()
    assert place.do("run", "tiny") == 0
    assert "Nothing to train" in capsys.readouterr().out
    for shard in place.shards():
        shard.unlink()
    from reproduce.__main__ import main

    assert main(["adopt", "--results", str(place.results), str(place.csvs)]) == 0
    assert place.do("run", "tiny") == 0
    assert "Nothing to train: all 8 runs are there." in capsys.readouterr().out
    assert place.untimed() == first


@pytest.mark.slow
def test_lenet5_by_adam_reaches_98_8_percent_on_all_of_mnist_in_five_epochs():
    data = prepare(load("mnist"), None, "standardised")
    settings = dict(learning_rate=2e-3, schedule="cosine")
    result = train("adam", data, settings=settings, init="torch", epochs=5, batch_size=64, evaluate_every=5)
    assert result.curve[-1]["test_accuracy"] >= 0.988
