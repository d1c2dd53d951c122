"""Basis pursuit with an l2 bound on the misfit: h of any sign, or h >= 0.

    minimise    |h|_1                                                     (P)
    subject to  (sum_on w_i (W h + b - y)_i^2)^(1/2) <= eps,   (W h + b)_off <= 0,   [h >= 0]

    maximise    p_on'(b - y) + p_off'b - eps (sum_on p_i^2 / w_i)^(1/2)   (D)
    subject to  |W'p| <= 1  (with h >= 0: W'p + 1 >= 0),   p_off >= 0,   p = 0 on rows that were not seen

With v = W h + b and F(v) the indicator of both bounds, F*(p) = p_on'y + eps |p_on / w^(1/2)| + [p_off >= 0], and (D) is
max_p b'p - F*(p) + min_h (g(h) + p'W h). At the optimum p_on = w (W h + b - y) / lam for the lam of the LASSO with the
same h, W'p = -sign(h) where h != 0, and p_off (W h + b)_off = 0.

The value of (D) is positively homogeneous in p: `lower` clips p_off to >= 0 and divides p by
M = max |W'p|, or by max -(W'p) where h >= 0. With val > 0 and W'p = 0 no h is feasible, and in rounded arithmetic every
feasible h has |h| >= val / |W'p|, which is what `infeasibility` says. eps = 0 asks for W h + b = y on the on rows.

Source: `sparse` note 5.2 for b = 0, w = 1 and no off rows; the bound that Aberdam, Simon, Elad, "When and How Can Deep
Generative Models be Inverted?" (2020), state their Algorithm 2 with; added: biases, row weights, off rows, unseen rows.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..lengths import lengths
from .core.multipliers import shortest_dual
from .core.problem import (
    AbstractLayerProblem,
    Bound,
    Excess,
    Lower,
    Statement,
    Units,
    away,
    length_of,
    per_signal,
    per_unknown,
    proved,
    rounding,
)
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class AbstractBasisPursuitL2(AbstractLayerProblem):
    """What both basis pursuits with an l2 bound share."""

    rows: Rows
    eps: float | Tensor = 0.0
    sizes: Tensor | None = None
    form: ClassVar[str] = "ball"

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", per_signal(self.eps, self.rows, "eps"))
        per_unknown(self.sizes, self.rows)

    @property
    def _eps(self) -> Tensor:
        assert isinstance(self.eps, Tensor)
        return self.eps

    # --- statement ---

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, eps = sample, float(self._eps[i])
        h = cp.Variable(s.n)
        misfit = cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)
        ball = cp.SOC(cp.Constant(eps), misfit) if eps > 0 else None  # |misfit|_2 <= eps
        on = s.W_on @ h + s.b_on == s.y_on if eps == 0 else None  # a cone without interior misleads solvers
        off = s.W_off @ h + s.b_off <= 0 if len(s.b_off) else None
        constraints = [c for c in (ball, on, off, self._sign(h)) if c is not None]
        bounds = tuple(Bound(c, k, 1) for c, k in ((on, s.on), (off, s.off)) if c is not None)
        return Statement(cp.Problem(cp.Minimize(length_of(cp, h, self.sizes, False)), constraints), h, bounds, ball)

    @abstractmethod
    def _sign(self, h):
        """The constraint on h itself, or None."""

    # --- certificate ---

    def objective(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        return (self.linear * h.abs()).sum(1)

    def violation(self, h: Tensor) -> Tensor:
        r = self.rows.residual(h)
        beyond = (lengths(self.rows.fit.sqrt() * r) - self._eps).clamp(min=0)
        beyond = torch.maximum(beyond, self.rows.excess(h).amax(1))
        return torch.maximum(beyond, (-h).clamp(min=0).amax(1)) if self.nonnegative else beyond

    def excess(self, h: Tensor, v: Tensor | None = None) -> Excess:
        rows = self.rows
        v = rows.W(h) + rows.b if v is None else v
        found = super().excess(h, v)
        r = torch.where(rows.on, v - rows.y, torch.zeros_like(v))
        reach = rows.W.row_lengths() * lengths(h, keepdim=True) + rows.b.abs() + rows.y.abs()
        ball = (rows.fit * r * r).sum(1).sqrt() - self._eps
        return found._replace(ball=ball, ball_size=(rows.fit * reach * reach).sum(1).sqrt())

    def lower(self, p: Tensor, enough: Tensor | None = None) -> Lower:
        p = self._clipped(p)
        value, doubt = self._value(p, 0.0)
        slope = self._slope(p)
        slope = (slope if self.sizes is None else slope / self.sizes).amax(1).clamp(min=torch.finfo(p.dtype).tiny)
        # the value of a p without slope would be infinite: it proves that there is no h, and no bound on one
        scale = (1 - 4 * torch.finfo(p.dtype).eps) / slope
        return proved(value * scale, doubt * scale, p * scale[:, None])

    def _clipped(self, p: Tensor) -> Tensor:
        """p with p_off >= 0 and 0 on unseen rows, at length 1: (D) is homogeneous, and a huge p would overflow."""
        off = self.rows._off
        p = torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)
        p = torch.where(off, p.clamp(min=0), torch.where(self.rows.on, p, torch.zeros_like(p)))
        return p / p.abs().amax(1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)

    def _value(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        """(D) at p with bounds wider by `slack`, and what rounding may have added."""
        rows, u = self.rows, rounding(self.rows.m, p.dtype)
        t = torch.where(rows.on, -rows.target, torch.where(rows._off, rows.b, 0.0))
        length = torch.where(rows.on, p * p / rows._weight, torch.zeros_like(p)).sum(1).sqrt()
        wider = slack * rows.stretched(torch.where(rows._off, p, torch.zeros_like(p))).sum(1)
        value = (p * t).sum(1) - (self._eps + slack) * length - wider
        return value, u * ((self._eps + slack) * length + (p * t).abs().sum(1))

    def _slope(self, p: Tensor) -> Tensor:
        """|W'p|, or the part of -(W'p) above 0 where h >= 0, with its rounding error added, `(N, n)`."""
        doubt = self.rows.W.magnitude().adjoint(p.abs()) * rounding(self.rows.m, p.dtype)
        slope = self.rows.W.adjoint(p)
        return ((-slope if self.nonnegative else slope.abs()) + doubt).clamp(min=0)

    def complete(self, h: Tensor) -> Tensor:
        return shortest_dual(self, h, self.rows.fit * self.rows.residual(h))

    def limits(self) -> tuple[Tensor, Tensor]:
        lo, hi = super().limits()
        exact = self.rows.on & (self._eps == 0)[:, None]
        return torch.where(exact, self.rows.y, lo), torch.where(exact, self.rows.y, hi)

    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        p = self._clipped(p)
        value, doubt = self._value(p, slack)
        return away(torch.nan_to_num(value - doubt, nan=0.0, posinf=0.0), self._slope(p))

    def opened(self, width: Tensor) -> Self:
        return replace(self, eps=self._eps + width)

    def bound_remarks(self) -> list[str]:
        return [""] * self.N

    # --- proximal pieces ---

    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        rows = self.rows
        r = torch.where(rows.on, v - rows.y, torch.zeros_like(v))
        t = _shrinkage(r, rows.fit, self._eps)[:, None]
        # t = inf where eps = 0: then the on rows are y itself
        near = torch.where(torch.isinf(t), torch.zeros_like(r), r / (1 + t * rows.fit))
        return torch.where(rows.on, rows.y + near, torch.where(rows._off, v.clamp(max=0), v))

    @property
    def linear(self) -> Tensor:
        return self.counted(torch.ones_like(self._eps)[:, None])

    @property
    def quadratic(self) -> Tensor:
        return torch.zeros_like(self._eps)[:, None]

    # --- the same problem elsewhere ---

    def take(self, index: Tensor) -> Self:
        return replace(self, rows=self.rows.take(index), eps=self._eps[index])

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        rows = self.rows.to(dtype, device)
        if rows is self.rows:
            return self
        sizes = None if self.sizes is None else self.sizes.to(rows.y)
        return replace(self, rows=rows, eps=self._eps.to(rows.y), sizes=sizes)

    def in_units(self, units: Units) -> Self:
        return replace(self, rows=units.rows, eps=self._eps / units.data, sizes=units.sizes(self.sizes))


@dataclass(frozen=True, eq=False, repr=False)
class BasisPursuitL2(AbstractBasisPursuitL2):
    """min |h|_1 with |W h + b - y|_2 <= eps on `on` and W h + b <= 0 on `off`; h of any sign.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: bound on the misfit, >= 0, signal units, one for all
    signals or `(N,)`. Source: `sparse` note 5.2 (b). Raises ValueError if eps < 0.
    """

    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True

    def _sign(self, h):
        return None

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        return h.sign() * (h.abs() - self.linear / rho).clamp(min=0)


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeBasisPursuitL2(AbstractBasisPursuitL2):
    """min 1'h over h >= 0 with |W h + b - y|_2 <= eps on `on` and W h + b <= 0 on `off`.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: bound on the misfit, >= 0, signal units, one for all
    signals or `(N,)`. Source: `sparse` note 5.2 (b+), with off rows as in 5.4. Raises ValueError if eps < 0.
    """

    nonnegative: ClassVar[bool] = True

    def _sign(self, h):
        return h >= 0

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        return (h - self.linear / rho).clamp(min=0)


def _shrinkage(r: Tensor, w: Tensor, eps: Tensor, rounds: int = 60) -> Tensor:
    """The t >= 0 with sum w (r / (1 + t w))^2 = eps^2, 0 where the misfit is within eps, inf where eps = 0; `(N,)`.

    Newton's iteration on 1/|misfit(t)| - 1/eps, which is concave and increasing: from t = 0 it rises to the root without
    passing it. With equal weights the first step is exact.
    """
    t = torch.zeros_like(eps)
    outside = (w * r * r).sum(1).sqrt() > eps
    for _ in range(rounds):
        part = w * (r / (1 + t[:, None] * w)) ** 2
        square = part.sum(1).clamp(min=torch.finfo(r.dtype).tiny)
        curve = (part * w / (1 + t[:, None] * w)).sum(1)  # -1/2 d square / dt
        step = (square.sqrt() / eps - 1) * square / curve.clamp(min=torch.finfo(r.dtype).tiny)
        step = torch.where(outside, step.clamp(min=0), torch.zeros_like(step))
        t = t + torch.nan_to_num(step, posinf=torch.inf)
        if not bool((step > 1e-15 * t).any()):
            break
    return torch.where(outside & (eps == 0), torch.inf, t)
