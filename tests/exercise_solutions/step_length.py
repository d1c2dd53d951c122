import numpy as np


def answer(W, on, weight):
    return np.linalg.norm(np.sqrt(weight[on])[:, None] * W[on], 2) ** 2
