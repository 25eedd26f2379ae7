"""dlADMM: backward then forward sweeps over the augmented Lagrangian of a network whose layers are split.

L = R(z_L) + <u, z_L - a_{L-1} W_L^T - b_L> + rho/2 sum_l ||z_l - a_{l-1} W_l^T - b_l||^2
  + rho/2 sum_{l<L} ||a_l - h(z_l)||^2  (SPEC 4).
One iteration visits z_L, b_L, W_L, a_{L-1}, z_{L-1}, ..., z_1, b_1, W_1, then W_1, b_1, z_1, a_1, ..., W_L, b_L, z_L,
then u += rho (z_L - a_{L-1} W_L^T - b_L). b_l and the hidden z_l are exact minimisers, W_l and a_l take one gradient
step with backtracking by doubling, z_L is FISTA's or the exact proximal point.

Both methods share every sub-problem; `dladmm-released` turns on what the released code does beyond the paper:
`rho_schedule` and `images`. Our readings: backtracking starts from theta_0 = tau_0 = 1 in every call, as released, for
the paper leaves the first trial open (`keep_step_sizes` carries the accepted value on); z_L starts at +1 at the label
and -1 elsewhere; z_L is found by the released FISTA rule, step 4 and its stop included (`output_step`). The released
code also draws every tensor from the same seed: that is the initialisation's to do.

Cost per step: two passes over the data in layer 1, as its Gram matrix is constant and a_0 W_1^T + b_1 serves the next
backward sweep too; above it, about nine products of N d_l d_{l-1} multiply-adds per layer. No trial touches the data.
Reference: Wang, Yu, Chen and Zhao, "ADMM for efficient deep learning with global convergence", KDD 2019.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from am.activations import Activation
from am.backtracking import doubled
from am.cross_entropy import cross_entropy, fista_cross_entropy, prox_cross_entropy, signed_labels
from am.linalg import correlate, gram, inner, linear, square, worthwhile
from am.method import Log, Method, Problem, needs_hidden_layer, setting
from am.networks import Parameters, forward, forward_variables

SCHEDULE_RISES, SCHEDULE_FACTOR, SCHEDULE_RHO_MAX = 3, 10.0, 0.1  # the released schedule
SCHEDULE_WIDTH = 100  # it leaves theta and tau alone where the first hidden layer is narrower

_SCHEDULE = "after three rises of the training cost in a row: rho x 10 up to 0.1; theta_0, tau_0 x 10 at width >= 100"
_IMAGES = "train on the first so many images only"


@dataclass(frozen=True)
class Hyperparameters:
    rho: float = setting(1e-6, "weight of the layer equations and of a = h(z)", search=Log(1e-6, 0.1), low=1e-12)
    theta_0: float = setting(1.0, "first trial of a weight's curvature", search=Log(1e-4, 1.0), low=1e-12)
    tau_0: float = setting(1.0, "first trial of an activation's curvature", search=Log(1e-6, 1.0), low=1e-12)
    keep_step_sizes: bool = setting(False, "the next call's first trial is the value accepted last")
    output_step: str = setting(
        "fista", "z_L by the released FISTA rule, or the exact proximal point", choices=("fista", "exact")
    )
    rho_schedule: bool = setting(False, _SCHEDULE)
    images: int = setting(0, _IMAGES + "; 0 for all", low=0)


@dataclass(frozen=True)
class ReleasedHyperparameters(Hyperparameters):
    rho_schedule: bool = setting(True, _SCHEDULE)
    images: int = setting(55_000, _IMAGES, low=1)


@dataclass
class DladmmState:
    """The variables of R runs and what they share or carry over.

    z, a, u: (R, N, d_l), u of layer L.  forward[l]: a_{l-1} W_l^T + b_l at the current variables.  gram[l], total[l]:
    a^T a and the column sums of layer l's input.  rho: (R, 1, 1).  theta, tau: first trials of each W_l and a_l.
    rises: how often in a row the training cost `cost`, both (R, 1, 1), has risen.
    """

    params: Parameters
    z: list[Tensor]
    a: list[Tensor]
    u: Tensor
    x: Tensor
    y: Tensor
    forward: list[Tensor]
    gram: list[Tensor]
    total: list[Tensor]
    rho: Tensor
    theta: list[Tensor]
    tau: list[Tensor]
    cost: Tensor
    rises: Tensor

    def inputs(self, l: int) -> Tensor:  # (R, N, d_{l-1}), or (N, d0)
        return self.a[l - 1] if l else self.x


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> DladmmState:
    rows = slice(hp.images or None)
    x, y = problem.x[rows], problem.y[rows]
    params = params.clone()
    z, a = forward_variables(x, params, problem.activation)
    products = [zl.clone() for zl in z]
    z[-1] = signed_labels(y, z[-1].shape[2], z[-1])
    inputs, L = [x, *a], len(z)
    return DladmmState(
        params,
        z,
        a,
        torch.zeros_like(z[-1]),
        x,
        y,
        products,
        [gram(v) for v in inputs],
        [v.sum(-2, keepdim=True) for v in inputs],
        hp.rho.clone(),
        [hp.theta_0.clone() for _ in range(L)],
        [hp.tau_0.clone() for _ in range(L - 1)],
        torch.full_like(hp.rho, torch.inf, dtype=torch.float64),
        torch.zeros_like(hp.rho, dtype=torch.int64),
    )


def step(state: DladmmState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    if hp.rho_schedule:
        _follow_schedule(state)
    act, params, z, a, rho = problem.activation, state.params, state.z, state.a, state.rho
    L, one = len(z), torch.ones_like(state.rho)
    target, target_total = [*z], [*state.total]

    def bias(l: int) -> None:
        params.b[l] = bias_step(params.W[l], state.total[l], target_total[l], len(state.x))

    def weight(l: int, C: Tensor) -> None:
        W, b, G, total = params.W[l], params.b[l], state.gram[l], state.total[l]
        params.W[l], theta = weight_step(W, b, G, C, total, rho, state.theta[l])
        state.theta[l] = theta if hp.keep_step_sizes else state.theta[l]

    def activation(l: int) -> None:
        W, b = params.W[l + 1], params.b[l + 1]
        a[l], tau = activation_step(a[l], z[l], W, b, target[l + 1], act, rho, state.tau[l])
        state.tau[l] = tau if hp.keep_step_sizes else state.tau[l]

    for l in reversed(range(L)):
        if l == L - 1:
            z[l] = output_block(state, hp)
            target[l] = z[l] + state.u / rho
        else:
            target[l] = act.prox(state.forward[l], a[l], one, out=z[l])
        target_total[l] = target[l].sum(1, keepdim=True)
        C = correlate(target[l], state.inputs(l))
        bias(l)
        weight(l, C)
        if l:
            activation(l - 1)
    for l in range(L):
        if l:
            state.gram[l], state.total[l] = gram(a[l - 1]), a[l - 1].sum(1, keepdim=True)
            C = correlate(target[l], a[l - 1])
        weight(l, C)
        bias(l)
        state.forward[l] = linear(state.inputs(l), params.W[l], params.b[l])
        if l < L - 1:
            act.prox(state.forward[l], a[l], one, out=z[l])
            activation(l)
        else:
            z[l] = output_block(state, hp)
    state.u = torch.addcmul(state.u, z[-1] - state.forward[-1], rho)
    if hp.rho_schedule:
        _record_cost(state, problem)


def refresh(state: DladmmState, *_: Any) -> None:
    """What the state keeps of its variables, from the variables."""
    inputs = [state.x, *state.a]
    state.forward = [linear(a, W, b) for a, W, b in zip(inputs, state.params.W, state.params.b)]
    state.gram, state.total = [gram(a) for a in inputs], [a.sum(-2, keepdim=True) for a in inputs]


def blocks(hp: SimpleNamespace, depth: int) -> list[str]:
    """z_L, b_L, W_L, a_{L-1}, z_{L-1}, ..., W_1, then W_1, b_1, z_1, a_1, ..., z_L, and u."""
    back = [f"{kind}{l}" for l in range(depth, 0, -1) for kind in "azbW"]
    forth = [f"{kind}{l}" for l in range(1, depth + 1) for kind in "Wbza"]
    return [name for name in (*back, *forth) if name != f"a{depth}"] + ["u"]


def step_block(state: DladmmState, problem: Problem, hp: SimpleNamespace, k: int, name: str) -> None:
    """The sub-problem of one block, from the other variables as they stand."""
    refresh(state)
    act, params, z, a, rho, L = problem.activation, state.params, state.z, state.a, state.rho, len(state.z)
    l = int(name[1:] or L) - 1
    target = [*z[:-1], z[-1] + state.u / rho]
    if name == "u":
        state.u = torch.addcmul(state.u, z[-1] - state.forward[-1], rho)
    elif name[0] == "W":
        W, b, G, total = params.W[l], params.b[l], state.gram[l], state.total[l]
        C = correlate(target[l], state.inputs(l))
        params.W[l], theta = weight_step(W, b, G, C, total, rho, state.theta[l])
        state.theta[l] = theta if hp.keep_step_sizes else state.theta[l]
    elif name[0] == "b":
        params.b[l] = bias_step(params.W[l], state.total[l], target[l].sum(1, keepdim=True), len(state.x))
    elif name[0] == "a":
        W, b = params.W[l + 1], params.b[l + 1]
        a[l], tau = activation_step(a[l], z[l], W, b, target[l + 1], act, rho, state.tau[l])
        state.tau[l] = tau if hp.keep_step_sizes else state.tau[l]
    elif l < L - 1:
        act.prox(state.forward[l], a[l], torch.ones_like(rho), out=z[l])
    else:
        z[l] = output_block(state, hp)
    refresh(state)


def output_block(state: DladmmState, hp: SimpleNamespace) -> Tensor:  # (R, N, d_L)
    """z_L of dlADMM: the proximal point of the cross-entropy at a_{L-1} W_L^T + b_L - u / rho."""
    c, z = state.forward[-1] - state.u / state.rho, state.z[-1]
    if hp.output_step == "exact":
        return prox_cross_entropy(c, state.y, state.rho, near=z)
    return fista_cross_entropy(c, state.y, state.rho, z)


def weight_step(
    W: Tensor,  # (R, d_l, d_{l-1})
    b: Tensor,  # (R, 1, d_l)
    G: Tensor,  # (R, d_{l-1}, d_{l-1}) or (d_{l-1}, d_{l-1})
    C: Tensor,  # (R, d_l, d_{l-1})
    total: Tensor,  # (R, 1, d_{l-1}) or (1, d_{l-1})
    rho: Tensor,  # (R, 1, 1)
    theta0: Tensor,  # (R, 1, 1)
) -> tuple[Tensor, Tensor]:
    """W_l of dlADMM: a gradient step on rho/2 ||t - a W^T - b||^2 with theta by doubling. Returns W_l and theta.

    The data enter as G = a^T a, C = t^T a and total = the sum of a's rows alone.
    """
    g = W @ G + b.mT * total - C  # the gradient, but for rho
    theta = doubled(theta0, rho * inner(g, g @ G) / square(g))
    return torch.addcmul(W, g, -rho / theta), theta


def bias_step(W: Tensor, total: Tensor, target_total: Tensor, n: int) -> Tensor:
    # (R, d_l, d_{l-1}), (R, 1, d_{l-1}) or (1, d_{l-1}), (R, 1, d_l) -> (R, 1, d_l)
    """b_l of dlADMM: the minimiser mean_n(t_n - W a_n) of rho/2 ||t - a W^T - b||^2, from sums over n rows alone."""
    return (target_total - total @ W.mT) / n


def activation_step(
    a: Tensor,  # (R, N, d_l)
    z: Tensor,  # (R, N, d_l)
    W: Tensor,  # (R, d_{l+1}, d_l)
    b: Tensor,  # (R, 1, d_{l+1})
    target: Tensor,  # (R, N, d_{l+1})
    act: Activation,
    rho: Tensor,  # (R, 1, 1)
    tau0: Tensor,  # (R, 1, 1)
) -> tuple[Tensor, Tensor]:
    """a_l of dlADMM: a gradient step on rho/2 (||t - a W^T - b||^2 + ||a - h(z_l)||^2) with tau by doubling, l < L.

    W, b and t = `target` are layer l+1's. Returns a_l and tau.
    """
    g = act.value(z)
    g = torch.sub(a, g, out=g).add_(b @ W)
    g.baddbmm_(torch.baddbmm(target, a, W.mT, beta=-1), W)  # the gradient, but for rho
    M = W @ W.mT if W.shape[1] < W.shape[2] else W.mT @ W
    # ||M||_F bounds the largest eigenvalue of W^T W: where tau_0 is above the bound, it is accepted as it stands.
    if worthwhile(tau0 < rho * (1 + square(M).sqrt())):
        tau = doubled(tau0, rho * (1 + square(g @ W.mT) / square(g)))
    else:
        tau = tau0
    return torch.addcmul(a, g, -rho / tau), tau


def _record_cost(state: DladmmState, problem: Problem) -> None:
    """The network's mean cross-entropy on the training images; its layer 1 is `forward[0]`."""
    params, a = state.params, problem.activation.value(state.forward[0])
    logits = forward(a, Parameters(params.W[1:], params.b[1:]), problem.activation)[-1]
    cost = cross_entropy(logits, state.y).view(-1, 1, 1) / len(state.y)
    state.rises = torch.where(cost > state.cost, state.rises + 1, 0)
    state.cost = cost


def _follow_schedule(state: DladmmState) -> None:
    """What the released code does at the end of an iteration whose cost rose for the third time, or more, in a row."""
    due = state.rises >= SCHEDULE_RISES
    state.rho = torch.where(due, (SCHEDULE_FACTOR * state.rho).clamp(max=SCHEDULE_RHO_MAX), state.rho)
    if state.params.widths[1] >= SCHEDULE_WIDTH:
        state.theta = [torch.where(due, SCHEDULE_FACTOR * t, t) for t in state.theta]
        state.tau = [torch.where(due, SCHEDULE_FACTOR * t, t) for t in state.tau]


def objective(state: DladmmState, problem: Problem, hp: SimpleNamespace) -> Tensor:  # (R,) float64
    """The augmented Lagrangian L at the current variables."""
    value = cross_entropy(state.z[-1], state.y)
    value = value + inner(state.u, state.z[-1] - state.forward[-1]).flatten()
    gaps = sum(square(z - c) for z, c in zip(state.z, state.forward))
    gaps = gaps + sum(square(a - problem.activation.value(z)) for z, a in zip(state.z, state.a))
    return value + (state.rho / 2 * gaps).flatten()


def variables(state: DladmmState) -> dict[str, Tensor]:
    """z1 .. zL, a1 .. a{L-1} and u."""
    named = {f"z{l}": z for l, z in enumerate(state.z, 1)} | {f"a{l}": a for l, a in enumerate(state.a, 1)}
    return named | {"u": state.u}


def _method(name: str, title: str, hyperparameters: type) -> Method:
    return Method(
        name=name,
        title=title,
        family="full-batch AM",
        hyperparameters=hyperparameters,
        init=init,
        step=step,
        full_batch=True,
        updates=lambda depth, hp: 2 * depth,
        gradients=lambda depth, hp: 2 * (4 * depth - 1),
        monotone_only=True,
        objective=objective,
        variables=variables,
        requires=needs_hidden_layer,
        refresh=refresh,
        blocks=blocks,
        step_block=step_block,
    )


METHOD = _method("dladmm", "dlADMM", Hyperparameters)
RELEASED = _method("dladmm-released", "dlADMM (released)", ReleasedHyperparameters)
