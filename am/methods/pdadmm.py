"""pdADMM: a network split into layers that step in parallel, each from the last iterates of its neighbours.

Minimises R(z_L, y) + nu/2 sum_l (||z_l - p_l W_l^T - b_l||^2 + ||q_l - h(z_l)||^2), p_1 = X, the second term for l < L,
subject to p_{l+1} = q_l, with multipliers u_l and penalty rho (SPEC 10). One iteration, each line for all layers at
once, of which only the lines of p and q read another layer:

    p_l  one gradient step on nu/2 ||z_l - p_l W_l^T - b_l||^2 + <u_{l-1}, p_l> + rho/2 ||p_l - q_{l-1}||^2, l > 1
    W_l  one gradient step on nu/2 ||z_l - p_l W_l^T - b_l||^2
    b_l  mean_n(z_l - p_l W_l^T)
    z_l  argmin ||z - c||^2 + ||q_l - h(z)||^2 by element, c = p_l W_l^T + b_l; z_L the proximal point of R
    q_l  (rho p_{l+1} + u_l + nu h(z_l)) / (rho + nu), l < L
    u_l  u_l + rho (p_{l+1} - q_l)

Our readings, where the paper is silent or does otherwise: z, p and q start at a forward pass, z_L at +1 at the label
and -1 elsewhere, u at 0; gradient steps backtrack by doubling from tau_0 and theta_0 in every call (released: from 20,
and they give up after 10 doublings); b_l is exact; z_l has no proximal term; z_L is exact.

Cost per step: layer 1 makes two passes over the data, for its Gram matrix is constant; each layer above it about five
products of N d_l d_{l-1} multiply-adds. No trial touches the data.
Reference: Wang, Chai, Cheng and Zhao, "Toward model parallelism for deep neural network based on gradient-free ADMM
framework", ICDM 2020, arXiv 2009.02868.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.cross_entropy import cross_entropy, prox_cross_entropy, signed_labels
from am.linalg import correlate, gram, gram_multiply_adds, inner, linear, square
from am.method import ByHand, Cost, Log, Method, Problem, needs_hidden_layer, setting
from am.methods.dladmm import activation_block, activation_multiply_adds, bias_block, weight_block
from am.networks import Parameters, forward_variables
from am.stacks import run_by_run


@dataclass(frozen=True)
class Hyperparameters:
    nu: float = setting(1e-2, "weight of the layer equations and of q = h(z)", search=Log(1e-4, 1.0), low=1e-12)
    rho: float = setting(1e-2, "penalty of p_{l+1} = q_l", search=Log(1e-4, 1.0), low=1e-12)
    theta_0: float = setting(
        1.0, "first trial of a weight's curvature", search=Log(1e-4, 1.0), low=1e-12, per_rows=True
    )
    tau_0: float = setting(1e-2, "first trial of an input's curvature", search=Log(1e-4, 1.0), low=1e-12)


@dataclass
class PdadmmState:
    """The variables of R runs, (R, N, d_l) each, and the sums of the data.

    z: z_1 .. z_L.  p: p_2 .. p_L.  q, u: q_1 .. q_{L-1} and their multipliers.
    gram, total: X^T X, (d0, d0), and the column sums of X, (1, d0).
    flops: (R,) int64, of the matrix products of every run since the start.
    """

    params: Parameters
    z: list[Tensor]
    p: list[Tensor]
    q: list[Tensor]
    u: list[Tensor]
    gram: Tensor
    total: Tensor
    flops: Tensor


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> PdadmmState:
    x, params = problem.x, params.clone()
    z, q = forward_variables(x, params, problem.activation)
    z[-1] = signed_labels(problem.y, z[-1].shape[2], z[-1])
    p, u = [v.clone() for v in q], [torch.zeros_like(v) for v in q]
    flops = torch.zeros(params.runs, dtype=torch.int64, device=x.device)
    return PdadmmState(params, z, p, q, u, gram(x), x.sum(0, keepdim=True), flops)


@run_by_run
def step(state: PdadmmState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    params, z, p, q, u, widths = state.params, state.z, state.p, state.q, state.u, state.params.widths
    x, act, nu, rho, one = problem.x, problem.activation, hp.nu, hp.rho, torch.ones_like(hp.nu)
    N, L, multiply_adds = len(x), len(z), 0
    for l in range(1, L):
        W, b = params.W[l], params.b[l]
        centre = torch.addcdiv(q[l - 1], u[l - 1], rho, value=-1)
        _, asked = activation_block(
            p[l - 1], W=W, b=b, target=z[l], centre=centre, weight=nu, pull=rho / nu, tau0=hp.tau_0
        )
        multiply_adds += activation_multiply_adds(N, *widths[l : l + 2])
        state.flops += 2 * N * W[0].numel() * asked.flatten()
    for l, (v, W, b) in enumerate(zip([x, *p], params.W, params.b)):
        G, total = (gram(v), v.sum(1, keepdim=True)) if l else (state.gram, state.total)
        data = dict(G=G, C=correlate(z[l], v), total=total)
        W.copy_(weight_block(W=W, b=b, **data, weight=nu, theta0=hp.theta_0)[0])
        b.copy_(bias_block(W, total, z[l].sum(1, keepdim=True), N))
        c = linear(v, W, b)
        if l < L - 1:
            act.prox(c, q[l], one, out=z[l])
        else:
            z[l].copy_(prox_cross_entropy(c, problem.y, nu, near=z[l]))
        multiply_adds += (2 * N + 2 * widths[l] + 1) * W[0].numel() + (gram_multiply_adds(N, widths[l]) if l else 0)
    for l in range(L - 1):
        q[l].copy_(act.value(z[l]).mul_(nu).addcmul_(p[l], rho).add_(u[l]).div_(rho + nu))
        u[l].addcmul_(p[l] - q[l], rho)
    state.flops += 2 * multiply_adds


@run_by_run
def objective(state: PdadmmState, problem: Problem, hp: SimpleNamespace) -> Tensor:  # (R,) float64
    """The augmented Lagrangian: what is minimised, with <u_l, p_{l+1} - q_l> + rho/2 ||p_{l+1} - q_l||^2."""
    params, value = state.params, cross_entropy(state.z[-1], problem.y).view(-1, 1, 1)
    for z, v, W, b in zip(state.z, [problem.x, *state.p], params.W, params.b):
        value = value + hp.exact.nu / 2 * square(linear(v, W, b).sub_(z))
    for z, p, q, u in zip(state.z, state.p, state.q, state.u):
        value = value + hp.exact.nu / 2 * square(q - problem.activation.value(z))
        value = value + inner(u, p - q) + hp.exact.rho / 2 * square(p - q)
    return value.flatten()


def variables(state: PdadmmState) -> dict[str, Tensor]:
    """z1 .. zL, p2 .. pL, q1 .. q{L-1} and u1 .. u{L-1}."""
    named = {f"z{l}": z for l, z in enumerate(state.z, 1)} | {f"p{l}": p for l, p in enumerate(state.p, 2)}
    return named | {f"{kind}{l}": v for kind in "qu" for l, v in enumerate(getattr(state, kind), 1)}


METHOD = Method(
    name="pdadmm",
    title="pdADMM",
    family="full-batch AM",
    full_batch=True,
    asks=True,
    monotone_only=True,
    requires=needs_hidden_layer,
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    cost=Cost(gradients=lambda depth, settings: 2 * depth - 1),
    by_hand=ByHand(objective=objective, variables=variables),
)
