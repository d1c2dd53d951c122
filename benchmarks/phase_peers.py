"""Phase retrieval of sparse real signals without a generator, from y = |A x| with Gaussian A `(m, n)` of entries N(0, 1).

All three begin with the leading eigenvector of a weighted Gram matrix of A on a support that the marginals

    M_j = 1/m sum_i y_i^2 a_ij^2,    E M_j = |x|^2 + 2 x_j^2

point at, of length phi = (mean y^2)^(1/2). x comes back up to its sign. They know nothing of pictures; two know s, the
number of entries that are not 0. Numbers below are from the public code of CoPRAM's authors, which has all three; the papers
were not read. Where an entry of A x is 0 its sign counts as 1, and of all iterates the one that explains y best comes back:
with too few magnitudes they lead away.

Source: Wang, Zhang, Giannakis, Akcakaya, Chen, "Sparse phase retrieval via truncated amplitude flow" (2018); Jagatap,
Hegde, "Sample-efficient algorithms for recovering structured signals from magnitude-only measurements" (2019); Cai, Li, Ma,
"Optimal rates of convergence for noisy sparse phase retrieval via thresholded Wirtinger flow" (2016).
"""

from math import ceil, log

import torch
from torch import Tensor

_STOP = 1e-10  # of |y|: a misfit below it is none
_DIVERGED = 10.0  # of phi: a signal as long as that leads nowhere


def sparta(A: Tensor, y: Tensor, s: int, iterations: int = 1000) -> Tensor:
    """SPARTA: amplitude flow on the entries that are large enough, cut to the s largest after every step.

        x <- H_s(x - (mu / m) sum_{i: |a_i x| >= y_i / (1 + gamma)} (a_i x - y_i sign(a_i x)) a_i),   mu = 1, gamma = 0.7

    It begins on the s largest marginals with the sixth of the rows whose y_i / |a_i| is largest there.
    """
    m, gamma = len(A), 0.7
    support = _marginals(A, y).topk(s).indices
    rows = (y / A[:, support].norm(dim=1)).topk(ceil(m / 6)).indices
    x = best = _begin(A, y, support, rows)
    for _ in range(iterations):
        u = A @ x
        if _over(A, x, y):
            break
        kept = u.abs() >= y / (1 + gamma)
        x = _largest(x - A.T @ (kept * (u - y * _sign(u))) / m, s)
        best = _nearer(A, y, x, best)
    return best


def copram(A: Tensor, y: Tensor, s: int, iterations: int = 50) -> Tensor:
    """CoPRAM: signs of A x, and CoSaMP on what they make linear, in turn; it begins on the s largest marginals."""
    x = best = _begin(A, y, _marginals(A, y).topk(s).indices)
    for _ in range(iterations):
        if _over(A, x, y):
            break
        x = _cosamp(A, y * _sign(A @ x), s, x)
        best = _nearer(A, y, x, best)
    return best


def thresholded_wirtinger_flow(A: Tensor, y: Tensor, iterations: int = 1000) -> Tensor:
    """Wirtinger flow on intensities with a soft threshold that falls with the misfit; it does not know s.

        x <- S_(mu tau / phi^2)(x - mu / phi^2 g),    g = 1/m sum_i ((a_i x)^2 - y_i^2) (a_i x) a_i,    mu = 0.23,
        tau^2 = beta log(m n) / m^2 sum_i ((a_i x)^2 - y_i^2)^2 (a_i x)^2,    beta = 0.3

    It begins on the marginals above phi^2 (1 + alpha (log(m n) / m)^(1/2)), alpha = 1.5, or on the largest where none is.
    """
    (m, n), alpha, beta, mu = A.shape, 1.5, 0.3, 0.23
    marginals, power = _marginals(A, y), y.square().mean()
    support = (marginals > power * (1 + alpha * (log(m * n) / m) ** 0.5)).nonzero()[:, 0]
    x = best = _begin(A, y, support if len(support) else marginals.topk(1).indices)
    for _ in range(iterations):
        if _over(A, x, y):
            break
        u = A @ x
        excess = (u.square() - y.square()) * u
        moved = x - mu / power * (A.T @ excess) / m
        tau = (beta * log(m * n)) ** 0.5 / m * excess.norm()
        x = moved.sign() * (moved.abs() - mu / power * tau).clamp(min=0)
        best = _nearer(A, y, x, best)
    return best


def _marginals(A: Tensor, y: Tensor) -> Tensor:
    return y.square() @ A.square() / len(y)


def _begin(A: Tensor, y: Tensor, support: Tensor, rows: Tensor | None = None) -> Tensor:
    """The leading eigenvector of sum_i y_i^2 a_i a_i' on a support, of length phi; rows: which i, all where left out."""
    part, weight = (A, y) if rows is None else (A[rows], y[rows])
    part = part[:, support]
    x = torch.zeros(A.shape[1], dtype=A.dtype, device=A.device)
    x[support] = torch.linalg.eigh((weight.square()[:, None] * part).T @ part).eigenvectors[:, -1]
    return y.square().mean().sqrt() * x


def _over(A: Tensor, x: Tensor, y: Tensor) -> bool:
    """Whether x explains y, or leads nowhere."""
    far = not bool(x.norm() <= _DIVERGED * y.square().mean().sqrt())
    return far or bool(((A @ x).abs() - y).norm() <= _STOP * y.norm())


def _nearer(A: Tensor, y: Tensor, x: Tensor, best: Tensor) -> Tensor:
    """Whichever explains y better."""
    return x if bool(((A @ x).abs() - y).norm() < ((A @ best).abs() - y).norm()) else best


def _sign(u: Tensor) -> Tensor:
    return torch.where(u < 0, -1.0, 1.0).to(u)


def _largest(x: Tensor, s: int) -> Tensor:
    """x with all but its s largest entries 0."""
    index = x.abs().topk(s).indices
    return torch.zeros_like(x).index_copy(0, index, x[index])


def _cosamp(A: Tensor, y: Tensor, s: int, x: Tensor, iterations: int = 10) -> Tensor:
    """CoSaMP (Needell, Tropp 2009) from x: least squares on its support and the 2 s columns nearest to what is left."""
    for _ in range(iterations):
        left = y - A @ x
        if bool(left.norm() <= _STOP * y.norm()):
            break
        near = (A.T @ left).abs().topk(min(2 * s, A.shape[1])).indices
        support = torch.unique(torch.cat([near, x.nonzero()[:, 0]]))
        wide = torch.zeros_like(x)
        wide[support] = torch.linalg.lstsq(A[:, support], y[:, None], driver="gelsd").solution[:, 0]
        x = _largest(wide, s)
    return x
