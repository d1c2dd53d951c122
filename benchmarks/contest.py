"""One solver on one case, ours or a peer's: tuned, timed, judged."""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from layer_cases import Case
from measuring import TOL, Seconds, Verdict, clocked, flops, judge, median
from peers import AbstractPeer, Answer
from torch import Tensor

import cvxinv as ci
from cvxinv.solvers.known import TORCH_SOLVERS

_TUNED_ON = 3  # signals on which a peer's tolerance is found, one where they are slow
_PATIENCE = 20  # budgets after which the search for a peer's tolerance ends


@dataclass(frozen=True)
class Effort:
    """How much time a run may take.

    budget: wall seconds per row; patience: those of `auto`, which runs the whole batch. sweep: tolerances of our methods'
    curves, without polish, on `curve_signals` signals. max_iter: of our methods, None for their own. unpolished: whether
    our methods get a second row without polish.
    """

    repeats: int
    budget: float
    patience: float
    curve_signals: int
    sweep: tuple[float, ...]
    max_iter: int | None
    unpolished: bool


FULL = Effort(5, 1.0, 60.0, 4, (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8), None, True)
QUICK = Effort(2, 0.1, 1.0, 2, (1e-2, 1e-6), 300, False)


@dataclass(frozen=True)
class Row:
    """One solver on one case. seconds: median, for the whole batch; run: signals that were run, the rest extrapolated."""

    case: str
    solver: str
    kind: str  # "ours", "peer", or "whole" for CVXPY end to end
    dtype: str = "float64"
    device: str = "cpu"
    polish: bool = True
    signals: int = 0
    run: int = 0
    repeats: int = 0
    tol: float | None = None
    seconds: Seconds | None = None
    iterations: int | None = None
    verdict: Verdict | None = None
    flops: int | None = None
    note: str = ""
    curve: list[tuple[float, float]] = field(default_factory=list)  # seconds per signal, error

    @property
    def certified(self) -> bool:
        return self.verdict is not None and self.verdict.failures == 0

    @property
    def extrapolated(self) -> float:
        return self.signals / self.run if self.run else 1.0


# --- ours -----------------------------------------------------------------------------------------


def our_solvers(case: Case, effort: Effort) -> Iterator[tuple[str, bool]]:
    """(solver, polish) of every solver of ours that serves the case."""
    problem = case.make(torch.arange(1))
    yield "auto", True
    yield "auto", False
    for name, method in TORCH_SOLVERS.items():
        if method.refuses(problem) is None:
            yield name, True
            if effort.unpolished:
                yield name, False


@dataclass(frozen=True)
class Ours:
    """A solver of ours and how it is called."""

    solver: str
    dtype: str = "float64"
    device: str = "cpu"
    polish: bool = True
    max_iter: int | None = None

    def __call__(self, problem: ci.AbstractLayerProblem, tol: float = TOL) -> ci.Solution:
        # the cascade's first steps are counted in rounds: a cap is for the first-order methods alone
        limit = None if self.solver == "auto" else self.max_iter
        return ci.solve(problem, self.solver, tol=tol, max_iter=limit, polish=self.polish, on_fail="ignore")


def solve_ours(case: Case, index: Tensor, ours: Ours, tol: float = TOL):
    """The problem, the solution, and the seconds of solving it; the closing judgement is timed again and taken off."""
    problem = case.make(index, ours.dtype, ours.device)

    solution, seconds = clocked(lambda: ours(problem, tol), ours.device)
    _, judging = clocked(lambda: ci.certify(problem, solution.point, tol=tol), ours.device)
    return problem, solution, seconds - judging


def run_ours(case: Case, ours: Ours, effort: Effort) -> Row:
    """Our solver on as much of the batch as fits the effort."""
    allowed, everyone = effort.patience if ours.solver == "auto" else effort.budget, torch.arange(case.N)
    count, *larger = sorted({min(size, case.N) for size in (2, 16, 128, case.N)})
    problem, solution, spent = solve_ours(case, everyone[:count], ours)
    for size in larger:
        # a batch costs less per signal than a part of it: three times the budget is risked
        if spent.wall * size / count > 3 * allowed:
            break
        count = size
        problem, solution, spent = solve_ours(case, everyone[:count], ours)
    runs = [spent]
    while len(runs) < effort.repeats and sum(r.wall for r in runs) < allowed:
        problem, solution, spent = solve_ours(case, everyone[:count], ours)
        runs.append(spent)
    counted = None
    if median(runs).wall < 2 * allowed:
        again = case.make(everyone[:count], ours.dtype, ours.device)
        counted = flops(lambda: ours(again))
    factor = case.N / count
    return Row(
        case.label, ours.solver, "ours", ours.dtype, ours.device, ours.polish, case.N, count, len(runs), TOL,
        median(runs).times(factor), int(solution.iterations.max()), judge(problem, solution.h, solution.p),
        None if counted is None else int(counted * factor),
    )  # fmt: skip


def our_curve(case: Case, ours: Ours, effort: Effort) -> list[tuple[float, float]]:
    """Seconds per signal and error of a sweep over the tolerance, without polish."""
    curve, index = [], torch.arange(min(case.N, effort.curve_signals))
    for tol in effort.sweep:
        problem, solution, spent = solve_ours(case, index, replace(ours, polish=False), tol)
        curve.append((spent.process / len(index), judge(problem, solution.h, solution.p).error))
        if spent.wall > effort.budget:
            break
    return curve


@contextmanager
def silent() -> Iterator[None]:
    """Send what compiled code prints to nowhere: some solvers talk whatever one asks of them."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


# --- peers ----------------------------------------------------------------------------------------


def point_of(problem: ci.AbstractLayerProblem, answers: list[Answer]) -> tuple[Tensor, Tensor | None]:
    """h `(N, n)`, and p `(N, m)` from the misfit and the multipliers; None where a p must be built from h."""
    rows = problem.rows
    h = torch.stack([torch.as_tensor(a.h, dtype=torch.float64) for a in answers])
    if problem.form == "ball":
        known = [torch.as_tensor(a.multipliers) for a in answers if a.multipliers is not None]
        return h, torch.stack(known) if len(known) == len(answers) else None
    p = problem.fit * rows.residual(h)
    bounded = rows.off if problem.form == "quadratic" else rows.on | rows.off
    for i, answer in enumerate(answers):
        if answer.multipliers is not None:
            p[i, bounded[i]] += torch.as_tensor(answer.multipliers, dtype=p.dtype)
    return h, p


def solve_peer(case: Case, count: int, peer: type[AbstractPeer], tol: float):
    """Answers to the first `count` signals, the seconds of the set-up and those of the signals."""
    index = torch.arange(count)
    problem = case.make(index)
    solver, setup = clocked(lambda: peer(problem, tol))
    answers, spent = clocked(lambda: solver.solve_many(range(count)))
    own = solver.own_seconds()
    return problem, answers, setup, spent if own is None else Seconds(*own)


def tune(case: Case, peer: type[AbstractPeer], effort: Effort) -> tuple[int, float, list[tuple[float, float]]]:
    """The loosest rung that the judge accepts on a few signals, the seconds per signal there, and the curve."""
    curve, chosen, least, total = [], None, torch.inf, 0.0
    solve_peer(case, 1, peer, peer.ladder[0])  # imports and compilation are nobody's time
    slow = solve_peer(case, 1, peer, peer.ladder[0])[3].wall > effort.budget
    count = 1 if slow else min(_TUNED_ON, case.N)
    for rung, tol in enumerate(peer.ladder):
        problem, answers, setup, spent = solve_peer(case, count, peer, tol)
        verdict = judge(problem, *point_of(problem, answers))
        curve.append(((setup.process / case.N + spent.process / count), verdict.error))
        if verdict.failures == 0 and chosen is None:
            chosen = rung, spent.wall / count
        elif chosen is None and verdict.error <= least:
            fallback, least = (rung, spent.wall / count), verdict.error
        total += spent.wall
        if (chosen and spent.wall > effort.budget) or total > _PATIENCE * effort.budget:
            break
    return *(chosen or fallback), curve


def run_peer(case: Case, peer: type[AbstractPeer], effort: Effort) -> Row:
    """A peer at its best tolerance, on as many signals as fit the budget; the set-up counts once, the rest in proportion."""
    kind = "whole" if peer.whole else "peer"
    rung, each, curve = tune(case, peer, effort)
    count = max(min(case.N, int(effort.budget / max(each, 1e-9))), min(2, case.N))
    found: list[Row] = []
    began = time.perf_counter()
    while rung < len(peer.ladder) and not any(r.certified for r in found):
        if found and time.perf_counter() - began > _PATIENCE * effort.budget:
            found = [replace(r, note="tighter tolerances not tried: out of time") for r in found]
            break
        runs: list[Seconds] = []
        while len(runs) < effort.repeats and sum(r.wall for r in runs) * count / case.N < effort.budget:
            problem, answers, setup, spent = solve_peer(case, count, peer, peer.ladder[rung])
            runs.append(setup + spent.times(case.N / count))
        steps = [a.iterations for a in answers if a.iterations is not None]
        verdict = judge(problem, *point_of(problem, answers))
        row = Row(
            case.label, peer.name, kind, signals=case.N, run=count, repeats=len(runs), tol=peer.ladder[rung],
            seconds=median(runs), iterations=max(steps) if steps else None, verdict=verdict, curve=curve,
        )  # fmt: skip
        found.append(row)
        rung += 1
    return min(found, key=lambda r: (r.verdict.failures, r.verdict.error) if r.verdict else (case.N, torch.inf))


def run_peer_safely(case: Case, peer: type[AbstractPeer], effort: Effort) -> Row:
    """`run_peer`; a stranger's code may raise anything, and one that does must not cost the others their rows."""
    with warnings.catch_warnings(), silent():
        warnings.simplefilter("ignore")
        try:
            return run_peer(case, peer, effort)
        except Exception as fault:
            note = f"{type(fault).__name__}: {fault}".splitlines()[0][:120]
            return Row(case.label, peer.name, "whole" if peer.whole else "peer", signals=case.N, note=note)
