"""Slow reference of AM-Adam: one run, samples x features, losses as SPEC 4 writes them, gradients by differentiation.

Equations, for one mini-batch (x, y), with c_0 = x and no h on it:

(1) c0_l = z_l of the forward pass, l < L
(2) for l = L-1 .. 1: c = c0_l, v = 0, then n times
    g = grad_c [1/mu loss_l + mse(c, c0_l)];  v <- m v + g;  c <- c - rate (g + m v)
    loss_{L-1} = CE(W_L h(c) + b_L, y), loss_l = mu mse(W_{l+1} h(c), c_{l+1}) at the new c_{l+1}
(3) one Adam step of (W_L, b_L) on CE(W_L h(c_{L-1}) + b_L, y)
(4) one Adam step of each W_l, l < L, on mse(W_l h(c_{l-1}), c_l)
(5) Adam: m <- .9 m + .1 g, v <- .999 v + .001 g^2, W <- W - rate mhat / (sqrt(vhat) + 1e-8), mhat = m / (1 - .9^k),
    vhat = v / (1 - .999^k), k = 1, 2, ..; rate halved every `halve_every` epochs
Released: c0_l of (2) is c_l's clone with its gradient attached, at every step.
"""

import torch
import torch.nn.functional as F


class Oracle:
    """W_1 .. W_L, b_L and the codes of one run."""

    def __init__(self, x, y, batches, W, b, activation, *, learning_rate, halve_every, mu, released, **codes):
        self.x, self.y, self.batches, self.h = x, y, batches, getattr(F, activation)
        self.rate, self.halve_every, self.mu, self.released = learning_rate, halve_every, mu, released
        self.code_rate, self.code_momentum = codes["code_rate"], codes["code_momentum"]
        self.code_steps = codes["code_steps"]
        self.W, self.b, self.moments = [w.clone() for w in W], b[-1].clone(), {}
        self.last = len(W) - 1

    def loss(self, l, W, b, below, x, y):
        """The loss of layer l given the codes, mse or CE; `below` is the code that feeds it."""
        out = (self.h(below) if l else x) @ W.T
        return F.cross_entropy(out + b, y) if l == self.last else F.mse_loss(out, self.codes[l])

    def step(self, k):
        rows = self.batches[k % len(self.batches)]
        x, y = self.x[rows], self.y[rows]
        self.codes = []
        for l in range(self.last):  # (1)
            self.codes.append((self.h(self.codes[-1]) if l else x) @ self.W[l].T)
        for l in reversed(range(self.last)):
            self.codes[l] = self.move(l, x, y)
        rate = self.rate / 2 ** (k // len(self.batches) // self.halve_every)
        for l in range(self.last + 1):  # (3), (4)
            W, b = self.W[l].clone().requires_grad_(), self.b.clone().requires_grad_()
            self.loss(l, W, b, self.codes[l - 1] if l else None, x, y).backward()
            self.W[l] = self.adam(f"W{l}", self.W[l], W.grad, rate, k + 1)
            if l == self.last:
                self.b = self.adam("b", self.b, b.grad, rate, k + 1)

    def move(self, l, x, y):  # (2)
        start = self.codes[l]
        c, v = start, 0.0
        for _ in range(self.code_steps):
            leaf = c.clone().requires_grad_()
            target = leaf.clone() if self.released else start
            weight = 1 / self.mu if l + 1 == self.last else 1.0  # 1/mu mu
            loss = weight * self.loss(l + 1, self.W[l + 1], self.b, leaf, x, y) + F.mse_loss(leaf, target)
            (g,) = torch.autograd.grad(loss, leaf)
            v = self.code_momentum * v + g
            c = c - self.code_rate * (g + self.code_momentum * v)
        return c

    def adam(self, name, u, g, rate, k):  # (5)
        m, v = self.moments.get(name, (0.0, 0.0))
        m, v = self.moments[name] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        return u - rate * (m / (1 - 0.9**k)) / (torch.sqrt(v / (1 - 0.999**k)) + 1e-8)
