"""Wasserstein barycenters that meet a prior: ADMM between transport and the prior's set M.

    minimise    J(y) = sum_k t_k W_eps(x_k, y)    over y >= 0 of sum 1    subject to  y in M

With w a copy of y that lies in M and d the scaled multiplier of y = w, one iteration is

    y  <- argmin J(y) + rho/2 |y - (w - d)|^2        scaling of `barycenters`, from its multipliers of the iteration before
    w  <- the point of M next to y + d               `AbstractMassPrior.project`
    d  <- d + y - w

For a convex M y is over-relaxed, 1.6 y - 0.6 w, in the second and third. The residuals are |y - w| (primal, mass) and rho
|w - w_before| (dual, px^2). Where the first, of the length of y, and the second, of the length of rho d, differ by a
factor of three or more, rho is multiplied by the root of their ratio and d divided by it, during the first half of the
iterations alone, so that rho settles (Boyd et al. 2011, sections 3.3 and 3.4; Wohlberg 2017). An iteration is the last
where both are below a fifth of tol.

Convex M: with the price m = -sum_k t_k g_k, which the y-step says is rho d at the end, the bound of `barycenters` (D)
holds whatever the iterates are, and at the optimum it is tight. Where it exceeds the largest cost of the grid no y of sum
1 lies in M, since W_eps is never above it: `infeasible`, proved. Where M is not convex, as a generator's range, ADMM is a
heuristic: w of the iteration with the smallest J of its mass is kept, for which the bound without a prior still holds:
`stationary` where the residuals got that small, else `user_limit`. rho only grows there.

Source: the problem and the y-step as in `sparse` note 4.3, of Simon, Aberdam, "Barycenters of natural images: constrained
Wasserstein barycenters for image morphing" (2019), whose released code transports once and projects once; added: this.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..inputs import describe, plain_number, read_seconds
from ..layers.core.certificate import INFEASIBLE, OPTIMAL, OPTIMAL_INACCURATE, STATIONARY, USER_LIMIT
from ..surroundings import undisturbed
from .barycenters import BarycenterCertificate, Barycenters, Scaled, certify_barycenter, lower_bound, scale
from .mass_priors import AbstractMassPrior, Projected

_APART = 3.0  # residuals that differ by more change rho
_MOST_CHANGE = 10.0  # of rho at once
_RELAX = 1.6  # where ADMM converges; not where it is a heuristic
_EVERY = 5  # iterations between changes of rho
_INNER = 10  # iterations of scaling in a y-step at most: it begins where the one before ended
_MOST = 200  # of them to rank an iterate
_RANKED = 1e-4  # rows of the plans by which iterates are ranked, in l1
_STRICTER = 0.2  # of tol, for residuals: gap and distance are judged by tol, and are some times as large
_LOOSE = 1000.0  # times tol: optimal_inaccurate


@dataclass(frozen=True, eq=False)
class Residuals:
    """What each iteration left, `(iterations, N)` each: |y - w| (mass), rho |w - w_before| (px^2), and rho (px^2)."""

    primal: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    dual: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    rho: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


@dataclass(frozen=True, eq=False)
class ConstrainedBarycenters(Batch):
    """Barycenters in M, and what is proved of them.

    y `(N, n)`: of sum 1, >= 0, next to M; w `(N, n)`: in M, next to y; of a prior that is not convex those of the
    iteration kept. distance: |y - w| `(N,)`, mass. known: what the prior's projection knows of w, such as latents and
    verdict (`InRange`). certificate: of y, and of w's own mass where the prior is not convex; its bound holds of every
    barycenter that meets the prior. status: see the module. kept: the iteration that y and w are of. residuals: of all.
    stopped: "time_limit", or "".
    """

    y: Tensor = per_signal()
    w: Tensor = per_signal()
    distance: Tensor = per_signal()
    known: Any = per_signal()
    certificate: BarycenterCertificate = per_signal()
    status: np.ndarray = per_signal()
    kept: Tensor = per_signal()
    residuals: Residuals = field(default_factory=Residuals)
    stopped: str = ""

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        words = ", ".join(f"{int((self.status == name).sum())} {name}" for name in sorted(set(self.status.tolist())))
        far, gap = float(self.distance.max()), float(self.certificate.gap.abs().max())
        return f"ConstrainedBarycenters: {words}; |y - w| at most {far:.1e}, gap at most {gap:.1e} px^2"


@dataclass(frozen=True, eq=False)
class _State(Batch):
    scaled: Scaled = per_signal()
    projected: Projected = per_signal()
    d: Tensor = per_signal()
    rho: Tensor = per_signal()


@dataclass(frozen=True, eq=False)
class _Best(Batch):
    y: Tensor = per_signal()
    projected: Projected = per_signal()
    score: Tensor = per_signal()
    kept: Tensor = per_signal()


@undisturbed
def constrained_barycenters(
    problem: Barycenters,
    prior: AbstractMassPrior,
    *,
    plain: Scaled | None = None,
    rho: float | None = None,
    tol: float = 1e-5,
    max_iter: int | None = None,
    time_limit: float | None = None,
    told: Callable[[int], object] | None = None,
) -> ConstrainedBarycenters:
    """The barycenters of `problem` that lie in the prior's set, by ADMM, all at once.

    plain: the barycenters without the prior, where they are known. rho: where the penalty begins, px^2; left out eps n.
    tol: of both residuals, and of gap and distance. max_iter: left out 2000 for a convex prior and 20 for another.
    time_limit: seconds, looked at between iterations. told: called with the number of each iteration when it is done, such
    as a bar's update.

    Raises TypeError or ValueError for what does not fit.
    """
    if not isinstance(problem, Barycenters) or not isinstance(prior, AbstractMassPrior):
        raise TypeError(f"expected Barycenters and a prior, got {describe(problem)} and {describe(prior)}; see SparsePrior")
    prior.check(problem.n)
    first, tol = _above_0(problem.eps * problem.n if rho is None else rho, "rho"), _above_0(tol, "tol")
    most = (2000 if prior.convex else 20) if max_iter is None else plain_number(max_iter)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ValueError(f"max_iter must be a positive integer, got {max_iter!r}")
    limit = None if time_limit is None else time.time() + read_seconds(time_limit, "time_limit", "leave it out", "> 0")
    if plain is None:
        plain = without_prior(problem) if not prior.convex else scale(problem, tol=max(1e-2 * tol, 1e-10))
    return _run(problem, prior, plain, first, tol, most, limit, told)


def _above_0(value: object, name: str) -> float:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be > 0 and finite, got {value!r}; leave it out for the default")
    return float(value)


def _run(
    problem: Barycenters,
    prior: AbstractMassPrior,
    plain: Scaled,
    rho: float,
    tol: float,
    most: int,
    limit: float | None,
    told: Callable[[int], object] | None,
) -> ConstrainedBarycenters:
    state = _State(plain, prior.project(plain.y), torch.zeros_like(plain.y), plain.y.new_full((len(problem),), rho))
    best = None if prior.convex else _ranked(problem, state, 0)
    past, stopped = list[tuple[Tensor, Tensor, Tensor]](), ""
    met = torch.zeros(len(problem), dtype=torch.bool)
    for k in range(1, most + 1):
        state, primal, dual = _step(problem, prior, state, tol)
        past.append((primal, dual, state.rho))
        if best is not None:
            best = _better(best, _ranked(problem, state, k))
        if told is not None:
            told(k)
        relative = (primal / state.scaled.y.norm(dim=1), dual / (state.rho * state.d.norm(dim=1)).clamp(min=1e-300))
        met = (torch.maximum(*relative) <= _STRICTER * tol).cpu()
        if bool(met.all()):
            break
        if limit is not None and time.time() > limit:
            stopped = "time_limit"
            break
        if k % _EVERY == 0 and (k <= most // 2 or not prior.convex):
            state = _balanced(state, *relative, prior.convex)
    residuals = Residuals(*(torch.stack(parts).cpu() for parts in zip(*past, strict=True)))
    if best is None:
        return _judged(problem, prior, state, tol, residuals, stopped)
    return _kept(problem, plain, best, met, residuals, stopped)


def _step(problem: Barycenters, prior: AbstractMassPrior, state: _State, tol: float) -> tuple[_State, Tensor, Tensor]:
    """One iteration, and its residuals."""
    w = state.projected.w
    apart = float((state.scaled.y - w).abs().sum(1).max())
    inner = min(max(1e-3 * apart, 1e-2 * tol), 1e-3)
    y = scale(problem, pull=(state.rho, w - state.d), g=state.scaled.g, tol=inner, max_iter=_INNER)
    relaxed = _RELAX * y.y + (1 - _RELAX) * w if prior.convex else y.y
    projected = prior.project(relaxed + state.d, state.projected.known)
    d = state.d + relaxed - projected.w
    dual = state.rho * (projected.w - w).norm(dim=1)
    return _State(y, projected, d, state.rho), (y.y - projected.w).norm(dim=1), dual


def _balanced(state: _State, primal: Tensor, dual: Tensor, both: bool) -> _State:
    """rho where the relative residuals are apart, and d with it, so that rho d stays."""
    ratio = (primal / dual.clamp(min=1e-300)).sqrt().clamp(1 / _MOST_CHANGE if both else 1.0, _MOST_CHANGE)
    factor = torch.where((ratio > _APART**0.5) | (ratio < _APART**-0.5), ratio, 1.0)
    return _State(state.scaled, state.projected, state.d / factor[:, None], state.rho * factor)


def _own_mass(w: Tensor) -> Tensor:
    mass = w.clamp(min=0)
    return mass / mass.sum(1, keepdim=True).clamp(min=1e-300)


def _ranked(problem: Barycenters, state: _State, k: int) -> _Best:
    """Iterate k with J of w's own mass, px^2, as its score; infinite where w has none."""
    mass = _own_mass(state.projected.w)
    found = scale(problem, fixed=mass, g=state.scaled.g, tol=_RANKED, max_iter=_MOST)
    objective = certify_barycenter(problem, mass, found.g).objective
    score = torch.where(mass.sum(1) > 0.5, objective, float("inf"))
    return _Best(state.scaled.y, state.projected, score, torch.full((len(mass),), k))


def _better(best: _Best, new: _Best) -> _Best:
    """Of each signal the one of the smaller score, the earlier one of equals."""
    wins = (new.score < best.score).nonzero()[:, 0]
    if not len(wins):
        return best
    order = torch.arange(len(best.y))
    order[wins.cpu()] = len(best.y) + wins.cpu()
    return _Best.joined([best, new]).take(order)


def _judged(
    problem: Barycenters, prior: AbstractMassPrior, state: _State, tol: float, residuals: Residuals, stopped: str
) -> ConstrainedBarycenters:
    y, w, price = state.scaled.y, state.projected.w, -(problem.weights[..., None] * state.scaled.g).sum(1)
    certificate = certify_barycenter(problem, y, state.scaled.g, price=price, worth=prior.worth(price))
    distance = (y - w).norm(dim=1)
    most_gap = tol * torch.maximum(certificate.transport, torch.as_tensor(problem.eps).to(y))
    miss = torch.maximum(certificate.gap.abs() / most_gap, distance / (tol * y.norm(dim=1)))
    dearest = sum((side - 1) ** 2 for side in problem.shape)
    status = np.where(miss.cpu() <= 1, OPTIMAL, np.where(miss.cpu() <= _LOOSE, OPTIMAL_INACCURATE, USER_LIMIT)).astype(
        object
    )
    status[(certificate.bound > (1 + 1e-9) * dearest).cpu().numpy()] = INFEASIBLE
    kept = torch.full((len(y),), len(residuals.primal))
    return ConstrainedBarycenters(y, w, distance, state.projected.known, certificate, status, kept, residuals, stopped)


def _kept(
    problem: Barycenters, plain: Scaled, best: _Best, met: Tensor, residuals: Residuals, stopped: str
) -> ConstrainedBarycenters:
    y, w, known = best.y, best.projected.w, best.projected.known
    status = np.where(met, STATIONARY, USER_LIMIT).astype(object)
    certificate = certify_members(problem, w, plain)
    return ConstrainedBarycenters(y, w, (y - w).norm(dim=1), known, certificate, status, best.kept, residuals, stopped)


def without_prior(problem: Barycenters) -> Scaled:
    """The barycenters themselves, as well as a heuristic's start and a bound need them: any bound is true."""
    return scale(problem, tol=_RANKED * 1e-2, max_iter=10 * _MOST)


def certify_members(problem: Barycenters, w: Tensor, plain: Scaled) -> BarycenterCertificate:
    """Objective of the own masses of members w `(N, n)` of a prior's set, and a bound that holds without any prior.

    plain: the barycenters without a prior.
    """
    mass = _own_mass(w)
    found = scale(problem, fixed=mass, tol=_RANKED * 1e-2, max_iter=10 * _MOST)
    return replace(certify_barycenter(problem, mass, found.g), bound=lower_bound(problem, plain.g))
