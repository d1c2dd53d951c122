"""Faults planted in a layer file, one at a time: the checks must see each of them, and nothing in the file as it is.

The source text is edited in memory. A pattern that is not found fails the test, so that the list cannot rot.
"""

import types
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cases
import checks
import gallery
import numpy as np
import pytest

import cvxinv as ci

LAYERS = Path(ci.__file__).parent / "layers"


@dataclass(frozen=True)
class Fault:
    what: str
    old: str
    new: str


MISFIT_CERTIFICATE = "return (self.rows.fit * r * r).sum(1) / 2"
MISFIT_STATEMENT = "misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ {h} + s.b_on - s.y_on)) / 2"
GRAM_LINEAR = "- (s.W_on.T @ (s.weight_on * t)) @ {h}"


def shared_faults(h):
    """Faults in what both files have: misfit, off rows, masks."""
    statement, linear = MISFIT_STATEMENT.format(h=h), GRAM_LINEAR.format(h=h)
    return (
        Fault("factor 2 in the objective", MISFIT_CERTIFICATE, MISFIT_CERTIFICATE.removesuffix(" / 2")),
        Fault("weight dropped from the objective", MISFIT_CERTIFICATE, "return (r * r).sum(1) / 2"),
        Fault("factor 2 in the statement", statement, statement.removesuffix(" / 2")),
        Fault("weight dropped from the statement", statement, statement.replace("s.weight_on**0.5", "1")),
        Fault("bias dropped from the statement", statement, statement.replace(" + s.b_on", "")),
        Fault("sign in the Gram form", linear, linear.replace("- (", "+ (", 1)),
        Fault("bias dropped from the Gram form", "t = s.y_on - s.b_on", "t = s.y_on"),
        Fault("weight dropped from the Gram form", linear, linear.replace("s.weight_on * t", "t")),
        Fault("statement without bias on off rows", f"s.W_off @ {h} + s.b_off <= 0", f"s.W_off @ {h} <= 0"),
        Fault("statement with off rows turned", f"s.W_off @ {h} + s.b_off <= 0", f"s.W_off @ {h} + s.b_off >= 0"),
        Fault("p_off not clamped", "torch.where(off, p.clamp(min=0),", "torch.where(off, p,"),
        Fault("unseen rows left in p", "torch.where(self.rows.on, p, torch.zeros_like(p)))\n", "p)\n"),
        Fault("factor 2 in prox of the rows", "(rows.fit * rows.y + rho * v) / (rows.fit + rho)",
              "(rows.fit * rows.y + rho * v) / (2 * rows.fit + rho)"),
        Fault("on rows in prox not weighted", "(rows.fit * rows.y + rho * v) / (rows.fit + rho)",
              "(rows.y + rho * v) / (1 + rho)"),
        Fault("off rows in prox turned", "torch.where(rows._off, v.clamp(max=0), v)",
              "torch.where(rows._off, v.clamp(min=0), v)"),
        Fault("unseen rows in prox clamped", "torch.where(rows._off, v.clamp(max=0), v)", "v.clamp(max=0)"),
    )  # fmt: skip


FAULTS = {
    "nonnegative_lasso": (
        *shared_faults("h"),
        Fault("sign of lam in the objective", "/ 2 + self._lam * h.sum(1)", "/ 2 - self._lam * h.sum(1)"),
        Fault("lam dropped from the statement", "cp.Minimize(misfit + lam * cp.sum(h))", "cp.Minimize(misfit)"),
        Fault("h >= 0 dropped from the statement", "constraints = [h >= 0] +", "constraints = [] +"),
        Fault("statement without off rows", "([off] if off is not None else [])", "[]"),
        Fault("h >= 0 dropped from the violation",
              "torch.maximum(self.rows.excess(h).amax(1), (-h).clamp(min=0).amax(1))", "self.rows.excess(h).amax(1)"),
        Fault("off rows dropped from the violation",
              "torch.maximum(self.rows.excess(h).amax(1), (-h).clamp(min=0).amax(1))", "(-h).clamp(min=0).amax(1)"),
        Fault("factor 2 in the dual", "return s * linear - s * s * square / 2", "return s * linear - s * s * square / 4"),
        Fault("weight dropped from the dual", "p * p / self.rows._weight", "p * p"),
        Fault("bias of off rows dropped from the dual", "torch.where(self.rows._off, self.rows.b, 0.0)",
              "torch.zeros_like(p)"),
        Fault("sign of the data in the dual", "torch.where(self.rows.on, -self.rows.target,",
              "torch.where(self.rows.on, self.rows.target,"),
        Fault("p scaled to twice lam", "torch.where(worst > 0, lam / worst", "torch.where(worst > 0, 2 * lam / worst"),
        Fault("sign of the reduced cost", "worst = (-self._reduced_cost(p)).amax(1)",
              "worst = self._reduced_cost(p).amax(1)"),
        Fault("translated too little", "a = a + 2 * short", "a = a + 0.5 * short"),
        Fault("a ball at no price", "- radius * worst", "- 0 * worst"),
        Fault("sign of lam in prox", "(h - self.linear / rho).clamp(min=0)", "(h + self.linear / rho).clamp(min=0)"),
        Fault("rho dropped from prox", "(h - self.linear / rho).clamp(min=0)", "(h - self.linear).clamp(min=0)"),
        Fault("prox without clamp", "(h - self.linear / rho).clamp(min=0)", "h - self.linear / rho"),
        Fault("lam not normalised", "NonnegativeLasso(rows, self._lam / (data * k))", "NonnegativeLasso(rows, self._lam)"),
        Fault("any p called a ray", "return torch.where(value > 0, value / slope, torch.zeros_like(value))",
              "return value.abs() / slope.clamp(max=1e-300)"),
        Fault("slope of the ray ignored", "slope = (-self._reduced_cost(mu)).amax(1)", "slope = 0 * value"),
    ),
    "gaussian_latent": (
        *shared_faults("z"),
        Fault("sign of gamma in the objective", "/ 2 + self._gamma / 2 * (h * h).sum(1)",
              "/ 2 - self._gamma / 2 * (h * h).sum(1)"),
        Fault("factor 2 in the prior", "/ 2 + self._gamma / 2 * (h * h).sum(1)", "/ 2 + self._gamma * (h * h).sum(1)"),
        Fault("prior dropped from the statement", "cp.Minimize(misfit + prior)", "cp.Minimize(misfit)"),
        Fault("statement without off rows", "[off] if off is not None else []", "[]"),
        Fault("off rows dropped from the violation", "return self.rows.excess(h).amax(1)",
              "return 0 * self.rows.excess(h).amax(1)"),
        Fault("factor 2 in the dual's misfit", "torch.zeros_like(p)).sum(1) / 2", "torch.zeros_like(p)).sum(1) / 4"),
        Fault("factor 2 in the dual's prior", "(slope * slope).sum(1) / (2 * self._gamma)",
              "(slope * slope).sum(1) / (4 * self._gamma)"),
        Fault("bias of off rows dropped from the dual",
              "t = torch.where(rows.on, -rows.target, torch.where(rows._off, rows.b, 0.0))",
              "t = torch.where(rows.on, -rows.target, 0.0)"),
        Fault("weight dropped from the dual", "p * p / rows._weight", "p * p"),
        Fault("sign of mu in the slope", "self.rows.fit * self.rows.residual(z) + mu",
              "self.rows.fit * self.rows.residual(z) - mu"),
        Fault("sign of the multipliers in the Lagrangian", "return self.objective(z) + pushed.sum(1) - doubt",
              "return self.objective(z) - pushed.sum(1) - doubt"),
        Fault("prior dropped from the slope", "rows.residual(z) + mu) + self._gamma[:, None] * z", "rows.residual(z) + mu)"),
        Fault("rho dropped from prox", "return rho * h / (rho + self.quadratic)", "return h / (1 + self.quadratic)"),
        Fault("sign of gamma in prox", "return rho * h / (rho + self.quadratic)",
              "return rho * h / (rho - self.quadratic)"),
        Fault("gamma not normalised", "GaussianLatent(rows, self._gamma / k**2)", "GaussianLatent(rows, self._gamma)"),
        Fault("any p called a ray", "return torch.where(value > 0, value / slope, torch.zeros_like(value))",
              "return value.abs() / slope.clamp(max=1e-300)"),
    ),
}  # fmt: skip
PLANTED = [pytest.param(name, fault, id=f"{name}-{fault.what}") for name, faults in FAULTS.items() for fault in faults]


@cache
def source(name):
    return (LAYERS / f"{name}.py").read_text()


def class_from(name, text):
    """The problem's class out of an edited layer file, executed as a module of cvxinv.layers that nobody can import."""
    module = types.ModuleType(f"cvxinv.layers.planted_{name}")
    module.__package__ = "cvxinv.layers"
    exec(compile(text, f"planted {name}.py", "exec"), module.__dict__)
    return getattr(module, cases.kind_of(name).__name__)


def plant(name, fault):
    found = source(name).count(fault.old)
    assert found, f"nothing to plant: {fault.old!r} is no longer in {name}.py; rewrite the fault"
    return class_from(name, source(name).replace(fault.old, fault.new))


def planted_cases(name, kind):
    """Instances and few random rows, small enough for a run per fault."""
    random = [cases.dense_case(name, replace(spec, N=3)) for spec in cases.DENSE if spec.label in CHOSEN]
    worked = [(case.as_kind(kind), instance) for case, instance in cases.worked() if case.name == name]
    return worked, [case.as_kind(kind) for case in random]


CHOSEN = {"tall-mixed-penalty", "leaky", "wide", "tall-masked-no-penalty"}


def run_checks(name, kind):
    """Every check, random rows first: they show most faults at once."""
    worked, random = planted_cases(name, kind)
    everything = [*random, *(case for case, _ in worked)]
    for case in everything:
        checks.check_statement(case)
        if case.feasible is not None:
            checks.check_bound(case)
            checks.check_fixed_points(case)
        checks.check_reference(case)
        checks.check_fast(case)
    for case, instance in worked:
        checks.check_hand_answer(case, instance, gallery.problem(name).transcription)


def test_every_layer_file_has_planted_faults():
    files = {path.stem for path in LAYERS.glob("*.py")} - {"__init__"}
    assert files == set(FAULTS) and all(len(faults) >= 6 for faults in FAULTS.values())


@pytest.mark.parametrize("name", FAULTS)
def test_unchanged_files_pass(name):
    run_checks(name, class_from(name, source(name)))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_every_planted_fault_is_caught(name, fault):
    kind = plant(name, fault)
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        run_checks(name, kind)
