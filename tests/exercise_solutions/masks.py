import numpy as np


def answer(y):
    seen = ~np.isnan(y)
    return seen & (y > 0), seen & (y == 0)
