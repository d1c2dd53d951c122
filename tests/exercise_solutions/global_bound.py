from itertools import pairwise

import numpy as np


def answer(W1, b1, W2, b2, y, R):
    a = W1[:, 0]
    cuts = -b1[a != 0] / a[a != 0]
    ends = np.unique(np.concatenate([[-R, R], cuts[np.abs(cuts) < R]]))
    least = np.inf
    for left, right in pairwise(ends):
        on = a * (left + right) / 2 + b1 > 0
        slope, shift = W2 @ (on * a), W2 @ (on * b1) + b2 - y
        z = np.clip(-(slope @ shift) / max(slope @ slope, 1e-300), left, right)
        least = min(least, np.linalg.norm(slope * z + shift))
    return least
