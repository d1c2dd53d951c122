"""Clock, judge and yardstick of the layer benchmarks. Nothing here knows any solver."""

import copy
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import cvxinv as ci

TOL = 1e-6
_JUDGED = 64  # signals at a time: the judge's repairs take an n x n matrix per signal
_SEEN = (
    "torch", "numpy", "scipy", "cvxpy", "scikit-learn", "celer", "skglm", "spams-bin", "daqp", "piqp", "proxsuite", "osqp",
    "scs", "ecos", "clarabel", "highspy", "ortools",
)  # fmt: skip


@dataclass(frozen=True)
class Seconds:
    """Process seconds (all threads of this process together) and wall seconds."""

    process: float
    wall: float

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.process + other.process, self.wall + other.wall)

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(max(self.process - other.process, 1e-9), max(self.wall - other.wall, 1e-9))

    def times(self, factor: float) -> "Seconds":
        return Seconds(self.process * factor, self.wall * factor)


def median(runs: list[Seconds]) -> Seconds:
    return Seconds(statistics.median(r.process for r in runs), statistics.median(r.wall for r in runs))


def clocked(call: Callable, device: str = "cpu"):
    """What `call` returns, and the seconds it took."""
    if device != "cpu":
        torch.cuda.synchronize()
    process, wall = time.process_time(), time.perf_counter()
    answer = call()
    if device != "cpu":
        torch.cuda.synchronize()
    return answer, Seconds(time.process_time() - process, time.perf_counter() - wall)


# --- the judge ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What `certify` says of a batch, float64: signals judged, how many are not optimal, and the worst of each measure.

    gap: relative to the objective; violation: relative to s_y; kkt: fixed-point residual of the proximal operators, in
    units of a problem with |W| = 1 and s_y = 1.
    """

    signals: int
    failures: int
    gap: float
    violation: float
    kkt: float

    @property
    def error(self) -> float:
        return max(self.gap, self.violation)


def judge(problem: ci.AbstractLayerProblem, h: Tensor, p: Tensor | None) -> Verdict:
    """The one judge for everybody. Where a solver's own p does not prove its h optimal, one is built from h."""
    problem, h = problem.to(torch.float64, "cpu"), h.double().cpu()
    parts = []
    for start in range(0, problem.N, _JUDGED):
        index = torch.arange(start, min(start + _JUDGED, problem.N))
        parts.append(_judge_part(problem.take(index), h[index], None if p is None else p[index].double().cpu()))
    failures, gap, violation, kkt = zip(*parts, strict=True)
    return Verdict(problem.N, sum(failures), max(gap), max(violation), max(kkt))


def _judge_part(problem: ci.AbstractLayerProblem, h: Tensor, p: Tensor | None) -> tuple[int, float, float, float]:
    finite = torch.isfinite(h).all(1)
    p = problem.complete(torch.where(finite[:, None], h, 0.0)) if p is None else p.clone()
    left = (~ci.certify(problem, h, p, tol=TOL).holds & finite).nonzero()[:, 0]
    if len(left):
        part = problem.take(left)
        built = part.complete(h[left])
        better = ci.certify(part, h[left], built, tol=TOL).gap < ci.certify(part, h[left], p[left], tol=TOL).gap
        p[left] = torch.where(better[:, None], built, p[left])
    found = ci.certify(problem, h, p, tol=TOL)
    worst = [
        torch.nan_to_num(v, nan=torch.inf) for v in (found.relative_gap, found.violation / found.scale, kkt(problem, h, p))
    ]
    return int((~found.holds).sum()), *(float(v.max().clamp(min=0)) for v in worst)


def kkt(problem: ci.AbstractLayerProblem, h: Tensor, p: Tensor) -> Tensor:
    """max(|h - prox_g(h - W'p)|, |v - prox_F(v + p)|) with v = W h + b, in normalised units, `(N,)`."""
    scaled = problem.normalised()
    small, h, p = scaled.problem, h / scaled.h_unit, p / scaled.p_unit
    v, one = small.rows.W(h) + small.rows.b, torch.ones_like(h[:, :1])
    unknown = (h - small.prox_unknown(h - small.rows.W.adjoint(p), one)).abs().amax(1)
    return torch.maximum(unknown, (v - small.prox_rows(v + p, one)).abs().amax(1))


# --- the yardstick --------------------------------------------------------------------------------


def gemm_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """Floating-point operations per second of a 1024x392 by 392x392 product, the best of several runs."""
    A, B = torch.randn(1024, 392, dtype=dtype, device=device), torch.randn(392, 392, dtype=dtype, device=device)
    A @ B
    runs = [clocked(lambda: [A @ B for _ in range(10)], device)[1] for _ in range(7)]
    best = min(r.process if device == "cpu" else r.wall for r in runs)
    return 10 * 2 * 1024 * 392 * 392 / best


def _batch(shape) -> int:
    return int(np.prod(shape[:-2], dtype=np.int64))


def _factor(A, *rest, out_shape=None, **options) -> int:
    return _batch(A) * A[-1] ** 3 // 3


def _solve(B, A, *rest, out_shape=None, **options) -> int:
    return 2 * max(_batch(A), _batch(B)) * A[-1] ** 2 * B[-1]


def _triangular(A, B, *rest, out_shape=None, **options) -> int:
    return max(_batch(A), _batch(B)) * A[-1] ** 2 * B[-1]


def _vector(A, v, *rest, out_shape=None, **options) -> int:
    return 2 * A[0] * A[1]


def _eigen(A, *rest, out_shape=None, **options) -> int:
    return 9 * _batch(A) * A[-1] ** 3  # Golub, Van Loan: about 9 n^3 for values and vectors


def flops(call: Callable) -> int:
    """Operations of the matrix products and factorisations inside `call`; elementwise work is not counted."""
    aten = torch.ops.aten
    more = {
        aten.linalg_cholesky_ex: _factor, aten.cholesky_solve: _solve, aten.linalg_solve_triangular: _triangular,
        aten.mv: _vector, aten._linalg_eigh: _eigen,
    }  # fmt: skip
    with FlopCounterMode(display=False, custom_mapping=copy.copy(more)) as counter:
        call()
    return counter.get_total_flops()


# --- where this was measured ----------------------------------------------------------------------


def processor() -> str:
    """The processor's name; platform's own is empty on many systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def circumstances(device: str) -> dict:
    """Machine, versions, commit, date and load: what a figure means nothing without."""
    versions = {}
    for name in _SEEN:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    root = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()

    return {
        "processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "system": platform.platform(),
        "python": platform.python_version(), "versions": versions, "cvxinv": ci.__version__,
        "commit": git("rev-parse", "--short", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "../cvxinv")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg(),
    }  # fmt: skip


def plain(thing):
    """The same with six digits per number, and words for the numbers that JSON does not have."""
    if isinstance(thing, dict):
        return {key: plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(value) for value in thing]
    if isinstance(thing, float):
        return float(f"{thing:.6g}") if np.isfinite(thing) else str(thing)
    return thing
