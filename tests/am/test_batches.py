"""The order of mini-batches, from the seed and the epoch alone."""

import pytest
import torch

from am.batches import Batches
from am.errors import InputError


def numbered(rows: int = 23) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that carry their own row number."""
    return torch.arange(rows, dtype=torch.float32).view(-1, 1), torch.arange(rows)


def walk(batches: Batches, epoch: int) -> torch.Tensor:  # -> (per_epoch, R, B) row numbers
    steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
    return torch.stack([batches(k)[1] for k in steps])


def test_every_row_comes_at_most_once_an_epoch_and_the_rest_is_dropped():
    x, y = numbered(23)
    batches = Batches(x, y, seeds=[0, 1], batch_size=5)
    assert batches.per_epoch == 4
    for epoch in range(3):
        rows = walk(batches, epoch)
        for r in range(2):
            assert len(set(rows[:, r].flatten().tolist())) == 20
    left_out = {tuple(sorted(set(range(23)) - set(walk(batches, e)[:, 0].flatten().tolist()))) for e in range(8)}
    assert len(left_out) > 1, "not the same rows every epoch"


def test_images_and_labels_stay_together():
    x, y = numbered()
    batches = Batches(x, y, seeds=[0, 1, 2], batch_size=5)
    for k in range(12):
        bx, by = batches(k)
        assert bx.shape == (3, 5, 1) and by.shape == (3, 5)
        assert torch.equal(bx[..., 0].long(), by)


def test_the_order_depends_on_seed_and_epoch_alone():
    x, y = numbered()
    together, alone = Batches(x, y, seeds=[7, 3, 9], batch_size=5), Batches(x, y, seeds=[3], batch_size=5)
    for epoch in range(3):
        rows = walk(together, epoch)
        assert torch.equal(rows[:, 1], walk(alone, epoch)[:, 0])
        assert not torch.equal(rows[:, 0], rows[:, 1])
    assert not torch.equal(walk(alone, 0), walk(alone, 1))
    # Straight into the middle, or back: the same batch.
    fresh = Batches(x, y, seeds=[3], batch_size=5)
    assert torch.equal(fresh(9)[1], alone(9)[1]) and torch.equal(fresh(2)[1], alone(2)[1])
    assert torch.equal(fresh(9)[1], alone(9)[1])


def test_asking_for_the_next_batch_first_changes_nothing():
    x, y = numbered()
    ahead, plain = (Batches(x, y, seeds=[4, 5], batch_size=5) for _ in range(2))
    for k in range(14):
        now, following = ahead(k), ahead(k + 1)
        assert torch.equal(now[1], plain(k)[1]) and not torch.equal(now[1], following[1])


def test_seed_and_initial_values_use_different_streams():
    x, y = numbered(1000)
    order = walk(Batches(x, y, seeds=[0], batch_size=1000), 0)[0, 0]
    assert not torch.equal(order, torch.randperm(1000, generator=torch.Generator().manual_seed(0)))


def test_batches_that_are_given_come_round_again():
    x, y = numbered()
    given = torch.tensor([[0, 1], [5, 4], [22, 9]])
    batches = Batches(x, y, given=given, runs=2)
    assert batches.per_epoch == 3 and batches.batch_size == 2
    for k in range(7):
        bx, by = batches(k)
        assert torch.equal(by, given[k % 3].expand(2, -1))
        assert torch.equal(bx[..., 0].long(), by)


@pytest.mark.parametrize("size", [24, 0, -1])
def test_a_batch_that_is_no_part_of_the_data_is_refused(size):
    x, y = numbered(23)
    with pytest.raises(InputError, match="batch"):
        Batches(x, y, seeds=[0], batch_size=size)
