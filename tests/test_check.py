"""The checker of certificate files: it accepts what is true and proved, and nothing else, whatever it is given."""

import ast
import base64
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import test_mutations
import torch
from mutations import CLAIMS_NOTHING, KINDS, is_true, mutate, numbers, of_signal, separable, text, times_of
from planting import spoil
from torch import nn
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv import check, check_fits, check_inversion, check_proof
from cvxinv.check import RefusedError
from cvxinv.check_inversion import check_file
from cvxinv.command import cli

INF, NAN = float("inf"), float("nan")
DECIDES = check.KINDS | check_fits.FITS
NUMBERS = {
    "tol",
    "W",
    "A",
    "b",
    "h",
    "p",
    "y",
    "z",
    "weight",
    "lam",
    "gamma",
    "eps",
    "lo",
    "hi",
    "scope",
    "bound",
    "numbers",
}


def file_of(kind: str, **changes: Any) -> dict[str, Any]:
    """One unknown, one on row W = 1, y = 2; every hand answer below starts from here."""
    content = {"format": "cvxinv certificate", "version": 1, "kind": kind, "shape": [1, 1, 1], "tol": [1e-6]}
    content |= {"status": ["optimal"], "scope": [INF], "rows": ["+"], "W": [1], "b": [0], "h": [1], "p": [-1]}
    (form, _, name), marks = DECIDES[kind], (changes.get("rows") or ["+"])[0]
    m, fit = len(marks), kind in check_fits.FITS
    content |= {name: [1]} if name else {} if fit else {"lo": [2], "hi": [5]}
    content = {"y": [2], "weight": [1] * m} | content | changes
    content["weight"] = [w if (name or fit) and mark == "+" else 0 for w, mark in zip(content["weight"], marks, strict=True)]
    high = {"-": lambda r: 0, "+": lambda r: content["y"][r] if form == "rooms" else INF, ".": lambda r: INF}
    ends = {"lo": [-INF] * m, "hi": [high[mark](r) for r, mark in enumerate(marks)]}
    return ends | content


def packed(content: Any) -> Any:
    """The content of a file, its lists of numbers as base64."""
    if isinstance(content, list):
        return [packed(entry) for entry in content]
    if not isinstance(content, dict):
        return content
    lists = {key for key, x in content.items() if key in NUMBERS and isinstance(x, list)}
    return {key: text(x) if key in lists else packed(x) for key, x in content.items()}


def packed_file(kind: str, **changes: Any) -> dict[str, Any]:
    return packed(file_of(kind, **changes))


def judged(tmp_path: Path, content: Any) -> list[check.Verdict]:
    path = tmp_path / "one.json"
    path.write_text(content if isinstance(content, str) else json.dumps(packed(content)))
    return check_file(path)


def verdict(tmp_path: Path, content: dict[str, Any]) -> check.Verdict:
    (one,) = judged(tmp_path, content)
    return one


# --- answers by hand ------------------------------------------------------------------------------

CAPPED = {"shape": [1, 2, 1], "rows": ["+-"], "W": [1, 1], "b": [0, -1], "y": [2, 0], "weight": [1, 1]}  # h <= 1
DEAD = {"shape": [1, 2, 1], "rows": ["+-"], "W": [1, 0], "b": [0, 1], "y": [2, 0], "weight": [1, 1]}  # 1 <= 0
BOUNDED = {"lo": [1, -INF], "hi": [3, 1]}  # y = 2 by 1, and an off row by 1
# z1 + 2^-30 z2 <= 1 caps z1 at 1 for short z; z = (2, -2^30) meets everything
LEVER = CAPPED | {"shape": [1, 2, 2], "W": [1, 0, 1, 2**-30], "h": [1, 0], "gamma": [0], "p": [-1, 1]}

# problems whose claims the checker decides: their line in KINDS or FITS says that it does
DECIDED = [name for name in cases.NAMES if cases.kind_of(name).__name__ in DECIDES]
# of each problem a part of the worked instances, which all are solved and judged in test_layer_problems
WORKED = cases.spread([pair for pair in cases.worked() if pair[0].name in DECIDED], 10, lambda pair: pair[0].name)

PAIR = {"shape": [1, 2, 1], "W": [1, 1], "b": [0, 0], "weight": [1, 1], "rows": ["++"], "y": [0, 2]}  # h is 0 and is 2
TRIO = {"shape": [1, 3, 1], "W": [1, 1, 1], "b": [0, 0, 0], "weight": [1, 1, 1], "rows": ["+++"], "y": [0, 2, 10]}
ABOVE = {"shape": [1, 2, 1], "W": [1, 1], "b": [0, -1], "weight": [1, 1], "rows": ["+-"], "y": [3, 0]}  # h = 3, h <= 1

TRUE = {
    # f = 1/2 (h - 2)^2 + h is least at h = 1, where p = h - y = -1 and the slope p + lam is 0
    "soft threshold": file_of("NonnegativeLasso"),
    "soft threshold, any sign": file_of("Lasso", y=[-2], h=[-1], p=[1]),
    "p of any length": file_of("Lasso", y=[-2], h=[-1], p=[3]),
    "nothing to find": file_of("NonnegativeLasso", lam=[3], h=[0], p=[-2]),
    # 1/2 (z - 2)^2 + 1/2 z^2 is least at 1
    "prior": file_of("GaussianLatent"),
    "off row that caps, no prior": file_of("GaussianLatent", **CAPPED, gamma=[0], p=[-1, 1]),
    "off row that caps": file_of("NonnegativeLasso", **CAPPED, lam=[0.5], p=[-1, 0.5]),
    "p a little off, of short z": file_of("GaussianLatent", **CAPPED, gamma=[0], p=[-1, 1.0 + 2**-40], scope=[1000.0]),
    "within its scope": file_of("GaussianLatent", **LEVER, scope=[100.0]),
    "unseen row": file_of("NonnegativeLasso", **CAPPED | {"rows": ["+."]}, p=[-1, 7]),
    "a cap on h of any sign": file_of("Lasso", **CAPPED, lam=[0.5], p=[-1, 0.5]),
    "weight": file_of("NonnegativeLasso", weight=[2], h=[1.5]),
    "length of the misfit": file_of("BasisPursuitL2", y=[3], h=[2], p=[-5]),
    "length of the misfit, h >= 0": file_of("NonnegativeBasisPursuitL2", y=[3], h=[2], p=[-5]),
    "weight of the length": file_of("BasisPursuitL2", y=[3], h=[2.5], weight=[4], p=[-5]),
    "each row bounded": file_of("BasisPursuitLinf", lo=[-4], hi=[-2], h=[-2], p=[5]),
    "each row bounded, h >= 0": file_of("NonnegativeBasisPursuitLinf", lo=[2], hi=[4], h=[2], p=[-5]),
    "an off row bounded": file_of("NonnegativeBasisPursuitLinf", **CAPPED, **BOUNDED, p=[-1, 0]),
    "interval": file_of("IntervalBasisPursuit", h=[2]),
    "open interval": file_of("IntervalBasisPursuit", h=[2], hi=[INF]),
    "0 is within": file_of("IntervalBasisPursuit", h=[0], lo=[-1], p=[0]),
    # 1.01 is 5e-5 above the least objective 1.5
    "inaccurate": file_of("NonnegativeLasso", h=[1.01], status=["optimal_inaccurate"]),
    "a row that nothing moves": file_of("NonnegativeLasso", **DEAD, p=[0, 1], status=["infeasible"]),
    "the same for z": file_of("GaussianLatent", **DEAD, p=[9, 1], status=["infeasible"]),
    "the same for lengths": file_of("BasisPursuitL2", **DEAD, p=[0, 1], status=["infeasible"]),
    "the same row by row": file_of("BasisPursuitLinf", **DEAD | {"b": [0, 3]}, **BOUNDED, p=[0, 1], status=["infeasible"]),
    "h >= 0 cannot help": file_of("NonnegativeLasso", **DEAD | {"W": [1, 2]}, p=[0, 1], status=["infeasible"]),
    "too far to help": file_of("GaussianLatent", **DEAD | {"W": [1, 2**-20]}, p=[0, 1], status=["infeasible"], scope=[1e5]),
    "an empty interval": file_of("IntervalBasisPursuit", lo=[3], hi=[2], p=[0], status=["infeasible"]),
    "nothing reaches inf": file_of("IntervalBasisPursuit", lo=[INF], hi=[INF], p=[0], status=["infeasible"]),
    # the middle of 0 and 2 is 1 from both, and p = (1/2, -1/2) has length 1 and W'p = 0
    "largest misfit": file_of("LinfFit", **PAIR, h=[1], p=[0.5, -0.5]),
    "largest misfit, p of any length": file_of("LinfFit", **PAIR, h=[1], p=[7, -7]),
    # 3 h and 2 - h are one at h = 1/2
    "largest weighed misfit": file_of("LinfFit", **PAIR | {"weight": [9, 1]}, h=[0.5], p=[0.75, -0.75]),
    "largest misfit, an off row": file_of("LinfFit", **ABOVE, h=[2], p=[-0.5, 0.5]),
    "largest misfit, h >= 0": file_of("NonnegativeLinfFit", y=[-2], h=[0], p=[1]),
    "largest misfit of nothing": file_of("NonnegativeLinfFit", h=[2], p=[0]),
    # the median of 0, 2 and 10; 0 and 10 cost 10 wherever h lies between, and 2 costs its distance
    "sum of misfits": file_of("L1Fit", **TRIO, h=[2], p=[1, 0, -1]),
    "sum of misfits, p of any length": file_of("L1Fit", **TRIO, h=[2], p=[5, 0, -5]),
    "sum of weighed misfits": file_of("L1Fit", **TRIO | {"weight": [9, 1, 1]}, h=[0], p=[2, -1, -1]),
    "sum of misfits, an off row": file_of("L1Fit", **ABOVE | {"weight": [0.25, 0]}, h=[1], p=[-0.5, 0.5]),
    "sum of misfits, h >= 0": file_of("NonnegativeL1Fit", y=[-2], h=[0], p=[1]),
    "an unseen row of a fit": file_of("L1Fit", **TRIO | {"rows": ["++."]}, h=[1.5], p=[1, -1, 9]),
    # h <= 1 leaves 2 of the 3
    "rooms": file_of("RelaxedFit", **ABOVE, h=[1], p=[-1, 1]),
    "weighed rooms": file_of("RelaxedFit", **ABOVE | {"weight": [4, 0]}, h=[1], p=[-2, 2]),
    "rooms, h >= 0": file_of("NonnegativeRelaxedFit", **ABOVE | {"W": [-1, 1]}, h=[0], p=[-1, 0]),
    "rooms of two ends": file_of("RelaxedFit", **PAIR, h=[0], p=[1, -1]),
    "rooms that leave none": file_of(
        "RelaxedFit", **ABOVE | {"W": [1, 0], "b": [0, 1]}, h=[0], p=[0, 1], status=["infeasible"]
    ),
    "rooms that leave none to h >= 0": file_of("NonnegativeRelaxedFit", y=[-2], h=[0], p=[1], status=["infeasible"]),
    "no claim": file_of("NonnegativeLasso", h=[77], status=["user_limit"]),
    "no answer, no claim": file_of("NonnegativeLasso", h=[0], status=["numerical_error"]),
}
FALSE = {
    "too long": (file_of("NonnegativeLasso", h=[1.01]), "(b) objective 1.5"),
    "not even inaccurate": (file_of("NonnegativeLasso", h=[1.1], status=["optimal_inaccurate"]), "(b)"),
    "negative": (file_of("NonnegativeLasso", lam=[3], h=[-0.5], p=[-2]), "(a) entry 0 of h is 0.5 beyond"),
    "no proof": (file_of("NonnegativeLasso", p=[0]), "(b)"),
    "off row broken": (file_of("NonnegativeLasso", **CAPPED, h=[1.5], lam=[0], p=[-0.5, 0.5]), "(a) row 1: W h + b is 0.5"),
    "off row broken by a little that is worth much": (
        file_of("NonnegativeLasso", **CAPPED | {"W": [1, 2**-30], "b": [0, 0]}, h=[2], lam=[0], p=[0, 0]), "(a) row 1"),
    "p of a sign that proves nothing": (file_of("GaussianLatent", **CAPPED, gamma=[0], h=[0], p=[-2, -2]), "(b)"),
    "length of the misfit": (file_of("BasisPursuitL2", y=[3], h=[1.9], p=[-5]), "(a) the misfit is 0.1 beyond"),
    "not the shortest": (file_of("BasisPursuitL2", y=[3], h=[2.1], p=[-5]), "(b)"),
    "each row bounded": (file_of("BasisPursuitLinf", lo=[-4], hi=[-2], h=[-1.9], p=[5]), "(a) row 0"),
    "interval": (file_of("IntervalBasisPursuit", h=[1.5]), "(a) row 0: W h + b is 0.5 beyond its limit"),
    "an end beyond all numbers": (file_of("IntervalBasisPursuit", lo=[INF], hi=[INF]), "(a) row 0"),
    "longer than its scope": (file_of("NonnegativeLasso", scope=[0.5]), "h is 1 long, asked for where |h| <= 0.5"),
    "not in so wide a scope": (file_of("GaussianLatent", **LEVER, scope=[1e9]), "(b)"),
    "not everywhere": (file_of("GaussianLatent", **LEVER), "p scaled by 0"),
    "not the middle": (file_of("LinfFit", **PAIR, h=[1.01], p=[0.5, -0.5]), "(b) objective 1.01, bound 0.01 below"),
    "a length beyond 1": (file_of("LinfFit", **PAIR, h=[2], p=[1, -1]), "(b) objective 2, bound 1 below"),
    "not the median": (file_of("L1Fit", **TRIO, h=[2.1], p=[1, 0, -1]), "(b) objective 10.1"),
    "p beyond a weight": (file_of("L1Fit", **TRIO | {"weight": [0.25, 1, 1]}, h=[2], p=[1, 0, -1]), "(b)"),
    "a weight's square for its root": (file_of("L1Fit", **TRIO | {"weight": [4, 1, 1]}, h=[2], p=[4, -4, 0]), "(b)"),
    "p of an off row below 0": (file_of("L1Fit", **ABOVE, h=[0], p=[-1, -1]), "(b)"),
    "a fit below 0": (file_of("NonnegativeL1Fit", y=[-2], h=[-1], p=[1]), "(a) entry 0 of h is 1 beyond"),
    "rooms exceeded": (file_of("RelaxedFit", **ABOVE, h=[1.5], p=[-1, 1]), "(a) row 1: W h + b is 0.5 beyond"),
    "an on row exceeded": (file_of("RelaxedFit", **PAIR, h=[2], p=[1, -1]), "(a) row 0: W h + b is 2 beyond"),
    "rooms left": (file_of("RelaxedFit", **ABOVE, h=[0.5], p=[-1, 1]), "(b) objective 2.5, bound 0.5 below"),
    "a lower end of rooms' p": (file_of("RelaxedFit", **PAIR, h=[-1], p=[4, -4]), "(b)"),
    "a slope of a fit": (file_of("L1Fit", **TRIO, h=[2], p=[1, 0.5, -1]), "p scaled by 0"),
    "fits are never infeasible": (file_of("L1Fit", **TRIO, h=[2], p=[1, 0, -1], status=["infeasible"]), "p is worth 0"),
    "rooms that leave some": (file_of("RelaxedFit", **ABOVE, h=[1], p=[0, 1], status=["infeasible"]), "no scope"),
    "everything is feasible": (file_of("NonnegativeLasso", status=["infeasible"]), "p is worth 0"),
    "h can help": (file_of("NonnegativeLasso", **DEAD | {"W": [1, -1]}, p=[0, 1], status=["infeasible"]), "no scope"),
    "near enough to help": (
        file_of("GaussianLatent", **DEAD | {"W": [1, 2**-20]}, p=[0, 1], status=["infeasible"], scope=[1e7]), "takes"),
    "within the slack": (file_of("GaussianLatent", **DEAD | {"b": [0, 1e-7]}, p=[0, 1], status=["infeasible"]), "worth -"),
    "not convex": (file_of("ActivatedLasso", status=["stationary"]), "'stationary' of ActivatedLasso is a claim"),
    "not convex, optimal": (file_of("ActivatedLasso"), "not decided here"),
    "a word of its own": (file_of("NonnegativeLasso", status=["perfect"]), "'perfect'"),
    "p a little off": (file_of("GaussianLatent", **CAPPED, gamma=[0], p=[-1, 1.0 + 2**-40]), "p scaled by 0"),
    "p of another size": (file_of("NonnegativeLasso", p=[-0.5]), "(b)"),
    "a free row that makes s_y large": (
        file_of("NonnegativeLasso", shape=[1, 2, 1], rows=["+-"], W=[1, 0], b=[2, 1e12], y=[2, 0], weight=[1, 0], p=[0, 0])
        | {"hi": [INF, INF], "h": [1e-6]}, "(b)"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_true_claims_are_accepted(name: str, tmp_path: Path):
    found = verdict(tmp_path, TRUE[name])
    assert found.accepted, found


@pytest.mark.parametrize("name", FALSE)
def test_false_claims_are_rejected_with_the_inequality(name: str, tmp_path: Path):
    content, words = FALSE[name]
    found = verdict(tmp_path, content)
    assert not found.accepted and words in found.words, found


@pytest.mark.parametrize(
    "kind", [k for k, (form, _, name) in check.KINDS.items() if name and form != "curved" and k != "Lasso"]
)
@pytest.mark.parametrize("far", [100.0, 1e9])
def test_a_multiplier_without_end_proves_nothing(kind: str, far: float, tmp_path: Path):
    """A dead off row, broken by 1e-7, and p = 1e300 there: the bound of p has no end, and h may be anything."""
    content = file_of(kind, **DEAD | {"y": [0, 0], "b": [0, 1e-7]}, h=[far], p=[0, 1e300])
    assert not verdict(tmp_path, content).accepted


def test_every_worked_instance_is_decided_as_on_paper(tmp_path: Path):
    for case, instance in WORKED:
        solution = case.auto
        if instance.answer is None:
            solution = replace(solution, p=torch.as_tensor(instance.ray)[None])
            solution = replace(solution, certificate=replace(solution.certificate, status=np.array(["infeasible"])))
        else:
            solution = replace(solution, h=torch.as_tensor(instance.answer)[None])
        (found,) = check_file(solution.export(tmp_path / "worked.json"))
        assert found.accepted, (case, found)


def test_every_claim_on_every_case_is_accepted(tmp_path: Path):
    drawn = [*cases.random_cases(), *(case for name in cases.NAMES for case in cases.hopeless_cases(name))]
    everywhere = claims = fits = 0
    for case in [case for case in (*(case for case, _ in cases.worked()), *drawn) if case.name in DECIDED]:
        solution = case.auto
        for found in check_file(solution.export(tmp_path / "case.json")):
            assert found.accepted, (case, found)
            fits += case.name in cases.FITS and found.words != "claims nothing"
            if case.name not in cases.FITS:  # in fits h costs nothing, and a rounded W'p is not 0
                claims, everywhere = claims + 1, everywhere + ("where |h| <=" not in found.words)
    assert claims >= 500 and everywhere >= 0.8 * claims and fits >= 150


# --- solved ---------------------------------------------------------------------------------------

CHOSEN = {
    "tall-mixed-penalty",
    "leaky",
    "wide",
    "tall-masked",
    "tall-masked-no-penalty",
    "tall-mixed",
    "masked",
    "wide-equality",
}


def drawn(name: str) -> list[cases.Case]:
    specs = [replace(spec, N=3) for spec in cases.dense_specs(name) if spec.label in CHOSEN]
    return [*(cases.dense_case(name, spec) for spec in specs), *cases.hopeless_cases(name)]


@pytest.mark.parametrize("name", DECIDED)
def test_what_solvers_claim_is_accepted(name: str, tmp_path: Path):
    claims = 0
    for case in drawn(name):
        solution = ci.solve(case.problem, on_fail="ignore")
        for found in check_file(solution.export(tmp_path / "solved.json")):
            assert found.accepted, (case, found)
            claims += found.words != "claims nothing"
    assert claims >= 9


@pytest.mark.parametrize("name", DECIDED)
def test_float32_points_are_exported_as_they_are_judged(name: str, tmp_path: Path):
    # a rounded h misses an equation by 1e-7
    some = [case for case in drawn(name) if "equality" not in case.label and "no-penalty" not in case.label]
    assert some
    for case in some:
        solution = ci.solve(case.to(torch.float32).problem, on_fail="ignore")
        assert solution.h.dtype == torch.float32
        for found in check_file(solution.export(tmp_path / "single.json")):
            assert found.accepted, (case, found)


def test_a_broken_row_that_no_h_moves_proves_by_itself(tmp_path: Path):
    """Two dead off rows, the second over its limit by more; a p of a solver says nothing of them."""
    W, y, on = torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[True, False, False]])
    rows = ci.Rows(ci.Dense(W.double()), torch.tensor([0.0, 0.1, 1.0]).double(), y.double(), on)
    for problem in (ci.GaussianLatent(rows, 1.0), ci.NonnegativeLasso(rows, 1.0), ci.NonnegativeBasisPursuitLinf(rows, 0.1)):
        solution = ci.solve(problem, on_fail="ignore")
        (found,) = check_file(solution.export(tmp_path / "dead.json"))
        assert found.claim == "infeasible" and found.accepted, found


@pytest.mark.parametrize("times", [1, 1000])
def test_a_p_that_is_a_little_off_is_exported_for_a_scope(times: int, tmp_path: Path):
    """lam = 0, W_on of full rank: the judge proves by the least singular value, the file by a p next to feasibility."""
    draw = cases.seeded(3)
    W, y = cases.normal(10, 4, draw=draw), cases.normal(2, 10, draw=draw)
    problem = ci.GaussianLatent(ci.Rows(ci.Dense(W), torch.zeros(10).double(), y, torch.ones(2, 10, dtype=torch.bool)), 0.0)
    exact = ci.solve(problem)
    h = exact.h + 3e-4 * times**0.5 * cases.normal(2, 4, draw=draw)
    c = ci.certify(problem, h, problem.rows.W(h) - y)
    assert set(c.status) == {"optimal" if times == 1 else "optimal_inaccurate"}, (c.gap, c.allowed_gap)
    solution = replace(exact, h=h, p=problem.rows.W(h) - y, certificate=c)
    for found in check_file(solution.export(tmp_path / "off.json")):
        assert found.accepted, found
    scope = numbers(json.loads((tmp_path / "off.json").read_text())["scope"])
    assert all(R > 1e3 * float(h[i].norm()) for i, R in enumerate(scope))


def test_a_part_of_a_solution_is_exported_with_its_part_of_the_problem(tmp_path: Path):
    solution = ci.solve(cases.dense_case("nonnegative_lasso", cases.DENSE[3]).problem, on_fail="ignore")
    part = solution.take(torch.tensor([4, 1]))
    assert part.problem.N == 2 and len(check_file(part.export(tmp_path / "part.json"))) == 2
    assert all(v.accepted for v in check_file(tmp_path / "part.json"))
    assert len(solution.take(slice(0, 0))) == 0


# --- mutations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [*KINDS, "hi", "weight"])
def test_a_mutated_certificate_is_rejected_unless_it_is_still_true(what: str, tmp_path: Path):
    rejected = 0
    for seed in range(8):
        draw, solution = random.Random(seed), separable(seed)
        content = json.loads(solution.export(tmp_path / "a.json").read_text())
        assert all(is_true(content, i) and v.accepted for i, v in enumerate(judged(tmp_path, content)))
        for _ in range(25):
            changed = mutate(content, what, draw)
            for i, found in enumerate(judged(tmp_path, changed)):
                rejected += not found.accepted
                assert is_true(changed, i) or not found.accepted, (what, seed, found)
    assert rejected >= 10, "the mutations do nothing"


def fit_of_one_unknown(kind: str, seed: int) -> ci.Solution:
    """Two signals of three on rows and two off rows of one unknown: F is convex, least at a kink."""
    draw = cases.seeded(seed)
    W, b, y = cases.normal(5, 1, draw=draw), -cases.normal(5, draw=draw).abs(), 2 * cases.normal(2, 5, draw=draw)
    weight = 0.5 + torch.rand(2, 5, generator=draw, dtype=torch.float64)
    y = y.abs() if "Relaxed" in kind else y  # so that h = 0 is allowed
    rows = ci.Rows(ci.Dense(W), b, y, torch.tensor([[True] * 3 + [False] * 2] * 2), weight=weight)
    return ci.solve(getattr(ci, kind)(rows), on_fail="ignore")


def is_true_of_a_fit(content: dict[str, Any], i: int) -> bool:
    """Whether signal i's claim on a fit of one unknown holds within its scope, from F at all its kinks."""
    (form, nonnegative, _), status = check_fits.FITS[content["kind"]], content["status"][i]
    if status in CLAIMS_NOTHING:
        return True
    a, marks = numbers(content["W"]), content["rows"][i]
    b, y, w, hi, (h,), (scope,), (tol,) = of_signal(content, i, "b y weight hi h scope tol")
    root = [Fraction(isqrt(int(x * 2**400)), 2**200) for x in w]
    square = sum((y[r] - b[r]) ** 2 for r in range(5) if marks[r] == "+")
    square = square or sum(max(b[r], 0) ** 2 for r in range(5) if marks[r] == "-")
    s_y = Fraction(isqrt(int(square * 2**400)) + 1, 2**200)
    R = Fraction(scope) if scope < INF else Fraction(10**12)

    def limited(slack: Fraction) -> tuple[Fraction, Fraction] | None:
        low, high = (Fraction(0) if nonnegative else -R), R
        for r in range(5) if form == "rooms" else ():
            room = hi[r] + slack - b[r] if hi[r] < INF else None
            if room is not None and a[r] == 0 and room < 0:
                return None
            if room is not None and a[r]:
                low, high = (low, min(high, room / a[r])) if a[r] > 0 else (max(low, room / a[r]), high)
        return (low, high) if low <= high else None

    def F(x: Fraction) -> Fraction:
        v = [a[r] * x + b[r] for r in range(5)]
        e = [root[r] * abs(v[r] - y[r]) if marks[r] == "+" else max(v[r], Fraction(0)) for r in range(5)]
        e = [x for x, mark in zip(e, marks, strict=True) if mark == "+" or (mark == "-" and form != "rooms")]
        return max([Fraction(0), *e]) if form == "largest" else sum(e, Fraction(0))

    if status == "infeasible":
        return form == "rooms" and limited(tol * s_y) is None
    if status not in ("optimal", "optimal_inaccurate") or abs(h) > R:
        return False
    times, ends = times_of(status), limited(Fraction(0))
    over = [a[r] * h + b[r] - hi[r] for r in range(5) if form == "rooms" and hi[r] < INF]
    if (nonnegative and -h > times * tol * abs(h)) or any(v > times * tol * s_y for v in over):
        return False
    if ends is None:
        return True  # broken by less than is allowed
    lines = [(s * root[r] * a[r], s * root[r] * (b[r] - y[r])) for r in range(5) if marks[r] == "+" for s in (1, -1)]
    lines += [(a[r], b[r]) for r in range(5) if marks[r] == "-"] + [(Fraction(0), Fraction(0))]
    kinks = {(q - t) / (s - p) for p, q in lines for s, t in lines if p != s} | {*ends, Fraction(0)}
    best = min(F(max(ends[0], min(ends[1], x))) for x in kinks)
    return F(h) - best <= times * max(tol * F(h), Fraction(1, 10**10) * s_y)


@pytest.mark.parametrize("kind", check_fits.FITS)
@pytest.mark.parametrize("what", [k for k in KINDS if k != "penalty"] + ["weight"])
def test_a_mutated_fit_is_rejected_unless_it_is_still_true(kind: str, what: str, tmp_path: Path):
    rejected = kept = 0
    for seed in range(3):
        draw, solution = random.Random(seed), fit_of_one_unknown(kind, seed)
        content = json.loads(solution.export(tmp_path / "a.json").read_text())
        assert all(is_true_of_a_fit(content, i) and v.accepted for i, v in enumerate(judged(tmp_path, content)))
        assert set(content["status"]) == {"optimal"}
        for _ in range(12):
            changed = mutate(content, what, draw)
            if what == "y" and "Relaxed" in kind:  # the rows' limits are their data
                y, hi = numbers(changed["y"]), numbers(changed["hi"])
                ends = [y[k] if mark == "+" else hi[k] for k, mark in enumerate("".join(changed["rows"]))]
                changed |= {"hi": text(ends)}
            for i, found in enumerate(judged(tmp_path, changed)):
                rejected, kept = rejected + (not found.accepted), kept + found.accepted
                assert is_true_of_a_fit(changed, i) or not found.accepted, (kind, what, seed, found)
    # where h >= 0 a lift leaves W'p >= 0 exactly, and no tol is too small for the corner that was found
    assert rejected >= (0 if what == "tol" else 3) and kept >= 10, "the mutations do nothing, or all"


# --- liars ----------------------------------------------------------------------------------------


def known(seed: int, decades: float) -> tuple[dict[str, Any], float]:
    """A nonnegative lasso built from its optimum, with its rows `decades` apart in size, and the least objective.

    p and h are drawn; on the support the columns are turned until W'p = -lam, elsewhere W'p > -lam; y = W h + b - p / w.
    Tight off rows have p > 0, slack ones p = 0.
    """
    draw = np.random.default_rng(seed)
    m, n, on, lam = 12, 5, 7, 0.5
    W, p, w = draw.normal(size=(m, n)), draw.normal(size=m), draw.uniform(0.5, 2, size=m)
    p[on:] = np.where(draw.random(m - on) < 0.5, np.abs(p[on:]), 0)
    h = np.where(draw.random(n) < 0.6, draw.uniform(0.5, 2, size=n), 0)
    want = np.where(h > 0, -lam, np.maximum(W.T @ p, -lam + 0.1))
    W += np.outer(p, (want - W.T @ p) / (p @ p))
    b = np.where(np.arange(m) < on, draw.normal(size=m), -W @ h - np.where(p > 0, 0, draw.uniform(0.1, 1, size=m)))
    size = np.where(np.arange(m) < on, 1, 10 ** draw.uniform(-decades, decades, size=m))  # of the off rows
    content = file_of("NonnegativeLasso", shape=[1, m, n], rows=["+" * on + "-" * (m - on)], lam=[lam])
    content |= {
        "W": (size[:, None] * W).ravel().tolist(),
        "b": (size * b).tolist(),
        "p": (p / size).tolist(),
        "h": h.tolist(),
    }
    content |= {
        "y": np.where(np.arange(m) < on, W @ h + b - p / w, 0).tolist(),
        "weight": np.where(np.arange(m) < on, w, 0).tolist(),
    }
    return content, float(p[:on] ** 2 @ (1 / w[:on]) / 2 + lam * h.sum())


def objective(content: dict[str, Any]) -> float:
    W, b, y, w, h = (np.array(content[key]) for key in ("W", "b", "y", "weight", "h"))
    r = (W.reshape(len(b), -1) @ h + b - y)[:7]
    return float(w[:7] @ r**2 / 2 + content["lam"][0] * h.sum())


@pytest.mark.parametrize("decades", [0.0, 3.0, 6.0, 12.0])
def test_no_liar_is_believed(decades: float, tmp_path: Path):
    """Points and multipliers off by every size, called optimal: what is accepted lies at the known optimum."""
    accepted = rejected = 0
    for seed in range(40):
        content, least = known(seed, decades)
        draw = np.random.default_rng(1000 + seed)
        # at 1e12 the rounding of such a row is more than tol s_y, which (a) asks of it as of all others
        assert decades > 6 or verdict(tmp_path, content).accepted
        for _ in range(12):
            h = np.array(content["h"]) * (1 + 10 ** draw.uniform(-12, 0) * draw.normal(size=5))
            p = np.array(content["p"]) * (1 + 10 ** draw.uniform(-12, 3) * draw.normal(size=12) * (draw.random(12) < 0.3))
            lie = content | {"h": (h + (draw.random(5) < 0.1) * 10 ** draw.uniform(-9, 0)).tolist(), "p": p.tolist()}
            found = verdict(tmp_path, lie)
            accepted, rejected = accepted + found.accepted, rejected + (not found.accepted)
            if found.accepted:
                assert abs(objective(lie) - least) <= 1.001e-6 * least, (seed, found)
    assert accepted >= 20 and rejected >= 40


@pytest.mark.parametrize("solver", ["auto", "pdhg", "CLARABEL"])
def test_rows_of_very_different_size_fool_nobody(solver: str, tmp_path: Path):
    """Off rows 1e-6 as large as others: broken by a millionth of s_y they change the first digits of f."""
    draw = cases.seeded(0)
    W, y = cases.normal(60, 30, draw=draw), 5 * cases.normal(1, 60, draw=draw)
    W[::3] *= 1e-6
    rows = ci.Rows(ci.Dense(W), torch.full((60,), -1e-3).double() * W.norm(dim=1), y, (torch.arange(60) % 2 == 0)[None])
    problem = ci.NonnegativeLasso(rows, 0.01 * float(rows.W.adjoint(rows.fit * y).abs().max()))
    even = torch.where((torch.arange(60) % 3 == 0) & (torch.arange(60) % 2 == 1), 1e6, 1.0).double()  # of the off rows
    same = ci.NonnegativeLasso(ci.Rows(ci.Dense(even[:, None] * W), even * rows.b, y, rows.on), problem.lam)
    truth = ci.solve(same)
    assert float(truth.certificate.violation[0]) < 1e-9
    exact = float(problem.objective(truth.h)[0])
    solution = ci.solve(problem, solver, on_fail="ignore")
    (found,) = check_file(solution.export(tmp_path / "rows.json"))
    off = abs(float(problem.objective(solution.h)[0]) - exact) / exact
    assert not (found.accepted and found.words != "claims nothing" and off > 1e-6), (off, found)


# --- a judge with a fault -------------------------------------------------------------------------

NO_JUDGE = ("statement", "prox", "Gram form", "normalised", "unit of h", "equation at", "the equation")  # faults elsewhere
JUDGED = {
    "lasso": ("lasso",), "nonnegative_lasso": ("nonnegative_lasso",), "gaussian_latent": ("gaussian_latent",),
    "basis_pursuit_l2": ("basis_pursuit_l2", "nonnegative_basis_pursuit_l2"),
    "interval_basis_pursuit": ("interval_basis_pursuit", "basis_pursuit_linf", "nonnegative_basis_pursuit_linf"),
    "relaxed_fit": ("relaxed_fit", "nonnegative_relaxed_fit"),
}  # fmt: skip


def judging_faults(name: str) -> list[test_mutations.Fault]:
    """The faults of a layer file, and those of the shared pieces that its problems are to show."""
    shared = [fault for fault in test_mutations.SHARED if set(fault.names) & set(JUDGED[name])]
    return [f for f in (*test_mutations.FAULTS[name], *shared) if not any(word in f.what for word in NO_JUDGE)]


@contextmanager
def faulty(name: str, fault: test_mutations.Fault, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The problems of a layer file with the fault in it, or in what they share, by the names of their instances."""
    with monkeypatch.context() as patch:
        if isinstance(fault, test_mutations.SharedFault):
            spoil(patch, fault.module, fault.old, fault.new)
            yield {kind: cases.kind_of(kind) for kind in JUDGED[name]}
        else:
            yield test_mutations.plant(name, fault)


def spoiled(problem: Any, solution: ci.Solution) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The problem of many copies of its signals, and points that are none of theirs, all about as long."""
    h, p, draw = solution.h, torch.nan_to_num(solution.p), cases.seeded(5)
    rays = torch.where(p.abs().amax(1, keepdim=True) > 0, p, 1.0)
    points = [
        (h, p),
        (0 * h, p),
        (0.9 * h, p),
        (1.1 * h, p),
        (h, 2 * p),
        (h, p / 2),
        (h, -p),
        (h, p.abs()),
        (-h, p),
        (h / 2, p / 2),
    ]
    points += [
        (h + 0.1 * h.std() * cases.normal(*h.shape, draw=draw), p),
        (h, p + cases.normal(*p.shape, draw=draw)),
        (h, 1e6 * rays),
    ]
    index = torch.arange(problem.N).repeat(len(points))
    return problem.take(index), torch.cat([a for a, _ in points]), torch.cat([b for _, b in points])


@cache
def spoiled_cases(kind: str) -> list[tuple[cases.Case, torch.Tensor, torch.Tensor, np.ndarray]]:
    """Cases of a kind with many signals, points, and what the judge says of them."""
    made = []
    specs = [replace(spec, N=3) for spec in cases.dense_specs(kind) if spec.label in test_mutations.CHOSEN]
    for case in [*(cases.dense_case(kind, spec) for spec in specs[:3]), *cases.hopeless_cases(kind)]:
        problem, h, p = spoiled(case.problem, ci.solve(case.problem, on_fail="ignore"))
        names = ["lo"] if case.ends else [key for key in ("lam", "gamma", "eps") if hasattr(problem, key)]
        penalty = getattr(problem, names[0]) if names else None
        ends = (problem.lo, problem.hi) if case.ends else None
        case = replace(case, rows=problem.rows, penalty=penalty, ends=ends)
        made.append((case, h, p, ci.certify(problem, h, p).status))
    return made


@pytest.mark.parametrize("name", JUDGED)
def test_a_judge_with_a_fault_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A fault planted in objective, violation or dual makes the judge claim what is false: no such claim is accepted."""
    misled, points = 0, {kind: spoiled_cases(kind) for kind in JUDGED[name]}
    for fault in judging_faults(name):
        with faulty(name, fault, monkeypatch) as kinds:
            said = [
                (case, h, p, truth, ci.certify(case.as_kind(planted).problem, h, p))
                for kind, planted in kinds.items()
                for case, h, p, truth in points[kind]
            ]
        lies = 0
        for case, h, p, truth, claims in said:
            false = np.flatnonzero(np.isin(claims.status, ("optimal", "infeasible")) & (claims.status != truth))
            if len(false):
                index = torch.as_tensor(false[:6])
                part = case.problem.take(index)
                zero = torch.zeros(len(index), dtype=torch.long)
                words = ("",) * len(index)
                solution = ci.Solution(h[index], p[index], zero, zero > 0, words, words, claims.take(index), 0.0, (), part)
                verdicts = check_file(solution.export(tmp_path / "lies.json"))
                assert not any(v.accepted for v in verdicts), (fault.what, case, verdicts)
                lies += len(false)
        misled += lies > 0
    assert misled >= {"lasso": 1, "gaussian_latent": 2, "relaxed_fit": 1}.get(name, 3), "hardly a fault makes the judge lie"


# --- hostile files --------------------------------------------------------------------------------

PLAIN = json.dumps(packed(file_of("NonnegativeLasso")))
B, H, WHOLE, LAM = (f'"{key}": "{text(file_of("NonnegativeLasso")[key])}"' for key in ("b", "h", "W", "lam"))
LONG = base64.b64encode(bytes(8000)).decode()

HOSTILE = {
    "nothing": "",
    "no JSON": "certificate",
    "cut": PLAIN[:-20],
    "a list": "[1]",
    "a number": "7",
    "another file": '{"format": "cvxinv result format", "version": 1}',
    "another version": json.dumps(packed_file("Lasso", version=2)),
    "no kind": json.dumps(packed_file("Lasso") | {"kind": None}),
    "a kind of lists": PLAIN.replace('"NonnegativeLasso"', "[]"),
    "a kind that is none": PLAIN.replace("NonnegativeLasso", "__import__"),
    "a key twice": PLAIN[:-1] + ', "tol": [0.5]}',
    "a key too many": json.dumps(packed_file("Lasso", more=1)),
    "a key too few": json.dumps({k: v for k, v in packed_file("Lasso").items() if k != "b"}),
    "the keys of another kind": PLAIN.replace("NonnegativeLasso", "BasisPursuitL2"),
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "deep in an entry": PLAIN.replace(B, '"b": ' + "[" * 400 + "]" * 400),
    "many lists": "[" + "[]," * 10_000 + "[]]",
    "many entries": "[" + "0," * 5_000_000 + "0]",
    "NaN": PLAIN.replace(B, f'"b": "{text([NAN])}"'),
    "Infinity": PLAIN.replace(WHOLE, f'"W": "{text([INF])}"'),
    "too large for a float": PLAIN.replace(B, '"b": [1e999]'),
    "an integer too large for a float": PLAIN.replace(B, f'"b": [1{"0" * 400}]'),
    "an integer without end": PLAIN.replace(B, f'"b": [1{"0" * 100_000}]'),
    "nan in a string": PLAIN.replace(B, '"b": [NAN]'),
    "a word": PLAIN.replace(B, '"b": ["__import__(\'os\')"]'),
    "a long word": PLAIN.replace(B, f'"b": ["0x{"1" * 100_000}"]'),
    "null": PLAIN.replace(B, '"b": null'),
    "an object": PLAIN.replace(B, '"b": {"0": 0}'),
    "too few": PLAIN.replace(H, '"h": ""'),
    "too many": PLAIN.replace(H, f'"h": "{text([1, 2])}"'),
    "no base64": PLAIN.replace(H, '"h": "!!!!"'),
    "base64 of 7 bytes": PLAIN.replace(H, '"h": "AAAAAAAAAA=="'),
    "too much base64": PLAIN.replace(H, f'"h": "{LONG}"'),
    "a shape of words": PLAIN.replace('"shape": [1, 1, 1]', '"shape": ["1", 1, 1]'),
    "a shape of truths": PLAIN.replace('"shape": [1, 1, 1]', '"shape": [true, 1, 1]'),
    "a shape of nothing": PLAIN.replace('"shape": [1, 1, 1]', '"shape": [0, 0, 0]'),
    "a shape below nothing": PLAIN.replace('"shape": [1, 1, 1]', '"shape": [-1, -1, 1]'),
    "a huge shape": PLAIN.replace('"shape": [1, 1, 1]', '"shape": [1000000, 1000000, 1000000]'),
    "a shape without end": PLAIN.replace('"shape": [1, 1, 1]', f'"shape": [1{"0" * 4000}, 1, 1]'),
    "a shape of two": PLAIN.replace('"shape": [1, 1, 1]', '"shape": [1, 1]'),
    "tol of 0": json.dumps(packed_file("Lasso", tol=[0])),
    "tol of 1": json.dumps(packed_file("Lasso", tol=[1])),
    "tol of a word": json.dumps(packed_file("Lasso") | {"tol": "1e-6"}),
    "no tol": json.dumps(packed_file("Lasso") | {"tol": None}),
    "a scope below 0": PLAIN.replace(text([INF]), text([-1])),
    "a scope that is no number": PLAIN.replace(text([INF]), text([NAN])),
    "a status that is none": PLAIN.replace('"optimal"', "1"),
    "two statuses": PLAIN.replace('"optimal"', '"optimal", "optimal"'),
    "other marks": PLAIN.replace('["+"]', '["*"]'),
    "more marks": PLAIN.replace('["+"]', '["++"]'),
    "a penalty below 0": PLAIN.replace(LAM, f'"lam": "{text([-1])}"'),
    "a list in place of base64": PLAIN.replace(B, '"b": [0]'),
    "h that is no number": json.dumps(packed_file("NonnegativeLasso", h=[NAN])),
    "p that is no number": json.dumps(packed_file("NonnegativeLasso", p=[INF])),
    "a weight of nothing": json.dumps(packed_file("NonnegativeLasso", weight=[0])),
    "a weight of an off row": json.dumps(packed_file("NonnegativeLasso", rows=["-"]) | {"weight": text([1])}),
    "a weight below nothing": json.dumps(packed_file("NonnegativeLasso", weight=[-1])),
    "a weight of a row between limits": json.dumps(packed_file("IntervalBasisPursuit") | {"weight": text([1])}),
    "a limit of a fit": json.dumps(packed_file("LinfFit", hi=[3])),
    "a lower limit of a fit": json.dumps(packed_file("L1Fit", lo=[-3])),
    "an off row of a fit that ends elsewhere": json.dumps(packed_file("L1Fit", rows=["-"], hi=[1])),
    "an end of rooms that is not the data": json.dumps(packed_file("RelaxedFit", hi=[3])),
    "a weight of nothing in a fit": json.dumps(packed_file("LinfFit") | {"weight": text([0])}),
    "a number beside a fit": json.dumps(packed_file("LinfFit", lam=[1])),
    "ends that are no numbers": json.dumps(packed_file("IntervalBasisPursuit", lo=[NAN])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_certificate_is_refused_in_one_line(name: str, tmp_path: Path):
    with pytest.raises(RefusedError) as caught:
        judged(tmp_path, HOSTILE[name])
    message = str(caught.value)
    assert "expected" in message and "\n" not in message and len(message) < 400 and message.isprintable()


def test_files_that_are_none_are_refused(tmp_path: Path):
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 40)
    for path in (tmp_path, tmp_path / "missing", tmp_path / "bytes", "/dev/zero"):
        with pytest.raises(RefusedError, match="expected"):
            check_file(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(check.MOST_BYTES + 1)
    with pytest.raises(RefusedError, match="bytes"):
        check_file(tmp_path / "large")


def test_numbers_of_every_size_cost_bounded_time_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = file_of("NonnegativeLasso", shape=[1, 1, 2], W=[1e300, 1e-320], h=[1e-300, 5e-324])
    assert not verdict(tmp_path, small).accepted  # 2,000 binary digits are nothing
    monkeypatch.setattr(check, "MOST_BITS", 1000)
    with pytest.raises(RefusedError, match="expected numbers of similar size, not 2 of"):
        judged(tmp_path, small)
    monkeypatch.undo()
    monkeypatch.setattr(check, "MOST_WORK", 100)
    with pytest.raises(RefusedError, match="fewer signals"):
        judged(tmp_path, small)


def drop_one(content: Any, draw: random.Random) -> Any:
    """The content with one entry, wherever it is, replaced by something else."""
    odd = draw.choice([None, True, "", "x", -1, 0, 1e400, [], {}, [[]], 2**70, "AAAA", ["+"], {"a": 1}])
    if isinstance(content, (dict, list)) and content and draw.random() < 0.9:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        k = draw.choice(keys)
        changed = drop_one(content[k], draw)
        return content | {k: changed} if isinstance(content, dict) else [*content[:k], changed, *content[k + 1 :]]
    return odd


@pytest.mark.parametrize("seed", range(4))
def test_a_spoiled_file_is_judged_or_refused_and_nothing_else(seed: int, tmp_path: Path):
    draw, refusals = random.Random(seed), []
    for content in [*TRUE.values(), small_inversion()]:
        for _ in range(12):
            try:
                judged(tmp_path, json.dumps(drop_one(packed(content), draw)))
            except RefusedError as error:
                refusals.append(str(error))
    assert refusals and all(refusal.isprintable() for refusal in refusals)


# --- alone ----------------------------------------------------------------------------------------


FILES = [Path(module.__file__) for module in (check, check_fits, check_inversion)]
PARTS = sorted(Path(check_proof.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES + PARTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_checker_stands_alone(path: Path):
    source = path.read_text()
    named = {node.module if isinstance(node, ast.ImportFrom) else alias.name
             for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))
             for alias in node.names} - {None}  # fmt: skip
    beside = {path.stem for path in FILES} if path in FILES or path.stem == "beside" else set()
    beside |= {part.stem for part in PARTS} if path in PARTS else set()
    assert {name.split(".")[0] for name in named} <= set(sys.stdlib_module_names) | beside
    assert not any(word in source for word in ("eval(", "exec(", "__import__", "pickle", "import_module"))


def test_the_checker_of_layers_is_short():
    lines = Path(check.__file__).read_text().splitlines()
    assert len(lines) <= 300 and max(map(len, lines)) <= 125


def test_inversions_and_fits_are_checked_alone_where_all_files_lie(tmp_path: Path):
    (tmp_path / "one.json").write_text(json.dumps(packed(small_inversion())))
    (tmp_path / "two.json").write_text(json.dumps(packed(small_inversion(y=[1, 2, 4]))))
    (tmp_path / "bad.json").write_text(json.dumps(packed(small_inversion(shape=[1, 3, 3, 3]))))
    shutil.copy(check.__file__, tmp_path)

    def run(program: str, *names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-E", "-s", "-S", program, *names]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("check.py", "one.json")
    assert done.returncode == 2 and "inversions and fits are for check_inversion.py" in done.stdout and not done.stderr
    shutil.copy(check_fits.__file__, tmp_path)
    shutil.copy(check_inversion.__file__, tmp_path)
    done = run("check_inversion.py", "one.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "one.json: 2 of 2 claims accepted\n", "")
    assert run("check_inversion.py", "two.json").returncode == 1
    done = run("check_inversion.py", "bad.json")
    assert done.returncode == 2 and "bad.json: refused: expected a layer of 3 columns" in done.stdout and not done.stderr
    (tmp_path / "layer.json").write_text(json.dumps(packed(TRUE["prior"])))
    assert run("check_inversion.py", "layer.json").stdout == "layer.json: 1 of 1 claims accepted\n"
    (tmp_path / "fit.json").write_text(json.dumps(packed(TRUE["sum of misfits"])))
    assert run("check_inversion.py", "fit.json").stdout == "fit.json: 1 of 1 claims accepted\n"
    assert run("check.py", "fit.json").returncode == 2


def test_it_runs_alone(tmp_path: Path):
    alone = shutil.copy(check.__file__, tmp_path / "check.py")
    files = {"true.json": TRUE["prior"], "false.json": FALSE["no proof"][0]}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(packed(content)))
    (tmp_path / "none.json").write_text("[" * 9999)

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(alone), *names]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("true.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "true.json: 1 of 1 claims accepted\n", "")
    done = run("true.json", "false.json")
    assert done.returncode == 1 and "false.json: 0 of 1 claims accepted\n  signal 0, optimal: (b) objective" in done.stdout
    done = run("true.json", "false.json", "none.json")
    assert done.returncode == 2 and "none.json: refused: expected" in done.stdout and not done.stderr
    assert run().returncode == 2
    (tmp_path / "scope.json").write_text(json.dumps(packed(TRUE["within its scope"])))
    assert run("scope.json").stdout == "scope.json: 1 of 1 claims accepted, 1 of them within a scope\n"


# --- inversions -----------------------------------------------------------------------------------


def small_inversion(**changes: Any) -> dict[str, Any]:
    """x = relu(z1), relu(z2), relu(z1 + z2) through the identity, seen exactly at z = (1, 2)."""
    content: dict[str, Any] = {"format": "cvxinv certificate", "version": 1, "kind": "Inversion", "shape": [1, 2, 3, 3]}
    hidden = {"shape": [3, 2], "activation": "relu", "numbers": [], "W": [1, 0, 0, 1, 1, 1], "b": [0, 0, 0]}
    last = {"shape": [3, 3], "activation": "identity", "numbers": [], "W": [1, 0, 0, 0, 1, 0, 0, 0, 1], "b": [0, 0, 0]}
    content |= {"layers": [hidden, last], "A": None, "seen": ["+++"], "y": [1, 2, 3], "z": [1, 2], "noise": ""}
    content |= {"bound": [0], "born": "float64", "status": ["explained"], "determined": [True]}
    last |= {key.removeprefix("last_"): changes.pop(key) for key in list(changes) if key.startswith("last_")}
    hidden |= {key.removeprefix("hidden_"): changes.pop(key) for key in list(changes) if key.startswith("hidden_")}
    return content | changes


def outcome(tmp_path: Path, **changes: Any) -> dict[str, check.Verdict]:
    return {v.claim: v for v in judged(tmp_path, small_inversion(**changes))}


INVERSIONS = {
    "as it is": ({}, True, True),
    "another signal": ({"y": [1, 2, 3 + 1e-6]}, False, True),
    "within the noise": ({"y": [1, 2, 3.5], "noise": "l2", "bound": [0.5]}, True, True),
    "beyond the noise": ({"y": [1, 2, 3.5], "noise": "l2", "bound": [0.4999]}, False, True),
    "within each row's noise": ({"y": [1.5, 2.5, 3.5], "noise": "linf", "bound": [0.5]}, True, True),
    "beyond one row's noise": ({"y": [1, 2, 3.5], "noise": "linf", "bound": [0.49]}, False, True),
    "of float32": ({"y": [1, 2, 3 + 1e-6], "born": "float32"}, True, True),
    "a hidden entry": ({"y": [1, 2, 99], "seen": ["++."]}, True, True),
    "a hidden entry that is none": ({"y": [1, 2, NAN], "seen": ["++."]}, True, True),
    "a seen entry that is none": ({"y": [1, 2, NAN]}, False, False),
    "too little seen": ({"seen": ["+.."]}, True, False),
    "a dead unit too many": ({"z": [1, -1], "y": [1, 0, 0]}, True, False),
    "two units suffice": ({"z": [3, -1], "y": [3, 0, 2]}, True, True),
    "at a kink": ({"z": [1, 0], "y": [1, 0, 1]}, True, False),
    "a leaky unit": (
        {"z": [1, -1], "y": [1, -0.5, 0], "hidden_activation": "leaky_relu", "hidden_numbers": [0.5]}, True, False),
    "a leaky unit that is no kink": (
        {"z": [3, -1], "y": [3, -0.5, 2], "hidden_activation": "leaky_relu", "hidden_numbers": [0.5]}, True, True),
    "a matrix": ({"shape": [1, 2, 3, 2], "A": [1, 0, 0, 0, 0, 2], "y": [1, 6], "seen": ["++"]}, True, True),
    "a matrix of rank 1": ({"shape": [1, 2, 3, 2], "A": [1, 0, 0, 2, 0, 0], "y": [1, 2], "seen": ["++"]}, True, False),
    "cut at the output": ({"last_activation": "relu", "last_b": [0, -9, 0], "y": [1, 0, 3]}, True, True),
    "cut too much": ({"last_activation": "relu", "last_b": [0, -9, -9], "y": [1, 0, 0]}, True, False),
    "plu": ({"last_activation": "plu", "last_numbers": [0.5, 1], "y": [1, 1.5, 2]}, True, True),
    "sigmoid": ({"last_activation": "sigmoid", "y": [float(1 / (1 + np.exp(-u))) for u in (1, 2, 3)]}, True, True),
    "tanh": ({"last_activation": "tanh", "y": [float(np.tanh(u)) for u in (1, 2, 3)]}, True, True),
    "tanh of another": ({"last_activation": "tanh", "y": [float(np.tanh(u)) for u in (1, 2, 3.1)]}, False, True),
    "tanh at its end": ({"last_activation": "tanh", "last_b": [999, 0, 0], "y": [1.0, *np.tanh([2.0, 3.0])]}, True, True),
    "tanh behind a matrix": (
        {"shape": [1, 2, 3, 2], "A": [1, 0, 0, 0, 1, 0], "last_activation": "tanh", "y": [*np.tanh([1.0, 2.0])]}
        | {"seen": ["++"]}, True, False),
}  # fmt: skip


@pytest.mark.parametrize("name", INVERSIONS)
def test_inversions_by_hand(name: str, tmp_path: Path):
    changes, explained, determined = INVERSIONS[name]
    found = outcome(tmp_path, **changes)
    assert (found["explained"].accepted, found["determined"].accepted) == (explained, determined), found


def test_other_words_on_an_inversion_claim_nothing(tmp_path: Path):
    (found,) = outcome(tmp_path, status=["stationary"], determined=[False], z=[NAN, 0]).values()
    assert found.accepted and found.words == "claims nothing that is checked here"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [1, 2, 3, 2]}, "expected layers to 3 numbers, 2 of them measured"),
        ({"shape": [1, 3, 3, 3]}, "expected a layer of 3 columns"),
        ({"layers": []}, "expected layers"),
        ({"layers": [7]}, "expected layers"),
        ({"hidden_activation": "exec"}, "KeyError"),
        ({"hidden_activation": "leaky_relu"}, "expected numbers"),
        ({"hidden_numbers": [1]}, "expected numbers"),
        ({"last_W": [1] * 8 + [NAN]}, "expected W"),
        ({"noise": "l0"}, "expected noise"),
        ({"born": "float16"}, "expected noise"),
        ({"born": []}, "expected noise"),
        ({"determined": [1]}, "expected determined"),
        ({"seen": ["++"]}, "expected seen"),
    ],
)
def test_an_inversion_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str, tmp_path: Path):
    with pytest.raises(RefusedError, match=words):
        outcome(tmp_path, **changes)


@pytest.mark.parametrize("u", [0.0, 1e-300, 0.3, -0.3, 1.0, -7.5, 40.0, -800.0, 1e300])
def test_the_enclosures_hold(u: float):
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 110
        e = (-abs(Decimal(u))).exp() if abs(u) < 1e6 else Decimal(0)
        sigmoid = 1 / (1 + e) if u > 0 else e / (1 + e)
        tanh = (1 - e * e) / (1 + e * e) * (1 if u > 0 else -1)
        for name, value in (("sigmoid", sigmoid), ("tanh", tanh)):
            step = check_inversion._Step(packed({"shape": [1, 1], "activation": name, "numbers": [], "W": [1], "b": [0]}))
            found = step(Fraction(u))
            assert abs(Decimal(found.numerator) / Decimal(found.denominator) - value) < Decimal(2) ** -280


@pytest.mark.parametrize("output", ["identity", "sigmoid", "tanh", "relu", "leaky_relu:0.2", "plu"])
@pytest.mark.parametrize("seen", ["all", "masked"])
def test_inversions_of_a_shipped_generator_are_accepted(output: str, seen: str, tmp_path: Path):
    G = ci.load_generator("digits_8x8").with_output(output)
    z = G.sample_latent(3, torch.Generator().manual_seed(1))
    mask = None if seen == "all" else torch.arange(64) % 3 > 0
    found = ci.invert(G, G(z), measurement=mask, on_fail="ignore")
    folder = found.export(tmp_path / "files", G, G(z), mask)
    assert len(list(folder.iterdir())) == 1 + len(found.layers)
    for file in folder.iterdir():
        assert all(v.accepted for v in check_file(file)), (file, check_file(file))
    claims = [v.claim for v in check_file(folder / "inversion.certificate.json")]
    assert claims.count("explained") == int(found.verdict.explained.sum()) >= 2


def test_the_larger_generator_its_matrix_and_its_mutations(tmp_path: Path):
    G = ci.load_generator("mnist_gan").with_output("identity")
    z = G.sample_latent(1, torch.Generator().manual_seed(1))
    A = cases.normal(100, 784, draw=cases.seeded(2))
    found = ci.invert(G, G(z) @ A.T, measurement=A, on_fail="ignore")
    file = found.export(tmp_path, G, G(z) @ A.T, A) / "inversion.certificate.json"
    assert [(v.claim, v.accepted) for v in check_file(file)] == [("explained", True), ("determined", True)]
    content = json.loads(file.read_text())
    for key, k in (("z", 3), ("y", 7), ("A", 0)):
        values = numbers(content[key])
        values[k] += Fraction(1, 1000)
        changed = judged(tmp_path, content | {key: text(values)})
        assert not changed[0].accepted and changed[1].accepted, key


def test_a_z_that_is_not_determined_is_not_called_so(tmp_path: Path):
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 12)))
    layer = G.layers[0]
    W = layer.W.matrix().clone()
    W[:, 3] = 2 * W[:, 1]
    G = replace(G, layers=(ci.Layer(ci.Dense(W), layer.b, layer.activation), G.layers[1]))
    y = G(G.sample_latent(2, torch.Generator().manual_seed(1)))
    found = ci.invert(G, y, on_fail="ignore")
    assert not found.determined.any()
    found.verdict.determined[:] = True  # a liar
    verdicts = check_file(found.export(tmp_path, G, y) / "inversion.certificate.json")
    assert all(not v.accepted and "of 4 columns" in v.words for v in verdicts if v.claim == "determined")


# --- files and command line -----------------------------------------------------------------------


def run(*words: object) -> Any:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_the_command_line_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    G = ci.load_generator("digits_8x8")
    np.save("y.npy", G(G.sample_latent(2, torch.Generator().manual_seed(1))).numpy())
    assert run("invert", "digits_8x8", "y.npy", "-o", "out", "--certificates", "proofs", "--quiet").exit_code == 0
    done = run("check", "proofs")
    assert done.exit_code == 0 and done.output.splitlines()[0].endswith("inversion.certificate.json: 4 of 4 claims accepted")
    assert len(done.output.splitlines()) == 4
    file = Path("proofs/layer-0.certificate.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"h": text([x + 1 for x in numbers(content["h"])])}))
    done = run("check", "proofs")
    assert done.exit_code == 1 and "signal 0, optimal: (" in done.output
    done = run("check", "proofs", "--json")
    told = json.loads(done.output)["files"]
    assert done.exit_code == 1 and [entry["accepted"] for entry in told] == [4, 0, 2, 2]
    assert [v["signal"] for v in told[1]["rejected"]] == [0, 1]
    Path("none.json").write_text("{")
    done = run("check", "proofs", "none.json")
    assert done.exit_code == 2 and "none.json: refused: expected a certificate file" in done.output
    done = run("check", "nowhere")
    assert done.exit_code == 2 and "expected a certificate file" in done.output
    assert run("check", "out").exit_code == 2


def test_noise_is_that_of_the_inversion(tmp_path: Path):
    G = ci.load_generator("digits_8x8")
    y = G(G.sample_latent(3, torch.Generator().manual_seed(1)))
    noisy = y + 0.01 * cases.normal(3, 64, draw=cases.seeded(1))
    for norm, bound in (("l2", (noisy - y).norm(dim=1)), ("linf", (noisy - y).abs().amax(1)), ("l2", 0.2)):
        found = ci.invert(G, noisy, noise=(norm, bound), on_fail="ignore")
        file = found.export(tmp_path, G, noisy) / "inversion.certificate.json"
        assert json.loads(file.read_text())["noise"] == norm
        assert all(v.accepted for v in check_file(file)) and "explained" in found.status


def test_an_export_replaces_the_one_before_it(tmp_path: Path):
    G = ci.load_generator("digits_8x8")
    y = G(G.sample_latent(1, torch.Generator().manual_seed(1)))
    layered, plain = ci.invert(G, y), ci.invert(G, y, "levenberg_marquardt", on_fail="ignore")
    layered.export(tmp_path, G, y)
    (tmp_path / "mine.txt").write_text("kept")
    plain.export(tmp_path, G, y)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inversion.certificate.json", "mine.txt"]


def test_what_cannot_be_exported_says_why(tmp_path: Path):
    G = ci.load_generator("digits_8x8")
    y = G(G.sample_latent(2, torch.Generator().manual_seed(1)))
    found = ci.invert(G, y)
    with pytest.raises(ValueError, match="export first, then save"):
        ci.Inversion.load(found.save(tmp_path / "saved")).export(tmp_path, G, y)
    with pytest.raises(ValueError, match="expected the 2 signals of the inversion, got 1"):
        found.export(tmp_path, G, y[:1])
    with pytest.raises(ValueError, match="expected a layer problem that"):
        ci.invert(G, y, "layered_basis_pursuit", on_fail="ignore").export(tmp_path, G, y)
    with pytest.raises(ValueError, match="expected a layer problem in its own units"):
        own = ci.NonnegativeLasso(replace(found.layers[0].problem.rows), 0.1, torch.ones(found.layers[0].problem.n))
        replace(found.layers[0].solution, problem=own).export(tmp_path / "scaled.json")
    with pytest.raises(OSError):
        found.layers[0].solution.export(tmp_path / "nowhere" / "file.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        found.export(tmp_path / "file", G, y)


# --- docs -----------------------------------------------------------------------------------------

DOCS = Path(__file__).resolve().parents[1] / "docs" / "checking.md"


def test_python_blocks_of_the_docs_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "checking"}
    blocks = re.findall(r"^```python\n(.*?)^```\s*$", DOCS.read_text(), re.M | re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), namespace)


def test_the_checker_knows_the_layer_problems_that_it_names():
    ours = {"ActivatedLasso", *(cases.kind_of(name).__name__ for name in DECIDED)}
    assert ours == set(DECIDES) <= set(cases.public()) and len(ours) >= 15, "a problem that shipped was decided"
    forms = {"squared": "quadratic"} | dict.fromkeys(("largest", "sum", "rooms"), "excess")
    for kind, (form, nonnegative, name) in DECIDES.items():
        problem = getattr(ci, kind)
        assert problem.form == forms.get(form, form) and problem.nonnegative == nonnegative
        assert not name or name in problem.__dataclass_fields__


def test_the_docs_name_every_key(tmp_path: Path):
    notes = DOCS.read_text()
    contents = [small_inversion(), *(file_of(kind) for kind in DECIDES)]
    for key in {key for content in contents for key in (*content, *content.get("layers", [{}])[0])}:
        assert f"`{key}`" in notes, f"docs/checking.md does not name {key}"
    for number in (check.MOST_BYTES // 10**6,):
        assert str(number) in notes
