"""iPDLAM, inertial proximal alternating minimisation of the penalised problem with a penalty that grows.

mDLAM's sweep with one inertia before every step, p1 = p2, and none after it, p3 = 0. The paper's growth rule could not
be read: rho <- 1.02 rho an iteration, at most ten-fold, and inertia .9 as TIAM's are our readings (SPEC 10).

Cost per step: as TIAM's. Reference: arXiv 2102.00267.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from am.descent import power
from am.method import Linear, Log, Problem, setting
from am.methods.mdlam import Hyperparameters as Penalised
from am.penalised import STEP_RULE, STEP_RULES, sweep, sweep_method, sweep_variables
from am.penalised_state import SweepState


@dataclass(frozen=True)
class Hyperparameters(Penalised):
    inertia: float = setting(0.9, "inertia before the step", search=Linear(0.0, 1.0), low=0.0, high=2.0, role="inertia")
    growth: float = setting(0.02, "relative growth of rho in an iteration", search=Log(0.01, 1.0), low=0.0)
    most: float = setting(10.0, "times its first value that rho may reach", low=1.0)
    # "inverse" keeps the factor of rho X^T X + mu I, which a rho that grows would not let it.
    step_rule: str = setting("backtracking", STEP_RULE, choices=STEP_RULES[:2])


def step(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int, block: str | None = None) -> None:
    """Iteration k at rho_k = rho_0 min((1 + growth)^k, most)."""
    state.rho.copy_(hp.exact.rho * torch.minimum(power(1 + hp.exact.growth, k), hp.exact.most))
    sweep(state, problem, hp, k, p1=hp.inertia, p2=hp.inertia, p3=0.0, block=block)


def variables(state: SweepState) -> dict[str, Tensor]:
    """Those of a sweep, and rho."""
    return sweep_variables(state) | {"rho": state.rho}


METHOD = sweep_method("ipdlam", "iPDLAM", Hyperparameters, step, variables)
