"""Answers do not depend on what surrounds the call: autocast, gradients, inference mode, default dtype and device, threads."""

import contextlib
import io
import itertools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.exact_check import check_against_cvxpy
from cvxinv.inspection import inspect_generator
from cvxinv.solvers.silence import silent_stdout


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


torch_module = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 30), nn.Tanh()).eval()
for k, parameter in enumerate(torch_module.parameters()):
    parameter.data = 0.5 * normal(*parameter.shape, seed=k).float()
PICTURES = nn.Sequential(
    nn.ConvTranspose2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(3, 1, 3, padding=1)
).eval()
for k, parameter in enumerate(PICTURES.parameters()):
    parameter.data = 0.5 * normal(*parameter.shape, seed=k).float()

G = ci.load_generator(torch_module, "identity")
G32 = G.to(torch.float32)
Z = normal(3, 4, seed=7)
Y = G(Z)
NOISY = Y + 0.01 * normal(3, 30, seed=8)
MASK = torch.rand(30, generator=seeded(9)) > 0.2
W, B = normal(40, 30, seed=1), 0.1 * normal(40, seed=2)
H = normal(5, 30, seed=3).clamp(min=0)
U = H @ W.T + B
ROWS = ci.Rows(ci.Dense(W), B, U.clamp(min=0) + 0.01 * normal(5, 40, seed=4), U > 0)
ALL_ON = ci.Rows(ci.Dense(W), B, U + 0.01 * normal(5, 40, seed=4), torch.ones_like(U, dtype=torch.bool))


def lasso(rows: ci.Rows = ROWS) -> ci.NonnegativeLasso:
    return ci.NonnegativeLasso(rows, 0.1)


def point(s: Any) -> list[Tensor]:
    return [s.h, s.p, s.certificate.objective, s.certificate.bound, s.certificate.holds]


def inverted(R: Any) -> list[Tensor]:
    return [R.z, R.signal, *R.hidden, R.verdict.misfit, R.verdict.explained, *(t for r in R.layers for t in (r.solution.h,))]


def solved(make: Callable[[], ci.AbstractLayerProblem], solver: str = "auto") -> Callable[[], list[Tensor]]:
    return lambda: point(ci.solve(make(), solver, on_fail="ignore", max_iter=300 if solver != "auto" else None))


def written(R: ci.Inversion) -> list[Tensor]:
    """What a result says of itself, as numbers."""
    words = R.explain(0, generator=G) + "".join(line for line in R.summary().split("\n") if " s" not in line[-8:])
    return [torch.tensor([ord(c) for c in words], dtype=torch.long, device="cpu")]


def loaded(source: Any, **options: Any) -> Callable[[], list[Tensor]]:
    return lambda: [t for layer in ci.load_generator(source, **options).layers for t in (layer.W.matrix(), layer.b)]


# what is computed anew under each of the surroundings, constructors included
CALLS: dict[str, Callable[[], list[Tensor]]] = {
    **{
        f"solve {solver}": solved(lambda: lasso(ALL_ON), solver)
        for solver in ("auto", "fista", "graph_admm", "pdhg", "interior_point", "sparse_active_set", "block_pivoting",
                       "linearized_admm", "shared_admm", "CLARABEL", "OSQP")
    },
    "solve with off rows": solved(lasso),
    "solve in float32": solved(lambda: lasso(ROWS.to(torch.float32))),
    "solve in float32 by name": solved(lambda: lasso(ROWS.to(torch.float32)), "graph_admm"),
    "solve a latent": solved(lambda: ci.GaussianLatent(ROWS, 0.1)),
    "solve a lasso": solved(lambda: ci.Lasso(ALL_ON, 0.1)),
    "solve an l2 bound": solved(lambda: ci.BasisPursuitL2(ALL_ON, 0.1)),
    "solve an l2 bound, off rows": solved(lambda: ci.NonnegativeBasisPursuitL2(ROWS, 0.1)),
    "solve linf bounds": solved(lambda: ci.NonnegativeBasisPursuitLinf(ROWS, 0.05)),
    "solve behind a tanh": solved(
        lambda: ci.IntervalBasisPursuit.behind(ci.Tanh(), ci.Dense(W), B, (0.1 * U).tanh(), 0.01)
    ),
    "solve what is not convex": solved(lambda: ci.ActivatedLasso(ALL_ON, ci.Tanh(), 0.1)),
    "certify": lambda: [getattr(ci.certify(lasso(), H, None), k) for k in ("objective", "bound", "violation", "holds")],
    "certify in words": lambda: [torch.tensor(list(repr(ci.certify(lasso(), H)).encode()), device="cpu")],
    "provably zero": lambda: [ci.provably_zero(lasso(ALL_ON), ci.Point(H, torch.zeros_like(U)))],
    **{f"invert {method}": lambda m=method: inverted(ci.invert(G, Y, m, on_fail="ignore", truth=Z, max_iter=30))
       for method in ci.METHODS},
    "invert with noise": lambda: inverted(ci.invert(G, NOISY, noise=("l2", 0.1), on_fail="ignore")),
    "invert with noise, layered": lambda: inverted(
        ci.invert(G, NOISY, "latent_pursuit", noise=("linf", 0.03), on_fail="ignore")
    ),
    "invert in float32": lambda: inverted(ci.invert(G32, Y.float(), on_fail="ignore")),
    "invert a mask": lambda: inverted(ci.invert(G, Y, measurement=MASK, on_fail="ignore")),
    "invert a matrix": lambda: inverted(ci.invert(G, Y @ W[:20, :30].T, measurement=W[:20, :30], on_fail="ignore")),
    "invert behind a tanh": lambda: inverted(ci.invert(G.with_output("tanh"), Y.tanh(), on_fail="ignore")),
    "invert with penalties": lambda: inverted(
        ci.invert(G, NOISY, "latent_pursuit", lam=0.01, gamma=torch.full((3,), 0.1, dtype=torch.float64, device="cpu"), on_fail="ignore")
    ),
    "result in words": lambda: written(ci.invert(G, NOISY, truth=Z, on_fail="ignore", max_iter=20)),
    "verify": lambda: [getattr(ci.verify(G, NOISY, Z), k) for k in ("misfit", "determined", "sigma_min", "explained")],
    "load a module": loaded(torch_module),
    "load pictures": loaded(PICTURES),
    "load what ships": loaded("digits_8x8"),
    "latents": lambda: [G.sample_latent(4, seeded(0)), G32.sample_latent(4, seeded(0))],
    "signals in float32": lambda: [G32(Z.float()), *G32.linearize(Z.float()), *G32.hidden(Z.float())],
    "maps in float32": lambda: [ci.Dense(W.float())(H.float()), ci.Dense(W.float()).adjoint(U.float())],
    "inspect": lambda: [torch.tensor([float(inspect_generator(G, 20, 3).condition or 0)], dtype=torch.float64, device="cpu")],
    "padding": lambda: [ci.Resampling2d.padding((1, 3, 300), (2, 2, 1, 1), "reflect").matrix()],
    "nearest": lambda: [ci.Resampling2d.nearest((2, 3, 300), (2, 1)).matrix()],
    "check against CVXPY": lambda: [
        torch.tensor([r["difference"] for r in check_against_cvxpy(ci.invert(G, NOISY, on_fail="ignore"), 1)], device="cpu",
                     dtype=torch.float64)
    ],
}  # fmt: skip


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to half": lambda: torch.autocast("cpu", dtype=torch.float16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default half": lambda: default_dtype(torch.float16),
    "another default device": lambda: default_device("meta"),  # stands for a card, which not every machine has
    "deterministic algorithms": deterministic,
}


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Tensor]]:
    known: dict[str, list[Tensor]] = {}
    return known


@pytest.mark.parametrize("call", CALLS)
def test_no_surrounding_changes_a_bit_of_an_answer(call: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted, wrong = CALLS[call](), []
        for name, surrounding in SURROUNDINGS.items():
            with surrounding():
                got = CALLS[call]()
            same = len(got) == len(wanted) and all(
                a.dtype == b.dtype and a.device == b.device and not a.requires_grad
                and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
                for a, b in zip(got, wanted, strict=True)
            )  # fmt: skip
            wrong += [] if same else [name]
    assert not wrong, f"{call} gives something else under {wrong}"
