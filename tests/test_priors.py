"""Priors and sets for z: what is refused, and that a step is the exact minimiser of its quadratic."""

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from test_inversion import net, normal, seeded, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.inversion.minimisers import box_minimiser
from cvxinv.inversion.priors import AbstractPrior, prior_in_words
from cvxinv.inversion.task import make_task


def numbers(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def spd(n: int, seed: int = 0) -> Tensor:
    """A symmetric positive definite matrix of condition number near 1,000."""
    A = normal(2 * n, n, seed=seed) * torch.logspace(0, 1.5, n, dtype=torch.float64)
    return A.T @ A


PRIORS = {
    "gaussian number": lambda n: ci.Gaussian(2.0, 0.5),
    "gaussian vector": lambda n: ci.Gaussian(torch.linspace(0.1, 3, n, dtype=torch.float64), normal(n, seed=1)),
    "gaussian matrix": lambda n: ci.Gaussian(spd(n, 3), normal(n, seed=2)),
    "box": lambda n: ci.Box(-0.4, torch.linspace(0.1, 0.8, n, dtype=torch.float64)),
    "one-sided box": lambda n: ci.Box(0.0, np.inf),
    "ball": lambda n: ci.Ball(0.7),
}


def convex(prior: AbstractPrior, x: Any) -> tuple[Any, list[Any]]:
    """R and C in CVXPY, an independent writing."""
    if isinstance(prior, ci.Gaussian):
        P, mean = (torch.as_tensor(v).numpy() for v in (prior.precision, prior.mean))
        return cp.quad_form(x - mean, P if P.ndim == 2 else np.diag(P), assume_PSD=True) / 2, []
    if isinstance(prior, ci.Box):
        lo, hi = (np.nan_to_num(torch.as_tensor(v).numpy(), posinf=1e9, neginf=-1e9) for v in (prior.lo, prior.hi))
        return 0, [x >= lo, x <= hi]
    assert isinstance(prior, ci.Ball)
    return 0, [cp.norm(x) <= prior.radius]


def exact(problem: cp.Problem) -> None:
    problem.solve("CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)


# --- one step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRIORS)
def test_a_step_is_the_exact_minimiser_of_its_quadratic(name: str):
    n, N = 12, 5
    prior = PRIORS[name](n).fitted(n, torch.float64, torch.device("cpu"))
    H = torch.stack([spd(n, seed) for seed in range(N)])
    z = prior.project(normal(N, n, seed=5))
    target = normal(N, n, seed=6)
    found, there = prior.step(H, (H @ (z - target)[..., None])[..., 0], z)
    assert there.all() and torch.equal(prior.project(found), found)
    for i in range(N):
        x = cp.Variable(n)
        _, inside = convex(prior, x)
        root = torch.linalg.cholesky(H[i]).mH.numpy()
        problem = cp.Problem(cp.Minimize(cp.sum_squares(root @ (x - target[i].numpy()))), inside)
        exact(problem)
        value, best = float((torch.tensor(root) @ (found[i] - target[i])).square().sum()), float(problem.value)
        assert abs(value - best) <= 1e-8 * (best + 1e-8)
        # a point is known to the square root of what its objective is
        assert float((found[i] - torch.tensor(x.value)).norm()) < 1e-5 * float(target[i].norm())


def test_a_step_in_a_box_meets_the_conditions_of_optimality_where_many_sides_hold():
    """x is optimal where x = P(x - q / diagonal) with q the slope: no solver's tolerance stands between."""
    for n, N, spread in ((30, 20, 1.0), (64, 6, 3.0), (1, 9, 0.0)):
        A = normal(N, 2 * n, n, seed=n) * torch.logspace(0, spread, n, dtype=torch.float64)
        H, z = A.mT @ A, torch.zeros(N, n, dtype=torch.float64)
        g = (A.mT @ normal(N, 2 * n, 1, seed=1))[..., 0] * 20
        lo, hi = -normal(n, seed=2).abs() / 3, normal(n, seed=3).abs() / 3
        hi[0] = lo[0] + 0.0 if n > 1 else hi[0]  # a coordinate that is fixed
        z = z.clamp(lo, hi)
        x, there = box_minimiser(H, g, z, lo, hi)
        q = g + (H @ (x - z)[..., None])[..., 0]
        assert there.all() and ((x >= lo) & (x <= hi)).all()
        assert float((x - (x - q / torch.diagonal(H, dim1=1, dim2=2)).clamp(lo, hi)).abs().max()) < 1e-12
        assert float(((x == lo) | (x == hi)).double().mean()) > 0.2, "the sides must matter"


def test_each_signal_of_a_step_is_as_if_alone():
    for name in ("box", "ball"):
        prior = PRIORS[name](8).fitted(8, torch.float64, torch.device("cpu"))
        H, g = torch.stack([spd(8, seed) for seed in range(6)]), 30 * normal(6, 8, seed=3)
        z = prior.project(normal(6, 8, seed=4))
        together = prior.step(H, g, z)[0]
        for i in range(6):
            assert torch.allclose(prior.step(H[i : i + 1], g[i : i + 1], z[i : i + 1])[0][0], together[i], atol=1e-13)


def test_the_box_worked_by_hand():
    """1/2 x'Hx + g'x with H = [[2, 1], [1, 2]], g = (-4, -1): free (7/3, -2/3); in x_1 <= 1 the slope in x_2 is
    1 + 2 x_2 - 1 = 0 at x_2 = 0, and x = (1, 0)."""
    H, g, z = numbers([[2, 1], [1, 2]]), numbers([-4, -1]), numbers([0, 0])
    for prior, expected in ((ci.Box(-5, 5), (7 / 3, -2 / 3)), (ci.Box(-1, 1), (1, 0)), (ci.Box(0, 0), (0, 0))):
        x, _ = prior.fitted(2, torch.float64, torch.device("cpu")).step(H, g, z)
        assert torch.allclose(x, numbers(expected), atol=1e-15)


def test_the_ball_worked_by_hand():
    """H = diag(1, 3) and g = (-2, -4): (1 + mu) x_1 = 2 and (3 + mu) x_2 = 4; mu = 1 gives (1, 1), of length 2^(1/2)."""
    prior = ci.Ball(2**0.5).fitted(2, torch.float64, torch.device("cpu"))
    x, _ = prior.step(numbers([[1, 0], [0, 3]]), numbers([-2, -4]), numbers([0, 0]))
    assert torch.allclose(x, numbers([1, 1]), atol=1e-15)


@pytest.mark.parametrize("name", PRIORS)
def test_value_gradient_and_curvature_agree(name: str):
    prior, z = PRIORS[name](6).fitted(6, torch.float64, torch.device("cpu")), normal(3, 6, seed=8)
    if not prior.weighed:
        assert not prior.value(z).any() and not prior.gradient(z).any() and not prior.curvature(z).any()
        return
    at = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.value(at).sum(), at)
    assert torch.allclose(prior.gradient(z), gradient, atol=1e-12)
    for i in range(3):
        curvature = torch.autograd.functional.hessian(lambda v: prior.value(v[None])[0], z[i])
        assert torch.allclose(prior.curvature(z), curvature, atol=1e-12)
        x = cp.Variable(6)
        cost, _ = convex(prior, x)
        x.value = z[i].numpy()
        assert abs(float(cost.value) - float(prior.value(z)[i])) < 1e-12 * float(cost.value)


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: ci.Gaussian(-1.0), ValueError, "must be >= 0, got -1"),
        (lambda: ci.Gaussian(0.0), ValueError, "got 0 throughout; leave the prior out"),
        (lambda: ci.Gaussian(float("nan")), ValueError, "of finite numbers, got nan"),
        (lambda: ci.Gaussian("1"), TypeError, "as a number or a tensor, got str"),
        (lambda: ci.Gaussian(True), TypeError, "as a number or a tensor, got bool"),
        (lambda: ci.Gaussian(torch.ones(2, 3)), ValueError, r"\(n0, n0\), got shape \(2, 3\)"),
        (lambda: ci.Gaussian(numbers([1, 2], [0, 1])), ValueError, "symmetric, got entries that differ by 2"),
        (lambda: ci.Gaussian(numbers([1, 2], [2, 1])), ValueError, "without negative eigenvalues, got -1"),
        (lambda: ci.Gaussian(torch.ones(3), torch.ones(2)), ValueError, "a mean of 3 numbers as the precision has, got 2"),
        (lambda: ci.Gaussian(1.0, float("inf")), ValueError, "of finite numbers, got inf"),
        (lambda: ci.Box(1.0, -1.0), ValueError, "expected lo <= hi, got 1 > -1 in coordinate 0"),
        (lambda: ci.Box(-np.inf, np.inf), ValueError, "a finite side, got -inf to inf throughout"),
        (lambda: ci.Box(float("nan"), 1.0), ValueError, "below inf, got nan"),
        (lambda: ci.Box(np.inf, np.inf), ValueError, "below inf, got inf"),
        (lambda: ci.Box(torch.zeros(2), torch.ones(3)), ValueError, "of one length, got 2 and 3"),
        (lambda: ci.Ball(0.0), ValueError, "must be > 0 and finite, got 0"),
        (lambda: ci.Ball(float("inf")), ValueError, "must be > 0 and finite, got inf"),
        (lambda: ci.Ball(torch.ones(3)), TypeError, "as one number, got a tensor"),
    ],
)
def test_what_is_no_prior_is_refused_when_it_is_made(make: Any, kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        make()


def test_what_does_not_fit_the_task_is_refused_with_its_cure():
    G = net((5, 20, 40))
    _, y = signals(G)
    sigma = ("gaussian", 0.1)
    for kind, words, options in (
        (ValueError, r"for 5 latents, got shape \(4,\)", {"noise": sigma, "prior": ci.Gaussian(torch.ones(4))}),
        (ValueError, r"for 5 latents, got shape \(4,\)", {"prior": ci.Box(-1.0, torch.ones(4))}),
        (TypeError, "expected prior as None or an object such as", {"noise": sigma, "prior": 1.0}),
        (TypeError, "got ABCMeta", {"noise": sigma, "prior": ci.Ball}),
        (ValueError, r"beside the prior Gaussian\(precision=1, mean=0\), got no noise", {"prior": ci.Gaussian()}),
        (ValueError, "got an l2 bound", {"noise": ("l2", 1.0), "prior": ci.Gaussian()}),
        (ValueError, "must be > 0, got 0", {"noise": ("gaussian", 0.0)}),
        (ValueError, "must be >= 0 and finite, got -1", {"noise": ("gaussian", -1.0)}),
        (ValueError, "one per signal", {"noise": ("gaussian", torch.ones(3))}),
        (ValueError, "'l2', 'linf', 'l1' or 'gaussian', got 'normal'", {"noise": ("normal", 1.0)}),
    ):
        for ask in (ci.invert, lambda G, y, **more: ci.verify(G, y, torch.zeros(8, 5).double(), **more)):
            with pytest.raises(kind, match=words):
                ask(G, y, **options)


def test_a_method_that_knows_nothing_of_priors_refuses_them_by_name():
    G = net((5, 20, 40))
    z, y = signals(G)
    for method in ("oracle", "layered_basis_pursuit"):
        with pytest.raises(ValueError, match=rf"the method {method}, got Ball\(radius=2\).*use one of hybrid"):
            ci.invert(G, y, method, prior=ci.Ball(2.0), truth=z)


def test_priors_are_fitted_to_the_generator_and_go_where_the_task_goes():
    G = net((5, 20, 40)).to(torch.float32)
    y = G(torch.randn(3, 5, generator=seeded(0)))
    for prior in (ci.Gaussian(np.eye(5), 1), ci.Box(-1, np.ones(5, dtype=np.float32)), ci.Ball(np.float64(2.0))):
        task = make_task(G, y, noise=("gaussian", 1.0), prior=prior)
        assert task.prior is not None
        for dtype in (torch.float32, torch.float64):
            there = task.to(dtype).take(torch.tensor([2, 0])).prior
            assert there is not None and there.centre(y.to(dtype)[:, :5]).dtype == dtype
            assert there.project(torch.full((2, 5), 3.0, dtype=dtype)).dtype == dtype


def test_a_prior_of_the_users_own_needs_little():
    class Sparse(AbstractPrior):
        """R(z) = sum (1 + z^2)^(1/2), which grows like |z|."""

        def fitted(self, n0: int, dtype: torch.dtype, device: torch.device) -> "Sparse":
            return self

        def value(self, z: Tensor) -> Tensor:
            return (1 + z * z).sqrt().sum(1)

        def gradient(self, z: Tensor) -> Tensor:
            return z / (1 + z * z).sqrt()

        def curvature(self, z: Tensor) -> Tensor:
            return torch.diag_embed((1 + z * z) ** -1.5)

    G = net((5, 20, 40))
    _, y = signals(G)
    R = ci.invert(G, y + normal(*y.shape, seed=1) / 10, noise=("gaussian", 0.1), prior=Sparse())
    task = make_task(G, y + normal(*y.shape, seed=1) / 10, noise=("gaussian", 0.1), prior=Sparse())
    r, J = task.linearize(R.z)
    slope = (J.mT @ r[..., None])[..., 0] / 0.01 + R.z / (1 + R.z**2).sqrt()
    assert R.verdict.explained.all() and float(slope.abs().max()) < 1e-5


@pytest.mark.parametrize("prior", [ci.Gaussian(1 / 3, 0.1), ci.Gaussian(2.0), ci.Box(-1e-9, torch.inf), ci.Ball(10 / 3)])
def test_a_prior_of_numbers_is_read_from_its_words(prior: ci.AbstractPrior):
    again = prior_in_words(repr(prior))
    assert type(again) is type(prior) and all(vars(again)[name] == value for name, value in vars(prior).items())


@pytest.mark.parametrize(
    "words", ["", "Gaussian(precision=(3,) given, mean=0)", "Own(a=1)", "Ball(radius=-1)", "Ball(size=1)"]
)
def test_other_words_are_no_prior(words: str):
    assert prior_in_words(words) is None


def test_the_centre_of_a_prior_is_where_one_start_begins_and_no_more():
    from cvxinv.inversion.steps.starts import most_promising

    G = net((4, 20, 40))
    _, y = signals(G, 3)
    prior = ci.Gaussian(1.0, torch.full((4,), 0.3, dtype=torch.float64))
    task = make_task(G, y, noise=("gaussian", 10.0), prior=prior)  # so much noise that the centre has the least merit
    far = torch.full((1, 4), 5.0, dtype=torch.float64)
    centre, own = (most_promising(task, far, centre=first) for first in (True, False))
    assert torch.allclose(centre, torch.full((3, 4), 0.3, dtype=torch.float64)) and torch.equal(own, far.expand(3, -1))


def test_lists_of_numbers_are_read():
    assert torch.equal(ci.Box([-1.0, -2.0], [1, 2]).lo, ci.Box(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])).lo)
    assert ci.Gaussian([1.0, 2.0]).fitted(2, torch.float64, torch.device("cpu")) is not None
    with pytest.raises(TypeError, match="as a number or a tensor"):
        ci.Box([-1.0, "a"], [1.0, 2.0])


@pytest.mark.parametrize("name", ["box", "one-sided box", "ball"])
def test_the_sides_of_a_set_are_its_border_to_first_order(name: str):
    n = 5
    prior = PRIORS[name](n).fitted(n, torch.float64, torch.device("cpu"))
    z = prior.project(normal(6, n, seed=8))
    u, A = prior.sides(z)
    assert (u <= 1e-12).all() and u.shape[0] == 6 and A.shape[-2:] == (u.shape[1], n)
    d = 1e-4 * normal(6, n, seed=9)
    ahead = prior.sides(z + d).u
    finite = torch.isfinite(u)
    linear = u + (A @ d[..., None])[..., 0]
    assert torch.allclose(ahead[finite], linear[finite], atol=1e-7)
    outside = (ahead > 1e-7).any(1)
    assert torch.equal(outside, ((prior.project(z + d) - z - d).norm(dim=1) > 1e-7))


@pytest.mark.parametrize("prior", [ci.Box(-0.7, 0.7), ci.Ball(1.2)], ids=repr)
def test_an_optimum_in_a_set_among_kinks_is_one(prior: AbstractPrior):
    draw = torch.Generator().manual_seed(5)
    G = net((5, 10, 10, 30))
    z = prior.fitted(5, torch.float64, torch.device("cpu")).project(torch.randn(60, 5, generator=draw, dtype=torch.float64))
    x = G(z)
    sigma = 0.3 * float(x.std())
    y = x + sigma * torch.randn(x.shape, generator=draw, dtype=x.dtype)
    R = ci.invert(G, y, noise=("gaussian", sigma), prior=prior, on_fail="ignore")
    assert set(R.status) <= {"explained", "stationary"}
    task = make_task(G, y, None, ("gaussian", sigma), prior)
    assert task.prior is not None
    found, lower = task.merit(R.z), 0
    for scale in (1e-3, 1e-2):
        moves = torch.randn(1000, 1, 5, generator=draw, dtype=x.dtype)
        near = torch.stack([task.merit(task.prior.project(R.z + scale * d / d.norm())) for d in moves])
        lower = max(lower, int((near.amin(0) < (1 - 1e-5) * found).sum()))
    assert lower <= 1  # 8 to 9 where steps know no kink


def test_methods_that_are_named_in_place_of_one_take_the_task():
    G = net((4, 16, 30))
    _, y = signals(G, 2)
    with pytest.raises(ValueError, match="use one of") as refused:
        ci.invert(G, y, "plugin", noise=("gaussian", 0.1), prior=ci.Gaussian(1.0))
    named = str(refused.value).partition("use one of ")[2].partition(", or leave")[0].split(", ")
    assert "hybrid" in named and "deep_phase_retrieval" not in named and "projected_gradient" not in named
    for method in named:
        ci.invert(G, y, method, noise=("gaussian", 0.1), prior=ci.Gaussian(1.0), on_fail="ignore")


def test_noise_per_entry_is_inverted_as_the_refusal_says():
    import scipy.sparse

    G = net((4, 16, 30))
    z, x = signals(G, 3)
    s = np.linspace(0.01, 0.3, 30)
    y = x + torch.from_numpy(s) * torch.randn(3, 30, generator=seeded(4), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"y / s, measurement=scipy.sparse.diags\(1 / s\), noise=\('gaussian', 1.0\)"):
        ci.invert(G, y, noise=("gaussian", torch.from_numpy(s)))
    R = ci.invert(G, y / torch.from_numpy(s), measurement=scipy.sparse.diags(1 / s), noise=("gaussian", 1.0))
    assert R.verdict.explained.all() and float((R.z - z).norm(dim=1).max()) < 0.2
