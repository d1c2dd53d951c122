"""Units in which a layer problem is solved and judged: |W| = 1, data of length 1, rows and columns of one length."""

from math import frexp
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...generator.maps import UNEVEN, evenly
from ...lengths import power_of_two
from .rows import Rows

if TYPE_CHECKING:
    from .problem import AbstractLayerProblem

# Rows that hold next to nothing of the signal, as pixels at the border of a picture, are equations whose rounding counts
# as much as that of others once they are stretched: solvers get them as they are
_FAINT = 2.0**15


class Units(NamedTuple):
    """What a problem is measured in: its `rows` in the new units, the size of the data `(N,)`, and |W|.

    stretch `(m,)`, columns `(n,)`: by what rows and columns were multiplied beside 1 / s_y and 1 / |W|, or None.
    """

    rows: Rows
    data: Tensor
    norm: float
    stretch: Tensor | None
    columns: Tensor | None

    @property
    def h(self) -> Tensor:
        """h = this times the new h, `(N, 1)` or `(N, n)`."""
        unit = (self.data / self.norm)[:, None]
        return unit if self.columns is None else unit * self.columns

    def p(self, grows: tuple[int, int]) -> Tensor:
        """p = this times the new p, `(N, 1)` or `(N, m)`, for an objective that grows like data^a norm^b."""
        unit = (self.data ** (grows[0] - 1) * self.norm ** grows[1])[:, None]
        return unit if self.stretch is None else unit * self.stretch

    def objective(self, x: Tensor, grows: tuple[int, int]) -> Tensor:
        """x in the new units of such an objective, `(N,)`, in the old ones; the largest number where that overflows."""
        for _ in range(grows[0]):
            x = x * self.data
        return x.mul(self.norm ** grows[1]).clamp(-torch.finfo(x.dtype).max, torch.finfo(x.dtype).max)

    def stretched(self, v: Tensor) -> Tensor:
        """What rows held, `(N, m)`, after these units stretched them."""
        return v if self.stretch is None else v * self.stretch

    def number(self, x: Tensor, data: int, norm: int) -> Tensor:
        """A number of the problem that grows like data^a norm^b, `(N,)`, or one per row, `(N, m)`, in the new units."""
        unit = self.data if x.ndim == 1 else self.data[:, None]
        for _ in range(data):
            x = x / unit
        for _ in range(norm):
            x = x / self.norm
        return x if x.ndim == 1 else self.stretched(x)

    def sizes(self, before: Tensor | None) -> Tensor | None:
        """The sizes of the unknowns in the new units."""
        if self.columns is None:
            return before
        return self.columns if before is None else before * self.columns


def units_of(problem: "AbstractLayerProblem", binary: bool = False) -> Units:
    """Units in which |W| = 1 and s_y = 1 and rows and columns are even; zero scales count as 1.

    binary: only next to 1, by powers of two, which round nothing.
    """
    rows, W = problem.rows, problem.rows.W
    stretch, columns = None, None
    if not W.even:
        # the judge's units must not depend on which rows a neighbour in the batch limits
        rows_of = None if binary else limited_rows(problem)
        stretch = evening(W.row_lengths(), rows_of, UNEVEN if binary else _FAINT)
        W = W.stretched(stretch, None)
        columns = evening(W.column_lengths(), None) if binary or problem.stretches else None
        W = W.stretched(None, columns)
    data, k = rows.scale(), W.norm() or 1.0
    data = torch.where(data > 0, data, torch.ones_like(data))
    if binary:
        data, k = power_of_two(data), 2.0 ** (frexp(k)[1] - 1)
    s = data[:, None]
    changes: dict[str, Any] = {"W": W.scaled(1 / k), "b": (rows.b / s).expand_as(rows.y), "y": rows.y / s}
    if stretch is not None:
        changes = changes | {
            "b": changes["b"] * stretch, "y": changes["y"] * stretch, "weight": rows.weight / stretch**2,
            "stretch": stretch if rows.stretch is None else rows.stretch * stretch,
        }  # fmt: skip
    return Units(rows.derived(**changes), data, k, stretch, columns)


def evening(length: Tensor, which: Tensor | None, most: float = UNEVEN) -> Tensor | None:
    """Powers of two that bring lengths to the median one if any is more than `most` times from it; None: all are even.

    which: bool, the only ones that may be stretched; None: all. Lengths of 0 are left alone.
    """
    there = length > 0 if which is None else which & (length > 0)
    if bool(evenly(length, there, most).all()):
        return None
    ratio = torch.where(there, length / length[length > 0].median(), torch.ones_like(length))
    # what lies further apart would leave no room for squares
    most = 2.0**400 if length.dtype == torch.float64 else 2.0**40
    return (1 / power_of_two(ratio)).clamp(1 / most, most)


def limited_rows(problem: "AbstractLayerProblem") -> Tensor:
    """Rows that have a limit of their own for some signal, bool `(m,)`."""
    return _limited(problem).any(0)


def _limited(problem: "AbstractLayerProblem") -> Tensor:
    """The same for each signal, bool `(N, m)`."""
    there = torch.zeros_like(problem.rows.on)
    for end in problem.bounds():
        there = there if end is None else there | torch.isfinite(end)
    return there


def dead_rows(problem: "AbstractLayerProblem") -> Tensor:
    """Limited rows that no h moves, bool `(N, m)`: W is 0 there, and nothing is paid for them."""
    dead = problem.rows.W.row_lengths() == 0
    if not bool(dead.any()):
        return torch.zeros_like(problem.rows.on)
    return _limited(problem) & dead & ~problem.misfit.priced


def without_dead_rows(problem: "AbstractLayerProblem", tol: float) -> "AbstractLayerProblem":
    """The problem without the limits on rows that no h moves, where they are broken by at most tol s_y."""
    dead = dead_rows(problem)
    if not bool(dead.any()):
        return problem
    rows = problem.rows
    zero = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
    over = problem.excess(zero).rows
    assert over is not None
    broken = rows.in_signal_units(over)
    gone = dead & (broken <= tol * rows.scale()[:, None])
    return problem.unseen(gone) if bool(gone.any()) else problem
