"""The best latent of a box by mixed-integer programs, against every affine piece of small nets, one convex problem each."""

import importlib.util
import itertools
from dataclasses import replace
from functools import cache

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import cvxinv as ci
from cvxinv.exact.mixed_integer import any_within, best_of_box, statement
from cvxinv.exact.prove import prove
from cvxinv.exact.question import ask
from cvxinv.inversion.proof import Proof

scip = pytest.mark.skipif(importlib.util.find_spec("pyscipopt") is None, reason="SCIP is not here: pip install pyscipopt")
GAP = 1e-6
SLACK = 1e-7  # of the convex solvers, signals being of the order of 1


def drawn(*shape: int, draw: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def small(widths: tuple[int, ...], seed: int, leak: float = 0.0, at_output: bool = False, odd: bool = False) -> ci.Generator:
    """A random net with biases; `odd`: one unit is dead, one stands twice."""
    draw, layers = torch.Generator().manual_seed(seed), []
    kink = ci.LeakyReLU(leak) if leak else ci.ReLU()
    for k, (n, m) in enumerate(itertools.pairwise(widths)):
        W, b = drawn(m, n, draw=draw) / n**0.5, 0.3 * drawn(m, draw=draw)
        hidden = k < len(widths) - 2
        if odd and hidden:
            W[0], b[0], W[1], b[1] = 0.0, -0.1, W[2], b[2]
        layers.append(ci.Layer(ci.Dense(W), b, kink if hidden or at_output else ci.Identity()))
    return ci.Generator(tuple(layers), (widths[-1],), {})


def noisy(generator: ci.Generator, seed: int, noise: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1000 + seed)
    x = generator(drawn(1, generator.latent_dim, draw=draw))[0]
    return x + noise * drawn(len(x), draw=draw)


NETS = {
    "one layer": (small((2, 6, 7), 0), 0.3),
    "two layers": (small((2, 4, 4, 6), 1), 0.2),
    "three latents": (small((3, 7, 6), 2), 0.3),
    "leaky": (small((2, 4, 4, 6), 3, leak=0.2), 0.3),
    "dead and doubled": (small((2, 5, 4, 6), 4, odd=True), 0.2),
    "relu output": (small((2, 4, 5), 5, at_output=True), 0.3),
    "few rows": (small((3, 6, 2), 6), 8.0),
}
SIDE = 2.5


# --- the independent answer: all affine pieces ----------------------------------------------------


@cache
def pieces(generator: ci.Generator, side: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """J, c, and (F, g) with F z <= g, of each piece that the box meets: G(z) = J z + c there."""
    found = []
    kinked = [layer.activation.pieces is not None and not layer.activation.linear for layer in generator.layers]
    units = sum(layer.W.m for layer, bent in zip(generator.layers, kinked, strict=True) if bent)
    n0 = generator.latent_dim
    for pattern in itertools.product((True, False), repeat=units):
        bits, J, c, F, g = iter(pattern), np.eye(n0), np.zeros(n0), [np.zeros((1, n0))], [np.zeros(1)]
        for layer, bent in zip(generator.layers, kinked, strict=True):
            W = layer.W.matrix().double().numpy()
            J, c = W @ J, W @ c + layer.b.double().numpy()
            if bent:
                on = np.array([next(bits) for _ in c])
                F.append(np.where(on, -1.0, 1.0)[:, None] * J)
                g.append(np.where(on, 1.0, -1.0) * c)
                slope = np.where(on, 1.0, layer.activation.slopes[0])
                J, c = slope[:, None] * J, slope * c
        F, g = np.concatenate(F), np.concatenate(g)
        if linprog(np.zeros(n0), F, g, bounds=[(-side, side)] * n0).status == 0:
            found.append((J, c, F, g))
    return found


def least(norm: str, J, c, F, g, y, side: float):
    """The smallest |A (J z + c) - y| of a piece and its z; A is in J and c already."""
    n0, k = J.shape[1], len(y)
    if norm == "l2":
        z = cp.Variable(n0)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(J @ z + c - y)), [F @ z <= g, cp.abs(z) <= side])
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        return problem.value**0.5, z.value
    width = np.ones((k, 1)) if norm == "linf" else np.eye(k)
    t = width.shape[1]
    A = np.block([[J, -width], [-J, -width], [F, np.zeros((len(g), t))]])
    b = np.concatenate([y - c, c - y, g])
    found = linprog(np.r_[np.zeros(n0), np.ones(t)], A, b, bounds=[(-side, side)] * n0 + [(0, None)] * t)
    return found.fun, found.x[:n0]


def optimum(generator: ci.Generator, y: torch.Tensor, norm: str, A: np.ndarray | None = None, side: float = SIDE) -> float:
    """The smallest misfit of the box, by all pieces."""
    A = np.eye(generator.signal_dim) if A is None else A
    return min(least(norm, A @ J, A @ c, F, g, y.numpy(), side)[0] for J, c, F, g in pieces(generator, side))


def test_the_enumeration_by_hand():
    """G(z) = (relu(z), relu(-z)), y = (1, 1): misfits at z >= 0 are |z - 1| and 1, so every norm is 1 at z = 1."""
    W = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    G = ci.Generator((ci.Layer(ci.Dense(W), torch.zeros(2, dtype=torch.float64), ci.ReLU()),), (2,), {})
    for norm in ("l1", "linf", "l2"):
        assert optimum(G, torch.ones(2, dtype=torch.float64), norm) == pytest.approx(1.0, abs=1e-9)


# --- l1 and linf ----------------------------------------------------------------------------------


def check_against_pieces(name: str, norm: str) -> None:
    G, noise = NETS[name]
    y = noisy(G, len(name), noise)
    expected, found = optimum(G, y, norm), best_of_box(G, y, norm=norm, box=SIDE)
    assert found.status == "optimal"
    assert found.misfit == pytest.approx(expected, abs=SLACK) and found.bound == pytest.approx(expected, abs=SLACK)
    r = (G(found.z[None])[0] - y).numpy()
    assert found.misfit == pytest.approx(np.linalg.norm(r, {"l1": 1, "linf": np.inf, "l2": 2}[norm]), rel=1e-12)
    assert bool((found.z.abs() <= SIDE).all())
    assert any_within(G, y, 0.99 * expected, norm=norm, box=SIDE).found is False
    inside = any_within(G, y, 1.01 * expected, norm=norm, box=SIDE)
    assert inside.found is True and inside.misfit <= 1.01 * expected + 1e-12 * float(y.abs().max())  # its rounding


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("name", NETS)
def test_linear_programs_find_the_best_of_all_pieces(name: str, norm: str):
    check_against_pieces(name, norm)


@scip
@pytest.mark.parametrize("name", NETS)
def test_a_cone_program_finds_the_best_of_all_pieces(name: str):
    check_against_pieces(name, "l2")


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_masks_and_matrices_leave_the_rows_seen(norm: str):
    G, _ = NETS["two layers"]
    y, seen = noisy(G, 7, 0.3), torch.tensor([True, False, True, True, False, True])
    by_mask = best_of_box(G, torch.where(seen, y, 99.0), norm=norm, measurement=seen, box=SIDE)
    A = torch.eye(6, dtype=torch.float64)[seen]
    by_matrix = best_of_box(G, A @ y, norm=norm, measurement=A, box=SIDE)
    expected = optimum(G, A @ y, norm, A.numpy())
    assert by_mask.misfit == pytest.approx(expected, abs=SLACK) and by_matrix.misfit == pytest.approx(expected, abs=SLACK)
    mixed = drawn(3, 6, draw=torch.Generator().manual_seed(5))
    found = best_of_box(G, mixed @ y, norm=norm, measurement=mixed, box=SIDE)
    assert found.misfit == pytest.approx(optimum(G, mixed @ y, norm, mixed.numpy()), abs=SLACK)


def test_hidden_pixels_of_a_kinked_output_cost_no_unknowns():
    G, _ = NETS["relu output"]
    y, seen = noisy(G, 7, 0.3), torch.tensor([True, False, True, False, False])
    whole, part = ask(G, y, box=SIDE), ask(G, y, measurement=seen, box=SIDE)
    assert whole.network.widths == (4, 5) and part.network.widths == (4, 2)
    z = drawn(5, 2, draw=torch.Generator().manual_seed(1))
    torch.testing.assert_close(part.network(z), G(z)[:, seen], rtol=1e-12, atol=1e-12)


def test_limits_hold_for_latents_of_the_box():
    for name, (G, noise) in NETS.items():
        question = ask(G, noisy(G, 0, noise), box=SIDE)
        z = SIDE * (2 * torch.rand(2000, G.latent_dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1)
        net, x = question.network, z
        for W, b, s, lo, hi in zip(net.W, net.b, net.s, question.lo, question.hi, strict=True):
            u = x @ W.T + b
            assert bool(((lo <= u) & (u <= hi)).all()), name
            x = torch.maximum(u, s * u)


def test_limits_that_are_too_narrow_are_seen():
    """The checks above can fail: limits of half the width, or a forgotten slope, give another optimum."""
    G, noise = NETS["leaky"]
    y = noisy(G, 5, noise)
    question, expected = ask(G, y, box=SIDE), optimum(G, y, "l1")
    narrow = replace(question, lo=tuple(0.1 * lo for lo in question.lo), hi=tuple(0.1 * hi for hi in question.hi))
    steep = replace(question, network=replace(question.network, s=tuple(0 * s for s in question.network.s)))
    for wrong in (narrow, steep):
        problem, _ = statement(wrong, "l1")
        problem.solve(solver="HIGHS")
        assert problem.value == np.inf or abs(problem.value - expected) > 1e-3


# --- l2: the engine against all pieces ------------------------------------------------------------


def check_bound(found: Proof, G: ci.Generator, y: torch.Tensor) -> float:
    """No latent of the box is below the bound, the best of each piece least of all; the least misfit of all pieces."""
    lowest = np.inf
    for piece in pieces(G, SIDE):
        value, z = least("l2", *piece, y.numpy(), SIDE)
        z = torch.as_tensor(z).clamp(-SIDE, SIDE)
        assert float(found.bound[0]) <= float((G(z[None])[0] - y).norm()) * (1 + 1e-9)
        lowest = min(lowest, value)
    return lowest


@pytest.mark.parametrize("name", NETS)
def test_the_engine_proves_the_best_of_all_pieces(name: str):
    """Of the box where its latent is in it; one from outside must be at least as good as all that are."""
    G, noise = NETS[name]
    y = noisy(G, len(name), noise)
    found = prove(G, y[None], box=SIDE, gap=GAP, time_limit=60)
    lowest = check_bound(found, G, y)
    assert found.status[0] == "proved_optimal"
    if float(found.z.abs().max()) <= SIDE:
        assert float(found.misfit[0]) == pytest.approx(lowest, rel=1e-6)
        assert float(found.bound[0]) >= lowest * (1 - 2 * GAP)
    else:
        assert float(found.misfit[0]) <= lowest + SLACK


def test_no_bound_is_wrong_where_the_optimum_is_on_the_side_of_the_box():
    """In the time given it may prove it or not; what it says holds, and its latent keeps to the box."""
    G, noise = NETS["few rows"]
    y = noisy(G, 10, noise)
    found = prove(G, y[None], prior=ci.Box(-SIDE, SIDE), gap=GAP, time_limit=1.0)
    lowest = check_bound(found, G, y)
    assert float(found.z.abs().max()) <= SIDE and float(found.misfit[0]) >= lowest - SLACK
    assert found.status[0] == "bounded" or float(found.misfit[0]) == pytest.approx(lowest, rel=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_no_signal_is_called_out_of_range_that_a_latent_explains(norm: str):
    G, noise = NETS["one layer"]
    y = noisy(G, len("one layer"), noise)
    eps = 1.02 * optimum(G, y, norm)
    assert not bool(prove(G, y[None], noise=(norm, eps), box=SIDE, time_limit=20).out_of_range[0])
    assert bool(prove(G, y[None], noise=(norm, 0.2 * eps), box=SIDE, time_limit=20).out_of_range[0])


# --- what does not fit ----------------------------------------------------------------------------


def test_without_scip_the_cure_is_named(monkeypatch: pytest.MonkeyPatch):
    G, noise = NETS["one layer"]
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyscipopt" else there(name))
    with pytest.raises(ci.BackendNotInstalledError, match=r"SCIP needs the package pyscipopt.*pip install pyscipopt"):
        best_of_box(G, noisy(G, 0, noise), norm="l2")


def test_what_does_not_fit_is_refused():
    G, noise = NETS["one layer"]
    y = noisy(G, 0, noise)
    with pytest.raises(ValueError, match="expected norm as one of l2, linf, l1, got 'l3'"):
        best_of_box(G, y, norm="l3")
    with pytest.raises(ValueError, match="expected one signal of finite numbers, got 2"):
        best_of_box(G, torch.stack([y, y]))
    with pytest.raises(ValueError, match="expected eps as a number >= 0"):
        any_within(G, y, -1.0)
    with pytest.raises(ValueError, match="expected time_limit as a number of seconds > 0, got 0"):
        best_of_box(G, y, time_limit=0)
    smooth = ci.Generator((*G.layers[:-1], ci.Layer(G.layers[-1].W, G.layers[-1].b, ci.Tanh())), (7,), {})
    with pytest.raises(TypeError, match="expected an output of ReLU, LeakyReLU or no activation, got Tanh"):
        best_of_box(smooth, 0.1 * y)
    with pytest.raises(TypeError, match="expected a linear measurement"):
        best_of_box(G, y.abs(), measurement=ci.Magnitudes(torch.eye(7, dtype=torch.float64)))
