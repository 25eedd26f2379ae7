"""A tape of tensor operations, which stands in for a CUDA graph where there is no GPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

# Reads of a value, copies from the host, and shapes that depend on values.
WAITS = {"_local_scalar_dense", "lift_fresh", "lift_fresh_copy", "nonzero", "masked_select", "equal", "is_nonzero"}


class Tape(TorchDispatchMode):
    """The operations made inside it; what they wrote into is put back at the end, as capturing executes nothing."""

    def __init__(self):
        super().__init__()
        self.calls, self.made, self.found = [], set(), {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert function.overloadpacket.__name__ not in WAITS, function
        for t in tensors((args, kwargs)):
            if address(t) not in self.made and address(t) not in self.found:
                self.found[address(t)] = (t.untyped_storage(), t.untyped_storage().clone())
        results = function(*args, **kwargs)
        self.calls.append((function, args, kwargs, results))
        self.made |= {address(t) for t in tensors(results)} - self.found.keys()
        return results

    def __exit__(self, *raised):
        super().__exit__(*raised)
        for storage, values in self.found.values():
            storage.copy_(values)

    def replay(self) -> None:
        for function, args, kwargs, results in self.calls:
            for result, again in zip(tensors(results), tensors(function(*args, **kwargs)), strict=True):
                if address(again) != address(result):
                    result.copy_(again)


def tensors(tree) -> list[torch.Tensor]:
    return [t for t in tree_iter(tree) if isinstance(t, torch.Tensor)]


def address(t: torch.Tensor) -> int:
    return t.untyped_storage().data_ptr()


def tape(work, device):
    made = Tape()
    with made:
        work()
    return made.replay
