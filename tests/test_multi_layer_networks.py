"""Networks that unfold multi-layer pursuits: what they compute, how many numbers they learn, and that they learn."""

import pytest
import torch
import torch.nn.functional as F

import cvxinv as ci
from cvxinv.sparse_models.multi_layer_ista import one_pass
from cvxinv.sparse_models.multi_layer_networks import MULTI_LAYER_NETWORKS

SMALL = {"shape": (1, 9, 9), "channels": (3, 4), "kernels": (3, 4), "strides": (2, 1), "paddings": (0, 1)}
NAMES = list(MULTI_LAYER_NETWORKS)


def made(name, unfoldings=3, **changes):
    torch.manual_seed(0)
    network = MULTI_LAYER_NETWORKS[name](**(SMALL | changes), classes=3, unfoldings=unfoldings)
    with torch.no_grad():  # far enough from 0 for representations to be other than 0
        for W in network.W:
            W.mul_(6)
        for b in network.b:
            b.add_(0.05)
    return network


def pictures(N=5, seed=1):
    return torch.rand(N, 1, 9, 9, generator=torch.Generator().manual_seed(seed))


def maps_of(network):
    """D_i = W_i' as maps, in float64."""
    shapes = network.shapes[1:]
    layers = zip(network.W, shapes, network.strides, network.paddings, strict=True)
    return tuple(ci.ConvTranspose2d(W.detach().double(), shape, (s, s), (p, p)) for W, shape, s, p in layers)


def test_passes_are_those_of_ml_ista_on_the_nonnegative_pursuit():
    """With b_i = -s_i lam_i, s_i = c_1 ... c_i: the representations of the network are those of `one_pass`, T times."""
    network, x = made("ml-ista").double(), pictures().double()
    c, lam = (0.7, 0.4), (0.02, 0.005)
    steps = (c[0], c[0] * c[1])
    with torch.no_grad():
        network.log_c.copy_(torch.tensor(c).log())
        for b, s, weight in zip(network.b, steps, lam, strict=True):
            b.fill_(-s * weight)
    problem = ci.multi_layer_pursuit(maps_of(network), x.flatten(1), lam, nonnegative=True)
    deepest = network.start(x)[-1].flatten(1)
    for _ in range(network.unfoldings):
        found = one_pass(problem, deepest, steps)
        deepest = found.representations[-1]
    for mine, theirs in zip(network.encode(x), found.representations, strict=True):
        assert torch.allclose(mine.flatten(1), theirs, atol=1e-12) and bool((theirs > 0).any())
    # the momentum of ML-FISTA, by hand: t_1 = 1, t_2 = 1.618..., so that two passes know nothing of it
    fast = MULTI_LAYER_NETWORKS["ml-fista"](**SMALL, classes=3, unfoldings=2).double()
    fast.load_state_dict(network.state_dict())
    first = network.one_pass(x, network.start(x)[-1])[-1]
    t = (1 + 5**0.5) / 2
    ahead = first + (t - 1) / ((1 + (1 + 4 * t * t) ** 0.5) / 2) * (first - network.start(x)[-1])
    assert torch.allclose(fast.encode(x)[-1], network.one_pass(x, ahead)[-1], atol=1e-12)


@pytest.mark.parametrize("name", ["ml-ista", "ml-fista", "lbp"])
def test_without_unfolding_all_are_the_plain_network(name):
    plain, other = made("cnn"), made(name, unfoldings=0)
    other.load_state_dict(plain.state_dict())
    assert torch.equal(plain(pictures()), other(pictures()))


def test_kernels_of_one_copy_make_the_free_networks_the_layered_one_passed_through():
    """One layer, one step: relu(g - W (W'g - x) + b) is ISTA's, ML-LISTA's with B = W, the free one's with equal copies."""
    one = {"channels": (3,), "kernels": (3,), "strides": (2,), "paddings": (0,)}
    networks = {name: made(name, unfoldings=1, **one) for name in ("ml-ista", "ml-lista", "lbp", "all-free")}
    W, b = networks["ml-ista"].W[0].detach(), networks["ml-ista"].b[0].detach()
    for network in networks.values():
        for values, value in ((network.W, W), (network.b, b), (getattr(network, "B", ()), W)):
            for parameter in values:
                parameter.data.copy_(value)
    x = pictures()
    g = F.relu(F.conv2d(x, W, None, 2) + b)
    expected = F.relu(g - F.conv2d(F.conv_transpose2d(g, W, None, 2) - x, W, None, 2) + b)
    for name, network in networks.items():
        assert torch.allclose(network.encode(x)[0], expected, atol=1e-6), name


def test_the_published_network_has_the_published_sizes():
    """Kernels 32 x 1 x 6 x 6, 64 x 32 x 6 x 6, 512 x 64 x 4 x 4: 599,168 numbers; biases 608, steps 3, classifier 5130."""
    sizes = {name: sum(p.numel() for p in kind().parameters()) for name, kind in MULTI_LAYER_NETWORKS.items()}
    kernels, biases, classifier = 1152 + 73728 + 524288, 608, 5130
    same = kernels + biases + classifier + 3
    assert sizes["cnn"] == sizes["ml-ista"] == sizes["ml-fista"] == sizes["lbp"] == same
    assert sizes["ml-lista"] == 2 * kernels + biases + classifier
    assert sizes["all-free"] == 7 * (kernels + biases) + classifier
    assert MULTI_LAYER_NETWORKS["cnn"]().shapes == [(1, 28, 28), (32, 12, 12), (64, 4, 4), (512, 1, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_every_network_learns_with_all_of_its_parameters(name):
    network = made(name, unfoldings=2)
    x, labels = pictures(30), torch.arange(30) % 3
    for i in range(3):
        x[labels == i, :, 3 * i : 3 * i + 3] += 1
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = F.nll_loss(network(x), labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())
    assert losses[-1] < 0.5 * losses[0], losses[::10]
    assert torch.allclose(network(x).exp().sum(1), torch.ones(30), atol=1e-5)


def test_what_does_not_fit_is_refused():
    network = made("ml-ista")
    cases = [
        (lambda: network(pictures()[:, :, :8]), r"pictures of shape \(N, 1, 9, 9\)"),
        (lambda: network(pictures().flatten(1)), r"pictures of shape \(N, 1, 9, 9\)"),
        (lambda: made("cnn", kernels=(3,)), "kernels for 2 layers"),
        (lambda: made("cnn", kernels=(3, 12)), "kernels that fit pictures of 4 x 4 in layer 2, got 12 x 12"),
        (lambda: made("lbp", unfoldings=-1), "unfoldings must be a whole number >= 0, got -1"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()
