"""Grids that would lead astray, take the machine down or spoil a CSV: refused before anything is expanded."""

import os
import time

import numpy as np
import pytest
from helpers import PRINTS, grid_text, place_fixture, read_fixture  # noqa: F401

from am.errors import InputError
from reproduce.plan.checks import LABEL_CHARACTERS, MISSING, MOST_RUNS
from reproduce.plan.grid import grid_names, read_grid
from reproduce.plan.plan import plan, short_of_rows

SECONDS = 5  # to refuse anything: what is absurd is never expanded


def refusal(read, **changes) -> str:
    """The sentence that refuses the grid, at once."""
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        read(**changes)
    assert time.monotonic() - began < SECONDS
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", "?")) and len(message) < 600
    assert "tiny.toml" in message.partition(": ")[0] + message
    return message


def labelled(label: str, **block) -> dict:
    return dict(methods=[dict(name="sgd", label=label) | block])


LABELS = {
    "empty": "",
    "blank": "   ",
    "over-long": "x" * (LABEL_CHARACTERS + 1),
    "newline": "two\nlines",
    "NUL": "a\x00b",
    "escape": "\x1b[31mred",
    "edge": " SGD",
    "attribute": "{learning_rate.real}",
    "deep attribute": "{learning_rate.__class__.__init__.__globals__}",
    "item": "{learning_rate[0]}",
    "position": "{}",
    "conversion to a wide field": "{learning_rate:>1000000000}",
    "nested format": "{learning_rate:{learning_rate}}",
    "unknown": "{learnin_rate}",
    "unclosed": "{learning_rate",
    "format of another kind": "{learning_rate:d}",
}


@pytest.mark.parametrize("word", LABELS)
def test_a_label_that_a_csv_or_a_figure_cannot_hold_is_refused(read, word):
    message = refusal(read, **labelled(LABELS[word]))
    assert message.partition(": ")[0].endswith("/tiny.toml") and ": sgd: " in message and "label" in message


@pytest.mark.parametrize("word", [word for word in MISSING if word] + ["NA", "NaN", "None"])
def test_a_label_that_reads_as_a_missing_value_is_refused(read, word):
    assert "reads as a missing value" in refusal(read, **labelled(word))


def test_labels_may_hold_settings_with_formats_and_braces(read):
    grid = read(methods=[dict(name="sgd", label="SGD {{η}} {learning_rate:.2g}", over=dict(learning_rate=[0.1, 0.25]))])
    assert [entry.label for entry in grid.entries] == ["SGD {η} 0.1", "SGD {η} 0.25"]


HUGE = {
    "epochs": 10**18,
    "seeds": 10**8,
    "trials": 10**11,
    "first_seed": 2**40,
    "batch_size": 10**9,
    "evaluate_every": 1e300,
}


@pytest.mark.parametrize("key", HUGE)
def test_an_absurd_number_is_refused_before_it_is_expanded(read, key):
    assert f"'{key}' must be at most" in refusal(read, **{key: HUGE[key]})


@pytest.mark.parametrize("text", ["1" + "0" * 20, "-1" + "0" * 400, "0x" + "f" * 9000])
def test_a_number_of_more_than_64_bits_is_refused_wherever_it_stands(read, text):
    assert "'epochs' is a whole number of more than 64 bits" in refusal(
        read, text=f"epochs = {text}\n" + grid_text(epochs=None, profile={})
    )
    block = f'[[methods]]\nname = "adam"\nset = {{ learning_rate = {text} }}\n'
    assert "'methods.set.learning_rate' is a whole number" in refusal(read, text=grid_text() + block)


@pytest.mark.parametrize("word", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("key", ["epochs", "seeds", "trials", "batch_size", "evaluate_every", "n_train", "first_seed"])
def test_no_number_is_infinite_or_none(read, key, word):
    refused = refusal(read, text=f"{key} = {word}\n" + grid_text(profile={}, **{key: None}))
    assert f"'{key}' must be" in refused


@pytest.mark.parametrize(
    "key, value",
    [
        ("epochs", True),
        ("seeds", True),
        ("trials", True),
        ("batch_size", True),
        ("evaluate_every", True),
        ("first_seed", False),
        ("n_train", True),
        ("n_train", [True, 2]),
        ("hidden", [[True, 2]]),
        ("hidden", True),
    ],
)
def test_true_and_false_are_no_numbers(read, key, value):
    assert f"'{key}' must be" in refusal(read, profile={}, **{key: value})


SETTINGS = {
    "step size 0": (dict(name="sgd", set=dict(learning_rate=0.0)), "sgd: learning_rate must lie in"),
    "step size inf": ("learning_rate = inf", "sgd: learning_rate must be a finite number, not inf."),
    "step size nan": ("learning_rate = nan", "sgd: learning_rate must be a finite number, not nan."),
    "truth": (dict(name="sgd", set=dict(learning_rate=True)), "sgd: learning_rate must be float, not True."),
    "decay 1": (dict(name="adam", set=dict(beta1=1.0)), "adam: beta1 must lie in"),
    "decay 1 in a list": (dict(name="adam", over=dict(beta1=[0.9, 1])), "adam: beta1 must lie in"),
    "half-widths": (
        dict(name="tiam", set=dict(epsilon_min=1.0, epsilon_0=0.5)),
        "method 'tiam': epsilon_min, 1, must not lie above epsilon_0, 0.5.",
    ),
    "bias": (dict(name="mdlam-released", set=dict(frozen_bias=3)), "frozen_bias is layer 3 and the network has 2."),
}


@pytest.mark.parametrize("word", SETTINGS)
def test_a_setting_that_no_method_can_train_with_is_refused_before_anything_runs(read, word):
    block, expected = SETTINGS[word]
    if isinstance(block, str):
        changes = dict(text=grid_text() + f'[[methods]]\nname = "sgd"\nlabel = "x"\nset = {{ {block} }}\n')
    else:
        changes = dict(methods=[block])
    assert expected in refusal(read, **changes)


@pytest.mark.parametrize("n", [1438, [100, 1438], 10**12])
def test_more_training_images_than_were_published_are_refused(read, n):
    for changes in (dict(n_train=n), dict(profile={}, methods=[dict(name="sgd", n_train=n)])):
        assert "is above the 1,437 images of the official training part of digits" in refusal(read, **changes)
    assert "of mnist" in refusal(read, profile={}, profile_asked="paper", datasets=["mnist", "svhn"], n_train=60_001)


def test_a_copy_with_fewer_images_than_asked_for_gives_all_and_the_plan_says_so(read, place, capsys):
    grid = read(profile={}, profile_asked="paper", datasets=["mnist", "digits"], n_train=1300)
    small = PRINTS | dict(mnist=PRINTS["mnist"]._replace(rows=1000))
    said = short_of_rows(grid, small)
    assert [line.partition(": ")[2] for line in said] == [
        "n_train 1,300 is more than the 900 training images of mnist at hand; all are taken.",
        "n_train 1,300 is more than the 1,294 training images of digits at hand; all are taken.",
    ]
    assert plan(grid, small) and not short_of_rows(read(), PRINTS)
    place.write(n_train=1400)
    assert place.do("plan", "tiny") == 0
    assert "grids/tiny.toml: n_train 1,400 is more than the 1,294 training images of digits" in capsys.readouterr().out


@pytest.mark.parametrize("rows", [dict(), dict(seeds=10_000, hidden=[[n] for n in range(1, 12)])])
def test_a_product_of_more_points_than_a_grid_may_have_is_refused(read, rows):
    rates = (np.arange(1, 1002) / 1e4).tolist()
    over = {} if rows else dict(learning_rate=rates, momentum=rates[:-1])
    message = refusal(read, methods=[dict(name="momentum", label="{learning_rate} {momentum}", over=over)], **rows)
    assert f"{MOST_RUNS:,}" in message and ("'over' has 1,001,000 points" in message or "'seeds'" in message)


def test_lists_widths_and_spreads_have_an_end(read):
    assert "'hidden' has 1,001 values" in refusal(read, hidden=[[n] for n in range(1, 1002)])
    assert "units" in refusal(read, hidden=[[10**9]])
    assert "layers" in refusal(read, hidden=[[1] * 1001])
    assert "'evaluate_every' must be at least" in refusal(read, evaluate_every=1e-300)
    assert "'init' must have a deviation" in refusal(read, init="normal(1e400)".replace("e400", "0" * 400))


AT_HOME = {
    "methods of a profile": (
        dict(profile=dict(light={"methods": "sgd"})),
        "profile.light: unknown key 'methods'; it belongs at the top of the file, as [[methods]] blocks.",
    ),
    "title of a profile's target": (dict(profile=dict(light={"target": []})), "it belongs at the top of the file."),
    "label at the top": (dict(label="x"), "unknown key 'label'; it belongs in a [[methods]] block."),
    "set at the top": (dict(set={}), "unknown key 'set'; it belongs in a [[methods]] block."),
    "step size at the top": (
        dict(learning_rate=0.1),
        "it belongs in the 'set' or 'over' of a method that has it, for example ",
    ),
    "step size of a block": (
        dict(methods=[dict(name="sgd", learning_rate=0.1)]),
        "methods: unknown key 'learning_rate'; it belongs in the 'set' or 'over' of a method that has it",
    ),
    "seeds of a block": (
        dict(methods=[dict(name="sgd", seeds=3)]),
        "unknown key 'seeds'; it belongs at the top of the file or in a [profile.NAME] table.",
    ),
    "batch in set": (
        dict(methods=[dict(name="sgd", set=dict(batch_size=3))]),
        "sgd: unknown hyper-parameter 'batch_size'; it belongs in the [[methods]] block itself, or at the top",
    ),
    "another's setting": (
        dict(methods=[dict(name="sgd", set=dict(learning_rat=3))]),
        "sgd: unknown hyper-parameter 'learning_rat'; did you mean 'learning_rate'?",
    ),
}


@pytest.mark.parametrize("word", AT_HOME)
def test_a_key_that_is_at_home_elsewhere_is_told_where(read, word):
    changes, expected = AT_HOME[word]
    assert expected in refusal(read, **changes)


def test_one_network_without_its_second_brackets_is_told_what_to_write(read):
    for widths in ([16, 16], [16], [[16], 16]):
        assert "'hidden' must be a list of lists of widths, one a network" in refusal(read, hidden=widths)
    assert refusal(read, hidden=[16, 16]).endswith("for one network write [[16, 16]].")


def test_a_batch_that_is_too_large_names_the_file_and_the_key(read):
    with pytest.raises(InputError) as caught:
        plan(read(batch_size=200), PRINTS)
    message = str(caught.value)
    assert message.endswith("/tiny.toml: SGD: batch_size 200 is larger than the 100 training images of digits.")


@pytest.mark.parametrize("name", ["...toml", ".toml", ".tiny.toml", "-x.toml", "a b.toml", "a\nb.toml", "all.toml"])
def test_a_grid_needs_a_name_that_can_be_a_folder(tmp_path, name):
    (tmp_path / "good.toml").write_text(grid_text(), encoding="utf-8")
    (tmp_path / name).write_text(grid_text(), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        grid_names(tmp_path)
    message = str(caught.value)
    assert "needs another name" in message and "\n" not in message and message.startswith(str(tmp_path))


@pytest.mark.parametrize("levels", [7, 900, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_a_deep_nesting_is_refused(read, levels, brackets):
    opening = "[" if brackets == "[]" else "{a="
    value = opening * levels + ("1" if brackets == "{}" else "") + brackets[1] * levels
    assert "nested too deeply" in refusal(read, text=f"hidden = {value}\n" + grid_text(hidden=None))


@pytest.mark.parametrize(
    "text, expected",
    [
        ('"a\\u0000b" = 1\n', "must be printable"),
        (f'"{"k" * 100}" = 1\n', "at most 64 characters"),
        (f'paper = "{"k" * 3000}"\n', "'paper' has 3,000 characters"),
        ('paper = "a\\u001bb"\n', "'paper' must be printable text on one line"),
        ("epochs = " + "9" * 5000 + "\n", "is not valid TOML"),
        ("#" * 1_000_001 + "\n", "has 1,0"),
    ],
)
def test_text_that_no_message_or_csv_can_hold_is_refused(read, text, expected):
    assert expected in refusal(read, text=text + grid_text(paper=None))


def test_a_question_may_have_several_lines(read):
    text = 'question = """Is it?\nOr is it not?"""\n' + grid_text(question=None)
    assert read(text=text).question == "Is it?\nOr is it not?"


def test_what_is_no_file_is_refused_and_nothing_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nowhere")
    for name, expected in (("pipe", "no regular file"), ("folder", "no regular file"), ("gone", "cannot be read")):
        with pytest.raises(InputError, match=expected) as caught:
            read_grid(tmp_path / f"{name}.toml", "smoke")
        assert f"{name}.toml" in str(caught.value)
