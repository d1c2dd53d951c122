"""PLUGIn on random ReLU networks: how fast it comes to the true latent, what noise costs, and where it stops to succeed.

    python problems/inversions/plugin.py [--quick] [--out DIR]

Layers have weights N(0, 1/m) and no biases; true latents lie on the unit sphere, and noise of length alpha is uniform on its
sphere. Of each network four signals are inverted from one random start N(0, I), 10,000 steps at most, tol 1e-13.
"""

from itertools import pairwise
from pathlib import Path

import torch
from experiment import Claim, Experiment, Row
from torch import Tensor

import cvxinv as ci

_SIGNALS = 4
_DEEP = "20-600-500-500"
_BRIEF = 600  # steps of gradient descent, which has ended by then


def network(sizes: str, seed: int) -> ci.Generator:
    """Layers of these sizes with weights N(0, 1/m), ReLU behind each."""
    draw, layers = torch.Generator().manual_seed(seed), []
    widths = [int(n) for n in sizes.split("-")]
    for n, m in pairwise(widths):
        W = torch.randn(m, n, generator=draw, dtype=torch.float64) / m**0.5
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), ci.ReLU()))
    return ci.Generator(tuple(layers), (widths[-1],), {})


def sphere(N: int, n: int, seed: int) -> Tensor:
    """N points, uniform on the unit sphere."""
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(N, n, generator=draw, dtype=torch.float64))


def settings(quick: bool) -> list[Row]:
    """One row per network and step: its noise, its phase, its expansion."""
    deep = [{"part": "noise", "sizes": _DEEP, "alpha": a, "step": "3", "nets": 2} for a in (0.0, 0.2, 0.5, 1.0)]
    steps = [{"part": "step", "sizes": _DEEP, "alpha": 0.0, "step": s, "nets": 2} for s in ("none given", "8")]
    if quick:
        return [row | {"nets": 1, "most": 400} for row in [deep[0], deep[2], *steps]]
    others = [row | {"part": "descent", "step": "of gradient descent"} for row in deep[1:]]
    sensed = [{"part": "sensed", "sizes": _DEEP, "alpha": 0.0, "step": "none given", "nets": 2, "m": m} for m in (200, 400)]
    phase = [
        {"part": "phase", "sizes": f"{k}-{n}-{n}-{n}", "alpha": 0.0, "step": "3", "nets": 3}
        for k in (1, 4, 7, 10, 13, 16, 19)
        for n in (21, 63, 126, 210, 315, 441)
    ]
    wide = [
        {"part": "expansion", "sizes": f"20-400-400-{n}", "alpha": 0.1, "step": "3", "nets": 3}
        for n in (200, 400, 750, 1500, 3000, 5000)
    ]
    return [
        row | {"most": 1000 if row["part"] == "phase" else 3000} for row in [*deep, *steps, *phase, *wide, *others, *sensed]
    ]


def measure(setting: Row) -> Row:
    """Mean and worst |z found - z|, the mean relative error of G(z), the share within 1e-5, and whether all settled."""
    step = float(setting["step"]) if setting["step"].isdecimal() else None
    method: ci.AbstractMethod = ci.Plugin(step=step, max_iter=setting["most"])
    if setting["part"] == "descent":
        method = ci.GradientDescent(steps=(1.0,), momentum=0.0, max_iter=_BRIEF)
    off, image, settled = [], [], True
    for seed in range(setting["nets"]):
        G = network(setting["sizes"], seed)
        z = sphere(_SIGNALS, G.latent_dim, 100 + seed)
        y = G(z) + setting["alpha"] * sphere(_SIGNALS, G.signal_dim, 200 + seed)
        A = None
        if "m" in setting:
            draw = torch.Generator().manual_seed(300 + seed)
            A = torch.randn(setting["m"], G.signal_dim, generator=draw, dtype=torch.float64) / setting["m"] ** 0.5
            y = y @ A.T
        R = ci.invert(G, y, method, measurement=A, seed=seed, on_fail="ignore", progress=False)
        off.append((R.z - z).norm(dim=1))
        image.append((R.signal - G(z)).norm(dim=1) / G(z).norm(dim=1))
        settled &= not any("settled" in note for note in R.notes)
    found = torch.cat(off)
    return {
        "latent error": found.mean(), "worst": found.max(), "image error": torch.cat(image).mean(),
        "success": (found <= 1e-5).double().mean(), "settled": settled,
    }  # fmt: skip


def claims(rows: list[Row]) -> list[Claim]:
    """What the source's text, figures and an earlier run say, each beside its rows."""
    found = []
    (exact,) = [row for row in rows if row["part"] == "noise" and row["alpha"] == 0]
    worst = exact["worst"]
    found.append(Claim("step 3, no noise: error of z of order 1e-12", "O", f"worst {worst:.1e}", worst < 5e-12))
    for alpha, earlier in ((0.2, 0.56), (0.5, 1.04), (1.0, 1.97)):
        for row in (r for r in rows if r["part"] == "noise" and r["alpha"] == alpha):
            e = row["latent error"]
            found.append(
                Claim(f"noise {alpha}: error near {earlier}, within 30 %", "O", f"{e:.2f}", abs(e / earlier - 1) < 0.3)
            )
    (eight,) = [row for row in rows if row["part"] == "step" and row["step"] == "8"]
    said = "not settled" if not eight["settled"] else "settled"
    held = not eight["settled"] and eight["latent error"] > 0.1
    found.append(
        Claim(
            "step 8 = 2^3 does not converge at these sizes, and is reported so",
            "O",
            f"{said}, error {eight['latent error']:.2f}",
            held,
        )
    )
    (own,) = [row for row in rows if row["part"] == "step" and row["step"] != "8"]
    found.append(
        Claim(
            "without a step given, the one that is estimated converges too",
            "D",
            f"worst {own['worst']:.1e}",
            own["worst"] < 5e-12,
        )
    )
    return [*found, *_descent_claims(rows), *_sensed_claims(rows), *_phase_claims(rows), *_expansion_claims(rows)]


def _descent_claims(rows: list[Row]) -> list[Claim]:
    its = {row["alpha"]: row["latent error"] for row in rows if row["part"] == "descent"}
    if not its:
        return []
    plugin = {row["alpha"]: row["latent error"] for row in rows if row["part"] == "noise"}
    shown = "; ".join(f"{a}: {e:.2f}, PLUGIn {plugin[a]:.2f}" for a, e in its.items())
    near = all(abs(its[a] / e - 1) < 0.4 for a, e in ((0.2, 0.16), (0.5, 0.5), (1.0, 1.05)))
    return [
        Claim("gradient descent errs by about 0.16, 0.5, 1.05 at noise 0.2, 0.5, 1, within 40 %", "F", shown, near),
        Claim("PLUGIn's error is larger than gradient descent's at equal noise", "T", shown,
              all(plugin[a] > e for a, e in its.items())),
    ]  # fmt: skip


def _sensed_claims(rows: list[Row]) -> list[Claim]:
    its = [row for row in rows if row["part"] == "sensed"]
    shown = ", ".join(f"m = {row['m']}: {row['success']:.0%}" for row in its)
    text = "PLUGIn-CS finds the latent from Gaussian measurements too, 400 of 500"
    return [Claim(text, "T", shown, all(row["success"] == 1 for row in its if row["m"] >= 400))] if its else []


def _phase_claims(rows: list[Row]) -> list[Claim]:
    phase = [
        (int(r["sizes"].split("-")[1]) / int(r["sizes"].split("-")[0]), r["success"]) for r in rows if r["part"] == "phase"
    ]
    if not phase:
        return []
    wide, narrow = ([s for ratio, s in phase if inside(ratio)] for inside in (lambda q: q > 20, lambda q: q < 6))
    return [
        Claim("success near 1 where n_3 > 20 n_0", "F", f"mean {sum(wide) / len(wide):.2f}", sum(wide) / len(wide) > 0.9),
        Claim(
            "success near 0 where n_3 < 6 n_0", "F", f"mean {sum(narrow) / len(narrow):.2f}", sum(narrow) / len(narrow) < 0.1
        ),
    ]


def _expansion_claims(rows: list[Row]) -> list[Claim]:
    wide = [(int(r["sizes"].split("-")[-1]), r["latent error"]) for r in rows if r["part"] == "expansion"]
    if not wide:
        return []
    n, e = (torch.tensor(part, dtype=torch.float64).log() for part in zip(*wide, strict=True))
    slope = float(((n - n.mean()) * (e - e.mean())).sum() / (n - n.mean()).square().sum())
    return [
        Claim("n_3 200: error near 0.65, within 30 %", "F", f"{wide[0][1]:.2f}", abs(wide[0][1] / 0.65 - 1) < 0.3),
        Claim("n_3 5000: error near 0.07, within 30 %", "F", f"{wide[-1][1]:.3f}", abs(wide[-1][1] / 0.07 - 1) < 0.3),
        Claim("straight in log-log, falling with n_3", "F", f"slope {slope:.2f}", slope < -0.5),
    ]


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """The share of successes over n_0 and n_3."""
    phase = [([int(n) for n in r["sizes"].split("-")], r["success"]) for r in rows if r["part"] == "phase"]
    if not phase:
        return []
    from matplotlib.figure import Figure

    n0, n3 = sorted({sizes[0] for sizes, _ in phase}), sorted({sizes[-1] for sizes, _ in phase})
    share = torch.zeros(len(n3), len(n0))
    for sizes, success in phase:
        share[n3.index(sizes[-1]), n0.index(sizes[0])] = success
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, origin="lower", aspect="auto", cmap="gray", vmin=0, vmax=1)
    axes.set(
        xticks=range(len(n0)), xticklabels=n0, yticks=range(len(n3)), yticklabels=n3, xlabel="n_0", ylabel="n_1 = n_2 = n_3"
    )
    figure.colorbar(picture, label="share within 1e-5 of the true latent")
    figure.savefig(folder / "plugin.png", dpi=100)
    return [folder / "plugin.png"]


EXPERIMENT = Experiment(
    name="plugin", title="PLUGIn on random ReLU networks", settings=settings, measure=measure, claims=claims, draw=draw,
    captions=(
        "Share of successes by latents and width: none in the lower right, all in the upper left, an edge near"
        " 6 to 20 widths.",
    ),
    source="Joshi, Li, Plan, Yilmaz, PLUGIn (2021), experiments on synthetic data; step 3 as in their text and code",
)  # fmt: skip

if __name__ == "__main__":
    EXPERIMENT.main()
