import numpy as np


def answer(y, eps):
    with np.errstate(divide="ignore"):
        lo = np.arctanh(np.maximum(y - eps, -1.0))
        hi = np.arctanh(np.minimum(y + eps, 1.0))
    return lo, hi
