"""LASSO with an unknown of any sign, on the on rows only.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam |h|_1             (P)

    maximise    p_on'(b - y) - 1/2 sum_on p_i^2 / w_i                     (D)
    subject to  |W'p| <= lam,   p = 0 on all other rows

With F(v) = 1/2 sum_on w (v - y)^2, (P) is min_h F(W h + b) + lam |h|_1, and its Fenchel dual is
max_p b'p - F*(p) + min_h (lam |h|_1 + p'W h) with F*(p) = sum_on (p^2 / (2 w) + p y). At the optimum
p = w (W h + b - y), |W'p| <= lam and (W'p)_j = -lam sign(h_j) where h_j != 0.

`dual` scales any p by the best s in [0, min_j lam / |W'p|_j]: (D) is star-shaped about 0. Where lam = 0 the feasible p are
those with W'p = 0, which rounding never meets: p is brought there as far as it goes by p += w W (W'w W)^-1 (-W'p), the bound
is taken over |h|_1 <= 1e6 s_y / |W| instead, and `bound_remarks` says so.

Rows that are off count as not seen: the paper's Algorithm 2 uses the support rows alone.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Algorithm 2 (Layered Basis
Pursuit), the Lagrangian form of both steps; added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..layer_problem import (
    AbstractLayerProblem,
    Scaled,
    Statement,
    normalised_rows,
    per_signal,
    rounding,
)
from ..multipliers import balanced
from ..rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class Lasso(AbstractLayerProblem):
    """min 1/2 |W h + b - y|^2 on `on` + lam |h|_1; h of any sign; off rows count as not seen.

    rows: see `Rows`. lam: weight of |h|_1, >= 0, one for all signals or `(N,)`; units of signal^2 / h.
    Source: Aberdam, Simon, Elad (2020), Algorithm 2. Raises ValueError if lam < 0.
    """

    rows: Rows
    lam: float | Tensor = 0.0
    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", per_signal(self.lam, self.rows, "lam"))
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
        return Statement(cp.Problem(cp.Minimize(misfit + lam * cp.norm(h, 1))), h)

    # --- certificate ---

    def objective(self, h: Tensor) -> Tensor:
        r = self.rows.residual(h)
        return (self.rows.fit * r * r).sum(1) / 2 + self._lam * h.abs().sum(1)

    def violation(self, h: Tensor) -> Tensor:
        return torch.zeros_like(self._lam)

    def dual(self, p: Tensor, enough: Tensor | None = None) -> Tensor:
        p = self._clipped(p)
        slope = self._slope(p)
        top = torch.where(slope > 0, self._lam / slope.clamp(min=torch.finfo(p.dtype).tiny), torch.inf)
        linear, square = self._parts(p)
        best = linear / square.clamp(min=torch.finfo(p.dtype).tiny)
        s = torch.minimum(best.clamp(min=0), top * (1 - 4 * torch.finfo(p.dtype).eps))
        scaled = self._value(p, torch.where(square > 0, s, torch.zeros_like(s)))
        bound = torch.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)
        short = self._lam == 0
        if enough is not None:
            short = short & (bound < enough)
        if short.any():
            bound[short] = torch.maximum(bound[short], self.take(short)._bound_in_a_ball(p[short]))
        return bound

    def _bound_in_a_ball(self, p: Tensor) -> Tensor:
        """(D) at p for lam = 0 at the price of its worst entry, p as it is or brought to W'p = 0."""
        radius = 1e6 * self.rows.scale() / (self.rows.W.norm() or 1.0)
        free = torch.ones(self.N, self.n, dtype=torch.bool, device=p.device)
        best = torch.zeros_like(radius)
        for q in (p, balanced(self.rows, p, self.rows.W.adjoint(p), free, self.quadratic)):
            value = self._value(q, torch.ones_like(radius)) - radius * self._slope(q)
            best = torch.maximum(best, torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0))
        return best

    def _clipped(self, p: Tensor) -> Tensor:
        p = torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)
        return torch.where(self.rows.on, p, torch.zeros_like(p))

    def _slope(self, p: Tensor) -> Tensor:
        """max |W'p| with its rounding error added, `(N,)`."""
        doubt = self.rows.W.magnitude().adjoint(p.abs()) * rounding(self.rows.m, p.dtype)
        return (self.rows.W.adjoint(p).abs() + doubt).amax(1)

    def _parts(self, p: Tensor) -> tuple[Tensor, Tensor]:
        square = torch.where(self.rows.on, p * p / self.rows._weight, torch.zeros_like(p)).sum(1)
        return -(p * self.rows.target).sum(1), square

    def _value(self, p: Tensor, s: Tensor) -> Tensor:
        """(D) at s p, less what rounding may have added."""
        (linear, square), u = self._parts(p), rounding(self.rows.m, p.dtype)
        return s * linear - s * s * square / 2 - u * (s * (p * self.rows.target).abs().sum(1) + s * s * square)

    def complete(self, h: Tensor) -> Tensor:
        p = self.rows.fit * self.rows.residual(h)
        size = h.abs()
        free = (size > 1e-6 * size.amax(1, keepdim=True)) | (self._lam == 0)[:, None]
        return balanced(self.rows, p, self.rows.W.adjoint(p) + self.linear * h.sign(), free, self.quadratic)

    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        return torch.zeros_like(self._lam)  # every h is feasible

    def bound_remarks(self) -> list[str]:
        text = "lam = 0: the bound holds for |h|_1 <= 1e6 s_y / |W| only"
        return ["" if lam > 0 else text for lam in self._lam]

    # --- proximal pieces ---

    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        rows = self.rows
        return torch.where(rows.on, (rows.fit * rows.y + rho * v) / (rows.fit + rho), v)

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        return h.sign() * (h.abs() - self.linear / rho).clamp(min=0)

    @property
    def linear(self) -> Tensor:
        return self._lam[:, None]

    @property
    def quadratic(self) -> Tensor:
        return torch.zeros_like(self.linear)

    # --- the same problem elsewhere ---

    def take(self, index: Tensor) -> "Lasso":
        return Lasso(self.rows.take(index), self._lam[index])

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Lasso":
        rows = self.rows.to(dtype, device)
        return self if rows is self.rows else Lasso(rows, self._lam.to(rows.W.device, rows.W.dtype))

    def normalised(self) -> Scaled:
        rows, data, k = normalised_rows(self.rows)
        return Scaled(Lasso(rows, self._lam / (data * k)), (data / k)[:, None], data[:, None])
