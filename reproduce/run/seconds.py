"""What training should take here: from runs like it in the store, else from a few steps on made-up data.

Runs like it are of the same method and network, on the same kind of device, be it under another profile.

A step's seconds are taken to grow as its rows do, and an evaluation's as the rows that it looks at.
"""

import heapq
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from am.data import Data, Size, held_out_size, training_rows
from am.evaluation import TRAIN_LOSS_ROWS
from am.methods import method
from am.training import Budget, train
from reproduce.evidence.config import MLP, RunConfig
from reproduce.evidence.key import on_cpu
from reproduce.plan.plan import PlannedRun
from reproduce.run.lanes import work_of

PATIENCE = 2.0  # seconds that a calibration may take, all together
ROWS = 4_000  # of the made-up data: enough that a full-batch step's tensors leave the fast caches
STEPS = 12  # mini-batch steps of a calibration
WORTH = 0.5  # seconds by the rough guess under which a stack is not worth a calibration
IMPORTS = time.process_time()  # what this process has taken to get here, a worker has to import as well
STEP_GUESS, FLOP_GUESS = 2e-3, 2e10  # seconds of a step of few rows; FLOPs a second of a core. Where nothing is known
TRUST = 30.0  # seconds of training until what is seen counts as much as what was expected
LATE = 0.95  # the most of a stack that counts as done before its worker says more


@dataclass(frozen=True)
class Rate:
    """Seconds of one run: of training a row for a step, and of evaluating a row."""

    step: float
    evaluation: float


class Estimates:
    """Seconds of stacks on this machine.

    shapes: of the copy of each data set.  lookup: run key -> stored run.  known: runs that may be stored.
    others: such runs of other profiles; they tell what nothing of `known` tells.
    """

    def __init__(
        self,
        shapes: dict[str, Size],
        device: torch.device,
        lookup: Callable[[str], dict[str, Any] | None],
        known: Sequence[PlannedRun] = (),
        others: Sequence[PlannedRun] = (),
    ) -> None:
        self.shapes, self.device = shapes, device
        self.start = IMPORTS
        self._rates = self._of_the_store(others, lookup) | self._of_the_store(known, lookup)
        self._left, self._ratios = PATIENCE, list[float]()

    def prepare(self, pending: Sequence[Sequence[PlannedRun]]) -> None:
        """Calibrate for what seems to take longest first, until the patience for it is spent.

        Not for networks of the module lane: a step of theirs may take seconds, and is nearly all products.
        """
        for stack in sorted(pending, key=self._guess, reverse=True):
            key = self._key(stack[0].config)
            if self._left <= 0 or self._guess(stack) < WORTH:
                break
            if key not in self._rates and stack[0].config.network == MLP:
                began = time.monotonic()
                self._rates[key] = self._measure(stack)
                self._left -= time.monotonic() - began

    def __call__(self, stack: Sequence[PlannedRun]) -> float:
        """Seconds that a stack should take one worker: training, evaluation, recording."""
        rate = self._rates.get(self._key(stack[0].config))
        if rate is None:
            return self._guess(stack) * self._correction()
        steps, rows, evaluations, seen = self._sizes(stack[0].config)
        return len(stack) * (steps * rows * rate.step + evaluations * seen * rate.evaluation)

    def altogether(self, pending: Sequence[Sequence[PlannedRun]], jobs: int) -> float:
        """Seconds from the start of `jobs` workers to the end of the last stack; the time lane comes last, alone."""
        ends = [0.0] * jobs
        for stack in pending:
            if stack[0].config.lane != "time":
                heapq.heapreplace(ends, ends[0] + self(stack))
        return self.start + max(ends) + sum(self(stack) for stack in pending if stack[0].config.lane == "time")

    def _correction(self) -> float:
        """What the rough guess is to be multiplied by: the geometric mean of what the calibrations say."""
        return math.exp(sum(self._ratios) / len(self._ratios)) if self._ratios else 1.0

    def _key(self, c: RunConfig) -> tuple:
        """What a rate depends on."""
        words = tuple((k, v) for k, v in c.settings if not isinstance(v, float))
        problem = c.network, c.hidden, c.activation, self.shapes[c.dataset][0], self.shapes[c.dataset].classes
        return c.method, words, *problem, c.batch_size, c.gradient_norm, c.lane

    def _sizes(self, c: RunConfig) -> tuple[int, int, int, int]:
        """Steps, rows of a step, evaluations, rows of an evaluation."""
        size = self.shapes[c.dataset]
        n = training_rows(size.rows, c.n_train)
        per_epoch = n // c.batch_size if c.batch_size else 1
        steps = c.epochs * per_epoch
        evaluations = 1 + -(-steps // max(1, round(c.evaluate_every * per_epoch)))
        seen = min(n, TRAIN_LOSS_ROWS) + held_out_size(size.rows) + (size.test if c.read_test else 0)
        return steps, c.batch_size or n, evaluations, seen

    def _guess(self, stack: Sequence[PlannedRun]) -> float:
        c = stack[0].config
        steps, rows, evaluations, seen = self._sizes(c)
        products = work_of(c, self.shapes[c.dataset])
        chosen = method(c.method)
        passes = chosen.cost.gradients(len(c.hidden) + 1, chosen.settings(dict(c.settings))) or 2
        step = STEP_GUESS * passes + len(stack) * passes * 6 * rows * products / FLOP_GUESS
        return steps * step + evaluations * len(stack) * 2 * seen * products / FLOP_GUESS

    def _of_the_store(self, known: Sequence[PlannedRun], lookup: Callable) -> dict[tuple, Rate | None]:
        totals: dict[tuple, list[float]] = {}
        for run in known:
            found = lookup(run.run_key)
            if not found or found["status"] != "done" or run.config.dataset not in self.shapes:
                continue
            if on_cpu(found["device"]) != (self.device.type == "cpu"):
                continue
            steps, rows, evaluations, seen = self._sizes(run.config)
            total = totals.setdefault(self._key(run.config), [0.0] * 4)
            parts = (found["train_seconds"], steps * rows, found["evaluate_seconds"], evaluations * seen)
            totals[self._key(run.config)] = [a + b for a, b in zip(total, parts)]
        return {key: Rate(a / b, c / d) for key, (a, b, c, d) in totals.items()}

    def _measure(self, stack: Sequence[PlannedRun]) -> Rate | None:
        """A few steps of at most four of the runs, and two evaluations, the quickest of three times.

        Another process may have the core for a while. None where they fail: the run itself says why.
        """
        c, runs = stack[0].config, stack[:4]
        chosen = method(c.method)
        steps, rows, _, _ = self._sizes(c)
        n = min(rows, ROWS) if chosen.full_batch else rows * min(STEPS, steps)
        data = self._made_up(n, self.shapes[c.dataset])
        budget = Budget(2 if chosen.full_batch else 1, c.batch_size, 2, gradient_norm=c.gradient_norm)
        settings = [chosen.settings(dict(run.config.settings)) for run in runs]
        seeds = [run.config.seed for run in runs]
        how = dict(hidden=c.hidden, activation_name=c.activation, init=c.init)
        try:
            with _threads(1 if c.lane != "time" else torch.get_num_threads()):
                # The first pays also for what only a first time costs.
                results = [train(chosen, settings, seeds, data, **how, budget=budget)[0] for _ in range(3)]
        except Exception:
            return None
        made = max(results[0].iterations, 1) * (n if chosen.full_batch else rows)
        training = min(result.train_seconds for result in results)
        rate = Rate(training / made, min(result.evaluate_seconds for result in results) / (2 * 3 * n))
        steps, rows, evaluations, seen = self._sizes(c)
        seconds = len(stack) * (steps * rows * rate.step + evaluations * seen * rate.evaluation)
        self._ratios.append(math.log(seconds / self._guess(stack)))
        return rate

    def _made_up(self, n: int, size: Size) -> Data:
        chance = torch.Generator().manual_seed(0)
        x = torch.rand(n, size.inputs, generator=chance).to(self.device)
        y = torch.randint(size.classes, (n,), generator=chance).to(self.device)
        return Data("made up", x, y, x, y, x, y, fingerprint="", official=False, classes=size.classes)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Progress:
    """How much of the expected seconds of all stacks is done: what workers report, and the time since then."""

    def __init__(self, expected: Sequence[float], labels: Sequence[str], jobs: int) -> None:
        self.expected, self.labels, self.jobs = list(expected), labels, jobs
        self.shares, self.began, self.told, self.latest = [0.0] * len(expected), {}, {}, ""

    def report(self, i: int, share: float) -> None:
        self.began.setdefault(i, time.monotonic())
        self.shares[i] = max(self.shares[i], share)
        self.told[i] = time.monotonic()
        self.latest = self.labels[i]

    def done(self, i: int) -> float:
        """Share of stack i: what was told, and what the time since then makes of it at the speed so far."""
        if i not in self.began or self.shares[i] >= 1:
            return self.shares[i]
        spent = self.told[i] - self.began[i]
        pace = self.shares[i] / spent if self.shares[i] and spent > 0 else 1 / max(self.expected[i], 1e-3)
        since = time.monotonic() - self.told[i]
        return max(self.shares[i], min(LATE, self.shares[i] + since * pace))

    def share(self) -> float:
        """Of everything."""
        return sum(e * self.done(i) for i, e in enumerate(self.expected)) / max(sum(self.expected), 1e-9)

    def remaining(self) -> float:
        """Seconds to the end, stacks to come at the pace of those at hand against what was expected of them."""
        moved = [i for i in self.began if self.shares[i] > 0]
        expected = sum(self.expected[i] * self.shares[i] for i in moved)
        took = sum(self.told[i] - self.began[i] for i in moved)
        pace = (took + TRUST) / (expected + TRUST)  # a first small stack pays for the start, and says little
        return pace * sum(e * (1 - self.done(i)) for i, e in enumerate(self.expected)) / self.jobs


@contextmanager
def shown(progress: Progress, duration: Callable[[float], str]) -> Iterator[None]:
    """A line on stderr that moves by itself: five times a second on a terminal, every ten seconds in a log."""
    every = 0.2 if sys.stderr.isatty() else 10.0
    stop = threading.Event()
    line = "{l_bar}{bar}| [{elapsed}{postfix}]"
    with tqdm(total=100, bar_format=line, mininterval=0, miniters=0) as bar:

        def draw() -> None:
            bar.n = 100 * progress.share()
            bar.set_postfix_str(f"{duration(progress.remaining())} left, {progress.latest}", refresh=True)

        def keep_drawing() -> None:
            while not stop.wait(every):
                draw()

        thread = threading.Thread(target=keep_drawing, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            draw()
