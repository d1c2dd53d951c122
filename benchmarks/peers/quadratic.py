"""Solvers of quadratic programs. Where all signals share P and A, the factor is kept and only the vectors are renewed."""

import numpy as np

from .base import INFINITE, SECONDS, AbstractPeer, Answer, Programs


def finite(v: np.ndarray, infinite: float = INFINITE) -> np.ndarray:
    return np.clip(v, -infinite, infinite)


class DAQP(AbstractPeer):
    """Dual active set."""

    name, package, licence, kinds = "DAQP", "daqp", "MIT", ("quadratic",)
    ladder = (1e-6, 1e-9, 1e-12)

    def __init__(self, problem, tol):
        import daqp

        self.programs = Programs(problem)
        self.settings = {"primal_tol": tol, "dual_tol": 1e-12, "iter_limit": 100_000, "time_limit": SECONDS}
        self.model = None
        if self.programs.shared:
            self.model = daqp.Model()
            self.model.setup(*self._arguments(0))
            self.model.settings = self.model.settings | self.settings

    def _arguments(self, i):
        p = self.programs[i]
        simple = len(p.q) if self.programs.nonnegative else 0
        upper = np.concatenate([np.full(simple, 1e30), p.hi])
        lower = np.concatenate([np.zeros(simple), np.full(len(p.hi), -1e30)])
        return p.P, p.q, np.ascontiguousarray(p.A), upper, lower, np.zeros(len(upper), dtype=np.int32)

    def solve(self, i):
        import daqp

        if self.model is None:
            h, _, _, said = daqp.solve(*self._arguments(i), **self.settings)
        else:
            self.model.update(f=np.ascontiguousarray(self.programs.q[i]))
            h, _, _, said = self.model.solve()
        simple = len(h) if self.programs.nonnegative else 0
        return Answer(np.array(h), np.array(said["lam"][simple:]), said["iterations"])


class PIQP(AbstractPeer):
    """Proximal interior point, dense."""

    name, package, licence, kinds = "PIQP", "piqp", "BSD-2-Clause", ("quadratic", "interval")

    def __init__(self, problem, tol):
        self.programs, self.tol, self.solver = Programs(problem), tol, None

    def _fresh(self, i):
        import piqp

        p, solver = self.programs[i], piqp.DenseSolver()
        s = solver.settings
        s.eps_abs = s.eps_duality_gap_abs = self.tol
        s.eps_rel = s.eps_duality_gap_rel = 0.0
        s.max_iter = 200
        least = np.zeros(len(p.q)) if self.programs.nonnegative else None
        rows = (np.asfortranarray(p.A), p.lo, p.hi) if len(p.rows) else (None, None, None)
        solver.setup(np.asfortranarray(p.P), p.q, None, None, *rows, least, None)
        return solver

    def solve(self, i):
        p = self.programs[i]
        if self.solver is None or not self.programs.shared:
            self.solver = self._fresh(i)
        elif len(p.rows):
            self.solver.update(c=p.q, h_l=p.lo, h_u=p.hi)
        else:
            self.solver.update(c=p.q)
        self.solver.solve()
        found = self.solver.result
        return Answer(np.array(found.x), np.array(found.z_u) - np.array(found.z_l), found.info.iter)


class ProxQP(AbstractPeer):
    """Augmented Lagrangian with active sets, dense."""

    name, package, licence, kinds = "ProxQP", "proxsuite", "BSD-2-Clause", ("quadratic",)

    def __init__(self, problem, tol):
        self.programs, self.tol, self.solver = Programs(problem), tol, None

    def _fresh(self, i):
        from proxsuite import proxqp

        p, box = self.programs[i], self.programs.nonnegative
        solver = proxqp.dense.QP(len(p.q), 0, len(p.rows), box)
        solver.settings.eps_abs, solver.settings.eps_rel, solver.settings.max_iter = self.tol, 0.0, 10_000
        ends = (np.zeros(len(p.q)), np.full(len(p.q), INFINITE)) if box else ()
        rows = (p.A, finite(p.lo), finite(p.hi)) if len(p.rows) else (None, None, None)
        solver.init(p.P, p.q, None, None, *rows, *ends)
        return solver

    def solve(self, i):
        if self.solver is None or not self.programs.shared:
            self.solver = self._fresh(i)
        else:
            self.solver.update(g=self.programs[i].q)
        self.solver.solve()
        found = self.solver.results
        return Answer(np.array(found.x), np.array(found.z[: len(self.programs[i].rows)]), found.info.iter)


class OSQP(AbstractPeer):
    """Operator splitting, polished; where P and A are shared the factor is kept and the last signal is the start.

    Not so for linear programs: there a start from another signal can send it to infinity.
    """

    name, package, licence, kinds = "OSQP", "osqp", "Apache-2.0", ("quadratic", "interval")

    def __init__(self, problem, tol):
        self.programs, self.tol, self.solver = Programs(problem), tol, None
        self.shared = self.programs.shared and self.programs.squares

    def _bounds(self, p):
        more = len(p.q) if self.programs.nonnegative else 0
        return np.concatenate([finite(p.lo), np.zeros(more)]), np.concatenate([finite(p.hi), np.full(more, INFINITE)])

    def _fresh(self, i):
        import osqp
        from scipy import sparse

        p, solver = self.programs[i], osqp.OSQP()
        A = sparse.csc_matrix(p.A)
        if self.programs.nonnegative:
            A = sparse.vstack([A, sparse.identity(len(p.q))], format="csc")
        solver.setup(
            sparse.csc_matrix(np.triu(p.P)), p.q, A, *self._bounds(p), eps_abs=self.tol, eps_rel=self.tol, verbose=False,
            max_iter=50_000, polishing=True, adaptive_rho_interval=50, time_limit=SECONDS, check_termination=10,
        )  # fmt: skip
        return solver

    def solve(self, i):
        p = self.programs[i]
        if self.solver is None or not self.shared:
            self.solver = self._fresh(i)
        else:
            lower, upper = self._bounds(p)
            self.solver.update(q=p.q, l=lower, u=upper)
        found = self.solver.solve(raise_error=False)
        return Answer(np.array(found.x, float), np.array(found.y[: len(p.rows)], float), found.info.iter)
