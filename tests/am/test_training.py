"""The training loop: its clocks and counters, and what its evaluations say."""

import dataclasses
import time
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import largest_difference
from small import BATCH, BUDGET, CLASSES, DEPTH, HIDDEN, INPUTS, PER_EPOCH, TRAIN, run, small_data

from am import counters, evaluation, training
from am.activations import activation
from am.batches import Batches
from am.counters import CLOCKS, Clocks, flops_of
from am.evaluation import metrics
from am.method import Problem, stack
from am.methods import method
from am.networks import initialise
from am.run import Run
from am.training import Budget

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
            if method(name).cost.flops:  # else a step costs what its backtracking tries
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
