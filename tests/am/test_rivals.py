"""The rivals of SPEC 10 step beside their authors' references, and where there is none beside slow twins, in float64.

On three problems: a linear softmax layer, a small multilayer perceptron, and a random quadratic for each run, whose
gradient takes the place of back-propagation's.
"""

import functools

import prodigyopt.prodigy_reference
import pytest
import pytorch_optimizer
import schedulefree.adamw_schedulefree_reference as schedulefree_reference
import torch
import torch.nn.functional as F
import twins
from conftest import BATCH, ROWS, largest_difference, launch, spread, tiny_data
from test_gradient_methods import STEPS, cosine

import am
from am import descent
from am.counters import flops_of
from am.errors import InputError
from am.methods import method, muon, osgm, soap
from am.networks import initialise, view_layers

AGREEMENT = 1e-10
RIVALS = ("nadamw", "schedule-free-adamw", "prodigy", "muon", "soap", "sgd-hd", "osgm")
SCHEDULED = tuple(name for name in RIVALS if name != "schedule-free-adamw")
PROBLEMS = ("linear", "network", "quadratic")
# SOAP's bases are unique only where its means have at the most one null vector: on square matrices.
SQUARE = dict(linear=(4, 4), network=(4, 4, 4, 4), quadratic=(5, 4, 3))
OTHERS = dict(linear=(6, 3), network=(6, 8, 8, 3), quadratic=(5, 4, 3))
# Settings of three runs of a stack.
VARIANTS = {
    "nadamw": [{}, dict(learning_rate=0.02, weight_decay=0.3, beta1=0.5), dict(momentum_decay=0.1, epsilon=1e-3)],
    "schedule-free-adamw": [
        dict(warmup_steps=0.0),
        dict(learning_rate=0.03, weight_decay=0.3, warmup_steps=7.0),
        dict(beta1=0.5, beta2=0.9, epsilon=1e-3, weight_decay=0.0),
    ],
    "prodigy": [{}, dict(d_0=1e-3, d_coef=3.0, weight_decay=0.3), dict(learning_rate=0.5, beta1=0.5, beta2=0.9)],
    "muon": [{}, dict(learning_rate=0.1, weight_decay=0.3, momentum=0.5), dict(adam_rate=0.03, beta2=0.999, beta1=0.5)],
    # Its bases make exact zeros of a gradient that repeats; 1e-17 of rounding over the default 1e-8 would show.
    "soap": [
        dict(epsilon=1e-4),
        dict(epsilon=1e-4, learning_rate=0.02, weight_decay=0.3, beta1=0.5),
        dict(epsilon=1e-3, shampoo_decay=0.8, beta2=0.9),
    ],
    "sgd-hd": [{}, dict(alpha0=0.5, beta=0.03), dict(beta=0.0)],
    "osgm": [{}, dict(learning_rate=0.3, p_0=0.2), dict(p_0=2.0, epsilon=1e-3)],
}


@pytest.fixture(autouse=True)
def double():
    """References keep scalars in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class Beside:
    """Three stacked runs of a rival on one of the problems, and the loss that one of them descends."""

    def __init__(self, name: str, problem: str, monkeypatch: pytest.MonkeyPatch, **shared):
        widths = (SQUARE if name == "soap" else OTHERS)[problem]
        self.name, self.widths, self.shared, self.quadratic = name, widths, shared, problem == "quadratic"
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(ROWS, widths[0], generator=generator)
        self.y = torch.arange(ROWS) % widths[-1]
        self.batches = torch.randperm(ROWS, generator=generator).view(-1, BATCH)
        self.params = initialise(widths, range(3), "normal(0.5)", torch.float64)
        P = self.params.flattened().flat.shape[2]
        Q = torch.linalg.qr(torch.randn(3, P, P, generator=generator))[0]
        self.A = Q * torch.logspace(-2, 0.5, P) @ Q.mT  # (3, P, P)
        self.centre = torch.randn(3, P, generator=generator)
        keys = sorted({key for values in VARIANTS[name] for key in values})
        self.settings = [method(name).settings(values | shared) for values in VARIANTS[name]]
        hyper = {key: [getattr(s, key) for s in self.settings] for key in keys} | shared
        b = [b[:, 0] for b in self.params.b]
        self.run = am.start(name, self.x, self.y, self.params.W, b, "elu", self.batches, steps=STEPS, **hyper)
        if self.quadratic:
            for module in (descent, soap, osgm):
                monkeypatch.setattr(module, "backpropagate", self.descend)
            monkeypatch.setattr(osgm, "cross_entropy", lambda value, y: value)

    def descend(self, x, y, params, act, out) -> torch.Tensor:
        """Stands for `backpropagate`: the gradients of all runs' quadratics, and their values."""
        away = params.flat[:, 0] - self.centre
        out.flat[:, 0] = (self.A @ away[:, :, None])[:, :, 0]
        return (away * out.flat[:, 0]).sum(1) / 2

    def start(self, r: int) -> list[torch.Tensor]:
        """W1, b1, W2, ... of run r before the first step."""
        return [t[r].clone() for pair in zip(self.params.W, (b[:, 0] for b in self.params.b)) for t in pair]

    def loss(self, r: int, tensors: list[torch.Tensor], k: int) -> torch.Tensor:
        if self.quadratic:
            away = torch.cat([t.flatten() for t in tensors]) - self.centre[r]
            return away @ self.A[r] @ away / 2
        rows = self.batches[k % len(self.batches)]
        a = self.x[rows]
        for W, b in zip(tensors[::2], tensors[1::2]):
            z = F.linear(a, W, b)
            a = F.elu(z)
        return F.cross_entropy(z, self.y[rows])

    def twin(self, r: int) -> twins.Slow:
        """Run r as `twins` makes it."""
        first, batches = self.start(r), self.batches
        hyper = VARIANTS[self.name][r] | self.shared
        slow = twins.start(self.name, self.x, self.y, first[::2], first[1::2], "elu", batches, STEPS, **hyper)
        if self.quadratic:
            at = lambda u: [(slow.u | (u or {}))[name].detach().requires_grad_() for name in slow.trained]
            slow.loss = lambda x, y, u=None: self.loss(r, at(u), 0)

            def gradient(names, x, y, u=None):
                leaves = at(u)
                return dict(zip(names, torch.autograd.grad(self.loss(r, leaves, 0), leaves), strict=True))

            slow.gradient = gradient
        return slow

    def worst(self, build, read=lambda optimisers, p: p.detach()) -> float:
        """The largest difference to optimisers that `build(parameters, settings)` makes for each run, step by step."""
        alone = []
        for r, settings in enumerate(self.settings):
            parameters = [t.requires_grad_() for t in self.start(r)]
            alone.append((parameters, build(parameters, settings)))
        largest = 0.0
        for k in range(STEPS):
            shown = self.run.step().variables()
            for r, (parameters, steppers) in enumerate(alone):
                for p in parameters:
                    p.grad = None
                self.loss(r, parameters, k).backward()
                for stepper in steppers:
                    stepper.step()
                for i, p in enumerate(parameters):
                    found = shown[f"{'Wb'[i % 2]}{i // 2 + 1}"][r]
                    largest = max(largest, largest_difference(found, read(steppers, p)))
        assert all(
            (shown["W1"][r] - self.params.W[0][r]).abs().max() > 1e-4 for r in range(3) if self.name != "prodigy"
        )
        return largest


# Beside the authors' references


def nadamw_reference(parameters, s):
    arguments = dict(lr=s.learning_rate, betas=(s.beta1, s.beta2), eps=s.epsilon, weight_decay=s.weight_decay)
    return [
        torch.optim.NAdam(parameters, momentum_decay=s.momentum_decay, decoupled_weight_decay=True, **arguments),
    ]


def schedule_free_reference(parameters, s):
    optimiser = schedulefree_reference.AdamWScheduleFreeReference(
        parameters,
        lr=s.learning_rate,
        betas=(s.beta1, s.beta2),
        eps=s.epsilon,
        weight_decay=s.weight_decay,
        warmup_steps=s.warmup_steps,
    )
    optimiser.train()
    return [optimiser]


def prodigy_reference(parameters, s):
    arguments = dict(lr=s.learning_rate, betas=(s.beta1, s.beta2), eps=s.epsilon, weight_decay=s.weight_decay)
    return [prodigyopt.prodigy_reference.ProdigyReference(parameters, d0=s.d_0, d_coef=s.d_coef, **arguments)]


def muon_reference(parameters, s):
    """torch's two optimisers, as its documentation has them share a network."""
    hidden = parameters[:-2:2]
    others = [*parameters[1::2], parameters[-2]]
    adam = dict(lr=s.adam_rate, betas=(s.beta1, s.beta2), eps=s.epsilon)
    made = [torch.optim.AdamW(others, weight_decay=s.weight_decay, **adam)]
    if hidden:
        made.append(torch.optim.Muon(hidden, lr=s.learning_rate, weight_decay=s.weight_decay, momentum=s.momentum))
    return made


def soap_reference(parameters, s):
    return [
        pytorch_optimizer.SOAP(
            parameters,
            lr=s.learning_rate,
            betas=(s.beta1, s.beta2),
            eps=s.epsilon,
            weight_decay=s.weight_decay,
            shampoo_beta=s.shampoo_decay,
            precondition_frequency=s.interval,
            max_precondition_dim=s.largest_side,
        )
    ]


REFERENCES = {
    "nadamw": nadamw_reference,
    "schedule-free-adamw": schedule_free_reference,
    "prodigy": prodigy_reference,
    "muon": muon_reference,
    "soap": soap_reference,
}


def average(steppers, p):
    """x of schedule-free: what its `eval` would show."""
    return steppers[0].state[p]["x"]


def exact_newton_schulz(grad, coefficients, steps, eps):
    """In place of torch's, which works in bfloat16."""
    assert (coefficients, steps, eps) == (muon.NEWTON_SCHULZ, muon.STEPS, muon.LEAST_NORM)
    return muon.orthogonalised(grad[None])[0]


def beside(name, problem, monkeypatch, **shared) -> Beside:
    if name == "muon":
        monkeypatch.setattr(torch.optim._muon, "_zeropower_via_newtonschulz", exact_newton_schulz)
    if name == "soap":
        shared |= dict(interval=STEPS + 1)  # its QR is in float32: see below
    return Beside(name, problem, monkeypatch, **shared)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", REFERENCES)
def test_a_rival_steps_as_its_reference(name, problem, monkeypatch, record_property):
    read = {"read": average} if name == "schedule-free-adamw" else {}
    worst = beside(name, problem, monkeypatch).worst(REFERENCES[name], **read)
    record_property("worst", worst)
    assert worst <= AGREEMENT


@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize("name", [name for name in REFERENCES if name in SCHEDULED])
def test_a_cosine_schedule_steps_as_the_reference_under_lambda_lr(name, warmup, monkeypatch):
    def scheduled(parameters, s):
        optimisers = REFERENCES[name](parameters, s)
        course = functools.partial(cosine, warmup)
        return [*optimisers, *(torch.optim.lr_scheduler.LambdaLR(o, course) for o in optimisers)]

    pair = beside(name, "network", monkeypatch, schedule="cosine", warmup=warmup)
    assert pair.worst(scheduled) <= AGREEMENT


@pytest.mark.parametrize("problem", PROBLEMS)
def test_soap_leaves_pytorch_optimizer_where_that_rounds_its_qr_to_float32(problem, monkeypatch):
    pair = Beside("soap", problem, monkeypatch, interval=5)
    assert AGREEMENT < pair.worst(soap_reference) <= 1e-3


def test_torchs_muon_in_bfloat16_is_near(monkeypatch):
    assert AGREEMENT < Beside("muon", "network", monkeypatch).worst(muon_reference) <= 0.05


# Beside the slow twins, which write the equations out


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", ["soap", "sgd-hd", "osgm"])
def test_a_rival_steps_as_its_slow_twin(name, problem, schedule, monkeypatch, record_property):
    shared = dict(schedule=schedule, warmup=0.3) | (dict(interval=4) if name == "soap" else {})
    pair, worst = Beside(name, problem, monkeypatch, **shared), 0.0
    slow = [pair.twin(r) for r in range(3)]
    for _ in range(STEPS):
        shown = pair.run.step().variables()
        for r, run in enumerate(slow):
            run.step()
            for name_, u in run.variables().items():
                if name_ != "a0":
                    worst = max(worst, largest_difference(shown[name_][r].view(u.shape), u))
    record_property("worst", worst)
    assert worst <= AGREEMENT


@pytest.mark.parametrize("side", [0, 3, 4])
def test_soap_leaves_wide_sides_alone_as_its_twin(side, monkeypatch):
    """Sides of W: 4 x 5 and 3 x 4."""
    pair = Beside("soap", "quadratic", monkeypatch, interval=3, largest_side=side)
    turned = [[one is not None for one in sides] for sides in pair.run.state.sides]
    assert turned == [[side >= 4, False], [side >= 3, side >= 4]]
    slow = [pair.twin(r) for r in range(3)]
    shown = pair.run.step(STEPS).variables()
    for r, run in enumerate(slow):
        u = run.step(STEPS).u
        assert all(largest_difference(shown[name][r], u[name]) <= AGREEMENT for name in run.trained)


# Each by what it promises


def test_newton_schulz_turns_singular_values_and_nothing_else():
    a, b, c = muon.NEWTON_SCHULZ
    for shape in ((5, 9), (9, 5), (6, 6)):
        U = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
        left, s, right = torch.linalg.svd(U, full_matrices=False)
        s = s / s.square().sum(1, keepdim=True).sqrt()
        for _ in range(5):
            s = a * s + b * s**3 + c * s**5
        assert largest_difference(muon.orthogonalised(U), left * s[:, None, :] @ right) < 1e-12
        assert s.min() > 0.3 and s.max() < 1.3
    assert not muon.orthogonalised(torch.zeros(2, 3, 4)).any()


def test_x_of_schedule_free_is_the_mean_of_z_once_the_rate_is_constant(monkeypatch):
    pair = Beside("schedule-free-adamw", "network", monkeypatch)
    z = []
    for _ in range(STEPS):
        pair.run.step()
        z.append(pair.run.state.memory["z"][0, 0].clone())
    x, y = pair.run.state.memory["x"].flat[0, 0], pair.run.state.params.flat[0, 0]
    assert largest_difference(x, torch.stack(z).mean(0)) < 1e-12
    assert largest_difference(y, 0.1 * z[-1] + 0.9 * x) < 1e-12
    assert torch.equal(pair.run.variables()["W1"][0].flatten(), x[: pair.params.W[0][0].numel()])


def test_a_variable_of_schedule_free_that_is_set_moves_all_three_sequences(monkeypatch):
    pair = Beside("schedule-free-adamw", "network", monkeypatch)
    W = torch.ones_like(pair.params.W[1])
    z = pair.run.step(3).state.memory["z"].clone()
    pair.run.set_variables(W2=W)
    layers = pair.run.state.memory["x"], pair.run.state.params, view_layers(pair.run.state.memory["z"], pair.widths)
    assert all(torch.equal(p.W[1], W) for p in layers)
    assert torch.equal(layers[2].W[0], view_layers(z, pair.widths).W[0])


def test_prodigys_d_never_falls_and_belongs_to_a_run(monkeypatch):
    pair, d = Beside("prodigy", "network", monkeypatch), []
    for _ in range(3 * STEPS):
        d.append(pair.run.step().variables()["d"].flatten())
    d = torch.stack(d)
    assert (d.diff(dim=0) >= 0).all() and (d[-1] > 10 * d[0]).all() and d[-1].unique().numel() == 3


def test_sgd_hd_is_samt_with_one_block():
    """One layer, and pairs (x, 0), (-x, 1), on which the gradient of a zero bias is zero: W is the one block."""
    half = torch.randn(ROWS // 2, 5, generator=torch.Generator().manual_seed(2))
    x = torch.stack([half, -half], 1).flatten(0, 1)
    y = torch.arange(ROWS) % 2
    W, b = [torch.randn(2, 5, generator=torch.Generator().manual_seed(3))], [torch.zeros(2)]
    batches = torch.arange(ROWS).view(-1, BATCH)
    one = dict(shape="scalar", inner_steps=1, query="next", meta="gd")
    samt = am.start("samt", x, y, W, b, batches=batches, alpha0=0.3, beta=0.02, **one)
    rival = am.start("sgd-hd", x, y, W, b, batches=batches, alpha0=0.3, beta=0.02)
    learnt = torch.tensor(0.3)
    for _ in range(STEPS):
        u, v = rival.step().variables(), samt.variables() | samt.step().variables()
        assert (u["alpha"] - learnt).abs().max() < 1e-12  # SAMT learns at the end of a step, for the next one
        learnt = v["alpha_W1"]
        assert (u["W1"] - v["W1"]).abs().max() < 1e-12 and u["b1"].abs().max() < 1e-12
        assert 1e-6 < learnt < 10
    assert (learnt - 0.3).abs() > 0.01


def test_osgm_stays_where_the_loss_would_rise_and_still_learns(monkeypatch):
    pair = Beside("osgm", "quadratic", monkeypatch)
    pair.run.state.P.fill_(0.1)
    pair.run.state.P[1] = 1e3  # far beyond what the curvature allows
    before, P = pair.run.state.params.flat.clone(), pair.run.state.P.clone()
    pair.run.step()
    moved = (pair.run.state.params.flat != before).flatten(1).any(1)
    assert moved.tolist() == [True, False, True]
    assert (pair.run.state.P[1] < P[1]).float().mean() > 0.5  # the hypergradient points down


def test_osgms_hypergradient_is_the_slope_of_its_feedback(monkeypatch):
    """AdaGrad's first step is lr along the sign of H: H by autograd through h(P)."""
    pair = Beside("osgm", "network", monkeypatch)
    pair.run.state.P.fill_(0.5)
    pair.run.step()
    for r, settings in enumerate(pair.settings):
        x = torch.cat([t.flatten() for t in pair.start(r)]).requires_grad_()
        split = lambda flat: [
            t[0] if i % 2 == 0 else t[0, 0]
            for i, t in enumerate(
                t for both in zip(*(lambda p: (p.W, p.b))(view_layers(flat[None, None], pair.widths))) for t in both
            )
        ]
        f = pair.loss(r, split(x), 0)
        (g,) = torch.autograd.grad(f, x)
        P = torch.full_like(g, 0.5).requires_grad_()
        h = (pair.loss(r, split(x.detach() - P * g), 0) - f.detach()) / g.square().sum()
        (H,) = torch.autograd.grad(h, P)
        step = -settings.learning_rate * H / (H.abs() + settings.epsilon)
        assert largest_difference(pair.run.state.P[r, 0] - 0.5, step) < 1e-6
        assert largest_difference(pair.run.state.S[r, 0].sqrt(), H.abs()) < 1e-10


def test_soaps_first_bases_are_eigenvectors_and_stay_orthonormal(monkeypatch):
    pair = Beside("soap", "network", monkeypatch, interval=2)
    first = pair.run.step().state
    for side in (side for sides in first.sides for side in sides):
        inside = side.basis.mT @ side.mean @ side.basis
        assert largest_difference(inside, torch.diag_embed(inside.diagonal(dim1=1, dim2=2))) < 1e-12
        assert (inside.diagonal(dim1=1, dim2=2).diff(dim=1) <= 1e-12).all()
    pair.run.step(STEPS)
    for side in (side for sides in first.sides for side in sides):
        assert (side.basis.mT @ side.basis - torch.eye(side.basis.shape[1])).abs().max() < 1e-12


def test_soap_finds_bases_of_wide_null_spaces_in_float32():
    """A gradient of 8 rows leaves most of 300 eigenvalues at zero."""
    g = torch.randn(2, 8, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    g[:, :, ::3] = 0
    Q = soap.eigenvectors(g.mT @ g * 1e-6)
    assert Q.dtype == torch.float32
    assert (Q.mT @ Q - torch.eye(300, dtype=torch.float32)).abs().max() < 1e-5


# What they cost


@pytest.mark.parametrize("name", RIVALS)
def test_flops_are_those_of_the_matrix_products(name):
    chosen = method(name)
    made = launch(chosen, spread(chosen)[:1], [0])
    counts = [flops_of(made.step) for _ in range(25)]
    if chosen.cost.flops is None:
        assert made.state.flops.tolist() == [sum(counts)] and len(set(counts)) == 3
    else:
        widths = chosen.parameters(made.state).widths
        assert set(counts) == {chosen.cost.flops(widths, BATCH, spread(chosen)[0])}
    assert chosen.cost.gradients(4, chosen.settings()) == (2 if name == "osgm" else 1)


def test_a_cosine_schedule_needs_the_number_of_steps_and_schedule_free_has_none():
    x, y = tiny_data()
    W, b, batches = [torch.zeros(3, x.shape[1])], [torch.zeros(3)], [[0, 1]]
    for name in SCHEDULED:
        with pytest.raises(InputError, match="needs the number of steps"):
            am.start(name, x, y, W, b, batches=batches, schedule="cosine").step(2)
    with pytest.raises(InputError, match="unknown hyper-parameter 'schedule'"):
        am.start("schedule-free-adamw", x, y, W, b, batches=batches, schedule="cosine")
