"""What is read from an ONNX file computes what onnxruntime computes; what cannot be read is named.

Needs `pip install onnx` and onnxruntime, which the extra `[test]` brings.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer.testing import CliRunner

from cvxinv.command import cli
from cvxinv.errors import BackendNotInstalledError, CvxinvWarning, UnsupportedLayerError
from cvxinv.generator.activations import LeakyReLU, ReLU, Sigmoid, Tanh
from cvxinv.generator.chain import Generator
from cvxinv.generator.maps import ConvTranspose2d, Dense
from cvxinv.generator.reading.load import load_generator
from cvxinv.generator.reading.onnx_operators import OPERATORS
from cvxinv.generator.reading.pair import save_generator

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")
helper, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

RTOL = 1e-5  # float32 roundings of onnxruntime


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def integers(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def runtime(path: Path, z: np.ndarray, **others: np.ndarray) -> Tensor:
    """onnxruntime's signals `(N, d)` in float64."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: z, **others})[0]).double().flatten(1)


def node(kind: str, *inputs: str, **attributes) -> onnx.NodeProto:
    """A node that takes the output of the node before as "x", and gives the next "x"; `write` numbers them."""
    return helper.make_node(kind, inputs or ("x",), ["x"], **attributes)


def write(
    path: Path, nodes: list, constants: dict[str, np.ndarray], shape: tuple, *, opset: int = 17, inputs: tuple = ()
) -> Path:
    """A model of the input "z" of `shape`, its first axis a number, a name or None, and the chain of `nodes`."""
    for number, part in enumerate(nodes):
        taken = [f"x{number}" if name == "x" else name for name in part.input]
        del part.input[:]
        part.input.extend("z" if name == "x0" else name for name in taken)
        part.output[0] = f"x{number + 1}"
        part.name = part.name or f"n{number}"
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info("z", FLOAT, shape), *inputs],
        [helper.make_tensor_value_info(f"x{len(nodes)}", FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    # the format asks for the output's shape: what can be inferred, else two axes of any size
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0]
    known = inferred.type.tensor_type.HasField("shape")
    model.graph.output[0].CopyFrom(inferred if known else helper.make_tensor_value_info(inferred.name, FLOAT, ["N", "d"]))
    onnx.save(model, path)
    return path


def assert_agrees(path: Path, shape: tuple[int, ...], N: int = 5, **options) -> Generator:
    """The generator read agrees with onnxruntime on latents that the reader did not see, and says that it was compared."""
    G = load_generator(path, **options)
    assert "compared with onnxruntime" in repr(G) and G.description["name"] == path.stem
    z = normal(N, *shape, seed=9)
    assert relative(G(torch.from_numpy(z).double().flatten(1)), runtime(path, z)) < RTOL
    return G


# --- exported modules -----------------------------------------------------------------------------


def settled(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.1, 1)
    return module.eval()


def export(module: nn.Module, example: object, path: Path, opset: int = 17, batch: bool = True, **options) -> Path:
    dynamic = {"z": {0: "N"}, "label": {0: "N"}} if isinstance(example, tuple) else {"z": {0: "N"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on its own exporter
        torch.onnx.export(
            module, example, str(path), dynamo=False, opset_version=opset, input_names=list(dynamic),
            dynamic_axes=dynamic if batch else None, **options,
        )  # fmt: skip
    return path


def dense() -> nn.Module:
    return settled(
        nn.Sequential(
            nn.Linear(5, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 9, bias=False), nn.BatchNorm1d(9), nn.Tanh()
        )
    )


def dcgan() -> nn.Module:
    return settled(
        nn.Sequential(
            nn.ConvTranspose2d(5, 4, 4, 1, 0, bias=False), nn.BatchNorm2d(4), nn.ReLU(True),
            nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), nn.BatchNorm2d(3), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(3, 1, 4, 2, 1), nn.Sigmoid(),
        )
    )  # fmt: skip


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.conv, self.out = (
            nn.Linear(4, 24),
            nn.Conv2d(6, 3, 3, padding=1, padding_mode="replicate"),
            nn.Conv2d(3, 1, 3),
        )

    def forward(self, z):
        h = F.relu(self.fc(z)).view(z.size(0), 6, 2, 2)
        h = F.relu(self.conv(F.interpolate(h, scale_factor=2)))
        return torch.sigmoid(self.out(F.pad(F.interpolate(h, size=(8, 12)), (1, 2, 0, 1)))).flatten(1)


class Conditional(nn.Module):
    def __init__(self, factor: bool = False):
        super().__init__()
        self.embedding, self.factor = nn.Embedding(10, 4), factor
        self.net = nn.Sequential(nn.Linear(4 if factor else 8, 12), nn.ReLU(), nn.Linear(12, 7))

    def forward(self, z, label):
        e = self.embedding(label)
        return self.net(z * e if self.factor else torch.cat((z, e), 1))


EXPORTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (5,)),
    "dcgan": (dcgan, (5, 1, 1)),
    "decoder": (lambda: settled(Decoder()), (4,)),
}


# torch itself cannot export upsampling to a size in operator set 9
VERSIONS = [(name, opset) for name in EXPORTED for opset in (9, 11, 13, 17) if (name, opset) != ("decoder", 9)]


@pytest.mark.parametrize(("name", "opset"), VERSIONS)
def test_exported_module_is_read(name: str, opset: int, tmp_path: Path):
    build, shape = EXPORTED[name]
    module = build()
    path = export(module, torch.zeros(2, *shape), tmp_path / "net.onnx", opset)
    G = assert_agrees(path, shape)
    z = torch.from_numpy(normal(5, *shape)).double()
    with torch.no_grad():
        assert relative(G(z.flatten(1)), module.double()(z).flatten(1)) < RTOL
    assert G.dtype == torch.float64 and load_generator(path, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("batch", [1, 3, 40])
@pytest.mark.parametrize("name", EXPORTED)
def test_number_of_signals_that_an_export_froze_is_no_size(name: str, batch: int, tmp_path: Path):
    build, shape = EXPORTED[name]
    path = export(build(), torch.zeros(batch, *shape), tmp_path / "net.onnx", batch=False)
    G = assert_agrees(path, shape, N=batch)
    assert G.latent_dim == shape[0] and G(torch.zeros(4, shape[0]).double()).shape == (4, G.signal_dim)


def test_unfused_batch_norm_is_folded(tmp_path: Path):
    train = torch.onnx.TrainingMode.PRESERVE  # else the exporter fuses it with the convolution
    path = export(dcgan(), torch.zeros(2, 5, 1, 1), tmp_path / "net.onnx", training=train, do_constant_folding=False)
    assert "BatchNormalization" in [part.op_type for part in onnx.load(path).graph.node]
    G = assert_agrees(path, (5, 1, 1))
    assert [type(layer.W) for layer in G.layers] == [ConvTranspose2d] * 3
    assert G.signal_shape == (1, 16, 16)


def test_saved_onnx_generator_comes_back(tmp_path: Path):
    G = load_generator(export(settled(Decoder()), torch.zeros(2, 4), tmp_path / "net.onnx"))
    save_generator(G, tmp_path / "again")
    back = load_generator(tmp_path / "again")
    z = torch.from_numpy(normal(3, 4)).double()
    assert torch.equal(back(z), G(z)) and back.description["conversion_check"] == G.description["conversion_check"]


@pytest.mark.parametrize("factor", [False, True])
def test_label_of_an_onnx_file_is_folded_in(factor: bool, tmp_path: Path):
    module = settled(Conditional(factor))
    path = export(module, (torch.zeros(2, 4), torch.tensor([1, 2])), tmp_path / "net.onnx")
    z = normal(5, 4)
    for label in (0, 9):
        G = load_generator(path, label=label)
        assert relative(G(torch.from_numpy(z).double()), runtime(path, z, label=integers(*[label] * 5))) < RTOL
        assert isinstance(G.layers[0].W, Dense) and G.latent_dim == 4 and G.description["label"] == label
    for label, message in ((None, "pass label=0 ... label=9"), (10, "10 classes, got 10")):
        with pytest.raises(ValueError, match=message):
            load_generator(path, label=label)


def test_label_of_an_onnx_file_without_labels_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="expected no label"):
        load_generator(export(dense(), torch.zeros(2, 5), tmp_path / "net.onnx"), label=1)


# --- one graph for each thing a node may say --------------------------------------------------------

FLAT, PICTURE = ("N", 6), ("N", 4, 5, 6)
W2, W3, W4 = normal(6, 8), normal(4, 3, 3, 2), normal(4, 2, 3, 4)  # 6 to 8 numbers; kernels
RESIZE = {"mode": "nearest"}


def conv(**attributes) -> tuple[list, dict, tuple]:
    groups = attributes.get("group", 1)
    return [node("Conv", "x", "W", "b", **attributes)], {"W": normal(6, 4 // groups, 3, 2), "b": normal(6)}, PICTURE


def transposed(**attributes) -> tuple[list, dict, tuple]:
    groups = attributes.get("group", 1)
    return [node("ConvTranspose", "x", "W", "b", **attributes)], {"W": W3, "b": normal(3 * groups)}, PICTURE


def resize(scales: tuple, **attributes) -> tuple[list, dict, tuple]:
    return [node("Resize", "x", "", "s", **RESIZE, **attributes)], {"s": np.array(scales, np.float32)}, PICTURE


def padded(mode: str, *pads: int) -> tuple[list, dict, tuple]:
    return [node("Pad", "x", "p", mode=mode)], {"p": integers(*pads)}, PICTURE


GRAPHS: dict[str, Callable[[], tuple[list, dict, tuple]]] = {
    "gemm": lambda: ([node("Gemm", "x", "W", "b", alpha=0.5, beta=-2.0)], {"W": W2, "b": normal(8)}, FLAT),
    "gemm, transB": lambda: ([node("Gemm", "x", "W", transB=1)], {"W": W2.T.copy()}, FLAT),
    "gemm, one number as bias": lambda: ([node("Gemm", "x", "W", "b")], {"W": W2, "b": normal(1)}, FLAT),
    "matmul and add": lambda: ([node("MatMul", "x", "W"), node("Add", "b", "x")], {"W": W2, "b": normal(1, 8)}, FLAT),
    "arithmetic": lambda: (
        [node("Sub", "x", "a"), node("Mul", "a", "x"), node("Sub", "b", "x"), node("Div", "x", "b"), node("Neg")],
        {"a": normal(6), "b": normal(1, 6)},
        FLAT,
    ),
    "arithmetic per channel": lambda: (
        [node("Mul", "x", "a"), node("Conv", "x", "W"), node("Add", "x", "b")],
        {"a": normal(1, 4, 1, 1), "W": normal(2, 4, 3, 3), "b": normal(2, 1, 1)},
        PICTURE,
    ),
    "weights made of constants": lambda: (
        [node("Gemm", "x", "V")],
        {"W": W2.T.copy()},
        FLAT,
    ),
    "convolution, uneven pads": lambda: conv(pads=[1, 0, 2, 3]),
    "convolution, strides and dilations": lambda: conv(pads=[1, 2, 1, 2], strides=[2, 1], dilations=[2, 3]),
    "convolution, groups": lambda: conv(group=2),
    "convolution, same upper": lambda: conv(auto_pad="SAME_UPPER", strides=[2, 1]),
    "convolution, same lower": lambda: conv(auto_pad="SAME_LOWER"),
    "convolution, valid": lambda: conv(auto_pad="VALID", strides=[3, 2]),
    "transposed, groups": lambda: transposed(group=2, strides=[2, 2], pads=[1, 0, 1, 0]),
    "transposed, dilations, output padding": lambda: transposed(
        strides=[2, 3], dilations=[2, 1], output_padding=[1, 2], pads=[1, 1, 1, 1]
    ),
    "transposed, uneven pads": lambda: transposed(strides=[2, 2], pads=[1, 0, 0, 2]),
    "transposed, output shape": lambda: transposed(strides=[2, 2], output_shape=[10, 11]),
    "transposed, same upper": lambda: transposed(strides=[2, 2], auto_pad="SAME_UPPER"),
    "transposed, same lower": lambda: transposed(strides=[2, 1], auto_pad="SAME_LOWER"),
    "transposed, valid": lambda: transposed(auto_pad="VALID"),
    "batch norm": lambda: (
        [node("BatchNormalization", "x", "s", "b", "m", "v", epsilon=0.01)],
        {"s": normal(4), "b": normal(4, seed=1), "m": normal(4, seed=2), "v": normal(4, seed=3) ** 2},
        PICTURE,
    ),
    "activations": lambda: (
        [
            node("Gemm", "x", "W"),
            node("LeakyRelu"),
            node("Gemm", "x", "V"),
            node("PRelu", "x", "a"),
            node("Gemm", "x", "W"),
            node("Clip", "x", "l"),
            node("Gemm", "x", "V"),
            node("Sigmoid"),
        ],
        {"W": W2, "V": normal(8, 6), "a": np.float32([0.25]), "l": np.float32(0)},
        FLAT,
    ),
    "shapes": lambda: (
        [
            node("Unsqueeze", "x", "two"),
            node("Squeeze", "x", "two"),
            node("Reshape", "x", "s"),
            node("Conv", "x", "W"),
            node("Flatten"),
            node("Dropout"),
            node("Identity"),
            node("Cast", to=FLOAT),
            node("Reshape", "x", "t"),
            node("Transpose", perm=[0, 3, 1, 2]),
            node("Squeeze"),
        ],
        {"two": integers(2), "s": integers(0, 2, 3, 1), "W": normal(1, 2, 2, 1), "t": integers(-1, 2, 1, 1)},
        FLAT,
    ),
    "pad with zeros": lambda: padded("constant", 0, 0, 1, 2, 0, 0, 0, 3),
    "pad with edges": lambda: padded("edge", 0, 0, 1, 2, 0, 0, 5, 0),
    "pad with reflections": lambda: padded("reflect", 0, 0, 1, 2, 0, 0, 0, 3),
    "crop": lambda: padded("constant", 0, 0, -1, 2, 0, 0, 0, -3),
    "pad nothing": lambda: ([node("Pad", "x", "p"), node("Gemm", "x", "W")], {"p": integers(0, 0, 0, 0), "W": W2}, FLAT),
    "resize as torch": lambda: resize((1, 1, 2, 3), coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "resize by default": lambda: resize((1, 1, 2, 3)),
    "resize by a fraction": lambda: resize((1, 1, 2.5, 0.6)),
    "resize, ceil": lambda: resize((1, 1, 2, 3), nearest_mode="ceil"),
    "resize, half pixel floor": lambda: resize((1, 1, 3, 2), nearest_mode="floor"),
    "resize, corners": lambda: resize((1, 1, 2, 3), coordinate_transformation_mode="align_corners"),
    "resize, torch's half pixel": lambda: resize(
        (1, 1, 0.2, 2), coordinate_transformation_mode="pytorch_half_pixel", nearest_mode="round_prefer_ceil"
    ),
    "channels beside": lambda: (
        [node("Concat", "a", "x", axis=1), node("Conv", "x", "W")],
        {"a": np.tile(normal(1, 2, 5, 6), (3, 1, 1, 1)), "W": normal(2, 6, 3, 3)},
        (3, 4, 5, 6),
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_node_is_read(name: str, tmp_path: Path):
    nodes, constants, shape = GRAPHS[name]()
    if name == "weights made of constants":
        before = [helper.make_node("Transpose", ["W"], ["T"]), helper.make_node("Mul", ["T", "half"], ["V"])]
        path = write(tmp_path / "net.onnx", nodes, {**constants, "half": np.float32(0.5)}, shape)
        model = onnx.load(path)
        for part in before[::-1]:
            model.graph.node.insert(0, part)
        onnx.save(model, path)
    else:
        path = write(tmp_path / "net.onnx", nodes, constants, shape)
    assert_agrees(path, shape[1:], N=3)


@pytest.mark.parametrize("opset", [9, 10])
def test_old_upsampling_and_padding_are_read(opset: int, tmp_path: Path):
    kind = "Upsample" if opset == 9 else "Resize"
    nodes = [node(kind, "x", "s", mode="nearest"), node("Pad", pads=[0, 0, 1, 0, 0, 0, 0, 2], mode="edge")]
    path = write(tmp_path / "net.onnx", nodes, {"s": np.float32([1, 1, 2, 3])}, PICTURE, opset=opset)
    assert_agrees(path, PICTURE[1:])


def test_activations_of_a_file_are_those_of_the_house(tmp_path: Path):
    nodes, constants, shape = GRAPHS["activations"]()
    kinds = [layer.activation for layer in load_generator(write(tmp_path / "net.onnx", nodes, constants, shape)).layers]
    assert kinds == [LeakyReLU(0.01), LeakyReLU(0.25), ReLU(), Sigmoid()]


def test_latent_dim_is_asked_for_where_the_file_leaves_it_open(tmp_path: Path):
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W")], {"W": W2}, ("N", "n"))
    assert_agrees(path, (6,), latent_dim=6)
    with pytest.raises(ValueError, match=r"input z of shape \(\?, \?\); pass latent_dim"):
        load_generator(path)
    with pytest.raises(ValueError, match=r"at node n0 \(Gemm\) .*shapes \(3, 7\), \(6, 8\)"):
        load_generator(path, latent_dim=7)
    pictures = write(
        tmp_path / "net.onnx", [node("Flatten"), node("Gemm", "x", "W")], {"W": normal(24, 3)}, ("N", "c", 2, 3)
    )
    assert_agrees(pictures, (4, 2, 3), latent_dim=24)


def test_float64_file_is_read(tmp_path: Path):
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W"), node("Tanh")], {"W": W2.astype(np.float64)}, FLAT)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, path)
    G = load_generator(path)
    z = normal(4, 6).astype(np.float64)
    assert relative(G(torch.from_numpy(z)), runtime(path, z)) < 1e-12  # float64 roundings
    assert isinstance(G.layers[-1].activation, Tanh)


def test_weights_beside_the_file_are_read(tmp_path: Path):
    path = write(tmp_path / "net.onnx", [node("Gemm", "x", "W")], {"W": normal(6, 400)}, FLAT)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert_agrees(path, (6,))
    (tmp_path / "net.data").unlink()
    with pytest.raises(ValueError, match=r"external data"):
        load_generator(path)


# --- the comparison -------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    constants = {"W": W2, "V": normal(8, 5)}
    return write(tmp_path / "net.onnx", [node("Gemm", "x", "W"), node("LeakyRelu"), node("Gemm", "x", "V")], constants, FLAT)


def test_misread_node_is_caught(small: Path, monkeypatch: pytest.MonkeyPatch):
    load_generator(small)
    with monkeypatch.context() as wrong:
        wrong.setattr(LeakyReLU, "of", lambda slope: LeakyReLU(slope * 1.001))
        with pytest.raises(ValueError, match=r"expected the nodes of .* relative difference of .* \(allowed 1e-10\)"):
            load_generator(small)
    monkeypatch.setitem(OPERATORS, "LeakyRelu", lambda node, x: F.leaky_relu(x, 0.011))
    with pytest.raises(ValueError, match=r"expected onnxruntime .* relative difference of .* \(allowed 1e-05\)"):
        load_generator(small)


def test_missing_onnxruntime_is_said(small: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.warns(CvxinvWarning, match="was not compared with onnxruntime: onnxruntime is not installed"):
        G = load_generator(small)
    assert G.description["conversion_check"].startswith("not compared") and "pip install onnxruntime" in repr(G)


def test_file_that_onnxruntime_cannot_run_is_read_and_said(tmp_path: Path):
    # the operator's definition allows both, onnxruntime refuses: 4 x 5 in, kernel reach 3 x 3, one pixel around
    W = normal(2, 1, 2, 2)
    nodes = [node("Conv", "x", "W", auto_pad="SAME_UPPER", dilations=[2, 2])]
    path = write(tmp_path / "net.onnx", nodes, {"W": W}, ("N", 1, 4, 5))
    with pytest.warns(CvxinvWarning, match="was not compared with onnxruntime: onnxruntime cannot run it"):
        G = load_generator(path)
    z = torch.from_numpy(normal(3, 1, 4, 5)).double()
    expected = F.conv2d(z, torch.from_numpy(W).double(), padding=1, dilation=2).flatten(1)
    assert relative(G(z.flatten(1)), expected) < 1e-12  # both in float64
    assert "cannot run it" in repr(G)


def test_missing_onnx_names_the_command(small: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendNotInstalledError, match="pip install onnx"):
        load_generator(small)


# --- what cannot be read --------------------------------------------------------------------------

ONE = {"W": W2}
BAD: dict[str, tuple[list, dict, tuple, type[Exception], str]] = {
    "operator": (
        [node("Gemm", "x", "W"), node("LayerNormalization", "x", "s", name="ln")],
        {**ONE, "s": normal(8)},
        FLAT,
        UnsupportedLayerError,
        r"node ln \(LayerNormalization\) of .*net\.onnx which takes statistics.*opaque=True",
    ),
    "unknown operator": (
        [node("Gemm", "x", "W"), node("Round")],
        ONE,
        FLAT,
        UnsupportedLayerError,
        r"node n1 \(Round\) .* supported are Abs, ",
    ),
    "hidden softmax": (
        [node("Gemm", "x", "W"), node("Softmax"), node("Gemm", "x", "V")],
        {**ONE, "V": normal(8, 3)},
        FLAT,
        UnsupportedLayerError,
        r"expected a softmax at the output, got one before",
    ),
    "skip": (
        [node("Gemm", "x", "W"), node("Relu"), node("Add", "x", "x1")],
        ONE,
        FLAT,
        UnsupportedLayerError,
        r"skip connection at node n2 \(Add\)",
    ),
    "transA": (
        [node("Gemm", "x", "W", transA=1)],
        {"W": normal(3, 3)},
        (3, 3),
        UnsupportedLayerError,
        "along the axis that counts the latents",
    ),
    "gemm from the left": (
        [node("Gemm", "W", "x")],
        {"W": normal(3, 3)},
        (3, 3),
        UnsupportedLayerError,
        "along the axis that counts the latents",
    ),
    "divided by": (
        [node("Div", "a", "x")],
        {"a": normal(6)},
        FLAT,
        UnsupportedLayerError,
        r"node n0 \(Div\) .* of a number by the signal",
    ),
    "signals mixed": (
        [node("Reshape", "x", "s")],
        {"s": integers(-1, 12)},
        (1, 6),
        UnsupportedLayerError,
        r"shapes \(1, 6\)",
    ),
    "sum of signals": (
        [node("Gemm", "x", "W"), node("ReduceSum", "x", "a", keepdims=1)],
        {**ONE, "a": integers(0)},
        FLAT,
        UnsupportedLayerError,
        r"node n1 \(ReduceSum\) .*over the axis that counts the latents",
    ),
    "antialias": (
        [node("Resize", "x", "", "s", mode="linear", antialias=1)],
        {"s": np.float32([1, 1, 0.5, 0.5])},
        PICTURE,
        UnsupportedLayerError,
        r"antialias=1; export with antialias=False",
    ),
    "resized signals": (
        [node("Resize", "x", "", "s", mode="nearest")],
        {"s": np.float32([2, 1, 1, 1])},
        PICTURE,
        UnsupportedLayerError,
        "on the axis that counts the signals",
    ),
    "extrapolation": (
        [node("Resize", "x", "r", "s", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=1.0)],
        {"r": np.float32([0, 0, 0, 0, 1, 1, 2, 2]), "s": np.float32([1, 1, 2, 2])},
        PICTURE,
        UnsupportedLayerError,
        r"extrapolation_value 1\.0",
    ),
    "quantised": (
        [node("Gemm", "x", "W"), node("QuantizeLinear", "x", "s", "p"), node("DequantizeLinear", "x", "s", "p")],
        {**ONE, "s": np.float32(0.1), "p": np.uint8(3)},
        FLAT,
        UnsupportedLayerError,
        r"node n1 \(QuantizeLinear\) .*quantised; export the model before",
    ),
    "cast to integers": (
        [node("Gemm", "x", "W"), node("Cast", to=INT64)],
        ONE,
        FLAT,
        UnsupportedLayerError,
        r"node n1 \(Cast\) .* to a type that holds no fractions",
    ),
    "jump": (
        [node("Gemm", "x", "W"), node("ThresholdedRelu", alpha=0.5)],
        ONE,
        FLAT,
        UnsupportedLayerError,
        r"alpha 0\.5, a jump",
    ),
    "kernel": ([node("Conv", "x", "W")], {"W": normal(2, 4, 3)}, ("N", 4, 9, 1), ValueError, r"n0 \(Conv\).*\(2, 4, 3\)"),
    "other numbers for each signal": (
        [node("Add", "x", "b")],
        {"b": normal(3, 6)},
        (3, 6),
        UnsupportedLayerError,
        "not the same for every signal",
    ),
    "NaN": (
        [node("Gemm", "x", "W")],
        {"W": W2 * np.nan},
        FLAT,
        ValueError,
        r"input 1 at node n0 \(Gemm\).*NaN",
    ),
    "training": (
        [node("Gemm", "x", "W"), node("Dropout", "x", "r", "t")],
        {**ONE, "r": np.float32(0.5), "t": np.array(True)},
        FLAT,
        ValueError,
        "inference mode",
    ),
    "sizes": ([node("Gemm", "x", "W")], ONE, ("N", 5), ValueError, r"n0 \(Gemm\) .*shapes \(3, 5\), \(6, 8\)"),
    "one axis": ([node("Gemm", "x", "W")], ONE, (6,), ValueError, r"input z of shape \(6\) in .*net\.onnx"),
    "old": ([node("Gemm", "x", "W", "b")], {**ONE, "b": normal(8)}, FLAT, ValueError, "operator set 9 or newer, got 8"),
}


@pytest.mark.parametrize("name", BAD)
def test_unreadable_graph_is_named(name: str, tmp_path: Path):
    nodes, constants, shape, kind, message = BAD[name]
    copies = [onnx.NodeProto.FromString(part.SerializeToString()) for part in nodes]
    path = write(tmp_path / "net.onnx", copies, constants, shape, opset={"old": 8, "antialias": 18}.get(name, 17))
    with pytest.raises(kind, match=message):
        load_generator(path)


def test_wrong_inputs_and_outputs_are_named(small: Path):
    model = onnx.load(small)
    for change, message in (
        (
            lambda g: g.output.append(helper.make_tensor_value_info("x1", FLOAT, ["N", 8])),
            r"expected one output.*got x3, x1",
        ),
        (
            lambda g: setattr(g.input[0].type.tensor_type, "elem_type", onnx.TensorProto.STRING),
            r"got z \(element type 8\)",
        ),
        (lambda g: g.node[0].input.__setitem__(0, "W"), "inputs of .*got none"),
    ):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        change(changed.graph)
        onnx.save(changed, small)
        with pytest.raises((ValueError, UnsupportedLayerError), match=message):
            load_generator(small)


def test_operator_of_another_domain_is_named(small: Path):
    model = onnx.load(small)
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, small)
    with pytest.raises(UnsupportedLayerError, match=r"node n1 \(LeakyRelu\) .*of the domain com\.example"):
        load_generator(small)


@pytest.mark.parametrize(
    "content",
    [lambda whole: b"", lambda whole: b"weights", lambda whole: whole[: len(whole) // 2], lambda whole: whole[:-9]],
)
def test_damaged_and_foreign_files_are_named(content: Callable[[bytes], bytes], small: Path):
    small.write_bytes(content(small.read_bytes()))
    with pytest.raises(ValueError, match=r"expected an ONNX file, got .*net\.onnx; the file is truncated, damaged or"):
        load_generator(small)
    small.unlink()
    with pytest.raises(FileNotFoundError, match=r"got no .*net\.onnx"):
        load_generator(small)


# --- the command line -----------------------------------------------------------------------------


def test_command_line_takes_onnx_files_and_labels(tmp_path: Path):
    module = settled(Conditional())
    path = export(module, (torch.zeros(2, 4), torch.tensor([1, 2])), tmp_path / "net.onnx")
    G = load_generator(path, label=3)
    np.save(tmp_path / "y.npy", G(G.sample_latent(3, torch.Generator().manual_seed(0))).numpy())

    def run(*words: object):
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    inspected = run("inspect", path, "--label", 3, "--samples", 20)
    assert inspected.exit_code == 0 and "label: 3" in inspected.output
    assert "conversion check: compared with onnxruntime" in inspected.output
    in_json = json.loads(run("inspect", path, "--label", 3, "--samples", 20, "--json").stdout)
    assert in_json["label"] == 3 and in_json["conversion_check"] == G.description["conversion_check"]
    found = run("invert", path, tmp_path / "y.npy", "--label", 3, "-o", tmp_path / "result", "--quiet")
    assert found.exit_code == 0, found.output
    assert run("verify", path, tmp_path / "y.npy", tmp_path / "result", "--label", 3).exit_code == 0
    assert run("verify", path, tmp_path / "y.npy", tmp_path / "result", "--label", 4).exit_code == 1
    missing = run("inspect", path)
    assert missing.exit_code == 2 and "pass --label 0 ... --label 9" in " ".join(missing.output.split())
