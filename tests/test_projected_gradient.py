"""Projected gradient: its steps, its rate, and how far the projections carry it."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from test_inversion import error, net, signals

import cvxinv as ci

G = net((4, 40, 80))
Z, Y = signals(G, 5)
QUICK = {"on_fail": "ignore", "progress": False}
EXACT = {"inner": "levenberg_marquardt", **QUICK}


def gaussian(m: int, d: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(m, d, generator=torch.Generator().manual_seed(seed)).double() / m**0.5


def test_one_step_is_the_projection_of_a_gradient_step_from_zero():
    # G(z) = (z, 2 z): the nearest to w = eta y is z = eta (y_1 + 2 y_2) / 5, 0.5 (5 + 10) / 5 = 1.5
    last = ci.Layer(ci.Dense(torch.tensor([[1.0], [2.0]]).double()), torch.zeros(2).double(), ci.Identity())
    y = torch.tensor([[5.0, 5.0]]).double()
    R = ci.invert(ci.Generator((last,), (2,), {}), y, "projected_gradient", eta=0.5, max_iter=1, **EXACT)
    assert float(R.z) == pytest.approx(1.5, abs=1e-9)


def test_the_misfit_falls_linearly_where_the_projection_is_exact():
    A = gaussian(40, 80)
    misfits = [
        ci.invert(
            G, Y @ A.T, "projected_gradient", measurement=A, max_iter=n, z0=Z + 0.05, restarts=0, **EXACT
        ).verdict.misfit
        for n in (5, 10, 15, 20)
    ]
    ratios = torch.stack([later / earlier for earlier, later in pairwise(misfits)])
    assert (ratios < 0.3).all(), ratios
    assert (ratios.log().std(0) < 0.6 * ratios.log().mean(0).abs()).all()


@pytest.mark.parametrize("inner", ["adam", "levenberg_marquardt"])
def test_a_mask_per_signal_and_a_matrix_are_heeded(inner: str):
    A, mask = gaussian(40, 80), torch.rand(5, 80, generator=torch.Generator().manual_seed(3)) > 0.3
    for measurement, y in ((A, Y @ A.T), (mask, torch.where(mask, Y, torch.nan))):
        words = {"measurement": measurement, "restarts": 3, "inner": inner, **QUICK}
        R = ci.invert(G, y, "projected_gradient", max_iter=20 if inner == "adam" else 60, **words)
        assert error(R.z, Z) < (0.1 if inner == "adam" else 1e-6)


def test_a_step_that_is_too_long_is_halved():
    A = gaussian(40, 80)
    R = ci.invert(G, Y @ A.T, "projected_gradient", measurement=A, eta=50.0, max_iter=60, restarts=5, **EXACT)
    assert error(R.z, Z) < 1e-4


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_step_follows_the_unit_of_the_measurement(scale: float):
    A = gaussian(40, 80)
    words = {"z0": Z + 0.1, "restarts": 0, "max_iter": 10, **EXACT}
    plain = ci.invert(G, Y @ A.T, "projected_gradient", measurement=A, **words)
    scaled = ci.invert(G, scale * Y @ A.T, "projected_gradient", measurement=scale * A, **words)
    assert error(scaled.z, plain.z) < 1e-9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"noise": ("l1", 1.0)}, "cannot heed l1 noise: its step lowers squares"),
        ({"prior": ci.Gaussian(1.0), "noise": ("gaussian", 0.1)}, r"cannot heed the prior Gaussian\("),
        ({"prior": ci.Ball(3.0), "lam": 0.1}, r"cannot heed the prior Ball\(radius=3\) with lam=0.1"),
        ({"measurement": ci.Magnitudes()}, "expected a linear measurement, got Magnitudes"),
        ({"eta": -1.0}, "eta must be a finite number > 0"),
        ({"inner": "newton"}, "inner must be one of 'adam', 'levenberg_marquardt'"),
    ],
)
def test_what_it_cannot_do_is_refused(words: dict, said: str):
    with pytest.raises(ValueError, match=said):
        ci.invert(G, Y.abs(), "projected_gradient", **words)


@pytest.mark.generators
def test_a_trained_generator_is_inverted_from_a_fifth_of_the_measurements(real_generator: Callable[..., ci.Generator]):
    H = real_generator("csinva_vae_20_400_784").to(torch.float64)
    y = signals(H, 3)[1]
    A = gaussian(157, 784)
    R = ci.invert(H, y @ A.T, "projected_gradient", measurement=A, max_iter=60, restarts=3, inner_iter=20, **EXACT)
    assert R.verdict.relative_misfit.median() < 1e-3
