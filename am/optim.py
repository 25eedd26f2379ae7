"""SAMT and SAM, the alternation with fixed steps, as torch optimizers for any network (arXiv 2508.04193, SPEC 3).

Blocks are updated in turn on each mini-batch, and SAMT learns their step sizes on a query batch after each move. A
block is a parameter group; `blocks` makes one of every layer. On an MLP they are `am.methods.samt` and `am.methods.sam`
step for step, at the price of more passes: what a closure runs, it runs whole.

>>> torch.manual_seed(0).initial_seed()
0
>>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
>>> x, y, x_next, y_next = torch.randn(9, 4), torch.arange(9) % 3, torch.randn(9, 4), torch.arange(9) % 3
>>> optimizer = SAMT(net, alpha0=0.1, shape="row")
>>> for _ in range(3):
...     loss = optimizer.step(
...         lambda: nn.functional.cross_entropy(net(x), y), lambda: nn.functional.cross_entropy(net(x_next), y_next)
...     )
>>> [tuple(optimizer.state[p]["alpha"].shape) for p in net.parameters()]
[(8, 1), (1,), (3, 1), (1,)]
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from am.errors import InputError, unknown

ALPHA_MIN, ALPHA_MAX = 1e-6, 10.0
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-12  # of the Adam in meta = "log_adam"
CHOICES = {
    "shape": ("scalar", "row", "column", "element"),
    "order": ("forward", "backward"),
    "query": ("auto", "next", "support", "last"),
    "meta": ("log_adam", "gd"),
}
RANGES = {"alpha0": (ALPHA_MIN, ALPHA_MAX), "alpha": (1e-12, math.inf), "beta": (0.0, math.inf)}
COMMON = ("order", "query")  # options of a sweep, the same for all its blocks
# The first is the base of BatchNorm, SyncBatchNorm and InstanceNorm of all dimensions.
NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)

Closure = Callable[[], Tensor]
Group = dict[str, Any]
Gradient = dict[Tensor, Tensor]  # parameter -> its gradient, for the parameters that the loss depends on


def blocks(model: nn.Module, modules: Sequence[nn.Module | Sequence[nn.Module]] | None = None) -> list[Group]:
    """The blocks of a network as parameter groups, in order, to be given to `SAMT` or `SAM`.

    modules: what belongs to each block, a module with all that is below it or a list of those, for example
    [net.stem, *net.stages, net.head]. By default every leaf module that owns parameters is a block, in the order of
    model.modules(), and a normalisation layer belongs to the block of the layer before it.
    A parameter that modules share belongs to the first block that has it, and frozen parameters are left out. A group
    may be given options of its own: blocks(net)[0] | {"alpha0": 0.01}.
    Raises InputError, with its name, for a parameter that is in no block or in two.

    >>> net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3))
    >>> [[name for name, _ in block["params"]] for block in blocks(net)]
    [['0.weight', '0.bias', '1.weight', '1.bias'], ['4.weight', '4.bias']]
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise InputError(
            "blocks: DistributedDataParallel averages gradients in backward, which the alternation never calls; "
            "train the module that it wraps, in one process."
        )
    members = _layers(model) if modules is None else [[m] if isinstance(m, nn.Module) else list(m) for m in modules]
    places = _places(model, members)
    groups: list[Group] = [{"params": [], "modules": {}} for _ in members]
    placed: set[Tensor] = set()
    home: dict[nn.Module, Group] = {}
    for path, module in model.named_modules():
        for name, p in module.named_parameters(path, recurse=False):
            if not p.requires_grad or p in placed:
                continue
            found = sorted(places.get(module, ()))
            if len(found) > 1:
                raise InputError(f"blocks: parameter '{name}' is in two blocks, {found[0]} and {found[1]}.")
            if not found:
                owner = f"the {type(module).__name__} that owns it"
                raise InputError(f"blocks: parameter '{name}' is in no block; name {owner} in blocks(model, modules).")
            placed.add(p)
            home[module] = groups[found[0]]
            home[module]["params"].append((name, p))
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise InputError("blocks: the model has no trainable parameter.")
    # What has buffers but no trainable parameters goes with the layer before it.
    group = groups[0]
    for path, module in model.named_modules():
        group = home.get(module, group)
        if [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            group["modules"][path] = module
    return groups


def _layers(model: nn.Module) -> list[list[nn.Module]]:
    """The leaf modules that own trainable parameters, each with the normalisation layers that follow it."""
    layers: list[list[nn.Module]] = []
    trained = False  # whether the layer before has a block
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if not own or [*module.children()]:
            continue
        normalises = isinstance(module, NORMALISATIONS)
        if normalises and trained:
            layers[-1].append(module)
        elif any(p.requires_grad for p in own):
            layers.append([module])
            trained = True
        elif not normalises:
            trained = False
    return layers


def _places(model: nn.Module, members: list[list[nn.Module]]) -> dict[nn.Module, set[int]]:
    """The numbers of the blocks that each module is in."""
    own = set(model.modules())
    places: dict[nn.Module, set[int]] = {}
    for i, tops in enumerate(members):
        for top in tops:
            if not isinstance(top, nn.Module) or top not in own:
                raise InputError(f"blocks: block {i} names a {type(top).__name__} that is no module of the model.")
            for module in top.modules():
                places.setdefault(module, set()).add(i)
    return places


class _Alternating(torch.optim.Optimizer):
    """What SAM and SAMT share: parameter groups that are blocks, and their state_dict."""

    initial: str  # the option that a block's "lr", which torch's schedulers change, begins with

    def __init__(self, model: nn.Module | Iterable[Group], options: dict[str, Any]) -> None:
        groups = blocks(model) if isinstance(model, nn.Module) else list(model)
        if not all(isinstance(group, dict) for group in groups):
            name = type(self).__name__
            raise InputError(f"{name}: give {name}(model) or {name}(blocks(model)); parameters alone name no blocks.")
        super().__init__(groups, options)

    def add_param_group(self, param_group: Group) -> None:
        """Add a block after the others; keys are as in a group of `blocks`, of which "params" alone is needed.

        Raises InputError, naming it, for an unknown or impossible option, a parameter that another block has, one that
        its own "modules" own and no block has, and one that is not float32 or float64.
        """
        where, group = type(self).__name__, {"modules": {}, **self.defaults, **param_group}
        _check_options(where, group, {"params", "param_names", "modules", *self.defaults})
        for key in COMMON:
            if self.param_groups and group.get(key) != self.param_groups[0].get(key):
                raise InputError(f"{where}: {key} is one for all blocks, {self.param_groups[0][key]!r} here.")
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        names = group.pop("param_names", [f"{len(self.param_groups)}.{i}" for i in range(len(params))])
        group["params"] = [p if isinstance(p, tuple) else (name, p) for name, p in zip(names, params, strict=True)]
        taken = {p for other in self.param_groups for p in other["params"]}
        for name, p in group["params"]:
            if p in taken:
                raise InputError(f"{where}: parameter '{name}' is in two blocks.")
            if isinstance(p, Tensor) and p.dtype not in (torch.float32, torch.float64):
                raise InputError(
                    f"{where}: parameter '{name}' must be float32 or float64, not {p.dtype}; for products in lower "
                    "precision use torch.autocast in the closure."
                )
            taken.add(p)
        for path, module in group["modules"].items():
            for name, p in module.named_parameters(path, recurse=False):
                if p.requires_grad and p not in taken:
                    raise InputError(f"{where}: parameter '{name}' is in no block.")
        super().add_param_group(group)
        group["lr"] = group[self.initial]

    def state_dict(self) -> dict[str, Any]:
        """As torch's; the modules of the blocks are no part of it."""
        saved = super().state_dict()
        bare = [{key: value for key, value in g.items() if key != "modules"} for g in saved["param_groups"]]
        return {**saved, "param_groups": bare}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue bit for bit where `state_dict` was taken; the blocks must be the same, their options are loaded.

        Raises InputError for the state of another optimizer.
        """
        for key in (*self.defaults, "lr"):
            if not all(key in group for group in state_dict["param_groups"]):
                raise InputError(f"{type(self).__name__}: the state is another optimizer's; its blocks lack '{key}'.")
        modules = [group["modules"] for group in self.param_groups]
        super().load_state_dict(copy.deepcopy(state_dict))  # else steps would go on in the tensors of state_dict
        for group, own in zip(self.param_groups, modules):
            group["modules"] = own

    @property
    def _step_supports_amp_scaling(self) -> bool:
        # The first that torch.amp.GradScaler asks an optimizer for.
        raise InputError(
            f"{type(self).__name__} does not work with GradScaler, because it takes its gradients itself; "
            "use torch.autocast with bfloat16, which needs no scaling."
        )

    def _sweep(self, closure: Closure) -> list[tuple[Group, list[Tensor]]]:
        """The blocks in the order of a step, each with its parameters that are not frozen."""
        if not callable(closure):
            raise InputError(f"{type(self).__name__}.step needs a closure that returns the loss on the support batch.")
        sweep = [(group, [p for p in group["params"] if p.requires_grad]) for group in self.param_groups]
        sweep = [(group, block) for group, block in sweep if block]
        if not sweep:
            raise InputError(f"{type(self).__name__}: every parameter is frozen.")
        return sweep if self.param_groups[0]["order"] == "forward" else sweep[::-1]


class SAM(_Alternating):
    """Stochastic alternating minimisation with fixed step sizes, SAMT's loop without learning (SPEC 3).

    model: the network, or its `blocks`.  alpha: step size of every block, above 0.
    inner_steps: T, gradient steps on a block before the next.  order: "forward" or "backward", of the blocks.
    Each is an option of a group too; the order is one for all. torch's schedulers act on alpha.
    A step over L blocks takes L T passes (see SAMT). Raises InputError for options that do not fit.
    """

    initial = "alpha"

    def __init__(
        self, model: nn.Module | Iterable[Group], alpha: float = 0.1, inner_steps: int = 1, order: str = "forward"
    ) -> None:
        super().__init__(model, dict(alpha=alpha, inner_steps=inner_steps, order=order))

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]
        """Move every block in turn; returns the loss before the step. closure: as SAMT's."""
        with closing(_Passes(self)) as passes:
            for group, block in self._sweep(closure):
                for _ in range(group["inner_steps"]):
                    (gradient,) = passes.gradients(closure, block)
                    for p, g in gradient.items():
                        p.sub_(g, alpha=group["lr"])
        return passes.loss


class SAMT(_Alternating):
    """Stochastic alternating minimisation with trainable step sizes (arXiv 2508.04193; SPEC 3).

    model: the network, or its `blocks`.
    alpha0: initial step size of every block, in [1e-6, 10], within which step sizes stay.
    beta: step of the meta-optimiser, 0 or more.
    shape: which entries of a parameter share a step size: "scalar" (all of them), "row" (an output unit or channel, the
        kernel included), "column" (an input unit or channel) or "element" (none). Output is the first axis, input the
        second, the other way about in a transposed convolution. A parameter with one axis has one step size.
    inner_steps: T, gradient steps on a block before the next.  order: "forward" or "backward", of the blocks.
    query: where step sizes learn. "next": on the batch of `query_closure`. "support": on the support batch. "auto":
        "next" in a step with a query_closure, "support" in one without. "last": from the block's first gradient in the
        next step, which comes anyway; with one parameter, a scalar, T = 1 and meta "gd" that is SGD-HD
        (Baydin et al., ICLR 2018, arXiv 1703.04782).
    meta: "log_adam", Adam on log alpha, or "gd".
    Each is an option of a group too; order and query are one for all. `state[p]["alpha"]` holds the step sizes of p.

    Cost. A pass runs a closure once, forward through the whole network and back as far as the block: gradients of the
    other blocks are not computed. A step over L blocks takes L (T + 1) passes with "next", L T + 1 with "support",
    where a block's query gradient comes with the next block's first gradient, and L T with "last". Memory: a pass's,
    the step sizes, with "log_adam" two moments of their shape, and the gradients of one block, with "last" of every.

    torch's schedulers multiply the move: step sizes are alpha lr / alpha0, and their learning is left alone.
    All passes of a step draw the same random numbers, dropout's included (CPU and CUDA); a step leaves the generators
    as one pass would. Buffers of the blocks' modules, such as BatchNorm's running statistics, come from the first
    support pass alone. Nothing waits for a GPU. Parameters' .grad is neither read nor written.
    Raises InputError for options that do not fit.
    """

    initial = "alpha0"

    def __init__(
        self,
        model: nn.Module | Iterable[Group],
        alpha0: float = 0.1,
        beta: float = 0.03,
        shape: str = "row",
        inner_steps: int = 1,
        order: str = "forward",
        query: str = "auto",
        meta: str = "log_adam",
    ) -> None:
        options = dict(alpha0=alpha0, beta=beta, shape=shape, inner_steps=inner_steps)
        super().__init__(model, options | dict(order=order, query=query, meta=meta))

    @torch.no_grad()
    def step(self, closure: Closure, query_closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """Move every block in turn and learn its step sizes; returns the support batch's loss before the step.

        closure: returns the loss on the support batch, a scalar tensor, and does not call backward. It is called once a
            pass, and must take the same batch every time.
        query_closure: the same for the query batch, which should be the next step's support batch.
        Raises InputError for a closure that does otherwise, and for a query_closure that `query` does not go with.
        """
        query = self._query(query_closure)
        waiting: tuple[Group, Gradient] = ({}, {})  # a block that has moved and learns at the next support pass
        with closing(_Passes(self)) as passes:
            for group, block in self._sweep(closure):
                moved: Gradient = {}  # the sum of the gradients along which the block has moved
                for t in range(group["inner_steps"]):
                    query_gradient, gradient = passes.gradients(closure, waiting[1], block)
                    self._learn(*waiting, query_gradient)
                    waiting = ({}, {})
                    if query == "last" and t == 0:
                        last = {p: self.state[p]["moved"] for p in block if "moved" in self.state[p]}
                        self._learn(group, last, gradient)
                    self._move(group, gradient, moved)
                if query == "next":
                    self._learn(group, moved, *passes.gradients(query_closure, moved))
                elif query == "support":
                    waiting = (group, moved)
                else:
                    for p, total in moved.items():
                        self.state[p]["moved"] = total
            self._learn(*waiting, *passes.gradients(closure, waiting[1]))
        return passes.loss

    def _query(self, query_closure: Closure | None) -> str:
        """Where this step's step sizes learn."""
        query = self.param_groups[0]["query"]
        if query == "auto":
            return "support" if query_closure is None else "next"
        if (query == "next") != (query_closure is not None):
            need = "needs a query_closure" if query == "next" else "takes no query_closure"
            raise InputError(f"SAMT: query = '{query}' {need} in step.")
        return query

    def _move(self, group: Group, gradient: Gradient, moved: Gradient) -> None:
        """One step along the gradient, which is added to `moved`."""
        for p, g in gradient.items():
            state = self.state[p]
            if "alpha" not in state:
                state["alpha"] = p.new_full(_alpha_shape(group, p), group["alpha0"])
            p.addcmul_(state["alpha"], g, value=-group["lr"] / group["alpha0"])
            moved[p] = moved[p] + g if p in moved else g

    def _learn(self, group: Group, moved: Gradient, query_gradient: Gradient) -> None:
        """One step of the meta-optimiser on H = -(moved * query_gradient), summed where entries share a step size."""
        for p in [p for p in moved if p in query_gradient]:
            state, alpha, beta = self.state[p], self.state[p]["alpha"], group["beta"]
            H = (moved[p] * query_gradient[p]).sum_to_size(alpha.shape).neg_()
            if group["meta"] == "gd":
                alpha.sub_(H, alpha=beta)
            else:
                alpha.mul_(_adam_direction(state, H.mul_(alpha)).mul_(-beta).exp_())
            alpha.clamp_(ALPHA_MIN, ALPHA_MAX)


class _Passes:
    """The passes of one step: all draw the first's random numbers, and buffers are left as the first leaves them."""

    def __init__(self, optimizer: _Alternating) -> None:
        self.name = type(optimizer).__name__
        groups = optimizer.param_groups
        devices = {p.device for group in groups for p in group["params"] if p.is_cuda}
        self.devices = list(devices) if torch.cuda.is_available() else []  # a fake CUDA device has no generator
        self.modules = [module for group in groups for module in group["modules"].values()]
        self.made = 0
        self.loss: Tensor  # the first pass's

    def close(self) -> None:
        if self.made > 1:
            self._set_generators(self.end)
            for module, saved in zip(self.modules, self.buffers):
                for name, value in saved.items():
                    module.get_buffer(name).copy_(value)

    def gradients(self, closure: Closure, *parts: Iterable[Tensor]) -> list[Gradient]:
        """The loss's gradients with respect to the parameters of each part, by one pass; no pass for no parameters."""
        parts = tuple(list(part) for part in parts)
        params = [p for part in parts for p in part]
        if not params:
            return [{} for _ in parts]
        loss = self._run(closure)
        try:
            found = dict(zip(params, torch.autograd.grad(loss, params, allow_unused=True)))
        except RuntimeError as error:
            if "second time" not in str(error):
                raise
            raise InputError(f"{self.name}: the closure must return the loss and not call backward.") from error
        if any(g is not None and g.is_sparse for g in found.values()):
            raise InputError(f"{self.name}: a gradient is sparse; make its layer with sparse=False.")
        return [{p: found[p] for p in part if found[p] is not None} for part in parts]

    def _run(self, closure: Closure) -> Tensor:
        """The closure's loss, with the generators as before the first pass."""
        if self.made == 0:
            self.start = self._generators()
        else:
            if self.made == 1:
                self.end = self._generators()
                self.buffers = [{n: b.clone() for n, b in m.named_buffers(recurse=False)} for m in self.modules]
            self._set_generators(self.start)
        self.made += 1
        torch.clear_autocast_cache()  # it keeps low-precision copies of parameters, which have moved since
        with torch.enable_grad():
            loss = closure()
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            kind = f"a tensor of shape {(*loss.shape,)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise InputError(f"{self.name}: the closure must return the loss as a tensor of one number, not {kind}.")
        if not loss.requires_grad:
            raise InputError(f"{self.name}: the loss that the closure returns depends on no trainable parameter.")
        if self.made == 1:
            self.loss = loss.detach()
        return loss

    def _generators(self) -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self.devices)]

    def _set_generators(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self.devices, states[1:]):
            torch.cuda.set_rng_state(state, device)


def _alpha_shape(group: Group, p: Tensor) -> list[int]:
    """The shape of p's step sizes, which broadcasts against p."""
    transposed = any(
        isinstance(module, nn.modules.conv._ConvTransposeNd) and module.weight is p
        for module in group["modules"].values()
    )
    rows, columns = (1, 0) if transposed else (0, 1)
    own = {"scalar": (), "row": (rows,), "column": (columns,), "element": range(p.dim())}[group["shape"]]
    return [n if axis in own and p.dim() > 1 else 1 for axis, n in enumerate(p.shape)]


def _adam_direction(state: dict[str, Any], g: Tensor) -> Tensor:
    """Adam's mhat / (sqrt(vhat) + epsilon) for gradient g (Kingma and Ba, ICLR 2015, algorithm 1)."""
    if "step" not in state:
        state.update(step=0, exp_avg=torch.zeros_like(g), exp_avg_sq=torch.zeros_like(g))
    state["step"] += 1
    m, v = state["exp_avg"].lerp_(g, 1 - BETA1), state["exp_avg_sq"].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
    # Both biases go into two numbers, which saves a GPU two operations on tensors.
    unbiased, root = 1 - BETA1 ** state["step"], math.sqrt(1 - BETA2 ** state["step"])
    return torch.div(m, v.sqrt().add_(EPSILON * root)).mul_(root / unbiased)


def _check_options(where: str, options: dict[str, Any], known: set[str]) -> None:
    """Raises InputError for an option that is not known or whose value is impossible."""
    for key, value in options.items():
        if key not in known:
            raise unknown("option", key, known, where)
        if key in CHOICES and value not in CHOICES[key]:
            raise unknown(key, value, CHOICES[key], where)
        if key in RANGES:
            low, high = RANGES[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InputError(f"{where}: {key} must be a number in [{low:g}, {high:g}], not {value!r}.")
        if key == "inner_steps" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{where}: inner_steps must be a whole number from 1 on, not {value!r}.")
