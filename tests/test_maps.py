"""Every map is one matrix: its call, adjoint, norm, magnitude and casts all say the same."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvxinv.generator.maps import (
    AbstractMap,
    Composition,
    Conv2d,
    Conv3d,
    ConvTranspose2d,
    ConvTranspose3d,
    Dense,
    Resampling2d,
    Sparse,
)  # fmt: skip

RTOL = 1e-12  # float64 roundings of sums of at most a few hundred terms
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MAPS: dict[str, Callable[[], AbstractMap]] = {
    "dense": lambda: Dense(normal(7, 5)),
    "convolution": lambda: Conv2d(normal(4, 3, 3, 3), (3, 5, 6), padding=(1, 1)),
    "groups": lambda: Conv2d(normal(6, 2, 3, 2), (4, 5, 6), padding=(1, 0), groups=2),
    "depthwise": lambda: Conv2d(normal(3, 1, 3, 3), (3, 4, 5), groups=3),
    "dilation": lambda: Conv2d(normal(2, 3, 3, 3), (3, 7, 8), padding=(2, 1), dilation=(2, 3)),
    "strides that miss a row": lambda: Conv2d(normal(2, 3, 2, 3), (3, 6, 8), stride=(3, 2), padding=(0, 1)),
    "groups, dilation, stride": lambda: Conv2d(
        normal(4, 3, 2, 3), (6, 8, 9), stride=(2, 3), padding=(1, 2), dilation=(3, 2), groups=2
    ),
    "transposed": lambda: ConvTranspose2d(normal(3, 2, 4, 4), (3, 3, 4), stride=(2, 2), padding=(1, 1)),
    "transposed, groups": lambda: ConvTranspose2d(normal(4, 3, 3, 3), (4, 3, 3), groups=2),
    "transposed, dilation": lambda: ConvTranspose2d(normal(2, 3, 3, 2), (2, 3, 4), padding=(1, 1), dilation=(2, 3)),
    "transposed, output padding": lambda: ConvTranspose2d(
        normal(2, 3, 3, 3), (2, 3, 4), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)
    ),
    "volumes": lambda: Conv3d(normal(3, 2, 2, 3, 2), (2, 3, 5, 4), stride=(1, 2, 1), padding=(0, 1, 1)),
    "volumes, groups, dilation": lambda: Conv3d(normal(4, 1, 2, 2, 3), (2, 4, 3, 5), dilation=(2, 1, 2), groups=2),
    "transposed volumes": lambda: ConvTranspose3d(
        normal(2, 3, 2, 3, 2), (2, 2, 3, 2), stride=(2, 1, 2), padding=(0, 1, 0), output_padding=(1, 0, 1)
    ),
    "transposed volumes, groups": lambda: ConvTranspose3d(normal(4, 1, 2, 2, 2), (4, 2, 2, 1), groups=2, dilation=(1, 2, 1)),
    "selection": lambda: Sparse.selection(torch.tensor([3, -1, 0, 3, 5, 1]), (2, 3), (3, 2)),
    "diagonal": lambda: Sparse.diagonal(normal(6), (6,)),
    "sums of three": lambda: Sparse(torch.arange(27).reshape(9, 3) * 5 % 7, normal(9, 3), (7,), (3, 3)),
    "sums with one twice": lambda: Sparse(torch.tensor([[0, 0], [1, 0]]), normal(2, 2).abs(), (3,), (2,)),
    "zero padding": lambda: Resampling2d.padding((2, 3, 4), (1, 2, 0, 3)),
    "replicate padding": lambda: Resampling2d.padding((2, 3, 4), (1, 2, 5, 3), "replicate"),
    "reflect padding": lambda: Resampling2d.padding((2, 3, 4), (1, 3, 2, 0), "reflect"),
    "circular padding": lambda: Resampling2d.padding((2, 3, 4), (1, 4, 2, 0), "circular"),
    "cropping": lambda: Resampling2d.padding((2, 5, 6), (-1, 0, -2, -1)),
    "nearest": lambda: Resampling2d.nearest((3, 2, 4), (2, 3)),
    "recombined pictures": lambda: Resampling2d(normal(5, 3), normal(2, 4, seed=1), 2),
    "replicate convolution": lambda: Composition(
        Conv2d(normal(3, 2, 3, 3), (2, 6, 7)), Resampling2d.padding((2, 4, 5), (1, 1, 1, 1), "replicate")
    ),
    "upsampled convolution": lambda: Composition(
        Conv2d(normal(3, 2, 3, 3), (2, 6, 8), padding=(1, 1)), Resampling2d.nearest((2, 3, 4), (2, 2))
    ),
}


@pytest.fixture(params=MAPS)
def W(request: pytest.FixtureRequest) -> AbstractMap:
    return MAPS[request.param]()


def test_adjoint_is_the_transpose(W: AbstractMap):
    x, p = normal(6, W.n, seed=1), normal(6, W.m, seed=2)
    left, right = (W(x) * p).sum(1), (x * W.adjoint(p)).sum(1)
    assert ((left - right).abs() <= RTOL * W(x).norm(dim=1) * p.norm(dim=1)).all()


def test_matrix_is_the_map(W: AbstractMap):
    M, x, p = W.matrix(), normal(6, W.n, seed=1), normal(6, W.m, seed=2)
    assert M.shape == (W.m, W.n) and M is W.matrix()
    assert torch.allclose(W(x), x @ M.T, rtol=RTOL, atol=RTOL)
    assert torch.allclose(W.adjoint(p), p @ M, rtol=RTOL, atol=RTOL)
    assert W(x[:0]).shape == (0, W.m) and W.adjoint(p[:0]).shape == (0, W.n)


def test_norm_is_the_largest_singular_value(W: AbstractMap):
    assert W.norm() == pytest.approx(float(torch.linalg.svdvals(W.matrix())[0]), rel=RTOL)


def test_magnitude_bounds_and_scaling_scales(W: AbstractMap):
    bound = W.magnitude().matrix()
    assert (bound >= W.matrix().abs() * (1 - RTOL)).all() and (bound >= 0).all()
    if not isinstance(W, Composition):  # there it is a product of magnitudes, a bound only
        assert torch.equal(bound, W.matrix().abs())
    assert torch.allclose(W.scaled(-0.3).matrix(), -0.3 * W.matrix(), rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_to_casts_and_moves_everything(W: AbstractMap, device: str):
    assert W.to() is W or isinstance(W, Composition)
    single = W.to(torch.float32, device)
    assert (single.dtype, single.device.type) == (torch.float32, device)
    x, p = normal(6, W.n, seed=1).float().to(device), normal(6, W.m, seed=2).float().to(device)
    for got, expected in (
        (single(x), W(x.double().cpu())),
        (single.adjoint(p), W.adjoint(p.double().cpu())),
        (single.matrix(), W.matrix()),
    ):
        assert got.dtype == torch.float32 and got.device.type == device
        assert (got.double().cpu() - expected).norm() <= 1e-5 * expected.norm()  # float32 roundings
    back = single.to(torch.float64)
    assert (back.dtype, back(x.double()).dtype) == (torch.float64, torch.float64)


def test_an_input_of_very_many_outputs_has_an_adjoint_too():
    W = Sparse.selection(torch.cat([torch.zeros(3000), torch.arange(1000)]).long(), (1000,), (4000,))
    p = normal(2, 4000)
    assert torch.allclose(W.adjoint(p), p @ W.matrix(), rtol=RTOL, atol=RTOL) and W.adjoint(p[:0]).shape == (0, 1000)


@pytest.mark.parametrize("mode", ["zeros", "replicate", "reflect", "circular"])
def test_padding_agrees_with_torch(mode: str):
    x, pads = normal(3, 2, 4, 5), (1, 2, 3, 0)
    kind = {"zeros": "constant"}.get(mode, mode)
    W = Resampling2d.padding((2, 4, 5), pads, mode)
    assert torch.equal(W(x.flatten(1)).reshape(3, *W.shape_out), F.pad(x, pads, kind))


def test_nearest_agrees_with_torch_and_its_adjoint_sums_each_block():
    x = normal(3, 2, 4, 5)
    W = Resampling2d.nearest((2, 4, 5), (2, 3))
    y = F.interpolate(x, scale_factor=(2, 3), mode="nearest")
    assert torch.equal(W(x.flatten(1)), y.flatten(1))
    sums = y.reshape(3, 2, 4, 2, 5, 3).sum((3, 5)).flatten(1)
    assert torch.allclose(W.adjoint(y.flatten(1)), sums, rtol=RTOL)


def test_replicate_padding_gives_the_edge_back_what_was_copied():
    # 1 x 2 picture (a, b) padded by one on the right: (a, b, b); the adjoint of (1, 2, 3) is (1, 2 + 3)
    W = Resampling2d.padding((1, 1, 2), (0, 1, 0, 0), "replicate")
    assert W.matrix().tolist() == [[1, 0], [0, 1], [0, 1]]
    assert W.adjoint(torch.tensor([[1.0, 2.0, 3.0]]).double()).tolist() == [[1, 5]]


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: Resampling2d.padding((1, 2, 2), (1, 1, 1, 1), "mirror"), ValueError, "zeros, replicate.*got 'mirror'"),
        (lambda: Resampling2d.padding((1, 2, 2), (2, 0, 0, 0), "reflect"), ValueError, "fits 2 pixels, got 2 before"),
        (lambda: Resampling2d(normal(2, 3), normal(2), 1), TypeError, r"columns as a float matrix.*shape \(2,\)"),
        (lambda: Resampling2d(normal(2, 3), normal(2, 3).float(), 1), ValueError, "one dtype"),
        (lambda: Resampling2d(normal(2, 3), normal(2, 3), 0), ValueError, "channels >= 1, got 0"),
        (lambda: Composition(Dense(normal(2, 3)), Dense(normal(2, 3))), ValueError, "outer map of 2 numbers"),
    ],
)
def test_wrong_map_is_refused(build: Callable, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        build()


@pytest.mark.parametrize("shape", [(300, 90), (90, 300), (64, 64), (20, 5)])
@pytest.mark.parametrize("kind", ["gaussian", "rank one", "clustered", "huge", "zero"])
def test_the_norm_is_the_largest_singular_value(shape, kind):
    source = torch.Generator().manual_seed(3)
    M = torch.randn(shape, generator=source, dtype=torch.float64)
    if kind == "rank one":
        M = M[:, :1] * torch.randn(1, shape[1], generator=source, dtype=torch.float64)
    elif kind == "clustered":
        M = torch.linalg.qr(M if shape[0] >= shape[1] else M.T)[0]
        M = M if M.shape == shape else M.T
    elif kind == "huge":
        M = M * 1e200
    elif kind == "zero":
        M = M * 0
    expected = float(torch.linalg.svdvals(M)[0])
    assert Dense(M).norm() == pytest.approx(expected, rel=1e-12)
    W = Dense(M)
    assert W.norm() and W.scaled(-2.0).norm() == pytest.approx(2 * expected, rel=1e-12) if expected else W.norm() == 0
