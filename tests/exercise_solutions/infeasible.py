import numpy as np
from scipy.optimize import linprog


def answer(W, b, lo, hi):
    # p = u - v with 0 <= u, v <= 1: p'b - hi'u + lo'v is to be large, W'p >= 0
    cost = np.concatenate([hi - b, b - lo])
    A = np.concatenate([-W.T, W.T], axis=1)
    found = linprog(cost, A_ub=A, b_ub=np.zeros(W.shape[1]), bounds=(0, 1), method="highs")
    return found.x[: len(b)] - found.x[len(b) :]
