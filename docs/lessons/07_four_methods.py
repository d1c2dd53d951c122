"""Lesson 7: ISTA, FISTA, ADMM and PDHG on one problem, judged by the gap."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="7. ISTA, FISTA, ADMM and PDHG on one picture")

with app.setup:
    from functools import cache

    import lesson
    import numpy as np
    from lesson import STYLES, Frame, Lesson, Slider, canvas, name_axes, solved

    LESSON = Lesson(
        number=7,
        title="ISTA, FISTA, ADMM and PDHG on one picture",
        text=r"""
        Four methods, one problem: 40 rows, 20 unknowns, no off rows. All need only products with $W$; ADMM factorises $I +
        W^\top W$ once as well. What each has reached is not its own word: at each step its $h$ is given the residual,
        shrunk to be dual feasible, and the **gap** of lesson 5 is drawn.

        The slider sets the conditioning $\kappa$ of $W^\top W$ (largest over smallest eigenvalue). ISTA, with steps
        $1/\|W\|^2$, needs up to some $\kappa$ steps for each digit. FISTA adds momentum and needs up to some
        $\sqrt\kappa$, with ripples where its momentum overshoots. ADMM splits off $v = W h$ and PDHG goes through the
        dual; how they fare depends on the balance of their two steps, here the plainest, $\rho = 0.3$ and equal steps,
        with which PDHG at $\kappa = 100$ all but repeats ISTA.

        At $\kappa = 1$ ISTA is done at once, at $10^4$ hardly begun. None of this is a law: methods are compared on
        *your* problem, by a gap.
        """,
        equation=r"""
        h^{+} = \big( v - \tfrac1L W^{\top}(W v - y) - \tfrac{\lambda}{L} \big)_+

        P(h_k) - P^\star \le \frac{L \| h_0 - h^\star \|^2}{2 k} \ \text{(ISTA)}, \quad \frac{2 L \| h_0 - h^\star
        \|^2}{(k+1)^2} \ \text{(FISTA)}
        """,
        source=(
            "the problem: Aberdam, Simon, Elad (2020), equation (9); the two rates: Beck, Teboulle (2009), recalled "
            "and not read again here, and held at every step in the tests of these lessons"
        ),
        statement="cvxinv/layers/nonnegative_lasso.py:NonnegativeLasso.statement",
        slider=Slider("conditioning κ of W'W", "", tuple(float(f"{10 ** (k / 3):.3g}") for k in range(0, 13)), 6),
        exercises=(
            r"""
            Restart FISTA's momentum whenever the last step points uphill, $(v - h^{+})^\top (h^{+} - h) > 0$. What
            happens to the ripples?
            """,
            r"""
            Multiply $\rho$ of ADMM by 10 and by 0.1 at $\kappa = 1000$. Which wins, and would it win at $\kappa = 10$?
            Then multiply W by 100: which $\rho$ wins now?
            """,
        ),
        graded=("ista_step", "fista_steps", "admm_step", "pdhg_step", "beat_fista"),
    )
    COUNT = 1000


@app.function
@cache
def data(kappa: float) -> tuple[np.ndarray, np.ndarray, float]:
    """W with eigenvalues of W'W from 1 down to 1/kappa, y, lam; all drawn once."""
    draw = np.random.default_rng(5)
    U, _ = np.linalg.qr(draw.standard_normal((40, 20)))
    V, _ = np.linalg.qr(draw.standard_normal((20, 20)))
    W = U * np.geomspace(1, kappa**-0.5, 20) @ V.T
    h = np.maximum(draw.standard_normal(20), 0)
    y = W @ h + 0.01 * draw.standard_normal(40)
    return W, y, float(0.01 * (W.T @ y).max())


@app.function
def gap(W: np.ndarray, y: np.ndarray, lam: float, h: np.ndarray) -> float:
    """Objective of h >= 0 less the bound that its residual gives when it is shrunk to W'theta <= lam; signal^2."""
    r = y - W @ h
    most = (W.T @ r).max()
    s = min(max(y @ r / (r @ r), 0), lam / most if most > 0 else np.inf)
    return float(0.5 * r @ r + lam * h.sum() - s * (y @ r) + 0.5 * s * s * (r @ r))


@app.function
def methods(W: np.ndarray, y: np.ndarray, lam: float, count: int) -> dict[str, list[np.ndarray]]:
    """The h of each method after 0, 1, ..., count steps from 0."""
    n, L = W.shape[1], float(np.linalg.norm(W, 2) ** 2)
    found = {name: [np.zeros(n)] for name in ("ISTA", "FISTA", "ADMM", "PDHG")}
    proximal = lambda v: np.maximum(v - (W.T @ (W @ v - y) + lam) / L, 0)  # noqa: E731
    for _ in range(count):
        found["ISTA"].append(proximal(found["ISTA"][-1]))
    h, v, t = np.zeros(n), np.zeros(n), 1.0
    for _ in range(count):
        new, ahead = proximal(v), (1 + np.sqrt(1 + 4 * t * t)) / 2
        h, v, t = new, new + (t - 1) / ahead * (new - h), ahead
        found["FISTA"].append(h)
    # graph form: (h, v) on the graph v = W h, g and F by their proximal maps, one factorisation
    rho, factor = 0.3, np.linalg.inv(np.eye(n) + W.T @ W)
    h, v, s, q = np.zeros(n), np.zeros(len(y)), np.zeros(n), np.zeros(len(y))
    for _ in range(count):
        near, out = np.maximum(h - s - lam / rho, 0), (y + rho * (v - q)) / (1 + rho)
        h = factor @ (near + s + W.T @ (out + q))
        v = W @ h
        s, q = s + near - h, q + out - v
        found["ADMM"].append(near)
    tau = sigma = 0.99 / np.sqrt(L)
    h, p = np.zeros(n), np.zeros(len(y))
    for _ in range(count):
        new = np.maximum(h - tau * (W.T @ p + lam), 0)
        p = (p + sigma * (W @ (2 * new - h) - y)) / (1 + sigma)
        h = new
        found["PDHG"].append(h)
    return found


@app.function
@cache
def gaps(kappa: float) -> dict[str, np.ndarray]:
    """Relative gap of each method at each step: the gap over the objective at 0."""
    W, y, lam = data(kappa)
    made = methods(W, y, lam, COUNT)
    return {name: np.array([gap(W, y, lam, h) for h in every]) / (0.5 * y @ y) for name, every in made.items()}


@app.function
def frame(kappa: float) -> Frame:
    """Gap against steps of the four methods."""
    figure, (axes,) = canvas(height=4.6)
    numbers, said = {}, []
    for (name, value), (color, style) in zip(gaps(kappa).items(), STYLES, strict=True):
        best = np.maximum(np.minimum.accumulate(value), 1e-16)
        axes.loglog(np.arange(1, COUNT + 1), np.maximum(value[1:], 1e-16), color=color, ls=style, label=name)
        reached = np.flatnonzero(best <= 1e-6)
        numbers[f"{name} to a gap of 1e-6"] = f"{reached[0]} steps" if len(reached) else f"not in {COUNT} steps"
        said.append(f"{name} {'needs ' + str(reached[0]) if len(reached) else 'does not reach it in ' + str(COUNT)} steps")
    axes.set_ylim(1e-12, 2)
    axes.axhline(1e-6, color="black", lw=0.8)
    name_axes(axes, "steps", "gap / objective at h = 0", f"κ = {kappa:g}; thin line: 1e-6")
    lesson.legend(figure, axes, columns=4)
    W, y, lam = data(kappa)
    numbers["optimum by Clarabel"] = f"{solved('nonnegative_lasso', W, y, number=lam)[0]:.6f} signal²"
    return Frame(figure, f"Gaps fall with steps at condition {kappa:g}. To a gap of 1e-6 {', '.join(said)}.", numbers)


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
