"""The catalogue of faults: layer problems as they are often misread. An answer that solves one of them says what went wrong.

The evidence is the judge's: an answer is certified for the misread problem, or, where no dual vector is at hand, compared
with its optimum.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..generator.maps import Dense
from ..layers.basis_pursuit_l2 import BasisPursuitL2, NonnegativeBasisPursuitL2
from ..layers.core.certificate import OPTIMAL, STATIONARY, Certificate, certify
from ..layers.core.problem import AbstractLayerProblem
from ..layers.core.rows import Rows
from ..layers.gaussian_latent import GaussianLatent
from ..layers.interval_basis_pursuit import BasisPursuitLinf, IntervalBasisPursuit, NonnegativeBasisPursuitLinf
from ..layers.l1_fit import L1Fit, NonnegativeL1Fit
from ..layers.lasso import Lasso
from ..layers.linf_fit import LinfFit, NonnegativeLinfFit
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..layers.normalised_basis_pursuit import NormalisedBasisPursuit
from ..layers.normalised_lasso import NormalisedLasso
from ..layers.relaxed_fit import NonnegativeRelaxedFit, RelaxedFit
from ..solvers.solve import solve

_SAME = 1e-5  # relative: an answer this near to a misread problem's optimum solves it
_LOOSE = 1e-3  # relative: an answer this near to the optimum was not solved far enough
_FACTORS = {
    "lam": ((2.0, "twice lam"), (0.5, "half of lam, or no 1/2 before the squares"), (0.0, "lam is missing")),
    "gamma": ((2.0, "twice gamma, or gamma |z|^2 without its 1/2"), (0.5, "half of gamma, or no 1/2 before the squares"),
              (0.0, "gamma is missing")),
    "eps": ((2.0, "twice eps"), (0.5, "half of eps"), (0.0, "eps is missing: the rows are met exactly")),
    "analysis": ((2.0, "twice lam_1"), (0.5, "half of lam_1"), (0.0, "the length of g_1 is missing")),
}  # fmt: skip
_SIGNS = (
    (BasisPursuitL2, NonnegativeBasisPursuitL2),
    (BasisPursuitLinf, NonnegativeBasisPursuitLinf),
    (L1Fit, NonnegativeL1Fit),
    (LinfFit, NonnegativeLinfFit),
    (RelaxedFit, NonnegativeRelaxedFit),
    (Lasso, NonnegativeLasso),
)

Misread = tuple[str, Callable[[], AbstractLayerProblem]]


def misreadings(problem: AbstractLayerProblem, raw: np.ndarray | None = None) -> Iterator[tuple[str, AbstractLayerProblem]]:
    """Layer problems that differ from this one by one fault, with the fault in words.

    raw: what stood in y, on hidden rows too. What changes nothing here, or cannot be stated, is left out.
    """
    for words, make in [*_numbers(problem), *_biases(problem), *_masks(problem, raw), *_kinds(problem), *_shifts(problem)]:
        try:
            other = make()
        except (ValueError, TypeError):  # a misreading that is no problem at all, as a bound that no number meets
            continue
        yield words, other


def _with(problem: AbstractLayerProblem, **changes: object) -> Callable[[], AbstractLayerProblem]:
    return lambda: replace(problem, rows=problem.rows.derived(**changes))  # type: ignore[type-var, arg-type]


def _numbers(problem: AbstractLayerProblem) -> Iterator[Misread]:
    for name in problem.numbers:
        if name in ("lo", "hi"):
            open_ = -torch.inf if name == "lo" else torch.inf
            words = f"the {'lower' if name == 'lo' else 'upper'} end is missing"
            yield words, _changed(problem, name, torch.full_like(problem.number(name), open_))
            continue
        for factor, words in _FACTORS[name]:
            yield words, _changed(problem, name, factor * problem.number(name))
    if "eps" in problem.numbers:
        eps = problem.number("eps")
        yield (
            "the squared length of the misfit is held against eps, or its length against eps^(1/2)",
            _changed(problem, "eps", eps.sqrt()),
        )
        yield "the length of the misfit is held against eps^2", _changed(problem, "eps", eps.square())


def _changed(problem: AbstractLayerProblem, name: str, value: Tensor) -> Callable[[], AbstractLayerProblem]:
    return lambda: replace(problem, **{name: value})  # type: ignore[type-var]


def _biases(problem: AbstractLayerProblem) -> Iterator[Misread]:
    rows = problem.rows
    b = rows.b
    if bool((b != 0).any()):
        yield "a sign: the bias is subtracted", _with(problem, b=-b)
        yield "the bias is missing", _with(problem, b=torch.zeros_like(b))
        if rows.any_off:
            yield "the bias of the off rows is missing", _with(problem, b=torch.where(rows.off[0], 0.0, b))
            yield "the bias of the on rows is missing", _with(problem, b=torch.where(rows.on[0], 0.0, b))
    if "lo" not in problem.numbers:
        yield "a sign: y has the wrong one", _with(problem, y=-rows.y)
    if bool((rows.weight != 1)[rows.on].any()):
        yield "the weights of the rows are missing", _with(problem, weight=torch.ones_like(rows.weight))
        yield "the weights are squared, or not under the square", _with(problem, weight=rows.weight.square())


def _masks(problem: AbstractLayerProblem, raw: np.ndarray | None) -> Iterator[Misread]:
    rows = problem.rows
    none, hidden = torch.zeros_like(rows.off), ~rows.on & ~rows.off
    if problem.form == "layered":
        hidden = hidden & ~problem.misfit.priced
    if rows.any_off:
        zero = torch.where(rows.on, rows.y, torch.zeros_like(rows.y))
        yield "the off rows are left free: W h + b <= 0 is missing there", _with(problem, off=none)
        if "lo" not in problem.numbers:
            yield "the off rows are fitted to 0, as if they were on", _with(problem, on=rows.on | rows.off, off=none, y=zero)
        sign = torch.where(rows.off[0], -1.0, 1.0).to(rows.y)
        turned = Dense(rows.W.matrix() * sign[:, None])
        yield "a sign: the off rows are held at W h + b >= 0", _with(problem, W=turned, b=rows.b * sign)
    if bool(hidden.any()):
        if problem.counts_off and "lo" not in problem.numbers:
            yield "hidden rows are held at W h + b <= 0, as if they were off", _with(problem, off=rows.off | hidden)
        for words, y in (("what stands in y there", raw), ("0", np.zeros(rows.m))):
            if y is not None and "lo" not in problem.numbers:
                value = torch.where(rows.on, rows.y, torch.from_numpy(np.nan_to_num(y))[None])
                yield (
                    f"hidden rows are fitted to {words}, as if they were seen",
                    _with(problem, on=rows.on | hidden, y=value),
                )


def _kinds(problem: AbstractLayerProblem) -> Iterator[Misread]:
    """The same data under another sign of h, another norm, another penalty."""
    kind = type(problem)
    numbers = {name: problem.number(name) for name in problem.numbers}
    for any_sign, nonnegative in _SIGNS:
        if kind is nonnegative and (any_sign is not Lasso or not problem.rows.any_off):
            yield "h >= 0 is missing", lambda k=any_sign: k(problem.rows, **numbers)  # type: ignore[misc]
        if kind is any_sign:
            rows = problem.rows if problem.counts_off else problem.rows.derived(off=torch.zeros_like(problem.rows.off))
            words = "h >= 0 is asked for, and h may have any sign"
            yield words, lambda k=nonnegative, r=rows: k(r, **numbers)  # type: ignore[misc]
    other: dict[type, tuple[Callable[..., AbstractLayerProblem], str]] = {
        BasisPursuitL2: (BasisPursuitLinf, "the largest misfit is bounded by eps, not the length of all"),
        NonnegativeBasisPursuitL2: (
            _each_row,
            "the largest misfit is bounded by eps, not the length of all",
        ),
        BasisPursuitLinf: (partial(_whole, BasisPursuitL2), "the length of the misfit is bounded by eps, not each row"),
        NonnegativeBasisPursuitLinf: (
            partial(_whole, NonnegativeBasisPursuitL2),
            "the length of the misfit is bounded by eps, not each row",
        ),
        LinfFit: (L1Fit, "the sum of the misfits in place of the largest"),
        NonnegativeLinfFit: (NonnegativeL1Fit, "the sum of the misfits in place of the largest"),
        L1Fit: (LinfFit, "the largest misfit in place of the sum"),
        NonnegativeL1Fit: (NonnegativeLinfFit, "the largest misfit in place of the sum"),
        RelaxedFit: (L1Fit, "W h + b <= y is missing: misfits of both signs are allowed"),
        NonnegativeRelaxedFit: (NonnegativeL1Fit, "W h + b <= y is missing: misfits of both signs are allowed"),
        NormalisedLasso: (Lasso, "D is missing: |h|_1 is weighed, not |D h|_1"),
        NormalisedBasisPursuit: (BasisPursuitL2, "D is missing: |h|_1 is least, not |D h|_1"),
    }
    if kind in other:
        yield other[kind][1], lambda: other[kind][0](problem.rows, **numbers)
    if kind is Lasso:
        yield "|h|^2 / 2 in place of |h|_1", lambda: GaussianLatent(problem.rows, problem.number("lam"))
    if kind is GaussianLatent and not problem.rows.any_off:
        yield "|z|_1 in place of |z|^2 / 2", lambda: Lasso(problem.rows, problem.number("gamma"))


def _each_row(rows: Rows, eps: Tensor) -> IntervalBasisPursuit:
    """Each on row within eps of its data, and no room for the off rows."""
    width = eps[:, None] / rows.weight.sqrt()
    return IntervalBasisPursuit(rows, rows.y - width, torch.where(rows.on, rows.y + width, torch.zeros_like(rows.y)))


def _whole(kind: Callable[..., AbstractLayerProblem], rows: Rows, eps: Tensor) -> AbstractLayerProblem:
    """The length of the misfit within eps, and off rows that may be eps above 0."""
    return kind(rows.derived(b=torch.where(rows.off[0], rows.b - eps, rows.b)), eps)


def _shifts(problem: AbstractLayerProblem) -> Iterator[Misread]:
    """Squares with another linear term: y moved by u changes it by W_on'w u, to whatever is wanted. Off rows without eps."""
    if isinstance(problem, BasisPursuitLinf | NonnegativeBasisPursuitLinf) and problem.rows.any_off:
        rows, eps = problem.rows, problem.number("eps")
        lower = torch.where(rows.off[0], rows.b + eps, rows.b)
        yield "the off rows are held at 0, not at eps", _with(problem, b=lower)
    if not isinstance(problem, NonnegativeLasso):
        return
    lam = problem.number("lam")
    yield "a sign: lam 1'h is subtracted", lambda: _moved(problem, 2 * lam, problem)
    yield "h >= 0 is missing", lambda: _moved(problem, -lam, GaussianLatent(problem.rows, 0.0))


def _moved(problem: NonnegativeLasso, change: Tensor, into: AbstractLayerProblem) -> AbstractLayerProblem:
    rows = problem.rows
    M = rows.fit[0][:, None] * rows.W.matrix()
    target = change * torch.ones(rows.n, dtype=M.dtype)
    u = torch.linalg.lstsq(M.T, target[:, None], driver="gelsd").solution[:, 0]
    if float((M.T @ u - target).abs().max()) > 1e-9 * float(target.abs().max()):
        raise ValueError("expected W_on of full column rank, got less; this fault cannot be stated")
    fresh = Rows(rows.W, rows.b, torch.where(rows.on, rows.y + u, rows.y), rows.on, rows.off, rows.weight)
    return replace(into, rows=fresh)  # type: ignore[type-var]


# --- evidence ---------------------------------------------------------------------------------------


def meanings(problem: AbstractLayerProblem, h: Tensor, best: Tensor, raw: np.ndarray | None = None) -> tuple[str, ...]:
    """What an h `(1, n)` that does not solve the problem does solve, in words of the catalogue; () for nothing in it.

    best: the dual optimum; raw: as in `misreadings`.
    """
    found = []
    for words, factor in (("a sign: -h is the optimum", -1.0), ("a factor: h is half of the optimum", 2.0),
                          ("a factor: h is twice the optimum", 0.5)):  # fmt: skip
        if solves(problem, factor * h):
            found.append(words)
    others = list(misreadings(problem, raw))
    found += [words for words, other in others if solves(other, h)]
    found += _cut(problem, h, others)
    if not found and answered(certify(problem, h, best, tol=_LOOSE)):
        found.append("the right problem, solved too loosely: ask the solver for smaller tolerances, or for more iterations")
    return tuple(dict.fromkeys(found))


def answered(found: Certificate) -> bool:
    """Whether its one signal is at an optimum, or at a stationary point of a problem that is not convex."""
    return found.status[0] in (OPTIMAL, STATIONARY)


def solves(problem: AbstractLayerProblem, h: Tensor, tol: float = _SAME) -> bool:
    """Whether h is an optimum, to `tol`: by its certificate, or by the objective of a solution where it builds no dual."""
    found = certify(problem, h, tol=tol)
    if answered(found):
        return True
    if problem.form in ("quadratic", "curved") or float(found.violation[0]) > tol * float(found.scale[0]):
        return False
    best = solve(problem, on_fail="ignore", progress=False)
    if not bool(best.certificate.holds[0]):
        return False
    least, unit = float(best.certificate.objective[0]), float(found.unit[0])
    return float(found.objective[0]) - least <= tol * max(abs(least), 1e-3 * unit)


def _cut(problem: AbstractLayerProblem, h: Tensor, others: list[tuple[str, AbstractLayerProblem]]) -> list[str]:
    """Solved without h >= 0, and cut off afterwards: h is what is left of such an optimum."""
    if not problem.nonnegative or problem.form == "layered":
        return []
    for words, other in others:
        if words == "h >= 0 is missing":
            free = solve(other, on_fail="ignore", progress=False).h
            cut, size = free.clamp(min=0), float(free.abs().max())
            if float((cut - h).abs().max()) <= 1e-4 * size and float(free.min()) < -1e-3 * size:
                return ["h >= 0 was no constraint: negative entries were cut off afterwards"]
    return []
