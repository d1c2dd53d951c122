"""Proof files for tests: of random small networks, and written by hand."""

import base64
import json
import math
import struct
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cvxinv as ci
from cvxinv.exact.prove import prove
from cvxinv.inversion.proof import Proof

Case = tuple[int, float, float, float]  # hidden layers, slope where cut, noise, share of the signal that is hidden
SMALL: list[Case] = [(1, 0.0, 0.1, 0.0), (1, 0.2, 0.3, 0.0), (2, 0.0, 0.3, 0.0), (2, 0.2, 0.01, 0.0)]


def network(seed: int, depth: int, slope: float, width: int = 6, d: int = 8) -> ci.Generator:
    """Random dense layers with biases, unit columns in the mean."""
    draw = torch.Generator().manual_seed(seed)
    layers, sizes = list[nn.Module](), [1 + depth, *[width] * depth, d]
    for a, b in pairwise(sizes):
        layer = nn.Linear(a, b).double()
        with torch.no_grad():
            layer.weight.copy_(torch.randn(b, a, generator=draw, dtype=torch.float64) / math.sqrt(a))
            layer.bias.copy_(0.3 * torch.randn(b, generator=draw, dtype=torch.float64))
        layers += [layer, nn.LeakyReLU(slope) if slope else nn.ReLU()]
    return ci.load_generator(nn.Sequential(*layers[:-1]))


def logged(path: Any, case: Case, seed: int, width: int = 6, **options: Any) -> Proof:
    """A proof of a random case, its log at the path."""
    depth, slope, noise, hidden = case
    G, draw = network(seed, depth, slope, width), torch.Generator().manual_seed(seed + 1)
    z = torch.randn(1, G.latent_dim, generator=draw, dtype=torch.float64)
    y = G(z) * (1 + noise * torch.randn(1, 8, generator=draw, dtype=torch.float64))
    mask = torch.rand(8, generator=draw) >= hidden if hidden else None
    return prove(G, y, z, **{"measurement": mask} | options, log=path, time_limit=None)


Norm = dict[str, Any]
CANCELLING: dict[str, Norm] = {
    "l2": {}, "l1": {"noise": ("l1", 0.1), "gap": 1e-2}, "linf": {"noise": ("linf", 0.1), "gap": 1e-2},
    "a prior": {"noise": ("gaussian", 0.1), "prior": ci.Gaussian(1.0)}, "a ball": {"prior": ci.Ball(2.0)},
    "a mask": {"measurement": torch.tensor([True, True, False, True, False])},
}  # fmt: skip


def cancelling(seed: int, C: float, noise: float) -> tuple[ci.Generator, torch.Tensor]:
    """Two pairs of units whose rows are a / C apart and are read with -C and C, beside a fifth unit; a signal with noise."""
    draw = torch.Generator().manual_seed(seed)
    sizes = (2, 2), (2, 2), (1, 2), (5, 2), (5, 1)
    w, a, rest, M, last = (torch.randn(size, generator=draw, dtype=torch.float64) for size in sizes)
    b = torch.cat([torch.ones(4).double(), 0.3 * torch.randn(1, generator=draw, dtype=torch.float64)])
    maps = ci.Dense(torch.cat([w, w + a / C, rest])), ci.Dense(torch.cat([-C * M, C * M, last], 1))
    layers = ci.Layer(maps[0], b, ci.LeakyReLU(0.1)), ci.Layer(maps[1], torch.zeros(5).double(), ci.Identity())
    G = ci.Generator(layers, (5,), {})
    y = G(torch.randn(1, 2, generator=draw, dtype=torch.float64))
    return G, y + noise * y.abs().max() * torch.randn(1, 5, generator=draw, dtype=torch.float64)


def logged_cancelling(path: Any, kind: str, seed: int, C: float, noise: float) -> Proof:
    """A proof of such a case that ends after three steps at most."""
    (G, y), steps = cancelling(seed, C, noise), iter(range(3))
    start = torch.zeros(1, 2, dtype=torch.float64)
    stop = lambda moment: next(steps) == 2  # noqa: E731
    return prove(G, y, start, box=2.0, log=path, time_limit=None, progress=False, callback=stop, **CANCELLING[kind])


@cache
def originals() -> list[str]:
    """Proof files of small nets, as text."""
    return [text_of(case, seed, width=4) for seed, case in enumerate(SMALL)]


@cache
def others() -> list[str]:
    """Proof files with a prior and a matrix of measurements, in l1 and in linf, as text."""
    draw = torch.Generator().manual_seed(8)
    A = torch.randn(6, 8, generator=draw, dtype=torch.float64)
    G = network(3, 1, 0.0)
    y = G(torch.randn(1, 2, generator=draw, dtype=torch.float64)) @ A.T
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.json"
        prove(G, y + 0.3, measurement=A, noise=("gaussian", 0.3), prior=ci.Gaussian(1.0), log=path, time_limit=None)
        prior = path.read_text()
    norms = [("l1", 0.1), ("linf", 0.1)]
    return [prior, *(text_of((1, 0.2, 0.3, 0.3), 1, width=4, noise=noise, gap=1e-2) for noise in norms)]


def text_of(case: Case, seed: int, **options: Any) -> str:
    """The file of a random case."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.json"
        logged(path, case, seed, **options)
        return path.read_text()


def text(values: Any) -> str:
    """Numbers as files hold them."""
    values = list(values)
    return base64.b64encode(struct.pack(f"<{len(values)}d", *values)).decode()


def numbers(packed: str) -> list[float]:
    """Numbers of a file."""
    raw = base64.b64decode(packed)
    return list(struct.unpack(f"<{len(raw) // 8}d", raw))


def layer(W: list[list[float]], b: list[float], slope: list[float] | None) -> dict[str, Any]:
    """A layer as files hold it."""
    flat = [x for row in W for x in row]
    return {"shape": [len(W), len(W[0])], "slope": None if slope is None else text(slope), "W": text(flat), "b": text(b)}


def told(units: str, v: Any, lam: Any, limits: Any, theta: Any = (1.0,)) -> dict[str, Any]:
    """A round as files hold it."""
    return {"units": units, "v": text(v), "lam": text(lam), "limits": text(limits), "theta": text(theta)}


def by_hand(**changes: Any) -> dict[str, Any]:
    """G(z) = (x, 1) with x = max(z, 0), z in [-2, 1], y = (2, 1): z = 1 is best, at a squared misfit of 1.

    One round, v = z = 1, x = 1: D = level - |r(v)|^2 + 2 max -g (x - v) = 0 at level 1, g = -1 for x.
    """
    root = {"rounds": [told("?", [1.0, 1.0], [0.0] * 5, [-2.0, 1.0, -2.0, 1.0])], "split": None}
    content = {
        "format": "cvxinv certificate", "version": 1, "kind": "Proof", "shape": [1, 1, 2, 2], "norm": "l2", "weights": None,
        "layers": [layer([[1.0]], [0.0], [0.0]), layer([[1.0], [0.0]], [0.0, 1.0], None)], "A": None, "seen": ["++"],
        "y": text([2.0, 1.0]), "box": text([-2.0, 1.0]), "z": text([1.0]), "gap": text([1e-6]), "f": text([1.0]),
        "level": text([1.0]), "bound": text([1.0]), "status": ["proved_optimal"], "unique": [False], "V": text([1.0]),
        "extra": [None], "trees": [[root]],
    }  # fmt: skip
    return json.loads(json.dumps(content | changes))
