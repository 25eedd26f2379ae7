"""Slow reference of BCD: one run, NumPy float64, samples x features, each block from its own normal equations.

Equations, after SPEC 4 (N layers, V_0 = X, Y one-hot):

(1)  V_N:  argmin 1/2 ||V - Y||^2 + gamma/2 ||V - U_N||^2 + alpha/2 ||V - V_N||^2
(2)  U_N:  argmin gamma/2 ||V_N - U||^2 + rho/2 ||U - V_{N-1} W_N^T - b_N||^2
(3)  (W_i, b_i), each at the other's last value:
     W_i = argmin rho/2 ||U_i - V_{i-1} W^T - b_i||^2 + alpha_weights/2 ||W - W_i||^2,
     b_i = argmin rho/2 ||U_i - V_{i-1} W_i^T - b||^2 + alpha_weights/2 ||b - b_i||^2
(4)  V_i, i < N:  argmin gamma/2 ||V - h(U_i)||^2 + rho/2 ||U_{i+1} - V W_{i+1}^T - b_{i+1}||^2
(5)  U_i, i < N, by entry:
     argmin gamma/2 ||V_i - h(U)||^2 + rho/2 ||U - V_{i-1} W_i^T - b_i||^2 + alpha/2 ||U - U_i||^2
(6)  one sweep: (1), (2), (3) for N; then (4), (5), (3) for i = N-1, ..., 1
(7)  the loss that the authors report: gamma/2 ||V_N - Y||^2 + rho/2 sum_i ||U_i - V_{i-1} W_i^T - b_i||^2
"""

import numpy as np
from oracles.dladmm import SCALAR, prox_entries


class Oracle:
    """The variables of one run. W[i], b[i], U[i] are layer i + 1's; V[i] is the input of layer i + 1, V[0] = X."""

    def __init__(self, x, y, W, b, activation, gamma, rho, alpha, alpha_weights):
        self.activation, self.h = activation, SCALAR[activation][0]
        self.gamma, self.rho, self.alpha, self.alpha_weights = gamma, rho, alpha, alpha_weights
        self.N, self.W, self.b, self.U, self.V = len(W), list(W), list(b), [], [x]
        for i in range(self.N):
            self.U.append(self.V[i] @ W[i].T + b[i])
            self.V.append(self.h(self.U[i]) if i < self.N - 1 else self.U[i])
        self.Y = (np.arange(len(b[-1])) == y[:, None]).astype(float)

    def iterate(self, k):  # (6)
        last, gamma, rho, alpha = self.N - 1, self.gamma, self.rho, self.alpha
        self.V[last + 1] = (self.Y + gamma * self.U[last] + alpha * self.V[last + 1]) / (1 + gamma + alpha)  # (1)
        self.U[last] = (gamma * self.V[last + 1] + rho * self.product(last)) / (gamma + rho)  # (2)
        self.update_layer(last)
        for i in reversed(range(last)):
            self.update_V(i)
            self.update_U(i)
            self.update_layer(i)

    def product(self, i):
        return self.V[i] @ self.W[i].T + self.b[i]

    def update_layer(self, i):  # (3)
        V, U, W, b = self.V[i], self.U[i], self.W[i], self.b[i]
        A = self.rho * V.T @ V + self.alpha_weights * np.eye(V.shape[1])
        rows = [np.linalg.solve(A, self.alpha_weights * W[j] + self.rho * V.T @ (U[:, j] - b[j])) for j in range(len(W))]
        residual = np.sum(U - V @ W.T, axis=0)
        self.W[i] = np.array(rows)
        self.b[i] = (self.alpha_weights * b + self.rho * residual) / (self.rho * len(U) + self.alpha_weights)

    def update_V(self, i):  # (4)
        W, rest = self.W[i + 1], self.U[i + 1] - self.b[i + 1]
        A = self.rho * W.T @ W + self.gamma * np.eye(W.shape[1])
        s = self.h(self.U[i])
        self.V[i + 1] = np.array(
            [np.linalg.solve(A, self.rho * W.T @ rest[n] + self.gamma * s[n]) for n in range(len(rest))]
        )

    def update_U(self, i):  # (5)
        c = (self.rho * self.product(i) + self.alpha * self.U[i]) / (self.rho + self.alpha)
        self.U[i] = prox_entries(self.activation, c, self.V[i + 1], self.gamma / (self.rho + self.alpha))

    def objective(self):  # (7)
        value = self.gamma / 2 * np.sum((self.V[-1] - self.Y) ** 2)
        return value + sum(self.rho / 2 * np.sum((self.U[i] - self.product(i)) ** 2) for i in range(self.N))
