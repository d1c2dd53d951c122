"""Lesson 9: pieces, a path of Levenberg-Marquardt and a second preimage of a generator with two latents."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="9. The geometry of a generator with two latents")

with app.setup:
    from functools import cache

    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, GREY, ORANGE, PURPLE, Frame, Lesson, Slider, canvas, name_axes, pair, plane, stops

    LESSON = Lesson(
        number=9,
        title="The geometry of a generator with two latents",
        text=r"""
        A ReLU net is affine on **pieces**. Here four units with $u = (z_1,\ -z_1,\ z_1 + z_2 - 1,\ z_2 - 2)$ make three
        outputs,
        $$G(z) = \big( |z_1|,\ \ z_2 + 0.3\,(z_1 + z_2 - 1)_+,\ \ 0.5\,(z_2 - 2)_+ \big),$$
        and the lines $u_i = 0$ cut the plane into the pieces (tinted). On one piece, with its phases frozen, the problem
        below is the least squares problem (16) with $\gamma = 0$ and the off rows as its walls; across them it is not
        convex.

        The signal is that of $z = (1, 0.5)$: $y = (1,\ 0.65,\ 0)$. By hand there is a **second preimage**: with $z_1 =
        -1$ the third unit is off up to $z_2 = 2$, so $z_2 = 0.65$ does it. No method can know which of the two was meant.

        Drag the start around. The path of **Levenberg-Marquardt** (a Gauss-Newton step on the current piece, damped until
        the misfit falls) ends at whichever lies on its side of $z_1 = 0$, in a handful of steps.
        """,
        equation=r"""
        \min_{z}\ \| G(z) - y \|_2^2 \quad (1)

        \big( J^{\top} J + \mu s I \big)\, d = J^{\top} \big( y - G(z) \big), \quad z \leftarrow z + d
        """,
        source=(
            "Aberdam, Simon, Elad (2020), equation (1), read as its least-squares form; the step: Levenberg and "
            "Marquardt's, on the affine piece of z"
        ),
        statement="cvxinv/layers/gaussian_latent.py:GaussianLatent.statement",
        slider=Slider("direction of the start", "degrees", stops(0, 345, 24), 5),
        exercises=(
            r"""
            Start exactly on $z_1 = 0$. What is the derivative of $|z_1|$ there for a net that takes ReLU'(0) = 0, and
            where does the path end?
            """,
            r"""
            Add a fourth output that makes the second preimage impossible, as simple as you can. How many outputs would a
            generator of two latents need, if all pieces were in general position?
            """,
        ),
        graded=("gauss_newton_step", "second_preimage"),
    )
    V, B = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), np.array([0.0, 0.0, -1.0, -2.0])
    Y = np.array([1.0, 0.65, 0.0])


@app.function
def output(z: np.ndarray) -> np.ndarray:
    """G at latents `(..., 2)`."""
    h = np.maximum(z @ V.T + B, 0)
    return np.stack([h[..., 0] + h[..., 1], z[..., 1] + 0.3 * h[..., 2], 0.5 * h[..., 3]], -1)


@app.function
def jacobian(z: np.ndarray) -> np.ndarray:
    """The derivative of G on the piece of one z."""
    on = (V @ z + B > 0).astype(float)
    rows = V * on[:, None]
    return np.array([rows[0] + rows[1], np.array([0.0, 1.0]) + 0.3 * rows[2], 0.5 * rows[3]])


@app.function
def path(start: np.ndarray) -> np.ndarray:
    """Latents that Levenberg-Marquardt accepts, from a start on."""
    z, damping, taken = start, 0.1, [start]
    for _ in range(60):
        J, r = jacobian(z), Y - output(z)
        step = np.linalg.solve(J.T @ J + damping * max(np.trace(J.T @ J) / 2, 1e-9) * np.eye(2), J.T @ r)
        if np.sum((Y - output(z + step)) ** 2) < np.sum(r**2):
            z, damping = z + step, damping / 5
            taken.append(z)
        else:
            damping *= 4
    return np.array(taken)


@app.function
@cache
def misfits() -> np.ndarray:
    """The misfit on a grid over the picture."""
    a, b = np.meshgrid(np.linspace(-3, 3, 61), np.linspace(-2, 3.4, 55))
    return np.linalg.norm(output(np.stack([a, b], -1)) - Y, axis=-1)


@app.function
def side(polygon: np.ndarray, row: np.ndarray, offset: float) -> np.ndarray:
    """The part of a polygon where row'z + offset >= 0, that is, where a unit is on."""
    kept = []
    for here, there in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        a, b = row @ here + offset, row @ there + offset
        kept += [here] if a >= 0 else []
        kept += [here + a / (a - b) * (there - here)] if a * b < 0 else []
    return np.array(kept)


@app.function
def frame(angle: float) -> Frame:
    """The pieces, the levels of the misfit, both preimages and the path from one start."""
    start = np.array([2.6 * np.cos(np.radians(angle)), 0.6 + 2.4 * np.sin(np.radians(angle))])
    taken = path(start)
    end = taken[-1]
    misfit = float(np.linalg.norm(output(end) - Y))
    figure, (axes,) = canvas(height=5.6)
    plane(axes, (-3, 3), (-2, 3.4))
    square = np.array([[-3.0, -2.0], [3.0, -2.0], [3.0, 3.4], [-3.0, 3.4]])
    for (row, offset), tint in zip(zip(V, B, strict=True), (GREEN, PURPLE, BLUE, ORANGE), strict=True):
        axes.fill(*side(square, row, offset).T, color=tint, alpha=0.1, lw=0)
    for row, offset in zip(V[1:], B[1:], strict=True):
        line = np.linspace(-4, 4, 2)
        along = (line, (-offset - row[0] * line) / row[1]) if row[1] else (np.zeros(2), line)
        axes.plot(*along, color=BLUE, lw=1, ls="-.", label="walls of pieces (uᵢ = 0)" if row[1] and row[0] else None)
    size = misfits()
    axes.contour(size, levels=(0.1, 0.3, 0.6, 1, 1.5, 2, 3), extent=(-3, 3, -2, 3.4), colors=GREY, linewidths=0.6)
    axes.plot(1, 0.5, "*", color=GREEN, ms=14, mec="black", label="z that made y")
    axes.plot(-1, 0.65, "P", color=PURPLE, ms=10, mec="black", label="second preimage")
    axes.plot(*taken.T, "o-", color=ORANGE, ms=4, lw=1.4, label="Levenberg-Marquardt")
    axes.plot(*start, "s", color=ORANGE, ms=9, mec="black", label="start")
    name_axes(axes, "z₁ (latent)", "z₂ (latent)", "tints: where a unit is on; grey: levels of the misfit")
    lesson.legend(figure, axes, columns=3)
    which = "neither preimage"
    for name, z in (("the z that made y", (1, 0.5)), ("the second preimage", (-1, 0.65))):
        which = name if np.linalg.norm(end - z) < 1e-6 else which
    passed = len({tuple(V @ z + B > 0) for z in taken})
    numbers = {
        "ends at": f"{pair(end)} latent",
        "which is": which,
        "misfit |G(z) - y|": f"{misfit:.0e} signal" if misfit > 1e-9 else "below 1e-9 signal",
        "steps accepted": f"{len(taken) - 1}",
        "pieces stepped on": f"{passed}",
    }
    alt = (
        f"Plane of both latents, tinted by piece, with levels of the misfit. From a start at {angle:g} degrees the "
        "path takes "
        f"{len(taken) - 1} steps and ends at {pair(end)}, {which}."
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
