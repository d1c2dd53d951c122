"""What a stranger's solver looks like: one file, torch alone. Adam on the misfit from one random latent."""

import torch
from benchopt import BaseSolver


class Solver(BaseSolver):
    name = "Adam"
    requirements = []
    sampling_strategy = "iteration"
    parameters = {"rate": [0.05]}

    def set_objective(self, generator, y, seen):
        self.generator, self.y, self.seen = generator, y, seen

    def run(self, n_iter):
        draw = torch.Generator().manual_seed(self.get_seed() % 2**31)
        z = torch.randn(len(self.y), self.generator.latent_dim, generator=draw, dtype=self.y.dtype).requires_grad_()
        descent = torch.optim.Adam([z], lr=self.rate)
        for _ in range(n_iter):
            descent.zero_grad()
            ((self.generator(z) - self.y) * self.seen).square().sum().backward()
            descent.step()
        self.z = z.detach()

    def get_result(self):
        return {"z": self.z.numpy()}
