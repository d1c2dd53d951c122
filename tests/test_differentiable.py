"""Implicit derivatives of layer problems agree with differences, and with cvxpylayers; where there is none, that is said."""

import copy
from collections.abc import Callable
from typing import Any

import cases
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import cvxinv as ci

DTYPE = torch.float64
KINDS: dict[str, tuple[Any, float]] = {
    "nonnegative_lasso": (ci.NonnegativeLasso, 0.1),
    "lasso": (ci.Lasso, 0.2),
    "gaussian_latent": (ci.GaussianLatent, 0.3),
    "basis_pursuit_l2": (ci.BasisPursuitL2, 0.3),
    "nonnegative_basis_pursuit_l2": (ci.NonnegativeBasisPursuitL2, 0.3),
    "basis_pursuit_linf": (ci.BasisPursuitLinf, 0.15),
    "nonnegative_basis_pursuit_linf": (ci.NonnegativeBasisPursuitLinf, 0.15),
    "normalised_lasso": (ci.NormalisedLasso, 0.2),
    "normalised_basis_pursuit": (ci.NormalisedBasisPursuit, 0.3),
}
WITH_OFF_ROWS = [name for name, (kind, _) in KINDS.items() if kind.counts_off]
CONVOLUTIONS = {
    "dense": lambda weight: ci.Dense(weight),
    "conv": lambda weight: ci.Conv2d(weight, (2, 3, 3), padding=(1, 1)),
    "transposed": lambda weight: ci.ConvTranspose2d(weight, (2, 2, 2), stride=(2, 2)),
}
SHAPES = {"dense": (8, 4), "conv": (2, 2, 3, 3), "transposed": (2, 1, 2, 2)}


def draw(seed: int) -> Callable[..., Tensor]:
    source = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=source, dtype=DTYPE)


def layer(map_name: str = "dense", off: bool = False, seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
    """W's weight, b, y of two signals, on and off rows; the last is neither. Off rows would be above 0 were they free."""
    normal = draw(seed)
    weight = normal(*SHAPES[map_name])
    W = CONVOLUTIONS[map_name](weight)
    h = normal(2, W.n).abs() + 0.3
    b = 0.3 * normal(W.m)
    on = torch.ones(2, W.m, dtype=torch.bool)
    on[:, -1] = False
    cut = torch.zeros_like(on)
    if off:
        cut[:, 1::4] = on[:, 1::4]
        b = torch.where(cut, 0.05 - W(h), b)  # a bias per signal
    y = W(h) + b + 0.05 * normal(2, W.m)
    return [weight, b, y], on & ~cut, cut


def solved(kind: Any, map_name: str, on: Tensor, off: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(weight: Tensor, b: Tensor, y: Tensor, *numbers: Tensor) -> tuple[Tensor, Tensor]:
        rows = ci.Rows(CONVOLUTIONS[map_name](weight), b, y, on, off)
        solution = ci.solve(kind(rows, *numbers), differentiable=True, on_fail="raise")
        assert bool(solution.differentiable.all())
        return solution.h, solution.p

    return run


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


CHECKED = [(name, map_name, False) for name in KINDS for map_name in CONVOLUTIONS]
CHECKED += [(name, map_name, True) for name in WITH_OFF_ROWS for map_name in CONVOLUTIONS]
CHECKED = cases.spread(CHECKED, 2, lambda which: (which[0], which[2]))  # each problem behind two of the maps


@pytest.mark.parametrize(("name", "map_name", "off"), CHECKED)
def test_derivatives_with_respect_to_weights_bias_data_and_number_agree_with_differences(name, map_name, off):
    kind, number = KINDS[name]
    given, on, cut = layer(map_name, off)
    inputs = leaves(*given, torch.full((2,), 3 * number if off else number, dtype=DTYPE))
    run = solved(kind, map_name, on, cut)
    h, p = run(*inputs)
    assert (bool((p[cut] > 1e-6).any()) or not off) and bool((h.abs() > 1e-6).any())  # off rows bind
    assert gradcheck(run, inputs, fast_mode=True, atol=1e-6)


def test_every_entry_of_the_derivative_agrees_with_differences():
    given, on, cut = layer(off=True)
    inputs = leaves(*given, torch.full((2,), 0.1, dtype=DTYPE))
    assert gradcheck(solved(ci.NonnegativeLasso, "dense", on, cut), inputs, atol=1e-6)


@pytest.mark.parametrize("off", [False, True])
def test_ends_of_intervals_move_h(off):
    (weight, b, y), on, cut = layer(off=off)
    given = leaves(weight, b, y - 0.1, torch.where(cut, 0.0, y + 0.15))

    def run(weight: Tensor, b: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        rows = ci.Rows(ci.Dense(weight), b, torch.zeros_like(lo), on, cut)
        solution = ci.solve(ci.IntervalBasisPursuit(rows, lo, hi), differentiable=True, on_fail="raise")
        return solution.h, solution.p

    assert gradcheck(run, given, fast_mode=True, atol=1e-6)


@pytest.mark.parametrize("phi", [ci.Tanh(), ci.Sigmoid(), ci.PLU(0.2, 0.4)], ids=lambda phi: phi.name)
def test_stationary_points_behind_an_activation_move_with_what_they_are_made_of(phi):
    (weight, b, _), on, _ = layer()
    y = phi(draw(1)(2, 4).abs() @ weight.T / 4 + b) + 0.05 * draw(2)(2, 8)

    def run(weight: Tensor, b: Tensor, y: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        rows = ci.Rows(ci.Dense(weight), b, y, on, torch.zeros_like(on))
        solution = ci.solve(ci.ActivatedLasso(rows, phi, lam), differentiable=True, on_fail="raise")
        return solution.h, solution.p

    inputs = leaves(weight, b, y, torch.tensor(0.02, dtype=DTYPE))
    assert bool((run(*inputs)[0] > 1e-3).any())
    # the solver stops where a step moves h by 1e-6 of its size: differences are no better
    assert gradcheck(run, inputs, fast_mode=True, eps=1e-3, atol=1e-3, rtol=1e-2)


def test_values_are_those_of_the_call_without_derivatives_and_types_those_of_the_inputs():
    given, on, cut = layer(off=True)
    for dtype in (torch.float32, DTYPE):
        weight, b, y = leaves(*(tensor.to(dtype) for tensor in given))
        problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(weight), b, y, on, cut), 0.1)
        plain, solution = ci.solve(problem), ci.solve(problem, differentiable=True)
        assert torch.equal(plain.h, solution.h.detach()) and torch.equal(plain.p, solution.p.detach())
        assert plain.differentiable is None and not plain.h.requires_grad and solution.h.requires_grad
        gradients = torch.autograd.grad(solution.h.square().sum(), (weight, b, y))
        assert [g.dtype for g in gradients] == [dtype] * 3
        exact = gradients if dtype == DTYPE else exact_gradients(given, on, cut)
        for found, wanted in zip(gradients, exact, strict=True):
            assert torch.allclose(found.double(), wanted.double(), rtol=1e-4, atol=1e-5)


def exact_gradients(given: list[Tensor], on: Tensor, cut: Tensor) -> tuple[Tensor, ...]:
    inputs = leaves(*given)
    rows = ci.Rows(ci.Dense(inputs[0]), *inputs[1:], on, cut)
    return torch.autograd.grad(ci.solve(ci.NonnegativeLasso(rows, 0.1), differentiable=True).h.square().sum(), inputs)


def test_an_unknown_at_its_threshold_is_not_differentiable_and_costs_its_own_signal_only():
    """W = I, lam = 1: h = max(y - 1, 0), so y = 1 sits at the threshold and y = 3 has dh/dy = 1, dh/dlam = -1."""
    y = torch.tensor([[3.0, 0.5], [1.0, 2.0]], dtype=DTYPE, requires_grad=True)
    lam = torch.tensor(1.0, dtype=DTYPE, requires_grad=True)
    problem = ci.NonnegativeLasso(
        ci.Rows(ci.Dense(torch.eye(2, dtype=DTYPE)), torch.zeros(2, dtype=DTYPE), y, torch.ones(2, 2, dtype=torch.bool)), lam
    )
    with pytest.warns(ci.NotDifferentiableWarning, match=r"1 of 2 signals are not differentiable here .*: 1"):
        solution = ci.solve(problem, differentiable=True)
    assert solution.differentiable.tolist() == [True, False]
    solution.h.sum().backward()
    assert y.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]] and float(lam.grad) == -1.0
    with pytest.raises(ci.UnsolvedError, match="not differentiable"):
        ci.solve(problem, differentiable=True, on_fail="raise")


@pytest.mark.parametrize("name", KINDS)
def test_an_optimum_that_is_not_unique_is_not_differentiable(name):
    """Two equal columns: any share of them will do; a Gaussian latent alone splits them evenly, and moves smoothly."""
    kind, number = KINDS[name]
    (weight, b, y), on, cut = layer()
    weight = torch.cat([weight, weight[:, :1]], 1)
    rows = ci.Rows(*(part if i else ci.Dense(part) for i, part in enumerate(leaves(weight, b, y))), on, cut)
    solution = ci.solve(kind(rows, number), differentiable=True, on_fail="ignore")
    assert bool(solution.differentiable.all()) == (name == "gaussian_latent")


def test_a_problem_without_gradients_is_refused_with_a_cure():
    (weight, b, y), on, cut = layer()
    rows = ci.Rows(ci.Dense(weight), b, y, on, cut)
    with pytest.raises(ValueError, match=r"requires gradients .*W, b, y, lam.*got none"):
        ci.solve(ci.Lasso(rows, 0.1), differentiable=True)
    rows = ci.Rows(ci.Dense(weight.clone().requires_grad_()), b, y, on, cut)
    problem = ci.Lasso(rows, 0.1)
    assert ci.solve(problem, differentiable=True).h.requires_grad
    assert copy.deepcopy(problem).N == 2  # graphs are no part of a problem


def test_second_derivatives_are_refused():
    (weight, b, y), on, cut = layer()
    (y,) = leaves(y)
    h = ci.solve(ci.Lasso(ci.Rows(ci.Dense(weight), b, y, on, cut), 0.1), differentiable=True).h
    with pytest.raises(RuntimeError, match="second derivatives of an optimum are not known here"):
        torch.autograd.grad(h.square().sum(), y, create_graph=True)


# --- cvxpylayers, which differentiates cone programs ----------------------------------------------


def cone_program(name: str) -> tuple[Any, list[Any], Any]:
    """The problem in CVXPY over parameters W, b, y and its number, with the off rows 0, 1 where it has them."""
    import cvxpy as cp

    kind, _ = KINDS[name]
    h, W, b, y = cp.Variable(4), cp.Parameter((8, 4)), cp.Parameter(8), cp.Parameter(8)
    number = cp.Parameter(nonneg=True)
    off = 2 if name in WITH_OFF_ROWS else 0
    r, limits = W[off:] @ h + b[off:] - y[off:], [W[:off] @ h + b[:off] <= 0] if off else []
    length = cp.sum(h) if kind.nonnegative else cp.norm(h, 1)
    limits += [h >= 0] if kind.nonnegative else []
    if kind.form == "quadratic":
        cost = number * length if "lam" in kind.numbers else number / 2 * cp.sum_squares(h)
        return cp.Problem(cp.Minimize(cp.sum_squares(r) / 2 + cost), limits), [W, b, y, number], h
    bound = cp.norm(r, 2) if kind.form == "ball" else cp.norm(r, "inf")
    if kind.form == "interval" and off:
        limits[0] = W[:off] @ h + b[:off] <= number
    return cp.Problem(cp.Minimize(length), [bound <= number, *limits]), [W, b, y, number], h


@pytest.mark.parametrize("name", [name for name in KINDS if not name.startswith("normalised")])
def test_derivatives_agree_with_those_of_cvxpylayers(name):
    from cvxpylayers.torch import CvxpyLayer

    kind, number = KINDS[name]
    program, parameters, h = cone_program(name)
    (weight, b, y), _, _ = layer()
    off = torch.zeros(1, 8, dtype=torch.bool)
    off[:, : 2 if name in WITH_OFF_ROWS else 0] = True
    b[:2] -= 0.6 * (weight @ torch.ones(4, dtype=DTYPE))[:2].abs()
    weights = torch.arange(1, 5, dtype=DTYPE)
    given = leaves(weight, b, y[0], torch.tensor(3 * number, dtype=DTYPE))
    (there,) = CvxpyLayer(program, parameters=parameters, variables=[h])(*given, solver_args={"eps": 1e-9})
    theirs = torch.autograd.grad((there * weights).sum(), given)
    ours = leaves(weight, b, y[:1], torch.tensor(3 * number, dtype=DTYPE))
    rows = ci.Rows(ci.Dense(ours[0]), ours[1], ours[2], ~off, off)
    here = ci.solve(kind(rows, ours[3]), differentiable=True, on_fail="raise").h
    found = torch.autograd.grad((here * weights).sum(), ours)
    assert torch.allclose(here[0], there, atol=1e-4)
    for one, other in zip(found, theirs, strict=True):
        # a cone solver's own accuracy, and that of the system at its point
        assert torch.allclose(one.reshape(-1), other.reshape(-1), rtol=1e-2, atol=1e-2 * float(one.abs().max()))
