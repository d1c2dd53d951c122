"""PDLP in a process of its own: reads pickled linear programs from stdin, writes answers and the seconds they took."""

import pickle
import sys
import time

import numpy as np
from ortools.pdlp import solvers_pb2
from ortools.pdlp.python import pdlp
from scipy import sparse


def solve(tol: float, seconds: float, nonnegative: bool, program: tuple):
    _, q, A, lo, hi, _ = program
    started = time.process_time(), time.perf_counter()
    lp = pdlp.QuadraticProgram()
    lp.objective_vector, lp.constraint_matrix = q, sparse.csc_matrix(A)
    lp.constraint_lower_bounds, lp.constraint_upper_bounds = lo, hi
    lp.variable_lower_bounds = np.zeros(len(q)) if nonnegative else np.full(len(q), -np.inf)
    lp.variable_upper_bounds = np.full(len(q), np.inf)
    options = solvers_pb2.PrimalDualHybridGradientParams()
    goal = options.termination_criteria
    goal.simple_optimality_criteria.eps_optimal_relative = tol
    goal.simple_optimality_criteria.eps_optimal_absolute = tol
    goal.time_sec_limit = seconds
    options.num_threads = 1
    found = pdlp.primal_dual_hybrid_gradient(lp, options)
    spent = time.process_time() - started[0], time.perf_counter() - started[1]
    return np.array(found.primal_solution), np.array(found.dual_solution), found.solve_log.iteration_count, *spent


def main() -> None:
    answers = sys.stdout.buffer
    while True:
        try:
            asked = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(solve(*asked), answers)
        answers.flush()


if __name__ == "__main__":
    main()
