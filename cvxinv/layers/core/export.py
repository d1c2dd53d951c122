"""Certificate files of layer problems: what a point claims, with all that it takes to check it (docs/checking.md).

They are read by `check.py` and `check_fits.py`, which take nothing from here. Numbers are the float64 that the judge sees;
each file is there whole or not at all.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...check import KINDS
from ...check_fits import FITS
from ...files import write_together
from ...lengths import lengths
from .bounds import closer, serves
from .certificate import INFEASIBLE, OPTIMAL, OPTIMAL_INACCURATE, Certificate, proved_dual
from .problem import AbstractLayerProblem, Point
from .units import dead_rows

_INACCURATE = 1000.0  # check.py grants `optimal_inaccurate` this many times what is allowed
_WIDE = 1e6  # scopes of fewer lengths of h are made longer where a better p does it
_LARGEST = 10_000_000  # entries of a dense matrix: 110 MB of a file, and check.py reads 134 MB


def layer_claims(kept: AbstractLayerProblem | None, point: Point, certificate: Certificate) -> dict[str, Any]:
    """What the certificate says of the point, as the content of a file.

    Raises ValueError where the problem is not kept, of a kind that check.py does not know, or too large as a dense matrix.
    """
    if kept is None:
        raise ValueError(
            "expected a solution that knows its problem, got none: files do not keep it; export first, then save"
        )
    kind, problem = type(kept).__name__, kept.to(torch.float64)
    known = KINDS | FITS
    if kind not in known:
        raise ValueError(f"expected a layer problem that check.py knows, got {kind}; it knows {', '.join(known)}")
    rows, name = problem.rows, known[kind][2]
    if problem.sizes is not None or rows.stretch is not None:
        raise ValueError("expected a layer problem in its own units, got one from `normalised`; export what it was made of")
    check_size(rows.m, rows.n)
    p = torch.nan_to_num(proved_dual(problem, point, certificate), posinf=0.0, neginf=0.0)
    scope, p = _scoped(problem, _with_broken_rows(problem, p, certificate), point.h, certificate)
    content = {
        "kind": kind,
        "shape": [problem.N, rows.m, rows.n],
        "status": certificate.status.tolist(),
        "rows": marks(rows.on, rows.off),
    }
    open_ = torch.full_like(p, torch.inf)
    lo, hi = (x if end is None else end for x, end in zip((-open_, open_), problem.bounds(), strict=True))
    if problem.form == "excess":
        hi = torch.minimum(hi, rows.cut)  # where an off row's excess begins, whether it is limited or paid for
    numbers = {
        "W": rows.W.matrix(),
        "b": rows.b.expand_as(p),
        "h": torch.nan_to_num(point.h.double(), posinf=0.0, neginf=0.0),  # such a signal claims nothing
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


def _with_broken_rows(problem: AbstractLayerProblem, p: Tensor, certificate: Certificate) -> Tensor:
    """p `(N, m)`, and where a row that is 0 in W makes the problem infeasible by itself, the p that says so."""
    dead = dead_rows(problem)
    if not bool(dead.any()):
        return p
    b, (lo, hi) = problem.rows.b.expand_as(p), problem.bounds()
    above = torch.zeros_like(p) if hi is None else torch.where(dead & torch.isfinite(hi), b - hi, 0.0)
    below = torch.zeros_like(p) if lo is None else torch.where(dead & torch.isfinite(lo), lo - b, 0.0)
    over, row = torch.maximum(above, below).max(1)
    alone = torch.from_numpy(certificate.status == INFEASIBLE).to(p.device)
    alone &= over > certificate.tol * problem.rows.scale()
    sign = torch.where(above >= below, 1.0, -1.0).to(p.dtype)
    ray = torch.zeros_like(p).scatter(1, row[:, None], sign.gather(1, row[:, None]))
    return torch.where(alone[:, None], ray, p)


def _scoped(problem: AbstractLayerProblem, p: Tensor, h: Tensor, certificate: Certificate) -> tuple[Tensor, Tensor]:
    """The |h| `(N,)` up to which p `(N, m)` proves what is claimed, inf for all h, and that p.

    Where lam = 0 rounding leaves W'p a little off 0 (or below it): p then proves less the longer an h may be, and half the
    gap that is allowed and left goes into that. Where p is so far off that little is left it is brought closer first.
    """
    length = lengths(h.double())
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


def packed(values: Tensor) -> str:
    """float64 numbers as base64 of their little-endian bytes, row by row."""
    return base64.b64encode(values.detach().cpu().double().contiguous().numpy().astype("<f8").tobytes()).decode()


def marks(on: Tensor, off: Tensor) -> list[str]:
    """A string per signal, a character per row: + on, - off, . not seen."""
    signs = np.where(on.cpu().numpy(), "+", np.where(off.cpu().numpy(), "-", "."))
    return ["".join(row) for row in signs.tolist()]


def check_size(m: int, n: int) -> None:
    """Raise ValueError for a matrix that is too large for a file."""
    if m * n > _LARGEST:
        raise ValueError(f"expected matrices of at most {_LARGEST} entries for a certificate file, got one of {m} x {n}")


def write_claims(contents: Mapping[Path, dict[str, Any]]) -> None:
    """Write certificate files, all of them whole or none at all. Raises OSError."""
    head = {"format": "cvxinv certificate", "version": 1}
    in_words = {path: json.dumps(head | content, indent=1, allow_nan=False) + "\n" for path, content in contents.items()}
    write_together({path: text.encode() for path, text in in_words.items()})
