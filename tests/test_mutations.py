"""Faults planted in a layer file, one at a time: the checks must see each of them, and nothing in the file as it is.

The source text is edited in memory. A pattern that is not found fails the test, so that the list cannot rot.
"""

import re
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


HOMOGENEOUS = (  # what the basis pursuits share
    Fault("value not divided by its slope", "return proved(value * scale, doubt * scale, p * scale[:, None])",
          "return proved(value, doubt, p)"),
    Fault("sign of the slope", "((-slope if self.nonnegative else slope.abs()) + doubt)",
          "((slope if self.nonnegative else slope.abs()) + doubt)"),
    Fault("slope of one sign only", "((-slope if self.nonnegative else slope.abs()) + doubt)", "(-slope + doubt)"),
    Fault("negative values too", "proved(value * scale,", "proved(value.abs() * scale,"),
    Fault("h >= 0 dropped from the violation",
          "torch.maximum(beyond, (-h).clamp(min=0).amax(1)) if self.nonnegative else beyond",
          "beyond"),
    Fault("half the length", "return (self.linear * h.abs()).sum(1)", "return (self.linear * h.abs()).sum(1) / 2"),
    Fault("eps not normalised", "rows=units.rows, eps=self._eps / units.data", "rows=units.rows, eps=self._eps"),
    Fault("prox without clamp", "(h - self.linear / rho).clamp(min=0)", "h - self.linear / rho"),
    Fault("sign in the signed prox", "h.sign() * (h.abs() - self.linear / rho).clamp(min=0)",
          "(h.abs() - self.linear / rho).clamp(min=0)"),
    Fault("rho dropped from the signed prox", "(h.abs() - self.linear / rho)", "(h.abs() - self.linear)"),
)  # fmt: skip

FAULTS = {
    "lasso": (
        *(fault for fault in shared_faults("h") if fault.what not in (
            "statement without bias on off rows", "statement with off rows turned", "p_off not clamped",
            "unseen rows left in p", "off rows in prox turned", "unseen rows in prox clamped")),
        Fault("sign of lam in the objective", "/ 2 + (self.linear * h.abs())", "/ 2 - (self.linear * h.abs())"),
        Fault("1'h in place of |h|_1", "(self.linear * h.abs()).sum(1)", "(self.linear * h).sum(1)"),
        Fault("1'h in the statement", "length_of(cp, h, self.sizes, False)", "length_of(cp, h, self.sizes, True)"),
        Fault("off rows counted", 'replace(self.rows, off=torch.zeros_like(self.rows.on)))', "self.rows)"),
        Fault("p of other rows left in", "return torch.where(self.rows.on, p, torch.zeros_like(p))", "return p"),
        Fault("slope of one sign only", "slope = self.rows.W.adjoint(p).abs() + doubt",
              "slope = -self.rows.W.adjoint(p) + doubt"),
        Fault("p scaled to twice lam", "self._lam / slope.clamp", "2 * self._lam / slope.clamp"),
        Fault("factor 2 in the dual", "s * linear - s * s * square / 2", "s * linear - s * s * square / 4"),
        Fault("sign of the data in the dual", "return -(p * self.rows.target).sum(1), square",
              "return (p * self.rows.target).sum(1), square"),
        Fault("weight dropped from the dual", "p * p / self.rows._weight", "p * p"),
        Fault("nothing lacks", "Unmet(value, p, short,", "Unmet(value, p, 0 * short,"),
        Fault("what lacks has the wrong sign", "Unmet(value, p, short,", "Unmet(value, p, -short,"),
        Fault("sign in prox", "return h.sign() * (h.abs() - self.linear / rho)", "return (h.abs() - self.linear / rho)"),
        Fault("rho dropped from prox", "(h.abs() - self.linear / rho)", "(h.abs() - self.linear)"),
        Fault("lam not normalised", "self._lam / units.data / units.norm", "self._lam"),
    ),
    "basis_pursuit_l2": (
        *HOMOGENEOUS,
        Fault("weight dropped from the statement", "cp.multiply(s.weight_on**0.5, s.W_on", "cp.multiply(1.0, s.W_on"),
        Fault("twice eps in the statement", "cp.SOC(cp.Constant(eps), misfit)", "cp.SOC(cp.Constant(2 * eps), misfit)"),
        Fault("no equation at eps = 0", "on = s.W_on @ h + s.b_on == s.y_on if eps == 0 else None", "on = None"),
        Fault("bias dropped from the equation", "s.W_on @ h + s.b_on == s.y_on", "s.W_on @ h == s.y_on"),
        Fault("statement with off rows turned", "s.W_off @ h + s.b_off <= 0", "s.W_off @ h + s.b_off >= 0"),
        Fault("weight dropped from the violation", "lengths(self.rows.fit.sqrt() * r) - self._eps",
              "lengths(r) - self._eps"),
        Fault("squared misfit against eps", "lengths(self.rows.fit.sqrt() * r) - self._eps",
              "lengths(self.rows.fit.sqrt() * r).square() - self._eps"),
        Fault("off rows dropped from the violation", "torch.maximum(beyond, self.rows.excess(h).amax(1))", "beyond"),
        Fault("p_off not clamped", "torch.where(off, p.clamp(min=0),", "torch.where(off, p,"),
        Fault("unseen rows left in p", "torch.where(self.rows.on, p, torch.zeros_like(p)))\n", "p)\n"),
        Fault("eps dropped from the dual", "- (self._eps + slack) * length", "- slack * length"),
        Fault("weight dropped from the dual", "p * p / rows._weight", "p * p"),
        Fault("weight upside down in the dual", "p * p / rows._weight", "p * p * rows._weight"),
        Fault("sign of the data in the dual", "torch.where(rows.on, -rows.target,", "torch.where(rows.on, rows.target,"),
        Fault("bias of off rows dropped from the dual", "torch.where(rows._off, rows.b, 0.0)", "torch.zeros_like(p)"),
        Fault("ray without slack on the ball", "(self._eps + slack) * length", "self._eps * length"),
        Fault("ray without slack on off rows", "* length - wider", "* length"),
        Fault("off rows in prox turned", "torch.where(rows._off, v.clamp(max=0), v)",
              "torch.where(rows._off, v.clamp(min=0), v)"),
        Fault("unseen rows in prox clamped", "torch.where(rows._off, v.clamp(max=0), v)", "v.clamp(max=0)"),
        Fault("ball of half the size in prox", "_shrinkage(r, rows.fit, self._eps)",
              "_shrinkage(r, rows.fit, self._eps / 2)"),
        Fault("weight dropped from prox", "r / (1 + t * rows.fit)", "r / (1 + t)"),
    ),
    "interval_basis_pursuit": (
        *HOMOGENEOUS,
        Fault("lower end dropped from the violation", "torch.maximum(v - hi, lo - v).amax(1)", "(v - hi).amax(1)"),
        Fault("upper end dropped from the violation", "torch.maximum(v - hi, lo - v).amax(1)", "(lo - v).amax(1)"),
        Fault("p not clipped at open upper ends", "p = torch.where(torch.isinf(hi), p.clamp(max=0), p)", "pass"),
        Fault("p not clipped at open lower ends", "p = torch.where(torch.isinf(lo), p.clamp(min=0), p)", "pass"),
        Fault("ends swapped in the dual", "torch.where(p > 0, hi, torch.where(p < 0, lo, torch.zeros_like(p)))",
              "torch.where(p > 0, lo, torch.where(p < 0, hi, torch.zeros_like(p)))"),
        Fault("lower end in the dual only", "torch.where(p > 0, hi, torch.where(p < 0, lo, torch.zeros_like(p)))",
              "torch.where(torch.isfinite(lo), lo, 0)"),
        Fault("bias dropped from the dual", "(p * (self.rows.b - end)).sum(1)", "(p * (0 - end)).sum(1)"),
        Fault("ray without slack", "value - doubt - slack * self.rows.stretched(q.abs()).sum(1)",
              "value - doubt"),
        Fault("an interval called empty", "return (lo - hi > width)", "return (hi - lo > width)"),
        Fault("prox without lower end", "torch.minimum(torch.maximum(v, lo), hi)", "torch.minimum(v, hi)"),
        Fault("prox with ends swapped", "torch.minimum(torch.maximum(v, lo), hi)",
              "torch.minimum(torch.maximum(v, -hi), -lo)"),
        Fault("weight upside down in the limits", "width = eps / rows._weight.sqrt()", "width = eps * rows._weight.sqrt()"),
        Fault("weight dropped from the statement", "eps * s.weight_on**-0.5", "eps * s.weight_on**0"),
        Fault("eps dropped from off rows", "s.W_off @ h + s.b_off <= most", "s.W_off @ h + s.b_off <= 0"),
        Fault("eps dropped from the limits of off rows", "torch.where(rows._off, most, none)",
              "torch.where(rows._off, 0 * none.clamp(max=1), none)"),
        Fault("unseen rows bounded", "torch.where(rows._off, most, none))", "most)"),
        Fault("lower end of off rows read", "lo = torch.where(rows.on, self.lo, -none)", "lo = self.lo"),
        Fault("statement without lower ends", "(equal, k[same], 1), (upper, k[above], 1), (lower, k[below], -1)",
              "(equal, k[same], 1), (upper, k[above], 1)"),
        Fault("statement without upper ends", "(equal, k[same], 1), (upper, k[above], 1), (lower, k[below], -1)",
              "(equal, k[same], 1), (lower, k[below], -1)"),
        Fault("sign of the lower multipliers", "(upper, k[above], 1), (lower, k[below], -1)",
              "(upper, k[above], 1), (lower, k[below], 1)"),
        Fault("ends not normalised", "(units.stretched(end / units.data[:, None]) for", "(units.stretched(end) for"),
        Fault("h >= 0 dropped from the statement", "([h >= 0] if nonnegative else [])", "[]"),
    ),
    "activated_lasso": (
        Fault("factor 2 in the objective", "(self.rows.fit * r * r).sum(1) / 2", "(self.rows.fit * r * r).sum(1)"),
        Fault("weight dropped from the objective", "(self.rows.fit * r * r).sum(1) / 2", "(r * r).sum(1) / 2"),
        Fault("sign of lam in the objective", "/ 2 + self._lam * h.sum(1)", "/ 2 - self._lam * h.sum(1)"),
        Fault("phi dropped from the misfit", "self.phi(self.rows.W(h) + self.rows.b) - self.rows.y",
              "self.rows.W(h) + self.rows.b - self.rows.y"),
        Fault("bias dropped from the misfit", "self.phi(self.rows.W(h) + self.rows.b) - self.rows.y",
              "self.phi(self.rows.W(h)) - self.rows.y"),
        Fault("derivative dropped from the gradient", "self.rows.fit * self.phi.derivative(self.rows.W(h) + self.rows.b) *",
              "self.rows.fit *"),
        Fault("weight dropped from the gradient", "return self.rows.fit * self.phi.derivative",
              "return self.phi.derivative"),
        Fault("h >= 0 dropped from the violation", "return (-h).clamp(min=0).amax(1)", "return torch.zeros_like(h[:, 0])"),
        Fault("lam dropped from the movement", "(self.rows.W.adjoint(p) + self.linear) / c).clamp(min=0)",
              "self.rows.W.adjoint(p) / c).clamp(min=0)"),
        Fault("movement without clamp", "+ self.linear) / c).clamp(min=0)", "+ self.linear) / c)"),
        Fault("nothing moves", "return moved / natural", "return 0 * moved / natural"),
        Fault("a bound above 0", "return Lower(torch.zeros_like(self._lam),", "return Lower(torch.ones_like(self._lam),"),
        Fault("off rows counted", 'replace(self.rows, off=torch.zeros_like(self.rows.on)))', "self.rows)"),
        Fault("curvature of tanh too small", "weight * (1 + 0.7699 * (1 + y))", "0.1 * weight"),
        Fault("prox without clamp", "return (h - self.linear / rho).clamp(min=0)", "return h - self.linear / rho"),
        Fault("rho dropped from prox", "return (h - self.linear / rho).clamp(min=0)",
              "return (h - self.linear).clamp(min=0)"),
        Fault("sign of lam in prox", "return (h - self.linear / rho).clamp(min=0)",
              "return (h + self.linear / rho).clamp(min=0)"),
        Fault("lam not normalised", "self.phi, self._lam / units.norm)", "self.phi, self._lam)"),
    ),
    "nonnegative_lasso": (
        *shared_faults("h"),
        Fault("sign of lam in the objective", "/ 2 + (self.linear * h)", "/ 2 - (self.linear * h)"),
        Fault("lam dropped from the statement", "cp.Minimize(misfit + lam * length_of(cp, h, self.sizes, True))",
              "cp.Minimize(misfit)"),
        Fault("h >= 0 dropped from the statement", "constraints = [h >= 0] +", "constraints = [] +"),
        Fault("statement without off rows", "([off] if off is not None else [])", "[]"),
        Fault("h >= 0 dropped from the violation",
              "torch.maximum(self.rows.excess(h).amax(1), (-h).clamp(min=0).amax(1))", "self.rows.excess(h).amax(1)"),
        Fault("off rows dropped from the violation",
              "torch.maximum(self.rows.excess(h).amax(1), (-h).clamp(min=0).amax(1))", "(-h).clamp(min=0).amax(1)"),
        Fault("factor 2 in the dual", "s * linear - s * s * square / 2", "s * linear - s * s * square / 4"),
        Fault("weight dropped from the dual", "p * p / self.rows._weight", "p * p"),
        Fault("bias of off rows dropped from the dual", "torch.where(self.rows._off, self.rows.b, 0.0)",
              "torch.zeros_like(p)"),
        Fault("sign of the data in the dual", "torch.where(self.rows.on, -self.rows.target,",
              "torch.where(self.rows.on, self.rows.target,"),
        Fault("p scaled to twice lam", "torch.where(worst > 0, lam / worst", "torch.where(worst > 0, 2 * lam / worst"),
        Fault("sign of the reduced cost", "slope = -self._reduced_cost(p)", "slope = self._reduced_cost(p)"),
        Fault("what was not made feasible has a value", "feasible = usable & (", "feasible = (usable | True) | ("),
        Fault("nothing lacks", "Unmet(value, p, short,", "Unmet(value, p, 0 * short,"),
        Fault("what lacks has the wrong sign", "Unmet(value, p, short,", "Unmet(value, p, -short,"),
        Fault("sign of lam in prox", "(h - self.linear / rho).clamp(min=0)", "(h + self.linear / rho).clamp(min=0)"),
        Fault("rho dropped from prox", "(h - self.linear / rho).clamp(min=0)", "(h - self.linear).clamp(min=0)"),
        Fault("prox without clamp", "(h - self.linear / rho).clamp(min=0)", "h - self.linear / rho"),
        Fault("lam not normalised", "self._lam / units.data / units.norm", "self._lam"),
        Fault("any p called a ray", "return away(value, (-self._reduced_cost(mu)).clamp(min=0))",
              "return away(value.abs(), torch.zeros_like(self._lam)[:, None])"),
        Fault("slope of the ray ignored", "return away(value, (-self._reduced_cost(mu)).clamp(min=0))",
              "return away(value, torch.zeros_like(self._lam)[:, None])"),
    ),
    "gaussian_latent": (
        *shared_faults("z"),
        Fault("sign of gamma in the objective", "/ 2 + (self.quadratic * h * h)", "/ 2 - (self.quadratic * h * h)"),
        Fault("factor 2 in the prior", "(self.quadratic * h * h).sum(1) / 2", "(self.quadratic * h * h).sum(1)"),
        Fault("prior dropped from the statement", "cp.Minimize(misfit + prior)", "cp.Minimize(misfit)"),
        Fault("statement without off rows", "[off] if off is not None else []", "[]"),
        Fault("off rows dropped from the violation", "return self.rows.excess(h).amax(1)",
              "return 0 * self.rows.excess(h).amax(1)"),
        Fault("factor 2 in the dual's misfit", "torch.zeros_like(p)).sum(1) / 2", "torch.zeros_like(p)).sum(1) / 4"),
        Fault("factor 2 in the dual's prior", "(x * x / (2 * gamma)).sum(1)", "(x * x / (4 * gamma)).sum(1)"),
        Fault("bias of off rows dropped from the dual",
              "t = torch.where(rows.on, -rows.target, torch.where(rows._off, rows.b, 0.0))",
              "t = torch.where(rows.on, -rows.target, 0.0)"),
        Fault("weight dropped from the dual", "p * p / rows._weight", "p * p"),
        Fault("sign of mu in the slope", "self.rows.fit * self.rows.residual(z) + mu",
              "self.rows.fit * self.rows.residual(z) - mu"),
        Fault("sign of the multipliers in the Lagrangian", "return self.objective(z) + pushed.sum(1), doubt",
              "return self.objective(z) - pushed.sum(1), doubt"),
        Fault("prior dropped from the slope", "rows.residual(z) + mu) + self.quadratic * z", "rows.residual(z) + mu)"),
        Fault("rho dropped from prox", "return rho * h / (rho + self.quadratic)", "return h / (1 + self.quadratic)"),
        Fault("sign of gamma in prox", "return rho * h / (rho + self.quadratic)",
              "return rho * h / (rho - self.quadratic)"),
        Fault("gamma not normalised", "self._gamma / units.norm**2", "self._gamma"),
        Fault("any p called a ray", "return away(value, self.rows.W.adjoint(mu).abs()",
              "return away(value.abs(), 0 * self.rows.W.adjoint(mu).abs()"),
        Fault("what lacks has the wrong sign", "Unmet(value, p, rows.W.adjoint(p),",
              "Unmet(value, p, -rows.W.adjoint(p),"),
    ),
}  # fmt: skip
PLANTED = [pytest.param(name, fault, id=f"{name}-{fault.what}") for name, faults in FAULTS.items() for fault in faults]


@cache
def source(name):
    return (LAYERS / f"{name}.py").read_text()


def classes_from(name, text):
    """The layer problems of an edited file, which is executed as a module of cvxinv.layers that nobody can import.

    Returns {gallery name: class}. Where a solver asks for a class by name, the planted one passes for it.
    """
    module = types.ModuleType(f"cvxinv.layers.planted_{name}")
    module.__package__ = "cvxinv.layers"
    exec(compile(text, f"planted {name}.py", "exec"), module.__dict__)
    planted = {}
    for kind in vars(module).values():
        if isinstance(kind, type) and kind.__module__ == module.__name__ and not kind.__name__.startswith(("Abstract", "_")):
            getattr(ci, kind.__name__).register(kind)
            planted[snake(kind.__name__)] = kind
    return planted


def snake(name):
    """BasisPursuitLinf is worked in basis_pursuit_linf.py."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def plant(name, fault):
    found = source(name).count(fault.old)
    assert found, f"nothing to plant: {fault.old!r} is no longer in {name}.py; rewrite the fault"
    return classes_from(name, source(name).replace(fault.old, fault.new))


def planted_cases(name, kind):
    """Instances and few random rows, small enough for a run per fault."""
    random = [cases.dense_case(name, replace(spec, N=3)) for spec in cases.dense_specs(name) if spec.label in CHOSEN]
    worked = [(case.as_kind(kind), instance) for case, instance in cases.worked() if case.name == name]
    return worked, [case.as_kind(kind) for case in (*random, *cases.hopeless_cases(name))]


CHOSEN = {"tall-mixed-penalty", "leaky", "wide", "tall-masked-no-penalty", "tall-mixed", "masked", "masked-equality"}


def run_checks(planted):
    """Every check of every class of a file; random rows and cheap checks first, as they show most faults at once."""
    if "activated_lasso" in planted:
        return checks.check_curved(planted["activated_lasso"])
    hands, drawn = [], []
    for name, kind in planted.items():
        worked, random = planted_cases(name, kind)
        hands, drawn = hands + worked, drawn + random
    run_stages(drawn)
    run_stages([case for case, _ in hands])
    for case, instance in hands:
        checks.check_hand_answer(case, instance, gallery.problem(case.name).transcription)


def run_stages(some):
    feasible = [case for case in some if case.feasible is not None]
    for check, on in (
        (checks.check_statement, some),
        (checks.check_reference, some),
        (checks.check_bound, feasible),
        (checks.check_fixed_points, feasible),
        (checks.check_slack, some),
        (checks.check_fast, some),
    ):
        for case in on:
            check(case)


def test_every_layer_file_has_planted_faults():
    files = {path.stem for path in LAYERS.glob("*.py")} - {"__init__"}
    assert files == set(FAULTS) and all(len(faults) >= 10 for faults in FAULTS.values())
    known = {snake(name) for name in ci.__all__ if name.endswith(("Lasso", "Pursuit", "L2", "Linf", "Latent"))}
    assert known == {kind for name in FAULTS for kind in classes_from(name, source(name))}


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")
@pytest.mark.parametrize("name", FAULTS)
def test_unchanged_files_pass(name):
    run_checks(classes_from(name, source(name)))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_every_planted_fault_is_caught(name, fault):
    planted = plant(name, fault)
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        run_checks(planted)
