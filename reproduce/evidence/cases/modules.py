"""The module lane in float64: each network's outputs and blocks, and each method's optimizers for a few steps."""

import functools
from collections.abc import Iterator
from typing import Any

import torch

from am.data import Data, load, prepare
from am.method import Method
from am.methods import methods
from am.modules.networks import NETWORKS, build, network_blocks
from am.modules.optimizers import RULES
from am.modules.training import ModuleRun
from am.training import Budget
from reproduce.evidence.cases.case import Case, Values
from reproduce.evidence.cases.methods import size, variants

ROWS, BATCH, STEPS = 24, 8, 3
IMAGES = 2  # of a network's pass


def cases() -> Iterator[Case]:
    """Of every network, and of every method that trains modules."""
    for name in NETWORKS:
        yield Case(f"network:{name}", "outputs", functools.partial(_outputs, name), ("init:he", "inputs:unit"))
    for name in RULES:
        chosen = methods()[name]
        for changes, smooth in variants(chosen):
            if not smooth:
                words = ", ".join(f"{key}={value}" for key, value in changes.items())
                values = functools.partial(_steps, chosen, changes)
                uses = ("network:lenet5", "init:torch", "inputs:unit", "batches")
                yield Case(f"method:{name}", f"{words or 'defaults'}, module", values, uses)


@functools.cache
def _data() -> Data:
    return prepare(load("digits"), ROWS, dtype=torch.float64)


def _outputs(name: str) -> Values:
    network = build(name, "digits", 3, "he", dtype=torch.float64)
    x = _data().x[:IMAGES]
    blocks = [
        f"{type(block).__name__} {sum(p.numel() for p in block.parameters())}" for block in network_blocks(network)
    ]
    with torch.no_grad():
        trained = network.train()(x)
        judged = network.eval()(x)
    return {"blocks": blocks, "in training": trained, "in evaluation": judged}


def _steps(chosen: Method, changes: dict[str, Any]) -> Values:
    budget = Budget(epochs=1, batch_size=BATCH, evaluate_every=1)
    run = ModuleRun(chosen, chosen.settings(changes), 3, _data(), "lenet5", "torch", budget)
    parts = [list(block.parameters()) for block in network_blocks(run.network)]
    begin = [[p.detach().clone() for p in part] for part in parts]
    found: Values = dict(finite=0)
    for k in range(1, STEPS + 1):
        run.step(k - 1)
        found["finite"] += int(run.finite())
        with run.evaluating():
            for l, (part, old) in enumerate(zip(parts, begin), 1):
                far = torch.cat([(p.detach() - q).flatten() for p, q in zip(part, old)])
                found[f"block {l}@{k}"] = size(far[None])
    return found | dict(parameter_updates=STEPS * run.updates, gradient_evaluations=STEPS * run.gradients)
