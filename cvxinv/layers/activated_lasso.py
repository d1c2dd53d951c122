"""Nonnegative LASSO of an image layer behind its activation: the one layer problem that is not convex.

    minimise    f(h) + lam 1'h,   f(h) = 1/2 sum_on w_i (phi(W h + b) - y)_i^2        (P)
    subject to  h >= 0

The paper calls (P) convex where phi is increasing and smooth. It is not. With one unknown, W = 1, b = 0, phi = tanh and
y = -1, f(h) = (tanh h + 1)^2 / 2 rises from 1/2 at h = 0 to 2 and its slope tanh'(h) (tanh h + 1) falls to 0: at h = 0, 2, 4
f is 0.5, 1.929, 1.999, so f(2) > (f(0) + f(4)) / 2 = 1.249, against convexity. With two rows there are local minima:
W = (1, 1)', b = (0, -8)', y = (-1, 1) rewards h = 0 on the first row and h > 8 on the second.

Therefore there is no dual. Any answer is judged by the proximal gradient step from it,

    h+ = max(h - (W'p + lam) / c, 0),   p_on = w phi'(W h + b) (phi(W h + b) - y),   c = max(w) |W|^2,

which leaves h where it is exactly at the stationary points. The status is `stationary`; `optimal` only where the objective
itself is 0 to the judge's precision, as nothing is below that. The curvature of each row's term is at most
c_phi = max |phi'^2 + phi'' (phi - y)| times w: 1 for a PLU or the identity, 1 + 0.77 max|phi - y| for tanh,
1/16 + 0.0963 max|phi - y| for a sigmoid.

Paper's letters: x -> h, lambda_L -> lam.
Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), eq. (8) and Algorithm 3;
added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..generator.activations import PLU, AbstractActivation, Identity, LeakyReLU, Sigmoid, Tanh
from ..inputs import describe
from .core.problem import AbstractCurvedProblem, Lower, Scaled, Statement, Units, per_signal
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class ActivatedLasso(AbstractCurvedProblem):
    """min over h >= 0 of 1/2 |phi(W h + b) - y|^2 on `on` + lam 1'h; off rows count as not seen.

    rows: see `Rows`; y in phi's output units. phi: Tanh, Sigmoid, PLU, LeakyReLU or Identity. lam: >= 0, one for all
    signals or `(N,)`; units of signal^2 / h. Not convex: `solve` gives `stationary` points, and CVXPY cannot state it.
    Source: Aberdam, Simon, Elad (2020), eq. (8). Raises ValueError if lam < 0, TypeError for another phi.
    """

    rows: Rows
    phi: AbstractActivation
    lam: float | Tensor = 0.0
    sizes: Tensor | None = None
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.phi, Tanh | Sigmoid | PLU | LeakyReLU | Identity):
            raise TypeError(
                f"expected phi as Tanh, Sigmoid, PLU, LeakyReLU or Identity, got {describe(self.phi)}; "
                "a ReLU's rows are on and off rows of NonnegativeLasso"
            )
        object.__setattr__(self, "lam", per_signal(self.lam, self.rows, "lam"))
        object.__setattr__(self, "rows", replace(self.rows, off=torch.zeros_like(self.rows.on)))

    @property
    def _lam(self) -> Tensor:
        assert isinstance(self.lam, Tensor)
        return self.lam

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        raise ValueError(
            "expected a convex layer problem for CVXPY, got ActivatedLasso, which is not convex behind "
            f"{type(self.phi).__name__}; use solver='auto' or 'fista', or IntervalBasisPursuit.behind(...)"
        )

    # --- certificate ---

    def objective(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        r = self._misfit(h)
        return (self.rows.fit * r * r).sum(1) / 2 + self._lam * h.sum(1)

    def _misfit(self, h: Tensor) -> Tensor:
        return torch.where(self.rows.on, self.phi(self.rows.W(h) + self.rows.b) - self.rows.y, torch.zeros_like(self.rows.y))

    def complete(self, h: Tensor) -> Tensor:
        """The gradient of the misfit with respect to W h + b, `(N, m)`."""
        return self.rows.fit * self.phi.derivative(self.rows.W(h) + self.rows.b) * self._misfit(h)

    def violation(self, h: Tensor) -> Tensor:
        return (-h).clamp(min=0).amax(1)

    def movement(self, h: Tensor) -> Tensor:
        moved = (self._ahead(h, self.complete(h)) - h).norm(dim=1)
        v = self.rows.W(h) + self.rows.b
        for side in (-torch.inf, torch.inf):
            # at a kink of phi the slope of either side counts, where a step along it leads down
            slope = self.phi.derivative(torch.nextafter(v, torch.full_like(v, side)))
            ahead = self._ahead(h, self.rows.fit * slope * self._misfit(h))
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
        return Lower(torch.zeros_like(self._lam), torch.zeros_like(p), torch.zeros_like(self._lam))

    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        return torch.zeros_like(self._lam)

    def bound_remarks(self) -> list[str]:
        return [f"not convex behind {type(self.phi).__name__}: no bound above 0"] * self.N

    # --- proximal pieces ---

    def curvature(self) -> Tensor:
        """A bound on the curvature of each row's misfit in W h + b, `(N, 1)`: w c_phi, see the module."""
        weight = self.rows.fit.amax(1, keepdim=True)
        y = torch.where(self.rows.on, self.rows.y.abs(), torch.zeros_like(self.rows.y)).amax(1, keepdim=True)
        if isinstance(self.phi, Tanh):
            return weight * (1 + 0.7699 * (1 + y))
        if isinstance(self.phi, Sigmoid):
            return weight * (1 / 16 + 0.09623 * (1 + y))
        return weight

    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        raise ValueError("expected a convex layer problem, got ActivatedLasso; use solver='auto' or 'fista'")

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        return (h - self.linear / rho).clamp(min=0)

    @property
    def linear(self) -> Tensor:
        return self._lam[:, None]

    @property
    def quadratic(self) -> Tensor:
        return torch.zeros_like(self.linear)

    # --- the same problem elsewhere ---

    def take(self, index: Tensor) -> "ActivatedLasso":
        return ActivatedLasso(self.rows.take(index), self.phi, self._lam[index])

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "ActivatedLasso":
        rows = self.rows.to(dtype, device)
        return self if rows is self.rows else ActivatedLasso(rows, self.phi, self._lam.to(rows.W.device, rows.W.dtype))

    @property
    def stretches(self) -> bool:
        return False

    def in_units(self, units: Units) -> "ActivatedLasso":
        """|W| = 1; y stays, because phi knows its units."""
        rows = replace(self.rows, W=self.rows.W.scaled(1 / units.norm))
        return ActivatedLasso(rows, self.phi, self._lam / units.norm)

    def normalised(self, tol: float = 1e-6) -> Scaled:
        """|W| = 1; y stays, because phi knows its units."""
        k = self.rows.W.norm() or 1.0
        one = torch.ones_like(self.linear)
        units = Units(self.rows, torch.ones_like(self._lam), k, None, None)
        return Scaled(self.in_units(units), one / k, one)
