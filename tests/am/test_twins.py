"""The methods step beside their slow twins (`twins`), and the twins do not lean on what they check.

In the drawn cases the twins work number by number: with activations, pre-images and proximal points of their own
(`scalars`), so that nothing is shared with the methods but the equations.
"""

import ast
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import scalars
import torch
import torch.nn.functional as F
import twins
from conftest import BATCH, ROWS, STEPS, WIDTHS, spread, tiny_data
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_gradient_methods import OPTIMISERS
from test_rivals import REFERENCES
from twins import penalised, splitting, stochastic
from twins.gradient import course

import am
from am.activations import ACTIVATIONS
from am.counters import flops_of
from am.errors import InputError
from am.methods import am_adam, methods, samt

AGREEMENT = 1e-9
ITERATIONS = 5
BATCHES, BATCH_ROWS = 3, 4
MONOTONE = sorted(name for name, act in ACTIVATIONS.items() if act.monotone)
# The drawn cases are small already; shrinking a failing one takes minutes.
few = settings(derandomize=True, deadline=None, database=None, max_examples=6, phases=[Phase.generate])


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


def power(low: float, high: float) -> st.SearchStrategy[float]:
    return between(low, high).map(lambda exponent: 10**exponent)


networks = st.fixed_dictionaries(
    dict(
        hidden=st.lists(st.integers(2, 5), min_size=1, max_size=4),  # 2 to 5 layers
        inputs=st.integers(2, 5),
        classes=st.integers(2, 4),
        seed=st.integers(0, 2**32 - 1),
    )
)


def draw_problem(network: dict, runs: int, rows: int = BATCHES * BATCH_ROWS):
    """x (N, d0), y (N,), weights as (R, d_l, d_{l-1}) and biases as (R, d_l), float64, from the network's seed."""
    generator = torch.Generator().manual_seed(network["seed"])
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    widths = [network["inputs"], *network["hidden"], network["classes"]]
    y = torch.randint(network["classes"], (rows,), generator=generator)
    W = [normal(runs, e, d) / d**0.5 for d, e in zip(widths, widths[1:])]
    return normal(rows, widths[0]), y, W, [normal(runs, e) for e in widths[1:]]


def stacked(per_run: list[dict], runs: int) -> dict:
    """Settings of single runs as one list per setting."""
    return {name: [values[name] for values in per_run[:runs]] for name in per_run[0]}


def assert_agree(fast: dict[str, torch.Tensor], slow: dict, r: int, step: int) -> None:
    for name, value in slow.items():
        difference = (fast[name][r].flatten() - value.flatten()).abs().max().item()
        assert difference < AGREEMENT, f"{name} of run {r} is off by {difference:.1e} after {step} steps"


def assert_sweeps_agree(name, activation, problem, per_run: list[dict], runs: int, **shared) -> None:
    """Step both; W, b, z, a and the objective agree after every iteration."""
    x, y, W, b = problem
    fast = am.start(name, x, y, W, b, activation, **shared, **stacked(per_run, runs))
    slow = []
    for r, hp in enumerate(per_run[:runs]):
        slow.append(twins.start(name, x, y, [w[r] for w in W], [v[r] for v in b], activation, **shared, **hp))
        slow[r].act = scalars.ScalarActivation(activation)
    with scalar_proximal_points():
        for k in range(ITERATIONS):
            shown, objective = fast.step().variables(), fast.objective()
            for r, run in enumerate(slow):
                run.step()
                if run.memory.get("tied"):
                    continue  # from a step that rounding chose on, the two are other runs
                assert_agree(shown, run.variables(), r, k + 1)
                assert objective[r].item() == pytest.approx(run.objective(), rel=AGREEMENT)


@contextmanager
def scalar_proximal_points() -> Iterator[None]:
    """z_L of the slow runs by Newton on each sample."""
    with pytest.MonkeyPatch.context() as patch:
        newton = lambda c, y, rho, near=None: torch.tensor(scalars.prox_cross_entropy(c.numpy(), y.numpy(), rho))
        patch.setattr(penalised, "proximal", newton)
        yield


run_counts = st.sampled_from([1, 3])
penalty = dict(rho=power(-2, 1), mu=power(-3, -1), theta_0=power(-2, 1), tau_0=power(-2, 1))
penalty |= dict(epsilon_0=power(-1, 2), epsilon_min=power(-3, -1))
# p3 = 1 reflects an exact minimiser: f(u^{k+1}) = f(u^k), and rounding alone would decide the safeguard.
inertia = dict(p1=between(0, 1.5), p2=between(0, 1.5), p3=between(0, 0.9))
three = lambda fields: st.lists(st.fixed_dictionaries(fields), min_size=3, max_size=3)
step_rules = st.sampled_from(["backtracking", "lipschitz"])


@pytest.mark.parametrize("activation", MONOTONE)
@given(runs=run_counts, network=networks, per_run=three(penalty | inertia), step_rule=step_rules)
@few
def test_tiam(activation, runs, network, per_run, step_rule):
    assert_sweeps_agree("tiam", activation, draw_problem(network, runs), per_run, runs, step_rule=step_rule)


readings = dict(
    third=st.sampled_from(["own", "others", "others"]),
    schedule=st.sampled_from(["constant", "nesterov", "nipalm"]),
    z_start=st.sampled_from(["labels", "forward"]),
    safeguard=st.booleans(),
    step_rule=step_rules,
)


@pytest.mark.parametrize("activation", MONOTONE)
@given(runs=run_counts, network=networks, per_run=three(penalty | inertia), reading=st.fixed_dictionaries(readings))
@few
def test_tiam_under_other_readings(activation, runs, network, per_run, reading):
    assert_sweeps_agree("tiam", activation, draw_problem(network, runs), per_run, runs, **reading)


@pytest.mark.parametrize("activation", MONOTONE)
@given(runs=run_counts, network=networks, per_run=three(penalty), step_rule=step_rules)
@few
def test_mdlam(activation, runs, network, per_run, step_rule):
    assert_sweeps_agree("mdlam", activation, draw_problem(network, runs), per_run, runs, step_rule=step_rule)


@pytest.mark.parametrize("activation", MONOTONE)
@given(
    runs=run_counts,
    network=networks,
    per_run=three(penalty),
    inertia=st.booleans(),
    counter_advances=st.booleans(),
)
@few
def test_mdlam_released(activation, runs, network, per_run, inertia, counter_advances):
    """The twin makes every update and safeguard of the released code, those that move nothing included."""
    flags = dict(inertia=inertia, counter_advances=counter_advances)
    assert_sweeps_agree("mdlam-released", activation, draw_problem(network, runs), per_run, runs, **flags)


@pytest.mark.parametrize("activation", MONOTONE)
@given(
    runs=run_counts,
    network=networks,
    per_run=three(penalty | dict(inertia=between(0, 1), growth=between(0, 1), most=between(1, 3))),
    step_rule=step_rules,
)
@few
def test_ipdlam(activation, runs, network, per_run, step_rule):
    assert_sweeps_agree("ipdlam", activation, draw_problem(network, runs), per_run, runs, step_rule=step_rule)


def batch_rows() -> torch.Tensor:
    return torch.arange(BATCHES * BATCH_ROWS).view(BATCHES, BATCH_ROWS)


def assert_batches_agree(name, activation, network, per_run: list[dict], runs: int, steps: int, **shared) -> None:
    """Mini-batch methods, with torch's own activations in the slow runs."""
    x, y, W, b = draw_problem(network, runs)
    fast = am.start(name, x, y, W, b, activation, batches=batch_rows(), **shared, **stacked(per_run, runs))
    slow = []
    for r, hp in enumerate(per_run[:runs]):
        start = [w[r] for w in W], [v[r] for v in b], activation, batch_rows()
        slow.append(twins.start(name, x, y, *start, **shared, **hp))
        slow[r].act = SimpleNamespace(value=getattr(F, activation))
    for k in range(steps):
        shown = fast.step().variables()
        for r, run in enumerate(slow):
            assert set(shown) == set(run.step().variables())
            assert_agree(shown, run.variables(), r, k + 1)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@given(
    runs=run_counts,
    network=networks,
    per_run=three(dict(alpha0=power(-2, -0.5), beta=power(-3, -1.3))),
    shared=st.fixed_dictionaries(
        dict(
            shape=st.sampled_from(["scalar", "row", "column", "element"]),
            inner_steps=st.integers(1, 3),
            order=st.sampled_from(["forward", "backward"]),
            query=st.sampled_from(["next", "support"]),
            meta=st.sampled_from(["gd", "log_adam"]),
        )
    ),
)
@few
def test_samt(activation, runs, network, per_run, shared):
    assert_batches_agree("samt", activation, network, per_run, runs, ITERATIONS, **shared)


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("activation", MONOTONE)
@given(
    runs=run_counts,
    network=networks,
    per_run=three(
        dict(learning_rate=power(-4, -2), code_rate=power(-1, 0), code_momentum=between(0, 0.95), mu=power(-2, -1))
    ),
    shared=st.fixed_dictionaries(dict(code_steps=st.integers(1, 5), halve_every=st.integers(1, 2))),
)
@few
def test_am_adam(activation, released, runs, network, per_run, shared):
    name = "am-adam-released" if released else "am-adam"
    assert_batches_agree(name, activation, network, per_run, runs, 2 * BATCHES + 1, **shared)


TWINS = sorted(twins.registered("STEPS"))

# Every twin, with every choice that its settings leave


def choices() -> list[tuple[str, dict]]:
    """(method, one setting at another choice than its default, or none)."""
    found = []
    for name, method in sorted(methods().items()):
        if name not in TWINS:
            continue
        found.append((name, {}))
        for f in dataclasses.fields(method.hyperparameters):
            values = (True, False) if isinstance(f.default, bool) else f.metadata["choices"] or ()
            found += [(name, {f.name: value}) for value in values if value != f.default]
    return found


# On 24 rows the papers' constants leave blocks where they start.
FIRST_TRIALS = dict(theta_0=1e-3, tau_0=1e-3)
# SOAP without bases: batches of eight leave its means null spaces, of which any basis will do; test_rivals.py compares
# the bases where there is none.
OWN = {"soap": dict(largest_side=2)}


def launched(name: str, activation: str = "relu", **values) -> tuple[am.Run, list[twins.Slow]]:
    """Three runs that differ in every float, stacked, and their slow twins."""
    x, y = tiny_data()
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: 0.5 * torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    W, b = [draw(e, d) for d, e in zip(WIDTHS, WIDTHS[1:])], [draw(e) for e in WIDTHS[1:]]
    method = methods()[name]
    rows = {} if method.full_batch else dict(batches=torch.randperm(ROWS, generator=generator).view(-1, BATCH))
    trials = {key: value for key, value in FIRST_TRIALS.items() if key in method.hyperparameters.__dataclass_fields__}
    each = [vars(settings) | values for settings in spread(method, trials | OWN.get(name, {}))]
    per_run = {key: [hp[key] for hp in each] if isinstance(each[0][key], float) else each[0][key] for key in each[0]}
    fast = am.start(name, x, y, W, b, activation, **rows, steps=STEPS, **per_run)
    one = lambda r: ([w[r] for w in W], [v[r] for v in b], activation)
    return fast, [twins.start(name, x, y, *one(r), **rows, steps=STEPS, **each[r]) for r in range(3)]


def worst(fast: am.Run, slow: list[twins.Slow]) -> float:
    """The largest difference of any variable, relative to its largest entry."""
    shown, gaps = fast.variables(), []
    for r, run in enumerate(slow):
        twin = run.variables()
        assert set(shown) - set(twin) <= COUNTS and not set(twin) - set(shown)
        for name, v in twin.items():
            gap = (shown[name][r].flatten() - v.flatten()).abs().max()
            # A multiplier is rounding alone until its layer's neighbours have moved: below 1e-6, to 1e-15.
            gaps.append(float(gap / v.abs().max().clamp(min=1e-6)))
    return max(gaps)


COUNTS = {"fallbacks"}  # shown by methods, and no variables


@pytest.mark.parametrize("name", methods())
def test_every_method_has_a_slow_twin_or_is_one_of_a_package(name):
    assert name in TWINS or name in OPTIMISERS or name in REFERENCES
    assert (name in twins.registered("OBJECTIVES")) == (methods()[name].by_hand.objective is not None)


WELL_POSED = [name for name in TWINS if methods()[name].well_posed]  # the others: where numbers are unique


@pytest.mark.parametrize("name, values", [case for case in choices() if case[0] in WELL_POSED], ids=str)
def test_a_method_steps_as_its_slow_twin(name, values):
    fast, slow = launched(name, **values)
    begun = [dict(run.u) for run in slow]
    for k in range(6):
        fast.step()
        for run in slow:
            run.step()
        assert worst(fast, slow) < 1e-9, k
        if fast.method.by_hand.objective is not None:
            assert fast.objective().tolist() == pytest.approx([run.objective() for run in slow], rel=1e-9)
    for run, before in zip(slow, begun):
        run.step(6)  # in pdADMM a layer learns of the labels two iterations after the one above it
        for l in run.layers:
            assert (run.u[f"W{l}"] - before[f"W{l}"]).abs().max() > 1e-6


@pytest.mark.parametrize("name", WELL_POSED)
@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "softplus"])
def test_a_method_steps_as_its_slow_twin_under_other_activations(name, activation):
    fast, slow = launched(name, activation)
    for run in slow:
        run.step(6)
    assert worst(fast.step(6), slow) < 1e-9


@pytest.mark.parametrize("inner_steps, order", [(2, "backward"), (3, "forward")])
@pytest.mark.parametrize("name", ["samt", "sam"])
def test_several_steps_on_a_block(name, inner_steps, order):
    fast, slow = launched(name, inner_steps=inner_steps, order=order)
    for run in slow:
        run.step(5)
    assert worst(fast.step(5), slow) < 1e-9


# The slow package itself


@pytest.mark.parametrize("name", ["tiam", "mdlam", "dladmm"])
def test_the_released_majoriser_changes_the_work_and_not_the_iterates(name):
    fast, slow = launched(name)
    _, released = launched(name)
    for run in released:
        run.as_released = True
    counts = [flops_of(lambda run=run: run.step(3)) for run in (slow[0], released[0])]
    assert counts[1] > counts[0] > 0 and slow[0].trials == released[0].trials > 3 * len(WIDTHS)
    for run in released[1:]:
        run.step(3)
    assert worst(fast.step(3), released) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_slow_run_keeps_the_dtype_of_its_data(dtype):
    x, y = tiny_data(dtype)
    W, b = [torch.ones(5, WIDTHS[0]), torch.ones(3, 5)], [torch.ones(5), torch.ones(3)]
    for name in TWINS:
        batches = None if methods()[name].full_batch else torch.arange(ROWS).view(-1, BATCH)
        run = twins.start(name, x, y, W, b, batches=batches, steps=STEPS).step(2)
        assert {t.dtype for t in run.variables().values()} == {dtype}, name


def test_constants_are_those_of_the_specification():
    """Once in letters, and the same in the methods."""
    assert (splitting.FISTA_STEP, splitting.FISTA_ITERATIONS) == (4.0, 500)
    assert methods()["dladmm"].settings().fista_tolerance == 1e-3
    assert splitting.GUARD == 1e-10
    assert (stochastic.ALPHA_MIN, stochastic.ALPHA_MAX) == (samt.ALPHA_MIN, samt.ALPHA_MAX) == (1e-6, 10.0)
    assert stochastic.META_ADAM == samt.ADAM == (0.9, 0.999, 1e-12)
    assert stochastic.WEIGHT_ADAM == am_adam.ADAM == (0.9, 0.999, 1e-8)


def test_the_nesterov_sequence_begins_as_the_paper_has_it():
    assert [penalised.nesterov(k) for k in range(4)] == pytest.approx([0, 0, 0.281754, 0.434043], abs=1e-6)


def test_the_cosine_schedule_at_its_corners():
    run = launched("osgm", schedule="cosine", warmup=0.25)[1][0]
    assert [course(run, k) for k in (0, 9, 10, 25, 40)] == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])
    run.steps = None
    with pytest.raises(InputError, match="give steps="):
        run.step()


def test_what_cannot_be_started_is_refused():
    x, y = torch.rand(2, 2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(InputError, match="unknown slow method 'tiem'; did you mean 'tiam'"):
        twins.start("tiem", x, y, [], [])
    with pytest.raises(InputError, match="'samt' works on mini-batches; give batches"):
        twins.start("samt", x, y, [], [])
    with pytest.raises(InputError, match="'tiam' works on all rows; give no batches"):
        twins.start("tiam", x, y, [], [], batches=torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(InputError, match="the slow 'samt' has no objective"):
        launched("samt")[1][0].objective()


SHARED = {"am", "am.activations", "am.cross_entropy", "am.errors", "am.methods"}


def test_a_slow_twin_shares_nothing_that_is_not_tested_on_its_own():
    folder = Path(twins.__file__).parent
    for path in folder.glob("*.py"):
        taken = {name for name in imported(path) if name.split(".")[0] == "am"}
        assert {name.rsplit(".", 1)[0] for name in taken} <= SHARED, path.name
        assert {name for name in taken if ".cross_entropy." in name} <= {"am.cross_entropy.prox_cross_entropy"}
        assert {name for name in taken if ".methods." in name} <= {"am.methods.method"}


def imported(path: Path) -> set[str]:
    """Full names of what a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found
