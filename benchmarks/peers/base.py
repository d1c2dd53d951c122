"""What a peer is, and the two forms in which it gets a layer problem: a quadratic or linear program, or a cone program.

Both are formed from W, b, y and the masks alone, on the peer's clock. What all signals share is formed once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import numpy as np

import cvxinv as ci

INFINITE = 1e20
SECONDS = 30.0  # per signal, for the peers that take a limit


class Answer(NamedTuple):
    """A peer's h `(n,)`, its multipliers or None, and its iterations.

    multipliers: of the bounded rows, >= 0 at the upper bound; of an l2 bound the whole p `(m,)`.
    """

    h: np.ndarray
    multipliers: np.ndarray | None = None
    iterations: int | None = None


class Program(NamedTuple):
    """min 1/2 h'Ph + q'h subject to lo <= A h <= hi and, where asked, h >= 0. rows: which rows of the layer A holds."""

    P: np.ndarray
    q: np.ndarray
    A: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    rows: np.ndarray


class Programs:
    """The programs of a batch. `shared`: P and A are those of every signal, and only q, lo and hi differ."""

    def __init__(self, problem: ci.AbstractLayerProblem):
        rows, self.problem = problem.rows, problem
        self.W, self.b = rows.W.matrix().numpy(), rows.b.numpy()
        self.on, self.off = rows.on.numpy(), rows.off.numpy()
        self.squares = problem.form == "quadratic"
        self.shared = bool((self.on == self.on[:1]).all() and (self.off == self.off[:1]).all())
        self.linear = np.broadcast_to(problem.linear.numpy(), (problem.N, problem.n))
        self.ridge = np.broadcast_to(problem.quadratic.numpy(), (problem.N, 1))
        if self.shared:
            self.shared = bool((self.ridge == self.ridge[:1]).all())
        if self.squares:
            self.q = self.linear - rows.target.numpy() @ self.W
        else:
            self.lo, self.hi = (limit.numpy() - self.b for limit in problem.limits())
        self.common = self._matrices(0) if self.shared else None

    @property
    def nonnegative(self) -> bool:
        return self.problem.nonnegative

    def _matrices(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = self.W.shape[1]
        if not self.squares:
            bounded = (self.on[i] | self.off[i]).nonzero()[0]
            return np.zeros((n, n)), self.W[bounded], bounded
        W_on, off = self.W[self.on[i]], self.off[i].nonzero()[0]
        P = W_on.T @ W_on
        P[np.diag_indices(n)] += self.ridge[i, 0]
        return P, self.W[off], off

    def __getitem__(self, i: int) -> Program:
        P, A, rows = self.common or self._matrices(i)
        if self.squares:
            return Program(P, self.q[i], A, np.full(len(rows), -np.inf), -self.b[rows], rows)
        return Program(P, self.linear[i], A, self.lo[i, rows], self.hi[i, rows], rows)


class Ball(NamedTuple):
    """min 1'h subject to |R h - d| <= eps and h >= 0."""

    R: np.ndarray
    d: np.ndarray
    eps: float


class Balls:
    """The cone programs of an l2 bound without off rows, in n rows instead of m: W = Q R where m > n."""

    def __init__(self, problem: ci.AbstractLayerProblem):
        W, t = problem.rows.W.matrix().numpy(), problem.rows.target.numpy()
        eps = problem.eps.numpy()  # type: ignore[attr-defined]
        if W.shape[0] <= W.shape[1]:
            self.R, self.d, self.eps, self.Q = W, t, eps, None
            return
        self.Q, self.R = np.linalg.qr(W)
        self.d = t @ self.Q
        self.outside = t - self.d @ self.Q.T
        self.eps = np.sqrt(np.maximum(eps**2 - (self.outside**2).sum(1), 0.0))

    def __getitem__(self, i: int) -> Ball:
        return Ball(self.R, self.d[i], float(self.eps[i]))

    def dual(self, i: int, z: np.ndarray) -> np.ndarray:
        """p `(m,)` for the multiplier -z of R h - d; what lies outside W's range enters with the best weight."""
        if self.Q is None:
            return -z
        return -self.Q @ z - self.outside[i] * np.linalg.norm(z) / max(self.eps[i], 1e-300)


class AbstractPeer(ABC):
    """One solver, set up for a batch at one tolerance. Its constructor and `solve` are what the clock sees.

    kinds: which problems it serves: "lasso" (all rows on), "quadratic", "ball", "interval". ladder: tolerances from loose
    to tight, of which the loosest that the judge accepts is measured.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    licence: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    ladder: ClassVar[tuple[float, ...]] = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)
    whole: ClassVar[bool] = False  # builds, compiles and solves: compared apart

    @abstractmethod
    def __init__(self, problem: ci.AbstractLayerProblem, tol: float): ...

    @abstractmethod
    def solve(self, i: int) -> Answer:
        """The answer to signal `i`."""

    def solve_many(self, signals: Iterable[int]) -> list[Answer]:
        return [self.solve(i) for i in signals]

    def own_seconds(self) -> tuple[float, float] | None:
        """Process and wall seconds that another process spent since the last call, or None where this one did it all."""
        return None


def kinds_of(problem: ci.AbstractLayerProblem) -> set[str]:
    """The words of `AbstractPeer.kinds` that fit the problem."""
    if problem.form == "quadratic" and bool(problem.rows.on.all()) and problem.nonnegative:
        return {"lasso", "quadratic"}
    return {problem.form}
