import numpy as np


def answer(W, b, y, lam):
    h = np.zeros(W.shape[1])
    step = 1 / (2 * np.linalg.norm(W, 2) ** 2)
    for _ in range(60_000):
        u = np.tanh(W @ h + b)
        slope = W.T @ ((1 - u**2) * (u - y)) + lam
        new = np.maximum(h - step * slope, 0)
        if np.abs(new - h).max() <= 1e-13 * np.abs(new).max():
            break
        h = new
    return h
