"""TIAM, triple-inertial accelerated alternating minimisation: full batch, three inertial steps in every sub-problem.

Minimises the penalised objective F (SPEC 1) over W, b, z and a, block by block. Each block u extrapolates twice before
its step (p1 for the point, p2 for the gradient) and once after it (p3), with a backtracking majoriser in place of a
matrix inversion and a fall-back to the plain step where the block's objective rose (SPEC 2). (0, 0, 0) is plain AM.

Cost per step: two passes over the data per layer (about 4 N sum d_l d_{l-1} multiply-adds), and O(d_l d_{l-1}^2) for
all backtracking trials together. Reference: "Triple-Inertial Accelerated Alternating Optimization Method for Deep
Learning Training", 2025.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from am.method import Linear, Log, Problem, setting
from am.penalised import STEP_RULE, STEP_RULES, SweepState, sweep, sweep_method


@dataclass(frozen=True)
class Hyperparameters:
    p1: float = setting(0.9, "inertia of the point the step starts from", search=Linear(0.0, 1.0), low=0.0, high=2.0)
    p2: float = setting(
        0.9, "inertia of the point the gradient is taken at", search=Linear(0.0, 1.0), low=0.0, high=2.0
    )
    p3: float = setting(0.5, "extrapolation after the step", search=Linear(0.0, 1.0), low=0.0, high=2.0)
    rho: float = setting(1e-3, "weight of the layer equations", search=Log(1e-4, 1.0), low=1e-12)
    mu: float = setting(0.05, "weight decay", search=Log(1e-4, 1.0), low=0.0, per_rows=True)
    epsilon_0: float = setting(100.0, "first half-width of the activation constraint", low=0.0)
    epsilon_min: float = setting(1e-3, "last half-width of the activation constraint", search=Log(1e-4, 1.0), low=0.0)
    theta_0: float = setting(1.0, "first trial of theta in the steps of W_l", low=1e-12, per_rows=True)
    tau_0: float = setting(1.0, "first trial of tau in the steps of a_l", low=1e-12)
    step_rule: str = setting("backtracking", STEP_RULE, choices=STEP_RULES)


def step(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int, block: str | None = None) -> None:
    sweep(state, problem, hp, k, p1=hp.p1, p2=hp.p2, p3=hp.p3, block=block)


METHOD = sweep_method("tiam", "TIAM", Hyperparameters, step)
