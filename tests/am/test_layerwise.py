"""The layer-wise methods: equal to their slow twins, and numbers that no neighbour changes."""

import pytest
import torch
import twins
from locoprop import LocoLayer, LocopropTrainer

import am
from am.activations import ACTIVATIONS
from am.methods import method
from am.methods.proxprop import proximal_move
from am.networks import initialise

ROWS, BATCH = 24, 8
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


# Numbers


@pytest.mark.parametrize("widths", [(50, 30, 20, 10), (33, 17, 9, 7)], ids=str)
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["dladmm", "bcd", "pdadmm"])
def test_a_run_is_bitwise_the_same_alone_and_in_a_stack(name, threads, widths):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, y, W, b, batches = data(512, widths, 3, torch.float32)
        together = launch(name, x, y, W, b, batches.view(-1, 128)).step(4)
        for r in range(3):
            alone = launch(name, x, y, [w[r : r + 1] for w in W], [v[r : r + 1] for v in b], batches.view(-1, 128))
            for key, value in alone.step(4).variables().items():
                assert torch.equal(value[0], together.variables()[key][r]), key
            if method(name).by_hand.objective:
                assert alone.objective()[0] == together.objective()[r]
            if not method(name).cost.flops:
                assert alone.state.flops[0] == together.state.flops[r]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["dladmm", "pdadmm"])
def test_a_neighbour_with_many_doublings_costs_a_run_nothing(name):
    x, y, W, b, batches = data(runs=2)
    calm = launch(name, x, y, W, b, batches, tau_0=[1e3, 1e3]).step(3).state.flops
    beside = launch(name, x, y, W, b, batches, tau_0=[1e3, 1e-9]).step(3).state.flops
    assert beside[0] == calm[0] and beside[1] > calm[1]


# The slow twins


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
def test_a_method_steps_as_its_slow_twin(name, hp, act, widths):
    x, y, W, b, batches = data(widths=widths)
    run = launch(name, x, y, [w[0] for w in W], [v[0] for v in b], batches, act, **hp)
    twin = twins.start(
        name, x, y, [w[0] for w in W], [v[0] for v in b], act, None if run.method.full_batch else batches, **hp
    )
    for k in range(20):
        shown, slow = run.step().variables(), twin.step().variables()
        assert set(shown) == set(slow)
        for key, value in shown.items():
            assert (value - slow[key]).abs().max() <= 1e-9 * value.abs().max().clamp(min=1), (key, k)
    if run.method.by_hand.objective:
        assert run.objective().item() == pytest.approx(twin.objective(), rel=1e-9)


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


@pytest.mark.parametrize("act, module", [("relu", torch.nn.ReLU()), ("softplus", torch.nn.Softplus(threshold=40.0))])
def test_the_matching_form_is_that_of_the_package_locoprop(act, module):
    """dvruette/locoprop-torch 0.1.0 without its correction of the next layer's input, and without momentum."""
    x, y, W, b, batches = data()
    hp = dict(learning_rate=3e-3, gamma=10.0, local_steps=5, decay=0.9, epsilon=1e-6)
    run = launch("locoprop", x, y, [w[0] for w in W], [v[0] for v in b], batches, act, loss="matching", **hp)
    layers = []
    for l, (w, v) in enumerate(zip(W, b), 1):
        linear = torch.nn.utils.skip_init(torch.nn.Linear, *reversed(w[0].shape), dtype=x.dtype)
        linear.load_state_dict(dict(weight=w[0], bias=v[0]))
        last = l == len(W)  # whose softmax belongs to the loss
        layers.append(LocoLayer(linear, torch.nn.Softmax(1) if last else module, implicit=last))
    optimizer = dict(lr=hp["learning_rate"], alpha=hp["decay"], eps=hp["epsilon"], momentum=0.0)
    trainer = LocopropTrainer(
        torch.nn.Sequential(*layers),
        torch.nn.functional.cross_entropy,
        optimizer_hparams=optimizer,
        learning_rate=hp["gamma"],
        local_iterations=hp["local_steps"],
        correction=0.0,
    )
    for k in range(20):
        rows = batches[k % len(batches)]
        trainer.step(x[rows], y[rows])
        shown = run.step().variables()
        for l, layer in enumerate(layers, 1):
            for key, theirs in ((f"W{l}", layer.module.weight), (f"b{l}", layer.module.bias)):
                assert (shown[key] - theirs.detach()).abs().max() <= 1e-10, (key, k)
