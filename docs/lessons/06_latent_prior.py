"""Lesson 6: the latent problem, its Gaussian prior, and when an off row has a say."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="6. The latent problem and its prior")

with app.setup:
    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, ORANGE, PURPLE, Frame, Lesson, Slider, canvas, name_axes, pair, plane, solved

    LESSON = Lesson(
        number=6,
        title="The latent problem and its prior",
        text=r"""
        The last step down is the latent $z$ itself. It came out of no ReLU, so it has no sign and no l1 norm; it was drawn
        from a normal distribution, and equation (16) is its most probable value given noise of variance $\sigma^2$:
        $\gamma = \sigma^2 / \sigma_z^2$. Large $\gamma$ trusts the prior and draws $z$ to 0, small $\gamma$ trusts
        the rows.

        Here $W_S = \mathrm{diag}(2, 1)$, $y = (2, 2)$, and the off row says $z_1 - z_2 \le 0$. Without it, $z =
        \big(4/(4+\gamma),\ 2/(1+\gamma)\big)$: the second row is weaker and gives way first. The off row holds at
        $\gamma = 0$, and binds from $8 + 2\gamma = 4 + 4\gamma$, that is $\gamma = 2$, on. From there $z_1 = z_2 =
        6/(5 + 2\gamma)$.

        Drag $\gamma$ past 2 and watch the path meet the edge: what was cut says something only where the rest leaves it
        open.
        """,
        equation=r"""
        \min_{z}\ \tfrac12 \| x_1^{S} - W_0^{S} z \|_2^2 + \tfrac{\gamma}{2} \| z \|_2^2 \quad \text{subject to} \quad
        W_0^{S^c} z \le 0 \qquad (16)
        """,
        source="Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted? (2020), equation (16)",
        statement="cvxinv/layers/gaussian_latent.py:GaussianLatent.statement",
        slider=Slider("prior precision γ", "signal²/latent²", tuple(float(f"{10 ** (k / 4):.4g}") for k in range(-8, 9)), 4),
        exercises=(
            r"""
            Verify $6/(5 + 2\gamma)$ by hand, and find the multiplier of the off row at $\gamma = 5$.
            """,
            r"""
            Remove the second row from S, so that it was not seen. Show that $z_2$ is now decided by the prior and the
            off row alone, for every $\gamma > 0$. What is it at $\gamma = 0$?
            """,
        ),
        graded=("gaussian_latent",),
    )
    W, Y, OFF = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, -1.0]]), np.array([2.0, 2.0, 0.0]), np.array([False, False, True])


@app.function
def answer(gamma: float) -> np.ndarray:
    """z of equation (16) at a prior precision."""
    return solved("gaussian_latent", W, Y, off=OFF, number=gamma)[1]


@app.function
def frame(gamma: float) -> Frame:
    """The plane of z with the path of the answers, and what each costs."""
    z = answer(gamma)
    path = np.geomspace(0.01, 100, 200)
    apart = np.array([4 / (4 + path), 2 / (1 + path)])
    along = np.where(path < 2, apart, 6 / (5 + 2 * path))
    figure, (where, cost) = canvas(1, 2, height=4.2)
    plane(where, (-0.2, 2.2), (-0.2, 2.2))
    where.fill_between([-0.2, 2.2], [-0.2, 2.2], 2.2, color=GREEN, alpha=0.13, lw=0, label="off row allows z₁ ≤ z₂")
    lesson.levels(where, lambda a, b: 0.5 * (2 * a - 2) ** 2 + 0.5 * (b - 2) ** 2 + gamma / 2 * (a * a + b * b))
    where.plot(*apart, color=ORANGE, ls="--", label="path without the off row")
    where.plot(*along, color=BLUE, label="path with it")
    where.plot(*z, "o", color=BLUE, ms=9, mec="white")
    name_axes(where, "z₁ (latent)", "z₂ (latent)", f"γ = {gamma:g}")
    misfit = np.hypot(2 * along[0] - 2, along[1] - 2)
    cost.semilogx(path, misfit, color=PURPLE, ls=":", label="misfit on S (signal)")
    cost.semilogx(path, np.hypot(*along), color=BLUE, label="|z| (latent)")
    reached = float(np.hypot(2 * z[0] - 2, z[1] - 2))
    cost.semilogx([gamma, gamma], [reached, np.linalg.norm(z)], "o", color=BLUE, ms=7, mec="white")
    cost.axvline(2, color=GREEN, lw=1, ls="-.", label="γ = 2: the off row binds")
    name_axes(cost, "γ (signal²/latent²)", "length", "price")
    lesson.legend(figure, where, cost)
    numbers = {
        "z": f"{pair(z, 4)} latent",
        "|z|": f"{np.linalg.norm(z):.4f} latent",
        "misfit on S": f"{reached:.4f} signal",
        "off row z₁ - z₂": f"{min(round(z[0] - z[1], 5), 0) + 0.0:.4f} signal",
    }
    state = "lies on the edge z1 = z2" if gamma > 2 else "lies inside of z1 <= z2"
    alt = f"Left: at gamma {gamma:g} the answer {pair(z)} {state}. Right: with gamma the misfit grows and |z| falls."
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
