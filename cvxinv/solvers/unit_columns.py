"""Problems in the dictionary with columns of length 1, as LASSO and basis pursuit over D h on the map W D^-1.

D differs with the on rows; signals that share them are solved together, on these rows alone, and |D h|_1 is then |D h|_1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..generator.maps import Dense
from ..layers.basis_pursuit_l2 import BasisPursuitL2
from ..layers.core.rows import Rows
from ..layers.lasso import Lasso
from ..layers.normalised_basis_pursuit import NormalisedBasisPursuit
from ..layers.normalised_lasso import NormalisedLasso

Normalised = NormalisedLasso | NormalisedBasisPursuit


class Plain(NamedTuple):
    """The problem over D h of some `signals`, positions; the rows `used`, positions; and D, `(1, n)`."""

    signals: Tensor
    problem: Lasso | BasisPursuitL2
    used: Tensor
    D: Tensor

    def dual(self, p: Tensor, m: int) -> Tensor:
        """p of the rows used, `(k, m')`, among all `m` rows."""
        whole = torch.zeros(len(p), m, dtype=p.dtype, device=p.device)
        whole[:, self.used] = p
        return whole


def plain(problem: Normalised) -> Iterator[Plain]:
    """The problems over D h, one for all signals that share their on rows."""
    kinds, which = torch.unique(problem.rows.on, dim=0, return_inverse=True)
    for k in range(len(kinds)):
        index = (which == k).nonzero()[:, 0]
        part = problem.take(index)
        r, d = part.rows, part.rows.on_columns[:1]
        used = r.on[0].nonzero()[:, 0] if bool(r.on[0].any()) else torch.zeros(1, dtype=torch.long, device=r.y.device)
        on = r.on[:, used]
        b = r.b[used] if r.b.ndim == 1 else r.b[:, used]
        rows = Rows(Dense(r.W.matrix()[used] / d), b, r.y[:, used], on, torch.zeros_like(on), r.weight[:, used])
        small = Lasso(rows, part.lam) if isinstance(part, NormalisedLasso) else BasisPursuitL2(rows, part.eps)
        yield Plain(index, small, used, d)
