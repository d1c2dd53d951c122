"""Block pivoting: its equations, its path out of circles, its precisions, and its two ways of solving a batch."""

from dataclasses import replace

import cases
import numpy as np
import pytest
import torch
from layer_cases import Case, lasso, latent, random_layer, trained_layer
from measuring import kkt

import cvxinv as ci
from cvxinv.layers.core.problem import AbstractLayerProblem
from cvxinv.solvers.active_set import guesses, pivoting
from cvxinv.solvers.active_set.first_guess import first_guess
from cvxinv.solvers.active_set.guesses import LazyGrams, equations, on_grams
from cvxinv.solvers.active_set.pivoting import BlockPivoting

ROUNDS = 100
GAUSSIAN = Case("", "", random_layer(100, 50, 40, before=8, relu=True), lasso, ())
POWER = Case("", "", random_layer(150, 60, 40, before=12, relu=True, power_law=True), lasso, ())
LATENT = Case("", "", random_layer(64, 12, 40, before=0, relu=True), latent, ())


def small(case: Case) -> AbstractLayerProblem:
    return case.make().normalised().problem


def with_bad_signals(problem: AbstractLayerProblem) -> AbstractLayerProblem:
    """The same with a signal that shows nothing, one whose rows are all off, and one without off rows."""
    rows = problem.rows
    on, off, y = rows.on.clone(), rows.off.clone(), rows.y.clone()
    on[0], off[0] = False, False
    on[1], off[1] = False, True
    on[2], off[2], y[2] = True, False, rows.W(torch.ones(1, rows.n, dtype=y.dtype))[0]
    return replace(problem, rows=replace(rows, on=on, off=off, y=y, weight=torch.ones_like(y)))


def pivoted(problem: AbstractLayerProblem, rounds: int = ROUNDS) -> BlockPivoting:
    method = BlockPivoting().start(problem)
    method.advance(rounds)
    return method


# --- the equations --------------------------------------------------------------------------------


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("regular", [0.0, 0.3])
def test_a_guess_solves_its_equations(padded: bool, regular: float, monkeypatch):
    """On A, H h + W_I'mu + ridge h = right; on I, W h - slack mu = gap; 0 elsewhere; also where A or I is empty."""
    monkeypatch.setattr(guesses, "PADDED_UP_TO", 1000 if padded else 0)
    problem = small(GAUSSIAN).take(torch.arange(6))
    rows, draw = problem.rows, cases.seeded(1)
    M, G = rows.W.matrix(), rows.gram()
    free = torch.rand(6, 50, generator=draw) < 0.5
    tight = rows.off & (torch.rand(6, 100, generator=draw) < 0.1)
    free[0], tight[1], free[2], tight[2] = False, False, True, False
    tight[0] &= regular > 0  # rows without an unknown have no equation
    ridge = torch.full((6,), regular, dtype=torch.float64)
    right, gap = cases.normal(6, 50, draw=draw), cases.normal(6, 100, draw=draw)
    system = equations(on_grams(rows), M, torch.arange(6), free, tight, ridge, ridge)
    assert system.sound.all()
    h, mu = system.solve(right, gap)
    assert (h[~free] == 0).all() and (mu[~tight] == 0).all()
    first = (G @ h[..., None])[..., 0] + mu @ M + regular * h - right
    second = h @ M.T - regular * mu - gap
    assert float((first * free).abs().max()) < 1e-9 and float((second * tight).abs().max()) < 1e-9
    which = torch.arange(6) % 2 == 0
    part, _ = system.solve(right, gap, which)
    assert torch.equal(part, torch.where(which[:, None], h, 0.0))


@pytest.mark.parametrize("padded", [False, True])
def test_equations_that_are_not_definite_are_unsound(padded: bool, monkeypatch):
    monkeypatch.setattr(guesses, "PADDED_UP_TO", 1000 if padded else 0)
    problem = small(GAUSSIAN).take(torch.arange(3))
    rows = replace(problem.rows, on=problem.rows.on & (torch.arange(3) != 1)[:, None], off=problem.rows.off)
    free, tight = torch.ones(3, 50, dtype=torch.bool), torch.zeros(3, 100, dtype=torch.bool)
    free[2, 3:] = False
    tight[2, :5] = True  # five equations for three unknowns
    none = torch.zeros(3, dtype=torch.float64)
    system = equations(on_grams(rows), rows.W.matrix(), torch.arange(3), free, tight, none, none)
    assert system.sound.tolist() == [bool(rows.on[0].sum() >= 50), False, False]


def test_grams_are_those_of_the_rows_in_either_precision():
    rows = small(GAUSSIAN).rows
    most = replace(rows, on=rows.on | (torch.arange(100) < 70), off=None)
    weighted = replace(rows, weight=1 + torch.rand(rows.y.shape, generator=cases.seeded(1), dtype=torch.float64))
    for some in (rows, most, weighted):
        exact, lazy = some.gram(), LazyGrams(some, np.dtype(np.float32))
        assert lazy(3).dtype == np.float32 and np.abs(lazy(3) - exact[3].numpy()).max() < 1e-6
        lazy.refine(3)
        lazy.keep(torch.arange(len(exact)) % 3 == 0)
        assert lazy(1).dtype == np.float64 and np.abs(lazy(1) - exact[3].numpy()).max() < 1e-14
        assert lazy(2).dtype == np.float32 and np.abs(lazy(2) - exact[6].numpy()).max() < 1e-6
        assert float((on_grams(some) - exact).abs().max()) < 1e-14


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [GAUSSIAN, POWER, LATENT], ids=["gaussian", "power law", "latent"])
def test_every_signal_settles_exactly(case: Case):
    problem = small(case)
    method = pivoted(problem)
    point = method.point()
    assert method.settled.all() and bool(method.done(1e-6).all())
    assert ci.certify(problem, point).holds.all() and float(kkt(problem, *point).max()) < 1e-12
    for i in (0, 7):
        exact = ci.solve(problem.take(torch.tensor([i])), "CLARABEL")
        assert torch.allclose(exact.h, point.h[i : i + 1], atol=1e-6)


def test_the_path_settles_what_goes_round_in_circles(monkeypatch):
    problem = small(POWER)
    method = pivoted(problem)
    assert int((method.good_t > 0).sum()) > 20 and method.settled.all(), "most of these cycle without the path"
    monkeypatch.setattr(pivoting, "_FIRST", torch.inf)  # beyond the highest: no path
    assert int(pivoted(problem).settled.sum()) < 20


@pytest.mark.parametrize("case", [GAUSSIAN, POWER, LATENT], ids=["gaussian", "power law", "latent"])
def test_padded_batches_and_single_signals_agree(case: Case, monkeypatch):
    problem = with_bad_signals(small(case))
    found = []
    for padded in (0, 1000):
        monkeypatch.setattr(guesses, "PADDED_UP_TO", padded)
        found.append(pivoted(problem))
    one, *others = found
    assert int(one.settled.sum()) >= problem.N - 2
    for other in others:
        both = one.settled & other.settled
        assert int(both.sum()) >= problem.N - 2
        assert torch.allclose(one.point().h[both], other.point().h[both], atol=1e-10)
        assert ci.certify(problem, other.point()).holds[other.settled].all()


def test_bad_signals_cost_no_other():
    problem = with_bad_signals(small(POWER))
    together = pivoted(problem)
    assert torch.isfinite(together.point().h).all() and torch.isfinite(together.point().p).all()
    healthy = torch.arange(3, problem.N)
    alone = pivoted(problem.take(healthy))
    assert alone.settled.all() and together.settled[healthy].all()
    assert torch.allclose(together.point().h[healthy], alone.point().h, atol=1e-12)


def test_contradictory_off_rows_end():
    problem = cases.contradiction("nonnegative_lasso", (False, True, False)).problem.normalised().problem
    method = pivoted(problem)
    assert method.settled.tolist() == [True, False, True] and not method.open.any()


def test_float32_costs_no_digit_where_the_layer_is_ill_conditioned():
    """Columns that nearly repeat: a float32 Gram matrix is singular, the float64 one is not."""
    rows = GAUSSIAN.make().rows
    M = rows.W.matrix().clone()
    M[:, 1::2] = M[:, ::2] + 1e-5 * M[:, 1::2]
    W = ci.Dense(M)
    h = cases.normal(rows.N, 50, draw=cases.seeded(1)).clamp(min=0)
    v = W(h)
    problem = ci.NonnegativeLasso(ci.Rows(W, rows.b, v.clamp(min=0), v > 0), 1e-3).normalised().problem
    method = pivoted(problem)
    assert np.dtype(np.float64) in method.grams.dtypes
    assert ci.certify(problem, method.point()).holds[method.settled].all() and int(method.settled.sum()) >= rows.N - 2
    assert float(kkt(problem, *method.point())[method.settled].max()) < 1e-10


def test_going_on_with_some_signals_changes_nothing():
    problem = small(POWER)
    one, two, index = BlockPivoting().start(problem), BlockPivoting().start(problem), torch.arange(40) % 3 == 1
    one.advance(60)
    two.advance(5)
    two.keep(index)
    two.advance(55)
    assert torch.equal(one.settled[index], two.settled) and torch.equal(one.rounds[index], two.rounds)
    assert torch.allclose(one.point().h[index], two.point().h, atol=1e-12)


def test_the_first_guess_is_near_the_answer():
    problem = small(GAUSSIAN)
    point, exact = first_guess(problem, 1000), pivoted(problem).point()
    assert float((point.h - exact.h).abs().max()) < 1e-4 and float((point.p - exact.p).abs().max()) < 1e-4
    given = BlockPivoting().start(problem, near=exact)
    given.advance(1)
    assert given.settled.all()


@pytest.mark.gpu
@pytest.mark.parametrize("case", [GAUSSIAN, POWER, LATENT], ids=["gaussian", "power law", "latent"])
def test_a_gpu_finds_the_same(case: Case):
    problem = small(case)
    there, here = pivoted(problem.to(device="cuda")), pivoted(problem)
    assert there.settled.all()
    assert torch.allclose(there.point().h.cpu(), here.point().h, atol=1e-10)


@pytest.mark.generators
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("laug_vae_5_128_256_784", 1),
        ("jay_gan_bn_128_256_512_784", 1),
        ("jay_gan_bn_128_256_512_784", 0),
        ("lei_vae_relu_20_60_784_nobias", 0),
        ("csinva_vae_20_400_784", 0),
    ],
)
def test_layers_with_off_rows_of_trained_generators_settle(name: str, layer: int):
    rows = trained_layer(name, layer, 16)
    seen = rows.on.any(1)  # a signal without an on row leaves h open
    problem = Case("", "", rows, lasso if layer else latent, ()).make().normalised().problem
    method = pivoted(problem)
    assert method.settled[seen].all()
    certificate = ci.certify(problem, method.point())
    assert certificate.holds[seen].all()
    assert float(kkt(problem, *method.point())[seen].max()) < 1e-10
