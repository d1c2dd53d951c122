"""Layer problems for tests: worked instances, random rows of every shape, and rows of trained generators.

Everything is reproducible from the arguments alone. A case knows a feasible point per signal, because it was built from
one, or that there is none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import gallery
import torch
from torch import Tensor

import cvxinv as ci

SIGNED = {"gaussian_latent"}  # problems whose unknown has any sign
NAMES = gallery.names()


def kind_of(name: str) -> Any:
    """The class of a layer problem by the name of its file: "nonnegative_lasso" is `NonnegativeLasso`."""
    return getattr(ci, "".join(word.title() for word in name.split("_")))


@dataclass(frozen=True, eq=False)
class Case:
    """Rows, a penalty, and a feasible point per signal `(N, n)` (None where nothing is feasible)."""

    name: str
    label: str
    rows: ci.Rows
    penalty: float | Tensor
    feasible: Tensor | None
    kind: Any = None

    def __repr__(self) -> str:
        return f"{self.name}-{self.label}"

    @cached_property
    def problem(self) -> Any:
        return (self.kind or kind_of(self.name))(self.rows, self.penalty)

    @cached_property
    def reference(self) -> ci.Solution:
        """CLARABEL's points, polished; tests state what must hold of them."""
        return ci.solve(self.problem, "CLARABEL", on_fail="ignore")

    def as_kind(self, kind: Any) -> "Case":
        """The same data under another class, say one with a planted fault."""
        return replace(self, kind=kind)

    def to(self, dtype: torch.dtype) -> "Case":
        penalty = self.penalty.to(dtype) if isinstance(self.penalty, Tensor) else self.penalty
        feasible = None if self.feasible is None else self.feasible.to(dtype)
        return replace(self, rows=self.rows.to(dtype), penalty=penalty, feasible=feasible)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


# --- worked instances -----------------------------------------------------------------------------


def from_instance(name: str, instance: Any) -> Case:
    W, b, y, on, off, weight = (
        torch.as_tensor(part) for part in (instance.W, instance.b, instance.y, instance.on, instance.off, instance.weight)
    )
    rows = ci.Rows(ci.Dense(W), b, y[None], on[None], off[None], weight[None])
    feasible = None if instance.answer is None else torch.as_tensor(instance.answer)[None]
    return Case(name, instance.name, rows, instance.penalty, feasible)


@cache
def worked() -> tuple[tuple[Case, Any], ...]:
    """Every instance of the gallery, as a case and as it stands there."""
    return tuple((from_instance(name, instance), instance) for name, instance in gallery.gallery())


# --- random rows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """What random rows look like; `penalty` "mixed" gives each signal its own, 0 among them."""

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


def penalty_of(spec: Spec) -> float | Tensor:
    if spec.penalty != "mixed":
        return spec.penalty
    return torch.logspace(-3, 0, spec.N, dtype=torch.float64) * (torch.arange(spec.N) % 3 != 1)


def layer_case(name: str, spec: Spec, W: Any, b: Tensor, h: Tensor, draw: torch.Generator) -> Case:
    """What the layer W, b shows of `h`, which stays feasible: noise touches what passed, not what was cut."""
    u = W(h) + b  # (N, m)
    seen = torch.rand(u.shape, generator=draw, dtype=torch.float64) >= spec.masked
    size = u.std(correction=0)
    y = (u + spec.noise * size * normal(*u.shape, draw=draw)).to(u.dtype)
    if spec.slope is not None:
        none = torch.zeros_like(seen)
        weight = torch.where(y > 0, 1.0, spec.slope**2).to(u.dtype)
        rows = ci.Rows(W, b, y, seen, none, weight)
    else:
        rows = ci.Rows(W, b, y, seen & (u > 0), seen & (u <= 0))
    return Case(name, spec.label, rows, penalty_of(spec), h)


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
    dense = [dense_case(name, spec, seed) for name in NAMES for seed, spec in enumerate(DENSE)]
    return (*dense, *(convolution_case(name, k) for name in NAMES for k in range(len(CONVOLUTIONS))))


def contradiction(name: str, bad: tuple[bool, ...] = (True,), n: int = 6) -> Case:
    """Signals that no h satisfies where `bad`: two off rows ask for h1 <= -1 and h1 >= 2."""
    draw, N = seeded(7), len(bad)
    axis = torch.eye(n, dtype=torch.float64)[:1]
    W = torch.cat([normal(2 * n, n, draw=draw), axis, -axis])
    u = unknown(name, N, n, draw) @ W.T
    on, off, b = torch.ones_like(u, dtype=torch.bool), torch.zeros_like(u, dtype=torch.bool), torch.zeros_like(u)
    on[:, -2:], off[:, -2:] = False, torch.tensor(bad)[:, None]
    b[:, -2], b[:, -1] = 1.0, 2.0
    return Case(name, "contradiction", ci.Rows(ci.Dense(W), b, u, on, off), 0.1, None)


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
