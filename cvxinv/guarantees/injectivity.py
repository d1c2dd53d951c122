"""`injectivity`: do different latents always give different signals? Layer by layer, and for the net.

A ReLU layer is decided by the search of `cells`, on the ball of latents for the first layer, on what is around its image
for the others: x >= 0 behind a ReLU, of a length that follows from the layers before. A layer without cut (linear, leaky,
strictly increasing) is injective where its matrix has full column rank. A net all of whose layers are is injective; one
whose first layer is not, is not; between these a second preimage of a random latent decides, or nothing.
"""

import time
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..generator.activations import AbstractActivation
from ..generator.chain import Generator, Layer
from ..inputs import describe, plain_number, read_seed
from ..inversion.task import make_task
from ..surroundings import undisturbed
from .cells import Cells, least_singular_value, look_for_a_gap, smallest, sure_lines, unit_rows
from .local import geometry, read_chain
from .preimages import along_the_piece
from .prime_field import ranks, residues

INJECTIVE, NOT_INJECTIVE, UNDECIDED = "injective", "not_injective", "undecided"
_MOST_ENTRIES = 20_000_000  # of a layer's matrix
_RANK = 1e-10
_SAME = 1e-10  # of the outputs: how far those of two inputs may be apart that are shown


@dataclass(frozen=True, eq=False)
class LayerInjectivity:
    """One layer on the set that its inputs lie in: |x| <= radius, and x >= 0 where `nonnegative`.

    status: `injective`, `not_injective` (`points` `(2, n)` are two inputs of one output; None for a matrix without full
    column rank to 1e-10, rows at length 1), `undecided`. how: what says so. lower, upper: of the inverse's Lipschitz
    constant, as a factor: |F(x) - F(x')| >= lower |x - x'| is proved on all of the set, NaN where it is not; for no
    factor above upper it holds, which is the least singular value of a piece that was met. nodes: of the search.
    """

    index: int
    status: str
    how: str
    radius: float
    nonnegative: bool
    lower: float
    upper: float
    points: np.ndarray | None
    nodes: int

    def __str__(self) -> str:
        where = "R^n" if self.radius == inf else f"|x| <= {self.radius:.3g}"
        where += ", x >= 0" if self.nonnegative else ""
        stable = ""
        if self.status == INJECTIVE:
            ends = [f"at least {self.lower:.2g} (proved)"] if self.lower == self.lower else []
            ends += [f"at most {self.upper:.2g}"] if self.upper == self.upper else []
            stable = f"; |F(x) - F(x')| / |x - x'| is {', '.join(ends)}" if ends else ""
        return f"layers[{self.index}] on {where}: {self.status.replace('_', ' ')}, {self.how}{stable}"


@dataclass(frozen=True, eq=False)
class Injectivity:
    """Whether different latents of a ball always give different signals.

    status: `injective` (proved), `not_injective` (`points` `(2, n0)` give the same signal to 1e-10), `undecided`. layer: the
    one that decides; -1 where all are injective. layers: what is known of each. radius: of the ball, inf for all latents.
    lower: |G(z) - G(z')| >= lower |z - z'| is proved, NaN where nothing is. seconds: it took.
    """

    status: str
    layer: int
    layers: tuple[LayerInjectivity, ...]
    points: Tensor | None
    radius: float
    lower: float
    seconds: float

    def explain(self) -> str:
        """In words, a line for the net and one for each layer."""
        where = "all of R^n0" if self.radius == inf else f"the ball |z| <= {self.radius:g}"
        head = f"The generator is {self.status.replace('_', ' ')} on {where}"
        tail = "" if self.layer < 0 else f"; layers[{self.layer}] decides"
        return "\n".join([f"{head}{tail}.", *map(str, self.layers)])

    def __repr__(self) -> str:
        return f"Injectivity: {self.status}, {self.seconds:.2f} s\n" + self.explain()


@undisturbed
def injectivity(
    generator: AbstractGenerator,
    radius: float | None = None,
    *,
    nodes: int = 20_000,
    samples: int = 32,
    seed: int = 0,
) -> Injectivity:
    """Is G injective on the ball |z| <= radius? None: on all of R^n0.

    generator: a chain of layers. nodes: of the search, for each layer and question; what they do not decide is undecided.
    samples: random latents of `seed` at which a second preimage is looked for where layers do not decide. Computes in
    float64. `injective` and `lower` are said of the weights as the floats that they are: each cell was shown by a point of
    it, beyond rounding, or proved to have none exactly. What could not be proved is undecided, as are cells too thin for
    two floats. Raises TypeError or ValueError for what does not fit.
    """
    began, seed = time.perf_counter(), read_seed(seed)
    chain = read_chain(generator).to(torch.float64)
    radius = _read_radius(radius)
    for name, value in (("nodes", nodes), ("samples", samples)):
        if isinstance(value, bool) or not isinstance(plain_number(value), int):
            raise TypeError(f"expected {name} as an integer >= 0, got {describe(value)}; pass e.g. {name}=1000")
        if value < 0:
            raise ValueError(f"expected {name} >= 0, got {value}; 0 leaves the search out")
    layers, far, nonnegative = list[LayerInjectivity](), radius, False
    for index, layer in enumerate(chain.layers):
        layers.append(_layer(index, layer, far, nonnegative, nodes))
        far, nonnegative = _image(layer, far)
    points, decides = None, next((x.index for x in layers if x.status != INJECTIVE), -1)
    status = INJECTIVE if decides < 0 else UNDECIDED
    if decides >= 0:
        first = layers[0].points
        points = None if first is None else _pair(chain, torch.from_numpy(first))
        if points is None:
            points, at = _sampled(chain, radius, samples, seed)
            decides = at if points is not None else decides
        status = UNDECIDED if points is None else NOT_INJECTIVE
    lower = float(np.prod([x.lower for x in layers])) if status == INJECTIVE else 0.0 if status == NOT_INJECTIVE else np.nan
    return Injectivity(status, decides, tuple(layers), points, radius, lower, time.perf_counter() - began)


def _read_radius(radius: object) -> float:
    radius = plain_number(radius)
    if radius is None:
        return inf
    if isinstance(radius, bool) or not isinstance(radius, (int, float)):
        raise TypeError(f"expected radius as a number or None, got {describe(radius)}; pass e.g. radius=5.0")
    if not radius > 0:
        raise ValueError(f"expected radius > 0, got {radius!r}; it stands for |z| <= radius, None for all latents")
    return float(radius)


def _layer(index: int, layer: Layer, radius: float, nonnegative: bool, nodes: int) -> LayerInjectivity:
    """What is known of one layer on a ball, or the part of it with x >= 0."""

    def said(
        status: str, how: str, lower: float = np.nan, upper: float = np.nan, points: np.ndarray | None = None, n: int = 0
    ) -> LayerInjectivity:
        return LayerInjectivity(index, status, how, radius, nonnegative, lower, upper, points, n)

    phi = layer.activation
    if layer.W.m * layer.W.n > _MOST_ENTRIES:
        return said(UNDECIDED, "its matrix is too large to be looked at")
    W, b = layer.W.matrix().cpu().numpy(), layer.b.cpu().numpy()
    m, n = W.shape
    values = np.linalg.svd(unit_rows(W), compute_uv=False)
    if m < n or values[-1] <= _RANK * values[0]:
        points = _along(W, b, np.zeros(n) if not nonnegative else np.full(n, _inner(radius, n)), radius, nonnegative)
        rank = int((values > _RANK * values[0]).sum())
        return said(NOT_INJECTIVE, f"its matrix has rank {rank} of {n}", 0.0, 0.0, points)
    if strict(phi):
        slope, low = phi.slopes[0] if phi.slopes is not None else np.nan, smallest(W)
        lower = slope * _proved(low, W) if phi.slopes is not None else np.nan
        return said(INJECTIVE, "its matrix has full column rank, and nothing is cut", lower, low if phi.linear else np.nan)
    if not phi.cuts:
        return said(UNDECIDED, f"{phi!r} is not known to be strictly increasing")
    there = W.any(1)  # what is constant tells nothing apart
    cells = Cells(W[there], b[there], radius, nonnegative)
    found = look_for_a_gap(cells, nodes)
    if found.point is not None:
        points = counterexample(cells, found.point)
        if points is None:
            return said(UNDECIDED, "a piece on which the on rows do not span is too thin to be shown", n=found.nodes)
        on = cells.W[cells.on(points.mean(0))]
        if len(on) >= n and int(ranks(residues(torch.from_numpy(on))[None])) == n:
            return said(UNDECIDED, "on a piece the on rows span, but by no more than 1e-9 of their length", n=found.nodes)
        rank = int((np.linalg.svd(unit_rows(on), compute_uv=False) > _RANK).sum()) if len(on) else 0
        return said(NOT_INJECTIVE, f"on a piece the on rows have rank {rank} of {n}", 0.0, 0.0, points, found.nodes)
    sure = not found.done and sure_lines(cells)
    least = least_singular_value(cells, nodes)
    lower = _proved(least.value, W) / sqrt(2) if least.done else np.nan
    if found.done or sure:
        how = "the on rows span on every piece" if found.done else "rows of which always one is on, of each line, span"
        return said(INJECTIVE, how, lower, least.value, None, found.nodes + least.nodes)
    how = f"no piece was found in {found.nodes} nodes on which the on rows do not span"
    how += ", but of some it could not be told beyond rounding" if found.unclear else ""
    return said(UNDECIDED, how, np.nan, least.value, n=found.nodes + least.nodes)


def _proved(value: float, W: np.ndarray) -> float:
    """What a least singular value of some rows of W `(m, n)` is at least, after rounding; NaN where that is nothing."""
    below = value - (W.shape[0] + W.shape[1]) * 2.0**-52 * float(np.linalg.norm(W))
    return below if below > 0 else np.nan


def strict(phi: AbstractActivation) -> bool:
    """Whether it is strictly increasing, as far as is known."""
    if phi.linear or phi.leaks:
        return True
    slopes = phi.pieces[1] if phi.pieces is not None else ()
    return phi.monotone and phi.invertible and phi.elementwise and not any(slope == 0 for slope in slopes)


def _image(layer: Layer, radius: float) -> tuple[float, bool]:
    """A ball about 0 that holds a layer's values on one, and whether they are all >= 0."""
    low, high = layer.activation.range
    bound = inf
    if radius < inf and layer.activation.slopes is not None and layer.W.m * layer.W.n <= _MOST_ENTRIES:
        bound = float(torch.linalg.matrix_norm(layer.W.matrix(), 2)) * radius + float(layer.b.norm())
    ends = max(abs(low), abs(high))
    return min(bound, ends * sqrt(layer.W.m)) * (1 + 1e-12), low >= 0


def _inner(radius: float, n: int) -> float:
    return 1.0 if radius == inf else radius / (2 * sqrt(n))


def counterexample(cells: Cells, x: np.ndarray) -> np.ndarray | None:
    """Two points of K, `(2, n)`, that give the same, near where the on rows do not span; None where they are too near."""
    off = np.flatnonzero(~cells.on(x)).tolist()
    deep = deepest(cells, off)
    x = x if deep is None else deep
    points = _along(cells.W, cells.b, x, cells.radius, cells.nonnegative)
    if points is None:
        return None
    F = np.maximum(points @ cells.W.T + cells.b, 0)
    return points if np.linalg.norm(F[1] - F[0]) <= _SAME * max(float(np.linalg.norm(F)), 1e-300) else None


def deepest(cells: Cells, off: list[int]) -> np.ndarray | None:
    """A point inside K at which rows `off` are far below 0, of those that are tried; None where none is found."""
    size = np.linalg.norm(cells.W, axis=1)
    for share in (0.0,) if cells.conic else (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-6):
        x = Cells(cells.W, cells.b + share * cells.unit * size, cells.radius, cells.nonnegative).place(off).x
        if x is not None and not cells.on(x)[off].any():
            return x
    return None


def _along(W: np.ndarray, b: np.ndarray, x: np.ndarray, radius: float, nonnegative: bool) -> np.ndarray | None:
    """x and x + t v, v orthogonal to all rows that are on at x, t as far as nothing else changes; None for no length."""
    u = W @ x + b
    on = u >= -1e-13 * (np.abs(W) @ np.abs(x) + np.abs(b))
    _, values, Vh = np.linalg.svd(unit_rows(W[on])) if on.any() else (None, np.zeros(0), np.eye(len(x)))
    rank = int((values > 1e-9 * max(values.max(initial=0.0), 1e-300)).sum())
    best, step = None, 0.0
    for v in np.vstack([Vh[rank:], -Vh[rank:]]):
        speed, limits = W @ v, []
        moves = ~on & (speed > 0)
        limits += (-u[moves] / speed[moves]).tolist()
        if nonnegative:
            limits += (-x[v < 0] / v[v < 0]).tolist()
        if radius < inf:
            inside = float(x @ v)
            limits.append(-inside + sqrt(max(0.0, inside**2 + radius**2 - float(x @ x))))
        t = min(limits, default=1.0 + float(np.linalg.norm(x)))
        if t > step:
            best, step = v, t
    if best is None or step < 1e-12 * (1 + float(np.linalg.norm(x))):
        return None
    return np.stack([x, x + step * (1 - 1e-6) * best])


def _pair(generator: Generator, points: Tensor) -> Tensor | None:
    """The points, where they give the same signal."""
    x = generator(points.to(generator.device))
    return points if float((x[1] - x[0]).norm()) <= _SAME * max(float(x.norm()), 1e-300) else None


def _sampled(generator: Generator, radius: float, samples: int, seed: int) -> tuple[Tensor | None, int]:
    """A pair of latents of the ball that give the same, on a piece of a random one, and the layer that loses them."""
    if not samples:
        return None, -1
    n0 = generator.latent_dim
    z = generator.sample_latent(samples, torch.Generator().manual_seed(seed))
    side = inf if radius == inf else radius / sqrt(n0)
    z = z.clamp(-0.9 * side, 0.9 * side) if side < inf else z
    task = make_task(generator, generator(z))
    near = geometry(task, z)
    loose = ~near.full
    if not bool(loose.any()):
        return None, -1
    most = 10 * float(z.abs().max()) if side == inf else side
    sides = torch.full((n0,), -most).to(z), torch.full((n0,), most).to(z)
    other = along_the_piece(task.take(loose), z[loose], sides, seed)
    good = other.isfinite().all(1).nonzero()[:, 0]
    if not len(good):
        return None, -1
    k = int(good[0])
    layer = min(int(near.layer[loose][k]), generator.depth - 1)
    return torch.stack([z[loose][k], other[k]]).cpu(), layer
