"""Pictures blurred and made smaller, as sparse matrices."""

from dataclasses import dataclass, field
from math import ceil

import numpy as np
from scipy import sparse
from torch import Tensor

from .pictures import is_count, read_kernel, read_shape
from .sparse import AbstractSparse

BOUNDARIES = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}  # numpy.pad's names
_MOST = 50_000_000  # products of a blurred picture, 16 bytes each


@dataclass(frozen=True, eq=False)
class Convolution(AbstractSparse):
    """A blur: the picture convolved with a kernel, channel by channel, in the picture's own size.

        y[i, j] = sum over u, v of kernel[u, v] x[s i - u + (h - 1) // 2, s j - v + (w - 1) // 2]

    as `scipy.signal.convolve2d(x, kernel, mode="same")[::s, ::s]`. kernel: `(h, w)`, of any size, or `(C, h, w)`, one for
    each channel. shape: (H, W) or (C, H, W). boundary: what stands outside of the picture, named as by torch.nn.Conv2d:
    "zeros", "circular", "reflect" (without the edge), "replicate". stride s: every s-th row and column is kept.
    """

    kernel: Tensor
    shape: tuple[int, ...]
    boundary: str = "zeros"
    stride: int = 1
    A: Tensor = field(init=False, repr=False)
    back: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        channels, height, width = read_shape(self.shape)
        kernel = read_kernel(self.kernel, channels)
        if self.boundary not in BOUNDARIES:
            raise ValueError(f"expected a boundary of {', '.join(BOUNDARIES)}, got {self.boundary!r}; pass one of these")
        if not is_count(self.stride):
            raise ValueError(f"expected stride as an integer >= 1, got {self.stride!r}; 1 keeps every pixel")
        products = kernel.numel() * height * width
        if products > _MOST:
            raise ValueError(
                f"expected a kernel and a picture of at most {_MOST} products, got {products}; "
                "pass Operator(forward, adjoint, length) with torch.fft in it"
            )
        kernels = kernel.cpu().numpy().reshape(-1, *kernel.shape[-2:])
        blocks = [_blurring(one, height, width, self.boundary, int(self.stride)) for one in kernels]
        for name, value in (("kernel", kernel), ("shape", (channels, height, width))):
            object.__setattr__(self, name, value)
        self._keep(sparse.block_diag(blocks, format="csr"), kernel.device)

    @property
    def channels(self) -> int:
        return self.shape[0] if self.kernel.ndim == 2 else 1

    @property
    def form(self) -> tuple[int, ...]:
        channels, height, width = self.shape
        return channels, ceil(height / self.stride), ceil(width / self.stride)


def _blurring(kernel: np.ndarray, height: int, width: int, boundary: str, stride: int) -> sparse.csr_array:
    """The matrix of a convolution of one picture."""
    rows, columns = (
        _sources(size, reach, boundary)[:, ::stride] for size, reach in zip((height, width), kernel.shape, strict=True)
    )
    source = rows[:, None, :, None] * width + columns[None, :, None, :]  # (h, w, rows out, columns out)
    inside = (rows[:, None, :, None] >= 0) & (columns[None, :, None, :] >= 0)
    target = np.broadcast_to(np.arange(rows.shape[1] * columns.shape[1]).reshape(source.shape[2:]), source.shape)
    weight = np.broadcast_to(kernel[:, :, None, None], source.shape)
    places = target[inside], source[inside]
    return sparse.coo_array((weight[inside], places), (target[0, 0].size, height * width)).tocsr()


def _sources(size: int, reach: int, boundary: str) -> np.ndarray:
    """Which pixel of a line of `size` entry u of a kernel of `reach` takes for output i, `(reach, size)`; -1 for none."""
    after = (reach - 1) // 2
    options = {"constant_values": -1} if boundary == "zeros" else {}
    line = np.pad(np.arange(size), (reach - 1 - after, after), mode=BOUNDARIES[boundary], **options)  # type: ignore[call-overload]
    return np.stack([line[reach - 1 - u : reach - 1 - u + size] for u in range(reach)])


@dataclass(frozen=True, eq=False)
class Downsampling(AbstractSparse):
    """A smaller picture, channel by channel: the mean of every block of factor x factor pixels, or its first pixel.

    factor: an integer, or one for rows and one for columns. shape: (H, W) or (C, H, W), for means divisible by the factor.
    kind: "average" or "pick".
    """

    factor: int | tuple[int, int]
    shape: tuple[int, ...]
    kind: str = "average"
    A: Tensor = field(init=False, repr=False)
    back: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = read_shape(self.shape)
        pair = tuple(self.factor) if isinstance(self.factor, (tuple, list)) else (self.factor, self.factor)
        if len(pair) != 2 or not all(is_count(f) for f in pair):
            raise ValueError(f"expected factor as an integer >= 1, or two of them, got {self.factor!r}; 2 halves a picture")
        if self.kind not in ("average", "pick"):
            raise ValueError(f"expected kind as 'average' or 'pick', got {self.kind!r}; pass one of these")
        for size, f in zip(shape[1:], pair, strict=True):
            if f > size or (self.kind == "average" and size % f):
                raise ValueError(
                    f"expected a factor that divides the picture's {shape[1:]}, got {pair}; "
                    "pass kind='pick', which takes all up to that size, or a Convolution with a stride"
                )
        for name, value in (("factor", pair), ("shape", shape)):
            object.__setattr__(self, name, value)
        self._keep(sparse.kron(*(_smaller(size, f, self.kind) for size, f in zip(shape[1:], pair, strict=True))))

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def form(self) -> tuple[int, ...]:
        down, across = self.factor  # type: ignore[misc]
        return self.shape[0], ceil(self.shape[1] / down), ceil(self.shape[2] / across)


def _smaller(size: int, factor: int, kind: str) -> sparse.csr_array:
    if kind == "pick":
        return sparse.eye_array(size, format="csr")[::factor]
    return sparse.kron(sparse.eye_array(size // factor), np.full((1, factor), 1 / factor)).tocsr()
