"""Costs to a target, performance profiles, costs of a step."""

import warnings

import numpy as np
import pandas as pd
import pytest
from frames import INF, NAN, make_curves, make_runs

from am.errors import InputError
from reproduce.judge.compare import compare_costs
from reproduce.judge.targets import (
    at_equal_cost,
    cost_to_target,
    performance_profile,
    step_costs,
    targets,
    with_block_gradients,
)


def test_step_costs_of_a_worked_example_and_of_a_run_that_diverged():
    runs = make_runs({"SAMT": {"mnist": [0.9, 0.9, "diverged"]}, "SGD": {"mnist": [0.9, 0.9, 0.9]}})
    runs = runs.assign(iterations=100, parameter_updates=[300] * 3 + [100] * 3, seconds=[6.0, 12, 0.1, 3, 3, 3])
    costs = step_costs(runs, "seconds")
    assert list(costs["block_step"]) == pytest.approx([0.02, 0.04, 0.1 / 300, 0.03, 0.03, 0.03])
    assert list(costs["full_step"]) == pytest.approx([0.06, 0.12, 0.001, 0.03, 0.03, 0.03])
    # Three equal parts of a share: ratios 2/3, 4/3 and, for the run that diverged, infinity.
    assert compare_costs(costs, "SAMT", "SGD", cost="block_step")["effect"].item() == pytest.approx(4 / 3)
    never = runs.assign(status=np.where(runs["label"] == "SAMT", "diverged", "done"))
    costs = step_costs(never, "seconds")
    assert compare_costs(costs, "SAMT", "SGD", cost="block_step")["outcome"].item() != "better"
    alone = step_costs(runs[runs["label"] == "SGD"], "seconds")
    assert alone["block_step"].equals(costs.loc[costs["label"] == "SGD", "block_step"])


def test_cost_to_target_is_the_first_evaluation_that_reaches_it():
    runs = make_runs({"A": {"mnist": [0.9, 0.7, "diverged", "failed"]}, "B": {"mnist": [0.9]}})
    curves = make_curves(runs, {
        "A/mnist/0": [0.5, 0.8, 0.6, 0.9],  # reached, lost and reached again
        "A/mnist/1": [0.5, 0.6, 0.7, NAN],
        "A/mnist/2": [0.9, 0.9, NAN],  # reached and diverged afterwards: a miss
        "B/mnist/0": [0.80],
    })  # fmt: skip
    for frame in (curves, curves[::-1]):
        found = cost_to_target(runs, frame, 0.8)
        assert list(found["cost"]) == [20, INF, INF, INF, 10]
        assert list(found["before"]) == [10, INF, INF, INF, 10]  # B was there at its first evaluation
    assert list(cost_to_target(runs, curves, 0.8, cost="iteration")["cost"]) == [2, INF, INF, INF, 1]


def test_targets_are_one_a_data_set_and_of_one_reference():
    adam = {"mnist": [0.8, 0.7, 0.9], "svhn": [0.4, "failed"]}
    runs = make_runs({"A": {"mnist": [0.9], "svhn": [0.5]}, "Adam": adam})
    goals = targets(runs, "Adam", share=0.5)
    assert goals["mnist"] == pytest.approx(0.4) and goals["svhn"] == pytest.approx(0.125)
    curves = make_curves(runs, {"A/mnist/0": [0.2, 0.5], "A/svhn/0": [0.2, 0.5], "Adam/svhn/0": [0.1, 0.1]})
    assert list(cost_to_target(runs, curves, goals)["cost"])[:2] == [20, 10]
    never = runs.assign(status=np.where(runs["label"] == "Adam", "diverged", "done"))
    assert targets(never, "Adam").isna().all(), "chance is no target"
    with pytest.raises(InputError, match="no target for dataset 'svhn'; there is one for mnist"):
        cost_to_target(runs, curves, {"mnist": 0.5})


def test_performance_profile_of_a_worked_example():
    costs = pd.DataFrame({"A": [1.0, 4.0, 3.0], "B": [2.0, 2.0, 3.0]}, index=["p", "q", "r"])
    profile = performance_profile(costs, [1, 1.9, 2])
    assert list(profile["A"]) == pytest.approx([2 / 3, 2 / 3, 1]) == list(profile["B"])


@pytest.mark.parametrize("miss", [INF, NAN])
def test_performance_profile_with_failures(miss):
    # Bad fails everywhere, and everybody fails on the last problem.
    costs = pd.DataFrame({"A": [1.0, 2.0, miss], "Bad": [miss, miss, miss], "B": [2.0, 1.0, miss]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = performance_profile(costs, [1, 2, 1e12, INF])
    assert list(profile["A"]) == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3]) == list(profile["B"])
    assert (profile["Bad"] == 0).all()


def test_performance_profile_of_free_and_of_negative_costs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        free = performance_profile(pd.DataFrame({"A": [0.0], "B": [1.0]}), [1, 1e9])
    assert free.to_numpy().tolist() == [[1, 0], [1, 0]]
    with pytest.raises(InputError, match="negative"):
        performance_profile(pd.DataFrame({"A": [-1.0]}), [1])


def test_a_gradient_of_all_layers_counts_one_for_each():
    counted = {  # method: hidden, layers moved a step, what its runs count as gradients a step, what they are here
        "sgd": ("8-8", 3, 1, 3),
        "osgm": ("8-8", 3, 2, 6),
        "samt": ("8-8", 3, 6, 6),
        "am-adam": ("8-8", 3, 13, 13),
        "locoprop": ("8-8", 3, 7, 9),  # one of all layers, and two local steps a layer
        "adam": ("", 5, 1, 5),  # a network whose depth its counter of updates alone knows
    }
    rows = [
        dict(run_key=name, method=name, hidden=hidden, iterations=10, parameter_updates=10 * moved,
             gradient_evaluations=10 * counted)
        for name, (hidden, moved, counted, _) in counted.items()
    ]  # fmt: skip
    curves = pd.DataFrame([dict(run_key=name, iteration=k) for name in counted for k in (0, 4)])
    found = with_block_gradients(pd.DataFrame(rows), curves)
    each = {name: wanted for name, (*_, wanted) in counted.items()}
    assert list(found["block_gradients"]) == [k * each[name] for name in counted for k in (0, 4)]


def test_at_equal_cost_nobody_has_spent_more_than_the_other_spends_in_all():
    runs = make_runs({"A": {"mnist": [0.9, "diverged"]}, "B": {"mnist": [0.8, 0.8]}, "C": {"mnist": [0.7, 0.7]}})
    spent = {"A": 6, "B": 3, "C": 1}
    curves = pd.DataFrame(
        [
            dict(run_key=row.run_key, iteration=k, cost=k * spent[row.label], test_accuracy=k / 10)
            for row in runs.itertuples()
            for k in (0, 1, 2, 3, 4)
        ]
    )
    table = at_equal_cost(runs, curves, ("A", "B"), "cost")
    assert list(table["label"]) == ["A", "A", "B", "B"] and list(table["status"])[1] == "diverged"
    assert list(table["test_accuracy"])[::2] == [0.2, 0.4]  # 12 are B's 4 steps and A's 2
    # C, which spends 4 in all, has no part in it; against C both have less.
    assert list(at_equal_cost(runs, curves, ("B", "C"), "cost")["test_accuracy"]) == [0.1, 0.1, 0.4, 0.4]
