"""What `auto` asks first: fast methods that judge themselves, so that the judge is called once, at the end.

Each opening gives points for the signals that it takes for solved; the certificate decides, and whatever it does not call
optimal goes on to the cascade of `choose`.
"""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem, Point
from ..rows import Rows
from .least_squares import LeastSquares
from .loop import AbstractMethod
from .pivoting import BlockPivoting
from .signed import halves, together

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


class Opened(NamedTuple):
    """Points of the openings for a normalised batch; nothing is judged yet.

    point: h `(N, n)`, p `(N, m)`, 0 where no opening found one; solver: who, "" where nobody; iterations: `(N,)`; exact:
    whether the point solves the equations of its activity exactly, `(N,)`.
    """

    point: Point
    solver: list[str]
    iterations: Tensor
    exact: Tensor


class Opening(NamedTuple):
    """A method, why it is asked, and after how many iterations it hands over."""

    method: type[AbstractMethod]
    why: str
    iterations: int


def openings(problem: AbstractLayerProblem, polish: bool) -> list[Opening]:
    """The methods that are asked first, in this order; each gets what those before it left."""
    if problem.form != "quadratic" or problem.n > LARGEST_NEWTON:
        return []
    pivoting = Opening(BlockPivoting, "an active set in a few factorisations of the support's size", BlockPivoting.max_iter)
    if not bool(LeastSquares.serves(problem).any()):
        return [pivoting]
    return [Opening(LeastSquares, "lam = 0: exact where the layer explains the data", 1), pivoting]


def alike(rows: Rows) -> bool:
    """Whether all signals have the same on rows and weights and no off rows: one Gram matrix serves them all."""
    return not bool(rows._off.any()) and bool((rows.fit == rows.fit[:1]).all())


def open_batch(problem: AbstractLayerProblem, tol: float, polish: bool, steps: list[Step]) -> Opened:
    """Ask the openings for a normalised problem; what they did is added to `steps`."""
    asked = halves(problem) if problem.absolute else problem
    rows = asked.rows
    h = torch.zeros(asked.N, asked.n, dtype=rows.y.dtype, device=rows.y.device)
    none = torch.zeros(asked.N, dtype=torch.long)
    opened = Opened(Point(h, torch.zeros_like(rows.y)), [""] * asked.N, none, none.bool())
    left = torch.arange(asked.N)
    for opening in openings(asked, polish):
        if len(left) == 0:
            break
        started, before = time.perf_counter(), len(left)
        part = asked if before == asked.N else asked.take(left.to(rows.y.device))
        left = left[~_ask(opening, part, left, opened, tol)]
        seconds = time.perf_counter() - started
        steps.append(Step(opening.method.name, opening.why, before, before - len(left), seconds))
    return opened._replace(point=together(opened.point)) if problem.absolute else opened


def _ask(opening: Opening, problem: AbstractLayerProblem, where: Tensor, opened: Opened, tol: float) -> Tensor:
    """Run one opening on `problem`, whose signals are those at `where`; which it takes for solved, bool on the CPU."""
    method, iteration = opening.method(problem), 0
    left, solved = torch.arange(problem.N), torch.zeros(problem.N, dtype=torch.bool)
    while iteration < opening.iterations and len(left):
        stop = min(opening.iterations, method.first_check if iteration == 0 else method.next_check(iteration))
        method.advance(stop - iteration)
        iteration = stop
        done = method.done(tol)
        assert done is not None, "an opening judges itself"
        hopeless = method.given_up()
        gone = done if hopeless is None else done | hopeless
        if not bool(gone.any()):
            continue
        if bool(done.any()):
            point, ready = method.point(), left[done.cpu()]
            there = where[ready].to(problem.rows.y.device)
            opened.point.h[there], opened.point.p[there] = point.h[done], point.p[done]
            opened.iterations[where[ready]], opened.exact[where[ready]] = iteration, method.exact
            for i in where[ready].tolist():
                opened.solver[i] = method.name
            solved[ready] = True
        left = left[~gone.cpu()]
        if len(left):
            method.keep(~gone)
    return solved
