"""Off rows of one direction: an equality a'h + b = 0 written as two rows, and rows that say twice what one says.

Rows a_i = l_i u and a_j = -l_j u (l > 0 their lengths) limit u'h from both sides, b_j / l_j <= u'h <= -b_i / l_i. Where the
two ends meet, both rows are at their bound at every feasible h, and any guess of an active set is wrong or singular: a
multiplier for each is one too many, and whichever row is left out by its sign breaks its bound at the next step. Such a pair
is one row here, always at its bound, with a multiplier of any sign:

    p_i a_i + p_j a_j = q a_i    with    q = p_i - p_j l_j / l_i;      from q: p_i = max(q, 0), p_j = max(-q, 0) l_i / l_j

so that nothing of it is seen outside of a solver. Of several rows with one sense only the tightest counts, for the rest
p = 0. Ends that leave room are two rows as before, and so are ends that contradict each other: no h meets them, and that is
for others to say. Nearly is the same as exactly, up to `_NEAR`: what that leaves is for the judge to believe or not.

Rows of one direction have, up to their sign, one product with any vector once they are divided by their lengths; those
with neighbouring products are compared.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..generator.maps import AbstractMap
from ..layers.core.rows import Rows

_NEAR = 2e-7  # what float32 makes of one direction in rows of two lengths; a fifth of what the judge lets pass
_ROOM = 1e-9  # between the ends in units of s_y: as that by which interior points open equal limits
_LENGTH = 10.0  # of h in units of s_y / |W|, at which rows that are nearly of one direction are compared


@dataclass(frozen=True, eq=False)
class Pairs(Batch):
    """Which off rows count. off: bool `(N, m)`, of an equality one row, of rows with one sense the tightest.

    gone: off rows that do not count, bool `(N, m)`. equal: rows of `off` that are equalities. partner, ratio: `(N, m)`, the
    position of the other row of an equality, and how many times longer than that this row is; 0 and 1 elsewhere.
    """

    off: Tensor = per_signal()
    gone: Tensor = per_signal()
    equal: Tensor = per_signal()
    partner: Tensor = per_signal()
    ratio: Tensor = per_signal()

    def limits(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest and highest values `(N, m)` of off rows, and of others, where those that do not count have none."""
        return torch.where(self.equal, hi, lo), torch.where(self.gone, torch.inf, hi)

    def apart(self, p: Tensor) -> Tensor:
        """p `(N, m)` of the rows that count, of any sign on equalities, as multipliers of all off rows."""
        back = torch.where(self.equal, p.clamp(max=0), 0.0)
        return (p - back).scatter_add(1, self.partner, -back * self.ratio)

    def together(self, p: Tensor) -> Tensor:
        """The opposite of `apart`: one multiplier for each equality, 0 on rows that do not count."""
        one = p - torch.where(self.equal, p.gather(1, self.partner) / self.ratio, 0.0)
        return torch.where(self.gone, 0.0, one)


def pairs_of(rows: Rows) -> Pairs | None:
    """The off rows of one direction, of normalised rows; None where all off rows of all signals count by themselves."""
    if not rows.any_off:
        return None
    if "_kept_pairs" not in rows.__dict__:
        rows.__dict__["_kept_pairs"] = _found(rows)
    return rows.__dict__["_kept_pairs"]


def apart(pairs: Pairs | None, p: Tensor) -> Tensor:
    """Multipliers of all off rows; p itself where there are no pairs."""
    return p if pairs is None else pairs.apart(p)


def together(pairs: Pairs | None, p: Tensor) -> Tensor:
    """The opposite of `apart`."""
    return p if pairs is None else pairs.together(p)


def held(off: Tensor, equal: Tensor | None, push: Tensor) -> Tensor:
    """Of the off rows that count those at their bound, bool `(N, m)`: equalities, and where push = p + W h + b > 0."""
    tight = (push > 0).logical_and_(off)
    return tight if equal is None else tight.logical_or_(equal)


def held_of(rows: Rows, pairs: Pairs | None, push: Tensor) -> Tensor:
    """`held` of a problem's rows."""
    return held(rows.off, None, push) if pairs is None else held(pairs.off, pairs.equal, push)


def _found(rows: Rows) -> Pairs | None:
    found = _of_one_direction(rows.W)
    if found is None:
        return None
    where, side, apart = found  # (L,), (L,), (K,): rows of direction k and sense 0 or 1 are side 2 k + sense
    sides, L = 2 * len(apart), len(where)
    off, length = rows.off[:, where], rows.W.row_lengths()[where]
    end = torch.where(off, rows.b.expand_as(rows.y)[:, where] / length, -torch.inf)
    every, place = side.expand_as(off), torch.arange(L, device=where.device)
    tightest = torch.full_like(end[:, :1], -torch.inf).repeat(1, sides).scatter_reduce(1, every, end, "amax")
    at_end = off & (end == tightest[:, side])
    none = torch.full_like(every[:, :1], L).repeat(1, sides)
    first = none.scatter_reduce(1, every, torch.where(at_end, place, L), "amin")
    up, down = tightest[:, 0::2], tightest[:, 1::2]
    meets = torch.isfinite(up) & ((up + down).abs() <= _ROOM + _LENGTH * apart + _NEAR * up.abs())
    equality, front = meets[:, side // 2], side % 2 == 0
    counts = at_end & (place == first[:, side]) & (front | ~equality)
    gone = torch.zeros_like(rows.off)
    gone[:, where] = off & ~counts
    if not bool(gone.any()):
        return None
    equal, partner, ratio = torch.zeros_like(gone), torch.zeros_like(gone, dtype=torch.long), torch.ones_like(rows.y)
    here = counts & equality
    other = torch.where(here, first[:, side ^ 1], 0)
    equal[:, where] = here
    partner[:, where] = torch.where(here, where[other], 0)
    ratio[:, where] = torch.where(here, length / length[other], 1.0)
    return Pairs(rows.off & ~gone, gone, equal, partner, ratio)


def _of_one_direction(W: AbstractMap) -> tuple[Tensor, Tensor, Tensor] | None:
    """Positions of the rows that share their direction with another, the side of each, and how far they are from it."""
    if "_kept_directions" not in W.__dict__:
        W.__dict__["_kept_directions"] = _compared(W)
    return W.__dict__["_kept_directions"]


def _compared(W: AbstractMap) -> tuple[Tensor, Tensor, Tensor] | None:
    M, length, (probe, long) = W.matrix(), W.row_lengths(), _probe(W.n)
    product = (M @ probe.to(M)) / length  # no number on rows of zeros
    sizes = np.sort(product.abs().cpu().numpy())  # no numbers last; for few rows a kernel costs more than all of this
    if not bool((sizes[1:] - sizes[:-1] <= _NEAR * long).any()):
        return None
    product = torch.where(length > 0, product, torch.inf)
    order = product.abs().argsort()
    size = product[order].abs()
    a, b = order[:-1], order[1:]
    near = torch.isfinite(size[1:]) & (size[1:] - size[:-1] <= _NEAR * long)
    some, way = near.nonzero()[:, 0], product.sign()
    one, two = (M[k] * (way[k] / length[k])[:, None] for k in (a[some], b[some]))
    away = torch.full_like(size[1:], torch.inf)
    away[some] = (one - two).norm(dim=1)
    near, no = away <= _NEAR, near.new_zeros(1)
    direction, shared = torch.cat([no, ~near]).cumsum(0), torch.cat([near, no]) | torch.cat([no, near])
    where = order[shared]
    if not len(where):
        return None
    number = torch.unique(direction[shared], return_inverse=True)[1]
    apart = torch.zeros_like(product[: int(number[-1]) + 1])
    ahead = torch.cat([no.to(away), torch.where(near, away, 0.0)])[shared]  # from the row before it
    return where, 2 * number + (way[where] < 0).long(), apart.scatter_reduce(0, number, ahead, "amax")


@lru_cache(16)
def _probe(n: int) -> tuple[Tensor, float]:
    """The vector that rows are compared by, and its length."""
    probe = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return probe, float(probe.norm())
