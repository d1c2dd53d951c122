"""Lengths of any size, products of twice the precision, and maps whose rows and columns are stretched."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import cvxinv as ci
from cvxinv.generator.maps import Stretched
from cvxinv.layers.core.precise import precise_residual
from cvxinv.layers.core.units import units_of
from cvxinv.lengths import lengths, power_of_two


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [(torch.float64, (1e-300, 1e-200, 1.0, 1e200, 1e307)), (torch.float32, (1e-37, 1e-25, 1.0, 1e25, 1e37))],
)
def test_a_length_is_right_whatever_the_size(dtype, sizes):
    for size in sizes:
        x = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=dtype) * size
        assert torch.allclose(lengths(x) / size, torch.tensor([5.0, 0.0, 1.0], dtype=dtype), rtol=1e-6)
        assert lengths(x, 0).shape == (3,) and lengths(x, keepdim=True).shape == (3, 1)
    assert torch.isnan(lengths(torch.tensor([torch.nan, 1.0])[None])).all()


def test_powers_of_two_are_next_below():
    x = torch.tensor([1.0, 1.5, 2.0, 3.9, 0.7, -5.0, 0.0, 1e-310], dtype=torch.float64)
    assert power_of_two(x)[:7].tolist() == [1.0, 1.0, 2.0, 2.0, 0.5, 4.0, 1.0]
    assert (power_of_two(x) > 0).all()


@pytest.mark.parametrize("n", [1, 7, 300])
def test_products_of_twice_the_precision_keep_what_they_promise(n):
    W, h, b = normal(4, n, seed=1) * 10 ** normal(1, n, seed=2), normal(2, n, seed=3), normal(4, seed=4)
    y = h @ W.T + b  # all but a rounding
    value, lost = precise_residual(W, h, b, y)
    for i in range(2):
        for k in range(4):
            exact = sum(
                (Fraction(float(w)) * Fraction(float(x)) for w, x in zip(W[k], h[i], strict=True)), Fraction(float(b[k]))
            )
            exact -= Fraction(float(y[i, k]))
            assert abs(Fraction(float(value[i, k])) - exact) <= Fraction(float(lost[i, k]))
    assert (lost <= 2.0**-51 * value.abs() + 1e-3 * n * 2.0**-53 * (h.abs() @ W.abs().T)).all(), "a thousandth of float64's"


def test_a_stretched_map_is_the_product():
    inner = ci.ConvTranspose2d(normal(2, 3, 3, 3), (2, 4, 4))
    rows, columns = normal(inner.m, seed=1).exp(), normal(inner.n, seed=2).exp()
    W, plain = inner.stretched(rows, columns), ci.Dense(inner.matrix()).stretched(rows, columns)
    assert isinstance(W, Stretched) and isinstance(plain, ci.Dense)
    h, p = normal(3, W.n, seed=3), normal(3, W.m, seed=4)
    for one, other in ((W(h), plain(h)), (W.adjoint(p), plain.adjoint(p)), (W.matrix(), plain.matrix()),
                       (W.row_lengths(), plain.row_lengths()), (W.column_lengths(), plain.column_lengths()),
                       (W.magnitude()(h), plain.magnitude()(h)), (W.scaled(3.0)(h), plain.scaled(3.0)(h))):  # fmt: skip
        assert torch.allclose(one, other, rtol=1e-12)
    assert W.to(torch.float32)(h.float()).dtype == torch.float32


def test_even_layers_are_left_as_they_are_and_others_are_evened():
    W, on = normal(12, 5), torch.arange(12) < 6
    rows = ci.Rows(ci.Dense(W), torch.zeros(12, dtype=torch.float64), torch.where(on, 1.0, 0.0).double()[None], on[None])
    plain = units_of(ci.NonnegativeLasso(rows, 0.1))
    assert plain.stretch is None and plain.columns is None and rows.W.even
    wild = ci.Dense((2.0 ** torch.linspace(-30, 30, 12).double())[:, None] * W * 2.0 ** torch.linspace(-20, 20, 5).double())
    problem = ci.NonnegativeLasso(ci.Rows(wild, rows.b, rows.y, rows.on), 0.1)
    units = units_of(problem)
    assert units.stretch is not None and (units.stretch[on] == 1).all(), "rows that only weigh a misfit keep their weight"
    for length in (units.rows.W.row_lengths()[~on], units.rows.W.column_lengths()):
        assert float(length.amax() / length.amin()) < 64
    small, h = problem.in_units(units), normal(1, 5, seed=5).abs() / units.columns
    f = units.objective(small.objective(h / units.h), problem.grows)
    assert torch.allclose(f, problem.objective(h), rtol=1e-12)
    assert torch.allclose(small.violation(h / units.h) >= 0, problem.violation(h) >= 0)


@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1e30])
@pytest.mark.parametrize("method", ["latent_pursuit", "hybrid", "levenberg_marquardt"])
def test_signals_of_any_size_are_inverted_and_judged(method, unit):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 20, bias=False), nn.ReLU(), nn.Linear(20, 60, bias=False)).double().eval()
    G, z = ci.load_generator(net), normal(4, 5)
    found = ci.invert(G, G(z) * unit, method, on_fail="ignore", progress=False)
    assert found.verdict.explained.all() and float((found.z / unit - z).abs().max()) < 1e-9
    assert not ci.verify(G, G(z) * unit, 2 * found.z).explained.any()
    assert not ci.verify(G, G(z) * unit, 1e30 * found.z).explained.any()
