"""A blur as a measurement, one class of public names, goes every road: inverted, judged, saved, reported, checked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_device import PretendDevice
from torch import Tensor
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv.batch import per_signal
from cvxinv.check_inversion import check_file
from cvxinv.command.cli import app
from cvxinv.inversion.export import certificate_files

D = 100


@dataclass(frozen=True, eq=False)
class Blur(ci.AbstractMeasurement):
    """A circular blur of signals of 100 numbers."""

    kernel: Tensor

    @property
    def length(self) -> int:
        return D

    def observe(self, x: Tensor) -> Tensor:
        return sum(weight * x.roll(shift, -1) for shift, weight in enumerate(self.kernel))


BLUR = Blur(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
MATRIX = torch.stack([sum(w * torch.eye(D).double()[k].roll(-s) for s, w in enumerate(BLUR.kernel)) for k in range(D)])
IDENTITY = ci.Identity()
LAYERED = ("latent_pursuit", "layered_basis_pursuit", "oracle")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generator(output: ci.AbstractActivation = IDENTITY, scale: float = 1.0) -> ci.Generator:
    """4-24-100, kept well-conditioned."""
    layers, n = [], 4
    for m, phi in ((24, ci.ReLU()), (D, output)):
        W = torch.randn(m, n, generator=seeded(m), dtype=torch.float64) / n**0.5
        layers.append(ci.Layer(ci.Dense(scale * W), torch.zeros(m, dtype=torch.float64), phi))
        n = m
    return ci.Generator(tuple(layers), (10, 10), {})


def latents(N: int, seed: int = 0) -> Tensor:
    return torch.randn(N, 4, generator=seeded(seed), dtype=torch.float64)


def test_the_transcribed_matrix_is_the_blur():
    x = torch.randn(3, D, generator=seeded(1), dtype=torch.float64)
    assert torch.allclose(x @ MATRIX.T, BLUR.observe(x), rtol=1e-13)


NEARLY = ("projected_gradient", "intermediate_layers")  # first-order to the end: near the signal, and no nearer


@pytest.mark.parametrize("method", ci.METHODS)
def test_every_method_sees_the_blur(method: str):
    """As with the matrix of the blur; before, the image layer was solved and certified as if nothing were blurred."""
    G, z = generator(), latents(3)
    seen, name = (ci.Magnitudes, "Magnitudes({})") if "phase" in method else (lambda A: A, "{}")
    y = BLUR.observe(G(z))
    y = y.abs() if "phase" in method else y
    extra = {"truth": z} if method == "oracle" else {}
    R = ci.invert(G, y, method, measurement=seen(BLUR), on_fail="ignore", **extra)
    S = ci.invert(G, y, method, measurement=seen(MATRIX), on_fail="ignore", **extra)
    assert (R.status == S.status).all() and R.settings["measurement"] == name.format(f"{__name__}.Blur")
    assert torch.allclose(R.z, S.z, rtol=1e-6, atol=1e-6) and torch.allclose(R.verdict.misfit, S.verdict.misfit, atol=1e-6)
    if method in NEARLY:
        assert (R.verdict.relative_misfit < 1e-3).all()
    elif not method.startswith("gradient_descent"):
        assert R.verdict.explained.all() and torch.allclose(R.z, z, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(R.layers, S.layers, strict=True):
        assert list(ours.solution.status) == list(theirs.solution.status)
        assert torch.allclose(
            ours.solution.certificate.objective, theirs.solution.certificate.objective, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("phi", [ci.Identity(), ci.ReLU(), ci.LeakyReLU(0.2), ci.Tanh(), ci.Sigmoid(), ci.PLU()], ids=repr)
def test_the_search_for_z_goes_through_every_output(phi: ci.AbstractActivation):
    G, z = generator(phi, 0.5), latents(2)
    y = BLUR.observe(G(z))
    for method in ("hybrid", "levenberg_marquardt", "gradient_descent"):
        R = ci.invert(G, y, method, measurement=BLUR, on_fail="ignore")
        assert torch.equal(R.verdict.misfit, ci.verify(G, y, R.z, measurement=BLUR).misfit)
        assert torch.allclose(R.verdict.misfit, (BLUR.observe(G(R.z)) - y).norm(dim=1), rtol=1e-6, atol=1e-12)
    if phi != ci.Identity():
        for method in LAYERED:
            extra = {"truth": z} if method == "oracle" else {}
            with pytest.raises(
                ValueError, match=rf"Blur acts on the signal behind its {type(phi).__name__}.*Use method='hybrid'"
            ):
                ci.invert(G, y, method, measurement=BLUR, **extra)


def test_the_gradient_is_that_of_autograd():
    """It was 32 % off."""
    from cvxinv.inversion.steps.gradient import gradient
    from cvxinv.inversion.task import make_task

    G, z = generator(ci.Tanh(), 0.5), latents(3, seed=1).requires_grad_()
    y = BLUR.observe(G(latents(3))).detach()
    (expected,) = torch.autograd.grad((BLUR.observe(G(z)) - y).square().sum() / 2, z)
    _, found = gradient(make_task(G, y, BLUR), z.detach())
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_verify_judges_behind_the_blur():
    G, z = generator(), latents(3)
    y = BLUR.observe(G(z))
    good, without = ci.verify(G, y, z, measurement=BLUR), ci.verify(G, y, z)
    assert good.explained.all() and good.determined.all() and not without.explained.any()
    J = MATRIX @ G.linearize(z)[1]
    assert torch.allclose(good.sigma_min, torch.linalg.svdvals(J)[:, -1], rtol=1e-9)


def test_what_no_latent_explains_behind_the_blur_is_proved():
    G, y = generator(), torch.randn(2, D, generator=seeded(5), dtype=torch.float64)
    R = ci.invert(G, y, "latent_pursuit", measurement=BLUR, on_fail="ignore")
    nearest = (
        y.T - MATRIX @ G.layers[1].W.matrix() @ torch.linalg.lstsq(MATRIX @ G.layers[1].W.matrix(), y.T).solution
    ).norm(dim=0)
    for i in range(2):
        words = R.explain(i, generator=G)
        assert "proved, no latent at all explains it" in words
    bound = R.layers[0].solution.certificate.bound
    assert ((2 * bound).sqrt() >= nearest * (1 - 1e-6)).all() and ((2 * bound).sqrt() <= R.verdict.misfit * (1 + 1e-6)).all()


def test_signals_may_come_as_the_pictures_that_they_are():
    G, z = generator(), latents(3)
    y = BLUR.observe(G(z))
    R = ci.invert(G, y.reshape(3, 10, 10), measurement=BLUR)
    assert torch.equal(R.z, ci.invert(G, y, measurement=BLUR).z)
    one = ci.invert(G, y[0].reshape(10, 10), measurement=BLUR)
    assert one.z.shape == (4,) and one.verdict.explained.all()
    for wrong in (y[:, 1:], y.reshape(3, 5, 20)):
        with pytest.raises(ValueError, match=r"expected y of shape \(N, 100\)"):
            ci.invert(G, wrong, measurement=BLUR)


def test_float32_signals_and_generators():
    G, z = generator(), latents(2)
    R = ci.invert(G.to(torch.float32), BLUR.observe(G(z)).float(), measurement=BLUR)
    assert R.z.dtype == torch.float32 and R.verdict.explained.all()


def test_the_whole_road(tmp_path: Path):
    """Inverted, judged, saved, loaded, explained, reported and checked in exact arithmetic."""
    G, z = generator(), latents(3)
    y = BLUR.observe(G(z))
    R = ci.invert(G, y, measurement=BLUR, truth=z, on_fail="raise")
    R.save(tmp_path / "result")
    loaded = ci.Inversion.load(tmp_path / "result")
    assert torch.equal(loaded.z, R.z) and loaded.settings["measurement"] == f"{__name__}.Blur"
    assert R.explain(generator=G) == loaded.explain(generator=G) and "can be trusted" in R.explain()
    page = ci.write_report(loaded, tmp_path / "report.html", y=y, generator=G, measurement=BLUR, truth=z).read_text()
    assert "measurements of signal 0" in page and "Striped" not in page and "observed signal" not in page
    R.export(tmp_path / "claims", G, y, BLUR)
    for file in certificate_files(tmp_path / "claims"):
        verdicts = check_file(file)
        assert verdicts and all(v.accepted for v in verdicts), file


@dataclass(frozen=True, eq=False)
class BlurWithAdjoint(Blur):
    """The same without autograd, which a pretended device has not."""

    def adjoint(self, r: Tensor) -> Tensor:
        return sum(weight * r.roll(-shift, -1) for shift, weight in enumerate(self.kernel))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here, and need for none that pretends")
def test_on_a_device():
    z = latents(3)
    y = BLUR.observe(generator()(z))
    with PretendDevice():
        G, there = generator().to(device="cuda"), BlurWithAdjoint(BLUR.kernel.to("cuda"))
        for method in ("hybrid", "latent_pursuit", "gradient_descent"):
            R = ci.invert(G, y.to("cuda"), method, measurement=there, on_fail="ignore")
            S = ci.invert(generator(), y, method, measurement=BLUR, on_fail="ignore")
            assert list(R.status) == list(S.status) and R.z.device.type == "cuda"
        with pytest.raises(ValueError, match=r"expected the measurement on cuda:0, got it on cpu; move it with \.to\(\)"):
            ci.invert(G, y.to("cuda"), measurement=BLUR)


def test_forgetting_the_blur_is_refused_by_name(tmp_path: Path):
    G, z = generator(), latents(2)
    y = BLUR.observe(G(z))
    R = ci.invert(G, y, measurement=BLUR, on_fail="ignore")
    with pytest.raises(ValueError, match=r"expected the measurement .*Blur that the inversion was made with, got none"):
        ci.write_report(R, tmp_path / "report.html", y=y, generator=G)
    with pytest.raises(ValueError, match="Blur that the inversion was made with"):
        R.export(tmp_path / "claims", G, y)
    assert not list(tmp_path.iterdir()), "nothing was written"
    ci.save_generator(G, tmp_path / "G")
    R.save(tmp_path / "result")
    np.save(tmp_path / "y.npy", y.numpy())
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "G"), str(tmp_path / "y.npy"), str(tmp_path / "result")])
    assert done.exit_code == 2 and "Blur" in done.output


def test_claims_on_the_unblurred_signal_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The exact checker is given the matrix: a z that explains the signal itself is caught, as it is before the export."""
    G, z = generator(), latents(2)
    R = ci.invert(G, G(z))
    R.settings["measurement"] = f"{__name__}.Blur"
    with pytest.raises(ValueError, match="expected the signals that were inverted"):
        R.export(tmp_path / "claims", G, G(z), BLUR)
    monkeypatch.setattr("cvxinv.inversion.export.check_signals", lambda *_: None)
    R.export(tmp_path / "claims", G, G(z), BLUR)
    verdicts = [v for v in check_file(tmp_path / "claims" / "inversion.certificate.json") if v.claim == "explained"]
    assert verdicts and not any(v.accepted for v in verdicts)


@dataclass(frozen=True, eq=False)
class Shuffle(ci.AbstractMeasurement):
    """Every signal with its entries in an order of its own."""

    order: Tensor = per_signal()

    @property
    def length(self) -> int:
        return D

    def observe(self, x: Tensor) -> Tensor:
        return x.gather(1, self.order)


def test_what_differs_from_signal_to_signal_is_inverted_or_refused_by_name(tmp_path: Path):
    G, z = generator(), latents(3)
    seeing = Shuffle(torch.stack([torch.randperm(D, generator=seeded(i)) for i in range(3)]))
    y = seeing.observe(G(z))
    for method in ("hybrid", "levenberg_marquardt"):
        R = ci.invert(G, y, method, measurement=seeing, chunk=2, restarts=20)
        assert R.verdict.explained.all() and ci.verify(G, y, z, measurement=seeing).explained.all()
    for method in LAYERED:
        extra = {"truth": z} if method == "oracle" else {}
        with pytest.raises(ValueError, match=r"Shuffle makes no one map of the image layer.*Use method='hybrid'"):
            ci.invert(G, y, method, measurement=seeing, **extra)
    with pytest.raises(ValueError, match=r"Shuffle, which differs from signal to signal"):
        R.export(tmp_path / "claims", G, y, seeing)
    assert not list(tmp_path.iterdir())
