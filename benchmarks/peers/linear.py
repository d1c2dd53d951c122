"""Solvers of linear programs: HiGHS in this process, OR-tools' PDLP in its own (the two do not load together)."""

import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np

from .base import SECONDS, AbstractPeer, Answer, Programs


class HiGHS(AbstractPeer):
    """Simplex, from scratch for every signal."""

    name, package, licence, kinds = "HiGHS", "highspy", "MIT", ("interval",)
    ladder = (1e-7, 1e-9, 1e-10)

    def __init__(self, problem, tol):
        import highspy

        self.programs, self.solver = Programs(problem), highspy.Highs()
        options = {
            "output_flag": False, "threads": 1, "time_limit": SECONDS,
            "primal_feasibility_tolerance": tol, "dual_feasibility_tolerance": tol,
        }  # fmt: skip
        for option, value in options.items():
            self.solver.setOptionValue(option, value)

    def solve(self, i):
        import highspy

        p, model = self.programs[i], highspy.HighsLp()
        k, n = p.A.shape
        model.num_col_, model.num_row_ = n, k
        model.col_cost_ = p.q
        model.col_lower_ = np.zeros(n) if self.programs.nonnegative else np.full(n, -highspy.kHighsInf)
        model.col_upper_ = np.full(n, highspy.kHighsInf)
        model.row_lower_, model.row_upper_ = p.lo, p.hi
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.arange(0, n * k + 1, k)
        model.a_matrix_.index_ = np.tile(np.arange(k), n)
        model.a_matrix_.value_ = p.A.T.ravel()
        self.solver.clearSolver()
        self.solver.passModel(model)
        self.solver.run()
        found = self.solver.getSolution()
        # HiGHS: q = A'dual + reduced cost; here q + A'multipliers >= 0
        return Answer(np.array(found.col_value), -np.array(found.row_dual), self.solver.getInfo().simplex_iteration_count)


class PDLP(AbstractPeer):
    """First-order method of OR-tools, one thread, in a process that lives for one set-up; its seconds come from there."""

    name, package, licence, kinds = "OR-tools PDLP", "ortools", "Apache-2.0", ("interval",)
    ladder = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)

    def __init__(self, problem, tol):
        self.programs, self.tol, self.spent = Programs(problem), tol, [0.0, 0.0]
        command = [sys.executable, str(Path(__file__).with_name("pdlp_process.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        weakref.finalize(self, _end, self.process)

    def solve(self, i):
        p = self.programs[i]
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump((self.tol, SECONDS, self.programs.nonnegative, tuple(p)), self.process.stdin)
        self.process.stdin.flush()
        h, dual, iterations, process, wall = pickle.load(self.process.stdout)
        self.spent = [self.spent[0] + process, self.spent[1] + wall]
        return Answer(h, -dual, iterations)

    def own_seconds(self):
        spent, self.spent = self.spent, [0.0, 0.0]
        return spent[0], spent[1]


def _end(process: subprocess.Popen) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait(timeout=10)
