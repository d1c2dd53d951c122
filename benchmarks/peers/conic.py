"""Cone solvers, given their own data structures directly: l2 bounds, linear and quadratic programs."""

from typing import NamedTuple

import numpy as np

from .base import SECONDS, AbstractPeer, Answer, Balls, Programs


class Cone(NamedTuple):
    """min 1/2 h'Ph + q'h subject to s = b - A h, the first `orthant` entries of s >= 0, the rest in one Lorentz cone.

    upper, lower: which rows of the layer the first entries bound from above and from below.
    """

    P: np.ndarray | None
    q: np.ndarray
    A: np.ndarray
    b: np.ndarray
    orthant: int
    upper: np.ndarray
    lower: np.ndarray


class Cones:
    """The cone programs of a batch."""

    def __init__(self, problem):
        self.ball = problem.form == "ball"
        self.forms = Balls(problem) if self.ball else Programs(problem)
        self.nonnegative, self.n = problem.nonnegative, problem.n

    def __getitem__(self, i: int) -> Cone:
        least = -np.eye(self.n) if self.nonnegative else np.zeros((0, self.n))
        none, p = np.zeros(0, dtype=int), self.forms[i]
        if self.ball:
            A = np.vstack([least, np.zeros((1, self.n)), -p.R])
            b = np.concatenate([np.zeros(len(least)), [p.eps], -p.d])
            return Cone(None, np.ones(self.n), A, b, len(least), none, none)
        upper, lower = np.isfinite(p.hi).nonzero()[0], np.isfinite(p.lo).nonzero()[0]
        A = np.vstack([p.A[upper], -p.A[lower], least])
        b = np.concatenate([p.hi[upper], -p.lo[lower], np.zeros(len(least))])
        return Cone(p.P if p.P.any() else None, p.q, A, b, len(A), upper, lower)

    def multipliers(self, i: int, cone: Cone, z: np.ndarray) -> np.ndarray:
        if self.ball:
            return self.forms.dual(i, z[cone.orthant + 1 :])
        found = np.zeros(len(self.forms[i].rows))
        found[cone.upper] += z[: len(cone.upper)]
        found[cone.lower] -= z[len(cone.upper) : len(cone.upper) + len(cone.lower)]
        return found


class SCS(AbstractPeer):
    """Operator splitting on the homogeneous embedding; factor cached and started from the last signal where A is shared."""

    name, package, licence, kinds = "SCS", "scs", "MIT", ("quadratic", "ball", "interval")

    def __init__(self, problem, tol):
        self.cones, self.tol, self.solver = Cones(problem), tol, None
        self.shared = self.cones.ball or self.cones.forms.shared

    def _fresh(self, cone):
        import scs
        from scipy import sparse

        data = {"A": sparse.csc_matrix(cone.A), "b": cone.b, "c": cone.q}
        if cone.P is not None:
            data["P"] = sparse.csc_matrix(np.triu(cone.P))
        shape = {"l": cone.orthant} | ({"q": [len(cone.b) - cone.orthant]} if self.cones.ball else {})
        return scs.SCS(
            data, shape, eps_abs=self.tol, eps_rel=self.tol, max_iters=100_000, time_limit_secs=SECONDS, verbose=False
        )

    def solve(self, i):
        cone = self.cones[i]
        if self.solver is None or not self.shared:
            self.solver = self._fresh(cone)
        else:
            self.solver.update(cone.b, cone.q)
        found = self.solver.solve()
        return Answer(found["x"], self.cones.multipliers(i, cone, found["y"]), found["info"]["iter"])


class Ecos(AbstractPeer):
    """Interior point for cones without a quadratic objective."""

    name, package, licence, kinds = "ECOS", "ecos", "GPL-3.0", ("ball", "interval")

    def __init__(self, problem, tol):
        self.cones, self.tol = Cones(problem), max(tol, 1e-11)

    def solve(self, i):
        import ecos
        from scipy import sparse

        cone = self.cones[i]
        shape = {"l": cone.orthant, "q": [len(cone.b) - cone.orthant] if self.cones.ball else []}
        found = ecos.solve(
            cone.q, sparse.csc_matrix(cone.A), cone.b, shape,
            verbose=False, max_iters=200, abstol=self.tol, reltol=self.tol, feastol=self.tol,
        )  # fmt: skip
        return Answer(found["x"], self.cones.multipliers(i, cone, found["z"]), found["info"]["iter"])


class Clarabel(AbstractPeer):
    """Interior point for cones with a quadratic objective."""

    name, package, licence, kinds = "Clarabel", "clarabel", "Apache-2.0", ("quadratic", "ball", "interval")

    def __init__(self, problem, tol):
        self.cones, self.tol = Cones(problem), tol

    def _settings(self):
        import clarabel

        s = clarabel.DefaultSettings()
        s.verbose, s.time_limit, s.max_iter, s.max_threads = False, SECONDS, 200, 1
        s.tol_gap_abs = s.tol_gap_rel = s.tol_feas = self.tol
        return s

    def solve(self, i):
        import clarabel
        from scipy import sparse

        cone = self.cones[i]
        parts = [clarabel.NonnegativeConeT(cone.orthant)] if cone.orthant else []
        if self.cones.ball:
            parts.append(clarabel.SecondOrderConeT(len(cone.b) - cone.orthant))
        P = sparse.csc_matrix(np.triu(cone.P)) if cone.P is not None else sparse.csc_matrix((self.cones.n, self.cones.n))
        solver = clarabel.DefaultSolver(P, cone.q, sparse.csc_matrix(cone.A), cone.b, parts, self._settings())
        found = solver.solve()
        return Answer(np.array(found.x), self.cones.multipliers(i, cone, np.array(found.z)), found.iterations)
