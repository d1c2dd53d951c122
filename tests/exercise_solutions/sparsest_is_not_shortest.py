from itertools import combinations

import numpy as np
from scipy.optimize import linprog


def answer(W, spark):
    n = W.shape[1]
    for columns in combinations(range(n), (spark - 1) // 2):
        for sign in (-1.0, 1.0):
            h = np.zeros(n)
            h[list(columns)] = 1.0
            h[columns[0]] = sign
            best = linprog(np.ones(2 * n), A_eq=np.hstack([W, -W]), b_eq=W @ h, bounds=(0, None), method="highs")
            if best.fun < np.abs(h).sum() - 1e-3:
                return h
