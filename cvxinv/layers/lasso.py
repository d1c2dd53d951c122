"""LASSO with an unknown of any sign, on the on rows only.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam |h|_1             (P)

    maximise    p_on'(b - y) - 1/2 sum_on p_i^2 / w_i                     (D)
    subject to  |W'p| <= lam,   p = 0 on all other rows

With F(v) = 1/2 sum_on w (v - y)^2, (P) is min_h F(W h + b) + lam |h|_1, and its Fenchel dual is
max_p b'p - F*(p) + min_h (lam |h|_1 + p'W h) with F*(p) = sum_on (p^2 / (2 w) + p y). At the optimum
p = w (W h + b - y), |W'p| <= lam and (W'p)_j = -lam sign(h_j) where h_j != 0.

`lower` scales any p by the best s in [0, min_j lam / |W'p|_j]: (D) is star-shaped about 0. Where lam = 0 the feasible p are
those with W'p = 0, which rounding never meets; `unmet` says by how much they miss it, and `bounds` what that costs.

Rows that are off count as not seen: the paper's Algorithm 2 uses the support rows alone.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Algorithm 2 (Layered Basis
Pursuit), the Lagrangian form of both steps; added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from .core.multipliers import balanced
from .core.problem import (
    AbstractLayerProblem,
    Lower,
    Statement,
    Units,
    Unmet,
    length_of,
    per_signal,
    per_unknown,
    proved,
    rounding,
)
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class Lasso(AbstractLayerProblem):
    """min 1/2 |W h + b - y|^2 on `on` + lam |h|_1; h of any sign; off rows count as not seen.

    rows: see `Rows`. lam: weight of |h|_1, >= 0, one for all signals or `(N,)`; units of signal^2 / h.
    Source: Aberdam, Simon, Elad (2020), Algorithm 2. Raises ValueError if lam < 0.
    """

    rows: Rows
    lam: float | Tensor = 0.0
    sizes: Tensor | None = None
    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", per_signal(self.lam, self.rows, "lam"))
        per_unknown(self.sizes, self.rows)
        object.__setattr__(self, "rows", replace(self.rows, off=torch.zeros_like(self.rows.on)))

    @property
    def _lam(self) -> Tensor:
        assert isinstance(self.lam, Tensor)
        return self.lam

    # --- statement ---

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, lam = sample, float(self._lam[i])
        h = cp.Variable(s.n)
        if gram:
            G = s.W_on.T @ (s.weight_on[:, None] * s.W_on)
            t = s.y_on - s.b_on
            misfit = cp.quad_form(h, cp.psd_wrap(G)) / 2 - (s.W_on.T @ (s.weight_on * t)) @ h
            misfit += float(t @ (s.weight_on * t)) / 2
        else:
            misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        return Statement(cp.Problem(cp.Minimize(misfit + lam * length_of(cp, h, self.sizes, False))), h)

    # --- certificate ---

    def objective(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        r = self.rows.residual(h, v)
        return (self.rows.fit * r * r).sum(1) / 2 + (self.linear * h.abs()).sum(1)

    def violation(self, h: Tensor) -> Tensor:
        return torch.zeros_like(self._lam)

    def lower(self, p: Tensor, enough: Tensor | None = None) -> Lower:
        p = self._clipped(p)
        slope = self._slope(p)
        top = torch.where(slope > 0, self._lam / slope.clamp(min=torch.finfo(p.dtype).tiny), torch.inf)
        linear, square = self._parts(p)
        best = linear / square.clamp(min=torch.finfo(p.dtype).tiny)
        s = torch.minimum(best.clamp(min=0), top * (1 - 4 * torch.finfo(p.dtype).eps))
        return self._value(p, torch.where(square > 0, s, torch.zeros_like(s)))

    def unmet(self, p: Tensor) -> Unmet:
        p = self._clipped(p)
        slope = self.rows.W.adjoint(p)
        short = slope.sign() * (slope.abs() - self.linear).clamp(min=0)
        (linear, square), u = self._parts(p), rounding(self.rows.m, p.dtype)
        value = linear - square / 2 - u * ((p * self.rows.target).abs().sum(1) + square)
        return Unmet(value, p, short, self.rows.W.magnitude().adjoint(p.abs()) * u)

    def _clipped(self, p: Tensor) -> Tensor:
        p = torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)
        return torch.where(self.rows.on, p, torch.zeros_like(p))

    def _slope(self, p: Tensor) -> Tensor:
        """max |W'p| over the unknowns' sizes, with its rounding error added, `(N,)`."""
        doubt = self.rows.W.magnitude().adjoint(p.abs()) * rounding(self.rows.m, p.dtype)
        slope = self.rows.W.adjoint(p).abs() + doubt
        return (slope if self.sizes is None else slope / self.sizes).amax(1)

    def _parts(self, p: Tensor) -> tuple[Tensor, Tensor]:
        square = torch.where(self.rows.on, p * p / self.rows._weight, torch.zeros_like(p)).sum(1)
        return -(p * self.rows.target).sum(1), square

    def _value(self, p: Tensor, s: Tensor) -> Lower:
        """(D) at s p, less what rounding may have added."""
        (linear, square), u = self._parts(p), rounding(self.rows.m, p.dtype)
        doubt = u * (s * (p * self.rows.target).abs().sum(1) + s * s * square)
        return proved(s * linear - s * s * square / 2, doubt, s[:, None] * p)

    def complete(self, h: Tensor) -> Tensor:
        p = self.rows.fit * self.rows.residual(h)
        size = h.abs()
        free = (size > 1e-6 * size.amax(1, keepdim=True)) | (self._lam == 0)[:, None]
        return balanced(self.rows, p, self.rows.W.adjoint(p) + self.linear * h.sign(), free, self.quadratic)

    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        return torch.zeros_like(self._lam)  # every h is feasible

    def bound_remarks(self) -> list[str]:
        text = "lam = 0: no bound above 0 holds for every h unless W_on has full column rank"
        return ["" if lam > 0 else text for lam in self._lam]

    # --- proximal pieces ---

    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        rows = self.rows
        return torch.where(rows.on, (rows.fit * rows.y + rho * v) / (rows.fit + rho), v)

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        return h.sign() * (h.abs() - self.linear / rho).clamp(min=0)

    @property
    def linear(self) -> Tensor:
        return self.counted(self._lam[:, None])

    @property
    def quadratic(self) -> Tensor:
        return torch.zeros_like(self._lam)[:, None]

    # --- the same problem elsewhere ---

    def take(self, index: Tensor) -> "Lasso":
        return Lasso(self.rows.take(index), self._lam[index], self.sizes)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Lasso":
        rows = self.rows.to(dtype, device)
        if rows is self.rows:
            return self
        return Lasso(rows, self._lam.to(rows.y), None if self.sizes is None else self.sizes.to(rows.y))

    def in_units(self, units: Units) -> "Lasso":
        return Lasso(units.rows, self._lam / units.data / units.norm, units.sizes(self.sizes))
