"""Layers of the generator of digits that ships with cvxinv, behind random latents, with 1 % noise on the on rows."""

import numpy as np
import torch
from benchopt import BaseDataset

import cvxinv as ci


class Dataset(BaseDataset):
    name = "shipped"
    requirements = ["pip::cvxinv"]
    parameters = {"layer": [1, 2], "N": [32]}
    test_parameters = {"layer": [1], "N": [2]}

    def get_data(self):
        G, draw = ci.load_generator("mnist_gan", output="identity").to(torch.float64), torch.Generator().manual_seed(0)
        h = G.sample_latent(self.N, draw)
        for layer in G.layers[: self.layer]:
            h = layer.activation(layer.W(h) + layer.b)
        here = G.layers[self.layer]
        v = here.W(h) + here.b
        on = v > 0 if self.layer < len(G.layers) - 1 else torch.ones_like(v, dtype=torch.bool)
        e = torch.randn(v.shape, generator=draw, dtype=v.dtype) * on
        e *= 0.01 * (v * on).norm(dim=1, keepdim=True) / e.norm(dim=1, keepdim=True)
        parts = {"W": here.W.matrix(), "b": here.b, "y": v * on + e, "on": on, "off": ~on}
        return {name: np.ascontiguousarray(value.numpy()) for name, value in parts.items()}
