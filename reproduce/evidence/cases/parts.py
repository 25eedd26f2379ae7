"""What methods share: activations, initial values, order of batches, prepared data, evaluation, the training loop."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from am.activations import ACTIVATIONS, activation
from am.batches import Batches
from am.data import INPUTS, Data, Images, load, prepare
from am.evaluation import evaluate
from am.method import Problem, stack
from am.methods import method
from am.modules.networks import INITIALISATIONS as MODULE_INITIALISATIONS
from am.modules.networks import build
from am.modules.training import evaluate as evaluate_module
from am.networks import INITIALISATIONS, Parameters, initialise
from am.training import Budget, train
from reproduce.evidence.cases.case import Case, Tolerance, Values
from reproduce.evidence.cases.methods import size

WIDTHS = (5, 7, 7, 3)  # two layers of one shape, so that equal draws would show
SEEDS = (0, 1, 5)
# Points at no kink, and two that a saturated activation tells apart.
POINTS = (-7.3, -3.1, -1.7, -0.83, -0.29, -0.041, 0.037, 0.31, 0.88, 1.6, 2.9, 5.7, 6.4, 9.1)
BOUNDS = (-2.3, -1.04, -0.97, -0.36, 0.013, 0.41, 1.9, 5.6, 6.7)
CENTRES, TARGETS, WEIGHTS = (-2.6, -0.71, -0.12, 0.23, 0.94, 3.3, 7.2), (-1.3, 0.17, 1.1, 4.4), (0.37, 2.3)
DIVERGES = 1e200  # a rate


def cases() -> Iterator[Case]:
    """Of every one of them."""
    for name in ACTIVATIONS:
        yield Case(f"activation:{name}", "points", functools.partial(_activation, name))
    for name, case in [(name, name) for name in INITIALISATIONS] + [
        (family, f"{family}({sd})") for family in ("normal", "repeated") for sd in (0.1, 0.5)
    ]:
        # In float32, as released: the instructions of a CPU show in its normal numbers.
        tolerances = {"": Tolerance(1e-6)} if name == "repeated" else {}
        yield Case(f"init:{name}", f"perceptron, {case}", functools.partial(_initial, case), (), tolerances)
    for name in MODULE_INITIALISATIONS:
        yield Case(f"init:{name}", "lenet5", functools.partial(_initial_module, name))
    yield Case("batches", "two epochs", _batches)
    for name in INPUTS:
        yield Case(f"inputs:{name}", "digits", functools.partial(_digits, name))
        yield Case(f"inputs:{name}", "images in colour", functools.partial(_colour, name))
    yield Case("evaluation", "perceptron", _evaluation, ("method:tiam", "activation:elu", "init:normal"))
    yield Case("evaluation", "module", _module_evaluation, ("init:normal",))
    for name in ("sgd", "tiam"):
        for runs in (1, 3):
            yield Case("loop", f"{name}, R = {runs}", functools.partial(_loop, name, runs), _uses(name))
    yield Case("loop", "one of three diverges", _diverging, _uses("sgd"))


def _uses(name: str) -> tuple[str, ...]:
    batches = () if method(name).full_batch else ("batches",)
    return (f"method:{name}", "activation:elu", "init:normal", "evaluation", *batches)


def _grid(*axes: tuple[float, ...]) -> list[Tensor]:
    return list(torch.meshgrid(*(torch.tensor(axis, dtype=torch.float64) for axis in axes), indexing="ij"))


def _activation(name: str) -> Values:
    act = activation(name)
    (z,), (bound,) = _grid(POINTS), _grid(BOUNDS)
    value = act.value(z)
    found: Values = dict(value=value, derivative=act.derivative(z, value), written=act.value_into(z, z.clone()))
    if act.monotone:
        found |= dict(lower=act.lower(bound), upper=act.upper(bound))
        c, a = (t.reshape(1, -1, 1) for t in _grid(CENTRES, TARGETS))
        for weight in WEIGHTS:
            found[f"prox, w = {weight}"] = act.prox(c, a, torch.full((1, 1, 1), weight, dtype=torch.float64))
    return found


def _initial(name: str) -> Values:
    params = initialise(WIDTHS, SEEDS, name, torch.float64)
    layers = [(f"{kind}{l}", u) for kind, us in (("W", params.W), ("b", params.b)) for l, u in enumerate(us, 1)]
    return {f"{layer} of seed {seed}": torch.cat([size(u[r : r + 1]), u[r].flatten()[:2]]) for layer, u in layers
            for r, seed in enumerate(SEEDS)}  # fmt: skip


def _initial_module(name: str) -> Values:
    found: Values = {}
    for seed in SEEDS[:2]:
        network = build("lenet5", "digits", seed, name, dtype=torch.float64)
        for parameter, u in network.named_parameters():
            found[f"{parameter} of seed {seed}"] = size(u.detach()[None])
    return found


def _batches() -> Values:
    x, y = torch.zeros(23, 1), torch.zeros(23, dtype=torch.int64)
    batches = Batches(x, y, seeds=SEEDS[:2], batch_size=5)
    steps = (0, 1, 3, batches.per_epoch, batches.per_epoch + 1)
    rows = {k: batches.rows(k) for k in steps}
    return dict(per_epoch=batches.per_epoch) | {
        f"batch {k} of seed {seed}": rows[k][r] for k in steps for r, seed in enumerate(SEEDS[:2])
    }


def _prepared(images: Images, n_train: int | None, inputs: str) -> Values:
    data = prepare(images, n_train, inputs, dtype=torch.float64)
    found: Values = {}
    for part in ("", "_val", "_test"):
        x, y = getattr(data, f"x{part}"), getattr(data, f"y{part}")
        found |= {
            f"rows{part}": len(x),
            f"y{part}": y[:24],
            f"x{part}": torch.stack([size(x[None])[0], x[1].cos().sum()]),
        }
    return found


def _digits(inputs: str) -> Values:
    images = load("digits")
    some = {f"{name}, n_train = 100": value for name, value in _prepared(images, 100, inputs).items()}
    return _prepared(images, None, inputs) | some


def _colour(inputs: str) -> Values:
    generator = np.random.RandomState(3)  # a stream that numpy promises never to change
    pixels = [generator.randint(0, 256, (n, 4, 4, 3)).astype(np.uint8) // np.uint8([1, 2, 3]) for n in (60, 20)]
    labels = [generator.randint(0, 10, n).astype(np.int64) for n in (60, 20)]
    return _prepared(Images("made", pixels[0], labels[0], pixels[1], labels[1], "", False, 10), 40, inputs)


def small_data() -> Data:
    """Points whose classes lie apart, with a validation and a test part of other sizes."""
    generator = torch.Generator().manual_seed(2)

    def part(rows: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(rows) % WIDTHS[-1]
        x = 0.5 * torch.randn(rows, WIDTHS[0], generator=generator, dtype=torch.float64)
        return x + torch.cos(torch.outer(y + 1.0, torch.arange(1.0, WIDTHS[0] + 1)).double()), y

    return Data("small", *part(43), *part(17), *part(29), fingerprint="", official=False, classes=WIDTHS[-1])


def _evaluation() -> Values:
    data, chosen = small_data(), method("tiam")
    params = initialise(WIDTHS, SEEDS, "normal(0.5)", torch.float64)
    problem, hp = Problem(data.x, data.y, activation("elu")), stack([chosen.settings(dict(mu=0.02))] * 3, data.x)
    state = chosen.init(problem, params, hp)
    for z, a in zip(state.z, state.a):
        a.add_(0.1 * z.cos())  # a gap
    return dict(evaluate(chosen, state, problem, hp, data, with_gradient_norm=True))


def _module_evaluation() -> Values:
    data, params = small_data(), initialise(WIDTHS, SEEDS[:1], "normal(0.5)", torch.float64)
    return dict(evaluate_module(_perceptron(params), data, read_test=True, with_gradient_norm=True))


def _perceptron(params: Parameters) -> nn.Sequential:
    layers: list[nn.Module] = []
    for W, b in zip(params.W, params.b):
        layer = nn.Linear(*W.shape[:0:-1], dtype=torch.float64)
        layer.weight.data, layer.bias.data = W[0], b[0, 0]
        layers += [layer, nn.ELU()]
    return nn.Sequential(*layers[:-1])


def _loop(name: str, runs: int, **floats: list[float]) -> Values:
    chosen, defaults = method(name), dict(mu=0.02, rho=0.1) if name == "tiam" else {}
    settings = [chosen.settings(defaults | {key: values[r] for key, values in floats.items()}) for r in range(runs)]
    budget = Budget(epochs=3, batch_size=8, evaluate_every=1, gradient_norm=True)
    network = dict(hidden=WIDTHS[1:-1], activation_name="elu", init="normal(0.5)")
    results = train(chosen, settings, [4 + r for r in range(runs)], small_data(), **network, budget=budget)  # type: ignore[arg-type]
    found: Values = {}
    for r, result in enumerate(results):
        # Where a step is judged by rounding, as on zero residuals, what it costs is too.
        found[f"run {r}: counts"] = _counts(result, name != "tiam")
        for key in ("iteration", "test_accuracy", "val_accuracy", "train_loss", "gradient_norm", "objective"):
            if result.curve and key in result.curve[0]:
                found[f"run {r}: {key}"] = [point[key] for point in result.curve]
    return found


def _counts(result: Any, with_flops: bool) -> list[Any]:
    names = ("status", "diverged_at", "iterations", "parameter_updates", "gradient_evaluations", "stack_runs")
    counts = [getattr(result, name) for name in names] + [result.flops] * with_flops
    return ["none" if count is None else count for count in counts]


def _diverging() -> Values:
    return _loop("sgd", 3, learning_rate=[0.1, DIVERGES, 0.05])
