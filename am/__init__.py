"""Training neural networks by alternating minimisation: the methods, the sub-problems and the training loop.

The package knows mathematics and tensors; grids, files of results and plots are `reproduce`'s. `start` begins a run
that is driven by hand; `methods.methods()` lists what there is.

>>> import am
>>> am.method("samt").title
'SAMT'
"""

import os

# Products of MKL round by the place of their operands in memory and by what else is in a batch, unless it is told to be
# strict, which costs nothing measurable: then a run alone and in a stack agree to the last bit. Read at its first use.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

from am import methods  # noqa: E402
from am.errors import InputError  # noqa: E402
from am.methods import method  # noqa: E402
from am.run import Run, start  # noqa: E402

__all__ = ["InputError", "Run", "method", "methods", "start"]
