"""One iteration of alternating minimisation over the penalised problem (SPEC 1), and its objective.

TIAM (arXiv 2503.08489), mDLAM (Wang, Li and Zhao, Neurocomputing 2022) and iPDLAM (arXiv 2102.00267) sweep the same
blocks in the same order, W_l, b_l, z_l, a_l for l = 1 .. L, with the triple-inertial steps of `am.penalised_steps`;
their inertial coefficients differ, and the growth of rho.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am import devices
from am.activations import Activation
from am.cross_entropy import cross_entropy, signed_labels
from am.linalg import ask, gram, largest_eigenvalue, linear, square, worthwhile
from am.method import ByHand, Cost, Method, Problem, needs_hidden_layer
from am.networks import Parameters
from am.penalised_state import Inertia, Rules, SweepState, linear_into, row_blocks
from am.penalised_steps import (
    activation_step,
    bias_step,
    hidden_step,
    normal_factor,
    output_step,
    show,
    weight_step,
)

STEP_RULES = ("backtracking", "lipschitz", "inverse")
STEP_RULE = "curvature theta, tau by doubling, or the exact largest eigenvalue; or W_l exactly, by a linear system"
PAPER = Rules()


def init_sweep(problem: Problem, params: Parameters, hp: SimpleNamespace, rules: Rules = PAPER) -> SweepState:
    """z and a by a forward pass, except z_L = +1 at the label and -1 elsewhere (SPEC 1), unless hp.z_start says so."""
    x, params, R = problem.x, params.clone(), params.runs
    z = [x.new_empty(R, len(x), width) for width in params.widths[1:]]
    a = [torch.empty_like(u) for u in z[:-1]]
    counter = torch.zeros(R, dtype=torch.int64, device=x.device)
    G = gram(x)
    state = SweepState(params, z, a, hp.rho.clone(), counter, counter.clone(), G, x.mean(0, keepdim=True), rules=rules)
    if hp.step_rule == "lipschitz":
        state.gram_eigenvalue = largest_eigenvalue(G)
    if hp.step_rule == "inverse":
        state.gram_factor = normal_factor(G, hp.rho, hp.mu)
    state.last = {name: torch.empty_like(u) for name, u in state.variables().items()}
    if getattr(hp, "third", "own") == "others":
        state.shown = {name: torch.empty_like(u) for name, u in state.variables().items()}
    if devices.on_gpu(x):
        state.residual, state.spare = ([torch.empty_like(u) for u in z] for _ in range(2))
        state.runs = [state]
    else:
        state.runs = [state.run(r) for r in range(R)]
    for run in state.runs:
        for l, (W, b) in enumerate(zip(run.params.W, run.params.b), 1):
            for at, _ in row_blocks(run.z[l - 1]):
                linear_into(run.z[l - 1][at], run.inputs(x, l), at, W, b)
            if l < len(z):
                run.a[l - 1].copy_(problem.activation.value(run.z[l - 1]))
    if getattr(hp, "z_start", "labels") == "labels":
        z[-1].copy_(signed_labels(problem.y, z[-1].shape[2], z[-1]))
    for name, u in state.variables().items():
        for kept in (state.last, state.shown):
            if name in kept:
                kept[name].copy_(u)
    return state


def sweep(
    state: SweepState,
    problem: Problem,
    hp: SimpleNamespace,
    k: int,
    p1: Tensor | float,  # (R, 1, 1)
    p2: Tensor | float,
    p3: Tensor | float,
    block: str | None = None,
) -> None:
    """Iteration k = 0, 1, ...: for l = 1 .. L the blocks W_l, b_l, z_l and a_l (l < L), each with triple inertia.

    block: "W1", "b1", "z1", "a1", ...: that one alone, from the variables as they stand, none of them clipped before.
    """
    column = lambda p: torch.as_tensor(p, dtype=state.rho.dtype, device=state.rho.device).expand_as(state.rho)
    p1, p2, p3 = column(p1), column(p2), column(p3)
    by_hand = block is not None or state.seen != _versions(state)
    state.fallbacks.zero_()
    for r, run in enumerate(state.runs):
        one = slice(None) if run is state else slice(r, r + 1)
        own = SimpleNamespace(**{key: v[one] if isinstance(v, Tensor) else v for key, v in vars(hp).items()})
        _sweep_run(run, problem, own, k, Inertia(p1[one], p2[one], p3[one]), by_hand, block)
    # A block alone leaves the residuals of others behind.
    state.seen = _versions(state) if block is None else []


def _sweep_run(
    state: SweepState,
    problem: Problem,
    hp: SimpleNamespace,
    k: int,
    inertia: Inertia,
    by_hand: bool,
    block: str | None,
) -> None:
    """The sweep, or one block of it, of one run on a CPU, of all on a GPU."""
    L, x, act = len(state.z), problem.x, problem.activation
    epsilon = _epsilon(hp, k)
    # Without a third inertia both readings are one, to the bit, and what is shown is the variable.
    if apart := bool(state.shown) and ask(inertia.p3 != 0):
        own, inertia = inertia, Inertia(inertia.p1, inertia.p2, torch.zeros_like(inertia.p3))
    elif state.apart:
        by_hand = True
    state.apart = apart
    if by_hand and not apart:
        refresh(state, x, range(1, L + 1))
    if block is None:
        _clip(state, problem, hp, k, by_hand)
    for name in [block] if block else block_names(L, state.rules.frozen_bias):
        if not apart:
            _step_block(state, problem, hp, name, inertia, epsilon)
            continue
        before, seen, l = state.fallbacks.clone(), state.seen_by(name), int(name[1:])
        if name[0] in "Wa":
            refresh(seen, x, range(l, l + 1) if name[0] == "W" else range(l + 1, l + 2))
        _step_block(seen, problem, hp, name, inertia, epsilon)
        show(state, act, name, own.p3, (state.fallbacks > before).view(-1, 1, 1), epsilon)
    if state.shown and not apart:
        for name, u in state.variables().items():
            state.shown[name].copy_(u)


def _step_block(
    state: SweepState, problem: Problem, hp: SimpleNamespace, name: str, inertia: Inertia, epsilon: Tensor
) -> None:
    kind, l = name[0], int(name[1:])
    if kind == "W":
        weight_step(state, problem.x, hp, l, inertia)
    elif kind == "b":
        bias_step(state, problem.x, l, inertia)
    elif kind == "a":
        activation_step(state, problem.activation, hp, l, inertia, epsilon)
    elif l < len(state.z):
        hidden_step(state, problem.x, problem.activation, l, inertia, epsilon)
    else:
        output_step(state, problem, inertia)


def block_names(depth: int, frozen_bias: int = 0) -> list[str]:
    """W1, b1, z1, a1, W2, ..., zL: the order of a sweep (SPEC 1)."""
    names = [f"{kind}{l}" for l in range(1, depth + 1) for kind in "Wbza"]
    return [name for name in names if name not in (f"b{frozen_bias}", f"a{depth}")]


def forget(state: SweepState, problem: Problem, hp: SimpleNamespace, names: Sequence[str]) -> None:
    """Those variables were set: they have no last iterate but themselves. Residuals are known to be old by `seen`."""
    for name, u in state.variables().items():
        if name in names:
            state.last[name].copy_(u)
            if name in state.shown:
                state.shown[name].copy_(u)


def _epsilon(hp: SimpleNamespace, k: int) -> Tensor:  # (R, 1, 1)
    return torch.maximum(hp.epsilon_0 * 2.0**-k, hp.epsilon_min)


def _clip(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int, by_hand: bool) -> None:
    """a_l <- [h(z_l) - epsilon_k, h(z_l) + epsilon_k] where a_l may be outside: epsilon shrank, or its step gave up."""
    epsilon = _epsilon(hp, k)
    outside = epsilon < _epsilon(hp, k - 1) if k else torch.zeros_like(epsilon, dtype=torch.bool)
    if by_hand or state.rules.max_doublings is not None:
        outside = torch.ones_like(outside)
    if state.rules.start_clip and worthwhile(outside):
        for l, (z, a) in enumerate(zip(state.z, state.a), 1):
            h = problem.activation.value(state.shown.get(f"z{l}", z))
            for u in (a, state.shown.get(f"a{l}", a)):
                u.clamp_(h - epsilon, h + epsilon)
        refresh(state, problem.x, range(2, len(state.z) + 1), outside)


def refresh(state: SweepState, x: Tensor, layers: range, runs: Tensor | None = None) -> None:
    """The residuals of the layers, from the variables."""
    for l in layers:
        W, b, z, residual = state.params.W[l - 1], state.params.b[l - 1], state.z[l - 1], state.residual[l - 1]
        for at, _ in row_blocks(z):
            linear_into(residual[at], state.inputs(x, l), at, W, b).sub_(z[at])
        state.charge(z.shape[1] * W[0].numel(), runs)


def _versions(state: SweepState) -> list[tuple[int, int]]:
    return [(id(u), u._version) for u in state.variables().values()]


def penalised_objective(
    params: Parameters,
    z: list[Tensor],
    a: list[Tensor],
    x: Tensor,  # (N, d0)
    y: Tensor,  # (N,)
    rho: Tensor,  # (R, 1, 1)
    mu: Tensor,  # (R, 1, 1)
) -> Tensor:  # (R,) float64
    """F of SPEC 1: R(z_L, y) + sum_l rho/2 ||z_l - a_{l-1} W_l^T - b_l||^2 + mu/2 ||W_l||^2."""
    total = cross_entropy(z[-1], y)
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        residual = linear(a[l - 1] if l else x, W, b).sub_(z[l])
        total = total + (rho / 2 * square(residual) + mu / 2 * square(W)).flatten()
    return total


def sweep_objective(state: SweepState, problem: Problem, hp: SimpleNamespace) -> Tensor:  # (R,) float64
    """F at the current variables, with the rho in force."""
    mus = [hp.exact.mu] if state.runs == [state] else hp.exact.mu.split(1)
    each = [
        penalised_objective(run.params, run.z, run.a, problem.x, problem.y, run.rho.double(), mu)
        for run, mu in zip(state.runs, mus)
    ]
    return torch.cat(each)


def sweep_variables(state: SweepState) -> dict[str, Tensor]:
    """z1 .. zL, a1 .. a{L-1} and the number of safeguards taken in the last iteration."""
    named = {name: u for name, u in state.variables().items() if name[0] in "za"}
    return named | {"fallbacks": state.fallbacks}


def sweep_requires(settings: Any, act: Activation, widths: Sequence[int]) -> str | None:
    """What keeps a sweep from these settings or this network."""
    if settings.epsilon_min > settings.epsilon_0:
        return f"epsilon_min, {settings.epsilon_min:g}, must not lie above epsilon_0, {settings.epsilon_0:g}."
    if getattr(settings, "frozen_bias", 0) >= len(widths):
        return f"frozen_bias is layer {settings.frozen_bias} and the network has {len(widths) - 1}."
    return needs_hidden_layer(settings, act, widths)


def sweep_method(
    name: str, title: str, hyperparameters: type, step: Callable, variables: Callable = sweep_variables
) -> Method:
    """A method whose step(state, problem, hp, k, block=None) is `sweep` with inertia of its own."""
    return Method(
        name=name,
        title=title,
        family="full-batch AM",
        hyperparameters=hyperparameters,
        init=init_sweep,
        step=step,
        full_batch=True,
        asks=True,
        monotone_only=True,
        requires=sweep_requires,
        cost=Cost(gradients=lambda depth, settings: 4 * depth - 1),
        by_hand=ByHand(
            objective=sweep_objective,
            variables=variables,
            refresh=forget,
            blocks=lambda hp, depth: block_names(depth, getattr(hp, "frozen_bias", 0)),
            step_block=step,
        ),
    )
