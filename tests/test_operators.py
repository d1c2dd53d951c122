"""Ready measurements against their textbook forms, their transposes, autograd, and inversions with their dense matrix."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import scipy.sparse
import torch
from pretend_device import PretendDevice
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from torch import Tensor

import cvxinv as ci
from cvxinv.inversion.steps import newton
from cvxinv.inversion.steps.gradient import gradient
from cvxinv.inversion.task import make_task
from cvxinv.measurement.abstract import SeenMap, rows_seen, settled
from cvxinv.measurement.given import as_measurement
from cvxinv.measurement.trial import try_out

GREY, COLOUR, N = (7, 6), (2, 7, 6), 3  # pictures that are not square


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def sparse(k: int, d: int, seed: int = 0, **options) -> scipy.sparse.csr_array:
    return scipy.sparse.random_array((k, d), density=0.2, format="csr", rng=seed, **options)


def through_fft(shape: tuple[int, int], seed: int = 0) -> tuple[Callable, Callable]:
    """A circular blur of grey pictures and its transpose, by FFT."""
    F = torch.fft.fft2(normal(*shape, seed=seed))

    def product(x: Tensor, spectrum: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x.reshape(-1, *shape)) * spectrum.to(x.device)).real.flatten(1).to(x)

    return lambda x: product(x, F), lambda r: product(r, F.conj())


def linear_operator(k: int, d: int, seed: int = 0) -> LinearOperator:
    A = normal(k, d, seed=seed).numpy()
    return LinearOperator((k, d), matvec=lambda x: A @ x, rmatvec=lambda r: A.T @ r, dtype=float)


def ready(shape: tuple[int, ...]) -> dict[str, ci.AbstractMeasurement]:
    """One of each, of pictures of a shape."""
    c, d, kernel = int(np.prod(shape[:-2])), int(np.prod(shape)), normal(3, 4, seed=1)
    seen = torch.rand(d, generator=seeded(7)) < 0.7
    mixed = {f"blur, {b}": ci.Convolution(kernel, shape, b) for b in ("zeros", "circular", "reflect", "replicate")}
    return mixed | {
        "blur, stride 2": ci.Convolution(normal(4, 1), shape, "reflect", stride=2),
        "blur, a kernel each": ci.Convolution(normal(c, 2, 5) if len(shape) == 3 else normal(9, 9), shape),
        "smaller": ci.Downsampling((1, 3), shape),
        "smaller, picked": ci.Downsampling((1, 2), shape, "pick"),
        "cosines": ci.CosineRows([0, 5, 3, 41, *range(12, 22)], shape),
        "Fourier": ci.FourierRows(torch.rand(7, 6, generator=seeded(2)) < 0.6, shape),
        "Fourier, all": ci.FourierRows(range(42), shape),
        "projections": ci.Radon([0, 20.0, 45, 90, 137], shape),
        "sparse": ci.SparseMatrix(sparse(31, d)),
        "functions": ci.Operator(*through_fft((c * 7, 6)), d),
        "scipy": ci.ScipyOperator(linear_operator(17, d)),
        "hidden": ci.Composed(seen, ci.Convolution(kernel, shape)),
        "of what is seen": ci.Composed(normal(20, d, seed=9), ci.Mask(seen)),
        "functions hidden": ci.Composed(seen, ci.Operator(*through_fft((c * 7, 6)), d)),
        "thrice": ci.Composed(normal(15, 20), ci.Composed(normal(20, d, seed=9), ci.Convolution(kernel, shape))),
    }  # fmt: skip


ALL = {f"{name}, {len(shape)} axes": seeing for shape in (GREY, COLOUR) for name, seeing in ready(shape).items()}


@pytest.fixture(params=ALL, ids=str)
def seeing(request) -> ci.AbstractMeasurement:
    return ALL[request.param]


# --- what they compute ----------------------------------------------------------------------------


def test_one_of_each_is_what_its_class_promises(seeing: ci.AbstractMeasurement):
    """As a class of the user's own would be: linear, each signal for itself, adjoint, Jacobian, matrix, rows, types."""
    assert (seeing.length, seeing.width) == tuple(seeing.matrix(torch.float64, "cpu").shape)
    for dtype in (torch.float64, torch.float32):
        for count in (1, N):
            try_out(seeing.to(dtype), count, dtype, torch.device("cpu"))  # raises


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_adjoint_is_the_transpose(seeing: ci.AbstractMeasurement, dtype: torch.dtype):
    there = seeing.to(dtype)
    x, r = normal(N, seeing.width).to(dtype), normal(N, seeing.length, seed=1).to(dtype)
    y, back = there.observe(x), there.adjoint(r)
    size = y.norm(dim=1) * r.norm(dim=1)
    assert y.dtype == back.dtype == dtype and y.shape == (N, seeing.length) and back.shape == (N, seeing.width)
    assert (((y * r).sum(1) - (x * back).sum(1)).abs() <= 50 * torch.finfo(dtype).eps * size).all()


def test_the_transpose_and_the_jacobian_are_those_of_autograd(seeing: ci.AbstractMeasurement):
    x, r, J = normal(N, seeing.width).requires_grad_(), normal(N, seeing.length, seed=1), normal(N, seeing.width, 4, seed=2)
    (expected,) = torch.autograd.grad(seeing.observe(x), x, r)
    assert torch.allclose(seeing.adjoint(r), expected, rtol=1e-12, atol=1e-12)
    units = torch.zeros(seeing.length, seeing.width).double().requires_grad_()
    (A,) = torch.autograd.grad(seeing.observe(units), units, torch.eye(seeing.length).double())
    assert torch.allclose(seeing.push(J), A @ J, rtol=1e-12, atol=1e-12)
    assert torch.allclose(seeing.matrix(torch.float64, "cpu"), A, rtol=1e-12, atol=1e-13)


SCIPY_NAMES = {"zeros": "fill", "circular": "wrap"}
NDIMAGE_NAMES = {"reflect": "mirror", "replicate": "nearest", "zeros": "constant", "circular": "wrap"}


@pytest.mark.parametrize("size", [(3, 3), (4, 3), (2, 5), (1, 1), (9, 8), (1, 4)], ids=str)
@pytest.mark.parametrize("boundary", NDIMAGE_NAMES)
def test_a_convolution_is_that_of_scipy(boundary: str, size: tuple[int, int]):
    from scipy.ndimage import convolve

    x, kernel = normal(*COLOUR), normal(*size, seed=1)
    # ndimage centres even kernels one pixel further
    pad = [(1 - s % 2, 0) for s in size]
    centred = np.pad(kernel.numpy(), pad)
    for stride in (1, 2, 3):
        y = (
            ci.Convolution(kernel, COLOUR, boundary, stride)
            .observe(x.reshape(1, -1))
            .reshape(2, len(range(0, 7, stride)), -1)
        )
        for picture, blurred in zip(x.numpy(), y.numpy(), strict=True):
            full = convolve(picture, centred, mode=NDIMAGE_NAMES[boundary])
            assert np.allclose(blurred, full[::stride, ::stride], rtol=1e-12, atol=1e-12)
            if boundary in SCIPY_NAMES:
                full = scipy.signal.convolve2d(picture, kernel.numpy(), mode="same", boundary=SCIPY_NAMES[boundary])
                assert np.allclose(blurred, full[::stride, ::stride], rtol=1e-12, atol=1e-12)


def test_each_channel_may_have_a_kernel_of_its_own():
    x, kernels = normal(1, 84), normal(2, 3, 2, seed=1)
    both = ci.Convolution(kernels, COLOUR).observe(x).reshape(2, -1)
    for c in range(2):
        alone = ci.Convolution(kernels[c], GREY).observe(x.reshape(2, -1)[c : c + 1])[0]
        assert torch.allclose(both[c], alone, rtol=1e-13)


def test_smaller_pictures_are_means_or_picked():
    x = torch.arange(12.0).double().reshape(1, 12)  # 2 x 6
    assert ci.Downsampling(2, (2, 6)).observe(x).tolist() == [[3.5, 5.5, 7.5]]
    assert torch.allclose(ci.Downsampling((1, 3), (2, 6)).observe(x), torch.tensor([[1.0, 4, 7, 10]]).double(), rtol=1e-14)
    assert ci.Downsampling((2, 4), (2, 6), "pick").observe(x).tolist() == [[0, 4]]


def test_cosine_rows_are_those_of_scipy_and_orthonormal():
    x, rows = normal(N, 84), torch.tensor([3, 0, 41, 6])
    expected = scipy.fft.dctn(x.reshape(N, *COLOUR).numpy(), norm="ortho", axes=(2, 3)).reshape(N, 2, 42)[..., rows]
    seeing = ci.CosineRows(rows, COLOUR)
    assert np.allclose(seeing.observe(x).numpy(), expected.reshape(N, -1), rtol=1e-12, atol=1e-12)
    A = seeing.matrix(torch.float64, "cpu")
    assert torch.allclose(A @ A.T, torch.eye(8).double(), atol=1e-13)


@pytest.mark.parametrize("shape", [(7, 6), (6, 8), (5, 5), (1, 4), (2, 7, 6)], ids=str)
def test_fourier_rows_are_real_orthonormal_and_complete(shape: tuple[int, ...]):
    d, area = int(np.prod(shape)), shape[-1] * shape[-2]
    every = ci.FourierRows(torch.ones(shape[-2:], dtype=torch.bool), shape)
    A = every.matrix(torch.float64, "cpu")
    assert A.shape == (d, d) and torch.allclose(A @ A.T, torch.eye(d).double(), atol=1e-12)
    some = ci.FourierRows([row for row in range(area) if row % 3 == 1], shape)
    B, x = some.matrix(torch.float64, "cpu"), normal(N, d)
    assert torch.allclose(B @ B.T, torch.eye(some.length).double(), atol=1e-12)
    spectrum = torch.fft.fft2(x.reshape(N, *shape), norm="ortho")
    assert torch.allclose(some.real_form(spectrum), some.observe(x), atol=1e-13)
    chosen = torch.fft.fft2(x.reshape(N, -1, *shape[-2:]), norm="ortho").flatten(2)[..., some.rows]
    parts, m = some.observe(x).reshape(N, chosen.shape[1], -1), len(some.rows)
    scale = torch.where(some.alone, 1.0, 2**0.5)
    assert torch.allclose(parts[..., :m], chosen.real * scale, atol=1e-13)
    assert torch.allclose(parts[..., m:], (chosen.imag * 2**0.5)[..., ~some.alone], atol=1e-13)


def test_a_frequency_and_its_mirror_image_are_measured_once():
    one, both = ci.FourierRows([8], GREY), ci.FourierRows([8, 40], GREY)  # (1, 2) and (-1, -2)
    assert one.length == both.length == 2 and both.rows.tolist() == [8]
    assert ci.FourierRows([40, 8], GREY).rows.tolist() == [40]
    assert ci.FourierRows([0, 3], GREY).length == 2, "(0, 0) and (0, W / 2) have no imaginary part"


def line_integrals(x: np.ndarray, angle: float, count: int, steps: int = 20001) -> np.ndarray:
    """Sums of the pixels that points along each line lie in."""
    height, width = x.shape
    a, reach = np.deg2rad(angle), np.hypot(height, width)
    along = np.linspace(-reach, reach, steps)
    sums = []
    for t in np.arange(count) - (count - 1) / 2:
        right, up = t * np.cos(a) - along * np.sin(a), t * np.sin(a) + along * np.cos(a)
        i, j = np.floor(height / 2 - up).astype(int), np.floor(right + width / 2).astype(int)
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        sums.append(x[i[inside], j[inside]].sum() * (along[1] - along[0]))
    return np.array(sums)


@pytest.mark.parametrize("angle", [7.0, 30, 45, 72.5, 100, 135, 170, -20])
def test_projections_are_line_integrals(angle: float):
    seeing, x = ci.Radon([angle], GREY), normal(*GREY)
    y = seeing.observe(x.reshape(1, -1))[0].numpy()
    assert np.allclose(y, line_integrals(x.numpy(), angle, seeing.detectors), atol=0.02)


def test_projections_along_the_axes_are_sums():
    x = normal(7, 6)
    down, across = ci.Radon([0], GREY).observe(x.reshape(1, -1))[0], ci.Radon([90], GREY).observe(x.reshape(1, -1))[0]
    columns = (len(down) - 6) // 2
    assert torch.allclose(down[columns : columns + 6], x.sum(0)) and not down[:columns].any()
    # 7 rows and an even number of lines: each lies on a border, half in either row
    edges = torch.cat([torch.zeros(1).double(), x.sum(1).flip(0), torch.zeros(1).double()])
    halves = (edges[1:] + edges[:-1]) / 2
    first = (len(across) - 8) // 2
    assert torch.allclose(across[first : first + 8], halves)


def test_a_projection_keeps_the_mass():
    """Lines at distance 1 see every pixel with total weight 1, up to how the lines happen to lie in it."""
    total = ci.Radon(range(0, 180, 5), (9, 9)).matrix(torch.float64, "cpu").reshape(36, -1, 81).sum(1)
    assert torch.allclose(total.mean(1), torch.ones(36).double(), atol=0.03)


FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")


@pytest.mark.parametrize("form", [*FORMATS, "matrix", "torch coo", "torch csr", "torch csc"])
def test_sparse_matrices_come_in_every_form_and_stay_sparse(form: str):
    A = sparse(8, 12)
    dense = torch.from_numpy(A.toarray())
    made = {"matrix": lambda: scipy.sparse.csr_matrix(A), "torch coo": dense.to_sparse, "torch csr": dense.to_sparse_csr}
    made |= {"torch csc": dense.to_sparse_csc} | {f: (lambda f=f: A.asformat(f)) for f in FORMATS}
    seeing = as_measurement(made[form](), 12, N)
    assert type(seeing) is ci.SparseMatrix and seeing.A.layout == torch.sparse_csr and seeing.A._nnz() == A.nnz
    x = normal(N, 12)
    assert torch.allclose(seeing.observe(x), x @ dense.T, rtol=1e-13)
    assert torch.equal(seeing.matrix(torch.float64, "cpu"), dense)


def test_entries_of_one_place_are_added():
    A = scipy.sparse.coo_array(([1.0, 2.0, 5.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 3))
    assert ci.SparseMatrix(A).matrix(torch.float64, "cpu").tolist() == [[0, 3, 0], [5, 0, 0]]


def test_matrices_of_one_signal_each():
    A, x, J, r = normal(N, 5, 12), normal(N, 12, seed=1), normal(N, 12, 2, seed=2), normal(N, 5, seed=3)
    seeing = as_measurement(A, 12, N)
    assert isinstance(seeing, ci.Matrix) and not seeing.shared and seeing.length == 5 and seeing.width == 12
    for i in range(N):
        assert torch.allclose(seeing.observe(x)[i], A[i] @ x[i]) and torch.allclose(seeing.adjoint(r)[i], A[i].T @ r[i])
        assert torch.allclose(seeing.push(J)[i], A[i] @ J[i])
    part = seeing.take(torch.tensor([2, 0]))
    assert torch.equal(part.A, A[[2, 0]]) and seeing.matrix(torch.float64, "cpu") is None
    assert as_measurement(A[:1], 12, 1).shared, "the matrix of one signal is one for all"
    for count in (1, N):
        try_out(ci.Matrix(A[:count]), count, torch.float64, torch.device("cpu"))


# --- inversions -----------------------------------------------------------------------------------


def generator(phi: ci.AbstractActivation, shape: tuple[int, ...] = GREY, n0: int = 3) -> ci.Generator:
    """3-12-(7 x 6), kept well-conditioned."""
    layers, n, d = [], n0, int(np.prod(shape))
    for m, activation in ((12, ci.ReLU()), (d, phi)):
        W = normal(m, n, seed=m) / n**0.5
        layers.append(ci.Layer(ci.Dense(W), 0.1 * normal(m, seed=n), activation))
        n = m
    return ci.Generator(tuple(layers), shape, {})


@pytest.mark.parametrize("phi", [ci.Identity(), ci.ReLU(), ci.LeakyReLU(0.2), ci.Tanh(), ci.Sigmoid()], ids=repr)
@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("2 axes")])
def test_the_gradient_is_that_of_autograd(name: str, phi: ci.AbstractActivation):
    seeing, G = ALL[name], generator(phi)
    z, there = normal(N, 3, seed=5).requires_grad_(), normal(N, 3, seed=6)
    y = seeing.observe(G(there)).detach()
    (expected,) = torch.autograd.grad((seeing.observe(G(z)) - y).square().sum() / 2, z)
    misfit, found = gradient(make_task(G, y, seeing), z.detach())
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))
    r, J = make_task(G, y, seeing).linearize(z.detach())
    assert torch.allclose((J.mT @ r[..., None])[..., 0], expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))
    assert torch.allclose(misfit, r.norm(dim=1), rtol=1e-12)


def alike(ours: ci.Inversion, theirs: ci.Inversion) -> None:
    """Statuses, certificates and latents of two inversions agree."""
    assert list(ours.status) == list(theirs.status) and torch.allclose(ours.z, theirs.z, rtol=1e-8, atol=1e-8)
    assert torch.allclose(ours.verdict.misfit, theirs.verdict.misfit, atol=1e-8)
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert list(mine.solution.status) == list(other.solution.status) and mine.kind == other.kind
        for what in ("objective", "bound", "violation"):
            pair = getattr(mine.solution.certificate, what), getattr(other.solution.certificate, what)
            assert torch.allclose(*pair, rtol=1e-8, atol=1e-10), what


@pytest.mark.parametrize("method", ["latent_pursuit", "layered_basis_pursuit", "oracle"])
@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("2 axes")])
def test_layered_answers_and_certificates_are_those_of_the_dense_matrix(name: str, method: str):
    seeing, G, z = ALL[name], generator(ci.Identity()), normal(N, 3, seed=6)
    y = seeing.observe(G(z))
    A, extra = seeing.matrix(torch.float64, "cpu"), {"truth": z} if method == "oracle" else {}
    ours = ci.invert(G, y, method, measurement=seeing, on_fail="ignore", **extra)
    alike(ours, ci.invert(G, y, method, measurement=A, on_fail="ignore", **extra))
    assert method == "layered_basis_pursuit" or ours.verdict.explained.all()


@pytest.mark.parametrize("phi", [ci.Identity(), ci.Sigmoid(), ci.Tanh(), ci.ReLU()], ids=repr)
def test_hybrid_finds_z_behind_each(phi: ci.AbstractActivation):
    G, z = generator(phi), normal(N, 3, seed=6)
    for name, seeing in ready(GREY).items():
        R = ci.invert(G, seeing.observe(G(z)), measurement=seeing, on_fail="raise")
        assert torch.allclose(R.z, z, rtol=1e-8, atol=1e-8) and R.settings["measurement"] == seeing.name, name
        assert (R.used[0] == "layered") is (phi == ci.Identity()), name


def test_behind_an_output_activation_layered_methods_say_why_not():
    G, seeing = generator(ci.Sigmoid()), ALL["blur, zeros, 2 axes"]
    y = seeing.observe(G(normal(N, 3)))
    for measurement, name in ((seeing, "Convolution"), (ci.Composed(torch.ones(42).bool(), seeing), "Composed")):
        words = rf"the measurement {name}.* acts on the signal behind its Sigmoid.*identity output only.*method='hybrid'"
        with pytest.raises(ValueError, match=words):
            ci.invert(G, y, "latent_pursuit", measurement=measurement)


def test_masks_of_one_signal_each_on_one_blur_go_through_the_layers():
    """Every signal as if alone, however many go at a time."""
    G, z, blur = generator(ci.Identity()), normal(5, 3, seed=6), ALL["blur, reflect, 2 axes"]
    masks = torch.rand(5, 42, generator=seeded(3)) < 0.7
    seeing = ci.Composed(masks, blur)
    y = torch.where(masks, blur.observe(G(z)), torch.nan)
    for method in ("hybrid", "latent_pursuit"):
        R = ci.invert(G, y, method, measurement=seeing, chunk=3)
        assert torch.allclose(R.z, z, rtol=1e-9, atol=1e-9) and set(R.used) == {"layered"}
        for i in range(5):
            alone = ci.invert(G, y[i], method, measurement=ci.Composed(masks[i], blur))
            assert alone.z.shape == (3,) and torch.allclose(alone.z, R.z[i], rtol=1e-9, atol=1e-9)
    low = ci.invert(G.to(torch.float32), y.float(), measurement=seeing)
    assert low.z.dtype == torch.float32 and low.verdict.explained.all()
    with pytest.raises(ValueError, match=r"Composed\(Mask, Convolution\) for 4 signals, got one for 5"):
        ci.invert(G, y[:4], measurement=seeing)


def test_pixels_that_a_mask_puts_to_0_before_they_are_measured():
    G, z, A = generator(ci.Identity()), normal(5, 3, seed=6), normal(20, 42, seed=9)
    masks = torch.rand(5, 42, generator=seeded(3)) < 0.7
    one, each = ci.Composed(A, ci.Mask(masks[0])), ci.Composed(ci.Matrix(A), ci.Mask(masks))
    assert torch.allclose(one.observe(G(z)), (G(z) * masks[0]) @ A.T) and torch.allclose(
        each.observe(G(z)), (G(z) * masks) @ A.T
    )
    W, b = one.through(G.layers[1].W, G.layers[1].b)
    assert torch.allclose(W.matrix(), (A * masks[0]) @ G.layers[1].W.matrix()) and each.through(W, b) is None
    for seeing in (one, each):
        R = ci.invert(G, seeing.observe(G(z)), measurement=seeing, chunk=2)
        assert torch.allclose(R.z, z, rtol=1e-9, atol=1e-9)


def test_matrices_of_one_signal_each_are_inverted_and_refused_by_layers():
    G, z, A = generator(ci.Identity()), normal(5, 3, seed=6), normal(5, 15, 42, seed=9)
    y = (A @ G(z)[..., None])[..., 0]
    R = ci.invert(G, y, measurement=A.numpy(), chunk=2)
    assert torch.allclose(R.z, z, rtol=1e-9, atol=1e-9) and ci.verify(G, y, z, measurement=A).explained.all()
    for method in ("latent_pursuit", "layered_basis_pursuit", "oracle"):
        extra = {"truth": z} if method == "oracle" else {}
        with pytest.raises(ValueError, match=r"Matrix makes no one map.*one at a time, each with its own.*method='hybrid'"):
            ci.invert(G, y, method, measurement=A, **extra)
        first = {key: value[:1] for key, value in extra.items()}
        assert len(ci.invert(G, y[:1], method, measurement=A[:1], on_fail="ignore", **first)) == 1


def test_a_layer_that_is_too_large_for_a_matrix_is_seen_without_one():
    blur, W, b = ALL["blur, zeros, 2 axes"], ci.Dense(normal(42, 12)), normal(42)
    large, bias = rows_seen(blur, W, b)
    small = settled(large)
    h, p = normal(N, 12, seed=1), normal(N, 42, seed=2)
    assert isinstance(small, ci.Dense) and torch.allclose(bias, blur.observe(b[None])[0])
    assert torch.allclose(large(h), small(h)) and torch.allclose(large.adjoint(p), small.adjoint(p))
    assert torch.allclose(large.matrix(), small.matrix()) and large.to(torch.float32).dtype == torch.float32
    wide = ci.ConvTranspose2d(normal(64, 1, 4, 4), (64, 14, 14), stride=(2, 2), padding=(1, 1))  # 12,544 unknowns
    seen = ci.Convolution(normal(3, 3), (28, 28)).through(wide, normal(784))[0]
    assert isinstance(large, SeenMap) and settled(seen) is seen and settled(W) is W


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here, and need for none that pretends")
def test_on_a_device():
    G, z = generator(ci.Identity()), normal(N, 3, seed=6)
    with PretendDevice():
        there = G.to(device="cuda")
        for name in ("blur, reflect", "Fourier", "cosines", "functions", "scipy", "hidden"):
            seeing = ready(GREY)[name]
            y = seeing.observe(G(z))
            if name == "scipy":
                with pytest.raises(
                    ValueError, match=r"expected signals on the CPU for a LinearOperator.*\.to\(device='cpu'\)"
                ):
                    ci.invert(there, y.to("cuda"), measurement=seeing)
                continue
            R = ci.invert(there, y.to("cuda"), measurement=seeing.to(device="cuda"), on_fail="ignore")
            assert R.verdict.explained.cpu().all() and torch.allclose(R.z.cpu(), z, rtol=1e-8, atol=1e-8), name
        cosines, blur = ready(GREY)["cosines"], ready(GREY)["blur, zeros"]
        with pytest.raises(ValueError, match="expected the measurement on cuda:0, got it on cpu"):
            ci.invert(there, blur.observe(G(z)).to("cuda"), measurement=blur)
        small = ci.Downsampling(1, GREY)  # made of numbers alone: it goes where the generator is
        assert ci.invert(there, G(z).to("cuda"), measurement=small).z.device.type == "cuda"
        assert ci.invert(there, G(z).to("cuda"), measurement=scipy.sparse.eye_array(42)).verdict.explained.cpu().all()
        assert cosines.to(device="cuda").rows.device.type == "cuda"


@pytest.mark.parametrize("name", ["blur, stride 2", "smaller", "projections", "hidden"])
@pytest.mark.parametrize("shape", [GREY, COLOUR], ids=str)
def test_what_was_seen_may_come_as_the_pictures_that_it_is(name: str, shape: tuple[int, ...]):
    G, z, seeing = generator(ci.Identity(), shape), normal(N, 3, seed=6), ready(shape)[name]
    y = seeing.observe(G(z))
    R, form = ci.invert(G, y, measurement=seeing), shape if name == "hidden" else seeing.form  # as many as the signal has
    assert int(np.prod(form)) == seeing.length and int(np.prod(seeing.form)) == seeing.length
    assert torch.equal(ci.invert(G, y.reshape(N, *form), measurement=seeing).z, R.z)
    one = ci.invert(G, y[0].reshape(form), measurement=seeing)
    assert one.z.shape == (3,) and torch.allclose(one.z, R.z[0], rtol=1e-9)
    if form[0] == 1:
        assert torch.equal(ci.invert(G, y.reshape(N, *form[1:]), measurement=seeing).z, R.z)
    for wrong in (y.reshape(N, form[-1], form[0], -1), y[:, 1:]):
        with pytest.raises(ValueError, match="expected y"):
            ci.invert(G, wrong, measurement=seeing)


def test_as_many_measurements_as_a_picture_has_rows_are_signals_and_no_picture():
    G, z, A = generator(ci.Identity()), normal(7, 3, seed=6), normal(6, 42, seed=9)
    assert ci.invert(G, G(z) @ A.T, "levenberg_marquardt", measurement=A, on_fail="ignore").z.shape == (7, 3)


# --- files, certificates, the command line --------------------------------------------------------


@pytest.mark.parametrize("name", ["blur, reflect", "Fourier", "projections", "sparse", "functions", "scipy", "hidden"])
def test_claims_behind_each_are_checked_exactly(name: str, tmp_path):
    from cvxinv.check_inversion import check_file
    from cvxinv.inversion.export import certificate_files

    G, z, seeing = generator(ci.Identity()), normal(2, 3, seed=6), ready(GREY)[name]
    y = seeing.observe(G(z))
    R = ci.invert(G, y, measurement=seeing)
    R.export(tmp_path / "claims", G, y, seeing)
    for file in certificate_files(tmp_path / "claims"):
        verdicts = check_file(file)
        assert verdicts and all(v.accepted for v in verdicts), file
    R.save(tmp_path / "result")
    with pytest.raises(ValueError, match="that the inversion was made with, got none"):
        ci.Inversion.load(tmp_path / "result").export(tmp_path / "others", G, y)
    assert ci.write_report(R, tmp_path / "page.html", y=y, generator=G, measurement=seeing).is_file()


def test_claims_that_a_file_cannot_hold_are_refused_by_name(tmp_path):
    G, z, A = generator(ci.Identity()), normal(2, 3, seed=6), normal(2, 15, 42, seed=9)
    R = ci.invert(G, ci.Matrix(A).observe(G(z)), measurement=A)
    with pytest.raises(ValueError, match=r"Matrix, which differs from signal to signal.*one by one"):
        R.export(tmp_path / "claims", G, ci.Matrix(A).observe(G(z)), A)


def test_the_command_line_reads_sparse_matrices(tmp_path):
    from typer.testing import CliRunner

    from cvxinv.command.cli import app
    from cvxinv.files import read_matrix

    G, z, A = generator(ci.Identity()), normal(2, 3, seed=6), sparse(31, 42)
    ci.save_generator(G, tmp_path / "G")
    np.save(tmp_path / "y.npy", G(z).numpy() @ A.T)
    for form in ("csr", "csc", "coo", "dia"):
        scipy.sparse.save_npz(tmp_path / "A.npz", A.asformat(form))
        assert np.array_equal(read_matrix(tmp_path / "A.npz").to_dense().numpy(), A.toarray())
    words = [str(tmp_path / "G"), str(tmp_path / "y.npy"), "--matrix", str(tmp_path / "A.npz")]
    done = CliRunner().invoke(app, ["invert", *words, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert ci.Inversion.load(tmp_path / "out").settings["measurement"] == "SparseMatrix"
    judged = CliRunner().invoke(app, ["verify", *words[:2], str(tmp_path / "out"), *words[2:]])
    assert judged.exit_code == 0, judged.output
    scipy.sparse.save_npz(tmp_path / "B.npz", A.astype(int))
    refused = CliRunner().invoke(app, ["invert", *words[:3], str(tmp_path / "B.npz"), "-o", str(tmp_path / "no")])
    assert refused.exit_code == 2 and "float32 or float64" in refused.output


# --- what does not fit ----------------------------------------------------------------------------

F, T = through_fft(GREY)
ROLL, BACK = (lambda x: x.roll(1, 1)), (lambda r: r.roll(-1, 1))
NAN = float("nan")


def changed(x: Tensor) -> Tensor:
    return x.mul_(2)


FAULTS = {
    "kernel of ints": (lambda: ci.Convolution(torch.ones(3, 3).long(), GREY), TypeError, r"floats.*int64.*kernel\.double"),
    "complex kernel": (lambda: ci.Convolution(torch.ones(3, 3) + 0j, GREY), TypeError, "floats.*complex64"),
    "kernel in half": (lambda: ci.Convolution(torch.ones(3, 3).half(), GREY), TypeError, "float32 or float64.*float16"),
    "kernel as a list": (lambda: ci.Convolution([[1.0]], GREY), TypeError, r"got list; use torch\.as_tensor"),
    "kernel with NaN": (lambda: ci.Convolution(torch.tensor([[NAN]]), GREY), ValueError, "finite kernel"),
    "kernel of zeros": (lambda: ci.Convolution(torch.zeros(2, 2), GREY), ValueError, "measures something, got all zeros"),
    "empty kernel": (lambda: ci.Convolution(torch.zeros(0, 3), GREY), ValueError, r"got a tensor .*\(0, 3\)"),
    "kernel of one axis": (lambda: ci.Convolution(torch.ones(3), GREY), ValueError, r"reshape .* to \(1, width\)"),
    "kernels of others": (lambda: ci.Convolution(torch.ones(3, 2, 2), COLOUR), ValueError, "each of 2 channels"),
    "boundary": (lambda: ci.Convolution(torch.ones(2, 2), GREY, "mirror"), ValueError, "boundary of zeros, .*got 'mirror'"),
    "stride": (lambda: ci.Convolution(torch.ones(2, 2), GREY, stride=0), ValueError, "stride as an integer >= 1, got 0"),
    "kernel too large": (lambda: ci.Convolution(torch.ones(900, 900), (64, 64)), ValueError, "50000000 products"),
    "shape of one": (lambda: ci.Downsampling(2, (42,)), ValueError, r"\(height, width\) or .*got \(42,\)"),
    "shape of floats": (lambda: ci.Downsampling(2, (4.0, 2)), ValueError, r"integers >= 1, got \(4\.0, 2\)"),
    "shape as a number": (lambda: ci.Downsampling(2, 28), ValueError, "got 28; pass the picture's"),
    "factor": (lambda: ci.Downsampling(0, GREY), ValueError, "factor as an integer >= 1.*got 0"),
    "three factors": (lambda: ci.Downsampling((1, 2, 2), GREY), ValueError, r"got \(1, 2, 2\)"),
    "factor that divides not": (
        lambda: ci.Downsampling(2, GREY),
        ValueError, r"divides the picture's \(7, 6\), got \(2, 2\)",
    ),
    "factor too large": (lambda: ci.Downsampling(8, GREY, "pick"), ValueError, r"got \(8, 8\)"),
    "kind": (lambda: ci.Downsampling(1, GREY, "max"), ValueError, "'average' or 'pick', got 'max'"),
    "no rows": (lambda: ci.CosineRows([], GREY), ValueError, "at least one of rows of the cosine transform"),
    "rows of floats": (lambda: ci.CosineRows(torch.ones(3), GREY), TypeError, "integers or bools, got .*float32"),
    "rows in words": (lambda: ci.FourierRows("all", GREY), TypeError, "as integers, .*got str"),
    "row below 0": (lambda: ci.FourierRows([-1, 3], GREY), TypeError, "as integers"),
    "row below 0, tensor": (lambda: ci.FourierRows(torch.tensor([-1, 3]), GREY), ValueError, "from 0 to 41 .*got -1"),
    "row beyond": (lambda: ci.CosineRows([3, 42], GREY), ValueError, r"from 0 to 41 for pictures \(7, 6\), got 42"),
    "row twice": (lambda: ci.CosineRows([3, 4, 3], GREY), ValueError, "once each, got 3 2 times"),
    "grid of another size": (lambda: ci.FourierRows(torch.ones(6, 6).bool(), GREY), ValueError, r"bool grid \(7, 6\)"),
    "spectrum of reals": (lambda: ci.FourierRows([1], GREY).real_form(torch.ones(1, 7, 6)), TypeError, "complex tensor"),
    "spectrum's shape": (
        lambda: ci.FourierRows([1], COLOUR).real_form(torch.ones(1, 7, 6) + 0j), ValueError, r"spectra \(N, 2, 7, 6\)",
    ),
    "no angles": (lambda: ci.Radon([], GREY), ValueError, "at least one finite angle"),
    "angle twice": (lambda: ci.Radon([0, 30, 180], GREY), ValueError, r"differ modulo 180, got 0 more than once"),
    "angles that round": (lambda: ci.Radon([359.9999999999, 0], GREY), ValueError, "more than once"),
    "angle NaN": (lambda: ci.Radon([NAN], GREY), ValueError, "finite angle"),
    "angles as one number": (lambda: ci.Radon(30.0, GREY), TypeError, r"angles in degrees as numbers, got float"),
    "sparse ints": (lambda: ci.SparseMatrix(scipy.sparse.eye_array(4, dtype=int)), TypeError, "got int64; use A.astype"),
    "sparse complex": (lambda: ci.SparseMatrix(sparse(4, 5).astype(complex)), TypeError, "got complex128"),
    "sparse NaN": (lambda: ci.SparseMatrix(sparse(4, 5) * NAN), ValueError, "finite sparse matrix"),
    "sparse zeros": (lambda: ci.SparseMatrix(scipy.sparse.csr_array((4, 5))), ValueError, r"all zeros in shape \(4, 5\)"),
    "sparse of three axes": (lambda: ci.SparseMatrix(torch.ones(2, 3, 4).to_sparse()), ValueError, r"shape \(2, 3, 4\)"),
    "no sparse matrix": (lambda: ci.SparseMatrix([[1.0]]), TypeError, "got list"),
    "sparse too narrow": (lambda: as_measurement(sparse(4, 41), 42, N), ValueError, "42 numbers, got one of 41"),
    "matrices of others": (
        lambda: as_measurement(normal(2, 5, 42), 42, N), ValueError, r"\(5, 42\) or \(3, 5, 42\), got \(2, 5, 42\)",
    ),
    "a matrix of zeros": (lambda: ci.Matrix(normal(2, 1, 1) * torch.tensor([[[1.0]], [[0.0]]])), ValueError, "all zeros"),
    "no function": (
        lambda: ci.Operator(normal(4, 4), ROLL, 4),
        TypeError, "forward as a function of batches, got a tensor",
    ),
    "length": (lambda: ci.Operator(ROLL, BACK, 0), ValueError, "length as an integer >= 1, got 0"),
    "length as a float": (lambda: ci.Operator(ROLL, BACK, 4.0), ValueError, "got 4.0"),
    "wrong adjoint": (
        lambda: ci.Operator(ROLL, ROLL, 5),
        ValueError, r"<A x, r> = \S+ and <x, A' r> = \S+ .* off by \S+ of",
    ),
    "adjoint scaled": (
        lambda: ci.Operator(F, lambda r: 1.001 * T(r), 42),
        ValueError, "transpose of forward.*off by [0-9.]+e-0[45]",
    ),
    "lengths that differ": (
        lambda: ci.Operator(lambda x: x[:, 1:], BACK, 5),
        ValueError, r"as a tensor \(3, 5\).*\(3, 4\)",
    ),
    "offset": (lambda: ci.Operator(lambda x: x + 1, BACK, 5), ValueError, "forward to be linear.*off by"),
    "clipping": (lambda: ci.Operator(ROLL, lambda r: BACK(r).relu(), 5), ValueError, "adjoint to be linear"),
    "batches mixed": (lambda: ci.Operator(lambda x: x - x.mean(0), BACK, 5), ValueError, "each signal for itself"),
    "in place": (lambda: ci.Operator(changed, changed, 5), ValueError, "leave its input as it is"),
    "nothing": (lambda: ci.Operator(lambda x: 0 * x, lambda r: 0 * r, 5), ValueError, "measure something"),
    "functions give NaN": (lambda: ci.Operator(lambda x: x * NAN, BACK, 5), ValueError, "finite numbers, got NaN"),
    "another type": (lambda: ci.Operator(ROLL, lambda r: r.float(), 5), ValueError, r"float64 on cpu, got .*float32"),
    "float32 constants": (
        lambda: ci.Operator(lambda x: x @ torch.ones(5, 5), lambda r: r @ torch.ones(5, 5), 5),
        ValueError, r"got RuntimeError.*\.to\(x\)",
    ),
    "one signal": (
        lambda: ci.Operator(lambda x: normal(4, 5) @ x, lambda r: normal(5, 4) @ r, 4),
        ValueError, r"torch\.vmap\(f\)",
    ),
    "numpy": (
        lambda: ci.Operator(lambda x: x.numpy() * 2, lambda r: r.numpy() * 2, 4),
        ValueError, "got an array.*LinearOperator",
    ),
    "complex operator": (
        lambda: ci.ScipyOperator(aslinearoperator(np.eye(3) * 1j)),
        TypeError, "real numbers, got complex128",
    ),
    "no rmatvec": (
        lambda: ci.ScipyOperator(LinearOperator((3, 3), matvec=lambda x: x)),
        ValueError, "with its transpose, got one without; pass rmatvec=",
    ),
    "wrong rmatvec": (
        lambda: as_measurement(LinearOperator((3, 3), matvec=np.cumsum, rmatvec=np.cumsum, dtype=float), 3, N),
        ValueError, "transpose of forward",
    ),
    "operator of others": (lambda: as_measurement(linear_operator(3, 41), 42, N), ValueError, "42 numbers, got one of 41"),
    "sizes that do not meet": (
        lambda: ci.Composed(normal(3, 41), ALL["smaller, 2 axes"]),
        ValueError, "14 numbers.*one of 41",
    ),
    "mask after mask": (lambda: ci.Composed(torch.ones(4).bool(), torch.ones(4).bool()), ValueError, "pass one & other"),
    "a function as it is": (
        lambda: ci.invert(generator(ci.Identity()), normal(2, 16), measurement=F),
        TypeError, "got function.*Operator",
    ),
    "a blur of others": (
        lambda: as_measurement(ci.Convolution(torch.ones(2, 2), (6, 8)), 42, N),
        ValueError, "42 numbers, got one of 48; check its shape beside the generator's signal_shape",
    ),
    "spectra as signals": (
        lambda: ci.invert(generator(ci.Identity()), normal(2, 2) + 0j, measurement=ci.FourierRows([1], GREY)),
        TypeError, "real_form",
    ),
    "composed of a list": (lambda: ci.Composed([True], torch.ones(1).bool()), TypeError, "outer of Composed.*got list"),
    "functions in a list": (
        lambda: as_measurement(F, 42, N),
        TypeError, r"Operator\(forward, adjoint, length\) for functions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_refused_when_it_is_made(fault: str):
    make, error, words = FAULTS[fault]
    with pytest.raises(error, match=f"(?s){words}"):
        make()


def test_functions_of_one_signal_and_of_numpy_have_a_way_in():
    A, x = normal(4, 5), normal(N, 5)
    one = ci.Operator(torch.vmap(lambda x: A @ x), torch.vmap(lambda r: A.T @ r), 4)
    numpy = as_measurement(LinearOperator((4, 5), matvec=lambda x: A.numpy() @ x, rmatvec=lambda r: A.numpy().T @ r), 5, N)
    for seeing in (one, numpy):
        assert seeing.width == 5 and torch.allclose(seeing.observe(x), x @ A.T, rtol=1e-13)


def test_modules_are_functions_and_make_no_graph():
    conv = torch.nn.Conv2d(1, 2, 3, stride=2, bias=False).double()
    back = torch.nn.ConvTranspose2d(2, 1, 3, stride=2, bias=False, output_padding=(0, 1)).double()
    back.weight = conv.weight
    seeing = ci.Operator(
        lambda x: conv(x.reshape(-1, 1, 7, 6)).flatten(1), lambda r: back(r.reshape(-1, 2, 3, 2)).flatten(1), 12
    )
    G, z = generator(ci.Identity()), normal(N, 3, seed=6)
    y = seeing.observe(G(z))
    assert seeing.width == 42 and not y.requires_grad and not seeing.adjoint(y).requires_grad
    assert seeing.observe(G(z).requires_grad_()).requires_grad
    R = ci.invert(G, y, measurement=seeing)
    assert torch.allclose(R.z, z, rtol=1e-8, atol=1e-8) and not R.z.requires_grad


def test_what_is_made_of_numbers_follows_the_type_of_the_signal():
    x = normal(N, 42)
    for name, seeing in ready(GREY).items():
        if name in ("of what is seen", "thrice"):  # matrices of the user's have a type
            continue
        low = seeing.observe(x.float())
        assert low.dtype == torch.float32 and torch.allclose(low.double(), seeing.observe(x), rtol=1e-4, atol=1e-4), name


def test_functions_that_know_float64_alone_serve_starts_in_float32():
    """A picture in noise, which starts of float32 are tried of."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 20), torch.nn.ReLU(), torch.nn.Linear(20, 60), torch.nn.Sigmoid()).double()
    G = ci.load_generator(net)
    A = torch.randn(40, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 8
    narrow = ci.Operator(lambda v: v @ A.T, lambda r: r @ A, 40)
    x = torch.rand(3, 60, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    single = torch.ones(2, 60, dtype=torch.float32)
    assert narrow.observe(single).dtype == torch.float32 and narrow.adjoint(single[:, :40]).dtype == torch.float32
    for told in (
        {},
        {"noise": ("gaussian", 0.05)},
        {"noise": "auto"},
        {"noise": ("gaussian", 0.1), "prior": ci.Gaussian(1.0)},
    ):
        by, expected = (ci.invert(G, x @ A.T, measurement=m, on_fail="ignore", **told) for m in (narrow, A))
        torch.testing.assert_close(by.verdict.misfit, expected.verdict.misfit, rtol=1e-6, atol=0)
    of_single = ci.load_generator(net, dtype=torch.float32)
    y = of_single(of_single.sample_latent(2, torch.Generator().manual_seed(3))) @ A.T.float()
    assert ci.invert(of_single, y, measurement=narrow).verdict.explained.all()


@pytest.mark.parametrize(
    ("A", "kind", "words"),
    [
        (torch.ones(3, 3, dtype=torch.complex128), TypeError, r"real numbers, .*torch.cat\(\[A.real, A.imag\]\)"),
        (scipy.sparse.eye(3, format="csr") * 1j, TypeError, r"real numbers, .*scipy.sparse.vstack\(\[A.real, A.imag\]\)"),
        (torch.ones(3, dtype=torch.float64), ValueError, r"one row is A\[None\]"),
    ],
)
def test_a_matrix_that_is_none_is_refused_with_a_cure_that_keeps_it(A: object, kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        as_measurement(A, 3, 1)


@pytest.mark.parametrize("unit", [1e-140, 1e-30, 1e30, 1e90])
def test_what_is_measured_may_be_small_or_large(unit: float):
    torch.manual_seed(0)
    G = ci.load_generator(torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 9)).double())
    z = G.sample_latent(4, torch.Generator().manual_seed(0))
    R = ci.invert(G, unit * G(z), measurement=unit * torch.eye(9, dtype=torch.float64))
    assert R.verdict.explained.all() and float((R.signal - G(z)).norm() / G(z).norm()) < 1e-12


@pytest.mark.generators
@pytest.mark.parametrize("kind", ["blur", "matrix"])
def test_a_trained_dcgan_is_inverted_behind_what_mixes_its_tanh(kind: str, real_generator):
    G = real_generator("aman_fashion_dcgan_28x28", dtype=torch.float64)
    z = G.sample_latent(6, seeded(5))
    blur = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    A = ci.Convolution(blur, (28, 28)) if kind == "blur" else normal(400, 784, seed=6) / 20
    y = A.observe(G(z)) if isinstance(A, ci.Convolution) else G(z) @ A.T
    R = ci.invert(G, y, measurement=A, on_fail="ignore")
    assert (R.status == "explained").sum() >= 5 and ((R.z - z).norm(dim=1) <= 1e-6 * z.norm(dim=1)).sum() >= 5
    # behind the blur none of them was with less damping at first
    assert sum(used == "learnt start" for used in R.used) >= 4


@pytest.mark.parametrize("mixed", [False, True])
def test_descents_of_dear_generators_begin_damped_where_a_measurement_mixes_a_curved_output(
    mixed: bool, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    G = ci.load_generator(
        torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 9), torch.nn.Tanh()).double()
    )
    y = G(normal(3, 2))
    A = normal(9, 9) if mixed else torch.arange(9) < 7
    task = make_task(G, y @ A.T if mixed else y, A)
    told = list[float]()
    plain = newton.descend

    def noted(task: object, z: Tensor, max_iter: int, mu: float, *rest: object, **more: object) -> object:
        told.append(mu)
        return plain(task, z, max_iter, mu, *rest, **more)

    monkeypatch.setattr(newton, "descend", noted)
    for dear in (False, True):
        monkeypatch.setattr(newton, "dear", lambda _, dear=dear: dear)
        newton.descend_through(task, torch.zeros(3, 2, dtype=torch.float64), 3)
    assert set(told[: len(told) // 2]) == {newton.MU}
    assert set(told[len(told) // 2 :]) == ({1.0} if mixed else {newton.MU})
