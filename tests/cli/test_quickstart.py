"""What `make quickstart` runs, as a command of its own."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.slow
def test_quickstart_leaves_csvs_and_figures_and_a_second_time_does_nothing(tmp_path):
    """What `make quickstart` runs, with one seed."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    words = "-m reproduce run quickstart --profile smoke --results results --figures figures --seeds 1".split()

    def do() -> str:
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        return done.stdout

    do()
    made = {
        path: path.stat().st_mtime_ns
        for folder in ("results/smoke/quickstart", "figures/smoke/quickstart")
        for path in (tmp_path / folder).iterdir()
    }
    names = {path.name for path in made}
    assert {
        "runs.csv",
        "curves.csv",
        "summary.csv",
        "accuracy_epochs.pdf",
        "accuracy_epochs.png",
        "final_accuracy.png",
    } <= names
    assert "Nothing to train" in do()
    assert {path: path.stat().st_mtime_ns for path in made} == made
