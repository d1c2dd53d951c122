"""The sign of a latent: f(z) = |A G(z) - y|^2 / 2 of a random network has a false valley at a negative multiple of the latent.

Source: Hand, Leong, Voroninski, "Phase retrieval under a generative prior" (2018), Algorithm 1, the test before each step.
"""

import torch
from torch import Tensor

from ..task import Task


def better_sign(task: Task, z: Tensor) -> Tensor:
    """z, or -z where that has the lower merit, `(N, n0)`; in the prior's set."""
    other = -z if task.prior is None else task.prior.project(-z)
    lower = task.merit(other) < task.merit(z)
    return torch.where(lower[:, None], other, z)
