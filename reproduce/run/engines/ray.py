"""The engine of several machines: Ray Core, one task a stack, on a GPU of its own or one core.

The driver alone reads the data, holds the locks and writes the store; what a task needs, code and images, travels with
it. Ray's faults are fenced: a task without GPUs sees none, retries are few and for lost processes alone, and a stack
whose task gives no answer is handed out again under the driver's own deadline. Stacks of the time lane are trained by
the local engine, on the driver's machine, after the others: seconds are compared on one machine only.
"""

import contextlib
import functools
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from am.data import Images, data_folder, load
from am.errors import InputError
from reproduce.evidence.store import PAUSE, Store
from reproduce.run.engines.local import run_local
from reproduce.run.engines.work import DataOnDevice, Report, Stack, commit, reuse_freed_memory, train_stack

ROOT = Path(__file__).parents[3]
HANDED_OUT = 3  # times that a stack is given to the cluster before its runs count as failed
RETRIES = 1  # of Ray's own within each of them, where a process or a node is lost
DEADLINE = 600.0  # least seconds until a stack that gives no answer is handed out again
LENIENCE = 10  # times its estimate, where that is longer; doubled each time, should the estimate be what is wrong
LOOK = 0.5  # seconds between looks at deadlines and nodes


@dataclass
class Handed:
    """A stack in flight."""

    number: int
    runs: Stack
    lock: contextlib.ExitStack  # of its runs, until their rows are in the store
    deadline: float  # by the monotonic clock
    times: int = 1


def import_ray() -> ModuleType:
    """Ray, bound to 127.0.0.1 where nothing else was said. Raises InputError where it is not installed."""
    # What Ray listens on follows the node's address, and it takes 127.0.0.1 for one by this switch alone.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them to its makers
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine ray needs Ray, which is not installed; `uv pip install -r requirements-distributed.txt` does it."
        ) from None
    return ray


@contextlib.contextmanager
def connected(address: str | None, device: torch.device, jobs: int | None) -> Iterator[ModuleType]:
    """Ray, connected to the cluster at `address`, else to one of this machine that ends with the connection.

    jobs: cores of the cluster of this machine (None: all).
    """
    if address and not address.startswith("127.0.0.1:"):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    ray = import_ray()
    environment: dict[str, Any] = dict(py_modules=[str(ROOT / "am"), str(ROOT / "reproduce")])
    if device.type == "cpu":
        environment["env_vars"] = dict(CUDA_VISIBLE_DEVICES="")
    options = dict(runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    if address:
        options |= dict(address=address)
    else:
        options |= dict(num_cpus=jobs, include_dashboard=False, _node_ip_address="127.0.0.1")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own in the place of the command's
    except (ConnectionError, ValueError, RuntimeError) as error:
        ray.shutdown()
        where = f"no Ray cluster answers at {address}" if address else "no Ray cluster could be started"
        raise InputError(f"{where} ({str(error).splitlines()[0].rstrip('.')}).") from None
    try:
        if device.type == "cuda" and not ray.cluster_resources().get("GPU"):
            raise InputError("the Ray cluster has no GPU; use DEVICE=cpu, or start its nodes with --num-gpus.")
        yield ray
    finally:
        ray.shutdown()


def run_ray(
    stacks: Sequence[Stack],
    folder: str | None,
    device: torch.device,
    results: Path,
    jobs: int,
    report: Report,
    graphs: bool = False,
    latest: Sequence[float] = (),
    debug: bool = False,
    *,
    ray: ModuleType,
    expected: Sequence[float],
    least: float = DEADLINE,
) -> None:
    """As `run_local`, by the cluster that `ray` is connected to.

    expected: seconds that each stack should take.  least: seconds before any is handed out again.
    """
    latest = latest or [float("inf")] * len(stacks)
    store = Store(results, quiet=True)
    kind = "GPU" if device.type == "cuda" else "CPU"
    options = dict(max_retries=RETRIES, retry_exceptions=False, num_cpus=1, num_gpus=int(kind == "GPU"))
    task = ray.remote(_train).options(**options)
    images = functools.lru_cache(1)(lambda name: ray.put(load(name, data_folder(folder))))
    waiting = deque((i, stack) for i, stack in enumerate(stacks) if stack[0].config.lane != "time")
    flying: dict[Any, Handed] = {}
    abandoned: list[Any] = []  # tasks that were handed out again and may hold a core or a GPU yet

    def hand_out(handed: Handed) -> None:
        patience = max(least, LENIENCE * expected[handed.number]) * 2 ** (handed.times - 1)
        handed.deadline = time.monotonic() + patience
        reference = task.remote(handed.runs, images(handed.runs[0].config.dataset), str(device), graphs)
        flying[reference] = handed

    def settle(handed: Handed, rows: list[dict[str, Any]]) -> None:
        store.write([row | dict(commit=commit()) for row in rows])  # the code was the driver's
        handed.lock.close()
        report(handed.number, 1.0)

    def again(handed: Handed, why: str) -> None:
        if handed.times < HANDED_OUT:
            handed.times += 1
            hand_out(handed)
        else:
            settle(handed, [_failed(run.run_key, len(handed.runs), why) for run in handed.runs])

    try:
        while waiting or flying:
            if abandoned:
                abandoned = ray.wait(abandoned, num_returns=len(abandoned), timeout=0)[1]
            room = max(1, _room(ray, kind) - len(abandoned)) - len(flying)
            for _ in range(min(len(waiting), 2 * max(room, 0))):
                if room <= 0:
                    break
                i, stack = waiting.popleft()
                if time.monotonic() > latest[i]:
                    continue
                lock = contextlib.ExitStack()
                todo = [run for run in stack if not store.finished(run.run_key)]
                held = lock.enter_context(store.lock([run.run_key for run in todo]))
                todo = [run for run in todo if not store.finished(run.run_key)]
                if left := [run for run in todo if run.run_key not in held]:
                    waiting.append((i, left))  # another process trains them: come back at the end
                if free := [run for run in todo if run.run_key in held]:
                    hand_out(Handed(i, free, lock, 0.0))
                    room -= 1
                    continue
                lock.close()
                if not todo:
                    report(i, 1.0)
            if not flying:
                time.sleep(PAUSE)
                continue
            for reference in ray.wait(list(flying), timeout=LOOK)[0]:
                handed = flying.pop(reference)
                try:
                    settle(handed, ray.get(reference))
                except ray.exceptions.RuntimeEnvSetupError as error:
                    raise InputError(f"a node cannot take the code ({str(error).splitlines()[0]}).") from None
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    again(handed, f"{type(error).__name__}: its process was lost, perhaps because memory ran out")
            now = time.monotonic()
            for reference in [reference for reference, handed in flying.items() if now > handed.deadline]:
                handed = flying.pop(reference)
                ray.cancel(reference, force=True)
                abandoned.append(reference)  # should it answer after all, nobody listens
                again(handed, f"no answer from the cluster, {HANDED_OUT} times")
    finally:
        for reference, handed in flying.items():
            ray.cancel(reference, force=True)
            handed.lock.close()
    timed = [i for i, stack in enumerate(stacks) if stack[0].config.lane == "time"]
    if timed:
        tell: Report = lambda i, share: report(timed[i], share)
        chosen, ends = [stacks[i] for i in timed], [latest[i] for i in timed]
        run_local(chosen, folder, device, results, jobs, tell, graphs, latest=ends, debug=debug)


def _room(ray: ModuleType, kind: str) -> int:
    """How many tasks the nodes that are alive can have at once."""
    return sum(int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"])


def _failed(run_key: str, stack_runs: int, why: str) -> dict[str, Any]:
    """The row of a run that the cluster lost for good."""
    outcome = dict(status="failed", error=why, stack_runs=stack_runs, curve=[])
    return dict(run_key=run_key, n_train=None, **outcome, torch=torch.__version__)


_prepared: dict[str, Callable] = {}


def _train(runs: Stack, images: Images, device: str, graphs: bool) -> list[dict[str, Any]]:
    """The task: the rows of a stack. A worker keeps what it prepared for the stacks that follow."""
    if not _prepared:
        torch.set_num_threads(1)  # as in the local engine: the numbers are the same
        _prepared["give_back"] = reuse_freed_memory()
        _prepared["data"] = DataOnDevice(None, torch.device(device))
    data = functools.partial(_prepared["data"], images=images)
    return train_stack(runs, data, lambda share: _prepared["give_back"](), graphs)
