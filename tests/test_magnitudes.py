"""Magnitudes: a measurement without signs goes the road of the linear ones, or is refused by name."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from test_inversion import error, net, seeded, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.inversion.export import certificate_files
from cvxinv.inversion.steps.gradient import gradient
from cvxinv.inversion.task import make_task
from cvxinv.measurement.given import as_measurement

D, K, N = 12, 7, 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


MASK = torch.rand(N, D, generator=seeded(3)) < 0.6
INNER = {
    "everything": None,
    "mask": MASK[0],
    "masks": MASK,
    "matrix": normal(K, D),
    "matrices": normal(N, K, D),
    "composed": ci.Composed(ci.Matrix(normal(K, D)), ci.Mask(MASK[0])),
    "operator": ci.Operator(lambda x: x.roll(1, -1), lambda r: r.roll(-1, -1), D),
}
OUTER = {
    "hidden magnitudes": ci.Composed(MASK[0, :K], ci.Magnitudes(normal(K, D))),
    "sums of magnitudes": ci.Composed(normal(3, K, seed=8), ci.Magnitudes(normal(K, D))),
    "magnitudes of all, of a part": ci.Composed(ci.Magnitudes(), ci.Matrix(normal(K, D))),
}
SEEING = {name: ci.Magnitudes(inner) for name, inner in INNER.items()} | OUTER


@pytest.mark.parametrize("kind", INNER)
def test_magnitudes_are_those_of_the_measurement_inside(kind: str):
    seeing, inner, x = as_measurement(SEEING[kind], D, N), as_measurement(INNER[kind], D, N), normal(N, D, seed=1)
    assert torch.equal(seeing.observe(x), inner.observe(x).abs()) and torch.equal(seeing.observe(-x), seeing.observe(x))
    assert seeing.length == inner.length and seeing.width == D and torch.equal(seeing.seen(N), inner.seen(N))
    assert seeing.shared == inner.shared and seeing.form == inner.form and seeing.name == f"Magnitudes({inner.name})"
    assert seeing.range == (0.0, float("inf")) and inner.range == (float("-inf"), float("inf"))


@pytest.mark.parametrize("kind", SEEING)
def test_at_a_signal_they_are_the_linear_measurement_that_is_their_derivative(kind: str):
    seeing, x, v = as_measurement(SEEING[kind], D, N), normal(N, D, seed=1), normal(N, D, seed=2)
    at = seeing.at(x)
    assert not seeing.linear and at.linear and at.at(x) is at
    _, along = torch.autograd.functional.jvp(seeing.observe, x, v)
    assert torch.allclose(at.observe(v), along, rtol=1e-12, atol=1e-12)
    assert torch.allclose(at.push(v[..., None])[..., 0], along, rtol=1e-12, atol=1e-12)
    r = normal(N, seeing.length, seed=3)
    assert torch.allclose((at.adjoint(r) * v).sum(1), (r * along).sum(1), rtol=1e-12)
    # homogeneous: there is nothing but the derivative
    assert torch.allclose(at.observe(x), seeing.observe(x), rtol=1e-12, atol=1e-12)
    pair = torch.stack([x, v], 2)
    assert torch.allclose(seeing.observe_each(pair), torch.stack([seeing.observe(x), seeing.observe(v)], 2))


@pytest.mark.parametrize("kind", SEEING)
def test_batches_of_them_and_other_types_see_the_same(kind: str):
    seeing, x = as_measurement(SEEING[kind], D, N), normal(N, D, seed=1)
    index = torch.tensor([2, 0])
    part = seeing.take(index)
    assert torch.allclose(part.observe(x[index]), seeing.observe(x)[index], rtol=1e-12)
    assert torch.allclose(seeing.at(x).take(index).observe(x[index]), seeing.observe(x)[index], rtol=1e-12)
    assert torch.allclose(seeing.to(torch.float32).observe(x.float()).double(), seeing.observe(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SEEING)
def test_the_gradient_and_the_jacobian_are_those_of_autograd(kind: str):
    G = net((3, 10, D), hidden=ci.LeakyReLU(0.3))
    seeing, z = SEEING[kind], normal(N, 3, seed=4)
    y = as_measurement(seeing, D, N).observe(G(normal(N, 3, seed=5)))
    task = make_task(G, y, seeing)
    at = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(task.residual(G(at)).square().sum() / 2, at)
    assert torch.allclose(gradient(task, z)[1], expected, rtol=1e-10, atol=1e-12)
    r, J = task.linearize(z)
    assert torch.allclose((r[:, None] @ J)[:, 0], expected, rtol=1e-10, atol=1e-12)


def test_a_derivative_that_depends_on_the_signal_is_not_asked_for_without_one():
    seeing = ci.Magnitudes(normal(K, D))
    with pytest.raises(TypeError, match=r"whose derivative depends on the signal x; use measurement\.at\(x\)\.push\(J\)"):
        seeing.push(normal(1, D, 2))
    with pytest.raises(TypeError, match=r"got Magnitudes\(Matrix\), .* use measurement\.at\(x\)\.adjoint\(r\)"):
        seeing.adjoint(normal(1, K))
    assert seeing.matrix(torch.float64, "cpu") is None and seeing.through(ci.Dense(normal(D, 3)), normal(D)) is None


def test_magnitudes_of_magnitudes_and_of_no_known_size_are_refused():
    with pytest.raises(ValueError, match=r"a linear measurement to take magnitudes of, got Magnitudes\(Matrix\)"):
        ci.Magnitudes(ci.Magnitudes(normal(K, D)))
    with pytest.raises(ValueError, match=r"got none; pass Magnitudes\(cvxinv\.Everything\(d\)\)"):
        _ = ci.Magnitudes().length
    with pytest.raises(TypeError, match="expected the measurement of Magnitudes as None, a bool mask"):
        ci.Magnitudes([1.0, 2.0])
    with pytest.raises(ValueError, match="12 numbers, got one of 11"):
        as_measurement(ci.Magnitudes(normal(K, D - 1)), D, N)


# --- inverted and judged --------------------------------------------------------------------------

SIZES = (4, 60, 120)
A = normal(40, 120, seed=6)
PHASELESS = {"matrix": ci.Magnitudes(A), "everything": ci.Magnitudes(), "many": ci.Magnitudes(normal(6, 40, 120, seed=7))}


def seen_of(seeing: object, x: Tensor) -> Tensor:
    return as_measurement(seeing, x.shape[1], len(x)).observe(x)


@pytest.mark.parametrize("kind", PHASELESS)
@pytest.mark.parametrize("method", ["hybrid", "levenberg_marquardt"])
def test_latents_are_found_from_magnitudes(kind: str, method: str):
    G = net(SIZES)
    z, x = signals(G, 6)
    y = seen_of(PHASELESS[kind], x)
    R = ci.invert(G, y, method, measurement=PHASELESS[kind], restarts=30)
    assert R.verdict.explained.all() and R.determined.all() and error(R.z, z) < 1e-9
    again = ci.verify(G, y, z, measurement=PHASELESS[kind])
    assert again.explained.all() and again.determined.all()


def test_gradient_descent_takes_magnitudes():
    G = net(SIZES)
    z, x = signals(G, 6)
    R = ci.invert(G, x.abs(), "gradient_descent", measurement=ci.Magnitudes(), restarts=5, max_iter=600, on_fail="ignore")
    near = (R.z - z).norm(dim=1) < 1e-3 * z.norm(dim=1)
    assert near.sum() >= 5


def test_the_opposite_signal_is_as_good_where_the_generator_makes_it():
    """G(z) = W z without a bias makes -x from -z: magnitudes cannot tell the two, and the judge says nothing of that."""
    G = ci.Generator((ci.Layer(ci.Dense(normal(30, 3)), torch.zeros(30).double(), ci.Identity()),), (30,), {})
    z, x = signals(G, 3)
    R = ci.invert(G, x.abs(), "levenberg_marquardt", measurement=ci.Magnitudes(), restarts=20)
    assert R.verdict.explained.all() and R.determined.all()
    assert torch.allclose(torch.minimum((R.z - z).norm(dim=1), (R.z + z).norm(dim=1)), torch.zeros(3).double(), atol=1e-9)


def test_scales_types_and_biases_do_not_matter():
    for scale in (1e-3, 1e3):
        G = net(SIZES)
        last = replace(G.layers[-1], W=G.layers[-1].W.scaled(scale), b=scale * G.layers[-1].b)
        G = replace(G, layers=(*G.layers[:-1], last))
        z, x = signals(G, 4)
        R = ci.invert(G, seen_of(ci.Magnitudes(A), x), measurement=ci.Magnitudes(A), restarts=30)
        assert R.verdict.explained.all() and error(R.z, z) < 1e-8
    single = net(SIZES).to(torch.float32)
    z = signals(net(SIZES), 4)[0].float()
    y = seen_of(ci.Magnitudes(A.float()), single(z))
    R = ci.invert(single, y, measurement=ci.Magnitudes(A.float()), restarts=30)
    assert R.verdict.explained.all() and error(R.z.double(), z.double()) < 1e-4


def test_one_bad_signal_costs_that_signal_and_no_signal_depends_on_its_neighbours():
    G = net(SIZES)
    _, x = signals(G, 5)
    y = seen_of(ci.Magnitudes(A), x)
    y[2, 1] = torch.nan
    R = ci.invert(G, y, measurement=ci.Magnitudes(A), restarts=30, on_fail="ignore")
    assert R.status[2] == "numerical_error" and R.verdict.explained.sum() == 4
    alone = ci.invert(G, y[3], measurement=ci.Magnitudes(A), restarts=30)
    assert alone.z.shape == (4,) and error(alone.z[None], R.z[3:4]) < 1e-9


def test_too_few_magnitudes_are_said_not_to_determine_the_latent():
    G = net(SIZES)
    z, x = signals(G, 3)
    few = ci.Magnitudes(A[:3])
    assert not ci.verify(G, seen_of(few, x), z, measurement=few).determined.any()


def test_negative_magnitudes_are_refused_unless_noise_may_have_made_them():
    G = net(SIZES)
    _, x = signals(G, 3)
    y = x @ A.T
    with pytest.raises(ValueError, match=r"expected y in \[0, inf\], which Magnitudes\(Matrix\) gives, got -.* in entry"):
        ci.invert(G, y, measurement=ci.Magnitudes(A))
    sigma = 0.05 * float(y.abs().mean())
    noisy = y.abs() + sigma * normal(*y.shape, seed=9)
    assert (noisy < 0).any()
    R = ci.invert(G, noisy, measurement=ci.Magnitudes(A), noise=("gaussian", sigma), on_fail="ignore")
    assert R.verdict.explained.all() and R.uncertainty is not None
    assert (R.uncertainty.z_std > 0).all()


def test_error_bars_from_magnitudes_are_those_of_the_frozen_signs():
    G, sigma = net(SIZES), 1e-3
    z, x = signals(G, 4)
    y = seen_of(ci.Magnitudes(A), x) + sigma * normal(4, 40, seed=2)
    start = {"z0": z, "restarts": 0}
    R = ci.invert(G, y, "levenberg_marquardt", measurement=ci.Magnitudes(A), noise=("gaussian", sigma), **start)
    signs = torch.where(G(R.z) @ A.T < 0, -1.0, 1.0)
    for i in range(4):
        L = ci.invert(
            G, signs[i] * y[i], "levenberg_marquardt", measurement=A, noise=("gaussian", sigma), z0=z[i], restarts=0
        )
        assert (
            torch.allclose(R.uncertainty.z_std[i], L.uncertainty.z_std, rtol=1e-6)
            and error(R.z[i : i + 1], L.z[None]) < 1e-9
        )
    auto = ci.invert(G, y, "levenberg_marquardt", measurement=ci.Magnitudes(A), noise="auto", **start)
    assert auto.verdict.explained.all() and torch.allclose(
        auto.uncertainty.sigma, torch.full((4,), sigma).double(), rtol=0.5
    )


def test_derivatives_of_the_optimum_are_those_of_the_frozen_signs():
    G = net(SIZES)
    z, x = signals(G, 2)
    y = seen_of(ci.Magnitudes(A), x).requires_grad_()
    R = ci.invert(G, y, "levenberg_marquardt", measurement=ci.Magnitudes(A), z0=z, restarts=0, differentiable=True)
    assert R.differentiable.all()
    (found,) = torch.autograd.grad(R.z[0, 0], y)
    J = make_task(G, y.detach(), ci.Magnitudes(A)).linearize(z)[1]
    assert torch.allclose(found[0], torch.linalg.pinv(J[0])[0], rtol=1e-6, atol=1e-9) and not found[1].any()


# --- pages, files, refusals -----------------------------------------------------------------------


def test_results_are_saved_read_reported_and_not_taken_for_linear_ones(tmp_path: Path):
    G, seeing = net(SIZES), ci.Magnitudes(A)
    z, x = signals(G, 3)
    y = seen_of(seeing, x)
    R = ci.invert(G, y, "levenberg_marquardt", measurement=seeing, truth=z, restarts=30)
    loaded = ci.Inversion.load(R.save(tmp_path / "result"))
    assert loaded.settings["measurement"] == "Magnitudes(Matrix)" and torch.equal(loaded.z, R.z)
    page = ci.write_report(R, tmp_path / "report.html", y=y, generator=G, measurement=seeing, truth=z)
    assert page.exists() and R.explain(0, generator=G)
    with pytest.raises(ValueError, match=r"expected the measurement Magnitudes\(Matrix\)"):
        ci.write_report(R, tmp_path / "other.html", y=y, generator=G)
    with pytest.raises(ValueError, match=r"expected magnitudes, .* made with Magnitudes\(Matrix\), got a linear"):
        ci.write_report(R, tmp_path / "other.html", y=y, generator=G, measurement=A)
    with pytest.raises(ValueError, match=r"expected a linear measurement, got Magnitudes\(Matrix\): certificates"):
        R.export(tmp_path / "claims", G, y, measurement=seeing)
    assert not (tmp_path / "claims").exists() or not list(certificate_files(tmp_path / "claims"))


def test_an_interrupted_run_goes_on_with_its_magnitudes(tmp_path: Path):
    G, seeing = net(SIZES), ci.Magnitudes(A)
    _, x = signals(G, 4)
    y, options = seen_of(seeing, x), {"restarts": 30, "chunk": 2, "checkpoint": tmp_path / "run"}
    first = ci.invert(G, y, "levenberg_marquardt", measurement=seeing, callback=lambda p: True, on_fail="ignore", **options)
    whole = ci.invert(G, y, "levenberg_marquardt", measurement=seeing, resume=True, **options)
    assert (first.status == "user_limit").any() and whole.verdict.explained.all()


@pytest.mark.parametrize("method", ["latent_pursuit", "layered_basis_pursuit", "oracle"])
def test_methods_that_go_through_layers_refuse_them_by_name(method: str):
    G = net(SIZES)
    z, x = signals(G, 2)
    with pytest.raises(ValueError, match=r"the measurement Magnitudes\(Matrix\) is not linear"):
        ci.invert(G, seen_of(ci.Magnitudes(A), x), method, measurement=ci.Magnitudes(A), truth=z)


def test_hybrid_says_why_it_takes_no_layered_start():
    G = net(SIZES)
    _, x = signals(G, 2)
    R = ci.invert(G, seen_of(ci.Magnitudes(A), x), measurement=ci.Magnitudes(A), restarts=30)
    assert any("no layered start: the measurement Magnitudes(Matrix) is not linear" in note for note in R.notes)


@pytest.mark.parametrize("noise", [None, ("l1", 1.0), ("linf", 0.05), ("gaussian", 0.02)], ids=str)
@pytest.mark.parametrize("method", ci.METHODS)
def test_every_method_takes_magnitudes_or_refuses_them_by_name(method: str, noise: object):
    G, seeing = net(SIZES), ci.Magnitudes(A)
    z, x = signals(G, 3)
    y, few = seeing.observe(x), {f.name for f in fields(ci.METHODS[method])} & {"max_iter"}
    options: dict = {"max_iter": 30} if few and method != "oracle" else {}
    options |= {"truth": z} if method == "oracle" else {}
    R, refused = None, ""
    try:
        R = ci.invert(G, y, method, measurement=seeing, noise=noise, on_fail="ignore", **options)
    except ValueError as error:
        refused = str(error)
    judged = R and ci.verify(G, y, R.z, measurement=seeing, noise=noise)
    assert list(judged.status) == list(R.status) if judged else re.search("is not linear|a linear measurement", refused)


class Squared(ci.AbstractMeasurement):
    """Intensities, which are no linear measurement either: a class of one's own."""

    length = D
    linear = False

    def observe(self, x: Tensor) -> Tensor:
        return x.square()

    def at(self, x: Tensor) -> ci.AbstractMeasurement:
        return ci.Matrix(torch.diag_embed(2 * x))


def test_a_measurement_of_ones_own_that_is_not_linear_goes_the_same_road():
    G = net((3, 30, D), hidden=ci.LeakyReLU(0.3))
    _, x = signals(G, 4)
    R = ci.invert(G, x.square(), "levenberg_marquardt", measurement=Squared(), restarts=30)
    assert R.verdict.explained.all() and torch.allclose(G(R.z).square(), x.square(), rtol=1e-6, atol=1e-9)


def test_a_derivative_that_is_none_is_refused_by_name():
    class Wrong(Squared):
        def at(self, x: Tensor) -> ci.AbstractMeasurement:
            return ci.Matrix(torch.diag_embed(x))

    with pytest.raises(ValueError, match=r"expected at\(x\) of Wrong to be the derivative of its observe at x"):
        as_measurement(Wrong(), D, N)


@pytest.mark.generators
def test_a_trained_decoder_is_inverted_from_magnitudes(real_generator):
    G = real_generator("csinva_vae_20_400_784").to(torch.float64)
    z, x = signals(G, 10)
    seeing = ci.Magnitudes(normal(120, 784, seed=11))
    R = ci.invert(G, seeing.observe(x), measurement=seeing)
    assert R.verdict.explained.all() and R.determined.all() and error(R.z, z) < 1e-6
