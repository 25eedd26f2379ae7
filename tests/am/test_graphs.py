"""CUDA graphs: replayed steps are the eager ones, for every mini-batch method, and what cannot be replayed is refused.

Without a GPU a tape stands in for the graph: it keeps the tensor operations of one step and the tensors they had, and
runs them again on those tensors, without the step's Python.
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from conftest import BATCH, ROWS, WIDTHS, launch, spread, tiny_data
from small import run, small_data, without_time
from taped import address, tape

import am
from am import graphs, training
from am.batches import Batches
from am.errors import InputError
from am.graphs import EAGER_STEPS, captured, copy_back, cuda_graph, same_tensors
from am.methods import method, methods
from am.training import Budget

CAPTURED = [name for name, chosen in methods().items() if chosen.has_graph and not chosen.asks]
# The powers of a number that is known when the step is written come from C's pow, those of a tensor from torch's, and
# a square or cube from products: the last digit differs.
ROUNDED = ("adam", "adamw", "adam-full-batch", "adamw-full-batch", "am-adam", "am-adam-released", "samt")
OTHER_SAMT = dict(query="support", order="backward", inner_steps=2, meta="gd", shape="element")
STEPS = 3 * (ROWS // BATCH) + 2  # past epoch boundaries, and to the middle of an epoch


def eager_and_replayed(chosen, settings, record=tape, steps=STEPS, device="cpu", **options):
    """Two runs after the same steps, and what each noted of the runs that are finite: (R,) bool, (R,) int64."""
    pair, seeds = [], list(range(4, 4 + len(settings)))
    for replayed in (False, True):
        made = launch(chosen, settings, seeds, device=device, **options)
        alive = torch.ones(len(seeds), dtype=torch.bool, device=device)
        survived = torch.zeros(len(seeds), dtype=torch.int64, device=device)

        def step(k, problem=made.problem):
            chosen.step(made.state, problem, made.hp, k)
            alive.logical_and_(chosen.parameters(made.state).finite())
            survived.add_(alive)

        advance = step
        for k in range(steps):
            if replayed and k == EAGER_STEPS:
                advance = captured(step, made.state, made.problem, record)
            advance(k)
        pair.append((made.variables(), alive, survived))
    return pair


def worst(u, v):
    """The largest difference of any variable."""
    assert u.keys() == v.keys()
    return max(float((u[name] - v[name]).abs().nan_to_num(torch.inf).max()) for name in u)


# ----------------------------------------------------------------------------------------------- the numbers of eager


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("name", CAPTURED)
def test_replayed_steps_are_the_eager_ones(name, runs):
    chosen = method(name)
    (u, *noted), (v, *again) = eager_and_replayed(chosen, spread(chosen)[:runs])
    assert worst(u, v) <= (1e-12 if name in ROUNDED else 0)
    assert all(map(torch.equal, noted, again)) and again[1].tolist() == [STEPS] * runs


@pytest.mark.parametrize("values", [OTHER_SAMT, dict(inner_steps=3), dict(query="support"), dict(order="backward")])
def test_replayed_samt_under_other_settings(values):
    chosen = method("samt")
    (u, *_), (v, *_) = eager_and_replayed(chosen, spread(chosen, values))
    assert worst(u, v) <= (0 if values.get("meta") == "gd" else 1e-12)


@pytest.mark.parametrize("activation_name", am.activations.ACTIVATIONS)
def test_no_activation_waits_for_the_device(activation_name):
    chosen = method("samt")
    (u, *_), (v, *_) = eager_and_replayed(chosen, spread(chosen), activation_name=activation_name)
    assert worst(u, v) <= 1e-12


@pytest.mark.parametrize("name", CAPTURED)
def test_float32_steps_are_replayed_too(name):
    chosen = method(name)
    (u, *_), (v, *_) = eager_and_replayed(chosen, spread(chosen), dtype=torch.float32)
    assert worst(u, v) <= (1e-5 if name in ROUNDED else 0)


@pytest.mark.parametrize("name", ["sgd", "samt", "am-adam"])
def test_batches_that_are_given_come_round_again(name):
    x, y = tiny_data()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1)).view(-1, BATCH)
    W, b = [torch.randn(3, n, m) / 2 for m, n in zip(WIDTHS, WIDTHS[1:])], [torch.zeros(3, n) for n in WIDTHS[1:]]
    eager, replayed = (am.start(name, x, y, W, b, batches=order).step(EAGER_STEPS) for _ in range(2))
    step = lambda k, problem: replayed.method.step(replayed.state, problem, replayed.hp, k)
    replay = captured(step, replayed.state, replayed.problem, tape)
    for k in range(EAGER_STEPS, 2 * len(order) + 1):
        replay(k)
        eager.step()
    assert worst(eager.variables(), replayed.variables()) <= 1e-12


@pytest.mark.parametrize("name", ["sgd", "samt", "am-adam"])
def test_what_is_read_between_replays_is_the_state_of_the_step(name):
    """The objects of the state change hands under the hood, and the loop evaluates between replays."""
    chosen = method(name)
    for steps in range(EAGER_STEPS, EAGER_STEPS + 4):
        (u, *_), (v, *_) = eager_and_replayed(chosen, spread(chosen), steps=steps)
        assert worst(u, v) <= 1e-12


# ---------------------------------------------------------------------------------------------------- the training loop


@pytest.fixture
def taped(monkeypatch):
    monkeypatch.setattr(training, "captured", lambda *args: captured(*args, tape))


@pytest.mark.parametrize("name", [*CAPTURED, "tiam"])
def test_training_with_graphs_gives_the_same_results(name, taped):
    data = small_data(torch.float64)
    budget = Budget(epochs=3, batch_size=8, evaluate_every=0.6, gradient_norm=True)
    eager, replayed = (run(name, data, budget=budget, graphs=graphs) for graphs in (False, True))
    for u, v in zip(map(without_time, eager), map(without_time, replayed), strict=True):
        assert (u.pop("device"), v.pop("device")) == ("cpu", "cpu, CUDA graphs" if name in CAPTURED else "cpu")
        curves = u.pop("curve"), v.pop("curve")
        assert u == v and len(curves[0]) > 3
        for p, q in zip(*curves, strict=True):
            assert p == (pytest.approx(q, rel=1e-10) if name in ROUNDED else q)


@pytest.mark.parametrize("name", ["sgd", "adam", "am-adam"])
def test_a_run_that_diverges_is_noted_at_the_same_step(name, taped):
    chosen, data = method(name), small_data(torch.float64)
    settings = [chosen.settings(), chosen.settings(dict(learning_rate=1e200)), chosen.settings()]
    eager, replayed = (run(name, data, settings=settings, graphs=graphs) for graphs in (False, True))
    assert [r.status for r in eager] == ["done", "diverged", "done"]
    for u, v in zip(eager, replayed, strict=True):
        noted = [(r.status, r.diverged_at, r.iterations, len(r.curve)) for r in (u, v)]
        assert noted[0] == noted[1]


def test_a_run_that_diverges_in_a_replay_stays_noted():
    """Step sizes that grow without end: finite after the eager steps, not after the replays."""
    chosen = method("sgd")
    rates = [chosen.settings(dict(learning_rate=rate)) for rate in (0.1, 1e12, 0.1)]
    (_, alive, survived), (v, again, counted) = eager_and_replayed(chosen, rates)
    assert torch.equal(alive, again) and torch.equal(survived, counted)
    assert again.tolist() == [True, False, True] and EAGER_STEPS < counted[1] < STEPS
    assert not torch.isfinite(v["W1"][1]).all()


def test_a_halved_stack_keeps_its_graphs(taped, monkeypatch):
    real, asked = training._train_stack, []

    def limited(method, settings, seeds, *rest, **options):
        asked.append((len(seeds), options["graphs"]))
        if len(seeds) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(method, settings, seeds, *rest, **options)

    monkeypatch.setattr(training, "_train_stack", limited)
    run("sgd", seeds=[0, 1], graphs=True)
    assert asked == [(2, True), (1, True), (1, True)]


# ------------------------------------------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize("name", ["samt", "am-adam"])
def test_without_the_copies_back_the_numbers_are_others(name, monkeypatch):
    monkeypatch.setattr(graphs, "copy_back", lambda before, after: None)
    (u, *_), (v, *_) = eager_and_replayed(method(name), spread(method(name)))
    assert worst(u, v) > 1e-6


def test_a_step_that_goes_by_a_python_number_is_not_the_eager_one():
    """The tape holds what was captured, and no Python: else the tests above would say nothing."""
    sgd, calls = method("sgd"), []

    def step(state, problem, hp, k):
        calls.append(k)
        sgd.step(state, problem, hp, k)
        state.params.flat.mul_(1 + 0.01 * len(calls))

    (u, *_), (v, *_) = eager_and_replayed(dataclasses.replace(sgd, step=step), spread(sgd))
    assert len(calls) == STEPS + EAGER_STEPS + 1 and worst(u, v) > 1e-6


def test_a_step_that_waits_for_the_device_is_found():
    sgd = method("sgd")
    asks = dataclasses.replace(
        sgd, step=lambda state, problem, hp, k: sgd.step(state, problem, hp, k) or bool(state.params.flat.sum() > 0)
    )
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        eager_and_replayed(asks, spread(sgd))


def test_on_a_cpu_there_is_no_graph():
    with pytest.raises(InputError, match="the data are on the cpu"):
        cuda_graph(lambda: None, torch.device("cpu"))
    with pytest.raises(InputError, match="the data are on the cpu"):
        run("sgd", graphs=True)


# ----------------------------------------------------------------------------------------------------------- the state


def state_of(**values) -> SimpleNamespace:
    return SimpleNamespace(**values)


def moved(state, step):
    """The state's tensors after `step`, with what it replaced written into what was there."""
    before = same_tensors(state)
    step(state)
    copy_back(before, state)
    return before


def test_new_tensors_are_written_into_the_old_ones_at_any_depth():
    a, b, c = (torch.full((2,), float(i)) for i in range(3))
    state = state_of(pair=(a, [b]), named={"c": c}, kept=torch.zeros(2), number=3, none=None)

    def step(s):
        s.pair = (s.pair[0] + 10, [s.pair[1][0] + 10])
        s.named["c"] = s.named["c"] + 10

    before = moved(state, step)
    assert before.pair[0] is a and before.pair[1][0] is b and before.named["c"] is c
    assert [t[0].item() for t in (a, b, c)] == [10, 11, 12]


def test_lists_that_a_step_empties_are_whole_again():
    z = [torch.zeros(2), torch.ones(2)]
    state = state_of(z=list(z))

    def step(s):
        last = s.z.pop()
        s.z.append(last + 1)

    before = moved(state, step)
    assert before.z[0] is z[0] and before.z[1] is z[1] and z[1].tolist() == [2, 2]


def test_iterates_that_change_places_are_not_overwritten_too_soon():
    now, last, before_last = (torch.full((2,), float(i)) for i in range(3))
    state = state_of(now=now, last=last, before_last=before_last)

    def step(s):
        s.now, s.last, s.before_last = s.before_last, s.now, s.last

    moved(state, step)
    assert [t[0].item() for t in (now, last, before_last)] == [2, 0, 1]


def test_views_follow_the_tensor_they_are_of():
    flat = torch.zeros(6)
    state = state_of(flat=flat, layers=[flat[:2].view(1, 2), flat[2:]])

    def step(s):
        s.flat = s.flat + torch.arange(6.0)
        s.layers = [s.flat[:2].view(1, 2), s.flat[2:]]

    before = moved(state, step)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5] and before.layers[1].tolist() == [2, 3, 4, 5]
    assert address(before.layers[0]) == address(flat)


@pytest.mark.parametrize(
    "step",
    [
        lambda s: setattr(s, "count", s.count + 1),
        lambda s: setattr(s, "a", s.a.float()),
        lambda s: setattr(s, "a", torch.zeros(3)),
        lambda s: setattr(s, "a", s.b),  # two tensors that become one
        lambda s: setattr(s, "none", torch.zeros(2)),
        lambda s: s.more.append(torch.zeros(2)),
        lambda s: s.more.pop(),
        lambda s: setattr(s, "later", s.a),
    ],
)
def test_a_state_that_changes_its_kind_is_refused(step):
    state = state_of(a=torch.zeros(2).double(), b=torch.ones(2).double(), count=0, none=None, more=[torch.zeros(2)])
    with pytest.raises(RuntimeError, match="changes the kind of 'state."):
        moved(state, step)


def test_rows_and_gathered_batches_agree_with_the_batches():
    x, y = tiny_data()
    batches, fresh = (Batches(x, y, seeds=[3, 5], batch_size=BATCH) for _ in range(2))
    for k in range(3 * batches.per_epoch):
        following = batches.rows(k + 1)
        assert all(map(torch.equal, batches.gather(batches.rows(k)), fresh(k)))
        assert torch.equal(following, fresh.rows(k + 1))
    kept = fresh(k)
    fresh.forget()
    again = fresh(k)
    assert kept[0] is not again[0] and torch.equal(kept[0], again[0])


# --------------------------------------------------------------------------------------------------------------- a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("name", CAPTURED)
def test_a_cuda_graph_gives_the_eager_numbers(name, runs):
    chosen = method(name)
    (u, *noted), (v, *again) = eager_and_replayed(chosen, spread(chosen)[:runs], cuda_graph, device="cuda")
    assert worst(u, v) <= 1e-11
    assert all(map(torch.equal, noted, again))


@pytest.mark.gpu
@pytest.mark.parametrize("values", [OTHER_SAMT, dict(inner_steps=3), dict(order="backward")])
def test_a_cuda_graph_of_samt_under_other_settings(values):
    chosen = method("samt")
    (u, *_), (v, *_) = eager_and_replayed(chosen, spread(chosen, values), cuda_graph, device="cuda")
    assert worst(u, v) <= 1e-11


@pytest.mark.gpu
@pytest.mark.parametrize("activation_name", am.activations.ACTIVATIONS)
def test_every_activation_has_a_cuda_graph(activation_name):
    chosen = method("samt")
    options = dict(device="cuda", activation_name=activation_name)
    (u, *_), (v, *_) = eager_and_replayed(chosen, spread(chosen), cuda_graph, **options)
    assert worst(u, v) <= 1e-11


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*CAPTURED, "tiam"])
def test_training_with_cuda_graphs_gives_the_same_results(name):
    data = small_data(torch.float64, "cuda")
    eager, replayed = (run(name, data, graphs=graphs) for graphs in (False, True))
    for u, v in zip(eager, replayed, strict=True):
        assert (u.status, u.iterations) == (v.status, v.iterations)
        assert v.device.endswith("CUDA graphs") is (name in CAPTURED)
        for p, q in zip(u.curve, v.curve, strict=True):
            assert p == pytest.approx(q, rel=1e-9)
