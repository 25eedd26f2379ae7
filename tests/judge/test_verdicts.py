"""Every rule, from the table of comparisons to the verdict."""

import pandas as pd
import pytest
from frames import NAN, draws, make_runs

from am.errors import InputError
from reproduce.judge.compare import best_and_ties, compare, decided
from reproduce.judge.convergence import levels
from reproduce.judge.verdicts import verdict


def comparisons(outcomes, scale="difference", **columns):
    """{(group, comparator): outcome} -> the columns of a comparison table that a verdict reads."""
    rows = [
        dict(dataset=d, a="A", b=b, scale=scale, n=5, a_done=5, ci_low=-0.01, ci_high=0.01, outcome=outcome)
        for (d, b), outcome in outcomes.items()
    ]
    return pd.DataFrame(rows).assign(**columns)


def said(found):
    return found.verdict, found.reason


SETS = ("mnist", "svhn", "cifar10")


@pytest.mark.parametrize("rule, scale", [("better", "difference"), ("fewer", "ratio")])
@pytest.mark.parametrize(
    "outcomes, expected",
    [
        (("better", "better", "better"), "held"),
        (("better", "better", "untested"), "held"),
        (("better", "tied", "tied"), "partly"),
        (("better", "better", "worse"), "refuted"),
        (("tied", "tied", "tied"), "open"),
        (("worse", "untested", "untested"), "refuted"),
        (("untested", "untested", "untested"), "not tested here"),
    ],
)
def test_rules_better_and_fewer(rule, scale, outcomes, expected):
    table = comparisons({(d, "B"): o for d, o in zip(SETS, outcomes)}, scale)
    assert verdict(rule, table).verdict == expected


def test_a_group_holds_only_against_every_comparator():
    keys = [("mnist", "B"), ("mnist", "C"), ("svhn", "B"), ("svhn", "C")]
    table = comparisons(dict(zip(keys, ["better", "tied", "better", "better"])))
    assert said(verdict("better", table)) == ("partly", "holds: svhn; open: mnist")
    assert verdict("better", table[table["dataset"] == "mnist"]).verdict == "open"
    untested = table.assign(outcome=["better", "untested", "better", "better"])
    assert verdict("better", untested).reason == "holds: svhn; open: mnist"
    worse = table.assign(outcome=["better", "worse", "better", "better"])
    assert said(verdict("better", worse)) == ("refuted", "holds: svhn; the opposite: mnist (C)")


def test_the_opposite_is_corrected_over_all_comparisons_of_the_claim_and_what_holds_is_not():
    keys = [("mnist", b) for b in "BCDE"] + [("svhn", "B")]
    table = comparisons(dict.fromkeys(keys, "")).assign(b_done=5, gain=[-1, 1, 1, -1, -1])
    found = decided(table.assign(p=[0.03, 0.04, 0.5, 0.001, 0.03]))
    assert list(found["outcome"]) == ["tied", "better", "tied", "worse", "tied"]  # .03 is 4 * .03 after Holm
    assert list(found["p_holm"]) == pytest.approx([0.12, 0.12, 0.5, 0.005, 0.12])
    assert said(verdict("better", found)) == ("refuted", "open: svhn; the opposite: mnist (E)")
    lucky = decided(table.assign(p=[0.03, 0.04, 0.5, 0.02, 0.03]))
    assert said(verdict("better", lucky)) == ("open", "open: mnist, svhn")


def test_what_was_won_tied_and_lost_is_counted():
    keys = [("mnist", b) for b in "BCDEF"]
    found = verdict("better", comparisons(dict(zip(keys, ["better", "better", "tied", "worse", "untested"]))))
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        (("better", "better", "better", "better"), "held"),
        (("better", "better", "tied", "worse"), "partly"),  # the first part contributes on both sets
        (("better", "tied", "tied", "better"), "open"),
        (("untested",) * 4, "not tested here"),
    ],
)
def test_rule_contributes_judges_part_by_part(outcomes, expected):
    keys = [("mnist", "no p1"), ("svhn", "no p1"), ("mnist", "no p2"), ("svhn", "no p2")]
    for scale in ("difference", "ratio"):
        result = verdict("contributes", comparisons(dict(zip(keys, outcomes)), scale))
        assert result.verdict == expected
    assert "no p1" in result.reason


@pytest.mark.parametrize(
    "intervals, expected",
    [
        ([(-0.01, 0.3), (-0.005, 0.0)], "held"),
        ([(-0.01, 0.3), (-0.03, 0.1)], "partly"),
        ([(-0.01, 0.3), (-0.09, -0.05)], "refuted"),
        ([(-0.02, 0.3), (-0.03, 0.1)], "open"),  # at the margin is not above it
        ([(NAN, NAN), (NAN, NAN)], "not tested here"),
    ],
)
def test_rule_not_worse(intervals, expected):
    table = comparisons({(d, "B"): "tied" for d in SETS[:2]})
    table[["ci_low", "ci_high"]] = intervals
    assert verdict("not_worse", table, bound=0.02).verdict == expected


@pytest.mark.parametrize(
    "mnist, svhn, expected",
    [
        ([1.0] * 5, [1.0] * 5, "held"),
        ([1.0] * 5, draws(0.99, sd=0.01), "partly"),
        ([1.0] * 5, draws(0.5, sd=0.01), "refuted"),
        ([1.0] * 2, [1.0] * 2, "not tested here"),
    ],
)
def test_rules_at_least_and_at_most(mnist, svhn, expected):
    runs = make_runs({"A": {"mnist": mnist, "svhn": svhn}}).rename(columns={"test_accuracy": "share"})
    assert verdict("at_least", levels(runs, "share"), bound=0.99).verdict == expected
    mirrored = levels(runs.assign(share=-runs["share"]), "share")
    assert verdict("at_most", mirrored, bound=-0.99).verdict == expected


@pytest.mark.parametrize(
    "best, expected",
    [
        ({"mnist": ["row"], "svhn": ["column"]}, "held"),
        ({"mnist": ["row"], "svhn": ["column", "row"]}, "partly"),
        ({"mnist": ["row", "column"], "svhn": ["column", "row"]}, "open"),
        ({"mnist": ["row"], "svhn": ["row"]}, "refuted"),
        ({"mnist": ["row"]}, "not tested here"),
    ],
)
def test_rule_varies(best, expected):
    rows = [
        dict(dataset=d, label=x, n=5, outcome="best" if x == names[0] else "tied" if x in names else "worse")
        for d, names in best.items()
        for x in ("row", "column", "element")
    ]
    few = [("element", "best"), ("row", "untested"), ("column", "worse")]
    rows += [dict(dataset="cifar10", label=x, n=1, outcome=o) for x, o in few]
    rows += [dict(dataset="svhn2", label=x, n=5, outcome=o) for x, o in [("element", "best"), ("row", "failed")]]
    found = verdict("varies", pd.DataFrame(rows))
    assert found.verdict == expected and "not tested: cifar10 (one seed: no statistics)" in found.reason


def test_verdict_from_runs_to_word():
    runs = make_runs(
        {
            "SAMT": {"mnist": draws(0.95), "svhn": draws(0.6)},
            "Adam": {"mnist": draws(0.9, seed=1), "svhn": draws(0.6, seed=2)},
            "SGD": {"mnist": draws(0.8, seed=3), "svhn": draws(0.5, seed=4)},
        }
    )
    assert verdict("better", compare(runs, "SAMT", ["Adam", "SGD"])).verdict == "partly"
    assert verdict("better", compare(runs, "SAMT", "SGD")).verdict == "held"
    assert verdict("better", compare(runs, "SGD", "SAMT")).verdict == "refuted"
    two = verdict("better", compare(runs[runs["seed"] < 2], "SAMT", "SGD"))
    short = "not tested: mnist (2 seeds: too few for a test), svhn (2 seeds: too few for a test)"
    assert said(two) == ("not tested here", short)
    alone = runs[runs["seed"] < 1]
    one = "not tested: mnist (one seed: no statistics), svhn (one seed: no statistics)"
    assert said(verdict("better", compare(alone, "SAMT", ["Adam", "SGD"]))) == ("not tested here", one)
    level = levels(alone[alone["label"] == "SGD"], "test_accuracy")
    assert said(verdict("at_least", level, bound=0.1)) == ("not tested here", one)
    assert said(verdict("varies", best_and_ties(alone))) == ("not tested here", one)
    mixed = verdict("better", compare(runs[(runs["seed"] < 1) | (runs["dataset"] == "mnist")], "SAMT", "SGD"))
    assert said(mixed) == ("held", "holds: mnist; not tested: svhn (one seed: no statistics)")
    shapes = best_and_ties(runs)
    assert said(verdict("varies", shapes)) == ("open", "mnist: SAMT; svhn: SAMT, Adam")


def test_verdicts_refuse_what_their_rule_cannot_judge():
    table = comparisons({("mnist", "B"): "better"})
    with pytest.raises(InputError, match="did you mean 'better'"):
        verdict("beter", table)
    with pytest.raises(InputError, match="scale ratio, not 'difference'"):
        verdict("fewer", table)
    with pytest.raises(InputError, match="needs a bound"):
        verdict("not_worse", table)
    with pytest.raises(InputError, match="takes no bound"):
        verdict("better", table, bound=0.1)
    assert said(verdict("better", table.iloc[:0])) == ("not tested here", "no comparison was made")


def test_labels_with_commas_of_their_own_stand_in_quotes():
    table = comparisons({("mnist", "Adam"): "worse", ("mnist", "AdamW, cosine"): "worse"})
    assert verdict("better", table).reason == 'the opposite: mnist (Adam, "AdamW, cosine")'
    assert verdict("contributes", table.iloc[1:]).reason == 'the opposite: "AdamW, cosine" (mnist)'
