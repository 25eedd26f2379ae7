"""Engines: what is trained, once and no more; failures and divergence as rows; kill -9 at any moment; two at once."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import MARK, METHODS, ROOT, Place, place_fixture  # noqa: F401

from am import methods as methods_module
from am.data import fingerprint_of
from am.errors import InputError
from am.methods import methods
from reproduce import engines
from reproduce.engines import DataOnDevice, device_of, run_local, train_stack, work_on
from reproduce.grid import PlannedRun, code_hash, plan, read_grid, stacks
from reproduce.store import Store

CPU = torch.device("cpu")
TUNED = dict(rule="tuned", trials=3, methods=METHODS[:2])
PATIENCE = 300  # seconds until a process that should have ended counts as stuck


@pytest.fixture
def trained(monkeypatch) -> list[list[str]]:
    """The run keys of every stack that this process trains, in order."""
    seen = []
    real = engines.train_stack

    def spy(runs, *rest):
        seen.append([run.run_key for run in runs])
        return real(runs, *rest)

    monkeypatch.setattr(engines, "train_stack", spy)
    return seen


def planned(place: Place, name: str = "tiny") -> list[list[PlannedRun]]:
    """The stacks of a grid on digits."""
    runs = plan(read_grid(place.grids / f"{name}.toml", "smoke"), {"digits": fingerprint_of("digits")})
    return stacks(runs, {"digits": (64, 1437)}, CPU)


def break_method(monkeypatch, name: str, error: Exception, at: int = 0) -> None:
    """From step `at` on, the method raises. Its code, and with it the run keys, stay."""
    real = methods()[name]
    code_hash(name)

    def step(state, problem, hp, k):
        if k >= at:
            raise error
        real.step(state, problem, hp, k)

    monkeypatch.setitem(methods_module.methods(), name, dataclasses.replace(real, step=step))


# -------------------------------------------------------------------------------------------------------------- device


def test_devices(monkeypatch):
    assert device_of("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == CPU
    with pytest.raises(
        InputError, match=r"DEVICE=cuda was asked for and no CUDA device is available; use DEVICE=cpu\."
    ):
        device_of("cuda")
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        device_of("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == device_of("cuda") == torch.device("cuda")


def test_data_are_prepared_once_for_consecutive_stacks(place, monkeypatch):
    place.write("two", n_train=50, inputs="standardised", methods=METHODS[:2])
    configs = [stack[0].config for name in ("tiny", "two") for stack in planned(place, name)]
    calls = []
    real = engines.prepare
    monkeypatch.setattr(engines, "prepare", lambda *args: calls.append(args[1:3]) or real(*args))
    data = DataOnDevice(None, CPU)
    sizes = [len(data(config).x) for config in configs]
    assert sizes == [100, 100, 100, 50, 50]
    assert calls == [(100, "unit"), (50, "standardised")]
    assert data(configs[-1]) is data(configs[-1])


# -------------------------------------------------------------------------------------------- what is trained, and once


def test_each_stack_is_one_shard_and_a_second_time_nothing_is_trained(place, trained):
    made = planned(place)
    run_local(made, None, CPU, place.results, 1, lambda i, share: None)
    assert trained == [[run.run_key for run in stack] for stack in made]
    assert [len(json.loads(path.read_text())["payload"]["runs"]) for path in place.shards()] == [2, 2, 2]
    before = place.snapshot()
    run_local(made, None, CPU, place.results, 1, lambda i, share: None)
    assert len(trained) == len(made)
    assert place.snapshot() == before


def test_progress_is_reported_for_every_stack_up_to_one(place):
    reports: list[tuple[int, float]] = []
    run_local(planned(place), None, CPU, place.results, 1, lambda *report: reports.append(report))
    for i in range(3):
        shares = [share for stack, share in reports if stack == i]
        assert shares == sorted(shares) and shares[-1] == 1.0


def test_only_what_is_missing_of_a_stack_is_trained(place, trained):
    place.run("tiny", "--seeds", "1")
    assert [len(stack) for stack in trained] == [1, 1, 1]
    place.run("tiny", "--seeds", "3")
    assert [len(stack) for stack in trained[3:]] == [2, 2, 2]
    counts = Counter(run["run_key"] for run in place.stored())
    assert len(counts) == 9 and set(counts.values()) == {1}


def test_two_grids_train_the_run_that_they_share_once(place, trained, capsys):
    place.write("other", title="Other", methods=[*METHODS[1:], dict(name="rmsprop")])
    place.run("tiny", "other")
    assert "to train: 8 runs in 4 stacks" in capsys.readouterr().out
    keys = [key for stack in trained for key in stack]
    assert len(keys) == len(set(keys)) == 2 * 4
    assert {row["method"] for row in place.rows("tiny")} == {"sgd", "adam", "mdlam"}
    assert {row["method"] for row in place.rows("other")} == {"adam", "mdlam", "rmsprop"}
    shared = {row["run_key"] for row in place.rows("tiny")} & {row["run_key"] for row in place.rows("other")}
    assert len(shared) == 4
    assert {row["grid"] for row in place.rows("other")} == {"other"}
    place.run("other")
    assert len(trained) == 4


def test_on_a_cpu_every_run_is_trained_by_one_thread(place, monkeypatch):
    threads = []
    real = engines.train
    monkeypatch.setattr(engines, "train", lambda *args: threads.append(torch.get_num_threads()) or real(*args))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        place.run("tiny", "--methods", "sgd")
    finally:
        torch.set_num_threads(before)
    assert threads == [1]


@pytest.mark.parametrize("graphs", [False, True])
def test_graphs_reach_the_training_loop_where_they_are_asked_for(place, monkeypatch, graphs):
    asked, real = [], engines.train
    monkeypatch.setattr(engines, "train", lambda *args: asked.append(args[-1]) or real(*args[:-1]))
    run_local(planned(place), None, CPU, place.results, 1, lambda i, share: None, *([True] if graphs else []))
    assert set(asked) == {graphs}


def test_graphs_reach_the_training_loop_of_another_process(place):
    with pytest.raises(InputError, match="CUDA graphs were asked for and the data are on the cpu"):
        run_local(planned(place), None, CPU, place.results, 2, lambda i, share: None, True)


def test_a_stack_that_another_process_trains_is_left_for_the_end_and_not_repeated(place, trained):
    made = planned(place)
    first, *rest = made
    other = Store(place.results)
    with other.lock([run.run_key for run in first], wait=False):
        work = (made, None, CPU, place.results, 1, lambda i, share: None)
        thread = threading.Thread(target=run_local, args=work, daemon=True)
        thread.start()
        until(lambda: len(place.shards()) == len(rest), thread.is_alive)
        assert trained == [[run.run_key for run in stack] for stack in rest]
        other.write(train_stack(first, DataOnDevice(None, CPU), lambda share: None))
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(trained) == len(rest)
    assert len(place.shards()) == len(made)


def test_a_held_stack_is_not_touched(place, trained):
    (stack, *_), store = planned(place), Store(place.results)
    args = (stack, DataOnDevice(None, CPU), store)
    with Store(place.results).lock([run.run_key for run in stack], wait=False):
        assert work_on(*args, False, lambda share: None) is False
    assert trained == [] and place.shards() == []
    assert work_on(*args, False, lambda share: None) is True
    assert len(trained) == 1


# ----------------------------------------------------------------------------------------------- failures, divergence


def test_a_failed_run_is_a_row_with_its_error_and_alone_runs_again(place, trained, monkeypatch, capsys):
    with monkeypatch.context() as broken:
        break_method(broken, "adam", ArithmeticError("the matrix is singular\nat row 3"), at=1)
        assert place.do("run", "tiny") == 2
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == (
        "2 runs failed; the column 'error' of runs.csv says why, and the same command tries them again."
    )
    rows = {(row["method"], row["seed"]): row for row in place.rows()}
    for seed in "01":
        failed = rows["adam", seed]
        assert (failed["status"], failed["error"]) == ("failed", "ArithmeticError: the matrix is singular")
        assert failed["test_accuracy"] == failed["iterations"] == failed["diverged_at"] == ""
        assert (failed["n_train"], failed["commit"]) == ("100", rows["sgd", seed]["commit"])
        assert rows["sgd", seed]["status"] == rows["mdlam", seed]["status"] == "done"
    summary = {row["label"]: row for row in place.rows(file="summary.csv")}
    assert [summary["Adam"][key] for key in ("runs", "done", "failed")] == ["2", "0", "2"]
    assert all(row["method"] != "adam" for row in place.rows(file="curves.csv"))

    del trained[:]
    place.run()
    assert trained == [[rows["adam", "0"]["run_key"], rows["adam", "1"]["run_key"]]]
    now = {(row["method"], row["seed"]): row for row in place.rows()}
    assert {row["status"] for row in now.values()} == {"done"} and {row["error"] for row in now.values()} == {""}
    assert now["sgd", "0"] == rows["sgd", "0"]


def test_a_repaired_failure_leaves_the_csvs_of_a_run_without_one(place, monkeypatch, tmp_path):
    with monkeypatch.context() as broken:
        break_method(broken, "sgd", RuntimeError(""))
        assert place.do("run", "tiny") == 2
        assert {row["error"] for row in place.rows() if row["method"] == "sgd"} == {"RuntimeError: "}
    place.run()
    clean = Place(tmp_path / "clean")
    clean.write()
    clean.run()
    assert place.untimed() == clean.untimed()


def test_a_diverged_run_is_a_row_stays_so_and_leaves_its_neighbours(place, trained, capsys):
    over = dict(name="sgd", label="SGD {learning_rate}", over=dict(learning_rate=[0.1, 1e30]))
    place.write(methods=[over, dict(name="adam")])
    place.run()
    rows = place.rows()
    lost = [row for row in rows if row["label"] == "SGD 1e+30"]
    assert len(lost) == 2
    for row in lost:
        assert (row["status"], row["error"], row["test_accuracy"]) == ("diverged", "", "")
        assert 1 <= int(row["diverged_at"]) <= 8 and row["iterations"] == row["diverged_at"]
        assert row["stack_runs"] == "4"  # they shared a stack with those that did not diverge
    assert {row["status"] for row in rows if row not in lost} == {"done"}
    summary = {row["label"]: row for row in place.rows(file="summary.csv")}
    assert [summary["SGD 1e+30"][key] for key in ("runs", "done", "diverged")] == ["2", "0", "2"]
    points = [row for row in place.rows(file="curves.csv") if row["label"] == "SGD 1e+30"]
    assert {row["iteration"] for row in points} == {"0"}

    capsys.readouterr()
    del trained[:]
    before = place.snapshot()
    place.run()
    assert trained == [] and place.snapshot() == before
    assert "Nothing to train: all 6 runs are there." in capsys.readouterr().out


def test_data_that_vanish_stop_the_command_and_lose_nothing(place, monkeypatch, capsys):
    """Bad input is no failed run: it stops everything, with what is finished kept."""
    real = engines.prepare
    calls = []

    def vanish(*args):
        calls.append(args)
        if len(calls) == 2:
            raise InputError("digits.npz is gone.")
        return real(*args)

    place.write(methods=METHODS[:1], hidden=[[6]])
    place.write("two", n_train=50)
    with monkeypatch.context() as patched:
        patched.setattr(engines, "prepare", vanish)
        assert place.do("run", "tiny", "two") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("digits.npz is gone.")
    assert len(place.shards()) == 1
    place.run("tiny", "two")


def test_a_stop_from_the_keyboard_loses_nothing(place, monkeypatch, capsys):
    with monkeypatch.context() as broken:
        break_method(broken, "mdlam", KeyboardInterrupt(), at=1)
        assert place.do("run", "tiny") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "Stopped; the same command continues where it was."
    assert len(place.shards()) == 2
    place.run()
    assert len(place.rows()) == 6


# --------------------------------------------------------------------------------------------- kill -9, at every write

# Imports once, then forks a process for every moment: it dies at its nth step of making a file take its final name.
# Prints one JSON line per moment: how the killed one ended, what was there then, and what the next command trained.
KILLER = """
import json, os, signal, sys
sys.path[:0] = [sys.argv[1]]
from helpers import Place, cheap_figures
from pathlib import Path
from am.counters import flops_of
from am.data import load
import reproduce.claims, reproduce.collect, reproduce.engines, reproduce.figures, reproduce.published, reproduce.tables
reproduce.figures.figures_of = cheap_figures
flops_of(lambda: None)  # this and the data load much that every process would load again
load("digits")

def forked(work):
    pid = os.fork()
    if pid == 0:
        os._exit(work() or 0)
    return os.waitpid(pid, 0)[1]

def killed_at(n, place):
    real, calls = os.replace, []
    def replace(*paths):
        calls.append(paths)
        if len(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*paths)
    os.replace = replace
    return place.do("run", "tiny")

def again(place):
    trained, real = [], reproduce.engines.train_stack
    def spy(runs, *rest):
        trained.extend(run.run_key for run in runs)
        return real(runs, *rest)
    reproduce.engines.train_stack = spy
    status = place.do("run", "tiny")
    (place.root / "trained.json").write_text(json.dumps(trained))
    return status

n, ended = 0, None
while ended != 0:
    n += 1
    place = Place(Path(sys.argv[2]) / str(n))
    place.write(text=Path(sys.argv[3]).read_text())
    ended = forked(lambda: killed_at(n, place))
    there = [run["run_key"] for run in place.stored()]
    resumed = forked(lambda: again(place))
    trained = json.loads((place.root / "trained.json").read_text())
    print("MOMENT", json.dumps(dict(n=n, ended=ended, there=there, resumed=resumed, trained=trained)), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["paper", "tuned"])
def test_a_kill_at_every_write_loses_only_what_was_in_flight(place, tmp_path, rule):
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    grid = place.write(**TUNED if rule == "tuned" else {})
    words = [sys.executable, "-c", KILLER, str(ROOT / "tests"), str(tmp_path), str(grid)]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=2 * PATIENCE)
    moments = [json.loads(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("MOMENT")]
    assert done.returncode == 0, done.stderr
    *killed, untouched = moments
    assert untouched["ended"] == 0 and untouched["trained"] == []
    whole = Place(tmp_path / str(untouched["n"]))
    reference, keys = whole.untimed(), {run["run_key"] for run in whole.stored()}
    shards = 4 if rule == "tuned" else 3  # of each of two methods the trials, then the runs
    counts = [len(moment["there"]) for moment in killed]
    assert counts[0] == 0 and counts == sorted(counts) and counts[shards:] == [len(keys)] * (len(killed) - shards)
    assert len(set(counts[: shards + 1])) == shards + 1
    assert len(killed) >= shards + 8  # three CSVs, two tables, two figures and the note of what was drawn
    for moment in killed:
        assert moment["ended"] == signal.SIGKILL and moment["resumed"] == 0
        assert sorted(moment["there"] + moment["trained"]) == sorted(keys)
        there = Place(tmp_path / str(moment["n"]))
        assert there.untimed() == reference
        drawn = {path.read_text() for path in (there.figures / "tiny").glob("accuracy_epochs.*")}
        content = b"".join((there.results / "tiny" / file).read_bytes() for file in ("runs.csv", "curves.csv"))
        assert drawn == {hashlib.sha256(content).hexdigest()}  # the figures are those of these CSVs
        for file in ("tiny/table.md", "claims.csv"):
            assert (there.results / file).read_bytes() == (whole.results / file).read_bytes()


# ----------------------------------------------------------------------------------------- real processes, real signals


def until(condition: Callable[[], bool], going: Callable[[], bool]) -> None:
    """Wait for the condition while something is going on that should bring it about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert going() or condition(), "it ended before"
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def marked(mark: str) -> list[int]:
    """Processes with the mark in their environment: the command, its workers, and whatever those started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                pass  # it ended meanwhile, or it is not ours
    return found


@pytest.fixture
def busy(place: Place) -> Place:
    """Twelve stacks that take long enough to be killed in the middle of."""
    activations = ["relu", "elu", "softplus", "leaky_relu", "selu", "celu"]
    place.write(methods=METHODS[:2], activations=activations, epochs=150, batch_size=10)
    return place


@pytest.fixture
def mark(request):
    """A mark for the processes of one test; whatever is left of them at its end is killed."""
    made = f"{os.getpid()}-{request.node.name}"
    yield made
    for pid in marked(made):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "group"])
def test_killed_again_and_again_it_ends_with_the_csvs_of_an_uninterrupted_run(busy, victim, mark, tmp_path):
    moments = [
        lambda: any(busy.store.glob("*.lock")),  # the first stacks are being trained
        lambda: len(busy.shards()) >= 3,
        lambda: len(busy.shards()) >= 7,
    ]
    there: list[str] = []
    for moment in moments:
        command = busy.start("tiny", "--jobs", "2", mark=mark)
        until(moment, lambda: command.poll() is None)
        if victim == "parent":
            os.kill(command.pid, signal.SIGKILL)
        else:
            os.killpg(command.pid, signal.SIGKILL)
        assert command.wait(PATIENCE) == -signal.SIGKILL
        until(lambda: not marked(mark), lambda: True)  # no worker outlives it
        assert len(busy.shards()) < 12, "too quick to be killed in the middle"
        assert not (busy.results / "tiny").exists()
        before, there = there, [path.name for path in busy.shards()]
        assert set(before) <= set(there)
    command = busy.start("tiny", "--jobs", "2", mark=mark)
    assert command.wait(PATIENCE) == 0
    counts = Counter(run["run_key"] for run in busy.stored())
    assert len(counts) == 24 and set(counts.values()) == {1}
    whole = Place(tmp_path / "whole")
    whole.write(text=(busy.grids / "tiny.toml").read_text())
    whole.run()  # in this process, without workers
    assert busy.untimed() == whole.untimed()


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop, status, last",
    [
        ("worker", 2, "a training process was killed, perhaps because memory ran out; nothing finished is lost"),
        ("keyboard", 130, "Stopped; the same command continues where it was."),
    ],
)
def test_a_stop_in_the_middle_ends_with_a_sentence_and_loses_nothing(busy, mark, stop, status, last):
    command = busy.start("tiny", "--jobs", "2", mark=mark)
    until(lambda: len(busy.shards()) >= 2, lambda: command.poll() is None)
    if stop == "keyboard":
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to all of them
    else:
        workers = [pid for pid in marked(mark) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(workers[0], signal.SIGKILL)
    assert command.wait(PATIENCE) == status
    until(lambda: not marked(mark), lambda: True)
    log = (busy.root / "log.txt").read_text()
    assert "Traceback" not in log
    assert log.splitlines()[-1].startswith(last)
    assert 4 <= len(busy.stored()) < 24
    busy.run()
    assert len(busy.stored()) == 24


@pytest.mark.slow
def test_two_commands_at_once_share_the_work_and_leave_the_same_csvs(busy, mark, tmp_path):
    commands = [busy.start("tiny", "--jobs", jobs, mark=mark) for jobs in ("1", "2")]
    assert [command.wait(PATIENCE) for command in commands] == [0, 0]
    counts = Counter(run["run_key"] for run in busy.stored())
    assert len(counts) == 24 and set(counts.values()) == {1}
    assert len(busy.shards()) == 12
    assert not list(busy.root.rglob("*.part"))
    log = (busy.root / "log.txt").read_text()
    assert "torn" not in log and "Traceback" not in log
    whole = Place(tmp_path / "whole")
    whole.write(text=(busy.grids / "tiny.toml").read_text())
    whole.run()
    assert busy.untimed() == whole.untimed()


@pytest.mark.slow
def test_the_number_of_jobs_changes_no_number(place, tmp_path):
    """With an environment that allows two threads to the command that trains in its own process."""
    place.write(
        hidden=[[100, 100]], n_train=1000, batch_size=500, methods=[*METHODS, dict(name="samt"), dict(name="gd")]
    )
    text = (place.grids / "tiny.toml").read_text()
    several = Place(tmp_path / "several")
    several.write(text=text)
    assert several.start("tiny", "--jobs", "2").wait(PATIENCE) == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        place.run()
    finally:
        torch.set_num_threads(threads)
    assert place.untimed() == several.untimed()
