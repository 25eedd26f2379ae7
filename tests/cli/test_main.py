"""The command line and the Makefile: help, lists, exit statuses; a bad word gets one sentence and loses nothing."""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import METHODS, ROOT, Place, one_sentence, place_fixture  # noqa: F401

import am.methods
from am.data import NAMES
from am.methods import methods
from reproduce.__main__ import main
from reproduce.cli.options import parser
from reproduce.plan.grid import APART, grid_names
from reproduce.show import figures

COMMANDS = (
    "run", "plan", "collect", "figures", "tables", "claims", "check", "report", "bench", "methods", "grids", "datasets",
    "columns", "clean", "version", "fingerprints",
)  # fmt: skip
FILES = tuple(name for name in NAMES if name != "digits")
DRAW = figures.figures_of


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


def test_the_commands_are_all_there_and_help_names_them(capsys):
    assert set(COMMANDS) <= set(commands())
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in commands():
        assert re.search(rf"^ +{name}\s+\w", text, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    command = commands()[name]
    assert " ".join(command.description.split()) in shown
    for action in command._actions:
        assert action.help and action.help[-1] not in ".:"
        assert " ".join(action.help.split()) in shown
        for option in action.option_strings:
            assert option in shown


@pytest.mark.parametrize("name", ["run", "plan", "collect"])
def test_every_variable_of_the_makefile_is_an_option(name):
    options = {option for action in commands()[name]._actions for option in action.option_strings}
    assert {
        "--profile",
        "--data",
        "--device",
        "--seeds",
        "--methods",
        "--results",
        "--figures",
        "--jobs",
        "--graphs",
        "--grids",
    } <= options


def test_methods_lists_every_method_with_its_settings(capsys):
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    for name, chosen in methods().items():
        block = re.search(rf"^{re.escape(name)} .*(?:\n    .*)*", text, re.MULTILINE)[0]
        assert chosen.title in block
        for key in vars(chosen.settings()):
            assert f"    {key} = " in block


def test_grids_lists_every_grid_with_its_question(capsys, place):
    assert main(["grids"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^{name} ", text, re.MULTILINE) for name in grid_names())
    place.write("mine", title="My own grid", question="Is it mine?")
    assert main(["grids", "--grids", str(place.grids)]) == 0
    text = capsys.readouterr().out
    assert "My own grid" in text and "Is it mine?" in text and "quickstart" not in text


def test_a_tilde_in_an_options_folder_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    args = parser().parse_args(["figures", "samt_cost", "--results=~/r", "--figures", "~/f", "--grids=~no-such-user/g"])
    assert (args.results, args.figures) == (tmp_path / "r", tmp_path / "f")
    assert str(args.grid_folder) == "~no-such-user/g"


def test_datasets_lists_every_data_set_and_whether_it_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("AM_DATA", str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(b"")
    assert main(["datasets"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) == set(NAMES)
    assert {name for name, text in lines.items() if "not there" in text} == {"fashion_mnist", "cifar10", "svhn"}


def test_plan_says_what_will_run_what_is_there_and_how_long_it_takes(place, capsys):
    assert place.do("plan", "tiny", "--seeds-per-round", "2") == 0
    text = capsys.readouterr().out
    assert "profile smoke on 1 CPU" in text
    assert re.search(r"tiny +6 runs, +0 already there", text)
    assert re.search(r"to train: 6 runs in 3 stacks, about \d+ s", text)
    assert place.shards() == [] and not place.figures.exists()
    place.run("tiny", "--methods", "adam,sgd")
    capsys.readouterr()
    assert place.do("plan", "tiny", "--seeds-per-round", "2") == 0
    text = capsys.readouterr().out
    assert re.search(r"tiny +6 runs, +4 already there", text)
    assert re.search(r"to train: 2 runs in 1 stacks, about \d+ s", text)


def pretend_a_gpu(monkeypatch) -> None:
    """Its name and memory; nothing is put on it, not even the steps of a calibration."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *args: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *args: SimpleNamespace(total_memory=80 * 10**9))
    monkeypatch.setattr("reproduce.plan.plan.largest_stack", lambda *args: 8)
    monkeypatch.setattr("reproduce.run.seconds.Estimates.prepare", lambda self, stacks: None)


def test_the_default_profile_is_light_without_a_gpu_and_paper_with_one(place, capsys, monkeypatch):
    place.write(profile=dict(light=dict(seeds=1), paper=dict(seeds=4)))
    words = ["--grids", str(place.grids), "--results", str(place.results)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["plan", "tiny", *words]) == 0
    text = capsys.readouterr().out
    assert "profile light on" in text and "3 runs," in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pretend_a_gpu(monkeypatch)
    assert main(["plan", "tiny", *words]) == 0
    text = capsys.readouterr().out
    assert "profile paper on A GPU" in text and "12 runs," in text


@pytest.mark.parametrize("words", [[], ["--graphs"]])
def test_graphs_are_handed_on_where_there_is_a_gpu(place, monkeypatch, words):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pretend_a_gpu(monkeypatch)
    monkeypatch.setattr("reproduce.run.training.run_local", lambda *args, **more: asked.append(args[-1]))
    place.do("run", "tiny", "--device", "cuda", *words)
    assert asked == [bool(words)]


def test_every_profile_has_a_place_of_its_own_and_all_have_one_store(place):
    words = ["--grids", str(place.grids), "--device", "cpu", "--jobs", "1"]
    assert main(["run", "tiny", "--profile", "smoke", *words]) == 0
    assert (place.root / "results" / "smoke" / "tiny" / "runs.csv").exists()
    assert (place.root / "figures" / "smoke" / "tiny" / "accuracy_epochs.png").exists()
    assert not (place.root / "results" / "tiny").exists()
    place.write(profile={}, methods=METHODS[:1])
    assert main(["run", "tiny", "--profile", "light", *words]) == 0
    assert (place.root / "results" / "light" / "tiny" / "runs.csv").exists()
    place.write(profile=dict(paper=dict(seeds=1)), methods=METHODS[:1])
    assert main(["run", "tiny", "--profile", "paper", *words]) == 0
    assert (place.root / "results" / "tiny" / "runs.csv").exists()
    assert [path.name for path in (place.root / "results").rglob(".store")] == [".store"]


def test_all_is_every_grid_but_those_apart_and_a_grid_named_beside_it_comes_too(place, capsys):
    place.write("other", title="Other")
    assert place.do("plan", "all") == 0
    text = capsys.readouterr().out
    assert re.search(r"^  tiny ", text, re.MULTILINE) and re.search(r"^  other ", text, re.MULTILINE)
    places = ["--results", str(place.results), "--profile", "smoke"]
    assert main(["plan", "all", *places]) == 0
    shown = re.findall(r"^  (\w+) .* runs,", capsys.readouterr().out, re.MULTILINE)
    assert shown == [name for name in grid_names() if name not in APART]
    assert {"quickstart", "fair", "scale", "samt_networks", "published_bcd", "released_vs_paper"} <= set(APART)
    assert main(["plan", "all", "quickstart", shown[0], *places]) == 0
    assert re.findall(r"^  (\w+) .* runs,", capsys.readouterr().out, re.MULTILINE) == [*shown, "quickstart"]


def test_clean_deletes_the_store_alone(place):
    place.ran()
    before = {name: content for name, content in place.snapshot().items() if ".store" not in name}
    assert main(["clean", "--results", str(place.results)]) == 0
    assert place.snapshot() == before and not place.store.exists()


def test_figures_and_tables_are_written_from_the_csvs(place, capsys):
    place.ran()
    shutil.rmtree(place.figures)
    shutil.rmtree(place.store)
    (place.csvs / "tiny" / "table.md").unlink()
    assert place.do("figures") == 0
    assert (place.drawn / "tiny" / "accuracy_epochs.png").exists()
    assert place.do("tables", "tiny") == 0
    assert "mDLAM" in (place.csvs / "tiny" / "table.md").read_text(encoding="utf-8")
    assert not place.store.exists()
    capsys.readouterr()
    assert place.do("figures", "--results", str(place.root / "nowhere")) == 2
    assert "no grid has CSVs" in one_sentence(capsys)


@pytest.fixture
def finished(place: Place) -> Place:
    """The tiny grid, run, and a new grid beside it that has not."""
    place.ran()
    place.write("other", methods=[dict(name="rmsprop")])
    return place


BAD_WORDS = {
    "grid": (["run", "tinny"], "unknown grid 'tinny'; did you mean 'tiny'?"),
    "profile": (["run", "other", "--profile", "smok"], "unknown profile 'smok'; did you mean 'smoke'?"),
    "method": (["run", "other", "--methods", "rmsprp"], "unknown method 'rmsprp'; did you mean 'rmsprop'?"),
    "one of two methods": (["run", "other", "--methods", "rmsprop,adm"], "unknown method 'adm'; did you mean 'adam'?"),
    "method of no grid": (
        ["run", "other", "--methods", "adam"],
        "other: no method 'adam' there; it has rmsprop. To add it, write a line [[methods]], and name = \"adam\" below "
        "it, into {grids}/other.toml.",
    ),
    "data set": (["run", "other", "--datasets", "digit"], "other: unknown data set 'digit'; did you mean 'digits'?"),
    "device": (["run", "other", "--device", "gpu"], "unknown device 'gpu'; valid: auto, cpu, cuda."),
    "graphs": (["run", "other", "--graphs"], "the device is the CPU, which has no CUDA graphs; leave it out."),
    "no seeds": (["run", "other", "--seeds", "0"], "argument --seeds: must be a whole number of at least 1, not '0'"),
    "negative seeds": (["run", "other", "--seeds=-1"], "must be a whole number of at least 1, not '-1'"),
    "seeds in words": (["run", "other", "--seeds", "three"], "must be a whole number of at least 1, not 'three'"),
    "no jobs": (["run", "other", "--jobs", "0"], "argument --jobs: must be a whole number of at least 1, not '0'"),
    "option": (["run", "other", "--sed", "3"], "unrecognized arguments: --sed 3"),
    "no grid": (["run"], "the following arguments are required: GRID"),
    "grid to plan": (["plan", "tinny"], "unknown grid 'tinny'"),
    "grid to collect": (["collect", "tinny"], "unknown grid 'tinny'"),
    "grid to draw": (["figures", "tinny"], "unknown grid 'tinny'"),
    "folder of grids": (["run", "tiny", "--grids", "nowhere"], "nowhere holds no grid, NAME.toml"),
}  # fmt: skip


@pytest.mark.parametrize("word", BAD_WORDS)
def test_a_bad_word_gets_one_sentence_and_loses_nothing(finished, word, capsys):
    words, expected = BAD_WORDS[word]
    before = finished.snapshot()
    capsys.readouterr()
    assert finished.do(*words) == 2
    assert expected.replace("{grids}", str(finished.root / "grids")) in one_sentence(capsys)
    assert finished.snapshot() == before


def test_an_unknown_command_gets_one_sentence(capsys):
    assert main(["rum"]) == 2
    assert "unknown command 'rum'; did you mean 'run'?" in one_sentence(capsys)
    assert main([]) == 2
    assert "required: COMMAND" in one_sentence(capsys)


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(epoch=3), "grids/other.toml: unknown key 'epoch'; did you mean 'epochs'?"),
        (dict(datasets=["mnst"]), "grids/other.toml: profile.smoke: unknown data set 'mnst'; did you mean 'mnist'?"),
        (dict(methods=[dict(name="tiam")], activations=["gelu"]), "method 'tiam' needs a monotone activation"),
        (dict(batch_size=200), "batch_size 200 is larger than the 100 training images of digits"),
    ],
)
@pytest.mark.parametrize("asked", ["other", "tiny other"])
def test_a_mistake_in_a_grid_stops_before_anything_is_trained(finished, changes, expected, asked, capsys):
    finished.write("other", **changes)
    finished.write(methods=[*METHODS, dict(name="gd")])  # there would be work in the other grid, too
    before = finished.snapshot()
    capsys.readouterr()
    assert finished.do("run", *asked.split()) == 2
    assert expected in one_sentence(capsys)
    assert finished.snapshot() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_gets_one_sentence_and_loses_nothing(finished, capsys):
    before = finished.snapshot()
    capsys.readouterr()
    assert finished.do("run", "other", "--device", "cuda") == 2
    assert one_sentence(capsys) == "DEVICE=cuda was asked for and no CUDA device is available; use DEVICE=cpu."
    assert finished.snapshot() == before


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_a_results_folder_that_cannot_be_written_gets_one_sentence(finished, below, capsys):
    (finished.root / "file").write_text("not a folder", encoding="utf-8")
    before = finished.snapshot()
    for command in ("run", "plan", "collect"):
        capsys.readouterr()
        assert finished.do(command, "tiny", "--results", str(finished.root / below)) == 2
        assert "cannot be written" in one_sentence(capsys)
    assert finished.snapshot() == before


def test_a_grid_s_folder_that_cannot_be_made_keeps_the_store(finished, capsys):
    (finished.csvs / "other").write_text("a file where the folder of CSVs should be", encoding="utf-8")
    before = finished.snapshot()
    capsys.readouterr()
    assert finished.do("run", "other") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "other cannot be made" in last and last.endswith("choose another place with RESULTS=.")
    after = finished.snapshot()
    assert before.items() <= after.items()
    (finished.csvs / "other").unlink()
    capsys.readouterr()
    finished.run("other")
    assert "Nothing to train: all 2 runs are there." in capsys.readouterr().out


def test_a_figures_folder_that_cannot_be_written_keeps_runs_and_csvs(finished, monkeypatch, capsys):
    monkeypatch.setattr(figures, "figures_of", DRAW)
    (finished.root / "file").write_text("not a folder", encoding="utf-8")
    before = finished.snapshot()
    capsys.readouterr()
    assert finished.do("run", "other", "--figures", str(finished.root / "file" / "below")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "file/below" in last and last.endswith("choose another place with FIGURES=.")
    after = finished.snapshot()
    assert before.items() <= after.items()
    assert "results/smoke/other/runs.csv" in after


DAMAGE = {
    "no archive": lambda data: b"not an archive",
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "flipped": lambda data: data[:5000] + bytes([data[5000] ^ 255]) + data[5001:],
}


@pytest.fixture
def with_mnist(finished: Place) -> Place:
    """Beside what is finished: a grid on a made-up MNIST, run, and one more method to train."""
    random = np.random.RandomState(0)
    arrays = dict(
        x_train=random.randint(0, 256, (200, 28, 28)).astype(np.uint8), y_train=np.arange(200) % 10,
        x_test=random.randint(0, 256, (50, 28, 28)).astype(np.uint8), y_test=np.arange(50) % 10,
    )  # fmt: skip
    (finished.root / "data").mkdir()
    np.savez(finished.root / "data" / "mnist.npz", **arrays)
    finished.write("digit", datasets=["mnist"], methods=METHODS[:1])
    finished.ran("digit", "--data", "data")
    finished.write("digit", datasets=["mnist"], methods=METHODS)
    return finished


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_data_file_gets_one_sentence_and_loses_nothing(with_mnist, damage, capsys):
    path = with_mnist.root / "data" / "mnist.npz"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = with_mnist.snapshot()
    for command in ("run", "plan", "collect"):
        capsys.readouterr()
        assert with_mnist.do(command, "digit", "tiny", "--data", str(path.parent)) == 2
        message = one_sentence(capsys)
        assert message.startswith(f"{path} is not a readable .npz file") and "run again to download it" in message
    assert with_mnist.snapshot() == before


def test_missing_data_without_a_network_get_one_sentence_each_and_lose_nothing(finished, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = finished.root / "data"
    folder.mkdir()
    finished.write("real", datasets=list(FILES), methods=METHODS)
    before = finished.snapshot()
    capsys.readouterr()
    assert finished.do("run", "real", "tiny", "--data", str(folder)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(FILES)
    for name, line in zip(FILES, lines, strict=True):
        assert line.startswith(f"{name}: {folder / name}.npz is missing and could not be downloaded (")
        assert "put an .npz file there" in line and line.endswith(".")
    assert finished.snapshot() == before


@pytest.mark.slow
def test_the_module_s_exit_status_is_the_command_s(tmp_path):
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")

    def do(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "reproduce", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)

    bad = do("plan", "quikstart")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "unknown grid 'quikstart'; did you mean 'quickstart'?\n"
    good = do("methods")
    assert (good.returncode, good.stderr) == (0, "") and "tiam" in good.stdout
    shown = do("run", "--help")
    assert (shown.returncode, shown.stderr) == (0, "") and "--profile" in shown.stdout


SLIPS = {  # in a method's file, and what is said of it
    "from am.method import Methd\n": "line 1: ImportError, cannot import name 'Methd'",
    "\ndef step(:\n": "line 2: SyntaxError, invalid syntax.",
    "from am.method import setting\nrate = setting(1.0, lo=3)\n": "line 2: TypeError",
}


@pytest.mark.parametrize("code, said", SLIPS.items())
def test_a_slip_in_a_methods_file_is_a_sentence_that_names_it(code, said, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "am" / "methods"
    folder.mkdir(parents=True)
    (folder / "being_written.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(am.methods, "__path__", [str(folder)])
    am.methods.methods.cache_clear()
    try:
        assert main(["methods"]) == 2
    finally:
        am.methods.methods.cache_clear()
    shown = capsys.readouterr().err
    assert shown.startswith(f"am/methods/being_written.py, {said}") and shown.count("\n") == 1
