"""Which methods train a module, and with which optimizer: the reference implementations themselves, `am.optim`, Muon.

A method keeps its name, its settings and their search spaces. An AM method with sub-problems on z and a is not here:
its steps need the equations of a multilayer perceptron's layers.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, optim

from am.descent import schedule_factor
from am.errors import InputError, unknown
from am.method import Method, stack
from am.methods import muon
from am.modules.networks import INITIALISATIONS, NETWORKS, check_images, network_blocks
from am.optim import SAM, SAMT, blocks

Optimizers = list[optim.Optimizer]


@dataclass(frozen=True)
class Rule:
    """How a method trains a module.

    optimizers(network, settings): in the order in which they step, each with parameters of its own.
    package: where they come from; its version is a part of a run's key.
    running_statistics: whether networks with BatchNorm are evaluated where they were trained.
    """

    optimizers: Callable[[nn.Sequential, Any], Optimizers]
    package: str = "torch"
    running_statistics: bool = True


def _betas(s: Any) -> tuple[float, float]:
    return s.beta1, s.beta2


def _in_blocks(kind: type[SAM] | type[SAMT]) -> Callable[[nn.Sequential, Any], Optimizers]:
    """An alternation of `am.optim`, whose options are the method's settings, over the network's own blocks."""
    own = lambda s: {name: value for name, value in dataclasses.asdict(s).items() if name not in ("schedule", "warmup")}
    return lambda net, s: [kind(blocks(net, network_blocks(net)), **own(s))]


class Muon(optim.Optimizer):
    """The hidden W of `am.methods.muon`: torch.optim.Muon, but orthogonalised in the network's own dtype."""

    def __init__(self, params: Iterable[torch.Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for W in group["params"]:
                if not self.state[W]:
                    self.state[W]["momentum"] = torch.zeros_like(W)
                constants = (W.new_tensor(group[name]) for name in ("lr", "momentum", "weight_decay"))
                muon.move(W[None], W.grad[None], self.state[W]["momentum"][None], *constants)


def _muon(network: nn.Sequential, s: Any) -> Optimizers:
    """Muon for the hidden dense layers' W; AdamW for the rest, convolutions too, which are not 2-D."""
    dense = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    hidden = [layer.weight for layer in dense[:-1]]
    rest = [p for p in network.parameters() if all(p is not W for W in hidden)]
    return [
        Muon(hidden, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay),
        optim.AdamW(rest, lr=s.adam_rate, betas=_betas(s), eps=s.epsilon, weight_decay=s.weight_decay),
    ]


def _schedule_free_adamw(network: nn.Sequential, s: Any) -> Optimizers:
    from schedulefree import AdamWScheduleFree

    rates = dict(lr=s.learning_rate, weight_decay=s.weight_decay, warmup_steps=s.warmup_steps)
    return [AdamWScheduleFree(network.parameters(), betas=_betas(s), eps=s.epsilon, **rates)]


RULES = {
    "samt": Rule(_in_blocks(SAMT)),
    "sam": Rule(_in_blocks(SAM)),
    "sgd": Rule(lambda net, s: [optim.SGD(net.parameters(), s.learning_rate)]),
    "momentum": Rule(lambda net, s: [optim.SGD(net.parameters(), s.learning_rate, s.momentum)]),
    "nesterov": Rule(lambda net, s: [optim.SGD(net.parameters(), s.learning_rate, s.momentum, nesterov=True)]),
    "adam": Rule(lambda net, s: [optim.Adam(net.parameters(), s.learning_rate, _betas(s), s.epsilon)]),
    "adamw": Rule(
        lambda net, s: [optim.AdamW(net.parameters(), s.learning_rate, _betas(s), s.epsilon, s.weight_decay)]
    ),
    "nadamw": Rule(
        lambda net, s: [
            optim.NAdam(
                net.parameters(), s.learning_rate, _betas(s), s.epsilon, s.weight_decay, s.momentum_decay,
                decoupled_weight_decay=True,
            )
        ]
    ),
    "rmsprop": Rule(lambda net, s: [optim.RMSprop(net.parameters(), s.learning_rate, s.decay, s.epsilon)]),
    "adagrad": Rule(lambda net, s: [optim.Adagrad(net.parameters(), s.learning_rate, eps=s.epsilon)]),
    "adadelta": Rule(lambda net, s: [optim.Adadelta(net.parameters(), s.learning_rate, s.decay, s.epsilon)]),
    "muon": Rule(_muon),
    "schedule-free-adamw": Rule(_schedule_free_adamw, "schedulefree", running_statistics=False),
}  # fmt: skip


def package(name: str) -> str:
    """The package that has the optimizer behind a method."""
    return RULES[name].package if name in RULES else "torch"


def check_module(method: Method, network: str, dataset: str, activation: str, init: str) -> None:
    """Raises InputError where the lane cannot train this network by this method as the grid asks."""
    if method.name not in RULES:
        needs = (
            "needs the equations of a multilayer perceptron's layers"
            if method.family != "gradient"
            else "has no optimizer for modules here"
        )
        raise InputError(
            f"method '{method.name}' {needs} and cannot train network '{network}'; use one of {', '.join(RULES)}."
        )
    check_images(network, dataset)
    if activation != "relu":
        raise InputError(f"network '{network}' has the activation 'relu', not '{activation}'.")
    if init not in INITIALISATIONS:
        raise unknown("initialisation", init, INITIALISATIONS, f"network '{network}'")
    if importlib.util.find_spec(needed := package(method.name)) is None:
        raise InputError(f"method '{method.name}' needs the package {needed} there; requirements.txt has it.")
    with torch.device("meta"):
        layers = NETWORKS[network].layers()
    normalised = any(isinstance(m, nn.BatchNorm2d) for layer in layers for m in layer.modules())
    if normalised and not RULES[method.name].running_statistics:
        raise InputError(
            f"method '{method.name}' is evaluated at other parameters than it trains, for which BatchNorm of network "
            f"'{network}' keeps no statistics."
        )
    if method.name == "muon" and sum(isinstance(m, nn.Linear) for layer in layers for m in layer.modules()) < 2:
        raise InputError(f"method 'muon' has nothing to move in network '{network}', which has no hidden dense layer.")


def schedulers(optimizers: Optimizers, settings: Any, steps: int) -> list[optim.lr_scheduler.LRScheduler]:
    """The course of the rate as the method's `schedule` says, by `am.descent.schedule_factor`; none where constant."""
    if getattr(settings, "schedule", "constant") == "constant":
        return []
    hp = stack([settings], torch.zeros((), dtype=torch.float64))
    factor = lambda k: float(schedule_factor(hp, min(k, steps - 1), steps))
    return [optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]
