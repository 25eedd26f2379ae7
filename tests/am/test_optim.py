"""SAMT and SAM for any network: equal to the methods on an MLP, and what an optimizer of torch must do besides."""

import ast
import doctest
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import tiny_data
from torch import nn
from torch.nn.functional import cross_entropy

import am
import am.optim
from am.errors import InputError
from am.networks import initialise
from am.optim import SAM, SAMT, blocks

WIDTHS = (6, 8, 7, 3)
L = len(WIDTHS) - 1
BATCHES = torch.arange(24).view(3, 8)
SHAPES, METAS = ("scalar", "row", "column", "element"), ("gd", "log_adam")
QUERIES = ("next", "support", "last")


def mlp(weights, biases) -> nn.Sequential:
    """A network with ReLU and these weights (d_l, d_{l-1}) and biases (d_l,)."""
    layers = []
    for W, b in zip(weights, biases):
        layers += [nn.Linear(*reversed(W.shape), dtype=W.dtype), nn.ReLU()]
        layers[-2].load_state_dict(dict(weight=W, bias=b))
    return nn.Sequential(*layers[:-1])


def start(name: str, **settings):
    """A run of the method, the same network as a module, and its loss on mini-batch k."""
    x, y = tiny_data()
    params = initialise(WIDTHS, [0], "normal(0.5)", torch.float64)
    W, b = [w[0] for w in params.W], [v[0, 0] for v in params.b]
    net = mlp(W, b)
    run = am.start(name, x, y, W, b, batches=BATCHES, **settings)
    return run, net, lambda k: cross_entropy(net(x[BATCHES[k % 3]]), y[BATCHES[k % 3]])


def steps(optimizer, loss, ks, query: str = "support") -> None:
    for k in ks:
        optimizer.step(partial(loss, k), *([partial(loss, k + 1)] if query == "next" else []))


def parameters(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(us, vs) -> bool:
    return all(torch.equal(u, v) for u, v in zip(us, vs, strict=True))


# Equal to the methods


@pytest.mark.parametrize("query", ["next", "support"])
@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("meta", METAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_samt_equals_the_method_step_for_step(shape, meta, inner_steps, order, query):
    options = dict(alpha0=0.2, beta=0.05, shape=shape, meta=meta, inner_steps=inner_steps, order=order, query=query)
    run, net, loss = start("samt", **options)
    optimizer = SAMT(net, **options)
    for k in range(30):
        steps(optimizer, loss, [k], query)
        wanted = run.step().variables()
        for l, layer in enumerate((m for m in net if isinstance(m, nn.Linear)), 1):
            for name, p in ((f"W{l}", layer.weight), (f"b{l}", layer.bias)):
                assert (p - wanted[name]).abs().max() < 1e-10, (k, name)
                alpha = optimizer.state[p]["alpha"].reshape(wanted[f"alpha_{name}"].shape)
                assert (alpha - wanted[f"alpha_{name}"]).abs().max() < 1e-10, (k, name)
    assert any((wanted[f"alpha_W{l}"] - 0.2).abs().max() > 1e-3 for l in range(1, L + 1))


@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_sam_equals_the_method_step_for_step(inner_steps, order):
    options = dict(alpha=0.2, inner_steps=inner_steps, order=order)
    run, net, loss = start("sam", **options)
    optimizer = SAM(net, **options)
    for k in range(30):
        steps(optimizer, loss, [k])
        wanted = run.step().variables()
        assert all((net[2 * l].weight - wanted[f"W{l + 1}"]).abs().max() < 1e-10 for l in range(L)), k


class Flat(nn.Module):
    """A network whose weights and biases are one parameter."""

    def __init__(self, net: nn.Sequential):
        super().__init__()
        self.flat = nn.Parameter(nn.utils.parameters_to_vector(net.parameters()).detach().clone())
        self.shapes = [p.shape for p in net.parameters()]

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        parts = self.flat.split([s.numel() for s in self.shapes])
        tensors = [part.view(s) for part, s in zip(parts, self.shapes)]
        for l, (W, b) in enumerate(zip(tensors[::2], tensors[1::2])):
            a = (a.relu() if l else a) @ W.T + b
        return a


def test_one_block_with_the_last_query_is_sgd_hd():
    run, net, _ = start("sgd-hd", alpha0=0.1, beta=0.01)
    flat, (x, y) = Flat(net), tiny_data()
    optimizer = SAMT(flat, alpha0=0.1, beta=0.01, shape="scalar", query="last", meta="gd")
    for k in range(30):
        steps(optimizer, lambda k: cross_entropy(flat(x[BATCHES[k % 3]]), y[BATCHES[k % 3]]), [k])
        wanted = run.step().variables()
        whole = torch.cat([wanted[name].flatten() for l in range(1, L + 1) for name in (f"W{l}", f"b{l}")])
        assert (flat.flat - whole).abs().max() < 1e-10, k
        assert (optimizer.state[flat.flat]["alpha"] - wanted["alpha"]).abs().max() < 1e-10, k
    assert (wanted["alpha"] - 0.1).abs() > 1e-3


@pytest.mark.parametrize("meta", METAS)
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_the_last_query_is_a_blocks_first_gradient_in_the_next_step(inner_steps, meta):
    _, net, loss = start("samt")
    _, slow, slow_loss = start("samt")
    optimizer = SAMT(net, alpha0=0.2, beta=0.05, shape="row", inner_steps=inner_steps, query="last", meta=meta)
    steps(optimizer, loss, range(10))
    alpha = {p: p.new_full((len(p), 1) if p.dim() > 1 else (1,), 0.2) for p in slow.parameters()}
    total = {}
    m, v = ({p: torch.zeros_like(a) for p, a in alpha.items()} for _ in range(2))
    for k in range(10):
        for layer in (slow[0], slow[2], slow[4]):
            for t in range(inner_steps):
                block = [layer.weight, layer.bias]
                for p, g in zip(block, torch.autograd.grad(slow_loss(k), block)):
                    if t == 0 and k > 0:
                        H = -(total[p] * g).sum(1, keepdim=True) if p.dim() > 1 else -(total[p] * g).sum(0, True)
                        if meta == "gd":
                            alpha[p] = alpha[p] - 0.05 * H
                        else:
                            m[p], v[p] = 0.9 * m[p] + 0.1 * alpha[p] * H, 0.999 * v[p] + 0.001 * (alpha[p] * H) ** 2
                            direction = m[p] / (1 - 0.9**k) / ((v[p] / (1 - 0.999**k)).sqrt() + 1e-12)
                            alpha[p] = alpha[p] * torch.exp(-0.05 * direction)
                    total[p] = g if t == 0 else total[p] + g
                    p.data -= alpha[p] * g
    for p, wanted in zip(net.parameters(), slow.parameters()):
        assert (p - wanted).abs().max() < 1e-10 and (optimizer.state[p]["alpha"] - alpha[wanted]).abs().max() < 1e-10


def test_auto_learns_on_the_query_batch_where_there_is_one():
    for query in ("next", "support"):
        _, net, loss = start("samt")
        _, other, other_loss = start("samt")
        steps(SAMT(net), loss, range(3), query)
        steps(SAMT(other, query=query), other_loss, range(3), query)
        assert same(net.parameters(), other.parameters())


# What a step costs


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("query", QUERIES)
def test_a_step_takes_the_passes_that_the_docstring_counts(query, inner_steps):
    _, net, loss = start("samt")
    calls = []
    counted = lambda k: calls.append(k) or loss(k)
    steps(SAMT(net, query=query, inner_steps=inner_steps), counted, [0], query)
    T = inner_steps
    assert len(calls) == {"next": L * (T + 1), "support": L * T + 1, "last": L * T}[query]
    assert calls.count(1) == (L if query == "next" else 0)
    calls.clear()
    steps(SAM(net, inner_steps=inner_steps), counted, [0])
    assert calls == [0] * L * T


def test_a_pass_goes_back_as_far_as_the_block_and_computes_its_gradients_alone():
    _, net, loss = start("samt")
    passes, reached, computed = [], [], []
    for l in range(L):
        net[2 * l].register_forward_hook(lambda m, _, z, l=l: z.register_hook(lambda g: reached.append(l)) and None)
        net[2 * l].weight.register_hook(lambda g, l=l: computed.append(l))

    def counted(k):
        passes.append((sorted(reached), sorted(computed)))
        reached.clear(), computed.clear()
        return loss(k)

    steps(SAM(net), counted, [0])
    passes.append((sorted(reached), sorted(computed)))
    assert passes[1:] == [([0, 1, 2], [0]), ([1, 2], [1]), ([2], [2])]


# Blocks


class Tied(nn.Module):
    """An output layer with the weights of the first, and a frozen one between."""

    def __init__(self):
        super().__init__()
        self.first, self.frozen, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.last.weight = self.first.weight
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.frozen(self.first(x)))


class Scaled(nn.Module):
    """A parameter beside a layer."""

    def __init__(self):
        super().__init__()
        self.inner, self.scale = nn.Linear(5, 5), nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.inner(x)


def named(groups) -> list[list[str]]:
    return [[name for name, _ in group["params"]] for group in groups]


def test_a_block_is_a_leaf_module_with_the_normalisation_after_it():
    net = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4, bias=False), nn.GroupNorm(2, 4), nn.ReLU(), nn.Linear(4, 2))
    assert named(blocks(net)) == [["0.weight", "0.bias"], ["1.weight", "2.weight", "2.bias"], ["4.weight", "4.bias"]]
    nested = nn.ModuleDict(dict(a=nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), b=nn.Linear(3, 1)))
    assert named(blocks(nested)) == [["a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias"], ["b.weight", "b.bias"]]
    net[1].requires_grad_(False)  # and the normalisation after it is a block of its own
    assert named(blocks(net)) == [["0.weight", "0.bias"], ["2.weight", "2.bias"], ["4.weight", "4.bias"]]


def test_shared_parameters_are_the_first_blocks_and_frozen_ones_are_nobodys():
    net = Tied()
    assert named(blocks(net)) == [["first.weight", "first.bias"], ["last.bias"]]
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    SAMT(net).step(lambda: net(torch.ones(2, 5)).square().mean())
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"first.weight", "first.bias", "last.bias"}


def test_a_parameter_frozen_after_the_optimizer_was_made_stays():
    _, net, loss = start("samt")
    optimizer = SAMT(net)
    net[2].requires_grad_(False)
    before = parameters(net)
    steps(optimizer, loss, [0])
    assert same(parameters(net)[2:4], before[2:4]) and not same(parameters(net)[:2], before[:2])
    net.requires_grad_(False)
    with pytest.raises(InputError, match="SAMT: every parameter is frozen"):
        steps(optimizer, loss, [1])


def test_blocks_may_be_given_as_modules():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), Scaled(), nn.Linear(5, 2))
    groups = blocks(net, [[net[3], net[0]], net[1], net[2]])
    assert named(groups)[0] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert named(groups)[1:] == [["1.0.weight", "1.0.bias"], ["2.scale", "2.inner.weight", "2.inner.bias"]]
    assert [group["params"][0].shape for group in SAMT(groups).param_groups] == [(4, 4), (4, 4), ()]


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda net: SAMT(Scaled()), "parameter 'scale' is in no block; name the Scaled that owns it"),
        (lambda net: blocks(net, [net[0], net[2]]), "parameter '4.weight' is in no block; name the Linear"),
        (lambda net: blocks(net, [net, net[2]]), "parameter '2.weight' is in two blocks, 0 and 1"),
        (lambda net: blocks(net, [net, nn.ReLU()]), "block 1 names a ReLU that is no module of the model"),
        (lambda net: blocks(net.requires_grad_(False)), "the model has no trainable parameter"),
        (lambda net: SAMT(net.parameters()), r"give SAMT\(model\) or SAMT\(blocks\(model\)\)"),
        (lambda net: SAMT(2 * blocks(net)), "parameter '0.weight' is in two blocks"),
        (lambda net: SAMT([blocks(net)[0] | {"params": [net[0].weight]}]), "parameter '0.bias' is in no block"),
        (lambda net: SAMT(net.half()), "parameter '0.weight' must be float32 or float64, not torch.float16"),
        (lambda net: SAMT(net, shape="rows"), "SAMT: unknown shape 'rows'; did you mean 'row'?"),
        (lambda net: SAMT(net, order="back"), "did you mean 'backward'?"),
        (lambda net: SAMT(net, query="nxt"), "did you mean 'next'?"),
        (lambda net: SAMT(net, meta="adam"), "did you mean 'log_adam'?"),
        (lambda net: SAMT(net, alpha0=11), r"alpha0 must be a number in \[1e-06, 10\], not 11"),
        (lambda net: SAMT(net, beta=-1.0), "beta must be a number in"),
        (lambda net: SAMT(net, beta=float("nan")), "beta must be a number in"),
        (lambda net: SAM(net, alpha=0), "SAM: alpha must be a number in"),
        (lambda net: SAMT(net, inner_steps=0), "inner_steps must be a whole number from 1 on, not 0"),
        (lambda net: SAMT([blocks(net)[0] | {"alpha": 0.1}]), "unknown option 'alpha'; did you mean 'alpha0'?"),
        (lambda net: SAMT([*blocks(net)[:2], blocks(net)[2] | {"order": "backward"}]), "order is one for all blocks"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        call(start("samt")[1])
    assert "\n" not in str(error.value)


def test_data_parallel_processes_are_refused():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(InputError, match="DistributedDataParallel averages gradients in backward"):
            SAMT(nn.parallel.DistributedDataParallel(start("samt")[1]))
    finally:
        torch.distributed.destroy_process_group()


def test_a_module_that_owns_parameters_beside_modules_is_placed_by_hand():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    with pytest.raises(InputError, match="parameter 'self_attn.in_proj_weight' is in no block; name the Multihead"):
        SAMT(layer)
    groups = blocks(layer, [[layer.self_attn, layer.norm1], layer.linear1, [layer.linear2, layer.norm2]])
    assert [len(group["params"]) for group in groups] == [6, 2, 4]
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    optimizer, closure = SAMT(groups), lambda: layer(x)[..., 0].square().mean()
    losses = [optimizer.step(closure) for _ in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[3] < losses[0]


def test_options_of_one_block():
    _, net, loss = start("samt")
    first, *rest = blocks(net)
    optimizer = SAMT([first | dict(alpha0=0.5, shape="element", inner_steps=2), *rest], beta=0.0, shape="scalar")
    steps(optimizer, loss, [0])
    alphas = [optimizer.state[p]["alpha"] for p in net.parameters()]
    assert alphas[0].shape == (8, 6) and alphas[2].shape == (1, 1)
    assert (alphas[0] == 0.5).all() and (alphas[2] == 0.1).all()


CONVOLUTIONS = [
    (nn.Conv2d(4, 6, 3), {"row": (6, 1, 1, 1), "column": (1, 4, 1, 1), "element": (6, 4, 3, 3)}),
    (nn.Conv2d(4, 6, 3, groups=2), {"row": (6, 1, 1, 1), "column": (1, 2, 1, 1)}),
    (nn.ConvTranspose2d(4, 6, 3), {"row": (1, 6, 1, 1), "column": (4, 1, 1, 1), "scalar": (1, 1, 1, 1)}),
    (nn.Conv1d(4, 6, 3), {"row": (6, 1, 1), "column": (1, 4, 1)}),
]


@pytest.mark.parametrize("layer, shapes", CONVOLUTIONS, ids=["conv", "grouped", "transposed", "1d"])
def test_step_sizes_of_a_convolution_are_its_channels(layer, shapes):
    x = torch.randn(5, 4, *[7] * (layer.weight.dim() - 2), generator=torch.Generator().manual_seed(0))
    closure = lambda: layer(x).square().mean()
    for shape, wanted in shapes.items():
        optimizer = SAMT(layer, alpha0=0.01, beta=1e-3, shape=shape, query="support", meta="gd")
        g = torch.autograd.grad(closure(), layer.weight)[0]
        optimizer.step(closure)
        q = torch.autograd.grad(closure(), layer.weight)[0]
        alpha, own = optimizer.state[layer.weight]["alpha"], [i for i, n in enumerate(wanted) if n == 1]
        assert alpha.shape == wanted
        H = (g * q).sum(own, keepdim=True) if own else g * q
        assert torch.allclose(alpha, 0.01 + 1e-3 * H, rtol=1e-5)
        assert optimizer.state[layer.bias]["alpha"].shape == (1,)


# Closures


def backward(loss: torch.Tensor) -> torch.Tensor:
    loss.backward()
    return loss


@pytest.mark.parametrize(
    "closure, sentence",
    [
        (None, "SAMT.step needs a closure that returns the loss"),
        (lambda net, loss: loss(0).item(), "as a tensor of one number, not a float"),
        (
            lambda net, loss: net(torch.ones(2, 6).double()),
            r"as a tensor of one number, not a tensor of shape \(2, 3\)",
        ),
        (lambda net, loss: loss(0).detach(), "depends on no trainable parameter"),
        (lambda net, loss: backward(loss(0)), "must return the loss and not call backward"),
    ],
)
def test_a_closure_that_does_otherwise_is_told_so(closure, sentence):
    _, net, loss = start("samt")
    with pytest.raises(InputError, match=sentence) as error:
        SAMT(net).step(closure and (lambda: closure(net, loss)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("query, given", [("next", False), ("support", True), ("last", True)])
def test_a_query_closure_that_does_not_go_with_the_query_is_refused(query, given):
    _, net, loss = start("samt")
    with pytest.raises(InputError, match=f"query = '{query}' (needs a|takes no) query_closure in step"):
        SAMT(net, query=query).step(lambda: loss(0), (lambda: loss(1)) if given else None)


def test_sparse_gradients_are_refused():
    table = nn.Embedding(5, 3, sparse=True)
    with pytest.raises(InputError, match="a gradient is sparse; make its layer with sparse=False"):
        SAM(table).step(lambda: table(torch.tensor([1])).sum())


# The module


def test_the_module_needs_torch_alone_and_the_module_lane_alone_needs_it():
    own = Path(am.optim.__file__)
    nodes = list(ast.walk(ast.parse(own.read_text(encoding="utf-8"))))
    named = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in named if name.split(".")[0] not in sys.stdlib_module_names} == {"torch", "am.errors"}
    imports = re.compile(r"^\s*(from am\.optim |import am\.optim|from am import .*\boptim\b)", re.MULTILINE)
    others = {path.parent.name for path in own.parent.rglob("*.py") if imports.search(path.read_text(encoding="utf-8"))}
    assert others == {"modules"}


def test_the_examples_of_the_docstrings_run():
    failed, tried = doctest.testmod(am.optim)
    assert tried and not failed
