"""Slow reference of dlADMM: one run, NumPy float64, samples x features, every trial evaluated from the data.

Equations, after SPEC 4, with t_l = z_l for l < L and t_L = z_L + u/rho:

(1)  L = R(z_L, y) + <u, z_L - a_{L-1} W_L^T - b_L> + rho/2 sum_l ||z_l - a_{l-1} W_l^T - b_l||^2
         + rho/2 sum_{l<L} ||a_l - h(z_l)||^2
(2)  z_L:  FISTA on f = CE(z, y) + rho/2 ||z - c||^2, c = a_{L-1} W_L^T + b_L - u/rho, from the last z_L; step 4, at
     most 500, until |f - f_last| < 1e-3; softmax as released, e^z / (sum e^z + 1e-10). Or the minimiser, by Newton
(3)  b_l:  mean_n(t_l - a_{l-1} W_l^T)
(4)  W_l:  W - g/theta, g = -rho (t_l - a_{l-1} W_l^T - b_l)^T a_{l-1}, first theta = theta_0 2^j with
     rho ||a_{l-1} D^T||^2 <= theta ||D||^2, D = -g/theta
(5)  a_l:  a - g/tau, g = -rho (t_{l+1} - a W^T - b) W + rho (a - h(z_l)), first tau = tau_0 2^j with
     rho ||D W^T||^2 + rho ||D||^2 <= tau ||D||^2; W, b of layer l+1
(6)  z_l:  argmin_z (z - c)^2 + (a_l - h(z))^2, c = a_{l-1} W_l^T + b_l, entry by entry, l < L
(7)  one iteration: (2), (3), (4), (5) for a_{L-1}; then (6), (3), (4), (5) downwards to W_1; then upwards from W_1
     (4), (3), (6), (5), ..., (4), (3), (2);  u <- u + rho (z_L - a_{L-1} W_L^T - b_L)
(8)  schedule: after an iteration in which the network's training cost rose for the third time in a row, or more,
     rho <- min(10 rho, .1); theta_0 and tau_0 x 10 where the first hidden layer has at least 100 units
"""

import math

import numpy as np

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # of SELU


def elu(scale=1.0, alpha=1.0):
    value = lambda z: np.where(z > 0, scale * z, scale * alpha * np.expm1(np.minimum(z, 0)))
    return value, lambda z: np.where(z > 0, scale, scale * alpha * np.exp(np.minimum(z, 0))), (0.0,)


# name -> h, h' off the kinks, the kinks
SCALAR = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0), (0.0,)),
    "relu6": (lambda z: np.clip(z, 0, 6), lambda z: np.where((z > 0) & (z < 6), 1.0, 0.0), (0.0, 6.0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01), (0.0,)),
    "elu": elu(),
    "celu": elu(),
    "selu": elu(SCALE, ALPHA),
    "softplus": (lambda z: np.logaddexp(0, z), lambda z: 1 / (1 + np.exp(-z)), ()),
}
CELLS = 400


def scalar_prox(activation, c, a, w):
    """argmin_z (z - c)^2 + w (a - h(z))^2 for numbers c, a, w: every minimum that a grid with the kinks brackets.

    All lie where (z - c)^2 is at most the objective at c.
    """
    h, slope, kinks = SCALAR[activation]
    objective = lambda z: (z - c) ** 2 + w * (a - h(z)) ** 2
    derivative = lambda z: z - c + w * slope(z) * (h(z) - a)
    reach = math.sqrt(w) * abs(a - float(h(c))) + 1e-9
    grid = np.linspace(c - reach, c + reach, CELLS + 1)
    inner = [kink for kink in kinks if abs(kink - c) < reach]
    grid = np.sort(np.concatenate([grid, inner]))
    left, right = grid[:-1], grid[1:]
    width = 1e-9 * (right - left)  # keeps off the kinks, where h' jumps
    minima = (derivative(left + width) < 0) & (derivative(right - width) > 0)
    candidates = [c, *inner]
    for low, high in zip(left[minima], right[minima]):
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if derivative(middle) > 0 else (middle, high)
        candidates.append((low + high) / 2)
    return min(candidates, key=lambda z: float(objective(z)))


def prox_entries(activation, c, a, w):
    return np.array([[scalar_prox(activation, u, v, w) for u, v in zip(*rows)] for rows in zip(c, a)])


class Oracle:
    """The variables of one run. W[l], b[l], z[l] are layer l + 1's; a[l] is the input of layer l + 1, a[0] = X."""

    def __init__(self, x, y, W, b, activation, rho, theta_0, tau_0, output_step, keep_step_sizes, rho_schedule):
        self.activation, self.h = activation, SCALAR[activation][0]
        self.rho, self.output_step = rho, output_step
        self.keep_step_sizes, self.rho_schedule = keep_step_sizes, rho_schedule
        self.L, self.W, self.b, self.z, self.a = len(W), list(W), list(b), [], [x]
        for l in range(self.L):
            self.z.append(self.a[l] @ W[l].T + b[l])
            self.a.append(self.h(self.z[l]))
        self.a.pop()
        self.label = np.arange(len(b[-1])) == y[:, None]
        self.z[-1] = np.where(self.label, 1.0, -1.0)
        self.u = np.zeros_like(self.z[-1])
        self.theta, self.tau = [theta_0] * self.L, [tau_0] * self.L
        self.costs = []

    def c(self, l):
        return self.a[l] @ self.W[l].T + self.b[l]

    def t(self, l):
        return self.z[l] + self.u / self.rho if l == self.L - 1 else self.z[l]

    def objective(self):  # (1)
        value = np.sum(logsumexp(self.z[-1])) - np.sum(self.z[-1][self.label])
        value += np.sum(self.u * (self.z[-1] - self.c(self.L - 1)))
        for l in range(self.L):
            value += self.rho / 2 * np.sum((self.z[l] - self.c(l)) ** 2)
        for l in range(self.L - 1):
            value += self.rho / 2 * np.sum((self.a[l + 1] - self.h(self.z[l])) ** 2)
        return value

    def iterate(self, k):  # (7)
        for l in reversed(range(self.L)):
            self.update_z(l)
            self.update_b(l)
            self.update_W(l)
            if l > 0:
                self.update_a(l)
        for l in range(self.L):
            self.update_W(l)
            self.update_b(l)
            self.update_z(l)
            if l < self.L - 1:
                self.update_a(l + 1)
        self.u = self.u + self.rho * (self.z[-1] - self.c(self.L - 1))
        self.lagrangian = self.objective()  # with the rho of this iteration
        if self.rho_schedule:
            self.follow_schedule()

    def update_z(self, l):
        if l < self.L - 1:
            self.z[l] = prox_entries(self.activation, self.c(l), self.a[l + 1], 1.0)  # (6)
        elif self.output_step == "fista":
            self.z[l] = self.fista(self.c(l) - self.u / self.rho, self.z[l])
        else:
            self.z[l] = self.newton(self.c(l) - self.u / self.rho)

    def fista(self, c, z):  # (2)
        f, lam, zeta = math.inf, 1.0, z
        for _ in range(500):
            p = np.exp(z) / (np.sum(np.exp(z), axis=1, keepdims=True) + 1e-10)
            f_last, f = f, -np.sum(np.log(p[self.label])) + self.rho / 2 * np.sum((z - c) ** 2)
            if abs(f - f_last) < 1e-3:
                break
            lam_last, lam = lam, (1 + math.sqrt(1 + 4 * lam**2)) / 2
            gamma = (1 - lam_last) / lam
            zeta_last, zeta = zeta, (self.rho * c + z / 4 - (p - self.label)) / (self.rho + 1 / 4)
            z = (1 - gamma) * zeta + gamma * zeta_last
        return z

    def newton(self, c):  # (2)
        z = c.copy()
        for n in range(len(c)):
            f = lambda v: logsumexp(v[None])[0] - v[self.label[n]][0] + self.rho / 2 * np.sum((v - c[n]) ** 2)
            for _ in range(200):
                p = np.exp(z[n] - logsumexp(z[n][None]))
                gradient = p - self.label[n] + self.rho * (z[n] - c[n])
                direction = np.linalg.solve(np.diag(p + self.rho) - np.outer(p, p), gradient)
                length = 1.0
                while length > 1e-3 and f(z[n] - length * direction) > f(z[n]) + 1e-14:
                    length /= 2
                z[n] = z[n] - length * direction
                if np.max(np.abs(direction)) < 1e-14 * (1 + np.max(np.abs(z[n]))):
                    break
        return z

    def update_b(self, l):  # (3)
        self.b[l] = np.mean(self.t(l) - self.a[l] @ self.W[l].T, axis=0)

    def update_W(self, l):  # (4)
        g = -self.rho * (self.t(l) - self.c(l)).T @ self.a[l]
        theta = self.theta[l]
        while self.rho * np.sum((self.a[l] @ (g / theta).T) ** 2) > theta * np.sum((g / theta) ** 2):
            theta *= 2
        self.W[l] = self.W[l] - g / theta
        if self.keep_step_sizes:
            self.theta[l] = theta

    def update_a(self, l):  # (5)
        W, a = self.W[l], self.a[l]
        g = -self.rho * (self.t(l) - self.c(l)) @ W + self.rho * (a - self.h(self.z[l - 1]))
        tau = self.tau[l]
        D = lambda: g / tau
        while self.rho * (np.sum((D() @ W.T) ** 2) + np.sum(D() ** 2)) > tau * np.sum(D() ** 2):
            tau *= 2
        self.a[l] = a - g / tau
        if self.keep_step_sizes:
            self.tau[l] = tau

    def follow_schedule(self):  # (8)
        out = self.a[0]
        for l in range(self.L):
            logits = out @ self.W[l].T + self.b[l]
            out = self.h(logits)
        self.costs.append((np.sum(logsumexp(logits)) - np.sum(logits[self.label])) / len(logits))
        if len(self.costs) > 3 and all(self.costs[-i] > self.costs[-i - 1] for i in (1, 2, 3)):
            self.rho = min(10 * self.rho, 0.1)
            if len(self.b[0]) >= 100:
                self.theta, self.tau = [10 * v for v in self.theta], [10 * v for v in self.tau]


def logsumexp(v):
    top = np.max(v, axis=1, keepdims=True)
    return (top + np.log(np.sum(np.exp(v - top), axis=1, keepdims=True)))[:, 0]
