"""A squared misfit behind an activation, which is not convex: no statement, no bound but 0, and `stationary` for an answer.

    F(v) = 1/2 sum_on w (phi(v) - y)^2

There is no dual. Any answer is judged by the proximal gradient step from it,

    h+ = max(h - (W'p + lam) / c, 0),   p_on = w phi'(W h + b) (phi(W h + b) - y),   c = max(w) |W|^2,

which leaves h where it is exactly at the stationary points.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...generator.activations import AbstractActivation
from .misfits import AbstractMisfit, Earned
from .problem import AbstractLayerProblem, Scaled, Statement
from .proofs import Lower, Unmet
from .rows import Sample
from .units import Units


@dataclass(frozen=True, eq=False)
class SquaresBehind(AbstractMisfit):
    """F(v) = 1/2 sum_on w (phi(v) - y)^2, y in phi's output units; it limits no row."""

    phi: AbstractActivation
    form: ClassVar[str] = "curved"
    homogeneous: ClassVar[bool] = False

    def value(self, h: Tensor, v: Tensor | None = None) -> Tensor | None:
        r = self._residual(self.rows.W(h) + self.rows.b if v is None else v)
        return (self.rows.fit * r * r).sum(1) / 2

    def _residual(self, v: Tensor) -> Tensor:
        return torch.where(self.rows.on, self.phi(v) - self.rows.y, torch.zeros_like(v))

    def gradient(self, v: Tensor, side: float | None = None) -> Tensor:
        """grad F at `v` `(N, m)`; side: -inf or inf, where the slope of phi is taken on that side of each entry."""
        slope = self.phi.derivative(v if side is None else torch.nextafter(v, torch.full_like(v, side)))
        return self.rows.fit * slope * self._residual(v)

    def curvature(self) -> Tensor:
        """A bound on the curvature of each row's misfit in v, `(N, 1)`: w max |phi'^2 + phi'' (phi - y)|."""
        y = torch.where(self.rows.on, self.rows.y.abs(), torch.zeros_like(self.rows.y)).amax(1, keepdim=True)
        curvature = self.phi.curvature(y)
        assert curvature is not None
        return self.rows.fit.amax(1, keepdim=True) * curvature

    def violation(self, h: Tensor) -> Tensor:
        return torch.zeros_like(h[:, 0])

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        return None, None

    def clipped(self, p: Tensor) -> Tensor:
        return torch.zeros_like(p)

    def earned(self, p: Tensor) -> Earned:
        return Earned(torch.zeros_like(p[:, 0]), None, torch.zeros_like(p[:, 0]))

    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(p), torch.zeros_like(p[:, 0])

    def prox(self, v: Tensor, rho: Tensor) -> Tensor:
        raise ValueError("expected a convex layer problem, got ActivatedLasso; use solver='auto' or 'fista'")


class AbstractCurvedProblem(AbstractLayerProblem):
    """A layer problem that is not convex. Its off rows count as not seen."""

    form: ClassVar[str] = "curved"
    counts_off: ClassVar[bool] = False

    @property
    @abstractmethod
    def misfit(self) -> SquaresBehind: ...

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        raise ValueError(
            f"expected a convex layer problem for CVXPY, got {type(self).__name__}, which is not convex behind "
            f"{type(self.misfit.phi).__name__}; use solver='auto' or 'fista', or IntervalBasisPursuit.behind(...)"
        )

    def complete(self, h: Tensor) -> Tensor:
        """The gradient of the misfit with respect to W h + b, `(N, m)`."""
        return self.misfit.gradient(self.rows.W(h) + self.rows.b)

    def curvature(self) -> Tensor:
        """A bound on the curvature of each row's misfit in W h + b, `(N, 1)`."""
        return self.misfit.curvature()

    def movement(self, h: Tensor) -> Tensor:
        """How far one proximal gradient step from `h` `(N, n)` moves it, relative to its natural size s_y / |W|, `(N,)`."""
        moved = (self._ahead(h, self.complete(h)) - h).norm(dim=1)
        v = self.rows.W(h) + self.rows.b
        for side in (-torch.inf, torch.inf):
            # at a kink of phi the slope of either side counts, where a step along it leads down
            ahead = self._ahead(h, self.misfit.gradient(v, side))
            down = self.objective(ahead) < self.objective(h)
            moved = torch.maximum(moved, torch.where(down, (ahead - h).norm(dim=1), torch.zeros_like(moved)))
        natural = self.rows.scale() / (self.rows.W.norm() or 1.0)
        return moved / natural.clamp(min=torch.finfo(h.dtype).tiny)

    def _ahead(self, h: Tensor, p: Tensor) -> Tensor:
        """A proximal gradient step from h."""
        weight = self.rows.fit.amax(1, keepdim=True).clamp(min=torch.finfo(h.dtype).tiny)
        c = weight * (self.rows.W.norm() or 1.0) ** 2
        return (h - (self.rows.W.adjoint(p) + self.linear) / c).clamp(min=0)

    def lower(self, p: Tensor, enough: Tensor | None = None) -> Lower:
        # both terms are >= 0, and no more is known
        return Lower(torch.zeros_like(p[:, 0]), torch.zeros_like(p), torch.zeros_like(p[:, 0]))

    def unmet(self, p: Tensor) -> Unmet | None:
        return None

    def bound_remarks(self) -> list[str]:
        return [f"not convex behind {type(self.misfit.phi).__name__}: no bound above 0"] * self.N

    def normalised(self, tol: float = 1e-6) -> Scaled:
        """|W| = 1; y stays, because phi knows its units."""
        rows, k = self.rows, self.rows.W.norm() or 1.0
        one = torch.ones_like(rows.y[:, :1])
        units = Units(rows.derived(W=rows.W.scaled(1 / k)), one[:, 0], k, None, None)
        return Scaled(self.in_units(units), one / k, one)
