"""`solver="auto"` after its openings: which method gets what they left, and why.

The openings (`openings`) judge themselves, and the judge looks at their points once. Here it looks at every method's points
and keeps the better. An exact point of an opening that it calls `optimal_inaccurate` comes last: what it misses is a margin
for rounding. In this order, each on the signals that are still without an answer:

Squared misfits up to `LARGEST_NEWTON` unknowns:
1. Block pivoting, where the judge did not believe another opening: its own points are exact or not there.
2. lam = 0: active-set rounds from the least-squares point. On realizable data they are exact whatever the conditioning,
   because their equations are nudged and refined against W itself. Where lam = 0 leaves h open (fewer on rows than
   unknowns), the minimiser with the least sum is looked for next.
3. Interior point: insensitive to conditioning, which on trained layers is where first-order methods stall.
4. Where off rows leave h no inside: the same with these rows opened by 1e-9 s_y, as equal limits are.
5. Graph-form ADMM, one factorisation for the whole batch: 2000 iterations for signals that the interior point did not even
   come near, 300 for the others.

An l2 bound: where it is next to 0, the linear program W h + b = y, by interior point; root finding on the penalty; where
off rows alone may decide, the problem without the bound, by interior point; where the smallest misfit is eps, root finding
with the bound opened by next to nothing; then graph-form ADMM. Linear programs: interior
point with crossover; the simplex method, signal by signal, up to `_LARGEST_SIMPLEX` numbers in W; then PDHG. Fits in the
l_inf or l_1 norm: least squares, whose h is theirs where it meets all rows; elastic interior point with the polish to a
corner; then PDHG. Behind an activation, not convex: FISTA.

A point that meets its bounds and lacks a bound on the objective gets multipliers that are built from h alone
(`multipliers`): after the first method, after those that may leave p open, and at the end.

Methods with an n x n matrix per signal are left out beyond `LARGEST_NEWTON` unknowns (twice as many for bounds), where
first-order methods stand alone; where W has over `LARGEST_FACTOR` rows and unknowns, those that make no matrix of it: FISTA,
or with off rows and bounds PDHG, without polish. After the first method on a bound, and at the end, a p that proves
infeasibility is looked for, and checked by the judge: a first-order method would spend its budget on what has no answer.
Problems that weigh |h| are given to methods that want h >= 0 in their two halves (`signed`), but for a Lasso with lam = 0,
whose halves have no unique answer. Judged is h in the problem itself: of a proof that holds for the halves the search may
still be on.

`polish=False` reaches the methods; steps that are exact solves themselves (1, 2) remain.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..layers.core.certificate import INFEASIBLE, OPTIMAL, OPTIMAL_INACCURATE, STATIONARY, Certificate, certify
from ..layers.core.problem import AbstractLayerProblem, Point, Scaled
from ..layers.gaussian_latent import GaussianLatent
from ..layers.interval_basis_pursuit import IntervalBasisPursuit, NonnegativeBasisPursuitLinf
from ..layers.lasso import Lasso
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..memory import room
from .active_set import active_set
from .active_set.pivoting import BlockPivoting
from .answer import Answer, Judged
from .first_order.fista import FISTA
from .first_order.graph_admm import GraphADMM
from .first_order.pdhg import PDHG
from .infeasible import find_ray, least_misfit, vertex
from .least_squares import LARGEST_FACTOR
from .loop import at_zero, complete_left, is_exact, offer, polish_left, run, without_dust
from .newton.elastic import ElasticInteriorPoint
from .newton.interior_point import OPENING, InteriorPoint
from .newton.root_finding import RootFinding
from .openings import LARGEST_NEWTON, Step, open_batch, summary
from .shared.shared_pursuit import NEXT_TO_NONE
from .signed import halves, together
from .solver import AbstractSolver

_STEADY = "insensitive to conditioning"
_FIRST_ORDER = "one factorisation for the whole batch"
_CASCADE: dict[str, tuple[tuple[type[AbstractSolver], str], ...]] = {
    "quadratic": ((InteriorPoint, _STEADY), (GraphADMM, _FIRST_ORDER)),
    "layered": ((GraphADMM, _FIRST_ORDER), (PDHG, "no factorisation")),
    "ball": ((RootFinding, "the penalty that meets the l2 bound"), (GraphADMM, _FIRST_ORDER)),
    "interval": ((InteriorPoint, _STEADY), (PDHG, "no factorisation")),
    "excess": ((ElasticInteriorPoint, _STEADY), (PDHG, "no factorisation")),
    "curved": ((FISTA, "not convex: a stationary point"),),
}
_PRODUCTS = "W is too large for a matrix: products alone"
_TILT = 1e-6  # lam in normalised units that breaks the tie, far below what moves a determined h
_SHORT, _SHORTEST = 2000, 300  # iterations: what a first-order method has not got by then it will not get
_AT_EPS = 1e-12  # in units of s_y: a misfit that is shorter than an l2 bound by less is no shorter
_OPENED = ((1.0, 1e-13), (2.0, 1e-12))  # widths, as a share of what is over eps, and beside that in units of s_y
_LARGEST_SIMPLEX = 200_000  # numbers in W up to which a linear program is handed to the simplex method
_MEMORY = 1_500_000_000  # bytes of n x n and m-wide work space per chunk of signals


def chunk_size(problem: AbstractLayerProblem, matrices: int = 6) -> int:
    """How many signals fit the work space at once, with so many n x n matrices for each."""
    n, m = problem.n, problem.rows.m
    per_signal = 8 * (matrices * min(n, LARGEST_NEWTON) ** 2 + 30 * (n + m))
    return max(1, room(problem.rows.y.device, _MEMORY) // per_signal)


def chunks(problem: AbstractLayerProblem, matrices: int = 6) -> Iterator[AbstractLayerProblem]:
    """The problem in parts that fit the work space, one after the other."""
    size = chunk_size(problem, matrices)
    if size >= problem.N:
        yield problem
        return
    for span in torch.arange(problem.N, device=problem.rows.y.device).split(size):
        yield problem.take(span)


def unscaled(answer: Answer, scaled: Scaled, problem: AbstractLayerProblem) -> Answer:
    """An answer to the normalised problem in the units and the type of `problem`."""
    dtype, point = problem.rows.W.dtype, without_dust(answer.point)
    units = (scaled.h_unit, scaled.p_unit)
    # what is beyond the type's range stops at its end: a bad point, and not none. NaN is a solver's word for no point
    h, p = (torch.nan_to_num((x.double() * unit).to(dtype), nan=torch.nan) for x, unit in zip(point, units, strict=True))
    return replace(answer, h=h, p=p)


def solve_auto(
    problem: AbstractLayerProblem,
    tol: float,
    max_iter: int | None,
    polish: bool,
    steps: list[Step],
    tick: Callable[[int], None],
) -> Judged:
    """The openings on everyone, one judgement, and the cascade of the module on whom it does not call optimal.

    steps: what was done is added to it. tick: told how many signals have got their answer, as they do; less than 0 where the
    judge does not believe an opening.
    """
    opened = []
    for part in chunks(problem, 0 if problem.rows.alike else 3):
        scaled = part.to(torch.float64).normalised()
        opened.append(unscaled(open_batch(scaled.problem, tol, polish, steps), scaled, part))
        tick(int(opened[-1].asked.sum()))
    found = Answer.joined(opened)
    claimed, left = found.asked.nonzero()[:, 0], (~found.asked).nonzero()[:, 0]
    judged, order, solved_by = list[Certificate](), list[Tensor](), list[str]()
    if len(claimed):
        certificate = certify(*_taken(problem, found.point, claimed), tol=tol)
        held = certificate.holds
        solved_by = [found.solver[i] for i in claimed[held].tolist()]
        found.polished[claimed] &= is_exact(certificate)
        left = torch.cat([left, claimed[~held]]).sort().values
        judged, order = [certificate.take(held)] if len(left) else [certificate], [claimed[held]]
        tick(len(solved_by) - len(claimed))
    steps[:] = summary(steps, solved_by)
    for some in left.split(chunk_size(problem)) if len(left) else ():
        part, point = _taken(problem, found.point, some)
        scaled = part.to(torch.float64).normalised()
        start = replace(found.take(some), h=point.h.double() / scaled.h_unit, p=point.p.double() / scaled.p_unit)
        cascade = _Cascade(scaled.problem, start, tol, max_iter, steps, polish, tick)
        found.put(some, unscaled(cascade.run(), scaled, part))
    if not len(left):
        return Judged.of(found, judged[0])
    judged, order = [*judged, certify(*_taken(problem, found.point, left), tol=tol)], [*order, left]
    return Judged.of(found, Certificate.joined(judged).take(torch.cat(order).argsort()))


def _taken(problem: AbstractLayerProblem, point: Point, index: Tensor) -> tuple[AbstractLayerProblem, Point]:
    """The signals at `index`, positions in rising order, of a problem and a point; without a copy where that is all."""
    if len(index) == problem.N:
        return problem, point
    there = index.to(problem.rows.y.device)
    return problem.take(there), Point(point.h[there], point.p[there])


class _Cascade:
    """The methods of the module's list, each on the signals that those before it left; the judge compares the points.

    problem: normalised, float64; opened: what the openings found for it.
    """

    def __init__(
        self,
        problem: AbstractLayerProblem,
        opened: Answer,
        tol: float,
        max_iter: int | None,
        steps: list[Step],
        polish: bool,
        tick: Callable[[int], None],
    ):
        self.problem, self.tol, self.max_iter, self.steps, self.tick = problem, tol, max_iter, steps, tick
        self.opened, self.polish, self.reached = opened, polish, at_zero(problem, tol)
        self.nobody = "active_set" if problem.form == "quadratic" else "zero"
        self.solver = [who or self.nobody for who in opened.solver]
        self.final = torch.zeros(problem.N, dtype=torch.bool)
        self.last = (torch.arange(problem.N), problem)
        self.split = problem.absolute and problem.n <= LARGEST_NEWTON
        unknowns = problem.n * (2 if self.split else 1)
        self.large = min(problem.n, problem.rows.m) > LARGEST_FACTOR
        self.small = unknowns <= LARGEST_NEWTON * (2 if problem.form != "quadratic" else 1)

    def run(self) -> Answer:
        """The best points, and who found them."""
        self.take_over()
        self.ask_in_turn()
        return replace(self.reached, solver=tuple(self.solver))

    def take_over(self) -> None:
        """Judge what the openings found, in normalised units."""
        opened = self.opened
        for exact in (True, False):
            there = (opened.asked & (opened.polished == exact)).nonzero()[:, 0]
            if len(there):
                self.offer(there, self.of(opened.point, there), polished=exact)
        self.reached.iterations[:] = opened.iterations
        # an exact point that misses optimal by less than a thousand times misses it by the judge's own margin for rounding
        inaccurate = torch.as_tensor(self.reached.status == OPTIMAL_INACCURATE)
        self.final = opened.polished & inaccurate
        self.doubted({self.nobody, BlockPivoting.name})

    def ask_in_turn(self) -> None:
        """The module's list."""
        problem = self.problem
        if problem.absolute and problem.n <= LARGEST_NEWTON:
            self.least_squares()
        if problem.form == "quadratic" and self.small:
            self.from_least_squares()
            self.sparsest()
        if problem.form == "ball":
            self.equalities()
        if problem.form == "excess":
            self.met_exactly()
        bounded = problem.form in ("ball", "interval")
        for number, (method, why) in enumerate(self.cascade()):
            if not self.small and method.needs_float64:
                continue
            left = self.open()
            if len(left) == 0:
                break
            if number == 0 or not self.small:
                self.ask(method, why, left)
            else:
                # an interior point that ended near the optimum is seldom improved by a first-order method
                rough = self.rough()
                self.ask(method, why, rough, _SHORT)
                self.ask(method, why, left[~torch.isin(left, rough)], _SHORTEST)
            if method is RootFinding:
                self.without_ball()
            if number == 0:
                self.completed()
                # before a first-order method spends its budget on what has no answer
                if bounded:
                    self.rays()
                if self.small and problem.form == "ball":
                    self.at_the_least()
                if self.small:
                    self.without_inside()
                    self.vertices()
        if problem.form != "curved":
            self.completed()
            self.rays()
            self.last_of_all()

    def cascade(self) -> tuple[tuple[type[AbstractSolver], str], ...]:
        """The methods in their order; where W is too large for a matrix, one that needs none."""
        if not self.large or self.problem.form == "curved":
            return _CASCADE[self.problem.form]
        return ((PDHG if FISTA.refuses(self.problem) else FISTA, _PRODUCTS),)

    # --- which signals ---

    def open(self) -> Tensor:
        """Positions of the signals without an answer."""
        return self._others({OPTIMAL, INFEASIBLE, STATIONARY})

    def rough(self) -> Tensor:
        """Positions of the signals without even an inaccurate one."""
        return self._others({OPTIMAL, INFEASIBLE, STATIONARY, OPTIMAL_INACCURATE})

    def _others(self, done: set[str]) -> Tensor:
        status = self.reached.certificate.status
        final = self.final.tolist()
        return torch.as_tensor([i for i, s in enumerate(status) if s not in done and not final[i]], dtype=torch.long)

    def open_or_final(self) -> Tensor:
        """Positions of the signals without an answer, the final ones among them."""
        status = self.reached.certificate.status
        return torch.as_tensor(
            [i for i, s in enumerate(status) if s not in (OPTIMAL, INFEASIBLE, STATIONARY)], dtype=torch.long
        )

    def part(self, left: Tensor) -> AbstractLayerProblem:
        """The problem of the signals `left`; asked for again it is the same, with what the judge has factorised of it."""
        if not torch.equal(left, self.last[0]):
            self.last = (left.clone(), self.problem.take(left.to(self.problem.rows.y.device)))
        return self.last[1]

    def of(self, point: Point, left: Tensor) -> Point:
        there = left.to(point.h.device)
        return Point(point.h[there], point.p[there])

    # --- what is done with them ---

    def offer(self, left: Tensor, point: Point, polished: bool = True) -> None:
        offer(self.reached, left, self.part(left), point, self.tol, 1, polished=polished)

    def merge(self, left: Tensor, got: Answer, name: str) -> None:
        """Keep what is better in `got`, with its iterations and who found it."""
        better = offer(self.reached, left, self.part(left), got.point, self.tol, 0, polished=False)
        chosen = left[better]
        self.reached.iterations[chosen], self.reached.polished[chosen] = got.iterations[better], got.polished[better]
        for i in chosen.tolist():
            self.solver[i] = name

    @contextmanager
    def step(self, method: str, why: str, left: Tensor) -> Iterator[None]:
        """What happens inside is one `Step` on the signals `left`."""
        started, before = time.perf_counter(), len(self.open())
        yield
        solved = before - len(self.open())
        self.tick(solved)
        self.steps.append(Step(method, why, len(left), solved, time.perf_counter() - started))

    def ask(self, method: type[AbstractSolver], why: str, left: Tensor, most: int = 20_000) -> None:
        if len(left) == 0:
            return
        limit = self.max_iter if self.max_iter is not None else min(method.max_iter, most)
        with self.step(method.name, why, left):
            self.merge(
                left,
                run(method(), self.part(left), tol=self.tol, max_iter=limit, polish=self.polish and not self.large),
                method.name,
            )

    def ask_interior_point(self, problem: AbstractLayerProblem, why: str, left: Tensor) -> None:
        """The same with the interior point on a `problem` that stands for the signals `left`, or for their two halves."""
        with self.step(InteriorPoint.name, why, left):
            got = run(InteriorPoint(), problem, tol=self.tol, polish=self.polish)
            h, p = self.whole(got.point)
            self.merge(left, replace(got, h=h, p=p), InteriorPoint.name)

    def work(self, left: Tensor) -> AbstractLayerProblem:
        """The problem of the signals `left` over h >= 0: in its two halves where it weighs |h|."""
        part = self.part(left)
        return halves(part) if self.split else part

    def whole(self, point: Point) -> Point:
        return together(point) if self.split else point

    # --- special cases ---

    def doubted(self, last: set[str]) -> None:
        """Whom the judge does not believe an opening, and who never met the last of them."""
        left = torch.as_tensor([i for i in self.open().tolist() if self.solver[i] not in last], dtype=torch.long)
        if len(left) == 0 or BlockPivoting.refuses(self.problem) is not None:
            return
        with self.step(BlockPivoting.name, "its predecessor's points do not hold", left):
            got = run(BlockPivoting(), self.part(left), tol=self.tol)
            self.merge(left, got, BlockPivoting.name)

    def least_squares(self) -> None:
        """A Lasso with lam = 0 whose answer is unique. Its two halves are not, and would lose digits."""
        left = self.open()
        left = left[(self.problem.linear[:, 0] == 0).cpu()[left]]
        if len(left) == 0 or not isinstance(self.problem, Lasso):
            return
        method = BlockPivoting().start(GaussianLatent(self.part(left).rows, 0.0))
        with self.step(method.name, "lam = 0: least squares", left):
            method.advance(2)
            settled = method.settled.nonzero()[:, 0].cpu()
            if len(settled):
                self.offer(left[settled], self.of(method.point(), settled))
                for i in left[settled].tolist():
                    self.solver[i] = method.name

    def from_least_squares(self) -> None:
        """On realizable data active-set rounds from the least-squares point are exact whatever the conditioning."""
        left = self.open()
        left = left[(self.problem.linear[:, 0] == 0).cpu()[left]]
        if len(left):
            part = self.work(left)
            with self.step("active_set", "lam = 0: from the least-squares point", left):
                self.offer(left, self.whole(active_set.polish(part, active_set.least_squares_start(part), 10)))

    def sparsest(self) -> None:
        """Where lam = 0 and h is not unique, offer the minimiser with the least 1'h: the one a sparse truth would be."""
        left = self.open()
        left = left[(self.problem.linear[:, 0] == 0).cpu()[left]]
        if len(left) == 0 or not isinstance(self.problem, NonnegativeLasso | Lasso):
            return
        part, before = self.work(left), list(self.reached.certificate.status)
        with self.step(InteriorPoint.name, "lam = 0 and h is not unique: the one with the least sum", left):
            assert isinstance(part, NonnegativeLasso)
            tilted = replace(part, lam=_TILT)
            point = run(InteriorPoint(), tilted, tol=self.tol).point
            self.offer(left, self.whole(active_set.polish(part, point)))
            self.complete(left)
        for i in left.tolist():
            if self.reached.certificate.status[i] != before[i]:
                self.solver[i] = InteriorPoint.name

    def equalities(self) -> None:
        """An l2 bound of next to nothing asks for W h + b = y: a linear program, whose LASSO for lam -> 0 is degenerate."""
        left = self.open()
        left = left[(self.problem.number("eps").cpu() <= NEXT_TO_NONE)[left]]
        if len(left):
            linear = NonnegativeBasisPursuitLinf(self.work(left).rows, 0.0)
            self.ask_interior_point(linear, "eps is next to 0: a linear program", left)

    def met_exactly(self) -> None:
        """Rows that some h meets: their largest excess, and the sum of all, is 0, and so is the sum of their squares."""
        left = self.open()
        if len(left) == 0 or not self.small:
            return
        part = self.part(left)
        squares = NonnegativeLasso(part.rows, 0.0) if self.problem.nonnegative else GaussianLatent(part.rows, 0.0)
        with self.step("least_squares", "an h that meets all rows is optimal", left):
            found = open_batch(squares, self.tol, True, [])
            self.offer(left, Point(found.h, torch.zeros_like(found.p)))
        for i in left[torch.as_tensor(self.reached.certificate.status == OPTIMAL)[left]].tolist():
            self.solver[i] = "least_squares"

    def without_ball(self) -> None:
        """Where off rows push h so far that the misfit's bound is slack, the answer is that of the off rows alone."""
        left, rows = self.open(), self.problem.rows
        left = left[((rows.off & (rows.b > 0)).any(1)).cpu()[left]]
        if len(left):
            part = self.work(left)
            alone = IntervalBasisPursuit(replace(part.rows, on=torch.zeros_like(part.rows.on)), *part.limits())
            self.ask_interior_point(alone, "the off rows alone may decide", left)

    def completed(self) -> None:
        """Points that meet their bounds and lack a bound on the objective, with multipliers built from h alone."""
        left = self.open_or_final()
        certificate = self.reached.certificate.take(left)
        left = left[certificate.violation <= certificate.allowed_violation]
        if len(left) and self.small:
            with self.step("multipliers", "the point is there, and no bound: multipliers that suit it", left):
                self.complete(left)

    def complete(self, left: Tensor) -> None:
        left = left[torch.isin(left, self.open_or_final())]
        if len(left):
            complete_left(self.reached, left, self.part(left), self.tol, 1)

    def last_of_all(self) -> None:
        """Exact points of openings that miss the judge's margin to the end: another method's p may have a better one."""
        left = self.final.nonzero()[:, 0]
        self.final = torch.zeros_like(self.final)
        left = left[torch.isin(left, self.open())]
        if len(left) and self.small and self.problem.form == "quadratic":
            self.ask(InteriorPoint, _STEADY, left)

    def at_the_least(self) -> None:
        """Where the smallest misfit is eps, p is infinite: the bound opened by next to nothing has one that is not.

        With eps wider by w p grows like w^(-1/2), and what h gains by it like w^(1/2). Where the smallest misfit is over eps
        by less than the judge minds, h pays for that with p: w about as large is best.
        """
        left = self.open()
        if len(left) == 0:
            return
        beyond = least_misfit(self.part(left)) - self.part(left).number("eps")
        near = ((beyond > -_AT_EPS) & (beyond <= self.tol)).cpu()
        left, beyond = left[near], beyond[near.to(beyond.device)].clamp(min=0)
        for share, least in _OPENED if len(left) else ():
            with self.step(RootFinding.name, "the smallest misfit is next to eps: opened by about as much", left):
                opened = self.part(left).opened(share * beyond + least)
                self.merge(left, run(RootFinding(), opened, tol=self.tol, polish=self.polish), RootFinding.name)

    def without_inside(self) -> None:
        """Off rows that leave h no room on one side: opened by next to nothing, as equal limits are."""
        left = self.open()
        left = left[self.problem.rows.off.any(1).cpu()[left]]
        if len(left) == 0 or self.problem.form == "ball":
            return
        part = self.work(left)
        rows = part.rows
        b = torch.where(rows.off, rows.b - OPENING, rows.b)
        opened = replace(part, rows=rows.derived(b=b))  # type: ignore[type-var]
        self.ask_interior_point(opened, "off rows may leave no inside: opened by 1e-9 s_y", left)
        if self.polish:
            polish_left(self.reached, left, self.part(left), self.tol, 1)
        self.completed()

    def vertices(self) -> None:
        """Linear programs that are left, one by one, by the simplex method."""
        left = self.open()
        if self.problem.form != "interval" or len(left) == 0 or self.problem.rows.m * self.problem.n > _LARGEST_SIMPLEX:
            return
        with self.step("simplex", "a linear program that resists: one vertex after another", left):
            for i in left.tolist():
                one, before = torch.tensor([i]), self.reached.certificate.status[i]
                self.offer(one, self.whole(vertex(self.work(one))), polished=True)
                if self.reached.certificate.status[i] != before:
                    self.solver[i] = "simplex"

    def rays(self) -> None:
        """Where h = 0 breaks a bound and nothing was found: is there a p that proves that nothing can be?"""
        if self.large:
            return
        left, certificate = self.open(), self.reached.certificate
        # of what cannot be met every h breaks some bound by more than is allowed
        far = (certificate.violation > certificate.allowed_violation)[left]
        left = left[torch.isin(left, self.rough()) | far]
        if len(left):
            left = left[(self.part(left).violation(torch.zeros_like(self.of(self.reached.point, left).h)) > 0).cpu()]
        if len(left) == 0:
            return
        with self.step("farkas_ray", "no point meets the bounds so far: can any?", left):
            for i in left.tolist():
                one, before = torch.tensor([i]), self.reached.certificate.status[i]
                ray = find_ray(self.part(one), 0, self.tol).to(self.problem.rows.y)
                self.offer(one, Point(self.of(self.reached.point, one).h, ray[None]), polished=False)
                if self.reached.certificate.status[i] != before:
                    self.solver[i] = "farkas_ray"
