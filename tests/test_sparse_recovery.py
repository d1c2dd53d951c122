"""Lasso baselines: against scikit-learn's, with and without its intercept, and what they recover."""

import numpy as np
import pytest
import torch
from scipy.fft import idctn

import cvxinv as ci


def case(m: int = 40, shape: tuple[int, ...] = (8, 8)) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    A = torch.randn(m, int(np.prod(shape)), generator=source).double() / m**0.5
    return A, torch.randn(3, m, generator=source).double()


@pytest.mark.parametrize("intercept", [False, True])
def test_it_is_the_lasso_of_scikit_learn_in_the_other_unit(intercept: bool):
    sklearn = pytest.importorskip("sklearn.linear_model")
    A, y = case()
    R = ci.sparse_recovery(y, A, (8, 8), lam=0.1, basis="pixel", intercept=intercept)
    for h, one in zip(R.h, y, strict=True):
        peer = sklearn.Lasso(alpha=0.1 / 40, fit_intercept=intercept, tol=1e-10, max_iter=100_000).fit(
            A.numpy(), one.numpy()
        )
        assert np.abs(peer.coef_ - h.numpy()).max() < 1e-5
    assert (R.solution.status == "optimal").all() and torch.equal(R.signal, R.h)


def test_the_cosine_basis_is_that_of_scipy():
    h = torch.zeros(1, 64).double()
    h[0, [1, 10, 17]] = torch.tensor([3.0, -2.0, 1.0]).double()
    x = torch.from_numpy(idctn(h.reshape(8, 8).numpy(), norm="ortho")).reshape(1, 64)
    A, _ = case()
    R = ci.sparse_recovery(x @ A.T, A, (8, 8), lam=1e-6)
    assert (R.signal - x).abs().max() < 1e-4 and (R.h - h).abs().max() < 1e-4


def test_hidden_pixels_are_filled_in():
    h = torch.zeros(2, 64).double()
    h[:, [0, 9]] = torch.tensor([[3.0, -2.0], [1.0, 5.0]]).double()
    x = torch.from_numpy(idctn(h.reshape(2, 8, 8).numpy(), axes=(1, 2), norm="ortho")).reshape(2, 64)
    mask = torch.rand(64, generator=torch.Generator().manual_seed(1)) > 0.4
    R = ci.sparse_recovery(torch.where(mask, x, 0.0), mask, (8, 8), lam=1e-6)
    assert (R.signal - x).abs().max() < 1e-4


def test_what_does_not_fit_is_refused():
    A, y = case()
    with pytest.raises(ValueError, match="unknown basis 'haar'"):
        ci.sparse_recovery(y, A, (8, 8), lam=0.1, basis="haar")
    with pytest.raises(ValueError, match=r"expected y of shape \(N, 40\), got \(3, 39\)"):
        ci.sparse_recovery(y[:, :39], A, (8, 8), lam=0.1)
    with pytest.raises(ValueError, match="expected intercept=False with hidden entries"):
        ci.sparse_recovery(torch.ones(2, 64).double(), torch.arange(64) > 3, (8, 8), lam=0.1, intercept=True)
    with pytest.raises(ValueError, match="expected one linear measurement for all signals"):
        ci.sparse_recovery(y[:2], torch.stack([A, 2 * A]), (8, 8), lam=0.1)
