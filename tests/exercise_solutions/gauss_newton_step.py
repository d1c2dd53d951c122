import numpy as np


def answer(W1, b1, W2, b2, y, z, mu):
    v = W1 @ z + b1
    on = v > 0
    J = W2[:, on] @ W1[on]
    r = y - W2 @ np.maximum(v, 0) - b2
    return z + np.linalg.solve(J.T @ J + mu * np.eye(len(z)), J.T @ r)
