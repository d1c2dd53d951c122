"""Lesson 3: a bound on the length of the noise against a bound on each of its entries."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="3. Bounds on the noise: l2 against l_inf")

with app.setup:
    from functools import cache

    import lesson
    import numpy as np
    from lesson import BLUE, GREY, ORANGE, Frame, Lesson, Slider, canvas, name_axes, pair, plane, solved, stops

    LESSON = Lesson(
        number=3,
        title="Bounds on the noise: l2 against l∞",
        text=r"""
        Noise is allowed for in two ways: all rows together may miss by $\varepsilon$ in length (an l2 bound), or each row
        by $\varepsilon$ on its own (l∞). Layered pursuits use the former, the linear programs of Lei et al. the latter.

        Rows are $3 h_1$ and $4 h_2$, $y = (10, 11)$. At $\varepsilon = 5$ by hand: under the **l2** bound the misfit is
        spent along $(1/3, 1/4)$, where a unit of it saves most, so it is $(4, 3)$ and $h = (2, 2)$ with value 4. Under the
        **l∞** bound each row spends all of 5: $h = (5/3, 3/2)$ with value 19/6.

        The same $\varepsilon$ is not the same noise. The square around $y$ contains the disc, and the disc of radius
        $\sqrt2\, \varepsilon$ contains the square, so that the values are ordered: $v_2(\sqrt2\, \varepsilon) \le
        v_\infty(\varepsilon) \le v_2(\varepsilon)$. The disc is round and has one answer; on the square's flat sides
        several may tie.
        """,
        equation=r"""
        \min_h \| h \|_1 \ \ \text{s.t.}\ \ \| W h - y \|_2 \le \varepsilon \quad (\mathrm{BP}_\sigma)

        \min_h \| h \|_1 \ \ \text{s.t.}\ \ | W h - y |_i \le \varepsilon \ \text{ for every row } i
        """,
        source=(
            "van den Berg, Friedlander (2008), problem (BP_sigma); Lei, Jalal, Dhillon, Dimakis, Inverting Deep "
            "Generative Models, One Layer at a Time (2019), the rows of Algorithm 1"
        ),
        statement="cvxinv/layers/interval_basis_pursuit.py:AbstractBasisPursuitLinf.statement",
        slider=Slider("bound ε", "signal", stops(0.5, 10, 20), 9),
        exercises=(
            r"""
            From which $\varepsilon$ on is $h = 0$ allowed by each of the two bounds? (One is $\sqrt{221}$.)
            """,
            r"""
            Write the dual vector of the l∞ answer at $\varepsilon = 5$ down by hand, and check that $y^\top \theta -
            \varepsilon \|\theta\|_1$ is 19/6.
            """,
        ),
        graded=("basis_pursuit_linf", "lagrangian"),
    )
    W, Y = np.diag([3.0, 4.0]), np.array([10.0, 11.0])


@app.function
@cache
def answers(eps: float) -> tuple[np.ndarray, np.ndarray]:
    """h under the l2 bound and under the l_inf bound."""
    return solved("basis_pursuit_l2", W, Y, number=eps)[1], solved("basis_pursuit_linf", W, Y, number=eps)[1]


@app.function
def frame(eps: float) -> Frame:
    """Both sets of allowed h and both answers, and the values at every stop."""
    two, most = answers(eps)
    figure, (where, value) = canvas(1, 2, height=4.1)
    plane(where, (-0.5, 6.9), (-0.5, 6.9))
    turn = np.linspace(0, 2 * np.pi, 121)
    where.plot((Y[0] + eps * np.cos(turn)) / 3, (Y[1] + eps * np.sin(turn)) / 4, color=BLUE, label="l2: allowed within")
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    where.plot(*((Y + eps * square) / np.diag(W)).T, color=ORANGE, ls="--", label="l∞: allowed within")
    for h, color, mark in ((two, BLUE, "o"), (most, ORANGE, "s")):
        size = np.abs(h).sum()
        where.plot([0, size], [size, 0], color=GREY, lw=0.8)
        where.plot(*h, mark, color=color, ms=8, mec="white")
    name_axes(where, "h₁ (h)", "h₂ (h)", "grey: |h|₁ as answered")
    every = [[np.abs(h).sum() for h in answers(s)] for s in LESSON.slider.stops]
    value.plot(LESSON.slider.stops, [v[0] for v in every], color=BLUE, label="value under l2")
    value.plot(LESSON.slider.stops, [v[1] for v in every], color=ORANGE, ls="--", label="value under l∞")
    value.plot(eps, np.abs(two).sum(), "o", color=BLUE, ms=8)
    value.plot(eps, np.abs(most).sum(), "s", color=ORANGE, ms=8)
    name_axes(value, "ε (signal)", "|h|₁ (h)", "values")
    lesson.legend(figure, where, value)
    numbers = {
        "h under l2": pair(two),
        "h under l∞": pair(most),
        "value under l2": f"{np.abs(two).sum():.4f} h",
        "value under l∞": f"{np.abs(most).sum():.4f} h",
    }
    alt = (
        f"Left: an ellipse and a rectangle around (10/3, 11/4) with the points of least l1 norm {pair(two)} and "
        f"{pair(most)} at a bound of "
        f"{eps:g}. Right: both values fall with the bound, the l-infinity value below the l2 value."
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
