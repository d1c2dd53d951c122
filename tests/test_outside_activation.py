"""A softplus as output activation, one class of public names, goes every road or is refused by name."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import cvxinv as ci
from cvxinv.check_inversion import check_file
from cvxinv.guarantees.inspection import inspect_generator
from cvxinv.inversion.export import certificate_files


@dataclass(frozen=True)
class Softplus(ci.AbstractActivation):
    """log(1 + e^u), with values above 0."""

    name = "softplus"
    range = (0.0, float("inf"))

    def __call__(self, u: Tensor) -> Tensor:
        return F.softplus(u, threshold=50)

    def derivative(self, u: Tensor) -> Tensor:
        return u.sigmoid()


@dataclass(frozen=True)
class InvertibleSoftplus(Softplus):
    """The same with its inverse."""

    def inverse(self, y: Tensor) -> Tensor:
        return y + torch.log(-torch.expm1(-y))


@dataclass(frozen=True)
class Halving(ci.AbstractActivation):
    """u above 0, u / 2 below: a kink of one's own, which may stand behind a hidden layer."""

    name = "halving"

    @property
    def slopes(self) -> tuple[float, float]:
        return 0.5, 1.0

    def __call__(self, u: Tensor) -> Tensor:
        return torch.where(u > 0, u, u / 2)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.where(u > 0, torch.ones_like(u), 0.5)

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, 2 * y)


BOTH = pytest.mark.parametrize("phi", [Softplus(), InvertibleSoftplus()], ids=["without inverse", "with inverse"])
SEARCHING = ("hybrid", "levenberg_marquardt", "gradient_descent")
LAYERED = ("latent_pursuit", "layered_basis_pursuit", "oracle")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generator(output: ci.AbstractActivation, hidden: ci.AbstractActivation | None = None) -> ci.Generator:
    """4-24-100."""
    layers, n = [], 4
    for m, phi in ((24, hidden or ci.ReLU()), (100, output)):
        W = torch.randn(m, n, generator=seeded(m), dtype=torch.float64) / n**0.5
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), phi))
        n = m
    return ci.Generator(tuple(layers), (10, 10), {})


def latents(N: int, seed: int = 0) -> Tensor:
    return torch.randn(N, 4, generator=seeded(seed), dtype=torch.float64)


@BOTH
@pytest.mark.parametrize("method", SEARCHING)
def test_the_methods_that_search_for_z_go_through_it(method: str, phi: Softplus):
    G, z = generator(phi), latents(3)
    R = ci.invert(G, G(z), method, on_fail="ignore", restarts=20)
    assert torch.equal(R.verdict.misfit, ci.verify(G, G(z), R.z).misfit)
    if method != "gradient_descent":
        assert R.verdict.explained.all() and torch.allclose(R.z, z, rtol=1e-6, atol=1e-6)
    assert (R.verdict.relative_misfit < 0.2).all()


@pytest.mark.parametrize("method", LAYERED)
def test_the_layered_methods_need_an_inverse(method: str):
    G, z = generator(InvertibleSoftplus()), latents(3)
    extra = {"truth": z} if method == "oracle" else {}
    R = ci.invert(G, G(z), method, on_fail="ignore", **extra)
    assert R.verdict.explained.all() and torch.allclose(R.z, z, rtol=1e-6, atol=1e-6)
    G = generator(Softplus())
    with pytest.raises(ValueError, match=r"Softplus has no inverse.*Use method='hybrid'"):
        ci.invert(G, G(z), method, **extra)


@pytest.mark.parametrize("form", ["preactivation", "interval"])
def test_its_image_layer_is_read_in_both_convex_forms(form: str):
    G, z = generator(InvertibleSoftplus()), latents(3)
    R = ci.invert(G, G(z), "latent_pursuit", image_layer=form)
    assert R.verdict.explained.all() and all((r.solution.status == "optimal").all() for r in R.layers)


def test_without_a_bound_on_its_curvature_the_curved_form_is_refused_by_name():
    G, z = generator(InvertibleSoftplus()), latents(2)
    with pytest.raises((TypeError, ValueError), match="InvertibleSoftplus"):
        ci.invert(G, G(z), "latent_pursuit", image_layer="activated")


@BOTH
def test_noise_masks_and_matrices(phi: Softplus):
    G, z = generator(phi), latents(2)
    y = G(z)
    noisy = y + 0.001 * torch.randn(2, 100, generator=seeded(9), dtype=torch.float64)
    bound = float((noisy - y).norm(dim=1).max())
    assert ci.invert(G, noisy, noise=("l2", bound), restarts=20).verdict.explained.all()
    assert ci.invert(G, y, measurement=torch.arange(100) % 3 > 0, restarts=20).verdict.explained.all()
    A = torch.randn(60, 100, generator=seeded(8), dtype=torch.float64)
    assert ci.invert(G, y @ A.T, measurement=A, restarts=20).verdict.explained.all()


def test_float32():
    G, z = generator(InvertibleSoftplus()), latents(2)
    small = G.to(torch.float32)
    R = ci.invert(small, small(z.float()))
    assert R.z.dtype == torch.float32 and R.verdict.explained.all()


@BOTH
def test_results_are_saved_explained_and_reported(phi: Softplus, tmp_path: Path):
    G, z = generator(phi), latents(2)
    R = ci.invert(G, G(z), restarts=20, truth=z)
    loaded = ci.Inversion.load(R.save(tmp_path / "result"))
    assert torch.equal(loaded.z, R.z) and "can be trusted" in loaded.explain(generator=G)
    page = ci.write_report(loaded, tmp_path / "report.html", y=G(z), generator=G, truth=z).read_text()
    assert "recovered signal 1" in page
    assert phi.name == "softplus" and "oftplus()" in repr(G)


@pytest.mark.parametrize(("phi", "words"), [
    (Softplus(), "not possible, its output Softplus has no inverse"),
    (InvertibleSoftplus(), "with a certificate, read before its InvertibleSoftplus"),
])  # fmt: skip
def test_an_inspection_says_whether_layers_can_be_read_behind_it(phi: Softplus, words: str):
    assert words in inspect_generator(generator(phi), 20).expectations[0]


@dataclass(frozen=True)
class Impostor(Softplus):
    """A softplus that calls itself as another activation does."""

    name = "identity"


@pytest.mark.parametrize("phi", [Softplus(), InvertibleSoftplus(), Impostor()], ids=lambda phi: type(phi).__name__)
def test_files_that_could_not_say_it_are_not_written(phi: Softplus, tmp_path: Path):
    """Before, a generator was written that could not be loaded."""
    G, z = generator(phi), latents(2)
    with pytest.raises(
        ValueError, match=rf"activation that files know \(.*\), got {type(phi).__name__}\(\); save generator"
    ):
        ci.save_generator(G, tmp_path / "G")
    R = ci.invert(G, G(z), restarts=20)
    with pytest.raises(ValueError, match=rf"activation that certificates know .*, got {type(phi).__name__}\(\)"):
        R.export(tmp_path / "claims", G, G(z))
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_the_cure_for_files_works(tmp_path: Path):
    G, z = generator(Softplus()), latents(2)
    ci.save_generator(G.with_output("identity"), tmp_path / "G")
    again = ci.load_generator(tmp_path / "G", output=Softplus())
    assert torch.equal(again(z), G(z)) and again.layers[-1].activation == Softplus()


def test_a_kink_of_ones_own_stands_behind_hidden_layers(tmp_path: Path):
    """It is served as the LeakyReLU that it equals, by every method, and is refused by files all the same."""
    ours, theirs, z = generator(ci.Identity(), Halving()), generator(ci.Identity(), ci.LeakyReLU(0.5)), latents(3)
    y = ours(z)
    assert torch.equal(y, theirs(z))
    for method in (*SEARCHING, "latent_pursuit", "oracle"):
        extra = {"truth": z} if method == "oracle" else {}
        R, S = (ci.invert(G, y, method, on_fail="ignore", **extra) for G in (ours, theirs))
        assert torch.equal(R.z, S.z) and (R.status == S.status).all(), method
    with pytest.raises(ValueError, match=r"LeakyReLU leaves|leaves its hidden layer without zeros"):
        ci.invert(ours, y, "layered_basis_pursuit")
    with pytest.raises(ValueError, match="activation that files know"):
        ci.save_generator(ours, tmp_path / "G")


def test_claims_on_layers_behind_it_are_checked(tmp_path: Path):
    G, z = generator(InvertibleSoftplus()), latents(2)
    R = ci.invert(G, G(z), "latent_pursuit")
    for number, report in enumerate(R.layers):
        report.solution.export(tmp_path / f"{number}.certificate.json")
    for file in certificate_files(tmp_path):
        assert all(v.accepted for v in check_file(file)), file


@dataclass(frozen=True)
class Bump(ci.AbstractActivation):
    """u e^(-u^2): it rises and falls, and says so."""

    name = "bump"
    range = (-0.43, 0.43)
    monotone = False

    def __call__(self, u: Tensor) -> Tensor:
        return u * torch.exp(-u * u)

    def derivative(self, u: Tensor) -> Tensor:
        return (1 - 2 * u * u) * torch.exp(-u * u)


def test_one_that_is_not_monotone_stands_anywhere_for_the_methods_that_search():
    sigma = 1e-4
    for G in (generator(Bump()), generator(ci.Identity(), Bump()), generator(Bump(), ci.Tanh())):
        z = latents(3)
        R = ci.invert(G, G(z), restarts=20)
        assert R.verdict.explained.all()
        noisy = ci.invert(
            G, G(z) + sigma * torch.randn(3, 100, generator=seeded(4), dtype=torch.float64), noise=("gaussian", sigma)
        )
        assert noisy.verdict.explained.all() and noisy.uncertainty.output == (ci.Identity())
        with pytest.raises(ValueError, match=r"Bump|Tanh"):
            ci.invert(G, G(z), "latent_pursuit")


def test_one_that_falls_and_does_not_say_so_is_refused():
    @dataclass(frozen=True)
    class Silent(Bump):
        monotone = True

    with pytest.raises(ValueError, match=r"nondecreasing, .*or monotone = False, got Silent"):
        generator(Silent())
