"""Slow reference of the penalised problem's methods: TIAM, mDLAM and mDLAM as its authors released it.

One run, NumPy float64, samples x features, every f evaluated from the data. Equations, after SPEC 1, 2 and 5:

(1)  F = R(z_L, y) + sum_l [rho/2 ||z_l - a_{l-1} W_l^T - b_l||^2 + mu/2 ||W_l||^2]
(2)  eps_k = max(eps_0 2^-k, eps_min);  a_l <- clip(a_l, h(z_l) - eps_k, h(z_l) + eps_k) before iteration k
(3)  W_l:  u+ = u~ - grad f(u^)/theta, theta = theta_0 2^j, first j with rho ||D a^T||^2 + mu ||D||^2 <= theta ||D||^2,
     D = u+ - u^; or theta = lambda_max of the Hessian
(4)  b_l:  u+ = b~ - (b^ - m), m = mean_n(z_n - W a_n)
(5)  z_l:  u+ = projection of z~ - (z^ - c), c = a_{l-1} W_l^T + b_l, on {z : a_l - eps <= h(z) <= a_l + eps}
(6)  a_l:  u+ = projection of a~ - grad f(a^)/tau on [h(z_l) - eps, h(z_l) + eps],
     tau = tau_0 2^j, first j with rho ||D W_{l+1}^T||^2 <= tau ||D||^2
(7)  z_L:  u+ = argmin_z CE(z, y) + rho/2 ||z - (z~ - (z^ - c))||^2
(8)  d = u^k - u^{k-1};  u~ = u^k + p1 d;  u^ = u^k + p2 d;  u^{k+1} = P(u+ + p3 (u+ - u^k))
(9)  if f(u^{k+1}) > f(u^k): (8) again with p1 = p2 = p3 = 0
(10) s_{k+1} = (1 + sqrt(1 + 4 s_k^2))/2, s_0 = 0, omega = (s_k - 1)/s_{k+1}, step at u^k + omega d
"""

import math

import numpy as np

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # of SELU


def elu(z, scale=1.0, alpha=1.0):
    return scale * z if z > 0 else scale * alpha * math.expm1(z)


def elu_inverse(v, scale=1.0, alpha=1.0):
    return v / scale if v > 0 else math.log(1 + v / (scale * alpha))


# name -> h, its inverse, the lower end of its range, whether h reaches that end, the upper end
SCALAR = {
    "relu": (lambda z: max(z, 0.0), lambda v: v, 0.0, True, math.inf),
    "relu6": (lambda z: min(max(z, 0.0), 6.0), lambda v: v, 0.0, True, 6.0),
    "leaky_relu": (lambda z: z if z > 0 else 0.01 * z, lambda v: v if v > 0 else 100 * v, -math.inf, False, math.inf),
    "elu": (elu, elu_inverse, -1.0, False, math.inf),
    "celu": (elu, elu_inverse, -1.0, False, math.inf),
    "selu": (lambda z: elu(z, SCALE, ALPHA), lambda v: elu_inverse(v, SCALE, ALPHA), -SCALE * ALPHA, False, math.inf),
    "softplus": (lambda z: math.log1p(math.exp(z)), lambda v: math.log(math.expm1(v)), 0.0, False, math.inf),
}


class Oracle:
    """The variables of one run and the steps (2) to (9); `inertia(k)` gives (p1, p2, p3)."""

    def __init__(self, x, y, W, b, activation, inertia, rho, mu, epsilon_0, epsilon_min, theta_0, tau_0, step_rule):
        self.h, self.inverse, self.bottom, self.reached, self.top = SCALAR[activation]
        self.x, self.y, self.inertia, self.rho, self.mu = x, y, inertia, rho, mu
        self.epsilon_0, self.epsilon_min, self.step_rule = epsilon_0, epsilon_min, step_rule
        self.theta_0, self.tau_0 = theta_0, tau_0
        self.L = len(W)
        self.W, self.b, self.z, self.a, self.last = list(W), list(b), [], [x], {}
        for l in range(self.L):  # a[0] is X; a[l + 1] = h(z[l])
            self.z.append(self.a[l] @ W[l].T + b[l])
            self.a.append(self.activate(self.z[l]))
        self.a.pop()
        self.z[-1] = np.where(np.arange(len(b[-1])) == y[:, None], 1.0, -1.0)

    def activate(self, z):
        return np.array([[self.h(v) for v in row] for row in z])

    def objective(self):  # (1)
        penalties = 0.0
        for l in range(self.L):
            residual = self.z[l] - self.a[l] @ self.W[l].T - self.b[l]
            penalties += self.rho / 2 * np.sum(residual**2) + self.mu / 2 * np.sum(self.W[l] ** 2)
        return self.risk(self.z[-1]) + penalties

    def risk(self, z):
        return sum(logsumexp(z[n]) - z[n, self.y[n]] for n in range(len(z)))

    def iterate(self, k):
        self.epsilon = max(self.epsilon_0 / 2**k, self.epsilon_min)
        self.p = self.inertia(k)
        self.clip()
        for l in range(self.L):
            self.update_weight(l)
            self.update_bias(l)
            if l < self.L - 1:
                self.update_hidden(l)
                self.update_activation(l)
            else:
                self.update_output(l)

    def clip(self):  # (2)
        for l in range(1, self.L):
            h = self.activate(self.z[l - 1])
            self.a[l] = np.clip(self.a[l], h - self.epsilon, h + self.epsilon)

    def block(self, name, u, step, project, change):
        """(8) and (9); step(u~, u^) -> u+, change(u, v) = f(v) - f(u)."""
        d = u - self.last.get(name, u)
        self.last[name] = u

        def three(p1, p2, p3):
            plus = step(u + p1 * d, u + p2 * d)
            return project(plus + p3 * (plus - u))

        new = three(*self.p)
        if change(u, new) > 0:
            new = three(0.0, 0.0, 0.0)
        return new

    def update_weight(self, l):  # (3)
        A, target = self.a[l], self.z[l] - self.b[l]

        def step(tilde, hat):
            gradient = self.rho * (hat @ A.T - target.T) @ A + self.mu * hat
            if self.step_rule == "lipschitz":
                return tilde - gradient / (self.rho * np.linalg.norm(A, 2) ** 2 + self.mu)
            theta = self.theta_0
            while True:
                D = tilde - gradient / theta - hat
                if self.rho * np.sum((A @ D.T) ** 2) + self.mu * np.sum(D**2) <= theta * np.sum(D**2):
                    return hat + D
                theta *= 2

        def change(u, v):
            AD, residual = A @ (v - u).T, target - A @ u.T
            penalty = np.sum((v - u) * (v + u))
            return self.rho / 2 * np.sum(AD * (AD - 2 * residual)) + self.mu / 2 * penalty

        self.W[l] = self.block(f"W{l}", self.W[l], step, lambda u: u, change)

    def update_bias(self, l):  # (4)
        m = np.mean(self.z[l] - self.a[l] @ self.W[l].T, axis=0)
        change = lambda u, v: np.sum((v - m) ** 2) - np.sum((u - m) ** 2)
        self.b[l] = self.block(f"b{l}", self.b[l], lambda tilde, hat: tilde - (hat - m), lambda u: u, change)

    def update_hidden(self, l):  # (5)
        c = self.a[l] @ self.W[l].T + self.b[l]
        lower, upper = self.preimage(self.a[l + 1])
        project = lambda u: np.clip(u, lower, upper)
        change = lambda u, v: np.sum((v - c) ** 2) - np.sum((u - c) ** 2)
        self.z[l] = self.block(f"z{l}", self.z[l], lambda tilde, hat: project(tilde - (hat - c)), project, change)

    def preimage(self, a):
        """The ends of {z : a - eps <= h(z) <= a + eps}, entry by entry; an open end counts from 1e-6 above itself."""
        end = self.bottom if self.reached else self.bottom + 1e-6
        lower, upper = np.empty_like(a), np.empty_like(a)
        for at, value in np.ndenumerate(a):
            lo, hi = value - self.epsilon, value + self.epsilon
            free = lo <= end if self.reached else lo < end
            lower[at] = -math.inf if free else self.inverse(min(lo, self.top))
            upper[at] = math.inf if hi >= self.top else self.inverse(max(hi, end))
        return lower, upper

    def update_activation(self, l):  # (6)
        W, target = self.W[l + 1], self.z[l + 1] - self.b[l + 1]
        h = self.activate(self.z[l])
        project = lambda u: np.clip(u, h - self.epsilon, h + self.epsilon)

        def step(tilde, hat):
            gradient = self.rho * (hat @ W.T - target) @ W
            if self.step_rule == "lipschitz":
                curvature = self.rho * np.linalg.norm(W, 2) ** 2
                return project(tilde - gradient / curvature if curvature > 0 else tilde)
            tau = self.tau_0
            while True:
                plus = project(tilde - gradient / tau)
                D = plus - hat
                if self.rho * np.sum((D @ W.T) ** 2) <= tau * np.sum(D**2):
                    return plus
                tau *= 2

        def change(u, v):
            WD, residual = (v - u) @ W.T, target - u @ W.T
            return self.rho / 2 * np.sum(WD * (WD - 2 * residual))

        self.a[l + 1] = self.block(f"a{l + 1}", self.a[l + 1], step, project, change)

    def update_output(self, l):  # (7)
        c = self.a[l] @ self.W[l].T + self.b[l]
        f = lambda z: self.risk(z) + self.rho / 2 * np.sum((z - c) ** 2)
        step = lambda tilde, hat: prox(tilde - (hat - c), self.y, self.rho)
        self.z[l] = self.block(f"z{l}", self.z[l], step, lambda u: u, lambda u, v: f(v) - f(u))


def nesterov(k):  # (10)
    """omega_k; 0 at k = 0, where there is nothing to extrapolate."""
    s = [0.0]
    for _ in range(k + 1):
        s.append((1 + math.sqrt(1 + 4 * s[-1] ** 2)) / 2)
    return (s[k] - 1) / s[k + 1] if k else 0.0


class ReleasedOracle(Oracle):
    """mDLAM as released (SPEC 5), block by block, with its safeguards on the whole objective as it stands there.

    `inertia(k)` gives the coefficient of the extrapolation. b_2 is never updated and b_L twice; the safeguards of b_L
    and z_L put W_L back and those of a_l, l > 1, a_{l-1} too; mu/2 ||W||^2 counts twice; after 10 doublings W_l and a_l
    keep the point they had; nothing clips a_l before an iteration.
    """

    def objective(self):
        return super().objective() + self.mu / 2 * sum(np.sum(W**2) for W in self.W)

    def iterate(self, k):
        self.epsilon = max(self.epsilon_0 / 2**k, self.epsilon_min)
        omega = self.inertia(k)
        for l in range(self.L):
            old_W, old_b, old_z = self.W[l], self.b[l], self.z[l]
            last_layer = l == self.L - 1

            self.W[l] = self.released_weight(l, self.extrapolate(f"W{l}", old_W, omega))
            if self.objective() > self.objective_with("W", {l: old_W}):
                self.W[l] = self.released_weight(l, old_W)

            if l != 1:
                self.b[l] = self.released_bias(l, self.extrapolate(f"b{l}", old_b, omega))
                before = self.objective_with("W", {l: old_W}) if last_layer else self.objective_with("b", {l: old_b})
                if self.objective() > before:
                    self.b[l] = self.released_bias(l, old_b)
                if last_layer:
                    self.b[l] = self.released_bias(l, self.b[l])

            released_z = self.released_output if last_layer else self.released_hidden
            self.z[l] = released_z(l, self.extrapolate(f"z{l}", old_z, omega))
            before = self.objective_with("W", {l: old_W}) if last_layer else self.objective_with("z", {l: old_z})
            if self.objective() > before:
                self.z[l] = released_z(l, old_z)

            if not last_layer:
                old_a = self.a[l + 1]
                self.a[l + 1] = self.released_activation(l, self.extrapolate(f"a{l + 1}", old_a, omega))
                put_back = {l: self.before_a, l + 1: old_a} if l else {l + 1: old_a}
                if self.objective() > self.objective_with("a", put_back):
                    self.a[l + 1] = self.released_activation(l, old_a)
                self.before_a = old_a

    def extrapolate(self, name, u, omega):
        d = u - self.last.get(name, u)
        self.last[name] = u
        return u + omega * d

    def objective_with(self, kind, values):
        """The objective with some blocks of one kind put back."""
        blocks = getattr(self, kind)
        now = list(blocks)
        for l, value in values.items():
            blocks[l] = value
        value = self.objective()
        blocks[:] = now
        return value

    def released_weight(self, l, start):
        A, target = self.a[l], self.z[l] - self.b[l]
        gradient = self.rho * (start @ A.T - target.T) @ A + self.mu * start
        for doublings in range(11):
            theta = self.theta_0 * 2**doublings
            D = -gradient / theta
            if self.rho * np.sum((A @ D.T) ** 2) + self.mu * np.sum(D**2) <= theta * np.sum(D**2):
                return start + D
        return start

    def released_bias(self, l, start):
        return start - np.mean(self.a[l] @ self.W[l].T + start - self.z[l], axis=0)

    def released_hidden(self, l, start):
        gradient = start - self.b[l] - self.a[l] @ self.W[l].T
        return np.clip(start - gradient, *self.preimage(self.a[l + 1]))

    def released_activation(self, l, start):
        W, target = self.W[l + 1], self.z[l + 1] - self.b[l + 1]
        h = self.activate(self.z[l])
        gradient = self.rho * (start @ W.T - target) @ W
        for doublings in range(11):
            tau = self.tau_0 * 2**doublings
            D = np.clip(start - gradient / tau, h - self.epsilon, h + self.epsilon) - start
            if self.rho * np.sum((D @ W.T) ** 2) <= tau * np.sum(D**2):
                return start + D
        return start

    def released_output(self, l, start):
        gradient = start - self.b[l] - self.a[l] @ self.W[l].T
        return prox(start - gradient, self.y, self.rho)


def prox(c, y, rho):
    """(7) per sample: Newton with step halving on CE(z, y) + rho/2 ||z - c||^2."""
    z = c.copy()
    for n in range(len(c)):
        target = np.arange(c.shape[1]) == y[n]
        f = lambda v: logsumexp(v) - v[y[n]] + rho / 2 * np.sum((v - c[n]) ** 2)
        for _ in range(200):
            p = np.exp(z[n] - logsumexp(z[n]))
            gradient = p - target + rho * (z[n] - c[n])
            direction = np.linalg.solve(np.diag(p + rho) - np.outer(p, p), gradient)
            length, slope = 1.0, gradient @ direction
            while length > 1e-3 and f(z[n] - length * direction) > f(z[n]) - length * slope / 10 + 1e-14:
                length /= 2
            z[n] -= length * direction
            if np.max(np.abs(direction)) < 1e-14 * (1 + np.max(np.abs(z[n]))):
                break
    return z


def logsumexp(v):
    top = np.max(v)
    return top + math.log(np.sum(np.exp(v - top)))
