"""Phases from outside in: what everything that gives the signal has in common, layer by layer, without a box.

z gives y to f. Let z' give it to eps as well, x_l and x_l' their layers. Then x_l' - x_l = T_l r with one r, |r| <= 1:

    last layer     |D^-1 A W_L (x' - x)| <= 1, D the rows' radii, so T_L = (D^-1 A W_L)^+ where that has full column rank
    a layer below  on rows i (x_i > |T_i|, so that x_i' > 0 too): W_i (x' - x) = T_i r, so T_(l-1) = (w W_on)^+ w T_on for
                   any weights w > 0, where W_on has full column rank; of a LeakyReLU also the rows that are surely below 0
    nonnegative    where W_on has not: p with p'W_on = 0 on the columns S that may be above 0 at x (x_S > 0) and >= 1 on the
                   others bounds the sum of what those are, p'W_on (x' - x) = p'T_on r, as x' >= 0 = x there; then S follows.
                   A ReLU that is 0 with u = 0 at z is a row, too: W_i (x' - x) + w_i = T_i r, w_i = max(-u_i', 0) >= 0
    the latent     |z' - z| <= |T_0|, and |W_l T_(l-1)|_i is how far pre-activation i can be from that of z

All in float64; condition numbers above 1e10 are refused.

Source: exactness note 2.1; changed: intervals about the layers of a known z, weights one over the radius of a row, and the
nonnegative step (a dual certificate as for sparse recovery: Donoho and Tanner 2005), derived here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..exact.network import Network
from .programs import linear_program

CONDITION = 1e10  # of a layer's rows, above which they say nothing
_LEAST_RADIUS = 1e-6  # of the largest one, for weights
MOST_COLUMNS = 3000  # of a layer, above which none is looked at
MOST_DUAL = 1200  # columns of a layer whose nonnegative step is tried
_STEPS = 10_000  # of its linear program: a count, as seconds would make verdicts depend on the machine


@dataclass(frozen=True, eq=False)
class Traced:
    """What all latents that give one signal have in common.

    layer: the one whose rows say too little, -1 where all say enough. radius: of such latents around z, latent units.
    undecided: units of each hidden layer whose phase may differ from z's, `(layers,)`.
    """

    layer: int
    radius: float
    undecided: list[int]


def trace(network: Network, u: Sequence[Tensor], T: Tensor | None) -> Traced:
    """Go down from the last hidden layer; u: pre-activations of the hidden layers at z, `(n_l,)` each.

    T: `(n_H, k)`, of the last hidden layer; None where its rows do not determine it.
    """
    H = len(network.W)
    if T is None:
        return Traced(H, torch.inf, [len(b) for b in network.b])
    found: list[Tensor | None] = [None] * H + [T]  # T of z, x_1, ..., x_H
    for level in range(H - 1, -1, -1):
        above = found[level + 1]
        assert above is not None
        below = (u[level - 1], network.s[level - 1]) if level else None
        found[level] = _down(network.W[level], u[level], network.s[level], above, below)
        if found[level] is None:
            return Traced(level, torch.inf, [_unsure(u[k], found[k + 1], network.s[k]) for k in range(H)])
    undecided = list[int]()
    for level in range(H):
        at = found[level]
        assert at is not None
        undecided.append(int((u[level].abs() <= (network.W[level] @ at).norm(dim=1)).sum()))
    assert found[0] is not None
    return Traced(-1, float(found[0].norm()), undecided)


def left_inverse(rows: Tensor) -> Tensor | None:
    """R^-1 of the QR of tall rows `(m, n)`, None without full column rank; |rows d| <= 1 is d = R^-1 r, |r| <= 1."""
    m, n = rows.shape
    if m < n:
        return None
    return _inverted(torch.linalg.qr(rows[_heavy_first(rows)], "r").R)


def _heavy_first(rows: Tensor) -> Tensor:
    """The order in which QR loses no light rows to the rounding of heavy ones."""
    return rows.abs().amax(1).argsort(descending=True)


def _inverted(R: Tensor) -> Tensor | None:
    n, unit = R.shape[1], R.norm(dim=0)
    if not bool((R.diagonal().abs() > unit / CONDITION).all()):
        return None
    T = torch.linalg.solve_triangular(R, torch.eye(n, dtype=R.dtype, device=R.device), upper=True)
    return T if float((T * unit[:, None]).norm() * (R / unit).norm()) < CONDITION * n else None


def _unsure(u: Tensor, T: Tensor | None, s: Tensor) -> int:
    """Units whose phase the outputs alone do not say."""
    if T is None:
        return len(u)
    radius, x = T.norm(dim=1), torch.maximum(u, s * u)
    return int((~((x > radius) | ((x < -radius) & (s > 0)))).sum())


def _down(W: Tensor, u: Tensor, s: Tensor, T: Tensor, below: tuple[Tensor, Tensor] | None) -> Tensor | None:
    """T of the layer below from that of a layer's outputs; below: pre-activations and slopes there, None for the latent."""
    radius, x = T.norm(dim=1), torch.maximum(u, s * u)
    on, cut = x > radius, (x < -radius) & (s > 0)
    rows = (on | cut).nonzero()[:, 0]
    if not len(rows):
        return None
    slope = torch.where(on, 1.0, s)[rows]
    w = slope / radius[rows].clamp(min=_LEAST_RADIUS * float(radius.max()))
    A, B = w[:, None] * W[rows], (w / slope)[:, None] * T[rows]
    if len(rows) >= W.shape[1]:
        order = _heavy_first(A)
        A, B = A[order], B[order]
        Q, R = torch.linalg.qr(A)
        inverse = _inverted(R)
        if inverse is not None:
            return inverse @ (Q.mT @ B)
    n, free = W.shape[1], torch.ones(W.shape[1], dtype=torch.bool, device=W.device)
    if n > MOST_DUAL:
        return None
    if below is not None and not bool((below[1] != 0).any()):
        free = below[0] > 0
    still = ((u.abs() <= radius) & (s == 0)).nonzero()[:, 0]
    if bool(free.all()) and not len(still):
        return None
    eye = torch.eye(len(still)).to(W)
    v = 1 / radius[still, None].clamp(min=_LEAST_RADIUS * float(radius.max()))
    A = torch.cat([F.pad(A, (0, len(still))), torch.cat([v * W[still], eye], 1)])
    B = torch.cat([B, v * T[still]])
    support = torch.cat([free, torch.zeros(len(still), dtype=torch.bool, device=W.device)])
    found = nonnegative_step(A, B, support)
    return None if found is None else found[:n]


def nonnegative_step(A: Tensor, B: Tensor, support: Tensor) -> Tensor | None:
    """T with x' - x = T r for all x' >= 0 with A (x' - x) = B r, |r| <= 1, x the one that is above 0 on `support` only.

    None where no certificate is found. Its columns: those of B, and one for each entry off the support, r longer by 2^1/2.
    """
    S, Z = support.nonzero()[:, 0], (~support).nonzero()[:, 0]
    m = len(A)
    if len(S) > m:
        return None
    Q, R = torch.linalg.qr(A[:, S], "complete")
    inverse = _inverted(R[: len(S)]) if len(S) else A.new_zeros(0, 0)
    if inverse is None:
        return None
    P = inverse @ Q[:, : len(S)].mT  # left inverse on the support
    T = A.new_zeros(A.shape[1], B.shape[1] + len(Z))
    T[S, : B.shape[1]] = P @ B
    if len(Z):
        p = _dual(Q[:, len(S) :], A[:, Z])
        if p is None:
            return None
        most = float((p @ B).norm())
        T[S, B.shape[1] :] = -most * (P @ A[:, Z])
        T[Z, B.shape[1] :] = most * torch.eye(len(Z)).to(A)
    return 2**0.5 * T


def _dual(free: Tensor, A: Tensor) -> Tensor | None:
    """p in the range of `free` `(m, k)`, orthonormal columns, with A'p >= 1; None where none is found."""
    G = (A.mT @ free).cpu().numpy()
    if G.shape[1] == 0:
        return None
    size = np.abs(G).max()
    if not size > 0:
        return None
    n = G.shape[1]
    # maximise t: G v >= t, |v| <= 1
    rows = np.hstack([-G / size, np.ones((len(G), 1))])
    cost = np.zeros(n + 1)
    cost[-1] = -1.0
    limits = [(-1.0, 1.0)] * n + [(None, 1.0)]
    found = linear_program(cost, A_ub=rows, b_ub=np.zeros(len(G)), bounds=limits, options={"maxiter": _STEPS})
    if found.x is None:
        return None
    v = torch.from_numpy(found.x[:-1]).to(A)
    least = float((A.mT @ (free @ v)).min())
    if not least > 1e-9 * float(size):
        return None
    return free @ v / least
