import cvxpy as cp


def answer(W, b, y, on, off, lam):
    h = cp.Variable(W.shape[1])
    misfit = cp.sum_squares(W[on] @ h + b[on] - y[on]) / 2
    problem = cp.Problem(cp.Minimize(misfit + lam * cp.sum(h)), [h >= 0, W[off] @ h + b[off] <= 0])
    problem.solve(solver=cp.CLARABEL)
    return h.value
