"""Generators as converters of Keras write them: channels behind, transposes around convolutions, sizes computed from shapes.

Written by hand after what tf2onnx and keras.export write. Needs the package onnx and onnxruntime.
"""

from pathlib import Path

import numpy as np
import pytest
from test_onnx import assert_agrees, helper, integers, node, normal, onnx, write

from cvxinv.generator.activations import Tanh
from cvxinv.generator.chain import Generator

TO_CHANNELS, BACK = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
LATENT = ("N", 6)


def dense(width: int, given: dict, *, inputs: int = 6) -> list:
    """A Dense layer: MatMul and Add."""
    number = len(given)
    given |= {f"W{number}": normal(inputs, width, seed=number) / inputs**0.5, f"b{number}": normal(width, seed=number + 1)}
    return [node("MatMul", "x", f"W{number}"), node("Add", "x", f"b{number}")]


def reshaped(given: dict, *shape: int) -> list:
    given["to"] = integers(-1, *shape)
    return [node("Reshape", "x", "to")]


def convolved(kind: str, given: dict, *, between: tuple = (), **attributes) -> list:
    """A layer on pictures whose channels are behind: it stands between two transposes."""
    return [node("Transpose", **TO_CHANNELS), node(kind, "x", *between, **attributes), node("Transpose", **BACK)]


def transposed_layers() -> tuple[list, dict]:
    given: dict[str, np.ndarray] = {"K": normal(3, 4, 4, 4), "k": normal(4), "L": normal(4, 2, 4, 4)}
    given |= {"scale": normal(1, 1, 1, 4), "shift": normal(1, 1, 1, 4, seed=7)}
    return [
        *dense(27, given), node("LeakyRelu", alpha=0.3), *reshaped(given, 3, 3, 3),
        *convolved("ConvTranspose", given, between=("K", "k"), strides=[2, 2], auto_pad="SAME_UPPER", output_shape=[6, 6]),
        node("Mul", "x", "scale"), node("Add", "x", "shift"), node("Relu"),
        *convolved("ConvTranspose", given, between=("L",), strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Tanh"),
    ], given  # fmt: skip


def upsampling() -> tuple[list, dict]:
    given: dict[str, np.ndarray] = {"s": np.float32([1, 1, 2, 2]), "K": normal(4, 3, 3, 3), "L": normal(1, 4, 3, 3)}
    given |= {"k": normal(4), "l": normal(1), "half": np.float32(0.5)}
    how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
    return [
        *dense(27, given), node("Relu"), *reshaped(given, 3, 3, 3), node("Transpose", **TO_CHANNELS),
        node("Resize", "x", "", "s", **how), node("Conv", "x", "K", "k", auto_pad="SAME_UPPER"), node("Relu"),
        node("Resize", "x", "", "s", mode="linear"), node("Conv", "x", "L", "l", auto_pad="SAME_UPPER"),
        node("Transpose", **BACK), node("Sigmoid"), node("Sub", "x", "half"), node("Div", "x", "half"),
    ], given  # fmt: skip


def cropped() -> tuple[list, dict]:
    given: dict[str, np.ndarray] = {
        "K": normal(4, 3, 3, 3),
        "first": integers(1, 0),
        "last": integers(-1, 5),
        "axes": integers(1, 2),
    }
    given |= {"p": integers(0, 2, 1, 0, 0, 1, 1, 0)}
    return [
        *dense(48, given), node("Elu"), *reshaped(given, 4, 4, 3), node("Pad", "x", "p"),
        *convolved("Conv", given, between=("K",), strides=[1, 1], pads=[1, 1, 1, 1]),
        node("Slice", "x", "first", "last", "axes"), node("Softmax", axis=-1),
    ], given  # fmt: skip


NETS = {"transposed": transposed_layers, "upsampling": upsampling, "cropped": cropped}


@pytest.mark.parametrize("name", NETS)
def test_generator_of_keras_is_read(name: str, tmp_path: Path):
    nodes, given = NETS[name]()
    G = assert_agrees(write(tmp_path / "net.onnx", nodes, given, LATENT, opset=15), (6,))
    channels = {"transposed": 2, "upsampling": 1, "cropped": 4}[name]
    assert G.signal_shape[-1] == channels and len(G.signal_shape) == 3  # as the file says: channels behind


def test_shapes_that_are_computed_are_read(tmp_path: Path):
    # Reshape((2, 2, 3)) of a dense layer, its first size taken from the input's shape; sizes of a Resize likewise
    given = {"one": integers(1), "zero": integers(0), "rest": integers(2, 2, 3), "two": integers(2), "four": integers(4)}
    nodes = [
        *dense(12, given),
        node("Reshape", "x", "shape"),
        node("Transpose", **TO_CHANNELS),
        node("Resize", "x", "", "", "t"),
    ]
    path = write(tmp_path / "net.onnx", nodes, given, LATENT, opset=15)
    model = onnx.load(path)
    computed = [
        helper.make_node("Shape", ["x2"], ["all"]),
        helper.make_node("Slice", ["all", "zero", "one"], ["N"]),
        helper.make_node("Concat", ["N", "rest"], ["shape"], axis=0),
        helper.make_node("Shape", ["x4"], ["pictures"]),
        helper.make_node("Slice", ["pictures", "zero", "two"], ["same"]),
        helper.make_node("Slice", ["pictures", "two", "four"], ["sizes"]),
        helper.make_node("Mul", ["sizes", "two"], ["doubled"]),
        helper.make_node("Concat", ["same", "doubled"], ["t"], axis=0),
    ]
    for place, part in zip((2, 3, 4, 7, 8, 9, 10, 11), computed, strict=True):
        model.graph.node.insert(place, part)
    onnx.save(model, path)
    assert assert_agrees(path, (6,)).signal_shape == (3, 4, 4)


def test_layers_of_a_keras_generator_are_few(tmp_path: Path):
    nodes, given = transposed_layers()
    G: Generator = assert_agrees(write(tmp_path / "net.onnx", nodes, given, LATENT, opset=15), (6,))
    assert len(G.layers) == 3 and G.layers[-1].activation == Tanh()
