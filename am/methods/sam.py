"""SAM, stochastic alternating minimisation with a fixed step size: SAMT's loop with beta = 0 and no query batch.

The baseline that shows what training the step sizes adds (SPEC 3). Cost per step: L T block updates and as many
partial gradients.
"""

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

from am.method import ByHand, Cost, Log, Method, Problem, setting
from am.methods import samt
from am.networks import Parameters


@dataclass(frozen=True)
class Hyperparameters:
    alpha: float = setting(0.1, "step size of every block", search=Log(1e-2, 1.0), low=1e-12, role="step size")
    inner_steps: int = setting(1, "T, gradient steps on a block before the next block", low=1, high=1_000)
    order: str = setting("forward", "order of the blocks", choices=("forward", "backward"))


def init(problem: Problem, params: Parameters, hp: SimpleNamespace) -> samt.SamtState:
    return samt.init(problem, params, SimpleNamespace(alpha0=hp.alpha, shape="scalar"))


def step(state: samt.SamtState, problem: Problem, hp: SimpleNamespace, k: int) -> None:
    samt.alternate(state, problem, hp, k, learn=False)


METHOD = Method(
    name="sam",
    title="SAM",
    family="stochastic AM",
    hyperparameters=Hyperparameters,
    init=init,
    step=step,
    cost=Cost(
        lambda widths, rows, settings: samt.step_flops(widths, rows, settings, learn=False),
        updates=lambda depth, settings: depth * settings.inner_steps,
        gradients=lambda depth, settings: depth * settings.inner_steps,
    ),
    by_hand=ByHand(refresh=samt.forget, blocks=samt.blocks, step_block=partial(samt.alternate_block, learn=False)),
)
