"""A middle layer of the random net 20-128-392, with 1 % noise on its on rows."""

import numpy as np
from benchopt import BaseDataset


class Dataset(BaseDataset):
    name = "random"
    requirements = []
    parameters = {"sizes": [(20, 128, 392)], "N": [64]}
    test_parameters = {"sizes": [(4, 8, 24)], "N": [3]}

    def get_data(self):
        draw = np.random.default_rng(self.get_seed())
        n0, n, m = self.sizes
        h = np.maximum(draw.standard_normal((self.N, n0)) @ draw.standard_normal((n0, n)) / n0**0.5, 0)
        W, b = draw.standard_normal((m, n)) / n**0.5, np.zeros(m)
        v = h @ W.T + b
        on, e = v > 0, draw.standard_normal(v.shape)
        clean, e = np.where(on, v, 0.0), np.where(on, e, 0.0)
        e *= 0.01 * np.linalg.norm(clean, axis=1, keepdims=True) / np.linalg.norm(e, axis=1, keepdims=True)
        return {"W": W, "b": b, "y": clean + e, "on": on, "off": ~on}
