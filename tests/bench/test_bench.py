"""The benchmark: its straightforward iterations are am's, its tables say what was measured, and float32 is enough."""

import json
import os
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROOT, one_sentence
from taped import tape

from am.counters import flops_of
from am.graphs import cuda_graph
from reproduce.__main__ import main
from reproduce.bench import memory
from reproduce.bench.command import GPU_ONLY, PARTS, bench, rows_of
from reproduce.bench.full_batch import operation
from reproduce.bench.limits import fitted, least_gradient, least_samt, least_tiam
from reproduce.bench.measure import Bench, Scale, difference, launch
from reproduce.bench.memory import peak_of
from reproduce.bench.mini_batch import GRAPHED, graphs
from reproduce.bench.targets import Target, _targets, judged, write_targets

FULL_BATCH = ("tiam", "mdlam", "dladmm", "bcd")


def float32_error(rows, name, hidden=(32, 32), iterations=3):
    """Of the weights, relative to their largest, against float64; image-like rows, whose Gram matrix is large."""
    x, y, _ = rows_of("no such folder", rows, torch.device("cpu"))
    u, v = (launch(name, t, y, hidden).step(iterations).variables() for t in (x, x.double()))
    return max(difference({key: u[key]}, {key: v[key]})[0] for key in v if key.startswith("W"))


@pytest.mark.parametrize("name", FULL_BATCH)
def test_gram_products_in_float32_are_near_float64(name):
    assert 0 < float32_error(4_000, name) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_BATCH)
def test_gram_products_in_float32_are_near_float64_at_60_000_rows(name):
    # BCD solves with v^T v + alpha/rho I, of condition 1e6 here, and that matrix is summed in float32.
    assert 0 < float32_error(60_000, name, (100, 100)) < (1e-3 if name == "bcd" else 1e-4)


def test_least_work_is_what_the_steps_do_where_nothing_can_be_spared():
    x, y, _ = rows_of("no such folder", 64, torch.device("cpu"))
    hidden, batch = (20, 12, 8), 16
    widths = (784, *hidden, 10)
    for name, least in (("sgd", least_gradient(batch, widths)), ("samt", least_samt(batch, widths))):
        run = launch(name, x, y, hidden, 1, batch).step(2)
        assert flops_of(run.step) == least[0]
    assert least_gradient(batch, widths, 2)[1] > least_gradient(batch, widths)[1]


def test_least_work_of_tiam_by_hand():
    # Layers 5 -> 3 -> 2 on 7 rows. W_1, z_1: 4 7 15; X^T X: 2 3 25; W_2, z_2: 4 7 6; its curvature: by one more product
    # with the data, 2 7 6 = 84, less than 7 3 4 + 4 2 9; a_1: 6 7 6.
    flops, size = least_tiam(7, (5, 3, 2))
    assert flops == 420 + 150 + 168 + 84 + 252
    assert size == 4 * (7 * 5 + 3 * (3 * 5 + 7 * 3) + 3 * 7 * 3 + 3 * (2 * 3 + 7 * 2))


def test_tiam_does_no_less_than_the_least():
    x, y, _ = rows_of("no such folder", 400, torch.device("cpu"))
    run = launch("tiam", x, y, (20, 12), epsilon_0=1e-3).step(4)
    assert flops_of(run.step) >= least_tiam(400, (784, 20, 12, 10))[0]


def test_every_operation_has_a_kind():
    names = dict(mm="matrix products", linalg_solve_triangular="linear systems", copy_="copies")
    names |= dict(linalg_vector_norm="elementwise and reductions", exp="elementwise and reductions")
    names |= dict(slice="views and allocation")
    assert {name: operation(f"aten::{name}") for name in names} == names


def test_an_exponent_and_its_interval():
    sizes = np.array([1, 2, 4, 8, 16])
    exact = fitted(sizes, 3 * sizes**1.5)
    assert exact["exponent"] == pytest.approx(1.5) and exact["exponent_high"] - exact["exponent_low"] < 1e-6
    noisy = fitted(sizes, 3 * sizes**1.5 * [1.1, 0.9, 1.0, 1.1, 0.9])
    assert noisy["exponent_low"] < 1.5 < noisy["exponent_high"]
    assert noisy["exponent_high"] - noisy["exponent_low"] > 0.05


def test_a_target_takes_the_worst_row_that_matches():
    table = pd.DataFrame(
        dict(method=["tiam", "tiam", "bcd"], ratio=[9.0, 8.5, 1.0], ratio_low=[8, 7, 1], ratio_high=[10, 9, 1])
    )
    target = Target("x", "iteration", dict(method="tiam"), 8)
    row = judged(target, dict(iteration=table))
    assert (row["reached"], row["low"], row["high"], row["met"], row["required"]) == (8.5, 7, 9, "yes", ">= 8")
    at_most = Target("x", "iteration", dict(method="tiam"), 8.7, at_least=False)
    row = judged(at_most, dict(iteration=table))
    assert (row["reached"], row["met"], row["required"]) == (9, "no", "<= 8.7")


def test_what_was_not_measured_is_neither_met_nor_missed():
    table = pd.DataFrame(dict(method=["tiam"], ratio=[np.nan]))
    for tables in ({}, dict(iteration=table), dict(iteration=table.drop(columns="ratio"))):
        assert judged(Target("x", "iteration", dict(method="tiam"), 8), tables)["met"] == "not measured"


def test_targets_of_the_other_device_are_left_out(tmp_path):
    names = {}
    for device in ("cpu", "cuda"):
        path = write_targets(tmp_path, torch.device(device))
        names[device] = set(pd.read_csv(path)["target"])
    assert any("64 stacked" in name for name in names["cuda"] - names["cpu"])
    assert any("16 stacked" in name for name in names["cpu"] - names["cuda"])


TINY = Scale(
    rows=120,
    networks=((12, 12),),
    repetitions=2,
    batch=20,
    steps=3,
    stack=2,
    stacked_batches=(10,),
    stacked_runs=(1, 2),
    stacked_seconds=0.002,
    graph_runs=(1, 2),
    growth_rows=(40, 80, 120),
    growth_widths=(6, 8, 12),
    growth_depths=(1, 2, 3),
    growth_runs=(1, 2, 3),
    growth_at=60,
    gemm=64,
    memory_rows=60,
)
COLUMNS = {
    "iteration": {
        "method",
        "hidden",
        "n",
        "seconds",
        "straightforward_seconds",
        "ratio_low",
        "flops_ratio",
        "difference",
    },
    "epoch": {"method", "runs", "batch", "against", "epoch_seconds_per_run", "against_epoch_seconds", "ratio"},
    "stacking": {"runs", "batch", "run_steps_per_second", "ratio", "ratio_low"},
    "growth": {"axis", "value", "seconds"},
    "exponents": {"method", "axis", "exponent", "exponent_low", "exponent_high"},
    "limit": {"flops_least", "bytes_least", "gemm_flops_per_second", "copy_bytes_per_second", "limit_seconds", "share"},
    "memory": {"baseline_bytes", "peak_bytes", "bytes_per_run", "predicted_bytes", "ratio"},
    "precision": {"method", "iterations", "difference", "difference_of_weights"},
    "profile": {"method", "hidden", "operations", "step_seconds", "share", "seconds", "seconds_at_gemm_rate"},
}


def in_this_process(command, **options):
    peak = json.dumps(peak_of(json.loads(command[-1])))
    return types.SimpleNamespace(returncode=0, stdout=peak, stderr="")


def test_a_tiny_benchmark_writes_every_table_and_the_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.subprocess, "run", in_this_process)
    monkeypatch.setattr(memory, "MEASURED_MEMORY", ("tiam", "sgd"))
    monkeypatch.delenv("AM_DATA", raising=False)
    cpu, said = torch.device("cpu"), []
    out = bench(str(tmp_path), cpu, tmp_path / "results", tmp_path / "figures", (), TINY, said.append)
    assert out == tmp_path / "results" / "bench" and len(said) == len(PARTS) - len(GPU_ONLY)
    for name, columns in COLUMNS.items():
        table = pd.read_csv(out / f"{name}.csv")
        assert columns | {"data", "device", "threads"} <= set(table.columns), name
        # Where a user's loop is compared it has all cores, as users' loops have.
        threads = len(os.sched_getaffinity(0)) if name in ("epoch", "stacking") else 1
        assert len(table) and set(table["device"]) == {"cpu"} and set(table["threads"]) == {threads}
        assert set(table["data"]) == {"synthetic images, no MNIST in the data folder"}
    assert not (out / "graphs.csv").exists(), "a CPU has none"
    iterations = pd.read_csv(out / "iteration.csv")
    assert set(iterations["method"]) == set(FULL_BATCH) and (iterations["seconds"] > 0).all()
    assert (iterations["flops_ratio"] > 0).all()
    shares = pd.read_csv(out / "profile.csv").groupby("method")["share"].sum()
    assert set(shares.index) == {*FULL_BATCH, "sgd", "adam"} and np.allclose(shares, 1)
    targets = pd.read_csv(out / "targets.csv")
    assert list(targets.columns) == ["target", "required", "reached", "low", "high", "met"]
    assert {"not measured"} < set(targets["met"]) <= {"yes", "no", "not measured"}
    for suffix in ("pdf", "png"):
        assert (tmp_path / "figures" / "bench" / f"bench.{suffix}").stat().st_size > 10_000


def test_one_part_leaves_the_others_as_they_are(tmp_path):
    cpu, quiet = torch.device("cpu"), lambda text: None
    (tmp_path / "bench").mkdir()
    kept = "method,hidden,majoriser,ratio,ratio_low,ratio_high\ntiam,100-100,gradient kept,9,8,10\n"
    (tmp_path / "bench" / "iteration.csv").write_text(kept, encoding="utf-8")
    out = bench(str(tmp_path), cpu, tmp_path, tmp_path / "figures", ["g"], TINY, quiet)
    assert (out / "iteration.csv").read_text(encoding="utf-8") == kept and not (out / "epoch.csv").exists()
    targets = pd.read_csv(out / "targets.csv").set_index("target")
    assert targets.loc["TIAM iteration over the straightforward one, 100-100", "met"] == "yes"


def test_a_wrong_part_is_refused(tmp_path, capsys):
    places = ["--results", str(tmp_path), "--figures", str(tmp_path)]
    assert main(["bench", "--only", "a,q", *places]) == 2
    assert "'q'" in one_sentence(capsys)
    assert main(["bench", "--only", "a,h", "--device", "cpu", *places]) == 2
    assert "bench h times CUDA graphs and the device is the cpu" in one_sentence(capsys)


def graph_rows(device, dtype, record):
    x, y, data = rows_of("no such folder", TINY.rows, device)
    return graphs(Bench(device, x.to(dtype), y, data, TINY), record)["graphs"]


def test_steps_of_a_graph_are_compared_after_the_same_number():
    rows = graph_rows(torch.device("cpu"), torch.float64, tape)
    assert list(zip(rows["method"], rows["runs"])) == [(name, R) for name in GRAPHED for R in (1, 2)]
    assert (rows["after_steps"] == 2 + TINY.steps * (1 + rows["repetitions"])).all()
    assert (rows["difference"] <= 1e-11).all() and (rows["ratio"] > 0).all()
    target = next(target for target in _targets() if target.csv == "graphs")
    assert judged(target, dict(graphs=rows))["reached"] == rows.loc[rows["runs"] == 1, "ratio"].min()


@pytest.mark.gpu
def test_steps_of_a_cuda_graph_are_the_eager_ones():
    rows = graph_rows(torch.device("cuda"), torch.float64, cuda_graph)
    assert (rows["difference"] <= 1e-9).all() and (rows["ratio"] > 0).all()


@pytest.mark.slow
def test_peak_memory_is_measured_in_a_process_of_its_own():
    case = dict(method="tiam", widths=[784, 64, 64, 10], n=5_000, batch=0, runs=2, device="cpu")
    command = [sys.executable, "-m", "reproduce.bench.memory", json.dumps(case)]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    baseline, peak = json.loads(done.stdout)
    smallest = 2 * 4 * 5_000 * (3 * 138 + 2 * 128)  # z, a and the last iterates
    assert smallest < peak - baseline < 10 * smallest
