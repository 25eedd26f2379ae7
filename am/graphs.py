"""CUDA graphs: a step captured once for a stack and replayed, with the same numbers as the eager step.

On a GPU the step of a small network is dozens of kernels that run for less time than it takes to launch them; a replay
launches them all at once. It runs the captured kernels on the captured memory and no Python, so what an eager step
takes as a new object waits in memory that stays: k in a 0-d tensor, the rows of the batches in two buffers, and the
state in the tensors that it has when the step is captured. A step that leaves its state in new tensors, as SAMT does
with the pass that it carries over, is followed by copies into the old ones.

A method that asks the device how backtracking went has no graph, which could not wait for the answer.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from am.batches import Batches
from am.errors import InputError
from am.method import Problem

EAGER_STEPS = 2  # before a capture: libraries are loaded and the state has what a first step leaves for the next

Step = Callable[[int | Tensor, Problem], None]  # step k of all runs on the batches of the problem
Recorder = Callable[[Callable[[], None], torch.device], Callable[[], None]]


def cuda_graph(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`work`, which is not executed now, as one launch."""
    if device.type != "cuda":
        raise InputError(f"CUDA graphs were asked for and the data are on the {device.type}; train without them there.")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def captured(step: Step, state: Any, problem: Problem, record: Recorder = cuda_graph) -> Callable[[int], None]:
    """`step` as `replay(k)`, k = 0, 1, ...; `state` is what it moves and has seen EAGER_STEPS steps.

    Between replays the state may be read as ever, and nothing of it may be replaced. What else the step writes, it
    writes in place.
    """
    device = problem.x.device
    number = torch.zeros((), dtype=torch.float64, device=device)  # float64, as the powers of beta that it enters
    batches: Any = None
    if problem.batches is not None:
        batches = FixedBatches(problem.batches, number)
        problem.batches.forget()  # SAMT carries one of them over, and is about to write to it
    fixed = dataclasses.replace(problem, batches=batches)

    def work() -> None:
        before = same_tensors(state)
        step(number, fixed)
        copy_back(before, state)
        vars(state).update(vars(before))

    launch = record(work, device)

    def replay(k: int) -> None:
        number.fill_(k)
        if batches is not None:
            batches.fill(k)
        launch()

    return replay


class FixedBatches:
    """The two batches that a step may ask for, its own and the next one, by row numbers in memory that stays."""

    def __init__(self, batches: Batches, number: Tensor) -> None:
        self.batches, self.number, self.per_epoch = batches, number, batches.per_epoch
        self.now, self.next = (torch.zeros_like(batches.rows(EAGER_STEPS)) for _ in range(2))  # (R, B)

    def fill(self, k: int) -> None:
        self.now.copy_(self.batches.rows(k))
        self.next.copy_(self.batches.rows(k + 1))

    def __call__(self, k: Tensor) -> tuple[Tensor, Tensor]:  # (R, B, d0), (R, B)
        # The number itself cannot be read while a graph is captured: k + 1 is known by being another tensor.
        return self.batches.gather(self.now if k is self.number else self.next)


def leaves(node: Any, path: str = "state") -> Iterator[tuple[str, Any]]:
    """All that is no container, by its place in a tree of objects, lists, tuples and dicts."""
    if isinstance(node, (list, tuple)):
        inner: Any = enumerate(node)
    elif isinstance(node, dict):
        inner = node.items()
    elif hasattr(node, "__dict__") and not isinstance(node, Tensor):
        inner = vars(node).items()
    else:
        yield path, node
        return
    for key, value in inner:
        yield from leaves(value, f"{path}.{key}")


def same_tensors(state: Any) -> Any:
    """A copy of the state's objects, lists, tuples and dicts that holds the same tensors."""
    return copy.deepcopy(state, {id(leaf): leaf for _, leaf in leaves(state) if isinstance(leaf, Tensor)})


def copy_back(before: Any, after: Any) -> None:
    """Write the tensors with which a step replaced others into those others."""
    old, new = dict(leaves(before)), dict(leaves(after))
    was, became = layout(old), layout(new)
    if was != became:
        place = next(p for p in (*was, *became) if p not in was or p not in became or was[p] != became[p])
        raise RuntimeError(f"a step that changes the kind of '{place}' cannot be a CUDA graph")
    pairs = [(old[p], new[p]) for p in old if isinstance(old[p], Tensor) and new[p] is not old[p]]
    pairs = list({id(target): (target, value) for target, value in pairs}.values())
    # A new value may be, or be a view of, a tensor that another one overwrites: iterates that change places.
    targets = {_address(target) for target, _ in pairs}
    pairs = [(target, value.clone() if _address(value) in targets else value) for target, value in pairs]
    for target, value in pairs:
        target.copy_(value)


def layout(found: dict[str, Any]) -> dict[str, tuple]:
    """What copies between tensors cannot change of a state: shapes, which tensors share memory and how, and numbers."""
    first: dict[int, str] = {}
    made: dict[str, tuple] = {}
    for path, leaf in found.items():
        if isinstance(leaf, Tensor):
            shares = first.setdefault(_address(leaf), path)
            made[path] = (shares, leaf.dtype, leaf.shape, leaf.stride(), leaf.storage_offset())
        else:
            made[path] = (type(leaf), leaf if isinstance(leaf, (bool, int, float, str)) else None)
    return made


def _address(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()
