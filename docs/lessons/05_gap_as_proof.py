"""Lesson 5: duality, and the gap as a proof of what a point is worth."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="5. Duality, and the gap as proof")

with app.setup:
    from functools import cache

    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, ORANGE, PURPLE, Frame, Lesson, Slider, canvas, name_axes, pair, plane, solved

    LESSON = Lesson(
        number=5,
        title="Duality, and the gap as proof",
        text=r"""
        How good is an $h$ that some solver gave? Its objective $P(h)$ says nothing by itself. But **every** $\theta$ with
        $W^\top \theta \le \lambda$ gives a number $D(\theta)$ that no $h$ can be below:

        $$P(h) - D(\theta) = \tfrac12 \| y - W h - \theta \|^2 + h^\top (\lambda \mathbf{1} - W^\top \theta) \ \ge\ 0 .$$

        The **gap** is what is left between both, and proves $P(h) - P^\star \le$ gap whoever computed $h$. A $\theta$
        is at hand: the residual $y - W h$, shrunk until it fits. It lies within $\sqrt{2\,\text{gap}}$ of the best one.

        Here the columns are $(1, 0)$ and $(0.6, 0.8)$, $y = (1, 1)$, $\lambda = 0.2$. By hand, $h^\star = (1/8, 9/8)$,
        $\theta^\star = (0.2, 0.1)$ and $P^\star = 11/40$. Drag through the steps of ISTA: the circle shrinks onto
        $\theta^\star$, and the bound meets the objective.
        """,
        equation=r"""
        \min_{h \ge 0}\ \tfrac12 \| y - W h \|^2 + \lambda \mathbf{1}^{\top} h \quad (P)

        \max_{\theta}\ y^{\top} \theta - \tfrac12 \| \theta \|^2 \ \ \text{subject to}\ \ W^{\top} \theta \le \lambda
        \mathbf{1} \quad (D)
        """,
        source=(
            "(P): Aberdam, Simon, Elad (2020), equation (9) where no row is off; (D): derived in the file below, with "
            "p = -theta"
        ),
        statement="cvxinv/layers/nonnegative_lasso.py:NonnegativeLasso.statement",
        slider=Slider("step of ISTA", "", tuple(float(k) for k in range(0, 31, 2)), 2),
        exercises=(
            r"""
            Show that the formula for $P(h) - D(\theta)$ holds for any $h$ and $\theta$, by expanding the square. Where
            does $h \ge 0$ enter?
            """,
            r"""
            Give $\theta = y$ to the formula of $D$ without shrinking it. Which $P^\star$ would it "prove", and which
            inequality of (D) shows the fault?
            """,
        ),
        graded=("feasible_dual_point", "gap"),
    )
    W, Y, LAM = np.array([[1.0, 0.6], [0.0, 0.8]]), np.array([1.0, 1.0]), 0.2


@app.function
@cache
def steps() -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """h, theta, P and D after each step of ISTA from 0; the residual is scaled by the number that makes D largest."""
    h, step, taken = np.zeros(2), 1 / np.linalg.norm(W, 2) ** 2, []
    for _ in range(31):
        r = Y - W @ h
        most = (W.T @ r).max()
        s = min(max(Y @ r / (r @ r), 0), LAM / most if most > 0 else np.inf)
        theta = s * r
        taken.append((h, theta, 0.5 * r @ r + LAM * h.sum(), Y @ theta - 0.5 * theta @ theta))
        h = np.maximum(h - step * (W.T @ (W @ h - Y) + LAM), 0)
    return taken


@app.function
def frame(k: float) -> Frame:
    """The dual set with the circle that holds the best theta, and both values step by step."""
    h, theta, P, D = steps()[int(k)]
    gap = P - D
    best, _ = solved("nonnegative_lasso", W, Y, number=LAM)
    figure, (dual, values) = canvas(1, 2, height=4.2)
    plane(dual, (-0.75, 1.15), (-0.75, 1.15))
    line = np.linspace(-0.75, 1.15, 2)
    dual.fill_between(
        [-0.75, 0.2], -0.75, [(0.2 + 0.6 * 0.75) / 0.8, (0.2 - 0.12) / 0.8], color=GREEN, alpha=0.13, lw=0, label="W'θ ≤ λ"
    )
    dual.plot([0.2, 0.2], line, color=GREEN, ls="-.", lw=1)
    dual.plot(line, (0.2 - 0.6 * line) / 0.8, color=GREEN, ls="-.", lw=1)
    turn = np.linspace(0, 2 * np.pi, 121)
    radius = np.sqrt(2 * max(gap, 0))
    dual.plot(theta[0] + radius * np.cos(turn), theta[1] + radius * np.sin(turn), color=PURPLE, ls=":", label="θ* is within")
    dual.plot(*Y, "o", color=BLUE, ms=7, label="y")
    dual.plot(*theta, "D", color=ORANGE, ms=7, label="θ at this step")
    dual.plot(0.2, 0.1, "*", color="black", ms=11, label="θ*, the best")
    name_axes(dual, "θ₁ (signal)", "θ₂ (signal)", "dual vectors")
    shown = steps()[:31]
    values.plot([s[2] for s in shown], color=BLUE, label="objective P")
    values.plot(np.maximum.accumulate([s[3] for s in shown]), color=ORANGE, ls="--", label="bound D, best so far")
    values.vlines(k, D, P, color=PURPLE, ls=":", lw=2.5)
    values.axhline(best, color="black", lw=0.8)
    values.set_ylim(0.22, 0.36)
    name_axes(values, "step", "objective (signal²)", "thin: the optimum")
    lesson.legend(figure, dual, values, columns=3)
    numbers = {
        "h": f"{pair(h)} h",
        "objective P": f"{P:.6f} signal²",
        "bound D": f"{D:.6f} signal²",
        "best bound so far": f"{max(s[3] for s in steps()[: int(k) + 1]):.6f} signal²",
        "gap": f"{gap:.1e} signal²",
        "optimum by Clarabel": f"{best:.6f} signal²",
    }
    alt = (
        f"Left: the wedge of allowed dual vectors; a circle of radius {radius:.2g} around the one at step {k:g} holds "
        "the best, (0.2, 0.1). "
        f"Right: the objective falls and the bound rises to 0.275; at step {k:g} they are {gap:.1e} apart."
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
