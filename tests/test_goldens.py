"""Numbers to be matched in float64 from given initial values: golden/*.npz (SPEC 7)."""

from pathlib import Path

import numpy as np
import pytest
import torch

import am
from am.cross_entropy import cross_entropy
from am.networks import forward

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


# Sub-problems: each block's plain step from the given variables, as anyone would take it by hand


def given(name: str, **values) -> tuple[Golden, am.Run]:
    """The file, and a run of that method whose variables are the file's."""
    golden = Golden("subproblems_mnist", transposed=True)
    weights, biases = [golden[f"W{l}"] for l in LAYERS], [golden[f"b{l}"] for l in LAYERS]
    values["rho"] = golden.number("rho")
    run = am.start(name, golden["X"], golden["Y"].argmax(1), weights, biases, **values)
    kept = {f"{kind}{l}": golden[f"{kind}{l}"] for kind in "za" for l in LAYERS if f"{kind}{l}" != "a3"}
    return golden, run.set_variables(**kept)


MDLAM = [f"{kind}{l}" for l in LAYERS for kind in "Wbza" if f"{kind}{l}" not in ("b3", "z3", "a3")]


@pytest.mark.parametrize("block", MDLAM)
def test_subproblem_of_mdlam(block):
    golden = Golden("subproblems_mnist")
    epsilon = golden.number("eps")
    golden, run = given("mdlam", mu=golden.number("mu"), epsilon_0=epsilon, epsilon_min=epsilon)
    before, after = run.variables(), run.step_block(block).variables()
    assert off_by(after[block], golden[f"mdlam__{block}"]) < SUBPROBLEM
    assert [name for name in before if not torch.equal(before[name], after[name])] == [block]


def test_prox_of_the_cross_entropy():
    golden, run = given("mdlam")
    assert off_by(run.step_block("z3").variables()["z3"], golden["prox_ce__z3"]) < SUBPROBLEM


DLADMM = ["W1", "b1", "z1", "a1", "W2", "z2", "a2", "W3", "b3"]


@pytest.mark.parametrize("block", DLADMM)
def test_subproblem_of_dladmm(block):
    golden, run = given("dladmm")
    run.set_variables(u=golden["u"].T)
    assert off_by(run.step_block(block).variables()[block], golden[f"dladmm__{block}"]) < SUBPROBLEM
