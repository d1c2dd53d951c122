"""A cheap first guess for pivoting: a few float32 iterations of graph-form ADMM, whose factor all signals share.

    minimise  F(u) + g(h)   subject to  W h = u   (rows counted from -b)

    (h', u') = (prox_{g/rho}(h - s), prox_{F/rho}(u - t))
    (h, u)   = projection of (a h' + (1 - a) h + s, a u' + (1 - a) u + t) onto {u = W h},  h = (I + W'W)^-1 (h + W'u)
    s, t    += the part that the projection took away

with a = 1.7 and one rho. Twenty iterations cost about as much as one round of pivoting and save more than one on layers with
off rows. Nothing is claimed for the point; it only says where the rounds begin. See `graph_admm` for the sources.
"""

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point

_RHO, _RELAX = 0.3, 1.7  # for |W| = 1
_IN_CACHE = 100_000  # numbers of one array of the CPU's iterations


def first_guess(problem: AbstractLayerProblem, iterations: int = 20) -> Point:
    """A rough point of a normalised problem with squared misfits, `h` `(N, n)` and `p` `(N, m)`, in the problem's type."""
    rows = problem.rows
    M = rows.W.matrix().float()
    inverse = torch.linalg.inv(M.T @ M + torch.eye(rows.n, dtype=M.dtype, device=M.device))
    inverse = (inverse + inverse.T) / 2
    step = max(64, _IN_CACHE // rows.m) if M.device.type == "cpu" else problem.N
    fit, off, b = rows.fit, rows.off, rows.b.expand_as(rows.y)
    parts = []
    for start in range(0, problem.N, step):
        part = slice(start, start + step)
        weight = fit[part].float()
        parts.append(
            _iterate(
                M, inverse, _RHO / (weight + _RHO), weight * rows.target[part].float() / (weight + _RHO),
                torch.where(off[part], -b[part].float(), torch.inf), problem.linear[part].float(),
                problem.quadratic[part].float(), problem.nonnegative, iterations,
            )
        )  # fmt: skip
    return Point(torch.cat([h for h, _ in parts]).to(rows.y), torch.cat([p for _, p in parts]).to(rows.y))


def _iterate(
    M: Tensor, inverse: Tensor, keep: Tensor, pull: Tensor, cap: Tensor, linear: Tensor, quadratic: Tensor,
    nonnegative: bool, iterations: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """h and p after the iterations: prox_F(u) = min(keep u + pull, cap), prox_g(h) = shrink (h - linear / rho)."""
    back, shrink, less = M @ inverse, _RHO / (_RHO + quadratic), linear / _RHO
    h = torch.zeros(len(cap), M.shape[1], dtype=M.dtype, device=M.device)
    s, u, t = torch.zeros_like(h), torch.zeros_like(cap), torch.zeros_like(cap)
    for k in range(iterations + 1):
        near_h = (h - s).sub_(less).mul_(shrink)
        near_h = near_h.clamp_(min=0) if nonnegative else near_h
        argument = u - t
        near_u = torch.addcmul(pull, keep, argument).minimum(cap)
        if k == iterations:
            break
        s.add_(h, alpha=1 - _RELAX).add_(near_h, alpha=_RELAX)
        t.add_(u, alpha=1 - _RELAX).add_(near_u, alpha=_RELAX)
        h = torch.addmm(t @ back, s, inverse)
        u = h @ M.T
        s.sub_(h)
        t.sub_(u)
    return near_h, argument.sub_(near_u).mul_(_RHO)
