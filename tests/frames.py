"""Rows of runs and curves as their CSVs hold them, for the tests of the judges."""

import json
import math

import numpy as np
import pandas as pd

from reproduce.judge.measures import Claim
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


ACTIVATIONS = ("relu", "leaky_relu", "relu6", "elu", "selu", "celu", "softplus")


def synthetic(claim: Claim, seeds: int = 5, status: str = "done") -> tuple[pd.DataFrame, pd.DataFrame]:
    """CSVs on which the claim is as true as can be; status: of the runs of the labels it is about."""
    mine = {claim.method, *claim.labels}
    shaped, sweep = claim.rule == "varies", claim.grid == "samt_stability"
    labels = dict.fromkeys([*claim.against, *claim.labels, claim.reference, claim.method])
    rows, points = [], []
    for d, dataset in enumerate(("mnist", "svhn")):
        for i, label in enumerate(filter(None, labels)):
            for act in ACTIVATIONS if claim.group else ("relu",):
                for x in (0.01, 0.1, 1.0) if sweep else (None,):
                    for seed in range(seeds):
                        own, noise = label in mine, 0.001 * ((seed * 7 + i) % 5)
                        gain = (0.2 if act != "softplus" else 0.1) if own and not shaped else 0.1 * ((i + d) % 2)
                        lost = 0.0 if own or x in (None, 0.1) else 0.3
                        spread = noise if not sweep else noise / 10 if own else noise + 0.02 * (seed % 2)
                        accuracy = 0.6 + gain - lost + spread
                        done = status == "done" or not own
                        rows.append(dict(
                            grid="g", profile="light", lane="time", dataset=dataset, data_official=True, n_train=100,
                            activation=act, hidden="8", method="sgd" if sweep else label.lower(), seed=seed,
                            iterations=60,
                            hyperparameters=json.dumps(dict(learning_rate=x)),
                            label=label if x is None else f"{label}, {x}", status="done" if done else status,
                            test_accuracy=accuracy if done else np.nan, val_accuracy=accuracy if done else np.nan,
                            parameter_updates=60 * (3 if own else 1), gradient_evaluations=60 * (1 if own else 2),
                            run_key=f"{dataset}{label}{act}{x}{seed}",
                            seconds=1 + noise + 5 * (not own), flops=100.0 + 50 * (not own),
                        ))  # fmt: skip
                        k = np.arange(0, 62, 2)
                        speed = 0.9 if own else 0.97
                        points.append(dict(
                            run_key=rows[-1]["run_key"], dataset=dataset, label=rows[-1]["label"], seed=seed,
                            iteration=k, epoch=k / (1 if own else 0.5), seconds=k * (0.1 + noise + (not own)),
                            parameter_updates=k * (1 + 3 * (not own)), val_accuracy=accuracy * (1 - 0.5 * speed**k),
                            test_accuracy=accuracy * (1 - 0.5 * speed**k),
                            objective=5 + 100 * (0.9 + noise) ** k, gradient_norm=3 * np.maximum(k, 1.0) ** -0.5,
                            train_loss=2.3 + (-0.03 if own or lost == 0 else 0.03) * k,
                        ))  # fmt: skip
    # Not a frame a run, of which the hundreds take longer to make than a claim to judge.
    whole = {name: np.concatenate([np.broadcast_to(p[name], k.shape) for p in points]) for name in points[0]}
    return pd.DataFrame(rows), pd.DataFrame(whole)
