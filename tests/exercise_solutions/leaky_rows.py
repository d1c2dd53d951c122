import numpy as np


def answer(y, a):
    below = y < 0
    return np.where(below, y / a, y), np.where(below, a**2, 1.0)
