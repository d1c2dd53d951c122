"""Bounds of fits for every h, where the on rows do not determine it: by the rows whose p has room to move.

Let q = `short`, what W'p lacks, known to |short| + doubt, and B rows whose p may move by rho either way and stay where F*
is finite. If the columns of W_B are independent, some d on those rows has W_B'd = -q exactly and

    |d| <= |q / L| / sigma,      L the lengths of the columns of W_B, sigma at most the smallest singular value of W_B L^-1.

Where that is at most rho, p + d is feasible, whatever its digits are, and proves of every h

    f(h) >= D(p) - |(b - y)_B| |d|,     of the largest excess over 1 + |width_B| |d|, as p + d is shortened to length 1.

At a corner with one h and one p the rows that are met are such a B. Columns of zeros, and those that are others times a
power of two, or its opposite where h has any sign, make no W h that the others do not, and ask no more of p: they are left
out. Derived here.
"""

import torch
from torch import Tensor

from .misfits import AbstractExcesses, LargestExcess, SumOfRooms
from .problem import AbstractLayerProblem
from .proofs import Unmet

_ROOM = 1e-6  # that a row's p must have, in units of 1 / width
_LARGEST = 1 << 23  # entries of a W_B that is decomposed for a signal


def everywhere(problem: AbstractLayerProblem, unmet: Unmet) -> Tensor:
    """The bound of the module, `(N,)`, -inf where there is none."""
    misfit, rows = problem.misfit, problem.rows
    assert isinstance(misfit, AbstractExcesses)
    M, eps = rows.W.matrix(), torch.finfo(rows.y.dtype).eps
    bound = torch.full_like(unmet.value, -torch.inf)
    if M.numel() > _LARGEST:
        return bound
    kept = distinct(M, problem.nonnegative)
    M, short = M[:, kept], (unmet.short.abs() + unmet.doubt)[:, kept]
    room, data = _room(misfit, unmet.p), torch.where(rows.on, -rows.target, torch.where(rows.off, rows.b, 0.0))
    open_ = (room * misfit.width > _ROOM) & (misfit.width > 0)
    for i in (open_.sum(1) >= len(kept)).nonzero()[:, 0].tolist():
        B = open_[i]
        length = M[B].norm(dim=0)
        if len(kept) == 0 or not bool((length > 0).all()):
            continue
        values = torch.linalg.svdvals(M[B] / length)
        sigma = values[-1] - (len(M) + len(kept)) * eps * values[0]
        if not bool(sigma > 0):
            continue
        moved = (short[i] / length).norm() / sigma * (1 + 1e-12)
        if not bool(moved <= room[i, B].min()):
            continue
        value = unmet.value[i] - data[i, B].norm() * moved * (1 + 1e-12)
        longer = misfit.width[i, B].norm() * moved * (1 + 1e-12) if isinstance(misfit, LargestExcess) else 0.0
        bound[i] = torch.where(value > 0, value / (1 + longer) * (1 - 2 * eps), value)
    return bound


def _room(misfit: AbstractExcesses, p: Tensor) -> Tensor:
    """By how much each p_i may move either way, whatever the others do, `(N, m)`; 0 on rows that were not seen."""
    rows, (low, high) = misfit.rows, misfit.sides
    if isinstance(misfit, LargestExcess):
        return torch.where(rows.on, torch.inf, torch.where(rows.off, p.clamp(min=0), 0.0))
    room = p - low if isinstance(misfit, SumOfRooms) else torch.minimum(high - p, p - low)
    return torch.where(rows.on | rows.off, room.clamp(min=0), 0.0)


def distinct(M: Tensor, nonnegative: bool) -> Tensor:
    """Columns of `M` `(m, n)` of which all others are 0 or a multiple by a power of two, of its sign where h >= 0."""
    exponent = torch.frexp(M.abs().amax(0)).exponent
    even = torch.ldexp(M, -exponent)
    exact = (torch.ldexp(even, exponent) == M).all(0).tolist()  # what underflows is no multiple
    first = (even != 0).to(torch.int8).argmax(0)
    turned = even.gather(0, first[None])[0].sign()
    even = even if nonnegative else even * turned
    known, kept = set[bytes](), list[int]()
    for j, column in enumerate((even + 0.0).T.contiguous().cpu().numpy()):  # -0 is 0
        name = column.tobytes()
        if not exact[j] or (column.any() and name not in known):
            kept.append(j)
        known.add(name)
    return torch.tensor(kept, dtype=torch.long, device=M.device)
