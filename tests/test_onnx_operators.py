"""Each operator of an ONNX file computes what onnxruntime computes, in every form that the specification knows.

Needs the package onnx and onnxruntime, which the extra `[test]` brings.
"""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from test_onnx import FLAT, PICTURE, W2, assert_agrees, helper, integers, node, normal, onnx, write

from cvxinv.generator.activations import GELU, Hardswish, LeakyReLU, Mish, SiLU, Softplus
from cvxinv.generator.reading.load import load_generator

SIGNAL, VOLUME, EVEN = ("N", 4, 9), ("N", 2, 4, 5, 3), ("N", 4, 6, 8)
I = integers
K2, K3 = normal(3, 4, 2, 2), normal(4, 3, 3, 4)  # kernels of a convolution, and of a transposed one
V2 = normal(8, 5)


def case(*nodes, shape: tuple = PICTURE, opset: int = 17, **constants) -> tuple:
    return list(nodes), {name: np.asarray(value) for name, value in constants.items()}, shape, opset


def conv(kind: str, W: np.ndarray, shape: tuple, **attributes) -> tuple:
    outputs = W.shape[0] if kind == "Conv" else W.shape[1]
    return case(node(kind, "x", "W", "b", **attributes), shape=shape, W=W, b=normal(outputs))


def hidden(*nodes, opset: int = 17, **constants) -> tuple:
    return case(node("Gemm", "x", "W"), *nodes, node("Gemm", "x", "V"), shape=FLAT, opset=opset, W=W2, V=V2, **constants)


def last(*nodes, opset: int = 17, **constants) -> tuple:
    return case(node("Gemm", "x", "W"), *nodes, shape=FLAT, opset=opset, W=W2, **constants)


def statistics(n: int) -> dict[str, np.ndarray]:
    return {"s": normal(n), "b": normal(n, seed=1), "m": normal(n, seed=2), "v": normal(n, seed=3) ** 2}


MOVES = {
    "slice": case(node("Slice", "x", "a", "b", "c", "d"), a=I(1, 4), b=I(3, -7), c=I(1, 3), d=I(1, -2)),
    "slice, as attributes": case(node("Slice", starts=[1, 1], ends=[3, 4], axes=[1, 3]), opset=9),
    "depth to space": case(node("DepthToSpace", blocksize=2)),
    "depth to space, columns first": case(node("DepthToSpace", blocksize=2, mode="CRD")),
    "space to depth": case(node("SpaceToDepth", blocksize=2), shape=EVEN),
    "tile": case(node("Tile", "x", "r"), r=I(1, 2, 1, 3)),
    "expand": case(node("Expand", "x", "s"), s=I(1, 4, 5, 6), shape=("N", 4, 1, 1)),
    "transpose": case(node("Transpose", perm=[0, 2, 3, 1])),
    "signals behind": case(node("Transpose", perm=[1, 2, 3, 0]), node("Relu"), node("Transpose", perm=[3, 0, 1, 2])),
    "gather": case(node("Gather", "x", "i", axis=2), i=I(3, 1, 1, 0)),
    "gather one": case(node("Gather", "x", "i", axis=1), i=np.array(2)),
    "flatten": case(node("Flatten", axis=1), node("Relu")),
    "pad, as attributes": case(node("Pad", pads=[0, 1, 1, 2, 0, 0, 2, 0], value=0.7), opset=9),
    "pad with a value": case(node("Pad", "x", "p", "v"), p=I(0, 1, 1, 2, 0, 0, 2, 0), v=np.float32(0.7)),
    "pad axes": case(node("Pad", "x", "p", "", "a", mode="reflect"), p=I(1, 2, 2, 1), a=I(3, 2), opset=18),
    "pad channels": case(node("Pad", "x", "p", mode="edge"), p=I(0, 1, 0, 0, 0, 2, 0, 0)),
    "pad from the other side": case(node("Pad", "x", "p", mode="wrap"), p=I(0, 0, 1, 2, 0, 0, 1, 2), opset=19),
    "pad numbers": case(
        node("Pad", "x", "p", "v"), node("Gemm", "x", "W"), shape=FLAT, p=I(0, 1, 0, 2), v=np.float32(-1), W=normal(9, 4)
    ),
    "constants in between": last(node("Where", "m", "x", "c"), m=np.arange(8) % 2 == 0, c=normal(8)),
}  # fmt: skip

MAPS = {
    "convolution of signals": conv("Conv", normal(3, 4, 3), SIGNAL, pads=[1, 2], strides=[2]),
    "convolution of volumes": conv("Conv", normal(3, 2, 3, 2, 3), VOLUME, auto_pad="SAME_LOWER", strides=[1, 2, 1]),
    "transposed, signals": conv("ConvTranspose", normal(4, 3, 3), SIGNAL, pads=[1, 0], strides=[2]),
    "transposed, signals, same": conv("ConvTranspose", normal(4, 3, 3), SIGNAL, auto_pad="SAME_UPPER", strides=[2]),
    "transposed, volumes": conv(
        "ConvTranspose", normal(2, 3, 3, 3, 3), VOLUME, pads=[1] * 6, strides=[2, 2, 2], output_padding=[1, 0, 1]
    ),
    "transposed, volumes, output shape": conv(
        "ConvTranspose", normal(2, 3, 3, 3, 3), VOLUME, strides=[2, 2, 2], output_shape=[8, 9, 7]
    ),
    "transposed, output shape, lower": conv(
        "ConvTranspose", K3, PICTURE, strides=[2, 2], output_shape=[9, 12], auto_pad="SAME_LOWER"
    ),
    "transposed, output padding beside uneven pads": conv(
        "ConvTranspose", K3, PICTURE, strides=[2, 2], pads=[0, 1, 1, 0], output_padding=[1, 1]
    ),
    "rows": case(
        node("MatMul", "x", "W"), node("Add", "x", "b"), node("Relu"), node("MatMul", "x", "V"),
        shape=("N", 4, 5), W=normal(5, 7), b=normal(7), V=normal(7, 3),
    ),
    "matmul from the left": case(node("MatMul", "W", "x"), shape=("N", 4, 5), W=normal(7, 4)),
    "matmul from the left of pictures": case(node("MatMul", "W", "x"), W=normal(7, 5)),
    "gemm, transA": case(
        node("Transpose", perm=[1, 0]), node("Gemm", "x", "W", "b", transA=1), shape=FLAT, W=W2, b=normal(8)
    ),
    "gemm from the left": case(
        node("Transpose", perm=[1, 0]), node("Gemm", "W", "x", "b", alpha=0.5), node("Transpose", perm=[1, 0]),
        shape=FLAT, W=normal(8, 6), b=normal(8, 1),
    ),
    "einsum": case(node("Einsum", "x", "W", equation="nc,cd->nd"), shape=FLAT, W=W2),
    "batch norm of numbers": last(node("BatchNormalization", "x", "s", "b", "m", "v"), **statistics(8)),
    "batch norm of volumes": case(node("BatchNormalization", "x", "s", "b", "m", "v"), shape=VOLUME, **statistics(2)),
    "mean over pixels": case(node("ReduceMean", axes=[2, 3], keepdims=0)),
    "mean over pixels, axes as input": case(node("ReduceMean", "x", "a"), a=I(2, 3), opset=18),
    "sum over channels": case(node("ReduceSum", "x", "a"), a=I(1)),
    "sum, mean, power": last(
        node("Sum", "x", "c", "c"), node("Pow", "x", "one"), node("Mean", "x", "c"), c=normal(8), one=np.float32(1)
    ),
    "to float64 and back": last(node("Cast", to=11), node("Cast", to=1)),
}  # fmt: skip

POOLS = {
    f"{words}, {'with' if counted else 'without'} padding": case(
        node("AveragePool", count_include_pad=counted, **attributes), shape=shape
    )
    for counted in (0, 1)
    for words, shape, attributes in (
        ("uneven", PICTURE, {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [0, 1, 1, 1]}),
        ("rounded up", ("N", 2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ("rounded up, at the edge", ("N", 2, 5, 7), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("signals", ("N", 3, 8), {"kernel_shape": [2], "strides": [2]}),
        ("volumes", VOLUME, {"kernel_shape": [2, 2, 2], "strides": [2, 1, 1]}),
    )
} | {
    "same": case(node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")),
    "dilated": case(node("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]), opset=19),
    "of everything": case(node("GlobalAveragePool"), node("Flatten")),
    "largest": case(node("Conv", "x", "W"), node("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), W=K2),
    "largest, uneven": case(
        node("Conv", "x", "W"), node("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]), W=K2
    ),
    "largest, rounded up": case(
        node("Conv", "x", "W"), node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), W=K2
    ),
    "largest of signals": case(
        node("Conv", "x", "W"), node("MaxPool", kernel_shape=[2], strides=[2], auto_pad="SAME_UPPER"),
        shape=SIGNAL, W=normal(3, 4, 2),
    ),
}  # fmt: skip

ACTIVATIONS = {
    f"{kind} {attributes or ''} {where.__name__}": where(node(kind, **attributes), opset=opset)
    for kind, attributes, opset in (
        ("Elu", {"alpha": 0.5}, 17), ("Selu", {}, 17), ("Selu", {"alpha": 1.2, "gamma": 0.8}, 17),
        ("Celu", {"alpha": 0.7}, 17), ("Softplus", {}, 17), ("Softsign", {}, 17), ("HardSigmoid", {}, 17),
        ("HardSigmoid", {"alpha": 1 / 6}, 17),
        ("HardSwish", {}, 17), ("Sigmoid", {}, 17), ("Tanh", {}, 17), ("LeakyRelu", {"alpha": 1.5}, 17),
        ("LeakyRelu", {"alpha": -0.5}, 17), ("ThresholdedRelu", {"alpha": 0.0}, 17), ("Mish", {}, 18), ("Gelu", {}, 20),
        ("Gelu", {"approximate": "tanh"}, 20),
    )
    for where in (hidden, last)
} | {
    "clip": hidden(node("Clip", "x", "l", "u"), l=np.float32(0), u=np.float32(6)),
    "clip, last": last(node("Clip", "x", "l", "u"), l=np.float32(-1), u=np.float32(1)),
    "clip, as attributes": case(node("MatMul", "x", "W"), node("Clip", min=-1.0, max=0.5), shape=FLAT, opset=9, W=W2),
    "clip from above": last(node("Clip", "x", "", "u"), u=np.float32(0.5)),
    "largest of it and 0": hidden(node("Max", "x", "zero"), zero=np.float32(0)),
    "largest of 0 and it": hidden(node("Max", "zero", "x"), zero=np.float32([0])),
    "between 0 and 1": last(node("Min", "x", "one"), node("Max", "zero", "x"), zero=np.float32(0), one=np.float32(1)),
    "prelu per channel": case(
        node("Conv", "x", "W"), node("PRelu", "x", "a"), node("Conv", "x", "V"),
        W=K2, a=normal(3, 1, 1), V=normal(2, 3, 2, 2),
    ),
    "prelu per number": hidden(node("PRelu", "x", "a"), a=normal(8)),
    "softmax": last(node("Softmax")),
    "softmax over channels": case(node("Conv", "x", "W"), node("Softmax", axis=1), W=K2),
    "softmax, old": last(node("Softmax", axis=1), opset=11),
    "softmax of groups": last(node("Reshape", "x", "s"), node("Softmax"), node("Flatten"), s=I(-1, 2, 4)),
    "softmax of pixels behind": case(node("Conv", "x", "W"), node("Transpose", perm=[0, 2, 3, 1]), node("Softmax"), W=K2),
    "rescaled": last(node("Tanh"), node("Mul", "x", "h"), node("Add", "x", "h"), h=np.float32(0.5)),
}  # fmt: skip

TABLE = MOVES | MAPS | {f"pool, {name}": pool for name, pool in POOLS.items()} | ACTIVATIONS


def written(form: tuple, folder: Path) -> tuple[Path, tuple[int, ...], int]:
    """The file of a form, the shape of one latent, and for how many it is tried."""
    nodes, constants, shape, opset = form
    copies = [type(part).FromString(part.SerializeToString()) for part in nodes]
    path = write(folder / "net.onnx", copies, constants, shape, opset=opset)
    return path, shape[1:], 1 if shape[0] == 1 else 3


@pytest.mark.parametrize("name", TABLE)
def test_operator_is_read(name: str, tmp_path: Path):
    assert_agrees(*written(TABLE[name], tmp_path))


# --- resizing -------------------------------------------------------------------------------------

MODES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
FACTORS = ((2, 3), (1.7, 0.6), (0.5, 2.5), (1.3, 1))


def resize(*inputs: str, shape: tuple = PICTURE, opset: int = 19, given: dict, **attributes) -> tuple:
    return case(node("Resize", "x", *inputs, **attributes), shape=shape, opset=opset, **given)


def by(*factors: float) -> dict[str, np.ndarray]:
    return {"s": np.float32([1, 1, *factors])}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
def test_resizing_is_onnxruntimes(kind: str, mode: str, tmp_path: Path):
    how = {"mode": kind, "coordinate_transformation_mode": mode}
    roundings = [{"nearest_mode": rounding} for rounding in ROUNDINGS] if kind == "nearest" else [{}]
    forms = [resize("", "s", given=by(*factors), **how, **other) for factors, other in product(FACTORS, roundings)]
    agreed = [assert_agrees(*written(form, tmp_path)) for form in forms]
    assert len(agreed) == 4 * len(roundings)


@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
def test_resizing_to_sizes_is_onnxruntimes(kind: str, tmp_path: Path):
    forms = []
    for mode, sizes in product(("half_pixel", "align_corners", "asymmetric"), ((9, 13), (3, 4))):
        how = {"mode": kind, "coordinate_transformation_mode": mode}
        forms += [
            resize("", "", "t", shape=(1, 4, 5, 6), given={"t": I(1, 4, *sizes)}, **how),
            resize("", "", "t", given={"t": I(*sizes)}, axes=[2, 3], **how),
        ]
    for policy in ("not_larger", "not_smaller"):
        forms += [resize("", "", "t", given={"t": I(9, 13)}, axes=[2, 3], mode=kind, keep_aspect_ratio_policy=policy)]
    crop = {"r": np.float32([0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2]), **by(2, 1.5)}
    forms += [resize("r", "s", given=crop, mode=kind, coordinate_transformation_mode="tf_crop_and_resize")]
    agreed = [assert_agrees(*written(form, tmp_path)) for form in forms]
    assert len(agreed) == 15


RESIZES = {
    "cubic of another number, inside only": resize(
        "", "s", given=by(2, 1.5), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1
    ),
    "signals, linear": resize("", "s", shape=SIGNAL, given=by(2), mode="linear"),
    "signals, nearest": resize("", "s", shape=SIGNAL, given=by(2), mode="nearest"),
    "volumes, linear": resize("", "s", shape=VOLUME, given=by(2, 2, 1.5), mode="linear"),
    "volumes, nearest": resize("", "s", shape=VOLUME, given=by(2, 2, 3), mode="nearest"),
    "channels behind, linear": resize("", "s", given={"s": np.float32([1, 2, 2, 1])}, mode="linear"),
    "channels behind, nearest": resize("", "s", given={"s": np.float32([1, 2, 2, 1])}, mode="nearest"),
    "as onnx once did, nearest": resize("s", opset=10, given=by(1.7, 0.6), mode="nearest"),
    "as onnx once did, linear": resize("s", opset=10, given=by(1.7, 0.6), mode="linear"),
    "upsample, linear": case(node("Upsample", "x", "s", mode="linear"), opset=9, **by(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", RESIZES)
def test_resizing_is_read(name: str, tmp_path: Path):
    assert_agrees(*written(RESIZES[name], tmp_path))


# --- activations in several nodes -----------------------------------------------------------------


def parts(*nodes: tuple[str, str, tuple[str, ...]], **constants: float) -> tuple:
    """Nodes `(operator, output, inputs)` between two matrices, on the value "x1"."""
    made = [helper.make_node(kind, inputs, [output]) for kind, output, inputs in nodes]
    return made, {name: np.float32(value) for name, value in constants.items()}


DECOMPOSED = {
    "gelu": (
        GELU(),
        parts(
            ("Div", "a", ("u", "root")), ("Erf", "b", ("a",)), ("Add", "c", ("b", "one")), ("Mul", "d", ("u", "c")),
            ("Mul", "end", ("d", "half")), root=2**0.5, one=1, half=0.5,
        ),
    ),
    "gelu by tanh": (
        GELU("tanh"),
        parts(
            ("Pow", "a", ("u", "three")), ("Mul", "b", ("a", "cube")), ("Add", "c", ("u", "b")), ("Mul", "d", ("c", "root")),
            ("Tanh", "e", ("d",)), ("Add", "f", ("one", "e")), ("Mul", "g", ("f", "u")), ("Mul", "end", ("g", "half")),
            three=3, cube=0.044715, root=(2 / np.pi) ** 0.5, one=1, half=0.5,
        ),
    ),
    "silu": (SiLU(), parts(("Sigmoid", "a", ("u",)), ("Mul", "end", ("a", "u")))),
    "mish": (Mish(), parts(("Softplus", "a", ("u",)), ("Tanh", "b", ("a",)), ("Mul", "end", ("u", "b")))),
    "softplus": (Softplus(), parts(("Exp", "a", ("u",)), ("Add", "b", ("a", "one")), ("Log", "end", ("b",)), one=1)),
    "hard swish": (
        Hardswish(),
        parts(
            ("Add", "a", ("u", "three")), ("Clip", "b", ("a", "zero", "six")), ("Mul", "c", ("u", "b")),
            ("Div", "end", ("c", "six")), three=3, zero=0, six=6,
        ),
    ),
    "leaky relu": (LeakyReLU(0.2), parts(("Mul", "a", ("u", "slope")), ("Max", "end", ("u", "a")), slope=0.2)),
    "prelu of Keras": (
        LeakyReLU(0.25),
        parts(
            ("Relu", "a", ("u",)), ("Neg", "b", ("u",)), ("Relu", "c", ("b",)), ("Mul", "d", ("c", "slope")),
            ("Sub", "end", ("a", "d")), slope=0.25,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECOMPOSED)
def test_activation_in_several_nodes_is_one(name: str, tmp_path: Path):
    activation, (nodes, constants) = DECOMPOSED[name]
    nodes = [type(part).FromString(part.SerializeToString()) for part in nodes]
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W"), node("Gemm", "x", "V")], {"W": W2, "V": V2}, FLAT)
    model = onnx.load(path)
    for part in nodes:
        for place, value in enumerate(part.input):
            part.input[place] = "x1" if value == "u" else value
    model.graph.node[1].input[0] = "end"
    for place, part in enumerate(nodes, 1):
        model.graph.node.insert(place, part)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in constants.items())
    onnx.save(model, path)
    G = assert_agrees(path, (6,))
    assert [layer.activation for layer in G.layers[:-1]] == [activation]


def test_group_that_is_no_activation_stays_a_branch(tmp_path: Path):
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W"), node("Tanh"), node("Mul", "x", "x1")], {"W": W2}, FLAT)
    with pytest.raises(TypeError, match=r"branch or skip connection at node n2 \(Mul\)"):
        load_generator(path)
