"""Nonnegative LASSO of a ReLU layer.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam 1'h          (P)
    subject to  h >= 0,   (W h + b)_off <= 0

    maximise    p_on'(b - y) + p_off'b - 1/2 sum_on p_i^2 / w_i     (D)
    subject to  W'p + lam 1 >= 0,   p_off >= 0,   p = 0 on rows that were not seen

With v = W h + b and F(v) = 1/2 sum_on w (v - y)^2 + [v_off <= 0], (P) is min_h F(W h + b) + lam 1'h + [h >= 0]; its
Fenchel dual is max_p b'p - F*(p) + min_{h >= 0} (W'p + lam)'h with F*(p) = sum_on (p^2 / (2 w) + p y) + [p_off >= 0].
At the optimum p_on = w (W h + b - y), h_j (W'p + lam)_j = 0 and p_off (W h + b)_off = 0.

`lower` turns any p into a feasible one: p_off is clipped to >= 0; then either all of p is scaled by the best s in
[0, min_j lam / (-W'p)_j], which is feasible because (D) is star-shaped about 0 when lam > 0; or p is translated by
a u with u_off >= 0 and W'u >= c, c the lengths of the columns, with the a that repairs the worst entry (the only way
when lam = 0): u = w W_on (W_on' w W_on)^-1 c where W_on has full column rank, else one that uses the off rows, where there
is one. Both are then
checked in rounded arithmetic, and (P) >= 0 bounds from below for free. Where there is no such u (some h >= 0 besides 0 has
W_on h = 0 and W_off h <= 0) `unmet` says by how much p misses feasibility, and `bounds` what that costs.

Paper's letters: x -> h, lambda_i -> lam, S -> on, its complement -> off, x_{i+1} -> y.
Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), eq. (9), and eq. (8) for an
identity output, which has no off rows; changed: biases, row weights, rows that were not seen.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .core.multipliers import balanced, lifted, multipliers_of_tight_rows
from .core.problem import (
    AbstractLayerProblem,
    Bound,
    Lower,
    Statement,
    Units,
    Unmet,
    away,
    length_of,
    per_signal,
    per_unknown,
    proved,
    rounding,
    spd_factor,
    spd_solve,
)
from .core.rows import Rows, Sample, weighted_gram

_LARGEST_LIFT = 512  # unknowns up to which a p without a strict sign is moved inside, a least-squares problem per signal


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeLasso(AbstractLayerProblem):
    """min_{h >= 0} 1/2 |W h + b - y|^2 on `on` + lam 1'h with W h + b <= 0 on `off`.

    rows: see `Rows`. lam: weight of the sum of h, >= 0, one for all signals or `(N,)`; units of signal^2 / h.
    Source: Aberdam, Simon, Elad (2020), eqs. (8) for an identity output and (9). Raises ValueError if lam < 0.
    """

    rows: Rows
    lam: float | Tensor = 0.0
    sizes: Tensor | None = None
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", per_signal(self.lam, self.rows, "lam"))
        per_unknown(self.sizes, self.rows)

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
        off = s.W_off @ h + s.b_off <= 0 if len(s.b_off) else None
        constraints = [h >= 0] + ([off] if off is not None else [])
        bounds = (Bound(off, s.off, 1),) if off is not None else ()
        return Statement(cp.Problem(cp.Minimize(misfit + lam * length_of(cp, h, self.sizes, True)), constraints), h, bounds)

    # --- certificate ---

    def objective(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        r = self.rows.residual(h, v)
        return (self.rows.fit * r * r).sum(1) / 2 + (self.linear * h).sum(1)

    def violation(self, h: Tensor) -> Tensor:
        return torch.maximum(self.rows.excess(h).amax(1), (-h).clamp(min=0).amax(1))

    def lower(self, p: Tensor, enough: Tensor | None = None) -> Lower:
        p = self._clipped(p)
        best = self._scaled_bound(p)
        short = self._lam == 0
        if enough is not None and bool(short.any()):
            # scaling serves lam > 0; far from feasible a translation costs more than it saves, and finding one is not cheap
            worst = (-self.rows.W.adjoint(p)).amax(1)
            short = short & (best.bound < enough) & (worst <= 1e-3 * p.norm(dim=1) * self.rows.W.norm())
        short = short.nonzero()[:, 0]
        if len(short) and self.rows.n <= 2048:
            u, usable = self._lifts(short)
            moved = self.take(short)._translated_bound(p[short], u, usable)
            better = moved.bound > best.bound[short]
            for mine, new in zip(best, moved, strict=True):
                mine[short[better]] = new[better]
        return best

    def _clipped(self, p: Tensor) -> Tensor:
        off = self.rows._off
        p = torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)
        return torch.where(off, p.clamp(min=0), torch.where(self.rows.on, p, torch.zeros_like(p)))

    def _value(self, p: Tensor, s: Tensor) -> Lower:
        """(D) at s p, less what rounding may have added; 0 where that is better or (D) overflows."""
        linear, square, doubt = self._parts(p)
        doubt = s * doubt + s * s * square * rounding(self.rows.m, p.dtype)
        return proved(s * linear - s * s * square / 2, doubt, s[:, None] * p)

    def _parts(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t = torch.where(self.rows.on, -self.rows.target, torch.where(self.rows._off, self.rows.b, 0.0))
        square = torch.where(self.rows.on, p * p / self.rows._weight, torch.zeros_like(p)).sum(1)
        return (p * t).sum(1), square, (p * t).abs().sum(1) * rounding(self.rows.m, p.dtype)

    def _reduced_cost(self, p: Tensor) -> Tensor:
        """W'p less its rounding error: what exact arithmetic surely has."""
        doubt = self.rows.W.magnitude().adjoint(p.abs()) * rounding(self.rows.m, p.dtype)
        return self.rows.W.adjoint(p) - doubt

    def _scaled_bound(self, p: Tensor) -> Lower:
        slope = -self._reduced_cost(p)
        worst = (slope if self.sizes is None else slope / self.sizes).amax(1)
        lam = self._lam
        top = torch.where(worst > 0, lam / worst.clamp(min=torch.finfo(p.dtype).tiny), torch.inf)
        top = top * (1 - 4 * torch.finfo(p.dtype).eps)
        linear, square, _ = self._parts(p)
        return self._value(p, _best_scale(linear, square, top))

    def _lifts(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """u `(len(index), m)` with u_off >= 0 and W'u >= the columns' lengths, and whether one was found; computed once."""
        u, usable, known = self.__dict__.get("_kept_lifts") or (
            torch.zeros_like(self.rows.y),
            torch.zeros(self.rows.N, dtype=torch.bool, device=self.rows.y.device),
            torch.zeros(self.rows.N, dtype=torch.bool, device=self.rows.y.device),
        )
        new = index[~known[index]]
        if len(new):
            u[new], usable[new] = _lift(self.rows.take(new))
            known[new] = True
            self.__dict__["_kept_lifts"] = (u, usable, known)
        return u[index], usable[index]

    def _translated_bound(self, p: Tensor, u: Tensor, usable: Tensor) -> Lower:
        """(D) at p + a u, with the a that makes it feasible; 0 where there is no such u."""
        length = _column_lengths(self.rows).clamp(min=torch.finfo(p.dtype).tiny)
        moved, a = p, torch.zeros_like(self._lam)
        for _ in range(3):  # the second and third pass absorb the rounding of the first
            short = ((-self._reduced_cost(moved) - self.linear) / length).amax(1).clamp(min=0)
            a = a + 2 * short
            moved = p + a[:, None] * u
        feasible = usable & ((self._reduced_cost(moved) + self.linear).amin(1) >= 0)
        moved = torch.where(feasible[:, None], moved, torch.zeros_like(moved))
        linear, square, _ = self._parts(moved)
        # shrinking keeps (D) feasible whatever lam is
        return self._value(moved, _best_scale(linear, square, torch.ones_like(linear)))

    def unmet(self, p: Tensor) -> Unmet:
        p = self._clipped(p)
        linear, square, doubt = self._parts(p)
        short = (self.rows.W.adjoint(p) + self.linear).clamp(max=0)
        value = linear - square / 2 - doubt - square * rounding(self.rows.m, p.dtype)
        return Unmet(value, p, short, self.rows.W.magnitude().adjoint(p.abs()) * rounding(self.rows.m, p.dtype))

    def complete(self, h: Tensor) -> Tensor:
        p = self.rows.fit * self.rows.residual(h)
        gradient = self.rows.W.adjoint(p) + self.linear
        free = h > 1e-6 * h.amax(1, keepdim=True)
        p = p + multipliers_of_tight_rows(self.rows, h, gradient, free)
        p = balanced(self.rows, p, self.rows.W.adjoint(p) + self.linear, free, self.quadratic)
        few = ((self._lam == 0) & (self.rows.on.sum(1) < self.n)).nonzero()[:, 0]
        if len(few) and self.n <= _LARGEST_LIFT:
            p[few] = lifted(self.rows.take(few), p[few], self.linear[few])
        return p

    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        mu = torch.where(self.rows._off, self._clipped(p), torch.zeros_like(p))
        mu = mu / mu.amax(1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)  # a ray has no length, a huge mu overflows
        value = (mu * self.rows.b).sum(1) - (mu * self.rows.b.abs()).sum(1) * rounding(self.rows.m, p.dtype)
        # slack 1'mu >= mu'(W h + b) for every h, and the right side is at least mu'b - |(-W'mu)_+| |h|
        value = value - slack * self.rows.stretched(mu).sum(1)
        return away(value, (-self._reduced_cost(mu)).clamp(min=0))

    def bound_remarks(self) -> list[str]:
        if self.rows.n > 2048:
            return ["lam = 0 and W_on was not factorised (over 2048 columns): no bound above 0"] * self.N
        asked, usable = (self._lam == 0).nonzero()[:, 0], torch.ones_like(self._lam, dtype=torch.bool)
        if len(asked):
            usable[asked] = self._lifts(asked)[1]
        text = "lam = 0 and no rows lift every column: no bound above 0 holds for every h"
        return ["" if ok or lam > 0 else text for ok, lam in zip(usable, self._lam, strict=True)]

    # --- proximal pieces ---

    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        rows = self.rows
        fitted = (rows.fit * rows.y + rho * v) / (rows.fit + rho)
        return torch.where(rows.on, fitted, torch.where(rows._off, v.clamp(max=0), v))

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        return (h - self.linear / rho).clamp(min=0)

    @property
    def linear(self) -> Tensor:
        return self.counted(self._lam[:, None])

    @property
    def quadratic(self) -> Tensor:
        return torch.zeros_like(self._lam)[:, None]

    # --- the same problem elsewhere ---

    def take(self, index: Tensor) -> "NonnegativeLasso":
        part = NonnegativeLasso(self.rows.take(index), self._lam[index], self.sizes)
        if kept := self.__dict__.get("_kept_lifts"):
            part.__dict__["_kept_lifts"] = tuple(t[index] for t in kept)
        return part

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "NonnegativeLasso":
        rows = self.rows.to(dtype, device)
        if rows is self.rows:
            return self
        return NonnegativeLasso(rows, self._lam.to(rows.y), None if self.sizes is None else self.sizes.to(rows.y))

    def in_units(self, units: Units) -> "NonnegativeLasso":
        return NonnegativeLasso(units.rows, self._lam / units.data / units.norm, units.sizes(self.sizes))


def _best_scale(linear: Tensor, square: Tensor, top: Tensor) -> Tensor:
    """The s in [0, top] that maximises s linear - s^2 square / 2."""
    best = linear / square.clamp(min=torch.finfo(square.dtype).tiny)
    # without curvature the best s is an end of the interval; an infinite end proves infeasibility, not a bound
    best = torch.where(square > 0, best, torch.where((linear > 0) & torch.isfinite(top), top, 0.0))
    return torch.minimum(best.clamp(min=0), top)


def _column_lengths(rows: Rows) -> Tensor:
    """Length of each column of W on the rows that a signal sees, `(N, n)`."""
    seen = (rows.on | rows._off).to(rows.y.dtype)
    return (seen @ rows.W.matrix() ** 2).sqrt()


def _lift(rows: Rows) -> tuple[Tensor, Tensor]:
    """u `(N, m)` with u_off >= 0 and W'u >= the columns' lengths, and whether one was found `(N,)`."""
    L, definite = spd_factor(rows.gram())
    usable = definite.expand(rows.N).clone()
    u = torch.where(usable[:, None], rows.fit * rows.W(spd_solve(L, _column_lengths(rows))), 0.0)
    # rounding may take a singular matrix for a definite one
    usable &= (rows.W.adjoint(u) >= 0.5 * _column_lengths(rows)).all(1)
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
    off, length = rows._off, _column_lengths(rows)
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
