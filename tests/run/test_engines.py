"""Engines: what is trained, once and no more; failures and divergence as rows; kill -9 at any moment; two at once."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import torch
from helpers import METHODS, PATIENCE, ROOT, TUNED, Place, one_sentence, place_fixture, until  # noqa: F401

from am import methods as methods_module
from am.data import Size, identity_of
from am.errors import InputError
from am.methods import methods
from reproduce.evidence.store import Store
from reproduce.plan.grid import read_grid
from reproduce.plan.plan import PlannedRun, plan, stacks
from reproduce.run.engines import work
from reproduce.run.engines.local import run_local
from reproduce.run.engines.work import DataOnDevice, commit, device_of, train_stack, work_on
from reproduce.run.seconds import Estimates

CPU = torch.device("cpu")
TOGETHER = ("--seeds-per-round", "3")  # all seeds of the tiny grid in one stack


@pytest.fixture
def trained(monkeypatch) -> list[list[str]]:
    """The run keys of every stack that this process trains, in order."""
    seen = []
    real = work.train_stack

    def spy(runs, *rest):
        seen.append([run.run_key for run in runs])
        return real(runs, *rest)

    monkeypatch.setattr(work, "train_stack", spy)
    return seen


def planned(place: Place, name: str = "tiny") -> list[list[PlannedRun]]:
    """The stacks of a grid on digits."""
    runs = plan(read_grid(place.grids / f"{name}.toml", "smoke"), {"digits": identity_of("digits")})
    return stacks(runs, {"digits": Size(64, 1437)}, CPU)


def break_method(monkeypatch, name: str, error: Exception, at: int = 0) -> None:
    """From step `at` on, the method raises, on images; one that raises elsewhere is refused before it trains."""
    real = methods()[name]

    def step(state, problem, hp, k):
        if k >= at and problem.x.shape[1] == 64:
            raise error
        real.step(state, problem, hp, k)

    monkeypatch.setitem(methods_module.methods(), name, dataclasses.replace(real, step=step))


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
    real = work.prepare
    monkeypatch.setattr(work, "prepare", lambda *args: calls.append(args[1:3]) or real(*args))
    data = DataOnDevice(None, CPU)
    sizes = [len(data(config).x) for config in configs]
    assert sizes == [100, 100, 100, 50, 50]
    assert calls == [(100, "unit"), (50, "standardised")]
    assert data(configs[-1]) is data(configs[-1])


def test_each_stack_is_one_shard_and_a_second_time_nothing_is_trained(place, trained):
    made = planned(place)
    run_local(made, None, CPU, place.results, 1, lambda i, share: None)
    assert trained == [[run.run_key for run in stack] for stack in made]
    assert [len(json.loads(path.read_text(encoding="utf-8"))["payload"]["runs"]) for path in place.shards()] == [
        2,
        2,
        2,
    ]
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
    place.run("tiny", "--seeds", "3", *TOGETHER)
    assert [len(stack) for stack in trained[3:]] == [2, 2, 2]
    counts = Counter(run["run_key"] for run in place.stored())
    assert len(counts) == 9 and set(counts.values()) == {1}


def test_two_grids_train_the_run_that_they_share_once(place, trained, capsys):
    place.write("other", title="Other", methods=[*METHODS[1:], dict(name="rmsprop")])
    place.run("tiny", "other", *TOGETHER)
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
    real = work.train_runs
    monkeypatch.setattr(
        work, "train_runs", lambda *args, **named: threads.append(torch.get_num_threads()) or real(*args, **named)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        place.run("tiny", "--methods", "sgd", *TOGETHER)
    finally:
        torch.set_num_threads(before)
    assert threads == [1]


@pytest.mark.parametrize("graphs", [False, True])
def test_graphs_reach_the_training_loop_where_they_are_asked_for(place, monkeypatch, graphs):
    asked, real = [], work.train_runs
    monkeypatch.setattr(work, "train_runs", lambda *args, graphs, **named: asked.append(graphs) or real(*args, **named))
    run_local(planned(place), None, CPU, place.results, 1, lambda i, share: None, *([True] if graphs else []))
    assert set(asked) == {graphs}


def test_graphs_reach_the_training_loop_of_another_process(place):
    with pytest.raises(InputError, match="CUDA graphs were asked for and the data are on the cpu"):
        run_local(planned(place)[:1], None, CPU, place.results, 2, lambda i, share: None, True)


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


def test_of_a_stack_the_free_runs_are_trained_and_the_others_handed_back(place, trained):
    (stack, *_), store = planned(place), Store(place.results)
    args = (DataOnDevice(None, CPU), store)
    with Store(place.results).lock([stack[0].run_key]):
        left = work_on(stack, *args, False, lambda share: None)
        assert left == stack[:1] and trained == [[stack[1].run_key]]
        assert work_on(stack, *args, True, lambda share: None, latest=time.monotonic() + 0.3) == []
    assert len(trained) == 1
    assert work_on(left, *args, True, lambda share: None) == []
    assert trained[1:] == [[stack[0].run_key]]


def test_what_is_too_late_is_not_begun(place, trained):
    made = planned(place)
    late = [time.monotonic() + 1000, time.monotonic() - 1, time.monotonic() + 1000]
    run_local(made, None, CPU, place.results, 1, lambda i, share: None, latest=late)
    assert trained == [[run.run_key for run in stack] for stack in (made[0], made[2])]


def test_a_held_stack_is_not_touched(place, trained):
    (stack, *_), store = planned(place), Store(place.results)
    args = (stack, DataOnDevice(None, CPU), store)
    with Store(place.results).lock([run.run_key for run in stack], wait=False):
        assert work_on(*args, False, lambda share: None) == stack
    assert trained == [] and place.shards() == []
    assert work_on(*args, False, lambda share: None) == []
    assert len(trained) == 1


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
    place.run("tiny", *TOGETHER)
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
    place.run("tiny", *TOGETHER)
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
    real = work.prepare
    calls = []

    def vanish(*args):
        calls.append(args)
        if len(calls) == 2:
            raise InputError("digits.npz is gone.")
        return real(*args)

    place.write(methods=METHODS[:1], hidden=[[6]])
    place.write("two", n_train=50)
    with monkeypatch.context() as patched:
        patched.setattr(work, "prepare", vanish)
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


def test_the_commit_tells_changed_and_untracked_files_of_the_code(tmp_path):
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    assert commit(tmp_path) == ""  # no checkout
    for folder in ("am/methods", "reproduce/grids", "results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "old.py").write_text("", encoding="utf-8")
    git("init")
    git("add", ".")
    git("commit", "-m", "old")

    def marked() -> bool:
        commit.cache_clear()
        found = commit(tmp_path)
        assert len(found.rstrip("+")) == 12
        return found.endswith("+")

    assert not marked()
    (tmp_path / "results" / "new.csv").write_text("", encoding="utf-8")
    assert not marked()
    for file in ("am/methods/mine.py", "reproduce/grids/mine.toml"):
        (tmp_path / file).write_text("", encoding="utf-8")
        assert marked()
        (tmp_path / file).unlink()
    (tmp_path / "am/methods/old.py").write_text("x = 1", encoding="utf-8")
    assert marked()
    (installed := tmp_path / "lib/site-packages/am").mkdir(parents=True)
    (installed / "new.py").write_text("", encoding="utf-8")
    assert commit(installed.parent) == ""  # below a checkout, not of it
    commit.cache_clear()


def test_what_would_not_end_in_time_is_left_and_the_rest_is_collected_and_drawn(place, trained, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(Estimates, "__call__", lambda self, stack: 1e9 if stack[0].config.seed else 1.0)
        place.run("tiny", "--for", "1h")
    assert "time is up: 3 runs are left, and the same command continues.\n" in capsys.readouterr().out
    assert [row["seed"] for row in place.rows()] == ["0"] * 3 and len(trained) == 3
    assert (place.drawn / "tiny" / "accuracy_epochs.png").exists()
    place.run("tiny", "--for", "2h")
    assert len(place.rows()) == 6
    capsys.readouterr()
    for text in ("2", "h", "-1h", "0m", "2d", "inf"):
        assert place.do("run", "tiny", f"--for={text}") == 2
        assert "must be a time, for example 2h, 90m or 3600s" in one_sentence(capsys)


def test_rounds_go_over_all_grids_and_a_tuned_one_joins_with_its_choice(place, trained):
    place.write("tuned", **TUNED)
    place.run("tiny", "tuned")
    rows = {row["run_key"]: row["seed"] for grid in ("tiny", "tuned") for row in place.rows(grid)}
    trials = {row["run_key"] for row in place.rows("tuned", "tuning.csv")}
    order = ["trial" if key in trials else rows[key] for stack in trained for key in stack]
    assert order == ["trial"] * 6 + ["0"] * 5 + ["1"] * 5


HOLES = """
import torch
from reproduce.run.engines.work import resident_bytes, reuse_freed_memory
give_back = reuse_freed_memory()
give_back()
blocks = [torch.ones(n, 1_000_000) for n in (8, 1) * 24]  # 32 MB, and 4 MB that keep the heap from shrinking
full = resident_bytes()
del blocks[::2]
freed = resident_bytes()
give_back()
print(full, freed, resident_bytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_worker_gives_back_the_holes_in_its_heap():
    done = subprocess.run([sys.executable, "-c", HOLES], cwd=ROOT, capture_output=True, text=True, check=True)
    full, freed, now = map(int, done.stdout.split())
    assert freed > 0.9 * full, "the heap keeps what was freed, for the next block"
    assert now < full - 0.8 * 24 * 32e6
