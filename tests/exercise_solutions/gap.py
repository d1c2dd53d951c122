def answer(W, b, y, on, off, lam, h, p):
    r = (W @ h + b - y)[on]
    objective = r @ r / 2 + lam * h.sum()
    bound = p[on] @ (b - y)[on] + p[off] @ b[off] - p[on] @ p[on] / 2
    return objective, bound, objective - bound
