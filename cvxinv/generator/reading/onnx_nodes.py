"""The nodes of an ONNX graph that a generator can hold, each said in ops.

Names of attributes and inputs, defaults and formulas are those of the operator specification,
https://onnx.ai/onnx/operators, in the operator sets from 9 on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UnsupportedLayerError
from .. import ops
from ..activations import AbstractActivation, LeakyReLU, ReLU, all_kinds
from ..maps import Resampling2d

_PAD_MODES = {"constant": "zeros", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
_EVALUATION_ERRORS = (
    NotImplementedError, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError,
)  # fmt: skip
_LARGE = 3e38  # some exports write "no upper end" as the largest float32
_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def evaluate(node: Any, constants: dict[str, np.ndarray], opset: int, place: str) -> list[Any]:
    """What a node makes of constants, by onnx's reference evaluator. Raises: UnsupportedLayerError."""
    from onnx.reference import ReferenceEvaluator

    axes = [axis for attribute in node.attribute if attribute.name == "axes" for axis in attribute.ints]
    if node.op_type == "Unsqueeze" and axes:  # onnx 1.23 fails on axes as an attribute, as before operator set 13
        return [np.expand_dims(constants[node.input[0]], axes)]
    try:
        feeds = {name: constants[name] for name in node.input if name}
        return list(ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds))
    except _EVALUATION_ERRORS as error:
        raise UnsupportedLayerError(
            f"expected constants that onnx's reference evaluator computes, got {type(error).__name__}: {error} at {place}; "
            "export with constant folding, or simplify the graph"
        ) from error


@dataclass(frozen=True)
class Signal:
    """What a node of the chain takes: its name and shape, how many of it the graph counts, the version of the operators."""

    name: str
    shape: ops.Shape
    batch: int
    opset: int


class Step:
    """One node; `constants` are the values that do not depend on the latent, `shape` is the signal's behind `ops`."""

    def __init__(self, node: Any, constants: dict[str, np.ndarray], signal: Signal, place: str):
        from onnx import helper

        self.node, self.constants, self.signal, self.place, self.shape = node, constants, signal, place, signal.shape
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.ops: list[ops.AbstractOp] = []

    def read(self) -> None:
        """Say the node in `ops`. Raises: UnsupportedLayerError, ValueError, naming the node."""
        plain = {word: kind for kind in all_kinds() if not kind.parameter_names for word in kind.onnx_ops}
        kinds: dict[str, Callable[[], None]] = {
            **{word: partial(self._activation, kind()) for word, kind in plain.items()},
            "Gemm": self._gemm, "MatMul": self._matmul, "Add": self._add, "Sub": self._subtract, "Mul": self._multiply,
            "Div": self._divide, "Neg": lambda: self._affine(-torch.ones(self.shape).double()),
            "Conv": self._convolution, "ConvTranspose": self._transposed, "BatchNormalization": self._batch_norm,
            "LeakyRelu": lambda: self._leaky(self._attribute("alpha", 0.01)), "PRelu": self._learned_leaky,
            "Clip": self._clip, "Dropout": self._dropout, "Cast": self._cast, "Concat": self._concatenate, "Pad": self._pad,
            "Upsample": self._resize, "Resize": self._resize, **dict.fromkeys(_RESHAPES, self._reshape),
        }  # fmt: skip
        if self.node.op_type not in kinds:
            raise self._unsupported(f"which no map or activation can say; supported are {', '.join(sorted(kinds))}")
        kinds[self.node.op_type]()

    def _emit(self, op: ops.AbstractOp) -> None:
        """Say one more op. Raises: ValueError where it does not fit the signal."""
        self.ops.append(op)
        try:
            self.shape = op.shape_after(self.shape)
        except ops.MisfitError as misfit:
            raise self._wrong(misfit.expected, misfit.got) from misfit

    # --- linear maps ---

    def _gemm(self) -> None:
        if self._position() != 0 or self._attribute("transA", 0):
            raise self._unsupported("whose signal is transposed or not its first input")
        B = self._value(1, 2)
        self._dense(self._attribute("alpha", 1.0) * (B if self._attribute("transB", 0) else B.T))
        if self._has(2):
            self._affine(torch.ones(self.shape).double(), self._attribute("beta", 1.0) * self._beside(2))

    def _matmul(self) -> None:
        if self._position() != 0:
            raise self._unsupported("whose signal is not its first input")
        self._dense(self._value(1, 2).T)

    def _dense(self, weight: Tensor) -> None:
        if len(self.shape) != 1:
            raise self._unsupported(f"applied to each row of a signal of shape {self.shape}")
        self._emit(ops.Linear(weight=weight.contiguous()))

    def _add(self) -> None:
        self._affine(torch.ones(self.shape).double(), self._beside(1 - self._position()))

    def _subtract(self) -> None:
        first = self._position() == 0
        other = self._beside(1 if first else 0)
        sign = torch.ones(self.shape).double()
        self._affine(sign if first else -sign, -other if first else other)

    def _multiply(self) -> None:
        self._affine(self._beside(1 - self._position()))

    def _divide(self) -> None:
        if self._position() != 0:
            raise self._unsupported("which divides by the signal")
        self._affine(1 / self._beside(1))

    def _affine(self, scale: Tensor, shift: Tensor | None = None) -> None:
        shift = torch.zeros_like(scale) if shift is None else shift
        self._emit(ops.Diagonal(scale=scale.reshape(-1), shift=shift.reshape(-1)))

    def _batch_norm(self) -> None:
        if self._attribute("training_mode", 0):
            raise self._wrong("a batch norm in inference mode", "training_mode=1 (export the model after .eval())")
        weight, bias, mean, var = (self._value(i, 1) for i in (1, 2, 3, 4))
        eps = self._attribute("epsilon", 1e-5)
        self._emit(ops.BatchNorm(running_mean=mean, running_var=var, weight=weight, bias=bias, eps=eps))

    def _convolution(self) -> None:
        kernel, before = self._kernel(), self._picture()
        # "same": as many outputs as strides fit into the input
        sizes = zip(before[1:], kernel["stride"], self._extent(kernel), strict=True)
        needed = [max(0, (-(-size // s) - 1) * s + k - size) for size, s, k in sizes]
        top, left, bottom, right = self._pads(needed)
        if (top, left) != (bottom, right):
            self._pad_by(left, right, top, bottom)
            top, left = 0, 0
        self._emit(ops.Convolution(**kernel, padding=(top, left)))

    def _transposed(self) -> None:
        kernel, before, extra = self._kernel(), self._picture(), self._pair("output_padding", 0)
        stride, sizes = kernel["stride"], self._extent(kernel)
        full = [(n - 1) * s + k + e for n, s, k, e in zip(before[1:], stride, sizes, extra, strict=True)]
        same = [n * s for n, s in zip(before[1:], stride, strict=True)]
        asked = list(self._attribute("output_shape", []))[-2:]
        top, left, bottom, right = self._pads([f - o for f, o in zip(full, asked or same, strict=True)], asked != [])
        direct = (top, left) == (bottom, right) and min(top, left) >= 0
        padding = (top, left) if direct else (0, 0)
        self._emit(ops.TransposedConvolution(**kernel, padding=padding, output_padding=extra))
        if not direct:
            self._pad_by(-left, -right, -top, -bottom)

    def _kernel(self) -> dict[str, Any]:
        """What both convolutions say of themselves in the same words."""
        bias = self._value(2, 1) if self._has(2) else None
        place = {"stride": self._pair("strides"), "dilation": self._pair("dilations"), "groups": self._attribute("group", 1)}
        return {"weight": self._value(1, 4), "bias": bias, **place}

    def _extent(self, kernel: dict[str, Any]) -> list[int]:
        """Height and width that the kernel reaches over."""
        return [d * (k - 1) + 1 for d, k in zip(kernel["dilation"], kernel["weight"].shape[2:], strict=True)]

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

    # --- padding, upsampling, a label beside the signal ---

    def _pad(self) -> None:
        mode = self._word("mode", "constant")
        if mode not in _PAD_MODES:
            raise self._unsupported(f"with mode {mode!r}")
        axes = len(self.shape) + 1
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
        self._picture()
        if any(before[:2] + after[:2]):
            raise self._unsupported("on other axes than height and width")
        self._pad_by(before[3], after[3], before[2], after[2], _PAD_MODES[mode])

    def _pad_by(self, left: int, right: int, top: int, bottom: int, mode: str = "zeros") -> None:
        self._resampled(Resampling2d.padding(self._picture(), (left, right, top, bottom), mode))

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
        self._emit(ops.Resampling.of(W))

    def _concatenate(self) -> None:
        axes, place = len(self.shape) + 1, self._position()
        if self._attribute("axis", 1) % axes != 1:
            raise self._unsupported("along another axis than the second")
        empty = torch.zeros(0, *self.shape[1:], dtype=torch.float64)
        sides = (range(place), range(place + 1, len(self.node.input)))
        before, after = (torch.cat([empty, *(self._same(self._value(i)) for i in side)]) for side in sides)
        self._emit(ops.Channels(before=before, after=after))

    # --- activations ---

    def _activation(self, activation: AbstractActivation) -> None:
        self._emit(ops.Activation(activation))

    def _leaky(self, slope: float) -> None:
        if not 0 <= slope < 1:
            raise self._unsupported(f"with slope {slope}, only slopes in [0, 1) can be read")
        # the file holds a float32, which prints as the number that was meant: 0.2, not 0.20000000298
        self._activation(LeakyReLU.of(float(str(np.float32(slope)))))

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
        """What the node does to numbered signals says the new shape, and whether each keeps its numbers in their order."""
        batch = self.signal.batch
        before = np.arange(batch * prod(self.shape)).reshape(batch, *self.shape)
        try:
            (after,) = evaluate(self.node, {**self.constants, self.signal.name: before}, self.signal.opset, self.place)
        except UnsupportedLayerError as error:
            raise self._unsupported(f"which mixes signals of shape {self.shape}, or cannot be computed") from error
        if after.shape[:1] != (batch,) or not np.array_equal(after.reshape(batch, -1), before.reshape(batch, -1)):
            raise self._unsupported(f"which mixes signals or reorders the numbers of one: {before.shape} to {after.shape}")
        self._emit(ops.Reshape(shape=after.shape[1:]))

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
        value, whole = self._value(place), (self.signal.batch, *self.shape)
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
        if len(self.shape) != 3:
            raise self._unsupported(f"on a signal of shape {self.shape}, not (channels, height, width)")
        return self.shape

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
