"""The layer-wise methods: equal to plain oracles, FLOPs as torch counts them, numbers that no neighbour changes."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import am
from am.activations import ACTIVATIONS, activation
from am.cross_entropy import prox_cross_entropy
from am.methods import method
from am.methods.proxprop import proximal_move
from am.networks import initialise

ROWS, BATCH = 24, 8
FULL_BATCH = ("dladmm", "dladmm-released", "bcd", "pdadmm")
PROGRAMS = [
    ("dladmm", {}),
    ("dladmm", dict(tau_0=1e-4, output_step="exact", keep_step_sizes=True)),
    ("dladmm-released", dict(tau_0=1e3)),
    ("bcd", {}),
    ("pdadmm", {}),
    ("pdadmm", dict(tau_0=1e3)),
    ("locoprop", {}),
    ("locoprop", dict(local_steps=1)),
    ("locoprop", dict(loss="matching")),
    ("proxprop", {}),
]
MONOTONE = sorted(name for name, act in ACTIVATIONS.items() if act.monotone)


def data(rows: int = ROWS, widths=(6, 5, 7, 3), runs: int = 1, dtype=torch.float64):
    """x, y, weights (R, d_l, d_{l-1}), biases (R, d_l) and mini-batches."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, widths[0], generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(widths[-1], (rows,), generator=generator)
    params = initialise(widths, range(runs), "normal(0.5)", dtype)
    return x, y, params.W, [b[:, 0] for b in params.b], torch.arange(rows // BATCH * BATCH).view(-1, BATCH)


def launch(name: str, x, y, W, b, batches, act: str = "relu", **hp):
    return am.start(name, x, y, W, b, act, batches=None if method(name).full_batch else batches, **hp)


# FLOPs


@pytest.mark.parametrize("widths", [(6, 5, 7, 3), (12, 4, 3), (520, 6, 9, 9, 4)], ids=str)
@pytest.mark.parametrize("name, hp", PROGRAMS, ids=str)
def test_flops_are_those_that_torch_counts(name, hp, widths):
    x, y, W, b, batches = data(widths=widths)
    run = launch(name, x, y, W, b, batches, **hp).step()
    rows = len(x) if run.method.full_batch else BATCH
    for _ in range(3):
        before = 0 if run.method.flops else run.state.flops.item()
        with FlopCounterMode(display=False) as counter:
            run.step()
        charged = (
            run.method.flops(widths, rows, run.method.settings(hp))
            if run.method.flops
            else run.state.flops.item() - before
        )
        assert charged == counter.get_total_flops()


# Numbers


@pytest.mark.parametrize(
    "name, threads",
    # With two threads the small products of mini-batch methods are those of am.linalg, and tested there.
    [(name, threads) for name in ("dladmm", "bcd", "pdadmm") for threads in (1, 2)] + [("locoprop", 1), ("proxprop", 1)],
)
def test_a_run_is_bitwise_the_same_alone_and_in_a_stack(name, threads):
    widths, before = (50, 30, 20, 10), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, y, W, b, batches = data(512, widths, 3, torch.float32)
        together = launch(name, x, y, W, b, batches.view(-1, 128)).step(4)
        for r in range(3):
            alone = launch(name, x, y, [w[r : r + 1] for w in W], [v[r : r + 1] for v in b], batches.view(-1, 128))
            for key, value in alone.step(4).variables().items():
                assert torch.equal(value[0], together.variables()[key][r]), key
            if method(name).objective:
                assert alone.objective()[0] == together.objective()[r]
            if not method(name).flops:
                assert alone.state.flops[0] == together.state.flops[r]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["dladmm", "pdadmm"])
def test_a_neighbour_with_many_doublings_costs_a_run_nothing(name):
    x, y, W, b, batches = data(runs=2)
    calm = launch(name, x, y, W, b, batches, tau_0=[1e3, 1e3]).step(3).state.flops
    beside = launch(name, x, y, W, b, batches, tau_0=[1e3, 1e-9]).step(3).state.flops
    assert beside[0] == calm[0] and beside[1] > calm[1]


@pytest.mark.parametrize("act", MONOTONE)
@pytest.mark.parametrize("name", FULL_BATCH)
def test_rows_repeated_with_scaled_constants_are_the_same_problem(name, act):
    chosen, k = method(name), 3
    x, y, W, b, _ = data()
    settings = chosen.settings(dict(images=ROWS) if name == "dladmm-released" else {})
    found = []
    for times in (1, k):
        own = chosen.scaled(settings, times)
        if hasattr(own, "images"):
            own = dataclasses.replace(own, images=0 if name == "dladmm" else times * ROWS)
        run = launch(name, x.repeat(times, 1), y.repeat(times), W, b, None, act, **dataclasses.asdict(own))
        found.append(run.step(20).variables())
    for l in range(1, len(W) + 1):
        for kind in "Wb":
            u, v = (variables[f"{kind}{l}"] for variables in found)
            assert (u - v).abs().max() <= 1e-9 * v.abs().max().clamp(min=1), f"{kind}{l}"


# Oracles: one run, autograd and dense solves


def outputs(u: dict, x, y, act):
    """Inputs, outputs and d mean CE / d output of every layer, by autograd."""
    a, inputs, z = x, [], []
    for l in range(1, len(u) // 2 + 1):
        inputs.append(a.detach())
        z.append(F.linear(a, u[f"W{l}"], u[f"b{l}"]))
        a = act.value(z[-1])
    return inputs, [v.detach() for v in z], torch.autograd.grad(F.cross_entropy(z[-1], y), z)


def locoprop_step(u: dict, memory: dict, x, y, act, hp) -> None:
    leaves = {name: t.clone().requires_grad_() for name, t in u.items()}
    inputs, z, gradients = outputs(leaves, x, y, act)
    for l, (a, output, gradient) in enumerate(zip(inputs, z, gradients), 1):
        if hp.loss == "squared":
            link = lambda v: v
        else:
            link = (lambda v: torch.softmax(v, 1)) if l == len(z) else act.value
        target = link(output) - hp.gamma * gradient
        layer = {name: u[name].clone().requires_grad_() for name in (f"W{l}", f"b{l}")}
        state = memory.setdefault(("square", l), {name: torch.zeros_like(t) for name, t in layer.items()})
        for t in range(hp.local_steps):
            now = F.linear(a, *layer.values())
            slope = (link(now) - target).detach() / len(a)
            for (name, leaf), g in zip(layer.items(), torch.autograd.grad(now, list(layer.values()), slope)):
                state[name] = hp.decay * state[name] + (1 - hp.decay) * g * g
                rate = hp.learning_rate * max(1 - t / hp.local_steps, 0.25)
                leaf.data = leaf.data - rate * g / (state[name].sqrt() + hp.epsilon)
        u |= {name: leaf.detach() for name, leaf in layer.items()}


def proxprop_step(u: dict, memory: dict, x, y, act, hp) -> None:
    """The normal equations of (W, b) with a column of ones, which the proximal term leaves out."""
    leaves = {name: t.clone().requires_grad_() for name, t in u.items()}
    for l, (a, output, gradient) in enumerate(zip(*outputs(leaves, x, y, act)), 1):
        A, plus = torch.cat([a, torch.ones_like(a[:, :1])], 1), output - hp.gamma * gradient
        weight = torch.diag(torch.tensor([1 / hp.tau] * a.shape[1] + [0.0], dtype=a.dtype))
        last = torch.cat([u[f"W{l}"], u[f"b{l}"][:, None]], 1)
        solved = torch.linalg.solve(A.T @ A + weight, A.T @ plus + weight @ last.T).T
        u[f"W{l}"], u[f"b{l}"] = solved[:, :-1], solved[:, -1]


def pdadmm_step(u: dict, memory: dict, x, y, act, hp) -> None:
    L, h, q, new = len([name for name in u if name[0] == "W"]), act.value, dict(u), {"p1": x}

    def descend(v, gradient, bend, theta):
        g = gradient(v)
        while bend(g) > theta * (g * g).sum():
            theta *= 2
        return v - g / theta

    square = lambda t: (t * t).sum()
    for l in range(2, L + 1):
        W, b, z = u[f"W{l}"], u[f"b{l}"], u[f"z{l}"]
        gradient = lambda p: hp.nu * (p @ W.T + b - z) @ W + u[f"u{l - 1}"] + hp.rho * (p - q[f"q{l - 1}"])
        new[f"p{l}"] = descend(
            u[f"p{l}"], gradient, lambda g: hp.nu * square(g @ W.T) + hp.rho * square(g), hp.tau_0
        )
    for l in range(1, L + 1):
        p, b, z = new[f"p{l}"], u[f"b{l}"], u[f"z{l}"]
        gradient = lambda W: hp.nu * (p @ W.T + b - z).T @ p
        W = new[f"W{l}"] = descend(u[f"W{l}"], gradient, lambda g: hp.nu * square(p @ g.T), hp.theta_0)
        new[f"b{l}"] = (z - p @ W.T).mean(0)
        c = p @ W.T + new[f"b{l}"]
        one = torch.ones(1, 1, 1, dtype=x.dtype)
        if l < L:
            new[f"z{l}"] = act.scalar_prox(c, u[f"q{l}"], one[0, 0, 0])
        else:
            new[f"z{l}"] = prox_cross_entropy(c[None], y, hp.nu * one)[0]
    for l in range(1, L):
        new[f"q{l}"] = (hp.rho * new[f"p{l + 1}"] + u[f"u{l}"] + hp.nu * h(new[f"z{l}"])) / (hp.rho + hp.nu)
        new[f"u{l}"] = u[f"u{l}"] + hp.rho * (new[f"p{l + 1}"] - new[f"q{l}"])
    u |= {name: value for name, value in new.items() if name != "p1"}


ORACLES = dict(locoprop=locoprop_step, proxprop=proxprop_step, pdadmm=pdadmm_step)
CASES = [
    ("locoprop", dict(learning_rate=3e-3)),
    ("locoprop", dict(learning_rate=3e-3, loss="matching", local_steps=3)),
    ("proxprop", dict(gamma=3.0, tau=0.5)),
    ("pdadmm", dict(nu=0.3, rho=0.7, theta_0=0.1, tau_0=0.01)),
    ("pdadmm", dict(nu=0.01, rho=0.02)),
]


@pytest.mark.parametrize("widths", [(6, 5, 7, 3), (11, 12, 4)], ids=str)  # systems of the inputs, and of the batch
@pytest.mark.parametrize("act", MONOTONE)
@pytest.mark.parametrize("name, hp", CASES, ids=str)
def test_the_oracle(name, hp, act, widths):
    x, y, W, b, batches = data(widths=widths)
    run = launch(name, x, y, [w[0] for w in W], [v[0] for v in b], batches, act, **hp)
    u, memory = run.variables(), {}
    settings = SimpleNamespace(**dataclasses.asdict(method(name).settings(hp)))
    for k in range(20):
        rows = slice(None) if run.method.full_batch else batches[k % len(batches)]
        ORACLES[name](u, memory, x[rows], y[rows], activation(act), settings)
        for key, value in run.step().variables().items():
            assert (value - u[key]).abs().max() <= 1e-9 * value.abs().max().clamp(min=1), (key, k)


@pytest.mark.parametrize("d", [5, 12])  # narrower, and wider, than the batch
def test_the_proximal_move_is_the_minimiser(d):
    generator = torch.Generator().manual_seed(0)
    a, e = (torch.randn(2, BATCH, n, generator=generator, dtype=torch.float64) for n in (d, 4))
    tau = torch.tensor([0.3, 5.0], dtype=torch.float64).view(-1, 1, 1)
    best = proximal_move(a, e, tau)
    square = lambda t: t.square().sum((1, 2))
    f = lambda D, c: square(a @ D.mT + c - e) / 2 + square(D) / (2 * tau.flatten())
    for i in range(50):
        noise = [10.0 ** (-3 + i % 4) * torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in best]
        assert (f(*(t + n for t, n in zip(best, noise))) > f(*best)).all()
