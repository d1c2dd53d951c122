"""The checker of certificate files: it accepts what is true and proved, and nothing else, whatever it is given."""

import ast
import base64
import json
import random
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv import check, cli
from cvxinv.check import RefusedError, check_file

INF = "inf"  # a list may hold hexadecimal strings, and what float.fromhex takes


def file_of(kind: str, **changes: Any) -> dict[str, Any]:
    """One unknown, one on row W = 1, y = 2; every hand answer below starts from here."""
    content = {"format": "cvxinv certificate", "version": 1, "kind": kind, "shape": [1, 1, 1], "tol": [1e-6]}
    content |= {"status": ["optimal"], "scope": [None], "rows": ["+"], "W": [1], "b": [0], "h": [1], "p": [-1]}
    name = check.KINDS[kind][2]
    content |= {"y": [2], "weight": [1], name: [1]} if name else {"lo": [2], "hi": [5]}
    return content | changes


def judged(tmp_path: Path, content: Any) -> list[check.Verdict]:
    path = tmp_path / "one.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return check_file(path)


def verdict(tmp_path: Path, content: dict[str, Any]) -> check.Verdict:
    (one,) = judged(tmp_path, content)
    return one


# --- answers by hand ------------------------------------------------------------------------------

CAPPED = {"shape": [1, 2, 1], "rows": ["+-"], "W": [1, 1], "b": [0, -1], "y": [2, 0], "weight": [1, 1]}  # h <= 1
DEAD = {"shape": [1, 2, 1], "rows": ["+-"], "W": [1, 0], "b": [0, 1], "y": [2, 0], "weight": [1, 1]}  # 1 <= 0
# z1 + 2^-30 z2 <= 1 caps z1 at 1 for short z; z = (2, -2^30) meets everything
LEVER = CAPPED | {"shape": [1, 2, 2], "W": [1, 0, 1, 2**-30], "h": [1, 0], "gamma": [0], "p": [-1, 1]}

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
    "p a little off, repaired by sigma": file_of("GaussianLatent", **CAPPED, gamma=[0], p=[-1, 1.0 + 2**-40]),
    "within its scope": file_of("GaussianLatent", **LEVER, scope=[100.0]),
    "unseen row": file_of("NonnegativeLasso", **CAPPED | {"rows": ["+."]}, p=[-1, 7]),
    "a lasso has no off rows": file_of("Lasso", **CAPPED | {"b": [0, 9]}, p=[-1, 7]),
    "weight": file_of("NonnegativeLasso", weight=[2], h=[1.5]),
    "length of the misfit": file_of("BasisPursuitL2", y=[3], h=[2], p=[-5]),
    "length of the misfit, h >= 0": file_of("NonnegativeBasisPursuitL2", y=[3], h=[2], p=[-5]),
    "weight of the length": file_of("BasisPursuitL2", y=[3], h=[2.5], weight=[4], p=[-5]),
    "each row bounded": file_of("BasisPursuitLinf", y=[-3], h=[-2], p=[5]),
    "each row bounded, h >= 0": file_of("NonnegativeBasisPursuitLinf", y=[3], h=[2], p=[-5]),
    "an off row bounded": file_of("NonnegativeBasisPursuitLinf", **CAPPED | {"b": [0, -1], "W": [1, 1]}, p=[-1, 0]),
    "interval": file_of("IntervalBasisPursuit", h=[2]),
    "open interval": file_of("IntervalBasisPursuit", h=[2], hi=[INF]),
    "hexadecimal": file_of("IntervalBasisPursuit", h=["0x1.0p1"]),
    "0 is within": file_of("IntervalBasisPursuit", h=[0], lo=[-1], p=[0]),
    # 1.01 is 5e-5 above the least objective 1.5
    "inaccurate": file_of("NonnegativeLasso", h=[1.01], status=["optimal_inaccurate"]),
    "a row that nothing moves": file_of("NonnegativeLasso", **DEAD, p=[0, 1], status=["infeasible"]),
    "the same for z": file_of("GaussianLatent", **DEAD, p=[9, 1], status=["infeasible"]),
    "the same for lengths": file_of("BasisPursuitL2", **DEAD, p=[0, 1], status=["infeasible"]),
    "the same row by row": file_of("BasisPursuitLinf", **DEAD | {"b": [0, 3]}, p=[0, 1], status=["infeasible"]),
    "h >= 0 cannot help": file_of("NonnegativeLasso", **DEAD | {"W": [1, 2]}, p=[0, 1], status=["infeasible"]),
    "too far to help": file_of("GaussianLatent", **DEAD | {"W": [1, 2**-20]}, p=[0, 1], status=["infeasible"], scope=[1e5]),
    "an empty interval": file_of("IntervalBasisPursuit", lo=[3], hi=[2], p=[0], status=["infeasible"]),
    "nothing reaches inf": file_of("IntervalBasisPursuit", lo=[INF], hi=[INF], p=[0], status=["infeasible"]),
    "no claim": file_of("NonnegativeLasso", h=[77], status=["user_limit"]),
    "no numbers, no claim": file_of("NonnegativeLasso", h=["nan"], status=["numerical_error"]),
}
FALSE = {
    "too long": (file_of("NonnegativeLasso", h=[1.01]), "(c) objective 1.5"),
    "not even inaccurate": (file_of("NonnegativeLasso", h=[1.1], status=["optimal_inaccurate"]), "(c)"),
    "negative": (file_of("NonnegativeLasso", lam=[3], h=[-0.5], p=[-2]), "(a) entry 0 of h is -0.5"),
    "no proof": (file_of("NonnegativeLasso", p=[0]), "(c)"),
    "off row broken": (file_of("NonnegativeLasso", **CAPPED, h=[1.5], lam=[0], p=[-0.5, 0.5]), "(a) row 1: W h + b is 0.5"),
    "off row broken by a little that is worth much": (
        file_of("NonnegativeLasso", **CAPPED | {"W": [1, 2**-30], "b": [0, 0]}, h=[2], lam=[0], p=[0, 0]), "(a) row 1"),
    "p of a sign that proves nothing": (file_of("GaussianLatent", **CAPPED, gamma=[0], h=[0], p=[-2, -2]), "(c)"),
    "length of the misfit": (file_of("BasisPursuitL2", y=[3], h=[1.9], p=[-5]), "(a) the misfit is 0.1 above eps"),
    "not the shortest": (file_of("BasisPursuitL2", y=[3], h=[2.1], p=[-5]), "(c)"),
    "each row bounded": (file_of("BasisPursuitLinf", y=[-3], h=[-1.9], p=[5]), "(a) row 0"),
    "interval": (file_of("IntervalBasisPursuit", h=[1.5]), "(a) row 0: W h + b is 0.5 beyond its limit"),
    "an end beyond all numbers": (file_of("IntervalBasisPursuit", lo=[INF], hi=[INF]), "(a) row 0"),
    "longer than its scope": (file_of("NonnegativeLasso", scope=[0.5]), "h is 1 long, the scope 0.5"),
    "not in so wide a scope": (file_of("GaussianLatent", **LEVER, scope=[1e9]), "(c)"),
    "not everywhere": (file_of("GaussianLatent", **LEVER), "(c)"),
    "everything is feasible": (file_of("NonnegativeLasso", status=["infeasible"]), "p is worth 0"),
    "h can help": (file_of("NonnegativeLasso", **DEAD | {"W": [1, -1]}, p=[0, 1], status=["infeasible"]), "no scope is stated"),
    "near enough to help": (
        file_of("GaussianLatent", **DEAD | {"W": [1, 2**-20]}, p=[0, 1], status=["infeasible"], scope=[1e7]), "loses"),
    "within the slack": (file_of("GaussianLatent", **DEAD | {"b": [0, 1e-7]}, p=[0, 1], status=["infeasible"]), "p is worth -"),
    "not convex": (file_of("ActivatedLasso", status=["stationary"]), "'stationary' of ActivatedLasso is a claim"),
    "not convex, optimal": (file_of("ActivatedLasso"), "not decided here"),
    "a word of its own": (file_of("NonnegativeLasso", status=["perfect"]), "'perfect'"),
    "no number": (file_of("NonnegativeLasso", h=["nan"]), "h or p is not finite"),
    "no number in p": (file_of("NonnegativeLasso", p=["inf"]), "h or p is not finite"),
    "a weight of nothing": (file_of("NonnegativeLasso", weight=[0]), "weight <= 0"),
    "a weight below nothing": (file_of("NonnegativeLasso", weight=[-1]), "weight <= 0"),
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


@pytest.mark.parametrize("kind", [k for k, (form, _, name) in check.KINDS.items() if name and form != "curved" and k != "Lasso"])
@pytest.mark.parametrize("far", [100.0, 1e9])
def test_a_multiplier_without_end_proves_nothing(kind: str, far: float, tmp_path: Path):
    """A dead off row, broken by 1e-7, and p = 1e300 there: the bound of p has no end, and h may be anything."""
    content = file_of(kind, **DEAD | {"y": [0, 0], "b": [0, 1e-7]}, h=[far], p=[0, 1e300])
    assert not verdict(tmp_path, content).accepted


def test_every_worked_instance_is_decided_as_on_paper(tmp_path: Path):
    for case, instance in cases.worked():
        solution = ci.solve(case.problem, on_fail="ignore")
        if instance.answer is None:
            solution = replace(solution, p=torch.as_tensor(instance.ray)[None])
            solution.certificate.status[:] = "infeasible"
        else:
            solution = replace(solution, h=torch.as_tensor(instance.answer)[None])
        (found,) = check_file(solution.export(tmp_path / "worked.json"))
        assert found.accepted or instance.name == "gamma0_singular_misfit", (case, found)


# --- solved ---------------------------------------------------------------------------------------

CHOSEN = {"tall-mixed-penalty", "leaky", "wide", "tall-masked", "tall-masked-no-penalty", "tall-mixed", "masked", "wide-equality"}


def drawn(name: str) -> list[cases.Case]:
    specs = [replace(spec, N=3) for spec in cases.dense_specs(name) if spec.label in CHOSEN]
    return [*(cases.dense_case(name, spec) for spec in specs), *cases.hopeless_cases(name)]


@pytest.mark.parametrize("name", cases.NAMES)
def test_what_solvers_claim_is_accepted(name: str, tmp_path: Path):
    claims = 0
    for case in drawn(name):
        solution = ci.solve(case.problem, on_fail="ignore")
        for found in check_file(solution.export(tmp_path / "solved.json")):
            assert found.accepted, (case, found)
            claims += found.words != "claims nothing"
    assert claims >= 9


@pytest.mark.parametrize("name", cases.NAMES)
def test_float32_points_are_exported_as_they_are_judged(name: str, tmp_path: Path):
    for case in drawn(name):
        if "equality" not in case.label and "no-penalty" not in case.label:  # a rounded h misses an equation by 1e-7
            solution = ci.solve(case.to(torch.float32).problem, on_fail="ignore")
            assert solution.h.dtype == torch.float32
            for found in check_file(solution.export(tmp_path / "single.json")):
                assert found.accepted, (case, found)


def test_a_part_of_a_solution_is_exported_with_its_part_of_the_problem(tmp_path: Path):
    solution = ci.solve(cases.dense_case("nonnegative_lasso", cases.DENSE[3]).problem, on_fail="ignore")
    part = solution.take(torch.tensor([4, 1]))
    assert part.problem.N == 2 and len(check_file(part.export(tmp_path / "part.json"))) == 2
    assert all(v.accepted for v in check_file(tmp_path / "part.json"))
    assert len(solution.take(slice(0, 0))) == 0


# --- mutations ------------------------------------------------------------------------------------


def numbers(text: str) -> list[Fraction]:
    raw = base64.b64decode(text)
    return [Fraction(x) for x in struct.unpack(f"<{len(raw) // 8}d", raw)]


def text(values: list[Fraction]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}d", *map(float, values))).decode()


def separable(seed: int) -> ci.Solution:
    """Two signals of three unknowns, one on row and one off row each: every unknown is a problem of its own."""
    draw = cases.seeded(seed)
    a = 0.5 + torch.rand(3, generator=draw, dtype=torch.float64)
    W = torch.cat([torch.diag(a), torch.eye(3, dtype=torch.float64)])
    y = 2 * cases.normal(2, 6, draw=draw)
    b = torch.cat([torch.zeros(3), -torch.rand(3, generator=draw)]).double()
    on = torch.tensor([[True] * 3 + [False] * 3] * 2)
    rows = ci.Rows(ci.Dense(W), b, y, on, weight=0.5 + torch.rand(2, 6, generator=draw, dtype=torch.float64))
    return ci.solve(ci.NonnegativeLasso(rows, 0.1))


def is_true(content: dict[str, Any], i: int) -> bool:
    """Whether signal i's claim on a separable problem holds, from the optimum of each unknown by itself."""
    if content["status"][i] in ("user_limit", "numerical_error"):
        return True
    if content["status"][i] != "optimal":
        return False  # h = 0 is feasible: nothing is infeasible
    W, b, y, w, h = (numbers(content[key]) for key in ("W", "b", "y", "weight", "h"))
    y, w, h = y[6 * i : 6 * i + 6], w[6 * i : 6 * i + 6], h[3 * i : 3 * i + 3]
    lam, tol, f, best = numbers(content["lam"])[i], Fraction(content["tol"][0]), Fraction(0), Fraction(0)
    for j in range(3):
        a, cap = W[3 * j + j], -b[3 + j]
        if content["rows"][i][j] != "+" or content["rows"][i][3 + j] != "-":
            w[j], cap = (w[j] if content["rows"][i][j] == "+" else 0), cap if content["rows"][i][3 + j] == "-" else 10**9
        top = max(Fraction(0), min(cap, (w[j] * a * y[j] - lam) / (w[j] * a * a) if w[j] else Fraction(0)))
        best += w[j] * (a * top - y[j]) ** 2 / 2 + lam * top
        f += w[j] * (a * h[j] - y[j]) ** 2 / 2 + lam * h[j]
        if h[j] < -2 * tol or h[j] > cap + 20 * tol:
            return False
    return f - best <= tol * f * 2


def other(value: Fraction, draw: random.Random) -> Fraction:
    return value * Fraction(draw.choice([0.9, 1.0 + 1e-4, 1.3, -1.0])) + Fraction(draw.choice([0.0, 0.01]))


def mutate(content: dict[str, Any], what: str, draw: random.Random) -> dict[str, Any]:
    content = json.loads(json.dumps(content))
    if what in ("h", "p", "y", "W", "weight", "lam"):
        values = numbers(content[what])
        k = draw.choice([0, 4, 8]) if what == "W" else draw.randrange(len(values))
        values[k] = abs(other(values[k], draw)) if what in ("weight", "lam", "W") else other(values[k], draw)
        return content | {what: text(values)}
    if what == "rows":
        row, k = content["rows"][0], draw.randrange(6)
        return content | {"rows": [row[:k] + draw.choice("+-." if k < 3 else "-.") + row[k + 1 :], content["rows"][1]]}
    if what == "status":
        return content | {"status": [draw.choice(["infeasible", "optimal_inaccurate", "stationary"]), "optimal"]}
    if what == "tol":
        return content | {"tol": [draw.choice([1e-3, 1e-9, 1e-13, 1e-30])]}
    return content | {"scope": [draw.choice([0.0, 1e-3, 1e3]), None]}


@pytest.mark.parametrize("what", ["h", "p", "y", "W", "rows", "status", "tol", "scope", "weight", "lam"])
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
                known = changed["status"][i] not in ("optimal_inaccurate", "stationary") and changed["tol"][0] < 1e-4
                assert not (known and found.accepted and not is_true(changed, i)), (what, seed, found)
    assert rejected >= 10, "the mutations do nothing"
