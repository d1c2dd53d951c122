import cvxpy as cp
import numpy as np


def answer(W, b, y, on, off, weight, eps):
    h = cp.Variable(W.shape[1])
    r = cp.multiply(np.sqrt(weight[on]), W[on] @ h + b[on] - y[on])
    problem = cp.Problem(cp.Minimize(cp.norm(h, 1)), [cp.norm(r, 2) <= eps, W[off] @ h + b[off] <= 0])
    problem.solve(solver=cp.CLARABEL)
    return h.value
