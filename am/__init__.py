"""Training neural networks by alternating minimisation: the methods, the sub-problems and the training loop.

The package knows mathematics and tensors; grids, files of results and plots are `reproduce`'s. `start` begins a run
that is driven by hand; `methods.methods()` lists what there is.

>>> import am
>>> am.method("samt").title
'SAMT'
"""

from am import methods
from am.errors import InputError
from am.methods import method
from am.run import Run, start

__all__ = ["InputError", "Run", "method", "methods", "start"]
