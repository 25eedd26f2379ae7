"""mDLAM: full-batch alternating minimisation of the penalised problem with Nesterov extrapolation of every block.

s_{k+1} = (1 + sqrt(1 + 4 s_k^2)) / 2, omega_k = (s_k - 1) / s_{k+1}; each block steps from
u^k + omega_k (u^k - u^{k-1}), and again from u^k where its objective rose (SPEC 1): the sweep of TIAM with inertia
(omega_k, omega_k, 0). s_0 = 0 (the released start, and FISTA's indexing) is our reading.

`mdlam-released` is what the authors' code does (SPEC 5): a plain alternating minimisation. Each divergence is a
setting, and the settings at the paper's values give `mdlam`. Divergences that no setting stands for:
- b_L is updated twice, the safeguards of b_l and z_l compare the wrong variable, and W_l's majoriser test counts the
  penalty twice. None moves an iterate: the steps of b_l and z_l reach the same minimiser from any start, and the test
  has the surplus on both sides.
- z_L is found by at most 500 FISTA steps; here it is exact. Bounds are missed by 1e-9; here they are met.
- Every tensor is drawn from the same seed: a matter of the initialisation, not of the method.

Cost per step: as TIAM's. Reference: Wang, Li and Zhao, "Accelerated gradient-free neural network training by
multi-convex alternating optimization", Neurocomputing 2022.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

from torch import Tensor

from am.linalg import square
from am.method import Log, Problem, setting
from am.networks import Parameters
from am.penalised import STEP_RULE, STEP_RULES, init_sweep, sweep, sweep_method, sweep_objective
from am.penalised_state import Rules, SweepState


@dataclass(frozen=True)
class Hyperparameters:
    rho: float = setting(1e-3, "weight of the layer equations", search=Log(1e-4, 1.0), low=1e-12)
    mu: float = setting(0.05, "weight decay", search=Log(1e-4, 1.0), low=0.0, per_rows=True)
    epsilon_0: float = setting(100.0, "first half-width of the activation constraint", low=0.0)
    epsilon_min: float = setting(1e-3, "last half-width of the activation constraint", search=Log(1e-4, 1.0), low=0.0)
    theta_0: float = setting(1.0, "first trial of theta in the steps of W_l", low=1e-12, per_rows=True)
    tau_0: float = setting(1.0, "first trial of tau in the steps of a_l", low=1e-12)
    step_rule: str = setting("backtracking", STEP_RULE, choices=STEP_RULES)


@dataclass(frozen=True)
class ReleasedHyperparameters(Hyperparameters):
    inertia: bool = setting(False, "blocks extrapolate; released: u^{k-1} is overwritten before u^k - u^{k-1} is taken")
    counter_advances: bool = setting(False, "s_k advances; released: it stays 0, so that omega, if used, is -1")
    frozen_bias: int = setting(2, "layer whose bias is never updated, 0 for none", low=0)
    max_doublings: int = setting(10, "doublings of theta or tau after which a block keeps its value", low=0, high=100)
    start_clip: bool = setting(False, "clip a_l into h(z_l) +- epsilon_k at the start of an iteration (our reading)")
    penalty_count: int = setting(2, "times that the objective and W_l's safeguard count mu/2 ||W_l||^2", low=1)
    stale_guard: bool = setting(True, "a_l's safeguard, l > 1, sets a_{l-1} back as well; of no effect without inertia")


def momentum(k: int) -> float:
    """omega_k of the Nesterov sequence that starts at s_0 = 0."""
    s = 0.0
    for _ in range(k + 1):
        last, s = s, (1 + (1 + 4 * s * s) ** 0.5) / 2
    return max((last - 1) / s, 0.0)  # at k = 0 there is no difference to extrapolate


def step(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int, block: str | None = None) -> None:
    omega = momentum(k)
    sweep(state, problem, hp, k, p1=omega, p2=omega, p3=0.0, block=block)


METHOD = sweep_method("mdlam", "mDLAM", Hyperparameters, step)


def released_init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> SweepState:
    rules = Rules(hp.start_clip, hp.max_doublings, hp.frozen_bias, hp.penalty_count, hp.stale_guard)
    return init_sweep(problem, params, hp, rules)


def released_step(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int, block: str | None = None) -> None:
    omega = (momentum(k) if hp.counter_advances else -1.0) if hp.inertia else 0.0
    sweep(state, problem, hp, k, p1=omega, p2=omega, p3=0.0, block=block)


def released_objective(state: SweepState, problem: Problem, hp: SimpleNamespace) -> Tensor:  # (R,) float64
    """F with the weight penalty counted `penalty_count` times."""
    surplus = (hp.penalty_count - 1) * hp.exact.mu / 2 * sum(square(W) for W in state.params.W)
    return sweep_objective(state, problem, hp) + surplus.flatten()


RELEASED = replace(
    METHOD,
    name="mdlam-released",
    title="mDLAM (released)",
    hyperparameters=ReleasedHyperparameters,
    init=released_init,
    step=released_step,
    by_hand=replace(
        METHOD.by_hand,
        step_block=released_step,
        objective=released_objective,
        still=lambda settings, depth: {settings.frozen_bias} - {0},
    ),
)
