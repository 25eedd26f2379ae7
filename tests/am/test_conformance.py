"""What every method of am/methods must do; a new file there is covered with no edit here."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from conftest import ROWS, WIDTHS, blocks, floats, largest_difference, launch, middle, spread

from am import start
from am.activations import ACTIVATIONS, activation
from am.cross_entropy import prox_cross_entropy
from am.errors import InputError
from am.method import Method
from am.methods import methods
from am.networks import forward, initialise

L = len(WIDTHS) - 1
METHODS = list(methods().values())
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def others(f: dataclasses.Field) -> list[Any]:
    """Valid values of a setting other than its default."""
    if f.name == "images":
        return [ROWS // 2]
    low, high, default = f.metadata["low"], f.metadata["high"], f.default
    if isinstance(default, bool):
        return [not default]
    if f.metadata["choices"]:
        return [value for value in f.metadata["choices"] if value != default]
    if isinstance(default, int):
        return [v for v in (default + 1, 1, 0) if low <= v <= high and v != default]
    search = f.metadata["search"]
    values = [default / 2, default * 2, 0.0, 0.9] + ([search.at(0.0), search.at(1.0)] if search else [])
    return [v for v in values if low <= v <= high and v != default]


def programs() -> list:
    """Every method with its defaults, and with each other value of the settings that shape its program."""
    cases = []
    for m in METHODS:
        cases.append(pytest.param(m, {}, id=m.name))
        for f in dataclasses.fields(m.hyperparameters):
            if not isinstance(f.default, float):
                values = others(f) if f.metadata["choices"] else others(f)[:1]
                cases += [pytest.param(m, {f.name: v}, id=f"{m.name}-{f.name}={v}") for v in values]
    return cases


every_program = pytest.mark.parametrize("method, overrides", programs())


def declared_still(method: Method, settings: Any) -> set[str]:
    """Biases that the method says it never moves."""
    return {f"b{l}" for l in method.by_hand.still(settings, L)}


# Every block, every run


@every_program
def test_every_block_moves(method, overrides):
    settings = spread(method, overrides)
    run = launch(method, settings, [0, 1, 2])
    first = blocks(run)
    first = blocks(run.step()) | first  # some variables only exist from the first step on
    # While epsilon is wide mDLAM's z_{l+1} is a_l W^T + b to the last bit, and a_l has no reason to move.
    last = blocks(run.step(20))
    still = declared_still(method, settings[0])
    assert set(last) == set(first)
    assert {f"{kind}{l}" for kind in "Wb" for l in range(1, L + 1)} <= set(last)
    for name in last:
        moved = (last[name] != first[name]).flatten(1).any(1)
        assert moved.logical_not().all() if name in still else moved.all(), name


@pytest.mark.parametrize(
    "method, overrides, dtype, tolerance",
    [pytest.param(*case.values, torch.float64, 1e-12, id=f"{case.id}-double") for case in programs()]
    + [pytest.param(m, {}, torch.float32, 1e-5, id=f"{m.name}-single") for m in METHODS],
)
def test_a_stacked_run_equals_the_same_run_alone(method, overrides, dtype, tolerance):
    settings, seeds = spread(method, overrides), [3, 1, 4]
    together = launch(method, settings, seeds, dtype=dtype).step(20)
    stacked = blocks(together)
    for r in range(3):
        alone = launch(method, settings[r : r + 1], seeds[r : r + 1], dtype=dtype).step(20)
        for name, u in blocks(alone).items():
            assert u.shape == stacked[name][r : r + 1].shape
            assert largest_difference(stacked[name][r : r + 1], u) <= tolerance, name
        if method.by_hand.objective:
            assert largest_difference(together.objective()[r], alone.objective()[0]) <= tolerance


def poisons() -> list:
    """(method, overrides, poison): NaN in every program, Inf in every method, and each step size far too large."""
    cases = [pytest.param(*case.values, "nan", id=f"{case.id}-nan") for case in programs()]
    for m in METHODS:
        cases.append(pytest.param(m, {}, "inf", id=f"{m.name}-inf"))
        rates = [
            name
            for name in m.with_role("step size")
            if math.isinf(m.hyperparameters.__dataclass_fields__[name].metadata["high"])
        ]
        cases += [pytest.param(m, {}, rate, id=f"{m.name}-{rate}=1e300") for rate in rates]
    return cases


@pytest.mark.parametrize("method, overrides, poison", poisons())
def test_a_diverging_run_leaves_the_others_bitwise_unchanged(method, overrides, poison):
    settings, seeds = spread(method, overrides), [0, 1, 2]
    healthy = launch(method, settings, seeds).step(8)
    params = initialise(WIDTHS, seeds, "normal(0.5)", torch.float64)
    if poison in ("nan", "inf"):
        params.W[1][1, 2] = float(poison)
    else:
        settings[1] = dataclasses.replace(settings[1], **{poison: 1e300})
    poisoned = launch(method, settings, seeds, params=params).step(8)
    assert method.parameters(poisoned.state).finite().tolist() == [True, False, True]
    assert method.parameters(healthy.state).finite().all()
    neighbours = [0, 2]
    for name, u in healthy.variables().items():
        assert torch.equal(poisoned.variables()[name][neighbours], u[neighbours]), name
    if method.by_hand.objective:
        assert torch.equal(poisoned.objective()[neighbours], healthy.objective()[neighbours])


@every_program
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(method, overrides):
    settings = [middle(method, overrides)] * 2
    one, again, other = (launch(method, settings, seeds).step(5) for seeds in ([5, 6], [5, 6], [7, 6]))
    still = declared_still(method, method.settings())
    for name, u in blocks(one).items():
        v, w = blocks(again)[name], blocks(other)[name]
        assert torch.equal(u, v), name
        assert torch.equal(u[1], w[1]), name
        assert name in still or not torch.equal(u[0], w[0]), name
        assert name in still or not torch.equal(u[0], u[1]), name


@every_method
def test_training_starts_at_the_given_weights_and_leaves_them_alone(method):
    params = initialise(WIDTHS, [0, 1], "normal(0.5)", torch.float64)
    before = params.clone()
    run = launch(method, [method.settings()] * 2, [0, 1], params=params)
    shown, still = run.variables(), declared_still(method, method.settings())
    for l, (W, b) in enumerate(zip(before.W, before.b), 1):
        assert torch.equal(shown[f"W{l}"], W)
        absent = f"b{l}" in still and not shown[f"b{l}"].any()  # a layer without a bias
        assert absent or torch.equal(shown[f"b{l}"], b[:, 0])
    assert not torch.equal(shown["W2"], shown["W3"]), "layers of one shape start alike"
    assert not torch.equal(shown["W2"][0], shown["W2"][1]), "seeds start alike"
    run.step(3)
    assert all(torch.equal(u, v) for u, v in zip((*params.W, *params.b), (*before.W, *before.b)))


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_dtype_device_and_shapes_are_kept(method, dtype):
    run = launch(method, spread(method), [0, 1, 2], dtype=dtype)
    for _ in range(2):
        for name, u in run.step().variables().items():
            assert u.dtype == dtype or not u.is_floating_point(), name
            assert u.device == run.problem.x.device
            assert u.shape[0] == 3
        params = method.parameters(run.state)
        assert params.widths == WIDTHS and params.runs == 3
        assert [tuple(b.shape) for b in params.b] == [(3, 1, d) for d in WIDTHS[1:]]
    if method.by_hand.objective:
        assert run.objective().dtype == torch.float64 and run.objective().shape == (3,)


# Settings


def outcome(method: Method, overrides: dict[str, Any], steps: int = 24, scale: float = 1.0) -> list[torch.Tensor]:
    """Everything that a setting can change."""
    run = launch(method, [middle(method, overrides)], [2], scale=scale).step(steps)
    named = list(blocks(run).values())
    return named + [run.objective()] if method.by_hand.objective else named


def differ(u: list[torch.Tensor], v: list[torch.Tensor]) -> bool:
    return any(s.shape != t.shape or not torch.equal(s, t) for s, t in zip(u, v, strict=True))


@every_method
def test_every_setting_bites(method):
    """Each setting changes the numbers: by itself, with a switch thrown, or on inputs that need small steps."""
    fields = dataclasses.fields(method.hyperparameters)
    switches = [{}] + [{f.name: v} for f in fields if isinstance(f.default, (bool, str)) for v in others(f)]
    contexts = [(switch, scale) for switch in switches for scale in (1.0, 50.0)]
    references: dict[int, list[torch.Tensor]] = {}
    for f in fields:

        def bites(i: int) -> bool:
            switch, scale = contexts[i]
            if i not in references:
                references[i] = outcome(method, switch, scale=scale)
            values = [switch | {f.name: value} for value in others(f)[:3]]
            changed = (differ(references[i], outcome(method, v, scale=scale)) for v in values)
            return f.name not in switch and any(changed)

        assert any(bites(i) for i in range(len(contexts))), f.name


INERTIA = [
    pytest.param(m, f.name, id=f"{m.name}-{f.name}")
    for m in METHODS
    for f in floats(m)
    if f.name in ("p1", "p2", "p3", "beta1") or "momentum" in f.name
]


@pytest.mark.parametrize("method, name", INERTIA)
def test_inertia_of_0_and_of_09_differ(method, name):
    without, with_inertia = outcome(method, {name: 0.0}, 5), outcome(method, {name: 0.9}, 5)
    assert differ(without[:1], with_inertia[:1])


# Activations


@pytest.mark.parametrize("act", list(ACTIVATIONS.values()), ids=lambda act: act.name)
@every_method
def test_each_activation_is_served_or_refused(method, act):
    settings = middle(method)
    refused = method.requires(settings, act, WIDTHS) is not None or (method.monotone_only and not act.monotone)
    if refused:
        with pytest.raises(InputError, match=rf"^method '{method.name}'[^\n]*\.$") as error:
            method.check(settings, act, WIDTHS)
        assert act.name in str(error.value)
    else:
        method.check(settings, act, WIDTHS)
        run = launch(method, [settings], [0], act.name)
        first = run.variables()
        last = run.step(4).variables()
        assert all(u.isfinite().all() for u in last.values())
        assert all(not torch.equal(first[f"W{l}"], last[f"W{l}"]) for l in range(1, L + 1))


@pytest.mark.parametrize("name", [name for name, act in ACTIVATIONS.items() if not act.monotone])
@every_method
def test_activations_without_an_inverse_serve_gradient_methods_and_no_full_batch_am_method(method, name):
    if method.family == "gradient" or method.name in ("sam", "samt"):
        method.check(method.settings(), activation(name), WIDTHS)
    elif method.family == "full-batch AM" or method.name.startswith("am-adam"):
        with pytest.raises(InputError, match=f"'{name}'"):
            method.check(method.settings(), activation(name), WIDTHS)


# Objective and fixed points


@every_method
def test_the_objective_is_finite_and_never_rises_where_the_method_promises_it(method):
    if method.by_hand.objective is None:
        assert method.family != "full-batch AM", "an AM method minimises something; show it"
        return
    values = {f.name: 1.0 for f in floats(method) if f.name in ("epsilon_0", "epsilon_min")}  # a constant constraint
    run = launch(method, [middle(method, values)] * 2, [0, 1])
    promised = PROMISED.get(method.name, lambda run: run.objective())
    shown, minimised = [run.objective()], [promised(run)]
    for _ in range(25):
        shown.append(run.step().objective())
        minimised.append(promised(run))
    assert torch.stack(shown).isfinite().all()
    if method.name in PROMISED:
        curve = torch.stack(minimised)
        assert (curve[1:] <= curve[:-1] * (1 + 1e-12) + 1e-12).all()
        assert (curve[-1] < 0.9 * curve[0]).all()


def split_objective(run) -> torch.Tensor:  # (R,)
    """What the blocks of BCD minimise: its objective(), the gaps V = h(U), and the loss unweighted."""
    variables, hp = run.variables(), run.hp
    U, V = ([variables[f"{kind}{l}"] for l in range(1, L + 1)] for kind in "UV")
    square = lambda t: t.square().sum((1, 2))
    loss = square(V[-1] - torch.nn.functional.one_hot(run.problem.y, WIDTHS[-1]))
    gaps = sum(square(v - (run.problem.activation.value(u) if v is not V[-1] else u)) for u, v in zip(U, V))
    return run.objective() + (1 - hp.gamma.flatten()) / 2 * loss + hp.gamma.flatten() / 2 * gaps


# method -> a function that no iteration may raise while the constraint is constant
PROMISED = {"tiam": lambda run: run.objective(), "mdlam": lambda run: run.objective(), "bcd": split_objective}


def stationary_problem(method: Method):
    """A network at which no method can gain: every image comes once with each label, W_L = 0, b_L is one number.

    The loss then pulls the logits of an image's copies in directions that cancel, and W_L = 0 passes nothing back.
    Hidden layers are arbitrary. All numbers are small multiples of powers of two, so that sums cancel exactly.
    """
    classes, images = 4, 8
    generator = torch.Generator().manual_seed(0)
    quarters = lambda *shape: torch.randint(-4, 5, shape, generator=generator).double() / 4
    x = quarters(images, 6).repeat_interleave(classes, 0)
    y = torch.arange(classes).repeat(images)
    widths = (6, 5, 5, classes)
    weights = [quarters(b, a) for a, b in zip(widths, widths[1:])]
    biases = [quarters(b) / 4 for b in widths[1:]]
    weights[-1].zero_()
    biases[-1].fill_(0.25)
    names = {f.name for f in floats(method)}
    weight_decays = names & ({"mu"} if method.by_hand.objective else {"weight_decay"})
    firm = dict.fromkeys(names & {"rho"}, 1.0)  # a soft coupling lets ADMM blow rounding up
    settings = dataclasses.asdict(middle(method)) | dict.fromkeys(weight_decays, 0.0) | firm
    batches = None if method.full_batch else torch.arange(len(x)).view(2, -1)
    return start(method.name, x, y, weights, biases, batches=batches, **settings)


@every_method
def test_a_constructed_solution_stays_where_it_is(method):
    run = stationary_problem(method)
    if solve := SOLUTIONS.get(method.name):
        solve(run)
    elif method.family == "full-batch AM":
        pytest.skip("SOLUTIONS does not say which values of the method's own variables are stationary")
    first = blocks(run)
    first = blocks(run.step()) | first
    last = blocks(run.step(4))
    for name, u in first.items():
        assert (last[name] - u).abs().max() <= 1e-8, name


def own(run) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """The method's own variables, to be written to; the network's logits; one-hot labels."""
    logits = forward(run.problem.x, run.method.parameters(run.state), run.problem.activation)[-1]
    return run.method.by_hand.variables(run.state), logits, torch.nn.functional.one_hot(run.problem.y, logits.shape[2])


def solve_penalised(run) -> None:
    """z_L is the proximal point; every other constraint holds already, with zero residual."""
    variables, c, _ = own(run)
    weight = run.hp.nu if run.method.name == "pdadmm" else run.hp.rho
    variables["z3"].copy_(prox_cross_entropy(c, run.problem.y, weight))
    assert (variables["z3"] - c).abs().min() > 1e-3


def solve_augmented(run) -> None:
    """z_L is the logits, and u balances the cross-entropy's pull on them."""
    variables, c, labels = own(run)
    variables["z3"].copy_(c)
    variables["u"].copy_(labels - torch.softmax(c, 2))


def solve_split(run) -> None:
    """V_N = (Y + gamma U_N) / (1 + gamma), U_N = (gamma V_N + rho c) / (gamma + rho), solved for both."""
    variables, c, labels = own(run)
    gamma, rho = run.hp.gamma, run.hp.rho
    variables["U3"].copy_((gamma / (1 + gamma) * labels + rho * c) / (gamma / (1 + gamma) + rho))
    variables["V3"].copy_((labels + gamma * variables["U3"]) / (1 + gamma))
    assert (variables["V3"] - variables["U3"]).abs().min() > 1e-3


SOLUTIONS = dict.fromkeys(("mdlam", "mdlam-released", "tiam", "pdadmm"), solve_penalised)
SOLUTIONS |= {"dladmm": solve_augmented, "dladmm-released": solve_augmented, "bcd": solve_split}


# The same on a GPU


@pytest.mark.gpu
@every_method
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["double", "single"])
def test_a_gpu_gives_the_numbers_of_a_cpu(method, dtype, tolerance):
    if not method.well_posed:
        pytest.skip("rounding chooses among its numbers, and a GPU rounds otherwise")
    settings, seeds = spread(method), [0, 1, 2]
    cpu = launch(method, settings, seeds, dtype=dtype).step(10)
    cuda = launch(method, settings, seeds, dtype=dtype, device="cuda").step(10)
    for name, u in blocks(cpu).items():
        on_gpu = blocks(cuda)[name]
        assert on_gpu.is_cuda
        assert largest_difference(on_gpu.cpu(), u) <= tolerance, name
