"""An iteration after another on demand, in whatever checkout PYTHONPATH names: the worker of `reproduce.bench.earlier`.

Arguments: method, rows, threads, data file. Each line read is answered with a number: "step" makes an iteration and
says how many seconds it took, "moved" how far W_1 is from where it began.
"""

import sys
import time

import numpy as np
import torch

import am
from am.networks import initialise

SETTLED = dict(epsilon_0=1e-3)  # as all iterations are but the first few


def main(name: str, rows: int, threads: int, path: str) -> None:
    """Answer until the input ends."""
    torch.set_num_threads(threads)
    with np.load(path) as file:
        x, y = file["x"], file["y"]
    again = np.arange(rows) % len(x)
    x, y = torch.from_numpy(x[again]), torch.from_numpy(y[again])
    params = initialise((x.shape[1], 100, 100, 10), [0], "normal(0.1)", x.dtype)
    run = am.start(name, x, y, [W[0] for W in params.W], [b[0, 0] for b in params.b], "relu", **SETTLED).step(4)
    began = run.variables()["W1"]
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "moved":
            print(float((run.variables()["W1"] - began).abs().max()), flush=True)
            continue
        since = time.perf_counter()
        run.step()
        print(time.perf_counter() - since, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
