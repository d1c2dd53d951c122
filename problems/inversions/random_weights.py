"""Random weights: up to which expansion each method finds z, and the edges that counting and geometry predict.

    python problems/inversions/random_weights.py [--quick] [--out DIR]      see `experiment.py`

    y = phi(W_1 ReLU(W_0 z)),   W_0 n1 x n0 with entries N(0, 1/n0),   W_1 n x n1 with entries N(0, 1/n),   z ~ N(0, I)

n = 625 numbers are seen, n0 = 100 or 200, n1 from 50 to 1000 and 1300, phi = tanh or the identity (n0 = 100, fewer n1), no
biases, no noise. One pair of weights and 8 signals per point; both phi and all methods get the same ones. SNR = 20 log10(|x|
/ |x - x'|) dB of z, of the hidden x_1 and of the image, median and 10, 25, 75, 90 % quantiles over the signals; what is
exact counts as 350 dB.

Methods: gradient descent (momentum 0.9, steps from a grid, 3,000 of them) and Levenberg-Marquardt, one random start each;
hybrid; layered basis pursuit and latent pursuit. Of the last two the layers' own answers count: x_1 as the image layer
gives it, z as the latent layer gives it from that, and the image G(z). Their `debiased` answers stand beside these:
debiasing here goes on from z through affine pieces, so that it may find z where the layers did not.

Predicted edges, with s = n1/2 of the n1 hidden units on:

    n1 = 2 n0           fewer rows on than latents below it: a whole piece of z has the same x_1
    n = n1 psi(1/2)     the least 1'x over x >= 0, and the least |x|_1, with W_1 x = phi^-1(y) cease to be x_1: the
                        statistical dimension of their descent cone (Amelunxen, Lotz, McCoy, Tropp 2014, prop. 4.5; the
                        weak thresholds of Donoho and Tanner are the same curves)
    n = 3/4 n1          x_1 ceases to be the only x >= 0 with W_1 x = phi^-1(y), whatever is minimised: t = 0 below
    n1 = 2 n            s > n: fewer numbers than unknowns that are on. Latent pursuit refuses from there

    psi(rho) = min over t >= 0 of rho (1 + t^2) + (1 - rho) c E (g - t)_+^2,  g ~ N(0, 1);  c = 1 for x >= 0, 2 for any sign

Whether z is unique is asked of `cvxinv.uniqueness`, for 16 signals per point, 8 beyond n1 = n: proved to be, shown not to be
by a second z with the same signal, or undecided.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), section 6.1 and figure 4. The
text has two layers, Gaussian weights and what the figure shows; sizes, 512 signals and the grids of steps are as recalled.
"""

import io
from math import erfc, exp, pi, sqrt
from pathlib import Path
from typing import Any

import torch
from experiment import Claim, Experiment, Row, quantiles
from scipy.optimize import brentq
from torch import Tensor

import cvxinv as ci

LAYERED = ("layered_basis_pursuit", "latent_pursuit")
METHODS = ("gradient_descent", *LAYERED, "levenberg_marquardt", "hybrid")
GAMMA = 1e-8  # of the latent layer where n1 < n0 cannot say which z it is: the shortest, nearly
QUANTITIES = ("z", "x1", "image")
UNIQUENESS = "uniqueness"
N = 625
WIDTHS = (50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000)
NEAR = {100: (180, 220), 200: (380, 420)}  # more of them near 2 n0
FEWER = (100, 150, 200, 250, 400, 600, 700, 800, 900)  # of the identity, whose nonnegative programs take minutes
FINER: dict[int, tuple[int, ...]] = {100: (810, 850), 200: ()}  # where x_1 ceases to be the only nonnegative one
BEYOND = 1300  # s > n
ANY = "any"  # output: z is unique behind all or none of those that can be undone
# latent pursuit at n0 = 100 behind tanh, in dB: x_1 of FISTA with lam = 0, z by ADMM, of an own earlier run
EARLIER = {
    150: (315, 9), 200: (314, 36), 300: (307, 293), 400: (303, 296), 500: (298, 296), 600: (293, 297), 700: (259, 265),
    800: (91, 9), 1000: (9, 4),
}  # fmt: skip
GOOD, BAD = 50.0, 40.0  # dB: found, and lost
_MOST = 350.0  # dB, of what is exact


# --- what is predicted ----------------------------------------------------------------------------


def dimension(rho: float, signed: bool, t: float | None = None) -> float:
    """psi(rho), the share of n1 that n has to reach; at `t` in place of the best one."""
    c = 2 if signed else 1

    def tail(t: float) -> float:
        return erfc(t / sqrt(2)) / 2

    def density(t: float) -> float:
        return exp(-t * t / 2) / sqrt(2 * pi)

    if t is None:  # where the derivative, 2 rho t - 2 (1 - rho) c E (g - t)_+, is 0
        t = brentq(lambda t: rho * t - (1 - rho) * c * (density(t) - t * tail(t)), 0, 40)
    return rho * (1 + t * t) + (1 - rho) * c * ((1 + t * t) * tail(t) - t * density(t))


def edges(n: int, n0: int) -> dict[str, float]:
    """The n1 at which something ends, by name."""
    return {
        "n1 = 2 n0": 2 * n0,
        "least |x|_1": n / dimension(0.5, signed=True),
        "only x >= 0": n / dimension(0.5, signed=False, t=0.0),
        "least 1'x, x >= 0": n / dimension(0.5, signed=False),
        "s > n": 2 * n,
    }


# --- what is measured -----------------------------------------------------------------------------


def settings(quick: bool) -> list[Row]:
    """A row per output, n0, n1 and method; whether z is unique last, as it does not depend on the output."""
    if quick:
        points, n, signals = {("tanh", 8): (12, 32, 64, 112), (ANY, 8): (9, 32, 40, 64)}, 60, 4
    else:
        points, n, signals = {("tanh", n0): sorted({*WIDTHS, *near, BEYOND}) for n0, near in NEAR.items()}, N, 8
        points |= {("identity", 100): FEWER}
        points |= {(ANY, n0): sorted({*WIDTHS, *NEAR[n0], *finer, BEYOND}) for n0, finer in FINER.items()}
    return [
        {"n": n, "n0": n0, "n1": n1, "output": output, "method": method, "signals": signals * _times(output, n, n1)}
        for (output, n0), widths in points.items()
        for n1 in widths
        for method in ((UNIQUENESS,) if output == ANY else METHODS)
        if not (method in LAYERED and n1 > 2 * n)
    ]


def _times(output: str, n: int, n1: int) -> int:
    return 2 if output == ANY and n1 <= n else 1  # beyond n a proof takes a linear program


def network(n: int, n0: int, n1: int, output: str) -> ci.Generator:
    """The random generator of a point; its weights do not depend on the output."""
    draw, layers = torch.Generator().manual_seed(1000 * n0 + n1), []
    for m, k, size in ((n1, n0, n0), (n, n1, n)):
        W = torch.randn(m, k, generator=draw, dtype=torch.float64) / size**0.5
        phi = ci.ReLU() if k == n0 else ci.Tanh() if output == "tanh" else ci.Identity()
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), phi))
    return ci.Generator(tuple(layers), (n,), {})


def measure(setting: Row) -> Row:
    """SNRs by name in dB, their quantiles beside them; or shares of the signals whose z is unique, not unique, undecided."""
    G = network(setting["n"], setting["n0"], setting["n1"], setting["output"])
    z = G.sample_latent(setting["signals"], torch.Generator().manual_seed(1))
    method = setting["method"]
    if method == UNIQUENESS:
        return _unique(G, z)
    y, x1 = G(z), G.hidden(z)[0]
    R = ci.invert(G, y, method, on_fail="ignore", progress=False, **_options(method, setting))
    found = {"z": R.z, "x1": R.hidden[0], "image": R.signal}
    if method in LAYERED:
        own, latent = (report.solution.h for report in R.layers)
        found = {"z": latent, "x1": own, "image": G(latent)}
    truth, row = {"z": z, "x1": x1, "image": y}, {"explained": R.verdict.explained.double().mean()}
    for name in QUANTITIES:
        row |= {f"{name} {q}": value for q, value in quantiles(snr(truth[name], found[name])).items()}
    if method in LAYERED:
        row |= {f"{name} debiased": float(snr(truth[name], x).median()) for name, x in (("z", R.z), ("image", R.signal))}
    return row


def _options(method: str, setting: Row) -> dict[str, Any]:
    if method == "latent_pursuit" and setting["n1"] < setting["n0"]:
        return {"layer_problems": {0: lambda rows: ci.GaussianLatent(rows, GAMMA)}}
    return {"max_iter": 3000} if method == "gradient_descent" else {}


def snr(x: Tensor, found: Tensor) -> Tensor:
    """20 log10(|x| / |x - found|), `(N,)`, in dB; 350 of what is exact, NaN counts as nothing found: 0."""
    ratio = x.norm(dim=1) / (x - found).norm(dim=1)
    return (20 * ratio.log10()).nan_to_num(0.0).clamp(max=_MOST)


def _unique(G: ci.Generator, z: Tensor) -> Row:
    U = ci.uniqueness(G, G(z), z, time_limit=0)  # of this size the proof engine decides nothing more
    of = [str(status) for status in U.status]
    return {name.replace("_", " "): of.count(name) / len(of) for name in ("unique", "not_unique", "undecided")}


# --- claims ---------------------------------------------------------------------------------------


def claims(rows: list[Row]) -> list[Claim]:
    """What the source says of figure 4, what the edges predict, and an own earlier run."""
    tried = [row for row in rows if row["method"] != UNIQUENESS]
    return [*_below(tried), *_middle(tried), *_wide(tried), *_at_the_edges(tried), *_earlier(tried), *_proved(rows)]


def _of(rows: list[Row], *methods: str) -> list[Row]:
    return [row for row in rows if row["method"] in methods]


def _span(rows: list[Row], name: str) -> str:
    values = [row[f"{name} q50"] for row in rows]
    return f"{min(values):.0f} to {max(values):.0f} dB" if values else "not measured"


def _all(rows: list[Row], good: bool, *names: str) -> bool | None:
    """Whether all medians are found, or all are lost; None without rows."""
    values = [row[f"{name} q50"] for name in names for row in rows]
    return None if not values else all(v > GOOD for v in values) if good else all(v < BAD for v in values)


def _below(rows: list[Row]) -> list[Claim]:
    low = [row for row in rows if row["n1"] < 1.9 * row["n0"]]
    layered, descent = _of(low, *LAYERED), _of(low, "gradient_descent")
    wider = [row for row in descent if row["n1"] > row["n0"]]
    after = min((row["image debiased"] for row in layered), default=0.0)
    return [
        Claim("(a) n1 < 2 n0: z is out of reach of every method", "T", f"z {_span(low, 'z')}", _all(low, False, "z")),
        Claim("(a) there the layered methods still find x_1 exactly", "T", f"x_1 {_span(layered, 'x1')}",
              _all(layered, True, "x1")),
        Claim("(a) and the image, once debiased", "T", f"at least {after:.0f} dB; by the layers alone latent pursuit "
              f"{_span(_of(low, LAYERED[1]), 'image')}, basis pursuit, whose latent layer knows no rows that are off, "
              f"{_span(_of(low, LAYERED[0]), 'image')}", after > GOOD),
        Claim("(a) gradient descent finds nothing well there, neither x_1 nor the image", "T",
              f"n1 > n0: x_1 {_span(wider, 'x1')}, image {_span(wider, 'image')}; all: image {_span(descent, 'image')}",
              _all(descent, False, "x1", "image")),
    ]  # fmt: skip


def _middle(rows: list[Row]) -> list[Claim]:
    middle = [row for row in rows if 2.2 * row["n0"] <= row["n1"] <= 0.97 * row["n"]]
    ends = {method: _last(rows, method) for method in LAYERED}
    beyond = all(ends[LAYERED[1]][key] >= end for key, end in ends[LAYERED[0]].items())
    words = "; ".join(f"{method} up to {', '.join(f'{e:g}' for e in end.values())}" for method, end in ends.items())
    return [
        Claim("(b) between: all find z, x_1 and the image", "T", f"z {_span(middle, 'z')}",
              _all(middle, True, *QUANTITIES)),
        Claim("(b) latent pursuit goes on where basis pursuit ends, and beyond n1 = n", "T", f"x_1 found, last n1: {words}",
              beyond and max(ends[LAYERED[1]].values()) > rows[0]["n"]),
    ]  # fmt: skip


def _last(rows: list[Row], method: str) -> dict[tuple[str, int], float]:
    """By output and n0, the largest n1 up to which x_1 is found throughout."""
    ends = {}
    for row in sorted(_of(rows, method), key=lambda row: row["n1"]):
        key = row["output"], row["n0"]
        previous, open_ = ends.get(key, (0.0, True))
        ends[key] = (row["n1"], True) if open_ and row["x1 q50"] > GOOD else (previous, False)
    return {key: end for key, (end, _) in ends.items()}


def _wide(rows: list[Row]) -> list[Claim]:
    lost = [row for row in rows if 1.55 * row["n"] < row["n1"] <= 2 * row["n"]]
    layered, descent = _of(lost, *LAYERED), _of(rows, "gradient_descent", "levenberg_marquardt", "hybrid")
    wide = [row for row in descent if row["n1"] > 1.4 * row["n"]]
    kept = min((row["z debiased"] for row in layered), default=0.0)
    whole = bool(layered) and rows[0]["n"] == N  # a small net may end in a local optimum
    return [
        Claim("(c) n1 far above n: the layers find neither z nor x_1", "T",
              f"n1 > 1.55 n: z {_span(layered, 'z')}, x_1 {_span(layered, 'x1')}", _all(layered, False, "z", "x1")),
        Claim("(c) gradient descent does", "T", f"n1 > 1.4 n: z {_span(_of(wide, 'gradient_descent'), 'z')}",
              _all(_of(wide, "gradient_descent"), True, *QUANTITIES)),
        Claim("so do Levenberg-Marquardt and hybrid", "D", f"z {_span(_of(wide, *METHODS[3:]), 'z')}",
              _all(_of(wide, *METHODS[3:]), True, "z")),
        Claim("debiased layers find z there all the same", "D", f"at least {kept:.0f} dB", kept > GOOD if whole else None),
    ]  # fmt: skip


def _at_the_edges(rows: list[Row]) -> list[Claim]:
    """Found below 0.93 of the predicted n1, lost above 1.07 of it: the transition has a width at finite n."""
    found = []
    for method, name in ((LAYERED[0], "least |x|_1"), (LAYERED[1], "least 1'x, x >= 0")):
        edge = edges(rows[0]["n"], rows[0]["n0"])[name]
        below = [row for row in _of(rows, method) if row["n1"] < 0.93 * edge]
        above = [row for row in _of(rows, method) if row["n1"] > 1.07 * edge]
        held = _all(below, True, "x1") and _all(above, False, "x1")
        found.append(
            Claim(f"x_1 by {method} ends at the predicted n1 = {edge:.0f}", "D",
                  f"below {_span(below, 'x1')}, above {_span(above, 'x1')}", held)
        )  # fmt: skip
    return found


def _earlier(rows: list[Row]) -> list[Claim]:
    its = {row["n1"]: row for row in _of(rows, "latent_pursuit") if (row["n"], row["n0"], row["output"]) == (N, 100, "tanh")}
    if not its:
        return []
    both = {n1: (its[n1]["x1 q50"], its[n1]["z q50"]) for n1 in EARLIER}
    words = ", ".join(f"{n1}: {x:.0f} and {z:.0f} for {EARLIER[n1][0]} and {EARLIER[n1][1]}" for n1, (x, z) in both.items())
    # exact solves reach what double precision gives; where both are near that, rounding decides
    held = all(
        now > min(before, 250) - 5 for n1, pair in both.items() for now, before in zip(pair, EARLIER[n1], strict=True)
    )
    return [Claim("no less exact than first-order solvers were at n0 = 100 behind tanh, x_1 and z in dB", "O", words, held)]


def _proved(rows: list[Row]) -> list[Claim]:
    its = _of(rows, UNIQUENESS)
    low = [row for row in its if row["n1"] < 1.9 * row["n0"]]
    few = [row for row in its if row["n1"] <= 0.97 * row["n"]]
    middle = [row for row in few if row["n1"] >= 2.5 * row["n0"]]
    edge = edges(rows[0]["n"], rows[0]["n0"])["only x >= 0"]
    beyond = [row for row in its if row["n"] < row["n1"] < 0.97 * edge]
    past = [row for row in its if row["n1"] > 1.03 * edge]

    def least(part: list[Row], name: str) -> tuple[str, float]:
        value = min((row[name] for row in part), default=0.0)
        return f"at least {value:.0%} at each n1", value

    (below, share), (between, proved) = least(low, "not unique"), least(middle, "unique")
    (further, more), most = least(beyond, "unique"), max((row["unique"] for row in past), default=1.0)
    open_ = [f"n0 {row['n0']}, n1 {row['n1']}: {row['undecided']:.0%}" for row in few if row["undecided"] > 0]
    return [
        Claim("n1 < 2 n0: a second z is shown for at least four of five signals", "D", below, share >= 0.8),
        Claim("from 2.5 n0 to n: z is proved unique, and nothing is undecided up to n", "D",
              f"{between}; undecided {', '.join(open_) or 'nowhere'}", proved == 1 and not open_),
        Claim(f"z is proved unique up to n1 = {edge:.0f}, where x_1 ceases to be the only nonnegative one, no further", "D",
              f"from n to 0.97 of it {further}; from 1.03 of it on at most {most:.0%}",
              more >= 0.8 and most <= 0.2 if beyond and past else None),
    ]  # fmt: skip


# --- the picture ----------------------------------------------------------------------------------

# of each method: colours that stay apart for colour-blind readers (Okabe and Ito), and markers
LOOKS = {
    "gradient_descent": ("#e69f00", "v"), "layered_basis_pursuit": ("#56b4e9", "D"), "latent_pursuit": ("#0072b2", "s"),
    "levenberg_marquardt": ("#d55e00", "^"), "hybrid": ("#009e73", "P"),
}  # fmt: skip
SHARES = {
    "unique": ("#009e73", "z proved unique"), "not unique": ("#d55e00", "a second z shown"),
    "undecided": ("#aaaaaa", "undecided"),
}  # fmt: skip
LINES = ("-", (0, (5, 1)), "-.", ":", (0, (1, 3)))


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """A picture per output: SNR of z, x_1 and image, and below them how many signals are unique; a column per n0."""
    outputs = list(dict.fromkeys(row["output"] for row in rows if row["method"] != UNIQUENESS))
    return [_picture(rows, output, folder / f"random_weights_{output}.png") for output in outputs]


def _picture(rows: list[Row], output: str, path: Path) -> Path:
    from matplotlib.figure import Figure
    from PIL import Image

    n, sizes = rows[0]["n"], list(dict.fromkeys(row["n0"] for row in rows if row["output"] == output))
    asked = any(row["method"] == UNIQUENESS for row in rows)
    figure = Figure(figsize=(max(10.0, 1 + 5.6 * len(sizes)), 2.6 * (3 + asked) + 1.2), layout="constrained")
    panels = figure.subplots(3 + asked, len(sizes), sharex="col", sharey="row", squeeze=False)
    for column, n0 in zip(panels.T, sizes, strict=True):
        its = [row for row in rows if row["n0"] == n0]
        for panel, name in zip(column, QUANTITIES, strict=False):
            for method in METHODS:
                _ribbons(panel, [row for row in its if (row["method"], row["output"]) == (method, output)], name, method)
            panel.set_ylabel(f"SNR of {'x_1' if name == 'x1' else name}, dB")
        if asked:
            _shares(column[3], _of(its, UNIQUENESS))
        for panel in column:
            for (name, at), line in zip(edges(n, n0).items(), LINES, strict=True):
                panel.axvline(at, color="#444444", linewidth=1, linestyle=line, label=f"predicted: {name}")
            panel.grid(alpha=0.25)
        column[0].set_title(f"n0 = {n0} latents, n = {n} numbers, {its[0]['signals']} signals", fontsize=10)
        column[-1].set_xlabel("hidden units n1")
    handles = {label: h for panel in panels[:, 0] for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"random weights, output {output}: median; bands hold half and four fifths of the signals", fontsize=11)
    whole = io.BytesIO()
    figure.savefig(whole, dpi=90)
    # few colours: a third of the size
    Image.open(whole).convert("RGB").quantize(96).save(path, optimize=True)
    return path


def _ribbons(panel: Any, rows: list[Row], name: str, method: str) -> None:
    colour, marker = LOOKS[method]
    at = [row["n1"] for row in rows]
    of = {q: [row[f"{name} q{q}"] for row in rows] for q in (10, 25, 50, 75, 90)}
    panel.fill_between(at, of[10], of[90], color=colour, alpha=0.12, linewidth=0)
    panel.fill_between(at, of[25], of[75], color=colour, alpha=0.2, linewidth=0)
    label = f"{method}{', layers alone' if method in LAYERED else ''}"
    panel.plot(at, of[50], color=colour, marker=marker, markersize=4, linewidth=1.4, label=label)
    if method in LAYERED and name != "x1":
        after = [row[f"{name} debiased"] for row in rows]
        panel.plot(at, after, color=colour, linestyle=":", linewidth=1.2, label=f"{method}, debiased")


def _shares(panel: Any, rows: list[Row]) -> None:
    parts = [[100 * row[name] for row in rows] for name in SHARES]
    colours, words = zip(*SHARES.values(), strict=True)
    panel.stackplot([row["n1"] for row in rows], *parts, colors=colours, labels=words, alpha=0.7)
    panel.set(ylabel="share of the signals, %", ylim=(0, 100))


# what the text says of figure 4 stands in the claims (a), (b), (c)
DIFFERENCES = (
    "(a) The image of basis pursuit is not exact by its layers alone: its latent layer is told which units are on and "
    "nothing of those that are off, so that the z it takes of many turns some of these on. Debiasing, which the "
    "source has too, mends it; latent pursuit has the rows that are off. Hybrid finds x_1 and the image as well, as "
    "it begins with the layers.",
    "(a) No method can find z, and that is shown: `uniqueness` gives a second z with the same signal wherever fewer "
    "than n0 units are on. Near n1 = 2 n0 some signals have n0 on and others do not, so that the edge is as wide as "
    "the spread of s_1.",
    "(b) Just above 2 n0 gradient descent and Levenberg-Marquardt are behind the layers, the more so at n0 = 200: the "
    "rows that are on make a nearly square matrix, which one random start does not get through. At n1 = 2.5 n0 all "
    "succeed.",
    "(b), (c) Where the layers end is predicted: basis pursuit at n1 = 752, latent pursuit, which knows that x_1 >= "
    "0, at 898. The source, whose numbers could not be read, says no more than that latent pursuit goes further. "
    "Solves are exact here, which moves no edge but takes away the loss before it: first-order ones with lam = 0 had "
    "91 dB of x_1 at n1 = 800, short of their own edge, 833.",
    "(c) Debiased layers still find z where the layers failed. The source's debiasing keeps the supports that were "
    "found, which are wrong there; the one here goes on through pieces, and is a descent from a good start.",
    "The proofs' linear programs, which end after 10,000 steps, had no limit here.",
    "8 signals per point in place of 512, one pair of weights per point; gradient descent has momentum and 3,000 "
    "steps in place of 10,000 without. 500 of them give 220 dB where it succeeds, at n0 = 100.",
)

EXPERIMENT = Experiment(
    name="random_weights", title="Random weights: which expansion each method takes", settings=settings, measure=measure,
    claims=claims, draw=draw,
    captions=(
        "Output tanh, 100 and 200 latents: SNR of z, of the hidden layer and of the image over the hidden units n1, "
        "and below them the share of signals proved unique. All methods find z from 2 to 2.5 n0 on; the layers end "
        "near n1 = 752 and 898.",
        "The same with the identity as output and 100 latents.",
    ),
    source="Aberdam, Simon, Elad (2020), section 6.1, figure 4; sizes, steps and 512 signals per point are as recalled",
    columns=("output", "n0", "n1", "method", "z q50", "z q10", "z q90", "x1 q50", "image q50", "z debiased", "explained",
             "unique", "not unique", "undecided", "seconds"),
    differences=DIFFERENCES,
)  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    EXPERIMENT.main()
