"""The memory at hand, and what it means for stacks."""

import pytest
import torch

from am import machine
from am.methods import method

CPU = torch.device("cpu")
WIDE = (784, 1500, 1500, 10)


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """groups(membership, {file: text}): the cgroups of a machine, and what this process's limit is among them."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")

    def limit(membership: str, files: dict[str, str]) -> int | None:
        (tmp_path / "self").write_text(membership, encoding="utf-8")
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return machine.cgroup_memory(tmp_path / "self")

    return limit


def test_version_2_the_tightest_limit_of_the_group_and_those_above_it_holds(groups):
    files = {"job/memory.max": "3000\n", "job/step/memory.max": "max\n", "memory.max": "5000\n"}
    assert groups("0::/job/step\n", files) == 3000


def test_version_1_reads_the_memory_controller_alone(groups):
    files = {"memory/docker/memory.limit_in_bytes": "2000\n", "docker/memory.max": "7\n"}
    assert groups("5:cpu,cpuacct:/docker\n4:memory:/docker\n", files) == 2000


def test_a_path_that_only_the_host_sees_falls_back_to_the_mounted_group(groups):
    assert groups("0::/host/only\n", {"memory.max": "4000\n"}) == 4000


def test_no_group_sets_a_limit(groups, tmp_path):
    assert groups("0::/\n", {"memory.max": "max\n"}) is None
    assert machine.cgroup_memory(tmp_path / "absent") is None


def test_the_memory_at_hand_is_the_smaller_of_the_machine_s_and_the_cgroup_s(monkeypatch):
    monkeypatch.setattr(machine, "physical_memory", lambda: 10)
    for limit, least in ((None, 10), (4, 4), (2**60, 10)):
        monkeypatch.setattr(machine, "cgroup_memory", lambda limit=limit: limit)
        assert machine.device_memory(CPU) == least


@pytest.mark.parametrize("name", ["sgd", "tiam", "dladmm"])
def test_workers_together_take_no_more_than_their_share_of_the_machine(name, monkeypatch):
    monkeypatch.setattr(machine, "physical_memory", lambda: 16 * 2**30)
    monkeypatch.setattr(machine, "cgroup_memory", lambda: None)
    chosen, sizes = method(name), []
    for workers in (1, 2, 4):
        runs = machine.largest_stack(chosen, WIDE, 5_000, 128, CPU, workers)
        sizes.append(runs)
        assert workers * machine.stack_bytes(chosen, WIDE, 5_000, 128, runs) <= machine.SHARE * 16 * 2**30
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1


def test_eight_workers_get_an_eighth_each(monkeypatch):
    monkeypatch.setattr(machine, "physical_memory", lambda: 16 * 2**30)
    monkeypatch.setattr(machine, "cgroup_memory", lambda: None)
    assert machine.worker_bytes(CPU, 8) * 8 == machine.worker_bytes(CPU, 1) == machine.SHARE * 16 * 2**30
    alone = machine.largest_stack(method("tiam"), WIDE, 5_000, 128, CPU)
    assert machine.largest_stack(method("tiam"), WIDE, 5_000, 128, CPU, 8) < alone


@pytest.mark.parametrize("cores", [8, 16, 64])
@pytest.mark.parametrize("needed", [1e6, 4.5e8, 1.3e9, 5.7e9, 11e9])
def test_processes_fit_the_memory_together(cores, needed):
    memory = 16e9
    made = machine.processes(cores, memory, needed)
    of_one, room = needed + machine.WORKER, machine.MOST_SHARE * memory
    assert made <= cores and made * of_one <= room
    assert made == cores or (made + 1) * of_one > room
    assert machine.processes(cores, memory, 15e9) == 0  # what no process can hold
