"""The stacked methods step beside slow, single-run references written from SPEC's equations (tests/oracles)."""

from collections.abc import Iterable

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracles import am_adam, penalised, samt

import am
from am.activations import ACTIVATIONS

AGREEMENT = 1e-9
ITERATIONS = 5
BATCHES, ROWS = 3, 4
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


def draw_problem(network: dict, runs: int, rows: int = BATCHES * ROWS):
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
        difference = (fast[name][r] - torch.as_tensor(value)).abs().max().item()
        assert difference < AGREEMENT, f"{name} of run {r} is off by {difference:.1e} after {step} steps"


def assert_sweeps_agree(
    run: am.Run, slow: list[penalised.Oracle], iterations: Iterable[int] = range(ITERATIONS)
) -> None:
    """Step both; W, b, z, a and the objective agree after every iteration."""
    for k in iterations:
        fast, objective = run.step().variables(), run.objective()
        for r, oracle in enumerate(slow):
            oracle.iterate(k)
            parts = {"W": oracle.W, "b": oracle.b, "z": oracle.z, "a": oracle.a[1:]}
            named = {f"{kind}{l}": u for kind, layers in parts.items() for l, u in enumerate(layers, 1)}
            assert_agree(fast, named, r, k + 1)
            assert objective[r].item() == pytest.approx(oracle.objective(), rel=AGREEMENT)


run_counts = st.sampled_from([1, 3])
penalty = dict(rho=power(-2, 1), mu=power(-3, -1), theta_0=power(-2, 1), tau_0=power(-2, 1))
penalty |= dict(epsilon_0=power(-1, 2), epsilon_min=power(-3, -1))
# p3 = 1 reflects an exact minimiser: f(u^{k+1}) = f(u^k), and rounding alone would decide the safeguard.
inertia = dict(p1=between(0, 1.5), p2=between(0, 1.5), p3=between(0, 0.9))
three = lambda fields: st.lists(st.fixed_dictionaries(fields), min_size=3, max_size=3)
step_rules = st.sampled_from(["backtracking", "lipschitz"])


def numpy_run(x, y, W, b, r):
    return x.numpy(), y.numpy(), [w[r].numpy() for w in W], [v[r].numpy() for v in b]


@pytest.mark.parametrize("activation", MONOTONE)
@given(runs=run_counts, network=networks, per_run=three(penalty | inertia), step_rule=step_rules)
@few
def test_tiam(activation, runs, network, per_run, step_rule):
    x, y, W, b = problem = draw_problem(network, runs)
    fast = am.start("tiam", x, y, W, b, activation, step_rule=step_rule, **stacked(per_run, runs))
    slow = []
    for r, hp in enumerate(per_run[:runs]):
        p = tuple(hp[name] for name in inertia)
        constants = {name: hp[name] for name in penalty} | dict(step_rule=step_rule)
        slow.append(penalised.Oracle(*numpy_run(*problem, r), activation, lambda k, p=p: p, **constants))
    assert_sweeps_agree(fast, slow)


@pytest.mark.parametrize("activation", MONOTONE)
@given(runs=run_counts, network=networks, per_run=three(penalty), step_rule=step_rules)
@few
def test_mdlam(activation, runs, network, per_run, step_rule):
    x, y, W, b = problem = draw_problem(network, runs)
    fast = am.start("mdlam", x, y, W, b, activation, step_rule=step_rule, **stacked(per_run, runs))
    extrapolate = lambda k: (penalised.nesterov(k), penalised.nesterov(k), 0.0)
    slow = [
        penalised.Oracle(*numpy_run(*problem, r), activation, extrapolate, step_rule=step_rule, **hp)
        for r, hp in enumerate(per_run[:runs])
    ]
    assert_sweeps_agree(fast, slow)


@pytest.mark.parametrize("activation", MONOTONE)
@given(
    runs=run_counts,
    network=networks,
    per_run=three(penalty | dict(inertia=between(0, 1), growth=between(0, 1), most=between(1, 3))),
    step_rule=step_rules,
)
@few
def test_ipdlam(activation, runs, network, per_run, step_rule):
    """mDLAM's reference with one inertia before the step, and a rho that is set before every iteration."""
    x, y, W, b = problem = draw_problem(network, runs)
    fast = am.start("ipdlam", x, y, W, b, activation, step_rule=step_rule, **stacked(per_run, runs))
    slow = []
    for r, hp in enumerate(per_run[:runs]):
        constants = {name: hp[name] for name in penalty}
        before = lambda k, p=hp["inertia"]: (p, p, 0.0)
        slow.append(penalised.Oracle(*numpy_run(*problem, r), activation, before, step_rule=step_rule, **constants))
    for k in range(ITERATIONS):
        for hp, oracle in zip(per_run, slow):
            oracle.rho = hp["rho"] * min((1 + hp["growth"]) ** k, hp["most"])
        assert_sweeps_agree(fast, slow, iterations=[k])


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
    """The reference makes every update and safeguard of the released code, those that move nothing included."""
    x, y, W, b = problem = draw_problem(network, runs)
    flags = dict(inertia=inertia, counter_advances=counter_advances)
    fast = am.start("mdlam-released", x, y, W, b, activation, **flags, **stacked(per_run, runs))
    omega = lambda k: (penalised.nesterov(k) if counter_advances else -1.0) if inertia else 0.0
    slow = [
        penalised.ReleasedOracle(*numpy_run(*problem, r), activation, omega, step_rule="backtracking", **hp)
        for r, hp in enumerate(per_run[:runs])
    ]
    assert_sweeps_agree(fast, slow)


def batch_rows() -> torch.Tensor:
    return torch.arange(BATCHES * ROWS).view(BATCHES, ROWS)


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
    x, y, W, b = draw_problem(network, runs)
    fast = am.start("samt", x, y, W, b, activation, batches=batch_rows(), **shared, **stacked(per_run, runs))
    slow = [
        samt.Oracle(x, y, batch_rows(), [w[r] for w in W], [v[r] for v in b], activation, **shared, **hp)
        for r, hp in enumerate(per_run[:runs])
    ]
    for k in range(ITERATIONS):
        variables = fast.step().variables()
        for r, oracle in enumerate(slow):
            oracle.step(k)
            assert_agree(variables, oracle.params, r, k + 1)
            alphas = {f"alpha_{n}": a.view(variables[f"alpha_{n}"][r].shape) for n, a in oracle.alpha.items()}
            assert_agree(variables, alphas, r, k + 1)


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
    x, y, W, b = draw_problem(network, runs)
    name = "am-adam-released" if released else "am-adam"
    fast = am.start(name, x, y, W, b, activation, batches=batch_rows(), **shared, **stacked(per_run, runs))
    slow = []
    for r, hp in enumerate(per_run[:runs]):
        start = ([w[r] for w in W], [v[r] for v in b], activation)
        slow.append(am_adam.Oracle(x, y, batch_rows(), *start, released=released, **shared, **hp))
    for k in range(2 * BATCHES + 1):
        variables = fast.step().variables()
        for r, oracle in enumerate(slow):
            oracle.step(k)
            named = {f"W{l}": w for l, w in enumerate(oracle.W, 1)}
            named |= {f"c{l}": c for l, c in enumerate(oracle.codes, 1)} | {f"b{len(W)}": oracle.b}
            assert_agree(variables, named, r, k + 1)
