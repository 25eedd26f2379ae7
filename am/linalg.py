"""Products, sums, Gram matrices and Cholesky solves on the run axis, and the questions that wait for the device.

Samples are rows. Sums over samples are accumulated in float64 whatever the dtype of the run.
"""

import torch
from torch import Tensor

from am import devices

ROW_BLOCK, NARROW = 2048, 256  # a CPU multiplies many rows by a narrow matrix faster in blocks of rows
GRAM_BLOCK, GRAM_BLOCKS = 512, 4  # from this width on, a Gram matrix is worth computing in blocks


def linear(a: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    # a: (R, N, d) or shared (N, d); W: (R, d_out, d); b: (R, 1, d_out) -> (R, N, d_out)
    """a W^T, + b if given, for every run, without copying shared data R times.

    On a CPU the product of many rows with a narrow W goes in blocks of rows: 63 in place of 47 GFLOP/s at
    (60,000, 784) x (784, 100), and the bias is added while a block is in the cache.
    """
    R, rows, d_out = W.shape[0], a.shape[-2], W.shape[1]
    if devices.on_gpu(a) or rows < 2 * ROW_BLOCK or d_out > NARROW:
        out = torch.bmm(a.expand(R, -1, -1), W.mT)
        return out if b is None else out.add_(b)
    out = W.new_empty(R, rows, d_out)
    for r in range(R):
        for part, into in zip((a if a.dim() == 2 else a[r]).split(ROW_BLOCK), out[r].split(ROW_BLOCK)):
            torch.mm(part, W[r].T, out=into)
            if b is not None:
                into.add_(b[r])
    return out


def correlate(u: Tensor, a: Tensor) -> Tensor:  # u: (R, N, e); a: (R, N, d) or shared (N, d) -> (R, e, d)
    """u^T a for every run, without copying shared data R times."""
    return torch.bmm(u.mT, a.expand(u.shape[0], -1, -1))


def gram(a: Tensor) -> Tensor:  # (R, N, d) or (N, d) -> (R, d, d) or (d, d)
    """a^T a; of a wide one only the blocks on and above the diagonal are computed: 10/16 of the work with four."""
    d = a.shape[-1]
    if d < GRAM_BLOCK:
        return a.mT @ a
    G = a.new_empty(*a.shape[:-2], d, d)
    cuts = [round(d * i / GRAM_BLOCKS) for i in range(GRAM_BLOCKS + 1)]
    for start, stop in zip(cuts, cuts[1:]):
        G[..., start:stop, start:] = a[..., start:stop].mT @ a[..., start:]
        G[..., stop:, start:stop] = G[..., start:stop, stop:].mT
    return G


def gram_multiply_adds(rows: int, d: int) -> int:
    """What `gram` of (rows, d) costs."""
    if d < GRAM_BLOCK:
        return rows * d * d
    cuts = [round(d * i / GRAM_BLOCKS) for i in range(GRAM_BLOCKS + 1)]
    return rows * sum((stop - start) * (d - start) for start, stop in zip(cuts, cuts[1:]))


def inner(u: Tensor, v: Tensor) -> Tensor:  # (R, n, m), (R, n, m) -> (R, 1, 1) float64
    """<u, v> of every run: a row in the dtype of u, which rounds no worse than products, then over rows in float64."""
    return (u * v).sum(2, keepdim=True).sum(1, keepdim=True, dtype=torch.float64)


def square(u: Tensor) -> Tensor:  # (R, n, m) -> (R, 1, 1) float64
    """||u||^2 of every run; as `inner`, in one pass over u."""
    return torch.linalg.vector_norm(u, dim=2, keepdim=True).double().square().sum(1, keepdim=True)


def row_blocks(t: Tensor, rows: int) -> list[tuple[slice, slice]]:  # t: (R, N, ...)
    """Indices of blocks of samples that fit a CPU's cache, of one run each; on a GPU one block of everything."""
    R, N = t.shape[:2]
    if devices.on_gpu(t):
        return [(slice(None), slice(None))]
    return [(slice(r, r + 1), slice(n, n + rows)) for r in range(R) for n in range(0, N, rows)]


def ask(mask: Tensor) -> bool:  # (R, ...) bool
    """Whether any is true: the only question in a step for which a GPU waits. A loop that ends early is worth it."""
    return read_flag(mask.any())


def read_flag(flag: Tensor) -> bool:  # 0-d bool
    """The one host synchronisation of this library's steps; tests count its calls by putting theirs in its place."""
    return bool(flag)


def worthwhile(mask: Tensor) -> bool:  # (R, ...) bool
    """Whether a branch that serves only some runs is worth entering: on a GPU always, for asking would wait."""
    return devices.on_gpu(mask) or ask(mask)


def largest_eigenvalue(M: Tensor) -> Tensor:  # (R, d, d) or (d, d), symmetric -> (R or 1, 1, 1)
    # The solver refuses a whole stack for one run that is not finite.
    finite = torch.isfinite(M).flatten(-2).all(-1)[..., None, None]
    top = torch.linalg.eigvalsh(torch.where(finite, M, 0.0))[..., -1:, None]
    return torch.where(finite, top, torch.nan).reshape(-1, 1, 1)


def cholesky(A: Tensor) -> Tensor:  # (..., d, d), symmetric -> lower triangular (..., d, d)
    """The Cholesky factor; NaN for a matrix that is not positive definite: its run diverges and no other does."""
    L, failed = torch.linalg.cholesky_ex(A)
    return torch.where((failed != 0)[..., None, None], torch.nan, L)


def ridge(A: Tensor, weight: Tensor) -> Tensor:  # (..., d, d), (..., 1, 1) -> (..., d, d)
    """A + weight I."""
    return A + weight * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)


def solve_rows(B: Tensor, L: Tensor) -> Tensor:  # (..., n, d), lower triangular (..., d, d) -> (..., n, d)
    """B (L L^T)^{-1}, by two triangular solves."""
    half = torch.linalg.solve_triangular(L.mT, B, upper=True, left=False)
    return torch.linalg.solve_triangular(L, half, upper=False, left=False)
