"""Faults planted in the shared pieces and in each layer file, one at a time: the checks must see each, and nothing as it is.

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
import test_normalised
from planting import spoil

import cvxinv as ci
from cvxinv.layers.core.problem import AbstractLayerProblem

LAYERS = Path(ci.__file__).parent / "layers"


@dataclass(frozen=True)
class Fault:
    what: str
    old: str
    new: str


@dataclass(frozen=True)
class SharedFault(Fault):
    """A fault in `layers/core/<place>.py`; names: the layer problems of which one must show it, in this order."""

    place: str
    names: tuple[str, ...]

    @property
    def module(self) -> str:
        return f"cvxinv.layers.core.{self.place}"


def shared(place, names, *faults):
    return tuple(SharedFault(*fault, place, tuple(names.split())) for fault in faults)


QUADRATIC = "nonnegative_lasso gaussian_latent lasso"
SQUARES = shared(
    "misfits", QUADRATIC,
    ("factor 2 in the objective", "return (self.rows.fit * r * r).sum(1) / 2", "return (self.rows.fit * r * r).sum(1)"),
    ("weight dropped from the objective", "return (self.rows.fit * r * r).sum(1) / 2", "return (r * r).sum(1) / 2"),
    ("off rows dropped from the violation", "torch.where(self.rows.off, v.clamp(min=0), torch.zeros_like(v))",
     "torch.zeros_like(v)"),
    ("off rows that are met are in excess", "torch.where(self.rows.off, v.clamp(min=0),",
     "torch.where(self.rows.off, v.abs(),"),
    ("p_off not clamped", "torch.where(rows.off, p.clamp(min=0),", "torch.where(rows.off, p,"),
    ("unseen rows left in p", "torch.where(rows.on, p, torch.zeros_like(p)))", "p)"),
    ("sign of the data in the dual", "torch.where(rows.on, -rows.target,", "torch.where(rows.on, rows.target,"),
    ("bias of off rows dropped from the dual", "torch.where(rows.off, rows.b, 0.0)", "torch.zeros_like(rows.y)"),
    ("weight dropped from the dual", "p * p / self.rows.weight", "p * p"),
    ("factor 2 in prox of the rows", "(rows.fit * rows.y + rho * v) / (rows.fit + rho)",
     "(rows.fit * rows.y + rho * v) / (2 * rows.fit + rho)"),
    ("on rows in prox not weighted", "(rows.fit * rows.y + rho * v) / (rows.fit + rho)", "(rows.y + rho * v) / (1 + rho)"),
    ("off rows in prox turned", "torch.where(rows.on, fitted, torch.where(rows.off, v.clamp(max=0), v))",
     "torch.where(rows.on, fitted, torch.where(rows.off, v.clamp(min=0), v))"),
    ("unseen rows in prox clamped", "torch.where(rows.on, fitted, torch.where(rows.off, v.clamp(max=0), v))",
     "torch.where(rows.on, fitted, v.clamp(max=0))"),
    ("ray without the bias", "value = (mu * rows.b).sum(1) -", "value = mu.sum(1) -"),
    ("ray without slack on off rows", "return mu, value - slack * rows.stretched(mu).sum(1)", "return mu, value"),
)  # fmt: skip
BALL = shared(
    "misfits", "basis_pursuit_l2 nonnegative_basis_pursuit_l2",
    ("weight dropped from the violation", "lengths(self.rows.fit.sqrt() * self.rows.residual(h, v)) - self.eps",
     "lengths(self.rows.residual(h, v)) - self.eps"),
    ("squared misfit against eps", "lengths(self.rows.fit.sqrt() * self.rows.residual(h, v)) - self.eps",
     "lengths(self.rows.fit.sqrt() * self.rows.residual(h, v)).square() - self.eps"),
    ("off rows dropped from the violation", "torch.maximum(beyond, self._cut_excess(v))", "beyond"),
    ("p_off not clamped", "torch.where(rows.off, p.clamp(min=0),", "torch.where(rows.off, p,"),
    ("unseen rows left in p", "torch.where(rows.on, p, torch.zeros_like(p)))", "p)"),
    ("eps dropped from the dual", "- (self.eps + slack) * length", "- slack * length"),
    ("weight dropped from the dual", "torch.where(rows.on, p * p / rows.weight,", "torch.where(rows.on, p * p,"),
    ("weight upside down in the dual", "torch.where(rows.on, p * p / rows.weight,",
     "torch.where(rows.on, p * p * rows.weight,"),
    ("sign of the data in the dual", "torch.where(rows.on, -rows.target,", "torch.where(rows.on, rows.target,"),
    ("bias of off rows dropped from the dual", "torch.where(rows.off, rows.b, 0.0)", "torch.zeros_like(rows.y)"),
    ("ray without slack on the ball", "- (self.eps + slack) * length", "- self.eps * length"),
    ("ray without slack on off rows", "* length - wider", "* length"),
    ("off rows in prox turned", "torch.where(rows.off, v.clamp(max=0), v)", "torch.where(rows.off, v.clamp(min=0), v)"),
    ("unseen rows in prox clamped", "torch.where(rows.off, v.clamp(max=0), v)", "v.clamp(max=0)"),
    ("ball of half the size in prox", "_shrinkage(r, rows.fit, self.eps)", "_shrinkage(r, rows.fit, self.eps / 2)"),
    ("weight dropped from prox", "r / (1 + t * rows.fit)", "r / (1 + t)"),
)  # fmt: skip
INTERVALS = shared(
    "misfits", "interval_basis_pursuit nonnegative_basis_pursuit_linf basis_pursuit_linf",
    ("lower end dropped from the violation", "torch.maximum(v - self.hi, self.lo - v).amax(1)", "(v - self.hi).amax(1)"),
    ("upper end dropped from the violation", "torch.maximum(v - self.hi, self.lo - v).amax(1)", "(self.lo - v).amax(1)"),
    ("p not clipped at open upper ends", "p = torch.where(torch.isinf(self.hi), p.clamp(max=0), p)", "pass"),
    ("p not clipped at open lower ends", "torch.where(torch.isinf(self.lo), p.clamp(min=0), p)", "p"),
    ("ends swapped in the dual", "torch.where(p > 0, self.hi, torch.where(p < 0, self.lo, torch.zeros_like(p)))",
     "torch.where(p > 0, self.lo, torch.where(p < 0, self.hi, torch.zeros_like(p)))"),
    ("lower end in the dual only", "torch.where(p > 0, self.hi, torch.where(p < 0, self.lo, torch.zeros_like(p)))",
     "torch.where(torch.isfinite(self.lo), self.lo, 0)"),
    ("bias dropped from the dual", "(p * (b - end)).sum(1)", "(p * (0 - end)).sum(1)"),
    ("ray without slack", "earned.linear - earned.doubt - slack * self.rows.stretched(p.abs()).sum(1)",
     "earned.linear - earned.doubt"),
    ("an interval called empty", "return (self.lo - self.hi > width)", "return (self.hi - self.lo > width)"),
    ("prox without lower end", "torch.minimum(torch.maximum(v, self.lo), self.hi)", "torch.minimum(v, self.hi)"),
    ("prox with ends swapped", "torch.minimum(torch.maximum(v, self.lo), self.hi)",
     "torch.minimum(torch.maximum(v, -self.hi), -self.lo)"),
)  # fmt: skip
TUBES = shared(
    "misfits", "nonnegative_basis_pursuit_linf basis_pursuit_linf",
    ("weight upside down in the limits", "width = eps[:, None] / rows.weight.sqrt()",
     "width = eps[:, None] * rows.weight.sqrt()"),
    ("eps dropped from the limits of off rows", "torch.where(rows.off, most, none)",
     "torch.where(rows.off, 0 * none.clamp(max=1), none)"),
    ("unseen rows bounded", "torch.where(rows.off, most, none))", "most)"),
)  # fmt: skip
WEIGHTS = shared(
    "penalties", "nonnegative_lasso gaussian_latent lasso",
    ("sign of lam in the objective", "(self.linear * (h.abs() if self.length else h)).sum(1)",
     "(-self.linear * (h.abs() if self.length else h)).sum(1)"),
    ("factor 2 in the prior", "(self.quadratic * h * h).sum(1) / 2", "(self.quadratic * h * h).sum(1)"),
    ("sign of gamma in the objective", "[(self.quadratic * h * h)", "[(-self.quadratic * h * h)"),
    ("h >= 0 dropped from the violation", "(-h).clamp(min=0).amax(1) if self.nonnegative else torch.zeros_like(h[:, 0])",
     "torch.zeros_like(h[:, 0])"),
    ("sign of lam in prox", "h - self.linear / rho).clamp(min=0)", "h + self.linear / rho).clamp(min=0)"),
    ("rho dropped from prox", "h - self.linear / rho).clamp(min=0)", "h - self.linear).clamp(min=0)"),
    ("prox without clamp", "else h - self.linear / rho).clamp(min=0)", "else h - self.linear / rho)"),
    ("rho dropped from prox of the prior", "rho * h / (rho + self.quadratic)", "h / (1 + self.quadratic)"),
    ("sign of gamma in prox", "rho * h / (rho + self.quadratic)", "rho * h / (rho - self.quadratic)"),
    ("p scaled to twice lam", "self.lam / worst", "2 * self.lam / worst"),
    ("sign of the slope", "(-Wp if self.nonnegative else Wp.abs())", "(Wp if self.nonnegative else Wp.abs())"),
    ("factor 2 in the dual's prior", "lack * lack / (2 * self.quadratic)", "lack * lack / (4 * self.quadratic)"),
    ("nothing lacks", "return (Wp + self.linear).clamp(max=0)", "return 0 * Wp"),
    ("what lacks has the wrong sign", "return (Wp + self.linear).clamp(max=0)", "return -(Wp + self.linear).clamp(max=0)"),
) + shared(
    "penalties", "lasso basis_pursuit_l2 gaussian_latent",
    ("1'h in place of |h|_1", "(h.abs() if self.length else h)", "h"),
    ("half the length", "(h.abs() if self.length else h)).sum(1)", "(h.abs() if self.length else h)).sum(1) / 2"),
    ("sign in the signed prox", "h.sign() * (h.abs() - self.linear / rho)", "(h.abs() - self.linear / rho)"),
    ("rho dropped from the signed prox", "(h.abs() - self.linear / rho)", "(h.abs() - self.linear)"),
    ("slope of one sign only", "(-Wp if self.nonnegative else Wp.abs())", "-Wp"),
    ("nothing lacks of any sign", "Wp.sign() * (Wp.abs() - self.linear).clamp(min=0)", "0 * Wp"),
    ("what lacks has the wrong sign", "return Wp.sign() * (Wp.abs()", "return -Wp.sign() * (Wp.abs()"),
)  # fmt: skip
BOUNDS = shared(
    "repairs", QUADRATIC,
    ("factor 2 in the dual", "proved(s * earned.linear - square / 2,", "proved(s * earned.linear - square / 4,"),
    ("the square forgotten at the best scale", "torch.where(square > 0, best, end)", "end"),
    ("what was not made feasible has a value", "feasible = usable & (", "feasible = (usable | True) | ("),
    ("factor 2 in the dual's misfit", "else earned.square / 2", "else earned.square / 4"),
    ("sign of mu in the slope", "rows.fit * rows.residual(h) + mu) +", "rows.fit * rows.residual(h) - mu) +"),
    ("sign of the multipliers in the Lagrangian", "return objective + pushed.sum(1), doubt",
     "return objective - pushed.sum(1), doubt"),
    ("prior dropped from the slope", "rows.residual(h) + mu) + problem.quadratic * h", "rows.residual(h) + mu)"),
    ("prior dropped from the bound", "earned.linear - square - prior", "earned.linear - square"),
) + shared(
    "repairs", "basis_pursuit_l2 interval_basis_pursuit",
    ("value not divided by its slope", "torch.isfinite(top), top, 0.0)", "torch.isfinite(top), torch.ones_like(top), 0.0)"),
    ("negative values too", "torch.where((linear > 0) & torch.isfinite(top), top, 0.0)",
     "torch.where(torch.isfinite(top), linear.sign() * top, 0.0)"),
)  # fmt: skip
PROBLEM = shared(
    "problem", "nonnegative_lasso gaussian_latent basis_pursuit_l2",
    ("any p called a ray", "value = torch.nan_to_num(value, nan=0.0, posinf=0.0)", "value = value.abs()"),
    ("slope of the ray ignored", "away(value, slope_of(self, p).clamp(min=0))", "away(value, 0 * slope_of(self, p))"),
    ("the misfit's square forgotten where p lacks", "value = value - earned.square / 2 -",
     "value = value -"),
    ("h >= 0 dropped from the violation", "torch.maximum(beyond, self.penalty.violation(h)) if self.nonnegative else beyond",
     "beyond"),
) + shared(
    "units", "nonnegative_lasso gaussian_latent interval_basis_pursuit",
    ("numbers not normalised by the data", "x = x / unit", "pass"),
    ("numbers not normalised by |W|", "x = x / self.norm\n", "pass\n"),
)  # fmt: skip
CURVED = shared(
    "curved", "activated_lasso",
    ("factor 2 in the objective", "(self.rows.fit * r * r).sum(1) / 2", "(self.rows.fit * r * r).sum(1)"),
    ("weight dropped from the objective", "(self.rows.fit * r * r).sum(1) / 2", "(r * r).sum(1) / 2"),
    ("phi dropped from the misfit", "torch.where(self.rows.on, self.phi(v) - self.rows.y,",
     "torch.where(self.rows.on, v - self.rows.y,"),
    ("bias dropped from the misfit", "self.rows.W(h) + self.rows.b if v is None", "self.rows.W(h) if v is None"),
    ("derivative dropped from the gradient", "return self.rows.fit * slope * self._residual(v)",
     "return self.rows.fit * self._residual(v)"),
    ("weight dropped from the gradient", "return self.rows.fit * slope * self._residual(v)",
     "return slope * self._residual(v)"),
    ("lam dropped from the movement", "(self.rows.W.adjoint(p) + self.linear) / c).clamp(min=0)",
     "self.rows.W.adjoint(p) / c).clamp(min=0)"),
    ("movement without clamp", "+ self.linear) / c).clamp(min=0)", "+ self.linear) / c)"),
    ("nothing moves", "return moved / natural", "return 0 * moved / natural"),
    ("a bound above 0", "return Lower(torch.zeros_like(p[:, 0]),", "return Lower(torch.ones_like(p[:, 0]),"),
    ("off rows counted", "counts_off: ClassVar[bool] = False", "counts_off: ClassVar[bool] = True"),
    ("curvature too small", "amax(1, keepdim=True) * curvature", "amax(1, keepdim=True) * 0.01"),
)  # fmt: skip
EXCESSES = shared(
    "misfits",
    "linf_fit l1_fit nonnegative_linf_fit",
    (
        "weight dropped from the width",
        "torch.where(rows.on, rows.weight.rsqrt(),",
        "torch.where(rows.on, torch.ones_like(off),",
    ),
    ("off rows free of charge", "torch.where(rows.off, off, 0.0))", "torch.zeros_like(off))"),
    (
        "rows below their data free of charge",
        "torch.where(rows.on, (v - rows.y).abs(),",
        "torch.where(rows.on, (v - rows.y).clamp(min=0),",
    ),
    ("the sum for the largest", ".amax(1)\n\n    def longest", ".sum(1)\n\n    def longest"),
    ("p of any length", "torch.where(length * most > 1, fitted,", "torch.where(length * most > 1e9, fitted,"),
    (
        "half of the data taken away by the prox",
        "v - self.nearest(rho * (v - y)) / rho",
        "v - self.nearest(rho * (v - y)) / (2 * rho)",
    ),
)
ROOMS = shared(
    "misfits", "relaxed_fit nonnegative_relaxed_fit",
    ("weight dropped from the rooms", "(self.rows.fit.sqrt() * self.rows.residual(h, v).abs())",
     "(self.rows.fit * self.rows.residual(h, v).abs())"),
    ("on rows without a limit", "torch.where(rows.on, rows.y, torch.where(rows.off, 0.0, none))",
     "torch.where(rows.on, none, torch.where(rows.off, 0.0, none))"),
    ("p as low as it likes", "return -torch.where(rows.on, rows.weight.sqrt(), 0.0),",
     "return -9 * torch.where(rows.on, rows.weight.sqrt(), 0.0),"),
    ("every h allowed", "return True\n\n    def value", "return False\n\n    def value"),
    ("a ray of any sign", "self.nearest(finite_numbers(p)).clamp(min=0))", "self.nearest(finite_numbers(p)))"),
)  # fmt: skip
SHARED = (*SQUARES, *BALL, *INTERVALS, *TUBES, *EXCESSES, *ROOMS, *WEIGHTS, *BOUNDS, *PROBLEM, *CURVED)

MISFIT = "misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ {h} + s.b_on - s.y_on)) / 2"
GRAM_LINEAR = "- (s.W_on.T @ (s.weight_on * t)) @ {h}"


def statement_faults(h, off=True):
    """Faults in the statement of a squared misfit, and of its off rows."""
    misfit, linear = MISFIT.format(h=h), GRAM_LINEAR.format(h=h)
    faults = (
        Fault("factor 2 in the statement", misfit, misfit.removesuffix(" / 2")),
        Fault("weight dropped from the statement", misfit, misfit.replace("s.weight_on**0.5", "1")),
        Fault("bias dropped from the statement", misfit, misfit.replace(" + s.b_on", "")),
        Fault("sign in the Gram form", linear, linear.replace("- (", "+ (", 1)),
        Fault("bias dropped from the Gram form", "t = s.y_on - s.b_on", "t = s.y_on"),
        Fault("weight dropped from the Gram form", linear, linear.replace("s.weight_on * t", "t")),
    )
    if not off:
        return faults
    return (
        *faults,
        Fault("statement without bias on off rows", f"s.W_off @ {h} + s.b_off <= 0", f"s.W_off @ {h} <= 0"),
        Fault("statement with off rows turned", f"s.W_off @ {h} + s.b_off <= 0", f"s.W_off @ {h} + s.b_off >= 0"),
    )


FAULTS = {
    "lasso": (
        *statement_faults("h", off=False),
        Fault("1'h in the statement", "length_of(cp, h, self.sizes, False)", "length_of(cp, h, self.sizes, True)"),
        Fault("off rows counted", "counts_off: ClassVar[bool] = False", "counts_off: ClassVar[bool] = True"),
        Fault("half of lam", "lam=self.lam)", 'lam=self.number("lam") / 2)'),
        Fault("lam not normalised", '"lam": (1, 1)', '"lam": (0, 0)'),
    ),
    "nonnegative_lasso": (
        *statement_faults("h"),
        Fault("lam dropped from the statement", "cp.Minimize(misfit + lam * length_of(cp, h, self.sizes, True))",
              "cp.Minimize(misfit)"),
        Fault("h >= 0 dropped from the statement", "constraints = [h >= 0] +", "constraints = [] +"),
        Fault("statement without off rows", "([off] if off is not None else [])", "[]"),
        Fault("half of lam", "lam=self.lam)", 'lam=self.number("lam") / 2)'),
        Fault("off rows not counted", "nonnegative: ClassVar[bool] = True",
              "nonnegative: ClassVar[bool] = True\n    counts_off: ClassVar[bool] = False"),
        Fault("lam not normalised", '"lam": (1, 1)', '"lam": (0, 0)'),
        Fault("lam normalised by the data alone", '"lam": (1, 1)', '"lam": (1, 0)'),
    ),
    "gaussian_latent": (
        *statement_faults("z"),
        Fault("prior dropped from the statement", "cp.Minimize(misfit + prior)", "cp.Minimize(misfit)"),
        Fault("statement without off rows", "[off] if off is not None else []", "[]"),
        Fault("twice gamma", "gamma=self.gamma)", 'gamma=2 * self.number("gamma"))'),
        Fault("h >= 0 asked for", "nonnegative: ClassVar[bool] = False", "nonnegative: ClassVar[bool] = True"),
        Fault("gamma not normalised", '"gamma": (0, 2)', '"gamma": (0, 0)'),
        Fault("gamma normalised as lam is", '"gamma": (0, 2)', '"gamma": (1, 1)'),
    ),
    "basis_pursuit_l2": (
        Fault("weight dropped from the statement", "cp.multiply(s.weight_on**0.5, s.W_on", "cp.multiply(1.0, s.W_on"),
        Fault("twice eps in the statement", "cp.SOC(cp.Constant(eps), misfit)", "cp.SOC(cp.Constant(2 * eps), misfit)"),
        Fault("no equation at eps = 0", "on = s.W_on @ h + s.b_on == s.y_on if eps == 0 else None", "on = None"),
        Fault("bias dropped from the equation", "s.W_on @ h + s.b_on == s.y_on", "s.W_on @ h == s.y_on"),
        Fault("statement with off rows turned", "s.W_off @ h + s.b_off <= 0", "s.W_off @ h + s.b_off >= 0"),
        Fault("h >= 0 dropped from the statement", "sign = h >= 0 if self.nonnegative else None", "sign = None"),
        Fault("twice eps", 'MisfitBall(self.rows, self.number("eps"))', 'MisfitBall(self.rows, 2 * self.number("eps"))'),
        Fault("half the length", "lam=1.0)", "lam=0.5)"),
        Fault("eps not normalised", '"eps": (1, 0)', '"eps": (0, 0)'),
    ),
    "linf_fit": (
        Fault("weight dropped from the statement", "s.weight_on**-0.5", "s.weight_on**0"),
        Fault("bias dropped from the upper side", "above = s.W_on @ h + s.b_on - s.y_on", "above = s.W_on @ h - s.y_on"),
        Fault("statement without off rows", "(off, s.off, 1))", "(None, s.off, 1))"),
        Fault("statement without lower sides", "(below, s.on, -1)", "(None, s.on, -1)"),
        Fault("sign of the lower multipliers", "(below, s.on, -1)", "(below, s.on, 1)"),
        Fault("twice delta", "cp.Minimize(delta)", "cp.Minimize(2 * delta)"),
        Fault("h >= 0 dropped from the statement", "([h >= 0] if self.nonnegative else [])", "[]"),
        Fault("a price on h", "lam=0.0)", "lam=0.1)"),
    ),
    "l1_fit": (
        Fault("weight dropped from the statement", "s.weight_on**-0.5", "s.weight_on**0"),
        Fault("bias dropped from the upper side", "above = s.W_on @ h + s.b_on - s.y_on", "above = s.W_on @ h - s.y_on"),
        Fault("off rows free of charge", "cp.sum(on) + cp.sum(off)", "cp.sum(on)"),
        Fault("statement without lower sides", "(below, s.on, -1)", "(None, s.on, -1)"),
        Fault("sign of the lower multipliers", "(below, s.on, -1)", "(below, s.on, 1)"),
        Fault("h >= 0 dropped from the statement", "([h >= 0] if self.nonnegative else [])", "[]"),
        Fault("a price on h", "lam=0.0)", "lam=0.1)"),
    ),
    "relaxed_fit": (
        Fault("weight dropped from the statement", "s.weight_on**0.5", "s.weight_on**0"),
        Fault("bias dropped from the rooms", "s.y_on - s.W_on @ h - s.b_on <= room", "s.y_on - s.W_on @ h <= room"),
        Fault("bias dropped from the limits", "s.W_on @ h + s.b_on <= s.y_on", "s.W_on @ h <= s.y_on"),
        Fault("statement without upper ends", "(above, s.on, 1)", "(None, s.on, 1)"),
        Fault("statement without off rows", "(over, s.off, 1))", "(None, s.off, 1))"),
        Fault("statement without prices", "(below, s.on, -1)", "(None, s.on, -1)"),
        Fault("sign of the lower multipliers", "(below, s.on, -1)", "(below, s.on, 1)"),
        Fault("h >= 0 dropped from the statement", "([h >= 0] if self.nonnegative else [])", "[]"),
        Fault("a price on h", "lam=0.0)", "lam=0.1)"),
    ),
    "interval_basis_pursuit": (
        Fault("weight dropped from the statement", "eps * s.weight_on**-0.5", "eps * s.weight_on**0"),
        Fault("eps dropped from off rows", "s.W_off @ h + s.b_off <= most", "s.W_off @ h + s.b_off <= 0"),
        Fault("lower end of off rows read", "remember(torch.where(rows.on, self.lo, -none),", "remember(self.lo,"),
        Fault("statement without lower ends", "(equal, k[same], 1), (upper, k[above], 1), (lower, k[below], -1)",
              "(equal, k[same], 1), (upper, k[above], 1)"),
        Fault("statement without upper ends", "(equal, k[same], 1), (upper, k[above], 1), (lower, k[below], -1)",
              "(equal, k[same], 1), (lower, k[below], -1)"),
        Fault("sign of the lower multipliers", "(upper, k[above], 1), (lower, k[below], -1)",
              "(upper, k[above], 1), (lower, k[below], 1)"),
        Fault("ends swapped", "Intervals(self.rows, self.lo, self.hi)", "Intervals(self.rows, -self.hi, -self.lo)"),
        Fault("twice eps", 'Tubes.around(self.rows, self.number("eps"))', 'Tubes.around(self.rows, 2 * self.number("eps"))'),
        Fault("half the length", "lam=1.0)", "lam=0.5)"),
        Fault("ends not normalised", '"lo": (1, 0), "hi": (1, 0)', '"lo": (0, 0), "hi": (0, 0)'),
        Fault("eps not normalised", '"eps": (1, 0)', '"eps": (0, 0)'),
        Fault("h >= 0 dropped from the statement", "([h >= 0] if nonnegative else [])", "[]"),
    ),
    "normalised_lasso": (
        *statement_faults("h", off=False)[:3],
        Fault("D dropped from the statement", "cp.norm(cp.multiply(d, h), 1)", "cp.norm(h, 1)"),
        Fault("D dropped from the weights", "lam=self.lam, sizes=self.rows.on_columns)", "lam=self.lam)"),
        Fault("half of lam", "lam=self.lam,", 'lam=self.number("lam") / 2,'),
        Fault("lam normalised as that of a LASSO", '"lam": (1, 0)', '"lam": (1, 1)'),
    ),
    "normalised_basis_pursuit": (
        Fault("weight dropped from the statement", "cp.multiply(s.weight_on**0.5, s.W_on", "cp.multiply(1.0, s.W_on"),
        Fault("bias dropped from the equation", "s.W_on @ h + s.b_on == s.y_on", "s.W_on @ h == s.y_on"),
        Fault("D dropped from the statement", "cp.norm(cp.multiply(d, h), 1)", "cp.norm(h, 1)"),
        Fault("D dropped from the weights", "lam=1.0, sizes=self.rows.on_columns)", "lam=1.0)"),
        Fault("twice eps", 'MisfitBall(self.rows, self.number("eps"))', 'MisfitBall(self.rows, 2 * self.number("eps"))'),
        Fault("eps not normalised", '"eps": (1, 0)', '"eps": (0, 0)'),
        Fault("the length in other units", "grows: ClassVar[tuple[int, int]] = (1, 0)",
              "grows: ClassVar[tuple[int, int]] = (1, -1)"),
    ),
    "activated_lasso": (
        Fault("half of lam", "lam=self.lam)", 'lam=self.number("lam") / 2)'),
        Fault("lam not normalised", '"lam": (1, 1)', '"lam": (0, 0)'),
        Fault("phi forgotten", "SquaresBehind(self.rows, self.phi)",
              "SquaresBehind(self.rows, __import__('cvxinv').Identity())"),
    ),
}  # fmt: skip
# of a file that has no list of its own: what of these it holds
USUAL = (
    Fault("bias dropped from the statement", " + s.b_on", ""),
    Fault("bias of off rows dropped from the statement", " + s.b_off", ""),
    Fault("factor 2 in the statement", "@ h + s.b_on - s.y_on)) / 2", "@ h + s.b_on - s.y_on))"),
    Fault("weight dropped from the statement", "s.weight_on**0.5", "1"),
    Fault("off rows turned in the statement", "s.b_off <= 0", "s.b_off >= 0"),
    Fault("lam not normalised", '"lam": (', '"lam": (1 + '),
    Fault("gamma not normalised", '"gamma": (', '"gamma": (1 + '),
    Fault("eps not normalised", '"eps": (1,', '"eps": (0,'),
    Fault("half of lam", "lam=self.lam", 'lam=self.number("lam") / 2'),
    Fault("half of gamma", "gamma=self.gamma", 'gamma=self.number("gamma") / 2'),
    Fault("twice eps", 'self.number("eps"))', '2 * self.number("eps"))'),
)


@cache
def source(name):
    return (LAYERS / f"{name}.py").read_text()


FILES = sorted({path.stem for path in LAYERS.glob("*.py")} - {"__init__"})
PLANNED = {name: FAULTS.get(name, tuple(fault for fault in USUAL if fault.old in source(name))) for name in FILES}
PLANTED = [pytest.param(name, fault, id=f"{name}-{fault.what}") for name in FILES for fault in PLANNED[name]]


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
    if set(planted) & set(NORMALISED):
        return check_normalised(*planted.items())
    hands, drawn = [], []
    for name, kind in planted.items():
        worked, random = planted_cases(name, kind)
        hands, drawn = hands + worked, drawn + random
    run_stages(drawn)
    run_stages([case for case, _ in hands])
    for case, instance in hands:
        checks.check_hand_answer(case, instance, gallery.problem(case.name).transcription)


NORMALISED = {"normalised_lasso": "lasso", "normalised_basis_pursuit": "basis_pursuit_l2"}


def check_normalised(named):
    """The checks that these two share with all others, on what `test_normalised` has."""
    name, kind = named
    for case in [c.as_kind(kind) for c in test_normalised.CASES if c.name == NORMALISED[name] and c.label in CHOSEN]:
        checks.check_statement(case)
        checks.check_reference(case)
        checks.check_bound(case)
        checks.check_slack(case)
        test_normalised.check_stays(case)
        checks.check_fast(case)


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
    assert set(FAULTS) <= set(FILES) and all(len(faults) >= 3 for faults in PLANNED.values())
    shared_by = {"misfits", "penalties", "repairs", "problem", "units", "curved"}
    assert shared_by == {fault.place for fault in SHARED} and len(SHARED) >= 80
    public = {name: getattr(ci, name) for name in ci.__all__ if not name.startswith("Abstract")}
    # of layers/; those of other rooms have checks of their own (test_multi_layer_checks)
    here = (kind for kind in public.values() if isinstance(kind, type) and kind.__module__.startswith("cvxinv.layers."))
    known = {snake(kind.__name__) for kind in here if issubclass(kind, AbstractLayerProblem)}
    assert known == {kind for name in FILES for kind in classes_from(name, source(name))}


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_unchanged_files_pass(name):
    run_checks(classes_from(name, source(name)))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_every_planted_fault_is_caught(name, fault):
    planted = plant(name, fault)
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        run_checks(planted)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=f"{fault.place}-{fault.names[0]}-{fault.what}") for fault in SHARED]
)
def test_every_fault_in_a_shared_piece_is_caught(fault, monkeypatch):
    spoil(monkeypatch, fault.module, fault.old, fault.new)
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        for name in fault.names:
            run_checks({name: cases.kind_of(name)})
