"""Certificate files: what a solution or an inversion claims, with all that it takes to check it (docs/checking.md).

They are read by `check.py`, which takes nothing from here. Numbers are the float64 that the judge sees; each file is
there whole or not at all.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .activations import PLU, LeakyReLU
from .bounds import closer, serves
from .certificate import INFEASIBLE, OPTIMAL, OPTIMAL_INACCURATE, Certificate, proved_dual
from .check import KINDS
from .files import check_writable
from .generator import Generator, Layer
from .inversion.result import Inversion
from .inversion.task import Task, make_task
from .layer_problem import AbstractLayerProblem, dead_rows
from .lengths import lengths
from .measurement import Matrix
from .png import write_whole
from .solvers.solve import Solution

SUFFIX = ".certificate.json"
_INACCURATE = 1000.0  # check.py grants `optimal_inaccurate` this many times what is allowed
_WIDE = 1e6  # scopes of fewer lengths of h are made longer where a better p does it
_LARGEST = 10_000_000  # entries of a dense matrix: 110 MB of a file, and check.py reads 134 MB


def export_solution(solution: Solution, path: str | Path) -> Path:
    """Write the claims on a layer problem, all signals, to one file; returns its path.

    Raises ValueError where the problem is not kept, or too large as a dense matrix; OSError where nothing can be written.
    """
    if not isinstance(solution, Solution):
        raise TypeError(f"expected a Solution, got {type(solution).__name__}; pass what cvxinv.solve gives back")
    return _write(Path(path), _layer(_known(solution.problem), solution))


def export_inversion(
    inversion: Inversion, folder: str | Path, generator: Generator, y: Tensor | np.ndarray, measurement: object = None
) -> Path:
    """Write the claims on an inversion into a folder: one file for `verify`'s, one for each layer problem.

    generator, y, measurement: what was inverted, as `invert` took them; the noise is the inversion's own. Files of an
    earlier export into the folder go. Returns the folder. Raises as `export_solution`.
    """
    if not isinstance(inversion, Inversion):
        raise TypeError(f"expected an Inversion, got {type(inversion).__name__}; pass what cvxinv.invert gives back")
    words = str(inversion.settings.get("noise") or "")  # "l2:0.1", or "l2, 0.1 to 0.2 per signal"
    norm = next((name for name in ("l2", "linf") if words.startswith(name)), "")
    task = make_task(generator, y, measurement, (norm, inversion.verdict.explained_below) if norm else None)
    if task.N != len(inversion):
        raise ValueError(f"expected the {len(inversion)} signals of the inversion, got {task.N}; pass the same y")
    contents = {"inversion": _claims(task.to(torch.float64), inversion, norm)}
    for report in inversion.layers:
        contents[f"layer-{report.index}"] = _layer(_known(report.problem), report.solution)
    folder = check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / f"inversion{SUFFIX}", *folder.glob(f"layer-*{SUFFIX}")]:
        old.unlink(missing_ok=True)
    for name, content in contents.items():
        _write(folder / f"{name}{SUFFIX}", content)
    return folder


def certificate_files(path: str | Path) -> list[Path]:
    """The file itself, or the certificate files of a folder. Raises FileNotFoundError where there are none."""
    path = Path(path)
    found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not found or not all(file.is_file() for file in found):
        raise FileNotFoundError(f"expected a certificate file, or a folder with files *{SUFFIX}, at {path}, found none")
    return found


def _known(problem: AbstractLayerProblem | None) -> AbstractLayerProblem:
    if problem is None:
        raise ValueError(
            "expected a solution that knows its problem, got none: files do not keep it; export first, then save"
        )
    return problem


def _layer(kept: AbstractLayerProblem, solution: Solution) -> dict[str, Any]:
    kind, problem = type(kept).__name__, kept.to(torch.float64)
    if kind not in KINDS:
        raise ValueError(f"expected a layer problem that check.py knows, got {kind}; it knows {', '.join(KINDS)}")
    rows, name = problem.rows, KINDS[kind][2]
    if problem.sizes is not None or rows.stretch is not None:
        raise ValueError("expected a layer problem in its own units, got one from `normalised`; export what it was made of")
    _check_size(rows.m, rows.n)
    certificate = solution.certificate
    p = torch.nan_to_num(proved_dual(problem, solution.point, certificate), posinf=0.0, neginf=0.0)
    scope, p = _scoped(problem, _with_broken_rows(problem, p, solution), solution)
    content = {
        "kind": kind,
        "shape": [problem.N, rows.m, rows.n],
        "status": solution.status.tolist(),
        "rows": marks(rows.on, rows._off),
    }
    open_ = torch.full_like(p, torch.inf)
    lo, hi = (x if end is None else end for x, end in zip((-open_, open_), problem.bounds(), strict=True))
    numbers = {
        "W": rows.W.matrix(),
        "b": rows.b.expand_as(p),
        "h": torch.nan_to_num(solution.h.double(), posinf=0.0, neginf=0.0),  # such a signal claims nothing
        "p": p,
        "scope": scope,
        "weight": torch.zeros_like(p) if problem.form == "interval" else rows.fit,
        "y": rows.y,
        "tol": torch.full_like(certificate.scope, certificate.tol),
        "lo": lo,
        "hi": hi,
    }
    numbers |= {name: getattr(problem, name)} if name else {}
    return content | {key: packed(value) for key, value in numbers.items()}


def _with_broken_rows(problem: AbstractLayerProblem, p: Tensor, solution: Solution) -> Tensor:
    """p `(N, m)`, and where a row that is 0 in W makes the problem infeasible by itself, the p that says so."""
    dead = dead_rows(problem)
    if not bool(dead.any()):
        return p
    b, (lo, hi) = problem.rows.b.expand_as(p), problem.bounds()
    above = torch.zeros_like(p) if hi is None else torch.where(dead & torch.isfinite(hi), b - hi, 0.0)
    below = torch.zeros_like(p) if lo is None else torch.where(dead & torch.isfinite(lo), lo - b, 0.0)
    over, row = torch.maximum(above, below).max(1)
    certificate = solution.certificate
    alone = torch.from_numpy(certificate.status == INFEASIBLE).to(p.device)
    alone &= over > certificate.tol * problem.rows.scale()
    sign = torch.where(above >= below, 1.0, -1.0).to(p.dtype)
    ray = torch.zeros_like(p).scatter(1, row[:, None], sign.gather(1, row[:, None]))
    return torch.where(alone[:, None], ray, p)


def _scoped(problem: AbstractLayerProblem, p: Tensor, solution: Solution) -> tuple[Tensor, Tensor]:
    """The |h| `(N,)` up to which p `(N, m)` proves what is claimed, inf for all h, and that p.

    Where lam = 0 rounding leaves W'p a little off 0 (or below it): p then proves less the longer an h may be, and half the
    gap that is allowed and left goes into that. Where p is so far off that little is left it is brought closer first.
    """
    certificate, length = solution.certificate, lengths(solution.h.double())
    scope = certificate.scope.to(p.device)
    claimed = torch.from_numpy(np.isin(certificate.status, (OPTIMAL, OPTIMAL_INACCURATE))).to(p.device)
    open_ = (claimed & torch.isinf(scope) & serves(problem)).nonzero()[:, 0]
    if len(open_) == 0:
        return scope, p
    widest = _widest(problem.take(open_), p[open_], certificate.take(open_))
    poor = widest < _WIDE * length[open_]
    if bool(poor.any()):
        part = problem.take(open_[poor])
        better = closer(part, p[open_[poor]])
        wider = _widest(part, better, certificate.take(open_[poor]))
        there = open_[poor][wider > widest[poor]]
        p, widest = p.clone(), widest.clone()
        p[there] = better[wider > widest[poor]]
        widest[poor] = torch.maximum(wider, widest[poor])
    scope = scope.clone()
    scope[open_] = torch.where(widest >= length[open_], widest, torch.inf)
    return scope, p


def _widest(problem: AbstractLayerProblem, p: Tensor, certificate: Certificate) -> Tensor:
    """The |h| `(N,)` over which half of what is allowed and left is lost."""
    unmet = problem.unmet(p)
    assert unmet is not None
    times = torch.from_numpy(np.where(certificate.status == OPTIMAL, 1.0, _INACCURATE))
    left = times * certificate.allowed_gap - (certificate.objective - unmet.value.cpu() + certificate.worth)
    steep = lengths(unmet.short.abs() + unmet.doubt)
    return torch.where(steep > 0, left.to(p.device).clamp(min=0) / (2 * steep), torch.inf)


def _claims(task: Task, inversion: Inversion, norm: str) -> dict[str, Any]:
    """What `verify` says of the latents; task: in float64."""
    G, seeing = task.generator, task.measurement
    seen = seeing.seen(task.N)
    A = seeing.A if isinstance(seeing, Matrix) else None
    return {
        "kind": "Inversion",
        "shape": [task.N, G.latent_dim, G.signal_dim, seeing.length],
        "layers": [_step(layer) for layer in G.layers],
        "A": None if A is None else packed(A),
        "seen": marks(seen, torch.zeros_like(seen)),
        "y": packed(task.y),
        "z": packed(inversion.z),
        "noise": norm,
        "bound": packed(inversion.verdict.explained_below),
        "born": str(task.born).removeprefix("torch."),
        "status": inversion.status.tolist(),
        "determined": inversion.verdict.determined.tolist(),
    }


def _step(layer: Layer) -> dict[str, Any]:
    phi, W = layer.activation, layer.W
    _check_size(W.m, W.n)
    numbers = [phi.slope] if isinstance(phi, LeakyReLU) else [phi.a, phi.c] if isinstance(phi, PLU) else []
    return {
        "shape": [W.m, W.n],
        "activation": phi.name,
        "numbers": packed(torch.tensor([float(x) for x in numbers], dtype=torch.float64)),
        "W": packed(W.matrix()),
        "b": packed(layer.b),
    }


def packed(values: Tensor) -> str:
    """float64 numbers as base64 of their little-endian bytes, row by row."""
    return base64.b64encode(values.detach().cpu().double().contiguous().numpy().astype("<f8").tobytes()).decode()


def marks(on: Tensor, off: Tensor) -> list[str]:
    """A string per signal, a character per row: + on, - off, . not seen."""
    signs = np.where(on.cpu().numpy(), "+", np.where(off.cpu().numpy(), "-", "."))
    return ["".join(row) for row in signs.tolist()]


def _check_size(m: int, n: int) -> None:
    if m * n > _LARGEST:
        raise ValueError(f"expected matrices of at most {_LARGEST} entries for a certificate file, got one of {m} x {n}")


def _write(path: Path, content: dict[str, Any]) -> Path:
    head = {"format": "cvxinv certificate", "version": 1}
    write_whole(path, (json.dumps(head | content, indent=1, allow_nan=False) + "\n").encode())
    return path
