"""Equal tuning (rule "tuned"): the same number of trials for every method, chosen on held-out training images.

Each method setting of the grid gets `trials` points of a scrambled Sobol sequence in the method's own search space, the
same for all data sets; what the grid sets itself is not searched. Trials share one seed, are trained to the grid's full
budget and never read the test set. The trial with the best validation accuracy at the end is trained again from fresh
seeds, and only those runs read the test set.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from am.method import Choice, Linear, Log

TUNING_SEED = 100_000  # far from the seeds of final runs, which count from 0
DESIGN_SEED = 0


def trial_settings(settings: Any, space: dict[str, Log | Linear | Choice], trials: int) -> list[Any]:
    """`trials` copies of the settings with points of a Sobol design in the searched fields (SciPy's, scrambled)."""
    from scipy.stats import qmc

    if not space:
        return [settings] * trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # 24 is no power of two: the design is less balanced, as said
        points = qmc.Sobol(len(space), scramble=True, rng=DESIGN_SEED).random(trials)
    return [
        dataclasses.replace(settings, **{name: search.at(float(u)) for (name, search), u in zip(space.items(), point)})
        for point in points
    ]


def best_trial(keys: Sequence[str], lookup: Callable[[str], dict[str, Any] | None]) -> int | None:
    """Number of the trial with the best final validation accuracy, the first of equals; None while any is unfinished.

    A diverged trial scores nothing. Where all diverged the first is taken: the method goes on and loses.
    """
    found = [lookup(key) for key in keys]
    if any(run is None or run["status"] not in ("done", "diverged") for run in found):
        return None
    score = [run["curve"][-1]["val_accuracy"] if run["status"] == "done" else -1.0 for run in found]
    return max(range(len(keys)), key=lambda i: (score[i], -i))
