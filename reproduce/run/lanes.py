"""The two lanes of training: stacks of multilayer perceptrons by `am.training`, single networks by `am.modules`."""

from collections.abc import Callable, Sequence
from typing import Any

from am.data import Data, Size, training_rows
from am.machine import stack_bytes
from am.methods import method
from am.modules.networks import NETWORKS
from am.modules.training import train_modules
from am.training import Budget, Result, train
from reproduce.evidence.config import MLP, RunConfig

LIVE = 12  # copies of a layer's outputs, and of the parameters, that a step has at once at the most


def train_runs(
    config: RunConfig,
    settings: Sequence[Any],
    seeds: Sequence[int],
    data: Data,
    budget: Budget,
    *,
    progress: Callable[[float], None] = lambda share: None,
    graphs: bool = False,
) -> list[Result]:
    """Train the runs that differ from the configuration in settings and seed alone, by the lane of its network.

    A network of the module lane has no CUDA graphs.
    """
    chosen = method(config.method)
    if config.network != MLP:
        how = dict(network=config.network, init=config.init)
        return train_modules(chosen, settings, seeds, data, **how, budget=budget, progress=progress)
    how = dict(hidden=config.hidden, activation_name=config.activation, init=config.init)
    how |= dict(budget=budget, progress=progress, graphs=graphs)
    return train(chosen, settings, seeds, data, **how)


def work_of(config: RunConfig, size: Size) -> int:
    """Multiply-adds of the products of a pass forward of one image of such a data set."""
    if config.network != MLP:
        return NETWORKS[config.network].multiply_adds
    widths = (size.inputs, *config.hidden, size.classes)
    return sum(a * b for a, b in zip(widths, widths[1:]))


def needed_bytes(config: RunConfig, size: Size, runs: int) -> int:
    """Bytes that a worker needs at the most for a stack of runs and the data, of this size, that they share."""
    n_train = training_rows(size.rows, config.n_train)
    if config.network == MLP:
        widths = (size.inputs, *config.hidden, size.classes)
        return stack_bytes(method(config.method), widths, n_train, config.batch_size, runs)
    network = NETWORKS[config.network]
    step = LIVE * (config.batch_size * (network.units + size.inputs) + network.parameters)
    return 4 * (2 * n_train * size.inputs + step)
