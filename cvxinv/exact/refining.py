"""Better latents from good ones: descents of the stated misfit, and in linf and l1 the linear programs of affine pieces.

On the piece of z the rows are r + J d, and

    linf    minimise s over |r + J d| <= s            l1    minimise sum s over |r + J d| <= s

are solved by HiGHS; the longest of a few fractions of the step that lowers the true misfit is taken, and the piece is
changed with it.
"""

import importlib
import time
from math import inf

import numpy as np
import torch
from torch import Tensor

from ..inversion.steps.newton import descend
from ..inversion.task import Task
from ..inversion.verify import STATED_LEAST
from ..lengths import power_of_two

_PIECES = 8
_FRACTIONS = (1.0, 0.5, 0.2, 0.05, 0.01)


def refined(task: Task, z: Tensor) -> Tensor:
    """Latents `(N, n0)` at most as far from the signals of a task as z are, in the norm of its noise."""
    norm = "l2" if task.noise is None else task.noise.norm
    if norm not in STATED_LEAST:
        return descend(task, z, max_iter=8, exact=True).z
    z = STATED_LEAST[norm](task, z).clone()
    for k in range(task.N):
        z[k : k + 1] = _by_programs(task.take(slice(k, k + 1)), z[k : k + 1], norm)
    return z


def stated_misfit(task: Task, z: Tensor) -> Tensor:
    """|A G(z) - y| in the norm of the noise, `(N,)`; with what a prior weighs."""
    if task.noise is None or task.noise.norm not in STATED_LEAST:
        return task.merit(z)
    return task.stated_length(task.residual(task.generator(z)))


def load_programs() -> None:
    """Load what `refined` and `polished` solve programs with, which takes about a second the first time."""
    importlib.import_module("scipy.optimize")


def polished(task: Task, z: Tensor, sides: tuple[Tensor, Tensor], deadline: float = inf) -> Tensor:
    """Latents `(N, n0)` of a box led to the optimum of their affine pieces within it, sides active where they are met.

    In l2, with what a prior weighs; where noise is stated in linf or l1 z is returned. No latent is worse than before, and
    past the deadline (`time.perf_counter`) they stay as they are.
    """
    if task.noise is not None and task.noise.norm in STATED_LEAST:
        return z
    z = z.clone()
    for k in range(task.N):
        if time.perf_counter() > deadline:
            break
        z[k : k + 1] = _bounded(task.take(slice(k, k + 1)), z[k : k + 1], sides)
    return z


def _bounded(task: Task, z: Tensor, sides: tuple[Tensor, Tensor]) -> Tensor:
    from scipy.optimize import lsq_linear  # late: importing the package loads torch and little else

    found = stated_misfit(task, z)
    for _ in range(_PIECES if bool(torch.isfinite(found).all()) else 0):
        r, J = _stacked(task, z)
        low, high = ((side - z[0]).cpu().numpy() for side in sides)
        step = lsq_linear(J, -r, (np.minimum(low, 0.0), np.maximum(high, 0.0)), method="bvls").x
        trials = (z + torch.tensor(_FRACTIONS).to(z)[:, None] * torch.from_numpy(step).to(z)).clamp(*sides)
        trials = trials if task.prior is None else task.prior.project(trials).clamp(*sides)
        values = torch.cat([stated_misfit(task, trial[None]) for trial in trials])
        best = int(torch.nan_to_num(values, nan=torch.inf).argmin())
        if not float(values[best]) < float(found[0]) * (1 - 1e-12):
            break
        z, found = trials[best : best + 1], values[best : best + 1]
    return z


def _stacked(task: Task, z: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Residual and Jacobian of one signal's piece, in units of its size, with the rows of a prior below."""
    r, J = task.linearize(z)
    r, J = r[0], J[0]
    if task.weighed and task.prior is not None and task.noise is not None:
        rows = task.prior.as_rows(z)
        if rows is not None:
            sigma = task.noise.bound[0]
            r, J = torch.cat([r, sigma * (rows.S @ z[0] - rows.t)]), torch.cat([J, sigma * rows.S])
    unit = power_of_two(torch.cat([r, J.flatten()]).abs().amax())
    return (r / unit).cpu().numpy(), (J / unit).cpu().numpy()


def _by_programs(task: Task, z: Tensor, norm: str) -> Tensor:
    found = float(stated_misfit(task, z))
    for _ in range(_PIECES):
        r, J = task.linearize(z)
        seen = task.measurement.seen(1)[0].to(z.device)
        step = _program(r[0, seen].cpu().numpy(), J[0, seen].cpu().numpy(), norm)
        if step is None:
            break
        d = torch.from_numpy(step).to(z)
        trials = torch.cat([z + fraction * d for fraction in _FRACTIONS])
        values = torch.stack([stated_misfit(task, trial[None])[0] for trial in trials])
        best = int(values.argmin())
        if not float(values[best]) < found * (1 - 1e-12):
            break
        z, found = trials[best : best + 1], float(values[best])
    return z


def _program(r: np.ndarray, J: np.ndarray, norm: str) -> np.ndarray | None:
    """The step d `(n0,)` of the piece; None where HiGHS finds none."""
    from scipy.optimize import linprog  # late: importing the package loads torch and little else

    k, n0 = J.shape
    slack = np.ones((k, 1)) if norm == "linf" else np.eye(k)
    rows = np.block([[J, -slack], [-J, -slack]])
    cost = np.concatenate([np.zeros(n0), np.ones(slack.shape[1])])
    limits = [(None, None)] * n0 + [(0, None)] * slack.shape[1]
    found = linprog(cost, A_ub=rows, b_ub=np.concatenate([-r, r]), bounds=limits, method="highs")
    return None if found.x is None else found.x[:n0]
