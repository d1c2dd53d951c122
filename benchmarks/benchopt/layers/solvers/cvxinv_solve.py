"""cvxinv's own solvers of a layer problem, to a tolerance."""

import torch
from benchopt import BaseSolver

import cvxinv as ci


class Solver(BaseSolver):
    name = "cvxinv"
    requirements = ["pip::cvxinv"]
    sampling_strategy = "tolerance"
    parameters = {"solver": ["auto", "interior_point", "graph_admm"]}
    test_config = {"solver": "auto"}

    def set_objective(self, W, b, y, on, off, lam):
        tensors = [torch.from_numpy(part) for part in (W, b, y, on, off, lam)]
        self.numbers = tensors

    def run(self, tolerance):
        W, b, y, on, off, lam = self.numbers
        # built anew in each run: what a problem keeps would make the next run look free
        problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W.clone()), b, y, on, off), lam)
        self.found = ci.solve(problem, self.solver, tol=min(max(tolerance, 1e-10), 1e-1), on_fail="ignore")

    def get_result(self):
        return {"h": self.found.h.numpy(), "p": self.found.p.numpy()}
