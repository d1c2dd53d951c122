"""Nodes that act on each axis of a picture apart: resizing and average pooling, said by a matrix per axis; maximum pooling.

Resizing follows onnxruntime, whose rounding rules the specification leaves open: sizes and the pixels of "nearest" are
computed in float32, weights of "linear" and "cubic" here in float64. Cubic weights: Keys, Cubic convolution interpolation
for digital image processing, 1981, eq. (15) with a = `cubic_coeff_a`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..steps.pictures import resampled
from .maps import pads_of
from .node import Node, integers, operator

Pixels = np.ndarray  # float positions in the input, one per output

_ROUNDINGS: dict[str, Callable[[Pixels], Pixels]] = {
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}
_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


@dataclass(frozen=True)
class _Axis:
    """One axis to be resized: sizes before and after, the factor, and the part of it that is taken (as a fraction)."""

    size: int
    out: int
    scale: np.float32
    roi: tuple[float, float] = (0.0, 1.0)

    def positions(self, mode: str, dtype: type) -> Pixels | None:
        """Where in the input each output lies; None for an unknown mode."""
        x: Any = np.arange(self.out, dtype=dtype)
        size, out = dtype(self.size), dtype(self.out)
        scale = dtype(self.scale) if dtype is np.float32 or self.inexact else out / size
        half, one = dtype(0.5), dtype(1)
        start, end = dtype(self.roi[0]), dtype(self.roi[1])
        middle = size / 2 * (one - out / (scale * size))
        modes = {
            "asymmetric": lambda: x / scale,
            "half_pixel": lambda: (x + half) / scale - half,
            "pytorch_half_pixel": lambda: (x + half) / scale - half if self.out > 1 else 0 * x,
            "half_pixel_symmetric": lambda: middle + (x + half) / scale - half,
            "tf_half_pixel_for_nn": lambda: (x + half) / scale,
            "align_corners": lambda: x * (size - one) / (out - one) if self.out > 1 else 0 * x,
            "tf_crop_and_resize": lambda: (
                start * (size - one) + x * (end - start) * (size - one) / (out - one)
                if self.out > 1
                else half * (start + end) * (size - one) + 0 * x
            ),
        }
        return modes[mode]() if mode in modes else None

    @property
    def inexact(self) -> bool:
        """Whether the factor is another than that of the sizes, to float32."""
        return bool(abs(self.scale - np.float32(self.out / self.size)) > 1e-6 * self.scale)


@operator("Resize", "Upsample")
def resize(node: Node, x: Tensor, *others: Tensor | None) -> Tensor:
    """Nearest, linear and cubic resizing of any axis but the first."""
    if node.get("antialias", 0):
        raise node.refused("with antialias=1", "export with antialias=False")
    if node.get("extrapolation_value", 0.0) != 0:
        raise node.refused(f"with extrapolation_value {node.get('extrapolation_value', 0.0)}, only 0 can be read")
    axes = _axes(node, x, others)
    if axes[0].size != axes[0].out:
        raise node.refused("on the axis that counts the signals")
    matrices = [_matrix(node, axis) for axis in axes[1:]]
    if len(axes) > 1 and axes[1].size != axes[1].out:  # pictures with their channels behind
        return each_axis(node, x.unsqueeze(1), matrices).squeeze(1)
    return x if len(axes) < 3 else each_axis(node, x, matrices[1:])


def _mode(node: Node) -> str:
    mode = node.word("mode", "nearest")
    return {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


def _axes(node: Node, x: Tensor, others: tuple[Tensor | None, ...]) -> list[_Axis]:
    old = node.kind == "Upsample" or node.opset < 11
    roi, scales, sizes = (None, *others[:1], None) if old else (*others, None, None, None)[:3]
    over = [axis % x.ndim for axis in node.get("axes", range(x.ndim))]
    crops = node.word("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    taken = [0.0] * len(over) + [1.0] * len(over) if roi is None or not roi.numel() or not crops else roi.tolist()
    axes = [_Axis(size, size, np.float32(1)) for size in x.shape]
    if scales is None or not scales.numel():
        factors = list(node.get("scales", []))
        given = _kept(node, [x.shape[axis] for axis in over], integers(sizes))
    else:
        factors, given = scales.tolist(), []
    for place, axis in enumerate(over):
        size, part = x.shape[axis], (taken[place], taken[place + len(over)])
        if given:
            axes[axis] = _Axis(size, given[place][0], np.float32(given[place][1]), part)
        else:
            factor = np.float32(factors[place])
            axes[axis] = _Axis(size, int(factor * np.float32(size)), factor, part)
    if any(axis.out < 1 for axis in axes):
        raise node.wrong("sizes of at least one pixel", str([axis.out for axis in axes]))
    return axes


def _kept(node: Node, before: list[int], sizes: list[int]) -> list[tuple[int, float]]:
    """The sizes and their factors, made alike where the aspect ratio is to be kept."""
    factors = [np.float32(out) / np.float32(size) for size, out in zip(before, sizes, strict=len(sizes) > 0)]
    policy = node.word("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch" or not sizes:
        return list(zip(sizes, map(float, factors), strict=False))
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [(int(np.floor(factor * np.float32(size) + np.float32(0.5))), float(factor)) for size in before]


def _matrix(node: Node, axis: _Axis) -> Tensor:
    """(out, size): what one axis becomes."""
    old = node.kind == "Upsample" or node.opset < 11
    kind = _mode(node)
    mode = "asymmetric" if old else node.word("coordinate_transformation_mode", "half_pixel")
    if kind not in ("nearest", "linear", "cubic"):
        raise node.refused(f"with mode {kind!r}")
    if axis.scale == 1 and axis.out == axis.size and mode != "tf_crop_and_resize":
        return torch.eye(axis.size, dtype=torch.float64)
    places = axis.positions(mode, np.float32 if kind == "nearest" else np.float64)
    if places is None:
        raise node.refused(f"with coordinate_transformation_mode {mode!r}")
    outside = (places < 0) | (places > axis.size - 1) if mode == "tf_crop_and_resize" else np.zeros(len(places), dtype=bool)
    if kind == "nearest":
        matrix = _nearest(node, axis, places, old)
    elif kind == "linear":
        matrix = _linear(axis.size, places)
    else:
        matrix = _cubic(axis.size, places, node.get("cubic_coeff_a", -0.75), bool(node.get("exclude_outside", 0)))
    matrix[outside] = 0
    return torch.from_numpy(matrix)


def _nearest(node: Node, axis: _Axis, places: Pixels, old: bool) -> np.ndarray:
    rounding = node.word("nearest_mode", "round_prefer_floor")
    if old:  # as onnxruntime rounds before operator set 11
        rounding = "ceil" if axis.scale < 1 else "floor"
    if rounding not in _ROUNDINGS:
        raise node.refused(f"with nearest_mode {rounding!r}")
    picked = _ROUNDINGS[rounding](places).clip(0, axis.size - 1).astype(np.int64)
    return np.eye(axis.size)[picked]


def _linear(size: int, places: Pixels) -> np.ndarray:
    places = places.clip(0, size - 1)
    first = np.floor(places).astype(np.int64)
    share = (places - first)[:, None]
    unit = np.eye(size)
    return (1 - share) * unit[first] + share * unit[np.minimum(first + 1, size - 1)]


def _cubic(size: int, places: Pixels, a: float, inside_only: bool) -> np.ndarray:
    first = np.floor(places).astype(np.int64)
    s = places - first
    weights = [
        ((a * (s + 1) - 5 * a) * (s + 1) + 8 * a) * (s + 1) - 4 * a,
        ((a + 2) * s - (a + 3)) * s * s + 1,
        ((a + 2) * (1 - s) - (a + 3)) * (1 - s) ** 2 + 1,
        ((a * (2 - s) - 5 * a) * (2 - s) + 8 * a) * (2 - s) - 4 * a,
    ]
    matrix, rows = np.zeros((len(places), size)), np.arange(len(places))
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        pixel = first + offset
        counted = (pixel >= 0) & (pixel < size) if inside_only else np.ones(len(pixel), dtype=bool)
        np.add.at(matrix, (rows, pixel.clip(0, size - 1)), np.where(counted, weight, 0.0))
    return matrix / matrix.sum(1, keepdims=True) if inside_only else matrix


def each_axis(node: Node, x: Tensor, matrices: list[Tensor]) -> Tensor:
    """A matrix on each axis behind the channels."""
    if all(M.shape[0] == M.shape[1] and torch.equal(M, torch.eye(len(M), dtype=M.dtype)) for M in matrices):
        return x
    if len(matrices) not in (1, 2, 3):
        raise node.refused(
            f"on a signal of shape {tuple(x.shape)[1:]}, only one to three axes behind the channels can be read"
        )

    def compute(u: Tensor) -> Tensor:
        for place, matrix in enumerate(matrices, 2):
            u = torch.tensordot(u, matrix, dims=([place], [1])).movedim(-1, place)
        return u

    after = tuple(matrix.shape[0] for matrix in matrices)
    return node.runner.whole(x, compute, lambda shape: list(resampled(shape, (shape[0], *after), matrices)))


# --- pooling --------------------------------------------------------------------------------------


@operator("GlobalAveragePool")
def global_average(node: Node, x: Tensor) -> Tensor:
    """Means over all axes behind the channels."""
    return each_axis(node, x, [torch.full((1, size), 1 / size, dtype=torch.float64) for size in x.shape[2:]])


@operator("AveragePool")
def average(node: Node, x: Tensor) -> Tensor:
    """Means over windows, of what lies in the picture, or of its padding too."""
    windows = _windows(node, x)
    counted = bool(node.get("count_include_pad", 0))
    return each_axis(node, x, [window.means(counted) for window in windows])


@operator("MaxPool")
def largest(node: Node, x: Tensor) -> Tensor:
    """The largest number of each window."""
    windows = _windows(node, x)
    if len(node.proto.output) > 1 and node.proto.output[1]:
        raise node.refused("whose indices are used")
    if any(window.dilation > 1 and (window.before or window.after) for window in windows):
        raise node.refused("with dilations and pads")
    for place, window in enumerate(windows, 2):
        # the edge once more changes no largest number: each window that reaches over the edge holds it
        index = torch.arange(-window.before, window.last).clamp(0, window.size - 1)
        if not torch.equal(index, torch.arange(window.size)):
            x = x.index_select(place, index)
    kernel, stride, dilation = ([getattr(w, name) for w in windows] for name in ("kernel", "stride", "dilation"))
    return _POOLS[len(windows) - 1](x, kernel, stride, 0, dilation)


@dataclass(frozen=True)
class _Window:
    """Pooling along one axis of `size` numbers, with pads before and after."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    rounded_up: bool

    @property
    def reach(self) -> int:
        """From the first number of a window to behind its last one."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def out(self) -> int:
        """How many windows; a last one that begins behind the picture is none."""
        room = self.size + self.before + self.after - self.reach
        count = (ceil(room / self.stride) if self.rounded_up else room // self.stride) + 1
        return count - (self.rounded_up and (count - 1) * self.stride >= self.size + self.before)

    @property
    def last(self) -> int:
        """Behind the last number of the last window."""
        return (self.out - 1) * self.stride + self.reach - self.before

    def means(self, counted: bool) -> Tensor:
        """(out, size): the means; `counted`: pads are zeros that count."""
        matrix = torch.zeros(self.out, self.size, dtype=torch.float64)
        for row in range(self.out):
            first = row * self.stride - self.before
            places = range(first, first + self.reach, self.dilation)
            inside = [place for place in places if 0 <= place < self.size]
            count = sum(place < self.size + self.after for place in places) if counted else len(inside)
            matrix[row, inside] = 1 / count
        return matrix


def _windows(node: Node, x: Tensor) -> list[_Window]:
    sizes, kernel = list(x.shape[2:]), list(node.get("kernel_shape", []))
    axes = len(kernel)
    if axes not in (1, 2, 3) or axes != len(sizes):
        raise node.refused(f"with kernel_shape {kernel} on a signal of shape {tuple(x.shape)[1:]}")
    stride, dilation = list(node.get("strides", [1] * axes)), list(node.get("dilations", [1] * axes))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    needed = [max(0, (-(-n // s) - 1) * s + r - n) for n, s, r in zip(sizes, stride, reach, strict=True)]
    before, after = pads_of(node, needed, axes)
    up = bool(node.get("ceil_mode", 0))
    numbers = zip(sizes, kernel, stride, dilation, before, after, strict=True)
    return [_Window(size, k, s, d, first, last, up) for size, k, s, d, first, last in numbers]
