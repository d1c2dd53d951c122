"""Whole inversions: find z with G(z) = y on what was seen. The judge is `cvxinv.verify`, in float64, and the true latent.

A solver gets the generator, which it may call, differentiate and take apart, and y; it gives back z. What is measured is the
median misfit over |y|; beside it the share that is explained, and the share whose z is right to 1e-6.
"""

import numpy as np
import torch
from benchopt import BaseObjective

import cvxinv as ci


class Objective(BaseObjective):
    name = "inversion"
    url = "https://arxiv.org/abs/2006.15555"
    min_benchopt_version = "1.6"
    requirements = ["pip::cvxinv"]
    parameters = {"hidden": [0.0, 0.45]}
    test_config = {"dataset": {"name": "random"}, "hidden": 0.45}

    def set_data(self, generator, z):
        """generator: a cvxinv.Generator in float64; z: latents `(N, n0)`, whose signals are to be inverted."""
        self.generator, self.z = generator, z
        draw = torch.Generator().manual_seed(self.get_seed() % 2**31)
        x = generator(z)
        self.seen = torch.rand(x.shape, generator=draw) >= self.hidden
        self.y = torch.where(self.seen, x, torch.zeros_like(x))

    def get_objective(self):
        return {"generator": self.generator, "y": self.y, "seen": self.seen}

    def evaluate_result(self, z):
        """z: `(N, n0)`, numpy or torch."""
        z = torch.as_tensor(np.asarray(z), dtype=torch.float64)
        verdict = ci.verify(self.generator, self.y, z, measurement=self.seen)
        error = (z - self.z).norm(dim=1) / self.z.norm(dim=1)
        return {
            "value": float(verdict.relative_misfit.nan_to_num(torch.inf).clamp(max=1e300).median()),
            "explained": float(verdict.explained.double().mean()),
            "recovered": float((error <= 1e-6).double().mean()),
        }

    def get_one_result(self):
        return {"z": np.zeros(tuple(self.z.shape))}
