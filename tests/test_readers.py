"""Files, modules and ONNX graphs speak one language, the ops of docs/format.md; files written before keep their meaning."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from test_generator import CONDITIONAL, MODULES, assert_same_bits, relative, settle
from torch import nn

import cvxinv as ci
from cvxinv.generator import folding, ops
from cvxinv.generator.reading import module, onnx_file
from cvxinv.generator.reading.pair import entry_of

RTOL = 1e-12  # float64 roundings of a few layers
FORMAT = Path(__file__).resolve().parents[1] / "docs" / "format.md"
WRITTEN = Path(__file__).with_name("generators")  # by the readers and the writer as they were before they spoke in ops


@pytest.mark.parametrize("name", ["dense", "pictures", "factors", "by_hand"])
def test_file_written_before_is_the_same_generator(name: str):
    G = ci.load_generator(WRITTEN / name, label=1 if name == "by_hand" else None)
    z, x = (torch.tensor(G.description["expected"][key], dtype=torch.float64) for key in ("z", "x"))
    assert relative(G(z), x) < RTOL


@pytest.mark.parametrize("name", ["dense", "pictures", "factors"])
def test_file_written_before_is_written_the_same_again(name: str, tmp_path: Path):
    ci.save_generator(ci.load_generator(WRITTEN / name), tmp_path / name)
    for suffix in (".json", ".safetensors"):
        again, before = ((folder / f"{name}{suffix}").read_bytes() for folder in (tmp_path, WRITTEN))
        assert json.loads(again) == json.loads(before) if suffix == ".json" else again == before


def said(
    reader: object, read: Callable[[], ci.Generator], monkeypatch: pytest.MonkeyPatch
) -> tuple[list, tuple, ci.Generator]:
    """The ops that a reader emits while it reads, the shape of the latent, and the generator that they become."""
    heard = []

    def fold(steps, shape, *others, **named):
        listed = list(steps)
        heard.append(([op for _, op in listed], shape))
        return folding.fold(listed, shape, *others, **named)

    monkeypatch.setattr(reader, "fold", fold)
    G = read()
    ((emitted, shape),) = heard
    return emitted, shape, G


def nameable(emitted: list) -> Iterator[ops.AbstractOp]:
    """The ops; for one that files have no name for, those of the maps that it is."""
    shape = ()
    for op in emitted:
        if op.names or isinstance(op, ops.Activation):
            yield op
        else:
            yield from (next(kind for kind in ops.OPS.values() if kind.saves is type(W)).of(W) for W in op.maps(shape))
        shape = op.shape if isinstance(op, ops.Reshape) else op.shape_after(shape)


def assert_files_say_the_same(emitted: list, shape: tuple[int, ...], G: ci.Generator, folder: Path) -> None:
    """The ops written down as they were said, batch norms and all, load to the same generator, bit for bit."""
    emitted = list(nameable([ops.Reshape(shape=tuple(shape)), *emitted]))
    entries, tensors = zip(*(entry_of(op, f"layers.{i}") for i, op in enumerate(emitted)), strict=True)
    spec = {"latent": {"dim": G.latent_dim}, "layers": entries}
    (folder / "said.json").write_text(json.dumps(spec))
    save_file({name: tensor for own in tensors for name, tensor in own.items()}, folder / "said.safetensors")
    assert_same_bits(ci.load_generator(folder / "said"), G)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", [*MODULES, *CONDITIONAL])
def test_what_a_module_is_read_as_can_be_written_into_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build = CONDITIONAL[name] if name in CONDITIONAL else MODULES[name][0]
    label = 3 if name in CONDITIONAL else None
    heard = said(module, lambda: ci.load_generator(settle(build()), label=label), monkeypatch)
    assert_files_say_the_same(*heard, tmp_path)


def test_what_an_onnx_graph_is_read_as_can_be_written_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    graphs = pytest.importorskip("test_onnx", reason="onnx is not installed: pip install onnx")
    for name, build in graphs.GRAPHS.items():
        if name == "weights made of constants":
            continue
        nodes, constants, shape = build()
        path = graphs.write(tmp_path / "net.onnx", nodes, constants, shape)
        assert_files_say_the_same(*said(onnx_file, lambda path=path: ci.load_generator(path), monkeypatch), tmp_path)


@pytest.mark.parametrize("name", ops.OPS)
def test_format_describes_every_op_with_its_fields(name: str):
    row = next(
        line for line in FORMAT.read_text().splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1]
    )
    unsaid = {"composed", "bias"}  # said below the table, for all maps
    missing = [f.name for f in fields(ops.OPS[name]) if f.name not in unsaid and f"`{f.name}`" not in row]
    assert not missing, f"docs/format.md does not say {missing} of {name}"


# --- an activation of the user's own --------------------------------------------------------------


class Bent(nn.Module):
    def __init__(self, bend: float):
        super().__init__()
        self.bend = bend

    def forward(self, u):
        return u + self.bend * u.tanh()


@dataclass(frozen=True)
class BentOutput(ci.AbstractActivation):
    bend: float

    name = "bent"
    torch_modules = ("Bent",)
    parameter_names = ("bend",)

    def __post_init__(self):
        if self.bend < 0:
            raise ValueError(f"expected a bend >= 0, got {self.bend}; pass one")

    def __call__(self, u):
        return u + self.bend * u.tanh()

    def derivative(self, u):
        return 1 + self.bend * (1 - u.tanh().square())


def test_activation_of_the_users_own_is_read_from_the_module_that_it_names(tmp_path: Path):
    G = ci.load_generator(settle(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), Bent(2.0))))
    assert G.layers[-1].activation == BentOutput(2.0)
    with pytest.raises(
        ValueError, match=r"that files know \(.*\), got BentOutput\(bend=2\.0\); save generator\.with_output"
    ):
        ci.save_generator(G, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_wrong_number_of_an_activation_of_the_users_own_is_named():
    with pytest.raises(ci.UnsupportedLayerError, match=r"1 \(Bent\) with bend -1\.0 \(expected a bend >= 0, got -1\.0"):
        ci.load_generator(nn.Sequential(nn.Linear(2, 4), Bent(-1.0)))


def test_module_that_only_bears_an_activations_name_is_no_such_activation():
    class ReLU(nn.Module):
        def forward(self, u):
            return F.leaky_relu(u, 0.2)

    G = ci.load_generator(settle(nn.Sequential(nn.Linear(2, 4), ReLU(), nn.Linear(4, 3))))
    assert G.layers[0].activation == ci.LeakyReLU(0.2)
