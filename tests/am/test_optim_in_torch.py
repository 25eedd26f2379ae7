"""SAMT and SAM among torch's tools: saving, schedulers, AMP, normalisation, dropout, devices; and on other networks."""

import copy
import io
import re
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy

from am.errors import InputError
from am.optim import SAM, SAMT, blocks

ROOT = Path(__file__).parents[2]
QUERIES = ("next", "support", "last")


class Residual(nn.Module):
    """x + BatchNorm(convolution(x))."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + self.norm(self.conv(x))).relu()


def lenet5() -> nn.Module:
    features = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*features, nn.Flatten(), *head)


def small_cnn() -> nn.Module:
    features = [part for d, e in ((1, 4), (4, 8), (8, 8)) for part in (nn.Conv2d(d, e, 3, stride=2), nn.ReLU())]
    head = [nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)]
    return nn.Sequential(*features, nn.Flatten(), *head)


def resnet() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(stem, Residual(4), Residual(4), nn.Flatten(), nn.Dropout(0.2), nn.Linear(196, 10))


NETWORKS = {net.__name__: net for net in (lenet5, small_cnn, resnet)}


def batch(k: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(k)
    return torch.randn(20, 1, 28, 28, generator=generator), torch.arange(20) % 10


def made(build=resnet) -> nn.Module:
    torch.manual_seed(0)
    return build()


def loss_on(net: nn.Module, k: int = 0):
    x, y = batch(k)
    return lambda: cross_entropy(net(x), y)


def step(optimizer, net: nn.Module, k: int = 0, query: str = "support") -> torch.Tensor:
    return optimizer.step(loss_on(net, k), *([loss_on(net, k + 1)] if query == "next" else []))


def tensors(net: nn.Module, optimizer=None) -> list[torch.Tensor]:
    """Copies of all that training changes: parameters, buffers and what the optimizer keeps of them."""
    kept = [u for p in net.parameters() for u in optimizer.state[p].values()] if optimizer else []
    return [
        u.detach().clone() if isinstance(u, torch.Tensor) else torch.tensor(u)
        for u in (*net.state_dict().values(), *kept)
    ]


def same(us, vs) -> bool:
    return all(torch.equal(u, v) for u, v in zip(us, vs, strict=True))


# Networks


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("network", NETWORKS)
def test_samt_trains_convolutional_and_residual_networks(network, query):
    net = made(NETWORKS[network])
    optimizer = SAMT(net, alpha0=0.05, beta=0.01, query=query)
    losses = [
        step(optimizer, net, 0, query) if query != "next" else optimizer.step(loss_on(net), loss_on(net))
        for _ in range(5)
    ]
    assert all(after < before for before, after in zip(losses, losses[1:])), losses


def test_blocks_of_a_residual_network():
    net = made()
    groups = blocks(net, [net[0], net[1], net[2], net[5]])
    assert [len(group["params"]) for group in groups] == [4, 3, 3, 2]
    losses = [step(SAMT(groups, alpha0=0.05), net) for _ in range(3)]
    assert losses[2] < losses[0]


# Saving


@pytest.mark.parametrize("meta", ["log_adam", "gd"])
@pytest.mark.parametrize("query", QUERIES)
def test_a_run_saved_and_loaded_continues_bit_for_bit(query, meta):
    options = dict(shape="row", query=query, meta=meta, inner_steps=2)
    net, file = made(), io.BytesIO()
    optimizer = SAMT(net, alpha0=0.05, **options)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    for k in range(4):
        step(optimizer, net, k, query)
        schedule.step()
    torch.save((net.state_dict(), optimizer.state_dict(), schedule.state_dict(), torch.get_rng_state()), file)
    file.seek(0)
    net_state, state, schedule_state, random = torch.load(file, weights_only=True)
    other = resnet()
    other.load_state_dict(net_state)
    loaded = SAMT(other, alpha0=1.0, shape="scalar", query=query)  # its options are the saved ones
    other_schedule = torch.optim.lr_scheduler.StepLR(loaded, 2, gamma=0.5)
    loaded.load_state_dict(state)
    other_schedule.load_state_dict(schedule_state)
    for each, own, course in ((net, optimizer, schedule), (other, loaded, other_schedule)):
        torch.set_rng_state(random)
        for k in range(4, 8):
            step(own, each, k, query)
            course.step()
    assert same(tensors(net, optimizer), tensors(other, loaded))


def test_a_loaded_optimizer_shares_nothing_with_the_saved_one():
    net, other = made(), made()
    optimizer, loaded = SAMT(net), SAMT(other)
    step(optimizer, net)
    loaded.load_state_dict(optimizer.state_dict())
    before = tensors(net, optimizer)
    step(loaded, other)
    assert same(tensors(net, optimizer), before)
    assert all("modules" not in group for group in optimizer.state_dict()["param_groups"])
    assert [group["modules"] for group in loaded.param_groups] == [
        group["modules"] for group in SAMT(other).param_groups
    ]


def test_the_state_of_another_optimizer_is_refused():
    net = made()
    for optimizer, state in [
        (SAMT(net), SAM(net)),
        (SAM(net), SAMT(net)),
        (SAMT(net), torch.optim.SGD(net.parameters())),
    ]:
        with pytest.raises(InputError, match="the state is another optimizer's; its blocks lack 'alpha"):
            optimizer.load_state_dict(state.state_dict())


# Groups, gradients and schedules


def test_a_block_may_be_added():
    net = made(lenet5)
    net[0].requires_grad_(False)
    optimizer = SAMT(net)
    before = net[0].weight.clone()
    step(optimizer, net)
    assert torch.equal(net[0].weight, before)
    net[0].requires_grad_(True)
    optimizer.add_param_group(blocks(net[0])[0] | {"alpha0": 0.01})
    step(optimizer, net)
    assert not torch.equal(net[0].weight, before) and optimizer.param_groups[-1]["lr"] == 0.01
    with pytest.raises(InputError, match="parameter '5.0' is in two blocks"):
        optimizer.add_param_group({"params": net[0].weight})
    extra = nn.Linear(2, 2)
    with pytest.raises(InputError, match="parameter 'extra.bias' is in no block"):
        optimizer.add_param_group({"params": extra.weight, "modules": {"extra": extra}})
    optimizer.add_param_group({"params": extra.parameters()})
    assert optimizer.param_groups[-1]["param_names"] == ["5.0", "5.1"]


def test_gradients_of_others_are_left_alone_and_can_be_zeroed():
    net = made(lenet5)
    optimizer = SAMT(net)
    step(optimizer, net)
    assert all(p.grad is None for p in net.parameters())
    loss_on(net)().backward()
    before = [p.grad.clone() for p in net.parameters()]
    step(optimizer, net)
    assert same([p.grad for p in net.parameters()], before)
    optimizer.zero_grad(set_to_none=False)
    assert not any(p.grad.any() for p in net.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_parameter_that_the_loss_does_not_need_stays():
    net = made(lenet5)
    net.spare = nn.Linear(3, 3)
    x, y = batch()
    before = tensors(net.spare)
    optimizer = SAMT(net)
    for query_closure in (None, lambda: cross_entropy(net[:-1](x)[:, :10], y)):
        optimizer.step(lambda: cross_entropy(net[:-1](x), y), query_closure)
    assert same(tensors(net.spare), before) and not optimizer.state.get(net.spare.weight)


def test_a_schedule_multiplies_the_move_and_leaves_learning_alone():
    net, still, whole = made(lenet5), made(lenet5), made(lenet5)
    optimizer = SAMT(net, alpha0=0.05, beta=0.0, shape="element")
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)
    step(optimizer, net)
    step(SAMT(whole, alpha0=0.025, beta=0.0), whole)
    assert all(torch.allclose(u, v, atol=1e-7) for u, v in zip(net.parameters(), whole.parameters()))
    optimizer = SAMT(still, alpha0=0.05, shape="row")
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.0)
    before = tensors(still)
    step(optimizer, still)
    assert same(tensors(still), before) and optimizer.state[still[0].weight]["alpha"].min() > 0.05


def test_sam_with_a_schedule_is_sam_with_those_step_sizes():
    net, by_hand = made(lenet5), made(lenet5)
    optimizer = SAM(net, alpha=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for k in range(4):
        step(SAM(by_hand, alpha=schedule.get_last_lr()[0]), by_hand, k)
        step(optimizer, net, k)
        schedule.step()
    assert same(tensors(net), tensors(by_hand)) and schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-12)


# Mixed precision


@pytest.mark.parametrize("make", [SAM, SAMT])
def test_grad_scaler_is_refused_unless_it_is_off(make):
    net = made(lenet5)
    optimizer, scaler = make(net), torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    for words in ([], [loss_on(net)]):
        with pytest.raises(InputError, match=f"^{make.__name__} does not work with GradScaler[^\n]*$"):
            scaler.step(optimizer, *words)
    before = tensors(net)
    torch.amp.GradScaler("cpu", enabled=False).step(optimizer, loss_on(net))
    assert not same(tensors(net), before)


def test_autocast_around_a_step_sees_the_parameters_that_moved():
    net, other = made(lenet5), made(lenet5)
    cast = lambda: torch.autocast("cpu", torch.bfloat16)
    with cast():
        step(SAMT(net), net)

    def closure():
        with cast():
            return loss_on(other)()

    SAMT(other).step(closure)
    assert same(tensors(net), tensors(other))


# Normalisation and random numbers


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("norm", [dict(), dict(momentum=None), dict(affine=False)], ids=["usual", "average", "bare"])
def test_running_statistics_come_from_the_first_support_pass(norm, query):
    net = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6, **norm), nn.ReLU(), nn.Linear(6, 3), nn.BatchNorm1d(3, **norm)
    )
    x, y = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    optimizer = SAMT(net, inner_steps=2, query=query)
    closures = [lambda i=i: cross_entropy(net(x[i]), y) for i in range(2 if query == "next" else 1)]
    for k in range(3):
        once = copy.deepcopy(net)
        once(x[0])
        optimizer.step(*closures)
        assert same(net.buffers(), once.buffers()), k
    assert net[1].num_batches_tracked == 3 and net[1].running_mean.any()


def test_a_frozen_normalisation_is_counted_once_too():
    net = made()
    net[0][1].requires_grad_(False)
    step(SAMT(net), net)
    assert [m.num_batches_tracked.item() for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == [1, 1, 1]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("query", QUERIES)
def test_dropout_draws_alike_in_all_passes_of_a_step(query, device):
    net = nn.Sequential(nn.Linear(5, 40), nn.Dropout(), nn.Linear(40, 3)).to(device)
    x, y, masks = torch.ones(7, 5, device=device), torch.arange(7, device=device) % 3, []
    net[1].register_forward_hook(lambda m, inputs, out: masks.append(out != 0))
    closure, state = (
        lambda: cross_entropy(net(x), y),
        torch.get_rng_state if device == "cpu" else torch.cuda.get_rng_state,
    )
    torch.manual_seed(1)
    closure()
    after_one_pass, first = state(), masks.pop()
    torch.manual_seed(1)
    optimizer = SAMT(net, query=query, inner_steps=2)
    optimizer.step(closure, *([closure] if query == "next" else []))
    assert len(masks) > 3 and all(torch.equal(mask, first) for mask in masks)
    assert torch.equal(state(), after_one_pass)
    masks.clear()
    optimizer.step(closure, *([closure] if query == "next" else []))
    assert not torch.equal(masks[0], first)


def test_a_closure_that_fails_leaves_generators_and_buffers_as_one_pass_would():
    net, calls = made(), []
    x, y = batch()

    def closure():
        calls.append(0)
        if len(calls) == 3:
            raise KeyError("the data are gone")
        return cross_entropy(net(x), y)

    torch.manual_seed(1)
    with pytest.raises(KeyError):
        SAMT(net).step(closure)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    net(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert net[0][1].num_batches_tracked == 2


# Devices


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("meta", ["log_adam", "gd"])
def test_no_value_is_read_on_the_host(query, meta):
    """On the meta device a tensor has no value, and asking for one raises."""
    with torch.device("meta"):
        net, (x, y) = resnet(), (torch.empty(20, 1, 28, 28), torch.empty(20, dtype=torch.int64))
    optimizer = SAMT(net, query=query, meta=meta)
    closure = lambda: cross_entropy(net(x), y)
    for _ in range(3):
        loss = optimizer.step(closure, *([closure] if query == "next" else []))
    assert loss.is_meta and all(u["alpha"].is_meta for u in optimizer.state.values())
    with pytest.raises(RuntimeError):
        loss.item()


@pytest.mark.parametrize("query", QUERIES)
def test_no_operation_mixes_devices(query, monkeypatch):
    """On a fake CUDA device, whose gradients torch cannot compute, so that these are made up."""
    made_up = lambda loss, params, allow_unused: [torch.empty_like(p) for p in params]
    monkeypatch.setattr(torch.autograd, "grad", made_up)
    with FakeTensorMode(), torch.device("cuda"):
        net, (x, y) = resnet(), (torch.empty(20, 1, 28, 28), torch.empty(20, dtype=torch.int64))
        optimizer = SAMT(net, query=query)
        closure = lambda: cross_entropy(net(x), y)
        for _ in range(3):
            loss = optimizer.step(closure, *([closure] if query == "next" else []))
    assert loss.is_cuda and all(u["alpha"].is_cuda for u in optimizer.state.values())


@pytest.mark.gpu
@pytest.mark.parametrize("query", QUERIES)
def test_a_step_on_a_gpu_waits_for_nothing(query):
    net, (x, y) = made().cuda(), (t.cuda() for t in batch())
    optimizer = SAMT(net, query=query)
    closure = lambda: cross_entropy(net(x), y)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            optimizer.step(closure, *([closure] if query == "next" else []))
    finally:
        torch.cuda.set_sync_debug_mode("default")


# The example and the price


def test_the_example_trains_lenet_on_the_rows_at_hand(tmp_path, monkeypatch, capsys):
    """On 240 images in which a class is a bright row, found in a folder of prepared data."""
    x, y = np.zeros((300, 28, 28), np.uint8), np.arange(300) % 10
    x[np.arange(300), 4 + 2 * y] = 255
    np.savez(tmp_path / "mnist.npz", x_train=x[:240], y_train=y[:240], x_test=x[240:], y_test=y[240:])
    monkeypatch.setenv("AM_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["own_network.py", "216"])
    runpy.run_path(str(ROOT / "examples" / "own_network.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    first, second = (re.fullmatch(r"epoch \d: loss .* (\d\.\d+), test accuracy \d\.\d+", line) for line in lines)
    assert float(second[1]) < float(first[1]) < 2.4


def test_the_pages_loop_is_the_examples():
    page, example = (ROOT / path for path in ("docs/own-network.md", "examples/own_network.py"))
    loop = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert loop in example.read_text(encoding="utf-8") and len(loop.splitlines()) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("query", QUERIES)
def test_a_step_on_lenet_costs_its_passes(query, capsys):
    """A step beside the passes that its docstring counts, made by hand: the median of 20 pairs of each."""
    net, (x, y) = made(lenet5), batch()
    x, y = x.repeat(7, 1, 1, 1)[:128], y.repeat(7)[:128]
    optimizer = SAMT(net, alpha0=1e-3, query=query)
    closure = lambda: cross_entropy(net(x), y)
    sweep = [[p for p in group["params"]] for group in optimizer.param_groups]
    pairs = {
        "next": [block for block in sweep for _ in range(2)],
        "last": sweep,
        "support": [before + block for before, block in zip([[], *sweep], [*sweep, []])],
    }

    def passes() -> None:
        for block in pairs[query]:
            torch.autograd.grad(closure(), block)

    def seconds(work) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    whole = lambda: optimizer.step(closure, *([closure] if query == "next" else []))
    for work in (whole, passes):
        work()
    ratios = sorted(seconds(whole) / seconds(passes) for _ in range(20))
    with capsys.disabled():
        print(
            f"\nLeNet-5, batch 128, query {query}: a step costs {ratios[10]:.2f} times its {len(pairs[query])} passes"
        )
    assert ratios[10] < 1.3
