import numpy as np


def answer(W, b, y, on, off, lam, h, p, sigma, tau):
    new = np.maximum(h - tau * (W.T @ p + lam), 0)
    v = p + sigma * (W @ (2 * new - h) + b)
    p = np.where(on, (v - sigma * y) / (1 + sigma), np.where(off, np.maximum(v, 0), 0.0))
    return new, p
