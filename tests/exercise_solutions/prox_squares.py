import numpy as np


def answer(v, y, on, off, weight, rho):
    fitted = (weight * y + rho * v) / (weight + rho)
    return np.where(on, fitted, np.where(off, np.minimum(v, 0), v))
