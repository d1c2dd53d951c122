"""Ada-LISTA: a few learned shrinkage steps towards sparse codes, for dictionaries or masks that change with every signal.

    minimise over x   1/2 |y - D x|^2 + lam |x|_1,     D, or the mask M in D = M D_0, given with y           (P)

T + 1 steps from x_0 = 0 ("T unfoldings"), z = x_k, or with momentum FISTA's z = x_k + (t_{k-1} - 1) / t_k (x_k - x_{k-1}):

    AdaLISTA, AdaLFISTA                A = W1 D, C = W2 D:    x_{k+1} = soft(z - gam_k (C'C z - A'y), lam eta_k)
    ReverseAdaLISTA, ReverseAdaLFISTA  A = M W1, C = M W2:    the same; W1, W2 begin as D_0, steps as 1 / |D_0|^2
    NonnegativeReverseAdaLFISTA        the same with x >= 0:  relu(. - lam eta_k) in place of soft
    SingleWeightAdaLISTA               A = W D:               x_{k+1} = soft(z - gam_k A'(D z - y), lam eta_k)
    LISTA                              x_{k+1} = soft(x_k - gam_k (B x_k - A y), eta_k), for one dictionary and one lam

W1, W2, W `(n, n)` begin as the identity, gam_k and eta_k as 1: untrained, all but the reverse ones are ISTA or FISTA with
unit steps, and the reverse ones with steps 1 / |D_0|^2. LISTA's A, B begin as D', D'D; where D varies it does not look.
C'C z is computed as D'(W2'(W2 (D z))): no matrix of a signal's own is formed. A permutation P of the columns goes through:
the network at D P is P' of that at D, so permuted dictionaries ask no more of it than one dictionary does.

What such a network gives has no guarantee (`adaptive_recovery` says when a theorem applies), and needs none where it is
a start: `LearnedStart` begins a solver of masked layer problems with it, and the certificate is the solver's.

Source: Aberdam, Golts, Elad, "Ada-LISTA: Learned Solvers Adaptive to Varying Models" (2020), and its published code as in
`sparse` note 1. Changed: eta_k is learned as exp(log eta_k), so that thresholds stay above 0; lam is given with y.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..inputs import describe, plain_tensor
from ..inversion.options import positive
from ..layers.core.problem import AbstractLayerProblem
from ..layers.nonnegative_lasso import NonnegativeLasso
from .varying_dictionaries import Dictionaries, read_codes, read_lam, read_signals_of, soft


class AbstractUnfolding(nn.Module, ABC):
    """T + 1 learned shrinkage steps; gam: their lengths, log_eta: logarithms of their thresholds in units of lam."""

    momentum: ClassVar[bool] = False
    nonnegative: ClassVar[bool] = False

    def __init__(self, unfoldings: int, step: float = 1.0):
        super().__init__()
        steps = positive(unfoldings, "unfoldings", 0) + 1
        self.gam = nn.Parameter(torch.full((steps,), step))
        self.log_eta = nn.Parameter(torch.full((steps,), step).log())

    @property
    def unfoldings(self) -> int:
        """T, one less than the steps."""
        return len(self.gam) - 1

    def steps(self, fixed: Tensor, curved: Callable[[Tensor], Tensor], lam: Tensor) -> Tensor:
        """All steps from 0 for slopes curved(z) - fixed, `(N, m)`; curved(0) is 0 and is not asked for."""
        x = before = torch.zeros_like(fixed)
        slope, t = -fixed, 1.0
        for k, (gam, eta) in enumerate(zip(self.gam, self.log_eta.exp(), strict=True)):
            z = x
            if k:
                if self.momentum:
                    t, last = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
                    z = x + (last - 1) / t * (x - before)
                slope = curved(z) - fixed
            v, threshold = z - gam * slope, lam * eta
            before, x = x, torch.relu(v - threshold) if self.nonnegative else soft(v, threshold)
        return x


class AbstractAdaptive(AbstractUnfolding):
    """Those that are given a dictionary with each signal."""

    def forward(self, y: Tensor, D: Tensor, lam: float | Tensor) -> Tensor:
        """Codes `(N, m)` of signals `(N, n)`; D: `(n, m)` or one for each signal, `(N, n, m)`; lam: one number or `(N,)`.

        Raises TypeError or ValueError for what does not fit, and for columns of zeros.
        """
        y, dictionaries, price = read_codes(y, D, lam)
        if dictionaries.D.shape[-2] != self.length:
            raise ValueError(f"expected dictionaries of {self.length} rows as was trained, got {dictionaries.D.shape[-2]}")
        return self.codes(y, dictionaries, price)

    @property
    @abstractmethod
    def length(self) -> int:
        """n, the length of a signal."""

    @abstractmethod
    def codes(self, y: Tensor, D: Dictionaries, lam: Tensor) -> Tensor:
        """The same without a look at the arguments; lam `(N, 1)` or `(1, 1)`."""


class AdaLISTA(AbstractAdaptive):
    """Two weights W1, W2 `(n, n)` for signals of `length` n, shared by all T + 1 steps."""

    def __init__(self, length: int, unfoldings: int):
        super().__init__(unfoldings)
        self.W1 = nn.Parameter(torch.eye(positive(length, "length")))
        self.W2 = nn.Parameter(torch.eye(length))

    @property
    def length(self) -> int:
        return len(self.W1)

    def codes(self, y: Tensor, D: Dictionaries, lam: Tensor) -> Tensor:
        fixed = D.adjoint(y @ self.W1)
        return self.steps(fixed, lambda z: D.adjoint(D(z) @ self.W2.mT @ self.W2), lam)


class AdaLFISTA(AdaLISTA):
    """The same with FISTA's momentum, which is not learned."""

    momentum: ClassVar[bool] = True


class SingleWeightAdaLISTA(AbstractAdaptive):
    """One weight W `(n, n)`, for the residual y - D x of the true D: the form that `adaptive_recovery` speaks of."""

    def __init__(self, length: int, unfoldings: int):
        super().__init__(unfoldings)
        self.W = nn.Parameter(torch.eye(positive(length, "length")))

    @property
    def length(self) -> int:
        return len(self.W)

    def codes(self, y: Tensor, D: Dictionaries, lam: Tensor) -> Tensor:
        return self.steps(D.adjoint(y @ self.W), lambda z: D.adjoint(D(z) @ self.W), lam)


class ReverseAdaLISTA(AbstractUnfolding):
    """One dictionary `D` `(n, m)` and a mask for each signal: W1, W2 `(n, m)` in its place, learned.

    Raises TypeError or ValueError for what is no dictionary.
    """

    def __init__(self, D: Tensor, unfoldings: int):
        D = plain_tensor(D, "D")
        if D.ndim != 2 or not D.is_floating_point() or not bool(torch.isfinite(D).all()) or not bool((D != 0).any()):
            raise ValueError(f"expected D as finite floats of shape (n, m), not all 0, got {describe(D)}")
        super().__init__(unfoldings, float(torch.linalg.matrix_norm(D, 2)) ** -2)
        self.W1, self.W2 = nn.Parameter(D.clone()), nn.Parameter(D.clone())
        self.to(D.dtype)

    def forward(self, y: Tensor, seen: Tensor, lam: float | Tensor) -> Tensor:
        """Codes `(N, m)` of signals `(N, n)` of which `seen`, bool `(N, n)`, is known; the rest of y is not read.

        Raises TypeError or ValueError for what does not fit, and for a mask that hides everything.
        """
        y, mask = read_signals_of(y, seen, len(self.W1), self.W1)
        if mask is None:
            raise ValueError("expected seen as a bool mask, got None; pass torch.ones_like(y, dtype=torch.bool) for all")
        return self.codes(y, mask, read_lam(lam, y))

    def codes(self, y: Tensor, seen: Tensor, lam: Tensor) -> Tensor:
        """The same without a look at the arguments: seen 0 or 1 in the type of y, which is 0 where hidden."""
        fixed = y @ self.W1
        return self.steps(fixed, lambda z: (seen * (z @ self.W2.mT)) @ self.W2, lam)


class ReverseAdaLFISTA(ReverseAdaLISTA):
    """The same with FISTA's momentum: the published network for inpainting."""

    momentum: ClassVar[bool] = True


class NonnegativeReverseAdaLFISTA(ReverseAdaLFISTA):
    """The same for codes >= 0, as behind a ReLU."""

    nonnegative: ClassVar[bool] = True


class LISTA(AbstractUnfolding):
    """The network that knows one dictionary, `D` `(n, m)` at the start, and looks at y alone."""

    def __init__(self, D: Tensor, unfoldings: int):
        D = plain_tensor(D, "D")
        if D.ndim != 2 or not D.is_floating_point():
            raise ValueError(f"expected D as floats of shape (n, m), got {describe(D)}")
        super().__init__(unfoldings)
        self.A, self.B = nn.Parameter(D.mT.clone()), nn.Parameter(D.mT @ D)
        self.to(D.dtype)

    def forward(self, y: Tensor) -> Tensor:
        """Codes `(N, m)` of signals `(N, n)`. Raises TypeError or ValueError for what does not fit."""
        y, _ = read_signals_of(y, None, self.A.shape[1], self.A)
        return self.codes(y)

    def codes(self, y: Tensor) -> Tensor:
        """The same without a look at the argument."""
        return self.steps(y @ self.A.mT, lambda z: z @ self.B.mT, y.new_ones(1, 1))


@dataclass(frozen=True, eq=False)
class LearnedStart:
    """A first h for masked layer problems from a network, for `FISTA(first=LearnedStart(network))`.

    The network was trained on normalised problems (|W| = 1, data of length 1) with the W of the layer, as solvers see them.
    It costs its products and never the answer: whatever it gives, the solver goes on from there and the judge decides.
    Raises TypeError for another network, ValueError for a problem of other sizes or one whose rows or columns are stretched.
    """

    network: NonnegativeReverseAdaLFISTA

    def __post_init__(self) -> None:
        if not isinstance(self.network, NonnegativeReverseAdaLFISTA):
            raise TypeError(f"expected a NonnegativeReverseAdaLFISTA, got {describe(self.network)}; train one on the layer")

    @torch.no_grad()
    def __call__(self, problem: AbstractLayerProblem) -> Tensor:
        """h `(N, n)` in the problem's type."""
        rows, W = problem.rows, self.network.W1
        if not isinstance(problem, NonnegativeLasso):
            raise TypeError(f"expected a NonnegativeLasso, got {describe(problem)}; the network knows that problem alone")
        if tuple(W.shape) != (rows.m, rows.n):
            raise ValueError(f"expected a layer of shape {tuple(W.shape)} as was trained, got {(rows.m, rows.n)}")
        if rows.stretch is not None or problem.sizes is not None:
            raise ValueError("expected rows and columns of like lengths, got stretched ones; start this layer from 0")
        lam = problem.number("lam").to(W)[:, None]
        return self.network.codes(rows.target.to(W), rows.on.to(W), lam).to(rows.y)
