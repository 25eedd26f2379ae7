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
Reference: Wang, Yu, Chen and Zhao, "ADMM for efficient deep learning with global convergence", KDD 2019,
arXiv 1905.13611.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.backtracking import doubled
from am.cross_entropy import FISTA_TOLERANCE, cross_entropy, fista_cross_entropy, prox_cross_entropy, signed_labels
from am.linalg import correlate, gram, gram_multiply_adds, inner, linear, square, worthwhile
from am.method import ByHand, Cost, Log, Method, Problem, needs_hidden_layer, setting
from am.networks import Parameters, forward, forward_variables
from am.stacks import run_by_run

SCHEDULE_RISES, SCHEDULE_FACTOR, SCHEDULE_RHO_MAX = 3, 10.0, 0.1  # the released schedule
SCHEDULE_WIDTH = 100  # it leaves theta and tau alone where the first hidden layer is narrower

_SCHEDULE = "after three rises of the training cost in a row: rho x 10 up to 0.1; theta_0, tau_0 x 10 at width >= 100"
_IMAGES = "train on the first so many images only"


@dataclass(frozen=True)
class Hyperparameters:
    rho: float = setting(1e-6, "weight of the layer equations and of a = h(z)", search=Log(1e-6, 0.1), low=1e-12)
    theta_0: float = setting(
        1.0, "first trial of a weight's curvature", search=Log(1e-4, 1.0), low=1e-12, per_rows=True
    )
    tau_0: float = setting(1.0, "first trial of an activation's curvature", search=Log(1e-6, 1.0), low=1e-12)
    keep_step_sizes: bool = setting(False, "the next call's first trial is the value accepted last")
    output_step: str = setting(
        "fista", "z_L by the released FISTA rule, or the exact proximal point", choices=("fista", "exact")
    )
    fista_tolerance: float = setting(
        FISTA_TOLERANCE, "change of its objective at which FISTA stops", low=0.0, per_rows=True
    )
    rho_schedule: bool = setting(False, _SCHEDULE)
    images: int = setting(0, _IMAGES + "; 0 for all", low=0)


@dataclass(frozen=True)
class ReleasedHyperparameters(Hyperparameters):
    rho_schedule: bool = setting(True, _SCHEDULE)
    images: int = setting(55_000, _IMAGES, low=1)


@dataclass
class DladmmState:
    """The variables of R runs and what they carry over.

    z, a, u: (R, N, d_l), u of layer L.  products[l]: a_{l-1} W_l^T + b_l at the current variables.  gram[l], total[l]:
    a^T a and the column sums of layer l's input, shared by all runs for l = 1.  rho: (R, 1, 1).  theta, tau: first
    trials of each W_l and a_l.  rises: how often in a row the training cost `cost`, both (R, 1, 1), has risen.
    flops: (R,) int64, of the matrix products of every run since the start.
    """

    params: Parameters
    z: list[Tensor]
    a: list[Tensor]
    u: Tensor
    products: list[Tensor]
    gram: list[Tensor]
    total: list[Tensor]
    rho: Tensor
    theta: list[Tensor]
    tau: list[Tensor]
    cost: Tensor
    rises: Tensor
    flops: Tensor

    def charge(self, multiply_adds: int, runs: Tensor | bool = True) -> None:  # runs: (R, 1, 1) bool
        """Count a matrix product, in the runs that would make it if they were alone."""
        self.flops += 2 * multiply_adds * torch.as_tensor(runs, device=self.flops.device).flatten()


def images(problem: Problem, hp: SimpleNamespace) -> tuple[Tensor, Tensor]:  # (n, d0), (n,)
    """The images that are trained on, and their labels."""
    return problem.x[: hp.images or None], problem.y[: hp.images or None]


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> DladmmState:
    x, y = images(problem, hp)
    params = params.clone()
    z, a = forward_variables(x, params, problem.activation)
    z[-1] = signed_labels(y, z[-1].shape[2], z[-1])
    inputs, L = [x, *a], len(z)
    state = DladmmState(
        params=params,
        z=z,
        a=a,
        u=torch.zeros_like(z[-1]),
        products=[torch.empty_like(v) for v in z],
        gram=[x.new_empty(*v.shape[:-2], v.shape[-1], v.shape[-1]) for v in inputs],
        total=[x.new_empty(*v.shape[:-2], 1, v.shape[-1]) for v in inputs],
        rho=hp.rho.clone(),
        theta=[hp.theta_0.clone() for _ in range(L)],
        tau=[hp.tau_0.clone() for _ in range(L - 1)],
        cost=torch.full_like(hp.rho, torch.inf, dtype=torch.float64),
        rises=torch.zeros_like(hp.rho, dtype=torch.int64),
        flops=torch.zeros(params.runs, dtype=torch.int64, device=x.device),
    )
    state.gram[0].copy_(gram(x))
    state.total[0].copy_(x.sum(0, keepdim=True))
    refresh(state, problem, hp)
    return state


@run_by_run
def refresh(state: DladmmState, problem: Problem, hp: SimpleNamespace, names: Sequence[str] = ()) -> None:
    """What the state carries of W, b and a, computed from them."""
    for l, v in enumerate([images(problem, hp)[0], *state.a]):
        if l:
            state.gram[l].copy_(gram(v))
            state.total[l].copy_(v.sum(1, keepdim=True))
        state.products[l].copy_(linear(v, state.params.W[l], state.params.b[l]))


@run_by_run
def step(state: DladmmState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    if hp.rho_schedule:
        _follow_schedule(state)
    x, y = images(problem, hp)
    act, params, z, a, rho, widths = problem.activation, state.params, state.z, state.a, state.rho, state.params.widths
    L, N, one = len(z), len(x), torch.ones_like(state.rho)
    target, target_total = [*z], [*state.total]

    def data_products(l: int) -> int:  # of one pass of layer l's input through W_l, or back
        return N * widths[l] * widths[l + 1]

    def bias(l: int) -> None:
        params.b[l].copy_(bias_block(params.W[l], state.total[l], target_total[l], N))
        state.charge(widths[l] * widths[l + 1])

    def weight(l: int, C: Tensor) -> None:
        W, theta = weight_block(
            W=params.W[l],
            b=params.b[l],
            G=state.gram[l],
            C=C,
            total=state.total[l],
            weight=rho,
            theta0=state.theta[l],
        )
        params.W[l].copy_(W)
        state.charge(2 * widths[l] ** 2 * widths[l + 1])
        if hp.keep_step_sizes:
            state.theta[l].copy_(theta)

    def activation(l: int) -> None:
        tau, asked = activation_block(
            a[l],
            W=params.W[l + 1],
            b=params.b[l + 1],
            target=target[l + 1],
            centre=act.value(z[l]),
            weight=rho,
            pull=one,
            tau0=state.tau[l],
        )
        state.charge(activation_multiply_adds(N, widths[l + 1], widths[l + 2]))
        state.charge(data_products(l + 1), asked)
        if hp.keep_step_sizes:
            state.tau[l].copy_(tau)

    for l in reversed(range(L)):
        if l == L - 1:
            output_block(state, y, hp)
            target[l] = z[l] + state.u / rho
        else:
            act.prox(state.products[l], a[l], one, out=z[l])
        target_total[l] = target[l].sum(1, keepdim=True)
        C = correlate(target[l], a[l - 1] if l else x)
        state.charge(data_products(l))
        bias(l)
        weight(l, C)
        if l:
            activation(l - 1)
    for l in range(L):
        if l:
            state.gram[l].copy_(gram(a[l - 1]))
            state.total[l].copy_(a[l - 1].sum(1, keepdim=True))
            C = correlate(target[l], a[l - 1])
            state.charge(gram_multiply_adds(N, widths[l]) + data_products(l))
        weight(l, C)
        bias(l)
        state.products[l].copy_(linear(a[l - 1] if l else x, params.W[l], params.b[l]))
        state.charge(data_products(l))
        if l < L - 1:
            act.prox(state.products[l], a[l], one, out=z[l])
            activation(l)
        else:
            output_block(state, y, hp)
    state.u.addcmul_(z[-1] - state.products[-1], rho)
    if hp.rho_schedule:
        _record_cost(state, problem, y)
        state.charge(sum(data_products(l) for l in range(1, L)))


def blocks(hp: SimpleNamespace, depth: int) -> list[str]:
    """z_L, b_L, W_L, a_{L-1}, z_{L-1}, ..., W_1, then W_1, b_1, z_1, a_1, ..., z_L, and u."""
    back = [f"{kind}{l}" for l in range(depth, 0, -1) for kind in "azbW"]
    forth = [f"{kind}{l}" for l in range(1, depth + 1) for kind in "Wbza"]
    return [name for name in (*back, *forth) if name != f"a{depth}"] + ["u"]


@run_by_run
def step_block(state: DladmmState, problem: Problem, hp: SimpleNamespace, k: int, name: str) -> None:
    """The sub-problem of one block, from the other variables as they stand."""
    x, y = images(problem, hp)
    act, params, z, a, rho, L = problem.activation, state.params, state.z, state.a, state.rho, len(state.z)
    l = int(name[1:] or L) - 1
    target = [*z[:-1], z[-1] + state.u / rho]
    if name == "u":
        state.u.addcmul_(z[-1] - state.products[-1], rho)
    elif name[0] == "W":
        C, shared = correlate(target[l], a[l - 1] if l else x), dict(G=state.gram[l], total=state.total[l])
        W, theta = weight_block(W=params.W[l], b=params.b[l], C=C, weight=rho, theta0=state.theta[l], **shared)
        params.W[l].copy_(W)
        if hp.keep_step_sizes:
            state.theta[l].copy_(theta)
    elif name[0] == "b":
        params.b[l].copy_(bias_block(params.W[l], state.total[l], target[l].sum(1, keepdim=True), len(x)))
    elif name[0] == "a":
        following = dict(W=params.W[l + 1], b=params.b[l + 1], target=target[l + 1])
        tau, _ = activation_block(
            a[l], centre=act.value(z[l]), weight=rho, pull=torch.ones_like(rho), tau0=state.tau[l], **following
        )
        if hp.keep_step_sizes:
            state.tau[l].copy_(tau)
    elif l < L - 1:
        act.prox(state.products[l], a[l], torch.ones_like(rho), out=z[l])
    else:
        output_block(state, y, hp)
    refresh(state, problem, hp)


def output_block(state: DladmmState, y: Tensor, hp: SimpleNamespace) -> None:
    """z_L: the proximal point of the cross-entropy at a_{L-1} W_L^T + b_L - u / rho."""
    c, z = state.products[-1] - state.u / state.rho, state.z[-1]
    if hp.output_step == "exact":
        z.copy_(prox_cross_entropy(c, y, state.rho, near=z))
    else:
        z.copy_(fista_cross_entropy(c, y, state.rho, z, hp.exact.fista_tolerance))


def weight_block(
    *,
    W: Tensor,  # (R, d_l, d_{l-1})
    b: Tensor,  # (R, 1, d_l)
    G: Tensor,  # (R, d_{l-1}, d_{l-1}) or (d_{l-1}, d_{l-1})
    C: Tensor,  # (R, d_l, d_{l-1})
    total: Tensor,  # (R, 1, d_{l-1}) or (1, d_{l-1})
    weight: Tensor,  # (R, 1, 1)
    theta0: Tensor,  # (R, 1, 1)
) -> tuple[Tensor, Tensor]:
    """W_l: a gradient step on weight/2 ||t - a W^T - b||^2 with theta by doubling. Returns W_l and theta.

    The data enter as G = a^T a, C = t^T a and total = the sum of a's rows alone.
    """
    g = W @ G + b.mT * total - C  # the gradient, but for the weight
    theta = doubled(theta0, weight * inner(g, g @ G) / square(g))
    return torch.addcmul(W, g, -weight / theta), theta


def bias_block(W: Tensor, total: Tensor, target_total: Tensor, n: int) -> Tensor:
    # (R, d_l, d_{l-1}), (R, 1, d_{l-1}) or (1, d_{l-1}), (R, 1, d_l) -> (R, 1, d_l)
    """b_l: the minimiser mean_n(t_n - W a_n) of ||t - a W^T - b||^2, from sums over n rows alone."""
    return (target_total - total @ W.mT) / n


def activation_block(
    a: Tensor,  # (R, N, d_l)
    *,
    W: Tensor,  # (R, d_{l+1}, d_l)
    b: Tensor,  # (R, 1, d_{l+1})
    target: Tensor,  # (R, N, d_{l+1})
    centre: Tensor,  # (R, N, d_l), overwritten
    weight: Tensor,  # (R, 1, 1)
    pull: Tensor,  # (R, 1, 1)
    tau0: Tensor,  # (R, 1, 1)
) -> tuple[Tensor, Tensor]:
    """a_l: a gradient step on weight/2 (||t - a W^T - b||^2 + pull ||a - centre||^2) with tau by doubling, in place.

    W, b and t = `target` are layer l+1's. Returns tau, and the runs in which it took a product with the data,
    (R, 1, 1) bool.
    """
    g = torch.sub(a, centre, out=centre).mul_(pull).add_(b @ W)
    torch.baddbmm(g, torch.baddbmm(target, a, W.mT, beta=-1), W, out=g)  # the gradient, but for the weight
    M = W @ W.mT if W.shape[1] < W.shape[2] else W.mT @ W
    # ||M||_F bounds the largest eigenvalue of W^T W: where tau_0 is above the bound, it is accepted as it stands.
    tau, asked = tau0, tau0 < weight * (pull + square(M).sqrt())
    if worthwhile(asked):
        tau = doubled(tau0, weight * (pull + square(g @ W.mT) / square(g)))
    a.addcmul_(g, -weight / tau)
    return tau, asked


def activation_multiply_adds(rows: int, d: int, d_next: int) -> int:
    """What `activation_block` of (rows, d) costs in every run."""
    return d * d_next * (2 * rows + 1 + min(d, d_next))


def _record_cost(state: DladmmState, problem: Problem, y: Tensor) -> None:
    """The network's mean cross-entropy on the training images; its layer 1 is `products[0]`."""
    params, a = state.params, problem.activation.value(state.products[0])
    logits = forward(a, Parameters(params.W[1:], params.b[1:]), problem.activation)[-1]
    cost = cross_entropy(logits, y).view(-1, 1, 1) / len(y)
    state.rises.copy_(torch.where(cost > state.cost, state.rises + 1, 0))
    state.cost.copy_(cost)


def _follow_schedule(state: DladmmState) -> None:
    """What the released code does at the end of an iteration whose cost rose for the third time, or more, in a row."""
    due = state.rises >= SCHEDULE_RISES
    state.rho.copy_(torch.where(due, (SCHEDULE_FACTOR * state.rho).clamp(max=SCHEDULE_RHO_MAX), state.rho))
    if state.params.widths[1] >= SCHEDULE_WIDTH:
        for trial in (*state.theta, *state.tau):
            trial.copy_(torch.where(due, SCHEDULE_FACTOR * trial, trial))


@run_by_run
def objective(state: DladmmState, problem: Problem, hp: SimpleNamespace) -> Tensor:  # (R,) float64
    """The augmented Lagrangian L at the current variables."""
    value = cross_entropy(state.z[-1], images(problem, hp)[1])
    value = value + inner(state.u, state.z[-1] - state.products[-1]).flatten()
    gaps = [square(z - c) for z, c in zip(state.z, state.products)]
    gaps += [square(a - problem.activation.value(z)) for z, a in zip(state.z, state.a)]
    return value + (state.rho / 2 * sum(gaps)).flatten()


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
        asks=True,
        monotone_only=True,
        requires=needs_hidden_layer,
        cost=Cost(updates=lambda depth, hp: 2 * depth, gradients=lambda depth, hp: 2 * (4 * depth - 1)),
        by_hand=ByHand(objective, variables, refresh, blocks, step_block),
    )


METHOD = _method("dladmm", "dlADMM", Hyperparameters)
RELEASED = _method("dladmm-released", "dlADMM (released)", ReleasedHyperparameters)
