"""dlADMM: the released code's numbers, the slow reference, every sub-problem, and each of the named divergences."""

from pathlib import Path

import numpy as np
import pytest
import torch
import twins
from conftest import drawn
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scalars import ScalarActivation

import am
from am import devices
from am.activations import ACTIVATIONS, activation
from am.backtracking import doubled
from am.cross_entropy import cross_entropy, fista_cross_entropy, prox_cross_entropy
from am.errors import InputError
from am.linalg import gram, square
from am.methods import method
from am.methods.dladmm import activation_block, bias_block, weight_block
from am.networks import Parameters, forward

GOLDEN = Path(__file__).parents[1] / "golden"
MONOTONE = sorted(name for name, act in ACTIVATIONS.items() if act.monotone)
few = settings(derandomize=True, deadline=None, database=None, max_examples=4, phases=[Phase.generate])


def golden(name: str) -> dict[str, torch.Tensor]:
    """A golden file in this project's layout: samples x features, biases as rows, W as (d_l, d_{l-1})."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        tensors = {key: torch.tensor(file[key]) for key in file.files}
    untouched = {"objective", "residuals", "train_accuracy", "rho", "mu", "eps", "gamma", "alpha"}
    return {k: v if k in untouched or k.split("__")[-1].startswith("W") else v.T for k, v in tensors.items()}


def problem(seed: int = 0, rows: int = 12, widths=(4, 5, 5, 3), runs: int = 1):
    """x, y, weights (R, d_l, d_{l-1}) and biases (R, d_l), float64."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    y = torch.randint(widths[-1], (rows,), generator=generator)
    W = [normal(runs, e, d) / d**0.5 for d, e in zip(widths, widths[1:])]
    return normal(rows, widths[0]), y, W, [normal(runs, e) for e in widths[1:]]


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


# The released code's numbers


@pytest.mark.parametrize("name", ["dladmm", "dladmm-released"])
def test_the_released_trajectory(name):
    file = golden("dladmm_trajectory_mnist")
    x, y, layers = file["X"], file["Y"].argmax(1), (1, 2, 3)
    start = [file[f"W{l}_0"] for l in layers], [file[f"b{l}_0"][0] for l in layers]
    run = am.start(name, x, y, *start, rho=file["rho"].item())
    for k in range(len(file["objective"])):
        shown = run.step().variables()
        assert run.objective().item() == pytest.approx(file["objective"][k].item(), abs=1e-6)
        inputs = [x, shown["a1"], shown["a2"]]
        for l in layers:
            residual = shown[f"z{l}"] - inputs[l - 1] @ shown[f"W{l}"].T - shown[f"b{l}"]
            assert residual.square().sum().item() == pytest.approx(file["residuals"][k, l - 1].item(), abs=1e-6)
        params = Parameters([shown[f"W{l}"][None] for l in layers], [shown[f"b{l}"].view(1, 1, -1) for l in layers])
        correct = (forward(x, params, activation("relu"))[-1][0].argmax(1) == y).double().mean().item()
        assert correct == pytest.approx(file["train_accuracy"][k].item(), abs=1e-12)
    assert set(shown) == {f"{kind}{l}" for kind in "Wbz" for l in layers} | {"a1", "a2", "u"}
    for key, value in shown.items():
        assert (value - file[key].view(value.shape)).abs().max() < 1e-6, key


def test_the_released_subproblems():
    file = {k: v[None] if v.dim() == 2 else v for k, v in golden("subproblems_mnist").items()}
    rho, one, n = column(file["rho"].item()), column(1.0), file["X"].shape[1]
    inputs = {1: file["X"], 2: file["a1"], 3: file["a2"]}
    target = {1: file["z1"], 2: file["z2"], 3: file["z3"] + file["u"] / rho}
    found = {}
    for l in (1, 2, 3):
        a, t, W, b = inputs[l], target[l], file[f"W{l}"], file[f"b{l}"]
        total = a.sum(1, keepdim=True)
        found[f"W{l}"] = weight_block(W=W, b=b, G=gram(a), C=t.mT @ a, total=total, weight=rho, theta0=one)[0]
        found[f"b{l}"] = bias_block(W, total, t.sum(1, keepdim=True), n)
        if l < 3:
            found[f"z{l}"] = activation("relu").prox(a @ W.mT + b, file[f"a{l}"], one)
            above = dict(W=file[f"W{l + 1}"], b=file[f"b{l + 1}"], target=target[l + 1])
            centre = activation("relu").value(file[f"z{l}"])
            found[f"a{l}"] = file[f"a{l}"].clone()
            activation_block(found[f"a{l}"], **above, centre=centre, weight=rho, pull=one, tau0=one)
    rows = [key.removeprefix("dladmm__") for key in file if key.startswith("dladmm__")]
    assert len(rows) == 9
    for key in rows:
        assert (found[key] - file[f"dladmm__{key}"]).abs().max() < 1e-8, key


# The slow reference


power = lambda low, high: st.floats(low, high).map(lambda exponent: 10**exponent)
constants = st.fixed_dictionaries(dict(rho=power(-2, 0.5), theta_0=power(-2, 1), tau_0=power(-2, 1)))


@pytest.mark.parametrize("name", MONOTONE)
@given(
    runs=st.sampled_from([1, 3]),
    hidden=st.lists(st.integers(2, 4), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    per_run=st.lists(constants, min_size=3, max_size=3),
    flags=st.fixed_dictionaries(
        dict(output_step=st.sampled_from(["fista", "exact"]), keep_step_sizes=st.booleans(), rho_schedule=st.booleans())
    ),
)
@few
def test_the_slow_reference(name, runs, hidden, seed, per_run, flags):
    x, y, W, b = problem(seed, 6, (3, *hidden, 3), runs)
    stacked = {key: [hp[key] for hp in per_run[:runs]] for key in per_run[0]}
    fast = am.start("dladmm", x, y, W, b, name, **flags, **stacked)
    references = []
    for r in range(runs):
        start = [w[r] for w in W], [v[r] for v in b]
        references.append(twins.start("dladmm", x, y, *start, name, **flags, **per_run[r]))
        references[r].act = ScalarActivation(name)
    for k in range(3):
        shown, lagrangian = fast.step().variables(), fast.objective()
        for r, run in enumerate(references):
            assert set(run.step().variables()) == set(shown)
            for key, value in run.variables().items():
                assert (shown[key][r] - value).abs().max() < 1e-9 * (1 + value.abs().max()), (key, r, k)
            assert lagrangian[r].item() == pytest.approx(run.objective(), rel=1e-9, abs=1e-9)


# Sub-problems


def layer(seed: int = 0):
    """a (R, N, d), W (R, e, d), b (R, 1, e), target (R, N, e), z (R, N, d), rho, R = 2."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    return normal(2, 20, 6), normal(2, 4, 6), normal(2, 1, 4), normal(2, 20, 4), normal(2, 20, 6), column(0.3, 2.0)


def weight_objective(W, a, b, target, rho):
    return rho / 2 * square(target - a @ W.mT - b)


def activation_objective(a, z, W, b, target, rho, act):
    return rho / 2 * (square(target - a @ W.mT - b) + square(a - act.value(z)))


def numeric_gradient(f, u: torch.Tensor) -> torch.Tensor:
    """Central differences of f: (R, n, m) -> (R, 1, 1), entry by entry."""
    step, gradient = 1e-5, torch.empty_like(u)
    for i in range(u[0].numel()):
        e = torch.zeros_like(u[0]).flatten()
        e[i] = step
        e = e.view_as(u[0])
        gradient.flatten(1)[:, i] = ((f(u + e) - f(u - e)) / (2 * step)).flatten()
    return gradient


def steps(theta0: float):
    """(name, the block, its step, theta, its objective) of the two gradient steps."""
    a, W, b, target, z, rho = layer()
    act, start = activation("elu"), column(theta0, theta0)
    data = dict(G=gram(a), C=target.mT @ a, total=a.sum(1, keepdim=True))
    W_new, theta = weight_block(W=W, b=b, **data, weight=rho, theta0=start)
    yield "W", W, W_new, theta, lambda v: weight_objective(v, a, b, target, rho)
    a_new, layer_above, one = a.clone(), dict(W=W, b=b, target=target), torch.ones_like(rho)
    tau, _ = activation_block(a_new, **layer_above, centre=act.value(z), weight=rho, pull=one, tau0=start)
    yield "a", a, a_new, tau, lambda v: activation_objective(v, z, W, b, target, rho, act)


def test_gradient_steps_follow_the_gradient():
    for name, u, new, theta, f in steps(0.01):
        assert (theta * (u - new) - numeric_gradient(f, u)).abs().max() < 1e-7, name


@pytest.mark.parametrize("theta0", [1e-3, 1.0, 1e6])
def test_backtracking_takes_the_first_majoriser(theta0):
    """f(u+) <= f(u) + <g, D> + theta/2 ||D||^2 at the accepted theta, and at its half unless it is the first trial."""
    for name, u, _, theta, f in steps(theta0):
        g = numeric_gradient(f, u)

        def majorised(theta):
            D = -g / theta
            return f(u + D) <= f(u) + (g * D).sum((1, 2), keepdim=True) + theta / 2 * square(D) + 1e-9 * f(u)

        assert majorised(theta).all(), name
        assert (majorised(theta / 2).logical_not() | (theta == theta0)).all(), name
        assert ((theta / theta0).log2() % 1 == 0).all()
        assert (theta == theta0).all() == (theta0 == 1e6)


def test_doubling_stops_at_the_first_trial_that_reaches_the_curvature():
    theta0 = column(1.0, 1.0, 1.0, 0.5, 1.0)
    curvature = column(0.3, 1.0, 1.0 + 1e-12, 5.0, float("nan"))
    assert doubled(theta0, curvature).flatten().tolist() == [1.0, 1.0, 2.0, 8.0, 1.0]


def test_no_perturbation_of_an_exact_step_lowers_its_objective():
    a, W, b, target, z, rho = layer(1)
    y = torch.arange(20) % 4
    best = bias_block(W, a.sum(1, keepdim=True), target.sum(1, keepdim=True), 20)
    output = lambda v: cross_entropy(v, y).view(-1, 1, 1) + rho / 2 * square(v - target)
    z_L = target
    for _ in range(40):  # each call stops by its own rule
        z_L = fista_cross_entropy(target, y, rho, z_L)
    generator = torch.Generator().manual_seed(0)
    for i in range(100):
        size = 10.0 ** (-2 + i % 4)
        noise = lambda u: size * torch.randn(u.shape, generator=generator, dtype=u.dtype)
        moved = best + noise(best)
        assert (weight_objective(W, a, moved, target, rho) > weight_objective(W, a, best, target, rho)).all()
        assert (output(z_L + noise(z_L)) > output(z_L) - 1e-3).all()


def test_fista_comes_near_the_exact_output_and_stops_run_by_run():
    """A run in the stack stops when it would alone, however long its neighbour goes on, NaN or not."""
    y = torch.arange(30) % 5
    generator = torch.Generator().manual_seed(0)
    c = 3 * torch.randn(3, 30, 5, generator=generator, dtype=torch.float64)
    start = torch.zeros_like(c)
    rho = column(2.0, 1e-3, 0.1)
    c[1] *= 100
    together = fista_cross_entropy(c, y, rho, start)
    for r in range(3):
        alone = fista_cross_entropy(c[r : r + 1], y, rho[r : r + 1], start[r : r + 1])
        assert torch.equal(alone[0], together[r])
    c[1, 0, 0] = float("nan")
    assert torch.equal(fista_cross_entropy(c, y, rho, start)[[0, 2]], together[[0, 2]])
    f = lambda z: cross_entropy(z, y).view(-1, 1, 1) + rho / 2 * square(z - c)
    gap, first_gap = (f(z) - f(prox_cross_entropy(c, y, rho)) for z in (together, start))
    assert (gap >= -1e-9)[[0, 2]].all() and (gap < 0.02 * first_gap)[[0, 2]].all()


def test_on_a_gpu_fista_stops_where_it_does_on_a_cpu(monkeypatch):
    """To the bit, however many runs there are, and soon: a GPU is asked every eighth round only."""
    y, c, rho = torch.arange(30) % 5, 3 * drawn(0, 2, 30, 5), column(0.1, 2.0)
    rounds = []
    monkeypatch.setattr(am.cross_entropy, "square", lambda u: rounds.append(len(u)) or square(u))

    def fista(runs):
        rounds.clear()
        return fista_cross_entropy(c[runs], y, rho[runs], torch.zeros_like(c[runs])), len(rounds)

    for runs in (slice(1), slice(1, 2), slice(2)):
        monkeypatch.setattr(devices, "on_gpu", lambda t: False)
        expected, needed = fista(runs)
        monkeypatch.setattr(devices, "on_gpu", lambda t: True)
        found, made = fista(runs)
        assert torch.equal(found, expected)
        assert 1 < needed <= made < needed + 8


# The method


def launch(runs: int = 2, seed: int = 0, widths=(4, 5, 5, 3), name="dladmm", act="relu", **hp):
    x, y, W, b = problem(seed, 12, widths, runs)
    return am.start(name, x, y, W, b, act, **({"rho": 0.1} | hp))


@pytest.mark.parametrize("output_step", ["fista", "exact"])
@pytest.mark.parametrize("act", ["relu", "softplus"])
def test_every_block_moves(act, output_step):
    run = launch(act=act, output_step=output_step)
    before = run.variables()
    for key, value in run.step(2).variables().items():
        assert (value != before[key]).flatten(1).any(1).all(), key


@pytest.mark.parametrize("act", ["relu", "elu"])
def test_a_stacked_run_is_the_run_alone_and_a_diverging_one_harms_none(act):
    x, y, W, b = problem(3, 12, runs=3)
    hp = dict(rho=[0.1, 1.0, 0.02], theta_0=[1.0, 0.3, 0.1])
    stacked = am.start("dladmm", x, y, W, b, act, **hp).step(5).variables()
    for r in range(3):
        one = {key: values[r] for key, values in hp.items()}
        alone = am.start("dladmm", x, y, [w[r] for w in W], [v[r] for v in b], act, **one).step(5).variables()
        for key, value in alone.items():
            assert (stacked[key][r] - value).abs().max() <= 1e-12 * (1 + value.abs().max()), key
    W[1][1, 0, 0] = float("nan")
    poisoned = am.start("dladmm", x, y, [w.nan_to_num() for w in W], b, act, **hp)
    poisoned = poisoned.set_variables(W2=W[1]).step(5).variables()
    for key, value in stacked.items():
        assert torch.equal(poisoned[key][[0, 2]], value[[0, 2]]), key
    assert poisoned["W2"][1].isnan().any()


def test_float32_agrees_with_float64_on_60_000_images():
    """The Gram form subtracts sums over all images; after three iterations W is still right to 1e-4 of its move."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60_000, 20, generator=generator, dtype=torch.float64)
    y = x[:, :4].argmax(1)
    _, _, W, b = problem(0, 1, (20, 8, 8, 4))
    single, double = (
        am.start("dladmm", x.to(d), y, W, b, rho=1e-3, tau_0=0.01, output_step="exact").step(3).variables()
        for d in (torch.float32, torch.float64)
    )
    for l, w in enumerate(W, 1):
        move = (double[f"W{l}"] - w).abs().max()
        assert (single[f"W{l}"].double() - double[f"W{l}"]).abs().max() < 1e-3 * move + 1e-6, l


def test_accepted_step_sizes_are_kept_only_on_request():
    for kept in (False, True):
        state = launch(theta_0=1e-4, tau_0=1e-4, keep_step_sizes=kept).step(3).state
        for first in (*state.theta, *state.tau):
            assert (first > 1e-4).all() if kept else (first == 1e-4).all()


def test_the_released_schedule():
    """After three rises of the network's cost in a row, and after each further one, rho x 10, at most .1."""
    x, y, W, b = problem()
    run = am.start("dladmm", x, y, W, b, rho_schedule=True, rho=1e-4)
    expected, costs, fired = 1e-4, [], 0
    for k in range(25):
        run.step()
        assert run.state.rho.item() == pytest.approx(expected, rel=1e-12)
        logits = forward(x, run.state.params, run.problem.activation)[-1]
        costs.append(cross_entropy(logits, y).item())
        if k > 2 and costs[-1] > costs[-2] > costs[-3] > costs[-4]:
            expected, fired = min(10 * expected, 0.1), fired + 1
    assert fired > 3 and expected == 0.1


@pytest.mark.parametrize("width, factor", [(99, 1), (100, 10)])
def test_the_schedule_scales_step_sizes_of_wide_nets_alone(width, factor):
    run = launch(1, widths=(4, width, 3), rho_schedule=True, theta_0=0.5, tau_0=0.25, rho=0.02)
    run.state.rises.fill_(3)
    run.step()
    assert run.state.rho.item() == pytest.approx(0.1)
    assert run.state.theta[0].item() == 0.5 * factor and run.state.tau[0].item() == 0.25 * factor


def test_only_the_first_images_are_seen():
    x, y, W, b = problem(2)
    limited = am.start("dladmm", x, y, W, b, rho=0.1, images=7).step(3)
    sliced = am.start("dladmm", x[:7], y[:7], W, b, rho=0.1).step(3).variables()
    assert all(torch.equal(value, sliced[key]) for key, value in limited.variables().items())
    assert not torch.equal(am.start("dladmm", x, y, W, b, rho=0.1).step(3).variables()["W3"], sliced["W3"])


def test_the_released_method_differs_in_its_flags_alone():
    paper, released = (method(name).settings() for name in ("dladmm", "dladmm-released"))
    different = {f: v for f, v in vars(released).items() if getattr(paper, f) != v}
    assert different == {"rho_schedule": True, "images": 55_000}
    assert method("dladmm").search_space() == method("dladmm-released").search_space()


def test_what_it_cannot_train_is_refused():
    x, y, W, b = problem()
    with pytest.raises(InputError, match="monotone"):
        am.start("dladmm", x, y, W, b, "gelu")
    with pytest.raises(InputError, match="hidden layer"):
        am.start("dladmm", x, y, [W[0][:, :3]], [b[0][:, :3]])
