"""TIAM, triple-inertial accelerated alternating minimisation: full batch, three inertial steps in every sub-problem.

Minimises the penalised objective F (SPEC 1) over W, b, z and a. Every block u in {W_l, b_l, z_l, a_l} in turn, with f
the part of F that it touches (SPEC 2):

    d  = u^k - u^{k-1};   u~ = u^k + p1 d;   u^ = u^k + p2 d
    u+ = Prox/Proj(u~ - grad f(u^) / theta)
    u^{k+1} = u+ + p3 (u+ - u^k), projected again for z_l (l < L) and a_l
    if f(u^{k+1}) > f(u^k): again with p1 = p2 = p3 = 0

theta by backtracking, in place of a matrix inversion. The last line is our reading. (0, 0, 0) is plain AM.

The third inertia has two readings (SPEC 12). third = "own": as above, u^{k+1} is seen by everyone. third = "others":
u^{k+1} = u+, and what the sub-problems of the other blocks see is u+ + p3 (u+ - u^k), projected for z_l (l < L) and
a_l, as in two codes of a co-author; where the safeguard fell back they see u+. At p3 = 0 both are the same.
schedule: the weights in iteration k = 1, 2, ...: as they are; "nesterov", all three times (k - 1) / (k + 2);
"nipalm", p1 and p2 times (k - 1) / (k + 1).

`am/penalised.py` writes the lines out for each block.

Cost per step: for every layer two products of N rows with W_l, for l > 1 also A^T A and three products more in the
step of a_{l-1} (two more where it is taken again, one for each trial of tau); O(d_l d_{l-1}^2) for all trials of theta
together. Reference: "Triple-Inertial Accelerated Alternating Optimization Method for Deep Learning Training", arXiv
2503.08489, 2025.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

from am.method import Linear, Log, Problem, setting
from am.networks import Parameters
from am.penalised import STEP_RULE, STEP_RULES, init_sweep, sweep, sweep_method
from am.penalised_state import Rules, SweepState


@dataclass(frozen=True)
class Hyperparameters:
    p1: float = setting(
        0.9, "inertia of the point the step starts from", search=Linear(0.0, 1.0), low=0.0, high=2.0, role="inertia"
    )
    p2: float = setting(
        0.9, "inertia of the point the gradient is taken at", search=Linear(0.0, 1.0), low=0.0, high=2.0, role="inertia"
    )
    p3: float = setting(0.5, "extrapolation after the step", search=Linear(0.0, 1.0), low=0.0, high=2.0, role="inertia")
    rho: float = setting(1e-3, "weight of the layer equations", search=Log(1e-4, 1.0), low=1e-12)
    mu: float = setting(0.05, "weight decay", search=Log(1e-4, 1.0), low=0.0, per_rows=True)
    epsilon_0: float = setting(100.0, "first half-width of the activation constraint", low=0.0)
    epsilon_min: float = setting(1e-3, "last half-width of the activation constraint", search=Log(1e-4, 1.0), low=0.0)
    theta_0: float = setting(1.0, "first trial of theta in the steps of W_l", low=1e-12, per_rows=True)
    tau_0: float = setting(1.0, "first trial of tau in the steps of a_l", low=1e-12)
    step_rule: str = setting("backtracking", STEP_RULE, choices=STEP_RULES)
    third: str = setting("own", "who sees the third inertia's point", choices=("own", "others"))
    schedule: str = setting("constant", "course of the inertias", choices=("constant", "nesterov", "nipalm"))
    z_start: str = setting("labels", "z_L at first: +1 at the label and -1, or a pass", choices=("labels", "forward"))
    safeguard: bool = setting(True, "a step whose f rose is taken again without inertia (our reading)")


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> SweepState:
    return init_sweep(problem, params, hp, Rules(safeguard=hp.safeguard))


def step(state: SweepState, problem: Problem, hp: SimpleNamespace, k: int, block: str | None = None) -> None:
    before, after = weights(hp.schedule, k)
    sweep(state, problem, hp, k, p1=before * hp.p1, p2=before * hp.p2, p3=after * hp.p3, block=block)


def weights(schedule: str, k: int) -> tuple[float, float]:
    """What p1 and p2, and p3, are multiplied by in the step after k = 0, 1, ... others."""
    if schedule == "nesterov":
        return k / (k + 3), k / (k + 3)
    return (k / (k + 2) if schedule == "nipalm" else 1.0), 1.0


METHOD = replace(sweep_method("tiam", "TIAM", Hyperparameters, step), init=init)
