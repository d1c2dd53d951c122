"""Lesson 2: basis pursuit in two dimensions: the ball, the face, the dual vector."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="2. Basis pursuit in two dimensions")

with app.setup:
    from itertools import pairwise

    import cvxpy as cp
    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, ORANGE, PURPLE, Frame, Lesson, Slider, canvas, name_axes, pair, plane, solved, stops

    LESSON = Lesson(
        number=2,
        title="Basis pursuit in two dimensions",
        text=r"""
        Write a signal $y$ of two numbers with four columns $w_1, \ldots, w_4$ so that the weights add up to as little as
        possible. Their least sum is the size of $y$ measured by a **ball**: the polygon with the corners $\pm w_j$. Blow
        it up until it touches $y$; the factor is the value. The **face** that touches says which columns are used, one for
        each of its corners. A column inside the polygon ($w_4$ here) is never used.

        The **dual vector** $\theta$ stands at a right angle on that face. It lives in a polygon of its own, $|w_j^\top
        \theta| \le 1$, whose corners are the faces of the ball. $y^\top \theta$ is never more than $\|h\|_1$ for any
        such $\theta$ and any $h$ with $W h = y$; when both agree, each proves the other.

        Drag $y$ around: within a face $\theta$ does not move at all, at a corner it jumps along an edge.
        """,
        equation=r"""
        \min_{h}\ \| h \|_1 \ \ \text{subject to}\ \ \| W h - y \|_2 \le \varepsilon \quad (\mathrm{BP}_\sigma)

        \max_{\theta}\ y^{\top} \theta - \varepsilon \| \theta \|_2 \ \ \text{subject to}\ \ \| W^{\top} \theta
        \|_\infty \le 1
        """,
        source=(
            "van den Berg, Friedlander, Probing the Pareto Frontier for Basis Pursuit Solutions (2008), problem "
            "(BP_sigma), here with sigma = eps = 0; the dual as derived in the file below, with p = -theta"
        ),
        statement="cvxinv/layers/basis_pursuit_l2.py:AbstractBasisPursuitL2.statement",
        slider=Slider("direction of y", "degrees", stops(0, 345, 24), 3),
        exercises=(
            r"""
            Find the direction in which $\|h\|_1$ is largest. Which column would you add, as short as possible, to lower
            it there?
            """,
            r"""
            Multiply $w_4$ by 4. Which faces are lost, and at which directions of $y$ does the value change? Say it from
            the picture first, then solve.
            """,
        ),
        graded=("basis_pursuit_l2", "dual_of_a_ball"),
    )
    W = np.array([[1.0, 0.3, -0.6, 0.35], [0.0, 1.0, 0.7, 0.3]])


@app.function
def pursuit(angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, h and a dual vector at a direction of y; the dual from the program that is the dual, not from the solver's word."""
    y = 1.2 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    _, h = solved("basis_pursuit_l2", W, y, number=0.0)
    theta = cp.Variable(2)
    dual = cp.Problem(cp.Maximize(y @ theta), [cp.norm_inf(W.T @ theta) <= 1])
    dual.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11)
    return y, h, theta.value


@app.function
def corners(points: np.ndarray) -> np.ndarray:
    """The corners of the smallest convex polygon around points `(k, 2)`, in order, the first one repeated."""
    around = points[np.argsort(np.arctan2(points[:, 1], points[:, 0]))]
    before, after = np.roll(around, 1, axis=0), np.roll(around, -1, axis=0)
    while len(around) > 3:
        turn = (around - before)[:, 0] * (after - around)[:, 1] - (around - before)[:, 1] * (after - around)[:, 0]
        if (turn > 1e-9).all():
            break
        around = np.delete(around, int(turn.argmin()), axis=0)
        before, after = np.roll(around, 1, axis=0), np.roll(around, -1, axis=0)
    return np.vstack([around, around[:1]])


@app.function
def dual_corners() -> np.ndarray:
    """The corners of |w_j'theta| <= 1: the faces of the ball, each as the theta that is 1 on both of its ends."""
    ball = corners(np.vstack([W.T, -W.T]))
    return np.array([np.linalg.solve(np.array([a, b]), np.ones(2)) for a, b in pairwise(ball)])


@app.function
def frame(angle: float) -> Frame:
    """The ball that touches y, and the dual vector in its polygon."""
    y, h, theta = pursuit(angle)
    value, used = np.abs(h).sum(), [f"w{j + 1}" for j in range(4) if abs(h[j]) > 1e-6]
    figure, (ball, dual) = canvas(1, 2, height=4.1)
    plane(ball, (-2, 2), (-2, 2))
    edge = corners(np.vstack([W.T, -W.T]))
    ball.plot(*edge.T, color=BLUE, label="ball with corners ±w")
    ball.plot(*(value * edge).T, color=ORANGE, ls="--", label="blown up to touch y")
    for j, w in enumerate(W.T):
        ball.annotate("", w, (0, 0), arrowprops={"arrowstyle": "->", "color": BLUE})
        ball.annotate(f"w{j + 1}", w * 1.12, color=BLUE, fontsize=9)
    ball.plot(*y, "o", color=PURPLE, ms=8, label="y")
    ball.annotate("", y + 0.6 * theta / np.linalg.norm(theta), y, arrowprops={"arrowstyle": "-|>", "color": GREEN, "lw": 2})
    name_axes(ball, "y₁ (signal)", "y₂ (signal)", "signals")
    plane(dual, (-1.8, 1.8), (-1.8, 1.8))
    around = dual_corners()
    dual.fill(*around.T, color=GREEN, alpha=0.15, lw=0)
    dual.plot(*np.vstack([around, around[:1]]).T, color=GREEN, ls="-.", label="dual polygon |w'θ| ≤ 1")
    dual.plot(*theta, "D", color=GREEN, ms=8, mec="black", label="θ, the dual vector")
    name_axes(dual, "θ₁ (1/signal)", "θ₂ (1/signal)", "dual vectors")
    lesson.legend(figure, ball, dual)
    numbers = {
        "value |h|₁": f"{value:.4f}",
        "bound y'θ": f"{y @ theta:.4f}",
        "gap": f"{value - y @ theta:.0e}" if value - y @ theta > 1e-9 else "below 1e-9",
        "columns used": " and ".join(used),
        "θ": pair(theta),
    }
    alt = (
        f"Left: a polygon with corners at plus and minus three of four columns, and the same {value:.2f} times as "
        "large, touching y at "
        f"{angle:g} degrees; used: {' and '.join(used)}. Right: the dual polygon with the dual vector {pair(theta)}."
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
