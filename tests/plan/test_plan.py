"""Stacks: which runs train together."""

import dataclasses

from helpers import CPU, METHODS, PRINTS, SHAPES, read_fixture  # noqa: F401

from am.data import Identity
from am.machine import CPU_STACK, largest_stack
from am.methods import method
from reproduce.evidence.config import RunConfig
from reproduce.plan.plan import PlannedRun, plan, rounds, stacks


def planned(read, **changes) -> list[PlannedRun]:
    over = dict(shape=["row", "scalar"], alpha0=[0.05, 0.1, 0.2])
    methods = [
        *METHODS,
        dict(name="samt", label="{shape} {alpha0}", over=over),
        dict(name="samt", label="slow", set=dict(inner_steps=2)),
    ]
    return plan(read(**dict(methods=methods, hidden=[[6], [5, 5]], seeds=4) | changes), PRINTS)


def keys(made) -> list[list[str]]:
    return [[run.run_key for run in stack] for stack in made]


def test_every_run_is_in_exactly_one_stack_beside_runs_it_can_share_a_program_with(read):
    runs = planned(read)
    made = stacks(runs, SHAPES, CPU)
    assert sorted(key for stack in keys(made) for key in stack) == sorted(run.run_key for run in runs)
    for stack in made:
        first = stack[0].config
        for run in stack:
            for f in dataclasses.fields(RunConfig):
                if f.name not in ("seed", "settings"):
                    assert getattr(run.config, f.name) == getattr(first, f.name)
            for (name, value), (_, other) in zip(run.config.settings, first.settings, strict=True):
                assert value == other or isinstance(value, float), name
    # Seeds and step sizes train together: 12 runs of each shape and network, 4 of each other setting.
    assert sorted(map(len, made)) == [4] * 8 + [12] * 4


def test_the_grouping_is_the_same_every_time(read):
    assert keys(stacks(planned(read), SHAPES, CPU)) == keys(stacks(planned(read), SHAPES, CPU))


def test_runs_of_every_activation_share_stacks(read):
    made = stacks(planned(read, activations=["elu", "relu6"], hidden=[[6]]), SHAPES, CPU)
    lengths = {act: {len(s) for s in made if s[0].config.activation == act} for act in ("elu", "relu6")}
    assert lengths == {"elu": {4, 12}, "relu6": {4, 12}}


def test_a_stack_holds_no_more_than_the_machine_does_and_parts_are_even(read):
    runs = planned(read, methods=[dict(name="sgd")], hidden=[[6]], seeds=CPU_STACK + 1)
    limit = largest_stack(method("sgd"), (64, 6, 10), 100, 25, CPU)
    assert limit == CPU_STACK
    made = stacks(runs, SHAPES, CPU)
    assert [len(stack) for stack in made] == [-(-(CPU_STACK + 1) // 2), (CPU_STACK + 1) // 2]
    assert [run.config.seed for stack in made for run in stack] == list(range(CPU_STACK + 1))


def test_two_labels_of_one_run_train_it_once(read):
    default = method("sgd").settings().learning_rate
    twice = [dict(name="sgd"), dict(name="sgd", label="again", set=dict(learning_rate=default))]
    runs = planned(read, methods=twice, hidden=[[6]], seeds=2)
    assert len(runs) == 4 and len({run.run_key for run in runs}) == 2
    assert [len(stack) for stack in stacks(runs, SHAPES, CPU)] == [2]


def test_constants_are_scaled_to_the_rows_at_hand_unless_the_grid_says_published(read):
    """SPEC 8: mu and theta_0 times n / 55,000; a copy with fewer rows than the official set counts its own rows."""
    methods = [dict(name="tiam"), dict(name="tiam", label="heavy", set=dict(mu=0.2)), dict(name="sgd")]
    grid = read(methods=methods, datasets=["mnist"], n_train=[50, "all"], constants=["scaled", "published"], seeds=1)
    runs = plan(grid, PRINTS)
    found = {
        (run.label, run.config.n_train, run.config.constants): (settings.get("mu"), settings.get("theta_0"))
        for run in runs
        for settings in [dict(run.config.settings)]
    }
    share = 50 / 55_000
    assert found[("TIAM", 50, "scaled")] == (share * 0.05, share) and found[("heavy", 50, "scaled")][0] == share * 0.2
    assert found[("TIAM", 50, "published")] == (0.05, 1.0) and found[("heavy", 50, "published")] == (0.2, 1.0)
    assert found[("TIAM", 0, "scaled")] == (0.05, 1.0), "and no second run of it"
    assert ("TIAM", 0, "published") not in found
    assert {key for key in found if key[0] == "SGD"} == {("SGD", 50, "scaled"), ("SGD", 0, "scaled")}
    part = plan(grid, {"mnist": Identity("0" * 64, False, 4_434)})
    rows = {
        run.config.n_train: dict(run.config.settings)["mu"]
        for run in part
        if run.config.constants == "scaled" and run.label == "TIAM"
    }
    assert rows == {50: share * 0.05, 0: (4_434 - 443) / 55_000 * 0.05}


def test_tried_values_are_those_of_all_rows_and_what_runs_is_scaled(read):
    grid = read(rule="tuned", trials=3, methods=[dict(name="tiam")], datasets=["mnist"], n_train=[50, "all"])
    small, whole = ([r for r in plan(grid, PRINTS) if r.config.n_train == n] for n in (50, 0))
    for a, b in zip(small, whole, strict=True):
        assert dict(a.config.settings)["mu"] == 50 / 55_000 * dict(b.config.settings)["mu"]
        assert dict(a.config.settings)["rho"] == dict(b.config.settings)["rho"]


def seeds_of(made) -> list[set[int]]:
    return [{run.config.seed for run in one if run.trial is None} for one in made]


def test_rounds_are_seeds_of_every_setting_of_every_grid(read):
    few, many = planned(read, seeds=2), planned(read, seeds=5, first_seed=10)
    made = list(rounds([few, many]))
    assert seeds_of(made) == [{0, 10}, {1, 11}, {12}, {13}, {14}]
    assert sorted(run.run_key for one in made for run in one) == sorted(run.run_key for run in [*few, *many])
    assert len({(run.label, run.config.hidden) for run in made[0]}) == 20
    assert seeds_of(rounds([few, many], 2)) == [{0, 1, 10, 11}, {12, 13}, {14}]
    assert list(rounds([])) == []


def test_trials_come_before_the_first_seed(read):
    paper, tuned = planned(read, seeds=2), planned(read, rule="tuned", trials=3, methods=METHODS[:2], seeds=2)
    first, second = rounds([paper, tuned])
    assert [run.trial is not None for run in first] == [True] * 12 + [False] * 20
    assert all(run.trial is None for run in second)
    (alone,) = rounds([tuned])
    assert len(alone) == 12
