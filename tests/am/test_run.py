"""Driving a method by hand: what goes in, what can be read, and what is refused."""

import re

import pytest
import torch
from conftest import BATCH, ROWS, WIDTHS, tiny_data

import am
from am import start
from am.errors import InputError
from am.methods import methods
from am.networks import initialise

L = len(WIDTHS) - 1
BATCHES = torch.arange(ROWS).view(-1, BATCH)


def weights_and_biases(runs: int | None = None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of one network without a run axis, or of R."""
    params = initialise(WIDTHS, range(runs or 1), "normal(0.5)", torch.float64)
    if runs:
        return params.W, [b[:, 0] for b in params.b]
    return [W[0] for W in params.W], [b[0, 0] for b in params.b]


def driven(name: str, runs: int | None = None, **options):
    x, y = tiny_data()
    return start(name, x, y, *weights_and_biases(runs), **(batches_for(name) | options))


def batches_for(name: str) -> dict:
    """batches=, for those that need them."""
    return {} if name in methods() and methods()[name].full_batch else {"batches": BATCHES}


def test_one_network_is_shown_without_a_run_axis():
    run = driven("tiam").step(2)
    shown = run.variables()
    assert {"W1", "b1", "z1", "a1", f"W{L}", f"b{L}", f"z{L}"} <= set(shown) and f"a{L}" not in shown
    assert shown["W1"].shape == WIDTHS[1::-1] and shown["b1"].shape == (WIDTHS[1],)
    assert shown["z1"].shape == (ROWS, WIDTHS[1])
    assert run.objective().shape == () and run.iterations == 2


def test_many_networks_are_shown_with_one():
    run = driven("samt", runs=3, shape="row").step()
    shown = run.variables()
    assert shown["W1"].shape == (3, WIDTHS[1], WIDTHS[0]) and shown["b1"].shape == (3, WIDTHS[1])
    assert shown["alpha_W1"].shape == (3, WIDTHS[1], 1)
    assert driven("tiam", runs=3).objective().shape == (3,)


@pytest.mark.parametrize("name", ["sgd", "samt", "tiam"])
def test_a_network_alone_equals_itself_in_a_stack(name):
    together, (W, b) = driven(name, runs=3).step(6).variables(), weights_and_biases(3)
    for r in range(3):
        x, y = tiny_data()
        alone = start(name, x, y, [w[r] for w in W], [v[r] for v in b], **batches_for(name)).step(6).variables()
        for key, value in alone.items():
            if value.is_floating_point():
                assert (together[key][r] - value).abs().max() <= 1e-12 * value.abs().max(), key


def test_stepping_all_at_once_or_one_by_one_is_the_same():
    once, often = driven("samt").step(7), driven("samt")
    for _ in range(7):
        assert often.step() is often
    assert often.iterations == once.iterations == 7
    assert all(torch.equal(u, often.variables()[name]) for name, u in once.variables().items())


def test_what_is_given_is_left_alone_and_what_is_read_is_a_copy():
    x, y = tiny_data()
    W, b = weights_and_biases()
    before = [t.clone() for t in (x, *W, *b)]
    run = start("tiam", x, y, W, b).step(3)
    assert all(torch.equal(u, v) for u, v in zip((x, *W, *b), before))
    for value in run.variables().values():
        value.fill_(0)
    assert all(run.variables()[name].any() for name in ("W1", "b1", "z1", "a1"))


def test_a_list_gives_each_run_its_own_setting():
    W, b = weights_and_biases()
    x, y = tiny_data()
    stacked = [w.expand(2, -1, -1) for w in W], [v.expand(2, -1) for v in b]
    both = start("sgd", x, y, *stacked, batches=BATCHES, learning_rate=[0.1, 0.3]).step(5).variables()
    for r, rate in enumerate((0.1, 0.3)):
        alone = start("sgd", x, y, W, b, batches=BATCHES, learning_rate=rate).step(5).variables()
        assert (both["W1"][r] - alone["W1"]).abs().max() < 1e-14
    assert not torch.equal(both["W1"][0], both["W1"][1])


def test_the_dtype_is_that_of_the_data():
    x, y = tiny_data()
    run = start("adam", x.float(), y, *weights_and_biases(), batches=BATCHES).step()
    assert all(u.dtype == torch.float32 for u in run.variables().values())


def test_plain_lists_and_arrays_will_do():
    x, y = tiny_data()
    W, b = weights_and_biases()
    expected = start("sgd", x, y, W, b, batches=BATCHES).step(4).variables()
    found = start("sgd", x, y.numpy(), W, [v.numpy() for v in b], batches=BATCHES.tolist()).step(4).variables()
    assert all(torch.equal(u, found[name]) for name, u in expected.items())


def test_full_batch_methods_take_no_batches():
    assert torch.equal(driven("gd", batches=None).step(3).variables()["W1"], driven("gd").step(3).variables()["W1"])
    for name in (m.name for m in methods().values() if m.full_batch):
        assert "batches=" in refusal(lambda name=name: driven(name, batches=BATCHES)), name


def test_given_batches_come_round_again():
    run = driven("sgd", batches=BATCHES[:1]).step(2).variables()
    assert torch.equal(run["W1"], driven("sgd", batches=BATCHES[[0, 0]]).step(2).variables()["W1"])
    assert not torch.equal(run["W1"], driven("sgd", batches=BATCHES[:2]).step(2).variables()["W1"])


def test_the_package_offers_the_driver():
    assert am.start is start and am.Run is type(driven("gd"))


# Refusals: one sentence each


def refusal(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    sentence = str(error.value)
    assert re.fullmatch(r"[^\n]+[.?]", sentence), sentence
    return sentence


@pytest.mark.parametrize(
    "options, nearest",
    [
        (dict(name="tiamm"), "unknown method 'tiamm'; did you mean 'tiam'?"),
        (dict(name="tiam", activation="leakyrelu"), "unknown activation 'leakyrelu'; did you mean 'leaky_relu'?"),
        (dict(name="adam", beta_1=0.5), "adam: unknown hyper-parameter 'beta_1'; did you mean 'beta1'?"),
        (dict(name="samt", shape="rows"), "samt: shape: unknown value 'rows'; did you mean 'row'?"),
    ],
)
def test_an_unknown_word_is_told_the_nearest(options, nearest):
    assert refusal(lambda: driven(**options)) == nearest


def test_a_word_with_no_neighbour_is_told_them_all():
    assert all(name in refusal(lambda: driven("zzz")) for name in methods())


@pytest.mark.parametrize("name", ["tiam", "mdlam"])
@pytest.mark.parametrize("act", ["gelu", "silu"])
def test_an_activation_without_an_inverse_is_refused_where_one_is_needed(name, act):
    sentence = refusal(lambda: driven(name, activation=act))
    assert f"'{name}'" in sentence and f"'{act}'" in sentence and "relu" in sentence


def test_mini_batch_methods_need_batches():
    assert "batches=" in refusal(lambda: driven("sgd", batches=None))


def test_a_method_without_an_objective_says_so():
    assert "'sgd'" in refusal(driven("sgd").objective)


def test_settings_that_shape_the_program_are_equal_in_a_stack():
    assert "shape" in refusal(lambda: driven("samt", runs=2, shape=["row", "column"]))


def test_a_value_out_of_range_is_refused():
    assert "learning_rate must lie in [1e-12, inf]" in refusal(lambda: driven("sgd", learning_rate=-1.0))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x, y, W, b: (x[:, 1:], y, W, b), id="inputs of another width"),
        pytest.param(lambda x, y, W, b: (x, y, [W[0], W[2], W[1], W[3][:, :5]], b), id="layers that do not chain"),
        pytest.param(lambda x, y, W, b: (x, y, W, b[:-1]), id="a bias too few"),
        pytest.param(lambda x, y, W, b: (x, y, W[:-1], b), id="a weight too few"),
        pytest.param(lambda x, y, W, b: (x, y, W, [v[:-1] for v in b]), id="biases too short"),
        pytest.param(lambda x, y, W, b: (x, y[:-1], W, b), id="a label too few"),
        pytest.param(lambda x, y, W, b: (x, torch.cat([y, y[:1]]), W, b), id="a label too many"),
        pytest.param(lambda x, y, W, b: (x, y + 1, W, b), id="a label beyond the classes"),
        pytest.param(lambda x, y, W, b: (x, y - 1, W, b), id="a negative label"),
        pytest.param(lambda x, y, W, b: (x, y, [], []), id="no layer"),
    ],
)
@pytest.mark.parametrize("name", ["sgd", "tiam"])
def test_shapes_that_do_not_fit_are_refused(name, change):
    x, y = tiny_data()
    arguments = change(x, y, *weights_and_biases())
    refusal(lambda: start(name, *arguments, **batches_for(name)))


def test_stacks_of_different_heights_are_refused():
    x, y = tiny_data()
    (W, _), (_, b) = weights_and_biases(3), weights_and_biases(2)
    refusal(lambda: start("sgd", x, y, W, b, batches=BATCHES))
    refusal(lambda: start("sgd", x, y, [W[0][:2], *W[1:]], weights_and_biases(3)[1], batches=BATCHES))


@pytest.mark.parametrize("rates", [[0.1, 0.2], [0.1, 0.2, 0.3, 0.4], []])
def test_a_list_of_settings_of_another_length_is_refused(rates):
    assert "learning_rate" in refusal(lambda: driven("sgd", runs=3, learning_rate=rates))


@pytest.mark.parametrize("batches", [[[0, ROWS]], [[0, -1]], [[]], []])
def test_batches_of_rows_that_do_not_exist_are_refused(batches):
    assert "batches" in refusal(lambda: driven("sgd", batches=batches))
