"""What the torch reader reads, the ONNX reader reads from an export of it, alike; what the one refuses, the other does.

Needs the package onnx; the dynamo exporter needs onnxscript too, which the extra `[test]` brings.
"""

import warnings
from pathlib import Path

import pytest
import torch
from architectures import TABLE, Row, ready
from torch import Tensor, nn

from cvxinv.errors import UnsupportedLayerError
from cvxinv.generator.chain import Generator
from cvxinv.generator.reading.load import load_generator

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
ROWS = {name: row for name, row in TABLE.items() if row.exported}
READ = {name: row for name, row in ROWS.items() if row.outcome == "read"}
# torch's newer exporter writes their interpolation and adaptive pooling as sums of branches
BRANCHED = ("bicubic and area", "linear upsampling", "average pooling")
RTOL = {torch.float64: 1e-10, torch.float32: 1e-5}  # roundings of a chain; those of torch's own float32
SMOOTH = "ignore::cvxinv.errors.CvxinvWarning"  # onnxruntime knows few operators in float64


def network(row: Row, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(1)
    return ready(row.build()).to(dtype)


def latents(row: Row, N: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(N, *row.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def export(net: nn.Module, z: Tensor, path: Path, **options) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on its own exporters
        try:
            torch.onnx.export(net, (z,), str(path), input_names=["z"], **options)
        except torch.onnx.errors.OnnxExporterError as error:
            pytest.skip(f"torch cannot export it: {str(error).splitlines()[0]}")
    return path


def assert_alike(G: Generator, row: Row, net: nn.Module, dtype: torch.dtype):
    """Values, latent and signal shape are those of the module, and of what the torch reader makes of it."""
    z = latents(row, 5, dtype)
    with torch.no_grad():
        expected = row.value(net, z)
    assert (G(z.double().flatten(1)) - expected.flatten(1)).norm() <= RTOL[dtype] * expected.double().norm()
    source = net if row.source is None else row.source(net)
    from_torch = load_generator(source, **row.options)
    assert isinstance(from_torch, Generator)
    assert (G.latent_dim, G.signal_shape) == (from_torch.latent_dim, from_torch.signal_shape)
    assert len(G.layers) == len(from_torch.layers)


@pytest.mark.filterwarnings(SMOOTH)
@pytest.mark.parametrize("name", READ)
def test_export_of_a_module_is_read_alike(name: str, tmp_path: Path):
    row, dtype = READ[name], torch.float32 if READ[name].single else torch.float64
    net = network(row, dtype)
    path = export(net, latents(row, 2, dtype), tmp_path / "net.onnx", dynamo=False, dynamic_axes={"z": {0: "N"}})
    assert_alike(load_generator(path), row, net, dtype)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.outcome == "opaque"])
def test_export_of_what_is_no_chain_is_refused_by_node(name: str, tmp_path: Path):
    row = ROWS[name]
    net = network(row, torch.float32)
    path = export(net, latents(row, 2, torch.float32), tmp_path / "net.onnx", dynamo=False, dynamic_axes={"z": {0: "N"}})
    with pytest.raises(UnsupportedLayerError, match=r"(node \S+ \(\w+\) of .*net\.onnx|softmax at the output).*opaque=True"):
        load_generator(path)


@pytest.mark.slow
@pytest.mark.filterwarnings(SMOOTH)
@pytest.mark.parametrize("name", [name for name in READ if name not in BRANCHED])
def test_dynamo_export_of_a_module_is_read_alike(name: str, tmp_path: Path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install onnxscript")
    row = READ[name]
    net = network(row, torch.float32)
    path = export(net, latents(row, 2, torch.float32), tmp_path / "net.onnx", dynamo=True, verbose=False)
    assert_alike(load_generator(path), row, net, torch.float32)


@pytest.mark.slow
@pytest.mark.filterwarnings(SMOOTH)
@pytest.mark.parametrize("name", BRANCHED)
def test_sums_of_branches_that_dynamo_writes_are_refused_by_node(name: str, tmp_path: Path):
    """The other exporter writes the same network with operators of its own, which are read (docs/format.md)."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install onnxscript")
    row = READ[name]
    net = network(row, torch.float32)
    path = export(net, latents(row, 2, torch.float32), tmp_path / "net.onnx", dynamo=True, verbose=False)
    with pytest.raises(UnsupportedLayerError, match=r"branch or skip connection at node \S+ \(Add\) of .*net\.onnx"):
        load_generator(path)
