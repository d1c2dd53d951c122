"""Directions that lift every column: u with u_off >= 0 and W'u >= c, c the lengths of the columns of W.

Where h >= 0 costs nothing, (D) asks for W'p >= 0, and a multiple of such a u added to p repairs what it lacks. u = w W_on
(W_on' w W_on)^-1 c where W_on has full column rank, else one that uses the off rows, where there is one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from .factors import spd_factor, spd_solve
from .rows import Rows, weighted_gram


@dataclass(frozen=True, eq=False)
class Lifts(Batch):
    """What is known of them so far: u `(N, m)`, whether one was found and whether one was looked for, bool `(N,)`."""

    u: Tensor = per_signal()
    usable: Tensor = per_signal()
    known: Tensor = per_signal()

    @classmethod
    def none_yet(cls, rows: Rows) -> "Lifts":
        """Nothing is known."""
        none = torch.zeros(rows.N, dtype=torch.bool, device=rows.y.device)
        return cls(torch.zeros_like(rows.y), none, none.clone())

    def at(self, index: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """u and whether it is one, for the signals at `index`, positions; what is not known is looked for, once."""
        new = index[~self.known[index]]
        if len(new):
            self.u[new], self.usable[new] = _lift(rows.take(new))
            self.known[new] = True
        return self.u[index], self.usable[index]


def column_lengths(rows: Rows) -> Tensor:
    """Length of each column of W on the rows that a signal sees, `(N, n)`."""
    seen = (rows.on | rows.off).to(rows.y.dtype)
    return (seen @ rows.W.matrix() ** 2).sqrt()


def _lift(rows: Rows) -> tuple[Tensor, Tensor]:
    """u `(N, m)` with u_off >= 0 and W'u >= the columns' lengths, and whether one was found `(N,)`."""
    L, definite = spd_factor(rows.gram())
    usable = definite.expand(rows.N).clone()
    u = torch.where(usable[:, None], rows.fit * rows.W(spd_solve(L, column_lengths(rows))), 0.0)
    # rounding may take a singular matrix for a definite one
    usable &= (rows.W.adjoint(u) >= 0.5 * column_lengths(rows)).all(1)
    weak = (~usable).nonzero()[:, 0]
    if len(weak):
        u[weak], usable[weak] = _lift_with_off_rows(rows.take(weak))
    return u, usable


def _lift_with_off_rows(rows: Rows, rounds: int = 60) -> tuple[Tensor, Tensor]:
    """The same for signals whose W_on lacks full column rank, with the help of their off rows.

    With the columns brought to length 1, min_{h >= 0} |W_on h|^2 + |(W_off h)_+|^2 + (1 - 1'h)^2 is solved by active-set
    rounds: its optimality conditions say that u = (W_on h, (W_off h)_+) has u_off >= 0 and W'u >= (1 - 1'h) 1. Such a u
    exists unless some h >= 0 besides 0 has W_on h = 0 and W_off h <= 0. Columns that the signal does not see stay out.
    """
    off, length = rows.off, column_lengths(rows)
    live = length > 0
    unit = torch.where(live, 1 / torch.where(live, length, 1.0), 0.0)
    free, pushed = live.clone(), off.clone()
    best, quality = torch.zeros_like(rows.y), torch.zeros(rows.N, dtype=rows.y.dtype, device=rows.y.device)
    for _ in range(rounds):
        active = torch.where(off, pushed, rows.on).to(rows.y.dtype)
        H = weighted_gram(rows.W, active) * unit[:, :, None] * unit[:, None, :] + 1.0
        H = H * (free[:, :, None] & free[:, None, :]) + torch.diag_embed((~free).to(H.dtype) + 1e-13 * rows.n)
        h = spd_solve(torch.linalg.cholesky_ex(H)[0], free.to(H.dtype))
        v = rows.W(h * unit)
        u = torch.where(rows.on, v, torch.where(off, v.clamp(min=0), torch.zeros_like(v)))
        reached = rows.W.adjoint(u) * unit
        worst = torch.nan_to_num(torch.where(live, reached, torch.inf).amin(1), nan=0.0, posinf=0.0)
        better = worst > quality
        best = torch.where(better[:, None], u / worst.clamp(min=1e-300)[:, None], best)
        quality = torch.maximum(worst, quality)
        slope = reached - (1 - h.sum(1, keepdim=True))
        new_free, new_pushed = live & (h > slope), off & (v > 0)
        if bool((new_free == free).all()) and bool((new_pushed == pushed).all()):
            break
        free, pushed = new_free, new_pushed
    return best, quality > 1e-12
