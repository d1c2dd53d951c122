import numpy as np


def answer(W, b, y, on, off, lam, H, P):
    verdicts = []
    for h, p in zip(H, P, strict=True):
        v = W @ h + b
        objective = ((v - y)[on] ** 2).sum() / 2 + lam * h.sum()
        allowed = h.min() >= -1e-6 * np.abs(h).max() and (v[off] <= 1e-6 * np.abs(v).max()).all()
        p = np.where(on, p, np.where(off, np.maximum(p, 0), 0.0))
        p = p * min(1.0, lam / np.max(-W.T @ p))
        bound = p[on] @ (b - y)[on] + p[off] @ b[off] - p[on] @ p[on] / 2
        verdicts.append(allowed and objective - bound <= 1e-6 * objective)
    return np.array(verdicts)
