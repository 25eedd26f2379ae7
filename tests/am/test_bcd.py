"""BCD: the released code's numbers, the slow reference, every block an exact minimiser, and its linear algebra."""

import math

import pytest
import torch
import twins
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scalars import ScalarActivation
from test_dladmm import MONOTONE, column, golden, power, problem

import am
from am.activations import activation
from am.errors import InputError
from am.linalg import cholesky, gram, ridge, solve_rows, square
from am.methods.bcd import input_solve, weight_solve
from am.networks import Parameters, forward

few = settings(derandomize=True, deadline=None, database=None, max_examples=4, phases=[Phase.generate])


# The released code's numbers


def test_the_released_trajectory():
    file, layers = golden("bcd_trajectory_mnist"), (1, 2, 3, 4)
    x, y = file["X"], file["Y"].argmax(1)
    constants = {name: file[name].item() for name in ("gamma", "rho", "alpha")}
    constants["alpha_weights"] = constants["alpha"]
    run = am.start("bcd", x, y, [file[f"W{l}_0"] for l in layers], [file[f"b{l}_0"][0] for l in layers], **constants)
    for k in range(len(file["objective"])):
        shown = run.step().variables()
        assert run.objective().item() == pytest.approx(file["objective"][k].item(), abs=1e-6)
        params = Parameters([shown[f"W{l}"][None] for l in layers], [shown[f"b{l}"].view(1, 1, -1) for l in layers])
        correct = (forward(x, params, activation("relu"))[-1][0].argmax(1) == y).double().mean().item()
        assert correct == pytest.approx(file["train_accuracy"][k].item(), abs=1e-12)
    assert set(shown) == {f"{kind}{l}" for kind in "WbUV" for l in layers}
    for key, value in shown.items():
        assert (value - file[key].view(value.shape)).abs().max() < 1e-6, key


# The slow reference


constants = st.fixed_dictionaries(dict.fromkeys(("gamma", "rho", "alpha", "alpha_weights"), power(-1, 1)))


@pytest.mark.parametrize("name", MONOTONE)
@given(
    runs=st.sampled_from([1, 3]),
    hidden=st.lists(st.integers(2, 5), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    per_run=st.lists(constants, min_size=3, max_size=3),
)
@few
def test_the_slow_reference(name, runs, hidden, seed, per_run):
    x, y, W, b = problem(seed, 6, (3, *hidden, 3), runs)
    stacked = {key: [hp[key] for hp in per_run[:runs]] for key in per_run[0]}
    fast = am.start("bcd", x, y, W, b, name, **stacked)
    references = []
    for r in range(runs):
        start = [w[r] for w in W], [v[r] for v in b]
        references.append(twins.start("bcd", x, y, *start, name, **per_run[r]))
        references[r].act = ScalarActivation(name)
    for k in range(3):
        shown, loss = fast.step().variables(), fast.objective()
        for r, run in enumerate(references):
            assert set(run.step().variables()) == set(shown)
            for key, value in run.variables().items():
                assert (shown[key][r] - value).abs().max() < 1e-9, (key, r, k)
            assert loss[r].item() == pytest.approx(run.objective(), rel=1e-9, abs=1e-9)


# Every block is an exact minimiser


def layer(d: int = 6, e: int = 4):
    """v (R, N, d), W (R, e, d), b (R, 1, e), target (R, N, e), s (R, N, d), R = 2."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    return normal(2, 20, d), normal(2, e, d), normal(2, 1, e), normal(2, 20, e), normal(2, 20, d)


def assert_nothing_near_is_lower(f, best: torch.Tensor) -> None:
    generator, least = torch.Generator().manual_seed(0), f(best)
    for i in range(100):
        noise = torch.randn(best.shape, generator=generator, dtype=best.dtype)
        assert (f(best + 10.0 ** (-3 + i % 4) * noise) > least).all()


@pytest.mark.parametrize("d, e", [(6, 4), (4, 6), (12, 3), (5, 5)])
def test_the_inputs_of_a_layer_minimise_their_objective(d, e):
    _, W, b, target, s = layer(d, e)
    kappa = column(0.7, 20.0)
    best = input_solve(s, target, W, b, kappa)
    assert_nothing_near_is_lower(lambda v: square(target - v @ W.mT - b) + kappa * square(v - s), best)
    for r in range(2):
        A = W[r].T @ W[r] + kappa[r] * torch.eye(d, dtype=W.dtype)
        direct = torch.linalg.solve(A, ((target[r] - b[r]) @ W[r] + kappa[r] * s[r]).T).T
        assert (best[r] - direct).abs().max() < 1e-12


def test_the_weights_of_a_layer_minimise_their_objective():
    v, W, b, target, _ = layer()
    kappa = column(0.3, 8.0)
    best = weight_solve(W, (target - v @ W.mT - b).mT @ v, cholesky(ridge(gram(v), kappa)))
    assert_nothing_near_is_lower(lambda M: square(target - v @ M.mT - b) + kappa * square(M - W), best)


def test_every_block_of_a_sweep_minimises_its_own_part():
    """V_N and U_N of a sweep, then U_i at the V_i, W_i and b_i it was computed from, from outside."""
    x, y, W, b = problem(1, 12, (4, 5, 3), 2)
    gamma, rho, alpha, alpha_weights = 0.5, 2.0, 3.0, 1.5
    own = dict(gamma=gamma, rho=rho, alpha=alpha, alpha_weights=alpha_weights)
    start = am.start("bcd", x, y, W, b, "elu", **own)
    old = start.variables()
    new = start.step().variables()
    Y, h = torch.nn.functional.one_hot(y, 3).double(), activation("elu").value
    square_of = lambda t: t.square().sum((1, 2))
    top = lambda V: square_of(V - Y) + gamma * square_of(V - old["U2"]) + alpha * square_of(V - old["V2"])
    assert_nothing_near_is_lower(top, new["V2"])
    c = old["V1"] @ old["W2"].mT + old["b2"][:, None]
    assert_nothing_near_is_lower(lambda U: gamma * square_of(new["V2"] - U) + rho * square_of(U - c), new["U2"])
    rest = lambda V: new["U2"] - V @ new["W2"].mT - new["b2"][:, None]
    assert_nothing_near_is_lower(lambda V: gamma * square_of(V - h(old["U1"])) + rho * square_of(rest(V)), new["V1"])
    c = x @ old["W1"].mT + old["b1"][:, None]
    hidden = lambda U: gamma * square_of(new["V1"] - h(U)) + rho * square_of(U - c) + alpha * square_of(U - old["U1"])
    assert_nothing_near_is_lower(hidden, new["U1"])
    left = lambda W, b: rho * square_of(new["U1"] - x @ W.mT - b)
    weights = lambda W: left(W, old["b1"][:, None]) + alpha_weights * square_of(W - old["W1"])
    assert_nothing_near_is_lower(weights, new["W1"])
    biases = lambda b: left(old["W1"], b) + alpha_weights * square_of(b - old["b1"][:, None])
    assert_nothing_near_is_lower(biases, new["b1"][:, None])


# Linear algebra


@pytest.mark.parametrize("width", [5, 511, 512, 700])
def test_the_gram_matrix_in_blocks_is_the_gram_matrix(width):
    generator = torch.Generator().manual_seed(0)
    for shape in ((30, width), (2, 30, width)):
        a = torch.randn(shape, generator=generator, dtype=torch.float64)
        assert (gram(a) - a.mT @ a).abs().max() < 1e-12


def test_solving_by_rows_and_a_matrix_that_is_not_positive_definite():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(3, 5, 5, generator=generator, dtype=torch.float64)
    A = A @ A.mT + torch.eye(5, dtype=A.dtype)
    B = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    assert (solve_rows(B, cholesky(A)) @ A - B).abs().max() < 1e-10
    healthy = cholesky(A)
    A[1] = -A[1]
    factors = cholesky(A)
    assert factors[1].isnan().all() and torch.equal(factors[[0, 2]], healthy[[0, 2]])


# The method


@pytest.mark.parametrize("act", MONOTONE)
def test_every_block_moves_and_the_loss_falls(act):
    x, y, W, b = problem(4, 12, (4, 5, 5, 3), 2)
    run = am.start("bcd", x, y, W, b, act, alpha=1.0, alpha_weights=1.0)
    before, first = run.variables(), run.step().objective()
    for key, value in run.step(2).variables().items():
        assert (value != before[key]).flatten(1).any(1).all(), key
    assert (run.step(40).objective() < 0.5 * first).all()


@pytest.mark.parametrize("act", ["relu", "softplus"])
def test_a_stacked_run_is_the_run_alone_and_a_diverging_one_harms_none(act):
    x, y, W, b = problem(3, 12, (4, 5, 5, 3), 3)
    hp = dict(alpha_weights=[1.0, 5.0, 5.0], rho=[1.0, 0.3, 0.3])  # the first layer's factor differs, and is shared
    stacked = am.start("bcd", x, y, W, b, act, **hp).step(5).variables()
    for r in range(3):
        one = {key: values[r] for key, values in hp.items()}
        alone = am.start("bcd", x, y, [w[r] for w in W], [v[r] for v in b], act, **one).step(5).variables()
        for key, value in alone.items():
            assert (stacked[key][r] - value).abs().max() <= 1e-12 * (1 + value.abs().max()), key
    W[1][1, 0, 0] = math.nan
    poisoned = am.start("bcd", x, y, [w.nan_to_num() for w in W], b, act, **hp)
    poisoned = poisoned.set_variables(W2=W[1]).step(5).variables()
    for key, value in stacked.items():
        assert torch.equal(poisoned[key][[0, 2]], value[[0, 2]]), key
    assert poisoned["W2"][1].isnan().any()


def test_a_neighbours_constants_change_no_bit():
    """Runs with one alpha_weights / rho share the factor of layer 1; a neighbour with another must not change it."""
    x, y, W, b = problem(3, 12, (4, 5, 5, 3), 3)
    same = am.start("bcd", x, y, W, b, alpha_weights=[5.0, 5.0, 5.0]).step(4).variables()
    other = am.start("bcd", x, y, W, b, alpha_weights=[5.0, 0.1, 5.0]).step(4).variables()
    for key, value in same.items():
        assert torch.equal(other[key][[0, 2]], value[[0, 2]]), key
        assert not torch.equal(other[key][1], value[1]), key


def test_float32_agrees_with_float64_on_60_000_images():
    """V^T V + alpha_weights/rho I has condition 1e5 here.

    The loss is right to 1e-5, W to 1 % of its move, W_1 to rounding.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60_000, 20, generator=generator, dtype=torch.float64)
    y = x[:, :4].argmax(1)
    _, _, W, b = problem(0, 1, (20, 8, 8, 4))
    single, double = (am.start("bcd", x.to(dtype), y, W, b).step(3) for dtype in (torch.float32, torch.float64))
    assert single.objective().dtype == torch.float64
    assert single.objective().item() == pytest.approx(double.objective().item(), rel=1e-5)
    single, double = single.variables(), double.variables()
    for l, w in enumerate(W, 1):
        error = (single[f"W{l}"].double() - double[f"W{l}"]).abs().max()
        assert error < (1e-6 if l == 1 else 0.01 * (double[f"W{l}"] - w).abs().max()), l


def test_deep_networks_train():
    """Ten hidden layers, at the initial values of the authors: W ~ .01 N(0, 1), b = .1."""
    generator = torch.Generator().manual_seed(0)
    widths = (6, *[8] * 10, 3)
    x = torch.rand(40, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (40,), generator=generator)
    W = [0.01 * torch.randn(e, d, generator=generator, dtype=torch.float64) for d, e in zip(widths, widths[1:])]
    b = [torch.full((e,), 0.1, dtype=torch.float64) for e in widths[1:]]
    run = am.start("bcd", x, y, W, b, alpha=1.0, alpha_weights=1.0)
    first = run.objective()
    assert run.step(100).objective() < 0.1 * first
    assert all(value.isfinite().all() for value in run.variables().values())


def test_what_it_cannot_train_is_refused():
    x, y, W, b = problem()
    with pytest.raises(InputError, match="monotone"):
        am.start("bcd", x, y, W, b, "silu")
    with pytest.raises(InputError, match="hidden layer"):
        am.start("bcd", x, y, [W[0][:, :3]], [b[0][:, :3]])
    with pytest.raises(InputError, match="gamma must lie in"):
        am.start("bcd", x, y, W, b, gamma=0.0)
