"""The six checks on multi-layer pursuits, on instances worked by hand and on random chains; and faults planted in them.

The checks of `checks` are taken where they say something of a chain. Planted faults meet the cheap ones alone, none of which
asks CLARABEL; what is planted is edited source, and a pattern that is not found fails.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import checks
import gallery
import numpy as np
import pytest
import torch
from planting import spoil

import cvxinv as ci
from cvxinv.layers.core import squares_and_lengths
from cvxinv.solvers.first_order.graph_admm import GraphADMM
from cvxinv.solvers.loop import without_dust
from cvxinv.solvers.newton import layered, layered_equations
from cvxinv.solvers.shared import shared_layered
from cvxinv.sparse_models import cascade, multi_layer_ista, multi_layer_pursuit

F64 = torch.float64
page = gallery.load(Path(__file__).resolve().parent.parent / "problems" / "sparse" / "multi_layer_instances.py")


@dataclass(frozen=True, eq=False)
class Chain:
    """A batch by its numbers, of which the problem is made when it is asked for; h = 0 is always feasible."""

    label: str
    D: tuple[ci.AbstractMap, ...]
    y: torch.Tensor
    lam: tuple
    seen: torch.Tensor | None = None
    nonnegative: bool = False

    def __repr__(self) -> str:
        return self.label

    @cached_property
    def problem(self):
        return multi_layer_pursuit.multi_layer_pursuit(
            self.D, self.y, self.lam, seen=self.seen, nonnegative=self.nonnegative
        )

    @property
    def rows(self):
        return self.problem.rows

    @property
    def feasible(self) -> torch.Tensor:
        return torch.zeros(self.problem.N, self.problem.n, dtype=F64)

    @cached_property
    def reference(self) -> ci.Solution:
        return ci.solve(self.problem, "CLARABEL", on_fail="ignore")

    @cached_property
    def auto(self) -> ci.Solution:
        return ci.solve(self.problem, on_fail="ignore")


def worked(one) -> Chain:
    D = tuple(ci.Dense(torch.as_tensor(M)) for M in one.D)
    y, seen = torch.as_tensor(one.y)[None], torch.as_tensor(one.seen)[None]
    return Chain(one.name, D, y, one.lam, seen, one.nonnegative)


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def random_chains() -> tuple[Chain, ...]:
    """Of any sign and masked, with a weight for each signal; three layers; g_i >= 0; convolutional."""
    three = tuple(ci.Dense(drawn(m, n, seed=m) / m**0.5) for m, n in pairwise((14, 20, 16, 12)))
    positive = tuple(ci.Dense(D.weight.abs()) for D in three[:2])
    kernels = (drawn(4, 1, 2, 2, seed=5) / 2, drawn(6, 4, 3, 3, seed=6) / 5)
    convolutional = tuple(
        ci.ConvTranspose2d(k, place, (2, 2)) for k, place in zip(kernels, ((4, 5, 5), (6, 2, 2)), strict=True)
    )
    y, each = drawn(2, 14, seed=1), torch.tensor([0.05, 0.2], dtype=F64)
    return (
        Chain("masked", three[:2], y, (0.05, each), seen=drawn(2, 14, seed=2) > -0.6),
        Chain("three", three, y, (0.02, 0.03, 0.05)),
        Chain("nonnegative", positive, y.abs(), (0.05, each), nonnegative=True),
        Chain("convolutional", convolutional, drawn(2, 100, seed=3), (0.05, 0.1)),
    )


# --- 1: statement and certificate -----------------------------------------------------------------


def equation(case: Chain, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The objective and the largest violation at h, from the dictionaries one by one; of h >= 0 the length is the sum."""
    g, cost = [h], case.lam[-1] * (h if case.nonnegative else h.abs()).sum(1)
    for D, lam in zip(case.D[:0:-1], case.lam[-2::-1], strict=True):
        g.append(g[-1] @ D.matrix().T)
        cost = cost + lam * g[-1].abs().sum(1)
    missed = g[-1] @ case.D[0].matrix().T - case.y
    missed = missed if case.seen is None else torch.where(case.seen, missed, 0.0)
    below = torch.stack([(-x).amax(1).clamp(min=0) for x in g]).amax(0)
    return cost + missed.square().sum(1) / 2, below if case.nonnegative else 0 * below


def points_of(case: Chain) -> list[torch.Tensor]:
    return [t * drawn(case.problem.N, case.problem.n, seed=7) for t in (0.0, 0.1, 1.0, 30.0)]


def check_cascade(case: Chain) -> None:
    """Blocks, adjoint and multiples of all products in one map."""
    W, h = cascade.Cascade(case.D), drawn(2, case.D[-1].n, seed=4)
    blocks = [h]
    for D in reversed(case.D):
        blocks.insert(0, blocks[0] @ D.matrix().T)
    v, p = torch.cat(blocks[:-1], 1), drawn(2, W.m, seed=5)
    assert torch.allclose(W(h), v, atol=1e-12) and torch.allclose(W.scaled(2.0)(h), 2 * v, atol=1e-12)
    assert torch.allclose((W.adjoint(p) * h).sum(1), (p * v).sum(1), atol=1e-10)


def check_objective(case: Chain) -> None:
    for h in points_of(case):
        f, beyond = equation(case, h)
        assert torch.allclose(case.problem.objective(h), f, rtol=1e-12, atol=1e-12)
        assert torch.allclose(case.problem.violation(h), beyond, rtol=1e-12, atol=1e-12)


def check_statement(case: Chain) -> None:
    """With h and the products put in, CVXPY says the objective and the violation."""
    for h in points_of(case):
        f, beyond = equation(case, h)
        for i in range(case.problem.N):
            stated = case.problem.statement(case.rows.sample(i), i)
            stated.h.value = h[i].numpy()
            for variable in stated.problem.variables():
                if variable.id != stated.h.id:
                    variable.value = case.rows.W(h[i : i + 1])[0, case.problem.widths[0] :].numpy()
            assert float(stated.problem.objective.value) == pytest.approx(float(f[i]), rel=1e-11, abs=1e-12)
            excess = max([0.0, *(float(np.max(c.violation(), initial=0.0)) for c in stated.problem.constraints)])
            assert excess == pytest.approx(float(beyond[i]), rel=1e-11, abs=1e-12)


# --- cheap forms of 2 to 6, for planted faults ------------------------------------------------------


def check_duals(case: Chain) -> None:
    """No p, however bad, gives a bound above what feasible points cost."""
    problem, N = case.problem, case.problem.N
    best = torch.minimum(equation(case, case.feasible)[0], equation(case, case.auto.h)[0])
    p, misfit = case.auto.p, problem.misfit
    clipped = misfit.clipped(9 * drawn(*p.shape, seed=12))
    size = torch.where(misfit.priced_rows, misfit.price, torch.inf * problem.rows.on).nan_to_num(nan=0.0, posinf=torch.inf)
    assert ((clipped if case.nonnegative else clipped.abs()) <= size).all(), "p beyond its prices, or on rows of no data"
    unit = 1 + p.abs().amax()
    for seed in range(4):
        noise = drawn(*p.shape, seed=seed)
        for q in (p, p + 1e-2 * unit * noise, noise, 10 * unit * noise, 2 * p, -p, 1e6 * noise.sign(), noise * p):
            bound = problem.dual(q)
            assert torch.isfinite(bound).all() and (bound <= best * (1 + 1e-9) + 1e-12).all(), bound - best
            unmet = problem.unmet(q)
            for h in (case.auto.h, case.feasible):
                floor = unmet.value + (unmet.short * h).sum(1) - (unmet.doubt * h.abs()).sum(1)
                assert (floor <= equation(case, h)[0] * (1 + 1e-9) + 1e-9 * unmet.value.abs() + 1e-12).all()
    assert (problem.dual(torch.full((N, case.rows.m), torch.nan, dtype=F64)) <= best).all()


def check_answer(case: Chain) -> None:
    """What `solve` calls optimal; h alone too; certified by p of the point as it is."""
    found = case.auto
    assert found.certificate.holds.all(), found
    assert torch.allclose(found.certificate.objective, equation(case, found.h)[0], rtol=1e-12, atol=1e-12)
    assert ci.certify(case.problem, found.h).holds.all()
    again = ci.solve(case.problem, "graph_admm", polish=False, on_fail="ignore")
    assert not case.problem.nonnegative or (found.h >= 0).all()
    apart = (again.certificate.objective - found.certificate.objective).abs()
    assert (apart <= 3e-6 * (1 + found.certificate.objective)).all() and again.certificate.holds.all()


def check_prox(case: Chain) -> None:
    """argmin_u F(u) + rho/2 |u - v|^2 is no worse than its neighbours."""
    misfit, v = case.problem.misfit, drawn(case.problem.N, case.rows.m, seed=9)
    rho = torch.tensor([[0.3], [2.0]], dtype=F64)[: case.problem.N]
    u = misfit.prox(v, rho)
    none = torch.zeros_like(case.feasible)

    def cost(x):
        beyond = torch.where(misfit.priced_rows & (x < 0), torch.inf, 0.0).sum(1) if misfit.nonnegative else 0.0
        return misfit.value(none, x) + beyond + (rho * (x - v).square()).sum(1) / 2

    for seed in range(6):
        for size in (1e-1, 1e-3):
            near = u + size * drawn(*u.shape, seed=seed) * (drawn(*u.shape, seed=seed + 50) > 1)
            assert (cost(u) <= cost(near) + 1e-12).all()
    assert torch.isfinite(cost(u)).all()


def check_units(case: Chain) -> None:
    """The same problem in other units has the same answer, and so has what `solve` normalises."""
    c = 1e-3
    smaller = replace(case, y=c * case.y, lam=tuple(c * lam for lam in case.lam))
    assert torch.allclose(equation(case, case.auto.h)[0] * c * c, smaller.auto.certificate.objective, rtol=1e-6)
    rows = torch.where(torch.arange(case.D[-1].m) % 3 == 0, 1e-7, 1.0).to(F64)  # rows that are stretched to be normalised
    D = (*case.D[:-1], ci.Dense(rows[:, None] * case.D[-1].matrix()))
    for one in (case, replace(case, label="uneven", D=D)):
        scaled = one.problem.normalised()
        h = drawn(one.problem.N, one.problem.n, seed=11).abs()
        factor = equation(one, h)[0] / scaled.problem.objective(h / scaled.h_unit)
        other = equation(one, 2 * h)[0] / scaled.problem.objective(2 * h / scaled.h_unit)
        assert torch.allclose(factor, other, rtol=1e-9)


def check_stays(case: Chain) -> None:
    """Started at the optimum, no first-order method leaves it, and the polish neither."""
    scaled = case.problem.normalised()
    problem, start = scaled.problem, ci.Point(case.auto.h / scaled.h_unit, case.auto.p / scaled.p_unit)
    for make in (checks.graph_admm_at, checks.pdhg_at):
        checks.stays(make(problem, *start), *start, 30, 1e-8)
    checks.repeated(problem, start, layered.polish)


def check_polish(case: Chain, iterations: int) -> None:
    """From some iterations of ADMM one polish comes to the exact point of every signal."""
    problem = case.problem.normalised().problem
    method = GraphADMM().start(problem)
    method.advance(iterations)
    for rounds in (2, 1):
        found = ci.certify(problem, without_dust(layered.polish(problem, method.point(), rounds)))
        assert found.holds.all() and (found.gap <= 1e-9 * found.objective.abs() + 1e-12).all(), found


def check_iteration(case: Chain) -> None:
    """The iteration of the opening comes to rest at the optimum, whatever its rounds make of it; and these are exact."""
    scaled = case.problem.normalised()
    problem = scaled.problem
    if shared_layered.SharedLayered.refuses(problem) is not None:
        problem = scaled.problem.take(slice(0, 1))
    method, best = shared_layered.SharedLayered().start(problem), case.auto.h[: problem.N] / scaled.h_unit[: problem.N]
    for _ in range(3):
        method.advance(400)
    h = ((method.t - method.y) / method.rho)[:, -problem.n :].double()
    assert torch.allclose(h, best, atol=1e-3 * float(best.abs().amax()) + 1e-6), (h, best)
    E, y = method.equations, method.guess().y
    assert torch.allclose(E.drawn_by(h, y[:, : E.l]), y[:, E.l :], atol=2e-3 * float(E.limits.amax())), "not stationary"
    found = ci.certify(problem, without_dust(method.point()))
    assert method.done(1e-6).all() and found.holds.all() and (found.gap <= 1e-9 * found.objective + 1e-12).all(), found


def check_rounds(case: Chain) -> None:
    """The optimum's activity has the optimum as its point, and stays; whoever is on the wrong side changes it."""
    scaled = case.problem.normalised()
    problem, point = scaled.problem, ci.Point(case.auto.h / scaled.h_unit, case.auto.p / scaled.p_unit)
    E = layered_equations.Equations.of(problem)
    right, everyone, c = E.activity(ci.Point(point.h, problem.misfit.clipped(point.p))), torch.arange(E.N), E.limits
    h, x, y = layered_equations.solved(E, right, layered_equations.EXACT)
    same, changed = layered_equations.moved(E, right, x, y)
    assert not changed.any() and torch.equal(same.free, right.free)
    assert torch.allclose(h, point.h, atol=1e-9) and torch.allclose(E.point(problem, h, y).p, point.p, atol=1e-6)
    lost = replace(E, drawn=torch.nan * E.drawn)
    assert len(layered.settled(lost, right)[0]) == 0, "no number fits"
    held, zero = right.free.clone(), ~right.free & (c > 0)
    held[:, : E.l] = False
    if not bool(held.any(1).all() and zero[:, : E.l].any(1).all()):
        return
    j, turned = x.abs().mul(held).argmax(1), x.clone()
    turned[everyone, j] *= -1
    after, changed = layered_equations.moved(E, right, turned, y)
    assert not after.free[everyone, j].any() and changed.all(), "a wrong sign leaves"
    for k in (j, zero[:, : E.l].to(F64).argmax(1)):
        free, over = right.free.clone(), y.clone()
        free[everyone, k], over[everyone, k] = False, 1.5 * c[everyone, k]
        after, changed = layered_equations.moved(E, replace(right, free=free), x, over)
        assert after.free[everyone, k].all() and changed.all(), "a multiplier beyond its limit enters"
        assert torch.equal(after.y[everyone, k], c[everyone, k]), "and stops there"
    rows = right.free & (x.abs() > 1e-6) & (c > 0)
    after, changed = layered_equations.moved(E, right, -x, y)
    assert not after.free[rows].any() and changed[rows.any(1)].all(), "rows of the wrong sign become 0"


def check_hand(case: Chain, one) -> None:
    """The value and the point that were worked out; of two, that of the statement too."""
    if one.name in ("row_at_its_kink", "shut_by_a_sign"):
        value = case.problem.statement(case.rows.sample(0), 0).problem.solve(**page.TIGHT)
        assert value == pytest.approx(one.value, rel=1e-7)
    answer = torch.as_tensor(one.answer)[None]
    assert float(case.problem.objective(answer)) == pytest.approx(one.value, rel=1e-12)
    assert float(case.auto.certificate.objective) == pytest.approx(one.value, rel=1e-6)
    assert not one.unique or torch.allclose(case.auto.h, answer, atol=1e-5), case.auto.h
    assert float(case.problem.dual(case.auto.p)) <= one.value * (1 + 1e-12)
    # with lam_L = 0 p is brought to W'p = 0 first, which is the certificate's work
    bound = case.auto.certificate.bound if one.lam[-1] == 0 else case.problem.dual(case.auto.p)
    assert float(bound) == pytest.approx(one.value, rel=1e-6)


# --- the six, in full -------------------------------------------------------------------------------


CASES = [*((worked(one), one) for one in page.INSTANCES), *((case, None) for case in random_chains())]


@pytest.mark.parametrize(("case", "one"), CASES, ids=[repr(case) for case, _ in CASES])
def test_multi_layer_pursuits_pass_the_six_checks(case: Chain, one):
    check_objective(case)
    check_statement(case)
    checks.check_bound(case)
    check_duals(case)
    checks.check_reference(case)
    checks.check_fixed_points(case)
    check_stays(case)
    for solver in checks.fast(case.problem):
        checks.check_fast(case, solver, must=solver != "pdhg" or case.label != "nonnegative")
    checks.check_fast(case)
    if one is not None:
        value, h = page.transcription(one)
        assert value == pytest.approx(one.value, rel=1e-8) and (not one.unique or np.allclose(h, one.answer, atol=1e-5))
        assert float(case.reference.certificate.objective) == pytest.approx(one.value, rel=1e-6)
        check_hand(case, one)


def test_every_worked_instance_shows_its_working():
    assert len(page.INSTANCES) >= 10 and {len(one.D) for one in page.INSTANCES} == {1, 2, 3}
    assert all(made.__doc__ and made.__name__ == one.name for made, one in zip(page.WORKED, page.INSTANCES, strict=True))


# --- planted faults -----------------------------------------------------------------------------------


def ista_chains() -> tuple[Chain, ...]:
    """Signals with more entries than unknowns, on which ML-ISTA comes to rest soon; a D_1 that is no isometry."""
    D = tuple(ci.Dense(drawn(m, n, seed=m) / m**0.5) for m, n in pairwise((24, 16, 10, 6)))
    positive = tuple(ci.Dense(W.weight.abs()) for W in D[:2])
    y = drawn(2, 24, seed=1)
    seen = drawn(2, 24, seed=2) > -1
    return (
        Chain("three", D, y, (0.1, 0.05, 0.1), seen=seen),
        Chain("nonnegative", positive, y.abs(), (0.1, 0.1), nonnegative=True),
    )


def by_hand_pass(case: Chain, w: torch.Tensor, steps: tuple[float, ...]) -> list[torch.Tensor]:
    """One pass as the equation has it, layer by layer."""
    gh = [w]
    for D in case.D[:0:-1]:
        gh.insert(0, gh[0] @ D.matrix().T)
    before, found, s = case.y, [], 1.0
    for i, (D, h, total, lam) in enumerate(zip(case.D, gh, steps, case.lam, strict=True)):
        mu, s = total / s, total
        missed = h @ D.matrix().T - before
        missed = torch.where(case.seen, missed, 0.0) if i == 0 and case.seen is not None else missed
        a = h - mu * missed @ D.matrix()
        before = (a - s * lam).clamp(min=0) if case.nonnegative else a.sign() * (a.abs() - s * lam).clamp(min=0)
        found.append(before)
    return found


def check_ista(case: Chain) -> None:
    """Passes, steps, momentum, what a fixed point proves, and that a run says where it stands."""
    problem, ista = case.problem, multi_layer_ista
    steps = ista.safe_steps(problem.dictionaries, 0.5)
    modulus = 1.0
    for i, (D, s) in enumerate(zip(case.D, steps, strict=True)):
        largest = modulus / float(torch.linalg.matrix_norm(D.matrix(), 2)) ** 2
        share = s / largest
        assert (0.99 if i == len(steps) - 1 else 0.495) < share <= (1 if i == len(steps) - 1 else 0.5), share
        modulus = s * (4 * largest - s) / (4 * largest)
    w = drawn(problem.N, problem.n, seed=3) / 3
    found = ista.one_pass(problem, w, steps)
    for mine, theirs in zip(by_hand_pass(case, w, steps), found.representations, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)
    optimum = case.auto.certificate.objective
    run = ista.ml_ista(problem, momentum=True, max_iter=4000, still=1e-7)
    assert run.settled.all() and (run.moved <= 1e-7).all() and (run.iterations < 4000).all(), run
    at = by_hand_pass(case, run.h, ista.safe_steps(problem.dictionaries))
    assert torch.allclose(at[-1], run.h, atol=1e-5), "no fixed point"
    excess = run.certificate.objective - optimum
    assert (excess <= run.certificate.gap + 1e-9).all()
    if not case.nonnegative:
        assert torch.allclose(run.certificate.gap, run.bias, rtol=1e-3, atol=1e-6), (run.certificate.gap, run.bias)
        assert (excess > 1e-3).any(), "these fixed points are not optima"
    few = ista.ml_ista(problem, max_iter=3)
    assert not few.settled.any() and (few.iterations == 3).all() and (few.moved > 1e-4).all()
    slow, fast = (ista.ml_ista(problem, momentum=momentum, max_iter=60).moved.max() for momentum in (False, True))
    assert slow != fast, "momentum changes nothing"


def run_cheap() -> None:
    names = "three_layers hidden_entry row_at_its_kink row_at_its_limit shut_by_a_sign masked nonnegative convolutional"
    # copies have the numbers without a problem or an answer: maps that were made before a fault would not have it
    some = [(replace(case), one) for case, one in CASES if case.label in names.split()]
    for case, _ in some[-3:]:
        check_cascade(case)
    for case, _ in some:
        check_objective(case)
    for case, _ in some[-3:]:
        check_statement(case)
        check_prox(case)
    for case, one in some:
        if one is not None:
            check_hand(case, one)
    for case, _ in some[-3:]:
        check_answer(case)
        check_duals(case)
        check_stays(case)
        check_units(case)


def run_ista() -> None:
    for case in ista_chains():
        check_ista(case)


def hard() -> tuple[Chain, ...]:
    """Signals that need small penalties for long: quick rounds leave some, and those without a small r leave most."""
    D = tuple(ci.Dense(drawn(m, n, seed=m) / m**0.5) for m, n in pairwise((20, 28, 24, 16)))
    signed = Chain("hard", D, drawn(24, 20, seed=8), (0.03, 0.05, 0.1))
    return (signed, replace(signed, label="hard, nonnegative", y=signed.y.abs(), nonnegative=True))


def run_polish() -> None:
    chains = random_chains()
    # after so many iterations of ADMM one call must do
    for case, iterations in zip(chains, (120, 200, 120, 40), strict=True):
        check_polish(case, iterations)
    for case in hard():
        check_polish(case, 50)
    for case in (*chains, *(worked(one) for one in page.INSTANCES if one.name in ("dear", "shut_by_a_sign"))):
        check_rounds(case)
        check_iteration(case)


PURSUIT, MISFIT, CASCADE, ISTA, POLISH, EQUATIONS, OPENING = (
    module.__name__
    for module in (
        multi_layer_pursuit, squares_and_lengths, cascade, multi_layer_ista, layered, layered_equations, shared_layered,
    )
)  # fmt: skip
CHEAP = {
    PURSUIT: (
        ("half of lam", "Penalty.of(self, lam=self.lam)", 'Penalty.of(self, lam=self.number("lam") / 2)'),
        ("lam not normalised", 'units.number(self.number("lam"), 1, 1)', 'self.number("lam")'),
        ("analysis prices not normalised", "self.analysis / units.data[:, None]", "self.analysis"),
        ("prices in the wrong order", "zip(self.analysis.T, self.widths[1:], strict=True)",
         "zip(self.analysis.T.flip(0), self.widths[1:], strict=True)"),
        ("prices of stretched rows", "price / self.rows.stretch", "price * self.rows.stretch"),
        ("factor 2 in the statement", "@ h + s.b_on - s.y_on)) / 2", "@ h + s.b_on - s.y_on))"),
        ("no prices in the statement", "objective += cp.norm(cp.multiply(prices[deeper], g), 1)", "pass"),
        ("no chain in the statement", "constraints += [chain, g >= 0] if self.nonnegative else [chain]",
         "constraints += [g >= 0] if self.nonnegative else []"),
        ("no signs in the statement", "[chain, g >= 0] if self.nonnegative", "[chain] if self.nonnegative"),
        ("h >= 0 dropped from the statement", "constraints = [h >= 0] if self.nonnegative else []", "constraints = []"),
        ("mask forgotten", "_rows(W, y, read_seen(seen, y))", "_rows(W, y, read_seen(None, y))"),
        ("sign dropped", "NonnegativeMultiLayerPursuit if nonnegative else MultiLayerPursuit", "MultiLayerPursuit"),
        ("p of settled rows turned", "misfit.price * v.sign()", "-misfit.price * v.sign()"),
        ("p of h alone without the residual", "p = rows.fit * rows.residual(h, v)", "p = 0 * rows.fit"),
    ),
    MISFIT: (
        ("factor 2 in the objective", "(self.rows.fit * r * r).sum(1) / 2", "(self.rows.fit * r * r).sum(1)"),
        ("1'v in place of |v|_1", "(self.price * v.abs()).sum(1)\n\n    @cached", "(self.price * v).sum(1)\n\n    @cached"),
        ("signs of rows not asked for", "(self.limits[0] - self.rows.W(h) - self.rows.b).amax(1).clamp(min=0)",
         "torch.zeros_like(h[:, 0])"),
        ("p of priced rows not clipped", "return torch.where(self.priced_rows, priced, p)", "return p"),
        ("p clipped to twice its price", "torch.minimum(p, self.price)", "torch.minimum(p, 2 * self.price)"),
        ("p clipped from below where it is free", "-torch.inf if self.nonnegative else -self.price", "-self.price"),
        ("p free from below", "-torch.inf if self.nonnegative else -self.price", "-torch.inf"),
        ("unseen rows left in p", "torch.where(self.rows.on | self.priced_rows, p, torch.zeros_like(p))", "p"),
        ("sign of the data in the dual", "torch.where(rows.on, -rows.target,", "torch.where(rows.on, rows.target,"),
        ("square of the dual dropped", "torch.where(rows.on, p * p / rows.weight, torch.zeros_like(p)).sum(1)",
         "0 * p.sum(1)"),
        ("prox without rho", "self.price / rho", "self.price"),
        ("prox of the squares without rho", "(rows.fit * rows.y + rho * v) / (rows.fit + rho)",
         "(rows.fit * rows.y + v) / (rows.fit + 1)"),
        ("prox of one sign", "v.sign() * (v.abs() - less).clamp(min=0)", "(v - less).clamp(min=0)"),
        ("prox without clamp", "(v - less).clamp(min=0) if self.nonnegative", "(v - less) if self.nonnegative"),
        ("priced rows in prox fitted", "torch.where(self.priced_rows, short, fitted)", "fitted"),
    ),
    CASCADE: (
        ("blocks in the wrong order", "torch.cat(blocks[::-1], 1)", "torch.cat(blocks, 1)"),
        ("one map applied twice", "h = D(h)\n            blocks.append(h)", "blocks.append(D(h))\n            h = 2 * D(h)"),
        ("blocks forgotten in the adjoint", "back = D.adjoint(back + block)", "back = D.adjoint(back)"),
        ("sign in the adjoint", "D.adjoint(back + block)", "D.adjoint(back - block)"),
        ("first block forgotten in the adjoint", "= self.maps[0].adjoint(first)", "= 0 * self.maps[0].adjoint(first)"),
        ("all maps scaled", "Cascade((*self.maps[:-1], self.maps[-1].scaled(factor)))",
         "Cascade(tuple(D.scaled(factor) for D in self.maps))"),
    ),
}  # fmt: skip
ISTAS = (
    ("threshold without the step", "argument, threshold = gh - s * back, s * lam[:, None]",
     "argument, threshold = gh - s * back, lam[:, None]"),
    ("sign of the step", "gh - s * back,", "gh + s * back,"),
    ("the residual of the layer before", "v = (gh - g) / s", "v = gh - g"),
    ("data unmasked", "v = on * (signal - y)", "v = signal - y"),
    ("shrinkage of one sign", "g = argument.sign() * (argument.abs() - threshold).clamp(min=0)",
     "g = (argument - threshold).clamp(min=0)"),
    ("no signs", "g = (argument - threshold).clamp(min=0)", "g = argument - threshold"),
    ("sign of p", "p = v - back", "p = back - v"),
    ("bias without the lengths", "lam[:, None] * (gh.abs() - g.abs()) - s * p * v", "- s * p * v"),
    ("bias without the product", "lam[:, None] * (gh.abs() - g.abs()) - s * p * v", "lam[:, None] * (gh.abs() - g.abs())"),
    ("steps too long", "largest = modulus / (1.001 * norm) ** 2", "largest = 4 * modulus / (1.001 * norm) ** 2"),
    ("modulus not passed on", "modulus = s * (4 * largest - s) / (4 * largest)", "modulus = 1.0"),
    ("mu on the deepest layer", "s = largest if i == len(dictionaries) else mu * largest", "s = mu * largest"),
    ("every signal called settled", "(moved <= still).cpu()", "(moved <= 1.0).cpu()"),
    ("nothing moves", "return (g - w).norm(dim=1) / torch.where", "return 0 * (g - w).norm(dim=1) / torch.where"),
)  # fmt: skip
POLISHES = {
    POLISH: (
        ("no small penalties", "if r <= last:", "if False:"),
        ("no careful rounds", "found.run(guess, *_CAREFUL, rounds)", "pass"),
        ("whatever comes of it fits", "fit = ~changed & torch.isfinite(y).all(1)", "fit = torch.isfinite(y).all(1)"),
        ("nothing is kept", "self.h[done], self.y[done], self.fits[done] =", "_, self.y[done], self.fits[done] ="),
    ),
    EQUATIONS: (
        ("sign of lam", "alpha=-1) - guess.y[:, l:]", "alpha=-1) + guess.y[:, l:]"),
        ("prices of rows dropped", "guess.y[:, :l], V, alpha=-1) - guess", "guess.y[:, :l], V, alpha=0) - guess"),
        ("rows of Z not held at 0", "H = torch.baddbmm(G, V.mT, V, alpha=r)", "H, V = G, 0 * V"),
        ("multipliers left at their start", "u = u + r * (V @ x + b)", "pass"),
        ("multipliers begin anywhere", "(y, Z))", "(y + 9, Z))"),
        ("columns of others", "(n + 1) * A[:, :, None] + A[:, None, :]", "(n + 1) * A[:, :, None] + 0 * A[:, None, :]"),
        ("nobody changes sides", "Activity(free ^ wrong, kept)", "Activity(free, kept)"),
        ("nobody enters", "Activity(free ^ wrong, kept)", "Activity(free & ~wrong, kept)"),
        ("nobody leaves", "Activity(free ^ wrong, kept)", "Activity(free | wrong, kept)"),
        ("all fits", "wrong.any(1)", "0 * wrong.any(1) > 0"),
        ("multipliers not stopped at their limits", "guess.y, problem.clipped(y))", "guess.y, y)"),
        ("rows that unknowns move left out", "problem.pattern.T > 0)", "problem.pattern.T > 1)"),
        ("rows of any sign taken for >= 0", "(W >= 0).all(1)", "(W >= -99).all(1)"),
        ("what rows >= 0 are worth forgotten", "drawn - (misfit.price * anyway) @ W", "drawn"),
        ("residual of p turned", "rows.fit * (h @ rows.W", "-rows.fit * (h @ rows.W"),
    ),
    OPENING: (
        ("no mirror", "torch.sub(t, y, alpha=2, out=g)", "torch.sub(t, y, alpha=1, out=g)"),
        ("step without rho", "step = _RELAX * self.rho /", "step = _RELAX /"),
        ("step without curvature", "/ (self.curvature + self.rho)\n        drawn", "/ self.rho\n        drawn"),
        ("no over-relaxation of the rest", "t.lerp_(y, _RELAX)", "t.lerp_(y, 1.0)"),
        ("prices of longer rows", "self.limits[:, : part.l] /= self.w", "self.limits[:, : part.l] *= self.w"),
        ("multipliers of longer rows", "y[:, : part.l] *= self.w", "y[:, : part.l] /= self.w"),
        ("a basis that is none", "basis = inverse.T @ Q", "basis = inverse.T"),
    ),
}  # fmt: skip
PLANTED = [
    pytest.param(run, module, fault, id=f"{module.split('.')[-1]}-{fault[0]}")
    for run, faults in ((run_cheap, CHEAP), (run_ista, {ISTA: ISTAS}), (run_polish, POLISHES))
    for module, some in faults.items()
    for fault in some
]


def test_what_meets_planted_faults_passes_as_it_is():
    run_cheap()
    run_ista()
    run_polish()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(("run", "module", "fault"), PLANTED)
def test_every_fault_planted_in_a_multi_layer_pursuit_is_caught(run, module, fault, monkeypatch):
    _, old, new = fault
    spoil(monkeypatch, module, old, new)
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        run()
