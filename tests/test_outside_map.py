"""A map of the user's own, in one class and without a private name, goes the whole road; one that is wrong is refused."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.generator import ops


@dataclass(frozen=True, eq=False)
class Kronecker(ci.AbstractMap):
    """`left` X `right`' for a picture X of as many rows as `left` has columns, flat on both sides."""

    left: Tensor
    right: Tensor

    @property
    def n(self):
        return self.left.shape[1] * self.right.shape[1]

    @property
    def m(self):
        return self.left.shape[0] * self.right.shape[0]

    @property
    def dtype(self):
        return self.left.dtype

    @property
    def device(self):
        return self.left.device

    def __call__(self, h):
        X = h.reshape(-1, self.left.shape[1], self.right.shape[1])
        return (self.left @ X @ self.right.T).flatten(1)

    def adjoint(self, p):
        Y = p.reshape(-1, self.left.shape[0], self.right.shape[0])
        return (self.left.T @ Y @ self.right).flatten(1)

    def to(self, dtype=None, device=None):
        return type(self)(
            *(side.to(device=device or self.device, dtype=dtype or self.dtype) for side in (self.left, self.right))
        )


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(W: ci.AbstractMap) -> ci.Dense:
    return ci.Dense(torch.kron(W.left, W.right))


W = Kronecker(normal(6, 3), normal(4, 2, seed=1))
H, P = normal(5, W.n, seed=2), normal(5, W.m, seed=3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_a_map_is_follows_from_its_products(dtype: torch.dtype):
    mine, other, rtol = W.to(dtype), dense(W).to(dtype), 1e-5 if dtype == torch.float32 else 1e-12
    same = {
        "matrix": (mine.matrix(), other.matrix()),
        "magnitude": (mine.magnitude().matrix(), other.matrix().abs()),
        "scaled": (mine.scaled(-3.0).matrix(), -3 * other.matrix()),
        "gram": (mine.gram(), other.gram()),
        "rows": (mine.row_lengths(), other.row_lengths()),
        "columns": (mine.column_lengths(), other.column_lengths()),
        "norm": (torch.tensor(mine.norm()), torch.tensor(other.norm())),
        "stretched": (mine.stretched(P[0].to(dtype), H[0].to(dtype)).matrix(),) * 2,
    }
    for name, (got, expected) in same.items():
        assert torch.allclose(got, expected, rtol=rtol, atol=rtol), name
    assert mine.shapes == ((W.n,), (W.m,))


def rows(W: ci.AbstractMap) -> ci.Rows:
    b, h = 0.1 * normal(W.m, seed=4), H.clamp(min=0)
    u = W(h) + b
    return ci.Rows(W, b, u.clamp(min=0) + 0.1 * P.abs() * (u > 0), u > 0)


@pytest.mark.parametrize("solver", ["auto", "CLARABEL", "graph_admm", "interior_point", "pdhg"])
def test_layer_problems_of_it_are_solved_and_certified(solver: str):
    found = ci.solve(ci.NonnegativeLasso(rows(W), lam=0.05), solver=solver)
    other = ci.solve(ci.NonnegativeLasso(rows(dense(W)), lam=0.05), solver="CLARABEL")
    assert (found.status == "optimal").all()
    assert torch.allclose(
        found.certificate.objective, other.certificate.objective, rtol=2e-6
    )  # what `optimal` allows the two


def generator(W: ci.AbstractMap) -> ci.Generator:
    first = ci.Layer(ci.Dense(normal(W.n, 3, seed=5)), normal(W.n, seed=6), ci.ReLU())
    return ci.Generator((first, ci.Layer(W, 0.1 * normal(W.m, seed=7), ci.Sigmoid())), (6, 4), {"name": "kron"})


def test_a_generator_of_it_goes_the_whole_road(tmp_path: Path):
    G = generator(W)
    z = normal(4, 3, seed=8)
    assert torch.allclose(G(z), generator(dense(W))(z), rtol=1e-12)
    assert torch.allclose(G.linearize(z)[1], generator(dense(W)).linearize(z)[1], rtol=1e-10, atol=1e-12)
    assert "Kronecker 6 -> 24, Sigmoid()" in repr(G)
    y = G(z)
    for method in ("hybrid", "latent_pursuit", "levenberg_marquardt"):
        found = ci.invert(G, y, method)
        assert (found.status == "explained").all(), method
    assert (ci.verify(G, y, found.z).status == "explained").all()
    found.save(tmp_path / "result")
    back = ci.Inversion.load(tmp_path / "result")
    assert torch.equal(back.z, found.z) and (back.status == found.status).all()
    ci.write_report(found, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_it_is_refused_by_name_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match=r"got Kronecker; save Dense\(W\.matrix\(\)\) in its place"):
        ci.save_generator(generator(W), tmp_path / "net")
    assert not list(tmp_path.iterdir())
    ci.save_generator(generator(ci.Dense(W.matrix())), tmp_path / "net")
    z = normal(4, 3, seed=8)
    assert torch.allclose(ci.load_generator(tmp_path / "net")(z), generator(W)(z), rtol=1e-12)


def test_one_op_reads_and_saves_it(tmp_path: Path):
    """The errand of CONTRIBUTING, from outside."""
    try:

        @dataclass(frozen=True, eq=False, kw_only=True)
        class KroneckerOp(ops.AbstractMapOp, names=("kronecker",), saves=Kronecker):
            left: ops.Matrix
            right: ops.Matrix

            def maps(self, shape):
                return (Kronecker(self.left, self.right),)

        G = generator(W)
        ci.save_generator(G, tmp_path / "net")
        back = ci.load_generator(tmp_path / "net")
    finally:
        del ops.OPS["kronecker"]
    assert isinstance(back.layers[1].W, Kronecker) and back.signal_shape == (6, 4)
    assert torch.equal(back.layers[1].W.left, W.left) and torch.equal(back(normal(4, 3)), G(normal(4, 3)))
    with pytest.raises(ci.UnsupportedLayerError, match=r"got layer 2 \(kronecker\) of .*net\.json, which is unknown"):
        ci.load_generator(tmp_path / "net")


class Affine(Kronecker):
    def __call__(self, h):
        return super().__call__(h) + 1


class Untransposed(Kronecker):
    def adjoint(self, p):
        return super().adjoint(p) * 1.001


class Single(Kronecker):
    def __call__(self, h):
        return super().__call__(h).float()


class Shrunk(Kronecker):
    def magnitude(self):
        return ci.Dense(0.5 * self.matrix().abs())


class Rotated(Kronecker):
    def make_matrix(self):
        return torch.kron(self.right, self.left)


class Deaf(Kronecker):
    def scaled(self, factor):
        return self


WRONG = {
    Affine: r"with W\(h \+ 2 k\) = W\(h\) \+ 2 W\(k\), got another in Affine",
    Untransposed: "with W'p as adjoint, got another in Untransposed",
    Single: r"with W\(h\) of shape \(N, 24\) in torch\.float64 on cpu, got another in Single",
    Shrunk: r"with a magnitude\(\) of at least \|W\|, got another in Shrunk",
    Rotated: "with W h as products with its matrix, got another in Rotated",
    Deaf: r"with scaled\(factor\) as a multiple, got another in Deaf",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_map_that_is_none_is_refused(kind: type[Kronecker]):
    wrong = kind(W.left, W.right)
    for build in (lambda: ci.Rows(wrong, normal(W.m), P, P > 0), lambda: generator(wrong)):
        with pytest.raises(ValueError, match=WRONG[kind]):
            build()
    around = ci.Composition(wrong, ci.Dense(normal(W.n, 2)))
    with pytest.raises(ValueError, match=WRONG[kind]):
        ci.Layer(around, normal(W.m), ci.ReLU())
