"""Estimates and progress: what training should take, and how far it is."""

import re

import pytest
from helpers import CPU, PRINTS, SHAPES, place_fixture, read_fixture  # noqa: F401

from reproduce.plan.plan import plan, stacks
from reproduce.run import seconds
from reproduce.run.seconds import LATE, Estimates, Progress, Rate

LIKE = dict(status="done", train_seconds=3.0, evaluate_seconds=0.5)  # a stored run


@pytest.fixture
def made(read):
    runs = plan(read(methods=[dict(name="sgd"), dict(name="tiam")], epochs=4, seeds=2), PRINTS)
    return runs, stacks(runs, SHAPES, CPU)


def estimates(rates=None, lookup=lambda run_key: None, known=(), others=()):
    found = Estimates(SHAPES, CPU, lookup, known, others)
    found._rates.update(rates or {})
    return found


def test_a_stack_takes_its_steps_and_its_evaluations_at_the_rates_known(made):
    runs, (sgd, tiam) = made
    said = estimates()
    rates = {said._key(stack[0].config): Rate(step=1e-3, evaluation=1e-4) for stack in (sgd, tiam)}
    said = estimates(rates)
    seen = 100 + 143 + 360  # training rows, held out of 1,437, test images
    assert said(sgd) == pytest.approx(2 * (4 * 4 * 25 * 1e-3 + 5 * seen * 1e-4))
    assert said(tiam) == pytest.approx(2 * (4 * 100 * 1e-3 + 5 * seen * 1e-4))


def test_runs_in_the_store_tell_what_their_like_will_take(made):
    runs, (sgd, _) = made
    stored = {run.run_key: dict(LIKE, device="cpu") for run in sgd}
    said = estimates(lookup=stored.get, known=runs)
    assert said(sgd) == pytest.approx(2 * 3.5)


@pytest.mark.parametrize(("device", "counts"), [("Intel Xeon, 2 threads", True), ("NVIDIA H200, CUDA graphs", False)])
def test_runs_of_another_kind_of_device_tell_nothing(made, device, counts):
    runs, (sgd, _) = made
    stored = {run.run_key: dict(LIKE, device=device) for run in sgd}
    said = estimates(lookup=stored.get, known=runs)
    assert (said(sgd) == pytest.approx(2 * 3.5)) == counts
    assert counts or said(sgd) == estimates()(sgd)


def test_runs_of_another_profile_tell_what_those_of_this_one_do_not(made, read):
    runs, (sgd, tiam) = made
    others = plan(read(methods=[dict(name="sgd"), dict(name="tiam")], epochs=8, seeds=1), PRINTS)
    stored = {run.run_key: dict(LIKE, device="cpu") for run in sgd}
    stored |= {run.run_key: dict(LIKE, device="cpu", train_seconds=60.0, evaluate_seconds=0.0) for run in others}
    said = estimates(lookup=stored.get, known=runs, others=others)
    assert said(sgd) == pytest.approx(2 * 3.5), "sgd's own runs"
    assert said(tiam) == pytest.approx(2 * 30), "half as many iterations"


def test_altogether_counts_the_start_and_shares_stacks_among_jobs(made):
    said = estimates()
    said.start = 7.0
    pending = made[1] * 3
    each = [said(stack) for stack in pending]
    assert said.altogether(pending, 1) == pytest.approx(7 + sum(each))
    assert 7 + max(max(each), sum(each) / 2) <= said.altogether(pending, 2) < 7 + sum(each)


def test_a_plan_names_the_seconds_of_each_grid_and_counts_what_they_share_once(place, monkeypatch, capsys):
    monkeypatch.setattr(Estimates, "prepare", lambda self, pending: None)
    monkeypatch.setattr(Estimates, "__call__", lambda self, stack: 10.0 * len(stack))
    place.write("first", methods=[dict(name="sgd")])
    place.write("second", methods=[dict(name="sgd"), dict(name="adam")])
    place.write("third", methods=[dict(name="sgd")])
    assert place.do("plan", "first", "second", "third", "--jobs", "2") == 0
    said = capsys.readouterr().out
    assert re.search(r"first +2 runs, +0 already there, +20 s to train", said)
    assert re.search(r"second +4 runs, +0 already there, +20 s to train", said)
    assert re.search(r"third +2 runs, +0 already there +[A-Z]", said), "all of it is trained for the first"
    assert "one process would take 40 s" in said


def test_a_plan_asks_the_rows_of_the_other_profiles(place, monkeypatch):
    told = []

    def known(self, pending):
        told.append([self._rates.get(self._key(stack[0].config)) for stack in pending])

    monkeypatch.setattr(Estimates, "prepare", known)
    place.write(profile=dict(paper=dict(epochs=8)))
    assert place.do("plan", "tiny", "--profile", "paper") == 0
    place.ran("tiny")
    assert place.do("plan", "tiny", "--profile", "paper") == 0
    before, _, after = told  # that of the run itself is between them
    assert before and not any(before), "nothing was trained"
    assert after and all(after), "profile smoke was"


@pytest.mark.parametrize("name", ["sgd", "tiam"])
def test_a_calibration_corrects_a_guess_that_is_far_off(read, name, monkeypatch):
    monkeypatch.setattr(seconds, "STEP_GUESS", 5.0)
    (stack,) = stacks(plan(read(methods=[dict(name=name)], seeds=1), PRINTS), SHAPES, CPU)
    said = estimates()
    guess = said(stack)
    said.prepare([stack])
    assert 0 < said(stack) < guess / 10


def test_what_fails_in_a_calibration_is_left_to_its_run(made, monkeypatch):
    def broken(*args, **named):
        raise RuntimeError("no")

    monkeypatch.setattr(seconds, "STEP_GUESS", 5.0)
    monkeypatch.setattr(seconds, "train", broken)
    said = estimates()
    said.prepare(made[1])
    assert said(made[1][0]) == said._guess(made[1][0])


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(seconds.time, "monotonic", lambda: now[0])
    return now


def test_stacks_count_by_their_seconds_and_move_between_reports(clock):
    progress = Progress([10.0, 90.0], ["a", "b"], jobs=1)
    assert progress.share() == 0 and progress.remaining() == 100
    progress.report(0, 0.0)
    clock[0] = 5.0
    assert progress.share() == pytest.approx(0.05), "nothing was reported, and work is done"
    progress.report(0, 1.0)
    assert progress.share() == pytest.approx(0.1)
    trust = seconds.TRUST
    assert progress.remaining() == pytest.approx(90 * (5 + trust) / (10 + trust)), "quicker than expected"
    progress.report(1, 0.0)
    clock[0] = 1e6
    assert progress.share() == pytest.approx(0.1 + 0.9 * LATE), "never done before its worker says so"
