"""Lesson 4: the nonnegative LASSO of a middle layer, and what the off rows add."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="4. The nonnegative LASSO, and what the off rows add")

with app.setup:
    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, ORANGE, Frame, Lesson, Slider, canvas, name_axes, pair, plane, solved, stops

    LESSON = Lesson(
        number=4,
        title="The nonnegative LASSO, and what the off rows add",
        text=r"""
        A ReLU layer gave the output $x_{i+1}$. Where it is positive (the rows S, *on*) the layer's output can be matched.
        Where it is zero (*off*) the ReLU cut the row, and all that is known is $W x \le 0$. A pursuit that drops the off
        rows throws this away.

        Here $W_S$ is the unit matrix, $y = (2, 1)$, and one off row says $x_1 - x_2 \le 0$. Without it the answer is the
        soft threshold $(2 - \lambda,\ 1 - \lambda)_+$, which breaks the off row. With it both entries are equal:
        setting the derivative of $\tfrac12 (t-2)^2 + \tfrac12 (t-1)^2 + 2 \lambda t$ to zero gives $t = \tfrac32 -
        \lambda$, and the off row's multiplier is $\mu = (2 - t) - \lambda = \tfrac12$ as long as $t > 0$: what one
        unit of room there would save.

        Drag $\lambda$: the dashed path leaves the allowed wedge at once, the solid one follows its edge to the origin.
        """,
        equation=r"""
        \min_{x}\ \tfrac12 \| x_{i+1}^{S} - W_i^{S} x \|_2^2 + \lambda_i \mathbf{1}^{\top} x \quad \text{subject to}
        \quad x \ge 0,\ \ W_i^{S^c} x \le 0 \qquad (9)
        """,
        source="Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted? (2020), equation (9)",
        statement="cvxinv/layers/nonnegative_lasso.py:NonnegativeLasso.statement",
        slider=Slider("l1 weight λ", "signal²/h", stops(0, 2, 21), 4),
        exercises=(
            r"""
            Turn the off row into $x_1 - x_2 \le 1$ (a bias of -1). At which $\lambda$ does it bind, and what is its
            multiplier there?
            """,
            r"""
            Write (9) in CVXPY without looking, solve it at $\lambda = 0.4$, and read the multiplier of the off row from
            `constraint.dual_value`. It must be 1/2.
            """,
        ),
        graded=("nonnegative_lasso", "masks"),
    )


@app.function
def answers(lam: float) -> tuple[np.ndarray, np.ndarray]:
    """The answer without the off row and the one with it."""
    W, y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]), np.array([2.0, 1.0, 0.0])
    off = np.array([False, False, True])
    _, without = solved("nonnegative_lasso", W[:2], y[:2], number=lam)
    _, within = solved("nonnegative_lasso", W, y, off=off, number=lam)
    return without, within


@app.function
def frame(lam: float) -> Frame:
    """Both answers, and their paths, over the wedge of the off row."""
    without, within = answers(lam)
    t = np.linspace(0, 2, 81)
    figure, (axes,) = canvas(height=4.8)
    plane(axes, (-0.15, 2.5), (-0.15, 1.75))
    axes.fill_between([0, 1.75], [0, 1.75], 1.75, color=GREEN, alpha=0.13, lw=0, label="allowed: x ≥ 0 and x₁ ≤ x₂")
    lesson.levels(axes, lambda a, b: 0.5 * (a - 2) ** 2 + 0.5 * (b - 1) ** 2 + lam * (a + b))
    axes.plot(np.maximum(2 - t, 0), np.maximum(1 - t, 0), color=ORANGE, ls="--", label="path without the off row")
    axes.plot(np.maximum(1.5 - t, 0), np.maximum(1.5 - t, 0), color=BLUE, label="path with it")
    axes.plot(*without, "s", color=ORANGE, ms=9, mec="white", label="answer without")
    axes.plot(*within, "o", color=BLUE, ms=9, mec="white", label="answer with")
    name_axes(axes, "x₁ (h)", "x₂ (h)", f"λ = {lam:g}; grey: levels of the objective")
    lesson.legend(figure, axes)
    numbers = {
        "without the off row": f"{pair(without)} h",
        "with the off row": f"{pair(within)} h",
        "off row broken without it by": f"{max(round(without[0] - without[1], 5), 0):.3g} signal",
        "multiplier μ of the off row": f"{max(2 - within[0] - lam, 0):.3g} signal",
    }
    alt = (
        f"Plane of x1 and x2 at lambda {lam:g}, with the wedge x1 <= x2 that the off row allows. "
        f"Without the off row the answer is {pair(without)}, with it {pair(within)}."
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
