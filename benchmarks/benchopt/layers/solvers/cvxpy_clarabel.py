"""The statement of the problem in CVXPY, one signal after the other, solved by CLARABEL to a tolerance."""

import cvxpy as cp
import numpy as np
from benchopt import BaseSolver


class Solver(BaseSolver):
    name = "CVXPY CLARABEL"
    requirements = ["pip::cvxpy"]
    sampling_strategy = "tolerance"

    def set_objective(self, W, b, y, on, off, lam):
        self.W, self.b, self.y, self.on, self.off, self.lam = W, b, y, on, off, lam

    def run(self, tolerance):
        tol = min(max(tolerance, 1e-12), 1e-1)
        self.h = np.stack([self._one(i, tol) for i in range(len(self.y))])

    def _one(self, i, tol):
        on, off, h = self.on[i], self.off[i], cp.Variable(self.W.shape[1], nonneg=True)
        misfit = cp.sum_squares(self.W[on] @ h + self.b[on] - self.y[i][on]) / 2
        limits = [self.W[off] @ h + self.b[off] <= 0] if off.any() else []
        problem = cp.Problem(cp.Minimize(misfit + self.lam[i] * cp.sum(h)), limits)
        problem.solve(solver="CLARABEL", tol_gap_abs=tol, tol_gap_rel=tol, tol_feas=tol)
        return np.zeros(self.W.shape[1]) if h.value is None else h.value

    def get_result(self):
        return {"h": self.h}
