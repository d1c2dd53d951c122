"""Sparse codes with a dictionary of each signal's own: the Lasso by proximal gradient steps, and what its points prove.

    minimise    1/2 |y - D x|^2 + lam |x|_1              (P)

    maximise    y'q - 1/2 |q|^2                          (D)
    subject to  |D'q|_inf <= lam

(P) is min_x max_q q'(y - D x) - 1/2 |q|^2 + lam |x|_1; the minimum over x is 0 where |D'q|_inf <= lam and -inf elsewhere.
At the optimum q = y - D x. Any q, scaled by s with s |D'q|_inf <= lam, is feasible, and s y'q - s^2 |q|^2 / 2 is largest at
s = y'q / |q|^2: `code_gap` takes q = y - D x and the best s that is allowed, in float64, whatever x is.

    x_{k+1} = soft(z_k - D'(D z_k - y) / c, lam / c),   soft(v, t) = sign(v) max(|v| - t, 0)

z_k = x_k, or with momentum z_k = x_k + (t_{k-1} - 1) / t_k (x_k - x_{k-1}), t_k = (1 + (1 + 4 t_{k-1}^2)^(1/2)) / 2. Steps
1 / c with c >= |D|^2 never raise the objective; backtracking asks for less, c |d|^2 >= |D d|^2 for the step d just taken.

One dictionary for all signals is a `Lasso`, which `solve` solves and `certify` judges; here are the comparisons that
learned networks need, and labels to train them on. Source: Beck, Teboulle (2009); O'Donoghue, Candes (2015), restart.
"""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..inputs import describe, plain_number, read_numbers, read_seen, read_size
from ..inversion.options import positive

_LOOK = 20  # iterations between looks at the gap
_MOST = 1_000_000_000_000.0  # curvature beyond which backtracking has lost its numbers


def soft(v: Tensor, t: Tensor) -> Tensor:
    """sign(v) max(|v| - t, 0)."""
    return torch.relu(v - t) - torch.relu(-v - t)


class Dictionaries(NamedTuple):
    """`D` `(n, m)` of all signals or `(N, n, m)`, each signal's own; `seen` `(N, n)`: 1 where y is known, None: all."""

    D: Tensor
    seen: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """D x on what is seen, `(N, n)`."""
        v = x @ self.D.mT if self.D.ndim == 2 else torch.bmm(self.D, x[:, :, None])[:, :, 0]
        return v if self.seen is None else v * self.seen

    def adjoint(self, r: Tensor) -> Tensor:
        """D'r of what is seen, `(N, m)`."""
        r = r if self.seen is None else r * self.seen
        return r @ self.D if self.D.ndim == 2 else torch.bmm(r[:, None, :], self.D)[:, 0]

    def norm(self) -> Tensor:
        """|D|, `()` or `(N,)`; of what is seen it is at most that."""
        return torch.linalg.matrix_norm(self.D, 2)


def read_codes(y: object, D: object, lam: object, seen: object = None) -> tuple[Tensor, Dictionaries, Tensor]:
    """y, D with what is seen, and lam `(N, 1)`, checked. Raises TypeError or ValueError for what does not fit."""
    if not isinstance(D, Tensor) or D.ndim not in (2, 3) or not D.is_floating_point() or min(D.shape[-2:]) < 1:
        raise ValueError(f"expected D as floats of shape (n, m) or (N, n, m), got {describe(D)}; pass one for each signal")
    y, mask = read_signals_of(y, seen, D.shape[-2], D)
    if D.ndim == 3 and len(D) != len(y):
        raise ValueError(f"expected a dictionary for each of {len(y)} signals, got {len(D)}; or pass one (n, m) for all")
    if not bool(torch.isfinite(D).all()):
        raise ValueError("expected finite dictionaries, got NaN or inf in D; clean them")
    empty = (D == 0).all(-2)
    if bool(empty.any()):
        *signal, column = (int(k) for k in empty.nonzero()[0])
        of = f" of the dictionary of signal {signal[0]}" if signal else " of the dictionary"
        raise ValueError(f"expected columns that are not 0, got zeros alone in column {column}{of}; leave it out")
    return y, Dictionaries(D, mask), read_lam(lam, y)


def read_signals_of(y: object, seen: object, n: int, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """y `(N, n)` in the type and on the device of `like`, and 1 where it was seen, else 0, and y too; None: all was."""
    y = read_numbers(y, "y", like.device)
    if y.ndim != 2 or y.shape[1] != n or len(y) == 0:
        raise ValueError(f"expected y of shape (N, {n}), one entry per row of the dictionary, got {tuple(y.shape)}")
    if y.dtype != like.dtype:
        raise ValueError(f"expected y in {like.dtype} as the dictionary is, got {y.dtype}; cast one with .to()")
    mask = None if seen is None else read_seen(seen, y)
    y = y if mask is None else y.masked_fill(~mask, 0.0)
    if not bool(torch.isfinite(y).all()):
        raise ValueError("expected finite y, got NaN or inf where it is seen; pass seen, False at such entries")
    return y, None if mask is None else mask.to(y.dtype)


def read_lam(lam: object, y: Tensor) -> Tensor:
    """lam >= 0 as `(N, 1)`, in the type of y."""
    return read_size(lam, "lam", len(y), y.device).to(y.dtype)[:, None]


@dataclass(frozen=True)
class ProximalGradient:
    """ISTA and FISTA with the steps that learned networks are to be compared with.

    step: 1 / c, None for 1 / |D|^2, of each signal's own D. momentum: FISTA. restart: momentum starts again where it points
    uphill, per signal. backtracking: c doubles, per signal, until c |d|^2 >= |D d|^2 for the step d; the first 1 / c is
    `step`, 1 where that is None. Raises ValueError for a step that is not > 0 and for a restart of no momentum.
    """

    step: float | None = None
    momentum: bool = False
    restart: bool = False
    backtracking: bool = False

    def __post_init__(self) -> None:
        step = plain_number(self.step)
        if step is not None and not (isinstance(step, int | float) and not isinstance(step, bool) and 0 < step < inf):
            raise ValueError(f"step must be > 0 and finite, got {self.step!r}; leave it out for 1 / |D|^2")
        if self.restart and not self.momentum:
            raise ValueError("expected momentum=True beside restart=True, got no momentum; there is nothing to start again")

    def iterates(self, y: Tensor, D: Tensor, lam: float | Tensor, iterations: int, seen: Tensor | None = None) -> Tensor:
        """x_1, ..., x_K from x_0 = 0, `(K, N, m)`, for signals `(N, n)` and D `(n, m)` or `(N, n, m)`.

        seen: bool `(N, n)`; hidden entries of y are not read. Raises TypeError or ValueError for what does not fit.
        """
        positive(iterations, "iterations")
        y, A, price = read_codes(y, D, lam, seen)
        state = self.begin(y, A, price)
        return torch.stack([state.advance().x for _ in range(iterations)])

    def begin(self, y: Tensor, A: Dictionaries, lam: Tensor) -> "_Descent":
        """The state before the first iteration; nothing is checked."""
        if self.backtracking or self.step is not None:
            c = y.new_full((len(y), 1), 1 / (self.step or 1.0))
        else:
            c = A.norm().square().expand(len(y))[:, None]
        return _Descent(self, y, A, lam, c)


class _Descent:
    """The iteration of `ProximalGradient` on a batch."""

    def __init__(self, rule: ProximalGradient, y: Tensor, A: Dictionaries, lam: Tensor, c: Tensor):
        self.rule, self.y, self.A, self.lam, self.c = rule, y, A, lam, c
        self.x = y.new_zeros(len(y), A.D.shape[-1])
        self.z, self.t = self.x, torch.ones_like(c)

    def advance(self) -> "_Descent":
        before, slope = self.x, self.A.adjoint(self.A(self.z) - self.y)
        self.x = soft(self.z - slope / self.c, self.lam / self.c)
        if self.rule.backtracking:
            self._backtrack(slope)
        if not self.rule.momentum:
            self.z = self.x
            return self
        following = (1 + (1 + 4 * self.t * self.t).sqrt()) / 2
        ahead = (self.t - 1) / following
        if self.rule.restart:
            uphill = ((self.z - self.x) * (self.x - before)).sum(1, keepdim=True) > 0
            ahead, following = ahead.masked_fill(uphill, 0.0), following.masked_fill(uphill, 1.0)
        self.z, self.t = self.x + ahead * (self.x - before), following
        return self

    def _backtrack(self, slope: Tensor) -> None:
        """Double c where the step just taken may have raised the objective."""
        while True:
            d = self.x - self.z
            bent, allowed = self.A(d).square().sum(1, keepdim=True), self.c * d.square().sum(1, keepdim=True)
            # equality but for rounding is no reason to halve a step
            short = (bent > allowed * (1 + 1e-6)) & (self.c < _MOST)
            if not bool(short.any()):
                return
            self.c = torch.where(short, 2 * self.c, self.c)
            self.x = torch.where(short, soft(self.z - slope / self.c, self.lam / self.c), self.x)


def code_gap(y: Tensor, D: Tensor, lam: float | Tensor, x: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Objective at `x` `(N, m)`, and by how much at most it exceeds the optimum, `(N,)` each, in float64, for every x.

    Raises TypeError or ValueError for what does not fit.
    """
    y, A, price = read_codes(y, D, lam, seen)
    if not isinstance(x, Tensor) or x.shape != (len(y), A.D.shape[-1]):
        raise ValueError(f"expected x of shape ({len(y)}, {A.D.shape[-1]}), got {describe(x)}; pass one code per signal")
    return _judge(y, A, price, x)


def _judge(y: Tensor, A: Dictionaries, lam: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    wide = Dictionaries(A.D.double(), None if A.seen is None else A.seen.double())
    y, x, price = y.double(), x.double(), lam.double()[:, 0]
    q = y - wide(x)
    square, steepest = q.square().sum(1), wide.adjoint(q).abs().amax(1)
    objective = square / 2 + price * x.abs().sum(1)
    best = torch.where(square > 0, (y * q).sum(1) / square, torch.zeros_like(square))
    # scaled a rounding further than needed, so that s q is feasible
    most = torch.where(steepest > 0, price / steepest * (1 - 1e-14), torch.inf)
    s = torch.minimum(best.clamp(min=0), most)
    return objective, objective - s * (y * q).sum(1) + s * s * square / 2


@dataclass(frozen=True, eq=False)
class Codes(Batch):
    """Sparse codes and what they prove. x: `(N, m)`; objective, gap: `(N,)`, float64, units of signal^2; the gap is a true
    bound on how far the objective is above the optimum. certified: whether the gap is within what was asked, bool `(N,)`.
    iterations: `(N,)`."""

    x: Tensor = per_signal()
    objective: Tensor = per_signal()
    gap: Tensor = per_signal()
    certified: Tensor = per_signal()
    iterations: Tensor = per_signal()

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return (
            f"Codes of {len(self)} signals: {int(self.certified.sum())} certified; largest gap {float(self.gap.max()):.1e}"
        )


def certified_codes(
    y: Tensor,
    D: Tensor,
    lam: float | Tensor,
    *,
    seen: Tensor | None = None,
    tol: float = 1e-10,
    max_iter: int = 20_000,
) -> Codes:
    """The Lasso of each signal in its own dictionary, by restarted FISTA, until its gap is within `tol` |y|^2 / 2.

    What is not within it after `max_iter` comes back with its gap, and `certified` False. y, D, lam, seen: as in
    `ProximalGradient.iterates`; hidden entries do not count in |y|. Works in the type of D, judges in float64.
    """
    y, A, price = read_codes(y, D, lam, seen)
    N, left = len(y), torch.arange(len(y), device=y.device)
    x = y.new_zeros(N, A.D.shape[-1])
    objective, gap = _judge(y, A, price, x)
    allowed, iterations = tol * y.double().square().sum(1) / 2, torch.zeros(N, dtype=torch.long, device=y.device)
    run = ProximalGradient(momentum=True, restart=True).begin(y, A, price)
    for k in range(1, max_iter + 1):
        run.advance()
        if k % _LOOK and k < max_iter:
            continue
        here, at = _judge(run.y, run.A, run.lam, run.x)
        better = at < gap[left]
        x[left[better]], gap[left[better]], objective[left[better]] = run.x[better], at[better], here[better]
        iterations[left] = k
        open_ = gap[left] > allowed[left]
        if not bool(open_.any()):
            break
        if int(open_.sum()) < 0.7 * len(left):
            left = left[open_]
            run = _kept(run, open_)
    return Codes(x, objective, gap, gap <= allowed, iterations)


def _kept(run: _Descent, index: Tensor) -> _Descent:
    """The same iteration of the signals at `index` only."""
    D, seen = run.A
    A = Dictionaries(D if D.ndim == 2 else D[index], None if seen is None else seen[index])
    kept = _Descent(run.rule, run.y[index], A, run.lam[index], run.c[index])
    kept.x, kept.z, kept.t = run.x[index], run.z[index], run.t[index]
    return kept
