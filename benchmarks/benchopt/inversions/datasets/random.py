"""Latents of a random ReLU net with Gaussian weights of variance 2 / n."""

import torch
from benchopt import BaseDataset
from torch import nn

import cvxinv as ci


class Dataset(BaseDataset):
    name = "random"
    requirements = ["pip::cvxinv"]
    parameters = {"sizes": [(20, 128, 392, 784)], "N": [16]}
    test_parameters = {"sizes": [(3, 16, 40)], "N": [3]}

    def get_data(self):
        draw, parts = torch.Generator().manual_seed(self.get_seed() % 2**31), []
        for n, m in zip(self.sizes, self.sizes[1:], strict=False):
            layer = nn.Linear(n, m, bias=False, dtype=torch.float64)
            with torch.no_grad():
                layer.weight.copy_((2 / n) ** 0.5 * torch.randn(m, n, generator=draw, dtype=torch.float64))
            parts += [layer, nn.ReLU()]
        G = ci.load_generator(nn.Sequential(*parts[:-1]))
        return {"generator": G, "z": G.sample_latent(self.N, draw)}
