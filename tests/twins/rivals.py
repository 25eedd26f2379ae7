"""Rivals of SPEC 10, slow: g the gradient of the mean cross-entropy on mini-batch k at the variables.

With eta the learning rate at step k, a schedule included; powers, products and roots of tensors are elementwise:

(1)  soap, step 0 without a move:  L <- s L + (1 - s) g g^T;  R <- s R + (1 - s) g^T g;  then, at k = 0, Q their
              eigenvectors, and at k = interval, 2 interval, ..: Q <- orthonormal factor of (L Q), columns of Q, and v,
              first sorted by q^T L q.  No Q on a side above `largest_side`; biases have none
              m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) (Q_L^T g Q_R)^2;  before L, R:
              W <- (1 - eta lambda) [W - eta sqrt(1 - beta2^k) / (1 - beta1^k)
                                     Q_L ((Q_L^T m Q_R) / (sqrt(v) + epsilon)) Q_R^T]  (Vyas et al. 2024, 2409.11321)
(2)  sgd-hd:  alpha <- alpha + beta <g, g_last>;  W <- W - alpha g, alpha of all parameters; a schedule multiplies
              alpha in the step alone                                             (Baydin et al. 2018, arXiv 1703.04782)
(3)  osgm:    x+ = x - P * g;  g+, f(x+) on the same batch;  H = -(g+ * g) / ||g||^2, all parameters in one norm
              S <- S + H^2;  P <- P - eta H / (sqrt(S) + epsilon);  x <- x+ unless f(x+) > f(x); a schedule
              multiplies P, in x+ and in H, and not eta           (Gao et al. 2024, arXiv 2411.01803; 2025, 2502.11229)
"""

import math

import torch
from torch import Tensor

from twins import Slow
from twins.gradient import course, rate, running


def square(tensors: dict[str, Tensor]) -> Tensor:
    return torch.stack([(t * t).sum() for t in tensors.values()]).sum()


def soap_step(s: Slow, k: int) -> None:  # (1)
    gradient = s.gradient(s.trained, *s.batch(k))
    for name, g in gradient.items():
        if k:
            soap_move(s, name, g, k)
        if name.startswith("W"):
            soap_bases(s, name, g, k)


def bases(s: Slow, name: str, g: Tensor) -> tuple[Tensor, Tensor]:
    """Q_L and Q_R, the identity where a side has none; none of a bias."""
    sides = [g.shape[0], g.shape[1]] if g.dim() == 2 else [1, g.numel()]
    return tuple(s.memory.get((kind, name), torch.eye(d).to(g)) for kind, d in zip(("QL", "QR"), sides))


def soap_move(s: Slow, name: str, g: Tensor, k: int) -> None:  # (1)
    hp, eta, (QL, QR) = s.hp, rate(s, k), bases(s, name, g)
    m = running(s, "m", name, hp.beta1, g)
    seen, turned = QL.T @ g.view(len(QL), -1) @ QR, QL.T @ m.view(len(QL), -1) @ QR
    v = running(s, "v", name, hp.beta2, seen**2)
    direction = (QL @ (turned / (torch.sqrt(v) + hp.epsilon)) @ QR.T).view(g.shape)
    corrected = eta * math.sqrt(1 - hp.beta2**k) / (1 - hp.beta1**k)
    s.u[name] = (1 - eta * hp.weight_decay) * (s.u[name] - corrected * direction)


def soap_bases(s: Slow, name: str, g: Tensor, k: int) -> None:  # (1)
    hp, memory = s.hp, s.memory
    for axis, (kind, outer) in enumerate((("L", g @ g.T), ("R", g.T @ g))):
        if len(outer) > hp.largest_side:
            continue
        mean = running(s, kind, name, hp.shampoo_decay, outer)
        Q = memory.get((f"Q{kind}", name))
        if k == 0:
            memory[f"Q{kind}", name] = torch.linalg.eigh(mean)[1].flip(1)
        elif k % hp.interval == 0:
            order = torch.sort((Q * (mean @ Q)).sum(0), descending=True, stable=True)[1]
            memory[f"Q{kind}", name] = torch.linalg.qr((mean @ Q)[:, order])[0]
            memory["v", name] = memory["v", name].index_select(axis, order)


def sgd_hd_start(s: Slow) -> None:
    s.u["alpha"] = torch.full((1, 1), s.hp.alpha0, dtype=s.x.dtype, device=s.x.device)


def sgd_hd_step(s: Slow, k: int) -> None:  # (2)
    gradient, last = s.gradient(s.trained, *s.batch(k)), s.memory
    s.u["alpha"] = s.u["alpha"] + s.hp.beta * sum((g * last[name]).sum() for name, g in gradient.items() if last)
    for name, g in gradient.items():
        s.u[name] = s.u[name] - course(s, k) * s.u["alpha"].view(()) * g
    s.memory = gradient


def osgm_start(s: Slow) -> None:
    s.u |= {f"P_{name}": torch.full_like(s.u[name], s.hp.p_0) for name in s.trained}


def osgm_step(s: Slow, k: int) -> None:  # (3)
    batch, part = s.batch(k), course(s, k)
    g = s.gradient(s.trained, *batch)
    ahead = {name: s.u[name] - part * s.u[f"P_{name}"] * g[name] for name in s.trained}
    later, norm = s.gradient(s.trained, *batch, ahead), square(g)
    accepted = not s.loss(*batch, ahead) > s.loss(*batch)
    for name in s.trained:
        H = -part * later[name] * g[name] / norm if norm > 0 else torch.zeros_like(g[name])
        S = running(s, "S", name, 1.0, H**2, add=1.0)
        s.u[f"P_{name}"] = s.u[f"P_{name}"] - s.hp.learning_rate * H / (torch.sqrt(S) + s.hp.epsilon)
    if accepted:
        s.u |= ahead


STARTS = {"sgd-hd": sgd_hd_start, "osgm": osgm_start}
STEPS = {"soap": soap_step, "sgd-hd": sgd_hd_step, "osgm": osgm_step}
