"""mDLAM: full-batch alternating minimisation of the penalised problem with Nesterov extrapolation of every block.

s_{k+1} = (1 + sqrt(1 + 4 s_k^2)) / 2, omega_k = (s_k - 1) / s_{k+1}; each block steps from u^k + omega_k (u^k - u^{k-1})
and again from u^k where its objective rose (SPEC 1): the sweep of TIAM with inertia (omega_k, omega_k, 0). s_0 = 0
(the released start, and FISTA's indexing) is our reading.

Cost per step: as TIAM's. Reference: Wang, Li and Zhao, "Accelerated gradient-free neural network training by
multi-convex alternating optimization", Neurocomputing 2022.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.methods import Log, Method, Problem, setting
from am.sweep import SweepState, check_depth, init_sweep, sweep, sweep_objective, sweep_variables


@dataclass(frozen=True)
class Hyperparameters:
    rho: float = setting(1e-3, "weight of the layer equations", search=Log(1e-4, 1.0), low=1e-12)
    mu: float = setting(0.05, "weight decay", search=Log(1e-4, 1.0), low=0.0)
    epsilon_0: float = setting(100.0, "first half-width of the activation constraint", low=0.0)
    epsilon_min: float = setting(1e-3, "last half-width of the activation constraint", search=Log(1e-4, 1.0), low=0.0)
    theta_0: float = setting(1.0, "first trial of the majoriser's curvature", low=1e-12)
    step_rule: str = setting(
        "backtracking", "theta by doubling, or the exact largest eigenvalue", choices=("backtracking", "lipschitz")
    )


def momentum(k: int) -> float:
    """omega_k of the Nesterov sequence that starts at s_0 = 0."""
    s = 0.0
    for _ in range(k + 1):
        last, s = s, (1 + (1 + 4 * s * s) ** 0.5) / 2
    return max((last - 1) / s, 0.0)  # at k = 0 there is no difference to extrapolate


def step(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    omega = momentum(k)
    sweep(state, problem, k, omega, omega, 0.0)


METHOD = Method(
    name="mdlam",
    title="mDLAM",
    family="full-batch AM",
    hyperparameters=Hyperparameters,
    init=init_sweep,
    step=step,
    parameters=lambda state: state.params,
    full_batch=True,
    updates=lambda depth, hp: depth,
    gradients=lambda depth, hp: 4 * depth - 1,
    monotone_only=True,
    objective=sweep_objective,
    variables=sweep_variables,
    requires=check_depth,
)
