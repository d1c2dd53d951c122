import cvxpy as cp
import numpy as np


def answer(W, b, y, on, off, weight):
    h, delta = cp.Variable(W.shape[1]), cp.Variable(nonneg=True)
    r = cp.multiply(np.sqrt(weight[on]), W[on] @ h + b[on] - y[on])
    problem = cp.Problem(cp.Minimize(delta), [h >= 0, cp.abs(r) <= delta, W[off] @ h + b[off] <= delta])
    problem.solve(solver=cp.CLARABEL)
    return h.value
