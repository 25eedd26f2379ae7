"""The training loop, its clocks and counters, diverged runs, memory, and the order of mini-batches."""

import dataclasses
import time
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import floats, largest_difference, middle

from am import counters, evaluation, machine, training
from am.activations import activation
from am.batches import Batches
from am.counters import CLOCKS, Clocks, flops_of
from am.data import Data
from am.errors import InputError
from am.evaluation import metrics
from am.machine import largest_stack
from am.method import Problem, stack
from am.methods import method, methods
from am.networks import initialise
from am.run import Run
from am.training import Budget, train

INPUTS, HIDDEN, CLASSES, TRAIN = 6, (8, 5), 4, 43
DEPTH, BATCH = 3, 8
BUDGET = Budget(epochs=3, batch_size=BATCH, evaluate_every=1)
PER_EPOCH = TRAIN // BATCH  # 5, and three rows are left over


def small_data(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Data:
    """Points in a cube, labelled by a random linear map."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(INPUTS, CLASSES, generator=generator)

    def part(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(rows, INPUTS, generator=generator)
        return x.to(device, dtype), (x - 0.5).mm(teacher).argmax(1).to(device)

    return Data("small", *part(TRAIN), *part(17), *part(29), fingerprint="", official=False, classes=CLASSES)


def run(name, data=None, seeds=(0, 1, 2), budget=None, settings=None, method_=None, **options):
    chosen = method_ or method(name)
    settings = settings or [chosen.settings()] * len(seeds)
    budget = budget or BUDGET
    data = data or small_data()
    network = dict(hidden=HIDDEN, activation_name="relu", init="he")
    return train(chosen, settings, list(seeds), data, **network, budget=budget, **options)


def without_time(result) -> dict:
    return {k: v for k, v in dataclasses.asdict(result).items() if not k.endswith("seconds")}


# Counters


@pytest.mark.parametrize(
    "name, values, iterations, updates, gradients",
    [
        # 3 epochs of 5 mini-batches; a gradient method moves all 3 layers with one gradient
        ("sgd", {}, 15, 15 * 3, 15 * 1),
        ("adam", {}, 15, 15 * 3, 15 * 1),
        # a layer moves T = 2 times, and takes one more gradient on the query batch
        ("samt", {"inner_steps": 2}, 15, 15 * 3 * 2, 15 * 3 * (2 + 1)),
        ("samt", {}, 15, 15 * 3, 15 * 3 * 2),
        ("sam", {"inner_steps": 2}, 15, 15 * 3 * 2, 15 * 3 * 2),
        # full batch: W, b, z of 3 layers and a of 2
        ("tiam", {}, 3, 3 * 3, 3 * (3 + 3 + 3 + 2)),
        ("gd", {}, 3, 3 * 3, 3 * 1),
    ],
)
def test_counters_equal_a_count_by_hand(name, values, iterations, updates, gradients):
    for result in run(name, settings=[method(name).settings(values)] * 3):
        assert (result.iterations, result.epochs) == (iterations, 3.0)
        assert (result.parameter_updates, result.gradient_evaluations) == (updates, gradients)
        assert result.status == "done" and result.diverged_at is None and result.stack_runs == 3
        assert result.device == "cpu"
        for point in result.curve:
            share = point["iteration"] / iterations
            assert point["epoch"] == pytest.approx(3 * share)
            assert point["parameter_updates"] == updates * share
            assert point["gradient_evaluations"] == gradients * share
            if method(name).flops:  # else a step costs what its backtracking tries
                assert point["flops"] == result.flops * share
        spent = [point["flops"] for point in result.curve]
        assert spent[0] == 0 < spent[1] and spent == sorted(spent) and spent[-1] == result.flops


@pytest.mark.parametrize("name, rows, steps", [("sgd", BATCH, 15), ("gd", TRAIN, 3), ("adam", BATCH, 15)])
@pytest.mark.parametrize("runs", [1, 3])
def test_flops_of_a_gradient_method_equal_a_count_by_hand(name, rows, steps, runs):
    widths = (INPUTS, *HIDDEN, CLASSES)
    products = [a * b for a, b in zip(widths, widths[1:])]
    # Forward and weight gradient in every layer, the error passed back in all but the first: 2 a multiply-add.
    step = 2 * rows * (sum(products) + sum(products) + sum(products[1:]))
    for result in run(name, seeds=range(runs)):
        assert result.flops == steps * step


def test_flops_of_samt_equal_a_count_by_hand():
    """Forward order, T = 1: block l moves, and the layers from l on run again, for the support and for the query."""
    widths = (INPUTS, *HIDDEN, CLASSES)
    products = [a * b for a, b in zip(widths, widths[1:])]

    def gradient(l: int, first: int) -> int:
        """Forward from layer `first` on, the error back to layer l, and its weights' gradient."""
        return sum(products[first:]) + sum(products[l + 1 :]) + products[l]

    # The support was the last step's query and starts current; before block l + 1 it has lost the layers from l on.
    support = gradient(0, DEPTH) + gradient(1, 0) + gradient(2, 1)
    query = gradient(0, 0) + gradient(1, 1) + gradient(2, 2)
    for result in run("samt", seeds=[0, 1]):
        assert result.flops == 15 * 2 * BATCH * (support + query)


# Clocks


class Hand:
    """A clock that stands still until it is told to move."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(counters, "time", SimpleNamespace(perf_counter=lambda: self.now))


def test_three_clocks_add_up_to_the_total(monkeypatch):
    hand, clocks = Hand(monkeypatch), Clocks(torch.device("cpu"))
    for name, seconds in (("train", 3.0), ("evaluate", 0.5), ("train", 4.0), ("record", 0.25)):
        with clocks.on(name):
            hand.now += seconds
        hand.now += 1000.0  # on no clock
    assert clocks.seconds == {"train": 7.0, "evaluate": 0.5, "record": 0.25}
    assert clocks.total == 7.75 and set(clocks.seconds) == set(CLOCKS)


def test_two_clocks_never_run_at_once(monkeypatch):
    clocks = Clocks(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="'record' started while 'train' was running"):
        with clocks.on("train"), clocks.on("record"):
            pass
    with clocks.on("record"):  # and an error leaves none running
        pass


def test_a_clock_stops_when_its_block_fails(monkeypatch):
    hand, clocks = Hand(monkeypatch), Clocks(torch.device("cpu"))
    with pytest.raises(KeyError):
        with clocks.on("train"):
            hand.now += 2.0
            raise KeyError
    assert clocks.seconds["train"] == 2.0


def test_training_and_evaluation_are_timed_apart(monkeypatch):
    """A step that takes 7 s and an evaluation of 3 x 2 s, on a clock moved by hand: no second leaks or is lost."""
    hand, sgd = Hand(monkeypatch), method("sgd")

    def slow_step(state, problem, hp, k):
        hand.now += 7.0
        sgd.step(state, problem, hp, k)

    def slow_metrics(*args):
        hand.now += 2.0
        return metrics(*args)

    monkeypatch.setattr(evaluation, "metrics", slow_metrics)
    budget = Budget(epochs=2, batch_size=BATCH, evaluate_every=0.6)  # after 0, 3, 6, 9 and 10 steps
    for result in run("sgd", method_=dataclasses.replace(sgd, step=slow_step), budget=budget):
        assert [point["iteration"] for point in result.curve] == [0, 3, 6, 9, 10]
        assert result.train_seconds == pytest.approx(10 * 7 / 3)
        assert result.evaluate_seconds == pytest.approx(5 * 3 * 2 / 3)
        assert result.record_seconds == 0.0
        assert hand.now == 100.0 + 10 * 7 + 5 * 3 * 2


def test_the_clocks_cover_the_wall_time_of_a_run():
    shares = []
    for _ in range(3):  # a busy machine may take the processor away between two clocks
        began = time.perf_counter()
        results = run("tiam", seeds=[0, 1], budget=Budget(epochs=80, batch_size=0, evaluate_every=10))
        wall = time.perf_counter() - began
        timed = sum(r.train_seconds + r.evaluate_seconds + r.record_seconds for r in results)
        assert timed <= wall
        shares.append(timed / wall)
        if shares[-1] > 0.95:
            break
    assert max(shares) > 0.95
    assert all(r.train_seconds > r.evaluate_seconds > 0 for r in results)


def test_flops_are_those_of_the_matrix_products():
    A, B = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
    assert flops_of(lambda: torch.bmm(A, B).relu() + 1) == 2 * 2 * 3 * 4 * 5
    assert flops_of(lambda: None) == 0


# What is evaluated, and when


@pytest.mark.parametrize(
    "every, at",
    [
        (1, [0, 5, 10, 15]),
        (0.4, [0, 2, 4, 6, 8, 10, 12, 14, 15]),
        (0.01, list(range(16))),
        (2, [0, 10, 15]),
        (100, [0, 15]),
    ],
)
def test_evaluations_come_at_the_stated_cadence(every, at):
    for result in run("sgd", budget=Budget(epochs=3, batch_size=BATCH, evaluate_every=every)):
        assert [point["iteration"] for point in result.curve] == at
        assert [point["epoch"] for point in result.curve] == [k / PER_EPOCH for k in at]


def test_a_full_batch_iteration_is_an_epoch():
    for result in run("tiam", budget=Budget(epochs=7, batch_size=0, evaluate_every=3)):
        assert [point["iteration"] for point in result.curve] == [0, 3, 6, 7]
        assert [point["epoch"] for point in result.curve] == [0, 3, 6, 7]


@pytest.mark.parametrize("name", ["sgd", "samt", "tiam"])
def test_metrics_equal_a_computation_by_hand(name):
    data, seeds = small_data(torch.float64), [3, 8]
    results = run(name, data, seeds)
    chosen, act = method(name), activation("relu")
    batches = None if chosen.full_batch else Batches(data.x, data.y, seeds=seeds, batch_size=BATCH)
    problem, hp = Problem(data.x, data.y, act, batches), stack([chosen.settings()] * 2, data.x)
    params = initialise((INPUTS, *HIDDEN, CLASSES), seeds, "he", torch.float64)
    by_hand = Run(chosen, problem, hp, chosen.init(problem, params, hp), single=False)
    for i in range(4):
        variables = by_hand.variables()
        for r, result in enumerate(results):
            point = result.curve[i]
            assert point["iteration"] == by_hand.iterations

            def logits(x: torch.Tensor) -> torch.Tensor:
                for l in range(1, DEPTH + 1):
                    x = F.linear(x if l == 1 else F.relu(x), variables[f"W{l}"][r], variables[f"b{l}"][r])
                return x

            hits = lambda x, y: sum(int(z.argmax() == label) for z, label in zip(logits(x), y)) / len(y)
            assert point["test_accuracy"] == hits(data.x_test, data.y_test)
            assert point["val_accuracy"] == hits(data.x_val, data.y_val)
            assert point["train_loss"] == pytest.approx(float(F.cross_entropy(logits(data.x), data.y)), rel=1e-12)
            if name == "tiam":
                gaps = [(variables[f"a{l}"][r] - F.relu(variables[f"z{l}"][r])).flatten() for l in (1, 2)]
                gap = float(torch.cat(gaps).square().mean().sqrt())
                assert point["constraint_gap"] == pytest.approx(gap, rel=1e-12, abs=1e-15)
                assert point["objective"] == pytest.approx(float(by_hand.objective()[r]), rel=1e-12)
            else:
                assert "objective" not in point and "constraint_gap" not in point
        by_hand.step(1 if chosen.full_batch else PER_EPOCH)


def test_metrics_do_not_depend_on_the_size_of_a_chunk(monkeypatch):
    data = small_data(torch.float64)
    params = initialise((INPUTS, *HIDDEN, CLASSES), [0, 1], "he", torch.float64)
    whole = metrics(params, data.x, data.y, activation("elu"))
    monkeypatch.setattr(evaluation, "EVALUATION_BYTES", 2 * 8 * 8 * 3 * 10)  # ten rows
    parts = metrics(params, data.x, data.y, activation("elu"))
    assert torch.equal(whole[0], parts[0]) and largest_difference(whole[1], parts[1]) < 1e-14
    assert 0 < whole[0].min() and whole[0].max() < 1


def test_the_training_loss_of_a_large_set_is_that_of_its_first_rows(monkeypatch):
    monkeypatch.setattr(evaluation, "TRAIN_LOSS_ROWS", 11)
    data = small_data(torch.float64)
    params = initialise((INPUTS, *HIDDEN, CLASSES), [0], "he", torch.float64)
    expected = float(metrics(params, data.x[:11], data.y[:11], activation("relu"))[1][0])
    assert run("sgd", data, [0])[0].curve[0]["train_loss"] == expected


def test_training_learns():
    budget = Budget(epochs=40, batch_size=BATCH, evaluate_every=40)
    for result in run("adam", budget=budget, settings=[method("adam").settings({"learning_rate": 0.02})] * 3):
        assert result.curve[-1]["train_loss"] < 0.5 * result.curve[0]["train_loss"]
        assert result.curve[-1]["test_accuracy"] > result.curve[0]["test_accuracy"]


def test_progress_rises_to_one():
    seen: list[float] = []
    run("sgd", progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) == 3


@pytest.mark.parametrize("name", ["sgd", "samt", "tiam"])
def test_a_timed_run_carries_seconds_and_has_the_numbers_of_one_that_is_not(name):
    plain = run(name, seeds=[1])[0]
    timed = run(name, seeds=[1], budget=dataclasses.replace(BUDGET, alone=True))[0]
    seconds = [point.pop("seconds") for point in timed.curve]
    assert seconds == sorted(seconds) and 0 < seconds[0] < seconds[-1] == timed.seconds == timed.train_seconds
    assert timed.curve == plain.curve and timed.flops == plain.flops > 0
    assert plain.seconds is None and plain.device == "cpu" and timed.device.endswith("threads")


def test_the_rehearsal_of_a_timed_run_is_not_on_its_clock():
    slow = method("sgd")
    calls = []

    def step(state, problem, hp, k):
        calls.append(k)
        time.sleep(0.02)
        slow.step(state, problem, hp, k)

    alone = dataclasses.replace(BUDGET, alone=True)
    timed = run("sgd", seeds=[1], method_=dataclasses.replace(slow, step=step), budget=alone)[0]
    assert calls[-timed.iterations :] == list(range(timed.iterations))
    assert len(calls) >= timed.iterations + training.WARM_BATCHES
    assert 0.02 * timed.iterations < timed.seconds < 0.02 * len(calls)


def test_the_gradient_norm_equals_autograd(monkeypatch):
    """On fewer rows than one block, on several blocks, and for two networks at once."""
    data, act = small_data(torch.float64), activation("elu")
    params = initialise((INPUTS, *HIDDEN, CLASSES), [0, 1], "he", torch.float64)
    for r in range(2):
        leaves = [t[r].clone().requires_grad_() for pair in zip(params.W, params.b) for t in pair]
        a = data.x
        for l in range(3):
            z = a @ leaves[2 * l].T + leaves[2 * l + 1]
            a = act.value(z)
        grads = torch.autograd.grad(torch.nn.functional.cross_entropy(z, data.y), leaves)
        expected = float(sum(g.square().sum() for g in grads) ** 0.5)
        for rows in (10_000, 16):
            monkeypatch.setattr(evaluation, "GRADIENT_ROWS", rows)
            found = evaluation.gradient_norm(params, data.x, data.y, act)
            assert found.dtype == torch.float64 and abs(float(found[r]) - expected) < 1e-12


def test_the_gradient_norm_is_recorded_where_it_is_asked_for():
    assert "gradient_norm" not in run("sgd")[0].curve[0]
    asked = run("sgd", budget=dataclasses.replace(BUDGET, gradient_norm=True))
    assert all(point["gradient_norm"] > 0 for result in asked for point in result.curve)


@pytest.mark.parametrize("name", ["sgd", "samt", "tiam"])
def test_a_run_is_the_same_again_and_alone(name):
    data, seeds = small_data(torch.float64), [5, 6, 7]
    first, again, alone = run(name, data, seeds), run(name, data, seeds), run(name, data, [6])
    assert [without_time(r) for r in first] == [without_time(r) for r in again]
    for u, v in zip(first[1].curve, alone[0].curve, strict=True):
        assert u == pytest.approx(v, rel=1e-12)
    assert first[0].curve != first[1].curve


@pytest.mark.parametrize("name", sorted(methods()))
def test_nothing_of_a_run_but_its_seconds_depends_on_its_neighbours(name):
    """FLOPs, counts and every value of the curve, bit for bit, beside neighbours that backtrack from far below."""
    chosen, seeds = method(name), [3, 4, 5]
    settings = [middle(chosen, share=share) for share in (1e-3, 1.0, 0.7)]
    budget = dataclasses.replace(BUDGET, gradient_norm=True)
    together = run(name, seeds=seeds, settings=settings, budget=budget)
    (alone,) = run(name, seeds=seeds[1:2], settings=settings[1:2], budget=budget)
    mine, own = without_time(together[1]), without_time(alone)
    assert (mine.pop("stack_runs"), own.pop("stack_runs")) == (3, 1)
    assert mine["curve"] and mine == own


def test_runs_that_differ_in_more_than_a_number_cannot_share_a_stack():
    samt = method("samt")
    with pytest.raises(InputError, match="shape"):
        run("samt", seeds=[0, 1], settings=[samt.settings({"shape": "row"}), samt.settings({"shape": "column"})])


# Divergence


def settings_of(rates: list[float]) -> list:
    return [method("sgd").settings({"learning_rate": rate}) for rate in rates]


def first_bad_step(rate: float, seed: int, data: Data, steps: int) -> int | None:
    """The step, from 1, after which a parameter of plain SGD is first NaN or Inf, by autograd."""
    params = initialise((INPUTS, *HIDDEN, CLASSES), [seed], "he", data.x.dtype)
    weights, biases = [W[0] for W in params.W], [b[0, 0] for b in params.b]
    batches = Batches(data.x, data.y, seeds=[seed], batch_size=BATCH)
    for k in range(steps):
        x, y = (t[0] for t in batches(k))
        leaves = [t.requires_grad_() for t in weights + biases]
        a = x
        for l in range(DEPTH):
            a = F.linear(a if l == 0 else F.relu(a), weights[l], biases[l])
        gradients = torch.autograd.grad(F.cross_entropy(a, y), leaves)
        moved = [(t - rate * g).detach() for t, g in zip(leaves, gradients)]
        weights, biases = moved[:DEPTH], moved[DEPTH:]
        if not all(t.isfinite().all() for t in moved):
            return k + 1
    return None


@pytest.mark.parametrize("rate", [1e9, 1e16, 1e30])
def test_a_diverged_run_is_marked_at_its_step_and_leaves_its_neighbours_alone(rate):
    data, seeds = small_data(), [0, 1, 2]
    budget = Budget(epochs=3, batch_size=BATCH, evaluate_every=0.4)
    healthy = run("sgd", data, seeds, budget, settings_of([0.1, 0.1, 0.1]))
    mixed = run("sgd", data, seeds, budget, settings_of([0.1, rate, 0.1]))
    at = first_bad_step(rate, 1, data, 15)
    assert at is not None and at > 1
    bad = mixed[1]
    assert (bad.status, bad.diverged_at, bad.iterations) == ("diverged", at, at)
    assert bad.parameter_updates == at * DEPTH and bad.gradient_evaluations == at
    assert bad.epochs == at / PER_EPOCH and bad.flops == at * healthy[1].flops / 15
    assert [p["iteration"] for p in bad.curve] == [k for k in (0, 2, 4, 6, 8, 10, 12, 14, 15) if k < at]
    for r in (0, 2):
        assert without_time(mixed[r]) == without_time(healthy[r]), "bitwise"
        assert mixed[r].status == "done"


def test_divergence_in_the_first_step_leaves_the_first_evaluation():
    data = small_data()
    data.x[:] *= 1e30
    bad, budget = settings_of([1e30]), Budget(epochs=3, batch_size=BATCH, evaluate_every=1)
    assert first_bad_step(1e30, 0, data, 15) == 1
    result = run("sgd", data, [0], budget, bad)[0]
    assert (result.status, result.diverged_at) == ("diverged", 1)
    assert [point["iteration"] for point in result.curve] == [0]


def test_training_stops_when_all_runs_have_diverged():
    calls, sgd = [], method("sgd")

    def counted(state, problem, hp, k):
        calls.append(k)
        sgd.step(state, problem, hp, k)

    budget = Budget(epochs=50, batch_size=BATCH, evaluate_every=1)
    chosen = dataclasses.replace(sgd, step=counted)
    results = run("sgd", seeds=[1, 2], settings=settings_of([1e9, 1e30]), budget=budget, method_=chosen)
    assert [r.status for r in results] == ["diverged"] * 2
    last = max(r.diverged_at for r in results)
    assert len(calls) == -(-last // PER_EPOCH) * PER_EPOCH, "up to the next evaluation"


def test_divergence_in_the_last_step_is_seen():
    gd = method("gd")
    steps = lambda n: run("gd", seeds=[1], settings=[gd.settings({"learning_rate": 1e30})], budget=Budget(n, 0, 1))[0]
    at = steps(20).diverged_at
    assert 1 < at < 20
    assert (steps(at).status, steps(at).diverged_at) == ("diverged", at)
    assert (steps(at - 1).status, steps(at - 1).diverged_at) == ("done", None)


# Memory


def out_of_memory_above(runs: int, monkeypatch) -> list[int]:
    """The device has room for `runs` runs; returns the list of the stacks that were tried."""
    tried: list[int] = []

    def limited(widths, seeds, *args):
        tried.append(len(seeds))
        if len(seeds) > runs:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return initialise(widths, seeds, *args)

    monkeypatch.setattr(training, "initialise", limited)
    return tried


@pytest.mark.parametrize("name", ["sgd", "samt", "tiam"])
def test_where_memory_runs_out_a_stack_is_halved(name, monkeypatch):
    data, seeds, chosen = small_data(torch.float64), [4, 5, 6, 7, 8], method(name)
    first = floats(chosen)[0]
    settings = [chosen.settings({first.name: first.default * (1 - 0.1 * r)}) for r in range(5)]
    expected = run(name, data, seeds, settings=settings)
    tried, seen = out_of_memory_above(2, monkeypatch), []
    results = run(name, data, seeds, settings=settings, progress=seen.append)
    assert tried == [5, 2, 3, 1, 2]
    assert [r.stack_runs for r in results] == [2, 2, 1, 2, 2]
    for found, wanted in zip(results, expected, strict=True):
        for u, v in zip(found.curve, wanted.curve, strict=True):
            assert u.pop("flops") == pytest.approx(v.pop("flops"), rel=0.05 if name == "tiam" else 0)
            assert u == pytest.approx(v, rel=1e-12)
        assert found.iterations == wanted.iterations and found.status == wanted.status
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1.0)


def test_a_cpu_that_cannot_allocate_is_out_of_memory_too(monkeypatch):
    calls = []

    def limited(widths, seeds, *args):
        calls.append(len(seeds))
        if len(seeds) > 1:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        return initialise(widths, seeds, *args)

    monkeypatch.setattr(training, "initialise", limited)
    assert len(run("sgd")) == 3 and calls == [3, 1, 2, 1, 1]


def test_one_run_that_does_not_fit_is_an_error(monkeypatch):
    tried = out_of_memory_above(0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        run("sgd", seeds=[0, 1])
    assert tried == [2, 1]


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    def broken(*args):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(training, "initialise", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        run("sgd")


@pytest.mark.parametrize("name", ["sgd", "samt", "tiam"])
def test_the_largest_stack_is_sensible(name, monkeypatch):
    monkeypatch.setattr(machine, "physical_memory", lambda: 8 * 2**30)
    cpu, chosen = torch.device("cpu"), method(name)
    size = lambda width, n=60_000, memory=8: largest_stack(chosen, (784, width, width, 10), n, 128, cpu)
    sizes = [size(width) for width in (10, 100, 1000, 10_000, 100_000)]
    assert all(isinstance(s, int) and s >= 1 for s in sizes)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1] == 1
    assert size(100) <= size(100, 5_000)
    monkeypatch.setattr(machine, "physical_memory", lambda: 0)
    assert size(100) == 1
    monkeypatch.setattr(machine, "physical_memory", lambda: 2**50)
    assert size(100) == machine.CPU_STACK


# Mini-batches


def numbered(rows: int = 23) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that carry their own row number."""
    return torch.arange(rows, dtype=torch.float32).view(-1, 1), torch.arange(rows)


def walk(batches: Batches, epoch: int) -> torch.Tensor:  # -> (per_epoch, R, B) row numbers
    steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
    return torch.stack([batches(k)[1] for k in steps])


def test_every_row_comes_at_most_once_an_epoch_and_the_rest_is_dropped():
    x, y = numbered(23)
    batches = Batches(x, y, seeds=[0, 1], batch_size=5)
    assert batches.per_epoch == 4
    for epoch in range(3):
        rows = walk(batches, epoch)
        for r in range(2):
            assert len(set(rows[:, r].flatten().tolist())) == 20
    left_out = {tuple(sorted(set(range(23)) - set(walk(batches, e)[:, 0].flatten().tolist()))) for e in range(8)}
    assert len(left_out) > 1, "not the same rows every epoch"


def test_images_and_labels_stay_together():
    x, y = numbered()
    batches = Batches(x, y, seeds=[0, 1, 2], batch_size=5)
    for k in range(12):
        bx, by = batches(k)
        assert bx.shape == (3, 5, 1) and by.shape == (3, 5)
        assert torch.equal(bx[..., 0].long(), by)


def test_the_order_depends_on_seed_and_epoch_alone():
    x, y = numbered()
    together, alone = Batches(x, y, seeds=[7, 3, 9], batch_size=5), Batches(x, y, seeds=[3], batch_size=5)
    for epoch in range(3):
        rows = walk(together, epoch)
        assert torch.equal(rows[:, 1], walk(alone, epoch)[:, 0])
        assert not torch.equal(rows[:, 0], rows[:, 1])
    assert not torch.equal(walk(alone, 0), walk(alone, 1))
    # Straight into the middle, or back: the same batch.
    fresh = Batches(x, y, seeds=[3], batch_size=5)
    assert torch.equal(fresh(9)[1], alone(9)[1]) and torch.equal(fresh(2)[1], alone(2)[1])
    assert torch.equal(fresh(9)[1], alone(9)[1])


def test_asking_for_the_next_batch_first_changes_nothing():
    x, y = numbered()
    ahead, plain = (Batches(x, y, seeds=[4, 5], batch_size=5) for _ in range(2))
    for k in range(14):
        now, following = ahead(k), ahead(k + 1)
        assert torch.equal(now[1], plain(k)[1]) and not torch.equal(now[1], following[1])


def test_seed_and_initial_values_use_different_streams():
    x, y = numbered(1000)
    order = walk(Batches(x, y, seeds=[0], batch_size=1000), 0)[0, 0]
    assert not torch.equal(order, torch.randperm(1000, generator=torch.Generator().manual_seed(0)))


def test_batches_that_are_given_come_round_again():
    x, y = numbered()
    given = torch.tensor([[0, 1], [5, 4], [22, 9]])
    batches = Batches(x, y, given=given, runs=2)
    assert batches.per_epoch == 3 and batches.batch_size == 2
    for k in range(7):
        bx, by = batches(k)
        assert torch.equal(by, given[k % 3].expand(2, -1))
        assert torch.equal(bx[..., 0].long(), by)


@pytest.mark.parametrize("size", [24, 0, -1])
def test_a_batch_that_is_no_part_of_the_data_is_refused(size):
    x, y = numbered(23)
    with pytest.raises(InputError, match="batch"):
        Batches(x, y, seeds=[0], batch_size=size)


# A GPU


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sgd", "tiam"])
def test_training_on_a_gpu_equals_that_on_a_cpu(name):
    cpu, gpu = (run(name, small_data(torch.float64, device)) for device in ("cpu", "cuda"))
    for u, v in zip(cpu, gpu, strict=True):
        assert v.device != "cpu" and (v.status, v.iterations) == ("done", u.iterations)
        for p, q in zip(u.curve, v.curve, strict=True):
            assert (
                q.pop("flops") == p.pop("flops") or name == "tiam"
            )  # which computes all trials where asking would wait
            assert q == pytest.approx(p, rel=1e-9)


@pytest.mark.gpu
def test_the_largest_stack_of_a_gpu_is_sensible():
    size = lambda width: largest_stack(method("tiam"), (784, width, width, 10), 60_000, 0, torch.device("cuda"))
    sizes = [size(width) for width in (10, 100, 1000, 10**5)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1 < sizes[0]
