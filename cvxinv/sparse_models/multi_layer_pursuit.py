"""Multi-layer basis pursuit: a signal whose representation is sparse in each of L layers, g_{i-1} = D_i g_i, g_0 the
signal.

    minimise    1/2 |D_1 g_1 - y|^2 + sum_{i=1..L} lam_i |g_i|_1                             (P)
    subject to  g_i = D_{i+1} g_{i+1}  for i < L,   [g_i >= 0]

    maximise    -p_0'y - 1/2 |p_0|^2                                                         (D)
    subject to  |p_i| <= lam_i  for 0 < i < L,   |u_L| <= lam_L,
                u_1 = D_1'p_0,   u_{i+1} = D_{i+1}'(u_i + p_i)                  (p_i <= lam_i, u_L >= -lam_L with [g_i >=
                0])

With h = g_L all that is between is a product, and (P) is the layer problem min F(W h) + lam_L |h|_1 with W the `Cascade` of
the dictionaries, whose rows are the signal, g_1, ..., g_{L-1}, and F(v) = 1/2 |v_0 - y|^2 + sum_{i<L} lam_i |v_i|_1
(`SquaresAndLengths`): a synthesis prior on g_L and an analysis prior on the others. Its dual variable has a block for each
of them, p = (p_0, p_1, ..., p_{L-1}), and W'p = u_L. Any p is clipped to |p_i| <= lam_i and scaled until |W'p| <= lam_L.
Where lam_L = 0 scaling gives the bound 0; `core/bounds` then says what holds of every h that could be better, given that
W_on has full column rank, or within a scope. h = 0 is feasible and its objective finite: no signal is infeasible.

Source: Sulam, Aberdam, Beck, Elad, "On multi-layer basis pursuit, efficient algorithms and convolutional neural networks"
(2018), the problem of its abstract as in `sparse` note 2.1. Added: any depth, g_i >= 0, unseen entries, the dual.
Paper's letters: gamma_i -> g_i, of which only gamma_L -> h is unknown; D_i, lambda_i -> lam_i.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ..generator.maps import AbstractMap
from ..inputs import describe, read_amount, read_numbers, read_seen
from ..layers.core.penalties import Penalty
from ..layers.core.problem import AbstractLayerProblem, Bound, Statement, check_declared, length_of, per_signal, per_unknown
from ..layers.core.rows import Rows, Sample
from ..layers.core.squares_and_lengths import SquaresAndLengths
from ..layers.core.units import Units
from .cascade import Cascade

_SETTLED = 1e-7  # of the largest entry: what of a representation is smaller counts as 0 where p is built from h alone


@dataclass(frozen=True, eq=False, repr=False)
class AbstractMultiLayerPursuit(AbstractLayerProblem):
    """What both signs share. rows: W a cascade, see `multi_layer_pursuit`, which makes them.

    lam: lam_L, weight of |h|_1, >= 0, one for all signals or `(N,)`; units of signal^2 / h. analysis: lam_1, ...,
    lam_{L-1}, `(N, L - 1)`, units of signal^2 / g_i. widths: numbers of rows of the signal and of g_1, ..., g_{L-1}.
    """

    rows: Rows
    lam: float | Tensor
    analysis: Tensor
    widths: tuple[int, ...]
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 1), "analysis": (1, 0)}
    form: ClassVar[str] = "layered"

    def __post_init__(self) -> None:
        if not isinstance(self.rows, Rows):
            raise TypeError(f"expected rows as cvxinv.Rows, got {describe(self.rows)}; use multi_layer_pursuit(...)")
        object.__setattr__(self, "lam", per_signal(self.lam, self.rows, "lam"))
        expected = (self.rows.N, len(self.widths) - 1)
        if not isinstance(self.analysis, Tensor) or self.analysis.shape != expected or sum(self.widths) != self.rows.m:
            raise ValueError(
                f"expected widths that add up to {self.rows.m} rows and analysis of shape {expected}, got {self.widths} and "
                f"{describe(self.analysis)}; use multi_layer_pursuit(...)"
            )
        if bool(((self.rows.on | self.rows.off) & self._priced_rows).any()) or self.rows.any_off:
            raise ValueError("expected on rows of the signal alone, and none off, got others; use multi_layer_pursuit(...)")
        per_unknown(self.sizes, self.rows)
        check_declared(self)

    @cached_property
    def _priced_rows(self) -> Tensor:
        return torch.arange(self.rows.m, device=self.rows.y.device) >= self.widths[0]

    @property
    def depth(self) -> int:
        """L, the number of dictionaries."""
        return len(self.widths)

    @property
    def dictionaries(self) -> tuple[AbstractMap, ...]:
        """D_1, ..., D_L. Raises ValueError of a problem in units in which W is no cascade."""
        if not isinstance(self.rows.W, Cascade):
            raise ValueError(f"expected W as a Cascade, got {describe(self.rows.W)}; use multi_layer_pursuit(...)")
        return self.rows.W.maps

    def representations(self, h: Tensor) -> tuple[Tensor, ...]:
        """g_1, ..., g_L of the deepest one h `(N, n)`, `(N, m_i)` each."""
        _, *between = self.rows.W(h).split(self.widths, 1)
        return (*between, h)

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, n, lam = sample, self.n, float(self.number("lam")[i])
        prices, V = self.misfit.price[i].cpu().double().numpy(), self.rows.W.matrix().detach().cpu().double().numpy()
        h, deeper = cp.Variable(n), np.arange(self.widths[0], self.rows.m)
        objective = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        objective += lam * length_of(cp, h, self.sizes, self.nonnegative)
        constraints = [h >= 0] if self.nonnegative else []
        bounds: tuple[Bound, ...] = ()
        if len(deeper):
            g = cp.Variable(len(deeper))
            objective += cp.norm(cp.multiply(prices[deeper], g), 1)
            chain = V[deeper] @ h == g
            constraints += [chain, g >= 0] if self.nonnegative else [chain]
            bounds = (Bound(chain, deeper, 1),)
        return Statement(cp.Problem(cp.Minimize(objective), constraints), h, bounds)

    @cached_property
    def misfit(self) -> SquaresAndLengths:
        none, y = self.rows.y.new_zeros(self.rows.N, self.widths[0]), self.rows.y
        price = torch.cat([none, *(lam[:, None].expand(-1, k) for lam, k in self._analysis())], 1).to(y)
        # a row that holds c times g_i pays lam / c for each
        price = price if self.rows.stretch is None else price / self.rows.stretch
        return SquaresAndLengths(self.rows, price, self._priced_rows, self.nonnegative)

    def _analysis(self) -> list[tuple[Tensor, int]]:
        return list(zip(self.analysis.T, self.widths[1:], strict=True))

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=self.lam)

    def complete(self, h: Tensor) -> Tensor:
        rows, misfit = self.rows, self.misfit
        v = rows.W(h) + rows.b
        p = rows.fit * rows.residual(h, v)
        near = _SETTLED * torch.cat([x.abs().amax(1, keepdim=True).expand_as(x) for x in v.split(self.widths, 1)], 1)
        settled = v.abs() > near
        p = torch.where(misfit.priced_rows, torch.where(settled, misfit.price * v.sign(), torch.zeros_like(p)), p)
        open_ = misfit.priced_rows & ~settled & (misfit.price > 0)
        back, W = rows.W.adjoint(p), rows.W.matrix()
        for i in open_.any(1).nonzero()[:, 0].tolist():
            p[i, open_[i]] = _nearest(W[open_[i]], misfit.price[i, open_[i]], back[i], self.linear[i].expand(self.n), self)
        return misfit.clipped(p)

    def bound_remarks(self) -> list[str]:
        free = (self.number("lam") == 0).tolist()
        words = "lam_L = 0: no bound above 0 holds for every h unless the rows of the signal determine it"
        return [words if lacks else "" for lacks in free]

    def in_units(self, units: Units) -> Self:
        lam, analysis = units.number(self.number("lam"), 1, 1), self.analysis / units.data[:, None]
        return replace(self, rows=units.rows, lam=lam, analysis=analysis, sizes=units.sizes(self.sizes))


@dataclass(frozen=True, eq=False, repr=False)
class MultiLayerPursuit(AbstractMultiLayerPursuit):
    """min 1/2 |D_1...D_L h - y|^2 + sum_{i<L} lam_i |D_{i+1}...D_L h|_1 + lam_L |h|_1 over h of any sign.

    Made by `multi_layer_pursuit`. Source: Sulam, Aberdam, Beck, Elad (2018).
    """

    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeMultiLayerPursuit(AbstractMultiLayerPursuit):
    """The same with h >= 0 and every D_{i+1}...D_L h >= 0: what networks with ReLU compute towards.

    Made by `multi_layer_pursuit`. Source: Sulam, Aberdam, Beck, Elad (2018); added: the signs.
    """

    nonnegative: ClassVar[bool] = True


def _nearest(W: Tensor, price: Tensor, back: Tensor, linear: Tensor, problem: AbstractMultiLayerPursuit) -> Tensor:
    """q `(k,)` within its prices for which back + W'q exceeds its weights by the least, a linear program; W `(k, n)`.

    back: W'p of all other rows, `(n,)`. The objective's value at h does not depend on q: its rows are 0.
    """
    from scipy.optimize import linprog

    A, c, w, lam = (x.detach().cpu().double().numpy() for x in (W.T, price, back, linear))
    one = np.ones((len(w), 1))
    above, below = np.hstack([A, -one]), np.hstack([-A, -one])
    limits = [(None if problem.nonnegative else -most, most) for most in c] + [(0, None)]
    if problem.nonnegative:
        found = linprog([*[0.0] * len(c), 1.0], below, lam + w, bounds=limits)
    else:
        found = linprog([*[0.0] * len(c), 1.0], np.vstack([above, below]), np.hstack([lam - w, lam + w]), bounds=limits)
    return (torch.zeros(len(c)) if found.x is None else torch.as_tensor(found.x[:-1])).to(W)


def multi_layer_pursuit(
    dictionaries: tuple[AbstractMap, ...] | list[AbstractMap],
    y: Tensor | np.ndarray,
    lam: tuple[float | Tensor, ...] | list[float | Tensor],
    *,
    seen: Tensor | np.ndarray | None = None,
    nonnegative: bool = False,
) -> AbstractMultiLayerPursuit:
    """Multi-layer basis pursuit of signals y `(N, m_0)` in the dictionaries D_1, ..., D_L: a layer problem, for `solve`.

    dictionaries: maps, D_1 that of the signals; D_i takes what D_{i+1} gives. lam: lam_1, ..., lam_L, each >= 0, one for
    all signals or `(N,)`; units of signal^2 / g_i. seen: bool, of y's shape; False where an entry was not seen; None: all
    were. nonnegative: whether all g_i >= 0.

    Raises TypeError or ValueError for what does not fit, for lam < 0, and for a signal of which nothing was seen.
    """
    if not isinstance(dictionaries, tuple | list):
        raise TypeError(f"expected dictionaries as a tuple of maps, got {describe(dictionaries)}; pass (D_1, ..., D_L)")
    W = Cascade(tuple(dictionaries))
    if not isinstance(lam, tuple | list) or len(lam) != len(W.maps):
        raise ValueError(f"expected a lam for each of {len(W.maps)} dictionaries, got {_counted(lam)}; pass (lam_1, ...)")
    y = read_numbers(y, "y", W.device, "f")
    if y.ndim != 2 or y.shape[1] != W.widths[0]:
        raise ValueError(f"expected y of shape (N, {W.widths[0]}), got {tuple(y.shape)}; pass one row per signal")
    if y.dtype != W.dtype:
        raise ValueError(f"expected y in {W.dtype} as the dictionaries are, got {y.dtype}; cast one with .to()")
    rows = _rows(W, y, read_seen(seen, y))
    analysis = [per_signal(value, rows, f"lam_{i}") for i, value in enumerate(lam[:-1], 1)]
    last = per_signal(read_amount(lam[-1], f"lam_{len(lam)}", W.device), rows, f"lam_{len(lam)}")
    kind = NonnegativeMultiLayerPursuit if nonnegative else MultiLayerPursuit
    return kind(rows, last, torch.stack(analysis, 1) if analysis else y.new_zeros(len(y), 0), W.widths)


def _counted(lam: object) -> str:
    return f"{len(lam)} of them" if isinstance(lam, tuple | list) else describe(lam)


def _rows(W: Cascade, y: Tensor, on: Tensor) -> Rows:
    """y and its mask, with a row that holds no data for each entry of g_1, ..., g_{L-1}."""
    none = y.new_zeros(len(y), W.m - y.shape[1])
    off = torch.zeros(len(y), W.m, dtype=torch.bool, device=y.device)
    seen = torch.cat([on, torch.zeros_like(none, dtype=torch.bool)], 1)
    return Rows(W, y.new_zeros(W.m), torch.cat([y, none], 1), seen, off)
