"""ADMM with a generative prior: its proximal steps, its losses, and what outliers do to it."""

from collections.abc import Callable

import pytest
import torch
from test_inversion import error, net, signals

import cvxinv as ci
from cvxinv.inversion.methods.generative_admm import LOSSES, entries_alone, ridge
from cvxinv.inversion.steps.proximal import onto_l1_ball
from cvxinv.inversion.task import Task, make_task

G = net((4, 40, 80))
Z, Y = signals(G, 5)
QUICK = {"on_fail": "ignore", "progress": False}
VALUES = {
    "l2": lambda x: x.square().sum(1) / 2,
    "l1": lambda x: x.abs().sum(1),
    "linf": lambda x: x.abs().amax(1),
}


def with_outliers(y: torch.Tensor) -> torch.Tensor:
    y = y.clone()
    y[:, torch.randperm(80, generator=torch.Generator().manual_seed(2))[:8]] += 10.0
    return y


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_proximal_step_is_below_everything_near(name: str):
    source = torch.Generator().manual_seed(0)
    r, t = 2 * torch.randn(6, 9, generator=source).double(), torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 40.0]).double()

    def value(x: torch.Tensor) -> torch.Tensor:
        return VALUES[name](x) + (x - r).square().sum(1) / (2 * t)

    x = LOSSES[name].prox(r, t)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(50):
            assert (value(x) <= value(x + size * torch.randn(6, 9, generator=source).double()) + 1e-12).all()


def test_the_nearest_point_of_an_l1_ball_is_the_one_worked_out():
    # (3, -1) on |x|_1 = 2: shrunk by 1, (2, 0); (0.5, 0.5) is inside
    r = torch.tensor([[3.0, -1.0], [0.5, 0.5]]).double()
    assert torch.equal(onto_l1_ball(r, torch.tensor([2.0, 2.0]).double()), torch.tensor([[2.0, 0.0], [0.5, 0.5]]).double())


@pytest.mark.parametrize("inner", ["gradient", "levenberg_marquardt"])
@pytest.mark.parametrize("multiplier", ["constant", "decreasing", "adaptive"])
def test_signals_in_range_are_found_by_every_rule(inner: str, multiplier: str):
    words = {"inner": inner, "multiplier": multiplier, "max_iter": 500 if inner == "gradient" else 100, **QUICK}
    R = ci.invert(G, Y, "generative_admm", restarts=3, **words)
    assert error(R.z, Z) < (0.1 if inner == "gradient" else 1e-3)


def seen_by_a_matrix(rows: int) -> torch.Tensor:
    return torch.randn(rows, 80, generator=torch.Generator().manual_seed(3)).double() / rows**0.5


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_step_in_a_signal_is_below_everything_near(name: str):
    """argmin L(A w - y) + rho/2 |w - v|^2 over whole signals, of a mask per signal, and for squares of a matrix."""
    source = torch.Generator().manual_seed(5)
    mask, A = torch.rand(5, 80, generator=source) > 0.3, seen_by_a_matrix(40)
    v, rho = torch.randn(5, 80, generator=source).double(), torch.tensor([0.1, 0.5, 1.0, 5.0, 40.0]).double()
    tasks = {entries_alone(LOSSES[name]): make_task(G, torch.where(mask, Y, torch.nan), mask)}
    tasks |= {ridge(make_task(G, Y @ A.T, A)): make_task(G, Y @ A.T, A)} if name == "l2" else {}
    for nearest, task in tasks.items():

        def value(w: torch.Tensor, task: Task = task) -> torch.Tensor:
            return VALUES[name](task.residual(w)) + rho / 2 * (w - v).square().sum(1)

        w = nearest(task, v, rho)
        for size in (1e-3, 1e-1, 1.0):
            for _ in range(50):
                assert (value(w) <= value(w + size * torch.randn(5, 80, generator=source).double()) + 1e-12).all()


def test_the_split_at_the_signal_finds_latents_behind_masks_and_matrices():
    mask, A = torch.rand(5, 80, generator=torch.Generator().manual_seed(3)) > 0.3, seen_by_a_matrix(40)
    words = {"split": "signal", "inner": "levenberg_marquardt", "max_iter": 300, "restarts": 5, **QUICK}
    R = ci.invert(G, Y @ A.T, "generative_admm", measurement=A, **words)
    assert error(R.z, Z) < 1e-3
    hidden = torch.where(mask, with_outliers(Y), torch.nan)
    for loss, well in (("l1", True), ("l2", False)):
        R = ci.invert(G, hidden, "generative_admm", measurement=mask, loss=loss, **words)
        assert (error(R.z, Z) < 1e-3) == well
    gradient = ci.invert(G, Y @ A.T, "generative_admm", measurement=A, split="signal", multiplier="adaptive", **QUICK)
    assert error(gradient.z, Z) < 0.1


def test_the_l1_loss_shrugs_off_a_few_entries_that_are_far_off_and_squares_do_not():
    y = with_outliers(Y)
    words = {"restarts": 4, "inner": "levenberg_marquardt", "max_iter": 100, **QUICK}
    absolute = ci.invert(G, y, "generative_admm", loss="l1", **words)
    stated = ci.invert(G, y, "generative_admm", noise=("l1", 80.001), **words)
    squares = ci.invert(G, y, "generative_admm", loss="l2", **words)
    assert error(absolute.z, Z) < 1e-3 and error(stated.z, Z) < 1e-3 and error(squares.z, Z) > 0.1
    ended = ci.invert(G, y, "generative_admm", loss="l1", finish="levenberg_marquardt", **words)
    assert error(ended.z, Z) < 1e-8


def test_the_linf_loss_lowers_the_largest_misfit_below_that_of_squares():
    y = Y + 0.1 * torch.rand(Y.shape, generator=torch.Generator().manual_seed(4)).double()
    words = {"z0": Z, "restarts": 0, "max_iter": 500, **QUICK}
    flat = ci.invert(G, y, "generative_admm", noise=("linf", 1e-6), **words)
    squares = ci.invert(G, y, "generative_admm", **words)
    assert ((flat.signal - y).abs().amax(1) < (squares.signal - y).abs().amax(1)).all()


def test_a_gaussian_prior_is_weighed_as_stated():
    y = Y + 0.1 * torch.randn(Y.shape, generator=torch.Generator().manual_seed(4)).double()
    words = {"prior": ci.Gaussian(20.0), "noise": ("gaussian", 0.1), "z0": Z, "restarts": 0, **QUICK}
    best = ci.invert(G, y, "levenberg_marquardt", **words)
    for inner in ("gradient", "levenberg_marquardt"):
        R = ci.invert(G, y, "generative_admm", inner=inner, max_iter=2000 if inner == "gradient" else 100, **words)
        assert error(R.z, best.z) < 1e-4


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_no_rule_knows_the_unit_of_the_signal(scale: float, loss: str):
    last = G.layers[-1]
    scaled = ci.Generator((*G.layers[:-1], ci.Layer(last.W.scaled(scale), last.b * scale, last.activation)), (80,), {})
    words = {"loss": loss, "max_iter": 30, "restarts": 1, **QUICK}
    for multiplier in ("decreasing", "adaptive"):
        plain = ci.invert(G, with_outliers(Y), "generative_admm", multiplier=multiplier, **words)
        other = ci.invert(scaled, scale * with_outliers(Y), "generative_admm", multiplier=multiplier, **words)
        assert error(other.z, plain.z) < 1e-6


def test_masks_per_signal_and_matrices_are_heeded():
    source = torch.Generator().manual_seed(3)
    A, mask = torch.randn(40, 80, generator=source).double() / 40**0.5, torch.rand(5, 80, generator=source) > 0.3
    for measurement, y in ((A, Y @ A.T), (mask, torch.where(mask, Y, torch.nan))):
        words = {"measurement": measurement, "inner": "levenberg_marquardt", "max_iter": 100, "restarts": 5, **QUICK}
        assert error(ci.invert(G, y, "generative_admm", **words).z, Z) < 1e-3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"loss": "l1", "prior": ci.Gaussian(1.0), "noise": ("gaussian", 0.1)}, "cannot weigh the prior"),
        ({"step": 0.1, "inner": "levenberg_marquardt"}, "expected no step with inner='levenberg_marquardt', got step=0.1"),
        ({"loss": "linf", "finish": "levenberg_marquardt"}, "expected no finish with loss='linf'"),
        ({"rho": 0.0}, "rho must be a finite number > 0"),
        ({"split": "signal", "loss": "l1", "measurement": seen_by_a_matrix(80)}, "got loss='l1' behind Matrix; leave split"),
        (
            {"split": "signal", "measurement": ci.Magnitudes()},
            r"got Magnitudes\(Everything\), which is not linear; leave split out",
        ),
        (
            {"split": "signal", "measurement": torch.stack([seen_by_a_matrix(80)] * 5)},
            "got .*, which differs from signal to signal; leave split out",
        ),
        ({"split": "half"}, "split must be one of 'measured', 'signal', got 'half'"),
        ({"loss": "huber"}, "loss must be one of None, 'l2', 'l1', 'linf'"),
    ],
)
def test_what_it_cannot_do_is_refused(words: dict, said: str):
    with pytest.raises(ValueError, match=said):
        ci.invert(G, Y.abs(), "generative_admm", **words)


@pytest.mark.generators
def test_outliers_in_digits_of_a_trained_generator_are_shrugged_off(real_generator: Callable[..., ci.Generator]):
    H = real_generator("csinva_vae_20_400_784").to(torch.float64)
    z, y = signals(H, 3)
    y[:, torch.randperm(784, generator=torch.Generator().manual_seed(2))[:40]] += 1.0
    R = ci.invert(H, y, "generative_admm", loss="l1", inner="levenberg_marquardt", max_iter=60, restarts=3, **QUICK)
    assert error(R.signal, H(z)) < 0.02
