"""The loop that every torch method runs in: advance, let the judge look, freeze what is done, go on with the rest."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..layers.core.certificate import (
    INFEASIBLE,
    NUMERICAL_ERROR,
    OPTIMAL,
    OPTIMAL_INACCURATE,
    STATIONARY,
    USER_LIMIT,
    Certificate,
    certify,
)
from ..layers.core.problem import AbstractLayerProblem, Point
from .answer import Answer, Judged
from .polishing import polish as polish_point
from .polishing import polish_on_face
from .signed import halves, together
from .solver import AbstractSolver

_RANKS = (OPTIMAL, STATIONARY, INFEASIBLE, OPTIMAL_INACCURATE, USER_LIMIT, NUMERICAL_ERROR)  # a proof before a near miss
_DUST = 1e-15  # of h in normalised units
_ANSWERS = (OPTIMAL, STATIONARY, INFEASIBLE)
_STILL = 1e-9  # of the objective: a change between looks that is none
_BETTER = 0.05 / 81  # in units of `merit`: an eighth less of gap or violation
LARGEST_COMPLETED = 512  # unknowns up to which multipliers are built: a least-squares problem per signal
_PATIENT = 2  # looks at what a method takes for solved before its bound is worth a factorisation
_LONG = 2000  # iterations before which no method counts as stalled
_EXACT = 1e-9  # a polished point with a larger violation or gap, in natural units, solved the wrong equations


def merit(certificate: Certificate) -> Tensor:
    """How far a point is from `optimal`, `(N,)`: statuses first, then the larger of gap and violation in natural units.

    The gap is not measured against the objective here: where no bound above 0 is known that ratio is 1 for every point.
    What an excess over limits may be worth counts like a gap: rows that contradict each other by a rounding let p grow.
    """
    rank = torch.as_tensor([_RANKS.index(s) for s in certificate.status], dtype=torch.float64)
    scale = certificate.scale.clamp(min=1e-300)
    gap = torch.maximum(certificate.gap, certificate.worth).clamp(min=0) / certificate.unit.clamp(min=1e-300)
    worst = torch.maximum(gap, certificate.violation / scale)
    worst = torch.nan_to_num(worst, nan=1e40)
    return rank + (torch.log10(worst.clamp(1e-40, 1e40)) + 40) / 81  # strictly below the next rank


def is_exact(certificate: Certificate) -> Tensor:
    """Whether points leave no violation and no gap but rounding, as those of an exact solve do, `(N,)`."""
    natural = torch.maximum(certificate.objective.abs(), certificate.unit)
    return (certificate.violation <= _EXACT * certificate.scale) & (certificate.gap <= _EXACT * natural)


def at_zero(problem: AbstractLayerProblem, tol: float) -> Judged:
    """h = 0 and p = 0, judged: where every search begins."""
    zero = Answer.none(problem.rows.y, problem.n)
    return Judged.of(zero, certify(problem, zero.point, tol=tol, thorough=False))


def unheard(signals: int) -> None:
    """What a loop tells where no bar listens."""


def run(
    solver: AbstractSolver,
    problem: AbstractLayerProblem,
    *,
    tol: float,
    max_iter: int | None = None,
    polish: bool = True,
    tick: Callable[[int], object] = unheard,
) -> Judged:
    """Run a solver on a normalised problem; each signal stops when its own point is certified, and is then frozen.

    A solver that wants h >= 0 gets a problem that weighs |h| in its two halves; judged is h, in the problem itself.
    max_iter: None takes the solver's own. tick: told how many signals stop, each time that some do.
    """
    split = problem.absolute and solver.on_halves
    max_iter = max_iter or solver.max_iter
    method, whole = solver.start(halves(problem) if split else problem), together if split else _as_it_is
    rows, reached = problem.rows, at_zero(problem, tol)
    left, left_problem = torch.arange(problem.N), problem
    patience = method.patience if polish else 0
    first = torch.full((problem.N,), -1)
    watch = _Watch(reached)
    iteration = 0
    while iteration < max_iter and len(left):
        stop = min(max_iter, method.first_check if iteration == 0 else method.next_check(iteration))
        method.advance(stop - iteration)
        iteration = stop
        believed = None if stop == max_iter else method.done(tol)
        if believed is None:
            looked, part, point = left, left_problem, whole(method.point())
        elif not bool((here := believed.cpu()).any()):
            continue
        else:
            believed = here.nonzero()[:, 0].to(rows.y.device)
            looked, part = left[here], left_problem.take(believed)
            point = whole(method.points(believed))
        # while points are still rough, a bound that costs a factorisation tells nothing that the next polish will not
        thorough = method.exact or not polish
        offer(reached, looked, part, point, tol, iteration, polished=method.exact, thorough=thorough)
        if polish and not method.exact:
            everyone = method.worth_polishing(iteration) or stop == max_iter
            ripe = torch.as_tensor([everyone or reached.certificate.status[i] == OPTIMAL for i in looked.tolist()])
            if ripe.any():
                part_ripe = part if ripe.all() else part.take(ripe.to(rows.y.device))
                ripe_point = Point(*(x[ripe.to(x.device)] for x in point))
                polish_left(reached, looked[ripe], part_ripe, tol, iteration, start=ripe_point)
            watch.looks[looked] += 1
            resisting = (torch.as_tensor(~np.isin(reached.certificate.status, _ANSWERS)) & (watch.looks > _PATIENT))[looked]
            if believed is not None and resisting.any():
                # what the method takes for solved and no polish confirms may be all there is: one more look, without haste
                few = resisting.to(rows.y.device)
                exactly = Point(*(x[few] for x in point))
                offer(reached, looked[resisting], part.take(few), exactly, tol, iteration, polished=False)
            face_left(reached, looked, part, point, tol, iteration)
        if believed is None and problem.form in ("ball", "interval"):
            watch.offer_ray(looked, part, point, tol, iteration)
        still = watch.still(looked)
        if polish and still.any():
            complete_left(reached, looked[still], part.take(still.to(rows.y.device)), tol, iteration)
        status = reached.certificate.status
        settled = [s in (STATIONARY, INFEASIBLE) or (s == OPTIMAL and not patience) for s in status]
        done = torch.as_tensor(settled)[left]
        if patience:
            # a vertex shows itself a few iterations after the tolerance is met
            first[left] = torch.where(torch.as_tensor(status == OPTIMAL)[left] & (first[left] < 0), iteration, first[left])
            waited = (first[left] >= 0) & (iteration >= first[left] + patience)
            done |= torch.as_tensor(status == OPTIMAL)[left] & (reached.polished[left] | waited)
        if believed is None and problem.form != "curved":
            done |= watch.stalled(left, iteration)
        if believed is None and (hopeless := method.given_up()) is not None:
            done |= hopeless.cpu()  # the judge has seen them
        if done.any():
            tick(int(done.sum()))
            reached.iterations[left[done & torch.as_tensor(~np.isin(status, _ANSWERS))[left]]] = iteration
            keep = (~done).nonzero()[:, 0].to(rows.y.device)  # positions: a mask would wait for the device once per field
            left = left[~done]
            if len(left):
                method.keep(keep)
                left_problem = left_problem.take(keep)
    reached.iterations[left] = iteration
    tick(len(left))
    return replace(reached, solver=(solver.name,) * problem.N)


def _as_it_is(point: Point) -> Point:
    return point


class _Watch:
    """What the looks of one run have seen: objectives that stay, points that get no better, and where p runs off to."""

    def __init__(self, reached: Judged):
        self.reached, N = reached, len(reached.iterations)
        self.objective = torch.full((N,), torch.nan, dtype=torch.float64)
        self.completed = torch.zeros(N, dtype=torch.bool)
        self.merit = torch.full((N,), torch.inf, dtype=torch.float64)
        self.since = torch.zeros(N, dtype=torch.long)
        self.looks = torch.zeros(N, dtype=torch.long)
        self.p: Tensor | None = None

    def still(self, looked: Tensor) -> Tensor:
        """Who of `looked` has no answer and the same feasible objective as at the last look, once for each signal."""
        certificate = self.reached.certificate.take(looked)
        natural = torch.maximum(certificate.objective.abs(), certificate.unit)
        same = (certificate.objective - self.objective[looked]).abs() <= _STILL * natural
        self.objective[looked] = certificate.objective
        same &= _lacks_a_bound(certificate) & ~self.completed[looked]
        self.completed[looked[same]] = True
        return same

    def offer_ray(self, looked: Tensor, part: AbstractLayerProblem, point: Point, tol: float, iteration: int) -> None:
        """Where nothing meets the bounds p runs off; the way it went since the last look is the proof, long before p is."""
        if self.p is None:
            self.p = torch.zeros_like(self.reached.p)
        where = looked.to(point.p.device)
        way, self.p[where] = point.p - self.p[where], point.p
        broken = torch.as_tensor(~np.isin(self.reached.certificate.status, _ANSWERS))[looked]
        if broken.any():
            few = broken.to(point.p.device)
            ray = Point(point.h[few], way[few])
            offer(self.reached, looked[broken], part.take(few), ray, tol, iteration, polished=False, thorough=False)

    def stalled(self, left: Tensor, iteration: int) -> Tensor:
        """Who of `left` got no better in two thirds of the iterations: a method that converges at all does."""
        merits = merit(self.reached.certificate.take(left))
        better = merits < self.merit[left] - _BETTER
        self.merit[left] = torch.where(better, merits, self.merit[left])
        self.since[left] = torch.where(better, iteration, self.since[left])
        return (iteration >= _LONG) & (iteration > 3 * self.since[left])


def lacking(certificate: Certificate) -> Tensor:
    """Positions of the signals without an answer whose point meets the bounds: a bound on the objective may be missing."""
    return _lacks_a_bound(certificate).nonzero()[:, 0]


def _lacks_a_bound(certificate: Certificate) -> Tensor:
    open_ = torch.as_tensor(~np.isin(certificate.status, _ANSWERS))
    return open_ & (certificate.violation <= certificate.allowed_violation)


def face_left(
    reached: Judged, left: Tensor, problem: AbstractLayerProblem, point: Point, tol: float, iteration: int
) -> None:
    """Points of the signals `left` that no polish made exact, on all the rows that they hold at their bound."""
    near = np.isin(reached.certificate.status, (OPTIMAL, OPTIMAL_INACCURATE))
    some = (torch.as_tensor(near) & ~reached.polished)[left].nonzero()[:, 0]
    if len(some) == 0:
        return
    where = some.to(point.h.device)
    part = problem.take(where).to(torch.float64)
    found = polish_on_face(part, Point(torch.nan_to_num(point.h[where].double()), torch.nan_to_num(point.p[where].double())))
    if found is not None:
        offer(reached, left[some][found[0].cpu()], part.take(found[0]), found[1], tol, iteration, polished=True)


def complete_left(reached: Judged, left: Tensor, problem: AbstractLayerProblem, tol: float, iteration: int) -> None:
    """Offer the best points of the signals `left` with multipliers that are built from h alone."""
    if problem.n > LARGEST_COMPLETED:
        return
    part, where = problem.to(torch.float64), left.to(problem.rows.y.device)
    h = reached.h[where].double()
    offer(reached, left, part, Point(h, part.complete(h)), tol, iteration, polished=True)
    found = polish_on_face(part, Point(h, reached.p[where].double()))
    if found is not None:
        offer(reached, left[found[0].cpu()], part.take(found[0]), found[1], tol, iteration, polished=True)


def polish_left(
    reached: Judged,
    left: Tensor,
    problem: AbstractLayerProblem,
    tol: float,
    iteration: int,
    *,
    rounds: int = 6,
    start: Point | None = None,
) -> None:
    """Polish points of the signals `left`, whose problem is `problem`: `start`, or the best; the judge keeps what is better.

    Of two points without a bound on the objective the better is not always the one nearer to the optimum, so a method's
    newest point is worth more than its best.
    """
    part, where = problem.to(torch.float64), left.to(problem.rows.y.device)
    best = Point(reached.h[where].double(), reached.p[where].double())
    if start is None:
        start = best
    else:
        sound = (torch.isfinite(start.h).all(1) & torch.isfinite(start.p).all(1))[:, None]
        start = Point(torch.where(sound, start.h.double(), best.h), torch.where(sound, start.p.double(), best.p))
    offer(reached, left, part, polish_point(part, start, rounds), tol, iteration, polished=True)


def without_dust(point: Point) -> Point:
    """The point of a normalised problem with unknowns that move no row by more than rounding set to 0.

    Where 0 is all that limits leave, an h of 1e-16 breaks them by as much as it has.
    """
    return Point(torch.where(point.h.abs() < _DUST, torch.zeros_like(point.h), point.h), point.p)


def offer(
    reached: Judged,
    left: Tensor,
    problem: AbstractLayerProblem,
    point: Point,
    tol: float,
    iteration: int,
    polished: bool,
    thorough: bool = True,
) -> Tensor:
    """Let the judge compare `point` (of the signals `left`) with the best so far, keep the better per signal, say where."""
    point = without_dust(point)
    certificate = certify(problem, point, tol=tol, thorough=thorough)
    before = reached.certificate.take(left)
    better = merit(certificate) < merit(before)
    exact = is_exact(certificate)
    if polished:
        # of two optimal points rounding would choose, and so the neighbours in the batch; the polished one is exact
        better |= certificate.holds & before.holds & ~reached.polished[left] & exact
    chosen = left[better]
    if len(chosen) == 0:
        return better
    to, source = chosen.to(point.h.device), better.nonzero()[:, 0].to(point.h.device)
    reached.h[to], reached.p[to] = point.h[source].to(reached.h), point.p[source].to(reached.p)
    reached.iterations[chosen], reached.polished[chosen] = iteration, exact[better] & polished
    reached.certificate.put(chosen, certificate.take(better))
    return better
