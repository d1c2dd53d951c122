"""One ReLU layer: min 1/2 |W_on h + b - y|^2 + lam 1'h with h >= 0 and W_off h + b <= 0. The judge is `cvxinv.certify`.

A solver gets numbers and gives back h, and a dual vector p over the rows where it has one; without it the judge builds one.
What is measured is the gap that this pair proves, over the largest gap that is `optimal`: from 1 on downwards it is solved.
"""

import numpy as np
import torch
from benchopt import BaseObjective

import cvxinv as ci


class Objective(BaseObjective):
    name = "layer"
    url = "https://arxiv.org/abs/2006.15555"
    min_benchopt_version = "1.6"
    requirements = ["pip::cvxinv"]
    parameters = {"lam": [1e-2]}
    test_config = {"dataset": {"name": "random"}}

    def set_data(self, W, b, y, on, off):
        """W (m, n), b (m,), y (N, m), on and off (N, m) bool: rows that the ReLU let through, and that it cut."""
        arrays = [torch.from_numpy(np.ascontiguousarray(part)) for part in (b, y, on, off)]
        rows = ci.Rows(ci.Dense(torch.from_numpy(np.ascontiguousarray(W))), *arrays)
        # lam: of the value from which on h = 0
        self.lam_ = self.lam * rows.W.adjoint(rows.target).amax(1).clamp(min=0)
        self.problem = ci.NonnegativeLasso(rows, self.lam_)
        self.data = {"W": W, "b": b, "y": y, "on": on, "off": off}

    def get_objective(self):
        return {**self.data, "lam": self.lam_.numpy()}

    def evaluate_result(self, h, p=None):
        """h (N, n), p (N, m) or None."""
        h = torch.as_tensor(np.asarray(h), dtype=torch.float64)
        found = h if p is None else ci.Point(h, torch.as_tensor(np.asarray(p), dtype=torch.float64))
        certificate = ci.certify(self.problem, found)
        gap, violation = certificate.gap / certificate.allowed_gap, certificate.violation / certificate.allowed_violation
        return {
            "value": float(torch.maximum(gap, violation).nan_to_num(torch.inf).clamp(max=1e300).median()),
            "optimal": float(torch.as_tensor(certificate.status == "optimal").double().mean()),
            "primal": float(certificate.objective.sum()),
        }

    def get_one_result(self):
        return {"h": np.zeros((len(self.data["y"]), self.data["W"].shape[1]))}
