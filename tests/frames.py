"""Rows of runs and curves as their CSVs hold them, for the tests of the judges."""

import json
import math

import numpy as np
import pandas as pd

from reproduce.judge.summary import MEANS

NAN, INF = math.nan, math.inf


def make_runs(accuracies, **columns):
    """{label: {dataset: one accuracy a seed}} -> rows of runs.csv; a word in place of a number is the run's status."""
    rows = []
    for label, sets in accuracies.items():
        for dataset, values in sets.items():
            for seed, value in enumerate(values):
                done = not isinstance(value, str)
                row = dict.fromkeys(MEANS, 1.0) | dict(
                    grid="g", profile="light", rule="paper", lane="accuracy", dataset=dataset, data_official=True,
                    n_train=1000, inputs="unit", activation="relu", hidden="100-100", init="he", constants="scaled",
                    method=label.split()[0].lower(), label=label, hyperparameters="{}", seed=seed,
                    status="done" if done else value, test_accuracy=value if done else NAN,
                    val_accuracy=value if done else NAN, run_key=f"{label}/{dataset}/{seed}",
                )  # fmt: skip
                rows.append(row | columns)
    return pd.DataFrame(rows)


def draws(mean, n=5, seed=0, sd=0.01):
    """n values with exactly this mean and standard deviation."""
    x = np.random.default_rng(seed).standard_normal(n)
    return list(mean + sd * (x - x.mean()) / x.std(ddof=1))


def one(table, **where):
    rows = table[np.logical_and.reduce([table[key] == value for key, value in where.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


def shuffled(frame, seed=3):
    return frame.sample(frac=1.0, random_state=seed)


STEPS = (0.01, 0.1, 1, 10)


def make_sweep(accuracies, start=2.3, end=0.5):
    """{label: one list a seed of accuracies at STEPS} -> runs and curves. A word is a status, and its loss fell first;
    the loss of a run at chance rises."""
    runs = make_runs(
        {f"{label}, {float(x)}": {"mnist": [seed[i] for seed in seeds]} for label, seeds in accuracies.items()
         for i, x in enumerate(STEPS)}
    )  # fmt: skip
    steps = [json.dumps(dict(learning_rate=float(label.split(", ")[1]))) for label in runs["label"]]
    runs = runs.assign(method="sgd", hyperparameters=steps)
    last = np.where(runs["test_accuracy"] <= 0.1, start + 1, end)
    first = pd.DataFrame(dict(run_key=runs["run_key"], iteration=0, train_loss=start))
    final = pd.DataFrame(dict(run_key=runs["run_key"], iteration=9, train_loss=last))
    return runs, pd.concat([final, first])


def make_curves(runs, values):
    """values: {run_key: metric at evaluations 1, 2, ...}, every evaluation 10 updates apart."""
    return pd.DataFrame(
        [
            dict(run_key=key, iteration=i, parameter_updates=10 * i, val_accuracy=value, train_loss=1 - value)
            for key, curve in values.items()
            for i, value in enumerate(curve, 1)
        ]
    )


def runs_of(values: dict[str, list[float]], dataset: str = "mnist", official: bool = True) -> pd.DataFrame:
    rows = [
        dict(
            grid="g", profile="light", dataset=dataset, data_official=official, n_train=100, activation="relu",
            hidden="8", method=label.lower(), label=label, seed=seed, status="done", test_accuracy=value,
            val_accuracy=value, run_key=f"{dataset}{label}{seed}",
        )
        for label, accuracies in values.items()
        for seed, value in enumerate(accuracies)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write_runs(folder, runs):
    folder.mkdir(parents=True)
    runs.to_csv(folder / "runs.csv", index=False)
