"""What is read from modules and files computes what they compute; what cannot be read is named."""

import copy
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cvxinv.errors import UnsupportedLayerError
from cvxinv.generator.activations import (
    PLU,
    AbstractActivation,
    Identity,
    LeakyReLU,
    PLUModule,
    ReLU,
    Sigmoid,
    Tanh,
    as_activation,
)
from cvxinv.generator.chain import Generator, Layer
from cvxinv.generator.maps import Composition, Conv2d, ConvTranspose2d, Dense
from cvxinv.generator.reading.load import load_generator
from cvxinv.generator.reading.pair import save_generator

NAMES = [
    "aman_fashion_dcgan_28x28",
    "amshoka_dcgan_64x64",
    "ashish_gan_leaky_64_256_784",
    "csinva_vae_20_400_784",
    "jay_gan_bn_128_256_512_784",
    "jezza_fashion_vae_20_400_784",
    "laug_vae_5_128_256_784",
    "lei_vae_leaky_20_200_500_784_nobias",
    "lei_vae_relu_20_60_784_nobias",
    "zeesky_vae_10_400_784",
]
RTOL = 1e-12  # float64 roundings of a few layers, two orders below what the reader itself allows


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settle(module: nn.Module, seed: int = 0) -> nn.Module:
    """Float64, eval mode, random weights and batch-norm statistics."""
    draw = seeded(seed)
    module = module.double().eval()
    for part in module.modules():
        for tensor in part.parameters(recurse=False):
            tensor.data = torch.randn(tensor.shape, generator=draw, dtype=torch.float64) / max(1, tensor.shape[-1])
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.copy_(torch.randn(part.num_features, generator=draw))
            part.running_var.copy_(torch.rand(part.num_features, generator=draw) + 0.1)
            if part.weight is not None:
                part.weight.data = torch.randn(part.num_features, generator=draw, dtype=torch.float64)
    return module


def latents(N: int, n0: int, seed: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(N, n0, generator=seeded(seed), dtype=dtype)


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def assert_reads(module: nn.Module, shape: tuple[int, ...], **options) -> Generator:
    """The generator read from `module` computes it, on latents of `shape`."""
    module = settle(module)
    G = load_generator(module, **options)
    z = torch.randn(9, *shape, generator=seeded(2), dtype=torch.float64)
    with torch.no_grad():
        expected = module(z)
    assert G.signal_shape == tuple(expected.shape[1:])
    assert relative(G(z.flatten(1)), expected.flatten(1)) < RTOL
    return G


# --- modules --------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """A decoder as people write them: functional calls, sizes of z, dropout."""

    def __init__(self):
        super().__init__()
        self.fc3, self.fc4 = nn.Linear(4, 24), nn.Linear(48, 10)
        self.deconv = nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1)

    def forward(self, z):
        h = F.dropout(F.relu(self.fc3(z)), 0.3, training=self.training)
        h = h.view(h.size(0), 6, 2, 2)
        h = F.leaky_relu(self.deconv(h), negative_slope=0.2)
        return torch.sigmoid(self.fc4(torch.flatten(h, 1)))


class Methods(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 6)

    def forward(self, z, scale=None):
        h = self.a(z.squeeze(-1)).relu().unsqueeze(1).squeeze(1).reshape(z.shape[0], -1)
        return self.b(h).tanh().unflatten(1, (2, 3)).contiguous()


class FirstReshape(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.ReLU(True))
        self.out = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, z):
        return self.out(self.up(z.view(-1, 3, 2, 2))).flatten(1)


def dcgan(*between: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(5, 4, 4, 1, 0, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(True),
        *between,
        nn.ConvTranspose2d(4, 2, 4, 2, 1),
        nn.Tanh(),
    )


class Enlarging(nn.Module):
    """Functional padding and upsampling."""

    def __init__(self):
        super().__init__()
        self.fc, self.conv = nn.Linear(3, 16), nn.Conv2d(4, 2, 3)

    def forward(self, z):
        h = F.relu(self.fc(z)).view(-1, 4, 2, 2)
        h = F.pad(F.interpolate(h, scale_factor=2), (1, 1, 1, 1), mode="replicate")
        return F.pad(F.relu(self.conv(h)), (0, 1, 2, 0))


def upsampling(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Unflatten(1, (4, 2, 3)), *parts)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one linear": (lambda: nn.Linear(3, 5), (3,)),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 7, bias=False)),
        (3,),
    ),
    "leaky": (lambda: nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(0.2), nn.Linear(5, 7), nn.Sigmoid()), (3,)),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 5), nn.Sequential(nn.ReLU())), nn.Linear(5, 7), nn.Identity()),
        (3,),
    ),
    "plu output": (
        lambda: nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 7), PLUModule(0.2, 0.5)),
        (3,),
    ),
    "relu output": (lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7), nn.ReLU()), (3,)),
    "linear after linear": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4)),
        (3,),
    ),
    "norm before relu": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 7), nn.BatchNorm1d(7)),
        (3,),
    ),
    "norms after relu": (
        lambda: nn.Sequential(
            nn.Linear(3, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 7)
        ),
        (3,),
    ),
    "norm first": (
        lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7)),
        (3,),
    ),
    "norm last": (lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.BatchNorm1d(5)), (3,)),
    "norm last, pictures": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)),
        (3, 1, 1),
    ),
    "dropout": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.Dropout(), nn.ReLU(), nn.Dropout(), nn.Linear(5, 7)),
        (3,),
    ),
    "dcgan": (dcgan, (5, 1, 1)),
    "norm before a padded transposed convolution": (lambda: dcgan(nn.BatchNorm2d(4)), (5, 1, 1)),
    "norm before a padded convolution": (
        lambda: dcgan(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
        (5, 1, 1),
    ),
    "norm first, pictures": (lambda: nn.Sequential(nn.BatchNorm2d(5), *dcgan()), (5, 1, 1)),
    "norm per position before a convolution": (
        lambda: nn.Sequential(
            nn.Linear(3, 16),
            nn.ReLU(),
            nn.BatchNorm1d(16),
            nn.Unflatten(1, (4, 2, 2)),
            nn.ConvTranspose2d(4, 2, 4, 2, 1),
        ),
        (3,),
    ),
    "norm per position behind a convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 2, 3), nn.Flatten(), nn.BatchNorm1d(18), nn.ReLU(), nn.Linear(18, 20)),
        (3, 1, 1),
    ),
    "linear to convolution, nothing between": (
        lambda: nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (4, 2, 2)), nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.ReLU()),
        (3,),
    ),
    "convolution to linear, nothing between": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 2, 3), nn.Flatten(), nn.Linear(18, 20), nn.ReLU()),
        (3, 1, 1),
    ),
    "convolution to convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 4), nn.Conv2d(4, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()),
        (3, 1, 1),
    ),
    "groups, dilation, output padding": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(6),
            nn.ConvTranspose2d(6, 4, (3, 2), stride=(3, 2), padding=(1, 0), output_padding=(1, 1), groups=2, dilation=2),
            nn.BatchNorm2d(4),
            nn.LeakyReLU(0.1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 6, (1, 2), stride=(1, 2), padding=(0, 1), groups=2),
            nn.BatchNorm2d(6),
        ),
        (6, 1, 1),
    ),
    "same padding": (lambda: dcgan(nn.Conv2d(4, 4, 3, padding="same"), nn.ReLU()), (5, 1, 1)),
    "even same padding": (
        lambda: dcgan(nn.Conv2d(4, 3, (2, 4), padding="same", dilation=(3, 1)), nn.ReLU(), nn.Conv2d(3, 4, 1)),
        (5, 1, 1),
    ),
    "replicate padding": (
        lambda: dcgan(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=(1, 2), padding_mode="replicate"), nn.ReLU()),
        (5, 1, 1),
    ),
    "replicate padding, groups, dilation, stride": (
        lambda: upsampling(nn.Conv2d(4, 6, 2, (1, 2), (2, 1), (2, 1), 2, padding_mode="replicate"), nn.BatchNorm2d(6)),
        (3,),
    ),
    "replicate same, reflect and circular padding": (
        lambda: upsampling(
            nn.Conv2d(4, 4, (2, 3), padding="same", padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1, padding_mode="circular"),
        ),
        (3,),
    ),
    "upsampling": (
        lambda: upsampling(
            nn.BatchNorm2d(4), nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()
        ),
        (3,),
    ),
    "upsampling last": (
        lambda: upsampling(nn.Conv2d(4, 1, 1), nn.UpsamplingNearest2d(scale_factor=(2, 3)), nn.BatchNorm2d(1), nn.Tanh()),
        (3,),
    ),
    "upsampling to a size, upsampling alone": (
        lambda: upsampling(nn.Upsample(size=(5, 4)), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2.0), nn.ReLU()),
        (3,),
    ),
    "linear to upsampling": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 2, 2)), nn.Upsample(scale_factor=3), nn.Sigmoid()),
        (3,),
    ),
    "padding": (
        lambda: upsampling(
            nn.ZeroPad2d((1, 0, 2, 1)),
            nn.Conv2d(4, 4, 3),
            nn.ReLU(),
            nn.ReplicationPad2d((1, 2, 0, 3)),
            nn.Conv2d(4, 4, 2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(4, 2, 2),
            nn.ReLU(),
            nn.CircularPad2d((0, 1, 1, 0)),
            nn.Conv2d(2, 1, 2),
        ),
        (3,),
    ),
    "functional padding and upsampling": (Enlarging, (3,)),
    "functional": (Decoder, (4,)),
    "methods": (Methods, (3,)),
    "first reshape": (FirstReshape, (12,)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", MODULES)
def test_module_is_read_exactly(name: str):
    build, shape = MODULES[name]
    assert_reads(build(), shape)


@pytest.mark.parametrize("seed", range(40))
def test_random_architecture_is_read_exactly(seed: int):
    module, shape = random_module(seed)
    assert_reads(module, shape)


def random_module(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Linear part, then pictures, with norms, dropout and activations strewn in."""
    draw = seeded(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (1,), generator=draw))]

    n0, width, parts = pick(2, 5), pick(6, 12), []
    parts += [nn.BatchNorm1d(n0)] if pick(True, False, False) else []
    parts += [nn.Linear(n0, width, bias=pick(True, False))]
    for _ in range(pick(0, 1, 2)):
        parts += [*between(pick, width, nn.BatchNorm1d), nn.Linear(width, width)]
    parts += between(pick, width, nn.BatchNorm1d)
    channels, side = width // 2, 1
    parts += [nn.Linear(width, channels * 4), nn.Unflatten(1, (channels, 2, 2))] if pick(True, False) else [
        nn.Unflatten(1, (width, 1, 1)), nn.ConvTranspose2d(width, channels, 2)]  # fmt: skip
    for _ in range(pick(1, 2)):
        parts += between(pick, channels, nn.BatchNorm2d)
        groups = pick(1, channels)
        parts += [
            nn.ConvTranspose2d(channels, channels, pick(3, 4), pick(1, 2), side, groups=groups)
            if pick(True, False)
            else nn.Conv2d(channels, channels, 3, 1, pick(1, 2), dilation=1, groups=groups)
        ]
    parts += [pick(nn.Identity(), nn.Tanh(), nn.Sigmoid(), nn.ReLU(), PLUModule(), nn.BatchNorm2d(channels))]
    return nn.Sequential(*parts), (n0,)


def between(pick: Callable, width: int, norm: Callable[..., nn.Module]) -> list[nn.Module]:
    before = [norm(width, affine=pick(True, False))] if pick(True, False) else []
    after = [norm(width, eps=1e-3)] if pick(True, False) else []
    return [*before, pick(nn.ReLU(), nn.LeakyReLU(0.3), nn.ReLU(True)), nn.Dropout(0.2), *after]


def test_norm_before_a_padded_convolution_leaves_a_bias_that_depends_on_the_position():
    G = load_generator(settle(dcgan(nn.BatchNorm2d(4))))
    b = G.layers[-1].b.reshape(2, 8, 8)
    assert (b[:, 0, 0] != b[:, 4, 4]).all()
    assert isinstance(G.layers[-1].W, ConvTranspose2d)


def test_maps_without_activation_between_become_one():
    build = {name: load_generator(settle(MODULES[name][0]())) for name in MODULES if "nothing between" in name}
    assert [type(G.layers[0].W) for G in build.values()] == [Dense, Dense]
    both = load_generator(settle(MODULES["convolution to convolution"][0]()))
    assert isinstance(both.layers[0].W, Composition) and both.depth == 1


def test_wide_position_dependent_norm_stays_sparse():
    module = nn.Sequential(
        nn.Linear(2, 2304),
        nn.ReLU(),
        nn.BatchNorm1d(2304),
        nn.Unflatten(1, (4, 24, 24)),
        nn.Conv2d(4, 1, 3, padding=1),
    )
    G = assert_reads(module, (2,))
    assert isinstance(G.layers[1].W, Composition)


def test_leaky_relu_of_slope_zero_is_the_relu():
    G = load_generator(nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.0), nn.Linear(3, 4)))
    assert G.layers[0].activation == ReLU()


def test_latent_size_comes_from_the_argument_where_no_layer_says_it():
    module = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(3, 1, 2, 2))
    G = assert_reads(module, (2, 4, 4), latent_dim=32)
    assert G.latent_dim == 32


def test_user_subclass_with_the_same_forward_is_read():
    class Mine(nn.Linear):
        pass

    assert_reads(nn.Sequential(Mine(2, 3), nn.ReLU(), Mine(3, 4)), (2,))


def test_parametrized_weight_is_read():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    module = nn.Sequential(first, nn.ReLU(), nn.Linear(3, 4)).double().eval()
    G, z = load_generator(module), latents(4, 2)
    assert relative(G(z), module(z).detach()) < RTOL


def test_float32_module_is_folded_in_float64_and_cast_last():
    module = settle(dcgan(nn.BatchNorm2d(4))).float()
    z = latents(5, 5)
    expected = copy.deepcopy(module).double()(z.reshape(5, 5, 1, 1)).flatten(1).detach()
    assert relative(load_generator(module)(z), expected) < RTOL
    single = load_generator(module, dtype=torch.float32)
    assert single.dtype == torch.float32
    assert relative(single(z.float()).double(), expected) < 1e-5  # float32 roundings
    assert torch.equal(single.layers[1].b, load_generator(module).layers[1].b.float())


def test_reading_leaves_module_and_random_state_alone():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 5)).eval()
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    G = load_generator(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in module.parameters())
    kept = G.layers[1].W.matrix().clone()
    module[3].weight.data.zero_()
    assert torch.equal(G.layers[1].W.matrix(), kept)


# --- the generator --------------------------------------------------------------------------------


@pytest.mark.parametrize("before_output", [False, True])
@pytest.mark.parametrize("name", ["leaky", "functional", "norm before a padded convolution", "plu output", "one linear"])
def test_linearize_gives_value_and_jacobian(name: str, before_output: bool):
    G = load_generator(settle(MODULES[name][0]()))
    target = G.with_output("identity") if before_output else G
    z = latents(4, G.latent_dim)
    x, J = G.linearize(z, before_output=before_output)
    assert relative(x, target(z)) < RTOL
    for n in range(4):
        expected = torch.autograd.functional.jacobian(target, z[n])
        assert relative(J[n], expected) < RTOL
        one_x, one_J = G.linearize(z[n], before_output=before_output)
        assert one_x.shape == (G.signal_dim,) and relative(one_J, expected) < RTOL


def test_linearize_in_small_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    G = load_generator(settle(dcgan()))
    z = latents(3, 5)
    expected = G.linearize(z)[1]
    monkeypatch.setattr("cvxinv.generator.piece.BLOCK_BYTES", {"cpu": 4096})
    assert relative(G.linearize(z)[1], expected) < RTOL


def test_linearize_takes_the_relu_as_cut_at_zero():
    layers = (
        Layer(Dense(torch.eye(2).double()), torch.zeros(2).double(), ReLU()),
        Layer(Dense(torch.ones(1, 2).double()), torch.zeros(1).double(), Identity()),
    )
    _, J = Generator(layers, (1,), {}).linearize(torch.tensor([0.0, 1.0]).double())
    assert torch.equal(J, torch.tensor([[0.0, 1.0]]).double())


def test_hidden_and_preactivations_fit_together():
    G = load_generator(settle(Decoder()))
    z = latents(3, 4)
    values, hidden = G.preactivations(z), G.hidden(z)
    assert [v.shape[1] for v in values] == [24, 48, 10] and len(hidden) == 2
    assert torch.equal(hidden[0], values[0].clamp(min=0))
    assert torch.equal(G(z), values[-1].sigmoid())
    assert torch.equal(G.hidden(z[0])[1], G.hidden(z[:1])[1][0])
    assert G(z[0]).shape == (10,)


def test_output_can_be_replaced():
    module, z = settle(Decoder()), latents(3, 4)
    u = load_generator(module, "identity")(z)
    assert torch.equal(load_generator(module, "relu")(z), u.clamp(min=0))
    assert torch.allclose(load_generator(module, "leaky_relu")(z), F.leaky_relu(u, 0.1), rtol=RTOL)
    assert torch.allclose(load_generator(module, "leaky_relu:0.2")(z), F.leaky_relu(u, 0.2), rtol=RTOL)
    assert torch.equal(load_generator(module, PLU(0.3, 0.2))(z), PLU(0.3, 0.2)(u))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"latent": {"low": 1, "high": 0}},
            r'low < high of "latent" in .*net.json as finite numbers.*, got 1 and 0; correct',
        ),
        ({"latent": {"low": 2}}, "got 2 and 1.0"),
        ({"latent": {"low": [0, 0]}}, r"one each for all coordinates, got \[0, 0\] and 1.0"),
        ({"latent": {"high": float("nan")}}, "got 0.0 and nan"),
        ({"latent": {"high": float("inf")}}, "got 0.0 and inf"),
        ({"latent": {"low": "0"}}, "got '0' and 1.0"),
        ({"latent": {"low": True, "high": 2}}, "got True and 2"),
        ({"latent": {"distribution": 3}}, r'distribution of "latent" in .*net.json as a text, got 3'),
        ({"latent": {"dim": True}}, '"latent": {"dim": n0}'),
        ({"output": {"range": [1, 0]}}, r'"range" of "output" in .*net.json as \[low, high\], got \[1, 0\]'),
        ({"output": {"range": [0, 1, 2]}}, r"as \[low, high\]"),
        ({"output": {"range": [0, float("nan")]}}, r"as \[low, high\]"),
        ({"output": {"image_shape": 4}}, '"image_shape" of "output" in .*net.json as integers >= 1, got 4'),
        ({"output": {"image_shape": [2, True]}}, "as integers >= 1"),
        ({"sha256": 5}, '"sha256" in .*net.json as a text, got 5'),
    ],
)
def test_a_description_is_checked_as_it_is_read(tmp_path: Path, changed: dict, words: str):
    save_generator(load_generator(settle(nn.Linear(3, 4))), tmp_path / "net")
    spec = json.loads((tmp_path / "net.json").read_text())
    for key, value in changed.items():
        spec[key] = {"distribution": "uniform", **spec[key], **value} if isinstance(value, dict) else value
    (tmp_path / "net.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=words):
        load_generator(tmp_path / "net")


def test_a_description_made_in_python_is_checked_when_latents_are_drawn():
    latent = {"distribution": "uniform", "low": 1.0, "high": float("nan")}
    with pytest.raises(ValueError, match="low < high of the description's latent as finite numbers"):
        Generator(load_generator(settle(nn.Linear(3, 4))).layers, (4,), {"latent": latent}).sample_latent(2)


def test_samples_follow_the_description():
    G = load_generator(settle(nn.Linear(3, 5)))
    assert torch.equal(G.sample_latent(4, seeded(7)), latents(4, 3, 7))
    uniform = Generator(G.layers, (5,), {"latent": {"distribution": "uniform", "low": -1.0, "high": 1.0}})
    z = uniform.sample_latent(1000, seeded(7))
    assert z.min() < -0.9 and z.max() > 0.9 and z.abs().max() <= 1
    with pytest.raises(ValueError, match="'laplace'"):
        Generator(G.layers, (5,), {"latent": {"distribution": "laplace"}}).sample_latent(1)


def test_repr_has_one_line_per_layer():
    text = repr(load_generator(settle(dcgan())))
    assert len(text.splitlines()) == 3
    assert "5 -> 128, float64" in text and "4x4x4 -> 2x8x8, kernel 4x4" in text and "Tanh()" in text


# --- activations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        (Identity(), lambda u: u * 1),
        (ReLU(), F.relu),
        (LeakyReLU(0.3), lambda u: F.leaky_relu(u, 0.3)),
        (Tanh(), torch.tanh),
        (Sigmoid(), torch.sigmoid),
        (PLU(0.1, 0.7), lambda u: torch.where(u.abs() <= 0.7, u, u.sign() * (0.7 + 0.1 * (u.abs() - 0.7)))),
    ],
)
def test_activation_derivative_and_inverse(activation, reference):
    u = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    y = reference(u)
    (slope,) = torch.autograd.grad(y.sum(), u)
    assert torch.allclose(activation(u), y, rtol=RTOL, atol=1e-15)
    assert torch.allclose(activation.derivative(u), slope, rtol=1e-11, atol=1e-15)
    assert as_activation(activation.name).name == activation.name
    if activation != ReLU():
        assert torch.allclose(activation.inverse(activation(u)), u, rtol=1e-11, atol=1e-14)


OWN = (Identity(), ReLU(), LeakyReLU(0.3), Tanh(), Sigmoid(), PLU(0.1, 0.7))


@pytest.mark.parametrize("phi", OWN, ids=repr)
def test_the_facts_of_an_activation_agree_with_its_values(phi: AbstractActivation):
    u = torch.linspace(-5, 5, 401, dtype=torch.float64)
    y, (low, high) = phi(u), phi.range
    assert bool((y >= low).all() & (y <= high).all()) and phi.middle == float(phi(torch.zeros(1).double()))
    assert (phi.slopes is None) == phi.curved
    if phi.slopes is not None:
        assert torch.equal(y, torch.where(u > 0, phi.slopes[1] * u, phi.slopes[0] * u))
        assert (phi.linear, phi.kinked, phi.cuts) == (phi == Identity(), phi != Identity(), phi == ReLU())
        assert phi.leaks == isinstance(phi, LeakyReLU)
    assert phi.invertible == (phi != ReLU())
    around = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64)
    assert phi.invertible == bool(phi.inside(around).any())
    if phi.invertible:
        inside = phi.inside(around)
        assert torch.isfinite(phi.inverse(around[inside])).all() and not torch.isfinite(phi.inverse(around[~inside])).any()
    assert phi.saturates == (float(phi.derivative(torch.tensor(-40.0).double())) < 1e-9 and not phi.cuts)
    if type(phi) in (LeakyReLU, PLU):
        assert type(phi)(*phi.parameters.values()) == phi
    else:
        assert phi.parameters == {}


@pytest.mark.parametrize("phi", OWN, ids=repr)
def test_curvature_bounds_that_of_half_the_squared_misfit(phi: AbstractActivation):
    top, step = torch.tensor([0.0, 0.5, 1.0, 3.0]).double(), 1e-4
    bound = phi.curvature(top)
    assert (bound is None) == (phi == ReLU())
    for t in (top, -top) if bound is not None else ():
        u = torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None] + 1e-5

        def slope(u: Tensor, t: Tensor = t) -> Tensor:
            return phi.derivative(u) * (phi(u) - t)

        smooth = (
            phi.derivative(u - step) == phi.derivative(u + step) if phi.slopes or phi.name == "plu" else slope(u) < torch.inf
        )
        curvature = torch.where(smooth, ((slope(u + step) - slope(u - step)) / (2 * step)).abs(), 0.0)
        assert bool((curvature <= bound * (1 + 1e-6)).all())
        assert bool((curvature.amax(0) >= 0.25 * bound).all()), "the bound is not far off"


def own_activation(**changed: object) -> AbstractActivation:
    """A softplus with some parts replaced."""
    parts = {
        "name": "softplus",
        "range": (0.0, float("inf")),
        "__call__": lambda self, u: F.softplus(u),
        "derivative": lambda self, u: u.sigmoid(),
        "inverse": lambda self, y: y + torch.log(-torch.expm1(-y)),
    }
    return type("Own", (AbstractActivation,), parts | changed)()


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"name": ""}, TypeError, "with a name, got Own without"),
        ({"range": (1.0, 0.0)}, ValueError, r"range of an activation as \(low, high\), got \(1.0, 0.0\) of Own"),
        ({"range": (0.0, 1.0)}, ValueError, r"with values in its range \(0.0, 1.0\), got Own"),
        ({"slopes": (2.0, 1.0)}, ValueError, "with a from 0 to 1, got"),
        ({"slopes": (0.0, 1.0)}, ValueError, r"of the slopes \(0.0, 1.0\) that it has, got Own"),
        ({"derivative": lambda self, u: u.tanh() + 1}, ValueError, "slope of its values as derivative, got Own"),
        ({"inverse": lambda self, y: y}, ValueError, "with the way back as inverse, got Own"),
        ({"__call__": lambda self, u: -u, "derivative": lambda self, u: -(u * 0 + 1)}, ValueError, "nondecreasing"),
        ({"__call__": lambda self, u: u.double()}, ValueError, r"Own.__call__ to give a tensor torch.float32"),
        ({"__call__": lambda self, u: u * torch.ones(3)}, ValueError, "of any shape, got Own, which raised The size"),
        ({"derivative": lambda self, u: 1.0}, ValueError, "Own.derivative to give .*, got float"),
    ],
)  # fmt: skip
def test_an_activation_whose_facts_are_wrong_is_refused_by_name(changed: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        Layer(Dense(torch.eye(2)), torch.zeros(2), own_activation(**changed))


def test_an_activation_of_ones_own_stands_at_the_output():
    phi = own_activation()
    G = Generator((Layer(Dense(latents(4, 3, 0)), latents(1, 4, 1)[0], phi),), (4,), {})
    z = latents(2, 3, 2)
    assert torch.equal(G(z), F.softplus(G.preactivations(z)[-1]))
    assert phi.inside(torch.tensor([-1.0, 0.0, 1e-30, 2.0])).tolist() == [False, False, True, True]
    assert phi.curved and phi.invertible and phi.saturates and phi.curvature(z) is None
    deeper = Generator((*G.layers, Layer(Dense(latents(3, 4, 0)), latents(1, 3, 1)[0], Identity())), (3,), {})
    assert deeper.first_curved == 0 and G.first_curved is None


# --- files ----------------------------------------------------------------------------------------


def assert_same_bits(got: Generator, expected: Generator) -> None:
    assert got.signal_shape == expected.signal_shape and got.depth == expected.depth
    for one, other in zip(got.layers, expected.layers, strict=True):
        assert type(one.W) is type(other.W) and one.activation == other.activation
        assert torch.equal(one.W.matrix(), other.W.matrix()) and torch.equal(one.b, other.b)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODULES)
def test_saved_generator_comes_back_bit_for_bit(name: str, dtype: torch.dtype, tmp_path: Path):
    G = load_generator(settle(MODULES[name][0]()), dtype=dtype)
    save_generator(G, tmp_path / "net.v1")
    back = load_generator(tmp_path / "net.v1", dtype=dtype)
    assert_same_bits(back, G)
    assert torch.equal(back(latents(3, G.latent_dim, dtype=dtype)), G(latents(3, G.latent_dim, dtype=dtype)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.v1.json", "net.v1.safetensors"]


def test_composition_of_matrices_is_not_multiplied_out_by_saving(tmp_path: Path):
    factors = [torch.randn(3, 3, generator=seeded(s)).double() for s in range(3)]
    W = Composition(Composition(Dense(factors[2]), Dense(factors[1])), Dense(factors[0]))
    G = Generator((Layer(W, torch.ones(3).double(), Identity()),), (3,), {})
    save_generator(G, tmp_path / "net")
    assert_same_bits(load_generator(tmp_path / "net"), G)


def test_description_survives_saving(tmp_path: Path):
    described = {
        "name": "tiny",
        "latent": {"distribution": "uniform", "low": 0, "high": 1},
        "source": {"by": "hand"},
    }
    G = load_generator(settle(nn.Linear(3, 5)))
    save_generator(Generator(G.layers, (1, 5, 1), described), tmp_path / "net.json")
    back = load_generator(str(tmp_path / "net.safetensors"))
    assert back.signal_shape == (1, 5, 1)
    assert back.description["name"] == "tiny" and back.description["source"] == {"by": "hand"}
    assert back.description["latent"] == {"distribution": "uniform", "low": 0, "high": 1, "dim": 3}
    save_generator(back, tmp_path / "again")
    assert load_generator(tmp_path / "again").description == back.description


def test_failed_save_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    G = load_generator(settle(nn.Linear(3, 5)))
    save_generator(G, tmp_path / "net")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full_disk(source, target):
        raise OSError("no space left")

    monkeypatch.setattr("cvxinv.files.os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_generator(load_generator(settle(nn.Linear(3, 5), seed=1)), tmp_path / "net")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.generators
@pytest.mark.parametrize("name", NAMES)
def test_trained_generator_agrees_with_its_own_forward_pass(name: str, data_dir: Path, tmp_path: Path):
    forward = forward_module(data_dir)
    spec, tensors = forward.load(name, torch.float64)
    G = load_generator(data_dir / "generators" / name)
    z = G.sample_latent(6, seeded(3))
    x, hidden = forward.forward(spec, tensors, z)
    assert relative(G(z), x.flatten(1)) < RTOL
    for got, expected in zip(G.hidden(z), hidden, strict=True):
        assert relative(got, expected.flatten(1)) < RTOL
    before, _ = forward.forward(spec, tensors, z, stop_before_output_activation=True)
    assert relative(G.linearize(z[:2], before_output=True)[0], before.flatten(1)[:2]) < RTOL
    assert G.signal_shape == tuple(spec["output"]["image_shape"]) and G.description["name"] == name
    save_generator(G, tmp_path / name)
    again = load_generator(tmp_path / name)
    assert torch.equal(again(z), G(z)) and again.description == G.description


def forward_module(data_dir: Path):
    spec = importlib.util.spec_from_file_location("generator_forward", data_dir / "forward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_file_of_the_first_version_is_read(tmp_path: Path):
    # what version 0.1.0 wrote, with every map it had; the values are drawn here
    ops = [
        {"op": "linear", "bias": True},
        {"op": "leaky_relu", "negative_slope": 0.2},
        {"op": "reshape", "shape": [4, 2, 2]},
        {"op": "conv_transpose2d", "bias": False, "stride": [2, 2], "padding": [1, 1], "dilation": [1, 1],
         "output_padding": [1, 1], "groups": 2},
        {"op": "conv2d", "bias": True, "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "output_padding": [0, 0],
         "groups": 1, "composed": True},
        {"op": "tanh"},
    ]  # fmt: skip
    spec = {"format": "cvxinv generator format", "version": 1, "latent": {"dim": 3}, "layers": ops}
    shapes = {"0.weight": (16, 3), "0.bias": (16,), "3.weight": (4, 3, 3, 3), "4.weight": (1, 6, 3, 3), "4.bias": (1, 4, 4)}
    t = {f"layers.{name}": torch.randn(shape, generator=seeded(4)).double() for name, shape in shapes.items()}
    (tmp_path / "old.json").write_text(json.dumps(spec))
    save_file(t, tmp_path / "old.safetensors")
    z = latents(4, 3)
    h = F.leaky_relu(F.linear(z, t["layers.0.weight"], t["layers.0.bias"]), 0.2).reshape(4, 4, 2, 2)
    h = F.conv_transpose2d(h, t["layers.3.weight"], None, 2, 1, 1, 2)
    expected = torch.tanh(F.conv2d(h, t["layers.4.weight"], None, 1, 1) + t["layers.4.bias"])
    assert relative(load_generator(tmp_path / "old")(z), expected.flatten(1)) < RTOL


def test_file_with_upsampling_and_replicate_padding_is_read(tmp_path: Path):
    ops = [
        {"op": "linear"},
        {"op": "relu"},
        {"op": "reshape", "shape": [2, 2, 3]},
        {"op": "upsample_nearest", "scale": [2, 1]},
        {"op": "conv2d", "padding": [2, 1], "padding_mode": "replicate"},
        {"op": "relu"},
        {"op": "upsample_nearest", "scale": 2},
    ]
    t = {
        "layers.0.weight": latents(12, 4),
        "layers.4.weight": latents(3, 18).reshape(3, 2, 3, 3),
        "layers.4.bias": latents(1, 3)[0],
    }
    (tmp_path / "net.json").write_text(json.dumps({"latent": {"dim": 4}, "layers": ops}))
    save_file(t, tmp_path / "net.safetensors")
    z = latents(5, 4, seed=6)
    h = F.interpolate((z @ t["layers.0.weight"].T).relu().reshape(5, 2, 2, 3), scale_factor=(2, 1))
    h = F.conv2d(F.pad(h, (1, 1, 2, 2), mode="replicate"), t["layers.4.weight"], t["layers.4.bias"])
    G = load_generator(tmp_path / "net")
    assert relative(G(z), F.interpolate(h.relu(), scale_factor=2).flatten(1)) < RTOL
    save_generator(G, tmp_path / "again")
    assert_same_bits(load_generator(tmp_path / "again"), G)


# --- labels ---------------------------------------------------------------------------------------


class Beside(nn.Module):
    """Embedding of the label beside the latent; with `first`, in front of it."""

    def __init__(self, first: bool = False):
        super().__init__()
        self.embedding, self.first = nn.Embedding(10, 4), first
        self.net = nn.Sequential(nn.Linear(9, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 7))

    def forward(self, z, labels):
        e = self.embedding(labels)
        return self.net(torch.cat((e, z) if self.first else (z, e), -1))


class Factor(nn.Module):
    def __init__(self):
        super().__init__()
        self.label_emb = nn.Embedding(10, 5)
        self.net = nn.Sequential(nn.Linear(5, 12), nn.LeakyReLU(0.2), nn.Linear(12, 7), nn.Tanh())

    def forward(self, noise, mask=None, labels=None):
        return self.net(torch.mul(self.label_emb(labels), noise))


class OneHot(nn.Module):
    """One-hot numbers through a layer of their own, and the label in front of the latent in the call."""

    def __init__(self):
        super().__init__()
        self.of_label, self.first, self.last = nn.Linear(10, 3), nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, label, z):
        one = F.one_hot(label.long(), 10).to(z.dtype)
        return self.last(F.relu(self.first(torch.cat([z, F.relu(self.of_label(one))], dim=1))))


class LabelPictures(nn.Module):
    """A picture of the label as one more channel, a batch norm with the label's scale and shift."""

    def __init__(self):
        super().__init__()
        self.fc, self.up = nn.Linear(3, 8), nn.ConvTranspose2d(3, 4, 4, 2, 1)
        self.picture, self.gamma, self.beta = (nn.Embedding(10, 4) for _ in range(3))
        self.norm, self.out = nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, z, label):
        h = F.relu(self.fc(z)).view(z.size(0), 2, 2, 2)
        h = self.up(torch.cat([h, self.picture(label).view(label.shape[0], 1, 2, 2)], 1))
        h = self.gamma(label)[:, :, None, None] * self.norm(h) + self.beta(label).unflatten(1, (4, 1, 1))
        return torch.sigmoid(self.out(F.relu(h)))


CONDITIONAL: dict[str, Callable[[], nn.Module]] = {
    "beside": Beside,
    "in front": lambda: Beside(first=True),
    "factor": Factor,
    "one-hot": OneHot,
    "pictures": LabelPictures,
}


@pytest.mark.parametrize("label", [0, 3, 9])
@pytest.mark.parametrize("name", CONDITIONAL)
def test_label_is_folded_in(name: str, label: int, tmp_path: Path):
    module = settle(CONDITIONAL[name]())
    G = load_generator(module, label=label)
    z = latents(6, G.latent_dim)
    labels = torch.full((6,), label)
    given = {"one-hot": (labels, z), "factor": (z, None, labels)}.get(name, (z, labels))
    with torch.no_grad():
        assert relative(G(z), module(*given).flatten(1)) < RTOL
    assert G.description == {"label": label} and f"label {label}" in repr(G)
    save_generator(G, tmp_path / "net")
    assert_same_bits(load_generator(tmp_path / "net"), G)


def test_embedding_beside_the_latent_becomes_a_bias_and_as_factor_scales_the_columns():
    beside, factor = settle(Beside()), settle(Factor())
    G = load_generator(beside, label=2)
    assert isinstance(G.layers[0].W, Dense) and G.layers[0].W.weight.shape == (12, 5)
    weight = (factor.net[0].weight * factor.label_emb.weight[2]).detach()
    assert relative(load_generator(factor, label=2).layers[0].W.matrix(), weight) < RTOL


def embedded(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    ops = [{"op": "concat_label_embedding", "num_classes": 3}, {"op": "linear"}, {"op": "relu"}, {"op": "linear"}]
    shapes = {"0.embedding": (3, 2), "1.weight": (8, 6), "1.bias": (8,), "3.weight": (5, 8)}
    t = {f"layers.{name}": torch.randn(shape, generator=seeded(4)).double() for name, shape in shapes.items()}
    (folder / "net.json").write_text(json.dumps({"latent": {"dim": 4}, "layers": ops}))
    save_file(t, folder / "net.safetensors")
    return folder / "net", t


def test_label_of_a_file_is_folded_in(tmp_path: Path):
    path, t = embedded(tmp_path)
    z = latents(6, 4)
    h = torch.cat([z, t["layers.0.embedding"][[1] * 6]], 1)
    expected = F.linear(F.linear(h, t["layers.1.weight"], t["layers.1.bias"]).relu(), t["layers.3.weight"])
    G = load_generator(path, label=1)
    assert relative(G(z), expected) < RTOL and G.description["label"] == 1 and G.latent_dim == 4


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (None, ValueError, "this generator is conditional, got none; pass label=0 ... label={last}"),
        (-1, ValueError, "got -1; pass label=0 ... label={last}"),
        (10, ValueError, "classes, got 10; pass label=0"),
        (1.0, TypeError, "one integer, got 1.0; pass label=0"),
        (True, TypeError, "one integer, got True"),
        ("3", TypeError, "one integer, got '3'"),
    ],
)
def test_missing_or_wrong_label_is_named(label: object, kind: type[Exception], message: str, tmp_path: Path):
    for source, last in [*((build(), 9) for build in CONDITIONAL.values()), (embedded(tmp_path)[0], 2)]:
        with pytest.raises(kind, match=re.escape(message.format(last=last))):
            load_generator(source if isinstance(source, Path) else source.eval(), label=label)


def test_label_of_a_generator_without_labels_is_refused(tmp_path: Path):
    module = settle(nn.Linear(3, 5))
    G = load_generator(module)
    assert G.description == {} and "label" not in repr(G)
    save_generator(G, tmp_path / "net")
    for source in (module, tmp_path / "net"):
        with pytest.raises(ValueError, match=r"no label, .* got label=3; leave it out"):
            load_generator(source, label=3)


class OneHotInput(nn.Module):
    """Takes the one-hot numbers themselves."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(5, 4)

    def forward(self, z, y):
        return self.net(torch.cat([z, y], 1))


def test_label_that_comes_as_numbers_is_named():
    with pytest.raises(UnsupportedLayerError, match=r"a class label, got the inputs z, y; fix the others with inputs="):
        load_generator(OneHotInput())
    with pytest.raises(ValueError, match=r"got none among .*, with a label of shape \(3,\) as y"):
        load_generator(OneHotInput(), label=1)


class Mixed(Beside):
    """What stands beside the latent is not the label's alone."""

    def forward(self, z, labels):
        e = self.embedding(labels)
        return self.net(torch.cat((z, e + torch.rand_like(e)), 1))


class Attended(Beside):
    def forward(self, z, labels):
        return self.net(torch.cat((z, self.embedding(labels)), 1) - self.embedding(labels).sum())


@pytest.mark.parametrize(
    ("build", "message"),
    [(Mixed, "is drawn anew in each call"), (Attended, "relative difference")],
)
def test_label_in_another_form_is_refused(build: type[nn.Module], message: str):
    with pytest.raises((UnsupportedLayerError, ValueError), match=message):
        load_generator(build().eval(), label=0)


# --- what cannot be read --------------------------------------------------------------------------


class Call(nn.Module):
    """A linear map, `between`, a linear map."""

    def __init__(self, between: Callable):
        super().__init__()
        self.a, self.b, self.between = nn.Linear(2, 4), nn.Linear(4, 4), between

    def forward(self, z):
        return self.b(self.between(self.a(z)))


class Padded(nn.Module):
    def __init__(self, pads: tuple[int, ...]):
        super().__init__()
        self.pads = pads

    def forward(self, u):
        return F.pad(u, self.pads)


class TwoInputs(nn.Module):
    def forward(self, z, label):
        return z + label


def branching(u):
    return u if u.sum() > 0 else -u


def unfit(part: nn.Module, **values) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 4), part, nn.Linear(4, 3))
    for name, value in values.items():
        getattr(net[0], name).data.fill_(value)
    return net.eval()


def training(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), part, nn.Linear(4, 3)).train()


def pictures(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(2, 4, 3), nn.ReLU(), part).eval()


BAD_MODULES: dict[str, tuple[Callable[[], nn.Module], type[Exception], str]] = {
    "softmax": (lambda: unfit(nn.Softmax(1)), UnsupportedLayerError, r"a softmax at the output.*pass opaque=True"),
    "nested": (
        lambda: nn.ModuleDict({"net": unfit(nn.GroupNorm(2, 4))})["net"],
        UnsupportedLayerError,
        r"got 1 \(GroupNorm\); pass opaque=True",
    ),
    "path": (
        lambda: nn.Sequential(nn.Linear(2, 4), unfit(nn.Hardshrink())[1:]),
        UnsupportedLayerError,
        r"1\.1 \(Hardshrink\)",
    ),
    "layer norm": (lambda: unfit(nn.LayerNorm(4)), UnsupportedLayerError, r"1 \(LayerNorm\)"),
    "slope": (lambda: unfit(nn.LeakyReLU(1.5)), UnsupportedLayerError, r"1 \(LeakyReLU\) with negative_slope 1\.5"),
    "function": (lambda: Call(torch.erf), UnsupportedLayerError, r"forward \(erf\)"),
    "skip": (
        lambda: Call(lambda u: u + F.relu(u)),
        UnsupportedLayerError,
        r"skip connection at forward \(add\)",
    ),
    "noise": (lambda: Call(lambda u: u + torch.randn(4)), UnsupportedLayerError, r"a tensor of its own.*noise"),
    "control flow": (lambda: Call(branching), UnsupportedLayerError, "control flow"),
    "two outputs": (lambda: Call(lambda u: (u, u)), ValueError, "must be Tensor, not tuple"),
    "two inputs": (TwoInputs, UnsupportedLayerError, "inputs z, label"),
    "nothing": (lambda: nn.Sequential(nn.Flatten()), ValueError, "pass latent_dim"),
    "latents mixed": (
        lambda: Call(lambda u: u - u.flip(0)),
        UnsupportedLayerError,
        r"skip connection at forward \(sub\)",
    ),
    "latents turned round": (
        lambda: Call(lambda u: u.flip(0)),
        UnsupportedLayerError,
        "no axis counts the latents",
    ),
    "norm in training": (
        lambda: training(nn.BatchNorm1d(4)),
        ValueError,
        r"1 \(BatchNorm1d\) in training.*\.eval\(\)",
    ),
    "dropout in training": (
        lambda: training(nn.Dropout()),
        ValueError,
        r"1 \(Dropout\) in training.*\.eval\(\)",
    ),
    "functional dropout": (lambda: Call(F.dropout), ValueError, r"forward \(dropout\) with training=True"),
    "no statistics": (
        lambda: unfit(nn.BatchNorm1d(4, track_running_stats=False)),
        ValueError,
        r"running statistics, got none in 1 \(BatchNorm1d\)",
    ),
    "nan": (
        lambda: unfit(nn.ReLU(), weight=float("nan")),
        ValueError,
        r"NaN or infinite entries in 0\.weight",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)).eval(), ValueError, r"lazy 0\.weight"),
    "sizes": (lambda: nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(5, 3)), ValueError, "do not meet"),
}


@pytest.mark.parametrize("name", BAD_MODULES)
def test_unreadable_module_is_named(name: str):
    build, kind, message = BAD_MODULES[name]
    with pytest.raises(kind, match=message):
        load_generator(build().eval() if "training" not in name else build())


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    module = nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 1, 2), nn.LeakyReLU(0.1)
    )
    save_generator(load_generator(settle(module)), tmp_path / "net")
    return tmp_path / "net"


def rewrite(pair: Path, change: Callable[[dict, dict[str, Tensor]], None]) -> None:
    spec = json.loads(pair.with_suffix(".json").read_text())
    tensors = load_file(pair.with_suffix(".safetensors"))
    spec.pop("sha256", None)
    change(spec, tensors)
    pair.with_suffix(".json").write_text(json.dumps(spec))
    save_file(tensors, pair.with_suffix(".safetensors"))


def op(index: int, **values) -> Callable:
    return lambda spec, tensors: spec["layers"][index].update(values)


def tensor(name: str, change: Callable[[Tensor], Tensor]) -> Callable:
    return lambda spec, tensors: tensors.update({name: change(tensors[name])})


BAD_FILES: dict[str, tuple[Callable, type[Exception], str]] = {
    "unknown op": (
        op(1, op="glu"),
        UnsupportedLayerError,
        r"layer 1 \(glu\) of .*net\.json, which is unknown",
    ),
    "no embedding": (
        op(1, op="concat_label_embedding"),
        ValueError,
        r"a tensor layers\.1\.embedding in layer 1 \(concat_label_embedding\)",
    ),
    "no scale": (op(4, op="upsample_nearest"), ValueError, r"scale as one integer >= 1 or two in layer 4.*got None"),
    "flat upsampling": (op(1, op="upsample_nearest", scale=2), ValueError, r"\(channels, height, width\) in layer 1"),
    "no rows": (op(4, op="resample2d"), ValueError, r"layers\.4\.rows in layer 4 \(resample2d\)"),
    "rows": (
        lambda s, t: (
            s["layers"][4].update(op="resample2d"),
            t.update({"layers.4.rows": torch.ones(4, 3), "layers.4.columns": torch.ones(4, 2)}),
        ),
        ValueError,
        r"for pictures of \[2, 2\] in layer 4 .*got \(4, 3\) and \(4, 2\)",
    ),
    "replicate": (op(3, padding_mode="replicate"), UnsupportedLayerError, r"'replicate' in layer 3"),
    "hidden softmax": (op(1, op="softmax", axis=0), UnsupportedLayerError, r"softmax at the output, got one before"),
    "softmax axis": (
        op(1, op="softmax", axis=1),
        ValueError,
        r"an axis of the signal's shape \(4,\) in layer 1 \(softmax\)",
    ),
    "gelu": (op(1, op="gelu", approximate="erf"), ValueError, r"a GELU approximate of 'none' or 'tanh' in layer 1"),
    "missing weight": (
        lambda s, t: t.pop("layers.0.weight"),
        ValueError,
        r"a tensor layers\.0\.weight in layer 0 \(linear\) of .*net\.json, got none",
    ),
    "missing bias": (lambda s, t: t.pop("layers.0.bias"), ValueError, r"a tensor layers\.0\.bias"),
    "extra tensor": (
        lambda s, t: t.update({"layers.9.weight": torch.ones(1)}),
        ValueError,
        r"also layers\.9\.weight",
    ),
    "wide weight": (
        tensor("layers.0.weight", lambda t: torch.ones(4, 3)),
        ValueError,
        r"\(out, 2\).*got \(4, 3\)",
    ),
    "long bias": (tensor("layers.0.bias", lambda t: torch.ones(5)), ValueError, r"shape \(4,\).*got \(5,\)"),
    "axes": (tensor("layers.3.weight", lambda t: torch.ones(4, 2)), ValueError, r"of 4 axes in layer 3"),
    "integers": (tensor("layers.0.bias", lambda t: torch.ones(4).int()), ValueError, r"torch\.int32"),
    "nan": (
        tensor("layers.3.weight", lambda t: t * float("nan")),
        ValueError,
        r"finite entries in layers\.3\.weight",
    ),
    "channels": (
        op(2, shape=[1, 2, 2]),
        ValueError,
        r"a weight for 1 channels in layer 3 \(conv_transpose2d\)",
    ),
    "reshape": (
        op(2, shape=[5, 1, 1]),
        ValueError,
        r"a shape of 4 numbers in layer 2 \(reshape\).*\[5, 1, 1\]",
    ),
    "flat picture": (op(2, shape=[4]), ValueError, r"\(channels, height, width\) in layer 3"),
    "stride": (op(3, stride="two"), ValueError, r"stride as an integer or two in layer 3"),
    "padding": (op(3, padding=[9, 9]), ValueError, r"that fit the weight in layer 3"),
    "slope": (
        op(4, negative_slope=2),
        ValueError,
        r"negative_slope in \[0, 1\) in layer 4 \(leaky_relu\).*got 2",
    ),
    "no slope": (op(4, negative_slope=None), ValueError, r"a finite number 'negative_slope' in layer 4"),
    "norm": (
        op(1, op="batch_norm1d", eps=1e-5),
        ValueError,
        r"layers\.1\.running_mean in layer 1 \(batch_norm1d\)",
    ),
    "no latent": (lambda s, t: s.pop("latent"), ValueError, r'"latent": \{"dim": n0\}.*net\.json, got None'),
    "no layers": (lambda s, t: s.pop("layers"), ValueError, r"a list 'layers'"),
    "version": (lambda s, t: s.update(version=2), ValueError, r"version 1 .*got 2; update"),
    "picture": (
        lambda s, t: s["output"].update(image_shape=[3, 3]),
        ValueError,
        r"of 4 numbers .*got \[3, 3\]",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_wrong_file_is_named(name: str, pair: Path):
    change, kind, message = BAD_FILES[name]
    rewrite(pair, change)
    with pytest.raises(kind, match=message):
        load_generator(pair)


def test_rewritten_pair_without_a_fault_is_read(pair: Path):
    rewrite(pair, lambda spec, tensors: spec["layers"].append({"op": "identity"}))
    assert load_generator(pair).layers[-1].activation == LeakyReLU(0.1)


def test_plu_output_is_read_from_a_file(pair: Path):
    rewrite(pair, op(4, op="plu", a=0.2, c=0.5))
    assert load_generator(pair).layers[-1].activation == PLU(0.2, 0.5)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_missing_truncated_and_foreign_files_are_named(suffix: str, pair: Path):
    path = pair.with_suffix(suffix)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"net\{suffix}.*(damaged|truncated)"):
        load_generator(pair)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"got no {path}")):
        load_generator(pair)


def test_truncated_weights_without_checksum_are_named(pair: Path):
    rewrite(pair, lambda spec, tensors: None)
    path = pair.with_suffix(".safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"a safetensors file, got .* in .*net\.safetensors"):
        load_generator(pair)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"source": {"0.weight": torch.ones(2, 2)}}, TypeError, "not its state_dict"),
        ({"source": "net.pth"}, ValueError, "a pickle"),
        (
            {"source": nn.Linear(2, 3), "dtype": torch.float16},
            ValueError,
            r"torch's float32 or float64, got torch\.float16",
        ),
        ({"source": nn.Linear(2, 3), "output": "softmax"}, ValueError, "'softmax'"),
        ({"source": nn.Linear(2, 3), "output": "leaky_relu:2"}, ValueError, "'leaky_relu:2'"),
        ({"source": nn.Linear(2, 3), "output": 0.1}, TypeError, "got float"),
        ({"source": nn.Linear(2, 3), "latent_dim": 5}, ValueError, "latent_dim"),
    ],
)
def test_wrong_argument_is_named(arguments: dict, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        load_generator(**arguments)


def test_latent_dim_that_disagrees_with_the_file_is_named(pair: Path):
    with pytest.raises(ValueError, match=r"latent_dim=2 .* got 7"):
        load_generator(pair, latent_dim=7)


def layer(m: int, n: int, activation=None, dtype: torch.dtype = torch.float64, value: float = 1.0) -> Layer:
    return Layer(Dense(torch.full((m, n), value, dtype=dtype)), torch.zeros(m, dtype=dtype), activation or ReLU())


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ((), (1,), "at least one layer"),
        ((layer(3, 2), layer(4, 5)), (4,), r"layers\[1\]\.W to take 3 numbers.*takes 5"),
        ((layer(3, 2, Identity()), layer(4, 3)), (4,), r"hidden layers\[0\], .*got Identity\(\)"),
        ((layer(3, 2), layer(4, 3, dtype=torch.float32)), (4,), r"layers\[1\]\.W in torch\.float64"),
        (
            (layer(3, 2), layer(4, 3, value=float("inf"))),
            (4,),
            r"12 NaN or infinite entries in layers\[1\]\.W",
        ),
        ((layer(3, 2),), (4,), r"signal_shape of 3 numbers, got \(4,\)"),
        (
            (Layer(Dense(torch.ones(3, 2)), torch.ones(1), ReLU()),),
            (3,),
            r"layers\[0\]\.b of shape \(3,\), got \(1,\)",
        ),
        (
            (
                Layer(
                    Composition(Conv2d(torch.ones(1, 1, 1, 1), (1, 1, 1)), Dense(torch.ones(1, 2) / 0)),
                    torch.ones(1),
                    ReLU(),
                ),
            ),
            (1,),
            r"layers\[0\]\.W",
        ),
    ],
)
def test_wrong_generator_is_refused(layers: tuple[Layer, ...], shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        Generator(layers, shape, {})


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(3, 4).double(), r"shape \(N, 2\) or \(2,\), got \(3, 4\)"),
        (torch.zeros(1, 1, 2).double(), r"got \(1, 1, 2\)"),
        (torch.zeros(3, 2), r"torch\.float64 on cpu, got torch\.float32"),
    ],
)
def test_wrong_latent_is_refused(z: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        load_generator(nn.Linear(2, 3))(z)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LeakyReLU(0.0), "got 0.0; for 0 use ReLU"),
        (lambda: LeakyReLU(1.0), r"in \(0, 1\), got 1.0"),
        (lambda: PLU(1.0), "got 1.0; for 1 use Identity"),
        (lambda: PLU(0.1, 0.0), "c > 0, got 0.0"),
        (lambda: ReLU().inverse(torch.ones(1)), "with a layer problem"),
    ],
)
def test_wrong_activation_is_refused(build: Callable, message: str):
    with pytest.raises(ValueError, match=message):
        build()


class Autoencoder(nn.Module):
    """A whole autoencoder: its forward pass gives two tensors, or a dict of them; `decode` the signal."""

    def __init__(self, keys: bool) -> None:
        super().__init__()
        self.decoder, self.keys = nn.Linear(4, 9), keys

    def forward(self, z: torch.Tensor) -> object:
        x = self.decode(z)
        return {"mean": x, "size": x.norm(dim=1)} if self.keys else (x, x.norm(dim=1))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self.decoder(z)


@pytest.mark.parametrize("opaque", [False, True])
def test_a_cure_picks_the_signal_by_its_key_and_names_a_method_that_is_one(opaque: bool):
    net = Autoencoder(keys=True).eval()
    with pytest.raises(UnsupportedLayerError, match=r"lambda z: net\(z\)\['mean'\]") as refused:
        load_generator(net, opaque=opaque, latent_dim=4)
    assert load_generator(lambda z: net(z)["mean"], opaque=opaque, latent_dim=4).signal_dim == 9
    if not opaque:
        assert "method='decode'" in str(refused.value) and load_generator(net, method="decode").signal_dim == 9
        with pytest.raises(UnsupportedLayerError, match=r"lambda z: net\(z\)\[0\]"):
            load_generator(Autoencoder(keys=False).eval())
