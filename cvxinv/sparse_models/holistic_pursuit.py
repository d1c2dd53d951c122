"""Pursuits of the multi-layer model: layer by layer, of the deepest layer alone, and holistic.

    layered      g_1 = argmin |g|_1 with |D_1 g - y| <= eps_1,   g_i = argmin |g|_1 with |D_i g - g_{i-1}| <= eps_i
    projection   h = argmin |h|_1 with |E h - y| <= eps                       E = D_1...D_L, then all others are products
    holistic     h = argmin |h|_1 with |E h - y| <= eps, V_C h = 0            V h = (g_1, ..., g_{L-1})

The holistic pursuit alternates. It begins with C empty; the synthesis step is the problem of its line, the analysis step
adds to C the row that is nearest to 0, argmin_j |V_j h| / |V_j| over the g_i that lack zeros; after the last zero one
synthesis step more. A wrong row is never taken back. How many zeros each g_i has, and eps, are given to it.

Every synthesis step is a layer problem of this package, `BasisPursuitL2`, with the rows of V and of -V below those of E: off
rows (V h <= 0 and -V h <= 0) where a row is in C. Its dual

    maximise    -p_0'y - eps |p_0|       subject to  |E'p_0 + V_C'(p_+ - p_-)| <= 1,  p_+ >= 0,  p_- >= 0        (D)

is the bound of the judge, who is asked after every step. First the path of `zero_paths` finds the optimum, from that with a
row less; where it does not, or the judge does not believe it, `solve` is asked, and CLARABEL where that fails. A signal
whose step is not `optimal` goes no further, and has that step's status.

Source: Aberdam, Sulam, Elad, "Multi-layer sparse coding: the holistic way" (2018), as in `sparse` notes 3.2 and 3.3.
Changed: exact steps; rows are measured by their lengths; any depth, unseen entries.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..batch import Batch, each_per_signal, per_signal
from ..errors import ConvergenceWarning, UnsolvedError
from ..generator.maps import Dense
from ..inputs import describe, read_size
from ..layers.basis_pursuit_l2 import BasisPursuitL2
from ..layers.core.certificate import INFEASIBLE, OPTIMAL, Certificate, certify
from ..layers.core.problem import Point
from ..layers.core.rows import Rows
from ..solvers.solve import check_choice, solve
from ..surroundings import undisturbed
from .holistic_model import MultiLayerModel
from .holistic_oracle import read_signals
from .zero_paths import Optimum, of_points, with_zero

_SUPPORT = 1e-3  # of the largest entry: the threshold of the source
_NUMBERS = 40_000_000  # that are held at once, some 300 MB
_ZERO = 1e-7  # of the largest entry: what counts as 0 in a point of an interior-point method


@dataclass(frozen=True, eq=False)
class MultiLayerCodes(Batch):
    """What a pursuit found, per signal. representations: g_1, ..., g_L, `(N, m_i)` each.

    status: "optimal" where every step was, else the status of the first that was not, where the signal stopped, numpy
    `(N,)`. certificate: of the last step that was made. cosupport: rows of V that were set to 0, bool `(N, M)`. picks: the
    same in their order `(N, k)`, -1 where a signal stopped before. course: h after each synthesis step, `(N, k + 1, n)`,
    NaN where that is not `optimal` or was not made.
    """

    representations: tuple[Tensor, ...] = each_per_signal()
    status: np.ndarray = per_signal()
    certificate: Certificate = per_signal()
    cosupport: Tensor = per_signal()
    picks: Tensor = per_signal()
    course: Tensor = per_signal()

    @property
    def h(self) -> Tensor:
        """The deepest representation, g_L."""
        return self.representations[-1]

    @property
    def holds(self) -> Tensor:
        """Whether every step was `optimal`, bool `(N,)` on the CPU."""
        return torch.from_numpy(self.status == OPTIMAL)

    def support(self, threshold: float = _SUPPORT) -> Tensor:
        """Entries of h above `threshold` times its largest, bool `(N, n)`."""
        size = self.h.abs()
        return size > threshold * size.amax(1, keepdim=True)

    def __len__(self) -> int:
        return len(self.h)

    def __repr__(self) -> str:
        zeros = f"{self.picks.shape[1]} zeros each" if self.picks.shape[1] else "no zeros asked for"
        return f"MultiLayerCodes of {len(self)} signals, {zeros}: {int(self.holds.sum())} optimal; {self.certificate!r}"


def projection_pursuit(
    model: MultiLayerModel,
    y: Tensor | np.ndarray,
    eps: float | Tensor,
    *,
    seen: Tensor | np.ndarray | None = None,
    on_fail: str = "warn",
) -> MultiLayerCodes:
    """Basis pursuit of the deepest layer alone. Arguments and errors as in `holistic_pursuit`."""
    return holistic_pursuit(model, y, (0,) * len(model.between), eps, seen=seen, on_fail=on_fail, progress=False)


@undisturbed
def holistic_pursuit(
    model: MultiLayerModel,
    y: Tensor | np.ndarray,
    zeros: int | tuple[int, ...],
    eps: float | Tensor,
    *,
    seen: Tensor | np.ndarray | None = None,
    on_fail: str = "warn",
    progress: bool | None = None,
) -> MultiLayerCodes:
    """The holistic pursuit of signals y `(N, m_0)`, for a whole batch.

    zeros: l_1, ..., l_{L-1}, how many zeros each g_i between has, a number where there is one. eps: bound on the misfit of
    what was seen, >= 0, signal units, one number or `(N,)`. seen: bool, of y's shape; False where an entry was not seen.
    on_fail: "warn" (ConvergenceWarning), "raise" (UnsolvedError, which carries the codes) or "ignore". progress: a bar of
    the steps; None shows it on a terminal.

    Raises TypeError or ValueError for what does not fit, eps < 0, and signals of which nothing was seen.
    """
    signals, on = read_signals(model, y, seen)
    counts = model.read_zeros(zeros)
    check_choice(on_fail, ("warn", "raise", "ignore"), "on_fail")
    bound, steps = read_size(eps, "eps", len(signals), signals.device), sum(counts)
    parts = torch.arange(len(signals), device=signals.device).split(_at_once(model, steps))
    disable = None if progress is None else not progress
    found = []
    with tqdm(total=(steps + 1) * len(parts), desc="synthesis steps", unit="step", disable=disable, leave=False) as bar:
        for part in parts:
            work = _Alternation(model, signals[part], on[part], bound[part])
            work.synthesis(None)
            bar.update()
            for _ in range(steps):
                work.analysis(counts)
                bar.update()
            found.append(work.codes())
    codes = MultiLayerCodes.joined(found)
    _report(codes, on_fail)
    return codes


def _at_once(model: MultiLayerModel, steps: int) -> int:
    """How many signals are worked on together: what a step of the path holds of each is a matrix of unknowns and zeros."""
    return max(1, _NUMBERS // (4 * (model.n + steps) ** 2 + 2 * model.m * model.n + sum(model.between)))


class _Alternation:
    """The two steps, on the signals that go on; each has the same number of zeros. What is found is kept per signal."""

    def __init__(self, model: MultiLayerModel, y: Tensor, on: Tensor, eps: Tensor):
        N = len(y)
        self.model, self.y, self.on, self.eps = model, y, on, eps
        self.V = model.unit_rows
        self.going = torch.arange(N, device=y.device)
        self.status = np.full(N, OPTIMAL, dtype=object)
        self.h = y.new_zeros(N, model.n)
        self.picks = torch.full((N, 0), -1, device=y.device)
        self.course: list[Tensor] = []
        self.certificate: Certificate | None = None
        self.at: Optimum | None = None

    @cached_property
    def W(self) -> Dense:
        """The rows of E, of V and of -V; those of V have length 1, which changes no constraint."""
        return Dense(torch.cat([self.model.E, self.V, -self.V]))

    def problem(self) -> BasisPursuitL2:
        """The synthesis step of the signals that go on."""
        i, M = self.going, len(self.V)
        C = self._cosupport(i)
        none = torch.zeros_like(C)
        y = torch.cat([self.y[i], torch.zeros_like(C, dtype=self.y.dtype).repeat(1, 2)], 1)
        on = torch.cat([self.on[i], none, none], 1)
        off = torch.cat([torch.zeros_like(self.on[i]), C, C], 1)
        return BasisPursuitL2(Rows(self.W, self.y.new_zeros(self.model.m + 2 * M), y, on, off), self.eps[i])

    def _cosupport(self, i: Tensor) -> Tensor:
        picks = self.picks[i]
        mask = torch.zeros(len(i), len(self.V) + 1, dtype=torch.bool, device=picks.device)
        return mask.scatter_(1, torch.where(picks < 0, len(self.V), picks), True)[:, :-1]

    def synthesis(self, found: Optimum | None) -> None:
        """Solve where `found` is not the optimum, keep what came of it, and let go of who is not optimal."""
        self.course.append(torch.full_like(self.h, torch.nan))
        problem = self.problem()
        point, certificate, followed = _solved(problem, found, len(self.V))
        self._keep(certificate, point.h)
        at = self._optimum(self.going, point.h) if found is None else found
        again = (~followed).nonzero()[:, 0].to(point.h.device)
        if found is not None and len(again):
            at.put(again, self._optimum(self.going[again], point.h[again]))
        there = certificate.holds.to(point.h.device)
        self.at, self.going = at.take(there), self.going[there]

    def analysis(self, counts: tuple[int, ...]) -> None:
        """Ask for one zero more, where the representation is nearest to it, and solve again."""
        self.picks = torch.cat([self.picks, torch.full_like(self.y[:, :1], -1, dtype=torch.long)], 1)
        if len(self.going) == 0 or self.at is None:
            self.course.append(torch.full_like(self.h, torch.nan))
            return
        row = self._nearest(counts)
        self.picks[self.going, -1] = row
        self.synthesis(with_zero(self.at, row, self.V))

    def _nearest(self, counts: tuple[int, ...]) -> Tensor:
        """The row that is nearest to 0 of those not in C, over the representations that lack zeros."""
        C = self._cosupport(self.going)
        size = (self.h[self.going] @ self.V.T).abs().masked_fill(C, torch.inf)
        for (a, b), count in zip(self.model.blocks, counts, strict=True):
            full = C[:, a:b].sum(1) >= count
            size[:, a:b] = size[:, a:b].masked_fill(full[:, None], torch.inf)
        return size.argmin(1)

    def _keep(self, certificate: Certificate, h: Tensor) -> None:
        index = self.going.cpu()
        self.h[self.going] = h
        met = certificate.holds.to(h.device)
        self.course[-1][self.going[met]] = h[met]
        self.status[index.numpy()] = certificate.status
        if self.certificate is None:
            self.certificate = certificate
        else:
            self.certificate.put(index, certificate)

    def _optimum(self, i: Tensor, h: Tensor) -> Optimum:
        """What belongs to solvers' points h of the signals at `i`, whose zeros may be small numbers."""
        h = torch.where(h.abs() > _ZERO * h.abs().amax(1, keepdim=True), h, torch.zeros_like(h))
        return of_points(self.model.E * self.on[i][:, :, None], self.y[i], self.eps[i], self.V, self.picks[i], h)

    def codes(self) -> MultiLayerCodes:
        """What was found of all signals."""
        model = self.model
        assert self.certificate is not None
        C = self._cosupport(torch.arange(len(self.y), device=self.y.device))
        met = torch.from_numpy(self.status == OPTIMAL).to(C.device)[:, None]
        return MultiLayerCodes(
            model.representations(self.h, C & met),
            self.status.astype(str),
            self.certificate,
            C,
            self.picks,
            torch.stack(self.course, 1).to(model.dtype),
        )


def _solved(problem: BasisPursuitL2, found: Optimum | None, M: int) -> tuple[Point, Certificate, Tensor]:
    """A point of the synthesis step, the judge's word on it, and of whom the path was believed, bool `(N,)`."""
    if found is None:
        solution = solve(problem, on_fail="ignore", progress=False)
        point, certificate = Point(solution.h, solution.p), solution.certificate
        followed = torch.zeros(problem.N, dtype=torch.bool)
    else:
        point = _point(found, problem, M)
        certificate = certify(problem, point)
        followed = certificate.holds.clone()
    for solver in ("auto", "CLARABEL") if found is not None else ("CLARABEL",):
        left = torch.from_numpy((certificate.status != OPTIMAL) & (certificate.status != INFEASIBLE)).nonzero()[:, 0]
        if len(left):
            where = left.to(point.h.device)
            solution = solve(problem.take(where), solver, on_fail="ignore", progress=False)
            point.h[where], point.p[where] = solution.h, solution.p
            certificate.put(left, solution.certificate)
    return point, certificate, followed


def _point(found: Optimum, problem: BasisPursuitL2, M: int) -> Point:
    """h, and p from the path's multipliers; zeros where the path did not arrive."""
    known, lam = found.known[:, None], torch.where(found.known, found.lam, 1.0)[:, None]
    lifts = torch.zeros(len(lam), M, dtype=lam.dtype, device=lam.device)
    lifts.scatter_(1, found.C, torch.where(known, found.mu / lam, 0.0))
    p = torch.cat([torch.where(known, -found.residual / lam, 0.0), lifts.clamp(min=0), (-lifts).clamp(min=0)], 1)
    return Point(torch.where(known, found.h, 0.0), p)


def _report(codes: MultiLayerCodes, on_fail: str) -> None:
    bad = np.flatnonzero(codes.status != OPTIMAL)
    if len(bad) == 0 or on_fail == "ignore":
        return
    first = ", ".join(f"{i} ({codes.status[i]})" for i in bad[:5])
    message = f"{len(bad)} of {len(codes)} signals stopped at a step that is not optimal: {first}"
    if on_fail == "raise":
        raise UnsolvedError(message + "; the exception's .result carries the codes", codes)
    warnings.warn(message + "; see .status", ConvergenceWarning, stacklevel=5)


@undisturbed
def layered_pursuit(
    model: MultiLayerModel,
    y: Tensor | np.ndarray,
    eps: tuple[float | Tensor, ...],
    *,
    seen: Tensor | np.ndarray | None = None,
    on_fail: str = "warn",
) -> MultiLayerCodes:
    """Basis pursuit layer after layer, of signals y `(N, m_0)`: the published baseline, which asks every g_i to be sparse.

    eps: a bound for each layer, on |D_i g_i - g_{i-1}|, units of g_{i-1}. representations: each as its own pursuit found it,
    so that g_{i-1} and D_i g_i agree to eps_i only. certificate: of the last layer that was solved. The rest as in
    `holistic_pursuit`.
    """
    target, on = read_signals(model, y, seen)
    check_choice(on_fail, ("warn", "raise", "ignore"), "on_fail")
    if not isinstance(eps, tuple | list) or len(eps) != len(model.dictionaries):
        said = f"{len(eps)} of them" if isinstance(eps, tuple | list) else describe(eps)
        raise ValueError(f"expected an eps for each of {len(model.dictionaries)} layers, got {said}; pass (eps_1, ...)")
    status, found, certificate = np.full(len(target), OPTIMAL, dtype=object), list[Tensor](), None
    for i, (D, bound) in enumerate(zip(model.dictionaries, eps, strict=True), 1):
        W = D.to(torch.float64)
        rows = Rows(W, target.new_zeros(W.m), target, on, torch.zeros_like(on))
        size = read_size(bound, f"eps_{i}", len(target), target.device)
        solution = solve(BasisPursuitL2(rows, size), on_fail="ignore", progress=False)
        status = np.where(status == OPTIMAL, solution.status, status)
        target, on, certificate = solution.h, torch.ones_like(solution.h, dtype=torch.bool), solution.certificate
        found.append(target.to(model.dtype))
    assert certificate is not None
    N, M = len(target), sum(model.between)
    nothing = torch.zeros(N, M, dtype=torch.bool, device=model.device)
    picks = torch.zeros(N, 0, dtype=torch.long, device=model.device)
    codes = MultiLayerCodes(tuple(found), status.astype(str), certificate, nothing, picks, found[-1][:, None])
    _report(codes, on_fail)
    return codes
