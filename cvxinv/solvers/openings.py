"""What `auto` asks first: fast methods that judge themselves, so that the judge is called once, at the end.

Each opening gives points for the signals that it takes for solved, in this order:

Squared misfits
1. `least_squares`, where lam = gamma = 0 and no fewer rows are on than there are unknowns: exact where a layer explains its
   data.
2. Where lam > 0, no row is off and all signals have the same on rows and weights, they share a Gram matrix, and its
   `evenness` chooses: from `_EVEN` on `shared_admm`, one product for the whole batch per iteration; below
   `sparse_active_set`, one factorisation of the support's size per signal and round, whatever the condition. What each
   takes at which evenness was measured in decision 0012.
3. `block_pivoting`, up to `LARGEST_NEWTON` unknowns: off rows, masks that differ, latents, and what 1 and 2 left.

An l2 bound: `shared_pursuit`, where signals share a Gram matrix with no fewer rows than unknowns. With fewer it would need
many more iterations; there root finding only begins where it has got to, see `root_finding`.
Squares beside lengths: `shared_layered`, where signals share a Gram matrix; its points are exact.
Linear programs and problems that are not convex have no opening.

Points of methods that are not exact are polished by a few active-set rounds, unless `polish=False`. The certificate
decides; what it does not call optimal, and whom no opening claims, goes on to the cascade of `choose`. Decisions 0010, 0012.
"""

import time
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..layers.core.problem import AbstractLayerProblem, Point
from .active_set.pivoting import BlockPivoting
from .active_set.sparse_active_set import SparseActiveSet
from .answer import Answer
from .least_squares import LeastSquares
from .newton.root_finding import RootFinding
from .shared.shared_admm import SharedADMM
from .shared.shared_layered import SharedLayered
from .shared.shared_pursuit import SharedPursuit
from .signed import apart, halves, together
from .solver import AbstractSolver

_EVEN = 0.2  # evenness of a Gram matrix from which ADMM on it takes tens of iterations
_POLISH = 4  # rounds from a point whose activity is all but right
LARGEST_NEWTON = 1500  # unknowns beyond which an n x n Cholesky per signal and iteration costs over a second


class Step(NamedTuple):
    """One method that `auto` asked, and what came of it.

    method: its name; why: the reason it was asked; given, solved: numbers of signals; seconds: wall time.
    """

    method: str
    why: str
    given: int
    solved: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.method} ({self.why}): {self.solved} of {self.given} in {self.seconds:.2g} s"


def summary(steps: list[Step], solved_by: list[str]) -> list[Step]:
    """The steps of all chunks, one for each method, with what the judge made of them: who found each optimal point."""
    together: dict[str, Step] = {}
    for step in steps:
        before = together.get(step.method, step._replace(given=0, seconds=0.0))
        given, seconds = before.given + step.given, before.seconds + step.seconds
        together[step.method] = step._replace(given=given, seconds=seconds, solved=solved_by.count(step.method))
    return list(together.values())


class Opening(NamedTuple):
    """A solver, why it is asked, and after how many iterations it hands over."""

    solver: AbstractSolver
    why: str
    iterations: int


def openings(problem: AbstractLayerProblem) -> list[Opening]:
    """The methods that are asked first, in this order; each gets what those before it left."""
    if problem.form == "ball" and SharedPursuit.refuses(problem) is None:
        shared = "all signals share a Gram matrix"
        if problem.rows.m >= problem.n:
            return [Opening(SharedPursuit(), f"{shared}: a product per iteration, lam on the way", 1000)]
        if problem.n <= LARGEST_NEWTON:
            return [Opening(RootFinding(), f"{shared}, rows are few: activities in closed form, lam on the way", 1)]
    if problem.form == "layered" and SharedLayered.refuses(problem) is None:
        why = "all signals share a Gram matrix: two products per iteration, then rounds at the size of the activity"
        return [Opening(SharedLayered(), why, SharedLayered.max_iter)]
    if problem.form != "quadratic":
        return []
    found: list[Opening] = []
    if bool(LeastSquares.serves(problem).any()):
        found.append(Opening(LeastSquares(), "lam = 0: exact where the layer explains the data", 1))
    if bool((problem.linear > 0).any()) and SharedADMM.refuses(problem) is None:
        even = evenness(problem.rows.shared_gram)
        shared = f"all signals share a Gram matrix, evenness {even:.2g}"
        if even >= _EVEN:
            found.append(Opening(SharedADMM(), f"{shared}: a product per iteration", 200))
        else:
            found.append(Opening(SparseActiveSet(), f"{shared}: supports grow from few unknowns", 60))
    if problem.n <= LARGEST_NEWTON:
        why = "an active set in a few factorisations of the support's size"
        found.append(Opening(BlockPivoting(), why, BlockPivoting.max_iter))
    return found


def evenness(gram: Tensor) -> float:
    """(sum of eigenvalues)^2 / (n sum of their squares): 1 where they are all equal, 1 / n where one is all there is.

    A Gaussian layer has about m / (m + n), a power law of condition 9e4 0.003 to 0.06, the last layers of ten generators
    that others trained 0.03 to 0.12. It takes no eigenvalues to find out.
    """
    total = float(gram.diagonal().sum())
    return total**2 / max(len(gram) * float((gram * gram).sum()), 1e-300)


def open_batch(problem: AbstractLayerProblem, tol: float, polish: bool, steps: list[Step]) -> Answer:
    """Points of the openings for a normalised problem, 0 where none found one; what they did is added to `steps`.

    Nothing is judged yet.
    """
    opened, left = Answer.none(problem.rows.y, problem.n), torch.arange(problem.N)
    for opening in openings(problem):
        if len(left) == 0:
            break
        started, before = time.perf_counter(), len(left)
        part = problem if before == problem.N else problem.take(left.to(problem.rows.y.device))
        _ask(opening, part, left, opened, tol, polish)
        left = left[~opened.asked[left]]
        seconds = time.perf_counter() - started
        steps.append(Step(opening.solver.name, opening.why, before, before - len(left), seconds))
    return opened


def _ask(opening: Opening, problem: AbstractLayerProblem, where: Tensor, opened: Answer, tol: float, polish: bool) -> None:
    """Run one opening on `problem`, whose signals are those at `where` of `opened`; puts there what it takes for solved."""
    split = problem.absolute and opening.solver.on_halves
    method, iteration = opening.solver.start(halves(problem) if split else problem), 0
    left, device = torch.arange(problem.N), problem.rows.y.device
    while iteration < opening.iterations and len(left):
        stop = min(opening.iterations, method.first_check if iteration == 0 else method.next_check(iteration))
        method.advance(stop - iteration)
        iteration = stop
        done = method.done(tol)
        assert done is not None, "an opening judges itself"
        hopeless = method.given_up()
        done, gone = torch.stack([done, done if hopeless is None else done | hopeless]).cpu()
        if not bool(gone.any()):
            continue
        if bool(done.any()):
            ready = left[done]
            point = method.points(done.nonzero()[:, 0].to(device))
            exact = torch.full((len(ready),), method.exact)
            if polish and not method.exact:
                point, exact = _polished(problem if len(ready) == problem.N else problem.take(ready.to(device)), point)
            found = Answer.by(together(point) if split else point, method.name, iteration)
            opened.put(where[ready], replace(found, polished=exact))
        left = left[~gone]
        if len(left):
            method.keep((~gone).nonzero()[:, 0].to(device))


def _polished(problem: AbstractLayerProblem, point: Point) -> tuple[Point, Tensor]:
    """The exact points of the activity of `point` where a few active-set rounds from there settle, and where, `(N,)`."""
    if problem.absolute:
        both, exact = _polished(halves(problem), apart(point))
        return together(both), exact
    if problem.form == "ball":
        method: BlockPivoting | RootFinding = RootFinding().start(problem, near=point)
        method.advance(1)
    else:
        method = BlockPivoting().start(problem, near=point)
        method.advance(_POLISH)
    found, kept = method.point(), method.settled[:, None]
    return Point(torch.where(kept, found.h, point.h), torch.where(kept, found.p, point.p)), method.settled.cpu()
