import cvxpy as cp


def answer(W, b, y, on, off, eps):
    h = cp.Variable(W.shape[1])
    r = W[on] @ h + b[on] - y[on]
    problem = cp.Problem(cp.Minimize(cp.sum(h)), [h >= 0, cp.norm(r, 2) <= eps, W[off] @ h + b[off] <= 0])
    problem.solve(solver=cp.CLARABEL)
    return h.value
