"""Lesson 11: solvers that say optimal of what is not, each refuted by a certificate."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="11. Solvers that lie")

with app.setup:
    import warnings
    from functools import cache

    import cvxpy as cp
    import lesson
    import numpy as np
    from lesson import STYLES, Frame, Lesson, Slider, canvas, name_axes

    LESSON = Lesson(
        number=11,
        title="Solvers that lie",
        text=r"""
        A solver's *optimal* means that **its** residuals are below **its** tolerance, on the numbers that it was given.
        None of these is what you asked. A **certificate** asks again, in float64 and on your own data: does every row hold
        by its own size, and is the gap small, with what broken rows are worth, $\sum_i p_i v_i$, counted against it?

        **Rows scaled.** Multiply the off rows by $s$: (9) stays the same problem, since $s\,(W h + b) \le 0$ says the
        same. Drag $s$ down and watch objectives fall *below the optimum*, still called optimal: a row of size $10^{-5}$
        may be broken outright within a tolerance of $10^{-5}$.

        **Loose tolerances.** SCS at 1e-2 is content with a point that breaks a row visibly. **float32 data.** Ask for $W h
        = y$ exactly, with data that went through float32: Clarabel and HiGHS answer *infeasible*, while the $h$ that made
        $y$ misses it by some $10^{-7}$. All three are refuted below by numbers that anybody can compute.
        """,
        equation=r"""
        P(h) + \sum_i p_i v_i - D(p)\ \ge\ 0 \quad \text{for every } h \ge 0,\ p_{\mathrm{off}} \ge 0,\ W^{\top} p +
        \lambda \mathbf{1} \ge 0

        v_i = \big( (W h + b)_i \big)_+ \ \text{ on off rows}
        """,
        source=(
            "derived here by weak duality of (9), Aberdam, Simon, Elad (2020), with off rows opened by exactly v; the "
            "package's judge is built on it"
        ),
        statement="cvxinv/layers/nonnegative_lasso.py:NonnegativeLasso.statement",
        slider=Slider("scale s of the off rows", "", tuple(float(f"1e-{k}") for k in range(0, 10)), 5),
        exercises=(
            r"""
            Divide each off row by its length before any solver sees it. Which of the lies of the picture are left?
            """,
            r"""
            Give the certificate p = 0 in place of the optimal one. Is its statement still true, and is it still of any
            use? Which lies does it still refute?
            """,
        ),
        graded=("who_lies", "uneven_rows"),
    )
    SOLVERS, LAM, TOL = ("CLARABEL", "OSQP", "SCS"), 0.05, 1e-6


@app.function
@cache
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """W, b, y and the mask of off rows; about half of the off rows touch zero at the h that made y."""
    draw = np.random.default_rng(2)
    W = draw.standard_normal((30, 12)) / np.sqrt(12)
    h = np.maximum(draw.standard_normal(12), 0)
    off = np.arange(30) >= 15
    b = np.where(off, -(W @ h) - np.where(draw.random(30) < 0.5, 0, 0.3), 0)
    return W, b, W @ h + 0.3 * draw.standard_normal(30), off


@app.function
def asked(solver: str, scale: float = 1.0, **options: float) -> tuple[str, np.ndarray | None, np.ndarray | None]:
    """A solver's word on (9) with the off rows times scale, its h, and the off rows' multipliers."""
    W, b, y, off = data()
    h = cp.Variable(12)
    cut = scale * (W[off] @ h + b[off]) <= 0
    misfit = cp.sum_squares(W[~off] @ h + b[~off] - y[~off]) / 2
    problem = cp.Problem(cp.Minimize(misfit + LAM * cp.sum(h)), [h >= 0, cut])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # here solvers are to say what they say
        problem.solve(solver=solver, **options)
    return str(problem.status), h.value, cut.dual_value


@app.function
def objective(h: np.ndarray) -> float:
    """P(h) of (9), signal^2."""
    W, b, y, off = data()
    return float(0.5 * np.sum((W[~off] @ h + b[~off] - y[~off]) ** 2) + LAM * h.sum())


@app.function
@cache
def proof() -> tuple[np.ndarray, float]:
    """A dual vector that meets its limits, and D of it: what no h can be below. Computed once, checked here, and
    then only used."""
    W, b, y, off = data()
    _, h, mu = asked("CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    p = np.where(off, 0, W @ h + b - y)
    p[off] = np.maximum(mu, 0)
    slack = (W.T @ p).min()
    p = p * min(1, LAM / -slack) if slack < -LAM else p
    assert (p[off] >= 0).all() and (W.T @ p + LAM >= -1e-15).all()
    return p, float(p[~off] @ (b - y)[~off] + p[off] @ b[off] - 0.5 * p[~off] @ p[~off])


@app.function
def judged(h: np.ndarray) -> tuple[float, float]:
    """The largest excess of a row or entry by its own size, and the gap with what all excess is worth, over the
    objective."""
    W, b, _, off = data()
    p, D = proof()
    v, below = np.maximum((W @ h + b)[off], 0), np.maximum(-h, 0)
    size = np.linalg.norm(W[off], axis=1) * np.linalg.norm(h) + np.abs(b[off])
    worth = p[off] @ v + (W.T @ p + LAM) @ below
    return float(max((v / size).max(), below.max() / np.abs(h).max())), float((objective(h) + worth - D) / objective(h))


@app.function
@cache
def claims(scale: float) -> dict[str, tuple[str, float, float, float]]:
    """Of each solver: its word, the objective it reached, and both numbers of the judge."""
    found = {}
    for solver in SOLVERS:
        word, h, _ = asked(solver, scale)
        found[solver] = (word, np.nan, np.nan, np.nan) if h is None else (word, objective(h), *judged(h))
    return found


@app.function
@cache
def loose() -> tuple[str, float]:
    """What SCS says at tolerances of 1e-2, and by how much its point breaks a row."""
    word, h, _ = asked("SCS", eps_abs=1e-2, eps_rel=1e-2)
    return word, judged(h)[0]


@app.function
@cache
def rounded() -> tuple[dict[str, str], float]:
    """What solvers say of W h = y after W and y went through float32, and by how much the h that made y misses it."""
    draw = np.random.default_rng(2)
    W, true = draw.standard_normal((30, 12)) / np.sqrt(12), np.maximum(draw.standard_normal(12), 0)
    W, y = W.astype(np.float32).astype(float), (W @ true).astype(np.float32).astype(float)
    words = {}
    for solver in ("CLARABEL", "HIGHS"):
        h = cp.Variable(12)
        problem = cp.Problem(cp.Minimize(cp.sum(h)), [h >= 0, W @ h == y])
        problem.solve(solver=solver)
        words[solver] = str(problem.status)
    return words, float(np.abs(W @ true - y).max())


@app.function
def frame(scale: float) -> Frame:
    """Objectives that are called optimal, and what the judge says of the same points."""
    figure, (value, excess) = canvas(2, height=6.0)
    _, D = proof()
    value.axhline(D, color="black", lw=1, label="no h is below this")
    every = [claims(s) for s in LESSON.slider.stops]
    for solver, (color, style), mark in zip(SOLVERS, STYLES, ("o", "s", "D"), strict=False):
        look = {"color": color, "ms": 8 if mark == "s" else 4, "mfc": "none" if mark == "s" else color}
        value.semilogx(LESSON.slider.stops, [c[solver][1] for c in every], mark + style, label=solver, **look)
        worst = [max(*c[solver][2:], 1e-14) / TOL for c in every]
        excess.loglog(LESSON.slider.stops, worst, mark + style, **look)
    for axes in (value, excess):
        axes.axvline(scale, color="black", lw=0.7, ls=(0, (2, 3)))
        axes.invert_xaxis()
    excess.axhline(1, color="black", lw=1)
    name_axes(value, "scale s of the off rows", "objective (signal²)", "what is claimed")
    name_axes(excess, "scale s of the off rows", "times what is allowed", "what the certificate says; above 1: refused")
    lesson.legend(figure, value, excess, columns=4)
    numbers = {"optimum, from below": f"{D:.6f} signal²"}
    for solver, (word, reached, broken, gap) in claims(scale).items():
        says = "refused" if max(broken, gap) > TOL else "accepted"
        judge = (
            f"{reached:.6f}; row broken {max(broken, 0):.0e}, gap {max(gap, 0):.0e}: {says}"
            if np.isfinite(reached)
            else "refused: an h that meets all is known"
        )
        numbers[f"{solver} at s = {scale:g}"] = f"{word}, {judge}"
    word, broken = loose()
    numbers["SCS, tolerance 1e-2, s = 1"] = f"{word}; row broken {broken:.0e}: {'refused' if broken > TOL else 'true'}"
    words, miss = rounded()
    said = " and ".join(f"{solver} {word}" for solver, word in words.items())
    numbers["float32 data, W h = y"] = f"{said}; the h that made y misses by {miss:.0e} signal"
    short = [f"{solver} {word} at {reached:.3f}" for solver, (word, reached, *_) in claims(scale).items()]
    alt = (
        f"Top: objectives against the scale of the off rows; at {scale:g} {', '.join(short)}, while the optimum is "
        f"{D:.3f}. Bottom: violation or "
        "gap of the same points in units of what a certificate allows."
    )
    return Frame(figure, alt, numbers)


@app.cell
def _():
    slider = lesson.control(LESSON)
    lesson.opened(LESSON, slider)
    return (slider,)


@app.cell
def _(slider):
    lesson.shown(LESSON, frame(slider.value))
    return


if __name__ == "__main__":
    app.run()
