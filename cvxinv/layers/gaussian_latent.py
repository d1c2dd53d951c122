"""Latent of the first layer under a Gaussian prior.

    minimise    1/2 sum_on w_i (W z + b - y)_i^2 + gamma/2 |z|^2          (P)
    subject to  (W z + b)_off <= 0

    maximise    p_on'(b - y) + p_off'b - 1/2 sum_on p_i^2 / w_i - |W'p|^2 / (2 gamma)      (D)
    subject to  p_off >= 0,   p = 0 on rows that were not seen   (gamma = 0: W'p = 0 in place of the last term)

Partly maximised over p_on, (D) is the Lagrangian's minimum for the multipliers mu = p_off >= 0 alone,

    D(mu) = min_z 1/2 sum_on w (W z + b - y)^2 + gamma/2 |z|^2 + mu'(W z + b)_off,   z(mu) = H^-1 g(mu),
    H = W_on' w W_on + gamma I,   g(mu) = W_on' w (y - b) - W_off'mu.

It needs H > 0, holds for gamma = 0 too, and is never below (D) at (p_on, mu). At the optimum
p_on = w (W z + b - y), W'p + gamma z = 0 and p_off (W z + b)_off = 0.

`lower` clips p_off to >= 0, which is all that feasibility asks; it takes the better of (D) as given and of D(mu) with
the computed z(mu), less r'H^-1 r for the gradient r that rounding left. Where gamma = 0 and H is singular to rounding
D(mu) is -inf unless W_off'mu lies exactly in the range of W_on': `unmet` says by how much W'p misses 0, `bounds` what that
costs.

The unknown is called h here as in every layer problem. With gamma = 0 it is also the layer problem of an h of any sign,
as a LeakyReLU leaves it.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), eq. (16); changed: biases,
row weights, rows that were not seen, gamma = 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .core.multipliers import balanced, multipliers_of_tight_rows
from .core.problem import (
    AbstractLayerProblem,
    Bound,
    Lower,
    Statement,
    Units,
    Unmet,
    away,
    per_signal,
    per_unknown,
    proved,
    rounding,
    spd_solve,
)
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class GaussianLatent(AbstractLayerProblem):
    """min_z 1/2 |W z + b - y|^2 on `on` + gamma/2 |z|^2 with W z + b <= 0 on `off`; z has any sign.

    rows: see `Rows`. gamma: prior precision, >= 0, one for all signals or `(N,)`; units of signal^2 / latent^2.
    Source: Aberdam, Simon, Elad (2020), eq. (16). Raises ValueError if gamma < 0.
    """

    rows: Rows
    gamma: float | Tensor = 0.0
    sizes: Tensor | None = None
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", per_signal(self.gamma, self.rows, "gamma"))
        per_unknown(self.sizes, self.rows)

    @property
    def _gamma(self) -> Tensor:
        assert isinstance(self.gamma, Tensor)
        return self.gamma

    # --- statement ---

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, gamma = sample, float(self._gamma[i])
        z = cp.Variable(s.n)
        if gram:
            G = s.W_on.T @ (s.weight_on[:, None] * s.W_on)
            t = s.y_on - s.b_on
            misfit = cp.quad_form(z, cp.psd_wrap(G)) / 2 - (s.W_on.T @ (s.weight_on * t)) @ z
            misfit += float(t @ (s.weight_on * t)) / 2
        else:
            misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ z + s.b_on - s.y_on)) / 2
        off = s.W_off @ z + s.b_off <= 0 if len(s.b_off) else None
        d = np.ones(s.n) if self.sizes is None else self.sizes.detach().cpu().double().numpy()
        prior = gamma / 2 * cp.sum_squares(cp.multiply(d, z))
        bounds = (Bound(off, s.off, 1),) if off is not None else ()
        return Statement(cp.Problem(cp.Minimize(misfit + prior), [off] if off is not None else []), z, bounds)

    # --- certificate ---

    def objective(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        r = self.rows.residual(h, v)
        return (self.rows.fit * r * r).sum(1) / 2 + (self.quadratic * h * h).sum(1) / 2

    def violation(self, h: Tensor) -> Tensor:
        return self.rows.excess(h).amax(1)

    def lower(self, p: Tensor, enough: Tensor | None = None) -> Lower:
        p = self._clipped(p)
        best = self._given_bound(p)
        short = torch.ones_like(best.bound, dtype=torch.bool) if enough is None else best.bound < enough
        if short.any() and self.rows.n <= 2048:
            part = self if bool(short.all()) else self.take(short)
            found = part._multiplier_bound(p[short])
            there = short.nonzero()[:, 0]
            better = found.bound > best.bound[there]
            for mine, new in zip(best, found, strict=True):
                mine[there[better]] = new[better]
        return best

    def _clipped(self, p: Tensor) -> Tensor:
        off = self.rows._off
        p = torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)
        return torch.where(off, p.clamp(min=0), torch.where(self.rows.on, p, torch.zeros_like(p)))

    def _given_bound(self, p: Tensor) -> Lower:
        """(D) at p as it is, less what rounding may have added; 0 where gamma = 0."""
        rows, u, gamma = self.rows, rounding(self.rows.m, p.dtype), self.quadratic
        t = torch.where(rows.on, -rows.target, torch.where(rows._off, rows.b, 0.0))
        square = torch.where(rows.on, p * p / rows._weight, torch.zeros_like(p)).sum(1) / 2
        slope, more = rows.W.adjoint(p).abs(), rows.W.magnitude().adjoint(p.abs()) * u
        prior, most = ((x * x / (2 * gamma)).sum(1) for x in (slope, slope + more))
        doubt = (most - prior) + u * (square + most + (p * t).abs().sum(1))
        value = (p * t).sum(1) - square - prior
        return proved(torch.where(self._gamma > 0, value, torch.zeros_like(value)), torch.nan_to_num(doubt), p)

    def unmet(self, p: Tensor) -> Unmet:
        """For gamma = 0."""
        p = self._clipped(p)
        rows, u = self.rows, rounding(self.rows.m, p.dtype)
        t = torch.where(rows.on, -rows.target, torch.where(rows._off, rows.b, 0.0))
        square = torch.where(rows.on, p * p / rows._weight, torch.zeros_like(p)).sum(1)
        value = (p * t).sum(1) - square / 2 - u * ((p * t).abs().sum(1) + square)
        return Unmet(value, p, rows.W.adjoint(p), rows.W.magnitude().adjoint(p.abs()) * u)

    @cached_property
    def _factor(self) -> tuple[Tensor, Tensor]:
        """Cholesky factors of H less what rounding may have added to it, and where that proves H positive definite, `(N,)`.

        The Gram matrix and its factor are off by (m + 2 n + 3) u trace(H) at most: where H less four times that has a
        factor, H is at least as large as what was factorised, and H^-1 no larger than its inverse.
        """
        H, n = self.rows.gram(), self.rows.n
        gamma = self.quadratic if len(H) > 1 or bool((self._gamma != self._gamma[0]).any()) else self.quadratic[:1]
        H = H + torch.diag_embed(gamma.expand(max(len(H), len(gamma)), n))
        lost = 4 * rounding(self.rows.m + 2 * n, H.dtype) * torch.diagonal(H, dim1=-2, dim2=-1).sum(-1)
        L, info = torch.linalg.cholesky_ex(H - lost[:, None, None] * torch.eye(n, dtype=H.dtype, device=H.device))
        return L, (info == 0).expand(self.rows.N)

    def _multiplier_bound(self, p: Tensor) -> Lower:
        """D(mu) at mu = p_off, less what rounding may have added; 0 where H is singular to rounding."""
        L, definite = self._factor
        mu = torch.where(self.rows._off, p, torch.zeros_like(p))
        z = spd_solve(L, self.rows.W.adjoint(self.rows.fit * self.rows.target - mu))
        for _ in range(2):
            z = z - spd_solve(L, self._slope(z, mu))
        left = self._slope(z, mu)
        value, doubt = self._lagrangian_floor(z, mu)
        doubt = doubt + 2 * (left * spd_solve(L, left)).sum(1).abs()
        value = torch.where(definite & torch.isfinite(doubt), value, torch.zeros_like(value))
        return proved(value, torch.nan_to_num(doubt), self.rows.fit * self.rows.residual(z) + mu)

    def _lagrangian_floor(self, z: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """The Lagrangian at (z, mu), and its rounding error."""
        rows = self.rows
        v = rows.W(z) + rows.b
        pushed = torch.where(rows._off, mu * v, torch.zeros_like(v))
        doubt = rounding(rows.m + rows.n, mu.dtype) * (self.objective(z) + pushed.abs().sum(1))
        # v and the residual carry an error of u |W||z|, which their multipliers pass on
        reach = rounding(rows.n, mu.dtype) * (rows.W.magnitude()(z.abs()) + rows.b.abs() + rows.target.abs())
        doubt = doubt + (reach * (mu + rows.fit * (rows.residual(z).abs() + reach))).sum(1)
        return self.objective(z) + pushed.sum(1), doubt

    def _slope(self, z: Tensor, mu: Tensor) -> Tensor:
        """Gradient of the Lagrangian in z."""
        return self.rows.W.adjoint(self.rows.fit * self.rows.residual(z) + mu) + self.quadratic * z

    def complete(self, h: Tensor) -> Tensor:
        p = self.rows.fit * self.rows.residual(h)
        gradient = self.rows.W.adjoint(p) + self.quadratic * h
        free = torch.ones_like(h, dtype=torch.bool)
        p = p + multipliers_of_tight_rows(self.rows, h, gradient, free)
        return balanced(self.rows, p, self.rows.W.adjoint(p) + self.quadratic * h, free, self.quadratic)

    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        mu = torch.where(self.rows._off, self._clipped(p), torch.zeros_like(p))
        mu = mu / mu.amax(1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)  # the squares of a tiny mu underflow
        u = rounding(self.rows.m, p.dtype)
        value = (mu * self.rows.b).sum(1) - u * (mu * self.rows.b.abs()).sum(1) - slack * self.rows.stretched(mu).sum(1)
        # slack 1'mu >= mu'(W z + b) for every z, and the right side is at least mu'b - |W'mu| |z|
        return away(value, self.rows.W.adjoint(mu).abs() + u * self.rows.W.magnitude().adjoint(mu))

    def bound_remarks(self) -> list[str]:
        if self.rows.n > 2048:
            return ["gamma = 0 and W_on was not factorised (over 2048 columns): no bound above 0"] * self.N
        text = "gamma = 0 and W_on lacks full column rank: no bound above 0 holds for every z"
        return ["" if ok or g > 0 else text for ok, g in zip(self._factor[1], self._gamma, strict=True)]

    # --- proximal pieces ---

    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        rows = self.rows
        fitted = (rows.fit * rows.y + rho * v) / (rows.fit + rho)
        return torch.where(rows.on, fitted, torch.where(rows._off, v.clamp(max=0), v))

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        return rho * h / (rho + self.quadratic)

    @property
    def linear(self) -> Tensor:
        return torch.zeros_like(self._gamma)[:, None]

    @property
    def quadratic(self) -> Tensor:
        gamma = self._gamma[:, None]
        return gamma if self.sizes is None else gamma * self.sizes**2

    # --- the same problem elsewhere ---

    @property
    def stretches(self) -> bool:
        return not bool((self._gamma > 0).any())  # a ridge of one size for all unknowns is what pivoting adds

    def take(self, index: Tensor) -> "GaussianLatent":
        return GaussianLatent(self.rows.take(index), self._gamma[index], self.sizes)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "GaussianLatent":
        rows = self.rows.to(dtype, device)
        if rows is self.rows:
            return self
        return GaussianLatent(rows, self._gamma.to(rows.y), None if self.sizes is None else self.sizes.to(rows.y))

    def in_units(self, units: Units) -> "GaussianLatent":
        return GaussianLatent(units.rows, self._gamma / units.norm**2, units.sizes(self.sizes))
