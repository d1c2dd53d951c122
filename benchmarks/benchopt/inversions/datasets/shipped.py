"""Latents of the generators that ship with cvxinv, or, with CVXINV_DATA set, of any in that folder."""

import os
from pathlib import Path

import torch
from benchopt import BaseDataset

import cvxinv as ci


class Dataset(BaseDataset):
    name = "trained"
    requirements = ["pip::cvxinv"]
    parameters = {"generator": ["mnist_gan"], "N": [16]}
    test_parameters = {"generator": ["mnist_gan"], "N": [2]}

    def get_data(self):
        folder = Path(os.environ.get("CVXINV_DATA", ".")) / "generators"
        there = (folder / f"{self.generator}.json").exists()
        G = ci.load_generator(folder / self.generator if there else self.generator).to(torch.float64)
        return {"generator": G, "z": G.sample_latent(self.N, torch.Generator().manual_seed(self.get_seed() % 2**31))}
