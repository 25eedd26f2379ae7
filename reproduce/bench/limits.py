"""Parts d and e: how a step grows, and its share of the limit of the machine.

Least work of one TIAM iteration (mDLAM's is the same), n rows, layers d_{l-1} -> d_l, in FLOPs:

- W_l, then z_l: (z_l - b_l)^T a_{l-1} and a_{l-1} W_l^T, 4 n d_{l-1} d_l, neither of which another step leaves behind.
- the curvature of W_l, l > 1: the Gram matrix by symmetry, n d_{l-1} (d_{l-1} + 1), and two products of it, 4 d_l
  d_{l-1}^2; or, where cheaper, one more product with the data, 2 n d_{l-1} d_l. X^T X never changes: layer 1 pays
  one product with it, 2 d_1 d_0^2, as the other two follow from the last iteration's.
- a_l, l < L: the residual at the extrapolated point, the gradient and the change, 6 n d_l d_{l+1}; the residual at a_l
  itself is left over from the last iteration once epsilon has settled.

Bytes: X, and each z_l and a_l and W_l, read and written once, and its last iterate read once. The limit is the larger
of FLOPs over the GEMM rate and bytes over the copy bandwidth, as if they overlapped entirely.

Least work of a mini-batch step, B rows, p_l = d_l d_{l-1}: SGD and Adam run forward, 2 B sum p_l, and back, 2 B sum p_l
for weights and 2 B sum_{l>1} p_l for activations. SAMT in forward order with T = 1 and the next batch as query: before
block l moves, the support batch runs again through layers l-1 .. L (not at all for l = 1: the last query is carried
over), after it the query through l .. L; either needs a gradient through L .. l. In sum 2 B (4 sum l p_l - p_L).
Bytes: the batch read once, parameters and what the rule remembers of them read and written once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress
from scipy.stats import t as student

from am.counters import flops_of
from am.methods.tiam import Hyperparameters as TiamSettings
from reproduce.bench.measure import CLASSES, Bench, alternate, launch, spread, words


def growth(b: Bench) -> dict[str, pd.DataFrame]:
    """Seconds of a step of TIAM and of SGD as one size grows, the others fixed."""
    s, points = b.scale, []
    narrow, at = s.networks[0], min(s.growth_at, len(b.x))
    width = narrow[0]
    axes = {  # -> rows, hidden, runs
        "rows": [(n, (n, narrow, 1)) for n in s.growth_rows if n <= len(b.x)],
        "width": [(d, (at, (d, d), 1)) for d in s.growth_widths],
        "depth": [(L, (at, (width,) * L, 1)) for L in s.growth_depths],
        "runs": [(R, (at // 3, narrow, R)) for R in s.growth_runs],
    }
    for name in ("tiam", "sgd"):
        for axis, cases in axes.items():
            if name == "sgd" and axis == "rows":
                continue  # a mini-batch step does not see them
            for value, (n, hidden, runs) in cases:
                run = launch(name, b.x[:n], b.y[:n], hidden, runs, min(s.batch, n))
                steps = 1 if run.method.full_batch else 20
                run.step(2)
                seconds = alternate([lambda: run.step(steps)], s.repetitions, b.device, [run])[:, 0] / steps
                points.append(
                    dict(method=name, axis=axis, value=value, n=n, hidden=words(hidden), runs=runs)
                    | spread(seconds, "seconds")
                )
    frame = pd.DataFrame(points)
    fits = [
        dict(method=name, axis=axis, **fitted(part["value"], part["seconds"]), points=len(part))
        for (name, axis), part in frame.groupby(["method", "axis"], sort=False)
    ]
    return dict(growth=frame, exponents=pd.DataFrame(fits))


def fitted(sizes: Iterable[float], seconds: Iterable[float]) -> dict[str, float]:
    """The exponent of seconds ~ size^exponent by least squares in the logarithms, and its 95 % interval."""
    sizes, seconds = np.log(list(sizes)), np.log(list(seconds))
    fit = linregress(sizes, seconds)
    reach = student.ppf(0.975, len(sizes) - 2) * fit.stderr if len(sizes) > 2 else np.nan
    return dict(exponent=fit.slope, exponent_low=fit.slope - reach, exponent_high=fit.slope + reach)


def machine_rates(device: torch.device, edge: int, repetitions: int = 5) -> tuple[float, float]:
    """FLOPs a second of a square float32 matrix product, and bytes a second, read and written, of a copy; the best."""
    a, c = (torch.rand(edge, edge, device=device) for _ in range(2))
    source = torch.rand(16 * edge * edge, device=device)
    target = source.clone()
    out = torch.empty_like(a)
    works = [lambda: torch.mm(a, c, out=out), lambda: target.copy_(source)]
    alternate(works, 1, device)
    product, copy = alternate(works, repetitions, device).min(0)
    return 2 * edge**3 / product, 2 * source.nbytes / copy


def least_tiam(n: int, widths: Sequence[int]) -> tuple[float, float]:
    """FLOPs and bytes that one iteration of TIAM or mDLAM needs at least in float32; the module derives them."""
    d, L = widths, len(widths) - 1
    flops = 2 * d[1] * d[0] ** 2
    floats = n * d[0]
    for l in range(1, L + 1):
        flops += 4 * n * d[l - 1] * d[l]
        if l > 1:
            flops += min(n * d[l - 1] * (d[l - 1] + 1) + 4 * d[l] * d[l - 1] ** 2, 2 * n * d[l - 1] * d[l])
            flops += 6 * n * d[l - 1] * d[l]
        floats += 3 * d[l] * (d[l - 1] + (n if l == L else 2 * n))  # W_l, z_l and, but for the last layer, a_l
    return flops, 4 * floats


def least_gradient(batch: int, widths: Sequence[int], memory: int = 0) -> tuple[float, float]:
    """The same for a mini-batch step of SGD (memory = 0) or of a rule that remembers so many tensors (Adam: 2)."""
    p = [a * b for a, b in zip(widths, widths[1:])]
    return 2 * batch * (3 * sum(p) - p[0]), 4 * (batch * widths[0] + 2 * (1 + memory) * sum(p))


def least_samt(batch: int, widths: Sequence[int]) -> tuple[float, float]:
    """The same for a step of SAMT with step sizes a row, in forward order, T = 1, the next batch as query."""
    p = [a * b for a, b in zip(widths, widths[1:])]
    flops = 2 * batch * (4 * sum(l * pl for l, pl in enumerate(p, 1)) - p[-1])
    return flops, 4 * (batch * widths[0] + 2 * sum(p))


def limits(b: Bench) -> dict[str, pd.DataFrame]:
    """TIAM full batch; SGD, Adam and SAMT in alternation, alone and stacked."""
    flop_rate, byte_rate = machine_rates(b.device, b.scale.gemm)
    rows = []

    def row(
        name: str,
        hidden: Sequence[int],
        runs: int,
        batch: int,
        least: tuple[float, float],
        counted: float,
        seconds: np.ndarray,
        **more: Any,
    ) -> None:
        flop_seconds, byte_seconds = runs * least[0] / flop_rate, runs * least[1] / byte_rate
        limit = max(flop_seconds, byte_seconds)
        rows.append(
            dict(
                method=name,
                hidden=words(hidden),
                n=batch or len(b.x),
                runs=runs,
                flops_least=least[0],
                flops_counted=counted,
                flops_over_least=counted / least[0],
                bytes_least=least[1],
                gemm_flops_per_second=flop_rate,
                copy_bytes_per_second=byte_rate,
                flop_seconds=flop_seconds,
                byte_seconds=byte_seconds,
                limit_seconds=limit,
                seconds=np.median(seconds),
                **spread(limit / seconds, "share"),
                share_of_sum=(flop_seconds + byte_seconds) / np.median(seconds),
                **more,
            )
        )

    for hidden in b.scale.networks:
        # As all iterations are but the first few: epsilon has settled.
        run = launch("tiam", b.x, b.y, hidden, epsilon_0=TiamSettings.epsilon_min)
        run.step(4)
        counted = flops_of(run.step)
        seconds = alternate([run.step], b.repetitions(hidden), b.device, [run])[:, 0]
        row("tiam", hidden, 1, 0, least_tiam(len(b.x), (b.x.shape[1], *hidden, CLASSES)), counted, seconds)

    hidden, batch = b.scale.networks[0], b.scale.batch
    widths = (b.x.shape[1], *hidden, CLASSES)
    least = dict(sgd=least_gradient(batch, widths), adam=least_gradient(batch, widths, 2))
    least["samt"] = least_samt(batch, widths)
    steps = max(2, b.scale.steps // 2)
    for R in (1, b.scale.stack):
        runs = {name: launch(name, b.x, b.y, hidden, R, batch) for name in least}
        for run in runs.values():
            run.step(2)
        counted = {name: flops_of(run.step) / R for name, run in runs.items()}
        works = [lambda run=run: run.step(steps) for run in runs.values()]
        taken = alternate(works, b.scale.repetitions + 2, b.device, list(runs.values()))
        seconds = dict(zip(runs, taken.T / steps))
        for name in least:
            flops_over_sgd = counted[name] / counted["sgd"]
            over = seconds[name] / seconds["sgd"] / flops_over_sgd
            more = dict(flops_over_sgd=flops_over_sgd) | spread(over, "seconds_over_flops_over_sgd")
            row(name, hidden, R, batch, least[name], counted[name], seconds[name], **more)
    return dict(limit=pd.DataFrame(rows))
