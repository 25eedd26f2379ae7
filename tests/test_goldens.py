"""Numbers to be matched in float64 from given initial values: golden/*.npz (SPEC 7)."""

from pathlib import Path

import numpy as np
import pytest
import torch

import am
from am.activations import activation
from am.cross_entropy import cross_entropy, prox_cross_entropy
from am.linalg import linear
from am.networks import forward
from am.penalised import refresh
from am.penalised_state import Inertia, SweepState
from am.penalised_steps import activation_step, bias_step, hidden_step, weight_step

FOLDER = Path(__file__).parent / "golden"
TRAJECTORY, SUBPROBLEM = 1e-6, 1e-8
EXACT = 1e-10  # what runs of this specification reach, far below what SPEC 7 asks
LAYERS = (1, 2, 3)


class Golden:
    """One file, shown as samples x features: penalised problems are stored as features x samples."""

    def __init__(self, name: str, transposed: bool = False):
        with np.load(FOLDER / f"{name}.npz") as stored:
            self.values = {key: stored[key] for key in stored.files}
        self.transposed = transposed

    def __getitem__(self, key: str) -> torch.Tensor:
        u = torch.from_numpy(self.values[key])
        variable = key.split("__")[-1]
        if self.transposed and variable[0] in "XYza" and u.dim() == 2:
            return u.T.contiguous()
        return u.flatten() if self.transposed and variable[0] == "b" else u

    def number(self, key: str) -> float:
        return float(self.values[key])

    def word(self, key: str, default: str = "") -> str:
        return str(self.values.get(key, default))

    def start(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return [self[f"W{l}_0"] for l in LAYERS], [self[f"b{l}_0"] for l in LAYERS]


def off_by(u: torch.Tensor, golden: torch.Tensor) -> float:
    assert u.shape == golden.shape
    return (u - golden).abs().max().item()


@pytest.mark.parametrize("name", ["tiam_trajectory_mnist", "tiam_trajectory_mnist_elu"])
def test_tiam_trajectory(name):
    """25 iterations: objective and safeguards of each, every variable after the last."""
    golden = Golden(name, transposed=True)
    p1, p2, p3 = golden["p"].tolist()
    values = dict(p1=p1, p2=p2, p3=p3, rho=golden.number("rho"))
    x, y = golden["X"], golden["Y"].argmax(1)
    run = am.start("tiam", x, y, *golden.start(), golden.word("activation"), **values)
    curves = (golden[key] for key in ("objective", "accuracy", "fallbacks"))
    for k, (objective, accuracy, fallbacks) in enumerate(zip(*curves, strict=True)):
        run.step()
        assert abs(run.objective() - objective) < EXACT * objective, k
        assert run.variables()["fallbacks"] == fallbacks, k
        predicted = forward(x, run.method.parameters(run.state), run.problem.activation)[-1][0].argmax(1)
        assert (predicted == y).double().mean() == pytest.approx(accuracy.item()), k
    final = run.variables()
    for variable in [f"{kind}{l}" for kind in "Wbz" for l in LAYERS] + ["a1", "a2"]:
        assert off_by(final[variable], golden[variable]) < EXACT, variable


@pytest.mark.parametrize("name", ["scalar", "row", "column", "element", "row_log_adam"])
def test_samt_trajectory(name):
    """20 mini-batches: the loss of each before its step, weights and step sizes after the last."""
    golden = Golden(f"samt_{name}_mnist")
    values = dict(shape=golden.word("kind"), alpha0=golden.number("alpha0"), beta=golden.number("beta"))
    values |= dict(meta=golden.word("meta", "gd"), order=golden.word("order", "forward"))
    run = am.start("samt", golden["x"], golden["y"], *golden.start(), batches=golden["batches"], **values)
    for k, loss in enumerate(golden["losses"]):
        x, y = run.problem.batches(k)
        logits = forward(x, run.method.parameters(run.state), run.problem.activation)[-1]
        assert abs(cross_entropy(logits, y) / len(y[0]) - loss) < EXACT, k
        run.step()
    final = run.variables()
    for l in LAYERS:
        for variable in (f"W{l}", f"b{l}", f"alpha_W{l}"):
            assert off_by(final[variable], golden[variable]) < EXACT, variable
        assert off_by(final[f"alpha_b{l}"].flatten(), golden[f"alpha_b{l}"]) < EXACT, l


@pytest.mark.parametrize("form, name", [("paper", "am-adam"), ("released", "am-adam-released")])
def test_am_adam_trajectory(form, name):
    """Codes after the first mini-batch, weights after ten; hidden layers have no bias, whatever is given."""
    golden = Golden("am_adam_trajectory_mnist")
    weights = [golden[f"W{l}_0"] for l in LAYERS]
    biases = [torch.ones(len(W), dtype=torch.float64) for W in weights[:-1]] + [golden["b3_0"]]
    values = dict(learning_rate=golden.number("lr_weights"), code_rate=golden.number("lr_codes"))
    values |= dict(mu=golden.number("mu"), code_steps=int(golden.number("n_iter_codes")))
    run = am.start(name, golden["x"], golden["y"], weights, biases, batches=golden["batches"], **values)
    first = run.step().variables()
    for l in (1, 2):
        assert off_by(first[f"c{l}"], golden[f"{form}__codes{l}_first"]) < EXACT, l
    final = run.step(9).variables()
    for variable in ("W1", "W2", "W3", "b3"):
        assert off_by(final[variable], golden[f"{form}__{variable}"]) < EXACT, variable
    assert not final["b1"].any() and not final["b2"].any()


# Sub-problems: each block's plain step from the given variables


PLAIN = Inertia(*3 * [torch.zeros(1, 1, 1, dtype=torch.float64)])


@pytest.fixture
def given() -> tuple[Golden, am.Run, SweepState]:
    """The file, an mDLAM run whose variables are the file's, and the state that its sweep steps."""
    golden = Golden("subproblems_mnist", transposed=True)
    weights, biases = [golden[f"W{l}"] for l in LAYERS], [golden[f"b{l}"] for l in LAYERS]
    constants = {name: golden.number(name) for name in ("rho", "mu")}
    run = am.start("mdlam", golden["X"], golden["Y"].argmax(1), weights, biases, **constants)
    for name, u in run.state.variables().items():
        u.copy_(golden[name])
    state = run.state.runs[0]
    refresh(state, run.problem.x, LAYERS)
    return golden, run, state


@pytest.mark.parametrize("l", LAYERS)
def test_weight_subproblem(given, l):
    golden, run, state = given
    weight_step(state, run.problem.x, run.hp, l, PLAIN)
    assert off_by(state.params.W[l - 1][0], golden[f"mdlam__W{l}"]) < SUBPROBLEM


@pytest.mark.parametrize("l", [1, 2])
def test_bias_subproblem(given, l):
    golden, run, state = given
    bias_step(state, run.problem.x, l, PLAIN)
    assert off_by(state.params.b[l - 1][0, 0], golden[f"mdlam__b{l}"]) < SUBPROBLEM


@pytest.mark.parametrize("l", [1, 2])
def test_hidden_subproblem(given, l):
    golden, run, state = given
    hidden_step(state, run.problem.x, activation("relu"), l, PLAIN, torch.full_like(state.rho, golden.number("eps")))
    assert off_by(state.z[l - 1][0], golden[f"mdlam__z{l}"]) < SUBPROBLEM


@pytest.mark.parametrize("l", [1, 2])
def test_activation_subproblem(given, l):
    golden, run, state = given
    epsilon = torch.full_like(state.rho, golden.number("eps"))
    activation_step(state, activation("relu"), run.hp, l, PLAIN, epsilon)
    assert off_by(state.a[l - 1][0], golden[f"mdlam__a{l}"]) < SUBPROBLEM


def test_prox_of_the_cross_entropy(given):
    golden, run, state = given
    c = linear(state.a[1], state.params.W[2], state.params.b[2])
    z = prox_cross_entropy(c, run.problem.y, run.hp.rho)
    assert off_by(z[0], golden["prox_ce__z3"]) < SUBPROBLEM
