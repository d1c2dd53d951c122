import numpy as np


def answer(h, lam, gamma, rho):
    return np.maximum(rho * h - lam, 0) / (rho + gamma)
