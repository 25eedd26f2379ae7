"""What a sweep over the penalised problem keeps, and its way through the samples.

On a CPU the runs of a stack are swept one after the other, in blocks of samples that stay in its cache, so that no
number of a run depends on its neighbours. On a GPU all runs and all samples are one block.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from am import devices
from am.networks import Parameters

STEP_ROWS = 2048  # of a block whose z, a, last iterates and temporaries stay in a CPU's cache


@dataclass(frozen=True)
class Rules:
    """What released code does otherwise in the sweep; the defaults are SPEC 1's.

    start_clip: a_l is clipped into h(z_l) +- epsilon_k at the start of iteration k.
    max_doublings: doublings of theta or tau after which W_l or a_l gives up and stays at u~; None for no limit.
    frozen_bias: the layer, 1 .. L, whose bias never moves; 0 for none.
    penalty_count: how often the safeguard of W_l counts mu/2 ||W_l||^2.
    stale_guard: the safeguard of a_l, l > 1, sets a_{l-1} back to its last iterate on the old side of the comparison.
    safeguard: a step whose f rose is taken again without inertia.
    """

    start_clip: bool = True
    max_doublings: int | None = None
    frozen_bias: int = 0
    penalty_count: int = 1
    stale_guard: bool = False
    safeguard: bool = True


@dataclass(frozen=True)
class Inertia:
    """p1 of the point, p2 of the gradient's point, p3 after the step, each (R, 1, 1)."""

    p1: Tensor
    p2: Tensor
    p3: Tensor

    @property
    def moves(self) -> Tensor:  # (R, 1, 1) bool
        """Which runs have any."""
        return (self.p1 != 0) | (self.p2 != 0) | (self.p3 != 0)

    def none(self) -> "Inertia":
        """The plain step's."""
        return Inertia(*3 * [torch.zeros_like(self.p1)])


@dataclass(eq=False)
class SweepState:
    """The variables u^k of R runs, their last iterates u^{k-1}, and what the sweep remembers of them.

    params: W_l, b_l.  z: z_1 .. z_L, (R, N, d_l).  a: a_1 .. a_{L-1}.  last: u^{k-1} by name, W1, b1, z1, a1, ...
    rho: (R, 1, 1), the penalty in force.  fallbacks: (R,), safeguards taken in the last iteration.
    flops: (R,) int64, of the matrix products of every run since the start.
    gram: X^T X, (d0, d0).  mean: column means of X, (1, d0).  gram_eigenvalue: largest eigenvalue of X^T X (step_rule
    "lipschitz").  gram_factor: Cholesky factor of rho X^T X + mu I, (R, d0, d0) float64 ("inverse").
    residual: a_{l-1} W_l^T + b_l - z_l of the present variables.  spare: room for the next one of a_{l-1}'s step.
    shown: by name, what other blocks see of a variable where that is not the variable itself; empty otherwise.
    apart: whether a sweep went by `shown` since the residuals were those of the variables.
    runs: on a CPU the states of the single runs, whose variables are views of these.
    seen: the variables and their versions when the sweep left them; others were set by hand since.
    """

    params: Parameters
    z: list[Tensor]
    a: list[Tensor]
    rho: Tensor
    fallbacks: Tensor
    flops: Tensor
    gram: Tensor
    mean: Tensor
    gram_eigenvalue: Tensor | None = None
    gram_factor: Tensor | None = None
    rules: Rules = Rules()
    last: dict[str, Tensor] = field(default_factory=dict)
    shown: dict[str, Tensor] = field(default_factory=dict)
    apart: bool = False
    residual: list[Tensor] = field(default_factory=list)
    spare: list[Tensor] = field(default_factory=list)
    runs: list["SweepState"] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)

    def variables(self) -> dict[str, Tensor]:
        """W1, b1, z1, a1, W2, ... as they stand."""
        kinds = dict(W=self.params.W, b=self.params.b, z=self.z, a=self.a)
        return {f"{kind}{l}": u for kind, blocks in kinds.items() for l, u in enumerate(blocks, 1)}

    def run(self, r: int) -> "SweepState":
        """The state of one run, with views of its variables and counters and residuals of its own."""
        cut = lambda blocks: [u[r : r + 1] for u in blocks]
        rho, fallbacks, flops = cut([self.rho, self.fallbacks, self.flops])
        return replace(
            self,
            params=Parameters(cut(self.params.W), cut(self.params.b)),
            z=cut(self.z),
            a=cut(self.a),
            rho=rho,
            fallbacks=fallbacks,
            flops=flops,
            gram_factor=None if self.gram_factor is None else self.gram_factor[r : r + 1],
            last=dict(zip(self.last, cut(self.last.values()))),
            shown=dict(zip(self.shown, cut(self.shown.values()))),
            residual=[torch.empty_like(z[:1]) for z in self.z],
            spare=[torch.empty_like(z[:1]) for z in self.z],
            runs=[],
        )

    def seen_by(self, name: str) -> "SweepState":
        """The state as the sub-problem of one block sees it: its own variable, and what the others show."""
        kinds = dict(W=self.params.W, b=self.params.b, z=self.z, a=self.a)
        see = lambda kind: [
            u if f"{kind}{l}" == name else self.shown[f"{kind}{l}"] for l, u in enumerate(kinds[kind], 1)
        ]
        return replace(self, params=Parameters(see("W"), see("b")), z=see("z"), a=see("a"))

    def charge(self, multiply_adds: int, runs: Tensor | None = None) -> None:  # runs: (R, 1, 1) bool
        """Count a matrix product, in the runs that would make it if they were alone."""
        self.flops += 2 * multiply_adds if runs is None else 2 * multiply_adds * runs.flatten()

    def inputs(self, x: Tensor, l: int) -> Tensor:  # -> (R, N, d_{l-1}), or (N, d_0) for l = 1
        """a_{l-1} of layer l = 1 .. L."""
        return self.a[l - 2] if l > 1 else x


# Blocks of samples ------------------------------------------------------------------------------------------------

At = tuple[slice, slice]  # runs, samples


def row_blocks(t: Tensor, *widths: int) -> Iterator[tuple[At, list[Tensor]]]:  # t: (R, N, ...)
    """Indices of blocks of samples, each with room for intermediate results, (R, rows, width) for each of the widths.

    A block in fresh memory would cost a CPU more than the arithmetic on it.
    """
    R, N = t.shape[:2]
    rows = N if devices.on_gpu(t) else min(N, STEP_ROWS)
    room = [t.new_empty(R, rows, width) for width in widths]
    for start in range(0, N, rows):
        stop = min(start + rows, N)
        yield (slice(None), slice(start, stop)), [u[:, : stop - start] for u in room]


def product(A: Tensor, B: Tensor, out: Tensor) -> Tensor:  # (R, n, d) or shared (n, d); (R, d, e); (R, n, e)
    """A B of every run, into `out`."""
    return torch.bmm(A.expand(len(B), -1, -1), B, out=out)


def linear_into(out: Tensor, a: Tensor, at: At, W: Tensor, b: Tensor) -> Tensor:  # a: (R, N, d) or shared (N, d)
    """a W^T + b on a block of samples, into `out`."""
    return product(a[at] if a.dim() == 3 else a[at[1]], W.mT, out).add_(b)


def select(runs: Tensor, new: Tensor, old: Tensor) -> Tensor:  # runs: (R, 1, 1) bool
    """`new` in those runs; one run alone was asked already."""
    return new if len(runs) == 1 and not devices.on_gpu(runs) else torch.where(runs, new, old)


def zeros(like: Tensor) -> Tensor:  # (R, ...) -> (R, 1, 1) float64
    """The start of a sum of every run."""
    return torch.zeros(len(like), 1, 1, dtype=torch.float64, device=like.device)
