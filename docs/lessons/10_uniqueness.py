"""Lesson 10: when an inverse is unique: spark, coherence, rank, and Theorem 1 at work and failing."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="10. When is it unique")

with app.setup:
    from functools import cache
    from itertools import combinations

    import cvxpy as cp
    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, ORANGE, PURPLE, Frame, Lesson, Slider, canvas, name_axes

    LESSON = Lesson(
        number=10,
        title="When is it unique: spark, coherence, rank, Theorem 1",
        text=r"""
        The **spark** of a matrix is the smallest number of columns that depend on each other. If $\|h\|_0 <
        \mathrm{spark}(W)/2$, no other $g$ that sparse has $W g = W h$: the difference of two would be a dependence that
        is too short. With **coherence** $\mu$, the largest cosine between columns, $\mathrm{spark} \ge 1 + 1/\mu$, and
        below $(1 + 1/\mu)/2$ even basis pursuit finds $h$. **Theorem 1** asks this of every hidden layer, and full column
        rank of the rows that are on in the first.

        *At work:* the upper panel draws $m \times 16$ matrices. Drag $m$: the two guarantees move (lines), and so does
        how often basis pursuit finds $h$ (bars). It goes on past the line of coherence, which is sufficient and seldom
        necessary; and it stops well before that of the spark: there $h$ is still the sparsest, but no longer the one of
        least sum. Unique is one thing, found another.

        *Failing:* take $W_0 = (-1, -1, 1)^\top$ and $W_1$ with columns $(1,0), (0,1), (1,1)$; spark 3. $z = 1$ gives $h =
        (0,0,1)$, so $\|h\|_0 = 1 < 3/2$ and every condition holds. Yet $z = -1$ gives $h = (1,1,0)$ and the **same** $y
        = (1,1)$. The theorem says unique *among latents that meet the conditions*, and nothing of others.
        """,
        equation=r"""
        \mu(W) = \max_{i \ne j} \frac{|w_i^{\top} w_j|}{\|w_i\|\,\|w_j\|} \quad (2)

        \| x_L \|_0 < \tfrac12 \mathrm{spark}(W_L),\ \ \| x_i \|_0 < \tfrac12 \mathrm{sub\text{-}spark}(W_i, \|
        x_{i+1} \|_0)\ \ \text{(Theorem 1)}
        """,
        source=(
            "Aberdam, Simon, Elad (2020), equation (2), definitions (4), (5) and Theorem 1; the bound by coherence: "
            "Donoho, Elad (2003)"
        ),
        statement="cvxinv/layers/basis_pursuit_l2.py:AbstractBasisPursuitL2.statement",
        slider=Slider("rows m", "", tuple(float(m) for m in range(3, 15)), 5),
        exercises=(
            r"""
            Add one output to the failing example that tells $z = 1$ from $z = -1$. What is the spark then, and what does
            the theorem say?
            """,
            r"""
            Give W two equal columns. What are spark and coherence, and what does basis pursuit answer for an $h$ on one
            of them? Which part of h is still unique?
            """,
        ),
        graded=("spark", "coherence"),
    )
    DRAWS = 30


@app.function
@cache
def matrix(m: int) -> np.ndarray:
    """m rows of 16 Gaussian columns; fewer rows are the first ones of more."""
    return np.random.default_rng(4).standard_normal((14, 16))[:m]


@app.function
def coherence(W: np.ndarray) -> float:
    """The largest cosine between two columns, equation (2)."""
    unit = W / np.linalg.norm(W, axis=0)
    return float((np.abs(unit.T @ unit) - np.eye(W.shape[1])).max())


@app.function
@cache
def spark(m: int) -> int:
    """The spark of `matrix(m)`: m + 1 if every m of its columns are independent, and then it is exact (to rounding)."""
    W = matrix(m)
    sets = np.array(list(combinations(range(16), m)))
    least = np.linalg.svd(W[:, sets].transpose(1, 0, 2), compute_uv=False)[:, -1].min()
    if least <= 1e-10:
        raise ValueError(
            f"expected {m} independent columns in every set, got a smallest singular value of {least:.1e}; draw anew"
        )
    return m + 1


@app.function
@cache
def recovered(m: int) -> np.ndarray:
    """How many of DRAWS sparse h of any sign basis pursuit finds, for 1 to 8 entries; one linear program for all of them."""
    W, draw = matrix(m), np.random.default_rng(9)
    true = np.zeros((16, 8 * DRAWS))
    for k in range(true.shape[1]):
        true[draw.permutation(16)[: k // DRAWS + 1], k] = draw.standard_normal(k // DRAWS + 1)
    H = cp.Variable(true.shape)
    cp.Problem(cp.Minimize(cp.sum(cp.abs(H))), [W @ H == W @ true]).solve(solver="CLARABEL")
    right = np.abs(H.value - true).max(axis=0) < 1e-4
    return right.reshape(8, DRAWS).sum(axis=1)


@app.function
def failing(z: np.ndarray) -> np.ndarray:
    """Outputs `(..., 2)` of the generator to which Theorem 1 applies at z = 1, and that has a second preimage."""
    h = np.maximum(np.asarray(z)[..., None] * np.array([-1.0, -1.0, 1.0]), 0)
    return h @ np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


@app.function
def frame(m: float) -> Frame:
    """How often h is found, with both guarantees; and the generator on which the theorem fails to exclude another latent."""
    W, counts = matrix(int(m)), recovered(int(m))
    mu, least = coherence(W), spark(int(m))
    figure, (rate, misfit) = canvas(2, height=6.0)
    rate.bar(range(1, 9), 100 * counts / DRAWS, color=BLUE, alpha=0.55, label=f"found by basis pursuit, of {DRAWS}")
    rate.axvline((1 + 1 / mu) / 2, color=ORANGE, ls="--", label="(1 + 1/μ)/2: found for sure below")
    rate.axvline(least / 2, color=GREEN, ls="-.", label="spark/2: unique below")
    rate.set_xlim(0.4, 8.6)
    rate.set_ylim(0, 105)
    name_axes(rate, "entries of h that are not 0", "found (%)", f"m = {m:g} rows, 16 columns")
    z = np.linspace(-2, 2, 161)
    misfit.plot(z, np.linalg.norm(failing(z) - 1, axis=-1), color=PURPLE, ls=":", label="misfit of the failing example")
    misfit.plot([1, -1], [0, 0], "o", color=PURPLE, ms=8)
    misfit.annotate("h = (0, 0, 1)", (1, 0), (0.62, 0.35), fontsize=9)
    misfit.annotate("h = (1, 1, 0)", (-1, 0), (-1.38, 0.35), fontsize=9)
    name_axes(misfit, "z (latent)", "|G(z) - y| (signal)", "two latents, one signal")
    lesson.legend(figure, rate, misfit)
    numbers = {
        "coherence μ": f"{mu:.3f}",
        "guarantee by coherence": f"fewer than {(1 + 1 / mu) / 2:.2f} entries",
        "spark": f"{least}",
        "guarantee by spark": f"fewer than {least / 2:.1f} entries",
        "found of 30 with 1 to 8 entries": ", ".join(str(c) for c in counts),
    }
    alt = (
        f"Bars: with {m:g} rows, of {DRAWS} vectors with 1 to 8 entries basis pursuit finds "
        f"{', '.join(str(c) for c in counts)}. Lines: the "
        f"guarantee by coherence at {(1 + 1 / mu) / 2:.2f}, by spark at {least / 2:.1f}. Below: a misfit with zeros "
        "at z = -1 and z = 1."
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
