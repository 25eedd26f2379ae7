"""Runs that share a stack: none changes another, diverged ones are marked, and memory bounds how many there are."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import floats, middle
from small import BATCH, BUDGET, CLASSES, DEPTH, HIDDEN, INPUTS, PER_EPOCH, run, small_data, without_time

from am import machine, training
from am.batches import Batches
from am.data import Data
from am.errors import InputError
from am.machine import largest_stack
from am.methods import method, methods
from am.networks import initialise
from am.training import Budget


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


MINI_BATCH = sorted(name for name, chosen in methods().items() if not chosen.full_batch)
BENT = [(name, "softplus") for name in MINI_BATCH] + [("samt", act) for act in ("elu", "selu", "celu", "gelu", "silu")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name, act", BENT)
def test_a_run_has_the_digits_in_a_large_stack_that_it_has_alone(name, act, dtype):
    """Also where an activation takes exp and log, and the widths are no multiple of a processor's vectors."""
    chosen, data, seeds = method(name), small_data(dtype), list(range(17))
    settings = [middle(chosen, share=(1.0, 0.7, 0.4)[r % 3]) for r in seeds]
    how = dict(budget=Budget(2, 7, 1, gradient_norm=True), hidden=(9, 7), activation_name=act)
    together = run(name, data, seeds, settings=settings, **how)
    for r in (0, 8, 16):
        (alone,) = run(name, data, [r], settings=[settings[r]], **how)
        assert without_time(together[r]) == without_time(alone) | {"stack_runs": 17}


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


@pytest.mark.gpu
def test_the_largest_stack_of_a_gpu_is_sensible():
    size = lambda width: largest_stack(method("tiam"), (784, width, width, 10), 60_000, 0, torch.device("cuda"))
    sizes = [size(width) for width in (10, 100, 1000, 10**5)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1 < sizes[0]
