"""The forms in which people have a torch generator: wrapped, scripted, a method, weights in a file; theirs stays."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci


class Net(nn.Module):
    def __init__(self, n: int = 4):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n, 12), nn.BatchNorm1d(12), nn.ReLU(inplace=True), nn.Linear(12, 9))

    def forward(self, z):
        return self.net(z)

    def doubled(self, z, gain=2.0):
        return self.net(z) * gain


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Net().eval()


def assert_computes(G: ci.Generator, forward: Callable[[Tensor], Tensor]) -> None:
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected = forward(z)
    assert (G(z) - expected).norm() <= 1e-12 * expected.norm()


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


# --- what is read is a copy -----------------------------------------------------------------------

SOURCES: dict[str, Callable[[Net], Any]] = {
    "module": lambda m: m,
    "bound method": lambda m: m.doubled,
    "function": lambda m: lambda z: m(z) + 1,
    "function in a function": lambda m: partial(lambda f, z: f(z), lambda z: m(z)),
    "data parallel": nn.DataParallel,
    "scripted": torch.jit.script,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", SOURCES)
def test_the_users_module_stays_as_it_is(name: str):
    module = net()
    before, calls = state_of(module), []
    handle = module.net[0].register_forward_hook(lambda *_: calls.append(1)) if name != "scripted" else None
    hooks = dict(module.net[0]._forward_hooks)
    state, source = torch.get_rng_state(), SOURCES[name](module)
    G = ci.load_generator(source)
    assert G.latent_dim == 4 and G.dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in module.parameters())
    assert dict(module.net[0]._forward_hooks) == hooks and not module.net[1]._forward_hooks
    assert not module.training and (handle is None or not module.net[0]._forward_pre_hooks)


def test_what_a_function_reads_is_a_copy():
    module = net()
    G = ci.load_generator(lambda z: module(z))
    kept = G(torch.ones(4, dtype=torch.float64))
    module.net[3].weight.data.zero_()
    assert torch.equal(G(torch.ones(4, dtype=torch.float64)), kept)


def test_module_in_training_mode_is_refused_behind_a_function_too():
    module = net().train()
    for source in (module, module.doubled, lambda z: module(z)):
        with pytest.raises(ValueError, match=r"\(BatchNorm1d\) in training mode; call \.eval\(\) first"):
            ci.load_generator(source)


class Holder:
    """An object that is called, and holds its network."""

    def __init__(self):
        self.net, self.gain = net(), torch.tensor([2.0])

    def __call__(self, z):
        return self.net(z) * self.gain


def test_an_object_that_is_called_is_read():
    holder = Holder()
    assert_computes(ci.load_generator(holder), lambda z: net().double()(z) * 2)
    assert holder.net.net[0].weight.dtype == torch.float32


def test_classes_and_functions_without_inputs_are_named():
    with pytest.raises(TypeError, match=r"got the class Net; pass an instance, Net\(\.\.\.\)\.eval\(\)"):
        ci.load_generator(Net)
    with pytest.raises(TypeError, match="a function that says its inputs"):
        ci.load_generator(torch.tanh)


# --- methods and inputs ---------------------------------------------------------------------------


def test_method_with_an_input_that_is_fixed():
    module = net()
    twin = net().double()
    G = ci.load_generator(module, method="doubled", inputs={"gain": 3.0})
    assert_computes(G, lambda z: twin(z) * 3)
    assert_computes(ci.load_generator(module, method="doubled"), lambda z: twin(z) * 2)


def test_wrong_method_and_inputs_are_named():
    with pytest.raises(ValueError, match=r"a method of Net, got 'decode'; its own are doubled"):
        ci.load_generator(net(), method="decode")
    with pytest.raises(ValueError, match=r"inputs named as those of the forward pass, z, got 'c'"):
        ci.load_generator(net(), inputs={"c": torch.ones(3)})
    with pytest.raises(ValueError, match="one input left for the latent"):
        ci.load_generator(net(), inputs={"z": torch.ones(4)})
    with pytest.raises(TypeError, match="expected inputs as a dict, got list"):
        ci.load_generator(net(), inputs=[torch.ones(4)])
    with pytest.raises(TypeError, match="expected a module beside method='doubled'"):
        ci.load_generator(lambda z: z, method="doubled")


@pytest.mark.parametrize(
    "condition", [torch.eye(3)[1], torch.eye(3)[1:2], torch.eye(3)[1].numpy(), torch.eye(3).double()[1]]
)
def test_condition_of_one_signal_stands_beside_every_latent(condition: object):
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(7, 9)

        def forward(self, z, c):
            return self.net(torch.cat([z, c], 1)).relu()

    module = Conditional()
    G = ci.load_generator(module, inputs={"c": condition})
    c = torch.as_tensor(condition).double().reshape(1, 3)
    assert_computes(G, lambda z: module.double()(z, c.expand(len(z), -1)))


# --- weights that come alone ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"epoch": 3, "generator": s}, lambda s: {"state_dict": s, "lr": 0.1}]
)
@pytest.mark.parametrize("prefix", ["", "module.", "netG."])
@pytest.mark.parametrize("module", [Net, net])
def test_file_of_weights_is_put_into_its_module(prefix: str, wrap: Callable, module: Callable, tmp_path: Path):
    trained = net()
    trained.net[0].weight.data.mul_(2)
    torch.save(wrap({prefix + name: value for name, value in trained.state_dict().items()}), tmp_path / "net.pt")
    given = module if module is Net else module()
    before = None if module is Net else state_of(given)
    assert_computes(ci.load_generator(tmp_path / "net.pt", module=given), trained.double())
    assert before is None or all(torch.equal(before[key], value) for key, value in given.state_dict().items())
    assert_computes(ci.load_generator(trained.float().state_dict(), module=Net), trained.double())


def test_weights_without_their_module_and_with_another_are_named(tmp_path: Path):
    path = tmp_path / "net.pt"
    torch.save(net().state_dict(), path)
    with pytest.raises(ValueError, match=r"net\.pt, a pickle of weights, belongs to, .* module=Net\(\)\.eval\(\)\)"):
        ci.load_generator(path)
    with pytest.raises(TypeError, match=re.escape("load_generator(state, module=Net().eval())")):
        ci.load_generator(net().state_dict())
    with pytest.raises(ValueError, match=r"got size mismatch for net\.0\.weight"):
        ci.load_generator(path, module=Net(5))
    with pytest.raises(ValueError, match=r"missing are other\.weight, .*foreign are net\.0\.weight"):
        ci.load_generator(path, module=nn.ModuleDict({"other": nn.Linear(4, 9)}))
    with pytest.raises(TypeError, match=r"the class Linear, which asks for arguments .*; pass module=Linear\(\.\.\.\)"):
        ci.load_generator(path, module=nn.Linear)
    with pytest.raises(TypeError, match="a state dict or the path of one"):
        ci.load_generator(net(), module=net())
    with pytest.raises(FileNotFoundError, match="got no"):
        ci.load_generator(tmp_path / "none.pt", module=Net)


def test_whole_module_in_a_file_is_loaded_by_the_cure_that_is_named(tmp_path: Path):
    path = tmp_path / "whole.pt"
    torch.save(net(), path)
    with pytest.raises(ValueError, match=r"torch\.load\(.*, weights_only=False\)") as caught:
        ci.load_generator(path, module=Net)
    (cure,) = re.findall(r"net = (torch\.load\(.*?\)) ", str(caught.value))
    assert_computes(ci.load_generator(eval(cure).eval()), net().double())


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_keras_file_is_sent_to_onnx(suffix: str):
    with pytest.raises(
        ValueError, match=r"export\('net\.onnx', format='onnx'\).*tf2onnx\.convert --keras net\.\w+ --output net\.onnx"
    ):
        ci.load_generator(f"net{suffix}")
