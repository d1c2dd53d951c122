"""A generator of the user's own, one class without a private name, goes the whole road; one that is wrong is refused."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cvxinv as ci


@dataclass(frozen=True, eq=False)
class Waves(ci.AbstractGenerator):
    """x = B sin(A z) + C z: no layers, and derivatives written by hand; `factor` spoils the pull."""

    A: Tensor
    B: Tensor
    C: Tensor
    factor: float = 1.0

    @property
    def latent_dim(self):
        return self.A.shape[1]

    @property
    def signal_shape(self):
        return (self.B.shape[0],)

    @property
    def dtype(self):
        return self.A.dtype

    @property
    def device(self):
        return self.A.device

    def values(self, z):
        return torch.sin(z @ self.A.T) @ self.B.T + z @ self.C.T

    def pull(self, z, r):
        return self.factor * ((r @ self.B * torch.cos(z @ self.A.T)) @ self.A + r @ self.C)

    def to(self, dtype=None, device=None):
        A, B, C = (part.to(dtype=dtype or self.dtype, device=device or self.device) for part in (self.A, self.B, self.C))
        return replace(self, A=A, B=B, C=C)


@dataclass(frozen=True, eq=False)
class Pushing(Waves):
    """The same with products forwards."""

    def push(self, z, v):
        return (v @ self.A.T * torch.cos(z @ self.A.T)) @ self.B.T + v @ self.C.T


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PARTS = (normal(20, 4), normal(30, 20, seed=1) / 4, normal(30, 4, seed=2))
KINDS = [Waves(*PARTS), Pushing(*PARTS)]
Z = normal(6, 4, seed=3)


@pytest.mark.parametrize("G", KINDS, ids=["pulls", "pushes"])
def test_jacobians_follow_from_the_products(G: Waves):
    x, J = G.linearize(Z)
    exact = torch.func.vmap(torch.func.jacfwd(lambda z: G.values(z[None])[0]))(Z)
    assert torch.allclose(J, exact, rtol=1e-12, atol=1e-12) and torch.equal(x, G(Z))
    v, r = normal(6, 3, 4, seed=4), normal(6, 3, 30, seed=5)
    _, piece = G.piece(Z)
    assert torch.allclose(piece.push(v), v @ exact.mT) and torch.allclose(piece.pull(r), r @ exact)
    assert torch.allclose(G.push(Z, v[:, 0]), (v @ exact.mT)[:, 0])
    assert torch.allclose(piece.single.jacobian().double(), exact, atol=1e-5)


@pytest.mark.parametrize("G", KINDS, ids=["pulls", "pushes"])
def test_it_is_inverted_judged_explained_reported_and_saved(G: Waves, tmp_path: Path):
    y = G(Z)
    mask = torch.rand(6, 30, generator=torch.Generator().manual_seed(6)) > 0.4
    for options in ({}, {"measurement": mask}, {"method": "levenberg_marquardt", "restarts": 20}):
        R = ci.invert(G, torch.where(mask, y, 0.0) if "measurement" in options else y, on_fail="ignore", **options)
        assert R.verdict.explained.sum() >= 5 and R.hidden == () and R.layers == ()
        found = R.verdict.explained
        assert torch.allclose(G(R.z)[found], y[found], atol=1e-6) or "measurement" in options
    verdict = ci.verify(G, y, Z)
    assert verdict.explained.all() and verdict.determined.all()
    noisy = ci.invert(G, y + 0.01 * normal(6, 30, seed=7), noise="auto", prior=ci.Gaussian(1.0), on_fail="ignore")
    assert noisy.uncertainty is not None and noisy.uncertainty.signal_std.isfinite().all()
    R = ci.invert(G, y, on_fail="ignore")
    assert "can be trusted" in R.explain(0, generator=G)
    again = ci.Inversion.load(R.save(tmp_path / "result"))
    assert torch.equal(again.z, R.z) and again.settings["generator"]
    page = ci.write_report(R, tmp_path / "report.html", y=y, generator=G, truth=Z)
    assert page.stat().st_size > 10_000


@pytest.mark.parametrize("method", ["latent_pursuit", "layered_basis_pursuit", "oracle"])
def test_methods_that_go_through_layers_refuse_it_by_name(method: str):
    with pytest.raises(ValueError, match=rf"{method} cannot invert this: .* class Waves, .* use method='hybrid'"):
        ci.invert(KINDS[0], KINDS[0](Z), method)


def test_what_is_no_generator_is_refused():
    y = KINDS[0](Z)
    with pytest.raises(ValueError, match=r"expected pull\(z, r\) as J'r .* in Waves; correct its class"):
        ci.invert(Waves(*PARTS, factor=2.0), y)
    with pytest.raises(ValueError, match=r"adjoint of push"):
        ci.invert(Pushing(*PARTS, factor=2.0), y)
