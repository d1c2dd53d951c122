"""Layer problems for tests: worked instances, random rows of every shape, and rows of trained generators.

Everything is reproducible from the arguments alone. A case knows a feasible point per signal, because it was built from
one, or that there is none.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import gallery
import torch
from torch import Tensor

import cvxinv as ci

NAMES = gallery.names()
INTERVAL = "interval_basis_pursuit"  # the one problem with ends of its own instead of a penalty


def kind_of(name: str) -> Any:
    """The class of a layer problem by the name of its file: "nonnegative_lasso" is `NonnegativeLasso`."""
    return getattr(ci, "".join(word.title() for word in name.split("_")))


def public() -> dict[str, Any]:
    """Every layer problem that `import cvxinv` offers, by its name."""
    found = {name: getattr(ci, name) for name in ci.__all__}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and _is_problem(kind)}


def _is_problem(kind: type) -> bool:
    return issubclass(kind, ci.AbstractLayerProblem) and not kind.__name__.startswith("Abstract")


def named(form: str) -> tuple[str, ...]:
    """The problems of one form, "quadratic", "ball" or "interval"."""
    return tuple(name for name in NAMES if kind_of(name).form == form)


def growth(name: str) -> tuple[int, int]:
    """The powers of the data and of |W| with which the problem's number grows; (1, 0) where it has ends instead."""
    return next(iter(kind_of(name).numbers.values()), (1, 0))


PURSUED = ("gaussian_latent", "nonnegative_lasso")  # what `latent_pursuit` solves
SIGNED = {name for name in NAMES if not kind_of(name).nonnegative}  # problems whose unknown has any sign
SQUARED = named("quadratic")
FITS = named("excess")  # problems without a number, whose objective is the misfit alone
RELAXED = ("relaxed_fit", "nonnegative_relaxed_fit")  # fits whose rows are limits too
BOUNDED = tuple(
    name for name in NAMES if name not in (*SQUARED, *FITS)
)  # problems that bound the misfit instead of weighing it


@dataclass(frozen=True, eq=False)
class Case:
    """Rows, a penalty, and a feasible point per signal `(N, n)` (None where nothing is feasible).

    penalty: lam, gamma or eps, whatever the problem calls it, or None. ends: lo and hi `(N, m)`, for intervals only.
    """

    name: str
    label: str
    rows: ci.Rows
    penalty: float | Tensor | None
    feasible: Tensor | None
    kind: Any = None
    ends: tuple[Tensor, Tensor] | None = None

    def __repr__(self) -> str:
        return f"{self.name}-{self.label}"

    @cached_property
    def problem(self) -> Any:
        kind = self.kind or kind_of(self.name)
        return kind(self.rows, *(self.ends or ((self.penalty,) if kind.numbers else ())))

    @cached_property
    def reference(self) -> ci.Solution:
        """CLARABEL's points, polished; tests state what must hold of them."""
        return ci.solve(self.problem, "CLARABEL", on_fail="ignore")

    @cached_property
    def auto(self) -> ci.Solution:
        """What `solve` gives without being told how: solved once, claimed of several times."""
        return ci.solve(self.problem, on_fail="ignore")

    def as_kind(self, kind: Any) -> "Case":
        """The same data under another class, say one with a planted fault."""
        return replace(self, kind=kind)

    def to(self, dtype: torch.dtype) -> "Case":
        penalty = self.penalty.to(dtype) if isinstance(self.penalty, Tensor) else self.penalty
        feasible = None if self.feasible is None else self.feasible.to(dtype)
        ends = None if self.ends is None else (self.ends[0].to(dtype), self.ends[1].to(dtype))
        return replace(self, rows=self.rows.to(dtype), penalty=penalty, feasible=feasible, ends=ends)

    def in_units(self, factor: float) -> "Case":
        """The same signals with data `factor` times as large: h too, and each number as its problem says."""
        r = self.rows
        rows = ci.Rows(r.W, factor * r.b, factor * r.y, r.on, r.off, r.weight)
        penalty = None if self.penalty is None else factor ** growth(self.name)[0] * self.penalty
        feasible = None if self.feasible is None else factor * self.feasible
        ends = None if self.ends is None else (factor * self.ends[0], factor * self.ends[1])
        return replace(self, rows=rows, penalty=penalty, feasible=feasible, ends=ends)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


# --- a part of a product ---------------------------------------------------------------------------


def spread(items: Sequence[Any], most: int, group: Callable[[Any], Any]) -> list[Any]:
    """At most `most` of each group's items, evenly apart, in their order: the same ones in every run.

    Each group starts a golden section further than the one before: what one leaves out another takes, as in a Latin square.
    """
    groups: dict[Any, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(group(item), []).append(place)
    chosen: set[int] = set()
    for number, places in enumerate(groups.values()):
        start, few = number * 0.6180339887 % 1, min(most, len(places))
        chosen |= {places[int((k + start) * len(places) / few)] for k in range(few)}
    return [item for place, item in enumerate(items) if place in chosen]


# --- worked instances -----------------------------------------------------------------------------


def from_instance(name: str, instance: Any) -> Case:
    W, b, y, on, off, weight = (
        torch.as_tensor(part) for part in (instance.W, instance.b, instance.y, instance.on, instance.off, instance.weight)
    )
    rows = ci.Rows(ci.Dense(W), b, y[None], on[None], off[None], weight[None])
    feasible = None if instance.answer is None else torch.as_tensor(instance.answer)[None]
    ends = None
    if name == INTERVAL:
        ends = torch.as_tensor(instance.lo)[None], torch.as_tensor(instance.hi)[None]
    return Case(name, instance.name, rows, instance.penalty, feasible, ends=ends)


@cache
def worked() -> tuple[tuple[Case, Any], ...]:
    """Every instance of the gallery, as a case and as it stands there."""
    return tuple((from_instance(name, instance), instance) for name, instance in gallery.gallery())


# --- random rows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """What random rows look like; `penalty` "mixed" gives each signal its own, 0 among them.

    Problems that bound the misfit read `noise` instead of `penalty`: without noise the bound is 0. open: share of the
    ends of an interval that are infinite.
    """

    label: str
    m: int = 0
    n: int = 0
    N: int = 5
    rank: int | None = None
    masked: float = 0.0
    bias: float = 0.5
    noise: float = 0.3
    slope: float | None = None
    penalty: float | str = 0.1
    scale: float = 1.0
    open: float = 0.0


DENSE = (
    Spec("tall", 36, 12),
    Spec("tall-no-penalty", 36, 12, penalty=0.0),
    Spec("tall-mixed-penalty", 30, 10, penalty="mixed", N=6),
    Spec("tall-masked", 40, 10, masked=0.45),
    Spec("tall-masked-no-penalty", 40, 8, masked=0.45, penalty=0.0),
    Spec("realizable-no-penalty", 40, 10, noise=0.0, penalty=0.0),
    Spec("square", 14, 14, N=4),
    Spec("wide", 10, 18, N=4),
    Spec("wide-no-penalty", 10, 18, N=4, penalty=0.0),
    Spec("wide-large-penalty", 10, 18, N=4, penalty=2.0),
    Spec("rank-deficient", 30, 12, rank=6),
    Spec("rank-deficient-no-penalty", 30, 12, rank=6, penalty=0.0),
    Spec("no-bias", 30, 12, bias=0.0, penalty="mixed"),
    Spec("leaky", 30, 12, slope=0.1),
    Spec("leaky-masked-no-penalty", 40, 10, slope=0.2, masked=0.3, penalty=0.0),
    Spec("batch-of-eight", 24, 9, N=8, masked=0.2, penalty="mixed"),
)
# for the problems besides the two that `latent_pursuit` is made of: fewer and smaller
SIGNED_DENSE = tuple(
    replace(spec, N=3)
    for spec in DENSE
    if spec.label
    in ("tall", "tall-mixed-penalty", "tall-masked", "tall-masked-no-penalty", "wide-no-penalty", "rank-deficient", "leaky")
)
BOUNDED_DENSE = (
    Spec("tall", 24, 8, N=3),
    Spec("tall-mixed", 24, 8, N=3, penalty="mixed", open=0.3),
    Spec("equality", 24, 8, N=3, noise=0.0),
    Spec("masked", 30, 8, N=3, masked=0.4, open=0.3),
    Spec("masked-equality", 30, 8, N=2, masked=0.4, noise=0.0),
    Spec("wide", 8, 14, N=3, open=0.3),
    Spec("wide-equality", 8, 14, N=3, noise=0.0),
    Spec("rank-deficient", 24, 9, N=3, rank=5),
    Spec("rank-deficient-equality", 24, 9, N=2, rank=5, noise=0.0),
    Spec("leaky", 24, 9, N=3, slope=0.1),
    Spec("leaky-masked-equality", 24, 8, N=2, slope=0.2, masked=0.3, noise=0.0),
)
CONVOLUTIONS = (
    (Spec("up", N=4), ci.ConvTranspose2d, (3, 2, 3, 3), {"shape_in": (3, 3, 3), "stride": (2, 2), "padding": (1, 1)}),
    (Spec("up-masked-mixed", N=4, masked=0.3, penalty="mixed"), ci.ConvTranspose2d, (2, 3, 4, 4),
     {"shape_in": (2, 3, 3), "stride": (2, 2), "padding": (1, 1)}),
    (Spec("same", N=4, penalty="mixed"), ci.Conv2d, (3, 2, 3, 3), {"shape_in": (2, 4, 4), "padding": (1, 1)}),
    (Spec("down-no-penalty", N=4, penalty=0.0), ci.Conv2d, (4, 1, 3, 3),
     {"shape_in": (1, 5, 5), "stride": (2, 2), "padding": (1, 1)}),
)  # fmt: skip


def random_matrix(spec: Spec, draw: torch.Generator) -> Tensor:
    """Gaussian; with a rank, dependent columns of which one is a copy and one is zero."""
    if spec.rank is None:
        return spec.scale * normal(spec.m, spec.n, draw=draw) / spec.n**0.5
    M = normal(spec.m, spec.rank, draw=draw) @ normal(spec.rank, spec.n, draw=draw) / spec.n
    M[:, 1], M[:, 2] = M[:, 0], 0.0
    return spec.scale * M


def penalty_of(name: str, spec: Spec, rows: ci.Rows, h: Tensor) -> float | Tensor:
    """lam or gamma as the spec has it; eps 5 % above the misfit of `h`, "mixed" up to three times that."""
    if name in FITS:
        return None
    if name in BOUNDED:
        r = rows.fit.sqrt() * rows.residual(h)
        misfit = r.norm(dim=1) if kind_of(name).form == "ball" else r.abs().amax(1)
        wider = torch.linspace(1.05, 3.0, spec.N) if spec.penalty == "mixed" else torch.full((spec.N,), 1.05)
        return misfit * wider.to(misfit) if spec.noise else 0.0
    if spec.penalty != "mixed":
        return spec.penalty
    return torch.logspace(-3, 0, spec.N, dtype=torch.float64) * (torch.arange(spec.N) % 3 != 1)


def ends_around(u: Tensor, off: Tensor, spec: Spec, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ends that hold u: up to twice the noise away, a share of them infinite; at most 0 on off rows."""
    away = 2 * spec.noise * u.std(correction=0) * torch.rand(2, *u.shape, generator=draw, dtype=torch.float64)
    lost = torch.rand(away.shape, generator=draw, dtype=torch.float64) < spec.open
    away = torch.where(lost, torch.inf, away).to(u)
    return u - away[0], torch.where(off, 0.0, u + away[1])


def layer_case(name: str, spec: Spec, W: Any, b: Tensor, h: Tensor, draw: torch.Generator) -> Case:
    """What the layer W, b shows of `h`, which stays feasible: noise touches what passed, not what was cut."""
    u = W(h) + b  # (N, m)
    seen = torch.rand(u.shape, generator=draw, dtype=torch.float64) >= spec.masked
    size = u.std(correction=0)
    noise = spec.noise * size * normal(*u.shape, draw=draw)
    y = (u + (noise.abs() if name in RELAXED else noise)).to(u.dtype)
    if spec.slope is not None:
        none = torch.zeros_like(seen)
        weight = torch.where(y > 0, 1.0, spec.slope**2).to(u.dtype)
        rows = ci.Rows(W, b, y, seen, none, weight)
    else:
        rows = ci.Rows(W, b, y, seen & (u > 0), seen & (u <= 0))
    ends = ends_around(u, rows.off, spec, draw) if name == INTERVAL else None
    return Case(name, spec.label, rows, penalty_of(name, spec, rows, h), h, ends=ends)


def unknown(name: str, N: int, n: int, draw: torch.Generator) -> Tensor:
    h = normal(N, n, draw=draw)
    return h if name in SIGNED else h.clamp(min=0)


@cache
def dense_case(name: str, spec: Spec, seed: int = 0) -> Case:
    draw = seeded(seed)
    W = ci.Dense(random_matrix(spec, draw))
    b = spec.scale * spec.bias * normal(spec.m, draw=draw)
    return layer_case(name, spec, W, b, unknown(name, spec.N, spec.n, draw), draw)


@cache
def convolution_case(name: str, number: int) -> Case:
    spec, make, shape, options = CONVOLUTIONS[number]
    draw = seeded(100 + number)
    W = make(normal(*shape, draw=draw) / 3, **options)
    b = 0.3 * normal(W.m, draw=draw)
    return layer_case(name, spec, W, b, unknown(name, spec.N, W.n, draw), draw)


@cache
def random_cases() -> tuple[Case, ...]:
    """Dense and convolutional rows for every layer problem of the gallery."""
    dense = [dense_case(name, spec, seed) for name in NAMES for seed, spec in enumerate(dense_specs(name))]
    chosen = {name: range(0, len(CONVOLUTIONS), 1 if name in PURSUED else 2) for name in NAMES}
    return (*dense, *(convolution_case(name, k) for name in NAMES for k in chosen[name]))


def dense_specs(name: str) -> tuple[Spec, ...]:
    if name in PURSUED:
        return DENSE
    return BOUNDED_DENSE if name in BOUNDED else SIGNED_DENSE


def hopeless_cases(name: str) -> tuple[Case, ...]:
    """Signals that no h satisfies, in every way a problem can be given one; none where every h is feasible."""
    if not kind_of(name).counts_off or (name in FITS and name not in RELAXED):
        return ()
    return (contradiction(name), too_tight(name)) if name in BOUNDED else (contradiction(name),)


def too_tight(name: str, bad: tuple[bool, ...] = (True,)) -> Case:
    """Noisy tall rows whose bound is half the distance of y from the range of W_on where `bad`, which no h meets.

    No misfit is shorter than that distance d, and none has all entries below d / sqrt(rows).
    """
    spec = Spec("too-tight", 30, 6, N=len(bad))
    case, rows = dense_case(name, spec, 8), dense_case(name, spec, 8).rows
    W, eps, distances = rows.W.matrix(), [], []
    for i in range(rows.N):
        on = rows.on[i]
        best = torch.linalg.lstsq(W[on], rows.target[i, on][:, None]).solution
        distances.append(float((W[on] @ best)[:, 0].sub(rows.target[i, on]).norm()) / (1 if "l2" in name else 30**0.5))
        eps.append(distances[-1] / 2 if bad[i] else float(case.penalty[i]) if name != INTERVAL else 0.0)
    if name == INTERVAL:
        half = torch.tensor(distances, dtype=torch.float64)[:, None] / 2
        hopeless = torch.tensor(bad)[:, None] & rows.on
        ends = tuple(torch.where(hopeless, rows.y + s * half, end) for s, end in zip((-1, 1), case.ends, strict=True))
        return replace(case, feasible=None, ends=ends)
    return replace(case, feasible=None, penalty=torch.tensor(eps, dtype=torch.float64))


def contradiction(name: str, bad: tuple[bool, ...] = (True,), n: int = 6) -> Case:
    """Signals that no h satisfies where `bad`: two off rows ask for h1 <= -1 and h1 >= 2."""
    draw, N = seeded(7), len(bad)
    axis = torch.eye(n, dtype=torch.float64)[:1]
    W = torch.cat([normal(2 * n, n, draw=draw), axis, -axis])
    u = unknown(name, N, n, draw) @ W.T
    on, off, b = torch.ones_like(u, dtype=torch.bool), torch.zeros_like(u, dtype=torch.bool), torch.zeros_like(u)
    on[:, -2:], off[:, -2:] = False, torch.tensor(bad)[:, None]
    b[:, -2], b[:, -1] = 1.0, 2.0
    ends = (u - 0.1, torch.where(off, 0.0, u + 0.1)) if name == INTERVAL else None
    return Case(name, "contradiction", ci.Rows(ci.Dense(W), b, u, on, off), 0.1, None, ends=ends)


# --- rows of trained generators -------------------------------------------------------------------

DENSE_GENERATORS = (
    "ashish_gan_leaky_64_256_784",
    "csinva_vae_20_400_784",
    "jay_gan_bn_128_256_512_784",
    "jezza_fashion_vae_20_400_784",
    "laug_vae_5_128_256_784",
    "lei_vae_leaky_20_200_500_784_nobias",
    "lei_vae_relu_20_60_784_nobias",
    "zeesky_vae_10_400_784",
)
CONVOLUTIONAL_GENERATORS = ("aman_fashion_dcgan_28x28", "amshoka_dcgan_64x64")
VIEWS = tuple(
    Spec(f"{'masked' if masked else 'all'}-{'noise' if noise else 'clean'}", masked=masked, noise=noise, N=1)
    for masked in (0.0, 0.45)
    for noise in (0.0, 0.01)
)


def problem_name(G: ci.Generator, index: int) -> str:
    """Which problem inverts a layer: its input came out of a ReLU, or has any sign."""
    behind_relu = index > 0 and isinstance(G.layers[index - 1].activation, ci.ReLU)
    return "nonnegative_lasso" if behind_relu else "gaussian_latent"


def slope_of(layer: ci.Layer) -> float | None:
    """None for a ReLU; 1 where the output activation has an inverse, so that every seen row is on."""
    if isinstance(layer.activation, ci.LeakyReLU):
        return layer.activation.slope
    return None if isinstance(layer.activation, ci.ReLU) else 1.0


def layer_input(G: ci.Generator, index: int, N: int, draw: torch.Generator) -> Tensor:
    z = normal(N, G.latent_dim, draw=draw)
    return z if index == 0 else G.hidden(z)[index - 1]


def generator_cases(G: ci.Generator, index: int) -> Iterator[Case]:
    """One dense layer of a float64 generator in four views: all or 55 % of the rows, clean or with 1 % noise."""
    layer, name = G.layers[index], problem_name(G, index)
    for number, view in enumerate(VIEWS):
        draw = seeded(10 * index + number)
        h = layer_input(G, index, view.N, draw)
        # the prior of N(0, 1) latents at this noise; one thousandth of the largest entry of W'y for the l1 term
        strength = 1e-4 if name in SIGNED else 1e-3 * float(layer.W.adjoint(layer.W(h)).abs().max())
        spec = replace(view, slope=slope_of(layer), penalty=strength if view.noise else 0.0)
        yield layer_case(name, spec, layer.W, layer.b, h, draw)


def patch_case(G: ci.Generator, index: int, view: Spec, columns: int = 200) -> Case:
    """A real convolutional layer around one place: the columns of a patch, all channels, and the rows they reach."""
    layer, draw = G.layers[index], seeded(index)
    W = layer.W.inner if isinstance(layer.W, ci.Composition) else layer.W
    shape = getattr(W, "shape_in", (W.n, 1, 1))
    grid = torch.arange(W.n).reshape(shape)
    side = max(1, int((columns / shape[0]) ** 0.5))
    chosen = grid[:, shape[1] // 3 :][:, :side, shape[2] // 3 :][:, :, :side].flatten()[:columns]
    units = torch.zeros(len(chosen), W.n, dtype=torch.float64)
    units[torch.arange(len(chosen)), chosen] = 1.0
    M = layer.W(units).T  # (m, columns)
    reached = M.abs().amax(1) > 0
    h = layer_input(G, index, view.N, draw)[:, chosen]
    name = problem_name(G, index)
    spec = replace(view, slope=slope_of(layer), penalty=1e-3 if view.noise else 0.0)
    return layer_case(name, spec, ci.Dense(M[reached]), layer.b[reached], h, draw)
