"""Kills: at every write, in the middle, and two commands at once."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers import MARK, METHODS, PATIENCE, ROOT, TUNED, Place, place_fixture, until  # noqa: F401

BENT = ["relu", "elu", "softplus", "leaky_relu", "selu", "celu"]  # activations of the busy grid

# Imports once, then forks a process for every moment: it dies at its nth step of making a file take its final name.
# Prints one JSON line per moment: how the killed one ended, what was there then, and what the next command trained.
KILLER = """
import json, os, signal, sys
sys.path[:0] = [sys.argv[1]]
from helpers import Place, cheap_figures
from pathlib import Path
from am.counters import flops_of
from am.data import load
import reproduce.judge.claims, reproduce.judge.derived, reproduce.judge.published, reproduce.run.session
from reproduce.run.engines import work
from reproduce.show import figures
figures.figures_of = cheap_figures
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
    trained, real = [], work.train_stack
    def spy(runs, *rest):
        trained.extend(run.run_key for run in runs)
        return real(runs, *rest)
    work.train_stack = spy
    status = place.do("run", "tiny")
    (place.root / "trained.json").write_text(json.dumps(trained))
    return status

n, ended = 0, None
while ended != 0:
    n += 1
    place = Place(Path(sys.argv[2]) / str(n))
    place.write(text=Path(sys.argv[3]).read_text(encoding="utf-8"))
    ended = forked(lambda: killed_at(n, place))
    there = [run["run_key"] for run in place.stored()]
    resumed = forked(lambda: again(place))
    trained = json.loads((place.root / "trained.json").read_text(encoding="utf-8"))
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
    shards = 6  # two seeds of each of three methods, or of each of two methods the trials and two seeds
    counts = [len(moment["there"]) for moment in killed]
    assert counts[0] == 0 and counts == sorted(counts) and counts[shards:] == [len(keys)] * (len(killed) - shards)
    assert len(set(counts[: shards + 1])) == shards + 1
    assert len(killed) >= shards + 8  # three CSVs, two tables, two figures and the note of what was drawn
    for moment in killed:
        assert moment["ended"] == signal.SIGKILL and moment["resumed"] == 0
        assert sorted(moment["there"] + moment["trained"]) == sorted(keys)
        there = Place(tmp_path / str(moment["n"]))
        assert there.untimed() == reference
        drawn = {path.read_text(encoding="utf-8") for path in (there.drawn / "tiny").glob("accuracy_epochs.*")}
        content = b"".join((there.csvs / "tiny" / file).read_bytes() for file in ("runs.csv", "curves.csv"))
        assert drawn == {hashlib.sha256(content).hexdigest()}  # the figures are those of these CSVs
        for file in ("tiny/table.md", "claims.csv"):
            assert (there.csvs / file).read_bytes() == (whole.csvs / file).read_bytes()


def marked(mark: str) -> list[int]:
    """Processes with the mark in their environment: the command, its workers, and whatever those started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                if state != "Z" and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                pass  # it ended meanwhile, or it is not ours
    return found


@pytest.fixture
def busy(place: Place) -> Place:
    """24 stacks that take long enough to be killed in the middle of."""
    place.write(methods=METHODS[:2], activations=BENT, epochs=150, batch_size=10)
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
        lambda: (busy.store / "locks").exists(),  # the first stacks are being trained
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
        assert len(busy.shards()) < 24, "too quick to be killed in the middle"
        assert not (busy.csvs / "tiny").exists()
        before, there = there, [path.name for path in busy.shards()]
        assert set(before) <= set(there)
    command = busy.start("tiny", "--jobs", "2", mark=mark)
    assert command.wait(PATIENCE) == 0
    counts = Counter(run["run_key"] for run in busy.stored())
    assert len(counts) == 24 and set(counts.values()) == {1}
    whole = Place(tmp_path / "whole")
    whole.write(text=(busy.grids / "tiny.toml").read_text(encoding="utf-8"))
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
    log = (busy.root / "log.txt").read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert log.splitlines()[-1].startswith(last)
    assert 2 <= len(busy.stored()) < 24
    busy.run()
    assert len(busy.stored()) == 24


@pytest.mark.slow
def test_two_commands_at_once_share_the_work_and_leave_the_same_csvs(busy, mark, tmp_path):
    """Though they stack the runs differently, and one of them takes a second grid that shares half of them."""
    busy.write(methods=METHODS[:2], activations=BENT, epochs=150, batch_size=10, hidden=[[33]])
    busy.write(
        "other",
        text=(busy.grids / "tiny.toml").read_text(encoding="utf-8").replace('"leaky_relu", "selu", "celu"', '"gelu"'),
    )
    commands = [
        busy.start("tiny", "--jobs", "1", "--seeds-per-round", "2", mark=mark),
        busy.start("other", "tiny", "--jobs", "2", mark=mark),
    ]
    assert [command.wait(PATIENCE) for command in commands] == [0, 0]
    counts = Counter(run["run_key"] for run in busy.stored())
    assert len(counts) == 28 and set(counts.values()) == {1}
    assert not list(busy.root.rglob("*.part"))
    log = (busy.root / "log.txt").read_text(encoding="utf-8")
    assert "torn" not in log and "Traceback" not in log
    whole = Place(tmp_path / "whole")
    whole.write(text=(busy.grids / "tiny.toml").read_text(encoding="utf-8"))
    whole.run()
    assert alone(busy) == alone(whole)


def alone(place: Place) -> dict:
    """The CSVs without the seconds and without who shared a run's stack."""
    content = place.untimed()
    return content | {"runs.csv": [row | dict(stack_runs="") for row in content["runs.csv"]]}


@pytest.mark.slow
def test_the_number_of_jobs_changes_no_number(place, tmp_path):
    """With an environment that allows two threads to the command that trains in its own process."""
    place.write(
        hidden=[[100, 100]], n_train=1000, batch_size=500, methods=[*METHODS, dict(name="samt"), dict(name="gd")]
    )
    text = (place.grids / "tiny.toml").read_text(encoding="utf-8")
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


# As KILLER: imports once and forks the commands, and the commands their two workers: sixty starts of three processes
# would be an hour of imports. Kills a command, or its whole group, at a random moment after a worker began to train.
SIXTY = """
import fcntl, json, multiprocessing, os, random, signal, struct, sys, time
sys.path[:0] = [sys.argv[1]]
from helpers import METHODS, Place, cheap_figures
from collections import Counter
from pathlib import Path
from am.data import load
import reproduce.judge.claims, reproduce.judge.derived, reproduce.judge.published, reproduce.run.session
from reproduce.show import figures
figures.figures_of = cheap_figures
load("digits")
real = multiprocessing.get_context
multiprocessing.get_context = lambda name: real("fork")

def start(place, jobs):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        log = os.open(place.root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(place.do("run", "tiny", "--jobs", str(jobs)))
    return pid

def training(place):
    if not (place.store / "locks").exists():
        return False
    with open(place.store / "locks", "rb+") as file:  # does anyone hold any byte?
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK

def session(leader):
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text(encoding="utf-8") if entry.name.isdigit() else ""
            fields = stat.rpartition(")")[2].split()
            if fields and fields[0] != "Z" and int(fields[3]) == leader:
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            pass
    return found

def fresh(name):
    place = Place(Path(sys.argv[2]) / name)
    place.write(text=Path(sys.argv[3]).read_text(encoding="utf-8"))
    return place

def whole(place):
    counts = Counter(run["run_key"] for run in place.stored())
    return dict(
        keys=sorted(counts), most=max(counts.values()), same=place.untimed() == reference.untimed(),
        left=[str(path) for path in place.root.rglob("*.part")],
    )

reference = fresh("reference")
assert os.waitpid(start(reference, 1), 0)[1] == 0
draw, kills, ends, place = random.Random(0), 0, 0, fresh("0")
while True:
    pid = start(place, 2)
    ended = 0, 0
    while not training(place) and not ended[0]:
        time.sleep(0.002)
        ended = os.waitpid(pid, os.WNOHANG)
    victim = draw.choice(["command", "group"])
    end = time.monotonic() + draw.uniform(0, 1.5)
    while kills < 60 and not ended[0] and time.monotonic() < end:
        time.sleep(0.002)
        ended = os.waitpid(pid, os.WNOHANG)
    if kills < 60 and not ended[0]:
        # Of the command's session all but itself and Python's tracker of semaphores, which runs a program of its own.
        tracks = lambda words: any(word.startswith(b"from multiprocessing") for word in words.split(bytes(1)))
        workers = sum(not tracks(words) for words in session(pid).values()) - 1
        caught = training(place)
        (os.kill if victim == "command" else os.killpg)(pid, signal.SIGKILL)
    if not ended[0]:
        ended = os.waitpid(pid, 0)
    began = time.monotonic()
    while (orphans := session(pid)) and time.monotonic() < began + 20:
        time.sleep(0.01)
    if ended[1] == signal.SIGKILL:
        kills += 1
        print("KILL", json.dumps(dict(
            victim=victim, workers=workers, caught=caught, orphans=len(orphans), there=len(place.stored()),
            parts=len(list(place.root.rglob("*.part"))),
        )), flush=True)
    else:
        ends += 1
        print("END", json.dumps(dict(status=ended[1], orphans=len(orphans)) | whole(place)), flush=True)
        if kills == 60:
            break
        place = fresh(str(ends))
print("KEYS", json.dumps(sorted(run["run_key"] for run in reference.stored())), flush=True)
"""


@pytest.mark.slow
def test_sixty_kills_at_random_moments_of_training_lose_nothing(place, tmp_path):
    """Two workers; a command that reaches its end before it is killed begins anew in another place."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    grid = place.write(methods=METHODS[:2], activations=["relu", "elu", "softplus"], epochs=60, batch_size=10, seeds=6)
    words = [sys.executable, "-c", SIXTY, str(ROOT / "tests"), str(tmp_path), str(grid)]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0, done.stderr
    found: dict[str, list] = dict(KILL=[], END=[], KEYS=[])
    for word, _, rest in (line.partition(" ") for line in done.stdout.splitlines()):
        found[word].append(json.loads(rest))
    kills, ends, (keys,) = found.values()
    assert len(kills) == 60 and not any(kill["orphans"] for kill in kills)
    assert len(keys) == 36
    for end in ends:
        assert end == dict(status=0, orphans=0, keys=keys, most=1, same=True, left=[])
    caught = sum(kill["caught"] and kill["workers"] == 2 for kill in kills)
    assert caught > 30
    logs = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*/log.txt"))
    assert "Traceback" not in logs and "torn" not in logs
    victims = Counter(kill["victim"] for kill in kills)
    print(
        f"\n{len(kills)} kills, of {victims['command']} commands and {victims['group']} groups, {caught} of them "
        f"while two workers trained; {sum(kill['parts'] for kill in kills)} parts were left and swept, no process was; "
        f"{len(ends)} ends, each with the {len(keys)} runs and the CSVs of an uninterrupted one, no run trained twice"
    )
