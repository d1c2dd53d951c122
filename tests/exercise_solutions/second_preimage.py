import numpy as np


def answer(W1, b1, W2, b2, z):
    v = W1 @ z + b1
    on = v > 0
    step = np.linalg.svd(W1[on])[2][-1]
    # as far as no unit that is off turns on
    slope = W1[~on] @ step
    rising = slope > 0
    most = (-v[~on][rising] / slope[rising]).min() if rising.any() else 1.0
    return z + 0.9 * most * step
