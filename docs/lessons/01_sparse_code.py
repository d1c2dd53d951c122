"""Lesson 1: what a ReLU lets out is a sparse code, and basis pursuit finds it."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="1. One ReLU layer is a sparse code")

with app.setup:
    from functools import cache
    from math import erf, sqrt

    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, ORANGE, Frame, Lesson, Slider, canvas, name_axes, solved, stops

    LESSON = Lesson(
        number=1,
        title="One ReLU layer is a sparse code",
        text=r"""
        A generator is a chain of layers $x_{i+1} = \mathrm{ReLU}(W_i x_i + b_i)$. What a ReLU lets out is nonnegative,
        and zero wherever it cuts: a **sparse code**. The next layer multiplies it by a matrix $W$, and inverting that
        layer means finding a sparse $x$ with $W x = y$, even where $W$ has fewer rows than columns.

        Here a layer of 40 units has pre-activations with unit spread, and the slider moves its bias $b$. About
        $40\,\Phi(b)$ units stay on ($\Phi$: normal distribution function). The next layer keeps only 20 numbers $y = W
        x$ of the 40. Basis pursuit, the smallest sum of a nonnegative $x$ that gives $y$, finds $x$ exactly as long as few
        units are on, and something else when many are.

        Drag $b$ down until circles and crosses fall onto each other. Fewer than 21/2 units on make $x$ the sparsest of all
        solutions (any 20 columns of $W$ are independent); that the *smallest sum* finds it is another matter, and the
        lower panel shows from where on it does.
        """,
        equation=r"""
        x = \phi\big( W_L\, \mathrm{ReLU}( W_{L-1} \cdots \mathrm{ReLU}( W_0 z ) \cdots ) \big) \quad (3)

        \min_{x \ge 0}\ \mathbf{1}^{\top} x \quad \text{subject to} \quad W x = y
        """,
        source=(
            "Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted? (2020), equation (3); the "
            "pursuit: van den Berg, Friedlander (2008), (BP_sigma) with sigma = 0 and x >= 0"
        ),
        statement="cvxinv/layers/basis_pursuit_l2.py:AbstractBasisPursuitL2.statement",
        slider=Slider("bias b", "", stops(1, -1.25, 10), 3),
        exercises=(
            r"""
            Count: at $b = 0$ about half of the units are on. How many rows must $W$ have at least, so that *any* method
            can find $x$ from $y$ and from the knowledge of which units are on?
            """,
            r"""
            Replace $x \ge 0$ and $\mathbf{1}^\top x$ by $\|x\|_1$ with $x$ of any sign. Find the bias from which on the
            answer is exact again. Why is it lower?
            """,
        ),
        graded=("nonnegative_basis_pursuit_l2",),
    )


@app.function
@cache
def layer() -> tuple[np.ndarray, np.ndarray]:
    """Pre-activations of 40 units without their bias, and the next layer's 20 rows."""
    draw = np.random.default_rng(3)
    return draw.standard_normal(40), draw.standard_normal((20, 40)) / sqrt(20)


@app.function
@cache
def code(b: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The layer's output at a bias, what basis pursuit makes of its product with W, and the relative error of that."""
    u, W = layer()
    x = np.maximum(u + b, 0)
    _, found = solved("nonnegative_basis_pursuit_l2", W, W @ x, number=0.0)
    return x, found, float(np.linalg.norm(found - x) / np.linalg.norm(x))


@app.function
def frame(b: float) -> Frame:
    """The code and what was found, and below the error at every stop."""
    x, found, error = code(b)
    on, expected = int((x > 0).sum()), 20 * (1 + erf(b / sqrt(2)))
    figure, (above, below) = canvas(2, height=5.4)
    unit = np.arange(1, 41)
    above.vlines(unit, 0, x, color=BLUE, lw=1)
    above.plot(unit, x, "o", color=BLUE, ms=7, mfc="none", label="x, the layer's output")
    above.plot(unit, found, "x", color=ORANGE, ms=6, label="found from 20 numbers")
    name_axes(above, "unit", "output (signal)", f"bias {b:g}: {on} of 40 units are on")
    every = [code(s) for s in LESSON.slider.stops]
    counts, errors = [int((x > 0).sum()) for x, *_ in every], [max(e, 1e-12) for *_, e in every]
    below.semilogy(counts, errors, "s-", color=GREEN, ms=4, label="relative error at every stop")
    below.semilogy(on, max(error, 1e-12), "D", color=ORANGE, ms=9, label="this stop")
    name_axes(below, "units that are on (of 40)", "error of x, relative")
    lesson.legend(figure, above, below)
    numbers = {
        "units on": f"{on} of 40",
        "expected 40 Φ(b)": f"{expected:.1f} units",
        "relative error of x": f"{error:.1e}" if error > 1e-6 else "below 1e-6",
    }
    same = "The pursuit finds them all." if error < 1e-6 else f"The pursuit misses them by {error:.0%}."
    return Frame(
        figure,
        f"Stems of 40 outputs at bias {b:g}; {on} are above zero. {same} Below: that error against units on.",
        numbers,
    )


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
