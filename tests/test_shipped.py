"""The generators that ship: their files are whole, and what their JSON and SOURCES.md say of them holds."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import cvxinv as ci
from cvxinv.generator.activations import PLU, ReLU
from cvxinv.shipped import shipped_generators

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "cvxinv" / "shipped"
LARGEST = 2_000_000  # bytes of one file of weights
RECOVERED = 100.0  # dB
# five standard errors of a mean over independent latents: one false alarm in a million
ERRORS = 5.0


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def training_script() -> ModuleType:
    path = ROOT / "problems" / "training" / "mnist_gan.py"
    spec = importlib.util.spec_from_file_location("mnist_gan_training", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def G() -> ci.Generator:
    return ci.load_generator("mnist_gan")


@pytest.fixture(scope="module")
def said() -> dict:
    return json.loads((SHIPPED / "mnist_gan.json").read_text())


def test_two_generators_ship():
    assert shipped_generators() == ["digits_8x8", "mnist_gan"]


@pytest.mark.parametrize("name", shipped_generators())
def test_the_weights_are_those_that_the_json_describes_and_small(name: str):
    weights = (SHIPPED / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == json.loads((SHIPPED / f"{name}.json").read_text())["sha256"]
    assert len(weights) <= LARGEST


@pytest.mark.parametrize("name", shipped_generators())
def test_a_shipped_generator_goes_by_its_name(name: str):
    by_name, by_path = ci.load_generator(name), ci.load_generator(SHIPPED / name)
    z = by_path.sample_latent(3, seeded(0))
    assert torch.equal(by_name(z), by_path(z))


def test_a_file_of_the_users_comes_before_what_ships(G, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ci.save_generator(ci.load_generator("digits_8x8"), "mnist_gan")
    assert ci.load_generator("mnist_gan").latent_dim == 8 != G.latent_dim


def test_the_mnist_network_is_the_one_of_the_paper(G):
    assert [(layer.W.n, layer.W.m) for layer in G.layers] == [(20, 128), (128, 392), (392, 784)]
    assert [layer.activation for layer in G.layers] == [ReLU(), ReLU(), PLU(0.1, 1.0)]
    assert G.signal_shape == (1, 28, 28)


def test_the_batch_norms_are_settled_on_their_own_latents(G):
    """Pre-activations of 20000 other latents have the mean and variance that the first batch norm takes for theirs."""
    raw = load_file(SHIPPED / "mnist_gan.safetensors")
    z = G.sample_latent(20000, seeded(1))
    a1 = z @ raw["layers.0.weight"].double().T + raw["layers.0.bias"]
    spread = raw["layers.1.running_var"].double().sqrt()
    # both sides are estimates from 20000 Gaussian draws, so the variances of their errors add
    assert ((a1.mean(0) - raw["layers.1.running_mean"]) / spread).abs().max() < ERRORS * (2 / 20000) ** 0.5
    assert (a1.var(0) / spread**2 - 1).abs().max() < ERRORS * (4 / 20000) ** 0.5


def test_other_latents_are_as_sparse_as_the_json_says(G, said):
    for h, figures in zip(G.hidden(G.sample_latent(1000, seeded(2))), said["measured"]["hidden"], strict=True):
        s = (h > 0).sum(1).double()
        standard_error = figures["std"] * (1 / 1000 + 1 / said["measured"]["latents"]) ** 0.5
        assert abs(float(s.mean()) - figures["mean_positive"]) < ERRORS * standard_error
        assert int((h <= 0).all(0).sum()) == figures["never_positive_units"]


def test_the_jacobian_has_rank_20_with_half_of_the_pixels_hidden(G):
    z = G.sample_latent(50, seeded(3))
    J = G.linearize(z, before_output=True)[1]
    seen = torch.rand(50, 784, generator=seeded(4)) > 0.45
    sigma = torch.linalg.svdvals(J * seen[:, :, None])
    assert float((sigma[:, 0] / sigma[:, -1]).max()) < 1000


@pytest.mark.parametrize("hidden", [0.0, 0.45])
def test_latent_pursuit_recovers_samples_before_the_output_unit(G, hidden: float):
    G = G.with_output("identity")
    z = G.sample_latent(10, seeded(5))
    seen = torch.rand(10, 784, generator=seeded(6)) >= hidden
    found = ci.invert(G, G(z), "latent_pursuit", measurement=seen, truth=z)
    assert (found.snr["z"] >= RECOVERED).all()
    assert (found.layer_status == "optimal").all()


def nearest_digit(images: Tensor, labels: Tensor, x: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """Majority label of the k nearest real digits of each x, and its share among the k."""
    near = labels[torch.cdist(x, images).topk(k, largest=False).indices]  # (N, k)
    votes = torch.nn.functional.one_hot(near, 10).sum(1)
    return votes.argmax(1), votes.max(1).values / k


@pytest.mark.generators
def test_samples_can_be_read_as_digits_and_all_ten_occur(G, data_dir: Path):
    """Four of the five nearest real digits agree for three quarters of the samples; each digit has a third of its share."""
    with np.load(data_dir / "datasets" / "mnist_test.npz") as file:
        images = torch.from_numpy(file["images"]).view(-1, 784).double() / 127.5 - 1
        labels = torch.from_numpy(file["labels"]).long()
    digit, share = nearest_digit(images, labels, G(G.sample_latent(600, seeded(7))).clamp(-1, 1))
    assert torch.bincount(digit, minlength=10).min() >= 20
    assert float((share >= 0.8).double().mean()) >= 0.75


def test_what_ships_was_trained_with_the_recipe_that_the_script_runs(said):
    script = training_script()
    recipe = script.dataclasses.asdict(script.VARIANTS[script.CHOSEN])
    assert said["source"]["recipe"] == json.loads(json.dumps(recipe))
    assert said["source"]["trained_by"].endswith(f"--variant {script.CHOSEN}")


def test_the_training_is_repeatable():
    script = training_script()
    images = torch.randint(0, 256, (256, 784), generator=seeded(8), dtype=torch.uint8)
    for name in ("a", script.CHOSEN):
        recipe = script.dataclasses.replace(script.VARIANTS[name], steps=3, batch=16)
        first, second = (script.train(images, recipe).state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), name
