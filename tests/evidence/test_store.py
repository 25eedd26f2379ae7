"""The store: shards are whole or count as absent, a run is there once, and one process at a time trains it."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from helpers import ROOT, Place, one_sentence, place_fixture  # noqa: F401

from am.errors import InputError
from reproduce.evidence.files import sweep, write_whole
from reproduce.evidence.store import Store, stack_id


def a_run(key: str, status: str = "done", **fields) -> dict:
    return dict(run_key=key, status=status, test_accuracy=0.5, curve=[dict(iteration=0, test_accuracy=0.1)]) | fields


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def test_runs_come_back_as_they_were_written(results):
    runs = [
        a_run("a", objective=float("nan"), flops=2**60, x=0.1 + 0.2),
        a_run("b", "diverged", error="é\n", big=float("inf")),
    ]
    Store(results).write(runs)
    again = Store(results)
    assert repr([again.get("a"), again.get("b")]) == repr(runs)
    assert again.get("c") is None
    assert [path.name for path in sorted(again.folder.iterdir())] == [f"{stack_id(['a', 'b'])}.json"]


@pytest.mark.parametrize("status, there", [("done", True), ("diverged", True), ("failed", False)])
def test_only_a_failed_run_is_not_there_for_good(results, status, there):
    store = Store(results)
    store.write([a_run("a", status)])
    assert store.finished("a") is there
    assert store.get("a")["status"] == status


def test_a_finished_run_takes_the_place_of_a_failed_one_and_never_the_other_way_round(results):
    store = Store(results)
    store.write([a_run("a", "failed"), a_run("b")])
    store.write([a_run("a", "done")])
    assert store.finished("a")
    store.write([a_run("a", "failed"), a_run("c")])
    assert store.finished("a")
    assert Store(results).finished("a")  # in whatever order the shards are read


def test_a_store_sees_what_another_process_wrote(results):
    store, other = Store(results), Store(results)
    other.write([a_run("a")])
    assert not store.finished("a")
    store.refresh()
    assert store.finished("a")


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = {
    "truncated by a byte": lambda data: data[:-1],
    "truncated by half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros, as after a power cut": lambda data: bytes(len(data)),
    "no JSON": lambda data: b"torn",
    "another JSON": lambda data: b"[1, 2]",
    "no hash": lambda data: json.dumps({"payload": json.loads(data)["payload"]}).encode(),
    "a changed digit": lambda data: data.replace(b'"test_accuracy": 0.5', b'"test_accuracy": 0.6', 1),
    "a changed status": lambda data: data.replace(b'"done"', b'"gone"', 1),
    "a run fewer": lambda data: json.dumps(
        json.loads(data) | {"payload": {"runs": json.loads(data)["payload"]["runs"][:1]}}
    ).encode(),
    "not text": lambda data: flip(data, 40)[:60] + b"\xff\xfe" + data[62:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_noticed_and_counts_as_absent(results, damage, capsys):
    Store(results).write([a_run("a"), a_run("b")])
    Store(results).write([a_run("c")])
    path = results / ".store" / f"{stack_id(['a', 'b'])}.json"
    data = DAMAGE[damage](path.read_bytes())
    assert data != path.read_bytes()
    path.write_bytes(data)
    store = Store(results)
    assert not store.finished("a") and not store.finished("b") and store.finished("c")
    assert f"{path} is torn" in one_sentence(capsys)
    Store(results, quiet=True)
    assert capsys.readouterr().err == ""
    store.write([a_run("a"), a_run("b")])
    assert store.finished("a") and Store(results).finished("b")
    assert capsys.readouterr().err == ""


def test_every_flipped_bit_is_noticed(results, capsys):
    """Each byte in turn; the hash of a JSON text ignores nothing but its layout, of which there is one."""
    Store(results).write([a_run("a")])
    (path,) = (results / ".store").glob("*.json")
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(flip(data, at))
        store = Store(results)
        if store.finished("a"):  # only where the text still says the same
            assert json.loads(path.read_bytes()) == json.loads(data)
        else:
            assert store.get("a") is None
    assert capsys.readouterr().err.count("is torn") > 0.9 * len(data)


def test_a_damaged_shard_s_runs_run_again_and_give_the_same_csvs(place: Place, capsys):
    place.run()
    before, stored = place.untimed(), place.stored()
    torn, *whole = place.shards()
    lost = json.loads(torn.read_text(encoding="utf-8"))["payload"]["runs"]
    torn.write_bytes(torn.read_bytes()[:-10])
    others = {path: path.stat().st_mtime_ns for path in whole}
    capsys.readouterr()
    place.run()
    out, err = capsys.readouterr()
    assert f"to train: {len(lost)} runs in 1 stacks" in out
    assert err.count("is torn") == 1
    assert place.untimed() == before
    assert {path: path.stat().st_mtime_ns for path in whole} == others
    assert sorted(run["run_key"] for run in place.stored()) == sorted(run["run_key"] for run in stored)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file.csv"
    write_whole(path, "old\n")

    def torn(*args):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, torn)
            with pytest.raises(
                InputError, match="file.csv cannot be written .No space left on device.; what was there is untouched."
            ):
                write_whole(path, "new and longer\n")
        assert path.read_text(encoding="utf-8") == "old\n"
        assert list(tmp_path.iterdir()) == [path]
    write_whole(path, "new\n")
    assert path.read_text(encoding="utf-8") == "new\n"


def test_bytes_are_written_as_they_are_and_an_equal_file_stays(tmp_path):
    path = tmp_path / "figure.png"
    write_whole(path, b"\x89PNG\r\n\xff")
    assert path.read_bytes() == b"\x89PNG\r\n\xff"
    written = path.stat().st_ino
    write_whole(path, b"\x89PNG\r\n\xff")
    assert path.stat().st_ino == written
    write_whole(path, "ä")
    assert path.read_bytes() == "ä".encode() and path.stat().st_ino != written


def test_a_file_that_cannot_be_written_says_what_to_do(tmp_path):
    with pytest.raises(
        InputError, match=r"b\.png cannot be written \(No such file or directory\); choose another place\."
    ):
        write_whole(tmp_path / "none" / "b.png", b"", "choose another place")


def test_a_half_written_part_of_a_killed_process_is_no_shard(results, capsys):
    store = Store(results)
    store.write([a_run("a")])
    (results / ".store" / ".0123.json.99.part").write_text('{"sha', encoding="utf-8")
    assert Store(results).finished("a")
    assert capsys.readouterr().err == ""


def test_a_results_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in ("file", "file/below"):
        with pytest.raises(InputError, match=r"cannot be written \(.+\); choose another with RESULTS=\."):
            Store(tmp_path / folder)


def test_a_run_is_held_once_and_others_are_free(results):
    one, two = Store(results), Store(results)
    with one.lock(["a", "b"]) as held:
        assert held == {"a", "b"}
        with two.lock(["b", "c"]) as other:  # another stack that shares a run
            assert other == {"c"}
            with one.lock(["c"]) as again:
                assert again == set()
    with two.lock(["a", "b"]) as later:
        assert later == {"a", "b"}


def test_whoever_gets_the_lock_sees_what_its_last_holder_wrote(results):
    one, two = Store(results), Store(results)
    with one.lock(["a"]):
        one.write([a_run("a")])
    assert not two.finished("a")
    with two.lock(["a"], wait=True):
        assert two.finished("a")


def test_who_waits_gets_what_comes_free_first_and_gives_up_in_time(results):
    one, two = Store(results), Store(results)
    taken, end = threading.Event(), threading.Event()

    def hold():
        with one.lock(["b"]):
            taken.set()
            end.wait(60)

    with two.lock(["a"]):
        thread = threading.Thread(target=hold)
        thread.start()
        assert taken.wait(60)
        began = time.monotonic()
        with Store(results).lock(["a", "b"], wait=True, until=began + 0.3) as held:
            assert held == set() and 0.3 <= time.monotonic() - began < 30
        threading.Timer(0.3, end.set).start()
        with Store(results).lock(["a", "b"], wait=True) as held:
            assert held == {"b"}
    thread.join()


def hold(results: Path, told: Connection) -> None:
    with Store(results).lock(["a"]) as held:
        child = subprocess.Popen(["sleep", "600"])  # whoever is started meanwhile holds nothing
        told.send(child.pid if held else None)
        time.sleep(600)


def test_a_killed_process_holds_no_lock(results):
    here, there = multiprocessing.Pipe()
    holder = multiprocessing.get_context("fork").Process(target=hold, args=(results, there))
    holder.start()
    there.close()
    try:
        child = here.recv()
        store = Store(results)
        with store.lock(["a"]) as held:
            assert held == set()
        holder.kill()
        with store.lock(["a"], wait=True) as held:
            assert held == {"a"}
        os.kill(child, signal.SIGKILL)
    finally:
        holder.kill()
        holder.join()
        here.close()


def in_place(path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "file":
        path.write_text("", encoding="utf-8")
    else:
        path.symlink_to(path.parent / "nowhere" if kind == "link to nothing" else path.parent.parent)


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link to nothing", "link to a folder"])
def test_what_is_no_file_in_the_place_of_the_locks_is_refused(results, kind):
    store = Store(results)
    in_place(store.folder / "locks", kind)
    with pytest.raises(InputError, match=r"locks (is no regular file|cannot be opened \(.+\)); move it away\."):
        with store.lock(["a"]):
            pass


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link to nothing", "link to a folder"])
def test_what_is_no_file_in_the_place_of_a_shard_is_told_and_counts_as_absent(results, kind, capsys):
    store = Store(results)
    store.write([a_run("a")])
    in_place(store.folder / "0123.json", kind)
    assert Store(results).finished("a")
    assert one_sentence(capsys) == f"{store.folder / '0123.json'} is no file; runs that only it held count as not done."


@pytest.mark.parametrize("kind", ["file", "FIFO", "link to nothing"])
def test_what_is_no_folder_in_the_place_of_the_store_is_refused(results, kind):
    results.mkdir()
    in_place(results / ".store", kind)
    with pytest.raises(InputError, match=r"cannot be written \(.+\); choose another with RESULTS=\."):
        Store(results)


def test_parts_of_killed_processes_go_and_what_is_being_written_stays(results):
    folder = Store(results).folder
    left, written, young = (folder / f".{name}.json.99.part" for name in ("left", "written", "young"))
    for path in (left, written, young):
        path.write_text("", encoding="utf-8")
    for path in (left, written):
        os.utime(path, (0, 0))
    with open(written, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Store(results)
    assert [path.name for path in sorted(folder.glob(".*.part"))] == [written.name, young.name]


HOLD = """
import fcntl, sys
del fcntl.F_OFD_SETLK
from pathlib import Path
from reproduce.evidence.store import Store
with Store(Path(sys.argv[1])).lock(["a", "b"]) as held:
    print(sorted(held), flush=True)
    sys.stdin.read()
"""


def test_a_system_without_locks_of_open_files_locks_by_process(tmp_path, monkeypatch):
    monkeypatch.delattr(fcntl, "F_OFD_SETLK")
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "['a', 'b']\n"
        with Store(tmp_path).lock(["b", "c"]) as held:
            assert held == {"c"}
        other.stdin.close()
        assert other.wait(timeout=60) == 0
    with Store(tmp_path).lock(["b", "c"]) as held:
        assert held == {"b", "c"}


def test_parts_of_the_dead_are_swept_at_once_and_those_of_writers_stay(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    parts = {who: tmp_path / f".shard.json.{pid}.part" for who, pid in (("dead", ended.pid), ("alive", os.getpid()))}
    locked = tmp_path / f".other.json.{ended.pid}.part"
    for path in (*parts.values(), locked):
        path.write_text("half", encoding="utf-8")
    time.sleep(0.1)
    with open(locked, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([parts["alive"], locked])
    os.utime(parts["alive"], (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
