"""One vector that proves a latent to be the only one: all units of all layers at once, no box.

Write every unit about its phase at z, d its slope there (1 where on, s where not):

    x' = max(u', s u') = d u' + (1 - s) w,    w >= 0,    w = 0 at z

w says by how much the unit is in its other phase. Layer by layer this is linear in z' and all w, without any loss:

    A (G(z') - G(z)) = J (z' - z) + sum_l C_l w_l,    C_l = A W_L D_H W_H ... D_(l+1) W_(l+1) (1 - s_l)

(P) Is there w >= 0, w != 0, with J v + C w = 0? If not, and J has full column rank, z is the only latent.
(D) p with J'p = 0 and C'p >= 1 says no: sum w <= p'A (G(z') - G(z)) <= |p| eps, and then
    |z' - z| <= (eps + max |C_j| |p| eps) / sigma_min(J).

What (P) allows beyond the network, w of its own in every unit, is what this proof may fail on; by Wendel's count of random
half-spaces it can be expected to end up to about 2 (rows - n0) units. Derived here.

p is sought as the minimiser of 1/2 sum_j max(0, 1 - c_j'p)^2 over J'p = 0, c_j of length 1, by Newton's method.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..exact.network import Network
from .layered import CONDITION, Traced

_ITERATIONS = 30
_STALLED = 1e-4  # of the sum of squares: what a step lowers it by at least
_SURE = 1e-6  # of |p|: what every c_j'p is at least
_WENDEL = 2.2  # units over free rows, above which nothing is tried
_MOST_UNITS = 2500


def one_certificate(network: Network, z: Tensor, u: Sequence[Tensor], M: Tensor, reach: float) -> Traced | None:
    """The proof for one latent z `(n0,)`, pre-activations u of the hidden layers; None where it is not found.

    M: `(k, n_H)`, rows of what is seen of the last hidden layer; |M (x' - x)| <= reach for every latent z' in question.
    """
    built = unit_columns(network, u, M)
    if built is None:
        return None
    J, C = built
    k, n0 = J.shape
    units = C.shape[1]
    if k < n0 or units > min(_WENDEL * (k - n0), _MOST_UNITS):
        return None
    Q, R = torch.linalg.qr(J)
    values = torch.linalg.svdvals(R)
    if not bool(values[-1] > values[0] / CONDITION):
        return None
    size = C.norm(dim=0)
    beta = 0.0
    if units:
        c = (C / size).mT
        p = _inside(c - (c @ Q) @ Q.mT)
        if p is None:
            return None
        p = p - Q @ (Q.mT @ p)
        least = float((C.mT @ p).min())
        if not least > 0:
            return None
        beta = float(p.norm()) / least * reach
    radius = (reach + beta * float(size.max() if units else 0.0)) / float(values[-1])
    return Traced(-1, radius, undecided_within(network, u, radius))


def undecided_within(network: Network, u: Sequence[Tensor], radius: float) -> list[int]:
    """Units of each hidden layer that may change their phase within `radius` of z, by the lengths of rows."""
    out, far = list[int](), radius
    for W, values in zip(network.W, u, strict=True):
        reach = W.norm(dim=1) * far
        out.append(int((values.abs() <= reach).sum()))
        far = float(reach.norm())
    return out


def unit_columns(network: Network, u: Sequence[Tensor], M: Tensor) -> tuple[Tensor, Tensor] | None:
    """J `(k, n0)` and C `(k, units)`, without units that never change; None where one that may leads nowhere."""
    back, parts = M, list[Tensor]()
    for W, s, values in zip(reversed(network.W), reversed(network.s), reversed(u), strict=True):
        there = W.abs().amax(1) > 0  # others have one phase, that of their bias
        column = back * (1 - s)
        length = column.norm(dim=0)
        if bool((there & (length <= 1e-12 * length.max())).any()):
            return None
        parts.append(column[:, there])
        back = (back * torch.where(values > 0, 1.0, s)) @ W
    return back, torch.cat(parts, 1) if parts else back[:, :0]


def _inside(c: Tensor) -> Tensor | None:
    """p with c p > 0, every entry; None where none is found. c: `(units, k)`."""
    p, before = c.new_zeros(c.shape[1]), torch.inf
    for _ in range(_ITERATIONS):
        value = c @ p
        if bool((value > _SURE * p.norm()).all()) and bool(p.any()):
            return p
        now, active = float((1 - value).clamp(min=0).square().sum()), c[value < 1]
        if not len(active) or now > before * (1 - _STALLED):
            return None
        before = now
        step = _newton(active) - p
        p = p + _line(c, value, step) * step
    return None


def _newton(active: Tensor) -> Tensor:
    """The least-squares solution of active p = 1, damped from below."""
    m, k = active.shape
    H = active @ active.mT if m <= k else active.mT @ active
    H.diagonal().add_(1e-10 * float(H.diagonal().mean()) + 1e-300)
    L = torch.linalg.cholesky_ex(H).L
    one = active.new_ones(m, 1)
    if m <= k:
        return (active.mT @ torch.cholesky_solve(one, L))[:, 0]
    return torch.cholesky_solve(active.mT @ one, L)[:, 0]


def _line(c: Tensor, value: Tensor, step: Tensor) -> float:
    """The t in [0, 1] with the least sum of squares along a step; its derivative grows in t."""
    slope = c @ step

    def derivative(t: float) -> float:
        return -float(((1 - value - t * slope).clamp(min=0) * slope).sum())

    if derivative(1.0) <= 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if derivative(middle) < 0 else (low, middle)
    return high
