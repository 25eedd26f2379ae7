"""Slow reference of SAMT: one run, samples x features, every gradient by automatic differentiation of the whole loss.

Equations, after SPEC 3, for mini-batch S_k and each block l in turn:

(1) T times: g_t = grad_(W_l, b_l) F(current; S_k);  W_l <- W_l - alpha_l * g_t;  b_l <- b_l - alpha^b_l g_t
(2) q = grad_(W_l, b_l) F(current; Q_k), Q_k = S_{k+1} (after the last comes the first) or S_k
(3) H_l = -reduce((sum_t g_t) * q)
(4) meta = gd:        alpha_l <- clip(alpha_l - beta H_l, 1e-6, 10)
(5) meta = log_adam:  log alpha_l <- log alpha_l - beta Adam(alpha_l * H_l), Adam .9/.999/1e-12, then clipped as in (4)
"""

import torch
import torch.nn.functional as F


class Oracle:
    """W, b, step sizes alpha["W1"], alpha["b1"], ... of one run."""

    def __init__(self, x, y, batches, W, b, activation, alpha0, beta, shape, inner_steps, order, query, meta):
        self.x, self.y, self.batches, self.h = x, y, batches, getattr(F, activation)
        self.beta, self.shape, self.T, self.order, self.query, self.meta = beta, shape, inner_steps, order, query, meta
        self.params = {f"W{l}": w for l, w in enumerate(W, 1)} | {f"b{l}": v for l, v in enumerate(b, 1)}
        self.alpha, self.m, self.v = {}, {}, {}
        for name, u in self.params.items():
            self.alpha[name] = alpha0 * torch.ones_like(self.reduce(name, u))
            self.m[name], self.v[name] = torch.zeros_like(self.alpha[name]), torch.zeros_like(self.alpha[name])
        self.L = len(W)

    def reduce(self, name, u):
        """Sum over the entries that share a step size."""
        if name[0] == "b":
            return u.sum().reshape(1)
        rows, columns = u.shape
        if self.shape == "scalar":
            return u.sum().reshape(1, 1)
        if self.shape == "row":
            return u.sum(1).reshape(rows, 1)
        return u.sum(0).reshape(1, columns) if self.shape == "column" else u

    def gradient(self, l, k):
        """The gradient of the mean cross-entropy on batch k with respect to W_l and b_l."""
        rows = self.batches[k % len(self.batches)]
        leaves = {name: u.clone().requires_grad_() for name, u in self.params.items()}
        a = self.x[rows]
        for j in range(1, self.L + 1):
            z = a @ leaves[f"W{j}"].T + leaves[f"b{j}"]
            a = self.h(z)
        loss = F.cross_entropy(z, self.y[rows])
        return dict(zip((f"W{l}", f"b{l}"), torch.autograd.grad(loss, (leaves[f"W{l}"], leaves[f"b{l}"]))))

    def step(self, k):
        layers = range(1, self.L + 1)
        for l in layers if self.order == "forward" else reversed(layers):
            total = {f"W{l}": 0.0, f"b{l}": 0.0}
            for _ in range(self.T):  # (1)
                for name, g in self.gradient(l, k).items():
                    self.params[name] = self.params[name] - self.alpha[name] * g
                    total[name] = total[name] + g
            for name, q in self.gradient(l, k + 1 if self.query == "next" else k).items():  # (2)
                self.learn(name, -self.reduce(name, total[name] * q), k)  # (3)

    def learn(self, name, H, k):
        alpha = self.alpha[name]
        if self.meta == "gd":  # (4)
            alpha = alpha - self.beta * H
        else:  # (5)
            g = alpha * H
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g**2
            m, v = self.m[name] / (1 - 0.9 ** (k + 1)), self.v[name] / (1 - 0.999 ** (k + 1))
            alpha = torch.exp(torch.log(alpha) - self.beta * m / (torch.sqrt(v) + 1e-12))
        self.alpha[name] = alpha.clamp(1e-6, 10.0)
