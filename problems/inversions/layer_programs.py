"""One layer at a time by linear programs: how large z may be, how the error grows with noise, what outliers do.

    size       k-250-600, clean: the share of latents found to 1e-3, k = 50 to 240, behind ReLUs and LeakyReLUs
    noise      20-100-500 (ReLU) and 20-100-200-500 (LeakyReLU): median relative error of z under uniform and gaussian noise
    trained    the published decoder 20-60-784 without bias: errors, and how many signals have fewer positive outputs than
               the 60 hidden units, which leaves h open
    descent    that decoder by gradient descent without momentum, steps of 1 / L, 2,000 of them, and by hybrid
    sensed     that decoder with 90 % of its rows kept, drawn anew for each signal, as a mask
    relaxed    the same nets under gaussian noise, as the authors' code has it, with the program that guesses no unit to be
               on or off; 20-100-500 under uniform noise too; infeasible: signals with a layer that no h is feasible for
    outliers   one entry in a hundred of 20-100-500 is off by about the signal's largest entry: l1 beside linf

Weights are N(0, 1 / n_i), the activation stands behind every layer, the output too; no debiasing. Spec: what the authors'
published code sets, and own earlier runs with HiGHS of 4 to 16 trials.
"""

from itertools import pairwise
from pathlib import Path

import torch
from experiment import Claim, Experiment, Row, look, quantiles, trained_generator

import cvxinv as ci

FOUND = 1e-3  # relative error of z up to which it counts as found
KINDS_OF_NOISE = [(noise, norm) for norm in ("linf", "l1", "relaxed") for noise in ("uniform", "gaussian")]
TRIALS = {"relu": 36, "leaky": 4}  # of a size: the edge is as sharp as a share of so many
DESCENTS: dict[str, ci.AbstractMethod] = {
    "gradient_descent": ci.GradientDescent(steps=(1.0,), momentum=0.0, max_iter=2000),
    "hybrid": ci.Hybrid(),
}
TRAINED = "lei_vae_relu_20_60_784_nobias"


def random_net(dims: list[int], activation: ci.AbstractActivation, draw: torch.Generator) -> ci.Generator:
    """Weights N(0, 1 / rows), no bias, the activation behind every layer."""
    weights = [torch.randn(m, n, generator=draw, dtype=torch.float64) / m**0.5 for n, m in pairwise(dims)]
    layers = [ci.Layer(ci.Dense(W), torch.zeros(len(W), dtype=W.dtype), activation) for W in weights]
    return ci.Generator(tuple(layers), (dims[-1],), {})


def noise_of(kind: str, a: float, x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Uniform on [-a, a], gaussian of deviation a, or sparse: one entry in a hundred off by a times the largest."""
    if kind == "uniform":
        return a * (2 * torch.rand(x.shape, generator=draw, dtype=x.dtype) - 1)
    if kind == "gaussian":
        return a * torch.randn(x.shape, generator=draw, dtype=x.dtype)
    where = torch.rand(x.shape, generator=draw) < 0.01
    return where * a * x.amax(1, keepdim=True) * (0.5 + torch.rand(x.shape, generator=draw, dtype=x.dtype))


def settings(quick: bool) -> list[Row]:
    """The published settings, and small ones in their place."""
    if quick:
        return [
            {"part": "size", "activation": "relu", "dims": [8, 40, 90], "trials": 4},
            {"part": "size", "activation": "relu", "dims": [35, 40, 90], "trials": 4},
            *(noisy("noise", "relu", [5, 20, 80], "uniform", a, "linf", 4) for a in (1e-4, 1e-2)),
            *(noisy("noise", "relu", [5, 20, 80], "gaussian", a, "relaxed", 4) for a in (1e-4, 1e-2)),
            *(noisy("outliers", "leaky", [5, 20, 100], "sparse", 1.0, norm, 4) for norm in ("linf", "l1")),
        ]  # fmt: skip
    sizes = [("relu", k) for k in (50, 105, 115, 125, 135, 150)]
    sizes += [("leaky", k) for k in (110, 150, 200, 240)]
    rows: list[Row] = [
        {"part": "size", "activation": kind, "dims": [k, 250, 600], "trials": TRIALS[kind]} for kind, k in sizes
    ]
    levels = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    rows += [noisy("noise", "relu", [20, 100, 500], "uniform", a, "linf", 16) for a in levels]
    for kind in ("relu", "leaky"):
        rows += [noisy("outliers", kind, [20, 100, 500], "sparse", 1.0, norm, 8) for norm in ("linf", "l1")]
    for norm, few in (("linf", (0.0, 1e-6, 1e-2)), ("l1", (0.0, 1e-6))):
        rows += [{"part": "trained", "noise": "uniform", "a": a, "norm": norm, "trials": 24} for a in few]
    rows += [{"part": "descent", "noise": "uniform", "a": 1e-6, "norm": name, "trials": 24} for name in DESCENTS]
    rows += [{"part": "sensed", "noise": "uniform", "a": 1e-6, "norm": "linf", "kept": 0.9, "trials": 24}]
    for noise, norm, some in (("gaussian", "linf", levels), ("uniform", "l1", levels[1:4]), ("gaussian", "l1", levels[1:4])):
        rows += [noisy("noise", "relu", [20, 100, 500], noise, a, norm, 6) for a in some]
    rows += [noisy("noise", "leaky", [20, 100, 200, 500], "uniform", a, "linf", 3) for a in (1e-5, 1e-3)]
    rows += [noisy("noise", "relu", [20, 100, 500], "gaussian", a, "relaxed", 6) for a in levels]
    rows += [noisy("noise", "relu", [20, 100, 500], "uniform", a, "relaxed", 6) for a in levels[1:4]]
    for norm in ("linf", "relaxed"):
        rows += [noisy("noise", "leaky", [20, 100, 200, 500], "gaussian", a, norm, 3) for a in (1e-5, 1e-3)]
    return rows


def noisy(part: str, activation: str, dims: list[int], noise: str, a: float, norm: str, trials: int) -> Row:
    """The setting of a row with noise."""
    words = {"part": part, "activation": activation, "dims": dims, "noise": noise, "a": a, "norm": norm}
    return words | {"trials": trials}


def measure(setting: Row) -> Row:
    """Errors of z over the trials of one setting, each a network (the trained one: a latent) of its own."""
    if setting["part"] in ("trained", "descent", "sensed"):
        return measure_trained(setting)
    activation = ci.ReLU() if setting["activation"] == "relu" else ci.LeakyReLU(0.1)
    errors, certified, infeasible = [], 0, 0
    for trial in range(setting["trials"]):
        draw = torch.Generator().manual_seed(trial)
        G = random_net(setting["dims"], activation, draw)
        z = torch.randn(1, setting["dims"][0], generator=draw, dtype=torch.float64)
        R = inverted(G, G(z), setting, draw)
        errors.append(float((R.z - z).norm() / z.norm()))
        certified += all((layer.solution.status == "optimal").all() for layer in R.layers)
        infeasible += any((layer.solution.status == "infeasible").any() for layer in R.layers)
    return summary(errors) | {"certified": certified / len(errors), "infeasible": infeasible}


def inverted(
    G: ci.Generator, x: torch.Tensor, setting: Row, draw: torch.Generator, seen: torch.Tensor | None = None
) -> ci.Inversion:
    """The inversion of x under the setting's noise; eps begins at its level, as the published code has it."""
    kind, a = setting.get("noise", ""), setting.get("a", 0.0)
    e = noise_of(kind, a, x, draw) if a else torch.zeros_like(x)
    eps = None if kind in ("", "sparse") or not a else a
    noise = ("l1", float(e.abs().sum(1).max())) if kind == "sparse" else None
    words = {"norm": setting.get("norm", "linf"), "eps": eps, "noise": noise, "debias": None, "on_fail": "ignore"}
    words |= {} if seen is None else {"measurement": seen}
    return ci.invert(G, x + e, "layered_linear_programs", **words)


def measure_trained(setting: Row) -> Row:
    """The published decoder on latents of its own prior; needs CVXINV_DATA."""
    G = trained_generator(TRAINED).with_output("relu")
    draw = torch.Generator().manual_seed(1)
    z = torch.randn(setting["trials"], G.latent_dim, generator=draw, dtype=torch.float64)
    x, kept = G(z), setting.get("kept", 1.0)
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < kept
    if setting["part"] == "descent":
        return by_descent(G, z, x, setting, draw)
    R = inverted(G, x, setting, draw, seen if kept < 1 else None)
    errors = (R.z - z).norm(dim=1) / z.norm(dim=1)
    few, allowed = (seen & (x > 0)).sum(1) < G.layers[-1].W.n, max(FOUND, 100 * setting["a"])
    lost = errors > allowed
    return summary(errors.tolist(), allowed) | {
        "few": int(few.sum()), "lost": int(lost.sum()), "lost_with_few": int((lost & few).sum()),
        "certified": float(torch.stack([layer.solution.certificate.holds for layer in R.layers]).all(0).double().mean()),
    }  # fmt: skip


def by_descent(G: ci.Generator, z: torch.Tensor, x: torch.Tensor, setting: Row, draw: torch.Generator) -> Row:
    """Errors of a method that is no linear program, on the same signals under the same noise."""
    y, a = x + noise_of(setting["noise"], setting["a"], x, draw), setting["a"]
    noise = ("linf", a) if setting["norm"] == "hybrid" else None
    R = ci.invert(G, y, DESCENTS[setting["norm"]], noise=noise, on_fail="ignore", progress=False)
    errors = (R.z - z).norm(dim=1) / z.norm(dim=1)
    lost, open_ = errors > max(FOUND, 100 * a), (x > 0).sum(1) < G.latent_dim + 5
    open_lost, smallest = int((lost & open_).sum()), float(errors.min())
    return summary(errors.tolist()) | {"smallest": smallest, "lost": int(lost.sum()), "open": open_lost, "certified": None}


def summary(errors: list[float], allowed: float = FOUND) -> Row:
    """The share of errors that are allowed, median, largest, and quantiles."""
    found = sum(e <= allowed for e in errors) / len(errors)
    return {"found": found, "largest": max(errors)} | quantiles(errors)


def claims(rows: list[Row]) -> list[Claim]:
    """What the source and earlier runs say of them."""
    found = [*size_claims(rows), *noise_claims(rows), *relaxed_claims(rows), *outlier_claims(rows), *trained_claims(rows)]
    found += descent_claims(rows)
    certified = [row["certified"] for row in rows if row["certified"] is not None]
    text = "all layers of 95 % of the signals are certified optimal; fewer rows on than unknowns leave no bound for every h"
    return [*found, Claim(text, "D", f"{min(certified):.3g} of a setting's signals at least", min(certified) >= 0.95)]


def size_claims(rows: list[Row]) -> list[Claim]:
    """How large k may be."""
    share = {(row["activation"], row["dims"][0]): row["found"] for row in rows if row["part"] == "size"}
    relu = {k: s for (kind, k), s in share.items() if kind == "relu"}
    leaky = [s for (kind, _), s in share.items() if kind == "leaky"]
    made = []
    if 125 in relu:
        small = min(s for k, s in relu.items() if k <= 105)
        made = [
            Claim("ReLU, k <= 105: all found", "O", f"{small:.2f} at least", small == 1),
            Claim("ReLU, k = 125, as many as hidden units are on: about half found", "O", f"{relu[125]:.2f}",
                  0.25 <= relu[125] <= 0.75),
            Claim("ReLU, k = 150: none found", "O", f"{relu[150]:.2f}", relu[150] == 0),
        ]  # fmt: skip
    if leaky:
        made.append(Claim("LeakyReLU, k up to 240: all found", "O", f"{min(leaky):.2f} at least", min(leaky) == 1))
    return made


def noise_claims(rows: list[Row]) -> list[Claim]:
    """How the error grows with the noise."""
    made = []
    earlier = {
        ("uniform", "linf"): {1e-5: 1.9e-5, 1e-4: 1.9e-4, 1e-3: 1.9e-3, 1e-2: 2.1e-2, 1e-1: 0.26},
        ("gaussian", "linf"): {1e-5: 6.0e-5, 1e-4: 6.0e-4, 1e-3: 6.1e-3, 1e-2: 7.9e-2, 1e-1: 0.98},
    }
    for kind, norm in KINDS_OF_NOISE:
        line = medians(rows, "relu", kind, norm)
        if len(line) < 2:
            continue
        slope = slope_of({a: e for a, e in line.items() if a <= 1e-2})
        text = f"ReLU, {kind} noise, {norm}: the error grows linearly, slope 1 in logarithms up to a = 0.01"
        made.append(Claim(text, "O" if norm == "linf" else "D", f"{slope:.2f}", 0.9 < slope < 1.1))
        if (kind, norm) in earlier and len(line) == 5:
            apart = max(max(e / line[a], line[a] / e) for a, e in earlier[kind, norm].items())
            made.append(Claim(f"the same within a factor 1.5 of an earlier run ({kind})", "O", f"{apart:.2f}", apart <= 1.5))
    return made


def relaxed_claims(rows: list[Row]) -> list[Claim]:
    """What the program does that guesses no unit to be on or off."""
    relaxed = [row for row in rows if row.get("norm") == "relaxed"]
    made = []
    if relaxed:
        none, signals = sum(row["infeasible"] for row in relaxed), sum(row["trials"] for row in relaxed)
        text = "without bias the relaxed program is never infeasible"
        made.append(Claim(text, "C", f"infeasible in {none} of {signals} signals", none == 0))
    for activation in ("relu", "leaky"):
        ours, linf = (medians(rows, activation, "gaussian", norm) for norm in ("relaxed", "linf"))
        shared = sorted(set(ours) & set(linf))
        if shared:
            shown = ", ".join(f"{ours[a]:.1e} beside {linf[a]:.1e}" for a in shared)
            text = f"{activation}, gaussian noise, a = {', '.join(f'{a:g}' for a in shared)}: relaxed errs less than linf"
            made.append(Claim(text, "D", shown, all(ours[a] < linf[a] for a in shared)))
    return made


def medians(rows: list[Row], activation: str, noise: str, norm: str) -> dict[float, float]:
    """The median error by the level of noise."""
    chosen = [row for row in rows if row["part"] == "noise" and row["activation"] == activation]
    return {row["a"]: row["q50"] for row in chosen if (row["noise"], row["norm"]) == (noise, norm)}


def slope_of(line: Row) -> float:
    """The slope of log error over log noise, by least squares."""
    x, y = torch.tensor([list(line), list(line.values())], dtype=torch.float64).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def outlier_claims(rows: list[Row]) -> list[Claim]:
    """What a few entries far off do in both norms."""
    made = []
    for kind in ("relu", "leaky"):
        found = {row["norm"]: row["q50"] for row in rows if row["part"] == "outliers" and row["activation"] == kind}
        if found:
            word = f"median {found['l1']:.1e} beside {found['linf']:.1e}"
            held = found["l1"] < 1e-9 and found["linf"] > 1e-2
            made.append(Claim(f"{kind}: one entry in a hundred far off: l1 finds z exactly, linf does not", "D", word, held))
    return made


def trained_claims(rows: list[Row]) -> list[Claim]:
    """Which signals of the published decoder are lost."""
    made = []
    for row in rows:
        if row["part"] == "trained" and row["norm"] == "linf" and row["a"] == 1e-6:
            lost = f"{row['lost']} of {row['trials']} lost, {row['lost_with_few']} of them with few"
            text = "trained, a = 1e-6: what is lost has fewer positive outputs than the 60 hidden units"
            made.append(
                Claim(
                    text,
                    "O",
                    f"{lost}; {row['few']} with few in all",
                    row["lost"] > 0 and row["lost"] == row["lost_with_few"],
                )
            )
    found = {row["norm"]: row["found"] for row in rows if row["part"] == "trained" and row["a"] == 1e-6}
    if len(found) == 2:
        text, word = (
            "trained, a = 1e-6 in every entry: l1 finds what linf finds",
            f"{found['l1']:.2f} beside {found['linf']:.2f}",
        )
        made.append(Claim(text, "D", word, found["l1"] >= found["linf"]))
    return made


def descent_claims(rows: list[Row]) -> list[Claim]:
    """What descents make of the published decoder, and programs that see nine tenths of its rows."""
    its = {row["norm"]: row for row in rows if row["part"] == "descent"}
    if not its:
        return []
    (sensed,) = [row for row in rows if row["part"] == "sensed"]
    plain, best = its["gradient_descent"], its["hybrid"]
    return [
        Claim("trained: gradient descent misses the global minimum in almost all cases", "T",
              f"found {plain['found']:.2f}", plain["found"] <= 0.1),
        Claim("trained: its error is 1.3 to 1.5 in the median, and never below 0.97", "O",
              f"median {plain['q50']:.2f}, least {plain['smallest']:.2f}",
              1.3 <= plain["q50"] <= 1.5 and plain["smallest"] >= 0.97),
        Claim("trained: hybrid loses those alone that have fewer positive outputs than 5 more than latents", "D",
              f"{best['lost']} of {best['trials']} lost, {best['open']} of them such", best["lost"] == best["open"]),
        Claim("trained, nine tenths of the rows: what is lost has fewer positive outputs among them than hidden units", "D",
              f"{sensed['lost']} of {sensed['trials']} lost, {sensed['lost_with_few']} of them with few",
              sensed["lost"] == sensed["lost_with_few"]),
    ]  # fmt: skip


def draw(rows: list[Row], out: Path) -> list[Path]:
    """The share found over k, and errors over the noise."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for index, kind in enumerate(("relu", "leaky")):
        line = sorted((r["dims"][0], r["found"]) for r in rows if r["part"] == "size" and r["activation"] == kind)
        left.plot([k for k, _ in line], [s for _, s in line], label=kind, **look(index))
    left.set(xlabel="latents k of k-250-600", ylabel="share of z found to 1e-3")
    for index, (noise, norm) in enumerate(KINDS_OF_NOISE):
        line = sorted(medians(rows, "relu", noise, norm).items())
        right.loglog([a for a, _ in line], [e for _, e in line], label=f"{noise}, {norm}", **look(index))
    right.set(xlabel="noise a, signal units", ylabel="median relative error of z, 20-100-500")
    for axes in (left, right):
        axes.legend()
    figure.tight_layout()
    path = out / "layer_programs.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [path]


EXPERIMENT = Experiment(
    name="layer_programs",
    title="Layered linear programs: sizes, noise, outliers, and the published decoder",
    source='Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019), experiments',
    settings=settings,
    measure=measure,
    claims=claims,
    draw=draw,
    captions=(
        "Left: the share of latents found falls from all to none between 105 and 150 latents behind ReLUs, and stays at all "
        "behind LeakyReLUs. Right: errors of z grow in proportion to the noise for all programs.",
    ),
    differences=(
        "Gradient descent: the source's steps are not known (1, as recalled; the earlier run's are 1 over the product of "
        "the squared norms). Here they are 1 / sigma_max(J)^2 of each signal, divided where they do not help, and the best "
        "z counts: it fails less often than is said of it.",
        "Sizes have 36 networks a point, where the earlier run had 4 to 16.",
    ),
    columns=("part", "activation", "dims", "noise", "a", "norm", "trials", "found", "q50", "largest", "few", "lost",
             "lost_with_few", "certified", "seconds"),
)  # fmt: skip

if __name__ == "__main__":
    EXPERIMENT.main()
