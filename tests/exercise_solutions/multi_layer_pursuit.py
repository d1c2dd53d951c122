import cvxpy as cp


def answer(D1, D2, y, lam1, lam2):
    h = cp.Variable(D2.shape[1])
    g = D2 @ h
    objective = cp.sum_squares(D1 @ g - y) / 2 + lam1 * cp.norm(g, 1) + lam2 * cp.norm(h, 1)
    cp.Problem(cp.Minimize(objective)).solve(solver=cp.CLARABEL)
    return h.value
