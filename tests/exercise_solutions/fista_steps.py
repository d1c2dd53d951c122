import numpy as np


def answer(W, b, y, on, weight, lam, h, t, steps):
    z, k = h, 1.0
    for _ in range(steps):
        slope = W[on].T @ (weight[on] * (W[on] @ z + b[on] - y[on])) + lam
        new = np.maximum(z - t * slope, 0)
        after = (1 + np.sqrt(1 + 4 * k**2)) / 2
        z = new + (k - 1) / after * (new - h)
        h, k = new, after
    return h
