"""A solver of one's own, one class from outside the package by public names alone, goes wherever a built-in one goes."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.command.doctor import run_doctor
from cvxinv.solvers.known import TORCH_SOLVERS

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ProjectedGradient(ci.AbstractSolver):
    """h <- prox_g(h - W'p / c, c) with p = weight (W h + b - y) on the on rows, c = |W|^2 / step; squared misfits.

    step: in units of the longest that is sure to lower the objective, between 0 and 2.
    """

    step: float = 1.0

    name = "projected_gradient"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"
    kept = ("h",)

    def __post_init__(self) -> None:
        if not 0 < self.step < 2:
            raise ValueError(f"step must be between 0 and 2, got {self.step}; leave it out for the default")

    @classmethod
    def refuses(cls, problem: ci.AbstractLayerProblem) -> str | None:
        off = "it serves problems without off rows" if bool(problem.rows.off.any()) else None
        return super().refuses(problem) or off

    def begin(self, problem: ci.AbstractLayerProblem) -> None:
        rows = problem.rows
        self.c = float(rows.fit.amax()) * rows.W.norm() ** 2 / self.step
        self.h = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)

    def advance(self, steps: int) -> None:
        c = torch.full_like(self.h[:, :1], self.c)
        for _ in range(steps):
            slope = self.problem.rows.W.adjoint(self.point().p)
            self.h = self.problem.prox_unknown(self.h - slope / self.c, c)

    def point(self) -> ci.Point:
        rows = self.problem.rows
        return ci.Point(self.h, rows.fit * rows.residual(self.h))


def problem(N: int = 5, kind: type = ci.NonnegativeLasso, dtype: torch.dtype = torch.float64) -> ci.AbstractLayerProblem:
    draw = torch.Generator().manual_seed(3)
    W = torch.randn(30, 12, generator=draw, dtype=torch.float64)
    h = torch.randn(N, 12, generator=draw, dtype=torch.float64).clamp(min=0)
    y = h @ W.T + 0.01 * torch.randn(N, 30, generator=draw, dtype=torch.float64)
    on = torch.ones_like(y, dtype=torch.bool)
    rows = ci.Rows(ci.Dense(W), torch.zeros(30, dtype=torch.float64), y, on)
    return kind(rows, 0.1).to(dtype)


@pytest.mark.parametrize("polish", [True, False])
@pytest.mark.parametrize("kind", [ci.NonnegativeLasso, ci.GaussianLatent, ci.Lasso])
def test_its_points_are_certified_polished_or_not(kind: type, polish: bool):
    given = problem(kind=kind)
    solution, auto = ci.solve(given, ProjectedGradient(), polish=polish), ci.solve(given)
    assert solution.certificate.holds.all() and ci.certify(given, solution.point).holds.all()
    assert torch.allclose(solution.certificate.objective, auto.certificate.objective, rtol=2e-6)
    assert set(solution.solver) == {"projected_gradient"} and bool(solution.polished.all()) == polish
    assert [(s.method, s.why, s.solved) for s in solution.steps] == [("projected_gradient", "asked for", given.N)]
    assert solution.take(torch.tensor([3, 1])).solver == ("projected_gradient",) * 2


def test_float32_problems_are_iterated_in_float32():
    solution = ci.solve(problem(dtype=torch.float32), ProjectedGradient())
    assert solution.h.dtype == torch.float32 and solution.certificate.holds.all()


def test_its_options_reach_the_iteration_and_stay():
    slow, plain = ProjectedGradient(step=0.1), ProjectedGradient()
    given = problem()
    long, short = ci.solve(given, slow, polish=False), ci.solve(given, plain, polish=False)
    assert (long.iterations >= short.iterations).all() and (long.iterations > short.iterations).any()
    assert slow == ProjectedGradient(step=0.1) != plain and not hasattr(slow, "h")
    with pytest.raises(FrozenInstanceError):
        slow.step = 0.2
    with pytest.raises(ValueError, match="step must be between 0 and 2, got 3"):
        ProjectedGradient(step=3)


def test_what_it_cannot_serve_is_refused_by_its_own_words():
    with pytest.raises(ValueError, match="'projected_gradient' cannot serve NonnegativeBasisPursuitL2: it serves squared"):
        ci.solve(problem(kind=ci.NonnegativeBasisPursuitL2), ProjectedGradient())
    with pytest.raises(
        TypeError, match=re.escape("got the class ProjectedGradient; pass an object of it, ProjectedGradient()")
    ):
        ci.solve(problem(), ProjectedGradient)


def test_max_iter_and_on_fail_are_those_of_solve():
    solution = ci.solve(problem(), ProjectedGradient(step=1e-6), max_iter=3, polish=False, on_fail="ignore")
    assert not solution.certificate.holds.any() and (solution.iterations == 3).all()
    with pytest.warns(ci.ConvergenceWarning):
        ci.solve(problem(), ProjectedGradient(step=1e-6), max_iter=3, polish=False)


def test_one_signal_that_breaks_costs_itself():
    @dataclass(frozen=True)
    class Breaks(ProjectedGradient):
        def point(self) -> ci.Point:
            h, p = super().point()
            broken = torch.zeros(len(h), dtype=torch.bool)
            broken[0] = len(h) == 5
            return ci.Point(torch.where(broken[:, None], torch.nan, h), p)

    solution = ci.solve(problem(), Breaks(), on_fail="ignore", max_iter=400)
    assert solution.certificate.holds[1:].all() and set(solution.solver) == {"Breaks"}


def test_a_class_without_a_decorator_or_a_name_will_do():
    class Plain(ProjectedGradient):
        kept = ("h",)

        def next_check(self, iteration: int) -> int:
            return iteration + 10

    solution = ci.solve(problem(), Plain())
    assert solution.certificate.holds.all() and set(solution.solver) == {"Plain"}


def leaky_generator() -> ci.Generator:
    """4 -> 12 -> 30 behind a LeakyReLU, so that every row is on in both layers."""
    draw = torch.Generator().manual_seed(1)
    W1, W2 = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((12, 4), (30, 12)))
    none = [torch.zeros(m, dtype=torch.float64) for m in (12, 30)]
    hidden, image = ci.Layer(ci.Dense(W1), none[0], ci.LeakyReLU(0.2)), ci.Layer(ci.Dense(W2), none[1], ci.Identity())
    return ci.Generator((hidden, image), signal_shape=(30,), description={"name": "leaky"})


def test_it_solves_the_layers_of_an_inversion_which_is_kept_in_a_file(tmp_path: Path):
    G = leaky_generator()
    z = G.sample_latent(3, torch.Generator().manual_seed(0))
    inversion = ci.invert(G, G(z), "latent_pursuit", solver=ProjectedGradient(step=1.5), truth=z)
    assert (inversion.status == "explained").all() and float(inversion.snr["z"].min()) > 100
    assert [set(report.solution.solver) for report in inversion.layers] == [{"projected_gradient"}] * 2
    assert all(report.solution.certificate.holds.all() for report in inversion.layers)
    inversion.save(tmp_path / "result")
    again = ci.Inversion.load(tmp_path / "result")
    assert again.settings == inversion.settings and "ProjectedGradient(step=1.5)" in str(again.settings)
    for kept, report in zip(again.layers, inversion.layers, strict=True):
        assert torch.equal(kept.solution.h, report.solution.h) and kept.solution.solver == report.solution.solver
        assert torch.equal(kept.solution.certificate.objective, report.solution.certificate.objective)
    ci.write_report(inversion, tmp_path / "report.html", generator=G)
    assert "projected_gradient" in (tmp_path / "report.html").read_text()


def test_nothing_that_is_known_by_name_changes():
    assert "projected_gradient" not in ci.SOLVERS and "projected_gradient" not in TORCH_SOLVERS
    assert all(trial.solver in ci.SOLVERS for trial in run_doctor(progress=False).trials)


# --- built-in solvers as objects ------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TORCH_SOLVERS))
def test_a_name_and_an_object_are_the_same(name: str):
    kind = TORCH_SOLVERS[name]
    candidates = [problem(kind=k) for k in (ci.NonnegativeLasso, ci.NonnegativeBasisPursuitL2)]
    candidates.append(ci.NonnegativeLinfFit(candidates[0].rows))
    candidates.append(ci.multi_layer_pursuit((candidates[0].rows.W,), candidates[0].rows.y, (0.1,)))
    given = next(p for p in candidates if kind.refuses(p) is None)
    by_name, by_object = (ci.solve(given, solver, on_fail="ignore", max_iter=300) for solver in (name, kind()))
    assert torch.equal(by_name.h, by_object.h) and torch.equal(by_name.p, by_object.p)
    assert by_name.solver == by_object.solver and torch.equal(by_name.iterations, by_object.iterations)
    assert f'"{name}"' in ci.solve.__doc__


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ci.GraphADMM(relax=2.0), ValueError, "relax must be between 1 and 2, got 2.0"),
        (lambda: ci.GraphADMM(relax="much"), TypeError, "expected relax as a number, got str"),
        (lambda: ci.LinearizedADMM(rho=0), ValueError, "rho must be > 0 and finite, got 0"),
        (lambda: ci.LinearizedADMM(rho=float("nan")), ValueError, "rho must be > 0 and finite, got nan"),
    ],
)
def test_options_are_checked_where_they_are_given(make, error: type[Exception], words: str):
    with pytest.raises(error, match=re.escape(words)):
        make()


def test_options_of_built_in_solvers_change_the_iteration():
    given = problem()
    plain, other = (ci.solve(given, s, polish=False, on_fail="ignore") for s in ("graph_admm", ci.GraphADMM(relax=1.1)))
    assert plain.certificate.holds.all() and other.certificate.holds.all() and not torch.equal(plain.h, other.h)


def test_a_working_copy_keeps_only_the_signals_it_is_told():
    given = problem().normalised().problem
    work, index = ProjectedGradient().start(given), torch.tensor([True, False, True, False, False])
    work.advance(3)
    before: Tensor = work.h
    work.keep(index)
    assert torch.equal(work.h, before[index]) and work.problem.N == 2 and given.N == 5


# --- the errand of CONTRIBUTING -------------------------------------------------------------------

HEADER = '''"""Projected gradient."""

from dataclasses import dataclass

import torch

from ...layers.core.problem import AbstractLayerProblem, Point
from ..solver import AbstractSolver


'''
ASKED = """
import sys
import torch
import cvxinv as ci
assert ci.SOLVERS.count("projected_gradient") == 1 and '"projected_gradient"' in ci.solve.__doc__
rows = ci.Rows(ci.Dense(torch.eye(2).double()), torch.zeros(2).double(), torch.ones(1, 2).double(), torch.ones(1, 2) > 0)
solution = ci.solve(ci.NonnegativeLasso(rows, 0.5), "projected_gradient")
assert solution.certificate.holds.all() and solution.h.tolist() == [[0.5, 0.5]] and ci.__file__.startswith(sys.argv[1])
try:
    ci.solve(ci.NonnegativeLasso(rows, 0.5), "projected_gradiant")
except ValueError as error:
    assert "did you mean 'projected_gradient'?" in str(error)
"""


def test_the_errand_for_a_solver_is_its_file_and_a_line(tmp_path: Path):
    errand = re.search(r"\*\*Add a solver\*\*\n(.*?)\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[1]
    steps = re.findall(r"^\d\. ", errand, re.M)
    assert len(steps) == 2 and "`cvxinv/solvers/<room>/<name>.py`" in errand and "`cvxinv/solvers/known.py`" in errand
    package = tmp_path / "cvxinv"
    shutil.copytree(ROOT / "cvxinv", package, ignore=shutil.ignore_patterns("__pycache__"))
    source = re.sub(r"\bci\.(AbstractSolver|AbstractLayerProblem|Point)\b", r"\1", inspect.getsource(ProjectedGradient))
    (package / "solvers" / "first_order" / "projected_gradient.py").write_text(HEADER + source)
    known = package / "solvers" / "known.py"
    before = "from .first_order.pdhg import PDHG as PDHG\n"
    line = "from .first_order.projected_gradient import ProjectedGradient as ProjectedGradient\n"
    assert known.read_text().count(before) == 1
    known.write_text(known.read_text().replace(before, before + line))
    place = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(tmp_path)], capture_output=True, text=True, env=place, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
