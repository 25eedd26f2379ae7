"""Where a tensor lies. A step asks nothing else to choose between a CPU's way and a GPU's, so tests can pretend one."""

from torch import Tensor


def on_gpu(t: Tensor) -> bool:
    """Whether the work on t goes as on a GPU; called as `devices.on_gpu`, for tests put theirs in its place."""
    return t.is_cuda
