"""A layer problem of one's own, one class from outside the package by public names alone, goes wherever any other goes."""

import inspect
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import cases
import checks
import numpy as np
import pytest
import torch
from cases import Case, Spec
from torch import Tensor

import cvxinv as ci


@dataclass(frozen=True, eq=False, repr=False)
class ElasticNet(ci.AbstractLayerProblem):
    """Nonnegative elastic net.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam 1'h + gamma/2 |h|^2                          (P)
    subject to  h >= 0,   (W h + b)_off <= 0

    maximise    p_on'(b - y) + p_off'b - 1/2 sum_on p_i^2 / w_i - |(W'p + lam)_-|^2 / (2 gamma)     (D)
    subject to  p_off >= 0,   p = 0 on rows that were not seen

    Source: Zou, Hastie, "Regularization and variable selection via the elastic net" (2005), eq. (3); added: h >= 0, rows.
    """

    rows: ci.Rows
    lam: float | Tensor = 0.0
    gamma: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 1), "gamma": (0, 2)}
    nonnegative: ClassVar[bool] = True

    def statement(self, sample: ci.Sample, i: int, gram: bool = False) -> ci.Statement:
        import cvxpy as cp

        s, lam, gamma = sample, float(self.number("lam")[i]), float(self.number("gamma")[i])
        h, d = cp.Variable(s.n), [1.0] * s.n if self.sizes is None else self.sizes.numpy()
        misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        net = lam * cp.sum(cp.multiply(d, h)) + gamma / 2 * cp.sum_squares(cp.multiply(d, h))
        off = s.W_off @ h + s.b_off <= 0 if len(s.b_off) else None
        constraints = [h >= 0] + ([off] if off is not None else [])
        bounds = (ci.Bound(off, s.off, 1),) if off is not None else ()
        return ci.Statement(cp.Problem(cp.Minimize(misfit + net), constraints), h, bounds)

    @cached_property
    def misfit(self) -> ci.Squares:
        return ci.Squares(self.rows)

    @cached_property
    def penalty(self) -> ci.Penalty:
        return ci.Penalty.of(self, lam=self.lam, gamma=self.gamma)


# --- the checks of every layer problem ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NetCase(Case):
    """A case of `nonnegative_lasso` with a gamma besides its penalty."""

    gamma: float | Tensor = 0.0

    @cached_property
    def problem(self):
        return ElasticNet(self.rows, self.penalty, self.gamma)

    def to(self, dtype: torch.dtype) -> "NetCase":
        gamma = self.gamma.to(dtype) if isinstance(self.gamma, Tensor) else self.gamma
        return replace(super().to(dtype), gamma=gamma)


def net(spec: Spec, gamma: float | str) -> NetCase:
    case = cases.dense_case("nonnegative_lasso", spec)
    mixed = torch.logspace(-4, 0, spec.N, dtype=torch.float64) * (torch.arange(spec.N) % 2 == 0)
    parts = (case.name, f"net-{spec.label}-{gamma}", case.rows, case.penalty, case.feasible)
    return NetCase(*parts, gamma=mixed if gamma == "mixed" else gamma)


LABELS = "tall tall-no-penalty tall-mixed-penalty tall-masked wide wide-no-penalty rank-deficient leaky".split()
CASES = [net(spec, gamma) for spec in cases.DENSE if spec.label in LABELS for gamma in (0.05, "mixed")]
PARAMS = [pytest.param(case, id=repr(case)) for case in CASES]
SOLVERS = ("auto", "CLARABEL", "graph_admm", "interior_point", "pdhg")


@pytest.mark.parametrize("case", PARAMS)
def test_statement_bound_reference_and_fixed_points(case):
    checks.check_statement(case)
    checks.check_reference(case)
    checks.check_bound(case)
    checks.check_slack(case)
    checks.check_fixed_points(case)


@pytest.mark.parametrize("case", PARAMS)
def test_auto_certifies(case):
    checks.check_fast(case, "auto")
    checks.check_fast(case.to(torch.float32), "auto", must=False)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_kind_of_solver_certifies(solver):
    """And what auto calls optimal is optimal: CLARABEL's objective agrees within both certificates."""
    for case in (net(cases.DENSE[0], 0.05), net(cases.DENSE[3], 0.5)):
        if solver == "CLARABEL":
            checks.check_reference(case)
        else:
            checks.check_fast(case, solver, must=True)


def test_hand_worked_answers():
    """W = I, lam = 1/2, gamma = 1: (1 + gamma) h = y - lam where that is above 0: y = (2.5, 0.25) gives h = (1, 0).

    An off row h1 <= 1/2 besides binds: h = (1/2, 0), and its multiplier is 2.5 - 1/2 - 2 h1 = 1.
    """
    W, y = torch.eye(2, dtype=torch.float64), torch.tensor([[2.5, 0.25]], dtype=torch.float64)
    free = ElasticNet(ci.Rows(ci.Dense(W), 0 * y[0], y, y > 0), 0.5, 1.0)
    W = torch.cat([W, torch.tensor([[1.0, 0.0]], dtype=torch.float64)])
    b, y = torch.tensor([0.0, 0.0, -0.5], dtype=torch.float64), torch.tensor([[2.5, 0.25, 0.0]], dtype=torch.float64)
    capped = ElasticNet(ci.Rows(ci.Dense(W), b, y, y > 0), 0.5, 1.0)
    # 1/2 (1.5^2 + 0.25^2) + 1/2 + 1/2, and 1/2 (2^2 + 0.25^2) + 1/4 + 1/8
    for problem, h, value in ((free, [1.0, 0.0], 2.15625), (capped, [0.5, 0.0], 2.40625)):
        for solver in SOLVERS:
            solution = ci.solve(problem, solver)
            assert solution.h[0].tolist() == pytest.approx(h, abs=1e-6)
            assert float(solution.certificate.objective) == pytest.approx(value, rel=2e-6)
            assert float(solution.certificate.bound) == pytest.approx(value, rel=2e-6)
    assert float(ci.solve(capped).p[0, 2]) == pytest.approx(1.0, abs=1e-6)
    assert type(capped.take(torch.tensor([0]))) is ElasticNet and capped.normalised().problem.number("gamma") > 0


# --- the whole road -------------------------------------------------------------------------------


def test_an_inversion_with_it_is_saved_loaded_and_reported(tmp_path):
    draw = cases.seeded(3)
    layers = [
        ci.Layer(ci.Dense(cases.normal(12, 3, draw=draw)), 0.2 * cases.normal(12, draw=draw), ci.ReLU()),
        ci.Layer(ci.Dense(cases.normal(30, 12, draw=draw) / 3), 0.1 * cases.normal(30, draw=draw), ci.Identity()),
    ]
    G = ci.Generator(tuple(layers), (30,), {})
    x = G(cases.normal(4, 3, draw=draw))
    found = ci.invert(
        G, x, "latent_pursuit", layer_problems={1: lambda rows: ElasticNet(rows, 1e-9, 1e-9)}, on_fail="ignore"
    )
    assert (found.layers[0].solution.status == "optimal").all() and found.layers[0].kind == "ElasticNet"
    assert ((G(found.z) - x).norm(dim=1) <= 1e-4 * x.norm(dim=1)).all()
    found.save(tmp_path / "found")
    again = ci.Inversion.load(tmp_path / "found")
    assert again.layers[0].kind == "ElasticNet" and (again.status == found.status).all()
    page = ci.write_report(found, tmp_path / "page.html", generator=G, y=x)
    assert "ElasticNet" in page.read_text()


# --- what it takes --------------------------------------------------------------------------------


def test_the_class_is_short_and_uses_public_names_alone():
    source = inspect.getsource(ElasticNet)
    assert len(source.splitlines()) <= 60
    assert not re.search(r"\b(self|ci|s)\._", source)
    assert set(re.findall(r"\bci\.(\w+)", source)) <= set(ci.__all__)


def test_what_a_class_forgets_to_say_is_told_by_name():
    rows = CASES[0].rows

    @dataclass(frozen=True, eq=False, repr=False)
    class Unsaid(ElasticNet):
        numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 1)}

    with pytest.raises(TypeError, match=r"expected every number of Unsaid in its `numbers`, .* got gamma beside them"):
        Unsaid(rows, 0.1, 0.1)

    @dataclass(frozen=True, eq=False, repr=False)
    class Misnamed(ElasticNet):
        form: ClassVar[str] = "ball"

    with pytest.raises(TypeError, match="expected form = 'quadratic' in Misnamed, whose misfit is Squares, got 'ball'"):
        Misnamed(rows, 0.1, 0.1)

    @dataclass(frozen=True, eq=False, repr=False)
    class AnySign(ElasticNet):
        nonnegative: ClassVar[bool] = False

    with pytest.raises(TypeError, match="expected absolute = True in AnySign"):
        AnySign(rows, 0.1, 0.1)


# --- h of any sign --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class SignedNet(ElasticNet):
    """The elastic net itself: (P) and (D) with |h| for h, and |W'p| - lam for what W'p + lam lacks."""

    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True

    def statement(self, sample: ci.Sample, i: int, gram: bool = False) -> ci.Statement:
        import cvxpy as cp

        s, lam, gamma = sample, float(self.number("lam")[i]), float(self.number("gamma")[i])
        h, d = cp.Variable(s.n), np.ones(s.n) if self.sizes is None else self.sizes.numpy()
        misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        net = lam * cp.norm1(cp.multiply(d, h)) + gamma / 2 * cp.sum_squares(cp.multiply(d, h))
        off = s.W_off @ h + s.b_off <= 0
        return ci.Statement(cp.Problem(cp.Minimize(misfit + net), [off]), h, (ci.Bound(off, s.off, 1),))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(40, 12), (20, 30)])
def test_solvers_that_want_h_nonnegative_get_the_halves_of_a_problem_of_any_sign(shape: tuple[int, int], gamma: float):
    draw = torch.Generator().manual_seed(shape[0])
    W = torch.randn(shape, generator=draw, dtype=torch.float64)
    y = torch.randn(4, shape[0], generator=draw, dtype=torch.float64)
    problem = SignedNet(ci.Rows(ci.Dense(W), torch.zeros(shape[0], dtype=torch.float64), y, y > 0), 1.0, gamma)
    reference = ci.solve(problem, "CLARABEL")
    assert (reference.h < 0).any() and (reference.status == "optimal").all()
    for solver in ("auto", "graph_admm", "interior_point", "pdhg"):
        solution = ci.solve(problem, solver)
        assert (solution.status == "optimal").all(), solver
        torch.testing.assert_close(solution.h, reference.h, rtol=0, atol=1e-3)
