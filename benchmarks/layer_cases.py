"""The layer problems that are measured: problem x data, each rebuilt from its numbers, so that no run inherits a cache.

Data: *gaussian*: rows of the random net 20-128-392-784 (weights of variance 1 / n_in) or 100-1000-625; *power law*: the
same W with singular values i^-a, a such that W'W has condition 9e4; *trained*: a layer of a generator under CVXINV_DATA.
Signals: hidden layers of random latents, 1 % noise on the on rows. lam: 1e-2 of the value from which h = 0 on.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import cvxinv as ci

_NOISE = 0.01
_CONDITION = 9e4  # of W'W, as trained layers have it
_GAMMA = 1e-3


@dataclass(frozen=True)
class Rows:
    """What a case is built from, float64 on the CPU: W `(m, n)`, b `(m,)`, y `(N, m)`, on `(N, m)`, noise `(N, m)`."""

    W: Tensor
    b: Tensor
    y: Tensor
    on: Tensor
    noise: Tensor

    def problem_rows(self, index: Tensor, dtype: torch.dtype, device: str) -> ci.Rows:
        """Fresh rows of the signals at `index`."""
        W = ci.Dense(self.W.to(device, dtype, copy=True))
        y, on = self.y[index].to(device, dtype), self.on[index].to(device)
        return ci.Rows(W, self.b.to(device, dtype), y, on)


@dataclass(frozen=True)
class Case:
    """A layer problem on data: `make(index, dtype, device)` builds it anew for the signals at `index`."""

    name: str
    data: str
    rows: Rows
    of_rows: Callable[[ci.Rows, Tensor], ci.AbstractLayerProblem]
    dtypes: tuple[str, ...]

    @property
    def N(self) -> int:
        return len(self.rows.y)

    @property
    def label(self) -> str:
        m, n = self.rows.W.shape
        return f"{self.name} {m}x{n}, {self.data}, B={self.N}"

    def make(self, index: Tensor | None = None, dtype: str = "float64", device: str = "cpu") -> ci.AbstractLayerProblem:
        index = torch.arange(self.N) if index is None else index
        rows = self.rows.problem_rows(index, getattr(torch, dtype), device)
        return self.of_rows(rows, self.rows.noise[index].to(device, rows.y.dtype))


# --- problems -------------------------------------------------------------------------------------


def lasso(rows: ci.Rows, noise: Tensor) -> ci.AbstractLayerProblem:
    lam = 1e-2 * rows.W.adjoint(rows.target).amax(1)
    return ci.NonnegativeLasso(rows, lam.clamp(min=0))


def latent(rows: ci.Rows, noise: Tensor) -> ci.AbstractLayerProblem:
    return ci.GaussianLatent(rows, _GAMMA)


def pursuit_l2(rows: ci.Rows, noise: Tensor) -> ci.AbstractLayerProblem:
    return ci.NonnegativeBasisPursuitL2(rows, noise.norm(dim=1))


def pursuit_linf(rows: ci.Rows, noise: Tensor) -> ci.AbstractLayerProblem:
    return ci.NonnegativeBasisPursuitLinf(rows, noise.abs().amax(1))


# --- data -----------------------------------------------------------------------------------------


def random_matrix(m: int, n: int, source: torch.Generator, power_law: bool = False) -> Tensor:
    W = torch.randn(m, n, generator=source, dtype=torch.float64) / n**0.5
    if not power_law:
        return W
    U, _, V = torch.linalg.svd(W, full_matrices=False)
    k = min(m, n)
    s = torch.arange(1, k + 1, dtype=torch.float64) ** (-0.5 * math.log(_CONDITION) / math.log(k))
    return U @ (s[:, None] * V)


def observed(W: Tensor, b: Tensor, h: Tensor, relu: bool, source: torch.Generator) -> Rows:
    """What h `(N, n)` looks like behind the layer, with noise of 1 % of the on rows' length on them."""
    v = h @ W.T + b
    on = v > 0 if relu else torch.ones_like(v, dtype=torch.bool)
    e = torch.randn(v.shape, generator=source, dtype=v.dtype) * on
    clean = v * on
    e *= (_NOISE * clean.norm(dim=1) / e.norm(dim=1).clamp(min=1e-300))[:, None]
    return Rows(W, b, clean + e, on, e)


def random_layer(m: int, n: int, N: int, *, before: int, relu: bool, power_law: bool = False) -> Rows:
    """A layer behind a ReLU layer of `before` inputs; before = 0: the layer of the latent itself."""
    source = torch.Generator().manual_seed(m + n)
    W = random_matrix(m, n, source, power_law)
    z = torch.randn(N, before or n, generator=source, dtype=torch.float64)
    h = (z @ random_matrix(n, before, source).T).clamp(min=0) if before else z
    return observed(W, torch.zeros(m, dtype=torch.float64), h, relu, source)


def trained_layer(name: str, layer: int, N: int) -> Rows:
    """Layer `layer` of a generator under CVXINV_DATA, behind random latents."""
    G = ci.load_generator(Path(os.environ["CVXINV_DATA"]) / "generators" / name, output="identity")
    source = torch.Generator().manual_seed(layer)
    h = torch.randn(N, G.latent_dim, generator=source, dtype=torch.float64)
    for before in G.layers[:layer]:
        h = (before.W(h) + before.b).clamp(min=0)
    here = G.layers[layer]
    return observed(here.W.matrix(), here.b, h, layer < len(G.layers) - 1, source)


# --- the list -------------------------------------------------------------------------------------

_BOTH = ("float64", "float32")
_ONE = ("float64",)


def cases(quick: bool, batch: int | None = None) -> Iterator[Case]:
    """Every case; `quick`: the same kinds at a sixteenth of the size; `batch`: other signals than the case's own."""

    def size(*full: int) -> tuple[int, ...]:
        return tuple(max(4, k // 16) for k in full) if quick else full

    def count(N: int) -> int:
        return batch or (min(N, 4) if quick else N)

    (m, n, k), (m0,), (wide, long, few) = size(784, 392, 128), size(20), size(1000, 625, 100)
    gauss, power = "gaussian", "power law"
    yield Case("LASSO", gauss, random_layer(m, n, count(1024), before=k, relu=False), lasso, _BOTH)
    yield Case("LASSO", power, random_layer(m, n, count(64), before=k, relu=False, power_law=True), lasso, _ONE)
    yield Case("ReLU rows", gauss, random_layer(n, k, count(1024), before=m0, relu=True), lasso, _BOTH)
    yield Case("ReLU rows", power, random_layer(n, k, count(64), before=m0, relu=True, power_law=True), lasso, _ONE)
    yield Case("latent", gauss, random_layer(k, m0, count(1024), before=0, relu=True), latent, _ONE)
    yield Case("pursuit l2", gauss, random_layer(m, n, count(64), before=k, relu=False), pursuit_l2, _ONE)
    yield Case("pursuit l2", gauss, random_layer(long, wide, count(16), before=few, relu=False), pursuit_l2, _ONE)
    yield Case("pursuit linf", gauss, random_layer(m, n, count(8), before=k, relu=False), pursuit_linf, _ONE)
    yield Case("pursuit linf, ReLU rows", gauss, random_layer(n, k, count(64), before=m0, relu=True), pursuit_linf, _ONE)
    if "CVXINV_DATA" not in os.environ:
        print("CVXINV_DATA is not set: the cases with trained layers are left out")
    elif not quick:
        yield Case("LASSO", "trained 20-400-784", trained_layer("csinva_vae_20_400_784", 1, count(64)), lasso, _ONE)
        middle = trained_layer("laug_vae_5_128_256_784", 1, count(64))
        yield Case("ReLU rows", "trained 5-128-256-784", middle, lasso, _ONE)
