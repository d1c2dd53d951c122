"""Implicit derivatives of whole inversions agree with differences; where there is none, that is said."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from test_differentiable import DTYPE, draw, leaves
from torch import Tensor, nn
from torch.autograd import gradcheck

import cvxinv as ci
from cvxinv.inversion.surfaces import kept_kinks
from cvxinv.inversion.task import make_task

RELU, IDENTITY = ci.ReLU(), ci.Identity()
WEIGHTS = ("W1", "b1", "W2", "b2")
# hidden activation, output, noise, whether a Gaussian prior is weighed, measurement, seed
NETS: dict[str, tuple[Any, ...]] = {
    "relu": (ci.ReLU(), ci.Identity(), None, False, None, 3),
    "leaky-matrix": (ci.LeakyReLU(0.2), ci.Identity(), ("l2", 9.0), False, "matrix", 4),
    "sigmoid-map": (ci.LeakyReLU(0.1), ci.Sigmoid(), "gaussian", True, None, 5),
    "tanh-map-mask": (ci.ReLU(), ci.Tanh(), "gaussian", True, "mask", 3),
    "smooth-hidden": (ci.Tanh(), ci.Identity(), None, False, None, 7),
}


def parts(seed: int) -> dict[str, Tensor]:
    normal = draw(seed)
    return {
        "W1": normal(12, 3), "b1": 0.3 * normal(12), "W2": normal(15, 12) / 3, "b2": 0.2 * normal(15),
        "z": normal(2, 3), "A": normal(10, 15), "error": 0.05 * normal(2, 15), "mean": 0.1 * normal(3),
        "sigma": torch.tensor([0.1, 0.12], dtype=DTYPE), "precision": torch.tensor([0.5, 1.0, 2.0], dtype=DTYPE),
    }  # fmt: skip


def net(W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, hidden: Any = RELU, output: Any = IDENTITY) -> ci.Generator:
    return ci.Generator((ci.Layer(ci.Dense(W1), b1, hidden), ci.Layer(ci.Dense(W2), b2, output)), (len(W2),), {})


@pytest.mark.parametrize("name", NETS)
def test_derivatives_with_respect_to_all_that_z_depends_on_agree_with_differences(name):
    hidden, output, noise, weighed, seen, seed = NETS[name]
    p = parts(seed)
    x = net(*(p[w] for w in WEIGHTS), hidden, output)(p["z"]) + p["error"]
    mask = torch.arange(15) % 4 != 0
    y = x @ p["A"].T if seen == "matrix" else x

    def run(y: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:
        others = list(more)
        measurement = others.pop() if seen == "matrix" else mask if seen == "mask" else None
        sigma, precision, mean = others or (None, None, None)
        result = ci.invert(
            net(W1, b1, W2, b2, hidden, output), y, "levenberg_marquardt", z0=p["z"], measurement=measurement,
            noise=("gaussian", sigma) if weighed else noise, prior=ci.Gaussian(precision, mean) if weighed else None,
            on_fail="ignore", differentiable=True,
        )  # fmt: skip
        assert bool(result.differentiable.all())
        return result.z, result.signal

    given = [y, *(p[w] for w in WEIGHTS), *((p["sigma"], p["precision"], p["mean"]) if weighed else ())]
    inputs = leaves(*given, *((p["A"],) if seen == "matrix" else ()))
    assert gradcheck(run, inputs, fast_mode=True)


def test_every_entry_of_the_derivative_with_respect_to_y_agrees_with_differences():
    p = parts(3)
    G = net(*(p[w] for w in WEIGHTS))
    (y,) = leaves(G(p["z"])[0] + p["error"][0])
    start, method = p["z"][:1], "levenberg_marquardt"
    assert gradcheck(lambda y: ci.invert(G, y, method, z0=start, on_fail="ignore", differentiable=True).z, [y])


@pytest.mark.parametrize("prior", ["box", "ball"])
def test_sides_of_a_set_hold_z_and_its_derivatives(prior):
    p = parts(3)
    G, radius = net(*(p[w] for w in WEIGHTS)), 0.8 * float(p["z"].norm(dim=1).min())
    y, side = leaves(G(p["z"]) + p["error"], 0.8 * p["z"].abs().amax(0))

    def run(y: Tensor, side: Tensor) -> Tensor:
        known = ci.Box(-side, side) if prior == "box" else ci.Ball(radius)
        found = ci.invert(
            G, y, "levenberg_marquardt", prior=known, noise=("gaussian", 0.1), on_fail="ignore", differentiable=True
        )
        assert bool(found.differentiable.all())
        return found.z

    z = run(y, side).detach()
    held = bool((z.abs() == side).any()) if prior == "box" else bool((z.norm(dim=1) > 0.999999 * radius).any())
    assert held
    assert gradcheck(run, [y, side] if prior == "box" else [y, side.detach()], fast_mode=True)


@pytest.mark.parametrize("opaque", [False, True])
def test_weights_of_the_module_that_was_read_get_gradients(opaque):
    p = parts(3)
    module = nn.Sequential(nn.Linear(3, 12), nn.LeakyReLU(0.2), nn.Linear(12, 15), nn.Tanh()).double().eval()
    with torch.no_grad():
        for parameter, name in zip(module.parameters(), WEIGHTS, strict=True):
            parameter.copy_(p[name])
    y = module(p["z"]).detach() + p["error"]

    def loss(module: nn.Sequential) -> Tensor:
        G = ci.load_generator(module, latent_dim=3, **({"opaque": True} if opaque else {}))
        found = ci.invert(G, y, "levenberg_marquardt", z0=p["z"], on_fail="ignore", differentiable=module)
        assert bool(found.differentiable.all())
        return found.z.square().sum() + found.signal.square().sum()

    def changed(by: float) -> nn.Sequential:
        there = copy.deepcopy(module)
        with torch.no_grad():
            there[0].weight += by
        return there

    loss(module).backward()
    slope = (loss(changed(1e-6)) - loss(changed(-1e-6))).item() / 2e-6
    assert float(module[0].weight.grad.sum()) == pytest.approx(slope, rel=1e-4)


def test_another_module_is_refused():
    p = parts(3)
    G = net(*(p[w] for w in WEIGHTS))
    with pytest.raises(ValueError, match=r"expected differentiable=module to compute the generator's signals"):
        ci.invert(G, G(p["z"]), on_fail="ignore", differentiable=nn.Linear(3, 15).double())


def test_nothing_to_differentiate_and_other_arguments_are_refused_before_any_work():
    p = parts(3)
    G = net(*(p[w] for w in WEIGHTS))
    y = G(p["z"])
    with pytest.raises(ValueError, match=r"something that requires gradients .*got nothing"):
        ci.invert(G, y, differentiable=True)
    with pytest.raises(TypeError, match=r"differentiable as True, False or the torch module"):
        ci.invert(G, y, differentiable="yes")
    with pytest.raises(ValueError, match=r"stated noise level .*noise='auto'"):
        ci.invert(G, y.requires_grad_(), noise="auto", prior=ci.Gaussian(1.0), differentiable=True)


def test_a_latent_on_a_kink_and_one_of_many_are_not_differentiable():
    """G(z) = (relu(z1), relu(-z1), z2): y = (-1, -1, 3) is best met at z = (0, 3), on the kink of both units.

    One row with two latents leaves a line of them.
    """
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=DTYPE)
    out = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -1]], dtype=DTYPE)
    G = net(two, torch.zeros(4, dtype=DTYPE), out, torch.zeros(3, dtype=DTYPE))
    y = torch.tensor([[-1.0, -1.0, 3.0], [2.0, 0.0, 3.0]], dtype=DTYPE, requires_grad=True)
    with pytest.warns(ci.NotDifferentiableWarning, match="1 of 2 signals are not differentiable"):
        result = ci.invert(
            G, y, noise=("l2", 2.0), z0=torch.tensor([[0.0, 3.0], [2.0, 3.0]], dtype=DTYPE), differentiable=True
        )
    assert result.differentiable.tolist() == [False, True]
    result.z.sum().backward()
    assert torch.allclose(y.grad, torch.tensor([[0.0, 0, 0], [1.0, 0, 1.0]], dtype=DTYPE))
    line = net(two, torch.ones(4, dtype=DTYPE), torch.ones(1, 4, dtype=DTYPE), torch.zeros(1, dtype=DTYPE))
    many = ci.invert(line, torch.tensor([[4.5]], dtype=DTYPE).requires_grad_(), on_fail="ignore", differentiable=True)
    assert not bool(many.differentiable.any())


def test_a_z_that_meets_a_bound_and_is_no_optimum_is_not_differentiable():
    p = parts(3)
    G = net(*(p[w] for w in WEIGHTS))
    (y,) = leaves(G(p["z"]) + p["error"])
    method = ci.LevenbergMarquardt(max_iter=1)
    result = ci.invert(G, y, method, on_fail="ignore", differentiable=True)
    plain = ci.invert(G, y.detach(), method, on_fail="ignore")
    left = ~result.differentiable
    assert torch.equal(result.z[left], plain.z[left])


def test_values_types_shapes_and_the_rest_of_a_result_stay_what_they_are(tmp_path):
    p = parts(3)
    G = net(*(p[w] for w in WEIGHTS))
    y = G(p["z"]) + p["error"]
    plain = ci.invert(G, y, on_fail="ignore")
    given = y.clone().requires_grad_()
    result = ci.invert(G, given, on_fail="ignore", differentiable=True)
    assert (
        torch.allclose(plain.z, result.z, rtol=0, atol=1e-7) and not plain.z.requires_grad and plain.differentiable is None
    )
    single = ci.invert(G.to(torch.float32), given[0].float(), on_fail="ignore", differentiable=True)
    assert single.z.shape == (3,) and single.z.dtype == torch.float32
    (slope,) = torch.autograd.grad(single.z.sum(), given)
    (wanted,) = torch.autograd.grad(result.z[0].sum(), given, retain_graph=True)
    assert slope.dtype == DTYPE and torch.allclose(slope, wanted, rtol=1e-3, atol=1e-4)
    result.save(tmp_path / "there")
    assert torch.equal(ci.Inversion.load(tmp_path / "there").z, result.z.detach())
    assert result.explain(0) and result.summary() and result[0].differentiable.tolist() == [True]
    ci.write_report(result, tmp_path / "report.html")
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(result.z.sum(), given, create_graph=True)
    assert ci.invert(G, np.asarray(y), on_fail="ignore").differentiable is None


@pytest.mark.parametrize("output", ["identity", "relu"])
def test_optima_that_stay_on_kinks_have_the_derivatives_of_differences(output: str):
    """In noise an optimum is often pressed into a kink from both sides, and moves along it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 12), nn.LeakyReLU(0.1), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 30)).eval()
    G = ci.load_generator(net, output)
    x = G(G.sample_latent(30, torch.Generator().manual_seed(3)))
    level, step = 0.2 * float(x.std()), 1e-5  # z is exact to some 1e-11, which a shorter step would blow up
    noise, d = (torch.randn(x.shape, generator=torch.Generator().manual_seed(k), dtype=x.dtype) for k in (4, 6))
    y, w = (x + level * noise).requires_grad_(), torch.linspace(1, 2, 4, dtype=x.dtype)

    def answer(y: Tensor, z0: Tensor | None = None) -> ci.Inversion:
        options = {} if z0 is None else {"z0": z0}
        return ci.invert(
            G, y, noise=("gaussian", level), prior=ci.Gaussian(1.0), differentiable=True, on_fail="ignore", **options
        )

    found = answer(
        y, answer(y).z.detach()
    )  # what a search from there improves on is another optimum: begin at the better one
    (gradient,) = torch.autograd.grad((found.z @ w).sum(), y)
    z = found.z.detach()
    there = [answer((y.detach() + s * step * d).requires_grad_(), z).z.detach() @ w for s in (1, -1)]
    expected, got = (there[0] - there[1]) / (2 * step), (gradient * d).sum(1)
    free = kept_kinks(make_task(G, y.detach(), None, ("gaussian", level), ci.Gaussian(1.0)), z)
    kinked = (free - torch.eye(4, dtype=x.dtype)).abs().amax((1, 2)) > 1e-9
    told = found.differentiable
    assert (told & kinked).sum() >= 3 and told.sum() >= 25
    assert ((got - expected).abs() <= 1e-5 * (1 + expected.abs()))[told].all()
