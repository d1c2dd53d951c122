"""From a least-squares latent to the smallest maximum misfit, for noise that is stated in the maximum norm.

    minimise over z in C   |A G(z) - y|_inf        C: a prior's set, or everything

Lawson's algorithm on the affine pieces: weighted least squares with weights that are multiplied by |residual| and
normalised after every step; on one affine piece it converges to the Chebyshev solution. The steps are damped as little as
a rank-deficient J allows, and every signal keeps the best z it has seen.

Source: Lawson (1961); Rice and Usow, "The Lawson algorithm and extensions" (1968).
"""

import torch
from torch import Tensor

from ..task import Task
from .plain import plain_step

_STEPS = 300


def flatten(task: Task, z: Tensor) -> Tensor:
    """The best z in the maximum norm that `_STEPS` reweighted steps from `z` `(N, n0)` find."""
    r, J = task.linearize(z)
    best_z, best = z.clone(), r.abs().amax(1)
    weight = torch.ones_like(r)
    for _ in range(_STEPS):
        if task.progress.deadline is not None and task.progress.late():
            break
        task.step()
        weight = weight * r.abs()
        weight = weight / weight.amax(1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
        WJ = weight[..., None] * J
        H = J.mT @ WJ
        mean = torch.diagonal(H, dim1=-2, dim2=-1).mean(1).clamp(min=torch.finfo(z.dtype).tiny)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        g = (WJ.mT @ r[..., None])[..., 0]
        d = plain_step(task, H + (1e-12 * mean)[:, None, None] * eye, g, z).d
        z = z + torch.where(torch.isfinite(d), d, torch.zeros_like(d))
        r, J = task.linearize(z)
        height = r.abs().amax(1)
        better = height < best
        best_z, best = torch.where(better[:, None], z, best_z), torch.where(better, height, best)
        if bool(task.explained(best_z).all()):
            break
    return best_z
