"""What can be said of an answer in gaussian noise: covariances, the noise's level, and `noise="auto"`."""

from dataclasses import dataclass, replace
from math import cos, exp, inf, log, sin, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm
from test_inversion import net, normal, seeded, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.check_inversion import check_file
from cvxinv.inversion import level
from cvxinv.inversion.task import make_task
from cvxinv.inversion.uncertainty import Uncertainty, measure_uncertainty

NET = net((4, 24, 60), bias=0.5)
OPEN = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0, 1.0, 1.0]])  # the last two latents only ever act together


def affine(A: Tensor | list[list[float]], output: str = "identity") -> ci.Generator:
    """G(z) = phi(A z)."""
    W = torch.as_tensor(A, dtype=torch.float64)
    layer = ci.Layer(ci.Dense(W), torch.zeros(len(W), dtype=torch.float64), ci.Identity())
    return ci.Generator((layer,), (len(W),), {}).with_output(output)


def known(G: ci.Generator, z: Tensor, sigma: float, *, y: Tensor | None = None, seen=None, prior=None) -> Uncertainty:
    """What is said of z under stated noise; y: G(z) where left out."""
    y = (G(z) if seen is None or seen.dtype == torch.bool else G(z) @ seen.T) if y is None else y
    found = measure_uncertainty(make_task(G, y, seen, ("gaussian", sigma), prior), z)
    assert found is not None
    return found


def noisy(G: ci.Generator, N: int, share: float, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, signals with noise of `share` of each one's root mean square per entry, and that level."""
    z, x = signals(G, N, seed)
    sigma = share * x.norm(dim=1) / sqrt(G.signal_dim)
    return z, x + sigma[:, None] * normal(*x.shape, seed=seed + 1), sigma


def quietly(*arguments, **options) -> ci.Inversion:
    return ci.invert(*arguments, progress=False, on_fail="ignore", **options)


# --- covariances ----------------------------------------------------------------------------------


def test_the_covariance_of_one_latent_is_the_one_worked_out_by_hand():
    """x = (z, 2 z): J'J = 5."""
    G, z, sigma = affine([[1.0], [2.0]]), torch.tensor([[0.7]], dtype=torch.float64), 0.1
    plain, prior = known(G, z, sigma), known(G, z, sigma, prior=ci.Gaussian(4.0))
    half = known(G, z, sigma, seen=torch.tensor([True, False]))
    assert (
        torch.allclose(plain.z_cov, torch.tensor(0.01 / 5).double().reshape(1, 1, 1)) and abs(plain.dof.item() - 1) < 1e-12
    )
    assert torch.allclose(prior.z_std, torch.tensor([[sqrt(0.01 / 5.04)]]).double())
    assert abs(prior.dof.item() - 5 / 5.04) < 1e-12
    # the hidden entry is as uncertain as z makes it
    assert torch.allclose(half.signal_std, torch.tensor([[0.1, 0.2]]).double()) and half.seen.tolist() == [1]


@pytest.mark.parametrize("precision", [2.0, "diagonal", "matrix", "singular"])
def test_covariances_are_those_of_the_normal_posterior(precision):
    n0 = NET.latent_dim
    half = normal(n0, n0, seed=3)
    P = {"diagonal": half[0].abs() + 0.1, "matrix": half @ half.T, "singular": half[:, :2] @ half[:, :2].T}.get(
        precision, torch.eye(n0).double() * 2.0
    )
    given = 2.0 if precision == 2.0 else P
    z, sigma, A = signals(NET, 3)[0], 0.3, normal(9, NET.signal_dim, seed=1)
    found = known(NET, z, sigma, seen=A, prior=ci.Gaussian(given))
    for i in range(3):
        Jx = torch.autograd.functional.jacobian(NET, z[i])
        whole = torch.diag(P) if P.ndim == 1 else P
        inner = (A @ Jx).T @ (A @ Jx)
        cov = sigma**2 * torch.linalg.inv(inner + sigma**2 * whole)
        assert torch.allclose(found.z_cov[i], cov, rtol=1e-9, atol=1e-12)
        assert torch.allclose(found.signal_std[i], (Jx @ cov @ Jx.T).diagonal().sqrt(), rtol=1e-9)
        assert abs(found.dof[i] - (inner @ cov).trace() / sigma**2) < 1e-9


@pytest.mark.parametrize("sigma", [1e-16, 1e-6, 1e6])
def test_the_levels_size_costs_no_digits(sigma: float):
    """A latent that nothing was seen of keeps its prior's deviation, however small sigma is beside it."""
    G, z = affine([[1.0, 0.0], [1.0, 0.0]]), normal(2, 2, seed=0)
    found = known(G, z, sigma, prior=ci.Gaussian(4.0))
    expected = torch.tensor([sigma / sqrt(2 + 4 * sigma**2), 0.5], dtype=torch.float64)
    assert torch.allclose(found.z_std, expected.expand(2, 2), rtol=1e-9)
    assert torch.allclose(found.dof, torch.tensor(2 / (2 + 4 * sigma**2)).double(), rtol=1e-9)


def test_what_nothing_is_known_of_is_infinite_and_named():
    G, z = affine(OPEN), normal(2, 3, seed=0)
    found = known(G, z, 0.1)
    assert found.open.tolist() == [1, 1] and torch.allclose(found.dof, torch.tensor(2.0).double())
    assert torch.isinf(found.z_std).tolist() == [[False, True, True]] * 2
    assert torch.allclose(found.z_std[:, 0], torch.tensor(0.1).double()) and torch.isfinite(found.signal_std).all()
    cov = found.z_cov[0]
    assert torch.isinf(cov.diagonal()[1:]).all() and torch.isnan(cov[1, 2]) and abs(cov[0, 0] - 0.01) < 1e-12
    # what is not seen of the signal is open too where it hangs on an open latent
    hidden = known(G, z, 0.1, seen=torch.tensor([True, False, False]))
    assert hidden.open.tolist() == [2, 2] and torch.isinf(hidden.signal_std).tolist() == [[False, True, True]] * 2
    assert not known(G, z, 0.1, prior=ci.Gaussian(1.0)).open.any()


def test_nothing_seen_of_a_direction_is_no_pseudo_inverse():
    """Tilted: the open direction (1, -1) touches both latents."""
    found = known(affine([[1.0, 1.0]]), normal(1, 2, seed=0), 0.1)
    assert torch.isinf(found.z_std).all() and torch.allclose(found.signal_std, torch.tensor(0.1).double())


def test_a_box_leaves_its_sides_no_room_and_the_rest_as_if_they_were_known():
    A = normal(6, 3, seed=2)
    G, z = affine(A), torch.tensor([[1.0, 0.2, -0.3]], dtype=torch.float64)
    pulled = G(z) + 0.5 * A[:, 0]  # wants more of the first latent than the box has
    found = known(G, z, 0.1, y=pulled, prior=ci.Box(-1.0, 1.0))
    rest = 0.01 * torch.linalg.inv(A[:, 1:].T @ A[:, 1:])
    assert found.z_std[0, 0] == 0 and torch.allclose(found.z_cov[0, 1:, 1:], rest) and not found.open.any()
    assert abs(found.dof.item() - 2) < 1e-9
    # a side that nothing pulls at holds nobody
    inner = known(G, z, 0.1, y=G(z) - 0.5 * A[:, 0], prior=ci.Box(-1.0, 1.0))
    assert torch.allclose(inner.z_cov[0], 0.01 * torch.linalg.inv(A.T @ A)) and abs(inner.dof.item() - 3) < 1e-9


def test_a_fixed_latent_is_certain_even_where_nothing_was_seen_of_it():
    found = known(
        affine(OPEN),
        torch.tensor([[0.3, 0.5, 0.0]]).double(),
        0.1,
        prior=ci.Box(torch.tensor([-9.0, -9.0, 0.0]), torch.tensor([9.0, 9.0, 0.0])),
    )
    assert found.z_std[0, 2] == 0 and not found.open.any() and abs(found.z_std[0, 1] - 0.1 / sqrt(5)) < 1e-12


def test_on_a_ball_the_covariance_is_the_curvature_along_the_sphere():
    """In the plane: along the circle z = R (cos t, sin t), f'' by differences against 1 / variance."""
    A, R, sigma = normal(5, 2, seed=4), 1.5, 0.2
    G, y = affine(A), (3 * A.sum(1))[None]
    z = quietly(G, y, "levenberg_marquardt", noise=("gaussian", sigma), prior=ci.Ball(R), restarts=3).z
    assert abs(z.norm() - R) < 1e-9
    found, t = known(G, z, sigma, y=y, prior=ci.Ball(R)), torch.atan2(z[0, 1], z[0, 0])

    def f(angle: Tensor) -> Tensor:
        on = R * torch.stack((torch.cos(angle), torch.sin(angle)))
        return (A @ on - y[0]).square().sum() / (2 * sigma**2)

    bend = torch.autograd.functional.hessian(f, t) / R**2  # per length of arc
    assert abs(found.z_cov[0].trace() * bend - 1) < 1e-6
    along = torch.tensor([-sin(t), cos(t)]).double()
    assert torch.allclose(found.z_cov[0] @ along, along / bend, rtol=1e-6)
    assert known(G, z / 2, sigma, prior=ci.Ball(R)).dof.item() == pytest.approx(2)


def test_at_a_kink_the_spread_is_that_between_its_sides_whichever_rounding_chose():
    """x = (2 max(z, 0), 1) at z = 0, or at what rounding makes of it: J'J = 0 on one side, 4 on the other, 1 between."""
    first = ci.Layer(ci.Dense(torch.tensor([[1.0], [0.0]]).double()), torch.tensor([0.0, 1.0]).double(), ci.ReLU())
    last = ci.Layer(ci.Dense(torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double()), torch.zeros(2).double(), ci.Identity())
    G = ci.Generator((first, last), (2,), {})
    for z in (0.0, 1e-14, -1e-14):
        found = known(G, torch.full((1, 1), z).double(), 1.0, y=torch.tensor([[-1.0, 1.0]]).double(), prior=ci.Gaussian(1.0))
        assert abs(float(found.z_cov) - 1 / 2) < 1e-9 and abs(float(found.dof) - 1 / 2) < 1e-9


def test_where_optima_lie_on_kinks_rounding_changes_no_spread():
    G = net((8, 60, 100), seed=2)
    x = G(normal(200, 8, seed=3))
    y = x + 0.8 * normal(*x.shape, seed=5)
    z = quietly(G, y, noise=("gaussian", 0.8), prior=ci.Gaussian()).z.double()
    there, near = (known(G, z + 1e-13 * normal(*z.shape, seed=s), 0.8, y=y, prior=ci.Gaussian()).z_std for s in (1, 2))
    assert torch.allclose(there, near, rtol=1e-9)
    away = known(G, z + 1e-6 * normal(*z.shape, seed=1), 0.8, y=y, prior=ci.Gaussian()).z_std
    assert int((~torch.isclose(away, near, rtol=1e-4)).any(1).sum()) >= 5  # there are kinks


def test_bounds_on_the_noise_say_nothing_of_probabilities():
    _, y, _ = noisy(NET, 3, 0.05)
    for noise in (None, ("l2", 10.0), ("linf", 5.0)):
        assert quietly(NET, y, "levenberg_marquardt", noise=noise).uncertainty is None


# --- intervals ------------------------------------------------------------------------------------


def flat(estimated: bool, output: ci.AbstractActivation) -> Uncertainty:
    """One latent, one entry, all deviations 1; 5 entries seen, 2 degrees of freedom used up."""
    one, wide = torch.ones(1).double(), torch.ones(1, 1).double()
    return Uncertainty(
        one, one * estimated, 2 * one, 5 * one, 0 * one, 3 * wide, wide, wide[None], wide, 0 * wide, wide, output
    )  # fmt: skip


def test_intervals_take_normal_quantiles_for_stated_noise_and_students_for_estimated():
    """Quantiles of 97.5 % from printed tables: 1.959964, and 3.182446 for 3 degrees of freedom."""
    for estimated, q in ((False, 1.959964), (True, 3.182446)):
        (low, high), (below, above) = flat(estimated, ci.Identity()).intervals(0.95)
        assert low.item() == pytest.approx(3 - q, abs=1e-5) and high.item() == pytest.approx(3 + q, abs=1e-5)
        assert below.item() == pytest.approx(-q, abs=1e-5) and above.item() == pytest.approx(q, abs=1e-5)


def test_intervals_of_the_signal_pass_through_its_output():
    """u = 0 +- q behind a ReLU: an entry that is cut may be anything up to q, and never below 0."""
    cut = replace(flat(False, ci.ReLU()), signal_std=torch.zeros(1, 1).double())
    _, (low, high) = cut.intervals()
    assert low.item() == 0 and high.item() == pytest.approx(1.959964, abs=1e-5)
    _, (low, high) = flat(False, ci.Sigmoid()).intervals()
    assert low.item() == pytest.approx(1 / (1 + exp(1.959964)), abs=1e-6) and low + high == pytest.approx(1)


@pytest.mark.parametrize("wrong", [0, 1, 95, -0.5, True, "0.95", float("nan")])
def test_levels_that_are_no_probability_are_refused(wrong):
    with pytest.raises(ValueError, match="level as a number in"):
        flat(False, ci.Identity()).intervals(wrong)


def test_an_output_that_no_file_could_name_is_asked_for():
    with pytest.raises(ValueError, match="output=YourActivation"):
        replace(flat(False, ci.Identity()), output=None).intervals()


@pytest.mark.parametrize("noise", ["stated", "auto"])
@pytest.mark.parametrize("prior", [None, ci.Gaussian(1.0)])
@pytest.mark.parametrize("output", ["identity", "sigmoid"])
def test_intervals_hold_the_truth_as_often_as_they_say(noise: str, prior, output: str):
    G = net((4, 24, 60), output=output, bias=0.5)
    z, y, sigma = noisy(G, 400, 0.05)
    R = quietly(
        G, y, "levenberg_marquardt", noise="auto" if noise == "auto" else ("gaussian", sigma), prior=prior, restarts=8
    )
    (low, high), (below, above) = R.uncertainty.intervals(0.95)
    fine, x = torch.as_tensor(R.status == "explained"), G(z)
    assert fine.sum() > 340
    of_z = ((low <= z) & (z <= high))[fine].double().mean()
    of_x = ((below <= x) & (x <= above))[fine].double().mean()
    assert 0.93 < of_z < 0.97 and 0.93 < of_x < 0.97
    (low, high), _ = R.uncertainty.intervals(0.5)
    assert 0.45 < ((low <= z) & (z <= high))[fine].double().mean() < 0.55


def test_an_interval_of_a_coordinate_that_a_side_holds_is_that_of_the_posterior_cut_off():
    """x = (z, 2 z), sigma 0.1: z is N(m, 0.002) without the box, m the latent of y."""
    G, spread = affine([[1.0], [2.0]]), sqrt(0.002)
    for m, mode, part in ((-0.1, 0.0, (0, 0.95)), (1.07, 1.0, (0.05, 1)), (0.02, 0.02, (0.025, 0.975))):
        y, z = G(torch.tensor([[m]]).double()), torch.tensor([[mode]]).double()
        (low, high), _ = known(G, z, 0.1, y=y, prior=ci.Box(0.0, 1.0)).intervals(0.95)
        exact = truncnorm((0 - m) / spread, (1 - m) / spread, loc=m, scale=spread).ppf(part)
        assert np.allclose([low.item(), high.item()], exact, atol=1e-9)


def test_intervals_in_a_box_of_what_gradients_or_nothing_say():
    """x = 1e-9 z1: the first latent falls off by its gradient alone, the second lies anywhere in its side, the third is
    fixed."""
    G, z = affine([[1e-9, 0.0, 1.0]]), torch.tensor([[0.0, 0.3, 0.5]]).double()
    box = ci.Box([0.0, -1.0, 0.5], [inf, 2.0, 0.5])
    found = known(G, z, 1e-9, y=G(z) - 1e-6, prior=box)  # 1,000 standard deviations: |gradient| 1e3
    (low, high), _ = found.intervals(0.95)
    assert low[0].tolist() == [0.0, -1.0, 0.5] and high[0, 1:].tolist() == [2.0, 0.5]
    assert float(high[0, 0]) == pytest.approx(truncnorm(1e3, inf, loc=-1e3).ppf(0.95), rel=1e-6)
    assert float(high[0, 0]) == pytest.approx(-log(0.05) / 1e3, rel=3e-3)


@pytest.mark.parametrize("noise", ["stated", "auto"])
def test_intervals_in_a_box_hold_the_truth_at_its_sides_too(noise: str):
    z = torch.rand(600, 4, generator=seeded(1), dtype=torch.float64) - 0.5
    x = NET(z)
    sigma = 0.3 * x.norm(dim=1) / sqrt(60)
    y = x + sigma[:, None] * normal(600, 60, seed=2)
    told = "auto" if noise == "auto" else ("gaussian", sigma)
    R = quietly(NET, y, "levenberg_marquardt", noise=told, prior=ci.Box(-0.5, 0.5), restarts=6)
    (low, high), _ = R.uncertainty.intervals(0.95)
    fine, held = torch.as_tensor(R.status == "explained")[:, None].expand_as(z), R.uncertainty.z_std == 0
    inside = (low <= z) & (z <= high)
    assert fine.double().mean() > 0.99 and (low >= -0.5).all() and (high <= 0.5).all() and (low < high).all()
    assert (held & fine).sum() > 100 and 0.89 < inside[held & fine].double().mean() < 0.98
    assert 0.92 < inside[fine].double().mean() < 0.97


def test_what_is_cut_off_is_kept_taken_and_read_again(tmp_path: Path):
    _, y, sigma = noisy(NET, 5, 0.1)
    R = quietly(NET, y, noise=("gaussian", sigma), prior=ci.Box(-0.5, 0.5), chunk=2)
    expected = R.uncertainty.intervals()[0]
    back = ci.Inversion.load(R.save(tmp_path / "result"))
    for a, b in zip(expected, back.uncertainty.intervals()[0], strict=True):
        assert torch.equal(a, b)
    alone = quietly(NET, y[3], noise=("gaussian", sigma[3:4]), prior=ci.Box(-0.5, 0.5))
    for a, b, c in zip(expected, alone.uncertainty.intervals()[0], R[3:4].uncertainty.intervals()[0], strict=True):
        assert b.shape == (4,) and torch.allclose(a[3], b, atol=1e-6) and torch.equal(a[3], c[0])
    ball = quietly(NET, y, noise=("gaussian", sigma), prior=ci.Ball(0.3))
    assert all((side.abs() <= 0.3).all() for side in ball.uncertainty.intervals()[0])
    assert quietly(NET, y, noise=("gaussian", sigma)).uncertainty.marginals is None


# --- the level ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [None, ci.Gaussian(1.0)])
def test_the_estimated_variance_is_unbiased_and_its_error_is_as_stated(prior):
    """Affine, latents drawn from the prior; 12 entries for 4 latents, so that k in place of k - dof would be 33 % off."""
    draws, sigma, A = 2000, 0.5, normal(12, 4, seed=7)
    y = normal(draws, 4, seed=8) @ A.T + sigma * normal(draws, 12, seed=9)
    task = make_task(affine(A), y, None, "auto", prior)
    for _ in range(5 if prior else 1):  # optimum and level, until they belong together
        weight = 0.0 if prior is None else task.noise.bound.nan_to_num(sigma).square()[:, None, None]
        z = torch.linalg.solve(A.T @ A + weight * torch.eye(4).double(), (y @ A)[..., None])[..., 0]
        task = level.at_level(task, z)
    U = measure_uncertainty(task, z)
    assert U is not None
    ratio = (U.sigma / sigma).square()
    spread = 1 / (U.seen - U.dof)  # half of the variance of ratio
    assert abs(ratio.mean() - 1) < 4 * sqrt(2 * spread.mean() / draws)
    assert ratio.var().item() == pytest.approx(2 * spread.mean().item(), rel=0.16)
    assert torch.allclose(U.sigma_error, U.sigma / (2 * (U.seen - U.dof)).sqrt())


def test_the_level_of_a_relu_generator_is_right_to_its_stated_error():
    _, y, sigma = noisy(NET, 300, 0.1)
    U = quietly(NET, y, "levenberg_marquardt", noise="auto", restarts=5).uncertainty
    off = (U.sigma - sigma) / U.sigma_error
    assert abs((U.sigma / sigma).median() - 1) < 0.03 and 0.8 < off.square().mean().sqrt() < 1.25


def test_with_a_prior_level_and_optimum_belong_together():
    _, y, _ = noisy(NET, 5, 0.3)
    R = quietly(NET, y, noise="auto", prior=ci.Gaussian(2.0))
    U = R.uncertainty
    assert torch.allclose(R.verdict.misfit.square(), U.sigma.square() * (U.seen - U.dof), rtol=1e-6)
    stated = ci.verify(NET, y, R.z, noise=("gaussian", U.sigma), prior=ci.Gaussian(2.0))
    assert (stated.status == "explained").all()
    again = quietly(NET, y, noise=("gaussian", U.sigma), prior=ci.Gaussian(2.0))
    same = (again.z - R.z).norm(dim=1) < 1e-4  # other starts may end in another optimum
    assert same.sum() >= 3 and torch.allclose(again.uncertainty.z_std[same], U.z_std[same], rtol=1e-2)


@pytest.mark.parametrize("prior", [None, ci.Gaussian(1.0)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_signals_without_noise_are_explained_at_the_level_of_their_rounding(prior, dtype: torch.dtype):
    G = NET.to(dtype)
    _, y = signals(NET, 6)
    R = quietly(G, y.to(dtype), noise="auto", prior=prior)
    assert (R.status == "explained").all()
    assert (R.uncertainty.sigma > 0).all()
    assert (R.uncertainty.sigma * sqrt(60) <= 20 * torch.finfo(dtype).eps * R.verdict.size).all()
    assert (ci.verify(G, y.to(dtype), R.z, noise="auto", prior=prior).status == "explained").all()


def test_a_signal_of_zeros_has_a_level():
    R = quietly(affine(normal(8, 2, seed=0)), torch.zeros(2, 8).double(), noise="auto")
    assert (R.uncertainty.sigma > 0).all() and torch.isfinite(R.uncertainty.z_cov).all()


def test_each_signal_has_the_level_that_it_would_have_alone():
    _, y, _ = noisy(NET, 6, 0.1)
    y[1::2] += 0.5 * y[1::2].std() * normal(3, 60, seed=20)
    y[4, 3] = torch.nan
    mask = torch.rand(6, 60, generator=seeded(3)) > 0.3
    options = {"method": "levenberg_marquardt", "noise": "auto", "restarts": 4}
    together = quietly(NET, y, measurement=mask, **options)
    chunked = quietly(NET, y, measurement=mask, **options, chunk=2)
    alone = [quietly(NET, y[i : i + 1], measurement=mask[i : i + 1], **options) for i in (0, 1, 3)]
    for other, index in ((chunked, slice(None)), *((R, slice(i, i + 1)) for R, i in zip(alone, (0, 1, 3), strict=True))):
        for name in ("sigma", "dof", "z_std", "signal_std"):
            a, b = getattr(together.uncertainty, name)[index], getattr(other.uncertainty, name)
            assert torch.allclose(a, b, rtol=1e-6, equal_nan=True), name
        assert (other.status == together.status[index]).all()
    assert together.status[4] == "numerical_error" and together.uncertainty.sigma[4].isnan()
    assert together.uncertainty.z_std[4].isnan().all()


@pytest.mark.parametrize("method", ["hybrid", "levenberg_marquardt", "gradient_descent"])
def test_every_descent_takes_an_unknown_level(method: str):
    _, y, sigma = noisy(NET, 8, 0.05)
    R = quietly(NET, y, method, noise="auto", restarts=6)
    good = (R.uncertainty.sigma / sigma - 1).abs() < 0.35
    assert good.sum() >= 7 and R.settings["noise"].startswith("gaussian, estimated: ")
    assert any("cannot refute the fit" in note for note in R.notes)


def test_a_matrix_and_a_mask_are_told_apart_from_the_whole_signal():
    _, x = signals(NET, 40)
    A = normal(30, 60, seed=3) / sqrt(60)
    y = x @ A.T + 0.05 * normal(40, 30, seed=4)
    R = quietly(NET, y, "levenberg_marquardt", measurement=A, noise="auto", restarts=8)
    assert abs(R.uncertainty.sigma.median() / 0.05 - 1) < 0.1 and (R.uncertainty.seen == 30).all()
    assert R.uncertainty.signal_std.shape == (40, 60)


# --- what an estimated level can and cannot say -----------------------------------------------------


def test_what_resembles_the_generators_samples_is_no_noise():
    """A signal out of range by a difference of samples: a length alone would fit."""
    _, x = signals(NET, 12)
    other = signals(NET, 12, 77)[1]
    y = x + 0.3 * (other - other.roll(1, 0)) + 0.01 * normal(12, 60, seed=1)
    R = quietly(NET, y, noise="auto")
    off = R.verdict.misfit > 0.05 * R.verdict.size
    assert off.sum() >= 8 and (R.status[off.numpy()] == "explained").sum() <= 1
    assert any("not called explained" in note for note in R.notes)
    stated = ci.verify(NET, y, R.z, noise=("gaussian", R.uncertainty.sigma))
    assert (stated.status[off.numpy()] == "explained").mean() > 0.8  # its length alone says nothing


def test_noise_alone_is_not_explained_and_a_signal_below_its_noise_is_said_to_be():
    noise, z = normal(8, 60, seed=3), signals(NET, 8)[0]
    alone = quietly(NET, 10 * noise, "levenberg_marquardt", noise="auto", restarts=2)
    assert (alone.status != "explained").all()
    level = 0.8 * NET(z).norm(dim=1) / sqrt(60)  # misfit about 0.6 |y|
    R = quietly(NET, NET(z) + level[:, None] * noise, "levenberg_marquardt", noise="auto", restarts=8)
    assert (R.status == "explained").sum() >= 5 and any("more than half" in note for note in R.notes)


@pytest.mark.parametrize("prior", [ci.Box(-1.0, 1.0), ci.Ball(1.8)])
def test_a_set_that_the_truth_is_not_in_is_no_noise(prior):
    """On the border the misfit is what pulls z outwards, which the columns of J carry."""
    z, y, sigma = noisy(NET, 200, 0.05)
    inside = (prior.project(z) - z).abs().amax(1) < 1e-12 if isinstance(prior, ci.Ball) else (z.abs() <= 1).all(1)
    right = quietly(NET, y[inside], "levenberg_marquardt", noise="auto", prior=prior, restarts=3)
    assert right.verdict.explained.double().mean() > 0.9
    assert abs((right.uncertainty.sigma / sigma[inside]).median() - 1) < 0.06
    wrong = quietly(NET, y[~inside][:30], "levenberg_marquardt", noise="auto", prior=prior, restarts=3)
    far = wrong.uncertainty.sigma > 1.5 * sigma[~inside][:30]
    assert far.sum() > 10 and (wrong.status[far.numpy()] == "explained").sum() <= 1


def test_an_offset_is_no_noise():
    _, y, _ = noisy(NET, 6, 0.02)
    low = quietly(NET, y, "levenberg_marquardt", noise="auto", restarts=6)
    high = quietly(NET, y + 2.0, "levenberg_marquardt", noise="auto", restarts=6)
    assert (low.status == "explained").sum() >= 5 and (high.status == "explained").sum() <= 1


def test_rounding_is_small_and_uneven_noise():
    """Rounded to a hundredth of the largest entry, behind a ReLU that makes half of the entries exact zeros."""
    G = net((4, 24, 120), output="relu", bias=0.5)
    z, x = signals(G, 20)
    step = x.amax(1, keepdim=True) / 200
    R = quietly(G, (x / step).round() * step, "levenberg_marquardt", noise="auto", restarts=8)
    assert (R.status == "explained").sum() >= 18 and (R.z - z).norm(dim=1).median() < 0.02


def test_white_noise_is_doubted_no_more_often_than_stated():
    """At the optimum of an affine generator F is exactly F-distributed: one in a thousand is doubted, here 1 in 100."""
    G = affine(normal(150, 3, seed=11))
    z = normal(1000, 3, seed=12)
    y = G(z) + 0.3 * normal(1000, 150, seed=13)
    best = torch.linalg.lstsq(G.layers[0].W.weight, y.T).solution.T
    # samples of an affine generator lie in the columns of J: those of another net are asked about here
    task = level.at_level(make_task(G, y, None, "auto"), best)
    r, J = task.linearize(best)
    other = net((3, 20, 150), seed=2)
    rare = level._likelihood(replace(task, generator=other), r, J, False)[0]
    counts = [(rare < share).double().mean().item() for share in (0.01, 0.1, 0.5)]
    assert counts[0] < 0.022 and abs(counts[1] - 0.1) < 0.04 and abs(counts[2] - 0.5) < 0.065


@dataclass(frozen=True, eq=False)
class Recorded(ci.AbstractMethod):
    """Gives the latents it was told, and writes down the levels that it was run for."""

    given: Tensor
    levels: list

    def run(self, task: ci.Task, starts: ci.Starts) -> ci.Latents:
        self.levels.append(task.noise.bound.clone())
        return ci.Latents(self.given[: task.N].clone())


def test_doubted_signals_are_searched_once_more_for_a_lower_level():
    G = net((4, 24, 240), bias=0.5)
    z, y, _ = noisy(G, 3, 0.01)
    near = z + 0.1 * normal(3, 4, seed=4)  # ends the first search, and leaves what no noise would
    method = Recorded(near, [])
    R = quietly(G, y, method, noise="auto")
    first, second = method.levels
    left = (G(near) - y).norm(dim=1) / sqrt(236)
    searched = ((second[:, None] - 0.25 * left).abs() < 1e-9).any(0)
    assert 0 < len(second) == searched.sum() and (R.status[searched.numpy()] != "explained").all()
    assert torch.allclose(first, first[:1].expand(3))
    for given in (z, 30 + near):  # nothing is doubted; the first search has not ended early
        method = Recorded(given, [])
        quietly(G, y, method, noise="auto")
        assert len(method.levels) == 1


def test_where_little_was_seen_less_doubt_is_enough_to_search_again(monkeypatch: pytest.MonkeyPatch):
    """What noise would leave once in twenty times is searched again of 60 entries, not of 240; neither is doubted."""
    monkeypatch.setattr(level, "odds", lambda task, z: torch.full((task.N,), 0.05))
    for entries, searches in ((60, 2), (240, 1)):
        G = net((4, 24, entries), bias=0.5)
        z, y, _ = noisy(G, 1, 0.01)
        method = Recorded(torch.linalg.lstsq(G.linearize(z)[1], (y - G(z))[..., None]).solution[..., 0] + z, [])
        assert quietly(G, y, method, noise="auto").status[0] == "explained" and len(method.levels) == searches


@pytest.mark.parametrize("prior", [None, ci.Gaussian(1.0), ci.Ball(9.0)])
def test_the_verdict_is_the_one_that_verify_gives(prior):
    _, y, _ = noisy(NET, 8, 0.1)
    y[5] = normal(60, seed=9)
    R = quietly(NET, y, "levenberg_marquardt", noise="auto", prior=prior, restarts=3)
    said = ci.verify(NET, y, R.z, noise="auto", prior=prior)
    assert (said.status == R.status).all() and torch.equal(said.explained_below, R.verdict.explained_below)


def test_verify_estimates_at_the_latent_that_it_is_given():
    z, y, _ = noisy(NET, 4, 0.1)
    assert (ci.verify(NET, y, z + 1.0, noise="auto").status != "explained").all()


def test_too_few_entries_are_refused_where_no_signal_has_enough():
    _, y = signals(NET, 3)
    few = torch.zeros(60, dtype=torch.bool)
    few[:4] = True
    with pytest.raises(ValueError, match=r"more than n0 = 4 entries.*state the level"):
        ci.invert(NET, y, measurement=few, noise="auto")
    with pytest.raises(ValueError, match=r"more than n0 = 4 entries"):
        ci.verify(NET, y, torch.zeros(3, 4), measurement=few, noise="auto")


def test_a_signal_with_too_few_entries_has_no_level_and_the_others_have():
    _, y, sigma = noisy(NET, 3, 0.1)
    mask = torch.ones(3, 60, dtype=torch.bool)
    mask[1, 3:] = False
    R = quietly(NET, y, measurement=mask, noise="auto")
    assert R.uncertainty.sigma.isnan().tolist() == [False, True, False] and R.uncertainty.z_std[1].isnan().all()
    assert ((R.uncertainty.sigma[[0, 2]] / sigma[[0, 2]] - 1).abs() < 0.35).all()
    assert "no level for 1" in R.summary()


@pytest.mark.parametrize("wrong", ["automatic", "AUTO", "gaussian"])
def test_other_words_than_auto_are_refused(wrong: str):
    with pytest.raises(TypeError, match='"auto"'):
        ci.invert(NET, signals(NET, 1)[1], noise=wrong)


# --- results --------------------------------------------------------------------------------------


NAMES = ("sigma", "sigma_error", "dof", "seen", "open", "z", "z_std", "z_cov", "signal_std", "before", "before_std")


@pytest.mark.parametrize("noise", ["auto", ("gaussian", 0.1)])
def test_results_keep_what_is_uncertain(noise, tmp_path: Path):
    G = net((4, 24, 60), output="leaky_relu:0.2", bias=0.5)
    _, y, _ = noisy(G, 4, 0.1)
    R = quietly(G, y, noise=noise)
    back = ci.Inversion.load(R.save(tmp_path))
    for name in NAMES:
        assert torch.equal(getattr(back.uncertainty, name), getattr(R.uncertainty, name)), name
        assert torch.equal(getattr(R[2:].uncertainty, name), getattr(R.uncertainty, name)[2:])
    for a, b in zip(R.uncertainty.intervals(), back.uncertainty.intervals(), strict=True):
        assert torch.equal(torch.stack(a), torch.stack(b))
    words = "estimated" if noise == "auto" else "stated"
    assert words in R.summary() and "standard deviation of z" in R.summary() and len(R.uncertainty) == 4


def test_a_single_signal_has_what_is_uncertain_beside_it(tmp_path: Path):
    _, y, _ = noisy(NET, 1, 0.1)
    R, batch = quietly(NET, y[0], noise="auto"), quietly(NET, y, noise="auto")
    (low, high), (_, above) = R.uncertainty.intervals()
    assert low.shape == R.z.shape and above.shape == R.signal.shape
    assert torch.equal(high, batch.uncertainty.intervals()[0][1][0]) and (low < R.z).all()
    back = ci.Inversion.load(R.save(tmp_path))
    assert torch.equal(back.uncertainty.z_cov, R.uncertainty.z_cov) and back.uncertainty.z_cov.shape == (4, 4)


def test_what_an_estimated_level_explains_is_proved_by_its_certificate(tmp_path: Path):
    _, y, _ = noisy(NET, 4, 0.1)
    y[1], y[2] = NET(normal(1, 4, seed=8))[0], 5 * normal(60, seed=9)
    R = quietly(NET, y, noise="auto")
    assert R.status[2] != "explained" and R.verdict.explained.sum() >= 2
    for path in R.export(tmp_path, NET, y).glob("inversion*"):
        assert all(found.accepted for found in check_file(path))


def test_results_of_earlier_versions_have_none():
    for folder in sorted((Path(__file__).parent / "written_by_0.1.0").iterdir()):
        assert ci.Inversion.load(folder).uncertainty is None


def test_numbers_are_those_of_numpy_too():
    """From float32 signals of a float32 generator all is said in float64."""
    _, y, _ = noisy(NET, 2, 0.1)
    R = quietly(NET.to(torch.float32), y.float().numpy(), noise=("gaussian", np.float32(0.1)))
    assert R.z.dtype == torch.float32 and R.uncertainty.z_std.dtype == torch.float64
    assert (R.uncertainty.sigma_error == 0).all()


def test_a_signal_that_holds_no_number_changes_no_word_and_no_interval_of_the_others():
    """Its level is not known; that of the others is as stated, and not estimated."""
    G = net((4, 15, 30), seed=1)
    _, y = signals(G, 5)
    y = y + 0.05 * normal(5, 30, seed=2)
    seen = torch.arange(30) < 6
    spoilt = y.index_put((torch.tensor([0]),), torch.full((30,), torch.nan, dtype=torch.float64))
    told = {"measurement": seen, "noise": ("gaussian", 0.05), "prior": ci.Gaussian(1.0), "on_fail": "ignore"}
    R, whole = ci.invert(G, spoilt, **told), ci.invert(G, y, **told)
    known, expected = R.uncertainty, whole.uncertainty
    assert known is not None and expected is not None and not known.estimated
    assert ", stated" in known.summary() and "nothing known of 1, left out" in known.summary()
    for part, other in zip(known.intervals()[0], expected.intervals()[0], strict=True):
        torch.testing.assert_close(part[1:], other[1:])
    assert "estimated" not in R.explain(1) + R.explain(2)
    late = ci.invert(G, y[1:], **told, time_limit=1e-9).uncertainty
    assert late is not None and not late.estimated


def test_a_level_that_is_known_of_no_signal_is_called_that():
    G = net((4, 15, 30), seed=1)
    _, y = signals(G, 2)
    told = {"measurement": torch.arange(30) < 3, "noise": "auto", "prior": ci.Gaussian(1.0), "on_fail": "ignore"}
    known = ci.invert(G, y, **told).uncertainty
    assert known is not None and "nan" not in known.summary() and "without limit" not in known.summary()


@pytest.mark.parametrize("prior", [None, ci.Gaussian(1.0), ci.Box(-5.0, 5.0)], ids=repr)
def test_a_level_of_few_entries_is_not_that_of_a_wrong_optimum(prior: ci.AbstractPrior | None):
    """22 of 40 entries for 6 latents: the first level ended the search at an optimum with 35 times the true one, which is
    as likely as any to a test of so few entries."""
    draw = torch.Generator().manual_seed(7)
    W, b, V, c = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) * scale
        for shape, scale in (((30, 6), (2 / 6) ** 0.5), ((30,), 0.3), ((40, 30), (2 / 30) ** 0.5), ((40,), 0.3))
    )
    G = ci.Generator((ci.Layer(ci.Dense(W), b, ci.ReLU()), ci.Layer(ci.Dense(V), c, ci.Identity())), (40,), {})
    x = G(torch.randn(400, 6, generator=draw, dtype=torch.float64))
    sigma = 1e-3 * float(x.std())
    seen = torch.rand(400, 40, generator=draw) > 0.5
    y = x + sigma * torch.randn(400, 40, generator=draw, dtype=torch.float64)
    some = slice(140, 170)
    R = quietly(G, y[some], measurement=seen[some], noise="auto", prior=prior)
    assert R.uncertainty is not None and R.verdict.explained.all()
    found = R.uncertainty.sigma / sigma
    assert float(found.max()) < 3 and 0.8 < float(found.median()) < 1.2
