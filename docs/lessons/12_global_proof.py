"""Lesson 12: a global proof on a net with one latent: relaxations, bounds and cuts."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="12. Global proof on a net small enough to see")

with app.setup:
    from functools import cache

    import cvxpy as cp
    import lesson
    import numpy as np
    from lesson import BLUE, GREEN, GREY, ORANGE, PURPLE, Frame, Lesson, Slider, canvas, name_axes

    LESSON = Lesson(
        number=12,
        title="Global proof on a net small enough to see",
        text=r"""
        One latent, ten hidden units, two outputs: the misfit $f(z) = |G(z) - y|^2$ is drawn whole, with its three valleys.
        A local method ends in any of them. How can one be **sure** of the lowest, without drawing?

        Cut the box into parts. On a part, each unit's pre-activation has limits $l \le u \le h$. Units with $l \ge 0$
        or $h \le 0$ are decided; for the others, $\mathrm{ReLU}(u)$ is replaced by the triangle around it: $x \ge 0$,
        $x \ge u$, $x \le h (u - l)/(h - l)$. What is left is **convex**, and its optimum is a lower bound of $f$ on the
        whole part.

        A part whose bound is above the best misfit met so far is closed for good. The part with the lowest bound is cut in
        two, and both halves get tighter triangles. When none is left below (1 - 1e-3) times the best, that best is proved:
        no $z$ in the box is lower by more than a thousandth (here on Clarabel's word; `ci.prove` makes a true bound of any
        multipliers). Drag through the relaxations.
        """,
        equation=r"""
        \min_{z \in [-3, 3]} \| G(z) - y \|_2^2 \quad (1)

        \text{exactly:}\ \ x \ge 0,\ \ x \ge u,\ \ x \le u - l(1 - b),\ \ x \le h\, b,\ \ b \in \{0, 1\}
        """,
        source=(
            "Aberdam, Simon, Elad (2020), equation (1), as least squares; the exact form with a binary unknown for "
            "each unit: Tjeng, Xiao, Tedrake (2019), section 4.1, as in the file below; with b anywhere in [0, 1] it "
            "is the triangle"
        ),
        statement="cvxinv/exact/mixed_integer.py:_layer",
        slider=Slider("relaxations solved", "", tuple(float(k) for k in range(1, 16)), 4),
        exercises=(
            r"""
            Eliminate b from the exact form for b in [0, 1] and find the triangle. Which of its three sides is lost?
            """,
            r"""
            Replace "cut the part in two at its middle" by "cut where the pre-activation of an undecided unit is zero".
            How many relaxations are needed now, and why at most two for each unit and one more?
            """,
        ),
        graded=("global_bound",),
    )
    W0 = np.array([-1.0, 1.0, -1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0])
    B0 = np.array([-2.7, 2.3, -1.7, -1.1, 0.2, 0.5, -1.1, -1.7, -2.0, -2.6])
    W1 = np.array(
        [[0.2, 0.5, 4.2, -2.6, 1.8, -0.6, -2.1, 0.0, 1.6, -0.9], [-1.2, 0.7, -0.1, -2.8, 2.6, -0.4, -2.9, -1.1, 0.2, -1.4]]
    )
    Y, LOW, HIGH, GAP = np.array([0.9, 0.8]), -3.0, 3.0, 1e-3


@app.function
def misfit(z: np.ndarray | float) -> np.ndarray:
    """f at latents of any shape, signal^2."""
    h = np.maximum(np.asarray(z)[..., None] * W0 + B0, 0)
    return np.sum((h @ W1.T - Y) ** 2, axis=-1)


@app.function
def bound(low: float, high: float) -> tuple[float, float]:
    """A lower bound of f on a part of the box, and where the relaxation has its optimum."""
    ends = np.array([low * W0 + B0, high * W0 + B0])
    l, h = ends.min(axis=0), ends.max(axis=0)
    z, x = cp.Variable(), cp.Variable(10)
    u = W0 * z + B0
    tied = [low <= z, z <= high, x >= 0, x >= u]
    slope = np.where(h <= 0, 0, np.where(l >= 0, 1, h / np.maximum(h - l, 1e-300)))
    tied += [x <= cp.multiply(slope, u - np.where(l >= 0, 0, l))]  # of units that are off: x <= 0
    problem = cp.Problem(cp.Minimize(cp.sum_squares(W1 @ x - Y)), tied)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return max(float(problem.value) - 1e-8, 0), float(z.value)


@app.function
@cache
def search() -> list[dict]:
    """After each relaxation: the parts with their bounds, and the best latent met; a new half has its parent's bound
    at first."""
    value, met = bound(LOW, HIGH)
    parts, best, log = [(LOW, HIGH, value)], met, []
    while True:
        f = float(misfit(best))
        log.append({"parts": list(parts), "best": best, "f": f, "bound": min(min(v for *_, v in parts), f)})
        low, high, value = min(parts, key=lambda part: part[2])
        if value >= (1 - GAP) * f or len(log) > 40:
            return log
        middle = (low + high) / 2
        parts.remove((low, high, value))
        left, met = bound(low, middle)
        parts += [(low, middle, left), (middle, high, value)]
        best = min((best, met, middle), key=misfit)
        log.append({"parts": list(parts), "best": best, "f": float(misfit(best)), "bound": min(v for *_, v in parts)})
        right, met = bound(middle, high)
        parts[-1] = (middle, high, right)
        best = min((best, met), key=misfit)


@app.function
def frame(solved: float) -> Frame:
    """The misfit, the bounds of all parts, and the best met."""
    log = search()
    step = min(int(solved), len(log)) - 1
    now = log[step]
    done = now["bound"] >= (1 - GAP) * now["f"]
    figure, (axes, bounds) = canvas(2, height=6.2)
    z = np.linspace(LOW, HIGH, 601)
    axes.plot(z, misfit(z), color=BLUE, label="f, the misfit")
    told = set()
    for low, high, value in now["parts"]:
        closed = value >= (1 - GAP) * now["f"]
        label = "bound, part closed" if closed else "bound, part open"
        axes.plot(
            [low, high],
            [value, value],
            color=GREY if closed else ORANGE,
            ls="-." if closed else "--",
            label=None if label in told else label,
        )
        axes.fill_between([low, high], 0, value, color=GREY if closed else ORANGE, alpha=0.12, lw=0)
        told.add(label)
    axes.axhline(now["f"], color=GREEN, lw=1, ls=":")
    axes.plot(now["best"], now["f"], "*", color=GREEN, ms=14, mec="black", label="best met")
    axes.set_ylim(-0.3, 8)
    name_axes(
        axes,
        "z (latent)",
        "|G(z) - y|² (signal²)",
        f"{len(now['parts'])} part{'s' * (len(now['parts']) > 1)}" + (": proved" if done else ""),
    )
    steps = range(1, len(log) + 1)
    bounds.plot(steps, [s["f"] for s in log], color=GREEN, ls=":", label="best met, step by step")
    bounds.plot(steps, [s["bound"] for s in log], color=PURPLE, label="lower bound, step by step")
    bounds.axvline(step + 1, color="black", lw=0.7, ls=(0, (2, 3)))
    name_axes(bounds, "relaxations solved", "misfit² (signal²)", "the proof closes")
    lesson.legend(figure, axes, bounds)
    numbers = {
        "best z met": f"{now['best']:.4f} latent",
        "its misfit": f"{now['f']:.6f} signal²",
        "no z in the box is below": f"{now['bound']:.6f} signal²",
        "parts": f"{len(now['parts'])}, {sum(v < (1 - GAP) * now['f'] for *_, v in now['parts'])} open",
        "proved to a thousandth": "yes" if done else "not yet",
    }
    alt = (
        f"The misfit over one latent with lower bounds of {len(now['parts'])} parts after {step + 1} relaxations. Best met "
        f"{now['f']:.4f} at z = {now['best']:.3f}, lower bound {now['bound']:.4f}; {'proved' if done else 'not yet proved'}."
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
