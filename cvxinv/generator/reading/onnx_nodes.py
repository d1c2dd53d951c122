"""The nodes of an ONNX graph that a generator can hold, each appended to a chain.

Names of attributes and inputs, defaults and formulas are those of the operator specification,
https://onnx.ai/onnx/operators, in the operator sets from 9 on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UnsupportedLayerError
from ..activations import AbstractActivation, LeakyReLU, ReLU, Sigmoid, Tanh
from ..folding import Chain
from ..maps import Conv2d, ConvTranspose2d, Dense, Resampling2d

_PAD_MODES = {"constant": "zeros", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
_LARGE = 3e38  # some exports write "no upper end" as the largest float32
_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True)
class Signal:
    """What a node of the chain takes: its name, how many signals the graph counts, the version of the operators."""

    name: str
    batch: int
    opset: int


class Step:
    """One node, appended to a chain; `constants` are the values that do not depend on the latent."""

    def __init__(self, chain: Chain, node: Any, constants: dict[str, np.ndarray], signal: Signal, place: str):
        from onnx import helper

        self.chain, self.node, self.constants, self.signal, self.place = chain, node, constants, signal, place
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def append(self) -> None:
        """Append the node. Raises: UnsupportedLayerError, ValueError, naming the node."""
        kinds: dict[str, Callable[[], None]] = {
            "Gemm": self._gemm, "MatMul": self._matmul, "Add": self._add, "Sub": self._subtract, "Mul": self._multiply,
            "Div": self._divide, "Neg": lambda: self._affine(-torch.ones(self.chain.shape).double()),
            "Conv": self._convolution, "ConvTranspose": self._transposed, "BatchNormalization": self._batch_norm,
            "Relu": lambda: self._activation(ReLU()), "LeakyRelu": lambda: self._leaky(self._attribute("alpha", 0.01)),
            "PRelu": self._learned_leaky, "Clip": self._clip, "Tanh": lambda: self._activation(Tanh()),
            "Sigmoid": lambda: self._activation(Sigmoid()), "Reshape": self._reshape, "Flatten": self._flatten,
            "Squeeze": self._squeeze, "Unsqueeze": self._unsqueeze, "Transpose": self._transpose,
            "Identity": lambda: None, "Dropout": self._dropout, "Cast": self._cast, "Concat": self._concatenate,
            "Pad": self._pad, "Upsample": self._resize, "Resize": self._resize,
        }  # fmt: skip
        if self.node.op_type not in kinds:
            raise self._unsupported(f"which no map or activation can say; supported are {', '.join(sorted(kinds))}")
        kinds[self.node.op_type]()

    # --- linear maps ---

    def _gemm(self) -> None:
        if self._position() != 0 or self._attribute("transA", 0):
            raise self._unsupported("whose signal is transposed or not its first input")
        B = self._value(1, 2)
        self._dense(self._attribute("alpha", 1.0) * (B if self._attribute("transB", 0) else B.T))
        if self._has(2):
            self._affine(torch.ones(self.chain.shape).double(), self._attribute("beta", 1.0) * self._beside(2))

    def _matmul(self) -> None:
        if self._position() != 0:
            raise self._unsupported("whose signal is not its first input")
        self._dense(self._value(1, 2).T)

    def _dense(self, weight: Tensor) -> None:
        if len(self.chain.shape) != 1:
            raise self._unsupported(f"applied to each row of a signal of shape {self.chain.shape}")
        if weight.shape[1] != self.chain.shape[0]:
            raise self._wrong(f"a matrix for {self.chain.shape[0]} numbers", f"one for {weight.shape[1]}")
        W = Dense(weight.contiguous())
        self.chain.add_map(W, weight.new_zeros(W.m), (W.m,))

    def _add(self) -> None:
        self._affine(torch.ones(self.chain.shape).double(), self._beside(1 - self._position()))

    def _subtract(self) -> None:
        first = self._position() == 0
        other = self._beside(1 if first else 0)
        sign = torch.ones(self.chain.shape).double()
        self._affine(sign if first else -sign, -other if first else other)

    def _multiply(self) -> None:
        self._affine(self._beside(1 - self._position()))

    def _divide(self) -> None:
        if self._position() != 0:
            raise self._unsupported("which divides by the signal")
        self._affine(1 / self._beside(1))

    def _affine(self, scale: Tensor, shift: Tensor | None = None) -> None:
        shift = torch.zeros_like(scale) if shift is None else shift
        self.chain.add_diagonal(scale.reshape(-1), shift.reshape(-1))

    def _batch_norm(self) -> None:
        if self._attribute("training_mode", 0):
            raise self._wrong("a batch norm in inference mode", "training_mode=1 (export the model after .eval())")
        weight, bias, mean, var = (self._value(i, 1) for i in (1, 2, 3, 4))
        if weight.shape != self.chain.shape[:1]:
            raise self._wrong(f"a batch norm of {self.chain.shape[0]} channels", f"one of {weight.shape[0]}")
        scale = weight * (var + self._attribute("epsilon", 1e-5)).rsqrt()
        self.chain.add_diagonal(scale, bias - mean * scale)

    def _convolution(self) -> None:
        weight, groups = self._value(1, 4), self._attribute("group", 1)
        stride, dilation = self._pair("strides"), self._pair("dilations")
        sizes, before = self._extent(weight, dilation), self._picture()
        if weight.shape[1] * groups != before[0]:
            raise self._wrong(f"a weight for {before[0]} channels", f"{tuple(weight.shape)} with group={groups}")
        needed = [
            max(0, (-(-size // s) - 1) * s + k - size) for size, s, k in zip(before[1:], stride, sizes, strict=True)
        ]  # "same": as many outputs as strides fit into the input
        top, left, bottom, right = self._pads(needed)
        if (top, left) != (bottom, right):
            self._resampled(Resampling2d.padding(before, (left, right, top, bottom)))
            top, left = 0, 0
        try:
            W = Conv2d(weight, self._picture(), stride, (top, left), dilation, groups)
        except RuntimeError as error:
            raise self._wrong("strides, pads, ... that fit the weight", str(error).splitlines()[0]) from error
        self.chain.add_map(W, self._channel_bias(W.shape_out), W.shape_out)

    def _transposed(self) -> None:
        weight, groups = self._value(1, 4), self._attribute("group", 1)
        stride, dilation = self._pair("strides"), self._pair("dilations")
        extra, before = self._pair("output_padding", 0), self._picture()
        if weight.shape[0] != before[0]:
            raise self._wrong(f"a weight for {before[0]} channels", f"{tuple(weight.shape)}")
        kernel = self._extent(weight, dilation)
        full = [(n - 1) * s + k + e for n, s, k, e in zip(before[1:], stride, kernel, extra, strict=True)]
        same = [n * s for n, s in zip(before[1:], stride, strict=True)]
        asked = list(self._attribute("output_shape", []))[-2:]
        top, left, bottom, right = self._pads([f - o for f, o in zip(full, asked or same, strict=True)], asked != [])
        direct = (top, left) == (bottom, right) and min(top, left) >= 0
        try:
            W = ConvTranspose2d(weight, before, stride, (top, left) if direct else (0, 0), dilation, groups, extra)
        except RuntimeError as error:
            raise self._wrong("strides, pads, ... that fit the weight", str(error).splitlines()[0]) from error
        self.chain.add_map(W, self._channel_bias(W.shape_out), W.shape_out)
        if not direct:
            self._resampled(Resampling2d.padding(W.shape_out, (-left, -right, -top, -bottom)))

    def _extent(self, weight: Tensor, dilation: tuple[int, int]) -> list[int]:
        """Height and width that the kernel reaches over."""
        return [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]

    def _pads(self, needed: list[int], asked: bool = False) -> tuple[int, ...]:
        """(top, left, bottom, right), given or chosen automatically so that they sum to `needed`."""
        automatic = self._word("auto_pad", "NOTSET")
        if automatic == "VALID" and not asked:
            return 0, 0, 0, 0
        if automatic == "NOTSET" and not asked:
            return tuple(self._attribute("pads", [0, 0, 0, 0]))
        if min(needed) < 0:
            raise self._unsupported(f"with an output larger than its kernel reaches by {[-n for n in needed]}")
        smaller = [n // 2 for n in needed]
        larger = [n - n // 2 for n in needed]
        return (*smaller, *larger) if automatic == "SAME_UPPER" else (*larger, *smaller)

    def _channel_bias(self, shape: tuple[int, ...]) -> Tensor:
        if not self._has(2):
            return torch.zeros(prod(shape), dtype=torch.float64)
        bias = self._value(2, 1)
        if bias.shape[0] != shape[0]:
            raise self._wrong(f"a bias of {shape[0]} numbers", f"{bias.shape[0]}")
        return bias.repeat_interleave(prod(shape[1:]))

    # --- padding, upsampling, a label beside the signal ---

    def _pad(self) -> None:
        mode = self._word("mode", "constant")
        if mode not in _PAD_MODES:
            raise self._unsupported(f"with mode {mode!r}")
        axes = len(self.chain.shape) + 1
        pads = self._integers(1) if self._has(1) else list(self._attribute("pads", []))
        given = self._integers(3) if self._has(3) else list(range(axes))
        value = float(self._constant(2)) if self._has(2) else self._attribute("value", 0.0)
        if mode == "constant" and value != 0:
            raise self._unsupported(f"with value {value}, only padding with zeros can be read")
        before, after = ([0] * axes for _ in range(2))
        for place, axis in enumerate(given):
            before[axis], after[axis] = pads[place], pads[place + len(given)]
        if not any(before + after):
            return
        channels = self._picture()
        if any(before[:2] + after[:2]):
            raise self._unsupported("on other axes than height and width")
        sides = (before[3], after[3], before[2], after[2])
        self._resampled(Resampling2d.padding(channels, sides, _PAD_MODES[mode]))

    def _resize(self) -> None:
        if self._word("mode", "nearest") != "nearest":
            raise self._unsupported(f"with mode {self._word('mode', '')!r}, only 'nearest' can be read")
        if "axes" in self.attributes or self._word("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise self._unsupported("with axes or an aspect ratio to keep")
        before = self._picture()
        sizes_in = (self.signal.batch, *before)
        factors, sizes_out = self._scales(sizes_in)
        if factors[:2] != [1.0, 1.0]:
            raise self._unsupported("on other axes than height and width")
        rows, columns = (self._nearest(sizes_in[i], sizes_out[i], factors[i]) for i in (2, 3))
        self._resampled(Resampling2d.picking(before, rows, columns))

    def _scales(self, sizes_in: tuple[int, ...]) -> tuple[list[float], list[int]]:
        place = 1 if self.node.op_type == "Upsample" or self.signal.opset < 11 else 2
        if self._has(place) and self._constant(place).size:
            factors = [float(factor) for factor in self._constant(place)]
            return factors, [int(n * factor) for n, factor in zip(sizes_in, factors, strict=True)]
        sizes = self._integers(3)
        return [out / n for out, n in zip(sizes, sizes_in, strict=True)], sizes

    def _nearest(self, size: int, out: int, factor: float) -> Tensor:
        """The input pixel of each output pixel."""
        old = self.node.op_type == "Upsample" or self.signal.opset < 11
        mode = "asymmetric" if old else self._word("coordinate_transformation_mode", "half_pixel")
        rounding = "floor" if old else self._word("nearest_mode", "round_prefer_floor")
        x = np.arange(out, dtype=np.float64)
        places = {
            "asymmetric": x / factor,
            "half_pixel": (x + 0.5) / factor - 0.5,
            "pytorch_half_pixel": (x + 0.5) / factor - 0.5 if out > 1 else 0 * x,
            "align_corners": x * (size - 1) / max(out - 1, 1),
        }
        if mode not in places or rounding not in _ROUNDINGS:
            raise self._unsupported(f"with coordinates {mode!r} and rounding {rounding!r}")
        return torch.from_numpy(_ROUNDINGS[rounding](places[mode]).clip(0, size - 1).astype(np.int64))

    def _resampled(self, W: Resampling2d) -> None:
        self.chain.add_map(W, torch.zeros(W.m, dtype=W.dtype), W.shape_out)

    def _concatenate(self) -> None:
        axes, place = len(self.chain.shape) + 1, self._position()
        if self._attribute("axis", 1) % axes != 1:
            raise self._unsupported("along another axis than the second")
        empty = torch.zeros(0, *self.chain.shape[1:], dtype=torch.float64)
        sides = (range(place), range(place + 1, len(self.node.input)))
        before, after = (torch.cat([empty, *(self._same(self._value(i)) for i in side)]) for side in sides)
        self.chain.add_channels(before, after)

    # --- activations ---

    def _activation(self, activation: AbstractActivation) -> None:
        self.chain.add_activation(activation, self.place)

    def _leaky(self, slope: float) -> None:
        if not 0 <= slope < 1:
            raise self._unsupported(f"with slope {slope}, only slopes in [0, 1) can be read")
        # the file holds a float32, which prints as the number that was meant: 0.2, not 0.20000000298
        self._activation(ReLU() if slope == 0 else LeakyReLU(float(str(np.float32(slope)))))

    def _learned_leaky(self) -> None:
        slopes = self._value(1)
        if slopes.numel() == 0 or bool((slopes != slopes.reshape(-1)[0]).any()):
            raise self._unsupported("with different slopes")
        self._leaky(float(slopes.reshape(-1)[0]))

    def _clip(self) -> None:
        low, high = (
            float(self._constant(i)) if self._has(i) else float(self._attribute(name, end))
            for i, name, end in ((1, "min", -np.inf), (2, "max", np.inf))
        )
        if low != 0 or high < _LARGE:
            raise self._unsupported(f"to [{low}, {high}], only to [0, infinity), a ReLU, can be read")
        self._activation(ReLU())

    # --- shapes ---

    def _reshape(self) -> None:
        target, before = self._integers(1), (self.signal.batch, *self.chain.shape)
        if not self._attribute("allowzero", 0):
            target = [before[i] if size == 0 and i < len(before) else size for i, size in enumerate(target)]
        known = prod(size for size in target if size != -1)
        self._set_shape([prod(before) // known if size == -1 and known else size for size in target])

    def _flatten(self) -> None:
        axis = self._attribute("axis", 1)
        if axis % (len(self.chain.shape) + 1) != 1:
            raise self._unsupported(f"with axis={axis}, which mixes signals")
        self.chain.shape = (prod(self.chain.shape),)

    def _squeeze(self) -> None:
        before = [self.signal.batch, *self.chain.shape]
        axes = self._axes(len(before)) or [i for i, size in enumerate(before) if size == 1]
        if any(before[axis] != 1 for axis in axes):
            raise self._wrong("axes of size 1", f"{axes} of {before}")
        self._set_shape([0 if 0 in axes else before[0], *(n for i, n in enumerate(before) if i and i not in axes)])

    def _unsqueeze(self) -> None:
        before = [self.signal.batch, *self.chain.shape]
        given = self._axes(None)
        axes = sorted(axis % (len(before) + len(given)) for axis in given)
        for axis in axes:
            before.insert(axis, 1)
        self._set_shape([0, *before[1:]] if 0 in axes else before)

    def _transpose(self) -> None:
        before = [self.signal.batch, *self.chain.shape]
        order = list(self._attribute("perm", range(len(before))[::-1]))
        kept = [axis for axis in order if axis == 0 or before[axis] != 1]
        if kept != sorted(kept):
            raise self._unsupported(f"with perm={order}, which reorders the numbers of a signal of shape {before[1:]}")
        self._set_shape([before[axis] for axis in order])

    def _axes(self, count: int | None) -> list[int]:
        axes = self._integers(1) if self._has(1) else list(self._attribute("axes", []))
        return axes if count is None else [axis % count for axis in axes]

    def _set_shape(self, sizes: list[int]) -> None:
        if not sizes or sizes[0] != self.signal.batch or prod(sizes[1:]) != prod(self.chain.shape):
            raise self._unsupported(f"which gives the shape {sizes} for {self.signal.batch} signals and so mixes them")
        self.chain.shape = tuple(sizes[1:])

    def _dropout(self) -> None:
        if self._has(2) and bool(self._constant(2)):
            raise self._wrong("dropout in inference mode", "training_mode=1 (export the model after .eval())")

    def _cast(self) -> None:
        if self._attribute("to", 0) not in (1, 11):  # float32, float64
            raise self._unsupported("to another type than float32 or float64")

    # --- inputs and attributes ---

    def _position(self) -> int:
        return list(self.node.input).index(self.signal.name)

    def _has(self, place: int) -> bool:
        return len(self.node.input) > place and self.node.input[place] != ""

    def _constant(self, place: int) -> np.ndarray:
        if not self._has(place):
            raise self._wrong(f"an input {place}", "none")
        return self.constants[self.node.input[place]]

    def _value(self, place: int, axes: int | None = None) -> Tensor:
        """A floating input in float64."""
        array = self._constant(place)
        if array.dtype not in (np.float32, np.float64):
            raise self._wrong(f"input {place} in float32 or float64", f"{array.dtype} (export the model after .float())")
        if not np.isfinite(array).all():
            raise self._wrong(f"finite numbers in input {place}", "NaN or infinite ones")
        if axes not in (None, array.ndim):
            raise self._unsupported(f"with a weight of shape {array.shape}, only {axes} axes can be read")
        return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))  # a copy, which may be written to

    def _integers(self, place: int) -> list[int]:
        return [int(number) for number in self._constant(place).reshape(-1)]

    def _beside(self, place: int) -> Tensor:
        """A floating input as one number per entry of a signal, `shape` of the chain."""
        value, whole = self._value(place), (self.signal.batch, *self.chain.shape)
        try:
            return self._same(value.expand(whole))
        except RuntimeError as error:
            raise self._unsupported(f"on numbers of shape {tuple(value.shape)} and signals of shape {whole[1:]}") from error

    def _same(self, values: Tensor) -> Tensor:
        """One signal's part of values that are the same for every signal."""
        if len(values) != self.signal.batch or not torch.equal(values, values[:1].expand_as(values)):
            raise self._unsupported("on numbers that are not the same for every signal")
        return values[0]

    def _picture(self) -> tuple[int, int, int]:
        if len(self.chain.shape) != 3:
            raise self._unsupported(f"on a signal of shape {self.chain.shape}, not (channels, height, width)")
        channels, height, width = self.chain.shape
        return channels, height, width

    def _attribute(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)

    def _word(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def _pair(self, name: str, default: int = 1) -> tuple[int, int]:
        """Height and width of a picture's attribute."""
        values = tuple(self._attribute(name, (default, default)))
        if len(values) != 2:
            raise self._unsupported(f"with {name}={list(values)}, only pictures of two axes can be read")
        return values[0], values[1]

    def _unsupported(self, what: str) -> UnsupportedLayerError:
        return UnsupportedLayerError(
            f"expected a node that can be read, got {self.place} {what}; export the generator without it, or a part of it"
        )

    def _wrong(self, expected: str, got: str) -> ValueError:
        return ValueError(f"expected {expected} at {self.place}, got {got}; export the model again")
