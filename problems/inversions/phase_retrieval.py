"""Phase retrieval under a generative prior: a Gaussian network, a decoder of digits, sparse peers, how few magnitudes do.

    python problems/inversions/phase_retrieval.py [--quick] [--out DIR]      see `experiment.py`

y = |A x|, A with entries N(0, 1 / m), no noise. Four parts:

gaussian     x = G(z) of a 10-500-1000 ReLU network (its widths as recalled), 25 latents per m, one network, one A per m;
             found where |x' - x| < 1e-3 |x|
sparse       the peers' own signals: 10 entries of 1000 are N(0, 1), 25 signals with an A each; found up to the sign
digits       ten MNIST test digits, one of each class, which the decoder 20-400-784 does not make exactly: mean of
             |x' - x|^2 / 784. The peers are told that 150 pixels are on, which is what MNIST digits have on average; the
             better of x' and -x' counts for them, as they cannot know the sign
limit        20 samples of the same decoder: found where |z' - z| < 1e-6 |z|. Behind a sigmoid no signal has its opposite

Seconds were measured beside other runs on two cores: they tell hours from minutes, and no more.

Nothing of the truth reaches a method: starts and signs are chosen by the misfit, where the source's code takes the true
picture. Digits and decoder are not shipped: the variable CVXINV_DATA names the folder that has them.

Source: Hand, Leong, Voroninski, "Phase retrieval under a generative prior" (NeurIPS 2018), its poster's figures by eye and
its code's settings. The source's decoder of digits is another one, 20-500-500-784.
"""

import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from experiment import Claim, Experiment, Row, digit_labels, digits, look, trained_generator
from torch import Tensor

import cvxinv as ci

GAUSSIAN = {50: 0.20, 75: 0.44, 100: 0.72, 150: 0.92, 225: 1.0}  # m: share that the poster shows, of n = 1000
SPARSE = {300: {"sparta": 0.92}, 375: {"sparta": 1.0}, 425: {"copram": 0.96}, 600: {"thresholded_wirtinger_flow": 0.76}}
DIGITS = {100: 0.022, 200: 0.0105, 500: 0.0073}  # per-pixel error of the poster
PEERS = ("sparta", "copram", "thresholded_wirtinger_flow")
LIMIT = (20, 25, 30, 40, 60, 80, 120)
SEARCHES = {
    "hybrid": {"restarts": 10},
    "deep_phase_retrieval": {},
    "levenberg_marquardt": {"restarts": 10},
    "gradient_descent": {"restarts": 10, "max_iter": 500},
}
LEAST = {"hybrid": 20, "levenberg_marquardt": 20, "deep_phase_retrieval": 30, "gradient_descent": 30}  # m of the limit
DECODER, PIXELS, ON = "csinva_vae_20_400_784", 784, 150
_SPREAD = 0.2  # two standard deviations of a share of 25 trials, at most


def settings(quick: bool) -> list[Row]:
    """What is measured, in turn; the quick form needs neither digits nor decoder."""
    if quick:
        searches = (("deep_phase_retrieval", 225), ("hybrid", 225), ("hybrid", 100))
        rows = [{"part": "gaussian", "m": m, "method": method, "trials": 5} for method, m in searches]
        return [*rows, {"part": "sparse", "m": 600, "method": "sparta", "trials": 3}]
    searches = ("deep_phase_retrieval", "hybrid")
    return [
        *(
            {"part": "limit", "m": m, "method": method, "trials": 20}
            for method in SEARCHES
            for m in LIMIT
            if m >= LEAST[method]
        ),
        *({"part": "digits", "m": m, "method": method, "trials": 10} for m in DIGITS for method in searches),
        *({"part": "digits", "m": 100, "method": method, "trials": 10} for method in PEERS),
        {"part": "digits", "m": PIXELS, "method": "projection", "trials": 10},
        *({"part": "gaussian", "m": m, "method": method, "trials": 25} for m in GAUSSIAN for method in searches),
        *({"part": "sparse", "m": m, "method": method, "trials": 25} for m in SPARSE for method in SPARSE[m]),
    ]


def measure(setting: Row) -> Row:
    """The share that was found, or the error per pixel."""
    part, m, method, trials = (setting[name] for name in ("part", "m", "method", "trials"))
    if part == "digits":
        error = (recovered(m, method) - one_of_each()).square().mean(1)
        return {"error per pixel": float(error.mean()), "worst": float(error.max())}
    if part == "sparse":
        return {"found": _sparse(m, method, trials)}
    G = _network() if part == "gaussian" else _decoder()
    z = G.sample_latent(trials, _seeded(1))
    x = G(z)
    seeing = ci.Magnitudes(_matrix(m, x.shape[1]))
    R = ci.invert(G, seeing.observe(x), method, measurement=seeing, on_fail="ignore", progress=False, **SEARCHES[method])
    # the Gaussian test asks for the signal, the limit for the latent
    found, truth, close = (R.signal, x, 1e-3) if part == "gaussian" else (R.z, z, 1e-6)
    right = (found - truth).norm(dim=1) < close * truth.norm(dim=1)
    return {"found": float(right.double().mean()), "explained": float(R.verdict.explained.double().mean())}


def _sparse(m: int, method: str, trials: int) -> float:
    right = 0
    for k in range(trials):
        x, draw = torch.zeros(1000, dtype=torch.float64), _seeded(1000 + k)
        x[torch.randperm(1000, generator=draw)[:10]] = torch.randn(10, generator=draw, dtype=torch.float64)
        A = torch.randn(m, 1000, generator=draw, dtype=torch.float64)
        found = _peer(method, A, (A @ x).abs(), 10)
        right += bool(torch.minimum((found - x).norm(), (found + x).norm()) < 1e-3 * x.norm())
    return right / trials


@cache
def _peers() -> ModuleType:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import phase_peers

    return phase_peers


def _peer(method: str, A: Tensor, y: Tensor, s: int) -> Tensor:
    """What a peer makes of y = |A x|, A with entries N(0, 1)."""
    phase_peers = _peers()
    its = {"sparta": phase_peers.sparta, "copram": phase_peers.copram}
    if method in its:
        return its[method](A, y, s, 500 if method == "sparta" else 20)
    return phase_peers.thresholded_wirtinger_flow(A, y, 500)


# --- signals --------------------------------------------------------------------------------------


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _matrix(m: int, n: int) -> Tensor:
    return torch.randn(m, n, generator=_seeded(100 + m), dtype=torch.float64) / m**0.5


def _network() -> ci.Generator:
    draw, layers = _seeded(0), []
    for n, m in ((10, 500), (500, 1000)):
        W = torch.randn(m, n, generator=draw, dtype=torch.float64) / m**0.5
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), ci.ReLU()))
    return ci.Generator(tuple(layers), (1000,), {})


@cache
def _decoder() -> ci.Generator:
    return trained_generator(DECODER)


@cache
def one_of_each() -> Tensor:
    """The first test digit of each class, `(10, 784)`, in [0, 1]."""
    labels = digit_labels()
    return digits([int((labels == k).argmax()) for k in range(10)])


@cache
def recovered(m: int, method: str) -> Tensor:
    """The ten digits as a method recovers them from m magnitudes; "projection" sees every pixel and its sign."""
    x = one_of_each()
    if method == "projection":
        return ci.invert(_decoder(), x, max_iter=200, on_fail="ignore", progress=False).signal
    seeing = ci.Magnitudes(_matrix(m, PIXELS))
    y = seeing.observe(x)
    if method not in PEERS:
        options = {"max_iter": 100} if method == "hybrid" else {}
        return ci.invert(_decoder(), y, method, measurement=seeing, on_fail="ignore", progress=False, **options).signal
    A = m**0.5 * _matrix(m, PIXELS)
    found = torch.stack([_peer(method, A, m**0.5 * one, ON) for one in y])
    closer = (found - x).norm(dim=1) <= (found + x).norm(dim=1)
    return torch.where(closer[:, None], found, -found)


# --- claims and pictures --------------------------------------------------------------------------


def _of(rows: list[Row], part: str, method: str, what: str = "found") -> dict[int, float]:
    return {row["m"]: row[what] for row in rows if (row["part"], row["method"]) == (part, method)}


def _in_words(found: dict[int, float]) -> str:
    return ", ".join(f"{m}: {value:.3g}" for m, value in found.items()) or "not measured"


def _near(found: dict[int, float], shown: dict[int, float]) -> bool | None:
    both = found.keys() & shown.keys()
    return all(found[m] >= shown[m] - _SPREAD for m in both) if both else None


def _least(rows: list[Row], method: str, share: float) -> float:
    """The least m from which on a share is found of the decoder's samples; inf where none."""
    found = _of(rows, "limit", method)
    good = [m for m in found if all(value >= share for other, value in found.items() if other >= m)]
    return min(good, default=float("inf"))


def claims(rows: list[Row]) -> list[Claim]:
    """What the poster shows, and what must come out besides."""
    mine, best = _of(rows, "gaussian", "deep_phase_retrieval"), _of(rows, "gaussian", "hybrid")
    made = [
        Claim("deep phase retrieval finds a Gaussian network's signals, k = 10, at least as often as the poster shows, of n "
              f"= 1000 ({_in_words(GAUSSIAN)}), within two standard deviations", "F", _in_words(mine),
              _near(mine, GAUSSIAN)),
        Claim("hybrid finds them no less often", "D", _in_words(best), _near(best, mine)),
    ]  # fmt: skip
    for peer in PEERS:
        shown = {m: one[peer] for m, one in SPARSE.items() if peer in one}
        found = _of(rows, "sparse", peer)
        made.append(Claim(f"{peer} finds 10-sparse signals as often as the poster shows ({_in_words(shown)})", "F",
                          _in_words(found), _near(found, shown)))  # fmt: skip
    return [*made, *_of_digits(rows), *_of_limit(rows)]


def _of_digits(rows: list[Row]) -> list[Claim]:
    mine, best = (_of(rows, "digits", name, "error per pixel") for name in ("deep_phase_retrieval", "hybrid"))
    floor = _of(rows, "digits", "projection", "error per pixel").get(PIXELS)
    peers = {peer: _of(rows, "digits", peer, "error per pixel").get(100) for peer in PEERS}
    there = bool(mine) and floor is not None
    words = ", ".join(f"{peer} {value:.3g}" for peer, value in peers.items() if value is not None)
    return [
        Claim("digits' error per pixel is near the poster's, whose choice of starts knows the picture "
              f"({_in_words(DIGITS)}): at most a third above it, from m = 100 on", "F", _in_words(mine),
              all(mine[m] <= 4 / 3 * DIGITS[m] for m in DIGITS if m >= 100) if there else None),
        Claim("at m = 100 both are below all three peers without a generator", "F",
              f"{mine.get(100, 0):.3g}, hybrid {best.get(100, 0):.3g}; {words}",
              all(value is not None and max(mine[100], best[100]) < value for value in peers.values()) if there else None),
        Claim("hybrid meets the decoder's own floor, its projection of the digits with every sign seen, within a tenth at "
              "m = 500", "D", f"{best.get(500, 0):.3g}, floor {floor or 0:.3g}",
              best[500] <= 1.1 * floor if there and floor is not None else None),
    ]  # fmt: skip


def _of_limit(rows: list[Row]) -> list[Claim]:
    there = bool(_of(rows, "limit", "hybrid"))
    least = {method: _least(rows, method, 0.9) for method in SEARCHES}
    words = ", ".join(f"{method} {m:g}" for method, m in least.items())
    first = {method: _of(rows, "limit", method) for method in SEARCHES}
    said = {row["m"]: row["explained"] for row in rows if row["part"] == "limit" and row["method"] == "hybrid"}
    return [
        Claim("hybrid finds nine tenths of a decoder's latents, n0 = 20, from fewer magnitudes than any other method", "D",
              words if there else "not measured", least["hybrid"] < min(least[m] for m in SEARCHES if m != "hybrid") if there
              else None),
        Claim("at no m does another method find more of them than hybrid", "D",
              "; ".join(f"{method} {_in_words(found)}" for method, found in first.items()) if there else "not measured",
              all(first["hybrid"][m] >= found[m] for found in first.values() for m in found) if there else None),
        Claim("from m = 25 on, n0 + 5, what hybrid explains is the true latent", "D", _in_words(said),
              all(first["hybrid"][m] == said[m] for m in said if m >= 25) if there else None),
    ]  # fmt: skip


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """Success of the Gaussian network, error of the digits, the limit of information; the ten digits at m = 100."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for method in ("hybrid", "deep_phase_retrieval"):
        _line(axes[0], _of(rows, "gaussian", method), method)
        _line(axes[1], _of(rows, "digits", method, "error per pixel"), method)
    axes[0].plot(list(GAUSSIAN), list(GAUSSIAN.values()), label="the poster, by eye", **look(3))
    axes[1].plot(list(DIGITS), list(DIGITS.values()), label="the poster, by eye", **look(3))
    for method in SEARCHES:
        _line(axes[2], _of(rows, "limit", method), method)
    titles = ("Gaussian network, k = 10, n = 1000", "ten MNIST digits, 20-400-784", "samples of 20-400-784, n0 = 20")
    heights = ("share found", "error per pixel, grey level squared", "share of z found")
    for axis, title, height in zip(axes, titles, heights, strict=True):
        axis.set(title=title, xlabel="magnitudes m", ylabel=height)
        if axis.lines:
            axis.legend(fontsize=8)
    axes[1].set_yscale("log")  # of an error that falls tenfold
    path = folder / "phase_retrieval.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [path, _pictures(folder)] if any(row["part"] == "digits" for row in rows) else [path]


def _line(axis: Any, found: dict[int, float], method: str) -> None:
    if found:
        axis.plot(list(found), list(found.values()), label=method, **look(tuple(SEARCHES).index(method)))


def _pictures(folder: Path) -> Path:
    from matplotlib import pyplot as plt

    names = ("the digits", "hybrid", "deep_phase_retrieval", *PEERS)
    figure, axes = plt.subplots(len(names), 10, figsize=(10, 1.1 * len(names)), layout="constrained")
    for row, name in zip(axes, names, strict=True):
        for axis, picture in zip(row, one_of_each() if name == "the digits" else recovered(100, name), strict=True):
            axis.imshow(picture.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name.replace("_", "\n"), fontsize=6)
    path = folder / "phase_retrieval_digits.png"
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


EXPERIMENT = Experiment(
    name="phase_retrieval",
    title="Phase retrieval under a generative prior",
    source="Hand, Leong, Voroninski (NeurIPS 2018); what is a figure was read by eye, widths of the network are as recalled",
    settings=settings,
    measure=measure,
    claims=claims,
    draw=draw,
    captions=(
        "Three panels over the number of magnitudes: the share found of a Gaussian network's signals, the error of "
        "digits, and the share of latents found; hybrid needs the fewest, deep phase retrieval finds more than the "
        "poster shows.",
        "Ten digits from 100 magnitudes: hybrid and deep phase retrieval show digits, the three sparse peers "
        "scattered dots.",
    ),
    columns=("part", "m", "method", "trials", "found", "explained", "error per pixel", "worst", "seconds"),
)

if __name__ == "__main__":
    EXPERIMENT.main()
