"""The engine `ray`: what is lost is handed out again, and without Ray a sentence says what to install."""

import importlib.util
import sys

import pytest
from helpers import one_sentence, place_fixture  # noqa: F401

from reproduce.run.engines.ray_check import check

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: uv pip install -r requirements-distributed.txt"
)


@pytest.mark.slow
@needs_ray
def test_a_cluster_that_loses_a_worker_a_task_and_a_node_ends_with_the_local_csvs():
    told: list[str] = []
    check(told.append)
    assert [line.partition(",")[0] for line in told[1:4]] == [
        "a worker killed with -9", "a task that never returns", "a node killed",
    ]  # fmt: skip


def test_without_ray_a_sentence_says_what_to_install(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert place.do("run", "tiny", "--engine", "ray") == 2
    error = capsys.readouterr().err
    assert "`uv pip install -r requirements-distributed.txt`" in error and "Traceback" not in error
    assert not place.shards()


def test_an_address_needs_the_engine(place, capsys):
    assert place.do("run", "tiny", "--address", "127.0.0.1:6379") == 2
    assert one_sentence(capsys) == "--address is that of a Ray cluster; it needs --engine ray."
    assert place.do("plan", "tiny", "--deadline", "5s") == 2
    assert one_sentence(capsys).endswith("it needs --engine ray.")
