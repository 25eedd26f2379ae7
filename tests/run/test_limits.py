"""Memory that runs out, and stops: from before the first import to the last moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import METHODS, PATIENCE, ROOT, place_fixture  # noqa: F401

from reproduce.cli.stopping import SENTENCE
from reproduce.run.engines import work


@pytest.fixture
def no_memory(monkeypatch):
    def allocate(*args, **kwargs):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"
        )

    monkeypatch.setattr(work, "train_runs", allocate)


@pytest.mark.parametrize("words", [(), ("--debug",)])
def test_an_allocation_that_fails_is_a_sentence_and_failed_rows(place, no_memory, capfd, words):
    place.write(methods=METHODS[:1])
    assert place.do("run", "tiny", *words) == 2
    said = capfd.readouterr().err
    assert "memory ran out for a single run; ask for fewer rows" in said
    assert ("Traceback" in said) is bool(words)
    rows = place.rows()
    assert [row["status"] for row in rows] == ["failed"] * 2
    assert all(row["error"].startswith("memory ran out") for row in rows)


def test_the_plan_says_what_memory_it_expects(place, capsys):
    assert place.do("plan", "tiny", "--jobs", "2") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("memory: "))
    assert "for each of 2 processes; the largest stack, 1 of " in line


def workers_of(parent: int) -> list[int]:
    """Processes that this one started to train, also while they start."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"spawn_main" in (entry / "cmdline").read_bytes():
                if int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
        except OSError:
            pass  # it ended meanwhile
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what, command: subprocess.Popen):
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert command.poll() is None and time.monotonic() < end, "it ended before the moment came"
        time.sleep(0.005)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stop, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["imports", "workers start", "training"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_stop_at_any_moment_is_one_sentence(place, stop, status, moment, times):
    place.write(methods=METHODS[:2], activations=["relu", "elu"], epochs=2000, batch_size=10)
    command = place.start("tiny", "--jobs", "2")
    loaded = Path(f"/proc/{command.pid}/maps")
    wait_for(lambda: "libtorch" in loaded.read_text(encoding="utf-8"), command)
    workers = []
    if moment != "imports":
        workers = wait_for(lambda: len(found := workers_of(command.pid)) == 2 and found, command)
    if moment == "training":
        time.sleep(6)
    for _ in range(times):
        try:
            os.killpg(command.pid, stop)  # as a terminal or a scheduler does: to all of them
        except ProcessLookupError:
            pass  # the first one ended it
    assert command.wait(PATIENCE) == status
    end = time.monotonic() + 5
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(alive, workers))
    log = (place.root / "log.txt").read_text(encoding="utf-8")
    assert "Traceback" not in log and "Error" not in log
    assert log.count(SENTENCE) == 1 and log.rstrip().endswith(SENTENCE)


@pytest.mark.slow
def test_workers_of_a_killed_parent_end_while_they_start_and_leave_no_semaphore(place):
    place.write(methods=METHODS[:2], activations=["relu", "elu"], epochs=2000, batch_size=10)
    command = place.start("tiny", "--jobs", "2")
    workers = wait_for(lambda: workers_of(command.pid), command)
    ours = {str(pid) for pid in (command.pid, *workers)}
    command.kill()
    command.wait(PATIENCE)
    end = time.monotonic() + 3
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(alive, workers))
    assert not [path for path in Path("/dev/shm").glob("sem.*") if any(pid in path.name for pid in ours)]


def test_a_worker_loads_no_tensors_before_it_is_tied_to_its_parent():
    code = "import sys, reproduce.run.engines.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=PATIENCE).returncode == 0


def test_workers_share_no_semaphore():
    code = (
        "import multiprocessing.synchronize as s\n"
        "def no(*args, **kwargs): raise AssertionError('a named semaphore')\n"
        "s.SemLock.__init__ = no\n"
        "from pathlib import Path\n"
        "from reproduce.run.engines.local import _start\n"
        "from reproduce.run.engines.worker import Work\n"
        "if __name__ == '__main__':\n"
        "    workers = _start(Work(None, 'cpu', Path('results'), 1), 2)\n"
        "    for process in workers.values(): process.kill(); process.join()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=PATIENCE).returncode == 0
