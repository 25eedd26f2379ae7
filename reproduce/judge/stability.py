"""How much the initial step size matters, from the runs of a method at several of them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from am.errors import InputError
from reproduce.judge.estimates import spread
from reproduce.judge.rows import chance, check_one_row_per_seed, is_finished, listed, require_columns, scores, with_role

WITHIN = 0.05  # accuracy that a usable step size may lose against the best one


def by_step_size(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with a column `step_size`, from their hyper-parameters, which their labels no longer name.

    "SAMT row, 0.1" is "SAMT row" at 0.1. Of a method with several step sizes, as Muon's own and that of the Adam inside
    it, the one that differs between its runs. Raises InputError for a method that has none, or where several differ.
    """
    require_columns(runs, ["label", "method", "hyperparameters"])
    settings = runs["hyperparameters"].map(json.loads)
    methods = runs.assign(settings=settings).groupby("method")
    swept = {method: _swept(method, of["label"].iloc[0], of["settings"]) for method, of in methods}
    found = [values[swept[method]] for method, values in zip(runs["method"], settings)]
    labels = [label.removesuffix(f"{step}").rstrip(" ,(=") for label, step in zip(runs["label"], found)]
    return runs.assign(label=labels, step_size=np.array(found, float))


def _swept(method: str, label: str, settings: Iterable[dict]) -> str:
    keys = [key for key in with_role(method, "step size") if all(key in values for values in settings)]
    if len(keys) > 1:
        keys = [key for key in keys if len({values[key] for values in settings}) > 1]
    if len(keys) != 1:
        raise InputError(f"'{label}' has {len(keys) or 'no'} step sizes{f', {keys}' if keys else ''}; one is needed.")
    return keys[0]


def sweeps_step_sizes(runs: pd.DataFrame) -> bool:
    """Whether every method setting was run at several initial step sizes on every data set."""
    try:
        tried = by_step_size(runs).groupby(["dataset", "label"])["step_size"].nunique()
    except InputError:
        return False
    return bool((tried > 1).all())


def useless(chance: Any) -> Any:  # pd.Series or float
    """The accuracy at which a run is no evidence of stability, however steadily it ends there: twice chance, and of
    fewer than three classes half-way from chance to 1."""
    return np.minimum(2 * chance, (1 + chance) / 2)


def stability(
    runs: pd.DataFrame, curves: pd.DataFrame, by: str | Sequence[str] = "dataset", within: float = WITHIN
) -> pd.DataFrame:
    """One row a (group, label, seed) over the initial step sizes tried; labels as `by_step_size` shortens them.

    step_sizes: how many were tried. usable_decades: width, in powers of ten, of the unbroken range of step sizes around
    the seed's best that loses at most `within` of its test accuracy (linear in log step size between those tried, and
    never beyond them). survival: share of step sizes at which training finished below the training loss it started
    from, without those above best_step_size that ended at `useless` accuracy: dead units, whose loss may be just below
    the start. cut_off: whether the usable range reaches an end of the sweep, so that its width is a lower bound.
    best_step_size: the label's, with the highest mean validation accuracy over seeds. steadiness: minus the distance of
    the seed's test accuracy from the other seeds' median there (NaN for one seed). A run that ended at `useless`
    accuracy or did not finish counts as chance and has the least steadiness, chance - 1; a seed with no other runs has
    status "failed" and 0 decades. Raises InputError where a seed lacks a step size.
    """
    by, runs = listed(by), by_step_size(runs)
    cell = [*by, "label"]
    require_columns(runs, [*by, "seed", "run_key"])
    require_columns(curves, ["run_key", "iteration", "train_loss"])
    check_one_row_per_seed(runs, [*cell, "step_size"])
    loss = curves.sort_values("iteration").groupby("run_key")["train_loss"]
    fell = loss.last() < loss.first()
    values = runs[[*cell, "seed", "step_size"]].assign(
        accuracy=scores(runs),
        validation=scores(runs, "val_accuracy"),
        chance=chance(runs),
        sound=is_finished(runs) & (scores(runs) > useless(chance(runs))),
        alive=is_finished(runs) & runs["run_key"].isin(fell.index[fell]),
    )
    rows = []
    for key, found in values.groupby(cell, sort=False):
        measured = ["accuracy", "validation", "sound", "alive"]
        table = found.astype(dict.fromkeys(measured, float)).pivot(index="seed", columns="step_size", values=measured)
        if table.isna().any(axis=None):
            where = ", ".join(map(str, key))
            raise InputError(f"{where}: some seeds lack step sizes that others have, so that they do not compare.")
        accuracy, sound, guessed = table["accuracy"], table["sound"] > 0, found["chance"].iloc[0]
        best = table["validation"].mean().idxmax()
        others = pd.Series({seed: accuracy[best].drop(seed).median() for seed in accuracy.index})
        alive = (table["alive"] > 0) & (sound | (sound.columns <= best))
        distance = (accuracy[best] - others).abs().where(sound[best], 1 - guessed)
        for seed in table.index:
            useful = accuracy.loc[seed].where(sound.loc[seed], guessed)
            decades, cut_off = _decades(useful, within) if sound.loc[seed].any() else (0.0, False)
            rows.append(
                dict(zip(cell, key))
                | dict(seed=seed, status="done" if sound.loc[seed].any() else "failed", step_sizes=accuracy.shape[1])
                | dict(usable_decades=decades, cut_off=cut_off, survival=alive.loc[seed].mean())
                | dict(best_step_size=best, steadiness=-distance[seed])
            )
    return pd.DataFrame(rows)


def _decades(accuracy: pd.Series, within: float) -> tuple[float, bool]:
    """Width in powers of ten of the range around the best where accuracy, between step sizes linear, keeps the limit,
    and whether an end of what was tried cuts it off.

    accuracy: by step size, ascending.
    """
    x, y = np.log10(accuracy.index.to_numpy(float)), accuracy.to_numpy()
    best = int(y.argmax())
    limit = y[best] - within

    def end(step: int) -> float:
        at = best
        while 0 <= at + step < len(y) and y[at + step] >= limit:
            at += step
        if not 0 <= at + step < len(y):
            return x[at]
        return x[at] + (x[at + step] - x[at]) * (y[at] - limit) / (y[at] - y[at + step])

    low, high = end(-1), end(1)
    return float(high - low), bool(low == x[0] or high == x[-1])


def over_settings(
    runs: pd.DataFrame, by: str | Sequence[str] = "dataset", metric: str = "test_accuracy",
    unfinished: float | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row a (group, method, seed): the mean over all settings tried, labelled by the method's name.

    What a method is worth when its setting (a step size, say) is drawn blindly: the measure of stability.
    Raises InputError where seeds or methods of one group were given different numbers of settings.
    """
    by = listed(by)
    require_columns(runs, [*by, "method", "label", "seed"])
    check_one_row_per_seed(runs, [*by, "method", "label"])
    cell = [*by, "method", "seed"]
    table = runs[cell].assign(value=scores(runs, metric, unfinished), finished=is_finished(runs))
    cells = table.sort_values("value").groupby(cell, sort=False)
    counts = cells.size()
    if counts.groupby(by).nunique().gt(1).any():
        few, many = (", ".join(map(str, key)) for key in (counts.idxmin(), counts.idxmax()))
        raise InputError(f"{few} has {counts.min()} settings and {many} {counts.max()}: their means do not compare.")
    means = cells.agg(**{metric: ("value", "mean"), "finished": ("finished", "any")}).reset_index()
    result = table[cell].drop_duplicates().merge(means, how="left")
    status = np.where(result.pop("finished"), "done", "failed")
    return result.assign(label=result["method"], status=status)


def stability_table(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row a data set and method over its initial step sizes: the columns of `stability`, over seeds.

    mean_accuracy: of a step size drawn blindly, from all that were tried. deviation: mean distance of a seed's accuracy
    from the other seeds' median at best_step_size. Raises InputError for labels that name no step size.
    """
    family = by_step_size(runs)["label"]
    blind = over_settings(runs.assign(method=family))
    found = stability(runs, curves)
    rows = []
    for (dataset, label), cell in found.groupby(["dataset", "label"], sort=False):
        accuracy = blind.loc[(blind["dataset"] == dataset) & (blind["label"] == label), "test_accuracy"]
        rows.append(
            dict(dataset=dataset, label=label, seeds=len(cell), done=int((cell["status"] == "done").sum()))
            | dict(step_sizes=cell["step_sizes"].iloc[0], best_step_size=cell["best_step_size"].iloc[0])
            | spread("usable_decades", cell["usable_decades"])
            | dict(cut_off=bool(cell["cut_off"].any()))
            | spread("diverged_share", 1 - cell["survival"])
            | spread("deviation", -cell["steadiness"])
            | spread("mean_accuracy", accuracy)
        )
    return pd.DataFrame(rows)
