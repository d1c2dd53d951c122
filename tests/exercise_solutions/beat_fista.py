import numpy as np


def answer(W, Y, lam):
    """An active set for each signal; the equations are solved by a QR of the columns in it."""
    return np.stack([nonnegative(W, y, lam) for y in Y])


def nonnegative(W, y, lam):
    n = W.shape[1]
    h, inside = np.zeros(n), np.zeros(n, dtype=bool)
    for _ in range(20 * n):
        slope = W.T @ (W @ h - y) + lam
        slope[inside] = 0
        k = int(slope.argmin())
        if slope[k] >= -1e-13:
            return h
        inside[k] = True
        while True:
            R = np.linalg.qr(W[:, inside], mode="r")
            right = W[:, inside].T @ y - lam
            best = np.linalg.solve(R, np.linalg.solve(R.T, right))
            if (best > 0).all():
                h = np.zeros(n)
                h[inside] = best
                break
            at = h[inside]
            falls = best <= 0
            t = (at[falls] / (at[falls] - best[falls])).min()
            moved = at + t * (best - at)
            h[inside] = np.where(moved > 1e-15, moved, 0)
            inside &= h > 0
    return h
