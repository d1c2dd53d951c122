"""CVXPY end to end: build the statement, compile it, solve it; what a user writes who writes it down once."""

import warnings
from typing import ClassVar

import numpy as np

from .base import AbstractPeer, Answer


class AbstractCvxpy(AbstractPeer):
    """The problem's own statement, in its cheapest form, anew for every signal."""

    whole = True
    tolerances: ClassVar[tuple[str, ...]]
    extra: ClassVar[dict[str, object]]
    backend: ClassVar[str]

    def __init__(self, problem, tol):
        self.problem, self.options = problem, dict.fromkeys(self.tolerances, tol) | self.extra

    def solve(self, i):
        import cvxpy as cp

        sample = self.problem.rows.sample(i)
        # the normal equations: the form in which CVXPY is fastest
        gram = self.problem.form == "quadratic" and len(sample.y_on) > sample.n
        statement = self.problem.statement(sample, i, gram)
        none = Answer(np.full(self.problem.n, np.nan))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of inaccurate solutions; the judge says it
            try:
                statement.problem.solve(solver=self.backend, **self.options)
            except cp.SolverError:
                return none
        if statement.h.value is None:
            return none
        stats = statement.problem.solver_stats
        return Answer(statement.h.value, self._multipliers(statement, i), stats.num_iters)

    def _multipliers(self, statement, i):
        """Of the rows that `Answer` asks for: the bounded ones, or all of an l2 bound."""
        rows = self.problem.rows
        bounded = rows.off[i] if self.problem.form == "quadratic" else rows.on[i] | rows.off[i]
        p = np.zeros(rows.m)
        if statement.ball is not None:
            # the Lagrangian holds -(t, u)'(eps, misfit) for the cone's dual (t, u)
            p[rows.on[i].numpy()] -= np.asarray(statement.ball.dual_value[1], float).ravel()
            return p
        for bound in statement.bounds:
            if bound.constraint.dual_value is not None:
                p[bound.rows] += bound.sign * np.asarray(bound.constraint.dual_value)
        return p[bounded.numpy()]


class CvxpyClarabel(AbstractCvxpy):
    """CVXPY with Clarabel."""

    name, package, licence, kinds = "CVXPY with CLARABEL", "clarabel", "Apache-2.0", ("quadratic", "ball", "interval")
    backend = "CLARABEL"
    tolerances, extra = ("tol_gap_abs", "tol_gap_rel", "tol_feas"), {"max_iter": 200, "time_limit": 60.0}


class CvxpyHighs(AbstractCvxpy):
    """CVXPY with HiGHS."""

    name, package, licence, kinds = "CVXPY with HIGHS", "highspy", "MIT", ("interval",)
    ladder = (1e-7, 1e-9, 1e-10)
    backend = "HIGHS"
    tolerances, extra = ("primal_feasibility_tolerance", "dual_feasibility_tolerance"), {"time_limit": 60.0}
