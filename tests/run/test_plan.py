"""Stacks: which runs train together."""

import dataclasses

from helpers import CPU, METHODS, PRINTS, SHAPES, read_fixture  # noqa: F401

from am.machine import CPU_STACK, largest_stack
from am.methods import method
from reproduce.run.config import RunConfig
from reproduce.run.plan import PlannedRun, plan, stacks


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
