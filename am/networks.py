"""The multilayer perceptron on the run axis: its parameters, its seeded initialisation and its forward pass.

Samples are rows. Every tensor of R runs has a leading axis R; data shared by all runs has none and broadcasts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from am.activations import Activation
from am.errors import InputError
from am.linalg import linear


@dataclass(frozen=True)
class Parameters:
    """Weights and biases of R runs.

    W[l]: (R, d_{l+1}, d_l), b[l]: (R, 1, d_{l+1}).
    flat: (R, 1, P), of which W and b are views, where an optimiser updates all layers in one operation; else None.
    """

    W: list[Tensor]
    b: list[Tensor]
    flat: Tensor | None = None

    @property
    def runs(self) -> int:
        return self.W[0].shape[0]

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.W[0].shape[2], *(w.shape[1] for w in self.W))

    def flattened(self) -> "Parameters":
        """A copy whose layers are views of one (R, 1, P) tensor."""
        R = self.runs
        flat = torch.cat([t.reshape(R, 1, -1) for pair in zip(self.W, self.b) for t in pair], dim=2)
        return view_layers(flat, self.widths)

    def clone(self) -> "Parameters":
        return Parameters([w.clone() for w in self.W], [b.clone() for b in self.b])

    def finite(self) -> Tensor:  # (R,) bool
        """Which runs have only finite parameters: a sum is finite only where every term is, at one pass and no copy."""
        tensors = (*self.W, *self.b) if self.flat is None else (self.flat,)
        first, *others = (t.sum((1, 2)) for t in tensors)
        total = sum(others, first)
        gap = total - total  # 0, or NaN where the sum is not finite; a third of the price of isfinite
        return gap == gap


def view_layers(flat: Tensor, widths: Sequence[int]) -> Parameters:  # flat: (R, 1, P)
    """Parameters whose layers are views of `flat`, in the order W_1, b_1, W_2, ..."""
    R, W, b, at = flat.shape[0], [], [], 0
    for d_in, d_out in zip(widths, widths[1:]):
        W.append(flat[:, 0, at : at + d_out * d_in].view(R, d_out, d_in))
        at += d_out * d_in
        b.append(flat[:, :, at : at + d_out])
        at += d_out
    return Parameters(W, b, flat)


INITIALISATIONS = ("he", "xavier", "torch", "bcd")  # and normal(SD), repeated(SD)


def check_initialisation(name: str) -> None:
    """Raises InputError unless `name` is one of INITIALISATIONS, or normal(SD) or repeated(SD) with a positive SD."""
    match = re.fullmatch(r"(?:normal|repeated)\((\d*\.?\d+(?:e-?\d+)?)\)", name)
    if name not in INITIALISATIONS and not (match and float(match[1]) > 0):
        raise InputError(
            f"unknown initialisation '{name}'; valid: {', '.join(INITIALISATIONS)}, "
            "and normal(SD) or repeated(SD), for example normal(0.1)."
        )


def initialise(
    widths: Sequence[int],
    seeds: Sequence[int],
    name: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Parameters:
    """Initial parameters of one run per seed, drawn on the CPU in float64 from that run's own stream.

    normal(SD): W, b ~ N(0, SD^2), the AM papers' choice.  he: W ~ N(0, 2/d_in), b = 0.
    xavier: W ~ N(0, 2/(d_in + d_out)), b = 0.  torch: W, b ~ U(-r, r), r = d_in^-1/2, the default of torch.nn.Linear.
    bcd: W ~ N(0, .01^2), b = .1 (Zeng et al., ICML 2019, released code).
    repeated(SD): as normal(SD), every tensor from the start of the run's stream, so that W_2 repeats numbers of W_1: a
    bug of the released mDLAM and dlADMM, kept to reproduce their numbers (float32 draws, seed 0 is mDLAM's).
    """
    check_initialisation(name)
    layers = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        layers.append([_draw_layer(name, d_in, d_out, generator) for d_in, d_out in zip(widths, widths[1:])])
    stack = lambda l, i: torch.stack([run[l][i] for run in layers]).to(device, dtype)
    depth = len(widths) - 1
    return Parameters([stack(l, 0) for l in range(depth)], [stack(l, 1) for l in range(depth)])


def _draw_layer(name: str, d_in: int, d_out: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    # -> (d_out, d_in), (1, d_out), float64
    if name.startswith("repeated"):
        sd, seed = float(name[len("repeated(") : -1]), generator.initial_seed()
        W = torch.randn(d_out, d_in, generator=generator.manual_seed(seed))
        b = torch.randn(1, d_out, generator=generator.manual_seed(seed))
        return sd * W.double(), sd * b.double()
    draw = torch.rand if name == "torch" else torch.randn
    W, b = (draw(n, m, generator=generator, dtype=torch.float64) for n, m in ((d_out, d_in), (1, d_out)))
    if name == "torch":
        reach = d_in**-0.5
        return (2 * W - 1) * reach, (2 * b - 1) * reach
    if name == "bcd":
        return 0.01 * W, torch.full_like(b, 0.1)
    if name.startswith("normal"):
        sd = float(name[len("normal(") : -1])
        return sd * W, sd * b
    return W * (2 / (d_in if name == "he" else d_in + d_out)) ** 0.5, torch.zeros_like(b)


def forward(x: Tensor, params: Parameters, act: Activation) -> list[Tensor]:  # x: (R, N, d0) or (N, d0)
    """Pre-activations z_1 .. z_L, each (R, N, d_l); the last are the logits."""
    zs: list[Tensor] = []
    a = x
    for l, (W, b) in enumerate(zip(params.W, params.b)):
        a = act.value(zs[-1]) if l else x
        zs.append(linear(a, W, b))
    return zs


def forward_variables(x: Tensor, params: Parameters, act: Activation) -> tuple[list[Tensor], list[Tensor]]:
    """z_1 .. z_L and a_1 .. a_{L-1} = h(z_l) of a forward pass, each (R, N, d_l)."""
    z = forward(x, params, act)
    return z, [act.value(zl) for zl in z[:-1]]
