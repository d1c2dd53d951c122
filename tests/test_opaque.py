"""Opaque generators: modules that are no chain are inverted, judged, reported and saved by values and derivatives."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pretend_device import THERE, PretendDevice
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.generator.opaque import ROWS, WAYS
from cvxinv.guarantees.inspection import inspect_generator


class Skip(nn.Module):
    """A residual decoder with upsampling."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8 * 4), nn.BatchNorm2d(8)
        self.inner, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, z):
        h = self.first(z).view(-1, 8, 2, 2)
        h = F.interpolate(h, scale_factor=2) + self.inner(F.relu(self.norm(F.interpolate(h, scale_factor=2))))
        return torch.tanh(self.last(h))


class Attention(nn.Module):
    """Self-attention between pixels, behind a spectral norm."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.ConvTranspose2d(6, 8, 3))
        self.query, self.key, self.value = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 2, 1), nn.Conv2d(8, 8, 1)
        self.last = nn.ConvTranspose2d(8, 2, 2, 2)

    def forward(self, z):
        h = F.leaky_relu(self.first(z), 0.2)
        weights = torch.softmax(self.query(h).flatten(2).transpose(1, 2) @ self.key(h).flatten(2), -1)
        return self.last(h + (self.value(h).flatten(2) @ weights.transpose(1, 2)).view_as(h))


class Modulated(nn.Module):
    """A learnt constant whose channels a mapping of the latent modulates and demodulates."""

    def __init__(self):
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8))
        self.constant, self.weight = nn.Parameter(torch.randn(8, 4, 4)), nn.Parameter(torch.randn(8, 8, 3, 3))
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, z):
        style = self.mapping(z) + 1
        weight = self.weight * style[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        x = self.constant.expand(len(z), -1, -1, -1).reshape(1, -1, 4, 4)
        x = F.conv2d(x, weight.flatten(0, 1), padding=1, groups=len(z)).view(-1, 8, 4, 4)
        return self.last(F.leaky_relu(x, 0.2) * math.sqrt(2))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.place = nn.Linear(6, 4 * 8), nn.Parameter(torch.randn(4, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=True)
        self.inner, self.last = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(8, 8)

    def forward(self, z):
        return self.last(self.inner(self.first(z).view(-1, 4, 8) + self.place))


class Coupling(nn.Module):
    """Two coupling layers of a normalising flow, then a wide picture of them."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in "ab")
        self.last = nn.Linear(6, 24)

    def forward(self, z):
        for net in self.nets:
            kept, moved = z.chunk(2, 1)
            scale, shift = net(kept).chunk(2, 1)
            z = torch.cat([moved * torch.exp(torch.tanh(scale)) + shift, kept], 1)
        return self.last(z)


class Normed(nn.Module):
    """The decoder of an autoencoder, with layer and group norms."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 32), nn.LayerNorm(32)
        self.rest = nn.Sequential(nn.GroupNorm(2, 8), nn.SiLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Sigmoid())

    def forward(self, z):
        return self.rest(self.norm(self.first(z)).view(-1, 8, 2, 2))


class Waves(nn.Module):
    """Pixels of a sinusoidal network whose layer the latent moves; pixels are a buffer in float32."""

    def __init__(self):
        super().__init__()
        self.moves, self.first, self.last = nn.Linear(6, 16), nn.Linear(2, 8), nn.Linear(8, 1)
        grid = torch.linspace(-1, 1, 5)
        self.register_buffer("places", torch.cartesian_prod(grid, grid))

    def forward(self, z):
        scale, shift = self.moves(z).chunk(2, 1)
        return self.last(torch.sin((1 + scale[:, None]) * 3 * self.first(self.places) + shift[:, None])).squeeze(-1)


class Square(torch.autograd.Function):
    """x^2 without a word on forward mode or batches of it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


class OnceSquare(Square):
    """The same, whose way back cannot be followed either."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


class Own(nn.Module):
    def __init__(self, function: type[Square]):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(6, 12), nn.Linear(12, 20), function

    def forward(self, z):
        u = self.first(z)
        return self.last(u + 0.1 * self.function.apply(u))


class Step(nn.Module):
    """`steps(h)` between two linear layers."""

    def __init__(self, steps):
        super().__init__()
        self.first, self.last, self.steps = nn.Linear(6, 10), nn.Linear(10, 20), steps

    def forward(self, z):
        return self.last(self.steps(self.first(z)))


ZOO = {
    "skip": Skip, "attention": Attention, "modulated": Modulated, "transformer": Transformer, "coupling": Coupling,
    "normed": Normed, "waves": Waves, "own": lambda: Own(Square), "once": lambda: Own(OnceSquare),
}  # fmt: skip


def module(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = ZOO[name]()
    net.train()
    for _ in range(3):  # statistics of batch norms, vectors of spectral norms
        net(torch.randn(16, 6, 1, 1) if name == "attention" else torch.randn(16, 6))
    return net.eval()


def opaque(name: str, **options) -> ci.AbstractGenerator:
    return ci.load_generator(module(name), latent_dim=6, opaque=True, **options)


def latents(N: int, seed: int = 1) -> Tensor:
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_values_and_derivatives_are_the_modules(name: str):
    net, G, z = module(name), opaque(name), latents(4)
    wide, shape = net.double(), (4, *G.latent_shape)
    assert torch.allclose(G(z), wide(z.view(shape)).flatten(1), rtol=1e-12, atol=1e-12)
    exact = torch.stack([
        torch.autograd.functional.jacobian(lambda one: wide(one.view(1, *G.latent_shape)).flatten(), one) for one in z
    ])  # fmt: skip
    x, J = G.linearize(z)
    assert torch.allclose(J, exact, rtol=1e-10, atol=1e-10) and torch.allclose(x, G(z))
    _, piece = G.piece(z)
    v, r = torch.randn(4, 3, 6, dtype=torch.float64), torch.randn(4, 3, G.signal_dim, dtype=torch.float64)
    assert torch.allclose(piece.push(v), v @ exact.mT) and torch.allclose(piece.pull(r), r @ exact)
    assert torch.allclose(G.push(z, v[:, 0]), (v @ exact.mT)[:, 0]) and torch.allclose(G.pull(z, r[:, 0]), (r @ exact)[:, 0])
    assert torch.allclose(piece.single.jacobian().double(), exact, atol=1e-4)


def test_ways_forwards_are_chosen_by_trying():
    ways = {name: opaque(name).way for name in ZOO}
    assert ways["own"] == "twice" and ways["once"] == ROWS and ways["skip"] == ways["transformer"] == "vmapped"


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_give_the_same_jacobian(way: str):
    G, z = opaque("skip"), latents(5)
    other = replace(G, way=way)
    assert torch.allclose(other.linearize(z)[1], G.linearize(z)[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_memory_is_bounded_by_blocks(way: str, monkeypatch):
    G, z = replace(opaque("skip"), way=way), latents(7)
    whole = G.linearize(z)[1], G(z), G.pull(z, torch.ones(7, 32, dtype=z.dtype))
    monkeypatch.setitem(ci.generator.piece.BLOCK_BYTES, "cpu", 8 * 400)
    parts = G.linearize(z)[1], G(z), G.pull(z, torch.ones(7, 32, dtype=z.dtype))
    assert len(G.piece(z)[1].blocks()) > 1 or way == ROWS
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(whole, parts, strict=True))


def test_the_users_module_stays_as_it_is():
    net = module("skip")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    G = ci.load_generator(net, latent_dim=6, opaque=True)
    x = G(latents(2))
    assert all(
        torch.equal(value, before[name]) and value.dtype == before[name].dtype for name, value in net.state_dict().items()
    )
    assert all(p.requires_grad for p in net.parameters())
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    assert torch.equal(G(latents(2)), x)


def test_latents_have_any_shape():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(36, 40)).eval()
    G = ci.load_generator(net, latent_dim=(2, 3, 3), opaque=True)
    z = torch.randn(3, 18, dtype=torch.float64)
    assert G.latent_dim == 18 and torch.allclose(G(z), net.double()(z.view(3, 2, 3, 3)))
    assert ci.load_generator(module("attention"), opaque=True).latent_shape == (6, 1, 1)
    assert ci.load_generator(module("normed"), opaque=True).latent_shape == (6,)
    with pytest.raises(ValueError, match=r"got latent_dim=None for Sequential.*shape of one latent"):
        ci.load_generator(net, opaque=True)


REFUSED = {
    "rounds": (Step(torch.round), ValueError, "derivatives 0 at all random latents of Step; .*round"),
    "detaches": (Step(lambda h: h + h.detach()), ValueError, "another than difference quotients show of Step; .*detach"),
    "cuts the graph": (Step(torch.Tensor.detach), ci.UnsupportedLayerError, "that autograd follows.*argmax, round, detach"),
    "numpy": (Step(lambda h: torch.from_numpy(h.numpy() * 2)), ci.UnsupportedLayerError, "that autograd follows"),
    "noise": (
        Step(lambda h: h + torch.randn_like(h)),
        ValueError,
        r"others at a second call of Step; call \.eval\(\), or pass a function",
    ),
    "neighbours": (Step(lambda h: h - h.mean(0)), ValueError, "others for single latents of Step"),
    "float32": (
        Step(lambda h: torch.tanh(h.type(torch.FloatTensor)).to(h.dtype)),
        ValueError,
        "got float32 somewhere inside Step",
    ),
    "no number": (Step(lambda h: h / 0), ValueError, "got NaN or inf from Step"),
    "a tuple": (Step(lambda h: h).register_forward_hook and nn.LSTM(6, 5), ci.UnsupportedLayerError, "one tensor of floats"),
    "one signal": (Step(lambda h: h.sum(0)), ValueError, r"one signal per latent, 5 here, got a tensor of shape \(20,\)"),
    "another size": (nn.Sequential(nn.Linear(5, 4), nn.GELU()), ci.UnsupportedLayerError, r"\(5, 6\): RuntimeError"),
    "dropout": (nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5)), ValueError, r"call \.eval\(\) first"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_differentiable_function_of_the_latent_is_refused(case: str):
    net, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        ci.load_generator(net if case == "dropout" else net.eval(), latent_dim=6, opaque=True)


class Narrow(nn.Module):
    """What asks for float32 by its own word: norms in float32, constants in torch's default type, half precision."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.norm = nn.Linear(6, 16), nn.Linear(16, 20), nn.GroupNorm(4, 16)

    def forward(self, z):
        h = self.norm(self.first(z).float()).type(z.dtype)
        h = F.silu(h).to(torch.float16) + 0.1 * torch.linspace(-1, 1, 16, device=z.device)
        return self.last(h.to(dtype=torch.float32) @ torch.eye(16))


def test_what_a_module_does_in_float32_is_done_in_the_generators_type():
    torch.manual_seed(0)
    net, z = Narrow().eval(), latents(4)
    G = ci.load_generator(net, latent_dim=6, opaque=True)
    assert G.widened and not opaque("skip").widened and torch.allclose(G(z).float(), net(z.float()), atol=1e-2)
    R = ci.invert(G, G(z))
    assert (
        R.verdict.explained.all() and bool((R.verdict.relative_misfit < 1e-12).all()) and torch.allclose(R.z, z, atol=1e-6)
    )
    assert G.to(torch.float32)(z.float()).dtype == torch.float32


def test_what_an_opaque_generator_cannot_be_is_refused_by_name(tmp_path: Path):
    G = opaque("skip")
    with pytest.raises(ValueError, match=r"an opaque generator \(Skip\); leave output out"):
        opaque("skip", output="identity")
    with pytest.raises(ValueError, match=r"got an opaque generator \(Skip\); keep its code .* opaque=True"):
        ci.save_generator(G, tmp_path / "skip")
    with pytest.raises(TypeError, match=r"expected an nn.Module or a function with opaque=True, got str"):
        ci.load_generator("mnist_gan", opaque=True)
    for method in ("latent_pursuit", "layered_basis_pursuit", "oracle"):
        with pytest.raises(ValueError, match=rf"{method} cannot .* an opaque generator \(Skip\); use method='hybrid'"):
            ci.invert(G, G(latents(2)), method)
    with pytest.raises(ValueError, match=r"hybrid with lam=, an option of its layered start, .* \(Skip\)"):
        ci.invert(G, G(latents(2)), lam=0.1)
    R = ci.invert(G, G(latents(2)))
    with pytest.raises(ValueError, match=r"an opaque generator \(Skip\): .* cvxinv.verify"):
        R.export(tmp_path / "claims", G, G(latents(2)))
    assert ci.verify(G, G(latents(2)), R.z).explained.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_moves_to_other_types(dtype: torch.dtype):
    G = opaque("transformer", dtype=dtype)
    x = G(latents(2).to(dtype))
    assert x.dtype == dtype and torch.allclose(x.double(), opaque("transformer")(latents(2)), atol=1e-5)
    R = ci.invert(G, x)
    assert R.z.dtype == dtype and R.verdict.explained.all() and torch.allclose(R.z.double(), latents(2), atol=1e-3)


class Coder(nn.Module):
    """An autoencoder whose decoder takes a condition, and a class with it or none."""

    def __init__(self):
        super().__init__()
        self.first, self.classes, self.last = nn.Linear(6, 12), nn.Embedding(3, 12), nn.Linear(12, 20)

    def forward(self, x):
        return self.decode(x[:, :6])

    def decode(self, z, scale=1.0):
        h = torch.tanh(self.first(z))
        return self.last(h + scale * h * h.roll(1, 1))

    def of_class(self, z, label):
        return self.last(torch.tanh(self.first(z) + self.classes(label)) ** 2)

    def given(self, z, c):
        return self.last(torch.sin(self.first(z) + c))


def test_methods_functions_labels_and_fixed_inputs_are_opened():
    torch.manual_seed(0)
    net, z = Coder().eval(), latents(3)
    wide, c = Coder().eval().double(), torch.linspace(0, 1, 12)
    wide.load_state_dict(net.state_dict())
    cases = {
        "Coder.decode": (net.decode, {}, wide.decode(z)),
        "Coder.of_class": (net, {"method": "of_class", "label": 2}, wide.of_class(z, torch.full((3,), 2))),
        "Coder.given": (net.given, {"inputs": {"c": c}}, wide.given(z, c.double())),
        "a function": (lambda z: torch.sin(net.decode(z)), {}, torch.sin(wide.decode(z))),
    }
    for name, (source, options, expected) in cases.items():
        G = ci.load_generator(source, latent_dim=6, opaque=True, **options)
        assert G.description["name"] == name and torch.allclose(G(z), expected), name
        single = G.to(torch.float32)
        assert single(z.float()).dtype == torch.float32 and torch.allclose(single(z.float()), expected.float(), atol=1e-5)
        assert torch.allclose(ci.invert(G, expected).z, z, atol=1e-6) or name != "Coder.decode"
        assert torch.allclose(G.linearize(z)[1].float(), single.linearize(z.float())[1], atol=1e-4)
    assert net.first.weight.dtype == torch.float32 and net.first.weight.requires_grad
    with pytest.raises(ci.UnsupportedLayerError, match="got the inputs z, label"):
        ci.load_generator(net, latent_dim=6, opaque=True, method="of_class")
    parallel = ci.load_generator(nn.DataParallel(module("skip")), latent_dim=6, opaque=True)
    assert parallel.named == "Skip (opaque)" and torch.equal(parallel(z), opaque("skip")(z))


# --- inversions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_own_signals_give_their_latents(name: str):
    G, z = opaque(name), latents(6)
    R = ci.invert(G, G(z), on_fail="ignore")
    assert R.verdict.explained.all() and R.determined.all() and R.hidden == () and R.layers == ()
    assert ((R.z - z).norm(dim=1) < 1e-6 * z.norm(dim=1)).sum() >= 5


@pytest.mark.parametrize("name", ["skip", "attention", "waves"])
def test_hidden_pixels_are_filled_in(name: str):
    G, z = opaque(name), latents(6)
    seen = torch.rand(6, G.signal_dim, generator=torch.Generator().manual_seed(2)) > 0.45
    R = ci.invert(G, torch.where(seen, G(z), 0.0), measurement=seen, on_fail="ignore")
    assert R.verdict.explained.all() and ((R.z - z).norm(dim=1) < 1e-6 * z.norm(dim=1)).sum() >= 4


@pytest.mark.parametrize("method", ["levenberg_marquardt", "gradient_descent"])
def test_other_methods_take_it(method: str):
    G, z = opaque("coupling"), latents(3)
    options = {"max_iter": 300} if method == "gradient_descent" else {"restarts": 5}
    R = ci.invert(G, G(z), method, on_fail="ignore", **options)
    assert bool((R.verdict.relative_misfit < 1e-2).all())


def test_measurements_noise_priors_and_starts_work():
    G, z = opaque("skip"), latents(4)
    x = G(z)
    A = torch.randn(20, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert ci.invert(G, x @ A.T, measurement=A).verdict.explained.all()
    blur = ci.Convolution(torch.ones(3, 3, dtype=torch.float64) / 9, (2, 4, 4))
    assert ci.invert(G, blur.observe(x), measurement=blur).verdict.explained.all()
    noisy = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=x.dtype)
    for prior in (None, ci.Gaussian(1.0), ci.Box(-3.0, 3.0)):
        R = ci.invert(G, noisy, noise=("gaussian", 0.01), prior=prior, on_fail="ignore")
        assert R.uncertainty is not None and bool(((R.z - z).abs() < 6 * R.uncertainty.z_std + 1e-3).all())
    level = ci.invert(G, noisy, noise="auto", on_fail="ignore").uncertainty
    assert level is not None and bool(((level.sigma / 0.01 - 1).abs() < 0.6).all())
    assert ci.invert(G, x, z0=z + 0.01, restarts=0).verdict.explained.all()
    assert ci.invert(G, noisy, noise=("linf", 0.05), on_fail="ignore").verdict.explained.all()


def test_descents_end_at_local_optima_as_the_judge_sees_them():
    G = opaque("transformer")
    far = torch.randn(4, G.signal_dim, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    R = ci.invert(G, far, restarts=1, on_fail="ignore")
    assert set(R.status) == {"stationary"} and "out of the generator's range, or the search missed it" in R.explain(0)
    gradient = torch.linalg.norm((G.linearize(R.z)[1].mT @ (G(R.z) - far)[..., None])[..., 0], dim=1)
    assert bool((gradient < 1e-5 * far.norm(dim=1) * R.verdict.sigma_max).all())


def test_results_say_whose_they_are_and_pages_have_no_layers(tmp_path: Path):
    G, z = opaque("skip"), latents(3)
    R = ci.invert(G, G(z), truth=z)
    assert R.settings["generator"] == "Skip (opaque)" and set(R.snr) == {"z", "signal"}
    again = ci.Inversion.load(R.save(tmp_path / "result"))
    assert again.settings["generator"] == "Skip (opaque)" and torch.equal(again.z, R.z) and again.hidden == ()
    page = ci.write_report(R, tmp_path / "report.html", y=G(z), generator=G, truth=z).read_text()
    assert "Inversion of Skip (opaque)" in page and "Supports of the hidden layers" not in page
    words = again.explain(0, generator=G)
    assert "can be trusted" in words and "piece" not in words and "cvxinv diagnose" not in words
    shown = inspect_generator(G, samples=20, latents=3)
    assert shown.rank == 6 and shown.layers == () and "an opaque generator (Skip)" in shown.expectations[0]
    assert "Skip" in repr(G) and "no layers are known" in repr(G)


def test_gradients_of_latents_go_through_it():
    G, z = opaque("skip"), latents(2).requires_grad_()
    G(z).square().sum().backward()
    x, J = G.linearize(z.detach())
    assert torch.allclose(z.grad, 2 * (J.mT @ x[..., None])[..., 0])


def test_values_are_computed_where_the_generator_is():
    """Of derivatives only a card can tell: autograd asks for a real one."""
    with PretendDevice():
        G, z = opaque("skip"), latents(3)
        there = G.to(device="cuda")
        assert there.device == THERE and there(z.to("cuda")).device == THERE and torch.equal(there(z.to("cuda")).cpu(), G(z))
        assert there.to(device="cpu")(z).device.type == "cpu" and there.kept is G.kept
        with pytest.raises(ValueError, match=r"expected z in torch\.float64 on cuda:0, got torch\.float64 on cpu"):
            there(z)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ZOO)
def test_a_card_reaches_what_the_cpu_reaches(name: str):
    G, z = opaque(name), latents(4)
    there = G.to(device="cuda")
    R = ci.invert(there, there(z.to("cuda")))
    assert R.verdict.explained.all() and R.z.device.type == "cuda" and torch.allclose(R.z.cpu(), z, atol=1e-6)


def test_latents_of_another_distribution_are_said_by_the_description():
    G = opaque("coupling")
    uniform = {"distribution": "uniform", "low": -1.0, "high": 1.0}
    flat = replace(G, description={**G.description, "latent": uniform})
    z = flat.sample_latent(500, torch.Generator().manual_seed(0))
    assert float(z.abs().max()) <= 1 and float(z.abs().mean()) > 0.45
    assert ci.invert(flat, flat(z[:2])).verdict.explained.all()


@pytest.mark.parametrize("opaque", [False, True])
def test_what_a_module_in_half_precision_rounded_is_said_and_explained_with_that(opaque: bool):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 80)).bfloat16().eval()
    G = ci.load_generator(net, opaque=opaque, latent_dim=6)
    assert G.description["precision"] == "bfloat16"
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).bfloat16()
    y = net(z).detach().double()
    R = ci.invert(G, y, on_fail="ignore")
    (note,) = [note for note in R.notes if "bfloat16" in note]
    assert "2 signals that are not explained" in note and "noise=('l2', 0.031 * y.norm(dim=1))" in note
    again = ci.invert(G, y, noise=("l2", 0.031 * y.norm(dim=1)))
    assert again.verdict.explained.all() and not any("bfloat16" in note for note in again.notes)
    assert "precision" not in ci.load_generator(net.float(), opaque=opaque, latent_dim=6).description
