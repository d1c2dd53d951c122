"""Starts where little was seen: hardly more numbers than latents, so that undamped steps lead far from what makes signals.

With k numbers seen of n0 latents, J is nearly square for k < 2 n0, and its small singular values send a Gauss-Newton step
beyond every latent that makes a signal. Two ways keep the descent near by. Damping that begins at ten times the mean
curvature and is halved or doubled, from random latents of half the length. And a weight on the latent that it is weaned of,

    minimise |A G(z) - y|^2 + lam |z|^2,   lam = |y|^2 / n0 times 1, 1e-2, ..., 1e-8, each from where the one before ended:

with a large weight the objective has one basin around 0, where latents of N(0, I) lie, and each of the next ones lies near
the last; what is left of lam is too small to matter. Either ends in a descent on the misfit itself.
"""

from functools import partial

import torch
from torch import Tensor

from ...lengths import lengths
from ..task import Task
from .costs import dear
from .newton import Descent, descend
from .starts import Hunt, Starts

_LEVELS = tuple(10.0**-k for k in range(0, 10, 2))
_STEPS = 6  # of each level
_MU = 0.1  # first damping of a level, of the mean curvature
_SLOW_STEPS, _SLOW_MU = 80, 10.0
_FACTOR = 2.0  # of the damping, down where a step lowers the objective and up where it does not
_LEAST = 1e-14  # of the mean curvature: a matrix of less has no factor
_SHORTER = 0.5  # times a random latent
_FEW = 2.0  # times as many numbers as latents are few


def search_few(hunt: Hunt, starts: Starts, restarts: int, limit: int) -> None:
    """Both ways for the open signals of which little was seen: weaned from 0, then from random starts, slowly and weaned.

    Not where a Jacobian is dear: they take some hundred of them, and learnt starts lead further in that time.
    """
    G = hunt.task.generator
    if dear(G):
        return
    few = hunt.task.seen < _FEW * G.latent_dim
    if not bool(few[hunt.open].any()):
        return
    hunt.open = hunt.open[few[hunt.open]]
    hunt.offer("weaned start", lambda part, index: descend_weaned(part, torch.zeros_like(hunt.z[index]), limit))
    for k in range(restarts):
        hunt.open = hunt.open[few[hunt.open]]
        name, way = ("weaned", descend_weaned) if k % 3 == 2 else ("slow", descend_slowly)
        search = partial(way, limit=limit)
        hunt.draw(starts, search, count=1, first=k, name=f"{name} random start")
    hunt.reopen()


def descend_weaned(task: Task, z: Tensor, limit: int) -> Descent:
    """A descent from `z` `(N, n0)` through falling weights of |z|^2, and at most `limit` steps on the misfit itself."""
    top = task.size.square() / z.shape[1]
    for level in _LEVELS:
        z = _lowered(task, z, level * top, _STEPS, _MU)
    return descend(task, z, limit)


def descend_slowly(task: Task, z: Tensor, limit: int) -> Descent:
    """A descent from half of `z` `(N, n0)` in short steps at first, and at most `limit` steps after them."""
    z = _lowered(task, _SHORTER * z, torch.zeros_like(task.size), min(limit, _SLOW_STEPS), _SLOW_MU)
    return descend(task, z, limit)


def _lowered(task: Task, z: Tensor, lam: Tensor, count: int, mu: float) -> Tensor:
    return torch.cat([_steps(task.take(block), z[block], lam[block], count, mu) for block in task.blocks()])


def _steps(task: Task, z: Tensor, lam: Tensor, count: int, first: float) -> Tensor:
    """Levenberg-Marquardt steps on |r|^2 + lam |z|^2; lam `(N,)`; first: damping, of the mean curvature."""
    eye, mu = torch.eye(z.shape[1], dtype=z.dtype, device=z.device), torch.full_like(lam, first)
    r, J = task.linearize(z)
    height = lengths(r).square() + lam * lengths(z).square()
    for _ in range(count):
        if task.progress.deadline is not None and task.progress.late():
            break
        task.step()
        H = J.mT @ J + lam[:, None, None] * eye
        g = (J.mT @ r[..., None])[..., 0] + lam[:, None] * z
        s = torch.diagonal(H, dim1=-2, dim2=-1).mean(1).clamp(min=torch.finfo(z.dtype).tiny)
        L = torch.linalg.cholesky_ex(H + ((mu + _LEAST) * s)[:, None, None] * eye).L
        trial = z - torch.cholesky_solve(g[..., None], L)[..., 0]
        trial = torch.where(torch.isfinite(trial), trial, z)
        new_r, new_J = task.linearize(trial)
        new = lengths(new_r).square() + lam * lengths(trial).square()
        lower = new < height
        z, r = torch.where(lower[:, None], trial, z), torch.where(lower[:, None], new_r, r)
        J, height = torch.where(lower[:, None, None], new_J, J), torch.where(lower, new, height)
        mu = torch.where(lower, mu / _FACTOR, mu * _FACTOR)
    return z
