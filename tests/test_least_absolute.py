"""Noise in few entries, stated in the l1 norm: z is found as if it were not there, and the judge reads that norm."""

import cvxpy as cp
import pytest
import torch
from test_inversion import error, net, signals

import cvxinv as ci
from cvxinv.inversion.steps.least_absolute import descend_absolute
from cvxinv.inversion.task import make_task

G = net((5, 30, 80))
Z, X = signals(G, 8)


def with_outliers(x: torch.Tensor, share: float = 0.1, seed: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """The signals with some entries far off, and the l1 norm of what was added."""
    source = torch.Generator().manual_seed(seed)
    hit = torch.rand(x.shape, generator=source) < share
    e = torch.where(hit, 3 * x.abs().max() * torch.randn(x.shape, generator=source, dtype=x.dtype), 0.0)
    return x + e, e.abs().sum(1)


@pytest.mark.parametrize("method", ["hybrid", "levenberg_marquardt"])
def test_a_tenth_of_the_entries_far_off_leave_z_where_it_is(method: str):
    y, bound = with_outliers(X)
    R = ci.invert(G, y, method, noise=("l1", bound), restarts=5)
    assert R.verdict.explained.all() and error(R.z, Z) < 1e-9
    assert torch.equal(R.verdict.explained_below, bound)
    assert not ci.invert(G, y, method, noise=("l1", 0.99 * bound), on_fail="ignore", restarts=1).verdict.explained.any()
    least = ci.invert(G, y, method, on_fail="ignore", restarts=5)
    assert error(least.z, Z) > 0.1  # the sum of squares follows them


def test_one_affine_piece_gives_the_answer_of_a_linear_program():
    linear = net((4, 30), bias=0.0)
    y = torch.randn(3, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = descend_absolute(make_task(linear, y), torch.zeros(3, 4, dtype=torch.float64), 2000)
    W = linear.layers[0].W.matrix().numpy()
    for i in range(3):
        z = cp.Variable(4)
        least = cp.Problem(cp.Minimize(cp.norm1(W @ z - y[i].numpy()))).solve(solver="HIGHS")
        assert float(found.merit[i]) == pytest.approx(least, rel=1e-6)


def test_by_hand_the_sum_of_absolute_misfits_takes_the_median():
    copies = torch.nn.Linear(1, 5, bias=False, dtype=torch.float64)
    torch.nn.init.ones_(copies.weight)
    constant = ci.load_generator(copies)
    y = torch.tensor([[0.0, 1.0, 2.0, 10.0, 11.0]], dtype=torch.float64)
    found = descend_absolute(make_task(constant, y), torch.full((1, 1), 7.0, dtype=torch.float64))
    assert float(found.z) == pytest.approx(2.0, abs=1e-9) and float(found.merit) == pytest.approx(20.0, abs=1e-8)


def test_the_judge_tells_an_optimum_in_that_norm_from_a_point_short_of_it():
    y, bound = with_outliers(X, 0.05)
    y = y + 0.01 * torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=y.dtype)  # no z meets it
    R = ci.invert(G, y, "levenberg_marquardt", noise=("l1", 0.1 * bound), on_fail="ignore", restarts=3)
    assert set(R.status) == {"stationary"}
    short = ci.verify(G, y, R.z + 0.01, noise=("l1", 0.1 * bound))
    assert set(short.status) == {"user_limit"}


def test_it_works_through_a_mask_a_matrix_and_a_leaky_sigmoid_net_and_in_float32():
    behind = net((5, 30, 80), hidden=ci.LeakyReLU(0.2), output="sigmoid")
    z, x = signals(behind, 6)
    y, bound = with_outliers(x, 0.05)
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(6)) < 0.8
    A = torch.randn(60, 80, generator=torch.Generator().manual_seed(7), dtype=torch.float64) / 60**0.5
    few, total = with_outliers(x @ A.T, 0.05)
    for given, measured, size in ((y, None, bound), (torch.where(seen, y, torch.nan), seen, bound), (few, A, total)):
        R = ci.invert(behind, given, measurement=measured, noise=("l1", size))
        assert R.verdict.explained.all() and error(R.z, z) < 1e-6
    single = behind.to(torch.float32)
    R = ci.invert(single, y.float(), noise=("l1", 1.01 * bound))
    assert R.verdict.explained.all() and R.z.dtype == torch.float32 and error(R.z.double(), z) < 1e-3


def test_each_signal_is_found_as_if_alone_and_one_that_is_no_number_costs_itself():
    y, bound = with_outliers(X)
    y[3] = torch.nan
    R = ci.invert(G, y, noise=("l1", bound), on_fail="ignore")
    assert [i for i, s in enumerate(R.status) if s != "explained"] == [3]
    alone = ci.invert(G, y[5], noise=("l1", float(bound[5])))
    assert error(alone.z[None], R.z[5:6]) < 1e-9


def test_words_and_files_know_the_norm(tmp_path):
    y, bound = with_outliers(X)
    R = ci.invert(G, y, noise=("l1", bound))
    assert "as the sum of absolute entries" in R.explain(0) and "can be trusted" in R.explain(0)
    assert any("a few entries may hold all" in note for note in R.notes)
    page = ci.write_report(R, tmp_path / "report.html", y=y, generator=G).read_text()
    assert "the sum of absolute entries" in page
    loaded = ci.Inversion.load(R.save(tmp_path / "result"))
    assert torch.equal(loaded.verdict.explained_below, bound)


@pytest.mark.generators
@pytest.mark.parametrize("name", ["csinva_vae_20_400_784", "lei_vae_leaky_20_200_500_784_nobias", "laug_vae_5_128_256_784"])
def test_outliers_do_not_move_z_of_a_trained_decoder(name: str, real_generator):
    G = real_generator(name, dtype=torch.float64)
    z, x = signals(G, 4)
    y, bound = with_outliers(x, 0.1)
    R = ci.invert(G, y, noise=("l1", bound))
    assert R.verdict.explained.all()
    assert error(R.z[R.determined], z[R.determined]) < 1e-6
