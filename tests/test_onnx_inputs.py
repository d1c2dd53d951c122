"""Inputs and outputs of ONNX files: which one is the latent, which ones are fixed, what need not be stated.

Needs the package onnx and onnxruntime, which the extra `[test]` brings.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_onnx import (
    FLAT,
    FLOAT,
    INT64,
    RTOL,
    W2,
    assert_agrees,
    helper,
    integers,
    node,
    normal,
    onnx,
    relative,
    runtime,
    write,
)

from cvxinv.errors import UnsupportedLayerError
from cvxinv.generator.chain import Generator
from cvxinv.generator.reading.load import load_generator

C = [0.5, -1.0]  # the condition of one signal


def beside(shape: tuple, kind: int = FLOAT, name: str = "c"):
    return helper.make_tensor_value_info(name, kind, shape)


def conditioned(folder: Path, batch: object = "N") -> Path:
    nodes = [node("Concat", "x", "c", axis=1), node("Gemm", "x", "W"), node("Tanh")]
    return write(folder / "net.onnx", nodes, {"W": normal(8, 5)}, (batch, 6), inputs=(beside((batch, 2)),))


def difference(G: Generator, path: Path, N: int, **others: np.ndarray) -> float:
    z = normal(N, 6)
    return relative(G(torch.from_numpy(z).double()), runtime(path, z, **others))


@pytest.mark.parametrize("batch", ["N", 3])
@pytest.mark.parametrize("given", [C, [C], np.array([C] * 3), torch.tensor(C)], ids=["list", "row", "array", "tensor"])
def test_second_float_input_is_fixed(given: object, batch: object, tmp_path: Path):
    path = conditioned(tmp_path, batch)
    G = load_generator(path, inputs={"c": given})
    assert difference(G, path, 3, c=np.float32([C] * 3)) < RTOL and G.latent_dim == 6


def test_scalar_and_integer_inputs_are_fixed(tmp_path: Path):
    nodes = [node("Gemm", "x", "W"), node("Mul", "x", "g"), node("Gather", "x", "i", axis=1)]
    inputs = (beside((), name="g"), beside((3,), INT64, "i"))
    path = write(tmp_path / "net.onnx", nodes, {"W": W2}, FLAT, inputs=inputs)
    G = load_generator(path, inputs={"g": 2.0, "i": [4, 0, 1]})
    assert difference(G, path, 3, g=np.array(2, np.float32), i=integers(4, 0, 1)) < RTOL and G.signal_dim == 3


def test_initialiser_that_is_an_input_is_a_weight(tmp_path: Path):
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W")], {"W": W2}, FLAT, inputs=(beside((6, 8), name="W"),))
    assert difference(load_generator(path), path, 3) < RTOL
    other = normal(6, 8, seed=4)
    assert difference(load_generator(path, inputs={"W": other}), path, 3, W=other) < RTOL


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({}, ValueError, r'z \(element type 1\), c \(element type 1\); fix the others with inputs=\{"c": array\}'),
        ({"inputs": {"d": C}}, ValueError, r"inputs named as those of .*net\.onnx, z, c, got 'd'"),
        ({"inputs": {"c": [1.0, 2, 3]}}, ValueError, r"inputs\['c'\] of .* of shape \(\?, 2\).*got \(3,\)"),
        ({"inputs": [1]}, TypeError, "expected inputs as a dict, got list"),
        ({"inputs": {"c": "word"}}, TypeError, r"expected numbers as inputs\['c'\]"),
        ({"inputs": {"c": C, "z": [0.0] * 6}}, ValueError, "one input left for the latent"),
        ({"inputs": {"c": C}, "label": 2}, ValueError, "expected no label"),
        ({"inputs": {"c": [np.nan, 2]}}, ValueError, r"finite numbers in input 1 at node n0 \(Concat\)"),
    ],
)
def test_wrong_inputs_are_named(options: dict, kind: type[Exception], message: str, tmp_path: Path):
    with pytest.raises(kind, match=message):
        load_generator(conditioned(tmp_path), **options)


@pytest.mark.parametrize(
    "shape", [("N", 5, 3), ("N", 2, 3, 4), ("N", 2, 3, 4, 2), ("N", 6), (1, 5, 3), (4, 5, 3), (2, 2, 3, 4)], ids=str
)
def test_latents_of_any_shape_are_read(shape: tuple, tmp_path: Path):
    nodes = [node("MatMul", "x", "W"), node("Relu")]
    path = write(tmp_path / "net.onnx", nodes, {"W": normal(int(shape[-1]), 4)}, shape)
    G = assert_agrees(path, shape[1:], N=shape[0] if isinstance(shape[0], int) else 3)
    assert G.latent_dim == np.prod(shape[1:]) and G.signal_shape == (*shape[1:-1], 4)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_number_of_signals_frozen_inside_an_open_graph_is_found(batch: int, tmp_path: Path):
    given = {"W": W2, "s": integers(batch, 2, 2, 2), "K": normal(1, 2, 1, 1)}
    path = write(
        tmp_path / "net.onnx", [node("Gemm", "x", "W"), node("Reshape", "x", "s"), node("Conv", "x", "K")], given, FLAT
    )
    G = load_generator(path)
    assert difference(G, path, batch) < RTOL and G.signal_shape == (1, 2, 2)


def test_shapes_that_are_not_stated_are_not_needed(tmp_path: Path):
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W")], {"W": W2}, FLAT)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    assert_agrees(path, (6,))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    assert_agrees(path, (6,), latent_dim=6)
    with pytest.raises(ValueError, match="the input z of shape that is not stated; pass latent_dim"):
        load_generator(path)


def test_float16_file_is_read(tmp_path: Path):
    weights = {"W": W2.astype(np.float16), "V": normal(8, 5).astype(np.float16)}
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W"), node("Relu"), node("Gemm", "x", "V")], weights, FLAT)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, path)
    G, z = load_generator(path), torch.from_numpy(normal(3, 6)).double()
    W, V = (torch.from_numpy(weights[name].astype(np.float64)) for name in "WV")
    assert relative(G(z), (z @ W).relu() @ V) < 1e-12  # both in float64, of the same weights


def test_quantised_weights_are_read(tmp_path: Path):
    given = {"q": np.arange(48, dtype=np.uint8).reshape(6, 8), "s": np.float32(0.1), "p": np.uint8(20)}
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W")], given, FLAT)
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "s", "p"], ["W"]))
    onnx.save(model, path)
    G, z = load_generator(path), torch.from_numpy(normal(3, 6)).double()
    W = torch.from_numpy((np.arange(48.0) - 20).reshape(6, 8)) * 0.1
    assert "compared with" in repr(G) and relative(G(z), z @ W) < RTOL  # the file's 0.1 is a float32


def test_signal_among_several_outputs_is_cut_out(tmp_path: Path):
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W"), node("Tanh")], {"W": W2}, FLAT)
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("x1", FLOAT, ["N", 8]))
    onnx.save(model, path)
    with pytest.raises(UnsupportedLayerError, match=r"got x2, x1 in .*onnx\.utils\.extract_model"):
        load_generator(path)
    onnx.utils.extract_model(str(path), str(tmp_path / "one.onnx"), ["z"], ["x2"])
    assert_agrees(tmp_path / "one.onnx", (6,))


@pytest.mark.parametrize("text", ["hello\n", '{"a": 1}', "ir_version: 8\n", ""])
def test_text_is_no_onnx_file(text: str, tmp_path: Path):
    path = tmp_path / "net.onnx"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"expected an ONNX file, got .*net\.onnx; the file is truncated, damaged or of another"
    ):
        load_generator(path)


def test_output_without_latent_is_named(tmp_path: Path):
    nodes = [node("Shape"), node("ConstantOfShape"), node("Gemm", "x", "W")]
    path = write(tmp_path / "net.onnx", nodes, {"W": W2}, FLAT)
    with pytest.raises(UnsupportedLayerError, match=r"expected an output that depends on the latent, got a constant in"):
        load_generator(path)
