"""Ops that make no plain ReLU chain: smooth hidden layers, lines written with ReLUs, what follows the last activation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.check_inversion import check_file
from cvxinv.generator import ops
from cvxinv.generator.activations import LeakyReLU, PLUModule, ReLU, Sigmoid, Tanh, rescaled
from cvxinv.generator.folding import fold
from cvxinv.guarantees.inspection import inspect_generator
from cvxinv.inversion import priors
from cvxinv.inversion.export import certificate_files

RTOL = 1e-12  # float64 roundings of sums of some tens of terms
PLACE = ops.Place("a test", "correct it")

PAIRS: list[tuple[ci.AbstractActivation, Callable[[Tensor], Tensor]]] = [
    (Tanh(), torch.tanh),
    (Sigmoid(), torch.sigmoid),
    (ci.ELU(0.7), nn.ELU(0.7)),
    (ci.CELU(0.5), nn.CELU(0.5)),
    (ci.SELU(), nn.SELU()),
    (ci.GELU(), nn.GELU()),
    (ci.GELU("tanh"), nn.GELU("tanh")),
    (ci.SiLU(), nn.SiLU()),
    (ci.Mish(), nn.Mish()),
    (ci.Hardswish(), nn.Hardswish()),
    (ci.Softplus(2.0), nn.Softplus(2.0)),
    (ci.Softsign(), nn.Softsign()),
    (ci.Exp(), torch.exp),
    (ci.Clamp(-0.5, 0.8), nn.Hardtanh(-0.5, 0.8)),
    (ci.Clamp.of(0, 6), nn.ReLU6()),
    (ci.Clamp.of(None, 0.25), lambda u: u.clamp(max=0.25)),
    (ci.Hardsigmoid(0.25, 0.5), lambda u: (0.25 * u + 0.5).clamp(0, 1)),
    (ci.PLU(0.2, 0.5), PLUModule(0.2, 0.5)),
]  # fmt: skip
ALL = pytest.mark.parametrize(("phi", "function"), PAIRS, ids=[repr(phi) for phi, _ in PAIRS])
LINES = [phi for phi, _ in PAIRS if phi.pieces is not None]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(m: int, n: int, seed: int = 0) -> ops.Linear:
    return ops.Linear(weight=normal(m, n, seed=seed) / n**0.5, bias=normal(m, seed=seed + 1))


def applied(op: ops.Linear, z: Tensor) -> Tensor:
    return F.linear(z, op.weight, op.bias)


def folded(*steps: ops.AbstractOp, n: int = 4) -> ci.Generator:
    return fold([(PLACE, step) for step in steps], (n,))


def assert_computes(G: ci.Generator, function: Callable[[Tensor], Tensor], rtol: float = RTOL) -> None:
    """Values of batches of 0, 1 and many latents, and Jacobians against autograd."""
    z = normal(7, G.latent_dim, seed=9)
    x = function(z).flatten(1)
    for part in (slice(0, 0), slice(0, 1), slice(None)):
        assert torch.allclose(G(z[part]), x[part], rtol=rtol, atol=rtol * float(x.abs().max()))
    J = torch.stack([torch.autograd.functional.jacobian(lambda t: function(t[None]).flatten(), v) for v in z])
    values, ours = G.linearize(z)
    assert torch.equal(values, G(z)) and torch.allclose(ours, J, rtol=1e-7, atol=1e-7 * float(J.abs().max()))
    piece, v, r = G.piece(z)[1], normal(7, 2, G.latent_dim, seed=8), normal(7, 3, G.signal_dim, seed=7)
    assert torch.allclose(piece.push(v), v @ ours.mT, rtol=1e-9, atol=1e-9 * float(J.abs().max()))
    assert torch.allclose(piece.pull(r), r @ ours, rtol=1e-9, atol=1e-9 * float(J.abs().max()))
    single = G.to(torch.float32)
    assert torch.allclose(single(z.float()).double(), x, rtol=1e-4, atol=1e-5 * float(x.abs().max()))


@ALL
def test_an_activation_is_read_behind_hidden_layers_and_at_the_output(phi: ci.AbstractActivation, function: Callable):
    a, b = linear(9, 4), linear(6, 9, seed=3)
    G = folded(a, ops.Activation(phi), b, ops.Activation(phi))
    assert_computes(G, lambda z: function(applied(b, function(applied(a, z)))))
    assert G.piecewise_linear == (phi.pieces is not None)
    assert (G.first_curved is None) == G.piecewise_linear


@ALL
def test_the_facts_of_an_activation_agree_with_its_values(phi: ci.AbstractActivation, function: Callable):
    u = torch.linspace(-5, 5, 401, dtype=torch.float64)
    y, (low, high) = phi(u), phi.range
    assert bool((y >= low).all() & (y <= high).all()) and bool((y.diff() >= -1e-15).all()) == phi.monotone
    v = (u + 1e-3).requires_grad_()
    (slope,) = torch.autograd.grad(function(v).sum(), v)
    assert torch.allclose(phi.derivative(v.detach()), slope, rtol=1e-6, atol=1e-6)
    if phi.invertible:
        inside = phi.inside(y)
        assert inside.any() and torch.allclose(phi.inverse(y)[inside], u[inside], rtol=1e-9, atol=1e-7)
        beyond = torch.tensor([low - 1, high + 1]).double()
        assert not phi.inside(beyond[beyond.isfinite()]).any()
    if phi.mirrored is not None:
        assert torch.allclose(phi.mirrored(u), -phi(-u), rtol=1e-12, atol=1e-15)
    single = phi(u.float())
    assert single.dtype == torch.float32 and torch.allclose(single.double(), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("phi", LINES, ids=repr)
def test_lines_are_written_with_relus_exactly_also_at_their_kinks(phi: ci.AbstractActivation):
    kinks, slopes = phi.pieces
    assert len(slopes) == len(kinks) + 1
    one = torch.eye(1, dtype=torch.float64)
    steps = [ops.Linear(weight=one), ops.Activation(phi), ops.Linear(weight=one), ops.Activation(Tanh())]
    G = folded(*steps, n=1)
    z = torch.cat([torch.tensor(kinks).double(), torch.linspace(-8, 8, 65).double()])[:, None]
    assert all(layer.activation.kinked for layer in G.layers[:-1])
    assert torch.allclose(G(z), phi(z).tanh(), rtol=RTOL, atol=RTOL)


def test_leaky_units_of_any_slopes():
    a, b, slopes = linear(8, 4), linear(5, 8, seed=3), torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0, 0.1, -0.2, 0.3]).double()
    G = folded(a, ops.LeakyUnits(slopes=slopes), b)
    assert_computes(G, lambda z: applied(b, torch.where(applied(a, z) > 0, applied(a, z), slopes * applied(a, z))))
    assert G.piecewise_linear
    one = folded(a, ops.LeakyUnits(slopes=torch.tensor([0.25])), b)
    assert one.layers[0].activation == LeakyReLU(0.25)
    two = torch.tensor([0.5, -2.0]).double()
    image = folded(a, ops.Reshape(shape=(2, 2, 2)), ops.LeakyUnits(slopes=two), b)
    assert_computes(image, lambda z: applied(b, F.prelu(applied(a, z).reshape(-1, 2, 4), two).flatten(1)))


POOLS = {
    "halves": {"kernel": (2, 2), "stride": (2, 2)},
    "overlapping, padded": {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    "uneven, ceiling": {"kernel": (2, 3), "stride": (2, 2), "ceil_mode": True},
    "dilated": {"kernel": (2, 2), "stride": (1, 2), "dilation": (2, 1)},
    "single": {"kernel": (1, 1), "stride": (2, 2)},
}  # fmt: skip


@pytest.mark.parametrize("relu", [True, False], ids=["behind a ReLU", "of any sign"])
@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_written_with_relus_exactly(name: str, relu: bool):
    a, pool = linear(60, 4), POOLS[name]
    names = {"kernel": "kernel_size"}
    function = nn.MaxPool2d(**{names.get(key, key): value for key, value in pool.items()})

    def reference(z: Tensor) -> Tensor:
        u = applied(a, z).reshape(-1, 2, 6, 5)
        return function(u.relu() if relu else u)

    steps = [a, *([ops.Activation(ReLU())] if relu else []), ops.Reshape(shape=(2, 6, 5)), ops.MaxPool(**pool)]
    G = folded(*steps)
    assert_computes(G, reference)
    assert G.piecewise_linear and G.signal_shape == tuple(reference(normal(1, 4)).shape[1:])


def test_too_large_a_pooling_is_refused_with_its_number():
    big = ops.Linear(weight=torch.ones(1, 1).double()), ops.Select(index=torch.zeros(900 * 900).long(), shape=(1, 900, 900))
    with pytest.raises(ci.errors.UnsupportedLayerError, match=r"300,000 ReLU units, got [\d,]+ in a test"):
        folded(*big, ops.MaxPool(kernel=(3, 3), stride=(1, 1)), n=1)


def test_rows_and_volumes():
    a, q = linear(60, 4), nn.Linear(5, 7).double().requires_grad_(False)
    rows = ops.RowwiseLinear(weight=q.weight, bias=q.bias)
    G = folded(a, ops.Reshape(shape=(3, 4, 5)), ops.Activation(ReLU()), rows, ops.Softmax(axis=1))
    assert_computes(G, lambda z: q(applied(a, z).relu().reshape(-1, 3, 4, 5)).softmax(2))
    c, t = nn.Conv3d(2, 3, (2, 3, 2), padding=(0, 1, 0)).double(), nn.ConvTranspose3d(3, 2, 3, stride=2).double()
    for part in (c, t):
        part.requires_grad_(False)
    G = folded(
        a, ops.Reshape(shape=(2, 2, 3, 5)), ops.Activation(ReLU()),
        ops.Convolution3d(weight=c.weight, bias=c.bias, padding=(0, 1, 0)), ops.Activation(ci.SiLU()),
        ops.TransposedConvolution3d(weight=t.weight, bias=t.bias, stride=(2, 2, 2)),
    )  # fmt: skip
    assert_computes(G, lambda z: t(F.silu(c(applied(a, z).relu().reshape(-1, 2, 2, 3, 5)))))


SCALES = {
    "one scale": (torch.tensor([0.5]), torch.tensor([0.5])),
    "falling": (torch.tensor([-255.0]), torch.tensor([255.0])),
    "per channel": (torch.tensor([0.3, 2.0]), torch.tensor([0.1, -0.4])),
    "both signs": (torch.tensor([0.3, -2.0]), torch.tensor([0.0, 0.0])),
}


@pytest.mark.parametrize("name", SCALES)
@ALL
def test_a_scale_and_shift_behind_the_last_activation(phi: ci.AbstractActivation, function: Callable, name: str):
    a, b, (scale, shift) = linear(7, 4), linear(8, 7, seed=3), (side.double() for side in SCALES[name])
    steps = [a, ops.Activation(ReLU()), b, ops.Activation(phi), ops.Reshape(shape=(2, 4))]
    G = folded(*steps, ops.Diagonal(scale=scale.expand(2).clone(), shift=shift.expand(2).clone()))
    assert_computes(
        G, lambda z: function(applied(b, applied(a, z).relu())).reshape(-1, 2, 4) * scale[:, None] + shift[:, None]
    )
    rescaled = name == "one scale" or (name == "falling" and phi.mirrored is not None)
    assert (type(G.layers[-1].activation) is ci.Rescaled) == rescaled and (G.depth == 2) == rescaled


@pytest.mark.parametrize("phi", [ReLU(), LeakyReLU(0.2), Tanh(), Sigmoid(), ci.Clamp(0.0, 1.0)], ids=repr)
def test_selections_go_before_the_activation(phi: ci.AbstractActivation):
    a, b, index = linear(7, 4), linear(12, 7, seed=3), torch.tensor([11, 3, 4, 4, 0, 2])
    G = folded(a, ops.Activation(ReLU()), b, ops.Activation(phi), ops.Select(index=index, shape=(2, 3)))
    assert_computes(G, lambda z: phi(applied(b, applied(a, z).relu()))[:, index])
    assert G.depth == 2 and G.layers[-1].activation == phi and G.signal_shape == (2, 3)
    nearest = ops.Reshape(shape=(3, 2, 2)), ops.Upsampling(scale=(2, 3))
    G = folded(a, ops.Activation(ReLU()), b, ops.Activation(phi), *nearest)
    assert_computes(
        G, lambda z: F.interpolate(phi(applied(b, applied(a, z).relu())).reshape(-1, 3, 2, 2), scale_factor=(2, 3))
    )
    assert G.depth == 2
    padded = ops.Select(index=torch.tensor([1, -1, 0]), shape=(3,))
    G = folded(a, ops.Activation(ReLU()), b, ops.Activation(phi), padded)
    assert_computes(G, lambda z: phi(applied(b, applied(a, z).relu()))[:, [1, 0, 0]] * torch.tensor([1, 0, 1]))
    assert G.depth == (2 if phi.middle == 0 else 3)


def test_activations_in_a_row_and_on_the_latent():
    a = linear(6, 4)
    G = folded(ops.Activation(Tanh()), a, ops.Activation(Tanh()), ops.Activation(Sigmoid()))
    assert_computes(G, lambda z: applied(a, z.tanh()).tanh().sigmoid())
    G = folded(a, ops.Activation(Sigmoid()), ops.Activation(ci.Clamp(0.0, 1.0)), ops.Activation(ReLU()))
    assert_computes(G, lambda z: applied(a, z).sigmoid())
    assert G.depth == 1 and G.layers[0].activation == Sigmoid()


def test_a_clamp_that_changes_nothing_is_left_out():
    a, half = linear(6, 4), torch.full((6,), 0.5).double()
    steps = [a, ops.Activation(Tanh()), ops.Diagonal(scale=half, shift=half)]
    G = folded(*steps, ops.Activation(ci.Clamp(0.0, 1.0)), ops.Select(index=torch.tensor([5, 0]), shape=(2,)))
    assert_computes(G, lambda z: ((applied(a, z).tanh() + 1) / 2)[:, [5, 0]])
    assert G.depth == 1 and G.output == ci.Rescaled(Tanh(), 0.5, 0.5)
    G = folded(*steps, ops.Activation(ci.Clamp(0.1, 1.0)))
    assert_computes(G, lambda z: ((applied(a, z).tanh() + 1) / 2).clamp(0.1, 1))
    assert G.first_curved == 0 and G.output == ci.Clamp(0.1, 1.0)


def test_selections_make_no_dense_layer_larger():
    weight, index = normal(3000, 1500), torch.arange(3000).flip(0)
    G = folded(ops.Linear(weight=weight), ops.Select(index=index, shape=(3000,)), ops.Activation(ReLU()), n=1500)
    assert type(G.layers[0].W) is ci.Dense and torch.equal(G.layers[0].W.weight, weight.flip(0))


def test_very_wide_layers_keep_an_activation_of_lines():
    index = torch.arange(200_000) % 4
    steps = [ops.Select(index=index, shape=(200_000,)), ops.Activation(ci.Clamp.of(0, 6)), ops.Sums(
        index=torch.arange(200_000).reshape(4, -1)[:, :3].contiguous(), weight=torch.ones(4, 3).double(), shape_out=(4,)
    )]  # fmt: skip
    G = folded(*steps)
    assert G.first_curved == 0 and G.layers[0].activation == ci.Clamp(0.0, 6.0)


def test_a_softmax_is_refused_before_other_ops():
    a = linear(6, 4)
    with pytest.raises(ci.errors.UnsupportedLayerError, match="expected a softmax at the output, got one before a test"):
        folded(a, ops.Softmax(axis=0), linear(3, 6), ops.Activation(Tanh()))


# --- inversions -----------------------------------------------------------------------------------

SMOOTH = [phi for phi, _ in PAIRS if phi.pieces is None and phi != ci.Exp()]
SEARCHING = ("hybrid", "levenberg_marquardt")


def chain(hidden: ci.AbstractActivation, *tail: ops.AbstractOp) -> ci.Generator:
    """4-24-30-60 and what follows."""
    return folded(linear(24, 4), ops.Activation(hidden), linear(30, 24, 2), ops.Activation(hidden), linear(60, 30, 4), *tail)


def assert_inverts(G: ci.Generator, method: str, **options) -> None:
    z = normal(5, 4, seed=11)
    R = ci.invert(G, G(z), method, on_fail="ignore", **options)
    assert R.verdict.explained.all() and torch.allclose(R.z, z, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", SEARCHING)
@pytest.mark.parametrize("phi", SMOOTH, ids=repr)
def test_smooth_chains_are_inverted_by_the_methods_that_search(phi: ci.AbstractActivation, method: str):
    assert_inverts(chain(phi), method, restarts=20)


@pytest.mark.parametrize("method", ["latent_pursuit", "layered_basis_pursuit", "oracle"])
def test_layered_methods_name_the_layer_that_is_smooth(method: str):
    G = folded(linear(24, 4), ops.Activation(ReLU()), linear(30, 24, 2), ops.Activation(ci.ELU()), linear(60, 30, 4))
    z = normal(2, 4)
    extra = {"truth": z} if method == "oracle" else {}
    with pytest.raises(
        ValueError, match=r"ELU behind its hidden layers\[1\].*use method='hybrid', 'levenberg_marquardt' or"
    ):
        ci.invert(G, G(z), method, **extra)
    with pytest.raises(ValueError, match=r"hybrid with lam=, .*ELU behind its hidden layers\[1\]"):
        ci.invert(G, G(z), "hybrid", layers=ci.LayerOptions(lam=0.1))


@pytest.mark.parametrize("method", ["latent_pursuit", "oracle", "hybrid"])
@pytest.mark.parametrize("phi", [ci.Clamp.of(0, 6), ci.Clamp(-1.0, 1.0), ci.Hardsigmoid()], ids=repr)
def test_what_was_written_with_relus_is_inverted_by_all_methods(phi: ci.AbstractActivation, method: str):
    G, z = chain(phi), normal(5, 4, seed=11)
    extra = {"truth": z} if method == "oracle" else {}
    R = ci.invert(G, G(z), method, on_fail="ignore", **extra)
    if method == "latent_pursuit":  # pairs of opposite units are not the sparsest h, so that some signals need luck
        assert R.verdict.explained.any() and torch.allclose(R.z[R.verdict.explained], z[R.verdict.explained], rtol=1e-6)
    else:
        assert R.verdict.explained.all() and torch.allclose(R.z, z, rtol=1e-6, atol=1e-6)


HALF = torch.full((60,), 0.5, dtype=torch.float64)
OUTPUTS: dict[str, tuple[ops.AbstractOp, ...]] = {
    "(tanh + 1) / 2": (ops.Activation(Tanh()), ops.Diagonal(scale=HALF, shift=HALF)),
    "255 sigmoid": (ops.Activation(Sigmoid()), ops.Diagonal(scale=510 * HALF, shift=0 * HALF)),
    "1 - sigmoid": (ops.Activation(Sigmoid()), ops.Diagonal(scale=-2 * HALF, shift=2 * HALF)),
    "clamp": (ops.Activation(ci.Clamp(0.0, 1.0)),),
    "clamp to bytes": (ops.Diagonal(scale=200 * HALF, shift=200 * HALF), ops.Activation(ci.Clamp(0.0, 255.0))),
    "clamp from below": (ops.Activation(ci.Clamp.of(-0.5, None)),),
    "hard sigmoid": (ops.Activation(ci.Hardsigmoid(0.5, 0.5)),),
    "softplus": (ops.Activation(ci.Softplus()),),
    "elu": (ops.Activation(ci.ELU()),),
    "silu": (ops.Activation(ci.SiLU()),),
    "normalised": (
        ops.Activation(Tanh()), ops.Reshape(shape=(3, 20)),
        ops.Diagonal(scale=torch.tensor([0.2, 0.3, 0.25]).double(), shift=torch.tensor([0.4, 0.5, 0.45]).double()),
    ),
    "relu, then affine": (ops.Activation(ReLU()), ops.Diagonal(scale=4 * HALF, shift=-HALF)),
    "softmax": (ops.Reshape(shape=(5, 12)), ops.Softmax(axis=0)),
    "flipped": (ops.Activation(Sigmoid()), ops.Select(index=torch.arange(60).flip(0)[:50], shape=(50,))),
    "smoothed": (
        ops.Activation(Sigmoid()), ops.Reshape(shape=(1, 6, 10)),
        ops.Resampling(rows=torch.eye(6).double(), columns=F.normalize(torch.ones(5, 10).double().tril(), p=1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_last_step_is_inverted(name: str):
    assert_inverts(chain(ReLU(), *OUTPUTS[name]), "hybrid")


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_last_step_has_the_derivative_that_a_descent_needs(name: str):
    near = normal(5, 4, seed=11) + 0.01 * normal(5, 4, seed=12)  # a kink that costs may lie between behind a ReLU
    assert_inverts(chain(LeakyReLU(0.5), *OUTPUTS[name]), "levenberg_marquardt", z0=near, restarts=0)


@pytest.mark.parametrize("name", ["(tanh + 1) / 2", "255 sigmoid", "1 - sigmoid", "clamp to bytes", "softplus", "flipped"])
def test_layers_are_read_before_the_last_step(name: str):
    G, z = chain(ReLU(), *OUTPUTS[name]), normal(5, 4, seed=11)
    R = ci.invert(G, G(z), "latent_pursuit", on_fail="ignore")
    assert (R.layers[0].solution.status == "optimal").all()
    # so small a network has hidden layers that are not the sparsest for some signals, behind a plain sigmoid as well
    assert R.verdict.explained.any() and torch.allclose(R.z[R.verdict.explained], z[R.verdict.explained], rtol=1e-6)


def test_most_entries_may_lie_at_the_ends_of_a_clamp():
    """Of as many entries between the ends as latents another latent may make all: z is asked for where there are more."""
    G = chain(ReLU(), ops.Activation(ci.Clamp(-0.05, 0.15)))
    z = normal(40, 4, seed=11)
    y = G(z)
    at_an_end = (y == -0.05) | (y == 0.15)
    assert float(at_an_end.double().mean()) > 0.8
    R = ci.invert(G, y, on_fail="ignore")
    assert R.verdict.explained.all()
    enough = (~at_an_end).sum(1) > 5
    assert int(enough.sum()) >= 5 and torch.allclose(R.z[enough], z[enough], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scaling", [(1.0, 0.0), (0.5, 0.5), (255.0, 0.0), (0.3081, 0.1307), (2.0, -100.0)], ids=str)
@pytest.mark.parametrize("phi", [phi for phi, _ in PAIRS if phi.invertible], ids=repr)
def test_bounds_before_the_output_hold_what_made_the_signal(
    phi: ci.AbstractActivation, scaling: tuple[float, float], dtype: torch.dtype
):
    """Also where values near an end, or beside a large shift, have few digits left."""
    phi = rescaled(phi, *scaling)
    u = torch.cat([torch.linspace(-30, 30, 400), torch.linspace(-1e-3, 1e-3, 50)]).to(dtype)[:, None]
    W, none = ci.Dense(torch.ones(450, 1, dtype=dtype)), torch.zeros(450, dtype=dtype)
    problem = ci.IntervalBasisPursuit.behind(phi, W, none, phi(u).T, eps=0.0)
    last = 4 * torch.finfo(dtype).eps * (1 + u.abs().T)  # of phi^-1 itself
    assert bool(((problem.lo <= u.T + last) & (u.T - last <= problem.hi)).all())


# --- files, tables, pages -------------------------------------------------------------------------


def volumes() -> ci.Generator:
    there = ops.Convolution3d(weight=normal(3, 2, 2, 3, 2), bias=normal(3))
    back = ops.TransposedConvolution3d(weight=normal(3, 2, 3, 3, 3), bias=None, stride=(2, 2, 2))
    seen = ops.Reshape(shape=(2, 2, 3, 5))
    return chain(ReLU(), seen, there, ops.Activation(ci.SiLU()), back, ops.Activation(ci.Clamp(0.0, 1.0)))


def pictures(*tail: ops.AbstractOp) -> ci.Generator:
    seen, again = ops.Reshape(shape=(3, 4, 5)), ops.Convolution(weight=normal(3, 3, 3, 3), padding=(1, 1))
    return chain(ReLU(), seen, again, ops.Activation(ci.Clamp.of(0, 6)), again, *tail)


HARD_TO_WRITE: dict[str, Callable[[], ci.Generator]] = {
    **{f"hidden {phi!r}": partial(chain, phi) for phi, _ in PAIRS},
    **{f"output {name}": partial(chain, ReLU(), *tail) for name, tail in OUTPUTS.items()},
    "volumes": volumes,
    "pictures, other order": lambda: pictures(
        ops.Activation(Tanh()), ops.Select(index=torch.arange(60).reshape(3, 4, 5).permute(1, 2, 0), shape=(4, 5, 3))
    ),
    "pooled": lambda: pictures(ops.Activation(ReLU()), ops.MaxPool(kernel=(2, 2), stride=(2, 2)), ops.Activation(Sigmoid())),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", HARD_TO_WRITE)
def test_they_are_saved_and_come_back_bit_for_bit(name: str, dtype: torch.dtype, tmp_path: Path):
    G, z = HARD_TO_WRITE[name]().to(dtype), normal(3, 4).to(dtype)
    ci.save_generator(G, tmp_path / "G")
    back = ci.load_generator(tmp_path / "G", dtype=dtype)
    assert torch.equal(back(z), G(z)) and back.signal_shape == G.signal_shape
    for one, other in zip(back.layers, G.layers, strict=True):
        assert type(one.W) is type(other.W) and one.activation == other.activation
        assert torch.equal(one.W.matrix(), other.W.matrix()) and torch.equal(one.b, other.b)


def test_the_table_says_what_was_folded_and_rewritten():
    a, b = linear(9, 4), linear(8, 9, seed=3)
    norm = ops.BatchNorm(running_mean=normal(9), running_var=normal(9).square(), eps=1e-5)
    steps = [
        a, norm, ops.Activation(ci.Clamp.of(0, 6)), ops.Removed(what="dropout"), b, ops.Activation(Tanh()),
        ops.Reshape(shape=(2, 4)), ops.Diagonal(scale=torch.full((2,), 0.5).double(), shift=torch.full((2,), 0.5).double()),
    ]  # fmt: skip
    G = fold([(ops.Place(f"{k} of a file", "correct it"), step) for k, step in enumerate(steps)], (4,))
    head, titles, first, second, signal = str(G).splitlines()
    assert head == "Generator: 4 -> 8, float64, cpu" and titles.split() == "layer map units activation folded in".split()
    assert "Dense 4 -> 18" in first and "batch norm 1; Clamp(low=0.0, high=6.0) as 2 x 9 ReLU units" in first
    assert (
        "Dense 18 -> 8" in second
        and "without dropout 3; " in second
        and "behind the activation: scale and shift 7" in second
    )
    assert signal.strip() == "signal 2x4, values in [0, 1]; hidden layers are piecewise affine"
    assert "layers[0] is smooth, so that layered methods do not apply" in str(chain(ci.SiLU()))
    assert [layer.notes for layer in G.to(torch.float32).layers] == [layer.notes for layer in G.layers]


@pytest.mark.parametrize("name", ["clamp", "softmax", "silu", "normalised", "1 - sigmoid"])
@pytest.mark.parametrize("hidden", [ReLU(), Tanh()], ids=repr)
def test_noise_priors_results_and_pages(name: str, hidden: ci.AbstractActivation, tmp_path: Path):
    G, z = chain(hidden, *OUTPUTS[name]), normal(2, 4, seed=11)
    y = G(z)
    sigma = 0.01 * float(y.std())
    noisy = y + sigma * normal(2, 60, seed=5)
    R = ci.invert(G, noisy, noise=("gaussian", sigma), prior=priors.Gaussian(), on_fail="ignore")
    assert R.verdict.explained.all() and bool(((R.z - z).abs() <= 6 * R.uncertainty.z_std + 1e-6).all())
    back = ci.Inversion.load(R.save(tmp_path / "R"))
    assert torch.equal(back.z, R.z) and (back.uncertainty.output == R.uncertainty.output)
    page = ci.write_report(back, tmp_path / "report.html", y=noisy, generator=G, truth=z).read_text()
    assert "</html>" in page and "can be trusted" in back.explain(generator=G)
    words = inspect_generator(G, 20).expectations[0]
    assert ("not possible" in words) == (G.first_curved is not None or not G.output.invertible)


@pytest.mark.parametrize("name", ["clamp", "softmax", "(tanh + 1) / 2"])
def test_certificates_that_cannot_be_stated_are_refused_by_name(name: str, tmp_path: Path):
    G, z = chain(ReLU(), *OUTPUTS[name]), normal(2, 4)
    R = ci.invert(G, G(z), "levenberg_marquardt", z0=z, restarts=0)
    with pytest.raises(ValueError, match=r"activation that certificates know .*, got (Clamp|Softmax|Rescaled)\("):
        R.export(tmp_path / "claims", G, G(z))
    rewritten = chain(ci.Clamp(-1.0, 1.0))
    R = ci.invert(rewritten, rewritten(z), "levenberg_marquardt", z0=z, restarts=0)
    for file in certificate_files(R.export(tmp_path / "claims", rewritten, rewritten(z))):
        assert all(v.accepted for v in check_file(file))


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 1, 3, 2), (0, 3, 1, 2)])
def test_a_softmax_commutes_with_what_moves_its_groups(order: tuple[int, ...]):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 27), nn.Conv2d(3, 4, 2)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(z).relu().reshape(-1, 3, 3, 3)).softmax(1).permute(order)

    torch.manual_seed(0)
    net = Net().double().eval()
    G, z = ci.load_generator(net), torch.randn(5, 3, dtype=torch.float64)
    expected = net(z)
    assert G.signal_shape == expected.shape[1:] and G.depth == 2
    assert (G(z) - expected.flatten(1)).abs().max() < 1e-12
    J = torch.func.vmap(torch.func.jacrev(lambda v: net(v[None]).flatten()))(z)
    assert (G.linearize(z)[1] - J).abs().max() < 1e-12
