"""Mini-batches of R runs: each run's order comes from its own seed, so a run does not depend on its neighbours."""

from collections.abc import Sequence

import torch
from torch import Tensor

from am.errors import InputError

_ORDER_STREAM = 1_000_003  # keeps the streams of batch orders apart from those of initial values


class Batches:
    """Batch k = 0, 1, ... of R runs: `batches(k) -> x (R, B, d0), y (R, B)`.

    Made either from seeds (every epoch is a fresh permutation; the last incomplete batch is dropped, so all steps have
    one shape) or from a given list of index batches, which is walked round and round.
    """

    def __init__(
        self,
        x: Tensor,  # (N, d0)
        y: Tensor,  # (N,) int64
        *,
        seeds: Sequence[int] = (),
        batch_size: int = 0,
        given: Tensor | None = None,  # (K, B) int64, the same for all runs
        runs: int = 1,
    ) -> None:
        if given is None and not 1 <= batch_size <= len(x):
            raise InputError(f"batch_size must lie in [1, {len(x)}], the number of training images, not {batch_size}.")
        self.x, self.y, self.seeds, self.given, self.runs = x, y, tuple(seeds), given, runs
        self.batch_size = batch_size if given is None else given.shape[1]
        self.per_epoch = len(x) // batch_size if given is None else len(given)
        self._orders: dict[int, Tensor] = {}  # epoch -> (per_epoch, R, B), this epoch and the next at the most
        self._gathered: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, k: int) -> tuple[Tensor, Tensor]:
        if k not in self._gathered:
            # A step asks for its own batch and at the most the next one, which the next step asks for again.
            self._gathered = {i: batch for i, batch in self._gathered.items() if i == k - 1}
            self._gathered[k] = self.gather(self.rows(k))
        return self._gathered[k]

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:  # (R, B) -> (R, B, d0), (R, B)
        flat = rows.flatten()
        return self.x.index_select(0, flat).view(*rows.shape, -1), self.y.index_select(0, flat).view(rows.shape)

    def forget(self) -> None:
        """Gather the next batches anew."""
        self._gathered = {}

    def rows(self, k: int) -> Tensor:  # (R, B)
        """The row numbers of batch k."""
        if self.given is not None:
            return self.given[k % len(self.given)].expand(self.runs, -1)
        epoch, step = divmod(k, self.per_epoch)
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = self._shuffle(epoch)
        return self._orders[epoch][step]

    def _shuffle(self, epoch: int) -> Tensor:  # (per_epoch, R, B)
        used = self.per_epoch * self.batch_size
        orders = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(_ORDER_STREAM * (seed + 1) + epoch)
            orders.append(torch.randperm(len(self.x), generator=generator)[:used])
        order = torch.stack(orders).view(len(orders), self.per_epoch, self.batch_size)
        return order.transpose(0, 1).contiguous().to(self.x.device, non_blocking=True)
