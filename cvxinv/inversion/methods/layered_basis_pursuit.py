"""Layered basis pursuit: Algorithm 2, which knows neither signs nor zeros, and carries an error bound from layer to layer.

    image layer   min_h 1/2 |W_L h + b_L - phi^-1(y)|^2 + lam_L |D_L h|_1,   lam_L = 2 ell eps
    mid layers    min_h 1/2 |W h + b - h_next|^2_S + lam |D h|_1,            lam = 2 eps_next
    latent        min_z 1/2 |W_0 z + b_0 - h_1|^2_S

S is the support of the layer above, D the lengths of the columns of W on the rows that are read: that is the LASSO in the
dictionary with columns of length 1, which the lemma behind Theorem 2 needs. S differs per signal and D with it, so each
signal has a dictionary of its own; signals that share S are solved together. The error bound of a layer is

    eps_L = C s_L^(1/2) ell eps / min_j D_jj,   eps_i = C s_i^(1/2) eps_{i+1} / min_j D_jj,   C = 3 + (3/2)^(1/2)

with s_i from `cardinalities`; left out, the number of nonzeros that was found, which under the theorem is at most s_i and
makes eps_i an estimate, or the number of unknowns where none was found. With
eps = 0 the limit lam -> 0 is taken, min |D h|_1 with W h + b = y (Corollary 2).

Theorem 2: if s_i < 1 / (3 mu), mu the coherence of the rows that are read, then the support found lies inside the true one,
|h_i found - h_i| < eps_i, and |z found - z| <= eps_1 / sigma_min(W_0 on S_1) (eq. 7). The constants C and lam = 2 eps are as
recalled and derived; the paper's display could not be read.

eps bounds the noise in the l2 norm; an linf bound, or a standard deviation, is taken as m^(1/2) times itself. ell is the
largest slope of phi^-1 on [y - eps, y + eps], over the entries that are read. Where it is infinite, or above 100 (1e6
without noise), the entry is not read. Of a ReLU output only the entries above 0 are read. With lam given, all layers take it
and there is no bound. A lam beyond max_j |W'(y - b)|_j / D_jj gives h = 0 as that one does, and is lowered to it.

On trained decoders the condition does not hold: in noise, before debiasing, it gives z far less exactly than latent pursuit
and the oracle do; without noise it is exact (docs/mnist.md).

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Algorithm 2, Theorem 2,
Corollary 2; added: biases, masks, ReLU outputs, the normalised dictionary.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ...batch import each_per_signal
from ...batch import per_signal as one_each
from ...generator.activations import AbstractActivation
from ...inputs import describe, read_numbers
from ...layers.core.certificate import OPTIMAL, certify
from ...layers.core.factors import spd_factor, spd_solve
from ...layers.core.problem import Point, per_signal
from ...layers.core.rows import Rows
from ...layers.normalised_basis_pursuit import NormalisedBasisPursuit
from ...layers.normalised_lasso import NormalisedLasso
from ...solvers.answer import Answer
from ...solvers.openings import Step, summary
from ...solvers.solve import Solution, check_solver, solve
from ...solvers.solver import AbstractSolver
from ..answer import Latents, LayerReport
from ..method import AbstractMethod
from ..options import penalty, positive, tidy, within
from ..steps.debias import DEBIAS, MOST_ITERATIONS, check_debias, debiased
from ..steps.idle import raise_idle, refuse_idle_force, refuse_idle_steps
from ..steps.pursuit import LARGEST_LAYER, LayerOptions, latent_problem
from ..steps.reading import image_map, mixing, refuse_unlayered, unreadable
from ..steps.starts import Starts
from ..task import Task

C = 3 + 1.5**0.5
_STEEPEST = {True: 1e6, False: 1e2}  # largest slope of phi^-1 that is read, without and with noise
_BLOCK = 32  # signals whose n x n matrices are held at once
_ROUNDS = 50
_LEAST = 1e-9  # lam over its largest value that stands for lam -> 0 beside signals with noise


# --- one layer ------------------------------------------------------------------------------------


def solve_normalised(problem: NormalisedLasso | NormalisedBasisPursuit, settings: LayerOptions) -> Solution:
    """Solve in the normalised dictionaries, signals that share one together, and judge in the units of W."""
    started, rows = time.perf_counter(), problem.rows
    kinds, which = torch.unique(rows.on, dim=0, return_inverse=True)
    found, steps = Answer.none(rows.y, rows.n), list[Step]()
    for k in range(len(kinds)):
        index = (which == k).nonzero()[:, 0]
        left = index
        if settings.solver == "auto":
            left = torch.cat([_directly(problem, block, found, steps, settings.tol) for block in index.split(_BLOCK)])
        if len(left):
            part = solve(problem.take(left), settings.solver, tol=settings.tol, on_fail="ignore", force=settings.force)
            found.put(left, part)
            steps.extend(part.steps)
    certificate = certify(problem, found.point, tol=settings.tol)
    solved_by = [who for who, held in zip(found.solver, certificate.holds.tolist(), strict=True) if held]
    return Solution.of(found, certificate, seconds=time.perf_counter() - started, steps=tuple(summary(steps, solved_by)))


def _directly(
    problem: NormalisedLasso | NormalisedBasisPursuit, index: Tensor, found: Answer, steps: list[Step], tol: float
) -> Tensor:
    """Put what has a direct solution into `found`; the signals at `index` share their on rows. Returns which are left."""
    part, started = problem.take(index), time.perf_counter()
    if isinstance(part, NormalisedLasso):
        name, why, point = "active_set", "in closed form on the signs", _by_signs(part)
    elif not bool(part.number("eps").any()):
        name, why, point = "least_squares", "the only h that meets the rows", _only_solution(part)
    else:
        return index
    sure = certify(part, point, tol=tol).holds.to(index.device)
    steps.append(Step(name, why, len(index), int(sure.sum()), time.perf_counter() - started))
    found.put(index[sure], Answer.by(Point(point.h[sure], point.p[sure]), name, iterations=1, polished=True))
    return index[~sure]


def _by_signs(problem: NormalisedLasso) -> Point:
    """Rounds of: least squares with the current signs; drop where a sign turned; add where |W'p| exceeds lam D.

    They begin with the signs of the least-squares solution, and rarely take more than ten. The signals share their on rows.
    Where W_on lacks full column rank or the rounds do not end the point is worth nothing, and the judge says so.
    """
    rows, none = problem.rows, torch.zeros(problem.N, problem.n, dtype=problem.rows.y.dtype, device=problem.rows.y.device)
    M = rows.W.matrix()[rows.on[0]]
    H = M.T @ M
    L, definite = spd_factor(H[None])
    if not bool(definite):
        return Point(none, problem.complete(none))
    c, weight = rows.W.adjoint(rows.target), problem.linear
    h = spd_solve(L, c)
    for i in range(problem.N):
        sign = h[i].sign()
        for _ in range(_ROUNDS):
            A = sign.nonzero()[:, 0]
            x = torch.zeros_like(sign)
            x[A] = torch.cholesky_solve((c[i] - weight[i] * sign)[A, None], torch.linalg.cholesky(H[A][:, A]))[:, 0]
            slope = c[i] - H @ x
            turned = x * sign < 0
            wanted = (sign == 0) & (slope.abs() > weight[i] * (1 + 1e-9))
            if not bool((turned | wanted).any()):
                break
            sign = torch.where(turned, torch.zeros_like(sign), torch.where(wanted, slope.sign(), sign))
        h[i] = x
    return Point(h, problem.complete(h))


def _only_solution(problem: NormalisedBasisPursuit) -> Point:
    """The one h with W h + b = y where W_on, which the signals share, has full column rank, and the p that proves it.

    W'p = -D sign(h) gives the bound |D h|_1. Where W_on has less rank the point is worth nothing, and the judge says so.
    """
    rows, on = problem.rows, problem.rows.on[0]
    M, t = rows.W.matrix()[on], rows.target[:, on].T  # (k, n), (k, N)
    p, none = torch.zeros_like(rows.y), torch.zeros(rows.N, rows.n, dtype=rows.y.dtype, device=rows.y.device)
    if len(M) < rows.n:
        return Point(none, p)
    Q, R = torch.linalg.qr(M)
    pivots = R.diagonal().abs()
    if bool(pivots.min() <= len(M) * torch.finfo(M.dtype).eps * pivots.max()):
        return Point(none, p)
    h = torch.linalg.solve_triangular(R, Q.T @ t, upper=True)
    h = h + torch.linalg.solve_triangular(R, Q.T @ (t - M @ h), upper=True)
    d = rows.on_columns[:1].T
    sign = torch.where(h.abs() > 1e-12 * h.abs().amax(0), h.sign(), torch.zeros_like(h))
    p[:, on] = -(Q @ torch.linalg.solve_triangular(R.T, d * sign, upper=False)).T
    return Point(h.T.contiguous(), p)


# --- all layers -----------------------------------------------------------------------------------


class _Image(NamedTuple):
    """The image layer read before its output: rows, eps `(N,)` of phi^-1(y) in the l2 norm, and what is to be said."""

    rows: Rows
    eps: Tensor
    notes: list[str]


@dataclass(frozen=True, eq=False, kw_only=True)
class LayeredBasisPursuit(AbstractMethod):
    """Algorithm 2 with the debiasing that was asked for.

    lam: the l1 weight of every layer, one number or `(N,)`; None for that of the noise. support_threshold: as a fraction of
    max |h|, in [0, 1). solver, tol, force: see `solve`. cardinalities: s_1 to s_L, first hidden layer first, each a number
    or `(N,)`; None for those found. debias: "piece", "gradient" or None. max_iter: steps of it at most.
    """

    name: ClassVar[str] = "layered_basis_pursuit"

    lam: float | Tensor | None = one_each(ndim=1, default=None)
    support_threshold: float | None = None
    solver: str | AbstractSolver = "auto"
    tol: float = 1e-6
    force: bool = False
    cardinalities: tuple[int | Tensor, ...] | None = each_per_signal(default=None)
    debias: str | None = DEBIAS[0]
    max_iter: int = MOST_ITERATIONS

    def __post_init__(self) -> None:
        tidy(self)
        within(self.tol, "tol", 0, 1)
        within(self.support_threshold, "support_threshold", 0, 1)
        check_solver(self.solver)
        check_debias(self.debias)
        positive(self.max_iter, "max_iter")
        refuse_idle_steps(self.max_iter, self.debias)
        refuse_idle_force(self.force, self.solver)

    def check(self, task: Task) -> None:
        refuse_unlayered(self.name, task)
        penalty(self.lam, "lam", task)
        check_cardinalities(self.cardinalities, task)
        self._refuse_idle(task)
        reason = no_layered_basis_pursuit(task)
        if reason is not None:
            raise ValueError(
                f"layered_basis_pursuit cannot invert this: {reason}. Use method='hybrid' or 'levenberg_marquardt'"
            )

    def _refuse_idle(self, task: Task) -> None:
        if self.cardinalities is not None and (task.noise is None or self.lam is not None):
            why = "without noise there are no error bounds" if task.noise is None else "with lam= there are no error bounds"
            raise_idle("cardinalities", self.cardinalities, why)
        for name in ("lam", "support_threshold"):
            if getattr(self, name) is not None and task.generator.depth == 1:
                raise_idle(name, getattr(self, name), "there is no hidden layer")

    def run(self, task: Task, starts: Starts) -> Latents:
        options = LayerOptions(
            lam=penalty(self.lam, "lam", task), support_threshold=self.support_threshold,
            solver=self.solver, tol=self.tol, force=self.force,
        )  # fmt: skip
        z, reports, bounds, notes = pursue_by_basis_pursuit(task, options, self.cardinalities or ())
        z = debiased(task, z, supports_found(reports), self.debias, self.max_iter)
        if self.lam is None and task.noise is not None:
            words = ", ".join(f"layer {k} {float(e.min()):.2g} to {float(e.max()):.2g}" for k, e in bounds.items())
            counts = "the cardinalities given" if self.cardinalities else "the nonzeros that were found"
            notes.append(f"error bounds where the coherence condition of Theorem 2 holds, with {counts}: {words}")
        return Latents(z, ("layered",) * task.N, layers=tuple(reports), notes=tuple(notes))


def pursue_by_basis_pursuit(
    task: Task, settings: LayerOptions, cardinalities: Sequence[int | Tensor] = ()
) -> tuple[Tensor, list[LayerReport], dict[int, Tensor], list[str]]:
    """z `(N, n0)`, a report per layer, image layer first, error bounds eps_i `(N,)` by hidden layer, and notes.

    cardinalities: s_1 to s_L, first hidden layer first, each a number or `(N,)`; empty for the numbers found.
    """
    image = _read_image(task)
    layers, rows, eps, notes = task.generator.layers, image.rows, image.eps, list(image.notes)
    reports, bounds = [], {}
    for index in range(len(layers) - 1, 0, -1):
        problem, remark = _layer_problem(rows, eps, settings)
        solution = solve_normalised(problem, settings)
        threshold = _threshold(solution, settings)
        reports.append(LayerReport.of(index, problem, solution, threshold, remark))
        task.progress.reach((len(layers) - index) / (len(layers) + 1))
        on = solution.h.abs() > threshold[:, None]
        found = torch.where(on.any(1), on.sum(1), rows.n)  # an empty support says nothing of how many there are
        s = torch.as_tensor(cardinalities[index - 1], device=eps.device) if cardinalities else found
        shortest = (rows.on.to(rows.y) @ rows.W.matrix().square()).sqrt().amin(1)
        eps = torch.where(eps > 0, C * s.to(eps).sqrt() * eps / shortest, torch.zeros_like(eps))
        bounds[index] = eps
        below = layers[index - 1]
        rows = Rows(below.W, below.b, solution.h, on, torch.zeros_like(on))
    last, remark = latent_problem(rows, torch.zeros_like(eps))
    solution = solve(last, settings.solver, tol=settings.tol, on_fail="ignore", force=settings.force)
    reports.append(LayerReport.of(0, last, solution, torch.zeros_like(eps), remark))
    return solution.h, reports, bounds, notes


def supports_found(reports: list[LayerReport]) -> list[Tensor]:
    """Support masks `(N, n_i)` of the hidden layers as they were found, first hidden layer first."""
    return [r.solution.h.abs() > r.threshold[:, None] for r in reversed(reports[:-1])]


def no_layered_basis_pursuit(task: Task) -> str | None:
    """Why Algorithm 2 cannot be used on this task, or None."""
    layers = task.generator.layers
    reason = mixing(task) or unreadable(task)
    if reason is not None:
        return reason
    if any(layer.activation.leaks for layer in layers[:-1]):
        return "a LeakyReLU leaves its hidden layer without zeros, and basis pursuit lives on them"
    widest = max(layer.W.n for layer in layers)
    if widest > LARGEST_LAYER:
        return f"a layer has {widest} unknowns, more than the {LARGEST_LAYER} that a dense layer solve takes"
    return None


def check_cardinalities(cardinalities: object, task: Task) -> None:
    """Raises TypeError or ValueError unless there is one cardinality >= 1 per hidden layer, each an int or `(N,)`."""
    if cardinalities is None:
        return
    count = task.generator.depth - 1
    if not isinstance(cardinalities, tuple | list) or len(cardinalities) != count:
        got = f"{len(cardinalities)} of them" if isinstance(cardinalities, tuple | list) else describe(cardinalities)
        raise ValueError(f"expected cardinalities of the {count} hidden layers, first hidden layer first, got {got}")
    for k, s in enumerate(cardinalities, 1):
        s = read_numbers(s, f"cardinality {k}", task.y.device, "fib") if isinstance(s, Tensor) else s
        whole = (isinstance(s, int) and not isinstance(s, bool)) or (isinstance(s, Tensor) and s.shape == (task.N,))
        if not whole or not bool((torch.as_tensor(s) >= 1).all()):
            raise ValueError(f"expected cardinality {k} as an integer >= 1 or a tensor ({task.N},) of them, got {s!r}")


def _read_image(task: Task) -> _Image:
    phi, (W, b) = task.generator.output, image_map(task)
    seen, y = task.measurement.seen(task.N).to(task.y.device), task.y
    eps, notes = torch.zeros_like(task.size), []
    if task.noise is not None:
        eps = task.noise.length(task.seen)
        if task.noise.norm == "linf":
            notes.append("the linf bound on the noise was taken as an l2 bound m^(1/2) times as large")
    if phi.linear:
        return _Image(Rows(W, b, y, seen, torch.zeros_like(seen)), eps, notes)
    if phi.cuts:
        on = seen & (y > eps[:, None])
        return _Image(Rows(W, b, y, on, torch.zeros_like(on)), eps, notes)
    steep = _steepness(phi, y, eps)
    on = seen & (steep * phi.unit <= _STEEPEST[task.noise is None])
    infinite = int((seen & torch.isinf(steep)).sum())
    ell = torch.where(on, steep, torch.zeros_like(steep)).amax(1)
    notes.append(
        f"ell, the slope of the inverse of {type(phi).__name__}: {float(ell.min()):.3g} to {float(ell.max()):.3g} on the "
        f"entries that were read; {int((seen & ~on).sum())} too flat entries left out, {infinite} of them with infinite ell"
    )
    u = torch.where(on, phi.inverse(torch.where(on, y, phi(torch.zeros_like(y)))), torch.zeros_like(y))
    return _Image(Rows(W, b, u, on, torch.zeros_like(on)), ell * eps, notes)


def _steepness(phi: AbstractActivation, y: Tensor, eps: Tensor) -> Tensor:
    """The largest slope of phi^-1 on [y - eps, y + eps], `(N, m)`; infinite where that leaves phi's range.

    The slopes of all output activations fall away from one point, so that the ends decide.
    """
    ends = [phi.inverse(y + sign * eps[:, None]) for sign in (-1, 1)]
    slopes = [torch.where(torch.isfinite(u), phi.derivative(torch.nan_to_num(u)), torch.zeros_like(u)) for u in ends]
    return 1 / torch.minimum(*slopes)


def _layer_problem(rows: Rows, eps: Tensor, settings: LayerOptions) -> tuple[NormalisedLasso | NormalisedBasisPursuit, str]:
    if settings.lam is None and not bool((eps > 0).any()):
        return NormalisedBasisPursuit(rows, 0.0), ""
    largest = (rows.W.adjoint(rows.target).abs() / rows.on_columns).amax(1)
    lam = per_signal(settings.lam, rows, "lam") if settings.lam is not None else 2 * eps
    if settings.lam is None:
        lam = torch.where(eps > 0, lam, _LEAST * largest)
    empty = lam >= largest
    remark = f"lam leaves nothing of {int(empty.sum())} signals" if bool(empty.any()) else ""
    return NormalisedLasso(rows, torch.minimum(lam, largest * (1 + 1e-9))), remark


def _threshold(solution: Solution, settings: LayerOptions) -> Tensor:
    """Entries of |h| above this are the support, `(N,)`."""
    top = solution.h.abs().amax(1)
    if settings.support_threshold is not None:
        return settings.support_threshold * top
    exact = torch.as_tensor([s == OPTIMAL for s in solution.status]) & solution.polished
    return torch.where(exact.to(top.device), torch.full_like(top, 1e-6), 1e-3) * top
