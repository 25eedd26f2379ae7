"""A configuration's fields: each has its column, and comes back from its row as it was."""

import dataclasses

import pytest

from reproduce.evidence.config import ASKED, RunConfig, from_row
from reproduce.evidence.schema import TABLES

CONFIG = RunConfig(
    dataset="digits",
    data_fingerprint="ab" * 32,
    n_train=0,
    inputs="standardised",
    activation="elu",
    hidden=(8, 5),
    init="normal(0.1)",
    method="sgd",
    settings=(("lr", 1e-05), ("decay", True), ("name", "a b")),
    seed=3,
    epochs=2,
    batch_size=25,
    evaluate_every=0.5,
    network="lenet5",
    constants="published",
    gradient_norm=True,
    lane="time",
)


@pytest.mark.parametrize("changes", [{}, dict(gradient_norm=False, evaluate_every=1, hidden=(7,), settings=())])
def test_a_configuration_comes_back_from_its_row(changes):
    config = dataclasses.replace(CONFIG, **changes)
    again = from_row(config.row)
    assert again == config and again.row == config.row
    assert type(again.evaluate_every) is type(config.evaluate_every)
    assert from_row(config.row, read_test=False) == dataclasses.replace(config, read_test=False)


def test_every_field_but_one_has_a_column_of_runs_and_trials():
    assert {f.name for f in dataclasses.fields(RunConfig) if not f.metadata} == {"read_test"}
    for table in ("runs", "tuning"):
        assert set(ASKED) <= set(TABLES[table].names)


def test_a_row_from_before_a_field_has_its_default():
    config = dataclasses.replace(CONFIG, network="mlp", lane="accuracy")
    row = {name: text for name, text in config.row.items() if name != "lane"}
    assert from_row(row | dict(network="")) == config
    with pytest.raises(ValueError):
        from_row(row | dict(epochs_asked=""))
    with pytest.raises(KeyError):
        from_row({name: text for name, text in row.items() if name != "inputs"})


def test_what_training_shares_with_a_configuration_follows_from_it():
    budget = CONFIG.budget
    assert (budget.epochs, budget.batch_size, budget.evaluate_every) == (2, 25, 0.5)
    assert budget.gradient_norm and budget.read_test and budget.alone
    assert not dataclasses.replace(CONFIG, lane="accuracy").budget.alone
