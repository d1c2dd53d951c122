"""Faults planted in the reference solutions: what is changed, the line that has to be named, and what the fault is called.

`old` and `new`: the text of the solution before and after. `lines`: beginnings of the lines that this fault may break; which
of them depends on the instance. `meaning`: a part of the words that the catalogue has for it, "" where it has none.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    old: str
    new: str
    lines: tuple[str, ...]
    meaning: str


LASSO = ("W'p + lam >= 0", "h_j (W'p + lam)_j = 0")
BOTH = ("|W'p| <= lam", "(W'p)_j = -lam sign(h_j)")
OFF, SIGN = ("(W h + b)_off <= 0",), ("h >= 0",)
LATENT = ("W'p + gamma h = 0", "p_off (W h + b)_off = 0", *OFF)
PURSUIT = ("h_j (W'p + 1)_j = 0", "p_on is a multiple", "p_off (W h + b)_off = 0")
ANY = ("(W'p)_j = -1 sign(h_j)", "p_on is a multiple", "p_off (W h + b)_off = 0")
BALL = ("|w^(1/2) (W h + b - y)_on| <= eps",)
ENDS = ("p_i > 0 only where W h + b is at its upper end",)
TUBE = ("w^(1/2) |W h + b - y|_on <= eps",)
LARGEST = ("p_i != 0 only on rows of the largest misfit", "sum_on |p_i| / w_i^(1/2) + sum_off p_i = 1")
SUM = ("p_i = w_i^(1/2) sign(W h + b - y)_i",)
FREE = ("h_j (W'p)_j = 0", "W'p = 0")
ROOM = ("p_i > -w_i^(1/2) only where W h + b is at its end",)
ABOVE = ("(W h + b)_on <= y",)
DEEP = ("(W'p)_j = -lam sign(h_j)", "|W'p| <= lam", "p_i = lam_i sign(g_i)", "p_on = w (W h + b - y)")
WEIGHTED = ("(W'p)_j = -lam D sign(h_j)", "|W'p| <= lam D")
BIAS = " + b[on] - y[on]"


def faults(*rows):
    return tuple(Fault(*row) for row in rows)


FAULTS = {
    "nonnegative_lasso": faults(
        (") / 2\n", ")\n", LASSO, "half of lam"),
        ("lam * cp", "-lam * cp", LASSO, "lam 1'h is subtracted"),
        (", W[off] @ h + b[off] <= 0]", "]", OFF, "off rows are left free"),
        ("[h >= 0, ", "[", SIGN, "h >= 0 is missing"),
        (" + b[on]", "", LASSO, "bias of the on rows is missing"),
        ("(W[on] @ h + b[on] - y[on])", "(W @ h + b - y)", LASSO, ""),
    ),
    "lasso": faults(
        ("square(r))) / 2", "square(r)))", BOTH, "half of lam"),
        ("weight[on]", "1 + 0 * weight[on]", BOTH, "weights of the rows are missing"),
        ("weight[on]", "weight[on] ** 2", BOTH, "weights are squared"),
        ("cp.norm(h, 1)", "cp.sum_squares(h) / 2", BOTH, "|h|^2 / 2 in place of |h|_1"),
        (" + b[on]", " - b[on]", BOTH, "the bias is subtracted"),
    ),
    "gaussian_latent": faults(
        ("sum_squares(z) / 2)", "sum_squares(z))", LATENT, "twice gamma"),
        ("y[on]) / 2", "y[on])", LATENT, "half of gamma"),
        (", [W[off] @ z + b[off] <= 0]", "", OFF, "off rows are left free"),
        (" + b[off]", "", LATENT, "bias of the off rows is missing"),
    ),
    "basis_pursuit_l2": faults(
        ("cp.norm(r, 2) <=", "cp.sum_squares(r) <=", (*BALL, *ANY), "squared length of the misfit"),
        ("np.sqrt(weight[on])", "weight[on]", (*BALL, *ANY), "weights are squared"),
        ("<= eps", "<= 2 * eps", BALL, "twice eps"),
        (", W[off] @ h + b[off] <= 0]", "]", OFF, "off rows are left free"),
    ),
    "nonnegative_basis_pursuit_l2": faults(
        ("cp.sum(h)), [h >= 0, ", "cp.norm(h, 1)), [", SIGN, "h >= 0 is missing"),
        ("cp.norm(r, 2)", 'cp.norm(r, "inf")', BALL, "largest misfit is bounded"),
        ("<= eps", "<= eps / 2", PURSUIT, "half of eps"),
        (BIAS, " - y[on]", (*PURSUIT, *BALL), "bias of the on rows is missing"),
    ),
    "basis_pursuit_linf": faults(
        ("+ b[off] <= eps", "+ b[off] <= 0", (*ENDS, "(W'p)_j = -1 sign(h_j)"), "held at 0, not at eps"),
        ("cp.abs(r) <=", "r <=", TUBE, ""),
        ("<= eps, W", "<= eps / 2, W", (*ENDS, "(W'p)_j = -1 sign(h_j)"), ""),
        ("cp.abs(r) <=", "cp.norm(r, 2) <=", (*ENDS, "(W'p)_j = -1 sign(h_j)"),
         "the length of the misfit is bounded by eps"),
    ),
    "nonnegative_basis_pursuit_linf": faults(
        ("eps / np.sqrt", "eps * np.sqrt", (*TUBE, *ENDS), ""),
        ("eps / np.sqrt(weight[on])", "eps + 0 * weight[on]", (*TUBE, *ENDS), "weights of the rows are missing"),
        ("cp.sum(h)), [h >= 0, ", "cp.norm(h, 1)), [", SIGN, "h >= 0 is missing"),
        (", W[off] @ h + b[off] <= eps]", "]", ("(W h + b)_off <= eps",), "off rows are left free"),
    ),
    "interval_basis_pursuit": faults(
        ("W[low] @ h + b[low] >= lo[low], ", "", ("lo <= (W h + b)_on <= hi",), "lower end is missing"),
        (", W[high] @ h + b[high] <= hi[high]", "", ("lo <= (W h + b)_on <= hi", "(W h + b)_off <= hi"),
         "upper end is missing"),
        ("(on | off) & np", "on & np", ("(W h + b)_off <= hi",), "off rows are left free"),
        ("cp.sum(h)), [h >= 0, ", "cp.norm(h, 1)), [", SIGN, ""),
    ),
    "linf_fit": faults(
        (", W[off] @ h + b[off] <= delta", "", LARGEST, "off rows are left free"),
        ("cp.abs(r)", "r", (*LARGEST, "h is finite"), ""),
        ("cp.Minimize(delta), [cp.abs(r) <= delta, W[off] @ h + b[off] <= delta]",
         "cp.Minimize(cp.norm(r, 1) + cp.sum(cp.pos(W[off] @ h + b[off])))", LARGEST, "the sum of the misfits"),
        (" + b[on]", "", LARGEST, "bias of the on rows is missing"),
    ),
    "nonnegative_linf_fit": faults(
        ("np.sqrt(weight[on])", "weight[on]", (*LARGEST, *FREE), "weights are squared"),
        ("h >= 0, ", "", SIGN, "h >= 0 is missing"),
        (" - y[on]", " + y[on]", (*LARGEST, *FREE, *SIGN), "y has the wrong one"),
    ),
    "l1_fit": faults(
        ("np.sqrt(weight[on])", "1 + 0 * weight[on]", SUM, "weights of the rows are missing"),
        (" + cp.sum(over)", "", SUM, "off rows are left free"),
        ("cp.norm(r, 1) + cp.sum(over)", "cp.maximum(cp.norm(r, 'inf'), cp.max(over))", SUM, "the largest misfit in place"),
        ("cp.pos(", "cp.abs(", SUM, "off rows are fitted to 0"),
    ),
    "nonnegative_l1_fit": faults(
        (", [h >= 0]", "", SIGN, "h >= 0 is missing"),
        ("cp.norm(r, 1)", "cp.norm(r, 2)", (*SUM, *FREE), ""),
        (" + b[on]", " - b[on]", (*SUM, *FREE), ""),
        (" + cp.sum(over)", "", (*SUM, *FREE), "off rows are left free"),
    ),
    "relaxed_fit": faults(
        ("np.sqrt(weight[on])", "weight[on]", ROOM, "weights are squared"),
        (", W[off] @ h + b[off] <= 0", "", OFF, "off rows are left free"),
        (" - b[on]", " + b[on]", (*ROOM, *ABOVE), ""),
    ),
    "nonnegative_relaxed_fit": faults(
        ("h >= 0, ", "", SIGN, "h >= 0 is missing"),
        ("np.sqrt(weight[on])", "1 + 0 * weight[on]", (*ROOM, *FREE), ""),
        (", W[off] @ h + b[off] <= 0", "", OFF, "off rows are left free"),
    ),
    "normalised_lasso": faults(
        ("cp.multiply(d, h)", "h", WEIGHTED, "D is missing"),
        ("axis=0", "axis=0) ** 2 * (1", WEIGHTED, ""),
        (") / 2\n", ")\n", WEIGHTED, "half of lam"),
        ("W[on], axis", "W, axis", WEIGHTED, ""),
    ),
    "normalised_basis_pursuit": faults(
        ("cp.multiply(d, h)", "h", ("(W'p)_j = -1 sign(h_j)", "(W'p)_j = -lam D", "p_on is a multiple"), "D is missing"),
        ("<= eps", "<= eps**2", (*BALL, "(W'p)_j = -1 sign(h_j)", "p_on is a multiple"), "against eps^2"),
        (" + b[on]", "", (*BALL, "(W'p)_j = -1 sign(h_j)", "p_on is a multiple"), "the bias is missing"),
    ),
    "masks": faults(
        ("seen & (y == 0)", "~(y > 0)", ("off: seen, and y = 0",), "hidden rows count as off"),
        ("seen & (y > 0)", "~seen | (y > 0)", ("on: seen, and y > 0",), "hidden rows count as on"),
        ("y > 0), seen & (y == 0)", "y >= 0), 0 * y.astype(bool)", ("on: seen, and y > 0",), "y >= 0 in place of y > 0"),
    ),
    "leaky_rows": faults(
        ("y / a", "y", ("target = y / a",), "y is not divided by a"),
        ("a**2", "a", ("weight = a^2",), "the weight is a, not a^2"),
        ("a**2", "1 / a**2", ("weight = a^2",), "upside down"),
    ),
    "behind_tanh_intervals": faults(
        ("y - eps, -1.0", "y - eps, -1 + 1e-9", ("lo = arctanh(y - eps)",), ""),
        ("return lo, hi", "return hi, lo", ("lo = arctanh(y - eps)",), "the ends are exchanged"),
        ("np.maximum(y - eps, -1.0))", "y.clip(-1 + 1e-9, 1 - 1e-9)) - eps", ("lo = arctanh(y - eps)",), ""),
    ),
    "dual_vector": faults(
        ("v - y, 0.0", "y - v, 0.0", ("W'p + lam >= 0", "p_on = w", "p_off >= 0", "h_j"), ""),
        ("if held.any()", "if False", ("W'p + lam >= 0", "h_j (W'p + lam)_j", "p_off"), "multipliers of the off"),
        ("np.where(on, v", "np.where(~off, v", ("p = 0 on rows that were not seen", "W'p + lam >= 0"), ""),
        ("return p", "return -p", ("p_off >= 0", "W'p + lam >= 0", "p_on = w"), "a sign: p is W h + b - y"),
        ("return p", "return 2 * p", ("W'p + lam >= 0", "p_on = w", "h_j"), "p is twice the dual vector"),
    ),
    "feasible_dual_point": faults(
        ("np.maximum(q, 0)", "q", ("p_off >= 0",), ""),
        (" * p\n", " * q\n", ("p_off >= 0", "p = 0 on rows that were not seen", "W'p + lam >= 0"), ""),
        ("min(max(linear / square, 0.0), most)", "1.0", ("W'p + lam >= 0", "d(p) >="), "clipped and not scaled"),
        ("min(max(linear / square, 0.0), most) * p", "0 * p", ("d(p) >=",), "worth nothing"),
        ("-W.T @ p", "W.T @ p", ("W'p + lam >= 0", "d(p) >="), ""),
    ),
    "dual_objective": faults(
        ("(b - y)", "(y - b)", ("d(p) =",), "a sign: p_on'(y - b)"),
        (" / 2", "", ("d(p) =",), "without its 1/2"),
        (" + p[off] @ b[off]", "", ("d(p) =",), "the term of the off rows is missing"),
    ),
    "gap": faults(
        ("r @ r / 2", "r @ r", ("objective =",), "squares without their 1/2"),
        (" + p[off] @ b[off]", "", ("bound =",), "the term of the off rows"),
        ("objective - bound", "bound - objective", ("gap =",), "a sign"),
        (")[on]\n", ")\n", ("objective =",), "all rows are counted"),
    ),
    "dual_of_a_ball": faults(
        ("- eps * length", "", ("d(p) =",), "eps is missing"),
        ("/ weight", "* weight", ("d(p) =",), "upside down"),
        ("eps * length", "length**2 / 2", ("d(p) =",), "the square of the LASSO"),
    ),
    "infeasible": faults(
        ("found.x[: len(b)] - found.x[len(b) :]", "found.x[len(b) :] - found.x[: len(b)]", ("W'p >= 0",
         "p'b"), "a sign: -p"),
        ("hi - b, b - lo", "b - hi, lo - b", ("p'b - sum_i",), ""),
        ("[-W.T, W.T]", "[W.T, -W.T]", ("W'p >= 0", "p'b"), ""),
    ),
    "who_lies": faults(
        ("allowed and objective - bound <= 1e-6 * objective", "True", ("gap <= 1e-6 objective",), "any solver says"),
        ("allowed and objective - bound <= 1e-6 * objective", "allowed", ("gap <= 1e-6 objective",), "not the gap"),
        ("allowed and ", "", ("gap <= 1e-6 objective",), "only the gap"),
    ),
    "lagrangian": faults(
        (".max()", ".max() * 2", ("lam = max",), "a factor 2"),
        (".max()", ".max() / (2 * eps)", ("lam = max",), "squared bound"),
        ("np.abs(W.T @ (W @ h - y)).max()", "eps", ("lam = max",), "eps itself"),
    ),
    "behind_tanh": faults(
        ("(1 - u**2) * ", "", ("(W'p + lam)_j",), ""),
        (" + lam", " + 2 * lam", ("(W'p + lam)_j",), "twice lam"),
        ("W @ h + b", "W @ h", ("(W'p + lam)_j",), "the bias is missing"),
        ("(u - y)", "(u + y)", ("(W'p + lam)_j",), "y has the wrong one"),
    ),
    "uneven_rows": faults(
        ("W[off] / lengths[:, None], b[off] / lengths, cp.CLARABEL", "W[off], b[off], cp.OSQP", (*OFF, *SIGN), ""),
        (", A @ g + c / size <= 0", "", OFF, "off rows are left free"),
        ("c / size", "c", (*OFF, *LASSO, "p_off (W h + b)_off = 0"), ""),
        ("lam / size", "lam", LASSO, ""),
    ),
    "prox_unknown": faults(
        ("h - lam", "h + lam", ("0 in lam",), "lam is added"),
        ("np.maximum(rho * h - lam, 0)", "(rho * h - lam)", ("0 in lam",), "h >= 0 is missing"),
        ("rho + gamma", "rho + 2 * gamma", ("0 in lam",), "without its 1/2"),
        ("rho + gamma", "rho", ("0 in lam",), "gamma is missing"),
    ),
    "prox_squares": faults(
        ("np.minimum(v, 0)", "np.maximum(v, 0)", ("0 in w (u - y)",), "held at u >= 0"),
        ("(weight * y + rho * v) / (weight + rho)", "(y + rho * v) / (1 + rho)", ("0 in w (u - y)",), "weights are missing"),
        ("np.where(off, np.minimum(v, 0), v)", "v", ("0 in w (u - y)",), "left as they are"),
    ),
    "prox_ball": faults(
        ("eps / length", "eps / 2 / length", ("u is the nearest",), "half of the ball"),
        ("y + (v - y) * min(1.0, eps / length)", "y + np.clip(v - y, -eps, eps)", ("u is the nearest",), "each row"),
        ("np.where(off, np.minimum(v, 0), v)", "v", ("u is the nearest",), "left as they are"),
    ),
    "prox_largest": faults(
        ("v - nearest / rho", "v - nearest / (2 * rho)", ("rho (v - u)",), "half of what"),
        ("v - nearest / rho", "y + nearest / rho", ("rho (v - u)",), "Moreau's remainder"),
        ("nearest = np.sign(q) * np.maximum(np.abs(q) - max(t, 0.0), 0)", "nearest = np.clip(q, -1, 1)",
         ("rho (v - u)",), ""),
    ),
    "step_length": faults(
        (", 2) ** 2", ", 2)", ("L is the largest",), "not squared"),
        ("np.sqrt(weight[on])[:, None] * W[on]", "np.sqrt(weight)[:, None] * W", ("L is the largest",),
         "all rows are counted"),
        (", 2) ** 2", ") ** 2", ("L is the largest",), "Frobenius"),
    ),
    "ista_step": faults(
        ("h - t * slope", "h + t * slope", ("h+ = max",), "uphill"),
        (" + lam", "", ("h+ = max",), "lam is missing"),
        ("np.maximum(h - t * slope, 0)", "h - t * slope", ("h+ = max",), "h >= 0 is missing"),
        ("W[on].T @ (weight[on]", "W[on].T @ (1", ("h+ = max",), "weights are missing"),
    ),
    "fista_steps": faults(
        ("(k - 1) / after * (new - h)", "0", ("h_k = prox",), "no momentum"),
        ("(k - 1) / after", "k / after", ("h_k = prox",), "t_k / t_(k+1)"),
        ("range(steps)", "range(steps + 1)", ("h_k = prox",), "one step too many"),
        ("return h", "return z", ("h_k = prox",), "extrapolated point"),
    ),
    "admm_step": faults(
        ("(u - s)", "(u + s)", ("(W_on'w W_on",), ""),
        ("lam / rho", "lam", ("u = max",), "rho is missing in the threshold"),
        ("s + h - u", "s + u - h", ("s = s + h - u",), "s grows by u - h"),
        ("W[on].T * weight[on]", "W[on].T", ("(W_on'w W_on",), "weights are missing"),
    ),
    "pdhg_step": faults(
        ("2 * new - h", "new", ("p+ = prox",), "no extrapolation"),
        ("np.maximum(v, 0), 0.0", "v, 0.0", ("p+ = prox",), "p_off >= 0 is missing"),
        ("sigma * y", "y", ("p+ = prox",), "not multiplied by sigma"),
        ("(W.T @ p + lam)", "(-W.T @ p + lam)", ("h+ = max",), "a sign: h + tau W'p"),
    ),
    "beat_fista": faults(
        ("(W, y, lam) for", "(W, y, 2 * lam) for", LASSO, "twice lam"),
        ("for y in Y", "for y in -Y", LASSO, ""),
        ("return h\n        inside", "return -h\n        inside", SIGN, "-h is the optimum"),
    ),
    "multi_layer_pursuit": faults(
        (" + lam1 * cp.norm(g, 1)", "", DEEP, "the length of g_1 is missing"),
        (" / 2", "", DEEP, ""),
        ("+ lam2 * cp.norm(h, 1)", "", DEEP, "lam is missing"),
        ("lam1 * cp.norm(g, 1)", "2 * lam1 * cp.norm(g, 1)", DEEP, "twice lam_1"),
    ),
    "gauss_newton_step": faults(
        ("z + np.linalg", "z - np.linalg", ("(J'J + mu I)",), "away from y"),
        ("W2[:, on] @ W1[on]", "W2 @ W1", ("(J'J + mu I)",), "ReLU is missing"),
        ("return z + ", "return ", ("(J'J + mu I)",), "the step alone"),
    ),
    "layered_programs": faults(
        ("(hidden - b1)[on]", "hidden[on]", ("G(z) = y",), ""),
        ("y - b2", "y", ("G(z) = y",), ""),
        ("return fit(W1[on]", "return -fit(W1[on]", ("G(z) = y",), "-z is the latent"),
    ),
    "second_preimage": faults(
        ("0.9 * most * step", "0 * step", ("|other - z|",), "the same latent"),
        ("0.9 * most", "40 * most", ("G(other) = G(z)",), ""),
        ("W1[on])[2][-1]", "W1)[2][0]", ("G(other) = G(z)",), ""),
    ),
    "global_bound": faults(
        ("return least", "return least**2 / 2", ("bound",), "half of the squared"),
        ("return least", "return np.linalg.norm(W2 @ np.maximum(b1, 0) + b2 - y)", ("bound <=",), "one latent is no bound"),
        ("return least", "return 0.0", ("bound >= 0.99",), "says nothing"),
        ("on = a * (left + right) / 2 + b1 > 0", "on = a * left + b1 > -np.inf", ("bound",), ""),
    ),
    "spark": faults(
        ("-(-size // 2) - 1", "size // 2", ("the largest k",), "strict"),
        ("return size, ", "return size - 1, ", ("spark(W)",), "one less"),
        ("-(-size // 2) - 1", "size - 1", ("the largest k",), "k <= spark - 1"),
    ),
    "coherence": faults(
        ("W / np.linalg.norm(W, axis=0)", "W", ("mu(W)",), "not brought to length 1"),
        ("[~np.eye(W.shape[1], dtype=bool)]", "", ("mu(W)",), "the diagonal"),
        ("np.ceil((1 + 1 / mu) / 2) - 1", "np.floor(1 / mu)", ("the largest k",), "k <= 1 / mu"),
    ),
    "tanh_counterexample": faults(
        ("-1.0, 0.0, 4 / c, 0.5", "0.9, 0.0, 0.1 / c, 0.5", ("f(t h1",), "convex there"),
        ("0.0, 4 / c", "-4 / c, 4 / c", ("h1, h2 >= 0",), "a part of eq. (8)"),
        ("-1.0, 0.0, 4 / c, 0.5", "-1.0, 0.0, 4 / c, 1.0", ("f(t h1",), "one of the two"),
        ("-1.0, 0.0", "-2.0, 0.0", ("|y| <= 1",), ""),
    ),
    "sparsest_is_not_shortest": faults(
        ("(spark - 1) // 2)", "spark - 1)", ("|h|_0 <=",), "sparsest"),
        ("best.fun < np.abs(h).sum() - 1e-3", "best.fun > np.abs(h).sum() - 1e-3", ("|h|_1 > min",), ""),
        ("return h", "return 0 * h", ("h != 0",), ""),
    ),
}  # fmt: skip
