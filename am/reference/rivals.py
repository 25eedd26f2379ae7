"""The rivals of SPEC 10, slow: g the gradient of the mean cross-entropy on mini-batch k at the variables, t = k + 1.

With eta the learning rate at step k, a schedule included; powers, products and roots of tensors are elementwise:

(1)  nadamw:  mu_i = beta1 (1 - .96^(i psi) / 2);  m, v Adam's moments of g;  W <- (1 - eta lambda) W
              - eta [(1 - mu_t) / (1 - mu_1 .. mu_t) g + mu_{t+1} / (1 - mu_1 .. mu_{t+1}) m]
              / (sqrt(v / (1 - beta2^t)) + epsilon)                            (Dozat 2016, as torch.optim.NAdam)
(2)  schedule-free-adamw, g at y:  eta_t = eta min(1, t / warm-up);  v <- beta2 v + (1 - beta2) g^2
              z <- z - eta_t lambda y - eta_t g / (sqrt(v / (1 - beta2^t)) + epsilon)
              x <- (1 - c) x + c z, c = eta_t^2 / sum_{i<=t} eta_i^2;  y = (1 - beta1) z + beta1 x
              W shown is x                                                     (Defazio et al. 2024, arXiv 2405.15682)
(3)  prodigy, one d for all parameters, beta3 = sqrt(beta2), w = d^2 eta / d_0:
              r <- beta3 r + w <g, W_0 - W>;  s <- beta3 s + w g
              m <- beta1 m + (1 - beta1) d g;  v <- beta2 v + (1 - beta2) d^2 g^2
              d' = max(d, d_coef r / ||s||_1), or d while s = 0
              W <- (1 - d eta lambda) W - d eta m / (sqrt(v) + d' epsilon);  d <- d'
                                                                   (Mishchenko and Defazio 2023, arXiv 2306.06101)
(4)  muon, W of a hidden layer:  M <- mu M + (1 - mu) g;  U = (1 - mu) g + mu M
              W <- (1 - eta lambda) W - eta sqrt(max(1, d_out / d_in)) X,  X = U / max(||U||_F, 1e-7), five times
              X <- a X + (b X X^T + c (X X^T)^2) X, (a, b, c) = (3.4445, -4.7750, 2.0315)    (Jordan et al. 2024)
              biases and the output layer: AdamW
(5)  soap, step 0 without a move:  L <- s L + (1 - s) g g^T;  R <- s R + (1 - s) g^T g;  then, at k = 0, Q their
              eigenvectors, and at k = interval, 2 interval, ..: Q <- orthonormal factor of (L Q), columns of Q, and v,
              first sorted by q^T L q.  No Q on a side above `largest_side`; biases have none
              m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) (Q_L^T g Q_R)^2;  before L, R:
              W <- (1 - eta lambda) [W - eta sqrt(1 - beta2^k) / (1 - beta1^k)
                                     Q_L ((Q_L^T m Q_R) / (sqrt(v) + epsilon)) Q_R^T]  (Vyas et al. 2024, 2409.11321)
(6)  sgd-hd:  alpha <- alpha + beta <g, g_last>;  W <- W - alpha g, alpha of all parameters; a schedule multiplies
              alpha in the step alone                                             (Baydin et al. 2018, arXiv 1703.04782)
(7)  osgm:    x+ = x - P * g;  g+, f(x+) on the same batch;  H = -(g+ * g) / ||g||^2, all parameters in one norm
              S <- S + H^2;  P <- P - eta H / (sqrt(S) + epsilon);  x <- x+ unless f(x+) > f(x); a schedule
              multiplies P, in x+ and in H, and not eta           (Gao et al. 2024, arXiv 2411.01803; 2025, 2502.11229)
"""

import math

import torch
from torch import Tensor

from am.reference import Slow
from am.reference.gradient import adam_direction, course, rate, running, step_of


def square(tensors: dict[str, Tensor]) -> Tensor:
    return sum((t * t).sum() for t in tensors.values())


def nadamw(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (1)
    hp, t = s.hp, k + 1
    mu = [hp.beta1 * (1 - 0.96 ** (i * hp.momentum_decay) / 2) for i in range(1, t + 2)]
    m, v = running(s, "m", name, hp.beta1, g), running(s, "v", name, hp.beta2, g**2)
    direction = (1 - mu[-2]) / (1 - math.prod(mu[:-1])) * g + mu[-1] / (1 - math.prod(mu)) * m
    return -eta * (hp.weight_decay * s.u[name] + direction / (torch.sqrt(v / (1 - hp.beta2**t)) + hp.epsilon))


def schedule_free_start(s: Slow) -> None:
    s.memory = {(kind, name): s.u[name] for kind in "yz" for name in s.trained} | {"sum": 0.0}


def schedule_free_step(s: Slow, k: int) -> None:  # (2)
    hp, memory, t = s.hp, s.memory, k + 1
    eta = hp.learning_rate * (min(1.0, t / hp.warmup_steps) if hp.warmup_steps else 1.0)
    memory["sum"] += eta**2
    c = eta**2 / memory["sum"]
    at = {name: memory["y", name] for name in s.trained}
    for name, g in s.gradient(s.trained, *s.batch(k), at).items():
        root = torch.sqrt(running(s, "v", name, hp.beta2, g**2) / (1 - hp.beta2**t)) + hp.epsilon
        z = memory["z", name] - eta * hp.weight_decay * at[name] - eta * g / root
        s.u[name] = (1 - c) * s.u[name] + c * z
        memory["z", name], memory["y", name] = z, (1 - hp.beta1) * z + hp.beta1 * s.u[name]


def prodigy_start(s: Slow) -> None:
    s.memory = {("start", name): s.u[name] for name in s.trained} | {"r": 0.0}
    s.u["d"] = torch.full((1, 1), s.hp.d_0, dtype=s.x.dtype, device=s.x.device)


def prodigy_step(s: Slow, k: int) -> None:  # (3)
    hp, memory, d, beta3 = s.hp, s.memory, float(s.u["d"]), math.sqrt(s.hp.beta2)
    eta, gradient = rate(s, k), s.gradient(s.trained, *s.batch(k))
    w = d**2 * eta / hp.d_0
    memory["r"] = beta3 * memory["r"]
    for name, g in gradient.items():
        memory["r"] += w * float((g * (memory["start", name] - s.u[name])).sum())
    length = sum(float(running(s, "s", name, beta3, g, add=w).abs().sum()) for name, g in gradient.items())
    larger = max(d, hp.d_coef * memory["r"] / length) if length else d
    for name, g in gradient.items():
        m, v = running(s, "m", name, hp.beta1, d * g), running(s, "v", name, hp.beta2, (d * g) ** 2)
        if length:
            decayed = (1 - d * eta * hp.weight_decay) * s.u[name]
            s.u[name] = decayed - d * eta * m / (torch.sqrt(v) + larger * hp.epsilon)
    s.u["d"] = torch.full_like(s.u["d"], larger)


def newton_schulz(U: Tensor) -> Tensor:  # (4), (d_out, d_in) -> the same
    a, b, c = 3.4445, -4.7750, 2.0315
    X = U / max(float(torch.sqrt((U * U).sum())), 1e-7)
    for _ in range(5):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


def muon(s: Slow, name: str, g: Tensor, eta: float, k: int) -> Tensor:  # (4)
    hp, W = s.hp, s.u[name]
    if name.startswith("b") or name == f"W{s.depth}":
        eta = hp.adam_rate * course(s, k)
        direction = adam_direction(s, name, g, k, hp.beta1, hp.beta2, hp.epsilon)
    else:
        M = running(s, "M", name, hp.momentum, g)
        direction = max(1.0, W.shape[0] / W.shape[1]) ** 0.5 * newton_schulz((1 - hp.momentum) * g + hp.momentum * M)
    return -eta * (hp.weight_decay * W + direction)


def soap_step(s: Slow, k: int) -> None:  # (5)
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


def soap_move(s: Slow, name: str, g: Tensor, k: int) -> None:  # (5)
    hp, eta, (QL, QR) = s.hp, rate(s, k), bases(s, name, g)
    m = running(s, "m", name, hp.beta1, g)
    seen, turned = QL.T @ g.view(len(QL), -1) @ QR, QL.T @ m.view(len(QL), -1) @ QR
    v = running(s, "v", name, hp.beta2, seen**2)
    direction = (QL @ (turned / (torch.sqrt(v) + hp.epsilon)) @ QR.T).view(g.shape)
    corrected = eta * math.sqrt(1 - hp.beta2**k) / (1 - hp.beta1**k)
    s.u[name] = (1 - eta * hp.weight_decay) * (s.u[name] - corrected * direction)


def soap_bases(s: Slow, name: str, g: Tensor, k: int) -> None:  # (5)
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


def sgd_hd_step(s: Slow, k: int) -> None:  # (6)
    gradient, last = s.gradient(s.trained, *s.batch(k)), s.memory
    s.u["alpha"] = s.u["alpha"] + s.hp.beta * sum((g * last[name]).sum() for name, g in gradient.items() if last)
    for name, g in gradient.items():
        s.u[name] = s.u[name] - course(s, k) * s.u["alpha"].view(()) * g
    s.memory = gradient


def osgm_start(s: Slow) -> None:
    s.u |= {f"P_{name}": torch.full_like(s.u[name], s.hp.p_0) for name in s.trained}


def osgm_step(s: Slow, k: int) -> None:  # (7)
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


STARTS = {
    "schedule-free-adamw": schedule_free_start,
    "prodigy": prodigy_start,
    "sgd-hd": sgd_hd_start,
    "osgm": osgm_start,
}
STEPS = {
    "nadamw": step_of(nadamw),
    "schedule-free-adamw": schedule_free_step,
    "prodigy": prodigy_step,
    "muon": step_of(muon),
    "soap": soap_step,
    "sgd-hd": sgd_hd_step,
    "osgm": osgm_step,
}
