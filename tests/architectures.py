"""Generators as people write them: one small torch module for each kind of network and of wrapper, and what becomes of it.

A row of `TABLE` is "read" (a chain of maps and activations), "opaque" (values and derivatives through torch alone) or
"refused" with words of the cure. `exported` tells whether the network can be written as an ONNX file and read from there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from cvxinv.generator.activations import PLUModule


@dataclass(frozen=True)
class Row:
    """`build` makes the network, `shape` is that of one latent; `options` are those of `load_generator`.

    `call` is how the network itself is called on latents, where that is not `net(z)`; `source` what is given to
    `load_generator`, where that is not the network. `single`: its code asks for float32, so that it runs in nothing else.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    outcome: str = "read"
    words: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    call: Callable[[nn.Module, Tensor], Tensor] | None = None
    source: Callable[[nn.Module], Any] | None = None
    exported: bool = True
    single: bool = False

    def value(self, net: nn.Module, z: Tensor) -> Tensor:
        """The signals of latents (N, *shape)."""
        return net(z) if self.call is None else self.call(net, z)


def ready(net: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with statistics as training leaves them."""
    draw = torch.Generator().manual_seed(seed)
    for part in net.modules():
        for name in ("running_mean", "running_var"):
            value = getattr(part, name, None)
            if isinstance(value, Tensor):
                value.copy_(torch.rand(value.shape, generator=draw) + 0.2)
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and part.weight is not None:
            part.weight.data = torch.rand(part.weight.shape, generator=draw) + 0.5
            part.bias.data = torch.randn(part.bias.shape, generator=draw) * 0.1
    return net.eval()


class Module(nn.Module):
    """A forward pass from a function of the module and its latents."""

    def __init__(self, forward: Callable[..., Any], **parts: Any):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, z):
        return self.function(self, z)


def dense(*sizes: int, last: nn.Module | None = None, between: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with activations between."""
    parts: list[nn.Module] = []
    for n, m in pairwise(sizes):
        parts += [nn.Linear(n, m), between()]
    return nn.Sequential(*parts[:-1], *([] if last is None else [last]))


def after(step: Callable[[Tensor], Tensor], *sizes: int, **options: Any) -> nn.Module:
    """A dense network and a last step."""
    return Module(lambda m, z: step(m.net(z)), net=dense(*(sizes or (4, 16, 24)), **options))


def before(step: Callable[[Tensor], Tensor], *sizes: int) -> nn.Module:
    """A first step and a dense network."""
    return Module(lambda m, z: m.net(step(z)), net=dense(*(sizes or (4, 16, 24))))


def between(step: Callable[[Tensor], Tensor], n: int = 12, after: int | None = None) -> nn.Module:
    """A step between two linear maps."""
    return Module(lambda m, z: m.b(step(m.a(z))), a=nn.Linear(4, n), b=nn.Linear(after or n, 9))


def picture(*parts: nn.Module, channels: int = 4, height: int = 3, width: int = 4) -> nn.Sequential:
    """A dense layer, a picture of (channels, height, width), then `parts`."""
    first = nn.Linear(5, channels * height * width)
    return nn.Sequential(first, nn.ReLU(), nn.Unflatten(1, (channels, height, width)), *parts)


def line(*parts: nn.Module, channels: int = 4, length: int = 6) -> nn.Sequential:
    """A dense layer, a line of (channels, length), then `parts`."""
    return nn.Sequential(nn.Linear(5, channels * length), nn.ReLU(), nn.Unflatten(1, (channels, length)), *parts)


# --- networks -------------------------------------------------------------------------------------


def dcgan(side: int, latent: int = 6, width: int = 2) -> nn.Sequential:
    """Transposed convolutions with batch norms, after the DCGAN tutorial of PyTorch."""
    parts: list[nn.Module] = [
        nn.ConvTranspose2d(latent, width * 4, 4, 1, 0, bias=False),
        nn.BatchNorm2d(width * 4),
        nn.ReLU(True),
    ]
    channels, size = width * 4, 4
    while size < side // 2:
        pad = 2 if side == 28 and size == 4 else 1
        parts += [
            nn.ConvTranspose2d(channels, channels // 2, 4, 2, pad, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(True),
        ]
        channels, size = max(1, channels // 2), size * 2 - 2 * (pad - 1)
        if side == 28 and size == 6:
            parts += [nn.ConvTranspose2d(channels, channels, 2, 1, 0), nn.ReLU(True)]
            size = 7
    return nn.Sequential(*parts, nn.ConvTranspose2d(channels, 1, 4, 2, 1, bias=False), nn.Tanh())


class CroppedDecoder(nn.Module):
    """A VAE decoder to 32 x 32 that is cropped to 28 x 28."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 4 * 4 * 4)
        self.up1, self.up2 = nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.ConvTranspose2d(4, 2, 4, 2, 1)
        self.out = nn.ConvTranspose2d(2, 1, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.fc(z)).view(-1, 4, 4, 4)
        return torch.sigmoid(self.out(F.relu(self.up2(F.relu(self.up1(h))))))[:, :, 2:-2, 2:30]


class Vae(nn.Module):
    """An autoencoder: what is inverted is its method `decode`."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(30, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.fc3, self.fc4 = nn.Linear(4, 16), nn.Linear(16, 30)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 30))
        return self.decode(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


class WganGp(nn.Module):
    """A dense layer, a picture, transposed convolutions with crops between, after public WGAN-GP code for digits."""

    def __init__(self):
        super().__init__()
        self.preprocess = nn.Sequential(nn.Linear(6, 4 * 4 * 4), nn.ReLU(True))
        self.block1 = nn.Sequential(nn.ConvTranspose2d(4, 4, 5), nn.ReLU(True))
        self.block2 = nn.Sequential(nn.ConvTranspose2d(4, 2, 5), nn.ReLU(True))
        self.deconv_out, self.sigmoid = nn.ConvTranspose2d(2, 1, 8, stride=2), nn.Sigmoid()

    def forward(self, input):
        output = self.preprocess(input).view(-1, 4, 4, 4)
        output = self.block1(output)[:, :, :7, :7]
        output = self.sigmoid(self.deconv_out(self.block2(output)))
        return output.view(-1, output.size(2) * output.size(3))


class ConditionalGan(nn.Module):
    """An embedding of the class beside the latent."""

    def __init__(self):
        super().__init__()
        self.label_emb = nn.Embedding(10, 10)
        self.model = nn.Sequential(nn.Linear(15, 16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 20), nn.Tanh())

    def forward(self, noise, labels):
        return self.model(torch.cat((self.label_emb(labels), noise), -1)).view(noise.size(0), 1, 4, 5)


class OneHotGan(nn.Module):
    """One-hot numbers come from outside."""

    def __init__(self):
        super().__init__()
        self.net = dense(9, 16, 20, last=nn.Sigmoid())

    def forward(self, z, c):
        return self.net(torch.cat([z, c], 1))


class ConditionalDcgan(nn.Module):
    """Latent and one-hot label go through transposed convolutions of their own first."""

    def __init__(self):
        super().__init__()
        self.of_latent, self.of_label = nn.ConvTranspose2d(5, 4, 4), nn.ConvTranspose2d(10, 4, 4)
        self.norm, self.out = nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 1, 4, 2, 1)

    def forward(self, z, label):
        one = F.one_hot(label, 10).float()[:, :, None, None]
        h = torch.cat([F.relu(self.of_latent(z.view(-1, 5, 1, 1))), F.relu(self.of_label(one))], 1)
        return torch.tanh(self.out(F.relu(self.norm(h))))


class EqualisedLinear(nn.Module):
    """A weight that is scaled at run time."""

    def __init__(self, n: int, m: int, gain: float = 2**0.5):
        super().__init__()
        self.weight, self.bias, self.scale = nn.Parameter(torch.randn(m, n)), nn.Parameter(torch.zeros(m)), gain / n**0.5

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias)


class EqualisedConv(nn.Module):
    def __init__(self, n: int, m: int, k: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(m, n, k, k)), nn.Parameter(torch.randn(m))
        self.scale, self.padding = (2 / (n * k * k)) ** 0.5, k // 2

    def forward(self, x):
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class ProgressiveGan(nn.Module):
    """Equalised learning rates and nearest upsampling, without the norm of each pixel."""

    def __init__(self, normed: bool = False):
        super().__init__()
        self.first, self.normed = EqualisedLinear(6, 4 * 16), normed
        self.blocks = nn.ModuleList([EqualisedConv(4, 4, 3), EqualisedConv(4, 2, 3)])
        self.to_rgb = EqualisedConv(2, 3, 1)

    def forward(self, z):
        h = F.leaky_relu(self.first(z).view(-1, 4, 4, 4), 0.2)
        for block in self.blocks:
            h = F.leaky_relu(block(F.interpolate(h, scale_factor=2, mode="nearest")), 0.2)
            if self.normed:
                h = h * torch.rsqrt(h.pow(2).mean(1, keepdim=True) + 1e-8)
        return self.to_rgb(h)


class Checked(nn.Module):
    """Looks at shapes, types and modes, prints and asserts."""

    def __init__(self):
        super().__init__()
        self.n, self.net = 5, nn.ModuleList([nn.ConvTranspose2d(5, 4, 4), nn.ConvTranspose2d(4, 1, 4, 2, 1)])

    def forward(self, z):
        if not isinstance(z, torch.Tensor) or not torch.is_tensor(z):
            raise TypeError("no tensor")
        if z.dim() == 2:
            z = z[:, :, None, None]
        assert z.shape[1] == self.n, f"expected {self.n}"
        assert len(z) > 0 and z.size(0) == z.shape[0]
        for i, layer in enumerate(self.net):
            z = layer(z.to(self.net[0].weight.device).type_as(z).float())
            z = F.dropout(torch.relu(z), 0.5, self.training) if i == 0 else z
        if self.training:
            z = z + 0.1 * torch.randn_like(z)
        return z.squeeze(1).clamp(-1, 1)


class VoxelGan(nn.Module):
    """Transposed convolutions of volumes, after 3D-GAN."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose3d(5, 4, 3, bias=False),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.ConvTranspose3d(4, 1, 4, 2, 1),
            nn.Sigmoid(),
        )

    def forward(self, z):
        return self.layers(z.view(-1, 5, 1, 1, 1)).squeeze(1)


class WaveGan(nn.Module):
    """A dense layer and transposed convolutions of lines."""

    def __init__(self):
        super().__init__()
        self.fc, self.a, self.b = (
            nn.Linear(5, 24),
            nn.ConvTranspose1d(6, 4, 5, 2, 2, 1),
            nn.ConvTranspose1d(4, 1, 5, 2, 2, 1),
        )

    def forward(self, z):
        h = F.relu(self.fc(z).view(-1, 6, 4))
        return torch.tanh(self.b(F.relu(self.a(h))))


class SpatialBroadcast(nn.Module):
    """The latent on every pixel, beside its coordinates."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        x, y = torch.meshgrid(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 6), indexing="ij")
        self.register_buffer("grid", torch.stack([x, y])[None])

    def forward(self, z):
        N = z.shape[0]
        h = torch.cat([z.view(N, -1, 1, 1).expand(-1, -1, 5, 6), self.grid.expand(N, -1, -1, -1)], dim=1)
        return self.b(F.relu(self.a(h)))


class ModulatedConv(nn.Module):
    """A layer whose weights come of the latent, after StyleGAN2."""

    def __init__(self):
        super().__init__()
        self.constant, self.weight = nn.Parameter(torch.randn(1, 4, 4, 4)), nn.Parameter(torch.randn(1, 3, 4, 3, 3))
        self.style = nn.Linear(5, 4)

    def forward(self, z):
        N = len(z)
        w = self.weight * self.style(z).view(N, 1, 4, 1, 1)
        w = w * torch.rsqrt(w.square().sum([2, 3, 4], keepdim=True) + 1e-8)
        h = self.constant.expand(N, -1, -1, -1).reshape(1, N * 4, 4, 4)
        return F.conv2d(h, w.reshape(N * 3, 4, 3, 3), padding=1, groups=N).reshape(N, 3, 4, 4)


class ResidualBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return F.relu(x + self.b(F.relu(self.a(x))))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up, self.out = (
            nn.Conv2d(2, 4, 4, 2, 1),
            nn.ConvTranspose2d(4, 2, 4, 2, 1),
            nn.Conv2d(4, 1, 3, padding=1),
        )

    def forward(self, z):
        x = z.view(-1, 2, 4, 4)
        return self.out(torch.cat([x, F.relu(self.up(F.relu(self.down(x))))], 1))


class Coupling(nn.Module):
    """One affine coupling of a flow."""

    def __init__(self):
        super().__init__()
        self.net = dense(3, 8, 6)

    def forward(self, z):
        left, right = z.chunk(2, 1)
        s, t = self.net(left).chunk(2, 1)
        return torch.cat([left, right * torch.exp(torch.tanh(s)) + t], 1)


class Mixer(nn.Module):
    """Patches and channels in turn, with skips and layer norms."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.mix = nn.Linear(5, 24), nn.LayerNorm(4), nn.Linear(6, 6)

    def forward(self, z):
        h = self.first(z).view(-1, 6, 4)
        return h + F.gelu(self.mix(self.norm(h).transpose(1, 2))).transpose(1, 2)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, z):
        h, _ = self.rnn(z.unsqueeze(1).repeat(1, 4, 1))
        return self.out(h)


class OwnWeights(nn.Module):
    """Products with parameters of its own, as they are written by hand."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(4, 12) / 2), nn.Parameter(torch.randn(12))
        self.w2, self.b2 = nn.Parameter(torch.randn(9, 12) / 3), nn.Parameter(torch.randn(9))

    def forward(self, z):
        h = torch.relu(z @ self.w1 + self.b1)
        return torch.addmm(self.b2, h, self.w2.t())


class Keyed(nn.Module):
    """Mixture of fixed parts: chosen rows of tables, conditions as buffers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("condition", torch.tensor([0.0, 1.0, 0.0]))
        self.table, self.net = nn.Embedding(3, 2), dense(9, 12, 8)

    def forward(self, z):
        fixed = self.table(torch.full((z.size(0),), 2, dtype=torch.long))
        return self.net(torch.cat([z, self.condition.expand(z.size(0), -1), fixed], dim=1))


def tuple_output() -> nn.Module:
    return Module(lambda m, z: (m.a(z), m.b(z)), a=dense(4, 8, 6), b=nn.Linear(4, 2))


def hooked() -> nn.Module:
    net = dense(4, 12, 9)
    net[0].register_forward_hook(lambda module, args, out: out * 0.5)
    return net


def in_place(m: Module, z: Tensor) -> Tensor:
    h = m.a(z)
    h *= 2
    h += m.shift
    h.relu_()
    x = m.b(h).sigmoid_() * 255
    x.sub_(3)
    return x


def deep(kind: Callable[..., Any]) -> nn.Module:
    """Weights that are normed before each call."""
    return nn.Sequential(kind(nn.Linear(4, 12)), nn.ReLU(), kind(nn.Linear(12, 9)))


def wrapped(net: nn.Module) -> nn.Module:
    return nn.DataParallel(net)


def compiled(net: nn.Module) -> nn.Module:
    return torch.compile(net)


ONE_HOT = torch.eye(5)[2]
MEAN, STD = torch.tensor([0.2, 0.3, 0.4]), torch.tensor([0.5, 0.6, 0.7])


TABLE: dict[str, Row] = {
    # dense ones, and how they end
    "dense": Row(lambda: dense(4, 16, 24), (4,)),
    "dense, sigmoid": Row(lambda: dense(4, 16, 24, last=nn.Sigmoid()), (4,)),
    "dense, plu": Row(lambda: dense(4, 16, 24, last=PLUModule(0.2, 0.5)), (4,), exported=False),
    "tanh to [0, 1]": Row(lambda: after(lambda x: (torch.tanh(x) + 1) / 2), (4,)),
    "sigmoid to 255": Row(lambda: after(lambda x: x.sigmoid() * 255), (4,)),
    "normalised as MNIST": Row(lambda: after(lambda x: x * 0.3081 + 0.1307), (4,)),
    "denormalised by buffers": Row(
        lambda: Module(
            lambda m, z: torch.sigmoid(m.net(z)).view(-1, 3, 2, 4).sub(m.mean.view(1, 3, 1, 1)).div(m.std.view(1, 3, 1, 1)),
            net=dense(4, 16, 24),
            mean=MEAN,
            std=STD,
        ),
        (4,),
    ),
    "clamped to a range": Row(lambda: after(lambda x: x.clamp(-1, 1)), (4,)),
    "hardtanh": Row(lambda: dense(4, 16, 24, last=nn.Hardtanh(-0.5, 0.8)), (4,)),
    "relu at the output": Row(lambda: after(torch.relu), (4,)),
    "softmax": Row(lambda: dense(4, 16, 10, last=nn.Softmax(1)), (4,)),
    "softmax per pixel": Row(lambda: picture(nn.Conv2d(4, 3, 1), nn.Softmax(dim=1)), (5,)),
    "softmax per group": Row(lambda: after(lambda x: x.view(-1, 6, 4).softmax(-1)), (4,)),
    "flipped and rolled": Row(lambda: after(lambda x: torch.roll(x.view(-1, 4, 6).flip(2), 1, 1)), (4,)),
    "channels last": Row(lambda: picture(nn.Conv2d(4, 2, 3), Module(lambda m, x: x.permute(0, 2, 3, 1).contiguous())), (5,)),
    "resized after the activation": Row(
        lambda: picture(nn.Conv2d(4, 1, 3, padding=1), nn.Tanh(), nn.Upsample(scale_factor=2, mode="bilinear")), (5,)
    ),
    "nearest after the activation": Row(
        lambda: picture(nn.Conv2d(4, 1, 3), nn.Sigmoid(), nn.Upsample(scale_factor=3)), (5,)
    ),
    "padded after the activation": Row(lambda: picture(nn.Conv2d(4, 1, 3), nn.Sigmoid(), nn.ZeroPad2d(2)), (5,)),
    "first step 2 z - 1": Row(lambda: before(lambda z: 2 * z - 1), (4,)),
    "latent as a volume": Row(
        lambda: before(lambda z: z.reshape(len(z), -1)), (2, 2, 1), options={"latent_dim": 4}, exported=False
    ),
    # activations
    **{
        f"hidden {kind.__name__}": Row(partial(dense, 4, 12, 9, between=kind), (4,))
        for kind in (nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Softsign, nn.Mish)
    },
    **{f"hidden {kind.__name__}": Row(partial(dense, 4, 12, 9, between=kind), (4,)) for kind in (nn.LeakyReLU, nn.PReLU)},
    **{f"hidden {kind.__name__}": Row(partial(dense, 4, 12, 9, between=kind), (4,)) for kind in (nn.ReLU6, nn.Hardtanh)},
    "prelu per channel": Row(lambda: picture(nn.Conv2d(4, 6, 3), nn.PReLU(6), nn.Flatten(), nn.Linear(12, 20)), (5,)),
    "functional activations": Row(
        lambda: between(lambda h: F.gelu(F.softplus(F.elu(F.silu(h), 0.7)), approximate="tanh")), (4,)
    ),
    "x sigmoid(x)": Row(lambda: between(lambda h: h * torch.sigmoid(h)), (4,)),
    "clamp(min=0)": Row(lambda: between(lambda h: h.clamp(min=0)), (4,)),
    "maximum with 0": Row(lambda: between(lambda h: torch.maximum(h, torch.zeros(1, dtype=h.dtype))), (4,)),
    "threshold": Row(lambda: between(lambda h: F.threshold(h, 0, 0)), (4,)),
    "in place": Row(lambda: Module(in_place, a=nn.Linear(4, 12), b=nn.Linear(12, 9), shift=torch.linspace(-1, 1, 12)), (4,)),
    # weights
    "own weights": Row(OwnWeights, (4,)),
    "equalised learning rates": Row(ProgressiveGan, (6,)),
    "weight norm, old": Row(lambda: deep(torch.nn.utils.weight_norm), (4,), exported=False),
    "weight norm": Row(lambda: deep(parametrizations.weight_norm), (4,), exported=False),
    "spectral norm, old": Row(lambda: deep(spectral_norm), (4,), exported=False),
    "spectral norm": Row(lambda: deep(parametrizations.spectral_norm), (4,), exported=False),
    "batch norms of lines": Row(
        lambda: line(nn.ConvTranspose1d(4, 3, 4, 2, 1), nn.BatchNorm1d(3), nn.ReLU(), nn.Conv1d(3, 1, 3)), (5,)
    ),
    "instance norm with statistics": Row(
        lambda: picture(nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.ReLU(), nn.Conv2d(4, 2, 3)), (5,)
    ),
    "rowwise linear": Row(lambda: line(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 7)), (5,)),
    "einsum": Row(
        lambda: Module(
            lambda m, z: torch.einsum("ncl,cd->nld", F.relu(m.a(z)).view(-1, 3, 4), m.w),
            a=nn.Linear(4, 12),
            w=nn.Parameter(torch.randn(3, 5)),
        ),
        (4,),
    ),
    "hooks": Row(hooked, (4,)),
    # pictures, lines, volumes
    "dcgan 28": Row(lambda: dcgan(28), (6, 1, 1)),
    "dcgan 32": Row(lambda: dcgan(32), (6, 1, 1)),
    "dcgan 64": Row(lambda: dcgan(64, width=4), (6, 1, 1)),
    "cropped decoder": Row(CroppedDecoder, (5,)),
    "wgan-gp": Row(WganGp, (6,)),
    "voxel gan": Row(VoxelGan, (5,)),
    "wavegan": Row(WaveGan, (5,)),
    "spatial broadcast": Row(SpatialBroadcast, (4,)),
    "pixel shuffle": Row(
        lambda: picture(nn.Conv2d(4, 8, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(2, 1, 3)), (5,)
    ),
    "bilinear decoder": Row(
        lambda: picture(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(4, 2, 3),
            nn.ReLU(),
            nn.UpsamplingBilinear2d(size=(9, 11)),
            nn.Conv2d(2, 1, 3),
        ),
        (5,),
    ),
    "bicubic and area": Row(
        lambda: picture(
            nn.Upsample(size=(7, 8), mode="bicubic"),
            nn.Conv2d(4, 2, 3),
            nn.ReLU(),
            Module(lambda m, x: F.interpolate(x, size=(3, 2), mode="area")),
        ),
        (5,),
    ),
    "linear upsampling": Row(lambda: line(nn.Upsample(scale_factor=2, mode="linear"), nn.Conv1d(4, 1, 3), nn.Tanh()), (5,)),
    "average pooling": Row(
        lambda: picture(
            nn.Conv2d(4, 4, 3, padding=1), nn.AvgPool2d(2, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 3)), nn.Conv2d(4, 6, 2)
        ),
        (5,),
    ),
    "global average pooling": Row(lambda: picture(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9)), (5,)),
    "maximum pooling": Row(lambda: picture(nn.Conv2d(4, 2, 1), nn.MaxPool2d(2, 1), nn.Conv2d(2, 1, 1)), (5,)),
    "padded in all ways": Row(
        lambda: picture(
            nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(2, 2, 3),
            nn.ReLU(),
            nn.ConstantPad2d(1, 0.5),
            nn.Conv2d(2, 1, 3, padding=1, padding_mode="replicate"),
        ),
        (5,),
    ),
    "latent as a picture": Row(
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 2, 2)),
        (2, 3, 3),
        options={"latent_dim": 18},
    ),
    "nested lists": Row(
        lambda: Module(
            lambda m, z: [z := part(z) for part in m.parts][-1],
            parts=nn.ModuleList([dense(4, 8, 8), nn.ReLU(), dense(8, 9)]),
        ),
        (4,),
    ),
    "dropouts": Row(
        lambda: nn.Sequential(nn.Linear(4, 9), nn.Dropout(), nn.ReLU(), nn.AlphaDropout(), nn.Linear(9, 7)), (4,)
    ),
    "checks in forward": Row(Checked, (5,), single=True, exported=False),
    # conditions
    "fixed conditions": Row(Keyed, (4,)),
    "conditional gan": Row(
        ConditionalGan, (5,), options={"label": 3}, call=lambda net, z: net(z, torch.full((len(z),), 3)), exported=False
    ),
    "conditional dcgan": Row(
        ConditionalDcgan,
        (5,),
        options={"label": 7},
        call=lambda net, z: net(z, torch.full((len(z),), 7)),
        exported=False,
        single=True,
    ),
    "one-hot input": Row(
        OneHotGan,
        (4,),
        options={"inputs": {"c": ONE_HOT}},
        call=lambda net, z: net(z, ONE_HOT.double().expand(len(z), -1)),
        exported=False,
    ),
    "open second input": Row(OneHotGan, (4,), "refused", r'inputs=\{"c": \.\.\.\}', exported=False),
    # wrappers and methods
    "method of a vae": Row(Vae, (4,), source=lambda net: net.decode, call=lambda net, z: net.decode(z), exported=False),
    "method by name": Row(Vae, (4,), options={"method": "decode"}, call=lambda net, z: net.decode(z), exported=False),
    "function": Row(
        Vae,
        (4,),
        source=lambda net: lambda z: net.decode(z) * 2 - 1,
        call=lambda net, z: net.decode(z) * 2 - 1,
        exported=False,
    ),
    "partial": Row(
        OneHotGan,
        (4,),
        source=lambda net: partial(net, c=ONE_HOT.double().expand(1, -1).repeat(1, 1)),
        outcome="refused",
        words="pass",
        exported=False,
    ),
    "data parallel": Row(lambda: dense(4, 12, 9), (4,), source=wrapped, exported=False),
    "data parallel inside": Row(lambda: nn.Sequential(wrapped(dense(4, 12, 9)), nn.Tanh()), (4,), exported=False),
    "compiled": Row(lambda: dense(4, 12, 9), (4,), source=compiled, exported=False),
    "scripted": Row(lambda: dense(4, 12, 9, last=nn.Sigmoid()), (4,), source=torch.jit.script, exported=False),
    "traced": Row(
        lambda: dcgan(28),
        (6, 1, 1),
        source=lambda net: torch.jit.trace(net, torch.zeros(2, 6, 1, 1).double()),
        exported=False,
    ),
    # opaque ones
    "skip connection": Row(lambda: picture(ResidualBlock(), nn.Conv2d(4, 1, 3)), (5,), "opaque"),
    "attention": Row(
        lambda: Module(lambda m, z: m.attend(m.first(z).view(-1, 3, 4)), first=nn.Linear(5, 12), attend=SelfAttention()),
        (5,),
        "opaque",
    ),
    "modulation": Row(ModulatedConv, (5,), "opaque", exported=False),
    "pixel norm": Row(lambda: ProgressiveGan(normed=True), (6,), "opaque"),
    "u-net": Row(Unet, (32,), "opaque"),
    "flow": Row(Coupling, (6,), "opaque"),
    "mixer": Row(Mixer, (5,), "opaque"),
    "lstm": Row(Recurrent, (5,), "opaque", r"rnn \(LSTM\)", exported=False),
    "layer norm": Row(lambda: nn.Sequential(nn.Linear(4, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 7)), (4,), "opaque"),
    "group norm": Row(lambda: picture(nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 1, 3)), (5,), "opaque"),
    "softmax between": Row(lambda: dense(4, 9, 7, between=partial(nn.Softmax, 1)), (4,), "opaque"),
    "branches of values": Row(
        lambda: between(lambda h: h if h.sum() > 0 else -h), (4,), "refused", "control flow", exported=False
    ),
    "noise": Row(lambda: between(lambda h: h + torch.randn_like(h)), (4,), "refused", "leave the noise out", exported=False),
    "several outputs": Row(tuple_output, (4,), "refused", r"load_generator\(lambda z: net\(z\)\[0\]\)", exported=False),
}
