import cvxpy as cp


def answer(W, b, y, on, off, gamma):
    z = cp.Variable(W.shape[1])
    misfit = cp.sum_squares(W[on] @ z + b[on] - y[on]) / 2
    problem = cp.Problem(cp.Minimize(misfit + gamma * cp.sum_squares(z) / 2), [W[off] @ z + b[off] <= 0])
    problem.solve(solver=cp.CLARABEL)
    return z.value
