"""ADMM with an l1 loss where entries are far off, and the linear decrease of projected gradient.

    python problems/inversions/generative_admm.py            ten samples of the shipped generator of digits
    python problems/inversions/generative_admm.py --quick    two of them, fewer rows: seconds

Outliers: a share of the pixels of each sample is moved by 1. `generative_admm` with the l1 loss, with squares, and
`gradient_descent`, each from three random starts; the error is that of the signal without outliers, |G(z) - x| / |x|, in the
median.
Projected gradient: y = A x with entries N(0, 1/m) in A, m = 300, from a latent 0.05 away in each coordinate, exact
projections (Levenberg-Marquardt); the median misfit over |y| after so many steps.

Source: Latorre, Eftekhari, Cevher (2019): losses that are not smooth are handled; Shah, Hegde (2018): convergence is linear.
"""

from itertools import pairwise
from pathlib import Path

import torch
from experiment import Claim, Experiment, Row, look

import cvxinv as ci

QUIET = {"on_fail": "ignore", "progress": False}


def settings(quick: bool) -> list[Row]:
    """Shares of outliers, and numbers of projected steps."""
    signals, steps = (2, 240) if quick else (10, 300)
    outliers = [
        {"kind": "outliers", "share": share, "signals": signals, "steps": steps}
        for share in ((0.05,) if quick else (0.05, 0.1))
    ]
    return outliers + [{"kind": "steps", "steps": n, "signals": signals} for n in ((2, 4) if quick else (2, 4, 6, 8, 10))]


def measure(setting: Row) -> Row:
    """Errors under outliers, or the misfit after so many projected steps."""
    G = ci.load_generator("mnist_gan").to(torch.float64)
    source = torch.Generator().manual_seed(0)
    z = G.sample_latent(setting["signals"], source)
    x = G(z)
    if setting["kind"] == "steps":
        A = torch.randn(300, x.shape[1], generator=source, dtype=torch.float64) / 300**0.5
        R = ci.invert(
            G, x @ A.T, "projected_gradient", measurement=A, max_iter=setting["steps"], inner="levenberg_marquardt",
            z0=z + 0.05, restarts=0, **QUIET,
        )  # fmt: skip
        return {"misfit": float(R.verdict.relative_misfit.median())}
    y = x + (torch.rand(x.shape, generator=source, dtype=torch.float64) < setting["share"])
    found = {}
    for name, method in _rivals(setting["steps"]).items():
        error = (ci.invert(G, y, method, **QUIET).signal - x).norm(dim=1) / x.norm(dim=1)
        found[name] = float(error.median())
    return found


def _rivals(steps: int) -> dict[str, ci.AbstractMethod]:
    inner = {"inner": "levenberg_marquardt", "max_iter": max(steps // 3, 40)}
    return {
        "l1": ci.GenerativeAdmm(loss="l1", **inner),
        "squares": ci.GenerativeAdmm(loss="l2", **inner),
        "gradient descent": ci.GradientDescent(max_iter=5 * steps, restarts=3),
    }


def claims(rows: list[Row]) -> list[Claim]:
    """What the sources say."""
    off, on = [row for row in rows if row["kind"] == "outliers"], [row for row in rows if row["kind"] == "steps"]
    falls = [later["misfit"] / earlier["misfit"] for earlier, later in pairwise(on)]
    return [
        Claim(
            "with an l1 loss outliers cost little: the error is a tenth of that of gradient descent", "T",
            "; ".join(f"{row['share']:.0%}: {row['l1']:.1e}, {row['gradient descent']:.1e}" for row in off),
            all(row["l1"] < 0.1 * row["gradient descent"] for row in off),
        ),
        Claim(
            "projected gradient falls linearly: by a factor of the same order every two steps", "T",
            ", ".join(f"{fall:.2f}" for fall in falls), max(falls) < 0.8,
        ),
    ]  # fmt: skip


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """Errors by share of outliers, and the misfit over the steps of projected gradient."""
    from matplotlib.figure import Figure

    off, on = [row for row in rows if row["kind"] == "outliers"], [row for row in rows if row["kind"] == "steps"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, name in enumerate(("l1", "squares", "gradient descent")):
        left.semilogy([100 * row["share"] for row in off], [row[name] for row in off], label=name, **look(index))
    left.set(xlabel="pixels moved by 1, %", ylabel="|G(z) - x| / |x|, median")
    right.semilogy([row["steps"] for row in on], [row["misfit"] for row in on], label="projected gradient", **look(0))
    right.set(xlabel="steps", ylabel="misfit / |y|, median")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(folder / "generative_admm.png", dpi=110)
    return [folder / "generative_admm.png"]


EXPERIMENT = Experiment(
    name="generative_admm",
    title="Constrained iterations: outliers and linear decrease",
    source="Latorre, Eftekhari, Cevher (2019); Shah, Hegde (2018). Medians over signals.",
    settings=settings,
    measure=measure,
    claims=claims,
    draw=draw,
    captions=(
        "Left: with 5 and 10 % of the pixels moved, the l1 loss errs a tenth of what squares and gradient descent do, "
        "or less. Right: the misfit of projected gradient falls on a straight line in the logarithm.",
    ),
)

if __name__ == "__main__":
    EXPERIMENT.main()
