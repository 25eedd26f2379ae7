"""Training neural networks by alternating minimisation: the methods, the sub-problems and the training loop.

The package knows mathematics and tensors; grids, files of results and plots are `reproduce`'s.
"""

from am.run import Run, start

__all__ = ["Run", "start"]
