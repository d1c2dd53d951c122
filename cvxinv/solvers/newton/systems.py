"""The matrices of Newton's steps, W' diag(fit_i + weight_i) W + diag(d_i) for each signal i: formed, factorised, solved.

On the CPU each signal is a call of BLAS `dsyrk`, which forms one triangle only, of the rows that have a weight, in place of
a full product, in half the operations; and one of LAPACK `dpotrf` in the same memory. Elsewhere the batch goes through torch
at once. What stays the same, W' diag(fit_i) W, is formed once.
"""

import numpy as np
import torch
from torch import Tensor

from ...layers.core.factors import spd_solve
from ...layers.core.rows import Rows, weighted_gram, weighted_rows

_FLOOR = 1e-15  # added to the diagonal, in units of its largest entry
_LIFTS = (1e-10, 1e-6, 1e-2)  # of the diagonal, where rounding took the definiteness


class NewtonMatrix:
    """Symmetric positive definite matrices of a batch; float64. fit: weights `(N, m)` that stay."""

    def __init__(self, rows: Rows, fit: Tensor):
        self.map, self.W, self.N = rows.W, rows.W.matrix(), rows.N
        self.gram = weighted_gram(rows.W, fit) if bool((fit > 0).any()) else None
        self.on_cpu = self.W.device.type == "cpu"
        if self.on_cpu:
            self.kinds = [_Kind(self.W.numpy(), self.N)]
            self.rough = np.zeros(self.N, dtype=bool)

    def keep(self, index: Tensor) -> None:
        """Go on with the signals at `index` only; factors are gone."""
        self.N = int(index.sum()) if index.dtype == torch.bool else len(index)
        if self.gram is not None and len(self.gram) > 1:
            self.gram = self.gram[index]

    def factor(self, weight: Tensor | None, diagonal: Tensor, rough: Tensor | None = None) -> None:
        """Factorise with `weight` `(N, m)` >= 0, None for no more than `fit`, and `diagonal` `(N, n)`.

        rough: signals `(N,)` for which three digits do; on the CPU their factors are in float32, at half the cost.
        """
        if not self.on_cpu:
            self._factor_batch(weight, diagonal)
            return
        if rough is not None and self.gram is None and bool(rough.any()) and len(self.kinds) == 1:
            self.kinds.append(_Kind(self.W.numpy().astype(np.float32), self.N))
        self.rough = np.zeros(self.N, dtype=bool) if rough is None or self.gram is not None else rough.numpy()
        for i in range(self.N):
            gram = None if self.gram is None else self.gram[i if len(self.gram) > 1 else 0].numpy()
            self.kinds[int(self.rough[i])].factor(
                i, gram, None if weight is None else weight[i].numpy(), diagonal[i].numpy()
            )

    def solve(self, right: Tensor) -> Tensor:
        """x with (matrix) x = right, both `(N, n)`; NaN where a matrix has no factor."""
        if not self.on_cpu:
            return spd_solve(self.L, right)
        x = right.clone()
        for i, out in enumerate(x.numpy()):
            self.kinds[int(self.rough[i])].solve(i, out)
        return x

    def _factor_batch(self, weight: Tensor | None, diagonal: Tensor) -> None:
        H = torch.zeros(1, *(2 * self.W.shape[1:]), dtype=self.W.dtype, device=self.W.device)
        H = H if self.gram is None else self.gram
        if weight is not None:
            H = H + weighted_gram(self.map, weight)
        floor = _FLOOR * (1 + torch.diagonal(H, dim1=-2, dim2=-1).amax(-1, keepdim=True))
        H = H + torch.diag_embed(diagonal + floor)
        self.L, info = torch.linalg.cholesky_ex(H)
        for lift in _LIFTS:
            weak = info != 0
            if not bool(weak.any()):
                break
            raised = H[weak] + torch.diag_embed(lift * torch.diagonal(H[weak], dim1=-2, dim2=-1))
            self.L[weak], info[weak] = torch.linalg.cholesky_ex(raised)
        self.L[info != 0] = torch.nan


class _Kind:
    """Factors of up to `N` signals in one floating type, by BLAS and LAPACK."""

    def __init__(self, W: np.ndarray, N: int):
        from scipy.linalg import get_blas_funcs, get_lapack_funcs

        self.W, n = W, W.shape[1]
        self.syrk = get_blas_funcs("syrk", dtype=W.dtype)
        self.potrf, self.potrs = get_lapack_funcs(("potrf", "potrs"), dtype=W.dtype)
        self.factors, self.scratch = np.empty((N, n, n), W.dtype), np.empty_like(W)

    def factor(self, i: int, gram: np.ndarray | None, weight: np.ndarray | None, diagonal: np.ndarray) -> None:
        # weights grow without end where limits contradict each other: what overflows has no factor, and is no news
        with np.errstate(all="ignore"):
            self._factor(i, gram, None if weight is None else weight.astype(self.W.dtype, copy=False), diagonal)

    def _factor(self, i: int, gram: np.ndarray | None, weight: np.ndarray | None, diagonal: np.ndarray) -> None:
        if weight is not None and not np.isfinite(weight).all():
            self.factors[i] = np.nan
            return
        for lift in (0.0, *_LIFTS):
            H = self._form(i, gram, weight)
            main = self.factors[i].reshape(-1)[:: len(diagonal) + 1]
            main += diagonal + _FLOOR * (1 + main.max())
            main *= 1 + lift
            if self.potrf(H, lower=1, clean=0, overwrite_a=1)[1] == 0:
                return
        self.factors[i] = np.nan

    def solve(self, i: int, right: np.ndarray) -> None:
        """In place of `right` `(n,)`."""
        with np.errstate(all="ignore"):
            right[:] = self.potrs(self.factors[i].T, right.astype(self.W.dtype, copy=False), lower=1)[0]

    def _form(self, i: int, gram: np.ndarray | None, weight: np.ndarray | None) -> np.ndarray:
        """Gram and weighted rows in the room of factor `i`, by columns, as LAPACK wants it; the lower triangle counts."""
        if gram is not None or weight is None:
            self.factors[i] = 0.0 if gram is None else gram
        H = self.factors[i].T
        if weight is not None:
            part = weighted_rows(self.W, weight, self.scratch)
            if len(part) or gram is None:
                self.syrk(1.0, part.T, float(gram is not None), H, lower=1, overwrite_c=1)
        return H
