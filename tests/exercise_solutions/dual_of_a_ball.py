import numpy as np


def answer(b, y, on, off, weight, eps, p):
    length = np.sqrt((p[on] ** 2 / weight[on]).sum())
    return p[on] @ (b - y)[on] + p[off] @ b[off] - eps * length
