"""What a stranger's solver looks like: one file, numpy alone. Accelerated projected gradient, off rows by a penalty.

    min_{h >= 0}  1/2 |W_on h + b - y|^2 + lam 1'h + rho/2 |(W_off h + b)+|^2

with rho = 1e3: near the problem's answer where off rows bind, and no more than near.
"""

import numpy as np
from benchopt import BaseSolver


class Solver(BaseSolver):
    name = "penalised gradient"
    requirements = []
    sampling_strategy = "iteration"
    parameters = {"rho": [1e3]}

    def set_objective(self, W, b, y, on, off, lam):
        self.W, self.b, self.y, self.on, self.off, self.lam = W, b, y, on, off, lam[:, None]

    def run(self, n_iter):
        step = 1 / (max(1.0, self.rho) * np.linalg.norm(self.W, 2) ** 2)
        h = ahead = np.zeros((len(self.y), self.W.shape[1]))
        t = 1.0
        for _ in range(n_iter):
            v = ahead @ self.W.T + self.b
            slope = np.where(self.on, v - self.y, 0.0) + self.rho * np.where(self.off, np.maximum(v, 0.0), 0.0)
            new = np.maximum(ahead - step * (slope @ self.W + self.lam), 0.0)
            t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
            ahead, h, t = new + (t - 1) / t_new * (new - h), new, t_new
        self.h = h

    def get_result(self):
        return {"h": self.h}
