"""Lesson 8: two layers, and why the error of one ruins the next."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="8. Two layers: why the error of one ruins the next")

with app.setup:
    from functools import cache

    import lesson
    import numpy as np
    from lesson import BLUE, GREY, ORANGE, PURPLE, Frame, Lesson, Slider, canvas, name_axes, solved, stops

    LESSON = Lesson(
        number=8,
        title="Two layers: why the error of one ruins the next",
        text=r"""
        A generator with one hidden layer: $h = \mathrm{ReLU}(W_0 z)$, $y = W_1 h + e$; 3 latents, 24 units, 30 outputs. A
        layered method first finds $h$ from $y$ by (9), then takes **for granted** which units are on, and finds $z$ from
        them by (16).

        Two things go wrong on the way. The values of $h$ carry an error, which $W_0$ passes on divided by its smallest
        singular value on the units that are on. Worse, a unit that is wrongly called *off* turns a row into $w^\top z
        \le 0$, which is false of the true $z$ and cuts it away (there are no biases here, and a few false rows of this
        kind leave nothing but $z = 0$); one wrongly called *on* asks for $w^\top z = h$ where the truth says only $\le
        0$.

        The **oracle** knows which units are on and solves both layers by least squares: what noise alone costs.
        **Refined** takes the layered $z$ as a start and fits $y$ end to end by Gauss-Newton steps. Drag the noise: the
        layered $z$ leaves the oracle at once, and the end-to-end fit brings it back.
        """,
        equation=r"""
        \| \hat z - z \|_2 \ \le\ \frac{\epsilon_1}{\sqrt{\varphi}}

        \varphi = \lambda_{\min}\big( (W_0^{S})^{\top} W_0^{S} \big) \qquad (7)
        """,
        source=(
            "Aberdam, Simon, Elad (2020), equation (7) of Theorem 2 as derived from its appendix C: eps_1 is the error "
            "of the hidden layer; the theorem grants it the right units"
        ),
        statement="cvxinv/layers/gaussian_latent.py:GaussianLatent.statement",
        slider=Slider("noise |e| / |y|", "", stops(0, 0.15, 16), 3),
        exercises=(
            r"""
            Count at which noise the first unit is called off wrongly, and look at what the layered error does there.
            """,
            r"""
            Give (16) only the units that were found on, and drop its off rows. Does the layered $z$ get better or worse,
            and what does that say about inequalities built on a guess?
            """,
        ),
        graded=("layered_programs", "multi_layer_pursuit"),
    )


@app.function
@cache
def generator() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """W_0, W_1, the true latent, and a direction of the noise of length 1."""
    draw = np.random.default_rng(11)
    W0, W1 = draw.standard_normal((24, 3)) / np.sqrt(3), draw.standard_normal((30, 24)) / np.sqrt(30)
    z, e = draw.standard_normal(3), draw.standard_normal(30)
    return W0, W1, z, e / np.linalg.norm(e)


@app.function
@cache
def inverted(noise: float) -> dict[str, np.ndarray]:
    """h and z by layers, z by the oracle, z refined from the layered one, and the truth."""
    W0, W1, z, e = generator()
    h = np.maximum(W0 @ z, 0)
    y = W1 @ h
    y = y + noise * np.linalg.norm(y) * e
    lam = 0.3 * noise * np.linalg.norm(y)
    _, found = solved("nonnegative_lasso", W1, y, number=lam)
    on = found > 1e-4 * found.max()
    found = np.where(on, found, 0)
    _, layered = solved("gaussian_latent", W0, found, off=~on, number=1e-8)
    true = h > 0
    values = np.linalg.lstsq(W1[:, true], y, rcond=None)[0]
    oracle = np.linalg.lstsq(W0[true], values, rcond=None)[0]
    return {"h": found, "true h": h, "layered": layered, "oracle": oracle, "refined": refined(layered, y), "true z": z}


@app.function
def refined(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The latent after damped Gauss-Newton (Levenberg-Marquardt) steps on |W_1 relu(W_0 z) - y|^2."""
    W0, W1, *_ = generator()
    damping, misfit = 1e-2, lambda z: np.sum((W1 @ np.maximum(W0 @ z, 0) - y) ** 2)
    for _ in range(60):
        J = W1 @ (W0 * (W0 @ z > 0)[:, None])
        step = np.linalg.solve(
            J.T @ J + (damping * np.trace(J.T @ J) / 3 + 1e-14) * np.eye(3), J.T @ (y - W1 @ np.maximum(W0 @ z, 0))
        )
        better = misfit(z + step) < misfit(z)
        z, damping = (z + step, damping / 5) if better else (z, damping * 4)
    return z


@app.function
def error(found: np.ndarray, true: np.ndarray) -> float:
    """Relative error."""
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


@app.function
def frame(noise: float) -> Frame:
    """The hidden layer, true and found; below, errors against noise."""
    now, units = inverted(noise), np.arange(1, 25)
    on, true = now["h"] > 0, now["true h"] > 0
    figure, (layer, errors) = canvas(2, height=5.8)
    layer.vlines(units, 0, now["true h"], color=GREY, lw=1)
    layer.plot(units, now["true h"], "o", color=BLUE, ms=7, mfc="none", label="hidden layer, true")
    layer.plot(units, now["h"], "x", color=ORANGE, ms=6, label="hidden layer, found")
    wrong = units[on != true]
    layer.plot(
        wrong, np.maximum(now["h"], now["true h"])[on != true] + 0.12, "v", color=PURPLE, ms=6, label="wrongly on or off"
    )
    layer.set_ylim(-0.1, 2.6)
    name_axes(layer, "unit", "h (signal)", f"noise {noise:.0%} of the signal")
    every, of = LESSON.slider.stops, {}
    for key, true_key in (("h", "true h"), ("layered", "true z"), ("refined", "true z"), ("oracle", "true z")):
        of[key] = [error(inverted(s)[key], inverted(s)[true_key]) for s in every]
    for (key, label), color, style in zip(
        (("h", "hidden layer"), ("layered", "z by layers"), ("oracle", "z of the oracle"), ("refined", "z refined")),
        (GREY, ORANGE, BLUE, PURPLE),
        ("-.", "--", "-", ":"),
        strict=True,
    ):
        errors.plot(every, of[key], color=color, ls=style, label=label)
        errors.plot(noise, of[key][every.index(noise)], "o", color=color, ms=6)
    name_axes(errors, "noise |e| / |y|", "relative error")
    lesson.legend(figure, layer, errors)
    W0, *_ = generator()
    least = float(np.linalg.svd(W0[true], compute_uv=False)[-1])
    at = {key: value[every.index(noise)] for key, value in of.items()}
    numbers = {
        "wrongly off": f"{int((true & ~on).sum())} units",
        "wrongly on": f"{int((on & ~true).sum())} units",
        "error of h": f"{at['h']:.2%}",
        "error of z by layers": f"{at['layered']:.2%}",
        "refined": f"{at['refined']:.2%}",
        "oracle": f"{at['oracle']:.2%}",
        "smallest singular value on S": f"{least:.3f} signal/latent",
    }
    alt = (
        f"Top: 24 hidden units, true and found, at {noise:.0%} noise; {len(wrong)} are wrongly on or off. Bottom: "
        "relative errors grow with "
        f"noise; here {at['layered']:.1%} by layers, {at['refined']:.1%} refined, {at['oracle']:.1%} for the oracle."
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
