"""The polish of problems whose rows are partly priced by their lengths: the exact point of the right activity.

A round solves the equations of an activity (`layered_equations`) by one step of the method of multipliers with a penalty r,
and what does not fit changes sides, all at once: entries of x = (V h + b, h) with the wrong sign become 0, entries at 0
whose multiplier is beyond its limit become free. With r so large that the equations hold exactly that is a primal-dual
active set, which settles in a few rounds next to the optimum and wanders farther off: where the rows at 0 contradict each
other a little their multipliers are huge, and everything changes sides. So r begins small, where the rounds are Newton steps
on the function of the method of multipliers of both families of lengths, and grows each round; a signal whose activity has
stayed for a round gets the exact equations at once. What then fits is optimal.

Source: the method of multipliers with semismooth Newton steps as in Li, Sun, Toh, "A highly efficient semismooth Newton
augmented Lagrangian method for solving Lasso problems" (2018); here with two families of lengths and no line search.
"""

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from .layered_equations import EXACT, NUMBERS, Activity, Equations, moved, solved

_LARGEST = 1024  # unknowns: a factorisation of up to that size per signal
_QUICK = (40.0, 2.0, 2e4)  # r in normalised units, by how much it grows, and the largest but the exact one
_CAREFUL = (10.0, 1.4, 5e4)  # the same for whom that does not settle


def polish(problem: AbstractLayerProblem, point: Point, rounds: int = 2) -> Point:
    """The point that the activity of `point` stands for; of problems with too many unknowns, the point itself.

    rounds: exact ones of whom no smaller r has settled.
    """
    if problem.n > _LARGEST:
        return point
    h, p = point.h.clone(), point.p.clone()
    for block in torch.arange(problem.N, device=h.device).split(max(1, NUMBERS // problem.n**2)):
        part = problem if len(block) == problem.N else problem.take(block)
        equations = Equations.of(part)
        start = Point(torch.nan_to_num(h[block]), part.misfit.clipped(p[block]))
        where, found, y = settled(equations, equations.activity(start), rounds)
        if len(where):
            there = equations.point(part, found, y)
            h[block[where]], p[block[where]] = there.h[where], there.p[where]
    return Point(h, p)


def settled(problem: Equations, guess: Activity, rounds: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of the signals whose activity comes to fit, and of all signals h and y, which are 0 for the others.

    rounds: exact ones of whom no smaller r has settled.
    """
    found = _Rounds(problem)
    found.run(guess, *_QUICK, rounds)
    if not bool(found.fits.all()):
        found.run(guess, *_CAREFUL, rounds)
    return found.fits.nonzero()[:, 0], found.h, found.y


class _Rounds:
    """Rounds on a batch, and what has come to fit: fits, bool `(N,)`, with h and y of these signals."""

    def __init__(self, problem: Equations):
        self.problem = problem
        self.h, self.y = torch.zeros_like(problem.drawn), torch.zeros_like(problem.limits)
        self.fits = torch.zeros(problem.N, dtype=torch.bool, device=self.h.device)

    def run(self, guess: Activity, r: float, grows: float, last: float, rounds: int) -> None:
        """Rounds from `guess` of whoever does not fit yet, with r growing up to `last`, then `rounds` exact ones."""
        left = (~self.fits).nonzero()[:, 0]
        part, guess = (self.problem, guess) if len(left) == len(self.h) else (self.problem.take(left), guess.take(left))
        while len(left) and rounds:
            if r <= last:
                _, x, y = solved(part, guess, r)
                guess, changed = moved(part, guess, x, y)
                gone, stays = ~torch.isfinite(y).all(1), (~changed).nonzero()[:, 0]
                if len(stays):
                    gone[stays] |= self._exact(left[stays], part.take(stays), guess.take(stays))[0]
                r *= grows
            else:
                gone, guess = self._exact(left, part, guess)
                rounds -= 1
            if bool(gone.any()):
                going = (~gone).nonzero()[:, 0]
                left, part, guess = left[going], part.take(going), guess.take(going)

    def _exact(self, some: Tensor, part: Equations, guess: Activity) -> tuple[Tensor, Activity]:
        """Whether the points of the activities of the signals `some` fit, where they are kept; and the activities after."""
        h, x, y = solved(part, guess, EXACT)
        guess, changed = moved(part, guess, x, y)
        fit = ~changed & torch.isfinite(y).all(1)
        done = some[fit]
        self.h[done], self.y[done], self.fits[done] = h[fit], guess.y[fit], True
        return fit, guess
